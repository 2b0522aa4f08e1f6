"""The language of what the commands print: SHOP_LOCALE, else that of the terminal, else English.

It is chosen once, when the program starts, and again when the settings are known, because they may stand in a
file. JSON and the log are always English.
"""

import re
from collections.abc import Mapping

from shop_poller.core.messages import Locale
from shop_poller.core.translatable import Text, translated

_chosen: list[Locale] = ["en"]


def locale_of(environ: Mapping[str, str], in_file: str = "", *, default: Locale = "en") -> Locale:
    """Return the language that the environment or a file names.

    Args:
        environ: the environment: SHOP_LOCALE, or LC_ALL, LC_MESSAGES and LANG as POSIX defines them.
        in_file: SHOP_LOCALE in a file, which the environment overrides.
        default: if none of them names a language.
    """
    for wanted in (environ.get("SHOP_LOCALE", ""), in_file):
        if wanted.strip() == "ru":
            return "ru"
        if wanted.strip() == "en":
            return "en"
    terminal = next((found for name in ("LC_ALL", "LC_MESSAGES", "LANG") if (found := environ.get(name))), "")
    language = re.split(r"[_.@]", terminal)[0]
    return default if language in {"C", "POSIX", ""} else "ru" if language == "ru" else "en"


def use_language(locale: Locale) -> None:
    """Print in this language from now on."""
    _chosen[0] = locale


def language() -> Locale:
    """Return the language in use."""
    return _chosen[0]


def as_text(line: str) -> str:
    """Return a line that was stored, so only its English is known, as one that can be translated."""
    if _chosen[0] == "en":
        return line
    from shop_poller.core.recognition import recognized  # noqa: PLC0415 - English needs none of the two
    from shop_poller.locales import catalogue  # noqa: PLC0415

    return recognized(line, catalogue(_chosen[0]).lines)


def in_language(line: str) -> str:
    """Return a line in the language in use."""
    if _chosen[0] == "en" or not isinstance(line, Text):
        return line
    from shop_poller.locales import catalogue  # noqa: PLC0415 - English needs no catalogue

    return translated(line, catalogue(_chosen[0]))
