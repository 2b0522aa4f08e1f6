"""What the listener refuses: requests of uncertain length, names that are not ours, too many connections."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from structlog.testing import capture_logs

from shop_poller.observability.metrics import Metrics
from shop_poller.web import server
from shop_poller.web.hooks import PATH, Hooks
from shop_poller.web.hosts import read_host
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving
from shop_poller.web.status_page import StatusPage
from support.scene import HOSTS, NO_HEALTH, Stage, status_page_of
from support.sink_peers import LOOPBACK

pytestmark = pytest.mark.anyio
IN_TIME_S = 10.0
"""What takes milliseconds may take this long on a busy machine."""


@pytest.fixture(scope="module", params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Real sockets need real time; and the daemon has either loop."""
    return "asyncio", {"use_uvloop": request.param}


class Echo:
    """Answers with what it read, and remembers the paths."""

    def __init__(self) -> None:
        self.paths: list[str] = []
        self.app = Starlette(routes=[Route("/{path:path}", self.answer, methods=["GET", "POST"])])

    async def answer(self, request: Request) -> Response:
        self.paths.append(request.url.path)
        return PlainTextResponse(b"read " + await request.body())


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[int]:
    listener = listen(LOOPBACK, 0)
    port: int = listener.getsockname()[1]
    async with serving(app, listener):
        yield port


async def said_to(port: int, said: bytes) -> bytes:
    """All that is answered before the listener hangs up, which it does by itself."""
    with anyio.fail_after(IN_TIME_S):
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        try:
            writer.write(said)
            return await reader.read()
        finally:
            writer.transport.abort()


# --- Lengths that contradict one another --------------------------------------------------------------------

POST = b"POST /a HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
TWO_WAYS: dict[str, bytes] = {
    "a length, and chunks": POST + b"Content-Length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "chunks, and a length": POST + CHUNKED + b"Content-Length: 40\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a length of zero, and chunks": POST + b"content-length:0\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "both in a GET": b"GET /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n"
    + SMUGGLED,
    "two lengths": POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nx" + SMUGGLED,
    "the same length twice": POST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\nx" + SMUGGLED,
    "the same length twice in a line": POST + b"Content-Length: 1, 1\r\n\r\nx" + SMUGGLED,
    "a length with a sign": POST + b"Content-Length: +1\r\n\r\nx" + SMUGGLED,
    "a length in hexadecimal": POST + b"Content-Length: 0x1\r\n\r\nx" + SMUGGLED,
    "an empty length": POST + b"Content-Length:\r\n\r\n" + SMUGGLED,
    "gzip, then chunks": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding that is none": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "identity": POST + b"Transfer-Encoding: identity\r\n\r\n" + SMUGGLED,
    "chunks twice": POST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a coding before HTTP/1.1": b"POST /a HTTP/1.0\r\nHost: x\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + SMUGGLED,
    "a blank before the colon": POST + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n" + SMUGGLED,
    "a coding in two lines": POST
    + b"Content-Length: 4\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "a length behind a fold": POST
    + b"X: a\r\n Content-Length: 5\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n"
    + SMUGGLED,
    "a second length behind a fold": POST
    + b"Content-Length: 5\r\nX: a\r\n\tContent-Length: 6\r\n\r\n12345"
    + SMUGGLED,
    "a coding behind a fold": POST
    + b"Content-Length: 5\r\nX: a\r\n \tTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    + SMUGGLED,
    "bare newlines": POST.replace(b"\r", b"") + b"Content-Length: 4\n" + CHUNKED + b"\n0\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", TWO_WAYS)
async def test_a_request_whose_end_is_not_certain_is_refused_and_hung_up_on(name: str) -> None:
    echo = Echo()
    async with listening(echo.app) as port:
        answer = await said_to(port, TWO_WAYS[name])
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close" in answer.lower()
    assert echo.paths == []


async def test_so_is_one_that_comes_behind_another_on_the_same_connection() -> None:
    echo = Echo()
    async with listening(echo.app) as port:
        answer = await said_to(
            port, b"GET /first HTTP/1.1\r\nHost: x\r\n\r\n" + TWO_WAYS["a length, and chunks"]
        )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.count(b"HTTP/1.1 ") == 2
    assert b"HTTP/1.1 400 " in answer
    assert echo.paths == ["/first"]


@pytest.mark.parametrize(
    "body",
    [
        b"Content-Length: 4\r\n\r\nbody",
        CHUNKED + b"\r\n4\r\nbody\r\n0\r\n\r\n",
        b"TRANSFER-ENCODING: Chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
    ],
)
async def test_a_body_with_one_length_is_read(body: bytes) -> None:
    echo = Echo()
    async with listening(echo.app) as port:
        answer = await said_to(port, POST + b"Connection: close\r\n" + body)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"read body")


async def test_junk_in_a_body_that_was_answered_already_leaves_no_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def refuse(_: Request) -> Response:
        return PlainTextResponse("no", 401)

    app = Starlette(routes=[Route("/a", refuse, methods=["POST"])])
    async with listening(app) as port:
        with anyio.fail_after(IN_TIME_S):
            reader, writer = await asyncio.open_connection(LOOPBACK, port)
            writer.write(POST + CHUNKED + b"\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 401 ")
            writer.write(b"no chunk\r\n")
            await reader.read()
            writer.transport.abort()
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


# --- Names --------------------------------------------------------------------------------------------------


def whole_app(stage: Stage) -> Starlette:
    def make_status_page() -> StatusPage:
        return status_page_of(stage)

    hooks = Hooks("secret", trigger=lambda: None, counter=Metrics("shop.example", []))
    return make_app(NO_HEALTH, hooks, make_status_page, actions_enabled=True, hosts=HOSTS)


NOT_OPEN = [
    *(
        "/",
        "/sign-in",
        "/sign-in/",
        "/sign-out/",
        "/actions/poll/",
        "/actions/replay",
        "/nothing",
        "/nothing/",
    ),
    *(
        "/healthz/",
        "/metrics/",
        "/livez/",
        f"{PATH}/",
        "//evil.example/",
        "//evil.example/sign-in/",
        "/%2e%2e/",
    ),
]
METHODS = ["GET", "POST", "HEAD", "PUT", "OPTIONS"]


def requested(method: str, path: str, *heads: str) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", *heads, "Content-Length: 0", "Connection: close", "", ""]
    return "\r\n".join(lines).encode()


@pytest.mark.parametrize("path", NOT_OPEN)
async def test_under_a_foreign_name_every_other_path_is_421_and_repeats_nothing(path: str) -> None:
    async with listening(whole_app(Stage())) as port:
        for method in METHODS:
            answer = await said_to(port, requested(method, path, "Host: evil.example"))
            assert answer.startswith(b"HTTP/1.1 421 "), method
            assert b"evil" not in answer
            assert b"location" not in answer.lower()


@pytest.mark.parametrize(
    "path", ["/sign-in/", "/actions/poll/", "/healthz/", "/metrics/", f"{PATH}/", "//evil.example/"]
)
async def test_a_slash_at_the_end_is_another_path_and_leads_nowhere(path: str) -> None:
    async with listening(whole_app(Stage())) as port:
        answer = await said_to(port, requested("GET", path, f"Host: 127.0.0.1:{port}"))
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b"location" not in answer.lower()


@pytest.mark.parametrize(
    ("heads", "status"),
    [
        (["Host: poller.example"], 200),
        (["Host: 127.0.0.1:9108", "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example"], 200),
        (["Host: evil.example", "X-Forwarded-Host: 127.0.0.1"], 421),
        (["Host: evil.example", "Host: 127.0.0.1"], 400),
        (["Host: 127.0.0.1", "Host: 127.0.0.1"], 400),
        ([], 400),
        (["Host:"], 421),
        (["Host: 127.0.0.1@evil.example"], 421),
        (["Host: evil.example:80:127.0.0.1"], 421),
        (["Host: [::1]evil.example"], 421),
        (["Host: evil.example#.localhost"], 421),
    ],
)
async def test_only_the_host_header_names_the_listener(heads: list[str], status: int) -> None:
    async with listening(whole_app(Stage())) as port:
        answer = await said_to(port, requested("GET", "/", *heads))
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"evil" not in answer


@pytest.mark.parametrize(
    "target", ["http://evil.example/", "http://127.0.0.1/", "evil.example:443", "http:/x"]
)
async def test_a_target_that_names_a_host_is_for_proxies(target: str) -> None:
    async with listening(whole_app(Stage())) as port:
        answer = await said_to(port, requested("GET", target, "Host: 127.0.0.1"))
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"evil" not in answer


@pytest.mark.parametrize(
    "made_up", ["[::1", "a b", "a/b", "a\\b", "user@host", "a:b:c", "a:port", "::1", "[x]"]
)
def test_what_is_no_host_is_none(made_up: str) -> None:
    assert read_host(made_up) == ""


# --- Too many connections -----------------------------------------------------------------------------------


async def test_while_all_are_being_answered_the_next_one_waits_and_none_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 4)
    monkeypatch.setattr(server, "BUSY_S", 3600.0)
    go_on, requested_ids = anyio.Event(), 0

    async def slow(_: Request) -> Response:
        nonlocal requested_ids
        requested_ids += 1
        await go_on.wait()
        return PlainTextResponse("done")

    ask = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers: list[bytes] = []

    async def client() -> None:
        answers.append(await said_to(port, ask))

    async with listening(Starlette(routes=[Route("/", slow)])) as port, anyio.create_task_group() as tasks:
        for _ in range(9):
            tasks.start_soon(client)
        with anyio.fail_after(IN_TIME_S):
            while requested_ids < 4:  # noqa: ASYNC110 - nothing tells when the server got that far
                await anyio.sleep(0.01)
        await anyio.sleep(3 * server.LOOK_AGAIN_S)
        assert (requested_ids, answers) == (4, [])
        go_on.set()
    assert len(answers) == 9
    assert all(answer.endswith(b"done") for answer in answers)


async def test_those_that_we_keep_waiting_for_long_make_room(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """/livez answers though 64 requests wait for a state that hangs."""
    monkeypatch.setattr(server, "BUSY_S", 0.2)

    async def hang(_: Request) -> Response:
        await anyio.sleep_forever()
        raise AssertionError

    async def livez(_: Request) -> Response:
        return PlainTextResponse("alive")

    app = Starlette(routes=[Route("/healthz", hang), Route("/livez", livez)])
    async with listening(app) as port, AsyncExitStack() as stack:
        for _ in range(server.MAX_CONNECTIONS):
            client = stack.enter_context(socket.create_connection((LOOPBACK, port), IN_TIME_S))
            client.sendall(requested("GET", "/healthz", "Host: x"))
        assert (await said_to(port, requested("GET", "/livez", "Host: x"))).endswith(b"alive")
    assert [record for record in caplog.records if record.exc_info] == []


async def test_no_descriptors_left_is_said_once_and_it_accepts_again_later(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(server, "RETRY_S", 0.01)
    refusals = 0

    class Exhausted(socket.socket):
        def accept(self) -> Any:
            nonlocal refusals
            if refusals < 50:
                refusals += 1
                raise OSError(24, "Too many open files")
            return super().accept()

    monkeypatch.setattr(socket, "socket", Exhausted)
    listener = listen(LOOPBACK, 0)
    monkeypatch.undo()
    monkeypatch.setattr(server, "RETRY_S", 0.01)
    with capture_logs() as logs:
        async with serving(Echo().app, listener):
            port = listener.getsockname()[1]
            answer = await said_to(port, requested("POST", "/", "Host: x"))
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert refusals == 50
    assert [log["error"] for log in logs] == ["Too many open files"]
    assert caplog.records == []
