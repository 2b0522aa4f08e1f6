"""The statuses that the stores treat specially. These lists are part of the stored format.

Statuses are stored as the shop writes them. The index of SQLite's migration 3 and the key `known_open` in
Redis were made with CLOSED, so a change of the list needs a migration. The test
tests/contracts/test_store_sweep.py compares the words with the source's table.
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
"""The sweep reads known orders with these statuses only while they are recent. Few of them change later, and
never because of a payment. Drafts are carts: the shop deletes them after a day, and a draft that is ordered
becomes modified."""

UNPAID = frozenset({LOST_STATUS, "pending", "on-hold", "failed", "checkout-draft", "auto-draft", "draft"})
"""If a record does not say whether its order was announced, an order in any other status counts as
announced."""

ANNOUNCED_BEFORE = frozenset({"processing", "completed", "cancelled", "refunded"})
"""The earlier Celery design stored only the status of an order. Orders with these statuses had been
announced."""
