"""The history of deliveries."""

from collections.abc import Collection, Sequence
from datetime import datetime

from shop_poller.clock import HOUR_MS, ms
from shop_poller.ports import (
    DeliveredEntry,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    PastDelivery,
    StoredDelivery,
)
from shop_poller.stores import stored
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import RedisConnection, chunks
from shop_poller.stores.redis.keys import LANE
from shop_poller.stores.redis.outbox_rows import COUNTED
from shop_poller.stores.redis.port import RedisPort


class RedisDeliveryHistory(RedisPort):
    """Finished deliveries. For the methods see ports.DeliveryHistory."""

    async def finished(
        self,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """Read the deliveries by time, the latest first."""
        first = "-inf" if after is None else f"({ms(after)}"
        found: list[FinishedDelivery] = []
        where = self._keys.dead_letters if dead else self._keys.delivered
        for shop, name in await self._order.lanes():
            if shop == shop_id and sink in {None, name}:
                ages = self._keys.dead(shop, name) if dead else self._keys.delivered_by_age(shop, name)
                seqs = await self._connection.read(
                    "ZRANGE", ages, "+inf", first, "BYSCORE", "REV", "LIMIT", 0, limit
                )
                found += await read_finished(self._connection, where, seqs, dead=dead)
        return sorted(found, key=lambda one: (one.at, one.seq), reverse=True)[:limit]

    async def by_the_hour(self, shop_id: str, *, dead: bool, before: datetime, hours: int) -> list[int]:
        """Count the deliveries on the server."""
        counts = [0] * hours
        start = ms(before) - hours * HOUR_MS
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                ages = self._keys.dead(shop, sink) if dead else self._keys.delivered_by_age(shop, sink)
                for hour in range(hours):
                    first = start + hour * HOUR_MS
                    counts[hour] += await self._connection.read("ZCOUNT", ages, first, f"({first + HOUR_MS}")
        return counts

    async def count_delivered(self, shop_id: str, *, since: datetime, before: datetime) -> int:
        """Count the deliveries on the server."""
        found = 0
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                ages = self._keys.delivered_by_age(shop, sink)
                found += await self._connection.read("ZCOUNT", ages, ms(since), f"({ms(before)}")
        return found

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """Read the deliveries by time, then sort them by their events."""
        found: list[DeliveredEntry] = []
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                ages = self._keys.delivered_by_age(shop, sink)
                async for seqs in self._connection.by_score(ages, ms(since), f"({ms(before)}"):
                    texts = await self._connection.read("HMGET", self._keys.texts, *seqs)
                    kept = {seq for seq, text in zip(seqs, texts, strict=True) if text is not None}
                    over = await read_finished(self._connection, self._keys.delivered, seqs, dead=False)
                    found += [DeliveredEntry(one, str(one.seq) in kept) for one in over]
        return sorted(found, key=lambda made: made.over.sort_key)

    async def delivery(self, shop_id: str, seq: int) -> StoredDelivery | None:
        """Read the delivery from the key that contains it."""
        for status, where in (
            (DeliveryStatus.WAITING, self._keys.outbox),
            (DeliveryStatus.DELIVERED, self._keys.delivered),
            (DeliveryStatus.DEAD, self._keys.dead_letters),
        ):
            text = await self._connection.read("HGET", where, str(seq))
            kept = codec.record(text)
            if kept.get("shop") != shop_id:
                continue
            if status is DeliveryStatus.WAITING:
                head = await self._connection.read("HGET", self._keys.heads, str(seq)) or "0 0"
                kept |= {"at": kept.get("created_at"), "attempts": head.partition(" ")[2]}
            elif status is DeliveryStatus.DELIVERED:
                kept["body"] = await self._connection.read("HGET", self._keys.texts, str(seq))
            over, _ = stored.finished(str(seq), kept, dead=status is DeliveryStatus.DEAD)
            if over is not None:
                return stored.with_text(
                    status, over, body=kept.get("body"), created_at=kept.get("created_at")
                )
        return None

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """Read the deliveries from the outbox, the history and the dead letters."""
        found: dict[int, DeliveryRecord] = {}
        for shop, sink in await self._order.lanes():
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

    async def past_deliveries(self, shop_id: str, *, since: datetime, limit: int) -> list[PastDelivery]:
        """Read the latest deliveries of each lane, and those that wait."""
        found: dict[int, PastDelivery] = {}
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                found |= await self._past_of_lane(shop, sink, since, limit)
        latest = sorted(found.items(), key=lambda one: (one[1].record.at, one[0]), reverse=True)
        return [past for _, past in latest if past.record.at >= since][:limit]

    async def _past_of_lane(
        self, shop: str, sink: str, since: datetime, limit: int
    ) -> dict[int, PastDelivery]:
        """Return the latest deliveries of a lane, by number."""
        found: dict[int, PastDelivery] = {}
        for ages, where, status in (
            (self._keys.age(shop, sink), self._keys.outbox, DeliveryStatus.WAITING),
            (self._keys.delivered_by_age(shop, sink), self._keys.delivered, DeliveryStatus.DELIVERED),
            (self._keys.dead(shop, sink), self._keys.dead_letters, DeliveryStatus.DEAD),
        ):
            latest = ("ZRANGE", ages, "+inf", ms(since), "BYSCORE", "REV", "LIMIT", 0, limit)
            for seqs in chunks(await self._connection.read(*latest)):
                texts = await self._connection.read("HMGET", where, *seqs)
                bodies = [None] * len(seqs)
                if status is DeliveryStatus.DELIVERED:
                    bodies = await self._connection.read("HMGET", self._keys.texts, *seqs)
                for seq, text, body in zip(seqs, texts, bodies, strict=True):
                    past = codec.past_delivery(seq, text, status, body) if text else None
                    if past is not None:
                        found[int(seq)] = past
        return found

    async def _records_of_line(self, line: str) -> dict[int, DeliveryRecord]:
        """Return the deliveries that wait in a line, by number."""
        found: dict[int, DeliveryRecord] = {}
        # ":" follows "9" in ASCII, so the range holds exactly the names whose number follows the prefix.
        async for names in self._connection.names(self._keys.lines, f"[{line}", f"({line}:"):
            numbers = [codec.from_line(name).get("seq", "").lstrip("0") for name in names]
            seqs = [number for number in numbers if COUNTED.fullmatch(number)]
            for seq, row in zip(seqs, await self._rows.read(seqs), strict=True):
                delivery_record = (
                    codec.delivery_record(seq, row, DeliveryStatus.WAITING) if row is not None else None
                )
                if delivery_record is not None:
                    found[int(seq)] = delivery_record
        return found


async def read_finished(
    connection: RedisConnection, where: str, seqs: Sequence[str], *, dead: bool
) -> list[FinishedDelivery]:
    """Read those of these deliveries that exist.

    Args:
        connection: the connection to the server.
        where: the key of the hash.
        seqs: the numbers of the deliveries.
        dead: whether the hash holds dead letters.
    """
    found: list[FinishedDelivery] = []
    for some in chunks(seqs):
        texts = await connection.read("HMGET", where, *some)
        read = [
            codec.finished(seq, text, dead=dead)[0] for seq, text in zip(some, texts, strict=True) if text
        ]
        found += [over for over in read if over is not None]
    return found
