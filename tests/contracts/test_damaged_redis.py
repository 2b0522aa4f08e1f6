"""Any one value under a prefix may be anything: it stops nothing, and costs nothing but itself."""

import asyncio
from functools import cache
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_poller.config.redis_address import parse_redis
from shop_poller.stores.redis import RedisStore
from support.damaged import KNOWN, STATE, WAITING, Use, fill, values
from support.deliveries import SHOP, T0
from support.stores import shared_valkey

pytestmark = pytest.mark.anyio

PREFIX = "damaged:"
NUMBERS = st.sampled_from([0.0, -1.0, 1e18, -1e18, float("inf"), float("-inf"), 1.5])


def client() -> Any:
    return redis.Redis(host="127.0.0.1", port=shared_valkey().port, db=1)


def store() -> RedisStore:
    address = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/1")
    return RedisStore(address, prefix=PREFIX, first_shop=SHOP)


@cache
def whole() -> dict[bytes, bytes]:
    """The state as the server would write it to a file."""

    async def make() -> None:
        made = store()
        assert await made.take()
        await fill(made)
        await made.aclose()

    with client() as server:
        server.flushdb()
        asyncio.run(make())
        return {key: server.dump(key) for key in server.keys("*")}


def restore(server: Any) -> None:
    kept = whole()
    server.flushdb()
    for key, value in kept.items():
        server.restore(key, 0, value)


@cache
def places() -> list[tuple[bytes, str, bytes]]:
    """Every value: its key, what kind of a value it is, and the field or member."""
    found: list[tuple[bytes, str, bytes]] = []
    with client() as server:
        restore(server)
        for key in sorted(whole()):
            kind = server.type(key).decode()
            found.append((key, "type", b""))
            if kind == "string":
                found.append((key, "string", b""))
            elif kind == "hash":
                fields = sorted(server.hkeys(key))
                found += [(key, part, field) for field in fields for part in ("value", "field")]
            elif kind == "zset":
                members = sorted(server.zrange(key, 0, -1))
                found += [(key, part, member) for member in members for part in ("score", "member")]
            else:
                found += [(key, "element", member) for member in sorted(server.smembers(key))]
    return found


def raw(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def spoil(server: Any, place: tuple[bytes, str, bytes], value: Any, score: float) -> None:
    key, kind, name = place
    if kind == "type":
        right = server.type(key)
        server.delete(key)
        if right == b"string":
            server.rpush(key, raw(value))
        elif right == b"hash" or not raw(value):
            server.rpush(key, b"x", raw(value))
        else:
            server.set(key, raw(value))
    elif kind == "string":
        server.set(key, raw(value))
    elif kind == "value":
        server.hset(key, name, raw(value))
    elif kind == "field":
        kept = server.hget(key, name)
        server.hdel(key, name)
        server.hset(key, raw(value), kept)
    elif kind == "score":
        server.zadd(key, {name: score})
    elif kind == "member":
        kept = server.zscore(key, name)
        server.zrem(key, name)
        server.zadd(key, {raw(value): kept})
    else:
        server.srem(key, name)
        server.sadd(key, raw(value))


async def use(place: tuple[bytes, str, bytes]) -> None:
    key, kind, _ = place
    concurrent = store()
    await Use(concurrent).look()
    await concurrent.aclose()
    led = store()
    try:
        using = Use(led)
        state = None
        for _ in range(
            8
        ):  # a leader session ends if something was changed meanwhile; the next one repairs it
            await using.tried("take", led.take)
            state = await using.tried("register", lambda: led.register(SHOP, T0)) or state
            known = await using.look()
            await using.work()
            refused, using.refused = using.refused, {}
            if await using.tried("renew", led.renew) and not refused:
                break
            await led.release()
        assert not refused, refused
        assert state is not None
        name = key.removeprefix(PREFIX.encode())
        if name not in {b"state", b"last_poll_time", b"known_details", b"known_orders"}:
            assert state == STATE
            for order in KNOWN[1:]:
                assert known[order.id] == order
        left = WAITING - using.delivered
        if name != b"outbox":
            assert not left
        elif left:
            assert len(left) == 1 or kind == "type"
    finally:
        await led.aclose()


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_value_may_be_anything(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places()))
    value, score = data.draw(values), data.draw(NUMBERS)
    with client() as server:
        restore(server)
        spoil(server, place, value, score)
    asyncio.run(use(place))
