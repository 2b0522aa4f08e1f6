"""Holds refunds that may be half written, to give the shop time to write the rest.

core/transition.py decides which, docs/decisions/0015 explains why. Held refunds are kept in memory only. So
that a crash loses none, the cursor does not pass an order with a held refund.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import anyio

from shop_poller.core.model import Order
from shop_poller.core.transition import REFUND_HOLD
from shop_poller.ports import ShopState

HOLD_S = REFUND_HOLD.total_seconds()
MAX_HELD_BACK = timedelta(hours=1)
"""How far back the cursor is held at most: a shop may show an order of any date."""


class HeldRefunds:
    """The orders with a held refund, and since when, on the event loop's clock."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._modified: dict[int, datetime] = {}  # only orders that a walk showed

    @property
    def due_at(self) -> float | None:
        """When the first of them must be read again; None if there are none."""
        return min(self._since.values()) + HOLD_S if self._since else None

    @property
    def first_modified_at(self) -> datetime | None:
        """When the first of the orders that a walk showed was modified; None if there are none."""
        return min(self._modified.values(), default=None)

    def due(self, at: float, limit: int) -> list[int]:
        """Return the ids that are due by then, up to a limit."""
        return [order_id for order_id, since in self._since.items() if since + HOLD_S <= at][:limit]

    def hold_ended(self) -> frozenset[int]:
        """Return the ids that have been held long enough."""
        return frozenset(self.due(anyio.current_time(), len(self._since)))

    def hold_back(self, state: ShopState, orders: Iterable[Order | None]) -> ShopState:
        """Return the state with a cursor that passes no order with a held refund.

        Args:
            state: the position of the walk after a page.
            orders: the page's orders with a held refund.
        """
        if state.cursor_at is None:
            return state
        earliest = state.cursor_at - MAX_HELD_BACK
        dates = (*self._modified.values(), *(order.modified_at for order in orders if order is not None))
        return replace(state, cursor_at=min((state.cursor_at, *(at for at in dates if at > earliest))))

    def note(self, looked_at: Mapping[int, Order | None], *, walked: bool) -> None:
        """Remember the result of a page after its commit.

        Args:
            looked_at: by id: the order if it has a held refund, else None.
            walked: the page is from a walk, not from a sweep.
        """
        for order_id, order in looked_at.items():
            if order is None:
                self.let_go([order_id])
                continue
            self._since.setdefault(order_id, anyio.current_time())
            if walked:
                self._modified[order_id] = order.modified_at

    def let_go(self, order_ids: Iterable[int]) -> None:
        """Stop holding orders that the shop no longer shows."""
        for order_id in order_ids:
            self._since.pop(order_id, None)
            self._modified.pop(order_id, None)
