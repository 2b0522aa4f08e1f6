"""Imports existing orders silently: many before the first decision, the rest between ticks."""

from dataclasses import replace

import structlog

from shop_poller.core import import_walk
from shop_poller.core.meaning import StatusMeanings
from shop_poller.observability.logging import Log
from shop_poller.polling.order_processor import OrderProcessor
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.plan import TickReport
from shop_poller.polling.state_writer import StateWriter

AT_ONCE = 2000


class InitialImport:
    """Imports the existing orders of one shop.

    Args:
        meanings: what the shop's statuses mean.
        state_writer: the committed state.
        order_processor: records the orders.
        fetcher: reads from the shop.
    """

    def __init__(
        self,
        meanings: StatusMeanings,
        *,
        state_writer: StateWriter,
        order_processor: OrderProcessor,
        fetcher: Fetcher,
    ) -> None:
        self._meanings = meanings
        self._state_writer = state_writer
        self._order_processor = order_processor
        self._fetcher = fetcher
        self._import_query: import_walk.ImportQuery | None = None
        self._log: Log = structlog.get_logger()

    @property
    def is_due(self) -> bool:
        """Whether orders are left to import."""
        return self._state_writer.state.import_position is not None

    async def begin(self, report: TickReport, deadline: float) -> None:
        """Import the first part, before the first decision.

        Raises:
            TemporaryError, PermanentError: no response, or no commit; call again.
        """
        while (stands := self._state_writer.state.import_position) is not None and stands.count < AT_ONCE:
            await self.page(report, deadline)

    async def page(self, report: TickReport, deadline: float) -> None:
        """Import one page; raises what `begin` raises."""
        state = self._state_writer.state
        assert state.import_position is not None  # noqa: S101 - the callers looked
        assert state.baseline_at is not None  # noqa: S101 - learning begins with it
        import_query = self._import_query or import_walk.import_query(
            state.import_position, state.baseline_at, self._meanings
        )
        import_query, page = await self._fetcher.page(import_query, deadline)
        fresh = await self._order_processor.unknown(page, state)
        following = import_walk.advance(import_query, page, imported=len(fresh))
        position = following.import_position if following else None
        await self._order_processor.import_silently(
            page, fresh, replace(state, import_position=position), report
        )
        self._import_query = following
        self._log.info(
            "importing existing orders",
            phase=position.phase if position else "done",
            orders=import_query.import_position.count + len(fresh),
        )
