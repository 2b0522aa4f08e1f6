"""Runs an ASGI application in this event loop, without taking the process over."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, cast

import anyio
import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

GRACE_S = 1
MAX_CONNECTIONS = 64
MAX_CONNECTION_S = 30.0
"""uvicorn waits for ever for a client that connects and asks nothing, or asks and does not read."""


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
        listener.listen()
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
        app,
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
    # Not `serve()`: it takes over the signals, and wakes ten times a second for nothing.
    await server.startup(sockets=[listener])
    try:
        host, port = listener.getsockname()[:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        with anyio.CancelScope(shield=True):  # takes GRACE_S at most
            await server.shutdown(sockets=[listener])


class _BoundedProtocol(H11Protocol):
    """uvicorn's, with a bound for connections and their lives; when there are too many, the oldest goes."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._came = monotonic()  # not the loop's time: uvloop's are many in a millisecond
        self._end = self.loop.call_later(MAX_CONNECTION_S, self._hang_up)
        if len(self.connections) > MAX_CONNECTIONS:
            oldest = min(cast("set[_BoundedProtocol]", self.connections), key=lambda one: one._came)  # noqa: SLF001 - one of us
            self.connections.discard(oldest)
            oldest.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:
            # Refused before its end, which may never come: uvicorn would read on, and throw it away.
            self._end.cancel()
            self._end = self.loop.call_later(GRACE_S, self.transport.abort)  # the answer is to be read first

    def _hang_up(self) -> None:
        self.shutdown()  # at once if nothing is being answered, else after that
        self._end = self.loop.call_later(GRACE_S, self.transport.abort)
