"""A circuit breaker as it lives in the shell: on the event loop's clock, its edges in the log and a gauge."""

from collections.abc import Callable

import anyio
import structlog

from shop_poller.core.breaker import Breaker, BreakerState
from shop_poller.observability.logging import Log
from shop_poller.observability.metrics import Metrics


class Circuit:
    """Whether a peer may be talked to.

    Args:
        peer: its name in log and metrics.
        metrics: has the gauge.
        on_change: called when it opens or closes.
    """

    def __init__(self, peer: str, metrics: Metrics, *, on_change: Callable[[], None] = lambda: None) -> None:
        self._peer = peer
        self._metrics = metrics
        self._on_change = on_change
        self._breaker = Breaker()
        self._metrics.breaker(peer).set(
            0
        )  # that of an earlier leader session may have been open when it ended
        self._log: Log = structlog.get_logger()

    @property
    def state(self) -> BreakerState:
        """Closed: talk. Open: wait. Half-open: one probe is under way."""
        return self._breaker.state

    def wait_s(self) -> float:
        """Seconds until something may be tried; 0 if now."""
        return self._breaker.wait_s(anyio.current_time())

    def end_cooldown(self) -> None:
        """While open: the probe need not wait."""
        self._breaker = self._breaker.end_cooldown(anyio.current_time())

    def probe(self) -> None:
        """Something is about to be tried; while open, it is the one probe."""
        self._breaker = self._breaker.probe()

    def success(self) -> None:
        """The peer works."""
        self._move(self._breaker.success())

    def failure(self) -> None:
        """One more failure in a row."""
        self._move(self._breaker.failure(anyio.current_time()))

    def trip(self, *, at_least_s: float = 0.0, within_s: float | None = None) -> None:
        """The peer is down as a whole; for the arguments see Breaker.trip."""
        now = anyio.current_time()
        self._move(self._breaker.trip(now, at_least_s=at_least_s, within_s=within_s))

    def _move(self, breaker: Breaker) -> None:
        before, self._breaker = self._breaker, breaker
        if breaker.state is before.state:
            return
        self._metrics.breaker(self._peer).set(breaker.state is BreakerState.OPEN)
        if breaker.state is BreakerState.CLOSED:
            self._log.info("works again", peer=self._peer)
        elif before.state is BreakerState.CLOSED:  # a probe that failed is no news
            self._log.warning("left alone after failures; probed from time to time", peer=self._peer)
        self._on_change()
