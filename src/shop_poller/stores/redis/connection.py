"""Commands and scripts on their way to the server; what fails is named in one line, with what to do."""

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

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.redis_address import RedisAddress
from shop_poller.stores.redis.client import MAX_CONNECTIONS, Client, close_client
from shop_poller.stores.redis.renewals import Renewals

T = TypeVar("T")
CHUNK = 500
APPEND, APPENDING = "append", {"commit", "letters"}
"""What adds to the outbox begins with the same text, so that it adds in the same way."""
PATIENCE_S = 6.0
"""For all of a command: to connect, to follow a Sentinel or a Cluster, and to be answered."""

HINTS: Sequence[tuple[type[Exception], str]] = (
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


class RefusedError(TemporaryError):
    """The server answered that it did not do it."""


class Line:
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
        # However many ask at once, there are connections left for the leases; and for those that we have
        # there are, however many leases are asked for.
        others, keepers = max(1, connections // 8), max(1, connections // 16)
        self.readers = anyio.Semaphore(connections // 2)
        self.writers = anyio.Semaphore(connections - connections // 2 - others - keepers)
        self.others = anyio.Semaphore(others)
        self.keepers = anyio.Semaphore(keepers)

    async def aclose(self) -> None:
        """Close the connections."""
        with anyio.move_on_after(PATIENCE_S, shield=True):
            await close_client(self.client)


class Connection:
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
    """

    def __init__(self, address: RedisAddress, line: Line, *, shared: bool = False) -> None:
        self.nonce = ""
        self.torn = False
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
            return await self._carry_out(lambda: self._line.client.execute_command(*command))

    async def fields(self, key: str) -> AsyncGenerator[tuple[str, str]]:
        """All of a hash, in parts; a few may come twice. Raises what `read` raises."""
        position = 0
        while True:
            position, some = await self.read("HSCAN", key, position, "COUNT", CHUNK)
            for field in some.items():
                yield field
            if not position:
                return

    async def call(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run one of scripts/*.lua.

        Raises:
            TemporaryError: STORE; whether the script was run is then not known, unless it refused.
        """
        scripts = self._line.scripts
        if script not in scripts:
            folder = resources.files(__package__).joinpath("scripts")
            parts = ([APPEND] if script in APPENDING else []) + [script]
            text = "".join(folder.joinpath(f"{part}.lua").read_text("utf-8") for part in parts)
            scripts[script] = self._line.client.register_script(text)
        prepared = scripts[script]
        return await self._carry_out(lambda: prepared(keys=list(keys), args=list(args)))

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

    async def _carry_out(self, command: Callable[[], Any]) -> Any:
        if self.closed:
            raise self._error("is closed already")
        try:
            with anyio.fail_after(self.patience_s):
                return await cast("Any", command())
        except ResponseError as error:
            code, _, _ = str(error).partition(" ")
            if code == "TORN":
                self.torn = True
                raise self._refused("is not what was left there: emptied, or an older replica?") from error
            if code == "FENCED":
                raise self._refused("another replica has the lease") from error
            raise self._refused(self._text(error)) from error
        except TimeoutError as error:
            raise self._error("it does not answer in time") from error
        except (RedisError, RedisClusterException, OSError) as error:
            raise self._error(self._text(error)) from error

    def _text(self, error: Exception) -> str:
        """What went wrong and what to do, in one line, bounded, without a secret."""
        text = str(error)
        for secret in self._address.secrets:  # a server says a command back that it does not know, AUTH too
            text = text.replace(secret, "***")
        text = " ".join(text.split())[:200].rstrip(".") or type(error).__name__
        hint = next((hint for kind, hint in HINTS if isinstance(error, kind)), "")
        return f"{text}; {hint}" if hint else text

    def _error(self, text: str) -> TemporaryError:
        return TemporaryError(ErrorKind.STORE, f"state in {self._address.place}: {text}")

    def _refused(self, text: str) -> RefusedError:
        return RefusedError(ErrorKind.STORE, f"state in {self._address.place}: {text}")


def chunks(items: Sequence[T]) -> list[Sequence[T]]:
    """No more at once than a command, or Lua's unpack, takes well."""
    return [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
