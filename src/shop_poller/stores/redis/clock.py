"""The server's clock: the time of its last answer, continued by our monotonic clock."""

import time
from datetime import datetime, timedelta

from shop_poller.clock import ms, now, to_milliseconds

SET_AHEAD_S = 1.0
"""If the server's clock is ahead by more than this, it was set. The margin of a lease allows for less."""
ANY_TIME = 2**53


class ServerClock:
    """The clock that all replicas of a shop share. Until the server answers, it is this machine's clock."""

    def __init__(self) -> None:
        self._anchor: tuple[datetime, float] | None = None  # the server's clock, and our monotonic clock
        self._unsure_s = 0.0  # how far off the anchor may be: half of the time that the answer took

    def now(self) -> datetime:
        """Return the server's time."""
        if self._anchor is None:
            return now()
        theirs, at = self._anchor
        return to_milliseconds(theirs + timedelta(seconds=time.monotonic() - at))

    def latest_ms(self) -> int:
        """Return the latest possible time of the server's clock, as far as we know; see scripts/lease.lua."""
        if self._anchor is None:
            return ANY_TIME
        return ms(self.now()) + round((self._unsure_s + SET_AHEAD_S) * 1000)

    def answered(self, theirs: datetime, requested_at: float, answered_at: float) -> bool:
        """Set the clock from an answer of the server.

        Args:
            theirs: the server's time.
            requested_at: when the request was sent, by the monotonic clock.
            answered_at: when the answer arrived, likewise.

        Returns:
            Whether the server's clock was set ahead since its last answer.
        """
        before, before_unsure_s = self._anchor, self._unsure_s
        self._anchor = theirs, (requested_at + answered_at) / 2
        self._unsure_s = (answered_at - requested_at) / 2
        if before is None:
            return False
        ahead_s = (theirs - before[0]).total_seconds() - (self._anchor[1] - before[1])
        return ahead_s - before_unsure_s - self._unsure_s > SET_AHEAD_S
