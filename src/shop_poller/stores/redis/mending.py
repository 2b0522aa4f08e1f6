"""The outbox's order made anew from its rows, beside those who put something back into it meanwhile."""

import json
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

from shop_poller.clock import ms
from shop_poller.core.model import Delivery
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import Connection, chunks
from shop_poller.stores.redis.keys import Keys

Command = list[str | int]


class Mending:
    """One try.

    Args:
        connection: to the server.
        keys: where what stands.
        lanes: shop and sink of each that is known; there may be more.
    """

    def __init__(self, connection: Connection, keys: Keys, lanes: Sequence[tuple[str, str]]) -> None:
        self._connection = connection
        self._keys = keys
        self._lanes = set(lanes)

    async def done(self) -> bool:
        """Make it anew, piece by piece.

        Returns:
            False if something was put into the outbox meanwhile: then it is to be done all over again.

        Raises:
            TemporaryError: STORE, or the lease was lost; whoever has it next sees that it is not whole.
        """
        seq = await self._connection.read("HGET", self._keys.outbox, "seq") or ""
        # A row may be found twice by a scan.
        rows = {number: row async for number, row in self._rows()}
        heads = {number: head async for number, head in self._connection.fields(self._keys.heads)}
        self._lanes |= {(row.shop_id, row.sink) for row in rows.values()}
        due = await self._due()
        where = [self._keys.lines, self._keys.heads, self._keys.lanes]
        for shop, sink in sorted(self._lanes):
            where += [self._keys.due(sink), self._keys.age(shop, sink)]
        ordered = [rows[number] for number in sorted(rows)]
        for some in chunks(self._commands(ordered, heads, due, {key: n for n, key in enumerate(where, 1)})):
            text = json.dumps(some, ensure_ascii=False)
            keys = [self._keys.lease, self._keys.outbox, *where]
            if not await self._connection.fenced("mend", keys, [seq, text]):
                return False
        return True

    def _commands(
        self, rows: Sequence[Delivery], heads: dict[str, str], due: dict[str, int], number: dict[str, int]
    ) -> list[Command]:
        """What makes the order; heads that are still known keep their age, their attempts and their turn."""
        lanes = self._keys.lanes
        # `lanes` stays: of those with dead letters only nothing else tells.
        commands: list[Command] = [["DEL", n] for key, n in number.items() if key != lanes]
        lines: set[str] = set()
        for row in rows:
            line, seq, made_at = codec.line(row), str(row.seq), ms(row.created_at)
            commands.append(["SADD", number[lanes], codec.lane(row.shop_id, row.sink)])
            commands.append(["ZADD", number[self._keys.lines], 0, line + codec.name_in_line(row)])
            commands.append(["ZADD", number[self._keys.age(row.shop_id, row.sink)], made_at, seq])
            if line not in lines:
                lines.add(line)
                commands.append(["HSET", number[self._keys.heads], seq, heads.get(seq, f"{made_at} 0")])
                commands.append(["ZADD", number[self._keys.due(row.sink)], due.get(seq, made_at), seq])
        return commands

    async def _rows(self) -> AsyncGenerator[tuple[int, Delivery]]:
        async for field, text in self._connection.fields(self._keys.outbox):
            if field.isdigit():
                yield int(field), replace(codec.delivery(field, text, "0 0"), body="")  # not needed here

    async def _due(self) -> dict[str, int]:
        due: dict[str, int] = {}
        for sink in {sink for _, sink in self._lanes}:
            flat = await self._connection.read("ZRANGE", self._keys.due(sink), 0, -1, "WITHSCORES")
            due |= {seq: int(at) for seq, at in zip(flat[::2], flat[1::2], strict=True)}
        return due
