"""The listener over real HTTP, and what it says: health, readiness, metrics."""

import asyncio
import errno
import gc
import signal
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import anyio
import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.delivery.dispatcher import Dispatcher
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.poller import Poller
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import ShopState, SinkStats, StateView, Stats
from shop_poller.runtime.leader_session import LeaderSession
from shop_poller.runtime.status import HealthReporter
from shop_poller.sources.woocommerce.statuses import OWN
from shop_poller.web import server
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving
from support.sink_peers import LOOPBACK

SHOP = "shop.example"
SINKS = ("console:", "crm")
NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
IN_TIME_S = 5.0
"""What takes milliseconds may take this long on a busy machine."""


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Real sockets need real time; and the daemon has either loop."""
    return "asyncio", {"use_uvloop": request.param}


# --- The parts that the monitor looks at, made up -----------------------------------------------------------


@dataclass
class FakePoller:
    polled: bool = True


@dataclass
class FakeStateWriter:
    heartbeat_at: datetime = NOW


@dataclass
class FakeDispatcher:
    senders_alive: int = 8


@dataclass
class FakeStore:
    """A store of which only load and stats are asked."""

    stored: Stats = field(default_factory=Stats)
    clock: datetime = NOW
    last_poll_at: datetime | None = None
    broken: TemporaryError | None = None
    loaded: list[str] = field(default_factory=list)

    async def load(self, shop_id: str) -> ShopState | None:
        self.loaded.append(shop_id)
        if self.broken:
            raise self.broken
        return ShopState(NOW, last_poll_at=self.last_poll_at) if self.last_poll_at else None

    async def holder(self) -> str:
        return "other-host/7"

    def now(self) -> datetime:
        return self.clock

    async def stats(self, _: str) -> Stats:
        if self.broken:
            raise self.broken
        return self.stored


@dataclass
class Ward:
    """A daemon, as the monitor sees it."""

    poller: FakePoller | None = field(default_factory=FakePoller)
    state_writer: FakeStateWriter = field(default_factory=FakeStateWriter)
    dispatchers: list[FakeDispatcher] = field(default_factory=lambda: [FakeDispatcher(), FakeDispatcher()])
    store: FakeStore = field(default_factory=FakeStore)
    metrics: Metrics = field(default_factory=lambda: Metrics(SHOP, SINKS, statuses=OWN))
    interval_s: float = 60.0
    now: datetime = NOW
    leads: bool = True

    @property
    def health_reporter(self) -> HealthReporter:
        self.store.clock = self.now
        session = LeaderSession(
            cast("Poller", self.poller or FakePoller()),
            cast("StateWriter", self.state_writer),
            cast("list[Dispatcher]", self.dispatchers),
        )
        return HealthReporter(
            shop=SHOP,
            polling=self.poller is not None,
            sinks=SINKS,
            store=cast("StateView", self.store),
            metrics=self.metrics,
            interval_s=self.interval_s,
            session=lambda: session.health() if self.leads else None,
            clock=ClockWatch(self.store.now, metrics=self.metrics),
        )


POLLING_STOPPED = {"status": "unhealthy", "reason": "Polling not running"}
NO_WORKERS = {"status": "unhealthy", "reason": "No active workers"}
HEALTHY = {"status": "healthy"}
MS = timedelta(milliseconds=1)


# --- Health -------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("interval_s", "limit"),
    [
        (1, timedelta(minutes=5)),
        (60, timedelta(minutes=5)),
        (100, timedelta(minutes=5)),
        (100.5, timedelta(seconds=301.5)),
        (600, timedelta(minutes=30)),
        (86_400, timedelta(days=3)),
    ],
)
async def test_polling_has_stopped_after_five_minutes_or_three_intervals(
    interval_s: float, limit: timedelta
) -> None:
    ward = Ward(interval_s=interval_s)

    for since, expected in (
        (-limit, HEALTHY),  # our clock was set back
        (timedelta(0), HEALTHY),
        (limit, HEALTHY),
        (limit + MS, POLLING_STOPPED),
        (10 * limit, POLLING_STOPPED),
    ):
        ward.state_writer.heartbeat_at = NOW - since
        assert await ward.health_reporter.health() == expected, since


@pytest.mark.anyio
async def test_before_the_first_good_poll_the_start_counts() -> None:
    ward = Ward(poller=FakePoller(polled=False))  # the heartbeat is then the start, see StateWriter

    assert await ward.health_reporter.health() == HEALTHY
    ward.now += timedelta(minutes=5) + MS
    assert await ward.health_reporter.health() == POLLING_STOPPED


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("senders", "expected"),
    [([8, 8], HEALTHY), ([0, 1], HEALTHY), ([1, 0], HEALTHY), ([0, 0], NO_WORKERS), ([], NO_WORKERS)],
)
async def test_somebody_has_to_be_there_to_deliver(senders: list[int], expected: dict[str, str]) -> None:
    ward = Ward(dispatchers=[FakeDispatcher(alive) for alive in senders])

    assert await ward.health_reporter.health() == expected


@pytest.mark.anyio
async def test_polling_is_named_first_when_both_are_out_of_order() -> None:
    ward = Ward(dispatchers=[FakeDispatcher(0)], state_writer=FakeStateWriter(NOW - timedelta(days=1)))

    assert await ward.health_reporter.health() == POLLING_STOPPED


@pytest.mark.anyio
async def test_a_poller_that_is_disabled_is_healthy_and_says_so() -> None:
    ward = Ward(poller=None, state_writer=FakeStateWriter(NOW - timedelta(days=30)))

    assert await ward.health_reporter.health() == {"status": "healthy", "polling": "disabled"}


async def _ready(ward: Ward) -> dict[str, str]:
    return await ward.health_reporter.readiness()


@pytest.mark.anyio
async def test_ready_is_a_store_that_can_be_read_and_a_first_good_poll() -> None:
    broken = TemporaryError(ErrorKind.STORE, "the disk is full; free some space")

    ready = {"status": "ready", "leader": "this one"}
    assert await _ready(Ward()) == ready
    assert await _ready(Ward(poller=FakePoller(polled=False))) == {
        "status": "not ready",
        "reason": "no good poll yet",
        "leader": "this one",
    }
    assert await _ready(Ward(store=FakeStore(broken=broken))) == {
        "status": "not ready",
        "reason": "the disk is full; free some space",
    }
    assert await _ready(Ward(poller=None)) == ready  # nothing will ever be polled
    # It is about starting up: a shop that is away later does not undo it.
    assert await _ready(Ward(state_writer=FakeStateWriter(NOW - timedelta(days=1)))) == ready


@pytest.mark.anyio
async def test_a_follower_judges_by_the_stored_last_poll_and_says_who_leads() -> None:
    ward = Ward(leads=False, dispatchers=[])  # nobody delivers here
    health_reporter = ward.health_reporter
    assert await health_reporter.health() == HEALTHY  # since its start, as nothing is stored yet
    assert await health_reporter.readiness() == {
        "status": "not ready",
        "reason": "no good poll yet",
        "leader": "other-host/7",
    }

    ward.store.last_poll_at = NOW - timedelta(minutes=5)
    assert await health_reporter.health() == HEALTHY
    assert await health_reporter.readiness() == {"status": "ready", "leader": "other-host/7"}

    ward.store.clock += MS
    assert await health_reporter.health() == POLLING_STOPPED
    ward.store.broken = TemporaryError(ErrorKind.STORE, "gone")
    assert await health_reporter.health() == POLLING_STOPPED  # by what was known last


# --- Metrics ------------------------------------------------------------------------------------------------


def _parsed(text: str) -> dict[tuple[str, str], Sample]:
    """Samples by their name and sink."""
    return {
        (sample.name, sample.labels.get("sink", "")): sample
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.labels.get("shop", SHOP) == SHOP
    }


async def _scraped(ward: Ward) -> dict[tuple[str, str], float]:
    text = (await ward.health_reporter.exposition()).decode()
    return {key: sample.value for key, sample in _parsed(text).items()}


@pytest.mark.anyio
async def test_a_scrape_shows_what_lies_in_the_store() -> None:
    ward = Ward()
    ward.store.stored = Stats(
        known=316,
        set_aside=2,
        sinks={
            "crm": SinkStats(waiting=5, oldest_at=NOW - timedelta(seconds=90), dead=3),
            "taken out of the settings": SinkStats(waiting=7, oldest_at=NOW, dead=7),
        },
    )

    found = await _scraped(ward)

    assert found["shop_known_orders", ""] == 316
    assert found["shop_outbox_deliveries", "crm"] == 5
    assert found["shop_outbox_oldest_age_seconds", "crm"] == 90
    assert found["shop_dead_letters", "crm"] == 3
    assert found["shop_outbox_deliveries", "console:"] == 0
    assert found["shop_outbox_oldest_age_seconds", "console:"] == 0
    assert {sink for _, sink in found} == {"", *SINKS}  # no label that is not bounded by the settings
    assert found["shop_healthy", ""] == 1


@pytest.mark.anyio
async def test_what_was_delivered_meanwhile_is_no_longer_shown_as_waiting() -> None:
    ward = Ward()
    ward.store.stored = Stats(sinks={"crm": SinkStats(waiting=5, oldest_at=NOW, dead=1)})
    await _scraped(ward)
    ward.store.stored = Stats()

    found = await _scraped(ward)

    assert (found["shop_outbox_deliveries", "crm"], found["shop_dead_letters", "crm"]) == (0, 0)


@pytest.mark.anyio
async def test_a_store_that_cannot_be_read_does_not_spoil_the_scrape() -> None:
    ward = Ward(state_writer=FakeStateWriter(NOW - timedelta(hours=1)))
    ward.store.stored = Stats(known=316)
    await _scraped(ward)
    ward.store.broken = TemporaryError(ErrorKind.STORE, "the disk is full")

    found = await _scraped(ward)

    assert found["shop_known_orders", ""] == 316  # as it was
    assert found["shop_healthy", ""] == 0
    registry = ward.metrics.registry
    assert registry.get_sample_value("shop_store_errors_total", {"shop": SHOP, "use": "look"}) == 1


# --- Over HTTP ----------------------------------------------------------------------------------------------


@pytest.fixture
def ward() -> Ward:
    return Ward()


@asynccontextmanager
async def served(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that is served."""
    async with (
        serving(app, listen(LOOPBACK, 0)) as address,
        httpx.AsyncClient(base_url=address, timeout=IN_TIME_S) as client,
    ):
        yield client


@pytest.mark.anyio
async def test_healthz_is_200_or_503_with_the_reason(ward: Ward) -> None:
    async with served(make_app(ward.health_reporter)) as client:
        well = await client.get("/healthz")
        ward.state_writer.heartbeat_at = NOW - timedelta(hours=1)
        ill = await client.get("/healthz")
        ward.state_writer.heartbeat_at = NOW
        for dispatcher in ward.dispatchers:
            dispatcher.senders_alive = 0
        idle = await client.get("/healthz")

    assert (well.status_code, well.content) == (200, b'{"status":"healthy"}')
    assert (ill.status_code, ill.content) == (
        503,
        b'{"status":"unhealthy","reason":"Polling not running"}',
    )
    assert (idle.status_code, idle.content) == (
        503,
        b'{"status":"unhealthy","reason":"No active workers"}',
    )
    assert well.headers["content-type"] == ill.headers["content-type"] == "application/json"


@pytest.mark.anyio
async def test_livez_is_the_loop_alone(ward: Ward) -> None:
    ward.state_writer.heartbeat_at = NOW - timedelta(days=1)
    ward.store.broken = TemporaryError(ErrorKind.STORE, "gone")
    ward.dispatchers.clear()

    async with served(make_app(ward.health_reporter)) as client:
        answer = await client.get("/livez")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})
    assert ward.store.loaded == []


@pytest.mark.anyio
async def test_readyz_is_503_until_it_is_ready(ward: Ward) -> None:
    assert ward.poller is not None
    ward.poller.polled = False
    async with served(make_app(ward.health_reporter)) as client:
        early = await client.get("/readyz")
        ward.poller.polled = True
        ready = await client.get("/readyz")

    assert (early.status_code, early.json()) == (
        503,
        {"status": "not ready", "reason": "no good poll yet", "leader": "this one"},
    )
    assert (ready.status_code, ready.json()) == (200, {"status": "ready", "leader": "this one"})
    assert ward.store.loaded == [SHOP, SHOP]


@pytest.mark.anyio
async def test_metrics_are_what_prometheus_reads(ward: Ward) -> None:
    ward.metrics.order("processing")
    async with served(make_app(ward.health_reporter)) as client:
        answer = await client.get("/metrics")

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(answer.text)}
    orders = {s.labels["status"]: s.value for s in families["shop_poll_orders_count"].samples}
    assert orders["processing"] == 1
    assert orders["other"] == 0


@pytest.mark.anyio
async def test_there_is_nothing_else(ward: Ward) -> None:
    async with served(make_app(ward.health_reporter)) as client:
        for path in ("/metrics/x", "/healthz/..%2f..%2fetc/passwd", "/admin", "/docs", "/openapi.json"):
            assert (await client.get(path)).status_code == 404, path


@pytest.mark.anyio
async def test_one_can_only_look(ward: Ward) -> None:
    async with served(make_app(ward.health_reporter)) as client:
        for path in ("/metrics", "/healthz", "/livez", "/readyz"):
            head = await client.head(path)
            assert (head.status_code, head.content) == (200, b""), path
            assert "server" not in head.headers  # nor do answers say what they are made with
            for method in ("POST", "PUT", "DELETE", "PATCH"):
                assert (await client.request(method, path, content=b"x")).status_code == 405, path


@pytest.mark.anyio
async def test_nobody_can_say_who_they_are() -> None:
    async def who(request: Request) -> Response:
        return PlainTextResponse(request.client.host if request.client else "")

    async with served(Starlette(routes=[Route("/", who)])) as client:
        answer = await client.get(
            "/", headers={"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"}
        )
    assert answer.text == LOOPBACK


# --- Listening ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [LOOPBACK, "localhost"])
def test_a_listener_listens(host: str) -> None:
    with (
        closing(listen(host, 0)) as listener,
        socket.create_connection(listener.getsockname(), timeout=IN_TIME_S),
    ):
        assert not listener.get_inheritable()


def test_a_port_in_use_is_one_line_that_says_what_to_do() -> None:
    with closing(listen(LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(OSError, match=r"^127\.0\.0\.1:\d+ is in use") as caught:
            listen(LOOPBACK, port)

    assert str(caught.value) == (
        f"127.0.0.1:{port} is in use by another program; choose another port, or leave it empty"
    )


def test_a_port_is_free_again_at_once() -> None:
    # A restart must not wait for connections of the former process to be forgotten.
    with closing(listen(LOOPBACK, 0)) as listener:
        address = listener.getsockname()
        client = socket.create_connection(address, timeout=IN_TIME_S)
        connection, _ = listener.accept()
        connection.close()  # we close first: TIME_WAIT is on our side
        client.close()

    listen(*address).close()


@pytest.mark.parametrize(
    ("host", "message"),
    [
        ("192.0.2.1", "192.0.2.1:9 is not an address of this machine"),
        ("no such host", "no such host:9 cannot be opened: "),
        ("x" * 300, "cannot be opened: "),
        ("ы..ы", "ы..ы:9 cannot be opened: no such name"),
        ("nonsense::1", "nonsense::1:9 cannot be opened: "),
    ],
)
def test_an_address_that_cannot_be_used_is_one_line(host: str, message: str) -> None:
    with pytest.raises(OSError, match="9 ") as caught:
        listen(host, 9)

    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_roots_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket.socket, "bind", refuse)

    with pytest.raises(OSError, match=r"^127\.0\.0\.1:80 needs root's rights; choose a port"):
        listen(LOOPBACK, 80)


def test_nothing_stays_open_when_listening_fails() -> None:
    with pytest.raises(OSError, match="is not an address of this machine"):
        listen("192.0.2.1", 9)

    gc.collect()  # a socket left open would warn, and warnings are errors


# --- Serving ------------------------------------------------------------------------------------------------


async def _hello(_: Request) -> Response:
    return PlainTextResponse("hello")


HELLO = Starlette(routes=[Route("/", _hello)])


@pytest.mark.anyio
async def test_serving_leaves_the_signals_alone() -> None:
    watched = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.getsignal(number) for number in watched]

    async with served(HELLO) as client:
        assert (await client.get("/")).text == "hello"
        during = [signal.getsignal(number) for number in watched]

    assert before == during == [signal.getsignal(number) for number in watched]


def _others() -> set[asyncio.Task[Any]]:
    """The tasks that there are beside the test's."""
    return {task for task in asyncio.all_tasks() if task is not asyncio.current_task()}


@asynccontextmanager
async def stranger(host: str, port: int) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """Somebody who connects."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _hung_up(reader: asyncio.StreamReader) -> bool:
    """Wait until the other side closes the connection, having said nothing."""
    try:
        return await reader.read() == b""
    except ConnectionResetError:
        return True


@pytest.mark.anyio
async def test_serving_leaves_nothing_behind() -> None:
    tasks, threads = _others(), threading.active_count()
    listener = listen(LOOPBACK, 0)
    address = listener.getsockname()

    async with stranger(*address) as (reader, _):  # who says nothing
        async with serving(HELLO, listener) as url, httpx.AsyncClient() as client:
            assert url == f"http://{LOOPBACK}:{address[1]}"
            for _ in range(3):
                assert (await client.get(url)).text == "hello"
        assert await _hung_up(reader)

    assert listener.fileno() == -1
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)
    assert _others() == tasks
    assert threading.active_count() == threads


@pytest.mark.anyio
async def test_the_address_of_ipv6_is_one_that_can_be_requested() -> None:
    try:
        listener = listen("::1", 0)
    except OSError:
        pytest.skip("no IPv6 here")
    async with serving(HELLO, listener) as url, httpx.AsyncClient() as client:
        assert url.startswith("http://[::1]:")
        assert (await client.get(url)).text == "hello"


@pytest.mark.anyio
async def test_an_error_in_the_block_comes_out_as_it_is_and_the_port_is_free() -> None:
    listener = listen(LOOPBACK, 0)
    address = listener.getsockname()

    with pytest.raises(KeyError):
        async with serving(HELLO, listener):
            raise KeyError

    listen(*address).close()


@pytest.mark.anyio
async def test_being_cancelled_shuts_it_down_in_good_order_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.2)
    started, cancelled = anyio.Event(), []

    async def hang(_: Request) -> Response:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(True)
        raise AssertionError("slept for ever")

    tasks = _others()
    listener = listen(LOOPBACK, 0)
    async with stranger(*listener.getsockname()) as (reader, writer):
        with anyio.CancelScope() as scope:
            async with serving(Starlette(routes=[Route("/", hang)]), listener):
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                await started.wait()
                scope.cancel()
                await anyio.sleep_forever()
        assert scope.cancelled_caught
        with anyio.fail_after(IN_TIME_S):
            assert b"500" in await reader.readline()

    assert cancelled == [True]
    assert _others() == tasks


@pytest.fixture
def short_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTION_S", 0.2)
    monkeypatch.setattr(server, "GRACE_S", 0.2)


def _address(client: httpx.AsyncClient) -> tuple[str, int]:
    assert client.base_url.port is not None
    return client.base_url.host, client.base_url.port


@pytest.mark.anyio
async def test_many_who_connect_and_say_nothing_shut_nobody_out() -> None:
    async with served(HELLO) as client, AsyncExitStack() as stack:
        readers = [
            (await stack.enter_async_context(stranger(*_address(client))))[0]
            for _ in range(server.MAX_CONNECTIONS + 10)
        ]
        assert (await client.get("/")).text == "hello"

        with anyio.fail_after(IN_TIME_S):
            for reader in readers[:11]:  # the oldest had to go
                assert await _hung_up(reader)
        assert not any(reader.at_eof() for reader in readers[11:])


@pytest.mark.anyio
@pytest.mark.usefixtures("short_lives")
@pytest.mark.parametrize("said", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n"])
async def test_who_never_asks_is_hung_up_on(said: bytes) -> None:
    async with served(HELLO) as client, stranger(*_address(client)) as (reader, writer):
        writer.write(said)
        with anyio.fail_after(IN_TIME_S):
            assert await _hung_up(reader)


@pytest.mark.anyio
@pytest.mark.usefixtures("short_lives")
async def test_who_asks_and_does_not_read_is_hung_up_on() -> None:
    ended = anyio.Event()

    async def talkative(scope: Any, _: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for _ in range(1000):
                await send({"type": "http.response.body", "body": b"x" * 2**20, "more_body": True})
        finally:
            ended.set()

    async with served(talkative) as client, stranger(*_address(client)) as (_, writer):
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        with anyio.fail_after(IN_TIME_S):
            await ended.wait()


@pytest.mark.anyio
async def test_a_bug_in_an_answer_is_a_500_and_the_listener_goes_on() -> None:
    async def broken(_: Request) -> Response:
        raise ZeroDivisionError

    app = Starlette(routes=[Route("/broken", broken), Route("/", _hello)])
    async with served(app) as client:
        assert (await client.get("/broken")).status_code == 500
        assert (await client.get("/")).text == "hello"
