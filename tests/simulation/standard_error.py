"""Standard error of a simulated host: a pipe that nobody reads for a while, behind the daemons' own queue."""

import os
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING

import anyio

from shop_poller.observability.output import LogWriter

if TYPE_CHECKING:
    from simulation.world import World

HELD_EVERY_S = 100.0
MAX_LINES = 2
"""Of the queue, so that it overflows within a few ticks."""
LOOKS = 200
"""How often the end looks whether all is written, for 50 ms each: a real thread writes."""


def blocks_log(seed: int) -> bool:
    """Whether standard error is held now and then in a seed's world of one shop."""
    return Random(f"log {seed}").random() < 0.2


class StandardError:
    """The pipe, and the output that the daemons log to.

    Args:
        fail: takes what must not be.
    """

    def __init__(self, fail: Callable[[str], None]) -> None:
        self._fail = fail
        self._read_end, self._write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        self.encoding = "utf-8"
        self._text = b""
        self._logged = 0
        self._is_held = False
        self.output = LogWriter(self, max_lines=MAX_LINES, describe_gap=_gap)  # type: ignore[arg-type]
        self.output.start()

    def fileno(self) -> int:
        """Where the writer thread writes."""
        return self._write_end

    def write(self, text: str) -> int:
        """Only a daemon that writes by itself comes here, and stands still while the pipe is full."""
        if self._is_held:
            self._fail("a daemon waits for its log")
        else:
            os.write(self._write_end, text.encode())
        return len(text)

    def flush(self) -> None:
        """Nothing is kept back."""

    def log(self, line: str) -> None:
        """A daemon logs a line."""
        if not self._is_held:
            self._receive()
        self._logged += 1
        self.output.write(f"{line}\n")

    async def hold_now_and_then(self, world: "World") -> None:
        """Nobody reads for a while, again and again."""
        random = Random(world.seed)
        while True:
            await anyio.sleep(random.expovariate(1 / HELD_EVERY_S))
            world.note("nobody reads the log")
            self._is_held = True
            self._fill()
            await anyio.sleep(random.choice([20, 90, 400]))
            world.note("the log is read again")
            self._is_held = False
            self._receive()

    def close(self) -> None:
        """Read the rest: each line must have arrived, or be told as missing."""
        self._is_held = False
        for _ in range(LOOKS):
            self._receive()
            if self.output.finish(within_s=0.05):
                break
        self._receive()
        os.close(self._write_end)
        os.close(self._read_end)
        # Without what filled the pipe.
        lines = [line for line in self._text.decode().splitlines() if line.strip(".")]
        told = sum(int(gap[1]) for line in lines if (gap := re.fullmatch(r"\.*gap of (\d+)", line)))
        arrived = sum("gap of" not in line for line in lines)
        if arrived + told != self._logged:
            self._fail(f"{self._logged} lines were logged, {arrived} arrived and {told} are told as missing")

    def _fill(self) -> None:
        os.set_blocking(self._write_end, False)
        with suppress(BlockingIOError):
            while True:
                os.write(self._write_end, b"." * 4096)
        with suppress(BlockingIOError):
            while True:
                os.write(self._write_end, b".")
        os.set_blocking(self._write_end, True)

    def _receive(self) -> None:
        with suppress(BlockingIOError):
            while text := os.read(self._read_end, 2**16):
                self._text += text


def _gap(lines: int, _: datetime) -> str:
    return f"gap of {lines}"
