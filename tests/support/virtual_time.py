"""An event loop whose time is virtual: when nothing is left to do, it jumps to the next timer.

So a day of ticks passes in the time that their work takes, and a test of a time-out is exact. Work in threads
(the store's) is waited for in real time, during which virtual time stands still.
"""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EPOCH = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    _ready: Any  # asyncio's own, which its stubs do not show
    _scheduled: Any

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._in_threads = 0

    def time(self) -> float:
        return self._virtual_now

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        self._in_threads += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._back_from_thread)
        return future

    def _back_from_thread(self, _: asyncio.Future[Any]) -> None:
        self._in_threads -= 1

    def _run_once(self) -> None:
        if not self._ready and not self._in_threads:
            times = (timer.when() for timer in self._scheduled if not timer.cancelled())
            self._virtual_now = max(self._virtual_now, min(times, default=0.0))
        super()._run_once()  # type: ignore[misc] # asyncio's own, which its stubs do not show


class ThreadlessLoop(VirtualTimeLoop):
    """The same, but what is meant for a thread is done at once: much faster, and always in the same order."""

    def run_in_executor(
        self, _: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the future's to raise
            future.set_exception(error)
        return future


def at_once(story: Coroutine[Any, Any, T]) -> T:
    """Run a story in a loop of its own, with neither waiting nor threads."""
    with asyncio.Runner(loop_factory=ThreadlessLoop) as runner:
        return runner.run(story)


def virtual_now() -> datetime:
    """Our clock in tests: the loop's time since EPOCH, to the millisecond."""
    ms = round(asyncio.get_running_loop().time() * 1000)
    return EPOCH + timedelta(milliseconds=ms)
