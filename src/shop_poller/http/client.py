"""HTTP, in one place, and what their troubles are called in this house."""

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
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.hosts import is_never_proxied
from shop_poller.core.plain_text import one_line
from shop_poller.http.lenient_stream import read_leniently
from shop_poller.http.response_repair import ForbiddenHeadError, StrayBytesError
from shop_poller.peer_errors import ignored, translated

USER_AGENT = f"shop-poller/{__version__}"
KEEPALIVE_S = 300.0
"""Outlives a tick, so that polling does not shake hands (TLS) every minute."""

MAX_DETAIL = 200
MAX_CAUSES = 5
"""Errors behind an error that are looked at; an error may be its own cause."""
MAX_COOKIES = 50
MAX_COOKIE = 4096
"""Characters of its name and value; both as browsers have it."""


class LibraryError(httpx.TransportError):
    """The HTTP library failed in a way of its own; see peer_errors."""


class StrayResponseError(httpx.RemoteProtocolError):
    """Bytes follow the response, which may then be that to an earlier request; the connection is closed."""


HTTP_ERRORS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError, UnicodeError)
"""What an HTTP library means to raise; `transport_errors` names it."""
BROKEN_OFF = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError, LibraryError)
"""There was a connection, and something answered or hung up."""
SAID = {
    "without sending a response": "it was closed before an answer came",
    "complete message body": "the answer broke off",
    "incomplete chunked read": "the answer broke off",
    "illegal ": "what came is not HTTP",
}
"""httpx's and h11's words, by what is in them, in ours."""
LOGIN = re.compile(
    r"/(?:wp-login\.php|wp-admin|log-?in|sign-?in|my-account|auth|sso|account/login)\b", re.IGNORECASE
)
"""In the path of a redirect: it leads to a login."""
BROKEN_ADVICE = "if it lasts, check the address, and look into the log of the server there"


T = TypeVar("T")
E = TypeVar("E", bound=Exception)


class _FewCookies(CookieJar):
    """Keeps cookies, which some firewalls go by; a peer with new ones in each answer gets a new jar."""

    def set_cookie(self, cookie: Cookie) -> None:
        if len(cookie.name) + len(cookie.value or "") > MAX_COOKIE:
            return
        if len(self) >= MAX_COOKIES:
            self.clear()
        super().set_cookie(cookie)


@cache
def _trust() -> ssl.SSLContext:
    """One TLS context for all clients: building it costs 25 ms and a megabyte."""
    return httpx.create_ssl_context()


def http_transport(url: str) -> httpx.AsyncBaseTransport:
    """What requests to one address go through: kept alive, one connection at a time.

    Args:
        url: what will be asked; decides whether TLS has to be set up, and about the proxy.

    Raises:
        TemporaryError: CONNECTION, the environment names a proxy that cannot be used.
    """
    proxy = _proxy(url)
    tls = url.startswith("https:") or (proxy is not None and proxy.url.scheme == "https")
    # Without TLS nothing is loaded; such a context trusts nobody, should it ever be used.
    trust = _trust() if tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S)
    transport = transport_class()(verify=trust, limits=limits, proxy=proxy)
    if isinstance(transport, httpx.AsyncHTTPTransport):  # that of `fast` does so by itself
        read_leniently(transport)
    return transport


@cache
def transport_class() -> Callable[..., httpx.AsyncBaseTransport]:
    """Httpx's own, or aiohttp's if the extra `fast` is installed."""
    try:
        from shop_poller.http.aiohttp_transport import FastTransport  # noqa: PLC0415 - needs the extra
    except ImportError:
        return httpx.AsyncHTTPTransport
    return FastTransport


def _proxy(url: str) -> httpx.Proxy | None:
    """The proxy that the environment names for an address: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY.

    Never for this machine itself: what may go there by plain http may not go to a proxy.
    """
    target, proxies = httpx.URL(url), getproxies()
    host = target.raw_host.decode()  # httpx cannot write every xn--… in letters
    address = proxies.get(target.scheme) or proxies.get("all")
    if not address or is_never_proxied(host):
        return None
    # As httpx has it, an entry of NO_PROXY may have a port.
    names = [host, f"{host}:{target.port}"] if target.port else [host]
    with suppress(UnicodeError):
        names.append(target.host)
    if any(map(proxy_bypass, names)):
        return None
    try:
        proxy = httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL):  # its text may hold the password
        proxy = None
    # SOCKS takes a package that is not installed; what no host may have in it is told by "%".
    host = "" if proxy is None or proxy.url.scheme not in {"http", "https"} else proxy.url.host
    if not host or "%" in host:
        # Temporary: it is nobody's delivery that is wrong, and somebody will mend it.
        raise TemporaryError(
            ErrorKind.CONNECTION,
            f"the proxy that {target.scheme.upper()}_PROXY or ALL_PROXY names cannot be used; it should look"
            " like http://proxy.example:3128",
            has_advice=True,
        )
    return proxy


class HttpClient:
    """Asks one address, one request at a time, and follows no redirects.

    httpx's own client can do much more, and takes a third of a request's CPU for it.

    Args:
        url: what is asked; a user and password in it prove who we are.
        timeout_s: for each of connect, read and write; bound the whole exchange yourself.
        cookies: keep them, which some firewalls go by.
    """

    def __init__(self, url: str, *, timeout_s: float, cookies: bool = False) -> None:
        self._address = url
        self._peer = _host(url)
        self._bounds = {"timeout": httpx.Timeout(timeout_s).as_dict()}
        self._cookies = httpx.Cookies(_FewCookies()) if cookies else None
        # gzip is all that BoundedBody unpacks.
        self._headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._transport: httpx.AsyncBaseTransport | None = None
        self._is_broken = False  # the library failed within it, and may have lost count of its connections

    @asynccontextmanager
    async def stream(
        self,
        method: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: str | bytes | None = None,
        url: str | None = None,
    ) -> AsyncIterator[httpx.Response]:
        """Send a request; the body of its answer is to be read within the context.

        Args:
            method: HTTP's.
            headers: besides those of every request.
            content: the body.
            url: another than the address itself, on the same host.

        Raises:
            httpx.HTTPError, httpx.InvalidURL: see transport_errors.
            StrayResponseError: the answer may be that to an earlier request; see answered_for_sure.
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
        if self._cookies:  # there are some
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
        """A call of the HTTP library.

        Raises:
            LibraryError, StrayResponseError; and HTTP_ERRORS, as they are.
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
        """Not from the start: what is wrong with an address is told when it is asked."""
        self._url, login = _bare(self._address), httpx.URL(self._address)
        if login.userinfo:  # RFC 7617
            plain = f"{login.username}:{login.password}"
            self._headers["Authorization"] = f"Basic {b64encode(plain.encode()).decode()}"
        self._transport = http_transport(self._address)
        return self._transport


def _host(url: str) -> str:
    """For the log; "" if the address is none."""
    with suppress(ValueError):
        return urlsplit(url).hostname or ""
    return ""


class _Body(httpx.AsyncByteStream):
    """A body of which each piece is a call of the HTTP library."""

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
        with suppress(LibraryError), self._library():  # what was asked for is there
            await self._stream.aclose()


async def answered_for_sure(exchange: Callable[[], Awaitable[T]]) -> T:
    """Carry out an exchange; once more, by a new connection, if its answer may be that to an earlier one.

    Raises:
        Exception: what the exchange raises.
    """
    try:
        return await exchange()
    except StrayResponseError:
        return await exchange()


def _bare(url: str) -> httpx.URL:
    """Without user and password: with them aiohttp refuses a header that says the same.

    And without the dot that ends a host: certificates are made out to names without it.
    """
    bare = httpx.URL(url).copy_with(userinfo=b"")
    host = bare.raw_host
    return bare.copy_with(host=host.rstrip(b".").decode()) if host.endswith(b".") else bare


@contextmanager
def transport_errors(peer: str, masked: Callable[[str], str] | None = None) -> Iterator[None]:
    """Name what goes wrong below HTTP.

    Args:
        peer: who is talked to, for the message.
        masked: takes our secrets out of a text: an error may quote what the peer sent, and the peer us.

    Raises:
        TemporaryError: CONNECTION or TIMEOUT; PROTOCOL, the answer cannot be unpacked.
        PermanentError: REJECTED, the request cannot be sent at all.
    """
    try:
        yield
    except (httpx.TimeoutException, TimeoutError) as error:
        raise TemporaryError(ErrorKind.TIMEOUT, f"{peer} did not answer in time") from error
    except (httpx.LocalProtocolError, UnicodeError):
        # Not "from error": its text holds the header that cannot be sent, which may be a key.
        raise PermanentError(
            ErrorKind.REJECTED, f"cannot ask {peer}: its address or a header has characters that HTTP forbids"
        ) from None
    except (httpx.TransportError, OSError) as error:
        if (forbidden := _behind(error, ForbiddenHeadError)) is not None:
            said = masked(str(forbidden)) if masked else str(forbidden)
            raise TemporaryError(ErrorKind.CONNECTION, f"{peer} {said}", has_advice=True) from error
        # What h11 quotes of the peer's bytes may be a cookie, or an order.
        detail = str(error).partition(": bytearray(")[0]
        detail = one_line(masked(detail) if masked else detail, MAX_DETAIL) or type(error).__name__
        if isinstance(error, BROKEN_OFF):
            detail = next((said for sign, said in SAID.items() if sign in detail), detail)
            raise TemporaryError(
                ErrorKind.CONNECTION,
                f"the connection to {peer} failed: {detail}; {BROKEN_ADVICE}",
                has_advice=True,
            ) from error
        raise TemporaryError(ErrorKind.CONNECTION, f"no connection to {peer}: {detail}") from error
    except httpx.DecodingError as error:
        raise TemporaryError(ErrorKind.PROTOCOL, f"{peer} sent what cannot be unpacked") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise PermanentError(ErrorKind.REJECTED, f"cannot ask {peer}: {type(error).__name__}") from error


def _behind(error: BaseException | None, kind: type[E]) -> E | None:
    """The error of a kind that is behind another, if one is."""
    for _ in range(MAX_CAUSES):
        if error is None or isinstance(error, kind):
            return error
        error = error.__cause__
    return None


def http_date(headers: Mapping[str, str]) -> datetime | None:
    """The peer's own clock when it answered (RFC 9110, Date), if it told."""
    return _instant(headers.get("date", ""))


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that the peer asks us to wait (RFC 9110, Retry-After), by its own clock if it told that."""
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
