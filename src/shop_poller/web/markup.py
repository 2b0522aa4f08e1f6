"""Builds HTML: every value is escaped, unless it is Markup."""

import html
from collections.abc import Iterable

from shop_poller.core.plain_text import plain

CLIPPED = 300
"""Characters shown of a text that is not ours; a receiver's response may have any length."""


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def fill(template: str, **values: object) -> Markup:
    """Put values into a template of ours; every value that is not Markup is escaped."""
    return Markup(template.format(**{name: escaped(value) for name, value in values.items()}))


def escaped(value: object) -> Markup:
    """Return a value as HTML, safe in text and in quoted attributes."""
    return value if isinstance(value, Markup) else Markup(html.escape(str(value), quote=True))


def joined(parts: Iterable[Markup]) -> Markup:
    """Join the parts."""
    return Markup("".join(parts))


def foreign(text: str) -> Markup:
    """Return a foreign text: clipped, and isolated from the text direction around it."""
    shown = plain(text)
    return fill("<bdi>{text}</bdi>", text=shown if len(shown) <= CLIPPED else f"{shown[:CLIPPED]}…")
