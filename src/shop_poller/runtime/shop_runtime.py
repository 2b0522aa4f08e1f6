"""Builds the parts of one shop: those that last while it is watched here, and those of a leader session."""

import random
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

import structlog
from structlog.contextvars import bind_contextvars

from shop_poller.alerts import AlertManager
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import Whose
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.retry import RetryPolicy
from shop_poller.core.schedule import PollTrigger, first_tick, stale, stale_after
from shop_poller.core.sharing import phase
from shop_poller.delivery.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.mutes import WHOLE, Mutes
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import MetricsRegistry, StoreUse
from shop_poller.polling.digest_maker import DigestMaker
from shop_poller.polling.limiter import PollLimiter, PollSchedule
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.poller import Poller
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import NewDelivery, RefundList, Sink, Source, Store
from shop_poller.runtime.factory import (
    make_mask,
    make_message_format,
    make_metrics,
    make_refunds,
    make_sinks,
    make_source,
    poll_plan,
    sink_timings,
)
from shop_poller.runtime.leader_session import LeaderSession
from shop_poller.runtime.lease import LeaseKeeper
from shop_poller.runtime.status import HealthReporter
from shop_poller.sources.woocommerce.auto import ChosenDialect
from shop_poller.web.hooks import Hooks
from shop_poller.web.shop_hooks import ShopHooks

if TYPE_CHECKING:
    from shop_poller.runtime.status_page_data import Overview

LOOK_EVERY_S = 60.0
"""With several shops: how often the outbox of each is checked when nothing seems due."""
OnNewDeliveries = Callable[[Sequence[NewDelivery]], None]


class ShopRuntime:
    """The parts of one shop that last while this process watches it, over several leader sessions.

    `open_shop_runtime` makes it.

    Args:
        settings: as loaded.
        store: opened.
        source: fetches orders from the shop.
        sinks: deliver notifications.
        on_new_deliveries: receives the deliveries that were added to the outbox.
        metrics_registry: registers the metrics, with those of other shops.
        limiter: bounds concurrent polls of several shops; None for a single shop.
        refunds: the shop's own list of refunds; None if the shop is not asked for one.

    Attributes:
        session: the work while the lease is ours; None while another replica leads.
        lease: takes and keeps the lease.
        health_reporter: reports health, readiness and metrics.
        clock: watches the store's clock.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        sinks: Sequence[Sink],
        on_new_deliveries: OnNewDeliveries | None,
        *,
        metrics_registry: MetricsRegistry | None = None,
        limiter: PollLimiter | None = None,
        refunds: RefundList | None = None,
    ) -> None:
        self.session: LeaderSession | None = None
        self._limiter = limiter
        self._refunds = refunds
        self._settings = settings
        self._store = store
        self._source = source
        self._sinks = sinks
        self._names = tuple(sink.name for sink in sinks)
        self._wanted = {sink.name: sink.filter for sink in settings.sinks}
        self._rates = {sink.name: sink.options.rate for sink in settings.sinks}
        self._on_new_deliveries = on_new_deliveries
        self._message_format = make_message_format(settings, names_shop=limiter is not None)
        self._timings = sink_timings(settings, names_shop=limiter is not None)
        self._last_poll_at: datetime | None = None  # kept here because an emptied store does not contain it
        self._mask = make_mask(settings)
        self._hooks: Hooks | None = None
        self._gone: set[str] = set()  # sinks that answered 410
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()
        metrics_registry = metrics_registry or MetricsRegistry()
        self._metrics = make_metrics(settings, self._names, metrics_registry)
        self._metrics.polling_enabled.set(settings.shop_polling_enabled)
        self._metrics.interval.set(settings.shop_polling_interval)
        self._metrics.started.set(metrics_registry.started_at.timestamp())
        if settings.shop_dialect != "auto":
            self._metrics.dialect(settings.shop_dialect)
        self.clock = ClockWatch(
            store.now,
            whose=Whose.OF_REDIS if isinstance(settings.state, RedisAddress) else Whose.OURS,
            metrics=self._metrics,
        )
        self._alert_manager = AlertManager(
            store,
            history=store,
            message_format=self._message_format,
            sinks=self._wanted,
            now=self.clock.now,
            on_new_deliveries=self._announce,
        )
        self._mutes = Mutes(store, shop=settings.shop)
        self.lease = LeaseKeeper(store, self._metrics)
        self.health_reporter = HealthReporter(
            shop=settings.shop,
            polling=settings.shop_polling_enabled,
            sinks=self._names,
            store=store,
            metrics=self._metrics,
            interval_s=settings.shop_polling_interval,
            session=lambda: self.session.health() if self.session is not None else None,
            clock=self.clock,
            timings=self._timings,
        )

    async def begin(self) -> LeaderSession:
        """Build a leader session from the present state in the store.

        Raises:
            TemporaryError: STORE.
        """
        settings, store, metrics, now = self._settings, self._store, self._metrics, self.clock.now
        state_writer = StateWriter(
            await store.register(settings.shop, now()),
            orders=store,
            message_format=self._message_format,
            sinks=self._wanted,
            metrics=metrics,
            now=now,
            on_new_deliveries=self._announce,
            zone=settings.time_zone,
        )
        await state_writer.load()
        self.clock.begun(state_writer.state)
        await self._alert_manager.load()
        await self._mutes.load(now())
        self._report_missed_outage(state_writer)
        plan = DeliveryPlan(
            retry=RetryPolicy(max_age=timedelta(hours=settings.shop_delivery_max_age_hours)),
            senders=settings.shop_senders,
            queue_size=settings.shop_queue_size,
            check_every_s=None if self._limiter is None else LOOK_EVERY_S,
        )
        dispatchers = [
            Dispatcher(
                sink,
                replace(plan, rate=self._rates.get(sink.name)),
                outbox=store,
                may_send=self.lease.is_held,
                mask=self._mask,
                alert_manager=self._alert_manager,
                metrics=metrics,
                clock=self.clock,
                random=random.random,
                gone=sink.name in self._gone,
                muted_s=partial(self._muted_s, sink.name),
                timing=self._timings.get(sink.name),
            )
            for sink in self._sinks
        ]
        schedule = self._schedule(state_writer)
        poller = Poller(
            poll_plan(settings),
            state_writer=state_writer,
            fetcher=Fetcher(
                schedule.scheduled(self._source), shop=settings.shop, metrics=metrics, random=random.random
            ),
            orders=store,
            retention=store,
            alert_manager=self._alert_manager,
            metrics=metrics,
            clock=self.clock,
            schedule=schedule,
            refunds=None if self._refunds is None else schedule.scheduled_refunds(self._refunds),
            digest_maker=self._digest_maker(),
        )
        self._changes.changed("state", "")
        self.session = LeaderSession(poller, state_writer, dispatchers)
        return self.session

    def _digest_maker(self) -> DigestMaker | None:
        """Return what makes the digests; None if no sink gets any."""
        sinks = self._settings.sinks
        schedules = {sink.name: sink.options.digest for sink in sinks if sink.options.digest is not None}
        if not schedules:
            return None
        return DigestMaker(
            schedules,
            zone=self._settings.time_zone,
            orders=self._store,
            alerts=self._store,
            message_format=self._message_format,
            clock=self.clock,
            on_new_deliveries=self._announce,
        )

    def _schedule(self, state_writer: StateWriter) -> PollSchedule:
        """Return the schedule: at once for a single shop, else at the shop's fixed offset in the interval."""
        if self._limiter is None:
            return PollSchedule()
        last_at = state_writer.state.last_poll_at
        first_in_s = first_tick(
            phase(self._settings.shop),
            interval_s=self._settings.shop_polling_interval,
            now_s=self._store.now().timestamp(),
            last_s=last_at.timestamp() if last_at else None,
        )
        return PollSchedule(self._limiter, first_in_s)

    def _report_missed_outage(self, state_writer: StateWriter) -> None:
        """Report an outage of the store that has ended: no replica polled, and no alert could be stored."""
        interval_s = self._settings.shop_polling_interval
        last_poll_at = state_writer.state.last_poll_at or self._last_poll_at
        if last_poll_at is None or timedelta(seconds=self.lease.silence_s) < stale_after(interval_s):
            return
        if stale(last_poll_at, self._store.now(), interval_s=interval_s):
            self._alert_manager.remember_unstored(
                self._settings.shop, cause=ErrorKind.STORE, since=last_poll_at
            )

    def hooks(self) -> Hooks | None:
        """Return the receiver of the shop's webhooks; None if SHOP_WEBHOOK_SECRET is not set."""
        secret = self._settings.shop_webhook_secret
        if self._hooks is None and secret is not None:
            self._hooks = Hooks(secret.get_secret_value(), trigger=self._trigger, counter=self._metrics)
        return self._hooks

    def shop_hooks(self) -> ShopHooks | None:
        """Return the same at the path with the shop's id, as several shops have it."""
        hooks = self.hooks()
        if hooks is None:
            return None
        return ShopHooks({self._settings.shop: hooks}.get, counter=self._metrics)

    def overview(self) -> "Overview":
        """Return the data and the actions of the status page. They are imported only here: few look."""
        from shop_poller.runtime.status_page_data import Overview  # noqa: PLC0415

        settings = self._settings
        return Overview(
            shop=settings.shop,
            sinks=self._names,
            events=frozenset(event for event, _ in settings.events),
            titles={named.event: named.title for named in settings.shop_status_events.values()},
            polling=settings.shop_polling_enabled,
            in_redis=isinstance(settings.state, RedisAddress),
            store=self._store,
            history=self._store,
            dead_letters=self._store,
            health_reporter=self.health_reporter,
            session=lambda: self.session.snapshot() if self.session is not None else None,
            poll_now=self._poll_now,
            mute=self._mute,
            on_new_deliveries=self._announce,
            timings=self._timings,
        )

    def _trigger(self) -> None:
        """Poll soon after a webhook. A follower does nothing: the leader reads the order at its next tick."""
        if self.session is not None:
            self.session.poller.trigger(PollTrigger.WEBHOOK)

    def _poll_now(self) -> bool:
        """Poll soon because the owner asked for it. Return whether this process polls."""
        if self.session is None:
            return False
        self.session.poller.trigger(PollTrigger.OWNER)
        return True

    def _muted_s(self, sink: str, event_type: str = WHOLE) -> float:
        return self._mutes.left_s(sink, self.clock.now, event_type)

    async def _mute(self, sink: str, for_s: float, events: Sequence[str]) -> bool:
        """Mute a sink or some events of it, or unmute with 0. Return whether this process delivers.

        Only the process that delivers may change it.
        """
        if self.session is None:
            return False
        now = self.clock.now()
        if for_s > 0:
            await self._mutes.mute(sink, now=now, until=now + timedelta(seconds=for_s), events=events)
        else:
            await self._mutes.unmute(sink, now=now, events=events)
        if self.session is not None:
            for dispatcher in self.session.dispatchers:
                dispatcher.mute_changed(unmuted=for_s == 0)
        return True

    def chose(self, choice: ChosenDialect) -> None:
        """Log the dialect that requests to the shop use from now on."""
        refused = {str(dialect): why for dialect, why in choice.refused.items()}
        self._log.info("dialect chosen", dialect=choice.dialect, why=choice.why, refused=refused)
        self._metrics.dialect(choice.dialect)

    async def warn_of_orphans(self) -> None:
        """Warn of deliveries that wait for sinks that are no longer in the settings.

        Raises:
            TemporaryError: STORE.
        """
        stats = await self._store.stats(self._settings.shop)
        for name, sink in stats.sinks.items():
            if sink.waiting and name not in self._wanted:
                self._log.warning(
                    "deliveries wait for a sink that is no longer in SHOP_NOTIFY_URLS;"
                    " add it again to send them",
                    sink=name,
                    deliveries=sink.waiting,
                )

    def complain(self, error: TemporaryError) -> None:
        """Log that the state cannot be read, once per outage."""
        self._metrics.store_error(StoreUse.BEGIN)
        if self._changes.changed("state", error.kind):
            self._log.error("the state cannot be read; retrying", error=str(error))

    def end(self) -> None:
        """End the session: the lease is no longer ours."""
        if self.session is not None:
            pairs = zip(self._names, self.session.dispatchers, strict=True)
            self._gone |= {name for name, dispatcher in pairs if dispatcher.gone}
            self._last_poll_at = self.session.state_writer.state.last_poll_at
            self.health_reporter.session_ended(self.session.state_writer.heartbeat_at)
        self.session = None

    def _announce(self, new_deliveries: Sequence[NewDelivery] = ()) -> None:
        if self.session is not None:
            for dispatcher in self.session.dispatchers:
                dispatcher.check_soon()
        if self._on_new_deliveries is not None:
            self._on_new_deliveries(new_deliveries)


def _warn_of_chat_hooks(settings: Settings) -> None:
    """Warn of sinks that are chat services. The daemon starts anyway, to serve the other sinks."""
    for sink in settings.sinks:
        if advice := sink.chat_service_advice:
            structlog.get_logger().warning(
                "an address in SHOP_NOTIFY_URLS is a chat service's", sink=sink.name, advice=advice
            )


@asynccontextmanager
async def open_shop_runtime(
    settings: Settings,
    store: Store,
    *,
    on_new_deliveries: OnNewDeliveries | None = None,
    metrics_registry: MetricsRegistry | None = None,
    limiter: PollLimiter | None = None,
) -> AsyncIterator[ShopRuntime]:
    """Build the parts around a store. Close all of them afterwards, including the store."""
    bind_contextvars(shop=settings.shop)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)

        def choose(choice: ChosenDialect) -> None:
            shop_runtime.chose(choice)  # assigned before the first request

        source = make_source(settings, on_choice=choose)
        stack.push_async_callback(source.aclose)
        refunds = make_refunds(settings)
        if refunds is not None:
            stack.push_async_callback(refunds.aclose)
        sinks = make_sinks(settings)
        _warn_of_chat_hooks(settings)
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
        shop_runtime = ShopRuntime(
            settings,
            store,
            source,
            sinks,
            on_new_deliveries,
            metrics_registry=metrics_registry,
            limiter=limiter,
            refunds=refunds,
        )
        yield shop_runtime
