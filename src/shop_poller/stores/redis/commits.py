"""Commits, and their revisions. A revision shows whether the state is as this process left it."""

import json
import re
import secrets
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import anyio
import structlog

from shop_poller.clock import ms
from shop_poller.ports import NewDelivery
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.connection import RedisConnection, RefusedError
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.records import WIPED

REV = re.compile(r"[0-9a-f]{16}")
UNSURE = 50
"""Most consecutive commits without an answer whose revisions are remembered."""


class Commits:
    """Commits to the keys under one prefix.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
        aside: renames keys of the wrong type.
    """

    def __init__(self, connection: RedisConnection, keys: Keys, aside: Aside) -> None:
        self._connection = connection
        self._keys = keys
        self._aside = aside
        # A shop has one commit at a time. The server may receive two in the wrong order. Then the one that
        # was sent first would not know the revision of the other.
        self._locks: defaultdict[str, anyio.Lock] = defaultdict(anyio.Lock)
        # The revisions that may be ours: of the last commit, and of later commits without an answer.
        self._revs: dict[str, tuple[str, deque[str]]] = {}

    def forget(self) -> None:
        """Read the revisions of all shops again before the next commit: others may have written meanwhile."""
        self._revs.clear()

    def forget_shop(self, shop_id: str) -> None:
        """Read the revision of one shop again before its next commit."""
        self._revs.pop(shop_id, None)

    async def commit(
        self, shop_id: str, new_deliveries: Sequence[NewDelivery], now: datetime, what: Mapping[str, Any]
    ) -> None:
        """Write the changes of a shop and its new deliveries in one atomic step.

        Args:
            shop_id: the id of the shop.
            new_deliveries: the deliveries that become rows of the outbox.
            now: the time since when they wait.
            what: the parts of the batch for scripts/commit.lua. Omitted parts do not change.
        """
        async with self._locks[shop_id]:
            await self._commit(shop_id, new_deliveries, now, what)

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
        unsure.append(rev)  # from here on it may be the stored revision, even without an answer
        try:
            await self._connection.fenced("commit", where, args)
        except RefusedError:
            unsure.remove(rev)
            raise
        self._revs[shop_id] = (rev, deque(maxlen=UNSURE))

    async def move_wrong_keys(self, shop_id: str, now: datetime, more: Mapping[str, str]) -> None:
        """Rename keys of the wrong type, if one was found, and write the revision again where it was.

        Args:
            shop_id: the shop whose keys are checked, besides the shared ones.
            now: becomes part of the new names.
            more: the types of keys whose names are not fixed.
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

    async def mend_revs(self, shop_id: str) -> None:
        """Correct a damaged revision from the others.

        A revision that is gone with its key, or is another valid one, is not damaged: see `register`.
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
            structlog.get_logger().error("a stored revision is damaged and is corrected", shop=shop_id)
            where = [self._keys.lease, *(key for key, _ in places)]
            await self._connection.fenced("apply", where, [json.dumps(commands)])
            self._revs.pop(shop_id, None)

    async def is_whole(self, shop_id: str) -> bool:
        """Return whether all hashes are of the same commit."""
        keys, rev = self._keys.shop(shop_id), await self._read_rev(shop_id) or None
        places = ((keys.known_details, "rev"), (self._keys.outbox, f"rev:{shop_id}"))
        return all([await self._connection.read("HGET", key, field) == rev for key, field in places])

    def _places(self, shop_id: str) -> list[tuple[str, str]]:
        """Return where the revision of the last commit is stored: keys and fields."""
        keys = self._keys.shop(shop_id)
        return [(keys.state, "rev"), (keys.known_details, "rev"), (self._keys.outbox, f"rev:{shop_id}")]

    async def _read_rev(self, shop_id: str) -> str:
        return await self._connection.read("HGET", self._keys.shop(shop_id).state, "rev") or ""
