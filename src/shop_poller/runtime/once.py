"""Implements `run --once` and `run --once --dry-run`: one tick, without the daemon."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import anyio

from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.polling.held_refunds import HOLD_S
from shop_poller.polling.plan import TickReport
from shop_poller.ports import NewDelivery, Outbox, StateView
from shop_poller.runtime.leader_session import LeaderSession
from shop_poller.runtime.shop_runtime import open_shop_runtime
from shop_poller.stores import copy_store, open_store


@dataclass(frozen=True, slots=True)
class RunReport:
    """The result of `run --once`.

    Attributes:
        tick: the report of the tick.
        delivered: notifications that sinks accepted.
        waiting: deliveries that wait in the outbox.
        in_quiet_hours: those of them whose sink has quiet hours now.
        dead_lettered: deliveries moved to dead letters in this run.
    """

    tick: TickReport
    delivered: int
    waiting: int
    dead_lettered: int
    in_quiet_hours: int = 0


async def run_once(settings: Settings) -> RunReport:
    """Run one tick, then deliver what is due.

    Raises:
        SettingsError: a sink cannot be used.
        PermanentError: STORE, the state cannot be used, or another process has the lease.
        TemporaryError: STORE.
    """
    store = await open_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    reports: list[RunReport] = []
    async with open_shop_runtime(settings, store) as shop_runtime:

        async def once() -> None:
            reports.append(await _run_once(settings, store, store, await shop_runtime.begin()))

        await shop_runtime.lease.once(once)
    if not reports:
        raise TemporaryError(
            ErrorKind.STORE,
            Text("state in {place}: the lease was lost meanwhile", place=settings.state_place),
        )
    return reports[0]


async def _run_once(
    settings: Settings, outbox: Outbox, view: StateView, leader_session: LeaderSession
) -> RunReport:
    deadline = anyio.current_time() + settings.shop_polling_interval
    for sink in settings.sinks:  # the user runs it once to deliver now, so parked deliveries are due, too
        while await outbox.release_parked(sink.name):
            pass
    tick = TickReport()
    if settings.shop_polling_enabled:
        tick = await leader_session.poller.tick(deadline)
        await leader_session.deliver(until_idle=True)
        if tick.error is None:
            await leader_session.poller.between_ticks(tick, deadline)
            await leader_session.poller.read_held_refunds(tick, anyio.current_time() + 2 * HOLD_S)
    await leader_session.deliver(until_idle=True)
    after = await view.stats(settings.shop)
    dispatchers = zip(settings.sinks, leader_session.dispatchers, strict=True)
    quiet = {sink.name for sink, dispatcher in dispatchers if dispatcher.quiet_until is not None}
    return RunReport(
        tick=tick,
        delivered=sum(dispatcher.delivered for dispatcher in leader_session.dispatchers),
        waiting=sum(sink.waiting for sink in after.sinks.values()),
        dead_lettered=sum(dispatcher.dead_lettered for dispatcher in leader_session.dispatchers),
        in_quiet_hours=sum(sink.waiting for name, sink in after.sinks.items() if name in quiet),
    )


async def rehearse(settings: Settings, show: Callable[[NewDelivery], None]) -> TickReport:
    """Run one tick on a copy of the state. Show what would be sent; send and change nothing."""

    def show_all(new_deliveries: Sequence[NewDelivery]) -> None:
        for one in new_deliveries:
            show(one)

    copy = await copy_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    async with open_shop_runtime(settings, copy, on_new_deliveries=show_all) as shop_runtime:
        leader_session = await shop_runtime.begin()
        return await leader_session.poller.tick(anyio.current_time() + settings.shop_polling_interval)
