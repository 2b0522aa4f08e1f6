"""A fleet's world: several shops, each with a judge of its own, that one to three processes share."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, Literal, TypeAlias, cast

import anyio
import httpx
from fakeredis import FakeServer

from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig, keys_apart
from shop_poller.runtime import app, factory
from shop_poller.simulator.answers import Answer, Request
from shop_poller.stores.redis.connection import ConnectionPool, RedisConnection
from shop_poller.stores.redis.membership import RedisMembership
from shop_poller.stores.redis.renewals import Renewals
from simulation.fleet_judge import FleetJudge
from simulation.judge import Judge
from simulation.loop import SimulationLoop
from simulation.network import LOST_S, ToReceiver, ToShop
from simulation.places import ADDRESS, PREFIX, Place, RedisPlace, SqlitePlace
from simulation.plan import AS_IT_COMES, Emphasis, Plan
from simulation.processes import Process, running
from simulation.shops import ShopPlan
from simulation.visitors import Visitor
from simulation.world import World

EVERY, REMAINDER = 5, 3
"""One world in so many is a fleet's: those whose seeds have this remainder."""

Egress: TypeAlias = Literal["no name", "refused", "silent", "proxy", "intercepted", "limited", "forbidden"]
EGRESS: tuple[Egress, ...] = ("no name", "refused", "silent", "proxy", "intercepted", "limited", "forbidden")
"""How a process fails to reach a shop that others reach."""
ERRORS: dict[Egress, Exception] = {
    "no name": httpx.ConnectError("made up: [Errno -2] Name or service not known"),
    "refused": httpx.ConnectError("made up: connection refused"),
    "proxy": httpx.ProxyError("made up: 502 Bad Gateway"),
    "intercepted": httpx.ConnectError("made up: [SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate"),
}
EVERYWHERE = "*"
OF_SHOPS = {
    "_create": 9,
    "_change": 12,
    "_refund": 2,
    "_crowd": 2,
    "_shop_trouble": 4,
    "_shop_outage": 3,
    "_lose_sessions": 1,
    "_mood": 6,
    "_refusal": 2,
}
"""What befalls one of the shops, and how often."""


def is_fleet(seed: int) -> bool:
    """Whether a seed makes a fleet's world."""
    return seed % EVERY == REMAINDER


@dataclass(frozen=True)
class FleetPlan:
    """What kind of fleet a seed makes.

    Attributes:
        on_redis: processes share a server; else one process has a file for each shop.
        processes: how many there are.
        shops: the plan of each shop.
        actions: how many things befall it.
        gap_s: mean time between two of them.
    """

    on_redis: bool
    processes: int
    shops: tuple[Plan, ...]
    actions: int
    gap_s: float

    @classmethod
    def of(cls, rng: Random) -> "FleetPlan":
        on_redis = rng.random() < 0.7
        shops = rng.choice([2, 2, 3, 4])
        return cls(
            on_redis=on_redis,
            processes=rng.choice([1, 2, 2, 3]) if on_redis else 1,
            shops=tuple(_plan(rng, number, on_redis=on_redis) for number in range(shops)),
            actions=rng.randint(6, 16),
            gap_s=rng.choice([5.0, 15.0, 30.0] if on_redis else [5.0, 30.0, 60.0]),
        )


def _plan(rng: Random, number: int, *, on_redis: bool) -> Plan:
    """A shop's: small crowds, receivers of its own, each of which takes one at a time."""
    dialect = rng.choice(["woocommerce-mcp", "rest", "rest"])
    plan = Plan(
        on_redis=on_redis,
        sinks=(f"https://a{number}.example/", f"https://b{number}.example/"),
        crowd=5,
        dialect=dialect,
        interval_s=rng.choice([15, 60]),
        sweep_s=rng.choice([0, 0, 600]),
        skew_s=rng.choice([0, 0, 900]),
        overlap_s=rng.choice([10, 10, 120]),
        senders=rng.choice([1, 2]),
        queue_size=rng.choice([1, 2, 5]),
        actions=0,
        gap_s=0.0,
        shop=ShopPlan(),
    )
    shop = ShopPlan.of(rng, dialect=dialect, per_page=plan.per_page)
    return replace(plan, shop=shop, sweep_s=600 if "older stamps" in shop.kinds else plan.sweep_s)


class Seat:
    """What one process does for one shop; to that shop's judge it is the process. See processes.Process."""

    def __init__(self, shop: "FleetShop", process: Process) -> None:
        self.world = shop
        self.process = process
        self.leader_session = 0
        self.loaded: dict[int, list[Any]] = {}
        self.led_since = -1e9
        self.nonce = ""
        self.only_looks = False
        self.walked_at = self.asks_until = -1e9
        self.grid: tuple[int, float] = (0, 0.0)
        self.store: Any = None
        self.sight: Any = None
        self.shop_not_before = (0, 0.0)
        self.shop_closed: tuple[int, float, int] | None = None

    def __str__(self) -> str:
        return f"{self.process} for {self.world.shop_id}"

    def __getattr__(self, name: str) -> Any:
        return getattr(self.process, name)


class FleetShop(World):
    """One of a fleet's shops, with its receivers, its state, and a judge who knows only it."""

    outages_s = (20, 90, 700)

    def __init__(self, fleet: "FleetWorld", number: int, folder: Path) -> None:
        self.fleet = fleet
        super().__init__(
            number,
            folder,
            fleet.loop,
            plan=fleet.fleet_plan.shops[number],
            shop_id=f"shop{number}.example",
            emphasis=fleet.emphasis,
        )
        self.rng, self.notes, self._tasks = fleet.rng, fleet.notes, fleet._tasks
        self._usual = {*self.endpoint.faults.active}
        self.troubled_at = -1e9
        self.seats: dict[int, Seat] = {}
        self.processes = cast("list[Process]", _Values(self.seats))
        self.judge.verdicts, self.judge.crashes = fleet.judge.verdicts, fleet.judge.crashes
        self.judge.counts = fleet.judge.counts
        if self.plan.on_redis:
            self.place.troubles = fleet.place.troubles
            prefix = keys_apart(PREFIX, self.shop_id)
            self.settings = self.settings.model_copy(update={"shop_redis_prefix": prefix})

    @property
    def disturbances(self) -> int:
        return self.fleet.disturbances

    @disturbances.setter
    def disturbances(self, count: int) -> None:
        self.fleet.disturbances = count

    def make_place(self, folder: Path) -> Place:
        folder.mkdir()
        if not self.plan.on_redis:
            return SqlitePlace(self, folder)
        return RedisPlace(self, server=self.fleet.server, prefix=keys_apart(PREFIX, self.shop_id))

    def seat(self, process: Process) -> Seat:
        """That process's."""
        return self.seats.setdefault(process.number, Seat(self, process))

    def leads(self, process: Process) -> bool:
        """Whether the right to write is that process's."""
        seat = self.seats.get(process.number)
        leader = self.place.leader()
        return seat is not None and (leader is None or leader == seat.nonce)

    def note(self, text: str) -> None:
        self.fleet.note(f"{self.shop_id}: {text}")

    def answer(self, process: Process, request: Request) -> Answer:
        self.fleet._asking = process
        if self.is_down:
            self.troubled_at = self.loop.time()
        return super().answer(process, request)

    async def to_shop(self, process: Process, arrive: Callable[[], Awaitable[Any]]) -> Any:
        match process.egress.get(self.shop_id, process.egress.get(EVERYWHERE)):
            case None:
                return await super().to_shop(process, arrive)
            case "silent":
                return await anyio.sleep(LOST_S)
            case "limited":
                return httpx.Response(429, stream=httpx.ByteStream(b"too many from this address"))
            case "forbidden":
                headers = {"x-sucuri-block": "1", "Content-Type": "text/html"}
                return httpx.Response(403, headers=headers, stream=httpx.ByteStream(b"blocked"))
            case trouble:
                await anyio.sleep(0.02)
                raise ERRORS[cast("Egress", trouble)]

    @property
    def is_down(self) -> bool:
        """Whether it may not answer as it should, for now."""
        return self.shop_is_down or not self._usual.issuperset(self.endpoint.faults.active)

    def calm(self) -> bool:
        """All of its troubles stop; says whether only a start makes a sink that was gone be tried again."""
        self.place.troubles.clear()
        self.endpoint.faults.clear()
        self.plan.shop.set_up(self.endpoint)
        self.shop_is_down, self._outage_ends_at = False, -1e9
        for receiver in self.receivers.values():
            receiver.mood = "well"
            receiver.refuses.clear()
        return self.was_gone


class FleetWorld(World):
    """See the module's docstring."""

    def __init__(
        self, seed: int, folder: Path, loop: SimulationLoop, *, emphasis: Emphasis = AS_IT_COMES
    ) -> None:
        rng = Random(seed)
        self.fleet_plan = FleetPlan.of(rng)
        self.server = FakeServer(server_type="redis", version=(7,))
        super().__init__(seed, folder, loop, plan=self.fleet_plan.shops[0], emphasis=emphasis)
        self.rng = rng
        self.judge: FleetJudge = FleetJudge(self)
        self.shops = {
            f"shop{number}.example": FleetShop(self, number, folder / str(number))
            for number in range(len(self.fleet_plan.shops))
        }

    def make_place(self, folder: Path) -> Place:
        if self.plan.on_redis:
            return RedisPlace(self, server=self.server)
        return SqlitePlace(self, folder)

    async def daemon(self) -> None:
        settings = tuple(shop.settings for shop in self.shops.values())
        await app.run(ShopsConfig(settings, PREFIX, from_tables=True))

    # --- what happens ---------------------------------------------------------------------------------------

    async def live(self) -> None:
        for shop in self.shops.values():
            shop._stock()
        supervisors = [self.spawn(self._supervise()) for _ in range(self.fleet_plan.processes)]
        self.spawn(self.judge.watch())
        self.spawn(Visitor(self).look_at_health())
        await self._storm(self.fleet_plan.actions, self.fleet_plan.gap_s)
        await self._calm()
        await self._end(supervisors)

    async def _calm(self) -> None:
        self.note("--- calm ---")
        self.place.troubles.clear()
        was_gone = [shop.calm() for shop in self.shops.values()]
        for process in self.processes:
            process.egress.clear()
            process.thaw()
        if any(was_gone) or self.rng.random() < 0.2:
            for process in self.processes:
                if process.alive:
                    process.terminate()
        ends_at = self.loop.time() + self.emphasis.patience_s
        while not self.judge.verdicts:
            await anyio.sleep(10)
            missing = [what for shop in self.shops.values() for what in shop.judge.missing()]
            if not missing:
                return
            if self.loop.time() > ends_at:
                self.judge.fail(f"it does not come right: {'; '.join(missing[:5])}")

    def _actions(self) -> list[Callable[[], None]]:
        of_fleets: dict[Callable[[], None], int] = {
            self._kill: 5,
            self._terminate: 3,
            self._freeze: 2,
            self._ambush: 4,
            self._store_trouble: 3,
            self._backup: 3,
            self._restore: 3,
            self._set_clock: 1,
            self._lose_egress: 6,
            self._all_down: 2,
        }
        weights = {self._of_a_shop(name): weight for name, weight in OF_SHOPS.items()} | of_fleets
        always = [self._of_a_shop("_create"), self._of_a_shop("_change")]
        if self.fleet_plan.processes > 1:
            always += [self._lose_egress]
        elif self.fleet_plan.gap_s >= 30:
            always += [self._all_down]
        chosen = [
            action
            for action, weight in weights.items()
            for _ in range(weight * self.rng.choice([0, 0, 1, 3]))
        ]
        return [*always * (1 + len(chosen) // 4), *chosen]

    def action(self, name: str) -> Callable[[], None]:
        return self._of_a_shop(name) if name in OF_SHOPS else super().action(name)

    def _of_a_shop(self, name: str) -> Callable[[], None]:
        def action() -> None:
            shop = self.rng.choice([*self.shops.values()])
            if shop.seats or name in {"_create", "_change"}:
                getattr(shop, name)()

        return action

    def _all_down(self) -> None:
        """All shops are down, as when a hosting company is."""
        self.note("all shops are down")
        lasts_s = self.rng.choice([60, 900])
        for shop in self.shops.values():
            shop.be_down(lasts_s)

    def _lose_egress(self) -> None:
        """A process reaches Redis, but not its shops, or not one of them."""
        if (process := self._someone()) is not None:
            which = self.rng.choice([EVERYWHERE, EVERYWHERE, *self.shops])
            how = self.rng.choice(EGRESS)
            process.egress[which] = how
            self.note(f"{process} does not reach {which}: {how}")
            self._later(self.rng.choice([30, 200, 600]), lambda: process.egress.pop(which, None))

    def _trouble_the_store(self, trouble: Any, call: str = "", **what: Any) -> None:
        if self.plan.on_redis:
            super()._trouble_the_store(trouble, call, **what)
        else:
            self.rng.choice([*self.shops.values()])._trouble_the_store(trouble, call, **what)

    def _backup(self) -> None:
        states = (
            self.place.save() if self.plan.on_redis else {n: s.place.save() for n, s in self.shops.items()}
        )
        self._saved = (states, {name: shop.judge.save() for name, shop in self.shops.items()})
        self.note("a backup is made")

    async def _look_into_the_store(self) -> None:
        for shop in self.shops.values():
            await shop._look_into_the_store()

    def _set_back(self) -> None:
        states, known = self._saved
        if self.plan.on_redis:
            self.place.restore(states)
        for name, shop in self.shops.items():
            if not self.plan.on_redis:
                shop.place.restore(states[name])
            shop.judge.restore(known[name])
        self.judge.restored_at = self.loop.time()
        self.note("the state is what it was at the last backup")

    # --- the stage ------------------------------------------------------------------------------------------

    def replacements(self) -> dict[str, Any]:
        def make_source(settings: Settings, **options: Any) -> Any:
            shop = self.shops[settings.shop]
            return shop.judge.witness(
                cast("Process", shop.seat(running())), factory.make_source(settings, **options)
            )

        def transport(url: str) -> httpx.AsyncBaseTransport:
            for shop in self.shops.values():
                seat = cast("Process", shop.seat(running()))
                if url in shop.receivers:
                    return ToReceiver(shop, seat, shop.receivers[url])
                if url.startswith(f"https://{shop.shop_id}"):
                    return ToShop(shop, seat)
            raise AssertionError(url)

        def name(_: int) -> str:
            return str(running().number)

        return {
            **super().replacements(),
            "shop_poller.runtime.composition.StorePool": SharedStorePool,
            "shop_poller.runtime.composition.secrets": SimpleNamespace(token_hex=name),
            "shop_poller.runtime.composition.socket": SimpleNamespace(gethostname=lambda: "simulated"),
            "shop_poller.runtime.composition.os": SimpleNamespace(
                getpid=int
            ),  # the name decides which shops are whose
            "shop_poller.runtime.shop_runtime.make_source": make_source,
            "shop_poller.runtime.egress.make_source": make_source,
            "shop_poller.runtime.shop_runtime.make_sinks": factory.make_sinks,
            "shop_poller.http.client.http_transport": transport,
            # Looked about less often, or most of the time would go into looking.
            "shop_poller.runtime.balancer.LOOK_EVERY_S": 2.0,
        }


class SharedStorePool:
    """In place of stores.StorePool: a process's stores, in the places of its world."""

    def __init__(self, _: Any, *, is_shared: bool) -> None:
        assert is_shared
        self._process = running()
        self._fleet = cast("FleetWorld", self._process.world)
        self._line: ConnectionPool | None = None
        if isinstance(self._fleet.place, RedisPlace):
            self._line = ConnectionPool(self._fleet.place.client(self._process))
            self._line.renewals = Renewals(RedisConnection(ADDRESS, self._line, shared=True).keep)

    async def open(self, _: Any, *, shop: str, prefix: str) -> Any:
        del prefix
        its = self._fleet.shops[shop]
        seat = cast("Process", its.seat(self._process))
        if isinstance(its.place, RedisPlace):
            seat.store = await its.place.open(seat, self._line)
        else:
            seat.store = await its.place.open(seat)
        return seat.store

    def membership(self, _: Any, *, prefix: str, name: str) -> RedisMembership | None:
        return None if self._line is None else RedisMembership(ADDRESS, self._line, prefix=prefix, name=name)

    async def aclose(self) -> None:
        if self._line is not None:
            with suppress(Exception):
                await self._line.aclose()


class _Values:
    """The values of a mapping, as they are each time that one looks."""

    def __init__(self, mapping: dict[int, Seat]) -> None:
        self._mapping = mapping

    def __iter__(self) -> Any:
        return iter([*self._mapping.values()])


__all__ = ["FleetJudge", "FleetPlan", "FleetShop", "FleetWorld", "Judge", "is_fleet"]
