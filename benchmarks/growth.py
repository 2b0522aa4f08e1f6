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
WATCH_S = 6.0
PASSES = 3


def page(plan: Plan) -> list[Row]:
    """A page of 100 full orders, all new."""
    row = Row("a page of 100 full orders: from its bytes to the commit", "ms")
    reading = Row("of which reading it", "ms")
    for of in plan.ours:
        seen = inside(of, "page", _file(plan, "page"), PAGES)
        row.figures[of] = median(seen["page_ms"])
        reading.figures[of] = median(seen["read_ms"])
        row.notes = f"{seen['bytes'] / 1000:.0f} KB, 100 notifications made"
        row.ask(of, 15)
    return [row, reading]


def known(plan: Plan) -> list[Row]:
    """The same with few known orders, and with very many."""
    row = Row(f"a page of changed orders, {FEW:,} or {plan.many:,} known: times slower", "")
    of = plan.ours[0]
    few, many = _file(plan, "few"), _file(plan, "many")
    inside(of, "fill", f"sqlite:///{few}", "known", FEW)
    inside(of, "fill", f"sqlite:///{many}", "known", plan.many)
    with_few, with_many = [], []
    for _ in range(PASSES):
        with_few += inside(of, "page", few, PAGES // 2, FEW)["page_ms"]
        with_many += inside(of, "page", many, PAGES // 2, plan.many)["page_ms"]
    row.figures[of] = median(with_many) / median(with_few)
    row.checks.append(Check(of, row.figures[of], 1.2))
    row.notes = f"{median(with_few):.1f} ms and {median(with_many):.1f} ms; the orders lie scattered"
    return [row]


def outbox(plan: Plan) -> list[Row]:
    """Memory while few or very many deliveries wait."""
    row = Row(f"memory with {plan.many:,} deliveries waiting, less that with {FEW:,}", "MB")
    seen: dict[int, float] = {}
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
            seen[count] = 0.0
            until = time.monotonic() + WATCH_S
            while time.monotonic() < until:
                seen[count] = max(seen[count], process.memory_mb()[0])
                time.sleep(0.2)
    row.figures[of] = seen[plan.many] - seen[FEW]
    row.checks.append(Check(of, row.figures[of], 20))
    row.notes = f"{seen[FEW]:.0f} MB and {seen[plan.many]:.0f} MB, the most that was seen while it delivers"
    return [row]


def _file(plan: Plan, name: str) -> Path:
    return plan.home / f"{name}-{time.monotonic_ns()}.db"
