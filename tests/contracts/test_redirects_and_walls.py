"""What a person reads when a shop redirects, or when something else answers in its place."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import httpx
import pytest
import respx

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Query
from shop_poller.ports import Source
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys
from shop_poller.sources.woocommerce.walls import LOOKED_AT, WALLS, wall_of
from support.scripted_shop import DATE, KEY, SECRET

pytestmark = pytest.mark.anyio

SITE = "https://shop.example"
API = f"{SITE}/wp-json/wc/v3/orders"
ASK = Query(per_page=100)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def shop(
    serve: Callable[[httpx.Request], httpx.Response], dialect: Dialect = Dialect.REST, url: str = SITE
) -> AsyncIterator[Source]:
    with respx.mock(assert_all_called=False) as mock:
        mock.route().mock(side_effect=serve)
        source = open_source(dialect, url, KnownKeys(KEY, SECRET, "anna", "abcd efgh ijkl mnop"))
        yield source
        await source.aclose()


async def refused(
    response: httpx.Response, dialect: Dialect = Dialect.REST, url: str = SITE
) -> tuple[ShopPollerError, list[httpx.Request]]:
    requested: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        return response

    async with shop(serve, dialect, url) as source:
        with pytest.raises((TemporaryError, PermanentError)) as caught:
            await source.fetch(ASK)
    text = str(caught.value)
    assert text.isprintable()
    assert len(text) < 600
    assert KEY not in text
    assert SECRET not in text
    return caught.value, requested


def to(location: str, status: int = 301, **headers: str) -> httpx.Response:
    return httpx.Response(
        status, headers={"Location": location, "Date": DATE, **headers}, text="<p>Moved</p>"
    )


# --- Redirects ---


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("dialect", Dialect)
async def test_the_error_has_the_address_to_use_and_the_keys_go_nowhere(
    dialect: Dialect, status: int
) -> None:
    requested: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        return to(f"https://www.shop.example{request.url.path}?token=hunter2", status)

    async with shop(serve, dialect) as source:
        with pytest.raises(PermanentError) as caught:
            await source.fetch(ASK)
    path = requested[0].url.path
    assert caught.value.kind is ErrorKind.NOT_FOUND
    assert f"; set WOOCOMMERCE_MCP_URL=https://www.shop.example{path}" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert {request.url.host for request in requested} == {"shop.example"}


@pytest.mark.parametrize(
    ("location", "words"),
    [
        (
            f"{SITE}/en/wp-json/wc/v3/orders",
            "exclude /wp-json/ in the plugin for languages, or set",
        ),
        ("/wp-login.php?redirect_to=x", "its page to sign in; a plugin hides the shop from visitors"),
        (
            "http://shop.example/wp-json/wc/v3/orders",
            "which is not encrypted, and keys are not sent like that",
        ),
        ("/", "which is not its API; check WOOCOMMERCE_MCP_URL"),
        ("", "the shop redirects elsewhere (HTTP 301), and the redirect has no usable address"),
        (f"{API}?per_page=100&x=y", "the address that was asked: a loop, or a firewall that requires"),
    ],
)
async def test_what_cannot_be_a_setting_says_what_to_do_instead(location: str, words: str) -> None:
    error, _ = await refused(to(location))
    assert error.kind is ErrorKind.NOT_FOUND
    assert words in str(error)


async def test_a_page_of_maintenance_is_an_outage() -> None:
    error, _ = await refused(to("/maintenance/", 302, **{"Retry-After": "30"}))
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.UNAVAILABLE
    assert error.retry_after_s == 30
    assert "looks like a page for maintenance" in str(error)


async def test_our_own_secrets_are_not_shown_though_the_shop_repeats_them() -> None:
    for secret in (KEY, SECRET):
        error, _ = await refused(to(f"/wp-json/wc/v3/orders/{secret}/x"))
        assert "***" in str(error)


async def test_a_redirect_without_an_address_is_one() -> None:
    error, _ = await refused(httpx.Response(304, headers={"Date": DATE}))
    assert "no usable address" in str(error)


async def test_a_shop_that_wants_a_cookie_is_given_it_once() -> None:
    requested: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        if "wall=passed" in request.headers.get("cookie", ""):
            return httpx.Response(200, json=[], headers={"Date": DATE})
        return to(str(request.url), 307, **{"Set-Cookie": "wall=passed; Path=/"})

    async with shop(serve) as source:
        assert (await source.fetch(ASK)).items == ()
        await source.fetch(ASK)
    assert len(requested) == 3
    assert len({str(request.url) for request in requested}) == 1


async def test_a_wall_that_no_cookie_opens_is_a_loop() -> None:
    requested: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        requested.append(request)
        return to(str(request.url), 302, **{"Set-Cookie": "a=b"})

    async with shop(serve) as source:
        with pytest.raises(PermanentError, match="a loop, or a firewall that requires cookies"):
            await source.fetch(ASK)
    assert len(requested) == 2


async def test_an_api_that_is_elsewhere_is_named_by_what_wordpress_says_of_it() -> None:
    link = '<https://shop.example/api/>; rel="https://api.w.org/", <https://x.example/>; rel="alternate"'
    page = httpx.Response(404, headers={"Date": DATE, "Link": link}, text="<h1>Nothing here</h1>")
    error, _ = await refused(page)
    assert "the shop says that its API is at https://shop.example/api/" in str(error)
    for odd in ("<javascript:x>; rel=x", '<https://[>; rel="https://api.w.org/"', "<" * 9999):
        await refused(httpx.Response(404, headers={"Date": DATE, "Link": odd}, text="Nothing"))


# --- Walls ---

CF = {"Server": "cloudflare"}
JUST = "<html><head><title>Just a moment...</title></head><body>Enable JavaScript</body></html>"
SIGNS = [
    (403, CF | {"cf-mitigated": "challenge"}, JUST, "Cloudflare asks for a browser"),
    (503, CF | {"CF-Mitigated": "Challenge"}, "", "Cloudflare asks for a browser"),
    (503, CF, JUST, "Cloudflare asks for a browser"),
    (200, CF, JUST, "Cloudflare asks for a browser"),
    (403, {}, "<script>window._cf_chl_opt={}</script>", "Cloudflare asks for a browser"),
    (403, CF, "error code: 1020", "Cloudflare blocks us"),
    (403, CF, "<h1>Sorry, you have been blocked</h1>", "Cloudflare blocks us"),
    (403, {}, "<h1>Access Denied - Sucuri Website Firewall</h1>", "Sucuri"),
    (403, {"X-Sucuri-Block": "IPBLOCK"}, "denied", "Sucuri"),
    (503, {}, "<p>Generated by Wordfence at Mon, 23 Nov</p>", "Wordfence"),
    (202, {"SG-Captcha": "challenge"}, "", "SiteGround"),
    (202, {}, '<meta http-equiv="refresh" content="0;/.well-known/sgcaptcha/?r=%2F">', "SiteGround"),
    (200, {"Server": "imunify360-webshield/1.21"}, "<title>One moment, please...</title>", "Imunify360"),
    (415, {}, '{"message":"Access denied by Imunify360 bot-protection."}', "Imunify360"),
    (406, {}, "<h1>Not Acceptable!</h1><p>This error was generated by Mod_Security.</p>", "ModSecurity"),
    (405, {"x-amzn-waf-action": "captcha"}, "", "AWS WAF"),
    (202, {"x-amzn-waf-action": "challenge"}, "", "AWS WAF"),
    (200, {}, '<iframe src="/_Incapsula_Resource?x=1">Request unsuccessful.</iframe>', "Imperva"),
]


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize(("status", "headers", "page", "name"), SIGNS)
async def test_a_wall_is_named_with_what_to_let_pass(
    status: int, headers: dict[str, str], page: str, name: str, dialect: Dialect
) -> None:
    error, _ = await refused(httpx.Response(status, headers={"Date": DATE, **headers}, text=page), dialect)
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.PROTOCOL
    assert name in str(error)
    assert f"HTTP {status}; " in str(error)
    if name.startswith("Cloudflare"):
        assert "action Skip" in str(error)
        assert "/wp-json/" in str(error)
        assert "shop-poller/" in str(error)


@pytest.mark.parametrize(
    ("status", "headers", "page"),
    [
        (403, CF, "<h1>Forbidden</h1>"),
        (503, CF, "<h1>Briefly unavailable for scheduled maintenance.</h1>"),
        (404, CF, "<script src='/cdn-cgi/challenge-platform/scripts/jsd/main.js'></script><h1>No</h1>"),
        (403, {}, "<title>Just a moment...</title>"),
        (406, {}, "<h1>Not Acceptable</h1>"),
        (403, {"X-Sucuri-ID": "19001"}, "<h1>Forbidden</h1>"),
        (404, {"Server": "ddos-guard"}, "<h1>Not found</h1>"),
        (200, {}, "<script src='https://fd.cleantalk.org/ct-bot-detector-wrapper.js'></script>"),
    ],
)
async def test_what_is_no_clear_sign_names_nobody(status: int, headers: dict[str, str], page: str) -> None:
    assert wall_of(httpx.Headers(headers), page.encode()) is None
    error, _ = await refused(httpx.Response(status, headers={"Date": DATE, **headers}, text=page))
    assert not any(wall.name in str(error) for wall in WALLS)


async def test_signs_are_looked_for_in_the_beginning_of_a_page_only() -> None:
    page = b"x" * LOOKED_AT + b"<p>Generated by Wordfence</p>"
    assert wall_of({}, page) is None


async def test_too_many_requests_stay_that_whoever_says_so() -> None:
    limited = httpx.Response(
        429, headers={"Date": DATE, "Retry-After": "7", **CF, "cf-mitigated": "challenge"}
    )
    error, _ = await refused(limited)
    assert isinstance(error, TemporaryError)
    assert (error.kind, error.retry_after_s) == (ErrorKind.RATE_LIMIT, 7)


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("status", [520, 521, 522, 523, 524, 525, 526, 527, 530])
async def test_what_cloudflare_says_of_a_server_that_is_down_is_an_outage(
    status: int, dialect: Dialect
) -> None:
    down = httpx.Response(status, headers={"Date": DATE, "Retry-After": "60", **CF}, text="error code: 5")
    error, _ = await refused(down, dialect)
    assert isinstance(error, TemporaryError)
    assert (error.kind, error.retry_after_s) == (ErrorKind.UNAVAILABLE, 60)
    assert f"HTTP {status}: " in str(error)
    assert "updated" not in str(error)


def test_every_wall_says_what_it_is_by() -> None:
    for wall in WALLS:
        assert wall.headers or wall.page
        assert replace(wall, advice="").name
        assert 10 < len(wall.advice) < 250
