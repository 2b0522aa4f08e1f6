"""The server's clock, known from its last answer and carried on by our monotonic clock."""

import time
from datetime import datetime, timedelta

from shop_poller.clock import ms, now, to_milliseconds

SET_AHEAD_S = 1.0
"""The server's clock was set if it is ahead by more; a lease's margin allows for less."""
ANY_TIME = 2**53


class ServerClock:
    """The clock that all replicas of a shop share. Until the server was asked, it is this machine's."""

    def __init__(self) -> None:
        self._anchor: tuple[datetime, float] | None = None  # the server's clock, and our monotonic clock
        self._unsure_s = 0.0  # by how much either may be off: half of the time that the answer took

    def now(self) -> datetime:
        """The server's time."""
        if self._anchor is None:
            return now()
        theirs, at = self._anchor
        return to_milliseconds(theirs + timedelta(seconds=time.monotonic() - at))

    def latest_ms(self) -> int:
        """What the server's clock cannot be beyond, as far as we know; see scripts/lease.lua."""
        if self._anchor is None:
            return ANY_TIME
        return ms(self.now()) + round((self._unsure_s + SET_AHEAD_S) * 1000)

    def answered(self, theirs: datetime, requested_at: float, answered_at: float) -> bool:
        """Take the time from an answer of the server.

        Args:
            theirs: the server's time.
            requested_at: when it was asked, by the monotonic clock.
            answered_at: when the answer arrived, likewise.

        Returns:
            Whether the server's clock was set ahead since the answer before.
        """
        before, before_unsure_s = self._anchor, self._unsure_s
        self._anchor = theirs, (requested_at + answered_at) / 2
        self._unsure_s = (answered_at - requested_at) / 2
        if before is None:
            return False
        ahead_s = (theirs - before[0]).total_seconds() - (self._anchor[1] - before[1])
        return ahead_s - before_unsure_s - self._unsure_s > SET_AHEAD_S
