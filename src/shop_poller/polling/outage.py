"""Why the polls of one shop fail now, and the alert about it."""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

import structlog

from shop_poller.alerts import AlertManager
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.schedule import alert_due
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.polling.plan import PollPlan
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import PollFailure


class Outage:
    """An outage: from the first failed poll to the next successful one. Sweeps and imports do not count.

    Args:
        plan: how the shop is polled.
        state_writer: knows the last successful poll.
        alert_manager: alerts administrators.
        metrics: of the shop.
        now: our clock, aware UTC.

    Attributes:
        failure: why the last poll failed; None if it succeeded.
    """

    def __init__(
        self,
        plan: PollPlan,
        *,
        state_writer: StateWriter,
        alert_manager: AlertManager,
        metrics: Metrics,
        now: Callable[[], datetime],
    ) -> None:
        self.failure: PollFailure | None = None
        self._plan = plan
        self._state_writer = state_writer
        self._alert_manager = alert_manager
        self._metrics = metrics
        self._now = now
        self._attempted_at: datetime | None = None
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def failed(self, kind: ErrorKind, text: str, *, attempted_at: datetime) -> None:
        """Note a failed poll; raise the alert if it is time.

        Args:
            kind: the kind of error.
            text: the error for people.
            attempted_at: when the failed request was sent.
        """
        self.failure = PollFailure(kind, text, self.failure.since if self.failure else self._now())
        self._attempted_at = attempted_at
        # An error of the store is seen by each reader. An open circuit is not the cause.
        if kind not in {ErrorKind.STORE, ErrorKind.CIRCUIT_OPEN}:
            with suppress(ShopPollerError):  # the next failed poll tries again
                await self._alert_manager.remember_failure(self.failure)
        await self.alert_if_due()

    async def over(self) -> None:
        """Note a successful poll.

        Raises:
            TemporaryError: STORE, the recovery could not be reported; call again.
        """
        self.failure = self._attempted_at = None
        if self._alert_manager.failure_is_stored:
            await self._alert_manager.forget_failure()
        await self._alert_manager.clear(self._plan.shop)

    async def alert_if_due(self) -> None:
        """Raise the alert once, with the cause of the last failure; retry if it could not be stored."""
        if self.failure is None or self._attempted_at is None:
            return
        if not alert_due(
            self.failure.kind,
            attempted_at=self._attempted_at,
            last_good=self._state_writer.heartbeat_at,
            interval_s=self._plan.interval_s,
        ):
            return
        state = self._state_writer.state
        since = state.last_poll_at or state.started_at
        try:
            await self._alert_manager.raise_for(self._plan.shop, cause=self.failure.kind, since=since)
        except ShopPollerError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._changes.changed("alert", error.kind):
                self._log.error("an alert could not be stored", error=str(error))
        else:
            self._changes.changed("alert", "")
