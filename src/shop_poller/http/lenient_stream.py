"""httpx's own transport, changed to accept what browsers accept, with response_repair.py before its parser.

A connection that received bytes outside a response is not used again. Before each use, httpcore looks for
such bytes in the socket. This module also looks in the buffers between socket and parser.
"""

import ssl
import typing
from collections.abc import Iterable

import httpcore
import httpx

from shop_poller.core.errors import text_of
from shop_poller.http.response_repair import NO_CHUNK, ForbiddenHeadError, ResponseRepair, StrayBytesError

MOST_AT_ONCE = 256 * 1024
"""Bytes that asyncio and uvloop read from a socket at once. Reading as many leaves no bytes in a buffer
that nothing examines."""


def read_leniently(transport: httpx.AsyncHTTPTransport) -> None:
    """Repair the responses of a transport before they are parsed."""
    # httpx has no argument for httpcore's network backend.
    pool = transport._pool  # noqa: SLF001
    pool._network_backend = _RepairingBackend(pool._network_backend)  # noqa: SLF001


class _HttpcoreForbiddenHeadError(httpcore.RemoteProtocolError, ForbiddenHeadError):
    """A ForbiddenHeadError that httpcore passes on; it drops causes."""


class _HttpcoreStrayBytesError(httpcore.RemoteProtocolError, StrayBytesError):
    """A StrayBytesError that httpcore passes on."""


class _RepairingBackend(httpcore.AsyncNetworkBackend):
    def __init__(self, backend: httpcore.AsyncNetworkBackend) -> None:
        self._backend = backend

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return _RepairingStream(
            await self._backend.connect_tcp(
                host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
            )
        )

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _RepairingStream(httpcore.AsyncNetworkStream):
    """A connection. Each request is written completely before its response is read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._repair = ResponseRepair()
        self._is_writing = False
        self._tls: ssl.SSLObject | None = stream.get_extra_info("ssl_object")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        self._is_writing = False
        # OpenSSL allocates as much as requested, and returns one record at most.
        most = max_bytes if self._tls else max(max_bytes, MOST_AT_ONCE)
        try:
            while data := await self._stream.read(most, timeout=timeout):
                repaired = self._repair.feed(data)
                if self._repair.is_doubtful:
                    raise _HttpcoreStrayBytesError("illegal bytes after a response")
                if self._repair.is_broken:
                    return repaired + NO_CHUNK
                if repaired:
                    return repaired
        except ForbiddenHeadError as error:
            raise _HttpcoreForbiddenHeadError(text_of(error)) from error
        return self._repair.end()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if not self._is_writing:
            await self._begin(buffer, timeout)
        await self._stream.write(buffer, timeout=timeout)

    async def _begin(self, head: bytes, timeout: float | None) -> None:  # noqa: ASYNC109
        """Prepare for a request; bytes that arrived before it are not its response."""
        # A socket with TLS may hold records without data, such as session tickets.
        is_readable = self._has_unread() if self._tls else self._stream.get_extra_info("is_readable")
        if is_readable and (self._tls or await self._stream.read(1, timeout=timeout)):
            if self._repair.requests:
                raise _HttpcoreStrayBytesError("illegal bytes between two responses")
            raise httpcore.RemoteProtocolError("illegal bytes before the first request")
        self._is_writing = True
        self._repair.expect_response(has_body=not head.startswith(b"HEAD "))

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        return _RepairingStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> typing.Any:
        if info == "is_readable" and (self._repair.has_stray or self._has_unread()):
            return True
        return self._stream.get_extra_info(info)

    def _has_unread(self) -> bool:
        """Return whether bytes were read from the socket but not decrypted. They are lost now."""
        if self._tls is None:
            return False
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):  # closed or broken
            return True
        return True
