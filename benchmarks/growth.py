"""What must not grow: the price of a page, and that of a tick or of memory as the state fills."""

import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

from benchmarks.ours import daemon, settings, wait_logged
from benchmarks.processes import inside, serving
from benchmarks.results import Check, Row
from benchmarks.settings import Plan

FEW = 1000
PAGES = 21
WARM = 3
"""Pages that are not counted: the first of a process find cold caches."""
WATCH_S = 6.0
PASSES = 3


def page(plan: Plan) -> list[Row]:
    """A page of 100 full orders, all new."""
    row = Row("a page of 100 full orders: from its bytes to the commit", "ms")
    reading = Row("of which reading it", "ms")
    cpu = Row("CPU of such a page, its log lines included", "ms")
    for of in plan.ours:
        measured = inside(of, "page", _file(plan, "page"), PAGES)
        row.figures[of] = median(measured["page_ms"][WARM:])
        reading.figures[of] = median(measured["read_ms"][WARM:])
        cpu.figures[of] = median(measured["cpu_ms"][WARM:])
        row.notes = f"{measured['bytes'] / 1000:.0f} KB, 100 notifications made"
        row.ask(of, 15)
    return [row, reading, cpu]


def known(plan: Plan) -> list[Row]:
    """The same with few known orders, and with very many."""
    among = f"{plan.many:,} orders known rather than {FEW:,}: times slower"
    fresh = Row(f"a page of new orders, {among}", "")
    scattered = Row(f"a page of orders changed without news that lie scattered, {among}", "")
    of = plan.ours[0]
    files = {count: _file(plan, f"known-{count}") for count in (FEW, plan.many)}
    for count, file in files.items():
        inside(of, "fill", f"sqlite:///{file}", "known", count)
    for row, among_known in ((fresh, False), (scattered, True)):
        measured: dict[int, list[float]] = {FEW: [], plan.many: []}
        for _ in range(PASSES):
            for count, file in files.items():
                pages = inside(of, "page", file, PAGES, count if among_known else 0)["page_ms"]
                measured[count] += pages[WARM:]
        few, many = median(measured[FEW]), median(measured[plan.many])
        row.figures[of] = many / few
        row.checks.append(Check(of, many / few, 1.2))
        row.notes = f"{few:.1f} ms and {many:.1f} ms"
    return [fresh, scattered]


def outbox(plan: Plan) -> list[Row]:
    """Memory while few or very many deliveries wait."""
    row = Row(f"memory with {plan.many:,} deliveries waiting, less that with {FEW:,}", "MB")
    measured: dict[int, float] = {}
    of = plan.ours[0]
    for count in (FEW, plan.many):
        with ExitStack() as stack:
            shop = stack.enter_context(serving("shop", home=plan.home))
            receiver = stack.enter_context(serving("receiver", home=plan.home))
            state = f"sqlite:///{_file(plan, f'outbox-{count}')}"
            inside(of, "fill", state, "outbox", count)
            env = settings(shop, state=state, sink=f"{receiver.url}/hook")
            process = stack.enter_context(daemon(of, env, home=plan.home))
            wait_logged(process, "started")
            receiver.wait_count(min(count, FEW), process)
            measured[count] = 0.0
            until = time.monotonic() + WATCH_S
            while time.monotonic() < until:
                measured[count] = max(measured[count], process.memory_mb()[0])
                time.sleep(0.2)
    row.figures[of] = measured[plan.many] - measured[FEW]
    row.checks.append(Check(of, row.figures[of], 20))
    row.notes = (
        f"{measured[FEW]:.0f} MB and {measured[plan.many]:.0f} MB, the most that was seen while it delivers"
    )
    return [row]


def _file(plan: Plan, name: str) -> Path:
    return plan.home / f"{name}-{time.monotonic_ns()}.db"
