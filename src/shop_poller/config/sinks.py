"""What the settings know of a sink: its name, its filter and its secrets. The kinds of sinks are in `sinks/`.

This package is below `sinks/`, so the caller that loads settings passes the function that parses an address,
`sinks.registry.parse_sink`.
"""

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self, TypeVar, get_args
from urllib.parse import SplitResult, unquote

from shop_poller.core.digests import DigestSchedule, parse_digest
from shop_poller.core.errors import text_of
from shop_poller.core.expressions import names_event
from shop_poller.core.filters import EVERYTHING, Filter, take, take_filter
from shop_poller.core.messages import Locale, Renderer
from shop_poller.core.model import Delivery, EventType, Notification
from shop_poller.core.quiet import QuietHours, take_times
from shop_poller.core.rates import Rate, parse_rate
from shop_poller.core.showing import before_colon, shown_place
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import Sink

T = TypeVar("T")
Style = Literal["rich", "classic"]
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
MAX_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkOptions:
    """What the owner may add to the address of any sink.

    Attributes:
        filter: which notifications the sink receives.
        rate: the most messages in a time; None for no limit.
        quiet: when it receives only urgent ones; None for never.
        urgent: the levels that are urgent; empty for critical.
        group_s: seconds that a notification waits for others, to become one message; 0 for no groups.
        digest: when it receives digests; None for never.
        locale: the language of its messages, for sinks for people; None for SHOP_LOCALE.
        style: of its messages, for sinks for people: rich, or title and message of the JSON as text.
    """

    filter: Filter = EVERYTHING
    rate: Rate | None = None
    quiet: QuietHours | None = None
    urgent: tuple[str, ...] = ()
    group_s: float = 0.0
    digest: DigestSchedule | None = None
    locale: Locale | None = None
    style: Style = "rich"


NO_OPTIONS = SinkOptions()


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkConfig(ABC):
    """One sink, as its address in SHOP_NOTIFY_URLS describes it. Each kind of sink is a subclass.

    Attributes:
        prefixes: the beginnings of its addresses, in lower case.
        address_format: what its addresses look like; shown in the error about an unknown kind of address.
        documented_as: the cell `address` of its row in docs/configuration.md.
        delivers_by: the cell `delivers by` of that row.
        is_for_people: whether people read what it delivers; they get rich messages, see core/rich_format.py.
        hides_buyer: whether messages leave out what SHOP_BUYER_FIELDS names, because they may reach a log.
        name: identifies the sink in rows, logs and metrics. It contains no secret, and stays the same when a
            secret changes.
        options: see SinkOptions.
    """

    prefixes: ClassVar[tuple[str, ...]]
    address_format: ClassVar[str]
    documented_as: ClassVar[str]
    delivers_by: ClassVar[str]
    is_for_people: ClassVar[bool] = False
    hides_buyer: ClassVar[bool] = False

    name: str
    options: SinkOptions = NO_OPTIONS

    @property
    def filter(self) -> Filter:
        """Which notifications the sink receives."""
        return replace(self.options.filter, is_for_people=self.is_for_people)

    @classmethod
    @abstractmethod
    def parse(cls, address: str) -> Self:
        """Parse an address that begins with one of `prefixes`.

        Raises:
            ValueError: what is wrong, in one line, without the address itself: it may contain a password.
        """

    @abstractmethod
    def open(self, *, signing_keys: Sequence[bytes], connections: int) -> Sink:
        """Make the sink. A large library is imported here: commands that send nothing do not need it.

        Args:
            signing_keys: from SHOP_NOTIFY_SECRET, for sinks that can sign.
            connections: the most deliveries at once.

        Raises:
            ValueError: the sink cannot use its address, or needs a library that is not installed; one line,
                without secrets.
        """

    def shown(self, delivery: Delivery) -> str:
        """Return what the receiver of a delivery sees, as plain text in lines; for the command `preview`.

        The default is the JSON that programs receive.
        """
        return json.dumps(json.loads(delivery.body), ensure_ascii=False, indent=2)

    @property
    def secrets(self) -> list[str]:
        """The parts of the address that nobody may see, as written and decoded."""
        return []

    @property
    def prints_all(self) -> bool:
        """Whether it prints every notification on standard output at once."""
        return False

    @property
    def shows_secret(self) -> bool:
        """Whether the name is the address, and contains what looks like a secret."""
        return False

    @property
    def chat_service_advice(self) -> str:
        """What to write instead, if the address is a chat service's that takes only its own JSON; else ""."""
        return ""

    def render(self, notification: Notification, write_rich: Renderer) -> str:
        """Write the body of a delivery. It is stored, and is the same at every attempt.

        It has to be JSON: a store treats a row whose body is anything else as damaged.

        Args:
            notification: what to deliver.
            write_rich: writes the body for people, see core/rich_format.py.
        """
        return write_rich(notification) if self.is_for_people else notification.body()


SinkParser = Callable[[str], SinkConfig]
"""Parses one address; raises what `SinkConfig.parse` raises."""


def sink_name(fragment: str, default: str) -> str:
    """The name of a sink: the #name of its address, or a default.

    Raises:
        ValueError: the #name has other characters than a name may have.
    """
    if fragment and not NAME.fullmatch(fragment):
        raise ValueError(
            Text("a sink's #name is made of up to 64 letters, digits, dots, dashes, underscores")
        )
    return fragment or default


def take_options(query: str, *, name: str, is_for_people: bool = False) -> tuple[SinkOptions, str]:
    """Take the options of every sink out of the query of an address.

    Args:
        query: of the address.
        name: of the sink, for errors.
        is_for_people: whether the sink has the options for messages to people; else they are the receiver's.

    Returns:
        The options, and the rest of the query exactly as written.

    Raises:
        ValueError: an option is wrong; one line with the sink's name and without the option's value, which
            may be a secret.
    """
    try:
        wanted, rest = take_filter(query)
        rate, rest = _take_parsed("rate", rest, parse_rate)
        # For a program, `digest` is its own parameter unless it has asked for digests.
        is_asked_for = is_for_people or any(names_event(word, EventType.DIGEST) for word in _plain(wanted))
        digest, rest = _take_parsed("digest", rest, parse_digest) if is_asked_for else (None, rest)
        times, rest = take_times(rest, takes_groups=is_for_people)
        found = SinkOptions(
            filter=wanted,
            rate=rate,
            quiet=times.quiet,
            urgent=times.urgent,
            group_s=times.group_s,
            digest=digest,
        )
        if not is_for_people:
            return found, rest
        locale, rest = _take_choice("locale", rest, get_args(Locale))
        style, rest = _take_choice("style", rest, get_args(Style))
        return replace(found, locale=locale, style=style or "rich"), rest
    except ValueError as error:
        raise ValueError(
            Text("{name}: {problem}", name=before_colon(shown_place(name)), problem=text_of(error))
        ) from None


def _plain(wanted: Filter) -> list[str]:
    """Return the words of `events=` that name one event."""
    return [word for word in wanted.events if not word.endswith("*")]


def _take_parsed(option: str, query: str, parse: Callable[[str], T]) -> tuple[T | None, str]:
    value, rest = _take_one(option, query)
    if value is None:
        return None, rest
    try:
        return parse(value), rest
    except ValueError as error:
        raise ValueError(Text("{option}=: {problem}", option=option, problem=text_of(error))) from None


def _take_choice(option: str, query: str, choices: tuple[T, ...]) -> tuple[T | None, str]:
    value, rest = _take_one(option, query)
    if value is None:
        return None, rest
    for choice in choices:
        if choice == value:
            return choice, rest
    raise ValueError(
        Text(
            "{option}=: should be {choices}",
            option=option,
            choices=joined(Text(" or "), [str(choice) for choice in choices]),
        )
    )


def _take_one(option: str, query: str) -> tuple[str | None, str]:
    taken, rest = take(query, (option,))
    if len(taken[option]) > 1:
        raise ValueError(Text("{option}= is there more than once; which one is meant?", option=option))
    return next((unquote(value) for value in taken[option]), None), rest


def place(parts: SplitResult) -> str:
    """Scheme, host and path: a name without user, password and query."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"[:MAX_NAME]


def parse_sinks(addresses: str, parse_sink: SinkParser) -> tuple[SinkConfig, ...]:
    """Parse SHOP_NOTIFY_URLS.

    Raises:
        ValueError: one of the addresses is wrong, or two sinks have the same name.
    """
    if re.search(r",\s*[a-z+]+:", addresses):
        raise ValueError(Text("has a comma between two addresses; put spaces between them"))
    sinks = tuple(parse_sink(address) for address in addresses.split())
    names = [sink.name for sink in sinks]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(
            Text(
                "two sinks have the name {twice}; give each its own by adding #name",
                twice=shown_place(twice[0]),
            )
        )
    return sinks
