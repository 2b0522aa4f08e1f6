"""What things cost, counted rather than timed: calls, statements, round trips, parses, bytes, modules.

The bounds stand a little above what was counted. Whoever breaks one has made something dearer: make it
cheaper again, or raise the bound and say why. What it comes to in seconds is measured by `make bench`.
"""

import io
import json
import logging
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import httpx
import pytest
import redis.asyncio as aioredis
import structlog

from shop_poller.alerts import AlertManager
from shop_poller.config.redis_address import parse_redis
from shop_poller.core.filters import EVERYTHING
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import Page, Query
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import set_up_logging
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.plan import PollPlan
from shop_poller.ports import Batch, Sink, Store
from shop_poller.simulator.answers import Answer, Request
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.statuses import MEANINGS
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from shop_poller.stores.redis import RedisStore
from support import wire
from support.deliveries import new_deliveries
from support.shop_harness import SHOP, FakeShop, FakeSink, ShopHarness, refused, shop_harness
from support.sink_peers import valkey_server
from support.virtual_time import at_once, virtual_now
from support.wired import bench_for

N = 80
"""Orders of a page: one that is nearly full would be followed by another question."""
PLAN = PollPlan(shop=SHOP, meanings=MEANINGS, sweep_every=timedelta(0))
pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _logging_as_a_daemon(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is logged costs as much as anything."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    set_up_logging(level="info", style="json", secrets=["a-secret"])
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Calls:
    """Calls made meanwhile in this thread, of Python's functions and of C's, by name."""

    def __init__(self) -> None:
        self.names: Counter[str] = Counter()

    @property
    def total(self) -> int:
        return self.names.total()

    def note(self, frame: FrameType, event: str, arg: Any) -> None:
        if event == "call":
            self.names[frame.f_code.co_name] += 1
        elif event == "c_call":
            self.names[arg.__qualname__] += 1


@contextmanager
def counting() -> Iterator[Calls]:
    calls = Calls()
    sys.setprofile(calls.note)
    try:
        yield calls
    finally:
        sys.setprofile(None)


@contextmanager
def statements(shop_harness: ShopHarness) -> Iterator[list[str]]:
    """The SQL that the store executes meanwhile, with its values."""
    executed: list[str] = []
    shop_harness.store._connection._db.set_trace_callback(executed.append)
    try:
        yield executed
    finally:
        shop_harness.store._connection._db.set_trace_callback(None)


def commits(executed: list[str]) -> int:
    return sum(statement == "COMMIT" for statement in executed)


def test_a_tick_without_news_costs_little(tmp_path: Path) -> None:
    async def story() -> tuple[int, list[str]]:
        async with shop_harness(tmp_path / "state.db", plan=PLAN) as here:
            for _ in range(3):
                await here.tick()
            totals = []
            for _ in range(3):  # what is collected or cached meanwhile counts in one of them, not in all
                with statements(here) as executed, counting() as calls:
                    await here.tick()
                totals.append(calls.total)
            return min(totals), executed

    calls, executed = at_once(story())
    assert commits(executed) == 1
    assert len(executed) <= 3, executed
    assert calls <= 810  # of these 8 store since when digests count, and export that no poll fails


def test_a_tick_with_a_page_of_news_costs_a_commit_and_one_for_the_end_of_the_walk(tmp_path: Path) -> None:
    async def story() -> tuple[int, list[str]]:
        async with shop_harness(tmp_path / "state.db", plan=PLAN) as here:
            for _ in range(3):
                await here.tick()
            for order_id in range(1, N + 1):
                here.shop.put(order_id, "processing")
            with statements(here) as executed, counting() as calls:
                await here.tick()
            assert len(here.new_deliveries) == N
            return calls.total, executed

    calls, executed = at_once(story())
    assert commits(executed) == 2
    assert len(executed) / N <= 3.1
    # Of these 75 mask a line of the log, 14 write the facts that people read, and 20 count it for digests.
    assert calls / N <= 280


def test_a_burst_is_claimed_and_recorded_many_at_once(tmp_path: Path) -> None:
    count = 10 * N

    async def story() -> tuple[int, list[str]]:
        async with shop_harness(tmp_path / "state.db", shop=burst(count), plan=PLAN) as here:
            await here.tick()
            assert len(here.new_deliveries) == count
            with statements(here) as executed, counting() as calls:
                await here.deliver()
            assert len(here.sinks[0].got) == count
            return calls.total, executed

    calls, executed = at_once(story())
    assert commits(executed) / count <= 0.01
    assert len(executed) / count <= 0.05
    assert calls / count <= 435  # likewise; of these 24 time an attempt and write it down


def burst(count: int) -> FakeShop:
    shop = FakeShop()
    for order_id in range(1, count + 1):
        shop.put(
            order_id,
            "processing",
            created_at=datetime(2026, 11, 23, 8, 30, tzinfo=UTC) + timedelta(seconds=order_id),
        )
    return shop


PARSERS = ("from_json", "loads", "SchemaValidator.validate_json", "Decoder.decode")


def page() -> bytes:
    """An answer with a hundred full orders, as a real shop makes it."""
    recorded = list(wire.orders_by_status().values())
    orders = [{**recorded[n % len(recorded)], "id": n + 1} for n in range(N)]
    content = {"data": orders}
    result = {"content": [{"type": "text", "text": json.dumps(content)}], "structuredContent": content}
    return json.dumps({"jsonrpc": "2.0", "id": 2, "result": result}).encode()


async def read(body: bytes, monkeypatch: pytest.MonkeyPatch) -> tuple[Page, Calls, int]:
    """Read it by the real source; returns also what was called, and the most bytes that were held at once."""
    init = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'
    answers = [init, b"", body, b""]

    async def ask(self: ShopConnection, *_: Any, **__: Any) -> tuple[httpx.Response, bytes]:
        del self
        date = format_datetime(datetime.now(UTC), usegmt=True)
        return httpx.Response(200, headers={"date": date}), answers.pop(0)

    monkeypatch.setattr(ShopConnection, "ask", ask)
    source = WooCommerceMcp("http://shop.example/", consumer_key="ck_1", consumer_secret="cs_1")
    tracemalloc.start()
    try:
        with counting() as calls:
            found = await source.fetch(Query(per_page=N))
        return found, calls, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_page_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    body = page()
    found, calls, peak = at_once(read(body, monkeypatch))
    assert len(found.orders) == N
    assert sum(calls.names[name] for name in PARSERS) == 2, "initialize and the page"
    assert calls.total / N <= 120  # of these 55 read the lines of an order, and how it is paid and delivered
    assert peak / len(body) <= 2.1


REDIS_BURST = 300


async def test_a_burst_takes_few_round_trips_to_redis() -> None:
    server = valkey_server()
    try:
        address = f"redis://127.0.0.1:{server.port}/0"
        store = RedisStore(parse_redis(address), prefix="shop:polling:", first_shop=SHOP)
        sink = parse_sink(f"{address}?channel=news#sink").open(signing_keys=(), connections=8)
        async with aioredis.Redis(port=server.port) as client, client.pubsub() as listener:
            await listener.subscribe("news")
            assert await store.take()
            state, now = await store.register(SHOP, store.now()), store.now()
            rows = [new_deliveries("sink", str(number)) for number in range(REDIS_BURST)]
            await store.commit(SHOP, Batch(state=state, now=now, seen_at=now, new_deliveries=rows))
            before = (await client.info("stats"))["total_reads_processed"]
            dispatcher = dispatching(sink, store)
            await dispatcher.run(until_idle=True)
            trips = (await client.info("stats"))["total_reads_processed"] - before
        await sink.aclose()
        await store.aclose()
    finally:
        server.terminate()
    assert dispatcher.delivered == REDIS_BURST
    # On a busy machine batches are smaller, and more: 0.1 to 0.2. One by one it would be more than 1.
    assert trips / REDIS_BURST <= 0.4


def dispatching(sink: Sink, store: Store) -> Dispatcher:
    metrics = Metrics(SHOP, [sink.name])
    alert_manager = AlertManager(
        store,
        history=store,
        message_format=MessageFormat(SHOP),
        sinks={sink.name: EVERYTHING},
        now=store.now,
        on_new_deliveries=lambda *_: None,
    )
    return Dispatcher(
        sink,
        DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72))),
        outbox=store,
        may_send=lambda: True,
        mask=lambda text: text,
        alert_manager=alert_manager,
        metrics=metrics,
        clock=ClockWatch(store.now, metrics=metrics),
        random=lambda: 0.5,
    )


LARGE = ("known_orders", "outbox", "delivered", "dead_letters")


def test_frequent_statements_use_an_index(tmp_path: Path) -> None:
    """The statements of a tick, a delivery and a dead letter, without those that count rows for people."""

    async def story() -> dict[str, list[str]]:
        sink = FakeSink(behave=lambda delivery: refused() if int(delivery.key) % 2 else None)
        async with shop_harness(tmp_path / "state.db", sinks=[sink], plan=PLAN) as here:
            with statements(here) as executed:
                await here.tick()
                for order_id in range(1, N + 1):
                    here.shop.put(order_id, "processing")
                await here.tick()
                await here.deliver()
                await here.store.open_orders(SHOP, after_id=0, limit=N)
                await here.store.release_parked(sink.name)
                await here.store.dead_letter_expired(sink.name, head_before=virtual_now(), now=virtual_now())
                await here.store.prune(SHOP, seen_before=virtual_now(), finished_before=virtual_now())
            return {
                statement: [
                    row[3] for row in here.store._connection._db.execute(f"EXPLAIN QUERY PLAN {statement}")
                ]
                for statement in executed
                if statement.startswith(("SELECT", "INSERT", "UPDATE", "DELETE"))
            }

    plans = at_once(story())
    assert len(plans) > N
    scans = {
        statement[:200]: step
        for statement, steps in plans.items()
        for step in steps
        if step.startswith("SCAN") and any(table in step.split() for table in LARGE) and " USING " not in step
    }
    assert scans == {}


BUILD = """
import asyncio, json, sys
from shop_poller.runtime import app
from shop_poller.cli import main as cli
from shop_poller.runtime.composition import open_daemon
from shop_poller.config.loader import load
from shop_poller.config.shops import ShopsConfig
from shop_poller.sinks.registry import parse_sink
from shop_poller.observability.logging import set_up_logging

async def main():
    settings = load(environ=json.loads(sys.argv[1]), parse_sink=parse_sink)
    set_up_logging(level="info", style="json", secrets=settings.secrets)
    async with open_daemon(ShopsConfig.of_one(settings)):
        pass

asyncio.run(main())
print(json.dumps(sorted(sys.modules)))
"""
UNWANTED = (
    "apprise", "celery", "fakeredis", "hypothesis", "jinja2", "markdown_it", "mcp", "pydantic.v1", "redis",
    "shop_poller.cli.check", "shop_poller.cli.demo", "shop_poller.cli.preview", "shop_poller.cli.replay",
    "shop_poller.cli.each_shop", "shop_poller.cli.status_command", "shop_poller.cli.check_command",
    "shop_poller.cli.help_page", "shop_poller.cli.usage_errors", "shop_poller.core.recognition",
    "shop_poller.core.examples", "shop_poller.simulator",
    "shop_poller.runtime.balancer", "shop_poller.runtime.egress", "shop_poller.runtime.fleet_status",
    "shop_poller.runtime.once", "shop_poller.runtime.status_page_data", "shop_poller.web.status_page",
    "shop_poller.stores.redis", "shop_poller.sinks.apprise.sink", "shop_poller.sinks.redis.sink",
)  # fmt: skip


def test_the_daemon_loads_only_what_it_needs(tmp_path: Path) -> None:
    settings = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
        "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
        "SHOP_NOTIFY_URLS": "https://crm.example/hook",
        "SHOP_STATE_URL": f"sqlite:///{tmp_path}/state.db",
    }
    done = subprocess.run(
        [sys.executable, "-c", BUILD, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    modules = set(json.loads(done.stdout))
    assert {name for name in UNWANTED if name in modules} == set()


BURST, LARGE_BURST, FEW, MANY, IMPORT = 100, 400, 10, 250, 1000
REQUESTS = {
    "first contact": {"rest": 4, "woocommerce-mcp": 6, "abilities": 8},
    "idle tick": {"rest": 1, "woocommerce-mcp": 1, "abilities": 1},
    "burst": {"rest": 2, "woocommerce-mcp": 2, "abilities": 2},
    "few open": {"rest": 2, "woocommerce-mcp": 2, "abilities": 11},
    "many open": {"rest": 4, "woocommerce-mcp": 4, "abilities": 251},
    "import": {"rest": 16, "woocommerce-mcp": 18, "abilities": 40},
    "20 ticks after a large burst": {"rest": 32, "woocommerce-mcp": 32, "abilities": 32},
}
"""HTTP requests at most, as docs/woocommerce.md has them: "What it costs the shop"."""


@pytest.mark.parametrize("what", REQUESTS)
@pytest.mark.parametrize("dialect", ["rest", "woocommerce-mcp", "abilities"])
def test_how_many_requests_a_shop_gets(what: str, dialect: str) -> None:
    count = at_once(requests_for(Dialect(dialect), what))
    sys.stdout.write(f"{what}: {count} requests of {dialect}\n")
    assert 0 < count <= REQUESTS[what][dialect]


async def requests_for(dialect: Dialect, what: str) -> int:
    """How many requests it takes, sessions and what `tools/list` asks included."""
    async with bench_for(dialect, per_page=100) as bench:
        answer, count = bench.endpoint.answer, 0

        def counted(request: Request) -> Answer:
            nonlocal count
            count += 1
            return answer(request)

        bench.endpoint.answer = counted  # type: ignore[method-assign] # it is what everything goes through
        old = {"few open": FEW, "many open": MANY, "import": IMPORT}.get(what, 0)
        for number in range(old):
            created = bench.shop.clock() - timedelta(days=5, seconds=number)
            bench.shop.create_order("processing", created=created, modified=created)
        if what not in {"first contact", "import"}:
            await bench.tick()
            await bench.tick()
            if what == "burst":
                for _ in range(BURST):
                    await anyio.sleep(0.5)
                    bench.shop.create_order("processing")
            elif what.endswith("large burst"):
                for _ in range(LARGE_BURST):
                    bench.shop.create_order("processing")
            await anyio.sleep(60)
            count = 0
        if what.endswith("open"):
            await bench.between_ticks()
            return count
        for _ in range(20 if what.startswith("20 ticks") else 1):
            report = await bench.tick()
            assert report.error is None
            await anyio.sleep(60)
        return count
