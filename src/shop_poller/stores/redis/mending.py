"""The outbox's order made anew from its rows, in small steps, beside those who put something back into it.

    rows      every row gets its name in `lines`, its place in `age`, and its lane
    lines     the first of each line becomes its head, and due; the others are not
    strays    what leads to no row is dropped from `heads`, `due` and `age`

Each step touches a bounded number of rows and may be repeated. How far it is, is kept in Redis: whoever has
the lease next goes on there. A row that is damaged is put right, or taken out, before it is given its place.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from shop_poller.clock import ms
from shop_poller.core.model import Delivery
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, RefusedError, chunks
from shop_poller.stores.redis.keys import Keys, split_lanes

ROWS, LINES, STRAYS = "rows", "lines", "strays"
PHASES = frozenset({ROWS, LINES, STRAYS})
OnDamaged = Callable[[str, str, list[str]], Awaitable[Delivery | None]]


class Mending:
    """One try, or the rest of one that somebody began.

    Args:
        connection: to the server.
        keys: where what stands.
        now: for times that cannot be read.
        on_damaged: is told the number, the text and the problems of each row that is damaged; puts it right
            and gives it back, or takes it out.
    """

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, now: datetime, on_damaged: OnDamaged
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._now = now
        self._on_damaged = on_damaged

    async def begin_anew(self) -> None:
        """Let all be done from the first row on, by whoever goes on, even if every part is there."""
        await self._write([["DEL", 1], ["HSET", 1, "phase", ROWS, "must", "1"]])

    async def is_wanted(self) -> bool:
        """Whether it is to be done though every part is there."""
        return bool(await self._connection.read("HEXISTS", self._keys.mending, "must"))

    async def forget(self) -> None:
        """Drop what is left of an earlier try, if anything is."""
        if await self._connection.read("EXISTS", self._keys.mending):
            await self._write([["DEL", 1]])

    async def finish(self) -> None:
        """Make the order anew, from where it was left.

        Raises:
            TemporaryError: STORE, or the lease was lost; whoever has it next goes on.
        """
        phase, server, position, line, heads = await self._place()
        if phase == ROWS or (phase == LINES and heads < 0):
            # A scan can be gone on with on the server that began it, as long as that was not started anew.
            here = await self._server()
            at = int(position) if phase == ROWS and here and here == server and codec.is_id(position) else 0
            await self._rows(at, here)
            phase, position, line = LINES, "", ""
        if phase == LINES:
            await self._lines(position, line)
            if not await self._has_strays():
                await self._write([["DEL", 1]])
                return
            await self._write([["HSET", 1, "phase", STRAYS, "position", "", "line", ""]])
            position = ""
        await self._strays(position)
        await self._write([["DEL", 1]])

    async def _place(self) -> tuple[str, str, str, str, int]:
        """Where it goes on: phase, server, position, line, and how many heads were counted (-1: unknown)."""
        fields = ("phase", "server", "position", "line", "heads")
        phase, *others, heads = await self._connection.read("HMGET", self._keys.mending, *fields)
        server, position, line = (text or "" for text in others)
        if phase not in PHASES:  # it has not begun, or that is damaged
            return ROWS, "", "", "", -1
        return phase, server, position, line, int(heads) if codec.is_id(heads or "") else -1

    async def _rows(self, position: int, server: str) -> None:
        while True:
            position, some = await self._connection.read("HSCAN", self._keys.outbox, position, "COUNT", CHUNK)
            # A hash that is kept compact is answered whole, however many were asked for.
            *others, rows = chunks(await self._read(some)) or [[]]
            for part in others:
                keys, commands = self._placed(part)
                await self._write(commands, keys)
            begin = ["phase", ROWS, "server", server, "position", str(position)]
            after = begin if position else ["phase", LINES, "position", "", "line", "", "heads", "0"]
            keys, commands = self._placed(rows)
            if not position:
                await self._write(commands, keys)
                await self._drop_names_out_of_order()
                keys, commands = [], []
            await self._write([*commands, ["HSET", 1, *after]], keys)
            if not position:
                return

    async def _read(self, fields: Mapping[str, str]) -> list[Delivery]:
        """Those fields of `outbox` that are rows, put right where they are damaged."""
        rows: list[Delivery] = []
        for field, text in fields.items():
            if not codec.is_meant_as_row(field):
                continue
            row, problems = codec.delivery(field, text, "0 0", self._now)
            if problems or row is None or str(row.seq) != field:
                row = await self._on_damaged(
                    field, text, problems or ["its number is not written as ours are"]
                )
            if row is not None:
                rows.append(replace(row, body=""))  # not needed here
        return rows

    async def _drop_names_out_of_order(self) -> None:
        """All names have the same score, or they would not be in order; those of rows were just given it."""
        for low, high in (("-inf", "(0"), ("(0", "+inf")):
            part = ("ZRANGEBYSCORE", self._keys.lines, low, high, "LIMIT", 0, CHUNK)
            while names := await self._connection.read(*part):
                await self._write([["ZREM", 2, *names]], [self._keys.lines])

    def _placed(self, rows: Sequence[Delivery]) -> tuple[list[str], list[list[str | int]]]:
        """What gives rows their names and places; the numbers of the keys begin behind that of `mending`."""
        keys: list[str] = []
        parts: dict[tuple[str, str], list[str | int]] = {}  # command and key to its arguments
        for row in rows:
            made_at = ms(row.created_at)
            places: list[tuple[str, str, list[str | int]]] = [
                ("SADD", self._keys.lanes, [codec.lane(row.shop_id, row.sink)]),
                ("ZADD", self._keys.lines, ["0", codec.line(row) + codec.name_in_line(row)]),
                ("ZADD", self._keys.age(row.shop_id, row.sink), [made_at, str(row.seq)]),
            ]
            for name, key, arguments in places:
                parts.setdefault((name, key), []).extend(arguments)
        commands: list[list[str | int]] = []
        for (name, key), arguments in parts.items():
            keys.append(key)
            commands.append([name, len(keys) + 1, *arguments])
        return keys, commands

    async def _lines(self, position: str, line: str) -> None:
        lanes = await self._connection.read("SMEMBERS", self._keys.lanes)
        keys = [self._keys.lease, self._keys.outbox, self._keys.lines, self._keys.heads, self._keys.mending]
        keys += [self._keys.due(sink) for _, sink in split_lanes(lanes)]
        while await self._connection.fenced("mend", keys, [position, line, CHUNK, *lanes]) == CHUNK:
            position, line = await self._connection.read("HMGET", self._keys.mending, "position", "line")

    async def _lanes(self) -> list[tuple[str, str]]:
        """Shop and sink of each."""
        return split_lanes(await self._connection.read("SMEMBERS", self._keys.lanes))

    async def _has_strays(self) -> bool:
        """Whether more leads to rows than there are; or got there since heads were counted."""
        lanes = await self._lanes()
        *_, counted = await self._place()
        heads = await self._connection.read("HLEN", self._keys.heads)
        due = {self._keys.due(sink) for _, sink in lanes}
        n_due = sum([await self._connection.read("ZCARD", key) for key in due])
        age = {self._keys.age(shop, sink) for shop, sink in lanes}
        n_age = sum([await self._connection.read("ZCARD", key) for key in age])
        rows = await self._connection.read("ZCARD", self._keys.lines)
        return not (heads == n_due == counted and n_age == rows)

    async def _strays(self, position: str) -> None:
        """Position: the set that was done last."""
        lanes = await self._lanes()
        sets = {self._keys.due(sink): ("due", "", sink) for _, sink in lanes}
        sets |= {self._keys.age(shop, sink): ("age", shop, sink) for shop, sink in lanes}
        heads = self._keys.heads
        async for some in self._connection.scan("HSCAN", heads):
            for numbers in chunks(list(some)):
                await self._drop_strays(heads, ("heads", "", ""), numbers)
        for key in sorted(sets):
            if position < key:
                at = 0
                while some := await self._connection.read("ZRANGE", key, at, at + CHUNK - 1):
                    at += await self._drop_strays(key, sets[key], some)
                await self._write([["HSET", 1, "position", key]])

    async def _drop_strays(self, key: str, what: tuple[str, str, str], numbers: Sequence[str]) -> int:
        keys = [self._keys.lease, self._keys.outbox, self._keys.heads, key]
        return int(await self._connection.fenced("stray", keys, [*what, *numbers])) if numbers else 0

    async def _write(self, commands: Sequence[Sequence[str | int]], keys: Sequence[str] = ()) -> None:
        where = [self._keys.lease, self._keys.mending, *keys]
        await self._connection.fenced("apply", where, [json.dumps(commands, ensure_ascii=False)])

    async def _server(self) -> str:
        """Names a run of the server; "" if it cannot be told, as of a Cluster."""
        try:
            info: dict[str, Any] = await self._connection.read("INFO", "server")
        except RefusedError:
            return ""
        return str(info.get("run_id", ""))
