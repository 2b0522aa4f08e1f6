"""What /healthz says."""

from datetime import datetime

from shop_poller.core.schedule import stale


def unhealthy_reason(
    *, polling: bool, heartbeat_at: datetime, now: datetime, interval_s: float, senders_alive: int
) -> str | None:
    """Why the daemon is unhealthy, in the words of the design before this one; None when it is well.

    Args:
        polling: whether it is meant to poll.
        heartbeat_at: the last good poll, or the start if there was none yet.
        now: the present.
        interval_s: seconds between ticks.
        senders_alive: how many are there to deliver.
    """
    if polling and stale(heartbeat_at, now, interval_s=interval_s):
        return "Polling not running"
    if senders_alive == 0:
        return "No active workers"
    return None
