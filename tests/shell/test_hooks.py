"""The route for webhooks over real HTTP: what is answered, logged and counted; its bounds."""

import json
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from shop_poller.observability.metrics import Metrics
from shop_poller.web import hooks, server
from shop_poller.web.hooks import MAX_BODY, PATH, Hooks
from shop_poller.web.routes import HealthSource, make_app
from shop_poller.web.server import listen, serving
from support import wire
from support.hooks import SECRET, headers
from support.sink_peers import LOOPBACK

pytestmark = pytest.mark.anyio

SHOP = "shop.example"
IN_TIME_S = 5.0
"""What takes milliseconds may take this long on a busy machine."""
BODY = wire.request("webhook/webhook-05").body
NO_HEALTH = cast("HealthSource", None)  # nobody asks for them here


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"  # real sockets need real time


@dataclass
class Desk:
    """Where webhooks arrive."""

    metrics: Metrics = field(default_factory=lambda: Metrics(SHOP, []))
    triggers: int = 0
    hooks: Hooks | None = None

    def trigger(self) -> None:
        self.triggers += 1

    def counted(self) -> dict[str, float]:
        """How many there were of each outcome, where there were any."""
        found: dict[str, float] = {}
        for outcome in ("accepted", "ignored", "refused"):
            labels = {"shop": SHOP, "outcome": outcome}
            found[outcome] = self.metrics.registry.get_sample_value("shop_hints_total", labels) or 0
        return {outcome: count for outcome, count in found.items() if count}


@pytest.fixture
def desk() -> Desk:
    return Desk()


@asynccontextmanager
async def served(desk: Desk) -> AsyncIterator[httpx.AsyncClient]:
    desk.hooks = Hooks(SECRET, trigger=desk.trigger, counter=desk.metrics)
    app = make_app(NO_HEALTH, desk.hooks)
    async with (
        serving(app, listen(LOOPBACK, 0)) as address,
        httpx.AsyncClient(base_url=address, timeout=IN_TIME_S) as client,
    ):
        yield client


@asynccontextmanager
async def stranger(client: httpx.AsyncClient, said: bytes) -> AsyncIterator[anyio.abc.SocketStream]:
    """Somebody who connects to the same listener and has said something."""
    assert client.base_url.port is not None
    async with await anyio.connect_tcp(client.base_url.host, client.base_url.port) as stream:
        await stream.send(said)
        yield stream


# --- What is answered ---


@pytest.mark.parametrize("name", ["webhook-02", "webhook-05", "webhook-07"])
async def test_a_webhook_as_the_shop_sends_it_is_a_trigger(desk: Desk, name: str) -> None:
    recorded = wire.request(f"webhook/{name}")
    signed = headers(recorded.body, topic=recorded.headers["x-wc-webhook-topic"])
    signed["content-length"] = str(len(recorded.body))  # names of another length were put into it

    async with served(desk) as client:
        answer = await client.post(PATH, content=recorded.body, headers={**recorded.headers, **signed})

    assert (answer.status_code, answer.content) == (200, b"")
    assert (desk.triggers, desk.counted()) == (1, {"accepted": 1})


async def test_the_ping_that_comes_first_is_answered_and_nothing_else(desk: Desk) -> None:
    ping = wire.request("webhook/webhook-01")
    async with served(desk) as client:
        answer = await client.post(PATH, content=ping.body, headers=ping.headers)

    assert answer.status_code == 200
    assert (desk.triggers, desk.counted()) == (0, {"ignored": 1})


async def test_what_is_genuine_and_about_something_else_is_no_trigger(desk: Desk) -> None:
    async with served(desk) as client:
        answer = await client.post(PATH, content=BODY, headers=headers(BODY, topic="product.updated"))

    assert answer.status_code == 200
    assert (desk.triggers, desk.counted()) == (0, {"ignored": 1})


@pytest.mark.parametrize(
    ("body", "head"),
    [
        (BODY, {}),
        (BODY, headers(BODY, secret="another secret")),
        (BODY + b" ", headers(BODY)),
        (b"", {"x-wc-webhook-signature": ""}),
        (BODY, {"x-wc-webhook-signature": "no base64"}),
        (BODY, {"x-wc-webhook-signature": b"caf\xe9"}),  # codespell:ignore caf
        (BODY, {"x-wc-webhook-signature": "A" * 8000}),
        (BODY, wire.request("webhook/webhook-05").headers),
    ],
    ids=["unsigned", "other secret", "tampered", "empty", "malformed", "no ASCII", "long", "as recorded"],
)
async def test_what_is_not_genuine_is_told_why(desk: Desk, body: bytes, head: Any) -> None:
    head = {key: value for key, value in head.items() if key != "content-length"}
    async with served(desk) as client:
        answer = await client.post(PATH, content=body, headers=head)

    assert answer.status_code == 401
    signed = bool(head.get("x-wc-webhook-signature"))
    assert answer.text == f"{hooks.DOES_NOT_FIT if signed else hooks.NOT_SIGNED}\n"
    assert (desk.triggers, desk.counted()) == (0, {"refused": 1})


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_one_can_only_post(desk: Desk, method: str) -> None:
    async with served(desk) as client:
        answer = await client.request(method, PATH, headers=headers(b""))

    assert answer.status_code == 405
    assert (desk.triggers, desk.counted()) == (0, {})


async def test_without_a_secret_there_is_no_such_route() -> None:
    async with (
        serving(make_app(NO_HEALTH), listen(LOOPBACK, 0)) as address,
        httpx.AsyncClient(base_url=address, timeout=IN_TIME_S) as client,
    ):
        for method in ("GET", "POST"):
            assert (await client.request(method, PATH)).status_code == 404


# --- What is logged ---


async def test_only_the_first_of_a_kind_is_told_and_nothing_of_what_was_sent(desk: Desk) -> None:
    async with served(desk) as client:
        with capture_logs() as logs:
            for _ in range(3):  # in turns: who forges must not make the log long
                await client.post(PATH, content=BODY, headers=headers(BODY, secret="another secret"))
                await client.post(PATH, content=BODY, headers=headers(BODY))

    told = [(entry["log_level"], entry["event"]) for entry in logs if entry["log_level"] != "debug"]
    assert told == [
        ("warning", "a webhook was refused; if it was the shop's, see docs/hints.md"),
        ("info", "webhooks of the shop arrive"),
    ]
    assert len([entry for entry in logs if entry["log_level"] == "debug"]) == 2
    order = json.loads(BODY)
    shown = json.dumps(logs, ensure_ascii=False)
    for private in (SECRET, order["billing"]["first_name"], order["billing"]["phone"], order["order_key"]):
        assert private not in shown
    assert headers(BODY)["x-wc-webhook-signature"] not in shown


# --- Bounds ---


async def test_a_body_of_a_mebibyte_is_read_and_no_more(desk: Desk) -> None:
    most = b"x" * MAX_BODY
    async with served(desk) as client:
        assert (await client.post(PATH, content=most, headers=headers(most))).status_code == 200
        more = most + b"x"
        answer = await client.post(PATH, content=more, headers=headers(more))

    assert MAX_BODY == 1024 * 1024
    assert (answer.status_code, answer.text) == (413, "the body has more than 1048576 bytes\n")
    assert desk.counted() == {"accepted": 1, "refused": 1}


SIGNED = "X-WC-Webhook-Signature: AAAA\r\n"


async def test_of_what_is_not_signed_hardly_anything_is_read(desk: Desk) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {MAX_BODY}\r\n\r\n".encode()
    async with served(desk) as client, stranger(client, head + b"x" * 1000) as stream:
        with anyio.fail_after(IN_TIME_S):
            assert (await stream.receive()).startswith(b"HTTP/1.1 401 ")
    assert desk.counted() == {"refused": 1}


@pytest.mark.parametrize("forged", [SIGNED, ""], ids=["with a signature", "without"])
@pytest.mark.parametrize("said", [b"", b"x" * 50])
async def test_slow_forged_bodies_do_not_delay_a_genuine_one(desk: Desk, forged: str, said: bytes) -> None:
    """As many as there may be connections, and more; none of them is complete."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{forged}Content-Length: 60\r\n\r\n".encode()
    async with served(desk) as client, AsyncExitStack() as stack:
        for _ in range(server.MAX_CONNECTIONS + 8):
            await stack.enter_async_context(stranger(client, head + said))
        for number in range(1, 4):
            with anyio.fail_after(hooks.READ_S / 2):
                async with stranger(client, _posted(BODY)) as genuine:
                    assert (await genuine.receive()).startswith(b"HTTP/1.1 200 ")
            assert desk.triggers == number


async def test_many_bodies_that_stay_incomplete_take_hardly_any_memory(desk: Desk) -> None:
    """A megabyte each, from whoever likes: nothing of them is kept."""
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{SIGNED}Content-Length: {MAX_BODY}\r\n\r\n".encode()
    many = server.MAX_CONNECTIONS - 4
    async with served(desk) as client, AsyncExitStack() as stack:
        tracemalloc.start()
        stack.callback(tracemalloc.stop)
        for _ in range(many):
            slow = await stack.enter_async_context(stranger(client, head))
            await slow.send(b"x" * (MAX_BODY - 1))
        assert tracemalloc.get_traced_memory()[1] < many * MAX_BODY / 4
        assert desk.counted() == {}, "all are still being read"


def _posted(body: bytes) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers(body).items())
    return f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def test_a_body_without_end_is_refused_before_its_end(desk: Desk) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{SIGNED}Transfer-Encoding: chunked\r\n\r\n".encode()
    async with served(desk) as client, stranger(client, head) as stream:
        chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
        with anyio.fail_after(IN_TIME_S):
            for _ in range(MAX_BODY // 0x10000 + 1):
                await stream.send(chunk)
            assert (await stream.receive()).startswith(b"HTTP/1.1 413 ")
        assert (await client.post(PATH, content=BODY, headers=headers(BODY))).status_code == 200


@pytest.mark.parametrize("said", [b"", BODY[:100]], ids=["nothing", "a part"])
async def test_who_dawdles_is_sent_away(desk: Desk, monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    assert hooks.READ_S == 10
    monkeypatch.setattr(hooks, "READ_S", 0.2)
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\n{SIGNED}Content-Length: {len(BODY)}\r\n\r\n".encode()
    answer = b""
    async with served(desk) as client, stranger(client, head + said) as stream:
        with anyio.fail_after(IN_TIME_S):
            async for part in stream:  # until it hangs up
                answer += part

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b"the body took more than 0.2 s\n")
    assert (desk.triggers, desk.counted()) == (0, {"refused": 1})


async def test_who_hangs_up_in_the_middle_leaves_no_traceback(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    head = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()
    async with served(desk) as client:
        async with stranger(client, head + BODY[:100]):
            pass
        with anyio.fail_after(IN_TIME_S):
            while not desk.counted():
                assert (await client.post(PATH[:-1])).status_code == 404

    assert (desk.triggers, desk.counted()) == (0, {"refused": 1})
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
