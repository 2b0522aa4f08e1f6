"""Limits how much is kept, and for how long."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from shop_poller.clock import ms, to_milliseconds
from shop_poller.stores import stored
from shop_poller.stores.bounds import CLAMP_LIMIT, MAX_FINISHED, PRUNE_LIMIT
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import chunks
from shop_poller.stores.redis.port import RedisPort


class RedisRetention(RedisPort):
    """Deletes what is old. For the methods see ports.Retention."""

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Delete old copies of damaged rows, old records, and old finished deliveries, some of each."""
        await self._aside.prune(seen_before)
        dropped = await self._prune_known(shop_id, seen_before)
        return dropped + await self._prune_finished(shop_id, finished_before)

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back records and finished deliveries, some of each."""
        changed = await self._redate_known(shop_id, after, to)
        return changed + await self._redate_finished(shop_id, after, to)

    async def _prune_known(self, shop_id: str, seen_before: datetime) -> int:
        """Delete old records, a bounded number at a time."""
        keys = self._keys.shop(shop_id)
        old = await self._connection.read(
            "ZRANGEBYSCORE", keys.known_seen, "-inf", f"({ms(seen_before)}", "LIMIT", 0, PRUNE_LIMIT
        )
        where = [keys.known_orders, keys.known_details, keys.known_seen, keys.known_open]
        for some in chunks(old):
            await self._connection.fenced("forget", [self._keys.lease, keys.state, *where], some)
        return len(old) + await self._prune_set_aside(keys.set_aside, ms(seen_before))

    async def _prune_set_aside(self, key: str, before: int) -> int:
        dropped = 0
        async for some in self._connection.scan("HSCAN", key):
            old = [order_id for order_id, text in some.items() if _since(text) < before]
            for ids in chunks(old):
                where = [self._keys.lease, key]
                commands = json.dumps([["HDEL", 1, *ids]], ensure_ascii=False)
                await self._connection.fenced("apply", where, [commands])
            dropped += len(old)
            if dropped >= PRUNE_LIMIT:
                break
        return dropped

    async def _prune_finished(self, shop_id: str, finished_before: datetime) -> int:
        """Delete finished deliveries that are old or exceed the bound, a bounded number at a time."""
        dropped = 0
        await self._order.mend_due(to_milliseconds(datetime.now(UTC)))
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                dead, made = self._keys.dead(shop, sink), self._keys.delivered_by_age(shop, sink)
                dropped += await self._prune_lane([self._keys.dead_letters], dead, finished_before)
                dropped += await self._prune_lane(
                    [self._keys.delivered, self._keys.texts], made, finished_before
                )
                where = [self._keys.lease, self._keys.lanes, self._keys.age(shop, sink), dead, made]
                if not await self._connection.read("EXISTS", *where[2:]):
                    await self._connection.fenced("lane", where, [codec.lane(shop, sink)])
        return dropped

    async def _prune_lane(self, hashes: Sequence[str], ages: str, before: datetime) -> int:
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

    async def _redate_known(self, shop_id: str, after: datetime, to: datetime) -> int:
        """Date back records that are dated in the future, a bounded number at a time."""
        keys = self._keys.shop(shop_id)
        late = await self._connection.read(
            "ZRANGEBYSCORE", keys.known_seen, f"({ms(after)}", "+inf", "LIMIT", 0, CLAMP_LIMIT
        )
        some: list[tuple[str, str]] = []
        async for order_id, text in self._connection.fields(keys.set_aside):
            if _since(text) > ms(after):
                some.append((order_id, text.partition(" ")[2]))
            if len(some) >= CLAMP_LIMIT:
                break
        commands: list[list[str | int]] = []
        if late:
            commands.append(["ZADD", 1, "LT", "XX", *(part for id_ in late for part in (ms(to), id_))])
        if some:
            commands.append(
                ["HSET", 2, *(part for id_, reason in some for part in (id_, f"{ms(to)} {reason}"))]
            )
        if commands:
            where = [self._keys.lease, keys.known_seen, keys.set_aside]
            await self._connection.fenced("apply", where, [json.dumps(commands, ensure_ascii=False)])
        return len(late) + len(some)

    async def _redate_finished(self, shop_id: str, after: datetime, to: datetime) -> int:
        """Date back finished deliveries that are dated in the future, a bounded number per sink at a time."""
        changed = 0
        for shop, sink in await self._order.lanes():
            if shop == shop_id:
                for where, ages in (
                    (self._keys.dead_letters, self._keys.dead(shop, sink)),
                    (self._keys.delivered, self._keys.delivered_by_age(shop, sink)),
                ):
                    changed += await self._redate_lane(where, ages, after, to)
        return changed

    async def _redate_lane(self, where: str, ages: str, after: datetime, to: datetime) -> int:
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


def _since(text: str) -> int:
    """Return since when (ms) an order is set aside, from a field of `set_aside`; 0 if it cannot be read."""
    return stored.Reading().whole(text.partition(" ")[0], "", high=stored.MOST)
