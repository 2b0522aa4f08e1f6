"""The addresses of the sinks in Redis or Valkey. The query contains only our options, which are not sent."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import SplitResult, parse_qsl, urlunsplit

from shop_poller.config.addresses import secrets_in, split
from shop_poller.config.sink_spelling import option_names
from shop_poller.config.sinks import SinkConfig, SinkOptions, place, sink_name, take_options
from shop_poller.core.showing import is_harmless, shown_place
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text
from shop_poller.ports import Sink

DATABASE = re.compile(r"(/[0-9]{0,5})?")
COUNT = re.compile(r"[1-9][0-9]{0,8}")
DEFAULT_MAXLEN = 10_000
OWN_OPTIONS = ("channel", "stream", "maxlen")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig(SinkConfig):
    """A server that a sink delivers to.

    Attributes:
        url: the address for the client library, without our options; may contain a password.
    """

    url: str = field(repr=False)

    @property
    def secrets(self) -> list[str]:
        """The password, or the user if there is no password."""
        return secrets_in(self.url)


@dataclass(frozen=True, slots=True, kw_only=True)
class RedisConfig(ServerConfig):
    """A channel to publish notifications to."""

    prefixes = ("redis:", "rediss:")
    address_format = "redis(s)://host:port/0?channel=name"
    documented_as = "`redis://user:password@host:6379/0?channel=notification:events`, `rediss://…` for TLS"
    delivers_by = "PUBLISH"

    channel: str

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse an address; see `SinkConfig`."""
        read = _Address(address)
        channel = read.take("channel", example="notification:events")
        read.end()
        return cls(name=read.name, options=read.common, url=read.url, channel=channel)

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - nothing is signed
        """Make the sink."""
        from shop_poller.sinks.redis.sink import RedisSink  # noqa: PLC0415 - the library takes 10 MB

        return RedisSink(self, connections=connections)


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamConfig(ServerConfig):
    """A stream to add notifications to.

    Attributes:
        stream: the key of the stream.
        maxlen: the approximate maximum number of entries in the stream.
    """

    prefixes = ("redis+stream:", "rediss+stream:")
    address_format = "redis(s)+stream://host:port/0?stream=name"
    documented_as = (
        "`redis+stream://user:password@host:6379/0?stream=shop:events&maxlen=10000`,"
        " `rediss+stream://…` for TLS"
    )
    delivers_by = "XADD"

    stream: str
    maxlen: int = DEFAULT_MAXLEN

    @classmethod
    def parse(cls, address: str) -> Self:
        """Parse an address; see `SinkConfig`."""
        read = _Address(address)
        stream = read.take("stream", example="shop:events")
        maxlen = read.options.pop("maxlen", str(DEFAULT_MAXLEN))
        if not COUNT.fullmatch(maxlen):
            raise ValueError(
                Text("{name} has a maxlen that is no number from 1 to 999999999", name=shown_place(read.name))
            )
        read.end()
        return cls(name=read.name, options=read.common, url=read.url, stream=stream, maxlen=int(maxlen))

    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:  # noqa: ARG002 - nothing is signed
        """Make the sink."""
        from shop_poller.sinks.redis.sink import StreamSink  # noqa: PLC0415 - the library takes 10 MB

        return StreamSink(self, connections=connections)


class _Address:
    """An address of either kind that is being parsed.

    Attributes:
        options: the options that are not used yet.
    """

    def __init__(self, address: str) -> None:
        parts = split(address)
        self.name = sink_name(parts.fragment, place(parts))
        if not parts.hostname:
            raise ValueError(Text("an address that begins with {scheme}:// has no host", scheme=parts.scheme))
        if not DATABASE.fullmatch(parts.path):
            raise ValueError(
                Text("a Redis address ends in the number of a database, e.g. redis://host:6379/0")
            )
        self.common, self.options = self._options(parts)
        scheme = parts.scheme.removesuffix("+stream")
        self.url = urlunsplit(parts._replace(scheme=scheme, query="", fragment=""))

    def take(self, option: str, *, example: str) -> str:
        """Remove a required option and return its value.

        Raises:
            ValueError: the address does not have the option.
        """
        value = self.options.pop(option, "")
        if not value:
            self._refuse([other for other in self.options if closest(other, [option])])
            raise ValueError(
                Text(
                    "{name} names no {option}; add ?{option}={example}",
                    name=shown_place(self.name),
                    option=option,
                    example=example,
                )
            )
        return value

    def end(self) -> None:
        """Refuse options that were not used.

        Raises:
            ValueError: there is one.
        """
        self._refuse(sorted(self.options))

    def _refuse(self, names: Sequence[str]) -> None:
        if not names:
            return
        # An unknown option may be a secret that was meant as the value of an option.
        unknown = ", ".join(name if is_harmless(name, is_name=True) else "…" for name in names)
        known = (*OWN_OPTIONS, *option_names(is_for_people=False))
        if right := next((right for name in names if (right := closest(name, known))), ""):
            raise ValueError(
                Text(
                    "{name} has an option that is not known: {unknown}; did you mean {right}?",
                    name=shown_place(self.name),
                    unknown=unknown,
                    right=right,
                )
            )
        raise ValueError(
            Text(
                "{name} has an option that is not known: {unknown}",
                name=shown_place(self.name),
                unknown=unknown,
            )
        )

    def _options(self, parts: SplitResult) -> tuple[SinkOptions, dict[str, str]]:
        options, query = take_options(parts.query, name=self.name)
        found: dict[str, str] = {}
        for option, value in parse_qsl(query, keep_blank_values=True):
            if option in found and option in OWN_OPTIONS:
                raise ValueError(
                    Text(
                        "{name} has the option {option} more than once; which one is meant?",
                        name=shown_place(self.name),
                        option=option,
                    )
                )
            found[option] = value
        return options, found
