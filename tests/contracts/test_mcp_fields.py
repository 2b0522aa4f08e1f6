"""`_fields` on `woocommerce-mcp`: it is sent, changes nothing that is read, and is dropped if refused."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Query
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY
from shop_poller.sources.woocommerce.listing import read_items
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import wire
from support.mcp_peer import ASK, LISTS, McpPeer, mcp_peer, refused, shows_the_order
from support.scripted_shop import Reply, SentRequest, answer, error, page, recorded, tool

pytestmark = pytest.mark.anyio

MCP = Dialect.WOOCOMMERCE_MCP
FIELDS = FIRST_NAME_ONLY.names(ASK)
WITH_ITEMS = FIRST_NAME_ONLY.names(replace(ASK, with_items=True))


@pytest.fixture(params=["initialize", "stateless"])
def peer(request: pytest.FixtureRequest) -> Iterator[McpPeer]:
    newer = request.param == "stateless"
    with mcp_peer(MCP, speaks_initialize=not newer, speaks_stateless=newer) as peer:
        yield peer


@pytest.fixture
async def source(peer: McpPeer) -> AsyncIterator[WooCommerceMcp]:
    source = peer.source()
    assert isinstance(source, WooCommerceMcp)
    yield source
    await source.aclose()


def with_fields(peer: McpPeer) -> list[bool]:
    """Of every question whether it had `_fields`."""
    return [
        "_fields" in requested.arguments for requested in peer.requested if requested.method == "tools/call"
    ]


def says(text: str) -> Reply:
    return answer({"content": [{"type": "text", "text": text}], "isError": True})


STRICT: dict[str, Reply] = {
    "WordPress": says(
        'Ability "woocommerce/orders-list" has invalid input.'
        " Reason: _fields is not a valid property of Object."
    ),
    "WordPress in Russian": says(
        'Ability "woocommerce/orders-list" has invalid input. Reason: _fields — недопустимое свойство.'
    ),
    "a server in Python": says(
        "Error executing tool woocommerce-orders-list: 1 validation error for Arguments _fields"
        " Unexpected keyword argument"
    ),
    "a server in TypeScript": error(-32602, "Invalid arguments for tool woocommerce-orders-list"),
    "the same, 400": error(-32602, "Invalid params: must NOT have additional properties", 400),
    "JSON Schema": says("Input validation error: Additional properties are not allowed"),
    "without a reason": says("An error occurred while executing the tool."),
    "a code of its own": error(-31000, "unknown parameter"),
}


def strict(peer: McpPeer, reply: Reply) -> None:
    """Let the tool refuse arguments that it does not know."""

    def call(requested: SentRequest) -> httpx.Response:
        return (reply if "_fields" in requested.arguments else tool(LISTS[MCP]))(requested)

    peer.call = call


@pytest.mark.parametrize("name", STRICT)
async def test_where_it_is_refused_it_is_dropped_at_once_and_for_good(
    peer: McpPeer, source: WooCommerceMcp, name: str
) -> None:
    strict(peer, STRICT[name])
    assert await shows_the_order(source)
    assert with_fields(peer) in ([True, False], [True, True, False])  # it may have been a lost session
    assert len(peer.sessions) <= 1
    peer.requested.clear()
    for _ in range(3):
        assert await shows_the_order(source)
    assert with_fields(peer) == [False] * 3
    assert len(peer.requested) == 3


@pytest.mark.parametrize("name", ["WordPress", "WordPress in Russian", "a server in Python", "JSON Schema"])
async def test_a_tool_that_becomes_strict_later_is_read_at_the_same_tick(
    peer: McpPeer, source: WooCommerceMcp, name: str
) -> None:
    assert await shows_the_order(source)
    strict(peer, STRICT[name])
    assert await shows_the_order(source)
    assert with_fields(peer) == [True, True, False]


async def test_where_it_is_taken_nothing_more_is_asked(peer: McpPeer, source: WooCommerceMcp) -> None:
    for _ in range(3):
        assert await shows_the_order(source)
    calls = [requested for requested in peer.requested if requested.method == "tools/call"]
    assert [requested.arguments["_fields"] for requested in calls] == [FIELDS] * 3


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (page("", 503), ErrorKind.UNAVAILABLE),
        (page("", 500), ErrorKind.SERVER),
        (page("<h1>captcha</h1>"), ErrorKind.PROTOCOL),
        (says("Permission denied"), ErrorKind.AUTHENTICATION),
        (says('Ability "woocommerce/orders-list" callback threw an exception: x'), ErrorKind.SERVER),
        (
            says('Ability "woocommerce/orders-list" has invalid input. Reason: Invalid date.'),
            ErrorKind.REJECTED,
        ),
    ],
)
async def test_any_other_trouble_is_no_reason_to_drop_it(
    peer: McpPeer, source: WooCommerceMcp, reply: Reply, kind: ErrorKind
) -> None:
    peer.call = reply
    assert (await refused(source)).kind is kind
    assert with_fields(peer) == [True]
    peer.call = None
    assert await shows_the_order(source)
    assert with_fields(peer) == [True, True]


async def test_what_fails_without_it_too_is_told_as_it_was_and_it_is_kept(
    peer: McpPeer, source: WooCommerceMcp
) -> None:
    peer.call = says("the database is gone")
    problem = await refused(source)
    assert problem.kind is ErrorKind.SERVER
    assert with_fields(peer) == [True, False]
    peer.call = None
    assert await shows_the_order(source)
    assert with_fields(peer)[-1]


def _only(order: dict[str, Any], names: str) -> dict[str, Any]:
    """As WordPress cuts an order."""
    cut: dict[str, Any] = {}
    for name in names.split(","):
        outer, _, inner = name.partition(".")
        if outer in order:
            cut[outer] = {inner: order[outer][inner]} if inner else order[outer]
    return cut


@pytest.mark.parametrize("status", wire.orders_by_status())
def test_what_is_read_of_an_order_is_the_same_with_and_without(status: str) -> None:
    order = wire.orders_by_status()[status]
    assert read_items([_only(order, WITH_ITEMS)], ASK) == read_items([order], ASK)


async def test_the_recorded_answer_has_all_that_is_read(peer: McpPeer, source: WooCommerceMcp) -> None:
    exchange = wire.load("2026-11/woocommerce-mcp-fields-argument")
    requested = exchange.request.json()["params"]["arguments"]
    assert {*requested["_fields"].split(",")} <= {*FIELDS.split(",")}
    peer.call = recorded("2026-11/woocommerce-mcp-fields-argument")
    (order,) = (await source.fetch(Query(per_page=1))).items
    assert isinstance(order, Order)
    (raw,) = exchange.response.json()["result"]["structuredContent"]["data"]
    assert (order.id, order.status, order.total) == (raw["id"], raw["status"], raw["total"])
    assert (order.customer, order.currency, order.currency_sign) == ("Анна", "RUB", "₽")
    assert order.refunds == ()
    assert order.paid_at is not None
    assert (order,) == read_items([_only(raw, WITH_ITEMS)], ASK)
    assert "line_items" not in json.dumps(raw)


async def test_a_pause_is_heeded_that_the_question_without_fields_is_answered_by(
    peer: McpPeer, source: WooCommerceMcp
) -> None:
    def wait(requested: SentRequest) -> httpx.Response:
        if "_fields" in requested.arguments:
            return says("_fields is not a valid property of Object.")(requested)
        return page("slow down", 429, **{"Retry-After": "90"})(requested)

    peer.call = wait
    error = await refused(source)
    assert isinstance(error, TemporaryError)
    assert (error.kind, error.retry_after_s) == (ErrorKind.RATE_LIMIT, 90)
