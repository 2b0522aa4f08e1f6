"""Handles signals. The first one stops the process in order; the second one ends it, even if it hangs.

- SIGTERM, SIGINT, SIGHUP, SIGQUIT: stop in order. The second one has the kernel's default action.
- SIGUSR1, SIGUSR2: ignored. A log rotation that sends one must not end the process.
- SIGTTOU: ignored. A background job may write to its terminal (`stty tostop`).
- SIGPIPE: ignored by Python. The write fails instead.

A SIGHUP that is ignored at the start (`nohup`) stays ignored.
"""

import asyncio
import errno
import signal
import termios
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

import anyio

T = TypeVar("T")

STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
ENDING = (signal.SIGTERM, signal.SIGHUP)
"""Signals that cancel a command. Python handles Ctrl-C itself."""
IGNORED = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU)
STANDARD = (0, 1, 2)


@contextmanager
def on_signal(
    numbers: tuple[signal.Signals, ...], stop: Callable[[signal.Signals], object]
) -> Iterator[None]:
    """Call `stop` in the running event loop at the first of these signals. The next one ends the process.

    The next signal does not need the loop. By then the kernel's default action is restored, which ends even
    a process that hangs in a system call.

    Args:
        numbers: the signals.
        stop: receives the signal that arrived.
    """
    loop = asyncio.get_running_loop()
    has_arrived = False
    handled = [one for one in numbers if one is not signal.SIGHUP or not _is_ignored(one)]

    def handle(number: int, _: FrameType | None) -> None:
        nonlocal has_arrived
        has_arrived = True
        for one in handled:
            signal.signal(one, signal.SIG_DFL)
        if number == signal.SIGHUP and _has_lost_terminal():
            # When a terminal is closed, the shell and then the kernel send SIGHUP. The second one does not
            # ask for an immediate end, so it is ignored.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        with suppress(RuntimeError):  # the loop is closed: the process ends anyway
            loop.call_soon_threadsafe(stop, signal.Signals(number))

    before = {one: signal.signal(one, handle) for one in handled}
    try:
        yield
    finally:
        if not has_arrived:
            for one, handler in before.items():
                signal.signal(one, handler)


@contextmanager
def ignoring_signals() -> Iterator[None]:
    """Ignore the signals that have no meaning for a daemon and would end or stop it."""
    before = {one: signal.signal(one, signal.SIG_IGN) for one in IGNORED}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)


def run_until_signal(work: Callable[[], Awaitable[T]]) -> T:
    """Run a command. SIGTERM and SIGHUP cancel it, so that it closes its resources.

    Raises:
        SystemExit: 128 + the signal's number, which is the convention of shells.
    """
    has_arrived: list[signal.Signals] = []
    results: list[T] = []

    async def run() -> None:
        with anyio.CancelScope() as scope:

            def cancel(number: signal.Signals) -> None:
                has_arrived.append(number)
                scope.cancel()

            with on_signal(ENDING, cancel):
                results.append(await work())

    anyio.run(run)
    if has_arrived:
        raise SystemExit(128 + has_arrived[0])
    return results[0]


def _is_ignored(number: signal.Signals) -> bool:
    return signal.getsignal(number) is signal.SIG_IGN


def _has_lost_terminal() -> bool:
    """Return whether one of the standard descriptors is a terminal that was hung up."""
    for number in STANDARD:
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                return True
    return False
