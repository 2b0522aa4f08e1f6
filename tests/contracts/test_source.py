"""The source `woocommerce-mcp` against bytes recorded from real shops, and all that can go wrong.

The shop is scripted (support/scripted_shop.py), no socket is opened but where the socket is what goes wrong.
"""

import gzip
import json
import re
import traceback
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from typing import Any, Literal

import httpx
import pytest
from anyio import sleep

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Order, OrderItem, Page, Query, Refund, UnreadableOrder
from shop_poller.sources.woocommerce import connection
from shop_poller.sources.woocommerce.answers import quote
from shop_poller.sources.woocommerce.jsonrpc import read_answer, read_tool_result
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import wire
from support.raw_server import Serve, raw_server
from support.refusals import MAYBE_LOST, Refusal, keys_wrong, lasting, passing
from support.scripted_shop import (
    INITIALIZED,
    KEY,
    SECRET,
    URL,
    Chunks,
    Reply,
    ScriptedShop,
    SentRequest,
    answer,
    body,
    broken,
    error,
    events,
    orders,
    page,
    recorded,
    scripted_shop,
    sizes,
    stream,
    tool,
)

pytestmark = pytest.mark.anyio

MB = 2**20
SHOP_TIME = datetime(2026, 11, 23, 1, 55, 5, tzinfo=UTC)  # scripted_shop.DATE
ASK = Query(per_page=100)
RAW = wire.orders_by_status()["processing"]
"""One whole order, as WooCommerce sends it."""


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture
def shop() -> Iterator[ScriptedShop]:
    with scripted_shop() as shop:
        yield shop


@asynccontextmanager
async def source_of(url: str = URL) -> AsyncIterator[WooCommerceMcp]:
    source = WooCommerceMcp(url, consumer_key=KEY, consumer_secret=SECRET)
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture
async def source(shop: ScriptedShop) -> AsyncIterator[WooCommerceMcp]:  # noqa: ARG001 - no shop, no source
    async with source_of() as source:
        yield source


async def refused(source: WooCommerceMcp, query: Query = ASK) -> ShopPollerError:
    """The error that a question ends in: one short line without secrets, whatever it is."""
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.fetch(query)
    told = str(caught.value)
    assert told == told.strip()
    assert told.isprintable()  # one line, nothing that a terminal would obey
    assert 10 < len(told) < 600
    # Nor in what it was made from, should somebody log that.
    whole = "".join(traceback.format_exception(caught.value))
    for secret in (KEY, SECRET, KEY[3:], SECRET[3:]):
        assert secret not in whole
    return caught.value


# --- what is asked ----------------------------------------------------------------------------------------


async def test_a_session_is_begun_before_the_first_question_and_kept(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    for _ in range(3):
        await source.fetch(ASK)
    assert shop.methods == ["initialize", INITIALIZED, "tools/call", "tools/call", "tools/call"]
    assert [requested.session for requested in shop.requested] == [None, *["session-1"] * 4]


async def test_every_request_is_what_the_shop_understands(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    await source.fetch(ASK)
    await source.fetch(ASK)
    for requested in shop.requested:
        headers = requested.request.headers
        assert requested.request.method == "POST"
        assert str(requested.request.url) == URL
        assert headers["content-type"] == "application/json"
        assert headers["x-mcp-api-key"] == f"{KEY}:{SECRET}"
        assert {part.strip() for part in headers["accept"].split(",")} == {
            "application/json",
            "text/event-stream",
        }
        assert headers["user-agent"].startswith("shop-poller/")
        assert requested.json["jsonrpc"] == "2.0"
    numbers = [requested.json["id"] for requested in shop.requested if requested.method != INITIALIZED]
    assert all(type(number) is int for number in numbers)
    assert len(set(numbers)) == len(numbers)
    assert "id" not in shop.requested[1].json  # a notification
    begun = shop.requested[0].json["params"]
    assert begun["protocolVersion"] == "2025-11-25"
    assert begun["clientInfo"]["name"] == "shop-poller"
    assert begun["capabilities"] == {}
    assert shop.requested[2].json["params"]["name"] == "woocommerce-orders-list"
    assert shop.requested[2].request.headers["mcp-protocol-version"] == "2025-06-18"


ALWAYS = {
    "dates_are_gmt": True,
    "_fields": "id,status,number,total,currency,currency_symbol,billing.first_name,date_created_gmt,"
    "date_modified_gmt,date_paid_gmt,refunds,date_created,date_modified,payment_method,payment_method_title",
}
WALK = {"orderby": "modified", "order": "asc", **ALWAYS}
BACK = {"orderby": "date", "order": "desc", **ALWAYS}
QUERIES: list[tuple[Query, dict[str, Any]]] = [
    (Query(per_page=100), {"per_page": 100, **WALK}),
    (
        Query(per_page=50, modified_after=utc("2026-11-23T02:03:07"), exclude=frozenset({9, 3, 2**40})),
        {"per_page": 50, **WALK, "modified_after": "2026-11-23T02:03:07", "exclude": [3, 9, 2**40]},
    ),
    (
        Query(per_page=1, newest_first=True, created_before=utc("2026-11-23T02:03:07")),
        {"per_page": 1, **BACK, "before": "2026-11-23T02:03:07"},
    ),
    (
        Query(
            per_page=100,
            newest_first=True,
            created_before=utc("2026-01-02T00:00:00"),
            modified_after=utc("2025-12-31T23:59:59"),
            statuses=("pending", "on-hold", "processing"),
        ),
        {
            "per_page": 100,
            **BACK,
            "before": "2026-01-02T00:00:00",
            "modified_after": "2025-12-31T23:59:59",
            "status": ["pending", "on-hold", "processing"],
        },
    ),
    # A zone or a fraction would make the shop shift or ignore the time.
    (
        Query(per_page=1, modified_after=datetime.fromisoformat("2026-11-23T05:03:07.900+03:00")),
        {"per_page": 1, **WALK, "modified_after": "2026-11-23T02:03:07"},
    ),
]


@pytest.mark.parametrize(("query", "arguments"), QUERIES)
async def test_a_query_is_sent_with_the_parameters_of_the_tool(
    shop: ScriptedShop, source: WooCommerceMcp, query: Query, arguments: dict[str, Any]
) -> None:
    await source.fetch(query)
    assert shop.calls[0].arguments == arguments
    schema = json.loads((wire.WIRE / "orders/input-schemas.json").read_text())["woocommerce-orders-list"]
    properties = schema.get("properties") or schema["inputSchema"]["properties"]
    assert set(arguments) - {"_fields"} <= set(properties)  # WordPress's own, of any REST request
    assert not {"page", "offset"} & set(arguments)


# --- what is answered: pages ------------------------------------------------------------------------------

ORDER_309 = Order(
    id=309,
    number="309",
    status="sborka",  # a status of the shop's own
    total="40410.00",
    currency="RUB",
    currency_sign="₽",
    customer="Дмитрий",
    created_at=utc("2026-11-22T20:20:39"),
    modified_at=utc("2026-11-22T22:13:29"),
)
ORDER_307 = replace(
    ORDER_309,
    id=307,
    number="307",
    status="refunded",
    total="7969.00",
    created_at=utc("2026-11-22T14:48:21"),
    modified_at=utc("2026-11-22T16:33:20"),
    refunds=(Refund(308, "7969.00"),),
)
ORDER_311 = replace(
    ORDER_309,
    id=311,
    number="311",
    status="checkout-draft",
    total="44220.00",
    customer="Ольга",
    created_at=utc("2026-11-23T01:58:51"),
    modified_at=utc("2026-11-23T01:58:51"),
)
ORDER_17 = replace(
    ORDER_309,
    id=17,
    number="17",
    status="processing",
    total="44651.00",
    customer="Екатерина",
    created_at=utc("2026-09-24T07:25:16"),
    modified_at=utc("2026-11-25T10:00:01"),
    paid_at=utc("2026-11-23T01:52:59"),
)
ORDER_18 = replace(
    ORDER_17, id=18, number="18", total="1048.00", customer="Дмитрий", created_at=utc("2026-09-24T12:57:34")
)
ORDER_19 = replace(
    ORDER_17,
    id=19,
    number="19",
    status="completed",
    total="53008.00",
    customer="Сергей",
    created_at=utc("2026-09-24T18:29:53"),
    modified_at=utc("2026-11-25T10:00:02"),
    paid_at=utc("2026-11-23T01:53:00"),
    refunds=(Refund(20, "100.00"),),
)
NOTICE = (
    "Warning : Undefined variable $rig_undefined in /var/www/html/wp-content/mu-plugins/rig.php on line 9"
)


def detailed(order: Order, rows: list[Any]) -> Order:
    """The order with what its row says of its lines, and of how it is paid and delivered."""
    (row,) = [row for row in rows if row["id"] == order.id]
    return replace(
        order,
        items=tuple(OrderItem(i["name"], str(i["quantity"]), i["total"]) for i in row["line_items"]),
        payment_code=row["payment_method"],
        payment_method=row["payment_method_title"],
        shipping_method=row["shipping_lines"][0]["method_title"] if row["shipping_lines"] else "",
    )


def page_of(name: str, *orders: Order, at: str, preamble: str = "") -> Page:
    """The page that is to be read from a recording."""
    raw = wire.load(name).response.body
    rows = json.loads(raw[raw.index(b'{"jsonrpc') :])["result"]["structuredContent"]["data"]
    return Page(tuple(detailed(order, rows) for order in orders), utc(at), preamble=preamble)


PAGES = {
    "orders/list-1": page_of("orders/list-1", ORDER_309, at="2026-11-23T01:55:05"),
    "orders/unknown-param": page_of("orders/unknown-param", ORDER_309, ORDER_307, at="2026-11-23T01:56:11"),
    "orders/modified_after-gmt": page_of("orders/modified_after-gmt", ORDER_19, at="2026-11-23T01:56:06"),
    "orders/modified_after-local-Z": page_of(
        "orders/modified_after-local-Z", ORDER_17, ORDER_18, ORDER_19, at="2026-11-23T01:56:08"
    ),
    "orders/Z-with-gmt-shifted": page_of(
        "orders/Z-with-gmt-shifted", ORDER_17, ORDER_18, ORDER_19, at="2026-11-23T01:56:55"
    ),
    "orders/page-beyond": page_of("orders/page-beyond", at="2026-11-23T01:56:10"),
    "orders/status-Ltrash": page_of("orders/status-Ltrash", at="2026-11-23T01:56:15"),
    "errors/plain-permalinks": page_of("errors/plain-permalinks", ORDER_311, at="2026-11-23T01:59:08"),
    "errors/php-notice": page_of("errors/php-notice", ORDER_311, at="2026-11-23T01:59:05", preamble=NOTICE),
}


@pytest.mark.parametrize("name", PAGES)
async def test_a_recorded_list_is_read(shop: ScriptedShop, source: WooCommerceMcp, name: str) -> None:
    shop.on_call(recorded(name))
    assert await source.fetch(ASK) == PAGES[name]


@pytest.mark.parametrize(("name", "lines"), [("orders/list-1", 4), ("errors/php-notice", 2)])
async def test_the_lines_of_a_recorded_order_are_read(
    shop: ScriptedShop, source: WooCommerceMcp, name: str, lines: int
) -> None:
    shop.on_call(recorded(name))
    (order,) = (await source.fetch(ASK)).orders
    assert order.items is not None
    assert len(order.items) == lines
    assert all(item.name and item.quantity and item.total for item in order.items)


ORDER_316 = replace(
    ORDER_309,
    id=316,
    number="316",
    status="processing",
    total="565.50",
    customer="Анна",
    created_at=utc("2026-11-23T02:01:02"),
    modified_at=utc("2026-11-23T02:01:05"),
    paid_at=utc("2026-11-23T02:01:05"),
)

LIFE: dict[str, Order] = {  # one order from its first to its last day, and three more
    "start": replace(ORDER_316, status="pending", modified_at=utc("2026-11-01T00:00:00"), paid_at=None),
    "status-change": ORDER_316,
    "note": replace(ORDER_316, modified_at=utc("2026-11-02T00:00:00")),
    "partial-refund": replace(
        ORDER_316, modified_at=utc("2026-11-23T02:01:11"), refunds=(Refund(317, "10.00"),)
    ),
    "refund-deleted": replace(ORDER_316, modified_at=utc("2026-11-03T00:00:00")),
    "trashed": replace(ORDER_316, status="trash", modified_at=utc("2026-11-23T02:01:21")),
    "full-refund": replace(
        ORDER_316,
        status="refunded",
        modified_at=utc("2026-11-23T02:01:23"),
        refunds=(Refund(318, "565.50"),),
    ),
    "get": replace(
        ORDER_17,
        id=16,
        number="16",
        total="11110.00",
        customer="Мария",
        created_at=utc("2026-09-24T01:52:58"),
        modified_at=utc("2026-09-24T03:52:28"),
    ),
    "get-checkout-draft": ORDER_311,
    "get-auto-draft": replace(
        ORDER_311,
        id=312,
        number="312",
        status="auto-draft",
        total="50870.00",
        customer="Дмитрий",
        modified_at=utc("2026-11-23T01:58:52"),
    ),
}


@pytest.mark.parametrize("name", LIFE)
async def test_a_recorded_order_is_read(shop: ScriptedShop, source: WooCommerceMcp, name: str) -> None:
    result = wire.load(f"orders/{name}").response.json()["result"]
    shop.on_call(orders(result["structuredContent"]))
    assert (await source.fetch(ASK)).items == (detailed(LIFE[name], [result["structuredContent"]]),)


STATUSES: list[tuple[str, int, str, str, str, str | None, tuple[Refund, ...]]] = [
    # as it is called there       id  status           total       customer     paid                  refunds
    ("pending", 303, "pending", "7087.00", "Иван", None, ()),
    ("on-hold", 320, "on-hold", "20300.00", "Пётр", "2026-11-23T02:02:14", (Refund(321, "5.00"),)),
    ("processing", 323, "processing", "698.00", "", "2026-11-23T02:03:11", ()),
    ("completed", 302, "completed", "1355.50", "Екатерина", "2026-11-23T01:53:36", ()),
    ("cancelled", 305, "cancelled", "1694.50", "Фёдор", None, ()),
    ("refunded", 316, "refunded", "565.50", "Анна", "2026-11-23T02:01:05", (Refund(318, "565.50"),)),
    ("failed", 306, "failed", "4627.00", "Дмитрий", None, ()),
    ("sborka", 309, "sborka", "40410.00", "Дмитрий", None, ()),
    ("checkout-draft", 311, "checkout-draft", "44220.00", "Ольга", None, ()),
    (
        "processing, partly refunded",
        192,
        "processing",
        "15790.00",
        "Пётр",
        "2026-11-23T01:53:21",
        (Refund(193, "100.00"),),
    ),
]


async def test_an_order_of_every_status_is_read(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    raw = wire.orders_by_status()
    assert {row[0] for row in STATUSES} == set(raw)
    shop.on_call(orders(*(raw[row[0]] for row in STATUSES)))
    items = (await source.fetch(ASK)).items
    for item, (_, order_id, status, total, customer, paid_at, refunds) in zip(items, STATUSES, strict=True):
        assert isinstance(item, Order)
        assert (item.id, item.status, item.total, item.customer) == (order_id, status, total, customer)
        assert (item.number, item.currency, item.currency_sign) == (str(order_id), "RUB", "₽")
        assert (item.paid_at, item.refunds) == (utc(paid_at) if paid_at else None, refunds)


async def test_the_buyer_is_a_first_name_and_nothing_else(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    buyer = {
        "first_name": "Ольга",
        "last_name": "Смирнова",
        "address_1": "Улица 1",
        "phone": "+79990000000",
        "email": "olga@example.org",
    }
    shop.on_call(orders(RAW | {"billing": buyer, "shipping": buyer, "customer_note": "Позвоните Смирновой"}))
    told = repr(await source.fetch(ASK))
    assert "Ольга" in told
    for secret in ("Смирнов", "Улица", "7999", "olga"):
        assert secret not in told


@pytest.mark.parametrize("name", ["orders/unknown-param", "errors/php-notice"])
async def test_a_server_without_structured_content_is_understood_by_its_text(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    raw = wire.load(name).response.body
    result = json.loads(raw[raw.index(b'{"jsonrpc') :])["result"]
    del result["structuredContent"]
    shop.on_call(answer(result))
    assert (await source.fetch(ASK)).items == PAGES[name].items


# --- what is answered: errors -----------------------------------------------------------------------------

RECORDED_ERRORS = {
    "errors/missing-key": keys_wrong("missing_api_key"),
    "errors/key-no-colon": keys_wrong("invalid_api_key"),
    "errors/wrong-ck": keys_wrong("authentication_failed", "key"),
    "errors/wrong-cs": keys_wrong("authentication_failed", "key"),
    "errors/ghost": keys_wrong("mcp_user_not_found"),
    "errors/http-no-filter": keys_wrong("insecure_transport"),
    "errors/write-key-list": keys_wrong("Permission denied"),
    "errors/read-key-write-tool": keys_wrong("Permission denied"),
    "errors/customer-list": keys_wrong("woocommerce_rest_cannot_view"),  # dressed as success
    "errors/get-999999": lasting(ErrorKind.NOT_FOUND, "shop_order_invalid_id"),  # likewise
    "errors/feature-off": lasting(ErrorKind.NOT_FOUND, "rest_no_route", "WOOCOMMERCE_MCP_URL"),
    "errors/maintenance": passing(ErrorKind.UNAVAILABLE, "503", retry_after_s=600),
    "errors/maintenance-html": passing(ErrorKind.UNAVAILABLE, "503", retry_after_s=600),
    "errors/db-down": passing(ErrorKind.SERVER, "500", "database connection"),
    "errors/php-fatal": passing(ErrorKind.SERVER, "rig_no_such_function"),
    "errors/perpage101": lasting(ErrorKind.REJECTED, "per_page"),
    "errors/invalid-date": lasting(ErrorKind.REJECTED, "Invalid date"),
    "session/unknown-tool": lasting(ErrorKind.NOT_FOUND, "-32003", "woocommerce-orders-nope"),
    "session/unknown-method": lasting(ErrorKind.NOT_FOUND, "-32601"),
    "session/bad-json": lasting(ErrorKind.REJECTED, "rest_invalid_json"),
    "session/text-plain": passing(ErrorKind.PROTOCOL, "-32700"),
    "session/call-string-id": passing(ErrorKind.SERVER, "-32603"),
    "session/call-null-id": passing(ErrorKind.PROTOCOL, "empty"),
    "session/batch": passing(ErrorKind.PROTOCOL),
}

LOST = ["session/unknown-session", "session/session-expired", "session/call-no-session", "session/no-name"]
"""Codes that, to a well-formed call, mean that its session is gone."""

OF_THE_SESSION = [
    "session/initialize",
    "session/init-2025-11-25",
    "session/init-bogus-sid",
    "session/notification",
    "session/delete",
    "session/get-sse",
]


def test_every_recorded_exchange_is_in_a_table() -> None:
    tables = [*PAGES, *(f"orders/{name}" for name in LIFE), *RECORDED_ERRORS, *LOST, *OF_THE_SESSION]
    assert sorted(tables) == sorted(
        name for folder in ("session", "orders", "errors") for name in wire.names(folder)
    )


@pytest.mark.parametrize("name", RECORDED_ERRORS)
async def test_a_recorded_error_is_named_and_no_lasting_harm(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    await source.fetch(ASK)
    times = 2 if wire.load(name).response.status in MAYBE_LOST else 1  # a source does not retry
    shop.on_call(*[recorded(name)] * times, recorded("orders/list-1"))
    RECORDED_ERRORS[name].check(await refused(source))
    assert len(shop.calls) == 1 + times
    assert shop.methods.count("initialize") == times
    assert await source.fetch(ASK) == PAGES["orders/list-1"]
    begun = {f"session-{n}" for n in range(1, shop.sessions + 1)}
    ended = {requested.session for requested in shop.requested if requested.method == "DELETE"}
    assert len(begun - ended) == 1  # none is left behind
    assert shop.methods.count("initialize") == (3 if times > 1 else 1)


WITHOUT_A_TOOL = [name for name in RECORDED_ERRORS if b'"result"' not in wire.load(name).response.body]


@pytest.mark.parametrize("name", WITHOUT_A_TOOL)
async def test_a_recorded_error_at_the_beginning_of_a_session_is_named_the_same(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    shop.on("initialize", recorded(name))
    shop.on_call(recorded(name))
    RECORDED_ERRORS[name].check(await refused(source))
    assert shop.methods == ["initialize", *["tools/call"] * (name in ASK_IN_THE_OTHER_ERA)]


ASK_IN_THE_OTHER_ERA = {
    *("session/unknown-tool", "session/unknown-method", "session/bad-json", "session/text-plain"),
}
"""Refusals of `initialize` that a server without sessions may give; wrong keys and outages are none."""


OTHER_ERRORS: dict[str, tuple[Reply, Refusal]] = {
    "blanks": (body(b" \r\n\t "), passing(ErrorKind.PROTOCOL)),
    "204": (body(b"", status=204), passing(ErrorKind.PROTOCOL)),
    "half of it": (body(b'{"jsonrpc":"2.0","id":2,"result":{"conte'), passing(ErrorKind.PROTOCOL)),
    "a list": (body(b"[]"), passing(ErrorKind.PROTOCOL)),
    "an answer without a result": (body(b'{"jsonrpc":"2.0","id":2}'), passing(ErrorKind.PROTOCOL)),
    "405": (page("no", 405), lasting(ErrorKind.NOT_FOUND)),
    "408": (page("slow", 408), passing(ErrorKind.TIMEOUT)),
    "504": (page("<h1>504</h1>", 504), passing(ErrorKind.UNAVAILABLE)),
    "520 of a CDN": (page("error code: 520", 520), passing(ErrorKind.UNAVAILABLE)),
    "530 of a CDN": (page("error code: 1016", 530), passing(ErrorKind.UNAVAILABLE)),
    "509 of a hosting company": (page("Bandwidth Limit Exceeded", 509), passing(ErrorKind.UNAVAILABLE)),
    "529, overloaded": (page("overloaded", 529), passing(ErrorKind.UNAVAILABLE)),
    "599 of a proxy": (page("", 599), passing(ErrorKind.UNAVAILABLE)),
    "555, which nobody defines": (page("?", 555), passing(ErrorKind.SERVER)),
    "JSON-RPC: internal error": (error(-32603, "Ошибка", 500), passing(ErrorKind.SERVER, "Ошибка")),
    "JSON-RPC: no permission": (error(-32008, "no", 403), keys_wrong("-32008")),
    "JSON-RPC: unauthorised": (error(-32010, "no", 401), keys_wrong("-32010")),
    "JSON-RPC: a code that we never heard of": (error(-31999, "?"), passing(ErrorKind.PROTOCOL)),
    "JSON-RPC: a code that is none": (error({"a": [1]}, "?"), passing(ErrorKind.PROTOCOL)),
    "JSON-RPC: a message that is none": (
        body(b'{"jsonrpc":"2.0","id":2,"error":{"code":-32603,"message":{"a":1}}}'),
        passing(ErrorKind.SERVER),
    ),
    "a tool's failure without words": (answer({"isError": True}), passing(ErrorKind.SERVER)),
    "a tool that returns nothing": (answer({}), passing(ErrorKind.PROTOCOL)),
    "a tool that returns null": (answer(None), passing(ErrorKind.PROTOCOL)),
    "a tool that returns an empty list and no text": (
        answer({"structuredContent": []}),
        passing(ErrorKind.PROTOCOL, "a list without anything in it"),
    ),
    "a tool that returns an empty object and no text": (
        answer({"structuredContent": {}, "content": []}),
        passing(ErrorKind.PROTOCOL, "an object without anything in it"),
    ),
    "a tool that returns only words": (
        answer({"content": [{"type": "text", "text": "No orders today"}]}),
        passing(ErrorKind.PROTOCOL, "No orders today"),
    ),
    "no list": (tool({"orders": 5}), passing(ErrorKind.PROTOCOL, "a number instead of a list")),
    "an empty object for a list": (
        tool({"data": {}}),
        passing(ErrorKind.PROTOCOL, "an object instead of a list"),
    ),
    "no list, and an error": (tool({"data": [], "error": "x"}), passing(ErrorKind.PROTOCOL)),
    "no list, and no success": (tool({"orders": [], "success": False}), passing(ErrorKind.PROTOCOL)),
    "null for a list": (tool({"data": None}), passing(ErrorKind.PROTOCOL)),
    "words for a list": (tool({"data": "none"}), passing(ErrorKind.PROTOCOL)),
    "a REST error dressed as success": (
        tool({"data": {"code": "rest_forbidden", "message": "Нельзя", "data": {"status": 401}}}),
        keys_wrong("rest_forbidden", "Нельзя"),
    ),
    "a REST error that names no status": (
        tool({"data": {"code": "db_error", "message": "gone", "data": None}}),
        passing(ErrorKind.SERVER, "db_error"),
    ),
    "an item that is no order": (orders("order 7"), passing(ErrorKind.PROTOCOL)),
    "an item without an id": (orders({"status": "processing"}), passing(ErrorKind.PROTOCOL)),
    "many items without an id": (
        orders({"status": "processing"}, {"id": 0}, {"id": [RAW["id"]]}),
        passing(ErrorKind.PROTOCOL, "3 items without an order id"),
    ),
    "an answer to another question": (
        body(wire.load("orders/list-1").response.body.replace(b'"id":2', b'"id":77', 1)),
        passing(ErrorKind.PROTOCOL, "another question"),
    ),
    "a million deep, within an answer": (
        body(b'{"jsonrpc":"2.0","id":2,"result":' + b'{"a":' * 1_000_000 + b"1" + b"}" * 1_000_001),
        passing(ErrorKind.PROTOCOL),
    ),
    "a million deep, within the text": (
        answer({"content": [{"type": "text", "text": '{"data":' + "[" * 1_000_000}]}),
        passing(ErrorKind.PROTOCOL),
    ),
}


@pytest.mark.parametrize("name", OTHER_ERRORS)
async def test_an_answer_that_is_none_is_named(shop: ScriptedShop, source: WooCommerceMcp, name: str) -> None:
    reply, refusal = OTHER_ERRORS[name]
    await source.fetch(ASK)
    shop.on_call(reply)
    refusal.check(await refused(source))
    may_be_lost = reply(shop.calls[-1]).status_code in MAYBE_LOST or "a code that" in name
    assert len(shop.calls) == 1 + (2 if may_be_lost else 1)


async def test_what_a_page_says_is_quoted_in_a_few_words(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on_call(page("<html>\n<body>\x1b[31m" + "<p>Очень много слов</p>\n" * 100_000))
    told = str(await refused(source))
    assert "Очень много слов" in told
    assert "<" not in told


# --- the session ------------------------------------------------------------------------------------------

LOSSES: dict[str, Reply] = {
    **{name: recorded(name) for name in LOST},
    "of the abilities dialect": error(-32005, "Session not found or expired", 404),
    "of a server in Python": body(
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}', status=404
    ),
}


@pytest.mark.parametrize("name", LOSSES)
async def test_a_lost_session_is_made_anew_and_the_call_repeated_once(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    await source.fetch(ASK)
    shop.on_call(LOSSES[name], recorded("orders/list-1"))
    assert await source.fetch(ASK) == PAGES["orders/list-1"]
    assert shop.methods == [
        *("initialize", INITIALIZED, "tools/call"),
        *("tools/call", "initialize", INITIALIZED, "tools/call"),
    ]
    # The old session's header would keep the shop from making a new one.
    assert [requested.session for requested in shop.requested[3:]] == [
        "session-1",
        None,
        "session-2",
        "session-2",
    ]
    assert shop.calls[1].arguments == shop.calls[2].arguments
    await source.fetch(ASK)
    assert shop.calls[-1].session == "session-2"


@pytest.mark.parametrize("name", LOSSES)
async def test_a_session_that_is_lost_again_at_once_is_an_error_and_no_loop(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    shop.on_call(LOSSES[name])
    assert (await refused(source)).kind is ErrorKind.PROTOCOL
    methods = [method for method in shop.methods if method != "tools/list"]  # see the next but one
    once = ["initialize", INITIALIZED, "tools/call"] * 2 + ["DELETE"] * 2
    # What may be about a parameter is asked again without the one that not every server knows.
    assert methods == once * (2 if name == "session/no-name" else 1)
    assert shop.requested[-1].session == f"session-{shop.sessions}"  # none is left behind, should it exist
    shop.on_call(recorded("orders/list-1"))
    assert await source.fetch(ASK) == PAGES["orders/list-1"]


@pytest.mark.parametrize("name", LOSSES)
async def test_a_shop_that_makes_no_session_is_an_error_and_no_loop(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    shop.on("initialize", LOSSES[name])
    shop.on_call(LOSSES[name])
    assert (await refused(source)).kind is ErrorKind.PROTOCOL
    both_eras = ["initialize", "tools/call"]
    assert shop.methods == both_eras * (2 if name == "session/no-name" else 1)


async def test_an_unknown_tool_by_the_code_of_a_lost_session_is_no_lost_session(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    """Most MCP servers say "invalid params" to that, though the adapters have a code of their own."""
    shop.on_call(error(-32602, "Unknown tool: woocommerce-orders-list"))
    shop.on("tools/list", answer({"tools": [{"name": "another"}]}))
    with pytest.raises(PermanentError) as caught:
        await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    assert "Unknown tool" in str(caught.value)
    shop.on("tools/list", answer({"tools": [{"name": "woocommerce-orders-list"}]}))
    with pytest.raises(TemporaryError, match="loses new MCP sessions immediately"):
        await source.fetch(ASK)


async def test_the_words_of_a_shop_that_forgets_sessions_are_passed_on(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(error(-32602, "Нет такого параметра"))
    assert "Нет такого параметра" in str(await refused(source))


async def test_an_error_while_the_session_is_made_anew_is_that_error(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    await source.fetch(ASK)
    shop.on_call(recorded("session/unknown-session"))
    shop.on("initialize", recorded("errors/wrong-ck"))
    assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
    assert shop.methods[3:] == ["tools/call", "initialize"]


@pytest.mark.parametrize("name", ["session/initialize", "session/init-2025-11-25"])
async def test_a_recorded_session_is_begun(shop: ScriptedShop, source: WooCommerceMcp, name: str) -> None:
    shop.on("initialize", recorded(name))
    await source.fetch(ASK)
    assert shop.calls[0].session == wire.load(name).response.headers["mcp-session-id"]
    assert shop.calls[0].request.headers["mcp-protocol-version"] == "2025-06-18"


async def test_a_beginning_without_a_session_is_tried_and_the_shop_has_the_last_word(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on("initialize", recorded("session/init-bogus-sid"))  # it answers, and makes none
    await source.fetch(ASK)  # a server may do without sessions
    assert shop.calls[0].session is None
    shop.on_call(recorded("session/call-no-session"))
    assert (await refused(source)).kind is ErrorKind.PROTOCOL
    assert shop.methods.count("initialize") == 2


@pytest.mark.parametrize(
    "version", ["2025-06-18\r\nX-Evil: 1", "версия", "", 7, None, ["2025-06-18"], "9" * 9000]
)
async def test_a_version_that_is_none_is_not_passed_on(
    shop: ScriptedShop, source: WooCommerceMcp, version: object
) -> None:
    shop.on("initialize", answer({"protocolVersion": version}, headers={"mcp-session-id": "session-1"}))
    await source.fetch(ASK)
    assert shop.calls[0].request.headers["mcp-protocol-version"] == "2025-11-25"  # as proposed


async def test_another_version_is_spoken_when_the_server_wants_it(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on("initialize", answer({"protocolVersion": "2024-11-05"}, headers={"mcp-session-id": "session-1"}))
    await source.fetch(ASK)
    assert shop.calls[0].request.headers["mcp-protocol-version"] == "2024-11-05"


@pytest.mark.parametrize("name", ["ключ", "a b", "é", "x" * 5000])
async def test_a_session_whose_name_cannot_be_sent_back_is_an_error(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    def reply(requested: SentRequest) -> httpx.Response:
        headers = [(b"Mcp-Session-Id", name.encode())]
        return httpx.Response(200, content=answer({})(requested).content, headers=headers)

    shop.on("initialize", reply)
    assert (await refused(source)).kind is ErrorKind.PROTOCOL
    assert shop.methods == ["initialize"]


@pytest.mark.parametrize(
    "reply",
    [
        body(b"", status=202),
        page("<h1>Вы не робот?</h1>"),
        page("no", 500),
        error(-32600, "?", 400),
        body(b"\xff" * 100),
    ],
    ids=["202", "captcha", "500", "JSON-RPC error", "garbage"],
)
async def test_what_is_answered_to_a_notification_does_not_matter(
    shop: ScriptedShop, source: WooCommerceMcp, reply: Reply
) -> None:
    shop.on(INITIALIZED, reply)
    assert (await source.fetch(ASK)).items == ()


async def test_the_session_is_ended_at_exit(shop: ScriptedShop) -> None:
    async with source_of() as source:
        await source.fetch(ASK)
    goodbye = shop.requested[-1].request
    assert (goodbye.method, str(goodbye.url)) == ("DELETE", URL)
    assert goodbye.headers["mcp-session-id"] == "session-1"
    assert goodbye.headers["x-mcp-api-key"] == f"{KEY}:{SECRET}"
    assert shop.methods.count("DELETE") == 1


async def test_the_session_is_ended_after_an_error_too(shop: ScriptedShop) -> None:
    async with source_of() as source:
        shop.on_call(recorded("errors/php-fatal"))
        await refused(source)
    assert shop.methods[-1] == "DELETE"


async def test_without_a_session_there_is_nothing_to_end(shop: ScriptedShop) -> None:
    async with source_of():
        pass
    async with source_of() as source:
        shop.on("initialize", recorded("errors/wrong-ck"))
        await refused(source)
    assert "DELETE" not in shop.methods


async def test_a_session_that_begins_badly_is_ended_all_the_same(shop: ScriptedShop) -> None:
    """A user has 32 of them: none may be left behind at every tick of an outage."""
    async with source_of() as source:
        shop.on(INITIALIZED, broken(httpx.ReadTimeout("")))
        shop.on_call(broken(httpx.ReadTimeout("")))
        for _ in range(3):
            await refused(source)
    opened = {f"session-{n}" for n in range(1, shop.sessions + 1)}
    ended = {requested.session for requested in shop.requested if requested.method == "DELETE"}
    assert opened == ended


WAIT = page("slow down", 429, **{"Retry-After": "90"})


async def heeds(source: WooCommerceMcp) -> bool:
    """Return whether the failure of the next question demands the pause of WAIT."""
    error = await refused(source)
    return isinstance(error, TemporaryError) and (error.kind, error.retry_after_s) == (
        ErrorKind.RATE_LIMIT,
        90,
    )


async def test_the_answer_to_the_end_of_a_session_may_ask_for_a_pause(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    await source.fetch(ASK)
    shop.on_call(page("are you a robot?"))
    shop.on("DELETE", WAIT)
    assert not await heeds(source)
    assert await heeds(source), "two failures in a row end the session"
    assert shop.methods[-1] == "DELETE"


async def test_the_answer_to_the_end_of_lost_sessions_may_ask_for_a_pause(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(error(-32602, "Missing required parameter: name"))
    shop.on("DELETE", WAIT)
    assert await heeds(source)
    assert shop.methods.count("DELETE") == 1, "the others would be answered alike"


async def test_the_answer_to_a_question_about_its_tools_may_ask_for_a_pause(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(error(-32602, "Unknown tool: woocommerce-orders-list"))
    shop.on("tools/list", WAIT)
    assert await heeds(source)
    assert shop.methods[-1] == "tools/list"


GOODBYES: dict[str, Reply] = {
    "405": error(-32603, "not implemented", 405),
    "500": page("no", 500),
    "404": error(-32005, "gone", 404),
    "429": WAIT,
    "refused": broken(httpx.ConnectError("refused")),
    "timed out": broken(httpx.ReadTimeout("")),
    "reset": broken(OSError("reset")),
}


@pytest.mark.parametrize("name", GOODBYES)
async def test_closing_never_fails(shop: ScriptedShop, name: str) -> None:
    async with source_of() as source:
        await source.fetch(ASK)
        shop.on("DELETE", GOODBYES[name])


async def test_an_endless_answer_to_the_goodbye_is_not_read(shop: ScriptedShop) -> None:
    endless = Chunks(b"x" * 65536 for _ in range(10_000))
    async with source_of() as source:
        await source.fetch(ASK)
        shop.on("DELETE", stream(endless))
    assert endless.taken < 10


async def test_closing_twice_is_closing_once(shop: ScriptedShop) -> None:
    async with source_of() as source:
        await source.fetch(ASK)
        await source.aclose()
    assert shop.methods.count("DELETE") == 1


# --- event streams ----------------------------------------------------------------------------------------

RESULT = json.dumps({"structuredContent": {"data": [RAW]}, "content": []}, ensure_ascii=False)
ANSWER = b'event: message\nid: 1\ndata: {"jsonrpc":"2.0","id":%d,"result":' + RESULT.encode() + b"}\n\n"
PROGRESS = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{"progress":1}}\n\n'
QUESTION = (
    b'data: {"jsonrpc":"2.0","id":%d,"method":"ping"}\n\n'  # the server's own, with the number of our request
)
OTHERS = b'data: {"jsonrpc":"2.0","id":99,"result":{}}\n\n'
IN_LINES = b"data: " + json.dumps({"jsonrpc": "2.0", "id": 0}, indent=1).replace("\n", "\ndata: ").encode()

STREAMS: dict[str, list[bytes]] = {
    "the answer alone": [ANSWER],
    "after comments and pings": [b": ping\n\n", b"retry: 3000\n\n", b"id\n\n", ANSWER],
    "after notifications": [PROGRESS, PROGRESS, ANSWER],
    "after a question of the server's own": [QUESTION, ANSWER],
    "after an answer to somebody else": [OTHERS, ANSWER],
    "after an event that is no JSON": [
        b"data: hello\n\n",
        b"data\n\n",
        b"data:\n\n",
        b"data: [1]\n\n",
        ANSWER,
    ],
    "before other events": [ANSWER, PROGRESS, OTHERS],
    "without a blank after the colon": [ANSWER.replace(b"data: ", b"data:")],
    "after a byte order mark": [b"\xef\xbb\xbf" + ANSWER.removeprefix(b"event: message\nid: 1\n")],
    "without the line that ends it": [ANSWER[:-1]],
    "without the end of its line": [PROGRESS, ANSWER[:-2]],
    "JSON that is no event": [ANSWER[ANSWER.index(b"{") :]],
}


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("name", STREAMS)
async def test_an_answer_may_come_as_an_event_stream(
    shop: ScriptedShop, source: WooCommerceMcp, name: str, end: bytes
) -> None:
    shop.on_call(events(*(block.replace(b"\n", end) for block in STREAMS[name])))
    (item,) = (await source.fetch(ASK)).items
    assert isinstance(item, Order)
    assert item.id == RAW["id"]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CR LF", "CR"])
@pytest.mark.parametrize("lengths", [(1,), (2,), (3, 1), (7, 1, 1, 5), (4096,)], ids=str)
async def test_an_event_stream_may_be_cut_anywhere(
    shop: ScriptedShop, source: WooCommerceMcp, end: bytes, lengths: tuple[int, ...]
) -> None:
    blocks = [block.replace(b"\n", end) for block in (PROGRESS, QUESTION, ANSWER)]
    shop.on_call(events(*blocks, cut=lambda raw: sizes(raw, lengths)))
    assert len((await source.fetch(ASK)).items) == 1


async def test_an_answer_in_many_data_lines_is_put_together(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    def reply(requested: Any) -> httpx.Response:
        message = {"jsonrpc": "2.0", "id": requested.json["id"], "result": json.loads(RESULT)}
        text = json.dumps(message, indent=1).replace("\n", "\ndata: ")
        return events(f"data: {text}\n\n".encode())(requested)

    shop.on_call(reply)
    assert len((await source.fetch(ASK)).items) == 1


async def test_the_stream_is_left_once_the_answer_is_there(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    def endless() -> Iterator[bytes]:
        yield ANSWER.replace(b"%d", b"2")
        while True:
            yield b": ping\n\n"

    pieces = Chunks(endless())
    shop.on_call(stream(pieces, content_type="text/event-stream"))
    assert len((await source.fetch(ASK)).items) == 1
    assert pieces.taken < 5
    assert pieces.closed


@pytest.mark.parametrize("kind", ["text/event-stream; charset=utf-8", "Text/Event-Stream"])
async def test_an_event_stream_is_known_by_its_type_in_any_spelling(
    shop: ScriptedShop, source: WooCommerceMcp, kind: str
) -> None:
    shop.on_call(stream(Chunks([ANSWER.replace(b"%d", b"2")]), content_type=kind))
    assert len((await source.fetch(ASK)).items) == 1


@pytest.mark.parametrize(
    "blocks",
    [[], [PROGRESS], [OTHERS, QUESTION], [ANSWER[:-30]], [ANSWER[:-30] + b"\n\n"]],
    ids=["nothing", "only a notification", "only others'", "never ended", "cut short"],
)
async def test_an_event_stream_without_our_answer_is_an_error(
    shop: ScriptedShop, source: WooCommerceMcp, blocks: list[bytes]
) -> None:
    shop.on_call(events(*blocks))
    assert (await refused(source)).kind is ErrorKind.PROTOCOL


async def test_errors_in_an_event_stream_are_read_like_any(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    lost = (
        b'data: {"jsonrpc":"2.0","id":%d,"error":{"code":-32602,"message":"Invalid or expired session"}}\n\n'
    )
    shop.on_call(events(lost), events(ANSWER))
    assert len((await source.fetch(ASK)).items) == 1
    assert shop.sessions == 2
    fatal = b'data: {"jsonrpc":"2.0","id":%d,"result":{"isError":true,"content":[]}}\n\n'
    shop.on_call(events(fatal))
    assert (await refused(source)).kind is ErrorKind.SERVER


async def test_the_beginning_of_a_session_may_be_an_event_stream_too(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    def reply(requested: Any) -> httpx.Response:
        response = events(b'data: {"jsonrpc":"2.0","id":%d,"result":{"protocolVersion":"2025-06-18"}}\n\n')(
            requested
        )
        response.headers["mcp-session-id"] = "streamed"
        return response

    shop.on("initialize", reply)
    await source.fetch(ASK)
    assert shop.calls[0].session == "streamed"


# --- a preamble before the answer ---------------------------------------------------------------------------

PREAMBLES = {
    "a notice without markup": (
        "\nWarning: Undefined array key in /a.php on line 3\n",
        "Warning: Undefined array key in /a.php on line 3",
    ),
    "a line of a log": (
        "[23-Nov-2026 01:55:05 UTC] PHP Warning:  x\n",
        "[23-Nov-2026 01:55:05 UTC] PHP Warning: x",
    ),
    "something in braces": ("{debug: 1}\n", "{debug: 1}"),
    "blank lines": ("\n\n\r\n ", ""),
}


@pytest.mark.parametrize("name", PREAMBLES)
async def test_a_preamble_is_reported_and_the_answer_read(
    shop: ScriptedShop, source: WooCommerceMcp, name: str
) -> None:
    preamble, told = PREAMBLES[name]
    shop.on_call(orders(RAW, before=preamble))
    found = await source.fetch(ASK)
    assert len(found.items) == 1
    assert found.preamble == told


async def test_a_preamble_is_reported_in_a_few_words(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on_call(orders(RAW, before="<b>Deprecated</b>: много\n\x1b[2J" * 50_000))
    found = await source.fetch(ASK)
    assert len(found.items) == 1
    assert found.preamble.startswith("Deprecated : много")
    assert found.preamble.isprintable()
    assert len(found.preamble) <= 200


async def test_a_clean_answer_has_no_preamble(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on_call(recorded("orders/list-1"))
    assert (await source.fetch(ASK)).preamble == ""


async def test_a_preamble_of_the_first_answer_of_a_session_does_no_harm(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on("initialize", answer({}, before="<br />notice", headers={"mcp-session-id": "noisy"}))
    await source.fetch(ASK)
    assert shop.calls[0].session == "noisy"


async def test_a_preamble_does_not_hide_the_kind_of_an_error(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    wrong = wire.load("errors/wrong-ck").response.body
    shop.on_call(body(b"<br />notice\n" + wrong, status=401))
    assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
    shop.on_call(
        lambda requested: body(b"<br />notice\n" + recorded("session/unknown-session")(requested).content)(
            requested
        ),
        recorded("orders/list-1"),
    )
    assert await source.fetch(ASK) == PAGES["orders/list-1"]


# --- orders that cannot be read ---------------------------------------------------------------------------

GOOD = [RAW | {"id": 1}, RAW | {"id": 3}]
PRIVATE = "Смирнова-Петровская"
"""What stands in a bad field: it may be anything of the buyer's."""

MISSING = object()
UNREADABLE: list[tuple[str, object]] = [
    ("status", MISSING),
    ("status", None),
    ("status", ""),
    ("status", [PRIVATE]),
    ("status", PRIVATE * 100),
    ("status", "x" * MB),
    ("status", "wc-"),
    ("status", " \t"),
    ("status", True),
    ("date_created_gmt", MISSING),
    ("date_created_gmt", None),
    ("date_created_gmt", PRIVATE),
    ("date_modified_gmt", MISSING),
    ("date_modified_gmt", None),
    ("date_modified_gmt", ""),
    ("date_modified_gmt", PRIVATE),
    ("date_modified_gmt", "0000-00-00T00:00:00"),
    ("date_modified_gmt", "2026-02-30T00:00:00"),
    ("date_modified_gmt", "2026-11-23T25:00:00"),
    ("date_modified_gmt", "0001-01-01T00:00:00"),
    ("date_modified_gmt", "99999-01-01T00:00:00"),
    ("date_modified_gmt", "9999-12-31T23:59:59"),
    ("date_modified_gmt", "9999-12-31T23:59:59-23:00"),
    ("date_modified_gmt", 0),
    ("date_modified_gmt", False),
    ("date_modified_gmt", 999_999_999_999_999),
    ("date_modified_gmt", float("nan")),
    ("date_modified_gmt", {"date": PRIVATE}),
    ("date_modified_gmt", {"date": "2026-11-23 02:03:07", "timezone": "Moon/Base"}),
    ("date_modified_gmt", {"date": "2026-11-23 02:03:07", "timezone": "../../etc/passwd"}),
    ("date_modified_gmt", {"date": "9000-12-31 02:03:07", "timezone": "-99:99"}),
    ("date_modified_gmt", "2026-11-23T02:03:07" + "0" * 1_000_000),
]


def spoilt(field: str, value: object) -> dict[str, Any]:
    """A whole order, but for one field, and the shop's own time, which can stand in for another."""
    order = {name: each for name, each in RAW.items() if name != "date_created"} | {"id": 2, field: value}
    if value is MISSING:
        del order[field]
    return order


def name_of(value: object) -> str:
    return "missing" if value is MISSING else repr(value)[:20]


@pytest.mark.parametrize(("field", "value"), UNREADABLE, ids=name_of)
async def test_an_order_that_cannot_be_read_is_set_aside_and_the_others_are_read(
    shop: ScriptedShop, source: WooCommerceMcp, field: str, value: object
) -> None:
    first, last = GOOD
    shop.on_call(orders(first, spoilt(field, value), last))
    before, bad, after = (await source.fetch(ASK)).items
    assert isinstance(before, Order)
    assert isinstance(after, Order)
    assert isinstance(bad, UnreadableOrder)
    assert bad.id == 2
    assert bad.reason.startswith(field)  # the field, and why
    assert len(bad.reason) > len(field) + 5
    assert len(bad.reason) <= 300
    assert bad.reason.isprintable()
    for word in (PRIVATE, "Смирнов", "Петров", "1930", "ЯЯЯ", "999"):  # never the value
        assert word not in bad.reason
    created, modified = utc(RAW["date_created_gmt"]), utc(RAW["date_modified_gmt"])
    assert bad.created_at == (None if field == "date_created_gmt" else created)
    assert bad.modified_at == (None if field == "date_modified_gmt" else modified)


async def test_half_an_order_is_set_aside_with_all_its_reasons(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(orders({"id": 2}))
    (bad,) = (await source.fetch(ASK)).items
    assert isinstance(bad, UnreadableOrder)
    for field in ("status", "date_created_gmt", "date_modified_gmt"):
        assert field in bad.reason
    assert "total" not in bad.reason  # without it an order is read
    assert (bad.modified_at, bad.created_at) == (None, None)


NO_IDS: list[object] = [PRIVATE, None, 0, -5, 1.5, True, 2**63, 10**4000]
NO_DATES: list[object] = [
    *("", " ", "0", "-0001-11-30T00:00:00", "0000-00-00 00:00:00", "0000-00-00T00:00:00"),
    *("1969-12-31T23:59:59", "never", "x" * MB),
    *(False, True, 0, [], [PRIVATE], {}, {"date": None}),
]
AT = utc("2026-11-23T02:03:07")
DATES_OF_AT: list[object] = [
    "2026-11-23 02:03:07",
    " 2026-11-23T02:03:07 ",
    "2026-11-23T02:03:07.000000Z",
    "2026-11-23T05:03:07+0300",
    "2026-11-22 21:03:07-05:00",
    1_795_399_387,
    1_795_399_387.9,
    "1795399387",
    "1795399387.000",
    1_795_399_387_000,
    "1795399387000",
    "2026-11-23 02:03:07 UTC",
    "2026-11-23T02:03:07 GMT",
    "2026-11-23t02:03:07z",
    "2026-11-23  02:03:07",
    "2026/11/23 02:03:07",
    "Mon, 23 Nov 2026 05:03:07 +0300",
    "Mon, 23 Nov 2026 02:03:07 GMT",
    {"date": "2026-11-23 02:03:07.000000", "timezone_type": 3, "timezone": "UTC"},
    {"date": "2026-11-23 05:03:07.000000", "timezone_type": 1, "timezone": "+03:00"},
    {"date": "2026-11-23 05:03:07.000000", "timezone_type": 3, "timezone": "Europe/Moscow"},
    {"date": "2026-11-23 02:03:07"},
]


def with_each(
    field: str, name: str, values: Iterable[tuple[object, object]]
) -> list[tuple[str, object, dict[str, object]]]:
    """Rows for ODD_BUT_FINE: what the shop may write in a field, and what the order has then."""
    return [(field, value, {name: found}) for value, found in values]


ODD_BUT_FINE: list[tuple[str, object, dict[str, object]]] = [
    # field, value, and what the order has then
    ("status", "wc-сборка", {"status": "сборка"}),
    ("status", "wc-processing", {"status": "processing"}),
    ("status", " Wc-On-Hold\n", {"status": "on-hold"}),
    ("status", "Completed", {"status": "completed"}),
    ("status", "обра\u202eботка", {"status": "обра ботка"}),
    ("number", "Я" * 100, {"number": "2"}),
    ("number", {"a": PRIVATE}, {"number": "2"}),
    ("number", None, {"number": "2"}),
    ("number", False, {"number": "2"}),
    ("number", 1001.5, {"number": "1001.5"}),
    ("number", 1001, {"number": "1001"}),
    ("number", "A-1001/б", {"number": "A-1001/б"}),
    ("number", "", {"number": "2"}),
    ("number", MISSING, {"number": "2"}),
    *with_each(
        "total",
        "total",
        (
            (1930, "1930"),
            (1930.5, "1930.5"),
            ("0.00", "0.00"),
            ("-5.00", "-5.00"),
            ("1930", "1930"),
            ("0.00012345", "0.00012345"),
            ("12345678901234567.89", "12345678901234567.89"),
            # binary garbage, and what PHP makes of a number
            ("12.3400000000001", "12.34"),
            ("12.339999999999998", "12.34"),
            (100.00000000000001, "100.00"),
            (0.1 + 0.2, "0.30"),
            (33.333333333333336, "33.33"),
            ("1234567890.1200001", "1234567890.12"),
            ("5.0050000000000003", "5.005"),
            ("1.0E+2", "100.00"),
            ("1e9", "1000000000.00"),
            ("1.2E-10", "0.00"),
            (-0.0, "0.0"),
            ("-0", "0"),
            ("-0.00", "0.00"),
            ("+5.00", "5.00"),
            (".5", "0.50"),
            ("  5.00 ", "5.00"),
            ("1930.00\n", "1930.00"),
            # as people write it
            ("1,930.00", "1930.00"),
            ("1,234,567.89", "1234567.89"),
            ("1,930", "1930.00"),
            ("1930,50", "1930.50"),
            ("1.234,50", "1234.50"),
            ("1.234.567", "1234567.00"),
            ("1 930", "1930.00"),
            ("1\u202f930,00 ₽", "1930.00"),
            ("1'930.00", "1930.00"),
            ("$5.00", "5.00"),
            ("RUB 1930.00", "1930.00"),
            ('<span class="amount">1,930.00&nbsp;&#8381;</span>', "1930.00"),
            ("١٩٣٠", "1930.00"),
            # nothing that is an amount: not known, and no reason to keep the order back
            (MISSING, ""),
            (None, ""),
            ("", ""),
            (PRIVATE, ""),
            ("Street-X 5", ""),
            ("1e999999", ""),
            ("-1e-999999", "0.00"),
            ("NaN", ""),
            (float("nan"), ""),
            (float("inf"), ""),
            (True, ""),
            ([], ""),
            ({"amount": PRIVATE}, ""),
            ("9" * 100, ""),
            ("9" * 1_000_000, ""),
            (10**21, ""),
        ),
    ),
    ("currency", ["RUB"], {"currency": "", "currency_sign": "₽"}),
    ("currency", "<b>RUB</b>" * 10, {"currency": ""}),
    ("currency", None, {"currency": ""}),
    *with_each(
        "currency_symbol",
        "currency_sign",
        (
            ('<img src="https://shop.example/riyal.svg" class="sar">', "RUB"),
            ('<i class="sar"></i>', "RUB"),
            ("&lt;i&gt;", "RUB"),
            ("&#8381;", "₽"),
            ("&euro;", "€"),
            ("руб.", "руб."),
            ("[sar_icon]", "RUB"),
            ("\ue900", "RUB"),
            ("Я" * 21, "RUB"),
            ("x" * MB, "RUB"),
            (None, "RUB"),
            (False, "RUB"),
            (["₽"], "RUB"),
        ),
    ),
    ("billing", "Anna", {"customer": ""}),
    ("billing", False, {"customer": ""}),
    ("billing", [{"first_name": "Anna"}], {"customer": ""}),
    ("billing", {"first_name": [PRIVATE]}, {"customer": ""}),
    ("billing", {"first_name": 5}, {"customer": ""}),
    ("currency_symbol", MISSING, {"currency_sign": "RUB"}),
    ("currency_symbol", "", {"currency_sign": "RUB"}),
    ("billing", MISSING, {"customer": ""}),
    ("billing", [], {"customer": ""}),
    ("billing", None, {"customer": ""}),
    ("billing", {"first_name": None}, {"customer": ""}),
    ("billing", {"first_name": "Ёж 🦔"}, {"customer": "Ёж 🦔"}),
    # A buyer must not be able to keep an order from being announced, nor to write what is not a name.
    ("billing", {"first_name": "Я" * 201}, {"customer": "Я" * 200}),
    ("billing", {"first_name": "Я" * 100_000}, {"customer": "Я" * 200}),
    ("billing", {"first_name": "\x00Анна\r\n\x1b[2J\x9b"}, {"customer": "Анна   [2J"}),
    ("billing", {"first_name": "Анна\u2028\u202eаннА\u2066"}, {"customer": "Анна  аннА"}),
    ("billing", {"first_name": "👩\u200d👧 می\u200cخواهم"}, {"customer": "👩\u200d👧 می\u200cخواهم"}),
    ("number", "1\n2", {"number": "1 2"}),
    ("number", "\x07", {"number": "2"}),
    ("currency_symbol", "\u202d₽\u202c", {"currency_sign": "₽"}),
    ("date_paid_gmt", None, {"paid_at": None}),
    ("date_paid_gmt", MISSING, {"paid_at": None}),
    *with_each("date_paid_gmt", "paid_at", ((value, None) for value in NO_DATES)),
    *with_each("date_created_gmt", "created_at", ((value, AT) for value in DATES_OF_AT)),
    *with_each("date_modified_gmt", "modified_at", ((value, AT) for value in DATES_OF_AT)),
    *with_each("date_paid_gmt", "paid_at", ((value, AT) for value in DATES_OF_AT)),
    ("date_modified_gmt", "2031-01-01T00:00:00", {"modified_at": utc("2031-01-01T00:00:00")}),
    ("date_modified_gmt", "2026-11-23T02:03:07Z", {"modified_at": utc("2026-11-23T02:03:07")}),
    ("date_modified_gmt", "2026-11-23T05:03:07+03:00", {"modified_at": utc("2026-11-23T02:03:07")}),
    ("date_modified_gmt", "2026-11-23T02:03:07.999", {"modified_at": utc("2026-11-23T02:03:07")}),
    ("refunds", [], {"refunds": ()}),
    ("refunds", MISSING, {"refunds": None}),  # cannot be seen, which is not the same as none
    ("refunds", None, {"refunds": None}),
    ("refunds", [{"id": 5, "reason": "", "total": "-1.50"}], {"refunds": (Refund(5, "1.50"),)}),
    ("refunds", [{"id": 5, "total": "1.50"}], {"refunds": (Refund(5, "1.50"),)}),
    ("refunds", False, {"refunds": ()}),
    ("refunds", "", {"refunds": ()}),
    ("refunds", {}, {"refunds": ()}),
    ("refunds", PRIVATE, {"refunds": None}),
    (
        "refunds",
        {"0": {"id": 5, "total": "-1.50"}, "2": {"id": "7", "total": -2}},
        {"refunds": (Refund(5, "1.50"), Refund(7, "2"))},
    ),
    ("refunds", {"id": 5, "total": "-1.50"}, {"refunds": (Refund(5, "1.50"),)}),
    ("refunds", [5, "6", 7.0], {"refunds": (Refund(5, ""), Refund(6, ""), Refund(7, ""))}),
    ("refunds", [{"id": 5, "amount": "1.50"}], {"refunds": (Refund(5, "1.50"),)}),
    ("refunds", [{"id": 5, "total": "-1.5000000000000002"}], {"refunds": (Refund(5, "1.50"),)}),
    ("refunds", [{"id": 5, "total": "-0.00"}], {"refunds": (Refund(5, "0.00"),)}),
    ("refunds", [{"id": 5}], {"refunds": (Refund(5, ""),)}),
    ("refunds", [{"id": 5, "total": PRIVATE}], {"refunds": (Refund(5, ""),)}),
    ("refunds", [{"id": 5, "total": "-1.00"}, None, PRIVATE, {}], {"refunds": (Refund(5, "1.00"),)}),
    ("refunds", [{"id": 5, "total": "-1.00"}] * 2, {"refunds": (Refund(5, "1.00"),)}),
    *with_each("refunds", "refunds", (([{"id": bad, "total": "-1.00"}], ()) for bad in NO_IDS)),
    (
        "refunds",
        [{"id": n, "total": "-1.00"} for n in range(1, 5_001)],
        {"refunds": tuple(Refund(n, "1.00") for n in range(4_001, 5_001))},
    ),
    ("date_created", PRIVATE, {"created_at": utc(RAW["date_created_gmt"])}),  # a field that is not looked at
    ("line_items", None, {"id": 2}),
    ("meta_data", {"any": "thing"}, {"id": 2}),
    ("_links", MISSING, {"id": 2}),
]


@pytest.mark.parametrize(("field", "value", "expected"), ODD_BUT_FINE, ids=name_of)
async def test_an_order_may_be_odd(
    shop: ScriptedShop, source: WooCommerceMcp, field: str, value: object, expected: dict[str, object]
) -> None:
    shop.on_call(orders(spoilt(field, value)))
    (order,) = (await source.fetch(ASK)).items
    assert isinstance(order, Order)
    assert {name: getattr(order, name) for name in expected} == expected


@pytest.mark.parametrize(
    "order_id",
    [MISSING, None, 0, -5, "x16", "", 16.5, True, 2**63, "9" * 30, [16], {"id": 16}, float("nan")],
    ids=name_of,
)
async def test_an_item_without_an_id_is_passed_over_and_told(
    shop: ScriptedShop, source: WooCommerceMcp, order_id: object
) -> None:
    shop.on_call(orders(GOOD[0], spoilt("id", order_id), PRIVATE, GOOD[1]))
    found = await source.fetch(ASK)
    assert [item.id for item in found.items] == [1, 3]
    assert found.preamble == "2 items without an order id"
    shop.on_call(orders(spoilt("id", order_id)))
    assert (await refused(source)).kind is ErrorKind.PROTOCOL


@pytest.mark.parametrize("order_id", ["16", " 16 ", "16.0", 16.0], ids=repr)
async def test_an_id_may_be_text(shop: ScriptedShop, source: WooCommerceMcp, order_id: object) -> None:
    shop.on_call(orders(spoilt("id", order_id)))
    found = await source.fetch(ASK)
    assert [(item.id, type(item.id)) for item in found.items] == [(16, int)]
    assert found.preamble == ""


LOCAL: list[tuple[dict[str, object], str, str]] = [
    # what the shop says                                  made                   modified, in UTC
    ({"date_created_gmt": None}, "2026-11-23T02:00:00", "2026-11-23T03:00:00"),
    ({"date_created_gmt": ""}, "2026-11-23T02:00:00", "2026-11-23T03:00:00"),
    # The offset is not known: as late as can be, and not later than it was modified.
    ({"date_created_gmt": None, "date_modified": None}, "2026-11-23T03:00:00", "2026-11-23T03:00:00"),
    (
        {"date_created_gmt": None, "date_modified": None, "date_created": "2026-11-20T05:00:00"},
        "2026-11-20T17:00:00",
        "2026-11-23T03:00:00",
    ),
    (
        {"date_created_gmt": None, "date_modified": "2026-12-23T03:00:00"},  # no offset at all
        "2026-11-23T03:00:00",
        "2026-11-23T03:00:00",
    ),
]


@pytest.mark.parametrize(("changes", "created", "modified"), LOCAL, ids=lambda value: str(value)[:60])
async def test_the_shops_own_time_stands_in_for_utc(
    shop: ScriptedShop, source: WooCommerceMcp, changes: dict[str, object], created: str, modified: str
) -> None:
    times = {
        "date_created": "2026-11-23T05:00:00",
        "date_created_gmt": "2026-11-23T02:00:00",
        "date_modified": "2026-11-23T06:00:00",
        "date_modified_gmt": "2026-11-23T03:00:00",
    }
    shop.on_call(orders(RAW | times | changes))
    (order,) = (await source.fetch(ASK)).items
    assert isinstance(order, Order)
    assert (order.created_at, order.modified_at) == (utc(created), utc(modified))


async def test_when_an_order_was_modified_is_not_guessed(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    """The walk goes by it: a wrong one would lead it past others."""
    for changes in (
        {"date_modified_gmt": None},
        {"date_modified_gmt": "yesterday"},
        {"date_modified_gmt": None, "date_created": None},
        {"date_modified_gmt": None, "date_created_gmt": None},
    ):
        shop.on_call(orders(RAW | changes))
        (order,) = (await source.fetch(ASK)).items
        assert isinstance(order, UnreadableOrder)
        assert "date_modified_gmt" in order.reason


# --- bounds -----------------------------------------------------------------------------------------------


async def test_ten_megabytes_in_a_field_that_we_do_not_use_are_fine(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(orders(RAW | {"meta_data": [{"id": 1, "key": "_blob", "value": "x" * (10 * MB)}]}))
    (order,) = (await source.fetch(ASK)).items
    assert isinstance(order, Order)


TOO_LARGE = passing(ErrorKind.TOO_LARGE, "32 MB")


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream", "text/html"])
async def test_an_answer_above_32_megabytes_is_not_read_to_its_end(
    shop: ScriptedShop, source: WooCommerceMcp, content_type: str
) -> None:
    pieces = Chunks(b"data: " + b"x" * 65528 + b"\n\n" for _ in range(100_000))  # 6 GB
    shop.on_call(stream(pieces, content_type=content_type))
    tracemalloc.start()
    try:
        TOO_LARGE.check(await refused(source))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert pieces.taken < 600
    assert pieces.closed
    assert peak < 80 * MB
    shop.on_call(recorded("orders/list-1"))
    assert await source.fetch(ASK) == PAGES["orders/list-1"]


async def test_an_event_that_never_ends_is_bounded_too(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on_call(stream(Chunks(b"x" * 65536 for _ in range(10_000)), content_type="text/event-stream"))
    TOO_LARGE.check(await refused(source))


@cache
def packed(size: int, times: int = 1) -> bytes:
    """So many megabytes of nothing, packed by gzip."""
    if times > 1:
        return gzip.compress(packed(size, times - 1))
    packer = zlib.compressobj(1, zlib.DEFLATED, 31)
    nothing = bytes(MB)
    return b"".join(packer.compress(nothing) for _ in range(size)) + packer.flush()


@pytest.mark.parametrize("content_type", ["application/json", "text/event-stream"])
@pytest.mark.parametrize("encoding", ["gzip", "GZIP", "x-gzip"])
async def test_a_gzip_bomb_is_refused_in_bounded_memory(
    shop: ScriptedShop, source: WooCommerceMcp, content_type: str, encoding: str
) -> None:
    bomb = packed(300)
    headers = {"content-encoding": encoding}
    shop.on_call(stream(Chunks(sizes(bomb, (65536,))), content_type=content_type, **headers))
    tracemalloc.start()
    try:
        problem = await refused(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.kind is ErrorKind.TOO_LARGE
    assert peak < 80 * MB


@pytest.mark.parametrize(
    "encoding", ["gzip, gzip", "gzip,gzip,gzip", "deflate", "br", "zstd", "compress", "rot13"]
)
async def test_compression_that_was_not_requested_is_refused_unread(
    shop: ScriptedShop, source: WooCommerceMcp, encoding: str
) -> None:
    """A bomb in a bomb: a piece of 64 KB could unpack to 64 GB at once."""
    pieces = Chunks(sizes(packed(300, times=2), (65536,)))
    shop.on_call(stream(pieces, **{"content-encoding": encoding}))
    tracemalloc.start()
    try:
        problem = await refused(source)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert problem.kind is ErrorKind.PROTOCOL
    assert isinstance(problem, TemporaryError)
    assert peak < 20 * MB


async def test_a_packed_answer_is_unpacked(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    raw = wire.load("orders/modified_after-local-Z").response.body.replace(b'"id":13', b'"id":2', 1)
    for lengths in ((1,), (7, 100), (65536,)):
        own = raw.replace(b'"id":2', b'"id":%d' % (len(shop.calls) + 2), 1)
        pieces = Chunks(sizes(gzip.compress(own), lengths))
        shop.on_call(stream(pieces, **{"content-encoding": "gzip"}))
        assert (await source.fetch(ASK)).items == PAGES["orders/modified_after-local-Z"].items
    assert "gzip" in shop.calls[0].request.headers["accept-encoding"]


@pytest.mark.parametrize(
    "spoil", [lambda raw: raw[: len(raw) // 2], lambda raw: b"\x00" + raw, lambda _: b""]
)
async def test_a_packed_answer_that_cannot_be_unpacked_is_a_passing_trouble(
    shop: ScriptedShop, source: WooCommerceMcp, spoil: Callable[[bytes], bytes]
) -> None:
    raw = spoil(gzip.compress(wire.load("orders/list-1").response.body))
    shop.on_call(stream(Chunks([raw]), **{"content-encoding": "gzip"}))
    problem = await refused(source)
    assert isinstance(problem, TemporaryError)
    assert problem.kind is ErrorKind.PROTOCOL


# --- the shop's clock, and its wish to be left alone ------------------------------------------------------

DATES: list[tuple[str | None, datetime | None]] = [
    ("Mon, 23 Nov 2026 01:55:05 GMT", SHOP_TIME),
    ("Mon, 23 Nov 2026 04:55:05 +0300", SHOP_TIME),
    ("Monday, 23-Nov-26 01:55:05 GMT", SHOP_TIME),
    ("Mon Nov 23 01:55:05 2026", SHOP_TIME),
    ("Mon, 23 Nov 2026 01:55:05 GMT, Mon, 23 Nov 2026 01:55:05 GMT", SHOP_TIME),  # two of them
    (None, None),
    ("", None),
    ("yesterday", None),
    ("2026-11-23", None),
    ("Mon, 31 Feb 2026 01:55:05 GMT", None),
    ("Mon, 23 Nov 99999999999 01:55:05 GMT", None),
    ("Mon, 23 Nov 2026 01:55:05 +999999999", None),
    ("Fri, 31 Dec 9999 23:59:59 -0500", None),
    ("Mon, 01 Jan 0100 00:00:00 GMT", None),
    ("x" * 50_000, None),
]


@pytest.mark.parametrize(("date", "expected"), DATES, ids=lambda value: str(value)[:40])
async def test_the_time_of_the_shop_is_its_date_header(
    shop: ScriptedShop, source: WooCommerceMcp, date: str | None, expected: datetime | None
) -> None:
    shop.on_call(orders(RAW, date=date))
    if expected is None:
        problem = await refused(source)
        assert problem.kind is ErrorKind.PROTOCOL
        assert "Date" in str(problem)
    else:
        assert (await source.fetch(ASK)).shop_time == expected


async def test_only_the_date_of_the_answer_counts(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on("initialize", answer({}, date="Mon, 23 Nov 2020 01:55:05 GMT"))
    shop.on_call(orders(RAW))
    assert (await source.fetch(ASK)).shop_time == SHOP_TIME


RETRY_AFTER: list[tuple[str | None, float | None]] = [
    ("600", 600),
    ("0", 0),
    (" 7 ", 7),
    ("Mon, 23 Nov 2026 02:00:05 GMT", 300),  # by the shop's own clock
    ("Mon, 23 Nov 2026 01:00:00 GMT", 0),  # long gone
    (None, None),
    ("", None),
    ("-5", None),
    ("1.5", None),
    ("soon", None),
    ("Fri, 31 Dec 9999 23:59:59 -0500", None),
]


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(("value", "expected"), RETRY_AFTER)
async def test_a_wish_to_be_left_alone_is_passed_on(
    shop: ScriptedShop, source: WooCommerceMcp, status: int, value: str | None, expected: float | None
) -> None:
    headers = {} if value is None else {"retry-after": value.encode().decode("latin-1")}
    shop.on_call(page("<h1>Too many</h1>", status, date="Mon, 23 Nov 2026 01:55:05 GMT", **headers))
    problem = await refused(source)
    assert problem.kind is (ErrorKind.RATE_LIMIT if status == 429 else ErrorKind.UNAVAILABLE)
    assert isinstance(problem, TemporaryError)
    assert problem.retry_after_s == expected


@pytest.mark.parametrize("status", [429, 503])
async def test_a_wish_to_be_left_alone_counts_also_where_no_answer_is_due(
    shop: ScriptedShop, source: WooCommerceMcp, status: int
) -> None:
    shop.on(INITIALIZED, page("<h1>Too many</h1>", status, **{"retry-after": "5"}))
    problem = await refused(source)
    assert isinstance(problem, TemporaryError)
    assert problem.retry_after_s == 5
    assert shop.questions == []


async def test_an_absurd_wish_is_still_a_number_of_seconds(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shop.on_call(page("", 429, **{"retry-after": "9" * 4000}))
    problem = await refused(source)
    assert isinstance(problem, TemporaryError)
    assert problem.retry_after_s is not None
    assert 10**6 < problem.retry_after_s < 10**10


@pytest.mark.parametrize(
    "content",
    [
        b'{"code":"too_many","message":"slow down","data":{"status":429}}',
        b'{"jsonrpc":"2.0","id":2,"result":{}}',
        b"",
    ],
)
async def test_429_is_429_whatever_it_says(
    shop: ScriptedShop, source: WooCommerceMcp, content: bytes
) -> None:
    shop.on_call(body(content, status=429, headers={"retry-after": "5"}))
    passing(ErrorKind.RATE_LIMIT, retry_after_s=5).check(await refused(source))


# --- redirects, and where the keys may go -----------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize(
    "target", ["https://elsewhere.example/wp-json/woocommerce/mcp", "https://www.shop.example/", "/login"]
)
async def test_a_redirect_is_not_followed(
    shop: ScriptedShop, source: WooCommerceMcp, status: int, target: str
) -> None:
    # respx knows no other address: a request to it would fail this test.
    shop.on("initialize", page("<h1>Moved</h1>", status, location=target))
    lasting(ErrorKind.NOT_FOUND, "redirect", "WOOCOMMERCE_MCP_URL").check(await refused(source))
    assert shop.methods == ["initialize"]


async def test_a_tool_that_shows_our_own_headers_does_not_make_us_tell_the_keys(
    shop: ScriptedShop, source: WooCommerceMcp
) -> None:
    shown = f"<pre>HTTP_X_MCP_API_KEY => {KEY}:{SECRET}</pre>"
    for reply in (
        answer({"isError": True, "content": [{"type": "text", "text": shown}]}),
        tool({"data": {"code": "x", "message": shown}}),
    ):
        shop.on_call(reply)
        assert "HTTP_X_MCP_API_KEY" in str(await refused(source))


# --- below HTTP -------------------------------------------------------------------------------------------

CONNECTION = passing(ErrorKind.CONNECTION)
TIMEOUT = passing(ErrorKind.TIMEOUT)
FAULTS: dict[str, tuple[Exception, Refusal]] = {
    "connecting timed out": (httpx.ConnectTimeout(""), TIMEOUT),
    "reading timed out": (httpx.ReadTimeout(""), TIMEOUT),
    "writing timed out": (httpx.WriteTimeout(""), TIMEOUT),
    "nobody there": (httpx.ConnectError("All connection attempts failed"), CONNECTION),
    "no such host": (httpx.ConnectError("[Errno -2] Name or service not known"), CONNECTION),
    "reset": (httpx.ReadError(""), CONNECTION),
    "broken pipe": (httpx.WriteError(""), CONNECTION),
    "closed early": (
        httpx.RemoteProtocolError("Server disconnected without sending a response."),
        CONNECTION,
    ),
    "a certificate that is not theirs": (
        httpx.ConnectError(
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed certificate"
        ),
        passing(ErrorKind.CONNECTION, "certificate verify failed"),
    ),
    "a proxy that does not want": (httpx.ProxyError("403 Forbidden"), CONNECTION),
    "no HTTP": (
        httpx.RemoteProtocolError("illegal status line: bytearray(b'" + "x" * 50_000 + "')"),
        CONNECTION,
    ),
    "an error of the system": (ConnectionResetError(104, "Connection reset by peer"), CONNECTION),
    "many lines": (httpx.ConnectError("first\nsecond\x1b[31m"), CONNECTION),
}


@pytest.mark.parametrize("where", ["initialize", INITIALIZED, "tools/call"])
@pytest.mark.parametrize("name", FAULTS)
async def test_a_fault_below_http_is_named(
    shop: ScriptedShop, source: WooCommerceMcp, name: str, where: str
) -> None:
    problem, refusal = FAULTS[name]
    shop.on(where, broken(problem))
    refusal.check(await refused(source))
    assert shop.methods.count(where) == 1
    del shop.script[where]
    assert (await source.fetch(ASK)).items == ()


async def test_a_body_that_breaks_off_is_named(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"jsonrpc":"2.0",'
        raise httpx.ReadError("")

    shop.on_call(stream(Chunks(pieces())))
    CONNECTION.check(await refused(source))


JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nDate: Mon, 23 Nov 2026 01:55:05 GMT\r\n"


async def against(serve: Serve) -> ShopPollerError:
    """The error that a first question to a raw server ends in."""
    async with raw_server(serve) as port, source_of(f"http://127.0.0.1:{port}/mcp") as source:
        return await refused(source)


async def test_a_connection_that_is_closed_without_a_word_is_named() -> None:
    async def serve(_: bytes, writer: Any) -> None:
        writer.close()

    CONNECTION.check(await against(serve))


async def test_a_connection_that_is_reset_is_named() -> None:
    async def serve(_: bytes, writer: Any) -> None:
        writer.write(JSON_HEAD + b"Content-Length: 100\r\n\r\n{")
        await writer.drain()
        writer.transport.abort()

    CONNECTION.check(await against(serve))


async def test_an_answer_that_is_shorter_than_it_says_is_named() -> None:
    async def serve(_: bytes, writer: Any) -> None:
        writer.write(JSON_HEAD + b"Content-Length: 100\r\n\r\n{}")
        writer.close()

    CONNECTION.check(await against(serve))


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"\x16\x03\x01" * 99 + b"\r\n\r\n",
        JSON_HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}",
    ],
    ids=["SSH", "binary", "bad chunks", "endless headers", "two lengths"],
)
async def test_a_server_that_speaks_no_http_is_named(raw: bytes) -> None:
    async def serve(_: bytes, writer: Any) -> None:
        writer.write(raw)
        await writer.drain()
        writer.close()

    CONNECTION.check(await against(serve))


async def test_plain_http_where_tls_is_expected_is_named() -> None:
    async def serve(_: bytes, writer: Any) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = raw_server(serve, speaks_first=True)
    async with server as port, source_of(f"https://127.0.0.1:{port}/mcp") as source:
        CONNECTION.check(await refused(source))


@pytest.mark.parametrize(
    "url",
    ["https://shop..example/mcp", "https://[::1/mcp", "ftp://shop.example/mcp", "shop", "http://x:99999/"],
)
async def test_an_address_that_is_none_is_named(url: str) -> None:
    async with source_of(url) as source:
        assert (await refused(source)).kind in {ErrorKind.CONNECTION, ErrorKind.REJECTED}


@pytest.mark.parametrize("part", ["head", "body", "stream"])
@pytest.mark.parametrize("pace", ["silent", "byte by byte"])
async def test_an_answer_takes_a_bounded_time_in_all(
    monkeypatch: pytest.MonkeyPatch, part: Literal["head", "body", "stream"], pace: str
) -> None:
    """Each byte comes soon enough; all of them together never would."""
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.1)
    beginning = {
        "head": b"HTTP/1.1 200 OK\r\nX: ",
        "body": JSON_HEAD + b"Content-Length: 1000000\r\n\r\n",
        "stream": JSON_HEAD.replace(b"application/json", b"text/event-stream") + b"\r\n: ",
    }[part]

    async def serve(_: bytes, writer: Any) -> None:
        writer.write(beginning)
        while pace != "silent":
            writer.write(b"x")
            await writer.drain()
            await sleep(0.002)
        await sleep(600)

    TIMEOUT.check(await against(serve))


async def test_thirty_seconds_is_what_a_request_may_take() -> None:
    assert connection.REQUEST_TIMEOUT_S == 30
    assert connection.MAX_ANSWER_BYTES == 32 * MB


async def test_a_goodbye_takes_a_bounded_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "GOODBYE_TIMEOUT_S", 0.05)
    methods: list[bytes] = []

    async def serve(request: bytes, writer: Any) -> None:
        methods.append(request.split(b" ")[0])
        if methods[-1] == b"DELETE":
            await sleep(600)
        found = re.search(rb'"id": ?(\d+)', request)
        text = b'{"jsonrpc":"2.0","id":%s,"result":{"structuredContent":{"data":[]}}}' % (
            found[1] if found else b"0"
        )
        writer.write(JSON_HEAD + b"Mcp-Session-Id: s\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))

    async with raw_server(serve) as port:
        async with source_of(f"http://127.0.0.1:{port}/mcp") as source:
            await source.fetch(ASK)
        assert methods == [b"POST", b"POST", b"POST", b"DELETE"]


async def test_one_connection_is_kept_between_questions() -> None:
    connections: set[object] = set()

    async def serve(request: bytes, writer: Any) -> None:
        connections.add(writer)
        found = re.search(rb'"id": ?(\d+)', request)
        text = b'{"jsonrpc":"2.0","id":%s,"result":{"structuredContent":{"data":[]}}}' % (
            found[1] if found else b"0"
        )
        writer.write(JSON_HEAD + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    async with raw_server(serve) as port, source_of(f"http://127.0.0.1:{port}/mcp") as source:
        for _ in range(5):
            assert (await source.fetch(ASK)).items == ()
    assert len(connections) == 1


# --- What is quoted of an answer ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "quoted"),
    [
        ('{"id": 5, "billing": {"email": "anna@example.org"}}', "data"),
        (' [{"id": 5, "phone": "+7 916 123-45-67"}]', "data"),
        ("Duplicate entry 'anna@example.org' for key", "Duplicate entry '***' for key"),
        ("cannot call +7 (916) 123-45-67 now", "cannot call *** now"),
        ("PHP Warning: x on line 1234", "PHP Warning: x on line 1234"),
        ("[23-Nov-2026 01:55:05 UTC] PHP Notice", "[23-Nov-2026 01:55:05 UTC] PHP Notice"),
    ],
)
async def test_no_personal_data_is_quoted(said: str, quoted: str) -> None:
    assert quote(said) == quoted


@pytest.mark.parametrize(
    ("status", "kind"),
    [(503, ErrorKind.UNAVAILABLE), (502, ErrorKind.UNAVAILABLE), (401, ErrorKind.AUTHENTICATION)],
)
async def test_an_error_with_a_code_of_somebody_elses_goes_by_its_status(
    status: int, kind: ErrorKind
) -> None:
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "error": {"code": status, "message": "no"}}).encode()
    with pytest.raises(ShopPollerError) as caught:
        read_answer(1, status, {"retry-after": "60"}, body)
    assert caught.value.kind is kind
    if isinstance(caught.value, TemporaryError):
        assert caught.value.retry_after_s == 60


async def test_a_tool_without_permission_is_about_the_keys() -> None:
    text = 'Ability "woocommerce/orders-list" does not have necessary permission.'
    with pytest.raises(PermanentError) as caught:
        read_tool_result({"isError": True, "content": [{"type": "text", "text": text}]})
    assert caught.value.kind is ErrorKind.AUTHENTICATION
