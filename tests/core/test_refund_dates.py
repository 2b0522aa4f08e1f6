"""Refunds whose date is known, from the shop's list of refunds: which of them are news, and once only."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.core.model import EventType, Order, Refund
from shop_poller.core.transition import Decision, Policy, decide, import_silently
from shop_poller.sources.woocommerce.statuses import MEANINGS

BASELINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
POLICY = Policy(baseline_at=BASELINE, meanings=MEANINGS)
YOUNG, OLD = 600, -3600 * 24 * 200
"""Seconds from the baseline."""

CANCELLED = EventType.CANCELLED
REFUNDED = EventType.REFUNDED
PARTIAL = EventType.PARTIALLY_REFUNDED


def order_in(status: str, *, created: int = YOUNG, refunds: Iterable[int] | None = ()) -> Order:
    """Order 101 as the shop shows it."""
    created_at = BASELINE + timedelta(seconds=created)
    return Order(
        id=101,
        number="101",
        status=status,
        total="1930.00",
        currency="RUB",
        currency_sign="₽",
        customer="Мария",
        created_at=created_at,
        modified_at=created_at,
        refunds=None if refunds is None else tuple(Refund(i, f"{i}.00") for i in refunds),
    )


def with_dates(order: Order, **seconds: int) -> Order:
    """Refunds get dates: r5=10 is refund 5, ten seconds after the baseline."""
    dates = {int(name[1:]): BASELINE + timedelta(seconds=second) for name, second in seconds.items()}
    refunds = tuple(replace(refund, created_at=dates.get(refund.id)) for refund in order.refunds or ())
    return replace(order, refunds=refunds)


def events_of(decision: Decision) -> list[tuple[str, int]]:
    return [(str(event.type), event.occurrence) for event in decision.events]


@pytest.mark.parametrize(
    ("order", "expected"),
    [
        pytest.param(order_in("completed", created=OLD, refunds=[5]), [], id="no date"),
        pytest.param(
            with_dates(order_in("completed", created=OLD, refunds=[5]), r5=0), [(PARTIAL, 5)], id="new"
        ),
        pytest.param(with_dates(order_in("completed", created=OLD, refunds=[5]), r5=-1), [], id="too old"),
        pytest.param(
            with_dates(order_in("completed", created=OLD, refunds=[5, 6]), r5=-9, r6=9),
            [(PARTIAL, 6)],
            id="one",
        ),
        pytest.param(
            with_dates(order_in("refunded", created=OLD, refunds=[5]), r5=9), [(REFUNDED, 1)], id="all"
        ),
        pytest.param(
            with_dates(order_in("refunded", created=OLD, refunds=[5]), r5=-9), [], id="all, long ago"
        ),
        pytest.param(with_dates(order_in("trash", created=OLD, refunds=[5]), r5=9), [], id="away"),
        pytest.param(
            with_dates(order_in("cancelled", created=OLD, refunds=[5]), r5=9), [(PARTIAL, 5)], id="old, over"
        ),
        pytest.param(
            with_dates(order_in("cancelled", refunds=[5]), r5=900), [(CANCELLED, 1)], id="young, over"
        ),
        pytest.param(
            with_dates(order_in("cancelled", created=0, refunds=[5]), r5=900),
            [(CANCELLED, 1)],
            id="as old as we",
        ),
    ],
)
def test_of_an_unknown_order_a_refund_is_news_by_its_own_date(
    order: Order, expected: list[tuple[str, int]]
) -> None:
    decision = decide(None, order, POLICY)
    assert events_of(decision) == expected
    again = decide(decision.known, order, POLICY)
    assert events_of(again) == []


@pytest.mark.parametrize("made", [0, 9], ids=["as the watch began", "later"])
@pytest.mark.parametrize("status", ["completed", "refunded", "processing"])
def test_one_that_was_recorded_in_silence_is_news_once_its_date_is_known(status: str, made: int) -> None:
    order = order_in(status, created=OLD, refunds=[5])
    silent = decide(None, order, POLICY)
    assert silent.events == ()
    assert silent.known.silent_refund_ids == {5}
    assert events_of(decide(silent.known, order, POLICY)) == []
    late = decide(silent.known, with_dates(order, r5=made), POLICY)
    assert events_of(late) == [(REFUNDED, 1) if status == "refunded" else (PARTIAL, 5)]
    assert late.known.silent_refund_ids == frozenset()
    assert events_of(decide(late.known, with_dates(order, r5=made), POLICY)) == []


def test_one_that_turns_out_to_be_old_stays_untold_for_good() -> None:
    order = order_in("completed", created=OLD, refunds=[5])
    silent = decide(None, order, POLICY).known
    decided = decide(silent, with_dates(order, r5=-9), POLICY)
    assert decided.events == ()
    assert decided.known.silent_refund_ids == frozenset()


def test_what_was_imported_with_its_refunds_is_recorded_in_silence_too() -> None:
    order = order_in("completed", created=-60, refunds=[5])
    assert import_silently(order, POLICY).silent_refund_ids == {5}
    assert events_of(decide(import_silently(order, POLICY), with_dates(order, r5=9), POLICY)) == [
        (PARTIAL, 5)
    ]


def test_refunds_that_were_told_or_swallowed_are_not_recorded_in_silence() -> None:
    first = decide(None, order_in("processing"), POLICY).known
    partly = decide(first, order_in("processing", refunds=[5]), POLICY)
    assert events_of(partly) == [(PARTIAL, 5)]
    wholly = decide(partly.known, order_in("refunded", refunds=[5, 6]), POLICY)
    assert events_of(wholly) == [(REFUNDED, 1)]
    for decision in (partly, wholly):
        assert decision.known.silent_refund_ids == frozenset()
    assert (
        events_of(decide(wholly.known, with_dates(order_in("refunded", refunds=[5, 6]), r6=9), POLICY)) == []
    )


def test_a_dialect_that_could_not_see_refunds_is_made_up_for() -> None:
    blind = decide(None, order_in("processing", refunds=None), POLICY).known
    order = order_in("processing", refunds=[5, 6])
    silent = decide(blind, order, POLICY)
    assert silent.events == ()
    assert silent.known.silent_refund_ids == {5, 6}
    for known in (blind, silent.known):
        assert events_of(decide(known, with_dates(order, r5=-9, r6=9), POLICY)) == [(PARTIAL, 6)]


@pytest.mark.parametrize("seen_between", [True, False], ids=["a tick saw it first", "the list saw it first"])
def test_what_a_dialect_without_refunds_announced_as_refunded_is_not_announced_again(
    *, seen_between: bool
) -> None:
    """As after a change from `abilities` to `rest`: the status was seen before, the refund was not."""
    known = decide(None, order_in("processing", refunds=None), POLICY).known
    announced = decide(known, order_in("refunded", refunds=None), POLICY)
    assert events_of(announced) == [(REFUNDED, 1)]
    known = announced.known
    order = order_in("refunded", refunds=[5])
    if seen_between:
        undated = decide(known, order, POLICY)
        assert events_of(undated) == []
        known = undated.known
    decision = decide(known, with_dates(order, r5=900), POLICY)
    assert events_of(decision) == []
    assert events_of(decide(decision.known, with_dates(order, r5=900), POLICY)) == []
