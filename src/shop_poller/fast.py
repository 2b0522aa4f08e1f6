"""The extra `fast`: aiohttp as the transport of httpx, which takes less CPU, and more memory.

Importing this fails where the extra is not installed.
"""

import asyncio
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import cast

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

MAX_HEADER = 100 * 1024
"""Bytes; what httpx has for the whole head. aiohttp's 8 KB are less than some shops' cookies and policies."""


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """What httpx-aiohttp calls by a wrong name, or not at all, by the name that it has in httpx."""
    try:
        yield
    except httpx.TransportError as error:
        cause = error.__cause__
        # Any connection that broke off is called so.
        broke_off = isinstance(error, httpx.ConnectTimeout) and not isinstance(cause, TimeoutError)
        kind = httpx.ReadError if broke_off else type(error)
        raise kind(_said(cause or error)) from cause
    except aiohttp.ClientError as error:
        raise httpx.RemoteProtocolError(_said(error)) from error
    except ValueError:  # a line break in a header; its text may be a key
        raise httpx.LocalProtocolError("a header cannot be sent") from None


def _said(error: BaseException) -> str:
    """In words without the address: its query may be a secret, and aiohttp names it whole."""
    if isinstance(error, aiohttp.ClientOSError):  # these name host and port only
        return str(error)
    return type(error).__name__


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
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=keepalive_s, ssl=self.ssl_context),
            cookie_jar=aiohttp.DummyCookieJar(),  # httpx keeps them, where they are wanted
            skip_auto_headers={"Accept", "Accept-Encoding", "User-Agent"},
            max_line_size=MAX_HEADER,
            max_field_size=MAX_HEADER,
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
