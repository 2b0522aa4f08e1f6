"""Learns the orders that were there before us: many before the first decision, the rest between ticks."""

from dataclasses import replace

import structlog

from shop_poller.clerk import Clerk
from shop_poller.core import learning
from shop_poller.fetcher import Fetcher
from shop_poller.ledger import Ledger
from shop_poller.logs import Log
from shop_poller.plan import TickReport

AT_ONCE = 2000


class Learner:
    """Learns one shop.

    Args:
        ledger: what has been committed.
        clerk: writes down what is learned.
        fetcher: asks the shop.
    """

    def __init__(self, *, ledger: Ledger, clerk: Clerk, fetcher: Fetcher) -> None:
        self._ledger = ledger
        self._clerk = clerk
        self._fetcher = fetcher
        self._lesson: learning.Lesson | None = None
        self._log: Log = structlog.get_logger()

    @property
    def is_due(self) -> bool:
        """There is something left to learn."""
        return self._ledger.state.learning is not None

    async def begin(self, report: TickReport, deadline: float) -> None:
        """Before the first decision: as much as is learned at once.

        Raises:
            TemporaryError, PermanentError: no answer, or no commit; call again.
        """
        while (stands := self._ledger.state.learning) is not None and stands.count < AT_ONCE:
            await self.page(report, deadline)

    async def page(self, report: TickReport, deadline: float) -> None:
        """Record one page; raises what `begin` raises."""
        state = self._ledger.state
        assert state.learning is not None  # noqa: S101 - the callers looked
        assert state.baseline_at is not None  # noqa: S101 - learning begins with it
        lesson = self._lesson or learning.lesson(state.learning, state.baseline_at)
        lesson, page = await self._fetcher.page(lesson, deadline)
        fresh = await self._clerk.unknown(page, state)
        following = learning.advance(lesson, page, learned=len(fresh))
        position = following.learning if following else None
        await self._clerk.learn(page, fresh, replace(state, learning=position), report)
        self._lesson = following
        self._log.info(
            "learning the orders that were there before",
            phase=position.phase if position else "done",
            orders=lesson.learning.count + len(fresh),
        )
