"""Fills a store as if that had happened: `fill.py URL known|outbox COUNT [DUE_IN_S]`."""

import asyncio
import json
import sys
from datetime import timedelta
from pathlib import Path

from benchmarks.ours import SHOP, SINK
from shop_poller.clock import now
from shop_poller.config.redis_address import parse_redis
from shop_poller.core.messages import MessageFormat, order_notification
from shop_poller.core.model import EventType, KnownOrder, Order, OrderEvent
from shop_poller.ports import Batch, NewDelivery
from shop_poller.stores import open_store

BATCH = 10_000


async def main() -> None:
    """Fill it."""
    url, what, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    at = now() + timedelta(seconds=float(sys.argv[4]) if len(sys.argv) > 4 else 0.0)
    where = Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:") else parse_redis(url)
    store = await open_store(where, shop=SHOP, prefix="shop:polling:")
    await store.take()
    state, message_format = await store.register(SHOP, now()), MessageFormat(SHOP)
    for begin in range(0, count, BATCH):
        ids = range(begin + 1, min(begin + BATCH, count) + 1)
        known: list[KnownOrder] = []
        new_deliveries: list[NewDelivery] = []
        if what == "known":
            known = [
                KnownOrder(i, "processing", at, announced_new=True, decided={"shop.order.new": 1})
                for i in ids
            ]
        else:
            orders = (
                Order(i, str(i), "processing", "1930.00", "RUB", "₽", "Анна", created_at=at, modified_at=at)
                for i in ids
            )
            events = (OrderEvent(EventType.NEW, order, occurrence=1, paid=True) for order in orders)
            told = (order_notification(event, message_format, now=at) for event in events)
            new_deliveries = [NewDelivery(SINK, one, one.body()) for one in told]
        await store.commit(
            SHOP, Batch(state=state, now=at, seen_at=at, known=known, new_deliveries=new_deliveries)
        )
    await store.release()
    await store.aclose()
    print(json.dumps(count))


if __name__ == "__main__":
    asyncio.run(main())
