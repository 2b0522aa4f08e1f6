"""Rows of the outbox as deliveries; a damaged one is corrected, or set aside."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from shop_poller.clock import ms, to_milliseconds
from shop_poller.core.model import Delivery
from shop_poller.stores import stored
from shop_poller.stores.damage import Original
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import RedisConnection, pairs
from shop_poller.stores.redis.keys import LANE, Keys

COUNTED = re.compile(r"[0-9]{1,15}", re.ASCII)
"""A number of a delivery: Lua knows no larger ones exactly."""


class OutboxRows:
    """The rows of the outbox under one prefix.

    Args:
        connection: to the server.
        keys: the names of the keys.
        aside: keeps copies of damaged rows.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside) -> None:
        self._connection = connection
        self._keys = keys
        self._aside = aside

    async def read(self, seqs: Sequence[str]) -> list[str | None]:
        """Rows by their numbers; None for each that is not there."""
        if not seqs:
            return []
        rows: list[str | None] = await self._connection.read("HMGET", self._keys.outbox, *seqs)
        return rows

    async def deliverable(self, seq: str, row: str, head: str | None, now: datetime) -> Delivery | None:
        """A row as a delivery; a damaged one is corrected, or set aside (None).

        What names a delivery stands in its line too, so its row is needed for little more than its text.
        """
        now = min(now, to_milliseconds(datetime.now(UTC)))
        delivery, problems = codec.delivery(seq, row, head or f"{ms(now)} 0", now)
        return await self.corrected(seq, row, head, problems, now) if problems else delivery

    async def corrected(
        self,
        seq: str,
        row: str,
        head: str | None,
        problems: list[str],
        now: datetime,
        *,
        in_line: bool = True,
    ) -> Delivery | None:
        """A damaged row, corrected by its name in its line; or set aside (None).

        Args:
            seq: its number.
            row: as it was read.
            head: likewise; None if it is not the first of its line.
            problems: what is wrong with it.
            now: for times that cannot be read.
            in_line: one that is in no line is set aside; else what it says itself is taken.
        """
        kept = codec.record(row)
        name = await self._name_in_lines(seq, kept)
        place = codec.from_line(name)
        since, _, attempts = (head or f"{ms(now)} 0").partition(" ")
        told = codec.record(kept.get("body"))
        named: dict[str, object] = {"shop_id": kept.get("shop"), **place}
        named |= {"head_since": since, "attempts": attempts}
        named.setdefault("event_type", kept.get("event_type") or told.get("event_type", ""))
        delivery, _ = stored.delivery(seq, {**kept, **named}, now)
        if delivery is None or str(delivery.seq) != seq or (in_line and not place):
            await self.set_aside(seq, row, name, problems, now)
            return None
        one = Original(delivery.shop_id, "outbox", seq, problems, {"row": row, "head": head})
        await self._aside.note(one, now)
        commands = [["HSET", 1, seq, codec.row_of(delivery)]]
        if head is not None:
            commands.append(["HSET", 2, seq, f"{ms(delivery.head_since)} {delivery.attempts}"])
        keys = [self._keys.lease, self._keys.outbox, self._keys.heads]
        await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])
        return delivery

    async def set_aside(self, seq: str, row: str, name: str, problems: list[str], now: datetime) -> None:
        """Remove a row that cannot be delivered, and keep a copy.

        Args:
            seq: its number.
            row: as it was read.
            name: its name in its line; "" if it has none.
            problems: what is wrong with it.
            now: since when it is set aside.
        """
        place = codec.from_line(name)
        kept = codec.record(row)
        shop = place.get("shop_id") or stored.Reading().text(kept.get("shop"), "shop")
        sink = place.get("sink") or stored.Reading().text(kept.get("sink"), "sink")
        line = f"{codec.lane(shop, sink)}{LANE}{place['key']}{LANE}" if place else ""
        one = Original(shop, "outbox", seq, problems, {"row": row, "line": name})
        self._aside.tell(one)
        keys = [
            self._keys.lease, self._keys.outbox, self._keys.lines, self._keys.heads,
            self._keys.rows_set_aside, self._keys.due(sink), self._keys.age(shop, sink),
        ]  # fmt: skip
        args: list[str | int] = [
            ms(now),
            seq,
            row,
            name,
            line,
            self._aside.field(one),
            self._aside.copy(one, now),
        ]
        await self._connection.fenced("aside", keys, args)

    async def _name_in_lines(self, seq: str, kept: Mapping[str, object]) -> str:
        """A delivery's name in its line: where its row says, or found by a scan; "" if it is in none."""
        if not COUNTED.fullmatch(seq):
            return ""
        number, lines = f"{int(seq):016d}", self._keys.lines
        parts = [kept.get(part) for part in ("shop", "sink", "key")]
        if all(isinstance(part, str) and stored.is_clean(part) for part in parts):
            begin = LANE.join([*map(str, parts), number, ""])
            some = await self._connection.read("ZRANGEBYLEX", lines, f"[{begin}", "+", "LIMIT", 0, 1)
            if some and str(some[0]).startswith(begin) and codec.from_line(some[0]):
                return str(some[0])
        async for some in self._connection.scan("ZSCAN", lines, "MATCH", f"*{LANE}{number}{LANE}*"):
            for name, _ in pairs(some):
                if codec.from_line(name).get("seq") == number:
                    return str(name)
        return ""
