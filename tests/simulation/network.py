"""What lies between the daemon and everybody else: it delays, loses, and delivers when nobody waits."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

import anyio
import httpx

from shop_poller.config.sinks import NO_OPTIONS, SinkOptions
from shop_poller.simulator.answers import Request
from shop_poller.simulator.routes import asks_for_orders
from support.no_sockets import given, requested

if TYPE_CHECKING:
    from simulation.judge import Sent
    from simulation.processes import Process
    from simulation.world import World

LATENCY_S = 0.05
LOST_S = 1e6

Mood: TypeAlias = Literal[
    "well",
    "down",
    "silent",
    "slow",
    "late",
    "broken",
    "busy",
    "behind",
    "failing",
    "limited",
    "gone",
    "moved",
    "starting",
]
MOODS: tuple[Mood, ...] = (
    "down",  # nobody listens
    "silent",  # nothing arrives, and no error says so
    "slow",  # it takes seconds
    "late",  # it takes what it gets, and says so when nobody waits any more
    "broken",  # it takes what it gets, and the connection breaks off before it says so
    "busy",  # 503
    "behind",  # 521: Cloudflare finds no server behind it
    "failing",  # 500
    "limited",  # 429, with Retry-After
    "gone",  # 410
    "moved",  # a redirect
    "starting",  # 404, as a proxy says of what it does not know yet
)


LIBRARY_ERRORS: tuple[Callable[[], Exception], ...] = (
    lambda: RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed"),
    lambda: AttributeError("'NoneType' object has no attribute 'writelines'"),
    lambda: asyncio.IncompleteReadError(b"", 2),
    lambda: ExceptionGroup("made up", [IndexError("pop from an empty deque")]),
    anyio.ClosedResourceError,
)
"""What client libraries were seen to raise when a connection is lost, besides what they mean to raise."""


def lost(world: "World", usual: Exception) -> Exception:
    """How a client library says that a connection is lost: mostly as it means to."""
    number = world.loop.steps % (3 * len(LIBRARY_ERRORS))
    return LIBRARY_ERRORS[number]() if number < len(LIBRARY_ERRORS) else usual


@dataclass
class Receiver:
    """Somebody who is sent notifications.

    Attributes:
        name: its sink's.
        bulk: it takes many at once; see bulk.py.
        mood: how it is now.
        takes_s: how long it takes, when slow.
        asks_s: how long it asks to be left alone, when limited or busy.
        refuses: orders that it answers otherwise, by id: a code.
        loading_since: when it said that it takes no writes, if it took nothing since.
        told: what is sent to it in bulk, by the process and the body.
        options: those of its address.
        is_for_people: people read what it gets.
    """

    name: str
    bulk: bool = False
    mood: Mood = "well"
    takes_s: float = 0.0
    asks_s: int = 0
    refuses: dict[str, int] = field(default_factory=dict)
    loading_since: float | None = None
    told: dict[tuple[int, bytes], "Sent"] = field(default_factory=dict)
    options: SinkOptions = NO_OPTIONS
    is_for_people: bool = False

    def delay_s(self) -> float:
        """How long it takes what it takes, before it says so."""
        return {"slow": self.takes_s, "late": self.takes_s + 15}.get(self.mood, 0.0)

    def answer(self, key: str) -> tuple[bool, int, float]:
        """Whether it takes a notification, the code of its answer, and how long that takes (s)."""
        if self.mood in {"well", "slow", "late", "broken"} and key in self.refuses:
            return False, self.refuses[key], 0.0
        match self.mood:
            case "slow" | "late":
                return True, 200, self.delay_s()
            case "busy":
                return False, 503, 0.0
            case "behind":
                return False, 521, 0.0
            case "failing":
                return False, 500, 0.0
            case "limited":
                return False, 429, 0.0
            case "gone":
                return False, 410, 0.0
            case "moved":
                return False, 302, 0.0
            case "starting":
                return False, 404, 0.0
            case _:
                return True, 204, 0.0


class ToReceiver(httpx.AsyncBaseTransport):
    """A client's connection to one receiver."""

    def __init__(self, world: "World", process: "Process", receiver: Receiver) -> None:
        self._world = world
        self._process = process
        self._receiver = receiver

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = await request.aread()
        names = json.loads(body).get("grouped", [request.headers["webhook-id"]])
        several = self._world.judge.sends(self._process, self._receiver, [(name, body) for name in names])
        try:
            response: httpx.Response = await self._world.carry(
                self._process, lambda: self._arrive(several), down=self._receiver.mood == "down"
            )
        except BaseException:
            self._world.judge.note_answers(several, [None] * len(several))
            raise
        codes = [response.status_code] * len(several)
        self._world.judge.note_answers(several, codes, response.headers.get("Retry-After"))
        return response

    async def _arrive(self, several: Sequence["Sent"]) -> httpx.Response:
        receiver = self._receiver
        if receiver.mood == "silent":
            await anyio.sleep(LOST_S)
        # It chokes on all of a message that has one event in it that it does not want.
        chokes = [sent.key for sent in several if sent.key in receiver.refuses]
        takes, code, seconds = receiver.answer((chokes or [several[0].key])[0])
        for sent in several:
            self._world.judge.arrives(sent, takes=takes, code=code, is_alone=len(several) == 1)
        await anyio.sleep(seconds)
        if receiver.mood == "broken" and takes:
            raise lost(self._world, httpx.ReadError("made up: the connection broke off"))
        headers = {}
        if code in {429, 503} and receiver.asks_s:
            headers["Retry-After"] = str(receiver.asks_s)
        if code == 302:
            headers["Location"] = "https://elsewhere.example/"
        return httpx.Response(code, headers=headers, stream=httpx.ByteStream(b""))


class ToShop(httpx.AsyncBaseTransport):
    """A client's connection to the shop."""

    def __init__(self, world: "World", process: "Process") -> None:
        self._world = world
        self._process = process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        question = await requested(request)
        self._world.judge.approaches(self._process)
        if asks_for_orders(question):
            self._world.judge.asks(self._process)
        try:
            response: httpx.Response = await self._world.to_shop(
                self._process, lambda: self._arrive(question)
            )
        finally:
            self._world.judge.leaves(self._process)
        self._world.judge.answered(self._process, response)
        return response

    async def _arrive(self, question: Request) -> httpx.Response:
        self._process.loaded.clear()
        self._world.judge.reached(is_poll=asks_for_orders(question))
        return await given(self._world.answer(self._process, question))
