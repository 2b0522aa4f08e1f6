"""An MCP endpoint that keeps sessions, or needs none, without a socket: it is strict in what it is asked."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import respx

from shop_poller.core.errors import PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Order, Query
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import wire
from support.ability_shop import raw
from support.scripted_shop import Reply, SentRequest, answer, body, error, tool

ADDRESSES = {
    Dialect.WOOCOMMERCE_MCP: "https://shop.example/wp-json/woocommerce/mcp",
    Dialect.ABILITIES: "https://shop.example/wp-json/mcp/mcp-adapter-default-server",
}
META = "io.modelcontextprotocol/"
STATELESS = "2026-07-28"
ORDER = wire.orders_by_status()["processing"]
LISTS: dict[Dialect, Any] = {
    Dialect.WOOCOMMERCE_MCP: {"data": [ORDER]},
    Dialect.ABILITIES: {
        "success": True,
        "data": {"orders": [raw(ORDER["id"], ORDER["date_modified_gmt"])], "page": 1, "total_pages": 1},
    },
}
TOOLS = {
    Dialect.WOOCOMMERCE_MCP: "woocommerce-orders-list",
    Dialect.ABILITIES: "mcp-adapter-execute-ability",
}

ASK = Query(per_page=10)
McpSource = WooCommerceMcp | Abilities


async def shows_the_order(source: McpSource) -> bool:
    """Whether a source reads the one order that there is."""
    items = (await source.fetch(ASK)).items
    return [item.id for item in items if isinstance(item, Order)] == [ORDER["id"]]


async def refused(source: McpSource) -> ShopPollerError:
    """The error that a source raises."""
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.fetch(ASK)
    return caught.value


def unknown_session(requested: SentRequest) -> httpx.Response:
    """As the MCP Adapter says it."""
    return error(-32005, "Session not found: Invalid or expired session", 404)(requested)


def no_such_era(requested: SentRequest) -> httpx.Response:
    """As the official SDK says it."""
    return error(-32602, "params._meta must be an object", 400)(requested)


@dataclass
class McpPeer:
    """The endpoint of one dialect.

    Attributes:
        speaks_initialize: takes calls in a session.
        speaks_stateless: takes calls without one.
        lost: answers a call in a session that is not known.
        refusal: answers what is asked in an era that it does not speak.
        versions: what it speaks in the older era; the first one is offered for an unknown one.
        sessions: those that are alive.
        begun: sessions so far.
        requested: every request.
        call: answers tools/call.
        notified: answers notifications.
    """

    dialect: Dialect
    speaks_initialize: bool = True
    speaks_stateless: bool = False
    lost: Reply = unknown_session
    refusal: Reply = no_such_era
    versions: tuple[str, ...] = ("2025-11-25", "2025-06-18", "2024-11-05")
    sessions: set[str] = field(default_factory=set)
    begun: int = 0
    requested: list[SentRequest] = field(default_factory=list)
    call: Reply | None = None
    notified: Reply = field(default_factory=lambda: body(b"", status=202))

    @property
    def methods(self) -> list[str]:
        return [requested.method for requested in self.requested]

    def forget(self) -> None:
        """Lose all sessions, as a restart or an emptied cache does; and what was asked."""
        self.sessions.clear()
        self.requested.clear()

    def source(self) -> WooCommerceMcp | Abilities:
        """A source that asks it."""
        url = ADDRESSES[self.dialect]
        if self.dialect is Dialect.ABILITIES:
            return Abilities(url, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")
        return WooCommerceMcp(url, consumer_key="ck_" + "0" * 40, consumer_secret="cs_" + "0" * 40)

    def answer(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        requested = SentRequest(request)
        self.requested.append(requested)
        if requested.method == "DELETE":
            self.sessions.discard(requested.session or "")
            return body(b"")(requested)
        if request.headers.get("mcp-protocol-version") == STATELESS:
            return (self._stateless(requested) if self.speaks_stateless else self.refusal)(requested)
        return (self.answer_in_session(requested) if self.speaks_initialize else self.refusal)(requested)

    def _stateless(self, requested: SentRequest) -> Reply:
        headers, params = requested.request.headers, requested.json["params"]
        assert requested.session is None
        assert requested.method not in {"initialize", "notifications/initialized"}
        assert headers["mcp-method"] == requested.method
        assert headers.get("mcp-name") == params.get("name")
        assert params["_meta"][META + "protocolVersion"] == STATELESS
        assert params["_meta"][META + "clientCapabilities"] == {}
        assert params["_meta"][META + "clientInfo"]["name"] == "shop-poller"
        return self._result(
            requested, {"resultType": "complete", "_meta": {META + "serverInfo": {"name": "x"}}}
        )

    def answer_in_session(self, requested: SentRequest) -> Reply:
        """How it answers in the older era."""
        headers = requested.request.headers
        if requested.method == "initialize":
            assert requested.session is None, "with the old one no new one is made"
            assert "mcp-protocol-version" not in headers
            self.begun += 1
            session, wanted = f"session-{self.begun}", requested.json["params"]["protocolVersion"]
            self.sessions.add(session)
            version = wanted if wanted in self.versions else self.versions[0]
            return answer({"protocolVersion": version}, headers={"mcp-session-id": session})
        if requested.session is None:
            return error(-32600, "Invalid Request: Missing Mcp-Session-Id header", 400)
        if requested.session not in self.sessions:
            return self.lost
        if headers["mcp-protocol-version"] not in self.versions:
            return error(-32600, "Bad Request: Unsupported protocol version", 400)
        if requested.method == "notifications/initialized":
            return self.notified
        return self._result(requested, {})

    def _result(self, requested: SentRequest, more: dict[str, Any]) -> Reply:
        if requested.method == "tools/list":
            return answer({"tools": [{"name": TOOLS[self.dialect]}], **more})
        if self.call is not None:
            return self.call
        content = tool(LISTS[self.dialect])(requested).json()["result"]
        return answer({**content, **more})


@contextmanager
def mcp_peer(dialect: Dialect, **options: Any) -> Iterator[McpPeer]:
    """The only address in the world while it lasts."""
    with respx.mock(assert_all_called=False) as router:
        peer = McpPeer(dialect, **options)
        router.route(url__startswith=ADDRESSES[dialect]).mock(side_effect=peer.answer)
        yield peer
