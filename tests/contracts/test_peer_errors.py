"""Whatever a client library raises is an error of its peer: at each edge, and never of our own code."""

import asyncio
import importlib
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import aiohttp
import anyio
import anyio.lowlevel
import httpx
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

from shop_poller import peer_errors
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.masking import Masker
from shop_poller.http import client as httpclient
from shop_poller.http.aiohttp_transport import FastTransport
from shop_poller.http.client import HttpClient
from shop_poller.peer_errors import ignored, translated
from shop_poller.sinks.apprise.config import AppriseConfig
from shop_poller.sinks.console import ConsoleConfig, ConsoleSink
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.sink import HttpSink
from shop_poller.sinks.redis.config import RedisConfig
from shop_poller.sinks.redis.sink import RedisSink, Server, StreamSink
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.credentials import Credentials
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import ConnectionPool
from shop_poller.stores.redis.membership import RedisMembership
from shop_poller.stores.redis.renewals import Renewals
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, T0
from support.sinks import DELIVERY, failure
from support.stores import ADDRESS

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Apprise imports modules that Python says are old
    importlib.import_module("apprise").Apprise.instantiate("json://loaded")

from shop_poller.sinks.apprise.sink import AppriseSink

pytestmark = pytest.mark.anyio

CLOSED = {
    "uvloop": lambda: RuntimeError(
        "unable to perform operation on <TCPTransport closed=True>; the handler is closed"
    ),
    "redis-py, writing": lambda: AttributeError("'NoneType' object has no attribute 'writelines'"),
    "redis-py, reading": lambda: AttributeError("'NoneType' object has no attribute 'read'"),
    "half an answer": lambda: asyncio.IncompleteReadError(b"+O", 4),
    "a loop that has ended": lambda: RuntimeError("Event loop is closed"),
    "aiohttp": lambda: RuntimeError("Session is closed"),
    "anyio, closed": anyio.ClosedResourceError,
    "anyio, broken": anyio.BrokenResourceError,
    "anyio, the end": anyio.EndOfStream,
}
UNEXPECTED = {
    "a buffer": lambda: BufferError("Existing exports of data: object cannot be re-sized"),
    "an index": lambda: IndexError("list index out of range"),
    "a key": lambda: KeyError("slots"),
    "recursion": RecursionError,
    "memory": MemoryError,
    "an assertion": AssertionError,
    "a type": lambda: TypeError("cannot unpack non-iterable NoneType object"),
    "a value": lambda: ValueError("too many values to unpack"),
    "the end of an iterator": StopAsyncIteration,
    "another RuntimeError": lambda: RuntimeError("dictionary changed size during iteration"),
    "a group": lambda: ExceptionGroup(
        "unhandled errors in a TaskGroup", [IndexError("pop from an empty deque")]
    ),
    "a cancellation that nobody asked for": asyncio.CancelledError,
    "InvalidStateError": lambda: asyncio.InvalidStateError("invalid state"),
}
SYSTEM = {
    "reset": lambda: ConnectionResetError(104, "Connection reset by peer"),
    "pipe": lambda: BrokenPipeError(32, "Broken pipe"),
    "files": lambda: OSError(24, "Too many open files"),
    "TLS": lambda: ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC]"),
}
ALL = {**CLOSED, **UNEXPECTED, **SYSTEM}
EVENT = "unexpected error in a client library; handled as a failure of the peer"

Raise = Callable[..., Any]


def raising(make: Callable[[], BaseException]) -> Raise:
    async def broken(*_: object, **__: object) -> Any:
        raise make()

    return broken


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_errors, "_reported", set())


every_error = pytest.mark.parametrize("make", ALL.values(), ids=ALL)


# --- each edge ----------------------------------------------------------------------------------------------


class Client:
    """A client of Redis of which every call fails.

    Args:
        make: makes what it raises.
    """

    def __init__(self, make: Callable[[], BaseException]) -> None:
        self.execute_command = self.aclose = self.info = self.script = raising(make)
        self.connection_pool = self
        self.disconnect = raising(make)

    def register_script(self, _: str) -> Raise:
        return self.execute_command


@every_error
async def test_the_store_in_redis(make: Callable[[], BaseException]) -> None:
    store = RedisStore(ADDRESS, prefix="p:", first_shop=SHOP, make=lambda _: Client(make))  # type: ignore[arg-type, return-value]
    for requested in (store.take, store.renew, store.release, store.holder, store.check, store.ask_clock):
        with pytest.raises(TemporaryError) as caught:
            await requested()
        assert caught.value.kind is ErrorKind.STORE
        assert str(caught.value).startswith("state in redis://")
        assert "\n" not in str(caught.value)
    await store.aclose()  # says nothing


@every_error
async def test_the_other_replicas(make: Callable[[], BaseException]) -> None:
    line = ConnectionPool(Client(make))  # type: ignore[arg-type]
    membership = RedisMembership(ADDRESS, line, prefix="p:", name="me")
    for requested in (membership.stay, membership.leave, lambda: membership.leased(["a"])):
        with pytest.raises(TemporaryError) as caught:
            await requested()
        assert caught.value.kind is ErrorKind.STORE
    await line.drop()
    await line.aclose()


@pytest.mark.parametrize("answer", [[1, 2], [1, 2, "", ""], None, b"+OK", []])
async def test_an_answer_to_a_renewal_that_is_none_is_the_servers(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    async def carry_out(_: object) -> object:
        return answer

    connection = RedisStore(ADDRESS, prefix="p:", first_shop=SHOP)._connection
    monkeypatch.setattr(connection, "_carry_out", carry_out)
    with anyio.fail_after(5), pytest.raises(TemporaryError) as caught:
        await Renewals(connection.keep).renew("lease", "nonce", 1000)
    assert caught.value.kind is ErrorKind.STORE


@pytest.fixture(params=["redis://h/0?channel=c#r", "redis+stream://h/0?stream=s#r"])
def to_redis(request: pytest.FixtureRequest) -> RedisSink | StreamSink:
    sink = parse_sink(request.param).open(signing_keys=(), connections=1)
    assert isinstance(sink, RedisSink | StreamSink)
    return sink


@every_error
async def test_the_sinks_in_redis(make: Callable[[], BaseException], to_redis: Any) -> None:
    class Pipeline(Client):
        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

    client: Any = Client(make)
    client.pubsub_numsub = client.type = client.execute_command
    pipeline: Any = Pipeline(make)
    pipeline.execute_command = lambda *_: None
    pipeline.execute = client.execute_command
    client.pipeline = lambda **_: pipeline
    to_redis._server.client = client
    for requested in (lambda: to_redis.send(DELIVERY), to_redis.check):
        with pytest.raises(TemporaryError) as caught:
            await requested()
        assert caught.value.kind is ErrorKind.CONNECTION
    await to_redis._server.drop()
    assert not await to_redis._server.look_at_role(at_once=True)
    await to_redis.aclose()


class Broken(httpx.AsyncBaseTransport):
    """A transport that fails at one of its calls.

    Args:
        make: makes what it raises.
        where: it raises it.
    """

    def __init__(self, make: Callable[[], BaseException], where: str) -> None:
        self.make, self.where, self.closed = make, where, False

    async def handle_async_request(self, _: httpx.Request) -> httpx.Response:
        if self.where == "request":
            raise self.make()
        return httpx.Response(200, headers={"Date": "Mon, 30 Nov 2026 00:00:00 GMT"}, stream=Body(self))

    async def aclose(self) -> None:
        self.closed = True
        if self.where == "end":
            raise self.make()


class Body(httpx.AsyncByteStream):
    def __init__(self, transport: Broken) -> None:
        self._transport = transport

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"[]"
        if self._transport.where == "body":
            raise self._transport.make()

    async def aclose(self) -> None:
        if self._transport.where == "close":
            raise self._transport.make()


def over(monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException], where: str) -> list[Broken]:
    """All transports are such ones from now on; returns those that were made."""
    made: list[Broken] = []

    def transport(_: str) -> Broken:
        made.append(Broken(make, where))
        return made[-1]

    monkeypatch.setattr(httpclient, "http_transport", transport)
    return made


ODD = {name: make for name, make in ALL.items() if name not in {*SYSTEM, "the end of an iterator"}}


@pytest.mark.parametrize("make", ODD.values(), ids=ODD)
@pytest.mark.parametrize("where", ["request", "body", "close", "end"])
async def test_http(monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException], where: str) -> None:
    """A sink takes the status for its answer; a shop's answer has to be whole."""
    made = over(monkeypatch, make, where)
    sink = HttpSink(HttpConfig.parse("http://127.0.0.1/hook?code=Geheimnis"), keys=())
    shop = ShopConnection("http://127.0.0.1/", Credentials({}, Masker(())))
    if where == "request":
        error = await failure(sink)
        assert error.kind is ErrorKind.CONNECTION
        assert "Geheimnis" not in str(error)
    else:
        await sink.send(DELIVERY)
    if where in {"request", "body"}:
        with pytest.raises(TemporaryError) as caught:
            await shop.ask("GET", headers={})
        assert caught.value.kind is ErrorKind.CONNECTION
        with pytest.raises(TemporaryError):
            await shop.ask("GET", headers={})
        assert [one.closed for one in made[1:]] == [True, False], "a new one after each failure"
    else:
        assert (await shop.ask("GET", headers={}))[1] == b"[]"
    await shop.say_goodbye({})
    await sink.aclose()
    await shop.aclose()


@pytest.mark.parametrize("make", SYSTEM.values(), ids=SYSTEM)
async def test_http_over_a_system_that_fails(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException]
) -> None:
    over(monkeypatch, make, "request")
    assert (
        await failure(HttpSink(HttpConfig.parse("http://127.0.0.1/"), keys=()))
    ).kind is ErrorKind.CONNECTION


@pytest.mark.parametrize(
    "make",
    [
        *ODD.values(),
        lambda: aiohttp.ClientConnectorDNSError(None, OSError(-2, "Name or service not known")),  # type: ignore[arg-type]
        lambda: aiohttp.ServerFingerprintMismatch(b"a", b"b", "h", 1),
        lambda: aiohttp.ClientConnectionResetError("Cannot write to closing transport"),
        lambda: aiohttp.ClientError("of any kind"),
        lambda: aiohttp.TooManyRedirects(None, ()),  # type: ignore[arg-type]
        lambda: aiohttp.WSServerHandshakeError(None, ()),  # type: ignore[arg-type]
    ],
)
async def test_aiohttp(make: Callable[[], BaseException]) -> None:
    """Whatever its session raises, a delivery is tried again: it was not refused."""
    transport = FastTransport(
        verify=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), proxy=None, limits=httpx.Limits(max_connections=1)
    )
    client = HttpClient("http://127.0.0.1:1/", timeout_s=1)
    client._transport = transport
    client._open()
    client._transport = transport
    sink = HttpSink(HttpConfig.parse("http://127.0.0.1:1/"), keys=())
    sink._idle.append(client)
    session = transport.client = transport.get_client()
    session._connector._connect = raising(make)  # type: ignore[union-attr]
    session._request = raising(make)  # type: ignore[method-assign]
    error = await failure(sink)
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION
    await sink.aclose()
    await session.close()


@every_error
async def test_the_console(make: Callable[[], BaseException]) -> None:
    def broken(_: str) -> None:
        raise make()

    error = await failure(ConsoleSink(ConsoleConfig.parse("console:"), write=broken))
    assert isinstance(error, TemporaryError)
    assert str(error).startswith("cannot print: ")


def no_thread(_: object) -> None:
    raise RuntimeError("can't start new thread")


async def test_no_thread_for_the_console(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = ConsoleSink(ConsoleConfig.parse("console:"), write=lambda _: None)
    with monkeypatch.context() as without:
        without.setattr("threading.Thread.start", no_thread)
        for _ in range(2):
            assert (await failure(sink)).kind is ErrorKind.CONNECTION
    await sink.send(DELIVERY)


async def test_no_thread_for_apprise(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken for the attempt is given back."""
    sink = AppriseSink(AppriseConfig.parse("apprise+json://127.0.0.1:1/"), connections=1)
    with monkeypatch.context() as without:
        without.setattr("threading.Thread.start", no_thread)
        for _ in range(3):
            assert (await failure(sink)).kind is ErrorKind.CONNECTION
    assert "unexpected" not in str(await failure(sink)), "it was tried"


@pytest.mark.parametrize("make", [*ALL.values(), SystemExit, KeyboardInterrupt], ids=[*ALL, "exit", "ctrl-c"])
async def test_apprise(monkeypatch: pytest.MonkeyPatch, make: Callable[[], BaseException]) -> None:
    def broken(**_: object) -> bool:
        raise make()

    sink = AppriseSink(AppriseConfig.parse("apprise+json://127.0.0.1:1/"), connections=1)
    monkeypatch.setattr(sink._idle[0], "notify", broken)
    for _ in range(2):
        assert isinstance(await failure(sink), TemporaryError)


@pytest.mark.parametrize("make", [RuntimeError, TypeError, AttributeError, KeyError])
def test_a_plugin_of_apprise_that_breaks_over_its_address(
    monkeypatch: pytest.MonkeyPatch, make: type[Exception]
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise make("sesame-key")

    monkeypatch.setattr("shop_poller.sinks.apprise.sink.Apprise.instantiate", broken)
    with pytest.raises(ValueError, match="Apprise cannot use this URL") as caught:
        AppriseSink(AppriseConfig.parse("apprise+json://127.0.0.1:1/"), connections=1)
    assert "sesame" not in str(caught.value)


@pytest.mark.parametrize("odd", [2**70, "\ud800", object()], ids=["64 bits", "surrogate", "a type"])
async def test_what_sqlite_cannot_take(tmp_path: Path, odd: object) -> None:
    store = await SqliteStore.open(tmp_path / "state.db")
    for work in (
        lambda db: db.execute("SELECT ?", [odd]),
        lambda db: db.executemany("INSERT INTO claimed VALUES (?)", [[odd]]),
    ):
        with pytest.raises(TemporaryError) as caught:
            await store._connection.run(work)
        assert caught.value.kind is ErrorKind.STORE
    assert await store.load(SHOP) is None
    await store.aclose()


async def test_no_thread_for_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as without:
        without.setattr("threading.Thread.start", no_thread)
        with pytest.raises(TemporaryError) as caught:
            await SqliteStore.open(tmp_path / "state.db")
    assert caught.value.kind is ErrorKind.STORE
    store = await SqliteStore.open(tmp_path / "state.db")
    store._connection._threads.shutdown()
    with pytest.raises(TemporaryError):
        await store.register(SHOP, T0)
    await store.aclose()


# --- what is not translated ---------------------------------------------------------------------------------


async def test_an_error_in_our_own_code_stays_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(*_: object) -> Any:
        raise KeyError("ours")

    async def read(_: httpx.Response) -> bytes:
        return bytes(bug())

    over(monkeypatch, Exception, "nowhere")
    shop = ShopConnection("http://127.0.0.1/", Credentials({}, Masker(())))
    with pytest.raises(KeyError):
        await shop.ask("GET", headers={}, read=read)
    store = await SqliteStore.open(tmp_path / "state.db")
    with pytest.raises(KeyError):
        await store._connection.run(bug)
    with pytest.raises(KeyError):
        await store._connection.run(
            lambda db: db.executemany("INSERT INTO claimed VALUES (?)", (bug() for _ in "x"))
        )
    await store.aclose()
    monkeypatch.setattr("shop_poller.sinks.apprise.sink.message", bug)
    with pytest.raises(KeyError):
        await AppriseSink(AppriseConfig.parse("apprise+json://127.0.0.1:1/"), connections=1).send(DELIVERY)
    monkeypatch.setattr("shop_poller.sinks.console.render", bug)
    with pytest.raises(KeyError):
        await ConsoleSink(ConsoleConfig.parse("console:"), write=lambda _: None).send(DELIVERY)


def unheard(_: str) -> Exception:
    raise AssertionError("translated")


@pytest.mark.parametrize("error", [TemporaryError(ErrorKind.STORE, "x"), PermanentError(ErrorKind.GONE, "x")])
def test_our_own_errors_pass(error: ShopPollerError) -> None:
    with pytest.raises(type(error)), translated("p", unheard):
        raise error


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_the_end_of_the_process_passes(kind: type[BaseException]) -> None:
    for error in (kind(), BaseExceptionGroup("x", [kind(), ValueError()])):
        with pytest.raises(type(error)), translated("p", unheard):
            raise error


@pytest.mark.parametrize("how", ["anyio", "asyncio", "time-out"])
async def test_a_cancellation_passes(how: str) -> None:
    ended: list[str] = []

    async def work() -> None:
        try:
            with translated("p", unheard), ignored("p", expected=()):
                await anyio.sleep_forever()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    if how == "asyncio":
        task = asyncio.create_task(work())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert task.cancelled()
    else:
        with anyio.move_on_after(0.01) as scope:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(work)
                if how == "anyio":
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
    assert ended == ["cancelled"]


# --- what is logged -----------------------------------------------------------------------------------------


def fail(peer: str, error: BaseException) -> TemporaryError:
    def error_of(why: str) -> TemporaryError:
        return TemporaryError(ErrorKind.CONNECTION, why)

    with pytest.raises(TemporaryError) as caught, translated(peer, error_of):
        raise error
    return caught.value


def test_an_unexpected_type_is_logged_once_for_each_peer() -> None:
    with capture_logs() as logs:
        for _ in range(3):
            for peer in ("a", "b"):
                fail(peer, IndexError("x"))
                fail(peer, KeyError("x"))
    assert [log["event"] for log in logs] == [EVENT] * 4
    assert {(log["peer"], log["error_type"]) for log in logs} == {
        (peer, f"builtins.{kind}") for peer in "ab" for kind in ("IndexError", "KeyError")
    }


@pytest.mark.parametrize("make", [*CLOSED.values(), *SYSTEM.values()], ids=[*CLOSED, *SYSTEM])
def test_a_connection_that_is_gone_is_no_news(make: Callable[[], BaseException]) -> None:
    with capture_logs() as logs:
        fail("a", make())
    assert logs == []


def test_the_traceback_leads_to_the_place_and_holds_no_text() -> None:
    """Not of the error, nor of what is behind it: they may quote a key, an address or an order."""
    texts = [f"secret-{number}" for number in range(5)]

    def ask_library() -> None:
        try:
            look_up()
        except ValueError as cause:
            error = IndexError(texts[1])
            error.add_note(texts[2])
            raise ExceptionGroup(texts[3], [error, KeyError(texts[4])]) from cause

    def look_up() -> None:
        raise ValueError(texts[0])

    with (
        capture_logs() as logs,
        pytest.raises(TemporaryError) as caught,
        translated("a", lambda why: TemporaryError(ErrorKind.CONNECTION, why)),
    ):
        ask_library()
    assert [log["error_type"] for log in logs] == ["builtins.IndexError", "builtins.KeyError"]
    for log in logs:
        assert ", in ask_library\n" in log["exception"]
        assert ", in look_up\n" in log["exception"]
        assert "builtins.ValueError" in log["exception"]
    assert "secret-" not in str(logs) + str(caught.value)
    assert caught.value.__cause__ is None


def test_the_log_is_bounded() -> None:
    def deep(depth: int) -> None:
        if depth:
            deeper(depth - 1)
        raise IndexError

    def deeper(depth: int) -> None:  # the same line again and again would be told as one
        deep(depth)

    with capture_logs() as logs:
        for number in range(peer_errors.MAX_REPORTED + 50):
            fail(f"peer {number}", IndexError())
        peer_errors._reported.clear()
        with pytest.raises(TemporaryError), translated("a", lambda why: TemporaryError(ErrorKind.STORE, why)):
            deep(500)
        errors = [IndexError(str(number)) for number in range(500)]
        fail("b", ExceptionGroup("many", errors))
    assert len(logs) == peer_errors.MAX_REPORTED + 2
    assert max(len(log["exception"]) for log in logs) < 8_000


async def test_what_cannot_be_logged_is_translated_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: object) -> str:
        raise MemoryError

    monkeypatch.setattr(peer_errors, "short_traceback", broken)
    assert "IndexError" in str(fail("a", IndexError()))


def test_what_may_be_ignored_is_logged_once() -> None:
    with capture_logs() as logs:
        for _ in range(2):
            with ignored("a", expected=(OSError,)):
                raise IndexError
    assert [log["event"] for log in logs] == [EVENT]


def test_what_is_expected_is_ignored_without_a_word() -> None:
    with capture_logs() as logs:
        for _ in range(2):
            with ignored("a", expected=(OSError,)):
                raise ConnectionResetError
    assert logs == []


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), ResponseError("no INFO"), OSError()])
async def test_a_server_that_does_not_say_its_role_is_not_worth_a_traceback(error: Exception) -> None:
    server = Server(RedisConfig.parse("redis://127.0.0.1:1/0?channel=c"), connections=1)
    server.client = Client(lambda: error)  # type: ignore[assignment] # the test's to set
    with capture_logs() as logs:
        assert not await server.look_at_role(at_once=True)
        await server.drop()
        await server.aclose()
    assert logs == []
