"""The sources against a peer that none of us wrote: a server built with the official `mcp` SDK.

Over real HTTP on a loopback port, answering in JSON and in event streams, in both eras of the protocol.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypedDict

import httpx
import pytest
import uvicorn
from mcp.server import MCPServer
from mcp.server._streamable_http_modern import handle_modern_request
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ProgressNotification, ProgressNotificationParams
from starlette.types import ASGIApp, Receive, Scope, Send

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Order, Query
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import wire

pytestmark = pytest.mark.anyio

ORDERS = list(wire.orders_by_status().values())
ASK = Query(per_page=100)


Mode = Literal["stateful", "stateless", "newer era only"]
"""With sessions; without, but with initialize; only calls as of 2026-07-28. The first two speak both eras."""


class Listing(TypedDict):
    """What the tool returns."""

    data: list[dict[str, Any]]


class Executed(TypedDict):
    """What the tool that executes abilities returns."""

    success: bool
    data: dict[str, Any]


@dataclass
class Peer:
    """A shop made with the SDK.

    Attributes:
        json: answer in JSON; else in event streams.
        mode: which calls it takes.
        versions: of the protocol, as the requests named them.
        requested: what the tool was called with.
        requests: method, JSON-RPC session and key of every HTTP request.
    """

    json: bool
    mode: Mode = "stateful"
    versions: list[str | None] = field(default_factory=list)
    requested: list[dict[str, Any]] = field(default_factory=list)
    requests: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    server: MCPServer[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> ASGIApp:
        """Forget everything but what was asked."""
        self.server = MCPServer("A shop")

        @self.server.tool("woocommerce-orders-list")
        async def orders_list(  # noqa: PLR0917 - the tool's own arguments
            context: Context[Any, Any],
            per_page: int,
            orderby: str,
            order: str,
            dates_are_gmt: bool,  # noqa: FBT001 - likewise
            modified_after: str | None = None,
            exclude: list[int] | None = None,
        ) -> Listing:
            self.requested.append(
                {
                    "per_page": per_page,
                    "orderby": orderby,
                    "order": order,
                    "dates_are_gmt": dates_are_gmt,
                    "modified_after": modified_after,
                    "exclude": exclude,
                }
            )
            progress = ProgressNotification(params=ProgressNotificationParams(progress_token=7, progress=0.5))
            # In an event stream this comes before the answer.
            await context.request_context.session.send_notification(progress, context.request_id)
            if modified_after == "2000-01-01T00:00:00":
                raise ToolError("the database is on holiday")
            left = [listed for listed in ORDERS if listed["id"] not in (exclude or [])]
            return {"data": left[:per_page]}

        @self.server.tool("mcp-adapter-execute-ability")
        async def execute(ability_name: str, parameters: dict[str, Any]) -> Executed:
            self.requested.append({"ability_name": ability_name, **parameters})
            left = [
                _as_ability(order) for order in ORDERS if order["id"] not in parameters.get("exclude", [])
            ]
            return {"success": True, "data": {"orders": left[: parameters["per_page"]]}}

        self.app = self.server.streamable_http_app(
            json_response=self.json, streamable_http_path="/mcp", stateless_http=self.mode == "stateless"
        )
        return self.app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        session, key = (headers.get(name) for name in (b"mcp-session-id", b"x-mcp-api-key"))
        self.requests.append((scope["method"], session and session.decode(), key and key.decode()))
        version = headers.get(b"mcp-protocol-version")
        self.versions.append(version and version.decode())
        if self.mode == "newer era only":
            manager = self.server.session_manager
            await handle_modern_request(
                manager.app,
                manager.security_settings,
                self.json,
                manager._lifespan_state,
                scope,
                receive,
                send,
            )
        else:
            await self.app(scope, receive, send)

    @property
    def sessions(self) -> set[str]:
        """Those that are open."""
        return set(self.server.session_manager._server_instances)


def _as_ability(order: dict[str, Any]) -> dict[str, Any]:
    """An order without what the ability does not show."""
    names = ("id", "status", "currency", "currency_symbol", "total", "date_created_gmt", "date_modified_gmt")
    return {name: order[name] for name in names}


class Uvicorn(uvicorn.Server):
    """uvicorn without its signal handlers and without its ticking."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__(uvicorn.Config(app, ws="none", lifespan="off", log_config=None, access_log=False))
        self.ready, self.stopped = asyncio.Event(), asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self.on_tick(0)  # sets the Date header
        self.ready.set()

    async def main_loop(self) -> None:
        await self.stopped.wait()


@asynccontextmanager
async def serving(peer: Peer, port: int = 0) -> AsyncIterator[str]:
    """Serve until the block ends; yields the address."""
    server = Uvicorn(peer)
    with contextlib.closing(socket.create_server(("127.0.0.1", port))) as listener:
        async with peer.server.session_manager.run():
            task = asyncio.create_task(server.serve([listener]))
            try:
                await server.ready.wait()
                yield f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
            finally:
                server.stopped.set()
                await task


@asynccontextmanager
async def source_of(url: str) -> AsyncIterator[WooCommerceMcp]:
    source = WooCommerceMcp(url, consumer_key="ck_1", consumer_secret="cs_1")
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture(params=[True, False], ids=["JSON", "event stream"])
def peer(request: pytest.FixtureRequest) -> Peer:
    return Peer(json=request.param)


async def test_orders_are_listed_in_one_session_that_is_ended_at_exit(peer: Peer) -> None:
    async with serving(peer) as url:
        async with source_of(url) as source:
            before = datetime.now(UTC) - timedelta(seconds=2)
            found = await source.fetch(Query(per_page=2, exclude=frozenset({ORDERS[0]["id"]})))
            assert [item.id for item in found.items] == [ORDERS[1]["id"], ORDERS[2]["id"]]
            assert before <= found.shop_time <= datetime.now(UTC)
            assert found.preamble == ""
            everything = (await source.fetch(ASK)).items
            assert [item.id for item in everything] == [listed["id"] for listed in ORDERS]
            assert all(isinstance(item, Order) for item in everything)
            (session,) = peer.sessions
        assert peer.sessions == set()
    assert {key for _, _, key in peer.requests} == {"ck_1:cs_1"}
    assert [(method, session) for method, session, _ in peer.requests] == [
        ("POST", None),
        *[("POST", session)] * 3,
        ("DELETE", session),
    ]


async def test_the_tool_gets_what_it_expects(peer: Peer) -> None:
    after = datetime(2026, 11, 23, 2, 3, 7, tzinfo=UTC)
    async with serving(peer) as url, source_of(url) as source:
        await source.fetch(Query(per_page=7, modified_after=after, exclude=frozenset({5, 3})))
    assert peer.requested == [
        {
            "per_page": 7,
            "orderby": "modified",
            "order": "asc",
            "dates_are_gmt": True,
            "modified_after": "2026-11-23T02:03:07",
            "exclude": [3, 5],
        }
    ]


async def test_a_session_that_somebody_else_ended_is_made_anew(peer: Peer) -> None:
    async with serving(peer) as url, source_of(url) as source:
        await source.fetch(ASK)
        (first,) = peer.sessions
        async with httpx.AsyncClient() as somebody:
            assert (await somebody.delete(url, headers={"Mcp-Session-Id": first})).status_code == 200
        assert peer.sessions == set()
        assert len((await source.fetch(ASK)).items) == len(ORDERS)
        (second,) = peer.sessions
        assert second != first
        assert len(peer.requested) == 2


async def test_a_server_that_restarted_is_called_again_in_a_new_session(peer: Peer) -> None:
    async with serving(peer) as url, source_of(url) as source:
        await source.fetch(ASK)
    port = httpx.URL(url).port
    assert port is not None
    async with source_of(url) as source:
        peer.restart()
        async with serving(peer, port):
            await source.fetch(ASK)
        with pytest.raises(TemporaryError) as caught:
            await source.fetch(ASK)  # it is away
        assert caught.value.kind is ErrorKind.CONNECTION
        peer.restart()
        async with serving(peer, port):
            assert len((await source.fetch(ASK)).items) == len(ORDERS)
            assert len(peer.sessions) == 1


async def test_a_tool_that_fails_is_an_error_and_the_session_goes_on(peer: Peer) -> None:
    async with serving(peer) as url, source_of(url) as source:
        with pytest.raises(TemporaryError, match="holiday") as caught:
            await source.fetch(Query(per_page=1, modified_after=datetime(2000, 1, 1, tzinfo=UTC)))
        assert caught.value.kind is ErrorKind.SERVER
        assert len((await source.fetch(ASK)).items) == len(ORDERS)
        assert len(peer.sessions) == 1


async def test_a_server_without_our_tool_says_so(peer: Peer) -> None:
    async with serving(peer) as url, source_of(url) as source:
        peer.server.remove_tool("woocommerce-orders-list")
        with pytest.raises((TemporaryError, PermanentError), match="woocommerce-orders-list"):
            await source.fetch(ASK)
        assert peer.requested == []


async def test_a_wrong_path_is_named(peer: Peer) -> None:
    async with serving(peer) as url, source_of(url + "/nowhere") as source:
        with pytest.raises(PermanentError) as caught:
            await source.fetch(ASK)
        assert caught.value.kind is ErrorKind.NOT_FOUND


# --- both eras ----------------------------------------------------------------------------------------------

MODES: list[Mode] = ["stateful", "stateless", "newer era only"]
STATELESS_VERSION = "2026-07-28"


@asynccontextmanager
async def dialect_of(dialect: Dialect, url: str) -> AsyncIterator[WooCommerceMcp | Abilities]:
    source: WooCommerceMcp | Abilities = WooCommerceMcp(url, consumer_key="ck_1", consumer_secret="cs_1")
    if dialect is Dialect.ABILITIES:
        source = Abilities(url, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture(params=[Dialect.WOOCOMMERCE_MCP, Dialect.ABILITIES])
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found: Dialect = request.param
    return found


@pytest.mark.parametrize("mode", MODES)
async def test_orders_are_listed_in_every_mode(peer: Peer, dialect: Dialect, mode: Mode) -> None:
    peer.mode = mode
    peer.restart()
    async with serving(peer) as url, dialect_of(dialect, url) as source:
        for _ in range(3):
            items = (await source.fetch(ASK)).items
            assert [item.id for item in items] == [listed["id"] for listed in ORDERS]
        assert await source.offered()
        assert len(peer.requested) == 3
    if mode == "newer era only":
        assert peer.versions == [None, *[STATELESS_VERSION] * 4]  # initialize is refused once
        assert {session for _, session, _ in peer.requests} == {None}
    else:
        assert peer.versions[0] is None
        assert set(peer.versions[1:]) == {"2025-11-25"}
    assert peer.sessions == set()


async def test_a_server_that_is_upgraded_and_set_back_is_read_all_the_same(
    peer: Peer, dialect: Dialect
) -> None:
    modes: list[Mode] = ["newer era only", "stateless", "newer era only", "stateful"]
    async with serving(peer) as url:
        port = httpx.URL(url).port or 0
    async with dialect_of(dialect, url) as source:
        for mode in modes:
            peer.mode = mode
            peer.restart()
            async with serving(peer, port):
                # The connection that the last server closed is found out at the first request.
                with contextlib.suppress(TemporaryError):
                    await source.fetch(ASK)
                assert len((await source.fetch(ASK)).items) == len(ORDERS)


@pytest.mark.parametrize("mode", MODES)
async def test_a_server_without_our_tool_is_no_wrong_key(peer: Peer, dialect: Dialect, mode: Mode) -> None:
    peer.mode = mode
    peer.restart()
    async with serving(peer) as url, dialect_of(dialect, url) as source:
        for tool in ("woocommerce-orders-list", "mcp-adapter-execute-ability"):
            peer.server.remove_tool(tool)
        for _ in range(2):
            with pytest.raises((TemporaryError, PermanentError)) as caught:
                await source.fetch(ASK)
            assert caught.value.kind is not ErrorKind.AUTHENTICATION
        assert len(peer.requests) < 20
        assert len(peer.sessions) <= 1


@pytest.mark.parametrize("mode", MODES)
async def test_a_tool_that_takes_no_unknown_argument_is_called_without(peer: Peer, mode: Mode) -> None:
    peer.mode = mode
    peer.restart()
    tool = peer.server._tool_manager._tools["woocommerce-orders-list"]
    model = tool.fn_metadata.arg_model
    model.model_config["extra"] = "forbid"
    model.model_rebuild(force=True)
    async with serving(peer) as url, source_of(url) as source:
        assert len((await source.fetch(ASK)).items) == len(ORDERS)
        assert len(peer.requests) == (3 if mode == "newer era only" else 4)  # the refusal is among them
        await source.fetch(ASK)
        assert len(peer.requests) == (4 if mode == "newer era only" else 5)
        assert len(peer.requested) == 2


async def test_a_wrong_path_is_named_in_every_dialect(peer: Peer, dialect: Dialect) -> None:
    async with serving(peer) as url, dialect_of(dialect, url + "/nowhere") as source:
        with pytest.raises(PermanentError) as caught:
            await source.fetch(ASK)
        assert caught.value.kind is ErrorKind.NOT_FOUND
        assert len(peer.requests) == 2  # once in each era
