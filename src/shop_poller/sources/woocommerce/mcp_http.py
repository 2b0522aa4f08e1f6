"""JSON-RPC over HTTP as in every revision of MCP: one message per POST, answered by JSON or events."""

from collections.abc import Mapping
from typing import Any

import httpx

from shop_poller.core.errors import ErrorKind
from shop_poller.core.translatable import Text
from shop_poller.http.body import BoundedBody
from shop_poller.sources.woocommerce.answers import STATUSES, Advice, bound_parts, of_kind, parse
from shop_poller.sources.woocommerce.connection import MAX_ANSWER_BYTES, PEER, ShopConnection, read_whole
from shop_poller.sources.woocommerce.credentials import Credentials
from shop_poller.sources.woocommerce.eventstream import EventStream
from shop_poller.sources.woocommerce.jsonrpc import RpcResult, is_response, own_answer, read_answer

ACCEPT = {"Accept": "application/json, text/event-stream"}
SESSION = "Mcp-Session-Id"


class McpHttp:
    """Sends messages to one endpoint, one at a time.

    Args:
        url: the endpoint.
        credentials: authenticate us.
        advice: what to do about errors.

    Attributes:
        status: the HTTP status of the last response; None if there was none.
    """

    def __init__(self, url: str, credentials: Credentials, advice: Advice) -> None:
        self.advice = advice
        self.status: int | None = None
        self._connection = ShopConnection(url, credentials)
        self._last_id = 0

    async def call(
        self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[RpcResult, httpx.Response]:
        """Call a method.

        Raises:
            SessionLostError: see jsonrpc.read_answer.
            TemporaryError, PermanentError: there is no answer, or it is an error.
        """
        self._last_id += 1  # an integer, because one adapter answers a string with 500
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params:
            message["params"] = params
        response, body = await self.post(message, headers)
        answer = read_answer(
            self._last_id,
            response.status_code,
            response.headers,
            body,
            self.advice,
            in_session=SESSION in headers,
        )
        return answer, response

    async def post(
        self, message: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[httpx.Response, bytes]:
        """Send one message. Raises what ShopConnection.ask raises."""

        async def read(response: httpx.Response) -> bytes:
            if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                return await _answering_event(response, message.get("id"))
            return await read_whole(response)

        self.status = None
        response, body = await self._connection.ask(
            "POST", headers={**ACCEPT, **headers}, message=message, read=read
        )
        self.status = response.status_code
        return response, body

    async def end_session(self, headers: Mapping[str, str]) -> None:
        """End the session with these headers at the endpoint. Any failure but one is ignored.

        Raises:
            TemporaryError: RATE_LIMIT; the shop asks for a pause (HTTP 429), which concerns all requests.
        """
        response = await self._connection.say_goodbye({**ACCEPT, **headers})
        if response is not None and STATUSES.get(response.status_code) is ErrorKind.RATE_LIMIT:
            said = Text(
                "the shop answered {status_code} when we ended an MCP session",
                status_code=response.status_code,
            )
            raise of_kind(ErrorKind.RATE_LIMIT, said, self.advice, response.headers)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


async def _answering_event(response: httpx.Response, request_id: object) -> bytes:
    """Return the data of the event that answers a call.

    A server may send other events before it, and keep the stream open after it. A last event without its
    empty line counts if its JSON is complete. JSON without any event counts too.
    """
    stream, bounded = EventStream(), BoundedBody(response, limit=MAX_ANSWER_BYTES, peer=PEER)
    parts, begun = 0, bytearray()
    async for piece in response.aiter_raw():
        text = bounded.unpack(piece)
        parts = bound_parts(text, parts)
        if not stream.has_events:
            begun += text
        for event in stream.feed(text):
            if _answers(event, request_id):
                return event
    last = stream.end()
    if stream.has_events:
        return last if _answers(last, request_id) else b""
    return bytes(begun + bounded.rest())


def _answers(event: bytes, request_id: object) -> bool:
    if b'"jsonrpc"' not in event:
        return False
    message = own_answer(parse(event)[0], request_id)
    return isinstance(message, dict) and is_response(message, request_id)
