"""What core and shell agree on: who reads, who delivers, who remembers.

Every method that touches the outside raises core.errors.TemporaryError or PermanentError, and nothing else.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol, runtime_checkable

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.import_walk import ImportPosition
from shop_poller.core.model import Delivery, KnownOrder, Notification, Page, Query, UnreadableOrder
from shop_poller.core.refunds import RefundPage, RefundQuery

STORE = "shop-poller:state"
"""What remembers, as a service in alerts; no sink can have this name."""


class Source(Protocol):
    """A shop that can be asked."""

    @property
    def most_ids(self) -> int:
        """How many orders can be asked for by their ids at once."""
        ...

    async def fetch(self, query: Query) -> Page:
        """Ask once. A source does not retry, but for a session that was lost."""
        ...

    async def aclose(self) -> None:
        """Say goodbye to the shop and close connections; never raises."""
        ...


class RefundList(Protocol):
    """A shop's own list of refunds, by their dates; not every shop has one."""

    async def fetch(self, query: RefundQuery) -> RefundPage:
        """Ask once.

        Raises:
            PermanentError: the shop has no such list, or does not show it to us.
            TemporaryError: no answer, or none that is a list of refunds.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises. It may be asked again."""
        ...


class Sink(Protocol):
    """Somebody to tell."""

    @property
    def name(self) -> str:
        """Names the sink in rows, logs and metrics: no secret in it, and stable when secrets change."""
        ...

    async def send(self, delivery: Delivery) -> None:
        """Deliver once; returning means that the receiver said yes. A sink does not retry."""
        ...

    async def check(self) -> str:
        """See whether deliveries would arrive, without making one.

        Returns:
            One line on what was found.
        """
        ...

    async def aclose(self) -> None:
        """Close connections; never raises."""
        ...


@runtime_checkable
class BulkSink(Sink, Protocol):
    """A sink that takes many at the cost of one."""

    async def send_all(self, deliveries: Sequence[Delivery]) -> Sequence[ShopPollerError | None]:
        """Deliver each once, all at the same time; of different keys.

        Returns:
            For each None, the receiver said yes; or why it did not. What is raised goes for all.
        """
        ...


@dataclass(frozen=True, slots=True)
class ShopState:
    """Where polling of a shop stands.

    Attributes:
        started_at: our clock when this store first heard of the shop.
        baseline_at: since when orders are ours to announce, by the shop's clock; None before it answered.
        cursor_at: the position in the source, by the shop's clock.
        last_poll_at: our clock at the last good poll.
        import_position: None when all is learned, or nothing is yet (then there is no baseline either).
        sweep_after_id: of the known orders that may still change, the sweep looks next at those beyond.
        swept_at: our clock at the end of the last sweep.
        newest_order_at: when the newest order that we saw was paid, by the shop's clock; see core.silence.
        silence_told_at: since when there was the silence that was told last, by the shop's clock.
        refunds_at: how far the shop's list of refunds was read, by the dates of the refunds; None before the
            first time.
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
        created_before: exclusive; what was made from then on is done.
        imported: orders recorded so far.
    """

    since: datetime
    created_before: datetime
    imported: int = 0


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A new row of the outbox: one event for one sink.

    Attributes:
        body: JSON, what is sent at every attempt; see MessageFormat.render.
    """

    sink: str
    notification: Notification
    body: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What one commit changes, all of it or nothing.

    Attributes:
        state: replaces the shop's.
        now: our clock.
        seen_at: records are kept for a time counted from here: the shop's clock or ours, which is later.
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
    """A service that does not work, and of which the administrators were told."""

    service: str
    cause: ErrorKind
    since: datetime


@dataclass(frozen=True, slots=True)
class Ack:
    """The sink said yes: the row leaves the outbox."""

    delivery: Delivery


@dataclass(frozen=True, slots=True)
class Retry:
    """Not now: the row waits until `at`. Charged when the failure was this row's own."""

    delivery: Delivery
    at: datetime
    error: str
    charged: bool


@dataclass(frozen=True, slots=True)
class MoveToDeadLetters:
    """Never: the row becomes a dead letter."""

    delivery: Delivery
    reason: str


@dataclass(frozen=True, slots=True)
class Release:
    """Not tried: the row is anybody's again."""

    delivery: Delivery


Outcome = Ack | Retry | MoveToDeadLetters | Release


@dataclass(frozen=True, slots=True)
class SinkStats:
    """What lies in the store for one sink."""

    waiting: int = 0
    oldest_at: datetime | None = None
    dead: int = 0


@dataclass(frozen=True, slots=True)
class FinishedDelivery:
    """A delivery that is over.

    Attributes:
        seq: names it, in its shop and of its kind.
        key: the order's id, or the alert's subject.
        attempts: claims that failed and were charged to it.
        at: when it was delivered or buried.
        reason: why it was given up; "" if it was delivered.
        first_seq: the seq that it had before it was first put back into the outbox; 0: it never was.
    """

    seq: int
    sink: str
    key: str
    event_id: str
    event_type: str
    attempts: int
    at: datetime
    reason: str = ""
    first_seq: int = 0

    @property
    def place(self) -> tuple[int, int]:
        """Where it belongs among others: in the order in which they were made at first."""
        return self.first_seq or self.seq, self.seq


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up, with what could not be delivered.

    Attributes:
        body: the notification's JSON, as it was sent.
        created_at: when it came into the outbox, the last time if it was replayed.
    """

    over: FinishedDelivery
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveredEntry:
    """A delivery that was made.

    Attributes:
        kept: its text was kept too, so that it can be sent again; versions before kept none.
    """

    over: FinishedDelivery
    kept: bool


class DeliveryStatus(StrEnum):
    """What became of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """What the store remembers of one delivery.

    Attributes:
        key: the order's id, or the alert's subject.
        at: when it was delivered or buried; of one that waits, when it was made.
    """

    sink: str
    key: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    at: datetime


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
class Stats:
    """What lies in the store for one shop.

    Attributes:
        known: orders.
        set_aside: orders that could not be read.
        sinks: what waits and lies dead, by sink.
        rows_set_aside: rows of our own that were damaged.
    """

    known: int = 0
    set_aside: int = 0
    sinks: Mapping[str, SinkStats] = field(default_factory=dict)
    rows_set_aside: int = 0


class Lease(Protocol):
    """The right to write for a shop: one process has it, for a term that it renews."""

    @property
    def term_s(self) -> float:
        """Seconds that it outlives a process that says nothing more; infinite where its end gives it back."""
        ...

    async def take(self) -> bool:
        """Take it, if nobody has it. All claims that were made before are void."""
        ...

    async def renew(self) -> bool:
        """Keep it for another term.

        Returns:
            False if it was lost, or if the store is not what we left there: all is to be read anew.
        """
        ...

    async def release(self) -> None:
        """Let others have it."""
        ...

    async def holder(self) -> str:
        """Who has it, for people; "" for nobody."""
        ...


@dataclass(frozen=True, slots=True)
class PollFailure:
    """Why polls fail now.

    Attributes:
        kind: what went wrong, in a word.
        text: as in the log, for people.
        since: the first failure after the last good poll, by our clock.
    """

    kind: ErrorKind
    text: str
    since: datetime


class Store(Lease, Protocol):
    """Remembers. One suite of tests holds for all: tests/contracts/test_store.py."""

    def now(self) -> datetime:
        """The clock that due times follow, aware UTC, to the millisecond: finer than that nothing is kept."""
        ...

    async def ask_clock(self) -> None:
        """Hear anew what time it is, where the clock is another machine's; `now` goes on from there."""
        ...

    async def load(self, shop_id: str) -> ShopState | None:
        """A shop's state; None if it was never heard of. Shows, too, that the store can be read."""
        ...

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """A shop's state; a shop never heard of starts its life now."""
        ...

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """What is known of these orders; unknown ones are missing."""
        ...

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Ids of known orders that are in none of the statuses core.sweep.CLOSED, ascending.

        Args:
            shop_id: whose.
            after_id: exclusive.
            limit: how many at most.
        """
        ...

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders set aside as unreadable, with the reason."""
        ...

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:
        """The stored rows that were damaged, the latest first, a bounded number."""
        ...

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Change known orders, outbox and state in one atomic commit."""
        ...

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts that are raised now, by service."""
        ...

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Remember an alert and put its notifications into the outbox, both or neither.

        Asked for once more, because the answer was lost, it does nothing more.
        """
        ...

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Forget an alert and put the notifications of its end into the outbox, both or neither; likewise."""
        ...

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Take deliveries that are due, the longest due first, only the oldest of each key.

        A claim lasts until the delivery is settled, or the right to write ends. What is due later than
        core.retry.LONGEST_DELAY from now is due now: so far ahead only a clock parks it that is wrong. Its
        age cannot begin in the future either: it begins now.
        """
        ...

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record what became of claimed deliveries, in one atomic commit."""
        ...

    async def release_parked(self, sink: str) -> bool:
        """Make parked deliveries of a sink due, oldest first, a bounded number: the sink works again.

        Returns:
            Whether there may be more: then it is to be called again.
        """
        ...

    async def clamp_due(self, sink: str, *, latest: datetime) -> int:
        """Make what is due later than an instant due then, a bounded number of a sink's deliveries at a time.

        Returns:
            How many were moved; 0 once there are none left.
        """
        ...

    async def next_due(self, sink: str) -> datetime | None:
        """When the next unclaimed delivery of a sink is due; None if there is none."""
        ...

    async def dead_letter_expired(self, sink: str, *, head_before: datetime, now: datetime) -> int:
        """Bury unclaimed deliveries that have been their key's oldest for too long, a bounded number.

        Returns:
            How many were buried.
        """
        ...

    async def stats(self, shop_id: str) -> Stats:
        """Count what lies in the store."""
        ...

    async def finished(
        self,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """The deliveries that were made, or given up, the latest first.

        Args:
            shop_id: whose.
            dead: those that were given up.
            limit: how many at most.
            sink: to this one only.
            after: made or given up later than that.
        """
        ...

    async def by_the_hour(self, shop_id: str, *, dead: bool, before: datetime, hours: int) -> list[int]:
        """Count the deliveries that were made, or given up, by the hour.

        Args:
            shop_id: whose.
            dead: those that were given up.
            before: where the last hour ends, exclusive.
            hours: how many.

        Returns:
            A count for each of the hours, the earliest first.
        """
        ...

    async def dead_ids(
        self,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """The dead letters' seqs, in the order of their events, however often each was replayed.

        Args:
            shop_id: whose.
            sink: to this one only.
            since: buried then or later.
            before: buried earlier than that.
        """
        ...

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter; None if there is none of that seq."""
        ...

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back into the outbox, in the order of their events, in one atomic commit.

        Beside whoever has the right to write. Each gets a seq of its own and goes behind what waits already,
        with its event's id and body and no attempt counted. What is no dead letter any more is passed by, and
        so is one whose event waits for the same sink already.

        Args:
            shop_id: whose.
            seqs: a hundred or so: whoever polls waits meanwhile.
            now: since when they wait, and are due.

        Returns:
            How many were put back.
        """
        ...

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Forget dead letters, in one atomic commit, beside whoever has the right to write.

        Returns:
            How many were forgotten.
        """
        ...

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """The deliveries made from an instant on and before another one, in the order of their events."""
        ...

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back into the outbox; for the rest see `replay_concurrently`.

        They are made no longer, but wait: a history has each once. One without its text is passed by.

        Returns:
            How many were put back.
        """
        ...

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """What is remembered of the deliveries of these keys, in the order in which they were made."""
        ...

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come; None if there was none."""
        ...

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Record orders of which nothing is known, and how far a backfill has come, in one commit.

        Beside whoever has the right to write: what is known already, or learned meanwhile, stays.

        Returns:
            How many were not known.
        """
        ...

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Drop what is old, a bounded number at a time.

        Args:
            shop_id: whose.
            seen_before: records last changed, and orders last seen to be unreadable, before this.
            finished_before: what was delivered or buried before this; and what is too much of it.

        Returns:
            How many were dropped.
        """
        ...

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back what is dated in the future and kept for a time from its date, or it stays for ever.

        Args:
            shop_id: whose records, and whose deliveries that are over; a bounded number of each at a time.
            after: only what is dated later than that.
            to: its new date.

        Returns:
            How many were changed.
        """
        ...

    async def aclose(self) -> None:
        """Let go of the store; never raises."""
        ...


class Membership(Protocol):
    """The replicas that share the shops of a fleet, as one of them sees it. All raise TemporaryError."""

    async def stay(self) -> list[str]:
        """Say that we are there, and learn the names of all who are; soon forgotten if not said again."""
        ...

    async def reports(self, unreached: Sequence[str], there: Sequence[str]) -> dict[str, frozenset[str]]:
        """Report which shops are not reached from here, and learn what the other replicas report.

        Args:
            unreached: the ids of shops, or only core.reach.EVERYTHING.
            there: the replicas that are there, by `stay`.

        Returns:
            What each of those that are there does not reach.
        """
        ...

    async def leave(self) -> None:
        """Say that we go, so that the others need not wait for us to be forgotten."""
        ...

    async def leased(self, prefixes: Sequence[str]) -> list[bool]:
        """Whether somebody has the lease of each shop."""
        ...
