"""What the settings have to know of an order's status.

These words are WooCommerce's. The settings are checked before there is a source, so they stand here.
sources/woocommerce/statuses.py says what they mean; a test holds the two together.
"""

from collections.abc import Mapping

from shop_poller.core.model import EventType

UNPAID = (
    "auto-draft",
    "cancelled",
    "checkout-draft",
    "draft",
    "failed",
    "on-hold",
    "pending",
    "refunded",
    "trash",
)
"""The default of SHOP_UNPAID_STATUSES. These are not paid, whatever the setting says."""

EVENTS: Mapping[str, EventType] = {
    "cancelled": EventType.CANCELLED,
    "refunded": EventType.REFUNDED,
    "failed": EventType.FAILED,
}
"""Statuses that have an event of their own, so that SHOP_STATUS_EVENTS cannot name them."""


def bare(status: str) -> str:
    """A status as the shop's API writes it. The database has "wc-" before it; plugins write either."""
    return status.strip().lower().removeprefix("wc-")
