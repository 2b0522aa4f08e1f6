"""One tick: ask what changed, decide, commit; again at the next point of the grid, or at a hint.

    learn (once) → walk: fetch → decide → commit, page by page; the cursor follows the shop's clock

Between ticks, page by page: learning what was too much at once, and the sweep.

All of it runs one after the other in one task: an answer is never applied to an order that was touched after
it was asked for.
"""

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from shop_poller.alarm import Alarm
from shop_poller.clerk import Clerk
from shop_poller.core import cursor, learning
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.core.schedule import hinted_tick, next_tick, stale
from shop_poller.fetcher import Fetcher
from shop_poller.learner import Learner
from shop_poller.ledger import Ledger
from shop_poller.logs import Edges, Log
from shop_poller.metrics import Metrics, Stage, StoreUse
from shop_poller.pace import Pace
from shop_poller.plan import PollPlan, TickReport
from shop_poller.ports import PollFailure, Store
from shop_poller.sweeper import Sweeper

PRUNE_EVERY_S = 3600.0
FAILED = {
    Stage.POLL: "polling failed",
    Stage.LEARNING: "learning failed",
    Stage.SWEEP: "the sweep failed",
}


class Poller:
    """Polls one shop.

    Args:
        plan: how.
        ledger: what has been committed.
        fetcher: asks the shop.
        store: is pruned.
        alarm: tells when the shop does not work.
        metrics: of the shop.
        now: our clock, aware UTC.
        pace: when the shop is asked, if it is one of many.

    Attributes:
        polled: there has been a good poll since the start.
        failure: why polls fail; None if the last one was good. It needs no store, which may be what fails.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        ledger: Ledger,
        fetcher: Fetcher,
        store: Store,
        alarm: Alarm,
        metrics: Metrics,
        now: Callable[[], datetime],
        pace: Pace | None = None,
    ) -> None:
        self.polled = False
        self._pace = pace or Pace()
        self.failure: PollFailure | None = None
        self._plan = plan
        self._ledger = ledger
        self._fetcher = fetcher
        self._store = store
        self._alarm = alarm
        self._metrics = metrics
        self._now = now
        self._stop = anyio.Event()
        self._hint = anyio.Event()  # made anew by each tick
        self._began_at = -math.inf
        self._next_at = -math.inf
        self._is_grid = True
        self._starved = False
        self._clerk = Clerk(plan, ledger=ledger, metrics=metrics, now=now)
        self._learner = Learner(ledger=ledger, clerk=self._clerk, fetcher=fetcher)
        self._sweeper = Sweeper(plan, ledger=ledger, clerk=self._clerk, fetcher=fetcher, store=store, now=now)
        self._prune_at = -math.inf
        self._ailment = ErrorKind.INTERNAL
        self._edges = Edges()
        self._log: Log = structlog.get_logger()

    @property
    def next_in_s(self) -> float:
        """Seconds until the shop is asked next, hints aside; 0 while it is, or is about to be."""
        return max(0.0, self._next_at - anyio.current_time(), self.left_alone_s)

    @property
    def left_alone_s(self) -> float:
        """Seconds for which the shop is left alone, by its own wish or after failures; 0 if it is not."""
        return self._fetcher.pause_s()

    def stop(self) -> None:
        """Begin no new tick."""
        self._stop.set()
        self._hint.set()
        self._sweeper.stop()

    def hint(self) -> None:
        """Something may have changed: tick soon, if the shop may be asked. Many hints are one."""
        self._hint.set()
        self._sweeper.interrupt()

    async def run(self) -> None:
        """Tick on the grid, and between at hints, until stopped; first at once, or as the pace says."""
        origin = anyio.current_time() + self._pace.first_in_s

        def next_at() -> float:
            return next_tick(origin, self._plan.interval_s, anyio.current_time())

        number, grid_at = 0, origin
        if self._pace.first_in_s:
            self._next_at = origin
            await self._rest(origin)
        while not self._stop.is_set():
            number += 1
            self._next_at = -math.inf
            with bound_contextvars(tick=number):
                self._pace.due(grid_at if anyio.current_time() >= grid_at else None)
                report = await self.tick(next_at())
                following = next_at()
                self._is_grid, grid_at = self._began_at >= grid_at, following
                if report.error is None and not report.paused_s:
                    await self.between_ticks(TickReport(), following)
            self._next_at = following
            await self._rest(following)

    async def _rest(self, grid_at: float) -> None:
        """Wait until the next tick is due: the grid's, or an earlier one at a hint."""
        with anyio.CancelScope(deadline=grid_at):
            if not self._stop.is_set():  # else the hint that it gave may have been taken for an older one
                await self._hint.wait()
            ready_at = anyio.current_time() + self._fetcher.pause_s()
            with anyio.CancelScope(deadline=hinted_tick(self._began_at, grid_at, ready_at)):
                await self._stop.wait()

    async def tick(self, deadline: float) -> TickReport:
        """Poll once. What goes wrong outside is reported, not raised.

        Args:
            deadline: when the next tick is due, on the event loop's clock; no wait goes beyond it.
        """
        report = TickReport(paused_s=await self._bide(deadline))
        self._began_at = anyio.current_time()
        self._hint = anyio.Event()  # what was hinted until now, this tick finds; what comes now, the next
        if report.paused_s:
            self._pace.due(None)
            await self._alert_if_stale()
            return report
        started = anyio.current_time()
        async with self._failing(Stage.POLL, report):
            await self._poll(report, deadline)
            await self._prune()
        self._metrics.poll_duration.observe(anyio.current_time() - started)
        return report

    async def _bide(self, deadline: float) -> float:
        """Wait while the shop is to be left alone, if that ends before the next tick; else say how long."""
        pause_s = self._fetcher.pause_s()
        if 0 < pause_s < deadline - anyio.current_time():
            self._pace.due(None)  # that it waits is not for want of a turn
            with anyio.move_on_after(pause_s):
                await self._stop.wait()
            pause_s = self._fetcher.pause_s()
        return pause_s

    @asynccontextmanager
    async def _failing(self, what: Stage, report: TickReport) -> AsyncIterator[None]:
        """What goes wrong inside is reported and logged by its edges, not raised."""
        try:
            yield
        except ShopPollerError as error:
            report.error = error
            await self._failed(what, error)
        except Exception as bug:  # noqa: BLE001 - one bad page must not end the watch; it is told in full
            report.error = PermanentError(ErrorKind.INTERNAL, f"a bug, please report it: {bug!r}")
            await self._failed(what, report.error, bug)

    async def _poll(self, report: TickReport, deadline: float) -> None:
        if self._ledger.state.baseline_at is None:
            await self._begin(deadline)
        await self._learner.begin(report, deadline)
        await self._walk(report, deadline)
        self.polled, self.failure = True, None
        if self._edges.changed("poll", ""):
            self._log.info("the shop answers again")
        await self._alarm.clear(self._plan.shop)

    async def _begin(self, deadline: float) -> None:
        """Find the baseline by the shop's clock, from its first answer ever."""
        page = await self._fetcher.fetch(Query(per_page=1, newest_first=True), deadline)
        baseline_at = learning.baseline(
            shop_time=page.shop_time,
            started_at=self._ledger.state.started_at,
            now=self._now(),
            lookback=self._plan.lookback,
        )
        begun = replace(
            self._ledger.state,
            baseline_at=baseline_at,
            cursor_at=baseline_at,
            learning=learning.begin(baseline_at),
        )
        await self._ledger.commit(begun, Page((), page.shop_time))
        self._log.info("first contact; what happens from here on is announced", baseline=str(baseline_at))

    async def between_ticks(self, report: TickReport, deadline: float) -> None:
        """After a good tick: learn what was too much at once, then sweep if it is time.

        Both until the next tick is due or hinted; of learning a page at least.
        """
        async with self._failing(Stage.LEARNING, report):
            while self._learner.is_due and not self._stop.is_set():
                await self._learner.page(report, deadline)
                self._edges.changed("learning", "")
                if self._is_wanted(deadline):
                    break
        swept = TickReport()  # what it reads again is not news, what it finds is
        async with self._failing(Stage.SWEEP, swept):
            # However many hints there are: a sweep that lacked a page has one between two ticks of the grid.
            yields = not (self._is_grid and self._starved)
            while (
                self._sweeper.is_due
                and not self._stop.is_set()
                and not (yields and self._is_wanted(deadline))
            ):
                await self._sweeper.page(swept, deadline, yields=yields)
                self._edges.changed("sweep", "")
                yields = True
            self._starved = yields and self._sweeper.is_due
        report.events += swept.events
        report.learned += swept.learned

    def _is_wanted(self, deadline: float) -> bool:
        """Something more urgent is to be done: the next tick."""
        return self._hint.is_set() or anyio.current_time() >= deadline

    async def _walk(self, report: TickReport, deadline: float) -> None:
        """Go through what changed since the cursor; every page is decided and committed as it comes."""
        assert self._ledger.state.cursor_at is not None  # noqa: S101 - it came with the baseline
        walk: cursor.Walk | None = cursor.start(self._ledger.state.cursor_at, overlap=self._plan.overlap)
        while walk is not None:
            walk, page = await self._fetcher.page(walk, deadline)
            self._metrics.clock_ahead.set((self._now() - page.shop_time).total_seconds())
            step = cursor.step(walk, page, clock_skew=self._plan.clock_skew)
            walk = step.walk
            state = replace(self._ledger.state, cursor_at=step.cursor)
            if walk is None:
                state = replace(state, last_poll_at=self._now())
            await self._clerk.decide(page, state, report, walked=walk is None)

    async def _prune(self) -> None:
        """Drop what is past its time, a bounded part at a time."""
        if anyio.current_time() < self._prune_at or self._ledger.shop_time is None:
            return
        dropped = await self._store.prune(
            self._plan.shop,
            seen_before=min(self._ledger.shop_time, self._now()) - self._plan.retention,
            settled_before=self._now() - self._plan.history,
        )
        if dropped:
            await self._ledger.load()
        else:
            self._prune_at = anyio.current_time() + PRUNE_EVERY_S

    async def _failed(self, what: Stage, error: ShopPollerError, bug: Exception | None = None) -> None:
        if what is Stage.POLL and error.kind is not ErrorKind.CIRCUIT_OPEN:  # not what it suffers from
            self._ailment = error.kind
            # What a bug says may be anything, a buyer's name too: it is for the log, which few read.
            text = f"a bug, please report it: {type(bug).__name__}" if bug is not None else str(error)
            since = self.failure.since if self.failure is not None else self._now()
            self.failure = PollFailure(error.kind, text, since)
        if error.kind in {ErrorKind.STORE, ErrorKind.INTERNAL}:  # failed requests are the fetcher's to count
            self._metrics.poll_errors(error.kind)
        self._metrics.failed(what, error.kind)
        log = self._log.warning if self._edges.changed(what, error.kind) else self._log.debug
        left_alone_s = round(self.left_alone_s) or None
        log(FAILED[what], error_type=error.kind, error=str(error), left_alone_s=left_alone_s, exc_info=bug)
        if what is Stage.POLL and error.kind is ErrorKind.AUTHENTICATION:
            await self._alert()
        else:
            await self._alert_if_stale()

    async def _alert_if_stale(self) -> None:
        if stale(self._ledger.heartbeat_at, self._now(), interval_s=self._plan.interval_s):
            await self._alert()

    async def _alert(self) -> None:
        state = self._ledger.state
        try:
            await self._alarm.raise_for(
                self._plan.shop, cause=self._ailment, since=state.last_poll_at or state.started_at
            )
        except ShopPollerError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._edges.changed("alert", error.kind):
                self._log.error("an alert could not be stored", error=str(error))
