"""When a refusal that may pass is final: a receiver that starts behind a proxy responds 404 for a while.

A sink that has delivered before gets several minutes. A refusal becomes final in one of two cases:

- The same delivery was refused for REFUSAL_LASTS_S, at least REFUSAL_TRIES times.
- The sink refused everything for that long, at least as often, and the delivery was due for that long.

Seconds are monotonic, so setting a clock ends nothing early.
"""

from dataclasses import dataclass

from shop_poller.core.retry import full_jitter

REFUSAL_LASTS_S = 300.0
REFUSAL_TRIES = 3
REFUSED_BASE_S, REFUSED_CAP_S = 30.0, 60.0
"""The wait of a refused delivery: a receiver that starts is found within a minute."""
PROBE_AFTER_S = 15.0
"""How soon to probe a sink that refuses several deliveries: orders that it would accept wait behind them."""
KEPT_CAP_S = 600.0
"""The longest wait of an alert that is kept although it was refused."""
SEVERAL = 3
"""If this many different deliveries in a row are refused, the sink has failed."""
MOST_REMEMBERED = 1000
"""The most deliveries whose refusals are counted; the count of a dropped one starts again."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Refusals in a row.

    Attributes:
        since: the time of the first one, in monotonic seconds.
        tries: how many there were.
        is_final: whether they lasted long enough to be final.
        is_sinks: whether several deliveries were refused in a row, and none was accepted between them.
        is_only: whether no other delivery was refused in the same row.
    """

    since: float
    tries: int = 1
    is_final: bool = False
    is_sinks: bool = False
    is_only: bool = True


class Refusals:
    """The refusals of one sink that may pass."""

    def __init__(self) -> None:
        self._by_seq: dict[int, Refusal] = {}
        self._all: Refusal | None = None  # of any delivery, since the sink last accepted one
        self._in_a_row: set[int] = set()  # SEVERAL at most: more make no difference

    def refused(self, seq: int, *, waited_s: float, now: float) -> Refusal:
        """Count one more refusal.

        Args:
            seq: the delivery's seq.
            waited_s: seconds since it became the oldest of its order.
            now: the current time in monotonic seconds.

        Returns:
            The refusals that count for this delivery.
        """
        of_all = self._all = _once_more(self._all, now)
        own = _once_more(self._by_seq.pop(seq, None), now)
        if len(self._in_a_row) < SEVERAL:
            self._in_a_row.add(seq)
        lasts_s = now - own.since
        if own.tries < REFUSAL_TRIES or lasts_s < REFUSAL_LASTS_S:
            lasts_s = min(now - of_all.since, waited_s)
        tries = max(own.tries, of_all.tries)
        is_final = tries >= REFUSAL_TRIES and lasts_s >= REFUSAL_LASTS_S
        if not is_final:
            while len(self._by_seq) >= MOST_REMEMBERED:
                del self._by_seq[next(iter(self._by_seq))]
            self._by_seq[seq] = own
        return Refusal(
            since=now - lasts_s,
            tries=own.tries,
            is_final=is_final,
            is_sinks=len(self._in_a_row) >= SEVERAL,
            is_only=self._in_a_row == {seq},
        )

    def took(self) -> None:
        """Note that the sink accepted a delivery, or responded otherwise: it does not refuse everything."""
        self._all = None
        self._in_a_row.clear()

    def forget(self, seq: int) -> None:
        """Note that this delivery is no longer refused."""
        self._by_seq.pop(seq, None)

    def interrupted(self) -> None:
        """Note that the sink was down in between: it may be starting, so earlier refusals no longer count."""
        self.took()
        self._by_seq.clear()


def refused_wait_s(attempts: int, *, random: float, cap_s: float = REFUSED_CAP_S) -> float:
    """Return the seconds until a refused delivery is retried.

    Args:
        attempts: failed claims, including this one.
        random: 0 to 1.
        cap_s: the longest wait.
    """
    return full_jitter(attempts, base_s=REFUSED_BASE_S, cap_s=cap_s, random=(1 + random) / 2)


def _once_more(before: Refusal | None, now: float) -> Refusal:
    return Refusal(before.since, before.tries + 1) if before else Refusal(now)
