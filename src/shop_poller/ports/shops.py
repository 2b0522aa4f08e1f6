"""The stored data of a shop: the position of polling, the changes of a commit, alerts, and counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from shop_poller.core.errors import ErrorKind
from shop_poller.core.import_walk import ImportPosition
from shop_poller.core.model import KnownOrder, UnreadableOrder
from shop_poller.core.tallies import OrderTally
from shop_poller.ports.deliveries import NewDelivery


@dataclass(frozen=True, slots=True)
class ShopState:
    """The position of polling of a shop.

    Attributes:
        started_at: when this state began, by our clock.
        baseline_at: orders from then on are announced, by the shop's clock; None before the shop answered.
        cursor_at: the position in the source, by the shop's clock.
        last_poll_at: the last good poll, by our clock.
        import_position: None if the import is complete, or has not begun (then there is no baseline).
        sweep_after_id: the sweep continues with the open orders after this id.
        swept_at: the end of the last sweep, by our clock.
        newest_order_at: when the newest order that we read was paid, by the shop's clock; see core.silence.
        silence_told_at: the beginning of the silence that was reported last, by the shop's clock.
        refunds_at: the shop's list of refunds was read up to this date of a refund; None if never.
        tallied_since: since when every event is counted for digests, by the shop's clock; None if they are
            not counted yet.
    """

    started_at: datetime
    baseline_at: datetime | None = None
    cursor_at: datetime | None = None
    last_poll_at: datetime | None = None
    import_position: ImportPosition | None = None
    sweep_after_id: int = 0
    swept_at: datetime | None = None
    newest_order_at: datetime | None = None
    silence_told_at: datetime | None = None
    refunds_at: datetime | None = None
    tallied_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backfill:
    """The position of a backfill, which reads orders created from `since` to the baseline, newest first.

    Attributes:
        since: the earliest creation to read.
        created_before: exclusive; orders created at or after this instant are done.
        imported: orders recorded so far.
    """

    since: datetime
    created_before: datetime
    imported: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """The changes of one atomic commit.

    Attributes:
        state: replaces the stored one.
        now: our clock.
        seen_at: the retention of records counts from here: the later of the shop's clock and ours.
        known: orders whose record changed.
        set_aside: orders that could not be read.
        mended: ids of orders that were set aside and can now be read.
        tallies: days whose tally changed.
        dropped_days: days whose tally is no longer needed.
    """

    state: ShopState
    now: datetime
    seen_at: datetime
    known: Sequence[KnownOrder] = ()
    new_deliveries: Sequence[NewDelivery] = ()
    set_aside: Sequence[UnreadableOrder] = ()
    mended: Collection[int] = ()
    tallies: Mapping[date, OrderTally] = field(default_factory=dict)
    dropped_days: Sequence[date] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A failed service. The administrators were notified of it."""

    service: str
    cause: ErrorKind
    since: datetime


@dataclass(frozen=True, slots=True)
class PollFailure:
    """Why polls fail now.

    Attributes:
        kind: of the error.
        text: the error text, as in the log.
        since: the first failure after the last good poll, by our clock.
    """

    kind: ErrorKind
    text: str
    since: datetime


@dataclass(frozen=True, slots=True)
class RowSetAside:
    """A stored row that was damaged. A copy of it is kept.

    Attributes:
        place: the table or the key that contained it.
        name: of the row, for people.
        reason: what is wrong with it, without its content.
        at: when it was found.
    """

    place: str
    name: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class SinkStats:
    """Counts of the deliveries of one sink."""

    waiting: int = 0
    oldest_at: datetime | None = None
    dead: int = 0


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of the stored data of one shop.

    Attributes:
        known: known orders.
        set_aside: orders that could not be read.
        sinks: waiting deliveries and dead letters, by sink.
        rows_set_aside: stored rows that were damaged.
    """

    known: int = 0
    set_aside: int = 0
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    rows_set_aside: int = 0
