"""The command `replay`. What only it needs is imported in it, as in cli.py."""

import sys
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Annotated

import anyio
import typer

from shop_poller.cli.console import (
    DATES,
    Config,
    Exit,
    ShopId,
    Since,
    SinkName,
    Yes,
    agreed,
    complain,
    load_settings,
    say,
    utc,
)
from shop_poller.core.model import iso

if TYPE_CHECKING:
    from shop_poller.cli.replay import FoundDeliveries
    from shop_poller.config.settings import Settings

EPILOG = """\b
Examples:
  shop-poller replay --since 2026-11-24T18:00:00 --dry-run
  shop-poller replay --since 2026-11-01 --sink crm --event new --yes
Exit codes: 2 settings, 5 state (it says how to go on)."""

Until = Annotated[
    datetime | None,
    typer.Option("--until", formats=DATES, metavar="DATE", help="Delivered before that; else before now."),
]
Event = Annotated[
    str | None,
    typer.Option("--event", metavar="NAME", help="Only these: shop.order.new, or new, or shop.order.*"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent again; change nothing.")]


def replay(
    *,
    since: Since,
    until: Until = None,
    sink: SinkName = None,
    event: Event = None,
    config: Config = None,
    shop: ShopId = None,
    dry_run: DryRun = False,
    yes: Yes = False,
) -> None:
    """Send again what was delivered since then, with the old ids; the daemon may be running."""
    from shop_poller.cli import dead_letters  # noqa: PLC0415 - see the module's docstring
    from shop_poller.cli import replay as replays  # noqa: PLC0415

    settings, start = load_settings(config, shop), utc(since)
    end = until.replace(tzinfo=UTC) if until else None
    if end is not None and end <= start:
        raise typer.BadParameter("is not after --since", param_hint="--until")
    try:
        found = anyio.run(replays.find, settings, replays.ReplayFilter(start, end, sink, event))
    except replays.UnknownEventError as error:
        complain(str(error))
        raise typer.Exit(Exit.SETTINGS) from error
    count = len(found.again)
    if found.bare:
        complain(
            f"{found.bare:,} were delivered before this version kept their text; they cannot be sent again"
        )
    for name in found.orphans:
        complain(f"left alone: what went to {name}, which SHOP_NOTIFY_URLS does not name")
    if dry_run:
        for one in found.again:
            say(dead_letters.delivered_line(one))
        say(f"would send {count:,} again; changed nothing")
    elif not count:
        say("there is nothing to replay")
    elif not (yes or count == 1 or agreed(f"send {count:,} deliveries again?")):
        say("left as they are")
    else:
        say(f"replayed {_put_back(settings, found):,} of {count:,}")


def _put_back(settings: "Settings", found: "FoundDeliveries") -> int:
    """Put all of it back, with a bar on a terminal; say how to go on if it is cut off."""
    from shop_poller.cli import replay as replays  # noqa: PLC0415 - see the module's docstring

    count, moved = len(found.again), 0
    bar = typer.progressbar(
        length=count, label="replay", file=sys.stderr, hidden=not sys.stderr.isatty(), show_pos=True
    )

    def step(meant: int, put: int) -> None:
        nonlocal moved
        moved += put
        bar.update(meant)

    try:
        with bar:
            anyio.run(partial(replays.put_back, settings, found.again, step))
    except BaseException:  # Ctrl-C too
        complain(
            f"replayed {moved:,} of {count:,}, perhaps a few more; to go on, run it again with"
            f" --until {iso(found.before)}"
        )
        raise
    return moved
