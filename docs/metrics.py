"""Writes docs/metrics.md from the metrics and the alert rules: `make docs`. A test holds them together."""

import re
from pathlib import Path

from prometheus_client import CollectorRegistry

from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind
from shop_poller.observability.metrics import Metrics, MetricsRegistry, StoreUse
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Store
from shop_poller.runtime.balancer import Balancer
from shop_poller.runtime.fleet import Fleet, FleetPolicy
from shop_poller.runtime.fleet_hooks import FleetHooks
from shop_poller.runtime.fleet_status import FleetStatus, lateness
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.statuses import OWN

PAGE = Path(__file__).with_suffix(".md")
RULES = Path(__file__).parents[1] / "deploy" / "prometheus" / "shop-poller.rules.yml"
NAMED_BY_THE_OWNER = {
    "shop": "the shop's id",
    "sink": "the sinks' names",
    "peer": "the shop's id, the sinks' names",
    "version": "the version",
    "le": "",
}
"""Labels whose values are not fixed; those of the rest are all there from the start."""

HEAD = """\
# Metrics

Made from `src/shop_poller/observability/metrics.py` and `deploy/prometheus/shop-poller.rules.yml` by `make docs`.

`/metrics` shows them in Prometheus' text format. Every label set is there from the start, at zero, so that the first event is
an increase. All but `shop_poller_build_info`, `shop_log_lines_dropped_total` and those of a fleet, `shop_fleet_…`, have the
label `shop`; of more shops than `SHOP_LABELLED_SHOPS` [hardly any are left](fleets.md#metrics). A fleet's are there only with
`[[shops]]`. What the owner names (`SHOP_STATUS_EVENTS`) comes on top of the values of `event_type`.

Counters and what only the leader does are each replica's own: add counters up, and take such gauges from the replica whose
`shop_lease_held` is 1. What lies in the store (`shop_outbox_…`, `shop_dead_letters`, `shop_known_orders`) is the same on all.
Of a fleet's, add up all but `shop_fleet_shops` and `shop_fleet_replicas`, which every replica knows.

An alert links to its section in the [runbook](runbook.md).

| metric | type | labels | means | alerts |
|---|---|---|---|---|
"""

MIDDLE = """
## Recorded by the rules

| name | from | alerts |
|---|---|---|
"""


def rules() -> tuple[dict[str, str], dict[str, str]]:
    """The expressions of recorded names, and of alerts, by their names."""
    found: dict[str, dict[str, str]] = {"record": {}, "alert": {}}
    for rule in re.split(r"^      - (?=record|alert)", RULES.read_text(encoding="utf-8"), flags=re.MULTILINE)[
        1:
    ]:
        fields = dict(re.findall(r"^(?: {8})?(\w+): *(.*(?:\n {10}.*)*)", rule, re.MULTILINE))
        kind = "record" if "record" in fields else "alert"
        found[kind][fields[kind]] = " ".join(fields["expr"].removeprefix(">-").split())
    return found["record"], found["alert"]


def names(expression: str) -> set[str]:
    """The metrics and recorded names in an expression."""
    without_texts = re.sub(r'"[^"]*"', "", expression)
    return set(re.findall(r"\bshop(?:_\w+|:[\w:]+)", without_texts))


def uses(expression: str, recorded: dict[str, str]) -> set[str]:
    """All names that it rests on, those beneath recorded ones too."""
    found = names(expression)
    return found.union(*(uses(recorded[name], recorded) for name in found & recorded.keys()))


def registry(*, is_crowded: bool = False) -> CollectorRegistry:
    """All metrics there are: those of a shop, and those of a fleet; or what is left of them for many shops."""
    metrics_registry = MetricsRegistry(is_crowded=is_crowded)
    for kind in ErrorKind:  # each exports the kind that failed its last poll
        metrics = Metrics("shop", ["sink"], metrics_registry=metrics_registry, statuses=OWN, dialects=Dialect)
        metrics.poll_failing(kind)
    _show_trouble(metrics)
    limiter = PollLimiter(1, lateness(metrics_registry))
    fleet = Fleet([], _never, metrics_registry=metrics_registry, policy=FleetPolicy(limiter=limiter))
    FleetStatus(fleet, Balancer(fleet, membership=None, name=""), metrics_registry, limiter)
    FleetHooks(fleet, metrics_registry)
    return metrics_registry.registry


def _show_trouble(metrics: Metrics) -> None:
    """Set what is exported only in trouble."""
    metrics.store_error(StoreUse.POLL)
    metrics.breaker("sink").set(1)
    metrics.queue("sink", depth=1, size=1, senders=0)
    metrics.outbox("sink", waiting=1, oldest_age_s=3600, dead=1)
    for gauge, value in ((metrics.set_aside, 1), (metrics.rows_set_aside, 1), (metrics.clock_ahead, 90)):
        gauge.set(value)
    metrics.healthy.set(0)


async def _never(_: Settings) -> Store:
    """Opens the store of a shop, where there is none."""
    raise AssertionError


def page() -> str:
    """The whole page."""
    recorded, alerts = rules()

    def alerted(*wanted: str) -> str:
        hits = [name for name, expr in alerts.items() if uses(expr, recorded) & {*wanted}]
        return ", ".join(f"[{name}](runbook.md#{name.lower()})" for name in hits)

    lines = []
    for metric in registry().collect():
        name = metric.name + ("_total" if metric.type == "counter" else "")
        values: dict[str, list[str]] = {}
        for sample in metric.samples:
            for label, value in sample.labels.items():
                if value not in values.setdefault(label, []):
                    values[label].append(value)
        labels = [_label(label, said) for label, said in values.items() if label not in {"shop", "le"}]
        alert = alerted(name, *(f"{name}_{part}" for part in ("bucket", "sum", "count")))
        lines.append(
            f"| `{name}` | {metric.type} | {'; '.join(labels)} | {metric.documentation} | {alert} |\n"
        )
    rows = [f"| `{name}` | `{expr}` | {alerted(name)} |\n" for name, expr in recorded.items()]
    return HEAD + "".join(lines) + MIDDLE + "".join(rows)


def _label(label: str, values: list[str]) -> str:
    said = NAMED_BY_THE_OWNER.get(label) or ", ".join(f"`{value}`" for value in values)
    return f"{label}: {said}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
