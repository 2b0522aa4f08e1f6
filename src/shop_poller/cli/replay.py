"""`replay`: deliveries that were made go back into the outbox, with their old ids, beside the daemon."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime

from shop_poller.cli.dead_letters import AT_ONCE
from shop_poller.config.settings import Settings
from shop_poller.core.filters import Filter, problems
from shop_poller.ports import FinishedDelivery
from shop_poller.stores import concurrent_store


class UnknownEventError(Exception):
    """There is no event of that name; one line, with those that there are."""


@dataclass(frozen=True, slots=True)
class ReplayFilter:
    """Which deliveries are meant: all that fit.

    Attributes:
        since: made then or later.
        before: made earlier than that; None: than now.
        sink: to this one only.
        event: a word as in `events=` of a sink's address.
    """

    since: datetime
    before: datetime | None = None
    sink: str | None = None
    event: str | None = None


@dataclass(frozen=True, slots=True)
class FoundDeliveries:
    """What a choice comes to.

    Attributes:
        again: what can be sent again, in the order in which it was put into the outbox.
        bare: how many fit and have no text any more.
        orphans: sinks that were meant and that no setting names: nobody would take from there what waits.
        before: what was made from then on was not looked at. A second run that is told so does not choose
            again what the first one sent.
    """

    again: Sequence[FinishedDelivery]
    bare: int
    orphans: Sequence[str]
    before: datetime


async def find(settings: Settings, choice: ReplayFilter) -> FoundDeliveries:
    """See what a choice comes to; nothing is changed.

    Raises:
        UnknownEventError: `event` names none.
        PermanentError, TemporaryError: STORE.
    """
    shop = settings.shop
    store = await concurrent_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        await store.load(shop)  # or are they another shop's?
        before = min(choice.before or store.now(), store.now())
        made = await store.delivered(shop, since=choice.since, before=before)
    wanted = Filter((choice.event,) if choice.event is not None else ())
    # Those of one's own that were taken out of the settings since are in the history still.
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
    """Put deliveries back into the outbox, about a hundred a commit.

    Args:
        settings: as loaded.
        again: see Found.
        step: is told after each commit how many were meant, and how many of them were put back: others were
            moved or forgotten meanwhile, or wait already.

    Raises:
        PermanentError, TemporaryError: STORE; whether the last commit was carried out is then not known.
    """
    shop = settings.shop
    store = await concurrent_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        for some in batches(again):
            step(len(some), await store.resend_concurrently(shop, some, store.now()))


def batches(again: Sequence[FinishedDelivery], most: int = AT_ONCE) -> Iterator[list[int]]:
    """Seqs for one commit each: what went to one sink of one order stays together, or it might be cut in two.

    Who then began anew would put the second part before the first.

    Args:
        again: see Found.
        most: of a batch; only a key that has more than that by itself is cut.
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
