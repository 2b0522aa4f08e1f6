"""What it costs to wait: memory, CPU, an empty tick; and how long a start takes."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack

from benchmarks.ours import daemon, settings, wait_logged
from benchmarks.processes import BenchmarkError, Process, Served, inside, python, running, serving, wait_until
from benchmarks.results import Row, Samples
from benchmarks.settings import Plan
from benchmarks.theirs import celery_design, redis_server

EMPTY_TICKS = 15
EMPTY_POLLS = 20
WARM_S = 5.0


def idle(plan: Plan) -> list[Row]:
    """Memory and CPU of everything that waits, all side by side."""
    memory = Row("resident memory, idle", "MB")
    shared = Row("the same, shared pages divided by those who share them (PSS)", "MB")
    minute = Row("CPU of an idle minute, an empty tick in it", "ms")
    tick = Row("CPU of an empty tick", "ms")
    with ExitStack() as stack:
        shop = stack.enter_context(serving("shop", home=plan.home))
        receiver = stack.enter_context(serving("receiver", home=plan.home))
        server = stack.enter_context(redis_server(plan.home))
        contenders: dict[str, list[Process]] = {}
        for of in plan.ours:
            env = _env(plan, of, shop, receiver)
            contenders[of] = [stack.enter_context(daemon(of, env, home=plan.home))]
        celery = stack.enter_context(
            celery_design(
                server, shop=shop, sink=f"{receiver.url}/hook", kept=True, home=plan.home, whole=True
            )
        )
        contenders["best"] = celery.processes
        for of in plan.ours:
            wait_logged(contenders[of][0], "started")
        celery.poll()
        time.sleep(WARM_S)
        charged = {of: [*processes] for of, processes in contenders.items()}
        charged["best"].append(server.process)  # it is needed by nobody else
        before = {of: _cpu_s(processes) for of, processes in charged.items()}
        time.sleep(plan.idle_s)
        for of, processes in contenders.items():
            sizes = [process.memory_mb() for process in processes]
            memory.figures[of] = sum(resident for resident, _ in sizes)
            shared.figures[of] = sum(proportional for _, proportional in sizes)
        idle_ms = {
            of: (_cpu_s(processes) - before[of]) * 1000 * 60 / plan.idle_s
            for of, processes in charged.items()
        }
        tick.figures["best"] = _empty_polls(celery.worker, celery.poll, shop)
        for of in plan.ours:
            contenders[of][0].end()
        sink = f"{receiver.url}/hook"
        celery.worker.end()
        with celery_design(server, shop=shop, sink=sink, kept=False, home=plan.home) as written:
            tick.figures["written"] = _empty_polls(written.worker, written.poll, shop)
    tick.figures |= _empty_ticks(plan, idle_ms)
    for of, ms in idle_ms.items():
        minute.figures[of] = ms + tick.figures[of]
    memory.ask("plain", 56)
    memory.ask("fast", 76)
    memory.ask_ratio("plain", "best", 5)
    for of in plan.ours:
        tick.ask(of, 3)
        minute.ask_ratio(of, "best", 10)
    memory.notes = "one shop, SQLite, a webhook; Celery: worker (prefork, 2), beat and flower, without Redis"
    minute.notes = f"of {plan.idle_s:g} s without a tick, and one tick; Celery's with its Redis"
    return [memory, shared, minute, tick]


def _env(plan: Plan, of: str, shop: Served, receiver: Served, **more: str) -> dict[str, str]:
    return settings(
        shop,
        state=f"sqlite:///{plan.home}/idle-{of}-{time.monotonic_ns()}.db",
        sink=f"{receiver.url}/hook",
        **more,
    )


def _cpu_s(processes: list[Process]) -> float:
    return sum(process.cpu_s() for process in processes)


def _empty_polls(worker: Process, poll: Callable[[int], None], shop: Served) -> float:
    """Milliseconds of a worker's CPU for a poll that finds nothing."""
    before = 0.0
    for count in (4, EMPTY_POLLS):  # the first few, so that each process of the pool has begun to work
        before, requested = worker.cpu_s(), shop.listings + count
        poll(count)
        shop.wait_requested(requested)
        time.sleep(1.0)
    return (worker.cpu_s() - before) * 1000 / EMPTY_POLLS


def _empty_ticks(plan: Plan, idle_ms: dict[str, float]) -> dict[str, float]:
    """Milliseconds of CPU for a tick that finds nothing: of one a second, less the second's idling.

    Args:
        plan: with whom.
        idle_ms: of a minute.
    """
    with ExitStack() as stack:
        receiver = stack.enter_context(serving("receiver", home=plan.home))
        shops = {of: stack.enter_context(serving("shop", home=plan.home)) for of in plan.ours}
        processes: dict[str, Process] = {}
        for of, shop in shops.items():
            env = _env(plan, of, shop, receiver, SHOP_POLLING_INTERVAL="1")
            processes[of] = stack.enter_context(daemon(of, env, home=plan.home))
        for shop in shops.values():
            shop.wait_listings(8)
        began = time.monotonic()
        before = {of: (process.cpu_s(), shops[of].listings) for of, process in processes.items()}
        time.sleep(EMPTY_TICKS + 0.5)
        seconds = time.monotonic() - began
        ticks: dict[str, float] = {}
        for of, process in processes.items():
            cpu_s, listings = before[of]
            spent_ms = (process.cpu_s() - cpu_s) * 1000 - seconds * idle_ms[of] / 60
            ticks[of] = spent_ms / (shops[of].listings - listings)
    return ticks


def start(plan: Plan) -> list[Row]:
    """How long it takes until the shop is asked for the first time."""
    row = Row("start to the first request", "ms")
    samples = Samples()
    for of in plan.ours:
        (plan.home / f"{of}.json").write_text(json.dumps(inside(of, "libraries")), encoding="utf-8")
    with serving("receiver", home=plan.home) as receiver:
        for _ in range(2 * plan.rounds):
            for of in plan.ours:
                with serving("shop", home=plan.home) as shop:
                    env = _env(plan, of, shop, receiver)
                    with daemon(of, env, home=plan.home) as process:
                        samples.add(of, _first_request_ms(process, shop))
                with serving("shop", home=plan.home) as shop:
                    args = ["-m", "benchmarks.inside.bare", "start", shop.url, str(plan.home / f"{of}.json")]
                    with running("bare", [python(of), *args], home=plan.home) as process:
                        samples.add(f"bare {of}", _first_request_ms(process, shop))
    row.figures = samples.medians()
    for of in plan.ours:
        row.ask(of, 1000)
        row.ask_ratio(of, f"bare {of}", 1 / 2)
    row.notes = "bare loop: a Python that imports the same modules, opens a file and a client, and asks"
    return [row]


def _first_request_ms(process: Process, shop: Served) -> float:
    def first() -> float:
        if process.popen.poll():
            process.check()
        at: float = shop.ask("/stats")["first"]
        return at

    at = wait_until(first, f"the first request of {process.name}")
    if at < process.started - 1:
        raise BenchmarkError("the clocks of two processes do not agree")
    return (at - process.started) * 1000
