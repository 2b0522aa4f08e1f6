"""Writes docs/benchmarks.md, between its markers, and the chart beside it."""

import os
import platform
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import redis

from benchmarks.chart import chart
from benchmarks.processes import ROOT, inside
from benchmarks.results import Row, figures, goals
from benchmarks.settings import Plan
from benchmarks.theirs import RedisServer, redis_server

PAGE = ROOT / "docs" / "benchmarks.md"
CHART = ROOT / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- written by make bench -->", "<!-- until here -->"
MINE = ("shop-poller", "httpx", "pydantic", "redis", "uvloop", "httpx-aiohttp", "aiohttp", "msgspec")
THEIRS = ("celery", "kombu", "redis", "httpx", "flower")


def write(plan: Plan, rows: Sequence[Row], *, full: bool) -> None:
    """Put the results into the page."""
    CHART.write_text(chart(rows), encoding="utf-8")
    notes = [f"- {row.what}: {row.notes}." for row in rows if row.notes]
    made = "\n".join(
        [
            BEGIN,
            "",
            *_circumstances(plan, full=full),
            "",
            "![times better than the Celery design at its best](benchmarks.svg)",
            "",
            *figures(rows),
            "",
            *notes,
            "",
            *goals(rows),
            "",
            END,
        ]
    )
    page = PAGE.read_text(encoding="utf-8")
    begin, end = re.escape(BEGIN), re.escape(END)
    PAGE.write_text(re.sub(f"{begin}.*{end}", lambda _: made, page, flags=re.DOTALL), encoding="utf-8")


def _circumstances(plan: Plan, *, full: bool) -> list[str]:
    with redis_server(plan.home) as server:
        valkey = _redis_version(server)
    theirs = ", ".join(f"{name} {version(name)}" for name in THEIRS)
    lines = [
        f"`make bench{'-full' if full else ''}`, {datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {_cpu()},"
        f" {os.cpu_count()} cores, {_memory_gb():.1f} GB, Linux {platform.release().split('-')[0]},"
        f" Python {platform.python_version()}.",
        "",
        f"- Celery: {theirs}, {valkey}",
    ]
    for of in plan.ours:
        found = inside(of, "versions", *MINE)
        lines.append(f"- {of}: " + ", ".join(f"{name} {number}" for name, number in found.items()))
    return lines


def _redis_version(server: RedisServer) -> str:
    with redis.Redis(port=server.port) as client:
        info = client.info("server")
    return (
        f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {info['redis_version']}"
    )


def _cpu() -> str:
    found = re.search(
        r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE
    )
    return found[1] if found else platform.machine()


def _memory_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
