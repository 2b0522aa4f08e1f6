"""What is counted of orders on which day."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.model import EventType, Order, OrderEvent, Refund
from shop_poller.core.tallies import (
    KEPT_DAYS,
    MAX_DAYS,
    MOST_CURRENCIES,
    Amounts,
    CurrencySum,
    OrderTally,
    TallyChange,
    TallyClock,
    by_day,
    counted,
    given_back,
    happened_at,
    total,
)
from shop_poller.core.transition import Policy, decide
from shop_poller.sources.woocommerce.statuses import MEANINGS

MOSCOW = ZoneInfo("Europe/Moscow")
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TODAY = date(2026, 11, 25)


def order(**changes: Any) -> Order:
    known: dict[str, Any] = {
        "id": 7, "number": "7", "status": "processing", "total": "100.00", "currency": "RUB",
        "currency_sign": "₽", "customer": "", "created_at": NOON, "modified_at": NOON,
    }  # fmt: skip
    return Order(**known | changes)


def event(type_: str = EventType.NEW, *, refund: Refund | None = None, **changes: Any) -> OrderEvent:
    earlier = frozenset(changes.pop("earlier", ()))
    return OrderEvent(type_, order(**changes), 1, paid=True, refund=refund, earlier_refund_ids=earlier)


CLOCK = TallyClock(NOON, is_right=True, zone=MOSCOW)


def change_by(
    stored: dict[date, OrderTally], events: Sequence[OrderEvent], clock: TallyClock = CLOCK
) -> TallyChange:
    return counted(stored, by_day(events, clock), clock)


def tally(*events: OrderEvent, stored: dict[date, OrderTally] | None = None) -> dict[date, OrderTally]:
    return dict(change_by(stored or {}, events, CLOCK).changed)


def rub(count: int, amount: str, unknown: int = 0) -> Amounts:
    return Amounts(count + unknown, unknown, {"RUB": CurrencySum("₽", Decimal(amount), count)})


def test_each_kind_is_counted_with_its_money() -> None:
    refund = Refund(1, "30.00")
    found = tally(
        event(),
        event(total="50.50"),
        event(EventType.FAILED),
        event(EventType.CANCELLED),
        event(EventType.PARTIALLY_REFUNDED, refund=refund, refunds=(refund,)),
        event(EventType.PLACED),
        event(EventType.PAYMENT_OVERDUE),
        event("shop.order.packing"),
    )
    assert found == {TODAY: OrderTally(rub(2, "150.50"), rub(1, "100"), rub(1, "100"), rub(1, "30"))}
    assert found[TODAY].orders.sums["RUB"].average == Decimal("75.25")


def test_an_event_counts_on_its_day_in_the_zone_of_the_owner() -> None:
    late = datetime(2026, 11, 23, 21, 30, tzinfo=UTC)  # 0:30 of the 24th in Moscow
    for one in (
        event(paid_at=late),
        event(EventType.FAILED, modified_at=late),
        event(EventType.PARTIALLY_REFUNDED, refund=Refund(1, "1.00", late)),
        event(EventType.PARTIALLY_REFUNDED, refund=Refund(1, "1.00"), modified_at=late),
        event(EventType.REFUNDED, refunds=(Refund(1, "100.00", late),)),
        event(EventType.REFUNDED, refunds=(Refund(1, "1.00", NOON), Refund(2, "99.00", late)), earlier=[1]),
        event(EventType.REFUNDED, refunds=None, modified_at=late),
    ):
        assert happened_at(one) == late
        assert [*tally(one)] == [date(2026, 11, 24)]


def test_a_date_in_the_future_counts_as_today_and_an_old_one_not_at_all() -> None:
    assert [*tally(event(paid_at=NOON + timedelta(days=400)))] == [TODAY]
    assert tally(event(paid_at=NOON - timedelta(days=KEPT_DAYS + 1))) == {}
    assert [*tally(event(paid_at=NOON - timedelta(days=KEPT_DAYS)))] == [TODAY - timedelta(days=KEPT_DAYS)]


@pytest.mark.parametrize(
    ("refunds", "earlier", "expected"),
    [
        (None, [], "100.00"),
        ((), [], "100.00"),
        ((Refund(1, "100.00"),), [], "100.00"),
        ((Refund(1, "30.00"), Refund(2, "70.00")), [1], "70.00"),
        ((Refund(1, "30.00"),), [1], "70.00"),  # the second one is not written yet
        ((Refund(1, ""), Refund(2, "70.00")), [1], ""),
        ((Refund(1, "130.00"),), [1], "0"),
    ],
)
def test_a_full_refund_gives_back_what_earlier_ones_left(
    refunds: tuple[Refund, ...] | None, earlier: list[int], expected: str
) -> None:
    one = event(EventType.REFUNDED, refunds=refunds, earlier=earlier)
    assert given_back(one) == expected
    assert tally(one).get(TODAY, OrderTally()).refunds.count == (expected != "0")


def test_what_cannot_be_read_is_counted_without_its_sum() -> None:
    assert tally(event(total=""), event())[TODAY].orders == rub(1, "100", unknown=1)
    assert given_back(event(EventType.REFUNDED, total="")) == ""


def test_currencies_are_summed_apart_and_bounded() -> None:
    found = tally(event(), event(currency="EUR", currency_sign="€", total="5"))[TODAY].orders
    assert {name: (one.sign, one.amount) for name, one in found.sums.items()} == {
        "RUB": ("₽", Decimal(100)),
        "EUR": ("€", Decimal(5)),
    }
    many = tally(*(event(currency=f"C{n}") for n in range(MOST_CURRENCIES + 3)), event(currency="C0"))[TODAY]
    assert (len(many.orders.sums), many.orders.count, many.orders.unknown) == (
        MOST_CURRENCIES, MOST_CURRENCIES + 4, 3,
    )  # fmt: skip
    assert many.orders.sums["C0"].count == 2


def test_days_that_are_no_longer_needed_are_dropped_with_the_next_event() -> None:
    days = [TODAY + timedelta(days=days) for days in (-KEPT_DAYS - 1, -KEPT_DAYS, 0, 1)]
    stored = dict.fromkeys(days, OrderTally(rub(1, "1")))
    change = change_by(stored, [event()], CLOCK)
    assert (change.changed, change.dropped) == ({TODAY: OrderTally(rub(2, "101"))}, [days[0], days[3]])
    nothing = change_by(stored, [event(EventType.PLACED)], CLOCK)
    assert (nothing.changed, nothing.dropped) == ({}, [])


@pytest.mark.parametrize("off", [timedelta(days=-3650), timedelta(days=-3), timedelta(days=60)])
def test_a_wrong_clock_drops_no_day_and_loses_no_event(off: timedelta) -> None:
    stored = {TODAY - timedelta(days=days): OrderTally(rub(1, "1")) for days in range(1, KEPT_DAYS)}
    clock = TallyClock(NOON + off, is_right=False, zone=MOSCOW)
    change = change_by(stored, [event()], clock)
    assert (change.changed, change.dropped) == ({TODAY: OrderTally(rub(1, "100"))}, [])
    assert by_day([event(), event(EventType.PLACED)], clock).keys() == {TODAY}


def test_while_a_clock_is_wrong_the_days_are_bounded_all_the_same() -> None:
    days = [TODAY - timedelta(days=days) for days in range(1, MAX_DAYS + 3)]
    clock = TallyClock(NOON, is_right=False, zone=MOSCOW)
    change = change_by(dict.fromkeys(days, OrderTally(rub(1, "1"))), [event()], clock)
    assert len(days) + 1 - len(change.dropped) == MAX_DAYS
    assert change.dropped == sorted(days)[:3], "the oldest"


def test_the_days_that_events_change() -> None:
    old = event(paid_at=NOON - timedelta(days=KEPT_DAYS + 1))
    assert by_day([event(), event(EventType.PLACED), old], CLOCK).keys() == {TODAY}
    assert by_day([event(EventType.PLACED)], CLOCK).keys() == set()


def test_a_tally_is_read_as_it_was_written() -> None:
    one = OrderTally(rub(2, "150.50", unknown=1), refunds=rub(1, "0.00000001"))
    assert OrderTally.of_json(json.loads(json.dumps(one.as_json()))) == one
    assert OrderTally().as_json() == {}


@pytest.mark.parametrize(
    "found",
    [
        None, [], "", 1, {"visits": [1, 0]}, {"orders": None}, {"orders": [1]}, {"orders": ["1", 0]},
        {"orders": [-1, 0]}, {"orders": [1, 2]}, {"orders": [1, 0, ["RUB", "₽", "1"]]},
        {"orders": [1, 0, ["RUB", "₽", "one", 1]]}, {"orders": [1, 0, ["RUB", "₽", "NaN", 1]]},
        {"orders": [1, 0, ["RUB", "₽", "1E+99", 1]]}, {"orders": [1, 0, ["RUB", "₽", "1", 0]]},
        {"orders": [1, 0, *([["RUB", "₽", "1", 1]] * (MOST_CURRENCIES + 1))]},
    ],
)  # fmt: skip
def test_what_is_no_tally_is_refused(found: object) -> None:
    with pytest.raises(ValueError, match="is not a tally"):
        OrderTally.of_json(found)


# --- a recount ---

BASELINE = datetime(2026, 11, 10, tzinfo=UTC)
HOURS = st.integers(0, 200)


@dataclass
class Step:
    """Something that the shop does to an order."""

    status: str
    refund: int = 0
    hours: int = 0


steps = st.builds(
    Step,
    st.sampled_from(["pending", "failed", "processing", "completed", "cancelled", "refunded"]),
    st.sampled_from([0, 0, 10, 25]),
    st.integers(0, 40),
)


def after(before: Order, step: Step) -> Order:
    """The order after a step. A status "refunded" gives the rest of the money back, as WooCommerce does."""
    at = before.modified_at + timedelta(hours=step.hours)
    refunds, left = list(before.refunds or ()), Decimal(100)
    left -= sum((Decimal(one.amount) for one in refunds), Decimal(0))
    amount = left if step.status == "refunded" else min(Decimal(step.refund), left)
    if amount:
        refunds.append(Refund(before.id * 100 + len(refunds), str(amount), at))
    paid_at = before.paid_at or (at if step.status in {"processing", "completed"} else None)
    return replace(before, status=step.status, modified_at=at, refunds=tuple(refunds), paid_at=paid_at)


@given(st.lists(st.tuples(HOURS, st.lists(steps, min_size=1, max_size=6)), min_size=1, max_size=5))
def test_tallies_are_what_a_recount_gives(stories: Sequence[tuple[int, list[Step]]]) -> None:
    policy = Policy(baseline_at=BASELINE, meanings=MEANINGS)
    stored, events, orders = dict[date, OrderTally](), list[OrderEvent](), dict[int, Order]()
    for number, (hours, story) in enumerate(stories, 1):
        created_at = BASELINE + timedelta(hours=hours)
        now = order(id=number, status="pending", created_at=created_at, modified_at=created_at, refunds=())
        # An order that was cancelled before it was first seen has no refunds to announce.
        known = decide(None, now, policy).known
        for step in story:
            now = orders[number] = after(now, step)
            decision = decide(known, now, policy)
            change = change_by(stored, decision.events, CLOCK)
            stored |= change.changed
            events += decision.events
            known = decision.known
    # By day, from all events at once.
    assert stored == change_by({}, events, CLOCK).changed
    of_type = {
        type_: sum(event.type == type_ for event in events)
        for type_ in (EventType.NEW, EventType.FAILED, EventType.CANCELLED)
    }
    found = total(stored.values())
    assert [found.orders.count, found.failed.count, found.cancelled.count] == [*of_type.values()]
    assert sum(one.amount for one in found.orders.sums.values()) == 100 * of_type[EventType.NEW]
    # Each refund counts once, whether as a partial one or with the rest of the money.
    made = [Decimal(one.amount) for each in orders.values() for one in each.refunds or ()]
    assert sum(one.amount for one in found.refunds.sums.values()) == sum(made)
