"""The command `backup`: writes the state of every shop to one file. The daemon may be running.

For each shop: copy its state to a file next to FILE, and add the copy to an archive next to FILE. At the end:
sync the archive, and rename it to FILE.
"""

import fcntl
import os
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Annotated, Any, BinaryIO, cast

import anyio
import typer

from shop_poller import __version__
from shop_poller.cli.archive import ArchiveWriter, is_backup
from shop_poller.cli.console import (
    CommandError,
    Config,
    Exit,
    OutputError,
    ShopId,
    complain,
    load_chosen_shops,
    make_app,
    refused,
    say,
    standard_output,
)
from shop_poller.cli.language import in_language
from shop_poller.clock import now
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text, joined
from shop_poller.stores.sqlite import backup as files
from shop_poller.stores.sqlite.file import MIGRATIONS, explain

ShowShopProgress = Callable[[str, int, int], None]
"""Reports progress: the shop, how much is done, and of how much."""
STEPS = 1000
MOST_LINES = 20

app = make_app()

Target = Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; - for standard output.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace FILE if it exists.")]


class BackupRefusedError(CommandError):
    """The backup or restore was not started."""


class CannotWriteError(CommandError):
    """The file of the backup cannot be written."""


@dataclass
class BackupReport:
    """What `backup` or `restore` did.

    Attributes:
        done: the shops whose state was copied or restored.
        left: one line for each shop that was skipped, with the reason.
        failed: one line for each shop that failed, with the reason.
    """

    done: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def show(self, what: Callable[[str], str], *, quiet: bool = False) -> None:
        """Print the result.

        Args:
            what: returns what was done to these shops, for people.
            quiet: print nothing on standard output, because it receives the backup.

        Raises:
            Exit: a shop failed.
        """
        for line in (*self.left[:MOST_LINES], *self.failed[:MOST_LINES]):
            complain(line)
        if max(len(self.left), len(self.failed)) > MOST_LINES:
            complain(
                Text(
                    "… in all {failed:,} shops failed and {skipped:,} were skipped",
                    failed=len(self.failed),
                    skipped=len(self.left),
                )
            )
        if not quiet:
            count = len(self.done)
            names = self.done[0] if count == 1 else Text("{count:,} shops", count=count)
            try:
                say(what(names))
            except OutputError:  # the work is done anyway
                if not self.failed:
                    return
        if self.failed:
            raise typer.Exit(Exit.STATE)


@app.command(
    epilog="""\b
Examples:
  shop-poller backup shop-poller.tar
  shop-poller backup shop-poller.tar --overwrite
Exit codes: 2 settings, or FILE exists; 4 FILE cannot be written; 5 state."""
)
def backup(*, file: Target, config: Config = None, shop: ShopId = None, overwrite: Overwrite = False) -> None:
    """Write the state of the shop, or of all shops, to a tar file; the daemon may be running."""
    shops = load_chosen_shops(config, shop)
    target = None if str(file) == "-" else file
    if target is None and sys.stdout.isatty():
        raise refused(Text("standard output is a terminal; name a file"))
    try:
        with progress(Text("backup"), len(shops)) as show:
            report = anyio.run(partial(back_up, shops, target, overwrite=overwrite, show=show))
    except BackupRefusedError as error:
        raise refused(error.text) from error
    except CannotWriteError as error:
        problem = Text("the backup cannot be written: {error}", error=error.text)
        raise refused(problem, Exit.UNDELIVERED) from error
    except BrokenPipeError as error:
        raise standard_output().failed(error) from error
    report.show(
        lambda shops: Text("{shops} backed up to {file}", shops=shops, file=target), quiet=target is None
    )


@contextmanager
def progress(label: str, shops: int) -> Iterator[ShowShopProgress]:
    """Show a progress bar on a terminal, with the shop and the share of all; elsewhere show nothing."""
    shops_begun: list[str] = []
    terminal = sys.stderr is not None and sys.stderr.isatty()
    bar: Any = typer.progressbar(
        length=STEPS,
        label=in_language(label),
        file=sys.stderr,
        hidden=not terminal,
        item_show_func=lambda _: shops_begun[-1] if shops_begun else "",
    )
    with bar:

        def show(shop: str, done: int, of: int) -> None:
            if not shops_begun or shops_begun[-1] != shop:
                shops_begun.append(shop)
            share = (len(shops_begun) - 1 + done / max(of, 1)) / shops
            bar.update(max(0, round(STEPS * min(share, 1)) - bar.pos))

        yield show


async def back_up(
    shops: Sequence[Settings], target: Path | None, *, overwrite: bool, show: ShowShopProgress
) -> BackupReport:
    """Write the state of shops to a file.

    Args:
        shops: their states are all in files, or all in Redis.
        target: the file; None for standard output.
        overwrite: replace the file if it exists.
        show: reports progress.

    Raises:
        BackupRefusedError: the file exists, or must not be written.
        CannotWriteError: it cannot be written.
        PermanentError, TemporaryError: STORE, there is no state, or it cannot be read.
    """
    if target is not None:
        _check_target(shops, target, overwrite=overwrite)
    report = BackupReport()
    with _spool(target) as (out, part):
        kind = "redis" if isinstance(shops[0].state, RedisAddress) else "sqlite"
        schema = redis_layout() if kind == "redis" else len(MIGRATIONS)
        with _writing(target):
            archive = ArchiveWriter(out, kind=kind, schema=schema, version=__version__, now=now())
        for shop in shops:
            await _add(shop, archive, target, show, report)
        if not report.done:
            raise PermanentError(ErrorKind.STORE, joined("; ", [*report.failed, *report.left][:3]))
        with _writing(target):
            archive.finish()
            out.flush()
            if target is not None and part is not None:
                os.fsync(out.fileno())
                _name(part, target, overwrite=overwrite)
    return report


async def _add(
    shop: Settings, archive: ArchiveWriter, target: Path | None, show: ShowShopProgress, report: BackupReport
) -> None:
    """Copy the state of one shop, and add it to the archive. An error does not stop the other shops."""
    try:
        with _scratch(target) as scratch:
            if not await _copy(shop, scratch, show):
                report.left.append(
                    Text(
                        "{shop}: no state yet in {place}; check SHOP_STATE_URL if it was polled before",
                        shop=shop.shop,
                        place=shop.state_place,
                    )
                )
                return
            with scratch.open("rb") as content, _writing(target):
                archive.add(shop.shop, content)
    except ShopPollerError as error:
        report.failed.append(Text("{shop}: {error}", shop=shop.shop, error=error.text))
    else:
        report.done.append(shop.shop)


async def _copy(shop: Settings, scratch: Path, show: ShowShopProgress) -> bool:
    state = shop.state
    if isinstance(state, RedisAddress):
        from shop_poller.stores.redis.backup import StateKeys  # noqa: PLC0415 - it is 10 MB

        keys = StateKeys(state, prefix=shop.shop_redis_prefix, shop=shop.shop)
        try:
            with scratch.open("r+b") as to:
                return await keys.export(to)
        finally:
            await keys.aclose()
    if not state.exists():
        return False
    try:
        files.copy_state(state, scratch, lambda done, of: show(shop.shop, done, of))
    except sqlite3.Error as error:
        if error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
            problem = Text(
                "{path}: {error}; free some space and run it again", path=scratch, error=known(str(error))
            )
            raise CannotWriteError(problem) from error
        raise PermanentError(ErrorKind.STORE, explain(error, state)) from error
    return True


def _check_target(shops: Sequence[Settings], target: Path, *, overwrite: bool) -> None:
    try:
        about = target.lstat()
    except FileNotFoundError:
        about = None
    except OSError as error:
        raise _refused_by_system(target, error) from error
    if not target.parent.is_dir():
        raise BackupRefusedError(
            Text(
                "{file}: there is no directory {directory}; create it first",
                file=target,
                directory=target.parent,
            )
        )
    taken = {Path(os.path.realpath(shop.state)) for shop in shops if isinstance(shop.state, Path)}
    taken |= {path.with_name(f"{path.name}{end}") for path in taken for end in (*files.SIDE_FILES, ".lock")}
    if Path(os.path.realpath(target)) in taken:
        raise BackupRefusedError(Text("{file}: is the state itself; name another file", file=target))
    if about is None:
        return
    if not stat.S_ISREG(about.st_mode):
        raise BackupRefusedError(
            Text("{file}: exists and is not a regular file; name another file", file=target)
        )
    if not overwrite:
        raise _already_exists(target)
    try:
        if is_backup(target):
            return
    except OSError as error:
        raise _refused_by_system(target, error) from error
    # A typo must not destroy the state of another shop, the settings or a key.
    raise BackupRefusedError(Text("{file}: exists and is not a backup; name another file", file=target))


def _refused_by_system(target: Path, error: OSError) -> BackupRefusedError:
    return BackupRefusedError(
        Text("{file}: {error}; name another file", file=target, error=known(error.strerror or ""))
    )


def _already_exists(target: Path) -> BackupRefusedError:
    return BackupRefusedError(
        Text("{file}: already exists; name another file, or use --overwrite", file=target)
    )


@contextmanager
def _spool(target: Path | None) -> Iterator[tuple[IO[bytes], Path | None]]:
    """Open the target of the archive: a file next to its final name, or standard output."""
    if target is None:
        with _writing(target):
            number = os.dup(sys.stdout.fileno())
        out = os.fdopen(number, "wb")
        try:
            yield out, None
        finally:
            with suppress(OSError):  # it was flushed, or the error was reported already
                out.close()
        return
    part = target.with_name(f".{target.name}.part")
    with _writing(target):
        file = private_file(part)
    with file:
        try:
            yield file, part
        finally:
            part.unlink(missing_ok=True)


@contextmanager
def _scratch(target: Path | None) -> Iterator[Path]:
    """Create an empty file for a copy of one state. Delete it at the end of the block."""
    with ExitStack() as stack:
        with _writing(target):
            if target is None:
                path = Path(stack.enter_context(TemporaryDirectory(prefix="shop-poller-")), "state")
            else:
                path = target.with_name(f".{target.name}.state")
            private_file(path).close()
        stack.callback(path.unlink, missing_ok=True)
        yield path


def private_file(path: Path) -> BinaryIO:
    """Open an empty file that no other user may read, whatever the umask. Reuse the file of an earlier run.

    Raises:
        BackupRefusedError: another backup writes to it.
        OSError: it cannot be created.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
    number = os.open(path, flags, 0o600)
    try:
        _check_ours(number, path)
        os.fchmod(number, 0o600)
        os.ftruncate(number, 0)
    except BaseException:
        os.close(number)
        raise
    return cast("BinaryIO", os.fdopen(number, "r+b"))


def _check_ours(number: int, path: Path) -> None:
    about = os.fstat(number)
    if not stat.S_ISREG(about.st_mode) or about.st_nlink > 1 or about.st_uid != os.geteuid():
        raise BackupRefusedError(
            Text("{path}: belongs to another user or is not a regular file; move it away", path=path)
        )
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise BackupRefusedError(
            Text("{path}: another backup is being written to that file", path=path)
        ) from error


@contextmanager
def _writing(target: Path | None) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        place = target or Text("standard output")
        raise CannotWriteError(
            Text("{place}: {error}", place=place, error=known(error.strerror or ""))
        ) from error


def _name(part: Path, target: Path, *, overwrite: bool) -> None:
    """Rename the finished archive to its final name, in one step."""
    if overwrite:
        part.replace(target)
    else:
        try:
            target.hardlink_to(part)
        except FileExistsError as error:
            raise _already_exists(target) from error
        except OSError as error:  # a file system without hard links
            if target.exists():
                raise BackupRefusedError(
                    Text("{file}: already exists; name another file", file=target)
                ) from error
            part.replace(target)
    files.sync_directory(target.parent)


def redis_layout() -> int:
    """Return the version of the layout of keys in Redis that this program writes."""
    from shop_poller.stores.redis.backup import LAYOUT  # noqa: PLC0415 - it is 10 MB

    return LAYOUT
