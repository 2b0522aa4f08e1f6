"""The command `replay`: puts successful deliveries back into the outbox, with their old ids.

The daemon may be running.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import anyio
import typer

from shop_poller.cli.console import (
    DATES,
    CommandError,
    Config,
    ShopId,
    Since,
    SinkName,
    Yes,
    agreed,
    complain,
    load_settings,
    make_app,
    refused,
    say,
    store_of,
    utc,
)
from shop_poller.cli.dead_letters import AT_ONCE
from shop_poller.cli.deliveries import delivered_line
from shop_poller.cli.language import in_language
from shop_poller.config.settings import Settings
from shop_poller.core.filters import Filter, problems
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text
from shop_poller.ports import FinishedDelivery
from shop_poller.stores import concurrent_store

app = make_app()

Until = Annotated[
    datetime | None,
    typer.Option("--until", formats=DATES, metavar="DATE", help="Delivered before DATE. Default: now."),
]
Event = Annotated[
    str | None,
    typer.Option("--event", metavar="NAME", help="Only this event: shop.order.new, new, or shop.order.*"),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="List what would be sent again; change nothing.")]


class UnknownEventError(CommandError):
    """No event has that name; the text lists the known ones."""


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """Selects the deliveries that match every field.

    Attributes:
        since: delivered then or later.
        before: delivered earlier than this; None for now.
        sink: only those to this sink.
        event: a word as in `events=` of a sink's address.
    """

    since: datetime
    before: datetime | None = None
    sink: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class FoundDeliveries:
    """The deliveries that match a filter.

    Attributes:
        again: deliveries that can be sent again, in the order in which they were added to the outbox.
        bare: how many match but have no stored text.
        orphans: sinks that match but are not in the settings: deliveries to them would wait forever.
        before: deliveries made at or after this instant were not searched. With this as `--until`, a second
            run does not select what the first one sent.
    """

    again: Sequence[FinishedDelivery]
    bare: int
    orphans: Sequence[str]
    before: datetime


@app.command(
    epilog="""\b
Examples:
  shop-poller replay --since 2026-11-24T18:00:00 --dry-run
  shop-poller replay --since 2026-11-01 --sink crm --event new --yes
Exit codes: 2 settings, 5 state (it prints how to resume)."""
)
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
    """Send again what was delivered since DATE, with the old ids; the daemon may be running."""
    settings, start = load_settings(config, shop), utc(since)
    end = until.replace(tzinfo=UTC) if until else None
    if end is not None and end <= start:
        raise typer.BadParameter(Text("is not after --since"), param_hint="--until")
    try:
        found = anyio.run(find, settings, ReplayFilter(start, end, sink, event))
    except UnknownEventError as error:
        raise refused(error.text) from error
    count = len(found.again)
    if found.bare:
        complain(
            Text(
                "{count:,} cannot be sent again: an older version delivered them without keeping a copy",
                count=found.bare,
            )
        )
    for name in found.orphans:
        complain(Text("skipped: deliveries to {sink}, which SHOP_NOTIFY_URLS does not name", sink=name))
    if dry_run:
        for one in found.again:
            say(delivered_line(one))
        say(Text("would send {count:,} again; changed nothing", count=count))
    elif not count:
        say(Text("there is nothing to replay"))
    elif not (yes or count == 1 or agreed(Text("send {count:,} deliveries again?", count=count))):
        say(Text("nothing was changed"))
    else:
        say(Text("replayed {done:,} of {all:,}", done=_put_back_all(settings, found), all=count))


def _put_back_all(settings: Settings, found: FoundDeliveries) -> int:
    """Put all deliveries back, with a progress bar on a terminal. If interrupted, print how to resume."""
    count, moved = len(found.again), 0
    bar = typer.progressbar(
        length=count,
        label=in_language(Text("replay")),
        file=sys.stderr,
        hidden=not sys.stderr.isatty(),
        show_pos=True,
    )

    def step(meant: int, put: int) -> None:
        nonlocal moved
        moved += put
        bar.update(meant)

    try:
        with bar:
            anyio.run(partial(put_back, settings, found.again, step))
    except BaseException:  # Ctrl-C too
        complain(
            Text(
                "replayed {done:,} of {all:,}, perhaps a few more; to resume, run it again with --until {at}",
                done=moved,
                all=count,
                at=iso(found.before),
            )
        )
        raise
    return moved


async def find(settings: Settings, choice: ReplayFilter) -> FoundDeliveries:
    """Find the deliveries that match; nothing is changed.

    Raises:
        UnknownEventError: `event` names no event.
        PermanentError, TemporaryError: STORE.
    """
    shop = settings.shop
    async with store_of(settings, concurrent_store) as store:
        await store.load(shop)  # raises if the state belongs to another shop
        before = min(choice.before or store.now(), store.now())
        made = await store.delivered(shop, since=choice.since, before=before)
    wanted = Filter((choice.event,) if choice.event is not None else ())
    # The history may contain custom events that are no longer in the settings.
    events = {event for event, _ in settings.events} | {one.over.event_type for one in made}
    for problem in problems(wanted, events=events, levels=()):
        raise UnknownEventError(problem)
    named = {sink.name for sink in settings.sinks}
    fits = [
        one
        for one in made
        if choice.sink in {None, one.over.sink} and wanted.wants(one.over.event_type, level="")
    ]
    meant = {one.over.sink for one in fits} | ({choice.sink} if choice.sink is not None else set())
    ours = [one for one in fits if one.over.sink in named]
    return FoundDeliveries(
        again=[one.over for one in ours if one.kept],
        bare=sum(not one.kept for one in ours),
        orphans=sorted(meant - named),
        before=before,
    )


async def put_back(
    settings: Settings, again: Sequence[FinishedDelivery], step: Callable[[int, int], None]
) -> None:
    """Put deliveries back into the outbox, about a hundred per commit.

    Args:
        settings: as loaded.
        again: see FoundDeliveries.
        step: called after each commit with the number of selected deliveries, and how many of them were put
            back. The others were moved or dropped meanwhile, or wait already.

    Raises:
        PermanentError, TemporaryError: STORE; it is then unknown whether the last commit was made.
    """
    shop = settings.shop
    async with store_of(settings, concurrent_store) as store:
        for some in batches(again):
            step(len(some), await store.resend_concurrently(shop, some, store.now()))


def batches(again: Sequence[FinishedDelivery], most: int = AT_ONCE) -> Iterator[list[int]]:
    """Yield the seqs of each commit. Deliveries of one order to one sink stay in one batch.

    If such a group were split, a second run would put its second part before its first.

    Args:
        again: see FoundDeliveries.
        most: the size of a batch; only a group that is larger than this is split.
    """
    lines: dict[tuple[str, str], list[int]] = {}
    for one in again:
        lines.setdefault((one.sink, one.key), []).append(one.seq)
    batch: list[int] = []
    for line in lines.values():
        if batch and len(batch) + len(line) > most:
            yield batch
            batch = []
        batch = batch + line
        while len(batch) > most:
            yield batch[:most]
            batch = batch[most:]
    if batch:
        yield batch
