"""The contract of ports.Outbox: what every store must do. Nothing in here knows how one does it."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
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

from shop_poller.core.model import Delivery, EventType
from shop_poller.ports import (
    Ack,
    MoveToDeadLetters,
    Outcome,
    Release,
    Retry,
    SinkStats,
    Stats,
    Store,
)
from support.deliveries import (
    MS,
    SHOP,
    T0,
    at,
    claim,
    claim_one,
    ids,
    new_deliveries,
    new_delivery,
    notification,
    put,
)
from support.store_suite import DAY, HOUR, OTHER_SHOP, THE_CAUSE
from support.stores import STORE_NAMES, STORES, Opener, Place

pytestmark = pytest.mark.anyio


T = TypeVar("T")


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


async def test_the_longest_due_comes_first_and_no_more_than_requested(store: Store) -> None:
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
    "finished", [Ack, lambda d: MoveToDeadLetters(d, "400")], ids=["acknowledged", "dead"]
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
    for key in ("ack", "retry", "dead", "release"):
        await put(
            store, new_deliveries(key=key, event_id=f"{key} 1"), new_deliveries(key=key, event_id=f"{key} 2")
        )
    acked, retried, dead_lettered, released = await claim(store)
    retry = Retry(retried, at(9), "500", charged=True)
    await store.record_outcomes(
        [Ack(acked), retry, MoveToDeadLetters(dead_lettered, "400"), Release(released)], at(1)
    )
    assert sorted(ids(await claim(store, now=at(1)))) == ["ack 2", "dead 2", "release 1"]
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


# --- moving what waited too long to dead letters ------------------------------------------------------------


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


# --- the outbox against a model of it ---------------------------------------------------------------------


@dataclass
class Row:
    """A row of the model."""

    event_id: str
    created_at: datetime
    due_at: datetime
    head_since: datetime | None = None
    attempts: int = 0
    claimed: Delivery | None = None


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
        return [(key, row) for key, row in lists if row.claimed is None]

    def leave(self, key: Key) -> None:
        """The first of a key leaves the outbox."""
        rows = self.rows[key]
        self.gone.setdefault(key, []).append(rows.pop(0).event_id)
        if rows:
            rows[0].head_since = self.now

    def claimed(self) -> list[tuple[Key, Row, Delivery]]:
        """Those that are claimed now."""
        firsts = ((key, rows[0]) for key, rows in self.rows.items() if rows)
        return [(key, row, row.claimed) for key, row in firsts if row.claimed is not None]

    def picked(self, picks: list[int]) -> list[tuple[Key, Row, Delivery]]:
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
            row.claimed = delivery

    @something_is_claimed
    @rule(picks=picks)
    def acknowledge(self, picks: list[int]) -> None:
        done = self.picked(picks)
        self.run(self.store.record_outcomes([Ack(delivery) for _, _, delivery in done], self.now))
        for key, _, _ in done:
            self.leave(key)

    @something_is_claimed
    @rule(picks=picks)
    def move_to_dead_letters(self, picks: list[int]) -> None:
        done = self.picked(picks)
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
        done = self.picked(picks)
        outcomes = [Retry(delivery, due_at, "500", charged=charged) for _, _, delivery in done]
        self.run(self.store.record_outcomes(outcomes, self.now))
        for _, row, _ in done:
            row.claimed, row.due_at, row.attempts = None, due_at, row.attempts + charged

    @something_is_claimed
    @rule(picks=picks)
    def release(self, picks: list[int]) -> None:
        done = self.picked(picks)
        self.run(self.store.record_outcomes([Release(delivery) for _, _, delivery in done], self.now))
        for _, row, _ in done:
            row.claimed = None

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
                row.claimed = None

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
