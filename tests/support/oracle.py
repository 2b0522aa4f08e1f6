"""What has to be told of what was shown: the rules of deciding, written a second time.

From the contract (docs/woocommerce.md, docs/notifications.md) and not from core/transition.py, and on the
simulator's own orders instead of what a source made of them: whoever errs, the two will differ.
"""

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from shop_poller.simulator.orders import SimulatedOrder

NEVER_PAID = {
    "pending",
    "on-hold",
    "failed",
    "cancelled",
    "refunded",
    "checkout-draft",
    "auto-draft",
    "draft",
    "trash",
}
BAD_NEWS = {"cancelled", "refunded", "failed"}
AWAITING = {"pending", "on-hold"}
WAITS = {"bacs", "cheque", "cod"}
"""Ways to pay that leave an order waiting for somebody."""
NEW, PLACED, CANCELLED = "shop.order.new", "shop.order.placed", "shop.order.cancelled"
PARTLY_REFUNDED = "shop.order.partially_refunded"


@dataclass(frozen=True)
class Told:
    """One event: of which order, which kind, and which one of its kind (of a partial refund its id).

    Attributes:
        is_known_of: the order had been announced before, as new or as one that waits for its payment.
    """

    order_id: int
    kind: str
    n: int
    is_known_of: bool = False

    def is_for(self, *, people: bool) -> bool:
        """Whether people, or programs, are told of it, if nothing is filtered."""
        if people:
            return self.kind != CANCELLED or self.is_known_of
        return self.kind != PLACED


@dataclass
class Memory:
    """What was seen of an order last, and all that was told of it or passed over.

    Attributes:
        undated: refunds that were passed over, because an order does not say when they were made.
    """

    status: str
    modified: datetime | None = None
    was_paid: bool = False
    refunds: set[int] = field(default_factory=set)
    undated: set[int] = field(default_factory=set)
    told: Counter[str] = field(default_factory=Counter)

    @property
    def is_known_of(self) -> bool:
        """Whether the order itself was announced, as new or as one that waits for its payment."""
        return self.was_paid or self.told[PLACED] > 0


@dataclass
class Oracle:
    """Sees what polling was shown, one order at a time.

    Attributes:
        baseline: orders of an earlier time are not ours to announce.
        blind: the dialect shows neither refunds nor the date of payment.
        memories: by order id.
    """

    baseline: datetime
    blind: bool
    memories: dict[int, Memory] = field(default_factory=dict)

    def imports_silently(self, order: SimulatedOrder) -> None:
        """It was there before us: nothing is told of what it is now, nor of what is known already."""
        if order.id not in self.memories:
            self._remember(order, Memory(order.status))

    def may_be_half_written(self, order: SimulatedOrder) -> set[int]:
        """Refunds, not seen before, that bring the sum to the total although the status does not say so.

        The shop writes the refund first and the status some seconds later: such a refund may be held.
        """
        memory, given = self.memories.get(order.id), Decimal(0)
        found: set[int] = set()
        if self.blind or order.status in {"refunded", "trash"}:
            return found
        for refund in sorted(order.refunds, key=lambda one: one.id):
            given += refund.amount
            if 0 < order.total <= given:
                found.add(refund.id)
        return found - (memory.refunds if memory else set())

    def sees(
        self, order: SimulatedOrder, held: Collection[int] = (), dated: Collection[int] = ()
    ) -> list[Told]:
        """What is to be told of an order that is seen so now.

        Args:
            order: the order.
            held: refunds that are neither told nor remembered yet.
            dated: refunds that the shop's list of refunds showed with their dates.
        """
        memory = self.memories.get(order.id)
        late = self._late(memory, order, dated)
        kinds = self._of_a_stranger(order) if memory is None else self._of_a_known(memory, order)
        if order.status == "refunded" and late and not kinds:
            kinds = ["shop.order.refunded"]
        memory = memory or Memory(order.status)
        is_known_of = memory.is_known_of
        told = []
        for kind in kinds:
            memory.told[kind] += 1
            told.append(Told(order.id, kind, memory.told[kind], is_known_of))
        told += [
            Told(order.id, PARTLY_REFUNDED, refund_id, is_known_of)
            for refund_id in sorted({*self._parts(memory, order), *self._late_parts(order, late)})
            if refund_id not in held
        ]
        self._remember(order, memory, held)
        memory.undated -= {*dated} - {*held}
        if "shop.order.refunded" in kinds:
            memory.undated.clear()
        return told

    def _late(self, memory: Memory | None, order: SimulatedOrder, dated: Collection[int]) -> set[int]:
        """Refunds of an order that we were not to announce, made since the baseline: they are ours."""
        passed_over = {refund.id for refund in order.refunds} if memory is None else memory.undated
        return {
            refund.id
            for refund in order.refunds
            if refund.id in passed_over and refund.id in dated and refund.created >= self.baseline
        }

    def _late_parts(self, order: SimulatedOrder, late: set[int]) -> set[int]:
        ours = (
            order.status == "cancelled" and order.id not in self.memories and order.created >= self.baseline
        )
        return set() if order.status in {"refunded", "trash"} or ours else late

    def _of_a_stranger(self, order: SimulatedOrder) -> list[str]:
        if is_paid(order.status):
            paid = order.created if self.blind or order.paid is None else order.paid
            return [NEW] if max(order.created, paid) >= self.baseline else []
        if order.created < self.baseline:
            return []
        if _waits(order):
            return [PLACED]
        return [f"shop.order.{order.status}"] if order.status in BAD_NEWS else []

    def _of_a_known(self, memory: Memory, order: SimulatedOrder) -> list[str]:
        if order.status == memory.status:
            return []
        if order.status in BAD_NEWS:
            return [f"shop.order.{order.status}"]
        if _waits(order):
            return [] if memory.is_known_of else [PLACED]
        return [NEW] if is_paid(order.status) and not memory.was_paid else []

    def _parts(self, memory: Memory, order: SimulatedOrder) -> list[int]:
        stranger = order.id not in self.memories
        if self.blind or order.status in {"refunded", "trash"}:
            return []
        if stranger and (order.created < self.baseline or order.status == "cancelled"):
            return []
        return sorted({refund.id for refund in order.refunds} - memory.refunds)

    def _remember(self, order: SimulatedOrder, memory: Memory, held: Collection[int] = ()) -> None:
        memory.status = order.status
        memory.modified = order.modified
        memory.was_paid = memory.was_paid or is_paid(order.status) or order.status == "refunded"
        if order.id not in self.memories and order.created < self.baseline and not self.blind:
            memory.undated |= {refund.id for refund in order.refunds}.difference(held)
        if not self.blind:
            memory.refunds |= {refund.id for refund in order.refunds}.difference(held)
        self.memories[order.id] = memory


def _waits(order: SimulatedOrder) -> bool:
    return order.status in AWAITING and order.payment.code in WAITS


def is_paid(status: str) -> bool:
    """Whether money came in: any status, a plugin's too, that does not say otherwise."""
    return status not in NEVER_PAID
