"""The real poller on the real source of a dialect, wired to a simulated shop: no sockets, virtual time.

From the HTTP client up all of it is the daemon's own; below it is a wire that asks the simulator's endpoint.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Literal, TypeAlias
from unittest.mock import patch

import anyio
from structlog.testing import capture_logs

from shop_poller.alerts import AlertManager
from shop_poller.core.filters import EVERYTHING
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import Notification, Page, Query
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.poller import Poller
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import NewDelivery, Source
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY, DEMO_PASSWORD
from shop_poller.simulator.listing import HONEST, Found, Listing, Paging, select
from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.routes import ROUTES
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.sources.woocommerce import open_refunds, open_source
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys
from shop_poller.sources.woocommerce.statuses import MEANINGS
from shop_poller.stores.sqlite import SqliteStore
from support.no_sockets import small_pages, wire_to
from support.virtual_time import EPOCH

SHOP_ID = "shop.example"
URL = f"https://{SHOP_ID}"
SINK = "sink"
INTERVAL_S = 60.0
CREDENTIALS = KnownKeys(
    DEMO_KEY.consumer_key, DEMO_KEY.consumer_secret, DEMO_PASSWORD.username, DEMO_PASSWORD.password
)
PLAN = PollPlan(SHOP_ID, MEANINGS, interval_s=INTERVAL_S, sweep_every=timedelta(hours=1))

Moment: TypeAlias = Literal["asked", "selected"]
"""Before the shop looks into its database; after it chose the orders of an answer, before it loads them."""


@dataclass(frozen=True)
class Sight:
    """An answer that polling got: what it asked, and the orders that it was shown, as the shop had them.

    Attributes:
        readable: in the order of the page.
        unreadable: ids of orders that the source set aside.
    """

    query: Query
    readable: Sequence[SimulatedOrder]
    unreadable: Sequence[int]


class Bench:
    """A shop, somebody who polls it, and what the two showed and told.

    Args:
        dialect: how the shop is asked.
        store: an empty one.
        zone: the shop's.
        plan: how it is polled.
        epoch: true time at the beginning.
        shop_ahead: how far the shop's clock is ahead of true time, its stamps and its Date header.
        host_ahead: how far our own clock is.
        refunds: whether the shop's list of refunds is read.

    Attributes:
        meanwhile: happens at the moments of every answer; takes the ids that were selected.
        sights: what polling was shown and nobody took yet.
        told: all notifications that were committed, in order.
        loaded: how the shop loaded each order since the last question.
    """

    state_writer: StateWriter
    poller: Poller

    def __init__(
        self,
        dialect: Dialect,
        store: SqliteStore,
        *,
        zone: str,
        plan: PollPlan,
        epoch: datetime,
        shop_ahead: timedelta,
        host_ahead: timedelta,
        refunds: bool,
    ) -> None:
        self.dialect = dialect
        self.store = store
        self.plan = plan
        self.shop_ahead = shop_ahead
        self.host_ahead = host_ahead
        self.meanwhile: Callable[[Moment, Sequence[int]], None] = lambda _, __: None
        self.sights: deque[Sight] = deque()
        self.told: list[Notification] = []
        self.loaded: dict[int, list[SimulatedOrder]] = {}
        self.shop = SimulatedShop(lambda: self.time() + self.shop_ahead, zone, url=URL, first_id=1)
        self.endpoint = Endpoint(self.shop, offers=ROUTES, require_https=True)
        self._epoch = epoch
        self._origin = anyio.current_time()
        self._source: Source | None = None
        self._reads_refunds = refunds

    async def start(self) -> None:
        """The daemon starts; if it ran already, it ends first, and goes on with the state that it left."""
        await self.end()
        await self.store.take()
        metrics, message_format = Metrics(SHOP_ID, [SINK]), MessageFormat(SHOP_ID)
        alert_manager = AlertManager(
            self.store,
            history=self.store,
            message_format=message_format,
            sinks={SINK: EVERYTHING},
            now=self.host_now,
            on_new_deliveries=lambda: None,
        )
        await alert_manager.load()
        self.state_writer = StateWriter(
            await self.store.register(SHOP_ID, self.host_now()),
            orders=self.store,
            message_format=message_format,
            sinks={SINK: EVERYTHING},
            metrics=metrics,
            now=self.host_now,
            on_new_deliveries=self._announce,
        )
        await self.state_writer.load()
        self._source = open_source(self.dialect, URL, CREDENTIALS)
        witness = Witness(self, self._source)
        self.poller = Poller(
            self.plan,
            state_writer=self.state_writer,
            fetcher=Fetcher(witness, shop=SHOP_ID, metrics=metrics, random=lambda: 0.5),
            orders=self.store,
            retention=self.store,
            alert_manager=alert_manager,
            metrics=metrics,
            clock=ClockWatch(self.host_now, metrics=metrics),
            refunds=open_refunds(URL, CREDENTIALS) if self._reads_refunds else None,
        )

    async def end(self) -> None:
        """Say goodbye to the shop."""
        if self._source is not None:
            await self._source.aclose()

    def time(self) -> datetime:
        """True time, to the millisecond."""
        ms = round((anyio.current_time() - self._origin) * 1000)
        return self._epoch + timedelta(milliseconds=ms)

    def host_now(self) -> datetime:
        """Our clock."""
        return self.time() + self.host_ahead

    async def tick(self) -> TickReport:
        """One tick, as if the next one were due an interval later."""
        return await self.poller.tick(anyio.current_time() + INTERVAL_S)

    async def between_ticks(self) -> TickReport:
        """What is done until the next tick."""
        report = TickReport()
        await self.poller.between_ticks(report, anyio.current_time() + INTERVAL_S)
        return report

    def select(self, orders: Iterable[SimulatedOrder], listing: Listing, paging: Paging = HONEST) -> Found:
        """As WooCommerce does it: choose the ids, then load the orders; some may have changed meanwhile."""
        found = select(orders, listing, paging)
        self.meanwhile("selected", [order.id for order in found.orders])
        there = {order.id: order for order in self.shop.orders}
        loaded = [there[order.id] for order in found.orders if order.id in there]
        for order in loaded:
            self.loaded.setdefault(order.id, []).append(order)
        return replace(found, orders=loaded)

    def _announce(self, new: Sequence[NewDelivery]) -> None:
        self.told += [new_deliveries.notification for new_deliveries in new]


class Witness:
    """A source that notes what polling is shown."""

    def __init__(self, bench: Bench, source: Source) -> None:
        self._bench = bench
        self._source = source
        self.most_ids = source.most_ids

    async def fetch(self, query: Query) -> Page:
        self._bench.loaded.clear()
        page = await self._source.fetch(query)
        readable = [self._as_loaded(order.id, order.status) for order in page.orders]
        shown = {order.id for order in readable}
        unreadable = [item.id for item in page.items if item.id not in shown]
        self._bench.sights.append(Sight(query, readable, unreadable))
        return page

    def _as_loaded(self, order_id: int, status: str) -> SimulatedOrder:
        """The order behind one that the source read: the shop must have shown it just so."""
        versions = [order for order in self._bench.loaded.get(order_id, ()) if order.status == status]
        assert versions, f"the source shows order {order_id} as {status}; the shop did not"
        return versions[-1]

    async def aclose(self) -> None:
        await self._source.aclose()


@asynccontextmanager
async def bench_for(
    dialect: Dialect,
    *,
    zone: str = "Europe/Moscow",
    plan: PollPlan = PLAN,
    epoch: datetime = EPOCH,
    shop_ahead: timedelta = timedelta(0),
    host_ahead: timedelta = timedelta(0),
    per_page: int = 5,
    refunds: bool = False,
) -> AsyncIterator[Bench]:
    """Put a shop and the daemon on the bench. Pages are small, so that a few orders make many of them."""
    async with AsyncExitStack() as stack:
        stack.enter_context(capture_logs())  # days of lines that nobody reads
        stack.enter_context(small_pages(per_page))
        store = await SqliteStore.empty()
        stack.push_async_callback(store.aclose)
        bench = Bench(
            dialect,
            store,
            zone=zone,
            plan=plan,
            epoch=epoch,
            shop_ahead=shop_ahead,
            host_ahead=host_ahead,
            refunds=refunds,
        )

        def on_question() -> None:
            bench.meanwhile("asked", ())

        stack.enter_context(
            patch("shop_poller.http.client.http_transport", partial(wire_to, bench.endpoint, on_question))
        )
        for room in ("tools", "abilities", "rest"):
            stack.enter_context(patch(f"shop_poller.simulator.{room}.select", bench.select))
        await bench.start()
        stack.push_async_callback(bench.end)
        yield bench
