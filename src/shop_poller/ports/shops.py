"""What is stored of a shop: where polling stands, what a commit changes, alerts, and counts."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from shop_poller.core.errors import ErrorKind
from shop_poller.core.import_walk import ImportPosition
from shop_poller.core.model import KnownOrder, UnreadableOrder
from shop_poller.ports.deliveries import NewDelivery


@dataclass(frozen=True, slots=True)
class ShopState:
    """Where polling of a shop stands.

    Attributes:
        started_at: our clock when this state began.
        baseline_at: since when orders are ours to announce, by the shop's clock; None before it answered.
        cursor_at: the position in the source, by the shop's clock.
        last_poll_at: our clock at the last good poll.
        import_position: None when the import is complete, or has not begun (then there is no baseline).
        sweep_after_id: the sweep continues with the open orders after this id.
        swept_at: our clock at the end of the last sweep.
        newest_order_at: when the newest order that we saw was paid, by the shop's clock; see core.silence.
        silence_told_at: when the silence began that was reported last, by the shop's clock.
        refunds_at: how far the shop's list of refunds was read, by the dates of the refunds; None if never.
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


@dataclass(frozen=True, slots=True)
class Backfill:
    """How far a backfill has come: orders made from `since` to the baseline, newest first.

    Attributes:
        created_before: exclusive; later orders are done.
        imported: orders recorded so far.
    """

    since: datetime
    created_before: datetime
    imported: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit changes, all of it or nothing.

    Attributes:
        state: replaces the stored one.
        now: our clock.
        seen_at: the retention of records counts from here: the shop's clock or ours, which is later.
        known: orders whose record changed.
        set_aside: orders that could not be read.
        mended: ids of orders set aside before that could be read now.
    """

    state: ShopState
    now: datetime
    seen_at: datetime
    known: Sequence[KnownOrder] = ()
    new_deliveries: Sequence[NewDelivery] = ()
    set_aside: Sequence[UnreadableOrder] = ()
    mended: Collection[int] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A service that does not work, and of which the administrators were notified."""

    service: str
    cause: ErrorKind
    since: datetime


@dataclass(frozen=True, slots=True)
class PollFailure:
    """Why polls fail now.

    Attributes:
        kind: of the error.
        text: as in the log.
        since: the first failure after the last good poll, by our clock.
    """

    kind: ErrorKind
    text: str
    since: datetime


@dataclass(frozen=True, slots=True)
class RowSetAside:
    """A stored row that was damaged; a copy of it is kept.

    Attributes:
        place: the table or the key that it was in.
        name: of the row, for people.
        reason: what was wrong, without what stood there.
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
    """Counts of what is stored of one shop.

    Attributes:
        known: orders.
        set_aside: orders that could not be read.
        sinks: waiting deliveries and dead letters, by sink.
        rows_set_aside: stored rows that were damaged.
    """

    known: int = 0
    set_aside: int = 0
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    rows_set_aside: int = 0
