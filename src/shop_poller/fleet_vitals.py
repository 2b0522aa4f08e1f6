"""How a fleet goes: health, readiness and metrics of all shops that this process watches."""

from collections.abc import Callable

import anyio
import structlog
from prometheus_client import Gauge, Histogram, generate_latest

from shop_poller.core.errors import ShopPollerError
from shop_poller.fleet import LOOK_EVERY_S, Berth, Fleet
from shop_poller.logs import Log
from shop_poller.metrics import Book
from shop_poller.pace import Turns
from shop_poller.ports import Stats

SURVEY_S = 120.0
"""How often what lies in each shop's store is counted."""
STUCK_S = 60.0 + LOOK_EVERY_S
"""A loop that did not come round for so long does not work any more."""


class FleetVitals:
    """Looks at the shops and says how they do. For the methods see web.routes.Vitals.

    Whether it is healthy decides whether it is restarted; so a shop that is not is no reason, as long as
    another one is polled. It is seen by its metrics, and told to whoever gets its notifications.

    Args:
        fleet: is looked at.
        book: where metrics are kept.
        turns: who waits for them is counted.
    """

    def __init__(self, fleet: Fleet, book: Book, turns: Turns) -> None:
        self._fleet = fleet
        self._book = book
        self._turns = turns
        self._counted: dict[str, Stats] = {}
        self._log: Log = structlog.get_logger()

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(name, text, registry=book.registry)

        self._shops = gauge("shop_fleet_shops", "Shops that there are")
        self._watched = gauge("shop_fleet_watched_shops", "Shops whose lease this process has")
        self._unwell = gauge(
            "shop_fleet_unwell_shops", "Shops here that cannot be watched, or were not polled in good time"
        )
        self._replicas = gauge("shop_fleet_replicas", "Replicas that share the shops")
        self._waiting = gauge("shop_fleet_waiting_polls", "Shops that wait for their turn to be asked")
        self._undelivered = gauge(
            "shop_fleet_outbox_deliveries", "Deliveries not yet made, of the shops here"
        )
        self._dead = gauge("shop_fleet_dead_letters", "Dead letters that lie in the stores of the shops here")
        self._known = gauge("shop_fleet_known_orders", "Orders whose state is remembered, of the shops here")

    async def health(self) -> dict[str, str]:
        """Whether the loop goes round, and any shop is polled."""
        behind_s = anyio.current_time() - self._fleet.looked_at
        if behind_s > STUCK_S:
            return {"status": "unhealthy", "reason": f"stuck for {behind_s:.0f} s"}
        ours = [berth for berth in self._fleet.berths.values() if berth.settings.shop_polling_enabled]
        if ours and all(berth.is_unwell for berth in ours):
            return {"status": "unhealthy", "reason": "no shop is polled"}
        return {"status": "healthy", **self._shares()}

    async def readiness(self) -> dict[str, str]:
        """Whether the shops that are ours are being watched."""
        fleet = self._fleet
        wanted, leads = len(fleet.berths), len(self._berths())
        if not anyio.current_time() < fleet.looked_at + STUCK_S:
            return {"status": "not ready", "reason": "the shops were not looked for yet"}
        if fleet.is_blind and not leads:
            return {"status": "not ready", "reason": "the state cannot be reached; the log says why"}
        if wanted and not leads:
            return {"status": "not ready", "reason": f"none of {wanted} shops can be watched yet"}
        return {"status": "ready", **self._shares()}

    async def exposition(self) -> bytes:
        """All metrics; what lies in the stores is as of the last survey."""
        watched = self._berths()
        self._shops.set(len(self._fleet.shops))
        self._watched.set(len(watched))
        self._unwell.set(sum(berth.is_unwell for berth in self._fleet.berths.values()))
        self._replicas.set(self._fleet.replicas)
        self._waiting.set(self._turns.waiting)
        ours = {berth.settings.shop for berth in watched}
        counted = [stats for shop, stats in self._counted.items() if shop in ours]
        sinks = [sink for stats in counted for sink in stats.sinks.values()]
        self._undelivered.set(sum(sink.waiting for sink in sinks))
        self._dead.set(sum(sink.dead for sink in sinks))
        self._known.set(sum(stats.known for stats in counted))
        return generate_latest(self._book.registry)

    async def survey(self) -> None:
        """Count what lies in the stores, one shop after the other, for ever."""
        while True:
            watched = self._berths()
            self._counted = {
                berth.settings.shop: self._counted[berth.settings.shop]
                for berth in watched
                if berth.settings.shop in self._counted
            }
            for berth in watched:
                await anyio.sleep(SURVEY_S / len(watched))
                await self._count(berth)
            if not watched:
                await anyio.sleep(LOOK_EVERY_S)

    async def _count(self, berth: Berth) -> None:
        house, shop = berth.house, berth.settings.shop
        if house is None:
            return
        try:
            self._counted[shop] = await house.monitor.look()
        except ShopPollerError:
            pass  # it is counted as trouble with the state; the last numbers stand
        except Exception as bug:  # noqa: BLE001 - what is wrong with one store must end no other shop's watch
            if berth.edges.changed("survey", repr(bug)):
                self._log.error("a bug, please report it; trying on", shop=shop, error=str(bug), exc_info=bug)
        else:
            berth.edges.changed("survey", "")
        now = self._fleet.berths.get(shop)
        if now is None or now.house is None:  # it went to another replica meanwhile, and was shown once more
            self._book.forget(shop)

    def _berths(self) -> list[Berth]:
        return [berth for berth in self._fleet.berths.values() if berth.leads]

    def _shares(self) -> dict[str, str]:
        return {"shops": f"{len(self._berths())} of {len(self._fleet.shops)}"}


def lateness(book: Book) -> Callable[[float], None]:
    """What is told how long after its time a shop was asked, and shows it."""
    late = Histogram(
        "shop_fleet_poll_lateness_seconds",
        "How long after its time a shop was asked, waits for its turn included",
        buckets=(0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
        registry=book.registry,
    )
    observe: Callable[[float], None] = late.observe
    return observe
