"""Queues tasks: `enqueue.py poll COUNT`, or `enqueue.py burst COUNT`, where nobody reads yet."""

import sys

from benchmarks.celery_design import app, tasks

PREPARED = "prepared"


def main() -> None:
    """Put them there."""
    assert app.app.conf.broker_url  # noqa: S101 - with the application loaded, tasks know their broker
    if sys.argv[1] == "poll":
        for _ in range(int(sys.argv[2])):
            tasks.poll_orders.apply_async(queue="default")
        return
    for number in range(int(sys.argv[2])):
        tasks.send_notification.apply_async(
            queue=PREPARED,
            kwargs={
                "event_type": "shop.order.new",
                "title": "Новый заказ",
                "message": f"Заказ #{number} на сумму 1930.00 ₽",
                "level": "info",
                "order_id": number,
                "order_data": {"total": "1930.00", "customer": "Анна", "status": "processing"},
            },
        )


if __name__ == "__main__":
    main()
