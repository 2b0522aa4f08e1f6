"""What works on one shop while this process has the lease; built anew each time that it gets the lease."""

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
from shop_poller.ports import PollFailure


@dataclass(frozen=True, slots=True)
class Grace:
    """How long the work that is under way may go on after a stop.

    Attributes:
        tick_s: for the running tick.
        sender_s: for the senders, to end their attempts.
    """

    tick_s: float = 10.0
    sender_s: float = 20.0


@dataclass(frozen=True, slots=True)
class SessionHealth:
    """What health and readiness depend on, at one moment.

    Attributes:
        heartbeat_at: the last good poll, or the start if there was none yet.
        has_polled: there has been a good poll in this session.
        senders_alive: how many there are, of all sinks.
    """

    heartbeat_at: datetime
    has_polled: bool
    senders_alive: int


@dataclass(frozen=True, slots=True)
class DeliverySnapshot:
    """How the deliveries to one sink are, at one moment.

    Attributes:
        held: deliveries in the in-process queue and on their way.
        breaker: the state of the sink's circuit breaker.
        gone: the sink said 410.
        failing_since: when the first delivery failed after the last that did not; None if none fails.
        last_error_kind: how the last one failed; None if none fails.
    """

    held: int
    breaker: BreakerState
    gone: bool
    failing_since: datetime | None
    last_error_kind: ErrorKind | None


@dataclass(frozen=True, slots=True)
class SessionSnapshot:
    """What the status page shows of a session, at one moment.

    Attributes:
        failure: why polls fail now; None if they do not.
        next_in_s: seconds until the next poll.
        deliveries: one per sink, in the order of the settings.
    """

    failure: PollFailure | None
    next_in_s: float
    deliveries: Sequence[DeliverySnapshot]


@dataclass(frozen=True, slots=True)
class LeaderSession:
    """A poller and a dispatcher for each sink, over one state writer."""

    poller: Poller
    state_writer: StateWriter
    dispatchers: Sequence[Dispatcher]

    def health(self) -> SessionHealth:
        """What health and readiness depend on."""
        senders_alive = sum(dispatcher.senders_alive for dispatcher in self.dispatchers)
        return SessionHealth(self.state_writer.heartbeat_at, self.poller.polled, senders_alive)

    def snapshot(self) -> SessionSnapshot:
        """What the status page shows."""
        return SessionSnapshot(
            self.poller.failure, self.poller.next_in_s, [_snapshot(one) for one in self.dispatchers]
        )

    def stop(self) -> None:
        """No new tick, no new claim."""
        self.poller.stop()
        for dispatcher in self.dispatchers:
            dispatcher.stop()

    async def run(self, stop: anyio.Event, *, polls: bool, grace: Grace) -> None:
        """Poll and deliver until stopped.

        Args:
            stop: no new tick and no new claim from then on.
            polls: the shop is to be polled.
            grace: after the stop.

        Raises:
            PermanentError: STORE, the state cannot be used any more.
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

        Raises:
            PermanentError: STORE, the state cannot be used any more.
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
        held=dispatcher.held,
        breaker=dispatcher.breaker,
        gone=dispatcher.gone,
        failing_since=since,
        last_error_kind=dispatcher.last_error_kind if since is not None else None,
    )


async def _bounded(work: Callable[[], Awaitable[None]], stop: anyio.Event, grace_s: float) -> None:
    """Run some work; once stopped, it has a grace to come to its end."""

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
    """The errors in a group of groups."""
    found: list[PermanentError] = []
    for one in group.exceptions:
        found += leaves(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
