"""The engines that keep the state. Each has one folder, which is imported only when it is used."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from shop_poller.config.redis_address import RedisAddress, Topology
from shop_poller.core.translatable import Text
from shop_poller.ports import Batch, Membership, RowSetAside, Store
from shop_poller.stores.damage import StateFinding
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite.file import lock_owner

if TYPE_CHECKING:
    from shop_poller.stores.redis import RedisStore
    from shop_poller.stores.redis.connection import ConnectionPool

THREADS = 4
"""Threads for the files of all shops. A disk does not work on more than this at once."""
CONNECTIONS = 64
"""Connections to Redis for the stores of all shops."""


class StorePool:
    """Opens the stores of all shops of one process. The stores share threads or connections.

    Args:
        where: the address of any shop's state: each shop has its own file, or all are in one Redis.
        is_shared: whether there are several shops. The store of a single shop shares nothing.
    """

    def __init__(self, where: Path | RedisAddress, *, is_shared: bool = True) -> None:
        self.connection_pool: ConnectionPool | None = None
        self._threads: ThreadPoolExecutor | None = None
        if not is_shared:
            return
        if isinstance(where, RedisAddress):
            from shop_poller.stores.redis import connection, renewals  # noqa: PLC0415 - likewise
            from shop_poller.stores.redis.client import make_client  # noqa: PLC0415 - the import takes 10 MB

            self.connection_pool = connection.ConnectionPool(make_client(where, CONNECTIONS), CONNECTIONS)
            if where.topology is not Topology.CLUSTER:
                own = connection.RedisConnection(where, self.connection_pool, shared=True)
                self.connection_pool.renewals = renewals.Renewals(own.keep)
        else:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stores")

    async def open(self, where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
        """Open the store of one shop. For the arguments and errors see `open_store`."""
        if isinstance(where, Path):
            return await SqliteStore.open(where, self._threads)
        return _redis(where, shop=shop, prefix=prefix, connection_pool=self.connection_pool)

    def membership(self, where: Path | RedisAddress, *, prefix: str, name: str) -> Membership | None:
        """Return the membership of the replicas that share the shops.

        It is None where no other replica is possible: a state file has only one owner.

        Args:
            where: the address of the state.
            prefix: the prefix of all keys.
            name: the name of this replica.
        """
        if self.connection_pool is None or isinstance(where, Path):
            return None
        from shop_poller.stores.redis.membership import RedisMembership  # noqa: PLC0415 - likewise

        return RedisMembership(where, self.connection_pool, prefix=prefix, name=name)

    async def aclose(self) -> None:
        """Close what the stores share. Close all stores first."""
        if self.connection_pool is not None:
            await self.connection_pool.aclose()
        if self._threads is not None:
            self._threads.shutdown()


async def open_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """Open a store for the process that has its lease, which may write.

    Args:
        where: a file, or Redis.
        shop: the id of the first shop.
        prefix: the prefix of all keys in Redis.

    Raises:
        PermanentError: STORE, the file cannot be used.
    """
    if isinstance(where, Path):
        return await SqliteStore.open(where)
    return _redis(where, shop=shop, prefix=prefix)


async def peek_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """Open a store for reading while another process may write to it. Raises what `open_store` raises."""
    if isinstance(where, Path):
        return await SqliteStore.peek(where)
    return _redis(where, shop=shop, prefix=prefix)


async def leader_of(store: Store, where: Path | RedisAddress) -> str | None:
    """Return the process that watches the shop: "" if there is none, None if it cannot be known.

    Args:
        store: opened for reading.
        where: the place of its state.

    Raises:
        TemporaryError: STORE, Redis does not answer.
    """
    if not isinstance(where, Path):
        return await store.holder()
    try:
        owner = await to_thread.run_sync(lock_owner, where)
    except OSError:  # another user's
        return None
    return Text("process {number}", number=owner) if owner else ""


async def concurrent_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """Open a store to import orders or move dead letters while another process may poll.

    Raises:
        PermanentError, TemporaryError: STORE, it cannot be used, or Redis does not answer.
    """
    if isinstance(where, Path):
        return await SqliteStore.concurrent(where)
    store = _redis(where, shop=shop, prefix=prefix)
    try:
        await store.ask_clock()
    except BaseException:
        await store.aclose()
        raise
    return store


async def follow_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """Open a store to read what is written to it from now on. Raises what `concurrent_store` raises."""
    if isinstance(where, Path):
        return await SqliteStore.follow(where)
    return await concurrent_store(where, shop=shop, prefix=prefix)


async def inspect_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> list[StateFinding]:
    """Return everything that is wrong with a state. Another process may write to it meanwhile.

    Raises:
        PermanentError, TemporaryError: STORE, there is no state, or it cannot be read at all.
    """
    store = (
        await SqliteStore.peek(where) if isinstance(where, Path) else _redis(where, shop=shop, prefix=prefix)
    )
    try:
        return await store.inspect(shop)
    finally:
        await store.aclose()


async def repair_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> list[StateFinding]:
    """Repair what can be repaired. No other process may write to the state meanwhile.

    Returns:
        What was wrong.

    Raises:
        PermanentError, TemporaryError: STORE, there is no state, it cannot be read at all, or it is in use.
    """
    if isinstance(where, Path):
        await (await SqliteStore.peek(where)).aclose()  # unlike `open`, it does not create a file
        store: SqliteStore | RedisStore = await SqliteStore.open(where)
    else:
        store = _redis(where, shop=shop, prefix=prefix)
    try:
        return await store.repair(shop)
    finally:
        await store.aclose()


async def set_aside_in_store(
    where: Path | RedisAddress, *, shop: str, prefix: str, forget: bool
) -> list[RowSetAside]:
    """Return the damaged rows of which copies are kept; `forget` deletes these copies.

    Raises:
        PermanentError, TemporaryError: STORE, there is no state, or it cannot be used.
    """
    if isinstance(where, Path):
        store: SqliteStore | RedisStore = await (SqliteStore.concurrent if forget else SqliteStore.peek)(
            where
        )
    else:
        store = _redis(where, shop=shop, prefix=prefix)
    try:
        found = await store.rows_set_aside(shop)
        if forget:
            await store.forget_set_aside(shop)
        return found
    finally:
        await store.aclose()


async def copy_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """Return a copy in memory, without the outbox of Redis. Writing to it does not change the state.

    Raises:
        PermanentError, TemporaryError: STORE, it cannot be read.
    """
    if isinstance(where, Path):
        return await SqliteStore.copy(where)
    original = _redis(where, shop=shop, prefix=prefix)
    try:
        now = original.now()
        state, known = await original.snapshot(shop, now)
        alerts = await original.alerts(shop)
    finally:
        await original.aclose()
    copy = await SqliteStore.empty()
    try:
        await copy.commit(shop, Batch(state=state, now=now, seen_at=now, known=known))
        for alert in alerts.values():
            await copy.raise_alert(shop, alert, (), now)
    except BaseException:
        await copy.aclose()
        raise
    return copy


def _redis(
    where: RedisAddress, *, shop: str, prefix: str, connection_pool: "ConnectionPool | None" = None
) -> "RedisStore":
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - the import takes 10 MB

    return RedisStore(where, prefix=prefix, first_shop=shop, connection_pool=connection_pool)
