"""Finds dead letters of a shop, and replays or drops them. The daemon may be running."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shop_poller.cli.console import CommandError, store_of
from shop_poller.config.settings import Settings
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text
from shop_poller.ports import DeadLetters
from shop_poller.stores import concurrent_store

AT_ONCE = 100
"""Dead letters per commit: the daemon waits for each commit."""

Action = Literal["replay", "drop"]


class UnknownDeadLetterError(CommandError):
    """There is no dead letter with that id."""

    def __init__(self, seq: int) -> None:
        super().__init__(Text("there is no dead letter {id}; `shop-poller dead list` lists them", id=seq))


class UnknownSinkError(CommandError):
    """No delivery was ever meant for a sink of that name; the text lists the known ones."""

    def __init__(self, name: str, known: Collection[str]) -> None:
        super().__init__(
            Text(
                "no sink is named {name} in the settings or in dead letters; known sinks: {known}",
                name=shown(name, is_name=True),
                known=", ".join(sorted(known)) or Text("none"),
            )
        )


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead letters are meant: those with these ids, or those that match every other field.

    Attributes:
        older_than: time since they failed.
        newer_than: likewise.
    """

    ids: frozenset[int] = frozenset()
    sink: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None
    everything: bool = False

    @property
    def problem(self) -> str:
        """What is wrong with the filter, in one line; "" if nothing is."""
        fits = [self.sink is not None, self.older_than is not None, self.newer_than is not None]
        ways = [bool(self.ids), any(fits), self.everything]
        if sum(ways) == 1:
            return ""
        ask = Text("name their ids, or use --sink, --older-than, --newer-than, or --all")
        if any(ways):
            return Text("{advice}; only one of these", advice=ask)
        return Text("which dead letters? {advice}", advice=ask)

    async def find(self, dead_letters: DeadLetters, shop: str, now: datetime) -> list[int]:
        """Return the ids of the dead letters that match, in the order of their events.

        Raises:
            UnknownDeadLetterError: there is none with one of the ids.
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
            raise UnknownDeadLetterError(missing)
        return [seq for seq in found if seq in self.ids]


@dataclass(frozen=True, slots=True)
class DeadLettersChanged:
    """What `move` did.

    Attributes:
        moved: dead letters that still existed when they were processed.
        found: those that matched before.
        orphans: sinks with waiting deliveries that no setting names.
    """

    moved: int
    found: int
    orphans: tuple[str, ...] = ()


async def find(settings: Settings, choice: DeadLetterFilter) -> list[int]:
    """Find the dead letters that match; nothing is changed.

    Returns:
        Their ids, in the order of their events.

    Raises:
        UnknownDeadLetterError: there is none with one of the ids.
        UnknownSinkError: there is no such sink.
        PermanentError, TemporaryError: STORE.
    """
    shop = settings.shop
    async with store_of(settings, concurrent_store) as store:
        await store.load(shop)  # raises if the state belongs to another shop
        found = await choice.find(store, shop, store.now())
        if not found and choice.sink is not None:
            stats = await store.stats(shop)
            sinks = {sink.name for sink in settings.sinks} | {*stats.sinks}
            if choice.sink not in sinks:
                raise UnknownSinkError(choice.sink, sinks)
    return found


async def move(settings: Settings, action: Action, seqs: Sequence[int]) -> DeadLettersChanged:
    """Replay or drop dead letters, a hundred at a time, in this order.

    Raises:
        PermanentError, TemporaryError: STORE; run it again to resume, none is replayed twice.
    """
    shop, moved = settings.shop, 0
    async with store_of(settings, concurrent_store) as store:
        for start in range(0, len(seqs), AT_ONCE):
            some = seqs[start : start + AT_ONCE]
            if action == "drop":
                moved += await store.drop_concurrently(shop, some)
            else:
                moved += await store.replay_concurrently(shop, some, store.now())
        stats = await store.stats(shop)
    named = {sink.name for sink in settings.sinks}
    waiting = (name for name, sink in stats.sinks.items() if sink.waiting and name not in named)
    return DeadLettersChanged(moved, len(seqs), tuple(waiting) if action == "replay" else ())
