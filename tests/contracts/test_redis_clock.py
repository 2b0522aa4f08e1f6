"""The clock of Redis is stepped: leases, who is there, and who may lead.

Only that of fakeredis can be moved; of a real server, what a step leaves there is made.
"""

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import redis
from fakeredis import FakeServer

from shop_poller.config.redis_address import parse_redis
from shop_poller.config.shops import keys_apart
from shop_poller.stores import StorePool
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.lease import LEASE_S
from support.deliveries import SHOP
from support.sink_peers import LOOPBACK
from support.stores import ADDRESS, fake_client, shared_valkey

pytestmark = pytest.mark.anyio

REAL_TIME = time.time


@dataclass
class Times:
    """The server's clock, and the one that nobody sets.

    Attributes:
        off_s: by how much the server's is set.
        passed_s: what passed of both.
    """

    off_s: float = 0.0
    passed_s: float = 0.0

    def server(self) -> float:
        return REAL_TIME() + self.off_s + self.passed_s

    def monotonic(self) -> float:
        return time.monotonic() + self.passed_s


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Times:
    times = Times()
    monkeypatch.setattr("time.time", times.server)
    for module in ("clock", "lease"):
        monkeypatch.setattr(
            f"shop_poller.stores.redis.{module}.time", SimpleNamespace(monotonic=times.monotonic)
        )
    return times


@pytest.fixture
async def replicas() -> AsyncIterator[tuple[RedisStore, RedisStore]]:
    """The first leads, the second asks in vain."""
    server = FakeServer(server_type="redis", version=(7,))

    def make(_: Any) -> Any:
        return fake_client(server)

    leader, follower = (RedisStore(ADDRESS, prefix="x:", first_shop=SHOP, make=make) for _ in range(2))
    assert await leader.take()
    assert not await follower.take()
    yield leader, follower
    await leader.aclose()
    await follower.aclose()


@pytest.mark.parametrize("step_s", [15.0, 3600.0, 86_400.0 * 400])
async def test_nobody_leads_before_the_leader_can_know_that_its_lease_was_ended(
    times: Times, replicas: tuple[RedisStore, RedisStore], step_s: float
) -> None:
    leader, follower = replicas
    times.off_s = step_s
    assert not await follower.take(), "the leader may send for a term more"
    assert await leader.holder() == ""
    times.passed_s = LEASE_S - 1
    assert not await follower.take()
    times.passed_s = LEASE_S + 1
    assert await follower.take()
    assert not await leader.renew()


async def test_the_leader_itself_leads_again_at_once(
    times: Times, replicas: tuple[RedisStore, RedisStore]
) -> None:
    leader, follower = replicas
    times.off_s = 15
    assert not await follower.take()
    assert not await leader.renew(), "it ran out, by the server's clock"
    assert await leader.take()


async def test_a_lease_that_runs_out_by_itself_is_taken_at_once(
    times: Times, replicas: tuple[RedisStore, RedisStore]
) -> None:
    _, follower = replicas
    times.passed_s = LEASE_S + 1
    assert await follower.take()


async def test_a_replica_that_just_came_knows_no_earlier_time_and_takes_what_is_free(
    times: Times, replicas: tuple[RedisStore, RedisStore]
) -> None:
    leader, follower = replicas
    await leader.release()
    times.off_s = 3600
    follower._clock._anchor = None
    assert await follower.take()


async def test_a_clock_that_was_set_back_delays_no_fail_over(
    times: Times, replicas: tuple[RedisStore, RedisStore]
) -> None:
    _, follower = replicas
    times.off_s = -60
    assert not await follower.take(), "the leader may be alive"
    times.passed_s = LEASE_S + 1
    assert await follower.take(), "a term later it is not"


@pytest.mark.parametrize("left", ["70 s", "for ever"])
async def test_a_lease_lasts_no_longer_than_its_term(left: str, tmp_path: Path) -> None:
    """What a step back of the clock leaves, or somebody's PERSIST; on a real server."""
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    leader, follower = (RedisStore(where, prefix=f"{tmp_path}:", first_shop=SHOP) for _ in range(2))
    assert await leader.take()
    with redis.Redis(host=LOOPBACK, port=shared_valkey().port) as client:
        key = f"{tmp_path}:lease"
        if left == "for ever":
            client.persist(key)
        else:
            client.pexpire(key, 70_000)
        assert not await follower.take()
        assert 0 < client.pttl(key) <= LEASE_S * 1000
    assert await leader.renew()
    await leader.aclose()
    await follower.aclose()


async def test_a_replica_is_not_there_for_longer_than_it_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.redis.membership.STAY_S", 0.2)
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    store_pool = StorePool(where)
    prefix = keys_apart(f"{tmp_path}:", "")
    one, two = (store_pool.membership(where, prefix=prefix, name=name) for name in ("a/1", "b/2"))
    assert one is not None
    assert two is not None
    await one.stay()
    with redis.Redis(host=LOOPBACK, port=shared_valkey().port) as client:
        # As after a step back: it said so by a clock that was an hour ahead.
        client.zadd(f"{prefix}replicas", {"a/1": REAL_TIME() * 1000 + 3_600_000})
    assert await two.stay() == ["a/1", "b/2"]
    for _ in range(4):  # it says that it is there, or all of them would be forgotten
        await anyio.sleep(0.1)
        there = await two.stay()
    assert there == ["b/2"]
    await store_pool.aclose()


async def test_the_stores_clock_follows_a_step_at_the_next_renewal(
    times: Times, replicas: tuple[RedisStore, RedisStore]
) -> None:
    leader, _ = replicas
    before = leader.now()
    times.off_s = -60
    assert await leader.renew()
    assert timedelta(seconds=-61) < leader.now() - before < timedelta(seconds=-50)
