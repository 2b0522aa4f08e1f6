"""Deliveries that are over, looked at and moved beside whoever has the lease: no lease is needed."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from shop_poller.clock import HOUR_MS, ms
from shop_poller.ports import DeadLetter, DeliveredEntry, FinishedDelivery
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, chunks
from shop_poller.stores.redis.keys import LANE, Keys
from shop_poller.stores.redis.outbox import Outbox
from shop_poller.stores.stored import MOST_BODY, Reading


class DeadLetters:
    """Deliveries that are over, under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
        outbox: knows the lanes.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, outbox: Outbox) -> None:
        self._connection = connection
        self._keys = keys
        self._outbox = outbox

    async def by_the_hour(self, shop_id: str, dead: bool, before: datetime, hours: int) -> list[int]:  # noqa: FBT001 - as the store has it
        """How many were delivered or given up in each hour; counted by the server, nothing is read."""
        counts = [0] * hours
        start = ms(before) - hours * HOUR_MS
        for shop, sink in await self._outbox.lanes():
            if shop == shop_id:
                ages = self._keys.dead(shop, sink) if dead else self._keys.delivered_by_age(shop, sink)
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
        found: list[FinishedDelivery] = []
        for shop, name in await self._outbox.lanes():
            if shop == shop_id and sink in {None, name}:
                ages = self._keys.dead(shop, name)
                async for seqs in self._connection.by_score(ages, first, last):
                    found += await self._finished(self._keys.dead_letters, seqs)
        return [one.seq for one in sorted(found, key=lambda one: one.place)]

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter."""
        found = await self._read(self._keys.dead_letters, shop_id, [seq])
        return codec.dead_letter(*found[0]) if found else None

    async def delivered(self, shop_id: str, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """What was delivered within a time, in the order of its events."""
        found: list[DeliveredEntry] = []
        for shop, sink in await self._outbox.lanes():
            if shop == shop_id:
                ages = self._keys.delivered_by_age(shop, sink)
                async for seqs in self._connection.by_score(ages, ms(since), f"({ms(before)}"):
                    texts = await self._connection.read("HMGET", self._keys.texts, *seqs)
                    kept = {seq for seq, text in zip(seqs, texts, strict=True) if text is not None}
                    over = await self._finished(self._keys.delivered, seqs)
                    found += [DeliveredEntry(one, str(one.seq) in kept) for one in over]
        return sorted(found, key=lambda made: made.over.place)

    async def replay(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back behind what waits."""
        return await self._move(shop_id, await self._dead_letters(shop_id, seqs), now, dead=True, again=True)

    async def drop(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Forget dead letters."""
        return await self._move(shop_id, await self._dead_letters(shop_id, seqs), now, dead=True, again=False)

    async def resend(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back behind what waits."""
        kept: list[tuple[str, str, str]] = []
        for some in chunks(await self._read(self._keys.delivered, shop_id, seqs)):
            bodies = await self._connection.read("HMGET", self._keys.texts, *(seq for seq, _ in some))
            kept += [(seq, text, body) for (seq, text), body in zip(some, bodies, strict=True) if body]
        return await self._move(shop_id, kept, now, dead=False, again=True)

    async def _move(
        self, shop_id: str, found: Sequence[tuple[str, str, str]], now: datetime, *, dead: bool, again: bool
    ) -> int:
        """Move deliveries, each of which is seq, text as it was read, and body."""
        lanes: dict[str, int] = {}
        moves: list[list[str | int]] = []
        read = [
            (over, text, body)
            for seq, text, body in found
            if (over := codec.finished(seq, text, dead=dead)[0]) is not None
            and (not again or Reading().json(body, "body", most=MOST_BODY) is not None)
        ]
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
        ages = self._keys.dead if dead else self._keys.delivered_by_age
        for sink in lanes:
            keys += [self._keys.due(sink), self._keys.age(shop_id, sink), ages(shop_id, sink)]
        what = {
            "shop": shop_id, "lanes": [codec.lane(shop_id, sink) for sink in lanes], "moves": moves,
            "most": CHUNK,
        }  # fmt: skip
        wanted: dict[str, set[str]] = {}
        for over, _, _ in read if again else ():
            place = f"{codec.lane(shop_id, over.sink)}{LANE}{over.key}{LANE}"
            wanted.setdefault(place, set()).add(over.event_id)
        while True:
            lines = [await self._line(place, events) for place, events in wanted.items()]
            args: list[str | int] = [ms(now), json.dumps(what | {"lines": lines})]
            moved = int(await self._connection.fenced("dead_letters", keys, args))
            if moved >= 0:
                return moved

    async def _line(self, place: str, events: set[str]) -> list[str | list[str]]:
        """A line's place, the last name in it, and which of these events wait in it."""
        last, waiting = "", list[str]()
        async for names in self._connection.names(self._keys.lines, f"[{place}", f"({place}:"):
            last = names[-1]
            found = (codec.from_line(name).get("event_id") for name in names)
            waiting += [event_id for event_id in found if event_id in events]
        return [place, last, waiting]

    async def _finished(self, where: str, seqs: Sequence[str]) -> list[FinishedDelivery]:
        """Those of these that are there."""
        found: list[FinishedDelivery] = []
        for some in chunks(seqs):
            texts = await self._connection.read("HMGET", where, *some)
            dead = where == self._keys.dead_letters
            read = [
                codec.finished(seq, text, dead=dead)[0] for seq, text in zip(some, texts, strict=True) if text
            ]
            found += [over for over in read if over is not None]
        return found

    async def _dead_letters(self, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str, str]]:
        """Seq, text and body of the dead letters that are there and this shop's, ascending."""
        found = await self._read(self._keys.dead_letters, shop_id, seqs)
        return [(seq, text, str(codec.record(text).get("body"))) for seq, text in found]

    async def _read(self, where: str, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str]]:
        """Seq and text of those that are there and this shop's, ascending."""
        wanted = [str(seq) for seq in sorted(set(seqs))]
        found: list[tuple[str, str]] = []
        for some in chunks(wanted):
            texts = await self._connection.read("HMGET", where, *some)
            found += [(seq, text) for seq, text in zip(some, texts, strict=True) if text]
        return [(seq, text) for seq, text in found if codec.record(text).get("shop") == shop_id]
