"""A shop's life while it is polled, and whether anything of it was missed.

After each tick three things are held against each other: what the shop showed, what was told of that, and
what the shop is like.
"""

from collections.abc import Collection
from datetime import timedelta

import anyio

from shop_poller.core.messages import event_id
from support.oracle import NEW, Oracle, Told, is_paid
from support.shop_actions import ShopActions
from support.wired import SHOP_ID, Bench, Sight

CLOSED = {"cancelled", "completed", "refunded", "trash", "checkout-draft"}


class History(ShopActions):
    """What happens to a shop, and to those who watch it.

    Args:
        bench: the two.
        date_ahead: how far the shop's Date header is ahead of its stamps.

    Attributes:
        due: all that had to be told, in order.
    """

    def __init__(self, bench: Bench, *, date_ahead: timedelta = timedelta(0)) -> None:
        super().__init__(bench)
        baseline = (bench.shop.clock() + date_ahead - bench.plan.lookback).replace(microsecond=0)
        self.oracle = Oracle(baseline, self.blind)
        self.due: list[Told] = []
        self._sweep_began = self._swept = self._last_began = -1
        self._sweepable: set[int] = set()

    async def tick(self, *, may_fail: bool = False, late: bool = False) -> bool:
        """One tick, and what is done until the next; all that was due must be known and told now.

        Args:
            may_fail: there are troubles.
            late: only what was due at the tick before must be.

        Returns:
            Whether it was a good poll.
        """
        began = self._last_began if late else self.actions
        self._last_began = self.actions
        report = await self.bench.tick()
        self._listen()
        if report.error is not None or report.paused_s:
            assert may_fail, f"a tick failed: {report.error}"
            return False
        due = {n for n, action in self.shown.items() if action <= began and n not in self.hidden}
        self._hold_against_the_shop(due)
        await self._sweep(may_fail=may_fail)
        return True

    async def _sweep(self, *, may_fail: bool) -> None:
        state = self.bench.state_writer.state
        if self.bench.poller._sweeper._pages is None:  # none is under way
            self._sweep_began = self.actions
            self._sweepable = await self._in_reach_of_a_sweep()
        report = await self.bench.between_ticks()
        self._listen()
        assert may_fail or report.error is None, f"a sweep failed: {report.error}"
        if self.bench.state_writer.state.swept_at == state.swept_at:
            return
        self._swept = self._sweep_began
        done = {n for n, action in self.hidden.items() if action <= self._sweep_began}
        self._hold_against_the_shop(done & self._sweepable)
        for order_id in done:
            action = self.hidden.pop(order_id)
            self.shown.pop(order_id, None)
            if order_id in self._sweepable:
                self.shown[order_id] = action
        self.poisoned = {n for n in self.poisoned if n in self.hidden or not self.readable(n)}

    async def _in_reach_of_a_sweep(self) -> set[int]:
        since = self.bench.shop.clock() - self.bench.plan.sweep_window
        recent = {order.id for order in self.orders if order.created > since}
        open_ = {n for n, memory in self.oracle.memories.items() if memory.status not in CLOSED}
        return recent | open_ | set(await self.bench.store.set_aside(SHOP_ID))

    def _listen(self) -> None:
        """Whatever polling was shown, it told what follows from that, and nothing else."""
        heard = len(self.due)
        while self.bench.sights:
            self.due += self._follows(self.bench.sights.popleft())
        told, due = self.bench.told[heard:], self.due[heard:]
        assert [(int(n.source_id), n.event_type) for n in told] == [(d.order_id, d.kind) for d in due]
        assert [n.event_id for n in told] == [event_id(SHOP_ID, str(d.order_id), d.kind, d.n) for d in due], (
            "each change has an id of its own, and always the same"
        )

    def _follows(self, sight: Sight) -> list[Told]:
        query = sight.query
        if query.newest_first and query.created_before is None:
            return []  # the first contact, for the shop's clock
        if query.statuses:
            for order in sight.readable:
                self.oracle.imports_silently(order)
            return []
        return [told for order in sight.readable for told in self.oracle.sees(order)]

    def _hold_against_the_shop(self, due: Collection[int]) -> None:
        for order in self.orders:
            if order.id not in due or not self.readable(order.id) or not self.listed(order):
                continue
            memory = self.oracle.memories.get(order.id)
            assert memory is not None, f"order {order.id} was never seen"
            assert memory.status == order.status, f"order {order.id} is {order.status}, known {memory.status}"
            if not self.blind:
                assert memory.refunds >= {refund.id for refund in order.refunds}

    async def record_outcomes(self) -> None:
        """When all is quiet and a whole sweep is done: nothing is missing, and nothing is twice."""
        self.bench.endpoint.faults.clear()
        await anyio.sleep(20 * 60)
        for _ in range(3):  # a sweep may be under way, and only the next one is whole
            await self.tick()
            if self._swept >= self.actions:
                break
            await anyio.sleep(61 * 60)
        assert self._swept >= self.actions, "no sweep came to its end"
        assert not self.hidden
        await self._audit()

    async def _audit(self) -> None:
        memories = self.oracle.memories
        known = await self.bench.store.known(SHOP_ID, memories.keys())
        assert {n: one.status for n, one in known.items()} == {n: m.status for n, m in memories.items()}
        assert len(set(self.due)) == len(self.due), "something was told twice"
        # An order that was given back before it was ever seen paid is no new one afterwards.
        told = {due.order_id for due in self.due if due.kind in {NEW, "shop.order.refunded"}}
        for order in self.orders:
            ours = order.created >= self.oracle.baseline
            if ours and is_paid(order.status) and self.readable(order.id) and self.listed(order):
                assert order.id in told, f"order {order.id} was paid and never announced"
        delivery_records = await self.bench.store.delivery_records(
            SHOP_ID, {str(due.order_id) for due in self.due}
        )
        assert {delivery_record.event_id for delivery_record in delivery_records} == {
            n.event_id for n in self.bench.told
        }
