"""Rewrites HTTP/1 responses that browsers and curl accept so that strict parsers accept them. Pure.

Both transports parse strictly. One header line with a space before its colon, which hundreds of plugins
write, would make the whole shop unreadable. So the bytes of a response pass through here first. The head is
rewritten line by line, and the sizes of chunks too; the rest is unchanged. A contradiction, such as two
lengths, is an error that names the header, never its value.
"""

import re
from collections.abc import Iterable
from enum import Enum, auto

from shop_poller.core.translatable import Text

MAX_HEAD = 100 * 1024
"""Bytes of a head, or of the lines after the last chunk; h11 has the same bound."""
MAX_SIZE_LINE = 16 * 1024
"""Bytes of the line with the size of a chunk."""

TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]{1,200}")
CLEAN = re.compile(
    rb"HTTP/1\.[01] [1-9][0-9]{2}(?: [\t\x20-\x7e\x80-\xff]*)?\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*\r\n)*\r\n"
)
"""A head that needs no repair, except perhaps in its framing."""
FRAMING = re.compile(rb"\n(?:content-length|transfer-encoding):", re.IGNORECASE)
CHUNKED = re.compile(rb"\ntransfer-encoding:[ \t]*chunked[ \t]*\r", re.IGNORECASE)
LENGTH = re.compile(rb"\ncontent-length:[ \t]*([0-9]{1,19})[ \t]*\r", re.IGNORECASE)
STATUS = re.compile(
    rb"(?:\xef\xbb\xbf)?(?:HTTP/([0-9])(?:\.([0-9]))?|ICY)[ \t]+([1-9][0-9]{2})(?![0-9])[ \t]*(.*)",
    re.IGNORECASE | re.DOTALL,
)
FORBIDDEN = re.compile(rb"[\x00\r\n\x0b\x0c]")
"""Characters that a value may not contain."""
HEAD_END = re.compile(rb"\n\r*\n")
BLANK = b"\r\n \t"
BLANKS = frozenset({b"\r", b"\n", b" ", b"\t"})
NO_BODY = frozenset({b"204", b"304"})
"""Statuses of responses without a body (RFC 9112, 6.3); some servers send one anyway."""
DIGITS = re.compile(rb"\+?([0-9]{1,19})")
SIZE = re.compile(rb"[ \t]*0*([0-9a-f]{1,12})[ \t]*(?:;.*)?", re.IGNORECASE | re.DOTALL)


NO_CHUNK = b"?\r\n"
"""Every parser rejects this size of a chunk, with its own error."""


class StrayBytesError(Exception):
    """Bytes followed a complete response, so it may belong to an earlier request."""


class ForbiddenHeadError(Exception):
    """A head that cannot be repaired. The text names the header and quotes no value."""


def repair_head(head: bytes) -> bytes:
    """Rewrite the head of a response so that a strict parser reads what a browser would.

    Lines without a valid name and colon are dropped. Folded lines are joined. Repeated lengths and codings
    are merged. Any line ends are accepted.

    Args:
        head: from the status line to the blank line, at most MAX_HEAD bytes.

    Returns:
        The head; unchanged if it does not begin as HTTP does.

    Raises:
        ForbiddenHeadError: it has two lengths, or a transfer coding that was not requested.
    """
    if _is_clean(head):
        return head
    first, *lines = head.split(b"\n")
    status = STATUS.fullmatch(first.strip(BLANK))
    if status is None:
        return head
    version = b"1.0" if (status[1], status[2]) == (b"1", b"0") or status[1] == b"0" else b"1.1"
    reason = FORBIDDEN.sub(b" ", status[4]).strip(BLANK)
    written = [b"HTTP/%s %s %s" % (version, status[3], reason)]
    fields = _fields(lines)
    framed = _without_body(fields) if status[3] in NO_BODY else _framed(fields)
    written += (b"%s: %s" % field for field in framed)
    return b"\r\n".join((*written, b"", b""))


def _without_body(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields of a response without a body; a body that they announce is not awaited."""
    others = [field for field in fields if field[0].lower() not in {b"content-length", b"transfer-encoding"}]
    if len(others) == len(fields):
        return others
    return [*(field for field in others if field[0].lower() != b"connection"), (b"Connection", b"close")]


def _is_clean(head: bytes) -> bool:
    if not CLEAN.fullmatch(head):
        return False
    framing = len(FRAMING.findall(head))
    if framing and head[9:12] in NO_BODY:
        return False
    return framing == 0 or (framing == 1 and bool(CHUNKED.search(head) or LENGTH.search(head)))


def _fields(lines: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """Return names and values. A line that begins with a blank continues the previous one (RFC 9112, 5.2)."""
    fields: list[tuple[bytes, list[bytes]]] = []
    folded: list[bytes] = []
    for line in lines:
        if line[:1] in BLANKS:
            folded.append(line)
            continue
        name, colon, value = line.partition(b":")
        folded = [value]
        if colon and TOKEN.fullmatch(name := name.strip(BLANK)):
            fields.append((name, folded))
    return [(name, FORBIDDEN.sub(b" ", b" ".join(value)).strip(BLANK)) for name, value in fields]


def _framed(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the fields with one way to find the end of the body: chunks before length (RFC 9112, 6.3)."""
    lengths, codings, others = set[bytes](), set[bytes](), list[tuple[bytes, bytes]]()
    for name, value in fields:
        listed = {part.strip().lower() for part in value.split(b",")} - {b""}
        match name.lower():
            case b"content-length":
                lengths |= listed
            case b"transfer-encoding":
                codings |= listed - {b"identity"}
            case _:
                others.append((name, value))
    if codings - {b"chunked"}:
        raise _forbidden("Transfer-Encoding", Text("an encoding that was not requested"))
    if codings:
        return [*others, (b"Transfer-Encoding", b"chunked")]
    matches = [DIGITS.fullmatch(length) for length in lengths]
    numbers = {int(found[1]) for found in matches if found}
    if None in matches or len(numbers) > 1:
        raise _forbidden("Content-Length", Text("not a number, or two that differ"))
    return [*others, *((b"Content-Length", b"%d" % number) for number in numbers)]


def _forbidden(name: str, why: str) -> ForbiddenHeadError:
    return ForbiddenHeadError(
        Text(
            "sent a header line that HTTP forbids: {name} ({why}); look for a plugin or server "
            "setting that writes it",
            name=name,
            why=why,
        )
    )


class _At(Enum):
    """The part of a response to which the next byte belongs."""

    HEAD = auto()
    NOTHING = auto()  # after the end
    COUNTED = auto()  # a body of a known length
    AS_IT_IS = auto()  # a body until the connection ends; or not a response at all
    SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()


class ResponseRepair:
    """Rewrites the responses of one connection, piece by piece. It keeps at most MAX_HEAD bytes.

    Attributes:
        is_broken: the chunks of this response are invalid; give NO_CHUNK to the parser.
        has_stray: bytes arrived outside a response: after a complete one, or before the first request.
            They are dropped, and the connection must not be used again.
        requests: how many were sent.
    """

    def __init__(self) -> None:
        self.is_broken = False
        self.has_stray = False
        self.requests = 0
        self._at = _At.NOTHING
        self._has_body = True
        self._kept = bytearray()
        self._searched = 0  # where in _kept the end of the head may begin
        self._left = 0  # bytes of the chunk that have not arrived yet
        self._trailer = 0  # bytes after the last chunk

    @property
    def is_over(self) -> bool:
        """Whether the response is complete; also true before the first request."""
        return self._at is _At.NOTHING or (self._at is _At.COUNTED and not self._left)

    @property
    def is_doubtful(self) -> bool:
        """Whether the last response may belong to an earlier request of this connection."""
        return self.has_stray and self.requests > 1

    def expect_response(self, *, has_body: bool = True) -> None:
        """Note that a request was sent: the next bytes begin with a head.

        Args:
            has_body: False after HEAD, whose response announces a body without sending it.
        """
        self._at, self._searched, self.is_broken = _At.HEAD, 0, False
        self._has_body = has_body
        self.requests += 1
        self._kept.clear()

    def feed(self, data: bytes) -> bytes:
        """Accept data; return what the strict parser should see, which may be nothing yet.

        Raises:
            ForbiddenHeadError: see repair_head.
        """
        if self._at is _At.AS_IT_IS:
            return data
        if self._at is _At.NOTHING:
            self.has_stray = self.has_stray or bool(data)
            return b""
        if self._at is _At.COUNTED:
            return self._counted(data)
        self._kept += data
        pieces: list[bytes] = []
        while (piece := self._step()) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    def end(self) -> bytes:
        """Note that the peer closed the connection; return what the parser should still see."""
        kept, at = bytes(self._kept), self._at
        self._kept.clear()
        self._at = _At.AS_IT_IS
        if at is _At.TRAILER:  # all chunks arrived, only the blank line is missing
            return b"0\r\n\r\n"
        return kept if at is _At.HEAD else b""

    def _step(self) -> bytes | None:
        """Return the next complete piece; None until more data arrives."""
        match self._at:
            case _At.HEAD:
                return self._head()
            case _At.SIZE:
                return self._size()
            case _At.CHUNK:
                return self._chunk()
            case _At.CHUNK_END:
                return self._chunk_end()
            case _At.TRAILER:
                return self._trailer_line()
            case _At.AS_IT_IS | _At.COUNTED | _At.NOTHING:
                return self._rest() if self._kept else None

    def _rest(self) -> bytes:
        rest = self._take(len(self._kept))
        if self._at is _At.NOTHING:
            self.has_stray = True
            return b""
        return self._counted(rest) if self._at is _At.COUNTED else rest

    def _take(self, count: int) -> bytes:
        taken = bytes(self._kept[:count])
        del self._kept[:count]
        return taken

    def _head(self) -> bytes | None:
        if bytes(self._kept[:1]) in BLANKS:  # the rest of the previous response
            del self._kept[: len(self._kept) - len(self._kept.lstrip(BLANK))]
        found = HEAD_END.search(self._kept, self._searched)
        if found is None or found.end() > MAX_HEAD:
            self._searched = max(0, self._kept.rfind(b"\n"))
            if len(self._kept) > MAX_HEAD:
                self._at = _At.AS_IT_IS  # too long: the parser reports it
                return b""
            return None
        head = repair_head(self._take(found.end()))
        self._searched = 0
        status = head[9:12]
        if not head.startswith(b"HTTP/1.") or status == b"101":
            self._at = _At.AS_IT_IS
        elif status in NO_BODY or (not self._has_body and not status.startswith(b"1")):
            self._at = _At.NOTHING
        elif not status.startswith(b"1"):  # an interim response is followed by another head
            self._at = _At.SIZE if CHUNKED.search(head) else _At.AS_IT_IS
            if self._at is _At.AS_IT_IS and (length := LENGTH.search(head)):
                self._at, self._left = _At.COUNTED, int(length[1])
        return head

    def _counted(self, data: bytes) -> bytes:
        """Return the body up to its length. Some bodies are longer; the rest is not another response."""
        self.has_stray = self.has_stray or len(data) > self._left
        data = data[: self._left]
        self._left -= len(data)
        if not self._left:
            self._at = _At.NOTHING
        return data

    def _size(self) -> bytes | None:
        end = self._kept.find(b"\n")
        if end < 0:
            return self._broken() if len(self._kept) > MAX_SIZE_LINE else None
        size = SIZE.fullmatch(self._kept[:end].rstrip(b"\r"))
        if size is None:
            return self._broken()
        self._take(end + 1)
        self._left, self._trailer = int(size[1], 16), 0
        self._at = _At.CHUNK if self._left else _At.TRAILER
        return b""

    def _chunk(self) -> bytes | None:
        if not self._kept:
            return None
        data = self._take(self._left)
        self._left -= len(data)
        if not self._left:
            self._at = _At.CHUNK_END
        return b"%x\r\n%s\r\n" % (len(data), data)

    def _chunk_end(self) -> bytes | None:
        if self._kept[:1] == b"\r":
            if len(self._kept) < 2:
                return None
            self._take(1)
        if not self._kept:
            return None
        if self._take(1) != b"\n":
            return self._broken()
        self._at = _At.SIZE
        return b""

    def _trailer_line(self) -> bytes | None:
        """Skip trailer fields: they are not used."""
        end = self._kept.find(b"\n")
        if self._trailer + (len(self._kept) if end < 0 else end) > MAX_HEAD:
            return self._broken()
        if end < 0:
            return None
        self._trailer += end + 1
        if self._take(end + 1).strip(b"\r\n"):
            return b""
        self._at = _At.NOTHING
        return b"0\r\n\r\n"

    def _broken(self) -> bytes:
        self._at, self.is_broken = _At.AS_IT_IS, True
        self._kept.clear()
        return b""
