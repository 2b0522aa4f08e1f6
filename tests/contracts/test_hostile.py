"""Shops and receivers that mean harm, over real sockets: errors of ours, in bounded time and memory."""

import asyncio
import json
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio
import httpx
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Delivery, Order, Query, UnreadableOrder
from shop_poller.http import client
from shop_poller.http.aiohttp_transport import FastTransport
from shop_poller.http.client import MAX_COOKIE, MAX_COOKIES
from shop_poller.ports import Source
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.http.sink import HttpSink
from shop_poller.sources.woocommerce import connection
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.execute import Execute
from shop_poller.sources.woocommerce.orders import read_order
from shop_poller.sources.woocommerce.rest import Rest
from shop_poller.sources.woocommerce.session import MAX_TOOL_PAGES, MAX_TOOLS
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from support import wire
from support.deliveries import T0, notification
from support.hostile import CROWDS, ENDLESS, FLOODS, GZIP, NO_ADDRESSES, OK, bent
from support.raw_server import Serve, raw_server
from support.scripted_shop import KEY, SECRET, answer, body, scripted_shop

pytestmark = pytest.mark.anyio

MB = 2**20
ASK = Query(per_page=100)
IN_TIME_S = 20.0
"""What takes a second may take this long on a busy machine."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True, params=[httpx.AsyncHTTPTransport, FastTransport], ids=["plain", "fast"])
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "transport_class", lambda: request.param)


only_plain = pytest.mark.parametrize("transport", [httpx.AsyncHTTPTransport], indirect=True, ids=["plain"])
"""For shops without a socket (scripted_shop), which are httpx's own transport."""


def mcp(url: str) -> WooCommerceMcp:
    return WooCommerceMcp(url, consumer_key=KEY, consumer_secret=SECRET)


def rest(url: str) -> Source:
    return Rest(url, consumer_key=KEY, consumer_secret=SECRET)


def execute(url: str) -> Source:
    return Execute(url, consumer_key=KEY, consumer_secret=SECRET)


def abilities(url: str) -> Source:
    return Abilities(url, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")


def told(error: ShopPollerError) -> ShopPollerError:
    """An error that can be shown: one short line, without keys."""
    text = str(error)
    assert text.isprintable()
    assert 10 < len(text) < 600
    assert KEY not in text
    assert SECRET not in text
    return error


@asynccontextmanager
async def shop_of(serve: Serve, make: Callable[[str], Source] = rest) -> AsyncIterator[Source]:
    async with raw_server(serve) as port:
        source = make(f"http://127.0.0.1:{port}/api")
        try:
            yield source
        finally:
            await source.aclose()


async def refused(source: Source) -> ShopPollerError:
    with anyio.fail_after(IN_TIME_S), pytest.raises((TemporaryError, PermanentError)) as caught:
        await source.fetch(ASK)
    return told(caught.value)


@contextmanager
def memory(limit: int) -> Iterator[None]:
    """No more than so many bytes are held at any moment, by us or by the server that the test runs."""
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < limit
    finally:
        tracemalloc.stop()


# --- Too much ---


@pytest.mark.parametrize("name", FLOODS)
async def test_too_much_is_an_error_that_says_so_in_bounded_memory(name: str) -> None:
    async with shop_of(FLOODS[name], mcp) as source:
        with memory(80 * MB):
            error = await refused(source)
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.TOO_LARGE


@pytest.mark.parametrize("name", CROWDS)
async def test_too_many_are_an_error_that_says_so_in_a_moment(name: str) -> None:
    async with shop_of(CROWDS[name], mcp) as source:
        began = time.process_time()
        error = await refused(source)
    assert time.process_time() - began < 10  # it takes one or two seconds, most of them the sender's
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.TOO_LARGE
    assert "values" in str(error)


async def test_what_says_that_it_is_too_much_is_not_read_at_all() -> None:
    async with shop_of(FLOODS["a gigabyte, and says so"]) as source:
        with memory(3 * MB):
            assert (await refused(source)).kind is ErrorKind.TOO_LARGE


async def test_far_more_orders_than_requested_are_an_error_however_many() -> None:
    async with shop_of(answering(b"[" + b'{"id":1},' * 200_000 + b'{"id":1}]')) as source:
        error = await refused(source)
    assert error.kind is ErrorKind.PROTOCOL
    assert "200,001 orders" in str(error)


def test_megabytes_of_control_characters_are_not_looked_at_one_by_one() -> None:
    order = LISTED[0] | dict.fromkeys(("number", "currency", "currency_symbol"), "\x07" * 5_000_000)
    began = time.process_time()
    found = read_order(order | {"billing": {"first_name": "\x07" * 5_000_000}})
    assert time.process_time() - began < 0.5  # it takes a millisecond; one by one, three seconds
    assert isinstance(found, Order)
    assert (found.number, found.currency_sign, found.customer) == (str(found.id), "", "")


@only_plain
async def test_tools_by_the_million_are_not_all_kept() -> None:
    tools = [{"name": f"tool-{n}"} for n in range(MAX_TOOLS)]
    with scripted_shop() as shop:
        shop.on("tools/list", answer({"tools": [*tools, {"name": "more"}], "nextCursor": "on"}))
        source = mcp(shop.url)
        assert not await source.offered()
        await source.aclose()
    assert shop.methods.count("tools/list") == 1 < MAX_TOOL_PAGES


async def test_cookies_do_not_grow_with_every_answer() -> None:
    sent: list[bytes] = []
    long = b"Set-Cookie: long=" + b"x" * MAX_COOKIE

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        sent.extend(line for line in request.split(b"\r\n") if line.lower().startswith(b"cookie: "))
        own = b"\r\n".join(b"Set-Cookie: c%d-%d=1" % (len(sent), n) for n in range(30))
        writer.write(OK + own + b"\r\n" + long + b"\r\nContent-Length: 2\r\n\r\n[]")

    async with shop_of(serve) as source:
        for _ in range(10):
            await source.fetch(ASK)
    assert len(sent) == 9
    assert b"c8-29=1" in sent[-1]  # kept, they are
    assert max(line.count(b"=") for line in sent) <= MAX_COOKIES
    assert not any(b"long=" in line for line in sent)


# --- Too slow ---


@pytest.mark.parametrize("name", ENDLESS)
async def test_an_answer_without_end_is_cut_in_time(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(connection, "REQUEST_TIMEOUT_S", 0.2)
    async with shop_of(ENDLESS[name], mcp) as source:
        began = time.monotonic()
        assert (await refused(source)).kind is ErrorKind.TIMEOUT
    assert time.monotonic() - began < 5


# --- Elsewhere ---


def answering(content: bytes, *heads: bytes, status: bytes = b"200 OK") -> Serve:
    """Answer everything with these bytes."""
    head = OK.replace(b"200 OK", status) + b"".join(line + b"\r\n" for line in heads)

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(head + b"Content-Length: %d\r\n\r\n%s" % (len(content), content))

    return serve


@pytest.mark.parametrize("make", [mcp, rest, execute, abilities])
async def test_keys_do_not_follow_a_redirect(make: Callable[[str], Source]) -> None:
    requests: list[bytes] = []

    async def elsewhere(request: bytes, writer: asyncio.StreamWriter) -> None:
        requests.append(request)
        writer.close()

    async with raw_server(elsewhere) as port:
        to = b"Location: http://127.0.0.1:%d/api" % port
        for status in (b"301 Moved", b"302 Found", b"307 Temporary", b"308 Permanent"):
            async with shop_of(answering(b"", to, status=status), make) as source:
                error = await refused(source)
                assert error.kind is ErrorKind.NOT_FOUND
                assert "redirects" in str(error)
    assert requests == []


@pytest.mark.parametrize("address", NO_ADDRESSES)
async def test_a_redirect_to_nowhere_is_a_redirect(address: str) -> None:
    to = b"Location: " + address.encode()
    async with shop_of(answering(b"", to, status=b"302 Found")) as source:
        assert "redirects" in str(await refused(source))
    async with receiver_of(answering(b"", to, status=b"302 Found")) as sink:
        error = await undelivered(sink)
        assert error.kind is ErrorKind.PROTOCOL
        assert "redirect" in str(error)


# --- Nonsense in the head ---


@pytest.mark.parametrize(
    "name",
    [b"x" * MB, b"x" * 1001, b"", b"a b", b"\xd1\x8f", b"a\x7f", b"\tx\x00y", b"a, b"],
    ids=lambda name: repr(name[:9]),
)
async def test_a_session_named_by_what_is_no_name_is_an_error(name: bytes) -> None:
    begun = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'
    async with shop_of(answering(begun, b"Mcp-Session-Id: " + name), mcp) as source:
        assert (await refused(source)).kind in {ErrorKind.PROTOCOL, ErrorKind.CONNECTION}


async def test_a_second_answer_to_one_question_is_not_the_answer_to_the_next() -> None:
    begun = b'{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2025-06-18"}}'
    empty = b'{"jsonrpc":"2.0","id":7,"result":{"structuredContent":{"data":[]}}}'

    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        for text in (begun, empty):
            writer.write(OK + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))

    async with shop_of(serve, mcp) as source:
        assert (await refused(source)).kind is ErrorKind.PROTOCOL


HEADS = [
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 100_000,
    b"HTTP/1.1 200 OK\r\nX: " + b"y" * MB + b"\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    b"HTTP/1.1 099 What\r\n\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n[]",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n[]",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;" + b"x" * MB,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"T: x\r\n" * 100_000,
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n",
    OK + GZIP + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\n[]",
    b"\x00" * MB,
    b"\r\n" * 100_000,
]


@pytest.mark.parametrize("said", HEADS, ids=lambda said: repr(said[9:40]))
async def test_a_head_that_is_none_is_an_error(said: bytes) -> None:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with shop_of(serve) as source:
        assert isinstance(await refused(source), TemporaryError)
    async with receiver_of(serve) as sink:
        try:
            await sink.send(DELIVERY)
        except TemporaryError as error:
            told(error)
        else:
            assert b" 200 OK" in said


# --- Receivers ---

TOLD = notification()
DELIVERY = Delivery(1, "shop.example", "A", TOLD.key, TOLD.event_id, TOLD.event_type, TOLD.body(), 0, T0, T0)


@asynccontextmanager
async def receiver_of(serve: Serve) -> AsyncIterator[HttpSink]:
    async with raw_server(serve) as port:
        sink = HttpSink(HttpConfig.parse(f"http://127.0.0.1:{port}/"), keys=())
        try:
            yield sink
        finally:
            await sink.aclose()


async def undelivered(sink: HttpSink) -> ShopPollerError:
    with anyio.fail_after(IN_TIME_S), pytest.raises((TemporaryError, PermanentError)) as caught:
        await sink.send(DELIVERY)
    return told(caught.value)


@pytest.mark.parametrize("name", FLOODS)
async def test_what_a_receiver_has_to_say_is_not_listened_to(name: str) -> None:
    async with receiver_of(FLOODS[name]) as sink:
        with memory(3 * MB), anyio.fail_after(IN_TIME_S):
            await sink.send(DELIVERY)


@pytest.mark.parametrize(
    "wish",
    [
        b"9" * 30,
        b"1" + b"0" * 5000,
        b"-1",
        b"soon",
        b"1e30",
        b"\xb9",
        b"Fri, 31 Dec 99999 23:59:59 GMT",
        b"Mon, 01 Jan 0000 00:00:00 GMT",
    ],
)
async def test_a_receivers_absurd_wish_is_a_number_of_seconds_or_none(wish: bytes) -> None:
    async with receiver_of(answering(b"", b"Retry-After: " + wish, status=b"503 Busy")) as sink:
        error = await undelivered(sink)
    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.UNAVAILABLE
    assert error.retry_after_s is None or 0 <= error.retry_after_s < 10**9


# --- Anything, in every dialect ---

RPC = {"jsonrpc": "2.0", "id": 2}
LISTED = list(wire.orders_by_status().values())[:2]
LIST = {"data": LISTED}
FOUND = wire.load("abilities/bigtie-asc-20-p1").response.json()["result"]["structuredContent"]
FOUND["data"]["orders"] = FOUND["data"]["orders"][:2]
GOOD: list[tuple[Callable[[str], Source], Any]] = [
    (rest, LISTED),
    (execute, LIST),
    (mcp, RPC | {"result": {"structuredContent": LIST}}),
    (mcp, RPC | {"result": {"content": [{"type": "text", "text": "[]"}], "isError": True}}),
    (abilities, RPC | {"result": {"structuredContent": FOUND}}),
    (abilities, RPC | {"result": {"structuredContent": {"success": False, "error": "x"}}}),
    (mcp, RPC | {"error": {"code": -32602, "message": "x"}}),
    (rest, {"code": "rest_x", "message": "x", "data": {"status": 500}}),
]
answers = st.sampled_from(GOOD).flatmap(lambda good: st.tuples(st.just(good[0]), bent(good[1])))
types = st.sampled_from(
    ["application/json"] * 5 + ["text/event-stream", "text/html; charset=utf-16", "\x00", ""]
)
encodings = st.sampled_from([""] * 8 + ["gzip", "br", "gzip, gzip", "\xff", "identity"])


@only_plain
@given(answers, types, encodings, st.sampled_from([200] * 8 + [100, 204, 302, 404, 429, 500, 999]))
@example((rest, b"[" + b"[]," * 800_000 + b"0]"), "application/json", "", 200)
@example((mcp, b'{"jsonrpc":"2.0","id":2,"result":' + b"[" * 1_000_000), "application/json", "", 200)
def test_whatever_a_shop_answers_is_a_page_or_an_error_of_ours(
    answered: tuple[Callable[[str], Source], bytes], content_type: str, encoding: str, status: int
) -> None:
    asyncio.run(ask_a_shop_that_says(*answered, content_type, encoding, status))


async def ask_a_shop_that_says(
    make: Callable[[str], Source], raw: bytes, content_type: str, encoding: str, status: int
) -> None:
    with scripted_shop() as shop:
        head = {"content-encoding": encoding} if encoding else {}
        shop.on_question(body(raw, status=status, content_type=content_type, headers=head))
        source = make(shop.url)
        try:
            page = await source.fetch(ASK)
        except ShopPollerError as error:
            told(error)
        else:
            for item in page.items:
                check(item)
        finally:
            await source.aclose()


def check(item: Order | UnreadableOrder) -> None:
    """What is kept of an order can be stored, sent and shown."""
    assert 0 < item.id < 2**63
    if isinstance(item, UnreadableOrder):
        assert item.reason.isprintable()
        assert len(item.reason) <= 300
        return
    for text in (item.number, item.total, item.currency, item.currency_sign, item.customer):
        assert len(text.encode()) <= 800
        assert not set(text) & {chr(n) for n in (*range(32), *range(127, 160), 0x202E, 0x2028)}
    assert len(item.status) <= 60
    assert all(0 < refund.id < 2**63 for refund in item.refunds or ())
    assert T0.tzinfo == item.created_at.tzinfo == item.modified_at.tzinfo


WHOLE = OK + b"Content-Length: %d\r\n\r\n%s" % (len(json.dumps(LISTED)), json.dumps(LISTED).encode())
HEAD_END = WHOLE.index(b"\r\n\r\n") + 4
PIECES = (
    b"\r\n",
    b"\n",
    b":",
    b"\x00",
    b"Transfer-Encoding: chunked\r\n",
    b"Content-Encoding: gzip\r\n",
    b"HTTP/1.1 ",
    b"1",
    b"",
)


@settings(max_examples=settings().max_examples // 3)  # each has a server of its own
@given(
    st.lists(st.tuples(st.integers(0, HEAD_END + 20), st.integers(0, 9), st.sampled_from(PIECES)), max_size=4)
)
def test_whatever_a_shop_says_is_a_page_or_an_error_of_ours(edits: list[tuple[int, int, bytes]]) -> None:
    said = WHOLE
    for at, length, piece in edits:
        said = said[:at] + piece + said[at + length :]
    asyncio.run(ask_a_shop_that_writes(said))


async def ask_a_shop_that_writes(said: bytes) -> None:
    async def serve(_: bytes, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with shop_of(serve) as source:
        with anyio.fail_after(IN_TIME_S):
            try:
                assert len((await source.fetch(ASK)).items) <= 2
            except ShopPollerError as error:
                told(error)
