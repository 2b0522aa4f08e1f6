"""Responses that are legal or common, but unusual: faults that damage no order.

All of them have been seen on real sites or in public bug reports. The content of a page is not changed
here. For sites that split lists into pages in their own way see `listing.Paging`.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from shop_poller.simulator.answers import (
    HTML_TYPE,
    JSON_TYPE,
    SERVER,
    Answer,
    Request,
    php_json,
    wordpress_error,
)
from shop_poller.simulator.faults import Fault, Handler
from shop_poller.simulator.orders import Distortion, JsonObject
from shop_poller.simulator.routes import (
    MCP_DIALECTS,
    TOOLS_CALL,
    SimulatedDialect,
    asks_for_orders,
    dialect_of,
)
from shop_poller.simulator.spoiling import is_good

NGINX_BUFFER_BYTES = 4096
"""`fastcgi_buffer_size` of an nginx with default settings: one page of memory."""

MARKUP_SYMBOL = '<span class="woocommerce-Price-currencySymbol">&#8381;</span>'
"""A currency sign as some plugins show it; a `SimulatedShop.currency_symbol`."""

JUNK = (
    "\n<!-- Cached by a page cache, 0.02 s -->",
    "\n<br />\n<b>Notice</b>:  Undefined index: x in <b>/var/www/x.php</b> on line <b>9</b><br />\n",
    "\r\n0\r\n\r\n",
    "\x00",
    '{"late":"shutdown"}',
)
"""What caches, PHP and proxies append to complete JSON."""

ODD_PAID_DATES: tuple[object, ...] = ("", False, "-0001-11-30T00:00:00", "0000-00-00T00:00:00", 0, [])
"""Values of the date of payment of unpaid orders, apart from null."""


def trailing_junk(junk: str = JUNK[0]) -> Fault:
    """Text follows the complete JSON."""

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        return replace(answer, body=answer.body + junk.encode()) if answer.body else answer

    return Fault("trailing junk", act)


def orders_as_map() -> Fault:
    """A plugin removed an entry of PHP's list, which became an object: the keys have a gap."""

    def change(orders: list[Any]) -> object:
        return {str(i + (i > 0)): order for i, order in enumerate(orders)} if orders else orders

    return _of_orders("orders as a map", change)


def refunds_as_map() -> Fault:
    """The same for each order's refunds."""

    def change(orders: list[Any]) -> object:
        for order in orders:
            if isinstance(order, dict) and isinstance(order.get("refunds"), list) and order["refunds"]:
                order["refunds"] = {str(i + 1): refund for i, refund in enumerate(order["refunds"])}
        return orders

    return _of_orders("refunds as a map", change)


def structured_list() -> Fault:
    """A tool's structured content is the list itself; only WooCommerce's MCP returns a list."""
    return _of_results("structured list", lambda result: {**result, "structuredContent": _data(result)})


def structured_empty() -> Fault:
    """A tool's structured content is PHP's empty array, although the text has all data."""
    return _of_results("structured content is empty", lambda result: {**result, "structuredContent": []})


def text_only() -> Fault:
    """A tool's result is text, and nothing else."""

    def change(result: JsonObject) -> JsonObject:
        return {name: value for name, value in result.items() if name != "structuredContent"}

    return _of_results("text only", change)


def list_as_text() -> Fault:
    """A tool's result is text, and that is the list itself."""

    def change(result: JsonObject) -> JsonObject:
        return {"content": [{"type": "text", "text": php_json(_data(result))}], "isError": False}

    return _of_results("list as text", change)


def id_as_text() -> Fault:
    """A JSON-RPC id is echoed as text: 3 as "3"."""

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        said = _json(answer)
        if not isinstance(said, dict) or not isinstance(said.get("id"), int):
            return answer
        return replace(answer, body=php_json({**said, "id": str(said["id"])}).encode())

    return Fault("id as text", act, dialects=MCP_DIALECTS)


def stock_nginx(buffer_bytes: int = NGINX_BUFFER_BYTES) -> Fault:
    """A stock nginx has one small buffer for the head of PHP's response: 502 if the head is longer."""

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        if head_bytes(answer) <= buffer_bytes:
            return answer
        title = "502 Bad Gateway"
        body = (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            f"<hr><center>{SERVER}</center>\r\n</body>\r\n</html>\r\n"
        )
        return replace(answer, status=502, body=body.encode(), headers={"Content-Type": "text/html"})

    return Fault("stock nginx", act)


def head_bytes(answer: Answer) -> int:
    """The size of the head that PHP sends to the web server, with the empty line at its end."""
    sent = {name: value for name, value in answer.headers.items() if name not in ("Date", "Server")}
    return sum(len(name) + len(value) + 4 for name, value in sent.items()) + 2


def _rpc(code: int, text: str, call_id: object = None) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": call_id, "error": {"code": code, "message": text}}).encode()


def _wordpress(code: str, text: str, status: int) -> bytes:
    return php_json(wordpress_error(code, text, status)).encode()


LOST_SESSIONS: Mapping[str, Answer] = {
    "404 JSON-RPC": Answer(404, _rpc(-32001, "Session not found"), {"Content-Type": "application/json"}),
    "404 JSON-RPC without an id": Answer(404, _rpc(-32000, "Bad session"), {"Content-Type": JSON_TYPE}),
    "404 WordPress": Answer(
        404, _wordpress("mcp_session_not_found", "No such session.", 404), {"Content-Type": JSON_TYPE}
    ),
    "404 text": Answer(404, b"Session not found", {"Content-Type": "text/plain"}),
    "404 HTML": Answer(404, b"<html><body><h1>Not Found</h1></body></html>", {"Content-Type": HTML_TYPE}),
    "404 empty": Answer(404),
    "400 JSON-RPC": Answer(
        400, _rpc(-32000, "Bad Request: no valid session ID"), {"Content-Type": JSON_TYPE}
    ),
    "400 invalid request": Answer(400, _rpc(-32600, "Session has ended", 1), {"Content-Type": JSON_TYPE}),
    "400 WordPress": Answer(
        400, _wordpress("rest_invalid_param", "Invalid session.", 400), {"Content-Type": JSON_TYPE}
    ),
    "400 text": Answer(400, b"Bad Request: No valid session ID provided", {"Content-Type": "text/plain"}),
    "400 empty": Answer(400),
}
"""How servers report an unknown session, by a name of ours."""


def sessions_end_with(shape: str) -> Fault:
    """A call in an unknown session is answered differently from the adapter.

    Args:
        shape: A key of LOST_SESSIONS.
    """

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        return LOST_SESSIONS[shape] if b"Invalid or expired session" in answer.body else answer

    return Fault(f"sessions end with {shape}", act, dialects=MCP_DIALECTS)


def odd_paid_date(value: object) -> Distortion:
    """The date of payment of an unpaid order is not null."""

    def distort(order: JsonObject) -> object:
        if order.get("date_paid_gmt", value) is not None:
            return order
        return {**order, "date_paid_gmt": value, "date_paid": value}

    return distort


def _of_orders(name: str, change: Callable[[list[Any]], object]) -> Fault:
    """Return a fault that changes a listing's orders, in place or by replacement."""

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        if not asks_for_orders(request) or not is_good(answer, request):
            return answer
        said = _json(answer)
        if isinstance(said, list):
            return replace(answer, body=php_json(change(said)).encode())
        if isinstance(said, dict) and dialect_of(request) in MCP_DIALECTS:
            result = _changed_result(said["result"], change)
            return replace(answer, body=php_json({**said, "result": result}).encode())
        if isinstance(said, dict) and isinstance(said.get("data"), list):
            return replace(answer, body=php_json({"data": change(said["data"])}).encode())
        return answer

    return Fault(name, act, TOOLS_CALL)


def _changed_result(result: JsonObject, change: Callable[[list[Any]], object]) -> JsonObject:
    content: Any = result.get("structuredContent")
    data = content.get("data") if isinstance(content, dict) else None
    if isinstance(data, list):
        content = {**content, "data": change(data)}
    elif isinstance(data, dict) and isinstance(data.get("orders"), list):
        content = {**content, "data": {**data, "orders": change(data["orders"])}}
    else:
        return result
    return {**result, "content": [{"type": "text", "text": php_json(content)}], "structuredContent": content}


def _of_results(name: str, change: Callable[[JsonObject], JsonObject]) -> Fault:
    """Return a fault that changes a listing's result."""

    def act(request: Request, onward: Handler) -> Answer:
        answer = onward(request)
        said = _json(answer) if asks_for_orders(request) and is_good(answer, request) else None
        if not isinstance(said, dict) or said["result"].get("isError"):
            return answer
        return replace(answer, body=php_json({**said, "result": change(said["result"])}).encode())

    return Fault(name, act, TOOLS_CALL, dialects=frozenset({SimulatedDialect.WOOCOMMERCE_MCP}))


def _data(result: JsonObject) -> object:
    content = result.get("structuredContent")
    return content.get("data") if isinstance(content, dict) else content


def _json(answer: Answer) -> Any:
    try:
        return json.loads(answer.body)
    except ValueError:
        return None
