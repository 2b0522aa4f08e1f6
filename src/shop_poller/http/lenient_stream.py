"""httpx's own transport, made to read what browsers read: response_repair.py between socket and parser.

A connection on which bytes came that belong to no request is not used again. httpcore looks for them in the
socket before it uses a connection again; here they are looked for in the buffers between socket and parser.
"""

import ssl
import typing
from collections.abc import Iterable

import httpcore
import httpx

from shop_poller.http.response_repair import NO_CHUNK, ForbiddenHeadError, ResponseRepair, StrayBytesError

MOST_AT_ONCE = 256 * 1024
"""Bytes that asyncio and uvloop read from a socket at once. Reading as many leaves nothing between the socket
and us, where nobody would look for it."""


def read_leniently(transport: httpx.AsyncHTTPTransport) -> None:
    """Let the responses that a transport reads be repaired before they are parsed."""
    # httpx has no argument for what httpcore calls its network backend.
    pool = transport._pool  # noqa: SLF001
    pool._network_backend = _Backend(pool._network_backend)  # noqa: SLF001


class _RefusedError(httpcore.RemoteProtocolError, ForbiddenHeadError):
    """As httpcore lets it through: it cuts off what an error was caused by."""


class _StrayError(httpcore.RemoteProtocolError, StrayBytesError):
    """As httpcore lets it through."""


class _Backend(httpcore.AsyncNetworkBackend):
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
        return _Stream(
            await self._backend.connect_tcp(
                host, port, timeout=timeout, local_address=local_address, socket_options=socket_options
            )
        )

    async def sleep(self, seconds: float) -> None:
        await self._backend.sleep(seconds)


class _Stream(httpcore.AsyncNetworkStream):
    """A connection; a request is written whole before its response is read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._repair = ResponseRepair()
        self._is_writing = False
        self._tls: ssl.SSLObject | None = stream.get_extra_info("ssl_object")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        self._is_writing = False
        # OpenSSL makes room for as much as is asked for, and returns a record at most.
        most = max_bytes if self._tls else max(max_bytes, MOST_AT_ONCE)
        try:
            while data := await self._stream.read(most, timeout=timeout):
                repaired = self._repair.feed(data)
                if self._repair.is_doubtful:
                    raise _StrayError("illegal bytes after a response")
                if self._repair.is_broken:
                    return repaired + NO_CHUNK
                if repaired:
                    return repaired
        except ForbiddenHeadError as error:
            raise _RefusedError(str(error)) from error
        return self._repair.end()

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        if not self._is_writing:
            await self._begin(buffer, timeout)
        await self._stream.write(buffer, timeout=timeout)

    async def _begin(self, head: bytes, timeout: float | None) -> None:  # noqa: ASYNC109
        """A request begins; what came before it is no response to it."""
        # A socket with TLS may hold what is no data, such as session tickets.
        is_readable = self._has_unread() if self._tls else self._stream.get_extra_info("is_readable")
        if is_readable and (self._tls or await self._stream.read(1, timeout=timeout)):
            if self._repair.requests:
                raise _StrayError("illegal bytes between two responses")
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
        return _Stream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> typing.Any:
        if info == "is_readable" and (self._repair.has_stray or self._has_unread()):
            return True
        return self._stream.get_extra_info(info)

    def _has_unread(self) -> bool:
        """Whether something was read from the socket, and not yet decrypted; that is lost now."""
        if self._tls is None:
            return False
        try:
            self._tls.read(1)
        except ssl.SSLWantReadError:
            return False
        except (OSError, ValueError):  # it is closed, or broken
            return True
        return True
