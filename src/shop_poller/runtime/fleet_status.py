"""Reports health, readiness and metrics of all shops that this process watches."""

from collections.abc import Callable

import anyio
import structlog
from prometheus_client import Counter, Gauge, Histogram, generate_latest

from shop_poller.core.errors import ShopPollerError
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Stats
from shop_poller.runtime.balancer import LOOK_EVERY_S, Balancer
from shop_poller.runtime.fleet import Fleet
from shop_poller.runtime.shop_slot import ShopSlot

SURVEY_S = 120.0
"""How often the rows in each shop's store are counted."""
MOST_NAMED = 10
"""The most shops that are named as not watched."""
STUCK_S = 60.0 + LOOK_EVERY_S
"""A balancer loop that did not complete a round for so long is stuck."""


class FleetStatus:
    """Reports the status of the shops. For the methods see web.routes.HealthSource.

    An unhealthy process is restarted. So one unhealthy shop does not make the process unhealthy as long as
    another shop is polled. The metrics show the unhealthy shop, and its administrators are notified.

    Args:
        fleet: the shops to report on.
        balancer: knows the replicas, and which shops cannot be reached from here.
        metrics_registry: registers the metrics.
        limiter: counts the polls that wait for a free place.
        names_shops: whether health names shops; else it only counts them.
    """

    def __init__(
        self,
        fleet: Fleet,
        balancer: Balancer,
        metrics_registry: MetricsRegistry,
        limiter: PollLimiter,
        *,
        names_shops: bool = True,
    ) -> None:
        self._names_shops = names_shops
        self._fleet = fleet
        self._balancer = balancer
        self._metrics_registry = metrics_registry
        self._limiter = limiter
        self._counted: dict[str, Stats] = {}
        self._log: Log = structlog.get_logger()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=metrics_registry.registry)

        self._shops = gauge("shop_fleet_shops", "Shops in the settings")
        self._watched = gauge("shop_fleet_watched_shops", "Shops whose lease this process has")
        self._unwell = gauge(
            "shop_fleet_unwell_shops", "Shops here that cannot be watched, or were not polled in good time"
        )
        self._replicas = gauge("shop_fleet_replicas", "Replicas that share the shops")
        self._waiting = gauge("shop_fleet_waiting_polls", "Shops that wait for a free place to be polled")
        self._undelivered = gauge(
            "shop_fleet_outbox_deliveries", "Deliveries that wait in the outboxes of the shops here"
        )
        self._dead = gauge("shop_fleet_dead_letters", "Dead letters in the stores of the shops here")
        self._unreached = gauge(
            "shop_fleet_unreached_shops",
            "Shops that this process does not reach; one that no other replica reaches stays here",
        )
        self._released = Counter(
            "shop_fleet_released_shops",
            "Shops that were released because another replica may reach them and this process does not",
            registry=metrics_registry.registry,
        )
        self._shown_released = 0
        self._known = gauge("shop_fleet_known_orders", "Orders whose state is stored, of the shops here")

    async def health(self) -> dict[str, str]:
        """Return whether the loop is running, and at least one shop is polled."""
        behind_s = anyio.current_time() - max(self._balancer.looked_at, self._balancer.began_at)
        if behind_s > STUCK_S:
            return {"status": "unhealthy", "reason": f"stuck for {behind_s:.0f} s"}
        ours = [slot for slot in self._fleet.slots.values() if slot.settings.shop_polling_enabled]
        if ours and all(slot.is_unwell for slot in ours):
            return {"status": "unhealthy", "reason": "no shop is polled"}
        return {"status": "healthy", **self._shares()}

    async def readiness(self) -> dict[str, str]:
        """Return whether the shops that are ours are watched."""
        balancer = self._balancer
        wanted, leads = len(self._fleet.slots), len(self._slots())
        if not anyio.current_time() < balancer.looked_at + STUCK_S:
            return {"status": "not ready", "reason": "the shops are not assigned yet"}
        if balancer.is_blind and not leads:
            return {"status": "not ready", "reason": "the state cannot be reached; the log says why"}
        if balancer.egress.is_cut_off:
            return {"status": "not ready", "reason": "no shop can be reached from here; the log says why"}
        if wanted and not leads:
            return {"status": "not ready", "reason": f"none of {wanted} shops can be watched yet"}
        unreached = len(balancer.egress.unreached)
        return {"status": "ready", **self._shares(), **({"unreached": str(unreached)} if unreached else {})}

    async def exposition(self) -> bytes:
        """Return all metrics. The counts of the stores are those of the last survey."""
        watched = self._slots()
        self._shops.set(len(self._fleet.shops))
        self._watched.set(len(watched))
        self._unwell.set(sum(slot.is_unwell for slot in self._fleet.slots.values()))
        self._replicas.set(self._balancer.replicas)
        self._waiting.set(self._limiter.waiting)
        self._unreached.set(len(self._balancer.egress.unreached))
        self._released.inc(self._balancer.unreached_released - self._shown_released)
        self._shown_released = self._balancer.unreached_released
        ours = {slot.settings.shop for slot in watched}
        counted = [stats for shop, stats in self._counted.items() if shop in ours]
        sinks = [sink for stats in counted for sink in stats.sinks.values()]
        self._undelivered.set(sum(sink.waiting for sink in sinks))
        self._dead.set(sum(sink.dead for sink in sinks))
        self._known.set(sum(stats.known for stats in counted))
        return generate_latest(self._metrics_registry.registry)

    async def survey(self) -> None:
        """Count the rows in the stores forever, one shop after the other."""
        while True:
            watched = self._slots()
            self._counted = {
                slot.settings.shop: self._counted[slot.settings.shop]
                for slot in watched
                if slot.settings.shop in self._counted
            }
            for slot in watched:
                await anyio.sleep(SURVEY_S / len(watched))
                await self._count(slot)
            if not watched:
                await anyio.sleep(LOOK_EVERY_S)

    async def _count(self, slot: ShopSlot) -> None:
        shop_runtime, shop = slot.shop_runtime, slot.settings.shop
        if shop_runtime is None:
            return
        try:
            self._counted[shop] = await shop_runtime.health_reporter.update_metrics()
        except ShopPollerError:
            pass  # counted as an error of the state; the last counts stay
        except Exception as bug:  # noqa: BLE001 - a fault of one store must not stop other shops
            if slot.changes.changed("survey", repr(bug)):
                self._log.error(
                    "internal error (bug): please report it; retrying",
                    shop=shop,
                    error=str(bug),
                    exc_info=bug,
                )
        else:
            slot.changes.changed("survey", "")
        now = self._fleet.slots.get(shop)
        # If another replica took the shop meanwhile, `look` registered its metrics again.
        if now is None or now.shop_runtime is None:
            self._metrics_registry.forget(shop)

    def _slots(self) -> list[ShopSlot]:
        return [slot for slot in self._fleet.slots.values() if slot.leads]

    def _shares(self) -> dict[str, str]:
        """Return how many shops are watched here, and the names of those that cannot be watched."""
        shares = {"shops": f"{len(self._slots())} of {len(self._fleet.shops)}"}
        failed = sorted(shop for shop, slot in self._fleet.slots.items() if slot.failure)
        if failed and not self._names_shops:
            shares["not_watched"] = str(len(failed))
        elif failed:
            more = f" and {len(failed) - MOST_NAMED} more" if len(failed) > MOST_NAMED else ""
            shares["not_watched"] = ", ".join(failed[:MOST_NAMED]) + more
        return shares


def lateness(metrics_registry: MetricsRegistry) -> Callable[[float], None]:
    """Return a function that records how many seconds after its scheduled time a shop was polled."""
    late = Histogram(
        "shop_fleet_poll_lateness_seconds",
        "How long after its scheduled time a shop was polled, including the wait for a free place",
        buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        registry=metrics_registry.registry,
    )
    observe: Callable[[float], None] = late.observe
    return observe
