"""Receivers that people read: in some worlds they have quiet hours, and take groups."""

from dataclasses import fields
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import SecretStr

from shop_poller.config.settings import Settings
from shop_poller.config.sinks import SinkConfig
from shop_poller.core.quiet import take_times
from shop_poller.core.rates import parse_rate
from shop_poller.sinks.http.config import HttpConfig

READ = 0.25
ADMIN_TOKEN = "an-owner-who-mutes-receivers"
ZONE = "Europe/Moscow"
QUIET = ("12:01-12:05", "12:00-12:20", "12:03-12:04,12:06-12:15", "11:00-12:02")
"""A world begins at noon in Moscow."""


class ReadHttp(HttpConfig):
    """A receiver of POST requests that people read."""

    is_for_people = True


def is_read(seed: int) -> bool:
    """Whether people read what the receivers of a seed's world get one by one."""
    return Random(f"readers {seed}").random() < READ


def with_readers(settings: Settings, seed: int) -> Settings:
    """The settings with quiet hours, groups and rates, and with a token for the owner, who mutes."""
    rng = Random(f"hours {seed}")
    sinks = tuple(_read(sink, rng) if type(sink) is HttpConfig else sink for sink in settings.sinks)
    return settings.model_copy(
        update={
            "shop_notify_urls": sinks,
            "shop_timezone": ZONE,
            "shop_admin_token": SecretStr(ADMIN_TOKEN),
        }
    )


def _read(sink: SinkConfig, rng: Random) -> SinkConfig:
    words = [f"group={rng.choice(['2s', '10s', '60s'])}"] if rng.random() < 0.7 else []
    words += [f"quiet={rng.choice(QUIET)}"] if rng.random() < 0.6 or not words else []
    words += ["urgent=error,critical"] if rng.random() < 0.3 else []
    rate = parse_rate(rng.choice(["1/s", "6/min", "40/min"])) if rng.random() < 0.4 else None
    times, _ = take_times("&".join(words), takes_groups=True)
    known: dict[str, Any] = {one.name: getattr(sink, one.name) for one in fields(sink)}
    options = {one.name: getattr(sink.options, one.name) for one in fields(sink.options)}
    options |= {"quiet": times.quiet, "urgent": times.urgent, "group_s": times.group_s, "rate": rate}
    return ReadHttp(**known | {"options": type(sink.options)(**options)})


MOSCOW = ZoneInfo(ZONE)
