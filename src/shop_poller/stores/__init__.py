"""What remembers: one folder a store, imported only when it is used."""

from pathlib import Path
from typing import TYPE_CHECKING

from shop_poller.core.redis_address import RedisAddress
from shop_poller.ports import Batch, Store
from shop_poller.stores.sqlite import SqliteStore

if TYPE_CHECKING:
    from shop_poller.stores.redis import RedisStore


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


def _redis(where: RedisAddress, *, shop: str, prefix: str) -> "RedisStore":
    from shop_poller.stores.redis import RedisStore  # noqa: PLC0415 - it is 10 MB

    return RedisStore(where, prefix=prefix, first_shop=shop)
