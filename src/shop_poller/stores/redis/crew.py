"""The replicas that share the shops of a fleet: who is there, and whose lease is whose."""

from collections.abc import Sequence

from redis.asyncio.cluster import RedisCluster

from shop_poller.core.redis_address import RedisAddress
from shop_poller.stores.redis.connection import Connection, Line, chunks
from shop_poller.stores.redis.keys import Keys

STAY_S = 6.0
"""A replica that says nothing for so long is gone; sooner than its leases: others are ready then."""


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
            owners = [await self._connection.read("GET", lease) for lease in leases]
        else:
            owners = await self._connection.read("MGET", *leases)
        return owners


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
