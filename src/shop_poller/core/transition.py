"""Decides what follows from an order as it was known and as it is seen now.

These are all the rules. Read them from top to bottom. Words in capitals are meanings of statuses
(core/meaning.py). The source defines which status means what, e.g. in sources/woocommerce/statuses.py. For
the reasons see docs/woocommerce.md:

    - seen                                   known                     event
    - -------------------------------------  ------------------------  ---------------------------
    - PAID, COMPLETED                        not announced as new      new
    - AWAITING, to be paid in a way that     any other status or none, placed
      waits (bank transfer)                  never announced as
                                             placed or new
    - CANCELLED, REFUNDED, FAILED            any other status, or none the same
    - a status that the owner named          any other status, or none the event named for it
    - a refund id with money in it, neither  not that id               partially_refunded, one for
      REFUNDED nor REMOVED                                             each refund
    - AWAITING for too long, and created     not announced as overdue  payment_overdue
      at or after the baseline
    - anything else                          anything                  none

If an unknown order is older than the baseline, it is recorded silently, without an event (see
`_is_since_baseline`).

The shop may not have finished writing a refund. This is possible if the sum of the refunds reaches the
order's total (the status follows), or if a refund has no money in it (the amount follows). Such a refund is
held for REFUND_HOLD before it counts (see `_half_written`, and docs/decisions/0015).

An order does not include the dates of its refunds, but the shop's list of refunds may (core.refunds). A
refund made at or after the baseline is announced even if its order is older and was unknown. It is also
announced if the order was recorded with that refund before its date was known (see `_is_announced_late`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

from shop_poller.core.meaning import PAID, StatusMeaning, StatusMeanings
from shop_poller.core.model import (
    EventType,
    KnownOrder,
    Order,
    OrderEvent,
    Refund,
    StatusEvent,
    Wait,
    amount_of,
)

EVENTS: Mapping[StatusMeaning, EventType] = {
    StatusMeaning.CANCELLED: EventType.CANCELLED,
    StatusMeaning.REFUNDED: EventType.REFUNDED,
    StatusMeaning.FAILED: EventType.FAILED,
}
"""The event of an order that enters a status with one of these meanings."""

LOST_STATUS = "(damaged)"
"""Replaces the status of an order whose record is damaged; no shop has such a status."""
REFUND_HOLD = timedelta(seconds=15)
"""How long a refund that may be half written is held."""

NO_REFUND_EVENTS = frozenset({StatusMeaning.REFUNDED, StatusMeaning.REMOVED})
"""With one of these meanings, single refunds are no events: the order was refunded as a whole, or removed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """The owner's choices, and the baseline.

    Attributes:
        baseline_at: an unknown order that is older than this is not announced.
        meanings: what the shop's statuses mean.
        cancelled_unpaid: whether the cancellation of a never paid order is announced.
        status_events: events of further statuses; none of them has a meaning in EVENTS.
        overdue_before: the shop's clock minus `overdue_after`. Orders that have been awaiting payment since
            then or longer are overdue. None if overdue payments are not announced.
        overdue_after: how long an order may await payment.
        waiting_payments: ways to pay, by the shop's own names, that leave an order waiting for a person.
        shop_time: the shop's clock when it returned the order; None holds no refund.
        hold_ended: ids of the orders whose refunds have been held for REFUND_HOLD.
    """

    baseline_at: datetime
    meanings: StatusMeanings
    cancelled_unpaid: bool = True
    status_events: Mapping[str, StatusEvent] = field(default_factory=dict)
    overdue_before: datetime | None = None
    overdue_after: timedelta = timedelta(0)
    waiting_payments: frozenset[str] = frozenset()
    shop_time: datetime | None = None
    hold_ended: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """The result for an order.

    Attributes:
        events: what to announce, in order.
        known: what to store from now on.
        imported: an unknown order was recorded silently because it is older than the baseline.
        held_refund_ids: refunds that are neither announced nor recorded yet; read the order again after
            REFUND_HOLD.
    """

    events: tuple[OrderEvent, ...]
    known: KnownOrder
    imported: bool = False
    held_refund_ids: frozenset[int] = frozenset()


def decide(known: KnownOrder | None, order: Order, policy: Policy) -> Decision:
    """Decide what to announce about an order, and what to store of it."""
    held_refund_ids, meaning = _held_refund_ids(known, order, policy), policy.meanings.of(order.status)
    events = [
        *_new_events(known, order, policy, meaning),
        *_placed_events(known, order, policy, meaning),
        *_status_events(known, order, policy, meaning),
        *_partial_refund_events(known, order, policy, held_refund_ids),
        *_overdue_events(known, order, policy),
    ]
    if known is None:
        events = [event for event in events if _is_since_baseline(event, policy)]
    is_old = known is None and order.created_at < policy.baseline_at
    return Decision(
        events=tuple(events),
        known=_known_after(known, order, policy, events, held_refund_ids),
        imported=is_old and not events,
        held_refund_ids=held_refund_ids,
    )


def import_silently(order: Order, policy: Policy) -> KnownOrder:
    """Return what to store of an order from before the baseline: as if all of it had been announced."""
    return _known_after(None, order, policy, [], frozenset())


def importable(orders: Iterable[Order], policy: Policy) -> list[KnownOrder]:
    """Return what to store of unknown orders, except those with events.

    The walk also returns old orders that were paid at or after the baseline.
    """
    return [import_silently(order, policy) for order in orders if not decide(None, order, policy).events]


def _new_events(
    known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning
) -> list[OrderEvent]:
    if meaning not in PAID or (known is not None and known.announced_new):
        return []
    return [_event(EventType.NEW, known, order, policy)]


def _placed_events(
    known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning
) -> list[OrderEvent]:
    if meaning is not StatusMeaning.AWAITING or order.payment_code not in policy.waiting_payments:
        return []
    if known is not None and (known.status == order.status or was_announced(known)):
        return []
    return [_event(EventType.PLACED, known, order, policy)]


def was_announced(known: KnownOrder | None) -> bool:
    """Return whether the order itself was announced, as placed or as new."""
    return known is not None and (known.announced_new or EventType.PLACED in known.decided)


def _status_events(
    known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning
) -> list[OrderEvent]:
    status_event = policy.status_events.get(order.status)
    event_type = status_event.event if status_event else EVENTS.get(meaning)
    if event_type is None:
        return []
    if known is not None and _was_in_status(known, order, event_type):
        is_refunded = meaning is StatusMeaning.REFUNDED
        if not is_refunded or not any(_is_announced_late(r, known, policy) for r in order.refunds or ()):
            return []
    event = _event(event_type, known, order, policy, status_event=status_event)
    is_unwanted = event_type == EventType.CANCELLED and not event.paid and not policy.cancelled_unpaid
    return [] if is_unwanted else [event]


def _was_in_status(known: KnownOrder, order: Order, event_type: str) -> bool:
    """Return whether the order was in this status before.

    If our record of its status is damaged, return False only if the shop modified the order since and this
    event was never announced for it. So damage announces nothing old and hides nothing new.
    """
    if known.status != LOST_STATUS:
        return known.status == order.status
    return order.modified_at <= known.modified_at or event_type in known.decided


def _partial_refund_events(
    known: KnownOrder | None, order: Order, policy: Policy, held_refund_ids: frozenset[int]
) -> list[OrderEvent]:
    if not order.refunds:  # the usual case
        return []
    paid, completing_id = _was_paid(known, order, policy), _completing_refund_id(order)
    return [
        OrderEvent(
            EventType.PARTIALLY_REFUNDED,
            order,
            occurrence=refund.id,
            paid=paid,
            refund=refund,
            fully_refunded=completing_id is not None and refund.id >= completing_id,
            previous_status=_previous_status(known),
            was_announced=was_announced(known),
        )
        for refund in _new_refunds(known, order, policy)
        if not refund.is_nothing and refund.id not in held_refund_ids
    ]


def _new_refunds(known: KnownOrder | None, order: Order, policy: Policy) -> list[Refund]:
    """Return the refunds that are not known yet and may be announced, in the order of their creation."""
    meaning = policy.meanings.of(order.status)
    if order.refunds is None or meaning in NO_REFUND_EVENTS:
        return []
    is_cancelled = meaning is StatusMeaning.CANCELLED
    if known is None:
        # An order that was cancelled before we first saw it is announced only as cancelled.
        recorded_ids = frozenset(r.id for r in order.refunds) if is_cancelled else frozenset()
    elif known.refund_ids is None:
        # The earlier source could not see refunds, so these may be old.
        recorded_ids = frozenset(r.id for r in order.refunds)
    else:
        recorded_ids = known.refund_ids
    late = {r.id for r in order.refunds if _is_announced_late(r, known, policy)}
    if known is None and is_cancelled and order.created_at >= policy.baseline_at:
        late = set()
    return sorted((r for r in order.refunds if r.id not in recorded_ids or r.id in late), key=lambda r: r.id)


def _completing_refund_id(order: Order) -> int | None:
    """Return the id of the refund that brings the sum to the order's total; None if the sum is smaller."""
    total, refunded = amount_of(order.total), Decimal(0)
    for refund in sorted(order.refunds or (), key=lambda r: r.id):
        refunded += amount_of(refund.amount)
        if 0 < total <= refunded:
            return refund.id
    return None


def _held_refund_ids(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """Return the refunds that are neither announced nor recorded yet."""
    if not order.refunds:
        return frozenset()
    half_written, shop_time = _half_written(known, order, policy), policy.shop_time
    if not half_written or shop_time is None:
        return frozenset()
    # A refund whose date is known has existed since then.
    is_recent = {
        r.id: r.created_at > shop_time - REFUND_HOLD for r in order.refunds or () if r.created_at is not None
    }
    half_written = frozenset(refund_id for refund_id in half_written if is_recent.get(refund_id, True))
    if known is None and order.created_at < policy.baseline_at:
        return half_written & is_recent.keys()  # the others are recorded silently
    # The date of an unknown order shows whether nothing has been written for a while.
    is_steady = known is None and order.modified_at <= shop_time - REFUND_HOLD
    return frozenset() if is_steady or order.id in policy.hold_ended else half_written


def _half_written(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """Return the new refunds that the shop may not have finished writing.

    WooCommerce writes the refund first, for a moment without its amount. Then it asks the payment gateway to
    return the money. If that was all of the money, WooCommerce sets a status that means REFUNDED. For the
    seconds until then, the refund that completes the total looks like a partial one.
    """
    completing_id = _completing_refund_id(order)
    return frozenset(
        refund.id
        for refund in _new_refunds(known, order, policy)
        if refund.is_nothing or (completing_id is not None and refund.id >= completing_id)
    )


def _is_announced_late(refund: Refund, known: KnownOrder | None, policy: Policy) -> bool:
    """Return whether to announce a refund because its date, at or after the baseline, became known later."""
    if refund.created_at is None or refund.created_at < policy.baseline_at:
        return False
    if _is_announced_refunded(known, policy):
        return False
    return known is None or known.refund_ids is None or refund.id in known.silent_refund_ids


def _is_announced_refunded(known: KnownOrder | None, policy: Policy) -> bool:
    """Return whether a full refund was announced, even if the single refunds were not visible."""
    if known is None or EventType.REFUNDED not in known.decided:
        return False
    return policy.meanings.of(known.status) is StatusMeaning.REFUNDED


def _overdue_events(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
    before = policy.overdue_before
    if before is None:
        return []
    since = _awaiting_since(known, order, policy, policy.meanings.of(order.status))
    if since is None or since > before or order.created_at < policy.baseline_at:
        return []
    if known is not None and EventType.PAYMENT_OVERDUE in known.decided:
        return []
    wait = Wait(since, lasted=before + policy.overdue_after - since)
    return [_event(EventType.PAYMENT_OVERDUE, known, order, policy, wait=wait)]


def _awaiting_since(
    known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning
) -> datetime | None:
    if meaning is not StatusMeaning.AWAITING:
        return None
    if known is None:
        return order.created_at
    if policy.meanings.of(known.status) is not StatusMeaning.AWAITING:
        return order.modified_at
    # A record of an earlier version has no `awaiting_since`. One of the Celery design has no times at all.
    return known.awaiting_since or max(known.modified_at, order.created_at)


def _event(
    event_type: str,
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    *,
    status_event: StatusEvent | None = None,
    wait: Wait | None = None,
) -> OrderEvent:
    return OrderEvent(
        event_type,
        order,
        occurrence=1 if known is None else known.decided.get(event_type, 0) + 1,
        paid=_was_paid(known, order, policy),
        status_event=status_event,
        wait=wait,
        previous_status=_previous_status(known),
        was_announced=was_announced(known),
        earlier_refund_ids=_earlier_refund_ids(known, order, policy),
    )


def _earlier_refund_ids(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """Return the refunds that were recorded before, or are older than the baseline."""
    if not order.refunds:  # the usual case
        return frozenset()
    recorded = known.refund_ids or frozenset() if known is not None else frozenset()
    return frozenset(
        refund.id
        for refund in order.refunds
        if (refund.id in recorded and not _is_announced_late(refund, known, policy))
        or (refund.created_at is not None and refund.created_at < policy.baseline_at)
    )


def _previous_status(known: KnownOrder | None) -> str:
    return "" if known is None or known.status == LOST_STATUS else known.status


def _was_paid(known: KnownOrder | None, order: Order, policy: Policy) -> bool:
    return (
        order.paid_at is not None
        or policy.meanings.is_paid(order.status)
        or (known is not None and known.announced_new)
    )


def _is_since_baseline(event: OrderEvent, policy: Policy) -> bool:
    """Return whether an event of an unknown order happened at or after the baseline.

    Each event has a time. For `new` it is the payment, for a refund its date in the shop's list of refunds,
    for all others the creation of the order. No event is earlier than the creation. So a plugin that modifies
    ten thousand old orders causes no notifications.
    """
    newest = event.order.created_at
    if event.type == EventType.PARTIALLY_REFUNDED and event.refund and event.refund.created_at is not None:
        newest = max(newest, event.refund.created_at)
    if event.type != EventType.NEW and _is_refunded(event.order, policy):
        newest = max([newest, *(r.created_at for r in event.order.refunds or () if r.created_at is not None)])
    if event.type == EventType.NEW and event.order.paid_at is not None:
        newest = max(newest, event.order.paid_at)
    return newest >= policy.baseline_at


def _is_refunded(order: Order, policy: Policy) -> bool:
    return policy.meanings.of(order.status) is StatusMeaning.REFUNDED


def _known_after(
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    events: list[OrderEvent],
    held_refund_ids: frozenset[int],
) -> KnownOrder:
    # A refunded order was paid before, so it is never announced as new afterwards.
    meaning = policy.meanings.of(order.status)
    paid = meaning in PAID or meaning is StatusMeaning.REFUNDED
    decided = dict(known.decided) if known else {}
    for event in events:
        if event.type != EventType.PARTIALLY_REFUNDED:
            decided[event.type] = decided.get(event.type, 0) + 1
    refund_ids = known.refund_ids if known else None
    if order.refunds is not None:
        refund_ids = (refund_ids or frozenset()) | {refund.id for refund in order.refunds} - held_refund_ids
    return KnownOrder(
        id=order.id,
        status=order.status,
        modified_at=order.modified_at,
        announced_new=paid or (known is not None and known.announced_new),
        decided=decided,
        refund_ids=refund_ids,
        awaiting_since=_awaiting_since(known, order, policy, meaning),
        silent_refund_ids=_silent_refund_ids(known, order, policy, events, held_refund_ids),
    )


def _silent_refund_ids(
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    events: list[OrderEvent],
    held_refund_ids: frozenset[int],
) -> frozenset[int]:
    """Return the refunds recorded without an event, because their dates are not known yet."""
    silent = known.silent_refund_ids if known else frozenset()
    if not silent and not order.refunds:  # the usual case
        return silent
    if events and _is_refunded(order, policy):
        return frozenset()  # the event says that all of the money was given back
    if not order.refunds:
        return silent
    undated = {refund.id for refund in order.refunds or () if refund.created_at is None}
    if known is None:
        silent |= undated if order.created_at < policy.baseline_at else frozenset()
    elif known.refund_ids is None and not _is_announced_refunded(known, policy):
        silent |= undated
    dated = {refund.id for refund in order.refunds or () if refund.created_at is not None} - held_refund_ids
    return (
        silent - dated - {event.occurrence for event in events if event.type == EventType.PARTIALLY_REFUNDED}
    )
