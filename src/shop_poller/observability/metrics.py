"""Metrics of one shop or of many; docs/metrics.md lists them."""

from collections.abc import Iterable
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

OTHER_STATUS = "other"


class StoreUse(StrEnum):
    """What the state was wanted for and could not be used: the label `use` of `shop_store_errors_total`."""

    LEASE = "lease"  # to ask for the lease, or to keep it
    BEGIN = "begin"  # to read it all, when the lease is won
    POLL = "poll"  # to commit what a tick, a lesson or a sweep led to
    OUTBOX = "outbox"  # to claim deliveries
    RECORD = "record"  # to record what became of deliveries
    ALERT = "alert"  # to store an admin alert
    LOOK = "look"  # to answer /metrics


class Stage(StrEnum):
    """What the shop is asked for: the label `stage` of `shop_polling_failures_total`."""

    POLL = "poll"
    IMPORT = "learning"
    SWEEP = "sweep"


Kind = Counter | Gauge | Histogram
EVERYTHING = "*"
"""The label of what is summed up over shops, or sinks."""
KEPT = frozenset(
    {
        "shop_last_poll_timestamp_seconds",
        "shop_poll_interval_seconds",
        "shop_polling_enabled",
        "shop_lease_held",
        "shop_started_timestamp_seconds",
    }
)
"""What every shop has, however many there are: whether it is watched, and by whom."""


class MetricsRegistry:
    """Metrics of several shops on one registry.

    Of many shops, most would be more than Prometheus and we can bear, 150 series a shop: there counters are
    summed up under shop="*", and of the gauges only those in KEPT remain.

    Args:
        is_crowded: there are many shops.

    Attributes:
        started_at: when this process began, which a shop that comes from another replica does not change.
    """

    def __init__(self, *, is_crowded: bool = False) -> None:
        self.started_at = now()
        disable_created_metrics()  # type: ignore[no-untyped-call] # the library has no types for it
        self.is_crowded = is_crowded
        self.registry = CollectorRegistry()
        self._families: dict[str, Any] = {}
        self._version: Gauge | None = None
        self._unseen = Gauge("unseen", "Takes what is not shown", registry=None)
        self.registry.register(_DroppedLines())

    def label(self, shop: str) -> str:
        """What counters are labelled with."""
        return EVERYTHING if self.is_crowded else shop

    def family(self, kind: type[Kind], name: str, text: str, *labels: str, **options: Any) -> Any:
        """A metric, with the label shop; made when it is asked for first."""
        if self.is_crowded and kind is Gauge and name not in KEPT:
            return _Unseen(self._unseen)
        if name not in self._families:
            self._families[name] = kind(name, text, ("shop", *labels), registry=self.registry, **options)
        return self._families[name]

    def say_version(self) -> None:
        """Show what runs here, last of all."""
        if self._version is None:
            self._version = Gauge(
                "shop_poller_build_info", "What runs here", ("version",), registry=self.registry
            )
            self._version.labels(__version__).set(1)

    def forget(self, shop: str) -> None:
        """Show nothing more of a shop, which another replica watches now."""
        for family in self._families.values():
            family.remove_by_labels({"shop": shop})


class _DroppedLines(Collector):
    """Shows how many lines of the log this process dropped."""

    def collect(self) -> Iterable[Metric]:
        yield CounterMetricFamily(
            "shop_log_lines_dropped",
            "Lines of the log that could not be written: standard error was blocked or full",
            value=dropped_lines(),
        )


class _Unseen:
    """A family whose values are not shown."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge

    def labels(self, *_: str) -> Gauge:
        return self._gauge


class Metrics:
    """All metrics of a shop; docs/metrics.md lists them.

    Args:
        shop: the shop's id.
        sinks: the sinks' names.
        events: names of events that the owner gave; those in the state from before are counted, too.
        metrics_registry: where they are kept, with those of other shops; else in one of their own.
        statuses: that orders can have; an order in any other is counted as "other".
        dialects: in which the shop can be asked.
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
        if metrics_registry.is_crowded:  # sinks and events are as many as shops, or more
            names, events = (EVERYTHING,), ()

        def make(kind: type[Kind], name: str, text: str, *labels: str, **options: Any) -> Any:
            return metrics_registry.family(kind, name, text, *labels, **options)

        own_shop, shop = shop, metrics_registry.label(shop)

        # The old design's names.
        self.poll_duration = make(
            Histogram,
            "shop_poll_duration_seconds",
            "Time that a tick took",
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300),
        ).labels(shop)
        self._orders = make(Counter, "shop_poll_orders_count", "Orders read, re-read ones included", "status")
        self._poll_errors = make(Counter, "shop_poll_errors", "Failed requests to the shop", "error_type")
        self._sent = make(
            Counter, "shop_notifications_sent", "Notifications that a sink took", "event_type", "sink"
        )
        # Ours.
        self.last_poll = make(
            Gauge, "shop_last_poll_timestamp_seconds", "When the last good poll ended; 0: never"
        ).labels(own_shop)
        self.polling_enabled = make(Gauge, "shop_polling_enabled", "1 if the shop is polled").labels(own_shop)
        self.healthy = make(Gauge, "shop_healthy", "1 if /healthz says healthy").labels(shop)
        self.lease_held = make(
            Gauge, "shop_lease_held", "1 if this process has the right to write for the shop"
        ).labels(own_shop)
        self.imported = make(
            Counter, "shop_orders_learned", "Orders recorded without a notification: older than our watch"
        ).labels(shop)
        self.sweep_found = make(
            Counter, "shop_sweep_found", "Orders whose change the sweep found and polling could not see"
        ).labels(shop)
        self.set_aside = make(
            Gauge, "shop_orders_set_aside", "Orders that could not be read and wait to be"
        ).labels(shop)
        self.rows_set_aside = make(
            Gauge, "shop_rows_set_aside", "Damaged rows of the stored state of which copies are kept"
        ).labels(shop)
        self.known = make(Gauge, "shop_known_orders", "Orders whose state is remembered").labels(shop)
        self._breaker = make(
            Gauge, "shop_breaker_open", "1 while the shop or a sink is left alone after failures", "peer"
        )
        self._queue = make(Gauge, "shop_queue_depth", "Deliveries in the in-process queue", "sink")
        self._queue_size = make(Gauge, "shop_queue_size", "Bound of the in-process queue", "sink")
        self._senders = make(Gauge, "shop_senders_alive", "Senders at work or waiting for it", "sink")
        self._waiting = make(Gauge, "shop_outbox_deliveries", "Deliveries not yet made", "sink")
        self._oldest = make(
            Gauge, "shop_outbox_oldest_age_seconds", "Age of the oldest delivery not yet made", "sink"
        )
        self._retries = make(
            Counter, "shop_delivery_retries", "Attempts that failed and are made again", "sink", "error_type"
        )
        self._dead_lettered = make(Counter, "shop_deliveries_buried", "Deliveries given up", "sink")
        self._dead = make(Gauge, "shop_dead_letters", "Dead letters that lie in the store", "sink")
        self._triggers = make(Counter, "shop_hints", "Webhooks that came", "outcome")
        # What alerts are judged by: deploy/prometheus/shop-poller.rules.yml.
        self.started = make(
            Gauge,
            "shop_started_timestamp_seconds",
            "When this process began",
        ).labels(own_shop)
        self.interval = make(Gauge, "shop_poll_interval_seconds", "Seconds between two polls, as set").labels(
            own_shop
        )
        self.clock_ahead = make(
            Gauge,
            "shop_clock_ahead_seconds",
            "How far our clock is ahead of the shop's, by its last Date header",
        ).labels(shop)
        self.clock_steps = make(
            Counter,
            "shop_clock_steps",
            "Times that our clock, or that of Redis if the state is there, was set by more than 10 s",
        ).labels(shop)
        self._failures = make(
            Counter,
            "shop_polling_failures",
            "Polls, lessons and sweeps cut short",
            "stage",
            "error_type",
        )
        self._store_errors = make(
            Counter, "shop_store_errors", "Times that the state could not be used", "use"
        )
        self._dialect = make(
            Gauge, "shop_dialect_info", "1 for the dialect in which the shop is asked", "dialect"
        )
        metrics_registry.say_version()

        self._shop = shop
        self._begin_at_zero()
        self._begin_sinks_at_zero(names, tuple(events))

    def _begin_at_zero(self) -> None:
        """Every label set exists from the start, so that the first event is an increase."""
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
        self.breaker(self._shop).set(0)

    def _begin_sinks_at_zero(self, sinks: tuple[str, ...], events: tuple[str, ...]) -> None:
        """As above."""
        for sink in sinks:
            for metric in (
                self._queue, self._queue_size, self._senders, self._waiting, self._oldest,
                self._dead_lettered, self._dead, self._breaker,
            ):  # fmt: skip
                metric.labels(self._shop, sink)
            for event_type in (*EventType, *events):
                self._sent.labels(self._shop, event_type, sink)
            for kind in ErrorKind:
                self._retries.labels(self._shop, sink, kind)

    def _sink(self, name: str) -> str:
        return EVERYTHING if self._is_crowded else name

    def order(self, status: str) -> None:
        """An order was read."""
        self._orders.labels(self._shop, status if status in self._statuses else OTHER_STATUS).inc()

    def poll_errors(self, kind: ErrorKind, amount: int = 1) -> None:
        """A request to the shop failed."""
        self._poll_errors.labels(self._shop, kind).inc(amount)

    def failed(self, stage: Stage, kind: ErrorKind) -> None:
        """A poll, lesson or sweep ended early, whatever the reason."""
        self._failures.labels(self._shop, stage, kind).inc()
        if kind is ErrorKind.STORE:
            self.store_error(StoreUse.POLL)

    def store_error(self, use: StoreUse) -> None:
        """The state could not be used."""
        self._store_errors.labels(self._shop, use).inc()

    def dialect(self, chosen: str) -> None:
        """The shop is asked in this dialect from now on."""
        for dialect in self._dialects:
            self._dialect.labels(self._shop, dialect).set(dialect == chosen)

    def sent(self, event_type: str, sink: str) -> None:
        """A sink took a notification."""
        self._sent.labels(self._shop, event_type, self._sink(sink)).inc()

    def retried(self, sink: str, kind: ErrorKind) -> None:
        """A delivery failed and will be tried again."""
        self._retries.labels(self._shop, self._sink(sink), kind).inc()

    def dead_lettered(self, sink: str, amount: int = 1) -> None:
        """A delivery was given up."""
        self._dead_lettered.labels(self._shop, self._sink(sink)).inc(amount)

    def webhook(self, outcome: Verdict, amount: int = 1) -> None:
        """A webhook came."""
        self._triggers.labels(self._shop, outcome).inc(amount)

    def breaker(self, peer: str) -> Gauge:
        """Whether the shop or a sink is left alone."""
        gauge: Gauge = self._breaker.labels(self._shop, peer)
        return gauge

    def queue(self, sink: str, *, depth: int, size: int, senders: int) -> None:
        """The in-process queue of a sink."""
        self._queue.labels(self._shop, sink).set(depth)
        self._queue_size.labels(self._shop, sink).set(size)
        self._senders.labels(self._shop, sink).set(senders)

    def outbox(self, sink: str, *, waiting: int, oldest_age_s: float, dead: int) -> None:
        """What lies in the store for a sink."""
        self._waiting.labels(self._shop, sink).set(waiting)
        self._oldest.labels(self._shop, sink).set(oldest_age_s)
        self._dead.labels(self._shop, sink).set(dead)
