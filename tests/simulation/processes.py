"""Daemons: the real app.run, that can be killed, frozen and stopped between any two of its steps."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from datetime import datetime
from signal import SIGTERM, Signals
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.lowlevel

from shop_poller.core.errors import ShopPollerError
from simulation.loop import RUNNING

if TYPE_CHECKING:
    from simulation.world import World

T = TypeVar("T")


def running() -> "Process":
    """Whose code this is."""
    process = RUNNING.get()
    assert isinstance(process, Process)
    return process


class Process:
    """One daemon, from its start to its end.

    Args:
        world: it lives in.
        number: names it.

    Attributes:
        dead: it was killed: nothing that it does has an effect any more.
        frozen: it does not run.
        began_at: when it was started.
        led_since: when it won that right last.
        trigger_at: when it got a genuine webhook last.
        no_trigger_at: when it got one last that is not the shop's, or about something else.
        walked_at: when it asked last what changed.
        asks_until: until when it awaited an answer of the shop; infinity while it does.
        grid: the leader session of its first walk, and the time of that walk.
        is_told_to_stop: it got SIGTERM.
        freezes: how often it was frozen.
        thawed_at: when it ran again the last time.
        site: what it serves by HTTP, an ASGI application.
        egress: which shops it does not reach, by their ids, and how that shows; "*" are all.
        leader_session: how often it won the right to write.
        ambush: a moment, and what befalls it then.
        listed_refunds: the ids in the shop's last list of refunds, until a sweep goes on to something else.
        loaded: the orders of the shop's last answer to it, as the shop loaded them.
        ended: it runs no more.
    """

    def __init__(self, world: "World", number: int) -> None:
        self.world = world
        self.number = number
        self.dead = False
        self.frozen = False
        self.freezes = 0
        self.began_at = world.loop.time()
        self.led_since = -1e9
        self.is_told_to_stop = False
        self.thawed_at = -1e9
        self.site: Any = None
        self.egress: dict[str, str] = {}
        self.leader_session = 0
        self.listed_refunds: frozenset[int] = frozenset()
        self.loaded: dict[int, list[Any]] = {}
        self.ambush: tuple[str, Callable[[], None]] | None = None
        self.ended = anyio.Event()
        self.nonce = ""
        self.only_looks = False
        self.trigger_at = self.no_trigger_at = self.walked_at = self.asks_until = -1e9
        self.grid: tuple[int, float] = (0, 0.0)
        self.store: Any = None
        self.sight: Any = None
        self.shop_not_before = (0, 0.0)
        self.shop_closed: tuple[int, float, int] | None = (
            None  # leader session, since when, disturbances until then
        )
        self._fuse: int | None = None  # steps until it is killed
        self._scope = anyio.CancelScope()
        self._signals: asyncio.Queue[Signals] = asyncio.Queue()
        self._context = copy_context()
        self._context.run(RUNNING.set, self)
        self._task = self.runs(self._live())

    def runs(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Something more that this process does."""
        return asyncio.get_running_loop().create_task(work, context=self._context.copy())

    def __str__(self) -> str:
        return f"process {self.number}"

    @property
    def alive(self) -> bool:
        return not self.dead and not self.ended.is_set()

    def misses(self, shop_id: str) -> bool:
        """Whether it does not reach a shop that others may reach."""
        return shop_id in self.egress or "*" in self.egress

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
            (_, action), self.ambush = self.ambush, None
            self.world.note(f"{self} {moment}:")
            action()
            await anyio.lowlevel.checkpoint()

    def terminate(self) -> None:
        """As SIGTERM."""
        self.world.note(f"{self} gets SIGTERM")
        self.is_told_to_stop = True
        self._signals.put_nowait(SIGTERM)

    def freeze(self) -> None:
        """As SIGSTOP."""
        self.world.note(f"{self} is frozen")
        self.world.judge.counts["frozen"] += 1
        self.frozen = True
        self.freezes += 1

    def thaw(self) -> None:
        """As SIGCONT."""
        if self.frozen:
            self.world.note(f"{self} goes on")
            self.frozen = False
            self.thawed_at = self.world.loop.time()
            self.world.loop.thaw()

    def now(self) -> datetime:
        """Its host's clock."""
        return self.world.host_now()

    @contextmanager
    def on_signal(self, stop: Callable[[Signals], object]) -> Iterator[None]:
        """In place of signals.on_signal: the first one stops it, the second one ends it at once."""

        async def wait_for_signals() -> None:
            stop(await self._signals.get())
            await self._signals.get()
            self.kill()

        waiting = self.runs(wait_for_signals())
        try:
            yield
        finally:
            waiting.cancel()

    async def _live(self) -> None:
        try:
            with self._scope:
                await self.world.daemon()
        except ShopPollerError as error:
            self.world.note(f"{self} ended: {error}")
        except Exception as error:  # noqa: BLE001 - told by the judge, who knows whether it was dead
            self.world.judge.ended_badly(self, error)
        finally:
            self.ended.set()
