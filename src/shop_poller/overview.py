"""What the status page shows and does, put together from the store and from what works here."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import anyio

from shop_poller import __version__
from shop_poller.alarm import TOLD
from shop_poller.core.errors import ShopPollerError
from shop_poller.monitor import Monitor
from shop_poller.ports import Settled, SinkStats, Stats, Store
from shop_poller.web.glance import Asked, Glance, Happening, SinkGlance

HOURS = 24
HAPPENINGS, DELIVERIES, LETTERS = 12, 60, 10
"""Events that are shown, deliveries that are read for them, dead letters."""
COUNT_EVERY_S = 15.0
"""The day's counts are the dearest thing to read, and change the least."""


class Overview:
    """Sees the whole of one shop. For the methods see web.glance.Inside.

    Args:
        shop: the shop's id.
        sinks: the names of the sinks.
        titles: of the owner's own events, by their names.
        polling: whether the shop is to be polled.
        in_redis: the store is Redis; else a file.
        store: is read; dead letters are moved in it.
        monitor: knows the health, and what works here.
        on_outgoing: called when something waits in the outbox.
    """

    def __init__(
        self,
        *,
        shop: str,
        sinks: Sequence[str],
        titles: Mapping[str, str],
        polling: bool,
        in_redis: bool,
        store: Store,
        monitor: Monitor,
        on_outgoing: Callable[[], None],
    ) -> None:
        self._shop = shop
        self._sinks = sinks
        self._titles = titles
        self._polling = polling
        self._in_redis = in_redis
        self._store = store
        self._monitor = monitor
        self._on_outgoing = on_outgoing
        self._counts: tuple[list[int], list[int]] | None = None
        self._counted_at = 0.0
        self._counted_dead = 0

    async def glance(self) -> Glance:
        """How it goes; what the store does not tell is left out."""
        health = await self._monitor.health()
        tenure = self._monitor.tenure
        seen = Glance(
            shop=self._shop,
            version=__version__,
            now=self._store.now(),
            polling=self._polling,
            leads=tenure is not None,
            in_redis=self._in_redis,
            failure=tenure.poller.failure if tenure is not None else None,
            illness=health.get("reason", ""),
            next_in_s=tenure.poller.next_in_s if tenure is not None and self._polling else None,
            sinks=self._with_sinks(Stats()),
            titles=self._titles,
        )
        try:
            return await self._read(seen)
        except ShopPollerError as error:
            return replace(seen, trouble=str(error))

    async def _read(self, seen: Glance) -> Glance:
        store, shop = self._store, self._shop
        stats = await store.stats(shop)
        alerts = await store.alerts(shop)
        made = await store.settled(shop, dead=False, limit=DELIVERIES)
        dead = await store.settled(shop, dead=True, limit=LETTERS)
        good, bad = await self._by_the_hour(sum(sink.dead for sink in stats.sinks.values()))
        return replace(
            seen,
            leader="" if seen.leads else await store.holder(),
            state=await store.load(shop),
            known=stats.known,
            set_aside=stats.set_aside,
            alerts=[alert for name, alert in alerts.items() if not name.startswith(TOLD)],
            sinks=self._with_sinks(stats),
            happenings=_happenings(made, dead),
            dead=dead,
            made=good,
            buried=bad,
        )

    async def _by_the_hour(self, letters: int) -> tuple[list[int], list[int]]:
        """The day's counts, young enough and not at odds with the number of dead letters beside them."""
        old = anyio.current_time() - self._counted_at >= COUNT_EVERY_S
        if self._counts is None or old or letters != self._counted_dead:
            now = self._store.now()
            self._counts = (
                await self._store.by_the_hour(self._shop, dead=False, before=now, hours=HOURS),
                await self._store.by_the_hour(self._shop, dead=True, before=now, hours=HOURS),
            )
            self._counted_at, self._counted_dead = anyio.current_time(), letters
        return self._counts

    def _with_sinks(self, stats: Stats) -> list[SinkGlance]:
        """The sinks of the settings as they stand there, then those that only the store knows."""
        tenure = self._monitor.tenure
        dispatchers = dict(zip(self._sinks, tenure.dispatchers, strict=True)) if tenure is not None else {}
        found = []
        for name in (*self._sinks, *sorted(set(stats.sinks).difference(self._sinks))):
            stored, dispatcher = stats.sinks.get(name, SinkStats()), dispatchers.get(name)
            if dispatcher is None:
                found.append(SinkGlance(name, stored, named=name in self._sinks))
                continue
            since = dispatcher.failing_since
            found.append(
                SinkGlance(
                    name,
                    stored,
                    held=dispatcher.held,
                    breaker=dispatcher.breaker,
                    gone=dispatcher.gone,
                    failing_since=since,
                    ailment=dispatcher.ailment if since is not None else None,
                )
            )
        return found

    async def poll_now(self) -> tuple[Asked, float]:
        """Tick soon."""
        if not self._polling:
            return Asked.OFF, 0.0
        tenure = self._monitor.tenure
        if tenure is None:  # without a store that says so there may be no other replica
            return Asked.FOLLOWS if await self._store.holder() else Asked.NOBODY, 0.0
        tenure.poller.hint()
        return Asked.DONE, tenure.poller.left_alone_s

    async def replay(self, seq: int) -> Asked:
        """Put a dead letter back; whoever leads sends it."""
        moved = await self._store.replay_beside(self._shop, [seq], self._store.now())
        self._on_outgoing()
        return Asked.DONE if moved else Asked.MISSING

    async def drop(self, seq: int) -> Asked:
        """Forget a dead letter."""
        moved = await self._store.drop_beside(self._shop, [seq])
        return Asked.DONE if moved else Asked.MISSING


def _happenings(made: Sequence[Settled], dead: Sequence[Settled]) -> list[Happening]:
    """The latest events, each with what became of its deliveries."""
    by_event: dict[str, list[Settled]] = {}
    for one in sorted((*made, *dead), key=lambda over: (over.at, over.seq), reverse=True):
        by_event.setdefault(one.event_id, []).append(one)
    groups = list(by_event.values())[:HAPPENINGS]
    return [Happening(group[0].event_type, group[0].key, group) for group in groups]
