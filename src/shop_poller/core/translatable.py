"""Lines for people that can be shown in their own language. Pure.

A `Text` is a line in English that remembers how it was made: from which template, with which values. Logs,
JSON and comparisons use it as the English string that it is. The command line calls `translated` with the
catalogue of the user's language before it prints it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self, cast

PLURAL = "count"
"""The value whose number chooses the plural form."""


class Text(str):
    """A line in English, and how it was made.

    Args:
        template: in braces are names of values, as for `str.format`; it is the key of the catalogues.
        values: each may be a Text itself. A name must be in the template.

    Attributes:
        template, values: as given.
    """

    __slots__ = ("template", "values")

    template: str
    values: Mapping[str, object]

    def __new__(cls, template: str, **values: object) -> Self:
        """Make the English line."""
        text = super().__new__(cls, template.format(**values))
        text.template, text.values = template, values
        return text

    def __reduce__(self) -> tuple[Callable[..., "Text"], tuple[str, Mapping[str, object]]]:
        """Copy from the template: the finished line may contain braces."""
        return _restored, (self.template, self.values)


def _restored(template: str, values: Mapping[str, object]) -> Text:
    return Text(template, **values)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """The lines of one language.

    Attributes:
        marks: how this language writes the comma and the point of an English number, for `str.translate`.
        lines: by the English template, the template in this language, or one per plural form (`one`, `few`,
            `many`, `other` of CLDR) if the template has a value named `count`.
        plural_form: the plural form of a number.
    """

    lines: Mapping[str, str | Mapping[str, str]]
    plural_form: Callable[[float], str]
    marks: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Number:
    """A number that is formatted as another language writes it."""

    value: float
    marks: Mapping[int, str]

    def __format__(self, spec: str) -> str:
        return format(self.value, spec).translate(self.marks)


def translated(text: str, catalogue: Catalogue) -> str:
    """Return the line in the language of the catalogue; what the catalogue does not have stays English."""
    if not isinstance(text, Text):
        return text
    found = catalogue.lines.get(text.template, text.template)
    if not isinstance(found, str):
        found = found[catalogue.plural_form(cast("float", text.values[PLURAL]))]
    return found.format(**{name: _shown(value, catalogue) for name, value in text.values.items()})


def _shown(value: object, catalogue: Catalogue) -> object:
    if isinstance(value, str):
        return translated(value, catalogue)
    return _Number(value, catalogue.marks) if isinstance(value, int | float) else value


def joined(separator: str, texts: Sequence[str]) -> str:
    """Join lines as `str.join` does; the result can still be translated, and so can the separator."""
    names = [f"part{number}" for number in range(len(texts))]
    template = "{separator}".join(f"{{{name}}}" for name in names)
    return Text(template, separator=separator, **dict(zip(names, texts, strict=True)))
