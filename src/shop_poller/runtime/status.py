"""Reports health, readiness and metrics of one shop of a running daemon."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timedelta

import anyio
from prometheus_client import generate_latest

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.schedule import stale, unhealthy_reason
from shop_poller.delivery.gathering import NO_TIMINGS, SinkTiming
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import ShopState, SinkStats, StateView, Stats
from shop_poller.runtime.leader_session import SessionHealth


class HealthReporter:
    """Reports the status of one shop. For the methods see web.routes.HealthSource.

    Args:
        shop: the shop's id.
        polling: whether the shop is polled.
        sinks: the names of the sinks.
        store: shared with the other replicas.
        metrics: of the shop.
        interval_s: seconds between ticks.
        session: returns the health of our leader session; None while another replica leads.
        clock: the store's clock.
        timings: of the sinks that do not receive all at once, by name.
    """

    def __init__(
        self,
        *,
        shop: str,
        polling: bool,
        sinks: tuple[str, ...],
        store: StateView,
        metrics: Metrics,
        interval_s: float,
        session: Callable[[], SessionHealth | None],
        clock: ClockWatch,
        timings: Mapping[str, SinkTiming] = NO_TIMINGS,
    ) -> None:
        self._timings = timings
        self.clock = clock
        self._session = session
        self._shop = shop
        self._polling = polling
        self._sinks = sinks
        self._store = store
        self._metrics = metrics
        self._interval_s = interval_s
        self._followed_at: datetime | None = None  # the last good poll of the leader, as far as we know
        self._made_at_s = anyio.current_time()

    async def health(self) -> dict[str, str]:
        """Return whether polls and deliveries work. A follower judges by the leader's stored state."""
        if self._session() is None:
            await self._follow()
        reason = self.unhealthy_reason()
        trouble = self.clock.trouble()
        clock = {"clock": str(trouble)} if trouble else {}
        if reason is not None:
            return {"status": "unhealthy", "reason": reason, **clock}
        return {"status": "healthy", **({} if self._polling else {"polling": "disabled"}), **clock}

    def unhealthy_reason(self) -> str | None:
        """Return why polls or deliveries do not work, by what is known without reading the store."""
        session = self._session()
        heartbeat_at, now = self._heartbeat()
        return unhealthy_reason(
            polling=self._polling,
            heartbeat_at=heartbeat_at,
            now=now,
            interval_s=self._interval_s,
            senders_alive=session.senders_alive if session is not None else 1,
        )

    def session_ended(self, heartbeat_at: datetime) -> None:
        """Record the last good poll of our own session, because the store may become unreadable."""
        self._followed_at = heartbeat_at

    async def readiness(self) -> dict[str, str]:
        """Return whether the store can be read and the shop has answered, and which process leads."""
        try:
            state = await self._store.load(self._shop)
            leader = "this one" if self._session() is not None else await self._store.holder()
        except ShopPollerError as error:
            return {"status": "not ready", "reason": str(error)}
        if self._polling and not self._has_polled(state):
            return {"status": "not ready", "reason": "no good poll yet", "leader": leader}
        return {"status": "ready", "leader": leader}

    async def exposition(self) -> bytes:
        """Return all metrics. If the store cannot be read, its metrics keep their last values."""
        self._metrics.healthy.set((await self.health())["status"] == "healthy")
        with suppress(ShopPollerError):
            await self.update_metrics()
        return generate_latest(self._metrics.registry)

    async def update_metrics(self) -> Stats:
        """Count the rows in the store, update the metrics, and return the counts.

        Raises:
            TemporaryError, PermanentError: STORE, it cannot be read.
        """
        try:
            stats = await self._store.stats(self._shop)
        except ShopPollerError:
            self._metrics.store_error(StoreUse.LOOK)
            raise
        now = self._store.now()
        self._metrics.known.set(stats.known)
        self._metrics.rows_set_aside.set(stats.rows_set_aside)
        for sink in self._sinks:
            waiting = stats.sinks.get(sink, SinkStats())
            age_s, timing = _age_s(waiting.oldest_at, now), self._timings.get(sink)
            if timing is not None:
                age_s = timing.open_time(timedelta(seconds=age_s), now).total_seconds()
            self._metrics.outbox(
                sink,
                waiting=waiting.waiting,
                oldest_age_s=age_s,
                dead=waiting.dead,
            )
        return stats

    @property
    def is_stale(self) -> bool:
        """Return whether the last good poll that this process knows is too old."""
        heartbeat_at, now = self._heartbeat()
        return stale(heartbeat_at, now, interval_s=self._interval_s)

    def _heartbeat(self) -> tuple[datetime, datetime]:
        """Return the last good poll and the present. Their difference is correct even if the clock was set.

        Until a good poll is known, the time counts from the start. It is measured on the event loop's clock,
        because the clock of Redis is unknown until Redis answers.
        """
        session = self._session()
        last_good = session.heartbeat_at if session is not None else self._followed_at
        if last_good is None:
            now = self.clock.now()
            return now - timedelta(seconds=anyio.current_time() - self._made_at_s), now
        return last_good, last_good + self.clock.elapsed(last_good)

    def _has_polled(self, state: ShopState | None) -> bool:
        session = self._session()
        if session is not None:
            return session.has_polled
        return state is not None and state.last_poll_at is not None

    async def _follow(self) -> None:
        try:
            state = await self._store.load(self._shop)
        except ShopPollerError:
            return
        self.followed(state)

    def followed(self, state: ShopState | None) -> None:
        """Record the last good poll of the leader, as it is stored."""
        if state is not None and state.last_poll_at is not None:
            self._followed_at = state.last_poll_at


def _age_s(since: datetime | None, now: datetime) -> float:
    """Return the seconds since then; 0 if it is in the future by our clock, or None."""
    return max((now - since).total_seconds(), 0.0) if since else 0.0
