"""`status`: where a shop's polling and its deliveries stand, read from the store."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from shop_poller.alarm import TOLD
from shop_poller.core.model import iso
from shop_poller.letters import as_dict
from shop_poller.ports import Alert, Settled, ShopState, Stats
from shop_poller.settings import Settings
from shop_poller.stores import peek_store

LATEST = 10
"""So many dead letters and deliveries are shown."""


@dataclass(frozen=True, slots=True)
class Status:
    """What the store knows of a shop."""

    shop: str
    state: ShopState | None
    stats: Stats
    set_aside: dict[int, str]
    alerts: dict[str, Alert]
    dead: list[Settled]
    delivered: list[Settled]

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: instants are ISO 8601 in UTC, or null."""
        state = self.state
        return {
            "shop": self.shop,
            "started_at": _iso(state.started_at) if state else None,
            "last_poll_at": _iso(state.last_poll_at) if state else None,
            "cursor_at": _iso(state.cursor_at) if state else None,
            "baseline_at": _iso(state.baseline_at) if state else None,
            "learning": state.learning.phase if state and state.learning else None,
            "known_orders": self.stats.known,
            "set_aside": {str(order_id): reason for order_id, reason in self.set_aside.items()},
            "alerts": {
                name: {"error_type": alert.cause, "since": iso(alert.since)}
                for name, alert in self.alerts.items()
            },
            "sinks": {
                name: {
                    "waiting": sink.waiting,
                    "oldest_at": _iso(sink.oldest_at),
                    "dead_letters": sink.dead,
                }
                for name, sink in self.stats.sinks.items()
            },
            "latest_dead_letters": [as_dict(one) for one in self.dead],
            "latest_delivered": [as_dict(one) for one in self.delivered],
        }


async def read_status(settings: Settings) -> Status:
    """Read the store beside a daemon that may be writing to it.

    Raises:
        PermanentError, TemporaryError: STORE, there is none, or it cannot be read.
    """
    shop = settings.shop
    store = await peek_store(settings.state, shop=shop, prefix=settings.shop_redis_prefix)
    try:
        return Status(
            shop,
            await store.load(shop),
            await store.stats(shop),
            await store.set_aside(shop),
            {name: one for name, one in (await store.alerts(shop)).items() if not name.startswith(TOLD)},
            await store.settled(shop, dead=True, limit=LATEST),
            await store.settled(shop, dead=False, limit=LATEST),
        )
    finally:
        await store.aclose()


def render(status: Status, now: datetime) -> list[str]:
    """Lines for people."""
    state, stats = status.state, status.stats
    if state is None:
        return [f"shop        {status.shop}: never polled with this state"]
    lines = [
        f"shop        {status.shop}",
        f"last poll   {_ago(state.last_poll_at, now)}",
        f"cursor      {_iso(state.cursor_at) or 'none yet'}, by the shop's clock",
        f"watching    since {_iso(state.baseline_at) or 'its first answer, which is still to come'}",
        f"known       {stats.known:,} orders",
    ]
    if state.learning is not None:
        lines.append(f"learning    {state.learning.phase} orders, {state.learning.count:,} so far")
    lines += [f"set aside   order {order_id}: {reason}" for order_id, reason in status.set_aside.items()]
    lines += [
        f"alert       {name}: {alert.cause} since {iso(alert.since)}" for name, alert in status.alerts.items()
    ]
    for name, sink in stats.sinks.items():
        oldest = f", oldest {_ago(sink.oldest_at, now)}" if sink.oldest_at else ""
        lines.append(f"outbox      {name}: {sink.waiting:,} waiting{oldest}, {sink.dead:,} dead letters")
    if not stats.sinks:
        lines.append("outbox      empty")
    if status.delivered:
        lines.append(f"delivered   last {_ago(status.delivered[0].at, now)}")
    lines += [
        f"dead letter {one.key} {one.event_type} to {one.sink}, {_ago(one.at, now)}: {one.reason}"
        for one in status.dead
    ]
    return lines


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _ago(instant: datetime | None, now: datetime) -> str:
    if instant is None:
        return "never"
    seconds = (now - instant).total_seconds()
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{iso(instant)} ({seconds / size:.0f} {unit} ago)"
    return f"{iso(instant)} ({seconds:.0f} seconds ago)"
