"""Examples of every notification: for the check and the preview of templates, and for tests. Pure."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from shop_poller.core.digests import Digest, Period, digest_notification
from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import (
    Locale,
    MessageFormat,
    alert_notification,
    dead_letters_notification,
    order_notification,
    sample_notification,
    silence_notification,
)
from shop_poller.core.model import (
    BuyerField,
    EventType,
    Notification,
    Order,
    OrderEvent,
    OrderItem,
    Refund,
    StatusEvent,
    Wait,
)
from shop_poller.core.tallies import Amounts, CurrencySum, OrderTally
from shop_poller.core.translatable import Text

ITEMS: dict[Locale, tuple[OrderItem, ...]] = {
    "ru": (OrderItem("Мёд липовый", "2", "4990.00"), OrderItem("Прополис", "1", "1000.00")),
    "en": (OrderItem("Linden honey", "2", "49.90"), OrderItem("Propolis", "1", "10.00")),
}
WAYS = {"ru": ("СБП", "СДЭК"), "en": ("PayPal", "DHL")}
MONEY = {"ru": ("5990.00", "1000.00", "RUB", "₽"), "en": ("1234.50", "100.00", "USD", "$")}
NAMES = {"ru": "Анна", "en": "Anna"}
WAITED = timedelta(hours=26)
BUYER = {
    BuyerField.LAST_NAME: "Петрова",
    BuyerField.PHONE: "+7 900 000-00-00",
    BuyerField.EMAIL: "anna@example.org",
    BuyerField.ADDRESS: "ул. Мира, 1, Тула",
    BuyerField.NOTE: "после 18:00",
}
OWN = StatusEvent("shop.order.packing", "info", "Packing {id}", "Order {number} of {customer}")


def example_order(locale: Locale, *, now: datetime, **changes: Any) -> Order:
    """Return an order as people of a language place it.

    Args:
        locale: the language.
        now: when it was placed.
        changes: fields with other values.
    """
    total, _, currency, sign = MONEY[locale]
    known: dict[str, Any] = {
        "id": 1002,
        "number": "1002",
        "status": "processing",
        "total": total,
        "currency": currency,
        "currency_sign": sign,
        "customer": NAMES[locale],
        "created_at": now,
        "modified_at": now,
        "items": ITEMS[locale],
        "payment_code": "sbp",
        "payment_method": WAYS[locale][0],
        "shipping_method": WAYS[locale][1],
    }
    return Order(**(known | changes))


def examples(
    message_format: MessageFormat, *, now: datetime, own: tuple[StatusEvent, ...] = (OWN,)
) -> Iterator[tuple[str, Notification]]:
    """Yield notifications of every event, each with a name.

    Args:
        message_format: how they are written.
        now: when they are written.
        own: the events that the owner has defined.
    """
    locale = message_format.locale
    total, part, _, _ = MONEY[locale]
    since = now - WAITED

    def order(**changes: Any) -> Order:
        return example_order(locale, now=now, **changes)

    def event(type_: str, of: Order, *, paid: bool = True, **more: Any) -> Notification:
        return order_notification(
            OrderEvent(type_, of, occurrence=1, paid=paid, **more), message_format, now=now
        )

    yield Text("new"), event(EventType.NEW, order())
    yield (
        Text("new, long"),
        event(EventType.NEW, order(items=ITEMS[locale] * 20, more_items=7, customer="")),
    )
    yield (
        Text("new, little is known"),
        event(
            EventType.NEW,
            order(total="", items=None, payment_method="", shipping_method="", customer=""),
        ),
    )
    yield Text("new, with personal data"), event(EventType.NEW, order(buyer=BUYER))
    yield Text("placed"), event(EventType.PLACED, order(status="on-hold"), paid=False)
    yield Text("new, announced as placed before"), event(EventType.NEW, order(), was_announced=True)
    yield Text("cancelled"), event(EventType.CANCELLED, order(), was_announced=True)
    yield Text("cancelled, unpaid"), event(EventType.CANCELLED, order(), paid=False, was_announced=True)
    yield Text("refunded"), event(EventType.REFUNDED, order(refunds=(Refund(7, total),)))
    yield Text("failed"), event(EventType.FAILED, order(), paid=False)
    first, second = Refund(7, part), Refund(8, part)
    yield (
        Text("partially refunded"),
        event(EventType.PARTIALLY_REFUNDED, order(refunds=(first,)), refund=first),
    )
    yield (
        Text("partially refunded again"),
        event(EventType.PARTIALLY_REFUNDED, order(refunds=(first, second)), refund=second),
    )
    yield (
        Text("partially refunded, all of it"),
        event(
            EventType.PARTIALLY_REFUNDED,
            order(refunds=(Refund(7, total),)),
            refund=Refund(7, total),
            fully_refunded=True,
        ),
    )
    wait = Wait(since, lasted=WAITED)
    yield Text("payment overdue"), event(EventType.PAYMENT_OVERDUE, order(), paid=False, wait=wait)
    for words in own:
        name = Text("an event of the owner's") if words is OWN else words.event
        yield name, event(words.event, order(), status_event=words)
    yield from _digest_examples(message_format, now=now)
    yield Text("silence"), silence_notification(since, message_format, now=now)
    for type_ in (EventType.UNHEALTHY, EventType.RECOVERED):
        alert = alert_notification(
            type_,
            message_format,
            service=message_format.shop_id,
            cause=ErrorKind.TIMEOUT,
            since=since,
            now=now,
        )
        yield type_.value, alert
    yield (
        Text("dead letters"),
        dead_letters_notification(
            "crm", message_format, count=3, reason="the receiver answered 422", since=since, now=now
        ),
    )
    yield Text("test"), sample_notification(message_format, now=now)


def _digest_examples(message_format: MessageFormat, *, now: datetime) -> Iterator[tuple[str, Notification]]:
    """Yield a digest of a week, one of a day, and one of a day without orders."""
    _, _, currency, sign = MONEY[message_format.locale]

    def amounts(count: int, each: str) -> Amounts:
        return Amounts(count, sums={currency: CurrencySum(sign, Decimal(each) * count, count)})

    after = OrderTally(
        amounts(12, "7025.00"), amounts(3, "990.00"), amounts(2, "990.00"), amounts(1, "990.00")
    )
    before = OrderTally(amounts(10, "7144.00"), amounts(1, "990.00"), Amounts(), amounts(2, "750.00"))
    end = now.date()
    day, week = (Period(end - timedelta(days=days), end) for days in (1, 7))
    for name, digest in (
        (Text("weekly digest"), Digest(week, after, before)),
        (Text("daily digest"), Digest(day, before, None, counted_since=now - timedelta(hours=20))),
        (Text("daily digest, without orders"), Digest(day, OrderTally(), before)),
    ):
        yield name, digest_notification("owner", digest, message_format, now=now)
