"""What every store keeps, and does at once, at most."""

PRUNE_LIMIT = 1000
"""Rows of one kind that one step of pruning drops."""
CLAMP_LIMIT = 500
"""Deliveries that are made due at once."""
EXPIRE_LIMIT = 500
"""Deliveries that are buried at once."""
RELEASE_LIMIT = 5000
"""Deliveries that one step of waking looks at."""
MAX_FINISHED = 10_000
"""Dead letters of a sink, and as many deliveries that were made to it, that are remembered."""
TRIM = 2
"""For each row that is added to a history beyond its bound, so many of the oldest are dropped by the same
commit: the bound holds at any rate of writing, and a backlog of an earlier version shrinks."""

WAITED_TOO_LONG = "its sink was not reachable for too long"
"""Why a delivery was buried that nobody tried any more."""
