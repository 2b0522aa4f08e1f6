"""From the outbox to one sink: claim → stream → deliver → ack, retry or bury.

    outbox ── pump ──→ bounded stream ──→ senders ──→ sink
       ↑                                     │
       └─────────── recorder ←─ outcomes ────┘

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

from shop_poller.alerts import AlertManager
from shop_poller.circuit_breaker import Circuit
from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.outcome_recorder import STORE_WAIT_S, OutcomeRecorder, at_hand
from shop_poller.delivery.sender import Sender
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import MoveToDeadLetters, Outbox, Outcome, Sink

CLAIM_BATCH = 500
LOOK_EVERY_S = 60.0
"""How often what waits too long for a sink that is down is looked for."""
LOOK_WHILE_UP_S = 10.0
"""The outbox is looked at this often even when nothing seems due: dead letters are replayed beside us, and
clocks can be set."""
CLAMP_AGAIN_S = 60.0
"""After the clock was set back, and due times with it, that is done once more."""
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
        outbox: has the deliveries.
        may_send: whether the right to write is surely ours at this moment.
        alert_manager: reports a sink that is gone for good or away for long, its return, and dead letters.
        gone: the sink said 410 in an earlier leader session of this process.
        metrics: of the shop.
        now: our clock, aware UTC.
        random: a throw of dice, 0 to 1.
        clock: watches our clock; None for a watch of its own.

    Attributes:
        senders_alive: how many are there to deliver.
    """

    def __init__(
        self,
        sink: Sink,
        plan: DeliveryPlan,
        *,
        outbox: Outbox,
        may_send: Callable[[], bool],
        alert_manager: AlertManager,
        metrics: Metrics,
        now: Callable[[], datetime],
        random: Callable[[], float],
        gone: bool = False,
        clock: ClockWatch | None = None,
    ) -> None:
        self._clock = clock or ClockWatch(now, metrics=metrics)
        self._set_back = 0  # so often the clock was set back, when due times were looked at for that
        self._clamp_at = math.inf
        self.senders_alive = 0
        self._name = sink.name
        self._plan = plan
        self._outbox = outbox
        self._alert_manager = alert_manager
        self._may_send = may_send
        self._metrics = metrics
        self._now = now = self._clock.now
        self._circuit = Circuit(sink.name, metrics, on_change=self._turned)
        self._sender = Sender(
            sink,
            self._circuit,
            policy=plan.retry,
            may_send=may_send,
            metrics=metrics,
            now=now,
            random=random,
            clock=self._clock,
        )
        self._sender.gone = gone
        self._outcome_recorder = OutcomeRecorder(
            sink.name,
            outbox=outbox,
            alert_manager=alert_manager,
            metrics=metrics,
            now=self._clock.stamp,
            on_recorded=self._finished,
        )
        self._woken = anyio.Event()
        self._must_release = False
        self._recorded = True  # again, after it could not be; or perhaps before we came
        self._to_tell = True  # of dead letters; those that we died over, too
        self._expire_at = -math.inf
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger().bind(sink=sink.name)

    @property
    def delivered(self) -> int:
        """Deliveries made since the start."""
        return self._sender.delivered

    @property
    def dead_lettered(self) -> int:
        """Deliveries given up since the start."""
        return self._sender.dead_lettered

    @property
    def held(self) -> int:
        """Deliveries in the queue, on their way, or about to be recorded."""
        return self._outcome_recorder.held

    @property
    def breaker(self) -> BreakerState:
        """Whether the sink is talked to."""
        return self._circuit.state

    @property
    def failing_since(self) -> datetime | None:
        """When the first delivery failed after the last that did not; None while all is well."""
        return self._sender.failing_since

    @property
    def last_error_kind(self) -> ErrorKind:
        """How the last one failed."""
        return self._sender.last_error_kind

    @property
    def gone(self) -> bool:
        """The sink said 410: it gets nothing more."""
        return self._sender.gone

    def look_soon(self) -> None:
        """Something may be due."""
        self._woken.set()

    def stop(self) -> None:
        """Claim nothing more; senders finish the attempt they are at, the rest stays in the outbox."""
        self._sender.stopping = True
        self._outcome_recorder.in_haste = True
        self._sender.interrupt()
        self.look_soon()

    async def run(self, *, until_idle: bool = False) -> None:
        """Deliver until stopped.

        Args:
            until_idle: end as soon as nothing that is due is left to try.
        """
        queue, queued = anyio.create_memory_object_stream[Delivery](self._plan.queue_size)
        # Of what goes together fewer have room there: while nothing can be recorded, they stay in memory.
        size = max(1, self._plan.queue_size // self._sender.at_once)
        outcomes, made = anyio.create_memory_object_stream[Sequence[Outcome]](size)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._outcome_recorder.run, made)
            async with queued, outcomes:
                for _ in range(self._plan.senders):
                    tasks.start_soon(self._send, queued.clone(), outcomes.clone())
            async with queue:
                await self._pump(queue, until_idle=until_idle)

    async def _pump(self, queue: MemoryObjectSendStream[Delivery], *, until_idle: bool) -> None:
        """From the outbox into the stream, until stopped."""
        while not self._sender.stopping:
            self._woken = anyio.Event()
            deliveries: list[Delivery] = []
            idle = (
                not self._outcome_recorder.held
            )  # before the claim: what is settled during it may free the next of a key
            try:
                if self._sender.worked is None:
                    self._sender.worked = await self._alert_manager.has_worked(self._name)
                await self._heed_clock()
                await self._attend()
                await self._tell()
                # While there is enough to do, what is settled does not lead to a claim of as few again.
                is_busy = queue.statistics().current_buffer_used > self._plan.queue_size // 2
                deliveries = [] if is_busy else await self._claim(queue)
                wait_s = LOOK_WHILE_UP_S if is_busy or deliveries else await self._wait_s()
                self._changes.changed("outbox", "")
            except TemporaryError as error:
                wait_s = STORE_WAIT_S
                self._metrics.store_error(StoreUse.OUTBOX)
                if self._changes.changed("outbox", error.kind):
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
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN or self._circuit.wait_s() > 0:
            return []
        if not self._may_send():
            return []
        if self._circuit.state is BreakerState.OPEN:
            # Parked or not, the oldest may probe: it waits for nothing but the sink.
            deliveries = await self._outbox.claim(self._name, now=FAR, limit=1)
            if deliveries:
                self._sender.probe = deliveries[0].seq
                self._circuit.probe()
        else:
            room = self._plan.queue_size - queue.statistics().current_buffer_used
            limit = max(1, min(room, CLAIM_BATCH))
            deliveries = await self._outbox.claim(self._name, now=self._now(), limit=limit)
        self._outcome_recorder.held += len(deliveries)
        return deliveries

    async def _heed_clock(self) -> None:
        """What was parked before the clock was set back is due by a time that may be years away: now it is.

        A clock that is set ahead makes all due by itself.
        """
        set_back, now_s = self._clock.look().set_back, anyio.current_time()
        is_news = set_back != self._set_back
        if not is_news and now_s < self._clamp_at:
            return
        moved = 0
        while some := await self._outbox.clamp_due(self._name, latest=self._now()):
            moved += some
        # Once more: what was judged before, and is recorded only now, is parked by the old clock.
        self._set_back, self._clamp_at = set_back, now_s + CLAMP_AGAIN_S if is_news else math.inf
        if moved:
            self._log.warning("the clock was set back: what was to wait longer is due now", deliveries=moved)

    async def _attend(self) -> None:
        """What is to be done in the store when the sink is back, or stays away."""
        if self.gone:
            await self._alert_manager.raise_for(self._name, cause=ErrorKind.GONE, since=self._now())
        down = self.gone or self._circuit.state is not BreakerState.CLOSED
        if not down and self._must_release:
            with suppress(TemporaryError):  # it can wait: what is due by itself need not
                if await self._outbox.release_parked(self._name):
                    self.look_soon()  # for the rest, after what is due now was claimed
                else:
                    self._must_release = False
        if self.delivered and not down and self._sender.failing_since is None:
            await self._alert_manager.clear(
                self._name
            )  # after a restart too, of a sink that was away before it
        if down and anyio.current_time() >= self._expire_at:
            head_before = self._clock.look().ages_before(self._plan.retry.max_age)
            dead_lettered = 0
            if head_before is not None:  # a clock that jumped ages nothing
                dead_lettered = await self._outbox.dead_letter_expired(
                    self._name, head_before=head_before, now=self._clock.stamp()
                )
            if dead_lettered:
                self._log.error(
                    "deliveries buried: their sink was away for too long", deliveries=dead_lettered
                )
                self._metrics.dead_lettered(self._name, dead_lettered)
                self._sender.dead_lettered += dead_lettered
                self._to_tell = True
            self._expire_at = anyio.current_time() + LOOK_EVERY_S

    async def _tell(self) -> None:
        """What administrators have to know; if it cannot be stored, deliveries go on all the same."""
        to_tell, recorded = self._to_tell, self._recorded
        self._to_tell = self._recorded = False  # before: what happens meanwhile is for the next time
        try:
            failing_since = self._sender.failing_since
            if failing_since is not None and self._sender.failing_for >= DEAD_AFTER:
                await self._alert_manager.raise_for(
                    self._name, cause=self._sender.last_error_kind, since=failing_since
                )
            if recorded:
                await self._alert_manager.can_record()
                recorded = False
            if to_tell:
                to_tell = not await self._alert_manager.tell_dead_letters(self._name)
            if self.delivered:
                await self._alert_manager.remember_that_it_worked(self._name)
            self._changes.changed("alert", "")
        except TemporaryError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._changes.changed("alert", error.kind):
                self._log.error("an alert could not be stored; trying on", error=str(error))
        self._to_tell = self._to_tell or to_tell
        self._recorded = self._recorded or recorded

    async def _wait_s(self) -> float:
        """Seconds until there may be something to do, unless woken."""
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN:
            return LOOK_EVERY_S
        if not self._may_send():  # the lease is about to be renewed, or lost
            return STORE_WAIT_S
        if self._circuit.state is BreakerState.OPEN:
            return min(self._circuit.wait_s() or LOOK_EVERY_S, LOOK_EVERY_S)
        look_every_s = self._plan.look_every_s or LOOK_WHILE_UP_S
        due_at = await self._outbox.next_due(self._name)
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
                    more = at_hand(queued, self._sender.at_once - 1)
                    if not more:
                        await outcomes.send([await self._sender.deliver(delivery)])
                        continue
                    async with aclosing(self._sender.deliver_all([delivery, *more])) as made:
                        async for some in made:
                            await outcomes.send(some)
        finally:
            self.senders_alive -= 1

    def _finished(self, outcomes: Sequence[Outcome], again: bool) -> None:  # noqa: FBT001 - the outcome recorder's call
        """Some keys may have another delivery that is due now."""
        self._recorded = self._recorded or again
        self._to_tell = self._to_tell or any(isinstance(outcome, MoveToDeadLetters) for outcome in outcomes)
        self.look_soon()

    def _turned(self) -> None:
        """The circuit opened or closed."""
        self._must_release = self._must_release or self._circuit.state is BreakerState.CLOSED
        self._sender.interrupt()
        self.look_soon()
