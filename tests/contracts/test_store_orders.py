"""The contract of ports.OrderState: what every store must do. Nothing in here knows how one does it."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import pytest

from shop_poller.core.import_walk import ImportPosition, Phase
from shop_poller.core.meaning import StatusMeaning
from shop_poller.core.model import EventType, KnownOrder, UnreadableOrder
from shop_poller.core.transition import LOST_STATUS
from shop_poller.ports import Ack, Backfill, ShopState, Stats, Store
from shop_poller.sources.woocommerce.statuses import MEANINGS, OWN
from shop_poller.stores.statuses import ANNOUNCED_BEFORE, CLOSED, UNPAID
from support.deliveries import (
    MS,
    SHOP,
    T0,
    at,
    batch,
    claim,
    claim_one,
    ids,
    known_order,
    new_deliveries,
    put,
)
from support.redis_server import REDIS
from support.store_suite import HOUR, OTHER_SHOP, THE_CAUSE, unwritable
from support.stores import STORE_NAMES, Place

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(place: Place) -> Store:
    """A store without a state."""
    return await place.open()


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed here; CI has it")
def test_the_suite_runs_on_redis_itself_too() -> None:
    assert "redis" in STORE_NAMES


# --- a shop's state ---------------------------------------------------------------------------------------


async def test_an_unknown_shop_starts_now(store: Store) -> None:
    assert await store.register(SHOP, T0) == ShopState(started_at=T0)


async def test_loading_shows_a_shop_and_begins_none(store: Store) -> None:
    assert await store.load(SHOP) is None
    assert await store.load(SHOP) is None
    state = await store.register(SHOP, T0)
    assert await store.load(SHOP) == state


async def test_a_shop_keeps_the_instant_of_its_first_start(place: Place) -> None:
    await (await place.open()).register(SHOP, T0)
    store = await place.open()
    assert (await store.register(SHOP, at(HOUR))).started_at == T0


STATES = {
    "just begun": ShopState(started_at=T0),
    "importing open orders": ShopState(
        started_at=T0,
        baseline_at=at(-HOUR),
        cursor_at=at(1),
        import_position=ImportPosition(Phase.OPEN, at(-HOUR), 0),
    ),
    "importing completed orders": ShopState(
        started_at=T0,
        baseline_at=at(-HOUR),
        cursor_at=at(1),
        last_poll_at=at(2),
        import_position=ImportPosition(Phase.COMPLETED, at(-999_999), 2_000),
    ),
    "polling": ShopState(started_at=T0, baseline_at=at(-HOUR), cursor_at=at(60), last_poll_at=at(61)),
    "after an order": ShopState(
        started_at=T0, baseline_at=at(-HOUR), cursor_at=at(60), last_poll_at=at(61), newest_order_at=at(59)
    ),
    "after a walk through the refunds": ShopState(
        started_at=T0, baseline_at=at(-HOUR), cursor_at=at(60), refunds_at=at(-HOUR)
    ),
    "counting": ShopState(started_at=T0, baseline_at=at(-HOUR), tallied_since=at(-HOUR)),
    "in a silence that was told": ShopState(
        started_at=T0, baseline_at=at(-HOUR), newest_order_at=at(59), silence_told_at=at(-HOUR)
    ),
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES.keys())
async def test_a_state_is_loaded_as_it_was_committed(place: Place, state: ShopState) -> None:
    store = await place.open()
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch(state=state))
    assert await store.register(SHOP, at(HOUR)) == state
    store = await place.open()
    assert await store.register(SHOP, at(2 * HOUR)) == state


async def test_a_state_can_go_back_to_nothing_being_imported(store: Store) -> None:
    await store.commit(SHOP, batch(state=STATES["importing open orders"]))
    await store.commit(SHOP, batch(state=STATES["polling"]))
    assert await store.register(SHOP, at(HOUR)) == STATES["polling"]


async def test_a_state_can_go_back_to_no_order_and_no_silence(store: Store) -> None:
    await store.commit(SHOP, batch(state=STATES["in a silence that was told"]))
    await store.commit(SHOP, batch(state=STATES["polling"]))
    assert await store.load(SHOP) == STATES["polling"]


async def test_two_shops_have_each_their_own_state(store: Store) -> None:
    await store.register(SHOP, T0)
    await store.register(OTHER_SHOP, at(5))
    await store.commit(SHOP, batch(state=STATES["polling"]))
    assert await store.register(SHOP, at(9)) == STATES["polling"]
    assert await store.register(OTHER_SHOP, at(9)) == ShopState(started_at=at(5))


async def test_instants_keep_their_milliseconds(store: Store) -> None:
    seeded = random.Random(2)
    first, last = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
    instants = [first, last, T0] + [first + seeded.randrange((last - first) // MS) * MS for _ in range(100)]
    for n, instant in enumerate(instants):
        assert (await store.register(f"shop-{n}", instant)).started_at == instant


@pytest.mark.parametrize("microsecond", [1, 499, 500, 501, 999, 999_499, 999_500, 999_999])
async def test_what_is_finer_than_a_millisecond_moves_an_instant_by_less_than_one(
    store: Store, microsecond: int
) -> None:
    instant = T0.replace(microsecond=microsecond)
    assert abs((await store.register(SHOP, instant)).started_at - instant) < MS


async def test_an_instant_of_another_zone_is_the_same_instant(store: Store) -> None:
    from_moscow = datetime.fromisoformat("2026-11-23T12:50:00.123+03:00")
    state = await store.register(SHOP, from_moscow)
    assert state.started_at == T0
    assert state.started_at.utcoffset() == timedelta(0)


# --- known orders -----------------------------------------------------------------------------------------


RECORDS = {
    "imported unpaid": KnownOrder(1, "pending", at(0)),
    "announced": KnownOrder(2, "processing", at(1), announced_new=True, decided={EventType.NEW: 1}),
    "with a past": KnownOrder(
        3,
        "failed",
        at(2),
        announced_new=True,
        decided={EventType.NEW: 1, EventType.FAILED: 12, EventType.PARTIALLY_REFUNDED: 2},
        refund_ids=frozenset({5, 40, 300}),
        silent_refund_ids=frozenset({40, 300}),
    ),
    "of a source that shows refunds, and there is none": KnownOrder(
        4, "completed", at(3), refund_ids=frozenset()
    ),
    "with a status of its own": KnownOrder(5, "в-сборке", at(4)),
    "waiting to be paid": KnownOrder(6, "on-hold", at(4), awaiting_since=at(-HOUR)),
    "with an event that the owner named": KnownOrder(
        7, "sborka", at(4), decided={EventType.NEW: 1, EventType.PAYMENT_OVERDUE: 1, "shop.order.packing": 3}
    ),
    "with the greatest id": KnownOrder(2**63 - 1, "processing", at(5)),
}


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS.keys())
async def test_a_record_is_found_as_it_was_committed(place: Place, record: KnownOrder) -> None:
    store = await place.open()
    await store.commit(SHOP, batch(known=[record]))
    assert await store.known(SHOP, [record.id]) == {record.id: record}
    store = await place.open()
    assert await store.known(SHOP, [record.id]) == {record.id: record}


async def test_of_the_requested_ids_only_the_known_ones_are_returned(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(1), known_order(2), known_order(3)]))
    assert await store.known(SHOP, [2, 3, 4]) == {2: known_order(2), 3: known_order(3)}
    assert await store.known(SHOP, []) == {}
    assert await store.known("nobody.example", [1, 2]) == {}


async def test_ids_may_come_in_any_collection_and_in_any_number(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(1, 3_001)]))
    assert len(await store.known(SHOP, range(1, 50_001))) == 3_000
    assert set(await store.known(SHOP, {7, 8})) == {7, 8}
    assert set(await store.known(SHOP, (7, 7, 7))) == {7}


async def test_a_later_record_replaces_the_earlier_one(store: Store) -> None:
    await store.commit(SHOP, batch(known=[replace(RECORDS["with a past"], id=9, awaiting_since=at(1))]))
    later = KnownOrder(9, "refunded", at(60), refund_ids=None)
    await store.commit(SHOP, batch(known=[later]))
    assert await store.known(SHOP, [9]) == {9: later}


async def test_the_same_order_id_in_two_shops_is_two_orders(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(1, "processing")]))
    await store.commit(OTHER_SHOP, batch(known=[known_order(1, "cancelled")]))
    assert (await store.known(SHOP, [1]))[1].status == "processing"
    assert (await store.known(OTHER_SHOP, [1]))[1].status == "cancelled"


# --- one atomic commit ------------------------------------------------------------------------------------


async def test_a_commit_changes_everything_that_it_names(place: Place) -> None:
    store = await place.open()
    await store.commit(
        SHOP,
        batch(
            new_deliveries("A", event_id="to A"),
            new_deliveries("B", event_id="to B"),
            state=STATES["polling"],
            known=[known_order(1), known_order(2)],
            set_aside=[UnreadableOrder(3, "total: is no amount")],
        ),
    )
    store = await place.open()
    assert await store.register(SHOP, at(HOUR)) == STATES["polling"]
    assert await store.known(SHOP, [1, 2]) == {1: known_order(1), 2: known_order(2)}
    assert await store.set_aside(SHOP) == {3: "total: is no amount"}
    assert ids(await claim(store, "A")) == ["to A"]
    assert ids(await claim(store, "B")) == ["to B"]


FAULTS = {
    "an outgoing row": {"rows": [new_deliveries("A", "1"), unwritable(), new_deliveries("A", "2")]},
    "a record": {
        "rows": [new_deliveries("A", "1")],
        "known": [known_order(2), replace(known_order(3), status=cast(str, object())), known_order(4)],
    },
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
async def test_a_commit_that_fails_in_the_middle_changes_nothing(place: Place, fault: dict[str, Any]) -> None:
    store = await place.open()
    before = STATES["polling"]
    aside = UnreadableOrder(8, "an old reason")
    await store.commit(SHOP, batch(state=before, known=[known_order(1)], set_aside=[aside]))
    bad = batch(
        *fault["rows"],
        state=replace(before, cursor_at=at(999)),
        known=fault.get("known", [known_order(1, "cancelled"), known_order(2)]),
        set_aside=[UnreadableOrder(9, "a new reason")],
        mended=[8],
    )
    with pytest.raises(THE_CAUSE):
        await store.commit(SHOP, bad)
    for _ in range(2):  # at once, and after a restart
        assert await store.register(SHOP, at(HOUR)) == before
        assert await store.known(SHOP, [1, 2, 3, 4]) == {1: known_order(1)}
        assert await store.set_aside(SHOP) == {8: "an old reason"}
        assert await store.next_due("A") is None
        assert await store.stats(SHOP) == Stats(known=1, set_aside=1)
        store = await place.open()


async def test_after_a_failed_commit_the_store_goes_on_working(store: Store) -> None:
    for n in range(3):
        with pytest.raises(THE_CAUSE):
            await put(store, unwritable())
        await put(store, new_deliveries("A", event_id=f"good {n}"))
        good = await claim_one(store)
        assert good.event_id == f"good {n}"
        await store.record_outcomes([Ack(good)], T0)


# --- orders that could not be read ------------------------------------------------------------------------


async def test_orders_are_set_aside_with_their_reason_until_they_are_mended(place: Place) -> None:
    store = await place.open()
    assert await store.set_aside(SHOP) == {}
    bad = [UnreadableOrder(n, f"причина {n}", modified_at=T0) for n in (1, 2, 3)]
    await store.commit(SHOP, batch(set_aside=bad))
    await store.commit(SHOP, batch(mended=[2]))
    store = await place.open()
    assert await store.set_aside(SHOP) == {1: "причина 1", 3: "причина 3"}


async def test_an_order_set_aside_again_has_its_newest_reason(store: Store) -> None:
    await store.commit(SHOP, batch(set_aside=[UnreadableOrder(1, "first")]))
    await store.commit(SHOP, batch(set_aside=[UnreadableOrder(1, "second")]))
    assert await store.set_aside(SHOP) == {1: "second"}


async def test_an_order_that_was_never_set_aside_can_be_mended(store: Store) -> None:
    await store.commit(SHOP, batch(mended={7, 8}))
    assert await store.set_aside(SHOP) == {}


async def test_orders_are_set_aside_for_their_shop_only(store: Store) -> None:
    await store.commit(SHOP, batch(set_aside=[UnreadableOrder(1, "here")]))
    await store.commit(OTHER_SHOP, batch(set_aside=[UnreadableOrder(1, "there")]))
    await store.commit(SHOP, batch(mended=[1]))
    assert await store.set_aside(SHOP) == {}
    assert await store.set_aside(OTHER_SHOP) == {1: "there"}


async def test_what_a_cancelled_task_was_committing_is_committed_or_not_but_never_half(store: Store) -> None:
    for n in range(1, 31):
        with anyio.move_on_after(0.0005 * (n % 4)):
            await store.commit(SHOP, batch(new_deliveries(key=f"{n}"), known=[known_order(n)]))
    found = await store.stats(SHOP)
    assert found.known == (found.sinks["A"].waiting if found.sinks else 0)


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


# --- importing while another process polls ------------------------------------------------------------------


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
