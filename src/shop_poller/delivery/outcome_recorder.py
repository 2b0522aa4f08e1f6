"""What became of deliveries, back into the outbox: many in one commit, and again until the store takes it."""

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
"""While so many are held it waits for more of them: a commit costs as much for many as for one. While there
are fewer it does not: what is not committed when we are killed is sent again."""
STORE_WAIT_S = 1.0


class OutcomeRecorder:
    """Settles the deliveries of one sink.

    Args:
        sink: its name.
        outbox: has the deliveries.
        alert_manager: is told when outcomes cannot be recorded.
        metrics: of the shop.
        now: our clock, aware UTC.
        on_recorded: called with what was settled; and whether that works again after it did not.

    Attributes:
        held: deliveries claimed and not yet settled.
        in_haste: gather nothing.
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
        self.held = 0
        self.in_haste = False
        self._outbox = outbox
        self._alert_manager = alert_manager
        self._metrics = metrics
        self._now = now
        self._on_recorded = on_recorded
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger().bind(sink=sink)

    async def run(self, made: MemoryObjectReceiveStream[Sequence[Outcome]]) -> None:
        """Settle what is made, until nobody makes more."""
        batch: list[Outcome] = []
        async with made:
            try:
                async for some in made:
                    batch = [*some, *chain(*at_hand(made))]
                    if self.held >= MANY and not self.in_haste:
                        await anyio.sleep(GATHER_S)
                        batch += chain(*at_hand(made))
                    again = await self._record(batch)
                    self.held -= len(batch)
                    finished, batch = batch, []
                    self._on_recorded(finished, again)
            finally:
                # Cut short: what was delivered is recorded if it can be, else it repeats with the same id.
                left = [*batch, *chain(*at_hand(made))]
                with anyio.CancelScope(shield=True), suppress(TemporaryError):
                    if left:
                        await self._outbox.record_outcomes(left, self._now())

    async def _record(self, batch: Sequence[Outcome]) -> bool:
        """Until it is done; whether that is news."""
        while True:
            try:
                await self._outbox.record_outcomes(batch, self._now())
            except TemporaryError as error:
                self._alert_manager.cannot_record()
                self._metrics.store_error(StoreUse.RECORD)
                if self._changes.changed("outcomes", error.kind):
                    self._log.error("deliveries cannot be recorded; trying on", error=str(error))
                await anyio.sleep(STORE_WAIT_S)
            else:
                return self._changes.changed("outcomes", "")


def at_hand(stream: MemoryObjectReceiveStream[T], most: int | None = None) -> list[T]:
    """What can be received without waiting."""
    there = stream.statistics().current_buffer_used
    return [stream.receive_nowait() for _ in range(there if most is None else min(there, most))]
