"""Sweeps one shop between its ticks: core/sweep.py decides what is read, and explains why."""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from datetime import datetime

import anyio
import structlog

from shop_poller.core import sweep
from shop_poller.core.cursor import MAX_PER_PAGE, CreatedWalk
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page
from shop_poller.core.refunds import RefundPage, with_dates
from shop_poller.core.sweep_schedule import SweepSchedule
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.polling.order_processor import OrderProcessor
from shop_poller.polling.page_fetcher import Fetcher, P
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.refund_list_reader import FoundRefunds, RefundListReader
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import OrderState, RefundList, ShopState

OF_ONE_ORDER = frozenset({ErrorKind.TOO_LARGE, ErrorKind.SERVER, ErrorKind.REJECTED})
"""Failures of a request for several orders, one of which breaks it or no longer exists."""

MAX_RECENT, MAX_BROKEN, MAX_OPEN = 100, 100, 300
"""Pages of each kind per sweep; the rest of the open orders follows in the next sweep."""

MAX_DOUBTFUL = 100
"""Orders to confirm per sweep; the others follow in the next sweep."""

MAX_FAILURES = 3
"""After this many failures in a row, the shop is broken, not an order."""

RETRY_S = 300.0
"""The wait after a transient failure other than "too many requests"."""


class Sweeper:
    """Reads one page at a time; each is decided and committed at once.

    Args:
        plan: when, and how far back.
        state_writer: the committed state.
        order_processor: decides.
        fetcher: reads from the shop.
        orders: has the orders that are not final yet.
        now: our clock.
        refunds: the shop's own list of refunds; None if there is none.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        state_writer: StateWriter,
        order_processor: OrderProcessor,
        fetcher: Fetcher,
        orders: OrderState,
        now: Callable[[], datetime],
        refunds: RefundList | None = None,
    ) -> None:
        self._plan = plan
        self._state_writer = state_writer
        self._order_processor = order_processor
        self._fetcher = fetcher
        self._orders = orders
        self._now = now
        self._refunds = RefundListReader(
            plan, state_writer=state_writer, orders=orders, source=refunds, now=now
        )
        self._not_before = -math.inf
        self._pages: AsyncGenerator[None] | None = None  # the running sweep
        self._asking = anyio.CancelScope()
        self._report = TickReport()
        self._is_stopped = False
        self._doubtful: dict[int, datetime] = {}  # orders to confirm, and when they were created
        self._schedule = SweepSchedule(plan.interval_s, MAX_PER_PAGE, MAX_PER_PAGE)
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    @property
    def is_due(self) -> bool:
        """Whether a sweep is due or running."""
        state = self._state_writer.state
        if (
            not self._plan.sweep_every
            or state.import_position is not None
            or self._state_writer.shop_time is None
        ):
            return False
        if anyio.current_time() < self._not_before:
            return False
        # A clock that was set back must not delay the sweep.
        swept_at, now = state.swept_at, self._now()
        return self._pages is not None or not (
            swept_at and swept_at <= now < swept_at + self._plan.sweep_every
        )

    def may_ask(self, left_s: float, *, triggered: bool) -> bool:
        """Whether to request the next page before the next tick; see SweepSchedule.may_ask."""
        return self._schedule.may_ask(left_s, triggered=triggered)

    def put_off(self) -> None:
        """Note that no page was requested before the next regular tick."""
        self._schedule = self._schedule.passed()

    def stop(self) -> None:
        """Stop waiting for a response."""
        self._is_stopped = True
        self._asking.cancel()

    async def aclose(self) -> None:
        """End the running sweep, from the inside out.

        The garbage collector would end its generators in any order, and log that one is still running.
        """
        pages, self._pages = self._pages, None
        if pages is not None:
            with anyio.CancelScope(shield=True):  # they await nothing at their end
                await pages.aclose()

    async def page(self, report: TickReport) -> None:
        """Read one page of orders. Its response is awaited, even if that delays the next tick.

        Args:
            report: counts what was done.

        Raises:
            TemporaryError, PermanentError: no response, or no commit. The sweep restarts after a while.
        """
        self._report = report
        every_s = self._plan.sweep_every.total_seconds()
        if self._pages is None:
            self._pages = self._sweep()
        try:
            await anext(self._pages)
        except StopAsyncIteration:
            self._end(every_s)
        except ShopPollerError as error:
            enough = error.kind in {ErrorKind.RATE_LIMIT, ErrorKind.UNAVAILABLE, *OF_ONE_ORDER}
            self._end(every_s if enough else min(RETRY_S, every_s))
            raise
        except BaseException:
            self._end(every_s)
            raise

    def _end(self, seconds: float) -> None:
        """End the sweep; the next one is due after so many seconds."""
        self._pages = None
        self._not_before = anyio.current_time() + seconds

    async def _sweep(self) -> AsyncGenerator[None]:
        """Run one whole sweep, page by page."""
        self._doubtful.clear()
        for part in (self._refunded, self._recent, self._broken, self._open, self._confirm):
            async with aclosing(part()) as pages:
                async for _ in pages:
                    yield
            yield  # the last page of a part and the first of the next are separate steps
        await self._commit_position(replace(self._state_writer.state, swept_at=self._now()))

    async def _refunded(self) -> AsyncGenerator[None]:
        """Read the orders that the shop's list of refunds names, see refund_list_reader.py."""
        async with aclosing(self._refunds.pages(self._awaited)) as pages:
            async for found in pages:
                yield  # the list and the orders are separate steps
                if found is not None:
                    todo = found.order_ids
                    async with aclosing(self._read_again(found, todo)) as again:
                        async for _ in again:
                            yield
                    if todo:
                        return  # the next sweep restarts before them
                    if found.reached != self._state_writer.state.refunds_at:
                        await self._commit_position(
                            replace(self._state_writer.state, refunds_at=found.reached)
                        )

    async def _read_again(self, found: FoundRefunds, todo: list[int]) -> AsyncGenerator[None]:
        """Read the orders of refunds; remove those that were requested from the list."""

        async def next_ids(limit: int) -> Sequence[int]:
            return todo[:limit]

        async def on_read(ids: Sequence[int], page: Page | None) -> None:
            if page is not None:
                await self._decide(with_dates(page, found.rows), self._state_writer.state)
            self._refunds.looked_at(found, ids)
            del todo[: len(ids)]

        for _ in range(MAX_FAILURES):  # orders that break the shop do not end the whole sweep
            try:
                async with aclosing(self._by_ids(next_ids, on_read, MAX_BROKEN)) as requested:
                    async for _ in requested:
                        yield
            except ShopPollerError as error:
                if error.kind not in OF_ONE_ORDER:
                    raise
            else:
                return

    async def _awaited(self, answer: Awaitable[RefundPage]) -> RefundPage | None:
        """Await a response; return None if we are stopping."""
        with anyio.CancelScope() as self._asking:
            if self._is_stopped:
                self._asking.cancel()
            try:
                return await answer
            except ShopPollerError as error:
                self._fetcher.pause_after(error)
                raise
        return None

    async def _recent(self) -> AsyncGenerator[None]:
        assert self._state_writer.shop_time is not None  # noqa: S101 - is_due looked
        walk = sweep.recent(self._state_writer.shop_time, self._plan.sweep_window)
        pages, failures = 0, 0
        while pages < MAX_RECENT:
            try:
                answer = await self._ask(walk.sized(min(walk.per_page, self._schedule.most)))
            except ShopPollerError as error:
                failures += 1
                if error.kind not in {*OF_ONE_ORDER, ErrorKind.PROTOCOL}:
                    raise
                if failures >= MAX_FAILURES or walk.per_page == 1:
                    self._log_failure("the sweep skips the recent orders", "recent", error)
                    return
                walk = walk.halved()
                answer = None
            if answer is not None:
                requested, page = answer
                await self._decide(page, self._state_writer.state)
                following = requested.advance(page)
                if following is None:
                    return
                walk, pages = following, pages + 1
            yield

    async def _broken(self) -> AsyncGenerator[None]:
        todo = sorted(self._state_writer.set_aside)

        async def next_ids(limit: int) -> Sequence[int]:
            return todo[:limit]

        async def on_read(ids: Sequence[int], page: Page | None) -> None:
            if page is not None:
                await self._decide(page, self._state_writer.state)
            del todo[: len(ids)]

        async with aclosing(self._by_ids(next_ids, on_read, MAX_BROKEN)) as requested:
            async for _ in requested:
                yield

    async def _open(self) -> AsyncGenerator[None]:
        async def next_ids(limit: int) -> Sequence[int]:
            after_id = self._state_writer.state.sweep_after_id
            return await self._orders.open_orders(self._plan.shop, after_id=after_id, limit=limit)

        async def on_read(ids: Sequence[int], page: Page | None) -> None:
            state = self._state_writer.state
            if ids:
                state = replace(state, sweep_after_id=ids[-1])
            await (self._commit_position(state) if page is None else self._decide(page, state))

        async with aclosing(self._by_ids(next_ids, on_read, MAX_OPEN)) as requested:
            async for _ in requested:
                yield
        if not await next_ids(1):
            await self._commit_position(replace(self._state_writer.state, sweep_after_id=0))

    async def _confirm(self) -> AsyncGenerator[None]:
        """Read orders that are dated before the known state, and differ from it, by another request."""
        for order_id, made_at in [*self._doubtful.items()][:MAX_DOUBTFUL]:
            walk: CreatedWalk | None = sweep.made_at(made_at)
            pages = 0
            while walk is not None and pages < sweep.MAX_CONFIRMING:
                try:
                    answer = await self._ask(walk)
                    if answer is not None:
                        requested, page = answer
                        items = tuple(item for item in page.items if item.id == order_id)
                        await self._decide(
                            replace(page, items=items), self._state_writer.state, is_confirmed=True
                        )
                        walk, pages = None if items else requested.advance(page), pages + 1
                except ShopPollerError as error:
                    if error.kind not in {*OF_ONE_ORDER, ErrorKind.PROTOCOL}:
                        raise
                    self._log_failure("an order cannot be confirmed", str(order_id), error)
                    break
                yield

    async def _by_ids(
        self,
        next_ids: Callable[[int], Awaitable[Sequence[int]]],
        on_read: Callable[[Sequence[int], Page | None], Awaitable[None]],
        budget: int,
    ) -> AsyncGenerator[None]:
        """Read orders by their ids until none are left; skip those that cannot be read.

        A page may be shorter than requested. Missing orders are requested again, until a response shows none
        of them: then they no longer exist.

        Args:
            next_ids: returns the next ids, at most as many as its argument, in order.
            on_read: receives ids that need no further request, and the response; None if they were skipped.
            budget: the most requests.
        """
        size, questions, failures = MAX_PER_PAGE, 0, 0
        pending: Sequence[int] = ()  # not yet passed to `on_read`
        left: Sequence[int] = ()  # those of `pending` that no response has shown yet
        while questions < budget:
            limit = min(size, self._schedule.most, self._fetcher.most_ids)
            if not left:
                pending = left = await next_ids(limit)
            if not left:
                return
            ids = left[:limit]
            try:
                answer = await self._ask(sweep.ByIds(ids))
            except ShopPollerError as error:
                if error.kind not in OF_ONE_ORDER:
                    raise
                questions += 1
                if len(ids) > 1 and error.kind is not ErrorKind.TOO_LARGE:  # halves were already tried
                    size = len(ids) // 2
                else:
                    self._log_failure("an order cannot be swept", str(ids[0]), error)
                    left = left[1:]
                    pending = await self._report_read(on_read, pending, left, None)
                    failures += 1
                    if failures >= MAX_FAILURES:
                        raise
            else:
                if answer is not None:
                    requested, page = answer
                    shown = {item.id for item in page.items} & {*requested.ids}
                    left = [each for each in left if each not in (shown or requested.ids)]
                    pending = await self._report_read(on_read, pending, left, page)
                    questions += 1
                    size, failures = min(2 * size, MAX_PER_PAGE), 0
            yield

    @staticmethod
    async def _report_read(
        on_read: Callable[[Sequence[int], Page | None], Awaitable[None]],
        pending: Sequence[int],
        left: Sequence[int],
        page: Page | None,
    ) -> Sequence[int]:
        """Pass the ids before the first one that is left to `on_read`; return the others."""
        count = pending.index(left[0]) if left else len(pending)
        await on_read(pending[:count], page)
        return pending[count:]

    async def _ask(self, position: P) -> tuple[P, Page] | None:
        """Send one request; return None if we are stopping."""
        if self._is_stopped:
            return None
        size, began = position.query().per_page, anyio.current_time()
        with anyio.CancelScope() as self._asking:
            try:
                answer = await self._fetcher.page(position, math.inf, patient=False)
            except ShopPollerError as error:
                took_s = anyio.current_time() - began
                is_too_slow = error.kind is ErrorKind.TIMEOUT
                self._schedule = (self._schedule.timed_out if is_too_slow else self._schedule.answered)(
                    size, took_s
                )
                raise
            self._schedule = self._schedule.answered(size, anyio.current_time() - began)
            return answer
        return None

    async def _decide(self, page: Page, state: ShopState, *, is_confirmed: bool = False) -> None:
        assert state.cursor_at is not None  # noqa: S101 - it came with the baseline
        doubtful = await self._order_processor.decide(
            page,
            state,
            self._report,
            polled_to=state.cursor_at - self._plan.overlap,
            is_confirmed=is_confirmed,
        )
        self._doubtful |= {order.id: order.created_at for order in doubtful}

    async def _commit_position(self, state: ShopState) -> None:
        """Commit the position of the sweep, without a page."""
        assert self._state_writer.shop_time is not None  # noqa: S101 - is_due looked
        await self._state_writer.commit(state, Page((), self._state_writer.shop_time))

    def _log_failure(self, what: str, subject: str, error: ShopPollerError) -> None:
        log = self._log.warning if self._changes.changed(subject, error.kind) else self._log.debug
        log(what, which=subject, error_type=error.kind, error=str(error))
