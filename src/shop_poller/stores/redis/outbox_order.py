"""The index keys of the outbox (lanes, lines, heads, due times): checks and repairs them."""

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
"""How often a repair of the order is tried. A repair that another version began may need a second one."""


class OutboxOrder:
    """The lanes, lines, heads and due times of the outbox under one prefix.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
        aside: finds keys of the wrong type.
        rows: corrects damaged rows.

    Attributes:
        must_mend: whether the index was found to be wrong although no part of it is missing.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside, rows: OutboxRows) -> None:
        self.must_mend = False
        self._connection = connection
        self._keys = keys
        self._aside = aside
        self._rows = rows

    async def lanes(self) -> list[tuple[str, str]]:
        """Return shop and sink of every lane, in a fixed order."""
        return split_lanes(sorted(await self._connection.read("SMEMBERS", self._keys.lanes)))

    async def lane_types(self) -> dict[str, str]:
        """Return the types of the keys of all lanes; {} if the list of lanes itself has the wrong type."""
        if not self._connection.has_wrong_type or await self._aside.wrong_keys({self._keys.lanes: "set"}):
            return {}
        return {key: "zset" for shop, sink in await self.lanes() for key in self._keys.lane(shop, sink)}

    async def earliest(self, key: str, count: int) -> list[tuple[str, datetime]]:
        """Return the first numbers of a sorted set, and the instants of their scores."""
        found = pairs(await self._connection.read("ZRANGE", key, 0, count - 1, "WITHSCORES"))
        return [(str(seq), codec.instant_of(at)) for seq, at in found]

    async def mend(self, now: datetime) -> None:
        """Rebuild the index of the deliveries if part of it was evicted."""
        await self._mend_counter()
        await self.mend_due(now)

        async def repair_row(seq: str, row: str, problems: list[str]) -> Delivery | None:
            return await self._rows.corrected(seq, row, None, problems, now, in_line=False)

        mending = Mending(self._connection, self._keys, now=now, on_damaged=repair_row)
        if self.must_mend:
            await mending.begin_anew()
            self.must_mend = False
        if not await mending.is_wanted() and await self.is_whole():
            await mending.forget()  # another version completed the repair
            return
        log = structlog.get_logger()
        log.error("part of the outbox is missing or wrong; rebuilding its order, which may take a while")
        for _ in range(TRIES):
            await mending.finish()
            await self._count_others()
            if await self.is_whole():
                log.info("the order of the outbox is rebuilt")
                return
        log.error("part of the outbox cannot be repaired; the readable rows are delivered")

    async def is_sound(self) -> bool:
        """Return whether the index matches the deliveries. Changes nothing, needs no lease."""
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

    async def repair(self, now: datetime) -> None:
        """Correct each damaged row or set it aside; then rebuild the order if it is wrong."""
        async for some in self._connection.scan("HSCAN", self._keys.outbox):
            for seqs in chunks([seq for seq in some if COUNTED.fullmatch(seq)]):
                heads = await self._connection.read("HMGET", self._keys.heads, *seqs)
                for seq, head in zip(seqs, heads, strict=True):
                    await self._rows.deliverable(seq, some[seq], head, now)
        self.must_mend = not await self.is_sound()
        await self.mend(now)

    async def is_whole(self) -> bool:
        """Return whether the whole index is there, by counts."""
        if await self._has_all():
            return True
        # An earlier version, which does not count the fields that are not rows, may have written here.
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
        """Reset the counter if it is damaged, or too low: it would give numbers twice."""
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
            structlog.get_logger().error("the counter of deliveries is damaged and is reset")
            async for seq, _ in self._connection.fields(self._keys.outbox):
                least = max(least, int(seq)) if COUNTED.fullmatch(seq) else least
            command = ["HSET", 1, "seq", str(least)]
            keys = [self._keys.lease, self._keys.outbox]
            await self._connection.fenced("apply", keys, [json.dumps([command], ensure_ascii=False)])

    async def _has_all(self, others: int | None = None) -> bool:
        """Return whether the whole index is there, by counts.

        Args:
            others: how many fields of `outbox` are not rows; None for the stored count.
        """
        lanes = await self.lanes()
        due = [self._keys.due(sink) for sink in sorted({sink for _, sink in lanes})]
        keys = [self._keys.outbox, self._keys.lines, self._keys.heads, *due]
        keys += [self._keys.age(shop, sink) for shop, sink in lanes]
        args: list[str | int] = [len(due), "" if others is None else others]
        return bool(await self._connection.unfenced("whole", keys, args) == 1)

    async def _others(self) -> set[str]:
        """Return the fields of `outbox` that are not rows. Only the leader creates such fields."""
        others: set[str] = set()
        async for some in self._connection.scan("HSCAN", self._keys.outbox, "MATCH", "[^0-9]*"):
            others.update(some)
        return others

    async def _count_others(self) -> None:
        """Store how many fields of `outbox` are not rows."""
        others = {"seq", "others", *await self._others()}
        commands: list[list[str | int]] = [["HINCRBY", 1, "seq", 0], ["HSET", 1, "others", len(others)]]
        keys = [self._keys.lease, self._keys.outbox]
        await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])
