"""A circuit breaker: after too many failures in a row the peer is left alone, then probed once.

closed ── threshold failures, or a trip ──→ open ── cooldown over ──→ half-open (one probe)
  ↑                                          ↑                            │
  └────────────── success ───────────────────┼──── failure ───────────────┘
"""

from dataclasses import dataclass, replace
from enum import StrEnum


class State(StrEnum):
    """The three states of every circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of a breaker; every method gives the next one. Instants are monotonic seconds.

    Attributes:
        threshold: failures in a row that open it.
        cooldown_s: how long it stays open before a probe.
    """

    threshold: int = 5
    cooldown_s: float = 60.0
    state: State = State.CLOSED
    failures: int = 0
    opened_at: float = 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until something may be tried: 0 if now, the cooldown's rest if open."""
        if self.state is State.OPEN:
            return max(0.0, self.opened_at + self.cooldown_s - now)
        return 0.0

    def probe(self) -> "Breaker":
        """One try is under way while open; no other may start until it is known how it ended."""
        return replace(self, state=State.HALF_OPEN) if self.state is State.OPEN else self

    def success(self) -> "Breaker":
        """The peer works."""
        if self.state is State.CLOSED and not self.failures:
            return self
        return replace(self, state=State.CLOSED, failures=0)

    def failure(self, now: float) -> "Breaker":
        """One more failure in a row."""
        failures = self.failures + 1
        if self.state is State.HALF_OPEN or failures >= self.threshold:
            return self.trip(now)
        return replace(self, failures=failures)

    def trip(self, now: float, *, at_least_s: float = 0.0) -> "Breaker":
        """The peer is down as a whole: open at once, for longer than the cooldown if it asked for that."""
        opened_at = now + max(0.0, at_least_s - self.cooldown_s)
        if self.state is State.OPEN:  # what it asked for before stands
            opened_at = max(opened_at, self.opened_at)
        return replace(self, state=State.OPEN, failures=self.threshold, opened_at=opened_at)
