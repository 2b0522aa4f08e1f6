"""Lists problems by their severity, each with its section of the runbook."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shop_poller.core import clocks
from shop_poller.core.breaker import BreakerState
from shop_poller.core.clocks import ClockTrouble, Whose
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import STORE, Alert
from shop_poller.web.snapshot import SinkSnapshot, StatusSnapshot

LATE = timedelta(minutes=10)
RUNBOOK = "docs/runbook.md"
SECTIONS: Mapping[str, str] = {
    "store": "shoppollerstoretrouble",
    "disk": "disk-full",
    "redis": "redis-gone",
    "bug": "shoppollerbug",
    "polling": "shoppollernotpolling",
    "workers": "shoppollernosenders",
    "leader": "shoppollernoleader",
    "alert": "receiver-down",
    "keys": "wrong-key",
    "shop": "shop-down",
    "open": "shoppollerbreakeropen",
    "gone": "receiver-down",
    "late": "shoppollerdeliveriesstuck",
    "orphan": "shoppollerdeliveriesstuck",
    "clock": "shoppollerclock",
    "dead": "shoppollerdeadletters",
    "aside": "shoppollerorderssetaside",
    "damaged": "damaged-state",
}
"""The section of the runbook for each kind. For an alert it depends on the service."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """A problem.

    Attributes:
        kind: a name in locales/*/page.toml.
        about: a key of SECTIONS, if it is not the kind.
        grave: something does not work; else it only needs attention.
        name: the service or sink.
        since: when it began, or when it last worked.
        seconds: how wrong a clock is.
    """

    kind: str
    grave: bool = False
    about: str = ""
    name: str = ""
    count: int = 0
    since: datetime | None = None
    cause: ErrorKind | None = None
    detail: str = ""
    seconds: float = 0.0

    @property
    def section(self) -> str:
        """The section of the runbook."""
        return f"{RUNBOOK}#{SECTIONS[self.about or self.kind]}"


def troubles(snapshot: StatusSnapshot) -> list[Trouble]:
    """Return all problems, the most severe first."""
    return sorted(_all_troubles(snapshot), key=lambda one: not one.grave)


def _all_troubles(snapshot: StatusSnapshot) -> Iterator[Trouble]:
    if snapshot.trouble:
        about = "redis" if snapshot.in_redis else "store"
        yield Trouble("store", grave=True, about=about, detail=snapshot.trouble)
    elif not snapshot.leads and not snapshot.leader:
        yield Trouble("leader", grave=True)
    yield from _of_polling(snapshot)
    clock = snapshot.clock or _dated_ahead(snapshot)
    if clock is not None:
        yield Trouble(
            f"{clock.whose}: {clock.fault}", grave=clock.is_grave, about="clock", seconds=clock.seconds
        )
    for alert in snapshot.alerts:
        if alert.service == snapshot.shop and snapshot.failure is not None:  # the failure says more
            continue
        yield Trouble(
            "alert",
            grave=True,
            about=_about(alert, snapshot.shop),
            name=alert.service,
            cause=alert.cause,
            since=alert.since,
        )
    alerted = {alert.service for alert in snapshot.alerts}
    for sink in snapshot.sinks:
        yield from _of_sink(sink, snapshot.now, is_alerted=sink.name in alerted)
    dead = sum(sink.stored.dead for sink in snapshot.sinks)
    if dead:
        yield Trouble("dead", count=dead)
    if snapshot.set_aside:
        yield Trouble("aside", count=snapshot.set_aside)
    if snapshot.rows_set_aside:
        yield Trouble("damaged", count=snapshot.rows_set_aside)


def _dated_ahead(snapshot: StatusSnapshot) -> ClockTrouble | None:
    """Return the trouble of a clock that is behind the times in the store."""
    over = [*snapshot.dead, *(one for event in snapshot.recent_events for one in event.deliveries)]
    return clocks.trouble(
        Whose.OF_REDIS if snapshot.in_redis else Whose.OURS,
        now=snapshot.now,
        behind_shop_s=None,
        stored=[
            snapshot.state.last_poll_at if snapshot.state else None,
            *(sink.stored.oldest_at for sink in snapshot.sinks),
            *(one.at for one in over),
        ],
    )


def _of_polling(snapshot: StatusSnapshot) -> Iterator[Trouble]:
    state, failure = snapshot.state, snapshot.failure
    stopped = bool(snapshot.unhealthy_reason) and snapshot.unhealthy_reason != "No active workers"
    if snapshot.unhealthy_reason and not stopped:
        yield Trouble("workers", grave=True)
    if failure is not None and not (snapshot.trouble and failure.kind is ErrorKind.STORE):
        yield Trouble(
            "poll failing",
            grave=stopped or any(alert.service == snapshot.shop for alert in snapshot.alerts),
            about=_cause(failure.kind, in_redis=snapshot.in_redis),
            since=failure.since,
            detail=failure.text,
        )
    elif stopped:
        yield Trouble("polling", grave=True, since=state.last_poll_at if state else None)


def _cause(kind: ErrorKind, *, in_redis: bool) -> str:
    if kind is ErrorKind.STORE:
        return "redis" if in_redis else "disk"
    return {ErrorKind.AUTHENTICATION: "keys", ErrorKind.INTERNAL: "bug"}.get(kind, "shop")


def _about(alert: Alert, shop: str) -> str:
    if alert.service == STORE:
        return "store"
    if alert.service != shop:
        return "alert"
    return "keys" if alert.cause is ErrorKind.AUTHENTICATION else "shop"


def _of_sink(sink: SinkSnapshot, now: datetime, *, is_alerted: bool) -> Iterator[Trouble]:
    if not sink.named:
        if sink.stored.waiting:
            yield Trouble("orphan", name=sink.name, count=sink.stored.waiting)
        return
    if is_alerted:  # the alert says more
        return
    if sink.gone:
        yield Trouble("gone", grave=True, name=sink.name)
    elif sink.breaker in {BreakerState.OPEN, BreakerState.HALF_OPEN}:
        yield Trouble(
            "open",
            name=sink.name,
            cause=sink.last_error_kind or ErrorKind.CIRCUIT_OPEN,
            since=sink.failing_since,
        )
    elif not sink.muted_s and sink.stored.oldest_at is not None:
        since = sink.stored.oldest_at + sink.quiet_time
        if now - since >= LATE:
            yield Trouble("late", name=sink.name, since=since)
