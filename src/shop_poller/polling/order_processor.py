"""Decides on pages of orders, from any origin, and has the state writer commit the result."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

import structlog

from shop_poller.core import silence
from shop_poller.core.model import KnownOrder, Order, OrderEvent, Page
from shop_poller.core.sweep import contradicts, missed
from shop_poller.core.transition import Policy, decide, importable
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.held_refunds import HeldRefunds
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import ShopState


class OrderProcessor:
    """Processes pages of the walk, the initial import and the sweep, one at a time.

    Args:
        plan: how the shop is polled.
        state_writer: the committed state.
        metrics: of the shop.
        now: our clock, aware UTC.

    Attributes:
        held_refunds: refunds that are neither announced nor recorded yet; the caller reads their orders
            again.
    """

    def __init__(
        self, plan: PollPlan, *, state_writer: StateWriter, metrics: Metrics, now: Callable[[], datetime]
    ) -> None:
        self._plan = plan
        self._state_writer = state_writer
        self._metrics = metrics
        self._now = now
        self.held_refunds = HeldRefunds()
        self._log: Log = structlog.get_logger()

    async def decide(
        self,
        page: Page,
        state: ShopState,
        report: TickReport,
        *,
        walked: bool = False,
        polled_to: datetime | None = None,
        is_confirmed: bool = False,
    ) -> list[Order]:
        """Decide on a page of orders, and commit the result.

        Args:
            page: the response of the shop.
            state: the position of polling after it.
            report: counts what was done.
            walked: it is the last page of a walk: silence can be detected now.
            polled_to: of a sweep: polling should have shown all changes up to here.
            is_confirmed: of a sweep: a second request showed the same, so it counts whatever its date is.

        Returns:
            Orders of a sweep that contradict the known state and are dated before it: to be confirmed.

        Raises:
            TemporaryError: STORE; nothing was changed.
        """
        known = await self._state_writer.known(page.orders)
        policy = replace(
            self._policy(page, state), shop_time=page.shop_time, hold_ended=self.held_refunds.hold_ended()
        )
        state, silent_since = self._listen(page, state, policy, walked=walked)
        changed: dict[int, KnownOrder] = {}
        events: list[OrderEvent] = []
        found: list[Order] = []
        doubtful: list[Order] = []
        held_orders: dict[int, Order | None] = {}
        imported = 0
        for order in page.orders:
            before = known.get(order.id)
            decision = decide(before, order, policy)
            if polled_to is not None and not is_confirmed:
                if contradicts(before, order, decision):
                    doubtful.append(order)
                    continue
                if before is not None and order.modified_at < before.modified_at:
                    continue  # only its date differs from the known state
            held_orders[order.id] = order if decision.held_refund_ids else None
            events += decision.events
            imported += decision.imported
            if decision.known != before:
                known[order.id] = changed[order.id] = decision.known
            if polled_to is not None and missed(before, order, decision, polled_to=polled_to):
                found.append(order)
        if polled_to is None:
            state = self.held_refunds.hold_back(state, held_orders.values())
        await self._state_writer.commit(
            state, page, known=changed.values(), events=events, silent_since=silent_since
        )
        self.held_refunds.note(held_orders, walked=polled_to is None)
        report.events += len(events) + (silent_since is not None)
        self._count(report, page, imported=imported)
        self._metrics.sweep_found.inc(len(found))
        for order in found:
            self._log.warning(
                "the sweep found what polling could not see",
                order=order.id,
                status=order.status,
                modified=str(order.modified_at),
            )
        return doubtful

    async def unknown(self, page: Page, state: ShopState) -> list[KnownOrder]:
        """Return records of the page's unknown orders, as if all their events had been announced.

        Raises:
            TemporaryError: STORE.
        """
        known, policy = await self._state_writer.known(page.orders), self._policy(page, state)
        return importable((order for order in page.orders if order.id not in known), policy)

    async def import_silently(
        self, page: Page, records: Sequence[KnownOrder], state: ShopState, report: TickReport
    ) -> None:
        """Commit records without announcing anything; raises what `decide` raises."""
        await self._state_writer.commit(state, page, known=records)
        self._count(report, page, imported=len(records))

    def _listen(
        self, page: Page, state: ShopState, policy: Policy, *, walked: bool
    ) -> tuple[ShopState, datetime | None]:
        """Record when the newest order was paid; return since when there has been a silence, if any."""
        newest = silence.newest_order(
            state.newest_order_at, page.orders, policy=policy, shop_time=page.shop_time
        )
        state = replace(state, newest_order_at=newest)
        if not walked or not self._plan.silence_after or state.import_position is not None:
            return state, None
        assert state.baseline_at is not None  # noqa: S101 - found before anything is decided
        since = silence.to_announce(
            newest_order_at=newest,
            baseline_at=state.baseline_at,
            announced_at=state.silence_told_at,
            shop_time=page.shop_time,
            threshold=self._plan.silence_after,
        )
        return replace(state, silence_told_at=since or state.silence_told_at), since

    def _policy(self, page: Page, state: ShopState) -> Policy:
        assert state.baseline_at is not None  # noqa: S101 - found before anything is decided
        return self._plan.policy(state.baseline_at, shop_time=page.shop_time, now=self._now())

    def _count(self, report: TickReport, page: Page, *, imported: int) -> None:
        report.orders += len(page.items)
        report.imported += imported
        self._metrics.imported.inc(imported)
        for order in page.orders:
            self._metrics.order(order.status)
