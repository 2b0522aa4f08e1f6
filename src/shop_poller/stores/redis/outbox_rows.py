"""Reads rows of the outbox as deliveries. A damaged row is corrected, or set aside."""

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
"""A number of a delivery. Lua does not represent larger numbers exactly."""


class OutboxRows:
    """The rows of the outbox under one prefix.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
        aside: keeps copies of damaged rows.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside) -> None:
        self._connection = connection
        self._keys = keys
        self._aside = aside

    async def read(self, seqs: Sequence[str]) -> list[str | None]:
        """Read rows by number; None for each that does not exist."""
        if not seqs:
            return []
        rows: list[str | None] = await self._connection.read("HMGET", self._keys.outbox, *seqs)
        return rows

    async def deliverable(self, seq: str, row: str, head: str | None, now: datetime) -> Delivery | None:
        """Return a row as a delivery. A damaged row is corrected, or set aside (None).

        The name in the line also identifies the delivery. So little more than the body must be intact in the
        row.
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
        """Correct a damaged row from its name in its line, or set it aside (None).

        Args:
            seq: the number of the row.
            row: the row as it was read.
            head: its head as it was read; None if the row is not the first of its line.
            problems: what is wrong with it.
            now: replaces times that cannot be read.
            in_line: whether a row without a name in a line is set aside. If False, the row's own values are
                used.
        """
        kept = codec.record(row)
        name = await self._name_in_lines(seq, kept)
        place = codec.from_line(name)
        since, _, attempts = (head or f"{ms(now)} 0").partition(" ")
        body = codec.record(kept.get("body"))
        named: dict[str, object] = {"shop_id": kept.get("shop"), **place}
        named |= {"head_since": since, "attempts": attempts}
        named.setdefault("event_type", kept.get("event_type") or body.get("event_type", ""))
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
            seq: the number of the row.
            row: the row as it was read.
            name: its name in its line; "" if it has none.
            problems: what is wrong with it.
            now: the date of the copy.
        """
        place = codec.from_line(name)
        kept = codec.record(row)
        shop = place.get("shop_id") or stored.Reading().text(kept.get("shop"), "shop")
        sink = place.get("sink") or stored.Reading().text(kept.get("sink"), "sink")
        line = f"{codec.lane(shop, sink)}{LANE}{place['key']}{LANE}" if place else ""
        one = Original(shop, "outbox", seq, problems, {"row": row, "line": name})
        self._aside.report(one)
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
        """Return a delivery's name in its line; "" if it is in none.

        The name is looked up at the place that the row gives; if it is not there, by a scan.
        """
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
