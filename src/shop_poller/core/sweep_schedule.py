"""When a sweep's next question may be asked between two ticks, and how large it is.

A request that was sent is awaited: PHP goes on computing an answer whether or not anybody waits for it. So a
question is only asked if the last ones show that its answer comes before the next tick. Where no answer comes
in that time, a question is asked once in `EVERY_TICKS` all the same, and the tick after it is a little late.
"""

from dataclasses import dataclass, replace

from shop_poller.core.cursor import MAX_PER_PAGE

EVERY_TICKS = 5
"""After so many ticks of the grid without a question one is asked, whether or not there is time for it."""
FIRST_S = 0.5
"""How long the first answer is expected to take, in seconds; at short intervals half an interval."""
HELPS = 0.75
"""A page of half the size that takes more than this share of the time is not halved again."""


@dataclass(frozen=True, slots=True)
class SweepSchedule:
    """How a sweep fits between the ticks of one shop; every method gives the next state.

    Attributes:
        interval_s: seconds between two ticks.
        largest: how many orders may be asked for.
        most: how many orders to ask for at most, by how long the answers take.
        expected_s: how long an answer takes, by the last ones; None before the first.
        put_off: ticks of the grid since the last question.
        halved_at_s: how long the answer took that led to the last halving; None if it was doubled since.
    """

    interval_s: float
    largest: int = MAX_PER_PAGE
    most: int = MAX_PER_PAGE
    expected_s: float | None = None
    put_off: int = 0
    halved_at_s: float | None = None

    def may_ask(self, left_s: float, *, triggered: bool) -> bool:
        """Whether to ask now.

        Args:
            left_s: seconds until the next tick of the grid.
            triggered: a tick is wanted at once. Then a sweep waits, but not for longer than one interval.
        """
        if self.put_off >= EVERY_TICKS:
            return True
        expected_s = min(FIRST_S, self.interval_s / 2) if self.expected_s is None else self.expected_s
        return expected_s <= left_s and (not triggered or self.put_off > 0)

    def passed(self) -> "SweepSchedule":
        """A tick of the grid passed, and there was no question before the next."""
        return replace(self, put_off=self.put_off + 1)

    def answered(self, size: int, took_s: float) -> "SweepSchedule":
        """A question was answered, if only with an error.

        Args:
            size: how many orders were asked for.
            took_s: seconds from the question to the answer.
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
        """A question had no answer in the time that a request may take: the next one is half as large."""
        expected_s = max(took_s, self.expected_s or 0.0)
        return replace(self, put_off=0, expected_s=expected_s, most=max(1, size // 2), halved_at_s=took_s)
