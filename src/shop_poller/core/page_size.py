"""How many orders to request at once: as many as the shop can return.

A page of a hundred complete orders may exceed PHP's memory or time limit, or that of a web server in front of
it. An outage looks the same. So after a failed page a smaller one is requested, down to one order. If that
succeeds, the page was too large. If not, the shop is down.
"""

import math
from dataclasses import dataclass, replace

from shop_poller.core.cursor import MAX_PER_PAGE

LIGHTER_S = 3600.0
"""How long a size that is too large is not requested again."""
STEP = 4
"""After a failed page, a quarter of its size is requested: three retries lead from 100 to 1."""


@dataclass(frozen=True, slots=True)
class PageSize:
    """The page size of one shop; every method returns the next state. Instants are monotonic seconds.

    Attributes:
        most: the largest possible size.
        current: the size of the next request.
        proven: a size that succeeded; 0 if none has since the last failure at that size.
        failed: the first size that failed since the last success; 0 if none did.
        suspect: a size that failed once while a smaller one succeeded; 0 if there is none.
        suspect_until: a second failure until then means that the size is too large.
        limit: a size that is too large.
        limit_until: until when it is not requested.
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
        """Return the largest size that is not known to be too large, even if it failed just now."""
        return self.current if now < self.limit_until else self.most

    def broke(self, size: int, *, is_last: bool = False) -> "PageSize":
        """Note that a page of that size failed.

        Args:
            size: how many orders were requested.
            is_last: this tick has only one more request.
        """
        is_known = 0 < self.proven < size
        following = self.proven if is_known else 1 if is_last else max(1, size // STEP)
        return replace(
            self, current=following, proven=self.proven if is_known else 0, failed=self.failed or size
        )

    def answered(self, size: int, now: float) -> "PageSize":
        """Note that a page of that size succeeded.

        One failure proves nothing: the shop may have restarted PHP.
        """
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
