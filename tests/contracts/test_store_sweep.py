"""What the sweep, the backfill and the audit ask of a store; the same for all of them."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from shop_poller.core.errors import PermanentError
from shop_poller.core.meaning import StatusMeaning
from shop_poller.core.model import KnownOrder
from shop_poller.core.transition import LOST_STATUS
from shop_poller.ports import (
    Ack,
    Backfill,
    DeliveryRecord,
    DeliveryStatus,
    MoveToDeadLetters,
    ShopState,
    Store,
)
from shop_poller.sources.woocommerce.statuses import MEANINGS, OWN
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.statuses import ANNOUNCED_BEFORE, CLOSED, UNPAID
from support.deliveries import SHOP, T0, at, batch, claim, known_order, new_deliveries, put
from support.stores import Place

pytestmark = pytest.mark.anyio

OTHER_SHOP = "other.example"


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()


# --- orders that may still change ---------------------------------------------------------------------------

OPEN = sorted({"sborka", *OWN} - {*CLOSED})


async def open_ids(store: Store, *, after_id: int = 0, limit: int = 1000, shop: str = SHOP) -> list[int]:
    return await store.open_orders(shop, after_id=after_id, limit=limit)


def test_of_the_statuses_that_we_know_these_are_looked_at_only_while_recent() -> None:
    assert sorted(CLOSED) == sorted({*OWN} - {"pending", "on-hold", "processing", "failed"})


def test_what_the_stores_do_by_a_status_fits_what_the_source_says_that_it_means() -> None:
    done = (StatusMeaning.COMPLETED, StatusMeaning.CANCELLED, StatusMeaning.REFUNDED)
    unborn = (StatusMeaning.DRAFT, StatusMeaning.REMOVED)
    unpaid = (StatusMeaning.AWAITING, StatusMeaning.FAILED, StatusMeaning.DRAFT)
    assert {*CLOSED} == {*MEANINGS.statuses(*done, *unborn)}
    assert {*MEANINGS.statuses(StatusMeaning.PAID, *done)} == ANNOUNCED_BEFORE
    assert {LOST_STATUS, *MEANINGS.statuses(*unpaid)} == UNPAID


async def test_open_are_those_in_no_last_status(store: Store) -> None:
    known = [known_order(n, status) for n, status in enumerate([*OPEN, *CLOSED], 1)]
    await store.commit(SHOP, batch(known=known))
    assert await open_ids(store) == list(range(1, len(OPEN) + 1))


async def test_they_come_by_their_ids_a_few_at_a_time(store: Store) -> None:
    ids = [2**63 - 1, 9, 10, 100, 99, 1, 2**53 + 1, 2**53]
    await store.commit(SHOP, batch(known=[known_order(order_id) for order_id in ids]))
    found: list[int] = []
    while some := await open_ids(store, after_id=found[-1] if found else 0, limit=3):
        assert len(some) <= 3
        found += some
    assert found == sorted(ids)


async def test_an_order_is_open_as_long_as_its_status_says_so(place: Place) -> None:
    store = await place.open()
    await store.commit(SHOP, batch(known=[known_order(1, "processing"), known_order(2, "completed")]))
    await store.commit(SHOP, batch(known=[known_order(1, "completed"), known_order(2, "processing")]))
    assert await open_ids(store) == [2]
    store = await place.open()
    await store.register(SHOP, at(1))
    assert await open_ids(store) == [2]


async def test_what_was_pruned_is_not_open(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(1)], seen_at=at(0)))
    await store.commit(SHOP, batch(known=[known_order(2)], seen_at=at(10)))
    await store.prune(SHOP, seen_before=at(5), finished_before=at(0))
    assert await open_ids(store) == [2]


async def test_each_shop_has_its_own_open_orders(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(1)]))
    await store.commit(OTHER_SHOP, batch(known=[known_order(2)]))
    assert await open_ids(store) == [1]
    assert await open_ids(store, shop=OTHER_SHOP) == [2]
    assert await open_ids(store, shop="nobody.example") == []


# --- where a sweep stands -----------------------------------------------------------------------------------


async def test_where_the_sweep_stands_survives_a_restart(place: Place) -> None:
    state = ShopState(started_at=T0, baseline_at=T0, cursor_at=T0, sweep_after_id=2**62, swept_at=at(5))
    store = await place.open()
    await store.commit(SHOP, batch(state=state))
    store = await place.open()
    assert await store.load(SHOP) == state
    await store.commit(SHOP, batch(state=replace(state, sweep_after_id=0)))
    assert await store.load(SHOP) == replace(state, sweep_after_id=0)


# --- learning beside whoever polls --------------------------------------------------------------------------

HALFWAY = Backfill(since=at(-1000), created_before=at(-500))


async def test_only_what_is_unknown_is_imported(store: Store) -> None:
    await store.register(SHOP, T0)
    mine = KnownOrder(1, "cancelled", at(3), announced_new=True)
    await store.commit(SHOP, batch(known=[mine]))
    fresh = await store.import_concurrently(
        SHOP, [known_order(1, "processing"), known_order(2), known_order(3, "completed")], HALFWAY, at(1)
    )
    assert fresh == 2
    assert await store.known(SHOP, [1, 2, 3]) == {
        1: mine, 2: known_order(2), 3: known_order(3, "completed"),
    }  # fmt: skip
    assert await open_ids(store) == [2]
    assert (await store.stats(SHOP)).known == 3


async def test_where_a_backfill_stands_is_kept_with_what_it_imported(place: Place) -> None:
    store = await place.open()
    await store.register(SHOP, T0)
    assert await store.backfill(SHOP) is None
    await store.import_concurrently(SHOP, [known_order(1), known_order(2)], HALFWAY, T0)
    store = await place.open()
    stands = await store.backfill(SHOP)
    assert stands == Backfill(at(-1000), at(-500), imported=2)
    await store.import_concurrently(SHOP, [known_order(2), known_order(3)], stands, T0)
    assert await store.backfill(SHOP) == Backfill(at(-1000), at(-500), imported=3)
    assert await store.backfill(OTHER_SHOP) is None


async def test_what_was_imported_beside_grows_old_as_all_else(store: Store) -> None:
    await store.register(SHOP, T0)
    await store.import_concurrently(SHOP, [known_order(1)], HALFWAY, at(0))
    assert await store.prune(SHOP, seen_before=at(0), finished_before=at(0)) == 0
    assert await store.prune(SHOP, seen_before=at(1), finished_before=at(0)) == 1
    assert await store.known(SHOP, [1]) == {}


async def test_two_may_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    polling = await SqliteStore.open(path)
    await polling.register(SHOP, T0)
    beside = await SqliteStore.concurrent(path)
    await polling.commit(SHOP, batch(known=[known_order(1)]))
    assert await beside.import_concurrently(SHOP, [known_order(1), known_order(2)], HALFWAY, T0) == 1
    await polling.commit(SHOP, batch(known=[known_order(3)]))
    assert set(await polling.known(SHOP, [1, 2, 3])) == {1, 2, 3}
    await beside.aclose()
    await polling.aclose()


async def test_there_is_nothing_beside_a_file_that_is_not_there_or_too_old(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with pytest.raises(PermanentError, match="no state yet; `shop-poller run` makes it"):
        await SqliteStore.concurrent(path)
    assert not path.exists()
    store = await SqliteStore.open(path)
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(PermanentError, match="written by an older shop-poller; start `shop-poller run` once"):
        await SqliteStore.concurrent(path)


# --- what became of deliveries ------------------------------------------------------------------------------


async def test_a_trace_tells_what_became_of_a_delivery(store: Store) -> None:
    await put(
        store,
        new_deliveries("A", "1", "first"),
        new_deliveries("A", "1", "second"),
        new_deliveries("B", "1", "first"),
    )
    await put(store, new_deliveries("A", "2", "other"), now=at(1))
    assert await store.delivery_records(SHOP, ["1"]) == [
        DeliveryRecord("A", "1", "first", "shop.order.new", DeliveryStatus.WAITING, T0),
        DeliveryRecord("A", "1", "second", "shop.order.new", DeliveryStatus.WAITING, T0),
        DeliveryRecord("B", "1", "first", "shop.order.new", DeliveryStatus.WAITING, T0),
    ]
    first, other = await claim(store, now=at(2))
    await store.record_outcomes([Ack(first), MoveToDeadLetters(other, "gone")], at(3))
    assert await store.delivery_records(SHOP, ["1", "2", "3"]) == [
        DeliveryRecord("A", "1", "first", "shop.order.new", DeliveryStatus.DELIVERED, at(3)),
        DeliveryRecord("A", "1", "second", "shop.order.new", DeliveryStatus.WAITING, T0),
        DeliveryRecord("B", "1", "first", "shop.order.new", DeliveryStatus.WAITING, T0),
        DeliveryRecord("A", "2", "other", "shop.order.new", DeliveryStatus.DEAD, at(3)),
    ]


async def test_traces_are_of_whole_keys_and_one_shop(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "one"), new_deliveries("A", "11", "eleven"))
    await put(store, new_deliveries("A", "1", "elsewhere"), shop_id=OTHER_SHOP)
    assert [trace.event_id for trace in await store.delivery_records(SHOP, ["1"])] == ["one"]
    assert await store.delivery_records(SHOP, []) == []
