"""What follows from an order as it was known and as it is seen now.

The whole of it, read top to bottom. Capitals are meanings of statuses (core/meaning.py); the source says
which status means what, e.g. in sources/woocommerce/statuses.py. docs/woocommerce.md says why:

    seen                                   known                     event
    -------------------------------------  ------------------------  ---------------------------
    PAID, COMPLETED                        not announced as new      new
    CANCELLED, REFUNDED, FAILED            any other status, or none the same
    a status that the owner named          any other status, or none the event named for it
    a refund id with money in it, neither  not that id               partially_refunded, one each
      REFUNDED nor REMOVED
    AWAITING for too long, and made on     not announced as overdue  payment_overdue
      our watch
    anything else                          anything                  none

An order that was never seen is held against the baseline first (see `_young_enough`): what is older than
our watch is learned, not told.

A refund that brings the sum to the total, or that has no money in it, may be half written: the status, or the
amount, follows. It is held for REFUND_HOLD before it is believed (see `_doubtful`, and docs/decisions/0015).

An order does not say when its refunds were made. Where the shop's list of refunds said it (core.refunds), a
refund made at or after the baseline is news even if the order is older and was never seen, or was recorded
with that refund before anybody knew its date (see `_is_late`).
"""

from collections import Counter
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
"""The event of an order that comes into a status with one of these meanings."""

LOST_STATUS = "(damaged)"
"""Stands for the status of an order of which our record is damaged; no shop has such a one."""
REFUND_HOLD = timedelta(seconds=15)
"""How long a refund that may be half written is held."""

SWALLOWS_REFUNDS = frozenset({StatusMeaning.REFUNDED, StatusMeaning.REMOVED})
"""A refund is no event of its own here: all of the money was given back, or the order was removed."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner may choose, and since when we watch.

    Attributes:
        baseline_at: an unknown order that is older than this was not ours to announce.
        meanings: what the shop's statuses mean.
        cancelled_unpaid: whether the cancellation of a never paid order is news.
        status_events: events of further statuses; none of them has a meaning in EVENTS.
        overdue_before: orders that wait to be paid since then or longer are overdue: the shop's clock less
            `overdue_after`; None if that is no news.
        overdue_after: how long an order may wait.
        shop_time: the shop's clock when it showed the order; None holds no refund.
        hold_ended: ids of the orders whose refunds have been held for REFUND_HOLD.
    """

    baseline_at: datetime
    meanings: StatusMeanings
    cancelled_unpaid: bool = True
    status_events: Mapping[str, StatusEvent] = field(default_factory=dict)
    overdue_before: datetime | None = None
    overdue_after: timedelta = timedelta(0)
    shop_time: datetime | None = None
    hold_ended: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Decision:
    """What an observation leads to.

    Attributes:
        events: what to announce, in order.
        known: what to remember from now on.
        imported: an unknown order was recorded without a word because it is older than our watch.
        held: refunds that are neither told nor remembered yet; look again after REFUND_HOLD.
    """

    events: tuple[OrderEvent, ...]
    known: KnownOrder
    imported: bool = False
    held: frozenset[int] = frozenset()


def decide(known: KnownOrder | None, order: Order, policy: Policy) -> Decision:
    """Decide what to announce of an order, and what to remember of it."""
    held, meaning = _held(known, order, policy), policy.meanings.of(order.status)
    events = [
        *_new(known, order, policy, meaning),
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
    """What to remember of an order that was there before us: as if all of it had been announced."""
    return _remember(None, order, policy, [], frozenset())


def importable(orders: Iterable[Order], policy: Policy) -> list[KnownOrder]:
    """What to remember of unknown orders, but for those that are news: an old one may be paid on our watch.

    The walk shows those, too.
    """
    return [import_silently(order, policy) for order in orders if not decide(None, order, policy).events]


def _new(known: KnownOrder | None, order: Order, policy: Policy, meaning: StatusMeaning) -> list[OrderEvent]:
    if meaning not in PAID or (known is not None and known.announced_new):
        return []
    return [_event(EventType.NEW, known, order, policy)]


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
    """Whether the order was in this status before.

    If our record of its status is damaged, it was, unless the shop has modified the order since and this
    was never announced of it: so that damage announces nothing old and hides nothing new.
    """
    if known.status != LOST_STATUS:
        return known.status == order.status
    return order.modified_at <= known.modified_at or type_ in known.decided


def _partly_refunded(
    known: KnownOrder | None, order: Order, policy: Policy, held: frozenset[int]
) -> list[OrderEvent]:
    if not order.refunds:  # as hardly any order has
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
        )
        for refund in _fresh_refunds(known, order, policy)
        if not refund.is_nothing and refund.id not in held
    ]


def _fresh_refunds(known: KnownOrder | None, order: Order, policy: Policy) -> list[Refund]:
    """The refunds that are not known yet and may be news, in the order in which they were made."""
    meaning = policy.meanings.of(order.status)
    if order.refunds is None or meaning in SWALLOWS_REFUNDS:
        return []
    is_cancelled = meaning is StatusMeaning.CANCELLED
    if known is None:
        # An order that was over before we first saw it is told as cancelled, and only as that.
        seen = frozenset(r.id for r in order.refunds) if is_cancelled else frozenset()
    elif known.refund_ids is None:
        # The source that showed it before could not see refunds: these may be old.
        seen = frozenset(r.id for r in order.refunds)
    else:
        seen = known.refund_ids
    late = {r.id for r in order.refunds if _is_late(r, known, policy)}
    if known is None and is_cancelled and order.created_at >= policy.baseline_at:
        late = set()
    return sorted((r for r in order.refunds if r.id not in seen or r.id in late), key=lambda r: r.id)


def _completing(order: Order) -> int | None:
    """The refund that brings the sum to the order's total, by id; None if they do not come to it."""
    total, given = amount_of(order.total), Decimal(0)
    for refund in sorted(order.refunds or (), key=lambda r: r.id):
        given += amount_of(refund.amount)
        if 0 < total <= given:
            return refund.id
    return None


def _held(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """The refunds that are neither told nor remembered yet."""
    if not order.refunds:
        return frozenset()
    doubtful, shop_time = _doubtful(known, order, policy), policy.shop_time
    if not doubtful or shop_time is None:
        return frozenset()
    # A refund whose own date is known has been written for as long as that.
    dated = {
        r.id: r.created_at > shop_time - REFUND_HOLD for r in order.refunds or () if r.created_at is not None
    }
    doubtful = frozenset(refund_id for refund_id in doubtful if dated.get(refund_id, True))
    if known is None and order.created_at < policy.baseline_at:
        return doubtful & dated.keys()  # the others are learned
    # Of an order that was never seen before, the date tells that nothing has been written for a while.
    is_old = known is None and order.modified_at <= shop_time - REFUND_HOLD
    return frozenset() if is_old or order.id in policy.hold_ended else doubtful


def _doubtful(known: KnownOrder | None, order: Order, policy: Policy) -> frozenset[int]:
    """The fresh refunds that may be half written.

    WooCommerce writes the refund first. Then it asks the payment gateway for the money, and sets a status
    that means REFUNDED when all has been given back: for some seconds the remainder looks like a partial
    refund. And it writes the refund twice: the first time, for a moment, without its amount.
    """
    completing = _completing(order)
    return frozenset(
        refund.id
        for refund in _fresh_refunds(known, order, policy)
        if refund.is_nothing or (completing is not None and refund.id >= completing)
    )


def _is_late(refund: Refund, known: KnownOrder | None, policy: Policy) -> bool:
    """Whether a refund was made on our watch, by its own date, and was never announced nor judged."""
    if refund.created_at is None or refund.created_at < policy.baseline_at:
        return False
    if _is_announced_refunded(known, policy):
        return False
    return known is None or known.refund_ids is None or refund.id in known.silent_refund_ids


def _is_announced_refunded(known: KnownOrder | None, policy: Policy) -> bool:
    """Whether it was announced that all of the money was given back, maybe without a sight of the refunds."""
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
    # A record of an earlier version says at least when the order was seen there; one of the Celery design
    # has no instants at all.
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
    return OrderEvent(type_, order, n=n, paid=_was_paid(known, order, policy), words=words, wait=wait)


def _was_paid(known: KnownOrder | None, order: Order, policy: Policy) -> bool:
    return (
        order.paid_at is not None
        or policy.meanings.is_paid(order.status)
        or (known is not None and known.announced_new)
    )


def _young_enough(event: OrderEvent, policy: Policy) -> bool:
    """Whether an order that was never seen before is young enough for this event to be news.

    Being paid is news from the moment of payment, a refund from the moment that the shop's list of refunds
    gives for it; everything else only of orders made on our watch. So a plugin that touches ten thousand old
    orders announces nothing.
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
    # A refunded order was paid once: it never becomes a new one afterwards.
    meaning = policy.meanings.of(order.status)
    paid = meaning in PAID or meaning is StatusMeaning.REFUNDED
    decided = Counter(known.decided if known else {})
    decided.update(e.type for e in events if e.type != EventType.PARTIALLY_REFUNDED)
    refund_ids = known.refund_ids if known else None
    if order.refunds is not None:
        refund_ids = (refund_ids or frozenset()) | {refund.id for refund in order.refunds} - held
    return KnownOrder(
        id=order.id,
        status=order.status,
        modified_at=order.modified_at,
        announced_new=paid or (known is not None and known.announced_new),
        decided=dict(decided),
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
    """The refunds that are recorded without an event and without a date that says whether they are news."""
    silent = known.silent_refund_ids if known else frozenset()
    if not silent and not order.refunds:  # so it is with nearly every order
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
