"""How it goes: health, readiness and metrics of a running daemon."""

from collections.abc import Callable, Sequence
from datetime import datetime

from prometheus_client import generate_latest

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.health import illness
from shop_poller.dispatcher import Dispatcher
from shop_poller.ledger import Ledger
from shop_poller.poller import Poller
from shop_poller.ports import SinkStats, Store
from shop_poller.telemetry import Metrics


class Monitor:
    """Looks at the parts and says how they do. For the methods see web.routes.Vitals.

    Args:
        poller: None where polling is disabled.
        sinks: the names of the sinks.
        interval_s: seconds between ticks.
    """

    def __init__(
        self,
        *,
        shop: str,
        poller: Poller | None,
        ledger: Ledger,
        dispatchers: Sequence[Dispatcher],
        sinks: Sequence[str],
        store: Store,
        metrics: Metrics,
        interval_s: float,
        now: Callable[[], datetime],
    ) -> None:
        self._shop = shop
        self._poller = poller
        self._ledger = ledger
        self._dispatchers = dispatchers
        self._sinks = sinks
        self._store = store
        self._metrics = metrics
        self._interval_s = interval_s
        self._now = now

    def health(self) -> dict[str, str]:
        """Whether it polls and delivers."""
        reason = illness(
            polling=self._poller is not None,
            heartbeat_at=self._ledger.heartbeat_at,
            now=self._now(),
            interval_s=self._interval_s,
            senders_alive=sum(dispatcher.senders_alive for dispatcher in self._dispatchers),
        )
        if reason is not None:
            return {"status": "unhealthy", "reason": reason}
        return {"status": "healthy"} if self._poller else {"status": "healthy", "polling": "disabled"}

    async def readiness(self) -> dict[str, str]:
        """Whether the store can be read and the shop has answered."""
        try:
            await self._store.load(self._shop)
        except ShopPollerError as error:
            return {"status": "not ready", "reason": str(error)}
        if self._poller is not None and not self._poller.polled:
            return {"status": "not ready", "reason": "no good poll yet"}
        return {"status": "ready"}

    async def exposition(self) -> bytes:
        """All metrics; those of a store that cannot be read keep their last values."""
        self._metrics.healthy.set(self.health()["status"] == "healthy")
        try:
            stats = await self._store.stats(self._shop)
        except ShopPollerError:
            return generate_latest(self._metrics.registry)
        now = self._now()
        self._metrics.known.set(stats.known)
        for sink in self._sinks:
            waiting = stats.sinks.get(sink, SinkStats())
            self._metrics.outbox(
                sink,
                waiting=waiting.waiting,
                oldest_age_s=(now - waiting.oldest_at).total_seconds() if waiting.oldest_at else 0.0,
                dead=waiting.dead,
            )
        return generate_latest(self._metrics.registry)
