"""The composition root: builds the parts, owns the signals and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → tenure: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox; the lease is released
"""

import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import anyio
import structlog
from structlog.contextvars import bind_contextvars

from shop_poller import __version__, systemd
from shop_poller.alarm import Alarm
from shop_poller.core.dialects import NEEDS, Dialect, candidates
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.messages import Voice
from shop_poller.core.retry import RetryPolicy
from shop_poller.core.schedule import stale, stale_after
from shop_poller.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.fetcher import Fetcher
from shop_poller.lease import Lease
from shop_poller.ledger import Ledger
from shop_poller.monitor import Monitor
from shop_poller.plan import PollPlan, TickReport
from shop_poller.poller import Poller
from shop_poller.ports import Outgoing, Sink, Source, Stats, Store
from shop_poller.settings import Settings, SettingsError
from shop_poller.sinks import make_sink
from shop_poller.sources import open_source
from shop_poller.sources.auto import Auto, Choice
from shop_poller.stores import copy_store, open_store
from shop_poller.telemetry import Edges, Log, Metrics
from shop_poller.tenure import Tenure
from shop_poller.web.hooks import Hooks
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving

TICK_GRACE_S = 10.0
SENDER_GRACE_S = 20.0


def make_source(settings: Settings, *, on_choice: Callable[[Choice], None] = lambda _: None) -> Source:
    """The source for the shop's dialect, or for the one that it will turn out to speak."""
    url, proofs = settings.woocommerce_mcp_url, settings.proofs
    if settings.shop_dialect != "auto":
        return open_source(Dialect(settings.shop_dialect), url, proofs)
    dialects = candidates(url)
    return Auto(
        {dialect: partial(open_source, dialect, url, proofs) for dialect in dialects if proofs.fit(dialect)},
        missing={dialect: f"needs {NEEDS[dialect]}" for dialect in dialects if not proofs.fit(dialect)},
        on_choice=on_choice,
    )


def _tell_choice(choice: Choice) -> None:
    refused = {str(dialect): why for dialect, why in choice.refused.items()}
    structlog.get_logger().info("dialect chosen", dialect=choice.dialect, why=choice.why, refused=refused)


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


OnOutgoing = Callable[[Sequence[Outgoing]], None]


class House:
    """What lasts as long as the process; made by `built`.

    Args:
        settings: as loaded.
        store: opened.
        source: asks the shop.
        sinks: deliver.
        on_outgoing: is shown what was put into the outbox.
    """

    def __init__(
        self,
        settings: Settings,
        store: Store,
        source: Source,
        sinks: Sequence[Sink],
        on_outgoing: OnOutgoing | None,
    ) -> None:
        self._settings = settings
        self._store = store
        self._source = source
        self._sinks = sinks
        self._names = tuple(sink.name for sink in sinks)
        self._on_outgoing = on_outgoing
        self._voice = make_voice(settings)
        self._last_poll_at: datetime | None = None  # an emptied store does not know it any more
        self._gone: set[str] = set()  # sinks that said 410
        self._edges = Edges()
        self._log: Log = structlog.get_logger()
        named = [named.event for named in settings.shop_status_events.values()]
        self._metrics = Metrics(settings.shop, self._names, named)
        self._metrics.polling_enabled.set(settings.shop_polling_enabled)
        self._alarm = Alarm(
            store, voice=self._voice, sinks=self._names, now=store.now, on_outgoing=self._announce
        )
        self.lease = Lease(store, self._metrics)
        self.monitor = Monitor(
            shop=settings.shop,
            polling=settings.shop_polling_enabled,
            sinks=self._names,
            store=store,
            metrics=self._metrics,
            interval_s=settings.shop_polling_interval,
        )

    async def begin(self) -> Tenure:
        """The parts that write, on what the store holds now.

        Raises:
            TemporaryError: STORE.
        """
        settings, store, metrics, now = self._settings, self._store, self._metrics, self._store.now
        ledger = Ledger(
            await store.register(settings.shop, now()),
            store=store,
            voice=self._voice,
            sinks=self._names,
            metrics=metrics,
            now=now,
            on_outgoing=self._announce,
        )
        await ledger.load()
        await self._alarm.load()
        self._own_up(ledger)
        plan = DeliveryPlan(
            retry=RetryPolicy(max_age=timedelta(hours=settings.shop_delivery_max_age_hours)),
            senders=settings.shop_senders,
            queue_size=settings.shop_queue_size,
        )
        dispatchers = [
            Dispatcher(
                sink,
                plan,
                store=store,
                may_send=self.lease.held,
                alarm=self._alarm,
                metrics=metrics,
                now=now,
                chance=random.random,
                gone=sink.name in self._gone,
            )
            for sink in self._sinks
        ]
        poller = Poller(
            poll_plan(settings),
            ledger=ledger,
            fetcher=Fetcher(self._source, shop=settings.shop, metrics=metrics, chance=random.random),
            store=store,
            alarm=self._alarm,
            metrics=metrics,
            now=now,
        )
        self._edges.changed("state", "")
        self.monitor.tenure = Tenure(poller, ledger, dispatchers)
        return self.monitor.tenure

    def _own_up(self, ledger: Ledger) -> None:
        """Nobody polled while the store was away for long, and nobody could be told."""
        interval_s = self._settings.shop_polling_interval
        last_poll_at = ledger.state.last_poll_at or self._last_poll_at
        if last_poll_at is None or timedelta(seconds=self.lease.silence_s) < stale_after(interval_s):
            return
        if stale(last_poll_at, self._store.now(), interval_s=interval_s):
            self._alarm.owe(self._settings.shop, cause=ErrorKind.STORE, since=last_poll_at)

    def hooks(self) -> Hooks | None:
        """What takes the shop's webhooks, if they are wanted."""
        secret = self._settings.shop_webhook_secret
        if secret is None:
            return None
        return Hooks(secret.get_secret_value(), hint=self._hint, metrics=self._metrics)

    def _hint(self) -> None:
        """A follower does nothing: whoever leads finds it at the next tick."""
        if self.monitor.tenure is not None:
            self.monitor.tenure.poller.hint()

    def complain(self, error: TemporaryError) -> None:
        """The state cannot be used: said once, until it can."""
        if self._edges.changed("state", error.kind):
            self._log.error("the state cannot be read; trying on", error=str(error))

    def end(self) -> None:
        """The right to write is not ours any more."""
        if self.monitor.tenure is not None:
            pairs = zip(self._names, self.monitor.tenure.dispatchers, strict=True)
            self._gone |= {name for name, dispatcher in pairs if dispatcher.gone}
            self._last_poll_at = self.monitor.tenure.ledger.state.last_poll_at
        self.monitor.tenure = None

    def _announce(self, outgoing: Sequence[Outgoing] = ()) -> None:
        if self.monitor.tenure is not None:
            for dispatcher in self.monitor.tenure.dispatchers:
                dispatcher.wake()
        if self._on_outgoing is not None:
            self._on_outgoing(outgoing)


@asynccontextmanager
async def built(
    settings: Settings, store: Store, *, on_outgoing: OnOutgoing | None = None
) -> AsyncIterator[House]:
    """Build the parts around a store; all is closed afterwards, the store too."""
    bind_contextvars(shop=settings.shop)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.aclose)
        source = make_source(settings, on_choice=_tell_choice)
        stack.push_async_callback(source.aclose)
        sinks = make_sinks(settings)
        for sink in sinks:
            stack.push_async_callback(sink.aclose)
        yield House(settings, store, source, sinks, on_outgoing)


def poll_plan(settings: Settings) -> PollPlan:
    """How the settings want the shop polled."""
    return PollPlan(
        shop=settings.shop,
        interval_s=settings.shop_polling_interval,
        lookback=timedelta(seconds=settings.shop_initial_lookback),
        overlap=timedelta(seconds=settings.shop_cursor_overlap),
        clock_skew=timedelta(seconds=settings.shop_clock_skew),
        sweep_every=timedelta(seconds=settings.shop_sweep_interval),
        sweep_window=timedelta(hours=settings.shop_sweep_window),
        retention=timedelta(days=settings.shop_state_retention_days),
        history=timedelta(days=settings.shop_history_days),
        unpaid_statuses=frozenset(settings.shop_unpaid_statuses),
        cancelled_unpaid=settings.shop_cancelled_unpaid,
        status_events=settings.shop_status_events,
        overdue_after=timedelta(hours=settings.shop_pending_payment_threshold),
        silence_after=timedelta(hours=settings.shop_silence_alert_hours),
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
        PermanentError: STORE, it cannot be used.
    """
    log: Log = structlog.get_logger()
    stop = stop or anyio.Event()
    async with AsyncExitStack() as stack:
        store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
        house = await stack.enter_async_context(built(settings, store))
        address = await stack.enter_async_context(_listening(settings, house))
        on_listen(address)
        log.info(
            "started",
            version=__version__,
            interval_s=settings.shop_polling_interval,
            polling=settings.shop_polling_enabled,
            sinks=[sink.name for sink in settings.sinks],
            state=settings.state_place,
            http=address,
        )
        async with anyio.create_task_group() as background:
            await background.start(_watch_signals, stop)
            background.start_soon(systemd.feed_watchdog)
            background.start_soon(_say_stopping, stop)
            systemd.notify("READY=1")
            failure: PermanentError | None = None
            try:
                await house.lease.hold(lambda: _work(settings, store, house, stop), stop)
            except PermanentError as error:  # kept out of the group, which would wrap it
                failure = error
            background.cancel_scope.cancel()
        if failure is not None:
            raise failure
    log.info("stopped")


async def _say_stopping(stop: anyio.Event) -> None:
    await stop.wait()
    systemd.notify("STOPPING=1")
    structlog.get_logger().info("stopping; what is not delivered waits in the outbox")


async def _work(settings: Settings, store: Store, house: House, stop: anyio.Event) -> None:
    """Poll and deliver until stopped, or until the lease is lost."""
    log: Log = structlog.get_logger()
    try:
        tenure = await house.begin()
        _warn_of_orphans(settings, await store.stats(settings.shop), log)
    except TemporaryError as error:
        house.complain(error)
        return
    try:
        async with anyio.create_task_group() as work:
            work.start_soon(_bounded, tenure.deliver, stop, SENDER_GRACE_S)
            if settings.shop_polling_enabled:
                work.start_soon(_bounded, tenure.poller.run, stop, TICK_GRACE_S)
            await stop.wait()
            tenure.stop()
    finally:
        house.end()


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
    store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    reports: list[RunReport] = []
    async with built(settings, store) as house:

        async def work() -> None:
            reports.append(await _run_once(settings, store, await house.begin()))

        await house.lease.once(work)
    if not reports:
        raise TemporaryError(
            ErrorKind.STORE, f"state in {settings.state_place}: the lease was lost meanwhile"
        )
    return reports[0]


async def _run_once(settings: Settings, store: Store, tenure: Tenure) -> RunReport:
    deadline = anyio.current_time() + settings.shop_polling_interval
    for sink in settings.sinks:  # what waits for a better time: whoever runs it once means now
        await store.wake(sink.name)
    tick = TickReport()
    if settings.shop_polling_enabled:
        tick = await tenure.poller.tick(deadline)
        if tick.error is None:
            await tenure.poller.between_ticks(tick, deadline)
    await tenure.deliver(until_idle=True)
    after = await store.stats(settings.shop)
    return RunReport(
        tick=tick,
        delivered=sum(dispatcher.delivered for dispatcher in tenure.dispatchers),
        waiting=sum(sink.waiting for sink in after.sinks.values()),
        buried=sum(dispatcher.buried for dispatcher in tenure.dispatchers),
    )


async def rehearse(settings: Settings, show: Callable[[Outgoing], None]) -> TickReport:
    """One tick on a copy of the state: shows what would be sent, sends and changes nothing."""

    def show_all(outgoing: Sequence[Outgoing]) -> None:
        for one in outgoing:
            show(one)

    copy = await copy_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    async with built(settings, copy, on_outgoing=show_all) as house:
        tenure = await house.begin()
        return await tenure.poller.tick(anyio.current_time() + settings.shop_polling_interval)


@asynccontextmanager
async def _listening(settings: Settings, house: House) -> AsyncIterator[str]:
    if settings.shop_http_listen is None:
        yield ""
        return
    try:
        listener = listen(*settings.shop_http_listen)
    except OSError as error:
        raise SettingsError([f"SHOP_HTTP_LISTEN: {error}"]) from error
    async with serving(make_app(house.monitor, house.hooks()), listener) as address:
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
