"""Which parts of a text that somebody else wrote may be shown in a terminal, a mail, a log or a page. Pure.

Some characters are dangerous. A control character moves the cursor. A line separator forges a line. A mark of
direction reverses the text after it. An invisible character makes two texts look alike. A character that
breaks a line, moves the cursor or changes the direction becomes a blank. An invisible one is removed.

These are kept:

- all letters and signs, including those that are written from right to left
- emoji with their variation selectors
- the two joiners (U+200C, U+200D) between characters, which Persian, Indic scripts and emoji need
- at most MOST_MARKS marks above and below one letter
"""

import re
import unicodedata
from functools import lru_cache

MOST_MARKS = 4
JOINERS = frozenset("\u200c\u200d")
EMOJI_STYLE = frozenset("\ufe0e\ufe0f")
UNSEEN = frozenset(
    map(chr, (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0))
)
"""Invisible letters and marks; U+2800 is the blank of Braille."""
SELECTORS = (range(0xFE00, 0xFE0E), range(0xE0100, 0xE01F0))
"""Variants of a letter, which can hide a text."""
BREAKS = frozenset({"Cc", "Zl", "Zp", "Zs"})
TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
HIDDEN = frozenset({"Cf", "Cs", "Cn", "Co"})
"""Marks of direction and tags; halves of surrogate pairs; unassigned and private codes."""
USUAL = re.compile(
    "[ -~\u00a1-\u00ac\u00ae-\u02ff\u0391-\u03a1\u03a3-\u03ff\u0400-\u0482\u048a-\u052f"
    "\u2010-\u2027\u2030-\u205e\u20a0-\u20bf\u2100-\u214f\u4e00-\u9fff\uac00-\ud7a3]*"
)
"""Latin, Greek, Cyrillic, Chinese and Korean letters and the usual signs; all of them are shown."""
MARKS = frozenset({"Mn", "Me"})


def plain(text: str, *, instead: str | None = None) -> str:
    """Return the text in one line, without control and invisible characters; all blanks are kept.

    Args:
        text: from any author.
        instead: replaces each character that is not shown, to show that there was one.
    """
    if USUAL.fullmatch(text):
        return text
    made: list[str] = []
    marks = 0
    for at, character in enumerate(text):
        kind = _kind(character)
        if kind == "mark":
            marks += 1
        elif kind not in {"hidden", "joiner"}:
            marks = 0
        if kind == "joiner":
            kind = "" if _joins(text, at) else "hidden"
        if kind in {"break", "hidden"} and instead is not None:
            made.append(instead)
        elif kind == "break":
            made.append(" ")
        elif kind != "hidden" and (kind != "mark" or marks <= MOST_MARKS):
            made.append(character)
    return "".join(made)


def one_line(text: str, limit: int) -> str:
    """Return the beginning of such a text, stripped, with each run of blanks as a single one.

    Args:
        text: of any length; only the first 4 * limit characters are read.
        limit: the most characters to return.
    """
    return " ".join(plain(text[: 4 * limit]).split())[:limit].rstrip()


def is_letter(character: str) -> bool:
    """Return whether it looks like a letter or sign of its own: no blank, no accent, not invisible."""
    return _kind_of(character) == "" and character not in EMOJI_STYLE and character != " "


@lru_cache(maxsize=1024)
def _kind(character: str) -> str:
    """Cache `_kind_of`: texts repeat the same few characters."""
    return _kind_of(character)


def _kind_of(character: str) -> str:
    """Return `break`, `hidden`, `joiner`, `mark`, or "" for a character that is shown as it is."""
    if character == " ":
        return ""
    if character in JOINERS:
        return "joiner"
    category, code = unicodedata.category(character), ord(character)
    if character in UNSEEN or any(code in selectors for selectors in SELECTORS):
        return "hidden"
    if category in BREAKS or unicodedata.bidirectional(character) in TURNS:
        return "break"
    if category in HIDDEN:
        return "hidden"
    return "mark" if category in MARKS and character not in EMOJI_STYLE else ""


def _joins(text: str, at: int) -> bool:
    """Return whether a joiner is between two characters that may be joined, and is the only one there."""
    before, after = text[at - 1 : at] if at else "", text[at + 1 : at + 2]
    return all(side and not side.isascii() and _kind(side) in {"", "mark"} for side in (before, after))
