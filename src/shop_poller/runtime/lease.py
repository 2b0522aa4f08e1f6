"""Takes, renews and releases the lease: the right to write for a shop.

The leader works while it has the lease, and stops at once when it loses it. All other replicas wait.

wait ── take ──→ leader session: work, renew every few seconds ── stopped ──→ release
↑                  │
└──── lost, or not confirmed in time ────┘
"""

import math
from collections.abc import Awaitable, Callable

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.translatable import Text
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import Lease

TRY_EVERY_S = 1.0
"""How often a follower tries to take the lease.

So this is the longest wait after the leader stopped in order, or after the last term of a killed leader.
"""
RENEWALS = 4
"""Renewals per term: three may fail."""
LOOK_EVERY_S = 30.0
"""How often a lease without a term is checked: the state file may have been deleted or replaced."""
MARGIN_S = 1.0
"""Sending stops this long before the term ends: requests in flight arrive before another process leads."""


class LeaseKeeper:
    """Keeps the lease of one shop for this process.

    Args:
        lease: of the store.
        metrics: contain the gauge of the lease.

    Attributes:
        silence_s: for how many seconds the store did not answer before its latest answer.
        was_refused: whether our latest request was refused, because another process has the lease.
    """

    def __init__(self, lease: Lease, metrics: Metrics) -> None:
        self.silence_s = 0.0
        self.was_refused = False
        self._lease = lease
        self._metrics = metrics
        self._deadline = -math.inf
        self._silent_since: float | None = None
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    def is_held(self) -> bool:
        """Return whether the lease is certainly ours.

        The monotonic clock decides, so the result is correct even after the process was frozen.
        """
        return anyio.current_time() < self._deadline

    async def hold(self, work: Callable[[], Awaitable[None]], stop: anyio.Event) -> None:
        """Wait for the lease and work while it is ours. Repeat that after a loss, until stopped.

        Args:
            work: ends some time after the stop; is cancelled when the lease is lost.
            stop: ends the loop.
        """
        while not stop.is_set():
            if await self._took():
                await self._leader_session(work)
            if not stop.is_set():
                with anyio.move_on_after(TRY_EVERY_S):
                    await stop.wait()

    async def once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work with the lease, which must be free now.

        Raises:
            PermanentError: STORE, another process has it.
            TemporaryError: STORE.
        """
        if not await self._take():
            raise PermanentError(
                ErrorKind.STORE,
                Text(
                    "{holder} has the lease and works on this shop; stop it first, or look with --dry-run",
                    holder=await self._lease.holder(),
                ),
            )
        await self._leader_session(work)

    async def _took(self) -> bool:
        try:
            took = await self._take()
        except TemporaryError as error:
            self._note_answer(is_missing=True)
            self._metrics.store_error(StoreUse.LEASE)
            if self._changes.changed("lease", error.kind):
                self._log.error("the lease cannot be requested; retrying", error=str(error))
            return False
        if not took and self._changes.changed("lease", "follower"):
            self._log.info("following: another replica has the lease")
        return took

    async def _take(self) -> bool:
        requested_at = anyio.current_time()
        took = await self._lease.take()
        self.was_refused = not took
        self._note_answer()
        if took:
            self._good_from(requested_at)
        return took

    async def _leader_session(self, work: Callable[[], Awaitable[None]]) -> None:
        self._metrics.lease_held.set(1)
        if self._changes.changed("lease", "leader"):
            self._log.info("leading: the lease is ours")
        failures: list[ShopPollerError] = []
        try:
            async with anyio.create_task_group() as tasks:

                async def renew_or_stop() -> None:
                    try:
                        await self._renew()
                    except PermanentError as error:  # kept out of the group, as below
                        self._log.error("the state can no longer be used; stopping", error=str(error))
                        failures.append(error)
                    tasks.cancel_scope.cancel()

                tasks.start_soon(renew_or_stop)
                try:
                    await work()
                except ShopPollerError as error:  # kept out of the group, which would wrap it
                    failures.append(error)
                tasks.cancel_scope.cancel()
        finally:
            self._deadline = -math.inf
            self._metrics.lease_held.set(0)
            with anyio.CancelScope(shield=True):
                await self._release()
        for failure in failures:
            raise failure

    async def _renew(self) -> None:
        """Keep the lease. Return when it is lost.

        Raises:
            PermanentError: STORE, the state is no longer the one that was opened.
        """
        while True:
            with anyio.CancelScope(deadline=self._deadline):  # end in time, even if the store hangs
                await anyio.sleep(min(self._lease.term_s / RENEWALS, LOOK_EVERY_S))
                requested_at = anyio.current_time()
                try:
                    if not await self._lease.renew():
                        self._changes.changed("lease", "lost")
                        self._log.warning("the lease was lost; stopping the work that it covers")
                        return
                except TemporaryError as error:
                    self._note_answer(is_missing=True)
                    self._metrics.store_error(StoreUse.LEASE)
                    if self._changes.changed("renewal", error.kind):
                        self._log.error("the lease cannot be renewed; retrying", error=str(error))
                else:
                    self._changes.changed("renewal", "")
                    self._note_answer()
                    if self.is_held():  # a confirmation that comes too late does not count
                        self._good_from(requested_at)
            if not self.is_held():
                self._note_answer(is_missing=True)
                self._changes.changed("lease", "lost")
                self._log.warning("the lease expired; stopping the work that it covers")
                return

    def _good_from(self, requested_at: float) -> None:
        """Set the deadline. The store's term begins when it was asked, or later."""
        self._deadline = requested_at + self._lease.term_s - MARGIN_S

    def _note_answer(self, *, is_missing: bool = False) -> None:
        """Record that the store answered, or that it did not."""
        now = anyio.current_time()
        if is_missing:
            self._silent_since = self._silent_since if self._silent_since is not None else now
        else:
            self.silence_s = now - self._silent_since if self._silent_since is not None else 0.0
            self._silent_since = None

    async def _release(self) -> None:
        try:
            await self._lease.release()
        except TemporaryError:
            self._log.debug("the lease could not be released; it expires at the end of its term")
