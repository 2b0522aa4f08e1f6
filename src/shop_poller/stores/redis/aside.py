"""Keeps copies of damaged rows, and renames keys of the wrong type."""

import json
from collections.abc import Mapping
from datetime import datetime

import structlog

from shop_poller.clock import EPOCH, ms
from shop_poller.core.errors import TemporaryError
from shop_poller.ports import RowSetAside
from shop_poller.stores import stored
from shop_poller.stores.damage import MOST_KEPT, Damage, Original, content
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.connection import RedisConnection, chunks
from shop_poller.stores.redis.keys import LANE, Keys

MOST_SHOWN = 100


class Aside:
    """The copies of damaged rows under one prefix.

    Args:
        connection: the connection to the server.
        keys: the names of the keys.
    """

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._damage = Damage()

    def field(self, one: Original) -> str:
        """Return the field of the hash for the copy of a row."""
        return f"{one.place}{LANE}{one.name}"

    def copy(self, one: Original, now: datetime) -> str:
        """Return the copy of a row as a text."""
        kept = {"shop": one.shop, "reason": "; ".join(one.problems)[:300], "at": ms(now)}
        return json.dumps(kept | {"content": content(one.row)})

    def report(self, one: Original) -> None:
        """Log a damaged row, once."""
        self._damage.report(one.shop, one.place, stored.name_of(one.name), one.problems)

    async def note(self, one: Original, now: datetime) -> None:
        """Log a damaged row and keep a copy, once, if the lease is ours. The next write corrects the row."""
        if (
            not one.problems
            or not self._connection.nonce
            or (one.place, stored.name_of(one.name)) in self._damage.reported
        ):
            return
        self.report(one)
        try:
            if await self._connection.read("HLEN", self._keys.rows_set_aside) < MOST_KEPT:
                command = ["HSET", 1, self.field(one), self.copy(one, now)]
                keys = [self._keys.lease, self._keys.rows_set_aside]
                await self._connection.fenced("apply", keys, [json.dumps([command], ensure_ascii=False)])
        except TemporaryError as error:  # the row must still be read
            structlog.get_logger().warning("a copy of the damaged row could not be kept", error=str(error))

    async def count(self) -> int:
        """Return how many copies there are."""
        return int(await self._connection.read("HLEN", self._keys.rows_set_aside))

    async def prune(self, before: datetime) -> None:
        """Delete copies older than an instant, or with an unreadable date, a bounded number at a time."""
        old: list[str] = []
        async for field, text in self._connection.fields(self._keys.rows_set_aside):
            if _row(field, codec.record(text)).at < before:
                old.append(field)
            if len(old) >= MOST_KEPT:
                break
        for some in chunks(old):
            keys = [self._keys.lease, self._keys.rows_set_aside]
            await self._connection.fenced(
                "apply", keys, [json.dumps([["HDEL", 1, *some]], ensure_ascii=False)]
            )

    async def forget(self) -> int:
        """Delete all copies, some at a time, and return how many there were. Needs no lease."""
        count = 0
        async for fields in self._connection.scan("HSCAN", self._keys.rows_set_aside):
            for some in chunks(list(fields)):
                count += await self._connection.read("HDEL", self._keys.rows_set_aside, *some)
        return count

    async def rows(self) -> list[RowSetAside]:
        """Read the copies, the latest first, a bounded number."""
        found = []
        async for field, text in self._connection.fields(self._keys.rows_set_aside):
            found.append(_row(field, codec.record(text)))
            if len(found) >= MOST_KEPT:
                break
        return sorted(found, key=lambda one: one.at, reverse=True)[:MOST_SHOWN]

    async def move_wrong_keys(self, expected: Mapping[str, str], now: datetime) -> list[str]:
        """Rename the keys of the wrong type.

        Args:
            expected: the type of each key.
            now: becomes part of the new names.

        Returns:
            The keys that were renamed.
        """
        moved = []
        for key, found in (await self.wrong_keys(expected)).items():
            other = f"{key}:wrong_type:{ms(now)}"
            await self._connection.unfenced("move", [key, other], [expected[key]])
            structlog.get_logger().error(
                "a key in Redis has the wrong type and is renamed",
                key=key,
                found=found,
                expected=expected[key],
                renamed_to=other,
            )
            moved.append(key)
        return moved

    async def wrong_keys(self, expected: Mapping[str, str]) -> dict[str, str]:
        """Return the keys that have another type than expected, with their actual type."""
        found = {key: await self._connection.read("TYPE", key) for key in expected}
        return {key: kind for key, kind in found.items() if kind not in {expected[key], "none"}}


def _row(field: str, kept: Mapping[str, object]) -> RowSetAside:
    place, _, name = field.partition(LANE)
    reading = stored.Reading()
    return RowSetAside(
        place=stored.name_of(place),
        name=stored.name_of(name),
        reason=reading.text(kept.get("reason"), "reason", "(cannot be read)"),
        at=reading.moment(kept.get("at"), "at", EPOCH),
    )
