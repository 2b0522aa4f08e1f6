"""`status`: the state of a shop's polling and deliveries, read from the store."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from shop_poller.alerts import MARKERS, stored_failure
from shop_poller.cli.console import store_of
from shop_poller.cli.deliveries import as_dict
from shop_poller.cli.language import as_text
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.core.clocks import NOTABLE, Whose, described, trouble
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.import_walk import Phase
from shop_poller.core.model import iso
from shop_poller.core.schedule import stale
from shop_poller.core.showing import before_colon
from shop_poller.core.translatable import Text
from shop_poller.mutes import PREFIXES, stored_event_mutes, stored_mutes
from shop_poller.ports import Alert, FinishedDelivery, PollFailure, RowSetAside, ShopState, Stats
from shop_poller.stores import leader_of, peek_store

LATEST = 10
"""How many dead letters and deliveries are shown."""


@dataclass(frozen=True, slots=True)
class Status:
    """The stored status of a shop.

    Attributes:
        now: the time of the clock that dates stored rows; None if it is unknown.
        whose: the owner of that clock.
        mutes: the muted sinks, and until when.
        event_mutes: muted events: the end of each mute, by sink and event type.
        quiet_until: the end of the current quiet hours, in the owner's time zone, by sink; only sinks that
            are quiet now.
        leader: the process that watches the shop; "" if there is none, None if it cannot be known.
        failure: why polls fail; None if the last one succeeded.
        interval_s: seconds between polls; 0 if polling is off.
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
    leader: str | None = None
    failure: PollFailure | None = None
    interval_s: float = 0.0

    @property
    def problems(self) -> list[str]:
        """Why the shop is not watched or not polled, one line per reason; none if it is."""
        found: list[str] = []
        if not self.is_watched:
            found.append(Text("no daemon watches this shop; start it with `shop-poller run`"))
        if self.poll_problem:
            found.append(self.poll_problem)
        return found

    @property
    def is_watched(self) -> bool:
        """Return whether a daemon watches the shop, as far as can be known."""
        return self.leader != ""

    @property
    def poll_problem(self) -> str:
        """Why the shop is not polled although a daemon may watch it, in one line; "" if it is."""
        if self.failure is not None:
            since, error = iso(self.failure.since), as_text(self.failure.text)
            return Text("polls fail since {since}: {error}", since=since, error=error)
        if self.leader and self._is_stale:
            return Text("the daemon runs, but no poll succeeded for too long")
        return ""

    @property
    def _is_stale(self) -> bool:
        if self.now is None or self.state is None or not self.interval_s:
            return False
        last_good = self.state.last_poll_at or self.state.started_at
        return stale(last_good, self.now, interval_s=self.interval_s)

    @property
    def waiting(self) -> int:
        """The deliveries that wait, of all sinks."""
        return sum(sink.waiting for sink in self.stats.sinks.values())

    @property
    def dead_letters(self) -> int:
        """The dead letters of all sinks."""
        return sum(sink.dead for sink in self.stats.sinks.values())

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
            **({"problems": [str(problem) for problem in self.problems]} if self.problems else {}),
            **({"polls_fail": _failure_dict(self.failure)} if self.failure else {}),
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


def _failure_dict(failure: PollFailure) -> dict[str, str]:
    return {"error_type": failure.kind, "error": failure.text, "since": iso(failure.since)}


def _failure(alerts: Mapping[str, Alert], shop: str) -> PollFailure | None:
    """Return why polls fail; an older version stored no more than the alert about it."""
    failure, alert = stored_failure(alerts), alerts.get(shop)
    if failure is None and alert is not None:
        return PollFailure(alert.cause, alert.cause, alert.since)
    return failure


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
        return replace(
            found,
            now=now,
            whose=whose,
            mutes=mutes,
            event_mutes=event_mutes,
            quiet_until=_quiet_until(settings, now),
            leader=await leader_of(store, settings.state),
            failure=_failure(alerts, shop) if settings.shop_polling_enabled else None,
            interval_s=settings.shop_polling_interval if settings.shop_polling_enabled else 0.0,
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
    problems = [Text("problem     {problem}", problem=problem) for problem in status.problems]
    if state is None:
        return [Text("shop        {shop}: never polled with this state", shop=status.shop), *problems]
    return [
        *_polling_lines(status, state, now),
        *problems,
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
