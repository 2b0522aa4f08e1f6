"""JSON-RPC as WordPress's MCP adapter speaks it, with its oddities."""

from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from shop_poller.simulator.adapters import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    SESSION_NOT_FOUND,
    TOOL_NOT_FOUND,
    Adapter,
)
from shop_poller.simulator.orders import JsonObject
from shop_poller.simulator.routes import TOOLS_CALL
from shop_poller.simulator.site import Site

# All other errors of a single call have HTTP 200.
_HTTP_STATUSES = {
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    TOOL_NOT_FOUND: 404,
    SESSION_NOT_FOUND: 404,
    INTERNAL_ERROR: 500,
}


class Holder(Protocol):
    """The owner of an accepted key or password."""

    @property
    def user(self) -> str:
        """Its user."""


H = TypeVar("H", bound=Holder)
H_contra = TypeVar("H_contra", bound=Holder, contravariant=True)


class Toolbox(Protocol[H_contra]):
    """The tools of an MCP server."""

    def describe(self) -> list[JsonObject]:
        """The tools as `tools/list` shows them."""

    def call(self, name: str, arguments: object, holder: H_contra) -> JsonObject | None:
        """Return a tool's result as JSON-RPC carries it, or None if there is no such tool."""


@dataclass(frozen=True)
class Envelope(Generic[H]):
    """The context of a body: its owner, and the relevant headers; empty ones are None."""

    holder: H
    session_id: str | None = None
    version: str | None = None


@dataclass(frozen=True)
class RpcReply:
    """The response to a request body.

    Attributes:
        status: The HTTP status.
        body: The JSON to send; None is an empty body.
        session_id: The new session, if one was created.
    """

    status: int
    body: Any
    session_id: str | None = None


class _UncaughtError(Exception):
    """PHP threw, and only the outermost handler caught it."""


class RpcServer(Generic[H]):
    """Answers request bodies.

    Args:
        site: Has the sessions, and the names of lost tools.
        tools: The tools to offer.
        adapter: The server's behaviour.
    """

    def __init__(self, site: Site, tools: Toolbox[H], adapter: Adapter) -> None:
        self._site = site
        self._tools = tools
        self._adapter = adapter

    def reply(self, body: Any, caller: Envelope[H]) -> RpcReply:
        """Answer one body.

        Args:
            body: The decoded body, a message or a batch; None if there was no JSON.
            caller: The context of the body.

        Returns:
            The reply. A batch is always HTTP 200; a single error has its own status.
        """
        if body is None:
            text = "Parse error: Invalid JSON in request body"
            return RpcReply(400, rpc_error(0, PARSE_ERROR, text))
        batch = isinstance(body, list) and body != []
        opened: list[str] = []
        try:
            answers = [self._message(message, caller, opened) for message in (body if batch else [body])]
        except _UncaughtError:
            text = "Internal error: Handler error occurred"
            return RpcReply(500, rpc_error(0, INTERNAL_ERROR, text))
        session = opened[-1] if opened else None
        if batch:
            return RpcReply(200, [answer for answer in answers if answer is not None], session)
        answer = answers[0]
        if answer is None:
            return RpcReply(self._adapter.notified, None)
        code = answer["error"]["code"] if "error" in answer else 0
        return RpcReply(_HTTP_STATUSES.get(code, 200), answer, session)

    def _message(self, message: Any, caller: Envelope[H], opened: list[str]) -> JsonObject | None:
        if message == []:
            message = {}  # PHP cannot distinguish them
        if not isinstance(message, dict):
            raise _UncaughtError
        if message.get("jsonrpc") != "2.0":
            text = 'Invalid Request: jsonrpc version must be "2.0"'
            return rpc_error(0, INVALID_REQUEST, text)
        method, call_id = message.get("method"), message.get("id")
        # PHP's isset() treats a null id as missing: such a call is a notification. So is a response.
        if method is None or call_id is None:
            return None
        params = message.get("params", {})
        if not isinstance(method, str | int) or not self._takes(call_id):
            raise _UncaughtError
        if not isinstance(params, dict | list):
            raise _UncaughtError
        return self._call(str(method), call_id, params or {}, caller, opened)

    def _takes(self, call_id: Any) -> bool:
        # The old handler is typed: integer ids only.
        return type(call_id) is int if self._adapter.integer_ids else not isinstance(call_id, dict | list)

    def _call(
        self, method: str, call_id: Any, params: Any, caller: Envelope[H], opened: list[str]
    ) -> JsonObject:
        if method == "initialize":
            # Any session header, even a made-up one; no new session is created.
            if caller.session_id is None:
                opened.append(self._site.sessions.open(caller.holder.user))
            return rpc_result(call_id, self._welcome(params))
        if complaint := self._about_headers(caller):
            return rpc_error(call_id, *complaint)
        if method == TOOLS_CALL:
            return self._call_tool(call_id, params, caller.holder)
        simple: dict[str, JsonObject] = {
            "ping": {},
            "tools/list": {"tools": self._describe()},
            "resources/list": {"resources": []},
            "prompts/list": {"prompts": []},
        }
        if method in simple:
            return rpc_result(call_id, simple[method])
        return rpc_error(call_id, METHOD_NOT_FOUND, f"Method not found: {method}")

    def _about_headers(self, caller: Envelope[H]) -> tuple[int, str] | None:
        if caller.session_id is None:
            return INVALID_REQUEST, "Invalid Request: Missing Mcp-Session-Id header"
        if not self._site.sessions.use(caller.holder.user, caller.session_id):
            return self._adapter.unknown_session
        known = self._adapter.versions
        if self._adapter.checks_version and caller.version is not None and caller.version not in known:
            text = f"Unsupported protocol version: {caller.version} (supported versions: {', '.join(known)})"
            return INVALID_REQUEST, f"Bad Request: {text}"
        return None

    def _welcome(self, params: Any) -> JsonObject:
        requested = params.get("protocolVersion") if isinstance(params, dict) else None
        known = self._adapter.versions
        return {"protocolVersion": requested if requested in known else known[0], **self._adapter.welcome}

    def _describe(self) -> list[JsonObject]:
        return [tool for tool in self._tools.describe() if tool["name"] not in self._site.lost_tools]

    def _call_tool(self, call_id: Any, params: Any, holder: H) -> JsonObject:
        name = params.get("name") if isinstance(params, dict) else None
        if not name:
            return rpc_error(call_id, INVALID_PARAMS, "Missing required parameter: tool name")
        lost = str(name) in self._site.lost_tools
        result = None if lost else self._tools.call(str(name), params.get("arguments", {}), holder)
        if result is None:
            return rpc_error(call_id, TOOL_NOT_FOUND, f"Tool not found: {name}")
        if self._adapter.says_no_error:
            result.setdefault("isError", False)
        return rpc_result(call_id, result)


def rpc_result(call_id: Any, result: JsonObject) -> JsonObject:
    """A JSON-RPC answer."""
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def rpc_error(call_id: Any, code: int, message: str) -> JsonObject:
    """A JSON-RPC error."""
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}
