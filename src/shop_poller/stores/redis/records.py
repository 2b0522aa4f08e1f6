"""Adopts, indexes or deletes all records of a shop, in small steps, since there may be a million."""

import json
import secrets
from collections.abc import AsyncGenerator, Sequence
from datetime import datetime

import structlog

from shop_poller.clock import ms
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, chunks
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.statuses import CLOSED

WIPED = "gone:"
"""The revision of a state that is being deleted begins with this."""


class Records:
    """Operations on all records of a shop. Each step touches a bounded number and may be repeated.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
    """

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys

    async def adopt(self, shop_id: str, now: datetime) -> bool:
        """Adopt the records of the earlier design: they are kept as long as ours, counted from now.

        The earlier design may have run again for a while, and it sets EXPIRE. Records without a known age are
        adopted too: their age was evicted, or an earlier adoption was interrupted.

        Returns:
            Whether there were any.
        """
        keys = self._keys.shop(shop_id)
        orders = await self._connection.read("HLEN", keys.known_orders)
        if not orders:
            return False
        if (
            await self._connection.read("EXISTS", keys.state)
            and await self._connection.read("TTL", keys.known_orders) < 0
            and await self._connection.read("ZCARD", keys.known_seen) >= orders
        ):
            return False
        structlog.get_logger().info("adopting the order records of the earlier version", orders=orders)
        where = [keys.known_orders, keys.known_seen, keys.state]
        # Without PERSIST, the EXPIRE of the earlier design would still delete all records. Without their
        # count, the open orders are looked for again if this is interrupted.
        await self._apply(where, [["PERSIST", 1], ["HDEL", 3, "open"]])
        async for some in self._connection.scan("HSCAN", keys.known_orders):
            for ids in chunks(list(some)):
                members = [part for id_ in ids for part in (ms(now), id_)]
                await self._apply(where, [["ZADD", 2, "NX", *members]])
        return True

    async def has_open(self, shop_id: str) -> bool:
        """Return whether all open orders are in `known_open`: none was evicted, and all were found."""
        keys = self._keys.shop(shop_id)
        counted = await self._connection.read("HGET", keys.state, "open")
        return bool(counted == str(await self._connection.read("ZCARD", keys.known_open)))

    async def find_open(self, shop_id: str) -> None:
        """Find the orders that may still change. Where the two hashes disagree, `known_orders` wins."""
        keys = self._keys.shop(shop_id)
        await self._apply([keys.state], [["HDEL", 1, "open"]])
        await self._empty(keys.known_open)
        async for names in self._open_names(shop_id):
            for some in chunks(names):
                members = [part for name in some for part in ("0", name)]
                await self._apply([keys.known_open], [["ZADD", 1, *members]])
        if await self._connection.read("EXISTS", keys.state):  # else the first commit counts them
            found = await self._connection.read("ZCARD", keys.known_open)
            await self._apply([keys.state], [["HSET", 1, "open", found]])

    async def _open_names(self, shop_id: str) -> AsyncGenerator[list[str]]:
        keys = self._keys.shop(shop_id)
        async for some in self._connection.scan("HSCAN", keys.known_orders):
            yield [
                codec.open_name(id_)
                for id_, status in some.items()
                if codec.is_id(id_) and status not in CLOSED
            ]
        async for some in self._connection.scan("HSCAN", keys.known_details):
            for ids in chunks([order_id for order_id in some if codec.is_id(order_id)]):
                plain = await self._connection.read("HMGET", keys.known_orders, *ids)
                lost = [id_ for id_, status in zip(ids, plain, strict=True) if status is None]
                read = [codec.known_order(int(id_), None, some[id_])[0] for id_ in lost]
                yield [codec.open_name(order.id) for order in read if order and order.status not in CLOSED]

    async def wipe(self, shop_id: str) -> None:
        """Delete all that is known of a shop. If this is interrupted, the parts still do not match."""
        keys = self._keys.shop(shop_id)
        # No other part has this revision, and none gets it, until all is gone.
        rev = WIPED + secrets.token_hex(8)
        await self._apply(
            [keys.state], [["HDEL", 1, *sorted(codec.STATE_FIELDS), "open_rev"], ["HSET", 1, "rev", rev]]
        )
        for key in (keys.known_orders, keys.known_details, keys.set_aside):
            async for some in self._connection.scan("HSCAN", key):
                for fields in chunks(list(some)):
                    await self._apply([key], [["HDEL", 1, *fields]])
        for key in (keys.known_seen, keys.known_open):
            await self._empty(key)
        where = [
            keys.state, keys.last_poll_time, keys.known_orders, keys.known_details, keys.known_seen,
            keys.set_aside, keys.known_open, keys.backfill,
        ]  # fmt: skip
        commands: list[list[str | int]] = [["DEL", n] for n in range(1, len(where) + 1)]
        commands.append(["HDEL", len(where) + 1, f"rev:{shop_id}", "others"])
        await self._apply([*where, self._keys.outbox], commands)

    async def _empty(self, key: str) -> None:
        while await self._connection.read("ZCARD", key):
            await self._apply([key], [["ZREMRANGEBYRANK", 1, 0, CHUNK - 1]])

    async def _apply(self, keys: Sequence[str], commands: Sequence[Sequence[str | int]]) -> None:
        text = json.dumps(commands, ensure_ascii=False)  # invalid UTF-8 is sent back as its bytes
        await self._connection.fenced("apply", [self._keys.lease, *keys], [text])
