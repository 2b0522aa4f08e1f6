"""How many messages a sink takes in a time: `rate=20/min` in its address. Pure."""

import re
from collections import deque
from dataclasses import dataclass

from shop_poller.core.translatable import Text

RATE = re.compile(r"([1-9][0-9]{0,3})/(s|min|h)")
UNITS_S = {"s": 1.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Rate:
    """At most so many messages in any period of so many seconds."""

    count: int
    period_s: float


def parse_rate(text: str) -> Rate:
    """Parse a rate such as "20/min".

    Raises:
        ValueError: it is none; one line without the text.
    """
    found = RATE.fullmatch(text)
    if found is None:
        raise ValueError(Text("should be a number of 1 to 9999, / and s, min or h, e.g. 20/min"))
    return Rate(int(found[1]), UNITS_S[found[2]])


class RateLimit:
    """Holds a rate in every period, not on average: receivers count like this."""

    def __init__(self, rate: Rate) -> None:
        self._rate = rate
        self._taken: deque[float] = deque(maxlen=rate.count)

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until one more message may be sent; 0 for now.

        Args:
            now_s: of a monotonic clock.
        """
        if len(self._taken) < self._rate.count:
            return 0.0
        return max(0.0, self._taken[0] + self._rate.period_s - now_s)

    def take(self, now_s: float) -> None:
        """Record that a message is sent now; call it when `wait_s` is 0."""
        self._taken.append(now_s)
