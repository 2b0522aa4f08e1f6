"""Runs the simulated shop on a real socket, in this event loop or beside a synchronous test."""

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import anyio
import uvicorn
from anyio.from_thread import start_blocking_portal

from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.asgi import create_app
from shop_poller.simulator.endpoint import PATH, Endpoint
from shop_poller.simulator.faults import Faults
from shop_poller.simulator.keys import DEMO_KEY, DEMO_PASSWORD, ApiKey, AppPassword
from shop_poller.simulator.routes import (
    EXECUTE_ABILITY,
    ORDERS_QUERY,
    ROUTES,
    SimulatedDialect,
    asks_for_orders,
    dialect_of,
)
from shop_poller.simulator.shop import SimulatedShop

MCP_ADAPTER = f"/wp-json{ROUTES[SimulatedDialect.ABILITIES]}"
ORDERS = f"/wp-json{ROUTES[SimulatedDialect.REST]}"


def wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class ServedRequest:
    """A request that arrived, and what it was answered: the status and how many bytes."""

    request: Request
    status: int
    size: int

    @property
    def method(self) -> str:
        """The JSON-RPC method, or the HTTP method where there is none."""
        return self.request.rpc_method or self.request.method

    @property
    def tool(self) -> str | None:
        return self._params.get("name") if self.method == "tools/call" else None

    @property
    def arguments(self) -> dict[str, Any]:
        """What a tool was called with."""
        arguments: dict[str, Any] = self._params.get("arguments", {})
        return arguments

    @property
    def dialect(self) -> SimulatedDialect | None:
        return dialect_of(self.request)

    @property
    def question(self) -> dict[str, Any]:
        """What a listing was asked for, in whichever dialect; all of a query's values are strings."""
        match self.dialect:
            case SimulatedDialect.ABILITIES:
                parameters: dict[str, Any] = self.arguments["parameters"]
                return parameters
            case SimulatedDialect.REST:
                return dict(parse_qsl(self.request.query)) | (self.request.rpc or {})
            case SimulatedDialect.EXECUTE:
                return self._params
            case _:
                return self.arguments

    @property
    def _params(self) -> dict[str, Any]:
        params: dict[str, Any] = (self.request.rpc or {}).get("params", {})
        return params


@dataclass
class RunningShop:
    """A simulated shop that can be reached at `url`."""

    endpoint: Endpoint
    requests: list[ServedRequest] = field(default_factory=list)

    @property
    def url(self) -> str:
        """The address of WooCommerce's own MCP endpoint; `endpoint.address` tells the others."""
        return self.endpoint.url

    @property
    def shop(self) -> SimulatedShop:
        return self.endpoint.shop

    @property
    def faults(self) -> Faults:
        return self.endpoint.faults

    @property
    def key(self) -> ApiKey:
        return self.endpoint.keys[0]

    @property
    def password(self) -> AppPassword:
        return self.endpoint.passwords[0]

    @property
    def listings(self) -> list[dict[str, Any]]:
        """What each listing was asked for, in order and in whichever dialect."""
        return [one.question for one in self.requests if asks_for_orders(one.request)]

    def count(self, method: str) -> int:
        """How many requests of a JSON-RPC method (or, without one, HTTP method) arrived."""
        return sum(one.method == method for one in self.requests)


@dataclass
class Caller:
    """Asks an endpoint without a network; opens a session by itself."""

    endpoint: Endpoint
    key: ApiKey = DEMO_KEY
    password: AppPassword = DEMO_PASSWORD

    def send(
        self,
        body: object,
        *,
        session_id: str | None = None,
        method: str = "POST",
        path: str = PATH,
        query: str = "",
        **headers: str,
    ) -> Answer:
        """Send one body; `x_mcp_api_key="..."` and the like set headers."""
        given = {"content-type": "application/json", "x-mcp-api-key": self.key.header}
        if session_id is not None:
            given["mcp-session-id"] = session_id
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.endpoint.answer(Request(method, path, given, raw, query))

    def rpc(self, method: str, params: object = None) -> Any:
        """The result of a JSON-RPC call; KeyError if it is an error."""
        session_id = self.endpoint.sessions.open(self.key.user)
        answer = self.send(call(method, params), session_id=session_id)
        return json.loads(answer.body)["result"]

    def tool(self, name: str, arguments: object) -> Any:
        """The result of a tool."""
        return self.rpc("tools/call", {"name": name, "arguments": arguments})

    def listing(self, **arguments: object) -> list[dict[str, Any]]:
        """The orders of one listing."""
        result = self.tool("woocommerce-orders-list", arguments)
        orders: list[dict[str, Any]] = result["structuredContent"]["data"]
        return orders

    def ids(self, **arguments: object) -> list[int]:
        """The ids of the orders of one listing."""
        return [order["id"] for order in self.listing(**arguments)]

    def get(self, order_id: int) -> Any:
        """One order, or the error in its place."""
        return self.tool("woocommerce-orders-get", {"id": order_id})["structuredContent"]

    def plugin(self, body: object, **headers: str) -> Answer:
        """Send one body to the MCP Adapter; `initialize` and the like bring no session."""
        basic = {"authorization": self.password.basic}
        return self.send(body, path=MCP_ADAPTER, **(basic | headers))

    def ability(self, name: str = ORDERS_QUERY, /, **parameters: object) -> Any:
        """The result of an ability."""
        session_id = self.endpoint.sessions.open(self.password.user)
        arguments = {"ability_name": name, "parameters": parameters}
        body = call("tools/call", {"name": EXECUTE_ABILITY, "arguments": arguments})
        return json.loads(self.plugin(body, mcp_session_id=session_id).body)["result"]

    def rest(self, query: str = "", **headers: str) -> Answer:
        """The answer to a GET."""
        basic = {"authorization": self.key.basic}
        return self.send(b"", method="GET", path=ORDERS, query=query, **(basic | headers))

    def rest_post(self, body: object, **headers: str) -> Answer:
        """The answer to a POST that says it is a GET, or whatever the headers say."""
        usual = {"authorization": self.key.basic, "x_http_method_override": "GET"}
        return self.send(body, path=ORDERS, **(usual | headers))

    def execute(self, **params: object) -> Answer:
        """The answer to the old design's call."""
        body = {"ability": "woocommerce/orders-list", "params": params}
        return self.send(body, path=f"{PATH}/execute")


def call(method: str, params: object = None, call_id: object = 1) -> dict[str, object]:
    """A JSON-RPC call."""
    return {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params or {}}


@contextlib.asynccontextmanager
async def running_shop(
    clock: Callable[[], datetime] = wall_clock,
    *,
    shop: SimulatedShop | None = None,
    keys: Iterable[ApiKey] = (DEMO_KEY,),
    require_https: bool = False,
    port: int = 0,
) -> AsyncIterator[RunningShop]:
    """Serve a simulated shop on a free loopback port, inside the running event loop."""
    shop = shop or SimulatedShop(clock)
    running = RunningShop(Endpoint(shop, keys=keys, require_https=require_https))

    def remember(request: Request, answer: Answer) -> None:
        running.requests.append(ServedRequest(request, answer.status, len(answer.body)))

    app = create_app(running.endpoint, remember)
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as listener:
        shop.url = "http://{}:{}".format(*listener.getsockname())
        async with serving(app, listener):
            yield running


@contextlib.contextmanager
def shop_in_thread(
    clock: Callable[[], datetime] = wall_clock,
    *,
    shop: SimulatedShop | None = None,
    keys: Iterable[ApiKey] = (DEMO_KEY,),
    require_https: bool = False,
    port: int = 0,
) -> Iterator[RunningShop]:
    """The same for a synchronous test: the shop is served from a thread of its own."""
    running = running_shop(clock, shop=shop, keys=keys, require_https=require_https, port=port)
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(running) as served,
    ):
        yield served


@contextlib.asynccontextmanager
async def serving(app: Callable[..., Any], listener: socket.socket) -> AsyncIterator[None]:
    """Serve any ASGI application on a bound socket until the block ends."""
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        date_header=False,
        server_header=False,
        timeout_graceful_shutdown=1,
    )
    server = _Server(config)
    # Not a task group: that would wrap what a test raises into an exception group.
    task = asyncio.create_task(server.serve([listener]))
    try:
        await server.ready.wait()
        yield
    finally:
        server.stop()
        with anyio.CancelScope(shield=True):
            await task


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (the tests' are not its own) and without its ticking."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = anyio.Event()
        self._stopped = anyio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()

    async def main_loop(self) -> None:
        await self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()
