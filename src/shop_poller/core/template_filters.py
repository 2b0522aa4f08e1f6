"""The filters of templates, and what everything in a template costs. Pure."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import wraps
from typing import Any

from jinja2 import Undefined

from shop_poller.core.template_errors import TemplateRefusedError
from shop_poller.core.translatable import Text

MAX_STEPS = 5_000
"""Of one rendering. A template for an order of 20 lines takes about 200."""
MAX_OUTPUT = 4_000
"""Characters of one rendering."""
MAX_RANGE = 1_000
MAX_TEXT = 16_384
"""Characters of a text that is joined or filtered."""
MAX_ELEMENTS = 2_000
"""Of a list or a mapping, with all that is in its elements."""
CHARACTERS_A_STEP = 100
ELEMENTS_A_STEP = 20
FILTERS = (
    "abs", "capitalize", "count", "d", "default", "first", "float", "int", "items", "join", "last", "length",
    "list", "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort",
    "string", "title", "trim", "truncate", "unique", "upper",
)  # fmt: skip
"""Those of Jinja2. The others could make huge texts, or are for HTML."""
NUMBER = re.compile(r"-?[0-9]{1,20}(\.[0-9]{1,8})?")
MAX_PATTERN = 60


@dataclass(frozen=True, slots=True)
class Formats:
    """How the filters `money`, `date` and `quantity` write values.

    Attributes:
        money: takes a decimal number as text.
        date: takes an instant in ISO 8601, and a pattern of CLDR.
        quantity: takes a decimal number as text.
    """

    money: Callable[[str], str]
    date: Callable[[str, str], str]
    quantity: Callable[[str], str]


class _Rendering:
    """One rendering: its formats, and the steps that are left."""

    def __init__(self, formats: Formats) -> None:
        self.formats = formats
        self.left = MAX_STEPS


_rendering: ContextVar[_Rendering] = ContextVar("rendering")


@contextmanager
def rendering(formats: Formats) -> Iterator[None]:
    """Begin a rendering, which may cost MAX_STEPS. The filters use these formats."""
    token = _rendering.set(_Rendering(formats))
    try:
        yield
    finally:
        _rendering.reset(token)


def charge(steps: int) -> None:
    """Take steps from the rendering.

    Raises:
        TemplateRefusedError: none are left.
    """
    here = _rendering.get()
    here.left -= steps
    if here.left < 0:
        raise TemplateRefusedError(
            Text("takes more than {most:,} steps (loops, calls, filters, printed values)", most=MAX_STEPS)
        )


def weighed(value: Any) -> Any:
    """Take the steps that a value costs, and return it.

    A list that contains another one twice, which contains a third one twice, is small, but takes for ever to
    compare. So all elements are counted.

    Raises:
        TemplateRefusedError: it is too large.
    """
    if isinstance(value, str):
        if len(value) > MAX_TEXT:
            raise TemplateRefusedError(Text("makes a text of more than {most:,} characters", most=MAX_TEXT))
        charge(1 + len(value) // CHARACTERS_A_STEP)
    elif isinstance(value, dict | list | tuple):
        charge(1 + _elements(value, MAX_ELEMENTS) // ELEMENTS_A_STEP)
    else:
        charge(1)
    return value


def _elements(value: Any, most: int) -> int:
    """Count the elements of a value and of all its elements; texts count by their length."""
    found = 0
    waiting = [value]
    while waiting:
        one = waiting.pop()
        inside = list(one.items()) if isinstance(one, dict) else one if isinstance(one, list | tuple) else ()
        found += 1 + (len(one) // CHARACTERS_A_STEP if isinstance(one, str) else 0)
        if found + len(waiting) + len(inside) > most:
            raise TemplateRefusedError(
                Text("makes a list or mapping of more than {most:,} elements", most=most)
            )
        waiting += inside
    return found


def counted(values: Any, weight: int) -> Iterator[Any]:
    """Yield the values of a loop."""
    if isinstance(values, Undefined):
        iter(values)  # raises
    if isinstance(values, str | dict) or not isinstance(values, Iterable):
        raise TemplateRefusedError(Text("loops over what is no list"))
    for value in values:
        charge(weight)
        yield value


def joined(texts: Iterable[Any]) -> str:
    """Join texts and numbers: what `~` does."""
    found = [_text(value) for value in texts]
    if sum(map(len, found)) > MAX_TEXT:
        raise TemplateRefusedError(Text("makes a text of more than {most:,} characters", most=MAX_TEXT))
    return str(weighed("".join(found)))


def printed(value: Any) -> str:
    """Return what `{{ value }}` prints."""
    return str(weighed(_text(value)))


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str | int | float | Undefined):
        return str(value)  # raises for one that is not defined
    raise TemplateRefusedError(Text("prints what is neither a text nor a number; loop over a list"))


def bounded_range(*bounds: int) -> range:
    """The function `range`, of few numbers."""
    found = range(*bounds)
    if len(found) > MAX_RANGE:
        raise TemplateRefusedError(Text("has a range of more than {most:,} numbers", most=MAX_RANGE))
    return found


def bounded(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter or a test that costs steps, by the size of what it gets and makes."""
    at = 1 if hasattr(function, "jinja_pass_arg") else 0

    @wraps(function)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        for given in (*args[at:], *kwargs.values()):
            weighed(given)
        value = counted(args[at], 1) if isinstance(args[at], Iterator | range) else args[at]
        return weighed(function(*args[:at], value, *args[at + 1 :], **kwargs))

    return filtered


def _number(value: Any) -> str:
    text = str(value)
    if not NUMBER.fullmatch(text):
        raise TemplateRefusedError(Text("has no number where one is needed"))
    return text


def _money(value: Any) -> str:
    return "" if value in {None, ""} else _rendering.get().formats.money(_number(value))


def _quantity(value: Any) -> str:
    return "" if value in {None, ""} else _rendering.get().formats.quantity(_number(value))


def _date(value: Any, pattern: str = "d MMMM, HH:mm") -> str:
    if value in {None, ""}:
        return ""
    if not isinstance(value, str) or len(pattern) > MAX_PATTERN:
        raise TemplateRefusedError(Text("date needs a time such as data.date_modified, and a short pattern"))
    try:
        return _rendering.get().formats.date(value, pattern)
    except (ValueError, KeyError, AttributeError):
        raise TemplateRefusedError(
            Text("date needs a time such as data.date_modified, and a pattern such as 'd MMMM'")
        ) from None


def _replace(value: Any, old: str, new: str) -> str:
    text = _text(value)
    if len(text) + text.count(old) * len(new) > MAX_TEXT:
        raise TemplateRefusedError(Text("makes a text of more than {most:,} characters", most=MAX_TEXT))
    return text.replace(old, new)


def _round(value: Any, precision: int = 0) -> float:
    if not isinstance(value, int | float) or precision not in range(9):
        raise TemplateRefusedError(Text("round needs a number, and 0 to 8 decimals"))
    return round(float(value), precision)


def _sum(values: Iterable[Any]) -> float:
    return sum(float(_number(value)) for value in values)


OWN_FILTERS: Mapping[str, Callable[..., Any]] = {
    "money": _money,
    "quantity": _quantity,
    "date": _date,
    "replace": _replace,
    "round": _round,
    "sum": _sum,
}
