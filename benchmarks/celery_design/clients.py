"""Whom the tasks talk to: the shop, and whoever gets the notifications."""

import json
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import httpx
import redis

from benchmarks.celery_design import config
from benchmarks.receiver import CHANNEL

TIMEOUT_S = 30


@cache
def _kept_client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT_S)


@cache
def _kept_redis() -> redis.Redis:
    return redis.Redis.from_url(config.REDIS_URL)


@cache
def _kept_channel() -> redis.Redis:
    return redis.Redis.from_url(config.NOTIFY_URL)


def http_client() -> AbstractContextManager[httpx.Client]:
    """A client for one call, or the kept one."""
    return nullcontext(_kept_client()) if config.KEPT else httpx.Client(timeout=TIMEOUT_S)


def redis_client() -> redis.Redis:
    """Where the state is."""
    return _kept_redis() if config.KEPT else redis.Redis.from_url(config.REDIS_URL)


class MCPClient:
    """The client of the shop's MCP, as the design has it."""

    def __init__(self) -> None:
        self.base_url = config.WOOCOMMERCE_MCP_URL
        self.api_key = f"{config.CONSUMER_KEY}:{config.CONSUMER_SECRET}"

    def _make_request(self, ability: str, params: dict[str, Any]) -> dict[str, Any]:
        headers = {"X-MCP-API-Key": self.api_key, "Content-Type": "application/json"}
        with http_client() as client:
            response = client.post(
                f"{self.base_url}/execute", headers=headers, json={"ability": ability, "params": params}
            )
            response.raise_for_status()
            answer: dict[str, Any] = response.json()
            return answer

    def orders_list(self, *, after: str, per_page: int, orderby: str, order: str) -> list[dict[str, Any]]:
        """Orders made since then."""
        params = {"per_page": per_page, "orderby": orderby, "order": order, "after": after}
        result = self._make_request("woocommerce/orders-list", params)
        orders: list[dict[str, Any]] = result.get("data", [])
        return orders


class NotificationPublisher:
    """Delivers a notification."""

    def publish(
        self,
        *,
        event_type: str,
        title: str,
        message: str,
        source_module: str,
        source_id: str,
        level: str,
        data: dict[str, Any],
    ) -> None:
        """Deliver once."""
        notification = {
            "event_type": event_type,
            "title": title,
            "message": message,
            "source_module": source_module,
            "source_id": source_id,
            "level": level,
            "data": data,
        }
        if config.NOTIFY_URL.startswith("redis:"):
            client = _kept_channel() if config.KEPT else redis.Redis.from_url(config.NOTIFY_URL)
            client.publish(CHANNEL, json.dumps(notification, ensure_ascii=False))
            return
        with http_client() as http:
            http.post(config.NOTIFY_URL, json=notification).raise_for_status()
