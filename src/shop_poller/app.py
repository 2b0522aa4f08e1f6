"""The composition root: builds the parts, owns the signals and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → tenure: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox; the lease is released
"""

import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import httpx
import structlog

from shop_poller import __version__, systemd
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.house import House, built
from shop_poller.httpclient import transport_class
from shop_poller.plan import TickReport
from shop_poller.ports import Outgoing, Stats, Store
from shop_poller.settings import Settings, SettingsError
from shop_poller.stores import copy_store, open_store
from shop_poller.telemetry import Log
from shop_poller.tenure import Tenure
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving

TICK_GRACE_S = 10.0
SENDER_GRACE_S = 20.0


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
    stop = stop or anyio.Event()
    failures: list[Exception] = []
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            # From before the store is opened until after it is closed: either may hang.
            tasks.start_soon(_obey, signals, stop)
            try:
                await _run(settings, stop, on_listen)
            except (SettingsError, ShopPollerError) as error:  # kept out of the group, which would wrap it
                failures.append(error)
            tasks.cancel_scope.cancel()
    for failure in failures:
        raise failure


async def _run(settings: Settings, stop: anyio.Event, on_listen: Callable[[str], None]) -> None:
    log: Log = structlog.get_logger()
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
            fast=transport_class() is not httpx.AsyncHTTPTransport,
        )
        async with anyio.create_task_group() as background:
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
        await tenure.deliver(until_idle=True)
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
    async with serving(
        make_app(house.monitor, house.hooks(), house.front, acts=settings.shop_admin_token is not None),
        listener,
    ) as address:
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


async def _obey(signals: AsyncIterator[signal.Signals], stop: anyio.Event) -> None:
    """The first signal stops in good order, the second at once."""
    async for number in signals:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()
