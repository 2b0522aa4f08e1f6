"""What every store keeps, and does at once, at most."""

PRUNE_LIMIT = 1000
"""Records that one pruning drops."""
BURY_LIMIT = 500
"""Deliveries that are buried at once."""
MAX_SETTLED = 10_000
"""Dead letters of a sink, and as many deliveries that were made to it, that are remembered."""

WAITED_TOO_LONG = "its sink was not reachable for too long"
"""Why a delivery was buried that nobody tried any more."""
