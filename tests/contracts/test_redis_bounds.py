"""What one script or command touches is bounded, however much lies in Redis; long work is done in steps."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import anyio
import pytest
from fakeredis import FakeServer

from shop_poller.clock import EPOCH
from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import UnreadableOrder
from shop_poller.ports import Ack, Backfill, Batch, MoveToDeadLetters, Retry
from shop_poller.stores import StorePool
from shop_poller.stores.redis import RedisStore, codec, connection, lease
from shop_poller.stores.redis import client as redis_client
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.keys import LANE
from shop_poller.stores.redis.renewals import Renewals
from support.deliveries import SHOP, T0, at, batch, claim, ids, known_order, new_deliveries, put
from support.lua_calls import Touched, touched
from support.redis_server import RedisServer, redis_server
from support.stores import ADDRESS, fake_client

pytestmark = pytest.mark.anyio

PREFIX = "shop:polling:"
SCRIPTS = Path(__file__).parents[2] / "src/shop_poller/stores/redis/scripts"
A_PIECE = 20


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds that a fake server reaches in good time."""
    modules = "shop_poller.stores.redis"
    for module in ("connection", "mending", "dead_letters", "outbox", "records"):
        monkeypatch.setattr(f"{modules}.{module}.CHUNK", A_PIECE)
    for name in ("EXPIRE_LIMIT", "MAX_FINISHED", "EXPIRE_SCAN", "RELEASE_LIMIT", "CLAMP_LIMIT"):
        monkeypatch.setattr(f"{modules}.outbox.{name}", 2 * A_PIECE)
    for name in ("PRUNE_LIMIT", "MAX_FINISHED", "CLAMP_LIMIT"):
        monkeypatch.setattr(f"{modules}.retention.{name}", 2 * A_PIECE)
    monkeypatch.setattr(f"{modules}.outbox_order.PRUNE_LIMIT", 2 * A_PIECE)


async def filled(rows: int) -> RedisStore:
    """A shop with so many of everything: waiting (in their own lines, and in one), over, known, set aside."""
    server = FakeServer(server_type="redis", version=(7,))
    store = RedisStore(ADDRESS, prefix=PREFIX, first_shop=SHOP, make=lambda _: fake_client(server))
    store._connection.patience_s = store.term_s = 600
    assert await store.take()
    await store.register(SHOP, T0)
    for start in range(0, rows, 50):
        some = range(start, start + 50)
        waiting = [new_deliveries("A", f"{n}", f"a{n}") for n in some]
        waiting += [new_deliveries("A", "long", f"long{n}") for n in some]
        aside = [UnreadableOrder(n + 1, "half an order") for n in some]
        known = [known_order(10_000 + n, "completed" if n % 2 else "processing") for n in some]
        await store.commit(SHOP, batch(*waiting, known=known, set_aside=aside))
    client = fake_client(server)
    for kind, keys, own in (("dead_letters", "dead", True), ("delivered", "delivered_by_age", False)):
        for n in range(rows):  # as a version left them that did not drop what is too much
            seq = 100_000 + n + (50_000 if own else 0)
            over = {
                "shop": SHOP, "sink": "A", "key": "long", "event_id": f"{kind}{n}", "event_type": "x",
                "created_at": 0, "attempts": 0, "at": 0, "reason": "no", "body": "{}",
            }  # fmt: skip
            await client.hset(f"{PREFIX}{kind}", str(seq), json.dumps(over))
            await client.hset(f"{PREFIX}delivered:texts", str(seq), "{}")
            await client.zadd(getattr(store._keys, keys)(SHOP, "A"), {str(seq): n})
    await client.aclose()
    return store


async def evict(store: RedisStore, *parts: str) -> None:
    await store._connection._connection_pool.client.execute_command("DEL", *(PREFIX + part for part in parts))


async def everything(store: RedisStore) -> Touched:
    """All that a shop's store does, the scripts of the membership and of renewals too."""
    client = store._connection._connection_pool.client
    with touched(store) as found:
        await store.release()
        assert await store.take()
        await store.register(SHOP, at(1))
        await store.renew()
        renewals = Renewals(store._connection.keep)
        await renewals.renew(store._keys.lease, store._connection.nonce, 600_000)
        await store.open_orders(SHOP, after_id=0, limit=9)
        await store.set_aside(SHOP)
        await store.stats(SHOP)
        await store.next_due("A")
        await client.execute_command("HSET", f"{PREFIX}outbox", "1", "of no use")
        taken = await claim(store, limit=9)
        await store.record_outcomes([Ack(one) for one in taken[:3]], at(2))
        await store.record_outcomes([MoveToDeadLetters(one, "no") for one in taken[3:6]], at(2))
        await store.record_outcomes([Retry(one, at(90), "no", charged=True) for one in taken[6:]], at(2))
        while await store.release_parked("A"):
            pass
        await store.dead_letter_expired("A", head_before=at(-1), now=at(3))
        await store.dead_letter_expired("A", head_before=at(3), now=at(3))
        await store.delivery_records(SHOP, ["long"])
        dead = await store.dead_ids(SHOP)
        made = await store.delivered(SHOP, since=EPOCH, before=at(99))
        assert await store.replay_concurrently(SHOP, dead[:9], at(4)) == 9
        assert await store.resend_concurrently(SHOP, [one.over.seq for one in made[:9]], at(4)) == 9
        assert await store.drop_concurrently(SHOP, dead[9:12]) == 3
        await store.import_concurrently(SHOP, [known_order(7)], Backfill(T0, T0), at(5))
        await store.prune(SHOP, seen_before=at(-9), finished_before=at(-9))
        await store.prune(SHOP, seen_before=at(9), finished_before=EPOCH)
        await store._connection.fenced("lane", lane_keys(store), [codec.lane(SHOP, "A")])
        await store.snapshot(SHOP, at(6))
        await store.clamp_due("A", latest=at(-9))
        await store.redate(SHOP, after=at(-99), to=at(-99))
        await store.commit(SHOP, batch(new_deliveries("A", "last"), known=[known_order(8)]))
        assert await store.inspect(SHOP) == []
        for part in ("outbox:lines", "known_open", "known_seen"):
            await evict(store, part)
            await client.execute_command("ZADD", store._keys.age(SHOP, "A"), 1, "999999")  # of no row
            await store.register(SHOP, at(7))
        await client.execute_command("SET", f"{PREFIX}alerts", "of another type")
        with suppress(TemporaryError):
            await store.alerts(SHOP)
        await store.register(SHOP, at(8))
        await client.execute_command("ZADD", f"{PREFIX}outbox:lines", 1, "of no row")
        await store.release()
        assert await store.repair(SHOP)
        await store.register(SHOP, at(9))
        await client.execute_command("HSET", f"{PREFIX}known_details", "rev", "0123456789abcdef")
        await store.register(SHOP, at(10))  # begins anew
    return found


def lane_keys(store: RedisStore) -> list[str]:
    keys = store._keys
    return [
        keys.lease,
        keys.lanes,
        keys.age(SHOP, "A"),
        keys.dead(SHOP, "A"),
        keys.delivered_by_age(SHOP, "A"),
    ]


@pytest.mark.usefixtures("small_pieces")
async def test_no_script_and_no_command_touches_more_where_there_is_more() -> None:
    few, many = await filled(150), await filled(900)
    of_few, of_many = await everything(few), await everything(many)
    names = {path.stem for path in SCRIPTS.glob("*.lua")} - {"append", "take_out"}  # parts of others
    of_backups = {"dump", "stage", "swap"}  # which take keys as a whole: docs/redis.md says for how long
    assert names - {"membership", "reach", *of_backups} <= set(of_many.scripts), "each was run"
    for name, most in of_many.scripts.items():
        assert most <= 1.2 * of_few.scripts[name] + 10, name
    for name, most in of_many.commands.items():
        assert most <= 1.2 * of_few.commands[name] + 10, name
    for name in ("HKEYS", "HGETALL"):
        assert of_many.commands.get(name, 0) <= 40, f"{name} is for small hashes"
    await few.aclose()
    await many.aclose()


async def test_the_replicas_are_as_many_as_there_are(tmp_path: Path) -> None:
    """The one script that answers all members: those that went do not add up."""
    with redis_server(tmp_path) as server, server.client as client:
        where = parse_redis(server.url)
        store_pool = StorePool(where)
        client.zadd("p:replicas", {f"gone/{n}": 1 for n in range(1_000)})
        membership = store_pool.membership(where, prefix="p:", name="here/1")
        assert membership is not None
        assert await membership.stay() == ["here/1"]
        assert client.zcard("p:replicas") == 1
        await store_pool.aclose()


# --- Histories are bounded as they grow -------------------------------------------------------------------


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("bounds")) as server:
        yield server


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    with shared.client as client:
        client.flushall()
    return shared


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[RedisStore]:
    store = RedisStore(parse_redis(server.url), prefix=PREFIX, first_shop=SHOP)
    assert await store.take()
    yield store
    await store.aclose()


async def retaken(store: RedisStore) -> None:
    """As by another process, which knows nothing of what this one did."""
    await store.release()
    assert await store.take()


async def test_a_lane_without_deliveries_is_forgotten_and_comes_back(store: RedisStore) -> None:
    await store.register(SHOP, T0)
    for sink in ("A", "B", "C"):
        await put(store, new_deliveries(sink))
    await store.record_outcomes([Ack(one) for one in await claim(store)], at(1))
    await store.record_outcomes([MoveToDeadLetters(one, "no") for one in await claim(store, "B")], at(5))
    await store.prune(SHOP, seen_before=T0, finished_before=at(3))
    assert [sink for _, sink in await store._order.lanes()] == ["B", "C"]
    await put(store, new_deliveries("A", event_id="again"))
    assert ids(await claim(store)) == ["again"]
    assert await store._order.is_whole()


# --- The outbox is repaired step by step --------------------------------------------------------------------

PARTS = ("outbox:lines", "outbox:heads", "outbox:due:A", f"outbox:age:{SHOP}:A", "outbox:lanes")


async def many_rows(store: RedisStore, rows: int, lines: int) -> dict[str, list[str]]:
    """Put rows; which events each key has, in order."""
    await store.register(SHOP, T0)
    told: dict[str, list[str]] = {}
    for n in range(rows):
        told.setdefault(f"{n % lines}", []).append(f"event {n}")
    flat = [(key, event) for n in range(rows) for key, event in [(f"{n % lines}", f"event {n}")]]
    for start in range(0, rows, 500):
        await put(store, *(new_deliveries("A", key, event) for key, event in flat[start : start + 500]))
    return told


async def drained(store: RedisStore) -> dict[str, list[str]]:
    """All that comes out, by its key."""
    arrived: dict[str, list[str]] = {}
    while some := await claim(store, now=at(10**6), limit=1000):
        for one in some:
            arrived.setdefault(one.key, []).append(one.event_id)
        await store.record_outcomes([Ack(one) for one in some], at(200))
    return arrived


async def test_a_repair_goes_on_where_it_was_broken_off(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connection", "mending"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 50)
    told = await many_rows(store, 3_000, 700)
    with server.client as client:
        client.delete(f"{PREFIX}outbox:lines", f"{PREFIX}outbox:heads")
    steps: list[str] = []

    call, left = store._connection.call, [0]

    async def calling(script: str, keys: Any, args: Any) -> Any:
        if script in {"apply", "mend", "stray"}:
            left[0] -= 1
            steps.append(script)
            if left[0] < 0:
                with server.client as client:
                    client.set(f"{PREFIX}lease", "somebody/else")
        return await call(script, keys, args)

    monkeypatch.setattr(store._connection, "call", calling)

    async def broken_off_after(most: int) -> bool:
        """Whoever has the lease loses it after so many steps; whether the repair was done before."""
        left[0] = most
        assert await store.take()
        try:
            await store.register(SHOP, at(60))
        except TemporaryError:
            with server.client as client:
                client.delete(f"{PREFIX}lease")
            return False
        return True

    await store.release()
    tries = 1
    while not await broken_off_after(30):
        tries += 1
        assert tries < 12, "it began anew each time"
    assert tries > 3
    whole = 3_000 // 50
    assert len(steps) < 3.5 * whole, "nothing but the last step was done twice"
    assert await store._order.is_whole()
    with server.client as client:
        assert not client.exists(f"{PREFIX}outbox:mending")
    assert await drained(store) == told


async def test_a_repair_on_a_server_that_was_started_anew_reads_all_rows_again(
    server: RedisServer, store: RedisStore
) -> None:
    """Where a scan stood on another run of the server means nothing here."""
    told = await many_rows(store, 1_500, 1_500)
    with server.client as client:
        client.delete(f"{PREFIX}outbox:lines")
        left = {"phase": "rows", "server": "another run", "position": "1023"}
        client.hset(f"{PREFIX}outbox:mending", mapping=left)
    await store.register(SHOP, at(60))
    assert await store._order.is_whole()
    assert await drained(store) == told


async def test_what_is_left_of_an_old_repair_does_no_harm(server: RedisServer, store: RedisStore) -> None:
    """Another version finished it meanwhile, and more was damaged since."""
    told = await many_rows(store, 1_500, 700)
    with server.client as client:
        left = {"phase": "lines", "position": f"{SHOP}{LANE}A{LANE}9", "line": "", "heads": "3"}
        client.hset(f"{PREFIX}outbox:mending", mapping=left)
        await store.register(SHOP, at(50))
        assert not client.exists(f"{PREFIX}outbox:mending")
        client.hset(f"{PREFIX}outbox:mending", mapping=left)
        client.delete(f"{PREFIX}outbox:lines")
    await store.register(SHOP, at(60))
    assert await store._order.is_whole()
    assert await drained(store) == told


async def test_the_lease_is_renewed_while_the_outbox_is_repaired(
    server: RedisServer, store: RedisStore
) -> None:
    await many_rows(store, 5_000, 5_000)
    with server.client as client:
        client.delete(f"{PREFIX}outbox:lines")
    renewed: list[bool] = []

    async def renew() -> None:
        while True:
            renewed.append(await store.renew())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renew)
        await store.register(SHOP, at(60))
        tasks.cancel_scope.cancel()
    assert len(renewed) > 10
    assert all(renewed)
    assert await store._order.is_whole()


def damage(client: Any, part: str, harm: str) -> None:
    """Do some harm to one part of what leads to the deliveries."""
    key = PREFIX + part
    if harm == "all":
        client.delete(key)
    elif part == "outbox:heads":
        for number in client.hkeys(key)[::2] if harm == "some" else ():
            client.hdel(key, number)
        if harm == "strays":
            client.hset(key, mapping={"77777": "1 0", "2": "1 0"})
    elif part != "outbox:lanes":
        for member in client.zrange(key, 0, -1)[::2] if harm == "some" else ():
            client.zrem(key, member)
        if harm == "strays":
            stray = f"{SHOP}{LANE}A{LANE}0{LANE}{77:016d}{LANE}5{LANE}gone"
            client.zadd(key, {stray: 0, "no name": 0} if part == "outbox:lines" else {"77777": 1})


@pytest.mark.parametrize("seed", range(25))
async def test_whatever_is_damaged_each_line_comes_out_in_order(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    for module in ("connection", "mending"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    rng = Random(seed)
    told = await many_rows(store, rng.randrange(1, 60), rng.randrange(1, 12))
    with server.client as client:
        for part in rng.sample(PARTS, rng.randrange(1, 4)):
            damage(client, part, rng.choice(["all", "some", "strays"]))
    await retaken(store)
    await store.register(SHOP, at(60))
    stats = (await store.stats(SHOP)).sinks["A"].waiting
    assert stats == sum(map(len, told.values()))
    assert await store._order.is_whole()
    assert await drained(store) == told


async def test_an_outbox_that_is_kept_compact_is_repaired_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scan answers all rows at once, more than Lua takes as arguments."""
    compact = [part for kind in ("hash", "zset") for part in (f"--{kind}-max-listpack-entries", "100000")]
    compact += ["--hash-max-listpack-value", "100000", "--zset-max-listpack-value", "100000"]
    # Nobody renews the lease, and a busy machine is slow.
    monkeypatch.setattr(lease, "LEASE_S", 300.0)
    monkeypatch.setattr(connection, "PATIENCE_S", 120.0)
    monkeypatch.setattr(redis_client, "ANSWER_TIMEOUT_S", 60.0)
    with redis_server(tmp_path, *compact) as server, server.client as client:
        store = RedisStore(parse_redis(server.url), prefix=PREFIX, first_shop=SHOP)
        assert await store.take()
        await store.register(SHOP, T0)
        for start in range(0, 4_500, 500):
            known = [known_order(n + 1) for n in range(start, start + 500)]
            aside = [UnreadableOrder(n + 1, "half an order") for n in range(start, start + 500)]
            rows = [new_deliveries("A", f"{n}", f"{n}") for n in range(start, start + 500)]
            await store.commit(SHOP, batch(*rows, known=known, set_aside=aside))
            assert await store.renew()
        assert client.object("encoding", f"{PREFIX}outbox") == "listpack"
        client.delete(f"{PREFIX}outbox:lines", f"{PREFIX}known_open", f"{PREFIX}known_seen")
        client.hset(f"{PREFIX}outbox:heads", "9999999", "1 0")
        await store.register(SHOP, at(60))
        assert await store._order.is_whole()
        while await store.release_parked("A"):
            pass
        assert len(await claim(store, now=at(99), limit=9_999)) == 4_500
        assert len(await store.open_orders(SHOP, after_id=0, limit=9_999)) == 4_500
        while await store.prune(SHOP, seen_before=at(10**9), finished_before=T0):
            pass
        assert (await store.stats(SHOP)).set_aside == 0
        client.hdel(f"{PREFIX}known_details", "rev")
        await store.register(SHOP, at(61))
        await store.aclose()


async def test_a_row_that_cannot_be_read_holds_up_no_repair(server: RedisServer, store: RedisStore) -> None:
    told = await many_rows(store, 10, 10)
    with server.client as client:
        client.hset(f"{PREFIX}outbox", "99999", "{no json")
        client.delete(f"{PREFIX}outbox:lines")
    await store.register(SHOP, at(60))
    assert await drained(store) == told


# --- Records are indexed step by step -----------------------------------------------------------------------


async def test_without_open_orders_nothing_is_read_at_the_next_start(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch(known=[known_order(n, "completed") for n in range(1, 1_001)]))
    read = store._connection.read
    commands: list[tuple[str | int, ...]] = []

    async def reading(*command: str | int) -> Any:
        commands.append(command)
        return await read(*command)

    monkeypatch.setattr(store._connection, "read", reading)
    await retaken(store)
    await store.register(SHOP, at(60))
    large = {f"{PREFIX}known_orders", f"{PREFIX}known_details"}
    looked = {str(command[0]) for command in commands if command[1] in large}
    assert looked <= {"HLEN", "TTL", "HGET"}
    assert await store.open_orders(SHOP, after_id=0, limit=9) == []


@pytest.mark.parametrize("evicted", ["known_open", "known_open and known_orders", "known_seen"])
async def test_open_orders_are_found_again(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch, evicted: str
) -> None:
    for module in ("connection", "records"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    await store.register(SHOP, T0)
    await store.commit(
        SHOP, batch(known=[known_order(n, "completed" if n % 3 else "processing") for n in range(1, 200)])
    )
    with server.client as client:
        client.delete(*(PREFIX + part for part in evicted.split(" and ")))
    # One that comes after the loss does not hide it.
    await store.commit(SHOP, batch(known=[known_order(500)]))
    await retaken(store)
    await store.register(SHOP, at(60))
    expected = [*range(3, 200, 3), 500]
    assert await store.open_orders(SHOP, after_id=0, limit=999) == expected
    # And each is dropped when its time has come.
    while await store.prune(SHOP, seen_before=at(10**8), finished_before=T0):
        pass
    assert (await store.stats(SHOP)).known == 0


async def test_what_the_old_design_wrote_wins_in_the_index_of_open_orders(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connection", "records"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(1, 101)]))
    with server.client as client:  # it ran again for a while, and sets its EXPIRE each time
        for n in range(1, 101):
            client.hset(f"{PREFIX}known_orders", str(n), "completed" if n > 40 else "on-hold")
        client.hset(f"{PREFIX}known_orders", "777", "pending")
        client.expire(f"{PREFIX}known_orders", 60)
    calls, call = [0], store._connection.call

    async def broken_off(script: str, keys: Any, args: Any) -> Any:
        calls[0] += 1
        if calls[0] == 8:
            raise OSError
        return await call(script, keys, args)

    with monkeypatch.context() as patch, suppress(OSError):
        patch.setattr(store._connection, "call", broken_off)
        await store.register(SHOP, at(50))
    assert calls[0] == 8, "it was broken off"
    await store.register(SHOP, at(60))
    assert await store.open_orders(SHOP, after_id=0, limit=999) == [*range(1, 41), 777]
    with server.client as client:
        assert client.ttl(f"{PREFIX}known_orders") == -1
        assert client.zcard(f"{PREFIX}known_seen") == 101


async def test_a_start_over_that_is_broken_off_is_finished_the_next_time(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("connection", "records"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(1, 101)]))
    with server.client as client:
        client.delete(f"{PREFIX}known_details")
    call = store._connection.call
    for most in (3, 6, 11):
        calls = [0]

        async def broken_off(
            script: str, keys: Any, args: Any, calls: list[int] = calls, most: int = most
        ) -> Any:
            calls[0] += 1
            if calls[0] > most:
                raise OSError
            return await call(script, keys, args)

        with monkeypatch.context() as patch, suppress(OSError):
            patch.setattr(store._connection, "call", broken_off)
            await store.register(SHOP, at(50))
        assert calls[0] > most, "it was broken off"
        assert await store.load(SHOP) is None, "what is half gone counts as nothing"
    state = await store.register(SHOP, at(60))
    assert state.started_at == at(60)
    assert (await store.stats(SHOP)).known == 0
    assert await store.open_orders(SHOP, after_id=0, limit=9) == []


async def test_an_outbox_of_an_earlier_version_is_counted_once(
    server: RedisServer, store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = await many_rows(store, 600, 600)
    with server.client as client:
        client.hdel(f"{PREFIX}outbox", "others")
    scans: list[str] = []
    read = store._connection.read

    async def reading(*command: str | int) -> Any:
        if command[0] == "HSCAN" and command[1] == f"{PREFIX}outbox":
            scans.append("outbox")
        return await read(*command)

    monkeypatch.setattr(store._connection, "read", reading)
    for _ in range(3):
        await retaken(store)
        await store.register(SHOP, at(60))
        if scans:
            assert not (await store._connection.read("EXISTS", f"{PREFIX}outbox:mending"))
    first = len(scans)
    assert first > 0
    await store.register(SHOP, at(61))
    assert len(scans) == first, "only at the first start"
    assert await drained(store) == told


async def test_commits_at_the_same_time_reach_the_server_one_after_the_other(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The poller and the alerts commit at once, on two connections, which have no order."""
    overtaken, fenced, first = anyio.Event(), RedisConnection.fenced, [True]

    async def late(*arguments: Any) -> Any:
        if first.pop() if first else False:
            with anyio.move_on_after(0.2):  # time for the other one to overtake it
                await overtaken.wait()
        else:
            overtaken.set()
        return await fenced(*arguments)

    state = await store.register(SHOP, at(0))
    monkeypatch.setattr(RedisConnection, "fenced", late)
    async with anyio.create_task_group() as tasks:
        for number in (1, 2):
            rows = [new_deliveries("s", str(number))]
            some = Batch(state=state, now=at(number), seen_at=at(number), new_deliveries=rows)
            tasks.start_soon(store.commit, SHOP, some)
    assert len(await claim(store, "s", now=at(9))) == 2
