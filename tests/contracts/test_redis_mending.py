"""What leads to the deliveries is mended, and damaged rows are put right, in one pass of bounded steps."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from shop_poller.clock import ms
from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import TemporaryError
from shop_poller.ports import Ack
from shop_poller.stores.redis import RedisStore, codec
from shop_poller.stores.redis.keys import LANE
from support.deliveries import SHOP, T0, at, batch, claim, ids, known_order, new_deliveries, put
from support.redis_server import RedisServer, redis_server

pytestmark = pytest.mark.anyio

PREFIX = "shop:polling:"
DAY = 86_400.0
DOCS = Path(__file__).parents[2] / "docs/redis.md"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with redis_server(tmp_path_factory.mktemp("mending")) as server:
        yield server


@pytest.fixture
def client(shared: RedisServer) -> Iterator[Any]:
    with shared.client as client:
        client.flushall()
        yield client


@pytest.fixture
async def store(shared: RedisServer, client: Any) -> AsyncIterator[RedisStore]:
    del client  # empties it first
    store = RedisStore(parse_redis(shared.url), prefix=PREFIX, first_shop=SHOP)
    assert await store.take()
    await store.register(SHOP, T0)
    yield store
    await store.aclose()


async def taken_anew(store: RedisStore) -> None:
    await store.release()
    assert await store.take()
    await store.register(SHOP, at(60))


async def drained(store: RedisStore) -> list[str]:
    told: list[str] = []
    while some := await claim(store, now=at(99)):
        told += ids(some)
        await store.record_outcomes([Ack(one) for one in some], at(99))
    return told


def name(key: str, seq: int, event_id: str) -> str:
    return f"{SHOP}{LANE}A{LANE}{key}{LANE}{seq:016d}{LANE}{ms(T0)}{LANE}{event_id}"


FIELDS = ["", "12x", "007", "9" * 30, "1 ", "\u0663"]


@pytest.mark.parametrize("field", FIELDS, ids=[ascii(field) for field in FIELDS])
async def test_a_row_without_a_number_that_can_be_right_is_taken_out_and_the_order_is_whole(
    store: RedisStore, client: Any, field: str
) -> None:
    await put(store, new_deliveries("A", "1", "one"), new_deliveries("A", "1", "two"))
    client.hset(f"{PREFIX}outbox", field, client.hget(f"{PREFIX}outbox", "2"))
    await taken_anew(store)
    assert await store._order.is_whole()
    assert await store._order.is_sound()
    assert await drained(store) == ["one", "two"]
    assert await store.inspect(SHOP) == []


async def test_a_name_that_does_not_fit_its_row_is_dropped(store: RedisStore, client: Any) -> None:
    """In the line of another key it would hold up that one, or be sent out of its order."""
    await put(store, new_deliveries("A", "1", "one"), new_deliveries("A", "2", "two"))
    for wrong in (name("3", 1, "one"), name("2", 1, "one"), name("1", 1, "on")):
        client.zadd(f"{PREFIX}outbox:lines", {wrong: 0})
    await taken_anew(store)
    assert await store._order.is_sound()
    assert client.zcard(f"{PREFIX}outbox:lines") == 2
    assert await drained(store) == ["one", "two"]


@pytest.mark.parametrize("score", [-1.0, 1.0, float("inf")])
@pytest.mark.parametrize("strays", [(), ("! of no row", "~ of no row")], ids=["names of rows", "and others"])
async def test_names_out_of_their_order_are_put_back_or_dropped(
    store: RedisStore, client: Any, monkeypatch: pytest.MonkeyPatch, strays: tuple[str, ...], score: float
) -> None:
    for module in ("connection", "mending"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    await put(store, *(new_deliveries("A", "1", f"e{n:03d}") for n in range(35)))
    names = client.zrange(f"{PREFIX}outbox:lines", 0, -1)
    client.zadd(f"{PREFIX}outbox:lines", dict.fromkeys([*names[::3], *strays], score))
    await taken_anew(store)
    assert await store._order.is_sound()
    assert await drained(store) == [f"e{n:03d}" for n in range(35)]


async def test_a_mending_that_no_count_shows_to_be_needed_goes_on_with_the_next_leader(
    store: RedisStore, client: Any, monkeypatch: pytest.MonkeyPatch, shared: RedisServer
) -> None:
    for module in ("connection", "mending"):
        monkeypatch.setattr(f"shop_poller.stores.redis.{module}.CHUNK", 7)
    await put(store, *(new_deliveries("A", f"{n:03d}", f"e{n:03d}") for n in range(50)))
    client.zrem(f"{PREFIX}outbox:lines", name("007", 8, "e007"))
    client.zadd(f"{PREFIX}outbox:lines", {name("007", 8888, "e007"): 0})  # as many as before
    taken = await claim(store)
    with pytest.raises(TemporaryError):
        await store.record_outcomes([Ack(one) for one in taken], at(1))
    assert not await store.renew()
    call, calls = store._connection.call, [0]

    async def broken_off(script: str, keys: Any, args: Any) -> Any:
        calls[0] += 1
        if calls[0] > 3:
            raise OSError
        return await call(script, keys, args)

    with monkeypatch.context() as patch, suppress(OSError):
        patch.setattr(store._connection, "call", broken_off)
        await taken_anew(store)
    assert calls[0] > 3, "it was broken off"
    assert await store._order.is_whole(), "no count shows it"
    await store.release()
    other = RedisStore(parse_redis(shared.url), prefix=PREFIX, first_shop=SHOP)
    assert await other.take()
    await other.register(SHOP, at(60))
    assert await other._order.is_sound()
    assert not client.exists(f"{PREFIX}outbox:mending")
    assert sorted(await drained(other)) == [f"e{n:03d}" for n in range(50)]
    await other.aclose()


@pytest.mark.parametrize("field", ["phase", "server", "position", "line", "heads"])
@pytest.mark.parametrize("phase", ["rows", "lines", "strays"])
async def test_a_place_that_is_damaged_is_begun_anew(
    store: RedisStore, client: Any, phase: str, field: str
) -> None:
    await put(store, *(new_deliveries("A", str(n), str(n)) for n in range(9)))
    client.delete(f"{PREFIX}outbox:lines")
    place = {
        "phase": phase,
        "server": client.info("server")["run_id"],
        "position": "0",
        "heads": "0",
        "line": "",
    }
    client.hset(f"{PREFIX}outbox:mending", mapping=place | {field: b"\xff no"})
    await taken_anew(store)
    assert await store._order.is_sound()
    assert sorted(await drained(store)) == [str(n) for n in range(9)]


async def test_a_count_of_other_fields_that_is_no_number_is_made_anew(store: RedisStore, client: Any) -> None:
    await put(store, new_deliveries("A", "1", "one"))
    client.hset(f"{PREFIX}outbox", "others", "many")
    assert await store.inspect(SHOP) == []
    await taken_anew(store)
    assert await drained(store) == ["one"]


async def test_a_damaged_row_is_corrected_by_the_mending_that_meets_it(
    store: RedisStore, client: Any
) -> None:
    await put(
        store,
        new_deliveries("A", "1", "one"),
        new_deliveries("A", "1", "two"),
        new_deliveries("A", "2", "three"),
    )
    row = codec.record(client.hget(f"{PREFIX}outbox", "2"))
    client.hset(f"{PREFIX}outbox", "2", json.dumps(row | {"created_at": "soon"}))
    client.hset(f"{PREFIX}outbox", "3", "of no use")
    client.delete(f"{PREFIX}outbox:heads")
    await taken_anew(store)
    assert await store._order.is_sound()
    assert await drained(store) == ["one", "two"]
    assert {row.name for row in await store.rows_set_aside(SHOP)} == {"2", "3"}


async def test_a_member_that_is_no_delivery_stops_no_sink(store: RedisStore, client: Any) -> None:
    await put(store, new_deliveries("A", "1", "one"))
    client.zadd(f"{PREFIX}outbox:due:A", {"of no use": 1})
    assert await store.next_due("A") is not None
    with pytest.raises(TemporaryError):
        await claim(store)
    assert not await store.renew()
    await taken_anew(store)
    assert await drained(store) == ["one"]


async def test_a_start_over_is_not_taken_for_a_damaged_revision(
    store: RedisStore, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Broken off, its parts must not be made to fit: what is left would count as all."""
    await store.commit(SHOP, batch(known=[known_order(n) for n in range(1, 51)]))
    client.delete(f"{PREFIX}outbox")
    call = store._connection.call

    async def broken_off(script: str, keys: Any, args: Any) -> Any:
        if script == "apply" and keys[1].endswith("known_details"):
            raise OSError
        return await call(script, keys, args)

    with monkeypatch.context() as patch, suppress(OSError):
        patch.setattr(store._connection, "call", broken_off)
        await store.register(SHOP, at(50))
    client.hset(f"{PREFIX}outbox", mapping={"seq": "0", "others": "2"})
    state = await store.register(SHOP, at(60))
    assert state.started_at == at(60)
    assert await store.known(SHOP, range(1, 51)) == {}


async def test_rows_that_a_clock_dated_ahead_expire_though_they_are_many(
    store: RedisStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.redis.outbox.CHUNK", 7)
    await put(store, *(new_deliveries("A", str(n), str(n)) for n in range(30)), now=at(400 * DAY))
    await store.clamp_due("A", latest=T0)
    young = await claim(store, now=T0, limit=30)
    assert {one.head_since for one in young} == {T0}
    await taken_anew(store)
    dead_lettered = [await store.dead_letter_expired("A", head_before=T0, now=at(72)) for _ in range(12)]
    assert sum(dead_lettered) == 30


async def test_what_is_over_and_cannot_be_read_is_dated_back_as_it_is(store: RedisStore, client: Any) -> None:
    await put(store, new_deliveries("A", "1", "one"))
    await store.record_outcomes([Ack(one) for one in await claim(store)], at(400 * DAY))
    client.hset(f"{PREFIX}delivered", "1", "{no json")
    assert await store.redate(SHOP, after=at(DAY), to=at(1)) == 1
    assert client.hget(f"{PREFIX}delivered", "1") == "{no json"
    assert await store.redate(SHOP, after=at(DAY), to=at(1)) == 0


async def test_no_more_is_allowed_than_the_docs_say(client: Any, shared: RedisServer) -> None:
    """What the daemon does, healing of rows too, by a user with just these rights."""
    (rights,) = re.findall(r"ACL SETUSER poller on >password (.*)", DOCS.read_text("utf-8"))
    client.execute_command("ACL", "SETUSER", "poller", "reset", "on", ">password", *rights.split())
    url = shared.url.replace("//", "//poller:password@")
    one, two = (RedisStore(parse_redis(url), prefix=PREFIX, first_shop=SHOP) for _ in range(2))
    assert await one.take()
    assert not await two.take()
    await one.register(SHOP, T0)
    await one.commit(
        SHOP, batch(*(new_deliveries("A", str(n), str(n)) for n in range(5)), known=[known_order(1)])
    )
    client.hset(f"{PREFIX}outbox", "1", "of no use")
    client.delete(f"{PREFIX}outbox:heads")
    await one.release()
    assert await two.take()
    await two.register(SHOP, at(60))
    assert len(await drained(two)) == 4
    assert await two.inspect(SHOP) == []
    await two.prune(SHOP, seen_before=T0, finished_before=at(99))
    await two.redate(SHOP, after=T0, to=T0)
    await two.release()
    assert await one.repair(SHOP) == []
    assert await one.forget_set_aside(SHOP) == 1
    await one.aclose()
    await two.aclose()
