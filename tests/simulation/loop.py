"""An event loop in which time is virtual, and processes that can be frozen and killed between any two steps.

A process is a context: whatever is scheduled by its code belongs to it. One handle is run at a time, so that
"between any two steps" is meant to the letter: between any two awaits of the daemon.
"""

import asyncio
import heapq
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, TypeVarTuple

from support.virtual_time import InlineExecutor

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Life(Protocol):
    """What the loop has to know of a process."""

    @property
    def frozen(self) -> bool:
        """It does not run now."""
        ...

    def step(self) -> None:
        """It is about to run until its next await."""
        ...


RUNNING: ContextVar[Life | None] = ContextVar("RUNNING", default=None)
"""Whose code this is; None: the world's."""


class SimulationLoop(InlineExecutor):
    """See the module's docstring."""

    _ready: Any  # asyncio's own, which its stubs do not show
    _scheduled: Any

    def __init__(self) -> None:
        super().__init__()
        self._virtual_now = 0.0
        self._parked: list[asyncio.Handle] = []
        self.steps = 0

    def time(self) -> float:
        return self._virtual_now

    def thaw(self) -> None:
        """Somebody runs again: all that became due for it meanwhile is due now."""
        self._ready.extend(self._parked)
        self._parked.clear()

    def _run_once(self) -> None:
        timers = self._scheduled
        while timers and (timers[0].cancelled() or not self._ready):
            timer = heapq.heappop(timers)
            timer._scheduled = False
            if not timer.cancelled():
                self._virtual_now = max(self._virtual_now, timer.when())
                self._ready.append(timer)
        assert self._ready, "nothing is left to do, and nobody waits for a time"
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        life = handle._context.get(RUNNING)
        if life is not None:
            if life.frozen:
                self._parked.append(handle)
                return
            life.step()
        self.steps += 1
        handle._run()
