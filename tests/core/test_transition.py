"""What follows from an order as it was known and as it is seen now."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.config.statuses import UNPAID
from shop_poller.core.model import EventType, KnownOrder, Order, OrderEvent, Refund, StatusEvent, Wait
from shop_poller.core.transition import (
    LOST_STATUS,
    REFUND_HOLD,
    Decision,
    Policy,
    decide,
    import_silently,
    importable,
)
from shop_poller.sources.woocommerce.statuses import MEANINGS, meanings

BASELINE = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
POLICY = Policy(baseline_at=BASELINE, meanings=MEANINGS)
YOUNG = 600
"""Seconds after the baseline: an order created then is ours to announce."""

NEW = EventType.NEW
CANCELLED = EventType.CANCELLED
REFUNDED = EventType.REFUNDED
FAILED = EventType.FAILED
PARTIAL = EventType.PARTIALLY_REFUNDED
OVERDUE = EventType.PAYMENT_OVERDUE


def order_in(
    status: str,
    *,
    created: int = YOUNG,
    paid: int | None = None,
    modified: int = YOUNG,
    refunds: Iterable[int] | Mapping[int, str] | None = (),
    total: str = "1930.00",
    payment: str = "",
) -> Order:
    """Order 101 as the shop shows it; times are seconds from the baseline.

    A refund gives its id back, or what a mapping says.
    """
    given = refunds if isinstance(refunds, Mapping) else {i: f"{i}.00" for i in refunds or ()}
    return Order(
        id=101,
        number="101",
        status=status,
        total=total,
        currency="RUB",
        currency_sign="₽",
        customer="Мария",
        created_at=BASELINE + timedelta(seconds=created),
        modified_at=BASELINE + timedelta(seconds=modified),
        paid_at=None if paid is None else BASELINE + timedelta(seconds=paid),
        refunds=None if refunds is None else tuple(Refund(i, amount) for i, amount in given.items()),
        payment_code=payment,
    )


def known(
    status: str,
    *,
    announced: bool = False,
    decided: Mapping[str, int] | None = None,
    refunds: Iterable[int] | None = (),
    awaiting: int | None = None,
) -> KnownOrder:
    """Order 101 as it is stored; `announced` if its `new` was announced."""
    return KnownOrder(
        id=101,
        status=status,
        modified_at=BASELINE,
        announced_new=announced,
        decided=decided or {},
        refund_ids=None if refunds is None else frozenset(refunds),
        awaiting_since=None if awaiting is None else BASELINE + timedelta(seconds=awaiting),
    )


def types(decision: Decision) -> list[str]:
    return [event.type for event in decision.events]


# --- Every status against every other ----------------------------------------------------------------------

STATUSES = [
    *("pending", "on-hold", "failed", "cancelled", "refunded"),
    *("checkout-draft", "auto-draft", "draft", "trash"),
    *("processing", "completed", "shipped"),
]

MATRIX = """
known           announced | pending on-hold failed cancelled refunded checkout-draft auto-draft draft trash | processing completed shipped
never-seen      no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
pending         no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
on-hold         no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
failed          no        | -       -       -      cancelled refunded -              -          -     -     | new        new       new
checkout-draft  no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
auto-draft      no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
draft           no        | -       -       failed cancelled refunded -              -          -     -     | new        new       new
processing      yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
completed       yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
shipped         yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
pending         yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
on-hold         yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
failed          yes       | -       -       -      cancelled refunded -              -          -     -     | -          -         -
cancelled       yes       | -       -       failed -         refunded -              -          -     -     | -          -         -
refunded        yes       | -       -       failed cancelled -        -              -          -     -     | -          -         -
trash           yes       | -       -       failed cancelled refunded -              -          -     -     | -          -         -
"""  # noqa: E501 - a table is read across

EVENTS = {"new": NEW, "cancelled": CANCELLED, "refunded": REFUNDED, "failed": FAILED}


def _cells() -> list[tuple[str, bool, str, list[EventType]]]:
    head, *lines = [line.replace("|", " ").split() for line in MATRIX.strip().splitlines()]
    assert head[2:] == STATUSES
    return [
        (status, announced == "yes", to, [EVENTS[cell]] if cell != "-" else [])
        for status, announced, *cells in lines
        for to, cell in zip(STATUSES, cells, strict=True)
    ]


@pytest.mark.parametrize(("before", "announced", "now", "expected"), _cells())
def test_a_young_order_is_announced_as_the_matrix_says(
    before: str,
    announced: bool,  # noqa: FBT001 - a column of the table
    now: str,
    expected: list[EventType],
) -> None:
    record = None if before == "never-seen" else known(before, announced=announced)

    decision = decide(record, order_in(now), POLICY)

    assert types(decision) == expected
    assert all(event.order == order_in(now) for event in decision.events)
    assert decision.known.status == now
    assert decision.known.modified_at == order_in(now).modified_at
    assert decision.known.decided == dict.fromkeys(expected, 1)
    assert not decision.imported


# The rules name "nothing, pending, on-hold, failed or a draft" as the statuses before `new`. An order that
# was cancelled or trashed before it was paid is also announced when the money arrives.
@pytest.mark.parametrize("before", ["cancelled", "trash"])
@pytest.mark.parametrize("now", ["processing", "completed", "shipped"])
def test_money_for_an_order_given_up_unpaid_makes_it_new(before: str, now: str) -> None:
    assert types(decide(known(before), order_in(now), POLICY)) == [NEW]


def test_a_refunded_order_that_is_reopened_is_not_new() -> None:
    refunded = decide(known("pending"), order_in("refunded"), POLICY).known

    assert types(decide(refunded, order_in("processing"), POLICY)) == []


@pytest.mark.parametrize("status", STATUSES)
def test_the_same_status_with_another_modified_date_is_nothing(status: str) -> None:
    first = decide(None, order_in(status, modified=700), POLICY)
    again = decide(first.known, order_in(status, modified=800), POLICY)

    assert again.events == ()
    assert again.known == replace(first.known, modified_at=order_in(status, modified=800).modified_at)


# --- What counts as paid -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "paid"),
    [
        ("processing", True),
        ("completed", True),
        ("shipped", True),
        ("готов-к-выдаче", True),
        ("pending", False),
        ("on-hold", False),
        ("failed", False),
        ("cancelled", False),
        ("refunded", False),
        ("checkout-draft", False),
        ("auto-draft", False),
        ("draft", False),
        ("trash", False),
    ],
)
def test_paid_is_every_status_but_the_unpaid_ones(
    status: str,
    paid: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert POLICY.meanings.is_paid(status) is paid
    assert (status not in UNPAID) is paid


QUOTE = Policy(baseline_at=BASELINE, meanings=meanings([*UNPAID, "quote"]))


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        (["quote"], []),
        (["quote", "quote"], []),
        (["quote", "pending", "quote"], []),
        (["quote", "shipped"], [NEW]),
        (["quote", "processing", "quote", "processing"], [NEW]),
        (["shipped", "quote", "completed"], [NEW]),
        (["quote", "cancelled"], [CANCELLED]),
    ],
)
def test_a_custom_status_that_the_owner_calls_unpaid_is_unpaid(
    history: list[str], expected: list[EventType]
) -> None:
    assert announced_types(history, QUOTE) == expected


def test_without_that_setting_a_custom_status_is_paid() -> None:
    assert announced_types(["quote", "processing"], POLICY) == [NEW]


@pytest.mark.parametrize("status", ["cancelled", "refunded", "failed"])
def test_no_setting_makes_a_cancelled_refunded_or_failed_order_new(status: str) -> None:
    policy = Policy(baseline_at=BASELINE, meanings=meanings([]))

    assert types(decide(None, order_in(status), policy)) == [EVENTS[status]]


def announced_types(history: Iterable[str], policy: Policy) -> list[str]:
    """The types of all events of an order that has these statuses, one after another."""
    record: KnownOrder | None = None
    announced: list[str] = []
    for status in history:
        decision = decide(record, order_in(status), policy)
        announced += types(decision)
        record = decision.known
    return announced


# --- Lives -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        # A card payment, a bank transfer, a download.
        ("checkout-draft pending processing completed", [NEW]),
        ("on-hold processing completed", [NEW]),
        ("completed", [NEW]),
        # The first card is refused, the second one works; or none does.
        ("pending failed processing", [FAILED, NEW]),
        ("pending failed pending failed cancelled", [FAILED, FAILED, CANCELLED]),
        # Nobody pays, the shop cancels after its hold time.
        ("pending cancelled", [CANCELLED]),
        # Cancelled, restored, cancelled again: two changes; new but once.
        ("processing cancelled processing cancelled", [NEW, CANCELLED, CANCELLED]),
        ("processing on-hold processing", [NEW]),
        ("processing refunded", [NEW, REFUNDED]),
        ("completed refunded completed refunded", [NEW, REFUNDED, REFUNDED]),
        ("processing failed processing", [NEW, FAILED]),
        # Trash is no event, neither way.
        ("processing trash", [NEW]),
        ("processing trash processing", [NEW]),
        ("pending trash pending processing", [NEW]),
        # First seen when all was over.
        ("cancelled", [CANCELLED]),
        ("refunded", [REFUNDED]),
        ("failed", [FAILED]),
        ("trash", []),
    ],
)
def test_a_life_is_told_in_order(life: str, expected: list[EventType]) -> None:
    assert announced_types(life.split(), POLICY) == expected


# --- The occurrence, which is part of the event id ---------------------------------------------------------


@pytest.mark.parametrize(
    ("decided", "to", "occurrence"),
    [
        ({}, "failed", 1),
        ({FAILED: 1}, "failed", 2),
        ({FAILED: 1, CANCELLED: 7}, "failed", 2),
        ({FAILED: 41}, "failed", 42),
        ({NEW: 1}, "cancelled", 1),
        ({NEW: 1, CANCELLED: 1}, "cancelled", 2),
        ({NEW: 1, REFUNDED: 3}, "refunded", 4),
        ({FAILED: 2}, "processing", 1),
    ],
)
def test_n_counts_how_often_this_type_was_decided(decided: dict[str, int], to: str, occurrence: int) -> None:
    record = known("pending", decided=decided)

    decision = decide(record, order_in(to), POLICY)

    (event,) = decision.events
    assert event.occurrence == occurrence
    assert decision.known.decided == decided | {event.type: occurrence}
    assert record.decided == decided, "the known order is not changed"


def test_a_partial_refund_has_its_refund_id_for_n_and_is_not_counted() -> None:
    decision = decide(known("processing", announced=True), order_in("processing", refunds=[9001]), POLICY)

    assert [(event.occurrence, event.refund) for event in decision.events] == [
        (9001, Refund(9001, "9001.00"))
    ]
    assert decision.known.decided == {}


# --- Cancelled and unpaid ----------------------------------------------------------------------------------

MUTED = Policy(baseline_at=BASELINE, meanings=MEANINGS, cancelled_unpaid=False)


@pytest.mark.parametrize(
    ("record", "order", "paid"),
    [
        # Never paid: the shop's hold time ran out, or a buyer changed their mind.
        (known("pending"), order_in("cancelled"), False),
        (known("on-hold"), order_in("cancelled"), False),
        (known("failed"), order_in("cancelled"), False),
        (None, order_in("cancelled"), False),
        # Paid: by its date, or because we announced it.
        (known("pending"), order_in("cancelled", paid=700), True),
        (None, order_in("cancelled", paid=700), True),
        (known("processing", announced=True), order_in("cancelled"), True),
        (known("on-hold", announced=True), order_in("cancelled"), True),
    ],
)
def test_a_cancelled_order_says_whether_it_was_paid_and_can_be_muted_if_not(
    record: KnownOrder | None,
    order: Order,
    paid: bool,  # noqa: FBT001 - a column of the table
) -> None:
    loud = decide(record, order, POLICY)
    mute = decide(record, order, MUTED)

    assert [(event.type, event.paid) for event in loud.events] == [(CANCELLED, paid)]
    assert types(mute) == ([CANCELLED] if paid else [])
    assert mute.known.status == "cancelled"
    assert mute.known.decided == ({CANCELLED: 1} if paid else {}), "what is muted was not announced"


def test_muting_cancelled_unpaid_orders_mutes_nothing_else() -> None:
    assert types(decide(None, order_in("failed"), MUTED)) == [FAILED]
    assert types(decide(None, order_in("refunded"), MUTED)) == [REFUNDED]
    assert types(decide(known("pending"), order_in("processing"), MUTED)) == [NEW]


@pytest.mark.parametrize(
    ("status", "paid_at", "paid"),
    [
        ("processing", None, True),
        ("shipped", None, True),
        ("failed", None, False),
        ("failed", 700, True),
        ("cancelled", None, False),
    ],
)
def test_an_event_says_whether_money_had_come_in(
    status: str,
    paid_at: int | None,
    paid: bool,  # noqa: FBT001 - a column of the table
) -> None:
    (event,) = decide(None, order_in(status, paid=paid_at), POLICY).events

    assert event.paid is paid


# --- Refunds -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RefundCase:
    title: str
    record: KnownOrder | None
    order: Order
    announced: Sequence[int]
    """Refund ids announced."""
    remembered: Iterable[int] | None


PAID = "processing"
REFUND_CASES = [
    RefundCase("none", known(PAID, announced=True), order_in(PAID), [], []),
    RefundCase("the first", known(PAID, announced=True), order_in(PAID, refunds=[7]), [7], [7]),
    RefundCase(
        "the second", known(PAID, announced=True, refunds=[7]), order_in(PAID, refunds=[7, 8]), [8], [7, 8]
    ),
    RefundCase(
        "two at once, oldest first",
        known(PAID, announced=True),
        order_in(PAID, refunds=[8, 7]),
        [7, 8],
        [7, 8],
    ),
    RefundCase("known", known(PAID, announced=True, refunds=[7]), order_in(PAID, refunds=[7]), [], [7]),
    RefundCase(
        "deleted", known(PAID, announced=True, refunds=[7, 8]), order_in(PAID, refunds=[8]), [], [7, 8]
    ),
    RefundCase(
        "deleted and another",
        known(PAID, announced=True, refunds=[7]),
        order_in(PAID, refunds=[9]),
        [9],
        [7, 9],
    ),
    RefundCase(
        "as it is completed", known(PAID, announced=True), order_in("completed", refunds=[7]), [7], [7]
    ),
    RefundCase("swallowed", known(PAID, announced=True), order_in("refunded", refunds=[7]), [], [7]),
    RefundCase(
        "swallowed, one was told",
        known(PAID, announced=True, refunds=[7]),
        order_in("refunded", refunds=[7, 8]),
        [],
        [7, 8],
    ),
    RefundCase(
        "after it was swallowed",
        known("refunded", announced=True, refunds=[7]),
        order_in(PAID, refunds=[7]),
        [],
        [7],
    ),
    RefundCase("in the trash", known(PAID, announced=True), order_in("trash", refunds=[7]), [], [7]),
    # A dialect that cannot see refunds, and one that can, after each other.
    RefundCase("cannot be seen", known(PAID, announced=True), order_in(PAID, refunds=None), [], []),
    RefundCase(
        "were seen, now cannot be",
        known(PAID, announced=True, refunds=[7]),
        order_in(PAID, refunds=None),
        [],
        [7],
    ),
    RefundCase(
        "never could be seen",
        known(PAID, announced=True, refunds=None),
        order_in(PAID, refunds=None),
        [],
        None,
    ),
    RefundCase(
        "could not be seen before",
        known(PAID, announced=True, refunds=None),
        order_in(PAID, refunds=[7]),
        [],
        [7],
    ),
    RefundCase(
        "none, and could not be seen before",
        known(PAID, announced=True, refunds=None),
        order_in(PAID),
        [],
        [],
    ),
    # Never seen before.
    RefundCase("first seen with one", None, order_in(PAID, refunds=[7]), [7], [7]),
    RefundCase("first seen, cannot be seen", None, order_in(PAID, refunds=None), [], None),
    RefundCase("first seen refunded", None, order_in("refunded", refunds=[7]), [], [7]),
    RefundCase("first seen cancelled", None, order_in("cancelled", refunds=[7]), [], [7]),
    RefundCase("first seen and old", None, order_in(PAID, created=-1, refunds=[7]), [], [7]),
    RefundCase("old, but paid on our watch", None, order_in(PAID, created=-1, paid=1, refunds=[7]), [], [7]),
]


@pytest.mark.parametrize("case", REFUND_CASES, ids=lambda case: case.title)
def test_a_refund_is_told_once_while_the_status_stays(case: RefundCase) -> None:
    decision = decide(case.record, case.order, POLICY)

    assert [event.occurrence for event in decision.events if event.type == PARTIAL] == list(case.announced)
    assert decision.known.refund_ids == (None if case.remembered is None else frozenset(case.remembered))


def test_a_refund_imported_silently_does_not_hide_the_next_one() -> None:
    blind = decide(None, order_in(PAID, refunds=None), POLICY)
    imported = decide(blind.known, order_in(PAID, refunds=[7]), POLICY)
    announced = decide(imported.known, order_in(PAID, refunds=[7, 8]), POLICY)

    assert types(imported) == []
    assert [event.occurrence for event in announced.events] == [8]


def test_an_order_first_seen_with_a_refund_is_new_before_it_is_refunded() -> None:
    assert types(decide(None, order_in(PAID, refunds=[8, 7]), POLICY)) == [NEW, PARTIAL, PARTIAL]


@pytest.mark.parametrize("amount", ["0.00", "0", "0.0000"])
def test_a_refund_of_nothing_is_no_event_and_is_remembered(amount: str) -> None:
    """It restocks."""
    before = known(PAID, announced=True)
    restocked = decide(before, order_in(PAID, refunds={7: amount}), POLICY)
    assert restocked.events == ()
    assert restocked.known.refund_ids == frozenset({7})
    later = decide(restocked.known, order_in(PAID, refunds={7: "5.00", 8: "10.00"}), POLICY)
    assert [event.occurrence for event in later.events] == [8]


def test_a_refund_of_nothing_is_no_event_of_an_order_first_seen_with_it() -> None:
    assert types(decide(None, order_in(PAID, refunds={7: "0.00"}), POLICY)) == [NEW]


def test_a_refund_of_an_amount_that_cannot_be_read_is_told() -> None:
    announced = decide(known(PAID, announced=True), order_in(PAID, refunds={7: ""}), POLICY)
    assert [(event.occurrence, event.fully_refunded) for event in announced.events] == [(7, False)]


FULL = [
    # total, refunds, and which of them give back all of the money
    ("1930.00", {7: "1930.00"}, [True]),
    ("1930", {7: "1930.0000"}, [True]),
    ("1930.00", {7: "2000.00"}, [True]),
    ("1.00", {7: "1.00"}, [True]),
    ("0.01", {7: "0.01"}, [True]),
    ("1930.00", {7: "1929.99"}, [False]),
    ("1930.00", {8: "1000.00", 7: "930.00"}, [False, True]),
    ("1930.00", {7: "930.00", 8: "1000.00", 9: "1.00"}, [False, True, True]),
    ("1930.00", {7: "1930.00", 8: "0.00"}, [True]),
    ("0.00", {7: "5.00"}, [False]),
    ("", {7: "5.00"}, [False]),
    ("-5.00", {7: "5.00"}, [False]),
    ("1930.00", {7: "", 8: "1930.00"}, [False, True]),
]


@pytest.mark.parametrize(("total", "refunds", "full"), FULL, ids=str)
def test_a_refund_that_gives_back_all_of_the_money_says_so(
    total: str, refunds: dict[int, str], full: list[bool]
) -> None:
    decision = decide(known(PAID, announced=True), order_in(PAID, refunds=refunds, total=total), POLICY)
    assert [event.fully_refunded for event in decision.events] == full
    # As it is said of each by itself, when they were made one after the other.
    record, announced = known(PAID, announced=True), list[bool]()
    for refund_id in sorted(refunds):
        so_far = {i: amount for i, amount in refunds.items() if i <= refund_id}
        decision = decide(record, order_in(PAID, refunds=so_far, total=total), POLICY)
        record = decision.known
        announced += [event.fully_refunded for event in decision.events]
    assert announced == full


def test_what_was_given_back_before_counts_towards_all_of_it() -> None:
    before = known(PAID, announced=True, refunds=[7])
    (event,) = decide(before, order_in(PAID, refunds={7: "1000.00", 8: "930.00"}), POLICY).events
    assert (event.occurrence, event.fully_refunded) == (8, True)


# --- Refunds that may be half written -----------------------------------------------------------------------

HOLD_S = REFUND_HOLD.total_seconds()


def looking(at: float, *hold_ended: int) -> Policy:
    """A policy that holds refunds; the shop's clock in seconds from the baseline."""
    return replace(POLICY, shop_time=BASELINE + timedelta(seconds=at), hold_ended=frozenset(hold_ended))


REST_OF_IT = {7: "930.00", 8: "1000.00"}
"""Refund 7 is known, 8 is the rest."""


def test_the_remainder_is_held_until_the_status_follows() -> None:
    before = known(PAID, announced=True, refunds=[7])
    on_hold = decide(before, order_in(PAID, refunds=REST_OF_IT), looking(YOUNG + 1))
    assert (on_hold.events, on_hold.held_refund_ids, on_hold.known.refund_ids) == (
        (),
        frozenset({8}),
        frozenset({7}),
    )
    refunded = decide(on_hold.known, order_in("refunded", refunds=REST_OF_IT), looking(YOUNG + 3))
    assert types(refunded) == [REFUNDED]
    assert (refunded.held_refund_ids, refunded.known.refund_ids) == (frozenset(), frozenset({7, 8}))


def test_the_remainder_is_told_when_the_status_stays() -> None:
    before = known(PAID, announced=True, refunds=[7])
    order = order_in(PAID, refunds=REST_OF_IT)
    on_hold = decide(before, order, looking(YOUNG + 1))
    announced = decide(on_hold.known, order, looking(YOUNG + 1 + HOLD_S, 101))
    assert [(event.type, event.occurrence, event.fully_refunded) for event in announced.events] == [
        (PARTIAL, 8, True)
    ]
    assert (announced.held_refund_ids, announced.known.refund_ids) == (frozenset(), frozenset({7, 8}))
    assert decide(announced.known, order, looking(YOUNG + 99)).events == ()


def test_another_refund_made_at_the_same_time_is_not_held_with_it() -> None:
    decision = decide(known(PAID, announced=True), order_in(PAID, refunds=REST_OF_IT), looking(YOUNG))
    assert [event.occurrence for event in decision.events] == [7]
    assert (decision.held_refund_ids, decision.known.refund_ids) == (frozenset({8}), frozenset({7}))


def test_a_refund_of_nothing_is_held_until_its_amount_is_written() -> None:
    """WooCommerce saves a refund before it has its amount."""
    before = known(PAID, announced=True)
    on_hold = decide(before, order_in(PAID, refunds={7: "0.00"}), looking(YOUNG))
    assert (on_hold.events, on_hold.held_refund_ids, on_hold.known.refund_ids) == (
        (),
        frozenset({7}),
        frozenset(),
    )
    written = decide(on_hold.known, order_in(PAID, refunds={7: "5.00"}), looking(YOUNG + 1))
    assert [event.occurrence for event in written.events] == [7]
    nothing = decide(on_hold.known, order_in(PAID, refunds={7: "0.00"}), looking(YOUNG + 60, 101))
    assert (nothing.events, nothing.known.refund_ids) == ((), frozenset({7}))


@pytest.mark.parametrize("ago", [HOLD_S, HOLD_S + 1, 3600])
def test_an_order_first_seen_that_was_not_touched_for_a_while_is_told_at_once(ago: float) -> None:
    order = order_in(PAID, refunds={7: "1930.00"})
    decision = decide(None, order, looking(YOUNG + ago))
    assert [(event.type, event.fully_refunded) for event in decision.events] == [
        (NEW, False),
        (PARTIAL, True),
    ]
    fresh = decide(None, order, looking(YOUNG + HOLD_S - 1))
    assert (types(fresh), fresh.held_refund_ids) == ([NEW], frozenset({7}))


def test_an_order_as_old_as_the_watch_is_ours_and_its_refund_is_held() -> None:
    order = order_in(PAID, created=0, refunds={7: "1930.00"})
    decision = decide(None, order, looking(YOUNG + 1))
    assert (types(decision), decision.held_refund_ids) == ([NEW], frozenset({7}))


@pytest.mark.parametrize(
    ("ago", "is_held"), [(0.0, True), (HOLD_S - 1, True), (HOLD_S, False), (3600, False)]
)
def test_a_refund_whose_date_is_known_is_held_for_no_longer_than_that(ago: float, *, is_held: bool) -> None:
    order = order_in(PAID, refunds=REST_OF_IT)
    made_at = BASELINE + timedelta(seconds=YOUNG)
    dated = replace(order, refunds=tuple(replace(r, created_at=made_at) for r in order.refunds or ()))
    decision = decide(known(PAID, announced=True, refunds=[7]), dated, looking(YOUNG + ago))
    assert ([event.occurrence for event in decision.events], decision.held_refund_ids) == (
        ([], frozenset({8})) if is_held else ([8], frozenset())
    )


@pytest.mark.parametrize("was_announced", [True, False])
def test_a_refund_of_a_cancelled_order_says_whether_money_had_come_in(*, was_announced: bool) -> None:
    before = known(PAID if was_announced else "pending", announced=was_announced)
    decision = decide(before, order_in("cancelled", refunds=[5]), POLICY)
    assert [(event.type, event.paid) for event in decision.events] == [
        (CANCELLED, was_announced),
        (PARTIAL, was_announced),
    ]


def test_an_old_order_that_is_imported_holds_nothing() -> None:
    decision = decide(None, order_in(PAID, created=-5, refunds={7: "1930.00"}), looking(YOUNG))
    assert (decision.events, decision.held_refund_ids, decision.known.refund_ids) == (
        (),
        frozenset(),
        frozenset({7}),
    )


@pytest.mark.parametrize("status", ["refunded", "trash"])
def test_what_is_swallowed_is_not_held(status: str) -> None:
    decision = decide(known(PAID, announced=True), order_in(status, refunds=REST_OF_IT), looking(YOUNG))
    assert (decision.held_refund_ids, decision.known.refund_ids) == (frozenset(), frozenset({7, 8}))


def test_a_part_of_the_money_is_never_held() -> None:
    decision = decide(known(PAID, announced=True), order_in(PAID, refunds={7: "1929.99"}), looking(YOUNG))
    assert ([event.occurrence for event in decision.events], decision.held_refund_ids) == ([7], frozenset())


# --- Orders that were never seen ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "created", "paid", "expected", "imported"),
    [
        # new: paid, and created or paid at or after the baseline.
        ("processing", 0, None, [NEW], False),
        ("processing", 1, 2, [NEW], False),
        ("processing", 5, -5, [NEW], False),
        ("processing", -1, 0, [NEW], False),
        ("completed", -86_400, 5, [NEW], False),
        ("shipped", -86_400, 5, [NEW], False),
        ("processing", -1, None, [], True),
        ("processing", -2, -1, [], True),
        ("completed", -86_400, -1, [], True),
        ("shipped", -1, None, [], True),
        # The others: created at or after the baseline. When it was paid says nothing about them.
        ("cancelled", 0, None, [CANCELLED], False),
        ("cancelled", -1, None, [], True),
        ("cancelled", -1, 5, [], True),
        ("refunded", 0, 5, [REFUNDED], False),
        ("refunded", -1, 5, [], True),
        ("failed", 0, None, [FAILED], False),
        ("failed", -1, None, [], True),
        ("failed", -1, 5, [], True),
        # Nothing to say of these, whenever they were made.
        ("pending", 0, None, [], False),
        ("pending", -1, None, [], True),
        ("on-hold", -1, 5, [], True),
        ("trash", -1, None, [], True),
    ],
)
def test_an_unknown_order_is_held_against_the_baseline(
    status: str,
    created: int,
    paid: int | None,
    expected: list[EventType],
    imported: bool,  # noqa: FBT001 - a column of the table
) -> None:
    decision = decide(None, order_in(status, created=created, paid=paid), POLICY)

    assert types(decision) == expected
    assert decision.imported is imported
    assert decision.known.status == status
    assert decision.known.decided == dict.fromkeys(expected, 1)


def test_a_known_order_may_be_as_old_as_it_likes() -> None:
    year = -365 * 86_400

    assert types(decide(known("pending"), order_in("processing", created=year), POLICY)) == [NEW]
    assert types(decide(known("completed", announced=True), order_in("refunded", created=year), POLICY)) == [
        REFUNDED
    ]
    assert types(decide(known(PAID, announced=True), order_in(PAID, created=year, refunds=[7]), POLICY)) == [
        PARTIAL
    ]
    assert not decide(known("pending"), order_in("processing", created=year), POLICY).imported


def test_a_plugin_that_touches_ten_thousand_old_orders_announces_nothing() -> None:
    old = [order_in(status, created=-60 * minute) for minute in range(1, 1001) for status in STATUSES]

    decisions = [decide(None, order, POLICY) for order in old]

    assert not any(decision.events for decision in decisions)
    assert all(decision.imported for decision in decisions)


# --- Import ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("then", "later", "expected"),
    [
        (order_in("pending", created=-9), order_in("processing", created=-9), [NEW]),
        (order_in("on-hold", created=-9), order_in("completed", created=-9), [NEW]),
        (order_in("pending", created=-9), order_in("cancelled", created=-9), [CANCELLED]),
        (order_in("processing", created=-9), order_in("completed", created=-9), []),
        (order_in("processing", created=-9), order_in("cancelled", created=-9), [CANCELLED]),
        (order_in("processing", created=-9), order_in("failed", created=-9), [FAILED]),
        (order_in("completed", created=-9), order_in("refunded", created=-9), [REFUNDED]),
        (order_in("shipped", created=-9), order_in("processing", created=-9), []),
        (order_in("refunded", created=-9), order_in("processing", created=-9), []),
        (
            order_in("completed", created=-9, refunds=[7]),
            order_in("completed", created=-9, refunds=[7, 8]),
            [PARTIAL],
        ),
        (order_in("completed", created=-9, refunds=None), order_in("completed", created=-9, refunds=[7]), []),
    ],
)
def test_what_was_imported_is_judged_rightly_later(
    then: Order, later: Order, expected: list[EventType]
) -> None:
    imported = import_silently(then, POLICY)

    assert types(decide(imported, then, POLICY)) == []
    assert types(decide(imported, later, POLICY)) == expected
    # Imported at the start or met during a walk: the record is the same.
    assert decide(None, then, POLICY).known == imported


def test_importing_counts_as_announced_but_is_not_counted() -> None:
    record = import_silently(order_in("processing", refunds=[7]), POLICY)

    assert record == KnownOrder(
        id=101,
        status="processing",
        modified_at=order_in("processing").modified_at,
        announced_new=True,
        decided={},
        refund_ids=frozenset({7}),
    )


def test_only_what_is_no_news_may_be_imported() -> None:
    """Imported orders are never announced. So an order that is news has to be left to the walk."""
    orders = [
        replace(order_in(PAID, created=-600), id=1),
        replace(order_in(PAID, created=-600, paid=5), id=2),  # paid on our watch
        replace(order_in(PAID, created=5), id=3),
        replace(order_in("pending", created=5), id=4),
        replace(order_in("refunded", created=-600), id=5),
    ]
    assert importable(orders, POLICY) == [
        import_silently(order, POLICY) for order in orders if order.id in {1, 4, 5}
    ]
    assert importable([], POLICY) == []


def test_a_cancelled_order_that_was_imported_paid_says_so() -> None:
    (event,) = decide(import_silently(order_in("processing"), POLICY), order_in("cancelled"), MUTED).events

    assert event.paid


# --- Events of the owner's own ------------------------------------------------------------------------------

PACKING = StatusEvent("shop.order.packing", "info", "Собирается", "Заказ #{id} передан на сборку")
ON_HOLD = StatusEvent("shop.order.on_hold", "warning", "Ждёт", "Заказ #{id} ждёт")
SENT = StatusEvent("shop.order.sent", "info", "Отправлен", "Заказ #{id} отправлен")
OWN = replace(POLICY, status_events={"sborka": PACKING, "on-hold": ON_HOLD, "completed": SENT})


@pytest.mark.parametrize(
    ("life", "expected"),
    [
        # A custom status is paid: new comes first.
        ("sborka", [NEW, "shop.order.packing"]),
        ("pending sborka", [NEW, "shop.order.packing"]),
        ("processing sborka completed", [NEW, "shop.order.packing", "shop.order.sent"]),
        ("completed", [NEW, "shop.order.sent"]),
        # One that is not paid is told by itself.
        ("on-hold processing", ["shop.order.on_hold", NEW]),
        # Once each time that it comes into it, not for being in it.
        ("processing sborka sborka", [NEW, "shop.order.packing"]),
        ("processing sborka processing sborka", [NEW, "shop.order.packing", "shop.order.packing"]),
        # The others are as they are, and statuses that nobody named are nothing.
        ("sborka cancelled", [NEW, "shop.order.packing", CANCELLED]),
        ("processing shipped refunded", [NEW, REFUNDED]),
    ],
)
def test_a_status_that_the_owner_named_is_told(life: str, expected: list[str]) -> None:
    assert announced_types(life.split(), OWN) == expected
    unnamed = [type_ for type_ in expected if type_ in set(EventType)]
    assert announced_types(life.split(), POLICY) == unnamed


def test_an_event_of_the_owners_own_brings_its_words_and_counts_by_its_name() -> None:
    first = decide(known("processing", announced=True), order_in("sborka"), OWN)
    again = decide(replace(first.known, status="processing"), order_in("sborka"), OWN)

    assert [(event.occurrence, event.status_event) for event in (*first.events, *again.events)] == [
        (1, PACKING),
        (2, PACKING),
    ]
    assert again.known.decided == {"shop.order.packing": 2}


def test_two_statuses_may_have_one_event() -> None:
    express = replace(PACKING, title="Срочная сборка")
    policy = replace(POLICY, status_events={"sborka": PACKING, "sborka-express": express})

    announced = [
        decide(known("processing", announced=True), order_in(s), policy).events[0]
        for s in policy.status_events
    ]

    assert [event.status_event for event in announced] == [PACKING, express]
    assert announced_types(["processing", "sborka", "sborka-express"], policy) == [
        NEW,
        *["shop.order.packing"] * 2,
    ]


@pytest.mark.parametrize(
    ("created", "paid", "expected"),
    [
        (0, None, [NEW, "shop.order.packing"]),
        (-1, None, []),
        # Paid on our watch: that is news. What happened to it besides may be old.
        (-1, 5, [NEW]),
    ],
)
def test_an_unknown_order_has_to_be_young_for_an_event_of_the_owners_own(
    created: int, paid: int | None, expected: list[str]
) -> None:
    decision = decide(None, order_in("sborka", created=created, paid=paid), OWN)

    assert types(decision) == expected
    assert decision.imported is not bool(expected)


def test_an_order_that_was_imported_in_a_status_is_not_told_for_being_there() -> None:
    record = import_silently(order_in("sborka", created=-9), OWN)

    assert types(decide(record, order_in("sborka", created=-9), OWN)) == []
    assert types(decide(record, order_in("completed", created=-9), OWN)) == ["shop.order.sent"]


# --- Payments that are overdue -----------------------------------------------------------------------------

HOUR = 3600


def waiting(shop_time: int, *, hours: float = 24) -> Policy:
    """The policy when the shop's clock is so many seconds after the baseline."""
    threshold = timedelta(hours=hours)
    before = BASELINE + timedelta(seconds=shop_time) - threshold
    return replace(POLICY, overdue_before=before, overdue_after=threshold)


@pytest.mark.parametrize("status", ["pending", "on-hold"])
@pytest.mark.parametrize(
    ("created", "shop_time", "overdue"),
    [
        (YOUNG, YOUNG + 24 * HOUR - 1, False),
        (YOUNG, YOUNG + 24 * HOUR, True),
        (YOUNG, YOUNG + 99 * HOUR, True),
        (0, 24 * HOUR, True),
        # Made before we watched: not ours to tell, however long it waits.
        (-1, 99 * HOUR, False),
    ],
)
def test_an_order_that_waits_too_long_to_be_paid_is_told(
    status: str,
    created: int,
    shop_time: int,
    overdue: bool,  # noqa: FBT001 - a column of the table
) -> None:
    order = order_in(status, created=created)
    expected = [OVERDUE] if overdue else []

    assert types(decide(None, order, waiting(shop_time))) == expected
    assert types(decide(known(status, awaiting=created), order, waiting(shop_time))) == expected
    assert types(decide(known(status, awaiting=created), order, POLICY)) == []


@pytest.mark.parametrize("status", [status for status in STATUSES if status not in {"pending", "on-hold"}])
def test_only_an_order_that_waits_to_be_paid_is_overdue(status: str) -> None:
    for record in (None, known("pending", awaiting=0), known(status)):
        decision = decide(record, order_in(status), waiting(999 * HOUR))

        assert OVERDUE not in types(decision)
        assert decision.known.awaiting_since is None


@pytest.mark.parametrize(
    ("record", "order", "since"),
    [
        # First seen there: since it was made.
        (None, order_in("pending", modified=700), YOUNG),
        (None, order_in("on-hold", modified=700), YOUNG),
        (None, order_in("processing", modified=700), None),
        # Came into it from elsewhere.
        (known("failed"), order_in("pending", modified=700), 700),
        (known("checkout-draft"), order_in("on-hold", modified=700), 700),
        (known("processing", announced=True), order_in("on-hold", modified=700), 700),
        # Kept while it moves between the two, or is touched.
        (known("pending", awaiting=5), order_in("on-hold", modified=700), 5),
        (known("on-hold", awaiting=5), order_in("pending", modified=700), 5),
        (known("pending", awaiting=5), order_in("pending", modified=700), 5),
        # Cleared by anything else.
        (known("pending", awaiting=5), order_in("processing", modified=700), None),
        (known("on-hold", awaiting=5), order_in("cancelled", modified=700), None),
        (known("pending", awaiting=5), order_in("trash", modified=700), None),
        # A record of an earlier version: at least since it was written, but not since before it was made.
        (replace(known("pending"), modified_at=BASELINE + timedelta(seconds=650)), order_in("pending"), 650),
        (replace(known("pending"), modified_at=datetime(1970, 1, 1, tzinfo=UTC)), order_in("pending"), YOUNG),
    ],
)
def test_since_when_an_order_waits(record: KnownOrder | None, order: Order, since: int | None) -> None:
    expected = None if since is None else BASELINE + timedelta(seconds=since)

    assert decide(record, order, POLICY).known.awaiting_since == expected


def test_time_alone_makes_a_payment_overdue_once() -> None:
    order = order_in("pending")
    record: KnownOrder | None = None
    announced = []
    for hour in range(100):
        decision = decide(record, order, waiting(YOUNG + hour * HOUR))
        announced += [(hour, event) for event in decision.events]
        record = decision.known

    ((hour, event),) = announced
    assert (hour, event.occurrence, event.paid) == (24, 1, False)
    assert event.wait == Wait(order.created_at, timedelta(hours=24))


def test_once_an_order_even_if_it_comes_to_wait_again() -> None:
    first = decide(known("pending", awaiting=0), order_in("pending"), waiting(24 * HOUR))
    failed = decide(first.known, order_in("failed", modified=25 * HOUR), waiting(25 * HOUR))
    again = decide(failed.known, order_in("pending", modified=26 * HOUR), waiting(26 * HOUR))
    later = decide(again.known, order_in("pending", modified=26 * HOUR), waiting(99 * HOUR))

    assert [types(d) for d in (first, failed, again, later)] == [[OVERDUE], [FAILED], [], []]


def test_an_order_that_was_overdue_is_new_when_it_is_paid() -> None:
    overdue = decide(known("on-hold", awaiting=0), order_in("on-hold"), waiting(30 * HOUR))
    paid = decide(overdue.known, order_in("processing", modified=31 * HOUR), waiting(31 * HOUR))

    assert (types(overdue), types(paid)) == ([OVERDUE], [NEW])
    assert overdue.events[0].wait == Wait(BASELINE, timedelta(hours=30))


def test_coming_into_a_status_is_told_before_that_it_is_overdue() -> None:
    policy = replace(waiting(99 * HOUR), status_events={"on-hold": ON_HOLD})

    assert types(decide(known("pending", awaiting=0), order_in("on-hold"), policy)) == [
        "shop.order.on_hold",
        OVERDUE,
    ]


def test_what_was_imported_remembers_since_when_it_waits_and_is_not_told() -> None:
    old = order_in("pending", created=-9)
    record = import_silently(old, waiting(0))

    assert record.awaiting_since == old.created_at
    assert types(decide(record, old, waiting(999 * HOUR))) == []


# --- Any life at all ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """One observation of an order, and the decision on it."""

    before: KnownOrder | None
    order: Order
    decision: Decision


CUSTOM = ["shipped", "quote", "wc-processing", "Processing", "", "возврат"]
statuses = st.sampled_from(STATUSES) | st.sampled_from(CUSTOM) | st.text(max_size=8)
seconds = st.integers(-3, 3) | st.integers(-10_000_000, 10_000_000)
amounts = st.sampled_from(["0.00", "1.00", "965.00", "1930.00", ""])
refund_ids = (
    st.none()
    | st.lists(st.integers(1, 6), unique=True, max_size=4)
    | st.dictionaries(st.integers(1, 6), amounts, max_size=4)
)


@st.composite
def lives(draw: st.DrawFn) -> list[Order]:
    """Observations of one order, one after another; they need not make sense."""
    created = draw(seconds)
    return [
        order_in(
            draw(statuses),
            created=created,
            paid=draw(st.none() | seconds),
            modified=draw(seconds),
            refunds=draw(refund_ids),
        )
        for _ in range(draw(st.integers(1, 12)))
    ]


own_events = st.dictionaries(
    st.sampled_from([s for s in STATUSES + CUSTOM if s not in {"cancelled", "refunded", "failed"}]),
    st.sampled_from([PACKING, ON_HOLD, SENT]),
)
policies = st.builds(
    Policy,
    baseline_at=st.just(BASELINE),
    meanings=st.builds(meanings, st.just(UNPAID) | st.frozensets(st.sampled_from(STATUSES + CUSTOM))),
    cancelled_unpaid=st.booleans(),
    status_events=st.just({}) | own_events,
    overdue_before=st.none() | seconds.map(lambda s: BASELINE + timedelta(seconds=s)),
    shop_time=st.none() | seconds.map(lambda s: BASELINE + timedelta(seconds=s)),
    hold_ended=st.sampled_from([frozenset(), frozenset({101})]),
)


def live(life: Iterable[Order], policy: Policy = POLICY) -> list[Observation]:
    announced: list[Observation] = []
    record: KnownOrder | None = None
    for order in life:
        decision = decide(record, order, policy)
        announced.append(Observation(record, order, decision))
        record = decision.known
    return announced


def events_of(announced: Iterable[Observation]) -> list[OrderEvent]:
    return [event for step in announced for event in step.decision.events]


@given(lives(), policies)
def test_no_life_is_announced_as_new_twice(life: list[Order], policy: Policy) -> None:
    assert [event.type for event in events_of(live(life, policy))].count(NEW) <= 1


@given(lives(), st.lists(policies, min_size=12, max_size=12))
def test_not_even_when_the_owner_changes_the_settings(life: list[Order], changing: list[Policy]) -> None:
    record: KnownOrder | None = None
    news = 0
    for order, policy in zip(life, changing, strict=False):
        decision = decide(record, order, policy)
        news += types(decision).count(NEW)
        record = decision.known

    assert news <= 1


@given(lives(), policies)
def test_deciding_twice_is_deciding_once(life: list[Order], policy: Policy) -> None:
    for step in live(life, policy):
        again = decide(step.decision.known, step.order, policy)

        assert again.events == ()
        assert again.known == step.decision.known
        assert not again.imported


@given(lives(), policies)
def test_a_record_always_says_what_has_been_announced(life: list[Order], policy: Policy) -> None:
    counts: Counter[str] = Counter()
    named = {words.event for words in policy.status_events.values()}
    refunds: set[int] = set()
    for step in live(life, policy):
        for event in step.decision.events:
            if event.type == PARTIAL:
                assert event.refund is not None
                assert event.occurrence == event.refund.id
                assert event.refund in (step.order.refunds or ())
                assert event.occurrence not in refunds, "a refund is told once"
                refunds.add(event.occurrence)
            else:
                assert (event.status_event is not None) == (event.type in named)
                assert (event.wait is not None) == (event.type == OVERDUE)
                counts[event.type] += 1
                assert event.occurrence == counts[event.type]
                assert event.refund is None
        record = step.decision.known
        assert record.decided == counts
        assert record.announced_new or not counts[NEW]
        assert refunds <= (record.refund_ids or frozenset())
        assert (record.id, record.status, record.modified_at) == (
            step.order.id,
            step.order.status,
            step.order.modified_at,
        )


@given(lives(), st.lists(policies, min_size=12, max_size=12))
def test_no_life_is_overdue_twice_or_without_waiting(life: list[Order], changing: list[Policy]) -> None:
    record: KnownOrder | None = None
    overdue = 0
    for order, policy in zip(life, changing, strict=False):
        decision = decide(record, order, policy)
        record = decision.known
        assert (record.awaiting_since is not None) == (order.status in {"pending", "on-hold"})
        for event in decision.events:
            if event.type == OVERDUE:
                overdue += 1
                assert event.occurrence == 1
                assert event.wait is not None
                assert event.wait.since == record.awaiting_since
                assert policy.overdue_before is not None
                assert event.wait.since <= policy.overdue_before
                assert order.created_at >= policy.baseline_at

    assert overdue <= 1


@given(lives(), policies)
def test_the_set_of_seen_refunds_only_grows(life: list[Order], policy: Policy) -> None:
    for step in live(life, policy):
        before = (step.before and step.before.refund_ids) or frozenset()
        shown = {refund.id for refund in step.order.refunds or ()} - step.decision.held_refund_ids
        assert not before & step.decision.held_refund_ids
        if step.decision.known.refund_ids is None:
            assert not before
            assert step.order.refunds is None
        else:
            assert step.decision.known.refund_ids == before | shown


@given(lives(), policies)
def test_to_decide_is_a_function(life: list[Order], policy: Policy) -> None:
    for step in live(life, policy):
        frozen = repr(step.before)

        assert decide(step.before, step.order, policy) == step.decision
        assert repr(step.before) == frozen


@given(lives(), policies)
def test_an_old_unknown_order_is_imported_or_told_and_never_both(life: list[Order], policy: Policy) -> None:
    first, *others = live(life, policy)
    old = life[0].created_at < BASELINE

    assert first.decision.imported == (old and not first.decision.events)
    assert not any(step.decision.imported for step in others)
    if old:
        assert set(types(first.decision)) <= {NEW}


@given(lives(), policies)
def test_importing_an_order_leaves_nothing_to_say_of_it(life: list[Order], policy: Policy) -> None:
    for order in life:
        record = import_silently(order, policy)

        assert record.decided == {}
        # Imported orders are older than our watch. Otherwise they could still become overdue.
        if order.created_at < policy.baseline_at or policy.overdue_before is None:
            assert decide(record, order, policy).events == ()
            assert decide(record, order, policy).known == record


# --- The Celery design that this replaces ------------------------------------------------------------------


def old_rule(known_status: str | None, status: str) -> EventType | None:
    """process_order_event of the Celery design, word by word."""
    if known_status == status:
        return None
    if status == "processing" and known_status is None:
        return NEW
    if status == "cancelled":
        return CANCELLED
    if status == "refunded":
        return REFUNDED
    if status == "failed":
        return FAILED
    return None


@given(lives())
def test_every_event_of_the_celery_design_is_ours_too(life: list[Order]) -> None:
    known_status: str | None = None
    for step in live(life):
        theirs = old_rule(known_status, step.order.status)
        known_status = step.order.status
        newest = step.order.created_at
        if theirs is NEW:
            newest = max(newest, step.order.paid_at or newest)
        if theirs is None or (step.before is None and newest < BASELINE):
            continue  # nothing, or an unknown order that is older than the baseline: imported silently
        assert theirs in types(step.decision)


# --- a record whose status is damaged ---------------------------------------------------------------------


def damaged(modified: int = YOUNG, **known: object) -> KnownOrder:
    at = BASELINE + timedelta(seconds=modified)
    record = KnownOrder(101, LOST_STATUS, at, announced_new=True, decided={NEW: 1})
    return replace(record, **known)  # type: ignore[arg-type] # of many types


@pytest.mark.parametrize("status", ["cancelled", "refunded", "failed"])
def test_without_a_status_what_was_not_modified_is_no_news(status: str) -> None:
    decision = decide(damaged(), order_in(status), POLICY)
    assert decision.events == ()
    assert decision.known.status == status


def test_without_a_status_what_was_modified_is_news_unless_it_was_told_before() -> None:
    (event,) = decide(damaged(), order_in("cancelled", modified=YOUNG + 1), POLICY).events
    assert event.type == CANCELLED
    announced = damaged(decided={NEW: 1, CANCELLED: 1})
    assert decide(announced, order_in("cancelled", modified=YOUNG + 1), POLICY).events == ()


# --- Orders that wait for payment ---------------------------------------------------------------------------

PLACED = EventType.PLACED
WAITING = replace(POLICY, waiting_payments=frozenset({"bacs", "cod"}))


@pytest.mark.parametrize("status", ["pending", "on-hold"])
def test_an_order_that_is_to_be_paid_in_a_way_that_waits_is_placed_once(status: str) -> None:
    first = decide(None, order_in(status, payment="bacs"), WAITING)
    assert types(first) == [PLACED]
    assert first.events[0].was_announced is False
    again = decide(first.known, order_in("on-hold", payment="bacs", modified=YOUNG + 1), WAITING)
    assert types(again) == []
    paid = decide(again.known, order_in("processing", payment="bacs", modified=YOUNG + 2), WAITING)
    assert types(paid) == [NEW]
    assert paid.events[0].was_announced is True
    assert types(decide(paid.known, order_in("on-hold", payment="bacs", modified=YOUNG + 3), WAITING)) == []


@pytest.mark.parametrize(
    ("known_as", "order", "policy"),
    [
        (None, order_in("pending", payment="bacs"), POLICY),
        (None, order_in("pending", payment="stripe"), WAITING),
        (None, order_in("pending"), WAITING),
        (None, order_in("checkout-draft", payment="bacs"), WAITING),
        (None, order_in("pending", payment="bacs", created=-1), WAITING),
        (known("pending"), order_in("pending", payment="bacs"), WAITING),
    ],
    ids=["off", "paid at once", "half made", "a draft", "before the baseline", "known as such"],
)
def test_other_unpaid_orders_are_not_placed(
    known_as: KnownOrder | None, order: Order, policy: Policy
) -> None:
    assert types(decide(known_as, order, policy)) == []


def test_a_pending_order_that_comes_to_wait_is_placed() -> None:
    before = decide(None, order_in("pending"), WAITING).known
    assert types(decide(before, order_in("on-hold", payment="cod", modified=YOUNG + 1), WAITING)) == [PLACED]


def test_a_cancellation_says_whether_the_order_was_announced() -> None:
    placed = decide(None, order_in("on-hold", payment="bacs"), WAITING).known
    cancelled = order_in("cancelled", modified=YOUNG + 1)
    flags = [
        decide(before, cancelled, WAITING).events[0].was_announced
        for before in (None, known("pending"), placed, known("processing", announced=True))
    ]
    assert flags == [False, False, True, True]
