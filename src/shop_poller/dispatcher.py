"""From the outbox to one sink: claim → stream → deliver → ack, retry or bury.

    outbox ── pump ──→ bounded stream ──→ senders ──→ sink
       ↑                                     │
       └─────────── settler ←── outcomes ────┘

Every sink has a dispatcher of its own, so that a dead sink holds up nobody. The pump claims no more than the
stream has room for, and only the oldest row of each key, so that an order's events arrive in order. While the
sink is down the stream runs empty, and one delivery at a time probes, once a minute at most.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import anyio
import structlog
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from shop_poller.alarm import Alarm
from shop_poller.circuit import Circuit
from shop_poller.core.breaker import State
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.retry import RetryPolicy
from shop_poller.courier import Courier
from shop_poller.logs import Edges, Log
from shop_poller.metrics import Metrics, StoreUse
from shop_poller.ports import Bury, Outcome, Sink, Store
from shop_poller.settler import STORE_WAIT_S, Settler, at_hand

CLAIM_BATCH = 500
LOOK_EVERY_S = 60.0
"""How often what waits too long for a sink that is down is looked for."""
LOOK_WHILE_UP_S = 10.0
"""The outbox is looked at this often even when nothing seems due: dead letters are replayed beside us, and
clocks can be set."""
DEAD_AFTER = timedelta(minutes=10)
"""A sink that fails for so long without taking anything is told of."""
FAR = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How deliveries are made.

    Attributes:
        senders: concurrent ones of each sink.
        queue_size: bound of each sink's stream.
        look_every_s: how often the outbox is looked at when nothing seems due; None for the usual.
    """

    retry: RetryPolicy
    senders: int = 8
    queue_size: int = 1000
    look_every_s: float | None = None


class Dispatcher:
    """Delivers what the outbox holds for one sink.

    Args:
        sink: delivers once.
        plan: how.
        store: has the outbox.
        may_send: whether the right to write is surely ours at this moment.
        alarm: tells when the sink is gone for good or away for long, when it is back, and of dead letters.
        gone: the sink said 410 in an earlier tenure of this process.
        metrics: of the shop.
        now: our clock, aware UTC.
        chance: a throw of dice, 0 to 1.

    Attributes:
        senders_alive: how many are there to deliver.
    """

    def __init__(
        self,
        sink: Sink,
        plan: DeliveryPlan,
        *,
        store: Store,
        may_send: Callable[[], bool],
        alarm: Alarm,
        metrics: Metrics,
        now: Callable[[], datetime],
        chance: Callable[[], float],
        gone: bool = False,
    ) -> None:
        self.senders_alive = 0
        self._name = sink.name
        self._plan = plan
        self._store = store
        self._alarm = alarm
        self._may_send = may_send
        self._metrics = metrics
        self._now = now
        self._circuit = Circuit(sink.name, metrics, on_change=self._turned)
        self._courier = Courier(
            sink,
            self._circuit,
            policy=plan.retry,
            may_send=may_send,
            metrics=metrics,
            now=now,
            chance=chance,
        )
        self._courier.gone = gone
        self._settler = Settler(
            sink.name, store=store, alarm=alarm, metrics=metrics, now=now, on_settled=self._settled
        )
        self._woken = anyio.Event()
        self._to_wake = False
        self._recorded = True  # again, after it could not be; or perhaps before we came
        self._to_tell = True  # of dead letters; those that we died over, too
        self._expire_at = -math.inf
        self._edges = Edges()
        self._log: Log = structlog.get_logger().bind(sink=sink.name)

    @property
    def delivered(self) -> int:
        """Deliveries made since the start."""
        return self._courier.delivered

    @property
    def buried(self) -> int:
        """Deliveries given up since the start."""
        return self._courier.buried

    @property
    def held(self) -> int:
        """Deliveries in the queue, on their way, or about to be recorded."""
        return self._settler.held

    @property
    def breaker(self) -> State:
        """Whether the sink is talked to."""
        return self._circuit.state

    @property
    def failing_since(self) -> datetime | None:
        """When the first delivery failed after the last that did not; None while all is well."""
        return self._courier.failing_since

    @property
    def ailment(self) -> ErrorKind:
        """How the last one failed."""
        return self._courier.ailment

    @property
    def gone(self) -> bool:
        """The sink said 410: it gets nothing more."""
        return self._courier.gone

    def wake(self) -> None:
        """Something may be due."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; senders finish the attempt they are at, the rest stays in the outbox."""
        self._courier.stopping = True
        self._settler.in_haste = True
        self._courier.interrupt()
        self.wake()

    async def run(self, *, until_idle: bool = False) -> None:
        """Deliver until stopped.

        Args:
            until_idle: end as soon as nothing that is due is left to try.
        """
        queue, queued = anyio.create_memory_object_stream[Delivery](self._plan.queue_size)
        # Of what goes together fewer have room there: while nothing can be recorded, they stay in memory.
        size = max(1, self._plan.queue_size // self._courier.at_once)
        outcomes, made = anyio.create_memory_object_stream[Sequence[Outcome]](size)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._settler.run, made)
            async with queued, outcomes:
                for _ in range(self._plan.senders):
                    tasks.start_soon(self._send, queued.clone(), outcomes.clone())
            async with queue:
                await self._pump(queue, until_idle=until_idle)

    async def _pump(self, queue: MemoryObjectSendStream[Delivery], *, until_idle: bool) -> None:
        """From the outbox into the stream, until stopped."""
        while not self._courier.stopping:
            self._woken = anyio.Event()
            deliveries: list[Delivery] = []
            idle = (
                not self._settler.held
            )  # before the claim: what is settled during it may free the next of a key
            try:
                await self._attend()
                await self._tell()
                # While there is enough to do, what is settled does not lead to a claim of as few again.
                is_busy = queue.statistics().current_buffer_used > self._plan.queue_size // 2
                deliveries = [] if is_busy else await self._claim(queue)
                wait_s = LOOK_WHILE_UP_S if is_busy or deliveries else await self._wait_s()
                self._edges.changed("outbox", "")
            except TemporaryError as error:
                wait_s = STORE_WAIT_S
                self._metrics.store_error(StoreUse.OUTBOX)
                if self._edges.changed("outbox", error.kind):
                    self._log.error("the outbox cannot be read; trying on", error=str(error))
            await checkpoint_if_cancelled()  # then the senders may be gone, and the claims are void anyway
            for delivery in deliveries:
                queue.send_nowait(delivery)  # there is room: nobody else puts anything in
            depth = queue.statistics().current_buffer_used
            self._metrics.queue(
                self._name, depth=depth, size=self._plan.queue_size, senders=self.senders_alive
            )
            if not deliveries:
                if until_idle and idle:
                    return
                with anyio.move_on_after(wait_s):
                    await self._woken.wait()

    async def _claim(self, queue: MemoryObjectSendStream[Delivery]) -> list[Delivery]:
        if self.gone or self._circuit.state is State.HALF_OPEN or self._circuit.wait_s() > 0:
            return []
        if not self._may_send():
            return []
        if self._circuit.state is State.OPEN:
            # Parked or not, the oldest may probe: it waits for nothing but the sink.
            deliveries = await self._store.claim(self._name, now=FAR, limit=1)
            if deliveries:
                self._courier.probe = deliveries[0].seq
                self._circuit.probe()
        else:
            room = self._plan.queue_size - queue.statistics().current_buffer_used
            limit = max(1, min(room, CLAIM_BATCH))
            deliveries = await self._store.claim(self._name, now=self._now(), limit=limit)
        self._settler.held += len(deliveries)
        return deliveries

    async def _attend(self) -> None:
        """What is to be done in the store when the sink is back, or stays away."""
        if self.gone:
            await self._alarm.raise_for(self._name, cause=ErrorKind.GONE, since=self._now())
        down = self.gone or self._circuit.state is not State.CLOSED
        if not down and self._to_wake:
            with suppress(TemporaryError):  # it can wait: what is due by itself need not
                await self._store.wake(self._name)
                self._to_wake = False
        if self.delivered and not down and self._courier.failing_since is None:
            await self._alarm.clear(self._name)  # after a restart too, of a sink that was away before it
        if down and anyio.current_time() >= self._expire_at:
            head_before = self._now() - self._plan.retry.max_age
            buried = await self._store.bury_expired(self._name, head_before=head_before, now=self._now())
            if buried:
                self._log.error("deliveries buried: their sink was away for too long", deliveries=buried)
                self._metrics.buried(self._name, buried)
                self._courier.buried += buried
                self._to_tell = True
            self._expire_at = anyio.current_time() + LOOK_EVERY_S

    async def _tell(self) -> None:
        """What administrators have to know; if it cannot be stored, deliveries go on all the same."""
        to_tell, recorded = self._to_tell, self._recorded
        self._to_tell = self._recorded = False  # before: what happens meanwhile is for the next time
        try:
            failing_since = self._courier.failing_since
            if failing_since is not None and self._now() - failing_since >= DEAD_AFTER:
                await self._alarm.raise_for(self._name, cause=self._courier.ailment, since=failing_since)
            if recorded:
                await self._alarm.can_record()
                recorded = False
            if to_tell:
                to_tell = not await self._alarm.tell_dead_letters(self._name)
            self._edges.changed("alert", "")
        except TemporaryError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._edges.changed("alert", error.kind):
                self._log.error("an alert could not be stored; trying on", error=str(error))
        self._to_tell = self._to_tell or to_tell
        self._recorded = self._recorded or recorded

    async def _wait_s(self) -> float:
        """Seconds until there may be something to do, unless woken."""
        if self.gone or self._circuit.state is State.HALF_OPEN:
            return LOOK_EVERY_S
        if not self._may_send():  # the lease is about to be renewed, or lost
            return STORE_WAIT_S
        if self._circuit.state is State.OPEN:
            return min(self._circuit.wait_s() or LOOK_EVERY_S, LOOK_EVERY_S)
        look_every_s = self._plan.look_every_s or LOOK_WHILE_UP_S
        due_at = await self._store.next_due(self._name)
        if due_at is None:
            return look_every_s
        return min(max((due_at - self._now()).total_seconds(), 0.0), look_every_s)

    async def _send(
        self,
        queued: MemoryObjectReceiveStream[Delivery],
        outcomes: MemoryObjectSendStream[Sequence[Outcome]],
    ) -> None:
        """One sender: from the stream to the sink."""
        self.senders_alive += 1
        try:
            async with queued, outcomes:
                async for delivery in queued:
                    more = at_hand(queued, self._courier.at_once - 1)
                    if not more:
                        await outcomes.send([await self._courier.deliver(delivery)])
                        continue
                    async with aclosing(self._courier.deliver_all([delivery, *more])) as made:
                        async for some in made:
                            await outcomes.send(some)
        finally:
            self.senders_alive -= 1

    def _settled(self, outcomes: Sequence[Outcome], again: bool) -> None:  # noqa: FBT001 - the settler's call
        """Some keys may have another delivery that is due now."""
        self._recorded = self._recorded or again
        self._to_tell = self._to_tell or any(isinstance(outcome, Bury) for outcome in outcomes)
        self.wake()

    def _turned(self) -> None:
        """The circuit opened or closed."""
        self._to_wake = self._to_wake or self._circuit.state is State.CLOSED
        self._courier.interrupt()
        self.wake()
