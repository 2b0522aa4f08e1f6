"""The composition root: builds the parts, owns the signals and the order of shutdown.

start:  settings → store (locked) → parts → listener → READY → dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox
"""

import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import anyio
import structlog
from structlog.contextvars import bind_contextvars

from shop_poller import __version__, systemd
from shop_poller.alarm import Alarm
from shop_poller.core.messages import Voice
from shop_poller.core.retry import RetryPolicy
from shop_poller.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.fetcher import Fetcher
from shop_poller.ledger import Ledger
from shop_poller.monitor import Monitor
from shop_poller.poller import Poller, PollPlan, TickReport
from shop_poller.ports import Outgoing, Sink, Source, Stats, Store
from shop_poller.settings import Settings, SettingsError
from shop_poller.sinks import make_sink
from shop_poller.sources.woocommerce_mcp import WooCommerceMcp
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.telemetry import Log, Metrics
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving

TICK_GRACE_S = 10.0
SENDER_GRACE_S = 20.0


def now() -> datetime:
    """Our clock, to the millisecond: finer than that the stores do not keep."""
    instant = datetime.now(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def make_source(settings: Settings) -> Source:
    """The source for the shop's dialect."""
    return WooCommerceMcp(
        settings.woocommerce_mcp_url,
        consumer_key=settings.woocommerce_consumer_key.get_secret_value(),
        consumer_secret=settings.woocommerce_consumer_secret.get_secret_value(),
    )


def make_sinks(settings: Settings) -> list[Sink]:
    """The sinks, in the order in which they are named."""
    return [
        make_sink(address, notify_secret=settings.shop_notify_secret, connections=settings.shop_senders)
        for address in settings.sinks
    ]


def make_voice(settings: Settings) -> Voice:
    """How notifications are written."""
    return Voice(
        settings.shop,
        locale=settings.shop_locale,
        levels=settings.shop_level_map,
        brand_id=settings.shop_brand_id,
        target_roles=settings.shop_target_roles,
        target_users=settings.shop_target_users,
    )


@dataclass(frozen=True, slots=True)
class Parts:
    """All that works together on one shop."""

    poller: Poller
    dispatchers: Sequence[Dispatcher]
    monitor: Monitor
    store: Store

    def stop(self) -> None:
        """No new tick, no new claim."""
        self.poller.stop()
        for dispatcher in self.dispatchers:
            dispatcher.stop()

    async def deliver(self, *, until_idle: bool = False) -> None:
        """Run all dispatchers."""
        async with anyio.create_task_group() as tasks:
            for dispatcher in self.dispatchers:
                tasks.start_soon(partial(dispatcher.run, until_idle=until_idle))


@asynccontextmanager
async def assembled(
    settings: Settings, store: Store, *, on_outgoing: Callable[[Sequence[Outgoing]], None] | None = None
) -> AsyncIterator[Parts]:
    """Build the parts around a store; what they open is closed afterwards.

    Args:
        settings: as loaded.
        store: opened; is not closed here.
        on_outgoing: is shown what was put into the outbox.

    Raises:
        TemporaryError: STORE.
    """
    shop = settings.shop
    bind_contextvars(shop=shop)
    async with AsyncExitStack() as stack:
        source = make_source(settings)
        stack.push_async_callback(source.aclose)
        sinks = make_sinks(settings)
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
        names = [sink.name for sink in sinks]
        metrics = Metrics(shop, names)
        metrics.lease_held.set(1)  # the store's lock
        metrics.polling_enabled.set(settings.shop_polling_enabled)
        voice = make_voice(settings)
        dispatchers: list[Dispatcher] = []

        def announce(outgoing: Sequence[Outgoing] = ()) -> None:
            for dispatcher in dispatchers:
                dispatcher.wake()
            if on_outgoing is not None:
                on_outgoing(outgoing)

        alarm = Alarm(store, voice=voice, sinks=names, now=now, on_outgoing=announce)
        await alarm.load()
        plan = DeliveryPlan(
            retry=RetryPolicy(max_age=timedelta(hours=settings.shop_delivery_max_age_hours)),
            senders=settings.shop_senders,
            queue_size=settings.shop_queue_size,
        )
        dispatchers += [
            Dispatcher(sink, plan, store=store, alarm=alarm, metrics=metrics, now=now, chance=random.random)
            for sink in sinks
        ]
        ledger = Ledger(
            await store.register(shop, now()),
            store=store,
            voice=voice,
            sinks=names,
            metrics=metrics,
            now=now,
            on_outgoing=announce,
        )
        await ledger.load()
        poller = Poller(
            poll_plan(settings),
            ledger=ledger,
            fetcher=Fetcher(source, shop=shop, metrics=metrics, chance=random.random),
            store=store,
            alarm=alarm,
            metrics=metrics,
            now=now,
        )
        monitor = Monitor(
            shop=shop,
            poller=poller if settings.shop_polling_enabled else None,
            ledger=ledger,
            dispatchers=dispatchers,
            sinks=names,
            store=store,
            metrics=metrics,
            interval_s=settings.shop_polling_interval,
            now=now,
        )
        yield Parts(poller, dispatchers, monitor, store)


def poll_plan(settings: Settings) -> PollPlan:
    """How the settings want the shop polled."""
    return PollPlan(
        shop=settings.shop,
        interval_s=settings.shop_polling_interval,
        lookback=timedelta(seconds=settings.shop_initial_lookback),
        overlap=timedelta(seconds=settings.shop_cursor_overlap),
        clock_skew=timedelta(seconds=settings.shop_clock_skew),
        retention=timedelta(days=settings.shop_state_retention_days),
        history=timedelta(days=settings.shop_history_days),
        unpaid_statuses=frozenset(settings.shop_unpaid_statuses),
        cancelled_unpaid=settings.shop_cancelled_unpaid,
    )


async def run(
    settings: Settings,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
) -> None:
    """The daemon: until SIGTERM or SIGINT.

    Args:
        settings: as loaded.
        stop: ends it, too.
        on_listen: is told the listener's address.

    Raises:
        SettingsError: the listener's address cannot be used.
        TemporaryError, PermanentError: STORE, at the start.
    """
    log: Log = structlog.get_logger()
    stop = stop or anyio.Event()
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(settings.state_path)
        stack.push_async_callback(store.aclose)
        parts = await stack.enter_async_context(assembled(settings, store))
        address = await stack.enter_async_context(_listening(settings, parts.monitor))
        on_listen(address)
        log.info(
            "started",
            version=__version__,
            interval_s=settings.shop_polling_interval,
            polling=settings.shop_polling_enabled,
            sinks=[sink.name for sink in settings.sinks],
            state=str(settings.state_path),
            http=address,
        )
        _warn_of_orphans(settings, await store.stats(settings.shop), log)
        async with anyio.create_task_group() as background:
            await background.start(_watch_signals, stop)
            background.start_soon(systemd.feed_watchdog)
            systemd.notify("READY=1")
            await _work(settings, parts, stop)
            background.cancel_scope.cancel()
    log.info("stopped")


async def _work(settings: Settings, parts: Parts, stop: anyio.Event) -> None:
    """Poll and deliver until stopped."""
    async with anyio.create_task_group() as work:
        work.start_soon(_bounded, parts.deliver, stop, SENDER_GRACE_S)
        if settings.shop_polling_enabled:
            work.start_soon(_bounded, parts.poller.run, stop, TICK_GRACE_S)
        await stop.wait()
        systemd.notify("STOPPING=1")
        structlog.get_logger().info("stopping; what is not delivered waits in the outbox")
        parts.stop()


@dataclass(frozen=True, slots=True)
class RunReport:
    """What `run --once` did.

    Attributes:
        delivered: notifications that sinks took.
        waiting: deliveries left in the outbox.
        buried: deliveries given up in this run.
    """

    tick: TickReport
    delivered: int
    waiting: int
    buried: int


async def run_once(settings: Settings) -> RunReport:
    """One tick, then deliver what is due; raises what `run` raises."""
    async with AsyncExitStack() as stack:
        store = await SqliteStore.open(settings.state_path)
        stack.push_async_callback(store.aclose)
        parts = await stack.enter_async_context(assembled(settings, store))
        before = await store.stats(settings.shop)
        for sink in settings.sinks:  # what waits for a better time: whoever runs it once means now
            await store.wake(sink.name)
        tick = await parts.poller.tick(anyio.current_time() + settings.shop_polling_interval)
        await parts.deliver(until_idle=True)
        after = await store.stats(settings.shop)
        return RunReport(
            tick=tick,
            delivered=sum(dispatcher.delivered for dispatcher in parts.dispatchers),
            waiting=sum(sink.waiting for sink in after.sinks.values()),
            buried=sum(sink.dead for sink in after.sinks.values())
            - sum(sink.dead for sink in before.sinks.values()),
        )


async def rehearse(settings: Settings, show: Callable[[Outgoing], None]) -> TickReport:
    """One tick on a copy of the state: shows what would be sent, sends and changes nothing."""
    async with AsyncExitStack() as stack:
        store = await SqliteStore.copy(settings.state_path)
        stack.push_async_callback(store.aclose)

        def show_all(outgoing: Sequence[Outgoing]) -> None:
            for one in outgoing:
                show(one)

        parts = await stack.enter_async_context(assembled(settings, store, on_outgoing=show_all))
        return await parts.poller.tick(anyio.current_time() + settings.shop_polling_interval)


@asynccontextmanager
async def _listening(settings: Settings, monitor: Monitor) -> AsyncIterator[str]:
    if settings.shop_http_listen is None:
        yield ""
        return
    try:
        listener = listen(*settings.shop_http_listen)
    except OSError as error:
        raise SettingsError([f"SHOP_HTTP_LISTEN: {error}"]) from error
    async with serving(make_app(monitor), listener) as address:
        yield address


def _warn_of_orphans(settings: Settings, stats: Stats, log: Log) -> None:
    """Deliveries for sinks that were taken out of the settings would wait in silence."""
    configured = {sink.name for sink in settings.sinks}
    for name, sink in stats.sinks.items():
        if sink.waiting and name not in configured:
            log.warning(
                "deliveries wait for a sink that is not in SHOP_NOTIFY_URLS any more; name it again to send"
                " them",
                sink=name,
                deliveries=sink.waiting,
            )


async def _bounded(work: Callable[[], Awaitable[None]], stop: anyio.Event, grace_s: float) -> None:
    """Run some work; once stopped, it has a grace to come to its end."""

    async def cut_short() -> None:
        await stop.wait()
        await anyio.sleep(grace_s)
        structlog.get_logger().warning("cut short", after_s=grace_s)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut_short)
        await work()
        tasks.cancel_scope.cancel()


async def _watch_signals(
    stop: anyio.Event, *, task_status: anyio.abc.TaskStatus[None] = anyio.TASK_STATUS_IGNORED
) -> None:
    """The first signal stops in good order, the second at once."""
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        task_status.started()
        async for number in signals:
            if stop.is_set():
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
            stop.set()
