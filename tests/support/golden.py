"""Texts that people read, kept in files: a change of one is looked at before it is committed."""

import os
from pathlib import Path


def check_golden(path: Path, text: str) -> None:
    """Compare a text with the file that holds it; with GOLDEN=write in the environment, write the file.

    Raises:
        AssertionError: they differ.
    """
    if os.environ.get("GOLDEN") == "write":
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert path.read_text(encoding="utf-8") == text, f"{path} differs; after a look: GOLDEN=write pytest …"
