"""One tick: ask what changed, decide, commit; again at the next point of the grid.

    learn (once) → walk: fetch → decide → commit, page by page; the cursor follows the shop's clock

Ticks, learning and pruning run one after the other in one task: an answer is never applied to an order that
was touched after it was asked for.
"""

import math
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from shop_poller.alarm import Alarm
from shop_poller.core import cursor, learning, silence
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.model import KnownOrder, Order, OrderEvent, Page, Query, StatusEvent
from shop_poller.core.schedule import next_tick, stale
from shop_poller.core.transition import DEFAULT_UNPAID, Policy, decide, learn
from shop_poller.fetcher import Fetcher
from shop_poller.ledger import Ledger
from shop_poller.ports import ShopState, Store
from shop_poller.telemetry import Edges, Log, Metrics

LEARN_AT_ONCE = 2000
PRUNE_EVERY_S = 3600.0


@dataclass(frozen=True, slots=True)
class PollPlan:
    """How a shop is polled.

    Attributes:
        lookback: how long before the first start orders are announced.
        overlap: what is re-read at every tick.
        clock_skew: how far the shop's stamps may lag behind its Date header.
        retention: how long an order's record is kept after its last change.
        history: how long deliveries that are over are remembered.
        status_events: what is told of orders that come into a status, besides what always is.
        overdue_after: how long an order may wait to be paid before that is told; 0: for ever.
        silence_after: how long there may be no order before that is told; 0: for ever.
    """

    shop: str
    interval_s: float = 60.0
    lookback: timedelta = timedelta(hours=1)
    overlap: timedelta = timedelta(minutes=2)
    clock_skew: timedelta = timedelta(minutes=15)
    retention: timedelta = timedelta(days=90)
    history: timedelta = timedelta(days=30)
    unpaid_statuses: frozenset[str] = DEFAULT_UNPAID
    cancelled_unpaid: bool = True
    status_events: Mapping[str, StatusEvent] = field(default_factory=dict)
    overdue_after: timedelta = timedelta(0)
    silence_after: timedelta = timedelta(0)


@dataclass(slots=True)
class TickReport:
    """What a tick did.

    Attributes:
        orders: read, re-read ones included.
        events: decided.
        learned: recorded silently.
        error: why it ended early; None if it was a good poll.
        paused_s: nothing was asked, because the shop is to be left alone for so many seconds more.
    """

    orders: int = 0
    events: int = 0
    learned: int = 0
    error: ShopPollerError | None = None
    paused_s: float = 0.0


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

    Attributes:
        polled: there has been a good poll since the start.
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
    ) -> None:
        self.polled = False
        self._plan = plan
        self._ledger = ledger
        self._fetcher = fetcher
        self._store = store
        self._alarm = alarm
        self._metrics = metrics
        self._now = now
        self._stop = anyio.Event()
        self._lesson: learning.Lesson | None = None
        self._prune_at = -math.inf
        self._ailment = ErrorKind.INTERNAL
        self._edges = Edges()
        self._log: Log = structlog.get_logger()

    def stop(self) -> None:
        """Begin no new tick."""
        self._stop.set()

    async def run(self) -> None:
        """Tick on the grid until stopped; the first tick starts at once."""
        origin = anyio.current_time()

        def next_at() -> float:
            return next_tick(origin, self._plan.interval_s, anyio.current_time())

        number = 0
        while not self._stop.is_set():
            number += 1
            with bound_contextvars(tick=number):
                report = await self.tick(next_at())
                if report.error is None and not report.paused_s:
                    await self.learn_on(TickReport(), next_at())
            with anyio.CancelScope(deadline=next_at()):
                await self._stop.wait()

    async def tick(self, deadline: float) -> TickReport:
        """Poll once. What goes wrong outside is reported, not raised.

        Args:
            deadline: when the next tick is due, on the event loop's clock; no wait goes beyond it.
        """
        report = TickReport(paused_s=await self._bide(deadline))
        if report.paused_s:
            await self._alert_if_stale()
            return report
        started = anyio.current_time()
        async with self._failing("poll", report):
            await self._poll(report, deadline)
            await self._prune()
        self._metrics.poll_duration.observe(anyio.current_time() - started)
        return report

    async def _bide(self, deadline: float) -> float:
        """Wait while the shop is to be left alone, if that ends before the next tick; else say how long."""
        pause_s = self._fetcher.pause_s()
        if 0 < pause_s < deadline - anyio.current_time():
            with anyio.move_on_after(pause_s):
                await self._stop.wait()
            pause_s = self._fetcher.pause_s()
        return pause_s

    @asynccontextmanager
    async def _failing(self, what: str, report: TickReport) -> AsyncIterator[None]:
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
        while (lessons := self._ledger.state.learning) is not None and lessons.count < LEARN_AT_ONCE:
            await self._learn_page(report, deadline)
        await self._walk(report, deadline)
        self.polled = True
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

    async def learn_on(self, report: TickReport, deadline: float) -> None:
        """After a good tick learn what was too much at once, a page at least, until the next is due."""
        async with self._failing("learning", report):
            while self._ledger.state.learning is not None and not self._stop.is_set():
                await self._learn_page(report, deadline)
                self._edges.changed("learning", "")
                if anyio.current_time() >= deadline:
                    break

    async def _learn_page(self, report: TickReport, deadline: float) -> None:
        """Record one page of the orders that were there before us."""
        state = self._ledger.state
        assert state.learning is not None  # noqa: S101 - the callers looked
        assert state.baseline_at is not None  # noqa: S101 - learning begins with it
        lesson = self._lesson or learning.lesson(state.learning, state.baseline_at)
        lesson, page = await self._fetcher.page(lesson, deadline)
        orders = _readable(page)
        known = await self._ledger.known(orders)
        policy = self._policy(page, state)
        fresh = [learn(order, policy) for order in orders if order.id not in known]
        following = learning.advance(lesson, page, learned=len(fresh))
        position = following.learning if following else None
        await self._ledger.commit(replace(state, learning=position), page, known=fresh)
        self._lesson = following
        self._count(report, page, learned=len(fresh))
        self._log.info(
            "learning the orders that were there before",
            phase=position.phase if position else "done",
            orders=lesson.learning.count + len(fresh),
        )

    async def _walk(self, report: TickReport, deadline: float) -> None:
        """Go through what changed since the cursor; every page is decided and committed as it comes."""
        assert self._ledger.state.cursor_at is not None  # noqa: S101 - it came with the baseline
        walk: cursor.Walk | None = cursor.start(self._ledger.state.cursor_at, overlap=self._plan.overlap)
        while walk is not None:
            walk, page = await self._fetcher.page(walk, deadline)
            step = cursor.step(walk, page, clock_skew=self._plan.clock_skew)
            walk = step.walk
            state = self._listen(page, replace(self._ledger.state, cursor_at=step.cursor))
            silent_since = None
            if walk is None:
                state = replace(state, last_poll_at=self._now())
                state, silent_since = self._silence(page, state)
            await self._decide(report, page, state, silent_since)

    def _listen(self, page: Page, state: ShopState) -> ShopState:
        """Note when the newest order was paid."""
        newest = silence.newest_order(
            state.newest_order_at,
            _readable(page),
            policy=self._policy(page, state),
            shop_time=page.shop_time,
        )
        return replace(state, newest_order_at=newest)

    def _silence(self, page: Page, state: ShopState) -> tuple[ShopState, datetime | None]:
        """All is read: whether there is a silence to tell, and since when."""
        if not self._plan.silence_after or state.learning is not None:
            return state, None
        assert state.baseline_at is not None  # noqa: S101 - found before anything is decided
        since = silence.untold(
            newest_order_at=state.newest_order_at,
            baseline_at=state.baseline_at,
            told_at=state.silence_told_at,
            shop_time=page.shop_time,
            threshold=self._plan.silence_after,
        )
        return replace(state, silence_told_at=since or state.silence_told_at), since

    async def _decide(
        self, report: TickReport, page: Page, state: ShopState, silent_since: datetime | None
    ) -> None:
        """Decide on a page of orders, and commit what follows."""
        orders = _readable(page)
        known = await self._ledger.known(orders)
        policy = self._policy(page, state)
        changed: dict[int, KnownOrder] = {}
        events: list[OrderEvent] = []
        learned = 0
        for order in orders:
            decision = decide(known.get(order.id), order, policy)
            events += decision.events
            learned += decision.learned
            if decision.known != known.get(order.id):
                known[order.id] = changed[order.id] = decision.known
        await self._ledger.commit(
            state, page, known=changed.values(), events=events, silent_since=silent_since
        )
        report.events += len(events) + (silent_since is not None)
        self._count(report, page, learned=learned)

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

    async def _failed(self, what: str, error: ShopPollerError, bug: Exception | None = None) -> None:
        if error.kind is not ErrorKind.CIRCUIT_OPEN:  # that is not what it suffers from
            self._ailment = error.kind
        if error.kind in {ErrorKind.STORE, ErrorKind.INTERNAL}:  # failed requests are the fetcher's to count
            self._metrics.poll_errors(error.kind)
        log = self._log.warning if self._edges.changed(what, error.kind) else self._log.debug
        text = "polling failed" if what == "poll" else "learning failed"
        log(text, error_type=error.kind, error=str(error), exc_info=bug)
        if error.kind is ErrorKind.AUTHENTICATION:
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
            if self._edges.changed("alert", error.kind):
                self._log.error("an alert could not be stored", error=str(error))

    def _policy(self, page: Page, state: ShopState) -> Policy:
        assert state.baseline_at is not None  # noqa: S101 - found before anything is decided
        return Policy(
            # Records older than the retention may be gone: such orders are no news when they turn up. Of the
            # two clocks the one that is behind counts, or a single wrong one would make all of them old.
            baseline_at=max(state.baseline_at, min(page.shop_time, self._now()) - self._plan.retention),
            unpaid_statuses=self._plan.unpaid_statuses,
            cancelled_unpaid=self._plan.cancelled_unpaid,
            status_events=self._plan.status_events,
            overdue_before=page.shop_time - self._plan.overdue_after if self._plan.overdue_after else None,
            overdue_after=self._plan.overdue_after,
        )

    def _count(self, report: TickReport, page: Page, *, learned: int) -> None:
        report.orders += len(page.items)
        report.learned += learned
        self._metrics.learned.inc(learned)
        for order in _readable(page):
            self._metrics.order(order.status)


def _readable(page: Page) -> list[Order]:
    return [item for item in page.items if isinstance(item, Order)]
