"""Many shops in one process, and shared with other replicas.

    look, every second: who is there? ──→ give away what is beyond our share, take what is free
                                                  │                         │
    each shop for itself:              last tick, release          store → house → lease → work

Every shop has a store, a lease, a breaker and a place in the interval of its own; its troubles stay its own.
Shared are the turns to ask a shop, the threads or the line to the state, and the metrics.
"""

import math
from collections.abc import Awaitable, Callable, Sequence

import anyio
import structlog
from anyio.abc import TaskGroup
from structlog.contextvars import bound_contextvars

from shop_poller.core.errors import ShopPollerError, TemporaryError
from shop_poller.core.schedule import SPREAD_S
from shop_poller.core.sharing import Leftovers, at_once, share, to_give, to_take
from shop_poller.house import House, built
from shop_poller.logs import Edges, Log
from shop_poller.metrics import Book
from shop_poller.pace import Turns
from shop_poller.ports import Crew, Store
from shop_poller.settings import Settings, SettingsError
from shop_poller.shift import SENDER_GRACE_S, TICK_GRACE_S, work

LOOK_EVERY_S = 1.0
RIVAL_S = 3.0
"""How long somebody may have a lease, and we no answer whether it is ours, before we leave them that shop."""
RETRY_S = 30.0
"""What cannot be begun for one shop is tried again after so long."""
SETTLE_S = SPREAD_S + RETRY_S
"""For so long nobody wonders about a shop that was just taken, or whose lease was lost."""
HANDOVER_GRACE_S = 5.0
"""For the tick and the attempts to deliver that are under way when a shop goes to another replica."""


class Berth:
    """A shop that this process watches, or is about to.

    Args:
        settings: of the shop.

    Attributes:
        stop: ends it in good order.
        house: its parts, as soon as they are built.
        since: when it was taken, on the loop's clock.
        well_at: when all was well with it last, as far as was looked; at first, when it was taken.
        edges: what was said about it last.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.stop = anyio.Event()
        self.house: House | None = None
        self.since = self.well_at = anyio.current_time()
        self.edges = Edges()

    @property
    def leads(self) -> bool:
        """Whether the right to write for the shop is ours."""
        return self.house is not None and self.house.lease.held()

    @property
    def is_unwell(self) -> bool:
        """Whether the shop is not watched, or was not polled in good time; not before it could be."""
        late_at = anyio.current_time() - SETTLE_S
        if self.house is None or not self.leads:
            return self.well_at < late_at
        return self.settings.shop_polling_enabled and self.house.monitor.is_stale and self.since < late_at

    def look(self) -> None:
        """Remember that all is well, if it is."""
        if self.leads and not self.is_unwell:
            self.well_at = anyio.current_time()


class Fleet:
    """The shops that one process watches.

    Args:
        shops: all there are, shared with other replicas or not.
        open_store: opens the store of a shop.
        book: where metrics are kept.
        turns: to ask a shop.
        crew: the replicas; None if there can be no other.
        name: of this replica.

    Attributes:
        berths: the shops that are ours now, by their ids.
        replicas: how many there were at the last look.
        looked_at: when that was, on the loop's clock.
        is_blind: at the last look it could not be seen who is there.
    """

    def __init__(
        self,
        shops: Sequence[Settings],
        open_store: Callable[[Settings], Awaitable[Store]],
        *,
        book: Book,
        turns: Turns,
        crew: Crew | None,
        name: str,
    ) -> None:
        self.shops = {shop.shop: shop for shop in shops}
        self.berths: dict[str, Berth] = {}
        self.replicas = 1
        self.looked_at = -math.inf
        self.is_blind = False
        self._open_store = open_store
        self._book = book
        self._turns = turns
        self._crew = crew
        self._name = name
        self._there: list[str] = []
        self._leftovers = Leftovers()
        self._beyond: set[str] = set()  # our share: taken since nobody else did
        self._edges = Edges()
        self._log: Log = structlog.get_logger()

    async def watch(self, stop: anyio.Event) -> None:
        """Watch our share of the shops until stopped."""
        async with anyio.create_task_group() as tasks:
            if self._crew is None:
                for shop_id in self.shops:
                    self._begin(shop_id, tasks)
            while not stop.is_set():
                if self._crew is not None:
                    await self._look_about(self._crew, tasks)
                for berth in self.berths.values():
                    berth.look()
                self.looked_at = anyio.current_time()
                with anyio.move_on_after(LOOK_EVERY_S):
                    await stop.wait()
            for berth in self.berths.values():
                berth.stop.set()
            if self._crew is not None:  # now, so that the others take each shop as soon as it is let go of
                await self._leave(self._crew)

    async def _look_about(self, crew: Crew, tasks: TaskGroup) -> None:
        """Look; if nothing is seen, whoever leads goes on leading for as long as the lease says."""
        try:
            await self._look(crew, tasks)
        except TemporaryError as error:
            self.is_blind = True
            if self._edges.changed("crew", error.kind):
                self._log.error("the other replicas cannot be seen; trying on", error=str(error))
        except Exception as bug:  # noqa: BLE001 - it must not end the watch of what we have
            self.is_blind = True
            if self._edges.changed("crew", repr(bug)):
                self._log.error("a bug, please report it; trying on", error=str(bug), exc_info=bug)
        else:
            self.is_blind = False

    async def _look(self, crew: Crew, tasks: TaskGroup) -> None:
        """See who is there and which shops are free; take and give away.

        Raises:
            TemporaryError: STORE.
        """
        ids = list(self.shops)
        there = await crew.stay()
        leased = await crew.leased([self.shops[shop_id].shop_redis_prefix for shop_id in ids])
        if self._edges.changed("crew", ",".join(there)):
            self._log.info("replicas", there=len(there), shops=len(ids))
        self.replicas = max(1, len(there))
        taken = {shop_id for shop_id, is_leased in zip(ids, leased, strict=True) if is_leased}
        self._leave_to_rivals(taken)
        # Who comes may know what the others did not, and who goes leaves room: all is shared out anew.
        self._beyond = self._beyond & self.berths.keys() if there == self._there else set()
        self._there = there
        mine = [
            shop_id
            for shop_id, berth in self.berths.items()
            if not berth.stop.is_set() and shop_id not in self._beyond
        ]
        for shop_id in to_give(self._name, there, shops=len(ids), mine=mine):
            self.berths[shop_id].stop.set()
        free = [shop_id for shop_id in ids if shop_id not in taken and shop_id not in self.berths]
        left = self._leftovers.at(anyio.current_time(), free)[: at_once(share(len(ids), len(there)))]
        ours = to_take(self._name, there, shops=len(ids), mine=len(mine), free=free)
        if not ours:
            self._beyond.update(left)
        for shop_id in ours or left:
            self._begin(shop_id, tasks)

    def _leave_to_rivals(self, taken: set[str]) -> None:
        """Two wanted the same shop, and the other was quicker; or the lease is ours from before a break."""
        for shop_id, berth in self.berths.items():
            if shop_id in taken and not berth.leads:
                was_refused = berth.house is not None and berth.house.lease.was_refused
                if was_refused or anyio.current_time() > berth.since + RIVAL_S:
                    berth.stop.set()

    async def _leave(self, crew: Crew) -> None:
        try:
            with anyio.CancelScope(shield=True):
                await crew.leave()
        except TemporaryError:
            self._log.debug("the others will see by themselves that we are gone")

    def _begin(self, shop_id: str, tasks: TaskGroup) -> None:
        self.berths[shop_id] = Berth(self.shops[shop_id])
        tasks.start_soon(self._keep, self.berths[shop_id])

    async def _keep(self, berth: Berth) -> None:
        """Watch one shop until it is to be given away; what goes wrong with it is no other shop's trouble."""
        shop = berth.settings.shop
        try:
            with bound_contextvars(shop=shop):
                while not berth.stop.is_set():
                    try:
                        await self._hold(berth)
                    except (SettingsError, ShopPollerError) as error:
                        self._complain(berth, error, "the shop cannot be watched; trying on")
                    except Exception as bug:  # noqa: BLE001 - it must not end the watch of all the others
                        self._complain(berth, bug, "a bug, please report it; trying on", exc_info=bug)
                    with anyio.move_on_after(RETRY_S):
                        await berth.stop.wait()
        finally:
            del self.berths[shop]

    async def _hold(self, berth: Berth) -> None:
        settings, stop = berth.settings, berth.stop
        store = await self._open_store(settings)
        async with built(settings, store, book=self._book, turns=self._turns) as house:
            berth.house = house
            # With other replicas a shop is not to be without anybody for long.
            grace_s = math.inf if self._crew is None else HANDOVER_GRACE_S

            async def watch() -> None:
                berth.edges.changed("watch", "")
                await work(
                    settings,
                    store,
                    house,
                    stop,
                    tick_grace_s=min(TICK_GRACE_S, grace_s),
                    sender_grace_s=min(SENDER_GRACE_S, grace_s),
                )

            try:
                await house.lease.hold(watch, stop)
            finally:
                berth.house = None
                self._book.forget(settings.shop)

    def _complain(
        self, berth: Berth, error: Exception, event: str, *, exc_info: Exception | None = None
    ) -> None:
        if berth.edges.changed("watch", str(error)):
            self._log.error(event, error=str(error), exc_info=exc_info)
