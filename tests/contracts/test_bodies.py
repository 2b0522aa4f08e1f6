"""Bodies and what they say that they are packed by: what is read, what is unpacked, what is an error."""

import asyncio
import gzip
import json
import zlib
from base64 import b64decode
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import httpx
import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Query
from shop_poller.http import client
from shop_poller.http.aiohttp_transport import FastTransport
from shop_poller.http.body import BoundedBody, read_bounded
from shop_poller.sources.woocommerce.rest import Rest
from support.raw_server import raw_server
from support.scripted_shop import KEY, SECRET

pytestmark = pytest.mark.anyio

CASE = Path(__file__).parents[1] / "data" / "cases" / "content-encoding-none" / "answer.http"
PLAIN = json.dumps([{"id": n, "имя": "я" * 40} for n in range(40)], ensure_ascii=False).encode()
MB = 2**20


def deflated(content: bytes, bits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, bits)
    return packer.compress(content) + packer.flush()


BROTLI = b64decode("GycACKxmSlt6jK1OZFWaIDQbPtPlHKxYtNvXKAR0TJ/eXQ==")
"""Its bytes only have to look like it: nothing here unpacks them."""
ZSTD = b"\x28\xb5\x2f\xfd\x20\x02\x11\x00\x00[]"
NAMES_NOTHING = (
    *("", "none", "utf-8", "UTF-8", "identity", "Identity", "plain", "binary", "8bit", "off", "0", "null"),
    *(
        "gzip",
        "GZIP",
        "x-gzip",
        "deflate",
        "br",
        "zstd",
        "compress",
        "gzip, identity",
        "identity,gzip",
        "br, none",
    ),
    *(",", " , ", "gzip;q=1", '"gzip"', "none, none", "\xe9"),
)


async def read(
    content: bytes, *encodings: str, size: int = 7, limit: int = MB, length: int | None = None
) -> bytes:
    """Read a body that comes in pieces."""

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(content), size):
            yield content[at : at + size]

    headers = [(b"Content-Encoding", encoding.encode("latin-1")) for encoding in encodings]
    if length is not None:
        headers.append((b"Content-Length", b"%d" % length))
    response = httpx.Response(200, headers=headers, content=pieces())
    return await read_bounded(response, limit=limit, peer="the shop")


async def refused(content: bytes, *encodings: str, size: int = 7, limit: int = MB) -> TemporaryError:
    with pytest.raises(TemporaryError) as caught:
        await read(content, *encodings, size=size, limit=limit)
    assert str(caught.value).isprintable()
    return caught.value


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 10_000])
@pytest.mark.parametrize("encoding", NAMES_NOTHING)
async def test_a_plain_body_is_read_as_it_is_whatever_is_announced(encoding: str, size: int) -> None:
    assert await read(PLAIN, encoding, size=size) == PLAIN
    assert await read(b"[]", encoding, size=size) == b"[]"
    assert await read(b"", encoding, size=size) == b""


@pytest.mark.parametrize("size", [1, 2, 63, 64, 65, 10_000])
@pytest.mark.parametrize("encoding", [*NAMES_NOTHING, "gzip, gzip", "deflate, gzip"])
async def test_what_is_packed_by_gzip_is_unpacked_whatever_is_announced(encoding: str, size: int) -> None:
    assert await read(gzip.compress(PLAIN), encoding, size=size) == PLAIN
    assert await read(gzip.compress(PLAIN), encoding, encoding, size=size) == PLAIN
    assert await read(gzip.compress(PLAIN), size=size) == PLAIN


@pytest.mark.parametrize("size", [1, 64, 10_000])
@pytest.mark.parametrize("bits", [zlib.MAX_WBITS, -zlib.MAX_WBITS, 9, -9])
async def test_deflate_is_unpacked_in_both_of_its_forms(bits: int, size: int) -> None:
    assert await read(deflated(PLAIN, bits), "deflate", size=size) == PLAIN
    assert await read(deflated(b"[]", bits), "Deflate", size=size) == b"[]"


@pytest.mark.parametrize("size", [1, 10_000])
@pytest.mark.parametrize(
    ("content", "encoding", "name"),
    [
        (BROTLI, "br", "by Brotli"),
        (BROTLI, "BR, identity", "by Brotli"),
        (ZSTD, "zstd", "by Zstandard"),
        (ZSTD * 20, "zstd", "by Zstandard"),
        (b"\x1f\x9d\x90" + b"\x00[]" * 30, "compress", "by compress"),
        (b"[]", "gzip, gzip", "more than once"),
        (b"[]", "deflate, gzip", "more than once"),
    ],
)
async def test_what_is_packed_otherwise_is_an_error_that_names_it(
    content: bytes, encoding: str, name: str, size: int
) -> None:
    error = await refused(content, encoding, size=size)
    assert error.kind is ErrorKind.PROTOCOL
    assert f"the shop compressed its response {name}, " in str(error)
    assert "find the cache, plugin or server setting" in str(error)


async def test_zstandard_and_a_double_gzip_are_known_without_a_word() -> None:
    assert "by Zstandard" in str(await refused(ZSTD, size=100))
    twice = gzip.compress(gzip.compress(PLAIN))
    assert "more than once" in str(await refused(twice, size=100))
    assert "more than once" in str(await refused(twice, "gzip, gzip", size=100))


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "none"])
async def test_what_begins_as_packed_and_is_not_is_an_error(encoding: str) -> None:
    assert "cannot be decompressed" in str(await refused(b"\x1f\x8b\x08" + b"nonsense" * 30, encoding))
    if encoding == "deflate":
        assert "cannot be decompressed" in str(await refused(b"\x78\x9c" + b"\xff" * 300, encoding))


@pytest.mark.parametrize("size", [1000, 100_000])
@pytest.mark.parametrize("encoding", ["", "none", "gzip", "deflate"])
async def test_the_size_after_unpacking_stays_bounded(encoding: str, size: int) -> None:
    bomb = b" " * (3 * MB)
    packed = deflated(bomb, zlib.MAX_WBITS) if encoding == "deflate" else gzip.compress(bomb)
    assert (await refused(packed, encoding, size=size)).kind is ErrorKind.TOO_LARGE
    assert (await refused(bomb, encoding, size=size)).kind is ErrorKind.TOO_LARGE


async def test_what_is_kept_back_is_bounded() -> None:
    response = httpx.Response(200, headers={"content-encoding": "br"})
    bounded = BoundedBody(response, limit=MB, peer="the shop")
    assert sum(len(bounded.unpack(b"x")) for _ in range(1000)) == 1000
    assert bounded.rest() == b""


@pytest.mark.parametrize("transport", [httpx.AsyncHTTPTransport, FastTransport], ids=["plain", "fast"])
@pytest.mark.parametrize(
    "line", [b"Content-Encoding: none", b"Content-Encoding: none\r\nContent-Encoding: gzip"]
)
async def test_the_case_content_encoding_none_is_read(
    monkeypatch: pytest.MonkeyPatch, transport: type[httpx.AsyncBaseTransport], line: bytes
) -> None:
    monkeypatch.setattr(client, "transport_class", lambda: transport)
    said = CASE.read_bytes().replace(b"Content-Encoding: none", line)

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)

    async with raw_server(serve) as port:
        source = Rest(f"http://127.0.0.1:{port}/api", consumer_key=KEY, consumer_secret=SECRET)
        with anyio.fail_after(20):
            assert (await source.fetch(Query(per_page=100))).items == ()
        await source.aclose()
