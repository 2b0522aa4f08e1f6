"""What a hostile or broken peer sends: floods over a real socket, and recordings bent out of shape."""

import asyncio
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from functools import cache
from itertools import repeat
from typing import Any

from hypothesis import strategies as st

from support.raw_server import Serve

OK = b"HTTP/1.1 200 OK\r\nDate: Mon, 23 Nov 2026 01:55:05 GMT\r\nContent-Type: application/json\r\n"
EVENTS = OK.replace(b"application/json", b"text/event-stream")
PIECE = b"x" * 65536
GIGABYTE = 2**30 // len(PIECE)


def chunk(text: bytes) -> bytes:
    """A chunk of chunked transfer."""
    return b"%x\r\n%s\r\n" % (len(text), text)


def flood(head: bytes, pieces: Callable[[], Iterable[bytes]]) -> Serve:
    """Answer with a head, and with pieces as long as somebody takes them; then hang up."""

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for piece in pieces():
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0)  # the client has its turn
        writer.close()

    return serve


@cache
def zipped(begin: bytes, piece: bytes, times: int, end: bytes = b"") -> tuple[bytes, ...]:
    """A piece repeated, between a beginning and an end, packed by gzip."""
    packer = zlib.compressobj(1, zlib.DEFLATED, zlib.MAX_WBITS | 16)
    return (*(packer.compress(one) for one in (begin, *repeat(piece, times), end)), packer.flush())


def chunked(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """In chunks, to the end."""
    yield from (chunk(piece) for piece in pieces if piece)
    yield b"0\r\n\r\n"


GZIP = b"Content-Encoding: gzip\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n\r\n"
EMPTY_BLOCKS = b"\x00\x00\x00\xff\xff" * 10_000
"""Of deflate: they unpack to nothing."""

FLOODS: dict[str, Serve] = {
    "a gigabyte, and says so": flood(
        OK + b"Content-Length: 1073741824\r\n\r\n", lambda: repeat(PIECE, GIGABYTE)
    ),
    "a gigabyte in chunks": flood(OK + CHUNKED, lambda: repeat(chunk(PIECE), GIGABYTE)),
    "a gigabyte until it hangs up": flood(OK + b"\r\n", lambda: repeat(PIECE, GIGABYTE)),
    "a gigabyte of an event": flood(EVENTS + b"\r\n", lambda: repeat(PIECE, GIGABYTE)),
    "a gigabyte of blanks before the answer": flood(OK + b"\r\n", lambda: repeat(b" " * 65536, GIGABYTE)),
    "64 MB, packed": flood(OK + GZIP + CHUNKED, lambda: chunked(zipped(b"", PIECE, 1_000))),
    "a gigabyte behind what was packed": flood(
        OK + GZIP + b"\r\n", lambda: (gzip.compress(b"[]"), *repeat(PIECE, GIGABYTE))
    ),
    "a gigabyte that unpacks to nothing": flood(
        OK + GZIP + b"\r\n", lambda: (gzip.compress(b"")[:10], *repeat(EMPTY_BLOCKS, 20_000))
    ),
}
"""More than anybody could hold; each is to be an error that says so."""

CROWDS: dict[str, Serve] = {
    "a million orders": flood(
        OK + CHUNKED, lambda: chunked([b"[", *repeat(b'{"id":1},' * 10_000, 100), b'{"id":1}]'])
    ),
    "small things by the million": flood(
        OK + CHUNKED, lambda: chunked([b"[", *repeat(b"[]," * 10_000, 300), b"0]"])
    ),
    "small things by the million, packed": flood(
        OK + GZIP + CHUNKED, lambda: chunked(zipped(b"[", b"{}," * 10_000, 200, b"0]"))
    ),
    "events by the million": flood(EVENTS + b"\r\n", lambda: repeat(b"data:[]\n\n" * 10_000)),
    "an event in lines by the million": flood(EVENTS + b"\r\n", lambda: repeat(b"data:ab\r" * 10_000)),
    "lines by the million, packed": flood(
        EVENTS + GZIP + CHUNKED, lambda: chunked(zipped(b"", b"\n" * 65536, 100))
    ),
}
"""So many small things that looking at each would take too long, or too much; likewise."""

ENDLESS: dict[str, Serve] = {
    "hints that an answer will come": flood(b"", lambda: repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100)),
    "chunks of one byte": flood(OK + CHUNKED, lambda: repeat(b"1\r\nx\r\n" * 1_000)),
    "comments": flood(EVENTS + CHUNKED, lambda: repeat(chunk(b": \n") * 100)),
    "nothing, packed": flood(
        OK + GZIP + CHUNKED,
        lambda: (chunk(gzip.compress(b"")[:10]), *repeat(chunk(EMPTY_BLOCKS[:5]) * 100, 10_000)),
    ),
}
"""What takes a long time to become too much."""

NO_ADDRESSES = (
    *("", "http:", "//", "http://", "https://other.example:99999999/", "https://[::1", "https://{[[::1]..9"),
    *(
        "http://xn--a.example/",
        "//xn--a.&",
        ":http://-xn--9]%zz",
        "http:A[::1]",
        "\t//\xad",
        "é",
        "/" * 50_000,
    ),
)
"""Of a redirect."""

# --- Recordings, bent ---------------------------------------------------------------------------------------

LEAVES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, 2**31, 2**63 - 1, 2**63, 2**64, -(2**64), 10**400, 1e308),
    *(float("nan"), float("inf"), float("-inf")),
    *(
        "",
        "0",
        "NaN",
        "1e999999",
        "-0.00",
        "\x00",
        "\ud800",
        "\ud83e",
        "\x1b[2J",
        "\u202e",
        "x" * 10_000,
        "‰" * 300,
    ),
    *(
        "0000-00-00T00:00:00",
        "99999-01-01T00:00:00",
        "2026-11-23T02:03:07+23:59",
        "9999-12-31T23:59:59-23:59",
    ),
    *([], {}, [[]], [{}], {"": {}}, {"code": 1}, {"id": 1}, {"data": {"status": 10**30}}),
]


def _deep(opening: str, closing: str, levels: int) -> str:
    return opening * levels + "1" + closing * levels


RAW_LEAVES: list[Any] = [
    _deep("[", "]", 150),
    _deep("[", "]", 250),
    _deep('{"a":', "}", 5_000),
    "[" * 10_000,
    "1" * 5_000,
    "1e999",
]
"""JSON that Python would not write."""
PLACE = "\uefff"


@st.composite
def bent(draw: st.DrawFn, content: Any) -> bytes:
    """JSON with some values replaced by what they never are, and some keys there twice."""
    content = json.loads(json.dumps(content))
    raw: list[str] = []
    for _ in range(draw(st.integers(1, 3))):
        holder, key = _somewhere(draw, content)
        if holder is None:
            break
        if draw(st.integers(0, 5)):
            holder[key] = deepcopy(draw(st.sampled_from(LEAVES)))  # what is put in it next is no other's
        else:
            raw.append(draw(st.sampled_from(RAW_LEAVES)))
            holder[key] = PLACE
    text = json.dumps(content, separators=(",", ":"))  # lone surrogates as \ud800, NaN as NaN
    for one in raw:
        text = text.replace(json.dumps(PLACE), one, 1)
    if draw(st.integers(0, 5)) == 0:
        twice = draw(st.sampled_from(["id", "data", "result", "status", "jsonrpc", "structuredContent"]))
        text = text.replace(f'"{twice}":', f'"{twice}":null,"{twice}":', 1)
    return _spoilt(
        draw, text.encode(draw(st.sampled_from(["utf-8"] * 8 + ["utf-16", "utf-8-sig", "utf-32-le"])))
    )


def _somewhere(draw: st.DrawFn, content: Any) -> tuple[Any, Any]:
    """A container within, and a key of it; None if there is none."""
    holder, key = None, None
    while isinstance(content, dict | list) and content:
        holder = content
        key = (
            draw(st.sampled_from(sorted(content)))
            if isinstance(content, dict)
            else draw(st.integers(0, len(content) - 1))
        )
        content = holder[key]
        if draw(st.integers(0, 3)) == 0:
            break
    return holder, key


def _spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    """Some bytes are turned over, or the end is missing; mostly neither."""
    how = draw(st.integers(0, 9))
    if how == 0:
        return raw[: draw(st.integers(0, len(raw)))]
    if how == 1:
        spoilt = bytearray(raw)
        for at in draw(st.lists(st.integers(0, max(0, len(raw) - 1)), max_size=4)):
            spoilt[at : at + 1] = bytes([draw(st.integers(0, 255))])
        return bytes(spoilt)
    return raw
