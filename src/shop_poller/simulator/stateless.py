"""MCP without sessions, revision 2026-07-28: every request repeats the data of `initialize`.

No WordPress plugin speaks it yet; the wire format is that of the official Python SDK, 2.3.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic

from shop_poller.simulator.adapters import (
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    PARSE_ERROR,
    Adapter,
)
from shop_poller.simulator.orders import JsonObject
from shop_poller.simulator.routes import TOOLS_CALL
from shop_poller.simulator.rpc import H, RpcReply, Toolbox, rpc_error, rpc_result
from shop_poller.simulator.site import Site

VERSION = "2026-07-28"
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022

_META = "io.modelcontextprotocol"
_VERSION_KEY = f"{_META}/protocolVersion"
_CAPABILITIES_KEY = f"{_META}/clientCapabilities"
_FRESH: JsonObject = {"ttlMs": 0, "cacheScope": "private"}


@dataclass(frozen=True)
class _Rejection(Exception):  # noqa: N818 - an answer, no fault of ours
    code: int
    message: str
    data: object = None


class StatelessServer(Generic[H]):
    """Answers request bodies.

    Args:
        site: Has the names of lost tools, and the capabilities that a client needs.
        tools: The tools to offer.
        adapter: The server's name and instructions.
    """

    def __init__(self, site: Site, tools: Toolbox[H], adapter: Adapter) -> None:
        self._site = site
        self._tools = tools
        self._adapter = adapter

    def reply(self, body: Any, headers: Mapping[str, str], holder: H) -> RpcReply:
        """Answer one body.

        Args:
            body: The decoded body; None if there was no JSON.
            headers: The request's headers, with lower-case names.
            holder: The owner of the request's key or password.
        """
        if body is None:
            return RpcReply(400, rpc_error(None, PARSE_ERROR, "Parse error"))
        if not isinstance(body, dict) or not isinstance(body.get("method"), str):
            return RpcReply(400, rpc_error(None, INVALID_REQUEST, "Invalid Request"))
        if "id" not in body:
            return RpcReply(202, None)
        try:
            self._check(body, headers)
            result = self._result(body["method"], body["params"], holder)
        except _Rejection as rejection:
            error = rpc_error(body["id"], rejection.code, rejection.message)
            if rejection.data is not None:
                error["error"]["data"] = rejection.data
            return RpcReply(404 if rejection.code == METHOD_NOT_FOUND else 400, error)
        meta = {f"{_META}/serverInfo": self._adapter.welcome["serverInfo"]}
        return RpcReply(200, rpc_result(body["id"], {**result, "resultType": "complete", "_meta": meta}))

    def _check(self, body: Mapping[str, Any], headers: Mapping[str, str]) -> None:
        params = body.get("params")
        meta = params.get("_meta") if isinstance(params, dict) else None
        if not isinstance(meta, dict):
            text = f"params._meta must be an object carrying the required {_VERSION_KEY!r} and"
            raise _Rejection(INVALID_PARAMS, f"{text} {_CAPABILITIES_KEY!r} envelope keys")
        if missing := [key for key in (_VERSION_KEY, _CAPABILITIES_KEY) if key not in meta]:
            text = "params._meta is missing the required envelope key(s)"
            raise _Rejection(INVALID_PARAMS, f"{text}: {', '.join(missing)}")
        expected = {
            "mcp-protocol-version": (meta[_VERSION_KEY], "request envelope's protocol version"),
            "mcp-method": (body["method"], "request body's method"),
        }
        if body["method"] == TOOLS_CALL and isinstance(params, dict) and "name" in params:
            expected["mcp-name"] = (params["name"], "request body's 'name' parameter")
        for name, (value, what) in expected.items():
            if headers.get(name) != value:
                raise _Rejection(HEADER_MISMATCH, f"{name} header does not match the {what}")
        if meta[_VERSION_KEY] != VERSION:
            data = {"supported": [VERSION], "requested": meta[_VERSION_KEY]}
            raise _Rejection(UNSUPPORTED_VERSION, "Unsupported protocol version", data)
        if lacking := self._site.required_capabilities - set(meta[_CAPABILITIES_KEY]):
            data = {"requiredCapabilities": {name: {} for name in sorted(lacking)}}
            raise _Rejection(MISSING_CAPABILITY, "Missing required client capability", data)

    def _result(self, method: str, params: Mapping[str, Any], holder: H) -> JsonObject:
        match method:
            case "server/discover":
                said = {name: self._adapter.welcome[name] for name in ("capabilities", "instructions")}
                return {**said, "supportedVersions": [VERSION], **_FRESH}
            case "tools/list":
                tools = [tool for tool in self._tools.describe() if tool["name"] not in self._site.lost_tools]
                return {"tools": tools, **_FRESH}
            case "tools/call":
                name = str(params.get("name"))
                lost = name in self._site.lost_tools
                result = None if lost else self._tools.call(name, params.get("arguments", {}), holder)
                if result is None:
                    raise _Rejection(INVALID_PARAMS, f"Unknown tool: {name}")
                return {"isError": False, **result}
            case _:
                raise _Rejection(METHOD_NOT_FOUND, "Method not found", method)
