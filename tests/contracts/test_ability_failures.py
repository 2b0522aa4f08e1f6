"""Failures of the ability that do not say why: a bad order, a deleted one, or a broken shop."""

from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.sources.woocommerce.abilities import MAX_QUESTIONS_UNEXPLAINED, Abilities
from shop_poller.sources.woocommerce.dialects import Dialect
from support import wire
from support.ability_shop import MASKED, AbilityShop, raw
from support.mcp_peer import ADDRESSES
from support.scripted_shop import Reply, ScriptedShop, SentRequest, answer, recorded, scripted_shop, tool

pytestmark = pytest.mark.anyio

START = datetime(2026, 11, 22, tzinfo=UTC)
ASK = Query(per_page=100)


@pytest.fixture
def peer() -> Iterator[ScriptedShop]:
    with scripted_shop(ADDRESSES[Dialect.ABILITIES]) as peer:
        yield peer


@pytest.fixture
async def source(peer: ScriptedShop) -> AsyncIterator[Abilities]:
    source = Abilities(peer.url, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")
    yield source
    await source.aclose()


def stock(peer: ScriptedShop, count: int = 100, **options: Any) -> AbilityShop:
    """A shop that hides its reasons."""
    options.setdefault("masks", True)
    shop = AbilityShop.of(raw(n, f"{START + timedelta(minutes=n):%FT%T}") for n in range(1, count + 1))
    for name, value in options.items():
        setattr(shop, name, value)
    peer.on_call(shop.reply)
    return shop


def by_id(order_id: int) -> Query:
    return Query(per_page=1, ids=frozenset({order_id}))


async def told(source: Abilities, query: Query) -> TemporaryError:
    with pytest.raises(TemporaryError) as caught:
        await source.fetch(query)
    return caught.value


# --- a bad order --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poisoned", [{1}, {50}, {100}, {99, 100}, {3, 4, 5}, {7, 50, 90}], ids=str)
@pytest.mark.parametrize("options", [{}, {"throws": True}, {"throws": True, "masks": False}], ids=str)
async def test_it_is_named_and_the_others_are_read(
    peer: ScriptedShop, source: Abilities, poisoned: set[int], options: dict[str, bool]
) -> None:
    shop = stock(peer, bad=set(poisoned), **options)
    page = await source.fetch(ASK)
    assert {item.id for item in page.items if isinstance(item, Order)} == set(shop.orders) - poisoned
    bad = [item for item in page.items if isinstance(item, UnreadableOrder)]
    assert {item.id for item in bad} == poisoned
    assert all("An error occurred" in item.reason or "threw" in item.reason for item in bad)
    assert len(shop.requested) <= MAX_QUESTIONS_UNEXPLAINED + 40
    questions = len(shop.requested)
    await source.fetch(ASK)
    assert len(shop.requested) == questions + 1  # what is known is not looked for again


async def test_one_that_is_all_that_changed_is_found(peer: ScriptedShop, source: Abilities) -> None:
    """A tick asks for the last minutes only: nothing else is on the page."""
    shop = stock(peer, bad={100})
    query = Query(per_page=100, modified_after=START + timedelta(minutes=99))
    assert [item.id for item in (await source.fetch(query)).items] == [100]
    assert len(shop.requested) < 40


async def test_it_comes_back_when_it_is_mended(peer: ScriptedShop, source: Abilities) -> None:
    shop = stock(peer, bad={5})
    await source.fetch(ASK)
    assert isinstance((await source.fetch(by_id(5))).items[0], UnreadableOrder)
    shop.bad.clear()
    assert isinstance((await source.fetch(by_id(5))).items[0], Order)
    assert len((await source.fetch(ASK)).orders) == 100


async def test_the_recorded_adapters_say_it_in_two_ways(peer: ScriptedShop, source: Abilities) -> None:
    """One names the currency, the bundled one nothing: there an order that nobody found bad is absent."""
    peer.on_call(recorded("2026-11/abilities-adapter-0.5.0plus-unknown-currency"))
    (bad,) = (await source.fetch(by_id(60071))).items
    assert isinstance(bad, UnreadableOrder)
    assert "currency" in bad.reason
    peer.on_call(recorded("2026-11/abilities-adapter-0.3.0-bundled-unknown-currency"), tool(EMPTY))
    assert (await source.fetch(by_id(60072))).items == ()


# --- a deleted order ----------------------------------------------------------------------------------------

EMPTY = {"success": True, "data": {"orders": [], "total_pages": 0, "page": 1, "per_page": 1}}


def says(text: str) -> Reply:
    return answer({"content": [{"type": "text", "text": text}], "isError": True})


DELETED: dict[str, Reply] = {
    "recorded": recorded("2026-11/abilities-adapter-0.5.0plus-deleted-order-id"),
    "recorded, without a reason": recorded("2026-11/abilities-adapter-0.3.0-bundled-deleted-order-id"),
    "in Russian": says("Заказ не найден."),
    "without words": says(""),
    "as an error of the adapter's tool": tool({"success": False, "error": "Order not found."}),
    "as an error of REST": tool(
        {"success": True, "data": {"code": "shop_order_invalid_id", "message": "?", "data": {"status": 404}}}
    ),
    "an empty list": tool(EMPTY),
}


@pytest.mark.parametrize("name", DELETED)
async def test_one_that_was_deleted_is_absent(peer: ScriptedShop, source: Abilities, name: str) -> None:
    def call(requested: SentRequest) -> httpx.Response:
        return (DELETED[name] if "id" in requested.arguments["parameters"] else tool(EMPTY))(requested)

    peer.on_call(call)
    for order_id in range(1, 8):
        page = await source.fetch(by_id(order_id))
        assert page.items == ()
        assert page.shop_time == datetime(2026, 11, 23, 1, 55, 5, tzinfo=UTC)
    assert len(peer.calls) <= 2 * 7


@pytest.mark.parametrize("masks", [True, False])
async def test_none_is_absent_while_the_shop_is_broken(
    peer: ScriptedShop, source: Abilities, *, masks: bool
) -> None:
    shop = stock(peer, masks=masks, down=True)
    for order_id in (1, 2, 1_000):
        assert (await told(source, by_id(order_id))).kind is ErrorKind.SERVER
    assert len(shop.requested) == 2 * 3
    shop.down = False
    assert [item.id for item in (await source.fetch(by_id(1))).items] == [1]


async def test_one_over_which_php_throws_is_named(peer: ScriptedShop, source: Abilities) -> None:
    stock(peer, masks=False, throws=True, bad={5})
    (bad,) = (await source.fetch(by_id(5))).items
    assert isinstance(bad, UnreadableOrder)
    assert "threw an exception" in bad.reason


async def test_but_not_if_it_throws_over_every_order(peer: ScriptedShop, source: Abilities) -> None:
    shop = stock(peer, masks=False, throws=True, bad=set(range(1, 101)))
    assert (await told(source, by_id(5))).kind is ErrorKind.SERVER
    shop.bad.clear()
    assert len((await source.fetch(ASK)).orders) == 100  # none was set aside


# --- a broken shop ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("masks", [True, False])
@pytest.mark.parametrize(
    "query",
    [
        ASK,
        Query(per_page=1),
        Query(per_page=100, modified_after=START, exclude=frozenset({1, 2})),
        Query(per_page=50, newest_first=True, created_after=START, created_before=START + timedelta(days=1)),
        Query(per_page=10, statuses=("pending", "processing")),
    ],
    ids=["page", "one order", "tick", "past", "statuses"],
)
async def test_an_error_on_every_question_is_the_shops_and_blames_no_order(
    peer: ScriptedShop, source: Abilities, query: Query, *, masks: bool
) -> None:
    shop = stock(peer, masks=masks, down=True)
    for _ in range(5):
        assert (await told(source, query)).kind is ErrorKind.SERVER
    assert len(shop.requested) <= 2 * 5
    shop.down = False
    page = await source.fetch(ASK)
    assert len(page.orders) == len(page.items) == 100


async def test_one_that_is_alone_on_its_page_is_found_too(peer: ScriptedShop, source: Abilities) -> None:
    """After an outage pages of one order are asked for: a bad one there must not end the polling."""
    shop = stock(peer, bad={1})
    page = await source.fetch(Query(per_page=1))
    assert [item.id for item in page.items if isinstance(item, UnreadableOrder)] == [1]
    assert [order.id for order in page.orders] == [2]
    assert len(shop.requested) < 40


async def test_an_error_over_the_only_order_is_the_shops(peer: ScriptedShop, source: Abilities) -> None:
    """Nothing shows that the shop could show any."""
    shop = stock(peer, 1, bad={1})
    for query in (ASK, Query(per_page=1)):
        assert (await told(source, query)).kind is ErrorKind.SERVER
    assert len(shop.requested) <= 2 * 6


async def test_an_error_over_every_order_is_the_shops(peer: ScriptedShop, source: Abilities) -> None:
    """A plugin breaks what is shown of any order; the empty question works."""
    shop = stock(peer, bad=set(range(1, 101)))
    for _ in range(3):
        assert (await told(source, ASK)).kind is ErrorKind.SERVER
    assert len(shop.requested) <= 3 * 6
    shop.bad.clear()
    assert len((await source.fetch(ASK)).items) == 100


@pytest.mark.parametrize("after", range(2, 30))
async def test_a_shop_that_breaks_in_the_midst_of_the_search_blames_nobody(
    peer: ScriptedShop, source: Abilities, after: int
) -> None:
    shop = stock(peer, bad={20})
    left = after

    def call(requested: SentRequest) -> Any:
        nonlocal left
        left -= 1
        shop.down = left < 0
        return shop.reply(requested)

    peer.on_call(call)
    try:
        page = await source.fetch(ASK)
    except TemporaryError:
        assert len(shop.requested) < 120
    else:
        assert {item.id for item in page.items if isinstance(item, UnreadableOrder)} == {20}
    peer.on_call(shop.reply)
    shop.down = False
    page = await source.fetch(ASK)
    assert {item.id for item in page.items if isinstance(item, UnreadableOrder)} == {20}
    assert len(page.orders) == 99


async def test_many_bad_ones_are_found_in_steps(peer: ScriptedShop, source: Abilities) -> None:
    poisoned = set(range(10, 30))
    shop = stock(peer, bad=poisoned)
    for _ in range(8):
        questions = len(shop.requested)
        try:
            page = await source.fetch(ASK)
        except TemporaryError:
            assert len(shop.requested) - questions < MAX_QUESTIONS_UNEXPLAINED + 120
            continue
        break
    assert {item.id for item in page.items if isinstance(item, UnreadableOrder)} == poisoned


# --- no ability ---------------------------------------------------------------------------------------------

NO_ABILITY = [
    "Permission denied: Ability 'woocommerce/orders-query' not found",
    'Permission denied: Ability "woocommerce/orders-query" not found.',
    "Permission denied: Ability woocommerce/orders-query not found",
    "Ability 'woocommerce/orders-query' not found",
    'Ability "woocommerce/orders-query" not found.',
    'Ability "woocommerce/orders-query" is not registered.',
]


@pytest.mark.parametrize("text", NO_ABILITY)
@pytest.mark.parametrize("query", [ASK, by_id(5)], ids=["page", "id"])
async def test_a_missing_ability_is_not_a_matter_of_keys(
    peer: ScriptedShop, source: Abilities, text: str, query: Query
) -> None:
    peer.on_call(says(text))
    with pytest.raises(PermanentError) as caught:
        await source.fetch(query)
    assert caught.value.kind is ErrorKind.NOT_FOUND
    for words in ("10.9 or later", "SHOP_DIALECT=rest"):
        assert words in str(caught.value)
    assert len(peer.calls) == 1


@pytest.mark.parametrize(
    "text",
    [
        "Permission denied",
        "Permission denied: You may not view orders",
        "Permission denied: no right to use the ability woocommerce/orders-query",
    ],
)
async def test_a_missing_right_is(peer: ScriptedShop, source: Abilities, text: str) -> None:
    peer.on_call(says(text))
    with pytest.raises(PermanentError) as caught:
        await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.AUTHENTICATION


def test_the_masked_words_are_those_of_the_recordings() -> None:
    for name in ("deleted-order-id", "unknown-currency"):
        result = wire.load(f"2026-11/abilities-adapter-0.3.0-bundled-{name}").response.json()["result"]
        assert result["content"][0]["text"] == MASKED
