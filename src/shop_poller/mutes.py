"""Which sinks are muted: their deliveries wait in the outbox until then. Stored, so a restart keeps it."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

import structlog

from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import iso
from shop_poller.observability.logging import Log
from shop_poller.ports import Alert, AlertState

MUTED = "muted:"
"""Prefix of the stored entries that are no alerts, but remember until when a sink is muted."""
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
        self._until: dict[str, datetime] = {}
        self._log: Log = structlog.get_logger()

    async def load(self, now: datetime) -> None:
        """Load the mutes. Delete those that are over.

        Raises:
            TemporaryError: STORE.
        """
        self._until = _stored(await self._alerts.alerts(self._shop))
        for sink in [sink for sink, until in self._until.items() if until <= now]:
            await self._alerts.clear_alert(self._shop, f"{MUTED}{sink}", (), now)
            del self._until[sink]

    def left_s(self, sink: str, now: Callable[[], datetime]) -> float:
        """Return the seconds for which a sink is still muted; 0 if it is not."""
        until = self._until.get(sink)
        return 0.0 if until is None else _left_s(until, now())

    async def mute(self, sink: str, *, now: datetime, until: datetime) -> None:
        """Mute a sink, or change until when it is muted.

        Raises:
            TemporaryError: STORE; nothing was changed.
        """
        # The kind of error has no meaning here.
        alert = Alert(f"{MUTED}{sink}", ErrorKind.REJECTED, until)
        await self._alerts.raise_alert(self._shop, alert, (), now)
        self._until[sink] = until
        self._log.info("sink muted: its deliveries wait in the outbox", sink=sink, until=iso(until))

    async def unmute(self, sink: str, *, now: datetime) -> None:
        """End the mute of a sink, if it is muted.

        Raises:
            TemporaryError: STORE; nothing was changed.
        """
        await self._alerts.clear_alert(self._shop, f"{MUTED}{sink}", (), now)
        if self._until.pop(sink, None) is not None:
            self._log.info("sink unmuted", sink=sink)


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
