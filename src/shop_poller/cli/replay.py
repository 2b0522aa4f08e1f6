"""Finds past deliveries of a shop and puts them back into the outbox, with their old ids.

The daemon may be running.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import anyio
import typer

from shop_poller.cli.console import CommandError, complain, store_of
from shop_poller.cli.dead_letter_moves import AT_ONCE
from shop_poller.cli.language import in_language
from shop_poller.config.settings import Settings
from shop_poller.core.filters import Filter, problems
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text
from shop_poller.ports import FinishedDelivery
from shop_poller.stores import concurrent_store


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


def put_back_all(settings: Settings, found: FoundDeliveries) -> int:
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
