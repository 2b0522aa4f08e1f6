"""Removes secrets from a text that somebody else wrote, in any form that the text may have them. Pure.

A peer may send back what it received: in a status line, a header, an error or a debug page. Each text from a
peer goes through `Masker` before it is cut or quoted. Only this module knows the forms of a secret, and how
each is found:

- as it is, in upper or lower case: letters are compared without their case
- broken into lines, with blanks, accents or invisible characters in it: these are ignored
- in wide or mathematical letters: treated as the usual letters
- percent-encoded, in JSON, HTML, a repr, escapes of PHP or C, nested: decoded, up to MAX_LEVELS times
- base64, also with - and _, without =, within a longer text: its three forms, one per offset
- hexadecimal: as it is
- packed once more, as base64 of base64 or a dump of bytes in numbers: unpacked, up to MAX_PACKED times
- cut off: PART characters in a row, or PREFIX at the end of the text and before an ellipsis

Secrets shorter than SHORT are found only as whole words. Those shorter than WORD are found only in the place
of a password in an address. Otherwise they would match by chance in every line. Parts of a host name are
not searched for.
"""

import html
import re
import unicodedata
from array import array
from base64 import b64encode, urlsafe_b64decode
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from shop_poller.core.plain_text import is_letter

MASK = "***"
SHORT = 8
"""Characters: a shorter secret is searched for as a whole word."""
WORD = 4
LONG = 16
"""Parts are searched for only of secrets of at least this length."""
PART = 10
WORDY = 12
"""Letters in a row that may be a part of a secret; fewer letters may be a word."""
PREFIX = 8
BLOCK = 5
"""Parts are found by pieces of this length, at multiples of it; 9 characters in a row contain one."""
PACKED_PART, PACKED_BLOCK = 14, 7
"""The same for base64, where 4 characters are 3 bytes."""
MANY = 64
"""With more secrets than this, only their beginnings are searched for, until one is found."""
MAX_LEVELS = 8
PREFIX_OF_SIGNING = "whsec_"
"""The prefix of a secret of Standard Webhooks, which is written with and without it."""
CHUNK = 16 * 1024
"""Bytes that are searched in one piece."""
OVERLAP = 2 * 1024
MAX_TOKEN = 4096

UNCERTAIN = "".join(
    chr(code) for code in range(0x80, 0x800) if not is_letter(chr(code)) and code not in range(0x400, 0x500)
)
"""The characters of two bytes in UTF-8 that are not letters."""
PAIRS = {
    re.escape(bytes([lead])): b"".join(re.escape(pair[1:]) for pair in pairs)
    for lead in range(0xC2, 0xE0)
    if (pairs := [pair for pair in (one.encode() for one in UNCERTAIN) if pair[0] == lead])
}
"""Their first bytes, each with its possible second bytes; for a pattern."""


def _escape(firsts: bytes = b"", form: bytes = b"") -> re.Pattern[bytes]:
    r"""Return the pattern of what is decoded.

    The pattern begins with one set of all first bytes, so `re` skips all other bytes quickly. It would try
    an alternation at each byte. For this reason, each form looks back for its first byte.

    In a row of `\`, only the first one begins an escape, and all are part of it. Otherwise the time would
    grow with the square of the length. The others never begin an escape, as no other escape ends in `\`.

    Args:
        firsts: more first bytes.
        form: the pattern of what begins with these.
    """
    of_backslash = (
        rb"(?<!\\\\)\\*+"
        rb"(?:u[0-9a-f]{4}|u\{0{0,4}[0-9a-f]{1,4}\}|U0000[0-9a-f]{4}|x[0-9a-f]{2}|[0-3][0-7]{2}|[nrtbfv])"
    )
    of_ascii = (
        rb"(?<=%)(?:u[0-9a-f]{4}|[0-9a-f]{2})"
        rb"|(?<=&)(?:\#0{0,5}[0-9]{1,7}|\#x0{0,5}[0-9a-f]{1,6}|amp|quot|apos|lt|gt|nbsp|sol|bsol|colon|commat|num"
        rb"|plus|equals|lowbar|hyphen|dash|period|percnt|tab|newline);?"
        rb"|(?<=\x00)|(?<=\n)[ \t]?|(?<=\r)\n[ \t]?|(?<==)\r?\n"
    )
    of_others = b"|".join(
        [
            # Each longer character is checked, except Chinese ones.
            rb"(?<=[\xe0-\xe3\xea-\xef])[\x80-\xbf]{2}|(?<=[\xf0-\xf4])[\x80-\xbf]{3}",
            *(b"(?<=%b)[%b]" % pair for pair in PAIRS.items()),
            *([form] if form else []),
        ]
    )
    return re.compile(
        rb"[\\%&\x00\r\n=\xe0-\xe3\xea-\xf4" + b"".join(PAIRS) + firsts + b"]"
        rb"(?:(?<=\\)" + of_backslash + rb"|(?<=[%&\x00\r\n=])(?:" + of_ascii + rb")"
        rb"|(?<=[\x80-\xff])(?:" + of_others + b"))",
        re.IGNORECASE,
    )


ESCAPE_IN_UTF8 = _escape()
ESCAPE = _escape(rb"\x80-\xbf", rb"(?<=[\x80-\xbf])(?<![\x80-\xff][\x80-\xbf])[\x80-\xbf]*+")
"""Also finds what is not UTF-8 at all. In UTF-8 it finds the same, but is slower: it checks each letter."""
INERT_LETTER = rb"u(?:04[0-9A-Fa-f]{2}|[4-9][0-9A-Fa-f]{3})"
INERT = re.compile(rb"\\(?<!\\\\)\\*+%b(?:\\++%b)*+" % (INERT_LETTER, INERT_LETTER))
"""Cyrillic and Chinese letters in JSON, in a row. ESCAPE finds nothing in their decoded form."""
INERT_SIGN = "\u0410".encode()
"""One such letter."""
OF_BASE64 = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
LEAST_TOKEN, MOST_TOKEN = 24, 16384
"""A row of base64 is unpacked if its length in bytes is within these bounds."""
OF_DUMP = frozenset(b"0123456789abcdefABCDEFxX,:-= \t\r\n")
LEAST_DUMP = 23
ROWS_OF_BASE64, ROWS_OF_DUMP = (bytes(byte in kind for byte in range(0x100)) for kind in (OF_BASE64, OF_DUMP))
"""For `_rows`."""
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""An event id. It is not unpacked, as nearly every line of the log has one."""
DUMP = re.compile(
    rb"(?:[0-9]{2,3},\s{0,16}){7,4096}[0-9]{2,3}"
    rb"|(?:(?:0x)?[0-9A-Fa-f]{2}(?:,\s{0,16}|[:-])){7,4096}(?:0x)?[0-9A-Fa-f]{2}"
    rb"|(?:=[0-9A-Fa-f]{2}){8,4096}"
)
"""Bytes in decimal or hexadecimal numbers, or quoted-printable."""
DIGITS_OF_DUMP = 16
"""The minimum number of hexadecimal digits in a dump."""
NO_DIGITS = bytes({*range(0x100)} - {*b"0123456789abcdefABCDEF"})
HEX = re.compile(rb"[0-9A-Fa-f]{24,}")
DECIMAL = re.compile(rb"[0-9]{2,3}(?:,\s*[0-9]{2,3})+")
SEPARATED = re.compile(rb"(?:0x)?[0-9a-f]{2}[,:-]", re.IGNORECASE)
SEPARATOR = re.compile(rb"0x|[,:=\s-]")
URL_SAFE = bytes.maketrans(b"+/", b"-_")
TEXT = re.compile(rb"[ -~\x00]{8}")
MAX_PACKED = 2
FOLD = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ-_", b"abcdefghijklmnopqrstuvwxyz+/")
"""Ignores case, and maps both alphabets of base64 to one."""
UNCOUNTED = bytes([*range(0x21), 0x5C, 0x7F])
"""Controls, blanks and the backslash."""
LETTERS = re.compile(rb"[a-z+/.]*")
DOMAIN = re.compile(r"(?:[a-z0-9-]{1,40}\.){1,5}[a-z]{2,12}(?::[0-9]{1,5})?")
BEGINS = rb"(?:(?<![A-Za-z0-9])|(?<=\x1b\[[0-9]m)|(?<=\x1b\[[0-9][0-9]m))"
"""The beginning of a word: a color code of a terminal ends in a letter, too."""
ELLIPSIS = (b"...", b"\xe2\x80\xa6", b"***")
CONTROLS = {"n", "r", "t", "b", "f", "v"}
MARKED = re.compile(rb"[\x01-\xff]")

Span = tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Needle:
    """One form of a secret, folded.

    Attributes:
        text: what is searched for.
        least: how many bytes of it in a row count as a part.
        block: the length of the pieces by which parts are found.
        packed: it is base64; the characters beside it are packed with it.
        alone: no digit may be beside it.
    """

    text: bytes
    least: int
    block: int = BLOCK
    packed: bool = False
    alone: bool = False

    @property
    def blocks(self) -> list[bytes]:
        """Each text that contains the needle, or enough of it, contains at least one of these."""
        if self.least >= len(self.text):
            return [self.text]
        starts = range(0, len(self.text) - self.block + 1, self.block)
        blocks = [self.text[start : start + self.block] for start in starts]
        return [block for block in blocks if len({*block}) > 1] or [self.text]


class _Blocks:
    """Finds which of some blocks may be in a text, in a fraction of the time of one search per block.

    The blocks are in 8 groups, and a bit stands for each group. For each byte, the first table has the groups
    with a block that begins with this byte. The second table is for the second byte of the blocks, and so on.
    Each table translates the text. A block begins only where all translations have a bit in common.

    Args:
        blocks: none is empty.
    """

    def __init__(self, blocks: Iterable[bytes]) -> None:
        every = {*blocks}
        self._short = [block for block in every if len(block) < BLOCK]
        # Sorted, so that blocks in one group begin alike: fewer bytes pass its tables.
        self._blocks = sorted(every.difference(self._short))
        tables = [bytearray(0x100) for _ in range(BLOCK)]
        for number, block in enumerate(self._blocks):
            for table, byte in zip(tables, block, strict=False):
                table[byte] |= 1 << (number * 8 // len(self._blocks))
        self._tables = [bytes(table) for table in tables]

    def in_text(self, text: bytes) -> set[bytes]:
        """Return the blocks in a text; of a long block, possibly only the first BLOCK bytes are in it."""
        found = {block for block in self._short if block in text}
        if not self._blocks or len(text) < BLOCK:
            return found
        common = -1
        for at, table in enumerate(self._tables):
            common &= int.from_bytes(text.translate(table)[at:], "little")
        if common:
            places = MARKED.finditer(common.to_bytes(len(text), "little"))
            begun = {text[place.start() : place.start() + BLOCK] for place in places}
            found |= {block for block in self._blocks if block[:BLOCK] in begun}
        return found


class Masker:
    """Masks some secrets.

    Args:
        secrets: of any length; blank ones are ignored.
    """

    def __init__(self, secrets: Iterable[str]) -> None:
        written = {secret for secret in secrets if secret.strip()}
        written |= {secret.removeprefix(PREFIX_OF_SIGNING) for secret in written}
        self._secrets = sorted(filter(None, written), key=len, reverse=True)
        self._long = [secret for secret in self._secrets if len(_fold(_bytes(secret))) >= SHORT]
        words = [secret for secret in self._secrets if secret not in self._long]
        self._words = _words(words)
        self._short = tuple(map(_bytes, words))
        self._is_ascii = all(map(str.isascii, self._secrets))
        self._needles: list[_Needle] = []
        self._beginnings: dict[bytes, list[str]] = {}
        if len(self._long) <= MANY:
            self._needles = [needle for secret in self._long for needle in _needles(secret)]
        else:
            for secret in self._long:
                for needle in _needles(secret):
                    self._beginnings.setdefault(needle.text[:SHORT], []).append(secret)
        self._blocks = _Blocks(block for needle in self._needles for block in needle.blocks)

    def __bool__(self) -> bool:
        return bool(self._secrets)

    def mask(self, text: str) -> str:
        """Return the text with `***` in place of each secret; cut it afterwards, not before."""
        if not self._secrets or not text:
            return text
        raw = _bytes(text)
        masked = self.mask_bytes(raw)
        return text if masked is raw else masked.decode("utf-8", "surrogatepass")

    def mask_bytes(self, raw: bytes) -> bytes:
        """Mask UTF-8 or any other bytes; return the object itself if there is nothing to mask."""
        if len(raw) <= CHUNK:
            spans = self._spans(raw)
            return without(raw, spans) if spans else raw
        return without(raw, [span for spans in self.find(raw) for span in spans])

    def find(self, raw: bytes) -> Iterator[list[Span]]:
        """Find where secrets are, piece by piece, so that other work can be done in between.

        Yields:
            Starts and ends, for `without`.
        """
        if self._secrets:
            for start in range(0, len(raw), CHUNK):
                piece = raw[start : start + CHUNK + OVERLAP]
                yield [(start + begin, start + end) for begin, end in self._spans(piece)]

    def _spans(self, raw: bytes, packed: int = 0) -> list[Span]:
        """Return where secrets are; unordered, and one span may be within another.

        Args:
            raw: the text.
            packed: how often it was unpacked.
        """
        level, within, suspects = raw, list[bool](), set[str]()
        while True:
            within.append(any(self._packed(level, packed)) or self._may_be_in(level, suspects))
            decoded = self._decoded(level)
            if decoded == level or len(within) > MAX_LEVELS:
                break
            level = decoded
        if True not in within:
            return []
        needles = self._needles or [needle for secret in suspects for needle in _needles(secret)]
        found: list[Span] = []
        for is_within, mapped in zip(within, _mapped(raw, len(within)), strict=True):
            if is_within:
                found += self._in_level(raw, mapped, needles)
                found += (
                    (mapped.starts[start], mapped.ends[end - 1])
                    for start, end in self._packed(mapped.text, packed)
                )
        return found

    def _decoded(self, level: bytes) -> bytes:
        """Decode one level, to see whether a secret is in it; `_Level.decoded` finds where.

        If all secrets are ASCII, other letters only separate their neighbors. It does not matter which
        letters they are, or how many. So a row of them becomes one letter, which is faster.
        """
        if self._is_ascii:
            level = INERT.sub(INERT_SIGN, level)
        return (ESCAPE_IN_UTF8 if _is_utf8(level) else ESCAPE).sub(_decode, level)

    def _packed(self, level: bytes, packed: int) -> Iterator[Span]:
        """Find the tokens that contain a secret once they are unpacked."""
        if packed >= MAX_PACKED:
            return
        for start, end in _tokens(level):
            unpacked = _unpacked(level[start:end])
            if any(TEXT.search(one) and self._spans(one, packed + 1) for one in unpacked):
                yield start, end

    def _may_be_in(self, level: bytes, suspects: set[str]) -> bool:
        """Return whether a text needs a full search. Every text is checked, and nearly none needs it."""
        # The pattern is slow, because it is tried at each byte. So each word is searched for first.
        is_there = any(word in level for word in self._short)
        if is_there and self._words is not None and self._words.search(level):
            return True
        folded = _fold(level)
        if blocks := self._blocks.in_text(folded):
            return any(
                True
                for needle in self._needles
                for block in needle.blocks
                if block in blocks
                for _ in _runs_at(folded, needle, block)
            )
        if not self._beginnings:
            return False
        found: set[str] = set()
        for start in range(len(folded) - SHORT + 1):
            if (beginning := folded[start : start + SHORT]) in self._beginnings:
                found.update(self._beginnings[beginning])
        suspects |= found
        return bool(found)

    def _in_level(self, raw: bytes, level: "_Level", needles: list[_Needle]) -> Iterator[Span]:
        if self._words is not None:
            for word in self._words.finditer(level.text):
                start, end = word.span(word.lastindex or 0)
                yield level.starts[start], level.ends[end - 1]
        folded = level.folded()
        for needle in needles:
            token = (0, 0)
            for start, end in sorted(_runs(folded.text, needle)):
                span = folded.starts[start], folded.ends[end - 1]
                if not needle.packed:
                    yield span
                elif span[1] > token[1]:
                    yield (token := _whole_token(raw, span))


@dataclass(frozen=True, slots=True)
class _Level:
    """A text, and where each of its bytes begins and ends in the text that it was decoded from."""

    text: bytes
    starts: "array[int]"
    ends: "array[int]"

    def decoded(self) -> "_Level":
        """Decode one level."""
        pieces: list[bytes] = []
        starts, ends, at = array("I"), array("I"), 0
        for match in ESCAPE.finditer(self.text):
            begin, end = match.span()
            made = _decode(match)
            pieces += [self.text[at:begin], made]
            starts += self.starts[at:begin] + array("I", [self.starts[begin]] * len(made))
            ends += self.ends[at:begin] + array("I", [self.ends[end - 1]] * len(made))
            at = end
        pieces.append(self.text[at:])
        return _Level(b"".join(pieces), starts + self.starts[at:], ends + self.ends[at:])

    def folded(self) -> "_Level":
        """Remove what does not count."""
        kept = [at for at, byte in enumerate(self.text) if byte not in UNCOUNTED]
        starts, ends = (array("I", [where[at] for at in kept]) for where in (self.starts, self.ends))
        return _Level(_fold(self.text), starts, ends)


def _mapped(raw: bytes, count: int) -> Iterator[_Level]:
    level = _Level(raw, array("I", range(len(raw))), array("I", range(1, len(raw) + 1)))
    for _ in range(count):
        yield level
        level = level.decoded()


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _is_utf8(raw: bytes) -> bool:
    try:
        raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def _fold(raw: bytes) -> bytes:
    return raw.translate(FOLD, UNCOUNTED)


def _tokens(level: bytes) -> Iterator[Span]:
    """Find where something may be packed."""
    for start, end in _rows(level, ROWS_OF_BASE64, LEAST_TOKEN):
        if end - start <= MOST_TOKEN and not UUID.fullmatch(level, start, end):
            yield start, end
    for start, end in _rows(level, ROWS_OF_DUMP, LEAST_DUMP):
        digits = level[start:end].translate(None, NO_DIGITS)
        if len(digits) >= DIGITS_OF_DUMP and not UUID.fullmatch(level, start, end):
            for dump in DUMP.finditer(level, start, end):
                yield dump.span()


def _rows(level: bytes, kind: bytes, least: int) -> Iterator[Span]:
    """Find all rows of bytes of one kind; this is faster than a pattern.

    Args:
        level: the text.
        kind: translates a byte of this kind to 1, all others to 0.
        least: the minimum length of a row.
    """
    marked, row = level.translate(kind), b"\1" * least
    start = marked.find(row)
    while start >= 0:
        end = marked.find(0, start + least)
        end = len(marked) if end < 0 else end
        yield start, end
        start = marked.find(row, end)


def _unpacked(token: bytes) -> Iterator[bytes]:
    """Return the bytes that a token may contain, at any offset; none if it consists of words."""
    if DECIMAL.fullmatch(token):
        yield bytes(min(int(number), 255) for number in token.split(b","))
        return
    if token[:1] == b"=" or SEPARATED.match(token):
        token = SEPARATOR.sub(b"", token.lower())
    for digits in HEX.findall(token):
        for start in (0, 1):
            pairs = digits[start : start + (len(digits) - start) // 2 * 2]
            yield bytes.fromhex(pairs.decode("ascii"))
    if not token.islower():
        for start in range(4):
            packed = token[start : start + (len(token) - start) // 4 * 4]
            yield urlsafe_b64decode(packed.translate(URL_SAFE))


def _decode(match: re.Match[bytes]) -> bytes:
    """Return what an escape stands for."""
    said = match[0]
    if said[:1] == b"&":
        return _bytes(html.unescape(said.decode("ascii").lower()))
    if said[:1] not in {b"%", b"\\"}:
        return _sign(said)
    sign, digits = said[:1], said.lstrip(b"\\%").decode("ascii")
    if sign == b"%" and digits[0] not in "uU":
        return bytes([int(digits, 16)])
    if digits.lower() in CONTROLS:
        return b"\n"
    if digits[0] in "uU":
        return _bytes(chr(int(digits[1:].strip("{}"), 16)))
    return bytes([int(digits[1:], 16) if digits[0] in "xX" else int(digits, 8)])


@lru_cache(maxsize=4096)
def _sign(said: bytes) -> bytes:
    """Return what a character outside ASCII counts as.

    It counts as itself, as nothing if it is invisible, or as the usual character that it looks like.
    """
    try:
        character = said.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return b""
    if not all(map(is_letter, character)):
        return b""
    usual = unicodedata.normalize("NFKC", character)
    return usual.encode("ascii") if usual.isascii() else said


def _words(secrets: Iterable[str]) -> re.Pattern[bytes] | None:
    """Return a pattern of short secrets; if it has a group, the group is the secret."""
    escaped = [(secret, re.escape(_bytes(secret))) for secret in secrets]
    forms = [
        BEGINS + form + rb"(?![A-Za-z0-9])" if len(secret) >= WORD else rb":(" + form + rb")@"
        for secret, form in escaped
    ]
    return re.compile(b"|".join(forms)) if forms else None


@lru_cache(maxsize=1024)
def _needles(secret: str) -> tuple[_Needle, ...]:
    """Return the forms of a secret that is not short."""
    plain = _bytes(secret)
    decoded = _fold(plain)
    parts = len(decoded) >= LONG and not DOMAIN.fullmatch(secret.lower())
    least = PART if parts else len(decoded)
    found = [_Needle(decoded, least, alone=secret.isdigit())]
    if any(character.isspace() for character in secret):  # as in a form
        spaced = _fold("+".join(secret.split()).encode("utf-8", "surrogatepass"))
        found.append(_Needle(spaced, min(least, len(spaced))))
    # A peer may omit blanks, as WordPress does in application passwords.
    for form in {plain, b"".join(plain.split())}:
        for shift in range(3):
            packed = b64encode(bytes(shift) + form).rstrip(b"=")
            # The first and the last digit may also encode a part of a neighbor.
            whole = packed[(0, 2, 3)[shift] : (shift + len(form)) * 8 // 6]
            least = PACKED_PART if parts else len(whole)
            found.append(_Needle(_fold(whole), least, PACKED_BLOCK, packed=True))
        found.append(_Needle(form.hex().encode(), 2 * (PART if parts else len(form)), 2 * BLOCK))
    return tuple(found)


def _runs(folded: bytes, needle: _Needle) -> Iterator[Span]:
    """Find where a needle, or enough of it, is in a text."""
    for block in needle.blocks:
        yield from _runs_at(folded, needle, block)


def _runs_at(folded: bytes, needle: _Needle, block: bytes) -> Iterator[Span]:
    """Find those that contain one block."""
    if needle.least >= len(needle.text):
        yield from _whole(folded, needle)
        return
    offset = needle.text.index(block)
    at = folded.find(block)
    while at >= 0:
        start, end = _stretched(folded, needle, at, offset)
        if _is_enough(folded, needle, start, end, is_prefix=at - start == offset):
            yield start, end
            at = folded.find(block, end)
        else:
            at = folded.find(block, at + 1)


def _whole(folded: bytes, needle: _Needle) -> Iterator[Span]:
    at = folded.find(needle.text)
    while at >= 0:
        end = at + len(needle.text)
        neighbors = folded[max(0, at - 1) : at] + folded[end : end + 1]
        if not needle.alone or not any(byte in b"0123456789" for byte in neighbors):
            yield at, end
        at = folded.find(needle.text, end)


def _stretched(folded: bytes, needle: _Needle, at: int, offset: int) -> Span:
    """Return the longest match of the needle around a block."""
    text = needle.text
    start, end, after = at, at + needle.block, offset + needle.block
    while start > 0 and offset > 0 and folded[start - 1] == text[offset - 1]:
        start, offset = start - 1, offset - 1
    while end < len(folded) and after < len(text) and folded[end] == text[after]:
        end, after = end + 1, after + 1
    return start, end


def _is_enough(folded: bytes, needle: _Needle, start: int, end: int, *, is_prefix: bool) -> bool:
    length = end - start
    if is_prefix and length >= PREFIX and (end == len(folded) or folded[end:].startswith(ELLIPSIS)):
        return True
    run = folded[start:end]
    if len({*run}) < BLOCK and length < len(needle.text):
        return False  # zeros, or other padding
    return length >= (max(needle.least, WORDY) if LETTERS.fullmatch(run) else needle.least)


def _whole_token(raw: bytes, span: Span) -> Span:
    """Extend a span over the base64 around it: the user name, or the rest of the secret, is part of it."""
    start, end = span
    while start > 0 and raw[start - 1] in OF_BASE64 and span[0] - start < MAX_TOKEN:
        start -= 1
    while end < len(raw) and raw[end] in OF_BASE64 and end - span[1] < MAX_TOKEN:
        end += 1
    while end < len(raw) and raw[end] == ord("="):
        end += 1
    return start, end


def without(raw: bytes, spans: list[Span]) -> bytes:
    """Replace each span of a text with `***`; return the object itself if there are no spans."""
    if not spans:
        return raw
    kept: list[bytes] = []
    at = 0
    for begin, last in sorted(spans):
        start, end = max(at, begin), last
        while start > at and (raw[start - 1] == ord("\\") or raw[start] & 0xC0 == 0x80):
            start -= 1  # no part of an escape or of a character may remain
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end += 1
        if end <= at:
            continue
        if begin >= at:
            kept += [raw[at:start], MASK.encode()]
        at = end
    return b"".join([*kept, raw[at:]])


NOTHING = Masker(())
"""For a peer that knows no secret of ours."""
