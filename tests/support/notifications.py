"""Notifications of every event, as examples: for golden files, pictures and tests of sinks."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import (
    Locale,
    MessageFormat,
    ShopInfo,
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
from shop_poller.core.rich_format import RichFormat
from shop_poller.locales import texts

SHOP = "shop.example"
NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)
ITEMS: dict[Locale, tuple[OrderItem, ...]] = {
    "ru": (OrderItem("Мёд липовый", "2", "4990.00"), OrderItem("Прополис", "1", "1000.00")),
    "en": (OrderItem("Linden honey", "2", "49.90"), OrderItem("Propolis", "1", "10.00")),
}
WAYS = {"ru": ("СБП", "СДЭК"), "en": ("PayPal", "DHL")}
MONEY = {"ru": ("5990.00", "1000.00", "RUB", "₽"), "en": ("1234.50", "100.00", "USD", "$")}
NAMES = {"ru": "Анна", "en": "Anna"}


def message_format(locale: Locale) -> MessageFormat:
    return MessageFormat(
        SHOP, locale, shop=ShopInfo("Пасека" if locale == "ru" else "Apiary", f"https://{SHOP}")
    )


def rich_format(locale: Locale, *, names_shop: bool = False) -> RichFormat:
    return RichFormat(locale, texts(locale), ZoneInfo("Europe/Moscow"), names_shop=names_shop)


def order(locale: Locale, **changes: Any) -> Order:
    total, _, currency, sign = MONEY[locale]
    known: dict[str, Any] = {
        "id": 1002,
        "number": "1002",
        "status": "processing",
        "total": total,
        "currency": currency,
        "currency_sign": sign,
        "customer": NAMES[locale],
        "created_at": NOW,
        "modified_at": NOW,
        "items": ITEMS[locale],
        "payment_code": "sbp",
        "payment_method": WAYS[locale][0],
        "shipping_method": WAYS[locale][1],
    }
    return Order(**(known | changes))


def examples(locale: Locale) -> Iterator[tuple[str, Notification]]:
    """Every built-in event, with a name for each example."""
    written = message_format(locale)
    total, part, _, _ = MONEY[locale]
    since = NOW - timedelta(hours=26)

    def event(type_: str, of: Order, *, paid: bool = True, **more: Any) -> Notification:
        return order_notification(OrderEvent(type_, of, occurrence=1, paid=paid, **more), written, now=NOW)

    plain = order(locale)
    yield "new", event(EventType.NEW, plain)
    yield (
        "new, long",
        event(EventType.NEW, order(locale, items=ITEMS[locale] * 20, more_items=7, customer="")),
    )
    yield (
        "new, little is known",
        event(
            EventType.NEW,
            order(locale, total="", items=None, payment_method="", shipping_method="", customer=""),
        ),
    )
    buyer = {
        BuyerField.LAST_NAME: "Петрова",
        BuyerField.PHONE: "+7 900 000-00-00",
        BuyerField.EMAIL: "anna@example.org",
        BuyerField.ADDRESS: "ул. Мира, 1, Тула",
        BuyerField.NOTE: "после 18:00",
    }
    yield "new, with personal data", event(EventType.NEW, order(locale, buyer=buyer))
    yield "placed", event(EventType.PLACED, order(locale, status="on-hold"), paid=False)
    yield "new, announced as placed before", event(EventType.NEW, plain, was_announced=True)
    yield "cancelled", event(EventType.CANCELLED, plain)
    yield "cancelled, unpaid", event(EventType.CANCELLED, plain, paid=False)
    yield "refunded", event(EventType.REFUNDED, order(locale, refunds=(Refund(7, total),)))
    yield "failed", event(EventType.FAILED, plain, paid=False)
    first, second = Refund(7, part), Refund(8, part)
    yield (
        "partially refunded",
        event(EventType.PARTIALLY_REFUNDED, order(locale, refunds=(first,)), refund=first),
    )
    yield (
        "partially refunded again",
        event(EventType.PARTIALLY_REFUNDED, order(locale, refunds=(first, second)), refund=second),
    )
    yield (
        "partially refunded, all of it",
        event(
            EventType.PARTIALLY_REFUNDED,
            order(locale, refunds=(Refund(7, total),)),
            refund=Refund(7, total),
            fully_refunded=True,
        ),
    )
    wait = Wait(since, lasted=timedelta(hours=26))
    yield "payment overdue", event(EventType.PAYMENT_OVERDUE, plain, paid=False, wait=wait)
    own = StatusEvent("shop.order.packing", "info", "Packing {id}", "Order {number} of {customer}")
    yield "an event of the owner's", event(own.event, plain, status_event=own)
    yield "silence", silence_notification(since, written, now=NOW)
    for type_ in (EventType.UNHEALTHY, EventType.RECOVERED):
        alert = alert_notification(
            type_, written, service=SHOP, cause=ErrorKind.TIMEOUT, since=since, now=NOW
        )
        yield type_.value, alert
    yield (
        "dead letters",
        dead_letters_notification(
            "crm", written, count=3, reason="the receiver answered 422", since=since, now=NOW
        ),
    )
    yield "test", sample_notification(written, now=NOW)
