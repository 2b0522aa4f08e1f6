"""What WooCommerce's statuses mean.

    status                              meaning      paid  an event when an order comes into it
    ----------------------------------  -----------  ----  ------------------------------------
    pending, on-hold                    AWAITING     no    payment_overdue, if it stays too long
    processing                          PAID         yes   new
    completed                           COMPLETED    yes   new
    failed                              FAILED       no    failed
    cancelled                           CANCELLED    no    cancelled
    refunded                            REFUNDED     no    refunded
    checkout-draft, auto-draft, draft   DRAFT        no    none
    trash                               REMOVED      no    none
    named in SHOP_UNPAID_STATUSES       UNPAID       no    none
    any other (a plugin's, the owner's) PAID         yes   new

core/transition.py has the whole of the rules for events. SHOP_STATUS_EVENTS adds events, by status.
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
"""The statuses of WooCommerce and WordPress; every other is a plugin's or the owner's."""


MEANINGS = StatusMeanings(OWN)
"""The table of a shop whose owner names no custom status as unpaid."""


def meanings(unpaid: Iterable[str]) -> StatusMeanings:
    """The table of a shop.

    Args:
        unpaid: custom statuses that do not count as paid. What WooCommerce's own mean is fixed.
    """
    custom = {status: StatusMeaning.UNPAID for status in unpaid if status not in OWN}
    return replace(MEANINGS, named={**OWN, **custom})
