"""One HTTP connection to a shop: bounded in time and size, and no secret of ours in what it answers."""

import json
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import datetime

import anyio
import httpx

from shop_poller.bodies import read_bounded
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.httpclient import HttpClient, http_date, transport_errors
from shop_poller.sources.credentials import Credentials

REQUEST_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 32 * 2**20
PEER = "the shop"

Read = Callable[[httpx.Response], Awaitable[bytes]]


async def read_whole(response: httpx.Response) -> bytes:
    """The body, unpacked; raises what bodies.read_bounded raises."""
    return await read_bounded(response, limit=MAX_ANSWER_BYTES, peer=PEER)


class Connection:
    """A client of one endpoint. Requests are made one at a time.

    Args:
        url: the endpoint.
        credentials: what proves who we are.
    """

    def __init__(self, url: str, credentials: Credentials) -> None:
        self._credentials = credentials
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
        """Send one request, read its answer whole, within the time and size that one may take.

        Args:
            method: HTTP's.
            headers: besides those of the credentials.
            url: another than the endpoint itself, such as with a query.
            message: becomes the JSON body.
            read: takes the body.

        Raises:
            PermanentError: AUTHENTICATION, nothing is sent since the credentials cannot be right.
            TemporaryError, PermanentError: no answer, see httpclient.transport_errors; too large.
        """
        if self._credentials.flaw:
            raise PermanentError(ErrorKind.AUTHENTICATION, self._credentials.flaw)
        own = {**self._credentials.headers, **headers}
        content = None
        if message is not None:
            content = json.dumps(message, separators=(",", ":"))
            own["Content-Type"] = "application/json"
        with transport_errors(PEER), anyio.fail_after(REQUEST_TIMEOUT_S):
            async with self._client.stream(method, url=url, content=content, headers=own) as response:
                body = await read(response)
        for secret in self._credentials.secrets:  # a debugging page may show what it was asked with
            body = body.replace(secret, b"***")
        return response, body

    async def say_goodbye(self, headers: Mapping[str, str]) -> None:
        """DELETE the endpoint's session, whatever is answered; never raises."""
        own = {**self._credentials.headers, **headers}
        with suppress(ShopPollerError), transport_errors(PEER), anyio.fail_after(GOODBYE_TIMEOUT_S):
            async with self._client.stream("DELETE", headers=own):
                pass

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


def shop_time(headers: Mapping[str, str]) -> datetime:
    """The shop's clock when it answered.

    Raises:
        TemporaryError: PROTOCOL, it did not tell.
    """
    instant = http_date(headers)
    if instant is None:
        raise TemporaryError(
            ErrorKind.PROTOCOL, "the shop's answer has no Date header; let the proxy before it keep that"
        )
    return instant
