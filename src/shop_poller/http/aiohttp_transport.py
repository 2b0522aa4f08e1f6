"""The extra `fast`: aiohttp as the transport of httpx. It needs less CPU and more memory.

Importing this module fails if the extra is not installed.
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

from shop_poller.core.errors import text_of
from shop_poller.http.response_repair import NO_CHUNK, ForbiddenHeadError, ResponseRepair, StrayBytesError

NAMELESS = {
    aiohttp.ClientPayloadError: "the response was cut off",
    aiohttp.ClientResponseError: "the response is not HTTP",
    aiohttp.ServerDisconnectedError: "it was closed before a response arrived",
}
MAX_HEADERS = 10_000
"""httpx has no such bound; the bound of the whole head applies first."""
MAX_HEADER = 100 * 1024
"""Bytes; httpx's bound of the whole head. aiohttp's 8 KB are too few for some shops' cookies and policies."""


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Translate errors for which httpx-aiohttp uses a wrong type, or none, into httpx's types."""
    try:
        yield
    except (ForbiddenHeadError, StrayBytesError) as error:
        raise httpx.RemoteProtocolError(str(error)) from error
    except httpx.TransportError as error:
        cause = error.__cause__
        # httpx-aiohttp uses this type for every connection that failed or was never made.
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
    """Describe an error without the address: its query may be a secret, and aiohttp quotes it."""
    if isinstance(error, aiohttp.ClientOSError):  # these name host and port only
        return str(error)
    return NAMELESS.get(type(error), type(error).__name__)


class _AiohttpForbiddenHeadError(aiohttp.ClientError, ForbiddenHeadError):
    """A ForbiddenHeadError that aiohttp passes on."""


class _AiohttpStrayBytesError(aiohttp.ClientError, StrayBytesError):
    """A StrayBytesError that aiohttp passes on."""


class _RepairingHandler(ResponseHandler):
    """Reads responses as browsers do: they are repaired before they are parsed.

    A connection that received bytes outside a response is closed.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop)
        self._repair = ResponseRepair()

    def set_response_params(self, **params: Any) -> None:
        """Prepare for the response; aiohttp calls this before it sends a request."""
        self._repair.expect_response(has_body=not params.get("skip_payload"))
        super().set_response_params(**params)

    def data_received(self, data: bytes) -> None:
        """Repair and parse data. aiohttp itself calls this with no data; then there is nothing to repair."""
        was_over = self._repair.is_over
        try:
            repaired = self._repair.feed(data) if data else data
        except ForbiddenHeadError as error:
            self._hang_up()
            self.set_exception(_AiohttpForbiddenHeadError(text_of(error)), error)
            return
        if self._repair.has_stray:
            self.force_close()  # before the end of the response returns the connection to the pool
            if was_over:
                self._hang_up()
                return
            if self._repair.is_doubtful:
                self._doubt()
                return
        if repaired or not data:
            super().data_received(repaired)
        if self._repair.is_broken:  # the head is still valid
            if self._payload is None:
                super().data_received(NO_CHUNK)
                return
            self._payload.set_exception(aiohttp.ClientPayloadError("invalid chunk size"))
            self._hang_up()

    def _doubt(self) -> None:
        """Fail the request: the response may belong to an earlier one, even if part of it was read."""
        error = _AiohttpStrayBytesError("illegal bytes after a response")
        if self._payload is not None:
            self._payload.set_exception(error)
        self.set_exception(error)
        self._parser = None  # it would report an incomplete response at the end of the connection
        self._hang_up()

    def _hang_up(self) -> None:
        if self.transport is not None:
            self.transport.close()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Parse what is left before the connection ends."""
        rest = self._repair.end()
        if rest:
            super().data_received(rest)
        super().connection_lost(exc)


class _ErrorTranslatingStream(httpx.AsyncByteStream):
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
    """Uses one connection at a time to one address.

    Args:
        verify: the TLS context.
        proxy: the proxy, if any.
        limits: the limits of connections.
    """

    def __init__(self, *, verify: ssl.SSLContext, proxy: httpx.Proxy | None, limits: httpx.Limits) -> None:
        if proxy is not None and proxy.auth is not None:
            # httpx-aiohttp passes credentials in a way that is deprecated, so send the header itself.
            plain = f"{proxy.auth[0]}:{proxy.auth[1]}".encode()
            proxy = httpx.Proxy(proxy.url, headers={"Authorization": f"Basic {b64encode(plain).decode()}"})
        super().__init__(verify=verify, proxy=proxy, limits=limits, client=self._session)

    def _session(self) -> aiohttp.ClientSession:
        limit, keepalive_s = self.limits.max_connections or 0, self.limits.keepalive_expiry
        connector = aiohttp.TCPConnector(limit=limit, keepalive_timeout=keepalive_s, ssl=self.ssl_context)
        # aiohttp has no argument for the protocol class.
        handler: Callable[[], ResponseHandler] = functools.partial(
            _RepairingHandler, asyncio.get_running_loop()
        )
        connector._factory = handler  # type: ignore[assignment]  # noqa: SLF001 - it is a partial there, too
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),  # httpx keeps cookies if needed
            skip_auto_headers={"Accept", "Accept-Encoding", "User-Agent"},
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
            max_headers=MAX_HEADERS,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request and return its response; raises what httpx's own transport raises."""
        # If the peer closed the connection while we were busy, the loop notices it within three turns
        # (asyncio's, with TLS) and replaces it. Otherwise aiohttp uses it, and does not repeat a POST.
        for _ in range(3):
            await asyncio.sleep(0)
        with _httpx_errors():
            response = await super().handle_async_request(request)
        response.stream = _ErrorTranslatingStream(cast("httpx.AsyncByteStream", response.stream))
        return response
