"""`status`: the state of a shop's polling and deliveries, read from the store."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shop_poller.alerts import MARKERS
from shop_poller.cli.console import store_of
from shop_poller.cli.deliveries import as_dict
from shop_poller.cli.language import as_text
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import NOTABLE, Whose, described, trouble
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.import_walk import Phase
from shop_poller.core.model import iso
from shop_poller.core.showing import before_colon
from shop_poller.core.translatable import Text
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
        wrong = trouble(self.whose, now=self.now, behind_shop_s=None, stored=stored)
        return wrong.text() if wrong else ""

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
    state = status.state
    if state is None:
        return [Text("shop        {shop}: never polled with this state", shop=status.shop)]
    return [
        *_polling_lines(status, state, now),
        *(
            Text("set aside   order {order}: {reason}", order=order_id, reason=as_text(reason))
            for order_id, reason in status.set_aside.items()
        ),
        *(
            Text(
                "set aside   stored row {place} {name}: {reason}",
                place=one.place,
                name=one.name,
                reason=as_text(one.reason),
            )
            for one in status.rows_set_aside
        ),
        *(
            Text(
                "alert       {name}: {cause} since {at}",
                name=before_colon(name),
                cause=alert.cause,
                at=iso(alert.since),
            )
            for name, alert in status.alerts.items()
        ),
        *_sink_lines(status, now),
        *(
            Text(
                "dead letter {order} {event} to {sink}, {at}: {reason}",
                order=one.key,
                event=one.event_type,
                sink=one.sink,
                at=_ago(one.at, now),
                reason=as_text(one.reason),
            )
            for one in status.dead
        ),
    ]


def _polling_lines(status: Status, state: ShopState, now: datetime) -> list[str]:
    cursor = _iso(state.cursor_at) or Text("none yet")
    since = _iso(state.baseline_at) or Text("the first answer, which has not come yet")
    lines: list[str] = [
        Text("shop        {shop}", shop=status.shop),
        Text("last poll   {at}", at=_ago(state.last_poll_at, now)),
        Text("cursor      {cursor}, by the shop's clock", cursor=cursor),
        Text("watching    since {since}", since=since),
        Text("known       {count:,} orders", count=status.stats.known),
    ]
    if status.clock:
        lines.append(Text("clock       {trouble}", trouble=status.clock))
    if state.import_position is not None:
        count = state.import_position.count
        if state.import_position.phase is Phase.OPEN:
            lines.append(Text("importing   open orders, {count:,} so far", count=count))
        else:
            lines.append(Text("importing   completed orders, {count:,} so far", count=count))
    return lines


def _sink_lines(status: Status, now: datetime) -> list[str]:
    lines: list[str] = [
        Text("muted       {sink}: until {until}", sink=before_colon(name), until=iso(until))
        for name, until in status.mutes.items()
    ]
    lines += [
        Text(
            "muted       {sink}: {event} until {until}",
            sink=before_colon(name),
            event=event_type,
            until=iso(until),
        )
        for name, events in status.event_mutes.items()
        for event_type, until in events.items()
    ]
    for name, sink in status.stats.sinks.items():
        oldest = Text(", oldest {at}", at=_ago(sink.oldest_at, now)) if sink.oldest_at else ""
        lines.append(
            Text(
                "outbox      {sink}: {waiting:,} waiting{oldest}, {dead:,} dead letters",
                sink=before_colon(name),
                waiting=sink.waiting,
                oldest=oldest,
                dead=sink.dead,
            )
        )
    if not status.stats.sinks:
        lines.append(Text("outbox      empty"))
    lines += [
        Text("quiet       {sink}: until {until:%Y-%m-%d %H:%M}", sink=before_colon(name), until=until)
        for name, until in status.quiet_until.items()
    ]
    if status.delivered:
        lines.append(Text("delivered   last {at}", at=_ago(status.delivered[0].at, now)))
    return lines


def _iso(instant: datetime | None) -> str | None:
    return None if instant is None else iso(instant)


def _ago(instant: datetime | None, now: datetime) -> str:
    if instant is None:
        return Text("never")
    seconds = (now - instant).total_seconds()
    if seconds < -NOTABLE.total_seconds():
        return Text("{at} ({by} in the future)", at=iso(instant), by=described(seconds))
    return Text("{at} ({age} ago)", at=iso(instant), age=described(max(seconds, 0.0)))
