"""Delivers from the outbox to one sink: claim → stream → deliver → ack, retry or move to dead letters.

    outbox ── pump ──→ bounded stream ──→ senders ──→ sink
       ↑                                     │
       └─────────── recorder ←─ outcomes ────┘

Every sink has its own dispatcher, so that a sink that is down does not delay the others. The pump claims at
most as many rows as the stream has room for. It claims only the oldest row of each key, so that an order's
events arrive in order. While the sink is down, the stream stays empty. At most once a minute, one row is sent
as a probe.

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
from shop_poller.core.rates import Rate
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.gathering import LONGEST_HOLD, Gathering, SinkTiming
from shop_poller.delivery.outcome_recorder import STORE_WAIT_S, OutcomeRecorder, at_hand
from shop_poller.delivery.sender import MutedSeconds, Sender, not_muted
from shop_poller.mutes import ANY
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import Ack, MoveToDeadLetters, Outbox, Outcome, Release, Retry, Sink

CLAIM_BATCH = 500
DOWN_CHECK_EVERY_S = 60.0
"""How often the outbox is checked for expired deliveries while the sink is down."""
CHECK_EVERY_S = 10.0
"""How often the outbox is checked even when nothing seems due.

Another process may replay dead letters, and clocks can be set.
"""
CORRECT_AGAIN_S = 60.0
"""Due times are corrected a second time, this long after the clock was set back."""
ALERT_DOWN_AFTER = timedelta(minutes=10)
"""An alert is sent for a sink that has accepted nothing for this long."""
END_OF_TIME = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """The parameters of a dispatcher.

    Attributes:
        retry: when a delivery is retried, and when it is moved to dead letters.
        senders: concurrent senders of each sink.
        queue_size: bound of each sink's stream.
        check_every_s: how often the outbox is checked when nothing seems due; None for CHECK_EVERY_S.
        rate: the most messages to the sink in a time; None for no limit.
    """

    retry: RetryPolicy
    senders: int = 8
    queue_size: int = 1000
    check_every_s: float | None = None
    rate: Rate | None = None


class Dispatcher:
    """Delivers the outbox's deliveries for one sink.

    Args:
        sink: sends one delivery, once.
        plan: the parameters.
        outbox: contains the deliveries.
        may_send: returns whether the lease is certainly ours at this moment.
        mask: removes the shop's secrets from a text.
        alert_manager: reports a sink that is gone or down for long, its recovery, and dead letters.
        metrics: of the shop.
        clock: our clock.
        random: returns a random number, 0 to 1.
        gone: whether the sink answered 410 in an earlier leader session of this process.
        muted_s: returns the seconds for which the sink, or an event type of it, is still muted. What is muted
            is not sent.
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
        mask: Callable[[str], str],
        alert_manager: AlertManager,
        metrics: Metrics,
        clock: ClockWatch,
        random: Callable[[], float],
        gone: bool = False,
        muted_s: MutedSeconds = not_muted,
        timing: SinkTiming | None = None,
    ) -> None:
        self._muted_s = muted_s
        self._clock = clock
        self._timing = timing
        self._to_put_back: list[Outcome] = []  # claimed deliveries of muted events
        self._gathering = None if timing is None else Gathering(timing)
        self._was_quiet = False
        self._in_haste = False  # groups do not wait for more deliveries
        self._set_backs_corrected = 0  # how often the clock had been set back at the last correction
        self._correct_again_at = math.inf
        self.senders_alive = 0
        self._name = sink.name
        self._plan = plan
        self._outbox = outbox
        self._alert_manager = alert_manager
        self._may_send = may_send
        self._metrics = metrics
        self._now = clock.now
        self._circuit = Circuit(sink.name, metrics, on_change=self._on_circuit_change)
        self._sender = Sender(
            sink,
            self._circuit,
            policy=plan.retry,
            may_send=may_send,
            mask=mask,
            metrics=metrics,
            clock=clock,
            random=random,
            rate=plan.rate,
            muted_s=muted_s,
            timing=timing,
        )
        self._sender.gone = gone
        self._outcome_recorder = OutcomeRecorder(
            sink.name,
            outbox=outbox,
            alert_manager=alert_manager,
            metrics=metrics,
            now=clock.stamp,
            on_recorded=self._on_recorded,
        )
        self._check_requested = anyio.Event()
        self._must_release = False
        # True at first: an earlier session may have left an alert about recording, or dead letters to report.
        self._recording_recovered = self._has_unreported_dead_letters = True
        self._next_expiry_at = -math.inf
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
    def in_flight(self) -> int:
        """Deliveries in the queue, waiting for a group, being sent, or about to be recorded."""
        return self._outcome_recorder.in_flight

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

    def check_soon(self) -> None:
        """Check the outbox soon: something may be due."""
        self._check_requested.set()

    def mute_changed(self, *, unmuted: bool = False) -> None:
        """Apply a change of the mutes of the sink, or of its events, at once."""
        self._must_release = self._must_release or unmuted  # events that were muted are parked
        self._sender.interrupt()
        self.check_soon()

    def stop(self) -> None:
        """Claim nothing more. Senders finish their current attempt; the rest stays in the outbox."""
        self._sender.stopping = True
        self._outcome_recorder.in_haste = True
        self._sender.interrupt()
        self.check_soon()

    async def run(self, *, until_idle: bool = False) -> None:
        """Deliver until stopped.

        Args:
            until_idle: end as soon as no due delivery is left to attempt.
        """
        self._in_haste = until_idle
        queue, queued = anyio.create_memory_object_stream[Delivery](self._plan.queue_size)
        # One item holds up to `at_once` outcomes. The stream is bounded, so that outcomes do not fill the
        # memory while the store fails.
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
            is_idle = not self._outcome_recorder.in_flight
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
                if until_idle and is_idle:
                    return
                with anyio.move_on_after(wait_s):
                    await self._check_requested.wait()

    async def _claim(self, queue: MemoryObjectSendStream[Delivery]) -> list[Delivery]:
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN or self._circuit.wait_s() > 0:
            return []
        if not self._may_send() or self._muted_s() > 0:
            return []
        await self._put_back_muted()
        if self._timing is not None and self._gathering is not None:
            return await self._gather(self._gathering, self._timing)
        if self._circuit.state is BreakerState.OPEN:
            # The oldest delivery may probe even if it is parked: it waits only for the sink.
            deliveries = await self._claim_unmuted(END_OF_TIME, limit=1)
            self._to_put_back += map(Release, deliveries[1:])
            deliveries = deliveries[:1]
            if deliveries:
                self._sender.probe = deliveries[0].seq
                self._circuit.probe()
        else:
            room = self._plan.queue_size - queue.statistics().current_buffer_used
            limit = max(1, min(room, CLAIM_BATCH))
            deliveries = await self._claim_unmuted(self._now(), limit=limit)
        self._outcome_recorder.in_flight += len(deliveries)
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
        # A parked delivery may be the probe. In quiet hours only an urgent one may: claim only what is due.
        due_by = END_OF_TIME if is_probe and not timing.is_quiet(now) else now
        room = min(self._plan.queue_size - self._outcome_recorder.in_flight, CLAIM_BATCH)
        if is_probe:
            room = gathering.most_for_probe(now, room=room)
        deliveries: list[Delivery] = []
        if room > 0:
            deliveries = await self._claim_unmuted(due_by, limit=room)
            self._outcome_recorder.in_flight += len(deliveries)
        if is_probe:
            probe = gathering.probe(deliveries, now)
            if probe is not None:
                self._sender.probe = probe.seq
                self._circuit.probe()
            ready = [] if probe is None else [probe]
        else:
            gathering.add(deliveries, now, at_s)
            is_full = self._outcome_recorder.in_flight >= self._plan.queue_size
            ready = gathering.ready(now, at_s, is_last=self._in_haste or is_full)
        with suppress(TemporaryError):  # it is repeated before the next claim
            await self._put_back(gathering)
        return ready

    async def _claim_unmuted(self, due_by: datetime, *, limit: int) -> list[Delivery]:
        """Claim deliveries whose events are not muted.

        Args:
            due_by: claim deliveries that are due by this time.
            limit: the most to claim. If all of them are muted, the next claim may return more.
        """
        while True:
            claimed = await self._outbox.claim(self._name, now=due_by, limit=limit)
            found = await self._unmuted(claimed)
            # Muted ones are parked now. A claim of parked ones would return the same again.
            is_over = due_by == END_OF_TIME and limit == CLAIM_BATCH
            if found or not claimed or self._to_put_back or is_over:
                return found
            limit = CLAIM_BATCH

    async def _unmuted(self, claimed: list[Delivery]) -> list[Delivery]:
        """Return the claimed deliveries whose events are not muted. The others return to the outbox."""
        muted = {one.seq: left_s for one in claimed if (left_s := self._muted_s(one.event_type)) > 0}
        if not muted:
            return claimed
        now = self._now()
        self._to_put_back += [
            Retry(
                one,
                at=now + min(timedelta(seconds=muted[one.seq]), LONGEST_HOLD),
                error="muted",
                charged=False,
            )
            for one in claimed
            if one.seq in muted
        ]
        with suppress(TemporaryError):  # it is repeated before the next claim
            await self._put_back_muted()
        return [one for one in claimed if one.seq not in muted]

    async def _put_back_muted(self) -> None:
        if self._to_put_back:
            await self._outbox.record_outcomes(self._to_put_back, self._clock.stamp())
            self._to_put_back = []

    async def _put_back(self, gathering: Gathering) -> None:
        """Record that claimed deliveries return to the outbox."""
        if outcomes := gathering.put_back:
            await self._outbox.record_outcomes(outcomes, self._clock.stamp())
            gathering.put_back = []
            self._outcome_recorder.in_flight -= len(outcomes)

    def _follow_quiet_hours(self, timing: SinkTiming) -> None:
        """When quiet hours begin or end, restart the count of the time that the sink fails."""
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
        set_backs, now_s = self._clock.check().set_back, anyio.current_time()
        is_news = set_backs != self._set_backs_corrected
        if not is_news and now_s < self._correct_again_at:
            return
        moved = 0
        while step := await self._outbox.clamp_due(self._name, latest=self._now()):
            moved += step
        # Repeat it once: an outcome decided before the change and recorded after it uses the old clock.
        self._set_backs_corrected = set_backs
        self._correct_again_at = now_s + CORRECT_AGAIN_S if is_news else math.inf
        if moved:
            self._log.warning(
                "the clock was set back: deliveries parked by the old clock are due now", deliveries=moved
            )

    async def _follow_sink_state(self) -> None:
        """Update the outbox and the alert when the sink has recovered, or while it is down."""
        if self.gone:
            await self._alert_manager.raise_for(self._name, cause=ErrorKind.GONE, since=self._now())
        down = self.gone or self._circuit.state is not BreakerState.CLOSED
        if not down and self._must_release:
            with suppress(TemporaryError):  # not urgent, unlike deliveries that are due
                if await self._outbox.release_parked(self._name):
                    self.check_soon()  # release the rest after the due deliveries are claimed
                else:
                    self._must_release = False
        if self.delivered and not down and self._sender.failing_since is None:
            await self._alert_manager.clear(self._name)  # also for a sink that was down before a restart
        # Nothing expires during a mute or right after it: an old delivery is attempted once first.
        if self._muted_s(ANY) > 0:
            self._next_expiry_at = anyio.current_time() + DOWN_CHECK_EVERY_S
        if down and anyio.current_time() >= self._next_expiry_at:
            max_age = self._plan.retry.max_age
            if self._timing is not None:
                max_age = self._timing.age_with(max_age, self._now())
            head_before = self._clock.check().ages_before(max_age)
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
            self._next_expiry_at = anyio.current_time() + DOWN_CHECK_EVERY_S

    async def _store_alerts(self) -> None:
        """Store alerts for the administrators. If that fails, deliveries continue."""
        report_due, recovered = self._has_unreported_dead_letters, self._recording_recovered
        # Reset before the awaits: what happens during them is left for the next call.
        self._has_unreported_dead_letters = self._recording_recovered = False
        try:
            failing_since = self._sender.failing_since
            # During quiet hours, a sink counts as failing only if an urgent delivery failed in them.
            is_tried = not self._was_quiet or self._sender.has_failed_again
            if failing_since is not None and is_tried and self._sender.failing_for >= ALERT_DOWN_AFTER:
                await self._alert_manager.raise_for(
                    self._name, cause=self._sender.last_error_kind, since=failing_since
                )
            if recovered:
                await self._alert_manager.can_record()
                recovered = False
            if report_due:
                report_due = not await self._alert_manager.report_dead_letters(self._name)
            if self.delivered:
                await self._alert_manager.remember_that_it_worked(self._name)
            self._changes.changed("alert", "")
        except TemporaryError as error:
            self._metrics.store_error(StoreUse.ALERT)
            if self._changes.changed("alert", error.kind):
                self._log.error("an alert could not be stored; retrying", error=str(error))
        self._has_unreported_dead_letters = self._has_unreported_dead_letters or report_due
        self._recording_recovered = self._recording_recovered or recovered

    async def _wait_s(self) -> float:
        """Return the seconds until there may be work, unless `check_soon` is called."""
        if self.gone or self._circuit.state is BreakerState.HALF_OPEN:
            return DOWN_CHECK_EVERY_S
        if (muted_s := self._muted_s()) > 0:
            return min(muted_s, DOWN_CHECK_EVERY_S)
        if not self._may_send():  # the lease is about to be renewed, or lost
            return STORE_WAIT_S
        if self._circuit.state is BreakerState.OPEN:
            return min(self._circuit.wait_s() or DOWN_CHECK_EVERY_S, DOWN_CHECK_EVERY_S)
        check_every_s = self._plan.check_every_s or CHECK_EVERY_S
        has_room = True
        if self._gathering is not None:
            wait_s = self._gathering.wait_s(anyio.current_time())
            # If something is still to be put back, recording it failed: retry soon.
            check_every_s = min(check_every_s, STORE_WAIT_S if self._gathering.put_back else wait_s)
            has_room = self._outcome_recorder.in_flight < self._plan.queue_size
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
                    async with aclosing(self._sender.deliver_all([delivery, *more])) as batches:
                        async for batch in batches:
                            await outcomes.send(batch)
        finally:
            self.senders_alive -= 1

    async def _send_gathered(
        self,
        delivery: Delivery,
        outcomes: MemoryObjectSendStream[Sequence[Outcome]],
        gathering: Gathering,
    ) -> None:
        """Send a delivery or a group. If a group was refused for good, send its rows one by one."""
        if not isinstance(delivery, GroupDelivery):
            await outcomes.send([await self._sender.deliver(delivery)])
            return
        outcome = await self._sender.deliver(delivery)
        if isinstance(outcome, MoveToDeadLetters):
            for row in delivery.rows:
                await outcomes.send([await self._sender.deliver(row, earlier_attempts=outcome.new_attempts)])
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
        self.check_soon()

    def _on_circuit_change(self) -> None:
        """Check the outbox when the circuit opens or closes, and release parked deliveries if it closed."""
        self._must_release = self._must_release or self._circuit.state is BreakerState.CLOSED
        self._sender.interrupt()
        self.check_soon()
