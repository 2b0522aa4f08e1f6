"""The shops that one process watches. One shop is a fleet of one.

    assignment: which shops are ours? ──→ stop the slot of one that is given away, begin one that is taken
                                                  │                         │
    each slot for itself:              last tick, release          store → shop runtime → lease → session

Every shop has a store, a lease, a breaker and a place in the interval of its own; its troubles stay its own.
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
from shop_poller.runtime.shop_runtime import ShopRuntime, built
from shop_poller.runtime.shop_slot import RETRY_S, ShopSlot, run_shop


class Assignment(Protocol):
    """Decides which of the shops this process watches."""

    async def assign(self, begin: Callable[[str], None], stop: anyio.Event) -> None:
        """Begin shops, and stop their slots, until stopped.

        Args:
            begin: begins the watch of a shop, by its id.
            stop: ends it.
        """
        ...

    async def leave(self) -> None:
        """The slots were told to stop: other replicas may take the shops."""
        ...


class AllShops:
    """Every shop is ours, from the start to the stop. For the methods see Assignment.

    Args:
        shops: the ids of all there are.
    """

    def __init__(self, shops: Collection[str]) -> None:
        self._shops = shops

    async def assign(self, begin: Callable[[str], None], stop: anyio.Event) -> None:
        """Begin them all, and wait."""
        for shop_id in self._shops:
            begin(shop_id)
        if not stop.is_set():  # else no shop is begun at all
            await stop.wait()

    async def leave(self) -> None:
        """Nobody else takes them."""


@dataclass(frozen=True, slots=True)
class FleetPolicy:
    """How the shops are watched.

    Attributes:
        ends_on_failure: the process cannot do without any shop: each is opened before anything else starts,
            and a failure ends the fleet. Else what fails is tried again, and the other shops are watched.
        limiter: the shops take turns in it, and each is polled at its own point of the interval. Without one
            they are polled at once.
        grace: for the work that is under way when a shop is stopped.
    """

    ends_on_failure: bool = False
    limiter: PollLimiter | None = None
    grace: Grace = field(default_factory=Grace)


class Fleet:
    """The shops that one process watches.

    Args:
        shops: all there are, shared with other replicas or not.
        open_store: opens the store of a shop.
        metrics_registry: where metrics are kept.
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
        """Build the parts of the shops that the process cannot do without; they are closed afterwards.

        Raises:
            SettingsError: a sink cannot be used.
            PermanentError: STORE, a state cannot be used.
        """
        async with AsyncExitStack() as stack:
            shop_runtimes = []
            if self._policy.ends_on_failure:
                for shop_id, settings in self.shops.items():
                    slot = self.slots[shop_id] = ShopSlot(settings)
                    shop_runtimes.append(await stack.enter_async_context(self._built(slot)))
            yield shop_runtimes

    async def watch(self, assignment: Assignment, stop: anyio.Event) -> None:
        """Watch the shops that are assigned to this process, until stopped.

        Raises:
            SettingsError, ShopPollerError: a shop that the process cannot do without cannot be watched.
        """
        async with anyio.create_task_group() as tasks:

            def begin(shop_id: str) -> None:
                slot = self.slots.setdefault(shop_id, ShopSlot(self.shops[shop_id]))
                tasks.start_soon(self._keep, slot, tasks.cancel_scope)

            await assignment.assign(begin, stop)
            for slot in self.slots.values():
                slot.stop.set()
            await assignment.leave()  # now, so that the others take each shop as soon as it is released
        for failure in self._failures:
            raise failure

    async def _keep(self, slot: ShopSlot, scope: anyio.CancelScope) -> None:
        """Watch one shop until its slot is stopped."""
        shop = slot.settings.shop
        try:
            with bound_contextvars(shop=shop):
                while not slot.stop.is_set():
                    try:
                        await self._watch(slot)
                    except (SettingsError, ShopPollerError) as error:
                        if self._policy.ends_on_failure:  # kept out of the group, which would wrap it
                            self._failures.append(error)
                            scope.cancel()
                            return
                        self._complain(slot, error, "the shop cannot be watched; trying on")
                    except Exception as bug:
                        if self._policy.ends_on_failure:
                            raise
                        self._complain(slot, bug, "a bug, please report it; trying on", exc_info=bug)
                    with anyio.move_on_after(RETRY_S):
                        await slot.stop.wait()
        finally:
            del self.slots[shop]

    async def _watch(self, slot: ShopSlot) -> None:
        async with AsyncExitStack() as stack:
            shop_runtime = slot.shop_runtime
            if shop_runtime is None:
                shop_runtime = await stack.enter_async_context(self._built(slot))
            await run_shop(slot, shop_runtime, self._policy.grace)

    @asynccontextmanager
    async def _built(self, slot: ShopSlot) -> AsyncIterator[ShopRuntime]:
        """Open the state of a shop and build its parts."""
        settings = slot.settings
        store = await self._open_store(settings)
        async with built(
            settings, store, metrics_registry=self._metrics_registry, limiter=self._policy.limiter
        ) as shop_runtime:
            slot.shop_runtime = shop_runtime
            try:
                yield shop_runtime
            finally:
                slot.shop_runtime = None
                self._metrics_registry.forget(settings.shop)

    def _complain(
        self, slot: ShopSlot, error: Exception, event: str, *, exc_info: Exception | None = None
    ) -> None:
        slot.cannot = str(error) or type(error).__name__
        if slot.changes.changed("watch", slot.cannot):
            self._log.error(event, error=str(error), exc_info=exc_info)
