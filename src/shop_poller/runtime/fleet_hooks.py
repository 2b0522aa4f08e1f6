"""Finds the receiver of the webhooks of one of several shops, whether or not this process watches it."""

from prometheus_client import Counter

from shop_poller.core.webhooks import Verdict
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.runtime.fleet import Fleet
from shop_poller.web.hooks import Hooks
from shop_poller.web.shop_hooks import ShopHooks


class FleetHooks:
    """Finds receivers.

    A shop that another replica watches is verified here too, since each replica knows every secret. Then
    nothing follows: the replica that watches the shop reads the order at its next tick.

    Args:
        fleet: the shops.
        metrics_registry: registers the counter of webhooks for shops that are not watched here.
    """

    def __init__(self, fleet: Fleet, metrics_registry: MetricsRegistry) -> None:
        self._fleet = fleet
        self._counter = _Counter(metrics_registry)
        self._elsewhere: dict[str, Hooks] = {}

    def receiver(self) -> ShopHooks | None:
        """Return what receives webhooks; None if no shop has a secret."""
        if all(settings.shop_webhook_secret is None for settings in self._fleet.shops.values()):
            return None
        return ShopHooks(self._hooks_of, counter=self._counter)

    def _hooks_of(self, shop: str) -> Hooks | None:
        settings = self._fleet.shops.get(shop)
        if settings is None or settings.shop_webhook_secret is None:
            return None
        slot = self._fleet.slots.get(shop)
        if slot is not None and slot.shop_runtime is not None:
            return slot.shop_runtime.hooks()
        if shop not in self._elsewhere:
            self._elsewhere[shop] = Hooks(
                settings.shop_webhook_secret.get_secret_value(), trigger=lambda: None, counter=self._counter
            )
        return self._elsewhere[shop]


class _Counter:
    """Counts webhooks for shops that are not watched here, and for no shop."""

    def __init__(self, metrics_registry: MetricsRegistry) -> None:
        self._hints = Counter(
            "shop_fleet_hints",
            "Webhooks received for shops that this process does not watch, or that do not exist",
            ["outcome"],
            registry=metrics_registry.registry,
        )
        for verdict in Verdict:
            self._hints.labels(verdict)

    def webhook(self, outcome: Verdict, amount: int = 1) -> None:
        """Count received webhooks."""
        self._hints.labels(outcome).inc(amount)
