"""The ports to the state. Each port serves one kind of user; `Store` is all ports over one state.

An engine (a package in stores/) has one class per port. tests/contracts/ has one suite per port, which every
engine must pass. Every method raises core.errors.TemporaryError or PermanentError, and nothing else.
docs/decisions/0020-small-ports.md explains the division.
"""

from collections.abc import Collection, Sequence
from datetime import date, datetime
from typing import Protocol

from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.core.tallies import OrderTally
from shop_poller.ports.deliveries import (
    DeadLetter,
    DeliveredEntry,
    DeliveryRecord,
    FinishedDelivery,
    NewDelivery,
    Outcome,
    PastDelivery,
    StoredDelivery,
)
from shop_poller.ports.shops import Alert, Backfill, Batch, RowSetAside, ShopState, Stats

STORE = "shop-poller:state"
"""The state's name as a service in alerts; no sink can have this name."""


class Clock(Protocol):
    """The clock of the state: this machine's, or the server's where several replicas share the state."""

    def now(self) -> datetime:
        """Return the time that due times refer to: aware UTC, in milliseconds, as in the store."""
        ...

    async def ask_clock(self) -> None:
        """Read the server's time, if the clock is a server's. `now` continues from there."""
        ...


class Lease(Protocol):
    """The right to write for a shop. One process has it at a time, for a term that it renews."""

    @property
    def term_s(self) -> float:
        """Seconds until it expires without a renewal; infinite if the end of the process releases it."""
        ...

    async def take(self) -> bool:
        """Take the lease if nobody has it, and return whether it is ours. All earlier claims become void."""
        ...

    async def renew(self) -> bool:
        """Keep the lease for another term.

        Returns:
            False if it was lost, or if the state is not as this process left it: then read the state again.
        """
        ...

    async def release(self) -> None:
        """Release the lease."""
        ...

    async def holder(self) -> str:
        """Return the name of the process that has the lease, for people; "" if nobody has it."""
        ...


class OrderState(Clock, Protocol):
    """Known orders and the position of polling. Polling reads and commits them; a backfill adds orders."""

    async def load(self, shop_id: str) -> ShopState | None:
        """Return a shop's state; None if there is none yet. This also verifies that the store can be read."""
        ...

    async def register(self, shop_id: str, now: datetime) -> ShopState:
        """Return a shop's state. If there is none, create an empty state that begins now."""
        ...

    async def known(self, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """Return the records of these orders, without those that have no record."""
        ...

    async def open_orders(self, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Return the ids of known orders whose status is not in stores.statuses.CLOSED, ascending.

        Args:
            shop_id: of the orders.
            after_id: exclusive.
            limit: the most ids to return.
        """
        ...

    async def set_aside(self, shop_id: str) -> dict[int, str]:
        """Return the orders set aside as unreadable, with the reason."""
        ...

    async def commit(self, shop_id: str, batch: Batch) -> None:
        """Write known orders, tallies, new deliveries and state in one atomic commit."""
        ...

    async def tallies(self, shop_id: str, days: Collection[date] | None = None) -> dict[date, OrderTally]:
        """Return what happened on each day, for digests: about core.tallies.KEPT_DAYS days.

        Args:
            shop_id: the shop's id.
            days: only these days; None for all. A day whose tally is damaged is left out.
        """
        ...

    async def backfill(self, shop_id: str) -> Backfill | None:
        """Return the position of the last backfill; None if there was none."""
        ...

    async def import_concurrently(
        self, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
    ) -> int:
        """Write records of orders that have none, and the position of a backfill, in one commit.

        Requires no lease: records that exist already, or are written meanwhile, are kept.

        Returns:
            The number of new records.
        """
        ...


class Retention(Protocol):
    """Deletes data that is older than its retention."""

    async def prune(self, shop_id: str, *, seen_before: datetime, finished_before: datetime) -> int:
        """Delete old data, a bounded number of rows at a time.

        Args:
            shop_id: of the data.
            seen_before: delete records last changed, and orders last found unreadable, before this.
            finished_before: delete deliveries finished before this, and those that exceed the bound.

        Returns:
            The number of deleted rows.
        """
        ...

    async def redate(self, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Correct dates in the future, which would delay the end of the retention.

        Args:
            shop_id: of the records and finished deliveries; a bounded number of each at a time.
            after: change only later dates.
            to: the new date.

        Returns:
            The number of changed rows.
        """
        ...


class Outbox(Protocol):
    """The waiting deliveries. Most methods concern one sink; `OrderState.commit` and alerts add rows."""

    async def claim(self, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Claim due deliveries, the longest due first, only the oldest of each key.

        A claim lasts until the delivery's outcome is recorded, or the lease ends. A delivery that is due
        later than core.retry.LONGEST_DELAY from now is due now: only a wrong clock parks it so far ahead. If
        its age begins in the future, it begins now.
        """
        ...

    async def record_outcomes(self, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record the outcomes of claimed deliveries, with their attempts, in one atomic commit."""
        ...

    async def release_parked(self, sink: str) -> bool:
        """Make parked deliveries of a sink due, oldest first, a bounded number. The sink works again.

        Returns:
            Whether there may be more: then call it again.
        """
        ...

    async def clamp_due(self, sink: str, *, latest: datetime) -> int:
        """Limit due times to an instant, for a bounded number of a sink's deliveries at a time.

        Returns:
            The number of changed deliveries; 0 if none is left.
        """
        ...

    async def next_due(self, sink: str) -> datetime | None:
        """Return when the next unclaimed delivery of a sink is due; None if there is none."""
        ...

    async def dead_letter_expired(self, sink: str, *, head_before: datetime, now: datetime) -> int:
        """Move unclaimed deliveries to dead letters that have been their key's oldest for too long.

        Args:
            sink: of the deliveries.
            head_before: those that became their key's oldest before this.
            now: the date of the dead letters.

        Returns:
            The number of moved deliveries, which is bounded.
        """
        ...


class DeliveryHistory(Protocol):
    """The outcomes of deliveries. Read-only; requires no lease."""

    async def finished(
        self,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """Return successful deliveries or dead letters, the latest first.

        Args:
            shop_id: of the deliveries.
            dead: return the dead letters.
            limit: the most deliveries to return.
            sink: only those to this sink.
            after: only those finished later than this.
        """
        ...

    async def by_the_hour(self, shop_id: str, *, dead: bool, before: datetime, hours: int) -> list[int]:
        """Count successful deliveries or dead letters per hour.

        Args:
            shop_id: of the deliveries.
            dead: count the dead letters.
            before: the end of the last hour, exclusive.
            hours: the number of hours.

        Returns:
            One count per hour, the earliest first.
        """
        ...

    async def count_delivered(self, shop_id: str, *, since: datetime, before: datetime) -> int:
        """Count the successful deliveries of a period. For the arguments see `delivered`."""
        ...

    async def delivered(self, shop_id: str, *, since: datetime, before: datetime) -> list[DeliveredEntry]:
        """Return the successful deliveries of a period, in the order of their events.

        Args:
            shop_id: of the deliveries.
            since: the beginning, inclusive.
            before: the end, exclusive.
        """
        ...

    async def delivery(self, shop_id: str, seq: int) -> StoredDelivery | None:
        """Return one delivery: waiting, successful, or a dead letter. None if none has this seq."""
        ...

    async def delivery_records(self, shop_id: str, keys: Collection[str]) -> list[DeliveryRecord]:
        """Return the records of the deliveries of these keys, in the order of the deliveries."""
        ...

    async def past_deliveries(self, shop_id: str, *, since: datetime, limit: int) -> list[PastDelivery]:
        """Return deliveries with their texts, the latest first: waiting ones, delivered ones, dead letters.

        Those without a text, or with a damaged one, are left out.

        Args:
            shop_id: of the deliveries.
            since: only those whose `DeliveryRecord.at` is then or later.
            limit: the most deliveries to return.
        """
        ...


class DeadLetters(Protocol):
    """Puts finished deliveries back into the outbox, or deletes them. Requires no lease."""

    async def dead_ids(
        self,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """Return the dead letters' seqs, in the order of their events, however often each was replayed.

        Args:
            shop_id: of the dead letters.
            sink: only those to this sink.
            since: only those that failed then or later.
            before: only those that failed earlier than this.
        """
        ...

    async def dead_letter(self, shop_id: str, seq: int) -> DeadLetter | None:
        """Return one dead letter; None if none has this seq."""
        ...

    async def replay_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put dead letters back into the outbox, in the order of their events, in one atomic commit.

        Each receives a new seq behind the deliveries that wait already. It keeps its event's id, its body and
        its log of attempts; the charged ones start at 0. A seq is skipped if it is no longer a dead letter,
        or if its event waits for the same sink already.

        Args:
            shop_id: of the dead letters.
            seqs: about a hundred at most, because the daemon waits meanwhile.
            now: they are created and due at this time.

        Returns:
            The number of dead letters that were put back.
        """
        ...

    async def drop_concurrently(self, shop_id: str, seqs: Collection[int]) -> int:
        """Delete dead letters in one atomic commit.

        Returns:
            The number of deleted dead letters.
        """
        ...

    async def resend_concurrently(self, shop_id: str, seqs: Collection[int], now: datetime) -> int:
        """Put successful deliveries back into the outbox; for the rest see `replay_concurrently`.

        Each is removed from the history, because a delivery is in one place only. One without its text is
        skipped.

        Returns:
            The number of deliveries that were put back.
        """
        ...


class AlertState(Protocol):
    """The active alerts."""

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """Return the active alerts, by service."""
        ...

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Store an alert and add its notifications to the outbox, in one atomic commit.

        A second call with the same alert has no effect: the answer to the first call may have been lost.
        """
        ...

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Delete an alert and add the notifications of its end to the outbox, in one atomic commit.

        A second call has no effect.
        """
        ...


class StateView(Clock, Protocol):
    """The data that health, metrics and the status page show of a shop. Read-only; requires no lease."""

    async def load(self, shop_id: str) -> ShopState | None:
        """See `OrderState.load`."""
        ...

    async def holder(self) -> str:
        """See `Lease.holder`."""
        ...

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """See `AlertState.alerts`."""
        ...

    async def stats(self, shop_id: str) -> Stats:
        """Count the shop's orders, deliveries and damaged rows."""
        ...

    async def tallies(self, shop_id: str, days: Collection[date] | None = None) -> dict[date, OrderTally]:
        """See `OrderState.tallies`."""
        ...

    async def rows_set_aside(self, shop_id: str) -> list[RowSetAside]:
        """Return the stored rows that were damaged, the latest first, a bounded number."""
        ...


class Store(
    OrderState, Retention, Outbox, DeliveryHistory, DeadLetters, AlertState, StateView, Lease, Protocol
):
    """One open state. The code that opens it also closes it, and gives each user the port that it needs."""

    async def aclose(self) -> None:
        """Close the state and release the lease; never raises."""
        ...


class Membership(Protocol):
    """The replicas that share the shops of a fleet, seen by one of them. All methods raise TemporaryError."""

    async def stay(self) -> list[str]:
        """Announce this replica and return the names of all replicas. The announcement expires soon."""
        ...

    async def reports(self, unreached: Sequence[str], there: Sequence[str]) -> dict[str, frozenset[str]]:
        """Report which shops are not reached from here, and return the reports of the other replicas.

        Args:
            unreached: the ids of shops, or only core.reach.EVERYTHING.
            there: the existing replicas, as `stay` returned them.

        Returns:
            The shops that each existing replica does not reach, by replica.
        """
        ...

    async def leave(self) -> None:
        """Announce that this replica leaves, so that the others need not wait for its expiry."""
        ...

    async def leased(self, prefixes: Sequence[str]) -> list[bool]:
        """Return whether each shop's lease is taken, in the order of the prefixes."""
        ...
