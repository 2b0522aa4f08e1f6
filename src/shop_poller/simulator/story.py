"""A day of the simulated shop, for the demo: orders are created, paid, and go wrong."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from decimal import Decimal
from random import Random

from shop_poller.core.translatable import Text
from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.rendering import money
from shop_poller.simulator.shop import SimulatedShop

OPENING_PAUSE_S = 1.4
_MAX_OPEN = 12


class Story:
    """Makes things happen in a shop, one at a time.

    The first twelve steps are the same in every story. They produce every kind of event, with enough time
    between two changes of one order to be polled separately. Later steps are random. Orders of earlier
    days exist from the start.

    Attributes:
        pause_s: How many seconds to wait before the next step; each step sets it.

    Args:
        shop: The shop, on its own clock.
        rng: The random numbers; the same seed makes the same story.
    """

    def __init__(self, shop: SimulatedShop, rng: Random) -> None:
        self._shop = shop
        self._rng = rng
        self._yesterday = self._stock_up()
        self._opening = self._open()
        self.pause_s = OPENING_PAUSE_S

    def step(self) -> str:
        """Make one thing happen, and describe it in one line, without surnames."""
        line = next(self._opening, None)
        if line is None:
            self.pause_s = self._rng.uniform(2.0, 6.0)
            line = self._at_random()
        return line

    def _stock_up(self) -> int:
        shop, now = self._shop, self._shop.clock()
        old = ((90, "completed"), (41, "cancelled"), (30, "refunded"), (12, "completed"))
        recent = ((7, "completed"), (6, "failed"), (3, "completed"), (2, "on-hold"))
        for days, status in (*old, *recent):
            created = now - timedelta(days=days, minutes=self._rng.randint(1, 600))
            order_id = shop.create_order("pending", created=created)
            shop.set_status(order_id, "processing", at=created + timedelta(minutes=2))
            shop.set_status(order_id, status, at=created + timedelta(minutes=50))
        return shop.create_order("processing", created=now - timedelta(hours=26))

    def _open(self) -> Iterator[str]:
        first = self._shop.create_order()
        yield self._comes(first)
        yield self._pays(first)
        second = self._shop.create_order("processing")
        yield Text("{order} Paid at once.", order=self._comes(second))
        third = self._shop.create_order()
        yield self._comes(third)
        yield self._fails(third)
        yield self._gives_back_some(first)
        yield self._is_cancelled(self._yesterday, Text("from yesterday: out of stock"))
        yield self._gives_back_all(second)
        yield Text("Order #{order} is paid at the second attempt.", order=self._pay(third))
        fourth = self._shop.create_order()
        yield self._comes(fourth)
        yield self._completes(first)
        yield self._is_cancelled(fourth, Text("the buyer changed their mind"))

    def _at_random(self) -> str:
        open_orders = [
            order for order in self._shop.orders if order.status in ("pending", "failed", "processing")
        ]
        if not open_orders or (len(open_orders) < _MAX_OPEN and self._rng.random() < 0.4):
            return self._comes(self._shop.create_order())
        order = self._rng.choice(open_orders)
        actions, weights = zip(*self._actions(order), strict=True)
        action: Callable[[int], str] = self._rng.choices(actions, weights)[0]
        return action(order.id)

    def _actions(self, order: SimulatedOrder) -> tuple[tuple[Callable[[int], str], int], ...]:
        """Return the possible changes of an order, and the weight of each."""
        if order.status == "processing":
            some = 2 if order.refunded == 0 and order.total > 100 else 0
            return (
                (self._completes, 5),
                (self._gives_back_some, some),
                (self._gives_back_all, 2),
                (self._is_cancelled, 1),
            )
        if order.status == "failed":
            return ((self._pays, 3), (self._is_cancelled, 1))
        return ((self._pays, 6), (self._fails, 2), (self._is_cancelled, 2))

    def _comes(self, order_id: int) -> str:
        order = self._shop.order(order_id)
        goods = ", ".join(line.product.name for line in order.lines)
        return Text(
            "New order #{order}: {buyer} buys: {goods} ({price}).",
            order=order_id,
            buyer=_buyer(order),
            goods=goods,
            price=self._price(order),
        )

    def _pay(self, order_id: int) -> int:
        self._shop.set_status(order_id, "processing")
        return order_id

    def _pays(self, order_id: int) -> str:
        return Text("Order #{order} is paid.", order=self._pay(order_id))

    def _fails(self, order_id: int) -> str:
        self._shop.set_status(order_id, "failed")
        return Text("Order #{order}: the bank declined the payment.", order=order_id)

    def _completes(self, order_id: int) -> str:
        self._shop.set_status(order_id, "completed")
        buyer = _buyer(self._shop.order(order_id))
        return Text("Order #{order} is completed: {buyer} receives everything.", order=order_id, buyer=buyer)

    def _is_cancelled(self, order_id: int, why: str = "") -> str:
        self._shop.set_status(order_id, "cancelled")
        if why:
            return Text("Order #{order} is cancelled ({why}).", order=order_id, why=why)
        return Text("Order #{order} is cancelled.", order=order_id)

    def _gives_back_some(self, order_id: int) -> str:
        amount = Decimal(max(1, int(self._shop.order(order_id).total / 4)))
        self._shop.refund(order_id, amount, "Одна вещь не подошла")
        return Text(
            "Order #{order}: part of the money is refunded, {amount}.",
            order=order_id,
            amount=f"{money(amount)} {self._sign}",
        )

    def _gives_back_all(self, order_id: int) -> str:
        self._shop.refund(order_id)
        return Text("Order #{order}: all money is refunded.", order=order_id)

    def _price(self, order: SimulatedOrder) -> str:
        return f"{money(order.total)} {self._sign}"

    @property
    def _sign(self) -> str:
        return self._shop.currency_symbol


def _buyer(order: SimulatedOrder) -> str:
    return order.customer.first_name
