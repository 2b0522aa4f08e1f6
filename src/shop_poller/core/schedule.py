"""When the next tick is, how long a shop is not asked, and when polling counts as stopped."""

import math
from datetime import datetime, timedelta
from enum import StrEnum

from shop_poller.core.errors import ErrorKind

PROBE_EVERY_S = 60.0
"""A shop that is unavailable is asked again after so long at most, whatever its Retry-After says: WordPress
says ten minutes during updates that take seconds."""
MAX_PAUSE_S = 15 * 60.0
"""So long a shop may ask us to wait that says "too many requests"."""
RATE_LIMIT_WAIT_S = 60.0
"""How long a shop is not asked that says "too many requests" without saying until when."""

STALE_AFTER = timedelta(minutes=5)
TRIGGER_GAP_S = 1.0
"""However many hints there are, the shop is polled once in this time at most."""


def next_tick(origin: float, interval: float, now: float) -> float:
    """The first instant of the grid origin, origin + interval, … after now.

    Computed from the origin each time, so that it never drifts; ticks missed meanwhile are skipped.
    All arguments are seconds of one monotonic clock.
    """
    steps = math.floor((now - origin) / interval) + 1
    tick = origin + steps * interval
    return tick if tick > now else origin + (steps + 1) * interval  # rounding may land on now


def triggered_tick(last: float, grid: float, ready: float) -> float:
    """When to tick after a hint: the grid's next tick, or before it if none comes too close to another.

    Args:
        last: when the last tick began.
        grid: when the grid's next is due; it is not moved.
        ready: from when on the shop may be asked, not before now. All are seconds of one monotonic clock.
    """
    tick = max(ready, last + TRIGGER_GAP_S)
    return tick if tick + TRIGGER_GAP_S <= grid else grid


def stale(last_good: datetime, now: datetime, *, interval_s: float) -> bool:
    """Whether the last good poll is so old that polling counts as stopped."""
    return now - last_good > stale_after(interval_s)


def stale_after(interval_s: float) -> timedelta:
    """For how long there may be no good poll."""
    return max(STALE_AFTER, timedelta(seconds=3 * interval_s))


def unhealthy_reason(
    *, polling: bool, heartbeat_at: datetime, now: datetime, interval_s: float, senders_alive: int
) -> str | None:
    """Why the daemon is unhealthy, as /healthz says it; None if it is healthy. Monitoring knows the texts.

    Args:
        polling: whether polling is on.
        heartbeat_at: the last good poll, or the start if there was none.
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
    """Whether a trigger ends a pause before its time.

    The owner's "poll now" ends every pause. A webhook shows that a shop is up again that was unavailable. It
    does not show that the shop takes more requests, so it ends no pause that the shop asked for with a 429,
    and none after other failures.

    Args:
        trigger: what came.
        kind: the failure that the pause follows.
    """
    return trigger is PollTrigger.OWNER or kind is ErrorKind.UNAVAILABLE


def pause_s(kind: ErrorKind, requested_s: float | None) -> float:
    """For how long a shop is not asked after a failure, in seconds from when the question was sent.

    Args:
        kind: the failure.
        requested_s: the shop's Retry-After; None if it sent none.
    """
    if kind is ErrorKind.RATE_LIMIT:
        return min(RATE_LIMIT_WAIT_S if requested_s is None else requested_s, MAX_PAUSE_S)
    return min(requested_s or 0.0, PROBE_EVERY_S)


def alert_due(kind: ErrorKind, *, attempted_at: datetime, last_good: datetime, interval_s: float) -> bool:
    """Whether administrators are alerted of a poll that failed.

    Refused keys are alerted at once. Any other failure counts only if the shop was asked after polling had
    become stale: while we only wait (the shop asked us to, or the circuit is open) nobody knows whether the
    shop is still down. See docs/woocommerce.md, "Maintenance".

    Args:
        kind: the failure.
        attempted_at: when the request was sent that failed.
        last_good: the last good poll, or the start if there was none.
        interval_s: seconds between two ticks.
    """
    return kind is ErrorKind.AUTHENTICATION or stale(last_good, attempted_at, interval_s=interval_s)


OVERDUE_S = 30.0
"""A shop that was not polled for so long beyond its interval was not just handed over: nobody watched."""
SPREAD_S = 60.0
"""Over so long the first polls of shops that nobody watched are spread: none waits a long interval for it."""


def first_tick(phase: float, *, interval_s: float, now_s: float, last_s: float | None) -> float:
    """When a shop of many is polled first by whoever takes it over.

    An interval after another replica polled it last, or without delay if that has passed. A little sooner, if
    that is its point of the grid that all replicas agree on: so a thousand shops are not polled all at once,
    and those that were once late find back to it. One that nobody watched, or never, is polled within
    `SPREAD_S`, at the first point of its grid if its interval is no longer than that.

    Args:
        phase: the shop's point of the grid, from 0 up to 1.
        interval_s: seconds between two ticks.
        now_s: the present, by the clock that all replicas share, in seconds since 1970.
        last_s: the last good poll, by the same clock; None if there was none.

    Returns:
        Seconds to wait, an interval at most.
    """
    grid_in_s = (phase * interval_s - now_s) % interval_s
    grid_in_s %= interval_s  # it may have been rounded up to it
    # In this order, so that rounding makes it no more than an interval.
    due_in_s = math.inf if last_s is None else interval_s - (now_s - last_s)
    is_known = -max(OVERDUE_S, interval_s) < due_in_s <= interval_s
    if not is_known:
        return grid_in_s % min(interval_s, SPREAD_S)
    if due_in_s - interval_s / 2 <= grid_in_s <= due_in_s:
        return grid_in_s
    return max(0.0, due_in_s)
