"""The sweep: lists orders again to find what polling cannot see.

Polling requests modified orders. If a plugin's SQL changes a status, no date changes. A shop may also delay a
change, or hide it from one list. So from time to time, orders are listed again regardless of their dates:

- RECENT: created within the window, newest first. One walk per sweep, always from the start.
- BROKEN: set aside as unreadable. Requested by their ids.
- OPEN: known, and not in a closed status. Requested by their ids, from where the last sweep ended.

Status and content are compared, not dates: a change may be dated before the known state (an ERP that writes
its own dates, a clock that was set back). Such a response may also be an old one from a cache. So it counts
only if another request shows the same (`contradicts`, `made_at`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shop_poller.core.cursor import SECOND, CreatedWalk, created_walk, halve
from shop_poller.core.model import KnownOrder, Order, Query
from shop_poller.core.transition import Decision

AHEAD = timedelta(days=1)
"""Orders dated ahead of the shop's clock count as recent, too, up to this much."""


@dataclass(frozen=True, slots=True)
class ByIds:
    """A request for certain orders."""

    ids: Sequence[int]

    def query(self) -> Query:
        """Return the request."""
        return Query(per_page=len(self.ids), ids=frozenset(self.ids), with_items=True)

    def sized(self, per_page: int) -> "ByIds":
        """Return the request for the first so many of them."""
        return ByIds(self.ids[:per_page])

    def halved(self) -> "ByIds":
        """Return the request for the first half of them.

        Raises:
            TemporaryError: TOO_LARGE, see halve.
        """
        return ByIds(self.ids[: halve(len(self.ids))])


MAX_CONFIRMING = 50
"""How many pages the walk that confirms one order may have."""


def made_at(second: datetime) -> CreatedWalk:
    """Return the walk through the orders created in one second, to confirm what another request showed."""
    return created_walk(since=second - SECOND, before=second + SECOND)


def contradicts(known: KnownOrder | None, order: Order, decision: Decision) -> bool:
    """Return whether an order is dated before its known state and differs from it.

    A held refund counts as a difference: it must be recorded as held to be read again.

    Args:
        known: the known state.
        order: the order as the shop returned it.
        decision: the decision that would follow.
    """
    if known is None or order.modified_at >= known.modified_at:
        return False
    if decision.events or decision.held_refund_ids:
        return True
    return replace(decision.known, modified_at=known.modified_at) != known


def recent(shop_time: datetime, window: timedelta) -> CreatedWalk:
    """Return the walk through the recently created orders.

    Args:
        shop_time: the shop's clock.
        window: SHOP_SWEEP_WINDOW.
    """
    return created_walk(since=shop_time - window, before=shop_time + AHEAD)


def missed(known: KnownOrder | None, order: Order, decision: Decision, *, polled_to: datetime) -> bool:
    """Return whether a sweep shows what polling should have shown, but did not.

    Args:
        known: the known state before.
        order: the order as the sweep read it.
        decision: the decision on both.
        polled_to: the next walk begins here, and will still show what was modified later.
    """
    if order.modified_at > polled_to:
        return False
    if known is None:
        return not decision.imported  # older than the baseline: polling need not show it
    refunded = known.refund_ids is not None and known.refund_ids != decision.known.refund_ids
    return refunded or known.status != order.status
