"""Which sinks are muted, or some events of a sink: their deliveries wait in the outbox until then.

Mutes are stored, so a restart and another replica keep them.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import iso
from shop_poller.observability.logging import Log
from shop_poller.ports import Alert, AlertState

MUTED = "muted:"
"""Prefix of the stored entries that are no alerts, but remember until when a sink is muted."""
MUTED_EVENTS = "muted-events:"
"""Prefix of those that remember until when one event type of a sink is muted; the type and a colon follow."""
PREFIXES = (MUTED, MUTED_EVENTS)
WHOLE = ""
"""Stands for all events of a sink."""
ANY = "*"
"""Stands for any event of a sink, whichever is muted."""
LONGEST = timedelta(hours=24)
"""The longest mute. After a longer one, deliveries could be too old to be retried."""


class Mutes:
    """The mutes of one shop's sinks.

    Args:
        alerts: stores them.
        shop: the shop's id.
    """

    def __init__(self, alerts: AlertState, *, shop: str) -> None:
        self._alerts = alerts
        self._shop = shop
        self._until: dict[tuple[str, str], datetime] = {}
        self._log: Log = structlog.get_logger()

    async def load(self, now: datetime) -> None:
        """Load the mutes. Delete those that are over.

        Raises:
            TemporaryError: STORE.
        """
        alerts = await self._alerts.alerts(self._shop)
        self._until = {(sink, WHOLE): until for sink, until in _stored(alerts).items()}
        for sink, events in _stored_events(alerts).items():
            self._until |= {(sink, event_type): until for event_type, until in events.items()}
        for key in [key for key, until in self._until.items() if until <= now]:
            await self._alerts.clear_alert(self._shop, _entry(*key), (), now)
            del self._until[key]

    def left_s(self, sink: str, now: Callable[[], datetime], event_type: str = WHOLE) -> float:
        """Return the seconds for which a sink, or an event type of it, is still muted; 0 if it is not.

        With ANY, return for how long the last of its mutes still lasts.
        """
        if event_type == ANY:
            ends = [until for (name, _), until in self._until.items() if name == sink]
        else:
            ends = [self._until[key] for key in {(sink, WHOLE), (sink, event_type)} if key in self._until]
        return max((_left_s(until, now()) for until in ends), default=0.0)

    async def mute(self, sink: str, *, now: datetime, until: datetime, events: Sequence[str] = ()) -> None:
        """Mute a sink, or change until when it is muted.

        Args:
            sink: its name.
            now: our clock.
            until: the end.
            events: mute only these event types; none for all.

        Raises:
            TemporaryError: STORE; not all of it was changed.
        """
        for event_type in events or (WHOLE,):
            # The kind of error has no meaning here.
            alert = Alert(_entry(sink, event_type), ErrorKind.REJECTED, until)
            await self._alerts.raise_alert(self._shop, alert, (), now)
            self._until[sink, event_type] = until
        self._log.info(
            "sink muted: its deliveries wait in the outbox",
            sink=sink,
            until=iso(until),
            events=list(events) or None,
        )

    async def unmute(self, sink: str, *, now: datetime, events: Sequence[str] = ()) -> None:
        """End the mute of a sink, if it is muted.

        Args:
            sink: its name.
            now: our clock.
            events: end only the mutes of these event types; none for all that is muted of the sink.

        Raises:
            TemporaryError: STORE; not all of it was changed.
        """
        ended = events or (WHOLE, *(event_type for name, event_type in self._until if name == sink))
        for event_type in ended:
            await self._alerts.clear_alert(self._shop, _entry(sink, event_type), (), now)
            if self._until.pop((sink, event_type), None) is not None:
                self._log.info("sink unmuted", sink=sink, event_type=event_type or None)


def stored_mutes(alerts: Mapping[str, Alert], now: datetime) -> dict[str, datetime]:
    """Return until when each muted sink is muted, from the stored alerts."""
    return {sink: until for sink, until in _stored(alerts).items() if _left_s(until, now)}


def _left_s(until: datetime, now: datetime) -> float:
    """Return the seconds for which a mute still lasts; 0 if it is over.

    No mute is longer than LONGEST. If more time than that is left, the clock was set back, perhaps by years.
    Then the mute is over, because otherwise nobody would be notified for years.
    """
    left_s = (until - now).total_seconds()
    return left_s if 0 < left_s <= LONGEST.total_seconds() else 0.0


def _stored(alerts: Mapping[str, Alert]) -> dict[str, datetime]:
    return {
        service.removeprefix(MUTED): alert.since
        for service, alert in alerts.items()
        if service.startswith(MUTED)
    }


def _stored_events(alerts: Mapping[str, Alert]) -> dict[str, dict[str, datetime]]:
    found: dict[str, dict[str, datetime]] = {}
    for service, alert in alerts.items():
        if service.startswith(MUTED_EVENTS):
            event_type, _, sink = service.removeprefix(MUTED_EVENTS).partition(":")
            found.setdefault(sink, {})[event_type] = alert.since
    return found


def stored_event_mutes(alerts: Mapping[str, Alert], now: datetime) -> dict[str, dict[str, datetime]]:
    """Return the event types of each sink that are muted now, and until when."""
    found = {
        sink: {event_type: until for event_type, until in sorted(events.items()) if _left_s(until, now)}
        for sink, events in sorted(_stored_events(alerts).items())
    }
    return {sink: events for sink, events in found.items() if events}


def _entry(sink: str, event_type: str) -> str:
    """Return the name of a stored entry. No event type has a colon."""
    return f"{MUTED_EVENTS}{event_type}:{sink}" if event_type else f"{MUTED}{sink}"
