"""`healthy`, as a container asks it: what it says, its exit code, and what it does without."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from shop_poller.cli.healthcheck import DEFAULT_LISTEN, MAX_ANSWER, ask
from shop_poller.config.addresses import parse_listen
from shop_poller.config.settings import Settings
from support.commands import run_command
from support.raw_server import raw_server

pytestmark = pytest.mark.anyio


async def told(answer: bytes, host: str = "127.0.0.1") -> tuple[bool, str, bytes]:
    """What is made of an answer, and what was asked."""
    requested = []

    async def serve(request: bytes, writer: asyncio.StreamWriter) -> None:
        requested.append(request)
        writer.write(answer)
        writer.close()

    async with raw_server(serve) as port:
        well, text = await anyio.to_thread.run_sync(ask, f"{host}:{port}")
    return well, text, requested[0]


def response(line: str, **body: str) -> bytes:
    return f"HTTP/1.1 {line}\r\ncontent-type: application/json\r\n\r\n{json.dumps(body)}".encode()


async def test_it_asks_the_daemon() -> None:
    well, text, requested = await told(response("200 OK", status="healthy"))
    assert (well, text) == (True, '{"status": "healthy"}')
    assert requested.startswith(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1:")


async def test_it_says_why_it_is_not() -> None:
    answer = response("503 Service Unavailable", status="unhealthy", reason="Polling not running")
    well, text, _ = await told(answer)
    assert not well
    assert "Polling not running" in text


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 2000 OK\r\n\r\n", b"x" * 10 * MAX_ANSWER]
)
async def test_anything_else_that_answers_is_not_healthy(answer: bytes) -> None:
    well, text, _ = await told(answer)
    assert not well
    assert text


async def test_a_listener_on_every_address_is_checked_on_this_machine() -> None:
    well, _, requested = await told(response("200 OK", status="healthy"), host="0.0.0.0")  # noqa: S104 - as containers have it
    assert well
    assert b"\r\nHost: 127.0.0.1:" in requested


@pytest.mark.parametrize("listen", ["", "9108", "localhost:", "localhost:http", "127.0.0.1:70000"])
def test_where_there_is_no_listener_that_is_said(listen: str) -> None:
    well, text = ask(listen)
    assert not well
    assert "SHOP_HTTP_LISTEN" in text


@pytest.mark.parametrize(("args", "listen"), [([], "127.0.0.1:1"), (["--listen", "127.0.0.1:1"], "")])
def test_nobody_there_is_exit_code_1(tmp_path: Path, args: list[str], listen: str) -> None:
    done = run_command(["healthy", *args], home=tmp_path, env={"SHOP_HTTP_LISTEN": listen})
    assert (done.code, done.stdout) == (1, "")
    (line,) = done.complaints
    assert line.startswith("shop-poller: 127.0.0.1:1 does not answer: ")


def test_the_default_is_that_of_the_settings() -> None:
    assert Settings.model_fields["shop_http_listen"].default == DEFAULT_LISTEN
    assert parse_listen(DEFAULT_LISTEN) is not None


def test_it_imports_next_to_nothing() -> None:
    """It is started every half minute, beside a daemon that idles."""
    script = (
        "import sys; sys.argv[1:] = ['healthy']\n"
        "from shop_poller.__main__ import main\n"
        "try: main()\n"
        "except SystemExit: print(*sys.modules)"
    )
    env = {"SHOP_HTTP_LISTEN": "127.0.0.1:1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=env)
    loaded = set(done.stdout.split())
    assert {name for name in loaded if name.startswith("shop_poller.")} <= {
        "shop_poller.__main__", "shop_poller.cli", "shop_poller.cli.healthcheck",
    }  # fmt: skip
    assert not loaded & {"typer", "pydantic", "asyncio", "anyio", "httpx", "ssl", "json", "email"}
