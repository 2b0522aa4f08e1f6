"""How a shop is polled, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.meaning import StatusMeanings
from shop_poller.core.model import StatusEvent
from shop_poller.core.transition import Policy


@dataclass(frozen=True, slots=True)
class PollPlan:
    """How a shop is polled.

    Attributes:
        meanings: what the shop's statuses mean.
        lookback: how long before the first start orders are announced.
        overlap: what is re-read at every tick.
        clock_skew: how far the shop's stamps may lag behind its Date header.
        retention: how long an order's record is kept after its last change.
        history: how long deliveries that are over are remembered.
        status_events: what is told of orders that come into a status, besides what always is.
        overdue_after: how long an order may wait to be paid before that is told; 0: for ever.
        silence_after: how long there may be no order before that is told; 0: for ever.
        sweep_every: from the end of one sweep to the beginning of the next; zero for none.
        sweep_window: how far back a sweep looks for orders by when they were made.
    """

    shop: str
    meanings: StatusMeanings
    interval_s: float = 60.0
    lookback: timedelta = timedelta(hours=1)
    overlap: timedelta = timedelta(minutes=2)
    clock_skew: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=90)
    history: timedelta = timedelta(days=30)
    cancelled_unpaid: bool = True
    status_events: Mapping[str, StatusEvent] = field(default_factory=dict)
    overdue_after: timedelta = timedelta(0)
    silence_after: timedelta = timedelta(0)
    sweep_every: timedelta = timedelta(0)
    sweep_window: timedelta = timedelta(hours=48)

    def policy(self, baseline_at: datetime, *, shop_time: datetime, now: datetime) -> Policy:
        """What decisions go by.

        Args:
            baseline_at: since when we watch.
            shop_time: the shop's clock when it answered.
            now: our clock.
        """
        return Policy(
            # Records older than the retention may be gone: such orders are no news when they turn up. Of the
            # two clocks the one that is behind counts, or a single wrong one would make all of them old.
            baseline_at=max(baseline_at, min(shop_time, now) - self.retention),
            meanings=self.meanings,
            cancelled_unpaid=self.cancelled_unpaid,
            status_events=self.status_events,
            overdue_before=shop_time - self.overdue_after if self.overdue_after else None,
            overdue_after=self.overdue_after,
        )


@dataclass(slots=True)
class TickReport:
    """What a tick, or what is done between two, did.

    Attributes:
        orders: read, re-read ones included.
        events: decided.
        imported: recorded silently.
        error: why it ended early; None if it was a good poll.
        paused_s: nothing was asked, because the shop is to be left alone for so many seconds more.
    """

    orders: int = 0
    events: int = 0
    imported: int = 0
    error: ShopPollerError | None = None
    paused_s: float = 0.0
