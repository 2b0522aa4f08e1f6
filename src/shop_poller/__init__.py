"""shop-poller watches a WooCommerce shop and tells people what happened to their orders."""

__version__ = "0.1.0"
