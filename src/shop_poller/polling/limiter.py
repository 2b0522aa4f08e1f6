"""Spreads the polls of many shops over the interval, and limits how many run at the same time."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.core.refunds import RefundPage, RefundQuery
from shop_poller.ports import RefundList, Source

SLOW = frozenset({ErrorKind.TIMEOUT, ErrorKind.CONNECTION})
"""Failures that occupy a slot for long."""
SLOW_SHARE = 4
"""One of this many slots is for shops whose last request failed like that. They delay only each other."""
PATIENCE_S = 3.0
"""A shop that was not known to be slow loses its slot after this time without a response."""


class PollLimiter:
    """Limits the concurrent requests to shops. Shops that hang do not count.

    Args:
        most: the limit; below `SLOW_SHARE`, no slots are reserved for slow shops.
        on_late: receives by how many seconds a poll was late.
    """

    def __init__(self, most: int, on_late: Callable[[float], None]) -> None:
        slow = most // SLOW_SHARE
        self.on_late = on_late
        self._usual = anyio.CapacityLimiter(most - slow)
        self._slow = anyio.CapacityLimiter(slow) if slow else self._usual

    @asynccontextmanager
    async def slot(self, *, slow: bool) -> AsyncIterator[None]:
        """Hold a slot for the context; at most for `PATIENCE_S` if the shop was not known to be slow.

        Without slots for slow shops, it is held for the whole context.
        """
        limiter, holder = self._slow if slow else self._usual, object()
        await limiter.acquire_on_behalf_of(holder)
        loop, is_held = asyncio.get_running_loop(), True

        def release_slot() -> None:
            nonlocal is_held
            if is_held:
                is_held = False
                limiter.release_on_behalf_of(holder)

        timer = None if limiter is self._slow else loop.call_later(PATIENCE_S, release_slot)
        try:
            yield
        finally:
            if timer is not None:
                timer.cancel()
            release_slot()

    @property
    def waiting(self) -> int:
        """Shops that wait for a slot."""
        limiters = {self._usual, self._slow}
        return sum(limiter.statistics().tasks_waiting for limiter in limiters)


class PollSchedule:
    """Decides when one shop is polled.

    Args:
        limiter: shared with other shops; None for a single shop.
        first_in_s: seconds until the first tick.
    """

    def __init__(self, limiter: PollLimiter | None = None, first_in_s: float = 0.0) -> None:
        self.first_in_s = first_in_s
        self._limiter = limiter
        self._due_at: float | None = None

    def note_due(self, at: float | None) -> None:
        """Note when the tick of the next request was due, on the loop's clock; None: not part of a tick."""
        self._due_at = at

    def scheduled(self, source: Source) -> Source:
        """Wrap the source so that each request waits for a slot."""
        return source if self._limiter is None else _Scheduled(source, self, self._limiter)

    def scheduled_refunds(self, refunds: RefundList) -> RefundList:
        """Wrap the list of refunds so that each request waits for a slot."""
        return refunds if self._limiter is None else _ScheduledRefunds(refunds, self._limiter)

    def note_slot(self) -> None:
        """Note that the shop has a slot now."""
        if self._due_at is not None and self._limiter is not None:
            self._limiter.on_late(anyio.current_time() - self._due_at)
        self._due_at = None


class _Slot:
    """The slots of one peer; remembers whether it was slow last time."""

    def __init__(self, limiter: PollLimiter) -> None:
        self._limiter = limiter
        self._is_slow = False

    @asynccontextmanager
    async def hold(self) -> AsyncIterator[None]:
        """Hold a slot; waits between attempts hold none."""
        async with self._limiter.slot(slow=self._is_slow):
            try:
                yield
            except ShopPollerError as error:
                self._is_slow = error.kind in SLOW
                raise
        self._is_slow = False


class _Scheduled:
    """A source whose requests wait for a slot. For the methods see ports.Source."""

    def __init__(self, source: Source, schedule: PollSchedule, limiter: PollLimiter) -> None:
        self._source = source
        self._schedule = schedule
        self._slot = _Slot(limiter)

    @property
    def most_ids(self) -> int:
        """The source's own limit."""
        return self._source.most_ids

    async def fetch(self, query: Query) -> Page:
        """Wait for a slot, then fetch."""
        async with self._slot.hold():
            self._schedule.note_slot()
            return await self._source.fetch(query)

    async def aclose(self) -> None:
        """Close the source."""
        await self._source.aclose()


class _ScheduledRefunds:
    """A list of refunds whose requests wait for a slot. For the methods see ports.RefundList."""

    def __init__(self, refunds: RefundList, limiter: PollLimiter) -> None:
        self._refunds = refunds
        self._slot = _Slot(limiter)

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Wait for a slot, then fetch."""
        async with self._slot.hold():
            return await self._refunds.fetch(query)

    async def aclose(self) -> None:
        """Close the list's connection."""
        await self._refunds.aclose()
