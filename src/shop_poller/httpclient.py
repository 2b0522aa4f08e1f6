"""HTTP, in one place, and what their troubles are called in this house."""

import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import Cookie, CookieJar
from urllib.request import getproxies, proxy_bypass

import httpx

from shop_poller import __version__
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError

USER_AGENT = f"shop-poller/{__version__}"
KEEPALIVE_S = 300.0
"""Outlives a tick, so that polling does not shake hands (TLS) every minute."""

MAX_DETAIL = 200
MAX_COOKIES = 50
MAX_COOKIE = 4096
"""Characters of its name and value; both as browsers have it."""


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
    return transport_class()(verify=trust, limits=limits, proxy=proxy)


@cache
def transport_class() -> Callable[..., httpx.AsyncBaseTransport]:
    """Httpx's own, or aiohttp's if the extra `fast` is installed."""
    try:
        from shop_poller.fast import FastTransport  # noqa: PLC0415 - needs the extra
    except ImportError:
        return httpx.AsyncHTTPTransport
    return FastTransport


def _proxy(url: str) -> httpx.Proxy | None:
    """The proxy that the environment names for an address: HTTP_PROXY, HTTPS_PROXY, ALL_PROXY, NO_PROXY."""
    target, proxies = httpx.URL(url), getproxies()
    address = proxies.get(target.scheme) or proxies.get("all")
    # As httpx has it, an entry of NO_PROXY may have a port.
    names = [target.host, f"{target.host}:{target.port}"] if target.port else [target.host]
    if not address or any(map(proxy_bypass, names)):
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
        self._bounds = {"timeout": httpx.Timeout(timeout_s).as_dict()}
        self._cookies = httpx.Cookies(_FewCookies()) if cookies else None
        # gzip is all that BoundedBody unpacks.
        self._headers = {"User-Agent": USER_AGENT, "Accept": "*/*", "Accept-Encoding": "gzip"}
        self._transport: httpx.AsyncBaseTransport | None = None

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
            TemporaryError: what http_transport raises.
        """
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
        response = await transport.handle_async_request(request)
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
            await self._transport.aclose()

    def _open(self) -> httpx.AsyncBaseTransport:
        """Not from the start: what is wrong with an address is told when it is asked."""
        self._url, login = _bare(self._address), httpx.URL(self._address)
        if login.userinfo:  # RFC 7617
            plain = f"{login.username}:{login.password}"
            self._headers["Authorization"] = f"Basic {b64encode(plain.encode()).decode()}"
        self._transport = http_transport(self._address)
        return self._transport


def _bare(url: str) -> httpx.URL:
    """Without user and password: with them aiohttp refuses a header that says the same."""
    return httpx.URL(url).copy_with(userinfo=b"")


@contextmanager
def transport_errors(peer: str) -> Iterator[None]:
    """Name what goes wrong below HTTP.

    Args:
        peer: who is talked to, for the message.

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
        detail = one_line(str(error)) or type(error).__name__
        raise TemporaryError(ErrorKind.CONNECTION, f"no connection to {peer}: {detail}") from error
    except httpx.DecodingError as error:
        raise TemporaryError(ErrorKind.PROTOCOL, f"{peer} sent what cannot be unpacked") from error
    except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
        raise PermanentError(ErrorKind.REJECTED, f"cannot ask {peer}: {type(error).__name__}") from error


def one_line(text: str, limit: int = MAX_DETAIL) -> str:
    """The beginning of a text that somebody else wrote: one line, nothing that a terminal would obey."""
    words = "".join(c if c.isprintable() else " " for c in text[: 4 * limit]).split()
    return " ".join(words)[:limit].rstrip()


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
