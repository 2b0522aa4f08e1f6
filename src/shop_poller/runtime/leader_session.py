"""The work on one shop while this process has the lease. Built again each time the process gets the lease."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial

import anyio
import structlog

from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.delivery.dispatcher import Dispatcher
from shop_poller.polling.poller import Poller
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import PollFailure, ShopState


@dataclass(frozen=True, slots=True)
class Grace:
    """How long the work in progress may continue after a stop.

    Attributes:
        tick_s: seconds for the running tick.
        sender_s: seconds for the senders to finish their attempts.
    """

    tick_s: float = 10.0
    sender_s: float = 20.0


@dataclass(frozen=True, slots=True)
class SessionHealth:
    """The values of a session that health and readiness depend on, at one moment.

    Attributes:
        heartbeat_at: the last good poll, or the start if there was none yet.
        has_polled: whether there was a good poll in this session.
        senders_alive: the number of running senders of all sinks.
    """

    heartbeat_at: datetime
    has_polled: bool
    senders_alive: int


@dataclass(frozen=True, slots=True)
class DeliverySnapshot:
    """The state of the deliveries to one sink, at one moment.

    Attributes:
        in_flight: deliveries in the in-process queue or being sent.
        breaker: the state of the sink's circuit breaker.
        gone: whether the sink answered 410.
        failing_since: the first failure after the last success; None if deliveries do not fail.
        last_error_kind: of the last failure; None if deliveries do not fail.
    """

    in_flight: int
    breaker: BreakerState
    gone: bool
    failing_since: datetime | None
    last_error_kind: ErrorKind | None


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """The part of the status page that describes a session, at one moment.

    Attributes:
        failure: why polls fail now; None if they do not fail.
        next_in_s: seconds until the next poll.
        deliveries: one per sink, in the order of the settings.
        state: of the shop.
        is_circuit_open: whether the shop is paused after failures.
    """

    failure: PollFailure | None
    next_in_s: float
    deliveries: Sequence[DeliverySnapshot]
    state: ShopState
    is_circuit_open: bool


@dataclass(frozen=True, slots=True)
class LeaderSession:
    """A poller, and a dispatcher for each sink. They share one state writer."""

    poller: Poller
    state_writer: StateWriter
    dispatchers: Sequence[Dispatcher]

    def health(self) -> SessionHealth:
        """Return the values that health and readiness depend on."""
        senders_alive = sum(dispatcher.senders_alive for dispatcher in self.dispatchers)
        return SessionHealth(self.state_writer.heartbeat_at, self.poller.polled, senders_alive)

    def snapshot(self) -> SessionSnapshot:
        """Return what the status page shows."""
        return SessionSnapshot(
            failure=self.poller.failure,
            next_in_s=self.poller.next_in_s,
            deliveries=[_snapshot(one) for one in self.dispatchers],
            state=self.state_writer.state,
            is_circuit_open=self.poller.is_circuit_open,
        )

    def stop(self) -> None:
        """Start no new tick and no new claim."""
        self.poller.stop()
        for dispatcher in self.dispatchers:
            dispatcher.stop()

    async def run(self, stop: anyio.Event, *, polls: bool, grace: Grace) -> None:
        """Poll and deliver until stopped.

        Args:
            stop: no tick and no claim starts after it is set.
            polls: whether to poll the shop.
            grace: time for the work in progress after the stop.

        Raises:
            PermanentError: STORE, the state can no longer be used.
        """
        failures: list[PermanentError] = []
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_bounded, self.deliver, stop, grace.sender_s)
                if polls:
                    tasks.start_soon(_bounded, self.poller.run, stop, grace.tick_s)
                await stop.wait()
                self.stop()
        except* PermanentError as group:
            failures += leaves(group)
        for failure in failures:
            raise failure

    async def deliver(self, *, until_idle: bool = False) -> None:
        """Run all dispatchers.

        Args:
            until_idle: end as soon as no due delivery is left to attempt.

        Raises:
            PermanentError: STORE, the state can no longer be used.
        """
        failures: list[PermanentError] = []
        try:
            async with anyio.create_task_group() as tasks:
                for dispatcher in self.dispatchers:
                    tasks.start_soon(partial(dispatcher.run, until_idle=until_idle))
        except* PermanentError as group:
            failures += leaves(group)
        for failure in failures:
            raise failure


def _snapshot(dispatcher: Dispatcher) -> DeliverySnapshot:
    since = dispatcher.failing_since
    return DeliverySnapshot(
        in_flight=dispatcher.in_flight,
        breaker=dispatcher.breaker,
        gone=dispatcher.gone,
        failing_since=since,
        last_error_kind=dispatcher.last_error_kind if since is not None else None,
    )


async def _bounded(work: Callable[[], Awaitable[None]], stop: anyio.Event, grace_s: float) -> None:
    """Run some work. Cancel it if it does not end within the grace after the stop."""

    async def cut_short() -> None:
        await stop.wait()
        await anyio.sleep(grace_s)
        structlog.get_logger().warning("cut short", after_s=grace_s)
        tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cut_short)
        await work()
        tasks.cancel_scope.cancel()


def leaves(group: BaseExceptionGroup[PermanentError]) -> list[PermanentError]:
    """Return the errors in a group of groups."""
    found: list[PermanentError] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
