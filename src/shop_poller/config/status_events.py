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

PLACEHOLDERS = ("{id}", "{number}", "{total}", "{customer}", "{status}")
NAME = re.compile(r"shop\.[a-z0-9_.]{1,60}")
KEYS = ("event", "level", "title", "message")
FORMAT = re.compile(r"![rsa]\b|:[<>^]?[0-9]{0,3}(?=})")
"""What Python's own formats have behind a name; no sign of a password."""
MOST = 50
MAX_STATUS = 100
MAX_TITLE = 100
MAX_MESSAGE = 500
EXAMPLE = '{"packing": {"title": "Packing", "message": "Order #{id} is being packed"}}'


def parse(value: object) -> dict[str, StatusEvent]:
    """Read the setting: JSON, or the same as a table.

    Returns:
        By status.

    Raises:
        ValueError: one line, what is wrong and what to do.
    """
    table = read_tables(value, example=EXAMPLE, most=MOST, of="statuses")
    found: dict[str, StatusEvent] = {}
    for status, entry in table.items():
        try:
            found[bare(status)] = _event(status, entry)
        except ValueError as error:
            if is_harmless(bare(status), is_name=True):
                raise
            raise ValueError(str(error).replace(bare(status), "one of the statuses")) from None
    return found


def _event(status: str, entry: Mapping[str, Any]) -> StatusEvent:
    if not _is_line(status, MAX_STATUS) or not bare(status):
        raise ValueError(
            f"has a status that is no text of 1 to {MAX_STATUS} characters: {shown(status, limit=40)}"
        )
    status = bare(status)
    if status in EVENTS:
        raise ValueError(f"{status} has an event of its own, {EVENTS[status]}; leave it out")
    unknown = sorted(set(entry) - set(KEYS))
    if unknown:
        raise ValueError(
            f"{status}: there is no {shown(unknown[0], is_name=True)}; there are {', '.join(KEYS)}"
        )
    return StatusEvent(
        event=_name(status, entry.get("event")),
        level=_level(status, entry.get("level", "info")),
        title=_text(status, "title", entry.get("title"), MAX_TITLE),
        message=_text(status, "message", entry.get("message"), MAX_MESSAGE),
    )


def _name(status: str, name: object) -> str:
    if name is None:
        name = f"shop.order.{status.replace('-', '_')}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(
            f"{status}: {shown(name, is_name=True)} is no name for an event; set its event to shop. and up to"
            " 60 of a-z, 0-9, _ and dot"
        )
    if name in set(EventType):
        raise ValueError(f"{status}: {name} is an event already; set its event to another name")
    return name


def _level(status: str, level: object) -> str:
    levels = sorted(set(LEVELS.values()))
    if not isinstance(level, str) or level not in levels:
        raise ValueError(
            f"{status}: there is no level {shown(level, is_name=True)}; there are {', '.join(levels)}"
        )
    return level


def _text(status: str, key: str, text: object, longest: int) -> str:
    if text is None:
        raise ValueError(f"{status}: {key} is missing; it is what people will read")
    if not isinstance(text, str) or not _is_line(text, longest):
        raise ValueError(f"{status}: {key} should be a line of 1 to {longest} characters")
    strange = [found for found in PLACEHOLDER.findall(text) if found not in PLACEHOLDERS]
    if strange or set("{}") & set(PLACEHOLDER.sub("", text)):
        what = "a brace by itself"
        if strange:
            what = strange[0][:40] if is_harmless(FORMAT.sub("", strange[0])) else "a text in braces"
        raise ValueError(f"{status}: {key} has {what} in it; braces are for {' '.join(PLACEHOLDERS)}")
    return text


def _is_line(text: str, longest: int) -> bool:
    """Whether it can be shown, and sent: a lone surrogate cannot be encoded."""
    return (
        bool(text.strip())
        and len(text) <= longest
        and not any(unicodedata.category(char) in {"Cc", "Cs", "Zl", "Zp"} for char in text)
    )
