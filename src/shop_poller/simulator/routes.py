"""The four dialects, and which of them a request is meant for."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qs

from shop_poller.simulator.answers import Request

ORDERS_LIST = "woocommerce-orders-list"
EXECUTE_ABILITY = "mcp-adapter-execute-ability"
ORDERS_QUERY = "woocommerce/orders-query"
TOOLS_CALL = "tools/call"


class SimulatedDialect(StrEnum):
    """A dialect; a plain string with the same letters is equal."""

    WOOCOMMERCE_MCP = "woocommerce-mcp"
    ABILITIES = "abilities"
    REST = "rest"
    EXECUTE = "execute"


MCP_DIALECTS = frozenset({SimulatedDialect.WOOCOMMERCE_MCP, SimulatedDialect.ABILITIES})

ROUTES: Mapping[SimulatedDialect, str] = {
    SimulatedDialect.WOOCOMMERCE_MCP: "/woocommerce/mcp",
    SimulatedDialect.ABILITIES: "/mcp/mcp-adapter-default-server",
    SimulatedDialect.REST: "/wc/v3/orders",
    SimulatedDialect.EXECUTE: "/woocommerce/mcp/execute",
}
_BY_ROUTE = {route: dialect for dialect, route in ROUTES.items()}
# The bridge of the Celery design was not part of WordPress: it may be at the shop's root too.
_BRIDGES = ("/execute", "/bridge/execute")
_API = "/wp-json"
_ONE_ORDER = re.compile(re.escape(ROUTES[SimulatedDialect.REST]) + r"/\d+", re.ASCII)


def dialect_of(request: Request) -> SimulatedDialect | None:
    """Return the dialect of the request's address; None if there is none."""
    if request.path in _BRIDGES:
        return SimulatedDialect.EXECUTE
    route = route_of(request)
    if route is None or _ONE_ORDER.fullmatch(route):
        return None if route is None else SimulatedDialect.REST
    return _BY_ROUTE.get(route)


def route_of(request: Request) -> str | None:
    """Return the route of WordPress's REST API that a request is for, without a trailing slash."""
    if request.path in ("/index.php", "/"):
        return parse_qs(request.query).get("rest_route", [""])[0].rstrip("/")
    if request.path.startswith(_API):
        return request.path.removeprefix(_API).rstrip("/")
    return None


def is_call(request: Request, method: str) -> bool:
    """Return whether a request calls a JSON-RPC method.

    A dialect without JSON-RPC only has listings: each request counts as a call of a tool.
    """
    if dialect_of(request) in (SimulatedDialect.REST, SimulatedDialect.EXECUTE):
        return method == TOOLS_CALL
    return request.rpc_method == method


def asks_for_orders(request: Request) -> bool:
    """Return whether a request asks for a list of orders, in any dialect."""
    match dialect_of(request):
        case SimulatedDialect.WOOCOMMERCE_MCP:
            return _tool(request) == ORDERS_LIST
        case SimulatedDialect.ABILITIES:
            called = _tool(request) == EXECUTE_ABILITY
            return called and _arguments(request).get("ability_name") == ORDERS_QUERY
        case SimulatedDialect.REST:
            return route_of(request) == ROUTES[SimulatedDialect.REST]
        case None:
            return False
        case _:
            return True


def _tool(request: Request) -> object:
    return _params(request).get("name") if request.rpc_method == TOOLS_CALL else None


def _arguments(request: Request) -> Mapping[str, Any]:
    arguments = _params(request).get("arguments")
    return arguments if isinstance(arguments, dict) else {}


def _params(request: Request) -> Mapping[str, Any]:
    params = request.rpc.get("params")
    return params if isinstance(params, dict) else {}
