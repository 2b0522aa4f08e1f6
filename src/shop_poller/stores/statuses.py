"""What the stores do by the words of statuses. They are a part of the stored format.

Statuses are stored as the shop writes them. The index of SQLite's migration 3 and the key `known_open` in
Redis were made with CLOSED, so another list needs a migration. tests/contracts/test_store_sweep.py holds the
words against the source's table.
"""

from shop_poller.core.transition import LOST_STATUS

CLOSED = (
    "auto-draft",
    "cancelled",
    "checkout-draft",
    "completed",
    "draft",
    "refunded",
    "trash",
)
"""Known orders in these are swept while they are recent, not later. Few of them change, and never because of
a payment. Drafts are carts: the shop drops them after a day, and modifies one that is ordered."""

UNPAID = frozenset({LOST_STATUS, "pending", "on-hold", "failed", "checkout-draft", "auto-draft", "draft"})
"""An order in any other status counts as announced, if its record does not say whether it was."""

ANNOUNCED_BEFORE = frozenset({"processing", "completed", "cancelled", "refunded"})
"""The Celery design kept only the status of an order. In these, the order had been announced."""
