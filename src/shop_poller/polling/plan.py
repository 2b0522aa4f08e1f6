"""How a shop is polled, and the result of a poll."""

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
        overlap: how much is read again at every tick.
        clock_skew: how far the shop's timestamps may lag behind its Date header.
        retention: how long an order's record is kept after its last change.
        history: how long finished deliveries are kept.
        status_events: statuses of orders that are announced in addition to the usual ones.
        overdue_after: how long an order may be unpaid before it is announced; 0: forever.
        waiting_payments: ways to pay that leave an order waiting; such an order is announced as placed.
        silence_after: how long there may be no order before it is announced; 0: forever.
        sweep_every: from the end of one sweep to the beginning of the next; zero for none.
        sweep_window: a sweep reads all orders created within this time.
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
    waiting_payments: frozenset[str] = frozenset()
    silence_after: timedelta = timedelta(0)
    sweep_every: timedelta = timedelta(0)
    sweep_window: timedelta = timedelta(hours=48)

    def policy(self, baseline_at: datetime, *, shop_time: datetime, now: datetime) -> Policy:
        """Return the policy for decisions.

        Args:
            baseline_at: since when the shop is watched.
            shop_time: the shop's clock at its response.
            now: our clock.
        """
        return Policy(
            # Records older than the retention may be deleted, so such orders are not announced again.
            # The earlier of the two clocks counts: a wrong one alone would make all orders old.
            baseline_at=max(baseline_at, min(shop_time, now) - self.retention),
            meanings=self.meanings,
            cancelled_unpaid=self.cancelled_unpaid,
            status_events=self.status_events,
            overdue_before=shop_time - self.overdue_after if self.overdue_after else None,
            overdue_after=self.overdue_after,
            waiting_payments=self.waiting_payments,
        )


@dataclass(slots=True)
class TickReport:
    """The result of a tick, or of the work between two.

    Attributes:
        orders: orders read, including repeats.
        events: events decided.
        imported: orders recorded silently.
        error: why it ended early; None if the poll succeeded.
        paused_s: seconds left of a pause, if nothing was read because of it.
    """

    orders: int = 0
    events: int = 0
    imported: int = 0
    error: ShopPollerError | None = None
    paused_s: float = 0.0
