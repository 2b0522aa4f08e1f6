"""Sweeps one shop between its ticks: core/sweep.py tells what is looked at, and why."""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import anyio
import structlog

from shop_poller.clerk import Clerk
from shop_poller.core import cursor, sweep
from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page
from shop_poller.fetcher import Fetcher, P
from shop_poller.ledger import Ledger
from shop_poller.plan import PollPlan, TickReport
from shop_poller.ports import ShopState, Store
from shop_poller.telemetry import Edges, Log

OF_ONE_ORDER = frozenset({ErrorKind.TOO_LARGE, ErrorKind.SERVER, ErrorKind.REJECTED})
"""What a shop may answer when it is asked for orders one of which breaks it, or is not there any more."""

MAX_PAGES = 100
"""Asked for in one go; what is left waits for the next sweep's time."""


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
        self._pages = 0
        self._per_page = MAX_PER_PAGE
        self._recent: cursor.Past | None = None
        self._asking = anyio.CancelScope()
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
        if state.sweep is not None or state.swept_at is None:
            return True
        # A clock that was set back is no reason to wait.
        return not state.swept_at <= self._now() < state.swept_at + self._plan.sweep_every

    def interrupt(self) -> None:
        """Something more urgent came: what is being asked is not waited for."""
        self._asking.cancel()

    async def page(self, report: TickReport, deadline: float) -> None:
        """Look at one page of orders, or at none if that would take too long.

        Args:
            report: counts what was done.
            deadline: when the next tick is due, on the event loop's clock; no answer is awaited beyond it.

        Raises:
            TemporaryError, PermanentError: no answer, or no commit. It goes on after a while.
        """
        assert self._ledger.shop_time is not None  # noqa: S101 - is_due looked
        position = self._ledger.state.sweep or sweep.begin(self._ledger.shop_time, self._plan.sweep_window)
        try:
            if position.stage is sweep.Stage.RECENT:
                await self._page_of_recent(position, report, deadline)
            else:
                await self._page_of_ids(position, report, deadline)
        except ShopPollerError:
            self._rest()
            raise
        self._pages += 1
        if self._pages >= MAX_PAGES or self._ledger.state.sweep is None:
            self._rest()

    def _rest(self) -> None:
        """Leave the shop alone until the next sweep's time."""
        self._pages, self._per_page = 0, MAX_PER_PAGE
        self._not_before = anyio.current_time() + self._plan.sweep_every.total_seconds()

    async def _page_of_recent(self, position: sweep.Position, report: TickReport, deadline: float) -> None:
        walk = self._recent
        if walk is None or walk.keyset.bound != position.created_before:  # just begun, or begun anew
            walk = cursor.past(since=position.since, before=position.created_before)
        answer = await self._ask(replace(walk, per_page=min(walk.per_page, self._per_page)), deadline)
        if answer is None:
            return
        walk, page = answer
        following = walk.advance(page)
        after: sweep.Position | None
        if following is not None:
            after = replace(position, created_before=following.keyset.bound)
        else:
            after = sweep.next_stage(position)
        await self._take(page, after, report)
        self._recent = following

    async def _page_of_ids(self, position: sweep.Position, report: TickReport, deadline: float) -> None:
        ids = await self._ids(position)
        if not ids:
            await self._move(sweep.next_stage(position))
            return
        try:
            answer = await self._ask(sweep.ByIds(ids), deadline)
        except ShopPollerError as error:
            if error.kind not in OF_ONE_ORDER:
                raise
            await self._suspect(ids, position, error)
            return
        if answer is not None:
            asked, page = answer
            await self._take(page, replace(position, after_id=asked.ids[-1]), report)

    async def _suspect(self, ids: Sequence[int], position: sweep.Position, error: ShopPollerError) -> None:
        """One of these may be what the shop cannot answer for: ask for fewer, and in the end go past it."""
        self._per_page = max(1, len(ids) // 2)
        if len(ids) > 1 and error.kind is not ErrorKind.TOO_LARGE:  # that was tried in halves already
            return
        log = self._log.warning if self._edges.changed(str(ids[0]), error.kind) else self._log.debug
        log("an order cannot be swept", order=ids[0], error_type=error.kind, error=str(error))
        await self._move(replace(position, after_id=ids[0]))

    async def _ask(self, position: P, deadline: float) -> tuple[P, Page] | None:
        with anyio.CancelScope(deadline=deadline) as self._asking:
            return await self._fetcher.page(position, deadline, patient=False)
        if anyio.current_time() >= deadline:
            self._per_page = max(1, self._per_page // 2)  # for a shop so slow, or a tick so short
        return None

    async def _ids(self, position: sweep.Position) -> list[int]:
        limit = min(self._per_page, self._fetcher.most_ids)
        if position.stage is sweep.Stage.OPEN:
            return await self._store.open_orders(self._plan.shop, after_id=position.after_id, limit=limit)
        return sorted(order_id for order_id in self._ledger.set_aside if order_id > position.after_id)[:limit]

    async def _take(self, page: Page, after: sweep.Position | None, report: TickReport) -> None:
        state = self._ledger.state
        polled_to = state.cursor_at - self._plan.overlap if state.cursor_at else None
        await self._clerk.decide(page, self._moved(after), report, polled_to=polled_to)

    async def _move(self, after: sweep.Position | None) -> None:
        """Without a page."""
        assert self._ledger.shop_time is not None  # noqa: S101 - is_due looked
        await self._ledger.commit(self._moved(after), Page((), self._ledger.shop_time))

    def _moved(self, after: sweep.Position | None) -> ShopState:
        swept_at = self._now() if after is None else self._ledger.state.swept_at
        return replace(self._ledger.state, sweep=after, swept_at=swept_at)
