"""When a sweep's question fits between two ticks, and when it is asked though it does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.sweep_schedule import EVERY_TICKS, SweepSchedule


def after(interval_s: float, *answers: tuple[int, float]) -> SweepSchedule:
    schedule = SweepSchedule(interval_s)
    for size, took_s in answers:
        schedule = schedule.answered(size, took_s)
    return schedule


@pytest.mark.parametrize(
    ("answers", "left_s", "expected"),
    [
        ([], 60, True),
        ([], 0.4, False),  # the first answer may take half a second
        ([(100, 3)], 4, True),
        ([(100, 3)], 2.9, False),
        ([(100, 3), (100, 1)], 1.4, False),  # one answer before it took three seconds
        ([(100, 3), (100, 1)], 1.5, True),
        ([(100, 3), (100, 1), (100, 1)], 1.2, True),
    ],
)
def test_a_request_is_sent_if_its_answer_comes_before_the_next_tick(
    answers: list[tuple[int, float]],
    left_s: float,
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert after(60, *answers).may_ask(left_s, triggered=False) is expected


def test_a_tick_that_is_wanted_goes_first_but_not_for_ever() -> None:
    schedule = after(60, (100, 1))

    assert not schedule.may_ask(50, triggered=True)
    assert schedule.passed().may_ask(50, triggered=True)
    assert not schedule.passed().may_ask(0.5, triggered=True), "nor does it delay the grid for that"


def test_where_no_answer_comes_in_time_a_request_is_sent_after_some_ticks() -> None:
    schedule = after(5, (1, 20))
    ticks = 0
    while not schedule.may_ask(5, triggered=False):
        schedule, ticks = schedule.passed(), ticks + 1

    assert ticks == EVERY_TICKS
    assert schedule.may_ask(-1, triggered=True)
    assert not schedule.answered(1, 20).may_ask(5, triggered=False)


@pytest.mark.parametrize(
    ("answers", "most"),
    [
        ([(100, 2.5)], 100),  # half an interval is enough
        ([(100, 2.6)], 50),
        ([(100, 8), (50, 4)], 25),
        ([(100, 8), (50, 4), (25, 2)], 25),
        ([(100, 8), (50, 7)], 50),  # fewer orders do not help: the shop is slow, whatever it is asked
        ([(100, 8), (50, 4), (25, 0.5)], 50),  # it is fast again
        ([(100, 8), (50, 0.5), (100, 0.5), (100, 0.5)], 100),
        ([(1, 8), (1, 8)], 100),  # one order cannot be halved, and says nothing of more
    ],
)
def test_pages_are_as_large_as_fits_into_half_an_interval(
    answers: list[tuple[int, float]], most: int
) -> None:
    assert after(5, *answers).most == most


def test_a_request_that_timed_out_is_sent_again_with_half_the_size() -> None:
    schedule = SweepSchedule(60).timed_out(100, 30)

    assert (schedule.most, schedule.expected_s) == (50, 30)
    assert schedule.timed_out(50, 30).most == 25
    assert SweepSchedule(60).timed_out(1, 30).most == 1


@given(
    interval_s=st.floats(1, 3600),
    took_s=st.lists(st.floats(0, 30), min_size=1, max_size=200),
    tick_s=st.floats(0, 30),
)
def test_a_sweep_goes_on_and_no_tick_waits_twice_in_a_row(
    interval_s: float, took_s: list[float], tick_s: float
) -> None:
    """Whatever answers take: a page comes at least every `EVERY_TICKS` ticks."""
    schedule, without = SweepSchedule(interval_s), 0
    for seconds in took_s:
        left_s, requested = interval_s - tick_s, 0
        while schedule.may_ask(left_s, triggered=False) and requested < 1000:
            schedule, left_s, requested = (
                schedule.answered(schedule.most, seconds),
                left_s - max(seconds, 0.01),
                requested + 1,
            )
        assert 1 <= schedule.most <= 100
        if not requested:
            schedule, without = schedule.passed(), without + 1
        else:
            without = 0
        assert without <= EVERY_TICKS
