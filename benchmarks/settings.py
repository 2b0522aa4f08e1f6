"""How much is measured, and with whom."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Plan:
    """How much is measured.

    Attributes:
        home: a directory for what is written meanwhile.
        ours: the environments of this side that are measured.
        rounds: of each measurement, interleaved; medians are shown.
        burst: events of a burst.
        fast_burst: of one to Redis.
        their_burst: of Celery's, which has the same rate for as long as it lasts.
        slow_burst: of the old design as it is written, which takes its time.
        idle_s: for how long idling is watched.
        many: known orders, and rows of the outbox, where their number must not matter.
    """

    home: Path
    ours: tuple[str, ...]
    rounds: int = 2
    burst: int = 2000
    fast_burst: int = 5000
    their_burst: int = 1000
    slow_burst: int = 100
    idle_s: float = 20.0
    many: int = 100_000
