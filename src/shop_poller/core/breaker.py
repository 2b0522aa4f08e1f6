"""A circuit breaker: after too many failures in a row, requests to the peer pause; then one probes it.

closed ── threshold failures, or a trip ──→ open ── cooldown over ──→ half-open (one probe)
  ↑                                          ↑                            │
  └────────────── success ───────────────────┼──── failure ───────────────┘
"""

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from shop_poller.core.errors import ShopPollerError, TemporaryError

SWITCHING_S = 600.0
"""After this many seconds, a sink is probed at the usual time again: its address does not move."""


class BreakerState(StrEnum):
    """The three states of every circuit breaker."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """The state of a breaker; every method returns the next state. Instants are monotonic seconds.

    Attributes:
        threshold: how many failures in a row open it.
        cooldown_s: how long it stays open before a probe.
    """

    threshold: int = 5
    cooldown_s: float = 60.0
    state: BreakerState = BreakerState.CLOSED
    failures: int = 0
    opened_at: float = 0.0

    def wait_s(self, now: float) -> float:
        """Return the seconds until the next attempt: 0 if it may start, the rest of the cooldown if open."""
        if self.state is BreakerState.OPEN:
            return max(0.0, self.opened_at + self.cooldown_s - now)
        return 0.0

    def probe(self) -> "Breaker":
        """Start the only attempt while the breaker is open; no other may start until its outcome is known."""
        return replace(self, state=BreakerState.HALF_OPEN) if self.state is BreakerState.OPEN else self

    def end_cooldown(self, now: float) -> "Breaker":
        """Allow the probe now: the peer may be back, or the owner asked for a probe."""
        return replace(self, opened_at=-math.inf) if self.wait_s(now) else self

    def success(self) -> "Breaker":
        """Note that the peer works."""
        if self.state is BreakerState.CLOSED and not self.failures:
            return self
        return replace(self, state=BreakerState.CLOSED, failures=0)

    def failure(self, now: float) -> "Breaker":
        """Count one more failure in a row."""
        failures = self.failures + 1
        if self.state is BreakerState.HALF_OPEN or failures >= self.threshold:
            return self.trip(now)
        return replace(self, failures=failures)

    def trip(self, now: float, *, at_least_s: float = 0.0, within_s: float | None = None) -> "Breaker":
        """Open at once: the peer as a whole is down.

        Args:
            now: the current time.
            at_least_s: how long the peer asked us to wait; it may exceed the cooldown.
            within_s: probe after this time instead of the cooldown, if it is shorter: the peer may be back
                sooner.
        """
        wait_s = self.cooldown_s if within_s is None else min(within_s, self.cooldown_s)
        opened_at = now - self.cooldown_s + max(wait_s, at_least_s)
        if self.state is BreakerState.OPEN:  # an earlier, longer wait still applies
            opened_at = max(opened_at, self.opened_at)
        return replace(self, state=BreakerState.OPEN, failures=self.threshold, opened_at=opened_at)


class Switching:
    """Decides how soon to probe a sink whose address moves to another server. Instants are monotonic seconds.

    Such a switch takes seconds, so the sink is probed sooner than after other failures.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._probe_after_s = 0.0

    def ended(self) -> None:
        """Note that the sink accepted a delivery: the switch is over."""
        self._since = None

    def within_s(self, error: ShopPollerError, now: float) -> float | None:
        """Return the seconds after a failure of the sink within which to probe it; None for the usual time.

        Once a switch has begun, other failures count too, such as no connection while the address moves.
        """
        if isinstance(error, TemporaryError) and error.probe_after_s is not None:
            self._probe_after_s = error.probe_after_s
            self._since = now if self._since is None else self._since
        if self._since is None or now - self._since >= SWITCHING_S:
            return None
        return self._probe_after_s
