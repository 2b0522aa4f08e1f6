"""Known orders and the position of polling."""

import json
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime

import structlog

from shop_poller.clock import ms, to_milliseconds
from shop_poller.core import import_walk
from shop_poller.core.cursor import LOST_CURSOR_REWIND
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.model import KnownOrder
from shop_poller.core.tallies import OrderTally
from shop_poller.core.translatable import Text
from shop_poller.ports import Backfill, Batch, ShopState
from shop_poller.stores import stored
from shop_poller.stores.damage import Original
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import RedisConnection, chunks
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.port import RedisPort
from shop_poller.stores.redis.records import Records


class RedisOrderState(RedisPort):
    """Known orders and the position of polling. For the methods see ports.OrderState."""

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        super().__init__(connection, keys)
        self._records = Records(connection, keys)

    async def load(self, shop_id: str) -> ShopState | None:
        """Read the hash of the shop.

        Raises:
            PermanentError: STORE, these keys belong to another shop.
        """
        fields = await self._connection.hash(self._keys.shop(shop_id).state)
        owner = fields.get("shop", shop_id)
        if owner != shop_id and stored.NAME.fullmatch(owner):
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "the keys {prefix}* in Redis belong to the shop {owner}, not to {shop_id}; set "
                    "SHOP_REDIS_PREFIX to another prefix, or SHOP_ID to its former value",
                    prefix=self._keys.prefix,
                    owner=owner,
                    shop_id=shop_id,
                ),
            )
        state, problems = codec.shop_state(fields)
        await self._note(Original(shop_id, "state", shop_id, problems, fields))
        return state

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """Return the state. First repair what is damaged or evicted, and adopt data of the earlier design."""
        await self._commits.move_wrong_keys(shop_id, now, await self._order.lane_types())
        await self._order.mend(now)
        state = await self.load(shop_id)
        await self._commits.mend_revs(shop_id)
        if not await self._commits.is_whole(shop_id):
            # Part of it was evicted. The lost part could be the deliveries of orders that count as announced.
            # So polling starts again as with an empty store, and recent orders are announced again with the
            # same ids.
            structlog.get_logger().error(
                "part of the state is gone; starting from scratch: set maxmemory-policy noeviction",
                shop=shop_id,
            )
            await self._records.wipe(shop_id)
            self._commits.forget_shop(shop_id)
            state = None
        adopted = await self._records.adopt(shop_id, now)
        rev, open_rev = await self._connection.read(
            "HMGET", self._keys.shop(shop_id).state, "rev", "open_rev"
        )
        if adopted or rev is None or rev != open_rev or not await self._records.has_open(shop_id):
            await self._records.find_open(shop_id)
        if state is not None and open_rev is None:
            # An earlier version without the silence alarm wrote this. Silence is counted from here.
            state = replace(state, newest_order_at=state.last_poll_at)
            await self.commit(shop_id, Batch(state=state, now=now, seen_at=now))
        if state is None:
            begun = await self._beginning(shop_id, now)
            await self.commit(shop_id, Batch(state=begun, now=now, seen_at=now))
            state = await self.load(shop_id) or begun
        return state

    async def snapshot(self, shop_id: str, now: datetime) -> tuple[ShopState, list[KnownOrder]]:
        """Return the state that `register` would return, and every record. Writes nothing."""
        state = await self.load(shop_id) or await self._beginning(shop_id, now)
        keys, ids = self._keys.shop(shop_id), set[int]()
        for key in (keys.known_orders, keys.known_details):
            async for order_id, _ in self._connection.fields(key):
                if codec.is_id(order_id):
                    ids.add(int(order_id))
        known = await self.known(shop_id, sorted(ids))
        return state, list(known.values())

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """Read the records of these orders."""
        keys, found = self._keys.shop(shop_id), {}
        for some in chunks(list(ids)):
            statuses = await self._connection.read("HMGET", keys.known_orders, *some)
            details = await self._connection.read("HMGET", keys.known_details, *some)
            for order_id, status, detail in zip(some, statuses, details, strict=True):
                record, problems = codec.known_order(order_id, status, detail)
                if problems:
                    raw = {"status": status, "details": detail}
                    await self._note(Original(shop_id, "known_orders", str(order_id), problems, raw))
                if record is not None:
                    found[order_id] = record
        return found

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Read the open orders from their index."""
        key, after = self._keys.shop(shop_id).known_open, codec.open_name(after_id)
        names = await self._connection.read("ZRANGEBYLEX", key, f"({after}", "+", "LIMIT", 0, limit)
        return [int(name) for name in names if codec.is_id(name)]

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """Read the orders set aside as unreadable."""
        return {
            int(order_id): text.partition(" ")[2] if stored.is_clean(text) else "(cannot be read)"
            async for order_id, text in self._connection.fields(self._keys.shop(shop_id).set_aside)
            if codec.is_id(order_id)
        }

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Write known orders, outbox and state in one script."""
        last_poll_at = batch.state.last_poll_at
        await self._commits.commit(
            shop_id,
            batch.new_deliveries,
            batch.now,
            {
                "state": {
                    "shop": shop_id,
                    **codec.state_fields(batch.state),
                    **{codec.tally_field(day): stored.tally_text(one) for day, one in batch.tallies.items()},
                    **{codec.tally_field(day): "" for day in batch.dropped_days},
                },
                "last_poll_time": codec.naive_iso(last_poll_at) if last_poll_at else "",
                "seen_at": ms(batch.seen_at),
                "known": [codec.known_row(order) for order in batch.known],
                "set_aside": [
                    [str(o.id), f"{ms(max(batch.now, batch.seen_at))} {o.reason}"] for o in batch.set_aside
                ],
                "mended": [str(order_id) for order_id in batch.mended],
            },
        )

    async def tallies(self, shop_id: str, days: Collection[date] | None = None) -> dict[date, OrderTally]:
        """Read the fields of these days, or of all. A damaged one is set aside."""
        key, found = self._keys.shop(shop_id).state, {}
        if days is None:
            fields = await self._connection.hash(key)
        else:
            names = [codec.tally_field(day) for day in sorted(days)]
            texts = await self._connection.read("HMGET", key, *names)
            fields = {name: text for name, text in zip(names, texts, strict=True) if text is not None}
        for name, text in fields.items():
            if name.startswith(codec.TALLY):
                day = name.removeprefix(codec.TALLY)
                tally, problems = stored.tally(day, text)
                await self._note(Original(shop_id, "tallies", stored.name_of(day), problems, {name: text}))
                if tally is not None:
                    found[tally[0]] = tally[1]
        return found

    async def backfill(self, shop_id: str) -> Backfill | None:
        """Read the hash of the backfill."""
        fields = await self._connection.hash(self._keys.shop(shop_id).backfill)
        if not fields:
            return None
        found, problems = stored.backfill(fields)
        await self._note(Original(shop_id, "backfill", shop_id, problems, fields))
        return found

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Add missing records by a script that needs no lease."""
        keys = self._keys.shop(shop_id)
        where = [
            keys.state, keys.known_orders, keys.known_details, keys.known_seen, keys.known_open,
            keys.backfill,
        ]  # fmt: skip
        args: list[str | int] = [
            ms(now),
            json.dumps([codec.known_row(order) for order in records]),
            json.dumps([str(ms(position.since)), str(ms(position.created_before)), position.imported]),
        ]
        return int(await self._connection.fenced("import_silently", where, args))

    async def _beginning(self, shop_id: str, now: datetime) -> ShopState:
        """Return the first state of a shop: empty, or what the earlier design left."""
        last = await self._connection.read("GET", self._keys.shop(shop_id).last_poll_time)
        last_poll_at = codec.from_naive_iso(last) if last else None
        if (
            last_poll_at is None
            and last
            and await self._connection.read("EXISTS", self._keys.shop(shop_id).known_orders)
        ):
            # The shop was polled, but the time of the last poll cannot be read. Reading the last days again
            # is safe, because every order seen in them has a record.
            problems = [Text("it is not a valid time")]
            await self._note(Original(shop_id, "last_poll_time", shop_id, problems, {"value": last}))
            last_poll_at = now - LOST_CURSOR_REWIND
        if last_poll_at is None:
            return ShopState(started_at=now)
        return ShopState(
            started_at=now,
            baseline_at=last_poll_at,
            cursor_at=last_poll_at,
            last_poll_at=last_poll_at,
            import_position=import_walk.begin(last_poll_at),
        )

    async def _note(self, one: Original) -> None:
        await self._aside.note(one, to_milliseconds(datetime.now(UTC)))
