"""Puts finished deliveries back into the outbox, or deletes them, while the daemon runs. Needs no lease."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from shop_poller.clock import ms
from shop_poller.ports import DeadLetter, FinishedDelivery
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, chunks
from shop_poller.stores.redis.history import read_finished
from shop_poller.stores.redis.keys import LANE
from shop_poller.stores.redis.port import RedisPort
from shop_poller.stores.stored import MOST_BODY, Reading


class RedisDeadLetters(RedisPort):
    """Dead letters. For the methods see ports.DeadLetters."""

    async def dead_ids(
        self,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """Return the seqs of the dead letters, in the order of their events."""
        first = "-inf" if since is None else str(ms(since))
        last = "+inf" if before is None else f"({ms(before)}"
        found: list[FinishedDelivery] = []
        for shop, name in await self._order.lanes():
            if shop == shop_id and sink in {None, name}:
                ages = self._keys.dead(shop, name)
                async for seqs in self._connection.by_score(ages, first, last):
                    found += await read_finished(self._connection, self._keys.dead_letters, seqs, dead=True)
        return [one.seq for one in sorted(found, key=lambda one: one.sort_key)]

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """Return one dead letter."""
        found = await self._find(self._keys.dead_letters, shop_id, [seq])
        return codec.dead_letter(*found[0]) if found else None

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Add a row for each dead letter at the end of its line, and delete the dead letter."""
        return await self._move(shop_id, await self._dead_letters(shop_id, seqs), now, dead=True, again=True)

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Delete dead letters."""
        return await self._move(
            shop_id, await self._dead_letters(shop_id, seqs), self.now(), dead=True, again=False
        )

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Add a row for each delivery at the end of its line, and delete the delivery from the history."""
        kept: list[tuple[str, str, str]] = []
        for some in chunks(await self._find(self._keys.delivered, shop_id, seqs)):
            bodies = await self._connection.read("HMGET", self._keys.texts, *(seq for seq, _ in some))
            kept += [(seq, text, body) for (seq, text), body in zip(some, bodies, strict=True) if body]
        return await self._move(shop_id, kept, now, dead=False, again=True)

    async def _move(
        self, shop_id: str, found: Sequence[tuple[str, str, str]], now: datetime, *, dead: bool, again: bool
    ) -> int:
        """Move deliveries. Each one in `found` is its seq, its stored text as it was read, and its body."""
        lanes: dict[str, int] = {}
        moves: list[list[str | int]] = []
        read = [
            (over, text, body)
            for seq, text, body in found
            if (over := codec.finished(seq, text, dead=dead)[0]) is not None
            and (not again or Reading().json(body, "body", most=MOST_BODY) is not None)
        ]
        for over, text, body in sorted(read, key=lambda one: one[0].sort_key):
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
        """Return the place of a line, the last name in it, and those of these events that wait in it."""
        last, waiting = "", list[str]()
        async for names in self._connection.names(self._keys.lines, f"[{place}", f"({place}:"):
            last = names[-1]
            found = (codec.from_line(name).get("event_id") for name in names)
            waiting += [event_id for event_id in found if event_id in events]
        return [place, last, waiting]

    async def _dead_letters(self, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str, str]]:
        """Return seq, text and body of this shop's dead letters among these seqs, ascending."""
        found = await self._find(self._keys.dead_letters, shop_id, seqs)
        return [(seq, text, str(codec.record(text).get("body"))) for seq, text in found]

    async def _find(self, where: str, shop_id: str, seqs: Collection[int]) -> list[tuple[str, str]]:
        """Return seq and text of this shop's deliveries among these seqs, ascending."""
        wanted = [str(seq) for seq in sorted(set(seqs))]
        found: list[tuple[str, str]] = []
        for some in chunks(wanted):
            texts = await self._connection.read("HMGET", where, *some)
            found += [(seq, text) for seq, text in zip(some, texts, strict=True) if text]
        return [(seq, text) for seq, text in found if codec.record(text).get("shop") == shop_id]
