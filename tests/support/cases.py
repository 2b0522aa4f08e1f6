"""Small inputs that an earlier version got wrong, in tests/data/cases; their dates can be moved."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

CASES = Path(__file__).parent.parent / "data" / "cases"
WRITTEN_AT = "2026-11-23T09:50:00"
"""Whatever happened in them happened then."""


def raw(name: str, *, at: datetime | None = None) -> bytes:
    """The bytes of a file, e.g. "trailing-junk/answer_a.body"."""
    found = (CASES / name).read_bytes()
    return found if at is None else found.replace(WRITTEN_AT.encode(), f"{at:%FT%T}".encode())


def load(name: str, *, at: datetime | None = None) -> Any:
    """The JSON in a file."""
    return json.loads(raw(name, at=at))
