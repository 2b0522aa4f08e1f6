"""Finds the Text of a line that is known only in English: it was stored, or a library made it. Pure."""

import re
import string
from collections.abc import Iterable
from functools import cache

from shop_poller.core.translatable import PLURAL, Text

LEAST_LETTERS = 3
"""Letters of a template besides its values; fewer fit lines that were made otherwise."""
DEEPEST = 3
"""A value may be a Text, too, and so may a value of that one."""


def recognized(line: str, templates: Iterable[str], *, depth: int = DEEPEST) -> str:
    """Return a line as the Text that it was made of; unchanged if it was made of none of the templates.

    Args:
        line: in English.
        templates: of Texts. The one with the most letters that fits is used.
        depth: how deep Texts are searched in the values.
    """
    known = templates if isinstance(templates, tuple) else tuple(templates)
    for template, pattern in _patterns(known):
        found = pattern.fullmatch(line)
        if found is not None:
            values = {
                name: int(value)
                if name == PLURAL
                else recognized(value, known, depth=depth - 1)
                if depth
                else value
                for name, value in found.groupdict().items()
            }
            return Text(template, **values)
    return line


@cache
def _patterns(templates: tuple[str, ...]) -> list[tuple[str, re.Pattern[str]]]:
    """Return the templates that can be recognized, those with the most letters first."""
    found = [
        (letter_count, template)
        for template in templates
        if (letter_count := _letters(template)) >= LEAST_LETTERS
    ]
    return [(template, pattern_of(template)) for _, template in sorted(found, key=lambda one: -one[0])]


def _letters(template: str) -> int:
    """Return how many letters a template has; 0 if a value has a format, which cannot be read back."""
    pieces = list(string.Formatter().parse(template))
    if any(spec for _, _, spec, _ in pieces):
        return 0
    return sum(character.isalpha() for text, *_ in pieces for character in text)


def pattern_of(template: str) -> re.Pattern[str]:
    """Return an expression that the lines made of a template match; its groups are the values."""
    parts, seen = list[str](), set[str]()
    for text, name, _, _ in string.Formatter().parse(template):
        parts.append(re.escape(text))
        if name is not None:
            value = "[0-9]+" if name == PLURAL else ".+"
            parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{value})")
            seen.add(name)
    return re.compile("".join(parts), re.DOTALL)
