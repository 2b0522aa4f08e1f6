"""The ports to the state. Each is what one kind of user needs of it; `Store` is all of them over one state.

An engine (a package in stores/) has one class per port. tests/contracts/ has one suite per port, which every
engine must pass. Every method raises core.errors.TemporaryError or PermanentError, and nothing else.
docs/decisions/0020-small-ports.md explains the division.
"""

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Protocol

from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.ports.deliveries import (
    DeadLetter,
    DeliveredEntry,
    DeliveryRecord,
    FinishedDelivery,
    NewDelivery,
    Outcome,
)
from shop_poller.ports.shops import Alert, Backfill, Batch, RowSetAside, ShopState, Stats

STORE = "shop-poller:state"
"""The state's name as a service in alerts; no sink can have this name."""


class Clock(Protocol):
    """The clock of the state: this machine's, or the server's where several replicas share the state."""

    def now(self) -> datetime:
        """The time that due times refer to: aware UTC, to the millisecond. Nothing finer is stored."""
        ...

    async def ask_clock(self) -> None:
        """Ask the server for its time, where the clock is a server's; `now` continues from there."""
        ...


class Lease(Protocol):
    """The right to write for a shop. One process has it, for a term that it renews."""

    @property
    def term_s(self) -> float:
        """Seconds until it expires without a renewal; infinite where the end of the process releases it."""
        ...

    async def take(self) -> bool:
        """Take it, if nobody has it. All earlier claims are void."""
        ...

    async def renew(self) -> bool:
        """Keep it for another term.

        Returns:
            False if it was lost, or if the state is not as this process left it: it must be read anew.
        """
        ...

    async def release(self) -> None:
        """Release it."""
        ...

    async def holder(self) -> str:
        """Who has it, for people; "" for nobody."""
        ...


class OrderState(Clock, Protocol):
    """Known orders and the position of polling. Polling reads and commits them; a backfill adds to them."""

    async def load(self, shop_id: str) -> ShopState | None:
        """A shop's state; None if there is none yet. Shows, too, that the store can be read."""
        ...

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """A shop's state; a shop without one gets an empty state that begins now."""
        ...

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """The records of these orders; orders without a record are missing."""
        ...

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Ids of known orders that are in none of the statuses stores.statuses.CLOSED, ascending.

        Args:
            shop_id: whose.
            after_id: exclusive.
            limit: how many at most.
        """
        ...

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """The orders set aside as unreadable, with the reason."""
        ...

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Change known orders, outbox and state in one atomic commit."""
        ...

    async def backfill(self, shop_id: str) -> Backfill | None:
        """How far the last backfill has come; None if there was none."""
        ...

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Record orders that have no record, and how far a backfill has come, in one commit.

        Needs no lease: records that exist already, or are written meanwhile, stay.

        Returns:
            How many had no record.
        """
        ...


class Retention(Protocol):
    """Deletes what is older than its retention."""

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Delete what is old, a bounded number at a time.

        Args:
            shop_id: whose.
            seen_before: records last changed, and orders last seen to be unreadable, before this.
            finished_before: what was delivered or given up before this; and what exceeds the bound.

        Returns:
            How many were deleted.
        """
        ...

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back what is dated in the future, or its retention would never end.

        Args:
            shop_id: whose records, and whose deliveries that are over; a bounded number of each at a time.
            after: only what is dated later than that.
            to: its new date.

        Returns:
            How many were changed.
        """
        ...


class Outbox(Protocol):
    """The deliveries that wait. Methods are about one sink; `OrderState.commit` and alerts add rows."""

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Take deliveries that are due, the longest due first, only the oldest of each key.

        A claim lasts until the delivery's outcome is recorded, or the lease ends. What is due later than
        core.retry.LONGEST_DELAY from now is due now: only a wrong clock parks it so far ahead. Its
        age cannot begin in the future either: it begins now.
        """
        ...

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record the outcomes of claimed deliveries in one atomic commit."""
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
        """Make dead letters of unclaimed deliveries that have been their key's oldest for too long.

        Returns:
            How many; their number is bounded.
        """
        ...


class DeliveryHistory(Protocol):
    """What became of deliveries. Only reads, and needs no lease."""

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

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """The deliveries made from an instant on and before another one, in the order of their events."""
        ...

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """The records of the deliveries of these keys, in the order in which they were made."""
        ...


class DeadLetters(Protocol):
    """Puts deliveries that are over back into the outbox, or deletes them. Needs no lease."""

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
            since: given up then or later.
            before: given up earlier than that.
        """
        ...

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """One dead letter; None if there is none of that seq."""
        ...

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back into the outbox, in the order of their events, in one atomic commit.

        Each gets a seq of its own and goes behind the deliveries that wait already, with its event's id and
        body and no attempt counted. A seq that is no dead letter any more is skipped, and so is one whose
        event waits for the same sink already.

        Args:
            shop_id: whose.
            seqs: a hundred or so: the daemon waits meanwhile.
            now: since when they wait, and are due.

        Returns:
            How many were put back.
        """
        ...

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Delete dead letters in one atomic commit.

        Returns:
            How many were deleted.
        """
        ...

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put deliveries that were made back into the outbox; for the rest see `replay_concurrently`.

        Each leaves the history: a delivery is in one place only. One without its text is skipped.

        Returns:
            How many were put back.
        """
        ...


class AlertState(Protocol):
    """The alerts that are raised now."""

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """The alerts that are raised now, by service."""
        ...

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Store an alert and put its notifications into the outbox, both or neither.

        A second call with the same alert, because the answer to the first was lost, does nothing more.
        """
        ...

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Delete an alert and put the notifications of its end into the outbox, both or neither.

        A second call does nothing more.
        """
        ...


class StateView(Clock, Protocol):
    """What health, metrics and the status page show of a shop. Only reads, and needs no lease."""

    async def load(self, shop_id: str) -> ShopState | None:
        """As `OrderState.load`."""
        ...

    async def holder(self) -> str:
        """As `Lease.holder`."""
        ...

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """As `AlertState.alerts`."""
        ...

    async def stats(self, shop_id: str) -> Stats:
        """Count the shop's orders, deliveries and damaged rows."""
        ...

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:
        """The stored rows that were damaged, the latest first, a bounded number."""
        ...


class Store(
    OrderState, Retention, Outbox, DeliveryHistory, DeadLetters, AlertState, StateView, Lease, Protocol
):
    """One open state. Whoever opens it closes it, and gives each user the port that it needs."""

    async def aclose(self) -> None:
        """Close it and give the lease back; never raises."""
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
