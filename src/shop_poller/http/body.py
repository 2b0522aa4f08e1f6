"""Bodies of answers, unpacked, and bounded before there is too much of them.

`Content-Encoding` says what a body is packed by, and often it is wrong: caches and plugins write `none`, the
name of a character set, or the coding of a body that they unpacked. So the body itself is looked at.
"""

import codecs
import zlib
from typing import Protocol

import httpx

from shop_poller.core.errors import ErrorKind, TemporaryError

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
"""How what is packed by them begins."""

LOOKED_AT = 64
"""Bytes that tell text from what is packed."""

TEXT_SIGNS = frozenset(b"\t\n\r\x0c")
"""Control characters that a text may have."""

FOREIGN = {
    "br": "Brotli",
    "zstd": "Zstandard",
    "compress": "compress",
    "x-compress": "compress",
    "dcb": "Brotli with a dictionary",
    "dcz": "Zstandard with a dictionary",
    "exi": "EXI",
    "pack200-gzip": "Pack200",
}
"""Codings of IANA's list that we do not ask for, and cannot unpack."""


class _Unpacker(Protocol):
    """What zlib has for it."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


async def read_bounded(response: httpx.Response, *, limit: int, peer: str) -> bytes:
    """Read a body, unpacked, up to a number of bytes.

    Raises:
        TemporaryError: what BoundedBody raises.
    """
    bounded, body = BoundedBody(response, limit=limit, peer=peer), bytearray()
    async for piece in response.aiter_raw():
        body += bounded.unpack(piece)
    return bytes(body + bounded.rest())


class BoundedBody:
    """Unpacks a body piece by piece, up to a number of bytes in all.

    What is packed by gzip is unpacked, announced or not; by deflate, in either of its forms, if announced.
    What is not packed is read as it is, whatever is announced.

    httpx would unpack a whole piece before anybody could look at its size: 64 KB may be 64 MB, and packed
    twice 64 GB.

    Raises:
        TemporaryError: TOO_LARGE, by its Content-Length.
    """

    def __init__(self, response: httpx.Response, *, limit: int, peer: str) -> None:
        named = response.headers.get("content-encoding", "").lower().replace(",", " ").split()
        self._codings = ["gzip" if coding == "x-gzip" else coding for coding in named]
        self._unpacker: _Unpacker | None = None
        self._begin: bytes | None = b""  # kept back until there is enough to look at; None: it was looked at
        self._is_first = True  # nothing was unpacked yet
        self._limit = self._room = self._packed_room = limit
        self._peer = peer
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise self._too_large()

    def unpack(self, piece: bytes) -> bytes:
        """Unpack one piece; a few bytes at the beginning may be kept back.

        Raises:
            TemporaryError: TOO_LARGE; or PROTOCOL, it cannot be unpacked.
        """
        self._packed_room -= len(piece)
        if self._begin is not None:
            self._begin += piece
            if len(self._begin) < self._enough():
                return b""
            piece = self._look()
        return self._unpack(piece)

    def rest(self) -> bytes:
        """What was kept back of a body that ended before there was enough to look at.

        Raises:
            TemporaryError: what unpack raises.
        """
        return self._unpack(self._look()) if self._begin else b""

    def _enough(self) -> int:
        """How many bytes tell what the body is packed by."""
        if any(coding == "deflate" or coding in FOREIGN for coding in self._codings):
            return LOOKED_AT
        return len(GZIP) if not self._begin or self._begin[:1] == GZIP[:1] else 1

    def _look(self) -> bytes:
        """Find out how to read the body by its beginning, and return that."""
        begin, self._begin = self._begin or b"", None
        announced = [coding for coding in self._codings if coding in {"gzip", "deflate"}]
        if begin.startswith(GZIP):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif begin.startswith(ZSTD):
            raise self._packed(f"by {FOREIGN['zstd']}")
        elif len(announced) > 1:
            raise self._packed("more than once")
        elif "deflate" in announced and not _is_text(begin):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_head(begin) else -zlib.MAX_WBITS)
        else:
            foreign = [FOREIGN[coding] for coding in self._codings if coding in FOREIGN]
            if foreign and not _is_text(begin):
                raise self._packed(f"by {foreign[0]}")
        return begin

    def _unpack(self, piece: bytes) -> bytes:
        try:
            chunk = self._unpacked(piece)
        except zlib.error as error:
            raise TemporaryError(ErrorKind.PROTOCOL, f"{self._peer} sent what cannot be unpacked") from error
        self._room -= len(chunk)
        if self._room < 0 or self._packed_room < 0:
            raise self._too_large()
        if self._is_first and chunk:
            self._is_first = False
            if chunk.startswith(GZIP):
                raise self._packed("more than once")
        return chunk

    def _unpacked(self, piece: bytes) -> bytes:
        if self._unpacker is None:
            return piece
        if self._unpacker.eof:
            return b""  # zlib would keep whatever follows the end, without any bound
        # One byte more than there is room for tells that it was too much.
        return self._unpacker.decompress(piece, self._room + 1)

    def _packed(self, how: str) -> TemporaryError:
        return TemporaryError(
            ErrorKind.PROTOCOL,
            f"{self._peer} packed its answer {how}, though it was asked for gzip or nothing; look for a"
            " cache, plugin or server setting that does so, and leave this address out of it",
        )

    def _too_large(self) -> TemporaryError:
        return TemporaryError(
            ErrorKind.TOO_LARGE, f"{self._peer} answered more than {self._limit // 2**20} MB"
        )


def _is_text(begin: bytes) -> bool:
    """Whether this is the beginning of UTF-8 text, which what is packed hardly ever looks like."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)  # its end may be cut
    except UnicodeDecodeError:
        return False
    return not any(ord(char) < ord(" ") and ord(char) not in TEXT_SIGNS for char in text)


def _has_zlib_head(begin: bytes) -> bool:
    """RFC 1950: deflate in the form that HTTP means; some send the bare one."""
    return len(begin) > 1 and begin[0] & 0x8F == 8 and int.from_bytes(begin[:2]) % 31 == 0
