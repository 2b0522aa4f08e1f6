"""Receivers that take many at once: Redis servers, which the daemon's own redis-py talks to."""

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING

import anyio

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.model import Delivery
from shop_poller.ports import BulkSink
from simulation.network import LATENCY_S, LOST_S, Receiver, lost

if TYPE_CHECKING:
    from simulation.judge import Sent
    from simulation.processes import Process
    from simulation.world import World

GREETINGS = {b"CLIENT": b"+OK\r\n", b"PING": b"+PONG\r\n", b"INFO": b"$11\r\nrole:master\r\n"}
YES = {b"PUBLISH": b":1\r\n", b"XADD": b"$3\r\n1-1\r\n"}
NOBODY = {b"PUBLISH": b":0\r\n", b"XADD": b"-WRONGTYPE made up: it is a list\r\n"}
FULL = b"-OOM made up: command not allowed\r\n"


class Messenger:
    """A sink that the judge looks at. For the methods see ports.BulkSink."""

    def __init__(self, world: "World", process: "Process", sink: BulkSink) -> None:
        self.name = sink.name
        self._judge = world.judge
        self._process = process
        self._receiver = world.receivers[sink.name]
        self._sink = sink

    async def send(self, delivery: Delivery) -> None:
        (error,) = await self.send_all([delivery])
        if error is not None:
            raise error

    async def send_all(self, deliveries: Sequence[Delivery]) -> Sequence[ShopPollerError | None]:
        told = [(one.event_id, one.body.encode()) for one in deliveries]
        sent = self._judge.sends(self._process, self._receiver, told)
        for one in sent:
            self._receiver.told[self._process.number, one.body] = one
        codes: list[int | None] = [None] * len(sent)
        try:
            errors = await self._sink.send_all(deliveries)
            codes = [503 if error else 200 for error in errors]
        finally:
            self._judge.note_answers(sent, codes)
        return errors

    async def check(self) -> str:
        return await self._sink.check()

    async def aclose(self) -> None:
        await self._sink.aclose()


class ToRedis:
    """A client's connection to one receiver, which is its asyncio.StreamWriter, too."""

    def __init__(self, world: "World", process: "Process", receiver: Receiver) -> None:
        self.reader = asyncio.StreamReader()
        self.transport = SimpleNamespace(get_extra_info=lambda _: None)  # it has no socket
        self._world = world
        self._process = process
        self._receiver = receiver

    @classmethod
    async def open(
        cls, world: "World", process: "Process", receiver: Receiver
    ) -> tuple[asyncio.StreamReader, "ToRedis"]:
        """In place of asyncio.open_connection."""
        await anyio.sleep(LOST_S if receiver.mood == "silent" else world.rng.expovariate(1 / LATENCY_S))
        if process.dead or receiver.mood == "down":
            raise lost(world, ConnectionRefusedError(111, "made up: connection refused"))
        connection = cls(world, process, receiver)
        return connection.reader, connection

    def writelines(self, data: Iterable[bytes]) -> None:
        """Its answers come later; a client that writes more before these are there is not thought of."""
        if not self._process.dead:
            told = self._receiver.told
            requested = [
                (one[0], told.get((self._process.number, one[-1]))) for one in _commands(b"".join(data))
            ]
            self._world.spawn(self._arrive(requested))

    async def drain(self) -> None:
        pass

    def close(self) -> None:
        pass

    async def wait_closed(self) -> None:
        pass

    async def _arrive(self, requested: list[tuple[bytes, "Sent | None"]]) -> None:
        receiver, rng, count = self._receiver, self._world.rng, len(requested)
        await anyio.sleep(rng.expovariate(1 / LATENCY_S))
        if receiver.mood == "silent":
            return
        if receiver.mood == "down":
            self.reader.feed_eof()
            return
        breaks = receiver.mood == "broken" and (count > 1 or rng.random() < 0.3)
        carried_out = rng.randint(0, count) if breaks else count
        answers = [self._answer(*one) for one in requested[:carried_out]]
        await anyio.sleep(receiver.delay_s() + rng.expovariate(1 / LATENCY_S))
        self.reader.feed_data(b"".join(answers[: rng.randint(0, carried_out)] if breaks else answers))
        if breaks:
            self.reader.feed_eof()

    def _answer(self, command: bytes, sent: "Sent | None") -> bytes:
        if sent is None:
            return GREETINGS[command]
        answer = self._refusal(command, sent.key)
        if not answer:
            self._world.judge.arrives(sent, takes=True, code=200)
            self._receiver.loading_since = None
        return answer or YES[command]

    def _refusal(self, command: bytes, key: str) -> bytes:
        """Why it does not take a notification; b"" if it does."""
        match self._receiver.mood:
            case "busy":
                if self._receiver.loading_since is None:
                    self._receiver.loading_since = self._world.loop.time()
                return b"-LOADING made up: it has just been started\r\n"
            case "failing":
                return FULL
            case "limited":
                return self._world.rng.choice([FULL, b""])
            case "gone":
                return NOBODY[command]
            case "moved":
                return b"-MOVED 1 192.0.2.1:6379\r\n"
        return FULL if key in self._receiver.refuses else b""


def _commands(data: bytes) -> Iterator[list[bytes]]:
    """What redis-py packed; there is no line feed in what it is told."""
    lines = iter(data.split(b"\r\n"))
    for head in lines:
        if head:
            yield [(next(lines), next(lines))[1] for _ in range(int(head[1:]))]
