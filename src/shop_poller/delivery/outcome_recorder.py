"""Records the outcomes of deliveries in the outbox: many per commit, retried until the store accepts them."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import chain
from typing import TypeVar

import anyio
import structlog
from anyio.streams.memory import MemoryObjectReceiveStream

from shop_poller.alerts import AlertManager
from shop_poller.core.errors import TemporaryError
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import Outbox, Outcome

T = TypeVar("T")
MANY = 64
GATHER_S = 0.02
"""How long to wait for more outcomes while at least MANY deliveries are held.

A commit of many costs as much as a commit of one. With fewer the recorder does not wait: after a kill, every
delivery whose outcome is not committed is sent again.
"""
STORE_WAIT_S = 1.0


class OutcomeRecorder:
    """Records the outcomes of the deliveries to one sink.

    Args:
        sink: the name of the sink.
        outbox: contains the deliveries.
        alert_manager: is notified when outcomes cannot be recorded.
        metrics: of the shop.
        now: our clock, aware UTC.
        on_recorded: called with the recorded outcomes, and whether recording works again after it failed.

    Attributes:
        in_flight: deliveries that are claimed and whose outcome is not recorded yet.
        in_haste: whether to record at once, without waiting for more outcomes.
    """

    def __init__(
        self,
        sink: str,
        *,
        outbox: Outbox,
        alert_manager: AlertManager,
        metrics: Metrics,
        now: Callable[[], datetime],
        on_recorded: Callable[[Sequence[Outcome], bool], None],
    ) -> None:
        self.in_flight = 0
        self.in_haste = False
        self._outbox = outbox
        self._alert_manager = alert_manager
        self._metrics = metrics
        self._now = now
        self._on_recorded = on_recorded
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger().bind(sink=sink)

    async def run(self, outcomes_in: MemoryObjectReceiveStream[Sequence[Outcome]]) -> None:
        """Record the outcomes from the stream until it is closed."""
        batch: list[Outcome] = []
        async with outcomes_in:
            try:
                async for some in outcomes_in:
                    batch = [*some, *chain(*at_hand(outcomes_in))]
                    if self.in_flight >= MANY and not self.in_haste:
                        await anyio.sleep(GATHER_S)
                        batch += chain(*at_hand(outcomes_in))
                    again = await self._record(batch)
                    self.in_flight -= len(batch)
                    finished, batch = batch, []
                    self._on_recorded(finished, again)
            finally:
                # On cancel, try to record the rest. What cannot be recorded is sent again with the same id.
                left = [*batch, *chain(*at_hand(outcomes_in))]
                with anyio.CancelScope(shield=True), suppress(TemporaryError):
                    if left:
                        await self._outbox.record_outcomes(left, self._now())

    async def _record(self, batch: Sequence[Outcome]) -> bool:
        """Record outcomes, with retries until it succeeds. Return whether it works again after a failure."""
        while True:
            try:
                await self._outbox.record_outcomes(batch, self._now())
            except TemporaryError as error:
                self._alert_manager.cannot_record()
                self._metrics.store_error(StoreUse.RECORD)
                if self._changes.changed("outcomes", error.kind):
                    self._log.error("deliveries cannot be recorded; retrying", error=str(error))
                await anyio.sleep(STORE_WAIT_S)
            else:
                return self._changes.changed("outcomes", "")


def at_hand(stream: MemoryObjectReceiveStream[T], most: int | None = None) -> list[T]:
    """Return the items that can be received without waiting."""
    there = stream.statistics().current_buffer_used
    return [stream.receive_nowait() for _ in range(there if most is None else min(there, most))]
