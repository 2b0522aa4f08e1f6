"""What is peculiar to the dialect `abilities`: one status at a time, no second key to sort by, bad pages."""

import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shop_poller.core import cursor
from shop_poller.core.cursor import ModifiedWalk
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.sources.woocommerce.abilities import MAX_FOUND, MAX_TRIES, Abilities
from shop_poller.sources.woocommerce.poison import AHEAD, WINDOW, WINDOWS
from support.ability_shop import AbilityShop, abilities, raw
from support.pairs import each_with_each_of
from support.scripted_shop import Reply, ScriptedShop, SentRequest, answer, page, recorded, scripted_shop

pytestmark = pytest.mark.anyio

URL = "https://shop.example/wp-json/mcp/mcp-adapter-default-server"
START = datetime(2026, 11, 22, tzinfo=UTC)
REASON = "currency is not one of …"
ASK = Query(per_page=100)


@pytest.fixture
def peer() -> Iterator[ScriptedShop]:
    with scripted_shop(URL) as peer:
        yield peer


@pytest.fixture
async def source(peer: ScriptedShop) -> AsyncIterator[Abilities]:  # noqa: ARG001 - no shop, no source
    source = Abilities(URL, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")
    yield source
    await source.aclose()


def minute(n: int) -> str:
    return f"{START + timedelta(minutes=n):%FT%T}"


def record_outcomes(
    peer: ScriptedShop, *orders: dict[str, Any], bad: set[int] | None = None, mute: bool = False
) -> AbilityShop:
    """Let these orders be in the shop."""
    shop = AbilityShop.of(orders, bad or (), mute=mute)
    peer.on_call(shop.reply)
    return shop


def ids(items: tuple[Order | UnreadableOrder, ...]) -> list[int]:
    return [item.id for item in items]


def good(items: tuple[Order | UnreadableOrder, ...]) -> list[int]:
    return [item.id for item in items if isinstance(item, Order)]


def bad(items: tuple[Order | UnreadableOrder, ...]) -> list[UnreadableOrder]:
    return [item for item in items if isinstance(item, UnreadableOrder)]


# --- several statuses ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
async def test_several_statuses_are_requested_one_by_one_and_merged(
    peer: ScriptedShop, source: Abilities, *, newest_first: bool
) -> None:
    statuses = ("pending", "on-hold", "processing")
    shop = record_outcomes(
        peer,
        *(raw(n, minute(n), status=statuses[n * n % 3]) for n in range(1, 30)),
        raw(99, minute(0), status="completed"),
    )
    query = Query(per_page=7, newest_first=newest_first, statuses=statuses)
    found = await source.fetch(query)
    expected = list(range(1, 30))
    assert ids(found.items) == (expected[::-1] if newest_first else expected)[:7]
    assert [requested["status"] for requested in shop.requested] == list(statuses)
    assert {requested["per_page"] for requested in shop.requested} == {7}


async def test_an_order_that_changes_its_status_meanwhile_is_listed_once_as_it_is_now(
    peer: ScriptedShop, source: Abilities
) -> None:
    peer.on_call(
        abilities(raw(5, minute(5), status="pending"), raw(6, minute(6), status="pending")),
        abilities(raw(5, minute(9), status="processing")),
    )
    found = await source.fetch(Query(per_page=10, statuses=("pending", "processing")))
    assert ids(found.items) == [6, 5]
    assert isinstance(found.items[1], Order)
    assert found.items[1].status == "processing"


async def test_one_that_cannot_be_read_keeps_its_place_among_the_merged(
    peer: ScriptedShop, source: Abilities
) -> None:
    undated = raw(3, minute(3), status="pending") | {"date_modified_gmt": None}
    peer.on_call(
        abilities(undated | {"id": 1}, raw(2, minute(2)), undated, raw(8, minute(8))),
        abilities(raw(1_000, minute(1)), raw(5, minute(5))),
    )
    found = await source.fetch(Query(per_page=5, statuses=("pending", "processing")))
    assert ids(found.items) == [1, 1_000, 2, 3, 5]


async def test_the_clock_is_that_of_the_first_answer_and_the_preamble_of_any(
    peer: ScriptedShop, source: Abilities
) -> None:
    peer.on_call(
        abilities(date="Mon, 23 Nov 2026 01:00:00 GMT"),
        abilities(before="<br />notice\n"),
        abilities(),
    )
    found = await source.fetch(Query(per_page=5, statuses=("pending", "on-hold", "processing")))
    assert found.shop_time == datetime(2026, 11, 23, 1, tzinfo=UTC)
    assert found.preamble == "notice"


# --- the walk -----------------------------------------------------------------------------------------------


async def walk_through(source: Abilities, per_page: int) -> list[Order | UnreadableOrder]:
    """All that a walk of the poller's sees."""
    walk: ModifiedWalk | None = cursor.start(START, overlap=timedelta(seconds=120))
    read: list[Order | UnreadableOrder] = []
    while walk is not None:
        walk = replace(walk, per_page=per_page)
        found = await source.fetch(walk.query())
        read += found.items
        walk = cursor.step(walk, found, clock_skew=timedelta(0)).walk
    return read


@each_with_each_of("per_page", [10, 20, 100], poisoned=[set[int](), {40}, {1, 40, 63, 120}], seed=range(3))
async def test_no_order_of_a_second_with_many_is_lost(
    peer: ScriptedShop, source: Abilities, seed: int, per_page: int, poisoned: set[int]
) -> None:
    """63 in one second, 40 to 50 of them came out of a shop that was paged through."""
    one_second = (raw(n, minute(50)) for n in range(1, 64))
    shop = record_outcomes(peer, *one_second, *(raw(n, minute(n)) for n in range(100, 150)), bad=poisoned)
    shop.seed = seed
    read = await walk_through(source, per_page)
    assert {item.id for item in read if isinstance(item, Order)} == set(shop.orders) - shop.bad
    assert {item.id for item in read if isinstance(item, UnreadableOrder)} == shop.bad


@pytest.mark.parametrize("poisoned", [set[int](), {40}, {1, 40, 63}])
@pytest.mark.parametrize("seed", range(3))
async def test_nor_from_a_shop_that_sorts_them_randomly(
    peer: ScriptedShop, source: Abilities, seed: int, poisoned: set[int]
) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(50)) for n in range(1, 64)), bad=poisoned)
    shop.order_random = random.Random(seed)
    read = await walk_through(source, 100)
    assert set(good(tuple(read))) == set(shop.orders) - poisoned
    assert {item.id for item in bad(tuple(read))} == poisoned


# --- an order that spoils its page --------------------------------------------------------------------------


@pytest.mark.parametrize("mute", [False, True])
@pytest.mark.parametrize("poisoned", [{1}, {50}, {100}, {101, 150}, {3, 4, 5}, set(range(1, 11))], ids=str)
async def test_the_order_is_named_and_the_others_go_on(
    peer: ScriptedShop, source: Abilities, poisoned: set[int], *, mute: bool
) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 151)), bad=poisoned, mute=mute)
    read = await walk_through(source, 100)
    assert sorted({item.id for item in read if isinstance(item, Order)}) == sorted(
        set(range(1, 151)) - poisoned
    )
    reason = REASON if not mute else "Ability"
    for item in bad(tuple(read)):
        assert item.id in poisoned
        assert item.reason.startswith(reason)
    assert {item.id for item in bad(tuple(read))} == poisoned
    questions = len(shop.requested)
    await walk_through(source, 100)
    # What is known is not looked for again: two pages, and the question that shows nothing new.
    assert len(shop.requested) <= questions + 4


async def test_what_is_found_costs_few_questions(peer: ScriptedShop, source: Abilities) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n - 40_000)) for n in range(40_001, 40_101)), bad={40_060})
    found = await source.fetch(ASK)
    assert bad(found.items) == [UnreadableOrder(40_060, REASON)]
    assert len(good(found.items)) == 99
    assert len(shop.requested) < 30
    assert max(len(requested.get("exclude", ())) for requested in shop.requested) <= WINDOW + 100


async def test_it_is_reported_until_it_was_requested_by_its_id(peer: ScriptedShop, source: Abilities) -> None:
    """The page that names it may be thrown away: by an error after it, or a commit that fails."""
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 11)), bad={5})
    named = UnreadableOrder(5, REASON)
    for query in (ASK, ASK, Query(per_page=1, newest_first=True), Query(per_page=9, statuses=("pending",))):
        assert bad((await source.fetch(query)).items) == [named]
    assert bad((await source.fetch(Query(per_page=9, exclude=frozenset({5})))).items) == []
    assert (await source.fetch(Query(per_page=1, ids=frozenset({5})))).items == (named,)
    assert ids((await source.fetch(ASK)).items) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert shop.requested[-1]["exclude"] == [5]


async def test_it_comes_back_when_it_is_well_again(peer: ScriptedShop, source: Abilities) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 11)), bad={5})
    await source.fetch(ASK)
    shop.bad.clear()
    assert 5 not in good((await source.fetch(ASK)).items)
    assert good((await source.fetch(Query(per_page=1, ids=frozenset({5})))).items) == [5]
    assert ids((await source.fetch(ASK)).items) == list(range(1, 11))


async def test_one_requested_by_its_id_is_named_at_once_and_left_out_from_then_on(
    peer: ScriptedShop, source: Abilities
) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 11)), bad={5})
    found = await source.fetch(Query(per_page=1, ids=frozenset({5})))
    assert found.items == (UnreadableOrder(5, REASON),)
    assert found.shop_time == datetime(2026, 11, 23, 1, 55, 5, tzinfo=UTC)
    assert [requested["id"] for requested in shop.requested] == [5]
    assert ids((await source.fetch(ASK)).items) == [1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert len(shop.requested) == 2


async def test_one_requested_by_its_id_may_be_of_another_status(
    peer: ScriptedShop, source: Abilities
) -> None:
    record_outcomes(peer, raw(5, minute(5), status="failed"))
    for statuses, expected in (((), [5]), (("failed", "pending"), [5]), (("pending",), [])):
        found = await source.fetch(Query(per_page=1, ids=frozenset({5}), statuses=statuses))
        assert ids(found.items) == expected
    assert (await source.fetch(Query(per_page=1, ids=frozenset({77})))).items == ()


async def test_too_many_at_once_are_an_error_and_still_progress(
    peer: ScriptedShop, source: Abilities
) -> None:
    poisoned = set(range(10, 10 + 2 * MAX_FOUND + 3))
    record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 61)), bad=poisoned)
    for _ in range(2):
        with pytest.raises(TemporaryError) as caught:
            await source.fetch(ASK)
        assert caught.value.kind is ErrorKind.PROTOCOL
        assert "SHOP_DIALECT=rest" in str(caught.value)
        assert str(caught.value).isprintable()
    found = await source.fetch(ASK)
    assert {item.id for item in bad(found.items)} == poisoned  # of the failed questions, too
    assert len(good(found.items)) == 60 - len(poisoned)


async def test_one_that_cannot_be_found_is_an_error_that_says_what_to_do(
    peer: ScriptedShop, source: Abilities
) -> None:
    # Imported: its id has nothing to do with when it was made.
    shop = record_outcomes(
        peer, raw(900_000, minute(9)), raw(300_000, minute(1)), raw(899_999, minute(0)), bad={300_000}
    )
    with pytest.raises(TemporaryError) as caught:
        await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.PROTOCOL
    for words in (REASON, "list of orders", "SHOP_DIALECT=rest"):
        assert words in str(caught.value)
    assert len(str(caught.value)) < 400
    assert len(shop.requested) < WINDOWS + 70


async def test_an_old_one_is_found_by_when_it_was_made(peer: ScriptedShop, source: Abilities) -> None:
    """However many ids were given since: posts and pages have them from the same row."""
    old = [raw(n, minute(n), created=minute(n - 3_000_000)) for n in range(5_000, 5_010)]
    shop = record_outcomes(peer, *old, raw(9_000_000, minute(9)), bad={5_004})
    found = await source.fetch(ASK)
    assert bad(found.items) == [UnreadableOrder(5_004, REASON)]
    assert len(good(found.items)) == 10
    assert len(shop.requested) < 70
    assert max(len(requested.get("exclude", ())) for requested in shop.requested) <= WINDOW + 100


async def test_the_newest_orders_may_be_the_bad_ones(peer: ScriptedShop, source: Abilities) -> None:
    """The search begins above the newest that can be seen."""
    newest = range(890_000 + AHEAD - MAX_TRIES + 2, 890_000 + AHEAD + 1)
    record_outcomes(
        peer, raw(890_000, minute(1)), *(raw(n, minute(n - 890_000)) for n in newest), bad=set(newest)
    )
    found = await source.fetch(Query(per_page=1, newest_first=True))
    assert good(found.items) == [890_000]
    assert {item.id for item in bad(found.items)} == set(newest)


@pytest.mark.parametrize("no_such_order", ["", 'Ability "woocommerce/orders-query" has invalid input.'])
async def test_an_order_that_is_mended_in_the_midst_of_the_search_is_not_blamed(
    peer: ScriptedShop, source: Abilities, no_such_order: str
) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 51)), bad={20})
    shop.no_such_order = no_such_order
    for patience in range(1, 28):
        shop.bad = {20}
        left = patience

        def reply(requested: SentRequest) -> Any:
            nonlocal left
            left -= 1
            if left < 0:
                shop.bad = set()
            return shop.reply(requested)

        peer.on_call(reply)
        found = await source.fetch(ASK)
        assert set(ids(found.items)) == set(range(1, 51))
        assert {item.id for item in bad(found.items)} <= {20}
        shop.bad = set()
        await source.fetch(Query(per_page=1, ids=frozenset({20})))  # forget it


@pytest.mark.parametrize("after", range(1, 20, 3))
async def test_an_error_in_the_midst_of_the_search_is_that_error(
    peer: ScriptedShop, source: Abilities, after: int
) -> None:
    shop = record_outcomes(peer, *(raw(n, minute(n)) for n in range(1, 51)), bad={20})
    busy: Reply = page("", 503, **{"retry-after": "60"})
    peer.on_call(*[shop.reply] * after, busy)
    with pytest.raises(TemporaryError) as caught:
        await source.fetch(ASK)
    assert (caught.value.kind, caught.value.retry_after_s) == (ErrorKind.UNAVAILABLE, 60)
    peer.on_call(shop.reply)
    assert bad((await source.fetch(ASK)).items) == [UnreadableOrder(20, REASON)]


async def test_an_answer_that_is_broken_otherwise_is_nobodys_fault(
    peer: ScriptedShop, source: Abilities
) -> None:
    reason = "output[total_pages] is not of type integer."
    text = f'Ability "woocommerce/orders-query" has invalid output. Reason: {reason}'
    peer.on_call(answer({"content": [{"type": "text", "text": text}], "isError": True}))
    with pytest.raises(PermanentError) as caught:
        await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.REJECTED
    assert "total_pages" in str(caught.value)
    assert len(peer.calls) == 1


async def test_a_recorded_failure_starts_the_search_and_is_told_in_few_words(
    peer: ScriptedShop, source: Abilities
) -> None:
    peer.on_call(recorded("abilities/unknown-currency-page"))  # whatever is asked
    with pytest.raises(TemporaryError) as caught:
        await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.PROTOCOL
    assert REASON in str(caught.value)
    assert "AED" not in str(caught.value)
    first, second = peer.calls[0].arguments["parameters"], peer.calls[1].arguments["parameters"]
    assert first == {"per_page": 100, "orderby": "date_modified", "order": "asc"}
    assert second["orderby"] == "id"
