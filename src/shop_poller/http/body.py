"""Decompresses response bodies with a bound on their size.

`Content-Encoding` is often wrong: caches and plugins write `none`, the name of a character set, or the coding
of a body that they already decompressed. So the first bytes of the body decide.
"""

import codecs
import zlib
from typing import Protocol

import httpx

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.translatable import Text

GZIP = b"\x1f\x8b"
ZSTD = b"\x28\xb5\x2f\xfd"
"""The first bytes of bodies that are compressed in these ways."""

LOOKED_AT = 64
"""Bytes that are enough to distinguish text from compressed data."""

TEXT_SIGNS = frozenset(b"\t\n\r\x0c")
"""Control characters that may occur in text."""

FOREIGN = {
    "br": "Brotli",
    "zstd": "Zstandard",
    "compress": "compress",
    "x-compress": "compress",
    "dcb": Text("Brotli with a dictionary"),
    "dcz": Text("Zstandard with a dictionary"),
    "exi": "EXI",
    "pack200-gzip": "Pack200",
}
"""Codings of IANA's list that we neither request nor support."""


class _Unpacker(Protocol):
    """The interface of zlib's decompressors."""

    @property
    def eof(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int = 0, /) -> bytes: ...


async def read_bounded(response: httpx.Response, *, limit: int, peer: str) -> bytes:
    """Read and decompress a body, up to a number of bytes.

    Raises:
        TemporaryError: what BoundedBody raises.
    """
    bounded, body = BoundedBody(response, limit=limit, peer=peer), bytearray()
    async for piece in response.aiter_raw():
        body += bounded.unpack(piece)
    return bytes(body + bounded.rest())


class BoundedBody:
    """Decompresses a body piece by piece, up to a number of bytes in all.

    gzip is detected by the body itself. deflate, in either of its forms, is used only if announced. All
    else is read as it is, whatever is announced.

    httpx decompresses a whole piece before its size can be checked: 64 KB may become 64 MB, or 64 GB if
    compressed twice.

    Raises:
        TemporaryError: TOO_LARGE, by its Content-Length.
    """

    def __init__(self, response: httpx.Response, *, limit: int, peer: str) -> None:
        named = response.headers.get("content-encoding", "").lower().replace(",", " ").split()
        self._codings = ["gzip" if coding == "x-gzip" else coding for coding in named]
        self._unpacker: _Unpacker | None = None
        self._begin: bytes | None = b""  # held until there is enough to decide; None: decided
        self._is_first = True  # nothing was decompressed yet
        self._limit = self._room = self._packed_room = limit
        self._peer = peer
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise self._too_large()

    def unpack(self, piece: bytes) -> bytes:
        """Decompress one piece. The first bytes may be held back.

        Raises:
            TemporaryError: TOO_LARGE; or PROTOCOL, it cannot be decompressed.
        """
        self._packed_room -= len(piece)
        if self._begin is not None:
            self._begin += piece
            if len(self._begin) < self._enough():
                return b""
            piece = self._look()
        return self._unpack(piece)

    def rest(self) -> bytes:
        """Return the bytes held back of a body that was too short to decide.

        Raises:
            TemporaryError: what unpack raises.
        """
        return self._unpack(self._look()) if self._begin else b""

    def _enough(self) -> int:
        """Return how many bytes are needed to detect the compression."""
        if any(coding == "deflate" or coding in FOREIGN for coding in self._codings):
            return LOOKED_AT
        return len(GZIP) if not self._begin or self._begin[:1] == GZIP[:1] else 1

    def _look(self) -> bytes:
        """Choose the decompressor by the first bytes, and return them."""
        begin, self._begin = self._begin or b"", None
        announced = [coding for coding in self._codings if coding in {"gzip", "deflate"}]
        if begin.startswith(GZIP):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS | 16)
        elif begin.startswith(ZSTD):
            raise self._packed(Text("by {coding}", coding=FOREIGN["zstd"]))
        elif len(announced) > 1:
            raise self._packed(Text("more than once"))
        elif "deflate" in announced and not _is_text(begin):
            self._unpacker = zlib.decompressobj(zlib.MAX_WBITS if _has_zlib_head(begin) else -zlib.MAX_WBITS)
        else:
            foreign = [FOREIGN[coding] for coding in self._codings if coding in FOREIGN]
            if foreign and not _is_text(begin):
                raise self._packed(Text("by {coding}", coding=foreign[0]))
        return begin

    def _unpack(self, piece: bytes) -> bytes:
        try:
            chunk = self._unpacked(piece)
        except zlib.error as error:
            raise TemporaryError(
                ErrorKind.PROTOCOL, Text("{peer} sent a body that cannot be decompressed", peer=self._peer)
            ) from error
        self._room -= len(chunk)
        if self._room < 0 or self._packed_room < 0:
            raise self._too_large()
        if self._is_first and chunk:
            self._is_first = False
            if chunk.startswith(GZIP):
                raise self._packed(Text("more than once"))
        return chunk

    def _unpacked(self, piece: bytes) -> bytes:
        if self._unpacker is None:
            return piece
        if self._unpacker.eof:
            return b""  # zlib would keep the bytes after the end, without a bound
        # One byte more than allowed shows that the body is too large.
        return self._unpacker.decompress(piece, self._room + 1)

    def _packed(self, how: Text) -> TemporaryError:
        return TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "{peer} compressed its response {how}, but only gzip was requested; find the cache, "
                "plugin or server setting that does this, and exclude this address",
                peer=self._peer,
                how=how,
            ),
        )

    def _too_large(self) -> TemporaryError:
        return TemporaryError(
            ErrorKind.TOO_LARGE,
            Text(
                "{peer} sent a response of more than {limit} MB", peer=self._peer, limit=self._limit // 2**20
            ),
        )


def _is_text(begin: bytes) -> bool:
    """Return whether this is the beginning of UTF-8 text; compressed data hardly ever is."""
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(begin)  # the last character may be cut
    except UnicodeDecodeError:
        return False
    return not any(ord(char) < ord(" ") and ord(char) not in TEXT_SIGNS for char in text)


def _has_zlib_head(begin: bytes) -> bool:
    """Return whether it is deflate with zlib's header (RFC 1950), as HTTP demands; some send it without."""
    return len(begin) > 1 and begin[0] & 0x8F == 8 and int.from_bytes(begin[:2]) % 31 == 0
