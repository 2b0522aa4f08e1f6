"""Writes notifications for people about events, in Russian and in English."""

import math
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from shop_poller.core.digest_texts import digest_texts
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import EventType, Notification, Order, OrderEvent, amount_of, iso

Locale = Literal["ru", "en"]

PLACEHOLDER = re.compile(r"\{[^{}]*\}")
NAMESPACE = uuid.UUID("6f1d2c5e-3b7a-5d0e-9c41-8a2f4e6b7d10")
"""Never changes: every event id is derived from it."""

LEVELS: Mapping[str, str] = {
    EventType.NEW: "info",
    EventType.PLACED: "info",
    EventType.CANCELLED: "warning",
    EventType.REFUNDED: "warning",
    EventType.FAILED: "error",
    EventType.PARTIALLY_REFUNDED: "warning",
    EventType.PAYMENT_OVERDUE: "warning",
    EventType.SILENCE: "warning",
    EventType.DIGEST: "info",
    EventType.UNHEALTHY: "critical",
    EventType.RECOVERED: "info",
    EventType.DEAD_LETTERS: "error",
    EventType.TEST: "info",
}

ORDER_TEXTS: Mapping[Locale, Mapping[str, tuple[str, str]]] = {
    "ru": {
        EventType.NEW: ("Новый заказ", "Заказ #{id} на сумму {total}"),
        EventType.PLACED: ("Заказ ждёт оплаты", "Заказ #{id} на сумму {total} ждёт оплаты"),
        EventType.CANCELLED: ("Заказ отменён", "Клиент отменил заказ #{id}"),
        EventType.REFUNDED: ("Возврат средств", "Оформлен возврат по заказу #{id}"),
        EventType.FAILED: ("Ошибка оплаты", "Не удалась оплата заказа #{id}"),
        EventType.PARTIALLY_REFUNDED: (
            "Частичный возврат",
            "По заказу #{id} возвращено {amount}",
        ),
        EventType.PAYMENT_OVERDUE: (
            "Оплата просрочена",
            "Заказ #{id} на сумму {total} ждёт оплаты уже {hours} ч",
        ),
    },
    "en": {
        EventType.NEW: ("New order", "Order #{id} for {total}"),
        EventType.PLACED: ("Order placed", "Order #{id} for {total} is waiting for payment"),
        EventType.CANCELLED: ("Order cancelled", "The customer cancelled order #{id}"),
        EventType.REFUNDED: ("Refund", "Order #{id} was refunded"),
        EventType.FAILED: ("Payment failed", "The payment of order #{id} failed"),
        EventType.PARTIALLY_REFUNDED: (
            "Partial refund",
            "{amount} of order #{id} was refunded",
        ),
        EventType.PAYMENT_OVERDUE: (
            "Payment overdue",
            "Order #{id} for {total} has been waiting for payment for {hours} h",
        ),
    },
}

SILENCE_TEXTS: Mapping[Locale, tuple[str, str]] = {
    "ru": (
        "Нет новых заказов",
        "С {since} не было ни одного оплаченного заказа. Проверьте, работает ли оформление заказа",
    ),
    "en": ("No new orders", "There has been no paid order since {since}. Check whether the checkout works"),
}

ALERT_TEXTS: Mapping[Locale, Mapping[str, tuple[str, str]]] = {
    "ru": {
        EventType.UNHEALTHY: ("Сервис недоступен", "{service}: {cause}. Последний успех: {since}"),
        EventType.RECOVERED: ("Сервис восстановлен", "{service} снова работает"),
    },
    "en": {
        EventType.UNHEALTHY: ("Service unhealthy", "{service}: {cause}. Last success: {since}"),
        EventType.RECOVERED: ("Service recovered", "{service} works again"),
    },
}

DEAD_LETTER_TEXTS: Mapping[Locale, tuple[str, str]] = {
    "ru": ("Не доставлено", "{sink}: недоставленных уведомлений {count}, последняя причина: {reason}"),
    "en": ("Dead letters", "{sink}: notifications given up: {count}, the last one because {reason}"),
}

TEST_TEXTS: Mapping[Locale, tuple[str, str]] = {
    "ru": ("Проверка связи", "Уведомления магазина {shop} доходят. Ничего делать не нужно"),
    "en": ("Test", "Notifications of {shop} arrive. Nothing needs to be done"),
}

CAUSES: Mapping[Locale, Mapping[ErrorKind, str]] = {
    "ru": {
        ErrorKind.AUTHENTICATION: "ключи не приняты или без права смотреть заказы",
        ErrorKind.CONNECTION: "нет соединения",
        ErrorKind.TIMEOUT: "не отвечает вовремя",
        ErrorKind.RATE_LIMIT: "слишком много запросов",
        ErrorKind.UNAVAILABLE: "временно недоступен (обслуживание?)",
        ErrorKind.SERVER: "внутренняя ошибка сервера",
        ErrorKind.NOT_FOUND: "адрес или инструмент MCP не найден",
        ErrorKind.PROTOCOL: "отвечает не так, как должен",
        ErrorKind.GONE: "ответил 410 Gone, доставка отключена до перезапуска",
        ErrorKind.REJECTED: "не принимает наш запрос",
        ErrorKind.TOO_LARGE: "слишком большой ответ",
        ErrorKind.NO_SUBSCRIBER: "никто не подписан",
        ErrorKind.CIRCUIT_OPEN: "слишком много ошибок подряд",
        ErrorKind.STORE: "не удаётся сохранить состояние",
        ErrorKind.INTERNAL: "ошибка в shop-poller, сообщите разработчикам",
    },
    "en": {
        ErrorKind.AUTHENTICATION: "keys refused, or without the right to view orders",
        ErrorKind.CONNECTION: "no connection",
        ErrorKind.TIMEOUT: "does not answer in time",
        ErrorKind.RATE_LIMIT: "too many requests",
        ErrorKind.UNAVAILABLE: "unavailable for now (maintenance?)",
        ErrorKind.SERVER: "internal server error",
        ErrorKind.NOT_FOUND: "MCP address or tool not found",
        ErrorKind.PROTOCOL: "does not answer as it should",
        ErrorKind.GONE: "answered 410 Gone, delivery is off until a restart",
        ErrorKind.REJECTED: "does not accept our request",
        ErrorKind.TOO_LARGE: "too large an answer",
        ErrorKind.NO_SUBSCRIBER: "nobody is subscribed",
        ErrorKind.CIRCUIT_OPEN: "too many failures in a row",
        ErrorKind.STORE: "its state cannot be stored",
        ErrorKind.INTERNAL: "a bug in shop-poller, please report it",
    },
}


Renderer = Callable[[Notification], str]


@dataclass(frozen=True, slots=True)
class ShopInfo:
    """Which shop a notification is about.

    Attributes:
        name: for people.
        address: of the shop's WordPress, without a slash at its end; "" if it is not known.
    """

    name: str
    address: str = ""

    def admin_url(self, order_id: int) -> str | None:
        """Return the address of an order in the shop's admin; None if the shop's address is not known.

        WooCommerce redirects it to its own page of orders where it keeps orders in tables of their own
        (PostsRedirectionController).
        """
        if not self.address:
            return None
        return f"{self.address}/wp-admin/post.php?post={order_id}&action=edit"


@dataclass(frozen=True, slots=True)
class MessageFormat:
    """How notifications are written.

    Attributes:
        shop: which shop it is, for receivers of several shops; None stands for its id.
        levels: replaces level names, for receivers that use other names.
        renderers: by sink name, the function that writes the body of its deliveries; other sinks get JSON.
    """

    shop_id: str
    locale: Locale = "ru"
    levels: Mapping[str, str] = field(default_factory=dict)
    brand_id: str | None = None
    target_roles: tuple[str, ...] | None = None
    target_users: tuple[str, ...] | None = None
    shop: ShopInfo | None = None
    renderers: Mapping[str, Renderer] = field(default_factory=dict)

    def render(self, sink: str, notification: Notification) -> str:
        """Write the body of a delivery, once: the store keeps it, and every attempt sends the same bytes."""
        return self.renderers.get(sink, Notification.body)(notification)

    @property
    def shop_info(self) -> ShopInfo:
        """Which shop it is."""
        return self.shop or ShopInfo(self.shop_id)

    def about_shop(self) -> dict[str, Any]:
        """Return what `data.shop` of every notification holds."""
        info = self.shop_info
        return {"id": self.shop_id, "name": info.name, "address": info.address or None}


def event_id(shop_id: str, subject: str, event_type: str, occurrence: int | str) -> str:
    """Return the id of an event: the same after a crash, a fail-over or a restored backup.

    Args:
        shop_id: SHOP_ID.
        subject: the order's id, or the name of the service that an alert is about.
        event_type: what happened.
        occurrence: its number; the refund id of a partial refund; the `since` of an alert or of a silence.

    Returns:
        A UUIDv5 as text.
    """
    return str(uuid.uuid5(NAMESPACE, f"{shop_id}/{subject}/{event_type}/{occurrence}"))


def money(amount: str, sign: str) -> str:
    """Format an amount for people, e.g. "1930.00 ₽"; "? ₽" if it is unknown ("")."""
    return f"{amount or '?'} {sign}".strip()


def order_notification(event: OrderEvent, message_format: MessageFormat, *, now: datetime) -> Notification:
    """Write the notification of an order's event."""
    order, total = event.order, money(event.order.total, event.order.currency_sign)
    data: dict[str, Any] = {
        "total": order.total,
        "customer": order.customer,
        "status": order.status,
        "number": order.number,
        "currency": order.currency,
        "paid": event.paid,
        "date_modified": iso(order.modified_at),
        "previous_status": event.previous_status or None,
        "was_announced": event.was_announced,
        "refunded_total": _refunded_total(order),
        "payment_method": order.payment_method or None,
        "payment_code": order.payment_code or None,
        "shipping_method": order.shipping_method or None,
        "items": None
        if order.items is None
        else [{"name": i.name, "quantity": i.quantity, "total": i.total} for i in order.items],
        "more_items": order.more_items,
        "currency_sign": order.currency_sign,
        "admin_url": message_format.shop_info.admin_url(order.id),
        "shop": message_format.about_shop(),
    }
    if order.buyer:
        data["buyer"] = dict(order.buyer)
    amount = ""
    if event.refund is not None:
        amount = money(event.refund.amount, order.currency_sign)
        data |= {
            "amount": event.refund.amount,
            "refund_id": event.refund.id,
            "fully_refunded": event.fully_refunded,
        }
    hours = ""
    if event.wait is not None:
        hours = _hours(event.wait.lasted)
        data |= {"awaiting_since": iso(event.wait.since), "awaiting_hours": hours}
    if event.status_event is not None:
        level = event.status_event.level
        title, message = (
            _fill(text, order, total) for text in (event.status_event.title, event.status_event.message)
        )
    else:
        level = LEVELS[event.type]
        title, template = ORDER_TEXTS[message_format.locale][event.type]
        message = template.format(id=order.id, total=total, amount=amount, hours=hours)
    return Notification(
        key=str(order.id),
        event_id=event_id(message_format.shop_id, str(order.id), event.type, event.occurrence),
        event_type=event.type,
        level=message_format.levels.get(level, level),
        source_id=str(order.id),
        title=title,
        message=message,
        data=data,
        created_at=now,
        brand_id=message_format.brand_id,
        target_roles=message_format.target_roles,
        target_users=message_format.target_users,
    )


def alert_notification(
    event_type: EventType,
    message_format: MessageFormat,
    *,
    service: str,
    cause: ErrorKind,
    since: datetime,
    now: datetime,
) -> Notification:
    """Write an admin alert: a service stopped working, or works again.

    Args:
        event_type: UNHEALTHY or RECOVERED.
        message_format: how notifications are written.
        service: what stopped or works again: the shop's id or a sink's name.
        cause: why it stopped.
        since: the last time it worked; both alerts of one outage have the same value.
        now: when this is written.
    """
    title, template = ALERT_TEXTS[message_format.locale][event_type]
    causes = CAUSES[message_format.locale]
    return Notification(
        key=f"alert:{service}",
        event_id=event_id(message_format.shop_id, service, event_type, iso(since)),
        event_type=event_type,
        level=_level(event_type, message_format),
        source_id=message_format.shop_id,
        title=title,
        message=template.format(service=service, cause=causes[cause], since=iso(since)),
        data={
            "service_name": service,
            "error_type": str(cause),
            "since": iso(since),
            "shop": message_format.about_shop(),
        },
        created_at=now,
        brand_id=message_format.brand_id,
        target_roles=("administrator",),
        target_users=None,
    )


def dead_letters_notification(
    sink: str, message_format: MessageFormat, *, count: int, reason: str, since: datetime, now: datetime
) -> Notification:
    """Write an admin alert: deliveries were moved to dead letters.

    Args:
        sink: the sink that did not accept them.
        message_format: how notifications are written.
        count: how many since the last such alert.
        reason: why the last of them was moved.
        since: when the first of them was moved.
        now: when this is written.
    """
    title, template = DEAD_LETTER_TEXTS[message_format.locale]
    key = f"alert:dead-letters:{sink}"
    return Notification(
        key=key,
        event_id=event_id(message_format.shop_id, key, EventType.DEAD_LETTERS, iso(since)),
        event_type=EventType.DEAD_LETTERS,
        level=_level(EventType.DEAD_LETTERS, message_format),
        source_id=message_format.shop_id,
        title=title,
        message=template.format(sink=sink, count=count, reason=reason),
        data={
            "service_name": sink,
            "count": count,
            "reason": reason,
            "since": iso(since),
            "shop": message_format.about_shop(),
        },
        created_at=now,
        brand_id=message_format.brand_id,
        target_roles=("administrator",),
        target_users=None,
    )


def silence_notification(since: datetime, message_format: MessageFormat, *, now: datetime) -> Notification:
    """Write that no order has been paid for too long.

    Args:
        since: when the last order was paid, or the baseline if none was, by the shop's clock.
        message_format: how notifications are written.
        now: when this is written.
    """
    title, template = SILENCE_TEXTS[message_format.locale]
    return shop_notification(
        EventType.SILENCE,
        message_format,
        key="silence",
        occurrence=iso(since),
        texts=(title, template.format(since=_minute(since))),
        data={"since": iso(since)},
        now=now,
    )


def sample_notification(message_format: MessageFormat, *, now: datetime) -> Notification:
    """Write a harmless notification that shows whether notifications arrive."""
    title, template = TEST_TEXTS[message_format.locale]
    return shop_notification(
        EventType.TEST,
        message_format,
        key="test",
        occurrence=iso(now),
        texts=(title, template.format(shop=message_format.shop_id)),
        data={},
        now=now,
    )


def shop_notification(
    event_type: EventType,
    message_format: MessageFormat,
    *,
    key: str,
    occurrence: str,
    texts: tuple[str, str],
    data: Mapping[str, Any],
    now: datetime,
    receiver: str = "",
) -> Notification:
    """Write a notification about the shop as a whole, for those who receive its orders.

    Args:
        event_type: of the event.
        message_format: how notifications are written.
        key: whose order among one another is kept.
        occurrence: which event of this type it is; a part of the event's id.
        texts: title and message.
        data: the facts, without the shop.
        now: when this is written.
        receiver: the only sink that gets it; a part of the event's id. "" if there is no such sink.
    """
    title, message = texts
    about = f"{key}:{receiver}" if receiver else key
    return Notification(
        key=key,
        event_id=event_id(message_format.shop_id, about, event_type, occurrence),
        event_type=event_type,
        level=_level(event_type, message_format),
        source_id=message_format.shop_id,
        title=title,
        message=message,
        data={**data, "shop": message_format.about_shop()},
        created_at=now,
        brand_id=message_format.brand_id,
        target_roles=message_format.target_roles,
        target_users=message_format.target_users,
    )


def in_language(notification: Notification, locale: Locale) -> Notification:
    """Return a notification with title and message in a language.

    The texts of an event that the owner defined stay as they are.

    Args:
        notification: as one of the functions above wrote it, in any language.
        locale: the language.
    """
    data, event_type = notification.data, notification.event_type
    if event_type == EventType.DIGEST:
        title, message = digest_texts(data, locale)
        return replace(notification, title=title, message=message)
    values: dict[str, Any] = {
        "id": notification.source_id,
        "total": money(data.get("total") or "", data.get("currency_sign") or ""),
        "amount": money(data.get("amount") or "", data.get("currency_sign") or ""),
        "hours": data.get("awaiting_hours"),
        "service": data.get("service_name"),
        "since": data.get("since"),
        "sink": data.get("service_name"),
        "count": data.get("count"),
        "reason": data.get("reason"),
        "shop": (data.get("shop") or {}).get("id"),
    }
    texts: tuple[str, str] | None
    match event_type:
        case EventType.SILENCE:
            texts = SILENCE_TEXTS[locale]
            values["since"] = _minute(datetime.fromisoformat(data["since"]))
        case EventType.DEAD_LETTERS:
            texts = DEAD_LETTER_TEXTS[locale]
        case EventType.TEST:
            texts = TEST_TEXTS[locale]
        case EventType.UNHEALTHY | EventType.RECOVERED:
            texts = ALERT_TEXTS[locale][event_type]
            values["cause"] = CAUSES[locale][ErrorKind(data["error_type"])]
        case _:
            texts = ORDER_TEXTS[locale].get(event_type)
    if texts is None:
        return notification
    title, template = texts
    return replace(notification, title=title, message=template.format(**values))


def _minute(instant: datetime) -> str:
    return f"{instant.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _refunded_total(order: Order) -> str | None:
    """Return the sum of an order's refunds; None if the source cannot see them or one of the amounts."""
    if order.refunds is None or any(not refund.amount for refund in order.refunds):
        return None
    return str(sum((amount_of(refund.amount) for refund in order.refunds), Decimal("0.00")))


def _fill(text: str, order: Order, total: str) -> str:
    """Replace the placeholders in a text of the owner with the order's values.

    Values from the shop are not templates.
    """
    values = {
        "{id}": str(order.id),
        "{number}": order.number,
        "{total}": total,
        "{customer}": order.customer,
        "{status}": order.status,
    }
    return PLACEHOLDER.sub(lambda found: values.get(found[0], found[0]), text)


def _hours(lasted: timedelta) -> str:
    """Format whole hours; less than one hour as a fraction."""
    hours = lasted / timedelta(hours=1)
    return f"{math.floor(hours)}" if hours >= 1 else f"{hours:.2g}"


def _level(event_type: EventType, message_format: MessageFormat) -> str:
    level = LEVELS[event_type]
    return message_format.levels.get(level, level)
