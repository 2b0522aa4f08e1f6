"""A shop as a pure model: orders and their changes, on any given clock."""

import itertools
import string
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from decimal import Decimal
from random import Random
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shop_poller.simulator.goods import (
    CARD,
    SHIPPING,
    Customer,
    LineItem,
    PaymentMethod,
    basket,
    random_customer,
    random_lines,
)
from shop_poller.simulator.listing import HONEST
from shop_poller.simulator.orders import PAID_STATUSES, Distortion, Meta, SimulatedOrder, SimulatedRefund
from shop_poller.simulator.rendering import ShopFace

BUILT_IN_STATUSES = (
    "pending",
    "processing",
    "on-hold",
    "completed",
    "cancelled",
    "refunded",
    "failed",
)
_FULLY_REFUNDED = "Order fully refunded."
_KEY_LETTERS = string.ascii_letters + string.digits


class NoSuchOrderError(LookupError):
    """The shop has no such order, or the order no such refund."""


class SimulatedShop:
    """The orders of one shop. Reads no clock but its own and does no IO.

    Every method that happens at a moment takes `at`, an aware instant; the default is the shop's
    clock. Instants are rounded down to whole seconds, as WooCommerce stores them. Orders are
    immutable and replaced, so that another thread may read them during a change.

    Args:
        clock: Returns the present instant, aware.
        time_zone: The shop's own zone, an IANA name or a tzinfo.
        currency: The currency's code.
        currency_symbol: The currency's sign.
        url: The shop's address without a trailing slash; may be set later.
        custom_statuses: Statuses that a plugin has registered.
        rng: Makes up buyers, goods and order keys; seeded if not given.
        first_id: The id of the first order; orders and refunds share one sequence of ids.
    """

    def __init__(
        self,
        clock: Callable[[], datetime],
        time_zone: str | tzinfo = "Europe/Moscow",
        currency: str = "RUB",
        currency_symbol: str = "₽",
        url: str = "http://127.0.0.1",
        *,
        custom_statuses: Sequence[str] = ("sborka",),
        rng: Random | None = None,
        first_id: int = 1001,
    ) -> None:
        self.clock = clock
        self.zone = time_zone if isinstance(time_zone, tzinfo) else _zone(time_zone)
        self.currency = currency
        self.currency_symbol = currency_symbol
        self.url = url
        self.custom_statuses = tuple(custom_statuses)
        self.plain_permalinks = False
        self.paging = HONEST
        self._rng = rng or Random(0)  # noqa: S311 - made-up names and order keys, no secrets
        self._ids = itertools.count(first_id)
        self._row_ids = itertools.count(2001)
        self._orders: dict[int, SimulatedOrder] = {}

    @property
    def face(self) -> ShopFace:
        """The shop's data in an order's JSON."""
        return ShopFace(self.url, self.zone, self.currency, self.currency_symbol, self.plain_permalinks)

    @property
    def statuses(self) -> tuple[str, ...]:
        """Every registered status, in the schema's order."""
        return (*BUILT_IN_STATUSES, *self.custom_statuses, "checkout-draft")

    @property
    def orders(self) -> list[SimulatedOrder]:
        """All orders, including trash and drafts."""
        return list(self._orders.values())

    def has(self, order_id: int) -> bool:
        """Say whether there is such an order."""
        return order_id in self._orders

    def order(self, order_id: int) -> SimulatedOrder:
        """Return the present order; raises NoSuchOrderError."""
        try:
            return self._orders[order_id]
        except KeyError:
            raise NoSuchOrderError(f"no order {order_id}") from None

    def create_order(
        self,
        status: str = "pending",
        *,
        total: Decimal | str | int | None = None,
        lines: Sequence[LineItem] | None = None,
        first_name: str | None = None,
        customer: Customer | None = None,
        customer_note: str = "",
        payment: PaymentMethod = CARD,
        created: datetime | None = None,
        modified: datetime | None = None,
        paid: datetime | None = None,
        completed: datetime | None = None,
        order_id: int | None = None,
    ) -> int:
        """Create an order.

        Args:
            status: Its status. A paid one sets the date of payment; `refunded` refunds everything.
            total: Its total; it then has one made-up line, with the shipping if it fits.
            lines: Its lines. None makes some up; an empty list is an unfinished order at 0.00.
            first_name: The buyer's first name; the rest is made up.
            customer: The whole buyer.
            customer_note: The buyer's note.
            payment: How the buyer pays.
            created: When it was created; now if not given.
            modified: When it was last modified; `created` if not given.
            paid: When it was paid, if that is not `created`.
            completed: When it was completed, if that is not `created`.
            order_id: Its id; the next free one if not given.

        Returns:
            The order's id.
        """
        at = self._moment(created)
        if lines is None:
            lines = random_lines(self._rng) if total is None else basket(Decimal(total))
        order = SimulatedOrder(
            id=self._next_id(order_id),
            status=status,
            created=at,
            modified=at if modified is None else self._moment(modified),
            customer=customer or random_customer(self._rng, first_name),
            order_key="wc_order_" + "".join(self._rng.choices(_KEY_LETTERS, k=13)),
            paid=self._moment(paid) if paid else at if status in PAID_STATUSES else None,
            completed=self._moment(completed) if completed else None,
            meta=(Meta(next(self._row_ids), "delivery_point", f"MSK-{self._rng.randint(100, 999)}"),),
            customer_note=customer_note,
            payment=payment,
        )
        if status == "completed" and order.completed is None:
            order = replace(order, completed=at)
        fits = total is None or Decimal(total) > SHIPPING
        order = self._with_lines(order, lines, SHIPPING if fits else Decimal(0))
        self._orders[order.id] = order
        if status == "refunded" and order.total:
            self._give_back(order, order.total, _FULLY_REFUNDED, order.modified)
        return order.id

    def fill(self, order_id: int, lines: Sequence[LineItem], *, at: datetime | None = None) -> None:
        """Give an unfinished order its lines, as a checkout does within the same second."""
        filled = self._with_lines(self.order(order_id), lines, SHIPPING)
        self._orders[order_id] = replace(filled, modified=self._moment(at))

    def set_status(self, order_id: int, status: str, *, at: datetime | None = None) -> None:
        """Change the status as WooCommerce does; the dates of modification, payment and completion follow.

        The present status changes nothing. `refunded` refunds what is left.
        """
        order, moment = self.order(order_id), self._moment(at)
        if order.status == status:
            return
        if status == "refunded" and order.refunded < order.total:
            self._give_back(order, order.total - order.refunded, _FULLY_REFUNDED, moment)
        else:
            self._orders[order_id] = order.with_status(status, moment)

    def refund(
        self,
        order_id: int,
        amount: Decimal | str | int | None = None,
        reason: str = "Возврат по просьбе покупателя",
        *,
        at: datetime | None = None,
        refund_id: int | None = None,
        touch: bool = True,
    ) -> int:
        """Refund money; the status becomes `refunded` if nothing is left.

        Args:
            order_id: The order.
            amount: How much, in the order's currency; all that is left if not given.
            reason: The refund's reason.
            at: When.
            refund_id: Its id; the next free one if not given.
            touch: Whether the order's date of modification changes. With PayPal's plugin it does not.

        Returns:
            The refund's id.

        Raises:
            ValueError: More than what is left, or nothing.
        """
        order, moment = self.order(order_id), self._moment(at)
        left = order.total - order.refunded
        given = left if amount is None else Decimal(amount)
        if not 0 < given <= left:
            raise ValueError(f"cannot refund {given} of {left} left in order {order_id}")
        given_id = self._give_back(order, given, reason, moment, refund_id)
        if not touch:
            self._orders[order_id] = replace(self.order(order_id), modified=order.modified)
        return given_id

    def delete_refund(self, order_id: int, refund_id: int) -> None:
        """Delete a refund: neither the date of modification nor the status changes."""
        order = self.order(order_id)
        if refund_id not in {refund.id for refund in order.refunds}:
            raise NoSuchOrderError(f"order {order_id} has no refund {refund_id}")
        self._orders[order_id] = order.without_refund(refund_id)

    def note(self, order_id: int) -> None:
        """Add a note to an order: neither the order's JSON nor its date of modification changes."""
        self.order(order_id)

    def touch(self, order_id: int, *, at: datetime | None = None) -> None:
        """Change only the date of modification, as a meta save, a sync or a page view does."""
        self._orders[order_id] = replace(self.order(order_id), modified=self._moment(at))

    def trash(self, order_id: int, *, at: datetime | None = None) -> None:
        """Move an order to the trash; the meta data keep the old status."""
        meta_ids = (next(self._row_ids), next(self._row_ids))
        self._orders[order_id] = self.order(order_id).in_trash(meta_ids, self._moment(at))

    def restore(self, order_id: int, *, at: datetime | None = None) -> None:
        """Take an order out of the trash, back to its old status; raises ValueError if it is not there."""
        self._orders[order_id] = self.order(order_id).out_of_trash(self._moment(at))

    def delete(self, order_id: int) -> None:
        """Delete an order for good."""
        self.order(order_id)
        del self._orders[order_id]

    def hidden_status(self, order_id: int, status: str) -> None:
        """Change the status without WooCommerce, as a plugin's SQL does: no date changes."""
        self._orders[order_id] = replace(self.order(order_id), status=status)

    def distort(self, order_id: int, distortion: Distortion | None) -> None:
        """Send something else for an order than its JSON; None ends this.

        Args:
            order_id: The order.
            distortion: Takes the order's true JSON object and returns what is sent: the same object
                with a field changed or missing, or any other value.
        """
        self._orders[order_id] = replace(self.order(order_id), distortion=distortion)

    def _moment(self, at: datetime | None) -> datetime:
        moment = self.clock() if at is None else at
        if moment.tzinfo is None:
            raise ValueError(f"{moment} has no time zone")
        return moment.astimezone(UTC).replace(microsecond=0)

    def _next_id(self, wanted: int | None) -> int:
        if wanted is None:
            wanted = next(number for number in self._ids if number not in self._orders)
        elif wanted in self._orders:
            raise ValueError(f"there is an order {wanted} already")
        return wanted

    def _give_back(
        self,
        order: SimulatedOrder,
        amount: Decimal,
        reason: str,
        at: datetime,
        refund_id: int | None = None,
    ) -> int:
        refund = SimulatedRefund(self._next_id(refund_id), amount, reason, at)
        self._orders[order.id] = order.with_refund(refund, at)
        return refund.id

    def _with_lines(
        self, order: SimulatedOrder, lines: Sequence[LineItem], shipping: Decimal
    ) -> SimulatedOrder:
        shipping = shipping if lines else Decimal(0)
        rows = len(lines) + bool(shipping)
        ids = tuple(next(self._row_ids) for _ in range(rows))
        return replace(order, lines=tuple(lines), line_ids=ids, shipping=shipping)


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except ZoneInfoNotFoundError:
        # A bare container has no time zones; Moscow's has not changed since 2014.
        if name != "Europe/Moscow":
            raise
        return timezone(timedelta(hours=3), name)
