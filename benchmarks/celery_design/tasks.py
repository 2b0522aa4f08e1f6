"""The two tasks, as the design has them."""

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

import redis
from celery import shared_task

from benchmarks.celery_design.clients import MCPClient, NotificationPublisher, redis_client

logger = logging.getLogger(__name__)

LAST_POLL_TIME = "shop:polling:last_poll_time"
KNOWN_ORDERS = "shop:polling:known_orders"


@shared_task(
    name="shop.poll_orders",
    bind=True,
    max_retries=3,
    default_retry_delay=30,
    autoretry_for=(Exception,),
    retry_backoff=True,
)
def poll_orders(self: Any) -> None:
    """Look for new orders."""
    del self
    logger.info("Starting shop.poll_orders")
    state = redis_client()
    mcp_client = MCPClient()
    last_poll = state.get(LAST_POLL_TIME)
    if isinstance(last_poll, bytes):
        since = datetime.fromisoformat(last_poll.decode())
    else:
        since = _now() - timedelta(hours=1)
    orders = mcp_client.orders_list(after=since.isoformat(), per_page=100, orderby="date", order="asc")
    logger.info("Fetched %s orders since %s", len(orders), since)
    for order in orders:
        process_order_event(order, state)
    state.set(LAST_POLL_TIME, _now().isoformat())
    logger.info("shop.poll_orders completed successfully")


def _now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


def process_order_event(order: dict[str, Any], state: redis.Redis) -> None:
    """Find what happened to an order, and have it sent."""
    order_id, status = order["id"], order["status"]
    known = state.hget(KNOWN_ORDERS, str(order_id))
    known_status = known.decode() if isinstance(known, bytes) else known
    if known_status == status:
        return
    event_type, level, title, message = None, "info", "", ""
    if status == "processing" and known_status is None:
        event_type, title = "shop.order.new", "Новый заказ"
        message = f"Заказ #{order_id} на сумму {order['total']} ₽"
    elif status == "cancelled":
        event_type, title, level = "shop.order.cancelled", "Заказ отменён", "warning"
        message = f"Клиент отменил заказ #{order_id}"
    elif status == "refunded":
        event_type, title, level = "shop.order.refunded", "Возврат средств", "warning"
        message = f"Оформлен возврат по заказу #{order_id}"
    elif status == "failed":
        event_type, title, level = "shop.order.failed", "Ошибка оплаты", "error"
        message = f"Не удалась оплата заказа #{order_id}"
    if event_type:
        send_notification.delay(
            event_type=event_type,
            title=title,
            message=message,
            level=level,
            order_id=order_id,
            order_data={
                "total": order.get("total"),
                "customer": order.get("billing", {}).get("first_name"),
                "status": status,
            },
        )
    state.hset(KNOWN_ORDERS, str(order_id), status)


@shared_task(name="shop.send_notification", bind=True, max_retries=3, default_retry_delay=10)
def send_notification(  # noqa: PLR0917 - as it is written
    self: Any,
    event_type: str,
    title: str,
    message: str,
    level: str,
    order_id: int,
    order_data: dict[str, Any],
) -> None:
    """Deliver one notification."""
    logger.info("Sending notification: %s for order #%s", event_type, order_id)
    try:
        NotificationPublisher().publish(
            event_type=event_type,
            title=title,
            message=message,
            source_module="shop",
            source_id=str(order_id),
            level=level,
            data=order_data,
        )
        logger.info("Notification sent: %s for order #%s", event_type, order_id)
    except Exception as error:
        logger.exception("Failed to send notification")
        raise self.retry(exc=error) from error
