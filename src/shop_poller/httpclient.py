"""HTTP clients, built in one place, and what their troubles are called in this house."""

import ssl
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from http.cookiejar import Cookie, CookieJar
from urllib.parse import urlsplit
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


async def _drop_location(response: httpx.Response) -> None:
    """Redirects are not followed; httpx prepares for it all the same, and breaks on what is no address."""
    response.headers.pop("location", None)


@cache
def _trust() -> ssl.SSLContext:
    """One TLS context for all clients: building it costs 25 ms and a megabyte."""
    return httpx.create_ssl_context()


def http_transport(url: str) -> httpx.AsyncBaseTransport:
    """What requests to one address go through: kept alive, one connection at a time.

    Args:
        url: what will be asked; decides whether TLS has to be set up, and about the proxy.

    Raises:
        PermanentError: REJECTED, the environment names a proxy that cannot be used.
    """
    # Without TLS nothing is loaded; such a context trusts nobody, should it ever be used.
    trust = _trust() if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    limits = httpx.Limits(max_connections=1, keepalive_expiry=KEEPALIVE_S)
    return transport_class()(verify=trust, limits=limits, proxy=_proxy(url))


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
    parts, proxies = urlsplit(url), getproxies()
    address = proxies.get(parts.scheme) or proxies.get("all")
    if not address or proxy_bypass(parts.hostname or ""):
        return None
    try:
        return httpx.Proxy(address if "://" in address else f"http://{address}")
    except (ValueError, httpx.InvalidURL) as error:
        raise PermanentError(
            ErrorKind.REJECTED,
            f"the proxy that {parts.scheme.upper()}_PROXY or ALL_PROXY names cannot be used; it should look"
            " like http://proxy.example:3128",
        ) from error


def http_client(url: str, *, timeout_s: float) -> httpx.AsyncClient:
    """A client for one address: kept alive, one connection at a time, redirects not followed.

    Args:
        url: what will be asked; decides whether TLS has to be set up.
        timeout_s: for each of connect, read and write; bound the whole exchange yourself.

    Raises:
        PermanentError: what http_transport raises.
    """
    return httpx.AsyncClient(
        transport=http_transport(url),
        timeout=timeout_s,
        # gzip is all that BoundedBody unpacks.
        headers={"User-Agent": USER_AGENT, "Accept-Encoding": "gzip"},
        cookies=_FewCookies(),
        event_hooks={"response": [_drop_location]},
    )


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


async def read_bounded(response: httpx.Response, *, limit: int, peer: str) -> bytes:
    """Read a body, unpacked, up to a number of bytes.

    Raises:
        TemporaryError: what BoundedBody raises.
    """
    bounded, body = BoundedBody(response, limit=limit, peer=peer), bytearray()
    async for piece in response.aiter_raw():
        body += bounded.unpack(piece)
    return bytes(body)


class BoundedBody:
    """Unpacks a body piece by piece, up to a number of bytes in all.

    httpx would unpack a whole piece before anybody could look at its size: 64 KB may be 64 MB, and packed
    twice 64 GB.

    Raises:
        TemporaryError: PROTOCOL, packed in another way than by gzip, once; TOO_LARGE, by its Content-Length.
    """

    def __init__(self, response: httpx.Response, *, limit: int, peer: str) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise TemporaryError(
                ErrorKind.PROTOCOL, f"{peer} packed its answer in a way that was not asked for"
            )
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
        self._limit = self._room = self._packed_room = limit
        self._peer = peer
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise self._too_large()

    def unpack(self, piece: bytes) -> bytes:
        """Unpack one piece.

        Raises:
            TemporaryError: TOO_LARGE; or PROTOCOL, it cannot be unpacked.
        """
        self._packed_room -= len(piece)
        try:
            chunk = self._unpacked(piece)
        except zlib.error as error:
            raise TemporaryError(ErrorKind.PROTOCOL, f"{self._peer} sent what cannot be unpacked") from error
        self._room -= len(chunk)
        if self._room < 0 or self._packed_room < 0:
            raise self._too_large()
        return chunk

    def _unpacked(self, piece: bytes) -> bytes:
        if self._gzip is None:
            return piece
        if self._gzip.eof:
            return b""  # zlib would keep whatever follows the end, without any bound
        # One byte more than there is room for tells that it was too much.
        return self._gzip.decompress(piece, self._room + 1)

    def _too_large(self) -> TemporaryError:
        return TemporaryError(
            ErrorKind.TOO_LARGE, f"{self._peer} answered more than {self._limit // 2**20} MB"
        )


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
