"""What is done for a shop while the right to write is ours, and how it comes to an end in good order."""

from collections.abc import Awaitable, Callable

import anyio
import structlog

from shop_poller.config.settings import Settings
from shop_poller.core.errors import PermanentError, TemporaryError
from shop_poller.observability.logging import Log
from shop_poller.ports import StateView, Stats
from shop_poller.runtime.leader_session import leaves
from shop_poller.runtime.shop_runtime import ShopRuntime

TICK_GRACE_S = 10.0
SENDER_GRACE_S = 20.0


async def work(
    settings: Settings,
    store: StateView,
    shop_runtime: ShopRuntime,
    stop: anyio.Event,
    *,
    tick_grace_s: float = TICK_GRACE_S,
    sender_grace_s: float = SENDER_GRACE_S,
) -> None:
    """Poll and deliver until stopped, or until the lease is lost.

    Args:
        settings: of the shop.
        store: its state.
        shop_runtime: its parts.
        stop: no new tick and no new claim from then on.
        tick_grace_s: how long the tick that is under way may take then.
        sender_grace_s: how long senders may take then to end their attempts.

    Raises:
        PermanentError: STORE, the state cannot be used any more.
    """
    log: Log = structlog.get_logger()
    failures: list[PermanentError] = []
    try:
        try:
            _warn_of_orphans(settings, await store.stats(settings.shop), log)
            # Last, so that /healthz never sees a session whose senders have not started.
            leader_session = await shop_runtime.begin()
        except TemporaryError as error:
            shop_runtime.complain(error)
            return
        try:
            async with anyio.create_task_group() as work:
                work.start_soon(_bounded, leader_session.deliver, stop, sender_grace_s)
                if settings.shop_polling_enabled:
                    work.start_soon(_bounded, leader_session.poller.run, stop, tick_grace_s)
                await stop.wait()
                leader_session.stop()
        except* PermanentError as group:  # the state is beyond use
            failures += leaves(group)
    finally:
        shop_runtime.end()
    for failure in failures:
        raise failure


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
