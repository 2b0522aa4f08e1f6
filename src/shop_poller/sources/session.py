"""One kept MCP session over HTTP: initialise when needed, call tools, say goodbye."""

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import anyio
import httpx
from pydantic_core import from_json

from shop_poller import __version__
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.httpclient import BoundedBody, http_client, http_date, read_bounded, transport_errors
from shop_poller.sources.answers import Answer, SessionLostError, read_answer, read_tool_result
from shop_poller.sources.eventstream import EventStream

PROTOCOL_VERSION = "2025-06-18"
REQUEST_TIMEOUT_S = 30.0
GOODBYE_TIMEOUT_S = 2.0
MAX_ANSWER_BYTES = 32 * 2**20
PEER = "the shop"
VERSION = re.compile(r"[0-9A-Za-z.-]{1,40}")
SESSION_ID = re.compile(r"[\x21-\x7e]{1,1000}")
MIN_SECRET = 8
"""Shorter ones are not looked for in answers: they would be found by chance."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned.

    Attributes:
        shop_time: the shop's clock when it answered.
        noise: text that stood before the answer.
    """

    content: dict[str, Any]
    shop_time: datetime
    noise: str


class McpSession:
    """A client of one MCP endpoint (Streamable HTTP, protocol 2025-06-18). Calls are made one at a time.

    Args:
        url: the endpoint.
        headers: what proves who we are; never logged.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        self._url = url
        self._client = http_client(url, timeout_s=REQUEST_TIMEOUT_S)
        self._headers = {**headers, "Accept": "application/json, text/event-stream"}
        proofs = " ".join(headers.values())
        self._sendable = proofs.isascii() and proofs.isprintable()
        self._secrets = [part.encode() for part in re.split("[: ]", proofs) if len(part) >= MIN_SECRET]
        self._session: dict[str, str] | None = None  # headers of the kept session; None: there is none
        self._last_id = 0

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool; a session that was lost is made anew, once.

        Raises:
            TemporaryError, PermanentError: no answer, no session, or the tool failed.
        """
        if not self._sendable:
            raise PermanentError(
                ErrorKind.AUTHENTICATION,
                "the key or secret of the shop has characters that no key has; copy it once more",
            )
        params = {"name": name, "arguments": arguments}
        try:
            answer, response = await self._in_session("tools/call", params)
        except SessionLostError:
            self._session = None
            try:
                answer, response = await self._in_session("tools/call", params)
            except SessionLostError as error:
                await self._end_session()  # should it exist after all, it would count
                raise TemporaryError(
                    ErrorKind.PROTOCOL,
                    f"the shop forgets its MCP sessions at once ({error}); look into its object cache",
                ) from None
        content, shop_time = read_tool_result(answer.result), http_date(response.headers)
        if shop_time is None:
            raise TemporaryError(
                ErrorKind.PROTOCOL, "the shop's answer has no Date header; let the proxy before it keep that"
            )
        return ToolResult(content, shop_time, answer.noise)

    async def aclose(self) -> None:
        """End the session and close the connection."""
        await self._end_session()
        await self._client.aclose()

    async def _end_session(self) -> None:
        """So that it does not count against the user's 32; never raises."""
        session, self._session = self._session or {}, None
        if "Mcp-Session-Id" in session:
            headers = self._headers | session
            with suppress(ShopPollerError), transport_errors(PEER), anyio.fail_after(GOODBYE_TIMEOUT_S):
                async with self._client.stream("DELETE", self._url, headers=headers):
                    pass  # whatever it says

    async def _in_session(self, method: str, params: Mapping[str, Any]) -> tuple[Answer, httpx.Response]:
        if self._session is None:
            self._session = await self._initialize()  # kept from here on, to be ended whatever comes
            await self._post({"jsonrpc": "2.0", "method": "notifications/initialized"}, self._session)
        return await self._call(method, params, self._session)

    async def _initialize(self) -> dict[str, str]:
        params = {
            "protocolVersion": PROTOCOL_VERSION,
            "capabilities": {},
            "clientInfo": {"name": "shop-poller", "version": __version__},
        }
        # Without the old session's header: with it the shop would not make a new one.
        try:
            answer, response = await self._call("initialize", params, {})
        except SessionLostError as error:
            raise TemporaryError(ErrorKind.PROTOCOL, f"no MCP session: {error}") from None
        version = answer.result.get("protocolVersion") if isinstance(answer.result, dict) else None
        spoken = isinstance(version, str) and VERSION.fullmatch(version)
        session = {"MCP-Protocol-Version": str(version) if spoken else PROTOCOL_VERSION}
        if "mcp-session-id" in response.headers:  # servers without sessions send none
            session_id = response.headers["mcp-session-id"]
            if not SESSION_ID.fullmatch(session_id):
                raise TemporaryError(ErrorKind.PROTOCOL, "the shop named its MCP session by what is no name")
            session["Mcp-Session-Id"] = session_id
        return session

    async def _call(
        self, method: str, params: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[Answer, httpx.Response]:
        self._last_id += 1  # an integer: to a string the shop answers 500
        message = {"jsonrpc": "2.0", "id": self._last_id, "method": method, "params": params}
        response, body = await self._post(message, headers)
        return read_answer(self._last_id, response.status_code, response.headers, body), response

    async def _post(
        self, message: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[httpx.Response, bytes]:
        """Send one message, read its answer whole, within the time and size that one may take."""
        with transport_errors(PEER), anyio.fail_after(REQUEST_TIMEOUT_S):
            async with self._client.stream(
                "POST",
                self._url,
                content=json.dumps(message),
                headers={**self._headers, **headers, "Content-Type": "application/json"},
            ) as response:
                if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                    body = await _answering_event(response, message.get("id"))
                else:
                    body = await read_bounded(response, limit=MAX_ANSWER_BYTES, peer=PEER)
        for secret in self._secrets:  # a debugging page may show what it was asked with
            body = body.replace(secret, b"***")
        return response, body


async def _answering_event(response: httpx.Response, request_id: object) -> bytes:
    """The event that answers; a server may send others before it and keep the stream open after it."""
    stream, bounded = EventStream(), BoundedBody(response, limit=MAX_ANSWER_BYTES, peer=PEER)
    async for piece in response.aiter_raw():
        for event in stream.feed(bounded.unpack(piece)):
            try:
                message = from_json(event)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("id") == request_id and "method" not in message:
                return event
    return b""
