"""Which shops a replica cannot reach, and whether another replica may: rules without a clock of their own.

A replica without egress still reaches Redis, so it keeps its leases. It reports the shops that it cannot
reach, and releases each of them if another replica has not reported it. If all have, the shop stays where it
is. A shop that was released is asked again from time to time; until it answers, the replica does not take it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shop_poller.core.errors import ErrorKind

EVERYTHING = "*"
"""Reported instead of a shop's id by a replica that reaches no shop at all."""

FAILURES: Mapping[ErrorKind, int] = {
    ErrorKind.CONNECTION: 3,
    ErrorKind.TIMEOUT: 2,
    ErrorKind.RATE_LIMIT: 3,
    ErrorKind.PROTOCOL: 3,
}
"""After so many failed requests in a row a shop counts as not reachable from here. Of other kinds of failure
(wrong keys, maintenance, a fatal error of PHP) every replica would get the same, so they are not in it. A
time-out takes half a minute by itself. PROTOCOL is what a firewall or a captcha page gives."""

PROBE_EVERY_S = 60.0
"""A replica asks a shop again so long after it last could not reach it."""
PROBE_AT_MOST_S = 3600.0
"""The wait is doubled each time that the same shop becomes unreachable again, up to this."""
MOST_REPORTED = 1000
"""Shops that one replica reports at a time; the others stay where they are."""


@dataclass(frozen=True, slots=True)
class Polls:
    """How the requests to one shop fared.

    Attributes:
        failures: how many failed in a row.
        kind: how the last one failed; None if it was answered, or there was none.
        has_answered: one was answered since the shop was taken.
        not_before: when the shop may be asked again, on the event loop's clock.
    """

    failures: int = 0
    kind: ErrorKind | None = None
    has_answered: bool = False
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """What came of one request to a shop that is not polled here.

    Attributes:
        is_reached: the shop answered, or failed as it would for every replica.
        pause_s: for so long the shop asked to be left alone.
    """

    is_reached: bool
    pause_s: float = 0.0


def is_unreachable(kind: ErrorKind | None, failures: int) -> bool:
    """Whether a shop counts as not reachable from here.

    Args:
        kind: how the last request failed; None if there was none.
        failures: how many failed in a row.
    """
    return kind is not None and failures >= FAILURES.get(kind, failures + 1)


def probe_after_s(times: int) -> float:
    """Seconds until a shop that could not be reached is asked again.

    Args:
        times: how often it became unreachable within `PROBE_AT_MOST_S`, from 1.
    """
    return min(PROBE_AT_MOST_S, PROBE_EVERY_S * 2.0 ** min(times - 1, 10))


def able(there: Sequence[str], reports: Mapping[str, Collection[str]]) -> list[str]:
    """The replicas that share the shops: those that reach any; all of them if none does.

    Args:
        there: the names of the replicas.
        reports: the shops that each does not reach.
    """
    reaching = [name for name in there if EVERYTHING not in reports.get(name, ())]
    return reaching or list(there)


def others_may_reach(
    shop_id: str, replica: str, there: Sequence[str], reports: Mapping[str, Collection[str]]
) -> bool:
    """Whether a replica other than this one has not reported the shop."""
    return any(
        name != replica and EVERYTHING not in reports.get(name, ()) and shop_id not in reports.get(name, ())
        for name in there
    )
