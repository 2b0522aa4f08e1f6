"""Finding the order that spoils a page, against a shop that says as little as the real one."""

import random
from collections.abc import Collection, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_poller.core.model import Query, UnreadableOrder
from shop_poller.sources.woocommerce import poison
from shop_poller.sources.woocommerce.ability_query import parameters
from shop_poller.sources.woocommerce.jsonrpc import InvalidOutputError
from shop_poller.sources.woocommerce.poison import AHEAD, MAX_REMEMBERED, TOGETHER, WINDOW, WINDOWS, Poisoned
from support import wire
from support.ability_shop import AbilityShop, raw

pytestmark = pytest.mark.anyio

RECORDED = wire.load("abilities/unknown-currency-page").response.json()["result"]["content"][0]["text"]


# --- what an error says -------------------------------------------------------------------------------------


def test_the_recorded_error_tells_the_place_and_the_reason() -> None:
    assert poison.position_in_page(RECORDED) == 59
    assert poison.reason(RECORDED) == "currency is not one of …"
    assert poison.concerns_an_order(RECORDED)


BEGINNING = 'Ability "woocommerce/orders-query" has invalid output. Reason: '


@pytest.mark.parametrize(
    ("said", "place", "reason"),
    [
        ("output[orders][0][total] is not of type string.", 0, "total is not of type string."),
        (
            "output[orders][7][line_items][2][quantity] is not of type integer.",
            7,
            "line_items.2.quantity is not of type integer.",
        ),
        ("output[orders][12] is not of type object.", 12, "the order is not of type object."),
        (
            "output[orders][3][status] не входит в список pending, failed и new.",
            3,
            "status не входит в список …",
        ),
        ("output[orders][3][billing_email] anna@example.org bad", 3, "billing_email *** bad"),
        (
            "foo is not a valid property of Object.",
            None,
            f"{BEGINNING}foo is not a valid property of Object.",
        ),
    ],
)
def test_other_errors_tell_as_much_as_they_can(said: str, place: int | None, reason: str) -> None:
    assert poison.position_in_page(BEGINNING + said) == place
    assert poison.reason(BEGINNING + said) == reason
    assert poison.concerns_an_order(BEGINNING + said)


def test_an_error_about_the_answer_as_a_whole_is_no_orders() -> None:
    assert not poison.concerns_an_order(BEGINNING + "output[total_pages] is not of type integer.")


@given(st.text(max_size=2_000) | st.just("output[orders][1][" + "x" * 10_000))
def test_a_reason_is_a_short_line_whatever_is_said(said: str) -> None:
    reason = poison.reason(BEGINNING + said)
    assert 0 < len(reason) <= 120
    assert reason.isprintable()
    assert poison.position_in_page(BEGINNING + said) is None or poison.concerns_an_order(BEGINNING + said)


# --- where it stands ----------------------------------------------------------------------------------------


class Questions:
    """Asks a shop, and counts."""

    def __init__(self, shop: AbilityShop) -> None:
        self.shop = shop
        self.count = 0

    async def ask(self, query: Query) -> Sequence[int]:
        self.count += 1
        page = self.shop.page(parameters(query))
        if isinstance(page, str):
            raise InvalidOutputError(page, None)
        return [order["id"] for order in page]

    async def failure(self, query: Query) -> InvalidOutputError:
        with pytest.raises(InvalidOutputError) as caught:
            await self.ask(query)
        return caught.value


def in_order(count: int, bad: Collection[int], *, mute: bool = False) -> Questions:
    """Orders 1 to `count`, modified one a minute."""
    orders = (raw(n, f"2026-11-23T{n // 60:02}:{n % 60:02}:00") for n in range(1, count + 1))
    return Questions(AbilityShop.of(orders, bad, mute=mute))


@pytest.mark.parametrize("mute", [False, True])
@pytest.mark.parametrize("bad", [1, 2, 50, 99, 100])
async def test_a_question_is_narrowed_to_the_bad_order(bad: int, *, mute: bool) -> None:
    questions = in_order(150, {bad}, mute=mute)
    query = Query(per_page=100)
    narrowed = await poison.narrow(questions.ask, query, await questions.failure(query))
    assert narrowed.per_page == 1
    assert narrowed.exclude == frozenset(range(1, bad))
    assert questions.count <= (9 if mute else 3)


async def test_what_was_left_out_stays_out_and_the_query_is_otherwise_the_same() -> None:
    questions = in_order(10, {7})
    query = Query(per_page=5, exclude=frozenset({1, 2, 3}), statuses=("processing",))
    narrowed = await poison.narrow(questions.ask, query, await questions.failure(query))
    assert narrowed == Query(per_page=1, exclude=frozenset(range(1, 7)), statuses=("processing",))


async def test_a_question_that_fails_no_more_is_narrowed_to_one_that_does_not_either() -> None:
    questions = in_order(10, {5})
    query = Query(per_page=10)
    failure = await questions.failure(query)
    questions.shop.bad.clear()
    narrowed = await poison.narrow(questions.ask, query, failure)
    assert narrowed.per_page == 1
    assert not await poison.fails(questions.ask, narrowed)


@given(
    seed=st.integers(0, 999),
    count=st.integers(1, 40),
    bad=st.integers(1, 40),
    mute=st.booleans(),
    whims=st.booleans(),
)
@settings(max_examples=100)
async def test_orders_of_one_second_are_narrowed_down_too(
    seed: int, count: int, bad: int, *, mute: bool, whims: bool
) -> None:
    """Which come first differs from question to question: the bad one, at least, is never left out."""
    shop = AbilityShop.of((raw(n, "2026-11-23T10:00:00") for n in range(1, count + 1)), {bad}, mute=mute)
    shop.seed, shop.order_random = seed, random.Random(seed) if whims else None
    questions = Questions(shop)
    query = Query(per_page=count)
    if bad > count:
        return
    narrowed = await poison.narrow(questions.ask, query, await questions.failure(query))
    assert narrowed.per_page == 1
    assert bad not in narrowed.exclude


# --- which one it is ----------------------------------------------------------------------------------------


class Window:
    """A page of which one order that is not left out is bad."""

    def __init__(self, *bad: int) -> None:
        self.bad = set(bad)
        self.questions: list[Collection[int]] = []

    async def fails(self, without: Collection[int]) -> bool:
        self.questions.append(without)
        return any(order_id not in without for order_id in self.bad)


HIGHEST = 3_000_000


@pytest.mark.parametrize(
    ("highest", "bad"),
    [
        (500, 1),
        (500, 500),
        (500, 500 + AHEAD),
        (100_000, 95_001),  # the lowest of the first window
        (100_000, 95_000),  # the highest of the second
        (HIGHEST, HIGHEST + AHEAD - WINDOW * WINDOWS + 1),
    ],
)
async def test_the_bad_order_is_found_by_its_id(highest: int, bad: int) -> None:
    window = Window(bad)
    assert await poison.find_bad_order(window.fails, highest) == bad
    assert len(window.questions) <= WINDOWS + 15
    assert max(map(len, window.questions)) <= WINDOW
    assert all(min(without, default=1) >= 1 for without in window.questions)


@given(highest=st.integers(1, 10**6), back=st.integers(-AHEAD, WINDOW * WINDOWS))
async def test_any_bad_order_within_reach_is_found(highest: int, back: int) -> None:
    bad = highest - back
    if 1 <= bad > highest + AHEAD - WINDOW * WINDOWS:
        assert await poison.find_bad_order(Window(bad).fails, highest) == bad


@given(st.sets(st.integers(12_000 + AHEAD - WINDOW + 1, 12_000 + AHEAD), min_size=1, max_size=20))
async def test_of_several_one_is_found(bad: set[int]) -> None:
    assert await poison.find_bad_order(Window(*bad).fails, 12_000) in bad


async def test_one_after_the_other_is_found_when_each_answers_for_itself() -> None:
    """As a narrowed question does: only the first order that is not left out counts."""
    orders, bad = [40_000, 41_000, 7], {40_000, 41_000}

    async def fails(without: Collection[int]) -> bool:
        return next(n for n in orders if n not in without) in bad

    assert await poison.find_bad_order(fails, 41_000) in bad


@pytest.mark.parametrize("bad", [{7, 40_000}, {1, 26_000, 26_001}, {26_000, 45_000}])
async def test_several_in_several_windows_are_found_one_by_one(bad: set[int]) -> None:
    found: set[int] = set()
    while bad - found:
        one = await poison.find_bad_order(Window(*bad - found).fails, 41_000)
        assert one in bad - found
        found.add(one)


@pytest.mark.parametrize("bad", [HIGHEST + AHEAD + 1, HIGHEST + AHEAD - WINDOW * WINDOWS])
async def test_a_bad_order_out_of_reach_is_not_found(bad: int) -> None:
    window = Window(bad)
    assert await poison.find_bad_order(window.fails, HIGHEST) is None
    assert len(window.questions) == WINDOWS + TOGETHER - 1


# --- what is remembered -------------------------------------------------------------------------------------


def test_a_bad_order_is_reported_until_it_is_requested_by_id() -> None:
    poisoned = Poisoned()
    poisoned.add(7, "bad")
    poisoned.add(5, "worse")
    five, seven = UnreadableOrder(5, "worse"), UnreadableOrder(7, "bad")
    assert poisoned.unreported(()) == poisoned.unreported(()) == [five, seven]
    assert poisoned.unreported({5}) == [seven]
    assert poisoned.requested_ids(7, "bad") == seven
    assert poisoned.unreported(()) == [five]
    assert poisoned.ids == {5, 7}
    poisoned.forget(5)
    poisoned.forget(99)
    assert poisoned.unreported(()) == []
    assert poisoned.ids == {7}


def test_so_many_are_remembered_and_no_more() -> None:
    poisoned = Poisoned()
    for order_id in range(1, MAX_REMEMBERED + 2):
        poisoned.add(order_id, "bad")
    assert poisoned.ids == set(range(2, MAX_REMEMBERED + 2))
    assert len(poisoned.unreported(())) == MAX_REMEMBERED
