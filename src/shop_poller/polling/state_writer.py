"""The committed state of polling: memory changes only after the store has committed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, tzinfo

import structlog

from shop_poller.core.clocks import AGREE
from shop_poller.core.filters import Filter, takers
from shop_poller.core.messages import MessageFormat, order_notification, silence_notification
from shop_poller.core.model import KnownOrder, Order, OrderEvent, Page, UnreadableOrder
from shop_poller.core.tallies import TallyChange, TallyClock, by_day, counted
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Batch, NewDelivery, OrderState, ShopState

NOTHING_COUNTED = TallyChange({})


class StateWriter:
    """The state of one shop's polling.

    Args:
        state: as stored, from OrderState.register.
        orders: the stored state of orders.
        message_format: how notifications are written.
        sinks: the names of the sinks, and the filter of each.
        metrics: of the shop.
        now: our clock, aware UTC.
        on_new_deliveries: called after each commit that added to the outbox.
        zone: the owner's time zone, in which the days of tallies are; None for that of this machine.

    Attributes:
        state: the position of polling.
        heartbeat_at: the last successful poll, or the start if there was none yet.
        shop_time: the shop's clock at the last commit.
        set_aside: the orders that could not be read, with the reason.
    """

    def __init__(
        self,
        state: ShopState,
        *,
        orders: OrderState,
        message_format: MessageFormat,
        sinks: Mapping[str, Filter],
        metrics: Metrics,
        now: Callable[[], datetime],
        on_new_deliveries: Callable[[Sequence[NewDelivery]], None],
        zone: tzinfo | None = None,
    ) -> None:
        self.state = state
        self.heartbeat_at = state.last_poll_at or now()
        self.shop_time: datetime | None = None
        self._orders = orders
        self._message_format = message_format
        self._sinks = sinks
        self._metrics = metrics
        self._now = now
        self._on_new_deliveries = on_new_deliveries
        self._zone = zone
        self.set_aside: dict[int, str] = {}
        self._log: Log = structlog.get_logger()

    async def load(self) -> None:
        """Load the data that is also kept in memory.

        Raises:
            TemporaryError: STORE.
        """
        self.set_aside = await self._orders.set_aside(self._message_format.shop_id)
        self._show()

    async def known(self, orders: Iterable[Order]) -> dict[int, KnownOrder]:
        """Return the known records of these orders.

        Raises:
            TemporaryError: STORE.
        """
        ids = [order.id for order in orders]
        return await self._orders.known(self._message_format.shop_id, ids) if ids else {}

    async def commit(
        self,
        state: ShopState,
        page: Page,
        *,
        known: Iterable[KnownOrder] = (),
        events: Sequence[OrderEvent] = (),
        silent_since: datetime | None = None,
    ) -> None:
        """Commit the whole result of a page at once; only then does it count.

        Args:
            state: the position of polling afterwards.
            page: what was read.
            known: records that changed.
            events: events of orders to announce.
            silent_since: announce that there was no order since then.

        Raises:
            TemporaryError: STORE; nothing was changed.
        """
        if state.tallied_since is None and state.baseline_at is not None:
            state = replace(state, tallied_since=page.shop_time)  # the state is of an earlier version
        now = self._now()
        is_right = abs(now - page.shop_time) <= AGREE
        tallies = NOTHING_COUNTED
        if events:  # usually there are none
            tallies = await self._count(events, TallyClock(page.shop_time, is_right, self._zone))
        # Our clock may show 1970 or next year; then receivers get the shop's time.
        created_at = now if is_right else page.shop_time
        notifications = [order_notification(event, self._message_format, now=created_at) for event in events]
        silence = (
            [silence_notification(silent_since, self._message_format, now=created_at)] if silent_since else []
        )
        new_deliveries = [
            NewDelivery(sink, notification, self._message_format.render(sink, notification))
            for notification in (*notifications, *silence)
            for sink in takers(self._sinks, notification)
        ]
        broken = [item for item in page.items if isinstance(item, UnreadableOrder)]
        mended = self.set_aside.keys() & {item.id for item in page.items if isinstance(item, Order)}
        await self._orders.commit(
            self._message_format.shop_id,
            Batch(
                state=state,
                now=now,
                seen_at=max(page.shop_time, now),
                known=tuple(known),
                new_deliveries=new_deliveries,
                set_aside=broken,
                mended=mended,
                tallies=tallies.changed,
                dropped_days=tallies.dropped,
            ),
        )
        if state.last_poll_at != self.state.last_poll_at:
            self.heartbeat_at = now
        self.state = state
        self.shop_time = page.shop_time
        if new_deliveries:
            self._on_new_deliveries(new_deliveries)
        self._note(broken, mended)
        for notification in notifications:
            self._log.info(
                "order event",
                order=notification.source_id,
                event_type=notification.event_type,
                event_id=notification.event_id,
            )
        for notification in silence:
            self._log.info("no order for too long", since=str(silent_since), event_id=notification.event_id)

    async def _count(self, events: Sequence[OrderEvent], clock: TallyClock) -> TallyChange:
        """Return the tallies with these events."""
        of_days = by_day(events, clock)
        if not of_days:
            return NOTHING_COUNTED
        # Read each time: the last commit may have taken effect although it failed.
        stored = await self._orders.tallies(self._message_format.shop_id, of_days.keys())
        if of_days.keys() - stored.keys():  # a new day, so that another one may be too old
            stored = await self._orders.tallies(self._message_format.shop_id)
        return counted(stored, of_days, clock)

    def _note(self, broken: Iterable[UnreadableOrder], mended: Iterable[int]) -> None:
        for item in broken:
            if self.set_aside.get(item.id) != item.reason:
                self._log.warning("order set aside: it cannot be read", order=item.id, reason=item.reason)
                self.set_aside[item.id] = item.reason
        for order_id in mended:
            self._log.info("an order set aside can be read again", order=order_id)
            del self.set_aside[order_id]
        self._show()

    def _show(self) -> None:
        self._metrics.set_aside.set(len(self.set_aside))
        if self.state.last_poll_at is not None:
            self._metrics.last_poll.set(self.state.last_poll_at.timestamp())
