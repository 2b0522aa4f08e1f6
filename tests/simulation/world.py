"""One seed's world: a shop, receivers, a place for the state, daemons; and all that befalls them."""

import asyncio
import json
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack, nullcontext
from contextvars import Context, copy_context
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import anyio
import httpx
import structlog
from pydantic import SecretStr

from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig
from shop_poller.core import retry
from shop_poller.core.retry import LONGEST_DELAY, GiveUp, RetryAt, RetryPolicy
from shop_poller.ports import BulkSink
from shop_poller.runtime import app, factory
from shop_poller.simulator import faults, quirks
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.endpoint import Endpoint
from shop_poller.simulator.goods import BANK_TRANSFER, CARD, CASH_ON_DELIVERY, PaymentMethod
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.simulator.listing import HONEST, Found, Listing, Paging, select
from shop_poller.simulator.orders import SimulatedOrder
from shop_poller.simulator.routes import ROUTES
from shop_poller.simulator.shop import SimulatedShop
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.bounds import MAX_FINISHED
from shop_poller.web.routes import make_app
from simulation.bulk import Messenger, ToRedis
from simulation.judge import Judge
from simulation.loop import RUNNING, SimulationLoop
from simulation.network import LATENCY_S, Mood, Receiver, ToReceiver, ToShop
from simulation.places import SHOP, Place, RedisPlace, SqlitePlace, Trouble
from simulation.plan import AS_IT_COMES, Emphasis, Plan
from simulation.processes import Process, running
from simulation.readers import is_read, with_readers
from simulation.standard_error import StandardError, blocks_log
from simulation.visitors import Visitor, sends_hooks
from support.hooks import SECRET
from support.no_sockets import small_pages
from support.virtual_time import EPOCH

STATUSES = (
    "processing", "processing", "completed", "pending", "on-hold",
    "cancelled", "refunded", "failed", "sborka",
)  # fmt: skip
JUMPS = (
    *(timedelta(minutes=minutes) for minutes in (2, 15, 59)),
    *(timedelta(days=days) for days in (1, 2, 2, 3.5, 40, 400, 3650)),
)
SERVER_JUMPS = (timedelta(seconds=15), timedelta(seconds=60))
WAYS_TO_PAY = (CARD, BANK_TRANSFER, CASH_ON_DELIVERY)
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


ASKS_CLOCK_S = 12.0
"""Each renewal of the lease asks Redis for the time; some may fail."""


class World:
    """See the module's docstring.

    Attributes:
        outages_s: how long the shop may be down.
        is_calm: all faults have stopped, and nobody mutes anything any more.

    Args:
        seed: of all random numbers.
        folder: for files.
        plan: what kind of world it is; None lets the seed decide.
        shop_id: the shop's.
        emphasis: what happens often.
    """

    outages_s = (20, 90, 400)

    def __init__(
        self,
        seed: int,
        folder: Path,
        loop: SimulationLoop,
        *,
        plan: Plan | None = None,
        shop_id: str = SHOP,
        emphasis: Emphasis = AS_IT_COMES,
    ) -> None:
        self.rng = Random(seed)
        self.emphasis = emphasis
        self.plan = plan or Plan.of(self.rng)
        self.shop_id = shop_id
        self.loop = loop
        self.notes: deque[tuple[float, Any, str, Mapping[str, Any]]] = deque(maxlen=400)
        self.processes: list[Process] = []
        self.shop = SimulatedShop(self.shop_now, "Europe/Moscow", url=f"https://{shop_id}", first_id=1)
        self.endpoint = Endpoint(self.shop, offers=ROUTES, require_https=True, rng=Random(seed))
        self.plan.shop.set_up(self.endpoint)
        self.shop_is_down = False
        self._outage_ends_at = -1e9
        self.was_gone = False  # one of the receivers: until a start
        self.ours: set[int] = set()
        self.disturbances = 0  # of the daemons themselves: for a while they may not ask the shop
        self.seed = seed
        self.clock_set_at = -1e9
        self._host_off = timedelta(0)
        self._shop_off = timedelta(0)
        self._server_off = timedelta(0)
        self.server_set_at = -1e9
        self._payments = Random(f"payments {seed}")
        self._saved: Any = None
        self._stderr: StandardError | None = None
        self._brings_back = False
        self._is_storm = True
        self.is_calm = False
        self._context: Context = copy_context()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.place: Place = self.make_place(folder)
        self.judge = Judge(self)
        self.settings = Settings.of(
            {
                "woocommerce_mcp_url": self.endpoint.address(self.plan.dialect),
                "woocommerce_consumer_key": DEMO_KEY.consumer_key,
                "woocommerce_consumer_secret": DEMO_KEY.consumer_secret,
                "shop_id": shop_id,
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
            },
            parse_sink=parse_sink,
        )
        if sends_hooks(seed):  # the listener has no socket here
            self.settings = self.settings.model_copy(update={"shop_webhook_secret": SecretStr(SECRET)})
        if is_read(seed) and shop_id == SHOP:
            self.settings = with_readers(self.settings, seed)
        self.receivers = {
            sink.name: Receiver(
                sink.name,
                bulk=not isinstance(sink, HttpConfig),
                options=sink.options,
                is_for_people=sink.is_for_people,
            )
            for sink in self.settings.sinks
        }

    def make_place(self, folder: Path) -> Place:
        """Where the state lies."""
        return RedisPlace(self) if self.plan.on_redis else SqlitePlace(self, folder)

    async def daemon(self) -> None:
        """What a process runs."""
        await app.run(ShopsConfig.of_one(self.settings))

    # --- clocks ---------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """True time, to the millisecond."""
        return EPOCH + timedelta(milliseconds=round(self.loop.time() * 1000))

    @property
    def told_time_at(self) -> float:
        """When every process has noticed the last change of a clock: Redis is asked now and then."""
        return max(self.clock_set_at, self.server_set_at + ASKS_CLOCK_S)

    def host_now(self) -> datetime:
        """The clock of the daemons' hosts."""
        return self.now() + self._host_off

    def shop_now(self) -> datetime:
        """The shop's clock."""
        return self.now() + self._shop_off

    def server_time(self) -> float:
        """The clock of Redis, in seconds."""
        return (self.now() + self._server_off).timestamp()

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
        """Take a request to its receiver and the answer back; it arrives even if the asker has given up."""
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

    async def to_shop(self, process: Process, arrive: Callable[[], Awaitable[Any]]) -> Any:
        """Take a request to the shop and the answer back."""
        return await self.carry(process, arrive, down=self.shop_is_down)

    def answer(self, process: Process, request: Request) -> Answer:
        """The shop's answer."""
        self._asking = process
        answer = self.endpoint.answer(request)
        if "/wc/v3/refunds" in request.path and answer.status == 200:
            text = answer.body.decode()
            rows, _ = json.JSONDecoder().raw_decode(text, text.index("["))  # there may be junk around it
            process.listed_refunds = frozenset(row["id"] for row in rows)
        return answer

    def select(self, orders: Iterable[SimulatedOrder], listing: Listing, paging: Paging = HONEST) -> Found:
        """As WooCommerce does it; the judge knows what was loaded."""
        found = select(orders, listing, paging)
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
        self.spawn(Visitor(self).look_at_health())
        if blocks_log(self.seed):
            self._stderr = StandardError(self.judge.fail)
            self.spawn(self._stderr.hold_now_and_then(self))
        if sends_hooks(self.seed):
            self.spawn(Visitor(self).send_hooks())
        if self.settings.shop_admin_token is not None:
            self.spawn(Visitor(self).mute_now_and_then())
        await self._storm(self.plan.actions, self.plan.gap_s)
        await self._calm()
        await self._end(supervisors)

    async def _storm(self, count: int, gap_s: float) -> None:
        """So many things happen, some seconds apart; until the judge finds something."""
        actions = self._emphasized(self._actions())
        for _ in range(count):
            await anyio.sleep(self.rng.expovariate(1 / gap_s))
            if self.judge.verdicts:
                break
            self.rng.choice(actions)()

    async def _end(self, supervisors: Sequence[asyncio.Task[Any]]) -> None:
        """All daemons stop; the state must be what follows from what was seen."""
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
        stderr, self._stderr = self._stderr, None
        if stderr is not None:
            stderr.close()

    def _stock(self) -> None:
        """Orders that were there before."""
        for _ in range(self.rng.randint(0, 3)):
            age = timedelta(minutes=self.rng.choice([7, 50, 180, 3000]))
            self.shop.create_order(
                self.rng.choice(STATUSES), created=self.now() - age, payment=self._payment()
            )

    async def _calm(self) -> None:
        """All faults stop; then nothing may be left to do after a while."""
        self.note("--- calm ---")
        self.is_calm = True
        self.place.troubles.clear()
        self.endpoint.faults.clear()
        self.plan.shop.set_up(self.endpoint)
        self.shop_is_down, self._outage_ends_at = False, -1e9
        for receiver in self.receivers.values():
            receiver.mood = "well"
            receiver.refuses.clear()
        for process in self.processes:
            process.thaw()
        # Deliveries that were parked by a clock that was ahead may wait longer: see decision 16.
        clocks_s = LONGEST_DELAY.total_seconds() if self.told_time_at >= 0 else 0.0
        self._correct_clocks()
        if self.was_gone or self.rng.random() < 0.3:  # only a start makes a sink that was gone be tried again
            for process in self.processes:
                if process.alive:
                    process.terminate()
        ends_at = self.loop.time() + self.emphasis.patience_s + clocks_s + 3 * self.plan.interval_s
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
            stats = await store.stats(self.shop_id)
            waiting = {name: sink.waiting for name, sink in stats.sinks.items() if sink.waiting}
            if waiting != self.judge.waiting():  # nothing, or an alert of the last moment
                self.judge.fail(f"in the outbox is {waiting}, where {self.judge.waiting()} should be")
            memories = self.judge.oracle.memories if self.judge.oracle else {}
            for dead in (False, True):
                for one in await store.finished(self.shop_id, dead=dead, limit=MAX_FINISHED):
                    self.judge.look_at_history(one)
            if gone := self.judge.forgotten(await store.delivery_records(self.shop_id, self.judge.keys())):
                self.judge.fail(f"nothing is remembered of {gone}")
            known = await store.known(self.shop_id, memories.keys())
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

    def _actions(self) -> list[Callable[[], None]]:
        """What may happen. Each world has its own weights, so some of it never happens there."""
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
            self._jump: 2,
            self._start_with_a_wrong_clock: 1,
            self._set_server_clock: 2 if self.plan.on_redis else 0,
        }
        always = [self._create, self._change]
        for kind, actions in {
            "older stamps": [self._change_dated_back, self._change_dated_back, self._set_shop_clock],
            "updates": [self._update_the_shop, self._update_the_shop],
            "sessions": [self._lose_sessions, self._lose_sessions],
            "nginx": [self._crowd, self._crowd],
            "hidden": [self._crowd],
            "capped": [self._crowd],
        }.items():
            if kind in self.plan.shop.kinds:
                always += actions
        if self.plan.on_redis:  # what two replicas make of a lease
            always += [self._ambush, self._crowd, self._freeze]
        if self.plan.in_bulk:
            always += [self._rush, self._rush]
        chosen = [
            action
            for action, weight in weights.items()
            for _ in range(weight * self.rng.choice([0, 0, 1, 3]))
        ]
        return [*always * (1 + len(chosen) // 4), *chosen]

    def _emphasized(self, actions: list[Callable[[], None]]) -> list[Callable[[], None]]:
        """What may happen, with what is emphasized added, so that it is half of all; or only that."""
        often = [self.action(name) for name in self.emphasis.actions]
        if self.emphasis.alone:
            return often
        return actions + often * (len(actions) // len(often)) if often else actions

    def action(self, name: str) -> Callable[[], None]:
        """One of what may happen, by its name."""
        action: Callable[[], None] = getattr(self, name)
        return action

    def _payment(self) -> PaymentMethod:
        """Some orders wait for their payment, if people read the messages in this world."""
        return self._payments.choice(WAYS_TO_PAY) if is_read(self.seed) else CARD

    def _create(self) -> None:
        order_id = self.shop.create_order(self.rng.choice(STATUSES), payment=self._payment())
        if "odd paid dates" in self.plan.shop.lenient:
            self.shop.distort(order_id, quirks.odd_paid_date(self.rng.choice(quirks.ODD_PAID_DATES)))
        if self._is_to_be_hidden():
            hidden = self.shop.paging.hidden | {order_id}
            self.shop.paging = replace(self.shop.paging, hidden=hidden)
            self.note(f"order {order_id} is made and never shown")
            return
        self.ours.add(order_id)
        self.note(f"order {order_id} is made: {self.shop.order(order_id).status}")

    def _is_to_be_hidden(self) -> bool:
        """So few that no page consists of them alone, which would look like the end of a list."""
        if "hidden" not in self.plan.shop.kinds or len(self.shop.paging.hidden) >= self.plan.per_page - 1:
            return False
        return self.rng.random() < 0.3

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

    def _change_dated_back(self) -> None:
        """An ERP writes its own dates: the change is stamped earlier than what it changes."""
        if self.ours:
            order = self.shop.order(self.rng.choice(sorted(self.ours)[-6:]))
            at = order.modified - timedelta(seconds=self.rng.choice([1, 30, 700, 5000, 90_000]))
            status = self.rng.choice(STATUSES)
            if status != order.status:
                self.shop.set_status(order.id, status, at=at)
                self.note(f"order {order.id} becomes {status}, dated {at:%F %T}")
            elif order.total > order.refunded:
                self.shop.refund(order.id, (order.total - order.refunded) / 4, at=at)
                self.note(f"a part of order {order.id} is refunded, dated {at:%F %T}")

    def _set_shop_clock(self) -> None:
        self._shop_off = timedelta(seconds=self.rng.choice([-3600, -100, -20, 0, 0, 20, 3600]))
        self.note(f"the shop's clock is off by {self._shop_off}")

    def _update_the_shop(self) -> None:
        """WordPress updates a plugin: for seconds it answers 503, and says that it takes ten minutes."""
        self.endpoint.faults.add(faults.maintenance(html=self.rng.random() < 0.3))
        self.note("the shop is updated")
        self._later(self.rng.choice([2, 14, 40, 90]), lambda: self.endpoint.faults.clear("maintenance"))

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
        self.note("the shop is down")
        self.be_down(self.rng.choice(self.outages_s))

    def be_down(self, lasts_s: float) -> None:
        """The shop does not answer for so long; of several outages at once, the last one counts."""
        self.shop_is_down = True
        self._outage_ends_at = max(self._outage_ends_at, self.loop.time() + lasts_s)

        def over() -> None:
            self.shop_is_down = self.loop.time() < self._outage_ends_at

        self._later(lasts_s, over)

    def _lose_sessions(self) -> None:
        self.endpoint.sessions.lose_all()

    def _rush(self) -> None:
        """Many orders, when a receiver that takes many at once is in trouble."""
        self._crowd()
        receiver = self.rng.choice([one for one in self.receivers.values() if one.bulk])
        if receiver.mood == "well":
            self._puts_into(
                receiver,
                self.rng.choice([*self.emphasis.moods, "broken", "broken", "limited"]),
                [20, 60, 200],
            )

    def _mood(self) -> None:
        receiver = self.rng.choice([*self.receivers.values()])
        self._puts_into(receiver, self.rng.choice(self.emphasis.moods), [5, 30, 120, 600])

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
            key, code = (
                str(self.rng.choice(sorted(self.ours)[-3:])),
                self.rng.choice([500, 500, 400, 409, 403]),
            )
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

    def _freeze_for_a_while(self, process: Process, *, lasts_s: float | None = None) -> None:
        if process.alive and not process.frozen:
            process.freeze()
            self._later(lasts_s or self.rng.choice([1, 8, 11, 13, 40]), process.thaw)
            self.disturbances += 1

    def _freeze_before_a_write(self) -> None:
        """For longer than a lease lasts: another one writes meanwhile."""
        for process in self.processes:
            if process.alive:
                call = self.rng.choice(["commit", "record_outcomes"])
                process.ambush = (f"before {call}", partial(self._freeze_for_a_while, process, lasts_s=20))

    def _ambush(self) -> None:
        """Something befalls a daemon at a moment when it hurts."""
        if (process := self._someone()) is not None:
            call = self.rng.choice(
                ["commit", "commit", "claim", "claim", "record_outcomes", "record_outcomes", "raise_alert"]
            )
            action: Callable[[], None] = self.rng.choice(
                [process.kill, process.terminate, lambda: self._freeze_for_a_while(process)]
            )
            when = self.rng.choice(["before", "after"])
            if self.rng.random() < 0.25:
                trouble: Trouble = self.rng.choice(["refused", "refused", "lost"])
                when, action = "before", lambda: self._trouble_the_store(trouble, call)
            process.ambush = (f"{when} {call}", action)

    def _store_trouble(self) -> None:
        troubles: list[Trouble] = ["refused", "lost", "slow"]
        self._trouble_the_store(self.rng.choice(troubles), likely=self.rng.choice([0.05, 0.3, 1.0]))

    def _store_outage(self) -> None:
        """Longer than a lease lasts, so every session ends."""
        self._trouble_the_store("refused", lasts_s=30)

    def _refuse_outcomes(self) -> None:
        """What was delivered cannot be recorded for a while; everything else goes on."""
        self._trouble_the_store("refused", "record_outcomes")

    def _trouble_the_store(
        self, trouble: Trouble, call: str = "", *, likely: float = 1.0, lasts_s: float | None = None
    ) -> None:
        """One of its methods fails for a while, or any of them."""
        self.disturbances += 1
        self.place.troubles[trouble, call] = likely
        self.note(f"the store: {trouble} {call}, {likely}")
        over = partial(self.place.troubles.pop, (trouble, call), None)
        self._later(lasts_s or self.rng.choice([1, 5, 30]), over)

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
        self.clock_set_at = self.loop.time()
        self.disturbances += 1
        self.note(f"the hosts' clocks are set by {jump}")

    def _jump(self) -> None:
        """The hosts' clocks are wrong by up to years, for a while."""
        self._set_hosts(self.rng.choice([-1, 1]) * self.rng.choice(JUMPS))
        self._later(self.rng.choice([1, 8, 8, 60, 900]), self._correct_clocks)

    def _start_with_a_wrong_clock(self) -> None:
        """As before NTP: a start with a clock that is set right a little later."""
        self._set_hosts(self.rng.choice([-1, 1]) * self.rng.choice(JUMPS))
        for process in self.processes:
            process.kill()
        self._later(self.rng.choice([8, 30, 200]), self._correct_clocks)

    def _mute_with_a_clock_ahead(self) -> None:
        """The owner mutes all receivers while the clock is ahead by a month, for some seconds."""
        self._set_hosts(timedelta(days=40))
        process = self._someone()
        if process is not None and process.site is not None:
            for sink in self.receivers:
                process.runs(Visitor(self).mute(process, sink, 900))
        self._later(8, self._correct_clocks)

    def _set_hosts(self, off: timedelta) -> None:
        if off != self._host_off:
            self._host_off, self.clock_set_at = off, self.loop.time()
            self.disturbances += 1
            self.note(f"the hosts' clocks are off by {off}")

    def _set_server_clock(self) -> None:
        """The clock of Redis is stepped, and keys expire by it."""
        off = self.rng.choice([-1, 1]) * self.rng.choice([*JUMPS, *JUMPS, *SERVER_JUMPS])
        self._set_server(off)
        self._later(self.rng.choice([8, 60, 900]), lambda: self._set_server(timedelta(0)))

    def _set_server(self, off: timedelta) -> None:
        if off != self._server_off:
            self._server_off = off
            self.server_set_at = self.loop.time()
            self.disturbances += 1
            self.note(f"the clock of Redis is off by {off}")

    def _correct_clocks(self) -> None:
        """All clocks but the shop's are right."""
        self._set_hosts(timedelta(0))
        self._set_server(timedelta(0))

    def _later(self, seconds: float, action: Callable[[], object]) -> None:
        async def wait() -> None:
            await anyio.sleep(seconds)
            action()

        self.spawn(wait())

    # --- the stage ------------------------------------------------------------------------------------------

    def patches(self) -> ExitStack:
        """Puts the world around the daemon's own code."""
        stack = ExitStack()
        for target, value in self.replacements().items():
            stack.enter_context(patch(target, value))
        stack.enter_context(small_pages(self.plan.per_page))
        stack.callback(structlog.configure, **structlog.get_config())
        structlog.configure(processors=[self._log], cache_logger_on_first_use=False)
        return stack

    def replacements(self) -> dict[str, Any]:
        """What is put in place of parts of the product and of libraries, by its name."""

        def make_source(settings: Settings, **options: Any) -> Any:
            return self.judge.witness(running(), factory.make_source(settings, **options))

        def make_sinks(settings: Settings) -> list[Any]:
            return [
                Messenger(self, running(), sink) if isinstance(sink, BulkSink) else sink
                for sink in factory.make_sinks(settings)
            ]

        async def open_connection(*, host: str, **_: Any) -> Any:
            (receiver,) = (one for one in self.receivers.values() if host in one.name)
            return await ToRedis.open(self, running(), receiver)

        def transport(url: str) -> httpx.AsyncBaseTransport:
            if url in self.receivers:
                return ToReceiver(self, running(), self.receivers[url])
            return ToShop(self, running())

        def make_site(*args: Any, **options: Any) -> Any:
            running().site = make_app(*args, **options)
            return running().site

        def after_failure(policy: RetryPolicy, **what: Any) -> RetryAt | GiveUp:
            decision = retry.after_failure(policy, **what)
            self.judge.puts_off(decision, attempts=what["attempts"], error=what["error"], now=what["now"])
            return decision

        return {
            "shop_poller.delivery.sender.after_failure": after_failure,
            "shop_poller.runtime.composition.StorePool": SimulatedStorePool,
            "shop_poller.runtime.composition.make_app": make_site,
            "shop_poller.runtime.shop_runtime.make_source": make_source,
            "shop_poller.runtime.shop_runtime.make_sinks": make_sinks,
            "asyncio.open_connection": open_connection,
            "shop_poller.runtime.shop_runtime.random": self.rng,
            "shop_poller.http.client.http_transport": transport,
            "shop_poller.simulator.tools.select": self.select,
            "shop_poller.simulator.rest.select": self.select,
            "shop_poller.stores.redis.clock.now": self.host_now,  # before Redis was asked for the time
            "shop_poller.runtime.app.on_signal": lambda _, stop: running().on_signal(stop),
            "shop_poller.runtime.app.ignoring_signals": nullcontext,
            # Looked for less often, or most of the time would go into looking.
            "shop_poller.delivery.dispatcher.CHECK_EVERY_S": float(self.plan.interval_s),
            "shop_poller.runtime.lease.TRY_EVERY_S": 3.0,
            "time.time": self.server_time,
            "time.monotonic": self.loop.time,
        }

    def _log(self, _: Any, method: str, event: Any) -> str:
        process = RUNNING.get()
        self.notes.append((self.loop.time(), process, method, event))
        if self._stderr is not None:
            self._stderr.log(f"{method} {event.get('event')}")
        raise structlog.DropEvent


class SimulatedStorePool:
    """In place of stores.StorePool: the only store of a process, in the place of its world."""

    def __init__(self, _: Any, *, is_shared: bool) -> None:
        assert not is_shared

    async def open(self, *_: Any, **__: Any) -> Any:
        process = running()
        process.store = await process.world.place.open(process)
        return process.store

    async def aclose(self) -> None:
        pass
