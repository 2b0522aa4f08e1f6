"""The commands `mute`, `unmute` and `mutes`: hold the deliveries to a sink for some time."""

import json
import re
from contextlib import suppress
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo

import anyio
import typer

from shop_poller.cli.console import (
    AsJson,
    CommandError,
    Config,
    EnoughError,
    ShopId,
    load_settings,
    make_app,
    refused,
    say,
)
from shop_poller.cli.daemon import ask_daemon, load_single_shop
from shop_poller.config.settings import Settings
from shop_poller.core.model import iso
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text
from shop_poller.mutes import LONGEST, stored_mutes
from shop_poller.stores import peek_store

DURATION = re.compile(r"([0-9]{1,5})(s|min|h)")
TIME = re.compile(r"([01]?[0-9]|2[0-3]):([0-5][0-9])")
UNITS = {"s": timedelta(seconds=1), "min": timedelta(minutes=1), "h": timedelta(hours=1)}
DEFAULT = timedelta(hours=1)
NOT_FOR_SEVERAL = Text("mute a sink with options of its address, or stop that shop's replica")

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


@app.command(
    epilog="""\b
Examples:
  shop-poller mute telegram
  shop-poller mute telegram --for 2h
  shop-poller mute telegram --until 18:00
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer, or
does not deliver."""
)
def mute(sink: Name, *, config: Config = None, for_: For = None, until: Until = None) -> None:
    """Send nothing to a sink for an hour, or as long as you say; its notifications wait.

    Needs the SHOP_HTTP_LISTEN and SHOP_ADMIN_TOKEN of the running daemon. Not available with [[shops]] yet.
    """
    settings = _settings_with(sink, "mute", config)
    now = datetime.now(UTC)
    try:
        lasts = duration(for_, until, now=now, zone=zone_of(settings))
    except DurationError as error:
        raise refused(error.text) from error
    fields = {"sink": sink, "seconds": str(round(lasts.total_seconds()))}
    ask_daemon(settings, "mute", fields, not_done=Text("nothing was muted"))
    say(
        Text(
            "{sink}: muted until {until}; its notifications wait in the outbox",
            sink=sink,
            until=_local(now + lasts, zone_of(settings)),
        )
    )


@app.command(
    epilog="""\b
Example:
  shop-poller unmute telegram
Exit codes: 2 settings, or the daemon has another token; 3 the daemon does not answer, or
does not deliver."""
)
def unmute(sink: Name, *, config: Config = None) -> None:
    """Send what waits for a muted sink, and all that follows."""
    settings = _settings_with(sink, "unmute", config)
    ask_daemon(settings, "unmute", {"sink": sink}, not_done=Text("nothing was unmuted"))
    say(Text("{sink}: not muted", sink=sink))


@app.command(
    epilog="""\b
Examples:
  shop-poller mutes
  shop-poller mutes --json
Exit codes: 2 settings, 4 cannot print, 5 state."""
)
def mutes(*, config: Config = None, shop: ShopId = None, as_json: AsJson = False) -> None:
    """List the muted sinks; the daemon may be running."""
    settings = load_settings(config, shop, asks_shop=False)
    found = anyio.run(read_mutes, settings)
    with suppress(EnoughError):
        for sink, (until, waiting) in found.items():
            if as_json:
                say(json.dumps({"sink": sink, "until": iso(until), "waiting": waiting}, ensure_ascii=False))
            else:
                say(
                    Text(
                        "{sink}: muted until {until}, {waiting:,} waiting",
                        sink=sink,
                        until=_local(until, zone_of(settings)),
                        waiting=waiting,
                    )
                )
        if not found and not as_json:
            say(Text("no sink is muted"))


async def read_mutes(settings: Settings) -> dict[str, tuple[datetime, int]]:
    """Return the muted sinks: until when, and how many deliveries wait.

    Raises:
        PermanentError, TemporaryError: STORE, there is none, or it cannot be read.
    """
    store = await peek_store(settings.state, shop=settings.shop, prefix=settings.shop_redis_prefix)
    try:
        stats = await store.stats(settings.shop)
        until = stored_mutes(await store.alerts(settings.shop), store.now())
    finally:
        await store.aclose()
    waiting = {name: sink.waiting for name, sink in stats.sinks.items()}
    return {sink: (at, waiting.get(sink, 0)) for sink, at in sorted(until.items())}


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


def zone_of(settings: Settings) -> tzinfo | None:
    """Return the time zone of the shop's messages; None for the machine's own zone."""
    return ZoneInfo(settings.shop_timezone) if settings.shop_timezone else None


def _local(instant: datetime, zone: tzinfo | None) -> str:
    return f"{instant.astimezone(zone):%Y-%m-%d %H:%M}"


def _settings_with(sink: str, command: str, config: Config) -> Settings:
    settings = load_single_shop(command, config, instead=NOT_FOR_SEVERAL)
    names = [one.name for one in settings.sinks]
    if sink not in names:
        raise refused(
            Text(
                "no sink is named {name} in the settings; known sinks: {known}",
                name=shown(sink, is_name=True),
                known=", ".join(names),
            )
        )
    return settings
