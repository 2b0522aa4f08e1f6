"""The refunds of one shop that may be half written: held until it has had time to write the rest.

core/transition.py tells which, docs/decisions/0015 why. They are kept in memory only; so that a crash loses
none, the cursor does not pass an order that the walk showed with one.
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
"""How far the cursor is held back at most: a shop may show an order of any date."""


class HeldRefunds:
    """Which orders have one, and since when, on the event loop's clock."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._modified: dict[int, datetime] = {}  # of those that the walk showed

    @property
    def due_at(self) -> float | None:
        """When the first of them is to be looked at again, even if nothing modifies it; None without any."""
        return min(self._since.values()) + HOLD_S if self._since else None

    @property
    def first_modified_at(self) -> datetime | None:
        """When the first of those was modified that the walk showed; None without any."""
        return min(self._modified.values(), default=None)

    def due(self, at: float, limit: int) -> list[int]:
        """The ids of those that are to be looked at by then, so many at most."""
        return [order_id for order_id, since in self._since.items() if since + HOLD_S <= at][:limit]

    def hold_ended(self) -> frozenset[int]:
        """The ids of those that have been held long enough."""
        return frozenset(self.due(anyio.current_time(), len(self._since)))

    def hold_back(self, state: ShopState, orders: Iterable[Order | None]) -> ShopState:
        """The state with a cursor that passes no order with a refund that is held.

        Args:
            state: where a walk stands after a page.
            orders: those of the page that have one.
        """
        if state.cursor_at is None:
            return state
        earliest = state.cursor_at - MAX_HELD_BACK
        dates = (*self._modified.values(), *(order.modified_at for order in orders if order is not None))
        return replace(state, cursor_at=min((state.cursor_at, *(at for at in dates if at > earliest))))

    def note(self, looked_at: Mapping[int, Order | None], *, walked: bool) -> None:
        """Remember what a page showed, once it is committed.

        Args:
            looked_at: by id: the order if it has a refund that is held, else None.
            walked: by a walk, not a sweep.
        """
        for order_id, order in looked_at.items():
            if order is None:
                self.let_go([order_id])
                continue
            self._since.setdefault(order_id, anyio.current_time())
            if walked:
                self._modified[order_id] = order.modified_at

    def let_go(self, order_ids: Iterable[int]) -> None:
        """Hold no longer what the shop does not show any more."""
        for order_id in order_ids:
            self._since.pop(order_id, None)
            self._modified.pop(order_id, None)
