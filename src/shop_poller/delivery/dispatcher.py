"""Delivers from the outbox to one sink: claim → stream → deliver → ack, retry or move to dead letters.

    outbox ── pump ──→ bounded stream ──→ senders ──→ sink
       ↑                                     │
       └─────────── recorder ←─ outcomes ────┘

Every sink has its own dispatcher, so that a sink that is down does not delay the others. The pump claims no
more than the stream has room for. It claims only the oldest row of each key, so that an order's events arrive
in order. While the sink is down, the stream is empty, and a single delivery probes, at most once a minute.

For a sink with quiet hours or groups, the claimed deliveries first pass `Gathering`.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import anyio
import structlog
from anyio.lowlevel import checkpoint_if_cancelled
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from shop_poller.alerts import AlertManager
from shop_poller.circuit_breaker import Circuit
from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery, GroupDelivery
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.gathering import Gathering, SinkTiming
from shop_poller.delivery.outcome_recorder import STORE_WAIT_S, OutcomeRecorder, at_hand
from shop_poller.delivery.sender import Sender
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import Ack, MoveToDeadLetters, Outbox, Outcome, Sink

CLAIM_BATCH = 500
LOOK_EVERY_S = 60.0
"""How often deliveries that wait too long for a sink that is down are moved to dead letters."""
CHECK_EVERY_S = 10.0
"""How often the outbox is checked even when nothing seems due.

Another process may replay dead letters, and clocks can be set.
"""
CLAMP_AGAIN_S = 60.0
"""How long after the clock was set back the due times are corrected a second time."""
ALERT_DOWN_AFTER = timedelta(minutes=10)
"""A sink that fails for so long without accepting a delivery is reported."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """The parameters of a dispatcher.

    Attributes:
        retry: when a delivery is retried, and when it is moved to dead letters.
        senders: concurrent senders of each sink.
        queue_size: bound of each sink's stream.
        check_every_s: how often the outbox is checked when nothing seems due; None for CHECK_EVERY_S.
    """

    retry: RetryPolicy
    senders: int = 8
    queue_size: int = 1000
    check_every_s: float | None = None


class Dispatcher:
    """Delivers the outbox's deliveries for one sink.

    Args:
        sink: sends one delivery, once.
        plan: the parameters.
        outbox: contains the deliveries.
        may_send: returns whether the lease is certainly ours at this moment.
        alert_manager: reports a sink that is gone or down for long, its recovery, and dead letters.
        gone: whether the sink answered 410 in an earlier leader session of this process.
        metrics: of the shop.
        now: our clock, aware UTC.
        random: returns a random number, 0 to 1.
        clock: watches our clock; None to create a new watch.
        timing: when the sink receives deliveries; None for at once.

    Attributes:
        senders_alive: the number of running senders.
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
        timing: SinkTiming | None = None,
    ) -> None:
        self._clock = clock or ClockWatch(now, metrics=metrics)
        self._timing = timing
        self._gathering = None if timing is None else Gathering(timing)
        self._was_quiet = False
        self._in_haste = False  # groups do not wait for more deliveries
        self._set_back = 0  # the number of set-backs of the clock at the last correction of due times
        self._clamp_at = math.inf
        self.senders_alive = 0
        self._name = sink.name
        self._plan = plan
        self._outbox = outbox
        self._alert_manager = alert_manager
        self._may_send = may_send
        self._metrics = metrics
        self._now = now = self._clock.now
        self._circuit = Circuit(sink.name, metrics, on_change=self._on_circuit_change)
        self._sender = Sender(
            sink,
            self._circuit,
            policy=plan.retry,
            may_send=may_send,
            metrics=metrics,
            now=now,
            random=random,
            clock=self._clock,
            timing=timing,
        )
        self._sender.gone = gone
        self._outcome_recorder = OutcomeRecorder(
            sink.name,
            outbox=outbox,
            alert_manager=alert_manager,
            metrics=metrics,
            now=self._clock.stamp,
            on_recorded=self._on_recorded,
        )
        self._check_requested = anyio.Event()
        self._must_release = False
        self._recording_recovered = True  # recording works again after it failed, perhaps before this session
        self._has_unreported_dead_letters = (
            True  # dead letters are to be reported, also those of before a crash
        )
        self._expire_at = -math.inf
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger().bind(sink=sink.name)

    @property
    def delivered(self) -> int:
        """Deliveries made since the start."""
        return self._sender.delivered

    @property
    def dead_lettered(self) -> int:
        """Deliveries moved to dead letters since the start."""
        return self._sender.dead_lettered

    @property
    def held(self) -> int:
        """Deliveries in the queue, waiting for a group, being sent, or about to be recorded."""
        return self._outcome_recorder.held

    @property
    def breaker(self) -> BreakerState:
        """The state of the sink's circuit breaker."""
        return self._circuit.state

    @property
    def failing_since(self) -> datetime | None:
        """The first failure after the last success; None if deliveries do not fail."""
        return self._sender.failing_since

    @property
    def last_error_kind(self) -> ErrorKind:
        """The kind of the last failure."""
        return self._sender.last_error_kind

    @property
    def quiet_until(self) -> datetime | None:
        """When the present quiet hours end; None if it is not quiet."""
        return None if self._timing is None else self._timing.quiet_until(self._now())

    @property
    def gone(self) -> bool:
        """Whether the sink answered 410: it receives nothing more."""
        return self._sender.gone

    def look_soon(self) -> None:
        """Check the outbox soon: something may be due."""
        self._check_requested.set()

    def stop(self) -> None:
        """Claim nothing more. Senders finish their current attempt; the rest stays in the outbox."""
        self._sender.stopping = True
        self._outcome_recorder.in_haste = True
        self._sender.interrupt()
        self.look_soon()

    async def run(self, *, until_idle: bool = False) -> None:
        """Deliver until stopped.

        Args:
            until_idle: end as soon as no due delivery is left to attempt.
        """
        self._in_haste = until_idle
        queue, queued = anyio.create_memory_object_stream[Delivery](self._plan.queue_size)
        # An item is up to `at_once` outcomes. Bound their number: they stay in memory while the store fails.
        size = max(1, self._plan.queue_size // self._sender.at_once)
        outcomes, outcomes_in = anyio.create_memory_object_stream[Sequence[Outcome]](size)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._outcome_recorder.run, outcomes_in)
            async with queued, outcomes:
                for _ in range(self._plan.senders):
                    tasks.start_soon(self._send, queued.clone(), outcomes.clone())
            async with queue:
                await self._pump(queue, until_idle=until_idle)

    async def _pump(self, queue: MemoryObjectSendStream[Delivery], *, until_idle: bool) -> None:
        """Move deliveries from the outbox into the stream, until stopped."""
        while not self._sender.stopping:
            self._check_requested = anyio.Event()
            deliveries: list[Delivery] = []
            # Read before the claim: an outcome recorded during it may free the next delivery of a key.
            idle = not self._outcome_recorder.held
            try:
                if self._sender.worked is None:
                    self._sender.worked = await self._alert_manager.has_worked(self._name)
                await self._correct_due_times()
                if self._timing is not None:
                    self._follow_quiet_hours(self._timing)
                await self._follow_sink_state()
                await self._store_alerts()
                # While the queue is more than half full, do not claim again for every few recorded outcomes.
                is_busy = queue.statistics().current_buffer_used > self._plan.queue_size // 2
                deliveries = [] if is_busy else await self._claim(queue)
                wait_s = CHECK_EVERY_S if is_busy or deliveries else await self._wait_s()
                self._changes.changed("outbox", "")
            except TemporaryError as error:
                wait_s = STORE_WAIT_S
                self._metrics.store_error(StoreUse.OUTBOX)
                if self._changes.changed("outbox", error.kind):
                    self._log.error("the outbox cannot be read; retrying", error=str(error))
            # After a cancel the senders may have ended, and the claims are void.
            await checkpoint_if_cancelled()
            for delivery in deliveries:
                queue.send_nowait(delivery)  # there is room: only the pump adds deliveries
            depth = queue.statistics().current_buffer_used
            self._metrics.queue(
                self._name, depth=depth, size=self._plan.queue_size, senders=self.senders_alive
            )
            if not deliveries:
                if until_idle and idle:
                    return
                with anyio.move_on_after(wait_s):
                    await self._check_requested.wait()

    async def _claim(self, queue: MemoryObjectSendStream[Delivery]) -> list[Delivery]:
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN or self._circuit.wait_s() > 0:
            return []
        if not self._may_send():
            return []
        if self._timing is not None and self._gathering is not None:
            return await self._gather(self._gathering, self._timing)
        if self._circuit.state is BreakerState.OPEN:
            # The oldest delivery may probe even if it is parked: it waits only for the sink.
            deliveries = await self._outbox.claim(self._name, now=END_OF_TIME, limit=1)
            if deliveries:
                self._sender.probe = deliveries[0].seq
                self._circuit.probe()
        else:
            room = self._plan.queue_size - queue.statistics().current_buffer_used
            limit = max(1, min(room, CLAIM_BATCH))
            deliveries = await self._outbox.claim(self._name, now=self._now(), limit=limit)
        self._outcome_recorder.held += len(deliveries)
        return deliveries

    async def _gather(self, gathering: Gathering, timing: SinkTiming) -> list[Delivery]:
        """Claim for a sink with quiet hours or groups.

        Args:
            gathering: of the sink.
            timing: of the sink.

        Returns:
            What to send now: deliveries, and groups of them.
        """
        await self._put_back(gathering)
        is_probe = self._circuit.state is BreakerState.OPEN
        now, at_s = self._now(), anyio.current_time()
        # As without groups, the probe may be parked. In quiet hours, it would have to wait for their end.
        due_by = END_OF_TIME if is_probe and not timing.is_quiet(now) else now
        room = min(self._plan.queue_size - self._outcome_recorder.held, CLAIM_BATCH)
        if is_probe:
            room = gathering.most_for_probe(now, room=room)
        deliveries: list[Delivery] = []
        if room > 0:
            deliveries = await self._outbox.claim(self._name, now=due_by, limit=room)
            self._outcome_recorder.held += len(deliveries)
        if is_probe:
            probe = gathering.probe(deliveries, now)
            if probe is not None:
                self._sender.probe = probe.seq
                self._circuit.probe()
            ready = [] if probe is None else [probe]
        else:
            gathering.add(deliveries, now, at_s)
            is_full = self._outcome_recorder.held >= self._plan.queue_size
            ready = gathering.ready(now, at_s, is_last=self._in_haste or is_full)
        with suppress(TemporaryError):  # it is repeated before the next claim
            await self._put_back(gathering)
        return ready

    async def _put_back(self, gathering: Gathering) -> None:
        """Record that claimed deliveries return to the outbox."""
        if outcomes := gathering.put_back:
            await self._outbox.record_outcomes(outcomes, self._clock.stamp())
            gathering.put_back = []
            self._outcome_recorder.held -= len(outcomes)

    def _follow_quiet_hours(self, timing: SinkTiming) -> None:
        """Count the time that the sink fails only from the beginning or the end of quiet hours."""
        is_quiet = timing.is_quiet(self._now())
        if is_quiet != self._was_quiet:
            self._was_quiet = is_quiet
            self._sender.restart_failing_time()
            self._log.info("quiet hours begin" if is_quiet else "quiet hours end")

    async def _correct_due_times(self) -> None:
        """Make deliveries due that were parked before the clock was set back.

        Their due times may be years away on the new clock. A clock that is set ahead needs no correction: it
        makes all deliveries due.
        """
        set_back, now_s = self._clock.look().set_back, anyio.current_time()
        is_news = set_back != self._set_back
        if not is_news and now_s < self._clamp_at:
            return
        moved = 0
        while some := await self._outbox.clamp_due(self._name, latest=self._now()):
            moved += some
        # Repeat it once: an outcome decided before the change and recorded after it uses the old clock.
        self._set_back, self._clamp_at = set_back, now_s + CLAMP_AGAIN_S if is_news else math.inf
        if moved:
            self._log.warning(
                "the clock was set back: deliveries parked by the old clock are due now", deliveries=moved
            )

    async def _follow_sink_state(self) -> None:
        """Update the store when the sink has recovered, or stays down."""
        if self.gone:
            await self._alert_manager.raise_for(self._name, cause=ErrorKind.GONE, since=self._now())
        down = self.gone or self._circuit.state is not BreakerState.CLOSED
        if not down and self._must_release:
            with suppress(TemporaryError):  # not urgent, unlike deliveries that are due
                if await self._outbox.release_parked(self._name):
                    self.look_soon()  # release the rest after the due deliveries are claimed
                else:
                    self._must_release = False
        if self.delivered and not down and self._sender.failing_since is None:
            await self._alert_manager.clear(self._name)  # also for a sink that was down before a restart
        if down and anyio.current_time() >= self._expire_at:
            max_age = self._plan.retry.max_age
            if self._timing is not None:
                max_age = self._timing.age_with(max_age, self._now())
            head_before = self._clock.look().ages_before(max_age)
            dead_lettered = 0
            if head_before is not None:  # a jump of the clock expires nothing
                dead_lettered = await self._outbox.dead_letter_expired(
                    self._name, head_before=head_before, now=self._clock.stamp()
                )
            if dead_lettered:
                self._log.error(
                    "deliveries moved to dead letters: their sink was down for too long",
                    deliveries=dead_lettered,
                )
                self._metrics.dead_lettered(self._name, dead_lettered)
                self._sender.dead_lettered += dead_lettered
                self._has_unreported_dead_letters = True
            self._expire_at = anyio.current_time() + LOOK_EVERY_S

    async def _store_alerts(self) -> None:
        """Store alerts for the administrators. If that fails, deliveries continue."""
        to_tell, recorded = self._has_unreported_dead_letters, self._recording_recovered
        # Reset before the calls: the next call reports what happens meanwhile.
        self._has_unreported_dead_letters = self._recording_recovered = False
        try:
            failing_since = self._sender.failing_since
            # In quiet hours, a sink fails only if something urgent failed in them.
            is_tried = not self._was_quiet or self._sender.has_failed_again
            if failing_since is not None and is_tried and self._sender.failing_for >= ALERT_DOWN_AFTER:
                await self._alert_manager.raise_for(
                    self._name, cause=self._sender.last_error_kind, since=failing_since
                )
            if recorded:
                await self._alert_manager.can_record()
                recorded = False
            if to_tell:
                to_tell = not await self._alert_manager.report_dead_letters(self._name)
            if self.delivered:
                await self._alert_manager.remember_that_it_worked(self._name)
            self._changes.changed("alert", "")
        except TemporaryError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._changes.changed("alert", error.kind):
                self._log.error("an alert could not be stored; retrying", error=str(error))
        self._has_unreported_dead_letters = self._has_unreported_dead_letters or to_tell
        self._recording_recovered = self._recording_recovered or recorded

    async def _wait_s(self) -> float:
        """Return the seconds until there may be work, unless `look_soon` is called."""
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN:
            return LOOK_EVERY_S
        if not self._may_send():  # the lease is about to be renewed, or lost
            return STORE_WAIT_S
        if self._circuit.state is BreakerState.OPEN:
            return min(self._circuit.wait_s() or LOOK_EVERY_S, LOOK_EVERY_S)
        check_every_s = self._plan.check_every_s or CHECK_EVERY_S
        has_room = True
        if self._gathering is not None:
            wait_s = self._gathering.wait_s(anyio.current_time())
            # What is still to be put back could not be recorded.
            check_every_s = min(check_every_s, STORE_WAIT_S if self._gathering.put_back else wait_s)
            has_room = self._outcome_recorder.held < self._plan.queue_size
        due_at = await self._outbox.next_due(self._name) if has_room else None
        if due_at is None:
            return check_every_s
        return min(max((due_at - self._now()).total_seconds(), 0.0), check_every_s)

    async def _send(
        self,
        queued: MemoryObjectReceiveStream[Delivery],
        outcomes: MemoryObjectSendStream[Sequence[Outcome]],
    ) -> None:
        """Run one sender: send deliveries from the stream to the sink."""
        self.senders_alive += 1
        try:
            async with queued, outcomes:
                async for delivery in queued:
                    if self._gathering is not None:
                        await self._send_gathered(delivery, outcomes, self._gathering)
                        continue
                    more = at_hand(queued, self._sender.at_once - 1)
                    if not more:
                        await outcomes.send([await self._sender.deliver(delivery)])
                        continue
                    async with aclosing(self._sender.deliver_all([delivery, *more])) as outcomes_in:
                        async for some in outcomes_in:
                            await outcomes.send(some)
        finally:
            self.senders_alive -= 1

    async def _send_gathered(
        self,
        delivery: Delivery,
        outcomes: MemoryObjectSendStream[Sequence[Outcome]],
        gathering: Gathering,
    ) -> None:
        """Send a delivery or a group. A group that was refused for good is sent one by one."""
        if not isinstance(delivery, GroupDelivery):
            await outcomes.send([await self._sender.deliver(delivery)])
            return
        outcome = await self._sender.deliver(delivery)
        if isinstance(outcome, MoveToDeadLetters):
            for row in delivery.rows:
                await outcomes.send([await self._sender.deliver(row)])
            return
        if not isinstance(outcome, Ack):
            gathering.failed(delivery)
        await outcomes.send([replace(outcome, delivery=row) for row in delivery.rows])

    def _on_recorded(self, outcomes: Sequence[Outcome], again: bool) -> None:  # noqa: FBT001 - the outcome recorder's call
        """Handle recorded outcomes: their keys may have another delivery that is due now."""
        self._recording_recovered = self._recording_recovered or again
        self._has_unreported_dead_letters = self._has_unreported_dead_letters or any(
            isinstance(outcome, MoveToDeadLetters) for outcome in outcomes
        )
        self.look_soon()

    def _on_circuit_change(self) -> None:
        """Handle that the circuit opened or closed."""
        self._must_release = self._must_release or self._circuit.state is BreakerState.CLOSED
        self._sender.interrupt()
        self.look_soon()
