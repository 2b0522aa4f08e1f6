"""The contract of ports.DeadLetters for dead letters: looked at, replayed and deleted beside the daemon."""

import random
from pathlib import Path

import anyio
import pytest

from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import TemporaryError
from shop_poller.ports import (
    Ack,
    DeliveryStatus,
    FinishedDelivery,
    MoveToDeadLetters,
    Retry,
    SinkStats,
    Store,
)
from shop_poller.stores import concurrent_store
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, T0, at, claim, claim_one, ids, new_deliveries, put
from support.store_suite import OTHER_SHOP, move_to_dead_letters
from support.stores import Place, shared_valkey

pytestmark = pytest.mark.anyio


# --- looking ------------------------------------------------------------------------------------------------


async def test_a_dead_letter_is_all_that_was_given_up(store: Store) -> None:
    await put(store, new_deliveries("A", "316", "the id", customer="Ольга / \\ \" ' 🛒"))
    first = await claim_one(store)
    await store.record_outcomes([Retry(first, at(1), "500", charged=True)], T0)
    row = await claim_one(store, now=at(1))
    await store.record_outcomes([MoveToDeadLetters(row, "отказ")], at(2))
    (seq,) = await store.dead_ids(SHOP)
    letter = await store.dead_letter(SHOP, seq)
    assert letter is not None
    assert letter.over == FinishedDelivery(seq, "A", "316", "the id", "shop.order.new", 1, at(2), "отказ")
    assert (letter.body, letter.created_at) == (row.body, T0)
    assert await store.finished(SHOP, dead=True, limit=9) == [letter.over]
    assert await store.dead_letter(SHOP, seq + 1) is None
    assert await store.dead_letter(OTHER_SHOP, seq) is None


async def test_they_are_chosen_by_sink_and_age(store: Store) -> None:
    one, two = await move_to_dead_letters(
        store, new_deliveries("A", "1"), new_deliveries("B", "2"), seconds=1
    )
    (three,) = await move_to_dead_letters(store, new_deliveries("A", "3"), seconds=3)
    await move_to_dead_letters(store, new_deliveries("A", "4"), shop_id=OTHER_SHOP)
    assert await store.dead_ids(SHOP) == [one.seq, two.seq, three.seq]
    assert await store.dead_ids(SHOP, sink="A") == [one.seq, three.seq]
    assert await store.dead_ids(SHOP, sink="nobody") == []
    assert await store.dead_ids(SHOP, before=at(3)) == [one.seq, two.seq]
    assert await store.dead_ids(SHOP, since=at(3)) == [three.seq]
    assert await store.dead_ids(SHOP, sink="A", since=at(1), before=at(2)) == [one.seq]
    assert [d.seq for d in await store.finished(SHOP, dead=True, limit=1, sink="A")] == [three.seq]
    assert [d.seq for d in await store.finished(SHOP, dead=True, limit=9, sink="B")] == [two.seq]


# --- replaying ----------------------------------------------------------------------------------------------


async def test_a_replayed_dead_letter_is_sent_as_if_it_were_new_with_its_old_id_and_body(
    store: Store,
) -> None:
    (dead_lettered,) = await move_to_dead_letters(
        store, new_deliveries("A", "316", "the id", customer="Ольга / \\ 🛒")
    )
    assert await store.replay_concurrently(SHOP, [dead_lettered.seq], at(60)) == 1
    assert await store.dead_ids(SHOP) == []
    assert await store.next_due("A") == at(60)
    again = await claim_one(store, now=at(60))
    assert again.seq > dead_lettered.seq
    assert (again.event_id, again.body, again.key) == ("the id", dead_lettered.body, "316")
    assert (again.event_type, again.attempts) == (dead_lettered.event_type, 0)
    assert again.created_at == again.head_since == at(60)
    await store.record_outcomes([Ack(again)], at(61))
    assert (await store.stats(SHOP)).sinks == {}
    assert [trace.status for trace in await store.delivery_records(SHOP, ["316"])] == [
        DeliveryStatus.DELIVERED
    ]


async def test_it_is_either_dead_or_waiting(store: Store) -> None:
    one, two = await move_to_dead_letters(store, new_deliveries("A", "1"), new_deliveries("A", "2"))
    await store.replay_concurrently(SHOP, [two.seq], at(2))
    assert (await store.stats(SHOP)).sinks == {"A": SinkStats(waiting=1, oldest_at=at(2), dead=1)}
    assert [t.status for t in await store.delivery_records(SHOP, ["1", "2"])] == [
        DeliveryStatus.DEAD,
        DeliveryStatus.WAITING,
    ]
    assert await store.dead_ids(SHOP) == [one.seq]


async def test_it_is_replayed_once(store: Store) -> None:
    (dead_lettered,) = await move_to_dead_letters(store, new_deliveries("A", "1", "once"))
    requested = [dead_lettered.seq, dead_lettered.seq, dead_lettered.seq + 1000]
    assert await store.replay_concurrently(SHOP, requested, at(2)) == 1
    assert await store.replay_concurrently(SHOP, requested, at(3)) == 0
    assert await store.replay_concurrently(SHOP, [], at(3)) == 0
    assert ids(await claim(store, now=at(9))) == ["once"]


async def test_those_of_a_key_keep_their_order_and_go_behind_what_waits(place: Place, store: Store) -> None:
    dead_lettered = await move_to_dead_letters(
        store, *(new_deliveries("A", "1", f"dead {n}") for n in range(3))
    )
    await put(store, new_deliveries("A", "1", "waits"), new_deliveries("B", "1", "elsewhere"), now=at(2))
    seqs = [one.seq for one in dead_lettered]
    assert await store.replay_concurrently(SHOP, [seqs[2], seqs[0], seqs[1]], at(3)) == 3
    await put(store, new_deliveries("A", "1", "after"), now=at(4))
    store = await place.open()
    await store.register(SHOP, T0)
    order = []
    for n in range(5):
        one = await claim_one(store, now=at(10 + n))
        order.append(one.event_id)
        await store.record_outcomes([Ack(one)], at(10 + n))
    assert order == ["waits", "dead 0", "dead 1", "dead 2", "after"]
    assert ids(await claim(store, "B", now=at(9))) == ["elsewhere"]


async def test_one_that_is_given_up_again_is_a_dead_letter_again(store: Store) -> None:
    (dead_lettered,) = await move_to_dead_letters(store, new_deliveries("A", "1", "stubborn"))
    for n in range(2, 5):
        (seq,) = await store.dead_ids(SHOP)
        assert await store.replay_concurrently(SHOP, [seq], at(n)) == 1
        again = await claim_one(store, now=at(n))
        await store.record_outcomes([MoveToDeadLetters(again, f"no {n}")], at(n))
    (over,) = await store.finished(SHOP, dead=True, limit=9)
    assert (over.event_id, over.reason, over.at) == ("stubborn", "no 4", at(4))
    assert over.seq > dead_lettered.seq


async def test_what_was_refused_again_keeps_its_place_in_the_order_of_its_key(store: Store) -> None:
    new, cancelled = await move_to_dead_letters(
        store, new_deliveries("A", "1", "new"), new_deliveries("A", "1", "cancelled")
    )
    seq = new.seq
    for n in (2, 3):  # refused once more, and once more
        await store.replay_concurrently(SHOP, [seq], at(n))
        again = await claim_one(store, now=at(n))
        await store.record_outcomes([MoveToDeadLetters(again, "no")], at(n))
        seq = again.seq
    assert seq > cancelled.seq
    assert await store.dead_ids(SHOP) == [seq, cancelled.seq], "so it is in batches, too"
    assert await store.replay_concurrently(SHOP, [cancelled.seq, seq], at(9)) == 2
    order = []
    while some := await claim(store, now=at(10)):
        order += ids(some)
        await store.record_outcomes([Ack(one) for one in some], at(10))
    assert order == ["new", "cancelled"]


async def test_claims_are_not_touched_by_it(store: Store) -> None:
    (dead_lettered,) = await move_to_dead_letters(store, new_deliveries("A", "1", "dead"))
    await put(store, new_deliveries("A", "1", "under way"), now=at(2))
    claimed = await claim_one(store, now=at(2))
    await store.replay_concurrently(SHOP, [dead_lettered.seq], at(3))
    assert await claim(store, now=at(9)) == []
    await store.record_outcomes([Ack(claimed)], at(4))
    assert ids(await claim(store, now=at(9))) == ["dead"]


async def test_another_shops_dead_letters_stay(store: Store) -> None:
    (theirs,) = await move_to_dead_letters(store, new_deliveries("A", "1"), shop_id=OTHER_SHOP)
    assert await store.replay_concurrently(SHOP, [theirs.seq], at(2)) == 0
    assert await store.drop_concurrently(SHOP, [theirs.seq]) == 0
    assert await store.dead_ids(OTHER_SHOP) == [theirs.seq]


async def test_two_who_replay_at_once_replay_each_once(store: Store) -> None:
    dead_lettered = await move_to_dead_letters(
        store, *(new_deliveries("A", f"{n}", f"event {n}") for n in range(40))
    )
    seqs, replayed = [one.seq for one in dead_lettered], 0

    async def replay(order: list[int]) -> None:
        nonlocal replayed
        for start in range(0, 40, 10):
            done = await store.replay_concurrently(SHOP, order[start : start + 10], at(2))
            replayed += done

    async with anyio.create_task_group() as tasks:
        for seed in range(3):
            tasks.start_soon(replay, random.Random(seed).sample(seqs, 40))
    assert replayed == 40
    assert sorted(ids(await claim(store, now=at(9)))) == sorted(f"event {n}" for n in range(40))


# --- dropping -----------------------------------------------------------------------------------------------


async def test_what_is_dropped_is_gone(place: Place, store: Store) -> None:
    one, two = await move_to_dead_letters(store, new_deliveries("A", "1"), new_deliveries("A", "2"))
    assert await store.drop_concurrently(SHOP, [one.seq, one.seq, 999]) == 1
    assert await store.drop_concurrently(SHOP, [one.seq]) == 0
    store = await place.open()
    await store.register(SHOP, T0)
    assert await store.dead_ids(SHOP) == [two.seq]
    assert (await store.stats(SHOP)).sinks == {"A": SinkStats(dead=1)}
    assert await store.replay_concurrently(SHOP, [one.seq], at(3)) == 0


# --- beside a process that has the right to write -----------------------------------------------------------


async def test_while_another_process_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    polling = await SqliteStore.open(path)
    (dead_lettered,) = await move_to_dead_letters(polling, new_deliveries("A", "1", "again"))
    concurrent = await concurrent_store(path, shop=SHOP, prefix="")
    assert await concurrent.replay_concurrently(SHOP, [dead_lettered.seq], at(2)) == 1
    await put(polling, new_deliveries("A", "1", "next"), now=at(3))
    assert ids(await claim(polling, now=at(9))) == ["again"]
    await concurrent.aclose()
    await polling.aclose()


async def test_while_another_store_has_the_lease(tmp_path: Path) -> None:
    address, prefix = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"), f"{tmp_path}:"
    polling = RedisStore(address, prefix=prefix, first_shop=SHOP)
    assert await polling.take()
    await polling.register(SHOP, T0)
    one, two = await move_to_dead_letters(
        polling, new_deliveries("A", "1", "again"), new_deliveries("A", "2", "dropped")
    )
    concurrent = await concurrent_store(address, shop=SHOP, prefix=prefix)
    assert await concurrent.replay_concurrently(SHOP, [one.seq], at(2)) == 1
    assert await concurrent.drop_concurrently(SHOP, [two.seq]) == 1
    await put(polling, new_deliveries("A", "1", "next"), now=at(3))
    assert await polling.renew()
    assert ids(await claim(polling, now=at(9))) == ["again"]
    assert await polling._order.is_whole()
    await concurrent.aclose()
    await polling.aclose()


async def test_an_outbox_that_was_evicted_takes_nothing_before_it_is_mended(tmp_path: Path) -> None:
    address, prefix = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"), f"{tmp_path}:"
    store = RedisStore(address, prefix=prefix, first_shop=SHOP)
    assert await store.take()
    await store.register(SHOP, T0)
    (dead_lettered,) = await move_to_dead_letters(store, new_deliveries("A", "1", "again"))
    await store._connection._connection_pool.client.delete(f"{prefix}outbox")
    with pytest.raises(TemporaryError, match="`shop-poller run` mends it"):
        await store.replay_concurrently(SHOP, [dead_lettered.seq], at(2))
    assert await store.dead_ids(SHOP) == [dead_lettered.seq]
    await store.aclose()
