"""What can be seen from outside: logs without secrets, edges, and metrics that exist from the start."""

import json
import logging
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from shop_poller import __version__
from shop_poller.circuit import Circuit
from shop_poller.core.dialects import Dialect
from shop_poller.core.errors import ErrorKind
from shop_poller.core.hooks import Verdict
from shop_poller.core.model import EventType
from shop_poller.telemetry import Edges, Log, Metrics, Stage, StoreUse, set_up_logging

SHOP = "shop.example"
SINKS = ("console:", "crm")
SECRET = "hunter2"

Lines = Callable[[], list[str]]


@pytest.fixture(autouse=True)
def _logging_as_it_was() -> Iterator[None]:
    """Logging is the process's; it is put back."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Lines:
    """What was logged since the last time."""

    def read() -> list[str]:
        captured = capsys.readouterr()
        assert captured.out == ""  # standard output is the console sink's
        return captured.err.splitlines()

    return read


def _log() -> Log:
    log: Log = structlog.get_logger()
    return log


# --- Logs ---------------------------------------------------------------------------------------------------


def test_a_json_log_is_an_object_a_line(lines: Lines) -> None:
    set_up_logging(level="info", style="json")
    structlog.contextvars.bind_contextvars(shop=SHOP)

    _log().bind(sink="crm").warning("delivery failed", order=316, error_type=ErrorKind.TIMEOUT, нет="да\n")

    (line,) = lines()
    entry = json.loads(line)
    assert entry.pop("timestamp").endswith("Z")
    assert entry == {
        "event": "delivery failed",
        "level": "warning",
        "shop": SHOP,
        "sink": "crm",
        "order": 316,
        "error_type": "TimeoutError",
        "нет": "да\n",
    }
    assert "нет" in line  # Russian can be read and searched for


def test_a_console_log_is_for_people(lines: Lines) -> None:
    set_up_logging(level="info", style="console")

    _log().warning("delivery failed", order=316, sink="crm")

    (line,) = lines()
    for part in ("warning", "delivery failed", "316", "crm"):
        assert part in line
    assert not line.startswith("{")


@pytest.mark.parametrize(("terminal", "expected"), [(True, "console"), (False, "json")])
def test_by_default_a_terminal_gets_the_console_log(
    lines: Lines, monkeypatch: pytest.MonkeyPatch, terminal: bool, expected: str  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal)
    set_up_logging(level="info", style=None)

    _log().info("started")

    (line,) = lines()
    assert line.startswith("{") is (expected == "json")


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_less_than_the_level_is_not_logged(lines: Lines, level: str, expected: list[str]) -> None:
    set_up_logging(level=level, style="json")
    log = _log()

    log.debug("debug")
    log.info("info")
    log.warning("warning")
    log.error("error")

    assert [json.loads(line)["event"] for line in lines()] == expected


@pytest.mark.parametrize("style", ["json", "console"])
def test_libraries_are_heard_when_something_is_wrong_and_in_the_same_format(lines: Lines, style: Any) -> None:
    set_up_logging(level="debug", style=style)
    structlog.contextvars.bind_contextvars(shop=SHOP)
    library = logging.getLogger("some.library")

    library.info("chatter")
    library.warning("cannot do %s", "this")

    (line,) = lines()
    assert "cannot do this" in line
    assert SHOP in line
    if style == "json":
        entry = json.loads(line)
        assert (entry["event"], entry["level"]) == ("cannot do this", "warning")


def test_setting_up_twice_does_not_log_twice(lines: Lines) -> None:
    for _ in range(2):
        set_up_logging(level="info", style="json")

    _log().info("ours")
    logging.getLogger("some.library").warning("theirs")

    assert [json.loads(line)["event"] for line in lines()] == ["ours", "theirs"]


@pytest.mark.parametrize("style", ["json", "console"])
def test_an_exception_is_logged_with_its_traceback(lines: Lines, style: Any) -> None:
    set_up_logging(level="info", style=style)
    try:
        json.loads("{}")["a bug"]
    except KeyError:
        _log().exception("a sink broke")
        logging.getLogger("some.library").exception("broke, too")

    text = "\n".join(lines())
    assert text.count("Traceback") == 2
    assert text.count("KeyError: 'a bug'") == 2


# --- Secrets in logs ----------------------------------------------------------------------------------------


@dataclass
class Thing:
    """Its repr shows all of it."""

    password: str


class TroubleError(Exception):
    """An exception in whose text a secret is."""


def _fail() -> None:
    raise ValueError(f"cannot log in as shop:{SECRET}")


def _fail_in_a_chain() -> None:
    try:
        _fail()
    except ValueError as error:
        trouble = TroubleError(f"no connection to redis://:{SECRET}@h")
        trouble.add_note(f"tried {SECRET}")
        raise trouble from error


TELLING = f"the password is {SECRET}"
LIBRARY = logging.getLogger("some.library")
LEAKS: dict[str, Callable[[Log], None]] = {
    "in the event": lambda log: log.warning(TELLING),
    "in a value": lambda log: log.warning("x", url=f"https://u:{SECRET}@h/{SECRET}"),
    "as a whole value": lambda log: log.warning("x", password=SECRET),
    "bound before": lambda log: log.bind(password=SECRET).warning("x"),
    "in a list": lambda log: log.warning("x", values=["a", SECRET, ("b", f"-{SECRET}-")]),
    "in a set": lambda log: log.warning("x", values={SECRET}),
    "deep inside": lambda log: log.warning("x", a={"b": [{"c": (f"={SECRET}",)}]}),
    "in a key": lambda log: log.warning("x", values={SECRET: 1}),
    "in bytes": lambda log: log.warning("x", body=SECRET.encode()),
    "in an object": lambda log: log.warning("x", thing=Thing(SECRET), things=[Thing(SECRET)]),
    "in a path": lambda log: log.warning("x", path=Path("/srv") / SECRET),
    "in an error": lambda log: log.warning("x", error=TroubleError(SECRET)),
    "in an error's text": lambda log: log.warning("x", error=str(TroubleError(f"no {SECRET}"))),
    "in a traceback": lambda log: log.exception("x"),  # noqa: LOG004 - called in a handler
    "in exc_info": lambda log: log.warning("x", exc_info=sys.exc_info()),
    "in a library's record": lambda _: LIBRARY.warning(TELLING),
    "in a library's arguments": lambda _: LIBRARY.warning("%s %r", SECRET, Thing(SECRET)),
    "in a library's traceback": lambda _: LIBRARY.exception("x"),
    "in a library's stack": lambda _: LIBRARY.warning(TELLING, stack_info=True),
}


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("leak", LEAKS)
def test_no_secret_is_logged(lines: Lines, leak: str, style: Any) -> None:
    set_up_logging(level="info", style=style, secrets=["another", SECRET, ""])
    try:
        _fail_in_a_chain()
    except TroubleError:
        LEAKS[leak](_log())

    text = "\n".join(lines())
    assert "***" in text
    assert SECRET not in text


HARD = """it's "quoted" \\ and ä"""
"""What stands in another text in many ways."""
HARD_LEAKS: dict[str, Callable[[Log], None]] = {
    "beside another quote": lambda log: log.warning("x", text=f"\"{HARD}\" '{HARD}'"),
    "in a set": lambda log: log.warning("x", values={HARD}),
    "in an error": lambda log: log.warning("x", error=TroubleError(HARD)),
    "in JSON in a text": lambda log: log.warning("x", body=json.dumps({"key": HARD})),
    "in a repr in a text": lambda log: log.warning("x", error=str(KeyError(HARD))),
    "in bytes": lambda log: log.warning("x", body=HARD.encode()),
}


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("leak", HARD_LEAKS)
def test_a_secret_is_known_in_every_form_that_a_text_may_have(lines: Lines, leak: str, style: Any) -> None:
    set_up_logging(level="info", style=style, secrets=[HARD])

    HARD_LEAKS[leak](_log())

    text = "\n".join(lines())
    assert "***" in text
    assert "quoted" not in text


@pytest.mark.parametrize("secret", ["12345", "123456789", "event", "page"])
def test_a_secret_that_is_anything_leaves_json_what_it_is(lines: Lines, secret: str) -> None:
    set_up_logging(level="info", style="json", secrets=[secret])

    _log().info("a page", orders=1234567890, text=f"it is {secret}")

    (line,) = lines()
    entry = json.loads(line)
    assert entry["orders"] == 1234567890
    assert entry["text"] == "it is ***"


def test_one_secret_may_be_part_of_another(lines: Lines) -> None:
    set_up_logging(level="info", style="json", secrets=["pass", "pass-and-more"])

    _log().info("x", value="pass-and-more pass")

    (line,) = lines()
    assert json.loads(line)["value"] == "*** ***"


def test_without_secrets_nothing_is_masked(lines: Lines) -> None:
    set_up_logging(level="info", style="json", secrets=["", ""])

    _log().info("all is well", values=[1, 2.5, True, None, "text", {"a": "b"}])

    (line,) = lines()
    entry = json.loads(line)
    assert (entry["event"], entry["values"]) == ("all is well", [1, 2.5, True, None, "text", {"a": "b"}])


# --- Edges --------------------------------------------------------------------------------------------------


def test_edges_are_said_and_repeats_are_not() -> None:
    edges = Edges()
    states = ["", "down", "down", "down", "slow", "slow", "", "", "down"]

    said = [state for state in states if edges.changed("shop", state)]

    assert said == ["down", "slow", "", "down"]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["", "down", "slow"]))))
def test_what_is_said_of_one_thing_has_nothing_to_do_with_another(
    states: list[tuple[str, str]],
) -> None:
    together, alone = Edges(), {"a": Edges(), "b": Edges()}

    for thing, state in states:
        assert together.changed(thing, state) == alone[thing].changed(thing, state)


# --- Metrics ------------------------------------------------------------------------------------------------


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


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(SHOP, SINKS)


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
        "shop_polling_enabled",
        "shop_healthy",
        "shop_lease_held",
        "shop_hints",
        "shop_orders_learned",
        "shop_sweep_found",
        "shop_orders_set_aside",
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
        "shop_polling_failures",
        "shop_store_errors",
        "shop_dialect_info",
        "shop_poller_build_info",
    }


STATUSES = {
    "pending", "processing", "on-hold", "completed", "cancelled", "refunded", "failed", "checkout-draft",
    "auto-draft", "draft", "trash", "other",
}  # fmt: skip
KINDS = {str(kind) for kind in ErrorKind}
STAGES = {"poll", "learning", "sweep"}
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


def test_a_shop_is_asked_in_one_dialect_at_a_time(metrics: Metrics) -> None:
    metrics.dialect(Dialect.REST)
    metrics.dialect(Dialect.ABILITIES)

    shown = _samples(metrics, "shop_dialect_info")
    assert {labels for labels, value in shown.items() if value} == {("abilities",)}


def test_events_that_the_owner_named_are_at_zero_from_the_start_too() -> None:
    metrics = Metrics(SHOP, SINKS, ["shop.order.packing", "shop.order.packing"])

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
    metrics.buried("crm")
    metrics.buried("crm", 2)
    metrics.breaker("crm").set(1)
    metrics.queue("crm", depth=3, size=1000, senders=8)
    metrics.outbox("crm", waiting=5, oldest_age_s=1.5, dead=7)
    metrics.poll_duration.observe(0.2)
    metrics.learned.inc(4)
    metrics.hint(Verdict.REFUSED)

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
    metrics = Metrics(SHOP, SINKS)

    for status in statuses:
        metrics.order(status)

    counted = _samples(metrics, "shop_poll_orders_count_total")
    assert set(counted) == {(status,) for status in STATUSES}  # no new label, whatever the shop says
    assert sum(counted.values()) == len(statuses)
    for status in STATUSES - {"other"}:
        assert counted[(status,)] == statuses.count(status)


def test_metrics_are_on_a_registry_of_their_own() -> None:
    first, second = Metrics(SHOP, SINKS), Metrics(SHOP, SINKS)  # a second one, as in tests, is no trouble
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


def test_a_breaker_that_was_open_when_a_tenure_ended_is_shown_closed_at_the_next(metrics: Metrics) -> None:
    metrics.breaker("crm").set(1)
    Circuit("crm", metrics)

    assert _samples(metrics, "shop_breaker_open")["crm",] == 0
