"""Daemons: the real app.run, that can be killed, frozen and stopped between any two of its steps."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from signal import SIGTERM, Signals
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel

from shop_poller import app
from shop_poller.core.errors import ShopPollerError
from simulation.loop import RUNNING

if TYPE_CHECKING:
    from simulation.world import World


class Process:
    """One daemon, from its start to its end.

    Args:
        world: it lives in.
        number: names it.

    Attributes:
        dead: it was killed: nothing that it does has an effect any more.
        frozen: it does not run.
        tenure: how often it won the right to write.
        ambush: a moment, and what befalls it then.
        loaded: the orders of the shop's last answer to it, as the shop loaded them.
        ended: it runs no more.
    """

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.dead = False
        self.frozen = False
        self.tenure = 0
        self.loaded: dict[int, list[Any]] = {}
        self.ambush: tuple[str, Callable[[], None]] | None = None
        self.ended = anyio.Event()
        self.nonce = ""
        self.store: Any = None
        self.sight: Any = None
        self.shop_not_before = (0, 0.0)
        self._fuse: int | None = None  # steps until it is killed
        self._scope = anyio.CancelScope()
        self._signals: asyncio.Queue[Signals] = asyncio.Queue()
        context = copy_context()
        context.run(RUNNING.set, self)
        self._task = asyncio.get_running_loop().create_task(self._live(), context=context)

    def __str__(self) -> str:
        return f"process {self.number}"

    @property
    def alive(self) -> bool:
        return not self.dead and not self.ended.is_set()

    def step(self) -> None:
        """See loop.Life."""
        if self._fuse is not None and not self.dead:
            self._fuse -= 1
            if self._fuse <= 0:
                self.kill()

    def kill(self, *, after_steps: int = 0) -> None:
        """As SIGKILL: at once, or after so many more steps, whatever it is at then."""
        if after_steps:
            self._fuse = after_steps
            return
        if not self.alive:
            return
        self.world.note(f"{self} is killed")
        self.dead = True
        self.world.judge.counts["killed"] += 1
        self.thaw()
        self._scope.cancel()

    async def passes(self, moment: str) -> None:
        """It comes to a moment at which somebody may lie in wait for it."""
        if self.ambush is not None and self.ambush[0] == moment:
            (_, deed), self.ambush = self.ambush, None
            self.world.note(f"{self} {moment}:")
            deed()
            await anyio.lowlevel.checkpoint()

    def terminate(self) -> None:
        """As SIGTERM."""
        self.world.note(f"{self} gets SIGTERM")
        self._signals.put_nowait(SIGTERM)

    def freeze(self) -> None:
        """As SIGSTOP."""
        self.world.note(f"{self} is frozen")
        self.world.judge.counts["frozen"] += 1
        self.frozen = True

    def thaw(self) -> None:
        """As SIGCONT."""
        if self.frozen:
            self.world.note(f"{self} goes on")
            self.frozen = False
            self.world.loop.thaw()

    def now(self) -> datetime:
        """Its host's clock."""
        return self.world.host_now()

    @contextmanager
    def signals(self, *_: Signals) -> Iterator[AsyncIterator[Signals]]:
        """In place of anyio.open_signal_receiver."""

        async def received() -> AsyncIterator[Signals]:
            while True:
                yield await self._signals.get()

        yield received()

    async def _live(self) -> None:
        try:
            with self._scope:
                await app.run(self.world.settings)
        except ShopPollerError as error:
            self.world.note(f"{self} ended: {error}")
        except Exception as error:  # noqa: BLE001 - told by the judge, who knows whether it was dead
            self.world.judge.ended_badly(self, error)
        finally:
            self.ended.set()
