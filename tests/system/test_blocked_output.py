"""Standard error or output that blocks, is full, is closed or has lost its reader: the watch goes on."""

import fcntl
import json
import os
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from shop_poller.observability.output import FLUSH_S, MAX_LINES
from shop_poller.runtime.signals import STOPPING
from shop_poller.web.hooks import PATH
from support.commands import COMMAND, FAST, NO_TLS, PATIENCE_S, PLAIN, environment, wait_until
from support.site import Site

STOPPED = "stopped"
GAP = "lines of this log were dropped"
SMALL_PIPE = 4096
AT_ONCE = 100


@dataclass
class Daemon:
    """A daemon whose standard error is not a file."""

    process: subprocess.Popen[bytes]
    address: str

    def get(self, path: str) -> httpx.Response:
        return httpx.get(self.address + path, timeout=PATIENCE_S, trust_env=False, verify=NO_TLS)

    def answers(self) -> bool:
        with suppress(httpx.ConnectError):
            return self.get("/livez").status_code == 200
        return False

    def dropped(self) -> int:
        (line,) = [
            x for x in self.get("/metrics").text.splitlines() if x.startswith("shop_log_lines_dropped_total ")
        ]
        return int(float(line.split()[1]))

    def chatter(self, lines: int) -> None:
        """Make it log so many lines, at debug level."""
        port = int(self.address.rpartition(":")[2])
        request = f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx"
        last = request.replace("Host: x", "Host: x\r\nConnection: close")
        for begin in range(0, lines, AT_ONCE):
            several = min(AT_ONCE, lines - begin)
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as connection:
                connection.sendall((request * (several - 1) + last).encode())
                answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.count(b"HTTP/1.1 401 ") == several

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(PATIENCE_S)


@contextmanager
def daemon(
    site: Site,
    *,
    stderr: int,
    stdout: int = subprocess.DEVNULL,
    before: tuple[str, ...] = (),
    changes: Mapping[str, str] | None = None,
) -> Iterator[Daemon]:
    """`run`; what it logs is not read, so its port is chosen here."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "SHOP_HTTP_LISTEN": f"127.0.0.1:{port}",
        "SHOP_LOG_LEVEL": "debug",
        "SHOP_WEBHOOK_SECRET": "a webhook's secret",
    }
    process = subprocess.Popen(
        [*before, COMMAND, "run"],
        cwd=site.home,
        env=environment(site.home, site.environment(**settings, **(changes or {}))),
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
    )
    running = Daemon(process, f"http://127.0.0.1:{port}")
    try:
        wait_until(running.answers, "an answer")
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(PATIENCE_S)


@contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """A small pipe that nobody reads; yields both ends."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETPIPE_SZ, SMALL_PIPE)
    try:
        yield read, write
    finally:
        for fd in (read, write):
            with suppress(OSError):
                os.close(fd)


@contextmanager
def held_terminal() -> Iterator[tuple[int, int]]:
    """A terminal on which somebody has pressed Ctrl-S."""
    master, slave = os.openpty()
    termios.tcflow(slave, termios.TCOOFF)
    try:
        yield master, slave
    finally:
        os.close(master)
        os.close(slave)


def assert_it_watches(site: Site, running: Daemon) -> None:
    order = site.shop.create_order("processing")
    wait_until(lambda: site.receiver.story(order) == ["new"], "the notification")
    site.polled(2)
    assert running.get("/livez").status_code == 200


def assert_it_stops_in_order(site: Site, running: Daemon, number: signal.Signals = signal.SIGTERM) -> None:
    began = time.monotonic()
    assert running.stop(number) == 0
    assert time.monotonic() - began < FLUSH_S + 5
    assert site.served.endpoint.sessions.of(site.served.key.user) == [], "the session was closed"


@pytest.mark.parametrize(
    ("blocked", "extra"),
    # What it is that blocks is nothing that a loop would see.
    [(pipe, PLAIN), (pipe, FAST), (held_terminal, PLAIN)],
    ids=["pipe-plain", "pipe-fast", "held_terminal-plain"],
)
def test_a_log_that_blocks_stops_neither_the_watch_nor_the_end(
    site: Site, extra: dict[str, str], blocked: Callable[[], Any]
) -> None:
    with blocked() as (_, stderr), daemon(site, stderr=stderr, changes=extra) as running:
        assert running.dropped() == 0
        running.chatter(MAX_LINES + 200)
        wait_until(lambda: running.dropped() > 0, "lines that are dropped")
        assert_it_watches(site, running)
        assert_it_stops_in_order(site, running)


def test_who_reads_again_is_told_how_much_is_missing(site: Site) -> None:
    with pipe() as (read, stderr), daemon(site, stderr=stderr) as running:
        running.chatter(MAX_LINES + 500)
        dropped = running.dropped()
        assert dropped > 100
        os.set_blocking(read, False)
        text = b""

        def told() -> list[dict[str, Any]]:
            nonlocal text
            with suppress(BlockingIOError):
                while part := os.read(read, 65536):
                    text += part
            lines = [json.loads(line) for line in text.split(b"\n")[:-1]]
            return [line for line in lines if line["event"].startswith(GAP)]

        (gap,) = wait_until(told, "the line about what is missing")
        assert gap["level"] == "warning"
        assert gap["lines"] >= dropped
        assert gap["since"] < gap["timestamp"]
        assert running.dropped() == gap["lines"]
        running.chatter(1)
        assert_it_stops_in_order(site, running)
        events = [json.loads(line)["event"] for line in (told(), text)[1].split(b"\n")[:-1]]
        assert events[-1] == STOPPED
        assert sum(event.startswith(GAP) for event in events) == 1


def gone() -> int:
    read, write = os.pipe()
    os.close(read)
    return write


def hung_up() -> int:
    master, slave = os.openpty()
    os.close(master)
    return slave


def full() -> int:
    return os.open("/dev/full", os.O_WRONLY)


@pytest.mark.parametrize("made", [gone, hung_up, full])
def test_a_log_that_cannot_be_written_is_no_reason_to_stop(site: Site, made: Callable[[], int]) -> None:
    stderr = made()
    try:
        with daemon(site, stderr=stderr) as running:
            wait_until(lambda: running.dropped() > 0, "lines that are dropped")
            assert_it_watches(site, running)
            before = cpu_s(running.process.pid)
            site.polled(2)
            assert cpu_s(running.process.pid) - before < 1, "it does not try again and again"
            assert_it_stops_in_order(site, running)
    finally:
        os.close(stderr)


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_descriptors_that_are_closed_at_the_start_are_no_file_of_ours(site: Site, closed: str) -> None:
    before = ("/bin/sh", "-c", f'exec "$@" {closed}', "sh")
    with daemon(site, stderr=subprocess.DEVNULL, before=before) as running:
        assert_it_watches(site, running)
        for number in range(3):
            assert os.readlink(f"/proc/{running.process.pid}/fd/{number}") == "/dev/null"  # noqa: PTH115
        assert_it_stops_in_order(site, running)


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("args", [["run", "--once"], ["status"], ["healthy"]])
def test_a_command_without_them_ends_as_it_does_with_them(site: Site, closed: str, args: list[str]) -> None:
    codes = [
        subprocess.run(
            ["/bin/sh", "-c", f'exec "$@" {how}', "sh", COMMAND, *args],
            cwd=site.home,
            env=environment(site.home, site.environment()),
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        for how in ("", closed)
    ]
    # What cannot be printed is exit code 4, see test_closed_pipes; the other two print nothing here.
    is_printed = args == ["run", "--once"] and ">&- " in closed
    assert codes[1].returncode == (4 if is_printed else codes[0].returncode)
    assert b"Traceback" not in codes[1].stderr


@pytest.mark.parametrize(
    ("number", "extra"),
    # Each signal, and the other loop with those that are sent most: it has one way for all of them.
    [*((number, PLAIN) for number in STOPPING), (signal.SIGTERM, FAST), (signal.SIGINT, FAST)],
    ids=[*(f"{number.name}-plain" for number in STOPPING), "SIGTERM-fast", "SIGINT-fast"],
)
def test_a_second_signal_ends_it_at_once_though_the_log_blocks(
    site: Site, number: signal.Signals, extra: dict[str, str]
) -> None:
    site.shop.create_order("processing")
    site.receiver.answer = site.receiver.hang
    with pipe() as (_, stderr), daemon(site, stderr=stderr, changes=extra) as running:
        wait_until(lambda: site.receiver.posts, "a notification that is under way")
        running.chatter(100)
        running.process.send_signal(number)
        wait_until(lambda: caught(running.process.pid, number) is False, "the first signal's effect")
        began = time.monotonic()
        assert running.stop(number) == -number
        assert time.monotonic() - began < 2


def caught(pid: int, number: signal.Signals) -> bool:
    """Whether a handler of the process's own takes this signal."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError("no such line")


def test_a_screen_that_is_held_blocks_its_own_sender_only(site: Site) -> None:
    sinks = f"{site.receiver.url} console:#screen"
    with ExitStack() as stack:
        _, stdout = stack.enter_context(pipe())
        os.set_blocking(stdout, False)
        with suppress(BlockingIOError):
            while os.write(stdout, b"x" * 512):
                pass
        os.set_blocking(stdout, True)
        running = stack.enter_context(
            daemon(site, stderr=subprocess.DEVNULL, stdout=stdout, changes={"SHOP_NOTIFY_URLS": sinks})
        )
        assert_it_watches(site, running)
        waiting = [
            x for x in running.get("/metrics").text.splitlines() if x.startswith("shop_outbox_deliveries")
        ]
        assert any('sink="screen"' in line and line.endswith(" 1.0") for line in waiting), (
            "nothing is dropped"
        )
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 20 + 5, "senders have 20 s"
