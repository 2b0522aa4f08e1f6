"""JSON-RPC as WordPress's MCP adapter speaks it, its oddities included."""

from dataclasses import dataclass
from typing import Any

from shop_poller.simulator.keys import ApiKey
from shop_poller.simulator.orders import JsonObject
from shop_poller.simulator.sessions import Sessions
from shop_poller.simulator.tools import Tools

PROTOCOL_VERSION = "2025-06-18"

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
TOOL_NOT_FOUND = -32003

# Everything else that is an error of a single call comes with HTTP 200.
_HTTP_STATUSES = {
    INVALID_REQUEST: 400,
    METHOD_NOT_FOUND: 404,
    TOOL_NOT_FOUND: 404,
    INTERNAL_ERROR: 500,
}


@dataclass(frozen=True)
class Reply:
    """What a request body is answered with.

    Attributes:
        status: The HTTP status.
        body: The JSON to send; None is an empty body.
        session_id: The session that was made, if one was.
    """

    status: int
    body: Any
    session_id: str | None = None


@dataclass(frozen=True)
class _Caller:
    key: ApiKey
    session_id: str | None


class _UncaughtError(Exception):
    """PHP threw, and only the outermost handler caught it."""


class RpcServer:
    """Answers request bodies.

    Args:
        tools: The tools to offer.
        sessions: Where sessions are kept.
    """

    def __init__(self, tools: Tools, sessions: Sessions) -> None:
        self._tools = tools
        self._sessions = sessions

    def reply(self, body: Any, key: ApiKey, session_id: str | None) -> Reply:
        """Answer one body.

        Args:
            body: The decoded body, a message or a batch; None if there was no JSON.
            key: The key that was accepted.
            session_id: The header Mcp-Session-Id, None if missing or empty.

        Returns:
            The reply. A batch is always HTTP 200; a single error has a status of its own.
        """
        if body is None:
            text = "Parse error: Invalid JSON in request body"
            return Reply(400, rpc_error(0, PARSE_ERROR, text))
        caller = _Caller(key, session_id or None)
        batch = isinstance(body, list) and body != []
        opened: list[str] = []
        try:
            answers = [self._message(message, caller, opened) for message in (body if batch else [body])]
        except _UncaughtError:
            text = "Internal error: Handler error occurred"
            return Reply(500, rpc_error(0, INTERNAL_ERROR, text))
        session = opened[-1] if opened else None
        if batch:
            return Reply(200, [answer for answer in answers if answer is not None], session)
        answer = answers[0]
        code = answer["error"]["code"] if answer and "error" in answer else 0
        return Reply(_HTTP_STATUSES.get(code, 200), answer, session)

    def _message(self, message: Any, caller: _Caller, opened: list[str]) -> JsonObject | None:
        if message == []:
            message = {}  # PHP does not tell them apart
        if not isinstance(message, dict):
            raise _UncaughtError
        if message.get("jsonrpc") != "2.0":
            text = 'Invalid Request: jsonrpc version must be "2.0"'
            return rpc_error(0, INVALID_REQUEST, text)
        method, call_id = message.get("method"), message.get("id")
        # A null id is no id for PHP's isset(): such a call is a notification. So is an answer.
        if method is None or call_id is None:
            return None
        params = message.get("params", {})
        if type(call_id) is not int or not isinstance(method, str | int):
            raise _UncaughtError  # the handler is typed: integer ids only
        if not isinstance(params, dict | list):
            raise _UncaughtError
        return self._call(str(method), call_id, params or {}, caller, opened)

    def _call(self, method: str, call_id: int, params: Any, caller: _Caller, opened: list[str]) -> JsonObject:
        if method == "initialize":
            # Any session header at all, even a made-up one, and no new session is made.
            if caller.session_id is None:
                opened.append(self._sessions.open(caller.key.user))
            return rpc_result(call_id, _WELCOME)
        if caller.session_id is None:
            text = "Invalid Request: Missing Mcp-Session-Id header"
            return rpc_error(call_id, INVALID_REQUEST, text)
        if not self._sessions.use(caller.key.user, caller.session_id):
            # HTTP 200: the adapter takes it for an error of the application's.
            text = "Invalid params: Invalid or expired session"
            return rpc_error(call_id, INVALID_PARAMS, text)
        if method == "tools/call":
            return self._call_tool(call_id, params, caller.key)
        simple: dict[str, JsonObject] = {
            "ping": {},
            "tools/list": {"tools": self._tools.describe()},
            "resources/list": {"resources": []},
            "prompts/list": {"prompts": []},
        }
        if method in simple:
            return rpc_result(call_id, simple[method])
        return rpc_error(call_id, METHOD_NOT_FOUND, f"Method not found: {method}")

    def _call_tool(self, call_id: int, params: Any, key: ApiKey) -> JsonObject:
        name = params.get("name") if isinstance(params, dict) else None
        if not name:
            return rpc_error(call_id, INVALID_PARAMS, "Missing required parameter: tool name")
        result = self._tools.call(str(name), params.get("arguments", {}), key)
        if result is None:
            return rpc_error(call_id, TOOL_NOT_FOUND, f"Tool not found: {name}")
        return rpc_result(call_id, result)


def rpc_result(call_id: int, result: JsonObject) -> JsonObject:
    """A JSON-RPC answer."""
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def rpc_error(call_id: int, code: int, message: str) -> JsonObject:
    """A JSON-RPC error."""
    return {"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": message}}


_WELCOME: JsonObject = {
    "protocolVersion": PROTOCOL_VERSION,
    "serverInfo": {"name": "WooCommerce MCP Server", "version": "1.0.0"},
    "capabilities": {
        "tools": {},
        "resources": {},
        "prompts": {},
        "logging": {},
        "completions": {},
    },
    "instructions": "AI-accessible WooCommerce operations via MCP",
}
