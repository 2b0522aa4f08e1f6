"""The commands `backup` and `restore`. What only they need is imported in them, as in cli.py."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import anyio
import typer

from shop_poller.cli.console import (
    Config,
    Exit,
    OutputError,
    ShopId,
    Yes,
    agreed,
    complain,
    load_shops_config,
    say,
    standard_output,
)
from shop_poller.config.shops import choose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shop_poller.cli.backup import BackupReport
    from shop_poller.config.settings import Settings

BACKUP_EPILOG = """\b
Examples:
  shop-poller backup shop-poller.tar
  shop-poller backup shop-poller.tar --overwrite
Exit codes: 2 settings, or FILE exists; 4 FILE cannot be written; 5 state."""
RESTORE_EPILOG = """\b
Example:
  shop-poller restore shop-poller.tar
Exit codes: 2 settings; 5 state, or FILE is not a backup of it."""

STEPS = 1000
MOST_LINES = 20

Target = Annotated[Path, typer.Argument(metavar="FILE", help="Where to; - for standard output.")]
Source = Annotated[
    Path, typer.Argument(metavar="FILE", help="A file that `backup` wrote, or a copied database.")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


def backup(*, file: Target, config: Config = None, shop: ShopId = None, overwrite: Overwrite = False) -> None:
    """Write the state of the shop, or of all shops, to a tar file; the daemon may be running."""
    from shop_poller.cli import backup as backups  # noqa: PLC0415 - see the module's docstring

    shops = _shops(config, shop)
    target = None if str(file) == "-" else file
    if target is None and sys.stdout.isatty():
        raise _refused("standard output is a terminal; name a file")
    try:
        with _progress("backup", len(shops)) as show:
            report = anyio.run(partial(backups.back_up, shops, target, overwrite=overwrite, show=show))
    except backups.BackupRefusedError as error:
        raise _refused(str(error)) from error
    except backups.CannotWriteError as error:
        complain(f"the backup cannot be written: {error}")
        raise typer.Exit(Exit.UNDELIVERED) from error
    except BrokenPipeError as error:
        raise standard_output().failed(error) from error
    _tell(report, f"backed up to {target}", quiet=target is None)


def restore(*, file: Source, config: Config = None, shop: ShopId = None, yes: Yes = False) -> None:
    """Put the state of the shop, or of all shops, back from a backup; the daemon has to be stopped."""
    from shop_poller.cli import backup as backups  # noqa: PLC0415 - see the module's docstring
    from shop_poller.cli import restore as restores  # noqa: PLC0415

    shops = _shops(config, shop)
    places = shops[0].state_place if len(shops) == 1 else f"the states of {len(shops):,} shops"
    if not yes and not agreed(f"replace {places} by what is in {file}?"):
        say("left as it is")
        return
    try:
        with _progress("restore", len(shops)) as show:
            report = anyio.run(partial(restores.restore, shops, file, show=show))
    except backups.BackupRefusedError as error:
        raise _refused(str(error)) from error
    _tell(report, f"restored from {file}", quiet=False)


def _shops(config: Path | None, shop: str | None) -> "Sequence[Settings]":
    shops_config = load_shops_config(config, asks_shop=False)
    return shops_config.shops if shop is None else [choose(shops_config.shops, shop)]


def _tell(report: "BackupReport", what: str, *, quiet: bool) -> None:
    """Say what was done; standard output is not ours if the backup went there."""
    for line in report.left[:MOST_LINES]:
        complain(line)
    for line in report.failed[:MOST_LINES]:
        complain(line)
    if max(len(report.left), len(report.failed)) > MOST_LINES:
        complain(f"… in all {len(report.failed):,} shops failed and {len(report.left):,} were skipped")
    if not quiet:
        names = report.done[0] if len(report.done) == 1 else f"{len(report.done):,} shops"
        try:
            say(f"{names} {what}")
        except OutputError:  # it is done all the same
            if not report.failed:
                return
    if report.failed:
        raise typer.Exit(Exit.STATE)


def _refused(problem: str) -> typer.Exit:
    complain(problem)
    return typer.Exit(Exit.SETTINGS)


@contextmanager
def _progress(label: str, shops: int) -> Iterator[Callable[[str, int, int], None]]:
    """On a terminal a bar: the shop, and the share of all; elsewhere nothing."""
    seen: list[str] = []
    terminal = sys.stderr is not None and sys.stderr.isatty()
    bar: Any = typer.progressbar(
        length=STEPS,
        label=label,
        file=sys.stderr,
        hidden=not terminal,
        item_show_func=lambda _: seen[-1] if seen else "",
    )
    with bar:

        def show(shop: str, done: int, of: int) -> None:
            if not seen or seen[-1] != shop:
                seen.append(shop)
            share = (len(seen) - 1 + done / max(of, 1)) / shops
            bar.update(max(0, round(STEPS * min(share, 1)) - bar.pos))

        yield show
