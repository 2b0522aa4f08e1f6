"""Builds HTTP clients, and translates the errors of the HTTP libraries."""

import re
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import Cookie, CookieJar
from typing import TypeVar, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpx

from shop_poller import __version__
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError, text_of
from shop_poller.core.hosts import is_never_proxied
from shop_poller.core.known_lines import known
from shop_poller.core.plain_text import one_line
from shop_poller.core.translatable import Text
from shop_poller.http.lenient_stream import read_leniently
from shop_poller.http.response_repair import ForbiddenHeadError, StrayBytesError
from shop_poller.peer_errors import ignored, translated

USER_AGENT = f"shop-poller/{__version__}"
KEEPALIVE_S = 300.0
"""Longer than a tick, so that polling does not repeat the TLS handshake every minute."""

MAX_DETAIL = 200
MAX_CAUSES = 5
"""Errors in a chain of causes that are examined; an error may be its own cause."""
MAX_COOKIES = 50
MAX_COOKIE = 4096
"""Length of a cookie's name and value; browsers have the same bounds."""


class LibraryError(httpx.TransportError):
    """The HTTP library failed in an undocumented way; see peer_errors."""


class StrayResponseError(httpx.RemoteProtocolError):
    """Bytes follow the response, so it may belong to an earlier request. The connection is closed."""


HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError)
"""Documented errors of the HTTP libraries; `transport_errors` translates them."""
BROKEN_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, LibraryError)
"""Errors after a connection was made: the peer answered or closed it."""
CUT_OFF = Text("the response was cut off")
CLOSED = Text("it was closed before a response arrived")
NOT_HTTP = Text("the response is not HTTP")
SAID = {
    "without sending a response": CLOSED,
    "complete message body": CUT_OFF,
    "incomplete chunked read": CUT_OFF,
    "illegal ": NOT_HTTP,
    **{str(said): said for said in (CUT_OFF, CLOSED, NOT_HTTP)},  # of http/aiohttp_transport.py
}
"""Our texts, by a part of httpx's or h11's text."""
LOGIN = re.compile(
    r"/(?:wp-login\.php|wp-admin|log-?in|sign-?in|my-account|auth|sso|account/login)\b", re.IGNORECASE
)
"""A path of a redirect that leads to a login."""


T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class _FewCookies(CookieJar):
    """Keeps cookies, which some firewalls require. A peer with too many cookies gets a new jar."""

    def set_cookie(self, cookie: Cookie) -> None:
        if len(cookie.name) + len(cookie.value or "") > MAX_COOKIE:
            return
        if len(self) >= MAX_COOKIES:
            self.clear()
        super().set_cookie(cookie)


@cache
def _trust() -> ssl.SSLContext:
    """Return the one TLS context of all clients: building it costs 25 ms and a megabyte."""
    return httpx.create_ssl_context()


@cache
def _no_trust() -> ssl.SSLContext:
    """Return the one context of all clients without TLS."""
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def http_transport(url: str) -> httpx.AsyncBaseTransport:
    """Return the transport for one address: keep-alive, one connection at a time.

    Args:
        url: the address; it determines TLS and the proxy.

    Raises:
        TemporaryError: CONNECTION, the environment names a proxy that cannot be used.
    """
    proxy = _proxy(url)
    tls = url.startswith("https:") or (proxy is not None and proxy.url.scheme == "https")
    # Without TLS no certificates are loaded; such a context trusts nothing, should it ever be used.
    trust = _trust() if tls else _no_trust()
    limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S)
    transport = transport_class()(verify=trust, limits=limits, proxy=proxy)
    if isinstance(transport, httpx.AsyncHTTPTransport):  # the transport of `fast` does so by itself
        read_leniently(transport)
    return transport


@cache
def transport_class() -> Callable[..., httpx.AsyncBaseTransport]:
    """Return httpx's transport, or aiohttp's if the extra `fast` is installed."""
    try:
        from shop_poller.http.aiohttp_transport import FastTransport  # noqa: PLC0415 - needs the extra
    except ImportError:
        return httpx.AsyncHTTPTransport
    return FastTransport


def _proxy(url: str) -> httpx.Proxy | None:
    """Return the proxy for an address, from HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY.

    This machine itself is never reached through a proxy: plain http to it must stay on it.
    """
    target, proxies = httpx.URL(url), getproxies()
    host = target.raw_host.decode()  # httpx cannot decode every xn--… name
    address = proxies.get(target.scheme) or proxies.get("all")
    if not address or is_never_proxied(host):
        return None
    # Like in httpx, an entry of NO_PROXY may have a port.
    names = [host, f"{host}:{target.port}"] if target.port else [host]
    with suppress(UnicodeError):
        names.append(target.host)
    if any(map(proxy_bypass, names)):
        return None
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):  # its text may hold the password
        proxy = None
    # SOCKS needs a package that is not installed. A "%" shows characters that no host may have.
    host = "" if proxy is None or proxy.url.scheme not in {"http", "https"} else proxy.url.host
    if not host or "%" in host:
        # Temporary: the deliveries are right, and the administrator will correct the environment.
        raise TemporaryError(
            ErrorKind.CONNECTION,
            Text(
                "the proxy in {scheme}_PROXY or ALL_PROXY cannot be used; write it like "
                "http://proxy.example:3128",
                scheme=target.scheme.upper(),
            ),
            has_advice=True,
        )
    return proxy


class HttpClient:
    """Sends requests to one address, one at a time, and follows no redirects.

    httpx's own client can do much more, but that takes a third of a request's CPU.

    Args:
        url: the address; a user and password in it authenticate us.
        timeout_s: for each of connect, read and write; bound the whole exchange yourself.
        cookies: keep cookies, which some firewalls require.
    """

    def __init__(self, url: str, *, timeout_s: float, cookies: bool = False) -> None:
        self._address = url
        self._peer = _host(url)
        self._bounds = {"timeout": httpx.Timeout(timeout_s).as_dict()}
        self._cookies = httpx.Cookies(_FewCookies()) if cookies else None
        # BoundedBody decompresses nothing but gzip.
        self._headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._transport: httpx.AsyncBaseTransport | None = None
        self._is_broken = False  # the library failed during a call, and may have miscounted its connections

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: str | bytes | None = None,
        url: str | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request. Read the body of the response within the context.

        Args:
            method: HTTP's.
            headers: in addition to those of every request.
            content: the body.
            url: another address on the same host.

        Raises:
            httpx.HTTPError, httpx.InvalidURL: see transport_errors.
            StrayResponseError: the response may belong to an earlier request; see answered_for_sure.
            TemporaryError: what http_transport raises.
        """
        if self._is_broken:
            await self.aclose()
            self._transport, self._is_broken = None, False
        transport = self._transport or self._open()
        request = httpx.Request(
            method,
            self._url if url is None else _bare(url),
            headers={**self._headers, **(headers or {})},
            content=content,
            extensions=self._bounds,
        )
        if self._cookies:  # the jar is not empty
            self._cookies.set_cookie_header(request)
        with self._library():
            response = await transport.handle_async_request(request)
        response.stream = _Body(response.stream, self._library)
        try:
            if self._cookies is not None and "set-cookie" in response.headers:
                response.request = request
                self._cookies.extract_cookies(response)
            yield response
        finally:
            await response.aclose()

    async def aclose(self) -> None:
        """Close the connection."""
        if self._transport is not None:
            with ignored(self._peer, expected=HTTP_ERRORS):
                await self._transport.aclose()

    @contextmanager
    def _library(self) -> Iterator[None]:
        """Translate the errors of a call of the HTTP library.

        Raises:
            LibraryError, StrayResponseError; and HTTP_ERRORS unchanged.
        """
        try:
            with translated(self._peer, LibraryError, passing=HTTP_ERRORS):
                yield
        except LibraryError:
            self._is_broken = True
            raise
        except httpx.RemoteProtocolError as error:
            if _behind(error, StrayBytesError) is None:
                raise
            raise StrayResponseError(str(error)) from error

    def _open(self) -> httpx.AsyncBaseTransport:
        """Open the transport at the first request, so that errors in the address appear there."""
        self._url, login = _bare(self._address), httpx.URL(self._address)
        if login.userinfo:  # RFC 7617
            plain = f"{login.username}:{login.password}"
            self._headers["Authorization"] = f"Basic {b64encode(plain.encode()).decode()}"
        self._transport = http_transport(self._address)
        return self._transport


def _host(url: str) -> str:
    """Return the host for the log; "" if the address is invalid."""
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


class _Body(httpx.AsyncByteStream):
    """A body that guards each read of the HTTP library."""

    def __init__(
        self,
        stream: httpx.SyncByteStream | httpx.AsyncByteStream,
        library: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._stream = cast("httpx.AsyncByteStream", stream)
        self._library = library

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._library():
            async for piece in self._stream:
                yield piece

    async def aclose(self) -> None:
        with suppress(LibraryError), self._library():  # the response was already read
            await self._stream.aclose()


async def answered_for_sure(exchange: Callable[[], Awaitable[T]]) -> T:
    """Carry out an exchange; repeat it on a new connection if the response may belong to another request.

    Raises:
        Exception: what the exchange raises.
    """
    try:
        return await exchange()
    except StrayResponseError:
        return await exchange()


def _bare(url: str) -> httpx.URL:
    """Return the address without user and password: aiohttp refuses them beside our own header.

    The dot at the end of a host is removed too: certificates are issued for names without it.
    """
    bare = httpx.URL(url).copy_with(userinfo=b"")
    host = bare.raw_host
    return bare.copy_with(host=host.rstrip(b".").decode()) if host.endswith(b".") else bare


@contextmanager
def transport_errors(peer: str, masked: Callable[[str], str] | None = None) -> Iterator[None]:
    """Translate errors below HTTP.

    Args:
        peer: the peer's name for the message.
        masked: removes our secrets from a text: an error may quote the peer, and the peer may quote us.

    Raises:
        TemporaryError: CONNECTION or TIMEOUT; PROTOCOL, the response cannot be decompressed.
        PermanentError: REJECTED, the request cannot be sent at all.
    """
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TemporaryError(ErrorKind.TIMEOUT, Text("{peer} did not answer in time", peer=peer)) from error
    except (httpx.LocalProtocolError, UnicodeError):
        # Not "from error": its text has the header that cannot be sent, which may be a key.
        raise PermanentError(
            ErrorKind.REJECTED,
            Text("cannot ask {peer}: its address or a header has characters that HTTP forbids", peer=peer),
        ) from None
    except (httpx.TransportError, OSError) as error:
        if (forbidden := _behind(error, ForbiddenHeadError)) is not None:
            said = Text("{peer} {problem}", peer=peer, problem=text_of(forbidden))
            raise TemporaryError(ErrorKind.CONNECTION, said, has_advice=True) from error
        detail = _detail(error, masked)
        if isinstance(error, BROKEN_OFF):
            detail = next((said for sign, said in SAID.items() if sign in detail), detail)
            raise TemporaryError(
                ErrorKind.CONNECTION,
                Text(
                    "the connection to {peer} failed: {detail}; if it persists, check the address and "
                    "the log of that server",
                    peer=peer,
                    detail=detail,
                ),
                has_advice=True,
            ) from error
        raise TemporaryError(
            ErrorKind.CONNECTION, Text("no connection to {peer}: {detail}", peer=peer, detail=detail)
        ) from error
    except httpx.DecodingError as error:
        raise TemporaryError(
            ErrorKind.PROTOCOL, Text("{peer} sent a body that cannot be decompressed", peer=peer)
        ) from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise PermanentError(
            ErrorKind.REJECTED, Text("cannot ask {peer}: {name}", peer=peer, name=type(error).__name__)
        ) from error


def _detail(error: BaseException, masked: Callable[[str], str] | None) -> str:
    """Return what an error below HTTP says, without our secrets."""
    text = text_of(error)
    if isinstance(text, Text):  # our own words, about an error of a library
        return text
    # h11 quotes bytes of the peer, which may be a cookie or an order.
    text = text.partition(": bytearray(")[0]
    return known(one_line(masked(text) if masked else text, MAX_DETAIL) or type(error).__name__)


def _behind(error: BaseException | None, kind: type[E]) -> E | None:
    """Return the first error of a kind in a chain of causes."""
    for _ in range(MAX_CAUSES):
        if error is None or isinstance(error, kind):
            return error
        error = error.__cause__
    return None


def http_date(headers: Mapping[str, str]) -> datetime | None:
    """Return the peer's own time when it responded (RFC 9110, Date), if it sent that."""
    return _instant(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the peer asks us to wait (RFC 9110, Retry-After), by its own clock if known."""
    value = headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    until = _instant(value)
    now = http_date(headers) or datetime.now(UTC)
    return max(0.0, (until - now).total_seconds()) if until else None


def _instant(value: str) -> datetime | None:
    try:
        instant = parsedate_to_datetime(value)
        instant = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):  # the year 99999999999, or the last day of 9999 far in the west
        return None
    return instant if 1970 <= instant.year <= 9000 else None
