"""The expressions of `where=` in a sink's address, and what they match.

Pure. core/expression_parser.py parses them.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from operator import ge, gt, le, lt

KEYWORDS = frozenset({"and", "or", "not", "in"})
BARE = re.compile(r"""[^\s=!<>~(),"']+""")
ORDERS: Mapping[str, Callable[[Decimal, Decimal], bool]] = {"<": lt, "<=": le, ">": gt, ">=": ge}

Facts = Mapping[str, Sequence[str]]
"""By field, its values: none if the value is not known, several if the field has several. A field that the
notification cannot have at all is missing."""


class Kind(StrEnum):
    """What the values of a field are."""

    NUMBER = "number"
    TEXT = "text"
    EVENT = "event"
    FLAG = "flag"


FIELDS: Mapping[str, Kind] = {
    "total": Kind.NUMBER,
    "amount": Kind.NUMBER,
    "currency": Kind.TEXT,
    "product": Kind.TEXT,
    "payment": Kind.TEXT,
    "shipping": Kind.TEXT,
    "status": Kind.TEXT,
    "previous_status": Kind.TEXT,
    "number": Kind.TEXT,
    "paid": Kind.FLAG,
    "shop": Kind.TEXT,
    "event": Kind.EVENT,
    "level": Kind.TEXT,
}
OPERATORS: Mapping[Kind, tuple[str, ...]] = {
    Kind.NUMBER: ("=", "!=", "<", "<=", ">", ">=", "in"),
    Kind.TEXT: ("=", "!=", "~", "in"),
    Kind.EVENT: ("=", "!=", "~", "in"),
    Kind.FLAG: ("=", "!="),
}


class Expression(ABC):
    """An expression over the facts of a notification. Its text can be parsed again, to an equal one."""

    @abstractmethod
    def matches(self, facts: Facts) -> bool | None:
        """Return whether the facts match; None if that depends on facts that the notification cannot have.

        A comparison with a value that is not known is false.
        """

    @abstractmethod
    def comparisons(self) -> "Iterator[Comparison]":
        """Yield its comparisons, from left to right."""


@dataclass(frozen=True, slots=True)
class Comparison(Expression):
    """A field, an operator, and the values that the field is compared with; only `in` may have several."""

    field: str
    operator: str
    values: tuple[str, ...]

    def matches(self, facts: Facts) -> bool | None:
        """Compare; see `Expression`. A field with several values matches if one of them does."""
        found = facts.get(self.field)
        if found is None:
            return None
        if not found:
            return False
        if self.operator == "!=":
            return not self._has_one(found, self._is_equal)
        if self.operator == "~":
            return self._has_one(found, _contains)
        if (compare := ORDERS.get(self.operator)) is not None:
            return compare(Decimal(found[0]), Decimal(self.values[0]))
        return self._has_one(found, self._is_equal)

    def comparisons(self) -> "Iterator[Comparison]":
        """Yield itself."""
        yield self

    def _has_one(self, found: Sequence[str], fits: Callable[[str, str], bool]) -> bool:
        return any(fits(value, wanted) for value in found for wanted in self.values)

    def _is_equal(self, value: str, wanted: str) -> bool:
        kind = FIELDS[self.field]
        if kind is Kind.NUMBER:
            return Decimal(value) == Decimal(wanted)
        if kind is Kind.EVENT:
            return names_event(wanted.lower(), value)
        if self.field in {"status", "previous_status"}:  # the database has "wc-" before it
            wanted = wanted.lower().removeprefix("wc-")
        return value.casefold() == wanted.casefold()

    def __str__(self) -> str:
        """Return its text."""
        values = ", ".join(map(_written, self.values))
        return f"{self.field} {self.operator} {f'({values})' if self.operator == 'in' else values}"


@dataclass(frozen=True, slots=True)
class Not(Expression):
    """The opposite."""

    of: Expression

    def matches(self, facts: Facts) -> bool | None:
        """Match if the other does not; see `Expression`."""
        found = self.of.matches(facts)
        return None if found is None else not found

    def comparisons(self) -> "Iterator[Comparison]":
        """Yield those of the other."""
        yield from self.of.comparisons()

    def __str__(self) -> str:
        """Return its text."""
        return f"not {_in_brackets(self.of)}"


@dataclass(frozen=True, slots=True)
class Junction(Expression):
    """Several expressions with `and` or `or` between them."""

    word: str
    of: tuple[Expression, ...]

    def matches(self, facts: Facts) -> bool | None:
        """Match if all do, or if one does; see `Expression`."""
        decides = self.word == "or"
        found = [one.matches(facts) for one in self.of]
        if decides in found:
            return decides
        return None if None in found else not decides

    def comparisons(self) -> "Iterator[Comparison]":
        """Yield those of all parts."""
        for one in self.of:
            yield from one.comparisons()

    def __str__(self) -> str:
        """Return its text."""
        # `and` binds tighter: within `or` it needs no brackets.
        needs_none = [isinstance(one, Junction) and one.word < self.word for one in self.of]
        parts = zip(self.of, needs_none, strict=True)
        return f" {self.word} ".join(str(one) if none else _in_brackets(one) for one, none in parts)


def names_event(word: str, event_type: str) -> bool:
    """Return whether a word names an event: by its full name, its last part, or a prefix and a star."""
    if word.endswith("*"):
        return event_type.startswith(word[:-1])
    return word in {event_type, event_type.rpartition(".")[2]}


def _contains(value: str, wanted: str) -> bool:
    return wanted.casefold() in value.casefold()


def _written(value: str) -> str:
    """Return a value as an expression has it. No value can have quotes of both kinds."""
    if BARE.fullmatch(value) and value.lower() not in KEYWORDS:
        return value
    return f"'{value}'" if '"' in value else f'"{value}"'


def _in_brackets(one: Expression) -> str:
    return f"({one})" if isinstance(one, Junction) else str(one)
