"""Reads the shop's list of refunds at each sweep, and names the orders that must be read again.

core/refunds.py explains why. The list is an extra: its failures raise no alert, open no circuit, and delay
neither ticks nor the rest of the sweep.
"""

import math
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

import anyio
import structlog

from shop_poller.core import refunds
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.refunds import RefundPage, RefundRow, RefundWalk
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.polling.plan import PollPlan
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import OrderState, RefundList

MAX_PAGES = 100
"""Per sweep; the rest follows in the next sweep."""
MAX_TRIES = 5
"""How often an order is read again if it does not show the refund: it was deleted, or we cannot see it."""
MAX_REMEMBERED = 10_000
LATER_S = 24 * 3600.0
"""When a list that does not exist is requested again."""

Awaited = Callable[[Awaitable[RefundPage]], Awaitable[RefundPage | None]]


@dataclass(frozen=True, slots=True)
class FoundRefunds:
    """The result of one response.

    Attributes:
        rows: refunds that are not known yet; their orders must be read again.
        reached: how far the list is read after that.
    """

    rows: Sequence[RefundRow]
    reached: datetime

    @property
    def order_ids(self) -> list[int]:
        """The orders to read again, each once."""
        return sorted({row.order_id for row in self.rows})


class _NotReadError(Exception):
    """The list cannot be read; the cause may be a bug of ours."""

    def __init__(self, error: ShopPollerError, bug: Exception | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.bug = bug


class RefundListReader:
    """Reads the list, page by page.

    Args:
        plan: how often, and how far back.
        state_writer: the committed state.
        orders: has the known refunds.
        source: the list; None if the shop has none.
        now: our clock.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        state_writer: StateWriter,
        orders: OrderState,
        source: RefundList | None,
        now: Callable[[], datetime],
    ) -> None:
        self._plan = plan
        self._state_writer = state_writer
        self._orders = orders
        self._source = source
        self._now = now
        self._not_before = -math.inf
        self._failures = 0
        self._unfinished: RefundWalk | None = None  # a walk with too many pages for one sweep
        self._tries: Counter[int] = Counter()
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def pages(self, awaited: Awaited) -> AsyncGenerator[FoundRefunds | None]:
        """Read the list to its end, if it exists and is due.

        Args:
            awaited: awaits a response; returns None if we are stopping.

        Yields:
            The result of each response; None if the list cannot be read.

        Raises:
            TemporaryError: STORE; RATE_LIMIT, the sweep must end.
        """
        if self._source is None or anyio.current_time() < self._not_before:
            return
        self._not_before = anyio.current_time() + self._plan.sweep_every.total_seconds()
        walk: RefundWalk | None = self._unfinished or self._begin()
        self._unfinished = None
        pages = 0
        try:
            while walk is not None and pages < MAX_PAGES:
                page = await self._ask(self._source, walk, awaited)
                if page is None:
                    return
                yield await self._found(walk, page)
                walk, pages = walk.advance(page), pages + 1
        except _NotReadError as failure:
            self._failed(failure.error, failure.bug)
            if failure.error.kind is ErrorKind.RATE_LIMIT:  # the pause concerns the whole shop
                raise failure.error from None
            yield None
        else:
            self._unfinished = walk
            self._worked()
        finally:
            await self._source.aclose()  # it would be idle for an hour

    async def _ask(self, source: RefundList, walk: RefundWalk, awaited: Awaited) -> RefundPage | None:
        """Send one request; return None if we are stopping.

        Raises:
            _NotReadError: the list cannot be read.
        """
        try:
            page = await awaited(source.fetch(walk.query()))
        except ShopPollerError as error:
            raise _NotReadError(error) from None
        except Exception as bug:
            raise _NotReadError(PermanentError(ErrorKind.INTERNAL, repr(bug)), bug) from bug
        if page is not None and walk.is_ignored_by(page):
            text = "the shop sends refunds outside the requested period"
            raise _NotReadError(TemporaryError(ErrorKind.PROTOCOL, text))
        return page

    def looked_at(self, found: FoundRefunds, order_ids: Collection[int]) -> None:
        """Note that some orders of a response were read again."""
        if len(self._tries) > MAX_REMEMBERED:
            self._tries.clear()
        self._tries.update(row.id for row in found.rows if row.order_id in order_ids)

    def _begin(self) -> RefundWalk:
        assert self._state_writer.shop_time is not None  # noqa: S101 - a sweep comes after a tick
        return refunds.begin(
            reached=self._state_writer.state.refunds_at,
            shop_time=self._state_writer.shop_time,
            window=self._plan.sweep_window,
            baseline=self._baseline(),
        )

    async def _found(self, walk: RefundWalk, page: RefundPage) -> FoundRefunds:
        assert self._state_writer.shop_time is not None  # noqa: S101 - a sweep comes after a tick
        fresh = walk.fresh(page)
        order_ids = {row.order_id for row in fresh}
        known = await self._orders.known(self._plan.shop, order_ids) if order_ids else {}
        rows = refunds.to_look_at(fresh, known, baseline=self._baseline())
        return FoundRefunds(
            rows=[row for row in rows if self._tries[row.id] < MAX_TRIES],
            reached=refunds.reached(
                walk, page, so_far=self._state_writer.state.refunds_at, shop_time=self._state_writer.shop_time
            ),
        )

    def _baseline(self) -> datetime:
        state, shop_time = self._state_writer.state, self._state_writer.shop_time
        assert state.baseline_at is not None  # noqa: S101 - a sweep comes after a tick
        assert shop_time is not None  # noqa: S101 - likewise
        return self._plan.policy(state.baseline_at, shop_time=shop_time, now=self._now()).baseline_at

    def _worked(self) -> None:
        self._failures = 0
        if self._changes.changed("refunds", ""):
            self._log.info("the shop's list of refunds can be read again")

    def _failed(self, error: ShopPollerError, bug: Exception | None = None) -> None:
        """Pause the list: for a day if it was never read, else longer each time, up to a day."""
        self._failures += 1
        wait_s = self._plan.sweep_every.total_seconds() * 2.0 ** min(self._failures - 1, 30)
        is_no_list = isinstance(error, PermanentError) or error.kind is ErrorKind.PROTOCOL
        if is_no_list and self._state_writer.state.refunds_at is None:
            wait_s = LATER_S
        requested_s = (error.retry_after_s or 0.0) if isinstance(error, TemporaryError) else 0.0
        wait_s = min(max(wait_s, requested_s), LATER_S)
        self._not_before = anyio.current_time() + wait_s
        log = self._log.info if self._changes.changed("refunds", error.kind) else self._log.debug
        log(
            "the shop's list of refunds cannot be read; refunds that do not change a date are missed",
            error_type=error.kind,
            error=str(error),
            again_in_s=round(wait_s),
            exc_info=bug,
        )
