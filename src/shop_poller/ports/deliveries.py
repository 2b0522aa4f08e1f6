"""The stored data of deliveries: new ones, outcomes of attempts, and records of finished ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shop_poller.core.attempts import NO_ATTEMPTS, Attempt, AttemptLog
from shop_poller.core.model import Delivery, Notification


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """A new row of the outbox: one event for one sink.

    Attributes:
        body: the JSON that every attempt sends; see MessageFormat.render.
    """

    sink: str
    notification: Notification
    body: str


@dataclass(frozen=True, slots=True)
class Ack:
    """The sink accepted it: the row leaves the outbox.

    Attributes:
        new_attempts: the attempts since the claim, in their order; likewise in the other outcomes.
    """

    delivery: Delivery
    new_attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class Retry:
    """The attempt failed: the row waits until `at`. It is charged if the row itself caused the failure."""

    delivery: Delivery
    at: datetime
    error: str
    charged: bool
    new_attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class MoveToDeadLetters:
    """The sink will not accept it: the row becomes a dead letter."""

    delivery: Delivery
    reason: str
    new_attempts: Sequence[Attempt] = ()


@dataclass(frozen=True, slots=True)
class Release:
    """The attempts, if there were any, decided nothing: the row can be claimed again."""

    delivery: Delivery
    new_attempts: Sequence[Attempt] = ()


Outcome = Ack | Retry | MoveToDeadLetters | Release


@dataclass(frozen=True, slots=True)
class FinishedDelivery:
    """A finished delivery: it was delivered, or is a dead letter.

    Attributes:
        seq: identifies it among the deliveries of its shop and kind.
        key: the order's id, or the alert's subject.
        attempts: charged failures.
        at: when it was delivered or became a dead letter.
        reason: why it became a dead letter; "" if it was delivered.
        first_seq: its seq before it was first put back into the outbox; 0 if it never was.
        attempt_log: all its attempts, also those before it was put back.
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
    attempt_log: AttemptLog = NO_ATTEMPTS

    @property
    def sort_key(self) -> tuple[int, int]:
        """Sorts deliveries as the events happened: their first seq, then the present one."""
        return self.first_seq or self.seq, self.seq


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A failed delivery, with its text.

    Attributes:
        body: the notification's JSON, as it was sent.
        created_at: when it was added to the outbox, most recently if it was replayed.
    """

    over: FinishedDelivery
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveredEntry:
    """A successful delivery.

    Attributes:
        kept: whether its text is stored too, so that it can be sent again. Earlier versions stored none.
    """

    over: FinishedDelivery
    kept: bool


class DeliveryStatus(StrEnum):
    """The status of a delivery."""

    WAITING = "waiting"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One delivery with its text, whatever its status.

    Attributes:
        over: what is stored of it; if it waits, `at` is when it was created.
        body: the notification's JSON, as it is sent; "" if an earlier version delivered it and kept no text.
        created_at: when it was added to the outbox, most recently if it was put back.
    """

    status: DeliveryStatus
    over: FinishedDelivery
    body: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryRecord:
    """The stored data of one delivery.

    Attributes:
        key: the order's id, or the alert's subject.
        at: when it was delivered or became a dead letter; if it waits, when it was created.
    """

    sink: str
    key: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    at: datetime


@dataclass(frozen=True, slots=True)
class PastDelivery:
    """One delivery with its text, whatever its status.

    Attributes:
        body: the notification's JSON.
    """

    record: DeliveryRecord
    body: str
