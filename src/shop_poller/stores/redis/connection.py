"""Sends commands and scripts to the server. The error of a failure is one line, with the fix."""

import math
from collections.abc import AsyncGenerator, Callable, Sequence
from importlib import resources
from typing import Any, TypeVar, cast

import anyio
from redis.commands.core import AsyncScript
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisClusterException,
    RedisError,
    ResponseError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from shop_poller.config.redis_address import RedisAddress
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.known_lines import known
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.core.redis_answers import says_no_writes
from shop_poller.core.translatable import Text, joined
from shop_poller.peer_errors import ignored, translated
from shop_poller.stores.redis.answers import command_fits, script_fits
from shop_poller.stores.redis.client import MAX_CONNECTIONS, Client, close_client, drop_connections
from shop_poller.stores.redis.renewals import Renewals

T = TypeVar("T")
CHUNK = 500
PEER = "Redis, as the state"
BEGINNINGS = {
    "commit": "append",
    "dead_letters": "append",
    "record_outcomes": "take_out",
    "aside": "take_out",
}
"""These scripts begin with a shared part, which adds a row to the outbox or removes one."""
PATIENCE_S = 6.0
"""The longest time for a command: to connect, to follow Sentinel or a Cluster, and to get the answer."""
MAX_SAID = 200
DROP_EVERY_S = 0.5
"""The shortest time between two reconnects, however many commands find that the server takes no writes."""

ADVICE: Sequence[tuple[type[Exception], str]] = (
    (AuthenticationError, Text("check user and password in SHOP_STATE_URL, or REDIS_URL if that is not set")),
    (AuthorizationError, Text("check user and password in SHOP_STATE_URL, or REDIS_URL if that is not set")),
    (NoPermissionError, Text("its ACL user needs all commands and scripts on our keys: docs/redis.md")),
    (OutOfMemoryError, Text("its maxmemory is used up; free some memory, work then resumes by itself")),
    (ReadOnlyError, Text("it is a replica, or became one; name the primary or use redis+sentinel://")),
    (RedisTimeoutError, Text("it does not answer in time")),
    (
        RedisConnectionError,
        Text("check the address in SHOP_STATE_URL or REDIS_URL, and whether it runs"),
    ),
)

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""The documented errors of the client library. Any other error of it is translated by peer_errors."""


WRONG_TYPE = "WRONGTYPE"
MIXED_UP = Text(
    "the answer does not fit the command; is the server Redis, and does a proxy in between mix answers up?"
)


class RefusedError(TemporaryError):
    """The server answered that it did not execute the command."""


class ConnectionPool:
    """A client, and the limits for each kind of request. The stores of many shops may share one.

    Args:
        client: the client of the server, or servers.
        connections: how many connections the client may open.

    Attributes:
        scripts: the scripts that were used.
        renewals: gathers the renewals of many shops; None where each shop renews its own lease.
    """

    def __init__(self, client: Client, connections: int = MAX_CONNECTIONS) -> None:
        self.client = client
        self.scripts: dict[str, AsyncScript] = {}
        self.renewals: Renewals | None = None
        self._dropped_at = -math.inf
        # However many commands run at once, connections are left for the leases. However many leases are
        # taken at once, connections are left to renew those that we hold.
        others, keepers = max(1, connections // 8), max(1, connections // 16)
        self.readers = anyio.Semaphore(connections // 2)
        self.writers = anyio.Semaphore(connections - connections // 2 - others - keepers)
        self.others = anyio.Semaphore(others)
        self.keepers = anyio.Semaphore(keepers)

    async def drop(self) -> None:
        """Close the connections: the server takes no writes, and the address may lead to another one now."""
        now = anyio.current_time()
        if now - self._dropped_at < DROP_EVERY_S:
            return
        self._dropped_at = now
        with anyio.move_on_after(PATIENCE_S), ignored(PEER, expected=REDIS_ERRORS):
            await drop_connections(self.client)

    async def aclose(self) -> None:
        """Close the connections. Never raises."""
        with anyio.move_on_after(PATIENCE_S, shield=True), ignored(PEER, expected=REDIS_ERRORS):
            await close_client(self.client)


class RedisConnection:
    """Commands to one server, or to several that act as one.

    Args:
        address: the address, for messages.
        connection_pool: the pool of connections.
        shared: whether others use the pool too. Then it stays open.

    Attributes:
        nonce: proves that the lease is ours; "" until the lease was requested.
        torn: whether the state was found to differ from what we wrote. Then the session must end, and the
            next one must read everything again.
        closed: whether the connection is closed.
        patience_s: how long a command may take.
        has_wrong_type: whether a key of the wrong type was found. It must be renamed before work begins.
    """

    def __init__(
        self, address: RedisAddress, connection_pool: ConnectionPool, *, shared: bool = False
    ) -> None:
        self.nonce = ""
        self.torn = False
        self.has_wrong_type = False
        self.closed = False
        self.patience_s = PATIENCE_S
        self._address = address
        self._connection_pool = connection_pool
        self._shared = shared

    @property
    def renewals(self) -> "Renewals | None":
        """Gathers renewals where the stores of many shops share the pool."""
        return self._connection_pool.renewals

    async def read(self, *command: str | int) -> Any:
        """Run one command that changes nothing.

        Raises:
            TemporaryError: STORE.
        """
        async with self._connection_pool.readers:
            answer = await self._carry_out(lambda: self._connection_pool.client.execute_command(*command))
        if not command_fits(command, answer):
            raise await self._mixed_up()
        return answer

    async def fields(self, key: str) -> AsyncGenerator[tuple[str, str]]:
        """Read a whole hash in parts. Some fields may come twice. Raises what `read` raises."""
        async for some in self.scan("HSCAN", key):
            for field in some.items():
                yield field

    async def hash(self, key: str) -> dict[str, str]:
        """Read a whole small hash at once. Raises what `read` raises."""
        found: dict[str, str] = await self.read("HGETALL", key)
        return found

    async def scan(self, command: str, key: str, *options: str) -> AsyncGenerator[Any]:
        """Yield the answers of HSCAN, SSCAN or ZSCAN one after the other. Raises what `read` raises."""
        position = 0
        while True:
            position, some = await self.read(command, key, position, *options, "COUNT", CHUNK)
            yield some
            if not position:
                return

    async def by_score(self, key: str, first: str | int, last: str | int) -> AsyncGenerator[list[str]]:
        """Yield members of a sorted set with scores from first to last, in parts. Raises what `read` raises.

        Members removed meanwhile do not shift the parts: each part begins at the last score of the one
        before.
        """
        at_first: set[str] = set()  # members with the score `first` that were yielded already
        while True:
            command = ("ZRANGEBYSCORE", key, first, last, "WITHSCORES", "LIMIT", 0, CHUNK + len(at_first))
            found = [(str(member), float(score)) for member, score in pairs(await self.read(*command))]
            fresh = [member for member, _ in found if member not in at_first]
            if fresh:
                yield fresh
            if len(found) < CHUNK + len(at_first):
                return
            score = found[-1][1]
            at_first = {member for member, of in found if of == score}
            first = f"{score:.0f}"

    async def names(self, key: str, begin: str, end: str) -> AsyncGenerator[list[str]]:
        """Yield members of a sorted set by name, in parts. Raises what `read` raises.

        Args:
            key: the key of the set.
            begin: the lower bound, as in ZRANGEBYLEX.
            end: the upper bound, likewise.
        """
        while True:
            some = await self.read("ZRANGEBYLEX", key, begin, end, "LIMIT", 0, CHUNK)
            if some:
                yield some
            if len(some) < CHUNK:
                return
            begin = f"({some[-1]}"

    async def call(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run one of scripts/*.lua.

        Raises:
            TemporaryError: STORE; the script may have run, unless it is a RefusedError.
        """
        scripts = self._connection_pool.scripts
        if script not in scripts:
            folder = resources.files(__package__).joinpath("scripts")
            parts = [BEGINNINGS[script], script] if script in BEGINNINGS else [script]
            text = "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
            scripts[script] = self._connection_pool.client.register_script(text)
        prepared = scripts[script]
        answer = await self._carry_out(lambda: prepared(keys=list(keys), args=list(args)))
        if not script_fits(script, keys=len(keys), args=len(args), answer=answer):
            raise await self._mixed_up()
        return answer

    async def fenced(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script that compares the lease's nonce. Raises what `call` raises."""
        async with self._connection_pool.writers:
            return await self.call(script, keys, [self.nonce, *args])

    async def unfenced(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run any other script. Raises what `call` raises."""
        async with self._connection_pool.others:
            return await self.call(script, keys, args)

    async def keep(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script that renews a lease or a membership. Raises what `call` raises."""
        async with self._connection_pool.keepers:
            return await self.call(script, keys, args)

    async def aclose(self) -> None:
        """Close the connections, unless the pool is shared."""
        self.closed = True
        if not self._shared:
            await self._connection_pool.aclose()

    async def _mixed_up(self) -> TemporaryError:
        """Close the connections and return the error for an answer that does not fit its command.

        The next answers on these connections would not fit either.
        """
        await self._connection_pool.drop()
        return self._error(MIXED_UP)

    async def _carry_out(self, command: Callable[[], Any]) -> Any:
        if self.closed:
            raise self._error(Text("is closed already"))
        try:
            with anyio.fail_after(self.patience_s):
                return await self._executed(command)
        except ResponseError as error:
            code, _, _ = str(error).partition(" ")
            if code == "TORN":
                self.torn = True
                raise self._refused(
                    Text("is not what this process wrote: was it emptied, or is this an older replica?")
                ) from error
            if code == "FENCED":
                raise self._refused(Text("another replica has the lease")) from error
            if WRONG_TYPE in str(error):  # the error of a script begins with a code of its own
                self.has_wrong_type = True
                raise self._refused(
                    Text(
                        "{text}; does another program use the same prefix? `shop-poller state check` names "
                        "the key",
                        text=self._text(error),
                    )
                ) from error
            raise self._refused(self._text(error)) from error
        except TimeoutError as error:
            raise self._error(Text("it does not answer in time")) from error
        except REDIS_ERRORS as error:
            raise self._error(self._text(error)) from error

    async def _executed(self, command: Callable[[], Any]) -> Any:
        """Execute a command. If the server takes no writes, drop the connections to it."""
        try:
            with translated(self._address.shown, self._broken, passing=REDIS_ERRORS):
                return await cast("Any", command())
        except (RedisError, RedisClusterException) as error:
            if says_no_writes(error):
                await self._connection_pool.drop()
            raise

    def _text(self, error: Exception) -> str:
        """Return the error and the fix in one line of bounded length, without a secret."""
        # A server quotes a command that it does not know, even AUTH.
        said = Masker(self._address.secrets).mask(str(error))
        text = known(one_line(said, MAX_SAID).rstrip(".") or type(error).__name__)
        advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), "")
        return joined("; ", [text, advice]) if advice else text

    def _broken(self, text: str) -> TemporaryError:
        """Return the error for an unexpected failure of the client library, mostly a lost connection."""
        return self._error(joined("; ", [text, ADVICE[-1][1]]))

    def _error(self, text: str) -> TemporaryError:
        return TemporaryError(ErrorKind.STORE, state_in(self._address, text))

    def _refused(self, text: str) -> RefusedError:
        return RefusedError(ErrorKind.STORE, state_in(self._address, text))


def state_in(address: RedisAddress, problem: str) -> str:
    """Return the line of a problem of the state."""
    return Text("state in {place}: {problem}", place=address.shown, problem=problem)


def pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Return members and scores as pairs. Some versions of the client return a flat list, others pairs."""
    if flat and isinstance(flat[0], tuple | list):
        return [(member, score) for member, score in flat]
    return list(zip(flat[::2], flat[1::2], strict=True))


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """Split items into chunks that a command and Lua's unpack can take."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
