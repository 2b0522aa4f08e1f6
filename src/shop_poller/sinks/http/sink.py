"""The sink `http(s)://`: one POST per notification, signed as in Standard Webhooks if a secret is set."""

import time
from collections.abc import Mapping, Sequence

import anyio
import httpx

from shop_poller.core import chat_hooks
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery
from shop_poller.core.signature import signatures
from shop_poller.core.translatable import Text, joined
from shop_poller.http.client import (
    HttpClient,
    StrayResponseError,
    answered_for_sure,
    retry_after_s,
    transport_errors,
)
from shop_poller.sinks.http import redirects
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.response_words import MOST_READ, words_of
from shop_poller.sinks.statuses import refusal

TIMEOUT_S = 10.0
SMALL_TALK_BYTES = 64 * 1024
SMALL_TALK_S = 1.0
"""How much of a response's body is read, and for how long, to reuse the connection."""

REFUSES_TO_LOOK = frozenset({400, 403, 404, 405, 501})
"""Responses to OPTIONS that do not show how the receiver answers a POST."""


class HttpSink:
    """Posts to one address. For the methods, see ports.Sink.

    Args:
        config: contains the address.
        keys: one signature per key; may be empty.
    """

    def __init__(self, config: HttpConfig, *, keys: Sequence[bytes]) -> None:
        self.name = config.name
        self._config = config
        self._url = config.url
        self._keys = keys
        self._masker = Masker(config.secrets)
        # One client per sender: a connection pool that many share takes three times the CPU.
        self._idle: list[HttpClient] = []

    async def send(self, delivery: Delivery) -> int:
        """Post one notification. Return the status of the response."""
        body = delivery.body.encode()
        with transport_errors(self.name, self._masker.mask):
            response, said = await self._request("POST", content=body, headers=self._headers(delivery, body))
        if not response.is_success and not self._is_yes(response):
            words = words_of(said, self._masker.mask)
            raise self._refusal(response).answered(response.status_code, words)
        return response.status_code

    async def check(self) -> str:
        """Check whether the receiver answers. Nothing is posted."""
        hook = self._config.chat_hook
        if hook is not None and hook.is_certain:
            raise PermanentError(ErrorKind.PROTOCOL, chat_hooks.advice(hook))
        with transport_errors(self.name, self._masker.mask):
            response, _ = await self._request("OPTIONS")
        status = response.status_code
        said: str = Text("answers (HTTP {status} to OPTIONS)", status=status)
        if response.is_redirect and not self._config.takes_redirects:
            said = joined("; ", [said, redirects.advice(self._config, response, was_sent=False)])
        if hook is None:
            return said
        said = Text("{said}; it {advice}", said=said, advice=chat_hooks.advice(hook))
        if status in REFUSES_TO_LOOK:
            raise PermanentError(ErrorKind.PROTOCOL, said)
        return said

    async def aclose(self) -> None:
        """Close the connections."""
        for client in self._idle:
            await client.aclose()

    async def _request(
        self, method: str, *, content: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[httpx.Response, bytes]:
        """Send a request. Return the response, and the beginning of its body as it was received."""
        client = self._idle.pop() if self._idle else HttpClient(self._url, timeout_s=TIMEOUT_S)

        async def exchange() -> tuple[httpx.Response, bytes]:
            async with client.stream(method, content=content, headers=headers) as response:
                return response, await _read_to_end(response)

        try:
            return await answered_for_sure(exchange)
        finally:
            self._idle.append(client)

    def _is_yes(self, response: httpx.Response) -> bool:
        """Return whether this is a redirect that the owner counts as delivered (`redirects=delivered`)."""
        return self._config.takes_redirects and response.status_code in redirects.SEE_OTHER

    def _refusal(self, response: httpx.Response) -> ShopPollerError:
        message = Text("the receiver answered {status}", status=response.status_code)
        if 300 <= response.status_code < 400:
            return redirects.refusal(self._config, response, message)
        return refusal(response.status_code, message, retry_after_s=retry_after_s(response.headers))

    def _headers(self, delivery: Delivery, body: bytes) -> dict[str, str]:
        sent_at = int(time.time())
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": delivery.event_id,
            "Shop-Id": delivery.shop_id,
            "webhook-id": delivery.event_id,
            "webhook-timestamp": str(sent_at),
        }
        if self._keys:
            headers["webhook-signature"] = signatures(
                self._keys, message_id=delivery.event_id, timestamp=sent_at, body=body
            )
        return headers


async def _read_to_end(response: httpx.Response) -> bytes:
    """Read the body to its end, so that the connection can be reused.

    Only the status and the headers decide. If the body is long, slow or broken, the rest is not read, and the
    connection is closed.

    Returns:
        The beginning of the body, for people.
    """
    size, begin = 0, b""
    try:
        with anyio.move_on_after(SMALL_TALK_S):
            async for chunk in response.aiter_raw():
                size += len(chunk)
                if len(begin) < MOST_READ:
                    begin += chunk[:MOST_READ]
                if size > SMALL_TALK_BYTES:
                    break
    except StrayResponseError:
        raise
    except httpx.HTTPError:
        pass
    return begin[:MOST_READ]
