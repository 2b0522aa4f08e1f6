"""Makes deliveries to one sink, and judges whose failure a failure was.

A failure of the sink opens its circuit and is charged to no row. A failure of the row parks the row, longer
each time, until it is too old. What the sink refuses for good is buried. A refusal that may pass, by a sink
that has delivered before, is final only after it has lasted (core/refusals.py, docs/decisions/0013).
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from shop_poller.circuit_breaker import Circuit
from shop_poller.core.breaker import BreakerState, Switching
from shop_poller.core.errors import PEER_DOWN, ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import ALERTS, Delivery
from shop_poller.core.refusals import KEPT_CAP_S, PROBE_AFTER_S, Refusals, refused_wait_s
from shop_poller.core.retry import MAX_RETRY_AFTER_S, GiveUp, RetryPolicy, after_failure, full_jitter
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Ack, BulkSink, MoveToDeadLetters, Outcome, Release, Retry, Sink

T = TypeVar("T")
TRIES = 3
TRY_BASE_S, TRY_CAP_S = 0.5, 8.0
PATIENCE_S = 10.0
"""The longest wait within one claim; a sink that asks for more gets it between claims."""
SEND_TIMEOUT_S = 10.0
BULK = 100
"""The most deliveries that go to a sink at once, if it can take many."""
BEHIND_THE_OTHERS = timedelta(minutes=1)


class _HeldBackError(Exception):
    """This is not the moment: the lease is over, we are stopping, or the sink was found down."""


class Sender:
    """Goes to one sink.

    Args:
        sink: delivers once.
        circuit: whether the sink may be talked to.
        policy: when a row is tried again, and when given up.
        may_send: whether the right to write is surely ours at this moment.
        metrics: of the shop.
        now: our clock, aware UTC.
        random: a throw of dice, 0 to 1.
        clock: watches our clock; None for a watch of its own.

    Attributes:
        probe: seq of the one delivery that may be tried while the circuit is half-open.
        gone: the sink said 410; it gets nothing more until a restart.
        worked: whether the sink has ever delivered anything; None while that is not known.
        stopping: an attempt under way is finished, no other is begun.
        delivered: deliveries made since the start.
        dead_lettered: deliveries given up since the start.
        failing_since: when the first delivery failed after the last that did not; None while all is well.
        last_error_kind: how the last one failed.
    """

    def __init__(
        self,
        sink: Sink,
        circuit: Circuit,
        *,
        policy: RetryPolicy,
        may_send: Callable[[], bool],
        metrics: Metrics,
        now: Callable[[], datetime],
        random: Callable[[], float],
        clock: ClockWatch | None = None,
    ) -> None:
        self._clock = clock or ClockWatch(now, metrics=metrics)
        self._failing_s = 0.0  # since then it fails, by a clock that nobody sets
        self.probe: int | None = None
        self.gone = False
        self.worked: bool | None = None
        self.stopping = False
        self.delivered = 0
        self.dead_lettered = 0
        self.failing_since: datetime | None = None
        self.last_error_kind = ErrorKind.CONNECTION
        self._sink = sink
        self._bulk = sink if isinstance(sink, BulkSink) else None
        self._circuit = circuit
        self._policy = policy
        self._may_send = may_send
        self._metrics = metrics
        self._now = self._clock.now
        self._random = random
        self._last_success = -math.inf
        self._not_before = -math.inf  # the sink asked to be left alone until then
        self._failing: set[int] = set()  # rows that failed since then
        self._refusals = Refusals()
        self._switching = Switching()
        self._changes = ChangeLogger()
        self._turn = anyio.Event()
        self._log: Log = structlog.get_logger().bind(sink=sink.name)

    @property
    def at_once(self) -> int:
        """How many deliveries are worth to be taken by one sender at a time."""
        return 1 if self._bulk is None else BULK

    @property
    def failing_for(self) -> timedelta:
        """For how long all fails, whatever becomes of our clock; zero while all is well."""
        if self.failing_since is None:
            return timedelta(0)
        return timedelta(seconds=anyio.current_time() - self._failing_s)

    def _fails(self) -> None:
        if self.failing_since is None:
            self.failing_since, self._failing_s = self._now(), anyio.current_time()

    def interrupt(self) -> None:
        """Something changed: whoever waits to try again looks whether that still makes sense."""
        self._turn.set()
        self._turn = anyio.Event()

    async def deliver_all(self, deliveries: Sequence[Delivery]) -> AsyncGenerator[Sequence[Outcome]]:
        """Try to deliver several, and say what became of them, as soon as that is known of some."""
        left, failures = list(deliveries), dict[int, ShopPollerError]()
        for attempt in (1, 2):  # a connection that broke once is no reason to go one by one
            if attempt > 1:
                await self._pause(self._jitter_s(1))
            if self._bulk is None or not self._may_send() or self._held_back():
                break
            errors = await self._send_all(self._bulk, left)
            failures = {
                delivery.seq: error for delivery, error in zip(left, errors, strict=True) if error is not None
            }
            if done := [delivery for delivery in left if delivery.seq not in failures]:
                yield self._delivered(done)
            left = [delivery for delivery in left if delivery.seq in failures]
            is_worth_it = all(isinstance(error, TemporaryError) for error in failures.values())
            if not left or not is_worth_it or self._held_back():
                break
        for delivery in left:
            yield [await self.deliver(delivery, failures.get(delivery.seq))]

    async def deliver(self, delivery: Delivery, failure: ShopPollerError | None = None) -> Outcome:
        """Try to deliver, and say what became of it.

        Args:
            delivery: claimed.
            failure: of the first attempt, if that was made already.
        """
        probing = self._circuit.state is BreakerState.HALF_OPEN and delivery.seq == self.probe
        if not probing and self._held_back():
            return Release(delivery)
        began = anyio.current_time()  # what was taken since it failed with others says nothing of now
        try:
            await self._try(delivery, failure, tries=1 if probing else TRIES)
        except _HeldBackError:
            if probing:
                self._circuit.failure()  # it was none, and the next one has to be let through
            return Release(delivery)
        except ShopPollerError as error:
            log = self._log.bind(**_named(delivery))
            say = log.warning if self._changes.changed("sink", error.kind) else log.debug
            say("delivery failed", error_type=error.kind, error=str(error))
            return self._failed(delivery, error, began, log)
        (outcome,) = self._delivered([delivery])
        return outcome

    def _delivered(self, deliveries: Sequence[Delivery]) -> Sequence[Outcome]:
        self._answered()
        self._changes.changed("sink", "")
        self.worked = True
        self.delivered += len(deliveries)
        for delivery in deliveries:
            self._refusals.over(delivery.seq)
            self._metrics.sent(delivery.event_type, self._sink.name)
            self._log.info("delivered", **_named(delivery))
        return [Ack(delivery) for delivery in deliveries]

    def _held_back(self) -> bool:
        return self.stopping or self.gone or self._circuit.state is not BreakerState.CLOSED

    async def _try(self, delivery: Delivery, failure: ShopPollerError | None, *, tries: int) -> None:
        """Send, and send again within seconds where that may help."""
        if failure is None:
            try:  # outside of what retries: it costs as much as half of a request, and is seldom needed
                return await self._send(delivery)
            except TemporaryError as error:
                failure = error

        async def attempt() -> None:
            nonlocal failure
            if failure is not None:  # the first attempt was made already
                error, failure = failure, None
                raise error
            await self._send(delivery)

        def wait_s(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
            return max(requested_s or 0.0, self._jitter_s(state.attempt_number))

        def enough(state: RetryCallState) -> bool:
            return state.attempt_number >= tries or state.upcoming_sleep > PATIENCE_S or self._held_back()

        async def pause(seconds: float) -> None:
            await self._pause(seconds)
            if self._held_back():
                raise _HeldBackError

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TemporaryError),
            wait=wait_s,
            stop=enough,
            sleep=pause,
            reraise=True,
        )
        return await retrying(attempt)

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._turn.wait()

    def _jitter_s(self, attempt: int) -> float:
        return full_jitter(attempt, base_s=TRY_BASE_S, cap_s=TRY_CAP_S, random=self._random())

    async def _send(self, delivery: Delivery) -> None:
        if not self._may_send():
            raise _HeldBackError
        await self._within_bounds(self._sink.send(delivery), delivery)

    async def _send_all(
        self, bulk: BulkSink, deliveries: Sequence[Delivery]
    ) -> Sequence[ShopPollerError | None]:
        try:
            return await self._within_bounds(bulk.send_all(deliveries), deliveries[0])
        except ShopPollerError as error:
            return [error] * len(deliveries)

    async def _within_bounds(self, sending: Awaitable[T], delivery: Delivery) -> T:
        try:
            with anyio.fail_after(SEND_TIMEOUT_S):
                return await sending
        except TimeoutError as error:
            raise TemporaryError(ErrorKind.TIMEOUT, f"no answer within {SEND_TIMEOUT_S:.0f} s") from error
        except ShopPollerError:
            raise
        except Exception as error:
            # Whatever it is, it must not take the other deliveries down with it.
            self._log.exception("a sink broke: this is a bug, please report it", event_id=delivery.event_id)
            raise TemporaryError(ErrorKind.INTERNAL, f"{type(error).__name__} in the sink") from error

    def _answered(self) -> None:
        """The sink is there, whatever it thinks of this row."""
        self._last_success = anyio.current_time()
        self._failing.clear()
        self._refusals.took()
        self._switching.over()
        self.failing_since = None
        # A yes to what was on its way before the sink asked for time does not take that back.
        if self._circuit.state is not BreakerState.OPEN or anyio.current_time() >= self._not_before:
            self._circuit.success()

    def _failed(self, delivery: Delivery, error: ShopPollerError, began: float, log: Log) -> Outcome:
        """Judge whose failure it was, and what follows."""
        self.last_error_kind = error.kind
        if isinstance(error, PermanentError) and error.may_pass and self.worked:
            return self._refused(delivery, error, began, log)
        self._refusals.over(delivery.seq)
        if isinstance(error, TemporaryError) and self._last_success <= began:
            self._fails()
        if error.kind is ErrorKind.GONE:
            self._give_up_sink()
        elif isinstance(error, PermanentError):
            self._answered()
        elif error.kind in PEER_DOWN and self._last_success <= began:
            self._refusals.interrupted()
            now = anyio.current_time()
            self._not_before = now + _requested_s(error)
            self._circuit.trip(at_least_s=_requested_s(error), within_s=self._switching.within_s(error, now))
            return self._uncharged(delivery, error)
        elif delivery.seq not in self._failing or self._circuit.state is BreakerState.HALF_OPEN:
            # The sink took something else meanwhile, or says that it chokes on this row. That is the row's
            # failure, unless it is one after another: a single row that fails again proves nothing new.
            self._circuit.failure()
            if self._circuit.state is BreakerState.CLOSED:
                self._failing.add(delivery.seq)
        at = self._now()
        step = after_failure(
            self._policy,
            attempts=delivery.attempts + 1,
            head_since=at - self._age(delivery),
            error=error,
            now=at,
            random=self._random(),
        )
        if isinstance(step, GiveUp):
            return self._given_up(delivery, error, step.reason, log)
        self._metrics.retried(self._sink.name, error.kind)
        return Retry(delivery, at=step.at, error=str(error), charged=True)

    def _refused(self, delivery: Delivery, error: PermanentError, began: float, log: Log) -> Outcome:
        """A refusal that may pass: the row's own, unless the sink refuses several in a row."""
        refusal = self._refusals.refused(
            delivery.seq,
            # Where it may be done already, repeats cost more than they can win.
            waited_s=math.inf if error.may_be_done else self._age(delivery).total_seconds(),
            now=anyio.current_time(),
        )
        took_another = self._last_success > began
        if not took_another:
            self._fails()
        if refusal.is_final:
            if refusal.is_only and not self._failing:
                self.failing_since = None  # of one delivery alone nothing follows for the sink
            lasted_min = (anyio.current_time() - refusal.since) / 60
            outcome = self._given_up(delivery, error, f"refused for {lasted_min:.0f} min: {error}", log)
            if self._circuit.state is BreakerState.HALF_OPEN:
                # The next one is judged by itself, and without a wait; unless it may be this one again.
                self._circuit.trip(within_s=0.0 if isinstance(outcome, MoveToDeadLetters) else None)
            return outcome
        if self._circuit.state is not BreakerState.CLOSED or (refusal.is_sinks and not took_another):
            self._circuit.trip(within_s=PROBE_AFTER_S)
            return self._uncharged(delivery, error)
        self._metrics.retried(self._sink.name, error.kind)
        return self._parked(delivery, error, refused_wait_s(delivery.attempts + 1, random=self._random()))

    def _given_up(self, delivery: Delivery, error: ShopPollerError, reason: str, log: Log) -> Outcome:
        """Bury it; but an alert is not lost to the fault that it tells of."""
        is_young = self._age(delivery) < self._policy.max_age
        if delivery.event_type in ALERTS and is_young and _may_pass(error):
            wait_s = refused_wait_s(delivery.attempts + 1, random=self._random(), cap_s=KEPT_CAP_S)
            self._metrics.retried(self._sink.name, error.kind)
            return self._parked(delivery, error, wait_s)
        self._metrics.dead_lettered(self._sink.name)
        self.dead_lettered += 1
        log.error("delivery buried", reason=reason)
        return MoveToDeadLetters(delivery, reason)

    def _age(self, delivery: Delivery) -> timedelta:
        """For how long it is its order's oldest, as far as our clock is to be believed."""
        known = self._clock.look()
        return known.age(delivery.waits_since(known.ours))

    def _uncharged(self, delivery: Delivery, error: ShopPollerError) -> Outcome:
        """The sink's failure. Each probe is another row: a single one may be what hangs the sink."""
        self._metrics.retried(self._sink.name, error.kind)
        return Retry(delivery, at=self._now() + BEHIND_THE_OTHERS, error=str(error), charged=False)

    def _parked(self, delivery: Delivery, error: ShopPollerError, wait_s: float) -> Outcome:
        return Retry(delivery, at=self._now() + timedelta(seconds=wait_s), error=str(error), charged=True)

    def _give_up_sink(self) -> None:
        """The sink said 410 Gone; the dispatcher sees to the alert."""
        if self.gone:
            return
        self.gone = True
        self._metrics.breaker(self._sink.name).set(1)
        self._log.error("the sink is gone for good (410); it gets nothing more until a restart")
        self.interrupt()


def _named(delivery: Delivery) -> dict[str, str]:
    """How the log names a delivery."""
    return {"order": delivery.key, "event_type": delivery.event_type, "event_id": delivery.event_id}


def _may_pass(error: ShopPollerError) -> bool:
    """Whether an alert that was refused so is worth keeping: the refusal may pass, and it did not arrive."""
    return isinstance(error, PermanentError) and error.may_pass and not error.may_be_done


def _requested_s(error: ShopPollerError) -> float:
    requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
    return min(requested_s or 0.0, MAX_RETRY_AFTER_S)
