"""Shops: where polling stands, known orders, alerts."""

import json
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

import structlog

from shop_poller.clock import instant, ms
from shop_poller.core import learning
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.model import KnownOrder
from shop_poller.core.sweep import CLOSED
from shop_poller.ports import Alert, Backfill, Batch, Outgoing, ShopState
from shop_poller.stores.bounds import PRUNE_LIMIT
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import Connection, RefusedError, chunks
from shop_poller.stores.redis.keys import Keys

UNSURE = 50
"""Most commits in a row of which it is not known whether they were carried out."""


class Shops:
    """The shops under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
    """

    def __init__(self, connection: Connection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        # The revisions that may be ours: that of the last commit, and of those whose answer was lost since.
        self._revs: dict[str, tuple[str, deque[str]]] = {}

    def forget(self) -> None:
        """Others may have written meanwhile: read anew."""
        self._revs.clear()

    async def load(self, shop_id: str) -> ShopState | None:
        """A shop's state, if it was ever heard of.

        Raises:
            PermanentError: STORE, these keys are another shop's.
        """
        fields = await self._hash(self._keys.shop(shop_id).state)
        owner = fields.get("shop", shop_id)
        if owner != shop_id:
            raise PermanentError(
                ErrorKind.STORE,
                f"the keys {self._keys.prefix}* in Redis are those of the shop {owner}, not of {shop_id}; set"
                " SHOP_REDIS_PREFIX to another one, or SHOP_ID to what it was",
            )
        return codec.shop_state(fields)

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """A shop's state; its life begins now if it has none, or goes on where another design left it."""
        state = await self.load(shop_id)
        if not await self._is_whole(shop_id):
            # Part of it was evicted. What is gone could be the news of orders that count as announced: so all
            # begins anew, as from an empty store, and what is young is announced again, by the same ids.
            structlog.get_logger().error(
                "part of the state is gone; beginning anew: set maxmemory-policy noeviction", shop=shop_id
            )
            await self._wipe(shop_id)
            state = None
        adopted = await self._adopt_records(shop_id, now)
        rev, open_rev = await self._connection.read(
            "HMGET", self._keys.shop(shop_id).state, "rev", "open_rev"
        )
        if adopted or rev is None or rev != open_rev or not await self._has_open(shop_id):
            await self._mend_open(shop_id)
        if state is not None and open_rev is None:
            # Left by a version that did not listen for silence: it is counted from here, without an alarm.
            state = replace(state, newest_order_at=state.last_poll_at)
            await self.commit(shop_id, Batch(state=state, now=now, seen_at=now))
        if state is None:
            begun = await self._beginning(shop_id, now)
            await self.commit(shop_id, Batch(state=begun, now=now, seen_at=now))
            state = await self.load(shop_id) or begun
        return state

    async def snapshot(self, shop_id: str, now: datetime) -> tuple[ShopState, list[KnownOrder]]:
        """What `register` would begin with, and every record; nothing is written."""
        state = await self.load(shop_id) or await self._beginning(shop_id, now)
        keys = self._keys.shop(shop_id)
        ids = {
            *await self._connection.read("HKEYS", keys.known_orders),
            *await self._connection.read("HKEYS", keys.known_details),
        }
        known = await self.known(shop_id, [int(order_id) for order_id in ids if order_id.isdigit()])
        return state, list(known.values())

    async def known(self, shop_id: str, ids: Sequence[int]) -> dict[int, KnownOrder]:
        """What is known of these orders."""
        keys, found = self._keys.shop(shop_id), {}
        for some in chunks(ids):
            statuses = await self._connection.read("HMGET", keys.known_orders, *some)
            details = await self._connection.read("HMGET", keys.known_details, *some)
            for order_id, status, detail in zip(some, statuses, details, strict=True):
                record = codec.known_order(order_id, status, detail)
                if record is not None:
                    found[order_id] = record
        return found

    async def open_orders(self, shop_id: str, after_id: int, limit: int) -> list[int]:
        """Ids of known orders in no last status."""
        key, after = self._keys.shop(shop_id).known_open, codec.open_name(after_id)
        names = await self._connection.read("ZRANGEBYLEX", key, f"({after}", "+", "LIMIT", 0, limit)
        return [int(name) for name in names]

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come."""
        fields = await self._hash(self._keys.shop(shop_id).backfill)
        if not fields:
            return None
        return Backfill(instant(fields["since"]), instant(fields["created_before"]), int(fields["learned"]))

    async def learn_beside(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Record orders of which nothing is known; no lease is needed."""
        keys = self._keys.shop(shop_id)
        where = [
            keys.state, keys.known_orders, keys.known_details, keys.known_seen, keys.known_open,
            keys.backfill,
        ]  # fmt: skip
        args: list[str | int] = [
            ms(now),
            json.dumps([codec.known_row(order) for order in records]),
            json.dumps([str(ms(position.since)), str(ms(position.created_before)), position.learned]),
        ]
        return int(await self._connection.fenced("learn", where, args))

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders that could not be read, with the reason."""
        stored = await self._hash(self._keys.shop(shop_id).set_aside)
        return {int(order_id): text.partition(" ")[2] for order_id, text in stored.items()}

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts raised and not cleared, by service."""
        stored = await self._hash(self._keys.shop(shop_id).alerts)
        return {service: codec.alert(service, text) for service, text in stored.items()}

    async def count(self, shop_id: str) -> tuple[int, int]:
        """How many orders are known, and set aside."""
        keys = self._keys.shop(shop_id)
        known = await self._connection.read("HLEN", keys.known_orders)
        return known, await self._connection.read("HLEN", keys.set_aside)

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Known orders, outbox and state, at once."""
        last_poll_at = batch.state.last_poll_at
        await self._commit(
            shop_id,
            batch.outgoing,
            batch.now,
            {
                "state": {"shop": shop_id, **codec.state_fields(batch.state)},
                "last_poll_time": codec.naive_iso(last_poll_at) if last_poll_at else "",
                "seen_at": ms(batch.seen_at),
                "known": [codec.known_row(order) for order in batch.known],
                "set_aside": [[str(o.id), f"{ms(batch.now)} {o.reason}"] for o in batch.set_aside],
                "mended": [str(order_id) for order_id in batch.mended],
            },
        )

    async def write_alert(
        self, shop_id: str, service: str, alert: Alert | None, outgoing: Sequence[Outgoing], now: datetime
    ) -> None:
        """Remember an alert, or forget it, and send that."""
        text = codec.alert_text(alert) if alert else ""
        await self._commit(shop_id, outgoing, now, {"alerts": [[service, text]]})

    async def prune(self, shop_id: str, seen_before: datetime) -> int:
        """Drop old records, a bounded number."""
        keys = self._keys.shop(shop_id)
        old = await self._connection.read(
            "ZRANGEBYSCORE", keys.known_seen, "-inf", f"({ms(seen_before)}", "LIMIT", 0, PRUNE_LIMIT
        )
        aside = [
            order_id
            for order_id, text in (await self._hash(keys.set_aside)).items()
            if int(text.partition(" ")[0]) < ms(seen_before)
        ][:PRUNE_LIMIT]
        commands: list[list[str | int]] = []
        if old:
            commands += [["HDEL", 1, *old], ["HDEL", 2, *old], ["ZREM", 3, *old]]
            commands.append(["ZREM", 5, *(codec.open_name(order_id) for order_id in old)])
        if aside:
            commands.append(["HDEL", 4, *aside])
        if commands:
            where = [keys.known_orders, keys.known_details, keys.known_seen, keys.set_aside, keys.known_open]
            await self._connection.fenced("apply", [self._keys.lease, *where], [json.dumps(commands)])
        return len(old) + len(aside)

    async def _commit(
        self, shop_id: str, outgoing: Sequence[Outgoing], now: datetime, what: Mapping[str, Any]
    ) -> None:
        keys = self._keys.shop(shop_id)
        if shop_id not in self._revs:
            self._revs[shop_id] = (await self._read_rev(shop_id), deque(maxlen=UNSURE))
        (certain, unsure), rev = self._revs[shop_id], secrets.token_hex(8)
        lanes: dict[str, list[Outgoing]] = {}
        for one in outgoing:
            lanes.setdefault(one.sink, []).append(one)
        rows = [
            [[o.notification.key, o.notification.event_id, codec.row(shop_id, o, now)] for o in some]
            for some in lanes.values()
        ]
        nothing: dict[str, Any] = {
            "state": {}, "last_poll_time": "", "seen_at": 0,
            "known": [], "set_aside": [], "mended": [], "alerts": [],
        }  # fmt: skip
        batch = (
            nothing
            | dict(what)
            | {
                "shop": shop_id,
                "revs": [certain, *unsure],
                "rev": rev,
                "lanes": [codec.lane(shop_id, sink) for sink in lanes],
                "rows": rows,
            }
        )
        where = [
            self._keys.lease, keys.state, keys.last_poll_time, keys.known_orders, keys.known_details,
            keys.known_seen, keys.set_aside, keys.alerts, self._keys.outbox, self._keys.lines,
            self._keys.heads, self._keys.lanes, keys.known_open,
        ]  # fmt: skip
        for sink in lanes:
            where += [self._keys.due(sink), self._keys.age(shop_id, sink)]
        args: list[str | int] = [ms(now), json.dumps(batch, ensure_ascii=False)]
        unsure.append(rev)  # from here on it may be what stands there, whatever becomes of the answer
        try:
            await self._connection.fenced("commit", where, args)
        except RefusedError:
            unsure.remove(rev)
            raise
        self._revs[shop_id] = (rev, deque(maxlen=UNSURE))

    async def _is_whole(self, shop_id: str) -> bool:
        """Whether all hashes are of the same commit."""
        keys, rev = self._keys.shop(shop_id), await self._read_rev(shop_id) or None
        places = ((keys.known_details, "rev"), (self._keys.outbox, f"rev:{shop_id}"))
        return all([await self._connection.read("HGET", key, field) == rev for key, field in places])

    async def _beginning(self, shop_id: str, now: datetime) -> ShopState:
        """Where a shop without a state of ours begins: nowhere, or where the design before this one was."""
        last = await self._connection.read("GET", self._keys.shop(shop_id).last_poll_time)
        last_poll_at = codec.from_naive_iso(last) if last else None
        if last_poll_at is None:
            return ShopState(started_at=now)
        return ShopState(
            started_at=now,
            baseline_at=last_poll_at,
            cursor_at=last_poll_at,
            last_poll_at=last_poll_at,
            learning=learning.begin(last_poll_at),
        )

    async def _adopt_records(self, shop_id: str, now: datetime) -> bool:
        """Records of the design before this one are kept as long as ours, counted from now.

        It may have run again for a while, and its EXPIRE with it.

        Returns:
            Whether there were any.
        """
        keys = self._keys.shop(shop_id)
        ours = await self._connection.read("EXISTS", keys.state)
        if ours and await self._connection.read("TTL", keys.known_orders) < 0:
            return False
        ids = await self._connection.read("HKEYS", keys.known_orders)
        if not ids:
            return False
        structlog.get_logger().info("taking over what is known", orders=len(ids))
        commands: list[list[str | int]] = [["PERSIST", 1]]  # its EXPIRE would still drop them all
        commands += [
            ["ZADD", 2, "NX", *(part for id_ in some for part in (ms(now), id_))] for some in chunks(ids)
        ]
        where = [self._keys.lease, keys.known_orders, keys.known_seen]
        await self._connection.fenced("apply", where, [json.dumps(commands)])
        return True

    async def _has_open(self, shop_id: str) -> bool:
        """Whether `known_open` is there: not evicted, nor empty."""
        return bool(await self._connection.read("EXISTS", self._keys.shop(shop_id).known_open))

    async def _mend_open(self, shop_id: str) -> None:
        """Find the orders that may still change."""
        keys = self._keys.shop(shop_id)
        statuses = await self._hash(keys.known_orders)
        names = [
            codec.open_name(id_) for id_, status in statuses.items() if id_.isdigit() and status not in CLOSED
        ]
        commands: list[list[str | int]] = [["DEL", 1]]
        commands += [["ZADD", 1, *(part for name in some for part in ("0", name))] for some in chunks(names)]
        await self._connection.fenced("apply", [self._keys.lease, keys.known_open], [json.dumps(commands)])

    async def _wipe(self, shop_id: str) -> None:
        keys = self._keys.shop(shop_id)
        where = [
            keys.state, keys.last_poll_time, keys.known_orders, keys.known_details, keys.known_seen,
            keys.set_aside, keys.known_open, keys.backfill,
        ]  # fmt: skip
        commands: list[list[str | int]] = [["DEL", n] for n in range(1, len(where) + 1)]
        where.append(self._keys.outbox)
        commands.append(["HDEL", len(where), f"rev:{shop_id}"])
        await self._connection.fenced("apply", [self._keys.lease, *where], [json.dumps(commands)])
        self._revs.pop(shop_id, None)

    async def _read_rev(self, shop_id: str) -> str:
        return await self._connection.read("HGET", self._keys.shop(shop_id).state, "rev") or ""

    async def _hash(self, key: str) -> dict[str, str]:
        stored: dict[str, str] = await self._connection.read("HGETALL", key)
        return stored
