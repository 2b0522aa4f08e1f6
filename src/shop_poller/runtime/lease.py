"""The right to write for a shop: who has it works, who loses it stops at once, everybody else waits.

wait ── take ──→ leader session: work, renew every few seconds ── stopped ──→ release
↑                  │
└──── lost, or not known in time to be still ours ────┘
"""

import math
from collections.abc import Awaitable, Callable

import anyio
import structlog

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics, StoreUse
from shop_poller.ports import Lease

TRY_EVERY_S = 1.0
"""How long after a clean stop, or after the last term of one that was killed, a follower leads at most."""
RENEWALS = 4
"""In a term: three may fail."""
LOOK_EVERY_S = 30.0
"""How often a right without a term is looked at: the state file may have been deleted or replaced."""
MARGIN_S = 1.0
"""Before the term ends nothing is sent any more: what is on its way then has arrived before another leads."""


class LeaseKeeper:
    """One process's view of the right to write.

    Args:
        lease: the store's.
        metrics: have the gauge.

    Attributes:
        silence_s: for how long the store had not answered before it did last.
        was_refused: whether another process had the right when we asked for it last.
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

    def held(self) -> bool:
        """Whether the right is surely ours, by the monotonic clock: so also after having been frozen."""
        return anyio.current_time() < self._deadline

    async def hold(self, work: Callable[[], Awaitable[None]], stop: anyio.Event) -> None:
        """Wait for the right, work while it is ours, and again if it was lost; until stopped.

        Args:
            work: ends some time after the stop; is cancelled when the right is lost.
            stop: ends it.
        """
        while not stop.is_set():
            if await self._took():
                await self._leader_session(work)
            if not stop.is_set():
                with anyio.move_on_after(TRY_EVERY_S):
                    await stop.wait()

    async def once(self, work: Callable[[], Awaitable[None]]) -> None:
        """Work with the right, which must be free now.

        Raises:
            PermanentError: STORE, another process has it.
            TemporaryError: STORE.
        """
        if not await self._take():
            raise PermanentError(
                ErrorKind.STORE,
                f"{await self._lease.holder()} has the lease and works on this shop; stop it first,"
                " or look with --dry-run",
            )
        await self._leader_session(work)

    async def _took(self) -> bool:
        try:
            took = await self._take()
        except TemporaryError as error:
            self._heard(nothing=True)
            self._metrics.store_error(StoreUse.LEASE)
            if self._changes.changed("lease", error.kind):
                self._log.error("the lease cannot be asked for; trying on", error=str(error))
            return False
        if not took and self._changes.changed("lease", "follower"):
            self._log.info("following: another replica has the lease")
        return took

    async def _take(self) -> bool:
        requested_at = anyio.current_time()
        took = await self._lease.take()
        self.was_refused = not took
        self._heard()
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
                        self._log.error("the state cannot be used any more; stopping", error=str(error))
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
        """Keep the right; returns when it is lost.

        Raises:
            PermanentError: STORE, the state is not the one that was opened any more.
        """
        while True:
            with anyio.CancelScope(deadline=self._deadline):  # not a moment longer, whatever the store does
                await anyio.sleep(min(self._lease.term_s / RENEWALS, LOOK_EVERY_S))
                requested_at = anyio.current_time()
                try:
                    if not await self._lease.renew():
                        self._changes.changed("lease", "lost")
                        self._log.warning("the lease was lost; what it covers stops")
                        return
                except TemporaryError as error:
                    self._heard(nothing=True)
                    self._metrics.store_error(StoreUse.LEASE)
                    if self._changes.changed("renewal", error.kind):
                        self._log.error("the lease cannot be renewed; trying on", error=str(error))
                else:
                    self._changes.changed("renewal", "")
                    self._heard()
                    if self.held():  # a yes that comes too late is a no
                        self._good_from(requested_at)
            if not self.held():
                self._heard(nothing=True)
                self._changes.changed("lease", "lost")
                self._log.warning("the lease ran out; what it covers stops")
                return

    def _good_from(self, requested_at: float) -> None:
        """The store counts the term from when it was asked at the earliest."""
        self._deadline = requested_at + self._lease.term_s - MARGIN_S

    def _heard(self, *, nothing: bool = False) -> None:
        """The store answered, or did not."""
        now = anyio.current_time()
        if nothing:
            self._silent_since = self._silent_since if self._silent_since is not None else now
        else:
            self.silence_s = now - self._silent_since if self._silent_since is not None else 0.0
            self._silent_since = None

    async def _release(self) -> None:
        try:
            await self._lease.release()
        except TemporaryError:
            self._log.debug("the lease could not be released; it ends by itself")
