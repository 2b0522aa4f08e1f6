"""Bodies of answers, unpacked, and bounded before there is too much of them."""

import zlib

import httpx

from shop_poller.core.errors import ErrorKind, TemporaryError


async def read_bounded(response: httpx.Response, *, limit: int, peer: str) -> bytes:
    """Read a body, unpacked, up to a number of bytes.

    Raises:
        TemporaryError: what BoundedBody raises.
    """
    bounded, body = BoundedBody(response, limit=limit, peer=peer), bytearray()
    async for piece in response.aiter_raw():
        body += bounded.unpack(piece)
    return bytes(body)


class BoundedBody:
    """Unpacks a body piece by piece, up to a number of bytes in all.

    httpx would unpack a whole piece before anybody could look at its size: 64 KB may be 64 MB, and packed
    twice 64 GB.

    Raises:
        TemporaryError: PROTOCOL, packed in another way than by gzip, once; TOO_LARGE, by its Content-Length.
    """

    def __init__(self, response: httpx.Response, *, limit: int, peer: str) -> None:
        encoding = response.headers.get("content-encoding", "").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip"}:
            raise TemporaryError(
                ErrorKind.PROTOCOL, f"{peer} packed its answer in a way that was not asked for"
            )
        self._gzip = zlib.decompressobj(zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
        self._limit = self._room = self._packed_room = limit
        self._peer = peer
        length = response.headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > limit:
            raise self._too_large()

    def unpack(self, piece: bytes) -> bytes:
        """Unpack one piece.

        Raises:
            TemporaryError: TOO_LARGE; or PROTOCOL, it cannot be unpacked.
        """
        self._packed_room -= len(piece)
        try:
            chunk = self._unpacked(piece)
        except zlib.error as error:
            raise TemporaryError(ErrorKind.PROTOCOL, f"{self._peer} sent what cannot be unpacked") from error
        self._room -= len(chunk)
        if self._room < 0 or self._packed_room < 0:
            raise self._too_large()
        return chunk

    def _unpacked(self, piece: bytes) -> bytes:
        if self._gzip is None:
            return piece
        if self._gzip.eof:
            return b""  # zlib would keep whatever follows the end, without any bound
        # One byte more than there is room for tells that it was too much.
        return self._gzip.decompress(piece, self._room + 1)

    def _too_large(self) -> TemporaryError:
        return TemporaryError(
            ErrorKind.TOO_LARGE, f"{self._peer} answered more than {self._limit // 2**20} MB"
        )
