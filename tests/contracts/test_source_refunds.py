"""The shop's list of refunds: what is asked, and what is made of whatever is answered."""

import json
import traceback
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.refunds import RefundPage, RefundQuery, RefundRow
from shop_poller.sources.woocommerce import open_refunds
from shop_poller.sources.woocommerce.dialects import KnownKeys
from shop_poller.sources.woocommerce.refunds import MAX_ROWS, RestRefunds, _rows
from shop_poller.sources.woocommerce.rest_endpoint import MAX_IDS_IN_ADDRESS
from support.scripted_shop import KEY, SECRET, Reply, ScriptedShop, body, page, scripted_shop

pytestmark = pytest.mark.anyio

URL = "https://shop.example/wp-json/wc/v3/refunds"
NINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
ROW = {"id": 7, "parent_id": 3, "date_created_gmt": "2026-11-23T09:00:00"}
GOOD = RefundRow(7, 3, NINE)
ODD_DATES: list[object] = [
    None,
    "",
    False,
    0,
    [],
    {},
    "0000-00-00T00:00:00",
    "-0001-11-30T00:00:00",
    "soon",
    "9" * 99,
]


def listing(content: object, **headers: str) -> Reply:
    return body(json.dumps(content), headers=headers)


async def requested(
    reply: Reply, query: RefundQuery | None = None, *, url: str = URL
) -> tuple[RefundPage, ScriptedShop]:
    """What one question brings, and the shop that was asked it."""
    with scripted_shop(url) as shop:
        shop.on_question(reply)
        refunds = RestRefunds(url, consumer_key=KEY, consumer_secret=SECRET)
        try:
            return await refunds.fetch(query or RefundQuery(NINE)), shop
        finally:
            await refunds.aclose()


async def test_three_fields_of_what_came_after_an_instant_are_requested_oldest_first() -> None:
    _, shop = await requested(listing([]), RefundQuery(NINE, frozenset({9, 7})))
    (one,) = shop.requested
    assert one.request.method == "GET"
    assert parse_qs(urlsplit(str(one.request.url)).query) == {
        "per_page": ["100"],
        "orderby": ["date"],
        "order": ["asc"],
        "dates_are_gmt": ["true"],
        "after": ["2026-11-23T09:00:00"],
        "exclude": ["7,9"],
        "_fields": ["id,parent_id,date_created_gmt"],
    }
    token = b64encode(f"{KEY}:{SECRET}".encode()).decode()
    assert one.request.headers["authorization"] == f"Basic {token}"


async def test_many_ids_go_into_a_body_and_it_is_a_get_all_the_same() -> None:
    """WooCommerce repeats the address in a header; nginx refuses a long one with 502."""
    few, many = frozenset(range(1, MAX_IDS_IN_ADDRESS + 1)), frozenset(range(1, MAX_IDS_IN_ADDRESS + 2))
    _, shop = await requested(listing([]), RefundQuery(NINE, few))
    assert shop.requested[0].request.method == "GET"
    _, shop = await requested(listing([]), RefundQuery(NINE, many))
    (one,) = shop.requested
    assert one.request.method == "POST"
    assert parse_qs(urlsplit(str(one.request.url)).query) == {"_method": ["GET"]}
    assert one.json["exclude"] == sorted(many)
    assert one.json["after"] == "2026-11-23T09:00:00"


async def test_plain_permalinks_keep_their_own_query() -> None:
    url = "https://shop.example/?rest_route=/wc/v3/refunds&via=wp-json/wc/"
    _, shop = await requested(listing([]), url=url)
    query = parse_qs(urlsplit(str(shop.requested[0].request.url)).query)
    assert query["rest_route"] == ["/wc/v3/refunds"]
    assert query["via"] == ["wp-json/wc/"]
    assert query["per_page"] == ["100"]


async def test_what_the_shop_counts_comes_with_the_rows() -> None:
    found, _ = await requested(listing([ROW], **{"X-WP-Total": "260", "X-WP-TotalPages": "3"}))
    assert found == RefundPage([GOOD], total=260, total_pages=3)
    found, _ = await requested(listing([ROW], **{"X-WP-Total": "many"}))
    assert found == RefundPage([GOOD])


async def test_a_connection_that_was_let_go_is_opened_again() -> None:
    with scripted_shop(URL) as shop:
        shop.on_question(listing([ROW]))
        refunds = RestRefunds(URL, consumer_key=KEY, consumer_secret=SECRET)
        for _ in range(2):
            assert (await refunds.fetch(RefundQuery(NINE))).rows == [GOOD]
            await refunds.aclose()
        await refunds.aclose()
    assert len(shop.requested) == 2


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ROW, GOOD),
        ({**ROW, "id": "7", "parent_id": "3"}, GOOD),
        ({**ROW, "date_created_gmt": "2026-11-23 09:00:00"}, GOOD),
        ({**ROW, "date_created_gmt": "2026-11-23T09:00:00.999"}, GOOD),
        ({**ROW, "date_created_gmt": "2026-11-23T12:00:00+03:00"}, GOOD),
        ({**ROW, "date_created_gmt": " 2026-11-23T09:00:00Z "}, GOOD),
        ({**ROW, "amount": [], "meta_data": {"0": None}, "reason": {"x": 1}}, GOOD),
        *(({**ROW, "date_created_gmt": odd}, RefundRow(7, 3, None)) for odd in ODD_DATES),
        ({"id": 7, "parent_id": 3}, RefundRow(7, 3, None)),
        ({**ROW, "date_created_gmt": "9999-12-31T23:59:59-23:00"}, RefundRow(7, 3, None)),
    ],
)
async def test_a_row_is_read_as_far_as_it_can_be(row: object, expected: RefundRow) -> None:
    found, _ = await requested(listing([row]))
    assert found.rows == [expected]


NO_ROWS: list[object] = [
    None,
    5,
    "x",
    [],
    {},
    {"id": 7},
    {"parent_id": 3},
    {**ROW, "id": -7},
    {**ROW, "id": True},
    {**ROW, "parent_id": 0},
    {**ROW, "id": 2**63},
    {**ROW, "id": "7a"},
    {**ROW, "parent_id": 3.5},
]


@pytest.mark.parametrize("odd", NO_ROWS, ids=str)
async def test_a_row_that_points_at_nothing_is_passed_by(odd: object) -> None:
    found, _ = await requested(listing([odd, ROW]))
    assert found.rows == [GOOD]


@pytest.mark.parametrize(
    "content",
    [[ROW], {"0": ROW}, {"4": ROW}, {"data": [ROW]}, {"refunds": {"2": ROW}}, {"data": {"items": [ROW]}}],
    ids=str,
)
async def test_a_list_is_found_in_whatever_it_is_wrapped(content: object) -> None:
    found, _ = await requested(listing(content))
    assert found.rows == [GOOD]


async def test_rows_beyond_all_bounds_are_not_read() -> None:
    found, _ = await requested(listing([{**ROW, "id": n} for n in range(1, MAX_ROWS + 50)]))
    assert len(found.rows) == MAX_ROWS


@pytest.mark.parametrize(
    ("reply", "error", "kind"),
    [
        (
            body('{"code":"rest_no_route","message":"","data":{"status":404}}', status=404),
            PermanentError,
            ErrorKind.NOT_FOUND,
        ),
        (
            body('{"code":"rest_no_route","message":"","data":{"status":404}}'),
            PermanentError,
            ErrorKind.NOT_FOUND,
        ),
        (page("<h1>Not Found</h1>", 404), PermanentError, ErrorKind.NOT_FOUND),
        (page("", 301, location="https://www.shop.example"), PermanentError, ErrorKind.NOT_FOUND),
        (
            body('{"code":"woocommerce_rest_cannot_view","message":""}', status=401),
            PermanentError,
            ErrorKind.AUTHENTICATION,
        ),
        (
            body('{"code":"woocommerce_rest_cannot_view","message":""}', status=403),
            PermanentError,
            ErrorKind.AUTHENTICATION,
        ),
        (body('{"code":"rest_invalid_param","message":""}', status=400), PermanentError, ErrorKind.REJECTED),
        (page("blocked", 403), TemporaryError, ErrorKind.PROTOCOL),
        (page("Are you human?"), TemporaryError, ErrorKind.PROTOCOL),
        (body(""), TemporaryError, ErrorKind.PROTOCOL),
        (body("null"), TemporaryError, ErrorKind.PROTOCOL),
        (body('{"a": 1}'), TemporaryError, ErrorKind.PROTOCOL),
        (body("[1, 2]"), TemporaryError, ErrorKind.PROTOCOL),
        (body('[{"id": 7, "par'), TemporaryError, ErrorKind.PROTOCOL),
        (page("", 503), TemporaryError, ErrorKind.UNAVAILABLE),
        (page("", 429), TemporaryError, ErrorKind.RATE_LIMIT),
        (page("", 500), TemporaryError, ErrorKind.SERVER),
    ],
)
async def test_anything_else_is_an_error_with_a_name(
    reply: Reply, error: type[ShopPollerError], kind: ErrorKind
) -> None:
    with pytest.raises(error) as raised:
        await requested(reply)
    assert raised.value.kind is kind


async def test_no_secret_is_in_an_error() -> None:
    with pytest.raises(ShopPollerError) as raised:
        await requested(page(f"asked with {KEY} and {SECRET}", 500))
    told = "".join(traceback.format_exception(raised.value))
    assert KEY not in told
    assert SECRET not in told


json_like: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["id", "parent_id", "date_created_gmt", "code", "data", "0", "7"])
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(
    content=st.binary(max_size=60) | json_like.map(lambda value: json.dumps(value).encode()),
    status=st.sampled_from([200, 200, 201, 204, 302, 400, 401, 404, 429, 500, 503]),
)
def test_whatever_is_answered_it_is_rows_or_an_error_of_ours(*, content: bytes, status: int) -> None:
    try:
        rows = _rows(status, {}, content)
    except (TemporaryError, PermanentError):
        return
    assert all(row.id > 0 and row.order_id > 0 for row in rows)


@pytest.mark.parametrize(
    ("url", "where"),
    [
        ("https://shop.example", "https://shop.example/wp-json/wc/v3/refunds"),
        ("https://shop.example/wp-json/woocommerce/mcp", "https://shop.example/wp-json/wc/v3/refunds"),
        ("https://shop.example/shop/wp-json/wc/v3/orders", "https://shop.example/shop/wp-json/wc/v3/refunds"),
        (
            "https://shop.example/?rest_route=/woocommerce/mcp",
            "https://shop.example/?rest_route=/wc/v3/refunds",
        ),
        ("https://shop.example/execute", "https://shop.example/wp-json/wc/v3/refunds"),
    ],
)
async def test_it_is_where_the_rest_api_is_whatever_dialect_the_address_names(url: str, where: str) -> None:
    refunds = open_refunds(url, KnownKeys(consumer_key=KEY, consumer_secret=SECRET))
    assert refunds is not None
    with scripted_shop(where) as shop:
        shop.on_question(listing([ROW]))
        assert (await refunds.fetch(RefundQuery(NINE))).rows == [GOOD]
        await refunds.aclose()
