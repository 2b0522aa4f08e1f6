"""The real poller, dispatchers and store between a fake shop and fake sinks."""

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import anyio

from shop_poller.alerts import AlertManager
from shop_poller.core.digests import DigestSchedule
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.filters import EVERYTHING, Filter
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import Delivery, Order, Page, Query, Refund, UnreadableOrder
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import DeliveryPlan, Dispatcher
from shop_poller.delivery.gathering import SinkTiming
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.digest_maker import DigestMaker
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.polling.plan import PollPlan
from shop_poller.polling.poller import Poller
from shop_poller.polling.state_writer import StateWriter
from shop_poller.ports import Batch, NewDelivery
from shop_poller.sources.woocommerce.statuses import MEANINGS, OWN
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import new_delivery, notification
from support.virtual_time import virtual_now

SHOP = "shop.example"


def down(kind: ErrorKind = ErrorKind.CONNECTION, retry_after_s: float | None = None) -> TemporaryError:
    return TemporaryError(kind, f"made up: {kind}", retry_after_s=retry_after_s)


def refused(kind: ErrorKind = ErrorKind.REJECTED) -> PermanentError:
    return PermanentError(kind, f"made up: {kind}")


@dataclass
class FakeShop:
    """A source: orders, a clock, and troubles that come in turn.

    Attributes:
        troubles: the next answers that go wrong: an error, or seconds that one takes.
        down: what every answer is, for as long as it is set.
        requested: when it was asked, and what.
    """

    orders: dict[int, Order | UnreadableOrder] = field(default_factory=dict)
    troubles: deque[ShopPollerError | float] = field(default_factory=deque)
    down: ShopPollerError | None = None
    requested: list[tuple[float, Query]] = field(default_factory=list)
    clock_off: timedelta = timedelta(0)
    preamble: str = ""
    closed: bool = False

    def clock(self) -> datetime:
        return (virtual_now() + self.clock_off).replace(microsecond=0)

    def put(
        self,
        order_id: int,
        status: str,
        *,
        created_at: datetime | None = None,
        refunds: Sequence[tuple[int, str]] = (),
    ) -> None:
        """An order comes, or changes."""
        before = self.orders.get(order_id)
        created = created_at or (before and before.created_at) or self.clock()
        self.orders[order_id] = Order(
            id=order_id,
            number=str(order_id),
            status=status,
            total="1930.00",
            currency="RUB",
            currency_sign="₽",
            customer="Анна",
            created_at=created,
            modified_at=created_at or self.clock(),
            refunds=tuple(Refund(*refund) for refund in refunds),
        )

    def spoil(self, order_id: int) -> None:
        """An order becomes unreadable."""
        self.orders[order_id] = UnreadableOrder(order_id, "total: missing", self.clock(), self.clock())

    most_ids = 100

    before: Callable[[Query], Awaitable[None]] | None = None
    """Is called with each question; may refuse it, or take its time."""

    async def fetch(self, query: Query) -> Page:
        if self.before is not None:
            await self.before(query)
        self.requested.append((anyio.current_time(), query))
        if self.troubles:
            trouble = self.troubles.popleft()
            if isinstance(trouble, ShopPollerError):
                raise trouble
            await anyio.sleep(trouble)
        if self.down is not None:
            raise self.down
        matching = [order for order in self.orders.values() if _matches(order, query)]
        if query.newest_first:
            matching.sort(key=lambda order: (order.created_at or self.clock(), order.id), reverse=True)
        else:
            matching.sort(key=lambda order: (order.modified_at or self.clock(), order.id))
        return Page(tuple(matching[: query.per_page]), self.clock(), self.preamble)

    async def aclose(self) -> None:
        self.closed = True


def _matches(order: Order | UnreadableOrder, query: Query) -> bool:
    return (
        order.id not in query.exclude
        and not (query.ids and order.id not in query.ids)
        and not (query.created_after and order.created_at and order.created_at <= query.created_after)
        and not (query.modified_after and order.modified_at and order.modified_at <= query.modified_after)
        and not (query.created_before and order.created_at and order.created_at >= query.created_before)
        and not (query.statuses and isinstance(order, Order) and order.status not in query.statuses)
    )


@dataclass
class FakeSink:
    """A sink that says no when it is told to.

    Attributes:
        behave: what happens to a delivery: nothing, an error, or seconds that it takes.
        got: when what was delivered.
        tried: when what was tried.
    """

    name: str = "sink"
    behave: Callable[[Delivery], ShopPollerError | float | None] = lambda _: None
    got: list[tuple[float, Delivery]] = field(default_factory=list)
    tried: list[tuple[float, Delivery]] = field(default_factory=list)
    most_at_once: int = 0
    _at_once: int = 0

    async def send(self, delivery: Delivery) -> None:
        self.tried.append((anyio.current_time(), delivery))
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            verdict = self.behave(delivery)
            if isinstance(verdict, ShopPollerError):
                raise verdict
            await anyio.sleep(verdict or 0)
        finally:
            self._at_once -= 1
        self.got.append((anyio.current_time(), delivery))

    async def check(self) -> str:
        return "made up"

    async def aclose(self) -> None:
        pass

    def events(self) -> list[tuple[str, str]]:
        """What was delivered: key and event type, in order."""
        return [(delivery.key, str(delivery.event_type)) for _, delivery in self.got]


@dataclass
class FakeBulkSink(FakeSink):
    """One that takes many at once.

    Attributes:
        bulks: how many it was given each time.
    """

    bulks: list[int] = field(default_factory=list)

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[ShopPollerError | None]:
        self.bulks.append(len(deliveries))
        errors: list[ShopPollerError | None] = []
        for delivery in deliveries:
            try:
                await self.send(delivery)
            except ShopPollerError as error:
                errors.append(error)
            else:
                errors.append(None)
        return errors


@dataclass
class ShopHarness:
    shop: FakeShop
    sinks: Sequence[FakeSink]
    store: SqliteStore
    metrics: Metrics
    alert_manager: AlertManager
    state_writer: StateWriter
    poller: Poller
    dispatchers: Sequence[Dispatcher]
    new_deliveries: list[NewDelivery]
    clock: ClockWatch

    def value(self, name: str, **labels: str) -> float:
        """A metric's value."""
        found = self.metrics.registry.get_sample_value(name, {"shop": SHOP, **labels})
        assert found is not None, f"no metric {name} with {labels}"
        return found

    async def tick(self) -> None:
        """One tick, with an hour for its waits."""
        await self.poller.tick(anyio.current_time() + 3600)

    async def deliver(self) -> None:
        """Deliver what is due."""
        async with anyio.create_task_group() as tasks:
            for dispatcher in self.dispatchers:
                tasks.start_soon(partial(dispatcher.run, until_idle=True))

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """Dispatchers run for as long as the context lasts."""
        async with anyio.create_task_group() as tasks:
            for dispatcher in self.dispatchers:
                tasks.start_soon(dispatcher.run)
            try:
                yield
            finally:
                for dispatcher in self.dispatchers:
                    dispatcher.stop()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The poller runs too."""
        async with self.delivering(), anyio.create_task_group() as tasks:
            tasks.start_soon(self.poller.run)
            try:
                yield
            finally:
                self.poller.stop()


@asynccontextmanager
async def shop_harness(
    path: Path,
    *,
    shop: FakeShop | None = None,
    sinks: Sequence[FakeSink] | None = None,
    filters: Mapping[str, Filter] | None = None,
    plan: PollPlan | None = None,
    delivery: DeliveryPlan | None = None,
    random: Callable[[], float] = lambda: 0.5,
    in_memory: bool = False,
    may_send: Callable[[], bool] = lambda: True,
    now: Callable[[], datetime] = virtual_now,
    muted_s: Callable[..., float] = lambda *_: 0.0,
    timing: SinkTiming | None = None,
    digests: Mapping[str, DigestSchedule] | None = None,
) -> AsyncIterator[ShopHarness]:
    """Build it around the state file at `path`; entering it again with the same path is a restart.

    In memory the disk takes no time, and a restart knows nothing. All sinks have the same timing.
    """
    shop = shop or FakeShop()
    sinks = [FakeSink()] if sinks is None else sinks
    plan = replace(plan or PollPlan(shop=SHOP, meanings=MEANINGS), shop=SHOP)
    names = [sink.name for sink in sinks]
    wanted = {name: (filters or {}).get(name, EVERYTHING) for name in names}
    async with AsyncExitStack() as stack:
        store = await (SqliteStore.copy(path) if in_memory else SqliteStore.open(path))
        stack.push_async_callback(store.aclose)
        metrics = Metrics(SHOP, names, [named.event for named in plan.status_events.values()], statuses=OWN)
        dispatchers: list[Dispatcher] = []
        new_deliveries: list[NewDelivery] = []

        def announce(new: Sequence[NewDelivery] = ()) -> None:
            new_deliveries.extend(new)
            for dispatcher in dispatchers:
                dispatcher.check_soon()

        message_format = MessageFormat(SHOP)
        clock = ClockWatch(now, metrics=metrics)
        alert_manager = AlertManager(
            store,
            history=store,
            message_format=message_format,
            sinks=wanted,
            now=clock.now,
            on_new_deliveries=announce,
        )
        await alert_manager.load()
        delivery = delivery or DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)))
        dispatchers += [
            Dispatcher(
                sink,
                delivery,
                outbox=store,
                may_send=may_send,
                mask=lambda text: text,
                alert_manager=alert_manager,
                metrics=metrics,
                clock=clock,
                random=random,
                muted_s=partial(muted_s, sink.name),
                timing=timing,
            )
            for sink in sinks
        ]
        state_writer = StateWriter(
            await store.register(SHOP, now()),
            orders=store,
            message_format=message_format,
            sinks=wanted,
            metrics=metrics,
            now=clock.now,
            on_new_deliveries=announce,
            zone=UTC,
        )
        await state_writer.load()
        clock.begun(state_writer.state)
        poller = Poller(
            plan,
            state_writer=state_writer,
            fetcher=Fetcher(shop, shop=SHOP, metrics=metrics, random=random),
            orders=store,
            retention=store,
            alert_manager=alert_manager,
            metrics=metrics,
            clock=clock,
            digest_maker=DigestMaker(
                digests,
                zone=UTC,
                orders=store,
                alerts=store,
                message_format=message_format,
                clock=clock,
                on_new_deliveries=announce,
            )
            if digests
            else None,
        )
        yield ShopHarness(
            shop,
            sinks,
            store,
            metrics,
            alert_manager,
            state_writer,
            poller,
            dispatchers,
            new_deliveries,
            clock,
        )


async def put(it: ShopHarness, *keys: str, sink: str = "sink", level: str = "info") -> None:
    """Commit one new delivery per key."""
    rows = [new_delivery(sink, replace(notification(key), level=level)) for key in keys]
    now = virtual_now()
    await it.store.commit(SHOP, Batch(state=it.state_writer.state, now=now, seen_at=now, new_deliveries=rows))
    for each in it.dispatchers:
        each.check_soon()
