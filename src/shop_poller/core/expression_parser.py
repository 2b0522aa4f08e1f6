"""Parses the expressions of `where=` in a sink's address, e.g. `total >= 5000 and not payment ~ cash`. Pure.

    expression = term {"or" term}
    term       = factor {"and" factor}
    factor     = "not" factor | "(" expression ")" | comparison
    comparison = field operator value | field "in" "(" value {"," value} ")" | flag

`and` binds tighter than `or`. Words of the language and the names of fields may be in capitals. A value with
blanks, brackets or operators is in quotes, single or double. Text is compared without regard to case.

Nothing is evaluated as code. Length, depth and number of comparisons are bounded.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shop_poller.core.expressions import (
    FIELDS,
    KEYWORDS,
    OPERATORS,
    Comparison,
    Expression,
    Junction,
    Kind,
    Not,
)
from shop_poller.core.showing import is_harmless
from shop_poller.core.translatable import Text

MAX_LENGTH = 1000
"""Characters of an expression."""
MAX_DEPTH = 10
"""Of brackets and `not`, one in the other."""
MAX_TERMS = 100
"""Values that an expression compares with."""

TOKEN = re.compile(
    r"""(?P<sign><=|>=|!=|[=<>~(),])|"(?P<double>[^"]*)"|'(?P<single>[^']*)'|(?P<word>[^\s=!<>~(),"']+)"""
)
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,8})?")
ANY_OPERATOR = frozenset(operator for some in OPERATORS.values() for operator in some)
PLAIN = re.compile(r"[A-Za-z_]{1,30}")
EXPECTED: Mapping[Kind, Text] = {
    Kind.NUMBER: Text("a number"),
    Kind.TEXT: Text("a value"),
    Kind.EVENT: Text("an event"),
    Kind.FLAG: Text("true or false"),
}


def parse_expression(text: str) -> Expression:
    """Parse an expression.

    Raises:
        ValueError: what is expected, and at which character (from 1). The message contains no value of the
            expression, which may be a secret if an & is missing in the address.
    """
    if len(text) > MAX_LENGTH:
        raise ValueError(Text("it has more than {most:,} characters", most=MAX_LENGTH))
    return _Parser(text).parse()


@dataclass(frozen=True, slots=True)
class _Token:
    """A part of the text; `sign` is what it means to the grammar, "" for a value."""

    sign: str
    text: str
    at: int
    is_quoted: bool = False


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0
        self._terms = 0

    def parse(self) -> Expression:
        found = self._either()
        if self._token.sign != "end":
            if self._token.sign in {")", ","}:
                self._fail(Text('"and", "or" or the end is expected'))
            self._fail(Text('"and", "or" or the end is expected; put text with blanks in quotes'))
        return found

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _fail(self, expected: str) -> None:
        raise ValueError(_at(expected, self._token.at))

    def _take(self, sign: str) -> bool:
        if self._token.sign != sign:
            return False
        self._next += 1
        return True

    def _either(self) -> Expression:
        return self._joined("or", self._all)

    def _all(self) -> Expression:
        return self._joined("and", self._factor)

    def _joined(self, word: str, part: Callable[[], Expression]) -> Expression:
        parts = [part()]
        while self._take(word):
            parts.append(part())
        return parts[0] if len(parts) == 1 else Junction(word, tuple(parts))

    def _factor(self) -> Expression:
        if self._token.sign not in {"not", "("}:
            return self._comparison()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._fail(Text('brackets and "not" may be {most} deep', most=MAX_DEPTH))
        if self._take("not"):
            found: Expression = Not(self._factor())
        else:
            self._next += 1
            found = self._either()
            if not self._take(")"):
                self._fail(Text('"and", "or" or a closing bracket is expected'))
        self._depth -= 1
        return found

    def _comparison(self) -> Expression:
        field = self._field()
        kind = FIELDS[field]
        operator = self._token.sign
        if operator not in OPERATORS[kind]:
            if kind is Kind.FLAG and operator in {"end", "and", "or", ")"}:
                self._count()
                return Comparison(field, "=", ("true",))
            self._fail(
                Text(
                    'after "{field}" one of {operators} is expected',
                    field=field,
                    operators=" ".join(OPERATORS[kind]),
                )
            )
        self._next += 1
        before = f"{field} {operator}"
        if operator != "in":
            return Comparison(field, operator, (self._value(kind, before),))
        if not self._take("("):
            self._fail(Text('after "{before}" values in brackets are expected', before=before))
        values = [self._value(kind, f"{before} (")]
        while self._take(","):
            values.append(self._value(kind, f"{before} (…,"))
        if not self._take(")"):
            self._fail(Text("a comma or a closing bracket is expected"))
        return Comparison(field, operator, tuple(values))

    def _field(self) -> str:
        token = self._token
        name = token.text.lower()
        if token.sign or token.is_quoted or name not in FIELDS:
            # Only before an operator: a passphrase has none.
            is_word = (
                not token.sign and not token.is_quoted and self._tokens[self._next + 1].sign in ANY_OPERATOR
            )
            may_be_named = is_word and PLAIN.fullmatch(name) and is_harmless(name, is_name=True)
            problem = (
                Text('there is no field "{name}"', name=name) if may_be_named else Text("a field is expected")
            )
            self._fail(Text("{problem}; there are {fields}", problem=problem, fields=", ".join(FIELDS)))
        self._next += 1
        return name

    def _value(self, kind: Kind, before: str) -> str:
        token = self._token
        text = token.text.lower() if kind is Kind.FLAG else token.text
        is_wrong_flag = kind is Kind.FLAG and text not in {"true", "false"}
        is_wrong_number = kind is Kind.NUMBER and not NUMBER.fullmatch(text)
        if token.sign or not text.strip() or is_wrong_flag or is_wrong_number:
            self._fail(
                Text('after "{before}" {expected} is expected', before=before, expected=EXPECTED[kind])
            )
        self._count()
        self._next += 1
        return text

    def _count(self) -> None:
        self._terms += 1
        if self._terms > MAX_TERMS:
            self._fail(Text("there are more than {most} values", most=MAX_TERMS))


def _at(problem: str, at: int) -> Text:
    return Text("{problem} (at character {number})", problem=problem, number=at + 1)


def _tokens(text: str) -> list[_Token]:
    """Split a text. The last token is its end."""
    found: list[_Token] = []
    at = 0
    while True:
        at += len(text[at:]) - len(text[at:].lstrip())
        if at == len(text):
            return [*found, _Token("end", "", at)]
        match = TOKEN.match(text, at)
        if match is None:
            problem = (
                Text("= is expected after !") if text[at] == "!" else Text("the closing quote is missing")
            )
            raise ValueError(_at(problem, at))
        kind, part = next((kind, part) for kind, part in match.groupdict().items() if part is not None)
        is_sign = kind == "sign" or (kind == "word" and part.lower() in KEYWORDS)
        found.append(_Token(part.lower() if is_sign else "", part, at, kind in {"single", "double"}))
        at = match.end()
