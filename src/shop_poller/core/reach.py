"""Which shops a replica cannot reach, and whether another replica may. Pure rules, without a clock.

A replica without egress still reaches Redis, so it keeps its leases. It reports the shops that it cannot
reach, and releases each of them that another replica has not reported. If all replicas have reported a shop,
it stays where it is. A released shop is probed from time to time. The replica does not take it again until it
responds.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from shop_poller.core.errors import ErrorKind

EVERYTHING = "*"
"""A replica that reaches no shop at all reports this instead of a shop's id."""

FAILURES: Mapping[ErrorKind, int] = {
    ErrorKind.CONNECTION: 3,
    ErrorKind.TIMEOUT: 2,
    ErrorKind.RATE_LIMIT: 3,
    ErrorKind.PROTOCOL: 3,
}
"""After so many failed requests in a row, a shop counts as unreachable from here.

Other kinds of failure (wrong keys, maintenance, a fatal error of PHP) would be the same for every
replica, so they are not listed. A time-out alone takes half a minute. A firewall or a captcha page leads to
PROTOCOL."""

PROBE_EVERY_S = 60.0
"""The time from the last failed attempt to reach a shop to the first probe."""
PROBE_AT_MOST_S = 3600.0
"""The wait doubles each time that the same shop becomes unreachable again, up to this."""
MOST_REPORTED = 1000
"""How many shops one replica reports at a time; the others stay where they are."""


@dataclass(frozen=True, slots=True)
class Polls:
    """The outcomes of the requests to one shop.

    Attributes:
        failures: how many failed in a row.
        kind: how the last one failed; None if it succeeded, or there was none.
        has_answered: the shop responded since this replica took it.
        not_before: when the next request may be sent, on the event loop's clock.
    """

    failures: int = 0
    kind: ErrorKind | None = None
    has_answered: bool = False
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Probe:
    """The outcome of one request to a shop that is not polled here.

    Attributes:
        is_reached: the shop responded, or failed as it would for every replica.
        pause_s: how long the shop asked us to wait, in seconds.
    """

    is_reached: bool
    pause_s: float = 0.0


def is_unreachable(kind: ErrorKind | None, failures: int) -> bool:
    """Return whether a shop counts as unreachable from here.

    Args:
        kind: how the last request failed; None if there was none.
        failures: how many failed in a row.
    """
    return kind is not None and failures >= FAILURES.get(kind, failures + 1)


def probe_after_s(times: int) -> float:
    """Return the seconds until an unreachable shop is probed again.

    Args:
        times: how often it became unreachable within `PROBE_AT_MOST_S`, from 1.
    """
    return min(PROBE_AT_MOST_S, PROBE_EVERY_S * 2.0 ** min(times - 1, 10))


def able(there: Sequence[str], reports: Mapping[str, Collection[str]]) -> list[str]:
    """Return the replicas that share the shops: those that reach at least one; all of them if none does.

    Args:
        there: the names of the replicas.
        reports: by replica, the shops that it does not reach.
    """
    reaching = [name for name in there if EVERYTHING not in reports.get(name, ())]
    return reaching or list(there)


def others_may_reach(
    shop_id: str, replica: str, there: Sequence[str], reports: Mapping[str, Collection[str]]
) -> bool:
    """Return whether another replica may reach the shop: it has not reported it."""
    return any(
        name != replica and EVERYTHING not in reports.get(name, ()) and shop_id not in reports.get(name, ())
        for name in there
    )
