"""Many shops in one process, and shared with other replicas.

    look, every second: who is there? ──→ give away what is beyond our share, take what is free
                                                  │                         │
    each shop for itself:              last tick, release          store → shop runtime → lease → work

Every shop has a store, a lease, a breaker and a place in the interval of its own; its troubles stay its own.
Shared are the turns to ask a shop, the threads or the line to the state, and the metrics.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import replace

import anyio
import structlog
from anyio.abc import TaskGroup
from structlog.contextvars import bound_contextvars

from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core import reach
from shop_poller.core.errors import ShopPollerError, TemporaryError
from shop_poller.core.reach import Polls, Probe
from shop_poller.core.schedule import SPREAD_S
from shop_poller.core.sharing import MOST_AT_ONCE, Orphans, at_once, share, to_give, to_take
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Membership, Store
from shop_poller.runtime.egress import Egress
from shop_poller.runtime.shift import SENDER_GRACE_S, TICK_GRACE_S, work
from shop_poller.runtime.shop_runtime import ShopRuntime, built, probe

LOOK_EVERY_S = 1.0
RIVAL_S = 3.0
"""How long somebody may have a lease, and we no answer whether it is ours, before we leave them that shop."""
RETRY_S = 30.0
"""What cannot be begun for one shop is tried again after so long."""
SETTLE_S = SPREAD_S + RETRY_S
"""For so long nobody wonders about a shop that was just taken, or whose lease was lost."""
HANDOVER_GRACE_S = 5.0
"""For the tick and the attempts to deliver that are under way when a shop goes to another replica."""


class ShopSlot:
    """A shop that this process watches, or is about to.

    Args:
        settings: of the shop.

    Attributes:
        stop: ends it in good order.
        shop_runtime: its parts, as soon as they are built.
        since: when it was taken, on the loop's clock.
        well_at: when all was well with it last, as far as was looked; at first, when it was taken.
        changes: what was said about it last.
        cannot: why the last attempt to watch it failed; "" since the next one that did not.
    """

    def __init__(self, settings: Settings) -> None:
        self.cannot = ""
        self.settings = settings
        self.stop = anyio.Event()
        self.shop_runtime: ShopRuntime | None = None
        self.since = self.well_at = anyio.current_time()
        self.changes = ChangeLogger()

    @property
    def leads(self) -> bool:
        """Whether the right to write for the shop is ours."""
        return self.shop_runtime is not None and self.shop_runtime.lease.held()

    @property
    def is_unwell(self) -> bool:
        """Whether the shop is not watched, or was not polled in good time; not before it could be."""
        late_at = anyio.current_time() - SETTLE_S
        if self.shop_runtime is None or not self.leads:
            return self.well_at < late_at
        return (
            self.settings.shop_polling_enabled
            and self.shop_runtime.health_reporter.is_stale
            and self.since < late_at
        )

    @property
    def polls(self) -> Polls | None:
        """How the requests to the shop fared; None while it is not polled here, or is being released."""
        session = self.shop_runtime.session if self.shop_runtime is not None else None
        if session is None or self.stop.is_set() or not self.settings.shop_polling_enabled:
            return None
        not_before = anyio.current_time() + session.poller.left_alone_s
        return replace(session.poller.polls, not_before=not_before)

    def look(self) -> None:
        """Remember that all is well, if it is."""
        if self.leads and not self.is_unwell:
            self.well_at = anyio.current_time()


class Fleet:
    """The shops that one process watches.

    Args:
        shops: all there are, shared with other replicas or not.
        open_store: opens the store of a shop.
        metrics_registry: where metrics are kept.
        limiter: to ask a shop.
        membership: the replicas; None if there can be no other.
        name: of this replica.
        probe: asks a shop once, beside whoever polls it.

    Attributes:
        egress: the shops that cannot be reached from here.
        released: how many shops were released because of that.
        slots: the shops that are ours now, by their ids.
        replicas: how many there were at the last look.
        looked_at: when that was, on the loop's clock.
        began_at: when the watch began; infinity before.
        is_blind: at the last look it could not be seen who is there.
    """

    def __init__(
        self,
        shops: Sequence[Settings],
        open_store: Callable[[Settings], Awaitable[Store]],
        *,
        metrics_registry: MetricsRegistry,
        limiter: PollLimiter,
        membership: Membership | None,
        name: str,
        probe: Callable[[Settings], Awaitable[Probe]] = probe,
    ) -> None:
        self.shops = {shop.shop: shop for shop in shops}
        self.slots: dict[str, ShopSlot] = {}
        self.replicas = 1
        self.looked_at = -math.inf
        self.began_at = math.inf
        self.is_blind = False
        self.egress = Egress(self.shops, probe)
        self.released = 0
        self._reports: dict[str, frozenset[str]] = {}
        self._open_store = open_store
        self._metrics_registry = metrics_registry
        self._limiter = limiter
        self._membership = membership
        self._name = name
        self._there: list[str] = []
        self._able: list[str] = []  # of those, that reach any shop
        self._orphans = Orphans()
        self._beyond: set[str] = set()  # our share: taken since nobody else did
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def watch(self, stop: anyio.Event) -> None:
        """Watch our share of the shops until stopped."""
        self.began_at = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            if self._membership is None:
                for shop_id in self.shops:
                    self._begin(shop_id, tasks)
            probes = anyio.CancelScope()
            tasks.start_soon(self._probe, probes)
            while not stop.is_set():
                self._look_at_polls()
                if self._membership is not None:
                    await self._look_about(self._membership, tasks)
                for slot in self.slots.values():
                    slot.look()
                self.looked_at = anyio.current_time()
                with anyio.move_on_after(LOOK_EVERY_S):
                    await stop.wait()
            probes.cancel()
            for slot in self.slots.values():
                slot.stop.set()
            if (
                self._membership is not None
            ):  # now, so that the others take each shop as soon as it is let go of
                await self._leave(self._membership)

    async def _probe(self, scope: anyio.CancelScope) -> None:
        """Ask the shops again that could not be reached, until the scope is cancelled."""
        with scope:
            await self.egress.probe(lambda: self.slots, self._reached_by_others)

    def _look_at_polls(self) -> None:
        polls = {shop_id: slot.polls for shop_id, slot in self.slots.items()}
        self.egress.look({shop_id: its for shop_id, its in polls.items() if its is not None})

    def _reached_by_others(self) -> set[str]:
        """The shops that no other replica has reported."""
        others = [self._reports.get(name, frozenset()) for name in self._there if name != self._name]
        return {shop_id for shop_id in self.shops if not any(shop_id in report for report in others)}

    async def _look_about(self, membership: Membership, tasks: TaskGroup) -> None:
        """Look; if nothing is seen, whoever leads goes on leading for as long as the lease says."""
        try:
            await self._look(membership, tasks)
        except TemporaryError as error:
            self.is_blind = True
            if self._changes.changed("crew", error.kind):
                self._log.error("the other replicas cannot be seen; trying on", error=str(error))
        except Exception as bug:  # noqa: BLE001 - it must not end the watch of what we have
            self.is_blind = True
            if self._changes.changed("crew", repr(bug)):
                self._log.error("a bug, please report it; trying on", error=str(bug), exc_info=bug)
        else:
            self.is_blind = False

    async def _look(self, membership: Membership, tasks: TaskGroup) -> None:
        """See who is there and which shops are free; take and give away.

        Raises:
            TemporaryError: STORE.
        """
        ids = list(self.shops)
        there = await membership.stay()
        leased = await membership.leased([self.shops[shop_id].shop_redis_prefix for shop_id in ids])
        if self._changes.changed("crew", ",".join(there)):
            self._log.info("replicas", there=len(there), shops=len(ids))
        self.replicas = max(1, len(there))
        taken = {shop_id for shop_id, is_leased in zip(ids, leased, strict=True) if is_leased}
        self._leave_to_rivals(taken)
        reports = await membership.reports(self.egress.report, there)
        able = reach.able(there, reports)
        # Who comes may know what the others did not, who goes leaves room, and who reaches a shop again may
        # take it: all is shared out anew.
        is_same = able == self._able and not self._is_lifted(reports)
        self._beyond = self._beyond & self.slots.keys() if is_same else set()
        self._there, self._able, self._reports = there, able, reports
        self._release_unreached()
        if self._name not in able:
            return
        mine = [shop_id for shop_id, slot in self.slots.items() if not slot.stop.is_set()]
        mine = [shop_id for shop_id in mine if shop_id not in self._beyond and self._others_may_take(shop_id)]
        for shop_id in to_give(self._name, able, shops=len(ids), mine=mine):
            self.slots[shop_id].stop.set()
        free = [shop_id for shop_id in ids if shop_id not in taken and shop_id not in self.slots]
        free = [shop_id for shop_id in free if not self._leaves_to_others(shop_id)]
        left = self._orphans.at(anyio.current_time(), free)[: at_once(share(len(ids), len(able)))]
        ours = to_take(self._name, able, shops=len(ids), mine=len(mine), free=free)
        if not ours:
            self._beyond.update(left)
        for shop_id in ours or left:
            self._begin(shop_id, tasks)

    def _is_lifted(self, reports: Mapping[str, Collection[str]]) -> bool:
        """Whether a replica reaches a shop that it did not reach at the last look."""
        return any(
            not before <= set(reports[name]) for name, before in self._reports.items() if name in reports
        )

    def _others_may_take(self, shop_id: str) -> bool:
        """Whether a shop counts to our share: another replica may watch it, too. If there is none, all do."""
        return len(self._there) < 2 or reach.others_may_reach(shop_id, self._name, self._there, self._reports)

    def _leaves_to_others(self, shop_id: str) -> bool:
        """Whether we do not reach a shop that another replica may reach."""
        return shop_id in self.egress.unreached and reach.others_may_reach(
            shop_id, self._name, self._there, self._reports
        )

    def _release_unreached(self) -> None:
        """Release what we do not reach and another replica may; a bounded number at a time."""
        released = [
            shop_id
            for shop_id, slot in self.slots.items()
            if not slot.stop.is_set() and slot.polls is not None and self._leaves_to_others(shop_id)
        ]
        for shop_id in released[:MOST_AT_ONCE]:
            self._log.warning("released: another replica may reach the shop", shop=shop_id)
            self.slots[shop_id].stop.set()
            self.released += 1

    def _leave_to_rivals(self, taken: set[str]) -> None:
        """Two wanted the same shop, and the other was quicker; or the lease is ours from before a break."""
        for shop_id, slot in self.slots.items():
            if shop_id in taken and not slot.leads:
                was_refused = slot.shop_runtime is not None and slot.shop_runtime.lease.was_refused
                if was_refused or anyio.current_time() > slot.since + RIVAL_S:
                    slot.stop.set()

    async def _leave(self, membership: Membership) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await membership.leave()
        except TemporaryError:
            self._log.debug("the others will see by themselves that we are gone")

    def _begin(self, shop_id: str, tasks: TaskGroup) -> None:
        self.slots[shop_id] = ShopSlot(self.shops[shop_id])
        tasks.start_soon(self._keep, self.slots[shop_id])

    async def _keep(self, slot: ShopSlot) -> None:
        """Watch one shop until it is to be given away; what goes wrong with it is no other shop's trouble."""
        shop = slot.settings.shop
        try:
            with bound_contextvars(shop=shop):
                while not slot.stop.is_set():
                    try:
                        await self._hold(slot)
                    except (SettingsError, ShopPollerError) as error:
                        self._complain(slot, error, "the shop cannot be watched; trying on")
                    except Exception as bug:  # noqa: BLE001 - it must not end the watch of all the others
                        self._complain(slot, bug, "a bug, please report it; trying on", exc_info=bug)
                    with anyio.move_on_after(RETRY_S):
                        await slot.stop.wait()
        finally:
            del self.slots[shop]

    async def _hold(self, slot: ShopSlot) -> None:
        settings, stop = slot.settings, slot.stop
        store = await self._open_store(settings)
        async with built(
            settings, store, metrics_registry=self._metrics_registry, limiter=self._limiter
        ) as shop_runtime:
            slot.shop_runtime = shop_runtime
            # With other replicas a shop is not to be without anybody for long.
            grace_s = math.inf if self._membership is None else HANDOVER_GRACE_S

            async def watch() -> None:
                slot.changes.changed("watch", "")
                slot.cannot = ""
                await work(
                    settings,
                    store,
                    shop_runtime,
                    stop,
                    tick_grace_s=min(TICK_GRACE_S, grace_s),
                    sender_grace_s=min(SENDER_GRACE_S, grace_s),
                )

            try:
                await shop_runtime.lease.hold(watch, stop)
            finally:
                slot.shop_runtime = None
                self._metrics_registry.forget(settings.shop)

    def _complain(
        self, slot: ShopSlot, error: Exception, event: str, *, exc_info: Exception | None = None
    ) -> None:
        slot.cannot = str(error) or type(error).__name__
        if slot.changes.changed("watch", str(error)):
            self._log.error(event, error=str(error), exc_info=exc_info)
