"""The sweep: re-listing orders to find what polling cannot see.

Polling asks for what was modified; a status that a plugin's SQL changes moves no date, and a shop may hold a
change back, or hide it from one list. So from time to time orders are listed again whatever their dates say:

    RECENT    made within the window, newest first    a walk, from the start at each sweep
    BROKEN    set aside as unreadable                 by their ids
    OPEN      known, and in no closed status          by their ids, from where the last sweep ended

Status and content are compared, not dates: a change may be dated before what is known (an ERP that writes its
own dates, a clock that was set back). Such an answer may also be an old one that a cache kept, so it counts
only if another question shows the same (`contradicts`, `made_at`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from shop_poller.core.cursor import SECOND, CreatedWalk, created_walk, halve
from shop_poller.core.model import KnownOrder, Order, Query
from shop_poller.core.transition import Decision

AHEAD = timedelta(days=1)
"""Orders dated ahead of the shop's clock are recent, too; within reason."""


@dataclass(frozen=True, slots=True)
class ByIds:
    """A question for certain orders."""

    ids: Sequence[int]

    def query(self) -> Query:
        """What to ask."""
        return Query(per_page=len(self.ids), ids=frozenset(self.ids))

    def sized(self, per_page: int) -> "ByIds":
        """The first so many of them."""
        return ByIds(self.ids[:per_page])

    def halved(self) -> "ByIds":
        """The first half of them; raises what `halve` raises."""
        return ByIds(self.ids[: halve(len(self.ids))])


MAX_CONFIRMING = 50
"""Pages of the walk that confirms one order."""


def made_at(second: datetime) -> CreatedWalk:
    """The walk through the orders made in one second, to confirm what another question showed of one."""
    return created_walk(since=second - SECOND, before=second + SECOND)


def contradicts(known: KnownOrder | None, order: Order, decision: Decision) -> bool:
    """Whether an order is dated before what is known of it, and yet is not as it is known.

    A refund that is held counts: to be looked at again, it has to be noted as held.

    Args:
        known: what is known.
        order: what the shop showed.
        decision: what would follow.
    """
    if known is None or order.modified_at >= known.modified_at:
        return False
    if decision.events or decision.held:
        return True
    return replace(decision.known, modified_at=known.modified_at) != known


def recent(shop_time: datetime, window: timedelta) -> CreatedWalk:
    """The walk through what was made of late.

    Args:
        shop_time: the shop's clock.
        window: SHOP_SWEEP_WINDOW.
    """
    return created_walk(since=shop_time - window, before=shop_time + AHEAD)


def missed(known: KnownOrder | None, order: Order, decision: Decision, *, polled_to: datetime) -> bool:
    """Whether a sweep shows what polling should have shown, and did not.

    Args:
        known: what was known before.
        order: what the sweep saw.
        decision: what follows from both.
        polled_to: the next walk begins here; what was modified later it will still show.
    """
    if order.modified_at > polled_to:
        return False
    if known is None:
        return not decision.imported  # older than our watch: never polling's to show
    refunded = known.refund_ids is not None and known.refund_ids != decision.known.refund_ids
    return refunded or known.status != order.status
