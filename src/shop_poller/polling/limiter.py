"""When a shop of many is asked: at its own point of the interval, and not too many at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.core.refunds import RefundPage, RefundQuery
from shop_poller.ports import RefundList, Source

SLOW = frozenset({ErrorKind.TIMEOUT, ErrorKind.CONNECTION})
"""How those fail that keep a turn for long."""
SLOW_SHARE = 4
"""One turn in so many is for shops that failed like that last time: they hold up nobody else."""
PATIENCE_S = 3.0
"""What was not known to be slow, and has no answer after so long, waits for it without its turn."""


class PollLimiter:
    """So many requests to shops at the same time at most, besides those that turned out to hang.

    Args:
        most: of all together; with fewer than `SLOW_SHARE` there are none for slow shops only.
        on_late: is told how long after its time a shop was asked, in seconds.
    """

    def __init__(self, most: int, on_late: Callable[[float], None]) -> None:
        slow = most // SLOW_SHARE
        self.on_late = on_late
        self._well = anyio.CapacityLimiter(most - slow)
        self._slow = anyio.CapacityLimiter(slow) if slow else self._well

    @asynccontextmanager
    async def taken(self, *, slow: bool) -> AsyncIterator[None]:
        """It is a shop's turn, once there is one; for `PATIENCE_S` at most if nobody knew that it is slow.

        Where there are no turns for slow shops it is for as long as it takes.
        """
        limiter, holder = self._slow if slow else self._well, object()
        await limiter.acquire_on_behalf_of(holder)
        loop, is_ours = asyncio.get_running_loop(), True

        def give_back() -> None:
            nonlocal is_ours
            if is_ours:
                is_ours = False
                limiter.release_on_behalf_of(holder)

        timer = None if limiter is self._slow else loop.call_later(PATIENCE_S, give_back)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            give_back()

    @property
    def waiting(self) -> int:
        """Shops that wait for their turn."""
        limiters = {self._well, self._slow}
        return sum(limiter.statistics().tasks_waiting for limiter in limiters)


class PollSchedule:
    """When one shop is asked.

    Args:
        limiter: are shared with other shops; None for a shop that is the only one.
        first_in_s: seconds until the first tick.
    """

    def __init__(self, limiter: PollLimiter | None = None, first_in_s: float = 0.0) -> None:
        self.first_in_s = first_in_s
        self._limiter = limiter
        self._due_at: float | None = None

    def due(self, at: float | None) -> None:
        """The next request is the first of a tick that was due then, on the loop's clock; None: of none."""
        self._due_at = at

    def scheduled(self, source: Source) -> Source:
        """The source, asked when it is its turn."""
        return source if self._limiter is None else _Scheduled(source, self, self._limiter)

    def scheduled_refunds(self, refunds: RefundList) -> RefundList:
        """The list of refunds, asked for when it is its turn."""
        return refunds if self._limiter is None else _ScheduledRefunds(refunds, self._limiter)

    def requested(self) -> None:
        """It is the shop's turn now."""
        if self._due_at is not None and self._limiter is not None:
            self._limiter.on_late(anyio.current_time() - self._due_at)
        self._due_at = None


class _InTurn:
    """One peer's turns: it is remembered whether it was slow last time."""

    def __init__(self, limiter: PollLimiter) -> None:
        self._limiter = limiter
        self._is_slow = False

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """It is our turn; waits between attempts hold none."""
        async with self._limiter.taken(slow=self._is_slow):
            try:
                yield
            except ShopPollerError as error:
                self._is_slow = error.kind in SLOW
                raise
        self._is_slow = False


class _Scheduled:
    """A source that waits for its turn. For the methods see ports.Source."""

    def __init__(self, source: Source, schedule: PollSchedule, limiter: PollLimiter) -> None:
        self._source = source
        self._schedule = schedule
        self._in_turn = _InTurn(limiter)

    @property
    def most_ids(self) -> int:
        """As many as the source."""
        return self._source.most_ids

    async def fetch(self, query: Query) -> Page:
        """Ask, when it is our turn."""
        async with self._in_turn.turn():
            self._schedule.requested()
            return await self._source.fetch(query)

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


class _ScheduledRefunds:
    """A list of refunds that waits for its turn. For the methods see ports.RefundList."""

    def __init__(self, refunds: RefundList, limiter: PollLimiter) -> None:
        self._refunds = refunds
        self._in_turn = _InTurn(limiter)

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Ask, when it is our turn."""
        async with self._in_turn.turn():
            return await self._refunds.fetch(query)

    async def aclose(self) -> None:
        """Close the list's connection."""
        await self._refunds.aclose()
