"""Metrics of one shop or of many; docs/metrics.md lists them."""

from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from shop_poller import __version__
from shop_poller.clock import now
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import EventType
from shop_poller.core.webhooks import Verdict
from shop_poller.observability.output import dropped_lines
from shop_poller.observability.trouble_metrics import TroubleGauge, TroubleSeries

OTHER_STATUS = "other"


class StoreUse(StrEnum):
    """What the state was needed for when it could not be used: label `use` of `shop_store_errors_total`."""

    LEASE = "lease"  # to acquire or renew the lease
    BEGIN = "begin"  # to read the state after the lease was acquired
    POLL = "poll"  # to commit the result of a tick, an import or a sweep
    OUTBOX = "outbox"  # to claim deliveries
    RECORD = "record"  # to record the outcomes of deliveries
    ALERT = "alert"  # to store an admin alert
    LOOK = "look"  # to answer /metrics


class Stage(StrEnum):
    """What is read from the shop, or made of it: label `stage` of `shop_polling_failures_total`."""

    POLL = "poll"
    IMPORT = "learning"
    SWEEP = "sweep"
    DIGEST = "digest"


Kind = Counter | Gauge | Histogram
EVERYTHING = "*"
"""The label value of counters that are summed over all shops or sinks."""
NOT_FULL = -1
"""The depth and size of a queue that has room: no trouble."""


def _is_something(value: float) -> bool:
    return value > 0


TROUBLES: Mapping[str, Callable[[float], bool]] = {
    "shop_healthy": lambda value: value < 1,
    "shop_orders_set_aside": _is_something,
    "shop_rows_set_aside": _is_something,
    "shop_breaker_open": _is_something,
    "shop_queue_depth": _is_something,
    "shop_queue_size": _is_something,
    "shop_senders_alive": lambda value: value < 1,
    "shop_outbox_oldest_age_seconds": lambda value: value >= 300,
    "shop_dead_letters": _is_something,
    "shop_clock_ahead_seconds": lambda value: abs(value) >= 30,
    "shop_poll_failing": _is_something,
    "shop_store_failed_timestamp_seconds": _is_something,
}
"""Gauges of which many shops keep the values that mean trouble: with real shops and sinks, so that an alert
names them."""
ALWAYS_SPARSE = frozenset({"shop_poll_failing", "shop_store_failed_timestamp_seconds"})
"""Those of TROUBLES that are so for few shops, too."""
KEPT = frozenset(
    {
        "shop_last_poll_timestamp_seconds",
        "shop_poll_interval_seconds",
        "shop_polling_enabled",
        "shop_lease_held",
        "shop_started_timestamp_seconds",
    }
)
"""Gauges that every shop keeps, however many shops there are."""


class MetricsRegistry:
    """Metrics of several shops in one registry.

    A shop has 150 series. With many shops, that is too much for Prometheus and for us. Then counters are
    summed under shop="*". Of the gauges, those in KEPT remain, and of those in TROUBLES what means trouble.

    Args:
        is_crowded: there are many shops.

    Attributes:
        started_at: when this process started. A shop that comes from another replica does not change it.
    """

    def __init__(self, *, is_crowded: bool = False) -> None:
        self.started_at = now()
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types for it
        self.is_crowded = is_crowded
        self.registry = CollectorRegistry()
        self._families: dict[str, Any] = {}
        self._version: Gauge | None = None
        self._unseen = Gauge("unseen", "Receives values that are not exported", registry=None)
        self.registry.register(_DroppedLines())

    def label(self, shop: str) -> str:
        """Return the value of the label `shop` for counters."""
        return EVERYTHING if self.is_crowded else shop

    def family(self, kind: type[Kind], name: str, text: str, *labels: str, **options: Any) -> Any:
        """Return a metric with the label `shop`; it is created at first use."""
        if name in self._families:
            return self._families[name]
        made: Kind | TroubleGauge
        if name in TROUBLES and (self.is_crowded or name in ALWAYS_SPARSE):
            made = TroubleGauge(name, text, ("shop", *labels), TROUBLES[name])
            self.registry.register(made)
        elif self.is_crowded and kind is Gauge and name not in KEPT:
            return _Unseen(self._unseen)
        else:
            made = kind(name, text, ("shop", *labels), registry=self.registry, **options)
        self._families[name] = made
        return made

    def say_version(self) -> None:
        """Export the version, as the last metric."""
        if self._version is None:
            self._version = Gauge(
                "shop_poller_build_info", "Version of shop-poller", ("version",), registry=self.registry
            )
            self._version.labels(__version__).set(1)

    def forget(self, shop: str) -> None:
        """Remove the series of a shop that another replica watches now."""
        for family in self._families.values():
            family.remove_by_labels({"shop": shop})


class _DroppedLines(Collector):
    """Exports how many log lines this process dropped."""

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "shop_log_lines_dropped",
            "Log lines dropped because standard error was blocked or full",
            value=dropped_lines(),
        )


class _Unseen:
    """A metric whose values are not exported."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def labels(self, *_: str) -> Gauge:
        return self._gauge


class Metrics:
    """All metrics of a shop; docs/metrics.md lists them.

    Args:
        shop: the shop's id.
        sinks: the sinks' names.
        events: names of the owner's own events, including earlier ones that the stored state still has.
        metrics_registry: a registry shared with other shops; None creates one.
        statuses: the known statuses; an order in any other counts as "other".
        dialects: the dialects that the shop may speak.
    """

    def __init__(
        self,
        shop: str,
        sinks: Iterable[str],
        events: Iterable[str] = (),
        metrics_registry: MetricsRegistry | None = None,
        *,
        statuses: Iterable[str] = (),
        dialects: Iterable[str] = (),
    ) -> None:
        metrics_registry = metrics_registry or MetricsRegistry()
        self.registry = metrics_registry.registry
        self._is_crowded = metrics_registry.is_crowded
        self._statuses = tuple(statuses)
        self._dialects = tuple(dialects)
        names = tuple(sinks)
        counted = names
        if metrics_registry.is_crowded:  # there are at least as many sinks and events as shops
            counted, events = (EVERYTHING,), ()

        def make(kind: type[Kind], name: str, text: str, *labels: str, **options: Any) -> Any:
            return metrics_registry.family(kind, name, text, *labels, **options)

        own_shop, shop = shop, metrics_registry.label(shop)

        # Names that the Celery design has too.
        self.poll_duration = make(
            Histogram,
            "shop_poll_duration_seconds",
            "Duration of a tick",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
        ).labels(shop)
        self._orders = make(Counter, "shop_poll_orders_count", "Orders read, including repeats", "status")
        self._poll_errors = make(Counter, "shop_poll_errors", "Failed requests to the shop", "error_type")
        self._sent = make(
            Counter, "shop_notifications_sent", "Notifications that a sink accepted", "event_type", "sink"
        )
        # Names of our own.
        self.last_poll = make(
            Gauge, "shop_last_poll_timestamp_seconds", "When the last successful poll ended; 0: never"
        ).labels(own_shop)
        self.polling_enabled = make(Gauge, "shop_polling_enabled", "1 if polling is enabled").labels(own_shop)
        self.healthy = make(Gauge, "shop_healthy", "1 if /healthz reports healthy").labels(own_shop)
        self.lease_held = make(
            Gauge, "shop_lease_held", "1 if this process holds the lease of the shop"
        ).labels(own_shop)
        self.imported = make(
            Counter, "shop_orders_learned", "Older orders imported without a notification"
        ).labels(shop)
        self.sweep_found = make(
            Counter, "shop_sweep_found", "Orders with a change that only the sweep found"
        ).labels(shop)
        self.set_aside = make(
            Gauge, "shop_orders_set_aside", "Orders that could not be read; they are retried"
        ).labels(own_shop)
        self.rows_set_aside = make(
            Gauge, "shop_rows_set_aside", "Damaged rows of the stored state; copies are kept"
        ).labels(own_shop)
        self.known = make(Gauge, "shop_known_orders", "Orders in the stored state").labels(own_shop)
        self._breaker = make(
            Gauge, "shop_breaker_open", "1 while the circuit of the shop or a sink is open", "peer"
        )
        self._queue = make(Gauge, "shop_queue_depth", "Deliveries in the in-process queue", "sink")
        self._queue_size = make(Gauge, "shop_queue_size", "Capacity of the in-process queue", "sink")
        self._senders = make(Gauge, "shop_senders_alive", "Running senders, busy or idle", "sink")
        self._waiting = make(Gauge, "shop_outbox_deliveries", "Pending deliveries", "sink")
        self._oldest = make(
            Gauge,
            "shop_outbox_oldest_age_seconds",
            "Age of the oldest pending delivery, without quiet hours",
            "sink",
        )
        self._retries = make(
            Counter, "shop_delivery_retries", "Failed attempts that will be retried", "sink", "error_type"
        )
        self._dead_lettered = make(
            Counter, "shop_deliveries_buried", "Deliveries that became dead letters", "sink"
        )
        self._dead = make(Gauge, "shop_dead_letters", "Dead letters in the store", "sink")
        self._triggers = make(Counter, "shop_hints", "Webhooks received", "outcome")
        # Used by the alerts in deploy/prometheus/shop-poller.rules.yml.
        self.started = make(
            Gauge,
            "shop_started_timestamp_seconds",
            "When this process started",
        ).labels(own_shop)
        self.interval = make(Gauge, "shop_poll_interval_seconds", "Configured poll interval").labels(own_shop)
        self.clock_ahead = make(
            Gauge,
            "shop_clock_ahead_seconds",
            "How far our clock is ahead of the shop's, measured by its last Date header",
        ).labels(own_shop)
        self.clock_steps = make(
            Counter,
            "shop_clock_steps",
            "Times that our clock (of Redis if the state is there) was set by more than 10 s",
        ).labels(shop)
        self._failures = make(
            Counter,
            "shop_polling_failures",
            "Polls, imports, sweeps and digests that failed",
            "stage",
            "error_type",
        )
        self._store_errors = make(Counter, "shop_store_errors", "Failed uses of the stored state", "use")
        self._poll_failing = make(
            Gauge, "shop_poll_failing", "1 while polls of the shop fail, by the last failure", "error_type"
        )
        self._failing_kind: ErrorKind | None = None
        self._store_failed = make(
            Gauge,
            "shop_store_failed_timestamp_seconds",
            "When a use of the stored state failed last; there is none if none failed",
        ).labels(own_shop)
        self._dialect = make(Gauge, "shop_dialect_info", "1 for the dialect used with the shop", "dialect")
        metrics_registry.say_version()

        self._shop, self._own_shop = shop, own_shop
        self._begin_at_zero()
        self._begin_sinks_at_zero(names, counted, tuple(events))

    def _begin_at_zero(self) -> None:
        """Create every label set at zero, so that the first event is an increase."""
        for status in (*self._statuses, OTHER_STATUS):
            self._orders.labels(self._shop, status)
        for kind in ErrorKind:
            self.poll_errors(kind, 0)
        for verdict in Verdict:
            self.webhook(verdict, 0)
        for stage in Stage:
            for kind in ErrorKind:
                self._failures.labels(self._shop, stage, kind)
        for use in StoreUse:
            self._store_errors.labels(self._shop, use)
        for dialect in self._dialects:
            self._dialect.labels(self._shop, dialect)
        self.breaker(self._own_shop).set(0)

    def _begin_sinks_at_zero(
        self, sinks: tuple[str, ...], counted: tuple[str, ...], events: tuple[str, ...]
    ) -> None:
        """Create every label set of the sinks at zero; `counted` are the sinks as counters name them."""
        for sink in sinks:
            for metric in (
                self._queue, self._queue_size, self._senders, self._waiting, self._oldest, self._dead,
                self._breaker,
            ):  # fmt: skip
                metric.labels(self._own_shop, sink)
        for sink in counted:
            self._dead_lettered.labels(self._shop, sink)
            for event_type in (*EventType, *events):
                self._sent.labels(self._shop, event_type, sink)
            for kind in ErrorKind:
                self._retries.labels(self._shop, sink, kind)

    def _sink(self, name: str) -> str:
        return EVERYTHING if self._is_crowded else name

    def order(self, status: str) -> None:
        """Count an order that was read."""
        self._orders.labels(self._shop, status if status in self._statuses else OTHER_STATUS).inc()

    def poll_errors(self, kind: ErrorKind, amount: int = 1) -> None:
        """Count failed requests to the shop."""
        self._poll_errors.labels(self._shop, kind).inc(amount)

    def failed(self, stage: Stage, kind: ErrorKind) -> None:
        """Count a poll, import or sweep that ended early."""
        self._failures.labels(self._shop, stage, kind).inc()
        if kind is ErrorKind.STORE:
            self.store_error(StoreUse.POLL)

    def poll_failing(self, kind: ErrorKind | None) -> None:
        """Export how the last poll failed; None if it succeeded."""
        if self._failing_kind is not None:
            self._poll_failing.labels(self._own_shop, self._failing_kind).set(0)
        if kind is not None:
            self._poll_failing.labels(self._own_shop, kind).set(1)
        self._failing_kind = kind

    def store_error(self, use: StoreUse) -> None:
        """Count a failed use of the state."""
        self._store_errors.labels(self._shop, use).inc()
        self._store_failed.set(now().timestamp())

    def dialect(self, chosen: str) -> None:
        """Export the dialect that is used from now on."""
        for dialect in self._dialects:
            self._dialect.labels(self._shop, dialect).set(dialect == chosen)

    def sent(self, event_type: str, sink: str) -> None:
        """Count a notification that a sink accepted."""
        self._sent.labels(self._shop, event_type, self._sink(sink)).inc()

    def retried(self, sink: str, kind: ErrorKind) -> None:
        """Count a failed delivery that will be retried."""
        self._retries.labels(self._shop, self._sink(sink), kind).inc()

    def dead_lettered(self, sink: str, amount: int = 1) -> None:
        """Count deliveries that became dead letters."""
        self._dead_lettered.labels(self._shop, self._sink(sink)).inc(amount)
        self._dead.labels(self._own_shop, sink).inc(amount)  # until the store is counted again

    def webhook(self, outcome: Verdict, amount: int = 1) -> None:
        """Count received webhooks."""
        self._triggers.labels(self._shop, outcome).inc(amount)

    def breaker(self, peer: str) -> Gauge | TroubleSeries:
        """Return the gauge that shows whether the circuit of a peer is open."""
        gauge: Gauge | TroubleSeries = self._breaker.labels(self._own_shop, peer)
        return gauge

    def queue(self, sink: str, *, depth: int, size: int, senders: int) -> None:
        """Export the state of a sink's in-process queue."""
        has_room = self._is_crowded and depth < size
        self._queue.labels(self._own_shop, sink).set(NOT_FULL if has_room else depth)
        self._queue_size.labels(self._own_shop, sink).set(NOT_FULL if has_room else size)
        self._senders.labels(self._own_shop, sink).set(senders)

    def outbox(self, sink: str, *, waiting: int, oldest_age_s: float, dead: int) -> None:
        """Export what the store holds for a sink."""
        self._waiting.labels(self._own_shop, sink).set(waiting)
        self._oldest.labels(self._own_shop, sink).set(oldest_age_s)
        self._dead.labels(self._own_shop, sink).set(dead)
