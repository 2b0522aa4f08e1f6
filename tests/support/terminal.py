"""A command on a terminal of its own, and a person who reads and types."""

import os
import pty
import select
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.commands import PATIENCE_S


class Terminal:
    """What a person sees, and types into.

    Attributes:
        shown: everything so far.
        descriptor: the terminal's other side.
    """

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self.shown = ""
        self.descriptor = descriptor
        self._raw = b""
        self._read_to = 0
        self._code: int | None = None

    def expect(self, text: str, *, within_s: float = PATIENCE_S) -> str:
        """Wait until a text appears behind what was expected last; return what is before it."""
        deadline = time.monotonic() + within_s
        while (at := self.shown.find(text, self._read_to)) < 0:
            is_open = self._read(deadline - time.monotonic())
            assert is_open or text in self.shown[self._read_to :], f"{text!r} is missing in:\n{self.shown}"
        before = self.shown[self._read_to : at]
        self._read_to = at + len(text)
        return before

    def type(self, text: str) -> None:
        """Type a line, and press Enter."""
        os.write(self.descriptor, text.encode() + b"\n")

    def press(self, key: bytes) -> None:
        """Press a key, such as Ctrl-C."""
        os.write(self.descriptor, key)

    def answer(self, question: str, text: str) -> None:
        """Wait for a question, and answer it."""
        self.expect(question)
        self.type(text)

    def end(self, *, within_s: float = PATIENCE_S) -> int:
        """Read until the command ends, and return its exit code."""
        deadline = time.monotonic() + within_s
        while self._read(deadline - time.monotonic()):
            pass
        return self.wait()

    def wait(self) -> int:
        if self._code is None:
            self._code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self._code

    def _read(self, within_s: float) -> bool:
        """Read once; return whether there may be more."""
        ready, _, _ = select.select([self.descriptor], [], [], max(0.0, within_s))
        assert ready, f"nothing more appeared after:\n{self.shown}"
        try:
            piece = os.read(self.descriptor, 4096)
        except OSError:  # nobody is on the other side any more
            return False
        self._raw += piece
        self.shown = self._raw.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(piece)


@contextmanager
def terminal(args: Sequence[str], *, home: Path, env: Mapping[str, str]) -> Iterator[Terminal]:
    """Start a command on a new terminal; it is killed at the end of the block if it still runs."""
    pid, descriptor = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        os.chdir(home)
        os.execve(args[0], [*args], dict(env))  # noqa: S606 - our own command
    one = Terminal(pid, descriptor)
    try:
        yield one
    finally:
        os.close(descriptor)  # the kernel sends SIGHUP
        one.wait()
