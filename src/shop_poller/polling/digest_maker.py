"""Makes the digests that are due: once each, whichever replica leads, and however often it restarts.

The stored entry that says which digest was made last is written in the commit that puts the digest into the
outbox. It holds a date: the day on which that digest was due.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta, tzinfo

import structlog

from shop_poller.alerts import DIGEST_MADE
from shop_poller.core.digests import Digest, DigestSchedule, Period, digest_notification
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import MessageFormat
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import Log
from shop_poller.ports import Alert, AlertState, NewDelivery, OrderState, ShopState


class DigestMaker:
    """The digests of one shop.

    Args:
        schedules: by sink; only those that get digests.
        zone: the owner's time zone; None for that of this machine.
        orders: has the tallies.
        alerts: stores which digests were made.
        message_format: how notifications are written.
        clock: our clock and the shop's.
        on_new_deliveries: called after each commit that added to the outbox.
    """

    def __init__(
        self,
        schedules: Mapping[str, DigestSchedule],
        *,
        zone: tzinfo | None,
        orders: OrderState,
        alerts: AlertState,
        message_format: MessageFormat,
        clock: ClockWatch,
        on_new_deliveries: Callable[[Sequence[NewDelivery]], None],
    ) -> None:
        self._schedules = schedules
        self._zone = zone
        self._orders = orders
        self._alerts = alerts
        self._message_format = message_format
        self._clock = clock
        self._on_new_deliveries = on_new_deliveries
        self._made: dict[str, date] | None = None  # None: read it from the store
        self._log: Log = structlog.get_logger()

    async def make_due(self, state: ShopState, shop_time: datetime | None) -> None:
        """Make the digests that are due, as soon as the shop has been polled after their period.

        The first digest of a sink is the next one: what was due before is not made.

        Args:
            state: the position of polling.
            shop_time: the shop's clock at the last commit; None if there was none since the start.

        Raises:
            TemporaryError: STORE; call again.
        """
        now = self._clock.shop_date()
        if now is None or state.last_poll_at is None or shop_time is None:
            return
        read_to = min(state.last_poll_at, shop_time)
        for sink, schedule in self._schedules.items():
            period = schedule.latest(now, self._zone)
            made = await self._last_made(sink)
            # A date later than tomorrow by both clocks was written while a clock was wrong. An earlier one is
            # kept, also if it is in the future: the shop's clock may be wrong now, or the zone another.
            tomorrow = max(now, self._clock.now()).astimezone(self._zone).date() + timedelta(days=1)
            if made is None or made > tomorrow:
                await self._remember(sink, period, [])
            elif made < period.end and read_to >= period.ends_at(self._zone):
                await self._make(sink, period, state.tallied_since, now)

    async def _make(self, sink: str, period: Period, since: datetime | None, now: datetime) -> None:
        if since is None or since >= period.ends_at(self._zone):
            await self._remember(sink, period, [])  # nothing was counted in it
            return
        tallies = await self._orders.tallies(self._message_format.shop_id)
        digest = Digest.of(period, tallies, tallied_since=since, zone=self._zone)
        notification = digest_notification(sink, digest, self._message_format, now=now)
        rows = [NewDelivery(sink, notification, self._message_format.render(sink, notification))]
        await self._remember(sink, period, rows)
        self._log.info(
            "digest made",
            sink=sink,
            first_day=str(period.first),
            last_day=str(period.last),
            event_id=notification.event_id,
        )
        self._on_new_deliveries(rows)

    async def _last_made(self, sink: str) -> date | None:
        """Return on which day the last digest of a sink was due; None if there was none."""
        if self._made is None:
            alerts = await self._alerts.alerts(self._message_format.shop_id)
            self._made = {
                service.removeprefix(DIGEST_MADE): alert.since.astimezone(UTC).date()
                for service, alert in alerts.items()
                if service.startswith(DIGEST_MADE)
            }
        return self._made.get(sink)

    async def _remember(self, sink: str, period: Period, new_deliveries: Sequence[NewDelivery]) -> None:
        """Store that the digest of a period was made, together with its delivery."""
        made, self._made = self._made or {}, None  # if this fails, it may be stored all the same
        # A date, whatever the zone is: the owner may change it. The kind of error has no meaning here.
        day = datetime.combine(period.end, time(0), UTC)
        alert = Alert(f"{DIGEST_MADE}{sink}", ErrorKind.REJECTED, day)
        await self._alerts.raise_alert(self._message_format.shop_id, alert, new_deliveries, self._clock.now())
        self._made = made | {sink: period.end}
