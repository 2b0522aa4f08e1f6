"""The contract of ports.DeadLetters for deliveries that were made: sent again beside the daemon."""

import random
import sqlite3
from pathlib import Path

import anyio
import pytest

from shop_poller.clock import ms
from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import TemporaryError
from shop_poller.ports import (
    Ack,
    DeliveredEntry,
    DeliveryStatus,
    FinishedDelivery,
    MoveToDeadLetters,
    SinkStats,
    Store,
)
from shop_poller.stores import concurrent_store
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore, file
from support.deliveries import SHOP, T0, at, claim, claim_one, ids, new_deliveries, put
from support.store_suite import OTHER_SHOP, deliver, deliver_all, made
from support.stores import Place, shared_valkey

pytestmark = pytest.mark.anyio


async def forget_texts(store: Store) -> None:
    """As if all had been delivered by the version before."""
    if isinstance(store, RedisStore):
        await store._connection._connection_pool.client.delete(store._keys.texts)
    else:
        assert isinstance(store, SqliteStore)
        await store._connection.run(lambda db: db.execute("UPDATE delivered SET body = NULL"))


# --- sending again ------------------------------------------------------------------------------------------


async def test_it_is_sent_as_if_it_were_new_with_its_old_id_and_body(place: Place, store: Store) -> None:
    (first,) = await deliver(store, new_deliveries("A", "316", "the id", customer="Ольга / \\ \" ' 🛒"))
    store = await place.open()
    await store.register(SHOP, T0)
    assert await store.resend_concurrently(SHOP, [first.seq], at(60)) == 1
    assert await made(store) == []
    assert (await store.stats(SHOP)).sinks == {"A": SinkStats(waiting=1, oldest_at=at(60))}
    assert [delivery_record.status for delivery_record in await store.delivery_records(SHOP, ["316"])] == [
        DeliveryStatus.WAITING
    ]
    again = await claim_one(store, now=at(60))
    assert again.seq > first.seq
    assert (again.event_id, again.body, again.key) == ("the id", first.body, "316")
    assert (again.event_type, again.attempts) == (first.event_type, 0)
    assert again.created_at == again.head_since == at(60)
    await store.record_outcomes([Ack(again)], at(61))
    (over,) = await made(store)
    assert (over.over.seq, over.over.event_id, over.over.at, over.kept) == (again.seq, "the id", at(61), True)
    assert [one.event_id for one in await store.finished(SHOP, dead=False, limit=9)] == ["the id"]
    assert (await store.stats(SHOP)).sinks == {}


async def test_it_can_be_sent_again_and_again(store: Store) -> None:
    (first,) = await deliver(store, new_deliveries("A", "1", "often"))
    for n in range(2, 6):
        (one,) = await made(store)
        assert await store.resend_concurrently(SHOP, [one.over.seq], at(n)) == 1
        (again,) = await deliver_all(store, "A", seconds=n)
        assert (again.event_id, again.body) == ("often", first.body)


async def test_what_is_refused_this_time_is_a_dead_letter(store: Store) -> None:
    (first,) = await deliver(store, new_deliveries("A", "1", "refused"))
    await store.resend_concurrently(SHOP, [first.seq], at(2))
    again = await claim_one(store, now=at(2))
    await store.record_outcomes([MoveToDeadLetters(again, "no")], at(3))
    assert await made(store) == []
    assert await store.dead_ids(SHOP) == [again.seq]
    assert await store.replay_concurrently(SHOP, [again.seq], at(4)) == 1
    assert ids(await claim(store, now=at(4))) == ["refused"]


async def test_it_is_put_back_once(store: Store) -> None:
    (first,) = await deliver(store, new_deliveries("A", "1", "once"))
    requested = [first.seq, first.seq, first.seq + 1000]
    assert await store.resend_concurrently(SHOP, requested, at(2)) == 1
    assert await store.resend_concurrently(SHOP, requested, at(3)) == 0
    assert await store.resend_concurrently(SHOP, [], at(3)) == 0
    assert ids(await claim(store, now=at(9))) == ["once"]
    assert await claim(store, now=at(9)) == []


async def test_what_waits_already_is_not_put_there_twice(store: Store) -> None:
    first, _ = await deliver(store, new_deliveries("A", "1", "again"), new_deliveries("B", "1", "again"))
    await put(store, new_deliveries("A", "1", "other"), new_deliveries("A", "1", "again"), now=at(2))
    assert await store.resend_concurrently(SHOP, [first.seq], at(3)) == 0
    assert len(await made(store)) == 2
    assert (await store.stats(SHOP)).sinks["A"].waiting == 2
    # To another sink, or of another order, it is another delivery.
    seqs = [one.over.seq for one in await made(store)]
    assert await store.resend_concurrently(SHOP, seqs, at(3)) == 1
    await deliver_all(store, "A", "B", seconds=9)
    assert len(await made(store)) == 4


async def test_of_an_event_that_was_delivered_twice_one_goes_back(store: Store) -> None:
    await deliver(store, new_deliveries("A", "1", "twice"))
    await deliver(store, new_deliveries("A", "1", "twice"))
    seqs = [one.over.seq for one in await made(store)]
    assert await store.resend_concurrently(SHOP, seqs, at(2)) == 1
    assert [one.over.seq for one in await made(store)] == seqs[1:]
    assert ids(await claim(store, now=at(9))) == ["twice"]


async def test_a_dead_letter_whose_event_waits_already_stays_one(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "again"))
    dead = await claim_one(store)
    await store.record_outcomes([MoveToDeadLetters(dead, "no")], at(1))
    await put(store, new_deliveries("A", "1", "again"), now=at(2))
    assert await store.replay_concurrently(SHOP, [dead.seq], at(3)) == 0
    assert await store.dead_ids(SHOP) == [dead.seq]
    assert (await store.stats(SHOP)).sinks["A"].waiting == 1


async def test_those_of_a_key_keep_their_order_and_go_behind_what_waits(place: Place, store: Store) -> None:
    first = await deliver(store, *(new_deliveries("A", "1", f"made {n}") for n in range(3)))
    await put(store, new_deliveries("A", "1", "waits"), now=at(2))
    seqs = [one.seq for one in first]
    assert await store.resend_concurrently(SHOP, [seqs[2], seqs[0], seqs[1]], at(3)) == 3
    await put(store, new_deliveries("A", "1", "after"), new_deliveries("A", "2", "of another"), now=at(4))
    assert ids(await claim(store, now=at(4))) == ["waits", "of another"]
    store = await place.open()
    await store.register(SHOP, T0)
    order = ids(await deliver_all(store, "A", seconds=10))
    assert [one for one in order if one != "of another"] == ["waits", "made 0", "made 1", "made 2", "after"]


async def test_what_was_sent_again_keeps_its_place_in_the_order_of_its_key(store: Store) -> None:
    new, cancelled = await deliver(
        store, new_deliveries("A", "1", "new"), new_deliveries("A", "1", "cancelled")
    )
    await store.resend_concurrently(SHOP, [new.seq], at(2))
    (again,) = await deliver_all(store, "A", seconds=2)
    assert [one.over.seq for one in await made(store)] == [again.seq, cancelled.seq]
    assert await store.resend_concurrently(SHOP, [cancelled.seq, again.seq], at(3)) == 2
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store, now=at(3)), "no")], at(3))
    (letter,) = await store.dead_ids(SHOP)
    assert await deliver_all(store, "A", seconds=4)
    await store.replay_concurrently(SHOP, [letter], at(5))
    await deliver_all(store, "A", seconds=5)
    assert [one.over.event_id for one in await made(store)] == ["new", "cancelled"], "of either kind"


async def test_claims_are_not_touched_by_it(store: Store) -> None:
    (first,) = await deliver(store, new_deliveries("A", "1", "made"))
    await put(store, new_deliveries("A", "1", "under way"), now=at(2))
    claimed = await claim_one(store, now=at(2))
    await store.resend_concurrently(SHOP, [first.seq], at(3))
    assert await claim(store, now=at(9)) == []
    await store.record_outcomes([Ack(claimed)], at(4))
    assert ids(await claim(store, now=at(9))) == ["made"]


async def test_another_shops_deliveries_stay(store: Store) -> None:
    (theirs,) = await deliver(store, new_deliveries("A", "1"), shop_id=OTHER_SHOP)
    assert await store.resend_concurrently(SHOP, [theirs.seq], at(2)) == 0
    assert len(await made(store, shop_id=OTHER_SHOP)) == 1


async def test_what_was_delivered_before_texts_were_kept_is_told_and_stays(store: Store) -> None:
    (old,) = await deliver(store, new_deliveries("A", "1", "old"))
    await forget_texts(store)
    (new,) = await deliver(store, new_deliveries("A", "2", "new"), seconds=2)
    assert [(one.over.event_id, one.kept) for one in await made(store)] == [("old", False), ("new", True)]
    assert await store.resend_concurrently(SHOP, [old.seq, new.seq], at(3)) == 1
    assert ids(await claim(store, now=at(9))) == ["new"]
    assert [one.event_id for one in await store.finished(SHOP, dead=False, limit=9)] == ["old"]


async def test_texts_go_when_the_deliveries_are_forgotten(store: Store) -> None:
    await deliver(store, *(new_deliveries("A", f"{n}") for n in range(5)))
    assert await store.prune(SHOP, seen_before=T0, finished_before=at(9)) == 5
    assert await made(store) == []
    if isinstance(store, RedisStore):
        assert await store._connection.read("EXISTS", store._keys.texts) == 0


async def test_two_who_replay_at_once_put_each_back_once(store: Store) -> None:
    first = await deliver(store, *(new_deliveries("A", f"{n}", f"event {n}") for n in range(40)))
    seqs, moved = [one.seq for one in first], 0

    async def resend(order: list[int]) -> None:
        nonlocal moved
        for start in range(0, 40, 10):
            done = await store.resend_concurrently(SHOP, order[start : start + 10], at(2))
            moved += done

    async with anyio.create_task_group() as tasks:
        for seed in range(3):
            tasks.start_soon(resend, random.Random(seed).sample(seqs, 40))
    assert moved == 40
    assert sorted(ids(await claim(store, now=at(9)))) == sorted(f"event {n}" for n in range(40))


# --- beside a process that has the right to write -----------------------------------------------------------


async def test_while_another_process_writes_the_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    polling = await SqliteStore.open(path)
    (first,) = await deliver(polling, new_deliveries("A", "1", "again"))
    concurrent = await concurrent_store(path, shop=SHOP, prefix="")
    assert await concurrent.resend_concurrently(SHOP, [first.seq], at(2)) == 1
    await put(polling, new_deliveries("A", "1", "next"), now=at(3))
    assert ids(await claim(polling, now=at(9))) == ["again"]
    await concurrent.aclose()
    await polling.aclose()


async def test_a_batch_that_fails_in_the_middle_leaves_all_as_it_was(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "state.db")
    first = await deliver(store, *(new_deliveries("A", f"{n}") for n in range(3)))
    before = await made(store)
    await store._connection.run(
        lambda db: db.execute(
            f"CREATE TRIGGER fails BEFORE DELETE ON delivered WHEN old.seq = {first[2].seq}"
            " BEGIN SELECT raise(ABORT, 'the power is cut'); END"
        )
    )
    with pytest.raises(TemporaryError, match="the power is cut"):
        await store.resend_concurrently(SHOP, [one.seq for one in first], at(2))
    assert await made(store) == before
    assert (await store.stats(SHOP)).sinks == {}
    await store.aclose()


async def test_a_file_of_the_version_before_is_migrated_with_what_was_delivered(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with sqlite3.connect(path) as db:
        for script in file.MIGRATIONS[:3]:
            db.executescript(script.read_text(encoding="utf-8"))
        db.execute(f"PRAGMA application_id = {file.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 3")
        db.execute(
            "INSERT INTO delivered VALUES (7, ?, 'A', '1', 'old', 'shop.order.new', ?, 0, ?)",
            (SHOP, ms(T0), ms(at(1))),
        )
    db.close()
    store = await SqliteStore.open(path)
    over = FinishedDelivery(7, "A", "1", "old", "shop.order.new", 0, at(1))
    assert await made(store) == [DeliveredEntry(over, kept=False)]
    assert await store.resend_concurrently(SHOP, [7], at(2)) == 0
    assert await store.finished(SHOP, dead=False, limit=9) == [over]
    await store.aclose()


async def test_while_another_store_has_the_lease(tmp_path: Path) -> None:
    address, prefix = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"), f"{tmp_path}:"
    polling = RedisStore(address, prefix=prefix, first_shop=SHOP)
    assert await polling.take()
    await polling.register(SHOP, T0)
    (first,) = await deliver(polling, new_deliveries("A", "1", "again"))
    concurrent = await concurrent_store(address, shop=SHOP, prefix=prefix)
    assert await concurrent.resend_concurrently(SHOP, [first.seq], at(2)) == 1
    await put(polling, new_deliveries("A", "1", "next"), now=at(3))
    assert await polling.renew()
    assert await polling._order.is_whole()
    assert await polling._connection.read("EXISTS", polling._keys.texts) == 0, "it lies in the outbox now"
    assert ids(await claim(polling, now=at(9))) == ["again"]
    await concurrent.aclose()
    await polling.aclose()


async def test_an_outbox_that_was_evicted_takes_nothing_before_it_is_mended(tmp_path: Path) -> None:
    address, prefix = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"), f"{tmp_path}:"
    store = RedisStore(address, prefix=prefix, first_shop=SHOP)
    assert await store.take()
    await store.register(SHOP, T0)
    (first,) = await deliver(store, new_deliveries("A", "1", "again"))
    await store._connection._connection_pool.client.delete(f"{prefix}outbox")
    with pytest.raises(TemporaryError, match="`shop-poller run` mends it"):
        await store.resend_concurrently(SHOP, [first.seq], at(2))
    assert len(await made(store)) == 1
    await store.aclose()
