"""SHOP_STATUS_EVENTS: which statuses are news besides those in statuses.EVENTS, and in which words."""

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from shop_poller.config.statuses import EVENTS, bare
from shop_poller.config.tables import read_tables
from shop_poller.core.messages import LEVELS, PLACEHOLDER
from shop_poller.core.model import EventType, StatusEvent
from shop_poller.core.showing import is_harmless, shown
from shop_poller.core.translatable import Text

PLACEHOLDERS = ("{id}", "{number}", "{total}", "{customer}", "{status}")
NAME = re.compile(r"shop\.[a-z0-9_.]{1,60}")
KEYS = ("event", "level", "title", "message")
FORMAT = re.compile(r"![rsa]\b|:[<>^]?[0-9]{0,3}(?=})")
"""What Python's own formats have behind a name; no sign of a password."""
MOST = 50
MAX_STATUS = 100
MAX_TITLE = 100
MAX_MESSAGE = 500
EXAMPLE = Text('{{"packing": {{"title": "Packing", "message": "Order #{{id}} is being packed"}}}}')


def parse(value: object) -> dict[str, StatusEvent]:
    """Read the setting: JSON, or the same as a table.

    Returns:
        By status.

    Raises:
        ValueError: one line, what is wrong and what to do.
    """
    table = read_tables(value, example=EXAMPLE, most=MOST, of=Text("statuses"))
    found: dict[str, StatusEvent] = {}
    for status, entry in table.items():
        found[bare(status)] = _event(status, entry)
    return found


def _event(status: str, entry: Mapping[str, Any]) -> StatusEvent:
    if not _is_line(status, MAX_STATUS) or not bare(status):
        raise ValueError(
            Text(
                "has a status that is no text of 1 to {most} characters: {status}",
                most=MAX_STATUS,
                status=shown(status, limit=40),
            )
        )
    status = bare(status)
    if status in EVENTS:
        raise ValueError(
            Text(
                "{status} has an event of its own, {events}; leave it out",
                status=status,
                events=EVENTS[status],
            )
        )
    named = status if is_harmless(status, is_name=True) else Text("one of the statuses")
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        raise ValueError(
            Text(
                "{status}: there is no {unknown}; there are {keys}",
                status=named,
                unknown=shown(unknown[0], is_name=True),
                keys=", ".join(KEYS),
            )
        )
    return StatusEvent(
        event=_name(status, named, entry.get("event")),
        level=_level(named, entry.get("level", "info")),
        title=_text(named, "title", entry.get("title"), MAX_TITLE),
        message=_text(named, "message", entry.get("message"), MAX_MESSAGE),
    )


def _name(status: str, named: str, name: object) -> str:
    if name is None:
        name = f"shop.order.{status.replace('-', '_')}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            Text(
                "{status}: {name} is no name for an event; set its event to shop. and up to 60 of "
                "a-z, 0-9, _ and dot",
                status=named,
                name=shown(name, is_name=True),
            )
        )
    if name in set(EventType):
        raise ValueError(
            Text(
                "{status}: {name} is an event already; set its event to another name",
                status=named,
                name=name,
            )
        )
    return name


def _level(status: str, level: object) -> str:
    levels = sorted(set(LEVELS.values()))
    if not isinstance(level, str) or level not in levels:
        raise ValueError(
            Text(
                "{status}: there is no level {level}; there are {levels}",
                status=status,
                level=shown(level, is_name=True),
                levels=", ".join(levels),
            )
        )
    return level


def _text(status: str, key: str, text: object, longest: int) -> str:
    if text is None:
        raise ValueError(
            Text("{status}: {key} is missing; it is what people will read", status=status, key=key)
        )
    if not isinstance(text, str) or not _is_line(text, longest):
        raise ValueError(
            Text(
                "{status}: {key} should be a line of 1 to {longest} characters",
                status=status,
                key=key,
                longest=longest,
            )
        )
    strange = [found for found in PLACEHOLDER.findall(text) if found not in PLACEHOLDERS]
    if strange or set("{}") & set(PLACEHOLDER.sub("", text)):
        what = Text("a brace by itself")
        if strange:
            what = strange[0][:40] if is_harmless(FORMAT.sub("", strange[0])) else Text("a text in braces")
        raise ValueError(
            Text(
                "{status}: {key} has {what} in it; braces are for {placeholders}",
                status=status,
                key=key,
                what=what,
                placeholders=" ".join(PLACEHOLDERS),
            )
        )
    return text


def _is_line(text: str, longest: int) -> bool:
    """Whether it can be shown, and sent: a lone surrogate cannot be encoded."""
    return (
        bool(text.strip())
        and len(text) <= longest
        and not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text)
    )
