"""Collects the data of the overview of several shops, while somebody looks at it.

    a reader looks ──→ the rows that were gathered last
          └──→ for LOOKING_S: the stores read longest ago, a few at a time ──→ rows, gathered again

Each store is read once per FRESH_S at most. What this process knows of the shops that it watches is as of the
moment when rows are gathered. Counts, and all that is known of shops of other replicas, are of the stores.
"""

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import anyio
import structlog
from anyio.lowlevel import checkpoint

from shop_poller import INTERNAL_ERROR
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.messages import Locale
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.ports import Store
from shop_poller.runtime.fleet import Fleet
from shop_poller.runtime.followed_shop import UnwatchedShop, followed_overview
from shop_poller.runtime.shop_runtime import ShopRuntime
from shop_poller.runtime.shop_summary import StoredSummary
from shop_poller.runtime.status_page_data import Overview
from shop_poller.web.fleet_snapshot import FleetRow
from shop_poller.web.snapshot import PageBackend

FRESH_S = 10.0
"""A store is not read again within this time."""
READ_EVERY_S = 0.05
"""Nor more often than one store per this time on average: a thousand shops are read once in 50 s."""
AT_ONCE = 8
"""How many stores are read at the same time."""
MOST_READ = 200
"""How many stores are read before the rows are gathered again."""
FIRST_S = 1.0
"""How long a reader waits for stores that were not read lately."""
GATHER_EVERY_S = 1.0
"""All readers share the same rows for this time."""
GATHER_EACH_S = 0.005
"""And for this time per shop: a thousand rows are made once in 5 s."""
LOOKING_S = 20.0
"""For so long after somebody looked, the rows are kept new. The page refreshes itself more often."""
TURN = 50
"""After so many rows, other tasks of the process run."""


class FleetOverview:
    """The data of several shops. For the methods see web.fleet_snapshot.FleetBackend.

    Args:
        fleet: the shops.
        open_store: opens the store of a shop that another replica watches; None if no other replica can.
        name: of this replica.
        tags: of the shops that have any.
    """

    def __init__(
        self,
        fleet: Fleet,
        *,
        open_store: Callable[[Settings], Awaitable[Store]] | None,
        name: str,
        tags: Mapping[str, Sequence[str]],
    ) -> None:
        self._fleet = fleet
        self._open_store = open_store
        self._name = "/".join(name.split("/")[:2])
        self._tags = tags
        self._fresh_s = max(FRESH_S, READ_EVERY_S * len(fleet.shops))
        self._gather_every_s = max(GATHER_EVERY_S, GATHER_EACH_S * len(fleet.shops))
        self._here: dict[str, tuple[ShopRuntime, Overview]] = {}
        self._elsewhere: dict[str, tuple[Store, Overview]] = {}
        self._opening = anyio.Lock()
        self._unwatched: dict[str, UnwatchedShop] = {}
        self._unexported = MetricsRegistry(is_crowded=True)
        self._stored: dict[str, tuple[StoredSummary, float]] = {}  # and when it was read
        self._wanted = anyio.Event()
        self._looked_at = -math.inf
        self._gathered = anyio.Event()  # set, and replaced, when there are new rows
        self._rows: Sequence[FleetRow] = ()
        self._gathered_at = -math.inf
        self._gathering = anyio.Lock()
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    @property
    def shops(self) -> Mapping[str, Settings]:
        """The settings of all shops, by their ids."""
        return self._fleet.shops

    def is_here(self, shop: str) -> bool:
        """Return whether this process watches the shop, or waits for its lease."""
        return self._runtime(shop) is not None

    def sinks(self, shop: str) -> list[str]:
        """Return the names of a shop's sinks."""
        return [sink.name for sink in self._fleet.shops[shop].sinks]

    def locale(self, shop: str) -> Locale:
        """Return the language of a shop, or of the first one if there is no such shop."""
        shops = self._fleet.shops
        return (shops.get(shop) or next(iter(shops.values()))).shop_locale

    async def rows(self) -> Sequence[FleetRow]:
        """Return what is known. Wait a moment if nothing is, because nobody looked for long."""
        self._looked_at = anyio.current_time()
        self._wanted.set()
        if not self._is_recent():
            with anyio.move_on_after(FIRST_S):
                await self._gathered.wait()
            if not self._is_recent():
                await self._gather()
        return self._rows

    async def backend(self, shop: str) -> PageBackend:
        """Return the data and the actions of a shop: of this process, or of its store."""
        found = await self._overview(shop)
        return self._unwatched_shop(shop) if found is None else found

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Close the stores of other replicas' shops at the end of the context."""
        try:
            yield
        finally:
            for store, _ in self._elsewhere.values():
                await store.aclose()

    async def refresh(self) -> None:
        """Read stores and gather rows as long as somebody looks, forever."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            while anyio.current_time() < self._looked_at + LOOKING_S:
                due = self._due()
                await self._read_each(due[:MOST_READ])
                await self._close_those_here()
                await self._gather()
                done, self._gathered = self._gathered, anyio.Event()
                done.set()
                await anyio.sleep(0 if len(due) > MOST_READ else self._gather_every_s)

    def _due(self) -> list[str]:
        """Return the shops whose stores are to be read: those unread for long, and some of the others."""
        oldest = sorted(self._fleet.shops, key=self._age_s, reverse=True)
        some = math.ceil(len(oldest) * self._gather_every_s / self._fresh_s)
        return [
            shop
            for place, shop in enumerate(oldest)
            if self._is_unknown(shop) or (place < some and self._age_s(shop) >= self._fresh_s)
        ]

    def _is_unknown(self, shop: str) -> bool:
        """Return whether nothing can be shown of a shop: not read lately, or it left this process."""
        recent = self._recent(shop)
        has_left = self._open_store is not None and self._known_overview(shop) is None
        return recent is None or (has_left and not recent.trouble)

    async def _gather(self) -> None:
        """Make the rows again."""
        async with self._gathering:
            rows = []
            for number, shop in enumerate(self._fleet.shops, 1):
                rows.append(self._row(shop))
                if number % TURN == 0:
                    await checkpoint()
            self._rows, self._gathered_at = rows, anyio.current_time()

    def _is_recent(self) -> bool:
        """Return whether the rows may be shown as they are."""
        return anyio.current_time() < self._gathered_at + 2 * self._gather_every_s + FIRST_S

    async def _read_each(self, shops: Sequence[str]) -> None:
        remaining = iter(shops)

        async def read_some() -> None:
            for shop in remaining:
                await self._read_one(shop)

        async with anyio.create_task_group() as tasks:
            for _ in range(AT_ONCE):
                tasks.start_soon(read_some)

    async def _read_one(self, shop: str) -> None:
        try:
            stored = await self._summary(shop)
        except ShopPollerError as error:
            stored = StoredSummary(trouble=error.text)
        except Exception as bug:  # noqa: BLE001 - a fault of one store must not stop the daemon
            if self._changes.changed(shop, repr(bug)):
                self._log.error(
                    "internal error (bug): please report it; retrying",
                    shop=shop,
                    error=str(bug),
                    exc_info=bug,
                )
            stored = StoredSummary(trouble=INTERNAL_ERROR)
        self._stored[shop] = stored, anyio.current_time()

    async def _summary(self, shop: str) -> StoredSummary:
        overview = await self._overview(shop)
        if overview is None:
            return StoredSummary()
        if shop in self._elsewhere:
            await self._elsewhere[shop][0].ask_clock()  # else only the replica that watches it does
        return await overview.read_summary(self._fleet.shops[shop].time_zone)

    async def _close_those_here(self) -> None:
        """Close the stores of shops that this process watches by now: it has others for them."""
        for shop in [shop for shop in self._elsewhere if self.is_here(shop)]:
            store, _ = self._elsewhere.pop(shop)
            await store.aclose()

    def _row(self, shop: str) -> FleetRow:
        settings, stored = self._fleet.shops[shop], self._recent(shop)
        overview = self._known_overview(shop)
        snapshot, replica = None, ""
        if overview is not None and stored is not None:
            snapshot = overview.summary(stored)
            replica = self._name if snapshot.leads else stored.leader
        elif overview is None and self._is_failed(shop):
            snapshot = self._unwatched_shop(shop).described()
        is_known = stored is not None and not stored.trouble
        return FleetRow(
            shop=shop,
            name=settings.display_name,
            tags=self._tags.get(shop, ()),
            zone=settings.time_zone,
            snapshot=snapshot,
            replica=replica,
            orders=stored.orders if stored is not None and is_known else None,
            delivered=stored.delivered if stored is not None and is_known else None,
        )

    def _runtime(self, shop: str) -> ShopRuntime | None:
        slot = self._fleet.slots.get(shop)
        return slot.shop_runtime if slot is not None else None

    def _is_failed(self, shop: str) -> bool:
        slot = self._fleet.slots.get(shop)
        return slot is not None and bool(slot.failure)

    def _unwatched_shop(self, shop: str) -> UnwatchedShop:
        is_failed, kept = self._is_failed(shop), self._unwatched.get(shop)
        if kept is None or kept.is_failed != is_failed:
            kept = self._unwatched[shop] = UnwatchedShop(self._fleet.shops[shop], is_failed=is_failed)
        return kept

    def _known_overview(self, shop: str) -> Overview | None:
        """Return the data of a shop; None if its store was not opened yet."""
        shop_runtime = self._runtime(shop)
        if shop_runtime is None:
            self._here.pop(shop, None)
            kept_elsewhere = self._elsewhere.get(shop)
            return kept_elsewhere[1] if kept_elsewhere is not None else None
        kept = self._here.get(shop)
        if kept is None or kept[0] is not shop_runtime:
            kept = self._here[shop] = shop_runtime, shop_runtime.overview()
        return kept[1]

    async def _overview(self, shop: str) -> Overview | None:
        """Return the data of a shop; None if only this process could watch it, and does not."""
        found = self._known_overview(shop)
        if found is not None or self._open_store is None:
            return found
        async with self._opening:
            if shop not in self._elsewhere:
                settings = self._fleet.shops[shop]
                store = await self._open_store(settings)
                self._elsewhere[shop] = store, followed_overview(settings, store, self._unexported)
        return self._elsewhere[shop][1]

    def _age_s(self, shop: str) -> float:
        stored = self._stored.get(shop)
        return math.inf if stored is None else anyio.current_time() - stored[1]

    def _recent(self, shop: str) -> StoredSummary | None:
        """Return what was read of a shop; None if that is too long ago to be shown."""
        stored = self._stored.get(shop)
        return None if stored is None or self._age_s(shop) > 3 * self._fresh_s else stored[0]
