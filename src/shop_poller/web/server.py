"""Runs an ASGI application in this event loop, without taking the process over.

Connections are accepted one by one, and never more than MAX_CONNECTIONS are open. While there are so many,
the next one waits in the kernel's small backlog until there is room. The oldest one that waits for its client
(it is silent, its request is not complete, or it does not read the answer) is closed for it; if all wait for
us, one that has done so for BUSY_S.
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
"""uvicorn waits without a bound for a client that connects and asks nothing, or asks and does not read."""
BUSY_S = 2.0
"""A request that takes us longer may be given up for a new one when there are too many connections."""
MAX_REQUESTS = 2 * MAX_CONNECTIONS
"""Requests under way, those included whose connection was given up: none of them is cancelled."""
LOOK_AGAIN_S = 0.1
RETRY_S = 1.0
"""How long nothing is accepted after the system refused: it has no more descriptors, or no memory."""
SAID_EVERY_S = 300.0
"""That is logged once in so long."""


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

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
            errno.EADDRINUSE: "is in use by another program; name another port, or nothing to turn it off",
            errno.EADDRNOTAVAIL: "is no address of this machine",
            errno.EACCES: "may not be used without root's rights; name a port above 1023",
        }.get(number or 0, f"cannot be listened on: {detail or 'no such name'}")
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
        proxy_headers=False,  # anybody could say with them who they are
        server_header=False,
        date_header=False,  # kept up to date by the loop that is not run, see below
        timeout_graceful_shutdown=GRACE_S,
    )
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    # Not `serve()`: it takes over the signals, and wakes ten times a second for nothing. And without sockets:
    # the loop's own server accepts as many connections as there are, and logs a traceback for each it cannot.
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
    """The application; a request that is cancelled at the end is answered, and leaves no traceback."""

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
            await PlainTextResponse("the listener stops\n", 500)(scope, receive, send)


class _Acceptor:
    """Accepts connections one by one, while there is room.

    Args:
        server: knows those that are open.
        listener: non-blocking.
    """

    def __init__(self, server: uvicorn.Server, listener: socket.socket) -> None:
        self._server = server
        self._listener = listener
        self._refused_at = -SAID_EVERY_S
        self._log: Log = structlog.get_logger()

    async def run(self) -> None:
        """Accept until cancelled; nothing that goes wrong with one connection ends it."""
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
        except OSError as error:  # it has gone meanwhile, or the loop cannot watch it
            connection.close()
            self._say(error)

    def _protocol(self) -> asyncio.Protocol:
        server = self._server
        return _BoundedProtocol(server.config, server.server_state, server.lifespan.state)

    async def _make_room(self) -> None:
        """Wait until one more connection may be open; close the one that waits for its client longest."""
        open_ones = cast("set[_BoundedProtocol]", self._server.server_state.connections)
        while len(open_ones) >= MAX_CONNECTIONS:
            victims = [one for one in open_ones if one.waits_for_client]
            if not victims and len(self._server.server_state.tasks) < MAX_REQUESTS:
                victims = [one for one in open_ones if one.is_overdue]
            if victims:
                victim = min(victims, key=lambda one: one.came_at)
                open_ones.discard(victim)
                victim.transport.abort()
                await asyncio.sleep(0)  # its descriptor is closed in the loop's next round
            else:
                await anyio.sleep(LOOK_AGAIN_S)

    def _say(self, error: OSError) -> None:
        now = monotonic()
        if now >= self._refused_at + SAID_EVERY_S:
            self._refused_at = now
            self._log.warning(
                "a connection to the listener cannot be accepted; if files are too many, raise LimitNOFILE or"
                " ulimit -n; retrying",
                error=error.strerror,
            )


class _BoundedProtocol(H11Protocol):
    """uvicorn's, with a bound for the life of a connection, and strict about what it reads.

    Attributes:
        came_at: when it was accepted, on the monotonic clock.
    """

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self.conn = StrictConnection(h11.SERVER, self.conn._max_incomplete_event_size)  # noqa: SLF001 - as uvicorn chose it
        self._busy_since: float | None = None
        self.came_at = monotonic()  # not the loop's time: uvloop's are many in a millisecond

    @property
    def waits_for_client(self) -> bool:
        """Whether no request is here as a whole, or the answer is not read."""
        return not self._is_busy or self.flow.write_paused

    @property
    def is_overdue(self) -> bool:
        """Whether its request has waited for us for BUSY_S."""
        return self._busy_since is not None and monotonic() > self._busy_since + BUSY_S

    @property
    def _is_busy(self) -> bool:
        """Whether a request is here as a whole, and not answered yet."""
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
        """Refuse what is not HTTP; if something else is being answered, or was, there is no place for it."""
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            super().send_400_response(msg)
        else:
            self.transport.close()

    def on_response_complete(self) -> None:
        self._busy_since = None
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # Refused before its end, which may never come: uvicorn would read on, and throw it away.
            self._end.cancel()
            self._end = self.loop.call_later(GRACE_S, self.transport.abort)  # the answer is to be read first

    def _hang_up(self) -> None:
        self.shutdown()  # at once if nothing is being answered, else after that
        self._end = self.loop.call_later(GRACE_S, self.transport.abort)
