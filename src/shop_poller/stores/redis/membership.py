"""The replicas that share the shops of a fleet: which replicas are alive, and which leases are taken."""

import math
from collections.abc import Sequence

import anyio
from redis.asyncio.cluster import RedisCluster

from shop_poller.config.redis_address import RedisAddress
from shop_poller.core.errors import TemporaryError
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection, chunks
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.stored import LATEST_MS

STAY_S = 6.0
"""A replica that does not report for this long is gone. This is shorter than the term of its leases, so that
the others are ready when these expire."""

REPORT_S = 60.0
"""Reports are kept for this long after any replica wrote one. A report is renewed after a third of that."""
MOST_GONE = 100
"""Most reports of dead replicas that are deleted at a time."""

AT_ONCE = 16
"""How many leases are read concurrently on a Cluster, one by one: half of the readers of the pool."""


class RedisMembership:
    """One replica's view of all replicas. For the methods see ports.Membership.

    Args:
        address: the address, for messages.
        connection_pool: the pool of connections to Redis.
        prefix: the prefix of the keys of all shops.
        name: the name of this replica.
    """

    def __init__(
        self, address: RedisAddress, connection_pool: ConnectionPool, *, prefix: str, name: str
    ) -> None:
        self._connection = RedisConnection(address, connection_pool, shared=True)
        self._connection_pool = connection_pool
        self._key = f"{prefix}replicas"
        self._name = name
        self._reports = f"{prefix}replicas:unreached"
        self._reported: tuple[list[str], float] = ([], -math.inf)

    async def reports(self, unreached: Sequence[str], there: Sequence[str]) -> dict[str, frozenset[str]]:
        """Report the shops that this replica cannot reach, and read the reports of the others."""
        found: dict[str, str] = dict(await self._connection.read("HGETALL", self._reports))
        last, at = self._reported
        now = anyio.current_time()
        is_old = bool(unreached) and now - at >= REPORT_S / 3
        if list(unreached) != last or is_old:
            gone = sorted(found.keys() - {*there, self._name})[:MOST_GONE]
            report = "\n".join(unreached)
            await self._connection.unfenced(
                "reach", [self._reports], [self._name, report, _ms(REPORT_S), *gone]
            )
            self._reported = list(unreached), now
        found[self._name] = "\n".join(unreached)
        return {name: frozenset(filter(None, found.get(name, "").split("\n"))) for name in there}

    async def stay(self) -> list[str]:
        """Report this replica as alive, and return the names of all replicas that are."""
        args: list[str | int] = ["stay", self._name, _ms(STAY_S), LATEST_MS]
        there: list[str] = await self._connection.keep("membership", [self._key], args)
        return there

    async def leave(self) -> None:
        """Report that this replica leaves."""
        await self._connection.unfenced("membership", [self._key], ["leave", self._name, 0])

    async def leased(self, prefixes: Sequence[str]) -> list[bool]:
        """Return for each shop whether its lease is taken."""
        leases = [Keys(prefix, "").lease for prefix in prefixes]
        found: list[bool] = []
        for some in chunks(leases):
            found += [owner is not None for owner in await self._owners(some)]
        return found

    async def _owners(self, leases: Sequence[str]) -> list[str | None]:
        if isinstance(self._connection_pool.client, RedisCluster):  # each shop has its own slot
            return await self._one_by_one(leases)
        owners: list[str | None] = await self._connection.read("MGET", *leases)
        return owners

    async def _one_by_one(self, leases: Sequence[str]) -> list[str | None]:
        """Read the leases concurrently: if it took longer than `STAY_S`, this replica would count as gone."""
        owners: list[str | None] = [None] * len(leases)
        left, failures = iter(range(len(leases))), list[TemporaryError]()

        async def read() -> None:
            try:
                for number in left:
                    owners[number] = await self._connection.read("GET", leases[number])
            except TemporaryError as error:  # raised outside of the task group, which would wrap it
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
