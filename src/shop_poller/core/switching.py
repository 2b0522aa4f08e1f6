"""How soon to probe a sink whose address may lead to another server by then: a switch takes seconds."""

from shop_poller.core.errors import ShopPollerError, TemporaryError

SWITCHING_S = 600.0
"""After so long a sink is probed as any other: whoever was to lead its address on has not done so."""


class Switching:
    """The switch that a sink is in the middle of, if any. Seconds are monotonic."""

    def __init__(self) -> None:
        self._since: float | None = None
        self._probe_after_s = 0.0

    def over(self) -> None:
        """The sink took something."""
        self._since = None

    def within_s(self, error: ShopPollerError, now: float) -> float | None:
        """Within how many seconds to probe after a failure of the sink; None for as usual.

        Other failures count too once a switch has begun: no connection, say, while the address is led on.
        """
        if isinstance(error, TemporaryError) and error.probe_after_s is not None:
            self._probe_after_s = error.probe_after_s
            self._since = now if self._since is None else self._since
        if self._since is None or now - self._since >= SWITCHING_S:
            return None
        return self._probe_after_s
