"""One of the shops that this process watches: its parts, its status, and the task that runs it."""

from dataclasses import replace

import anyio

from shop_poller.config.settings import Settings
from shop_poller.core.errors import TemporaryError
from shop_poller.core.reach import Polls
from shop_poller.core.schedule import SPREAD_S
from shop_poller.observability.logging import ChangeLogger
from shop_poller.runtime.leader_session import Grace
from shop_poller.runtime.shop_runtime import ShopRuntime

RETRY_S = 30.0
"""A shop that cannot be watched is retried after this time."""
STARTUP_S = SPREAD_S + RETRY_S
"""A shop that was just taken, or whose lease was lost, does not count as unwell for this time."""


class ShopSlot:
    """A shop that this process watches, or is about to.

    Args:
        settings: of the shop.

    Attributes:
        settings: of the shop.
        stop: ends the watch in order.
        shop_runtime: the parts; None while they are not built.
        since: when the shop was taken, on the event loop's clock.
        well_at: when the shop was last healthy; initially, when it was taken.
        changes: what was last logged about the shop.
        failure: why the last attempt to watch it failed; "" once an attempt succeeds.
    """

    def __init__(self, settings: Settings) -> None:
        self.failure = ""
        self.settings = settings
        self.stop = anyio.Event()
        self.shop_runtime: ShopRuntime | None = None
        self.since = self.well_at = anyio.current_time()
        self.changes = ChangeLogger()

    @property
    def leads(self) -> bool:
        """Return whether this process has the lease of the shop."""
        return self.shop_runtime is not None and self.shop_runtime.lease.is_held()

    @property
    def is_unwell(self) -> bool:
        """Return whether the shop is not watched, or was not polled in time.

        It is not unwell within STARTUP_S after it was taken or lost its lease.
        """
        late_at = anyio.current_time() - STARTUP_S
        if self.shop_runtime is None or not self.leads:
            return self.well_at < late_at
        return (
            self.settings.shop_polling_enabled
            and self.shop_runtime.health_reporter.is_stale
            and self.since < late_at
        )

    @property
    def polls(self) -> Polls | None:
        """Return the results of requests to the shop; None if it is not polled here or is being released."""
        session = self.shop_runtime.session if self.shop_runtime is not None else None
        if session is None or self.stop.is_set() or not self.settings.shop_polling_enabled:
            return None
        not_before = anyio.current_time() + session.poller.pause_s
        return replace(session.poller.polls, not_before=not_before)

    def note_health(self) -> None:
        """Record the time if the shop is healthy."""
        if self.leads and not self.is_unwell:
            self.well_at = anyio.current_time()

    def note_watched(self) -> None:
        """Record that the shop is watched. The next failure is logged again."""
        self.changes.changed("watch", "")
        self.failure = ""


async def run_shop(slot: ShopSlot, shop_runtime: ShopRuntime, grace: Grace) -> None:
    """Watch one shop until its slot is stopped: wait for the lease, then poll and deliver while we have it.

    Args:
        slot: of the shop.
        shop_runtime: its parts.
        grace: time for the work in progress at the stop.

    Raises:
        PermanentError: STORE, the state can no longer be used.
    """

    async def lead() -> None:
        slot.note_watched()
        try:
            try:
                await shop_runtime.warn_of_orphans()
                # Last, so that /healthz never sees a session whose senders have not started.
                session = await shop_runtime.begin()
            except TemporaryError as error:
                shop_runtime.complain(error)
                return
            await session.run(slot.stop, polls=slot.settings.shop_polling_enabled, grace=grace)
        finally:
            shop_runtime.end()

    await shop_runtime.lease.hold(lead, slot.stop)
