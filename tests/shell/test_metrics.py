"""Metrics that exist from the start, and count what happens where it belongs."""

from collections.abc import Sequence
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from shop_poller import __version__
from shop_poller.circuit_breaker import Circuit
from shop_poller.config.loader import load
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import EventType
from shop_poller.core.webhooks import Verdict
from shop_poller.observability.metrics import KEPT, Metrics, MetricsRegistry, Stage, StoreUse
from shop_poller.observability.trouble_metrics import MAX_SERIES
from shop_poller.runtime.shop_runtime import open_shop_runtime
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.statuses import OWN
from shop_poller.stores.sqlite import SqliteStore
from support.virtual_time import at_once

SHOP = "shop.example"
SINKS = ("console:", "crm")


def _families(metrics: Metrics) -> dict[str, Metric]:
    """What a scrape finds, by the names that stand in it."""
    text = generate_latest(metrics.registry).decode()
    return {family.name: family for family in text_string_to_metric_families(text)}


def _samples(metrics: Metrics, name: str) -> dict[tuple[str, ...], float]:
    """The values of a metric by its labels' values; the shop's id is among them and left out."""
    text = generate_latest(metrics.registry).decode()
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == name:
                labels = dict(sample.labels)
                assert labels.pop("shop") == SHOP
                found[tuple(labels[key] for key in sorted(labels))] = sample.value
    return found


def make(events: Sequence[str] = ()) -> Metrics:
    return Metrics(SHOP, SINKS, events, statuses=OWN, dialects=Dialect)


@pytest.fixture
def metrics() -> Metrics:
    return make()


@pytest.mark.parametrize(
    ("name", "kind", "samples", "labels"),
    [
        ("shop_poll_duration_seconds", "histogram", {"_bucket", "_count", "_sum"}, set()),
        ("shop_poll_orders_count", "counter", {"_total"}, {"status"}),
        ("shop_poll_errors", "counter", {"_total"}, {"error_type"}),
        ("shop_notifications_sent", "counter", {"_total"}, {"event_type", "sink"}),
    ],
)
def test_the_old_designs_metrics_have_their_names_types_and_labels(
    metrics: Metrics, name: str, kind: str, samples: set[str], labels: set[str]
) -> None:
    family = _families(metrics)[name]

    assert family.type == kind
    assert {sample.name.removeprefix(name) for sample in family.samples} == samples
    assert {label for sample in family.samples for label in sample.labels} - {"le"} == {"shop", *labels}


def test_there_is_a_metric_for_every_bound_and_everything_that_waits(metrics: Metrics) -> None:
    assert {name for name in _families(metrics) if not name.startswith("shop_poll_")} == {
        "shop_notifications_sent",
        "shop_last_poll_timestamp_seconds",
        "shop_store_failed_timestamp_seconds",
        "shop_polling_enabled",
        "shop_healthy",
        "shop_lease_held",
        "shop_hints",
        "shop_orders_learned",
        "shop_sweep_found",
        "shop_orders_set_aside",
        "shop_rows_set_aside",
        "shop_known_orders",
        "shop_breaker_open",
        "shop_queue_depth",
        "shop_queue_size",
        "shop_senders_alive",
        "shop_outbox_deliveries",
        "shop_outbox_oldest_age_seconds",
        "shop_delivery_retries",
        "shop_deliveries_buried",
        "shop_dead_letters",
        "shop_started_timestamp_seconds",
        "shop_clock_ahead_seconds",
        "shop_clock_steps",
        "shop_polling_failures",
        "shop_store_errors",
        "shop_log_lines_dropped",
        "shop_dialect_info",
        "shop_poller_build_info",
    }


STATUSES = {
    "pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "checkout-draft",
    "auto-draft", "draft", "trash", "other",
}  # fmt: skip
KINDS = {str(kind) for kind in ErrorKind}
STAGES = {"poll", "learning", "sweep", "digest"}
USES = {"lease", "begin", "poll", "outbox", "record", "alert", "look"}
DIALECTS = {"woocommerce-mcp", "abilities", "rest", "execute"}
EVENTS = {str(event_type) for event_type in EventType}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shop_poll_duration_seconds_count", {()}),
        ("shop_poll_orders_count_total", {(status,) for status in STATUSES}),
        ("shop_poll_errors_total", {(kind,) for kind in KINDS}),
        ("shop_notifications_sent_total", {(event, sink) for event in EVENTS for sink in SINKS}),
        ("shop_last_poll_timestamp_seconds", {()}),
        ("shop_polling_enabled", {()}),
        ("shop_healthy", {()}),
        ("shop_lease_held", {()}),
        ("shop_orders_learned_total", {()}),
        ("shop_orders_set_aside", {()}),
        ("shop_known_orders", {()}),
        ("shop_breaker_open", {(peer,) for peer in (SHOP, *SINKS)}),
        ("shop_queue_depth", {(sink,) for sink in SINKS}),
        ("shop_queue_size", {(sink,) for sink in SINKS}),
        ("shop_senders_alive", {(sink,) for sink in SINKS}),
        ("shop_outbox_deliveries", {(sink,) for sink in SINKS}),
        ("shop_outbox_oldest_age_seconds", {(sink,) for sink in SINKS}),
        ("shop_delivery_retries_total", {(kind, sink) for kind in KINDS for sink in SINKS}),
        ("shop_deliveries_buried_total", {(sink,) for sink in SINKS}),
        ("shop_dead_letters", {(sink,) for sink in SINKS}),
        ("shop_started_timestamp_seconds", {()}),
        ("shop_poll_interval_seconds", {()}),
        ("shop_clock_ahead_seconds", {()}),
        ("shop_polling_failures_total", {(kind, stage) for kind in KINDS for stage in STAGES}),
        ("shop_store_errors_total", {(use,) for use in USES}),
        ("shop_dialect_info", {(dialect,) for dialect in DIALECTS}),
        ("shop_hints_total", {("accepted",), ("ignored",), ("refused",)}),
    ],
)
def test_every_label_set_exists_from_the_start_at_zero(
    metrics: Metrics, name: str, expected: set[tuple[str, ...]]
) -> None:
    assert _samples(metrics, name) == dict.fromkeys(expected, 0.0)


def test_a_poll_that_the_state_cut_short_is_an_error_of_the_state_too(metrics: Metrics) -> None:
    metrics.failed(Stage.POLL, ErrorKind.STORE)
    metrics.failed(Stage.SWEEP, ErrorKind.PROTOCOL)
    metrics.store_error(StoreUse.OUTBOX)

    failures = _samples(metrics, "shop_polling_failures_total")
    assert {labels for labels, count in failures.items() if count} == {
        ("StoreError", "poll"),
        ("ProtocolError", "sweep"),
    }
    errors = _samples(metrics, "shop_store_errors_total")
    assert {labels for labels, count in errors.items() if count} == {("poll",), ("outbox",)}


def test_a_shop_is_polled_in_one_dialect_at_a_time(metrics: Metrics) -> None:
    metrics.dialect(Dialect.REST)
    metrics.dialect(Dialect.ABILITIES)

    shown = _samples(metrics, "shop_dialect_info")
    assert {labels for labels, value in shown.items() if value} == {("abilities",)}


def test_events_that_the_owner_named_are_at_zero_from_the_start_too() -> None:
    metrics = make(["shop.order.packing", "shop.order.packing"])

    expected = {(event, sink) for event in {*EVENTS, "shop.order.packing"} for sink in SINKS}
    assert _samples(metrics, "shop_notifications_sent_total") == dict.fromkeys(expected, 0.0)


def test_an_event_that_nobody_names_any_more_is_counted(metrics: Metrics) -> None:
    metrics.sent("shop.order.packing", "crm")

    assert _samples(metrics, "shop_notifications_sent_total")["shop.order.packing", "crm"] == 1


def test_the_kinds_of_errors_have_the_old_designs_names() -> None:
    assert {"ConnectionError", "TimeoutError", "AuthenticationError", "RateLimitError"} <= KINDS


def test_the_build_is_told(metrics: Metrics) -> None:
    value = metrics.registry.get_sample_value("shop_poller_build_info", {"version": __version__})

    assert value == 1


def test_what_happens_is_counted_where_it_belongs(metrics: Metrics) -> None:
    metrics.order("processing")
    metrics.order("processing")
    metrics.poll_errors(ErrorKind.TIMEOUT)
    metrics.sent(EventType.NEW, "crm")
    metrics.retried("crm", ErrorKind.NO_SUBSCRIBER)
    metrics.dead_lettered("crm")
    metrics.dead_lettered("crm", 2)
    metrics.breaker("crm").set(1)
    metrics.queue("crm", depth=3, size=1000, senders=8)
    metrics.outbox("crm", waiting=5, oldest_age_s=1.5, dead=7)
    metrics.poll_duration.observe(0.2)
    metrics.imported.inc(4)
    metrics.webhook(Verdict.REFUSED)

    def value(name: str, *labels: str) -> float:
        return _samples(metrics, name)[labels]

    assert value("shop_poll_orders_count_total", "processing") == 2
    assert value("shop_poll_errors_total", "TimeoutError") == 1
    assert value("shop_notifications_sent_total", "shop.order.new", "crm") == 1
    assert value("shop_delivery_retries_total", "NoSubscriberError", "crm") == 1
    assert value("shop_deliveries_buried_total", "crm") == 3
    assert value("shop_breaker_open", "crm") == 1
    assert value("shop_queue_depth", "crm") == 3
    assert value("shop_queue_size", "crm") == 1000
    assert value("shop_senders_alive", "crm") == 8
    assert value("shop_hints_total", "refused") == 1
    assert value("shop_outbox_deliveries", "crm") == 5
    assert value("shop_outbox_oldest_age_seconds", "crm") == 1.5
    assert value("shop_dead_letters", "crm") == 7
    assert value("shop_poll_duration_seconds_count") == 1
    assert value("shop_orders_learned_total") == 4
    for name in ("shop_notifications_sent_total", "shop_delivery_retries_total"):
        assert sum(_samples(metrics, name).values()) == 1
    for name in ("shop_deliveries_buried_total", "shop_queue_depth", "shop_outbox_deliveries"):
        assert value(name, "console:") == 0


@given(st.lists(st.text(max_size=60) | st.sampled_from(sorted(STATUSES))))
def test_statuses_that_are_not_woocommerces_own_are_counted_as_other(statuses: list[str]) -> None:
    metrics = make()

    for status in statuses:
        metrics.order(status)

    counted = _samples(metrics, "shop_poll_orders_count_total")
    assert set(counted) == {(status,) for status in STATUSES}  # no new label, whatever the shop says
    assert sum(counted.values()) == len(statuses)
    for status in STATUSES - {"other"}:
        assert counted[(status,)] == statuses.count(status)


def test_metrics_are_on_a_registry_of_their_own() -> None:
    first, second = make(), make()  # a second one, as in tests, is no trouble
    first.order("processing")

    assert isinstance(first.registry, CollectorRegistry)
    assert _samples(second, "shop_poll_orders_count_total")[("processing",)] == 0


def test_a_counter_has_no_second_series_for_when_it_was_made(metrics: Metrics) -> None:
    assert not [name for name in generate_latest(metrics.registry).decode().split() if "_created" in name]


def test_names_of_sinks_and_shops_are_escaped() -> None:
    metrics = Metrics('a"b', ['c\\d"\n'])

    (family,) = [f for f in text_string_to_metric_families(generate_latest(metrics.registry).decode())
                 if f.name == "shop_queue_depth"]  # fmt: skip

    assert [sample.labels for sample in family.samples] == [{"shop": 'a"b', "sink": 'c\\d"\n'}]


def test_a_breaker_that_was_open_when_a_session_ended_is_shown_closed_at_the_next(metrics: Metrics) -> None:
    metrics.breaker("crm").set(1)
    Circuit("crm", metrics)

    assert _samples(metrics, "shop_breaker_open")["crm",] == 0


def test_a_process_does_not_begin_anew_with_a_shop_that_comes_to_it(tmp_path: Path) -> None:
    environ = {
        "WOOCOMMERCE_MCP_URL": f"https://{SHOP}/wp-json/woocommerce/mcp",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
        "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
    }
    settings, metrics_registry = (
        load(environ=environ, dotenv=tmp_path / ".env", parse_sink=parse_sink),
        MetricsRegistry(is_crowded=True),
    )
    metrics_registry.started_at -= timedelta(hours=1)  # the shop was another replica's until now

    async def story() -> float | None:
        store = await SqliteStore.open(tmp_path / "state.db")
        async with aclosing(store), open_shop_runtime(settings, store, metrics_registry=metrics_registry):
            return metrics_registry.registry.get_sample_value(
                "shop_started_timestamp_seconds", {"shop": SHOP}
            )

    assert at_once(story()) == metrics_registry.started_at.timestamp()


def _crowd(*shops: str) -> tuple[MetricsRegistry, list[Metrics]]:
    metrics_registry = MetricsRegistry(is_crowded=True)
    return metrics_registry, [Metrics(shop, ["crm"], metrics_registry=metrics_registry) for shop in shops]


def _of_a_shop(metrics_registry: MetricsRegistry) -> dict[str, list[tuple[str, float]]]:
    """What is exported of single shops besides the five gauges of each: by name, the shops and values."""
    found: dict[str, list[tuple[str, float]]] = {}
    for family in metrics_registry.registry.collect():
        for sample in family.samples:
            if sample.labels.get("shop", "*") != "*" and sample.name not in KEPT:
                found.setdefault(sample.name, []).append((sample.labels["shop"], sample.value))
    return found


def test_of_many_shops_those_in_trouble_are_named_at_once_and_no_others() -> None:
    metrics_registry, (honey, milk) = _crowd("honey", "milk")
    for well in (honey, milk):
        well.healthy.set(1)
        well.outbox("crm", waiting=3, oldest_age_s=20, dead=0)
        well.queue("crm", depth=3, size=10, senders=2)
        well.clock_ahead.set(-2)
        well.set_aside.set(0)
        well.poll_failing(None)
        Circuit("crm", well)
    assert _of_a_shop(metrics_registry) == {}

    honey.dead_lettered("crm", 2)
    honey.poll_failing(ErrorKind.TIMEOUT)
    honey.poll_failing(ErrorKind.AUTHENTICATION)
    honey.queue("crm", depth=10, size=10, senders=0)
    honey.breaker("crm").set(1)
    honey.clock_ahead.set(-90)
    milk.healthy.set(0)
    milk.outbox("crm", waiting=3, oldest_age_s=3000, dead=1)
    assert _of_a_shop(metrics_registry) == {
        "shop_dead_letters": [("honey", 2), ("milk", 1)],
        "shop_poll_failing": [("honey", 1)],
        "shop_queue_depth": [("honey", 10)],
        "shop_queue_size": [("honey", 10)],
        "shop_senders_alive": [("honey", 0)],
        "shop_breaker_open": [("honey", 1)],
        "shop_clock_ahead_seconds": [("honey", -90)],
        "shop_healthy": [("milk", 0)],
        "shop_outbox_oldest_age_seconds": [("milk", 3000)],
    }

    honey.poll_failing(None)
    assert "shop_poll_failing" not in _of_a_shop(metrics_registry)
    metrics_registry.forget("honey")
    assert _of_a_shop(metrics_registry).keys() == {
        "shop_dead_letters", "shop_healthy", "shop_outbox_oldest_age_seconds",
    }  # fmt: skip


def test_however_many_shops_are_in_trouble_the_series_are_bounded() -> None:
    metrics_registry, crowd = _crowd(*(f"shop-{n}" for n in range(MAX_SERIES + 50)))
    for metrics in crowd:
        metrics.dead_lettered("crm")
        metrics.store_error(StoreUse.POLL)
    named = _of_a_shop(metrics_registry)
    assert {name: len(shops) for name, shops in named.items()} == {
        "shop_dead_letters": MAX_SERIES,
        "shop_store_failed_timestamp_seconds": MAX_SERIES,
    }


def test_dead_letters_of_one_shop_are_there_before_the_store_is_counted(metrics: Metrics) -> None:
    metrics.dead_lettered("crm", 3)
    assert _samples(metrics, "shop_dead_letters")["crm",] == 3
    metrics.outbox("crm", waiting=0, oldest_age_s=0, dead=2)
    assert _samples(metrics, "shop_dead_letters")["crm",] == 2
