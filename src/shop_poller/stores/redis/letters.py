"""Deliveries that are over, looked at and moved beside whoever has the lease: no lease is needed."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from shop_poller.clock import HOUR_MS, ms
from shop_poller.ports import DeadLetter, Made, Settled
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import Connection, chunks
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.outbox import Outbox


class Letters:
    """Deliveries that are over, under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
        outbox: knows the lanes.
    """

    def __init__(self, connection: Connection, keys: Keys, outbox: Outbox) -> None:
        self._connection = connection
        self._keys = keys
        self._outbox = outbox

    async def by_the_hour(self, shop_id: str, dead: bool, before: datetime, hours: int) -> list[int]:  # noqa: FBT001 - as the store has it
        """How many were delivered or given up in each hour; counted by the server, nothing is read."""
        counts = [0] * hours
        start = ms(before) - hours * HOUR_MS
        for shop, sink in await self._outbox.lanes():
            if shop == shop_id:
                ages = self._keys.dead(shop, sink) if dead else self._keys.made(shop, sink)
                for hour in range(hours):
                    first = start + hour * HOUR_MS
                    counts[hour] += await self._connection.read("ZCOUNT", ages, first, f"({first + HOUR_MS}")
        return counts

    async def dead_ids(
        self, shop_id: str, *, sink: str | None, since: datetime | None, before: datetime | None
    ) -> list[int]:
        """The dead letters' seqs, in the order of their events."""
        first = "-inf" if since is None else str(ms(since))
        last = "+inf" if before is None else f"({ms(before)}"
        found: list[Settled] = []
        for shop, name in await self._outbox.lanes():
            if shop == shop_id and sink in {None, name}:
                ages = self._keys.dead(shop, name)
                seqs = await self._connection.read("ZRANGEBYSCORE", ages, first, last)
                found += await self._settled(self._keys.dead_letters, seqs)
        return [one.seq for one in sorted(found, key=lambda one: one.place)]

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter."""
        found = await self._read(self._keys.dead_letters, shop_id, [seq])
        return codec.dead_letter(*found[0]) if found else None

    async def made(self, shop_id: str, since: datetime, before: datetime) -> list[Made]:
        """What was delivered within a time, in the order of its events."""
        kept = set(await self._connection.read("HKEYS", self._keys.texts))
        found: list[Made] = []
        for shop, sink in await self._outbox.lanes():
            if shop == shop_id:
                ages = self._keys.made(shop, sink)
                seqs = await self._connection.read("ZRANGEBYSCORE", ages, ms(since), f"({ms(before)}")
                over = await self._settled(self._keys.delivered, seqs)
                found += [Made(one, str(one.seq) in kept) for one in over]
        return sorted(found, key=lambda made: made.over.place)

    async def replay(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back behind what waits."""
        return await self._move(shop_id, await self._letters(shop_id, seqs), now, dead=True, again=True)

    async def drop(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Forget dead letters."""
        return await self._move(shop_id, await self._letters(shop_id, seqs), now, dead=True, again=False)

    async def resend(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back behind what waits."""
        found = await self._read(self._keys.delivered, shop_id, seqs)
        numbers = [seq for seq, _ in found]
        bodies = await self._connection.read("HMGET", self._keys.texts, *numbers) if found else []
        kept = [(seq, text, body) for (seq, text), body in zip(found, bodies, strict=True) if body]
        return await self._move(shop_id, kept, now, dead=False, again=True)

    async def _move(
        self, shop_id: str, found: Sequence[tuple[str, str, str]], now: datetime, *, dead: bool, again: bool
    ) -> int:
        """Move deliveries, each of which is seq, text as it was read, and body."""
        lanes: dict[str, int] = {}
        moves: list[list[str | int]] = []
        read = [(codec.settled(seq, text), text, body) for seq, text, body in found]
        for over, text, body in sorted(read, key=lambda one: one[0].place):
            lane = lanes.setdefault(over.sink, len(lanes) + 1)
            row = codec.row_again(shop_id, over, body, now) if again else ""
            moves.append([str(over.seq), lane, text, over.key, over.event_id, row])
        if not moves:
            return 0
        keys = [
            self._keys.shop(shop_id).state, self._keys.outbox, self._keys.lines, self._keys.heads,
            self._keys.lanes, self._keys.dead_letters if dead else self._keys.delivered, self._keys.texts,
        ]  # fmt: skip
        ages = self._keys.dead if dead else self._keys.made
        for sink in lanes:
            keys += [self._keys.due(sink), self._keys.age(shop_id, sink), ages(shop_id, sink)]
        what = {"shop": shop_id, "lanes": [codec.lane(shop_id, sink) for sink in lanes], "moves": moves}
        return int(await self._connection.fenced("letters", keys, [ms(now), json.dumps(what)]))

    async def _settled(self, where: str, seqs: Sequence[str]) -> list[Settled]:
        """Those of these that are there."""
        found: list[Settled] = []
        for some in chunks(seqs):
            texts = await self._connection.read("HMGET", where, *some)
            found += [codec.settled(seq, text) for seq, text in zip(some, texts, strict=True) if text]
        return found

    async def _letters(self, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str, str]]:
        """Seq, text and body of the dead letters that are there and this shop's, ascending."""
        found = await self._read(self._keys.dead_letters, shop_id, seqs)
        return [(seq, text, json.loads(text)["body"]) for seq, text in found]

    async def _read(self, where: str, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str]]:
        """Seq and text of those that are there and this shop's, ascending."""
        wanted = [str(seq) for seq in sorted(set(seqs))]
        texts = await self._connection.read("HMGET", where, *wanted) if wanted else []
        found = [(seq, text) for seq, text in zip(wanted, texts, strict=True) if text]
        return [(seq, text) for seq, text in found if json.loads(text)["shop"] == shop_id]
