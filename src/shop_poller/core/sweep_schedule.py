"""When a sweep may send its next request between two ticks, and how large it is.

We always wait for the response, because PHP continues to compute it even if nobody waits. So a request is
sent only if the last ones show that its response arrives before the next tick. If no response arrives in that
time, one request is sent every `EVERY_TICKS` ticks anyway, and the tick after it is a little late.
"""

from dataclasses import dataclass, replace

from shop_poller.core.cursor import MAX_PER_PAGE

EVERY_TICKS = 5
"""After so many ticks of the grid without a request, one is sent even if there is no time for it."""
FIRST_S = 0.5
"""The expected duration of the first response in seconds; half an interval at short intervals."""
HELPS = 0.75
"""If a page of half the size takes more than this share of the time, it is not halved again."""


@dataclass(frozen=True, slots=True)
class SweepSchedule:
    """How a sweep fits between the ticks of one shop; every method returns the next state.

    Attributes:
        interval_s: seconds between two ticks.
        largest: the most orders that may be requested.
        most: the most orders to request, given how long the responses take.
        expected_s: the expected duration of a response, from the last ones; None before the first.
        put_off: ticks of the grid since the last request.
        halved_at_s: the duration of the response that led to the last halving; None if doubled since.
    """

    interval_s: float
    largest: int = MAX_PER_PAGE
    most: int = MAX_PER_PAGE
    expected_s: float | None = None
    put_off: int = 0
    halved_at_s: float | None = None

    def may_ask(self, left_s: float, *, triggered: bool) -> bool:
        """Return whether to send a request now.

        Args:
            left_s: seconds until the next tick of the grid.
            triggered: a trigger requests a tick at once. Then a sweep waits, but for one interval at most.
        """
        if self.put_off >= EVERY_TICKS:
            return True
        expected_s = min(FIRST_S, self.interval_s / 2) if self.expected_s is None else self.expected_s
        return expected_s <= left_s and (not triggered or self.put_off > 0)

    def passed(self) -> "SweepSchedule":
        """Count a tick of the grid with no request before the next one."""
        return replace(self, put_off=self.put_off + 1)

    def answered(self, size: int, took_s: float) -> "SweepSchedule":
        """Note a response, even if it is an error.

        Args:
            size: how many orders were requested.
            took_s: seconds from the request to the response.
        """
        expected_s = max(took_s, (self.expected_s or 0.0) / 2)
        state = replace(self, put_off=0, expected_s=expected_s)
        if took_s > self.interval_s / 2:
            helped = self.halved_at_s is None or took_s <= HELPS * self.halved_at_s
            if helped and size > 1:
                return replace(state, most=size // 2, halved_at_s=took_s)
        elif size >= self.most and took_s <= self.interval_s / 8:
            return replace(state, most=min(2 * self.most, self.largest), halved_at_s=None)
        return state

    def timed_out(self, size: int, took_s: float) -> "SweepSchedule":
        """Note that no response came within the time-out of a request: the next request is half as large."""
        expected_s = max(took_s, self.expected_s or 0.0)
        return replace(self, put_off=0, expected_s=expected_s, most=max(1, size // 2), halved_at_s=took_s)
