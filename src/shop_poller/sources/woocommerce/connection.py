"""One HTTP connection to a shop: limits time and size, and removes our secrets from the answers."""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime
from functools import partial

import anyio
import anyio.lowlevel
import httpx

from shop_poller.config.addresses import secrets_in
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.masking import CHUNK, Masker, without
from shop_poller.core.translatable import Text
from shop_poller.http.body import read_bounded
from shop_poller.http.client import HttpClient, answered_for_sure, http_date, transport_errors
from shop_poller.sources.woocommerce.answers import redirect_error
from shop_poller.sources.woocommerce.credentials import Credentials
from shop_poller.sources.woocommerce.redirects import leads_back

REQUEST_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 32 * 2**20
PEER = Text("the shop")

Read = Callable[[httpx.Response], Awaitable[bytes]]


async def read_whole(response: httpx.Response) -> bytes:
    """Return the unpacked body. Raises what `read_bounded` raises."""
    return await read_bounded(response, limit=MAX_ANSWER_BYTES, peer=PEER)


class ShopConnection:
    """A client of one endpoint. It sends one request at a time.

    Args:
        url: the endpoint.
        credentials: authenticate us.
    """

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._url = url
        self._credentials = credentials
        in_url = secrets_in(url)
        self._maskers = [credentials.masker, *([Masker(in_url)] if in_url else [])]
        self._client = HttpClient(url, timeout_s=REQUEST_TIMEOUT_S, cookies=True)

    async def ask(
        self,
        method: str,
        *,
        headers: Mapping[str, str],
        url: str | None = None,
        message: object = None,
        read: Read = read_whole,
    ) -> tuple[httpx.Response, bytes]:
        """Send one request and read its whole answer, within the limits of time and size.

        Args:
            method: the HTTP method.
            headers: headers besides those of the credentials.
            url: an address to use instead of the endpoint, for example with a query.
            message: becomes the JSON body.
            read: reads the body.

        Raises:
            PermanentError: AUTHENTICATION; nothing is sent, because the credentials cannot be correct.
            PermanentError, TemporaryError: a redirect, which is not followed.
            TemporaryError, PermanentError: no answer, see `transport_errors`; or the answer is too large.
        """
        if self._credentials.flaw:
            raise PermanentError(ErrorKind.AUTHENTICATION, self._credentials.flaw)
        own = {**self._credentials.headers, **headers}
        content = None
        if message is not None:
            content = json.dumps(message, separators=(",", ":"))
            own["Content-Type"] = "application/json"
        with transport_errors(PEER, self._masked), anyio.fail_after(REQUEST_TIMEOUT_S):
            exchange = partial(self._exchange, method, url, content, own, read)
            response, body = await answered_for_sure(exchange)
            if self._may_have_wanted_cookies(response, url):
                response, body = await answered_for_sure(exchange)
        if response.is_redirect:
            raise redirect_error(response.status_code, url or self._url, self._redacted(response.headers))
        self._clear_headers(response)
        return response, await self._cleared_in_steps(body)

    async def _exchange(
        self, method: str, url: str | None, content: str | None, headers: Mapping[str, str], read: Read
    ) -> tuple[httpx.Response, bytes]:
        async with self._client.stream(method, url=url, content=content, headers=headers) as response:
            return response, b"" if response.is_redirect else await read(response)

    def _may_have_wanted_cookies(self, response: httpx.Response, url: str | None) -> bool:
        """Return whether this is a redirect to the same address that sets a cookie.

        With the cookie, the shop may answer.
        """
        there = response.headers.get("location", "")
        cookie = response.is_redirect and "set-cookie" in response.headers
        return bool(cookie and there and leads_back(url or self._url, there))

    def _masked(self, text: str) -> str:
        for masker in self._maskers:
            text = masker.mask(text)
        return text

    def _clear_headers(self, response: httpx.Response) -> None:
        pairs = response.headers.raw
        together = b"\n".join(value for _, value in pairs)
        if any(masker.mask_bytes(together) is not together for masker in self._maskers):
            response.headers = httpx.Headers([(name, self._cleared(value)) for name, value in pairs])

    def _cleared(self, raw: bytes) -> bytes:
        for masker in self._maskers:
            raw = masker.mask_bytes(raw)
        return raw

    async def _cleared_in_steps(self, body: bytes) -> bytes:
        """Remove our secrets, which a debugging page may show, without blocking the other shops."""
        for masker in self._maskers:
            found = []
            for spans in masker.find(body):
                found += spans
                if len(body) > CHUNK:
                    await anyio.lowlevel.checkpoint()
            body = without(body, found)
        return body

    def _redacted(self, headers: Mapping[str, str]) -> dict[str, str]:
        return {name: self._masked(value) for name, value in headers.items()}

    async def say_goodbye(self, headers: Mapping[str, str]) -> httpx.Response | None:
        """Send DELETE for the endpoint's session. Never raises.

        Returns:
            The answer, its body unread; None if there was none.
        """
        own = {**self._credentials.headers, **headers}
        with suppress(ShopPollerError), transport_errors(PEER), anyio.fail_after(GOODBYE_TIMEOUT_S):
            async with self._client.stream("DELETE", headers=own) as response:
                return response
        return None

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def shop_time(headers: Mapping[str, str]) -> datetime:
    """Return the shop's clock when it answered.

    Raises:
        TemporaryError: PROTOCOL; the response does not contain it.
    """
    instant = http_date(headers)
    if instant is None:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text("the shop's answer has no Date header; let the shop's proxy keep that header"),
        )
    return instant
