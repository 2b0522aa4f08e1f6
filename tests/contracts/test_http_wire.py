"""The HTTP sink over real sockets, by each transport: httpx's own, and that of the extra `fast`."""

import asyncio
import socket
import ssl
import threading
import traceback
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Query
from shop_poller.http import client as httpclient
from shop_poller.http.aiohttp_transport import FastTransport
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.sink import HttpSink
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys
from support.sink_peers import (
    CERTIFICATE,
    LOOPBACK,
    Talk,
    free_port,
    http_answer,
    inbox,
    peer,
    read_request,
    silence,
)
from support.sinks import DELIVERY, IN_TIME_S, PASSWORD, SOON_S, failure, http_sink

pytestmark = pytest.mark.anyio

CASES = Path(__file__).parents[1] / "data" / "cases"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def saying(said: bytes) -> Talk:
    """A peer that answers one request with that, and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()

    return talk


@pytest.fixture(autouse=True, params=[httpx.AsyncHTTPTransport, FastTransport], ids=["plain", "fast"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpclient, "transport_class", lambda: request.param)


# --- What arrives -------------------------------------------------------------------------------------------


async def test_nobody_there_is_a_connection_error() -> None:
    async with http_sink(f"http://{LOOPBACK}:{free_port()}/") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


async def test_a_receiver_that_says_nothing_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop_poller.sinks.http.sink.TIMEOUT_S", SOON_S)
    async with peer(silence) as mute, http_sink(f"http://{LOOPBACK}:{mute.port}/") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.TIMEOUT


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"HTTP/1.1 200",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2",
        b"SMTP ready\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x50",
    ],
)
async def test_an_answer_that_is_no_http_is_a_connection_error(said: bytes) -> None:
    async with peer(saying(said)) as odd, http_sink(f"http://{LOOPBACK}:{odd.port}/") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


@pytest.mark.parametrize(
    "said", [b"SMTP ready\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: " + 200_000 * b"x" + b"\r\n\r\n", b""]
)
async def test_no_trouble_shows_the_address_whose_query_may_be_a_secret(said: bytes) -> None:
    async with (
        peer(saying(said)) as odd,
        http_sink(f"http://{LOOPBACK}:{odd.port}/hook?code=Geheim%2Fnis") as sink,
    ):
        error = await failure(sink)

    assert "Geheim" not in str(error)
    assert "code" not in str(error)


async def test_https_to_a_port_that_speaks_none_is_a_connection_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with peer(talk) as plain, http_sink(f"https://{LOOPBACK}:{plain.port}/") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


async def test_a_certificate_that_nobody_vouches_for_is_a_connection_error(tmp_path: Path) -> None:
    pem = tmp_path / "certificate.pem"
    pem.write_text(CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    async with (
        peer(silence, ssl=context) as impostor,
        http_sink(f"https://{LOOPBACK}:{impostor.port}/") as sink,
    ):
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)


# --- When the answer is a trap ------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "delivered"), [("200 OK", True), ("503 Busy", False)])
async def test_an_endless_body_is_not_read_to_its_end(status: str, delivered: bool) -> None:  # noqa: FBT001 - a table
    sent = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await read_request(reader)
        writer.write(f"HTTP/1.1 {status}\r\n\r\n".encode())
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    async with peer(talk) as flood, http_sink(f"http://{LOOPBACK}:{flood.port}/") as sink:
        if delivered:
            with anyio.fail_after(IN_TIME_S):
                await sink.send(DELIVERY)
        else:
            assert (await failure(sink)).kind is ErrorKind.UNAVAILABLE
        await flood.until_open(0)  # hung up on it

    assert sent < 32 * 2**20  # what fits into the sockets' buffers


@pytest.mark.parametrize("framing", ["Content-Length: 1000000", "Transfer-Encoding: chunked", "X-None: 0"])
async def test_a_body_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, framing: str) -> None:
    monkeypatch.setattr("shop_poller.sinks.http.sink.SMALL_TALK_S", SOON_S)

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        chunk = b"1\r\nx\r\n" if "chunked" in framing else b"x"
        writer.write(f"HTTP/1.1 200 OK\r\n{framing}\r\n\r\n".encode() + chunk)
        await silence(reader, writer)

    async with peer(talk) as slow, http_sink(f"http://{LOOPBACK}:{slow.port}/") as sink:
        for _ in range(2):
            with anyio.fail_after(IN_TIME_S):
                await sink.send(DELIVERY)
            await slow.until_open(0)

    assert slow.accepted == 2


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 100\r\n\r\nx",
        b"Transfer-Encoding: chunked\r\n\r\nnonsense",
        b"Transfer-Encoding: chunked\r\n\r\nnon\r\nsense\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n2\r\n{}and more\r\n",
        b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nxyz",
    ],
)
async def test_a_body_that_breaks_off_or_is_nonsense_does_not_undo_the_yes(body: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 202 Accepted\r\n" + body)
        await writer.drain()

    async with peer(talk) as clumsy, http_sink(f"http://{LOOPBACK}:{clumsy.port}/") as sink:
        with anyio.fail_after(IN_TIME_S):
            await sink.send(DELIVERY)
            await sink.send(DELIVERY)


async def test_endless_headers_are_a_connection_error() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: of the same\r\n" * 100)
            await writer.drain()

    async with peer(talk) as flood, http_sink(f"http://{LOOPBACK}:{flood.port}/") as sink:
        error = await failure(sink)
        await flood.until_open(0)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


async def test_an_attempt_that_is_given_up_leaves_the_sink_as_good_as_new() -> None:
    # The sender bounds each attempt: headers that trickle would occupy it for ever.
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            if trickling:
                writer.write(b"HTTP/1.1 200 OK\r\nX-Slow: 1")
                await silence(reader, writer)
            else:
                writer.write(http_answer())

    trickling = True
    async with peer(talk) as slow, http_sink(f"http://{LOOPBACK}:{slow.port}/") as sink:
        for _ in range(3):
            with anyio.move_on_after(SOON_S) as scope:
                await sink.send(DELIVERY)
            assert scope.cancelled_caught
            await slow.until_open(0)
        trickling = False
        with anyio.fail_after(IN_TIME_S):
            await sink.send(DELIVERY)
            await sink.send(DELIVERY)

    assert slow.accepted == 4


async def test_an_interim_answer_is_not_the_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + http_answer("503 Busy"))
        await writer.drain()

    async with peer(talk) as early, http_sink(f"http://{LOOPBACK}:{early.port}/") as sink:
        assert (await failure(sink)).kind is ErrorKind.UNAVAILABLE


# --- Connections --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 400, 429, 500])
async def test_a_connection_is_kept_from_one_delivery_to_the_next(status: int) -> None:
    async with inbox() as receiver, http_sink(receiver.url) as sink:
        receiver.answers += [(status, {})] * 3
        for _ in range(3):
            if status < 300:
                await sink.send(DELIVERY)
            else:
                await failure(sink)

    assert len(receiver.posts) == 3
    assert len(receiver.connections) == 1


async def test_there_are_as_many_connections_as_concurrent_deliveries_and_they_are_used_again() -> None:
    senders = 5
    async with inbox() as receiver, http_sink(receiver.url) as sink:
        together = asyncio.Barrier(senders)
        receiver.before_answer = together.wait  # answers only when all of them are under way
        for _ in range(4):
            with anyio.fail_after(IN_TIME_S):
                async with anyio.create_task_group() as tasks:
                    for _ in range(senders):
                        tasks.start_soon(sink.send, DELIVERY)

    assert len(receiver.posts) == 4 * senders
    assert len(receiver.connections) == senders


async def test_no_connection_is_made_before_it_is_needed_and_none_is_left_after_closing() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await read_request(reader):
            writer.write(http_answer())

    async with peer(talk) as receiver:
        sink = HttpSink(HttpConfig.parse(f"http://{LOOPBACK}:{receiver.port}/"), keys=())
        assert receiver.accepted == 0
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(sink.send, DELIVERY)
        assert 1 <= receiver.open_connections <= 3

        await sink.aclose()

        with anyio.fail_after(IN_TIME_S):
            await receiver.until_open(0)


async def test_a_connection_that_the_receiver_closed_meanwhile_is_replaced() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(http_answer())
        await writer.drain()

    async with peer(talk) as receiver, http_sink(f"http://{LOOPBACK}:{receiver.port}/") as sink:
        for _ in range(3):
            await sink.send(DELIVERY)
            await receiver.until_open(0)

    assert receiver.accepted == 3


class Closer(threading.Thread):
    """A receiver that answers once a connection, and hangs up when it is told to, whatever our loop does."""

    def __init__(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        super().__init__(daemon=True)
        self.connections = 0
        self._listener, self._tls = listener, tls
        self._now, self._done = threading.Event(), threading.Event()

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                connection.recv(65536)
                connection.sendall(http_answer())
                self._now.wait()
                self._now.clear()
            self._done.set()

    def hang_up(self) -> None:
        """Blocks until it has."""
        self._now.set()
        assert self._done.wait(IN_TIME_S)
        self._done.clear()


@pytest.mark.parametrize(
    "anyio_backend",
    [("asyncio", {"use_uvloop": False}), ("asyncio", {"use_uvloop": True})],
    ids=["asyncio", "uvloop"],
)
@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.usefixtures("anyio_backend")
async def test_a_connection_that_the_receiver_closed_while_we_were_busy_is_replaced(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scheme: str
) -> None:
    pem = tmp_path / "certificate.pem"
    pem.write_text(CERTIFICATE)
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_cert_chain(pem)
    ours.check_hostname = False
    ours.load_verify_locations(pem)
    monkeypatch.setattr(httpclient, "_trust", lambda: ours)
    with socket.create_server((LOOPBACK, 0)) as listener:
        receiver = Closer(listener, theirs if scheme == "https" else None)
        receiver.start()
        async with http_sink(f"{scheme}://{LOOPBACK}:{listener.getsockname()[1]}/") as sink:
            for _ in range(3):
                with anyio.fail_after(IN_TIME_S):
                    await sink.send(DELIVERY)
                receiver.hang_up()
        listener.shutdown(socket.SHUT_RDWR)  # wakes it up
        receiver.join(IN_TIME_S)

    assert receiver.connections == 3


async def test_after_an_error_the_next_delivery_works() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if receiver.accepted > 1:
            while await read_request(reader):
                writer.write(http_answer())

    async with peer(talk) as receiver, http_sink(f"http://{LOOPBACK}:{receiver.port}/") as sink:
        assert (await failure(sink)).kind is ErrorKind.CONNECTION
        await sink.send(DELIVERY)
        await sink.send(DELIVERY)

    assert receiver.accepted == 2


# --- check, and what is never shown -------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 204, 404, 405, 500])
async def test_check_says_that_somebody_answers_and_posts_nothing(status: int) -> None:
    async with inbox() as receiver, http_sink(receiver.url) as sink:
        receiver.answers.append((status, {}))
        said = await sink.check()

    assert said == f"answers (HTTP {status} to OPTIONS)"
    assert [post.method for post in receiver.posts] == ["OPTIONS"]


async def test_check_of_nobody_is_a_connection_error() -> None:
    async with http_sink(f"http://{LOOPBACK}:{free_port()}/") as sink:
        with pytest.raises(TemporaryError) as caught:
            await sink.check()

    assert caught.value.kind is ErrorKind.CONNECTION
    assert str(caught.value).startswith(f"no connection to {sink.name}: "), "nobody answered at all"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "it was closed before a response arrived"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: nine\r\n\r\n", ""),  # the head is named
        (b"220 smtp.example ESMTP\r\n\r\n", "the response is not HTTP"),
    ],
)
async def test_somebody_who_breaks_off_is_told_from_nobody(answer: bytes, said: str) -> None:
    async with (
        peer(saying(answer)) as receiver,
        http_sink(f"http://{LOOPBACK}:{receiver.port}/#crm") as sink,
    ):
        error = await failure(sink)

    assert error.kind is ErrorKind.CONNECTION
    assert "no connection" not in str(error)
    if said:
        assert str(error).startswith(f"the connection to crm failed: {said}; ")


async def test_nothing_is_sent_that_is_not_ours_and_no_cookie_comes_back() -> None:
    heads: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            length = next(
                line for line in heads[-1].lower().split(b"\r\n") if line.startswith(b"content-length:")
            )
            await reader.readexactly(int(length.split(b":")[1]))
            writer.write(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()

    async with peer(talk) as receiver, http_sink(f"http://u:p%40@{LOOPBACK}:{receiver.port}/") as sink:
        with anyio.fail_after(IN_TIME_S):
            await sink.send(DELIVERY)
            await sink.send(DELIVERY)

    for head in heads:
        names = sorted(line.split(b":")[0].lower() for line in head.split(b"\r\n")[1:] if line)
        assert names == [
            b"accept",
            b"accept-encoding",
            b"authorization",
            b"content-length",
            b"content-type",
            b"host",
            b"idempotency-key",
            b"shop-id",
            b"user-agent",
            b"webhook-id",
            b"webhook-timestamp",
        ]
        assert b"Basic dTpwQA==" in head  # u:p@


async def test_a_header_that_cannot_be_sent_is_refused_and_not_shown() -> None:
    async with inbox() as receiver:
        client = httpclient.HttpClient(receiver.url, timeout_s=IN_TIME_S)
        try:
            with pytest.raises(PermanentError) as caught, httpclient.transport_errors("the shop"):
                async with client.stream("POST", headers={"X-Key": f"{PASSWORD}\r\nX-Evil: 1"}):
                    pass
        finally:
            await client.aclose()

    assert caught.value.kind is ErrorKind.REJECTED
    assert "a header has characters that HTTP forbids" in str(caught.value)
    assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    assert receiver.posts == []


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.usefixtures("no_proxies")
async def test_a_proxy_receives_its_password_which_no_error_shows(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heads: list[bytes] = []

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()

    async with peer(refuse) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://us:{PASSWORD}@{LOOPBACK}:{proxy.port}")
        for scheme in ("http", "https"):
            async with http_sink(f"{scheme}://shop.example/") as sink:
                error = await failure(sink)
            assert isinstance(error, TemporaryError)
            assert PASSWORD not in "".join(traceback.format_exception(error))

    assert heads[0].startswith(b"POST http://shop.example/ ")
    assert heads[1].startswith(b"CONNECT shop.example:443 ")
    assert all(b"basic dxm6ahvudgvymg==" in head.lower() for head in heads)  # us:hunter2


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that is not loopback's, and leads here all the same."""
    ask = socket.getaddrinfo

    def here(host: str | bytes | None, *args: Any, **options: Any) -> Any:
        ours = host in {"home.example", b"home.example"}
        return ask(LOOPBACK if ours else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", here)
    return "home.example"


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
@pytest.mark.parametrize(
    "spared",
    [None, ("no_proxy", "other.example"), ("NO_PROXY", "other.example, home.example"), ("no_proxy", "*")],
    ids=lambda spared: spared and " ".join(spared),
)
async def test_a_proxy_is_used_except_for_hosts_in_no_proxy(
    monkeypatch: pytest.MonkeyPatch, home: str, name: str, spared: tuple[str, str] | None
) -> None:
    async with inbox() as receiver, inbox() as proxy:
        monkeypatch.setenv(name, proxy.url.removeprefix("http://").partition("/")[0])  # as some write it
        if spared:
            monkeypatch.setenv(*spared)
        async with http_sink(receiver.url.replace(LOOPBACK, home)) as sink:
            with anyio.fail_after(IN_TIME_S):
                await sink.send(DELIVERY)

    straight = spared is not None and spared[1] != "other.example"
    assert (len(receiver.posts), len(proxy.posts)) == ((1, 0) if straight else (0, 1))


@pytest.mark.usefixtures("no_proxies")
async def test_no_proxy_may_name_a_port(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    async with inbox() as receiver, inbox() as proxy:
        url = receiver.url.replace(LOOPBACK, home)
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("NO_PROXY", httpx.URL(url).netloc.decode())
        async with http_sink(url) as sink:
            with anyio.fail_after(IN_TIME_S):
                await sink.send(DELIVERY)

    assert (len(receiver.posts), len(proxy.posts)) == (1, 0)


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize("proxied_by", ["HTTP_PROXY", "ALL_PROXY"])
@pytest.mark.parametrize(
    "host",
    [LOOPBACK, "127.0.0.1", "LOCALHOST", "localhost", "[::ffff:127.0.0.1]", "0.0.0.0"],  # noqa: S104
)
async def test_a_receiver_on_this_machine_is_never_reached_through_a_proxy(
    monkeypatch: pytest.MonkeyPatch, host: str, proxied_by: str
) -> None:
    async with inbox() as receiver, inbox() as proxy:
        monkeypatch.setenv(proxied_by, proxy.url)
        async with http_sink(receiver.url.replace(LOOPBACK, host)) as sink:
            with anyio.fail_after(IN_TIME_S):
                await sink.send(DELIVERY)

    assert (len(receiver.posts), len(proxy.posts)) == (1, 0)


@pytest.mark.usefixtures("no_proxies")
async def test_the_case_loopback_through_proxy_goes_direct(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = (CASES / "loopback-through-proxy" / "settings.env").read_text().split()
    given = dict(line.split("=", 1) for line in lines)
    requested: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requested.append(await read_request(reader))
        writer.write(http_answer("200 OK", "Date: Mon, 23 Nov 2026 09:51:00 GMT", body=b"[]"))
        await writer.drain()

    async with peer(answer) as shop, inbox() as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        url = given["WOOCOMMERCE_MCP_URL"].replace(":8080", f":{shop.port}")
        source = open_source(Dialect(given["SHOP_DIALECT"]), url, KnownKeys("ck_1", "cs_1"))
        with anyio.fail_after(IN_TIME_S):
            assert (await source.fetch(Query(per_page=1))).items == ()
        await source.aclose()

    assert requested[0].startswith(b"GET /wp-json/wc/v3/orders?")
    assert proxy.posts == []


@pytest.mark.usefixtures("no_proxies")
@pytest.mark.parametrize(
    "address",
    [
        "ftp://us:hunter2@h:1",
        "socks5://us:hunter2@h:1",
        "http://us:hunter2@h:port",
        "http://us:hunter2@",
        "http://us:hunter2@[",
        "http://us:hunter2@[::1",
        "http://[",
    ],
)
async def test_a_proxy_that_is_none_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("http_proxy", address)
    async with http_sink("http://shop.example/") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError), "no delivery becomes a dead letter for it"
    assert error.kind is ErrorKind.CONNECTION
    assert "the proxy in HTTP_PROXY or ALL_PROXY cannot be used" in str(error)
    assert "\n" not in str(error)
    assert PASSWORD not in "".join(traceback.format_exception(error))
