"""Makes what a store is given: instants, notifications, batches."""

import itertools
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from shop_poller.core.model import Delivery, EventType, KnownOrder, Notification, UnreadableOrder
from shop_poller.ports import Batch, NewDelivery, ShopState, Store

SHOP = "shop.example"
T0 = datetime(2026, 11, 23, 9, 50, 0, 123_000, UTC)
MS = timedelta(milliseconds=1)
_numbers = itertools.count(1)


def at(seconds: float) -> datetime:
    """An instant, counted from T0."""
    return T0 + timedelta(seconds=seconds)


def notification(key: str = "316", event_id: str = "", **data: Any) -> Notification:
    """A notification in Russian; each has an id of its own unless one is given."""
    return Notification(
        key=key,
        event_id=event_id or f"event-{next(_numbers)}",
        event_type=EventType.NEW,
        level="info",
        source_id=key,
        title="Новый заказ",
        message=f"Заказ #{key} на сумму 1 930,00 ₽",
        data={"customer": "Ольга", **data},
        created_at=T0,
    )


def new_deliveries(sink: str = "A", key: str = "316", event_id: str = "", **data: Any) -> NewDelivery:
    """A new row of the outbox."""
    return new_delivery(sink, notification(key, event_id, **data))


def new_delivery(sink: str, told: Notification) -> NewDelivery:
    """A notification for one sink, as the JSON."""
    return NewDelivery(sink, told, told.body())


def delivery(event_id: str = "5f0c6c1e-0000-5000-8000-000000000316", **data: Any) -> Delivery:
    """A delivery as it comes from the outbox."""
    told = notification("316", event_id, **data)
    return Delivery(
        seq=1,
        shop_id="shop.example",
        sink="A",
        key=told.key,
        event_id=told.event_id,
        event_type=told.event_type,
        body=told.body(),
        attempts=0,
        created_at=T0,
        head_since=T0,
    )


def known_order(order_id: int, status: str = "processing") -> KnownOrder:
    """A record as it is after a first sight."""
    return KnownOrder(order_id, status, T0.replace(microsecond=0))


def batch(
    *rows: NewDelivery,
    now: datetime = T0,
    state: ShopState | None = None,
    seen_at: datetime = T0,
    known: Sequence[KnownOrder] = (),
    set_aside: Sequence[UnreadableOrder] = (),
    mended: Collection[int] = (),
) -> Batch:
    """A batch of which a test names only what it is about."""
    return Batch(
        state=state or ShopState(started_at=T0),
        now=now,
        seen_at=seen_at,
        known=known,
        new_deliveries=rows,
        set_aside=set_aside,
        mended=mended,
    )


def ids(deliveries: Sequence[Delivery]) -> list[str]:
    """Their event ids, in their order."""
    return [delivery.event_id for delivery in deliveries]


async def put(store: Store, *rows: NewDelivery, now: datetime = T0, shop_id: str = SHOP) -> None:
    """Commit rows into the outbox."""
    await store.commit(shop_id, batch(*rows, now=now))


async def claim(store: Store, sink: str = "A", *, now: datetime = T0, limit: int = 100) -> list[Delivery]:
    """Claim, at T0 unless told otherwise."""
    return await store.claim(sink, now=now, limit=limit)


async def claim_one(store: Store, sink: str = "A", *, now: datetime = T0) -> Delivery:
    """Claim the only delivery that there is to be claimed."""
    (delivery,) = await store.claim(sink, now=now, limit=100)
    return delivery
