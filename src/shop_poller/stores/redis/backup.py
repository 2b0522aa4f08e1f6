"""Writes the keys of one shop to a file and restores them: serialized values, and times to live.

Export is one script, so that the keys match each other. Import first writes every value under a temporary
name, which expires, and the server checks the value. Then one script, which compares the lease's nonce,
renames them all. Names in the file have no prefix, because the prefix may differ when the file is read.
"""

import base64
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, BinaryIO, cast

from shop_poller.config.redis_address import RedisAddress
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.client import make_client
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection, RefusedError, state_in
from shop_poller.stores.redis.keys import PER_LANE, Keys, split_lanes

LAYOUT = 1
"""The version of the layout of the keys. It grows when an older shop-poller could not read them."""
STAGED = "restoring:"
STAGED_MS = 3_600_000
"""The temporary keys of a killed restore expire after this time."""
PATIENCE_S = 300.0
"""The longest time for one value, which may have hundreds of megabytes."""
TRIES = 5
Lanes = frozenset[tuple[str, str]]


class StateKeys:
    """Copies or replaces the keys of one shop as a whole.

    Args:
        address: the address of the server, or servers.
        prefix: the prefix of the shop's keys.
        shop: the id of the shop.

    Attributes:
        store: the state as the daemon sees it; it takes the lease.
    """

    def __init__(self, address: RedisAddress, *, prefix: str, shop: str) -> None:
        self._connection = RedisConnection(address, ConnectionPool(make_client(address, binary=True)))
        self._connection.patience_s = PATIENCE_S
        self._address, self._shop = address, shop
        self._keys = Keys(prefix, shop)
        self.store = RedisStore(address, prefix=prefix, first_shop=shop)

    async def export(self, to: BinaryIO) -> bool:
        """Write the state of this moment to a file. Needs no lease.

        Returns:
            False if there is no state.

        Raises:
            TemporaryError, PermanentError: STORE.
            OSError: the file cannot be written.
        """
        if await self.store.load(self._shop) is None:  # raises if the keys are another shop's
            return False
        for _ in range(TRIES):
            lanes = await self._lanes()
            names = self._names(lanes)
            keys = [self._keys.lanes, *(f"{self._keys.prefix}{name}" for name in names)]
            lanes_now, *found = await self._run("dump", keys, [])
            if _lanes(lanes_now) != lanes:  # a sink got its first delivery meanwhile
                continue
            for name, value, ttl_ms in zip(names, found[::2], found[1::2], strict=True):
                if value is not None:
                    text = base64.b64encode(value).decode()
                    to.write(json.dumps({"key": name, "ttl_ms": ttl_ms, "dump": text}).encode() + b"\n")
            return True
        raise TemporaryError(ErrorKind.STORE, state_in(self._address, Text("it keeps changing; try again")))

    async def stage(self, source: BinaryIO, show: Callable[[int], None]) -> dict[str, int]:
        """Write the values of a file under temporary names.

        Args:
            source: the file.
            show: is called with the number of bytes read.

        Returns:
            The time to live (ms) of each key, by its name.

        Raises:
            PermanentError: STORE, the file is not what `export` wrote, or the server cannot read it.
            TemporaryError: STORE.
        """
        found: dict[str, int] = {}
        for line in source:
            name, ttl_ms, value = _entry(line)
            staged = f"{self._keys.prefix}{STAGED}{name}"
            try:
                await self._run("stage", [staged], [STAGED_MS, cast("str", value)])
            except RefusedError as error:
                raise PermanentError(
                    ErrorKind.STORE,
                    Text("{problem} (the key {name}); nothing was changed", problem=error.text, name=name),
                ) from error
            found[name] = ttl_ms
            show(len(line))
        owner = await self._connection.read("HGET", f"{self._keys.prefix}{STAGED}state", "shop")
        if owner is None or owner.decode() != self._shop:
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "the backup is of {owner}, not of {shop}; nothing was changed",
                    owner=owner.decode() if owner else Text("no shop"),
                    shop=self._shop,
                ),
            )
        return found

    async def swap(self, found: dict[str, int]) -> None:
        """Replace the state by the staged values, if the lease is ours.

        Args:
            found: the result of `stage`.

        Raises:
            TemporaryError: STORE; RefusedError if nothing was changed.
        """
        names = sorted({*self._names(await self._lanes()), *found})
        keys = [self._keys.lease]
        for name in names:
            keys += [f"{self._keys.prefix}{name}", f"{self._keys.prefix}{STAGED}{name}"]
        args = [str(found[name]) if name in found else "" for name in names]
        await self._run("swap", keys, [self.store.nonce, *args])

    async def aclose(self) -> None:
        """Close the connections."""
        await self.store.aclose()
        await self._connection.aclose()

    async def _run(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        try:
            return await self._connection.unfenced(script, keys, args)
        except RefusedError as error:
            if "permission" in str(error):
                raise PermanentError(
                    ErrorKind.STORE,
                    Text("{problem}; backup and restore need more rights: docs/redis.md", problem=error.text),
                ) from error
            raise

    async def _lanes(self) -> Lanes:
        return _lanes(await self._connection.read("SMEMBERS", self._keys.lanes))

    def _names(self, lanes: Lanes) -> list[str]:
        return [key.removeprefix(self._keys.prefix) for key in self._keys.all(sorted(lanes))]


def _lanes(members: Iterable[bytes]) -> Lanes:
    return frozenset(split_lanes(member.decode() for member in members))


def _entry(line: bytes) -> tuple[str, int, bytes]:
    """Return the name, the time to live (ms) and the value of the key in a line of the file."""
    try:
        entry: dict[str, Any] = json.loads(line)
        name, ttl_ms = str(entry["key"]), int(entry["ttl_ms"])
        value = base64.b64decode(entry["dump"], validate=True)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise PermanentError(
            ErrorKind.STORE, Text("the backup has a line that is no key; nothing was changed")
        ) from error
    fixed = [key.removeprefix("\0") for key in Keys("\0", "").all([])]
    if name not in fixed and not name.startswith(PER_LANE):
        raise PermanentError(
            ErrorKind.STORE,
            Text("the backup has a key that is none of ours: {name!r}; nothing was changed", name=name[:80]),
        )
    return name, ttl_ms, value
