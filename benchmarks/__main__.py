"""`make bench`: measures both sides in the same run, prints the figures, writes docs/benchmarks.md."""

import argparse
import signal
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import events, growth, idle, report
from benchmarks.processes import BenchmarkError, inside
from benchmarks.results import OURS, Row, number
from benchmarks.settings import Plan

MEASUREMENTS = {
    "page": growth.page,
    "start": idle.start,
    "idle": idle.idle,
    "tick": events.tick,
    "webhooks": events.webhooks,
    "pubsub": events.pubsub,
    "trips": events.round_trips,
    "known": growth.known,
    "outbox": growth.outbox,
}
FAST = "httpx-aiohttp"
"""What the extra `fast` brings, among others."""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="10,000 events a burst, a million orders")
    parser.add_argument("--only", help=f"some of {','.join(MEASUREMENTS)}; the page is not written then")
    parser.add_argument("--ours", help="plain or fast, instead of both")
    parser.add_argument("--rounds", type=int, help="of each measurement")
    args = parser.parse_args()
    names = args.only.split(",") if args.only else list(MEASUREMENTS)
    if unknown := set(names) - set(MEASUREMENTS):
        parser.error(f"--only knows {', '.join(MEASUREMENTS)}, not {', '.join(sorted(unknown))}")
    with tempfile.TemporaryDirectory(prefix="shop-poller-bench-") as home:
        plan = _plan(Path(home), full=args.full, ours=args.ours, rounds=args.rounds)
        rows: list[Row] = []
        for name in names:
            began = time.monotonic()
            say(f"{name} ...")
            measured = MEASUREMENTS[name](plan)
            rows += measured
            for row in measured:
                say(f"  {_line(row)}")
                for check in row.checks:
                    say(f"      {'met    ' if check.met else 'NOT MET'}  {check}")
            say(f"  ({time.monotonic() - began:.0f} s)")
        if not args.only and not args.ours:
            report.write(plan, rows, full=args.full)
            say(f"written: {report.PAGE.name}, {report.CHART.name}")
    checks = [check for row in rows for check in row.checks]
    say(f"{sum(check.met for check in checks)} of {len(checks)} goals met")


def _plan(home: Path, *, full: bool, ours: str | None, rounds: int | None) -> Plan:
    contenders: tuple[str, ...] = (ours,) if ours else OURS
    if "fast" in contenders and FAST not in inside("fast", "versions", FAST):
        say(f"the environment fast has no {FAST}: it is left out")
        contenders = tuple(of for of in contenders if of != "fast")
    if full:
        return Plan(
            home,
            contenders,
            rounds or 3,
            burst=10_000,
            fast_burst=10_000,
            their_burst=10_000,
            slow_burst=1000,
            idle_s=40.0,
            many=1_000_000,
        )
    return Plan(home, contenders, rounds or Plan.rounds)


def _line(row: Row) -> str:
    figures = ", ".join(f"{of} {number(figure)}" for of, figure in row.figures.items())
    return f"{row.what} ({row.unit}): {figures}" if row.unit else f"{row.what}: {figures}"


def say(text: str) -> None:
    """Show how it goes."""
    print(text, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is ended then, too
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmarks: {error}")
