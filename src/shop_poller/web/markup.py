"""HTML by hand: whatever is put into it is escaped, unless it is HTML already."""

import html
from collections.abc import Iterable

from shop_poller.core.plain_text import plain

CLIPPED = 300
"""Letters of one text that is not ours: a receiver's answer may be as long as it likes."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """Put values into a template of ours; of a value that is no Markup nothing is taken for HTML."""
    return Markup(template.format(**{name: escaped(value) for name, value in values.items()}))


def escaped(value: object) -> Markup:
    """A value as HTML, safe in text and in quoted attributes."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def joined(parts: Iterable[Markup]) -> Markup:
    """One after the other."""
    return Markup("".join(parts))


def foreign(text: str) -> Markup:
    """A text of somebody else: clipped, and kept from turning the direction of what is around it."""
    shown = plain(text)
    return fill("<bdi>{text}</bdi>", text=shown if len(shown) <= CLIPPED else f"{shown[:CLIPPED]}…")
