"""`status`: the state of a shop's polling and deliveries, read from the store."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shop_poller.alerts import MARKERS
from shop_poller.cli.console import store_of
from shop_poller.cli.deliveries import as_dict
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import NOTABLE, Whose, described, trouble
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.model import iso
from shop_poller.mutes import PREFIXES, stored_event_mutes, stored_mutes
from shop_poller.ports import Alert, FinishedDelivery, RowSetAside, ShopState, Stats
from shop_poller.stores import peek_store

LATEST = 10
"""How many dead letters and deliveries are shown."""


@dataclass(frozen=True, slots=True)
class Status:
    """The stored status of a shop.

    Attributes:
        now: the time of the clock that dates stored rows; None if it is unknown.
        whose: the owner of that clock.
        mutes: the muted sinks, and until when.
        event_mutes: the same by sink and event type, of single events.
        quiet_until: when the present quiet hours end, in the owner's time zone, by sink; without sinks that
            are not quiet.
    """

    shop: str
    state: ShopState | None
    stats: Stats
    set_aside: dict[int, str]
    alerts: dict[str, Alert]
    dead: list[FinishedDelivery]
    delivered: list[FinishedDelivery]
    rows_set_aside: list[RowSetAside]
    now: datetime | None = None
    whose: Whose = Whose.OURS
    mutes: Mapping[str, datetime] = field(default_factory=dict)
    event_mutes: Mapping[str, Mapping[str, datetime]] = field(default_factory=dict)
    quiet_until: Mapping[str, datetime] = field(default_factory=dict)

    @property
    def clock(self) -> str:
        """What is wrong with the clock that dates stored rows, in words; "" if nothing is."""
        if self.now is None or self.state is None:
            return ""
        oldest = [sink.oldest_at for sink in self.stats.sinks.values()]
        dated = [over.at for over in (*self.delivered[:1], *self.dead[:1])]
        stored = [self.state.last_poll_at, *oldest, *dated]
        return str(trouble(self.whose, now=self.now, behind_shop_s=None, stored=stored) or "")

    def as_dict(self) -> dict[str, Any]:
        """Return the output of `--json`: instants are ISO 8601 in UTC, or null."""
        state = self.state
        return {
            "shop": self.shop,
            "started_at": _iso(state.started_at) if state else None,
            "last_poll_at": _iso(state.last_poll_at) if state else None,
            "cursor_at": _iso(state.cursor_at) if state else None,
            "baseline_at": _iso(state.baseline_at) if state else None,
            "learning": state.import_position.phase if state and state.import_position else None,
            **({"clock": self.clock} if self.clock else {}),
            "known_orders": self.stats.known,
            "set_aside": {str(order_id): reason for order_id, reason in self.set_aside.items()},
            "rows_set_aside": [
                {"place": one.place, "name": one.name, "reason": one.reason, "at": iso(one.at)}
                for one in self.rows_set_aside
            ],
            "alerts": {
                name: {"error_type": alert.cause, "since": iso(alert.since)}
                for name, alert in self.alerts.items()
            },
            **({"muted": {name: iso(until) for name, until in self.mutes.items()}} if self.mutes else {}),
            **({"muted_events": _as_texts(self.event_mutes)} if self.event_mutes else {}),
            "sinks": {
                name: {
                    "waiting": sink.waiting,
                    "oldest_at": _iso(sink.oldest_at),
                    "dead_letters": sink.dead,
                }
                for name, sink in self.stats.sinks.items()
            },
            "quiet_until": {name: iso(until) for name, until in self.quiet_until.items()},
            "latest_dead_letters": [as_dict(one) for one in self.dead],
            "latest_delivered": [as_dict(one) for one in self.delivered],
        }


def _as_texts(mutes: Mapping[str, Mapping[str, datetime]]) -> dict[str, dict[str, str]]:
    return {sink: {name: iso(until) for name, until in events.items()} for sink, events in mutes.items()}


async def read_status(settings: Settings) -> Status:
    """Read the store while the daemon may be writing to it.

    Raises:
        PermanentError, TemporaryError: STORE, there is none, or it cannot be read.
    """
    shop = settings.shop
    async with store_of(settings, peek_store) as store:
        alerts = await store.alerts(shop)
        found = Status(
            shop,
            await store.load(shop),
            await store.stats(shop),
            await store.set_aside(shop),
            {name: one for name, one in alerts.items() if not name.startswith((*MARKERS, *PREFIXES))},
            await store.finished(shop, dead=True, limit=LATEST),
            await store.finished(shop, dead=False, limit=LATEST),
            await store.rows_set_aside(shop),
        )
        with suppress(ShopPollerError):  # the status is shown without the server's time
            await store.ask_clock()
        whose = Whose.OF_REDIS if isinstance(settings.state, RedisAddress) else Whose.OURS
        now = store.now()
        mutes = dict(sorted(stored_mutes(alerts, now).items()))
        event_mutes = stored_event_mutes(alerts, now)
        quiet_until = _quiet_until(settings, now)
        return replace(
            found, now=now, whose=whose, mutes=mutes, event_mutes=event_mutes, quiet_until=quiet_until
        )


def _quiet_until(settings: Settings, now: datetime) -> dict[str, datetime]:
    zone = settings.time_zone
    return {
        sink.name: quiet.next_open(now, zone).astimezone(zone)
        for sink in settings.sinks
        if (quiet := sink.options.quiet) is not None and quiet.is_quiet(now, zone)
    }


def render(status: Status, now: datetime) -> list[str]:
    """Return the lines for people."""
    state, stats = status.state, status.stats
    if state is None:
        return [f"shop        {status.shop}: never polled with this state"]
    lines = [
        f"shop        {status.shop}",
        f"last poll   {_ago(state.last_poll_at, now)}",
        f"cursor      {_iso(state.cursor_at) or 'none yet'}, by the shop's clock",
        f"watching    since {_iso(state.baseline_at) or 'the first answer, which has not come yet'}",
        f"known       {stats.known:,} orders",
    ]
    if status.clock:
        lines.append(f"clock       {status.clock}")
    if state.import_position is not None:
        lines.append(
            f"importing   {state.import_position.phase} orders, {state.import_position.count:,} so far"
        )
    lines += [f"set aside   order {order_id}: {reason}" for order_id, reason in status.set_aside.items()]
    lines += [f"set aside   stored row {one.place} {one.name}: {one.reason}" for one in status.rows_set_aside]
    lines += [
        f"alert       {name}: {alert.cause} since {iso(alert.since)}" for name, alert in status.alerts.items()
    ]
    lines += [f"muted       {name}: until {iso(until)}" for name, until in status.mutes.items()]
    lines += [
        f"muted       {name}: {event_type} until {iso(until)}"
        for name, events in status.event_mutes.items()
        for event_type, until in events.items()
    ]
    for name, sink in stats.sinks.items():
        oldest = f", oldest {_ago(sink.oldest_at, now)}" if sink.oldest_at else ""
        lines.append(f"outbox      {name}: {sink.waiting:,} waiting{oldest}, {sink.dead:,} dead letters")
    if not stats.sinks:
        lines.append("outbox      empty")
    lines += [
        f"quiet       {name}: until {until:%Y-%m-%d %H:%M}" for name, until in status.quiet_until.items()
    ]
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
    if seconds < -NOTABLE.total_seconds():
        return f"{iso(instant)} ({described(seconds)} in the future)"
    seconds = max(seconds, 0.0)
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{iso(instant)} ({seconds / size:.0f} {unit} ago)"
    return f"{iso(instant)} ({seconds:.0f} seconds ago)"
