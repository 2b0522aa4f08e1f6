"""Decides whether an error may show the value of a setting. Pure.

A secret may have been pasted into the wrong variable. So a value is shown only if it is short, and consists
of words and small numbers, unlike any key, token or generated password. Of any other value, only the length
is shown. A word of at most LONGEST_WORD letters is always shown: a typing error could not be found otherwise.
"""

import re

from shop_poller.core.translatable import Text

LONGEST = 80
LONGEST_WORD = 9
MOST_DIGITS = 7
MIXED = re.compile(r"[0-9]{1,6}[a-zA-Z]{1,3}|[a-zA-Z]{1,3}[0-9]{1,2}")
"""A number with its unit, or a word with its number: 10min, v2."""
WORD = re.compile(r"[a-z]+|[A-Z][a-z]*|[A-Z]+", re.ASCII)
PIECES = re.compile(r"[^\W_]+")
PREFIX = re.compile(
    r"(?i)(?<![a-z0-9])(?:[cs]k|cs|pk|rk|whsec|ghp|gho|glpat|xox[a-z]|eyj|basic|bearer)(?=[_.-]|\s)"
)
"""How keys and tokens begin."""
ADDRESS = re.compile(r"://|@|//")
LONG_WORDS = frozenset(
    {"application", "concurrent", "consumer", "everywhere", "notifications", "processing", "woocommerce"}
)
NAMES = re.compile(r"[^\W\d_]{2,}(?:[_.][^\W_]{1,15}){1,6}")
"""Words joined by underscores or dots, as in the names of settings, events and hosts."""
SIGNS = re.compile(r"""["'{}\[\]:,]+""")
"""What separates unrelated words, above all in JSON."""
OF_PASSWORDS = re.compile(r"[!$^&*~|<>?`]")
"""Characters that only passwords and addresses contain, but no other values of settings."""
FEW_SIGNS = 3
"""A text with at most this many different characters is not a secret."""
MOST_WORDS = 2
"""More consecutive words than this may be a passphrase."""


def is_harmless(text: str, *, is_name: bool = False) -> bool:
    """Return whether a text cannot be a secret.

    Args:
        text: as it was written.
        is_name: it should be a name, which may contain any number of words.
    """
    if len({*text}) <= FEW_SIGNS:
        return True
    if len(text) > LONGEST or any(sign.search(text) for sign in (PREFIX, ADDRESS, OF_PASSWORDS)):
        return False
    pieces = PIECES.findall(text)
    if not all(map(_is_word, pieces)):
        return False
    if sum(len(piece) == 4 for piece in pieces) >= 4:  # an application password has such groups
        return False
    may_be_long = is_name and NAMES.fullmatch(text) is not None
    phrases = SIGNS.split(text)
    return may_be_long or all(len(PIECES.findall(phrase)) <= MOST_WORDS for phrase in phrases)


def shown(value: object, *, is_name: bool = False, limit: int = LONGEST) -> str:
    """Return a value as an error may quote it: the value itself, or only its type and length.

    Args:
        value: of any type, as it was found.
        is_name: see `is_harmless`.
        limit: the most characters to show.
    """
    text = str(value)
    if is_harmless(text, is_name=is_name):
        return repr(text[:limit])
    if isinstance(value, dict):
        return Text("a table of {length}", length=len(value))
    if isinstance(value, list | tuple):
        return Text("a list of {length}", length=len(value))
    return Text("a text of {length:,} characters", length=len(text))


def _is_word(piece: str) -> bool:
    if piece.isdigit():
        return len(piece) <= MOST_DIGITS
    if MIXED.fullmatch(piece):
        return True
    if not piece.isalpha():
        return False
    return (len(piece) <= LONGEST_WORD or piece.lower() in LONG_WORDS) and (
        not piece.isascii() or WORD.fullmatch(piece) is not None
    )


def shown_place(name: str) -> str:
    """Return the name of a sink, which may be its address, without parts of its path that may be secrets."""
    scheme, found, place = name.partition("://")
    if not found:
        return name
    host, *parts = place.split("/")
    return "/".join(
        (f"{scheme}://{host}", *(part if is_harmless(part, is_name=True) else "…" for part in parts))
    )


def before_colon(name: str) -> str:
    """Return the name of a sink for a line that has a colon after it: `console:` has one already."""
    return name.removesuffix(":")
