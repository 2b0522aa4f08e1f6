"""The composition root: builds the parts, owns the signals and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → leader session: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox; the lease is released
"""

import os
import resource
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import structlog
from anyio.abc import TaskGroup
from starlette.applications import Starlette

from shop_poller import __version__
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import ShopsConfig
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.http.client import transport_class
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.held_refunds import HOLD_S
from shop_poller.polling.limiter import PollLimiter
from shop_poller.polling.plan import TickReport
from shop_poller.ports import NewDelivery, Outbox, StateView
from shop_poller.runtime import systemd
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.runtime.leader_session import LeaderSession
from shop_poller.runtime.shift import work
from shop_poller.runtime.shop_runtime import built
from shop_poller.runtime.signals import STOPPING, ignoring_signals, on_signal
from shop_poller.stores import StorePool, copy_store, open_store
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving

FILES_A_STATE, FILES_BESIDES = 4, 300
"""Descriptors: of a state file, with what lies beside it; and those that no shop has to itself."""
FILES_TO_SPARE = 4096
"""The soft limit is raised to this at least, as far as the hard one allows."""


async def run(
    settings: Settings,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
    files: Sequence[Path] = (),
) -> None:
    """The daemon: until SIGTERM, SIGINT, SIGHUP or SIGQUIT.

    Args:
        settings: as loaded.
        files: that they came from.
        stop: ends it, too.
        on_listen: is told the listener's address.

    Raises:
        SettingsError: the listener's address cannot be used.
        PermanentError: STORE, it cannot be used.
    """
    await _until_told(lambda stop: _run(settings, stop, on_listen, files), stop or anyio.Event())


async def run_fleet(
    shops_config: ShopsConfig,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
) -> None:
    """The daemon for several shops; as `run`, but what one shop lacks is its own trouble."""
    await _until_told(lambda stop: _run_fleet(shops_config, stop, on_listen), stop or anyio.Event())


async def _until_told(daemon: Callable[[anyio.Event], Awaitable[None]], stop: anyio.Event) -> None:
    def told(number: signal.Signals) -> None:
        if stop.is_set():  # it stops already, though no signal said so: this one is the second
            os.kill(os.getpid(), number)
        stop.set()

    # From before the store is opened until after it is closed: either may hang. See `signals`.
    with ignoring_signals(), on_signal(STOPPING, told):
        await daemon(stop)


async def _run(
    settings: Settings, stop: anyio.Event, on_listen: Callable[[str], None], files: Sequence[Path]
) -> None:
    log: Log = structlog.get_logger()
    _make_room(_files([settings]), log, at_least=FILES_TO_SPARE)
    async with AsyncExitStack() as stack:
        store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
        shop_runtime = await stack.enter_async_context(built(settings, store))
        app = make_app(
            shop_runtime.health_reporter,
            shop_runtime.hooks(),
            shop_runtime.status_page,
            acts=settings.shop_admin_token is not None,
            hosts=_hosts(settings),
        )
        address = await stack.enter_async_context(_listening(settings, app))
        on_listen(address)
        log.info(
            "started",
            version=__version__,
            interval_s=settings.shop_polling_interval,
            polling=settings.shop_polling_enabled,
            sinks=[sink.name for sink in settings.sinks],
            state=settings.state_place,
            http=address,
            fast=_is_fast(),
        )
        _warn_of_exposure([settings], files)
        failure: PermanentError | None = None
        async with _ready(stop):
            try:
                await shop_runtime.lease.hold(lambda: work(settings, store, shop_runtime, stop), stop)
            except PermanentError as error:  # kept out of the group, which would wrap it
                failure = error
        if failure is not None:
            raise failure
    log.info("stopped")


async def _run_fleet(shops_config: ShopsConfig, stop: anyio.Event, on_listen: Callable[[str], None]) -> None:
    from shop_poller.runtime.fleet import Fleet  # noqa: PLC0415 - one shop needs none of it
    from shop_poller.runtime.fleet_status import FleetStatus, lateness  # noqa: PLC0415 - as above

    log: Log = structlog.get_logger()
    shops, first = shops_config.shops, shops_config.shops[0]
    _make_room(_files(shops), log, at_least=FILES_TO_SPARE)
    async with AsyncExitStack() as stack:
        store_pool = StorePool(first.state)
        stack.push_async_callback(store_pool.aclose)
        name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        metrics_registry = MetricsRegistry(is_crowded=len(shops) > first.shop_labelled_shops)
        limiter = PollLimiter(first.shop_concurrent_polls, lateness(metrics_registry))
        fleet = Fleet(
            shops,
            lambda one: store_pool.open(one.state, shop=one.shop, prefix=one.shop_redis_prefix),
            metrics_registry=metrics_registry,
            limiter=limiter,
            membership=store_pool.membership(first.state, prefix=shops_config.prefix, name=name),
            name=name,
        )
        health_reporter = FleetStatus(fleet, metrics_registry, limiter)
        address = await stack.enter_async_context(
            _listening(first, make_app(health_reporter, hosts=_hosts(first)))
        )
        on_listen(address)
        log.info(
            "started",
            version=__version__,
            shops=len(shops),
            state=first.state_place,
            http=address,
            fast=_is_fast(),
        )
        _warn_of_exposure(shops, shops_config.files)
        async with _ready(stop) as background:
            background.start_soon(health_reporter.survey)
            await fleet.watch(stop)
    log.info("stopped")


@asynccontextmanager
async def _ready(stop: anyio.Event) -> AsyncIterator[TaskGroup]:
    """For as long as the context lasts systemd is told how it goes; what is started besides ends with it."""
    async with anyio.create_task_group() as background:
        background.start_soon(systemd.feed_watchdog)
        background.start_soon(_say_stopping, stop)
        systemd.notify("READY=1")
        yield background
        background.cancel_scope.cancel()


def _warn_of_exposure(shops: Sequence[Settings], files: Sequence[Path]) -> None:
    """Log what other users of this machine can read or write."""
    for line in summary(exposed(shops, files)):
        structlog.get_logger().warning("others can read or write a file of ours", detail=line)


def _hosts(settings: Settings) -> set[str]:
    """The names that the listener may be called by."""
    return {*settings.shop_http_hosts, *(settings.shop_http_listen or ())[:1]}


def _is_fast() -> bool:
    """Whether the extra `fast` is installed, and used."""
    return transport_class() is not httpx.AsyncHTTPTransport


def _files(shops: Sequence[Settings]) -> int:
    """How many descriptors are needed at most: each sender may have a connection, which stays open."""
    return FILES_BESIDES + sum(
        1 + shop.shop_senders * len(shop.sinks) + (FILES_A_STATE if isinstance(shop.state, Path) else 0)
        for shop in shops
    )


def _make_room(files: int, log: Log, *, at_least: int = 0) -> None:
    """Let this process have so many files and connections open, as far as the system lets it.

    Args:
        files: what is needed; where the system does not allow it, a warning says so.
        log: takes the warning.
        at_least: what is asked for if less is needed, without a warning.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    wanted = max(files, at_least)
    wanted = wanted if unlimited else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):  # a sandbox may forbid it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    if not unlimited and hard < files:
        log.warning(
            "too few files may be open for all shops; raise LimitNOFILE, or ulimit -Hn",
            may_be=hard,
            should_be=files,
        )


async def _say_stopping(stop: anyio.Event) -> None:
    await stop.wait()
    systemd.notify("STOPPING=1")
    structlog.get_logger().info("stopping; what is not delivered waits in the outbox")


@dataclass(frozen=True, slots=True)
class RunReport:
    """What `run --once` did.

    Attributes:
        delivered: notifications that sinks took.
        waiting: deliveries left in the outbox.
        dead_lettered: deliveries given up in this run.
    """

    tick: TickReport
    delivered: int
    waiting: int
    dead_lettered: int


async def run_once(settings: Settings) -> RunReport:
    """One tick, then deliver what is due; raises what `run` raises."""
    store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    reports: list[RunReport] = []
    async with built(settings, store) as shop_runtime:

        async def once() -> None:
            reports.append(await _run_once(settings, store, store, await shop_runtime.begin()))

        await shop_runtime.lease.once(once)
    if not reports:
        raise TemporaryError(
            ErrorKind.STORE, f"state in {settings.state_place}: the lease was lost meanwhile"
        )
    return reports[0]


async def _run_once(
    settings: Settings, outbox: Outbox, view: StateView, leader_session: LeaderSession
) -> RunReport:
    deadline = anyio.current_time() + settings.shop_polling_interval
    for sink in settings.sinks:  # what waits for a better time: whoever runs it once means now
        while await outbox.release_parked(sink.name):
            pass
    tick = TickReport()
    if settings.shop_polling_enabled:
        tick = await leader_session.poller.tick(deadline)
        await leader_session.deliver(until_idle=True)
        if tick.error is None:
            await leader_session.poller.between_ticks(tick, deadline)
            await leader_session.poller.look_again(tick, anyio.current_time() + 2 * HOLD_S)
    await leader_session.deliver(until_idle=True)
    after = await view.stats(settings.shop)
    return RunReport(
        tick=tick,
        delivered=sum(dispatcher.delivered for dispatcher in leader_session.dispatchers),
        waiting=sum(sink.waiting for sink in after.sinks.values()),
        dead_lettered=sum(dispatcher.dead_lettered for dispatcher in leader_session.dispatchers),
    )


async def rehearse(settings: Settings, show: Callable[[NewDelivery], None]) -> TickReport:
    """One tick on a copy of the state: shows what would be sent, sends and changes nothing."""

    def show_all(new_deliveries: Sequence[NewDelivery]) -> None:
        for one in new_deliveries:
            show(one)

    copy = await copy_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    async with built(settings, copy, on_new_deliveries=show_all) as shop_runtime:
        leader_session = await shop_runtime.begin()
        return await leader_session.poller.tick(anyio.current_time() + settings.shop_polling_interval)


@asynccontextmanager
async def _listening(settings: Settings, app: Starlette) -> AsyncIterator[str]:
    if settings.shop_http_listen is None:
        yield ""
        return
    try:
        listener = listen(*settings.shop_http_listen)
    except OSError as error:
        raise SettingsError([f"SHOP_HTTP_LISTEN: {error}"]) from error
    async with serving(app, listener) as address:
        yield address
