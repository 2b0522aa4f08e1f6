"""Detects that orders stopped: the checkout may be broken. All times are by the shop's clock.

A silence begins with the last paid order, or with the baseline if there was none since. It is announced once.
The next order ends it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from shop_poller.core.model import Order
from shop_poller.core.transition import Policy


def newest_order(
    before: datetime | None, orders: Iterable[Order], *, policy: Policy, shop_time: datetime
) -> datetime | None:
    """Return when the newest order was paid, including the orders seen now.

    Args:
        before: the last result of this function.
        orders: the orders seen now.
        policy: knows which of them are paid.
        shop_time: the shop's clock. The result is never later, or one wrong date would hide a silence until
            then.
    """
    paid = [order.paid_at or order.created_at for order in orders if policy.meanings.is_paid(order.status)]
    newest = max([before, *paid] if before else paid, default=None)
    return newest and min(newest, shop_time)


def to_announce(
    *,
    newest_order_at: datetime | None,
    baseline_at: datetime,
    announced_at: datetime | None,
    shop_time: datetime,
    threshold: timedelta,
) -> datetime | None:
    """Return the beginning of a silence that was not announced yet; None if there is none.

    Args:
        newest_order_at: see `newest_order`.
        baseline_at: a silence does not begin before this. An older order that was modified after the baseline
            proves nothing about orders between the two.
        announced_at: the beginning of the last silence that was announced.
        shop_time: the shop's clock.
        threshold: how long a silence must last to be announced.
    """
    since = max(newest_order_at or baseline_at, baseline_at)
    return since if shop_time - since >= threshold and since != announced_at else None
