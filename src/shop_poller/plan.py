"""How a shop is polled, and what came of it."""

from dataclasses import dataclass
from datetime import timedelta

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.transition import DEFAULT_UNPAID


@dataclass(frozen=True, slots=True)
class PollPlan:
    """How a shop is polled.

    Attributes:
        lookback: how long before the first start orders are announced.
        overlap: what is re-read at every tick.
        clock_skew: how far the shop's stamps may lag behind its Date header.
        retention: how long an order's record is kept after its last change.
        history: how long deliveries that are over are remembered.
        sweep_every: from the end of one sweep to the beginning of the next; zero for none.
        sweep_window: how far back a sweep looks for orders by when they were made.
    """

    shop: str
    interval_s: float = 60.0
    lookback: timedelta = timedelta(hours=1)
    overlap: timedelta = timedelta(minutes=2)
    clock_skew: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=90)
    history: timedelta = timedelta(days=30)
    unpaid_statuses: frozenset[str] = DEFAULT_UNPAID
    cancelled_unpaid: bool = True
    sweep_every: timedelta = timedelta(0)
    sweep_window: timedelta = timedelta(hours=48)


@dataclass(slots=True)
class TickReport:
    """What a tick, or what is done between two, did.

    Attributes:
        orders: read, re-read ones included.
        events: decided.
        learned: recorded silently.
        error: why it ended early; None if it was a good poll.
        paused_s: nothing was asked, because the shop is to be left alone for so many seconds more.
    """

    orders: int = 0
    events: int = 0
    learned: int = 0
    error: ShopPollerError | None = None
    paused_s: float = 0.0
