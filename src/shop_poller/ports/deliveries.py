"""What is stored of deliveries: new ones, outcomes of attempts, and the records of those that are over."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shop_poller.core.model import Delivery, Notification


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
