"""A shop's life while it is polled, and whether anything of it was missed.

Every deed is noted as one that moves the order's date, which the next good tick has to show, or as one that
does not, which is for the next whole sweep. After each tick three things are held against each other: what
the shop showed, what was told of that, and what the shop is like.
"""

from collections.abc import Collection
from datetime import datetime, timedelta
from decimal import Decimal

import anyio

from shop_poller.core.dialects import Dialect
from shop_poller.core.messages import event_id
from shop_poller.simulator.faults import with_values
from shop_poller.simulator.goods import basket
from shop_poller.simulator.orders import Refund, SimulatedOrder
from support.oracle import NEW, Oracle, Told, is_paid
from support.wired import SHOP_ID, Bench, Sight

BAD_CURRENCY = with_values(currency="XXX")
"""For an ability a reason to refuse the whole page; elsewhere it is an order like others."""
BAD_DATE = with_values(date_modified_gmt="0000-00-00T00:00:00")
"""Likewise; elsewhere it cannot be read."""
BAD_TOTAL = with_values(total="many")
"""Shown by all, and read by none."""
BAD = (BAD_CURRENCY, BAD_DATE, BAD_TOTAL)
MOST_POISONED = 8
CLOSED = {"cancelled", "completed", "refunded", "trash", "checkout-draft"}
OPEN = {"pending", "on-hold", "processing"}


class History:
    """What happens to a shop, and to those who watch it.

    Args:
        bench: the two.
        date_ahead: how far the shop's Date header is ahead of its stamps.
    """

    def __init__(self, bench: Bench, *, date_ahead: timedelta = timedelta(0)) -> None:
        self.bench = bench
        self.blind = bench.dialect is Dialect.ABILITIES
        baseline = (bench.shop.clock() + date_ahead - bench.plan.lookback).replace(microsecond=0)
        self.oracle = Oracle(baseline, self.blind)
        self.due: list[Told] = []
        self.deeds = 0
        self.shown: dict[int, int] = {}
        """By order, the deed after which its date moved: due at the next good tick."""
        self.hidden: dict[int, int] = {}
        """By order, the deed that moved no date: due at the next whole sweep."""
        self.poisoned: set[int] = set()
        """Orders that the source leaves out of every question until it is asked for them by name."""
        self._sweep_began = self._swept = self._last_began = -1
        self._sweepable: set[int] = set()
        self._undone: dict[int, Refund] = {}

    @property
    def orders(self) -> list[SimulatedOrder]:
        """Those that something can happen to."""
        return self.bench.shop.orders

    # --- What happens in the shop ---

    def stock(self, status: str, age: timedelta) -> int:
        """An order that was there before us; those of them that are not ours to know are never due."""
        now = self.bench.shop.clock()
        order_id = self.bench.shop.create_order(status, created=now - age)
        learned = status in OPEN or (status == "completed" and age < timedelta(days=30))
        if learned or age < self.bench.plan.lookback:
            self.shown[order_id] = self.deeds
        return order_id

    def moved(self, *ids: int) -> None:
        """The dates of orders moved on."""
        self.deeds += 1
        for order_id in ids:
            if order_id in self.poisoned:
                self.hidden[order_id] = self.deeds
            elif self.readable(order_id):
                self.hidden.pop(order_id, None)
                self.shown[order_id] = self.deeds

    def changed_secretly(self, order_id: int) -> None:
        """An order changed, and its date did not."""
        self.deeds += 1
        self.hidden[order_id] = self.deeds

    def create(self, status: str, *, total: str = "1930.00") -> int:
        order_id = self.bench.shop.create_order(status, total=total)
        self.moved(order_id)
        return order_id

    def create_half_made(self) -> int:
        order_id = self.bench.shop.create_order("pending", lines=())
        self.moved(order_id)
        return order_id

    def fill(self, order_id: int, status: str) -> None:
        """A half-made order is finished, as a checkout does within the same second."""
        if not self.bench.shop.order(order_id).lines:
            self.bench.shop.fill(order_id, basket(Decimal(1930)))
            self.moved(order_id)
            self.set_status(order_id, status)

    def create_dated(self, status: str, created: datetime, *, modified: datetime | None = None) -> int:
        """An import: of another day, and perhaps as if it had been changed then, too."""
        now = self.bench.shop.clock()
        order_id = self.bench.shop.create_order(status, created=created, modified=modified or now)
        if modified is not None and modified < now:
            self.changed_secretly(order_id)
        else:
            self.moved(order_id)
        return order_id

    def set_status(self, order_id: int, status: str) -> None:
        if self.bench.shop.order(order_id).status != status:
            self.bench.shop.set_status(order_id, status)
            self.moved(order_id)

    def refund(self, order_id: int, *, part: bool) -> None:
        order = self.bench.shop.order(order_id)
        left = order.total - order.refunded
        if left > 0:
            self.bench.shop.refund(order_id, left / 4 if part else left)
            self.moved(order_id)

    def touch(self, *ids: int) -> None:
        for order_id in ids:
            self.bench.shop.touch(order_id)
        self.moved(*ids)

    def trash(self, order_id: int) -> None:
        if self.bench.shop.order(order_id).status != "trash":
            self.bench.shop.trash(order_id)
            self.moved(order_id)

    def restore(self, order_id: int) -> None:
        if self.bench.shop.order(order_id).status == "trash":
            self.bench.shop.restore(order_id)
            self.moved(order_id)

    def set_secretly(self, order_id: int, status: str) -> None:
        """As a plugin's SQL does it."""
        if self.bench.shop.order(order_id).status != status:
            self.bench.shop.hidden_status(order_id, status)
            self.changed_secretly(order_id)

    def undo_refund(self, order_id: int) -> None:
        """Nothing of it is to be seen, and what was told stays told."""
        refunds = self.bench.shop.order(order_id).refunds
        if refunds:
            self.bench.shop.delete_refund(order_id, refunds[0].id)
            self._undone.setdefault(order_id, refunds[0])

    def redo_refund(self, order_id: int) -> None:
        """A backup brings it back."""
        refund = self._undone.pop(order_id, None)
        order = self.bench.shop.order(order_id)
        if refund is not None and refund.amount < order.total - order.refunded:
            self.bench.shop.refund(order_id, refund.amount, refund_id=refund.id)
            self.moved(order_id)

    def spoil(self, order_id: int, kind: int, *, touched: bool) -> None:
        """An order cannot be read any more; few enough are so that an ability can still be asked."""
        if len(self.poisoned) < MOST_POISONED:
            bad = BAD[kind % len(BAD)]
            self.bench.shop.distort(order_id, bad)
            if self.blind and bad is not BAD_TOTAL:
                self.poisoned.add(order_id)
            if touched:
                self.touch(order_id)

    def mend_all(self) -> None:
        for order in self.orders:
            if order.distortion is not None:
                self.bench.shop.distort(order.id, None)
                self.changed_secretly(order.id)

    # --- What the watch does ---

    async def tick(self, *, may_fail: bool = False, late: bool = False) -> bool:
        """One tick, and what is done until the next; all that was due must be known and told now.

        Args:
            may_fail: there are troubles.
            late: only what was due at the tick before must be.

        Returns:
            Whether it was a good poll.
        """
        began = self._last_began if late else self.deeds
        self._last_began = self.deeds
        report = await self.bench.tick()
        self._listen()
        if report.error is not None or report.paused_s:
            assert may_fail, f"a tick failed: {report.error}"
            return False
        due = {n for n, deed in self.shown.items() if deed <= began and n not in self.hidden}
        self._hold_against_the_shop(due)
        await self._sweep(may_fail=may_fail)
        return True

    async def _sweep(self, *, may_fail: bool) -> None:
        state = self.bench.ledger.state
        if state.sweep is None:
            self._sweep_began = self.deeds
            self._sweepable = await self._in_reach_of_a_sweep()
        report = await self.bench.between_ticks()
        self._listen()
        assert may_fail or report.error is None, f"a sweep failed: {report.error}"
        if self.bench.ledger.state.swept_at == state.swept_at:
            return
        self._swept = self._sweep_began
        done = {n for n, deed in self.hidden.items() if deed <= self._sweep_began}
        self._hold_against_the_shop(done & self._sweepable)
        for order_id in done:
            deed = self.hidden.pop(order_id)
            self.shown.pop(order_id, None)
            if order_id in self._sweepable:
                self.shown[order_id] = deed
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
                self.oracle.learns(order)
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

    def readable(self, order_id: int) -> bool:
        there = {order.id: order for order in self.orders}
        if order_id not in there:
            return False
        distortion = there[order_id].distortion
        return distortion is None or (distortion is BAD_CURRENCY and not self.blind)

    def listed(self, order: SimulatedOrder) -> bool:
        """Whether the dialect ever lists an order like this: no trash, nothing unregistered."""
        drafts = {"checkout-draft"} if self.blind else set()
        return order.status in set(self.bench.shop.statuses) - drafts

    # --- The end ---

    async def settle(self) -> None:
        """When all is quiet and a whole sweep is done: nothing is missing, and nothing is twice."""
        self.bench.endpoint.faults.clear()
        await anyio.sleep(20 * 60)
        for _ in range(3):  # a sweep may be under way, and only the next one is whole
            await self.tick()
            if self._swept >= self.deeds:
                break
            await anyio.sleep(61 * 60)
        assert self._swept >= self.deeds, "no sweep came to its end"
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
        traces = await self.bench.store.traces(SHOP_ID, {str(due.order_id) for due in self.due})
        assert {trace.event_id for trace in traces} == {n.event_id for n in self.bench.told}
