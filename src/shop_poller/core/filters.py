"""Which notifications a sink accepts: `events=` and `levels=` in its address.

A word of `events` is an event's full name, its last part (`new`), or a prefix and a star (`service.*`).
Levels have the names that are sent, after SHOP_LEVEL_MAP.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from shop_poller.core.model import EventType, Notification
from shop_poller.core.showing import is_harmless

MOST_WORDS = 100
PLAIN = re.compile(r"[A-Za-z0-9_.-]{1,70}\*?")


@dataclass(frozen=True, slots=True)
class Filter:
    """What a sink accepts; an empty field accepts everything.

    Attributes:
        events: words of `events=`.
        levels: words of `levels=`.
        is_for_people: people read what the sink delivers. Only they are told of orders that are placed and
            not paid yet, unless `events` names that event: a program that knows the older events must not
            meet a new one. And only they are not told that an order was cancelled that was never announced.
    """

    events: tuple[str, ...] = ()
    levels: tuple[str, ...] = ()
    is_for_people: bool = False

    def wants(self, event_type: str, level: str) -> bool:
        """Return whether the sink accepts an event of this type and level."""
        if event_type == EventType.PLACED and not self.is_for_people:
            named = not {event_type, event_type.rpartition(".")[2]}.isdisjoint(self.events)
        else:
            named = not self.events or any(_names(word, event_type) for word in self.events)
        return named and (not self.levels or level in self.levels)

    def takes(self, notification: Notification) -> bool:
        """Return whether the sink accepts a notification."""
        if not self.wants(notification.event_type, notification.level):
            return False
        is_cancelled = notification.event_type == EventType.CANCELLED
        return not (self.is_for_people and is_cancelled and not notification.data.get("was_announced", True))


EVERYTHING = Filter()


def takers(sinks: Mapping[str, Filter], notification: Notification) -> list[str]:
    """Return the names of the sinks that accept a notification, in their order."""
    return [name for name, wanted in sinks.items() if wanted.takes(notification)]


def take_filter(query: str) -> tuple[Filter, str]:
    """Take `events` and `levels` out of the query of an address.

    Returns:
        The filter, and the rest of the query exactly as written: the receiver of a webhook may depend on it.

    Raises:
        ValueError: one of the two is empty, too long, or in capitals. The message does not contain its words,
            which may be a secret.
    """
    rest: list[str] = []
    words: dict[str, list[str]] = {"events": [], "levels": []}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in words and name.lower() in words:
            raise ValueError(f"{name}= in an address should be written {name.lower()}=")
        if name not in words:
            rest.append(part)
            continue
        found = [word for word in (text.strip() for text in unquote(value).split(",")) if word]
        if not found:
            raise ValueError(f"{name}= in an address names none; name some, or leave it out")
        words[name] += found
    if sum(map(len, words.values())) > MOST_WORDS:
        raise ValueError(f"events= and levels= in an address have more than {MOST_WORDS} words")
    return Filter(tuple(words["events"]), tuple(words["levels"])), "&".join(rest)


def problems(wanted: Filter, *, events: Collection[str], levels: Collection[str]) -> list[str]:
    """Return one line per word of a filter that matches none of the possible events or levels.

    `events` and `levels` have all of them, by their full names.
    """
    unknown = [word for word in wanted.events if not any(_names(word, event) for event in events)]
    found = [_unknown("event", word, events) for word in unknown]
    return found + [_unknown("level", word, levels) for word in wanted.levels if word not in levels]


def _names(word: str, event_type: str) -> bool:
    if word.endswith("*"):
        return event_type.startswith(word[:-1])
    return word in {event_type, event_type.rpartition(".")[2]}


def _unknown(what: str, word: str, known: Iterable[str]) -> str:
    # If an & is missing, a word may contain the receiver's token.
    may_be_named = PLAIN.fullmatch(word) and is_harmless(word.removesuffix("*"), is_name=True)
    named = f"{what} {word!r}" if may_be_named else f"{what} with the given name"
    return f"there is no {named}; there are {', '.join(sorted(known))}"
