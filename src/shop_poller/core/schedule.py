"""When the next tick is, and when polling counts as stopped."""

import math
from datetime import datetime, timedelta

STALE_AFTER = timedelta(minutes=5)
HINT_GAP_S = 1.0
"""However many hints there are, the shop is polled once in this time at most."""


def next_tick(origin: float, interval: float, now: float) -> float:
    """The first instant of the grid origin, origin + interval, … after now.

    Computed from the origin each time, so that it never drifts; ticks missed meanwhile are skipped.
    All arguments are seconds of one monotonic clock.
    """
    steps = math.floor((now - origin) / interval) + 1
    tick = origin + steps * interval
    return tick if tick > now else origin + (steps + 1) * interval  # rounding may land on now


def hinted_tick(last: float, grid: float, ready: float) -> float:
    """When to tick after a hint: the grid's next tick, or before it if none comes too close to another.

    Args:
        last: when the last tick began.
        grid: when the grid's next is due; it is not moved.
        ready: from when on the shop may be asked, not before now. All are seconds of one monotonic clock.
    """
    tick = max(ready, last + HINT_GAP_S)
    return tick if tick + HINT_GAP_S <= grid else grid


def stale(last_good: datetime, now: datetime, *, interval_s: float) -> bool:
    """Whether the last good poll is so old that polling counts as stopped."""
    return now - last_good > stale_after(interval_s)


def stale_after(interval_s: float) -> timedelta:
    """For how long there may be no good poll."""
    return max(STALE_AFTER, timedelta(seconds=3 * interval_s))


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
