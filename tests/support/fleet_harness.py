"""Fleets in virtual time: replicas that share made-up shops over a made-up Redis, or one over files."""

from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from fakeredis import FakeAsyncRedis, FakeServer
from redis.exceptions import ConnectionError as RedisConnectionError

from shop_poller.config.settings import Settings
from shop_poller.config.shops import keys_apart
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Store
from shop_poller.runtime.balancer import Balancer
from shop_poller.runtime.composition import HANDOVER_GRACE
from shop_poller.runtime.fleet import Fleet, FleetPolicy
from shop_poller.runtime.fleet_overview import FleetOverview
from shop_poller.runtime.fleet_status import FleetStatus, lateness
from shop_poller.runtime.leader_session import Grace
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection
from shop_poller.stores.redis.membership import RedisMembership
from shop_poller.stores.redis.renewals import Renewals
from shop_poller.stores.sqlite import SqliteStore
from support.shop_harness import FakeShop, FakeSink
from support.stores import ADDRESS
from support.virtual_time import virtual_now

ABOARD: ContextVar["Replica"] = ContextVar("ABOARD")
ANSWER_S = 0.2
TIMEOUT_S = 15.0
PREFIX = "shop:polling:"


@dataclass(frozen=True)
class Poll:
    """A shop was asked."""

    began: float
    ended: float
    shop: str
    replica: str
    is_reached: bool = True


class Wire(FakeAsyncRedis):
    """A client of which nothing comes any more once its replica was killed."""

    replica: "Replica"

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        if self.replica.dead:
            raise RedisConnectionError("made up: killed")
        carried_out: Callable[..., Awaitable[Any]] = super().execute_command
        return await carried_out(*args, **options)


@dataclass
class Replica:
    """A process that watches shops."""

    name: str
    fleet: Fleet
    balancer: Balancer
    health_reporter: FleetStatus
    metrics_registry: MetricsRegistry
    overview: FleetOverview
    stop: anyio.Event = field(default_factory=anyio.Event)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    dead: bool = False

    @property
    def leads(self) -> set[str]:
        return {shop for shop, slot in self.fleet.slots.items() if slot.leads}

    def kill(self) -> None:
        """As kill -9: nothing is said, nothing is let go of."""
        self.dead = True
        self.scope.cancel()


@dataclass
class FleetHarness:
    """Shops, and the replicas that watch them.

    Attributes:
        troubles: shops that cannot be asked, and why; or seconds that they take to answer.
        broken: shops whose store cannot be opened, and why.
        egress: by replica and shop, or "*" for all shops: how that replica's requests fail, whatever the shop
            would answer.
    """

    folder: Path
    shops: list[Settings]
    in_redis: bool = True
    most: int = 100
    crowded: bool = False
    polls: list[Poll] = field(default_factory=list)
    probes: list[Poll] = field(default_factory=list)
    troubles: dict[str, ShopPollerError | float] = field(default_factory=dict)
    broken: dict[str, Exception] = field(default_factory=dict)
    egress: dict[tuple[str, str], ShopPollerError] = field(default_factory=dict)
    sinks: dict[str, FakeSink] = field(default_factory=dict)
    fakes: dict[str, FakeShop] = field(default_factory=dict)
    server: FakeServer = field(default_factory=lambda: FakeServer(server_type="redis", version=(7,)))

    def make_source(self, settings: Settings, **_: object) -> Any:
        return Witnessed(self, settings.shop, ABOARD.get())

    def make_sinks(self, settings: Settings) -> list[FakeSink]:
        return [self.sinks.setdefault(settings.shop, FakeSink("console:"))]

    def replica(self, name: str, knows: Sequence[Settings] | None = None) -> Replica:
        """One more; of other shops than all, if it has another file."""
        metrics_registry = MetricsRegistry(is_crowded=self.crowded)
        limiter = PollLimiter(self.most, lateness(metrics_registry))
        wire = Wire(server=self.server, decode_responses=True, protocol=2)
        connection_pool = ConnectionPool(wire)
        connection_pool.renewals = Renewals(RedisConnection(ADDRESS, connection_pool, shared=True).keep)
        membership = (
            RedisMembership(ADDRESS, connection_pool, prefix=PREFIX, name=name) if self.in_redis else None
        )

        async def open_store(settings: Settings) -> Store:
            if settings.shop in self.broken:
                raise self.broken[settings.shop]
            if self.in_redis:
                return RedisStore(
                    ADDRESS,
                    prefix=settings.shop_redis_prefix,
                    first_shop=settings.shop,
                    connection_pool=connection_pool,
                )
            return await SqliteStore.open(self.folder / f"{settings.shop}.db")

        known = self.shops if knows is None else knows
        fleet = Fleet(
            known,
            open_store,
            metrics_registry=metrics_registry,
            policy=FleetPolicy(limiter=limiter, grace=HANDOVER_GRACE if self.in_redis else Grace()),
        )
        balancer = Balancer(fleet, membership=membership, name=name)
        fleet_status = FleetStatus(fleet, balancer, metrics_registry, limiter)
        overview = FleetOverview(fleet, open_store=open_store if self.in_redis else None, name=name, tags={})
        made = wire.replica = Replica(name, fleet, balancer, fleet_status, metrics_registry, overview)
        return made

    @asynccontextmanager
    async def afloat(self) -> AsyncIterator[Callable[[Replica], Replica]]:
        """Starts replicas; what is still there at the end of the block ends in good order."""
        there: list[Replica] = []
        async with anyio.create_task_group() as tasks:

            async def sail(replica: Replica) -> None:
                ABOARD.set(replica)
                with replica.scope:
                    async with replica.overview.opened(), anyio.create_task_group() as background:
                        background.start_soon(replica.health_reporter.survey)
                        background.start_soon(replica.overview.refresh)
                        await replica.fleet.watch(replica.balancer, replica.stop)
                        background.cancel_scope.cancel()

            def launch(replica: Replica) -> Replica:
                there.append(replica)
                tasks.start_soon(sail, replica)
                return replica

            yield launch
            for replica in there:
                replica.stop.set()

    def gaps(self, until: float, since: float = 0.0) -> dict[str, float]:
        """The longest time that each shop was not asked, in seconds."""
        longest: Counter[str] = Counter()
        last = {shop.shop: since for shop in self.shops}
        for poll in sorted((p for p in self.polls if p.began >= since), key=lambda poll: poll.began):
            longest[poll.shop] = max(longest[poll.shop], poll.began - last[poll.shop])  # type: ignore[assignment]
            last[poll.shop] = poll.began
        return {shop: max(longest[shop], until - at) for shop, at in last.items()}

    def unreached(self, until: float, since: float = 0.0) -> dict[str, float]:
        """The longest time that each shop was not asked by a replica that reaches it, in seconds."""
        reached = replace(self, polls=[poll for poll in self.polls if poll.is_reached])
        return reached.gaps(until, since)

    def moves(self, since: float = 0.0) -> int:
        """How often a shop went from one replica to another."""
        found = 0
        for shop in self.shops:
            polls = [p for p in self.polls if p.shop == shop.shop and p.began >= since]
            found += sum(one.replica != other.replica for one, other in pairwise(polls))
        return found

    def doubles(self) -> list[tuple[Poll, Poll]]:
        """Polls of a shop by two replicas at the same time."""
        found = []
        for shop in self.shops:
            polls = sorted((p for p in self.polls if p.shop == shop.shop), key=lambda poll: poll.began)
            found += [
                (one, other)
                for one, other in pairwise(polls)
                if one.replica != other.replica and other.began < one.ended
            ]
        return found


class Witnessed:
    """A shop that remembers when and by whom it was asked."""

    most_ids = 100

    def __init__(self, fleet_harness: FleetHarness, shop: str, replica: Replica) -> None:
        self._fleet_harness = fleet_harness
        self._shop = shop
        self._replica = replica
        self._fake = fleet_harness.fakes.setdefault(shop, FakeShop())

    async def fetch(self, query: Query) -> Page:
        began, is_reached = anyio.current_time(), False
        trouble = self._fleet_harness.troubles.get(self._shop, ANSWER_S)
        for which in (self._shop, "*"):
            trouble = self._fleet_harness.egress.get((self._replica.name, which), trouble)
        try:
            if isinstance(trouble, ShopPollerError):
                await anyio.sleep(TIMEOUT_S if trouble.kind is ErrorKind.TIMEOUT else 0)
                raise trouble
            await anyio.sleep(trouble)
            is_reached = True
            return await self._fake.fetch(query)
        finally:
            ended = anyio.current_time()
            if query.per_page == 1 and self._shop not in self._replica.leads:  # only whether it is reached
                self._fleet_harness.probes.append(
                    Poll(began, ended, self._shop, self._replica.name, is_reached)
                )
            else:
                self._fleet_harness.polls.append(
                    Poll(began, ended, self._shop, self._replica.name, is_reached)
                )

    async def aclose(self) -> None:
        pass


def shops(count: int, **more: Any) -> list[Settings]:
    """So many shops."""
    return [
        Settings.of(
            {
                "shop_id": f"shop-{number}",
                "woocommerce_mcp_url": f"https://shop-{number}.example/wp-json/woocommerce/mcp",
                "woocommerce_consumer_key": "ck_x",
                "woocommerce_consumer_secret": "cs_x",
                "shop_polling_interval": 20,
                "shop_redis_prefix": keys_apart(PREFIX, f"shop-{number}"),
                "shop_senders": 1,
                **more,
            },
            parse_sink=parse_sink,
        )
        for number in range(count)
    ]


def in_virtual_time(monkeypatch: pytest.MonkeyPatch, fleet_harness: FleetHarness) -> None:
    """Puts made-up shops, sinks and clocks around the real code."""
    monkeypatch.setattr("shop_poller.runtime.shop_runtime.make_source", fleet_harness.make_source)
    monkeypatch.setattr("shop_poller.runtime.egress.make_source", fleet_harness.make_source)
    monkeypatch.setattr("shop_poller.runtime.shop_runtime.make_sinks", fleet_harness.make_sinks)
    monkeypatch.setattr("time.time", lambda: virtual_now().timestamp())
    monkeypatch.setattr("time.monotonic", anyio.current_time)
    monkeypatch.setattr(SqliteStore, "now", lambda _: virtual_now())
