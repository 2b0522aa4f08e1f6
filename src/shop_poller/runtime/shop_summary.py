"""Reads what the overview of several shops shows of one shop's store."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, time, timedelta, tzinfo

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.tallies import EMPTY
from shop_poller.ports import Alert, DeliveryHistory, ShopState, StateView, Stats


@dataclass(frozen=True, slots=True)
class StoredSummary:
    """What a store contains about a shop.

    Attributes:
        trouble: why the store cannot be read; then nothing else is known. "" if it can.
        leader: who has the lease, for people; "" for nobody.
        orders: orders that were paid today, in the shop's time zone; None if they are not counted yet.
        delivered: notifications that were delivered today.
    """

    trouble: str = ""
    state: ShopState | None = None
    stats: Stats = field(default_factory=Stats)
    alerts: Mapping[str, Alert] = field(default_factory=dict)
    leader: str = ""
    orders: int | None = None
    delivered: int = 0


async def read_summary(
    store: StateView, history: DeliveryHistory, shop: str, zone: tzinfo | None
) -> StoredSummary:
    """Read the summary of a shop; never raises.

    Args:
        store: the state of the shop.
        history: its deliveries.
        shop: its id.
        zone: of its days; None for that of this machine.
    """
    try:
        state = await store.load(shop)
        since, before = today(store.now(), zone)
        day = since.astimezone(zone).date()
        tallies = await store.tallies(shop, [day])
        is_counted = state is not None and state.tallied_since is not None
        return StoredSummary(
            state=state,
            stats=await store.stats(shop),
            alerts=await store.alerts(shop),
            leader=await store.holder(),
            orders=tallies.get(day, EMPTY).orders.count if is_counted else None,
            delivered=await history.count_delivered(shop, since=since, before=before),
        )
    except ShopPollerError as error:
        return StoredSummary(trouble=error.text)


def today(now: datetime, zone: tzinfo | None) -> tuple[datetime, datetime]:
    """Return the beginning and the end of the present day in a time zone; None for that of this machine."""
    day = now.astimezone(zone).date()
    ends = [datetime.combine(one, time(), zone) for one in (day, day + timedelta(days=1))]
    return ends[0].astimezone(now.tzinfo), ends[1].astimezone(now.tzinfo)
