"""What the status page shows, and what it is asked to do; see overview.py for who knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shop_poller.core.breaker import BreakerState
from shop_poller.core.clocks import ClockTrouble
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import Alert, FinishedDelivery, PollFailure, ShopState, SinkStats


@dataclass(frozen=True, slots=True)
class SinkSnapshot:
    """How a sink does.

    Attributes:
        stored: what lies in the store for it.
        named: the settings name it; else what waits for it waits for ever.
        held: deliveries in the in-process queue and on their way; None where another replica delivers.
        breaker: likewise.
        gone: it said 410.
        failing_since: when the first delivery failed after the last that did not.
        last_error_kind: how the last one failed, if it is failing.
    """

    name: str
    stored: SinkStats = field(default_factory=SinkStats)
    named: bool = True
    held: int | None = None
    breaker: BreakerState | None = None
    gone: bool = False
    failing_since: datetime | None = None
    last_error_kind: ErrorKind | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, with what became of its deliveries, the latest first; at least one."""

    event_type: str
    key: str
    deliveries: Sequence[FinishedDelivery]


@dataclass(frozen=True, slots=True)
class StatusSnapshot:
    """All that the page shows.

    Attributes:
        now: by the store's clock.
        leads: this process does the work.
        leader: who has the right to write, for people; "" for nobody.
        in_redis: the store is Redis; else a file.
        failure: why polls fail here; None if the last one was good, or another replica polls.
        unhealthy_reason: what /healthz says is wrong; "" if nothing is.
        clock: what is wrong with our clock; None if nothing is.
        trouble: why the store cannot be read; all that it would tell is then empty.
        next_in_s: seconds until the shop is asked next; None where another replica polls, or nobody.
        made: deliveries of the last hours, an hour each, the earliest first.
        dead_lettered: those given up, likewise.
        titles: of the owner's own events, by their names.
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
    happenings: Sequence[Happening] = ()
    dead: Sequence[FinishedDelivery] = ()
    made: Sequence[int] = ()
    dead_lettered: Sequence[int] = ()
    titles: Mapping[str, str] = field(default_factory=dict)


class ActionResult(StrEnum):
    """What came of asking for something."""

    DONE = "done"
    FOLLOWS = "follows"  # another replica polls
    NOBODY = "nobody"  # no replica leads
    OFF = "off"  # nobody polls
    MISSING = "missing"  # there is no such dead letter any more, or its event waits already


class Inside(Protocol):
    """The daemon, as the page sees it. What writes to the store raises TemporaryError or PermanentError."""

    async def snapshot(self) -> StatusSnapshot:
        """How it goes; never raises."""
        ...

    async def poll_now(self) -> ActionResult:
        """Poll at once, whatever pause there is."""
        ...

    async def replay(self, seq: int) -> ActionResult:
        """Put a dead letter back into the outbox."""
        ...

    async def drop(self, seq: int) -> ActionResult:
        """Forget a dead letter."""
        ...
