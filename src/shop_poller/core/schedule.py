"""When the next tick is, how long no requests are sent to a shop, and when polling counts as stopped."""

import math
from datetime import datetime, timedelta
from enum import StrEnum

from shop_poller.core.errors import ErrorKind

PROBE_EVERY_S = 60.0
"""The longest time until the next request to an unavailable shop, whatever its Retry-After is. WordPress
sends ten minutes during updates that take seconds."""
MAX_PAUSE_S = 15 * 60.0
"""The longest wait that a shop may request with "too many requests"."""
RATE_LIMIT_WAIT_S = 60.0
"""The wait after "too many requests" without a Retry-After."""

STALE_AFTER = timedelta(minutes=5)
TRIGGER_GAP_S = 1.0
"""However many triggers there are, the shop is polled at most once in this time."""


def next_tick(origin: float, interval: float, now: float) -> float:
    """Return the first instant of the grid origin, origin + interval, … after now.

    It is computed from the origin each time, so it never drifts; ticks missed in between are skipped. All
    arguments are seconds of one monotonic clock.
    """
    steps = math.floor((now - origin) / interval) + 1
    tick = origin + steps * interval
    return tick if tick > now else origin + (steps + 1) * interval  # rounding may land on now


def triggered_tick(last: float, grid: float, ready: float) -> float:
    """Return when to tick after a trigger: at the grid's next tick, or earlier if no two ticks are too close.

    All arguments are seconds of one monotonic clock.

    Args:
        last: when the last tick began.
        grid: when the grid's next tick is due; it does not move.
        ready: the earliest time at which a request may be sent; not before now.
    """
    tick = max(ready, last + TRIGGER_GAP_S)
    return tick if tick + TRIGGER_GAP_S <= grid else grid


def stale(last_good: datetime, now: datetime, *, interval_s: float) -> bool:
    """Return whether the last successful poll is so old that polling counts as stopped."""
    return now - last_good > stale_after(interval_s)


def stale_after(interval_s: float) -> timedelta:
    """Return how long there may be no successful poll."""
    return max(STALE_AFTER, timedelta(seconds=3 * interval_s))


def unhealthy_reason(
    *, polling: bool, heartbeat_at: datetime, now: datetime, interval_s: float, senders_alive: int
) -> str | None:
    """Return why the daemon is unhealthy, as /healthz reports it; None if it is healthy.

    Monitoring systems match these texts.

    Args:
        polling: whether polling is on.
        heartbeat_at: the last successful poll, or the start if there was none.
        now: the current time.
        interval_s: seconds between ticks.
        senders_alive: how many senders run.
    """
    if polling and stale(heartbeat_at, now, interval_s=interval_s):
        return "Polling not running"
    if senders_alive == 0:
        return "No active workers"
    return None


class PollTrigger(StrEnum):
    """Why a shop is polled between two ticks of the grid."""

    WEBHOOK = "webhook"  # the shop sent one, so it is up
    OWNER = "owner"  # "poll now"


def ends_pause(trigger: PollTrigger, kind: ErrorKind) -> bool:
    """Return whether a trigger ends a pause early.

    The owner's "poll now" ends every pause. A webhook shows that an unavailable shop is up again. It does not
    show that the shop accepts more requests. So it ends no pause that the shop requested with a 429, and none
    after other failures.

    Args:
        trigger: the trigger.
        kind: the failure that caused the pause.
    """
    return trigger is PollTrigger.OWNER or kind is ErrorKind.UNAVAILABLE


def pause_s(kind: ErrorKind, requested_s: float | None) -> float:
    """Return how long to wait after a failure, in seconds from when the request was sent.

    Args:
        kind: the failure.
        requested_s: the shop's Retry-After; None if it sent none.
    """
    if kind is ErrorKind.RATE_LIMIT:
        return min(RATE_LIMIT_WAIT_S if requested_s is None else requested_s, MAX_PAUSE_S)
    return min(requested_s or 0.0, PROBE_EVERY_S)


def alert_due(kind: ErrorKind, *, attempted_at: datetime, last_good: datetime, interval_s: float) -> bool:
    """Return whether to alert administrators about a failed poll.

    Rejected keys lead to an alert at once. Any other failure counts only if its request was sent after
    polling became stale. While no requests are sent (the shop asked us to wait, or the circuit is open),
    the shop may be up again. See docs/woocommerce.md, "Maintenance".

    Args:
        kind: the failure.
        attempted_at: when the failed request was sent.
        last_good: the last successful poll, or the start if there was none.
        interval_s: seconds between two ticks.
    """
    return kind is ErrorKind.AUTHENTICATION or stale(last_good, attempted_at, interval_s=interval_s)


OVERDUE_S = 30.0
"""If a shop is overdue by more than this, and by more than an interval, no replica polled it recently."""
SPREAD_S = 60.0
"""The first polls of shops that no replica polled are spread over this time; a long interval delays none."""


def first_tick(phase: float, *, interval_s: float, now_s: float, last_s: float | None) -> float:
    """Return the wait before the first poll of one of many shops, by the replica that takes it over.

    The poll is one interval after the last one by another replica, or without delay if that has passed. It
    is up to half an interval earlier if this is the shop's point of the grid, on which all replicas agree.
    So a thousand shops are not polled all at once, and shops that were late return to their points.

    A shop that no replica polled recently is polled within `SPREAD_S`. If its interval is no longer than
    that, the poll is at the first point of its grid.

    Args:
        phase: the shop's point of the grid, from 0 up to 1.
        interval_s: seconds between two ticks.
        now_s: the current time in seconds since 1970, by the clock that all replicas share.
        last_s: the last successful poll, by the same clock; None if there was none.

    Returns:
        Seconds to wait, one interval at most.
    """
    grid_in_s = (phase * interval_s - now_s) % interval_s
    grid_in_s %= interval_s  # rounding may have made it a whole interval
    # Computed in this order, so that rounding does not make it longer than an interval.
    due_in_s = math.inf if last_s is None else interval_s - (now_s - last_s)
    is_known = -max(OVERDUE_S, interval_s) < due_in_s <= interval_s
    if not is_known:
        return grid_in_s % min(interval_s, SPREAD_S)
    if due_in_s - interval_s / 2 <= grid_in_s <= due_in_s:
        return grid_in_s
    return max(0.0, due_in_s)
