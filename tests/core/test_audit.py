"""How an order stands in an audit: what the shop says against what is known, announced and delivered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.core.audit import (
    FAULTS,
    UNDELIVERED,
    Auditor,
    Count,
    Entry,
    Evidence,
    Sent,
    Standing,
)
from shop_poller.core.messages import event_id
from shop_poller.core.model import EventType, KnownOrder, Order, Refund, UnreadableOrder
from shop_poller.core.transition import Policy, decide
from shop_poller.sources.woocommerce.statuses import MEANINGS

SHOP = "shop.example"
T0 = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
POLICY = Policy(T0 - DAY, meanings=MEANINGS)
AUDITOR = Auditor(SHOP, POLICY, polled_to=T0)
NOTHING = Evidence({}, complete_since=T0)  # the history does not reach back to the orders of these tests
ORDER = Order(
    id=7,
    number="7",
    status="processing",
    total="1.00",
    currency="RUB",
    currency_sign="₽",
    customer="Анна",
    created_at=T0 - 2 * HOUR,
    modified_at=T0 - HOUR,
)
KNOWN = decide(None, ORDER, POLICY).known


def entry_of(shown: Order | UnreadableOrder, known: KnownOrder | None, evidence: Evidence = NOTHING) -> Entry:
    return AUDITOR.entry_of(shown, known, evidence)


def sent(*statuses: str, event: EventType = EventType.NEW, n: int = 1) -> Evidence:
    """What is remembered: one delivery of the event to a sink each, complete since before the order."""
    found = [Sent(f"sink {number}", status, T0) for number, status in enumerate(statuses)]
    return Evidence({event_id(SHOP, "7", event, n): found} if found else {}, complete_since=T0 - DAY)


LATER = T0 + HOUR  # the next poll shows it
CASES = {
    "as it is known": (ORDER, KNOWN, Standing.FINE),
    "another status": (replace(ORDER, status="cancelled"), KNOWN, Standing.MISSED),
    "another status that is no event": (replace(ORDER, status="completed"), KNOWN, Standing.MISSED),
    "a refund": (replace(ORDER, refunds=(Refund(9, "1.00"),)), KNOWN, Standing.MISSED),
    "just changed": (replace(ORDER, status="cancelled", modified_at=LATER), KNOWN, Standing.CHANGING),
    "just touched": (replace(ORDER, modified_at=LATER), KNOWN, Standing.CHANGING),
    "only touched": (replace(ORDER, modified_at=T0), KNOWN, Standing.FINE),
    "dated before what is known": (ORDER, replace(KNOWN, modified_at=T0), Standing.FINE),
    "and not as it is known": (
        replace(ORDER, status="cancelled"),
        replace(KNOWN, modified_at=T0),
        Standing.MISSED,
    ),
    "even if both are of this moment": (
        replace(ORDER, status="cancelled", modified_at=LATER),
        replace(KNOWN, modified_at=LATER + HOUR),
        Standing.MISSED,
    ),
    "unknown": (ORDER, None, Standing.MISSED),
    "unknown, and no event": (replace(ORDER, status="pending"), None, Standing.MISSED),
    "unknown, just made": (replace(ORDER, modified_at=LATER), None, Standing.CHANGING),
    "older than our watch": (replace(ORDER, created_at=T0 - 2 * DAY), None, Standing.OLD),
    "a record of another version": (ORDER, replace(KNOWN, refund_ids=None), Standing.FINE),
    "unreadable": (UnreadableOrder(7, "total: missing"), KNOWN, Standing.UNREADABLE),
}


@pytest.mark.parametrize(("shown", "known", "standing"), CASES.values(), ids=CASES.keys())
def test_an_order_stands_as_the_shop_and_we_agree(
    shown: Order | UnreadableOrder, known: KnownOrder | None, standing: Standing
) -> None:
    assert entry_of(shown, known).standing is standing


def test_what_no_sink_wants_was_not_lost() -> None:
    complete = Evidence({}, complete_since=T0 - DAY)
    choosy = replace(AUDITOR, is_wanted=lambda name, item: (name, item) != ("shop.order.new", ORDER))

    assert AUDITOR.entry_of(ORDER, KNOWN, complete).standing is Standing.LOST
    assert choosy.entry_of(ORDER, KNOWN, complete) == Entry(7, Standing.FINE, "processing", "processing", {})
    # It was wanted when it was decided: what became of it counts.
    assert choosy.entry_of(ORDER, KNOWN, sent("dead")).standing is Standing.DEAD


def test_what_was_missed_says_what_would_have_been_told() -> None:
    entry = entry_of(replace(ORDER, status="cancelled"), KNOWN)
    assert (entry.shop_says, entry.known_as) == ("cancelled", "processing")
    assert entry.detail == "to be announced: shop.order.cancelled"
    assert entry_of(replace(ORDER, status="pending"), None).detail == "to be announced: nothing to announce"


def test_an_overdue_payment_comes_with_time_and_was_not_missed() -> None:
    policy = replace(POLICY, overdue_before=T0, overdue_after=HOUR)
    waiting = replace(ORDER, status="on-hold")
    known = decide(None, waiting, POLICY).known
    assert decide(known, waiting, policy).events
    assert Auditor(SHOP, policy, polled_to=T0).entry_of(waiting, known, NOTHING).standing is Standing.FINE


@pytest.mark.parametrize(
    ("statuses", "standing"),
    [
        (["delivered"], Standing.FINE),
        (["delivered", "waiting"], Standing.WAITING),
        (["waiting", "dead"], Standing.DEAD),
        ([], Standing.LOST),
    ],
)
def test_an_order_that_is_known_stands_as_its_deliveries_do(statuses: list[str], standing: Standing) -> None:
    entry = entry_of(ORDER, KNOWN, sent(*statuses))
    assert entry.standing is standing
    assert [one.status for one in entry.announced["shop.order.new"]] == statuses


def test_what_is_older_than_the_history_leaves_no_record_and_is_not_lost() -> None:
    assert entry_of(ORDER, KNOWN, NOTHING).standing is Standing.FINE


def test_each_time_that_something_was_told_is_named() -> None:
    known = replace(KNOWN, status="failed", decided={EventType.NEW: 1, EventType.FAILED: 2})
    entry = entry_of(replace(ORDER, status="failed"), known, sent("delivered", event=EventType.FAILED, n=2))
    assert list(entry.announced) == ["shop.order.failed (1)", "shop.order.failed (2)", "shop.order.new"]
    assert [len(several) for several in entry.announced.values()] == [0, 1, 0]


def test_refunds_that_were_told_are_named_and_those_that_were_swallowed_are_not() -> None:
    refunds = (Refund(9, "1.00"), Refund(10, "2.00"))
    known = replace(KNOWN, refund_ids=frozenset({9, 10}))
    evidence = sent("delivered", event=EventType.PARTIALLY_REFUNDED, n=9)
    announced = entry_of(replace(ORDER, refunds=refunds), known, evidence).announced
    assert list(announced) == ["shop.order.new", "shop.order.partially_refunded (9)"]


@pytest.mark.parametrize(
    ("lowest", "highest", "read", "differs"),
    [(3, 3, 3, False), (3, 5, 4, False), (200, 200, 20, True), (120, 120, 60, True), (0, 0, 7, True)],
)
def test_a_count_that_does_not_fit_what_was_read_is_told(
    lowest: int,
    highest: int,
    read: int,
    differs: bool,  # noqa: FBT001 - a column of the table
) -> None:
    count = Count(lowest, highest, read)

    assert count.differs == differs
    hides = "; a plugin, or the rights of the key's user, may hide the others" if read < lowest else ""
    assert count.text().endswith(f" orders, {read} could be read{hides}")


def test_a_count_that_changed_meanwhile_says_from_what_to_what() -> None:
    assert Count(3, 5, 4).text() == "the shop counts 3 to 5 orders, 4 could be read"
    assert Count(3, 3, 3).text() == "the shop counts 3 orders, 3 could be read"


@pytest.mark.parametrize(
    ("shown", "known", "contradicts"),
    [
        pytest.param(ORDER, KNOWN, False, id="as it is known"),
        pytest.param(ORDER, None, False, id="unknown"),
        pytest.param(replace(ORDER, status="cancelled"), KNOWN, False, id="changed since"),
        pytest.param(
            replace(ORDER, status="cancelled"),
            replace(KNOWN, modified_at=T0),
            True,
            id="dated back, and changed",
        ),
        pytest.param(ORDER, replace(KNOWN, modified_at=T0), False, id="only dated back"),
        pytest.param(UnreadableOrder(7, "total: missing"), KNOWN, False, id="unreadable"),
    ],
)
def test_which_orders_are_requested_in_another_way(
    shown: Order | UnreadableOrder,
    known: KnownOrder | None,
    contradicts: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert AUDITOR.contradicts(shown, known) is contradicts


def test_of_an_order_that_cannot_be_read_it_is_told_what_was_announced() -> None:
    entry = entry_of(UnreadableOrder(7, "total: missing"), KNOWN, sent("delivered"))
    assert (entry.shop_says, entry.known_as, entry.detail) == ("", "processing", "total: missing")
    assert [one.status for one in entry.announced["shop.order.new"]] == ["delivered"]


def test_every_standing_is_a_fault_or_undelivered_or_all_right() -> None:
    assert {*Standing} - {*FAULTS, *UNDELIVERED} == {Standing.FINE, Standing.OLD, Standing.CHANGING}


def test_what_contradicts_is_dated_before_what_is_known_and_differs_from_it() -> None:
    known = decide(None, replace(ORDER, modified_at=T0), POLICY).known
    assert AUDITOR.contradicts(replace(ORDER, status="completed"), known)
    assert not AUDITOR.contradicts(ORDER, known), "the shop answered before it was polled again"
    assert not AUDITOR.contradicts(replace(ORDER, status="completed"), KNOWN), "dated as it is known"
    assert not AUDITOR.contradicts(ORDER, None)


def test_an_order_that_cannot_be_read_contradicts_nothing() -> None:
    unreadable = UnreadableOrder(ORDER.id, "no status", modified_at=T0 - DAY)
    assert not AUDITOR.contradicts(unreadable, KNOWN)
