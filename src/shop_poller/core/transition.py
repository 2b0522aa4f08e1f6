"""What follows from an order as it was known and as it is seen now.

The whole of it, read top to bottom; docs/woocommerce.md tells why:

    seen                                   known                     event
    -------------------------------------  ------------------------  ---------------------------
    a paid status                          not announced as new      new
    cancelled, refunded, failed            any other status, or none the same
    a status that the owner named          any other status, or none the event named for it
    a refund id, status neither refunded   not that id               partially_refunded, one each
      nor trash
    pending, on-hold, for too long and     not announced as overdue  payment_overdue
      made on our watch
    anything else                          anything                  none

An order that was never seen is held against the baseline first (see `_young_enough`): what is older than
our watch is learned, not told.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shop_poller.core.model import EventType, KnownOrder, Order, OrderEvent, StatusEvent, Wait

DEFAULT_UNPAID = frozenset(
    {
        "pending",
        "on-hold",
        "failed",
        "cancelled",
        "refunded",
        "checkout-draft",
        "auto-draft",
        "draft",
        "trash",
    }
)

PAID = frozenset({"processing", "completed"})

STATUS_EVENTS: Mapping[str, str] = {
    "cancelled": EventType.CANCELLED,
    "refunded": EventType.REFUNDED,
    "failed": EventType.FAILED,
}
"""Statuses that are news whenever an order comes into them."""

AWAITING = frozenset({"pending", "on-hold"})
"""Where an order waits to be paid."""

SWALLOWS_REFUNDS = frozenset({"refunded", "trash"})
"""Where a refund of its own is no news: all of it was given back, or the order is away."""


@dataclass(frozen=True, slots=True)
class Policy:
    """What the owner may choose, and since when we watch.

    Attributes:
        baseline_at: an unknown order that is older than this was not ours to announce.
        unpaid_statuses: custom statuses that do not count as paid; WooCommerce's own are as they are.
        cancelled_unpaid: whether the cancellation of a never paid order is news.
        status_events: statuses that are news besides STATUS_EVENTS, none of which is named here.
        overdue_before: orders that wait to be paid since then or longer are overdue: the shop's clock less
            `overdue_after`; None if that is no news.
        overdue_after: how long an order may wait.
    """

    baseline_at: datetime
    unpaid_statuses: frozenset[str] = DEFAULT_UNPAID
    cancelled_unpaid: bool = True
    status_events: Mapping[str, StatusEvent] = field(default_factory=dict)
    overdue_before: datetime | None = None
    overdue_after: timedelta = timedelta(0)

    def is_paid(self, status: str) -> bool:
        """Whether an order in this status has been paid."""
        return status in PAID or status not in DEFAULT_UNPAID | self.unpaid_statuses


@dataclass(frozen=True, slots=True)
class Decision:
    """What an observation leads to.

    Attributes:
        events: what to announce, in order.
        known: what to remember from now on.
        learned: an unknown order was recorded without a word because it is older than our watch.
    """

    events: tuple[OrderEvent, ...]
    known: KnownOrder
    learned: bool = False


def decide(known: KnownOrder | None, order: Order, policy: Policy) -> Decision:
    """Decide what to announce of an order, and what to remember of it."""
    events = [
        *_new(known, order, policy),
        *_status_changed(known, order, policy),
        *_partly_refunded(known, order, policy),
        *_overdue(known, order, policy),
    ]
    if known is None:
        events = [event for event in events if _young_enough(event, policy)]
    old = known is None and order.created_at < policy.baseline_at
    return Decision(
        events=tuple(events),
        known=_remember(known, order, policy, events),
        learned=old and not events,
    )


def learn(order: Order, policy: Policy) -> KnownOrder:
    """What to remember of an order that was there before us: as if all of it had been announced."""
    return _remember(None, order, policy, [])


def learnable(orders: Iterable[Order], policy: Policy) -> list[KnownOrder]:
    """What to remember of unknown orders, but for those that are news: an old one may be paid on our watch.

    The walk shows those, too.
    """
    return [learn(order, policy) for order in orders if not decide(None, order, policy).events]


def _new(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
    if not policy.is_paid(order.status) or (known is not None and known.announced_new):
        return []
    return [_event(EventType.NEW, known, order, policy)]


def _status_changed(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
    words = policy.status_events.get(order.status)
    type_ = words.event if words else STATUS_EVENTS.get(order.status)
    if type_ is None or (known is not None and known.status == order.status):
        return []
    event = _event(type_, known, order, policy, words=words)
    muted = type_ == EventType.CANCELLED and not event.paid and not policy.cancelled_unpaid
    return [] if muted else [event]


def _partly_refunded(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
    if order.refunds is None or order.status in SWALLOWS_REFUNDS:
        return []
    if known is None:
        # An order that was over before we first saw it is told as cancelled, and only as that.
        seen = frozenset(r.id for r in order.refunds) if order.status == "cancelled" else frozenset()
    elif known.refund_ids is None:
        return []  # the source that showed it before could not see refunds: these may be old
    else:
        seen = known.refund_ids
    fresh = sorted((r for r in order.refunds if r.id not in seen), key=lambda r: r.id)
    paid = _was_paid(known, order, policy)
    return [
        OrderEvent(EventType.PARTIALLY_REFUNDED, order, n=refund.id, paid=paid, refund=refund)
        for refund in fresh
    ]


def _overdue(known: KnownOrder | None, order: Order, policy: Policy) -> list[OrderEvent]:
    since, before = _awaiting_since(known, order), policy.overdue_before
    if since is None or before is None or since > before or order.created_at < policy.baseline_at:
        return []
    if known is not None and EventType.PAYMENT_OVERDUE in known.decided:
        return []
    wait = Wait(since, lasted=before + policy.overdue_after - since)
    return [_event(EventType.PAYMENT_OVERDUE, known, order, policy, wait=wait)]


def _awaiting_since(known: KnownOrder | None, order: Order) -> datetime | None:
    if order.status not in AWAITING:
        return None
    if known is None:
        return order.created_at
    if known.status not in AWAITING:
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
        or policy.is_paid(order.status)
        or (known is not None and known.announced_new)
    )


def _young_enough(event: OrderEvent, policy: Policy) -> bool:
    """Whether an order that was never seen before is young enough for this event to be news.

    Being paid is news from the moment of payment; everything else only of orders made on our watch.
    So a plugin that touches ten thousand old orders announces nothing.
    """
    newest = event.order.created_at
    if event.type == EventType.NEW and event.order.paid_at is not None:
        newest = max(newest, event.order.paid_at)
    return newest >= policy.baseline_at


def _remember(known: KnownOrder | None, order: Order, policy: Policy, events: list[OrderEvent]) -> KnownOrder:
    # A refunded order was paid once: it never becomes a new one afterwards.
    paid = policy.is_paid(order.status) or order.status == "refunded"
    decided = Counter(known.decided if known else {})
    decided.update(e.type for e in events if e.type != EventType.PARTIALLY_REFUNDED)
    refund_ids = known.refund_ids if known else None
    if order.refunds is not None:
        refund_ids = (refund_ids or frozenset()) | {refund.id for refund in order.refunds}
    return KnownOrder(
        id=order.id,
        status=order.status,
        modified_at=order.modified_at,
        announced_new=paid or (known is not None and known.announced_new),
        decided=dict(decided),
        refund_ids=refund_ids,
        awaiting_since=_awaiting_since(known, order),
    )
