"""The kinds of sinks. To add one, write its module and add its config model to SINKS."""

import re

from shop_poller.config.addresses import split
from shop_poller.config.sinks import SinkConfig, sink_name
from shop_poller.core.showing import is_harmless
from shop_poller.core.translatable import Text, joined
from shop_poller.sinks.apprise.config import INSTALL, PREFIX, AppriseConfig
from shop_poller.sinks.apprise.schemes import SCHEMES
from shop_poller.sinks.console import ConsoleConfig
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.redis.config import RedisConfig, StreamConfig

SINKS: list[type[SinkConfig]] = [HttpConfig, RedisConfig, StreamConfig, AppriseConfig, ConsoleConfig]
"""In the order that error texts and the documentation use."""

SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*")
INSTALL_APPRISE = INSTALL
"""The command that installs Apprise where this process finds it."""


def parse_sink(address: str) -> SinkConfig:
    """Parse one address of SHOP_NOTIFY_URLS.

    Raises:
        ValueError: the address is wrong. The text does not contain it, because it may contain a password.
    """
    for sink in SINKS:
        if address.lower().startswith(sink.prefixes):
            return sink.parse(address)
    scheme, found, place = address.partition("://")
    if found and scheme.lower() in SCHEMES:
        return AppriseConfig.parse(PREFIX + address)
    sink_name(address.partition("#")[2], "")  # whatever the kind, a wrong #name is reported first
    # Only the scheme is shown: the rest may be a password.
    may_be_shown = found and place and SCHEME.fullmatch(scheme) and is_harmless(scheme, is_name=True)
    if not may_be_shown:
        split(address)  # raises a more precise error if its form is wrong
    *formats, last = (sink.address_format for sink in SINKS)
    raise ValueError(
        Text(
            "{kind} is not a kind of sink. Use {formats}, or {last}",
            kind=f"{scheme.lower()}://" if may_be_shown else Text("an address without its beginning"),
            formats=joined(", ", formats),
            last=last,
        )
    )
