"""What a receiver says in the body of a refusal, for people. Pure.

The body may be anything: JSON, a web page, a stack trace, compressed data, or what we sent.
"""

import html
import json
import re
import zlib
from collections.abc import Callable

from shop_poller.core.plain_text import one_line

MOST_READ = 4096
"""Bytes of a body that are looked at."""
MOST_WORDS = 800
"""Characters that are passed on. The caller shows fewer, after it has masked more secrets."""
GZIP = b"\x1f\x8b"
PAGE = re.compile(r"<(?:!doctype|html|head|body|title|h[1-6]|p|div|center)\b", re.IGNORECASE)
UNSHOWN = re.compile(r"<(script|style|svg)\b.*?(?:</\1\s*>|\Z)|<!--.*?(?:-->|\Z)", re.IGNORECASE | re.DOTALL)
TAG = re.compile(r"<[^<>]*>")
CONTROL = re.compile(r"[\x00-\x08\x0e-\x1a\ufffd]")
EMPTY = frozenset({"", "{}", "[]", "null", '""'})
MOST_GARBAGE = 0.1
"""A body with a larger part of such characters is no text."""


def words_of(body: bytes, mask: Callable[[str], str]) -> str:
    """Return the beginning of a body in one line; "" if it is no text, or an empty value.

    Args:
        body: its first MOST_READ bytes at most, as received.
        mask: removes secrets from a text.
    """
    text = _unpacked(body).decode("utf-8", "replace").strip()
    if text in EMPTY or len(CONTROL.findall(text)) > MOST_GARBAGE * len(text):
        return ""
    if PAGE.search(text):
        text = html.unescape(TAG.sub(" ", UNSHOWN.sub(" ", text)))
    elif text[0] in "{[":
        text = _readable(text)
    return one_line(mask(text), MOST_WORDS)


def _unpacked(body: bytes) -> bytes:
    if not body.startswith(GZIP):
        return body
    try:
        return zlib.decompressobj(wbits=31).decompress(body, MOST_READ)
    except zlib.error:
        return b""


def _readable(text: str) -> str:
    r"""Return JSON with its letters instead of `\u041d`; the text itself if it is no JSON."""
    try:
        return json.dumps(json.loads(text), ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
