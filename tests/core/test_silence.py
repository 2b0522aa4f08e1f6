"""When nobody buys any more."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core import silence
from shop_poller.core.model import Order
from shop_poller.core.transition import Policy
from shop_poller.sources.woocommerce.statuses import MEANINGS

BASELINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
POLICY = Policy(baseline_at=BASELINE, meanings=MEANINGS)
HOUR = 3600


def at(seconds: float | None) -> datetime | None:
    return None if seconds is None else BASELINE + timedelta(seconds=seconds)


def order(status: str, *, created: int = 0, paid: int | None = None) -> Order:
    return Order(
        id=101,
        number="101",
        status=status,
        total="1930.00",
        currency="RUB",
        currency_sign="₽",
        customer="Мария",
        created_at=BASELINE + timedelta(seconds=created),
        modified_at=BASELINE + timedelta(seconds=9_000),
        paid_at=at(paid),
    )


def newest(before: int | None, *orders: Order, shop_time: int = 10_000) -> datetime | None:
    return silence.newest_order(
        at(before), orders, policy=POLICY, shop_time=BASELINE + timedelta(seconds=shop_time)
    )


@pytest.mark.parametrize(
    ("before", "orders", "expected"),
    [
        (None, [], None),
        (5, [], 5),
        (None, [order("processing", created=7)], 7),
        (None, [order("processing", created=7, paid=9)], 9),
        (None, [order("shipped", created=7), order("completed", created=8)], 8),
        (20, [order("processing", created=7)], 20),
        (5, [order("processing", created=7), order("completed", created=6)], 7),
        # An old order that is paid now is a sign of life; one that is touched is none.
        (5, [order("processing", created=-99, paid=8)], 8),
        (5, [order("completed", created=-99, paid=-98)], 5),
        # Who does not pay says nothing of whether one can.
        (None, [order(s, created=7) for s in ("pending", "on-hold", "failed", "cancelled", "trash")], None),
        (5, [order("pending", created=7)], 5),
        # Nothing is newer than the shop's clock.
        (None, [order("processing", created=10_001)], 10_000),
        (5, [order("processing", created=7, paid=99_999_999)], 10_000),
        (99_999_999, [], 10_000),
    ],
)
def test_when_the_newest_order_was_paid(
    before: int | None, orders: list[Order], expected: int | None
) -> None:
    assert newest(before, *orders) == at(expected)


def to_announce(
    newest_order: float | None, announced: float | None, shop_time: float, *, hours: float = 12
) -> datetime | None:
    return silence.to_announce(
        newest_order_at=at(newest_order),
        baseline_at=BASELINE,
        announced_at=at(announced),
        shop_time=BASELINE + timedelta(seconds=shop_time),
        threshold=timedelta(hours=hours),
    )


@pytest.mark.parametrize(
    ("newest_order", "announced", "shop_time", "since"),
    [
        # Since the last order, or since we watch.
        (600, None, 600 + 12 * HOUR - 1, None),
        (600, None, 600 + 12 * HOUR, 600),
        (None, None, 12 * HOUR - 1, None),
        (None, None, 12 * HOUR, 0),
        # Once.
        (600, 600, 99 * HOUR, None),
        (None, 0, 99 * HOUR, None),
        # The next order arms it again.
        (700, 600, 700 + 12 * HOUR - 1, None),
        (700, 600, 700 + 12 * HOUR, 700),
        (700, 0, 700 + 12 * HOUR, 700),
        # Orders of before our watch say nothing of those that we did not see.
        (-99 * HOUR, None, HOUR, None),
        (-99 * HOUR, None, 12 * HOUR, 0),
        (-99 * HOUR, 0, 99 * HOUR, None),
        # The shop's clock was set back.
        (600, None, -99 * HOUR, None),
    ],
)
def test_a_silence_is_told_once(
    newest_order: float | None, announced: float | None, shop_time: float, since: float | None
) -> None:
    assert to_announce(newest_order, announced, shop_time) == at(since)


@given(
    st.lists(st.integers(0, 100 * HOUR), max_size=8),
    st.integers(1, 30),
    st.integers(600, 7200),
)
def test_every_gap_that_is_long_enough_is_told_once_and_no_other(
    paid: list[int], hours: int, tick: int
) -> None:
    newest_at = announced_at = None
    announced: list[float] = []
    for now in range(0, 150 * HOUR, tick):
        orders = [order("processing", created=second) for second in paid if second <= now]
        newest_at = newest(None if newest_at is None else seconds(newest_at), *orders, shop_time=now)
        since = to_announce(
            None if newest_at is None else seconds(newest_at),
            None if announced_at is None else seconds(announced_at),
            now,
            hours=hours,
        )
        if since is not None:
            announced.append(seconds(since))
            announced_at = since

    looks = range(0, 150 * HOUR, tick)
    heard = sorted({0, *(max(s for s in (0, *paid) if s <= now) for now in looks)})
    ends = [next((now for now in looks if now >= after), 150 * HOUR) for after in heard[1:]] + [150 * HOUR]
    assert announced == [
        since
        for since, end in zip(heard, ends, strict=True)
        if any(since + hours * HOUR <= now < end for now in looks)
    ]


def seconds(instant: datetime) -> int:
    return round((instant - BASELINE).total_seconds())
