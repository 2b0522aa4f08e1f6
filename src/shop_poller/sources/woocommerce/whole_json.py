"""Finds complete JSON in the bytes of an answer, with any text around it. Pure.

A shop may send valid JSON with text before and after it: notices of PHP, the comment of a cache, chunk sizes.
It may also send JSON that strict parsers refuse: nested deeper than 200, half a surrogate pair, a line break
within a string, a comma before a bracket. All of that is read. JSON that is cut off is not read: a part of an
answer must never count as an answer. In particular, a part must not become an empty list, which means
"nothing changed".
"""

import json
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pydantic_core import from_json

from shop_poller.sources.woocommerce.rows import find_rows, is_order

MAX_DEPTH = 100
"""Levels that are read; deeper values become null. PHP writes up to 512, and we need about ten."""
MAX_FOUND = 1000
"""Values that are examined in one answer."""
MAX_CHUNKS = 100_000
LOOKED_AT = 64
"""Bytes that show whether the text is UTF-16 or UTF-32."""

BLANK = b" \t\r\n\x00" + BOM_UTF8

TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)|[\[{]|[\]}]|,\s*+(?=[\]}])', re.DOTALL)
"""Tokens that show where a value ends: strings, brackets, and commas before a closing bracket."""

BEGINS = re.compile(rb'\[\s*+\{\s*+["}]|\{\s*+"(?:[^"\\\n]|\\.){0,100}+"\s*+:', re.DOTALL)
"""The beginning of JSON that may be an answer, unlike "[23-Nov" or "{debug" in a log line."""

EMPTY = re.compile(rb"(?<![\w$\]])\[\s*+\]")
"""An empty list, but not $x[] of PHP."""
ALONE_BEFORE = re.compile(rb"(?:\A|[\n>])[ \t\r]*\Z")
ALONE_AFTER = re.compile(rb"[ \t\r]*(?:\Z|[\n<])")
HAS_ROWS = re.compile(rb'"(?:id|jsonrpc)"\s*+:')
DOCUMENT = re.compile(rb"<!doctype\s+html|<(?:html|head|body)[\s>]", re.IGNORECASE)
HALF_PAIR = re.compile(rb"\\(\\|u[dD][89a-fA-F][0-9a-fA-F]{2}(?:\\u[dD][c-fC-F][0-9a-fA-F]{2})?)")
CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*\r\n")

ENVELOPE, ERROR, OBJECT, NOTHING = 3, 2, 1, 0
"""How much a value looks like an answer: orders or JSON-RPC, a WordPress error, another known object."""


@dataclass(frozen=True, slots=True)
class FoundJson:
    """A complete value.

    Attributes:
        before: the bytes before it, without whitespace and byte order marks.
        after: the bytes after it, likewise.
    """

    value: Any
    before: bytes = b""
    after: bytes = b""


class _BrokenError(ValueError):
    """JSON begins here, but it is cut off or cannot be read."""


def find_json(body: bytes) -> FoundJson | None:
    """Return the complete JSON in an answer; None if there is none that could be the answer."""
    whole, body = body, body.strip(BLANK)
    try:
        return FoundJson(from_json(body, cache_strings="keys"))
    except ValueError:
        pass
    if body[:1] in {b"[", b"{"}:
        try:
            end, value = _value(body, 0)
        except _BrokenError:
            pass
        else:
            if end == len(body):
                return FoundJson(value)
    return _in_chunks(body) or _in_wide_letters(whole) or _in_preamble(body)


def _in_preamble(body: bytes) -> FoundJson | None:
    """Return the value in a text that looks most like an answer; the first one of equal rank."""
    least = ENVELOPE if DOCUMENT.search(body) else OBJECT  # in a page for people, an object is not enough
    best, found, whole = NOTHING, None, True
    try:
        for start, end, value in islice(_values(body), MAX_FOUND):
            rank = _rank(value)
            if rank > best and rank >= least:
                best, found = rank, _found(body, start, end, value)
            if best == ENVELOPE:
                return found
    except _BrokenError:
        whole = False
    if found is None and whole and least == OBJECT:
        return _empty_list(body)
    return found if whole or best >= ERROR else None


def _values(body: bytes) -> Iterator[tuple[int, int, Any]]:
    """Yield start, end and value of every complete value that begins like an answer.

    Raises:
        _BrokenError: a value is cut off or cannot be read. A value within it is not the answer.
    """
    at = 0
    while (begin := BEGINS.search(body, at)) is not None:
        try:
            at, value = _value(body, begin.start())
        except _BrokenError as broken:
            end = broken.args[0]
            if end is None or HAS_ROWS.search(body, begin.start(), end):
                raise
            at = end
        else:
            yield begin.start(), at, value


def _value(body: bytes, start: int) -> tuple[int, Any]:
    """Return where the value that begins here ends, and the value.

    Raises:
        _BrokenError: the value is cut off (the argument is None), or cannot be read (the argument is its
            end).
    """
    depth, kept, since = 0, list[bytes](), start
    for token in TOKEN.finditer(body, start):
        mark = body[token.start()]
        if mark in b"[{":
            depth += 1
            if depth == MAX_DEPTH + 1:
                kept += body[since : token.start()], b"null"
        elif mark in b"]}":
            depth -= 1
            if depth == MAX_DEPTH:
                since = token.end()
            if depth <= 0:
                kept.append(body[since : token.end()])
                return token.end(), _load(b"".join(kept), token.end())
        elif mark == b","[0] and depth <= MAX_DEPTH:
            kept.append(body[since : token.start()])
            since = token.end()
    raise _BrokenError(None)


def _load(text: bytes, end: int) -> Any:
    try:
        return from_json(text, cache_strings="keys")
    except ValueError:
        pass
    if b"\\u" in text:
        text = HALF_PAIR.sub(_whole_pair, text)
    try:
        return json.loads(text.decode("utf-8", "replace"), strict=False, parse_int=_integer)
    except (ValueError, RecursionError):
        raise _BrokenError(end) from None


def _whole_pair(escape: re.Match[bytes]) -> bytes:
    found = escape[1]
    whole = found == b"\\" or (len(found) > 5 and found[2:3].lower() in b"89ab")
    return escape[0] if whole else rb"\ufffd" + escape[0][6:]


def _integer(digits: str) -> int | None:
    return int(digits) if len(digits) <= 1000 else None


def _rank(value: object) -> int:
    """Return how much a value within other text looks like an answer."""
    if isinstance(value, Mapping):
        if "jsonrpc" in value:
            return ENVELOPE
        if is_order(value):
            return NOTHING  # a single order is a part of a list whose beginning is missing
    rows = find_rows(value)
    if rows and any(map(is_order, rows)):
        return ENVELOPE
    if isinstance(value, Mapping):
        if "code" in value and "message" in value:
            return ERROR
        if value.keys() & {"data", "orders", "result", "error"}:
            return OBJECT
    return NOTHING


def _empty_list(body: bytes) -> FoundJson | None:
    """Return an empty list at one end of the text or on its own line; None if the text contains orders."""
    if HAS_ROWS.search(body):
        return None
    for at in EMPTY.finditer(body):
        alone = ALONE_BEFORE.search(body[max(0, at.start() - 100) : at.start()]) and ALONE_AFTER.match(
            body, at.end()
        )
        if at.start() == 0 or at.end() == len(body) or alone:
            return _found(body, *at.span(), [])
    return None


def _found(body: bytes, start: int, end: int, value: Any) -> FoundJson:
    return FoundJson(value, body[:start].strip(BLANK), body[end:].strip(BLANK))


def _in_wide_letters(body: bytes) -> FoundJson | None:
    """Return the value in UTF-16 or UTF-32, which RFC 7159 allows for JSON; None if this is neither."""
    begin = body[:LOOKED_AT]
    if begin.count(0) < len(begin) // 4 or not begin:
        return None
    coding = json.detect_encoding(body)
    if coding.startswith("utf-8"):
        return None
    text = body.decode(coding, "replace").encode("utf-8", "replace")
    return None if 0 in text[:LOOKED_AT] else find_json(text)


def _in_chunks(body: bytes) -> FoundJson | None:
    """Return the value in a chunked body that still contains the chunk sizes; None if it does not."""
    if CHUNK_SIZE.match(body) is None:
        return None
    text, pieces, at = body + b"\r\n", list[bytes](), 0
    while len(pieces) < MAX_CHUNKS and (size := CHUNK_SIZE.match(text, at)) is not None:
        length = int(size[1], 16)
        if not length:
            break
        pieces.append(text[size.end() : size.end() + length])
        at = size.end() + length + 2
    else:
        return None
    joined = b"".join(pieces).strip(BLANK)
    try:
        return FoundJson(from_json(joined, cache_strings="keys"), before=body[: body.index(b"\r")])
    except ValueError:
        return _in_preamble(joined)
