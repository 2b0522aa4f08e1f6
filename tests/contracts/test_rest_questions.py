"""How `rest` asks when the question is long, when POST is refused, and where wp-json has another name."""

import json
import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
import respx

from shop_poller.config.loader import load
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Query
from shop_poller.runtime.factory import make_source
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce import open_source, rest
from shop_poller.sources.woocommerce.auto import Auto
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys
from shop_poller.sources.woocommerce.rest import Rest
from shop_poller.sources.woocommerce.rest_endpoint import MAX_IDS_IN_ADDRESS
from support import wire
from support.deliveries import T0
from support.scripted_shop import DATE, KEY, SECRET

pytestmark = pytest.mark.anyio

DATA = Path(__file__).parents[1] / "data"
URL = "https://shop.example/wp-json/wc/v3/orders"
RAW = wire.orders_by_status()["processing, partly refunded"]
WALK = Query(per_page=100, modified_after=T0)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Nginx:
    """A shop with many orders in one second, behind a server that has rules of its own.

    Attributes:
        post: answers a POST in the shop's place; None lets it through.
        get: likewise, a GET.
        strips_bodies: of a POST nothing arrives but the head.
        strips_queries: of an address nothing arrives but the path.
        cap: orders that a page has at most.
    """

    orders: Sequence[int] = range(1000, 1200)
    post: Callable[[], httpx.Response] | None = None
    get: Callable[[], httpx.Response] | None = None
    strips_bodies: bool = False
    strips_queries: bool = False
    cap: int = 100
    requested: list[httpx.Request] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requested.append(request)
        query = {} if self.strips_queries else dict(parse_qsl(urlsplit(str(request.url)).query))
        if request.method == "POST":
            if self.post is not None:
                return self.post()
            if query.pop("_method", "") != "GET":
                return answer(201, {"id": 9999, "status": "pending"})
            query = query if self.strips_bodies else {**query, **json.loads(request.content)}
        elif self.get is not None:
            return self.get()
        else:
            ids = len(query.get("exclude", query.get("include", "")).split(","))
            if ids * 24 > 3500:
                return httpx.Response(502, text="<title>502 Bad Gateway</title>")
        return self.listed(query)

    def listed(self, query: dict[str, Any]) -> httpx.Response:
        without, only = numbers(query.get("exclude")), numbers(query.get("include"))
        found = [n for n in self.orders if n not in without and (not only or n in only)]
        size = min(int(query.get("per_page", 10)), self.cap)
        begin = size * (int(query.get("page", 1)) - 1)
        rows = [dict(RAW, id=n) for n in found[begin : begin + size]]
        if "_fields" in query:
            rows = [{k: v for k, v in row.items() if k in query["_fields"]} for row in rows]
        return answer(200, rows)

    @property
    def methods(self) -> list[str]:
        return [request.method for request in self.requested]


def numbers(ids: object) -> set[int]:
    return {int(n) for n in (ids.split(",") if isinstance(ids, str) else ids or ())}  # type: ignore[attr-defined]


def answer(status: int, content: object) -> httpx.Response:
    return httpx.Response(status, json=content, headers={"Date": DATE})


def refusing(status: int, text: str = "<h1>no</h1>", **headers: str) -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, text=text, headers={"Date": DATE, **headers})


@asynccontextmanager
async def asking(server: Nginx, url: str = URL) -> AsyncIterator[Rest]:
    with respx.mock(assert_all_called=False) as mock:
        mock.route(url__startswith="https://shop.example/").mock(side_effect=server)
        source = Rest(url, consumer_key=KEY, consumer_secret=SECRET)
        yield source
        await source.aclose()


def ids(page: Any) -> list[int]:
    return [item.id for item in page.items]


REFUSALS = {
    "405": refusing(405),
    "403 of a firewall": refusing(403),
    "403 of a plugin": refusing(403, '{"code":"rest_forbidden","message":"no","data":{"status":403}}'),
    "401 to a key that may only read": refusing(
        401, '{"code":"woocommerce_rest_cannot_create","message":"no","data":{"status":401}}'
    ),
    "404": refusing(404),
    "411": refusing(411),
    "413": refusing(413),
    "501": refusing(501),
    "400": refusing(400),
    "a page": refusing(200, "<html>Just a moment...</html>"),
    "a redirect": refusing(301, "", Location="https://shop.example/"),
    "nothing": lambda: (_ for _ in ()).throw(httpx.ReadError("reset")),
}


# --- When to post ---


@pytest.mark.parametrize("count", [0, 1, 49, 50, 51, 144, 145, 156, 1000])
async def test_from_fifty_ids_on_the_question_is_posted_as_a_get(count: int) -> None:
    server = Nginx(range(1000, 3000))
    async with asking(server) as source:
        page = await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1000 + count))))
    assert ids(page) == list(range(1000 + count, 1100 + count))
    (request,) = server.requested
    query = dict(parse_qsl(urlsplit(str(request.url)).query))
    assert request.method == ("GET" if count < 50 else "POST")
    assert (query == {"_method": "GET"}) is (count >= 50)  # or it would make an order
    assert str(request.url).count(",") < 100


async def test_requested_ids_count_as_well() -> None:
    server = Nginx()
    async with asking(server) as source:
        assert len((await source.fetch(replace(WALK, ids=frozenset(range(1000, 1100))))).items) == 100
    assert server.methods == ["POST"]


def test_the_recordings_say_why() -> None:
    recorded = DATA / "wire" / "2026-11"
    for name, status, sent in (
        ("rest-exclude-100-nginx-default-fastcgi-buffer", b"200", b"GET /wp-json/wc/v3/orders?per_page"),
        ("rest-exclude-156-nginx-default-fastcgi-buffer", b"502", b"GET /wp-json/wc/v3/orders?per_page"),
        ("rest-post-method-get", b"200", b"POST /wp-json/wc/v3/orders?_method=GET "),
    ):
        text = (recorded / f"{name}.http").read_bytes()
        assert text.startswith(sent)
        assert b"HTTP/1.1 " + status in text
    assert text.index(b'page=2>; rel="next"') - text.index(b"Link: ") < 100


# --- Where POST does not get through ---


@pytest.mark.parametrize("why", REFUSALS)
async def test_where_post_is_refused_a_walk_goes_on_by_get(why: str) -> None:
    server = Nginx(post=REFUSALS[why])
    async with asking(server) as source:
        page = await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1060))))
        again = await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1060))))
    assert ids(page) == ids(again) == list(range(1060, 1149))
    assert server.methods == ["POST", "GET", "GET"]  # it is remembered
    for request in server.requested[1:]:
        assert (
            len(str(request.url).partition("exclude=")[2].partition("&")[0].split(",")) == MAX_IDS_IN_ADDRESS
        )


@pytest.mark.parametrize("cap", [100, 20, 7])
async def test_where_post_is_refused_a_page_of_what_is_left_out_is_not_the_end(cap: int) -> None:
    server = Nginx(post=refusing(405), cap=cap)
    read: set[int] = set()
    async with asking(server) as source:
        for _ in range(100):
            page = await source.fetch(replace(WALK, exclude=frozenset(read)))
            assert not read & set(ids(page))
            if not page.items:
                break
            read |= set(ids(page))
            assert page.total_pages is None or len(read) <= MAX_IDS_IN_ADDRESS
    assert read == set(server.orders)


async def test_where_post_is_refused_ids_are_requested_in_parts() -> None:
    server = Nginx(post=refusing(403))
    async with asking(server) as source:
        page = await source.fetch(replace(WALK, ids=frozenset(range(1000, 1100))))
    assert sorted(ids(page)) == list(range(1000, 1100))
    assert server.methods == ["POST", "GET", "GET", "GET"]


async def test_a_walk_that_would_look_through_pages_without_end_is_an_error_that_says_what_to_do() -> None:
    server = Nginx(range(1000, 9000), post=refusing(405), cap=20)
    async with asking(server) as source:
        with pytest.raises(TemporaryError, match="allow POST to the shop's API"):
            await source.fetch(replace(WALK, exclude=frozenset(range(1000, 3000))))
    assert len(server.requested) == 1 + rest.MAX_PAGES


async def test_post_is_tried_again_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(rest, "monotonic", lambda: now)
    server = Nginx(post=refusing(405))
    requested = replace(WALK, exclude=frozenset(range(1000, 1060)))
    async with asking(server) as source:
        await source.fetch(requested)
        now += rest.POST_AGAIN_S - 1
        await source.fetch(requested)
        server.post = None
        now += 2
        await source.fetch(requested)
        await source.fetch(requested)
    assert server.methods == ["POST", "GET", "GET", "POST", "POST"]


@pytest.mark.parametrize("status", [429, 502, 503, 504, 521])
async def test_what_speaks_of_the_whole_shop_is_no_reason_to_ask_by_get(status: int) -> None:
    server = Nginx(post=refusing(status))
    async with asking(server) as source:
        with pytest.raises(TemporaryError):
            await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1060))))
    assert server.methods == ["POST"]


@pytest.mark.parametrize("status", [502, 503, 504, 521])
async def test_a_shop_that_seems_to_be_down_to_a_post_gets_a_get_the_second_time(status: int) -> None:
    server = Nginx(post=refusing(status))
    async with asking(server) as source:
        requested = replace(WALK, exclude=frozenset(range(1000, 1060)))
        with pytest.raises(TemporaryError):
            await source.fetch(requested)
        assert ids(await source.fetch(requested))
        assert server.methods[:3] == ["POST", "POST", "GET"]
        before = len(server.methods)
        await source.fetch(requested)
        assert "POST" not in server.methods[before:]


async def test_if_get_is_refused_too_that_is_the_error_and_nothing_is_remembered() -> None:
    async def fetch() -> ShopPollerError:
        with pytest.raises((TemporaryError, PermanentError)) as caught:
            await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1060))))
        return caught.value

    def revoked() -> httpx.Response:
        return answer(401, {"code": "x", "message": "y", "data": {"status": 401}})

    server = Nginx(post=refusing(404), get=revoked)
    async with asking(server) as source:
        assert (await fetch()).kind is ErrorKind.AUTHENTICATION
        assert (await fetch()).kind is ErrorKind.AUTHENTICATION
    assert server.methods == ["POST", "GET"] * 2


async def test_a_body_that_got_lost_is_no_question() -> None:
    server = Nginx(strips_bodies=True)
    async with asking(server) as source:
        page = await source.fetch(replace(WALK, exclude=frozenset(range(5000, 5060))))
    assert len(page.items) == 100
    assert server.methods == ["POST", "GET"]
    async with asking(server) as source:
        page = await source.fetch(replace(WALK, ids=frozenset(range(1100, 1160))))
    assert sorted(ids(page)) == list(range(1100, 1160))


async def test_a_question_that_made_an_order_is_never_posted_again(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(rest, "monotonic", lambda: now)
    server = Nginx(strips_queries=True)
    async with asking(server) as source:
        await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1600))))
        now = math.nextafter(math.inf, 0)
        page = await source.fetch(replace(WALK, exclude=frozenset(range(1000, 1600))))
    assert {*ids(page)} <= {*range(1000, 1600)}  # a shop that ignores what it is asked: the walk judges that
    assert server.methods.count("POST") == 1


# --- Where wp-json has another name, and where it has none ---


def settings(**environ: str) -> Any:
    keys = {"WOOCOMMERCE_CONSUMER_KEY": KEY, "WOOCOMMERCE_CONSUMER_SECRET": SECRET}
    return load(None, environ={**keys, **environ}, dotenv=Path("/nowhere/.env"), parse_sink=parse_sink)


async def test_the_case_rest_prefix_is_requested_at_its_own_address() -> None:
    lines = (DATA / "cases" / "rest-prefix" / "settings.env").read_text().split()
    source = make_source(settings(**dict(line.split("=", 1) for line in lines)))
    server = Nginx()
    with respx.mock as mock:
        mock.route().mock(side_effect=server)
        await source.fetch(WALK)
    await source.aclose()
    assert str(server.requested[0].url).startswith("https://shop.example/api/wc/v3/orders?")
    assert server.requested[0].method == "GET"


@pytest.mark.parametrize(
    ("given", "requested"),
    [
        ("/api/wc/v3/orders", "/api/wc/v3/orders?per_page="),
        ("/api/wc/v3/orders/", "/api/wc/v3/orders/?per_page="),
        ("/api/wc/v3/", "/api/wc/v3/orders?per_page="),
        ("/api/wc/v2/orders", "/api/wc/v3/orders?per_page="),
        ("/api/woocommerce/mcp", "/api/wc/v3/orders?per_page="),
        ("/shop/rest/mcp/mcp-adapter-default-server", "/shop/rest/wc/v3/orders?per_page="),
        ("/index.php/api/wc/v3/orders", "/index.php/api/wc/v3/orders?per_page="),
        ("/index.php/wp-json/", "/index.php/wp-json/wc/v3/orders?per_page="),
        ("/API/WC/V3/Orders?lang=ru", "/API/WC/V3/Orders?lang=ru&per_page="),
        ("/wc-api/v3/orders", "/wp-json/wc/v3/orders?per_page="),
        ("/wc/v3/orders", "/wc/v3/orders?per_page="),
        ("/?rest_route=/", "/?rest_route=/wc/v3/orders&via=wp-json/wc/&per_page="),
        ("/?rest_route=/wc/v3/orders", "/?rest_route=/wc/v3/orders&via=wp-json/wc/&per_page="),
        ("/?rest_route=%2Fwc%2Fv3%2Forders", "/?rest_route=%2Fwc%2Fv3%2Forders&via=wp-json/wc/&per_page="),
        ("/blog/index.php?rest_route=/woocommerce/mcp",
         "/blog/index.php?rest_route=/wc/v3/orders&via=wp-json/wc/&per_page="),
        ("/?rest_route=/wc/v3/orders&via=wp-json/wc/",
         "/?rest_route=/wc/v3/orders&via=wp-json/wc/&per_page="),
    ],
)  # fmt: skip
async def test_the_dialect_rest_asks_where_the_address_says(given: str, requested: str) -> None:
    server = Nginx()
    with respx.mock as mock:
        mock.route().mock(side_effect=server)
        source = open_source(Dialect.REST, f"https://shop.example{given}", KnownKeys(KEY, SECRET))
        await source.fetch(WALK)
        await source.aclose()
    assert str(server.requested[0].url).startswith(f"https://shop.example{requested}")


async def test_the_dot_at_the_end_of_a_host_is_not_sent() -> None:
    server = Nginx()
    with respx.mock as mock:
        mock.route().mock(side_effect=server)
        source = open_source(Dialect.REST, "https://shop.example.:8443/", KnownKeys(KEY, SECRET))
        await source.fetch(WALK)
        await source.aclose()
    (request,) = server.requested
    assert (request.url.host, request.headers["host"]) == ("shop.example", "shop.example:8443")


@pytest.mark.parametrize(
    ("given", "kept"),
    [("/api/wc/v3/orders", "/api/wc/v3/orders"), ("/api/woocommerce/mcp", "/api/wc/v3/orders")],
)
async def test_auto_finds_the_other_dialects_by_the_same_name_of_wp_json(given: str, kept: str) -> None:
    source = make_source(settings(WOOCOMMERCE_MCP_URL=f"https://shop.example{given}"))
    assert isinstance(source, Auto)
    requested: list[str] = []

    def server(request: httpx.Request) -> httpx.Response:
        requested.append(request.url.path)
        if request.url.path != kept:
            return answer(404, {"code": "rest_no_route", "message": "x", "data": {"status": 404}})
        return answer(200, [])

    with respx.mock as mock:
        mock.route().mock(side_effect=server)
        await source.fetch(WALK)
        await source.aclose()
    assert source.choice is None  # let go of; it was found
    assert requested[0] == given
    assert requested[-1] == kept


def test_the_recording_of_plain_permalinks_says_why() -> None:
    text = (DATA / "wire/2026-11/rest-plain-permalinks-rest_route.http").read_text()
    assert text.startswith("GET /?rest_route=/wc/v3/orders&per_page=1 ")
    assert "HTTP/1.1 401" in text
