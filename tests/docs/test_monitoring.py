"""Alerts, dashboard, metrics' page and runbook against each other, and against the metrics that there are."""

import ast
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy/prometheus/shop-poller.rules.yml"
TESTS = ROOT / "deploy/prometheus/shop-poller.test.yml"
DASHBOARD = ROOT / "deploy/grafana/shop-poller.json"
RUNBOOK = ROOT / "docs/runbook.md"
PROMTOOL = shutil.which("promtool")
FROM_SCRAPING = {"instance", "job", "__name__"}


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _page_of_metrics() -> Any:
    spec = spec_from_file_location("page_of_metrics", ROOT / "docs/metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PAGE = _page_of_metrics()
RECORDED, ALERTS = PAGE.rules()
SUMMED = {
    f"{metric.name}_total"
    for metric in PAGE.registry(is_crowded=True).collect()
    if metric.type == "counter" and metric.samples and metric.samples[0].labels.get("shop") == "*"
}
"""Counters of which many shops have the sum only."""


def exposed(*, is_crowded: bool = False) -> dict[str, set[str]]:
    """Every series of ours, and its labels; or what is left of them for many shops."""
    series: dict[str, set[str]] = {}
    for metric in PAGE.registry(is_crowded=is_crowded).collect():
        for sample in metric.samples:
            series.setdefault(sample.name, set()).update(sample.labels)
    return series


def shown() -> list[str]:
    """The expressions of the dashboard."""
    board = json.loads(text(DASHBOARD))
    panels = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    (shops,) = [one["query"] for one in board["templating"]["list"] if one["type"] == "query"]
    return [*panels, shops]


def values(expression: str) -> Iterator[tuple[str, str, str]]:
    """Every series that is selected by the exact value of a label: series, label, value."""
    for name, selector in re.findall(r"\b(shop_\w+)\{([^}]*)\}", expression):
        for label, value in re.findall(r'(\w+)="([^"]*)"', selector):
            yield name, label, value


def labels(expression: str) -> set[str]:
    """Every label that it names."""
    grouped = re.findall(r"\b(?:by|on|group_left) \(([^)]*)\)", expression)
    selected = re.findall(r"\{([^}]*)\}", expression)
    named = {label.strip() for group in grouped for label in group.split(",") if label.strip()}
    return named | {label for selector in selected for label in re.findall(r"(\w+)=", selector)}


def headings() -> list[str]:
    """The alerts that the runbook has sections for."""
    return re.findall(r"^### (ShopPoller\w+)$", text(RUNBOOK), re.MULTILINE)


@pytest.mark.parametrize(
    "command", [["check", "rules", RULES.name], ["test", "rules", TESTS.name]], ids=["check", "test"]
)
def test_prometheus_agrees(command: list[str]) -> None:
    if PROMTOOL is None:
        pytest.skip("promtool is not installed (Debian: apt install prometheus); CI has it")
    done = subprocess.run([PROMTOOL, *command], cwd=RULES.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_is_read() -> None:
    rules = text(RULES)
    assert set(RECORDED) == set(re.findall(r"^ +- record: (\S+)$", rules, re.MULTILINE))
    assert set(ALERTS) == set(re.findall(r"^ +- alert: (\S+)$", rules, re.MULTILINE))
    assert len(ALERTS) > 15


@pytest.mark.parametrize("expression", [*RECORDED.values(), *ALERTS.values(), *shown()])
def test_what_rules_and_dashboard_name_is_there(expression: str) -> None:
    series = exposed()
    used = PAGE.uses(expression, RECORDED)
    assert used or "up{" in expression
    assert used <= series.keys() | RECORDED.keys()
    known = {label for name in used & series.keys() for label in series[name]} | FROM_SCRAPING
    assert labels(expression) <= known
    metrics = [*PAGE.registry().collect(), *PAGE.registry(is_crowded=True).collect()]
    samples = [sample for metric in metrics for sample in metric.samples]
    for name, label, value in values(expression):
        assert value in {sample.labels.get(label) for sample in samples if sample.name == name}


def test_every_recorded_name_is_used() -> None:
    used = {name for expression in [*ALERTS.values(), *shown()] for name in PAGE.names(expression)}
    assert RECORDED.keys() <= used


def test_every_alert_says_how_bad_it_is_and_what_to_do() -> None:
    for rule in re.split(r"^ +- alert: ", text(RULES), flags=re.MULTILINE)[1:]:
        name = rule.split()[0]
        assert re.search(r"^ +severity: (critical|warning|info)$", rule, re.MULTILINE), name
        assert re.search(r"^ +summary: \S", rule, re.MULTILINE), name
        assert re.search(r"^ +description: \S.+\.$", rule, re.MULTILINE), name
        assert re.search(rf"^ +runbook_url: docs/runbook\.md#{name.lower()}$", rule, re.MULTILINE), name


def test_every_alert_works_for_many_shops_and_all_but_one_name_the_shop() -> None:
    there = exposed(is_crowded=True).keys() | RECORDED.keys()
    assert [name for name, expr in ALERTS.items() if not PAGE.uses(expr, RECORDED) <= there] == []
    summed = {
        name for name, expr in ALERTS.items() if "shop" in labels(expr) and set(PAGE.names(expr)) <= SUMMED
    }
    assert {name for name in summed if "Fleet" not in name} == {"ShopPollerSweepFound"}
    assert "ShopPollerSweepFound fires once" in text(ROOT / "docs/fleets.md")


def test_every_alert_has_a_section_and_every_section_an_alert() -> None:
    assert sorted(headings()) == sorted(ALERTS)


def test_every_alert_is_shown_to_fire_and_not_to() -> None:
    tests = text(TESTS)
    fires = set(re.findall(r'ALERTS\{alertname="(\w+)"', tests))
    silent = set(re.findall(r"alertname: (\w+), exp_alerts: \[\]", tests))
    assert fires == silent == set(ALERTS)


def test_the_page_of_metrics_is_what_the_metrics_make() -> None:
    assert text(ROOT / "docs/metrics.md") == PAGE.page(), "run `make docs`"


def test_log_lines_in_the_runbook_are_in_the_source() -> None:
    constants = {
        node.value
        for path in (ROOT / "src/shop_poller").rglob("*.py")
        for node in ast.walk(ast.parse(text(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    blocks = re.findall(r"^ *```log\n(.+?)^ *```$", text(RUNBOOK), re.MULTILINE | re.DOTALL)
    lines = [line.strip() for block in blocks for line in block.splitlines()]
    assert len(lines) > 20
    for line in lines:
        level, message, *_ = line.split("  ")
        assert level in {"info", "warning", "error"}, line
        assert message in constants, line


def test_the_index_names_every_page() -> None:
    named = set(re.findall(r"\]\((\w[\w-]*\.md)\)", text(ROOT / "docs/README.md")))
    assert named == {path.name for path in (ROOT / "docs").glob("*.md")} - {"README.md"}
