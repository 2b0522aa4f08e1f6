"""Watches the shops of one process. A single shop is a fleet of one.

    assignment: which shops are ours? ──→ stop the slot of a released shop, start a taken shop
                                                  │                         │
    each slot separately:              last tick, release          store → shop runtime → lease → session

Every shop has its own store, lease, breaker and place in the interval. Its failures do not affect others.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

import anyio
import structlog
from structlog.contextvars import bound_contextvars

from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.errors import ShopPollerError
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Store
from shop_poller.runtime.leader_session import Grace
from shop_poller.runtime.shop_runtime import ShopRuntime, open_shop_runtime
from shop_poller.runtime.shop_slot import RETRY_S, ShopSlot, run_shop


class Assignment(Protocol):
    """Decides which of the shops this process watches."""

    async def assign(self, start_shop: Callable[[str], None], stop: anyio.Event) -> None:
        """Start shops, and stop their slots, until stopped.

        Args:
            start_shop: starts the watch of the shop with this id.
            stop: ends the assignment.
        """
        ...

    async def leave(self) -> None:
        """Announce that other replicas may take the shops. Called once all slots are stopping."""
        ...


class AllShops:
    """Assigns every shop to this process, from the start to the stop. For the methods see Assignment.

    Args:
        shops: the ids of all shops.
    """

    def __init__(self, shops: Collection[str]) -> None:
        self._shops = shops

    async def assign(self, start_shop: Callable[[str], None], stop: anyio.Event) -> None:
        """Start all shops, and wait for the stop."""
        for shop_id in self._shops:
            start_shop(shop_id)
        if not stop.is_set():  # if it stops already, return without awaiting, so that the shops never start
            await stop.wait()

    async def leave(self) -> None:
        """Do nothing: no other replica takes the shops."""


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    """How the shops are watched.

    Attributes:
        ends_on_failure: every shop must be opened before anything starts, and any failure ends the process.
            If false, a failed shop is retried, and the other shops are watched.
        limiter: bounds concurrent polls; each shop is polled at its own point of the interval. Without a
            limiter, shops are polled immediately.
        grace: time for the work in progress when a shop is stopped.
    """

    ends_on_failure: bool = False
    limiter: PollLimiter | None = None
    grace: Grace = field(default_factory=Grace)


class Fleet:
    """The shops that one process watches.

    Args:
        shops: all shops, shared with other replicas or not.
        open_store: opens the store of a shop.
        metrics_registry: registers the metrics.
        policy: how the shops are watched.

    Attributes:
        shops: the settings of each, by the shop's id.
        slots: the shops that are ours now, by their ids.
    """

    def __init__(
        self,
        shops: Sequence[Settings],
        open_store: Callable[[Settings], Awaitable[Store]],
        *,
        metrics_registry: MetricsRegistry,
        policy: FleetPolicy,
    ) -> None:
        self.shops = {shop.shop: shop for shop in shops}
        self.slots: dict[str, ShopSlot] = {}
        self._open_store = open_store
        self._metrics_registry = metrics_registry
        self._policy = policy
        self._failures: list[SettingsError | ShopPollerError] = []
        self._log: Log = structlog.get_logger()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[list[ShopRuntime]]:
        """Build the parts of the shops that the process requires. Close them afterwards.

        Raises:
            SettingsError: a sink cannot be used.
            PermanentError: STORE, a state cannot be used.
        """
        async with AsyncExitStack() as stack:
            shop_runtimes = []
            if self._policy.ends_on_failure:
                for shop_id, settings in self.shops.items():
                    slot = self.slots[shop_id] = ShopSlot(settings)
                    shop_runtimes.append(await stack.enter_async_context(self._open_shop_runtime(slot)))
            yield shop_runtimes

    async def watch(self, assignment: Assignment, stop: anyio.Event) -> None:
        """Watch the shops that are assigned to this process, until stopped.

        Raises:
            SettingsError, ShopPollerError: a shop that the process requires cannot be watched.
        """
        async with anyio.create_task_group() as tasks:

            def start_shop(shop_id: str) -> None:
                slot = self.slots.setdefault(shop_id, ShopSlot(self.shops[shop_id]))
                tasks.start_soon(self._watch_until_stopped, slot, tasks.cancel_scope)

            await assignment.assign(start_shop, stop)
            for slot in self.slots.values():
                slot.stop.set()
            await assignment.leave()  # now, so that the others take each shop as soon as it is released
        if self._failures:
            raise self._failures[0]

    async def _watch_until_stopped(self, slot: ShopSlot, scope: anyio.CancelScope) -> None:
        """Watch one shop until its slot is stopped."""
        shop = slot.settings.shop
        try:
            with bound_contextvars(shop=shop):
                while not slot.stop.is_set():
                    try:
                        await self._watch_once(slot)
                    except (SettingsError, ShopPollerError) as error:
                        if self._policy.ends_on_failure:  # not raised: the task group would wrap it
                            self._failures.append(error)
                            scope.cancel()
                            return
                        self._log_failure(slot, error, "the shop cannot be watched; retrying")
                    except Exception as bug:
                        if self._policy.ends_on_failure:
                            raise
                        self._log_failure(
                            slot, bug, "internal error (bug): please report it; retrying", exc_info=bug
                        )
                    with anyio.move_on_after(RETRY_S):
                        await slot.stop.wait()
        finally:
            del self.slots[shop]

    async def _watch_once(self, slot: ShopSlot) -> None:
        async with AsyncExitStack() as stack:
            shop_runtime = slot.shop_runtime
            if shop_runtime is None:
                shop_runtime = await stack.enter_async_context(self._open_shop_runtime(slot))
            await run_shop(slot, shop_runtime, self._policy.grace)

    @asynccontextmanager
    async def _open_shop_runtime(self, slot: ShopSlot) -> AsyncIterator[ShopRuntime]:
        """Open the state of a shop and build its parts."""
        settings = slot.settings
        store = await self._open_store(settings)
        async with open_shop_runtime(
            settings, store, metrics_registry=self._metrics_registry, limiter=self._policy.limiter
        ) as shop_runtime:
            slot.shop_runtime = shop_runtime
            try:
                yield shop_runtime
            finally:
                slot.shop_runtime = None
                self._metrics_registry.forget(settings.shop)

    def _log_failure(
        self, slot: ShopSlot, error: Exception, event: str, *, exc_info: Exception | None = None
    ) -> None:
        slot.failure = str(error) or type(error).__name__
        if slot.changes.changed("watch", slot.failure):
            self._log.error(event, error=str(error), exc_info=exc_info)
