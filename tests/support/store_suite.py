"""What the suites of the state's ports share."""

from dataclasses import replace
from datetime import UTC, datetime

from shop_poller.core.errors import PermanentError, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.ports import Ack, DeliveredEntry, MoveToDeadLetters, NewDelivery, Store
from support.deliveries import SHOP, at, claim, new_deliveries, put

OTHER_SHOP = "other.example"
HOUR = 3600.0
DAY = 24 * HOUR
NEVER = datetime(2000, 1, 1, tzinfo=UTC)  # long before anything in these tests


def unwritable() -> NewDelivery:
    """A row that no store can write: what a commit meets when it fails in the middle."""
    return replace(new_deliveries(key="unwritable"), body=object())  # type: ignore[arg-type] # that is the point


THE_CAUSE = (TypeError, AttributeError, TemporaryError, PermanentError)
"""What an unwritable row may be answered with: it is a bug of ours, which none of the ports speaks of."""


async def prune_all(store: Store, *, seen_before: datetime = NEVER, finished_before: datetime = NEVER) -> int:
    """Prune until nothing is dropped any more, each time a bounded number."""
    total = 0
    while dropped := await store.prune(SHOP, seen_before=seen_before, finished_before=finished_before):
        assert dropped <= 5_000
        assert await store.renew(), "see test_dead_letters_are_bounded_in_number"
        total += dropped
    return total


async def deliver(
    store: Store, *rows: NewDelivery, seconds: float = 1, shop_id: str = SHOP
) -> list[Delivery]:
    """Put rows and deliver them at once, in the order in which they were made."""
    await put(store, *rows, shop_id=shop_id)
    return await deliver_all(store, *{row.sink: None for row in rows}, seconds=seconds)


async def deliver_all(store: Store, *sinks: str, seconds: float) -> list[Delivery]:
    """Deliver what is due: of each sink in the order in which it was given out."""
    taken = []
    for sink in sinks:
        while some := await claim(store, sink, now=at(seconds)):
            await store.record_outcomes([Ack(one) for one in some], at(seconds))
            taken += some
    return taken


async def made(
    store: Store, since: float = 0, before: float = 1_000, shop_id: str = SHOP
) -> list[DeliveredEntry]:
    return await store.delivered(shop_id, since=at(since), before=at(before))


async def move_to_dead_letters(
    store: Store, *rows: NewDelivery, seconds: float = 1, shop_id: str = SHOP
) -> list[Delivery]:
    """Put rows and give them up at once, in the order in which they were made."""
    dead_lettered = []
    await put(store, *rows, shop_id=shop_id)
    for sink in {row.sink: None for row in rows}:
        while some := await claim(store, sink, now=at(seconds)):
            await store.record_outcomes(
                [MoveToDeadLetters(one, f"no {one.event_id}") for one in some], at(seconds)
            )
            dead_lettered += some
    return sorted(dead_lettered, key=lambda one: one.seq)
