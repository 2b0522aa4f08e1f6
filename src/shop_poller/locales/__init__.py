"""The texts for people: one directory per language. A translator edits its files; no code changes.

- `messages.toml`: the messages about orders and alerts.
- `setup.toml` and `page.toml`: the dialogue of `setup`, and the status page, by the names of the texts.
- `commands.toml`, `help.toml` and `errors.toml`: what the commands print, their `--help`, and errors. An
  entry is an English line and its translation. English has no such files: the lines in the code are English.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from shop_poller.core.translatable import Catalogue

if TYPE_CHECKING:
    from shop_poller.core.messages import Locale
    from shop_poller.core.rich_format import Texts


MARKS: Mapping[str, Mapping[int, str]] = {"ru": str.maketrans({",": "\u00a0", ".": ","})}
"""How a language writes the comma and the point of an English number."""


@cache
def texts(locale: str) -> "Texts":
    """Return the texts of messages in a language, e.g. "ru"."""
    from shop_poller.core.rich_format import Texts  # noqa: PLC0415 - it imports babel, which is large

    found = _read(locale, "messages")
    return Texts(
        titles={event: tuple(parts) for event, parts in found["titles"].items()},
        facts=found["facts"],
        words=found["words"],
        counts=found["counts"],
    )


@cache
def setup_texts(locale: "Locale") -> Mapping[str, str]:
    """Return what `setup` asks and answers in a language, by the names of the texts."""
    return _read(locale, "setup")


@cache
def page_texts(locale: "Locale") -> Mapping[str, str]:
    """Return the texts of the status page in a language, by their names."""
    return _read(locale, "page")


@cache
def catalogue(locale: "Locale") -> Catalogue:
    """Return the lines of the commands in a language other than English."""

    def plural_form(count: float) -> str:
        from babel import Locale as BabelLocale  # noqa: PLC0415 - it is large, and few lines need it

        return str(BabelLocale(locale).plural_form(count))

    lines: dict[str, Any] = {}
    for name in ("commands", "help", "errors"):
        found = _read(locale, name)
        lines |= {**found["lines"], **found["plurals"]}
    return Catalogue(lines, plural_form, MARKS[locale])


def _read(locale: str, name: str) -> dict[str, Any]:
    return tomllib.loads(files(__name__).joinpath(locale, f"{name}.toml").read_text("utf-8"))
