"""Deliveries that are over, beside the daemon: dead letters to look at, replay, drop; what was delivered."""

import json
from collections.abc import AsyncGenerator, Collection, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import anyio

from shop_poller.config.settings import Settings
from shop_poller.core.model import iso
from shop_poller.core.showing import shown
from shop_poller.ports import DeadLetter, DeadLetters, FinishedDelivery, Store
from shop_poller.stores import concurrent_store, follow_store, peek_store
from shop_poller.stores.bounds import MAX_FINISHED

AT_ONCE = 100
"""Dead letters of one commit: the daemon waits for it."""
LOOK_EVERY_S = 1.0
SHOWN_FIRST, PAGE = 10, 100
LONG_AGO = datetime.min.replace(tzinfo=UTC)
LATE = timedelta(seconds=15)
"""Deliveries of several sinks are not recorded quite in the order of their times."""

Action = Literal["replay", "drop"]


class UnknownLetterError(Exception):
    """There is no dead letter of that id; one line, what to do in it."""

    def __init__(self, seq: int) -> None:
        super().__init__(f"there is no dead letter {seq}; `shop-poller dead list` shows those that there are")


class UnknownSinkError(Exception):
    """Nothing was ever for a sink of that name; one line, with those that there are."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        named, there = shown(name, is_name=True), ", ".join(sorted(known)) or "none"
        super().__init__(f"there is no sink {named} in the settings or with dead letters; there are {there}")


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: these, or those that fit all that is given.

    Attributes:
        older_than: since they were buried.
        newer_than: likewise.
    """

    ids: frozenset[int] = frozenset()
    sink: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    everything: bool = False

    @property
    def problem(self) -> str:
        """What is wrong with it, in one line; "" if nothing is."""
        fits = [self.sink is not None, self.older_than is not None, self.newer_than is not None]
        ways = [bool(self.ids), any(fits), self.everything]
        if sum(ways) == 1:
            return ""
        ask = "name their ids, or choose by --sink, --older-than, --newer-than, or say --all"
        return f"{ask}; one of these" if any(ways) else f"which dead letters? {ask}"

    async def find(self, dead_letters: DeadLetters, shop: str, now: datetime) -> list[int]:
        """Their ids, in the order of their events.

        Raises:
            UnknownLetterError: one that was named is not there.
        """
        found = await dead_letters.dead_ids(
            shop,
            sink=self.sink,
            since=None if self.newer_than is None else now - self.newer_than,
            before=None if self.older_than is None else now - self.older_than,
        )
        if not self.ids:
            return found
        for missing in sorted(self.ids.difference(found)):
            raise UnknownLetterError(missing)
        return [seq for seq in found if seq in self.ids]


@dataclass(frozen=True, slots=True)
class DeadLettersChanged:
    """What was done.

    Attributes:
        moved: letters that were there still when their turn came.
        orphans: sinks that deliveries wait for and that no setting names.
    """

    moved: int
    orphans: tuple[str, ...] = ()


async def find(settings: Settings, choice: DeadLetterFilter) -> list[int]:
    """See which dead letters a choice comes to; nothing is changed.

    Returns:
        Their ids, in the order of their events.

    Raises:
        UnknownLetterError: one that was named is not there.
        UnknownSinkError: there is no such sink.
        PermanentError, TemporaryError: STORE.
    """
    shop = settings.shop
    store = await concurrent_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        await store.load(shop)  # or are they another shop's?
        found = await choice.find(store, shop, store.now())
        if not found and choice.sink is not None:
            stats = await store.stats(shop)
            sinks = {sink.name for sink in settings.sinks} | {*stats.sinks}
            if choice.sink not in sinks:
                raise UnknownSinkError(choice.sink, sinks)
    return found


async def move(settings: Settings, action: Action, seqs: Sequence[int]) -> DeadLettersChanged:
    """Replay or drop dead letters, a hundred at a time, in this order.

    Args:
        settings: as loaded.
        action: which of the two.
        seqs: see `find`.

    Raises:
        PermanentError, TemporaryError: STORE; run it again to go on, none is replayed twice.
    """
    shop, moved = settings.shop, 0
    store = await concurrent_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        for start in range(0, len(seqs), AT_ONCE):
            some = seqs[start : start + AT_ONCE]
            if action == "drop":
                moved += await store.drop_concurrently(shop, some)
            else:
                moved += await store.replay_concurrently(shop, some, store.now())
        stats = await store.stats(shop)
    named = {sink.name for sink in settings.sinks}
    waiting = (name for name, sink in stats.sinks.items() if sink.waiting and name not in named)
    return DeadLettersChanged(moved, tuple(waiting) if action == "replay" else ())


async def over(settings: Settings, *, dead: bool, sink: str | None, limit: int) -> list[FinishedDelivery]:
    """Dead letters, or deliveries that were made, the latest first; raises STORE errors."""
    async with aclosing(await _peek(settings)) as store:
        await store.load(settings.shop)
        return await store.finished(settings.shop, dead=dead, limit=limit, sink=sink)


async def letter(settings: Settings, seq: int) -> DeadLetter:
    """One dead letter; raises UnknownLetterError, or STORE errors."""
    async with aclosing(await _peek(settings)) as store:
        await store.load(settings.shop)
        found = await store.dead_letter(settings.shop, seq)
    if found is None:
        raise UnknownLetterError(seq)
    return found


async def tail(settings: Settings, sink: str | None) -> AsyncGenerator[FinishedDelivery]:
    """The last few deliveries that were made, then every one as it is made; never ends by itself."""
    shop = settings.shop
    store = await follow_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    async with aclosing(store):
        await store.load(shop)
        found = await store.finished(shop, dead=False, limit=PAGE, sink=sink)
        for one in reversed(found[:SHOWN_FIRST]):
            yield one
        # Whatever was delivered after the horizon and is not seen is new.
        horizon, now = (found[-1].at if len(found) == PAGE else LONG_AGO), store.now()
        seen = {one.seq: one.at for one in found}
        while True:
            await anyio.sleep(LOOK_EVERY_S)
            await store.ask_clock()
            before, now = now, store.now()
            if now < before:  # the clock was set back: what is later than now was delivered before that
                horizon = min(horizon, now - LATE)
                later = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=now)
                seen |= {one.seq: one.at for one in later}
            fresh = await store.finished(shop, dead=False, limit=MAX_FINISHED, sink=sink, after=horizon)
            for one in reversed(fresh):
                if one.seq not in seen:
                    seen[one.seq] = one.at
                    yield one
            horizon = max([horizon, *(at - LATE for at in seen.values() if at <= now)])
            seen = {seq: at for seq, at in seen.items() if at > horizon}


async def _peek(settings: Settings) -> Store:
    return await peek_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)


def as_dict(one: FinishedDelivery) -> dict[str, Any]:
    """One delivery that is over, for programs."""
    return {
        "id": one.seq,
        "sink": one.sink,
        "key": one.key,
        "event_id": one.event_id,
        "event_type": one.event_type,
        "attempts": one.attempts,
        "at": iso(one.at),
        "reason": one.reason,
    }


def dead_line(one: FinishedDelivery) -> str:
    """One dead letter, for people."""
    failed = f"{one.attempts} failed attempts"
    return f"{one.seq:>8}  {iso(one.at)}  {one.sink}  {one.key}  {one.event_type}  {failed}  {one.reason}"


def delivered_line(one: FinishedDelivery) -> str:
    """One delivery that was made, for people."""
    return f"{iso(one.at)}  {one.sink}  {one.key}  {one.event_type}  {one.event_id}"


def dead_letter_lines(found: DeadLetter) -> list[str]:
    """All of a dead letter, for people."""
    one = found.over
    return [
        f"id           {one.seq}",
        f"sink         {one.sink}",
        f"key          {one.key}",
        f"event        {one.event_type}",
        f"event id     {one.event_id}",
        f"queued       {iso(found.created_at)}",
        f"given up     {iso(one.at)}",
        f"attempts     {one.attempts} failed",
        f"reason       {one.reason}",
        # Not splitlines: a text in it may have a line separator that JSON does not escape.
        *json.dumps(json.loads(found.body), ensure_ascii=False, indent=2).split("\n"),
    ]
