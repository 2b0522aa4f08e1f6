"""The replicas that share the shops of a fleet: who is there, and whose lease is whose."""

from collections.abc import Sequence

import anyio
from redis.asyncio.cluster import RedisCluster

from shop_poller.core.errors import TemporaryError
from shop_poller.core.redis_address import RedisAddress
from shop_poller.stores.redis.connection import Connection, Line, chunks
from shop_poller.stores.redis.keys import Keys

STAY_S = 6.0
"""A replica that says nothing for so long is gone; sooner than its leases: others are ready then."""

AT_ONCE = 16
"""Leases that are read at the same time, where each has to be read by itself: half of the line's readers."""


class Crew:
    """One replica's view of all of them. For the methods see ports.Crew.

    Args:
        address: for messages.
        line: to Redis.
        prefix: of the keys of all shops.
        name: of this replica.
    """

    def __init__(self, address: RedisAddress, line: Line, *, prefix: str, name: str) -> None:
        self._connection = Connection(address, line, shared=True)
        self._line = line
        self._key = f"{prefix}replicas"
        self._name = name

    async def stay(self) -> list[str]:
        """Say that we are there, and learn who is."""
        crew: list[str] = await self._connection.keep("crew", [self._key], ["stay", self._name, _ms(STAY_S)])
        return crew

    async def leave(self) -> None:
        """Say that we go."""
        await self._connection.unfenced("crew", [self._key], ["leave", self._name, 0])

    async def leased(self, prefixes: Sequence[str]) -> list[bool]:
        """Whether somebody has the lease of each shop."""
        leases = [Keys(prefix, "").lease for prefix in prefixes]
        found: list[bool] = []
        for some in chunks(leases):
            found += [owner is not None for owner in await self._owners(some)]
        return found

    async def _owners(self, leases: Sequence[str]) -> list[str | None]:
        owners: list[str | None]
        if isinstance(self._line.client, RedisCluster):  # each shop has a slot of its own
            owners = await self._one_by_one(leases)
        else:
            owners = await self._connection.read("MGET", *leases)
        return owners

    async def _one_by_one(self, leases: Sequence[str]) -> list[str | None]:
        """Some at a time: a look that took longer than `STAY_S` would make us gone."""
        owners: list[str | None] = [None] * len(leases)
        left, failures = iter(range(len(leases))), list[TemporaryError]()

        async def read() -> None:
            try:
                for number in left:
                    owners[number] = await self._connection.read("GET", leases[number])
            except TemporaryError as error:  # kept out of the group, which would wrap it
                failures.append(error)
                tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(read)
        for failure in failures:
            raise failure
        return owners


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
