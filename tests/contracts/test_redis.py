"""The store in Redis, beyond what every store does: its keys, its lease, and a server in trouble."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from shop_poller.config.redis_address import parse_redis
from shop_poller.core.digests import parse_digest
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.import_walk import ImportPosition, Phase
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import EventType, KnownOrder
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.polling.digest_maker import DigestMaker
from shop_poller.ports import Ack, Alert, MoveToDeadLetters, Retry, ShopState
from shop_poller.stores import StorePool
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.membership import RedisMembership
from support.commands import wait_until
from support.deliveries import SHOP, T0, at, batch, claim, claim_one, ids, known_order, new_deliveries, put
from support.redis_server import REDIS, RedisServer, redis_server, valkey_binary
from support.sink_peers import CERTIFICATE, LOOPBACK

pytestmark = pytest.mark.anyio

PREFIX = "shop:polling:"
BINARIES: dict[str, str | None] = {"valkey": valkey_binary(), "redis": REDIS}


@pytest.fixture(scope="module", params=list(BINARIES.values()), ids=list(BINARIES))
def shared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server for all tests that leave it as it was but for its keys."""
    if request.param is None:
        pytest.skip("redis-server is not installed here; CI has it")
    with redis_server(tmp_path_factory.mktemp("shared"), binary=request.param) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    with shared.client as client:
        client.flushall()
    return shared


def store_at(url: str, prefix: str = PREFIX) -> RedisStore:
    return RedisStore(parse_redis(url), prefix=prefix, first_shop=SHOP)


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = store_at(server.url)
    assert await store.take()
    yield store
    await store.aclose()


def dump(server: RedisServer) -> dict[str, bytes]:
    """Every key but the lease, as the server would write it to a file."""
    with redis.Redis(host=LOOPBACK, port=server.port) as client:
        return {
            key.decode(): client.dump(key) for key in client.keys("*") if key != f"{PREFIX}lease".encode()
        }


def contents(server: RedisServer) -> dict[str, Any]:
    """What each key holds, but the lease; a dump also shows in which order the server has a hash just now."""
    with server.client as client:
        look: dict[str, Any] = {
            "string": client.get,
            "hash": client.hgetall,
            "set": client.smembers,
            "zset": lambda key: client.zrange(key, 0, -1, withscores=True),
        }
        keys = [str(key) for key in client.scan_iter() if key != f"{PREFIX}lease"]
        return {key: look[str(client.type(key))](key) for key in keys}


def restore(server: RedisServer, dumped: dict[str, bytes]) -> None:
    """Go back, as a replica does that had not heard of the last changes; the lease stays."""
    with redis.Redis(host=LOOPBACK, port=server.port) as client:
        for key in client.keys("*"):
            if key != f"{PREFIX}lease".encode():
                client.delete(key)
        for key, value in dumped.items():
            client.restore(key, 0, value)


# --- What people see with redis-cli ------------------------------------------------------------------------


async def test_the_keys_of_old_still_show_the_truth(server: RedisServer, store: RedisStore) -> None:
    state = ShopState(T0, last_poll_at=datetime(2026, 11, 23, 9, 50, 0, 123_000, UTC))
    await store.commit(SHOP, batch(state=state, known=[known_order(7), known_order(8, "cancelled")]))

    with server.client as client:
        assert client.get("shop:polling:last_poll_time") == "2026-11-23T09:50:00.123000"
        assert client.hgetall("shop:polling:known_orders") == {"7": "processing", "8": "cancelled"}


async def test_every_key_begins_with_the_prefix_and_none_expires_but_the_lease(server: RedisServer) -> None:
    store = store_at(server.url, "{kiosk}:")
    assert await store.take()
    await put(store, new_deliveries("A", "1"), new_deliveries("A", "1"))
    await put(store, new_deliveries("A", "2"), shop_id="other.example")
    delivery, other = await claim(store)
    await store.record_outcomes(
        [MoveToDeadLetters(delivery, "no"), Retry(other, at(9), "later", charged=True)], T0
    )
    await store.commit(SHOP, batch(known=[known_order(1)], state=ShopState(T0, last_poll_at=T0)))

    with server.client as client:
        keys: Any = client.keys("*")
        assert len(keys) > 10
        assert {key for key in keys if not key.startswith("{kiosk}:")} == set()
        assert {key for key in keys if client.ttl(key) != -1} == {"{kiosk}:lease"}
    await store.aclose()


async def test_a_commit_is_one_command(server: RedisServer, store: RedisStore) -> None:
    await store.register(SHOP, T0)
    await put(store, new_deliveries())  # the script is there from here on
    with server.client as client:
        client.config_resetstat()
        rows = [new_deliveries(sink, str(n)) for n in range(100) for sink in "AB"]
        await store.commit(SHOP, batch(*rows, known=[known_order(n) for n in range(100)]))
        stats: Any = client.info("commandstats")
    assert stats["cmdstat_evalsha"]["calls"] == 1
    assert "cmdstat_eval" not in stats
    assert "cmdstat_multi" not in stats


# --- Taking over from the design before this one ------------------------------------------------------------


async def test_it_goes_on_where_the_old_design_was(server: RedisServer, store: RedisStore) -> None:
    with server.client as client:
        client.set("shop:polling:last_poll_time", "2026-11-23T08:00:00.654321")
        statuses = {
            "1": "processing", "2": "completed", "3": "cancelled", "4": "refunded",
            "5": "pending", "6": "on-hold", "7": "failed",
        }  # fmt: skip
        client.hset("shop:polling:known_orders", mapping=statuses)
        client.expire("shop:polling:known_orders", 7)

    state = await store.register(SHOP, T0)

    last = datetime(2026, 11, 23, 8, 0, 0, 654_000, UTC)
    assert state == ShopState(
        T0,
        baseline_at=last,
        cursor_at=last,
        last_poll_at=last,
        import_position=ImportPosition(Phase.OPEN, last),
    )
    known = await store.known(SHOP, range(1, 9))
    assert {order_id: record.status for order_id, record in known.items()} == {
        int(order_id): status for order_id, status in statuses.items()
    }
    assert {order_id for order_id, record in known.items() if record.announced_new} == {1, 2, 3, 4}
    assert all(record.refund_ids is None and not record.decided for record in known.values())
    with server.client as client:
        assert client.ttl("shop:polling:known_orders") == -1  # its EXPIRE would still drop them
    # They are dropped when they are old, as ours are.
    assert await store.prune(SHOP, seen_before=at(-1), finished_before=at(-1)) == 0
    assert await store.prune(SHOP, seen_before=at(1), finished_before=at(-1)) == 7
    assert await store.register(SHOP, at(60)) == state


async def test_a_look_at_the_old_keys_changes_nothing(server: RedisServer) -> None:
    with server.client as client:
        client.set("shop:polling:last_poll_time", "2026-11-23T08:00:00")
        client.hset("shop:polling:known_orders", mapping={"1": "processing"})
        client.expire("shop:polling:known_orders", 100)
    store = store_at(server.url)
    state, known = await store.snapshot(SHOP, T0)
    assert state.cursor_at == datetime(2026, 11, 23, 8, 0, tzinfo=UTC)
    assert [record.id for record in known] == [1]
    with server.client as client:
        assert sorted(client.keys("*")) == ["shop:polling:known_orders", "shop:polling:last_poll_time"]
        assert 0 < client.ttl("shop:polling:known_orders") <= 100
    await store.aclose()


async def test_a_time_that_is_none_is_as_good_as_no_time(server: RedisServer, store: RedisStore) -> None:
    with server.client as client:
        client.set("shop:polling:last_poll_time", "yesterday")
    assert await store.register(SHOP, T0) == ShopState(T0)


@pytest.mark.parametrize(
    ("status", "announced_new"), [("cancelled", True), ("completed", True), ("failed", False)]
)
async def test_where_the_two_hashes_disagree_the_plain_one_wins(
    server: RedisServer,
    store: RedisStore,
    status: str,
    announced_new: bool,  # noqa: FBT001 - a test's parameter
) -> None:
    """The old design ran again for a while, and wrote what it knows of."""
    ours = KnownOrder(1, "pending", T0, decided={EventType.FAILED: 2}, refund_ids=frozenset({5}))
    await store.commit(SHOP, batch(known=[ours]))
    with server.client as client:
        client.hset("shop:polling:known_orders", "1", status)
    (record,) = (await store.known(SHOP, [1])).values()
    assert record == KnownOrder(
        1, status, T0, announced_new=announced_new, decided=ours.decided, refund_ids=ours.refund_ids
    )


async def test_what_an_earlier_version_wrote_lacks_what_it_did_not_know(
    server: RedisServer, store: RedisStore
) -> None:
    record = replace(
        known_order(1, "pending"),
        awaiting_since=T0,
        refund_ids=frozenset({5}),
        silent_refund_ids=frozenset({5}),
    )
    state = ShopState(T0, baseline_at=T0, newest_order_at=T0, silence_told_at=T0, refunds_at=T0)
    await store.commit(SHOP, batch(state=state, known=[record]))
    with server.client as client:
        details = json.loads(client.hget("shop:polling:known_details", "1"))
        del details["awaiting_since"]
        del details["silent_refund_ids"]
        client.hset("shop:polling:known_details", "1", json.dumps(details))
        client.hdel("shop:polling:state", "newest_order_at", "silence_told_at", "refunds_at")

    assert await store.known(SHOP, [1]) == {1: replace(known_order(1, "pending"), refund_ids=frozenset({5}))}
    assert await store.load(SHOP) == ShopState(T0, baseline_at=T0)


async def test_there_and_back_and_there_again(server: RedisServer, store: RedisStore) -> None:
    """The old design ran for a while: it wrote, and set its EXPIRE again."""
    await store.commit(SHOP, batch(state=ShopState(T0), known=[known_order(1)], seen_at=at(-100)))
    with server.client as client:
        client.hset("shop:polling:known_orders", mapping={"1": "cancelled", "2": "processing"})
        client.expire("shop:polling:known_orders", 7 * 86_400)

    assert await store.register(SHOP, T0) == ShopState(T0)

    with server.client as client:
        assert client.ttl("shop:polling:known_orders") == -1
    known = await store.known(SHOP, [1, 2])
    assert {order_id: record.status for order_id, record in known.items()} == {
        1: "cancelled",
        2: "processing",
    }
    assert await store.prune(SHOP, seen_before=at(-50), finished_before=at(-50)) == 1  # ours kept its age
    assert await store.prune(SHOP, seen_before=at(1), finished_before=at(-50)) == 1


async def test_keys_of_another_shop_are_refused_and_not_changed(
    server: RedisServer, store: RedisStore
) -> None:
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch(known=[known_order(1)]))
    await store.release()
    before = contents(server)
    other = RedisStore(parse_redis(server.url), prefix=PREFIX, first_shop="other.example")
    assert await other.take()
    for attempt in (
        partial(other.register, "other.example", T0),
        partial(other.snapshot, "other.example", T0),
    ):
        with pytest.raises(PermanentError, match=SHOP):
            await attempt()
    assert contents(server) == before
    await other.aclose()


async def test_another_shop_under_the_same_prefix_has_its_own_keys(
    server: RedisServer, store: RedisStore
) -> None:
    await store.commit("other.example", batch(known=[known_order(1)]))
    assert await store.known(SHOP, [1]) == {}
    with server.client as client:
        assert client.hgetall("shop:polling:other.example:known_orders") == {"1": "processing"}


# --- The lease ----------------------------------------------------------------------------------------------


async def test_one_has_the_lease_and_others_are_told_who(server: RedisServer, store: RedisStore) -> None:
    other = store_at(server.url)
    assert not await other.take()
    assert await store.renew()
    assert not await other.renew()
    await other.release()  # it is not its own to release
    with server.client as client:
        nonce = str(client.get(f"{PREFIX}lease"))
        assert 0 < client.pttl(f"{PREFIX}lease") <= store.term_s * 1000
    holder = await other.holder()
    assert nonce.startswith(f"{holder}/")
    assert len(nonce.removeprefix(f"{holder}/")) == 16  # what proves it is not shown
    await store.release()
    assert await other.holder() == ""
    assert await other.take()
    assert not await store.renew()
    await other.aclose()


async def test_who_lost_the_lease_changes_nothing(server: RedisServer, store: RedisStore) -> None:
    await store.register(SHOP, T0)
    await put(store, new_deliveries("A", "1"), new_deliveries("A", "2"))
    (delivery,) = await claim(store, limit=1)
    with server.client as client:
        client.set(f"{PREFIX}lease", "somebody/else")
    before = contents(server)

    for attempt in (
        partial(store.commit, SHOP, batch(new_deliveries(), known=[known_order(1)])),
        partial(store.record_outcomes, [Ack(delivery)], T0),
        partial(store.record_outcomes, [MoveToDeadLetters(delivery, "no")], T0),
        partial(store.claim, "A", now=at(9), limit=9),
        partial(store.dead_letter_expired, "A", head_before=at(9), now=at(9)),
        partial(store.release_parked, "A"),
    ):
        with pytest.raises(TemporaryError, match="another replica has the lease") as caught:
            await attempt()
        assert caught.value.kind is ErrorKind.STORE
    assert contents(server) == before
    assert not await store.renew()


async def test_without_having_taken_the_lease_nothing_can_be_written(server: RedisServer) -> None:
    store = store_at(server.url)
    for attempt in (lambda: put(store, new_deliveries()), lambda: store.register(SHOP, T0)):
        with pytest.raises(TemporaryError, match="another replica has the lease"):
            await attempt()
    assert dump(server) == {}
    await store.aclose()


async def test_taking_the_lease_anew_voids_the_claims_of_before(
    server: RedisServer, store: RedisStore
) -> None:
    await put(store, new_deliveries(event_id="held"))
    claimed = await claim_one(store)
    assert await claim(store) == []
    other = store_at(server.url)
    await store.release()
    assert await other.take()
    assert ids(await claim(other)) == ["held"]
    await other.release()
    assert await store.take()
    assert await claim_one(store) == claimed
    await other.aclose()


async def test_due_times_follow_the_servers_clock(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Slow":
            return super().now(tz) - timedelta(hours=1)

    true = datetime.now(UTC)
    monkeypatch.setattr("shop_poller.clock.datetime", Slow)
    assert await store.renew()
    assert abs(store.now() - true) < timedelta(seconds=30)


# --- A server that lost something ---------------------------------------------------------------------------


async def lived_in(store: RedisStore) -> ShopState:
    """Two lines of deliveries, one of them claimed and parked, some records."""
    state = ShopState(T0, baseline_at=T0, cursor_at=at(60), last_poll_at=at(60))
    await store.register(SHOP, T0)
    rows = [new_deliveries("A", "1", "1/1"), new_deliveries("A", "1", "1/2"), new_deliveries("A", "2", "2/1")]
    await store.commit(SHOP, batch(*rows, state=state, known=[known_order(1), known_order(2)]))
    first, _ = await claim(store)
    await store.record_outcomes([Retry(first, at(30), "500", charged=True)], T0)
    return state


async def test_an_emptied_server_is_noticed_and_begun_anew(server: RedisServer, store: RedisStore) -> None:
    await lived_in(store)
    with server.client as client:
        client.flushall()
    assert not await store.renew()
    with pytest.raises(TemporaryError):
        await store.commit(SHOP, batch(known=[known_order(3)]))
    assert dump(server) == {}
    assert await store.take()
    assert await store.register(SHOP, at(99)) == ShopState(at(99))


async def test_an_older_replica_is_noticed_and_gone_on_from(server: RedisServer, store: RedisStore) -> None:
    older = await lived_in(store)
    dumped = dump(server)
    newer = ShopState(T0, baseline_at=T0, cursor_at=at(600), last_poll_at=at(600))
    await store.commit(SHOP, batch(new_deliveries("A", "3", "3/1"), state=newer, known=[known_order(3)]))
    restore(server, dumped)
    before = contents(server)

    with pytest.raises(TemporaryError, match="not what this process wrote"):
        await store.commit(SHOP, batch(known=[known_order(4)]))

    assert contents(server) == before
    assert not await store.renew()  # its right ends with this, so that all is read anew
    await store.release()
    assert await store.take()
    assert await store.register(SHOP, at(601)) == older
    await store.commit(SHOP, batch(state=older))


async def test_a_number_that_is_given_twice_records_only_its_own(
    server: RedisServer, store: RedisStore
) -> None:
    dumped = dump(server)
    await put(store, new_deliveries(event_id="of the lost time"))
    lost = await claim_one(store)
    restore(server, dumped)
    await store.release()
    assert await store.take()
    await put(store, new_deliveries(event_id="new"))

    await store.record_outcomes([Ack(lost)], T0)
    await store.record_outcomes([MoveToDeadLetters(lost, "no")], T0)
    await store.record_outcomes([Retry(lost, at(99), "no", charged=True)], T0)

    new = await claim_one(store)
    assert (new.event_id, new.seq, new.attempts) == ("new", lost.seq, 0)


PARTS = (
    "state", "known_orders", "known_details", "known_seen", "last_poll_time", "outbox", "outbox:lines",
    "outbox:heads", "outbox:lanes", "outbox:due:A", f"outbox:age:{SHOP}:A",
)  # fmt: skip


@pytest.mark.parametrize("part", PARTS)
async def test_whatever_single_key_is_evicted_the_next_session_is_sound(
    server: RedisServer, store: RedisStore, part: str
) -> None:
    state = await lived_in(store)
    with server.client as client:
        assert client.delete(PREFIX + part) == 1
    await store.release()
    assert await store.take()

    found = await store.register(SHOP, at(100))

    # Either all is known, or all begins anew; and what still lies in the outbox comes out, in order, once.
    known = await store.known(SHOP, [1, 2])
    if found == state:
        assert set(known) == {1, 2}
    else:
        assert (found, known) == (ShopState(at(100)), {})
    await store.commit(SHOP, batch(new_deliveries("A", "9", "9/1"), state=found, now=at(100)))
    arrived = []
    while taken := await claim(store, now=at(200)):
        arrived += ids(taken)
        await store.record_outcomes([Ack(delivery) for delivery in taken], at(200))
    left = [] if part == "outbox" else ["1/1", "2/1", "1/2"]
    assert sorted(arrived) == sorted([*left, "9/1"])
    assert [one for one in arrived if one.startswith("1/")] == [one for one in left if one.startswith("1/")]
    stats = await store.stats(SHOP)
    assert {sink: one.waiting for sink, one in stats.sinks.items()} == {}


def replay_from_another_store(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch, *commands: str
) -> list[int]:
    """Replay all dead letters from another store, once, after one of these commands has read the outbox."""
    read, replayed = store._connection.read, list[int]()

    async def reading(*command: str | int) -> Any:
        answer = await read(*command)
        if not replayed and command[0] in commands:
            replayed.append(0)
            async with aclosing(store_at(f"redis://{store._address.shown.partition('://')[2]}")) as other:
                replayed[0] = await other.replay_concurrently(SHOP, await other.dead_ids(SHOP), at(50))
        return answer

    monkeypatch.setattr(store._connection, "read", reading)
    return replayed


async def one_dead_one_parked(store: RedisStore) -> None:
    """A dead letter, and a delivery that failed once and waits for its time."""
    await store.register(SHOP, T0)
    await put(store, new_deliveries("A", "1", "dead"))
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store), "no")], T0)
    await put(store, new_deliveries("B", "2", "only dead"))
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store, "B"), "no")], T0)
    await put(store, new_deliveries("A", "3", "parked"), new_deliveries("A", "3", "behind"))
    await store.record_outcomes([Retry(await claim_one(store), at(70), "500", charged=True)], T0)
    assert await store._order.is_whole()


async def test_what_is_replayed_while_the_outbox_is_mended_gets_its_place(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_dead_one_parked(store)
    with server.client as client:
        assert client.delete(f"{PREFIX}outbox:lines") == 1
    replayed = replay_from_another_store(store, monkeypatch, "HGETALL", "HSCAN")
    await store.register(SHOP, at(60))
    assert replayed == [2]
    assert await store._order.is_whole()
    assert [ids(await claim(store, sink, now=at(60))) for sink in "AB"] == [["dead"], ["only dead"]]
    (parked,) = await claim(store, now=at(70))
    assert (parked.event_id, parked.attempts) == ("parked", 1), "it is as it was before"


async def test_dead_letters_are_found_after_the_outbox_was_mended(
    server: RedisServer, store: RedisStore
) -> None:
    await one_dead_one_parked(store)
    with server.client as client:
        assert client.delete(f"{PREFIX}outbox:lines") == 1
    await store.register(SHOP, at(60))
    assert {one.sink for one in await store.finished(SHOP, dead=True, limit=9)} == {"A", "B"}


async def test_a_replay_while_it_is_counted_is_no_damage(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await one_dead_one_parked(store)
    replayed = replay_from_another_store(store, monkeypatch, "HKEYS", "SMEMBERS")
    assert await store._order.is_whole()
    assert replayed == [2]


async def test_an_outbox_larger_than_a_piece_is_mended_in_order(
    server: RedisServer, store: RedisStore
) -> None:
    await store.register(SHOP, T0)
    await put(store, *(new_deliveries("A", str(n % 300), f"{n}") for n in range(600)))
    with server.client as client:
        assert client.delete(f"{PREFIX}outbox:heads") == 1
    await store.register(SHOP, at(60))
    assert await store._order.is_whole()
    order = []
    while some := await claim(store, now=at(100), limit=1000):
        order += [int(one) for one in ids(some)]
        await store.record_outcomes([Ack(one) for one in some], at(100))
    assert (sorted(order[:300]), sorted(order[300:])) == ([*range(300)], [*range(300, 600)])


@pytest.mark.parametrize("part", ["outbox", "outbox:lines"])
async def test_deliveries_in_hand_whose_place_is_gone_end_the_session(
    server: RedisServer, store: RedisStore, part: str
) -> None:
    await lived_in(store)
    (claimed,) = await claim(store, now=at(60), limit=1)
    with server.client as client:
        client.delete(PREFIX + part)
    attempt = {
        "outbox": partial(store.commit, SHOP, batch()),
        "outbox:lines": partial(store.record_outcomes, [Ack(claimed)], at(1)),
    }
    with pytest.raises(TemporaryError, match="not what this process wrote"):
        await attempt[part]()
    assert not await store.renew()


async def test_a_commit_whose_answer_was_lost_is_no_reason_to_stop(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it was carried out is not known; both is fine."""
    await store.register(SHOP, T0)
    real = store._connection.fenced

    async def unheard(*args: Any) -> Any:
        await real(*args)
        raise TemporaryError(ErrorKind.STORE, "no answer in time")

    async def unsaid(*_: Any) -> Any:
        raise TemporaryError(ErrorKind.STORE, "no connection")

    for failing in (unheard, unsaid, unheard):
        monkeypatch.setattr(store._connection, "fenced", failing)
        with pytest.raises(TemporaryError):
            await put(store, new_deliveries(key="1"))
    monkeypatch.setattr(store._connection, "fenced", real)
    await put(store, new_deliveries(key="1"))
    assert await store.renew()
    assert (await store.stats(SHOP)).sinks["A"].waiting == 3


async def test_a_commit_that_is_sent_twice_is_carried_out_once(store: RedisStore) -> None:
    """As the client of a Cluster does when it loses the answer."""
    await store.register(SHOP, T0)
    real = store._connection.fenced

    async def twice(*args: Any) -> Any:
        await real(*args)
        return await real(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._connection, "fenced", twice)
        await put(store, new_deliveries(key="1"))
    await put(store, new_deliveries(key="1"))
    assert (await store.stats(SHOP)).sinks["A"].waiting == 2


@pytest.mark.parametrize("part", ["set_aside", "outbox:lines", "outbox:due:A"])
async def test_a_key_that_is_not_ours_stops_a_commit_before_its_first_write(
    server: RedisServer, store: RedisStore, part: str
) -> None:
    await store.register(SHOP, T0)
    with server.client as client:
        client.delete(PREFIX + part)
        client.set(PREFIX + part, "somebody else's")
    before = contents(server)
    with pytest.raises(TemporaryError, match="not ours"):
        await store.commit(SHOP, batch(new_deliveries("A"), known=[known_order(1)]))
    assert contents(server) == before
    with server.client as client:
        client.delete(PREFIX + part)
    await store.commit(SHOP, batch(new_deliveries("A"), known=[known_order(1)]))


async def test_many_refusals_are_no_reason_to_stop(server: RedisServer, store: RedisStore) -> None:
    await store.register(SHOP, T0)
    with server.client as client:
        client.set(f"{PREFIX}alerts", "somebody else's")
        for _ in range(60):
            with pytest.raises(TemporaryError):
                await store.commit(SHOP, batch())
        client.delete(f"{PREFIX}alerts")
    await store.commit(SHOP, batch())
    assert await store.renew()


async def test_a_step_of_our_clock_moves_no_due_time(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store.now()

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Stepped":
            return super().now(tz) + timedelta(hours=1)

    monkeypatch.setattr("shop_poller.clock.datetime", Stepped)
    assert timedelta(0) <= store.now() - before < timedelta(seconds=30)


async def test_a_take_whose_answer_was_lost_keeps_nobody_out(server: RedisServer) -> None:
    store = store_at(server.url)
    real = store._connection.call

    async def unheard(*args: Any) -> Any:
        await real(*args)
        raise TemporaryError(ErrorKind.STORE, "no answer in time")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store._connection, "call", unheard)
        with pytest.raises(TemporaryError):
            await store.take()
    assert await store.take()
    await store.aclose()
    assert dump(server) == {}


async def test_with_many_readers_there_is_a_connection_left_for_the_lease(store: RedisStore) -> None:
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(100)]))
    async with anyio.create_task_group() as tasks:
        for _ in range(200):
            tasks.start_soon(store.known, SHOP, range(100))
            tasks.start_soon(store.stats, SHOP)
        assert await store.renew()


async def test_a_command_cancelled_in_flight_spoils_no_other(server: RedisServer, store: RedisStore) -> None:
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(300)]))
    for n in range(60):
        with anyio.move_on_after(0.0002 * (n % 7)):
            await store.known(SHOP, range(300))
        assert await store.holder()
        assert set(await store.known(SHOP, [n])) == {n}
    with server.client as client:
        assert len(client.client_list()) < 20


# --- A server in trouble ------------------------------------------------------------------------------------


async def refused(store: RedisStore) -> str:
    """What is said when something cannot be written: one line."""
    with pytest.raises(TemporaryError) as caught:
        await store.commit(SHOP, batch(known=[known_order(1)]))
    assert caught.value.kind is ErrorKind.STORE
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("state in redis://127.0.0.1:")
    return text


async def test_a_server_that_is_away_is_named_and_used_again_when_it_is_back(tmp_path: Path) -> None:
    with redis_server(tmp_path, keeps=True) as server:
        store = store_at(server.url)
        assert await store.take()
        await store.register(SHOP, T0)
        await put(store, new_deliveries(event_id="kept"))
        server.end()
        assert "connect" in (await refused(store)).lower()
        server.start()
        assert await store.renew() or await store.take()
        await store.register(SHOP, T0)
        assert ids(await claim(store)) == ["kept"]
        await store.aclose()


async def test_a_server_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        store = store_at(server.url)
        assert await store.take()
        await store.register(SHOP, T0)
        server.freeze()
        with anyio.fail_after(store.term_s):
            assert "in time" in (await refused(store)).lower() or "timeout" in await refused(store)
        server.thaw()
        assert await store.renew()
        await store.commit(SHOP, batch(known=[known_order(1)]))
        assert set(await store.known(SHOP, [1])) == {1}
        await store.aclose()


async def test_full_memory_is_named_and_ends(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client as client:
        store = store_at(server.url)
        assert await store.take()
        await store.register(SHOP, T0)
        await put(store, new_deliveries("A", "1"), new_deliveries("A", "1"))
        claimed = await claim_one(store)
        client.config_set("maxmemory", "1")
        assert "its maxmemory is used up" in await refused(store)
        await store.record_outcomes([Ack(claimed)], at(1))  # what makes room may be written down
        client.config_set("maxmemory", "0")
        await store.commit(SHOP, batch(known=[known_order(1)]))
        await store.aclose()


async def test_a_server_that_became_a_replica_is_named(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client as client:
        store = store_at(server.url)
        assert await store.take()
        await store.register(SHOP, T0)
        client.execute_command("REPLICAOF", LOOPBACK, "1")
        assert "replica" in await refused(store)
        client.execute_command("REPLICAOF", "NO", "ONE")
        await store.commit(SHOP, batch(known=[known_order(1)]))
        await store.aclose()


async def test_passwords_are_checked_and_never_shown(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--requirepass", "s3cret-word") as server:
        place = f"{LOOPBACK}:{server.port}/0"
        for user, trigger in ((":wr0ng-word@", "check user and password"), ("", "check user and password")):
            store = store_at(f"redis://{user}{place}")
            with pytest.raises(TemporaryError) as caught:
                await store.take()
            assert trigger in str(caught.value)
            assert "word" not in str(caught.value).replace("password", "")
            await store.aclose()
        store = store_at(f"redis://:s3cret-word@{place}")
        assert await store.take()
        await store.aclose()


DOCS = Path(__file__).parents[2] / "docs/redis.md"
RIGHTS = "~shop:polling:* resetchannels -@all +@hash +@sortedset +@string +@set +@scripting +@connection"
RIGHTS += " +del +exists +persist +pexpire +ttl +type +time +info"


async def test_an_acl_user_with_the_rights_of_the_documentation_is_enough(tmp_path: Path) -> None:
    assert RIGHTS in DOCS.read_text(encoding="utf-8")
    with redis_server(tmp_path) as server, server.client as client:
        client.execute_command("ACL", "SETUSER", "poller", "on", ">pw-of-poller", *RIGHTS.split())
        client.execute_command(
            "ACL", "SETUSER", "looker", "on", ">pw-of-looker", "~*", "+@read", "+@connection"
        )
        store = store_at(f"redis://poller:pw-of-poller@{LOOPBACK}:{server.port}/0")
        assert "answers" in await store.check()
        assert await store.take()
        client.set("shop:polling:last_poll_time", "2026-11-23T08:00:00")
        client.hset("shop:polling:known_orders", mapping={"1": "processing"})
        await store.register(SHOP, T0)
        await lived_in(store)
        await store.release_parked("A")
        await store.dead_letter_expired("A", head_before=at(99), now=at(99))
        await store.prune(SHOP, seen_before=at(999), finished_before=at(999))
        await store.stats(SHOP)
        await store.aclose()

        poor = store_at(f"redis://looker:pw-of-looker@{LOOPBACK}:{server.port}/0")
        with pytest.raises(TemporaryError, match=r"docs/redis\.md"):
            await poor.take()
        await poor.aclose()


@pytest.mark.skipif(
    REDIS is None, reason="Valkey's wheel has no TLS; CI has Debian's redis-server, which has"
)
async def test_tls_is_spoken_and_the_certificate_looked_at(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(CERTIFICATE, encoding="ascii")
    port = RedisServer(tmp_path).port
    options = [
        "--tls-port", str(port), "--tls-cert-file", str(pem), "--tls-key-file", str(pem),
        "--tls-ca-cert-file", str(pem), "--tls-auth-clients", "no",
    ]  # fmt: skip
    with redis_server(tmp_path, *options, binary=REDIS):
        store = store_at(f"rediss://{LOOPBACK}:{port}/0?ca_certs={pem}")
        assert await store.take()
        await store.aclose()
        untrusting = store_at(f"rediss://{LOOPBACK}:{port}/0")
        with pytest.raises(TemporaryError, match=r"(?i)certificate"):
            await untrusting.take()
        await untrusting.aclose()


async def test_sentinels_know_who_is_the_primary(tmp_path: Path) -> None:
    with redis_server(tmp_path / "one") as primary:
        (tmp_path / "sentinel").mkdir()
        sentinel = RedisServer(tmp_path / "sentinel" / "redis")
        sentinel.folder.mkdir()
        config = sentinel.folder / "sentinel.conf"
        config.write_text(f"sentinel monitor mymaster {LOOPBACK} {primary.port} 1\n", encoding="ascii")
        sentinel.before = (str(config), "--sentinel")
        sentinel.start()
        try:
            store = store_at(f"redis+sentinel://{LOOPBACK}:{sentinel.port}/mymaster/0")
            assert await store.take()
            await put(store, new_deliveries(event_id="over sentinel"))
            assert ids(await claim(store)) == ["over sentinel"]
            await store.aclose()
            unknown = store_at(f"redis+sentinel://{LOOPBACK}:{sentinel.port}/nobody/0")
            with pytest.raises(TemporaryError, match="nobody"):
                await unknown.take()
            await unknown.aclose()
        finally:
            sentinel.end()


async def test_a_cluster_is_used_by_a_prefix_with_a_hash_tag(tmp_path: Path) -> None:
    with redis_server(tmp_path, "--cluster-enabled", "yes") as server, server.client as client:
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_until(lambda: "fail" not in str(client.execute_command("CLUSTER INFO"))[:30], "a cluster")
        store = store_at(f"redis+cluster://{LOOPBACK}:{server.port}", "{shop}:polling:")
        assert "answers" in await store.check()
        assert await store.take()
        await lived_in(store)
        assert ids(await claim(store, now=at(60))) == ["1/1"]
        await store.release_parked("A")
        assert (await store.stats(SHOP)).sinks["A"].waiting == 3
        await store.prune(SHOP, seen_before=at(999), finished_before=at(999))
        await store.aclose()


# --- What `check` says --------------------------------------------------------------------------------------


async def test_a_good_server_is_described(store: RedisStore) -> None:
    said = await store.check()
    assert "answers (" in said
    assert "led by" in said
    assert "appendonly" in said  # this one has no file


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_server_that_may_forget_keys_is_no_good_place(tmp_path: Path, policy: str) -> None:
    with redis_server(tmp_path, "--maxmemory", "100mb", "--maxmemory-policy", policy) as server:
        store = store_at(server.url)
        with pytest.raises(PermanentError, match="noeviction"):
            await store.check()
        await store.aclose()


async def test_a_state_of_an_older_version_counts_silence_from_now_and_knows_what_is_open(
    server: RedisServer, store: RedisStore
) -> None:
    polled = ShopState(started_at=T0, baseline_at=at(-3600), cursor_at=T0, last_poll_at=at(60))
    await store.commit(SHOP, batch(state=polled, known=[known_order(1), known_order(2, "completed")]))
    with server.client as client:
        client.hdel(f"{PREFIX}state", "open_rev", "sweep_after_id", "newest_order_at")
        client.delete(f"{PREFIX}known_open")
    for _ in range(2):
        assert await store.register(SHOP, at(120)) == replace(polled, newest_order_at=at(60))
        assert await store.open_orders(SHOP, after_id=0, limit=9) == [1]


async def test_what_an_older_version_wrote_meanwhile_is_open_too(
    server: RedisServer, store: RedisStore
) -> None:
    await store.commit(SHOP, batch(known=[known_order(1)]))
    with server.client as client:
        client.hset(f"{PREFIX}known_orders", "2", "processing")
        for key, field in (("state", "rev"), ("known_details", "rev"), ("outbox", f"rev:{SHOP}")):
            client.hset(f"{PREFIX}{key}", field, "its own")
    store._commits.forget()
    await store.register(SHOP, at(1))
    assert await store.open_orders(SHOP, after_id=0, limit=9) == [1, 2]


async def test_after_an_older_version_has_led_events_are_counted_anew(
    server: RedisServer, store: RedisStore
) -> None:
    counting = ShopState(started_at=T0, baseline_at=T0, tallied_since=T0)
    await store.commit(SHOP, batch(state=counting))
    await store.raise_alert(SHOP, Alert("digest:A", ErrorKind.REJECTED, T0), (), at(1))
    assert await store.register(SHOP, at(1)) == counting
    with server.client as client:  # that version writes its own revision, and none of tallies
        for key, field in (("state", "rev"), ("known_details", "rev"), ("outbox", f"rev:{SHOP}")):
            client.hset(f"{PREFIX}{key}", field, "its own")
    store._commits.forget()
    assert await store.register(SHOP, at(1)) == replace(counting, tallied_since=None)


@pytest.mark.parametrize(
    "answer",
    [1, None, "OK", [], [""], {"a": "b"}, True, float("inf"), ["", "x", "y"], ["", 10**30, 0]],
    ids=repr,
)
async def test_an_answer_of_another_kind_is_an_error_of_the_server(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    """A program that is not Redis, or one between that mixes answers up, must not end the daemon."""
    store = RedisStore(parse_redis("redis://127.0.0.1:1/0"), prefix="p", first_shop=SHOP)

    async def call(*_: object) -> object:
        return answer

    monkeypatch.setattr(store._connection, "_carry_out", call)
    for ask in (store.take, store.release, store.check):
        with pytest.raises(TemporaryError, match="the answer does not fit the command") as caught:
            await ask()
        assert caught.value.kind is ErrorKind.STORE


@pytest.mark.parametrize("answer", [1, None, "OK", [1], {"a": "b"}, True, float("inf")], ids=repr)
async def test_so_it_is_when_a_fleet_asks_who_is_there(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    address = parse_redis("redis://127.0.0.1:1/0")
    store_pool = StorePool(address)
    membership = store_pool.membership(address, prefix="p", name="a")
    assert isinstance(membership, RedisMembership)

    async def call(*_: object) -> object:
        return answer

    monkeypatch.setattr(membership._connection, "_carry_out", call)
    with pytest.raises(TemporaryError, match="the answer does not fit the command"):
        await membership.stay()
    with pytest.raises(TemporaryError, match="the answer does not fit the command"):
        await membership.leased(["one", "two", "three"])


ODD: list[object] = [7, None, "OK", ["a"], [None], {"a": "b"}, ["0", "{}"], [0, {"1": "{}"}], [["a", "b"]]]


async def everything(store: RedisStore) -> None:
    """Use what a leader session uses: poll, deliver, record outcomes, inspect, prune, mend."""
    assert await store.take()
    await store.register(SHOP, T0)
    for number in (1, 2):
        row = new_deliveries(key=str(number), event_id=f"event {number}")
        await store.commit(SHOP, batch(row, known=[known_order(number)]))
    await store.known(SHOP, [1, 2])
    await store.open_orders(SHOP, after_id=0, limit=9)
    claimed = await claim(store, now=at(1))
    await store.record_outcomes(
        [Ack(one) if number else MoveToDeadLetters(one, "no") for number, one in enumerate(claimed)], at(2)
    )
    await store.dead_letter_expired("A", head_before=at(-1), now=at(3))
    await store.release_parked("A")
    await store.clamp_due("A", latest=at(4))
    await store.next_due("A")
    await store.stats(SHOP)
    await store.prune(SHOP, seen_before=at(-1), finished_before=at(-1))
    await store.redate(SHOP, after=at(5), to=at(5))
    for seq in await store.dead_ids(SHOP):
        await store.dead_letter(SHOP, seq)
        await store.replay_concurrently(SHOP, [seq], at(6))
    await store.delivery_records(SHOP, frozenset({"1"}))
    await store.finished(SHOP, dead=False, limit=9)
    await store.rows_set_aside(SHOP)
    store._order.must_mend = True
    await store.register(SHOP, at(7))
    await store.renew()
    await store.holder()
    await store.release()


async def test_whichever_answer_is_another_s_it_is_an_error_of_the_server(
    monkeypatch: pytest.MonkeyPatch, server: RedisServer
) -> None:
    """Each command of a leader session in turn gets the answer to another command."""
    number, odd_at = 0, 0
    genuine = RedisConnection._carry_out

    async def carry_out(connection: RedisConnection, command: Any) -> Any:
        nonlocal number
        number += 1
        answer = await genuine(connection, command)
        return ODD[odd_at % len(ODD)] if number == odd_at else answer

    monkeypatch.setattr(RedisConnection, "_carry_out", carry_out)
    failures: list[TemporaryError] = []
    while odd_at <= number:  # one more than there were commands
        number, odd_at = 0, odd_at + 1
        with server.client as client:
            client.flushall()
        async with aclosing(store_at(server.url)) as store:
            try:
                await everything(store)
            except TemporaryError as error:
                failures.append(error)
                number = max(number, odd_at)
    assert odd_at > 60
    assert len(failures) > odd_at / 2
    assert {error.kind for error in failures} == {ErrorKind.STORE}


async def test_of_two_replicas_one_makes_the_digest(server: RedisServer, store: RedisStore) -> None:
    """The other one does not know yet that it lost the lease, or takes over right after the commit."""
    state = ShopState(started_at=T0, baseline_at=T0, tallied_since=T0)
    others, made = store_at(server.url), list[str]()

    def maker(of: RedisStore, now: datetime) -> DigestMaker:
        clock = ClockWatch(lambda: now)
        clock.note_shop_time(now)
        return DigestMaker(
            {"A": parse_digest("daily@10:00")},
            zone=UTC,
            orders=of,
            alerts=of,
            message_format=MessageFormat(SHOP),
            clock=clock,
            on_new_deliveries=lambda rows: made.extend(row.notification.event_id for row in rows),
        )

    async with aclosing(others):
        due = T0.replace(hour=11) + timedelta(days=1)
        polled = replace(state, last_poll_at=due)
        await store.register(SHOP, T0)
        await maker(store, due - timedelta(days=1)).make_due(polled, due)
        late, next_leader = maker(store, due), maker(others, due)
        await store.release()
        assert await others.take()
        await others.register(SHOP, due)
        with pytest.raises(TemporaryError):
            await late.make_due(polled, due)
        assert made == []
        await next_leader.make_due(polled, due)
        await maker(others, due).make_due(polled, due)
        assert len(made) == 1
        (one,) = await others.claim("A", now=due, limit=9)
        assert [one.event_id] == made
