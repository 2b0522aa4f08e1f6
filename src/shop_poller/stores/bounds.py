"""The bounds of every store: how much it keeps, and how much one step may do."""

PRUNE_LIMIT = 1000
"""Most rows of one kind that one step of pruning deletes."""
CLAMP_LIMIT = 500
"""Most deliveries that one step makes due."""
EXPIRE_LIMIT = 500
"""Most expired deliveries that one step moves to the dead letters."""
RELEASE_LIMIT = 5000
"""Most deliveries that one step of `release_parked` looks at."""
MAX_FINISHED = 10_000
"""Most dead letters kept per sink, and most completed deliveries kept per sink."""
TRIM = 2
"""For each row that a commit adds to a full history, the same commit deletes this many of the oldest rows.
So the bound holds at any rate of writing, and a longer history of an earlier version shrinks."""

WAITED_TOO_LONG = "its sink was not reachable for too long"
"""The reason of a dead letter that expired without a further attempt."""
