"""The data of the status page, and its actions. runtime/status_page_data.py provides them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol

from shop_poller.core.breaker import BreakerState
from shop_poller.core.clocks import ClockTrouble
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import Alert, FinishedDelivery, PollFailure, ShopState, SinkStats


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    """The state of a sink.

    Attributes:
        stored: what the store holds for it.
        named: the settings contain it; else its deliveries wait forever.
        in_flight: deliveries in the in-process queue and in progress; None if another replica delivers.
        breaker: the state of its circuit; None if another replica delivers.
        gone: it answered 410.
        failing_since: when deliveries began to fail.
        last_error_kind: how the last one failed, if it is failing.
        muted_s: seconds for which the sink is still muted; 0 if it is not.
        muted_events: the same by event type, of those that are muted.
        quiet_until: when the present quiet hours end, in the owner's time zone; None if it is not quiet.
        quiet_time: how much of the time since `stored.oldest_at` was quiet hours.
    """

    name: str
    stored: SinkStats = field(default_factory=SinkStats)
    named: bool = True
    in_flight: int | None = None
    breaker: BreakerState | None = None
    gone: bool = False
    failing_since: datetime | None = None
    last_error_kind: ErrorKind | None = None
    muted_s: float = 0.0
    muted_events: Mapping[str, float] = field(default_factory=dict)
    quiet_until: datetime | None = None
    quiet_time: timedelta = timedelta(0)


@dataclass(frozen=True, slots=True)
class RecentEvent:
    """An event with its deliveries, the latest first; at least one."""

    event_type: str
    key: str
    deliveries: Sequence[FinishedDelivery]


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """All data of the page.

    Attributes:
        now: by the store's clock.
        leads: this process polls and delivers.
        leader: who holds the lease, for people; "" for nobody.
        in_redis: the store is Redis; else a file.
        failure: why polls fail here; None if the last one succeeded, or another replica polls.
        unhealthy_reason: the reason in /healthz; "" if it is healthy.
        clock: what is wrong with our clock; None if it is right.
        trouble: why the store cannot be read; then all data from it is empty.
        next_in_s: seconds until the next poll; None if this process does not poll.
        delivered: deliveries per hour, the earliest first.
        dead_lettered: failed deliveries per hour.
        titles: titles of the owner's own events, by their names.
        is_circuit_open: this process pauses the shop after failures.
    """

    shop: str
    version: str
    now: datetime
    polling: bool
    leads: bool
    leader: str = ""
    in_redis: bool = False
    failure: PollFailure | None = None
    unhealthy_reason: str = ""
    clock: ClockTrouble | None = None
    trouble: str = ""
    next_in_s: float | None = None
    state: ShopState | None = None
    known: int = 0
    set_aside: int = 0
    rows_set_aside: int = 0
    alerts: Sequence[Alert] = ()
    sinks: Sequence[SinkSnapshot] = ()
    recent_events: Sequence[RecentEvent] = ()
    dead: Sequence[FinishedDelivery] = ()
    delivered: Sequence[int] = ()
    dead_lettered: Sequence[int] = ()
    titles: Mapping[str, str] = field(default_factory=dict)
    is_circuit_open: bool = False


class ActionResult(StrEnum):
    """The result of a requested action."""

    DONE = "done"
    NOT_LEADER = "follows"  # another replica polls
    NO_LEADER = "nobody"  # no replica leads
    POLLING_OFF = "off"  # polling is off
    NO_SINK = "no sink"  # the settings have no sink of this name
    NO_EVENT = "no event"  # the settings have no event of this name
    NO_SHOP = "no shop"  # the settings have no shop of this id
    NOT_HERE = "not here"  # this process does not watch the shop
    MISSING = "missing"  # the dead letter no longer exists, or its event is already pending


class PageBackend(Protocol):
    """The daemon as the page sees it. Methods that write raise TemporaryError or PermanentError."""

    async def snapshot(self) -> StatusSnapshot:
        """Return the data of the page; never raises."""
        ...

    async def poll_now(self) -> ActionResult:
        """Poll at once, despite any pause."""
        ...

    async def mute(self, sink: str, for_s: float, events: Sequence[str] = ()) -> ActionResult:
        """Hold the deliveries to a sink, or some events of it, for some seconds; send them again with 0."""
        ...

    async def replay(self, seq: int) -> ActionResult:
        """Put a dead letter back into the outbox."""
        ...

    async def drop(self, seq: int) -> ActionResult:
        """Delete a dead letter."""
        ...
