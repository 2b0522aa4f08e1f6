"""Shops: where polling stands, known orders, alerts."""

import json
import re
import secrets
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import structlog

from shop_poller.clock import ms, to_milliseconds
from shop_poller.core import import_walk
from shop_poller.core.cursor import READ_AGAIN
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.model import KnownOrder
from shop_poller.ports import Alert, Backfill, Batch, NewDelivery, ShopState
from shop_poller.stores import stored
from shop_poller.stores.bounds import CLAMP_LIMIT, PRUNE_LIMIT
from shop_poller.stores.damage import Original
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import RedisConnection, RefusedError, chunks
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.records import WIPED, Records

REV = re.compile(r"[0-9a-f]{16}")
UNSURE = 50
"""Most commits in a row of which it is not known whether they were carried out."""


class Shops:
    """The shops under one prefix.

    Args:
        connection: to the server.
        keys: where what stands.
        aside: keeps copies of damaged rows.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside) -> None:
        self._connection = connection
        self._keys = keys
        self._records = Records(connection, keys)
        self._aside = aside
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
        if owner != shop_id and stored.NAME.fullmatch(owner):
            raise PermanentError(
                ErrorKind.STORE,
                f"the keys {self._keys.prefix}* in Redis are those of the shop {owner}, not of {shop_id}; set"
                " SHOP_REDIS_PREFIX to another one, or SHOP_ID to what it was",
            )
        state, problems = codec.shop_state(fields)
        await self._note(Original(shop_id, "state", shop_id, problems, fields))
        return state

    async def _note(self, one: Original) -> None:
        await self._aside.note(one, to_milliseconds(datetime.now(UTC)))

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """A shop's state; its life begins now if it has none, or goes on where another design left it."""
        state = await self.load(shop_id)
        await self._mend_revs(shop_id)
        if not await self._is_whole(shop_id):
            # Part of it was evicted. What is gone could be the news of orders that count as announced: so all
            # begins anew, as from an empty store, and what is young is announced again, by the same ids.
            structlog.get_logger().error(
                "part of the state is gone; beginning anew: set maxmemory-policy noeviction", shop=shop_id
            )
            await self._records.wipe(shop_id)
            self._revs.pop(shop_id, None)
            state = None
        adopted = await self._records.adopt(shop_id, now)
        rev, open_rev = await self._connection.read(
            "HMGET", self._keys.shop(shop_id).state, "rev", "open_rev"
        )
        if adopted or rev is None or rev != open_rev or not await self._records.has_open(shop_id):
            await self._records.find_open(shop_id)
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
        keys, ids = self._keys.shop(shop_id), set[int]()
        for key in (keys.known_orders, keys.known_details):
            async for order_id, _ in self._connection.fields(key):
                if codec.is_id(order_id):
                    ids.add(int(order_id))
        known = await self.known(shop_id, sorted(ids))
        return state, list(known.values())

    async def known(self, shop_id: str, ids: Sequence[int]) -> dict[int, KnownOrder]:
        """What is known of these orders."""
        keys, found = self._keys.shop(shop_id), {}
        for some in chunks(ids):
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

    async def open_orders(self, shop_id: str, after_id: int, limit: int) -> list[int]:
        """Ids of known orders in no last status."""
        key, after = self._keys.shop(shop_id).known_open, codec.open_name(after_id)
        names = await self._connection.read("ZRANGEBYLEX", key, f"({after}", "+", "LIMIT", 0, limit)
        return [int(name) for name in names if codec.is_id(name)]

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come."""
        fields = await self._hash(self._keys.shop(shop_id).backfill)
        if not fields:
            return None
        found, problems = stored.backfill(fields)
        await self._note(Original(shop_id, "backfill", shop_id, problems, fields))
        return found

    async def import_concurrently(
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
            json.dumps([str(ms(position.since)), str(ms(position.created_before)), position.imported]),
        ]
        return int(await self._connection.fenced("import_silently", where, args))

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders that could not be read, with the reason."""
        return {
            int(order_id): text.partition(" ")[2] if stored.is_clean(text) else "(cannot be read)"
            async for order_id, text in self._connection.fields(self._keys.shop(shop_id).set_aside)
            if codec.is_id(order_id)
        }

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts raised and not cleared, by service."""
        found = {}
        for service, text in (await self._hash(self._keys.shop(shop_id).alerts)).items():
            alert, problems = codec.alert(service, text)
            name = stored.name_of(service)
            await self._note(Original(shop_id, "alerts", name, problems, {"service": service, "alert": text}))
            if alert is not None:
                found[service] = alert
        return found

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
            batch.new_deliveries,
            batch.now,
            {
                "state": {"shop": shop_id, **codec.state_fields(batch.state)},
                "last_poll_time": codec.naive_iso(last_poll_at) if last_poll_at else "",
                "seen_at": ms(batch.seen_at),
                "known": [codec.known_row(order) for order in batch.known],
                "set_aside": [
                    [str(o.id), f"{ms(max(batch.now, batch.seen_at))} {o.reason}"] for o in batch.set_aside
                ],
                "mended": [str(order_id) for order_id in batch.mended],
            },
        )

    async def write_alert(
        self,
        shop_id: str,
        service: str,
        alert: Alert | None,
        new_deliveries: Sequence[NewDelivery],
        now: datetime,
    ) -> None:
        """Remember an alert, or forget it, and send that."""
        text = codec.alert_text(alert) if alert else ""
        await self._commit(shop_id, new_deliveries, now, {"alerts": [[service, text]]})

    async def prune(self, shop_id: str, seen_before: datetime) -> int:
        """Drop old records, a bounded number."""
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

    async def redate(self, shop_id: str, after: datetime, to: datetime) -> int:
        """Date back records that are dated in the future, a bounded number."""
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

    async def _commit(
        self, shop_id: str, new_deliveries: Sequence[NewDelivery], now: datetime, what: Mapping[str, Any]
    ) -> None:
        keys = self._keys.shop(shop_id)
        if shop_id not in self._revs:
            self._revs[shop_id] = (await self._read_rev(shop_id), deque(maxlen=UNSURE))
        (certain, unsure), rev = self._revs[shop_id], secrets.token_hex(8)
        lanes: dict[str, list[NewDelivery]] = {}
        for one in new_deliveries:
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

    async def move_wrong_keys(self, shop_id: str, now: datetime, more: Mapping[str, str]) -> None:
        """After one was met: what is no key of ours is renamed, and what it held begun anew.

        Args:
            shop_id: whose keys, besides those that it shares.
            now: is part of the new names.
            more: types of keys whose names are not fixed.
        """
        if not self._connection.has_wrong_type:
            return
        moved = await self._aside.move_wrong_keys({**self._keys.types(shop_id), **more}, now)
        self._connection.has_wrong_type = False
        revs = [await self._connection.read("HGET", key, field) for key, field in self._places(shop_id)]
        rev = next((one for one in revs if one), None)
        if rev is None:
            return
        commands = [
            ["HSET", number, field, rev]
            for number, (key, field) in enumerate(self._places(shop_id), 1)
            if key in moved
        ]
        if commands:
            where = [key for key, _ in self._places(shop_id)]
            await self._connection.fenced("apply", [self._keys.lease, *where], [json.dumps(commands)])
        self._revs.pop(shop_id, None)

    async def _mend_revs(self, shop_id: str) -> None:
        """A revision that is none, in a key that is there, was damaged; the others say what it was.

        One that is gone with its key, or is another revision, is no damage: see `register`.
        """
        places = self._places(shop_id)
        revs = [await self._connection.read("HGET", key, field) for key, field in places]
        good = {rev for rev in revs if rev and REV.fullmatch(rev)}
        if len(good) != 1 or len({*revs}) == 1 or str(revs[0]).startswith(WIPED):
            return
        (rev,) = good
        commands = [
            ["HSET", number, places[number - 1][1], rev]
            for number, found in enumerate(revs, 1)
            if found not in good and await self._connection.read("EXISTS", places[number - 1][0])
        ]
        if commands:
            structlog.get_logger().error("a stored revision is damaged and is set right", shop=shop_id)
            where = [self._keys.lease, *(key for key, _ in places)]
            await self._connection.fenced("apply", where, [json.dumps(commands)])
            self._revs.pop(shop_id, None)

    def _places(self, shop_id: str) -> list[tuple[str, str]]:
        """Where the revision of the last commit stands: key and field."""
        keys = self._keys.shop(shop_id)
        return [(keys.state, "rev"), (keys.known_details, "rev"), (self._keys.outbox, f"rev:{shop_id}")]

    async def _is_whole(self, shop_id: str) -> bool:
        """Whether all hashes are of the same commit."""
        keys, rev = self._keys.shop(shop_id), await self._read_rev(shop_id) or None
        places = ((keys.known_details, "rev"), (self._keys.outbox, f"rev:{shop_id}"))
        return all([await self._connection.read("HGET", key, field) == rev for key, field in places])

    async def _beginning(self, shop_id: str, now: datetime) -> ShopState:
        """Where a shop without a state of ours begins: nowhere, or where the design before this one was."""
        last = await self._connection.read("GET", self._keys.shop(shop_id).last_poll_time)
        last_poll_at = codec.from_naive_iso(last) if last else None
        if (
            last_poll_at is None
            and last
            and await self._connection.read("EXISTS", self._keys.shop(shop_id).known_orders)
        ):
            # Somebody polled, and when cannot be read: of the last days every order that was seen is known.
            problems = ["it is not a valid time"]
            await self._note(Original(shop_id, "last_poll_time", shop_id, problems, {"value": last}))
            last_poll_at = now - READ_AGAIN
        if last_poll_at is None:
            return ShopState(started_at=now)
        return ShopState(
            started_at=now,
            baseline_at=last_poll_at,
            cursor_at=last_poll_at,
            last_poll_at=last_poll_at,
            import_position=import_walk.begin(last_poll_at),
        )

    async def _read_rev(self, shop_id: str) -> str:
        return await self._connection.read("HGET", self._keys.shop(shop_id).state, "rev") or ""

    async def _hash(self, key: str) -> dict[str, str]:
        stored: dict[str, str] = await self._connection.read("HGETALL", key)
        return stored


def _since(text: str) -> int:
    """Since when (ms) an order is set aside, from a field of `set_aside`; 0 if that cannot be read."""
    return stored.Reading().whole(text.partition(" ")[0], "", high=stored.MOST)
