"""Runs the daemon: owns the signals, the listener and the order of shutdown.

start:  settings → store → parts → listener → READY → lease → leader session: dispatchers and poller
stop:   no new tick, no new claim; the running tick ends (10 s), senders finish their attempt (20 s);
        the remaining deliveries wait in the outbox; the lease is released

With several shops, each shop opens its store after the listener. A failure of one shop does not affect the
others.
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
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text
from shop_poller.http.client import transport_class
from shop_poller.observability.logging import Log
from shop_poller.runtime import systemd
from shop_poller.runtime.composition import open_daemon
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.runtime.signals import STOPPING, ignoring_signals, on_signal
from shop_poller.web.server import listen, serving

FILES_A_STATE, FILES_BESIDES = 4, 300
"""File descriptors: per state file with its side files; and of the process, without those of the shops."""
FILES_TO_SPARE = 4096
"""The soft limit is raised to at least this number, if the hard limit allows it."""


async def run(
    shops_config: ShopsConfig,
    *,
    stop: anyio.Event | None = None,
    on_listen: Callable[[str], None] = lambda _: None,
) -> None:
    """Run the daemon until SIGTERM, SIGINT, SIGHUP or SIGQUIT.

    Args:
        shops_config: the shops to watch, or to share with other replicas.
        stop: stops the daemon, too.
        on_listen: receives the listener's address.

    Raises:
        SettingsError: the listener's address or a template cannot be used. With one shop also: a sink
            cannot be used.
        PermanentError: STORE, there is one shop and its state cannot be used.
    """
    stop = stop or anyio.Event()

    def stop_on(number: signal.Signals) -> None:
        if stop.is_set():  # `stop` was set without a signal: this signal counts as the second
            os.kill(os.getpid(), number)
        stop.set()

    # Handle signals from before the store is opened until after it is closed: both may hang. See `signals`.
    with ignoring_signals(), on_signal(STOPPING, stop_on):
        await _run(shops_config, stop, on_listen)


async def _run(shops_config: ShopsConfig, stop: anyio.Event, on_listen: Callable[[str], None]) -> None:
    log: Log = structlog.get_logger()
    shops = shops_config.shops
    _make_room(_files(shops), log, at_least=FILES_TO_SPARE)
    failure: ShopPollerError | None = None
    async with open_daemon(shops_config) as daemon, _listening(shops[0], daemon.http_app) as address:
        on_listen(address)
        log.info("started", version=__version__, **daemon.start_log_fields, http=address, fast=_is_fast())
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
    """Notify systemd while the context lasts. Background tasks end with the context."""
    async with anyio.create_task_group() as background:
        background.start_soon(systemd.feed_watchdog)
        background.start_soon(_say_stopping, stop)
        systemd.notify("READY=1")
        yield background
        background.cancel_scope.cancel()


def _warn_of_exposure(shops: Sequence[Settings], files: Sequence[Path]) -> None:
    """Log the files that other users of this machine can read or write."""
    for line in summary(exposed(shops, files)):
        structlog.get_logger().warning("others can read or write a file of ours", detail=line)


def _is_fast() -> bool:
    """Return whether the extra `fast` is installed and used."""
    return transport_class() is not httpx.AsyncHTTPTransport


def _files(shops: Sequence[Settings]) -> int:
    """Return the most file descriptors that are needed: each sender may keep a connection open."""
    return FILES_BESIDES + sum(
        1 + shop.shop_senders * len(shop.sinks) + (FILES_A_STATE if isinstance(shop.state, Path) else 0)
        for shop in shops
    )


def _make_room(files: int, log: Log, *, at_least: int = 0) -> None:
    """Raise the limit of open files and connections, as far as the system allows.

    Args:
        files: the number that is needed. If the system does not allow it, log a warning.
        log: receives the warning.
        at_least: the number to request if fewer are needed; no warning if it is not allowed.
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
            "the limit of open files is too low for all shops; raise LimitNOFILE, or ulimit -Hn",
            may_be=hard,
            should_be=files,
        )


async def _say_stopping(stop: anyio.Event) -> None:
    await stop.wait()
    systemd.notify("STOPPING=1")
    structlog.get_logger().info("stopping; undelivered notifications wait in the outbox")


@asynccontextmanager
async def _listening(settings: Settings, app: Starlette) -> AsyncIterator[str]:
    if settings.shop_http_listen is None:
        yield ""
        return
    try:
        listener = listen(*settings.shop_http_listen)
    except OSError as error:
        raise SettingsError(
            [Text("{name}: {problem}", name="SHOP_HTTP_LISTEN", problem=known(str(error)))]
        ) from error
    async with serving(app, listener) as address:
        yield address
