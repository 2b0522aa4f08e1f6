"""Sends deliveries to one sink, and decides whether the sink or the row caused a failure.

- A failure of the sink opens its circuit and is not charged to the row.
- A failure of the row parks the row, longer each time, until it is too old.
- A row that the sink refuses permanently moves to dead letters.
- A refusal that may pass, by a sink that has delivered before, is final only after it has lasted
  (core/refusals.py, docs/decisions/0013).
"""

import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

import anyio
import structlog
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from shop_poller.circuit_breaker import Circuit
from shop_poller.core.attempts import DELIVERED, Attempt, failed
from shop_poller.core.breaker import BreakerState, Switching
from shop_poller.core.errors import PEER_DOWN, ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import ALERTS, Delivery, GroupDelivery
from shop_poller.core.rates import Rate, RateLimit
from shop_poller.core.refusals import KEPT_CAP_S, PROBE_AFTER_S, Refusals, refused_wait_s
from shop_poller.core.retry import MAX_RETRY_AFTER_S, GiveUp, RetryPolicy, after_failure, full_jitter
from shop_poller.core.translatable import Text
from shop_poller.delivery.gathering import SinkTiming
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Ack, BulkSink, MoveToDeadLetters, Outcome, Release, Retry, Sink

T = TypeVar("T")
TRIES = 3
TRY_BASE_S, TRY_CAP_S = 0.5, 8.0
PATIENCE_S = 10.0
"""The longest wait within one claim. If a sink asks for a longer one, the delivery is parked."""
SEND_TIMEOUT_S = 10.0
BULK = 100
"""The most deliveries that are sent together, to a sink that supports it."""
BEHIND_THE_OTHERS = timedelta(minutes=1)


class MutedSeconds(Protocol):
    """Says for how many seconds a sink, or an event type of it, is still muted; 0 if it is not."""

    def __call__(self, event_type: str = "") -> float:
        """Return the seconds; without an event type, those for which the whole sink is muted."""
        ...


def not_muted(event_type: str = "") -> float:  # noqa: ARG001 - a MutedSeconds
    """Return that nothing is muted."""
    return 0.0


class _MustWaitError(Exception):
    """Sending is not possible now: the lease has ended, we are stopping, or the sink is down."""


class Sender:
    """Sends to one sink.

    Args:
        sink: sends one delivery, once.
        circuit: the circuit breaker of the sink.
        policy: when a row is retried, and when it is moved to dead letters.
        may_send: returns whether the lease is certainly ours at this moment.
        mask: removes the shop's secrets from a text.
        metrics: of the shop.
        clock: our clock.
        random: returns a random number, 0 to 1.
        rate: the most attempts in a time; None for no limit.
        muted_s: returns the seconds for which the sink, or an event type of it, is still muted.
        timing: when the sink receives deliveries; None for at once.

    Attributes:
        probe: seq of the one delivery that may be sent while the circuit is half-open.
        gone: whether the sink answered 410; it receives nothing more until a restart.
        worked: whether the sink has ever accepted a delivery; None if unknown.
        stopping: whether to finish the current attempt and start no other one.
        delivered: deliveries made since the start.
        dead_lettered: deliveries moved to dead letters since the start.
        failing_since: the first failure after the last success; None if deliveries do not fail.
        last_error_kind: of the last failure.
        has_failed_again: whether there was a failure since `restart_failing_time`.
    """

    def __init__(
        self,
        sink: Sink,
        circuit: Circuit,
        *,
        policy: RetryPolicy,
        may_send: Callable[[], bool],
        mask: Callable[[str], str],
        metrics: Metrics,
        clock: ClockWatch,
        random: Callable[[], float],
        rate: Rate | None = None,
        muted_s: MutedSeconds = not_muted,
        timing: SinkTiming | None = None,
    ) -> None:
        self._rate_limit = None if rate is None else RateLimit(rate)
        self._muted_s = muted_s
        self._clock = clock
        self._failing_s = 0.0  # `failing_since` on the monotonic clock
        self.probe: int | None = None
        self.gone = False
        self.worked: bool | None = None
        self.stopping = False
        self.delivered = 0
        self.dead_lettered = 0
        self.failing_since: datetime | None = None
        self.last_error_kind = ErrorKind.CONNECTION
        self.has_failed_again = False
        self._timing = timing
        self._sink = sink
        # Several that are sent together would pass the limit.
        self._bulk = sink if isinstance(sink, BulkSink) and rate is None else None
        self._circuit = circuit
        self._policy = policy
        self._may_send = may_send
        self._mask = mask
        self._metrics = metrics
        self._now = clock.now
        self._random = random
        self._last_success = -math.inf
        self._not_before = -math.inf  # the sink asked for a pause until then (Retry-After)
        self._failing: set[int] = set()  # rows that failed since the last success
        self._refusals = Refusals()
        self._switching = Switching()
        self._changes = ChangeLogger()
        self._waits_ended = anyio.Event()
        self._log: Log = structlog.get_logger().bind(sink=sink.name)

    @property
    def at_once(self) -> int:
        """How many deliveries one sender takes from the queue at a time."""
        return 1 if self._bulk is None else BULK

    @property
    def failing_for(self) -> timedelta:
        """How long all deliveries fail, by the monotonic clock; zero if deliveries do not fail."""
        if self.failing_since is None:
            return timedelta(0)
        return timedelta(seconds=anyio.current_time() - self._failing_s)

    def restart_failing_time(self) -> None:
        """Count `failing_for` from now on."""
        self._failing_s = anyio.current_time()
        self.has_failed_again = False

    def _fails(self) -> None:
        self.has_failed_again = True
        if self.failing_since is None:
            self.failing_since, self._failing_s = self._now(), anyio.current_time()

    def interrupt(self) -> None:
        """End the waits before retries, so that senders check whether a retry is still useful."""
        self._waits_ended.set()
        self._waits_ended = anyio.Event()

    async def deliver_all(self, deliveries: Sequence[Delivery]) -> AsyncGenerator[Sequence[Outcome]]:
        """Try to deliver several. Yield outcomes as soon as they are known."""
        left, failures = list(deliveries), dict[int, ShopPollerError]()
        new_attempts: dict[int, list[Attempt]] = {delivery.seq: [] for delivery in deliveries}
        muted = {one.seq for one in left if self._muted_s(one.event_type) > 0}
        left, muted_deliveries = (
            [one for one in left if (one.seq in muted) == is_muted] for is_muted in (False, True)
        )
        if muted_deliveries:
            yield [Release(one) for one in muted_deliveries]
        for attempt in (1, 2):  # retry together: a single broken connection may be the cause
            if attempt > 1:
                await self._pause(self._jitter_s(1))
            if self._bulk is None or not self._may_send() or self._must_wait():
                break
            at, began = self._clock.reading()
            errors = await self._send_all(self._bulk, left)
            ended = anyio.current_time()
            failures = {
                delivery.seq: error for delivery, error in zip(left, errors, strict=True) if error is not None
            }
            accepted = Attempt(at, _ms(ended - began), DELIVERED)
            for delivery in left:
                error = failures.get(delivery.seq)
                new_attempts[delivery.seq].append(
                    accepted if error is None else failed(at, _ms(ended - began), error, self._mask)
                )
            if done := [delivery for delivery in left if delivery.seq not in failures]:
                yield self._delivered(done, new_attempts, ended)
            left = [delivery for delivery in left if delivery.seq in failures]
            is_worth_it = all(isinstance(error, TemporaryError) for error in failures.values())
            if not left or not is_worth_it or self._must_wait():
                break
        for delivery in left:
            yield [await self.deliver(delivery, failures.get(delivery.seq), new_attempts[delivery.seq])]

    async def deliver(
        self,
        delivery: Delivery,
        failure: ShopPollerError | None = None,
        earlier_attempts: Sequence[Attempt] = (),
    ) -> Outcome:
        """Try to deliver, and return the outcome.

        Args:
            delivery: claimed.
            failure: the error of the first attempt, if that was already made.
            earlier_attempts: the attempts that were already made since the claim.
        """
        new_attempts = list(earlier_attempts)
        probing = self._circuit.state is BreakerState.HALF_OPEN and delivery.seq == self.probe
        if self._is_muted(delivery) if probing else self._must_wait(delivery):
            if probing:
                self._circuit.failure()  # lets the next delivery probe
            return Release(delivery, new_attempts)
        if not probing and self._timing is not None and self._timing.holds(delivery, self._now()):
            return Release(delivery, new_attempts)  # quiet hours began while it was in the queue
        if self._rate_limit is not None and not await self._within_rate(self._rate_limit, delivery):
            if probing:
                self._circuit.failure()  # lets the next delivery probe
            return Release(delivery, new_attempts)
        # A success before this attempt does not prove that the sink works now.
        at, began = self._clock.reading()
        try:
            ended = await self._try(
                delivery, failure, new_attempts, began=(at, began), tries=1 if probing else TRIES
            )
        except _MustWaitError:
            if probing:
                self._circuit.failure()  # no failure, but lets the next delivery probe
            return Release(delivery, new_attempts)
        except ShopPollerError as error:
            log = self._log.bind(**_named(delivery))
            say = log.warning if self._changes.changed("sink", error.kind) else log.debug
            say("delivery failed", error_type=error.kind, error=str(error))
            return replace(self._failed(delivery, error, began, log), new_attempts=new_attempts)
        (outcome,) = self._delivered([delivery], {delivery.seq: new_attempts}, ended)
        return outcome

    def _delivered(
        self, deliveries: Sequence[Delivery], new_attempts: Mapping[int, Sequence[Attempt]], ended: float
    ) -> Sequence[Outcome]:
        self._answered(ended)
        self._changes.changed("sink", "")
        self.worked = True
        rows = deliveries if self._timing is None else _rows(deliveries)
        self.delivered += len(rows)
        for delivery in rows:
            self._refusals.forget(delivery.seq)
            self._metrics.sent(delivery.event_type, self._sink.name)
            self._log.info("delivered", **_named(delivery))
        return [Ack(delivery, new_attempts[delivery.seq]) for delivery in deliveries]

    def _must_wait(self, delivery: Delivery | None = None) -> bool:
        """Return whether a delivery must not be attempted now; without one, whether none must be."""
        is_down = self.gone or self._circuit.state is not BreakerState.CLOSED
        if self.stopping or is_down:
            return True
        return self._muted_s("") > 0 if delivery is None else self._is_muted(delivery)

    def _is_muted(self, delivery: Delivery) -> bool:
        """Return whether a delivery, or one of its group, is muted: it may be since it was claimed."""
        if isinstance(delivery, GroupDelivery):
            return any(self._muted_s(row.event_type) > 0 for row in delivery.rows)
        return self._muted_s(delivery.event_type) > 0

    async def _try(
        self,
        delivery: Delivery,
        failure: ShopPollerError | None,
        new_attempts: list[Attempt],
        *,
        began: tuple[datetime, float],
        tries: int,
    ) -> float:
        """Send, with retries within seconds if they may help. Add each attempt to `new_attempts`.

        Returns:
            The monotonic time of the success.
        """
        if failure is None:
            try:  # without tenacity: it costs as much as half a request, and is rarely needed
                return await self._attempt(delivery, new_attempts, began)
            except TemporaryError as error:
                failure = error

        async def attempt() -> float:
            nonlocal failure
            if failure is not None:  # the first attempt was made already
                error, failure = failure, None
                raise error
            return await self._attempt(delivery, new_attempts, self._clock.reading())

        def wait_s(state: RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
            return max(requested_s or 0.0, self._jitter_s(state.attempt_number))

        def enough(state: RetryCallState) -> bool:
            is_over = state.attempt_number >= tries or state.upcoming_sleep > PATIENCE_S
            return is_over or self._must_wait(delivery)

        async def pause(seconds: float) -> None:
            await self._pause(seconds)
            if self._must_wait(delivery):
                raise _MustWaitError
            if self._rate_limit is not None and not await self._within_rate(self._rate_limit, delivery):
                raise _MustWaitError

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TemporaryError),
            wait=wait_s,
            stop=enough,
            sleep=pause,
            reraise=True,
        )
        return await retrying(attempt)

    async def _within_rate(self, limit: RateLimit, delivery: Delivery) -> bool:
        """Wait until the rate of the sink permits an attempt. Return False if it must not be made then."""
        while (wait_s := limit.wait_s(anyio.current_time())) > 0:
            await self._pause(wait_s)
            is_probe = self._circuit.state is BreakerState.HALF_OPEN and delivery.seq == self.probe
            if self.stopping or self._is_muted(delivery) or (self._must_wait() and not is_probe):
                return False
        limit.take(anyio.current_time())
        return True

    async def _pause(self, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await self._waits_ended.wait()

    def _jitter_s(self, attempt: int) -> float:
        return full_jitter(attempt, base_s=TRY_BASE_S, cap_s=TRY_CAP_S, random=self._random())

    async def _attempt(
        self, delivery: Delivery, new_attempts: list[Attempt], began: tuple[datetime, float]
    ) -> float:
        """Send once, and add the attempt to `new_attempts`.

        Args:
            delivery: claimed.
            new_attempts: the attempts since the claim.
            began: our clock, and the monotonic time.

        Returns:
            The monotonic time of the success.
        """
        at, began_s = began
        try:
            status = await self._send(delivery)
        except ShopPollerError as error:
            new_attempts.append(failed(at, _ms(anyio.current_time() - began_s), error, self._mask))
            raise
        ended = anyio.current_time()
        new_attempts.append(Attempt(at, _ms(ended - began_s), DELIVERED, status))
        return ended

    async def _send(self, delivery: Delivery) -> int | None:
        if not self._may_send():
            raise _MustWaitError
        return await self._within_bounds(self._sink.send(delivery), delivery)

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
            raise TemporaryError(
                ErrorKind.TIMEOUT,
                Text("no answer within {seconds:.0f} s", seconds=SEND_TIMEOUT_S),
            ) from error
        except ShopPollerError:
            raise
        except Exception as error:
            # An unexpected error of a sink must not stop the other deliveries.
            self._log.exception(
                "internal error (bug) in a sink: please report it", event_id=delivery.event_id
            )
            raise TemporaryError(
                ErrorKind.INTERNAL, Text("{name} in the sink", name=type(error).__name__)
            ) from error

    def _answered(self, at: float) -> None:
        """Record that the sink answered at this monotonic time, even if it refused this row."""
        self._last_success = at
        self._failing.clear()
        self._refusals.took()
        self._switching.ended()
        self.failing_since = None
        # A success of a request sent before the sink asked for a pause does not end that pause.
        if self._circuit.state is not BreakerState.OPEN or anyio.current_time() >= self._not_before:
            self._circuit.success()

    def _failed(self, delivery: Delivery, error: ShopPollerError, began: float, log: Log) -> Outcome:
        """Decide whether the sink or the row caused the failure, and return the outcome."""
        self.last_error_kind = error.kind
        if isinstance(error, PermanentError) and error.may_pass and self.worked:
            return self._refused(delivery, error, began, log)
        self._refusals.forget(delivery.seq)
        if isinstance(error, TemporaryError) and self._last_success <= began:
            self._fails()
        if error.kind is ErrorKind.GONE:
            self._give_up_sink()
        elif isinstance(error, PermanentError):
            self._answered(anyio.current_time())
        elif error.kind in PEER_DOWN and self._last_success <= began:
            self._refusals.interrupted()
            now = anyio.current_time()
            self._not_before = now + _requested_s(error)
            self._circuit.trip(at_least_s=_requested_s(error), within_s=self._switching.within_s(error, now))
            return self._uncharged(delivery, error)
        elif delivery.seq not in self._failing or self._circuit.state is BreakerState.HALF_OPEN:
            # The sink accepted another row meanwhile, or reports an error about this row. So the row failed.
            # Several rows that fail in a row open the circuit. A row that fails again is not counted twice.
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
        """Handle a refusal that may pass. The row caused it, unless the sink refuses several in a row."""
        refusal = self._refusals.refused(
            delivery.seq,
            # If the receiver may have processed it already, retries cost more than they gain.
            waited_s=math.inf if error.may_be_done else self._age(delivery).total_seconds(),
            now=anyio.current_time(),
        )
        took_another = self._last_success > began
        if not took_another:
            self._fails()
        if refusal.is_final:
            if refusal.is_only and not self._failing:
                self.failing_since = None  # a single delivery does not show that the sink fails
            lasted_min = (anyio.current_time() - refusal.since) / 60
            outcome = self._given_up(delivery, error, f"refused for {lasted_min:.0f} min: {error}", log)
            if self._circuit.state is BreakerState.HALF_OPEN:
                # The next delivery may probe without a wait, unless this one was parked and may be the next.
                self._circuit.trip(within_s=0.0 if isinstance(outcome, MoveToDeadLetters) else None)
            return outcome
        if self._circuit.state is not BreakerState.CLOSED or (refusal.is_sinks and not took_another):
            self._circuit.trip(within_s=PROBE_AFTER_S)
            return self._uncharged(delivery, error)
        self._metrics.retried(self._sink.name, error.kind)
        return self._parked(delivery, error, refused_wait_s(delivery.attempts + 1, random=self._random()))

    def _given_up(self, delivery: Delivery, error: ShopPollerError, reason: str, log: Log) -> Outcome:
        """Move the delivery to dead letters.

        A young alert whose refusal may pass is parked instead: the fault that it reports must not destroy it.
        For a group, the dispatcher sends its deliveries one by one instead.
        """
        if isinstance(delivery, GroupDelivery):
            self._refusals.forget(delivery.seq)
            log.warning("a group was refused: its deliveries are sent one by one", reason=reason)
            return MoveToDeadLetters(delivery, reason)
        is_young = self._age(delivery) < self._policy.max_age
        if delivery.event_type in ALERTS and is_young and _may_pass(error):
            wait_s = refused_wait_s(delivery.attempts + 1, random=self._random(), cap_s=KEPT_CAP_S)
            self._metrics.retried(self._sink.name, error.kind)
            return self._parked(delivery, error, wait_s)
        self._metrics.dead_lettered(self._sink.name)
        self.dead_lettered += 1
        log.error("delivery moved to dead letters", reason=reason)
        return MoveToDeadLetters(delivery, reason)

    def _age(self, delivery: Delivery) -> timedelta:
        """Return how long it is the oldest delivery of its order, corrected for jumps of our clock.

        Quiet hours do not count.
        """
        known = self._clock.check()
        age = known.age(delivery.waits_since(known.ours))
        return age if self._timing is None else self._timing.open_time(age, known.ours)

    def _uncharged(self, delivery: Delivery, error: ShopPollerError) -> Outcome:
        """Return a retry that is not charged to the row, because the sink failed.

        The row waits behind others, so that each probe is another row: a single row may hang the sink.
        """
        self._metrics.retried(self._sink.name, error.kind)
        return Retry(delivery, at=self._now() + BEHIND_THE_OTHERS, error=str(error), charged=False)

    def _parked(self, delivery: Delivery, error: ShopPollerError, wait_s: float) -> Outcome:
        return Retry(delivery, at=self._now() + timedelta(seconds=wait_s), error=str(error), charged=True)

    def _give_up_sink(self) -> None:
        """Stop sending: the sink answered 410 Gone. The dispatcher raises the alert."""
        if self.gone:
            return
        self.gone = True
        self._metrics.breaker(self._sink.name).set(1)
        self._log.error("the sink is gone (410); it receives nothing until a restart")
        self.interrupt()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _rows(deliveries: Sequence[Delivery]) -> Sequence[Delivery]:
    """Return the rows of the outbox that these contain."""
    return [
        row
        for delivery in deliveries
        for row in (delivery.rows if isinstance(delivery, GroupDelivery) else (delivery,))
    ]


def _named(delivery: Delivery) -> dict[str, str]:
    """Return the log fields of a delivery."""
    return {"order": delivery.key, "event_type": delivery.event_type, "event_id": delivery.event_id}


def _may_pass(error: ShopPollerError) -> bool:
    """Return whether to retry an alert after this error: the refusal may pass, and it did not arrive."""
    return isinstance(error, PermanentError) and error.may_pass and not error.may_be_done


def _requested_s(error: ShopPollerError) -> float:
    requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
    return min(requested_s or 0.0, MAX_RETRY_AFTER_S)
