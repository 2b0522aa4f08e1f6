"""What a sweep looks at, in which order, and what of it polling should have shown."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.core.cursor import CreatedWalk, created_walk
from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import KnownOrder, Order, Query, Refund
from shop_poller.core.sweep import AHEAD, ByIds, contradicts, made_at, missed, recent
from shop_poller.core.transition import Policy, decide
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.model_shop import ModelShop, at

T0 = datetime(2026, 11, 23, 9, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
POLICY = Policy(T0 - timedelta(days=1), meanings=MEANINGS)


def test_what_is_recent_may_be_dated_a_little_ahead() -> None:
    assert recent(T0, timedelta(hours=48)).query() == Query(
        per_page=100,
        newest_first=True,
        created_after=T0 - timedelta(hours=48),
        created_before=T0 + AHEAD,
    )


def test_orders_are_requested_by_their_ids_in_halves_if_necessary() -> None:
    five = ByIds((1, 2, 3, 4, 5))
    assert five.query() == Query(per_page=5, ids=frozenset({1, 2, 3, 4, 5}), with_items=True)
    assert five.halved().ids == (1, 2)
    with pytest.raises(TemporaryError, match="one single order"):
        ByIds((1,)).halved()


# --- walking through the past -------------------------------------------------------------------------------


@pytest.mark.parametrize("per_page", [1, 2, 3, 7, 100])
def test_every_order_made_in_the_window_is_shown_once_newest_first(per_page: int) -> None:
    shop = ModelShop(now=10_000)
    for created in (0, 100, 101, 101, 101, 102, 500, 500, 900, 901, 10_050):
        shop.create(created=created)
    walk: CreatedWalk | None = created_walk(since=at(100), before=at(10_051))
    listed: list[int] = []
    while walk is not None:
        page = shop.answer(replace(walk, per_page=per_page).query())
        listed += [item.id for item in page.items]
        walk = replace(walk, per_page=per_page).advance(page)
    inside = [row for row in shop.rows.values() if 100 < row.created < 10_051]
    assert sorted(listed) == sorted(row.id for row in inside)
    assert len(inside) == 9
    assert [shop.rows[i].created for i in listed] == sorted(
        (shop.rows[i].created for i in listed), reverse=True
    )


# --- what was missed ----------------------------------------------------------------------------------------


def order(status: str = "processing", *, modified_at: datetime = T0, **more: object) -> Order:
    made = Order(
        id=7,
        number="7",
        status=status,
        total="1.00",
        currency="RUB",
        currency_sign="₽",
        customer="Анна",
        created_at=T0 - timedelta(hours=1),
        modified_at=modified_at,
    )
    return replace(made, **more)  # type: ignore[arg-type] # fields of Order, as the tests name them


def is_missed(known: KnownOrder | None, shown: Order, polled_to: datetime = T0) -> bool:
    return missed(known, shown, decide(known, shown, POLICY), polled_to=polled_to)


KNOWN = KnownOrder(7, "processing", T0, announced_new=True, refund_ids=frozenset())


@pytest.mark.parametrize(
    ("known", "shown", "expected"),
    [
        pytest.param(KNOWN, order(), False, id="as it is known"),
        pytest.param(KNOWN, order("cancelled"), True, id="another status"),
        pytest.param(KNOWN, order("completed"), True, id="another status that is no event"),
        pytest.param(KNOWN, order(refunds=(Refund(9, "1.00"),)), True, id="a refund"),
        pytest.param(KNOWN, order(refunds=None), False, id="a dialect that sees no refunds"),
        pytest.param(
            replace(KNOWN, refund_ids=None), order(refunds=(Refund(9, "1.00"),)), False,
            id="a refund that was never looked for",
        ),
        pytest.param(None, order(), True, id="an order that nobody knew"),
        pytest.param(None, order("pending"), True, id="one that is no event yet"),
        pytest.param(
            None, order(created_at=T0 - timedelta(days=9)), False, id="one that is older than our watch"
        ),
    ],
)  # fmt: skip
def test_missed_is_what_is_not_known(known: KnownOrder | None, shown: Order, *, expected: bool) -> None:
    assert is_missed(known, shown) is expected


def test_what_the_next_walk_will_show_was_not_missed() -> None:
    for late in (1, 60):
        shown = order("cancelled", modified_at=T0 + timedelta(seconds=late))
        assert not is_missed(KNOWN, shown, polled_to=T0)
        assert is_missed(KNOWN, shown, polled_to=shown.modified_at)


def test_a_question_by_ids_can_be_made_smaller() -> None:
    assert ByIds((1, 2, 3)).sized(2) == ByIds((1, 2))
    assert ByIds((1, 2, 3)).sized(9) == ByIds((1, 2, 3))


def test_a_walk_can_be_made_smaller_where_it_stands() -> None:
    shop = ModelShop(now=10_000)
    for created in (100, 200, 300):
        shop.create(created=created)
    walk = recent(at(10_000), timedelta(hours=48)).sized(2)
    assert (walk.query().per_page, walk.halved().query().per_page) == (2, 1)
    following = walk.advance(shop.answer(walk.query()))
    assert following is not None
    page = shop.answer(following.halved().query())
    assert [shop.rows[item.id].created for item in page.items] == [100]
    with pytest.raises(TemporaryError, match="one single order"):
        following.sized(1).halved()


def test_an_order_is_confirmed_among_those_of_its_second() -> None:
    shop = ModelShop(now=10_000)
    for created in (99, 100, 100, 101):
        shop.create(created=created)
    page = shop.answer(made_at(at(100)).query())
    assert [shop.rows[item.id].created for item in page.items] == [100, 100]


def test_what_contradicts_is_dated_before_what_is_known_and_differs() -> None:
    order = Order(7, "7", "processing", "9.00", "RUB", "₽", "", created_at=T0 - MINUTE, modified_at=T0)
    known = decide(None, order, POLICY).known
    earlier = replace(order, modified_at=T0 - MINUTE)
    half_written = replace(earlier, refunds=(Refund(3, "9.00"),))
    holding = replace(POLICY, shop_time=T0)

    def differs(shown: Order, known: KnownOrder | None = known, policy: Policy = POLICY) -> bool:
        return contradicts(known, shown, decide(known, shown, policy))

    assert differs(replace(earlier, status="cancelled")), "there is something to announce"
    assert differs(replace(earlier, status="completed")), "there is something to remember"
    assert decide(known, half_written, holding).held_refund_ids
    assert differs(half_written, policy=holding), "there is something to look at again"
    assert not differs(earlier)
    assert not differs(replace(order, status="cancelled")), "it is not dated before"
    assert not differs(earlier, None)
