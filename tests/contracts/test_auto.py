"""`auto`: which dialect it chooses, that it keeps to it, and when it chooses anew."""

from collections.abc import Iterator

import anyio
import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Order, Page, Query
from shop_poller.simulator import faults
from shop_poller.simulator.keys import ApiKey, AppPassword
from shop_poller.sources.woocommerce.auto import LATER_S, SOON_S, Auto, ChosenDialect
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys
from support.ability_shop import AbilityShop, raw
from support.auto_shop import BOTH, KEYS, PASSWORD, AutoShop, auto_shop
from support.mcp_peer import ADDRESSES, McpPeer, mcp_peer
from support.scripted_shop import answer, scripted_shop

pytestmark = pytest.mark.anyio

MCP, ABILITIES, REST, EXECUTE = Dialect
ASK = Query(per_page=10)
KEYS_USER = "poller"


@pytest.fixture
def shop() -> Iterator[AutoShop]:
    with auto_shop() as shop:
        shop.endpoint.shop.create_order("processing", total="1930.00")
        yield shop


async def ask(source: Auto) -> Dialect:
    """Ask once; all dialects show the order. Which one was it?"""
    page = await source.fetch(ASK)
    assert [isinstance(item, Order) and item.total for item in page.items] == ["1930.00"]
    assert source.choice is not None
    return source.choice.dialect


async def refused(source: Auto) -> ShopPollerError:
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.fetch(ASK)
    return caught.value


# --- choosing -----------------------------------------------------------------------------------------------

BRIDGE = "https://shop.example/bridge"


@pytest.mark.parametrize(
    ("offers", "credentials", "chosen"),
    [
        ({MCP, ABILITIES, REST}, BOTH, MCP),
        ({ABILITIES, REST}, BOTH, REST),  # it sees what abilities do not
        ({ABILITIES}, BOTH, ABILITIES),
        ({ABILITIES, REST, MCP}, PASSWORD, ABILITIES),
        ({ABILITIES, REST}, KEYS, REST),
        ({EXECUTE}, KEYS, EXECUTE),
        ({EXECUTE, MCP}, KEYS, MCP),
    ],
)
async def test_the_first_that_answers_is_chosen(
    shop: AutoShop, offers: set[Dialect], credentials: KnownKeys, chosen: Dialect
) -> None:
    shop.endpoint.offers = {str(dialect) for dialect in offers}
    source = shop.auto(credentials)
    assert await ask(source) is chosen
    await source.aclose()


@pytest.mark.parametrize("dialect", [MCP, ABILITIES, REST])
async def test_what_the_address_names_comes_first(shop: AutoShop, dialect: Dialect) -> None:
    source = shop.auto(url=shop.endpoint.address(dialect))
    assert await ask(source) is dialect
    await source.aclose()


@pytest.mark.parametrize(
    "url", ["https://shop.example", "https://shop.example/", "https://shop.example/wp-json"]
)
async def test_the_shops_own_address_will_do(shop: AutoShop, url: str) -> None:
    source = shop.auto(url=url)
    assert await ask(source) is MCP
    await source.aclose()


async def test_it_works_with_plain_permalinks(shop: AutoShop) -> None:
    shop.endpoint.shop.plain_permalinks = True
    for offers, chosen in (({MCP}, MCP), ({REST}, REST), ({ABILITIES}, ABILITIES)):
        shop.endpoint.offers = {str(dialect) for dialect in offers}
        source = shop.auto(url="https://shop.example/index.php?rest_route=/woocommerce/mcp")
        assert await ask(source) is chosen
        await source.aclose()


async def test_the_choice_says_what_and_why(shop: AutoShop) -> None:
    source = shop.auto(KEYS)
    await ask(source)
    shop.endpoint.offers -= {MCP}
    await ask(source)
    first, second = shop.choices
    assert first.dialect is MCP
    assert first.why == "it is the first that fits address and keys"
    needs = "needs WORDPRESS_USERNAME and WORDPRESS_APPLICATION_PASSWORD"
    assert first.refused == {ABILITIES: needs}
    assert second.dialect is REST
    assert second.why == "those before it do not answer"
    assert second.refused[ABILITIES] == needs
    assert "rest_no_route" in second.refused[MCP]
    await source.aclose()


async def test_a_dialect_that_refuses_the_key_is_passed_over(shop: AutoShop) -> None:
    shop.endpoint.keys = []
    source = shop.auto()
    assert await ask(source) is ABILITIES
    await source.aclose()


@pytest.mark.parametrize("trouble", [faults.captcha(), faults.php_fatal()], ids=["captcha", "fatal"])
async def test_a_dialect_that_is_in_trouble_is_passed_over_where_another_is_not(
    shop: AutoShop, trouble: faults.Fault
) -> None:
    shop.endpoint.faults.add(trouble, dialects=frozenset({"woocommerce-mcp"}))
    source = shop.auto()
    assert await ask(source) is REST
    await source.aclose()


# --- where none answers -------------------------------------------------------------------------------------


async def test_that_the_keys_are_wrong_is_the_most_telling(shop: AutoShop) -> None:
    shop.endpoint.keys, shop.endpoint.passwords = [], []
    shop.endpoint.offers -= {MCP}
    error = await refused(shop.auto())
    assert error.kind is ErrorKind.AUTHENTICATION
    assert shop.choices == []


async def test_a_shop_without_any_is_told_so(shop: AutoShop) -> None:
    shop.endpoint.offers = set()
    error = await refused(shop.auto())
    assert error.kind is ErrorKind.NOT_FOUND
    assert isinstance(error, PermanentError)
    assert "that WooCommerce is active" in str(error)
    assert "MCP turned on" not in str(error), "the advice fits a shop of any version"


@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (faults.maintenance(), ErrorKind.UNAVAILABLE),
        (faults.rate_limited(), ErrorKind.RATE_LIMIT),
        (faults.bad_gateway(), ErrorKind.UNAVAILABLE),
    ],
    ids=["maintenance", "rate limit", "bad gateway"],
)
async def test_an_outage_of_the_shop_decides_nothing(
    shop: AutoShop, trouble: faults.Fault, kind: ErrorKind
) -> None:
    shop.endpoint.faults.add(trouble)
    source = shop.auto()
    assert (await refused(source)).kind is kind
    assert len(shop.requested) == 1  # the shop is not asked thrice how it does
    shop.endpoint.faults.clear()
    assert await ask(source) is MCP
    await source.aclose()


async def test_no_connection_decides_nothing(shop: AutoShop) -> None:
    shop.down = httpx.ConnectError("refused")
    source = shop.auto()
    assert (await refused(source)).kind is ErrorKind.CONNECTION
    assert len(shop.requested) == 1
    shop.down = None
    assert await ask(source) is MCP
    await source.aclose()


async def test_a_page_at_the_bridges_address_tells_nothing(shop: AutoShop) -> None:
    """Many shops answer any address that they do not know by a page, and HTTP 200."""
    shop.endpoint.offers = {"execute"}
    shop.endpoint.faults.add(faults.captcha(), dialects=frozenset({"execute"}))
    assert (await refused(shop.auto())).kind is ErrorKind.NOT_FOUND


async def test_one_that_is_cut_off_while_it_chooses_ends_its_session(shop: AutoShop) -> None:
    source, scope = shop.auto(), anyio.CancelScope()

    def cut_off(request: httpx.Request) -> None:
        if b"tools/call" in request.content:
            scope.cancel()

    shop.on_request = cut_off
    with scope:
        await source.fetch(ASK)
    assert scope.cancelled_caught
    assert shop.requested[-1] == "DELETE /wp-json/woocommerce/mcp"
    assert shop.endpoint.sessions.of(KEYS_USER) == []


# --- keeping to it, and choosing again ----------------------------------------------------------------------


async def test_it_is_kept_to_without_looking_about(shop: AutoShop) -> None:
    source = shop.auto()
    await ask(source)
    shop.requested.clear()
    for _ in range(5):
        assert await ask(source) is MCP
    assert shop.requested == ["POST /wp-json/woocommerce/mcp"] * 5
    await source.aclose()


async def test_a_shop_that_is_upgraded_overnight_keeps_working(shop: AutoShop) -> None:
    source = shop.auto()
    assert await ask(source) is MCP
    shop.endpoint.offers -= {MCP}
    assert await ask(source) is REST
    shop.endpoint.offers -= {REST}
    assert await ask(source) is ABILITIES
    await source.aclose()


@pytest.mark.parametrize(
    ("first", "tool"), [(MCP, "woocommerce-orders-list"), (ABILITIES, "woocommerce/orders-query")]
)
async def test_a_shop_that_loses_the_tool_is_polled_in_another_dialect(
    shop: AutoShop, first: Dialect, tool: str
) -> None:
    source = shop.auto(url=shop.endpoint.address(first))
    assert await ask(source) is first
    shop.endpoint.lost_tools.add(tool)
    assert await ask(source) is not first
    await source.aclose()


async def test_revoked_keys_are_told_and_no_reason_to_look_for_another_way(shop: AutoShop) -> None:
    source = shop.auto()
    await ask(source)
    shop.endpoint.keys = [ApiKey("ck_other", "cs_other")]
    error = await refused(source)
    assert error.kind is ErrorKind.AUTHENTICATION
    assert [choice.dialect for choice in shop.choices] == [MCP]
    await source.aclose()


async def test_while_all_is_gone_it_goes_on_looking(shop: AutoShop) -> None:
    source = shop.auto()
    await ask(source)
    offers, shop.endpoint.offers = shop.endpoint.offers, set()
    for _ in range(2):
        assert (await refused(source)).kind is ErrorKind.NOT_FOUND
    shop.endpoint.offers = offers
    assert await ask(source) is MCP
    await source.aclose()


async def test_the_session_that_is_left_is_ended(shop: AutoShop) -> None:
    source = shop.auto()
    await ask(source)
    assert len(shop.endpoint.sessions.of(KEYS_USER)) == 1
    shop.endpoint.lost_tools.add("woocommerce-orders-list")
    assert await ask(source) is REST
    assert shop.endpoint.sessions.of(KEYS_USER) == []
    await source.aclose()


async def test_what_sees_less_is_left_after_a_day_for_what_sees_more(shop: AutoShop) -> None:
    everything, shop.endpoint.offers = shop.endpoint.offers, {"abilities"}
    source = shop.auto()
    assert await ask(source) is ABILITIES
    shop.endpoint.offers = everything
    shop.seconds += LATER_S - 1
    assert await ask(source) is ABILITIES
    shop.seconds += 1
    assert await ask(source) is MCP
    await source.aclose()


async def test_what_sees_less_is_left_soon_where_the_better_was_only_in_trouble(shop: AutoShop) -> None:
    """As at a restart amid an upgrade: a day of partial refunds would be a lot."""
    shop.endpoint.faults.add(faults.php_fatal(), dialects=frozenset({"woocommerce-mcp", "rest"}))
    source = shop.auto()
    assert await ask(source) is ABILITIES
    shop.seconds += SOON_S
    assert await ask(source) is ABILITIES
    shop.requested.clear()
    shop.seconds += SOON_S
    await ask(source)
    assert len(shop.requested) == 1, "the second time it waits longer"
    shop.endpoint.faults.clear()
    shop.seconds += SOON_S
    assert await ask(source) is MCP
    await source.aclose()


async def test_a_better_dialect_may_ask_for_a_pause_of_all(shop: AutoShop) -> None:
    shop.endpoint.offers = {"abilities"}
    source = shop.auto()
    assert await ask(source) is ABILITIES
    shop.endpoint.faults.add(faults.rate_limited(90), dialects=frozenset({"woocommerce-mcp", "rest"}))
    shop.endpoint.offers |= {MCP}
    shop.seconds += LATER_S
    with pytest.raises(TemporaryError) as caught:
        await ask(source)
    assert (caught.value.kind, caught.value.retry_after_s) == (ErrorKind.RATE_LIMIT, 90)
    assert await ask(source) is ABILITIES, "once the pause is over"
    await source.aclose()


async def test_what_sees_less_is_kept_where_nothing_else_answers(shop: AutoShop) -> None:
    shop.endpoint.offers = {"abilities"}
    source = shop.auto()
    for _ in range(3):
        assert await ask(source) is ABILITIES
        shop.seconds += LATER_S
    assert len(shop.choices) == 1
    await source.aclose()


async def test_what_sees_less_is_kept_where_there_is_nothing_else_to_try(shop: AutoShop) -> None:
    for source in (shop.auto(PASSWORD), shop.auto(url=shop.endpoint.address(ABILITIES))):
        for _ in range(2):
            assert await ask(source) is ABILITIES
            shop.seconds += LATER_S
        await source.aclose()


async def test_what_sees_all_is_not_looked_beyond(shop: AutoShop) -> None:
    shop.endpoint.offers -= {MCP}
    source = shop.auto()
    assert await ask(source) is REST
    shop.endpoint.offers |= {MCP}
    shop.seconds += 10 * LATER_S
    assert await ask(source) is REST
    await source.aclose()


async def test_more_ids_than_the_new_dialect_takes_are_requested_again(shop: AutoShop) -> None:
    source = shop.auto()
    await ask(source)
    assert source.most_ids == 100
    shop.endpoint.offers = {"abilities"}
    with pytest.raises(TemporaryError, match="the dialect changed; asking again"):
        await source.fetch(Query(per_page=2, ids=frozenset({1001, 1002})))
    assert source.most_ids == 1
    page: Page = await source.fetch(Query(per_page=1, ids=frozenset({1001})))
    assert len(page.items) == 1
    await source.aclose()


async def test_wrong_passwords_of_wordpress_are_told_where_there_is_nothing_else(shop: AutoShop) -> None:
    shop.endpoint.passwords = [AppPassword("poller", "another one")]
    error = await refused(shop.auto(PASSWORD))
    assert error.kind is ErrorKind.AUTHENTICATION
    assert PASSWORD.password not in str(error)


# --- a dialect whose beginning is refused -------------------------------------------------------------------

WORDPRESS_403 = '{"code":"rest_forbidden","message":"Sorry","data":{"status":403}}'
REFUSALS: dict[str, tuple[int, str]] = {
    "404, a page": (404, "<h1>Not Found</h1>"),
    "404, nothing": (404, ""),
    "404 of WordPress": (404, '{"code":"rest_no_route","message":"?","data":{"status":404}}'),
    "405": (405, "<h1>Method Not Allowed</h1>"),
    "400, nothing": (400, ""),
    "400 of WordPress": (400, '{"code":"mcp_off","message":"?","data":{"status":400}}'),
    "410": (410, ""),
    "415": (415, ""),
    "403, a firewall": (403, "<h1>Forbidden</h1>"),
    "403 of WordPress": (403, WORDPRESS_403),
    "200, -32601": (200, '{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no initialize"}}'),
    "200, -32000": (200, '{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"MCP is off"}}'),
    "400, -32022": (
        400,
        '{"jsonrpc":"2.0","id":null,"error":{"code":-32022,"message":"?","data":{"supported":["2031-01-01"]}}}',
    ),
    "a redirect": (302, ""),
}


def refuse(shop: AutoShop, dialect: Dialect, name: str) -> None:
    """Let the dialect's endpoint answer every request so."""
    status, content = REFUSALS[name]
    refused_path = httpx.URL(shop.endpoint.address(dialect)).path

    def reply(request: httpx.Request) -> httpx.Response | None:
        return httpx.Response(status, content=content) if request.url.path == refused_path else None

    shop.instead = reply


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("first", [MCP, ABILITIES])
async def test_a_dialect_that_is_refused_from_the_start_is_passed_over(
    shop: AutoShop, first: Dialect, name: str
) -> None:
    refuse(shop, first, name)
    source = shop.auto(url=shop.endpoint.address(first))
    assert await ask(source) is not first
    await source.aclose()


@pytest.mark.parametrize("name", REFUSALS)
@pytest.mark.parametrize("first", [MCP, ABILITIES])
async def test_a_dialect_that_is_refused_later_is_left_at_the_same_tick(
    shop: AutoShop, first: Dialect, name: str
) -> None:
    """As when the plugin that has it is deactivated, or a firewall's rule changed."""
    source = shop.auto(url=shop.endpoint.address(first))
    assert await ask(source) is first
    refuse(shop, first, name)
    if first is ABILITIES and name == "403 of WordPress":  # no other dialect takes the same password
        assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
    else:
        assert await ask(source) is not first
    await source.aclose()


async def test_revoked_keys_are_told_where_another_dialect_has_keys_of_its_own(shop: AutoShop) -> None:
    source = shop.auto()
    assert await ask(source) is MCP
    shop.endpoint.keys = []
    for _ in range(3):
        assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
    assert [choice.dialect for choice in shop.choices] == [MCP]
    await source.aclose()


async def test_keys_that_every_endpoint_forbids_are_told(shop: AutoShop) -> None:
    source = shop.auto()
    assert await ask(source) is MCP
    paths = {httpx.URL(shop.endpoint.address(dialect)).path for dialect in (MCP, REST)}
    shop.instead = lambda request: (
        httpx.Response(403, content=WORDPRESS_403) if request.url.path in paths else None
    )
    assert (await refused(source)).kind is ErrorKind.AUTHENTICATION
    await source.aclose()


@pytest.mark.parametrize(
    "trouble", [faults.maintenance(), faults.rate_limited(), faults.bad_gateway()], ids=["503", "429", "502"]
)
async def test_an_outage_in_the_midst_of_life_is_no_reason_to_leave(
    shop: AutoShop, trouble: faults.Fault
) -> None:
    source = shop.auto()
    assert await ask(source) is MCP
    shop.endpoint.faults.add(trouble, dialects=frozenset({"woocommerce-mcp"}))
    await refused(source)
    shop.endpoint.faults.clear()
    assert await ask(source) is MCP
    assert [choice.dialect for choice in shop.choices] == [MCP]
    await source.aclose()


async def test_a_shop_without_sessions_is_read_by_the_dialect_that_its_address_names() -> None:
    with mcp_peer(MCP, speaks_initialize=False, speaks_stateless=True) as peer:
        choices: list[ChosenDialect] = []
        source = Auto({MCP: peer.source}, on_choice=choices.append)
        assert len((await source.fetch(ASK)).items) == 1
        assert [choice.dialect for choice in choices] == [MCP]
        await source.aclose()


async def test_the_newest_order_may_be_a_bad_one_when_a_dialect_is_chosen() -> None:
    """The bundled adapter does not say that it is, and one order only is asked for."""
    with scripted_shop(ADDRESSES[ABILITIES]) as peer:
        orders = AbilityShop.of(raw(n, f"2026-11-23T00:{n:02}:00") for n in range(1, 31))
        orders.bad, orders.masks = {30}, True
        peer.on("tools/list", answer({"tools": [{"name": "mcp-adapter-execute-ability"}]}))
        peer.on_call(orders.reply)
        source = Auto({ABILITIES: McpPeer(ABILITIES).source})
        page = await source.fetch(Query(per_page=100))
        assert len(page.orders) == 29
        await source.aclose()
