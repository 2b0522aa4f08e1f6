"""Tells the administrators when a service stops working and when it works again: edges, never repeats."""

from collections.abc import Callable, Mapping
from datetime import datetime

import structlog

from shop_poller.core.errors import ErrorKind
from shop_poller.core.filters import Filter, takers
from shop_poller.core.messages import Voice, alert_notification
from shop_poller.core.model import EventType
from shop_poller.ports import Alert, Outgoing, Store
from shop_poller.telemetry import Log


class Alarm:
    """The alerts of one shop; what was raised is remembered over restarts.

    Args:
        store: where alerts are remembered, and their notifications wait.
        voice: how notifications are written.
        sinks: the names of those to tell, and what each wants.
        now: our clock.
        on_outgoing: called when something waits in the outbox.
    """

    def __init__(
        self,
        store: Store,
        *,
        voice: Voice,
        sinks: Mapping[str, Filter],
        now: Callable[[], datetime],
        on_outgoing: Callable[[], None],
    ) -> None:
        self._store = store
        self._voice = voice
        self._sinks = sinks
        self._now = now
        self._on_outgoing = on_outgoing
        self._raised: dict[str, Alert] = {}
        self._owed: dict[str, Alert] = {}
        self._log: Log = structlog.get_logger()

    async def load(self) -> None:
        """Remember what was raised before this start."""
        self._raised = await self._store.alerts(self._voice.shop_id)

    async def raise_for(self, service: str, *, cause: ErrorKind, since: datetime) -> None:
        """Tell, once, that a service does not work; it is not told itself.

        Raises:
            TemporaryError: STORE; call again.
        """
        if service in self._raised:
            return
        alert = self._owed.setdefault(service, Alert(service, cause, since))
        outgoing = self._outgoing(EventType.UNHEALTHY, alert)
        await self._store.raise_alert(self._voice.shop_id, alert, outgoing, self._now())
        self._raised[service] = self._owed.pop(service)
        self._log.error(
            "alert raised", service=service, error_type=alert.cause, since=alert.since.isoformat()
        )
        self._on_outgoing()

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
        outgoing = self._outgoing(EventType.RECOVERED, alert)
        await self._store.clear_alert(self._voice.shop_id, service, outgoing, self._now())
        del self._raised[service]
        self._log.info("alert cleared", service=service)
        self._on_outgoing()

    def _outgoing(self, event_type: EventType, alert: Alert) -> list[Outgoing]:
        notification = alert_notification(
            event_type,
            self._voice,
            service=alert.service,
            cause=alert.cause,
            since=alert.since,
            now=self._now(),
        )
        gone = alert.service if event_type is EventType.UNHEALTHY else None
        return [Outgoing(sink, notification) for sink in takers(self._sinks, notification) if sink != gone]
