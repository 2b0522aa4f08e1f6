"""Checks a tool's input against its JSON schema, with WordPress's rules and texts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

_DATE = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-]\d{2}(?::\d{2})?)?", re.ASCII
)
_EMAIL = re.compile(r"[^@\s]+@[^@\s.]+(?:\.[^@\s.]+)+")
_BOOLEANS = (True, False, "true", "false", "TRUE", "FALSE", "True", "False", "0", "1", 0, 1)
_TRUE = (True, 1, "1", "true", "TRUE", "True")


@dataclass(frozen=True)
class Complaint:
    """What is wrong with a value: WordPress's code and sentence."""

    code: str
    text: str


def first_complaint(value: object, schema: Mapping[str, Any], name: str = "input") -> Complaint | None:
    """Return what is wrong with a value.

    Args:
        value: The value as decoded from JSON.
        schema: Its schema: type (one or several), properties, additionalProperties, required, items,
            enum, minimum, maximum, format.
        name: The name of the value in the complaint.

    Returns:
        WordPress's complaint about the first error, or None if the value is valid.
    """
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    kind = next((kind for kind in kinds if _is_a(kind, value)), None)
    if kind is None:
        return Complaint("rest_invalid_type", f"{name} is not of type {','.join(kinds)}.")
    if kind == "object":
        return _complaint_about_members(value, schema, name)
    if kind == "array":
        items = enumerate(as_list(value))
        complaints = (first_complaint(item, schema["items"], f"{name}[{i}]") for i, item in items)
        return next(filter(None, complaints), None)
    if kind == "integer":
        return _complaint_about_bounds(as_int(value), schema, name)
    return _complaint_about_word(value, schema, name)


def as_list(value: object) -> list[Any]:
    """Read an array; WordPress also accepts a string with commas or spaces between the items."""
    if isinstance(value, list):
        return value
    return [part for part in re.split(r"[\s,]+", str(value)) if part]


def as_int(value: object) -> int:
    """Read an integer; WordPress also accepts its digits in a string."""
    return int(float(str(value)))


def id_in(value: object) -> int:
    """Read an id as PHP's absint does: the leading digits of the text; 0 if there are none."""
    found = re.match(r"\s*[+-]?(\d+)", str(value), re.ASCII)
    return int(found[1]) if found else 0


def as_bool(value: object) -> bool:
    """Read a boolean; WordPress also accepts 0, 1 and the words."""
    return value in _TRUE


def parse_date(text: str) -> datetime:
    """Read a date that passed the check; naive unless it has an offset."""
    return datetime.fromisoformat(text.upper().replace(" ", "T"))


def _is_a(kind: str, value: object) -> bool:
    match kind:
        case "object":
            # PHP does not distinguish an empty list from an empty object.
            return isinstance(value, dict) or value in ([], "")
        case "array":
            return isinstance(value, list | str | int | float)
        case "string":
            return isinstance(value, str)
        case "null":
            return value is None
        case "boolean":
            return isinstance(value, bool | str | int) and value in _BOOLEANS
        case "integer":
            return _is_integer(value)
        case _:
            raise NotImplementedError(f"the simulator knows no type {kind}")


def _is_integer(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return False
    try:
        return float(value).is_integer()
    except ValueError:
        return False


def _is_date(text: str) -> bool:
    if not _DATE.fullmatch(text):
        return False
    try:
        parse_date(text)
    except ValueError:
        return False
    return True


def _complaint_about_members(value: object, schema: Mapping[str, Any], name: str) -> Complaint | None:
    members: Mapping[str, object] = value if isinstance(value, dict) else {}
    for required in schema.get("required", ()):
        if required not in members:
            text = f"{required} is a required property of {name}."
            return Complaint("rest_property_required", text)
    for key, member in members.items():
        known = schema.get("properties", {}).get(key)
        if known and (complaint := first_complaint(member, known, f"{name}[{key}]")):
            return complaint
        if not known and schema.get("additionalProperties") is False:
            text = f"{key} is not a valid property of Object."
            return Complaint("rest_additional_properties_forbidden", text)
    return None


def _complaint_about_bounds(number: int, schema: Mapping[str, Any], name: str) -> Complaint | None:
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is None or number >= low) and (high is None or number <= high):
        return None
    if high is None:
        text = f"{name} must be greater than or equal to {low}"
    elif low is None:
        text = f"{name} must be less than or equal to {high}"
    else:
        text = f"{name} must be between {low} (inclusive) and {high} (inclusive)"
    return Complaint("rest_out_of_bounds", text)


def _complaint_about_word(value: object, schema: Mapping[str, Any], name: str) -> Complaint | None:
    if schema.get("enum") and value not in schema["enum"]:
        return Complaint("rest_not_in_enum", f"{name} is not one of {_listed(schema['enum'])}.")
    if not isinstance(value, str):
        return None
    if schema.get("format") == "date-time" and not _is_date(value):
        return Complaint("rest_invalid_date", "Invalid date.")
    if schema.get("format") == "email" and not _EMAIL.fullmatch(value):
        return Complaint("rest_invalid_email", "Invalid email address.")
    return None


def _listed(words: Sequence[object]) -> str:
    *first, last = (str(word) for word in words)
    if not first:
        return last
    return f"{first[0]} and {last}" if len(first) == 1 else f"{', '.join(first)}, and {last}"
