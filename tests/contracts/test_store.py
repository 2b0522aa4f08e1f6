"""What every store must do (ports.Store). Nothing in here knows how any one of them does it."""

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, TypeVar, cast

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.import_walk import ImportPosition, Phase
from shop_poller.core.model import Delivery, EventType, KnownOrder, UnreadableOrder
from shop_poller.ports import (
    Ack,
    Alert,
    MoveToDeadLetters,
    NewDelivery,
    Outcome,
    Release,
    Retry,
    ShopState,
    SinkStats,
    Stats,
    Store,
)
from shop_poller.stores.bounds import MAX_FINISHED
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
    new_delivery,
    notification,
    put,
)
from support.redis_server import REDIS
from support.stores import STORE_NAMES, STORES, Opener, Place, open_fakeredis

pytestmark = pytest.mark.anyio

OTHER_SHOP = "other.example"
HOUR = 3600.0
NEVER = datetime(2000, 1, 1, tzinfo=UTC)  # long before anything in these tests

T = TypeVar("T")


@pytest.fixture
async def store(place: Place) -> Store:
    return await place.open()


def unwritable() -> NewDelivery:
    """A row that no store can write: what a commit meets when it fails in the middle."""
    return replace(new_deliveries(key="unwritable"), body=object())  # type: ignore[arg-type] # that is the point


THE_CAUSE = (TypeError, AttributeError, TemporaryError, PermanentError)
"""What an unwritable row may be answered with: it is a bug of ours, which none of the ports speaks of."""


@pytest.mark.skipif(REDIS is None, reason="redis-server is not installed here; CI has it")
def test_the_suite_runs_on_redis_itself_too() -> None:
    assert "redis" in STORE_NAMES


# --- a shop's state ---------------------------------------------------------------------------------------


async def test_a_shop_never_heard_of_starts_its_life_now(store: Store) -> None:
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
    "learning what is open": ShopState(
        started_at=T0,
        baseline_at=at(-HOUR),
        cursor_at=at(1),
        import_position=ImportPosition(Phase.OPEN, at(-HOUR), 0),
    ),
    "learning what is completed": ShopState(
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
    await store.commit(SHOP, batch(state=STATES["learning what is open"]))
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
    "learned unpaid": KnownOrder(1, "pending", at(0)),
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


async def test_of_the_ids_asked_for_only_the_known_ones_are_answered(store: Store) -> None:
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


# --- claiming ---------------------------------------------------------------------------------------------


async def test_a_delivery_is_what_was_committed(store: Store) -> None:
    told = replace(notification("316"), event_type=EventType.CANCELLED, event_id="the id")
    await put(store, new_delivery("A", told), now=at(5))
    delivery = await claim_one(store, now=at(6))
    assert delivery == Delivery(
        seq=delivery.seq,
        shop_id=SHOP,
        sink="A",
        key="316",
        event_id="the id",
        event_type=EventType.CANCELLED,
        body=delivery.body,
        attempts=0,
        created_at=at(5),
        head_since=at(5),
    )
    assert json.loads(delivery.body) == json.loads(json.dumps(told.wire()))


async def test_text_comes_out_as_it_went_in(place: Place) -> None:
    text = "Заказ «№ 5» на 1 930,00 ₽ 🛒 \x00 \n \u2028 \\ \" ' ; -- %s"
    store = await place.open()
    await put(store, new_deliveries("синк", key="ключ", customer=text))
    store = await place.open()
    delivery = await claim_one(store, "синк")
    assert delivery.key == "ключ"
    assert json.loads(delivery.body)["data"]["customer"] == text


async def test_the_body_is_the_same_at_every_attempt(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(customer="Ольга"))
    first = await claim_one(store)
    await store.record_outcomes([Retry(first, at(1), "500", charged=True)], T0)
    second = await claim_one(store, now=at(1))
    store = await place.open()
    third = await claim_one(store, now=at(1))
    assert first.body == second.body == third.body
    assert first.seq == second.seq == third.seq


async def test_the_longest_due_comes_first_and_no_more_than_asked_for(store: Store) -> None:
    for n in (3, 1, 2):
        await put(store, new_deliveries(key=f"{n}", event_id=f"due {n}"), now=at(n))
    await put(
        store, new_deliveries(key="4", event_id="due 4"), new_deliveries(key="5", event_id="due 5"), now=at(4)
    )
    assert ids(await claim(store, now=at(9), limit=2)) == ["due 1", "due 2"]
    assert ids(await claim(store, now=at(9), limit=9)) == ["due 3", "due 4", "due 5"]
    assert await claim(store, now=at(9)) == []


async def test_nothing_is_claimed_of_an_empty_outbox(store: Store) -> None:
    assert await claim(store) == []
    assert await store.next_due("A") is None


async def test_only_the_oldest_of_a_key_can_be_claimed(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    await put(store, new_deliveries(event_id="third"), now=at(1))
    assert ids(await claim(store, now=at(9))) == ["first"]
    assert await claim(store, now=at(9)) == []


async def test_a_claim_is_exclusive(store: Store) -> None:
    await put(store, *(new_deliveries(key=f"{n}") for n in range(50)))
    taken: list[str] = []

    async def take() -> None:
        while some := await claim(store, limit=3):
            taken.extend(ids(some))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(take)
    assert len(taken) == len(set(taken)) == 50


async def test_taking_the_lease_anew_ends_the_claims_made_before(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(key="another", event_id="second"))
    claimed = await claim(store)
    assert await claim(store) == []
    await store.release()
    assert await store.take()
    assert sorted(ids(await claim(store))) == sorted(ids(claimed)) == ["first", "second"]


async def test_a_claim_ends_with_the_process_that_made_it(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    await put(store, new_deliveries(key="2", event_id="other"))
    assert ids(await claim(store)) == ["first", "other"]
    store = await place.open()
    assert ids(await claim(store)) == ["first", "other"]


# --- settling ---------------------------------------------------------------------------------------------


async def test_an_acknowledged_delivery_is_gone_and_the_next_of_its_key_comes(place: Place) -> None:
    store = await place.open()
    await put(
        store,
        new_deliveries(event_id="first"),
        new_deliveries(event_id="second"),
        new_deliveries(event_id="third"),
    )
    for event_id in ("first", "second", "third"):
        delivery = await claim_one(store)
        assert delivery.event_id == event_id
        await store.record_outcomes([Ack(delivery)], T0)
        store = await place.open()
    assert await claim(store) == []
    assert await store.stats(SHOP) == Stats()


async def test_a_dead_lettered_delivery_is_a_dead_letter_and_blocks_nothing(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store), "400: нет такого адреса")], T0)
    store = await place.open()
    assert (await claim_one(store)).event_id == "second"
    sink = (await store.stats(SHOP)).sinks["A"]
    assert (sink.waiting, sink.dead) == (1, 1)


@pytest.mark.parametrize(
    "finished", [Ack, lambda d: MoveToDeadLetters(d, "400")], ids=["acknowledged", "buried"]
)
async def test_the_age_of_a_delivery_counts_from_when_it_became_the_oldest_of_its_key(
    store: Store, finished: Callable[[Delivery], Outcome]
) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    await put(store, new_deliveries(event_id="third"), now=at(5))
    first = await claim_one(store, now=at(60))
    assert (first.created_at, first.head_since) == (T0, T0)
    await store.record_outcomes([finished(first)], at(60))
    second = await claim_one(store, now=at(61))
    assert (second.created_at, second.head_since) == (T0, at(60))
    await store.record_outcomes([finished(second)], at(62))
    third = await claim_one(store, now=at(63))
    assert (third.created_at, third.head_since) == (at(5), at(62))


async def test_a_key_that_had_been_emptied_begins_anew(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"))
    await store.record_outcomes([Ack(await claim_one(store))], at(1))
    await put(store, new_deliveries(event_id="second"), now=at(HOUR))
    assert (await claim_one(store, now=at(HOUR))).head_since == at(HOUR)


@pytest.mark.parametrize("charged", [True, False])
async def test_a_delivery_to_be_retried_is_parked_until_then(place: Place, charged: bool) -> None:  # noqa: FBT001 - a test's parameter
    store = await place.open()
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    delivery = await claim_one(store)
    await store.record_outcomes([Retry(delivery, at(30), "500: сломалось", charged=charged)], at(2))
    for _ in range(2):  # before and after a restart
        assert await claim(store, now=at(30) - MS) == []
        assert await store.next_due("A") == at(30)
        store = await place.open()
    again = await claim_one(store, now=at(30))
    assert again == replace(delivery, attempts=1 if charged else 0)


async def test_attempts_add_up_over_charged_failures_only(store: Store) -> None:
    await put(store, new_deliveries())
    for n, charged in enumerate([True, False, True, True, False]):
        delivery = await claim_one(store, now=at(n))
        await store.record_outcomes([Retry(delivery, at(n + 1), "500", charged=charged)], at(n))
    assert (await claim_one(store, now=at(9))).attempts == 3


async def test_a_released_delivery_is_anybodys_again_at_once(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    delivery = await claim_one(store)
    await store.record_outcomes([Release(delivery)], at(1))
    assert await store.next_due("A") == T0
    assert await claim_one(store) == delivery


async def test_many_deliveries_are_recorded_at_once_each_in_its_way(store: Store) -> None:
    for key in ("ack", "retry", "bury", "release"):
        await put(
            store, new_deliveries(key=key, event_id=f"{key} 1"), new_deliveries(key=key, event_id=f"{key} 2")
        )
    acked, retried, dead_lettered, released = await claim(store)
    retry = Retry(retried, at(9), "500", charged=True)
    await store.record_outcomes(
        [Ack(acked), retry, MoveToDeadLetters(dead_lettered, "400"), Release(released)], at(1)
    )
    assert sorted(ids(await claim(store, now=at(1)))) == ["ack 2", "bury 2", "release 1"]
    assert ids(await claim(store, now=at(9))) == ["retry 1"]


async def test_recording_nothing_is_fine(store: Store) -> None:
    await store.record_outcomes([], T0)


async def test_a_recording_that_fails_records_nothing_and_can_be_made_again(store: Store) -> None:
    await put(store, new_deliveries(key="1", event_id="1a"), new_deliveries(key="1", event_id="1b"))
    await put(store, new_deliveries(key="2", event_id="2a"))
    first, second = await claim(store)
    with pytest.raises(THE_CAUSE):
        await store.record_outcomes(
            [Ack(first), Retry(second, cast(datetime, "soon"), "500", charged=True)], at(1)
        )
    assert await claim(store, now=at(1)) == []  # both are still held, and nothing came forward
    await store.record_outcomes([Ack(first), Retry(second, at(5), "500", charged=True)], at(1))
    assert ids(await claim(store, now=at(5))) == ["1b", "2a"]


async def test_recording_twice_is_recording_once(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    first = await claim_one(store)
    await store.record_outcomes([Ack(first)], at(1))
    await store.record_outcomes([Ack(first)], at(60))
    await store.record_outcomes([MoveToDeadLetters(first, "too late")], at(61))
    second = await claim_one(store, now=at(62))
    assert (second.event_id, second.head_since) == ("second", at(1))
    assert (await store.stats(SHOP)).sinks["A"].dead == 0


# --- waking, and when to look again -----------------------------------------------------------------------


async def test_waking_makes_parked_deliveries_due_oldest_first(place: Place) -> None:
    store = await place.open()
    for n in range(4):
        await put(store, new_deliveries(key=f"{n}", event_id=f"{n}"), now=at(n))
    parked = await claim(store, now=at(10))
    later = [Retry(delivery, at(HOUR * (9 - n)), "down", charged=False) for n, delivery in enumerate(parked)]
    await store.record_outcomes(later, at(10))
    assert await claim(store, now=at(20)) == []
    await store.release_parked("A")
    assert await store.next_due("A") is not None
    store = await place.open()  # it lasts
    assert ids(await claim(store, now=at(20))) == ["0", "1", "2", "3"]


async def test_waking_one_sink_leaves_the_others_asleep(store: Store) -> None:
    await put(store, new_deliveries("A"), new_deliveries("B"))
    for sink in ("A", "B"):
        await store.record_outcomes(
            [Retry(await claim_one(store, sink), at(HOUR), "down", charged=False)], T0
        )
    await store.release_parked("A")
    assert len(await claim(store, "A", now=at(1))) == 1
    assert await claim(store, "B", now=at(1)) == []
    assert await store.next_due("B") == at(HOUR)


async def test_waking_does_not_end_a_claim(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    delivery = await claim_one(store)
    await store.release_parked("A")
    assert await claim(store) == []
    await store.record_outcomes([Retry(delivery, at(5), "500", charged=True)], T0)
    assert await store.next_due("A") == at(5)


async def test_next_due_speaks_of_unclaimed_deliveries_that_are_first_of_their_key(store: Store) -> None:
    await put(store, new_deliveries(key="1"), new_deliveries(key="1"), now=at(1))
    await put(store, new_deliveries(key="2"), now=at(2))
    assert await store.next_due("A") == at(1)
    assert await store.next_due("B") is None
    (first,) = await claim(store, now=at(9), limit=1)
    assert await store.next_due("A") == at(2)
    (second,) = await claim(store, now=at(9), limit=1)
    assert await store.next_due("A") is None
    await store.record_outcomes([Retry(second, at(HOUR), "500", charged=True), Ack(first)], at(9))
    promoted = await store.next_due("A")
    assert promoted is not None
    assert promoted <= at(9)


# --- burying what waited too long -------------------------------------------------------------------------


async def test_what_was_the_oldest_of_its_key_for_too_long_is_dead_lettered(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(key="old", event_id="old 1"), new_deliveries(key="old", event_id="old 2"))
    await put(store, new_deliveries(key="young", event_id="young"), now=at(60))
    assert await store.dead_letter_expired("A", head_before=at(30), now=at(100)) == 1
    store = await place.open()
    assert (await store.stats(SHOP)).sinks["A"].dead == 1
    heads = {delivery.event_id: delivery.head_since for delivery in await claim(store, now=at(100))}
    assert heads == {"young": at(60), "old 2": at(100)}  # as old as old 1, but first only since now


async def test_nothing_is_dead_lettered_that_is_young_claimed_or_of_another_sink(store: Store) -> None:
    await put(store, new_deliveries("A", "claimed"))
    await claim_one(store, "A")
    await put(store, new_deliveries("A", "young"), now=at(60))
    await put(store, new_deliveries("B", "old"))
    assert await store.dead_letter_expired("A", head_before=at(30), now=at(100)) == 0
    assert await store.dead_letter_expired("C", head_before=at(30), now=at(100)) == 0
    assert {name: sink.dead for name, sink in (await store.stats(SHOP)).sinks.items()} == {"A": 0, "B": 0}


@pytest.mark.parametrize(("became_head_at", "dead"), [(29.999, 1), (30, 1), (30.001, 0)])
async def test_a_delivery_is_too_old_from_the_very_instant_on(
    store: Store, became_head_at: float, dead: int
) -> None:
    await put(store, new_deliveries(), now=at(became_head_at))
    assert await store.dead_letter_expired("A", head_before=at(30), now=at(100)) == dead


async def test_a_parked_delivery_is_dead_lettered_when_it_waited_too_long(store: Store) -> None:
    await put(store, new_deliveries())
    await store.record_outcomes([Retry(await claim_one(store), at(9 * HOUR), "500", charged=True)], at(1))
    assert await store.dead_letter_expired("A", head_before=at(30), now=at(100)) == 1
    assert await store.next_due("A") is None


async def test_waking_and_retrying_do_not_make_a_delivery_young_again(store: Store) -> None:
    await put(store, new_deliveries())
    await store.record_outcomes([Retry(await claim_one(store), at(50), "500", charged=True)], at(20))
    await store.release_parked("A")
    await store.record_outcomes([Release(await claim_one(store, now=at(60)))], at(60))
    assert await store.dead_letter_expired("A", head_before=at(1), now=at(100)) == 1


async def test_a_bounded_number_is_dead_lettered_at_once(store: Store) -> None:
    await put(store, *(new_deliveries(key=f"{n}") for n in range(3_000)))
    rounds = []
    while dead_lettered := await store.dead_letter_expired("A", head_before=at(1), now=at(100)):
        rounds.append(dead_lettered)
    assert sum(rounds) == 3_000
    assert max(rounds) <= 1_000
    assert (await store.stats(SHOP)).sinks["A"].dead == 3_000


# --- independence -----------------------------------------------------------------------------------------


async def test_a_sink_that_fails_holds_up_no_other(store: Store) -> None:
    for n in range(3):
        await put(store, new_deliveries("A", event_id=f"{n}"), new_deliveries("B", event_id=f"{n}"))
    await store.record_outcomes([Retry(await claim_one(store, "A"), at(HOUR), "down", charged=False)], T0)
    for n in range(3):
        delivery = await claim_one(store, "B")
        assert delivery.event_id == f"{n}"
        await store.record_outcomes([Ack(delivery)], T0)
    assert await claim(store, "A", now=at(1)) == []
    sinks = (await store.stats(SHOP)).sinks
    assert sinks["A"].waiting == 3
    assert "B" not in sinks or sinks["B"].waiting == 0


async def test_the_same_key_in_two_shops_is_two_keys(store: Store) -> None:
    await put(store, new_deliveries(event_id="here 1"), new_deliveries(event_id="here 2"))
    await put(
        store, new_deliveries(event_id="there 1"), new_deliveries(event_id="there 2"), shop_id=OTHER_SHOP
    )
    here, there = await claim(store)
    assert (here.shop_id, here.event_id) == (SHOP, "here 1")
    assert (there.shop_id, there.event_id) == (OTHER_SHOP, "there 1")
    await store.record_outcomes([Ack(there)], at(1))
    (promoted,) = await claim(store, now=at(1))
    assert (promoted.event_id, promoted.head_since) == ("there 2", at(1))
    await store.record_outcomes([MoveToDeadLetters(here, "400")], at(2))
    (promoted,) = await claim(store, now=at(2))
    assert (promoted.event_id, promoted.head_since) == ("here 2", at(2))
    assert (await store.stats(SHOP)).sinks["A"].dead == 1
    assert (await store.stats(OTHER_SHOP)).sinks["A"].dead == 0


async def test_thousands_of_rows_are_claimed_in_handfuls_and_all_arrive_in_order(store: Store) -> None:
    keys = [f"{n}" for n in range(100)]
    rows = [new_deliveries(key=key, event_id=f"{key}/{n:02}") for n in range(25) for key in keys]
    await put(store, *rows)
    arrived: dict[str, list[str]] = {key: [] for key in keys}
    while some := await claim(store, now=at(1), limit=64):
        assert len(some) <= 64
        assert await store.renew()  # it may take longer than a lease on a machine that is busy
        for delivery in some:
            arrived[delivery.key].append(delivery.event_id)
        await store.record_outcomes([Ack(delivery) for delivery in some], at(1))
    assert arrived == {key: [f"{key}/{n:02}" for n in range(25)] for key in keys}


# --- counting and pruning ---------------------------------------------------------------------------------


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
    await put(
        store, new_deliveries(key="claimed"), new_deliveries(key="parked"), new_deliveries(key="buried")
    )
    _, parked, dead_lettered = await claim(store)
    await store.record_outcomes(
        [Retry(parked, at(HOUR), "500", charged=True), MoveToDeadLetters(dead_lettered, "400")], T0
    )
    sink = (await store.stats(SHOP)).sinks["A"]
    assert (sink.waiting, sink.oldest_at, sink.dead) == (2, T0, 1)


async def prune_all(store: Store, *, seen_before: datetime = NEVER, finished_before: datetime = NEVER) -> int:
    """Prune until nothing is dropped any more, each time a bounded number."""
    total = 0
    while dropped := await store.prune(SHOP, seen_before=seen_before, finished_before=finished_before):
        assert dropped <= 5_000
        assert await store.renew(), "see test_dead_letters_are_bounded_in_number"
        total += dropped
    return total


async def test_records_are_dropped_by_when_they_last_changed(store: Store) -> None:
    await store.commit(SHOP, batch(seen_at=at(10), known=[known_order(1), known_order(2)]))
    await store.commit(OTHER_SHOP, batch(seen_at=at(10), known=[known_order(1)]))
    await store.commit(SHOP, batch(seen_at=at(20), known=[known_order(2), known_order(3)]))
    assert await prune_all(store, seen_before=at(15)) == 1
    assert set(await store.known(SHOP, [1, 2, 3])) == {2, 3}
    assert set(await store.known(OTHER_SHOP, [1])) == {1}


async def test_orders_set_aside_are_dropped_by_when_they_were_seen_last(store: Store) -> None:
    for seconds, order_ids in ((10, [1, 2]), (20, [2, 3])):
        aside = [UnreadableOrder(order_id, "half an order") for order_id in order_ids]
        await store.commit(SHOP, batch(now=at(seconds), set_aside=aside))
    await store.commit(OTHER_SHOP, batch(now=at(10), set_aside=[UnreadableOrder(1, "half an order")]))
    assert await prune_all(store, seen_before=at(15)) == 1
    assert set(await store.set_aside(SHOP)) == {2, 3}
    assert set(await store.set_aside(OTHER_SHOP)) == {1}


async def test_a_great_many_records_are_dropped_a_bounded_number_at_a_time(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(1, 7_001)]))
    assert await prune_all(store, seen_before=at(15)) == 7_000
    assert (await store.stats(SHOP)).known == 0


async def test_dead_letters_are_dropped_by_when_they_were_dead_lettered(store: Store) -> None:
    for n in range(4):
        await put(store, new_deliveries(key=f"{n}"))
        await store.record_outcomes([MoveToDeadLetters(await claim_one(store), "400")], at(10 * n))
    assert await prune_all(store, finished_before=at(15)) == 2
    assert (await store.stats(SHOP)).sinks["A"].dead == 2


async def test_dead_letters_are_bounded_in_number(
    store: Store, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bound = MAX_FINISHED
    if request.node.callspec.params["place"] is open_fakeredis:
        bound = (
            1_000  # it takes seconds for ten thousand; the servers have the same script, and the real bound
        )
        monkeypatch.setattr("shop_poller.stores.redis.outbox.MAX_FINISHED", bound)
    assert MAX_FINISHED == 10_000
    await put(store, *(new_deliveries(key=f"{n}") for n in range(bound + 300)))
    await put(store, *(new_deliveries(key=f"{n}") for n in range(200)), shop_id=OTHER_SHOP)
    while await store.dead_letter_expired("A", head_before=at(1), now=at(100)):
        assert await store.renew(), "on a busy machine it all takes longer than a lease"
    assert (await store.stats(SHOP)).sinks["A"].dead == bound, "the bound holds without any pruning"
    assert await prune_all(store) == 0
    assert (await store.stats(OTHER_SHOP)).sinks["A"].dead == 200


@pytest.mark.parametrize("dead", [True, False])
async def test_a_sink_with_a_long_history_takes_no_room_of_another(
    store: Store, *, dead: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("sqlite.history", "redis.outbox"):
        monkeypatch.setattr(f"shop_poller.stores.{module}.MAX_FINISHED", 3)
    await put(store, *(new_deliveries("A", f"{n}") for n in range(3)))
    await put(store, *(new_deliveries("B", f"{n}") for n in range(9)))
    claimed = [*await claim(store, "A"), *await claim(store, "B")]
    for second, one in enumerate(sorted(claimed, key=lambda one: one.seq)):
        await store.record_outcomes([MoveToDeadLetters(one, "400") if dead else Ack(one)], at(second))
    assert await prune_all(store) == 0, "what is too much was dropped as it came"
    kept = await store.finished(SHOP, dead=dead, limit=99)
    assert [(one.sink, one.key) for one in kept] == [
        *(("B", f"{n}") for n in (8, 7, 6)),
        *(("A", f"{n}") for n in (2, 1, 0)),
    ]


def bound_histories(monkeypatch: pytest.MonkeyPatch, *, most: int, step: int) -> None:
    for module in ("sqlite.history", "redis.outbox"):
        monkeypatch.setattr(f"shop_poller.stores.{module}.MAX_FINISHED", most)
        monkeypatch.setattr(f"shop_poller.stores.{module}.PRUNE_LIMIT", step)


async def over(store: Store, *, dead: bool) -> list[str]:
    return [one.key for one in await store.finished(SHOP, dead=dead, limit=999)]


@pytest.mark.parametrize("dead", [True, False])
@pytest.mark.parametrize("at_once", [1, 7, 60])
async def test_a_history_never_grows_beyond_its_bound_however_much_is_written(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, dead: bool, at_once: int
) -> None:
    bound_histories(monkeypatch, most=20, step=1000)
    for start in range(0, 60, at_once):
        keys = [f"{n}" for n in range(start, min(start + at_once, 60))]
        await put(store, *(new_deliveries(key=key) for key in keys))
        taken = sorted(await claim(store), key=lambda one: one.seq)
        await store.record_outcomes(
            [MoveToDeadLetters(one, "400") if dead else Ack(one) for one in taken], at(start)
        )
        assert len(await over(store, dead=dead)) == min(20, start + len(keys))
    if at_once < 20:  # of those that were over at the same instant none is older
        assert sorted(map(int, await over(store, dead=dead))) == [*range(40, 60)]
    if not dead:
        made = await store.delivered(SHOP, since=at(-1), before=at(999))
        assert all(one.kept for one in made)


@pytest.mark.parametrize("dead", [True, False])
async def test_a_history_that_is_too_long_shrinks_in_bounded_steps(
    store: Store, monkeypatch: pytest.MonkeyPatch, *, dead: bool
) -> None:
    """As an earlier version left it, which dropped a thousand an hour."""
    bound_histories(monkeypatch, most=10**6, step=7)
    await put(store, *(new_deliveries(key=f"{n}") for n in range(60)))
    taken = sorted(await claim(store), key=lambda one: one.seq)
    await store.record_outcomes(
        [MoveToDeadLetters(one, "400") if dead else Ack(one) for one in taken[:58]], at(1)
    )
    bound_histories(monkeypatch, most=10, step=7)
    await store.record_outcomes(
        [MoveToDeadLetters(one, "400") if dead else Ack(one) for one in taken[58:]], at(2)
    )
    assert len(await over(store, dead=dead)) == 56, "two for each that came"
    steps = []
    while dropped := await store.prune(SHOP, seen_before=T0, finished_before=T0):
        steps.append(dropped)
    assert max(steps) <= 7
    assert sum(steps) == 46
    assert len(await over(store, dead=dead)) == 10
    assert {"58", "59"} <= {*await over(store, dead=dead)}


async def test_orders_set_aside_are_dropped_a_bounded_number_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("sqlite.orders", "redis.shops"):
        monkeypatch.setattr(f"shop_poller.stores.{name}.PRUNE_LIMIT", 100)
    aside = [UnreadableOrder(order_id, "half an order") for order_id in range(1, 3_001)]
    await store.commit(SHOP, batch(now=at(1), set_aside=aside))
    steps = []
    while dropped := await store.prune(SHOP, seen_before=at(15), finished_before=T0):
        steps.append(dropped)
    assert sum(steps) == 3_000
    assert max(steps) <= 1_000, "a part of a scan may be more than asked for"


async def test_waking_many_is_done_in_bounded_steps(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("sqlite.outbox", "redis.outbox"):
        monkeypatch.setattr(f"shop_poller.stores.{name}.RELEASE_LIMIT", 100)
    monkeypatch.setattr("shop_poller.stores.redis.outbox.CHUNK", 50)
    await put(store, *(new_deliveries(key=f"{n}") for n in range(600)))
    taken = await claim(store, limit=600)
    await store.record_outcomes([Retry(one, at(HOUR), "down", charged=False) for one in taken], at(1))
    steps = 1
    while await store.release_parked("A"):
        steps += 1
    assert steps >= 3
    assert len(await claim(store, now=at(2), limit=999)) == 600


# --- clocks that were wrong ---------------------------------------------------------------------------------

DAY = 24 * HOUR


async def due_at(store: Store) -> datetime:
    found = await store.next_due("A")
    assert found is not None
    return found


@pytest.mark.parametrize("days", [2, 400, 3650])
async def test_what_is_due_later_than_can_be_is_due_now(store: Store, days: int) -> None:
    """A clock that was days ahead for seconds parked it."""
    await put(store, new_deliveries(key="parked"), new_deliveries(key="usual"))
    parked, usual = await claim(store)
    await store.record_outcomes(
        [Retry(parked, at(days * DAY), "500", charged=True), Retry(usual, at(60), "500", charged=True)], T0
    )
    assert [one.key for one in await claim(store, now=at(1))] == ["parked"]
    assert [one.key for one in await claim(store, now=at(60))] == ["usual"]


async def test_the_longest_wait_that_a_sink_may_ask_for_is_kept(store: Store) -> None:
    await put(store, new_deliveries())
    await store.record_outcomes([Retry(await claim_one(store), at(DAY), "429", charged=True)], T0)
    assert await claim(store, now=T0) == []
    assert await claim(store, now=at(DAY) - MS) == []
    assert len(await claim(store, now=at(DAY))) == 1


async def test_what_is_due_goes_before_what_cannot_be(store: Store) -> None:
    await put(store, new_deliveries(key="of the future"), now=at(3 * DAY))
    await put(store, *(new_deliveries(key=f"{n}") for n in range(3)))
    assert [one.key for one in await claim(store, now=at(1), limit=2)] == ["0", "1"]
    assert [one.key for one in await claim(store, now=at(1), limit=2)] == ["2", "of the future"]


async def test_due_times_are_clamped_a_bounded_number_at_a_time(store: Store) -> None:
    await put(store, *(new_deliveries(key=f"{n}") for n in range(1_200)), now=at(3 * HOUR))
    await put(store, new_deliveries("B", "another sink"), now=at(3 * HOUR))
    moved = []
    while some := await store.clamp_due("A", latest=at(60)):
        moved.append(some)
    assert sum(moved) == 1_200
    assert max(moved) <= 1_000
    assert await due_at(store) == at(60)
    assert len(await claim(store, now=at(60), limit=2_000)) == 1_200
    assert await store.next_due("B") == at(3 * HOUR)


async def test_clamping_makes_nothing_due_later(store: Store) -> None:
    await put(store, new_deliveries())
    assert await store.clamp_due("A", latest=at(HOUR)) == 0
    assert await due_at(store) == T0


async def test_a_delivery_is_not_older_than_its_notification(store: Store) -> None:
    """A clock that was a year behind dated the row, and the shop the notification."""
    await put(store, new_deliveries(), now=at(-400 * DAY))
    assert await store.dead_letter_expired("A", head_before=at(-1), now=at(0)) == 0
    assert (await claim_one(store)).waits_since(at(1)) == T0
    await store.release()
    assert await store.take()
    assert await store.dead_letter_expired("A", head_before=at(1), now=at(60)) == 1


async def test_an_age_does_not_begin_in_the_future(store: Store) -> None:
    """Made by a clock that was ahead, it would never be too old."""
    await put(store, new_deliveries(), now=at(400 * DAY))
    await store.clamp_due("A", latest=T0)
    (one,) = await claim(store, now=T0)
    assert one.head_since == T0
    await store.record_outcomes([Retry(one, at(60), "503", charged=False)], T0)
    assert await store.dead_letter_expired("A", head_before=T0 - MS, now=at(1)) == 0
    assert await store.dead_letter_expired("A", head_before=T0, now=at(72 * HOUR)) == 1


async def test_what_follows_a_delivery_and_was_made_by_a_clock_that_was_ahead_is_due(store: Store) -> None:
    await put(store, new_deliveries(key="7", event_id="first"))
    await put(store, new_deliveries(key="7", event_id="second"), now=at(3 * HOUR))
    await store.record_outcomes([Ack(await claim_one(store))], at(1))
    (second,) = await claim(store, now=at(1))
    assert (second.event_id, second.head_since) == ("second", at(1))


async def test_what_is_dated_in_the_future_is_dated_back_and_then_kept_as_long_as_all(store: Store) -> None:
    future = at(400 * DAY)
    for key, when in (("past", at(1)), ("future", future)):
        await put(store, new_deliveries(key=key), new_deliveries(key=f"{key} dead"))
        good, bad = await claim(store)
        await store.record_outcomes([Ack(good), MoveToDeadLetters(bad, "400")], when)
    aside = [UnreadableOrder(9, "half an order")]
    await store.commit(SHOP, batch(now=future, seen_at=future, known=[known_order(1)], set_aside=aside))
    await store.commit(SHOP, batch(seen_at=at(1), known=[known_order(2)]))
    assert await store.redate(SHOP, after=at(DAY), to=at(10)) == 4
    assert await store.redate(SHOP, after=at(DAY), to=at(10)) == 0
    for dead in (True, False):
        over = await store.finished(SHOP, dead=dead, limit=9)
        assert [one.at for one in over] == [at(10), at(1)]
    assert await store.set_aside(SHOP) == {9: "half an order"}
    assert await prune_all(store, seen_before=at(5), finished_before=at(5)) == 3
    assert await prune_all(store, seen_before=at(11), finished_before=at(11)) == 4


async def test_a_dead_letter_that_was_dated_back_can_be_replayed(store: Store) -> None:
    await put(store, new_deliveries(event_id="x"))
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store), "400")], at(400 * DAY))
    await store.redate(SHOP, after=at(DAY), to=at(10))
    (seq,) = await store.dead_ids(SHOP)
    letter = await store.dead_letter(SHOP, seq)
    assert letter is not None
    assert (letter.over.at, json.loads(letter.body)["event_id"]) == (at(10), "x")
    assert await store.replay_concurrently(SHOP, [seq], at(20)) == 1
    assert (await store.stats(SHOP)).sinks["A"].dead == 0


async def test_pruning_never_touches_what_is_still_to_be_delivered(store: Store) -> None:
    await put(store, new_deliveries(event_id="old"))
    state = await store.register(SHOP, T0)
    assert await prune_all(store, seen_before=at(9 * HOUR), finished_before=at(9 * HOUR)) == 0
    assert (await claim_one(store)).event_id == "old"
    assert await store.register(SHOP, at(1)) == state


async def test_what_was_delivered_and_what_was_given_up_is_remembered(place: Place) -> None:
    store = await place.open()
    for n in range(4):
        await put(store, new_deliveries("A", f"{n}", f"event {n}"), new_deliveries("B", f"{n}", f"event {n}"))
        mine = await claim_one(store)
        other = await claim_one(store, "B")
        await store.record_outcomes([Retry(mine, T0, "500", charged=True)], T0)
        mine = await claim_one(store)
        await store.record_outcomes(
            [Ack(mine) if n % 2 else MoveToDeadLetters(mine, f"reason {n}"), Ack(other)], at(n)
        )
    store = await place.open()

    made = await store.finished(SHOP, dead=False, limit=3)
    assert [(one.sink, one.event_id, one.at, one.attempts) for one in made if one.sink == "A"] == [
        ("A", "event 3", at(3), 1)
    ]
    assert [one.at for one in made] == [at(3), at(3), at(2)]
    dead_lettered = await store.finished(SHOP, dead=True, limit=9)
    assert [(one.key, one.reason, one.at) for one in dead_lettered] == [
        ("2", "reason 2", at(2)),
        ("0", "reason 0", T0),
    ]
    assert await store.finished(OTHER_SHOP, dead=True, limit=9) == []

    assert await prune_all(store, finished_before=at(2)) == 1 + 3
    assert {one.at for one in await store.finished(SHOP, dead=False, limit=9)} == {at(2), at(3)}
    assert [one.key for one in await store.finished(SHOP, dead=True, limit=9)] == ["2"]


async def test_what_is_over_is_counted_by_the_hour(store: Store) -> None:
    now = at(5 * HOUR)
    over = [
        ("A", at(2 * HOUR) - MS, False),  # a moment before the first of the three hours
        ("A", at(2 * HOUR), False),
        ("B", at(3 * HOUR) - MS, False),
        ("A", at(3 * HOUR), True),
        ("A", at(4 * HOUR), False),
        ("A", now - MS, False),
        ("A", now, False),  # a moment too late
    ]
    for n, (sink, when, dies) in enumerate(over):
        await put(store, new_deliveries(sink, f"{n}", f"event {n}"))
        one = await claim_one(store, sink)
        await store.record_outcomes([MoveToDeadLetters(one, "400") if dies else Ack(one)], when)

    made = await store.by_the_hour(SHOP, dead=False, before=now, hours=3)
    dead_lettered = await store.by_the_hour(SHOP, dead=True, before=now, hours=3)

    assert (made, dead_lettered) == ([2, 0, 2], [0, 1, 0])
    assert await store.by_the_hour(OTHER_SHOP, dead=False, before=now, hours=2) == [0, 0]


# --- alerts -----------------------------------------------------------------------------------------------

ALERT = Alert("woocommerce", ErrorKind.AUTHENTICATION, at(-60))


async def test_an_alert_is_remembered_together_with_its_notifications(place: Place) -> None:
    store = await place.open()
    assert await store.alerts(SHOP) == {}
    rows = [new_deliveries("A", event_id="down"), new_deliveries("B", event_id="down")]
    await store.raise_alert(SHOP, ALERT, rows, at(1))
    store = await place.open()
    assert await store.alerts(SHOP) == {"woocommerce": ALERT}
    assert await store.alerts(OTHER_SHOP) == {}
    for sink in ("A", "B"):
        delivery = await claim_one(store, sink, now=at(1))
        assert (delivery.event_id, delivery.created_at) == ("down", at(1))


async def test_an_alert_is_forgotten_together_with_its_end(place: Place) -> None:
    store = await place.open()
    await store.raise_alert(SHOP, ALERT, [new_deliveries(event_id="down")], at(1))
    await store.raise_alert(SHOP, replace(ALERT, service="A"), [], at(1))
    await store.clear_alert(SHOP, "woocommerce", [new_deliveries(event_id="up")], at(2))
    store = await place.open()
    assert set(await store.alerts(SHOP)) == {"A"}
    await store.record_outcomes([Ack(await claim_one(store, now=at(9)))], at(9))
    assert (await claim_one(store, now=at(9))).event_id == "up"


async def test_an_alert_raised_again_is_one_alert(store: Store) -> None:
    await store.raise_alert(SHOP, ALERT, [], T0)
    await store.raise_alert(SHOP, replace(ALERT, cause=ErrorKind.TIMEOUT), [], T0)
    assert await store.alerts(SHOP) == {"woocommerce": replace(ALERT, cause=ErrorKind.TIMEOUT)}


async def test_an_alert_that_is_asked_for_once_more_is_told_once(store: Store) -> None:
    """Its answer was lost: the daemon cannot know that it was stored."""
    for _ in range(2):
        await store.raise_alert(SHOP, ALERT, [new_deliveries(event_id="down")], at(1))
    for _ in range(2):
        await store.clear_alert(SHOP, "woocommerce", [new_deliveries(event_id="up")], at(2))
    told = []
    for second in range(3, 9):
        for delivery in await store.claim("A", now=at(second), limit=9):
            told.append(delivery.event_id)
            await store.record_outcomes([Ack(delivery)], at(second))
    assert told == ["down", "up"]


async def test_an_alert_that_was_not_raised_can_be_cleared(store: Store) -> None:
    await store.clear_alert(SHOP, "woocommerce", [], T0)
    assert await store.alerts(SHOP) == {}


async def test_two_shops_have_each_their_own_alerts(store: Store) -> None:
    await store.raise_alert(SHOP, ALERT, [], T0)
    await store.raise_alert(OTHER_SHOP, ALERT, [], T0)
    await store.clear_alert(SHOP, "woocommerce", [], T0)
    assert await store.alerts(SHOP) == {}
    assert await store.alerts(OTHER_SHOP) == {"woocommerce": ALERT}


async def test_an_alert_and_its_notifications_are_written_both_or_neither(store: Store) -> None:
    rows: Sequence[NewDelivery] = [new_deliveries(event_id="good"), unwritable()]
    with pytest.raises(THE_CAUSE):
        await store.raise_alert(SHOP, ALERT, rows, T0)
    assert await store.alerts(SHOP) == {}
    assert await claim(store) == []
    await store.raise_alert(SHOP, ALERT, [], T0)
    with pytest.raises(THE_CAUSE):
        await store.clear_alert(SHOP, "woocommerce", rows, T0)
    assert await store.alerts(SHOP) == {"woocommerce": ALERT}
    assert await claim(store) == []


# --- the end ----------------------------------------------------------------------------------------------


async def test_a_store_may_be_closed_twice_and_is_of_no_use_then(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(event_id="kept"))
    await store.aclose()
    await store.aclose()
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await claim(store)
    assert caught.value.kind is ErrorKind.STORE
    store = await place.open()
    await store.aclose()
    store = await place.open()
    assert (await claim_one(store)).event_id == "kept"


async def test_what_a_cancelled_task_was_committing_is_committed_or_not_but_never_half(store: Store) -> None:
    for n in range(1, 31):
        with anyio.move_on_after(0.0005 * (n % 4)):
            await store.commit(SHOP, batch(new_deliveries(key=f"{n}"), known=[known_order(n)]))
    found = await store.stats(SHOP)
    assert found.known == (found.sinks["A"].waiting if found.sinks else 0)


# --- the outbox against a model of it ---------------------------------------------------------------------


@dataclass
class Row:
    """A row of the model."""

    event_id: str
    created_at: datetime
    due_at: datetime
    head_since: datetime | None = None
    attempts: int = 0
    held: Delivery | None = None


Key = tuple[str, str, str]  # shop, sink, key


class Outbox(RuleBasedStateMachine):
    """An outbox is a list a (shop, sink, key): only its first can be had, and by one at a time."""

    shops = st.sampled_from([SHOP, OTHER_SHOP])
    sinks = st.sampled_from(["A", "B"])
    keys = st.sampled_from(["1", "2", "3"])
    seconds = st.integers(0, 3)
    picks = st.lists(st.integers(0, 11), min_size=1, max_size=4)
    something_is_claimed = precondition(lambda self: bool(self.claimed()))

    opener: ClassVar[Opener]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.folder = TemporaryDirectory(prefix="outbox-")
        self.place = Place(type(self).opener, Path(self.folder.name))
        self.store = self.run(self.place.open())
        self.now = T0
        self.rows: dict[Key, list[Row]] = {}
        self.gone: dict[Key, list[str]] = {}
        self.dead: Counter[tuple[str, str]] = Counter()
        self.made = 0

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def heads(self, sink: str) -> list[tuple[Key, Row]]:
        """The first of each key of a sink, if nobody has it."""
        lists = ((key, rows[0]) for key, rows in self.rows.items() if key[1] == sink and rows)
        return [(key, row) for key, row in lists if row.held is None]

    def leave(self, key: Key) -> None:
        """The first of a key leaves the outbox."""
        rows = self.rows[key]
        self.gone.setdefault(key, []).append(rows.pop(0).event_id)
        if rows:
            rows[0].head_since = self.now

    def claimed(self) -> list[tuple[Key, Row, Delivery]]:
        """Those that are claimed now."""
        firsts = ((key, rows[0]) for key, rows in self.rows.items() if rows)
        return [(key, row, row.held) for key, row in firsts if row.held is not None]

    def held(self, picks: list[int]) -> list[tuple[Key, Row, Delivery]]:
        """Some of those that are claimed now."""
        claimed = self.claimed()
        return [claimed[pick] for pick in dict.fromkeys(pick % len(claimed) for pick in picks)]

    @rule(shop=shops, key=keys, to=st.sets(sinks, min_size=1), times=st.integers(1, 2))
    def insert(self, shop: str, key: str, to: set[str], times: int) -> None:
        rows = []
        for _ in range(times):
            self.made += 1
            for sink in sorted(to):
                rows.append(new_deliveries(sink, key, event_id=f"{self.made}"))
                mine = self.rows.setdefault((shop, sink, key), [])
                mine.append(Row(f"{self.made}", self.now, self.now, None if mine else self.now))
        self.run(put(self.store, *rows, now=self.now, shop_id=shop))

    @rule(seconds=seconds)
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(sink=sinks, limit=st.integers(1, 4))
    def claim(self, sink: str, limit: int) -> None:
        due = {(*key, row.event_id): row for key, row in self.heads(sink) if row.due_at <= self.now}
        taken = self.run(self.store.claim(sink, now=self.now, limit=limit))
        assert len(taken) == min(limit, len(due))
        for delivery in taken:
            row = due.pop((delivery.shop_id, delivery.sink, delivery.key, delivery.event_id))
            assert (delivery.attempts, delivery.created_at) == (row.attempts, row.created_at)
            assert delivery.head_since == row.head_since
            assert all(row.due_at <= other.due_at for other in due.values())  # the longest due first
            row.held = delivery

    @something_is_claimed
    @rule(picks=picks)
    def acknowledge(self, picks: list[int]) -> None:
        done = self.held(picks)
        self.run(self.store.record_outcomes([Ack(delivery) for _, _, delivery in done], self.now))
        for key, _, _ in done:
            self.leave(key)

    @something_is_claimed
    @rule(picks=picks)
    def move_to_dead_letters(self, picks: list[int]) -> None:
        done = self.held(picks)
        self.run(
            self.store.record_outcomes(
                [MoveToDeadLetters(delivery, "400") for _, _, delivery in done], self.now
            )
        )
        for key, _, _ in done:
            self.dead[key[:2]] += 1
            self.leave(key)

    @something_is_claimed
    @rule(picks=picks, seconds=seconds, charged=st.booleans())
    def retry_later(self, picks: list[int], seconds: int, *, charged: bool) -> None:
        due_at = self.now + timedelta(seconds=seconds)
        done = self.held(picks)
        outcomes = [Retry(delivery, due_at, "500", charged=charged) for _, _, delivery in done]
        self.run(self.store.record_outcomes(outcomes, self.now))
        for _, row, _ in done:
            row.held, row.due_at, row.attempts = None, due_at, row.attempts + charged

    @something_is_claimed
    @rule(picks=picks)
    def release(self, picks: list[int]) -> None:
        done = self.held(picks)
        self.run(self.store.record_outcomes([Release(delivery) for _, _, delivery in done], self.now))
        for _, row, _ in done:
            row.held = None

    @rule(sink=sinks)
    def release_parked(self, sink: str) -> None:
        self.run(self.store.release_parked(sink))
        for (_, of, _), rows in self.rows.items():
            for row in rows:
                if of == sink:
                    row.due_at = min(row.due_at, row.created_at)

    @rule(sink=sinks, seconds=st.integers(1, 9))
    def dead_letter_expired(self, sink: str, seconds: int) -> None:
        before = self.now - timedelta(seconds=seconds)
        expired = [key for key, row in self.heads(sink) if row.head_since and row.head_since <= before]
        dead_lettered = self.run(self.store.dead_letter_expired(sink, head_before=before, now=self.now))
        assert dead_lettered == len(expired)
        for key in expired:
            self.dead[key[:2]] += 1
            self.leave(key)

    @rule()
    def reopen(self) -> None:
        """As after kill -9: all claims are void, and nothing else."""
        self.store = self.run(self.place.open())
        for rows in self.rows.values():
            for row in rows:
                row.held = None

    @invariant()
    def everything_is_counted(self) -> None:
        for shop in (SHOP, OTHER_SHOP):
            found = self.run(self.store.stats(shop)).sinks
            for sink in ("A", "B"):
                rows = [row for key, own in self.rows.items() if key[:2] == (shop, sink) for row in own]
                count = found.get(sink, SinkStats())
                assert (count.waiting, count.dead) == (len(rows), self.dead[shop, sink])
                assert count.oldest_at == min((row.created_at for row in rows), default=None)

    @invariant()
    def the_next_is_due_when_it_is(self) -> None:
        for sink in ("A", "B"):
            due = min((row.due_at for _, row in self.heads(sink)), default=None)
            assert self.run(self.store.next_due(sink)) == due

    def teardown(self) -> None:
        """What is left comes out, each key in its order: nothing was lost, nothing comes twice."""
        try:
            self.reopen()
            left: dict[Key, list[str]] = {}
            while taken := [
                delivery
                for sink in ("A", "B")
                for delivery in self.run(self.store.claim(sink, now=at(9 * HOUR), limit=2))
            ]:
                for delivery in taken:
                    key = (delivery.shop_id, delivery.sink, delivery.key)
                    left.setdefault(key, []).append(delivery.event_id)
                self.run(self.store.record_outcomes([Ack(delivery) for delivery in taken], self.now))
            for key, rows in self.rows.items():
                assert left.pop(key, []) == [row.event_id for row in rows]
                numbers = [int(event_id) for event_id in self.gone.get(key, [])]
                assert numbers == sorted(set(numbers))
            assert not left
        finally:
            self.run(self.place.leave())
            self.runner.close()
            self.folder.cleanup()


@pytest.mark.parametrize("opener", STORES, ids=STORE_NAMES)
@pytest.mark.parametrize("examples", [10, pytest.param(300, marks=pytest.mark.soak)])
def test_the_outbox_behaves_like_a_list_for_every_key(opener: Opener, examples: int) -> None:
    machine = type("OutboxOfThisStore", (Outbox,), {"opener": staticmethod(opener)})
    run_state_machine_as_test(
        machine, settings=settings(max_examples=examples, stateful_step_count=40, deadline=None)
    )
