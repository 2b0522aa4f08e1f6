"""Responses that strict parsers refuse and browsers read, over real sockets, by each transport."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Query
from shop_poller.http import client
from shop_poller.http.aiohttp_transport import FastTransport
from shop_poller.http.response_repair import (
    MAX_HEAD,
    NO_CHUNK,
    ForbiddenHeadError,
    ResponseRepair,
    repair_head,
)
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.sink import HttpSink
from shop_poller.sources.woocommerce.rest import Rest
from support.raw_server import Serve, raw_server
from support.scripted_shop import KEY, SECRET
from support.sinks import DELIVERY

pytestmark = pytest.mark.anyio

CASES = Path(__file__).parents[1] / "data" / "cases"
ASK = Query(per_page=100)
IN_TIME_S = 20.0


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, params=[httpx.AsyncHTTPTransport, FastTransport], ids=["plain", "fast"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "transport_class", lambda: request.param)


only_plain = pytest.mark.parametrize("transport", [httpx.AsyncHTTPTransport], indirect=True, ids=["pure"])
"""For what has no transport in it."""

S = b"HTTP/1.1 200 OK\r\n"
D = b"Date: Mon, 23 Nov 2026 09:51:00 GMT\r\n"
L = b"Content-Length: 2\r\n"
C = b"Transfer-Encoding: chunked\r\n"
E = b"\r\n[]"
CHUNKS = b"\r\n2\r\n[]\r\n0\r\n\r\n"

READ = {
    "a space before the colon": S + D + b"X-Frame-Options : SAMEORIGIN\r\n" + L + E,
    "a tab before the colon": S + D + b"X-A\t: b\r\n" + L + E,
    "a space before the colon of the length": S + D + b"Content-Length : 2\r\n" + E,
    "a space before the colon of the date": S + b"Date : Mon, 23 Nov 2026 09:51:00 GMT\r\n" + L + E,
    "a space before the colon of the transfer": S + D + b"Transfer-Encoding : chunked\r\n" + CHUNKS,
    "a folded line": S + D + b"X-A: b\r\n  folded\r\n\ttwice\r\n" + L + E,
    "a folded length": S + D + b"Content-Length:\r\n 2\r\n" + E,
    "a blank before the first line": S + b" X-A: b\r\n" + D + L + E,
    "a line of blanks": S + D + b" \t \r\n" + L + E,
    "no colon": S + D + b"Warning\r\n" + L + E,
    "the status line once more": S + S + D + L + E,
    "no name": S + D + b": foo\r\n" + L + E,
    "a name of two words": S + D + b"X Foo: b\r\n" + L + E,
    "a name in brackets": S + D + b"X[Foo](a)<b>: b\r\n" + L + E,
    "a name that is not ASCII": S + D + "Имя: b\r\n".encode() + L + E,
    "a value that is not ASCII": S + D + "X-A: привет \xe9\r\n".encode() + b"X-B: \xe9\r\n" + L + E,
    "a NUL in a value": S + D + b"X-A: b\x00c\r\n" + L + E,
    "a form feed and a bell in a value": S + D + b"X-A: b\x0c\x07c\r\n" + L + E,
    "a bare CR in a value": S + D + b"X-A: b\rc\r\n" + L + E,
    "bare LF": (S + D + L).replace(b"\r\n", b"\n") + b"\n[]",
    "LF and CR LF mixed": S + D.replace(b"\r\n", b"\n") + L + b"\n[]",
    "CR CR LF": (S + D + L).replace(b"\r\n", b"\r\r\n") + b"\r\r\n[]",
    "no reason": b"HTTP/1.1 200\r\n" + D + L + E,
    "two spaces": b"HTTP/1.1  200  OK\r\n" + D + L + E,
    "tabs": b"HTTP/1.1\t200\tOK\r\n" + D + L + E,
    "lower case": b"http/1.1 200 ok\r\n" + D + L + E,
    "another version": b"HTTP/2 200 \r\n" + D + L + E,
    "no minor version": b"HTTP/1 200 OK\r\n" + D + L + E,
    "version 1.0": b"HTTP/1.0 200 OK\r\n" + D + L + E,
    "a reason that is not ASCII": "HTTP/1.1 200 Хорошо\x01\r\n".encode() + D + L + E,
    "no space after the status": b"HTTP/1.1 200OK\r\n" + D + L + E,
    "blank lines before it": b"\r\n\n\r\n" + S + D + L + E,
    "a mark of byte order before it": b"\xef\xbb\xbf" + S + D + L + E,
    "a length twice": S + D + L + L + E,
    "a list of equal lengths": S + D + b"Content-Length: 2, 2\r\n" + L + E,
    "a length with a plus": S + D + b"Content-Length: +2\r\n" + E,
    "a length with zeros": S + D + b"Content-Length: 002\r\n" + E,
    "an empty length": S + D + b"Content-Length: \r\n" + E,
    "chunks twice": S + D + C + C + CHUNKS,
    "chunks in a list": S + D + b"transfer-encoding: Chunked , identity\r\n" + CHUNKS,
    "chunks and a length": S + D + C + b"Content-Length: 99\r\n" + CHUNKS,
    "chunks and a wrong length": S + D + b"Content-Length: many\r\n" + C + CHUNKS,
    "a transfer that changes nothing": S + D + b"Transfer-Encoding: identity\r\n" + L + E,
    "a transfer that is empty": S + D + b"Transfer-Encoding:\r\n" + L + E,
    "an extension of a chunk": S + D + C + b"\r\n2;a=b\r\n[]\r\n0;c\r\n\r\n",
    "blanks around the size of a chunk": S + D + C + b"\r\n  2 ; a=b\r\n[]\r\n0  \r\n\r\n",
    "chunks with bare LF": S + D + C + b"\r\n2\n[]\n0\n\n",
    "a size with zeros": S + D + C + b"\r\n" + b"0" * 40 + b"2\r\n[]\r\n000\r\n\r\n",
    "bad lines after the last chunk": S + D + C + b"\r\n2\r\n[]\r\n0\r\nX T : a\r\nb\r\n\r\n",
    "no blank line after the last chunk": S + D + C + b"\r\n1\r\n[\r\n1\r\n]\r\n0\r\n",
    "a bad interim response": b"HTTP/1.1 103 Early Hints\r\nLink : x\r\n\r\n" + S + D + b"X : y\r\n" + L + E,
    "two hundred headers": S + D + b"Set-Cookie : a=b\r\n" * 200 + L + E,
}
"""What browsers and curl let pass."""

FORBIDDEN = {
    "two lengths that differ": (S + D + L + b"Content-Length: 3\r\n" + E, "Content-Length"),
    "a length that is no number": (S + D + b"Content-Length: many\r\n" + E, "Content-Length"),
    "a length below nothing": (S + D + b"Content-Length: -1\r\n" + E, "Content-Length"),
    "a length of fifty digits": (S + D + b"Content-Length: " + b"9" * 50 + b"\r\n" + E, "Content-Length"),
    "a packed transfer": (S + D + b"Transfer-Encoding: gzip, chunked\r\n" + CHUNKS, "Transfer-Encoding"),
}

HIDDEN = b"Set-Cookie : session=hunter2\r\nAuthorization : Basic hunter2\r\n"


def saying(said: bytes, *, in_pieces: bool = False) -> Serve:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        for at in range(len(said)) if in_pieces else ():
            writer.write(said[at : at + 1])
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"" if in_pieces else said)
        writer.close()

    return serve


@asynccontextmanager
async def shop_of(serve: Serve) -> AsyncIterator[Rest]:
    async with raw_server(serve) as port:
        source = Rest(f"http://127.0.0.1:{port}/api", consumer_key=KEY, consumer_secret=SECRET)
        try:
            with anyio.fail_after(IN_TIME_S):
                yield source
        finally:
            await source.aclose()


@asynccontextmanager
async def receiver_of(serve: Serve) -> AsyncIterator[HttpSink]:
    async with raw_server(serve) as port:
        sink = HttpSink(HttpConfig.parse(f"http://127.0.0.1:{port}/"), keys=())
        try:
            with anyio.fail_after(IN_TIME_S):
                yield sink
        finally:
            await sink.aclose()


@pytest.mark.parametrize("name", ["answer_a.http", "answer_b.http"])
async def test_the_case_loose_headers_is_read(name: str) -> None:
    said = (CASES / "loose-headers" / name).read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
    async with shop_of(saying(said)) as source:
        assert (await source.fetch(ASK)).items == ()


@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", READ)
async def test_what_browsers_let_pass_is_read(name: str, in_pieces: bool) -> None:  # noqa: FBT001 - a table
    async with shop_of(saying(READ[name], in_pieces=in_pieces)) as source:
        page = await source.fetch(ASK)
    assert page.items == ()
    assert page.shop_time.isoformat() == "2026-11-23T09:51:00+00:00"


@pytest.mark.parametrize("name", READ)
async def test_what_browsers_let_pass_is_a_yes_of_a_receiver(name: str) -> None:
    async with receiver_of(saying(READ[name])) as sink:
        await sink.send(DELIVERY)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok, and more",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nok",
        b"HTTP/1.1 204\r\nContent-Length : 5\r\nConnection: keep-alive\r\n\r\nok",
    ],
)
@pytest.mark.parametrize("in_pieces", [False, True], ids=["at once", "byte by byte"])
async def test_a_body_of_a_response_that_has_none_does_not_undo_the_yes(
    said: bytes,
    in_pieces: bool,  # noqa: FBT001 - a table
) -> None:
    async with receiver_of(saying(said, in_pieces=in_pieces)) as sink:
        await sink.send(DELIVERY)
        if said.startswith(b"HTTP/1.1 204") and not said.endswith(b"Content\r\n\r\nok"):
            await sink.send(DELIVERY)


@pytest.mark.parametrize("name", FORBIDDEN)
async def test_what_says_two_things_is_an_error_that_names_the_header_and_no_value(name: str) -> None:
    said, header = FORBIDDEN[name]
    said = said.replace(D, D + HIDDEN)
    async with shop_of(saying(said)) as source:
        with pytest.raises(TemporaryError) as caught:
            await source.fetch(ASK)
    assert str(caught.value).startswith(f"the shop sent a header line that HTTP forbids: {header} ")
    assert "look for a plugin or server setting" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    async with receiver_of(saying(said)) as sink:
        with pytest.raises(TemporaryError) as caught:
            await sink.send(DELIVERY)
    assert f"{sink.name} sent a header line that HTTP forbids: {header} " in str(caught.value)
    assert caught.value.kind is ErrorKind.CONNECTION


@pytest.mark.parametrize(
    "said",
    [
        b"SMTP ready hunter2\r\n\r\n",
        S + D + C + b'\r\n"hunter2"\r\n',
        S + D + C + b"\r\n2\r\n[]hunter2\r\n",
        b"X : " + b"hunter2" * 50_000,
        S + D + C + b"\r\n2\r\n[]\r\n0\r\n" + b"X: hunter2\r\n" * 50_000,
    ],
    ids=["no status", "no size", "no end of a chunk", "no end of the head", "no end of trailers"],
)
async def test_what_cannot_be_read_is_an_error_that_quotes_nothing(said: bytes) -> None:
    async with shop_of(saying(said)) as source:
        with pytest.raises(TemporaryError) as caught:
            await source.fetch(ASK)
    assert caught.value.kind is ErrorKind.CONNECTION
    assert "hunter2" not in str(caught.value)


async def test_a_connection_with_loose_heads_is_kept() -> None:
    connections: set[int] = set()

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        connections.add(id(writer))
        writer.write(b"\r\n" + S + D + b"X : y\r\n" + C + C + b"\r\n2 ;x\n[]\n0\nX T: y\n\n")

    async with shop_of(serve) as source:
        for _ in range(3):
            assert (await source.fetch(ASK)).items == ()
    assert len(connections) == 1


# --- The pure part ---


@only_plain
@pytest.mark.parametrize(
    ("head", "repaired"),
    [
        (S + D + L + b"\r\n", S + D + L + b"\r\n"),
        (b"HTTP/1.1 200 OK\nA : b\n c\nno colon\n\n", b"HTTP/1.1 200 OK\r\nA: b  c\r\n\r\n"),
        (S + L + C + b"A: b\r\n\r\n", S + b"A: b\r\n" + C + b"\r\n"),
        (S + b"X Y: 1\r\n 2\r\nA: b\r\n\r\n", S + b"A: b\r\n\r\n"),
        (b"HTTP/0.9 200\r\nA : b\r\n\r\n", b"HTTP/1.0 200 \r\nA: b\r\n\r\n"),
        (b"SSH-2.0 hello\r\n\r\n", b"SSH-2.0 hello\r\n\r\n"),
        (b"HTTP/1.1 99 A\r\nA : b\r\n\r\n", b"HTTP/1.1 99 A\r\nA : b\r\n\r\n"),
    ],
)
def test_a_head_is_written_anew(head: bytes, repaired: bytes) -> None:
    assert repair_head(head) == repaired


@only_plain
def test_a_good_head_is_not_touched() -> None:
    for said in (S + D + L, S + D + C, b"HTTP/1.0 404\r\n" + D, S + b"X-A:b\r\nX-B: \xe9 \r\n"):
        assert repair_head(said + b"\r\n") is not None
        assert repair_head(said + b"\r\n") == said + b"\r\n"


PARTS = (
    *(
        S,
        D,
        L,
        C,
        b"\r\n",
        b"\n",
        b"A : b\r\n",
        b" x\r\n",
        b":\r\n",
        b"HTTP/1.1 103 X\r\n\r\n",
        b"2\r\n[]\r\n",
    ),
    *(b"0\r\n\r\n", b"\x00", b"\xff", b"Content-Length: 3\r\n", b"ffffff\r\n", b";", b"zz\r\n", b"\r"),
)
heads = st.lists(st.sampled_from(PARTS), max_size=14)


@only_plain
@given(heads, st.integers(1, 40), st.booleans())
def test_pieces_do_not_matter_and_a_repaired_response_needs_no_repair(
    parts: list[bytes],
    size: int,
    is_response: bool,  # noqa: FBT001 - Hypothesis
) -> None:
    said = (S + D if is_response else b"") + b"".join(parts)
    whole = repaired(said, len(said) or 1)
    assert repaired(said, size) == whole
    if whole is not None and NO_CHUNK not in whole:
        assert joined(repaired(whole, 7)) == joined(whole)


def repaired(said: bytes, size: int) -> bytes | None:
    """What a parser sees; None if the head is forbidden."""
    repair, output = ResponseRepair(), b""
    repair.expect_response()
    try:
        for at in range(0, len(said), size):
            output += repair.feed(said[at : at + size])
            if repair.is_broken:
                return joined(output + NO_CHUNK)
        return joined(output + repair.end())
    except ForbiddenHeadError:
        return None


def joined(output: bytes | None) -> bytes | None:
    """Chunks may be cut at other places; that is looked at in the tests with sockets."""
    if output is None or b"chunked\r\n\r\n" not in output:
        return output
    head, _, chunks = output.partition(b"chunked\r\n\r\n")
    parts = chunks.split(b"\r\n")
    return head + b"chunked\r\n\r\n" + b"".join(part for part in parts if not is_size(part))


def is_size(part: bytes) -> bool:
    try:
        return int(part, 16) >= 0
    except ValueError:
        return part == b""


@only_plain
@pytest.mark.parametrize(
    "endless",
    [b"x", b"\r\n", b"X: y\r\n", b" fold\r\n", b"\x00", b"HTTP/1.1 103 A\r\n\r\n"],
)
def test_what_is_kept_is_bounded(endless: bytes) -> None:
    repair, length = ResponseRepair(), 0
    repair.expect_response()
    piece = endless * (1000 // len(endless))
    for _ in range(1000):
        length += len(repair.feed(S + piece if length == 0 else piece))
        assert len(repair._kept) <= MAX_HEAD + 2000


@only_plain
def test_many_folds_and_lines_take_no_time_to_speak_of() -> None:
    began = time.process_time()
    repair_head(S + b"A: b\r\n" + b" \r\n" * 30_000 + b"\r\n")
    repair_head(S + b"A : b\r\n" * 12_000 + b"\r\n")
    repair_head(S + b"Content-Length: " + b"2," * 40_000 + b"2\r\n\r\n")
    assert time.process_time() - began < 2  # it takes a twentieth of that
