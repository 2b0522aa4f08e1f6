"""What leads to the deliveries of the outbox: whether it fits them, and its repair."""

import json
from datetime import datetime

import structlog

from shop_poller.clock import ms
from shop_poller.core.model import Delivery
from shop_poller.stores import stored
from shop_poller.stores.bounds import PRUNE_LIMIT
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import RedisConnection, chunks, pairs
from shop_poller.stores.redis.keys import Keys, split_lanes
from shop_poller.stores.redis.mending import Mending
from shop_poller.stores.redis.outbox_rows import COUNTED, OutboxRows

TRIES = 2
"""To put the outbox in order: one that continues where another version began may not be enough."""


class OutboxOrder:
    """The lanes, lines, heads and due times of the outbox under one prefix.

    Args:
        connection: to the server.
        keys: the names of the keys.
        aside: finds keys of the wrong type.
        rows: corrects damaged rows.

    Attributes:
        must_mend: it was found to be wrong, though none of it is gone.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside, rows: OutboxRows) -> None:
        self.must_mend = False
        self._connection = connection
        self._keys = keys
        self._aside = aside
        self._rows = rows

    async def lanes(self) -> list[tuple[str, str]]:
        """Shop and sink of every lane, in a settled order."""
        return split_lanes(sorted(await self._connection.read("SMEMBERS", self._keys.lanes)))

    async def lane_types(self) -> dict[str, str]:
        """The type of the keys that each lane has; {} if their list itself is of the wrong type."""
        if not self._connection.has_wrong_type or await self._aside.wrong_keys({self._keys.lanes: "set"}):
            return {}
        return {key: "zset" for shop, sink in await self.lanes() for key in self._keys.lane(shop, sink)}

    async def earliest(self, key: str, count: int) -> list[tuple[str, datetime]]:
        """The first few numbers of a sorted set, and the instants that they are sorted by."""
        found = pairs(await self._connection.read("ZRANGE", key, 0, count - 1, "WITHSCORES"))
        return [(str(seq), codec.instant_of(at)) for seq, at in found]

    async def mend(self, now: datetime) -> None:
        """Rebuild what leads to the deliveries, if part of it was evicted."""
        await self._mend_counter()
        await self.mend_due(now)

        async def put_right(seq: str, row: str, problems: list[str]) -> Delivery | None:
            return await self._rows.corrected(seq, row, None, problems, now, in_line=False)

        mending = Mending(self._connection, self._keys, now=now, on_damaged=put_right)
        if self.must_mend:
            await mending.begin_anew()
            self.must_mend = False
        if not await mending.is_wanted() and await self.is_whole():
            await mending.forget()  # another version finished what was begun
            return
        log = structlog.get_logger()
        log.error("part of the outbox is gone or wrong; making its order anew, which may take a while")
        for _ in range(TRIES):
            await mending.finish()
            await self._count_others()
            if await self.is_whole():
                log.info("the outbox is in order again")
                return
        log.error("part of the outbox cannot be put in order; what can be read of it is delivered")

    async def is_sound(self) -> bool:
        """Whether each delivery is where what leads to it says; changes nothing, needs no lease."""
        if not await self._has_all(len(await self._others())):
            return False
        named: set[int] = set()
        async for some in self._connection.scan("ZSCAN", self._keys.lines):
            for name, _ in pairs(some):
                seq = codec.from_line(name).get("seq", "")
                if not COUNTED.fullmatch(seq.lstrip("0")) or int(seq) in named:
                    return False
                named.add(int(seq))
        rows: set[int] = set()
        async for seq, _ in self._connection.fields(self._keys.outbox):
            if codec.is_meant_as_row(seq):
                if not COUNTED.fullmatch(seq):
                    return False
                rows.add(int(seq))
        heads = {seq async for seq, _ in self._connection.fields(self._keys.heads)}
        due: set[str] = set()
        for sink in {sink for _, sink in await self.lanes()}:
            async for some in self._connection.scan("ZSCAN", self._keys.due(sink)):
                due |= {seq for seq, _ in pairs(some)}
        return named == rows and heads == due and heads <= {str(seq) for seq in rows}

    async def put_right(self, now: datetime) -> None:
        """Correct each row or set it aside; then rebuild their order if it is wrong."""
        async for some in self._connection.scan("HSCAN", self._keys.outbox):
            for seqs in chunks([seq for seq in some if COUNTED.fullmatch(seq)]):
                heads = await self._connection.read("HMGET", self._keys.heads, *seqs)
                for seq, head in zip(seqs, heads, strict=True):
                    await self._rows.deliverable(seq, some[seq], head, now)
        self.must_mend = not await self.is_sound()
        await self.mend(now)

    async def is_whole(self) -> bool:
        """Whether all that leads to the deliveries is there, by counts."""
        if await self._has_all():
            return True
        # An earlier version may have written here, which does not count its fields.
        await self._count_others()
        return await self._has_all()

    async def mend_due(self, now: datetime) -> None:
        """Make deliveries with an impossible due time due now, a bounded number at a time."""
        for sink in sorted({sink for _, sink in await self.lanes()}):
            key = self._keys.due(sink)
            late = await self._connection.read(
                "ZRANGEBYSCORE", key, f"({ms(stored.LATEST)}", "+inf", "LIMIT", 0, PRUNE_LIMIT
            )
            commands = [["ZADD", 1, "XX", ms(now), seq] for seq in late]
            if commands:
                keys = [self._keys.lease, key]
                await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])

    async def _mend_counter(self) -> None:
        """Set the counter anew if it is damaged, or behind: it would repeat numbers."""
        counter = await self._connection.read("HGET", self._keys.outbox, "seq")
        least = 0
        for shop, sink in await self.lanes():
            for key in (
                self._keys.age(shop, sink),
                self._keys.delivered_by_age(shop, sink),
                self._keys.dead(shop, sink),
            ):
                latest = await self._connection.read("ZRANGE", key, 0, 0, "REV")
                least = max([least, *(int(seq) for seq in latest if COUNTED.fullmatch(seq))])
        if counter is None and not least:
            return
        if counter is None or not COUNTED.fullmatch(counter) or int(counter) < least:
            structlog.get_logger().error("the counter of deliveries is damaged and is set anew")
            async for seq, _ in self._connection.fields(self._keys.outbox):
                least = max(least, int(seq)) if COUNTED.fullmatch(seq) else least
            command = ["HSET", 1, "seq", str(least)]
            keys = [self._keys.lease, self._keys.outbox]
            await self._connection.fenced("apply", keys, [json.dumps([command], ensure_ascii=False)])

    async def _has_all(self, others: int | None = None) -> bool:
        """Whether all that leads to the deliveries is there, by counts.

        Args:
            others: how many fields of `outbox` are no rows, if not what is kept there.
        """
        lanes = await self.lanes()
        due = [self._keys.due(sink) for sink in sorted({sink for _, sink in lanes})]
        keys = [self._keys.outbox, self._keys.lines, self._keys.heads, *due]
        keys += [self._keys.age(shop, sink) for shop, sink in lanes]
        args: list[str | int] = [len(due), "" if others is None else others]
        return bool(await self._connection.unfenced("whole", keys, args) == 1)

    async def _others(self) -> set[str]:
        """The fields of `outbox` that are no rows; only the leader makes any."""
        others: set[str] = set()
        async for some in self._connection.scan("HSCAN", self._keys.outbox, "MATCH", "[^0-9]*"):
            others.update(some)
        return others

    async def _count_others(self) -> None:
        """Count those fields of `outbox` that are no rows."""
        others = {"seq", "others", *await self._others()}
        commands: list[list[str | int]] = [["HINCRBY", 1, "seq", 0], ["HSET", 1, "others", len(others)]]
        keys = [self._keys.lease, self._keys.outbox]
        await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])
