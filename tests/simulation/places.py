"""Where state lies: the real stores, on a disk and a server that fail and can be set back to earlier."""

import copy
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias, cast

import anyio
from fakeredis import FakeAsyncRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError

from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.ports import Store
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import ConnectionPool
from shop_poller.stores.sqlite import SqliteStore
from simulation.network import lost
from support.stores import fake_client

if TYPE_CHECKING:
    from simulation.processes import Process
    from simulation.world import World

PREFIX = "shop:polling:"
SHOP = "shop.example"
ADDRESS = parse_redis("redis://fake:6379/0")
WRITES = {"commit", "raise_alert", "clear_alert", "record_outcomes"}
"""What the judge has to know of, at the moment when it is done."""

Call: TypeAlias = tuple[str, tuple[Any, ...], dict[str, Any]]
CALL: ContextVar[Call | None] = ContextVar("CALL", default=None)
SCRIPT: ContextVar[str] = ContextVar("SCRIPT", default="")
CALLER: ContextVar[Any] = ContextVar("CALLER", default=None)
"""Whose call it is: in a fleet the stores of all shops of a process share a client."""

Trouble: TypeAlias = Literal["refused", "lost", "slow"]
Troubles: TypeAlias = dict[tuple[Trouble, str], float]
"""How likely each is, each time that a method is called: one of that name, or any if there is none."""


class Place(Protocol):
    """Where state lies, and what is wrong there."""

    troubles: Troubles

    async def open(self, process: "Process") -> Store: ...

    def leader(self) -> str | None:
        """The nonce of the lease as it stands; None where there is none to steal."""
        ...

    def save(self) -> Any: ...

    def restore(self, saved: Any) -> None: ...

    async def look(self) -> Store:
        """To be read beside everybody."""
        ...

    def close(self) -> None: ...


def throw(rng: Random, troubles: Troubles, name: str) -> Trouble | None:
    """What goes wrong this time."""
    for (trouble, only), likely in troubles.items():
        if only in {"", name} and rng.random() < likely:
            return trouble
    return None


class Watched:
    """The store as a process sees it; the judge sees every call.

    Args:
        inner: the real one.
        process: whose.
        call: carries out one of its methods.
    """

    def __init__(
        self,
        inner: Store,
        process: "Process",
        call: Callable[[Call, Callable[..., Awaitable[Any]]], Awaitable[Any]],
    ) -> None:
        self.inner = inner
        self._process = process
        self._call = call

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if name in {"now", "term_s"}:
            return found

        async def method(*args: Any, **kwargs: Any) -> Any:
            process, judge = self._process, self._process.world.judge
            await process.passes(f"before {name}")
            if process.dead and name != "aclose":
                raise TemporaryError(ErrorKind.STORE, "made up: this process is dead")
            call = (name, args, kwargs)
            result = await self._call(call, found)
            judge.did(process, call, result)
            if name != "claim" or result:
                await process.passes(f"after {name}")
            return result

        return method


class SqlitePlace:
    """A file, of one process at a time."""

    def __init__(self, world: "World", folder: Path) -> None:
        self.troubles: Troubles = {}
        self._world = world
        self._path = folder / "state.db"
        self._saved = folder / "saved.db"

    async def open(self, process: "Process") -> Store:
        store = await SqliteStore.open(self._path)
        store.now = process.now  # type: ignore[method-assign] # the host's clock is the world's to set

        async def call(call: Call, method: Callable[..., Awaitable[Any]]) -> Any:
            name, args, kwargs = call
            trouble = throw(self._world.rng, self.troubles, name) if name != "aclose" else None
            if name == "aclose":
                return await method()
            await anyio.sleep(self._world.rng.expovariate(500))
            if process.dead:
                raise TemporaryError(ErrorKind.STORE, "made up: this process is dead")
            if trouble == "slow":
                await anyio.sleep(self._world.rng.uniform(0, 5))
            if trouble == "refused":
                raise TemporaryError(ErrorKind.STORE, "made up: disk I/O error")
            result = await method(*args, **kwargs)
            if name in WRITES:
                self._world.judge.applied(process, call)
            # What a claim writes is in memory only, and never lost.
            if trouble == "lost" and name in WRITES:
                self._world.judge.answer_lost_at = self._world.loop.time()
                raise TemporaryError(ErrorKind.STORE, "made up: disk I/O error, after all was written")
            await anyio.sleep(self._world.rng.expovariate(500))
            return result

        return cast("Store", Watched(store, process, call))

    def leader(self) -> str | None:
        return None

    def save(self) -> Any:
        self._saved.unlink(missing_ok=True)
        if not self._path.exists():
            return False
        source, target = sqlite3.connect(self._path), sqlite3.connect(self._saved)
        with source, target:
            source.backup(target)
        source.close()
        target.close()
        return True

    def restore(self, saved: Any) -> None:
        for file in self._path.parent.glob("state.db*"):
            file.unlink()
        if saved:
            shutil.copy(self._saved, self._path)

    async def look(self) -> Store:
        return await SqliteStore.copy(self._path)

    def close(self) -> None:
        pass


class CarriedRedis(FakeAsyncRedis):
    """A client whose commands are carried by the world's network."""

    world: "World"
    process: "Process"
    place: "RedisPlace"

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        call, script, caller = CALL.get(), SCRIPT.get(), CALLER.get() or self.process
        trouble = throw(self.world.rng, self.place.troubles, call[0] if call else "")
        carried_out: Callable[..., Awaitable[Any]] = super().execute_command

        async def arrive() -> Any:
            if trouble == "slow":
                await anyio.sleep(self.world.rng.uniform(0, 9))
            result = await carried_out(*args, **options)
            is_run = args[0] in {"EVALSHA", "EVAL"}  # and not looked up
            if is_run and call is not None and call[0] in WRITES and script in {"commit", "record_outcomes"}:
                caller.world.judge.applied(caller, call)
            if trouble == "lost":
                caller.world.judge.answer_lost_at = caller.world.loop.time()
                raise lost(self.world, RedisConnectionError("made up: the connection broke off"))
            return result

        if trouble == "refused":
            await anyio.sleep(0.01)
            raise lost(self.world, RedisConnectionError("made up: connection refused"))
        return await self.world.carry(
            self.process, arrive, down=False, error=RedisConnectionError("made up: no route")
        )


class RedisPlace:
    """A server, that several processes share.

    Args:
        world: whose network carries commands to it.
        server: another place's, for the state of one more shop.
        prefix: of the shop's keys.
    """

    def __init__(self, world: "World", *, server: FakeServer | None = None, prefix: str = PREFIX) -> None:
        self.troubles: Troubles = {}
        self.server = self._server = server or FakeServer(server_type="redis", version=(7,))
        self._world = world
        self._prefix = prefix

    def client(self, process: "Process") -> Any:
        """A process's connection."""
        client = CarriedRedis(server=self._server, decode_responses=True, protocol=2)
        client.world, client.process, client.place = self._world, process, self
        return client

    async def open(self, process: "Process", connection_pool: ConnectionPool | None = None) -> Store:
        store = RedisStore(
            ADDRESS,
            prefix=self._prefix,
            first_shop=self._world.shop_id,
            make=lambda _: self.client(process),
            connection_pool=connection_pool,
        )
        run = store._connection.call

        async def named(script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
            token = SCRIPT.set(script)
            try:
                return await run(script, keys, args)
            finally:
                SCRIPT.reset(token)

        store._connection.call = named  # type: ignore[method-assign] # to know it by its name

        async def call(call: Call, method: Callable[..., Awaitable[Any]]) -> Any:
            _, args, kwargs = call
            token, caller = CALL.set(call), CALLER.set(process)
            try:
                return await method(*args, **kwargs)
            finally:
                CALL.reset(token)
                CALLER.reset(caller)

        return cast("Store", Watched(store, process, call))

    def nonce(self, store: Any) -> str:
        return str(store.inner._connection.nonce)

    def leader(self) -> str | None:
        database = self._server.dbs[0]
        database.time = self._world.server_time()
        item = database.get(f"{self._prefix}lease".encode())
        return item.value.decode() if item else ""

    def save(self) -> Any:
        return copy.deepcopy(self._server.dbs[0]._dict)

    def restore(self, saved: Any) -> None:
        database = self._server.dbs[0]
        database._dict.clear()
        for key, item in copy.deepcopy(saved).items():
            database[key] = item

    async def look(self) -> Store:
        return RedisStore(
            ADDRESS,
            prefix=self._prefix,
            first_shop=self._world.shop_id,
            make=lambda _: fake_client(self._server),
        )

    def close(self) -> None:
        pass
