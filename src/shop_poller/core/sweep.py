"""The sweep: re-listing orders to find what polling cannot see.

Polling asks for what was modified; a status that a plugin's SQL changes moves no date, and a shop may hold a
change back, or hide it from one list. So from time to time the orders made of late, the known ones that may
still change, and those that could not be read are listed again, whatever their dates say, in this order:

    RECENT    made within the window, newest first    a keyset walk
    OPEN      known, and in no last status            by their ids
    BROKEN    set aside as unreadable                 by their ids

A sweep may be cut short at every page; it goes on where it stopped, after a restart, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shop_poller.core.cursor import halve
from shop_poller.core.model import KnownOrder, Order, Query
from shop_poller.core.transition import Decision

CLOSED = (
    "auto-draft",
    "cancelled",
    "checkout-draft",
    "completed",
    "draft",
    "refunded",
    "trash",
)
"""Known orders in these are looked at while they are recent, not later: few of them change, and never by the
hand of a payment. Drafts are carts: the shop drops them after a day, and one that is ordered is modified."""

AHEAD = timedelta(days=1)
"""Orders dated ahead of the shop's clock are recent, too; within reason."""


class Stage(StrEnum):
    """Which orders are being looked at."""

    RECENT = "recent"
    OPEN = "open"
    BROKEN = "broken"


NEXT = {Stage.RECENT: Stage.OPEN, Stage.OPEN: Stage.BROKEN, Stage.BROKEN: None}


@dataclass(frozen=True, slots=True)
class Position:
    """How far a sweep has come; survives a restart.

    Attributes:
        since: RECENT looks at what was made after this.
        created_before: RECENT: exclusive; what was made from then on has been looked at.
        after_id: OPEN and BROKEN: ids up to this one have been looked at.
    """

    stage: Stage
    since: datetime
    created_before: datetime
    after_id: int = 0


@dataclass(frozen=True, slots=True)
class ByIds:
    """A question for certain orders."""

    ids: Sequence[int]

    def query(self) -> Query:
        """What to ask."""
        return Query(per_page=len(self.ids), ids=frozenset(self.ids))

    def halved(self) -> "ByIds":
        """The first half of them; raises what `halve` raises."""
        return ByIds(self.ids[: halve(len(self.ids))])


def begin(shop_time: datetime, window: timedelta) -> Position:
    """Where a sweep starts.

    Args:
        shop_time: the shop's clock.
        window: SHOP_SWEEP_WINDOW.
    """
    return Position(Stage.RECENT, since=shop_time - window, created_before=shop_time + AHEAD)


def next_stage(position: Position) -> Position | None:
    """The stage after this one, from its beginning; None when the sweep is done."""
    stage = NEXT[position.stage]
    return None if stage is None else replace(position, stage=stage, after_id=0)


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
        return not decision.learned  # older than our watch: never polling's to show
    refunded = known.refund_ids is not None and known.refund_ids != decision.known.refund_ids
    return refunded or known.status != order.status
