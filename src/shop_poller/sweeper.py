"""Sweeps one shop between its ticks: core/sweep.py tells what is looked at, and why."""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import datetime

import anyio
import structlog

from shop_poller.clerk import Clerk
from shop_poller.core import sweep
from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page
from shop_poller.fetcher import Fetcher, P
from shop_poller.ledger import Ledger
from shop_poller.logs import Edges, Log
from shop_poller.plan import PollPlan, TickReport
from shop_poller.ports import ShopState, Store

OF_ONE_ORDER = frozenset({ErrorKind.TOO_LARGE, ErrorKind.SERVER, ErrorKind.REJECTED})
"""What a shop may answer when it is asked for orders one of which breaks it, or is not there any more."""

MAX_RECENT, MAX_BROKEN, MAX_OPEN = 100, 100, 300
"""Pages of each kind in one sweep; what is left of the open orders has its turn in the next."""

MAX_FAILURES = 3
"""So many in a row, and it is the shop that is broken, not an order."""

RETRY_S = 300.0
"""After what passes by itself; but not after "too many requests"."""


class Sweeper:
    """Asks one page at a time; each is decided and committed as it comes.

    Args:
        plan: when, and how far back.
        ledger: what has been committed.
        clerk: decides.
        fetcher: asks the shop.
        store: knows which orders are not final yet.
        now: our clock.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        ledger: Ledger,
        clerk: Clerk,
        fetcher: Fetcher,
        store: Store,
        now: Callable[[], datetime],
    ) -> None:
        self._plan = plan
        self._ledger = ledger
        self._clerk = clerk
        self._fetcher = fetcher
        self._store = store
        self._now = now
        self._not_before = -math.inf
        self._pages: AsyncIterator[None] | None = None  # the sweep under way
        self._asking = anyio.CancelScope()
        self._deadline = math.inf
        self._report = TickReport()
        self._yields = True
        self._is_wanted = False
        self._most = MAX_PER_PAGE  # what the shop answers in the time between two ticks
        self._edges = Edges()
        self._log: Log = structlog.get_logger()

    @property
    def is_due(self) -> bool:
        """It is time for a sweep, or one is under way."""
        state = self._ledger.state
        if not self._plan.sweep_every or state.learning is not None or self._ledger.shop_time is None:
            return False
        if anyio.current_time() < self._not_before:
            return False
        # A clock that was set back is no reason to wait.
        swept_at, now = state.swept_at, self._now()
        return self._pages is not None or not (
            swept_at and swept_at <= now < swept_at + self._plan.sweep_every
        )

    def interrupt(self) -> None:
        """Something more urgent came: what is being asked is not waited for, if it may be put off."""
        if self._yields:
            self.stop()

    def stop(self) -> None:
        """What is being asked is not waited for."""
        self._is_wanted = True
        self._asking.cancel()

    async def page(self, report: TickReport, deadline: float, *, yields: bool = True) -> None:
        """Look at one page of orders, or at none if that would take too long.

        Args:
            report: counts what was done.
            deadline: when the next tick is due, on the event loop's clock; no answer is awaited beyond it.
            yields: `interrupt` may put it off.

        Raises:
            TemporaryError, PermanentError: no answer, or no commit. It begins anew after a while.
        """
        self._report, self._deadline, self._yields, self._is_wanted = report, deadline, yields, False
        every_s = self._plan.sweep_every.total_seconds()
        if self._pages is None:
            self._pages = self._sweep()
        try:
            await anext(self._pages)
        except StopAsyncIteration:
            self._rest(every_s)
        except ShopPollerError as error:
            enough = error.kind in {ErrorKind.RATE_LIMIT, ErrorKind.UNAVAILABLE, *OF_ONE_ORDER}
            self._rest(every_s if enough else min(RETRY_S, every_s))
            raise
        except BaseException:
            self._rest(every_s)
            raise

    def _rest(self, seconds: float) -> None:
        self._pages = None
        self._not_before = anyio.current_time() + seconds

    async def _sweep(self) -> AsyncIterator[None]:
        """One whole sweep, a page at a time."""
        async for _ in self._recent():
            yield
        async for _ in self._broken():
            yield
        async for _ in self._open():
            yield
        await self._move(replace(self._ledger.state, swept_at=self._now()))
        self._most = MAX_PER_PAGE

    async def _recent(self) -> AsyncIterator[None]:
        assert self._ledger.shop_time is not None  # noqa: S101 - is_due looked
        walk = sweep.recent(self._ledger.shop_time, self._plan.sweep_window)
        pages, failures = 0, 0
        while pages < MAX_RECENT:
            try:
                answer = await self._ask(replace(walk, per_page=min(walk.per_page, self._most)))
            except ShopPollerError as error:
                failures += 1
                if error.kind not in {*OF_ONE_ORDER, ErrorKind.PROTOCOL}:
                    raise
                if failures >= MAX_FAILURES or walk.per_page == 1:
                    self._say("the sweep passes by the recent orders", "recent", error)
                    return
                walk = walk.halved()
                answer = None
            if answer is not None:
                asked, page = answer
                await self._take(page, self._ledger.state)
                following = asked.advance(page)
                if following is None:
                    return
                walk, pages = following, pages + 1
            yield

    async def _broken(self) -> AsyncIterator[None]:
        todo = sorted(self._ledger.set_aside)

        async def some(limit: int) -> Sequence[int]:
            return todo[:limit]

        async def done(ids: Sequence[int], page: Page | None) -> None:
            if page is not None:
                await self._take(page, self._ledger.state)
            del todo[: len(ids)]

        async for _ in self._by_ids(some, done, MAX_BROKEN):
            yield

    async def _open(self) -> AsyncIterator[None]:
        async def some(limit: int) -> Sequence[int]:
            after_id = self._ledger.state.sweep_after_id
            return await self._store.open_orders(self._plan.shop, after_id=after_id, limit=limit)

        async def done(ids: Sequence[int], page: Page | None) -> None:
            state = replace(self._ledger.state, sweep_after_id=ids[-1])
            await (self._move(state) if page is None else self._take(page, state))

        async for _ in self._by_ids(some, done, MAX_OPEN):
            yield
        if not await some(1):
            await self._move(replace(self._ledger.state, sweep_after_id=0))

    async def _by_ids(
        self,
        some: Callable[[int], Awaitable[Sequence[int]]],
        done: Callable[[Sequence[int], Page | None], Awaitable[None]],
        budget: int,
    ) -> AsyncIterator[None]:
        """Ask for orders by their ids until there are none left; past those that cannot be answered for.

        Args:
            some: the next so many.
            done: takes what was asked for and the answer, or what is passed by.
            budget: questions.
        """
        size, questions, failures = MAX_PER_PAGE, 0, 0
        while questions < budget:
            ids = await some(min(size, self._most, self._fetcher.most_ids))
            if not ids:
                return
            try:
                answer = await self._ask(sweep.ByIds(ids))
            except ShopPollerError as error:
                if error.kind not in OF_ONE_ORDER:
                    raise
                questions += 1
                if len(ids) > 1 and error.kind is not ErrorKind.TOO_LARGE:  # that was tried in halves already
                    size = len(ids) // 2
                else:
                    self._say("an order cannot be swept", str(ids[0]), error)
                    await done(ids[:1], None)
                    failures += 1
                    if failures >= MAX_FAILURES:
                        raise
            else:
                if answer is not None:
                    asked, page = answer
                    await done(asked.ids, page)
                    questions += 1
                    size, failures = min(2 * size, MAX_PER_PAGE), 0
            yield

    async def _ask(self, position: P) -> tuple[P, Page] | None:
        """One question; None if there was no time for its answer."""
        if self._is_wanted:
            return None
        began = anyio.current_time()
        with anyio.CancelScope(deadline=self._deadline) as self._asking:
            return await self._fetcher.page(position, self._deadline, patient=False)
        if anyio.current_time() - began > self._plan.interval_s / 2:  # it had its time
            self._most = max(1, position.query().per_page // 2)
        return None

    async def _take(self, page: Page, state: ShopState) -> None:
        assert state.cursor_at is not None  # noqa: S101 - it came with the baseline
        await self._clerk.decide(page, state, self._report, polled_to=state.cursor_at - self._plan.overlap)

    async def _move(self, state: ShopState) -> None:
        """Commit where it stands, without a page."""
        assert self._ledger.shop_time is not None  # noqa: S101 - is_due looked
        await self._ledger.commit(state, Page((), self._ledger.shop_time))

    def _say(self, what: str, thing: str, error: ShopPollerError) -> None:
        log = self._log.warning if self._edges.changed(thing, error.kind) else self._log.debug
        log(what, which=thing, error_type=error.kind, error=str(error))
