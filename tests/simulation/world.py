"""One seed's world: a shop, receivers, a place for the state, daemons; and all that befalls them."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from contextvars import Context, copy_context
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from signal import SIG_DFL, SIGINT, SIGTERM
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import anyio
import httpx
import structlog

from shop_poller import making
from shop_poller.core import retry
from shop_poller.core.addresses import HTTP
from shop_poller.core.retry import DeadLetter, RetryAt, RetryPolicy
from shop_poller.ports import BulkSink
from shop_poller.settings import Settings
from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.simulator.listing import Found, Listing, select
from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.routes import ROUTES
from shop_poller.simulator.shop import SimulatedShop
from simulation.bulk import Messenger, ToRedis
from simulation.judge import Judge
from simulation.loop import RUNNING, SimulationLoop
from simulation.network import LATENCY_S, MOODS, Mood, Receiver, ToReceiver, ToShop
from simulation.places import SHOP, Place, RedisPlace, SqlitePlace, Trouble
from simulation.processes import Process
from support.no_sockets import small_pages
from support.virtual_time import EPOCH

STATUSES = (
    "processing", "processing", "completed", "pending", "on-hold",
    "cancelled", "refunded", "failed", "sborka",
)  # fmt: skip
IN_BULK = ("redis+stream://{}.example:6379/0?stream=orders", "redis://{}.example:6379/0?channel=orders")
ONE_BY_ONE = "https://{}.example/"
SHOP_TROUBLES: tuple[Callable[[Random], faults.Fault], ...] = (
    lambda _: faults.dropped(),
    lambda _: faults.captcha(),
    lambda _: faults.php_fatal(),
    lambda _: faults.php_notice(),
    lambda _: faults.bad_gateway(),
    lambda _: faults.half_a_body(),
    lambda _: faults.empty_body(),
    lambda _: faults.event_stream(),
    lambda _: faults.database_down(),
    lambda _: faults.maintenance(),
    lambda rng: faults.rate_limited(rng.choice([5, 20, 90])),
    lambda rng: faults.slow(rng.choice([3, 20, 40])),
)


@dataclass(frozen=True)
class Plan:
    """What kind of world a seed makes.

    Attributes:
        on_redis: two daemons share a server; else one has a file.
        sinks: the receivers' addresses.
        crowd: how many orders are made at once, at most.
        deeds: how many things befall it.
        gap_s: mean time between two of them.
    """

    on_redis: bool
    sinks: tuple[str, str]
    crowd: int
    dialect: str
    interval_s: int
    sweep_s: int
    skew_s: int
    overlap_s: int
    senders: int
    queue_size: int
    deeds: int
    gap_s: float

    @property
    def in_bulk(self) -> bool:
        """Whether one of the receivers takes many at once; then there are many."""
        return self.crowd > 12

    @classmethod
    def of(cls, rng: Random) -> "Plan":
        on_redis = rng.random() < 0.15
        slowly = not on_redis and rng.random() < 0.05  # hours, for which two replicas would renew a lease
        in_bulk = not slowly and rng.random() < 0.33
        kinds = rng.choice([IN_BULK, (IN_BULK[0], ONE_BY_ONE), (ONE_BY_ONE, IN_BULK[1])])
        sinks = kinds if in_bulk else (ONE_BY_ONE, ONE_BY_ONE)
        return cls(
            on_redis=on_redis,
            sinks=(sinks[0].format("a"), sinks[1].format("b")),
            crowd=rng.choice([20, 60]) if in_bulk else 12,
            dialect=rng.choice(["woocommerce-mcp", "rest", "rest"]),
            interval_s=600 if slowly else rng.choice([15, 60]),
            sweep_s=rng.choice([0, 0, 600]),
            skew_s=rng.choice([0, 0, 900]),
            overlap_s=rng.choice([10, 10, 120]),
            senders=rng.choice([1, 2, 8] if in_bulk else [1, 2, 3]),
            queue_size=rng.choice([1, 5, 100, 200] if in_bulk else [1, 2, 5]),
            deeds=rng.randint(8, 15) if slowly else rng.randint(6, 18),
            gap_s=1800.0 if slowly else rng.choice([3.0, 10.0, 30.0]),
        )


class World:
    """See the module's docstring.

    Args:
        seed: makes all the chance there is.
        folder: for files.
    """

    def __init__(self, seed: int, folder: Path, loop: SimulationLoop) -> None:
        self.rng = Random(seed)
        self.plan = Plan.of(self.rng)
        self.loop = loop
        self.notes: deque[tuple[float, Any, str, Mapping[str, Any]]] = deque(maxlen=400)
        self.processes: list[Process] = []
        self.shop = SimulatedShop(self.now, "Europe/Moscow", url=f"https://{SHOP}", first_id=1)
        self.endpoint = Endpoint(self.shop, offers=ROUTES, require_https=True, rng=Random(seed))
        self.shop_is_down = False
        self.was_gone = False  # one of the receivers: until a start
        self.ours: set[int] = set()
        self._host_off = timedelta(0)
        self._saved: Any = None
        self._brings_back = False
        self._is_storm = True
        self._context: Context = copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.place: Place = RedisPlace(self) if self.plan.on_redis else SqlitePlace(self, folder)
        self.judge = Judge(self)
        self.settings = Settings.model_validate(
            {
                "woocommerce_mcp_url": self.endpoint.address(self.plan.dialect),
                "woocommerce_consumer_key": DEMO_KEY.consumer_key,
                "woocommerce_consumer_secret": DEMO_KEY.consumer_secret,
                "shop_id": SHOP,
                "shop_dialect": self.plan.dialect,
                "shop_polling_interval": self.plan.interval_s,
                "shop_sweep_interval": self.plan.sweep_s,
                "shop_clock_skew": self.plan.skew_s,
                "shop_cursor_overlap": self.plan.overlap_s,
                "shop_state_url": f"sqlite:///{folder}/state.db",
                "shop_notify_urls": " ".join(self.plan.sinks),
                "shop_http_listen": "",
                "shop_senders": self.plan.senders,
                "shop_queue_size": self.plan.queue_size,
            }
        )
        self.receivers = {
            sink.name: Receiver(sink.name, bulk=sink.scheme not in HTTP) for sink in self.settings.sinks
        }

    # --- clocks ---------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """True time, to the millisecond."""
        return EPOCH + timedelta(milliseconds=round(self.loop.time() * 1000))

    def host_now(self) -> datetime:
        """The clock of the daemons' hosts."""
        return self.now() + self._host_off

    def server_time(self) -> float:
        """The clock of Redis, in seconds."""
        return self.now().timestamp()

    def note(self, text: str) -> None:
        """For people who look into what happened."""
        self.notes.append((self.loop.time(), None, "", {"event": text}))

    def told(self) -> list[str]:
        """What was noted last."""
        return [
            f"{at:9.3f} {process or ''} {method:>8} {event['event']} "
            + " ".join(f"{k}={v}" for k, v in event.items() if k not in {"event", "shop"})
            for at, process, method, event in self.notes
        ]

    # --- the network ----------------------------------------------------------------------------------------

    def spawn(self, work: Awaitable[Any]) -> asyncio.Task[Any]:
        """Something that goes on whatever becomes of the daemons."""

        async def run() -> Any:
            return await work

        task = self.loop.create_task(run(), context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def carry(
        self,
        process: Process,
        arrive: Callable[[], Awaitable[Any]],
        *,
        down: bool,
        error: Exception | None = None,
    ) -> Any:
        """Take a request to its receiver and the answer back; it arrives though nobody may wait any more."""
        if process.dead or down:
            await anyio.sleep(0.01)
            raise error or httpx.ConnectError("made up: connection refused")
        answer: asyncio.Future[Any] = self.loop.create_future()

        async def work() -> None:
            await anyio.sleep(self.rng.expovariate(1 / LATENCY_S))
            try:
                result = await arrive()
            except asyncio.CancelledError:
                raise
            except Exception as failure:  # noqa: BLE001 - it is the asker's
                if not answer.done():
                    answer.set_exception(failure)
                return
            await anyio.sleep(self.rng.expovariate(1 / LATENCY_S))
            if not answer.done():
                answer.set_result(result)

        self.spawn(work())
        return await answer

    def answer(self, process: Process, request: Request) -> Answer:
        """The shop's answer."""
        self._asking = process
        return self.endpoint.answer(request)

    def select(self, orders: Iterable[SimulatedOrder], listing: Listing) -> Found:
        """As WooCommerce does it; the judge knows what was loaded."""
        found = select(orders, listing)
        for order in found.orders:
            self._asking.loaded.setdefault(order.id, []).append(order)
        return found

    # --- what happens ---------------------------------------------------------------------------------------

    async def live(self) -> None:
        """A storm, then a calm in which all has to come right."""
        self._stock()
        if self.plan.interval_s > 60:  # hours, in which one order's events are refused again and again
            self.ours.add(self.shop.create_order("processing"))
            next(iter(self.receivers.values())).refuses[str(max(self.ours))] = 500
        supervisors = [self.spawn(self._supervise()) for _ in range(2 if self.plan.on_redis else 1)]
        deeds = self._deeds()
        for _ in range(self.plan.deeds):
            await anyio.sleep(self.rng.expovariate(1 / self.plan.gap_s))
            if self.judge.verdicts:
                break
            self.rng.choice(deeds)()
        await self._calm()
        self._is_storm = False
        for process in self.processes:
            if process.alive:
                process.terminate()
        with anyio.move_on_after(120):
            for supervisor in supervisors:
                await supervisor
        if any(process.alive for process in self.processes):
            self.judge.fail("a daemon does not stop")
        if not self.judge.verdicts:
            await self._look_into_the_store()
        for task in [*self._tasks]:
            task.cancel()

    def _stock(self) -> None:
        """Orders that were there before."""
        for _ in range(self.rng.randint(0, 3)):
            age = timedelta(minutes=self.rng.choice([7, 50, 180, 3000]))
            self.shop.create_order(self.rng.choice(STATUSES), created=self.now() - age)

    async def _calm(self) -> None:
        """All faults stop; then nothing may be left to do after a while."""
        self.note("--- calm ---")
        self.place.troubles.clear()
        self.endpoint.faults.clear()
        self.shop_is_down = False
        for receiver in self.receivers.values():
            receiver.mood = "well"
            receiver.refuses.clear()
        for process in self.processes:
            process.thaw()
        if self.was_gone or self.rng.random() < 0.3:  # only a start makes a sink that was gone be tried again
            for process in self.processes:
                if process.alive:
                    process.terminate()
        ends_at = self.loop.time() + 4 * 3600 + 3 * self.plan.interval_s
        while not self.judge.verdicts:
            await anyio.sleep(self.plan.interval_s / 2)
            missing = self.judge.missing()
            if not missing:
                return
            if self.loop.time() > ends_at:
                self.judge.fail(f"it does not come right: {'; '.join(missing[:5])}")

    async def _look_into_the_store(self) -> None:
        store = await self.place.look()
        try:
            stats = await store.stats(SHOP)
            waiting = {name: sink.waiting for name, sink in stats.sinks.items() if sink.waiting}
            if waiting != self.judge.waiting():  # nothing, or an alert of the last moment
                self.judge.fail(f"in the outbox is {waiting}, where {self.judge.waiting()} should be")
            memories = self.judge.oracle.memories if self.judge.oracle else {}
            known = await store.known(SHOP, memories.keys())
            if {n: one.status for n, one in known.items()} != {n: m.status for n, m in memories.items()}:
                self.judge.fail("what is known is not what was seen")
        finally:
            await store.aclose()

    async def _supervise(self) -> None:
        """As systemd: a daemon that ended is started again, after a while."""
        while self._is_storm:
            if self._brings_back:
                self._brings_back = False
                self._set_back()
            process = Process(self, len(self.processes) + 1)
            self.note(f"{process} starts")
            self.processes.append(process)
            await process.ended.wait()
            self.note(f"{process} ended")
            await anyio.sleep(self.rng.expovariate(1 / 5))

    def _deeds(self) -> list[Callable[[], None]]:
        """What may happen: in each world some of it often, and some of it never."""
        weights: dict[Callable[[], None], int] = {
            self._create: 9,
            self._change: 12,
            self._refund: 2,
            self._crowd: 2,
            self._shop_trouble: 4,
            self._shop_outage: 1,
            self._lose_sessions: 1,
            self._mood: 9,
            self._refusal: 3,
            self._kill: 3,
            self._terminate: 3,
            self._freeze: 3,
            self._ambush: 7,
            self._store_trouble: 4,
            self._backup: 4,
            self._restore: 4,
            self._set_clock: 1,
        }
        always = [self._create, self._change]
        if self.plan.on_redis:  # what two replicas make of a lease
            always += [self._ambush, self._crowd, self._freeze]
        if self.plan.in_bulk:
            always += [self._rush, self._rush]
        chosen = [
            deed for deed, weight in weights.items() for _ in range(weight * self.rng.choice([0, 0, 1, 3]))
        ]
        return [*always * (1 + len(chosen) // 4), *chosen]

    def _create(self) -> None:
        order_id = self.shop.create_order(self.rng.choice(STATUSES))
        self.ours.add(order_id)
        self.note(f"order {order_id} is made: {self.shop.order(order_id).status}")

    def _crowd(self) -> None:
        for _ in range(self.rng.randint(self.plan.crowd // 3, self.plan.crowd)):
            self._create()

    def _change(self) -> None:
        if not self.ours:
            return self._create()
        order_id = self.rng.choice(sorted(self.ours)[-6:])
        status = self.rng.choice(STATUSES)
        if self.shop.order(order_id).status != status:
            # What is stamped now may be seen only after a while, as when a transaction takes its time.
            lag_s = min(self.rng.choice([0, 0, 0, 5, 50]), self.plan.overlap_s - 1)
            stamp = self.shop.clock() - timedelta(seconds=lag_s)
            self.shop.set_status(order_id, status, at=max(stamp, self.shop.order(order_id).modified))
            self.note(f"order {order_id} becomes {status}")
        return None

    def _refund(self) -> None:
        if self.ours:
            order_id = self.rng.choice(sorted(self.ours)[-6:])
            order = self.shop.order(order_id)
            if order.total > order.refunded:
                self.shop.refund(order_id, (order.total - order.refunded) / 4)
                self.note(f"a part of order {order_id} is refunded")

    def _shop_trouble(self) -> None:
        trouble = self.rng.choice(SHOP_TROUBLES)(self.rng)
        self.endpoint.faults.add(trouble, times=self.rng.randint(1, 8))
        self.note(f"the shop: {trouble.name}")

    def _shop_outage(self) -> None:
        self.shop_is_down = True
        self.note("the shop is down")

        def over() -> None:
            self.shop_is_down = False

        self._later(self.rng.choice([20, 90, 400]), over)

    def _lose_sessions(self) -> None:
        self.endpoint.sessions.lose_all()

    def _rush(self) -> None:
        """Many orders, when a receiver that takes many at once is in trouble."""
        self._crowd()
        receiver = self.rng.choice([one for one in self.receivers.values() if one.bulk])
        if receiver.mood == "well":
            self._puts_into(receiver, self.rng.choice([*MOODS, "broken", "broken", "limited"]), [20, 60, 200])

    def _mood(self) -> None:
        receiver = self.rng.choice([*self.receivers.values()])
        self._puts_into(receiver, self.rng.choice(MOODS), [5, 30, 120, 600])

    def _puts_into(self, receiver: Receiver, mood: Mood, lasts_s: Sequence[float]) -> None:
        receiver.mood = mood
        receiver.takes_s = self.rng.choice([0.5, 4, 9])
        receiver.asks_s = self.rng.choice([0, 0, 3, 30, 300])
        self.was_gone = self.was_gone or (mood == "gone" and not receiver.bulk)
        self.note(f"{receiver.name} is {receiver.mood}")

        def well() -> None:
            receiver.mood = "well"
            self.note(f"{receiver.name} is well")

        self._later(self.rng.choice(lasts_s), well)

    def _refusal(self) -> None:
        """One order, or rather its events, is what a receiver chokes on, or does not want."""
        if self.ours:
            receiver = self.rng.choice([*self.receivers.values()])
            key, code = str(self.rng.choice(sorted(self.ours)[-3:])), self.rng.choice([500, 500, 400, 409])
            receiver.refuses[key] = code
            self.note(f"{receiver.name} answers {code} to order {key}")
            self._later(self.rng.choice([60, 600, 20_000]), lambda: receiver.refuses.pop(key, None))

    def _someone(self) -> Process | None:
        alive = [process for process in self.processes if process.alive]
        return self.rng.choice(alive) if alive else None

    def _kill(self) -> None:
        if (process := self._someone()) is not None:
            process.kill(after_steps=self.rng.choice([0, *(self.rng.randint(1, 400) for _ in range(5))]))

    def _terminate(self) -> None:
        if (process := self._someone()) is not None:
            process.terminate()

    def _freeze(self) -> None:
        if (process := self._someone()) is not None:
            self._freeze_for_a_while(process)

    def _freeze_for_a_while(self, process: Process) -> None:
        if process.alive and not process.frozen:
            process.freeze()
            self._later(self.rng.choice([1, 8, 11, 13, 40]), process.thaw)

    def _ambush(self) -> None:
        """Something befalls a daemon at a moment when it hurts."""
        if (process := self._someone()) is not None:
            call = self.rng.choice(["commit", "commit", "claim", "claim", "settle", "settle", "raise_alert"])
            deed: Callable[[], None] = self.rng.choice(
                [process.kill, process.terminate, lambda: self._freeze_for_a_while(process)]
            )
            when = self.rng.choice(["before", "after"])
            if self.rng.random() < 0.25:
                trouble: Trouble = self.rng.choice(["refused", "refused", "lost"])
                when, deed = "before", lambda: self._trouble_the_store(trouble, call)
            process.ambush = (f"{when} {call}", deed)

    def _store_trouble(self) -> None:
        troubles: list[Trouble] = ["refused", "lost", "slow"]
        self._trouble_the_store(self.rng.choice(troubles), likely=self.rng.choice([0.05, 0.3, 1.0]))

    def _trouble_the_store(self, trouble: Trouble, call: str = "", *, likely: float = 1.0) -> None:
        """One of its methods fails for a while, or any of them."""
        self.place.troubles[trouble, call] = likely
        self.note(f"the store: {trouble} {call}, {likely}")
        self._later(self.rng.choice([1, 5, 30]), lambda: self.place.troubles.pop((trouble, call), None))

    def _backup(self) -> None:
        if self.judge.oracle is not None:
            self._saved = (self.place.save(), self.judge.save())
            self.note("a backup is made")

    def _restore(self) -> None:
        """A replica that lagged behind takes over; or somebody brings the file back."""
        if self._saved is None:
            return
        if not self.plan.on_redis:  # the file is brought back before the next start
            self._brings_back = True
            for process in self.processes:
                process.kill()
        else:
            self._set_back()

    def _set_back(self) -> None:
        state, known = self._saved
        self.place.restore(state)
        self.judge.restore(known)
        self.note("the state is what it was at the last backup")

    def _set_clock(self) -> None:
        jump = timedelta(seconds=self.rng.choice([-3600, -40, 40, 3600]))
        self._host_off += jump
        self.note(f"the hosts' clocks are set by {jump}")

    def _later(self, seconds: float, deed: Callable[[], object]) -> None:
        async def wait() -> None:
            await anyio.sleep(seconds)
            deed()

        self.spawn(wait())

    # --- the stage ------------------------------------------------------------------------------------------

    def patches(self) -> ExitStack:
        """Puts the world around the daemon's own code."""
        stack = ExitStack()

        def running() -> Process:
            process = RUNNING.get()
            assert isinstance(process, Process)
            return process

        async def open_store(*_: Any, **__: Any) -> Any:
            process = running()
            process.store = await self.place.open(process)
            return process.store

        def make_source(settings: Settings, **options: Any) -> Any:
            return self.judge.witness(running(), making.make_source(settings, **options))

        def make_sinks(settings: Settings) -> list[Any]:
            return [
                Messenger(self, running(), sink) if isinstance(sink, BulkSink) else sink
                for sink in making.make_sinks(settings)
            ]

        async def open_connection(*, host: str, **_: Any) -> Any:
            (receiver,) = (one for one in self.receivers.values() if host in one.name)
            return await ToRedis.open(self, running(), receiver)

        def transport(url: str) -> httpx.AsyncBaseTransport:
            if url in self.receivers:
                return ToReceiver(self, running(), self.receivers[url])
            return ToShop(self, running())

        def after_failure(policy: RetryPolicy, **what: Any) -> RetryAt | DeadLetter:
            decision = retry.after_failure(policy, **what)
            self.judge.puts_off(decision, attempts=what["attempts"], error=what["error"], now=what["now"])
            return decision

        for target, value in {
            "shop_poller.courier.after_failure": after_failure,
            "shop_poller.app.open_store": open_store,
            "shop_poller.house.make_source": make_source,
            "shop_poller.house.make_sinks": make_sinks,
            "asyncio.open_connection": open_connection,
            "shop_poller.house.random": self.rng,
            "shop_poller.httpclient.http_transport": transport,
            "shop_poller.simulator.tools.select": self.select,
            "shop_poller.simulator.rest.select": self.select,
            "anyio.open_signal_receiver": lambda *numbers: running().signals(*numbers),
            # A second signal ends a process at once.
            "shop_poller.app.os": SimpleNamespace(getpid=int, kill=lambda *_: running().kill()),
            "shop_poller.app.signal": SimpleNamespace(
                SIGTERM=SIGTERM, SIGINT=SIGINT, SIG_DFL=SIG_DFL, signal=lambda *_: None
            ),
            # Looked for less often, or most of the time would go into looking.
            "shop_poller.dispatcher.LOOK_WHILE_UP_S": float(self.plan.interval_s),
            "shop_poller.lease.TRY_EVERY_S": 3.0,
            "time.time": self.server_time,
            "time.monotonic": self.loop.time,
        }.items():
            stack.enter_context(patch(target, value))
        stack.enter_context(small_pages(25 if self.plan.in_bulk else 5))
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
        return stack

    def _log(self, _: Any, method: str, event: Any) -> str:
        process = RUNNING.get()
        self.notes.append((self.loop.time(), process, method, event))
        raise structlog.DropEvent
