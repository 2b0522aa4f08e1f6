"""The texts for people, one TOML file per language. A translator edits the file; no code changes."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from shop_poller.core.rich_format import Texts


@cache
def texts(locale: str) -> Texts:
    """Return the texts of a language, e.g. "ru"."""
    found: dict[str, Any] = tomllib.loads(files(__name__).joinpath(f"{locale}.toml").read_text("utf-8"))
    return Texts(
        titles={event: tuple(parts) for event, parts in found["titles"].items()},
        facts=found["facts"],
        words=found["words"],
        counts=found["counts"],
    )
