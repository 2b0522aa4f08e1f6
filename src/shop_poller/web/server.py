"""Runs an ASGI application in this event loop, without controlling the process.

Connections are accepted one by one, and never more than MAX_CONNECTIONS are open. At that limit, the next one
waits in the kernel's small backlog, and a connection is closed for it: the oldest one that waits for its
client. Such a client is silent, has not sent its whole request, or does not read the response. If all
connections wait for us, the oldest that has waited for BUSY_S is closed.
"""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import anyio
import h11
import structlog
import uvicorn
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from shop_poller.observability.logging import Log
from shop_poller.web.strict import StrictConnection

GRACE_S = 1
BACKLOG = 64
MAX_CONNECTIONS = 64
MAX_CONNECTION_S = 30.0
"""uvicorn has no bound for clients that connect and send nothing, or do not read the response."""
BUSY_S = 2.0
"""A request that takes us longer may be dropped for a new one when there are too many connections."""
MAX_REQUESTS = 2 * MAX_CONNECTIONS
"""Running requests, including those whose connection was dropped: they are not cancelled."""
LOOK_AGAIN_S = 0.1
RETRY_S = 1.0
"""How long accepting pauses after the system refused: no descriptors, or no memory."""
SAID_EVERY_S = 300.0
"""The refusal is logged once per this time."""


def listen(host: str, port: int) -> socket.socket:
    """Return a listening socket.

    Raises:
        OSError: with one line that says what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except (OSError, TypeError) as error:  # TypeError: no host can have such a name
        listener.close()
        number, detail = getattr(error, "errno", None), getattr(error, "strerror", None)
        what = {
            errno.EADDRINUSE: "is in use by another program; choose another port, or leave it empty",
            errno.EADDRNOTAVAIL: "is not an address of this machine",
            errno.EACCES: "needs root's rights; choose a port above 1023",
        }.get(number or 0, f"cannot be opened: {detail or 'no such name'}")
        raise OSError(f"{host}:{port} {what}") from error
    return listener


@asynccontextmanager
async def serving(app: Any, listener: socket.socket) -> AsyncIterator[str]:
    """Serve an application on a socket for as long as the context lasts.

    Yields:
        The address, e.g. "http://127.0.0.1:9108".
    """
    config = uvicorn.Config(
        _Answering(app),
        http=_BoundedProtocol,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,  # any client could fake its address with them
        server_header=False,
        date_header=False,  # uvicorn's main loop, which we do not run, would update it
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # `serve()` would take over the signals and poll ten times per second. Without sockets, because the
    # loop's own server has no limit of connections, and logs a traceback for each that fails.
    await server.startup(sockets=[])
    listener.setblocking(False)  # noqa: FBT003 - the standard library's
    accepting = asyncio.create_task(_Acceptor(server, listener).run(), name="accept")
    try:
        host, port = listener.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        with anyio.CancelScope(shield=True):  # takes GRACE_S at most
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            await server.shutdown(sockets=[listener])


class _Answering:
    """Wraps the application: a request that is cancelled at the end gets a response and no traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_begun = False

        async def begin(message: Message) -> None:
            nonlocal is_begun
            is_begun = True
            await send(message)

        try:
            await self._app(scope, receive, begin)
        except asyncio.CancelledError:
            if is_begun:
                raise
            await PlainTextResponse("the listener is stopping\n", 500)(scope, receive, send)


class _Acceptor:
    """Accepts connections one by one, up to the limit.

    Args:
        server: knows the open connections.
        listener: non-blocking.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._refused_at = -SAID_EVERY_S
        self._log: Log = structlog.get_logger()

    async def run(self) -> None:
        """Accept until cancelled; an error of one connection does not end it."""
        while True:
            try:
                await anyio.wait_readable(self._listener)
                await self._make_room()
                connection, _ = self._listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._say(error)
                await anyio.sleep(RETRY_S)
                continue
            await self._begin(connection)

    async def _begin(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.connect_accepted_socket(self._protocol, connection)
        except OSError as error:  # the client has left, or the loop cannot watch the socket
            connection.close()
            self._say(error)

    def _protocol(self) -> asyncio.Protocol:
        server = self._server
        return _BoundedProtocol(server.config, server.server_state, server.lifespan.state)

    async def _make_room(self) -> None:
        """Wait until one more connection may be open; close the one that waits longest for its client."""
        open_ones = cast("set[_BoundedProtocol]", self._server.server_state.connections)
        while len(open_ones) >= MAX_CONNECTIONS:
            victims = [one for one in open_ones if one.waits_for_client]
            if not victims and len(self._server.server_state.tasks) < MAX_REQUESTS:
                victims = [one for one in open_ones if one.is_overdue]
            if victims:
                victim = min(victims, key=lambda one: one.came_at)
                open_ones.discard(victim)
                victim.transport.abort()
                await asyncio.sleep(0)  # the loop closes its descriptor in the next round
            else:
                await anyio.sleep(LOOK_AGAIN_S)

    def _say(self, error: OSError) -> None:
        now = monotonic()
        if now >= self._refused_at + SAID_EVERY_S:
            self._refused_at = now
            self._log.warning(
                "the listener cannot accept a connection; if too many files are open, raise LimitNOFILE"
                " or ulimit -n; retrying",
                error=error.strerror,
            )


class _BoundedProtocol(H11Protocol):
    """uvicorn's protocol, with a bound for the life of a connection, and strict parsing.

    Attributes:
        came_at: when the connection was accepted, on the monotonic clock.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = StrictConnection(h11.SERVER, self.conn._max_incomplete_event_size)  # noqa: SLF001 - as uvicorn chose it
        self._busy_since: float | None = None
        self.came_at = monotonic()  # the loop's time is too coarse: uvloop's changes once per millisecond

    @property
    def waits_for_client(self) -> bool:
        """Whether the request is incomplete, or the client does not read the response."""
        return not self._is_busy or self.flow.write_paused

    @property
    def is_overdue(self) -> bool:
        """Whether its request has waited for us for BUSY_S."""
        return self._busy_since is not None and monotonic() > self._busy_since + BUSY_S

    @property
    def _is_busy(self) -> bool:
        """Whether a request is complete and not answered yet."""
        cycle = cast(
            "RequestResponseCycle | None", self.cycle
        )  # uvicorn's type does not say that there may be none
        return cycle is not None and not cycle.more_body and not cycle.response_complete

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._end = self.loop.call_later(MAX_CONNECTION_S, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._is_busy:
            self._busy_since = None
        elif self._busy_since is None:
            self._busy_since = monotonic()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP. During or after another response, only close the connection."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._busy_since = None
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # The request was refused before its end, which may never come; uvicorn would read and discard it.
            self._end.cancel()
            self._end = self.loop.call_later(GRACE_S, self.transport.abort)  # time to read the response

    def _hang_up(self) -> None:
        self.shutdown()  # at once if no response is being sent, else after it
        self._end = self.loop.call_later(GRACE_S, self.transport.abort)
