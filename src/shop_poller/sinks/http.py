"""The sink `http(s)://`: a POST a notification, signed by the Standard Webhooks rules if a secret is set."""

import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

import anyio
import httpx

from shop_poller.core.addresses import SinkAddress
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.signature import signatures
from shop_poller.httpclient import HttpClient, retry_after_s, transport_errors

TIMEOUT_S = 10.0
SMALL_TALK_BYTES = 64 * 1024
SMALL_TALK_S = 1.0
"""How much of an answer's body is read, and for how long, to keep the connection."""

TEMPORARY = {
    408: ErrorKind.TIMEOUT,
    409: ErrorKind.REJECTED,
    425: ErrorKind.REJECTED,
    429: ErrorKind.RATE_LIMIT,
    502: ErrorKind.UNAVAILABLE,
    503: ErrorKind.UNAVAILABLE,
    504: ErrorKind.UNAVAILABLE,
}


class HttpSink:
    """Posts to one address. For the methods see ports.Sink.

    Args:
        address: where to.
        keys: sign, each by itself, if there are any.
    """

    def __init__(self, address: SinkAddress, *, keys: Sequence[bytes]) -> None:
        self.name = address.name
        self._url = address.url
        self._keys = keys
        # A client a sender: one connection pool shared by many costs three times the CPU.
        self._idle: list[HttpClient] = []

    async def send(self, delivery: Delivery) -> None:
        """Post one notification."""
        body = delivery.body.encode()
        with transport_errors(self.name):
            response = await self._request("POST", content=body, headers=self._headers(delivery, body))
        if not response.is_success:
            raise _refusal(response)

    async def check(self) -> str:
        """See whether somebody answers there; nothing is posted."""
        with transport_errors(self.name):
            response = await self._request("OPTIONS")
        return f"answers (HTTP {response.status_code} to OPTIONS)"

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._idle:
            await client.aclose()

    async def _request(
        self, method: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        client = self._idle.pop() if self._idle else HttpClient(self._url, timeout_s=TIMEOUT_S)
        try:
            async with client.stream(method, content=content, headers=headers) as response:
                await _hear_out(response)
                return response
        finally:
            self._idle.append(client)

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        sent_at = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": delivery.event_id,
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(sent_at),
        }
        if self._keys:
            headers["webhook-signature"] = signatures(
                self._keys, message_id=delivery.event_id, timestamp=sent_at, body=body
            )
        return headers


async def _hear_out(response: httpx.Response) -> None:
    """Read the body to its end, without which the connection could not be used again.

    Only status and headers matter: of a body that is long, slow or broken the rest is left unread, and the
    connection is closed.
    """
    heard = 0
    with suppress(httpx.HTTPError), anyio.move_on_after(SMALL_TALK_S):
        async for chunk in response.aiter_raw():
            heard += len(chunk)
            if heard > SMALL_TALK_BYTES:
                return


def _refusal(response: httpx.Response) -> ShopPollerError:
    status = response.status_code
    message = f"the receiver answered {status}"
    if response.is_redirect:
        return TemporaryError(
            ErrorKind.UNAVAILABLE, f"{message}, a redirect; name the final address in SHOP_NOTIFY_URLS"
        )
    if status in TEMPORARY:
        return TemporaryError(TEMPORARY[status], message, retry_after_s=retry_after_s(response.headers))
    if status >= 500:
        return TemporaryError(ErrorKind.SERVER, message, retry_after_s=retry_after_s(response.headers))
    if status == 410:
        return PermanentError(ErrorKind.GONE, f"{message}: do not send here any more")
    if status >= 400:
        return PermanentError(ErrorKind.REJECTED, message)
    return TemporaryError(ErrorKind.PROTOCOL, message)
