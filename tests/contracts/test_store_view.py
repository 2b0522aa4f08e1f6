"""The contract of ports.StateView: what every store must do."""

import pytest

from shop_poller.core.model import UnreadableOrder
from shop_poller.ports import MoveToDeadLetters, Retry, Stats, Store
from support.deliveries import SHOP, T0, at, batch, claim, known_order, new_deliveries, put
from support.store_suite import HOUR, NEVER, OTHER_SHOP

pytestmark = pytest.mark.anyio


async def test_what_lies_in_the_store_is_counted(store: Store) -> None:
    assert await store.stats(SHOP) == Stats()
    await store.commit(
        SHOP,
        batch(known=[known_order(1), known_order(2)], set_aside=[UnreadableOrder(3, "half")]),
    )
    await put(store, new_deliveries("A", "1"), new_deliveries("A", "1"), new_deliveries("B", "2"), now=at(1))
    await put(store, new_deliveries("A", "3"), now=at(2))
    await put(store, new_deliveries("A", "1"), now=NEVER, shop_id=OTHER_SHOP)
    found = await store.stats(SHOP)
    assert (found.known, found.set_aside) == (2, 1)
    counts = {name: (sink.waiting, sink.oldest_at, sink.dead) for name, sink in found.sinks.items()}
    assert counts == {"A": (3, at(1), 0), "B": (1, at(1), 0)}


async def test_claimed_and_parked_deliveries_count_as_waiting(store: Store) -> None:
    await put(store, new_deliveries(key="claimed"), new_deliveries(key="parked"), new_deliveries(key="dead"))
    _, parked, dead_lettered = await claim(store)
    await store.record_outcomes(
        [Retry(parked, at(HOUR), "500", charged=True), MoveToDeadLetters(dead_lettered, "400")], T0
    )
    sink = (await store.stats(SHOP)).sinks["A"]
    assert (sink.waiting, sink.oldest_at, sink.dead) == (2, T0, 1)
