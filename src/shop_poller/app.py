"""The composition root: builds the parts, owns the signals and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → tenure: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox; the lease is released
"""

import os
import resource
import secrets
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import httpx
import structlog
from anyio.abc import TaskGroup
from starlette.applications import Starlette

from shop_poller import __version__, systemd
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.house import built
from shop_poller.httpclient import transport_class
from shop_poller.logs import Log
from shop_poller.metrics import Book
from shop_poller.pace import Turns
from shop_poller.plan import TickReport
from shop_poller.ports import Outgoing, Store
from shop_poller.roster import Roster
from shop_poller.settings import Settings, SettingsError
from shop_poller.shift import work
from shop_poller.stores import Shelf, copy_store, open_store
from shop_poller.tenure import Tenure
from shop_poller.web.routes import make_app
from shop_poller.web.server import listen, serving

FILES_A_STATE, FILES_BESIDES = 4, 300
"""Descriptors: of a state file, with what lies beside it; and those that no shop has to itself."""


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
    await _until_told(lambda stop: _run(settings, stop, on_listen), stop or anyio.Event())


async def run_fleet(
    roster: Roster,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
) -> None:
    """The daemon for several shops; as `run`, but what one shop lacks is its own trouble."""
    await _until_told(lambda stop: _run_fleet(roster, stop, on_listen), stop or anyio.Event())


async def _until_told(daemon: Callable[[anyio.Event], Awaitable[None]], stop: anyio.Event) -> None:
    failures: list[Exception] = []
    with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with anyio.create_task_group() as tasks:
            # From before the store is opened until after it is closed: either may hang.
            tasks.start_soon(_obey, signals, stop)
            try:
                await daemon(stop)
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
        app = make_app(house.monitor, house.hooks(), house.front, acts=settings.shop_admin_token is not None)
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
        failure: PermanentError | None = None
        async with _ready(stop):
            try:
                await house.lease.hold(lambda: work(settings, store, house, stop), stop)
            except PermanentError as error:  # kept out of the group, which would wrap it
                failure = error
        if failure is not None:
            raise failure
    log.info("stopped")


async def _run_fleet(roster: Roster, stop: anyio.Event, on_listen: Callable[[str], None]) -> None:
    from shop_poller.fleet import Fleet  # noqa: PLC0415 - one shop needs none of it
    from shop_poller.fleet_vitals import FleetVitals, lateness  # noqa: PLC0415 - as above

    log: Log = structlog.get_logger()
    shops, first = roster.shops, roster.shops[0]
    _make_room(_files(shops), log)
    async with AsyncExitStack() as stack:
        shelf = Shelf(first.state)
        stack.push_async_callback(shelf.aclose)
        name = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        book = Book(is_crowded=len(shops) > first.shop_labelled_shops)
        turns = Turns(first.shop_concurrent_polls, lateness(book))
        fleet = Fleet(
            shops,
            lambda one: shelf.open(one.state, shop=one.shop, prefix=one.shop_redis_prefix),
            book=book,
            turns=turns,
            crew=shelf.crew(first.state, prefix=roster.prefix, name=name),
            name=name,
        )
        vitals = FleetVitals(fleet, book, turns)
        address = await stack.enter_async_context(_listening(first, make_app(vitals)))
        on_listen(address)
        log.info(
            "started",
            version=__version__,
            shops=len(shops),
            state=first.state_place,
            http=address,
            fast=_is_fast(),
        )
        async with _ready(stop) as background:
            background.start_soon(vitals.survey)
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


def _is_fast() -> bool:
    """Whether the extra `fast` is installed, and used."""
    return transport_class() is not httpx.AsyncHTTPTransport


def _files(shops: Sequence[Settings]) -> int:
    """How many descriptors are needed at most: each sender may have a connection, which stays open."""
    return FILES_BESIDES + sum(
        1 + shop.shop_senders * len(shop.sinks) + (FILES_A_STATE if isinstance(shop.state, Path) else 0)
        for shop in shops
    )


def _make_room(files: int, log: Log) -> None:
    """Let this process have so many files and connections open, as far as the system lets it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    unlimited = hard == resource.RLIM_INFINITY
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files if unlimited else min(files, hard), hard))
    if not unlimited and hard < files:
        log.warning(
            "too few files may be open for so many shops; raise LimitNOFILE, or ulimit -Hn",
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

        async def once() -> None:
            reports.append(await _run_once(settings, store, await house.begin()))

        await house.lease.once(once)
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


async def _obey(signals: AsyncIterator[signal.Signals], stop: anyio.Event) -> None:
    """The first signal stops in good order, the second at once."""
    async for number in signals:
        if stop.is_set():
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        stop.set()
