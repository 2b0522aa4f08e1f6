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
        slow_burst: of the old design as it is written, which takes its time.
        idle_s: for how long idling is watched.
        many: known orders, and rows of the outbox, where their number must not matter.
    """

    home: Path
    ours: tuple[str, ...]
    rounds: int = 3
    burst: int = 2000
    slow_burst: int = 200
    idle_s: float = 20.0
    many: int = 100_000
