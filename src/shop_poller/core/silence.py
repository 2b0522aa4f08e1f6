"""When nobody buys any more: perhaps the checkout is broken. All by the shop's clock.

A silence begins with the last paid order, or with our watch if there was none since; it is told once, and the
next order ends it.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta

from shop_poller.core.model import Order
from shop_poller.core.transition import Policy


def newest_order(
    before: datetime | None, orders: Iterable[Order], *, policy: Policy, shop_time: datetime
) -> datetime | None:
    """When the newest order was paid, with some more of them seen.

    Args:
        before: what this said before.
        orders: seen now.
        policy: which of them are paid.
        shop_time: the shop's clock; nothing is newer, or one wrong date would hide a silence until then.
    """
    paid = [order.paid_at or order.created_at for order in orders if policy.meanings.is_paid(order.status)]
    newest = max([before, *paid] if before else paid, default=None)
    return newest and min(newest, shop_time)


def untold(
    *,
    newest_order_at: datetime | None,
    baseline_at: datetime,
    told_at: datetime | None,
    shop_time: datetime,
    threshold: timedelta,
) -> datetime | None:
    """Since when there is a silence that was not told yet; None if there is none.

    Args:
        newest_order_at: see `newest_order`.
        baseline_at: since when we watch. An older order that was touched on our watch says nothing of those
            that came after it and before us: a silence is not counted from before.
        told_at: since when there was the silence that was told last.
        shop_time: the shop's clock.
        threshold: how long a silence is no news.
    """
    since = max(newest_order_at or baseline_at, baseline_at)
    return since if shop_time - since >= threshold and since != told_at else None
