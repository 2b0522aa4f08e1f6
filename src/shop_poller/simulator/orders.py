"""One order of the simulated shop, and its possible changes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias

from shop_poller.simulator.goods import CARD, Customer, LineItem, PaymentMethod

JsonObject: TypeAlias = dict[str, Any]
Distortion: TypeAlias = Callable[[JsonObject], object]

PAID_STATUSES = ("processing", "completed")
_TRASH_META = ("_wp_trash_meta_status", "_wp_trash_meta_time")


@dataclass(frozen=True)
class SimulatedRefund:
    """A refund; the amount is positive here and negative on the wire."""

    id: int
    amount: Decimal
    reason: str
    created: datetime


@dataclass(frozen=True)
class Meta:
    """A row of an order's meta data."""

    id: int
    key: str
    value: str


@dataclass(frozen=True)
class SimulatedOrder:
    """An order at one moment. Instants are aware UTC in whole seconds, money is in the currency.

    `line_ids` has one id per line, and one more for the shipping if anything is shipped.
    """

    id: int
    status: str
    created: datetime
    modified: datetime
    customer: Customer
    order_key: str
    lines: tuple[LineItem, ...] = ()
    line_ids: tuple[int, ...] = ()
    shipping: Decimal = Decimal(0)
    paid: datetime | None = None
    completed: datetime | None = None
    refunds: tuple[SimulatedRefund, ...] = ()
    meta: tuple[Meta, ...] = ()
    customer_note: str = ""
    payment: PaymentMethod = CARD
    status_before_trash: str | None = None
    distortion: Distortion | None = None

    @property
    def total(self) -> Decimal:
        """What the buyer pays; refunds do not reduce it."""
        return sum((line.total for line in self.lines), self.shipping)

    @property
    def refunded(self) -> Decimal:
        """What has been refunded so far."""
        return sum((refund.amount for refund in self.refunds), Decimal(0))

    def with_status(self, status: str, at: datetime) -> "SimulatedOrder":
        """Return the order after WooCommerce changed its status (dates follow)."""
        paid = at if status in PAID_STATUSES and self.paid is None else self.paid
        # The completion date changes each time an order becomes completed, even from the trash.
        completed = at if status == "completed" else self.completed
        return replace(self, status=status, modified=at, paid=paid, completed=completed)

    def with_refund(self, refund: SimulatedRefund, at: datetime) -> "SimulatedOrder":
        """Return the order after a refund; the status changes if nothing is left."""
        order = replace(self, refunds=(*self.refunds, refund), modified=at)
        return order.with_status("refunded", at) if order.refunded >= order.total else order

    def without_refund(self, refund_id: int) -> "SimulatedOrder":
        """Return the order after a refund was deleted; modification date and status stay."""
        return replace(self, refunds=tuple(row for row in self.refunds if row.id != refund_id))

    def in_trash(self, meta_ids: tuple[int, int], at: datetime) -> "SimulatedOrder":
        """Return the order in the trash; its meta data contain the old status."""
        values = (f"wc-{self.status}", str(int(at.timestamp())))
        trash_meta = (
            Meta(row_id, key, value) for row_id, key, value in zip(meta_ids, _TRASH_META, values, strict=True)
        )
        return replace(
            self,
            status="trash",
            modified=at,
            meta=(*self.meta, *trash_meta),
            status_before_trash=self.status,
        )

    def out_of_trash(self, at: datetime) -> "SimulatedOrder":
        """Return the order with its old status; raises ValueError if it is not in the trash."""
        if self.status_before_trash is None:
            raise ValueError(f"order {self.id} is not in the trash")
        back = self.with_status(self.status_before_trash, at)
        kept = tuple(row for row in self.meta if row.key not in _TRASH_META)
        return replace(back, meta=kept, status_before_trash=None)
