"""What the status page shows, and what it is asked to do; see overview.py for who knows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from shop_poller.core.breaker import State
from shop_poller.core.errors import ErrorKind
from shop_poller.ports import Alert, PollFailure, Settled, ShopState, SinkStats


@dataclass(frozen=True, slots=True)
class SinkGlance:
    """How a sink does.

    Attributes:
        stored: what lies in the store for it.
        named: the settings name it; else what waits for it waits for ever.
        held: deliveries in the in-process queue and on their way; None where another replica delivers.
        breaker: likewise.
        gone: it said 410.
        failing_since: when the first delivery failed after the last that did not.
        ailment: how the last one failed, if it is failing.
    """

    name: str
    stored: SinkStats = field(default_factory=SinkStats)
    named: bool = True
    held: int | None = None
    breaker: State | None = None
    gone: bool = False
    failing_since: datetime | None = None
    ailment: ErrorKind | None = None


@dataclass(frozen=True, slots=True)
class Happening:
    """An event, with what became of its deliveries, the latest first; at least one."""

    event_type: str
    key: str
    deliveries: Sequence[Settled]


@dataclass(frozen=True, slots=True)
class Glance:
    """All that the page shows.

    Attributes:
        now: by the store's clock.
        leads: this process does the work.
        leader: who has the right to write, for people; "" for nobody.
        in_redis: the store is Redis; else a file.
        failure: why polls fail here; None if the last one was good, or another replica polls.
        illness: what /healthz says is wrong; "" if nothing is.
        trouble: why the store cannot be read; all that it would tell is then empty.
        next_in_s: seconds until the shop is asked next; None where another replica polls, or nobody.
        made: deliveries of the last hours, an hour each, the earliest first.
        buried: those given up, likewise.
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
    illness: str = ""
    trouble: str = ""
    next_in_s: float | None = None
    state: ShopState | None = None
    known: int = 0
    set_aside: int = 0
    alerts: Sequence[Alert] = ()
    sinks: Sequence[SinkGlance] = ()
    happenings: Sequence[Happening] = ()
    dead: Sequence[Settled] = ()
    made: Sequence[int] = ()
    buried: Sequence[int] = ()
    titles: Mapping[str, str] = field(default_factory=dict)


class Asked(StrEnum):
    """What came of asking for something."""

    DONE = "done"
    FOLLOWS = "follows"  # another replica polls
    NOBODY = "nobody"  # no replica leads
    OFF = "off"  # nobody polls
    MISSING = "missing"  # there is no such dead letter any more, or its event waits already


class Inside(Protocol):
    """The daemon, as the page sees it. What writes to the store raises TemporaryError or PermanentError."""

    async def glance(self) -> Glance:
        """How it goes; never raises."""
        ...

    async def poll_now(self) -> tuple[Asked, float]:
        """Tick as soon as the shop may be asked, and say in how many seconds that is; 0 for now."""
        ...

    async def replay(self, seq: int) -> Asked:
        """Put a dead letter back into the outbox."""
        ...

    async def drop(self, seq: int) -> Asked:
        """Forget a dead letter."""
        ...
