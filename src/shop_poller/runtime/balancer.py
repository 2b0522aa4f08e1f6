"""Which shops this process watches, of many, and of those that other replicas share.

Every second: who is there? ──→ give away what is beyond our share, take what is free.

A replica that cannot reach a shop leaves it to one that may; see `egress`.
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
"""A shop is left to another process that has its lease, if we do not know for so long whether it is ours."""


class Balancer:
    """Shares the shops of a fleet with other replicas. For the methods see fleet.Assignment.

    Args:
        fleet: of which shops are begun and stopped.
        membership: the replicas; None if there can be no other: then all shops are ours.
        name: of this replica.
        probe: asks a shop once, beside whoever polls it.

    Attributes:
        egress: the shops that cannot be reached from here.
        released: how many shops were released because of that.
        replicas: how many there were at the last look.
        looked_at: when that was, on the event loop's clock.
        began_at: when the watch began; infinity before.
        is_blind: at the last look the other replicas could not be seen.
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
        self.released = 0
        self._shops, self._slots = fleet.shops, fleet.slots
        self._membership = membership
        self._name = name
        self._reports: dict[str, frozenset[str]] = {}
        self._there: list[str] = []
        self._able: list[str] = []  # of those, that reach any shop
        self._orphans = Orphans()
        self._beyond: set[str] = set()  # our share: taken since nobody else did
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    async def assign(self, begin: Callable[[str], None], stop: anyio.Event) -> None:
        """Begin our share of the shops, and give away what is beyond it, until stopped."""
        self.began_at = anyio.current_time()
        if self._membership is None:
            for shop_id in self._shops:
                begin(shop_id)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.egress.probe, lambda: self._slots, self._reached_by_others)
            while not stop.is_set():
                self._look_at_polls()
                if self._membership is not None:
                    await self._look_about(self._membership, begin)
                for slot in self._slots.values():
                    slot.look()
                self.looked_at = anyio.current_time()
                with anyio.move_on_after(LOOK_EVERY_S):
                    await stop.wait()
            tasks.cancel_scope.cancel()

    async def leave(self) -> None:
        """Tell the other replicas that we are gone."""
        if self._membership is None:
            return
        try:
            with anyio.CancelScope(shield=True):
                await self._membership.leave()
        except TemporaryError:
            self._log.debug("the others will see by themselves that we are gone")

    def _look_at_polls(self) -> None:
        polls = {shop_id: slot.polls for shop_id, slot in self._slots.items()}
        self.egress.look({shop_id: its for shop_id, its in polls.items() if its is not None})

    def _reached_by_others(self) -> set[str]:
        """The shops that no other replica has reported."""
        others = [self._reports.get(name, frozenset()) for name in self._there if name != self._name]
        return {shop_id for shop_id in self._shops if not any(shop_id in report for report in others)}

    async def _look_about(self, membership: Membership, begin: Callable[[str], None]) -> None:
        """Look; if nothing is seen, whoever leads goes on leading for as long as the lease says."""
        try:
            await self._look(membership, begin)
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

    async def _look(self, membership: Membership, begin: Callable[[str], None]) -> None:
        """See who is there and which shops are free; take and give away.

        Raises:
            TemporaryError: STORE.
        """
        ids = list(self._shops)
        there = await membership.stay()
        leased = await membership.leased([self._shops[shop_id].shop_redis_prefix for shop_id in ids])
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
        left = self._orphans.at(anyio.current_time(), free)[: at_once(share(len(ids), len(able)))]
        ours = to_take(self._name, able, shops=len(ids), mine=len(mine), free=free)
        if not ours:
            self._beyond.update(left)
        for shop_id in ours or left:
            begin(shop_id)

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
            for shop_id, slot in self._slots.items()
            if not slot.stop.is_set() and slot.polls is not None and self._leaves_to_others(shop_id)
        ]
        for shop_id in released[:MOST_AT_ONCE]:
            self._log.warning("released: another replica may reach the shop", shop=shop_id)
            self._slots[shop_id].stop.set()
            self.released += 1

    def _leave_to_rivals(self, taken: set[str]) -> None:
        """Two wanted the same shop, and the other was quicker; or the lease is ours from before a break."""
        for shop_id, slot in self._slots.items():
            if shop_id in taken and not slot.leads:
                was_refused = slot.shop_runtime is not None and slot.shop_runtime.lease.was_refused
                if was_refused or anyio.current_time() > slot.since + RIVAL_S:
                    slot.stop.set()
