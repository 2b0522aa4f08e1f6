"""Writes standard error so that the event loop never waits for it.

A terminal stopped with Ctrl-S, a pipe without a reader or a hanging disk blocks `write` forever. While the
daemon runs, everything written to `sys.stderr` enters a bounded queue, which one daemon thread empties. If
the queue is full, lines are dropped and counted. When writing works again, one line reports how many were
dropped and since when. Commands that end by themselves write directly.
"""

import io
import os
import select
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from threading import Condition, Thread
from time import monotonic
from typing import TextIO

MAX_LINES = 2_000
MAX_BYTES = 2**20
"""Capacity of the queue, and the longest line."""
BATCH_BYTES = 2**16
"""Size of one write."""
FLUSH_S = 2.0
"""How long the end of the process waits for unwritten lines."""


class LogWriter(io.TextIOBase):
    """A text stream that writes whole lines to another stream, directly or in the background.

    Lines that cannot be written (full disk, closed pipe, lost terminal) are dropped and counted. This is
    never an error for the caller.

    Args:
        stream: the stream to write to. The background thread writes to its descriptor, without its buffer.
        max_lines: capacity of the queue in lines.
        max_bytes: capacity of the queue in bytes of UTF-8.
        describe_gap: makes the line about dropped lines, from their number and the time of the first.
    """

    def __init__(
        self,
        stream: TextIO,
        *,
        max_lines: int = MAX_LINES,
        max_bytes: int = MAX_BYTES,
        describe_gap: Callable[[int, datetime], str] | None = None,
    ) -> None:
        self.stream = stream
        self.describe_gap = describe_gap or _plain_gap
        self._max_lines = max_lines
        self._max_bytes = max_bytes
        self._changed = Condition()  # its lock is reentrant: a signal handler may log
        self._lines: deque[bytes | _Gap] = deque()
        self._bytes = 0
        self._rest = ""  # a line without its end
        self._gap: _Gap | None = None  # lines dropped after all lines in the queue
        self._in_hand = False
        self._writer: object | None = None  # identifies the thread that writes
        self.dropped = 0

    @property
    def encoding(self) -> str:  # type: ignore[override] # the base class has an attribute
        """The encoding of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override] # likewise
        """How text that cannot be encoded is written."""
        return "backslashreplace"

    def writable(self) -> bool:
        """Return True."""
        return True

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self.stream.isatty()

    def fileno(self) -> int:
        """Return the stream's descriptor."""
        return self.stream.fileno()

    def write(self, text: str) -> int:
        """Write the text, queue it or drop it. It never blocks in the background.

        Raises:
            TypeError: the argument is not text. click uses this to detect text streams.
        """
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if self._writer is None:
            try:
                self.stream.write(text)
            except OSError:
                self._count(text.count("\n") or 1)
            return len(text)
        with self._changed:
            *lines, self._rest = f"{self._rest}{text}".split("\n")
            if len(self._rest) > self._max_bytes:
                self._rest = ""
                self._drop(1)
            for line in lines:
                self._put(f"{line}\n".encode(self.encoding, errors=self.errors))
        return len(text)

    def flush(self) -> None:
        """Flush what is written directly. The thread writes the queue in any case."""
        if self._writer is None:
            with suppress(OSError):
                self.stream.flush()

    def start(self) -> None:
        """Write in the background from now on."""
        self.flush()
        self._writer = writer = object()
        Thread(target=self._run, args=(writer,), name="log", daemon=True).start()

    def finish(self, within_s: float = FLUSH_S) -> bool:
        """Wait until everything is written, and write directly from then on.

        Returns:
            False if it takes longer; then nothing changes.
        """
        if self._writer is None:
            return True
        deadline = monotonic() + within_s
        with self._changed:
            if self._rest:
                self._put(f"{self._rest}\n".encode(self.encoding, errors=self.errors))
                self._rest = ""
            while self._lines or self._in_hand:
                if not self._changed.wait(deadline - monotonic()):
                    return False
            self._writer = None  # its thread ends
            self._changed.notify_all()
        return True

    def _put(self, line: bytes) -> None:
        gap = self._gap
        if (
            len(self._lines) + (gap is not None) >= self._max_lines
            or self._bytes + len(line) > self._max_bytes
        ):
            self._drop(1)
            return
        if gap is not None:
            self._lines.append(gap)
            self._gap = None
        self._lines.append(line)
        self._bytes += len(line)
        self._changed.notify()

    def _drop(self, lines: int) -> None:
        self._gap = self._gap or _Gap(datetime.now(UTC))
        self._gap.lines += lines
        self._count(lines)

    def _count(self, lines: int) -> None:
        global _dropped  # noqa: PLW0603 - the process has one standard error
        self.dropped += lines
        _dropped += lines

    def _run(self, writer: object) -> None:
        """Write the queue until this thread is no longer the writer."""
        while True:
            with self._changed:
                self._in_hand = False
                self._changed.notify_all()
                while not self._lines:
                    if self._writer is not writer:
                        return
                    self._changed.wait()
                taken = self._take()
                self._in_hand = True
            if self._write(taken):
                self._tell_last_gap()

    def _take(self) -> "list[bytes | _Gap]":
        taken: list[bytes | _Gap] = []
        size = 0
        while self._lines and size < BATCH_BYTES:
            one = self._lines.popleft()
            taken.append(one)
            if isinstance(one, bytes):
                size += len(one)
        self._bytes -= size
        return taken

    def _write(self, taken: "list[bytes | _Gap]") -> bool:
        """Write, or drop the lines; return whether they were written."""
        texts = [one if isinstance(one, bytes) else self._line_of(one) for one in taken]
        try:
            write_all(self.stream.fileno(), b"".join(texts))
        except (OSError, ValueError):  # full, without a reader, or closed
            with self._changed:
                self._drop_taken(taken)
            return False
        return True

    def _tell_last_gap(self) -> None:
        """Report lines that were dropped if no later line will report them."""
        with self._changed:
            gap = self._gap if not self._lines else None
            if gap is None:
                return
            self._gap = None
        self._write([gap])

    def _drop_taken(self, taken: "list[bytes | _Gap]") -> None:
        """Count these lines as dropped, in a gap before all lines in the queue."""
        lost = _Gap(datetime.now(UTC))
        for one in taken:
            if isinstance(one, bytes):
                lost.lines += 1
                self._count(1)
            else:
                lost.lines += one.lines
                lost.since = min(lost.since, one.since)
        first = self._lines[0] if self._lines else None
        if isinstance(first, _Gap):
            first.lines, first.since = first.lines + lost.lines, lost.since
        elif self._lines:
            self._lines.appendleft(lost)
        elif self._gap is not None:
            self._gap.lines, self._gap.since = self._gap.lines + lost.lines, lost.since
        else:
            self._gap = lost

    def _line_of(self, gap: "_Gap") -> bytes:
        line = self.describe_gap(gap.lines, gap.since)
        return f"{line}\n".encode(self.encoding, errors=self.errors)


class _Gap:
    """Lines that are missing at this place."""

    def __init__(self, since: datetime) -> None:
        self.lines = 0
        self.since = since


_dropped = 0


def dropped_lines() -> int:
    """Return how many log lines this process has dropped so far."""
    return _dropped


def _plain_gap(lines: int, since: datetime) -> str:
    return f"{lines} lines were dropped since {since.isoformat()}: standard error was blocked or full"


def write_all(fd: int, text: bytes) -> None:
    """Write everything, however long it takes; raises OSError.

    The descriptor may be non-blocking: another process may have set this on the shared terminal or pipe.
    """
    left = memoryview(text)
    while left:
        try:
            left = left[os.write(fd, left) :]
        except BlockingIOError:
            poll = select.poll()
            poll.register(fd, select.POLLOUT)
            poll.poll()
