"""What a receiver says in the body of its answer, as the sink `http(s)://` passes it on."""

import asyncio
import gzip
import json
import os

import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.sinks.http.response_words import MOST_READ, MOST_WORDS, words_of
from support.sink_peers import LOOPBACK, Talk, peer, read_request
from support.sinks import DELIVERY, failure, http_sink

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


SAID = {
    b"": "",
    b" \r\n": "",
    b"{}\n": "",
    b"unknown brand": "unknown brand",
    "нет такого бренда".encode(): "нет такого бренда",
    b'{"detail": "\\u043d\\u0435\\u0442"}': '{"detail": "нет"}',
    b'{"detail": "no': '{"detail": "no',
    b"[" * 3000: "[" * MOST_WORDS,
    b"a line\nanother one\x1b[2J\x00and so on": "a line another one [2J and so on",
    ("turned\u202e, broken\u2028off " + "and cut " * 5).encode(): (
        "turned , broken off " + "and cut " * 5
    ).strip(),
    b"<!DOCTYPE html><html><head><style>p{}</style><title>Oops</title></head><body><h1>Not &lt;here&gt;</h1>"
    b"<script>alert(1)</script><!-- x --></body></html>": "Oops Not <here>",
    b"<html><script>" + b"<script>" * 400: "",
    gzip.compress(b"packed"): "packed",
    gzip.compress(b"x" * 10_000_000)[:MOST_READ]: "x" * MOST_WORDS,
    b"\x1f\x8bgarbage": "",
    bytes(range(256)) * 4: "",
    b"\x89PNG\r\n\x1a\n" + bytes(200): "",
}


@pytest.mark.parametrize(("body", "words"), SAID.items(), ids=range(len(SAID)))
def test_any_body_becomes_one_line(body: bytes, words: str) -> None:
    assert words_of(body, str) == words


def test_noise_is_never_an_error_and_never_long() -> None:
    for size in (1, 3, 100, MOST_READ):
        for begin in (b"", b"{", b"<html>", b"\x1f\x8b\x08\x00"):
            words = words_of(begin + os.urandom(size), str)
            assert len(words) <= MOST_WORDS
            assert words.isprintable()


def test_secrets_are_masked_after_all_is_unpacked() -> None:
    secret = "hook-s3cret-Qx7zVn4kTp"
    escaped = "".join(f"\\u{ord(char):04x}" for char in secret)
    for body in (
        secret.encode(),
        gzip.compress(secret.encode()),
        f'{{"you sent": "{escaped}"}}'.encode(),
        f"<html>{''.join(f'&#{ord(char)};' for char in secret)}</html>".encode(),
        f"<p>{'<b></b>'.join(secret)}</p>".encode(),
    ):
        words = words_of(body, Masker([secret]).mask)
        assert "***" in words
        assert "Qx7z" not in words.replace(" ", "")


def saying(said: bytes) -> Talk:
    """A peer that answers one request with that, and hangs up."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(said)
        await writer.drain()

    return talk


def answered(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


async def failure_of(said: bytes, *, query: str = "") -> ShopPollerError:
    async with (
        peer(saying(said)) as receiver,
        http_sink(f"http://{LOOPBACK}:{receiver.port}/hook{query}") as sink,
    ):
        return await failure(sink)


async def test_the_error_has_the_status_and_the_words_and_its_text_has_none() -> None:
    error = await failure_of(answered("422 No", b'{"detail":"unknown brand"}'))
    assert isinstance(error, PermanentError)
    assert (error.kind, error.status, error.words) == (
        ErrorKind.REJECTED, 422, '{"detail": "unknown brand"}',
    )  # fmt: skip
    assert str(error) == "the receiver answered 422"


@pytest.mark.parametrize("status", ["302 Found", "401 No", "410 Gone", "429 Slow", "500 No", "503 No"])
async def test_whatever_the_status_is(status: str) -> None:
    error = await failure_of(answered(status, b"not today", "Location: /elsewhere\r\n"))
    assert (error.status, error.words) == (int(status[:3]), "not today")


async def test_what_is_in_the_address_is_masked() -> None:
    error = await failure_of(
        answered("500 No", json.dumps({"you sent": "tkn4Wd8RmZq1Lx6Bv9"}).encode()),
        query="?token=tkn4Wd8RmZq1Lx6Bv9",
    )
    assert error.words == '{"you sent": "***"}'


async def test_a_body_that_breaks_off_is_heard_as_far_as_it_came() -> None:
    error = await failure_of(b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\nnot tod")
    assert (error.status, error.words) == (500, "not tod")


async def test_a_yes_is_its_status() -> None:
    talk = saying(answered("202 Accepted", b"{}"))
    async with peer(talk) as receiver, http_sink(f"http://{LOOPBACK}:{receiver.port}/hook") as sink:
        assert await sink.send(DELIVERY) == 202
