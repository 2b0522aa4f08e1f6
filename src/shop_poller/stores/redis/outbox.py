"""The outbox's rows, from the commit that makes them (scripts/commit.lua) to the ack or the burial.

A row is its line's head when it is the oldest undelivered one of its shop, sink and key; only heads are due,
which is what keeps an order's events in order.
"""

import json
from collections.abc import Sequence
from datetime import datetime

import anyio
import structlog

from shop_poller.clock import instant, ms
from shop_poller.core.model import Delivery
from shop_poller.ports import Ack, Bury, Fate, Outcome, Retry, Settled, SinkStats, Trace
from shop_poller.stores.bounds import BURY_LIMIT, MAX_SETTLED, PRUNE_LIMIT, WAITED_TOO_LONG
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import Connection, chunks
from shop_poller.stores.redis.keys import LANE, Keys
from shop_poller.stores.redis.mending import Mending


class Outbox:
    """The outbox under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
    """

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._claimed: dict[str, set[int]] = {}  # by sink
        self._turn = anyio.Lock()  # two claims at once would take the same

    def forget(self) -> None:
        """All claims are void."""
        self._claimed.clear()

    async def claim(self, sink: str, now: datetime, limit: int) -> list[Delivery]:
        """Take due heads that nobody has."""
        keys = [self._keys.lease, self._keys.outbox, self._keys.heads, self._keys.due(sink)]
        async with self._turn:
            claimed = self._claimed.setdefault(sink, set())
            found = await self._connection.fenced("claim", keys, [ms(now), limit, *claimed])
            rows = zip(found[::3], found[1::3], found[2::3], strict=True)
            deliveries = [codec.delivery(seq, row, head) for seq, row, head in rows]
            claimed.update(delivery.seq for delivery in deliveries)
        return deliveries

    async def settle(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record what became of claimed rows."""
        lanes: dict[tuple[str, str], int] = {}
        settled = []
        for outcome in outcomes:
            delivery = outcome.delivery
            lane = lanes.setdefault((delivery.shop_id, delivery.sink), len(lanes) + 1)
            what: tuple[str, str | int, int, str]
            match outcome:
                case Ack():
                    what = ("ack", codec.settled_text(delivery, now), 0, delivery.body)
                case Bury():
                    what = ("bury", codec.settled_text(delivery, now, reason=outcome.reason), 0, "")
                case Retry():
                    what = ("retry", ms(outcome.at), int(outcome.charged), "")
                case _:  # released: nothing happened to it
                    continue
            verb, detail, charge, body = what
            settled.append(
                [
                    verb, lane, str(delivery.seq), codec.line(delivery), codec.name_in_line(delivery),
                    detail, charge, delivery.event_id, body,
                ]
            )  # fmt: skip
        if settled:
            settled.sort(key=lambda one: one[0] == "retry")  # what makes room goes first
            keys = [self._keys.lease, self._keys.outbox, self._keys.lines, self._keys.heads]
            keys += [self._keys.dead_letters, self._keys.delivered, self._keys.texts]
            for shop_id, sink in lanes:
                keys += [self._keys.due(sink), self._keys.age(shop_id, sink)]
                keys += [self._keys.dead(shop_id, sink), self._keys.made(shop_id, sink)]
            args: list[str | int] = [ms(now), json.dumps(settled, ensure_ascii=False)]
            await self._connection.fenced("settle", keys, args)
        for outcome in outcomes:
            self._claimed.get(outcome.delivery.sink, set()).discard(outcome.delivery.seq)

    async def wake(self, sink: str) -> None:
        """Make parked rows due, in the order in which they were made."""
        due = await self._connection.read("ZRANGE", self._keys.due(sink), 0, -1)
        made: dict[str, int] = {}
        for some in chunks(due):
            for seq, row in zip(some, await self._rows(some), strict=True):
                if row is not None:
                    made[seq] = json.loads(row)["created_at"]
        commands = [
            ["ZADD", 1, "LT", "XX", *(part for seq in some for part in (made[seq], seq))]
            for some in chunks(list(made))
        ]
        if commands:
            keys = [self._keys.lease, self._keys.due(sink)]
            await self._connection.fenced("apply", keys, [json.dumps(commands)])

    async def next_due(self, sink: str) -> datetime | None:
        """When the next head that nobody has is due."""
        claimed = self._claimed.get(sink, set())
        heads = await self._first(self._keys.due(sink), len(claimed) + 1)
        return next((due_at for seq, due_at in heads if seq not in claimed), None)

    async def bury_expired(self, sink: str, head_before: datetime, now: datetime) -> int:
        """Bury heads that nobody has and that became such before an instant."""
        claimed, before = self._claimed.get(sink, set()), ms(head_before)
        due = await self._connection.read("ZRANGE", self._keys.due(sink), 0, -1)
        expired: list[Delivery] = []
        for some in chunks([seq for seq in due if int(seq) not in claimed]):
            heads = await self._connection.read("HMGET", self._keys.heads, *some)
            old = [
                (seq, head)
                for seq, head in zip(some, heads, strict=True)
                if head and int(head.partition(" ")[0]) <= before
            ]
            rows = await self._rows([seq for seq, _ in old])
            expired += [
                codec.delivery(seq, row, head) for (seq, head), row in zip(old, rows, strict=True) if row
            ]
            if len(expired) >= BURY_LIMIT:
                break
        expired = sorted(expired, key=lambda delivery: delivery.seq)[:BURY_LIMIT]
        await self.settle([Bury(delivery, WAITED_TOO_LONG) for delivery in expired], now)
        return len(expired)

    async def stats(self, shop_id: str) -> dict[str, SinkStats]:
        """Count what waits and what lies dead, by sink."""
        found: dict[str, SinkStats] = {}
        for shop, sink in await self.lanes():
            if shop != shop_id:
                continue
            age, dead = self._keys.age(shop, sink), self._keys.dead(shop, sink)
            oldest = await self._first(age, 1)
            counted = SinkStats(
                waiting=await self._connection.read("ZCARD", age),
                oldest_at=oldest[0][1] if oldest else None,
                dead=await self._connection.read("ZCARD", dead),
            )
            if counted != SinkStats():
                found[sink] = counted
        return found

    async def settled(
        self, shop_id: str, *, dead: bool, limit: int, only: str | None, after: datetime | None
    ) -> list[Settled]:
        """What was delivered or given up, the latest first."""
        first = "-inf" if after is None else f"({ms(after)}"
        found: list[Settled] = []
        where = self._keys.dead_letters if dead else self._keys.delivered
        for shop, sink in await self.lanes():
            if shop == shop_id and only in {None, sink}:
                ages = self._keys.dead(shop, sink) if dead else self._keys.made(shop, sink)
                seqs = await self._connection.read(
                    "ZRANGE", ages, "+inf", first, "BYSCORE", "REV", "LIMIT", 0, limit
                )
                for some in chunks(seqs):
                    texts = await self._connection.read("HMGET", where, *some)
                    found += [codec.settled(seq, text) for seq, text in zip(some, texts, strict=True) if text]
        return sorted(found, key=lambda one: (one.at, one.seq), reverse=True)[:limit]

    async def traces(self, shop_id: str, keys: frozenset[str]) -> list[Trace]:
        """What is remembered of the deliveries of these keys, in the order in which they were made."""
        found: dict[int, Trace] = {}
        for shop, sink in await self.lanes():
            if shop == shop_id:
                for key in keys:
                    line = f"{codec.lane(shop, sink)}{LANE}{key}{LANE}"
                    ends = (f"[{line}", f"({line}:")  # between them begin digits, and nothing else
                    names = await self._connection.read("ZRANGEBYLEX", self._keys.lines, *ends)
                    seqs = [str(int(name.removeprefix(line).partition(LANE)[0])) for name in names]
                    for seq, row in zip(seqs, await self._rows(seqs), strict=True):
                        if row is not None:
                            found[int(seq)] = codec.trace(row, Fate.WAITING)
        for where, fate in ((self._keys.delivered, Fate.DELIVERED), (self._keys.dead_letters, Fate.DEAD)):
            async for seq, text in self._connection.fields(where):
                kept = json.loads(text)
                if kept["shop"] == shop_id and kept["key"] in keys:
                    found[int(seq)] = codec.trace(text, fate)
        return [found[seq] for seq in sorted(found)]

    async def prune(self, shop_id: str, settled_before: datetime) -> int:
        """Drop old or too many deliveries that are over, a bounded number."""
        dropped = 0
        for shop, sink in await self.lanes():
            if shop == shop_id:
                dropped += await self._prune(
                    [self._keys.dead_letters], self._keys.dead(shop, sink), settled_before
                )
                dropped += await self._prune(
                    [self._keys.delivered, self._keys.texts], self._keys.made(shop, sink), settled_before
                )
        return dropped

    async def _prune(self, hashes: Sequence[str], ages: str, before: datetime) -> int:
        old = await self._connection.read(
            "ZRANGEBYSCORE", ages, "-inf", f"({ms(before)}", "LIMIT", 0, PRUNE_LIMIT
        )
        excess = await self._connection.read("ZCARD", ages) - MAX_SETTLED
        if not old and excess > 0:
            old = await self._connection.read("ZRANGE", ages, 0, min(excess, PRUNE_LIMIT) - 1)
        if old:
            keys = [self._keys.lease, ages, *hashes]
            commands = [["ZREM", 1, *old], *(["HDEL", n, *old] for n in range(2, len(keys)))]
            await self._connection.fenced("apply", keys, [json.dumps(commands)])
        return len(old)

    async def mend(self) -> None:
        """Make what leads to the deliveries anew where part of it is gone (evicted)."""
        if await self._is_whole():
            return
        structlog.get_logger().error("part of the outbox is gone; making its order anew")
        while not await Mending(self._connection, self._keys, await self.lanes()).done():
            pass  # others put something back meanwhile: they do so a bounded number of times

    async def _is_whole(self) -> bool:
        lanes = await self.lanes()
        due = [self._keys.due(sink) for sink in sorted({sink for _, sink in lanes})]
        keys = [self._keys.outbox, self._keys.lines, self._keys.heads, *due]
        keys += [self._keys.age(shop, sink) for shop, sink in lanes]
        return bool(await self._connection.unfenced("whole", keys, [len(due)]))

    async def _first(self, key: str, count: int) -> list[tuple[int, datetime]]:
        """The first few of a sorted set, and the instants that they are sorted by."""
        flat = await self._connection.read("ZRANGE", key, 0, count - 1, "WITHSCORES")
        return [(int(seq), instant(int(at))) for seq, at in zip(flat[::2], flat[1::2], strict=True)]

    async def _rows(self, seqs: Sequence[str]) -> list[str | None]:
        if not seqs:
            return []
        rows: list[str | None] = await self._connection.read("HMGET", self._keys.outbox, *seqs)
        return rows

    async def lanes(self) -> list[tuple[str, str]]:
        """Shop and sink of every lane, in a settled order."""
        lanes = await self._connection.read("SMEMBERS", self._keys.lanes)
        return [(shop, sink) for shop, _, sink in (lane.partition(LANE) for lane in sorted(lanes))]
