"""The commands `mute`, `unmute` and `mutes`: hold the deliveries to a sink for some time."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated

import anyio
import typer

from shop_poller.cli.chosen_shops import EveryShop, ShopIds, ShopTags
from shop_poller.cli.console import (
    AsJson,
    CommandError,
    Config,
    EnoughError,
    make_app,
    refused,
    say,
    unknown_sink,
)
from shop_poller.cli.daemon import TargetShop, ask_daemon, ask_for_each, load_target_shops
from shop_poller.config.settings import Settings
from shop_poller.core.expressions import names_event
from shop_poller.core.filters import Filter, problems
from shop_poller.core.model import iso
from shop_poller.core.showing import before_colon
from shop_poller.core.translatable import Text, joined
from shop_poller.mutes import LONGEST, stored_event_mutes, stored_mutes
from shop_poller.stores import peek_store

DURATION = re.compile(r"([0-9]{1,5})(s|min|h)")
TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
UNITS = {"s": timedelta(seconds=1), "min": timedelta(minutes=1), "h": timedelta(hours=1)}
DEFAULT = timedelta(hours=1)

app = make_app()


class DurationError(CommandError):
    """The duration of a mute is wrong."""


Name = Annotated[str, typer.Argument(metavar="SINK", help="The name of the sink, as `status` shows it.")]
For = Annotated[
    str | None, typer.Option("--for", metavar="TIME", help="For how long: 90s, 30min, 2h; 24h at most.")
]
Until = Annotated[
    str | None,
    typer.Option("--until", metavar="HH:MM", help="Until this time of the day, in SHOP_TIMEZONE."),
]

Events = Annotated[
    list[str] | None,
    typer.Option("--events", metavar="NAMES", help="Only these events, as in events= of an address."),
]


@app.command(
    epilog="""\b
Examples:
  shop-poller mute telegram --for 2h
  shop-poller mute telegram --events new,failed
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer, or
does not deliver."""
)
def mute(
    sink: Name,
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    for_: For = None,
    until: Until = None,
    events: Events = None,
) -> None:
    """Send nothing to a sink for an hour, or as long as you say; its notifications wait.

    Needs the SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN of the running daemon.
    """
    targets = _with_sink(load_target_shops(config, shop, tag, all_shops=all_shops), sink)
    now = datetime.now(UTC)
    try:
        lasts = [duration(for_, until, now=now, zone=one.settings.time_zone) for one in targets]
    except DurationError as error:
        raise refused(error.text) from error
    named = _named_events(targets, events)

    def ask(one: TargetShop) -> None:
        if _has_none_of(one, named):
            return
        seconds = round(lasts[targets.index(one)].total_seconds())
        fields = {"sink": sink, "seconds": str(seconds), **_events_field(one, named)}
        ask_daemon(one, "mute", fields, not_done=Text("nothing was muted"))
        end = _local(now + timedelta(seconds=seconds), one.settings.time_zone)
        if named:
            line = Text(
                "{sink}: {events} muted until {end}; they wait in the outbox",
                sink=before_colon(sink),
                events=", ".join(named),
                end=end,
            )
        else:
            line = Text(
                "{sink}: muted until {end}; its notifications wait in the outbox",
                sink=before_colon(sink),
                end=end,
            )
        say(joined("", [one.prefix, line]))

    ask_for_each(targets, ask)


@app.command(
    epilog="""\b
Examples:
  shop-poller unmute telegram
  shop-poller unmute telegram --events new
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer, or
does not deliver."""
)
def unmute(
    sink: Name,
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    events: Events = None,
) -> None:
    """Send what waits for a muted sink, and all that follows."""
    targets = _with_sink(load_target_shops(config, shop, tag, all_shops=all_shops), sink)
    named = _named_events(targets, events)

    def ask(one: TargetShop) -> None:
        if _has_none_of(one, named):
            return
        fields = {"sink": sink, **_events_field(one, named)}
        ask_daemon(one, "unmute", fields, not_done=Text("nothing was unmuted"))
        line = (
            Text("{sink}: {events} not muted", sink=before_colon(sink), events=", ".join(named))
            if named
            else Text("{sink}: not muted", sink=before_colon(sink))
        )
        say(joined("", [one.prefix, line]))

    ask_for_each(targets, ask)


@app.command(
    epilog="""\b
Examples:
  shop-poller mutes
  shop-poller mutes --json
Exit codes: 2 settings, 4 cannot print, 5 state."""
)
def mutes(
    *,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsJson = False,
) -> None:
    """List the muted sinks; the daemon may be running."""
    targets = load_target_shops(config, shop, tag, all_shops=all_shops)
    with suppress(EnoughError):
        count = 0
        for one in targets:
            for found in anyio.run(read_mutes, one.settings):
                count += 1
                of_shop = {"shop": one.settings.shop} if one.is_one_of_several else {}
                if as_json:
                    say(json.dumps(of_shop | found.as_dict(), ensure_ascii=False))
                else:
                    say(joined("", [one.prefix, found.line(one.settings.time_zone)]))
        if not count and not as_json:
            say(Text("no sink is muted"))


@dataclass(frozen=True, slots=True)
class ListedMute:
    """A mute as the list shows it.

    Attributes:
        sink: its name.
        until: its end.
        waiting: the deliveries that wait for the sink.
        event_type: the muted event; "" for all.
    """

    sink: str
    until: datetime
    waiting: int
    event_type: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the output of `--json`."""
        event = {"event_type": self.event_type} if self.event_type else {}
        return {"sink": self.sink, "until": iso(self.until), "waiting": self.waiting, **event}

    def line(self, zone: tzinfo | None) -> str:
        """Return the line for people, with times in a zone; None for the machine's own."""
        end = _local(self.until, zone)
        if self.event_type:
            return Text(
                "{sink}: {event_type} muted until {end}",
                sink=before_colon(self.sink),
                event_type=self.event_type,
                end=end,
            )
        return Text(
            "{sink}: muted until {end}, {waiting:,} waiting",
            sink=before_colon(self.sink),
            end=end,
            waiting=self.waiting,
        )


async def read_mutes(settings: Settings) -> list[ListedMute]:
    """Return the muted sinks, and the muted events of sinks.

    Raises:
        PermanentError, TemporaryError: STORE, there is none, or it cannot be read.
    """
    store = await peek_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    try:
        stats = await store.stats(settings.shop)
        alerts, now = await store.alerts(settings.shop), store.now()
    finally:
        await store.aclose()
    waiting = {name: sink.waiting for name, sink in stats.sinks.items()}
    whole = [
        ListedMute(sink, at, waiting.get(sink, 0)) for sink, at in sorted(stored_mutes(alerts, now).items())
    ]
    return whole + [
        ListedMute(sink, at, waiting.get(sink, 0), event_type)
        for sink, events in stored_event_mutes(alerts, now).items()
        for event_type, at in events.items()
    ]


def duration(for_: str | None, until: str | None, *, now: datetime, zone: tzinfo | None) -> timedelta:
    """Return how long a mute lasts: more than nothing, LONGEST at most.

    Args:
        for_: the value of `--for`.
        until: the value of `--until`.
        now: the present time, aware.
        zone: of `until`; None for the machine's own zone.

    Raises:
        DurationError: both were given, or one is wrong.
    """
    if for_ is not None and until is not None:
        raise DurationError(Text("give --for or --until, not both"))
    if until is not None:
        return _until(until, now.astimezone(zone))
    if for_ is None:
        return DEFAULT
    found = DURATION.fullmatch(for_)
    if found is None or int(found[1]) == 0:
        raise DurationError(Text("--for: should be a number and s, min or h, e.g. 30min"))
    lasts = int(found[1]) * UNITS[found[2]]
    if lasts > LONGEST:
        raise DurationError(Text("--for: 24h at most; for longer, remove the sink or filter its events"))
    return lasts


def _until(text: str, now: datetime) -> timedelta:
    """Return the time until the next moment at which a clock shows this."""
    found = TIME.fullmatch(text)
    if found is None:
        raise DurationError(Text("--until: should be a time of the day, e.g. 18:00"))
    end = now.replace(hour=int(found[1]), minute=int(found[2]), second=0, microsecond=0)
    # Compared in UTC: arithmetic within one zone ignores its changes between summer and winter time.
    lasts = end.astimezone(UTC) - now.astimezone(UTC)
    if lasts <= timedelta(0):
        lasts = (end + timedelta(days=1)).astimezone(UTC) - now.astimezone(UTC)
    return min(lasts, LONGEST)


def _local(instant: datetime, zone: tzinfo | None) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"


def _with_sink(targets: Sequence[TargetShop], sink: str) -> list[TargetShop]:
    """Return the shops that have this sink; there has to be one."""
    found = [one for one in targets if any(named.name == sink for named in one.settings.sinks)]
    if found:
        return found
    raise unknown_sink(sink, dict.fromkeys(named.name for one in targets for named in one.settings.sinks))


def _named_events(targets: Sequence[TargetShop], words: Sequence[str] | None) -> list[str]:
    """Return the full names of the events that `--events` names; none for all events."""
    wanted = Filter(tuple(word for part in words or () for word in part.split(",") if word))
    if words and not wanted.events:
        raise refused(Text("--events: names none; name some, such as new,failed"))
    known = {event for one in targets for event, _ in one.settings.events}
    for problem in problems(wanted, events=known, levels=()):
        raise refused(problem)
    return sorted(event for event in known if any(names_event(word, event) for word in wanted.events))


def _has_none_of(target: TargetShop, named: Sequence[str]) -> bool:
    """Return whether the shop has none of the named events, and say so. Without names it has all of them."""
    if not named or not {event for event, _ in target.settings.events}.isdisjoint(named):
        return False
    say(joined("", [target.prefix, Text("this shop has none of these events; nothing was changed")]))
    return True


def _events_field(target: TargetShop, named: Sequence[str]) -> dict[str, str]:
    """Return the field of an action that names the events which the shop has."""
    own = {event for event, _ in target.settings.events}
    return {"events": ",".join(event for event in named if event in own)} if named else {}
