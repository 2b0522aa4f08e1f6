"""The data types of the program. All are frozen; all instants are aware UTC."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Any

from shop_poller.core.attempts import NO_ATTEMPTS, AttemptLog


class EventType(StrEnum):
    """The event types, by their names on the wire; names that the owner adds are plain text."""

    NEW = "shop.order.new"
    PLACED = "shop.order.placed"
    CANCELLED = "shop.order.cancelled"
    REFUNDED = "shop.order.refunded"
    FAILED = "shop.order.failed"
    PARTIALLY_REFUNDED = "shop.order.partially_refunded"
    PAYMENT_OVERDUE = "shop.order.payment_overdue"
    SILENCE = "shop.silence"
    DIGEST = "shop.digest"
    UNHEALTHY = "service.unhealthy"
    RECOVERED = "service.recovered"
    DEAD_LETTERS = "service.dead_letters"
    TEST = "service.test"


ALERTS = frozenset({EventType.UNHEALTHY, EventType.RECOVERED, EventType.DEAD_LETTERS})
"""Events that notify administrators of a failure; the delivery of such an event may meet the same failure."""


@dataclass(frozen=True, slots=True)
class Refund:
    """Money given back.

    Attributes:
        amount: a positive decimal number as text, e.g. "100.00"; "" if it could not be read.
        created_at: when it was made, by the shop's clock. An order does not include this date; only the
            shop's list of refunds does, see core.refunds. None if that was not read.
    """

    id: int
    amount: str
    created_at: datetime | None = None

    @property
    def is_nothing(self) -> bool:
        """Whether no money was given back: the refund only restocks, or is not completely written yet."""
        return bool(self.amount) and not amount_of(self.amount)


class BuyerField(StrEnum):
    """What SHOP_BUYER_FIELDS may name: data about the buyer besides the first name."""

    LAST_NAME = "last_name"
    PHONE = "phone"
    EMAIL = "email"
    ADDRESS = "address"
    NOTE = "note"


@dataclass(frozen=True, slots=True)
class OrderItem:
    """One line of an order.

    Attributes:
        name: of the product, as the shop writes it.
        quantity: a decimal number as text, e.g. "2"; "" if it could not be read.
        total: the price of the whole line without taxes, as text; "" if it could not be read.
    """

    name: str
    quantity: str
    total: str


@dataclass(frozen=True, slots=True)
class Order:
    """An order as the source returned it: what decisions and notifications need, and no more personal data.

    Attributes:
        total: gross, a decimal number as text, as the shop writes it; "" if it could not be read.
        currency: ISO 4217 code, e.g. "RUB".
        currency_sign: what people write, e.g. "₽".
        customer: the buyer's first name; "" if the shop has none.
        refunds: empty if there are none; None if the source cannot see refunds.
        items: the first lines of the order; None if they were not requested or the source cannot see them.
        more_items: how many lines follow them.
        payment_code: the shop's own name of the way to pay, e.g. "bacs"; "" if it has none.
        payment_method: its name for people, in the shop's language.
        shipping_method: the name of the way of delivery, for people.
        buyer: more about the buyer; empty unless the owner named some fields.
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
    items: tuple[OrderItem, ...] | None = None
    more_items: int = 0
    payment_code: str = ""
    payment_method: str = ""
    shipping_method: str = ""
    buyer: Mapping[BuyerField, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class UnreadableOrder:
    """An order that was listed but could not be read. It is named and set aside, and never blocks the others.

    Attributes:
        reason: one line, without personal data.
        modified_at: None if it could not be read.
        created_at: None if it could not be read.
    """

    id: int
    reason: str
    modified_at: datetime | None = None
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """One request to a source: a page of the matching orders, sorted.

    Attributes:
        newest_first: False sorts by time of modification, ascending; True by creation, descending.
        modified_after: exclusive.
        created_after: exclusive.
        created_before: exclusive.
        statuses: as the shop names them; empty means every status that it lists.
        exclude: order ids to exclude.
        ids: only these orders, at most Source.most_ids at once; empty means all.
        page: which page of the result, from 1. Other pages than the first are requested only from a shop that
            hides whole pages: see cursor.KeysetPosition.
        with_items: request the lines of each order and its way of delivery, too; they cost the shop more.
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
    with_items: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """A source's response to a Query, in the source's order.

    Its length says nothing about the end of the list: sites cap the page size, and plugins and permissions
    remove orders from a page after it was selected.

    Attributes:
        items: each order once, as its last row shows it; a join may return one order as several rows.
        shop_time: the shop's own clock at the time of the response.
        preamble: text around the response (PHP notices), cut to one line; "" if none.
        total: how many orders match the query, by the shop's own count (X-WP-Total); None if not reported.
        total_pages: how many pages they fill, by the shop's own count (X-WP-TotalPages); None if not
            reported.
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
        """The orders that could be read."""
        return [item for item in self.items if isinstance(item, Order)]


@dataclass(frozen=True, slots=True)
class KnownOrder:
    """The last seen state of an order, and what has been announced about it.

    Attributes:
        announced_new: its `new` was announced, or counts as announced because it was imported as paid.
        decided: how often each event type was decided for it.
        refund_ids: refunds announced or imported; None while no source has shown refunds.
        awaiting_since: since when it awaits payment, by the shop's clock; None if it does not, or in a
            record of an earlier version.
        silent_refund_ids: those of refund_ids that were recorded without an event, because it was unknown
            whether they are older than the baseline. If the shop's list of refunds shows a later date, the
            refund is announced.
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
    """The notification that the owner defines for orders that enter a status (SHOP_STATUS_EVENTS).

    Attributes:
        event: its name on the wire.
        level: as in messages.LEVELS.
        title: may contain placeholders, see status_events.PLACEHOLDERS.
        message: may contain placeholders, too.
    """

    event: str
    level: str
    title: str
    message: str


@dataclass(frozen=True, slots=True)
class Wait:
    """How long an order has been awaiting payment, by the shop's clock."""

    since: datetime
    lasted: timedelta


@dataclass(frozen=True, slots=True)
class OrderEvent:
    """Something happened to an order.

    Attributes:
        occurrence: how often this type was decided for the order, including this time. For a partial refund,
            the id of the refund. It is part of the event id.
        paid: whether the order has ever been paid.
        refund: the refund, for a partial refund.
        fully_refunded: for a partial refund, whether all of the money has been given back with it.
        status_event: for an event that the owner defined, with its texts.
        wait: for an overdue payment.
        previous_status: the status before, as the shop names it; "" if it is not known.
        was_announced: whether the order itself was announced before, as placed or as new.
        earlier_refund_ids: refunds of the order that were recorded before this event, or are older than the
            baseline.
    """

    type: str
    order: Order
    occurrence: int
    paid: bool
    refund: Refund | None = None
    fully_refunded: bool = False
    status_event: StatusEvent | None = None
    wait: Wait | None = None
    previous_status: str = ""
    was_announced: bool = False
    earlier_refund_ids: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Notification:
    """What a receiver gets; see docs/notifications.md.

    Attributes:
        key: deliveries of one key keep their order at each sink. It is an order's id, that of an alert,
            "silence" or "digest".
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
        """Return the notification as the JSON object that is sent."""
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

    @classmethod
    def of_wire(cls, wire: Mapping[str, Any], *, key: str) -> "Notification":
        """Return the notification that `wire` was made from.

        Args:
            wire: the JSON object; anything besides is ignored.
            key: of its deliveries.

        Raises:
            KeyError, TypeError, ValueError: it is no notification.
        """
        return cls(
            key=key,
            event_id=wire["event_id"],
            event_type=wire["event_type"],
            level=wire["level"],
            source_id=wire["source_id"],
            title=wire["title"],
            message=wire["message"],
            data=wire["data"],
            created_at=datetime.fromisoformat(wire["created_at"]),
            brand_id=wire["brand_id"],
            target_roles=_words(wire["target_roles"]),
            target_users=_words(wire["target_users"]),
        )

    def body(self) -> str:
        """Return the JSON text that is sent."""
        return json.dumps(self.wire(), ensure_ascii=False)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A row of the outbox: one event on its way to one sink.

    Attributes:
        seq: grows with every row; the order of delivery within a key.
        key: see Notification.
        body: the notification's JSON, the same bytes at every attempt.
        attempts: failed claims that count for this row.
        head_since: when it became the oldest undelivered row of its key and sink.
        first_seq: its seq before it was first put back into the outbox; 0 if it never was.
        attempt_log: all its attempts, also those before it was put back.
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
    attempt_log: AttemptLog = NO_ATTEMPTS

    @classmethod
    def unstored(cls, notification: Notification, *, shop_id: str, sink: str, body: str) -> "Delivery":
        """Return a delivery that is in no outbox: for a test, or a preview."""
        return cls(
            seq=0,
            shop_id=shop_id,
            sink=sink,
            key=notification.key,
            event_id=notification.event_id,
            event_type=notification.event_type,
            body=body,
            attempts=0,
            created_at=notification.created_at,
            head_since=notification.created_at,
        )

    def waits_since(self, now: datetime) -> datetime:
        """Return `head_since`, but not before the notification was written.

        A clock that was behind may have dated the row years too early. In this case, `created_at` of the
        notification is the shop's date.

        Args:
            now: our clock. A later `created_at` is ignored, because the clock is behind.
        """
        try:
            written_at = datetime.fromisoformat(json.loads(self.body)["created_at"])
            return max(self.head_since, written_at) if written_at <= now else self.head_since
        except (KeyError, TypeError, ValueError):  # a body of an old version, or without a zone
            return self.head_since


@dataclass(frozen=True, slots=True)
class GroupDelivery(Delivery):
    """One message for several rows of the outbox; core.grouping.compose writes it.

    `seq`, `key` and the dates are those of the first row, `attempts` is the most of all rows.

    Attributes:
        rows: the deliveries that it contains, of different keys, in their order. All have its outcome.
    """

    rows: tuple[Delivery, ...] = ()


def _words(value: Sequence[str] | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(value)


def amount_of(number: str) -> Decimal:
    """Return the value of a decimal number as text; 0 for one that could not be read ("")."""
    return Decimal(number or 0)


def iso(instant: datetime) -> str:
    """Format an instant as ISO 8601 in UTC with milliseconds, e.g. "2026-11-23T09:50:00.000Z"."""
    return instant.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
