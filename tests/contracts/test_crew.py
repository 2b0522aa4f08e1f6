"""The replicas of a fleet in Redis: who is there, whose lease is whose, and renewals that go together."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.places import apart
from shop_poller.core.redis_address import parse_redis
from shop_poller.stores import CONNECTIONS, Shelf
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import Connection
from shop_poller.stores.redis.renewals import Renewals
from support.stores import shared_valkey

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shelf() -> AsyncIterator[Shelf]:
    made = Shelf(parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0"))
    yield made
    await made.aclose()


async def opened(shelf: Shelf, prefix: str, shop: str) -> RedisStore:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    store = await shelf.open(where, shop=shop, prefix=apart(prefix, shop))
    assert isinstance(store, RedisStore)
    return store


async def test_replicas_see_one_another_until_they_leave(shelf: Shelf, tmp_path: Path) -> None:
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (shelf.crew(where, prefix=f"{tmp_path}:", name=name) for name in ("b/2", "a/1"))
    assert one is not None
    assert two is not None
    assert await one.stay() == ["b/2"]
    assert await two.stay() == ["a/1", "b/2"]
    await two.leave()
    assert await one.stay() == ["b/2"]


async def test_a_replica_that_says_nothing_is_forgotten(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.redis.crew.STAY_S", 0.05)
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    one, two = (shelf.crew(where, prefix=f"{tmp_path}:", name=name) for name in ("a/1", "b/2"))
    assert one is not None
    assert two is not None
    await one.stay()
    await anyio.sleep(0.1)
    assert await two.stay() == ["b/2"]


async def test_it_is_seen_which_shops_somebody_has(shelf: Shelf, tmp_path: Path) -> None:
    prefix = f"{tmp_path}:"
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    crew = shelf.crew(where, prefix=prefix, name="a/1")
    assert crew is not None
    prefixes = [apart(prefix, shop) for shop in ("honey", "tea")]
    tea = await opened(shelf, prefix, "tea")
    assert await tea.take()
    assert await crew.leased(prefixes) == [False, True]
    await tea.aclose()  # lets go of it, and leaves the line to the others
    assert await crew.leased(prefixes) == [False, False]


async def test_leases_are_renewed_together_each_by_its_nonce(shelf: Shelf, tmp_path: Path) -> None:
    stores = [await opened(shelf, f"{tmp_path}:", shop) for shop in ("honey", "tea", "bread")]
    for store in stores:
        store.term_s = 2.0
        assert await store.take()
    thief = await opened(shelf, f"{tmp_path}:", "tea")
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
    assert shelf.line is not None
    assert await shelf.line.client.pttl(f"{tmp_path}:shops:honey:lease") > 1600
    assert (await thief.holder()).count("/") == 1


@pytest.mark.parametrize("together", [True, False])
async def test_what_is_ours_is_kept_however_many_wait_for_a_lease(
    shelf: Shelf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, together: bool
) -> None:
    """A server that is slow would else lose us the leases that we have for those that we want."""
    where = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    prefix, real = f"{tmp_path}:", Connection.call
    ours, crew = await opened(shelf, prefix, "honey"), shelf.crew(where, prefix=prefix, name="a/1")
    assert crew is not None
    assert await ours.take()
    assert shelf.line is not None
    if not together:  # as on a Cluster
        shelf.line.renewals = None

    async def hang(self: Connection, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        if args[0] == "take":
            await anyio.sleep_forever()
        return await real(self, script, keys, args)

    monkeypatch.setattr(Connection, "call", hang)
    wanted = [await opened(shelf, prefix, f"shop-{number}") for number in range(CONNECTIONS)]
    async with anyio.create_task_group() as tasks:
        for store in wanted:
            tasks.start_soon(store.take)
        await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            assert await ours.renew()
            assert await crew.stay() == ["a/1"]
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
