"""How it goes: health, readiness and metrics of a running daemon."""

from contextlib import suppress
from datetime import datetime

from prometheus_client import generate_latest

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.health import illness
from shop_poller.core.schedule import stale
from shop_poller.metrics import Metrics, StoreUse
from shop_poller.ports import ShopState, SinkStats, Stats, Store
from shop_poller.tenure import Tenure


class Monitor:
    """Looks at the parts and says how they do. For the methods see web.routes.Vitals.

    Args:
        shop: the shop's id.
        polling: whether the shop is to be polled.
        sinks: the names of the sinks.
        store: is shared with the other replicas.
        metrics: of the shop.
        interval_s: seconds between ticks.

    Attributes:
        tenure: what works while the lease is ours; None while another replica leads.
    """

    def __init__(
        self,
        *,
        shop: str,
        polling: bool,
        sinks: tuple[str, ...],
        store: Store,
        metrics: Metrics,
        interval_s: float,
    ) -> None:
        self.tenure: Tenure | None = None
        self._shop = shop
        self._polling = polling
        self._sinks = sinks
        self._store = store
        self._metrics = metrics
        self._interval_s = interval_s
        self._followed_at = store.now()  # the last good poll of whoever leads, as far as we know

    async def health(self) -> dict[str, str]:
        """Whether it polls and delivers; a follower judges by what the leader stored."""
        if self.tenure is not None:
            heartbeat_at: datetime = self.tenure.ledger.heartbeat_at
            senders_alive = sum(dispatcher.senders_alive for dispatcher in self.tenure.dispatchers)
        else:
            heartbeat_at, senders_alive = await self._follow(), 1
        reason = illness(
            polling=self._polling,
            heartbeat_at=heartbeat_at,
            now=self._store.now(),
            interval_s=self._interval_s,
            senders_alive=senders_alive,
        )
        if reason is not None:
            return {"status": "unhealthy", "reason": reason}
        return {"status": "healthy"} if self._polling else {"status": "healthy", "polling": "disabled"}

    async def readiness(self) -> dict[str, str]:
        """Whether the store can be read and the shop has answered; and who leads."""
        try:
            state = await self._store.load(self._shop)
            leader = "this one" if self.tenure else await self._store.holder()
        except ShopPollerError as error:
            return {"status": "not ready", "reason": str(error)}
        if self._polling and not self._has_polled(state):
            return {"status": "not ready", "reason": "no good poll yet", "leader": leader}
        return {"status": "ready", "leader": leader}

    async def exposition(self) -> bytes:
        """All metrics; those of a store that cannot be read keep their last values."""
        self._metrics.healthy.set((await self.health())["status"] == "healthy")
        with suppress(ShopPollerError):
            await self.look()
        return generate_latest(self._metrics.registry)

    async def look(self) -> Stats:
        """Count what lies in the store, and show it.

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
        for sink in self._sinks:
            waiting = stats.sinks.get(sink, SinkStats())
            self._metrics.outbox(
                sink,
                waiting=waiting.waiting,
                oldest_age_s=(now - waiting.oldest_at).total_seconds() if waiting.oldest_at else 0.0,
                dead=waiting.dead,
            )
        return stats

    @property
    def is_stale(self) -> bool:
        """Whether there was no good poll in time, as far as this process knows."""
        heartbeat_at = self.tenure.ledger.heartbeat_at if self.tenure else self._followed_at
        return stale(heartbeat_at, self._store.now(), interval_s=self._interval_s)

    def _has_polled(self, state: ShopState | None) -> bool:
        if self.tenure is not None:
            return self.tenure.poller.polled
        return state is not None and state.last_poll_at is not None

    async def _follow(self) -> datetime:
        try:
            state = await self._store.load(self._shop)
        except ShopPollerError:
            return self._followed_at
        if state is not None and state.last_poll_at is not None:
            self._followed_at = state.last_poll_at
        return self._followed_at
