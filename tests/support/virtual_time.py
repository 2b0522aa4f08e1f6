"""An event loop whose time is virtual: when nothing is left to do, it jumps to the next timer.

So a day of ticks passes in the time that their work takes, and a test of a time-out is exact. Work in threads
(the store's) is waited for in real time, during which virtual time stands still.
"""

import asyncio
import heapq
import selectors
from collections.abc import Callable, Coroutine
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from typing import Any, TypeAlias, TypeVar, TypeVarTuple, Unpack

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
EPOCH = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)


class _Selector(selectors.DefaultSelector):
    """Asks the system nothing if the loop does not mean to wait and has nothing but its own alarm to watch.

    That alarm only ends a wait: what another thread hands over is in the queue before it rings. A system
    call at each step would be a tenth of the work of most stories.
    """

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0 and len(self.get_map()) == 1:
            return []
        return super().select(timeout)


class InlineExecutor(asyncio.SelectorEventLoop):
    """A loop that runs at once what is meant for a thread."""

    def run_in_executor(
        self, _: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001 - it is the future's to raise
            future.set_exception(error)
        return future


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """See the module's docstring."""

    _ready: Any  # asyncio's own, which its stubs do not show
    _scheduled: Any
    _timer_cancelled_count: int

    def __init__(self) -> None:
        super().__init__(_Selector())
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
            timers = self._scheduled  # a heap
            while timers and timers[0].cancelled():
                heapq.heappop(timers)._scheduled = False
                self._timer_cancelled_count -= 1
            if timers:
                self._virtual_now = max(self._virtual_now, timers[0].when())
        super()._run_once()  # type: ignore[misc] # asyncio's own, which its stubs do not show


class ThreadlessLoop(InlineExecutor, VirtualTimeLoop):
    """The same without threads: much faster, and always in the same order."""


Backend: TypeAlias = tuple[str, dict[str, Any]]
THREADLESS: Backend = ("asyncio", {"loop_factory": ThreadlessLoop})
"""What `anyio_backend` of a file of tests returns where nothing hangs on the store's threads.

To hand something over to a thread costs more than what such a store has to do. The tests of real threads are
those of the dispatcher, of the poller and of fleets, tests/contracts and tests/system.
"""


def at_once(story: Coroutine[Any, Any, T]) -> T:
    """Run a story in a loop of its own, with neither waiting nor threads."""
    with asyncio.Runner(loop_factory=ThreadlessLoop) as runner:
        return runner.run(story)


def virtual_now() -> datetime:
    """Our clock in tests: the loop's time since EPOCH, to the millisecond."""
    ms = round(asyncio.get_running_loop().time() * 1000)
    return EPOCH + timedelta(milliseconds=ms)
