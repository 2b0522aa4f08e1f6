"""The daemon: owns the signals, the listener and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → leader session: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders end their attempt (20 s);
        what is left waits in the outbox; the lease is released

Of several shops each opens its store after the listener, and trouble with one is no trouble of the others.
"""

import os
import resource
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import httpx
import structlog
from anyio.abc import TaskGroup
from starlette.applications import Starlette

from shop_poller import __version__
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import ShopsConfig
from shop_poller.core.errors import ShopPollerError
from shop_poller.http.client import transport_class
from shop_poller.observability.logging import Log
from shop_poller.runtime import systemd
from shop_poller.runtime.composition import composed
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.runtime.signals import STOPPING, ignoring_signals, on_signal
from shop_poller.web.server import listen, serving

FILES_A_STATE, FILES_BESIDES = 4, 300
"""Descriptors: of a state file, with what lies beside it; and those that no shop has to itself."""
FILES_TO_SPARE = 4096
"""The soft limit is raised to this at least, as far as the hard one allows."""


async def run(
    shops_config: ShopsConfig,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
) -> None:
    """The daemon: until SIGTERM, SIGINT, SIGHUP or SIGQUIT.

    Args:
        shops_config: the shops that it watches, or shares with other replicas.
        stop: ends it, too.
        on_listen: is told the listener's address.

    Raises:
        SettingsError: the listener's address cannot be used, or a sink of an only shop.
        PermanentError: STORE, the state of an only shop cannot be used.
    """
    stop = stop or anyio.Event()

    def told(number: signal.Signals) -> None:
        if stop.is_set():  # it stops already, though no signal said so: this one is the second
            os.kill(os.getpid(), number)
        stop.set()

    # From before the store is opened until after it is closed: either may hang. See `signals`.
    with ignoring_signals(), on_signal(STOPPING, told):
        await _run(shops_config, stop, on_listen)


async def _run(shops_config: ShopsConfig, stop: anyio.Event, on_listen: Callable[[str], None]) -> None:
    log: Log = structlog.get_logger()
    shops = shops_config.shops
    _make_room(_files(shops), log, at_least=FILES_TO_SPARE)
    failure: ShopPollerError | None = None
    async with composed(shops_config) as daemon, _listening(shops[0], daemon.site) as address:
        on_listen(address)
        log.info("started", version=__version__, **daemon.about, http=address, fast=_is_fast())
        _warn_of_exposure(shops, shops_config.files)
        async with _ready(stop) as background:
            for work in daemon.background:
                background.start_soon(work)
            try:
                await daemon.fleet.watch(daemon.assignment, stop)
            except ShopPollerError as error:  # kept out of the group, which would wrap it
                failure = error
        if failure is not None:
            raise failure
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
