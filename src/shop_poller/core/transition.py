"""Decides what follows from an order as it was known and as it is seen now.

These are all the rules. Read them from top to bottom. Words in capitals are meanings of statuses
(core/meaning.py). The source defines which status means what, e.g. in sources/woocommerce/statuses.py. For
the reasons see docs/woocommerce.md:

    - seen                                   known                     event
    - -------------------------------------  ------------------------  ---------------------------
    - PAID, COMPLETED                        not announced as new      new
    - AWAITING, to be paid in a way that     any other status or none, placed
      waits (bank transfer)                  and announced as neither
    - CANCELLED, REFUNDED, FAILED            any other status, or none the same
    - a status that the owner named          any other status, or none the event named for it
    - a refund id with money in it, neither  not that id               partially_refunded, one for
      REFUNDED nor REMOVED                                             each refund
    - AWAITING for too long, and created     not announced as overdue  payment_overdue
      at or after the baseline
    - anything else                          anything                  none

An unknown order is compared with the baseline first (see `_young_enough`). If it is older than the baseline,
it is recorded silently, without an event.

A refund may be half written if it brings the sum to the total or has no money in it: the status, or the
amount, follows. It is held for REFUND_HOLD before it counts (see `_doubtful`, and docs/decisions/0015).

An order does not include the dates of its refunds, but the shop's list of refunds may (core.refunds). A
refund made at or after the baseline is announced even if its order is older and was unknown. It is also
announced if the order was recorded with that refund before its date was known (see `_is_late`).
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

SWALLOWS_REFUNDS = frozenset({StatusMeaning.REFUNDED, StatusMeaning.REMOVED})
"""With these meanings, a refund is no separate event: all money was given back, or the order was removed."""


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
        held: refunds that are neither announced nor recorded yet; read the order again after REFUND_HOLD.
    """

    events: tuple[OrderEvent, ...]
    known: KnownOrder
    imported: bool = False
    held: frozenset[int] = frozenset()


def decide(known: KnownOrder | None, order: Order, policy: Policy) -> Decision:
    """Decide what to announce about an order, and what to store of it."""
    held, meaning = _held(known, order, policy), policy.meanings.of(order.status)
    events = [
        *_new(known, order, policy, meaning),
        *_placed(known, order, policy, meaning),
        *_status_changed(known, order, policy, meaning),
        *_partly_refunded(known, order, policy, held),
        *_overdue(known, order, policy),
    ]
    if known is None:
        events = [event for event in events if _young_enough(event, policy)]
    old = known is None and order.created_at < policy.baseline_at
    return Decision(
        events=tuple(events),
        known=_remember(known, order, policy, events, held),
        imported=old and not events,
        held=held,
    )


def import_silently(order: Order, policy: Policy) -> KnownOrder:
    """Return what to store of an order from before the baseline: as if all of it had been announced."""
    return _remember(None, order, policy, [], frozenset())


def importable(orders: Iterable[Order], policy: Policy) -> list[KnownOrder]:
    """Return what to store of unknown orders, except those with events.

    The walk also returns old orders that were paid at or after the baseline.
    """
    return [import_silently(order, policy) for order in orders if not decide(None, order, policy).events]


def _new(known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning) -> list[OrderEvent]:
    if meaning not in PAID or (known is not None and known.announced_new):
        return []
    return [_event(EventType.NEW, known, order, policy)]


def _placed(
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


def _status_changed(
    known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning
) -> list[OrderEvent]:
    words = policy.status_events.get(order.status)
    type_ = words.event if words else EVENTS.get(meaning)
    if type_ is None or (known is not None and _is_in_status(known, order, type_)):
        is_refunded = meaning is StatusMeaning.REFUNDED
        late = is_refunded and any(_is_late(r, known, policy) for r in order.refunds or ())
        if type_ is None or not late:
            return []
    event = _event(type_, known, order, policy, words=words)
    muted = type_ == EventType.CANCELLED and not event.paid and not policy.cancelled_unpaid
    return [] if muted else [event]


def _is_in_status(known: KnownOrder, order: Order, type_: str) -> bool:
    """Return whether the order was in this status before.

    If our record of its status is damaged, the answer is usually yes. It is no if the shop has modified the
    order since and this event was never announced for it. So damage announces nothing old and hides nothing
    new.
    """
    if known.status != LOST_STATUS:
        return known.status == order.status
    return order.modified_at <= known.modified_at or type_ in known.decided


def _partly_refunded(
    known: KnownOrder | None, order: Order, policy: Policy, held: frozenset[int]
) -> list[OrderEvent]:
    if not order.refunds:  # the usual case
        return []
    paid, completing = _was_paid(known, order, policy), _completing(order)
    return [
        OrderEvent(
            EventType.PARTIALLY_REFUNDED,
            order,
            n=refund.id,
            paid=paid,
            refund=refund,
            fully_refunded=completing is not None and refund.id >= completing,
            previous_status=_previous_status(known),
            was_announced=was_announced(known),
        )
        for refund in _fresh_refunds(known, order, policy)
        if not refund.is_nothing and refund.id not in held
    ]


def _fresh_refunds(known: KnownOrder | None, order: Order, policy: Policy) -> list[Refund]:
    """Return the refunds that are not known yet and may be announced, in the order of their creation."""
    meaning = policy.meanings.of(order.status)
    if order.refunds is None or meaning in SWALLOWS_REFUNDS:
        return []
    is_cancelled = meaning is StatusMeaning.CANCELLED
    if known is None:
        # An order that was cancelled before we first saw it is announced as cancelled, and nothing else.
        seen = frozenset(r.id for r in order.refunds) if is_cancelled else frozenset()
    elif known.refund_ids is None:
        # The earlier source could not see refunds, so these may be old.
        seen = frozenset(r.id for r in order.refunds)
    else:
        seen = known.refund_ids
    late = {r.id for r in order.refunds if _is_late(r, known, policy)}
    if known is None and is_cancelled and order.created_at >= policy.baseline_at:
        late = set()
    return sorted((r for r in order.refunds if r.id not in seen or r.id in late), key=lambda r: r.id)


def _completing(order: Order) -> int | None:
    """Return the id of the refund that brings the sum to the order's total; None if the sum is smaller."""
    total, given = amount_of(order.total), Decimal(0)
    for refund in sorted(order.refunds or (), key=lambda r: r.id):
        given += amount_of(refund.amount)
        if 0 < total <= given:
            return refund.id
    return None


def _held(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """Return the refunds that are neither announced nor recorded yet."""
    if not order.refunds:
        return frozenset()
    doubtful, shop_time = _doubtful(known, order, policy), policy.shop_time
    if not doubtful or shop_time is None:
        return frozenset()
    # A refund with a known date has existed since then.
    dated = {
        r.id: r.created_at > shop_time - REFUND_HOLD for r in order.refunds or () if r.created_at is not None
    }
    doubtful = frozenset(refund_id for refund_id in doubtful if dated.get(refund_id, True))
    if known is None and order.created_at < policy.baseline_at:
        return doubtful & dated.keys()  # the others are recorded silently
    # The date of an unknown order shows that nothing has been written for a while.
    is_old = known is None and order.modified_at <= shop_time - REFUND_HOLD
    return frozenset() if is_old or order.id in policy.hold_ended else doubtful


def _doubtful(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """Return the new refunds that may be half written.

    WooCommerce writes the refund first. Then it requests the money from the payment gateway. It sets a
    status that means REFUNDED when all has been given back. Until then, for some seconds, the remainder
    looks like a partial refund. WooCommerce also writes the refund twice: first, for a moment, without its
    amount.
    """
    completing = _completing(order)
    return frozenset(
        refund.id
        for refund in _fresh_refunds(known, order, policy)
        if refund.is_nothing or (completing is not None and refund.id >= completing)
    )


def _is_late(refund: Refund, known: KnownOrder | None, policy: Policy) -> bool:
    """Return whether a refund was never announced or judged, but is dated at or after the baseline."""
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


def _overdue(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
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
    # A record of an earlier version has at least the time when the order was seen; one of the Celery design
    # has no times at all.
    return known.awaiting_since or max(known.modified_at, order.created_at)


def _event(
    type_: str,
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    *,
    words: StatusEvent | None = None,
    wait: Wait | None = None,
) -> OrderEvent:
    n = 1 if known is None else known.decided.get(type_, 0) + 1
    return OrderEvent(
        type_,
        order,
        n=n,
        paid=_was_paid(known, order, policy),
        words=words,
        wait=wait,
        previous_status=_previous_status(known),
        was_announced=was_announced(known),
    )


def _previous_status(known: KnownOrder | None) -> str:
    return "" if known is None or known.status == LOST_STATUS else known.status


def _was_paid(known: KnownOrder | None, order: Order, policy: Policy) -> bool:
    return (
        order.paid_at is not None
        or policy.meanings.is_paid(order.status)
        or (known is not None and known.announced_new)
    )


def _young_enough(event: OrderEvent, policy: Policy) -> bool:
    """Return whether an order that was never seen before is young enough for this event to be announced.

    A payment counts from its time. A refund counts from its time in the shop's list of refunds. All other
    events are announced only for orders created at or after the baseline. So a plugin that modifies ten
    thousand old orders causes no notifications.
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


def _remember(
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    events: list[OrderEvent],
    held: frozenset[int],
) -> KnownOrder:
    # A refunded order was paid before, so it never counts as new afterwards.
    meaning = policy.meanings.of(order.status)
    paid = meaning in PAID or meaning is StatusMeaning.REFUNDED
    decided = dict(known.decided) if known else {}
    for event in events:
        if event.type != EventType.PARTIALLY_REFUNDED:
            decided[event.type] = decided.get(event.type, 0) + 1
    refund_ids = known.refund_ids if known else None
    if order.refunds is not None:
        refund_ids = (refund_ids or frozenset()) | {refund.id for refund in order.refunds} - held
    return KnownOrder(
        id=order.id,
        status=order.status,
        modified_at=order.modified_at,
        announced_new=paid or (known is not None and known.announced_new),
        decided=decided,
        refund_ids=refund_ids,
        awaiting_since=_awaiting_since(known, order, policy, meaning),
        silent_refund_ids=_silent_refunds(known, order, policy, events, held),
    )


def _silent_refunds(
    known: KnownOrder | None,
    order: Order,
    policy: Policy,
    events: list[OrderEvent],
    held: frozenset[int],
) -> frozenset[int]:
    """Return the refunds recorded without an event, whose unknown dates leave open whether to announce."""
    silent = known.silent_refund_ids if known else frozenset()
    if not silent and not order.refunds:  # the usual case
        return silent
    if events and _is_refunded(order, policy):
        return frozenset()  # all of the money was announced as given back
    if not order.refunds:
        return silent
    undated = {refund.id for refund in order.refunds or () if refund.created_at is None}
    if known is None:
        silent |= undated if order.created_at < policy.baseline_at else frozenset()
    elif known.refund_ids is None and not _is_announced_refunded(known, policy):
        silent |= undated
    judged = {refund.id for refund in order.refunds or () if refund.created_at is not None} - held
    return silent - judged - {event.n for event in events if event.type == EventType.PARTIALLY_REFUNDED}
