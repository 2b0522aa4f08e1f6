"""The contract of ports.Retention: what every store must do."""

import json

import pytest

from shop_poller.core.model import UnreadableOrder
from shop_poller.ports import Ack, Backfill, MoveToDeadLetters, Store
from shop_poller.stores.bounds import MAX_FINISHED
from support.deliveries import SHOP, T0, at, batch, claim, claim_one, known_order, new_deliveries, put
from support.store_suite import DAY, HOUR, OTHER_SHOP, prune_all
from support.stores import open_fakeredis

pytestmark = pytest.mark.anyio


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
        for module in ("outbox", "retention"):
            monkeypatch.setattr(f"shop_poller.stores.redis.{module}.MAX_FINISHED", bound)
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
    for module in ("sqlite.retention", "redis.outbox", "redis.retention"):
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
    for module in ("sqlite.retention", "redis.outbox", "redis.retention"):
        monkeypatch.setattr(f"shop_poller.stores.{module}.MAX_FINISHED", most)
    for module in ("sqlite.retention", "redis.retention"):
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
    for name in ("sqlite.retention", "redis.retention"):
        monkeypatch.setattr(f"shop_poller.stores.{name}.PRUNE_LIMIT", 100)
    aside = [UnreadableOrder(order_id, "half an order") for order_id in range(1, 3_001)]
    await store.commit(SHOP, batch(now=at(1), set_aside=aside))
    steps = []
    while dropped := await store.prune(SHOP, seen_before=at(15), finished_before=T0):
        steps.append(dropped)
    assert sum(steps) == 3_000
    assert max(steps) <= 1_000, "a part of a scan may be more than asked for"


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


async def test_what_was_pruned_is_not_open(store: Store) -> None:
    await store.commit(SHOP, batch(known=[known_order(1)], seen_at=at(0)))
    await store.commit(SHOP, batch(known=[known_order(2)], seen_at=at(10)))
    await store.prune(SHOP, seen_before=at(5), finished_before=at(0))
    assert await store.open_orders(SHOP, after_id=0, limit=9) == [2]


async def test_what_was_imported_concurrently_expires_as_all_else(store: Store) -> None:
    await store.register(SHOP, T0)
    await store.import_concurrently(SHOP, [known_order(1)], Backfill(at(-1000), at(-500)), at(0))
    assert await store.prune(SHOP, seen_before=at(0), finished_before=at(0)) == 0
    assert await store.prune(SHOP, seen_before=at(1), finished_before=at(0)) == 1
    assert await store.known(SHOP, [1]) == {}
