"""Decides which shops of a fleet this process watches, and shares them with other replicas.

Every second: which replicas exist? ──→ release the shops beyond our share, take free shops.

A replica that cannot reach a shop releases it to a replica that may reach it; see `egress`.
"""

import math
from collections.abc import Awaitable, Callable, Collection, Mapping

import anyio
import structlog

from shop_poller.config.settings import Settings
from shop_poller.core import reach
from shop_poller.core.errors import TemporaryError
from shop_poller.core.reach import Probe
from shop_poller.core.sharing import MOST_AT_ONCE, Orphans, at_once, share, to_give, to_take
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.ports import Membership
from shop_poller.runtime.egress import Egress, probe
from shop_poller.runtime.fleet import Fleet

LOOK_EVERY_S = 1.0
RIVAL_S = 3.0
"""If another process has a shop's lease and ours is not confirmed within this time, we release the shop."""


class Balancer:
    """Shares the shops of a fleet with other replicas. For the methods see fleet.Assignment.

    Args:
        fleet: whose shops are started and stopped.
        membership: the replicas; None if no other replica can exist. Then all shops are ours.
        name: of this replica.
        probe: sends one request to a shop, concurrently with the process that polls it.

    Attributes:
        egress: the shops that cannot be reached from here.
        unreached_released: how many shops were released because they could not be reached.
        replicas: how many replicas existed the last time.
        looked_at: when the last look was, on the event loop's clock.
        began_at: when the watch began; infinity before.
        is_blind: whether the last look could not see the other replicas.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        membership: Membership | None,
        name: str,
        probe: Callable[[Settings], Awaitable[Probe]] = probe,
    ) -> None:
        self.replicas = 1
        self.looked_at = -math.inf
        self.began_at = math.inf
        self.is_blind = False
        self.egress = Egress(fleet.shops, probe)
        self.unreached_released = 0
        self._shops, self._slots = fleet.shops, fleet.slots
        self._membership = membership
        self._name = name
        self._reports: dict[str, frozenset[str]] = {}
        self._there: list[str] = []
        self._able: list[str] = []  # those of them that reach any shop
        self._orphans = Orphans()
        self._beyond: set[str] = set()  # our share: taken because no other replica took them
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def assign(self, start_shop: Callable[[str], None], stop: anyio.Event) -> None:
        """Start our share of the shops, and release the shops beyond it, until stopped."""
        self.began_at = anyio.current_time()
        if self._membership is None:
            for shop_id in self._shops:
                start_shop(shop_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.egress.probe, lambda: self._slots, self._reached_by_others)
            while not stop.is_set():
                self._look_at_polls()
                if self._membership is not None:
                    await self._try_to_balance(self._membership, start_shop)
                for slot in self._slots.values():
                    slot.note_health()
                self.looked_at = anyio.current_time()
                with anyio.move_on_after(LOOK_EVERY_S):
                    await stop.wait()
            tasks.cancel_scope.cancel()

    async def leave(self) -> None:
        """Notify the other replicas that we leave."""
        if self._membership is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await self._membership.leave()
        except TemporaryError:
            self._log.debug("the other replicas were not notified; they detect our absence themselves")

    def _look_at_polls(self) -> None:
        polls = {shop_id: slot.polls for shop_id, slot in self._slots.items()}
        self.egress.update({shop_id: its for shop_id, its in polls.items() if its is not None})

    def _reached_by_others(self) -> set[str]:
        """Return the shops that no other replica has reported as unreached."""
        others = [self._reports.get(name, frozenset()) for name in self._there if name != self._name]
        return {shop_id for shop_id in self._shops if not any(shop_id in report for report in others)}

    async def _try_to_balance(self, membership: Membership, start_shop: Callable[[str], None]) -> None:
        """Share the shops among the replicas. If that fails, each leader continues until its lease ends."""
        try:
            await self._balance(membership, start_shop)
        except TemporaryError as error:
            self.is_blind = True
            if self._changes.changed("membership", error.kind):
                self._log.error("the other replicas cannot be seen; retrying", error=str(error))
        except Exception as bug:  # noqa: BLE001 - must not stop the shops that we watch
            self.is_blind = True
            if self._changes.changed("membership", repr(bug)):
                self._log.error(
                    "internal error (bug): please report it; retrying", error=str(bug), exc_info=bug
                )
        else:
            self.is_blind = False

    async def _balance(self, membership: Membership, start_shop: Callable[[str], None]) -> None:
        """Read which replicas exist and which shops are free. Take and release shops accordingly.

        Raises:
            TemporaryError: STORE.
        """
        ids = list(self._shops)
        there = await membership.stay()
        leased = await membership.leased([self._shops[shop_id].shop_redis_prefix for shop_id in ids])
        if self._changes.changed("membership", ",".join(there)):
            self._log.info("replicas", there=len(there), shops=len(ids))
        self.replicas = max(1, len(there))
        taken = {shop_id for shop_id, is_leased in zip(ids, leased, strict=True) if is_leased}
        self._leave_to_rivals(taken)
        reports = await membership.reports(self.egress.report, there)
        able = reach.able(there, reports)
        # Share all shops again if the replicas change: a new one may reach other shops, and the shops of one
        # that left are free. Do so, too, if a replica reaches a shop again: it may take that shop.
        is_same = able == self._able and not self._is_lifted(reports)
        self._beyond = self._beyond & self._slots.keys() if is_same else set()
        self._there, self._able, self._reports = there, able, reports
        self._release_unreached()
        if self._name not in able:
            return
        mine = [shop_id for shop_id, slot in self._slots.items() if not slot.stop.is_set()]
        mine = [shop_id for shop_id in mine if shop_id not in self._beyond and self._others_may_take(shop_id)]
        for shop_id in to_give(self._name, able, shops=len(ids), mine=mine):
            self._slots[shop_id].stop.set()
        free = [shop_id for shop_id in ids if shop_id not in taken and shop_id not in self._slots]
        free = [shop_id for shop_id in free if not self._leaves_to_others(shop_id)]
        left = self._orphans.free_for_long(anyio.current_time(), free)[: at_once(share(len(ids), len(able)))]
        ours = to_take(self._name, able, shops=len(ids), mine=len(mine), free=free)
        if not ours:
            self._beyond.update(left)
        for shop_id in ours or left:
            start_shop(shop_id)

    def _is_lifted(self, reports: Mapping[str, Collection[str]]) -> bool:
        """Return whether a replica reaches a shop that it did not reach the last time."""
        return any(
            not before <= set(reports[name]) for name, before in self._reports.items() if name in reports
        )

    def _others_may_take(self, shop_id: str) -> bool:
        """Return whether a shop counts toward our share: another replica may watch it, or there is none."""
        return len(self._there) < 2 or reach.others_may_reach(shop_id, self._name, self._there, self._reports)

    def _leaves_to_others(self, shop_id: str) -> bool:
        """Return whether we do not reach a shop that another replica may reach."""
        return shop_id in self.egress.unreached and reach.others_may_reach(
            shop_id, self._name, self._there, self._reports
        )

    def _release_unreached(self) -> None:
        """Release the shops that we do not reach and another replica may; a bounded number at a time."""
        released = [
            shop_id
            for shop_id, slot in self._slots.items()
            if not slot.stop.is_set() and slot.polls is not None and self._leaves_to_others(shop_id)
        ]
        for shop_id in released[:MOST_AT_ONCE]:
            self._log.warning("released: another replica may reach the shop", shop=shop_id)
            self._slots[shop_id].stop.set()
            self.unreached_released += 1

    def _leave_to_rivals(self, taken: set[str]) -> None:
        """Release shops whose lease another replica has.

        Both tried to take the shop and the other was first. Or the lease is ours from before an interruption:
        then it is confirmed within RIVAL_S.
        """
        for shop_id, slot in self._slots.items():
            if shop_id in taken and not slot.leads:
                was_refused = slot.shop_runtime is not None and slot.shop_runtime.lease.was_refused
                if was_refused or anyio.current_time() > slot.since + RIVAL_S:
                    slot.stop.set()
