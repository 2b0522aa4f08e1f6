"""`rate=` of a sink: how it is written, and how long to wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.rates import Rate, RateLimit, parse_rate


@pytest.mark.parametrize(
    ("text", "rate"),
    [("20/min", Rate(20, 60.0)), ("1/s", Rate(1, 1.0)), ("9999/h", Rate(9999, 3600.0))],
)
def test_a_rate_is_a_number_for_a_unit(text: str, rate: Rate) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize(
    "text",
    ["", "20", "0/s", "-1/s", "1.5/s", "20/m", "20 /min", "20/min ", "10000/h", "20/MIN", "٣/s", "1/s\n"],
)
def test_anything_else_is_refused_without_showing_it(text: str) -> None:
    with pytest.raises(
        ValueError, match=r"^should be a number of 1 to 9999, / and s, min or h, e\.g\. 20/min$"
    ):
        parse_rate(text)


def test_the_rate_holds_in_every_period() -> None:
    limit = RateLimit(Rate(2, 60.0))

    assert limit.wait_s(100.0) == 0
    limit.take(100.0)
    limit.take(130.0)
    assert limit.wait_s(130.0) == 30
    assert limit.wait_s(160.0) == 0
    limit.take(160.0)
    assert limit.wait_s(160.0) == 30


@given(st.integers(1, 5), st.lists(st.integers(0, 40), max_size=40))
def test_no_period_has_more_and_nothing_waits_longer_than_one(count: int, pauses: list[int]) -> None:
    limit, now, taken = RateLimit(Rate(count, 60.0)), 0.0, list[float]()
    for pause in pauses:
        now += pause
        wait_s = limit.wait_s(now)
        assert 0 <= wait_s <= 60
        now += wait_s
        limit.take(now)
        taken.append(now)
    assert all(sum(at <= one < at + 60 for one in taken) <= count for at in taken)
