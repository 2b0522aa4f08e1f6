"""The application: `celery -A benchmarks.celery_design.app worker`."""

from celery import Celery

from benchmarks.celery_design.config import INTERVAL_S, REDIS_URL

app = Celery("adolf", include=["benchmarks.celery_design.tasks"])

app.conf.update(
    broker_url=REDIS_URL,
    result_backend=REDIS_URL,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    timezone="Europe/Moscow",
    enable_utc=True,
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    beat_schedule={
        "shop-poll-orders": {
            "task": "shop.poll_orders",
            "schedule": INTERVAL_S,
            "options": {"queue": "default"},
        },
    },
)
