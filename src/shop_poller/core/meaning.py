"""What the statuses of a shop mean, in neutral terms.

Each source has its own table. Decisions use the meaning; the status itself is stored and shown.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class StatusMeaning(StrEnum):
    """What an order's status means."""

    AWAITING = "awaiting"  # awaiting payment
    PAID = "paid"  # paid, not completed yet
    COMPLETED = "completed"  # paid and completed
    FAILED = "failed"  # the payment failed
    CANCELLED = "cancelled"
    REFUNDED = "refunded"  # all of the money was given back
    DRAFT = "draft"  # a cart, or an order that is still being written
    REMOVED = "removed"  # in the trash
    UNPAID = "unpaid"  # not paid, because the owner says so (SHOP_UNPAID_STATUSES)


PAID = frozenset({StatusMeaning.PAID, StatusMeaning.COMPLETED})


@dataclass(frozen=True, slots=True)
class StatusMeanings:
    """The table of one shop.

    Attributes:
        named: meanings by status, as it is written in orders.
        other: the meaning of all other statuses, such as those of plugins.
    """

    named: Mapping[str, StatusMeaning]
    other: StatusMeaning = StatusMeaning.PAID

    def of(self, status: str) -> StatusMeaning:
        """Return what a status means."""
        return self.named.get(status, self.other)

    def is_paid(self, status: str) -> bool:
        """Return whether an order in this status has been paid."""
        return self.named.get(status, self.other) in PAID

    def statuses(self, *meanings: StatusMeaning) -> tuple[str, ...]:
        """Return the statuses in the table that have one of these meanings, in the table's order."""
        return tuple(status for status, meaning in self.named.items() if meaning in meanings)
