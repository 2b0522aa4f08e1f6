"""Sinks: where notifications are delivered. Each kind is one module or package, listed in `registry.py`."""
