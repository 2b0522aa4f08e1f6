"""What the types of the core tell of themselves."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from shop_poller.core.model import Delivery, Order, Page, UnreadableOrder

T0 = datetime(2026, 11, 23, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)
ORDER = Order(7, "7", "processing", "9.00", "RUB", "₽", "Анна", created_at=T0, modified_at=T0)
DELIVERY = Delivery(
    seq=1,
    shop_id="shop.example",
    sink="crm",
    key="7",
    event_id="1f0b",
    event_type="shop.order.new",
    body='{"created_at": "2026-11-23T09:00:00.000Z"}',
    attempts=0,
    created_at=T0,
    head_since=T0 - 400 * 24 * HOUR,
)


def test_a_page_shows_each_order_once_as_its_last_row_has_it() -> None:
    unreadable, later = UnreadableOrder(8, "no status"), replace(ORDER, status="completed")
    shown = Page((ORDER, unreadable, later), T0)
    assert shown.items == (later, unreadable)
    assert shown.orders == [later]


def test_a_delivery_does_not_wait_since_before_its_notification_was_written() -> None:
    assert DELIVERY.waits_since(T0 + HOUR) == T0
    assert replace(DELIVERY, head_since=T0 + HOUR).waits_since(T0 + 2 * HOUR) == T0 + HOUR


def test_a_notification_from_the_future_tells_nothing() -> None:
    assert DELIVERY.waits_since(T0 - HOUR) == DELIVERY.head_since


@pytest.mark.parametrize(
    "body", ["", "no json", "{}", "[]", '{"created_at": 5}', '{"created_at": "2026-11-23T09:00:00"}']
)
def test_neither_does_a_body_without_a_date(body: str) -> None:
    assert replace(DELIVERY, body=body).waits_since(T0 + HOUR) == DELIVERY.head_since
