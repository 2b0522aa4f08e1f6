"""The replicas of a fleet in Redis: who is there, whose lease is whose, and renewals that go together."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest
import redis

from shop_poller.config.redis_address import parse_redis
from shop_poller.config.shops import keys_apart
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.stores import CONNECTIONS, StorePool
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.renewals import Renewals
from support.stores import shared_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store_pool() -> AsyncIterator[StorePool]:
    made = StorePool(parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"))
    yield made
    await made.aclose()


async def opened(store_pool: StorePool, prefix: str, shop: str) -> RedisStore:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    store = await store_pool.open(where, shop=shop, prefix=keys_apart(prefix, shop))
    assert isinstance(store, RedisStore)
    return store


async def test_replicas_see_one_another_until_they_leave(store_pool: StorePool, tmp_path: Path) -> None:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (store_pool.membership(where, prefix=f"{tmp_path}:", name=name) for name in ("b/2", "a/1"))
    assert one is not None
    assert two is not None
    assert await one.stay() == ["b/2"]
    assert await two.stay() == ["a/1", "b/2"]
    await two.leave()
    assert await one.stay() == ["b/2"]


async def test_replicas_report_what_they_do_not_reach(store_pool: StorePool, tmp_path: Path) -> None:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (store_pool.membership(where, prefix=f"{tmp_path}:", name=name) for name in ("a/1", "b/2"))
    assert one is not None
    assert two is not None
    there = ["a/1", "b/2"]
    nothing: frozenset[str] = frozenset()
    assert await one.reports([], there) == {"a/1": nothing, "b/2": nothing}
    assert await one.reports(["honey", "tea"], there) == {"a/1": {"honey", "tea"}, "b/2": nothing}
    assert await two.reports(["*"], there) == {"a/1": {"honey", "tea"}, "b/2": {"*"}}
    assert await one.reports([], there) == {"a/1": nothing, "b/2": {"*"}}
    assert await two.reports(["*"], ["b/2"]) == {"b/2": {"*"}}


async def test_a_report_of_a_replica_that_is_gone_is_dropped(store_pool: StorePool, tmp_path: Path) -> None:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two, gone = (
        store_pool.membership(where, prefix=f"{tmp_path}:", name=name) for name in ("a/1", "b/2", "c/3")
    )
    assert one is not None
    assert two is not None
    assert gone is not None
    await gone.reports(["honey"], ["a/1", "b/2", "c/3"])
    there = ["a/1", "b/2"]
    assert await one.reports([], there) == dict.fromkeys(there, frozenset())
    await two.reports(["tea"], there)
    assert await one.reports([], [*there, "c/3"]) == {"a/1": set(), "b/2": {"tea"}, "c/3": set()}


async def test_reports_end_by_themselves_where_nobody_makes_any(
    store_pool: StorePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.redis.membership.REPORT_S", 0.05)
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (store_pool.membership(where, prefix=f"{tmp_path}:", name=name) for name in ("a/1", "b/2"))
    assert one is not None
    assert two is not None
    await one.reports(["honey"], ["a/1"])
    await anyio.sleep(0.1)
    assert (await two.reports([], ["a/1", "b/2"]))["a/1"] == set()


async def test_a_replica_that_says_nothing_is_forgotten(
    store_pool: StorePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.redis.membership.STAY_S", 0.05)
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (store_pool.membership(where, prefix=f"{tmp_path}:", name=name) for name in ("a/1", "b/2"))
    assert one is not None
    assert two is not None
    await one.stay()
    await anyio.sleep(0.1)
    assert await two.stay() == ["b/2"]


@pytest.mark.parametrize("damage", ["another type", "for ever"])
async def test_a_damaged_membership_hides_nobody_and_keeps_no_ghost(
    store_pool: StorePool, tmp_path: Path, damage: str
) -> None:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one = store_pool.membership(where, prefix=f"{tmp_path}:", name="a/1")
    assert one is not None
    with redis.Redis(host="127.0.0.1", port=shared_valkey().port) as server:
        if damage == "another type":
            server.rpush(f"{tmp_path}:replicas", "x")
        else:
            server.zadd(f"{tmp_path}:replicas", {"ghost": float("inf")})
    assert await one.stay() == ["a/1"]


async def test_it_is_seen_which_shops_somebody_has(store_pool: StorePool, tmp_path: Path) -> None:
    prefix = f"{tmp_path}:"
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    membership = store_pool.membership(where, prefix=prefix, name="a/1")
    assert membership is not None
    prefixes = [keys_apart(prefix, shop) for shop in ("honey", "tea")]
    tea = await opened(store_pool, prefix, "tea")
    assert await tea.take()
    assert await membership.leased(prefixes) == [False, True]
    await tea.aclose()  # lets go of it, and leaves the line to the others
    assert await membership.leased(prefixes) == [False, False]


async def test_leases_are_renewed_together_each_by_its_nonce(store_pool: StorePool, tmp_path: Path) -> None:
    stores = [await opened(store_pool, f"{tmp_path}:", shop) for shop in ("honey", "tea", "bread")]
    for store in stores:
        store.term_s = 2.0
        assert await store.take()
    thief = await opened(store_pool, f"{tmp_path}:", "tea")
    await stores[1].release()
    assert await thief.take()

    renewed: dict[str, bool] = {}

    async def renew(name: str, store: RedisStore) -> None:
        renewed[name] = await store.renew()

    await anyio.sleep(0.5)
    async with anyio.create_task_group() as tasks:
        for name, store in zip(("honey", "tea", "bread"), stores, strict=True):
            tasks.start_soon(renew, name, store)
    assert renewed == {"honey": True, "tea": False, "bread": True}
    assert store_pool.connection_pool is not None
    assert await store_pool.connection_pool.client.pttl(f"{tmp_path}:shops:honey:lease") > 1600
    assert (await thief.holder()).count("/") == 1


async def test_a_renewal_does_not_extend_the_lease_of_another(store_pool: StorePool, tmp_path: Path) -> None:
    loser, owner = [await opened(store_pool, f"{tmp_path}:", "tea") for _ in range(2)]
    assert await loser.take()
    await loser.release()
    owner.term_s, loser.term_s = 5.0, 60.0
    assert await owner.take()
    assert not await loser.renew()
    assert store_pool.connection_pool is not None
    assert 0 < await store_pool.connection_pool.client.pttl(f"{tmp_path}:shops:tea:lease") <= 5000


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_ours_is_kept_however_many_wait_for_a_lease(
    store_pool: StorePool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    """A server that is slow would else lose us the leases that we have for those that we want."""
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    prefix, real = f"{tmp_path}:", RedisConnection.call
    ours, membership = (
        await opened(store_pool, prefix, "honey"),
        store_pool.membership(where, prefix=prefix, name="a/1"),
    )
    assert membership is not None
    assert await ours.take()
    assert store_pool.connection_pool is not None
    if not together:  # as on a Cluster
        store_pool.connection_pool.renewals = None

    async def hang(self: RedisConnection, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        if args[0] == "take":
            await anyio.sleep_forever()
        return await real(self, script, keys, args)

    monkeypatch.setattr(RedisConnection, "call", hang)
    wanted = [await opened(store_pool, prefix, f"shop-{number}") for number in range(CONNECTIONS)]
    async with anyio.create_task_group() as tasks:
        for store in wanted:
            tasks.start_soon(store.take)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await ours.renew()
            assert await membership.stay() == ["a/1"]
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("error", [TemporaryError(ErrorKind.STORE, "made up: away"), ZeroDivisionError()])
async def test_a_renewal_that_fails_fails_for_all_that_went_together_and_only_once(error: Exception) -> None:
    calls = 0
    failed: list[str] = []

    async def away(_: str, keys: Sequence[str], __: Sequence[Any]) -> Any:
        nonlocal calls
        calls += 1
        assert list(keys) == ["one", "two"]
        raise error

    async def renew(name: str) -> None:
        try:
            await together.renew(name, "nonce", 1000)
        except (TemporaryError, ZeroDivisionError):
            failed.append(name)

    together = Renewals(away)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(renew, "one")
        tasks.start_soon(renew, "two")
    assert (sorted(failed), calls) == (["one", "two"], 1)


async def test_one_that_is_cancelled_takes_nobody_with_it() -> None:
    done: list[Any] = []

    async def answer(_: str, keys: Sequence[str], __: Sequence[Any]) -> Any:
        await anyio.sleep(0.05)
        return ["7", "0", *("nonce" for _ in keys)]

    async def renew(name: str) -> None:
        done.append((await together.renew(name, "nonce", 1000))[0])

    together = Renewals(answer)

    async with anyio.create_task_group() as tasks:
        with anyio.move_on_after(0.01):
            await renew("first")
        tasks.start_soon(renew, "second")
    assert done == ["nonce"]
