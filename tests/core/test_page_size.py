"""How many orders are asked for at once, when pages fail and when they are answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.page_size import LIGHTER_S, PageSize


def ask(state: PageSize, now: float, *, limit: int, tries: int = 4) -> tuple[PageSize, list[int]]:
    """One question to a shop that breaks over more than `limit` orders: what was asked for in one tick."""
    sizes = []
    for _ in range(tries):
        sizes.append(state.current)
        if state.current <= limit:
            return state.answered(state.current, now), sizes
        state = state.broke(state.current)
    return state, sizes


def test_a_page_that_fails_is_followed_by_a_quarter_down_to_one_order() -> None:
    state, sizes = ask(PageSize(), 0, limit=0)

    assert sizes == [100, 25, 6, 1]
    assert state.current == 1


@pytest.mark.parametrize(("limit", "size"), [(99, 50), (30, 25), (10, 6), (1, 1)])
def test_it_settles_at_a_size_that_the_shop_answers(limit: int, size: int) -> None:
    state = PageSize()
    for tick in range(30):
        state, sizes = ask(state, 60.0 * tick, limit=limit)
        assert sizes[-1] <= limit, "every question is answered within its tick"

    assert sizes == [size]


def test_one_failure_proves_nothing_about_the_size() -> None:
    state = PageSize().broke(100).answered(25, 0).answered(50, 60)

    assert state.current == 100


def test_a_size_that_failed_twice_is_requested_again_after_an_hour() -> None:
    state = PageSize().broke(100).answered(25, 0).answered(50, 60).broke(100).answered(50, 120)

    assert state.answered(50, 120 + LIGHTER_S - 1).current == 50
    assert state.answered(50, 120 + LIGHTER_S).current == 100


def test_a_failure_long_ago_is_forgotten() -> None:
    state = PageSize().broke(100).answered(25, 0)
    later = state.answered(50, 60).broke(100).answered(50, 2 * LIGHTER_S + 1)

    assert later.current == 100


def test_a_size_that_is_answered_clears_itself() -> None:
    state = PageSize().broke(100).answered(25, 0).answered(50, 60).answered(100, 120)

    assert state.broke(100).answered(25, 180).answered(50, 240).current == 100


def test_after_an_outage_pages_double() -> None:
    state = PageSize()
    for tick in range(60):
        state, _ = ask(state, 60.0 * tick, limit=0)
    sizes = []
    for _ in range(8):
        state, (size,) = ask(state, 3600.0, limit=100)
        sizes.append(size)

    assert sizes == [1, 2, 4, 8, 16, 32, 64, 100]


def test_where_one_more_question_is_all_there_is_it_is_one_that_was_answered_or_the_smallest() -> None:
    assert PageSize().broke(100, is_last=True).current == 1
    assert PageSize().answered(50, 0).broke(100, is_last=True).current == 50
    assert PageSize().answered(50, 0).broke(50, is_last=True).current == 1


@given(st.lists(st.tuples(st.floats(0, 10_000), st.integers(0, 100)), max_size=60))
def test_sizes_stay_in_bounds_and_every_failure_leads_to_less(moves: list[tuple[float, int]]) -> None:
    state, now = PageSize(), 0.0
    for pause_s, limit in moves:
        now += pause_s
        before = state.current
        after = state.broke(before) if before > limit else state.answered(before, now)
        assert 1 <= after.current <= 100
        if before > limit:
            assert after.current < before or before == 1
        else:
            assert after.current >= before
        state = after


def test_the_largest_size_is_less_only_while_one_is_known_to_be_too_large() -> None:
    state = PageSize().broke(100).answered(25, 0).answered(50, 60).broke(100).answered(50, 120)

    assert PageSize().broke(100).largest(0) == 100, "one failure proves nothing"
    assert state.largest(120 + LIGHTER_S - 1) == 50
    assert state.largest(120 + LIGHTER_S) == 100
