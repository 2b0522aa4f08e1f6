"""The contract of ports.DeliveryHistory: what every store must do."""

import pytest

from shop_poller.ports import (
    Ack,
    DeliveredEntry,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    MoveToDeadLetters,
    Retry,
    Store,
)
from support.deliveries import MS, SHOP, T0, at, claim, claim_one, new_deliveries, put
from support.store_suite import HOUR, OTHER_SHOP, deliver, deliver_all, made, move_to_dead_letters, prune_all
from support.stores import Place

pytestmark = pytest.mark.anyio


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
    assert await store.count_delivered(SHOP, since=at(2 * HOUR), before=now) == 4
    assert await store.count_delivered(SHOP, since=at(3 * HOUR), before=at(4 * HOUR)) == 0
    assert await store.count_delivered(OTHER_SHOP, since=at(0), before=now) == 0


async def test_a_delivery_record_shows_what_became_of_a_delivery(store: Store) -> None:
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


async def test_deliveries_are_listed_by_sink_too(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "to A"), new_deliveries("B", "1", "to B"))
    for sink in "AB":
        await store.record_outcomes([Ack(await claim_one(store, sink))], at(1))
    assert [d.event_id for d in await store.finished(SHOP, dead=False, limit=9, sink="B")] == ["to B"]
    assert len(await store.finished(SHOP, dead=False, limit=9)) == 2


async def test_finished_deliveries_after_a_time_can_be_requested(store: Store) -> None:
    for n in (1, 2, 3):
        await move_to_dead_letters(store, new_deliveries("A", f"{n}", f"event {n}"), seconds=n)
        await put(store, new_deliveries("B", f"{n}", f"event {n}"))
        await store.record_outcomes([Ack(await claim_one(store, "B"))], at(n))
    for dead in (False, True):
        later = await store.finished(SHOP, dead=dead, limit=9, after=at(1))
        assert [one.event_id for one in later] == ["event 3", "event 2"]
        assert len(await store.finished(SHOP, dead=dead, limit=1, after=at(1))) == 1
        assert await store.finished(SHOP, dead=dead, limit=9, after=at(3)) == []


async def test_what_was_delivered_within_a_time_is_found_in_its_order(store: Store) -> None:
    for row in (
        new_deliveries("A", "1", "first"),
        new_deliveries("B", "1", "to B"),
        new_deliveries("A", "2", "third"),
    ):
        await put(store, row)
    await deliver_all(store, "B", seconds=1)
    await deliver_all(store, "A", seconds=3)
    await deliver(store, new_deliveries("A", "4"), shop_id=OTHER_SHOP)
    everything = await made(store)
    assert [one.over.event_id for one in everything] == ["first", "to B", "third"]
    seq = everything[1].over.seq
    assert everything[1] == DeliveredEntry(
        FinishedDelivery(seq, "B", "1", "to B", "shop.order.new", 0, at(1)), kept=True
    )
    assert [one.over.event_id for one in await made(store, since=3)] == ["first", "third"]
    assert [one.over.event_id for one in await made(store, since=1, before=3)] == ["to B"]
    assert await made(store, since=1, before=1) == []
    assert len(await made(store, shop_id=OTHER_SHOP)) == 1


async def test_what_waits_or_was_given_up_was_not_delivered(store: Store) -> None:
    await put(store, new_deliveries("A", "1"), new_deliveries("A", "2"))
    first, _ = await claim(store)
    await store.record_outcomes([MoveToDeadLetters(first, "no")], at(1))
    assert await made(store) == []


async def test_past_deliveries_have_their_texts_whatever_became_of_them(place: Place) -> None:
    store = await place.open()
    for n, name in enumerate(("delivered", "dead", "waiting")):
        await put(store, new_deliveries("A", f"{n}", name), now=at(n))
    delivered, dead, waiting = await claim(store, now=at(2))
    await store.record_outcomes([Ack(delivered), MoveToDeadLetters(dead, "refused")], at(7))
    await put(store, new_deliveries("B", "9", "later"), now=at(8))
    store = await place.open()

    found = await store.past_deliveries(SHOP, since=T0, limit=9)
    assert [(one.record.sink, one.record.event_id, one.record.status, one.record.at) for one in found] == [
        ("B", "later", DeliveryStatus.WAITING, at(8)),
        ("A", "dead", DeliveryStatus.DEAD, at(7)),
        ("A", "delivered", DeliveryStatus.DELIVERED, at(7)),
        ("A", "waiting", DeliveryStatus.WAITING, at(2)),
    ]
    assert {one.record.event_id: one.body for one in found if one.record.sink == "A"} == {
        delivered.event_id: delivered.body,
        dead.event_id: dead.body,
        waiting.event_id: waiting.body,
    }
    assert await store.past_deliveries(SHOP, since=T0, limit=2) == found[:2]
    assert await store.past_deliveries(SHOP, since=at(7), limit=9) == found[:3]
    assert await store.past_deliveries(OTHER_SHOP, since=T0, limit=9) == []
