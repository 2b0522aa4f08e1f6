"""The rows of the outbox, from the commit that adds them (scripts/commit.lua) to the ack or the dead letters.

A row is the head of its line if it is the oldest undelivered row of its shop, sink and key. Only heads are
due, which keeps the events of an order in order.
"""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import anyio

from shop_poller.clock import MS, ms
from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.retry import LONGEST_DELAY
from shop_poller.ports import Ack, MoveToDeadLetters, Outcome, Release, Retry
from shop_poller.stores import stored
from shop_poller.stores.bounds import (
    CLAMP_LIMIT,
    EXPIRE_LIMIT,
    MAX_FINISHED,
    RELEASE_LIMIT,
    TRIM,
    WAITED_TOO_LONG,
)
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import CHUNK, RedisConnection, chunks, pairs
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.outbox_rows import COUNTED
from shop_poller.stores.redis.port import RedisPort

EXPIRE_SCAN = 5000
"""Most rows that one search for expired deliveries reads."""
MOST_ROUNDS = 100
"""A claim stops after this many rounds in which it finds damaged rows."""


class RedisOutbox(RedisPort):
    """The outbox. For the methods see ports.Outbox."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        super().__init__(connection, keys)
        self._claim_lock = anyio.Lock()  # two claims at once would take the same rows

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Claim due heads that are not claimed yet. Those that cannot be delivered are set aside."""
        keys = [self._keys.lease, self._keys.outbox, self._keys.heads, self._keys.due(sink)]
        deliveries: list[Delivery] = []
        async with self._claim_lock:
            claimed = self._claims.seqs.setdefault(sink, set())
            for _ in range(MOST_ROUNDS):
                args = [ms(now), limit - len(deliveries), ms(now) + LONGEST_DELAY // MS, *claimed]
                found = await self._order_needed("claim", keys, args)
                rows = list(zip(found[::3], found[1::3], found[2::3], strict=True))
                some = [await self._rows.deliverable(seq, row, head, now) for seq, row, head in rows]
                good = [delivery for delivery in some if delivery is not None]
                claimed.update(delivery.seq for delivery in good)
                deliveries += good
                if len(good) == len(rows):
                    break
        return deliveries

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record the outcomes of claimed rows."""
        lanes: dict[tuple[str, str], int] = {}
        finished = []
        for outcome in outcomes:
            delivery = outcome.delivery
            lane = lanes.setdefault((delivery.shop_id, delivery.sink), len(lanes) + 1)
            what: tuple[str, str | int, int, str]
            match outcome:
                case Ack():
                    text = codec.finished_text(delivery, now, new_attempts=outcome.new_attempts)
                    what = ("ack", text, 0, delivery.body)
                case MoveToDeadLetters():
                    text = codec.finished_text(
                        delivery, now, new_attempts=outcome.new_attempts, reason=outcome.reason
                    )
                    what = ("dead_letter", text, 0, "")
                case Retry():
                    what = ("retry", ms(outcome.at), int(outcome.charged), _row(outcome))
                case Release() if outcome.new_attempts:
                    what = ("release", 0, 0, _row(outcome))
                case _:  # not attempted: the row does not change
                    continue
            verb, detail, charge, body = what
            finished.append(
                [
                    verb, lane, str(delivery.seq), codec.line(delivery), codec.name_in_line(delivery),
                    detail, charge, delivery.event_id, body,
                ]
            )  # fmt: skip
        if finished:
            # Outcomes that free memory come first.
            finished.sort(key=lambda one: one[0] in {"retry", "release"})
            keys = [self._keys.lease, self._keys.outbox, self._keys.lines, self._keys.heads]
            keys += [self._keys.dead_letters, self._keys.delivered, self._keys.texts]
            for shop_id, sink in lanes:
                keys += [self._keys.due(sink), self._keys.age(shop_id, sink)]
                keys += [self._keys.dead(shop_id, sink), self._keys.delivered_by_age(shop_id, sink)]
            args: list[str | int] = [ms(now), MAX_FINISHED, TRIM, json.dumps(finished, ensure_ascii=False)]
            await self._order_needed("record_outcomes", keys, args)
        for outcome in outcomes:
            self._claims.seqs.get(outcome.delivery.sink, set()).discard(outcome.delivery.seq)

    async def release_parked(self, sink: str) -> bool:
        """Make some parked rows due, each at its creation time. Return whether there may be more."""
        due, keys = self._keys.due(sink), [self._keys.lease, self._keys.due(sink)]
        keys += [self._keys.age(shop, name) for shop, name in await self._order.lanes() if name == sink]
        for _ in range(RELEASE_LIMIT // CHUNK):
            position, found = await self._connection.read(
                "ZSCAN", due, self._claims.scan_positions.pop(sink, 0), "COUNT", CHUNK
            )
            for some in chunks([seq for seq, _ in pairs(found)]):
                await self._connection.fenced("release_parked", keys, some)
            if not position:
                return False
            self._claims.scan_positions[sink] = position
        return True

    async def clamp_due(self, sink: str, *, latest: datetime) -> int:
        """Move due times that are later than `latest` back to it, a bounded number at each call."""
        due, at = self._keys.due(sink), ms(latest)
        late = await self._connection.read("ZRANGEBYSCORE", due, f"({at}", "+inf", "LIMIT", 0, CLAMP_LIMIT)
        if late:
            # XX and LT: change only members that still exist, and never to a later time.
            command = ["ZADD", 1, "LT", "XX", *(part for seq in late for part in (at, seq))]
            await self._connection.fenced(
                "apply", [self._keys.lease, due], [json.dumps([command], ensure_ascii=False)]
            )
        return len(late)

    async def next_due(self, sink: str) -> datetime | None:
        """Return when the next unclaimed head is due."""
        claimed = self._claims.seqs.get(sink, set())
        heads = await self._order.earliest(self._keys.due(sink), len(claimed) + 1)
        if not heads and not claimed:
            await self._look_for_stuck(sink)
        # A member that is not a number was put there by another program. It is returned as due: the claim
        # detects it, and the next session repairs the order.
        free = (due for seq, due in heads if not (COUNTED.fullmatch(seq) and int(seq) in claimed))
        return next(free, None)

    async def dead_letter_expired(self, sink: str, *, head_before: datetime, now: datetime) -> int:
        """Move unclaimed heads that became heads before an instant to the dead letters.

        A row never becomes a head before it is created. So only rows created before the instant are read, the
        oldest first, at most `EXPIRE_SCAN`; the next call continues there. Rows with a date
        in the future are not trusted, so some of them are read as well.
        """
        expired: list[Delivery] = []
        left = EXPIRE_SCAN
        for shop, name in await self._order.lanes():
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

    async def _look_for_stuck(self, sink: str) -> None:
        """End the session if a row waits and there is no head. The next session repairs the order."""
        if not self._connection.nonce:
            return
        for shop, name in await self._order.lanes():
            if name == sink and await self._connection.read("ZCARD", self._keys.age(shop, sink)):
                if not await self._connection.read("EXISTS", self._keys.due(sink)):
                    self._order.must_mend = self._connection.torn = True
                return

    async def _expired(
        self, age: str, sink: str, head_before: datetime, most: int, now: datetime
    ) -> tuple[list[Delivery], int]:
        """Return expired heads of a lane, from the last position on, and how many rows were read."""
        claimed, expired, looked = self._claims.seqs.get(sink, set()), list[Delivery](), 0
        begin = at = self._claims.looked_at.get(age, 0)
        end: int | None = (
            None  # set after the search starts again at the oldest row; it then ends where it began
        )
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
        # The expired rows leave the lane, so the others move up.
        self._claims.looked_at[age] = max(0, at - len(expired))
        return expired, looked

    async def _expired_ahead(
        self, age: str, sink: str, head_before: datetime, now: datetime
    ) -> list[Delivery]:
        """Return expired heads among rows of a lane dated in the future, from the last position on."""
        claimed, place = self._claims.seqs.get(sink, set()), f"{age} ahead"
        at = self._claims.looked_at.pop(place, 0)
        seqs = await self._connection.read("ZRANGEBYSCORE", age, f"({ms(now)}", "+inf", "LIMIT", at, CHUNK)
        free = [seq for seq in seqs if COUNTED.fullmatch(seq) and int(seq) not in claimed]
        expired, gone = await self._heads_before(free, head_before, now)
        if len(seqs) == CHUNK:
            self._claims.looked_at[place] = at + len(seqs) - gone - len(expired)
        return expired

    async def _heads_before(
        self, seqs: Sequence[str], head_before: datetime, now: datetime
    ) -> tuple[list[Delivery], int]:
        """Return the rows that became heads at an instant or before, and how many rows were set aside."""
        if not seqs:
            return [], 0
        before = ms(head_before)
        heads = await self._connection.read("HMGET", self._keys.heads, *seqs)
        old = [
            (seq, head)
            for seq, head in zip(seqs, heads, strict=True)
            if head and since_of(head, before + 1) <= before
        ]
        rows = await self._rows.read([seq for seq, _ in old])
        read = [
            await self._rows.deliverable(seq, row, head, now)
            for (seq, head), row in zip(old, rows, strict=True)
            if row
        ]
        found = [one for one in read if one is not None]
        return [one for one in found if one.waits_since(now) <= head_before], len(read) - len(found)

    async def _order_needed(self, script: str, keys: Sequence[str], args: Sequence[str | int]) -> Any:
        """Run a script that needs the index of the deliveries. If it finds that wrong, mark it for repair."""
        try:
            return await self._connection.fenced(script, keys, args)
        except TemporaryError:
            self._order.must_mend = self._order.must_mend or self._connection.torn
            raise


def _row(outcome: Retry | Release) -> str:
    """Return the row with its new attempts; "" if there are none, and it does not change."""
    return codec.row_of(outcome.delivery, outcome.new_attempts) if outcome.new_attempts else ""


def since_of(head: str, default: int) -> int:
    """Return since when (ms) a delivery is the first of its line, from a field of `heads`."""
    return stored.Reading().whole(head.partition(" ")[0], "", default, high=stored.MOST)
