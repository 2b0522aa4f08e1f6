"""A circuit breaker on the event loop's clock, with its changes in the log and a gauge."""

from collections.abc import Callable

import anyio
import structlog

from shop_poller.core.breaker import Breaker, BreakerState
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import Metrics


class Circuit:
    """Decides whether a peer may be contacted.

    Args:
        peer: its name in log and metrics.
        metrics: has the gauge.
        on_change: called when the circuit opens or closes.
    """

    def __init__(self, peer: str, metrics: Metrics, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._peer = peer
        self._metrics = metrics
        self._on_change = on_change
        self._breaker = Breaker()
        # The circuit of an earlier leader session may have been open at its end.
        self._metrics.breaker(peer).set(0)
        self._log: Log = structlog.get_logger()

    @property
    def state(self) -> BreakerState:
        """Closed: contact the peer. Open: wait. Half-open: one probe is running."""
        return self._breaker.state

    def wait_s(self) -> float:
        """Return the seconds until the next attempt; 0 if it may start now."""
        return self._breaker.wait_s(anyio.current_time())

    def end_cooldown(self) -> None:
        """Allow the probe now if the circuit is open."""
        self._breaker = self._breaker.end_cooldown(anyio.current_time())

    def probe(self) -> None:
        """Note that an attempt starts; while the circuit is open, it is the only probe."""
        self._breaker = self._breaker.probe()

    def success(self) -> None:
        """Note that the peer works."""
        self._move(self._breaker.success())

    def failure(self) -> None:
        """Count one more failure in a row."""
        self._move(self._breaker.failure(anyio.current_time()))

    def trip(self, *, at_least_s: float = 0.0, within_s: float | None = None) -> None:
        """Open the circuit: the peer as a whole is down. For the arguments see Breaker.trip."""
        now = anyio.current_time()
        self._move(self._breaker.trip(now, at_least_s=at_least_s, within_s=within_s))

    def _move(self, breaker: Breaker) -> None:
        before, self._breaker = self._breaker, breaker
        if breaker.state is before.state:
            return
        self._metrics.breaker(self._peer).set(breaker.state is BreakerState.OPEN)
        if breaker.state is BreakerState.CLOSED:
            self._log.info("works again", peer=self._peer)
        elif before.state is BreakerState.CLOSED:  # a failed probe changes nothing
            self._log.warning("circuit open after failures; probing periodically", peer=self._peer)
        self._on_change()
