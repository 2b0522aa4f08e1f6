"""Collects the data of the status page from the store and the running session, and performs its actions."""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta, tzinfo

import anyio

from shop_poller import __version__
from shop_poller.alerts import MARKERS
from shop_poller.core.errors import ShopPollerError
from shop_poller.delivery.gathering import NO_TIMINGS, SinkTiming
from shop_poller.mutes import PREFIXES, stored_event_mutes, stored_mutes
from shop_poller.ports import (
    Alert,
    DeadLetters,
    DeliveryHistory,
    FinishedDelivery,
    SinkStats,
    StateView,
    Stats,
)
from shop_poller.runtime.leader_session import SessionSnapshot
from shop_poller.runtime.shop_summary import StoredSummary, read_summary
from shop_poller.runtime.status import HealthReporter
from shop_poller.web.snapshot import ActionResult, RecentEvent, SinkSnapshot, StatusSnapshot

HOURS = 24
RECENT_EVENTS, DELIVERIES, DEAD_LETTERS = 12, 60, 10
"""The most events shown, deliveries read for them, and dead letters shown."""
COUNT_EVERY_S = 15.0
"""How often the counts of the day are read: they cost the most and change the least."""


class Overview:
    """Collects the data of one shop. For the methods see web.snapshot.PageBackend.

    Args:
        shop: the shop's id.
        sinks: the names of the sinks.
        events: the names of all events.
        titles: of the owner's own events, by the events' names.
        polling: whether the shop is polled.
        in_redis: whether the store is Redis; else it is a file.
        store: the state of the shop.
        history: the deliveries of the shop.
        dead_letters: replays and deletes dead letters.
        health_reporter: reports the health.
        session: returns a snapshot of our leader session; None while another replica leads.
        poll_now: makes this process poll soon; returns whether it polls.
        mute: mutes a sink, or some events of it, for some seconds, 0 to unmute; returns whether this process
            delivers.
        on_new_deliveries: called when deliveries were added to the outbox.
        timings: of the sinks that do not receive all at once, by name.
    """

    def __init__(
        self,
        *,
        shop: str,
        sinks: Sequence[str],
        events: frozenset[str],
        titles: Mapping[str, str],
        polling: bool,
        in_redis: bool,
        store: StateView,
        history: DeliveryHistory,
        dead_letters: DeadLetters,
        health_reporter: HealthReporter,
        session: Callable[[], SessionSnapshot | None],
        poll_now: Callable[[], bool],
        mute: Callable[[str, float, Sequence[str]], Awaitable[bool]],
        on_new_deliveries: Callable[[], None],
        timings: Mapping[str, SinkTiming] = NO_TIMINGS,
    ) -> None:
        self._timings = timings
        self._shop = shop
        self._sinks = sinks
        self._events = events
        self._titles = titles
        self._polling = polling
        self._in_redis = in_redis
        self._store = store
        self._history = history
        self._dead_letters = dead_letters
        self._health_reporter = health_reporter
        self._session = session
        self._poll_now = poll_now
        self._mute = mute
        self._on_new_deliveries = on_new_deliveries
        self._counts: tuple[list[int], list[int]] | None = None
        self._counted_at = 0.0
        self._counted_dead = 0

    async def snapshot(self) -> StatusSnapshot:
        """Return the data of the page, without the store's part if the store cannot be read."""
        health = await self._health_reporter.health()
        snapshot = self._known(health.get("reason", ""), self._session(), Stats())
        try:
            return await self._read(snapshot)
        except ShopPollerError as error:
            return replace(snapshot, trouble=error.text)

    async def read_summary(self, zone: tzinfo | None) -> StoredSummary:
        """Return what the overview of several shops shows of the store; never raises."""
        found = await read_summary(self._store, self._history, self._shop, zone)
        self._health_reporter.followed(found.state)
        return found

    def summary(self, stored: StoredSummary) -> StatusSnapshot:
        """Return the data of the overview of several shops, without reading the store."""
        session = self._session()
        snapshot = self._known(self._health_reporter.unhealthy_reason() or "", session, stored.stats)
        if stored.trouble:
            return replace(snapshot, trouble=stored.trouble)
        return replace(
            snapshot,
            leader="" if snapshot.leads else stored.leader,
            state=session.state if session is not None else stored.state,
            known=stored.stats.known,
            set_aside=stored.stats.set_aside,
            rows_set_aside=stored.stats.rows_set_aside,
            alerts=_active(stored.alerts),
            sinks=_with_mutes(snapshot.sinks, stored.alerts, snapshot.now)
            if stored.alerts
            else snapshot.sinks,
        )

    def _known(self, unhealthy_reason: str, session: SessionSnapshot | None, stats: Stats) -> StatusSnapshot:
        """Return what this process knows without the store, and the counts of a store."""
        return StatusSnapshot(
            shop=self._shop,
            version=__version__,
            now=self._store.now(),
            polling=self._polling,
            leads=session is not None,
            in_redis=self._in_redis,
            failure=session.failure if session is not None else None,
            unhealthy_reason=unhealthy_reason,
            next_in_s=session.next_in_s if session is not None and self._polling else None,
            sinks=self._with_sinks(stats, session),
            titles=self._titles,
            clock=self._health_reporter.clock.trouble(),
            is_circuit_open=session is not None and session.is_circuit_open,
        )

    async def _read(self, snapshot: StatusSnapshot) -> StatusSnapshot:
        store, shop = self._store, self._shop
        stats = await store.stats(shop)
        alerts = await store.alerts(shop)
        delivered = await self._history.finished(shop, dead=False, limit=DELIVERIES)
        dead = await self._history.finished(shop, dead=True, limit=DEAD_LETTERS)
        good, bad = await self._by_the_hour(sum(sink.dead for sink in stats.sinks.values()))
        return replace(
            snapshot,
            leader="" if snapshot.leads else await store.holder(),
            state=await store.load(shop),
            known=stats.known,
            set_aside=stats.set_aside,
            rows_set_aside=stats.rows_set_aside,
            alerts=_active(alerts),
            sinks=_with_mutes(self._with_sinks(stats, self._session()), alerts, snapshot.now),
            recent_events=_recent_events(delivered, dead),
            dead=dead,
            delivered=good,
            dead_lettered=bad,
        )

    async def _by_the_hour(self, dead_letters: int) -> tuple[list[int], list[int]]:
        """Return the day's counts. They are recent and match the number of dead letters on the page."""
        old = anyio.current_time() - self._counted_at >= COUNT_EVERY_S
        if self._counts is None or old or dead_letters != self._counted_dead:
            now = self._store.now()
            self._counts = (
                await self._history.by_the_hour(self._shop, dead=False, before=now, hours=HOURS),
                await self._history.by_the_hour(self._shop, dead=True, before=now, hours=HOURS),
            )
            self._counted_at, self._counted_dead = anyio.current_time(), dead_letters
        return self._counts

    def _with_sinks(self, stats: Stats, session: SessionSnapshot | None) -> list[SinkSnapshot]:
        """Return the sinks in the order of the settings, then those that only the store contains."""
        here = dict(zip(self._sinks, session.deliveries, strict=True)) if session is not None else {}
        found = []
        for name in (*self._sinks, *sorted(set(stats.sinks).difference(self._sinks))):
            stored, deliveries = stats.sinks.get(name, SinkStats()), here.get(name)
            sink = SinkSnapshot(name, stored, named=name in self._sinks)
            if deliveries is not None:
                sink = SinkSnapshot(
                    name,
                    stored,
                    in_flight=deliveries.in_flight,
                    breaker=deliveries.breaker,
                    gone=deliveries.gone,
                    failing_since=deliveries.failing_since,
                    last_error_kind=deliveries.last_error_kind,
                )
            found.append(self._with_timing(sink))
        return found

    def _with_timing(self, sink: SinkSnapshot) -> SinkSnapshot:
        timing = self._timings.get(sink.name)
        if timing is None:
            return sink
        now, oldest_at = self._store.now(), sink.stored.oldest_at
        until = timing.quiet_until(now)
        age = timedelta(0) if oldest_at is None else max(now - oldest_at, timedelta(0))
        return replace(
            sink,
            quiet_until=until.astimezone(timing.zone) if until else None,
            quiet_time=age - timing.open_time(age, now),
        )

    async def poll_now(self) -> ActionResult:
        """Poll soon, even during a pause."""
        if not self._polling:
            return ActionResult.POLLING_OFF
        if self._poll_now():
            return ActionResult.DONE
        return await self._no_leader()

    async def mute(self, sink: str, for_s: float, events: Sequence[str] = ()) -> ActionResult:
        """Mute a sink of the settings or some events of it, or unmute with 0."""
        if sink not in self._sinks:
            return ActionResult.NO_SINK
        if not self._events.issuperset(events):
            return ActionResult.NO_EVENT
        return ActionResult.DONE if await self._mute(sink, for_s, events) else await self._no_leader()

    async def _no_leader(self) -> ActionResult:
        # If no process has the lease, no other replica polls and delivers either.
        return ActionResult.NOT_LEADER if await self._store.holder() else ActionResult.NO_LEADER

    async def replay(self, seq: int) -> ActionResult:
        """Put a dead letter back into the outbox. The leader sends it."""
        moved = await self._dead_letters.replay_concurrently(self._shop, [seq], self._store.now())
        self._on_new_deliveries()
        return ActionResult.DONE if moved else ActionResult.MISSING

    async def drop(self, seq: int) -> ActionResult:
        """Delete a dead letter."""
        moved = await self._dead_letters.drop_concurrently(self._shop, [seq])
        return ActionResult.DONE if moved else ActionResult.MISSING


def _active(alerts: Mapping[str, Alert]) -> list[Alert]:
    """Return the alerts about services; other stored alerts are notes of ours."""
    return [alert for name, alert in alerts.items() if not name.startswith((*MARKERS, *PREFIXES))]


def _with_mutes(
    sinks: Iterable[SinkSnapshot], alerts: Mapping[str, Alert], now: datetime
) -> list[SinkSnapshot]:
    until, events = stored_mutes(alerts, now), stored_event_mutes(alerts, now)

    def left_s(at: datetime) -> float:
        return max(0.0, (at - now).total_seconds())

    return [
        replace(
            sink,
            muted_s=left_s(until.get(sink.name, now)),
            muted_events={name: left_s(at) for name, at in events.get(sink.name, {}).items()},
        )
        for sink in sinks
    ]


def _recent_events(
    delivered: Sequence[FinishedDelivery], dead: Sequence[FinishedDelivery]
) -> list[RecentEvent]:
    """Return the latest events, each with the outcomes of its deliveries."""
    by_event: dict[str, list[FinishedDelivery]] = {}
    for one in sorted((*delivered, *dead), key=lambda over: (over.at, over.seq), reverse=True):
        by_event.setdefault(one.event_id, []).append(one)
    groups = list(by_event.values())[:RECENT_EVENTS]
    return [RecentEvent(group[0].event_type, group[0].key, group) for group in groups]
