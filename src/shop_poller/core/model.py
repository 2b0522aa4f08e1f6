"""The things that the house talks about. All frozen; all instants are aware UTC."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any


class EventType(StrEnum):
    """What can happen, by its name on the wire; what the owner names besides is plain text."""

    NEW = "shop.order.new"
    CANCELLED = "shop.order.cancelled"
    REFUNDED = "shop.order.refunded"
    FAILED = "shop.order.failed"
    PARTIALLY_REFUNDED = "shop.order.partially_refunded"
    PAYMENT_OVERDUE = "shop.order.payment_overdue"
    SILENCE = "shop.silence"
    UNHEALTHY = "service.unhealthy"
    RECOVERED = "service.recovered"
    DEAD_LETTERS = "service.dead_letters"
    TEST = "service.test"


ALERTS = frozenset({EventType.UNHEALTHY, EventType.RECOVERED, EventType.DEAD_LETTERS})
"""What tells administrators of a fault, perhaps of the one that its own delivery meets."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back.

    Attributes:
        amount: a positive decimal number as text, e.g. "100.00"; "" if it could not be read.
        created_at: when it was made, by the shop's clock. An order does not tell; only the shop's list of
            refunds does, see core.refunds. None where nobody looked.
    """

    id: int
    amount: str
    created_at: datetime | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no money was given back: a refund that restocks, or one that is not written whole yet."""
        return bool(self.amount) and not amount_of(self.amount)


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the source showed it: what deciding and telling need, and nothing more of the buyer.

    Attributes:
        total: gross, a decimal number as text, as the shop writes it; "" if it could not be read.
        currency: ISO 4217 code, e.g. "RUB".
        currency_sign: what people write, e.g. "₽".
        customer: the buyer's first name; "" if the shop has none.
        refunds: None where the source cannot see refunds, which is not the same as none.
    """

    id: int
    number: str
    status: str
    total: str
    currency: str
    currency_sign: str
    customer: str
    created_at: datetime
    modified_at: datetime
    paid_at: datetime | None = None
    refunds: tuple[Refund, ...] | None = ()


@dataclass(frozen=True, slots=True)
class UnreadableOrder:
    """An order that was listed and could not be read: to be named and set aside, never to stop the rest.

    Attributes:
        reason: one line, without personal data.
        modified_at: if that much could be read.
        created_at: likewise.
    """

    id: int
    reason: str
    modified_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One question to a source: a page of the orders that match, sorted.

    Attributes:
        newest_first: False sorts by time of modification, ascending; True by creation, descending.
        modified_after: exclusive.
        created_after: exclusive.
        created_before: exclusive.
        statuses: as the shop names them; empty means every status that it lists.
        exclude: order ids to leave out.
        ids: these orders and no others, as many as Source.most_ids at once; empty means all.
        page: which page of the answer, from 1. Only a shop that hides whole pages is asked for another
            than the first: see cursor.Keyset.
    """

    per_page: int
    newest_first: bool = False
    modified_after: datetime | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    statuses: tuple[str, ...] = ()
    exclude: frozenset[int] = frozenset()
    ids: frozenset[int] = frozenset()
    page: int = 1


@dataclass(frozen=True, slots=True)
class Page:
    """A source's answer to a Query, in the source's order.

    Its length says nothing about the end of the list: sites cap the page size, and plugins and rights take
    orders out of a page after it was selected.

    Attributes:
        items: each order once, as its last row shows it: a join makes several rows of one.
        shop_time: the shop's own clock when it answered.
        preamble: text that stood around the answer (PHP notices), cut to one line; "" if none.
        total: how many orders match the query, by the shop's own count (X-WP-Total); None if not told.
        total_pages: how many pages they fill, by the shop's own count (X-WP-TotalPages); None if not told.
    """

    items: tuple[Order | UnreadableOrder, ...]
    shop_time: datetime
    preamble: str = ""
    total: int | None = None
    total_pages: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "items", tuple({item.id: item for item in self.items}.values()))

    @property
    def orders(self) -> list[Order]:
        """Those that could be read."""
        return [item for item in self.items if isinstance(item, Order)]


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """What was last seen of an order, and what has been announced of it.

    Attributes:
        announced_new: its `new` was announced, or counts as such because it was learned paid.
        decided: how often each event type was decided for it.
        refund_ids: refunds announced or learned; None while no source has shown refunds.
        awaiting_since: since when it waits to be paid, by the shop's clock; None if it does not, or in a
            record of an earlier version.
        silent_refund_ids: those of refund_ids that were recorded without an event, because it was not known
            whether they are older than the baseline. One that the shop's list of refunds dates later is news.
    """

    id: int
    status: str
    modified_at: datetime
    announced_new: bool = False
    decided: Mapping[str, int] = field(default_factory=dict)
    refund_ids: frozenset[int] | None = None
    awaiting_since: datetime | None = None
    silent_refund_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class StatusEvent:
    """What the owner wants to be told of an order that comes into a status (SHOP_STATUS_EVENTS).

    Attributes:
        event: its name on the wire.
        level: as in messages.LEVELS.
        title: may have placeholders in it, see status_events.PLACEHOLDERS.
        message: likewise.
    """

    event: str
    level: str
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """How long an order has been waiting to be paid, by the shop's clock."""

    since: datetime
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """Something happened to an order.

    Attributes:
        n: which one of its type for this order, from 1; for a partial refund the refund's id.
        paid: whether money had come in before.
        refund: of a partial refund.
        fully_refunded: of a partial refund: with it all of the money was given back.
        words: of an event that the owner named.
        wait: of a payment that is overdue.
    """

    type: str
    order: Order
    n: int
    paid: bool
    refund: Refund | None = None
    fully_refunded: bool = False
    words: StatusEvent | None = None
    wait: Wait | None = None


@dataclass(frozen=True, slots=True)
class Notification:
    """What a receiver gets: docs/notifications.md.

    Attributes:
        key: deliveries of one key keep their order at each sink (an order's id, the alerts', silence).
    """

    key: str
    event_id: str
    event_type: str
    level: str
    source_id: str
    title: str
    message: str
    data: Mapping[str, Any]
    created_at: datetime
    brand_id: str | None = None
    target_roles: tuple[str, ...] | None = None
    target_users: tuple[str, ...] | None = None

    def wire(self) -> dict[str, Any]:
        """The notification as the JSON object that goes out."""
        return {
            "event_id": self.event_id,
            "event_type": str(self.event_type),
            "level": self.level,
            "source_module": "shop",
            "source_id": self.source_id,
            "title": self.title,
            "message": self.message,
            "data": dict(self.data),
            "brand_id": self.brand_id,
            "target_roles": self.target_roles,
            "target_users": self.target_users,
            "created_at": iso(self.created_at),
        }

    def body(self) -> str:
        """The JSON text that goes out."""
        return json.dumps(self.wire(), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the outbox: one event on its way to one sink.

    Attributes:
        seq: grows with every row; the order of delivery within a key.
        key: see Notification.
        body: the notification's JSON, the same bytes at every attempt.
        attempts: claims that failed and were charged to this row.
        head_since: when it became the oldest undelivered row of its key and sink.
        first_seq: the seq that it had before it was first put back into the outbox; 0: it never was.
    """

    seq: int
    shop_id: str
    sink: str
    key: str
    event_id: str
    event_type: str
    body: str
    attempts: int
    created_at: datetime
    head_since: datetime
    first_seq: int = 0

    def waits_since(self, now: datetime) -> datetime:
        """`head_since`, but not before the notification was written.

        A clock that was behind may have dated the row by years too early. `created_at` of the notification is
        the shop's date then.

        Args:
            now: what our clock says; what was written after that tells nothing, since the clock is behind.
        """
        try:
            written_at = datetime.fromisoformat(json.loads(self.body)["created_at"])
            return max(self.head_since, written_at) if written_at <= now else self.head_since
        except (KeyError, TypeError, ValueError):  # a body of an old version, or without a zone
            return self.head_since


def amount_of(number: str) -> Decimal:
    """The value of a decimal number as text; 0 of one that could not be read ("")."""
    return Decimal(number or 0)


def iso(instant: datetime) -> str:
    """An instant as ISO 8601 in UTC with milliseconds, e.g. "2026-11-23T09:50:00.000Z"."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
