"""The attempts of deliveries: what every store keeps of them, wherever a delivery goes."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from shop_poller.clock import ms
from shop_poller.core.attempts import (
    DELIVERED,
    MOST_ATTEMPTS,
    MOST_WORDS,
    NO_ATTEMPTS,
    Attempt,
    AttemptLog,
)
from shop_poller.ports import (
    Ack,
    DeliveryStatus,
    FinishedDelivery,
    MoveToDeadLetters,
    Release,
    Retry,
    Store,
    StoredDelivery,
)
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore, file
from support.deliveries import MS, SHOP, T0, at, claim, claim_one, new_deliveries, put
from support.store_suite import OTHER_SHOP
from support.stores import Place

pytestmark = pytest.mark.anyio

WORST = "\U0001f41d" * MOST_WORDS


def failure(seconds: float, words: str = 'нет такого: "бренд" \\ 🐝') -> Attempt:
    return Attempt(at(seconds), 35, "RejectedError", 422, words)


def success(seconds: float) -> Attempt:
    return Attempt(at(seconds), 7, DELIVERED, 204)


def log_of(*attempts: Attempt) -> AttemptLog:
    return AttemptLog(len(attempts), attempts)


async def delivery_of(store: Store, seq: int) -> StoredDelivery:
    found = await store.delivery(SHOP, seq)
    assert found is not None
    return found


async def retry(store: Store, *made: Attempt, seconds: float = 0) -> None:
    one = await claim_one(store, now=at(seconds))
    await store.record_outcomes(
        [Retry(one, at(seconds + 1), "422", charged=True, new_attempts=made)], at(seconds)
    )


async def damage(store: Store, table: str, value: object) -> None:
    """Put something else in place of the log of the only delivery there."""
    if isinstance(store, RedisStore):
        client = store._connection._connection_pool.client
        key = {"outbox": store._keys.outbox, "delivered": store._keys.delivered}.get(
            table, store._keys.dead_letters
        )
        for field, text in (await client.hgetall(key)).items():
            if field.isdigit():
                await client.hset(key, field, json.dumps(json.loads(text) | {"attempt_log": value}))
        return
    assert isinstance(store, SqliteStore)
    text = value if isinstance(value, str) else json.dumps(value)
    statement = f"UPDATE {table} SET attempt_log = ?"  # noqa: S608 - of this module
    await store._connection.run(lambda db: db.execute(statement, (text,)))


async def test_attempts_of_a_retry_come_back_with_the_claim(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries("A", "1", "event"))
    await retry(store, failure(0), failure(0.5))
    await retry(store, failure(1), seconds=1)
    store = await place.open()  # as after a kill
    one = await claim_one(store, now=at(9))
    assert one.attempt_log == log_of(failure(0), failure(0.5), failure(1))
    assert (one.attempts, one.event_id) == (2, "event")
    found = await delivery_of(store, one.seq)
    assert found == StoredDelivery(
        DeliveryStatus.WAITING,
        FinishedDelivery(one.seq, "A", "1", "event", "shop.order.new", 2, T0, attempt_log=one.attempt_log),
        one.body,
        T0,
    )


async def test_attempts_that_decided_nothing_are_kept_and_charge_nothing(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    one = await claim_one(store)
    await store.record_outcomes([Release(one, [failure(0)])], T0)
    again = await claim_one(store)
    assert (again.attempt_log, again.attempts, again.head_since) == (log_of(failure(0)), 0, one.head_since)
    await store.record_outcomes([Release(again)], T0)
    assert (await claim_one(store)).attempt_log == log_of(failure(0))


async def test_attempts_go_with_what_was_delivered(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries("A", "1", "event"))
    await retry(store, failure(0))
    one = await claim_one(store, now=at(1))
    await store.record_outcomes([Ack(one, [failure(1), success(2)])], at(2))
    store = await place.open()
    (over,) = await store.finished(SHOP, dead=False, limit=9)
    assert over.attempt_log == log_of(failure(0), failure(1), success(2))
    (entry,) = await store.delivered(SHOP, since=T0, before=at(9))
    assert entry.over == over
    assert await delivery_of(store, one.seq) == StoredDelivery(DeliveryStatus.DELIVERED, over, one.body, T0)


async def test_many_that_are_recorded_together_keep_each_their_own(store: Store) -> None:
    await put(store, *(new_deliveries("A", f"{n}", f"event {n}") for n in range(9)))
    taken = await claim(store)
    await store.record_outcomes(
        [
            Ack(one, [success(n)]) if n % 3 else MoveToDeadLetters(one, "no", [failure(n)])
            for n, one in enumerate(taken)
        ],
        at(9),
    )
    made = await store.finished(SHOP, dead=False, limit=9)
    dead = await store.finished(SHOP, dead=True, limit=9)
    assert {one.key: one.attempt_log for one in made} == {
        f"{n}": log_of(success(n)) for n in range(9) if n % 3
    }
    assert {one.key: one.attempt_log for one in dead} == {f"{n}": log_of(failure(n)) for n in range(0, 9, 3)}


async def test_attempts_go_with_a_dead_letter_and_with_what_is_sent_again(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    one = await claim_one(store)
    await store.record_outcomes([MoveToDeadLetters(one, "no", [failure(0)])], T0)
    letter = await store.dead_letter(SHOP, one.seq)
    assert letter is not None
    assert letter.over.attempt_log == log_of(failure(0))
    assert (await delivery_of(store, one.seq)).status is DeliveryStatus.DEAD

    assert await store.replay_concurrently(SHOP, [one.seq], at(1)) == 1
    again = await claim_one(store, now=at(1))
    assert (again.attempt_log, again.attempts) == (log_of(failure(0)), 0)
    await store.record_outcomes([Ack(again, [success(1)])], at(1))

    assert await store.resend_concurrently(SHOP, [again.seq], at(2)) == 1
    third = await claim_one(store, now=at(2))
    assert third.attempt_log == log_of(failure(0), success(1))
    await store.record_outcomes([Ack(third, [success(2)])], at(2))
    (over,) = await store.finished(SHOP, dead=False, limit=9)
    assert over.attempt_log == log_of(failure(0), success(1), success(2))


async def test_attempts_go_with_what_waited_too_long(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    await retry(store, failure(0))
    assert await store.dead_letter_expired("A", head_before=at(5), now=at(9)) == 1
    (over,) = await store.finished(SHOP, dead=True, limit=9)
    assert over.attempt_log == log_of(failure(0))


async def test_a_row_does_not_grow_with_its_attempts(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    for n in range(40):
        await retry(store, failure(n, WORST), failure(n, WORST), failure(n, WORST), seconds=n)
    one = await claim_one(store, now=at(99))
    assert one.attempt_log.count == 120
    assert len(one.attempt_log.kept) == MOST_ATTEMPTS
    assert one.attempt_log.kept[0].at == T0
    assert one.attempt_log.last == failure(39, WORST)
    if isinstance(store, RedisStore):
        text = await store._connection.read("HGET", store._keys.outbox, str(one.seq))
    else:
        assert isinstance(store, SqliteStore)
        ((text,),) = await store._connection.run(
            lambda db: db.execute("SELECT attempt_log FROM outbox").fetchall()
        )
    assert len(text.encode()) < MOST_ATTEMPTS * (4 * MOST_WORDS + 100) + len(one.body.encode()) + 300


async def test_the_same_outcomes_once_more_add_nothing(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    one = await claim_one(store)
    outcome = Retry(one, at(1), "422", charged=False, new_attempts=[failure(0)])
    for _ in range(2):  # the answer to the first commit was lost
        await store.record_outcomes([outcome], T0)
    assert (await claim_one(store, now=at(1))).attempt_log == log_of(failure(0))


async def test_a_delivery_is_found_by_its_shop_and_number_only(store: Store) -> None:
    await put(store, new_deliveries("A", "1", "event"))
    one = await claim_one(store)
    assert await store.delivery(SHOP, one.seq + 1) is None
    assert await store.delivery(OTHER_SHOP, one.seq) is None


DAMAGED = [
    "",
    "garbage",
    "[]",
    {},
    [],
    [1],
    [0, [1]],
    [-1],
    [2, [1, 2, 3]],
    [1, [1, 2, "x", None, 5]],
    [True],
]
DAMAGED += [[1, [-1, 2, "x", None, ""]], [1, [1, 2, "", None, ""]], [1, [1, 2, "x", "500", ""]]]
DAMAGED += [
    [1, [1, 2, "x", None, "w" * (MOST_WORDS + 1)]],
    [99, *[[1, 2, "x", None, ""]] * (MOST_ATTEMPTS + 1)],
]


@pytest.mark.parametrize("value", DAMAGED, ids=lambda value: json.dumps(value)[:40])
async def test_damaged_attempts_are_forgotten_and_block_nothing(place: Place, value: object) -> None:
    store = await place.open()
    await put(store, new_deliveries("A", "1", "event"))
    await retry(store, failure(0))
    await damage(store, "outbox", value)
    store = await place.open()
    one = await claim_one(store, now=at(9))
    assert (one.event_id, one.attempt_log, one.attempts) == ("event", NO_ATTEMPTS, 1)
    await store.record_outcomes([MoveToDeadLetters(one, "no", [failure(9)])], at(9))

    await damage(store, "dead_letters", value)
    (over,) = await store.finished(SHOP, dead=True, limit=9)
    assert (over.event_id, over.reason, over.attempt_log) == ("event", "no", NO_ATTEMPTS)
    assert await store.replay_concurrently(SHOP, [over.seq], at(10)) == 1
    again = await claim_one(store, now=at(10))
    assert again.attempt_log == NO_ATTEMPTS
    await store.record_outcomes([Ack(again, [success(10)])], at(10))

    await damage(store, "delivered", value)
    (over,) = await store.finished(SHOP, dead=False, limit=9)
    assert (over.event_id, over.attempt_log) == ("event", NO_ATTEMPTS)


async def test_a_repair_forgets_damaged_attempts_and_keeps_the_deliveries(place: Place) -> None:
    store = await place.open()
    await put(store, *(new_deliveries("A", f"{n}") for n in range(3)))
    await store.register(SHOP, T0)
    good, bad, _ = await claim(store)
    await store.record_outcomes([Ack(good, [success(1)]), MoveToDeadLetters(bad, "no", [failure(1)])], at(1))
    for table in ("outbox", "dead_letters", "delivered"):
        await damage(store, table, [1])
    assert isinstance(store, RedisStore | SqliteStore)
    places = {one.place for one in await store.inspect(SHOP)}
    assert places == {"outbox", "dead_letters", "delivered"}
    await store.release()
    await store.repair(SHOP)
    store = await place.open()
    assert isinstance(store, RedisStore | SqliteStore)
    assert await store.inspect(SHOP) == []
    over = [*await store.finished(SHOP, dead=True, limit=9), *await store.finished(SHOP, dead=False, limit=9)]
    assert [one.seq for one in over] == [bad.seq, good.seq]
    assert (await claim_one(store, now=at(9))).attempt_log == NO_ATTEMPTS


async def test_a_file_of_the_version_before_has_deliveries_without_attempts(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    body = new_deliveries().body
    values: Sequence[object] = (SHOP, "A", "1", "old", "shop.order.new", body, ms(T0))
    with sqlite3.connect(path) as db:
        for script in file.MIGRATIONS[:8]:
            db.executescript(script.read_text(encoding="utf-8"))
        db.execute(f"PRAGMA application_id = {file.APPLICATION_ID}")
        db.execute("PRAGMA user_version = 8")
        db.execute(
            "INSERT INTO outbox (shop_id, sink, key, event_id, event_type, body, created_at, due_at,"
            " head_since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7, ?7)",
            values,
        )
        db.execute(
            "INSERT INTO delivered (seq, shop_id, sink, key, event_id, event_type, body, created_at,"
            " attempts, delivered_at) VALUES (90, ?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?7)",
            values,
        )
        db.execute(
            "INSERT INTO dead_letters (seq, shop_id, sink, key, event_id, event_type, body, created_at,"
            " attempts, buried_at, reason) VALUES (91, ?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?7, 'no')",
            values,
        )
    db.close()
    store = await SqliteStore.open(path)
    await store.register(SHOP, T0)
    for dead in (False, True):
        (over,) = await store.finished(SHOP, dead=dead, limit=9)
        assert over.attempt_log == NO_ATTEMPTS
    one = await claim_one(store, now=T0 + MS)
    assert one.attempt_log == NO_ATTEMPTS
    await store.record_outcomes([Ack(one, [success(1)])], T0 + timedelta(seconds=1))
    assert (await delivery_of(store, one.seq)).over.attempt_log == log_of(success(1))
    await store.aclose()
