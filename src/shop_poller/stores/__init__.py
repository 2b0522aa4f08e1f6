"""What remembers: one folder a store, imported only when it is used."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from shop_poller.core.redis_address import RedisAddress, Topology
from shop_poller.ports import Batch, Crew, Store
from shop_poller.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from shop_poller.stores.redis import RedisStore
    from shop_poller.stores.redis.connection import Line

THREADS = 4
"""For the files of all shops: a disk does no more at once."""
CONNECTIONS = 64
"""To Redis, for the stores of all shops."""


class Shelf:
    """Opens the stores of many shops, which share threads, or connections.

    Args:
        where: the state of any of them lies; in a file of its own each, or in one Redis.
    """

    def __init__(self, where: Path | RedisAddress) -> None:
        self.line: Line | None = None
        self._threads: ThreadPoolExecutor | None = None
        if isinstance(where, RedisAddress):
            from shop_poller.stores.redis import connection, renewals  # noqa: PLC0415 - as above
            from shop_poller.stores.redis.client import make_client  # noqa: PLC0415 - it is 10 MB

            self.line = connection.Line(make_client(where, CONNECTIONS), CONNECTIONS)
            if where.topology is not Topology.CLUSTER:
                own = connection.Connection(where, self.line, shared=True)
                self.line.renewals = renewals.Renewals(own.keep)
        else:
            self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="stores")

    async def open(self, where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
        """The store of one shop; for the rest see `open_store`."""
        if isinstance(where, Path):
            return await SqliteStore.open(where, self._threads)
        return _redis(where, shop=shop, prefix=prefix, line=self.line)

    def crew(self, where: Path | RedisAddress, *, prefix: str, name: str) -> Crew | None:
        """The replicas that share the shops; None where there can be no other, since files have one owner.

        Args:
            where: the state lies.
            prefix: of all keys.
            name: of this replica.
        """
        if self.line is None or isinstance(where, Path):
            return None
        from shop_poller.stores.redis.crew import Crew as RedisCrew  # noqa: PLC0415 - as above

        return RedisCrew(where, self.line, prefix=prefix, name=name)

    async def aclose(self) -> None:
        """Close what was shared, after all stores."""
        if self.line is not None:
            await self.line.aclose()
        if self._threads is not None:
            self._threads.shutdown()


async def open_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """The store for an address, to be written to by whoever has its lease.

    Args:
        where: a file, or Redis.
        shop: the first shop's id.
        prefix: of all keys in Redis.

    Raises:
        PermanentError: STORE, the file cannot be used.
    """
    if isinstance(where, Path):
        return await SqliteStore.open(where)
    return _redis(where, shop=shop, prefix=prefix)


async def peek_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """The store for an address, to be read beside whoever writes to it; raises what `open_store` raises."""
    if isinstance(where, Path):
        return await SqliteStore.peek(where)
    return _redis(where, shop=shop, prefix=prefix)


async def beside_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """The store for an address, to learn orders or move dead letters beside whoever polls.

    Raises:
        PermanentError, TemporaryError: STORE, it cannot be used, or Redis does not answer.
    """
    if isinstance(where, Path):
        return await SqliteStore.beside(where)
    store = _redis(where, shop=shop, prefix=prefix)
    try:
        await store.ask_clock()
    except BaseException:
        await store.aclose()
        raise
    return store


async def follow_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """The store for an address, to see what is written to it from now on; raises what `beside_store` does."""
    if isinstance(where, Path):
        return await SqliteStore.follow(where)
    return await beside_store(where, shop=shop, prefix=prefix)


async def copy_store(where: Path | RedisAddress, *, shop: str, prefix: str) -> Store:
    """A copy in memory, without the outbox of Redis: what is written to it changes nothing.

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
    await copy.commit(shop, Batch(state=state, now=now, seen_at=now, known=known))
    for alert in alerts.values():
        await copy.raise_alert(shop, alert, (), now)
    return copy


def _redis(where: RedisAddress, *, shop: str, prefix: str, line: "Line | None" = None) -> "RedisStore":
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - it is 10 MB

    return RedisStore(where, prefix=prefix, first_shop=shop, line=line)
