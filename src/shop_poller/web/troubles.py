"""What is not well, judged from a glance: in which order a person should look, and where to read on."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from shop_poller.core.breaker import State
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import STORE, Alert
from shop_poller.web.glance import Glance, SinkGlance

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
    "dead": "shoppollerdeadletters",
    "aside": "shoppollerorderssetaside",
}
"""Where in the runbook it says what to do; of an alert it depends on what it is about."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that is not well.

    Attributes:
        kind: a text of words.TEXTS.
        about: a key of SECTIONS, if it is not the kind.
        grave: it does not work; else somebody should have a look.
        name: the service or sink.
        since: when it began, or when it was well last.
    """

    kind: str
    grave: bool = False
    about: str = ""
    name: str = ""
    count: int = 0
    since: datetime | None = None
    cause: ErrorKind | None = None
    detail: str = ""

    @property
    def section(self) -> str:
        """Where it says what to do."""
        return f"{RUNBOOK}#{SECTIONS[self.about or self.kind]}"


def troubles(glance: Glance) -> list[Trouble]:
    """All of them, the gravest first."""
    return sorted(_found(glance), key=lambda one: not one.grave)


def _found(glance: Glance) -> Iterator[Trouble]:
    if glance.trouble:
        about = "redis" if glance.in_redis else "store"
        yield Trouble("store", grave=True, about=about, detail=glance.trouble)
    elif not glance.leads and not glance.leader:
        yield Trouble("leader", grave=True)
    yield from _of_polling(glance)
    for alert in glance.alerts:
        if alert.service == glance.shop and glance.failure is not None:  # that says more
            continue
        yield Trouble(
            "alert",
            grave=True,
            about=_about(alert, glance.shop),
            name=alert.service,
            cause=alert.cause,
            since=alert.since,
        )
    told = {alert.service for alert in glance.alerts}
    for sink in glance.sinks:
        yield from _of_sink(sink, glance.now, told=sink.name in told)
    dead = sum(sink.stored.dead for sink in glance.sinks)
    if dead:
        yield Trouble("dead", count=dead)
    if glance.set_aside:
        yield Trouble("aside", count=glance.set_aside)


def _of_polling(glance: Glance) -> Iterator[Trouble]:
    state, failure = glance.state, glance.failure
    stopped = bool(glance.illness) and glance.illness != "No active workers"
    if glance.illness and not stopped:
        yield Trouble("workers", grave=True)
    if failure is not None and not (glance.trouble and failure.kind is ErrorKind.STORE):
        yield Trouble(
            "poll failing",
            grave=stopped or any(alert.service == glance.shop for alert in glance.alerts),
            about=_cause(failure.kind, in_redis=glance.in_redis),
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


def _of_sink(sink: SinkGlance, now: datetime, *, told: bool) -> Iterator[Trouble]:
    if not sink.named:
        if sink.stored.waiting:
            yield Trouble("orphan", name=sink.name, count=sink.stored.waiting)
        return
    if told:  # the alert says more
        return
    if sink.gone:
        yield Trouble("gone", grave=True, name=sink.name)
    elif sink.breaker in {State.OPEN, State.HALF_OPEN}:
        yield Trouble("open", name=sink.name, cause=sink.ailment or ErrorKind.CIRCUIT_OPEN)
    elif sink.stored.oldest_at is not None and now - sink.stored.oldest_at >= LATE:
        yield Trouble("late", name=sink.name, since=sink.stored.oldest_at)
