"""Watches a WooCommerce shop and notifies people about its orders."""

__version__ = "0.1.0"

ISSUES = "https://shop-poller.example/issues"
INTERNAL_ERROR = f"internal error (bug): please report it at {ISSUES}"
"""Begins the text of every error that is our own fault."""
