"""How each store is opened for the suite that holds for all: SQLite, fakeredis, Valkey, Redis if there."""

import atexit
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fakeredis import FakeAsyncRedis, FakeServer

from shop_poller.config.redis_address import parse_redis
from shop_poller.ports import Store
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP
from support.redis_server import REDIS, RedisServer
from support.sink_peers import valkey_server

Opener = Callable[[Path], Awaitable[Store]]

ADDRESS = parse_redis("redis://fake:6379/0")
FAKES: dict[Path, FakeServer] = {}


@cache
def shared_valkey() -> Any:
    """One server for all tests of this file; each has a prefix of its own."""
    server = valkey_server()
    atexit.register(server.terminate)
    return server


@cache
def shared_redis() -> RedisServer:
    """Likewise, of Redis itself."""
    folder = TemporaryDirectory(prefix="redis-")
    server = RedisServer(Path(folder.name), binary=REDIS or "")
    atexit.register(folder.cleanup)
    atexit.register(server.end)
    server.start()
    return server


def fake_client(server: FakeServer) -> Any:
    return FakeAsyncRedis(server=server, decode_responses=True, encoding_errors="surrogateescape", protocol=2)


async def led(store: RedisStore) -> Store:
    """A store that has the lease."""
    assert await store.take()
    return store


async def open_sqlite(folder: Path) -> Store:
    return await SqliteStore.open(folder / "state.db")


async def open_fakeredis(folder: Path) -> Store:
    server = FAKES.setdefault(folder, FakeServer(server_type="redis", version=(7,)))
    store = RedisStore(ADDRESS, prefix="shop:polling:", first_shop=SHOP, make=lambda _: fake_client(server))
    store._connection.patience_s = store.term_s = (
        120  # it is made of Python: ten thousand rows take it seconds
    )
    return await led(store)


async def open_valkey(folder: Path) -> Store:
    address = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/0")
    return await led(RedisStore(address, prefix=f"{folder}:", first_shop=SHOP))


async def open_redis(folder: Path) -> Store:
    return await led(RedisStore(parse_redis(shared_redis().url), prefix=f"{folder}:", first_shop=SHOP))


STORES: list[Opener] = [open_sqlite, open_fakeredis, open_valkey, *([open_redis] if REDIS else [])]
"""How each store is opened on what lies in a folder; opening it again finds what was left there."""

STORE_NAMES = [opener.__name__.removeprefix("open_") for opener in STORES]


class Place:
    """Where one store's state lies; a test may open it again, as after the end of a process."""

    def __init__(self, opener: Opener, folder: Path) -> None:
        self._opener = opener
        self._folder = folder
        self._store: Store | None = None

    async def open(self) -> Store:
        await self.leave()
        self._store = await self._opener(self._folder)
        return self._store

    async def leave(self) -> None:
        if self._store is not None:
            await self._store.aclose()
            self._store = None
