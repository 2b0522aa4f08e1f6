"""Reads settings that are tables by name: JSON in the environment, or the same in a TOML file."""

import json
from typing import Any

from shop_poller.core.translatable import Text


def read_tables(value: object, *, example: str, most: int, of: str) -> dict[str, dict[str, Any]]:
    """Return the tables by their names.

    Args:
        value: JSON as text, or the table itself.
        example: of the JSON, for the error.
        most: how many there may be.
        of: what they are, in the plural, for the error.

    Raises:
        ValueError: one line, what is wrong and what to do.
    """
    try:
        tables = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        tables = None
    if not isinstance(tables, dict) or not all(isinstance(entry, dict) for entry in tables.values()):
        raise ValueError(Text("should be JSON such as {example}", example=example))
    if len(tables) > most:
        raise ValueError(Text("names {tables} {of}; {most} at most", tables=len(tables), of=of, most=most))
    return tables
