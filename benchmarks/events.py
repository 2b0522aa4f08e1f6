"""What deliveries cost: a tick with news, a burst by webhook or by Redis, and the round trips of a burst."""

import math
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from benchmarks.ours import daemon, settings
from benchmarks.processes import Process, Served, inside, serving
from benchmarks.receiver import CHANNEL
from benchmarks.results import Row, Samples
from benchmarks.settings import Plan
from benchmarks.theirs import RedisServer, celery_design, redis_server

NEWS = 100
IDLE_S = 1.0
START_S = 5.0
"""A prepared outbox becomes due so long after it was filled: by then the daemon idles."""
SENDERS = 8
"""The default."""


def tick(plan: Plan) -> list[Row]:
    """A tick that finds 100 new orders: from its question to the hundredth webhook."""
    row = Row(f"a tick with {NEWS} new orders: from its question to {NEWS} webhooks received", "ms")
    cpu = Row("CPU of the same", "ms")
    memory = Row("resident memory after such ticks", "MB")
    took, spent = Samples(), Samples()

    def measure(of: str, process: Process, shop: Served, receiver: Served, poll: Callable[[], None]) -> None:
        for number in range(plan.rounds + 1):
            receiver.ask("/reset", post=True)
            time.sleep(IDLE_S + 1 - time.time() % 1)  # in a second of its own: dates have no finer ones
            shop.ask(f"/orders?n={NEWS}", post=True)
            time.sleep(1.1 if of in {"written", "best"} else 0.0)
            before = process.cpu_s()
            poll()
            stats = receiver.wait_count(NEWS, process)
            time.sleep(0.3)  # what is written down afterwards is part of the price
            if number:  # the first one warms up
                took.add(of, (stats["last"] - shop.ask("/stats")["listed"]) * 1000)
                spent.add(of, (process.cpu_s() - before) * 1000)
            shop.ask("/orders?n=0", post=True)
        memory.figures[of] = process.memory_mb()[0]

    for of in (*plan.ours, "written", "best"):
        with ExitStack() as stack:
            shop = stack.enter_context(serving("shop", home=plan.home))
            receiver = stack.enter_context(serving("receiver", home=plan.home))
            sink = f"{receiver.url}/hook"
            if of in plan.ours:
                state = f"sqlite:///{plan.home}/tick-{of}.db"
                env = settings(shop, state=state, sink=sink, SHOP_POLLING_INTERVAL="2")
                process = stack.enter_context(daemon(of, env, home=plan.home))
                shop.wait_listings(5)
                measure(of, process, shop, receiver, lambda: None)
            else:
                server = stack.enter_context(redis_server(plan.home))
                kept = of == "best"
                design = stack.enter_context(
                    celery_design(server, shop=shop, sink=sink, kept=kept, home=plan.home)
                )
                measure(of, design.worker, shop, receiver, design.poll)
    row.figures, cpu.figures = took.medians(), spent.medians()
    for of in plan.ours:
        row.ask_ratio(of, "written", 15)
        row.ask_ratio(of, "best", 3)
    cpu.notes = "of the worker or the daemon; Redis and what enqueues the poll not counted"
    memory.notes = "of Celery the worker alone"
    return [row, cpu, memory]


@dataclass
class Burst:
    """What was seen of a burst.

    Attributes:
        rate: deliveries a second, from the first to the last.
        cpu_s: seconds of CPU a thousand.
        commands: of Redis, a delivery.
        round_trips: likewise.
    """

    rate: float
    cpu_s: float
    commands: float = 0.0
    round_trips: float = 0.0


class _Bursts:
    """What was seen of the bursts of each contender."""

    def __init__(self) -> None:
        self.rates, self.cpus = Samples(), Samples()

    def add(self, of: str, burst: Burst) -> None:
        """One more."""
        self.rates.add(of, burst.rate)
        self.cpus.add(of, burst.cpu_s)


def webhooks(plan: Plan) -> list[Row]:
    """A burst to a webhook."""
    rate = Row("burst to a webhook", "a second", more_is_better=True)
    cpu = Row("CPU of 1,000 of them", "s")
    bursts = _Bursts()
    for _ in range(plan.rounds):
        for of in plan.ours:
            for name, burst in ((of, ours(plan, of)), (f"bare {of}", _bare_post(plan, of))):
                bursts.add(name, burst)
        for of in ("written", "best"):
            burst = theirs(plan, kept=of == "best")
            bursts.add(of, burst)
    rate.figures, cpu.figures = bursts.rates.medians(), bursts.cpus.medians()
    for of, times, cheaper in (("plain", 2.5, 2.5), ("fast", 6, 6)):
        rate.ask_ratio(of, "best", times)
        rate.ask_ratio(of, f"bare {of}", 0.75)
        cpu.ask_ratio(of, "best", cheaper)
    rate.notes = (
        f"{plan.burst:,} events, {plan.their_burst:,} of Celery's, {plan.slow_burst:,} as it is written;"
        f" {SENDERS} senders"
    )
    cpu.notes = "of the worker or the daemon, Redis not counted"
    return [rate, cpu]


def pubsub(plan: Plan) -> list[Row]:
    """A burst to Redis Pub/Sub."""
    rate = Row("burst to Redis Pub/Sub", "a second", more_is_better=True)
    cpu = Row("CPU of 1,000 of them", "s")
    unlogged = Row("the same burst, without log lines", "a second", more_is_better=True)
    from_outbox = Row("a bare loop that takes them from an outbox in SQLite", "a second", more_is_better=True)
    bursts, seen_unlogged, seen_outbox = _Bursts(), Samples(), Samples()
    for _ in range(plan.rounds):
        for of in plan.ours:
            for name, burst in ((of, ours(plan, of, by_redis=True)), (f"bare {of}", _bare_publish(plan, of))):
                bursts.add(name, burst)
            seen_unlogged.add(of, ours(plan, of, by_redis=True, log_level="warning").rate)
            seen_outbox.add(f"bare {of}", _bare_publish(plan, of, from_outbox=True).rate)
        burst = theirs(plan, kept=True, by_redis=True)
        bursts.add("best", burst)
    rate.figures, cpu.figures = bursts.rates.medians(), bursts.cpus.medians()
    unlogged.figures, from_outbox.figures = seen_unlogged.medians(), seen_outbox.medians()
    for of in plan.ours:
        rate.ask_ratio(of, "best", 10)
        rate.ask_ratio(of, f"bare {of}", 0.5)
    rate.notes = f"{plan.fast_burst:,} events, {plan.their_burst:,} of Celery's; bare: a hundred at once"
    unlogged.notes = "SHOP_LOG_LEVEL=warning"
    from_outbox.notes = "a hundred at once, kept as delivered, a commit for each hundred; no log, no metrics"
    return [rate, cpu, unlogged, from_outbox]


def round_trips(plan: Plan) -> list[Row]:
    """What Redis is asked in a burst, where both state and sink are in it."""
    trips = Row("round trips to Redis of a notification in a burst, state and sink in Redis", "")
    commands = Row("commands of the same", "")
    for of in plan.ours:
        burst = ours(plan, of, by_redis=True, in_redis=True)
        trips.figures[of], commands.figures[of] = burst.round_trips, burst.commands
        trips.ask(of, 0.2)
    burst = theirs(plan, kept=True)
    trips.figures["best"], commands.figures["best"] = burst.round_trips, burst.commands
    trips.notes = "reads from a connection, as the server counts them: what is pipelined is read at once"
    return [trips, commands]


def ours(
    plan: Plan, of: str, *, by_redis: bool = False, in_redis: bool = False, log_level: str = "info"
) -> Burst:
    """An outbox becomes due all at once."""
    count = plan.fast_burst if by_redis else plan.burst
    with ExitStack() as stack:
        shop = stack.enter_context(serving("shop", home=plan.home))
        server = stack.enter_context(redis_server(plan.home))
        args = ["--redis", str(server.port)] if by_redis else []
        receiver = stack.enter_context(serving("receiver", *args, home=plan.home))
        state = server.url if in_redis else f"sqlite:///{plan.home}/burst-{time.monotonic_ns()}.db"
        sink = f"{server.url}?channel={CHANNEL}" if by_redis else f"{receiver.url}/hook"
        due = time.monotonic() + START_S + count / 5000
        inside(of, "fill", state, "outbox", count, due - time.monotonic())
        env = settings(shop, state=state, sink=sink, SHOP_POLLING_INTERVAL="3600", SHOP_LOG_LEVEL=log_level)
        process = stack.enter_context(daemon(of, env, home=plan.home))
        shop.wait_requested(1)
        time.sleep(max(0.0, due - 0.5 - time.monotonic()))
        return _watched(count, process, receiver, server)


def theirs(plan: Plan, *, kept: bool, by_redis: bool = False) -> Burst:
    """A queue becomes readable all at once."""
    count = plan.their_burst if kept else plan.slow_burst
    with ExitStack() as stack:
        shop = stack.enter_context(serving("shop", home=plan.home))
        server = stack.enter_context(redis_server(plan.home))
        args = ["--redis", str(server.port)] if by_redis else []
        receiver = stack.enter_context(serving("receiver", *args, home=plan.home))
        sink = server.url if by_redis else f"{receiver.url}/hook"
        design = stack.enter_context(celery_design(server, shop=shop, sink=sink, kept=kept, home=plan.home))
        commands, trips = server.commands(), server.round_trips()
        design.prepare(count)
        prepared = server.commands() - commands, server.round_trips() - trips
        time.sleep(IDLE_S)
        return _watched(count, design.worker, receiver, server, prepared=prepared, go=design.let_go)


def _watched(
    count: int,
    process: Process,
    receiver: Served,
    server: RedisServer,
    *,
    prepared: tuple[int, int] = (0, 0),
    go: Callable[[], None] = lambda: None,
) -> Burst:
    """Watch a burst from just before it begins."""
    cpu_s, commands, trips = process.cpu_s(), server.commands(), server.round_trips()
    go()
    stats = receiver.wait_count(count, process, within_s=60 + count / 20)
    time.sleep(IDLE_S)  # what is written down afterwards is part of the price
    return Burst(
        rate=_rate(count, stats),
        cpu_s=(process.cpu_s() - cpu_s) * 1000 / count,
        commands=(server.commands() - commands + prepared[0]) / count,
        round_trips=(server.round_trips() - trips + prepared[1]) / count,
    )


def _rate(count: int, stats: dict[str, Any]) -> float:
    seconds = stats["last"] - stats["first"]
    return (count - 1) / seconds if seconds > 0 else math.inf


def _bare_post(plan: Plan, of: str) -> Burst:
    with serving("receiver", home=plan.home) as receiver:
        cpu_s = inside(of, "bare", "post", f"{receiver.url}/hook", plan.burst, SENDERS)
        return Burst(_rate(plan.burst, receiver.ask("/stats")), cpu_s * 1000 / plan.burst)


def _bare_publish(plan: Plan, of: str, *, from_outbox: bool = False) -> Burst:
    what, file = (
        ("outbox", [plan.home / f"bare-{time.monotonic_ns()}.db"]) if from_outbox else ("publish", [])
    )
    with (
        redis_server(plan.home) as server,
        serving("receiver", "--redis", str(server.port), home=plan.home) as receiver,
    ):
        cpu_s = inside(of, "bare", what, server.port, plan.fast_burst, *file)
        stats = receiver.wait_count(plan.fast_burst // 100 * 100, receiver.process)
    return Burst(_rate(stats["count"], stats), cpu_s * 1000 / plan.fast_burst)
