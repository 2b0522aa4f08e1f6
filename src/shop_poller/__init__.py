"""Watches a WooCommerce shop and notifies people about its orders."""

__version__ = "0.1.0"
