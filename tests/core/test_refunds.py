"""The walk through a shop's list of refunds, and which of its rows are news."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core import refunds
from shop_poller.core.model import KnownOrder, Order, Page, Refund, UnreadableOrder
from shop_poller.core.refunds import RefundPage, RefundQuery, RefundRow, RefundWalk
from shop_poller.sources.woocommerce.dialects import refunds_url

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
WINDOW = timedelta(hours=48)


def at(second: float) -> datetime:
    return T0 + timedelta(seconds=second)


def row(number: int, second: float | None, order_id: int = 1) -> RefundRow:
    return RefundRow(number, order_id, None if second is None else at(second))


def begun(second: float = 0) -> RefundWalk:
    return RefundWalk(since=at(second), bound=at(second))


class FakeList:
    """A shop's list that does as it is asked, or not quite.

    Args:
        rows: all of it.
        cap: rows of a page at most.
        copies: how often each row is shown.
        counts: whether the shop tells how many match.
        obeys_exclude: whether ids are left out.
        newest_first: it is sorted the wrong way round.
    """

    def __init__(
        self,
        rows: Sequence[RefundRow],
        *,
        cap: int = 100,
        copies: int = 1,
        counts: bool = True,
        obeys_exclude: bool = True,
        newest_first: bool = False,
    ) -> None:
        self.rows = sorted(rows, key=lambda row: (row.created_at or T0, row.id), reverse=newest_first)
        self.cap, self.copies, self.counts, self.obeys_exclude = cap, copies, counts, obeys_exclude
        self.requested = 0

    def answer(self, query: RefundQuery) -> RefundPage:
        self.requested += 1
        matching = [
            row
            for row in self.rows
            if (row.created_at is None or row.created_at > query.after)
            and not (self.obeys_exclude and row.id in query.exclude)
            for _ in range(self.copies)
        ]
        size = min(self.cap, query.per_page)
        totals = (len(matching), -(-len(matching) // size)) if self.counts else (None, None)
        return RefundPage(matching[:size], *totals)


def walked(shop: FakeList, walk: RefundWalk | None = None) -> list[int]:
    """The ids that a whole walk reads, in order. The position never passes what was not read."""
    walk = walk or begun()
    read: list[int] = []
    so_far: datetime | None = None
    for _ in range(1000):
        page = shop.answer(walk.query())
        read += [row.id for row in walk.fresh(page)]
        so_far = refunds.reached(walk, page, so_far=so_far, shop_time=at(10**6))
        missing = [row.created_at for row in shop.rows if row.id not in read and row.created_at is not None]
        assert all(created > so_far for created in missing if created > at(0))
        following = walk.advance(page)
        if following is None:
            return read
        walk = following
    raise AssertionError("there is no end")


LISTS = st.lists(st.integers(1, 30), max_size=60).map(
    lambda seconds: [row(number, second) for number, second in enumerate(seconds, 1)]
)


@given(
    rows=LISTS,
    cap=st.sampled_from([1, 2, 7, 100]),
    copies=st.sampled_from([1, 2]),
    counts=st.booleans(),
    newest_first=st.booleans(),
)
def test_every_refund_is_read_once_however_the_pages_come(
    rows: list[RefundRow], *, cap: int, copies: int, counts: bool, newest_first: bool
) -> None:
    shop = FakeList(rows, cap=cap, copies=copies, counts=counts, newest_first=newest_first)
    assert sorted(walked(shop)) == [row.id for row in rows]


@given(many=st.integers(0, 60), counts=st.booleans())
def test_a_shop_that_leaves_nothing_out_is_read_too(*, many: int, counts: bool) -> None:
    """But for more than a page of one second."""
    rows = [row(number, number // 5 + 1) for number in range(1, many + 1)]
    shop = FakeList(rows, cap=7, obeys_exclude=False, counts=counts)
    assert sorted(set(walked(shop))) == [row.id for row in rows]


@pytest.mark.parametrize(
    ("many", "counts", "questions"),
    [
        (0, True, 1),
        (5, True, 1),
        (100, True, 1),
        (101, True, 2),
        (250, True, 3),
        (0, False, 1),
        (5, False, 2),
    ],
)
def test_what_it_costs(*, many: int, counts: bool, questions: int) -> None:
    shop = FakeList([row(number, number) for number in range(1, many + 1)], counts=counts)
    walked(shop)
    assert shop.requested == questions


@pytest.mark.parametrize(
    ("total", "total_pages", "ends"),
    [(2, 1, True), (0, 0, True), (2, None, True), (3, 1, False), (None, 1, True), (None, 2, False)],
)
def test_the_end_is_what_the_shop_says_and_not_the_size_of_the_page(
    *, total: int | None, total_pages: int | None, ends: bool
) -> None:
    page = RefundPage([row(1, 5), row(2, 6)], total, total_pages)
    assert (begun().advance(page) is None) is ends


@pytest.mark.parametrize(("many", "ends"), [(3, False), (4, True)])
def test_a_walk_that_would_leave_out_too_many_ids_ends(
    monkeypatch: pytest.MonkeyPatch, *, many: int, ends: bool
) -> None:
    monkeypatch.setattr(refunds, "MAX_EXCLUDE", 3)
    page = RefundPage([row(number, 5) for number in range(1, many + 1)], total=90)
    assert (begun().advance(page) is None) is ends


def test_an_answer_with_nothing_new_is_the_end_whatever_the_shop_says() -> None:
    page = RefundPage([row(1, 5)], total=90, total_pages=9)
    following = begun().advance(page)
    assert following is not None
    assert following.query() == RefundQuery(after=at(0), exclude=frozenset({1}))
    assert following.advance(page) is None
    assert following.advance(RefundPage([], total=90, total_pages=9)) is None


def test_the_beginning_of_the_list_instead_of_the_requested_part_is_noticed() -> None:
    walk = begun(100)
    assert walk.is_ignored_by(RefundPage([row(1, 5)], total=90))
    assert not walk.is_ignored_by(RefundPage([row(1, 5)], total=1))
    assert not walk.is_ignored_by(RefundPage([row(1, 105)], total=90))
    assert not walk.is_ignored_by(RefundPage([], total=0))


# --- where it begins, and how far it has come ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("reached", "since"),
    [
        pytest.param(None, timedelta(days=-90), id="never read: from the baseline"),
        pytest.param(timedelta(days=-10), timedelta(days=-10), id="not read for long: from there"),
        pytest.param(timedelta(hours=-1), -WINDOW, id="read of late: the window again"),
        pytest.param(timedelta(hours=5), -WINDOW, id="a clock that was set back"),
        pytest.param(timedelta(days=-200), timedelta(days=-90), id="nothing from before the baseline"),
    ],
)
def test_where_a_walk_begins(reached: timedelta | None, since: timedelta) -> None:
    walk = refunds.begin(
        reached=None if reached is None else T0 + reached,
        shop_time=T0,
        window=WINDOW,
        baseline=T0 - timedelta(days=90),
    )
    assert walk.bound == T0 + since - timedelta(seconds=1)  # exclusive


def test_a_walk_in_the_first_days_begins_at_the_baseline() -> None:
    """Nothing is asked for that cannot be news."""
    walk = refunds.begin(reached=None, shop_time=T0, window=WINDOW, baseline=T0 - HOUR)
    assert walk.query().after == T0 - HOUR - timedelta(seconds=1)


def test_the_position_stays_behind_a_refund_that_is_dated_ahead() -> None:
    page = RefundPage([row(1, 5), row(2, 5000)], total=2)
    assert refunds.reached(begun(), page, so_far=None, shop_time=at(100)) == at(5)
    page = replace(page, total=9)
    assert refunds.reached(begun(), page, so_far=None, shop_time=at(100)) == at(100)


def test_the_position_moves_to_the_last_second_read_and_asks_for_that_once_more() -> None:
    following = begun().advance(RefundPage([row(1, 5), row(2, 9), row(3, 9)], total=90))
    assert following is not None
    assert following.query() == RefundQuery(after=at(8), exclude=frozenset({2, 3}))


def test_the_position_does_not_go_back() -> None:
    assert refunds.reached(begun(), RefundPage([]), so_far=at(50), shop_time=at(100)) == at(50)
    assert refunds.reached(begun(), RefundPage([]), so_far=None, shop_time=at(100)) == at(0)


# --- what a row leads to ------------------------------------------------------------------------------------

KNOWN = KnownOrder(1, "completed", T0, refund_ids=frozenset({7, 8}), silent_refund_ids=frozenset({8}))


@pytest.mark.parametrize(
    ("one", "is_read"),
    [
        pytest.param(row(7, 5), False, id="known"),
        pytest.param(row(8, 5), True, id="known, but recorded without an event"),
        pytest.param(row(8, None), False, id="likewise, and still without a date"),
        pytest.param(row(9, 5), True, id="not known"),
        pytest.param(row(9, None), True, id="not known, without a date"),
        pytest.param(row(9, -5), False, id="older than the baseline"),
        pytest.param(row(9, 0), True, id="as old as the baseline"),
        pytest.param(row(7, 5, order_id=2), True, id="of an unknown order"),
        pytest.param(row(7, 5, order_id=3), True, id="of an order whose refunds were never shown"),
    ],
)
def test_which_rows_lead_to_an_order(*, one: RefundRow, is_read: bool) -> None:
    known = {1: KNOWN, 3: replace(KNOWN, id=3, refund_ids=None, silent_refund_ids=frozenset())}
    assert refunds.to_look_at([one], known, baseline=T0) == ([one] if is_read else [])


def test_orders_get_the_dates_of_their_refunds() -> None:
    order = Order(
        1, "1", "completed", "9.00", "RUB", "₽", "", T0, T0, refunds=(Refund(7, "1.00"), Refund(8, "2.00"))
    )
    blind = replace(order, id=2, refunds=None)
    page = Page((order, blind, UnreadableOrder(3, "no total")), T0)
    dated = refunds.with_dates(page, [row(7, 5), row(9, 6)])
    assert dated.items[0] == replace(order, refunds=(Refund(7, "1.00", at(5)), Refund(8, "2.00")))
    assert dated.items[1:] == page.items[1:]


@pytest.mark.parametrize(
    ("orders", "expected"),
    [
        ("https://shop.example/wp-json/wc/v3/orders", "https://shop.example/wp-json/wc/v3/refunds"),
        ("https://shop.example/wp-json/wc/v3/orders/", "https://shop.example/wp-json/wc/v3/refunds/"),
        ("https://shop.example/api/wc/v3/orders?a=b", "https://shop.example/api/wc/v3/refunds?a=b"),
        (
            "https://shop.example/?rest_route=/wc/v3/orders&via=wp-json/wc/",
            "https://shop.example/?rest_route=/wc/v3/refunds&via=wp-json/wc/",
        ),
        (
            "https://shop.example/?rest_route=%2Fwc%2Fv3%2Forders",
            "https://shop.example/?rest_route=%2Fwc%2Fv3%2Frefunds",
        ),
        ("https://shop.example/wc/v3/orders-of-mine", None),
        ("https://shop.example/mcp", None),
    ],
)
def test_where_the_list_is(orders: str, expected: str | None) -> None:
    assert refunds_url(orders) == expected
