"""The sinks that Apprise reaches, against receivers on loopback."""

import importlib
import json
import logging
import queue
import shlex
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from logging.handlers import QueueHandler
from typing import Any

import anyio
import pytest

from shop_poller.config.loader import load
from shop_poller.config.settings import SettingsError
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import EventType
from shop_poller.runtime.factory import make_sinks
from shop_poller.sinks.registry import parse_sink
from support.deliveries import delivery
from support.sink_peers import free_port, inbox

with warnings.catch_warnings():
    # Apprise imports modules that Python itself says are old; that is no fault of ours.
    warnings.simplefilter("ignore")
    importlib.import_module("apprise").Apprise.instantiate("json://loaded")

from shop_poller.sinks.apprise.message_text import message
from shop_poller.sinks.apprise.sink import AppriseSink

pytestmark = pytest.mark.anyio

IN_TIME_S = 5.0
TOKEN = "123456789:AAabcdefghijklmnopqrstuvwxyz12345678"


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


DELIVERY = delivery()


def sink_at(url: str, *, connections: int = 2, path: str = "/hooks/sesame-key") -> AppriseSink:
    """A sink that posts JSON, by Apprise, to the host of a URL."""
    host = url.split("/")[2]
    sink = parse_sink(f"apprise+json://{host}{path}").open(signing_keys=(), connections=connections)
    assert isinstance(sink, AppriseSink)
    return sink


async def failure(sink: AppriseSink) -> TemporaryError:
    with anyio.fail_after(IN_TIME_S), pytest.raises(TemporaryError) as caught:
        await sink.send(DELIVERY)
    return caught.value


async def test_title_text_and_type_arrive() -> None:
    async with inbox() as receiver:
        await sink_at(receiver.url).send(DELIVERY)

    (post,) = receiver.posts
    told = json.loads(DELIVERY.body)
    got = json.loads(post.body)
    assert post.target == "/hooks/sesame-key"
    assert (got["title"], got["type"]) == (told["title"], "info")
    assert got["message"] == told["message"]


@pytest.mark.parametrize("host", [None, "localhost", "shop.example"])
async def test_a_receiver_on_this_machine_is_never_reached_through_a_proxy(
    host: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    async with inbox() as receiver, inbox() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        await sink_at(receiver.url.replace("127.0.0.1", host or "127.0.0.1")).send(DELIVERY)

    proxied = host == "shop.example"
    assert (len(receiver.posts), len(proxy.posts)) == ((0, 1) if proxied else (1, 0))


@pytest.mark.parametrize(
    ("level", "kind"),
    [
        ("info", "info"),
        ("warning", "warning"),
        ("error", "failure"),
        ("critical", "failure"),
        ("own", "info"),
    ],
)
def test_the_type_follows_the_level(level: str, kind: str) -> None:
    body = json.dumps({**json.loads(DELIVERY.body), "level": level})
    assert message(replace(DELIVERY, body=body))[1].value == kind


def test_a_recovery_is_a_success() -> None:
    assert message(replace(DELIVERY, event_type=EventType.RECOVERED))[1].value == "success"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (429, ErrorKind.RATE_LIMIT),
        (500, ErrorKind.SERVER),
        (503, ErrorKind.UNAVAILABLE),
        (403, ErrorKind.REJECTED),
    ],
)
async def test_a_refusal_says_why_and_is_made_once_and_shows_no_secret(
    status: int, kind: ErrorKind, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = queue.SimpleQueue[logging.LogRecord]()
    monkeypatch.setattr(logging.getLogger(), "handlers", [QueueHandler(logged)])
    async with inbox() as receiver:
        receiver.answers = [(status, {})]
        error = await failure(sink_at(receiver.url, path="/sesame-key?retry=3&wait=0"))

    assert error.kind is kind
    assert str(status) in str(error)
    assert len(receiver.posts) == 1, "Apprise does not try again by itself"
    out, err = capfd.readouterr()
    assert "sesame" not in f"{error}{out}{err}"
    assert logged.empty(), "what Apprise says is ours to repeat"


async def test_nobody_there_is_temporary() -> None:
    error = await failure(sink_at(f"http://127.0.0.1:{free_port()}/"))
    assert error.kind is ErrorKind.CONNECTION
    assert "onnection" in str(error)


async def test_a_redirect_is_not_followed_with_the_token() -> None:
    async with inbox() as other, inbox() as receiver:
        receiver.answers = [(307, {"Location": other.url})]
        await failure(sink_at(receiver.url))
    assert other.posts == []


async def test_a_slow_answer_is_received_by_the_next_attempt_and_the_message_is_sent_once() -> None:
    may_answer = anyio.Event()
    async with inbox() as receiver:
        receiver.before_answer = may_answer.wait
        sink = sink_at(receiver.url)
        with anyio.move_on_after(0.3) as attempt:
            await sink.send(DELIVERY)
        assert attempt.cancelled_caught
        may_answer.set()
        with anyio.fail_after(IN_TIME_S):
            await sink.send(DELIVERY)
            assert len(receiver.posts) == 1
            await sink.send(delivery("6a0c6c1e-0000-5000-8000-000000000317"))
    assert len(receiver.posts) == 2


async def test_threads_that_were_given_up_count_until_they_end() -> None:
    may_answer = anyio.Event()
    async with inbox() as receiver:
        receiver.before_answer = may_answer.wait
        sink = sink_at(receiver.url, connections=2)
        for n in range(5):
            with anyio.move_on_after(0.2):
                await sink.send(delivery(f"{n}f0c6c1e-0000-5000-8000-000000000316"))
        assert sum(thread.name == "apprise" for thread in threading.enumerate()) == 2
        may_answer.set()
        with anyio.fail_after(IN_TIME_S):
            for n in range(5):
                await sink.send(delivery(f"{n}f0c6c1e-0000-5000-8000-000000000316"))
    assert len(receiver.posts) == 5


async def test_a_plugin_that_breaks_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = sink_at("http://127.0.0.1:1/")

    def broken(**_: object) -> bool:
        raise RuntimeError("at sesame-key")

    monkeypatch.setattr(sink._idle[0], "notify", broken)
    error = await failure(sink)
    assert str(error) == "Apprise: RuntimeError"


async def test_check_sends_nothing() -> None:
    async with inbox() as receiver:
        assert "notify-test" in await sink_at(receiver.url).check()
    assert receiver.posts == []


def test_time_outs_are_bounded_whatever_the_address_asks() -> None:
    sink = sink_at("http://127.0.0.1:1/", path="/?cto=60&rto=60")
    service = sink._service()
    assert service.socket_connect_timeout + service.socket_read_timeout < 10


def settings_of(url: str) -> Any:
    return load(
        None,
        environ={
            "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
            "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
            "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
            "SHOP_NOTIFY_URLS": url,
        },
        parse_sink=parse_sink,
    )


@pytest.mark.parametrize("url", ["apprise+tgram://sesame-key", "apprise+nonsense://sesame-key/x"])
def test_a_url_that_apprise_cannot_use_is_one_line_without_it(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_sinks(settings_of(url))
    (problem,) = caught.value.problems
    assert problem.startswith("SHOP_NOTIFY_URLS: apprise+")
    assert "Apprise cannot use this URL" in problem
    assert "sesame" not in problem
    assert "\n" not in problem


def test_the_token_is_masked_in_every_log() -> None:
    secrets = settings_of(f"apprise+tgram://{TOKEN}/777000#boss").secrets
    assert {TOKEN, TOKEN.split(":")[1]} <= set(secrets)


@pytest.fixture
def without_apprise(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "apprise", None)
    monkeypatch.delitem(sys.modules, "shop_poller.sinks.apprise.sink")
    yield
    sys.modules.pop("shop_poller.sinks.apprise.sink", None)


INSTALL = f"{shlex.quote(sys.executable)} -m pip install 'apprise>=1.9'"
"""Works in any directory, and without the virtual environment that this process runs in."""


@pytest.mark.parametrize("prefix", ["apprise+", ""])
@pytest.mark.usefixtures("without_apprise")
def test_without_the_extra_one_line_says_how_to_install_it(prefix: str) -> None:
    with pytest.raises(SettingsError) as caught:
        make_sinks(settings_of(f"{prefix}tgram://{TOKEN}/777#boss"))
    assert caught.value.problems == [f"SHOP_NOTIFY_URLS: boss: needs Apprise; install it: {INSTALL}"]


def test_an_address_in_its_own_form_does_not_load_it() -> None:
    code = "import sys; from shop_poller.sinks.registry import parse_sink as p; p('tgram://1:a/2');"
    done = subprocess.run(
        [sys.executable, "-c", f"{code} print('apprise' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"


def test_who_does_not_use_it_does_not_load_it() -> None:
    code = "import sys, shop_poller.runtime.shop_runtime; print('apprise' in sys.modules)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False"


def test_libraries_below_apprise_are_silent() -> None:
    assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.ERROR)
