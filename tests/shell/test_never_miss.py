"""Whatever a shop lives through, in whichever dialect it is asked: nothing is missed, nothing told twice.

Hypothesis makes up the histories; support.history holds each tick against the shop and against the rules.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_poller.core.dialects import Dialect
from shop_poller.simulator import faults
from support.history import History
from support.virtual_time import ThreadlessLoop
from support.wired import Moment, bench_for

STATUSES = (
    "processing",
    "completed",
    "pending",
    "on-hold",
    "cancelled",
    "refunded",
    "failed",
    "sborka",
    "checkout-draft",
    "of-a-plugin-that-is-gone",
)
AGES = (
    timedelta(minutes=7),
    timedelta(minutes=50),
    timedelta(hours=3),
    timedelta(hours=40),
    timedelta(days=5),
    timedelta(days=60),
)
OFFSETS = (*(-age for age in AGES), timedelta(minutes=30), timedelta(hours=5))
PAUSES_S = (0.4, 1, 59, 60, 600, 3660, 20 * 3600)
TROUBLES = (
    faults.dropped,
    faults.captcha,
    faults.php_fatal,
    faults.bad_gateway,
    faults.half_a_body,
    faults.maintenance,
    lambda: faults.rate_limited(20),
    lambda: faults.slow(40),
)


@dataclass(frozen=True)
class Deed:
    """Something happens in the shop: what, to which order, and how."""

    kind: str
    who: int
    how: int


@dataclass(frozen=True)
class Meanwhile:
    """A deed within the next tick: at a moment of its n-th answer."""

    answer: int
    moment: Moment
    deed: Deed


@dataclass(frozen=True)
class Pause:
    """Time passes."""

    seconds: float


@dataclass(frozen=True)
class Trouble:
    """The next answers go wrong."""

    kind: int
    times: int


@dataclass(frozen=True)
class Tick:
    """The shop is polled."""


@dataclass(frozen=True)
class Restart:
    """The daemon ends and starts anew."""


@dataclass(frozen=True)
class SessionsLost:
    """The shop forgets its sessions."""


Step = Deed | Meanwhile | Pause | Trouble | Tick | Restart | SessionsLost


@dataclass
class Life:
    """Plays a history."""

    history: History
    meddling: list[Meanwhile] = field(default_factory=list)
    answers: int = 0
    troubled: bool = False

    def do(self, deed: Deed) -> None:
        history, shop = self.history, self.history.bench.shop
        status, offset = STATUSES[deed.how % len(STATUSES)], OFFSETS[deed.how % len(OFFSETS)]
        orders = history.orders
        match deed.kind:
            case "create":
                history.create(status)
            case "half-made":
                history.create_half_made()
            case "dated":
                history.create_dated(STATUSES[deed.who % 4], shop.clock() + offset)
            case "import":
                at = shop.clock() + offset
                history.create_dated(STATUSES[deed.who % 4], at, modified=at)
            case "crowd":
                for _ in range(6 + deed.how):
                    history.create(STATUSES[deed.who % 3])
            case "bulk":
                for order in orders:
                    history.set_status(order.id, status)
            case "touch all":
                history.touch(*(order.id for order in orders))
            case _ if orders:
                self._do_to(orders[deed.who % len(orders)].id, deed, status)

    def _do_to(self, order_id: int, deed: Deed, status: str) -> None:
        history, shop = self.history, self.history.bench.shop
        match deed.kind:
            case "fill" if not shop.order(order_id).lines:
                history.fill(order_id)
                history.set_status(order_id, status)
            case "status":
                history.set_status(order_id, status)
            case "refund":
                history.refund(order_id, part=deed.how % 4 != 0)
            case "take a refund back" if refunds := shop.order(order_id).refunds:
                shop.delete_refund(order_id, refunds[0].id)
            case "touch":
                history.touch(order_id)
            case "note":
                shop.note(order_id)
            case "trash":
                history.trash(order_id)
            case "restore":
                history.restore(order_id)
            case "delete":
                shop.delete(order_id)
            case "hide":
                history.set_secretly(order_id, status)
            case "spoil" if len(history.poisoned) < 8:
                history.spoil(order_id, deed.how)
            case "mend":
                history.mend(order_id)

    def meddle(self, moment: Moment) -> None:
        self.answers += moment == "asked"
        now = [m for m in self.meddling if (m.answer, m.moment) == (self.answers, moment)]
        # Of the orders of a page one may vanish while they are loaded.
        for meanwhile in now if moment == "asked" else now[:1]:
            self.do(meanwhile.deed)

    async def take(self, step: Step) -> None:
        bench = self.history.bench
        match step:
            case Deed():
                self.do(step)
            case Meanwhile():
                self.meddling.append(step)
            case Pause():
                await anyio.sleep(step.seconds)
            case Trouble():
                bench.endpoint.faults.add(TROUBLES[step.kind](), times=step.times)
                self.troubled = True
            case Restart():
                await bench.start()
            case SessionsLost():
                bench.endpoint.sessions.lose_all()
            case Tick():
                await self.tick()

    async def tick(self) -> None:
        self.answers = 0
        good = await self.history.tick(may_fail=self.troubled)
        self.meddling.clear()
        if good and not self.history.bench.endpoint.faults.active:
            self.troubled = False


def deeds() -> st.SearchStrategy[Deed]:
    kinds = [
        *["create", "status", "status", "status", "refund", "touch", "trash", "restore", "delete", "note"],
        *["half-made", "fill", "fill", "dated", "import", "crowd", "bulk", "touch all"],
        *["hide", "hide", "spoil", "mend", "take a refund back"],
    ]
    return st.builds(Deed, st.sampled_from(kinds), st.integers(0, 11), st.integers(0, 9))


def steps() -> st.SearchStrategy[list[Step]]:
    deed = deeds()
    meanwhile = st.builds(
        Meanwhile, st.integers(1, 5), st.sampled_from(["asked", "selected", "selected"]), deed
    )
    trouble = st.builds(Trouble, st.integers(0, len(TROUBLES) - 1), st.integers(1, 6))
    tick, pause = st.just(Tick()), st.builds(Pause, st.sampled_from(PAUSES_S))
    rare = st.one_of(trouble, st.just(Restart()), st.just(SessionsLost()))
    return st.lists(
        st.one_of(deed, deed, deed, meanwhile, meanwhile, tick, tick, tick, pause, pause, rare),
        max_size=24,
    )


def stocks() -> st.SearchStrategy[list[tuple[str, timedelta]]]:
    return st.lists(st.tuples(st.sampled_from(STATUSES), st.sampled_from(AGES)), max_size=8)


async def live(dialect: Dialect, stock: Sequence[tuple[str, timedelta]], steps: Sequence[Step]) -> History:
    async with bench_for(dialect) as bench:
        history = History(bench)
        life = Life(history)
        bench.meanwhile = life.meddle
        for status, age in stock:
            history.stock(status, age)
        await life.tick()
        for step in steps:
            await life.take(step)
        life.meddling.clear()
        await history.settle()
    return history


def play(dialect: Dialect, stock: Sequence[tuple[str, timedelta]], steps: Sequence[Step]) -> History:
    with asyncio.Runner(loop_factory=ThreadlessLoop) as runner:
        return runner.run(live(dialect, stock, steps))


@pytest.mark.parametrize("dialect", list(Dialect))
def test_nothing_is_missed_and_nothing_is_told_twice(dialect: Dialect) -> None:
    @settings(max_examples=600)
    @given(stocks(), steps())
    def check(stock: list[tuple[str, timedelta]], steps: list[Step]) -> None:
        play(dialect, stock, steps)

    check()


@pytest.mark.soak
@pytest.mark.parametrize("dialect", list(Dialect))
def test_nothing_is_missed_in_many_more_histories(dialect: Dialect) -> None:
    @settings(max_examples=20_000, derandomize=False)
    @given(stocks(), steps())
    def check(stock: list[tuple[str, timedelta]], steps: list[Step]) -> None:
        play(dialect, stock, steps)

    check()
