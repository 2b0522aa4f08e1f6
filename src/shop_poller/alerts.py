"""Notifies the administrators when a service fails and when it works again: changes, never repeats.

The first dead letter is reported at once. Later ones are counted, and reported once per hour at most.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.filters import Filter, takers
from shop_poller.core.messages import MessageFormat, alert_notification, dead_letters_notification
from shop_poller.core.model import ALERTS, EventType
from shop_poller.core.plain_text import one_line
from shop_poller.observability.logging import Log
from shop_poller.ports import STORE, Alert, AlertState, DeliveryHistory, NewDelivery, PollFailure

SUMMARY_EVERY = timedelta(hours=1)
MOST_COUNTED = 1000
STORE_DEAD_AFTER = timedelta(minutes=5)
DEAD_LETTERS_REPORTED = "dead-letters:"
"""Prefix of the stored entries that remember which dead letters were reported."""
WORKED = "worked:"
"""Prefix of the stored entries that remember that a sink has delivered."""
DIGEST_MADE = "digest:"
"""Prefix of the stored entries that remember the last digest of a sink."""
POLLS_FAIL = "polls-fail:"
"""Prefix of the stored entry that remembers why polls fail now; the error text follows. Commands read it."""
MOST_REMEMBERED = 500
"""Characters of that text."""
MARKERS = (DEAD_LETTERS_REPORTED, WORKED, DIGEST_MADE, POLLS_FAIL)
"""Prefixes of stored entries that are not alerts."""
ABOUT_OURSELVES = ALERTS | {EventType.TEST}
"""Dead letters of these events are not reported: each report could cause the next one."""


class AlertManager:
    """The alerts of one shop. Raised alerts survive a restart.

    Args:
        alerts: stores alerts together with their notifications.
        history: has the dead letters, and shows whether a sink has ever delivered.
        message_format: how notifications are written.
        sinks: the names of the sinks, and the filter of each.
        now: our clock.
        on_new_deliveries: called when the outbox has new rows.

    Attributes:
        failure_is_stored: why polls failed may be stored, and is to be forgotten when one succeeds.
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
        self.failure_is_stored = False
        self._raised: dict[str, Alert] = {}
        self._unstored: dict[str, Alert] = {}
        self._unrecorded_since: datetime | None = None
        self._is_unsure = False
        self._unrecorded_s = 0.0  # the same as monotonic seconds
        self._store_cleared_s = -math.inf  # when an alert about the store was last cleared
        self._log: Log = structlog.get_logger()

    async def load(self) -> None:
        """Load what was raised before this start."""
        self._raised = await self._alerts.alerts(self._message_format.shop_id)
        self.failure_is_stored = any(service.startswith(POLLS_FAIL) for service in self._raised)

    async def raise_for(self, service: str, *, cause: ErrorKind, since: datetime) -> None:
        """Report once that a service does not work. The service itself is not notified.

        If the cause changes later, only the stored alert changes, which `status` shows.

        Raises:
            TemporaryError: STORE; call again.
        """
        if service in self._raised:
            await self._change_cause(self._raised[service], cause)
            return
        unstored = self._unstored.get(service)
        # It could not be stored before, and may have another cause by now. It is the same outage.
        alert = Alert(service, cause, min(since, unstored.since) if unstored else since)
        self._unstored[service] = alert
        new_deliveries = self._outgoing(EventType.UNHEALTHY, alert)
        await self._alerts.raise_alert(self._message_format.shop_id, alert, new_deliveries, self._now())
        self._raised[service] = self._unstored.pop(service)
        self._log.error(
            "alert raised", service=service, error_type=alert.cause, since=alert.since.isoformat()
        )
        self._on_new_deliveries()

    async def remember_failure(self, failure: PollFailure) -> None:
        """Remember why polls fail. It is written when they begin to fail, and when the kind of error changes.

        Raises:
            TemporaryError: STORE; call again.
        """
        before = [alert for service, alert in self._raised.items() if service.startswith(POLLS_FAIL)]
        if any(one.cause is failure.kind for one in before):
            return
        since = min([failure.since, *(one.since for one in before)])
        service = f"{POLLS_FAIL}{one_line(failure.text, MOST_REMEMBERED)}"
        alert = Alert(service, failure.kind, since)
        self.failure_is_stored = True
        await self._alerts.raise_alert(self._message_format.shop_id, alert, (), self._now())
        self._raised[service] = alert
        await self.forget_failure(but=service)

    async def forget_failure(self, *, but: str = "") -> None:
        """Forget why polls failed.

        Args:
            but: an entry to keep.

        Raises:
            TemporaryError: STORE; call again.
        """
        for service in [one for one in self._raised if one.startswith(POLLS_FAIL) and one != but]:
            await self._alerts.clear_alert(self._message_format.shop_id, service, (), self._now())
            del self._raised[service]
        self.failure_is_stored = bool(but)

    async def _change_cause(self, alert: Alert, cause: ErrorKind) -> None:
        """Store another cause. That of an outage of the store stays, since `can_record` asks for it."""
        if cause is alert.cause or ErrorKind.STORE in {cause, alert.cause}:
            return
        changed = replace(alert, cause=cause)
        await self._alerts.raise_alert(self._message_format.shop_id, changed, (), self._now())
        self._raised[alert.service] = changed

    def remember_unstored(self, service: str, *, cause: ErrorKind, since: datetime) -> None:
        """Remember an outage that could not be stored; it is reported when the service works again."""
        if service not in self._raised:
            self._unstored.setdefault(service, Alert(service, cause, since))

    async def clear(self, service: str) -> None:
        """Report once that a service works again. An outage that was not reported is reported first.

        Raises:
            TemporaryError: STORE; call again.
        """
        if (unstored := self._unstored.get(service)) is not None:
            await self.raise_for(service, cause=unstored.cause, since=unstored.since)
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

    async def report_dead_letters(self, sink: str) -> bool:
        """Report dead letters of a sink that were not reported yet, once per hour at most.

        What was reported is stored as an entry that is never cleared.

        Returns:
            False if it is too early; call again.

        Raises:
            TemporaryError: STORE; call again.
        """
        service = f"{DEAD_LETTERS_REPORTED}{sink}"
        if self._is_unsure:  # the store reported a failure, but may have stored the alert
            await self.load()
            self._is_unsure = False
        reported = self._raised.get(service)
        now = self._now()
        reported_to = reported.since if reported is not None else None
        if reported_to is not None and reported_to > now:  # our clock was ahead: the stored time is useless
            reported_to = now - SUMMARY_EVERY
        if reported_to is not None and now - reported_to < SUMMARY_EVERY:
            return False
        dead = await self._history.finished(
            self._message_format.shop_id, dead=True, limit=MOST_COUNTED, sink=sink
        )
        unreported = [
            letter
            for letter in dead
            # Letters dated in the future were reported then, or will be after their date is corrected.
            if letter.event_type not in ABOUT_OURSELVES
            and (reported_to is None or reported_to < letter.at <= now)
        ]
        if not unreported:
            return True
        notification = dead_letters_notification(
            sink,
            self._message_format,
            count=len(unreported),
            reason=unreported[0].reason,
            since=unreported[-1].at,
            now=now,
        )
        alert = Alert(service, ErrorKind.REJECTED, min(unreported[0].at, now))
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
        self._log.error("dead letters", sink=sink, dead_letters=len(unreported))
        self._on_new_deliveries()
        return True

    async def has_worked(self, sink: str) -> bool:
        """Return whether a sink has ever delivered anything, as far as the state shows.

        This is stored as an entry that is never cleared, since the history of deliveries is pruned.

        Raises:
            TemporaryError: STORE; call again.
        """
        if f"{WORKED}{sink}" in self._raised:
            return True
        return bool(
            await self._history.finished(self._message_format.shop_id, dead=False, limit=1, sink=sink)
        )

    async def remember_that_it_worked(self, sink: str) -> None:
        """Remember that a sink has delivered; this is written once in the life of the state.

        Raises:
            TemporaryError: STORE; call again.
        """
        service = f"{WORKED}{sink}"
        if service not in self._raised:
            alert = Alert(service, ErrorKind.REJECTED, self._now())
            await self._alerts.raise_alert(self._message_format.shop_id, alert, (), self._now())
            self._raised[service] = alert

    def cannot_record(self) -> None:
        """Outcomes of deliveries cannot be stored."""
        if self._unrecorded_since is None:
            self._unrecorded_since, self._unrecorded_s = self._now(), anyio.current_time()

    async def can_record(self) -> None:
        """Outcomes can be stored again. A long outage is reported, unless the shop's alert covers it.

        Raises:
            TemporaryError: STORE; call again.
        """
        since = self._unrecorded_since
        lasted_s = anyio.current_time() - self._unrecorded_s  # independent of our clock
        if since is not None and lasted_s >= STORE_DEAD_AFTER.total_seconds():
            alerts = [*self._unstored.values(), *self._raised.values()]
            is_reported = any(alert.cause is ErrorKind.STORE and alert.service != STORE for alert in alerts)
            # Either may end first: the shop's alert may already be raised and cleared.
            is_reported = is_reported or self._store_cleared_s >= self._unrecorded_s
            if not is_reported:
                self.remember_unstored(STORE, cause=ErrorKind.STORE, since=since)
        self._unrecorded_since = None
        await self.clear(STORE)

    def _others(self, sink: str) -> Mapping[str, Filter]:
        """Return all sinks but this one; this one if there is no other."""
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
        # A sink gets no alert about itself: it would receive the recovery, but never the failure.
        others = [sink for sink in takers(self._sinks, notification) if sink != alert.service]
        return [
            NewDelivery(sink, notification, self._message_format.render(sink, notification))
            for sink in others
        ]


def stored_failure(alerts: Mapping[str, Alert]) -> PollFailure | None:
    """Return why polls fail, from the stored alerts; None if the last poll succeeded."""
    for service, alert in alerts.items():
        if service.startswith(POLLS_FAIL):
            return PollFailure(alert.cause, service.removeprefix(POLLS_FAIL), alert.since)
    return None
