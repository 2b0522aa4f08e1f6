"""The extra `fast`: aiohttp as the transport of httpx, which takes less CPU, and more memory.

Importing this fails where the extra is not installed.
"""

import asyncio
import functools
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from httpx_aiohttp import AiohttpTransport

from shop_poller.http.response_repair import NO_CHUNK, ForbiddenHeadError, ResponseRepair, StrayBytesError

NAMELESS = {
    aiohttp.ClientPayloadError: "the answer broke off",
    aiohttp.ClientResponseError: "what came is not HTTP",
    aiohttp.ServerDisconnectedError: "it was closed before an answer came",
}
MAX_HEADERS = 10_000
"""Of httpx there is no such bound: that of the whole head comes first."""
MAX_HEADER = 100 * 1024
"""Bytes; what httpx has for the whole head. aiohttp's 8 KB are less than some shops' cookies and policies."""


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """What httpx-aiohttp calls by a wrong name, or not at all, by the name that it has in httpx."""
    try:
        yield
    except (ForbiddenHeadError, StrayBytesError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except httpx.TransportError as error:
        cause = error.__cause__
        # Any connection that broke off, or was never made, is called so.
        broke_off = isinstance(error, httpx.ConnectTimeout) and not isinstance(cause, TimeoutError)
        kind = type(error)
        if broke_off:
            nobody = isinstance(cause, aiohttp.ClientConnectorError)
            kind = httpx.ConnectError if nobody else httpx.ReadError
        raise kind(_said(cause or error)) from cause
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(_said(error)) from error
    except ValueError as error:  # a line break in a header; its text may be a key
        if not isinstance(error, UnicodeError) and "header" not in str(error).lower():
            raise
        raise httpx.LocalProtocolError("a header cannot be sent") from None


def _said(error: BaseException) -> str:
    """In words without the address: its query may be a secret, and aiohttp names it whole."""
    if isinstance(error, aiohttp.ClientOSError):  # these name host and port only
        return str(error)
    return NAMELESS.get(type(error), type(error).__name__)


class _RefusedError(aiohttp.ClientError, ForbiddenHeadError):
    """As aiohttp lets it through."""


class _StrayError(aiohttp.ClientError, StrayBytesError):
    """As aiohttp lets it through."""


class _Handler(ResponseHandler):
    """Reads responses as browsers do: they are repaired before they are parsed.

    A connection on which bytes came that belong to no request is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._repair = ResponseRepair()

    def set_response_params(self, **params: Any) -> None:
        """A request is about to be sent."""
        self._repair.expect_response(has_body=not params.get("skip_payload"))
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Of nothing, aiohttp's own call, there is nothing to repair."""
        was_over = self._repair.is_over
        try:
            repaired = self._repair.feed(data) if data else data
        except ForbiddenHeadError as error:
            self._hang_up()
            self.set_exception(_RefusedError(str(error)), error)
            return
        if self._repair.has_stray:
            self.force_close()  # before the end of the response gives the connection back
            if was_over:
                self._hang_up()
                return
            if self._repair.is_doubtful:
                self._doubt()
                return
        if repaired or not data:
            super().data_received(repaired)
        if self._repair.is_broken:  # the head arrives all the same
            if self._payload is None:
                super().data_received(NO_CHUNK)
                return
            self._payload.set_exception(aiohttp.ClientPayloadError("no size of a chunk"))
            self._hang_up()

    def _doubt(self) -> None:
        """The response may be that to an earlier request, however much of it was read."""
        error = _StrayError("illegal bytes after a response")
        if self._payload is not None:
            self._payload.set_exception(error)
        self.set_exception(error)
        self._parser = None  # it would say at the end of the connection that the response is not complete
        self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """What is still to be seen comes before the end."""
        rest = self._repair.end()
        if rest:
            super().data_received(rest)
        super().connection_lost(exc)


class _Stream(httpx.AsyncByteStream):
    def __init__(self, stream: httpx.AsyncByteStream) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for chunk in self._stream:
                yield chunk

    async def aclose(self) -> None:
        with _httpx_errors():
            await self._stream.aclose()


class FastTransport(AiohttpTransport):
    """One connection at a time to one address.

    Args:
        verify: for TLS.
        proxy: to go through.
        limits: of connections.
    """

    def __init__(self, *, verify: ssl.SSLContext, proxy: httpx.Proxy | None, limits: httpx.Limits) -> None:
        if proxy is not None and proxy.auth is not None:
            # aiohttp makes Proxy-Authorization of it; how httpx-aiohttp tells it warns of its end.
            plain = f"{proxy.auth[0]}:{proxy.auth[1]}".encode()
            proxy = httpx.Proxy(proxy.url, headers={"Authorization": f"Basic {b64encode(plain).decode()}"})
        super().__init__(verify=verify, proxy=proxy, limits=limits, client=self._session)

    def _session(self) -> aiohttp.ClientSession:
        limit, keepalive_s = self.limits.max_connections or 0, self.limits.keepalive_expiry
        connector = aiohttp.TCPConnector(limit=limit, keepalive_timeout=keepalive_s, ssl=self.ssl_context)
        # aiohttp has no argument for it.
        handler: Callable[[], ResponseHandler] = functools.partial(_Handler, asyncio.get_running_loop())
        connector._factory = handler  # type: ignore[assignment]  # noqa: SLF001 - it is a partial there, too
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # httpx keeps them, where they are wanted
            skip_auto_headers={"Accept", "Accept-Encoding", "User-Agent"},
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """One exchange; raises what httpx's own transport raises."""
        # A connection that the peer closed while we were busy is noticed by the loop in three turns at most
        # (asyncio's, with TLS), and replaced; aiohttp would send on it, and does not send a POST again.
        for _ in range(3):
            await asyncio.sleep(0)
        with _httpx_errors():
            response = await super().handle_async_request(request)
        response.stream = _Stream(cast("httpx.AsyncByteStream", response.stream))
        return response
