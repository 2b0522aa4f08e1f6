"""Notifications as a phone shows them in a chat: for the picture in the README."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from typing import Any

from shop_poller.core.errors import ErrorKind
from shop_poller.core.messages import Locale, MessageFormat, alert_notification, order_notification
from shop_poller.core.model import Delivery, EventType, Notification, Order, OrderEvent, Refund, Wait
from shop_poller.sinks.apprise.sink import message

SHOP = "shop.example"
NOW = datetime(2026, 11, 25, 12, 0, 7, tzinfo=UTC)
WORDS = {"ru": ("Магазин", "бот", "сегодня"), "en": ("My shop", "bot", "today")}
STYLE = """
body { margin: 0; background: #dfe8ef; color: #10181f; font: 16px/1.35 "DejaVu Sans", sans-serif; }
header { display: flex; gap: 12px; align-items: center; padding: 14px 16px; background: #fff; }
header i { width: 40px; height: 40px; border-radius: 50%; background: #2f7dd1; color: #fff; }
header i { font-style: normal; text-align: center; line-height: 40px; font-weight: bold; }
header b, header small { display: block; }
small { color: #5b6b7a; font-size: 13px; }
.day { margin: 14px auto; width: max-content; padding: 2px 12px; border-radius: 12px; background: #b9c9d6;
  font-size: 13px; }
.message { box-sizing: border-box; width: 330px; margin: 0 0 10px 12px; padding: 9px 12px; background: #fff;
  border-radius: 4px 14px 14px 14px; }
.message p { margin: 2px 0 0; white-space: pre-line; }
.message small { display: block; text-align: right; }
"""


def _delivery(notification: Notification) -> Delivery:
    return Delivery(
        seq=1,
        shop_id=SHOP,
        sink="telegram",
        key=notification.key,
        event_id=notification.event_id,
        event_type=notification.event_type,
        body=notification.body(),
        attempts=0,
        created_at=notification.created_at,
        head_since=notification.created_at,
    )


def _notifications(locale: Locale) -> Iterator[Notification]:
    written = MessageFormat(SHOP, locale)
    currency, sign, rate = ("RUB", "₽", 100) if locale == "ru" else ("USD", "$", 1)

    def event(number: int, total: int, type_: str, minutes: int, **more: Any) -> Notification:
        order = Order(
            number,
            str(number),
            "processing",
            f"{total * rate}.00",
            currency,
            sign,
            "Anna",
            created_at=NOW,
            modified_at=NOW,
        )
        event = OrderEvent(type_, order, occurrence=1, paid=True, **more)
        return order_notification(event, written, now=NOW - timedelta(minutes=minutes))

    yield event(1007, 59, EventType.NEW, 96)
    yield event(1006, 14, EventType.FAILED, 71)
    yield event(1002, 32, EventType.PARTIALLY_REFUNDED, 48, refund=Refund(9, f"{8 * rate}.00"))
    wait = Wait(NOW - timedelta(hours=25), timedelta(hours=24))
    yield event(1005, 21, EventType.PAYMENT_OVERDUE, 20, wait=wait)
    yield alert_notification(
        EventType.UNHEALTHY,
        written,
        service=SHOP,
        cause=ErrorKind.TIMEOUT,
        since=NOW - timedelta(minutes=8),
        now=NOW - timedelta(minutes=3),
    )


def chat(locale: Locale) -> str:
    """A page that shows what the sink `apprise+tgram://` sends."""
    name, bot, today = WORDS[locale]
    messages = []
    for notification in _notifications(locale):
        title, body, _ = message(_delivery(notification))
        messages.append(
            f'<div class="message"><b>{escape(title)}</b><p>{escape(body)}</p>'
            f"<small>{notification.created_at:%H:%M}</small></div>"
        )
    return (
        f'<!doctype html><meta charset="utf-8"><style>{STYLE}</style><header><i>{name[0]}</i>'
        f"<div><b>{name}</b><small>{bot}</small></div></header>"
        f'<div class="day">{today}</div>{"".join(messages)}'
    )
