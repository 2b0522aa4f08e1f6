"""Polls one shop. A tick fetches changes, decides and commits. Ticks run at fixed intervals and at triggers.

    initial import (once) → walk: fetch → decide → commit, page by page; the cursor follows the shop's clock

Between ticks, page by page: the rest of the initial import, and the sweep.

All of this runs sequentially in one task. So no other task changes the record of an order between a request
and the handling of its response.
"""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from shop_poller import INTERNAL_ERROR
from shop_poller.alerts import AlertManager
from shop_poller.core import cursor, import_walk
from shop_poller.core.clocks import AGREE
from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.core.reach import Polls
from shop_poller.core.schedule import PROBE_EVERY_S, PollTrigger, next_tick, triggered_tick
from shop_poller.core.sweep import ByIds
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, Stage
from shop_poller.polling.digest_maker import DigestMaker
from shop_poller.polling.initial_import import InitialImport
from shop_poller.polling.limiter import PollSchedule
from shop_poller.polling.order_processor import OrderProcessor
from shop_poller.polling.outage import Outage
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.state_writer import StateWriter
from shop_poller.polling.sweeper import Sweeper
from shop_poller.ports import OrderState, PollFailure, RefundList, Retention

PRUNE_EVERY_S = 3600.0
"""How long to wait before looking for expired rows again, after none were left."""
PRUNE_STEPS = 50
"""The most consecutive steps of pruning after a tick.

Each step deletes at most PRUNE_LIMIT rows of each kind, see stores/bounds.py.
"""
FAILURE_EVENTS = {
    Stage.POLL: "polling failed",
    Stage.IMPORT: "initial import failed",
    Stage.SWEEP: "the sweep failed",
    Stage.DIGEST: "a digest cannot be made; retrying",
}


class Poller:
    """Polls one shop.

    Args:
        plan: how the shop is polled.
        state_writer: the committed state.
        fetcher: reads from the shop.
        orders: the stored state of orders.
        retention: deletes what is old.
        alert_manager: alerts administrators when the shop does not work.
        metrics: of the shop.
        clock: our clock.
        schedule: when the shop is polled, if it is one of many.
        refunds: the shop's own list of refunds; None if there is none.
        digest_maker: makes the digests that are due; None if no sink gets any.

    Attributes:
        polled: there has been a successful poll since the start.
        outage: why polls fail, while they do.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        state_writer: StateWriter,
        fetcher: Fetcher,
        orders: OrderState,
        retention: Retention,
        alert_manager: AlertManager,
        metrics: Metrics,
        clock: ClockWatch,
        schedule: PollSchedule | None = None,
        refunds: RefundList | None = None,
        digest_maker: DigestMaker | None = None,
    ) -> None:
        self.polled = False
        self._digest_maker = digest_maker
        self._clock = clock
        self._now = now = clock.now
        self._schedule = schedule or PollSchedule()
        self._plan = plan
        self._state_writer = state_writer
        self._fetcher = fetcher
        self._retention = retention
        self.outage = Outage(
            plan, state_writer=state_writer, alert_manager=alert_manager, metrics=metrics, now=now
        )
        self._metrics = metrics
        self._stop = anyio.Event()
        self._trigger: PollTrigger | None = None  # since the last tick began; OWNER replaces WEBHOOK
        self._wait_ended = anyio.Event()  # ends a wait; replaced by each wait
        self._began_at = -math.inf
        self._next_at = -math.inf
        self._was_regular_tick = True
        self._order_processor = OrderProcessor(plan, state_writer=state_writer, metrics=metrics, now=now)
        self._initial_import = InitialImport(
            plan.meanings, state_writer=state_writer, order_processor=self._order_processor, fetcher=fetcher
        )
        self._sweeper = Sweeper(
            plan,
            state_writer=state_writer,
            order_processor=self._order_processor,
            fetcher=fetcher,
            orders=orders,
            now=now,
            refunds=refunds,
        )
        self._prune_at = -math.inf
        self._read_before = cursor.ReadBefore()
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    @property
    def failure(self) -> PollFailure | None:
        """Why polls fail; None if the last one succeeded. This needs no store, which may fail too."""
        return self.outage.failure

    @property
    def is_circuit_open(self) -> bool:
        """Whether the shop is paused after failures."""
        return self._fetcher.is_circuit_open

    @property
    def polls(self) -> Polls:
        """Successes and failures of requests to the shop since this process took it."""
        return self._fetcher.polls

    @property
    def next_in_s(self) -> float:
        """Seconds until the next poll, without triggers; 0 if it runs or is about to."""
        return max(0.0, self._next_at - anyio.current_time(), self.pause_s)

    @property
    def pause_s(self) -> float:
        """Seconds until a pause ends, which failures or the shop caused; 0 if there is none."""
        return self._fetcher.pause_s()

    def stop(self) -> None:
        """Start no more ticks."""
        self._stop.set()
        self._wait_ended.set()
        self._sweeper.stop()

    def trigger(self, trigger: PollTrigger = PollTrigger.WEBHOOK) -> None:
        """Tick soon, if the shop may be polled: something may have changed. Several triggers count as one.

        Args:
            trigger: its origin, which determines the pauses that it ends; see schedule.ends_pause.
        """
        if self._trigger is not PollTrigger.OWNER:
            self._trigger = trigger
        self._fetcher.end_pause(trigger)
        self._wait_ended.set()

    async def run(self) -> None:
        """Tick at every interval and at triggers, until stopped; the first is at once or as scheduled."""
        try:
            await self._tick_until_stopped()
        finally:
            await self._sweeper.aclose()

    async def _tick_until_stopped(self) -> None:
        origin = anyio.current_time() + self._schedule.first_in_s

        def next_at() -> float:
            return next_tick(origin, self._plan.interval_s, anyio.current_time())

        tick_number, regular_at = 0, origin
        if self._schedule.first_in_s:
            await self._wait_for_next_tick(origin)
        while not self._stop.is_set():
            tick_number += 1
            self._next_at = -math.inf
            with bound_contextvars(tick=tick_number):
                self._schedule.note_due(regular_at if anyio.current_time() >= regular_at else None)
                report = await self.tick(next_at())
                next_regular_at = next_at()
                self._was_regular_tick, regular_at = self._began_at >= regular_at, next_regular_at
                if report.error is None and not report.paused_s:
                    await self.between_ticks(TickReport(), next_regular_at)
            await self._wait_for_next_tick(next_regular_at, probe_at=self._probe_at(report))

    def _probe_at(self, report: TickReport) -> float:
        """Return when to retry, on the event loop's clock.

        A minute after the last request if the shop is unavailable; otherwise infinity, because the regular
        tick is soon enough.
        """
        is_unavailable = report.error is not None and report.error.kind is ErrorKind.UNAVAILABLE
        return self._fetcher.requested_at + PROBE_EVERY_S if is_unavailable else math.inf

    async def _wait_for_next_tick(self, regular_at: float, probe_at: float = math.inf) -> None:
        """Wait until the next tick is due: the regular one, or an earlier one at a trigger or a probe."""
        self._next_at = min(regular_at, probe_at)
        while not self._stop.is_set():
            tick_at, now = regular_at, anyio.current_time()
            if self._trigger is not None:
                self._fetcher.end_pause(self._trigger)  # the pause began after the trigger
                tick_at = triggered_tick(self._began_at, regular_at, now + self._fetcher.pause_s())
            elif probe_at < regular_at:
                tick_at = triggered_tick(self._began_at, regular_at, max(now, probe_at))
            if tick_at <= now:
                return
            await self._wait_until(tick_at)

    async def _wait_until(self, instant: float) -> None:
        """Wait until then, or until something ends the wait."""
        self._wait_ended = anyio.Event()
        with anyio.CancelScope(deadline=instant):
            await self._wait_ended.wait()

    async def tick(self, deadline: float) -> TickReport:
        """Poll once. Every error, even a bug, is put into the report; none is raised.

        Args:
            deadline: when the next tick is due, on the event loop's clock; no wait exceeds it.
        """
        report = await self._poll_once(deadline)
        if self._digest_maker is not None:
            async with self._errors_reported(Stage.DIGEST, TickReport()):
                await self._digest_maker.make_due(self._state_writer.state, self._state_writer.shop_time)
                self._changes.changed(Stage.DIGEST, "")
        return report

    async def _poll_once(self, deadline: float) -> TickReport:
        report = TickReport(paused_s=await self._wait_out_pause(deadline))
        self._began_at = anyio.current_time()
        self._trigger = None  # this tick covers earlier triggers; the next one covers later triggers
        if report.paused_s:
            self._schedule.note_due(None)
            await self.outage.alert_if_due()  # storing it may have failed before
            return report
        started = anyio.current_time()
        async with self._errors_reported(Stage.POLL, report):
            await self._poll(report, deadline)
            await self._prune(deadline)
        self._metrics.poll_duration.observe(anyio.current_time() - started)
        return report

    async def _wait_out_pause(self, deadline: float) -> float:
        """Wait for the end of a pause, if it ends before the next tick; else return its remaining seconds."""
        while 0 < (pause_s := self._fetcher.pause_s()) < deadline - anyio.current_time():
            self._schedule.note_due(None)  # the tick is late because of the pause, not for lack of a slot
            if self._stop.is_set():
                break
            await self._wait_until(anyio.current_time() + pause_s)
        return self._fetcher.pause_s()

    @asynccontextmanager
    async def _errors_reported(self, stage: Stage, report: TickReport) -> AsyncIterator[None]:
        """Put an error of the context into the report, count and log it; do not raise it."""
        try:
            yield
        except ShopPollerError as error:
            report.error = error
            await self._report_failure(stage, error)
        except Exception as bug:  # noqa: BLE001 - one bad page must not end the watch; it is logged in full
            report.error = PermanentError(ErrorKind.INTERNAL, f"{INTERNAL_ERROR}: {bug!r}")
            await self._report_failure(stage, report.error, bug)

    async def _poll(self, report: TickReport, deadline: float) -> None:
        if self._state_writer.state.baseline_at is None:
            await self._set_baseline(deadline)
        self._restore_lost_cursor()
        await self._initial_import.begin(report, deadline)
        await self._walk(report, deadline)
        self.polled = True
        if self._changes.changed(Stage.POLL, ""):
            self._log.info("the shop answers again")
        self._metrics.poll_failing(None)
        await self.outage.over()

    async def _set_baseline(self, deadline: float) -> None:
        """Set the baseline to the shop's clock, at its very first response."""
        page = await self._fetcher.fetch(Query(per_page=1, newest_first=True), deadline)
        self._clock.note_shop_time(page.shop_time)
        baseline_at = import_walk.baseline(
            shop_time=page.shop_time,
            started_at=self._state_writer.state.started_at,
            now=self._now(),
            lookback=self._plan.lookback,
        )
        state = replace(
            self._state_writer.state,
            baseline_at=baseline_at,
            cursor_at=baseline_at,
            tallied_since=baseline_at,
            import_position=import_walk.begin(baseline_at),
        )
        await self._state_writer.commit(state, Page((), page.shop_time))
        self._log.info("first contact; events from now on are announced", baseline=str(baseline_at))

    def _restore_lost_cursor(self) -> None:
        """If the store has lost its cursor but not its baseline, read orders again from an earlier time."""
        state = self._state_writer.state
        if state.cursor_at is None and state.baseline_at is not None:
            restored = cursor.cursor_after_loss(state.baseline_at, state.last_poll_at)
            self._state_writer.state = replace(state, cursor_at=restored)
            self._log.error("the stored cursor is missing; orders are read again", since=str(restored))

    async def between_ticks(self, report: TickReport, deadline: float) -> None:
        """After a successful tick: continue the initial import, then sweep if it is time.

        Both stop when the next tick is due or triggered, but not in the middle of a request. The import reads
        at least one page.
        """
        await self.read_held_refunds(report, deadline, waits=False)
        async with self._errors_reported(Stage.IMPORT, report):
            while self._initial_import.is_due and not self._stop.is_set():
                await self._initial_import.page(report, deadline)
                self._changes.changed(Stage.IMPORT, "")
                if self._next_tick_is_due(deadline):
                    break
        sweep_report = TickReport()  # a separate report: orders read again do not count as read
        async with self._errors_reported(Stage.SWEEP, sweep_report):
            has_swept = False
            while self._sweeper.is_due and not self._stop.is_set():
                left_s = deadline - anyio.current_time()
                if not self._sweeper.may_ask(left_s, triggered=self._trigger is not None):
                    break
                await self._sweeper.page(sweep_report)
                self._changes.changed(Stage.SWEEP, "")
                has_swept = True
            if self._was_regular_tick and not has_swept and self._sweeper.is_due:
                self._sweeper.put_off()
        report.events += sweep_report.events
        report.imported += sweep_report.imported
        await self.read_held_refunds(report, deadline)

    async def read_held_refunds(self, report: TickReport, deadline: float, *, waits: bool = True) -> None:
        """Read orders again whose refunds have been held for REFUND_HOLD.

        Args:
            report: counts what was done.
            deadline: no wait exceeds it, on the event loop's clock.
            waits: wait for refunds that have not been held long enough; if false, skip their orders.
        """
        held_report = TickReport()
        held_refunds = self._order_processor.held_refunds
        async with self._errors_reported(Stage.SWEEP, held_report):
            while (
                (due_at := held_refunds.due_at) is not None
                and self._trigger is None
                and not self._stop.is_set()
            ):
                if anyio.current_time() < due_at:
                    if not waits or due_at >= deadline:
                        break
                    await self._wait_until(due_at)
                    continue
                ids = held_refunds.due(due_at, min(MAX_PER_PAGE, self._fetcher.most_ids))
                requested, page = await self._fetcher.page(ByIds(ids), deadline, patient=False)
                await self._order_processor.decide(page, self._state_writer.state, held_report)
                held_refunds.let_go(set(requested.ids) - {order.id for order in page.orders})
        report.events += held_report.events

    def _next_tick_is_due(self, deadline: float) -> bool:
        """Whether the next tick is more urgent."""
        return self._trigger is not None or anyio.current_time() >= deadline

    async def _walk(self, report: TickReport, deadline: float) -> None:
        """Read all changes since the cursor; decide and commit each page."""
        assert self._state_writer.state.cursor_at is not None  # noqa: S101 - set with the baseline
        overlap = self._plan.overlap
        read = self._read_before.rewound_to(self._order_processor.held_refunds.first_modified_at)
        walk: cursor.ModifiedWalk | None = cursor.start(
            self._state_writer.state.cursor_at, overlap=overlap, read=read
        )
        while walk is not None:
            walk, page = await self._fetcher.page(walk, deadline)
            self._clock.note_shop_time(page.shop_time)
            if not self._read_before.holds_at(page.shop_time):
                self._read_before = cursor.ReadBefore()
                walk = cursor.start(self._state_writer.state.cursor_at, overlap=overlap)
                continue
            step = cursor.step(walk, page, clock_skew=self._plan.clock_skew)
            requested, walk = walk, step.walk
            state = replace(self._state_writer.state, cursor_at=step.cursor)
            poll_ended_s: float | None = None
            if walk is None:
                poll_ended_s, state = anyio.current_time(), replace(state, last_poll_at=self._now())
            await self._order_processor.decide(page, state, report, walked=walk is None)
            if walk is None:
                self._clock.mark(self._state_writer.heartbeat_at, at=poll_ended_s)
                self._read_before = self._read_before.after(requested, page, overlap=overlap)

    async def _prune(self, deadline: float) -> None:
        """Delete expired rows. Stop at half of the time until the next tick, and continue at a later tick."""
        if anyio.current_time() < self._prune_at or self._state_writer.shop_time is None:
            return
        days_at = self._clock.check().days_at
        if self._changes.changed("prune", "" if days_at else "held") and days_at is None:
            self._log.warning("nothing old is dropped until the clocks agree and are steady for a day")
        if days_at is None:
            return
        now = self._now()
        # Times written by a clock that was ahead are set to now, or these rows would never expire.
        await self._retention.redate(
            self._plan.shop, after=max(now, self._state_writer.shop_time) + AGREE, to=now
        )
        seen_before, finished_before = days_at - self._plan.retention, days_at - self._plan.history
        has_dropped, until = False, (anyio.current_time() + deadline) / 2
        for _ in range(PRUNE_STEPS):
            if not await self._retention.prune(
                self._plan.shop, seen_before=seen_before, finished_before=finished_before
            ):
                self._prune_at = anyio.current_time() + PRUNE_EVERY_S
                break
            has_dropped = True
            if self._next_tick_is_due(until) or self._stop.is_set():
                break
        if has_dropped:
            await self._state_writer.load()

    async def _report_failure(
        self, stage: Stage, error: ShopPollerError, bug: Exception | None = None
    ) -> None:
        """Count and log a failure, and pass a failed poll to `outage`, which may alert."""
        if error.kind in {ErrorKind.STORE, ErrorKind.INTERNAL}:  # the fetcher counts failed requests
            self._metrics.poll_errors(error.kind)
        self._metrics.failed(stage, error.kind)
        if stage is Stage.POLL:
            self._metrics.poll_failing(error.kind)
        log = self._log.warning if self._changes.changed(stage, error.kind) else self._log.debug
        pause_s = round(self.pause_s) or None
        log(FAILURE_EVENTS[stage], error_type=error.kind, error=str(error), pause_s=pause_s, exc_info=bug)
        if stage is Stage.POLL:
            # A bug's text may contain anything, even a buyer's name. It belongs in the log, which few read.
            text = f"{INTERNAL_ERROR}: {type(bug).__name__}" if bug is not None else error.text
            requested_s = anyio.current_time() - max(self._fetcher.requested_at, self._began_at)
            last_good = self._state_writer.heartbeat_at
            attempted_at = last_good + self._clock.elapsed(last_good) - timedelta(seconds=requested_s)
            await self.outage.failed(error.kind, text, attempted_at=attempted_at)
