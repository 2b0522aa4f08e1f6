"""What WooCommerce's statuses mean.

Each line shows the statuses, the meaning, whether the order counts as paid, and the event when an order
enters the status.

- pending, on-hold: AWAITING, not paid, payment_overdue if the order stays too long
- processing: PAID, paid, new
- completed: COMPLETED, paid, new
- failed: FAILED, not paid, failed
- cancelled: CANCELLED, not paid, cancelled
- refunded: REFUNDED, not paid, refunded
- checkout-draft, auto-draft, draft: DRAFT, not paid, no event
- trash: REMOVED, not paid, no event
- any status in SHOP_UNPAID_STATUSES: UNPAID, not paid, no event
- any other status (of a plugin or the owner): PAID, paid, new

core/transition.py contains all rules for events. SHOP_STATUS_EVENTS adds events by status.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from shop_poller.core.meaning import StatusMeaning, StatusMeanings

OWN: Mapping[str, StatusMeaning] = {
    "pending": StatusMeaning.AWAITING,
    "on-hold": StatusMeaning.AWAITING,
    "processing": StatusMeaning.PAID,
    "completed": StatusMeaning.COMPLETED,
    "failed": StatusMeaning.FAILED,
    "cancelled": StatusMeaning.CANCELLED,
    "refunded": StatusMeaning.REFUNDED,
    "checkout-draft": StatusMeaning.DRAFT,
    "auto-draft": StatusMeaning.DRAFT,
    "draft": StatusMeaning.DRAFT,
    "trash": StatusMeaning.REMOVED,
}
"""The statuses of WooCommerce and WordPress. Every other status is custom: a plugin's or the owner's."""


MEANINGS = StatusMeanings(OWN)
"""The meanings for a shop whose owner sets no custom status as unpaid."""


def meanings(unpaid: Iterable[str]) -> StatusMeanings:
    """Return the meanings of the statuses for a shop.

    Args:
        unpaid: custom statuses that do not count as paid. The meaning of WooCommerce's own statuses is fixed.
    """
    custom = {status: StatusMeaning.UNPAID for status in unpaid if status not in OWN}
    return replace(MEANINGS, named={**OWN, **custom})
