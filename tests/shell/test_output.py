"""Standard error in the background: order, gaps, bounds, and an end that does not wait for it."""

import errno
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from threading import Thread
from typing import TextIO

import pytest
import structlog

from shop_poller.observability.logging import finish_log, log_in_background, set_up_logging
from shop_poller.observability.output import LogWriter, dropped_lines, write_all

IN_TIME_S = 10.0


class Pipe:
    """A pipe, and a text stream that writes into it."""

    def __init__(self) -> None:
        self.read_end, write_end = os.pipe()
        os.set_blocking(self.read_end, False)
        self.stream: TextIO = open(write_end, "w", encoding="utf-8")  # noqa: PTH123, SIM115 - closed below
        self.text = b""

    def fill(self) -> int:
        """Fill it, so that whoever writes has to wait; how much that takes."""
        fd = self.stream.fileno()
        os.set_blocking(fd, False)
        size = 0
        with suppress(BlockingIOError):
            while True:
                size += os.write(fd, b"." * 4096)
        os.set_blocking(fd, True)
        return size

    def lines(self, until: str) -> list[str]:
        """What was written, up to a line that ends so."""
        deadline = time.monotonic() + IN_TIME_S
        while not self.text.endswith(f"{until}\n".encode()):
            assert time.monotonic() < deadline, self.text[-500:]
            with suppress(BlockingIOError):
                self.text += os.read(self.read_end, 65536)
        lines, self.text = self.text.decode().lstrip(".").splitlines(), b""
        return lines

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.read_end)
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def output(pipe: Pipe, **bounds: int) -> LogWriter:
    made = LogWriter(pipe.stream, describe_gap=lambda lines, _: f"{lines} are missing", **bounds)
    made.start()
    return made


def taken_by_the_thread(out: LogWriter) -> None:
    """Wait until the thread has taken what is there, and is held."""
    deadline = time.monotonic() + IN_TIME_S
    while out._lines:
        assert time.monotonic() < deadline


def test_lines_arrive_whole_and_in_order_whoever_writes_them(pipe: Pipe) -> None:
    out = output(pipe)

    def write(name: str) -> None:
        for number in range(300):
            out.write(f"{name} {number}\n")

    threads = [Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    out.write("the ")
    out.write("end\n")
    lines = pipe.lines("the end")
    for name in "ab":
        assert [line for line in lines if line.startswith(name)] == [f"{name} {n}" for n in range(300)]
    assert len(lines) == 601
    assert out.finish()


def test_the_gap_is_told_where_it_is(pipe: Pipe) -> None:
    pipe.fill()
    out, before = output(pipe, max_lines=3), dropped_lines()
    out.write("held\n")
    taken_by_the_thread(out)
    for number in range(8):
        out.write(f"{number}\n")
    assert out.dropped == dropped_lines() - before == 5
    assert pipe.lines("5 are missing") == ["held", "0", "1", "2", "5 are missing"]
    out.write("later\n")
    assert pipe.lines("later") == ["later"]
    assert out.finish()


def test_what_comes_after_a_gap_while_it_is_still_held_comes_behind_it(pipe: Pipe) -> None:
    pipe.fill()
    out = output(pipe, max_lines=100, max_bytes=20)
    out.write("held\n")
    taken_by_the_thread(out)
    out.write("fits\n")
    out.write("x" * 30 + "\n")
    out.write("too\n")
    assert pipe.lines("too") == ["held", "fits", "1 are missing", "too"]
    assert out.finish()


def test_bytes_are_refused_as_by_any_text_stream(pipe: Pipe) -> None:
    """Click writes bytes wherever they are taken, and they would be printed as b'…'."""
    output = LogWriter(pipe.stream)
    for _ in range(2):
        with pytest.raises(TypeError, match="must be str"):
            output.write(b"text")  # type: ignore[arg-type]
        output.start()
    assert output.finish()


def test_a_line_without_end_is_bounded(pipe: Pipe) -> None:
    out = output(pipe, max_bytes=1000)
    for _ in range(50):
        out.write("x" * 100)
    out.write("\nend\n")
    assert out.dropped == 4
    assert pipe.lines("end")[-1] == "end"
    assert out.finish()


def test_what_cannot_be_written_is_counted_and_told_when_it_can(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = output(pipe)
    tries = 0

    def refuse(*_: object) -> None:
        nonlocal tries
        tries += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("shop_poller.observability.output.write_all", refuse)
        for number in range(3):
            out.write(f"{number}\n")
            taken_by_the_thread(out)
        deadline = time.monotonic() + IN_TIME_S
        while out.dropped < 3:
            assert time.monotonic() < deadline
        assert tries <= 3, "it is not tried again before there is something new"
    out.write("again\n")
    assert pipe.lines("again")[-1] == "again"
    assert out.finish()


def test_the_end_waits_for_so_long_and_no_longer(pipe: Pipe) -> None:
    pipe.fill()
    out = output(pipe)
    out.write("held\n")
    began = time.monotonic()
    assert not out.finish(within_s=0.1)
    assert time.monotonic() - began < 5
    out.write("it stays in the background: this does not block\n")
    pipe.lines("this does not block")
    assert out.finish()


def test_half_a_line_is_written_at_the_end(pipe: Pipe) -> None:
    out = output(pipe)
    out.write("half a line")
    assert out.finish()
    assert pipe.lines("half a line") == ["half a line"]


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    """Another program with the same terminal may have made it so."""
    pipe.fill()
    os.set_blocking(pipe.stream.fileno(), False)
    writing = Thread(target=write_all, args=(pipe.stream.fileno(), b"x" * 100_000 + b"\nend\n"), daemon=True)
    writing.start()
    assert len(pipe.lines("end")[0]) == 100_000
    writing.join(IN_TIME_S)
    assert not writing.is_alive()


def test_in_a_command_lines_are_written_at_once_and_errors_are_none(pipe: Pipe) -> None:
    out = LogWriter(pipe.stream)
    out.write("now\n")
    out.flush()
    assert pipe.lines("now") == ["now"]
    before = out.dropped
    full = open("/dev/full", "w", encoding="utf-8", buffering=1)  # noqa: PTH123, SIM115 - cannot be closed well
    out.stream = full
    out.write("lost\n")
    out.flush()
    assert out.dropped > before
    with suppress(OSError):
        full.close()


def test_whatever_writes_to_standard_error_goes_the_same_way(
    pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", pipe.stream)
    try:
        set_up_logging(level="info", style="json", secrets=["hunter2"])
        log_in_background()
        pipe.fill()
        structlog.get_logger().info("ours", key="hunter2")
        traceback.print_exception(ZeroDivisionError("theirs"))  # as warnings and hooks of Python do
        sys.stderr.write("printed\n")
        lines = pipe.lines("printed")
        assert json.loads(lines[0])["key"] == "***"
        assert "theirs" in lines[1]
        finish_log()
        assert sys.stderr is pipe.stream
    finally:
        structlog.reset_defaults()
        monkeypatch.setattr("shop_poller.observability.logging._stderr", None)
