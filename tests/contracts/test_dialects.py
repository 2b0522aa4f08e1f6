"""What holds for every dialect, and what each asks and answers, against bytes recorded from real shops.

What is peculiar to `woocommerce-mcp`, and all that a session and a connection can suffer: test_source.py.
"""

import json
import traceback
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from anyio import sleep

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Order, OrderItem, Page, Query, Refund, UnreadableOrder
from shop_poller.ports import Source
from shop_poller.sources.woocommerce import connection
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.dialects import Dialect, endpoint
from shop_poller.sources.woocommerce.execute import Execute
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY
from shop_poller.sources.woocommerce.listing import MAX_ROWS
from shop_poller.sources.woocommerce.rest import Rest
from shop_poller.sources.woocommerce.rest_endpoint import MAX_URL
from shop_poller.sources.woocommerce.session import MAX_TOOL_PAGES
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import ability_shop, wire
from support.raw_server import raw_server
from support.refusals import MAYBE_LOST, Refusal, keys_wrong, lasting, passing
from support.scripted_shop import (
    KEY,
    SECRET,
    Chunks,
    Reply,
    ScriptedShop,
    SentRequest,
    answer,
    body,
    error,
    orders,
    page,
    recorded,
    scripted_shop,
    stream,
)

pytestmark = pytest.mark.anyio

SITE = "https://shop.example/wp-json"
USER, PASSWORD = "watchman", "abcd EFGH 1234 ijkl MNOP 5678"
SHOP_TIME = datetime(2026, 11, 23, 1, 55, 5, tzinfo=UTC)  # scripted_shop.DATE
ASK = Query(per_page=100)
FIELDS = FIRST_NAME_ONLY.names(ASK)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def token(user: str, password: str) -> str:
    return b64encode(f"{user}:{password}".encode()).decode()


@dataclass(frozen=True)
class Tongue:
    """A dialect as the tests speak it.

    Attributes:
        make: a source for an address.
        listing: the reply with a list of orders in it.
        requested: what a request asked for, in its own words.
        start: how a good answer begins.
        headers: what every request has.
        secrets: what must never be seen.
    """

    name: Dialect
    make: Callable[[str], Source]
    listing: Callable[..., Reply]
    requested: Callable[[SentRequest], dict[str, Any]]
    headers: dict[str, str]
    secrets: tuple[str, ...]

    @property
    def url(self) -> str:
        return endpoint(SITE, self.name)


def plain(content: Any, before: str = "", **options: Any) -> Reply:
    return body(before + json.dumps(content, separators=(",", ":")), **options)


def from_url(requested: SentRequest) -> dict[str, Any]:
    found = parse_qs(urlsplit(str(requested.request.url)).query, keep_blank_values=True)
    return {name: value for name, (value,) in found.items()}


def rest(url: str, secret: str = SECRET) -> Source:
    return Rest(url, consumer_key=KEY, consumer_secret=secret)


def execute(url: str, secret: str = SECRET) -> Source:
    return Execute(url, consumer_key=KEY, consumer_secret=secret)


def abilities(url: str, secret: str = PASSWORD) -> Source:
    return Abilities(url, username=USER, password=secret)


def woocommerce_mcp(url: str, secret: str = SECRET) -> Source:
    return WooCommerceMcp(url, consumer_key=KEY, consumer_secret=secret)


KEYS = (KEY, SECRET)

MCP = Tongue(
    Dialect.WOOCOMMERCE_MCP,
    woocommerce_mcp,
    orders,
    lambda requested: requested.arguments,
    {"x-mcp-api-key": f"{KEY}:{SECRET}", "accept": "application/json, text/event-stream"},
    KEYS,
)
ABILITIES = Tongue(
    Dialect.ABILITIES,
    abilities,
    ability_shop.abilities,
    lambda requested: requested.arguments["parameters"],
    {
        "authorization": f"Basic {token(USER, PASSWORD)}",
        "accept": "application/json, text/event-stream",
    },
    (PASSWORD, PASSWORD.replace(" ", ""), token(USER, PASSWORD)),
)
REST = Tongue(
    Dialect.REST,
    rest,
    lambda *listed, **options: plain(list(listed), **options),
    from_url,
    {"authorization": f"Basic {token(KEY, SECRET)}", "accept": "application/json"},
    (*KEYS, token(KEY, SECRET)),
)
EXECUTE = Tongue(
    Dialect.EXECUTE,
    execute,
    lambda *listed, **options: plain({"data": list(listed)}, **options),
    lambda requested: requested.json["params"],
    {"x-mcp-api-key": f"{KEY}:{SECRET}", "accept": "application/json"},
    KEYS,
)
TONGUES = {tongue.name: tongue for tongue in (MCP, ABILITIES, REST, EXECUTE)}
WITH_SESSION = {Dialect.WOOCOMMERCE_MCP, Dialect.ABILITIES}


def test_every_dialect_is_spoken_here() -> None:
    assert set(TONGUES) == set(Dialect)


@asynccontextmanager
async def source_of(tongue: Tongue, url: str = "") -> AsyncIterator[Source]:
    source = tongue.make(url or tongue.url)
    try:
        yield source
    finally:
        await source.aclose()


@pytest.fixture(params=list(TONGUES))
def tongue(request: pytest.FixtureRequest) -> Tongue:
    return TONGUES[request.param]


@pytest.fixture
def shop(tongue: Tongue) -> Iterator[ScriptedShop]:
    with scripted_shop(tongue.url) as shop:
        shop.on_question(tongue.listing())
        yield shop


@pytest.fixture
async def source(tongue: Tongue, shop: ScriptedShop) -> AsyncIterator[Source]:  # noqa: ARG001 - no shop, no source
    async with source_of(tongue) as source:
        yield source


async def refused(source: Source, tongue: Tongue, query: Query = ASK) -> ShopPollerError:
    """The error that a question ends in: one short line without secrets, whatever it is."""
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.fetch(query)
    told = str(caught.value)
    assert told == told.strip()
    assert told.isprintable()
    assert 10 < len(told) < 600
    whole = "".join(traceback.format_exception(caught.value))
    for secret in tongue.secrets:
        assert secret not in whole
    return caught.value


# --- what is asked ------------------------------------------------------------------------------------------

FULL = Query(
    per_page=50,
    modified_after=utc("2026-11-23T02:03:07"),
    created_after=utc("2026-10-01T00:00:00"),
    created_before=datetime.fromisoformat("2026-11-23T05:03:07.900+03:00"),
    statuses=("pending",),
    exclude=frozenset({9, 3, 2**40}),
)
LISTS: list[tuple[Query, dict[str, Any]]] = [
    (
        Query(per_page=100),
        {"per_page": 100, "orderby": "modified", "order": "asc", "dates_are_gmt": True},
    ),
    (
        Query(per_page=1, newest_first=True),
        {"per_page": 1, "orderby": "date", "order": "desc", "dates_are_gmt": True},
    ),
    (
        FULL,
        {
            "per_page": 50,
            "orderby": "modified",
            "order": "asc",
            "dates_are_gmt": True,
            "modified_after": "2026-11-23T02:03:07",
            "after": "2026-10-01T00:00:00",
            "before": "2026-11-23T02:03:07",
            "status": ["pending"],
            "exclude": [3, 9, 2**40],
        },
    ),
    (
        Query(per_page=100, statuses=("pending", "on-hold"), ids=frozenset({9, 3})),
        {
            "per_page": 100,
            "orderby": "modified",
            "order": "asc",
            "dates_are_gmt": True,
            "status": ["pending", "on-hold"],
            "include": [3, 9],
        },
    ),
]
QUERIES: list[tuple[Tongue, Query, dict[str, Any]]] = [
    *((MCP, query, {**requested, "_fields": FIELDS}) for query, requested in LISTS),
    *((EXECUTE, query, requested) for query, requested in LISTS),
    (
        REST,
        Query(per_page=100),
        {
            "per_page": "100",
            "orderby": "modified",
            "order": "asc",
            "dates_are_gmt": "true",
            "_fields": FIELDS,
        },
    ),
    (
        REST,
        replace(FULL, newest_first=True, statuses=("pending", "on-hold"), ids=frozenset({9, 30})),
        {
            "per_page": "50",
            "orderby": "date",
            "order": "desc",
            "dates_are_gmt": "true",
            "_fields": FIELDS,
            "modified_after": "2026-11-23T02:03:07",
            "after": "2026-10-01T00:00:00",
            "before": "2026-11-23T02:03:07",
            "status": "pending,on-hold",
            "exclude": f"3,9,{2**40}",
            "include": "9,30",
        },
    ),
    (ABILITIES, Query(per_page=100), {"per_page": 100, "orderby": "date_modified", "order": "asc"}),
    (
        ABILITIES,
        FULL,
        {
            "per_page": 50,
            "orderby": "date_modified",
            "order": "asc",
            "modified_after": "2026-11-23T02:03:07Z",
            "date_after": "2026-10-01T00:00:00",  # unlike the other, see test_ability_dates.py
            "date_before": "2026-11-23T02:03:07",
            "status": "pending",
            "exclude": [3, 9, 2**40],
        },
    ),
    (
        ABILITIES,
        Query(per_page=50, with_items=True),
        {"per_page": 50, "orderby": "date_modified", "order": "asc", "include_line_items": True},
    ),
    (
        ABILITIES,
        Query(per_page=1, newest_first=True, ids=frozenset({9})),
        {"per_page": 1, "orderby": "date", "order": "desc", "id": 9},
    ),
]


@pytest.mark.parametrize(("tongue", "query", "expected"), QUERIES)
async def test_a_query_is_asked_in_the_dialects_own_words(
    tongue: Tongue, shop: ScriptedShop, source: Source, query: Query, expected: dict[str, Any]
) -> None:
    await source.fetch(query)
    (question,) = shop.questions
    assert tongue.requested(question) == expected


async def test_every_request_says_who_we_are(tongue: Tongue, shop: ScriptedShop, source: Source) -> None:
    await source.fetch(ASK)
    for requested in shop.requested:
        headers = requested.request.headers
        assert {name: headers.get(name) for name in tongue.headers} == tongue.headers
        assert headers["user-agent"].startswith("shop-poller/")
        assert "cookie" not in headers
    assert len(shop.requested) == (3 if tongue.name in WITH_SESSION else 1)


async def test_the_bridge_is_asked_for_the_old_designs_ability() -> None:
    with scripted_shop(EXECUTE.url) as shop:
        shop.on_question(EXECUTE.listing())
        async with source_of(EXECUTE) as source:
            await source.fetch(ASK)
    request = shop.requested[0].request
    assert (request.method, str(request.url)) == ("POST", f"{SITE}/execute")
    assert request.headers["content-type"] == "application/json"
    assert set(shop.requested[0].json) == {"ability", "params"}
    assert shop.requested[0].json["ability"] == "woocommerce/orders-list"


async def test_the_adapter_is_asked_to_execute_the_ability_in_the_words_of_its_schema() -> None:
    schema = json.loads((wire.WIRE / "abilities/orders-query-schema.json").read_text())["input_schema"]
    for tongue, _, requested in QUERIES:
        if tongue is ABILITIES:
            assert set(requested) <= set(schema["properties"])  # it refuses others
    with scripted_shop(ABILITIES.url) as shop:
        shop.on_question(ABILITIES.listing())
        async with source_of(ABILITIES) as source:
            await source.fetch(ASK)
    params = shop.questions[0].json["params"]
    assert params["name"] == "mcp-adapter-execute-ability"
    assert params["arguments"]["ability_name"] == "woocommerce/orders-query"
    assert isinstance(params["arguments"]["parameters"], dict)


async def test_an_address_with_a_query_keeps_it() -> None:
    url = "https://shop.example/index.php?rest_route=/wc/v3/orders"
    with scripted_shop("https://shop.example/index.php") as shop:
        shop.on_question(REST.listing())
        async with source_of(REST, url) as source:
            await source.fetch(ASK)
            await source.fetch(replace(ASK, exclude=frozenset(range(1, 2_000))))
    short, long = shop.requested
    assert from_url(short)["rest_route"] == "/wc/v3/orders"
    assert from_url(short)["per_page"] == "100"
    assert "&via=wp-json/wc/&" in str(short.request.url)  # as it is: WooCommerce decodes nothing
    assert from_url(long) == {"rest_route": "/wc/v3/orders", "via": "wp-json/wc/", "_method": "GET"}


@pytest.mark.parametrize("count", [1, 49, 50, 150, 1_000, 50_000])
async def test_a_question_too_long_for_an_address_is_posted_as_the_get_that_it_is(count: int) -> None:
    exclude = frozenset(range(10_001, 10_001 + count))
    with scripted_shop(REST.url) as shop:
        shop.on_question(REST.listing())
        async with source_of(REST) as source:
            await source.fetch(replace(FULL, exclude=exclude))
    request = shop.requested[0].request
    assert len(str(request.url)) <= MAX_URL
    if count < 50:
        assert request.method == "GET"
        assert "_method" not in from_url(shop.requested[0])
        assert from_url(shop.requested[0])["exclude"] == ",".join(map(str, sorted(exclude)))
        return
    # In the address, where nothing on the way takes it out: a POST that is none would make an order.
    assert (request.method, str(request.url)) == ("POST", f"{REST.url}?_method=GET")
    assert request.headers["content-type"] == "application/json"
    assert shop.requested[0].json == {**LISTS[2][1], "exclude": sorted(exclude), "_fields": FIELDS}


# --- what is answered: pages --------------------------------------------------------------------------------

RAW = wire.orders_by_status()["processing, partly refunded"]
READ = Order(
    id=192,
    number="192",
    status="processing",
    total="15790.00",
    currency="RUB",
    currency_sign="₽",
    customer="Пётр",
    created_at=utc(RAW["date_created_gmt"]),
    modified_at=utc(RAW["date_modified_gmt"]),
    paid_at=utc("2026-11-23T01:53:21"),
    refunds=(Refund(193, "100.00"),),
    items=(
        OrderItem("Самовар 3 л «Тула»", "1", "12990.00"),
        OrderItem("Набор матрёшек 5 шт.", "1", "2450.00"),
    ),
    payment_code="yookassa",
    payment_method="ЮKassa — банковская карта",
    shipping_method="СДЭК до пункта выдачи",
)


def only(fields: str, order: dict[str, Any]) -> dict[str, Any]:
    """What WordPress leaves of an object for `_fields`."""
    names = {name.partition(".")[0]: name.partition(".")[2] for name in fields.split(",")}
    return {
        name: {part: order[name][part]} if part else order[name]
        for name, part in names.items()
        if name in order
    }


@pytest.mark.parametrize("tongue", [MCP, EXECUTE], ids=lambda t: t.name)
async def test_a_whole_order_is_read(shop: ScriptedShop, source: Source, tongue: Tongue) -> None:
    shop.on_question(tongue.listing(RAW))
    assert await source.fetch(ASK) == Page((READ,), SHOP_TIME)


async def test_the_fields_asked_for_are_all_that_is_needed_and_nothing_of_the_buyer_but_a_name() -> None:
    requested = only(FIRST_NAME_ONLY.names(replace(ASK, with_items=True)), RAW)
    assert requested["billing"] == {"first_name": "Пётр"}
    assert len(json.dumps(only(FIELDS, RAW))) < len(json.dumps(RAW)) / 5
    with scripted_shop(REST.url) as shop:
        shop.on_question(REST.listing(requested))
        async with source_of(REST) as source:
            assert await source.fetch(ASK) == Page((READ,), SHOP_TIME)


ORDER_41 = Order(
    id=41,
    number="41",
    status="processing",
    total="100.00",
    currency="RUB",
    currency_sign="₽",
    customer="",
    created_at=utc("2026-11-23T02:08:20"),
    modified_at=utc("2026-11-23T02:08:20"),
    refunds=None,  # cannot be seen, which is not the same as none
)
ORDER_199 = replace(
    ORDER_41,
    id=199,
    number="199",
    status="pending",
    total="10.00",
    created_at=utc("2026-11-23T02:44:30"),
    modified_at=utc("2026-11-23T02:44:30"),
)
ORDER_174 = replace(
    ORDER_41,
    id=174,
    number="174",
    status="completed",
    total="6376.50",
    created_at=utc("2026-11-13T21:09:46"),
    modified_at=utc("2026-12-01T10:00:00"),
    payment_code="yookassa",
    payment_method="ЮKassa — банковская карта",
)
ORDER_187 = replace(
    ORDER_174,
    id=187,
    number="187",
    total="3715.50",
    created_at=utc("2026-11-19T10:05:09"),
    modified_at=utc("2026-12-01T10:00:01"),
    items=(
        OrderItem("Пряник тульский", "3", "646.5"),
        OrderItem("Мёд липовый 500 г", "3", "2370"),
        OrderItem("Чай Иван-чай 100 г", "1", "349"),
    ),
)
NOTICE = (
    "Warning : Undefined variable $rig_undefined in"
    " /var/www/html/wp-content/mu-plugins/00-successor.php on line 32"
)

ABILITY_PAGES: dict[str, tuple[tuple[Order, ...], str]] = {
    "abilities/id": ((ORDER_174,), "2026-11-23T02:43:48"),
    "abilities/order-with-partial-refund": ((ORDER_187,), "2026-11-23T02:44:27"),
    "abilities/beyond": ((), "2026-11-23T02:43:23"),
    "abilities/fail-notice": ((ORDER_199, ORDER_41), "2026-11-23T02:47:06"),
}


@pytest.mark.parametrize("name", ABILITY_PAGES)
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
@pytest.mark.usefixtures("tongue")
async def test_a_recorded_page_of_the_ability_is_read(shop: ScriptedShop, source: Source, name: str) -> None:
    items, shop_time = ABILITY_PAGES[name]
    shop.on_question(recorded(name))
    found = await source.fetch(ASK)
    assert (found.items, found.shop_time) == (items, utc(shop_time))
    assert found.preamble.startswith(NOTICE) if "notice" in name else found.preamble == ""


COUNTS = {
    "default": 10,
    "st1": 2,
    "modified_after-Z": 4,
    "modified_after-frac": 5,  # what a time that we never send would bring: an hour of the shop's zone more
    "modified_after-naive-utc": 5,
    "bigtie-asc-20-p1": 20,
    "bigtie-asc-20-p2": 20,
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
@pytest.mark.usefixtures("tongue")
async def test_every_order_of_a_recorded_list_is_read(shop: ScriptedShop, source: Source, name: str) -> None:
    shop.on_question(recorded(f"abilities/{name}"))
    items = (await source.fetch(ASK)).items
    assert len(items) == COUNTS[name]
    for item in items:
        assert isinstance(item, Order)
        assert (item.refunds, item.customer, item.number) == (None, "", str(item.id))


@pytest.mark.parametrize("name", ["v3-_fields", "v3-https-basic"])
@pytest.mark.parametrize("tongue", [REST], ids=["rest"])
@pytest.mark.usefixtures("tongue")
async def test_a_recorded_list_of_the_api_is_read(shop: ScriptedShop, source: Source, name: str) -> None:
    """They were asked for fewer fields than we ask for; with the others each order can be read."""
    listed = wire.load(f"rest-v3/{name}").response.json()
    shop.on_question(recorded(f"rest-v3/{name}"))
    found = await source.fetch(ASK)
    assert found.shop_time.date() == utc("2026-11-23").date()
    assert [item.id for item in found.items] == [order["id"] for order in listed]
    assert all(isinstance(item, UnreadableOrder) for item in found.items)
    shop.on_question(plain([{**only(FIELDS, RAW), **order} for order in listed]))
    whole = (await source.fetch(ASK)).items
    by_id = {item.id: item for item in whole if isinstance(item, Order)}
    assert len(by_id) == len(listed)
    refunded = next(order for order in listed if order["status"] == "refunded")
    assert by_id[refunded["id"]].refunds == (Refund(refunded["refunds"][0]["id"], refunded["total"]),)


async def test_one_order_that_cannot_be_read_is_set_aside(
    tongue: Tongue, shop: ScriptedShop, source: Source
) -> None:
    shop.on_question(tongue.listing(RAW | {"id": 1}, RAW | {"id": 2, "status": None}, RAW | {"id": 3}))
    one, two, three = (await source.fetch(ASK)).items
    assert isinstance(one, Order)
    assert isinstance(two, UnreadableOrder)
    assert (two.id, two.modified_at) == (2, utc(RAW["date_modified_gmt"]))
    assert isinstance(three, Order)


PHP_NOTICE = "<br />\n<b>Notice</b>:  x[] in <b>/a.php</b> on line <b>3</b><br />\n"


@pytest.mark.parametrize(
    "sent",
    [
        b'[{"id":1,"status":"processing"},{"id":2}][]',  # a plugin's own words after the list
        b'[{"id":1,"status":"processing","refunds":[]',  # cut off
        b'[{"id":1,"status":"processing","refunds":[{"id":9,"total":"-1.00"}]',
        b'<b>Notice</b> [{"id":1,"status":"processing","refunds":[]',
        b'  [{"id":1,"status":"processing","refunds":[]',
        b'{"code":"x","data":[]',
    ],
)
async def test_a_list_that_is_broken_is_not_taken_for_an_empty_one(sent: bytes) -> None:
    """Or the walk would end, and the cursor move beyond what was never read."""
    with scripted_shop(REST.url) as shop:
        shop.on_question(body(sent))
        async with source_of(REST) as source:
            assert (await refused(source, REST)).kind is ErrorKind.PROTOCOL


@pytest.mark.parametrize("listed", [[], [RAW]], ids=["none", "one"])
async def test_noise_before_a_good_answer_is_told(
    tongue: Tongue, shop: ScriptedShop, source: Source, listed: list[dict[str, Any]]
) -> None:
    shop.on_question(tongue.listing(*listed, before=PHP_NOTICE))
    found = await source.fetch(ASK)
    assert len(found.items) == len(listed)
    assert found.preamble == "Notice : x[] in /a.php on line 3"


@pytest.mark.parametrize("tongue", [REST, EXECUTE], ids=lambda t: t.name)
async def test_noise_before_an_error_does_not_hide_it(
    tongue: Tongue, shop: ScriptedShop, source: Source
) -> None:
    shop.on_question(plain(REST_ERROR, before=PHP_NOTICE))
    lasting(ErrorKind.NOT_FOUND, "rest_no_route").check(await refused(source, tongue))


async def test_a_byte_order_mark_is_no_noise(tongue: Tongue, shop: ScriptedShop, source: Source) -> None:
    shop.on_question(tongue.listing(RAW, before="\ufeff"))
    found = await source.fetch(ASK)
    assert len(found.items) == 1
    assert found.preamble == ""


async def test_more_orders_than_asked_for_are_read_too(
    shop: ScriptedShop, source: Source, tongue: Tongue
) -> None:
    """Some shops do not listen; what they send is good all the same, up to a bound."""
    shop.on_question(tongue.listing(*(RAW | {"id": n} for n in range(1, 257))))
    assert [item.id for item in (await source.fetch(Query(per_page=5))).items] == list(range(1, 257))
    shop.on_question(tongue.listing(*({"id": n} for n in range(1, MAX_ROWS + 2))))
    problem = await refused(source, tongue)
    assert problem.kind is ErrorKind.PROTOCOL
    assert f"{MAX_ROWS + 1:,} orders when asked for 100" in str(problem)


async def test_without_the_shops_clock_nothing_is_believed(
    tongue: Tongue, shop: ScriptedShop, source: Source
) -> None:
    shop.on_question(tongue.listing(RAW, date=None))
    problem = await refused(source, tongue)
    assert problem.kind is ErrorKind.PROTOCOL
    assert "Date" in str(problem)


# --- what is answered: errors -------------------------------------------------------------------------------

RECORDED_ERRORS: dict[str, tuple[Tongue, Refusal]] = {
    "rest-v3/v3-https-nokey": (REST, keys_wrong("woocommerce_rest_cannot_view", "consumer key")),
    "rest-v3/v3-http-basic": (REST, keys_wrong("woocommerce_rest_cannot_view", "https")),
    "rest-v3/v3-https-badsecret": (REST, keys_wrong("woocommerce_rest_authentication_error")),
    "rest-v3/v3-baddate": (REST, lasting(ErrorKind.REJECTED, "rest_invalid_param", "modified_after")),
    "rest-v3/v3-perpage101": (REST, lasting(ErrorKind.REJECTED, "rest_invalid_param", "per_page")),
    "execute/seed-execute": (
        EXECUTE,
        lasting(ErrorKind.NOT_FOUND, "rest_no_route", "bridge", "WOOCOMMERCE_MCP_URL"),
    ),
    "execute/seed-body-on-mcp": (EXECUTE, lasting(ErrorKind.REJECTED, "400")),
    "abilities/init-no-auth": (ABILITIES, keys_wrong("rest_forbidden", "application password")),
    "abilities/init-http": (ABILITIES, keys_wrong("rest_forbidden", "https")),
    "abilities/init-wc-keys": (ABILITIES, keys_wrong("invalid_username", "not a consumer key")),
    "abilities/init-wrong-password": (ABILITIES, keys_wrong("incorrect_password")),
    "abilities/query-customer": (ABILITIES, keys_wrong("Permission denied", "may view orders")),
    "abilities/unknown-ability": (
        ABILITIES,
        lasting(ErrorKind.NOT_FOUND, "orders-nope", "MCP Adapter", "WOOCOMMERCE_MCP_URL"),
    ),
    "abilities/unknown-tool": (ABILITIES, lasting(ErrorKind.NOT_FOUND, "-32003", "no-such-tool")),
    "abilities/unknown-method": (ABILITIES, lasting(ErrorKind.NOT_FOUND, "-32601")),
    "abilities/GET": (ABILITIES, lasting(ErrorKind.NOT_FOUND, "405")),
    "abilities/fail-fatal": (ABILITIES, passing(ErrorKind.SERVER, "rig_no_such_function", "PHP error log")),
    "abilities/fail-oom": (ABILITIES, passing(ErrorKind.SERVER, "internal_server_error", "PHP error log")),
    "abilities/maintenance": (ABILITIES, passing(ErrorKind.UNAVAILABLE, "503", retry_after_s=600)),
    "abilities/per101": (ABILITIES, lasting(ErrorKind.REJECTED, "per_page")),
    "abilities/starr": (ABILITIES, lasting(ErrorKind.REJECTED, "status")),
    "abilities/unknown": (ABILITIES, lasting(ErrorKind.REJECTED, "foo")),
    "abilities/no-parameters": (ABILITIES, lasting(ErrorKind.REJECTED, "parameters")),
    "abilities/modified_after-dateonly": (ABILITIES, lasting(ErrorKind.REJECTED, "Invalid date")),
}

LOST = [
    "abilities/unknown-session",  # 404 and -32005
    "abilities/v041-unknown-session",  # 200 and -32602
    "abilities/no-session",  # 400 and -32600
    "abilities/protover-2026-07-28",  # likewise
]
OF_THE_SESSION = [
    "abilities/initialize",
    "abilities/init-2025-03-26",
    "abilities/init-with-foreign-session",
    "abilities/notifications-initialized",
    "abilities/DELETE",
    "abilities/tools-list",
]
NEVER_REQUESTED = ["abilities/ability-info-orders-query", "abilities/discover"]
OTHER_PAGES = [
    *(f"abilities/{name}" for name in COUNTS),
    *("rest-v3/v3-_fields", "rest-v3/v3-https-basic", "abilities/unknown-currency-page"),
]


def test_every_recorded_exchange_is_in_a_table() -> None:
    tables = [*RECORDED_ERRORS, *LOST, *OF_THE_SESSION, *NEVER_REQUESTED, *OTHER_PAGES, *ABILITY_PAGES]
    folders = ("abilities", "rest-v3", "execute")
    assert sorted(tables) == sorted(name for folder in folders for name in wire.names(folder))


@pytest.mark.parametrize(
    ("tongue", "name"), [(tongue, name) for name, (tongue, _) in RECORDED_ERRORS.items()]
)
async def test_a_recorded_error_is_named_and_no_lasting_harm(
    tongue: Tongue, shop: ScriptedShop, source: Source, name: str
) -> None:
    await source.fetch(ASK)
    may_be_lost = tongue.name in WITH_SESSION and wire.load(name).response.status in MAYBE_LOST
    # A source does not retry, but in a new session; and it looks whether an order or the shop is broken.
    times = 2 if may_be_lost or name == "abilities/fail-fatal" else 1
    shop.on_question(*[recorded(name)] * times, tongue.listing(RAW))
    RECORDED_ERRORS[name][1].check(await refused(source, tongue))
    assert len(shop.questions) == 1 + times
    assert len((await source.fetch(ASK)).items) == 1


AT_THE_BEGINNING = [name for name in RECORDED_ERRORS if name.startswith("abilities/init")]


@pytest.mark.parametrize("name", AT_THE_BEGINNING)
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
async def test_a_recorded_error_at_the_beginning_of_a_session_is_named_the_same(
    tongue: Tongue, shop: ScriptedShop, source: Source, name: str
) -> None:
    shop.on("initialize", recorded(name))
    RECORDED_ERRORS[name][1].check(await refused(source, tongue))
    assert shop.methods == ["initialize"]


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
async def test_a_lost_session_is_made_anew_and_the_call_repeated_once(
    tongue: Tongue, shop: ScriptedShop, source: Source, name: str
) -> None:
    shop.on_question(recorded(name), tongue.listing(RAW))
    assert len((await source.fetch(ASK)).items) == 1
    assert shop.methods.count("initialize") == 2
    shop.on_question(recorded(name))
    assert (await refused(source, tongue)).kind is ErrorKind.PROTOCOL
    assert shop.methods[-1] == "DELETE"


@pytest.mark.parametrize("name", ["initialize", "init-2025-03-26"])
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
@pytest.mark.usefixtures("tongue")
async def test_a_recorded_session_is_begun_and_ended(shop: ScriptedShop, source: Source, name: str) -> None:
    begun = wire.load(f"abilities/{name}").response
    shop.on("initialize", recorded(f"abilities/{name}"))
    shop.on("notifications/initialized", recorded("abilities/notifications-initialized"))
    shop.on("DELETE", recorded("abilities/DELETE"))
    await source.fetch(ASK)
    await source.aclose()
    assert shop.methods == ["initialize", "notifications/initialized", "tools/call", "DELETE"]
    for requested in shop.requested[1:]:
        assert requested.session == begun.headers["mcp-session-id"]
        version = requested.request.headers["mcp-protocol-version"]
        assert version == begun.json()["result"]["protocolVersion"]


async def test_a_dialect_without_sessions_just_closes(tongue: Tongue, shop: ScriptedShop) -> None:
    async with source_of(tongue) as source:
        await source.fetch(ASK)
    assert ("DELETE" in shop.methods) is (tongue.name in WITH_SESSION)


CAPTCHA = "<!DOCTYPE html><html><head><title>Один момент…</title></head><body>Вы не робот? []</body></html>"
WAF = passing(ErrorKind.PROTOCOL, "Один момент", "firewall")
PROTOCOL = passing(ErrorKind.PROTOCOL)
REST_ERROR = {"code": "rest_no_route", "message": "Нет маршрута", "data": {"status": 404}}

ANY_DIALECT: dict[str, tuple[Reply, Refusal]] = {
    "captcha, 200": (page(CAPTCHA), WAF),
    "captcha, 202": (page(CAPTCHA, 202), WAF),
    "captcha, 403": (page(CAPTCHA, 403), WAF),
    "captcha that says it is JSON": (body(CAPTCHA), WAF),
    "nothing": (body(b""), passing(ErrorKind.PROTOCOL, "empty")),
    "not UTF-8": (body(b"\xff\xfe\x00\xd8" * 9), PROTOCOL),
    "null": (body(b"null"), PROTOCOL),
    "a number": (body(b"42"), PROTOCOL),
    "words": (body(b'"none"'), PROTOCOL),
    "half a list": (body(b'[{"id":5,"status"'), PROTOCOL),
    "an empty object": (body(b"{}"), PROTOCOL),
    "a list of words": (body(b'["a"]'), PROTOCOL),
    "a million deep": (body(b"[" * 1_000_000), PROTOCOL),
    "objects by the hundred thousand, one in another": (body(b'[{"a":' * 100_000), PROTOCOL),
    "no route": (
        plain(REST_ERROR, status=404),
        lasting(ErrorKind.NOT_FOUND, "rest_no_route", "Нет маршрута"),
    ),
    "no route, as 200": (plain(REST_ERROR), lasting(ErrorKind.NOT_FOUND, "rest_no_route")),
    "nobody's address": (page("<h1>Not Found</h1>", 404), lasting(ErrorKind.NOT_FOUND)),
    "a password before the site": (page("<h1>Who?</h1>", 401), keys_wrong("401")),
    "a redirect": (
        page("", 301, location="https://www.shop.example/"),
        lasting(ErrorKind.NOT_FOUND, "redirect"),
    ),
    "too many": (page("", 429, **{"retry-after": "7"}), passing(ErrorKind.RATE_LIMIT, retry_after_s=7)),
    "too many, in JSON": (
        plain(
            {"code": "too_many", "message": "slow", "data": {"status": 403}},
            status=429,
            headers={"retry-after": "7"},
        ),
        passing(ErrorKind.RATE_LIMIT, retry_after_s=7),
    ),
    "413": (page("too much", 413), lasting(ErrorKind.REJECTED)),
    "500": (page("<p>There has been a critical error</p>", 500), passing(ErrorKind.SERVER, "PHP error log")),
    "502": (page("<h1>Bad Gateway</h1>", 502), passing(ErrorKind.UNAVAILABLE)),
}


@pytest.mark.parametrize("name", ANY_DIALECT)
async def test_an_answer_that_is_none_is_named(
    tongue: Tongue, shop: ScriptedShop, source: Source, name: str
) -> None:
    reply, refusal = ANY_DIALECT[name]
    await source.fetch(ASK)
    shop.on_question(reply)
    refusal.check(await refused(source, tongue))
    status = 404 if name == "no route, as 200" else reply(shop.questions[0]).status_code
    may_be_lost = tongue.name in WITH_SESSION and status in MAYBE_LOST
    assert len(shop.questions) == 1 + (2 if may_be_lost else 1)


FORBIDDEN = {"code": "woocommerce_rest_cannot_view", "message": "Нельзя", "data": {"status": 403}}
NO_LISTS: list[tuple[Tongue, Reply, Refusal]] = [
    (REST, plain({"orders": {}}), passing(ErrorKind.PROTOCOL, "an object instead of a list")),
    (REST, plain({"other": []}), passing(ErrorKind.PROTOCOL, "an object instead of a list")),
    (REST, plain({"data": [], "success": False}), PROTOCOL),
    (REST, plain({"data": [], "errors": ["x"]}), PROTOCOL),
    (REST, plain([5]), PROTOCOL),
    (EXECUTE, plain([]), PROTOCOL),
    (EXECUTE, plain({"data": None}), PROTOCOL),
    (EXECUTE, plain({"data": "none"}), PROTOCOL),
    (EXECUTE, plain({"data": FORBIDDEN}), keys_wrong("cannot_view")),
    (EXECUTE, plain(FORBIDDEN), keys_wrong("cannot_view")),
    *(
        (ABILITIES, answer({"structuredContent": content}), refusal)
        for content, refusal in (
            ({"success": True}, PROTOCOL),
            ({"success": True, "data": []}, PROTOCOL),  # which PHP writes for an empty object, too
            ({"success": True, "data": {"orders": None}}, PROTOCOL),
            ({"success": True, "data": {"orders": "none"}}, PROTOCOL),
            ({"success": True, "data": FORBIDDEN}, keys_wrong("cannot_view")),
            ({"success": True, "data": {"orders": FORBIDDEN}}, keys_wrong("cannot_view")),
            (FORBIDDEN, keys_wrong("cannot_view")),
            ({"success": False, "error": "Permission denied"}, keys_wrong("Permission denied")),
            ({"success": False, "error": {"email": "a@example.org"}}, passing(ErrorKind.SERVER, "nothing")),
            ({"success": False}, passing(ErrorKind.SERVER)),
        )
    ),
]


@pytest.mark.parametrize(("tongue", "reply", "refusal"), NO_LISTS)
async def test_anything_but_a_list_is_an_error(
    tongue: Tongue, shop: ScriptedShop, source: Source, reply: Reply, refusal: Refusal
) -> None:
    shop.on_question(reply)
    refusal.check(await refused(source, tongue))


ADVICE = {
    Dialect.WOOCOMMERCE_MCP: ("consumer key and secret", "has MCP turned on"),
    Dialect.ABILITIES: ("application password", "woocommerce/orders-query"),
    Dialect.REST: ("consumer key and secret", "permalinks"),
    Dialect.EXECUTE: ("consumer key and secret", "bridge"),
}


async def test_the_advice_fits_the_dialect(tongue: Tongue, shop: ScriptedShop, source: Source) -> None:
    for place, status in ((0, 401), (1, 404)):
        shop.on_question(page("no", status))
        told = str(await refused(source, tongue))
        assert ADVICE[tongue.name][place] in told
        others = {words[place] for words in ADVICE.values()} - {ADVICE[tongue.name][place]}
        assert not any(words in told for words in others)


# --- secrets and bounds -------------------------------------------------------------------------------------


async def test_a_page_that_shows_our_own_headers_does_not_make_us_tell_the_secrets(
    tongue: Tongue, shop: ScriptedShop, source: Source
) -> None:
    shown = " | ".join([*tongue.secrets, *tongue.headers.values()])
    for reply in (
        page(shown),
        page(shown, 500),
        error(-32603, shown),
        plain({"code": "x", "message": shown, "data": {"status": 500}}),
        plain({"code": "x", "message": shown.replace("/", "\\/"), "data": {"status": 500}}),
    ):
        shop.on_question(reply)
        assert "***" in str(await refused(source, tongue)) or tongue.name not in WITH_SESSION
    shop.on_question(tongue.listing(RAW, before=shown))
    preamble = (await source.fetch(ASK)).preamble
    assert "***" in preamble
    assert not any(secret in preamble for secret in tongue.secrets)


async def test_a_token_with_a_slash_is_known_as_php_writes_it() -> None:
    password = next(p for n in range(1000) if "/" in token(USER, p := f"pass?word?{n}??~~"))
    written = token(USER, password).replace("/", "\\/")
    with scripted_shop(ABILITIES.url) as shop:
        shop.on_question(body(f'{{"code":"x","message":"{written}","data":{{"status":500}}}}', status=500))
        source = Abilities(ABILITIES.url, username=USER, password=password)
        told = str(await refused(source, replace(ABILITIES, secrets=(token(USER, password), password))))
        await source.aclose()
    assert "x: ***" in told


async def test_a_user_whose_name_is_a_status_is_no_trouble() -> None:
    with scripted_shop(ABILITIES.url) as shop:
        shop.on_question(ABILITIES.listing(RAW))
        source = Abilities(ABILITIES.url, username="processing", password=PASSWORD)
        (item,) = (await source.fetch(ASK)).items
        await source.aclose()
    assert isinstance(item, Order)
    assert item.status == "processing"
    sent = shop.requested[0].request.headers["authorization"].removeprefix("Basic ")
    assert b64decode(sent).decode() == f"processing:{PASSWORD}"


FLAWED: list[tuple[Tongue, Source]] = [
    *(
        (tongue, make(tongue.url, secret))
        for tongue, make in ((MCP, woocommerce_mcp), (REST, rest), (EXECUTE, execute), (ABILITIES, abilities))
        for secret in ("cs_x\n", "cs_\r\nX-Evil: 1", "cs_\x00", "сs_кириллица", "cs_\udce4", "cs_\x7f")
    ),
    (ABILITIES, Abilities(ABILITIES.url, username="a:b", password=PASSWORD)),
    (ABILITIES, Abilities(ABILITIES.url, username="a\nb", password=PASSWORD)),
]


@pytest.mark.parametrize(("tongue", "flawed"), FLAWED)
async def test_credentials_that_cannot_be_right_are_not_sent(
    tongue: Tongue, shop: ScriptedShop, flawed: Source
) -> None:
    problem = await refused(flawed, tongue)
    await flawed.aclose()
    keys_wrong("copy").check(problem)
    assert "cs_" not in str(problem)
    assert ("application password" in str(problem)) is (tongue is ABILITIES)
    assert shop.requested == []


async def test_an_answer_above_32_megabytes_is_not_read_to_its_end(
    tongue: Tongue, shop: ScriptedShop, source: Source
) -> None:
    pieces = Chunks(b"x" * 65536 for _ in range(100_000))  # 6 GB
    shop.on_question(stream(pieces))
    passing(ErrorKind.TOO_LARGE, "32 MB").check(await refused(source, tongue))
    assert pieces.taken < 600
    assert pieces.closed


async def test_an_answer_takes_a_bounded_time_in_all(tongue: Tongue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.1)

    async def serve(_: bytes, writer: Any) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await sleep(0.002)

    async with raw_server(serve) as port, source_of(tongue, f"http://127.0.0.1:{port}/api") as source:
        passing(ErrorKind.TIMEOUT).check(await refused(source, tongue))


async def test_nobody_listening_is_named(tongue: Tongue) -> None:
    async with raw_server(lambda *_: None) as port:  # type: ignore[arg-type] # never called
        pass
    async with source_of(tongue, f"http://127.0.0.1:{port}/api") as source:
        passing(ErrorKind.CONNECTION).check(await refused(source, tongue))


# --- which tools there are ----------------------------------------------------------------------------------

NAMES = json.loads((wire.WIRE / "session/tools-list.json").read_text())["names"]
OFFERS: list[tuple[Tongue, Reply, bool]] = [
    (MCP, answer({"tools": [{"name": name} for name in NAMES]}), True),
    (MCP, recorded("abilities/tools-list"), False),
    (ABILITIES, recorded("abilities/tools-list"), True),
    (ABILITIES, answer({"tools": [{"name": name} for name in NAMES]}), False),
    (MCP, answer({"tools": []}), False),
    (MCP, answer({"tools": [None, 5, {}, {"name": None}, {"name": ["woocommerce-orders-list"]}]}), False),
]


@pytest.mark.parametrize(("tongue", "reply", "offered"), OFFERS)
async def test_an_mcp_endpoint_is_asked_which_tools_it_has(
    shop: ScriptedShop, source: WooCommerceMcp | Abilities, reply: Reply, *, offered: bool
) -> None:
    shop.on("tools/list", reply)
    assert await source.offered() is offered
    assert "params" not in shop.requested[-1].json
    assert shop.requested[-1].session == "session-1"


def tools_page(*names: str, following: object) -> Reply:
    return answer({"tools": [{"name": name} for name in names], "nextCursor": following})


@pytest.mark.parametrize("tongue", [MCP], ids=["woocommerce-mcp"])
@pytest.mark.usefixtures("tongue")
async def test_a_long_list_of_tools_is_read_page_by_page(shop: ScriptedShop, source: WooCommerceMcp) -> None:
    shop.on(
        "tools/list", tools_page("a", following="two"), tools_page("woocommerce-orders-list", following="")
    )
    assert await source.offered()
    assert [requested.json.get("params") for requested in shop.requested[-2:]] == [None, {"cursor": "two"}]
    shop.on("tools/list", tools_page("a", following="again"))
    assert not await source.offered()
    assert shop.methods.count("tools/list") == 2 + MAX_TOOL_PAGES
    shop.on("tools/list", tools_page("a", following="x" * 5000))
    assert not await source.offered()
    assert shop.methods.count("tools/list") == 3 + MAX_TOOL_PAGES


@pytest.mark.parametrize(
    ("reply", "refusal"),
    [
        (answer({"tools": {"a": 1}}), PROTOCOL),
        (answer([]), PROTOCOL),
        (recorded("abilities/init-wrong-password"), keys_wrong("incorrect_password")),
        (plain(REST_ERROR, status=404), lasting(ErrorKind.NOT_FOUND)),
        (page(CAPTCHA), WAF),
    ],
)
@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
@pytest.mark.usefixtures("tongue")
async def test_a_list_of_tools_that_is_none_is_an_error(
    shop: ScriptedShop, source: Abilities, reply: Reply, refusal: Refusal
) -> None:
    shop.on("tools/list", reply)
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.offered()
    refusal.check(caught.value)


@pytest.mark.parametrize("tongue", [ABILITIES], ids=["abilities"])
@pytest.mark.usefixtures("tongue")
async def test_a_session_lost_before_the_list_of_tools_is_made_anew(
    shop: ScriptedShop, source: Abilities
) -> None:
    shop.on("tools/list", recorded("abilities/unknown-session"), recorded("abilities/tools-list"))
    assert await source.offered()
    assert shop.methods.count("initialize") == 2


def test_how_many_can_be_asked_for_by_id_is_said() -> None:
    assert {name: tongue.make(tongue.url).most_ids for name, tongue in TONGUES.items()} == {
        Dialect.WOOCOMMERCE_MCP: 100,
        Dialect.ABILITIES: 1,
        Dialect.REST: 100,
        Dialect.EXECUTE: 100,
    }
