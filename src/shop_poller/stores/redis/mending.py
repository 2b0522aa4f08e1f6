"""Rebuilds the order of the outbox from its rows, in small steps. Replays may add rows meanwhile.

There are three phases:

- `rows`: every row gets its name in `lines`, its place in `age`, and its lane.
- `lines`: the first row of each line becomes its head, and due; the others do not.
- `strays`: entries of `heads`, `due` and `age` without a row are deleted.

Each step touches a bounded number of rows and may be repeated. The position is stored in Redis: the next
leader resumes there. A damaged row is corrected or removed before it gets its place.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from shop_poller.clock import ms
from shop_poller.core.model import Delivery
from shop_poller.core.translatable import Text
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, RefusedError, chunks
from shop_poller.stores.redis.keys import Keys, split_lanes

ROWS, LINES, STRAYS = "rows", "lines", "strays"
PHASES = frozenset({ROWS, LINES, STRAYS})
OnDamaged = Callable[[str, str, list[str]], Awaitable[Delivery | None]]


class Mending:
    """One repair, or the rest of one that another process began.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
        now: replaces times that cannot be read.
        on_damaged: gets the number, the text and the problems of each damaged row. It corrects and returns
            the row, or removes it.
    """

    def __init__(
        self, connection: RedisConnection, keys: Keys, *, now: datetime, on_damaged: OnDamaged
    ) -> None:
        self._connection = connection
        self._keys = keys
        self._now = now
        self._on_damaged = on_damaged

    async def begin_anew(self) -> None:
        """Request a repair from the first row on, even if no part is missing."""
        await self._write([["DEL", 1], ["HSET", 1, "phase", ROWS, "must", "1"]])

    async def is_wanted(self) -> bool:
        """Return whether a repair was requested even if no part is missing."""
        return bool(await self._connection.read("HEXISTS", self._keys.mending, "must"))

    async def forget(self) -> None:
        """Delete the stored position of an earlier repair, if there is one."""
        if await self._connection.read("EXISTS", self._keys.mending):
            await self._write([["DEL", 1]])

    async def finish(self) -> None:
        """Rebuild the order from the stored position on.

        Raises:
            TemporaryError: STORE, or the lease was lost; the next leader resumes.
        """
        phase, server, position, line, heads = await self._progress()
        if phase == ROWS or (phase == LINES and heads < 0):
            # A scan can only resume on the server that began it, and only if that was not restarted.
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

    async def _progress(self) -> tuple[str, str, str, str, int]:
        """Return where to resume: phase, server, position, line, and the count of heads (-1: unknown)."""
        fields = ("phase", "server", "position", "line", "heads")
        phase, *others, heads = await self._connection.read("HMGET", self._keys.mending, *fields)
        server, position, line = (text or "" for text in others)
        if phase not in PHASES:  # the repair has not begun, or the phase is damaged
            return ROWS, "", "", "", -1
        return phase, server, position, line, int(heads) if codec.is_id(heads or "") else -1

    async def _rows(self, position: int, server: str) -> None:
        while True:
            position, some = await self._connection.read("HSCAN", self._keys.outbox, position, "COUNT", CHUNK)
            # HSCAN returns a compact hash as a whole, whatever COUNT is.
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
        """Return those fields of `outbox` that are rows. Damaged ones are corrected."""
        rows: list[Delivery] = []
        for field, text in fields.items():
            if not codec.is_meant_as_row(field):
                continue
            row, problems = codec.delivery(field, text, "0 0", self._now)
            if problems or row is None or str(row.seq) != field:
                row = await self._on_damaged(
                    field, text, problems or [Text("its number is not in our format")]
                )
            if row is not None:
                rows.append(replace(row, body=""))  # not needed here
        return rows

    async def _drop_names_out_of_order(self) -> None:
        """Delete the names with a score other than 0. Only names of equal scores sort by name.

        The names of rows just got the score 0.
        """
        for low, high in (("-inf", "(0"), ("(0", "+inf")):
            part = ("ZRANGEBYSCORE", self._keys.lines, low, high, "LIMIT", 0, CHUNK)
            while names := await self._connection.read(*part):
                await self._write([["ZREM", 2, *names]], [self._keys.lines])

    def _placed(self, rows: Sequence[Delivery]) -> tuple[list[str], list[list[str | int]]]:
        """Return the keys and commands that give rows their names and places.

        The numbers of the keys follow that of `mending`.
        """
        keys: list[str] = []
        parts: dict[tuple[str, str], list[str | int]] = {}  # (command, key) to arguments
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
        """Return shop and sink of each lane."""
        return split_lanes(await self._connection.read("SMEMBERS", self._keys.lanes))

    async def _has_strays(self) -> bool:
        """Return whether the index may have entries without a row.

        It is True, too, if the number of heads changed since they were counted.
        """
        lanes = await self._lanes()
        *_, counted = await self._progress()
        heads = await self._connection.read("HLEN", self._keys.heads)
        due = {self._keys.due(sink) for _, sink in lanes}
        n_due = sum([await self._connection.read("ZCARD", key) for key in due])
        age = {self._keys.age(shop, sink) for shop, sink in lanes}
        n_age = sum([await self._connection.read("ZCARD", key) for key in age])
        rows = await self._connection.read("ZCARD", self._keys.lines)
        return not (heads == n_due == counted and n_age == rows)

    async def _strays(self, position: str) -> None:
        """Delete the strays. `position` is the key of the last finished sorted set."""
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
        """Return the id of this run of the server; "" if it is unknown, as with a Cluster."""
        try:
            info: dict[str, Any] = await self._connection.read("INFO", "server")
        except RefusedError:
            return ""
        return str(info.get("run_id", ""))
