"""The outbox's rows, from the commit that makes them (scripts/commit.lua) to the ack or the burial.

A row is its line's head when it is the oldest undelivered one of its shop, sink and key; only heads are due,
which is what keeps an order's events in order.
"""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import anyio
import structlog

from shop_poller.clock import MS, ms, to_milliseconds
from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.retry import LONGEST_DELAY
from shop_poller.ports import (
    Ack,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    MoveToDeadLetters,
    Outcome,
    Retry,
    SinkStats,
)
from shop_poller.stores import stored
from shop_poller.stores.bounds import (
    CLAMP_LIMIT,
    EXPIRE_LIMIT,
    MAX_FINISHED,
    PRUNE_LIMIT,
    RELEASE_LIMIT,
    TRIM,
    WAITED_TOO_LONG,
)
from shop_poller.stores.damage import Original
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, chunks, pairs
from shop_poller.stores.redis.keys import LANE, Keys, split_lanes
from shop_poller.stores.redis.mending import Mending

EXPIRE_SCAN = 5000
"""Rows that are looked at when expired ones are looked for."""
TRIES = 2
"""To put the outbox in order: one that goes on where another version began may not be enough."""
MOST_ROUNDS = 100
"""A claim that meets damaged rows only gives up after so many times as many rows as it was asked for."""
COUNTED = re.compile(r"[0-9]{1,15}", re.ASCII)
"""A number of a delivery: Lua knows no larger ones exactly."""


class Outbox:
    """The outbox under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
        aside: keeps copies of damaged rows.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside) -> None:
        self._connection = connection
        self._keys = keys
        self._aside = aside
        self._claimed: dict[str, set[int]] = {}  # by sink
        self._waking: dict[str, int] = {}  # by sink: where a scan of what may be parked goes on
        self._looked_at: dict[str, int] = {}  # by lane: how many of the oldest rows are not expired
        self._must_mend = False
        self._turn = anyio.Lock()  # two claims at once would take the same

    def forget(self) -> None:
        """All claims are void; what was looked at is looked at anew."""
        self._claimed.clear()
        self._waking.clear()
        self._looked_at.clear()

    async def claim(self, sink: str, now: datetime, limit: int) -> list[Delivery]:
        """Take due heads that nobody has; those that cannot be delivered are set aside."""
        keys = [self._keys.lease, self._keys.outbox, self._keys.heads, self._keys.due(sink)]
        deliveries: list[Delivery] = []
        async with self._turn:
            claimed = self._claimed.setdefault(sink, set())
            for _ in range(MOST_ROUNDS):
                args = [ms(now), limit - len(deliveries), ms(now) + LONGEST_DELAY // MS, *claimed]
                found = await self._order_needed("claim", keys, args)
                rows = list(zip(found[::3], found[1::3], found[2::3], strict=True))
                some = [await self._deliverable(seq, row, head, now) for seq, row, head in rows]
                good = [delivery for delivery in some if delivery is not None]
                claimed.update(delivery.seq for delivery in good)
                deliveries += good
                if len(good) == len(rows):
                    break
        return deliveries

    async def _deliverable(self, seq: str, row: str, head: str | None, now: datetime) -> Delivery | None:
        """A row as a delivery; what is wrong with it is put right, or it is set aside and there is None.

        What names a delivery stands in its line too, so its row is needed for little more than its text.
        """
        now = min(now, to_milliseconds(datetime.now(UTC)))
        delivery, problems = codec.delivery(seq, row, head or f"{ms(now)} 0", now)
        return await self._corrected(seq, row, head, problems, now) if problems else delivery

    async def _corrected(
        self,
        seq: str,
        row: str,
        head: str | None,
        problems: list[str],
        now: datetime,
        *,
        in_line: bool = True,
    ) -> Delivery | None:
        """A damaged row, put right by what its line says of it; or set aside, and there is None.

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
        """Take a row out that cannot be delivered, and keep a copy.

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

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record what became of claimed rows."""
        lanes: dict[tuple[str, str], int] = {}
        finished = []
        for outcome in outcomes:
            delivery = outcome.delivery
            lane = lanes.setdefault((delivery.shop_id, delivery.sink), len(lanes) + 1)
            what: tuple[str, str | int, int, str]
            match outcome:
                case Ack():
                    what = ("ack", codec.finished_text(delivery, now), 0, delivery.body)
                case MoveToDeadLetters():
                    what = ("bury", codec.finished_text(delivery, now, reason=outcome.reason), 0, "")
                case Retry():
                    what = ("retry", ms(outcome.at), int(outcome.charged), "")
                case _:  # released: nothing happened to it
                    continue
            verb, detail, charge, body = what
            finished.append(
                [
                    verb, lane, str(delivery.seq), codec.line(delivery), codec.name_in_line(delivery),
                    detail, charge, delivery.event_id, body,
                ]
            )  # fmt: skip
        if finished:
            finished.sort(key=lambda one: one[0] == "retry")  # what makes room goes first
            keys = [self._keys.lease, self._keys.outbox, self._keys.lines, self._keys.heads]
            keys += [self._keys.dead_letters, self._keys.delivered, self._keys.texts]
            for shop_id, sink in lanes:
                keys += [self._keys.due(sink), self._keys.age(shop_id, sink)]
                keys += [self._keys.dead(shop_id, sink), self._keys.delivered_by_age(shop_id, sink)]
            args: list[str | int] = [ms(now), MAX_FINISHED, TRIM, json.dumps(finished, ensure_ascii=False)]
            await self._order_needed("record_outcomes", keys, args)
        for outcome in outcomes:
            self._claimed.get(outcome.delivery.sink, set()).discard(outcome.delivery.seq)

    async def release_parked(self, sink: str) -> bool:
        """Make some parked rows due, each at the time when it was made; whether there may be more."""
        due, keys = self._keys.due(sink), [self._keys.lease, self._keys.due(sink)]
        keys += [self._keys.age(shop, name) for shop, name in await self.lanes() if name == sink]
        for _ in range(RELEASE_LIMIT // CHUNK):
            position, found = await self._connection.read(
                "ZSCAN", due, self._waking.pop(sink, 0), "COUNT", CHUNK
            )
            for some in chunks([seq for seq, _ in pairs(found)]):
                await self._connection.fenced("release_parked", keys, some)
            if not position:
                return False
            self._waking[sink] = position
        return True

    async def clamp_due(self, sink: str, latest: datetime) -> int:
        """Let no head be due later than that, a bounded number at a time."""
        due, at = self._keys.due(sink), ms(latest)
        late = await self._connection.read("ZRANGEBYSCORE", due, f"({at}", "+inf", "LIMIT", 0, CLAMP_LIMIT)
        if late:
            # Only what is still there, and no later than it is due by now.
            command = ["ZADD", 1, "LT", "XX", *(part for seq in late for part in (at, seq))]
            await self._connection.fenced(
                "apply", [self._keys.lease, due], [json.dumps([command], ensure_ascii=False)]
            )
        return len(late)

    async def next_due(self, sink: str) -> datetime | None:
        """When the next head that nobody has is due."""
        claimed = self._claimed.get(sink, set())
        heads = await self._first(self._keys.due(sink), len(claimed) + 1)
        if not heads and not claimed:
            await self._look_for_stuck(sink)
        # What is no number was put there by somebody else: a claim finds that out, and it is mended.
        free = (due for seq, due in heads if not (COUNTED.fullmatch(seq) and int(seq) in claimed))
        return next(free, None)

    async def _look_for_stuck(self, sink: str) -> None:
        """If no row is first of its line, none may wait; else the session ends, and the next mends it."""
        if not self._connection.nonce:
            return
        for shop, name in await self.lanes():
            if name == sink and await self._connection.read("ZCARD", self._keys.age(shop, sink)):
                if not await self._connection.read("EXISTS", self._keys.due(sink)):
                    self._must_mend = self._connection.torn = True
                return

    async def dead_letter_expired(self, sink: str, head_before: datetime, now: datetime) -> int:
        """Bury heads that nobody has and that became such before an instant.

        A head is not older than its row: only rows that old are looked at, the oldest first, `EXPIRE_SCAN` at
        most; the next time it goes on there. Of rows that a clock dated that was ahead nothing can be told by
        their dates: some of them are looked at, too.
        """
        expired: list[Delivery] = []
        left = EXPIRE_SCAN
        for shop, name in await self.lanes():
            if name == sink and left > 0 and len(expired) < EXPIRE_LIMIT:
                age = self._keys.age(shop, sink)
                found, looked = await self._expired(age, sink, head_before, left, now)
                expired += found + await self._expired_ahead(age, sink, head_before, now)
                left -= looked
        expired = sorted(expired, key=lambda delivery: delivery.seq)[:EXPIRE_LIMIT]
        await self.record_outcomes(
            [MoveToDeadLetters(delivery, WAITED_TOO_LONG) for delivery in expired], now
        )
        return len(expired)

    async def _expired(
        self, age: str, sink: str, head_before: datetime, most: int, now: datetime
    ) -> tuple[list[Delivery], int]:
        """Expired heads of a lane, from where it was looked last; and at how many rows it was looked."""
        claimed, expired, looked = self._claimed.get(sink, set()), list[Delivery](), 0
        begin = at = self._looked_at.get(age, 0)
        end: int | None = None  # once it began at the oldest again, it ends where it began
        while looked < most and len(expired) < EXPIRE_LIMIT and (end is None or at < end):
            size = CHUNK if end is None else min(CHUNK, end - at)
            rows = pairs(await self._connection.read("ZRANGE", age, at, at + size - 1, "WITHSCORES"))
            old = [str(seq) for seq, made_at in rows if codec.instant_of(made_at) <= head_before]
            looked += len(old)
            free = [seq for seq in old if COUNTED.fullmatch(seq) and int(seq) not in claimed]
            found, gone = await self._heads_before(free, head_before, now)
            expired += found
            at += len(old) - gone
            if len(old) < size:
                at = 0
                if begin == 0 or end is not None:
                    break
                end = begin
        # Those that are buried now leave, and the others move up.
        self._looked_at[age] = max(0, at - len(expired))
        return expired, looked

    async def _expired_ahead(
        self, age: str, sink: str, head_before: datetime, now: datetime
    ) -> list[Delivery]:
        """Expired heads among rows of a lane that are dated in the future, from where it was looked last."""
        claimed, place = self._claimed.get(sink, set()), f"{age} ahead"
        at = self._looked_at.pop(place, 0)
        seqs = await self._connection.read("ZRANGEBYSCORE", age, f"({ms(now)}", "+inf", "LIMIT", at, CHUNK)
        free = [seq for seq in seqs if COUNTED.fullmatch(seq) and int(seq) not in claimed]
        expired, gone = await self._heads_before(free, head_before, now)
        if len(seqs) == CHUNK:
            self._looked_at[place] = at + len(seqs) - gone - len(expired)
        return expired

    async def _heads_before(
        self, seqs: Sequence[str], head_before: datetime, now: datetime
    ) -> tuple[list[Delivery], int]:
        """Those of these rows that are heads since an instant or longer; and how many were set aside."""
        if not seqs:
            return [], 0
        before = ms(head_before)
        heads = await self._connection.read("HMGET", self._keys.heads, *seqs)
        old = [
            (seq, head)
            for seq, head in zip(seqs, heads, strict=True)
            if head and since_of(head, before + 1) <= before
        ]
        rows = await self._rows([seq for seq, _ in old])
        read = [
            await self._deliverable(seq, row, head, now)
            for (seq, head), row in zip(old, rows, strict=True)
            if row
        ]
        found = [one for one in read if one is not None]
        return [one for one in found if one.waits_since(now) <= head_before], len(read) - len(found)

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

    async def finished(
        self, shop_id: str, *, dead: bool, limit: int, only: str | None, after: datetime | None
    ) -> list[FinishedDelivery]:
        """What was delivered or given up, the latest first."""
        first = "-inf" if after is None else f"({ms(after)}"
        found: list[FinishedDelivery] = []
        where = self._keys.dead_letters if dead else self._keys.delivered
        for shop, sink in await self.lanes():
            if shop == shop_id and only in {None, sink}:
                ages = self._keys.dead(shop, sink) if dead else self._keys.delivered_by_age(shop, sink)
                seqs = await self._connection.read(
                    "ZRANGE", ages, "+inf", first, "BYSCORE", "REV", "LIMIT", 0, limit
                )
                for some in chunks(seqs):
                    texts = await self._connection.read("HMGET", where, *some)
                    read = [
                        codec.finished(seq, text, dead=dead)[0]
                        for seq, text in zip(some, texts, strict=True)
                        if text
                    ]
                    found += [over for over in read if over is not None]
        return sorted(found, key=lambda one: (one.at, one.seq), reverse=True)[:limit]

    async def delivery_records(self, shop_id: str, keys: frozenset[str]) -> list[DeliveryRecord]:
        """What is remembered of the deliveries of these keys, in the order in which they were made."""
        found: dict[int, DeliveryRecord] = {}
        for shop, sink in await self.lanes():
            if shop == shop_id:
                for key in keys:
                    line = f"{codec.lane(shop, sink)}{LANE}{key}{LANE}"
                    found |= await self._records_of_line(line)
        for where, status in (
            (self._keys.delivered, DeliveryStatus.DELIVERED),
            (self._keys.dead_letters, DeliveryStatus.DEAD),
        ):
            async for seq, text in self._connection.fields(where):
                kept = codec.record(text)
                if kept.get("shop") == shop_id and str(kept.get("key")) in keys:
                    delivery_record = codec.delivery_record(seq, text, status)
                    if delivery_record is not None:
                        found[int(seq)] = delivery_record
        return [found[seq] for seq in sorted(found)]

    async def _records_of_line(self, line: str) -> dict[int, DeliveryRecord]:
        """What waits in a line, by number."""
        found: dict[int, DeliveryRecord] = {}
        # Between these begin digits, and nothing else.
        async for names in self._connection.names(self._keys.lines, f"[{line}", f"({line}:"):
            numbers = [codec.from_line(name).get("seq", "").lstrip("0") for name in names]
            seqs = [number for number in numbers if COUNTED.fullmatch(number)]
            for seq, row in zip(seqs, await self._rows(seqs), strict=True):
                delivery_record = (
                    codec.delivery_record(seq, row, DeliveryStatus.WAITING) if row is not None else None
                )
                if delivery_record is not None:
                    found[int(seq)] = delivery_record
        return found

    async def prune(self, shop_id: str, finished_before: datetime) -> int:
        """Drop old or too many deliveries that are over, a bounded number."""
        dropped = 0
        await self._mend_due(to_milliseconds(datetime.now(UTC)))
        for shop, sink in await self.lanes():
            if shop == shop_id:
                dead, made = self._keys.dead(shop, sink), self._keys.delivered_by_age(shop, sink)
                dropped += await self._prune([self._keys.dead_letters], dead, finished_before)
                dropped += await self._prune([self._keys.delivered, self._keys.texts], made, finished_before)
                where = [self._keys.lease, self._keys.lanes, self._keys.age(shop, sink), dead, made]
                if not await self._connection.read("EXISTS", *where[2:]):
                    await self._connection.fenced("lane", where, [codec.lane(shop, sink)])
        return dropped

    async def _prune(self, hashes: Sequence[str], ages: str, before: datetime) -> int:
        old = await self._connection.read(
            "ZRANGEBYSCORE", ages, "-inf", f"({ms(before)}", "LIMIT", 0, PRUNE_LIMIT
        )
        excess = await self._connection.read("ZCARD", ages) - MAX_FINISHED
        if len(old) < min(excess, PRUNE_LIMIT):
            old = await self._connection.read("ZRANGE", ages, 0, min(excess, PRUNE_LIMIT) - 1)
        for some in chunks(old):
            keys = [self._keys.lease, ages, *hashes]
            commands = [["ZREM", 1, *some], *(["HDEL", n, *some] for n in range(2, len(keys)))]
            await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])
        return len(old)

    async def redate(self, shop_id: str, after: datetime, to: datetime) -> int:
        """Date back deliveries that are over, and in the future, a bounded number of each sink."""
        changed = 0
        for shop, sink in await self.lanes():
            if shop == shop_id:
                for where, ages in (
                    (self._keys.dead_letters, self._keys.dead(shop, sink)),
                    (self._keys.delivered, self._keys.delivered_by_age(shop, sink)),
                ):
                    changed += await self._redate(where, ages, after, to)
        return changed

    async def _redate(self, where: str, ages: str, after: datetime, to: datetime) -> int:
        seqs = await self._connection.read(
            "ZRANGEBYSCORE", ages, f"({ms(after)}", "+inf", "LIMIT", 0, CLAMP_LIMIT
        )
        if not seqs:
            return 0
        texts = await self._connection.read("HMGET", where, *seqs)
        moves = [[seq, text, codec.redated(text, to)] for seq, text in zip(seqs, texts, strict=True) if text]
        keys = [self._keys.lease, where, ages]
        args: list[str | int] = [ms(to), json.dumps(moves, ensure_ascii=False)]
        return int(await self._connection.fenced("redate", keys, args))

    async def mend(self, now: datetime) -> None:
        """Make what leads to the deliveries anew where part of it is gone (evicted)."""
        await self._mend_counter()
        await self._mend_due(now)

        async def put_right(seq: str, row: str, problems: list[str]) -> Delivery | None:
            return await self._corrected(seq, row, None, problems, now, in_line=False)

        mending = Mending(self._connection, self._keys, now=now, on_damaged=put_right)
        if self._must_mend:
            await mending.begin_anew()
            self._must_mend = False
        if not await mending.is_wanted() and await self._is_whole():
            await mending.forget()  # another version finished what was begun
            return
        log = structlog.get_logger()
        log.error("part of the outbox is gone or wrong; making its order anew, which may take a while")
        for _ in range(TRIES):
            await mending.finish()
            await self._count_others()
            if await self._is_whole():
                log.info("the outbox is in order again")
                return
        log.error("part of the outbox cannot be put in order; what can be read of it is delivered")

    async def _order_needed(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script that finds out if what leads to the deliveries is wrong, though none of it is gone."""
        try:
            return await self._connection.fenced(script, keys, args)
        except TemporaryError:
            self._must_mend = self._must_mend or self._connection.torn
            raise

    async def is_sound(self) -> bool:
        """Whether each delivery is where what leads to it says; changes nothing, needs no lease."""
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

    async def put_right(self, now: datetime) -> None:
        """Look at every row: correct it, or set it aside; then make their order anew if it is wrong."""
        async for some in self._connection.scan("HSCAN", self._keys.outbox):
            for seqs in chunks([seq for seq in some if COUNTED.fullmatch(seq)]):
                heads = await self._connection.read("HMGET", self._keys.heads, *seqs)
                for seq, head in zip(seqs, heads, strict=True):
                    await self._deliverable(seq, some[seq], head, now)
        self._must_mend = not await self.is_sound()
        await self.mend(now)

    async def _mend_counter(self) -> None:
        """A counter that is no number, or behind what it gave, would give numbers again."""
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
            structlog.get_logger().error("the counter of deliveries is damaged and is set anew")
            async for seq, _ in self._connection.fields(self._keys.outbox):
                least = max(least, int(seq)) if COUNTED.fullmatch(seq) else least
            command = ["HSET", 1, "seq", str(least)]
            keys = [self._keys.lease, self._keys.outbox]
            await self._connection.fenced("apply", keys, [json.dumps([command], ensure_ascii=False)])

    async def _mend_due(self, now: datetime) -> None:
        """A delivery that is due at no time that can be right is due now; a bounded number at a time."""
        for sink in sorted({sink for _, sink in await self.lanes()}):
            key = self._keys.due(sink)
            late = await self._connection.read(
                "ZRANGEBYSCORE", key, f"({ms(stored.LATEST)}", "+inf", "LIMIT", 0, PRUNE_LIMIT
            )
            commands = [["ZADD", 1, "XX", ms(now), seq] for seq in late]
            if commands:
                keys = [self._keys.lease, key]
                await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])

    async def _is_whole(self) -> bool:
        if await self._has_all():
            return True
        # An earlier version may have written here, which does not count its fields.
        await self._count_others()
        return await self._has_all()

    async def _has_all(self, others: int | None = None) -> bool:
        """Whether all that leads to the deliveries is there, by counts.

        Args:
            others: how many fields of `outbox` are no rows, if not what is kept there.
        """
        lanes = await self.lanes()
        due = [self._keys.due(sink) for sink in sorted({sink for _, sink in lanes})]
        keys = [self._keys.outbox, self._keys.lines, self._keys.heads, *due]
        keys += [self._keys.age(shop, sink) for shop, sink in lanes]
        args: list[str | int] = [len(due), "" if others is None else others]
        return bool(await self._connection.unfenced("whole", keys, args) == 1)

    async def _others(self) -> set[str]:
        """The fields of `outbox` that are no rows; only the leader makes any."""
        others: set[str] = set()
        async for some in self._connection.scan("HSCAN", self._keys.outbox, "MATCH", "[^0-9]*"):
            others.update(some)
        return others

    async def _count_others(self) -> None:
        """Count those fields of `outbox` that are no rows."""
        others = {"seq", "others", *await self._others()}
        commands: list[list[str | int]] = [["HINCRBY", 1, "seq", 0], ["HSET", 1, "others", len(others)]]
        keys = [self._keys.lease, self._keys.outbox]
        await self._connection.fenced("apply", keys, [json.dumps(commands, ensure_ascii=False)])

    async def _first(self, key: str, count: int) -> list[tuple[str, datetime]]:
        """The first few of a sorted set, and the instants that they are sorted by."""
        found = pairs(await self._connection.read("ZRANGE", key, 0, count - 1, "WITHSCORES"))
        return [(str(seq), codec.instant_of(at)) for seq, at in found]

    async def _rows(self, seqs: Sequence[str]) -> list[str | None]:
        if not seqs:
            return []
        rows: list[str | None] = await self._connection.read("HMGET", self._keys.outbox, *seqs)
        return rows

    async def lanes(self) -> list[tuple[str, str]]:
        """Shop and sink of every lane, in a settled order."""
        return split_lanes(sorted(await self._connection.read("SMEMBERS", self._keys.lanes)))


def since_of(head: str, default: int) -> int:
    """Since when (ms) a delivery is the first of its line, from a field of `heads`."""
    return stored.Reading().whole(head.partition(" ")[0], "", default, high=stored.MOST)
