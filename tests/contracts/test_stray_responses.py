"""Bytes that follow a complete response: never the answer to the next request. By each transport."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import httpcore
import httpx
import pytest

from shop_poller.core.errors import ErrorKind
from shop_poller.core.masking import Masker
from shop_poller.http import client as httpclient
from shop_poller.http import lenient_stream
from shop_poller.http.aiohttp_transport import FastTransport, _RepairingHandler
from shop_poller.http.client import HttpClient
from shop_poller.http.response_repair import ResponseRepair, StrayBytesError
from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.credentials import Credentials
from support.sink_peers import CERTIFICATE, LOOPBACK, Peer, http_answer, peer, read_request
from support.sinks import DELIVERY, IN_TIME_S, failure, http_sink

pytestmark = pytest.mark.anyio

OK = http_answer()
FAILS = http_answer("500 Internal Server Error")
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
READ_AT_ONCE = 64 * 1024

COMPLETE = {
    "a length": OK,
    "no body": http_answer(body=b""),
    "chunks": CHUNKED,
    "chunks and a trailer": CHUNKED[:-2] + b"Expires: 0\r\n\r\n",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "204 that tells of a body": b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\n",
    "304": b"HTTP/1.1 304 Not Modified\r\n\r\n",
    "an interim one before it": b"HTTP/1.1 103 Early Hints\r\n\r\n" + OK,
    "an error": FAILS,
}
STRAYS = {
    "a response": OK,
    "two responses": OK + OK,
    "half a response": OK[:20],
    "an interim response": b"HTTP/1.1 100 Continue\r\n\r\n",
    "a time-out of an idle connection": b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
    "garbage": b"<!-- cached -->",
    "a blank line": b"\r\n",
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, params=[httpx.AsyncHTTPTransport, FastTransport], ids=["plain", "fast"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(httpclient, "transport_class", lambda: request.param)


@dataclass
class Receiver:
    """Answers each connection's requests in turn.

    Attributes:
        connections: what each answers to its requests, in one piece or in several; the last one stands for
            those after it, too.
        requests: the connection and number of each request that came.
        late: is sent on the first connection as soon as it is set.
    """

    connections: Sequence[Sequence[bytes | tuple[bytes, ...]]]
    requests: list[tuple[int, int]] = field(default_factory=list)
    late: bytes = b""
    say_late: asyncio.Event = field(default_factory=asyncio.Event)
    said_late: asyncio.Event = field(default_factory=asyncio.Event)
    peer: Peer | None = None

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert self.peer
        number = self.peer.accepted
        answers = self.connections[min(number, len(self.connections)) - 1]
        for count, answer in enumerate(answers, 1):
            if not await read_request(reader):
                return
            self.requests.append((number, count))
            for piece in answer if isinstance(answer, tuple) else [answer]:
                writer.write(piece)
            await writer.drain()
            if number == 1 and self.late:
                await self.say_late.wait()
                writer.write(self.late)
                await writer.drain()
                self.late = b""
                self.said_late.set()
        await reader.read()


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def options(scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ssl.SSLContext]:
    """Of a server that the transport trusts."""
    if scheme == "http":
        return {}
    pem = tmp_path / "certificate.pem"
    pem.write_text(CERTIFICATE)
    theirs, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.load_cert_chain(pem)
    ours.check_hostname = False
    ours.load_verify_locations(pem)
    monkeypatch.setattr(httpclient, "_trust", lambda: ours)
    return {"ssl": theirs}


@asynccontextmanager
async def serving(receiver: Receiver, options: dict[str, ssl.SSLContext]) -> AsyncIterator[str]:
    """Yields the address."""
    async with peer(receiver.talk, **options) as receiver.peer:
        scheme = "https" if options else "http"
        with anyio.fail_after(IN_TIME_S):
            yield f"{scheme}://{LOOPBACK}:{receiver.peer.port}/hook"


async def said(client: HttpClient, method: str = "POST", content: bytes = b"{}") -> tuple[int, bytes]:
    """Status and body of an answer."""
    async with client.stream(method, content=content) as response:
        return response.status_code, b"".join([piece async for piece in response.aiter_raw()])


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
@pytest.mark.parametrize("first", COMPLETE.values(), ids=COMPLETE)
async def test_what_follows_a_response_at_once_answers_nothing(
    first: bytes, stray: bytes, options: dict[str, ssl.SSLContext]
) -> None:
    receiver = Receiver([[first + stray, OK], [FAILS]])
    async with serving(receiver, options) as url:
        client = HttpClient(url, timeout_s=IN_TIME_S)
        await said(client)
        assert (await said(client))[0] == 500
        await client.aclose()

    assert receiver.requests == [(1, 1), (2, 1)], "the connection was used once"


@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
async def test_what_comes_while_no_request_is_open_answers_nothing(
    stray: bytes, options: dict[str, ssl.SSLContext]
) -> None:
    receiver = Receiver([[OK, OK], [FAILS]], late=stray)
    async with serving(receiver, options) as url, http_sink(url) as sink:
        await sink.send(DELIVERY)
        receiver.say_late.set()
        await receiver.said_late.wait()
        error = await failure(sink)

    assert error.kind is ErrorKind.SERVER
    assert receiver.requests == [(1, 1), (2, 1)]


async def test_a_response_in_a_record_of_its_own_answers_nothing(options: dict[str, ssl.SSLContext]) -> None:
    """With TLS, both arrive at once, and the second is not decrypted yet when the first has been read."""
    receiver = Receiver([[(OK, OK), OK], [FAILS]])
    async with serving(receiver, options) as url, http_sink(url) as sink:
        await sink.send(DELIVERY)
        error = await failure(sink)

    assert error.kind is ErrorKind.SERVER
    assert receiver.requests == [(1, 1), (2, 1)]


async def test_a_second_response_behind_as_much_as_is_read_at_once_answers_nothing(
    options: dict[str, ssl.SSLContext],
) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    length = READ_AT_ONCE - len(head % READ_AT_ONCE)
    receiver = Receiver([[head % length + b"x" * length + OK, OK], [FAILS]])
    assert len(head % length) + length == READ_AT_ONCE
    async with serving(receiver, options) as url, http_sink(url) as sink:
        await sink.send(DELIVERY)
        error = await failure(sink)

    assert error.kind is ErrorKind.SERVER
    assert receiver.requests == [(1, 1), (2, 1)]


@pytest.mark.parametrize("last", [OK, FAILS], ids=["taken", "refused"])
@pytest.mark.parametrize("stray", [OK, CHUNKED, COMPLETE["204"]], ids=["a length", "chunks", "204"])
async def test_an_answer_that_may_be_another_ones_is_requested_again(
    stray: bytes, last: bytes, options: dict[str, ssl.SSLContext]
) -> None:
    """A late answer to the first delivery comes with the one to the second, which refuses it."""
    receiver = Receiver([[OK, stray + FAILS], [last]])
    async with serving(receiver, options) as url, http_sink(url) as sink:
        await sink.send(DELIVERY)
        if last == OK:
            await sink.send(DELIVERY)
        else:
            assert (await failure(sink)).kind is ErrorKind.SERVER

    assert receiver.requests == [(1, 1), (1, 2), (2, 1)]


async def test_a_peer_that_always_sends_more_than_it_declares_gets_each_request_once(
    options: dict[str, ssl.SSLContext],
) -> None:
    receiver = Receiver([[OK + b"\n<!-- cached -->"]])
    async with serving(receiver, options) as url, http_sink(url) as sink:
        for _ in range(3):
            await sink.send(DELIVERY)

    assert receiver.requests == [(1, 1), (2, 1), (3, 1)]


async def test_without_anything_stray_the_connection_is_kept(options: dict[str, ssl.SSLContext]) -> None:
    several = [*COMPLETE.values()]
    several.remove(COMPLETE["204 that tells of a body"])  # nobody can tell whether one comes
    receiver = Receiver([several])
    async with serving(receiver, options) as url:
        client = HttpClient(url, timeout_s=IN_TIME_S)
        for _ in several:
            await said(client)
        await client.aclose()

    assert {connection for connection, _ in receiver.requests} == {1}


async def test_after_head_a_body_is_stray(options: dict[str, ssl.SSLContext]) -> None:
    receiver = Receiver([[OK, OK], [FAILS]])
    async with serving(receiver, options) as url:
        client = HttpClient(url, timeout_s=IN_TIME_S)
        assert await said(client, "HEAD", b"") == (200, b"")
        assert (await said(client))[0] == 500
        await client.aclose()

    assert receiver.requests == [(1, 1), (2, 1)]


async def test_after_head_a_connection_is_kept(options: dict[str, ssl.SSLContext]) -> None:
    receiver = Receiver([[b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", FAILS]])
    async with serving(receiver, options) as url:
        client = HttpClient(url, timeout_s=IN_TIME_S)
        assert await said(client, "HEAD", b"") == (200, b"")
        assert (await said(client))[0] == 500
        await client.aclose()

    assert receiver.requests == [(1, 1), (1, 2)]


@pytest.mark.parametrize("late", [False, True], ids=["at once", "while nothing is asked"])
async def test_a_request_to_a_shop_is_repeated_too(options: dict[str, ssl.SSLContext], *, late: bool) -> None:
    stray = http_answer(body=b"[1]")
    receiver = Receiver(
        [[http_answer(body=b"[0]") + (b"" if late else stray), stray], [http_answer(body=b"[2]")]],
        late=stray if late else b"",
    )
    async with serving(receiver, options) as url:
        shop = ShopConnection(url, Credentials(headers={}, masker=Masker(())))
        bodies = [(await shop.ask("GET", headers={}))[1]]
        if late:
            receiver.say_late.set()
            await receiver.said_late.wait()
        bodies.append((await shop.ask("GET", headers={}))[1])
        await shop.aclose()

    assert bodies == [b"[0]", b"[2]"]


async def test_a_shops_answer_that_may_be_another_ones_is_requested_again() -> None:
    stray, right = http_answer(body=b"[1]"), http_answer(body=b"[2]")
    receiver = Receiver([[http_answer(body=b"[0]"), stray + right], [right]])
    async with serving(receiver, {}) as url:
        shop = ShopConnection(url, Credentials(headers={}, masker=Masker(())))
        bodies = [(await shop.ask("GET", headers={}))[1] for _ in range(2)]
        await shop.aclose()

    assert bodies == [b"[0]", b"[2]"]
    assert receiver.requests == [(1, 1), (1, 2), (2, 1)]


async def test_a_record_that_is_not_decrypted_is_noticed_before_the_connection_is_used(
    options: dict[str, ssl.SSLContext],
) -> None:
    """Nothing fails by it, also where nobody would ask again."""
    receiver = Receiver([[(OK, OK), OK], [FAILS]])
    async with serving(receiver, options) as url:
        client = HttpClient(url, timeout_s=IN_TIME_S)
        await said(client)
        assert (await said(client))[0] == 500
        await client.aclose()


async def test_a_delivery_whose_answer_becomes_doubtful_at_its_end_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Doubtful(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"ok"
            raise httpx.RemoteProtocolError("made up") from StrayBytesError()

    monkeypatch.setattr(
        httpclient,
        "http_transport",
        lambda _: httpx.MockTransport(lambda _: httpx.Response(200, stream=Doubtful())),
    )
    async with http_sink("http://127.0.0.1/hook") as sink:
        assert (await failure(sink)).kind is ErrorKind.CONNECTION


async def test_the_end_of_aiohttps_connection_does_not_hide_the_doubt() -> None:
    handler, connection = _RepairingHandler(asyncio.get_running_loop()), Open()
    handler.connection_made(connection)
    for stray in (b"", OK):
        handler.set_response_params()
        handler.data_received(OK[:-3])
        await handler.read()
        payload = handler._payload
        handler.data_received(OK[-3:] + stray)
    handler.connection_lost(None)

    assert payload is not None
    assert isinstance(payload.exception(), StrayBytesError)


class Early(httpcore.AsyncNetworkStream):
    """A connection on which the peer has spoken before it was asked."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002, ASYNC109 - httpcore's
        return OK[:max_bytes]

    def get_extra_info(self, info: str) -> bool | None:
        return True if info == "is_readable" else None


async def test_what_comes_before_the_first_request_is_no_answer() -> None:
    with pytest.raises(httpcore.RemoteProtocolError):
        await lenient_stream._RepairingStream(Early()).write(b"POST / HTTP/1.1\r\n\r\n")


class Open(asyncio.Transport):
    """A connection that is open until it is closed."""

    closed = False

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


async def test_what_comes_before_aiohttps_first_request_is_no_answer() -> None:
    handler, connection = _RepairingHandler(asyncio.get_running_loop()), Open()
    handler.connection_made(connection)
    handler.data_received(OK)

    assert connection.closed
    assert handler.should_close


@pytest.mark.parametrize("cut", range(1, 12))
@pytest.mark.parametrize("first", COMPLETE.values(), ids=COMPLETE)
def test_stray_bytes_are_told_wherever_the_pieces_end(first: bytes, cut: int) -> None:
    for at in (len(first) - cut, len(first) + cut):
        repair, data = ResponseRepair(), first + OK
        repair.expect_response()
        repaired = repair.feed(data[:at]) + repair.feed(data[at:])
        assert repair.has_stray
        assert not repair.is_doubtful
        whole = ResponseRepair()
        whole.expect_response()
        assert repaired.count(b"HTTP/1.1") == whole.feed(first).count(b"HTTP/1.1")
        assert not whole.has_stray
        assert whole.is_over
