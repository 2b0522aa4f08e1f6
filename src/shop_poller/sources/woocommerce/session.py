"""A client of one MCP endpoint: calls tools in the era of MCP that the endpoint supports."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from shop_poller.core.errors import PEER_DOWN, ErrorKind, ShopPollerError, TemporaryError, text_of
from shop_poller.core.translatable import Text
from shop_poller.http.client import http_date
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, Advice, of_kind
from shop_poller.sources.woocommerce.connection import shop_time
from shop_poller.sources.woocommerce.credentials import Credentials
from shop_poller.sources.woocommerce.eras import EraRefusedError, Handshake, Reply, Stateless
from shop_poller.sources.woocommerce.jsonrpc import read_tool_result
from shop_poller.sources.woocommerce.mcp_http import McpHttp
from shop_poller.sources.woocommerce.rpc_errors import OtherEraError, ParametersRefusedError, SessionLostError

MAX_TOOL_PAGES = 10
MAX_TOOLS = 10_000
MAX_CURSOR_LENGTH = 1000


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What a tool returned.

    Attributes:
        shop_time: the shop's clock when it answered.
        preamble: text before the answer.
    """

    content: dict[str, Any]
    shop_time: datetime
    preamble: str


class McpSession:
    """A client of one MCP endpoint (Streamable HTTP). It sends one call at a time.

    It begins with `initialize`, which all shops today require. If an era is refused, it tries the other one,
    and keeps the era that works.

    Args:
        url: the endpoint.
        credentials: authenticate us.
        advice: what to do about errors.

    Attributes:
        is_refused: whether the last call was refused in both eras, or its new session was lost immediately.
            Then no tool was reached, and none will be.
    """

    def __init__(self, url: str, credentials: Credentials, advice: Advice = COMMON_ADVICE) -> None:
        self.is_refused = False
        self._advice = advice
        self._http = McpHttp(url, credentials, advice)
        self._eras: tuple[Handshake | Stateless, ...] = (Handshake(self._http), Stateless(self._http))
        """The era in use, and the other one."""

    async def call_tool(self, name: str, arguments: Mapping[str, Any]) -> ToolResult:
        """Call a tool. If the session is lost, replace it once.

        Raises:
            InvalidOutputError: the tool's answer breaks the tool's own schema.
            UnexplainedError: the tool failed without a reason.
            TemporaryError, PermanentError: there is no answer or session, or the tool failed.
        """
        answer, response = await self._call("tools/call", {"name": name, "arguments": arguments})
        if _requests_input(answer.result):
            raise of_kind(
                ErrorKind.REJECTED,
                Text("the shop's tool asks for input that only a person can give"),
                self._advice,
            )
        content = read_tool_result(answer.result, self._advice, http_date(response.headers))
        return ToolResult(content, shop_time(response.headers), answer.preamble)

    async def list_tools(self) -> frozenset[str]:
        """Return the names of the endpoint's tools, from MAX_TOOL_PAGES pages at most.

        Raises:
            TemporaryError, PermanentError: there is no answer, session or list.
        """
        names: set[str] = set()
        params: dict[str, Any] = {}
        for _ in range(MAX_TOOL_PAGES):
            answer, _ = await self._call("tools/list", params)
            tools = answer.result.get("tools") if isinstance(answer.result, dict) else None
            if not isinstance(tools, list):
                raise TemporaryError(
                    ErrorKind.PROTOCOL, Text("the shop's MCP endpoint sent no list of its tools")
                )
            listed = (tool.get("name") for tool in tools if isinstance(tool, dict))
            names.update(name for name in listed if isinstance(name, str))
            next_cursor = answer.result.get("nextCursor")
            is_last_page = not isinstance(next_cursor, str) or not 0 < len(next_cursor) <= MAX_CURSOR_LENGTH
            if is_last_page or len(names) > MAX_TOOLS:
                break
            params = {"cursor": next_cursor}
        return frozenset(names)

    async def aclose(self) -> None:
        """End the session and close the connection. Never raises."""
        for era in self._eras:
            with suppress(TemporaryError):
                await era.end()
        await self._http.aclose()

    async def _call(self, method: str, params: Mapping[str, Any]) -> Reply:
        self.is_refused = False
        try:
            return await self._call_in_era(self._eras[0], method, params)
        except EraRefusedError as first_refusal:
            if first_refusal.other_era_may_work:
                return await self._call_in_other_era(method, params, first_refusal)
            self.is_refused = True
            raise first_refusal.error from None

    async def _call_in_era(self, era: Handshake | Stateless, method: str, params: Mapping[str, Any]) -> Reply:
        try:
            return await era.call(method, params)
        except SessionLostError as error:
            # For an unknown tool, many servers answer "invalid params", the code of a lost session here.
            is_unknown_tool = (
                method == "tools/call"
                and error.is_parameter_error
                and await self._is_tool_missing(params["name"])
            )
            await era.end()  # the session may still exist and must not stay open
            if is_unknown_tool:
                raise of_kind(ErrorKind.NOT_FOUND, text_of(error), self._advice) from None
            if isinstance(error.error, OtherEraError):
                raise EraRefusedError(error.error) from None
            if not error.is_certain:
                raise error.error from None
            self.is_refused = True
            failure = ParametersRefusedError if error.is_parameter_error else TemporaryError
            raise failure(
                ErrorKind.PROTOCOL,
                Text(
                    "the shop loses new MCP sessions immediately ({problem}); check its object cache",
                    problem=text_of(error),
                ),
            ) from None

    async def _call_in_other_era(
        self, method: str, params: Mapping[str, Any], first_refusal: EraRefusedError
    ) -> Reply:
        """Call a method in the other era, and keep that era if it works.

        Raises:
            TemporaryError, PermanentError: the refusal of the first era, if the other one is refused too.
                Otherwise, the error of the other one.
        """
        current, other = self._eras
        try:
            reply = await self._call_in_era(other, method, params)
        except EraRefusedError as second_refusal:
            self.is_refused = True
            stateless_refusal = second_refusal if isinstance(other, Stateless) else first_refusal
            if stateless_refusal.is_parameter_error:
                raise ParametersRefusedError(ErrorKind.PROTOCOL, text_of(stateless_refusal)) from None
            raise first_refusal.error from None
        except ShopPollerError as error:
            self.is_refused = error.kind not in {*PEER_DOWN, ErrorKind.AUTHENTICATION}
            raise
        self._eras = other, current
        structlog.get_logger().info(
            Text("the shop's MCP endpoint uses the other era of MCP"),
            era="stateless" if isinstance(other, Stateless) else "initialize",
        )
        return reply

    async def _is_tool_missing(self, tool: str) -> bool:
        """Return whether the endpoint lists its tools, and this one is not among them.

        Raises:
            TemporaryError: RATE_LIMIT; the shop asks for a pause.
        """
        try:
            return tool not in await self.list_tools()
        except ShopPollerError as error:
            if error.kind is ErrorKind.RATE_LIMIT:
                raise
            return False


def _requests_input(result: Any) -> bool:
    """Return whether a result of the stateless era is a question to a person, not an answer."""
    return (
        isinstance(result, dict) and result.get("resultType") == "input_required" and "content" not in result
    )
