"""The state in Redis 6.2 or later, or in Valkey. Several replicas may share it; one of them may write.

Every write that needs the lease is a Lua script that compares the lease's nonce first. So a process that lost
the lease, and has not noticed it yet, changes nothing. Claims are kept in memory: if a process dies, its
claims are void at once. docs/redis.md lists the keys and describes what happens when Redis fails.
"""

from collections.abc import Callable

from shop_poller.config.redis_address import RedisAddress
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.stores.redis import server
from shop_poller.stores.redis.alerts import RedisAlertState
from shop_poller.stores.redis.client import Client, make_client
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection, state_in
from shop_poller.stores.redis.dead_letters import RedisDeadLetters
from shop_poller.stores.redis.history import RedisDeliveryHistory
from shop_poller.stores.redis.inspection import RedisInspection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.lease import person
from shop_poller.stores.redis.orders import RedisOrderState
from shop_poller.stores.redis.outbox import RedisOutbox
from shop_poller.stores.redis.retention import RedisRetention
from shop_poller.stores.redis.statistics import RedisStatistics


class RedisStore(
    RedisInspection,
    RedisOrderState,
    RedisRetention,
    RedisOutbox,
    RedisDeliveryHistory,
    RedisDeadLetters,
    RedisAlertState,
    RedisStatistics,
):
    """All ports over the keys under one prefix: a ports.Store.

    Args:
        address: the server, or servers.
        prefix: the prefix of every key.
        first_shop: the shop whose keys have the names of the earlier design.
        make: makes the client. Tests pass their own.
        connection_pool: shared by the stores of several shops; None for connections of its own.
    """

    def __init__(
        self,
        address: RedisAddress,
        *,
        prefix: str,
        first_shop: str,
        make: Callable[[RedisAddress], Client] = make_client,
        connection_pool: ConnectionPool | None = None,
    ) -> None:
        pool = connection_pool or ConnectionPool(make(address))
        super().__init__(
            RedisConnection(address, pool, shared=connection_pool is not None), Keys(prefix, first_shop)
        )
        self._address = address

    async def check(self) -> str:
        """Check whether the server can be used. Changes nothing.

        Returns:
            One line about the server and the leader.

        Raises:
            TemporaryError, PermanentError: STORE, with the fix.
        """
        owner = await self._lease("look")  # also shows that the user may run scripts on our keys
        info = await self._connection.read("INFO")
        if "redis_version" not in info:  # a Cluster returns one answer per node
            info = next(iter(info.values()))
        problem = server.problem(info)
        if problem:
            raise PermanentError(ErrorKind.STORE, state_in(self._address, problem))
        if not owner:
            return Text("answers ({server}), led by nobody now", server=server.describe(info))
        return Text("answers ({server}), led by {owner}", server=server.describe(info), owner=person(owner))

    async def aclose(self) -> None:
        """Release the lease and close the connections. Never raises."""
        if self._connection.closed:
            return
        try:
            if self._connection.nonce:
                await self.release()
        except TemporaryError:
            pass  # it expires
        finally:
            await self._connection.aclose()
