"""Finds the list in a shop's answer: a list, a PHP list that became an object, or either one in a wrapper.

PHP writes a list with gaps (because a plugin removed an item) as an object: {"0": …, "2": …}.
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from shop_poller.core.translatable import Text

OWN_KEYS = ("orders", "data", "result", "results", "items", "body")
"""Keys of a wrapper that may contain a list, the most specific first."""
EMPTY_KEYS = frozenset({"orders", "data"})
"""Keys whose empty list means that there are no rows."""
FINE = frozenset({"", "0", "200", "ok", "success"})
"""Codes that do not mean an error, in lower case."""
MARKS = ("date_modified_gmt", "date_created_gmt", "date_modified", "date_created")
MAX_WRAPPINGS = 4
MAX_KEYS = 50


def is_order(value: object) -> bool:
    """Return whether this looks like an order, or another row of WooCommerce's API with a date."""
    return isinstance(value, Mapping) and "id" in value and any(mark in value for mark in MARKS)


def find_rows(data: object, depth: int = 0) -> list[Any] | None:
    """Return the list of rows in an answer; [] only if the answer itself says so; None without a list."""
    if isinstance(data, list):
        return _of_list(data, depth)
    return _of_object(data, depth) if isinstance(data, Mapping) else None


def _of_object(data: Mapping[str, Any], depth: int) -> list[Any] | None:
    rows = [data] if is_order(data) else [row for row in data.values() if isinstance(row, Mapping)]
    if any(map(is_order, rows)):
        return rows
    return _of_wrapping(data, depth) if depth < MAX_WRAPPINGS else None


def _of_wrapping(data: Mapping[str, Any], depth: int) -> list[Any] | None:
    empty = None
    for key in OWN_KEYS:
        rows = find_rows(data.get(key), depth + 1)
        if rows:
            return rows
        if rows is not None and empty is None and (key in EMPTY_KEYS or _is_alone(data, key)):
            empty = rows
    if empty is not None:
        return None if _tells_error(data) else empty
    return _of_orders(islice((value for key, value in data.items() if key not in OWN_KEYS), MAX_KEYS), depth)


def _of_list(data: list[Any], depth: int) -> list[Any] | None:
    if not data or any(isinstance(item, Mapping) and "id" in item for item in data):
        return data
    if depth < MAX_WRAPPINGS:
        inner = _of_orders(data[:MAX_KEYS], depth)
        if inner:
            return inner
    return None if depth else data


def _of_orders(values: Iterable[Any], depth: int) -> list[Any] | None:
    """Return the first list of orders among some values."""
    for value in values:
        if isinstance(value, Mapping | list):
            rows = find_rows(value, depth + 1)
            if rows and any(map(is_order, rows)):
                return rows
    return None


def _is_alone(data: Mapping[str, Any], key: str) -> bool:
    """Return whether there are only numbers and texts next to a key, so that nothing else contains orders."""
    return not any(isinstance(value, Mapping | list) and value for name, value in data.items() if name != key)


def _tells_error(data: Mapping[str, Any]) -> bool:
    code, status = data.get("code"), data.get("status")
    if isinstance(code, str | int) and not isinstance(code, bool) and str(code).strip().lower() in FINE:
        code = None
    is_bad = isinstance(status, int) and status >= 400
    return data.get("success") is False or is_bad or any((code, data.get("error"), data.get("errors")))


def find_error(data: object, depth: int = 0) -> Mapping[str, Any] | None:
    """Return WordPress's `{code, message, data: {status}}` in an answer with a success status, if any."""
    if not isinstance(data, Mapping) or depth >= MAX_WRAPPINGS:
        return None
    if "code" in data:
        return data
    found = (find_error(data.get(key), depth + 1) for key in OWN_KEYS)
    return next((error for error in found if error is not None), None)


def describe(data: object) -> str:
    """Describe a value in a word or two, for an error about an unexpected answer."""
    kinds = (
        (Mapping, Text("an object")),
        (list, Text("a list")),
        (str, Text("text")),
        (bool, Text("true or false")),
    )
    if data is None:
        return Text("nothing")
    return next((words for kind, words in kinds if isinstance(data, kind)), Text("a number"))
