"""Actions in a simulated shop, and when each has to be detected.

The next good tick has to show an action that moves the order's date; the next whole sweep has to show others.
"""

from datetime import datetime, timedelta
from decimal import Decimal

from shop_poller.simulator.faults import with_values
from shop_poller.simulator.goods import basket
from shop_poller.simulator.orders import SimulatedOrder, SimulatedRefund
from shop_poller.sources.woocommerce.dialects import Dialect
from support.wired import Bench

BAD_CURRENCY = with_values(currency="XXX")
"""For an ability a reason to refuse the whole page; elsewhere it is an order like others."""
BAD_DATE = with_values(date_modified_gmt="0000-00-00T00:00:00")
"""Likewise; elsewhere it cannot be read."""
BAD_CREATION = with_values(date_created=None, date_created_gmt=None)
"""Shown by all, and read by none."""
BAD = (BAD_CURRENCY, BAD_DATE, BAD_CREATION)
MOST_POISONED = 8
OPEN = {"pending", "on-hold", "processing"}


class ShopActions:
    """What somebody does to the shop on a bench.

    Args:
        bench: has the shop.

    Attributes:
        blind: the dialect sees neither refunds nor drafts, and one bad order spoils a page.
        actions: how many there were.
        shown: by order, the last action that moved its date: due at the next good tick.
        hidden: by order, the last action that moved no date: due at the next whole sweep.
        poisoned: orders that the source leaves out of every question until it is asked for them by name.
    """

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.blind = bench.dialect is Dialect.ABILITIES
        self.actions = 0
        self.shown: dict[int, int] = {}
        self.hidden: dict[int, int] = {}
        self.poisoned: set[int] = set()
        self._undone: dict[int, SimulatedRefund] = {}

    @property
    def orders(self) -> list[SimulatedOrder]:
        """Those that something can happen to."""
        return self.bench.shop.orders

    def stock(self, status: str, age: timedelta) -> int:
        """An order that was there before us; those of them that are not ours to know are never due."""
        now = self.bench.shop.clock()
        order_id = self.bench.shop.create_order(status, created=now - age)
        imported = status in OPEN or (status == "completed" and age < timedelta(days=30))
        if imported or age < self.bench.plan.lookback:
            self.shown[order_id] = self.actions
        return order_id

    def moved(self, *ids: int) -> None:
        """The dates of orders moved on."""
        self.actions += 1
        for order_id in ids:
            if order_id in self.poisoned:
                self.hidden[order_id] = self.actions
            elif self.readable(order_id):
                self.hidden.pop(order_id, None)
                self.shown[order_id] = self.actions

    def changed_secretly(self, order_id: int) -> None:
        """An order changed, and its date did not."""
        self.actions += 1
        self.hidden[order_id] = self.actions

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
            if self.blind and bad is not BAD_CREATION:
                self.poisoned.add(order_id)
            if touched:
                self.touch(order_id)

    def mend_all(self) -> None:
        for order in self.orders:
            if order.distortion is not None:
                self.bench.shop.distort(order.id, None)
                self.changed_secretly(order.id)

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
