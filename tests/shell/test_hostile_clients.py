"""The listener, and those who mean harm: junk, floods and dawdling do no harm to who comes next."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from itertools import repeat
from typing import Any

import anyio
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shop_poller.observability.metrics import Metrics
from shop_poller.web import server
from shop_poller.web.hooks import MAX_BODY, PATH, Hooks
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving
from support import wire
from support.hooks import SECRET, sign
from support.sink_peers import LOOPBACK

IN_TIME_S = 10.0
"""What takes milliseconds may take this long on a busy machine."""
BODIES = [wire.request(name).body for name in wire.names("webhook")]


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Real sockets need real time; and the daemon has either loop."""
    return "asyncio", {"use_uvloop": request.param}


class Well:
    """The health of a daemon without problems."""

    async def health(self) -> dict[str, str]:
        return {"status": "healthy"}

    async def readiness(self) -> dict[str, str]:
        return {"status": "ready"}

    async def exposition(self) -> bytes:
        return b"shop_healthy 1\n"


class Desk:
    """The application with its hooks, and the number of triggers."""

    def __init__(self) -> None:
        self.triggers = 0
        self.app = make_app(Well(), Hooks(SECRET, trigger=self.trigger, counter=Metrics("shop.example", [])))

    def trigger(self) -> None:
        self.triggers += 1


# --- Webhooks, without a socket ---

odd = st.binary(max_size=60) | st.sampled_from([b"", b"=", b"\xff" * 100, b"A" * 10_000, b"order.updated"])
bodies = (
    st.sampled_from(BODIES)
    | st.binary(max_size=100)
    | st.sampled_from([b"webhook_id=" + b"9" * 60, b"[" * 9_000])
)


@given(
    bodies,
    st.lists(st.integers(0, 3_000), max_size=5),
    st.sampled_from(["genuine", "none", "odd", "twice"]),
    st.tuples(odd, odd),
    st.sampled_from(["whole", "broken off"]),
)
@example(b"x" * (MAX_BODY + 1), [], "genuine", (b"", b"order.updated"), "whole")
@example(b"webhook_id=1", [1, 2, 3], "none", (b"", b""), "whole")
def test_whatever_is_posted_is_a_trigger_only_if_it_is_the_shops(
    body: bytes, cuts: list[int], signed: str, said: tuple[bytes, bytes], end: str
) -> None:
    (forged, topic), genuine = said, sign(body).encode()
    signature = {"genuine": [genuine], "none": [], "odd": [forged], "twice": [forged, genuine]}[signed]
    desk = Desk()
    head = [(b"x-wc-webhook-topic", topic), *((b"x-wc-webhook-signature", one) for one in signature)]
    status, text = asyncio.run(posted(desk, head, _cut(body, cuts), end=end))
    is_the_shops = signature[:1] == [genuine] and end == "whole" and len(body) <= MAX_BODY
    assert desk.triggers == (is_the_shops and topic.startswith(b"order."))
    assert status in ({200} if is_the_shops else {200, 400, 401, 413})
    assert (status == 200) is (text == b"")
    assert len(text) < 200
    assert text.isascii()


def _cut(body: bytes, cuts: list[int]) -> list[bytes]:
    ends = [*sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False)]


async def posted(
    desk: Desk, head: list[tuple[bytes, bytes]], pieces: list[bytes], *, end: str
) -> tuple[int, bytes]:
    """What is answered to a POST, to ASGI's face."""
    messages: list[dict[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": True} for piece in pieces
    ]
    messages.append(
        {"type": "http.disconnect"} if end == "broken off" else {"type": "http.request", "body": b""}
    )
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": PATH, "headers": head, "query_string": b""}
    with anyio.fail_after(IN_TIME_S):
        await desk.app(scope, receive, send)
    return sent[0]["status"], b"".join(message["body"] for message in sent[1:])


# --- Anything, over a socket ---


@asynccontextmanager
async def listening(desk: Desk) -> AsyncIterator[int]:
    listener = listen(LOOPBACK, 0)
    port: int = listener.getsockname()[1]
    async with serving(desk.app, listener):
        yield port
        answer = await said_to(port, [b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"])
        assert answer.endswith(b"shop_healthy 1\n")  # and is there for the next one


async def said_to(port: int, pieces: Iterable[bytes]) -> bytes:
    """What is answered before the listener hangs up, however much is said meanwhile."""
    with anyio.fail_after(IN_TIME_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            talk = asyncio.create_task(_talk(writer, pieces))
            answer = b""
            try:
                while part := await reader.read(65536):
                    answer += part
            except ConnectionError:
                pass  # hung up while we were still talking
            talk.cancel()
            await asyncio.gather(talk, return_exceptions=True)
            return answer
        finally:
            writer.transport.abort()


async def _talk(writer: asyncio.StreamWriter, pieces: Iterable[bytes]) -> None:
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)


HOST = b" HTTP/1.1\r\nHost: x\r\n"
SIGNED = b"X-WC-Webhook-Signature: AAAA\r\n"
POST = b"POST " + PATH.encode() + HOST
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
JUNK: dict[str, Iterable[bytes]] = {
    "TLS": [b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 500 + b"\r\n\r\n"],
    "HTTP/2": [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
    "no version": [b"GET /metrics\r\n\r\n"],
    "zeros": repeat(b"\x00" * 65536, 1000),
    "empty lines": repeat(b"\r\n" * 10_000, 1000),
    "a method without end": repeat(b"G" * 65536, 1000),
    "an address without end": [b"GET /", *repeat(b"a" * 65536, 1000)],
    "headers without end": [b"GET /metrics" + HOST, *repeat(b"X: y\r\n" * 10_000, 1000)],
    "a header without end": [b"GET /metrics" + HOST + b"X: ", *repeat(b"y" * 65536, 1000)],
    "a header in two lines": [b"GET /metrics" + HOST + b"X : y\r\n\r\n"],
    "no host": [b"GET /metrics HTTP/1.1\r\n\r\n"],
    "a zero in a header": [b"GET /metrics" + HOST + b"X: a\x00b\r\n\r\n"],
    "a length below zero": [POST + b"Content-Length: -1\r\n\r\n"],
    "a length beyond all": [POST + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n"],
    "two lengths": [POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nxx"],
    "a chunk beyond all": [POST + SIGNED + CHUNKED + b"f" * 30 + b"\r\n"],
    "a chunk without a length": [POST + SIGNED + CHUNKED + b"zz\r\n"],
    "a chunk with much to say": [POST + SIGNED + CHUNKED + b"1;", *repeat(b"x" * 65536, 1000)],
    "chunks without end": [POST + SIGNED + CHUNKED, *repeat(b"10000\r\n" + b"x" * 65536 + b"\r\n", 16_000)],
    "chunks without end, unsigned": [POST + CHUNKED, *repeat(b"10000\r\n" + b"x" * 65536 + b"\r\n", 16_000)],
    "small chunks without end": [
        POST + SIGNED + CHUNKED,
        *repeat(b"40\r\n" + b"x" * 64 + b"\r\n" * 500, 16_000),
    ],
    "a body where there is none": [b"POST /metrics" + HOST + CHUNKED, *repeat(b"1\r\nx\r\n" * 1_000, 16_000)],
    "trailers without end": [POST + SIGNED + CHUNKED + b"0\r\n", *repeat(b"X: y\r\n" * 10_000, 1000)],
}
"""Each is hung up on, with a 4xx or without a word."""


@pytest.mark.anyio
@pytest.mark.parametrize("name", JUNK)
async def test_junk_is_hung_up_on_in_bounded_memory(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "GRACE_S", 0.1)
    desk = Desk()
    async with listening(desk) as port:
        tracemalloc.start()
        try:
            answer = await said_to(port, JUNK[name])
            assert (
                tracemalloc.get_traced_memory()[1] < 12 * 2**20
            )  # a webhook of 1 MB, and what the test holds
        finally:
            tracemalloc.stop()
    assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    assert len(answer) < 1000
    assert desk.triggers == 0
