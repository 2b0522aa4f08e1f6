"""What must hold for a fleet as a whole; the rules of one shop are held by a judge of its own."""

from typing import TYPE_CHECKING

import anyio

from simulation.judge import HEALTH_SLACK_S, STALE_S, Judge

if TYPE_CHECKING:
    from simulation.fleets import FleetShop, FleetWorld
    from simulation.processes import Process

LOOK_EVERY_S = 5.0
PROMISE_S = 15.0
"""docs/fleets.md: a shop is unpolled for so long at most, beyond its interval, if a process is killed."""
SLACK_S = 10.0
"""For requests on their way; and in the simulation free shops and leases are looked for less often."""
AFTER_TROUBLE_S = 100.0
"""After a trouble a shop may be left alone for a minute, and what could not be begun is tried after 30 s."""
EGRESS_S = 75.0
"""A process that does not reach a shop offers it to one that does after another interval at most, and that
one asks a shop that is long overdue within a minute (schedule.SPREAD_S)."""
LIMITED_S = 120.0
"""So much later if it is told to wait, each time for a minute: it asks three times."""


class FleetJudge(Judge):
    """See the module's docstring. For the inherited methods see judge.Judge."""

    def __init__(self, world: "FleetWorld") -> None:
        super().__init__(world)
        self._fleet = world
        self.restored_at = -1e9
        self._excused_until: dict[str, float] = {}
        self._missed_at: dict[str, float] = {}
        self._missed_by: dict[str, set[int]] = {}  # by shop: who could not reach it since it was polled
        self._limited_at: dict[str, float] = {}

    def health(self, process: "Process", code: int, told: str) -> None:
        """A process said how it does: unhealthy is one that polls none of its shops, for long."""
        fleet, now = self._fleet, self._fleet.loop.time()
        changed_at = max(self.restored_at, fleet.told_time_at, process.thawed_at)
        if process.is_told_to_stop or now - changed_at < AFTER_TROUBLE_S:
            return
        ours = [shop for shop in fleet.shops.values() if shop.leads(process)]
        for shop in ours:
            polled_at, stale_s = shop.judge.polled_at, max(STALE_S, 3 * shop.plan.interval_s)
            if (
                code != 200
                and polled_at is not None
                and changed_at < polled_at > now - stale_s + HEALTH_SLACK_S
            ):
                self.fail(
                    f"{process} says {told}, though {shop.shop_id} was polled {now - polled_at:.0f} s ago"
                )
        is_new = any(now - other.began_at < AFTER_TROUBLE_S for other in fleet.processes)
        if code == 200 and not is_new and len(ours) == len(fleet.shops) and all(map(self._is_dead, ours)):
            self.fail(f"{process} says {told}, though no shop was polled for long")

    def _is_dead(self, shop: "FleetShop") -> bool:
        """Whether it was polled once, and not for so long that its process has to say so."""
        polled_at, stale_s = shop.judge.polled_at, max(STALE_S, 3 * shop.plan.interval_s)
        led_since = max(seat.led_since for seat in shop.seats.values())
        now = self._fleet.loop.time()
        return (
            polled_at is not None
            and max(self.restored_at, self._fleet.told_time_at) < polled_at
            and now - polled_at > stale_s + HEALTH_SLACK_S
            and now - led_since > AFTER_TROUBLE_S
        )

    async def watch(self) -> None:
        """Look at the shops, again and again."""
        while not self.verdicts:
            await anyio.sleep(LOOK_EVERY_S)
            for shop in self._fleet.shops.values():
                self._look_at(shop)

    def _look_at(self, shop: "FleetShop") -> None:
        """Whether a shop is polled for as long as somebody could."""
        now, plan = self._fleet.loop.time(), shop.plan
        alive = [process for process in self._fleet.processes if process.alive]
        is_busy = bool(shop.place.troubles) or any(process.frozen for process in alive)
        reaching = [process for process in alive if not process.misses(shop.shop_id)]
        until = max(
            self._excused_until.get(shop.shop_id, 0.0),
            now + AFTER_TROUBLE_S if is_busy or shop.is_down or not reaching else 0.0,
            shop.troubled_at + AFTER_TROUBLE_S,
            *(seat.shop_not_before[1] + AFTER_TROUBLE_S for seat in shop.seats.values()),
        )
        self._excused_until[shop.shop_id] = until
        last_at = max(shop.judge.reached_at, until, self.restored_at + AFTER_TROUBLE_S)
        promise_s = plan.interval_s + PROMISE_S + SLACK_S
        missed_by = self._missed_by.setdefault(shop.shop_id, set())
        if shop.judge.reached_at >= now - LOOK_EVERY_S:
            missed_by.clear()
        missed_by.update(process.number for process in alive if process not in reaching)
        if len(reaching) < len(alive):
            self._missed_at[shop.shop_id] = now
            if any("limited" in (one.egress.get(shop.shop_id), one.egress.get("*")) for one in alive):
                self._limited_at[shop.shop_id] = now
        if (
            now - self._missed_at.get(shop.shop_id, -1e9) < AFTER_TROUBLE_S
        ):  # it leaves a shop alone meanwhile; so does the next one that does not reach it
            promise_s += max(1, len(missed_by)) * (EGRESS_S + plan.interval_s)
        if now - self._limited_at.get(shop.shop_id, -1e9) < AFTER_TROUBLE_S:
            promise_s += LIMITED_S
        if now - last_at > promise_s:
            self.fail(
                f"{shop.shop_id} was not polled for {now - shop.judge.reached_at:.0f} s,"
                f" though {', '.join(map(str, reaching))} could have"
            )
