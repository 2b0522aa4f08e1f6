"""Commands and scripts on their way to the server; what fails is named in one line, with what to do."""

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
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.core.redis_answers import says_no_writes
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
"""What these scripts begin with: what adds to the outbox, or takes out of it, is the same text for all."""
PATIENCE_S = 6.0
"""For all of a command: to connect, to follow a Sentinel or a Cluster, and to be answered."""
MAX_SAID = 200
DROP_EVERY_S = 0.5
"""However many are told that the server takes no writes, connections are not made anew more often."""

ADVICE: Sequence[tuple[type[Exception], str]] = (
    (AuthenticationError, "check user and password in SHOP_STATE_URL, or REDIS_URL if that is not set"),
    (AuthorizationError, "check user and password in SHOP_STATE_URL, or REDIS_URL if that is not set"),
    (NoPermissionError, "its ACL user needs all commands and scripts on our keys: docs/redis.md"),
    (OutOfMemoryError, "its maxmemory is used up; free some, it then goes on by itself"),
    (ReadOnlyError, "it is a replica, or became one; name the primary or use redis+sentinel://"),
    (RedisTimeoutError, "it does not answer in time"),
    (
        RedisConnectionError,
        "check the address in SHOP_STATE_URL or REDIS_URL, and whether it runs",
    ),
)

REDIS_ERRORS = (RedisError, RedisClusterException, OSError)
"""What the client library means to raise; whatever else it raises is translated by peer_errors."""


WRONG_TYPE = "WRONGTYPE"
MIXED_UP = (
    "answered something else than it was asked for; is it Redis, and nothing between that mixes answers up?"
)


class RefusedError(TemporaryError):
    """The server answered that it did not do it."""


class ConnectionPool:
    """A client, and who waits for whom to use it; the stores of many shops may share one.

    Args:
        client: speaks to the server, or servers.
        connections: how many it may have.

    Attributes:
        scripts: those that were used.
        renewals: gather those of many shops; None where each shop has to be asked for by itself.
    """

    def __init__(self, client: Client, connections: int = MAX_CONNECTIONS) -> None:
        self.client = client
        self.scripts: dict[str, AsyncScript] = {}
        self.renewals: Renewals | None = None
        self._dropped_at = -math.inf
        # However many ask at once, there are connections left for the leases; and for those that we have
        # there are, however many leases are asked for.
        others, keepers = max(1, connections // 8), max(1, connections // 16)
        self.readers = anyio.Semaphore(connections // 2)
        self.writers = anyio.Semaphore(connections - connections // 2 - others - keepers)
        self.others = anyio.Semaphore(others)
        self.keepers = anyio.Semaphore(keepers)

    async def drop(self) -> None:
        """The server takes no writes: connect anew, since the address may lead to another one by now."""
        now = anyio.current_time()
        if now - self._dropped_at < DROP_EVERY_S:
            return
        self._dropped_at = now
        with anyio.move_on_after(PATIENCE_S), ignored(PEER, expected=REDIS_ERRORS):
            await drop_connections(self.client)

    async def aclose(self) -> None:
        """Close the connections; never raises."""
        with anyio.move_on_after(PATIENCE_S, shield=True), ignored(PEER, expected=REDIS_ERRORS):
            await close_client(self.client)


class RedisConnection:
    """One server, or several that are one.

    Args:
        address: where, for messages.
        line: to it.
        shared: others use the line, too: it stays open.

    Attributes:
        nonce: proves that the lease is ours; "" until it was asked for.
        torn: something was found that is not as we left it: the lease is to be given up, and all read anew.
        closed: of no use any more.
        patience_s: how long a command may take.
        has_wrong_type: a key was met that is not of its type: to be moved away before work begins.
    """

    def __init__(self, address: RedisAddress, line: ConnectionPool, *, shared: bool = False) -> None:
        self.nonce = ""
        self.torn = False
        self.has_wrong_type = False
        self.closed = False
        self.patience_s = PATIENCE_S
        self._address = address
        self._line = line
        self._shared = shared

    @property
    def renewals(self) -> "Renewals | None":
        """Gathers renewals, where the stores of many shops share the line."""
        return self._line.renewals

    async def read(self, *command: str | int) -> Any:
        """Run one command that changes nothing.

        Raises:
            TemporaryError: STORE.
        """
        async with self._line.readers:
            answer = await self._carry_out(lambda: self._line.client.execute_command(*command))
        if not command_fits(command, answer):
            raise await self._mixed_up()
        return answer

    async def fields(self, key: str) -> AsyncGenerator[tuple[str, str]]:
        """All of a hash, in parts; a few may come twice. Raises what `read` raises."""
        async for some in self.scan("HSCAN", key):
            for field in some.items():
                yield field

    async def hash(self, key: str) -> dict[str, str]:
        """All of a small hash, at once; raises what `read` raises."""
        found: dict[str, str] = await self.read("HGETALL", key)
        return found

    async def scan(self, command: str, key: str, *options: str) -> AsyncGenerator[Any]:
        """The answers of HSCAN or SSCAN, one after the other; raises what `read` raises."""
        position = 0
        while True:
            position, some = await self.read(command, key, position, *options, "COUNT", CHUNK)
            yield some
            if not position:
                return

    async def by_score(self, key: str, first: str | int, last: str | int) -> AsyncGenerator[list[str]]:
        """Members of a sorted set with scores from first to last, in parts; raises what `read` raises.

        What is removed meanwhile moves nothing: each part begins at the score that the last one ended with.
        """
        at_first: set[str] = set()  # those with the score `first` that were had already
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
        """Members of a sorted set by their names, in parts; raises what `read` raises.

        Args:
            key: of the set.
            begin: as in ZRANGEBYLEX.
            end: likewise.
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
            TemporaryError: STORE; whether the script was run is then not known, unless it refused.
        """
        scripts = self._line.scripts
        if script not in scripts:
            folder = resources.files(__package__).joinpath("scripts")
            parts = [BEGINNINGS[script], script] if script in BEGINNINGS else [script]
            text = "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
            scripts[script] = self._line.client.register_script(text)
        prepared = scripts[script]
        answer = await self._carry_out(lambda: prepared(keys=list(keys), args=list(args)))
        if not script_fits(script, keys=len(keys), args=len(args), answer=answer):
            raise await self._mixed_up()
        return answer

    async def fenced(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script that compares the lease's nonce; raises what `call` raises."""
        async with self._line.writers:
            return await self.call(script, keys, [self.nonce, *args])

    async def unfenced(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run any other script; raises what `call` raises."""
        async with self._line.others:
            return await self.call(script, keys, args)

    async def keep(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script by which we keep what we have, and would lose soon; raises what `call` raises."""
        async with self._line.keepers:
            return await self.call(script, keys, args)

    async def aclose(self) -> None:
        """Close the connections, unless others use them."""
        self.closed = True
        if not self._shared:
            await self._line.aclose()

    async def _mixed_up(self) -> TemporaryError:
        """An answer is not of the kind that was asked for; the next on these connections are not, either."""
        await self._line.drop()
        return self._error(MIXED_UP)

    async def _carry_out(self, command: Callable[[], Any]) -> Any:
        if self.closed:
            raise self._error("is closed already")
        try:
            with anyio.fail_after(self.patience_s):
                return await self._heeding(command)
        except ResponseError as error:
            code, _, _ = str(error).partition(" ")
            if code == "TORN":
                self.torn = True
                raise self._refused("is not what was left there: emptied, or an older replica?") from error
            if code == "FENCED":
                raise self._refused("another replica has the lease") from error
            if WRONG_TYPE in str(error):  # a script's error says its own code first
                self.has_wrong_type = True
                raise self._refused(
                    f"{self._text(error)}; does another program use the same prefix?"
                    " `shop-poller state check` names the key"
                ) from error
            raise self._refused(self._text(error)) from error
        except TimeoutError as error:
            raise self._error("it does not answer in time") from error
        except REDIS_ERRORS as error:
            raise self._error(self._text(error)) from error

    async def _heeding(self, command: Callable[[], Any]) -> Any:
        """Carry out a command; one that is answered by a server that takes no writes was the last there."""
        try:
            with translated(self._address.place, self._broken, passing=REDIS_ERRORS):
                return await cast("Any", command())
        except (RedisError, RedisClusterException) as error:
            if says_no_writes(error):
                await self._line.drop()
            raise

    def _text(self, error: Exception) -> str:
        """What went wrong and what to do, in one line, bounded, without a secret."""
        # A server says a command back that it does not know, AUTH too.
        said = Masker(self._address.secrets).mask(str(error))
        text = one_line(said, MAX_SAID).rstrip(".") or type(error).__name__
        advice = next((advice for kind, advice in ADVICE if isinstance(error, kind)), "")
        return f"{text}; {advice}" if advice else text

    def _broken(self, text: str) -> TemporaryError:
        """The client library failed in a way of its own; nearly always since a connection was lost."""
        return self._error(f"{text}; {ADVICE[-1][1]}")

    def _error(self, text: str) -> TemporaryError:
        return TemporaryError(ErrorKind.STORE, f"state in {self._address.place}: {text}")

    def _refused(self, text: str) -> RefusedError:
        return RefusedError(ErrorKind.STORE, f"state in {self._address.place}: {text}")


def pairs(flat: Sequence[Any]) -> list[tuple[Any, Any]]:
    """Members and scores, as the client's versions answer them: one after the other, or in pairs."""
    if flat and isinstance(flat[0], tuple | list):
        return [(member, score) for member, score in flat]
    return list(zip(flat[::2], flat[1::2], strict=True))


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """No more at once than a command, or Lua's unpack, takes well."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
