"""The counts and the damaged rows that people see."""

from shop_poller.ports import RowSetAside, SinkStats, Stats
from shop_poller.stores.redis.port import RedisPort


class RedisStatistics(RedisPort):
    """The part of ports.StateView that no other port has."""

    async def stats(self, shop_id: str) -> Stats:
        """Count on the server."""
        keys = self._keys.shop(shop_id)
        return Stats(
            known=await self._connection.read("HLEN", keys.known_orders),
            set_aside=await self._connection.read("HLEN", keys.set_aside),
            sinks=await self._sinks(shop_id),
            rows_set_aside=await self._aside.count(),
        )

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:  # noqa: ARG002 - a prefix has one shop
        """Read the copies of damaged rows."""
        return await self._aside.rows()

    async def _sinks(self, shop_id: str) -> dict[str, SinkStats]:
        """Count waiting deliveries and dead letters, by sink."""
        found: dict[str, SinkStats] = {}
        for shop, sink in await self._order.lanes():
            if shop != shop_id:
                continue
            age, dead = self._keys.age(shop, sink), self._keys.dead(shop, sink)
            oldest = await self._order.earliest(age, 1)
            counted = SinkStats(
                waiting=await self._connection.read("ZCARD", age),
                oldest_at=oldest[0][1] if oldest else None,
                dead=await self._connection.read("ZCARD", dead),
            )
            if counted != SinkStats():
                found[sink] = counted
        return found
