"""One kept MCP session over HTTP: initialise when needed, call tools, say goodbye."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from pydantic_core import from_json

from shop_poller import __version__
from shop_poller.bodies import BoundedBody
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.httpclient import http_date
from shop_poller.sources.answers import COMMON_ADVICE, Advice, bound_parts, http_error, of_kind
from shop_poller.sources.connection import MAX_ANSWER_BYTES, PEER, Connection, read_whole, shop_time
from shop_poller.sources.credentials import Credentials
from shop_poller.sources.eventstream import EventStream
from shop_poller.sources.jsonrpc import (
    INVALID_PARAMS,
    Answer,
    SessionLostError,
    read_answer,
    read_tool_result,
)

PROTOCOL_VERSION = "2025-06-18"
VERSION = re.compile(r"[0-9A-Za-z.-]{1,40}")
SESSION_ID = re.compile(r"[\x21-\x7e]{1,1000}")
ASKS_FOR_TIME = frozenset({429, 503})
ACCEPT = {"Accept": "application/json, text/event-stream"}
MAX_TOOL_PAGES = 10
MAX_TOOLS = 10_000
MAX_PAGE_MARK = 1000


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
        credentials: what proves who we are.
        advice: what to do about errors.
    """

    def __init__(self, url: str, credentials: Credentials, advice: Advice = COMMON_ADVICE) -> None:
        self._connection = Connection(url, credentials)
        self._advice = advice
        self._session: dict[str, str] | None = None  # headers of the kept session; None: there is none
        self._last_id = 0

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool; a session that was lost is made anew, once.

        Raises:
            InvalidOutputError: the tool's answer breaks the tool's own rules.
            TemporaryError, PermanentError: no answer, no session, or the tool failed.
        """
        answer, response = await self._ask("tools/call", {"name": name, "arguments": arguments})
        content = read_tool_result(answer.result, self._advice, http_date(response.headers))
        return ToolResult(content, shop_time(response.headers), answer.noise)

    async def list_tools(self) -> frozenset[str]:
        """The names of the tools that the endpoint has, of a few pages of them at most.

        Raises:
            TemporaryError, PermanentError: no answer, no session, or no list.
        """
        names: set[str] = set()
        params: dict[str, Any] = {}
        for _ in range(MAX_TOOL_PAGES):
            answer, _ = await self._ask("tools/list", params)
            tools = answer.result.get("tools") if isinstance(answer.result, dict) else None
            if not isinstance(tools, list):
                raise TemporaryError(ErrorKind.PROTOCOL, "the shop's MCP endpoint sent no list of its tools")
            found = (tool.get("name") for tool in tools if isinstance(tool, dict))
            names.update(name for name in found if isinstance(name, str))
            following = answer.result.get("nextCursor")
            last = not isinstance(following, str) or not 0 < len(following) <= MAX_PAGE_MARK
            if last or len(names) > MAX_TOOLS:
                break
            params = {"cursor": following}
        return frozenset(names)

    async def _ask(self, method: str, params: Mapping[str, Any]) -> tuple[Answer, httpx.Response]:
        """Call a method; a session that was lost is made anew, once."""
        try:
            return await self._in_session(method, params)
        except SessionLostError:
            self._session = None
        try:
            return await self._in_session(method, params)
        except SessionLostError as error:
            # Many servers call an unknown tool "invalid params", the code of a lost session here.
            if (
                method == "tools/call"
                and str(INVALID_PARAMS) in str(error)
                and await self._lacks(params["name"])
            ):
                raise of_kind(ErrorKind.NOT_FOUND, str(error), self._advice) from None
            await self._end_session()  # should it exist after all, it would count
            raise TemporaryError(
                ErrorKind.PROTOCOL,
                f"the shop forgets its MCP sessions at once ({error}); look into its object cache",
            ) from None

    async def _lacks(self, tool: str) -> bool:
        """Whether the endpoint lists its tools, and this is none of them."""
        try:
            return tool not in await self.list_tools()
        except ShopPollerError:
            return False

    async def aclose(self) -> None:
        """End the session and close the connection."""
        await self._end_session()
        await self._connection.aclose()

    async def _end_session(self) -> None:
        """So that it does not count against the user's 32; never raises."""
        session, self._session = self._session or {}, None
        if "Mcp-Session-Id" in session:
            await self._connection.say_goodbye({**ACCEPT, **session})

    async def _in_session(self, method: str, params: Mapping[str, Any]) -> tuple[Answer, httpx.Response]:
        if self._session is None:
            self._session = await self._initialize()  # kept from here on, to be ended whatever comes
            response, body = await self._post(
                {"jsonrpc": "2.0", "method": "notifications/initialized"}, self._session
            )
            if response.status_code in ASKS_FOR_TIME:  # nothing else that is said to a notification counts
                raise http_error(response.status_code, response.headers, body, self._advice)
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
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params:
            message["params"] = params
        response, body = await self._post(message, headers)
        answer = read_answer(self._last_id, response.status_code, response.headers, body, self._advice)
        return answer, response

    async def _post(
        self, message: Mapping[str, Any], headers: Mapping[str, str]
    ) -> tuple[httpx.Response, bytes]:
        async def read(response: httpx.Response) -> bytes:
            if response.headers.get("content-type", "").lower().startswith("text/event-stream"):
                return await _answering_event(response, message.get("id"))
            return await read_whole(response)

        return await self._connection.ask("POST", headers={**ACCEPT, **headers}, message=message, read=read)


async def _answering_event(response: httpx.Response, request_id: object) -> bytes:
    """The event that answers; a server may send others before it and keep the stream open after it."""
    stream, bounded = EventStream(), BoundedBody(response, limit=MAX_ANSWER_BYTES, peer=PEER)
    parts = 0
    async for piece in response.aiter_raw():
        text = bounded.unpack(piece)
        parts = bound_parts(text, parts)
        for event in stream.feed(text):
            try:
                message = from_json(event)
            except ValueError:
                continue
            if isinstance(message, dict) and message.get("id") == request_id and "method" not in message:
                return event
    return b""
