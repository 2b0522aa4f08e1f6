"""WooCommerce's own statuses, and how a status is written."""

OWN = frozenset(
    {
        "pending",
        "processing",
        "on-hold",
        "completed",
        "cancelled",
        "refunded",
        "failed",
        "checkout-draft",
        "auto-draft",
        "draft",
        "trash",
    }
)
"""Those that WooCommerce and WordPress bring along; every other is a plugin's or the owner's."""


def bare(status: str) -> str:
    """A status as WooCommerce's API writes it: the database has "wc-" before it, plugins write it anyhow."""
    return status.strip().lower().removeprefix("wc-")
