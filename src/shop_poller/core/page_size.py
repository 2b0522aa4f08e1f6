"""How many orders to ask for at once: as many as the shop answers for.

A page of a hundred whole orders may be too much for PHP's memory, for its time, or for a web server before
it. An outage looks the same. So a page that fails is followed by a smaller one, down to one order: if that is
answered, the page was too large; if not, the shop is down.
"""

import math
from dataclasses import dataclass, replace

from shop_poller.core.cursor import MAX_PER_PAGE

LIGHTER_S = 3600.0
"""How long a size that is too large is not asked for again."""
STEP = 4
"""A page that fails is followed by one of a quarter: with three retries that leads from 100 to 1."""


@dataclass(frozen=True, slots=True)
class PageSize:
    """The size of pages of one shop; every method gives the next state. Instants are monotonic seconds.

    Attributes:
        most: the largest size there is.
        current: the size to ask for next.
        proven: a size that was answered, 0 if none was since the last failure at that size.
        failed: the first size that failed since the last answer, 0 if none did.
        suspect: a size that failed once while a smaller one was answered; 0 if there is none.
        suspect_until: a second failure until then means that the size is too large.
        limit: a size that is too large.
        limit_until: how long it is not asked for.
    """

    most: int = MAX_PER_PAGE
    current: int = MAX_PER_PAGE
    proven: int = 0
    failed: int = 0
    suspect: int = 0
    suspect_until: float = -math.inf
    limit: int = 0
    limit_until: float = -math.inf

    def largest(self, now: float) -> int:
        """The largest size that is not known to be too large, though it may have failed just now."""
        return self.current if now < self.limit_until else self.most

    def broke(self, size: int, *, is_last: bool = False) -> "PageSize":
        """A page of that size failed.

        Args:
            size: what was asked for.
            is_last: there is only one more question in this tick.
        """
        is_known = 0 < self.proven < size
        following = self.proven if is_known else 1 if is_last else max(1, size // STEP)
        return replace(
            self, current=following, proven=self.proven if is_known else 0, failed=self.failed or size
        )

    def answered(self, size: int, now: float) -> "PageSize":
        """A page of that size was answered. One failure proves nothing: the shop may have restarted PHP."""
        state = replace(self, proven=size, failed=0)
        if self.failed > size:
            if now < self.suspect_until:
                state = replace(state, limit=self.failed, limit_until=now + LIGHTER_S)
            state = replace(state, suspect=self.failed, suspect_until=now + 2 * LIGHTER_S)
        elif size >= self.suspect:
            state = replace(state, suspect=0, suspect_until=-math.inf)
        larger = min(2 * size, self.most)
        is_too_large = now < state.limit_until and larger >= state.limit
        return replace(state, current=size if is_too_large else larger)
