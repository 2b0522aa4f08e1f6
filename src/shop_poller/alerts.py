"""Tells the administrators when a service stops working and when it works again: edges, never repeats.

Of dead letters it tells the first at once, then once an hour at most how many there were since.
"""

import math
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.filters import Filter, takers
from shop_poller.core.messages import MessageFormat, alert_notification, dead_letters_notification
from shop_poller.core.model import ALERTS, EventType
from shop_poller.observability.logging import Log
from shop_poller.ports import STORE, Alert, AlertState, DeliveryHistory, NewDelivery

SUMMARY_EVERY = timedelta(hours=1)
MOST_COUNTED = 1000
STORE_DEAD_AFTER = timedelta(minutes=5)
TOLD = "dead-letters:"
"""Begins what stands among the alerts only to remember which dead letters were told of."""
WORKED = "worked:"
"""Begins what stands among the alerts only to remember that a sink has delivered."""
MARKERS = (TOLD, WORKED)
"""How the names of those begin that are no alerts."""
ABOUT_OURSELVES = ALERTS | {EventType.TEST}
"""When these are given up nothing is told, or telling would never end."""


class AlertManager:
    """The alerts of one shop; what was raised is remembered over restarts.

    Args:
        alerts: stores alerts together with their notifications.
        history: has the dead letters, and shows whether a sink has ever delivered.
        message_format: how notifications are written.
        sinks: the names of those to tell, and what each wants.
        now: our clock.
        on_new_deliveries: called when something waits in the outbox.
    """

    def __init__(
        self,
        alerts: AlertState,
        *,
        history: DeliveryHistory,
        message_format: MessageFormat,
        sinks: Mapping[str, Filter],
        now: Callable[[], datetime],
        on_new_deliveries: Callable[[], None],
    ) -> None:
        self._alerts = alerts
        self._history = history
        self._message_format = message_format
        self._sinks = sinks
        self._now = now
        self._on_new_deliveries = on_new_deliveries
        self._raised: dict[str, Alert] = {}
        self._owed: dict[str, Alert] = {}
        self._unrecorded_since: datetime | None = None
        self._is_unsure = False
        self._unrecorded_s = 0.0  # the same in monotonic seconds
        self._store_cleared_s = -math.inf  # when one of the store was cleared last
        self._log: Log = structlog.get_logger()

    async def load(self) -> None:
        """Remember what was raised before this start."""
        self._raised = await self._alerts.alerts(self._message_format.shop_id)

    async def raise_for(self, service: str, *, cause: ErrorKind, since: datetime) -> None:
        """Tell, once, that a service does not work; it is not told itself.

        Raises:
            TemporaryError: STORE; call again.
        """
        if service in self._raised:
            return
        owed = self._owed.get(service)
        # It could not be stored before, and may have another cause by now. It is the same outage.
        alert = Alert(service, cause, min(since, owed.since) if owed else since)
        self._owed[service] = alert
        new_deliveries = self._outgoing(EventType.UNHEALTHY, alert)
        await self._alerts.raise_alert(self._message_format.shop_id, alert, new_deliveries, self._now())
        self._raised[service] = self._owed.pop(service)
        self._log.error(
            "alert raised", service=service, error_type=alert.cause, since=alert.since.isoformat()
        )
        self._on_new_deliveries()

    def owe(self, service: str, *, cause: ErrorKind, since: datetime) -> None:
        """A service did not work, and that could not even be stored: it is told when it works again."""
        if service not in self._raised:
            self._owed.setdefault(service, Alert(service, cause, since))

    async def clear(self, service: str) -> None:
        """Tell, once, that a service works again; before that, that it did not, if that is still owed.

        Raises:
            TemporaryError: STORE; call again.
        """
        if (owed := self._owed.get(service)) is not None:
            await self.raise_for(service, cause=owed.cause, since=owed.since)
        alert = self._raised.get(service)
        if alert is None:
            return
        new_deliveries = self._outgoing(EventType.RECOVERED, alert)
        await self._alerts.clear_alert(self._message_format.shop_id, service, new_deliveries, self._now())
        del self._raised[service]
        if alert.cause is ErrorKind.STORE:
            self._store_cleared_s = anyio.current_time()
        self._log.info("alert cleared", service=service)
        self._on_new_deliveries()

    async def tell_dead_letters(self, sink: str) -> bool:
        """Tell of a sink's dead letters that were not told of, unless others were within the hour.

        How far was told is remembered as an alert that is never cleared.

        Returns:
            False if it is too early; call again.

        Raises:
            TemporaryError: STORE; call again.
        """
        service = f"{TOLD}{sink}"
        if self._is_unsure:  # an alert may have been stored although the store said that it failed
            await self.load()
            self._is_unsure = False
        told = self._raised.get(service)
        now = self._now()
        told_to = told.since if told is not None else None
        if told_to is not None and told_to > now:  # by a clock that was ahead: how far was told is not known
            told_to = now - SUMMARY_EVERY
        if told_to is not None and now - told_to < SUMMARY_EVERY:
            return False
        dead = await self._history.finished(
            self._message_format.shop_id, dead=True, limit=MOST_COUNTED, sink=sink
        )
        untold = [
            letter
            for letter in dead
            # What such a clock dated was told then, or is once it has another date.
            if letter.event_type not in ABOUT_OURSELVES and (told_to is None or told_to < letter.at <= now)
        ]
        if not untold:
            return True
        notification = dead_letters_notification(
            sink,
            self._message_format,
            count=len(untold),
            reason=untold[0].reason,
            since=untold[-1].at,
            now=now,
        )
        alert = Alert(service, ErrorKind.REJECTED, min(untold[0].at, now))
        new_deliveries = [
            NewDelivery(name, notification, self._message_format.render(name, notification))
            for name in takers(self._others(sink), notification)
        ]
        try:
            await self._alerts.raise_alert(self._message_format.shop_id, alert, new_deliveries, now)
        except ShopPollerError:
            self._is_unsure = True
            raise
        self._raised[service] = alert
        self._log.error("dead letters", sink=sink, dead_letters=len(untold))
        self._on_new_deliveries()
        return True

    async def has_worked(self, sink: str) -> bool:
        """Whether a sink has ever delivered anything, as far as the state knows.

        It is remembered as an alert that is never cleared, since the history of deliveries is pruned.

        Raises:
            TemporaryError: STORE; call again.
        """
        if f"{WORKED}{sink}" in self._raised:
            return True
        return bool(
            await self._history.finished(self._message_format.shop_id, dead=False, limit=1, sink=sink)
        )

    async def remember_that_it_worked(self, sink: str) -> None:
        """A sink has delivered something; written once in the life of the state.

        Raises:
            TemporaryError: STORE; call again.
        """
        service = f"{WORKED}{sink}"
        if service not in self._raised:
            alert = Alert(service, ErrorKind.REJECTED, self._now())
            await self._alerts.raise_alert(self._message_format.shop_id, alert, (), self._now())
            self._raised[service] = alert

    def cannot_record(self) -> None:
        """What became of deliveries cannot be stored."""
        if self._unrecorded_since is None:
            self._unrecorded_since, self._unrecorded_s = self._now(), anyio.current_time()

    async def can_record(self) -> None:
        """It can be stored again: if that took long, both edges are told, unless the shop's alert says it.

        Raises:
            TemporaryError: STORE; call again.
        """
        since = self._unrecorded_since
        lasted_s = anyio.current_time() - self._unrecorded_s  # whatever becomes of our clock
        if since is not None and lasted_s >= STORE_DEAD_AFTER.total_seconds():
            alerts = [*self._owed.values(), *self._raised.values()]
            told = any(alert.cause is ErrorKind.STORE and alert.service != STORE for alert in alerts)
            # Whichever comes first when it is over: the shop's alert may have come and gone already.
            told = told or self._store_cleared_s >= self._unrecorded_s
            if not told:
                self.owe(STORE, cause=ErrorKind.STORE, since=since)
        self._unrecorded_since = None
        await self.clear(STORE)

    def _others(self, sink: str) -> Mapping[str, Filter]:
        """All sinks but this one; this one if there is no other."""
        return {name: wanted for name, wanted in self._sinks.items() if name != sink} or self._sinks

    def _outgoing(self, event_type: EventType, alert: Alert) -> list[NewDelivery]:
        notification = alert_notification(
            event_type,
            self._message_format,
            service=alert.service,
            cause=alert.cause,
            since=alert.since,
            now=self._now(),
        )
        # A sink is not told of itself: it would hear that it works again, and never that it did not.
        others = [sink for sink in takers(self._sinks, notification) if sink != alert.service]
        return [
            NewDelivery(sink, notification, self._message_format.render(sink, notification))
            for sink in others
        ]
