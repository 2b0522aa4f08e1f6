"""Whatever a shop lives through, in whichever dialect it is asked: nothing is missed, nothing told twice.

Hypothesis makes up the histories; support.history holds each tick against the shop and against the rules.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_poller.simulator import faults
from shop_poller.sources.woocommerce.dialects import Dialect
from support.history import History
from support.shop_actions import BAD_CURRENCY
from support.virtual_time import at_once
from support.wired import SHOP_ID, Moment, bench_for

T = TypeVar("T")
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
PAUSES_S = (0.4, 1, 60, 60, 600, 3660, 3660, 20 * 3600)
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


TO_THE_SHOP = {"create": 2, "crowd": 1, "half-made": 1, "dated": 1, "import": 1, "bulk": 1, "touch all": 1}
TO_AN_ORDER = {
    "status": 6,
    "refund": 3,
    "fill": 2,
    "touch": 1,
    "note": 1,
    "refund undone": 2,
    "refund redone": 2,
    "trash": 1,
    "restore": 2,
    "delete": 1,
    "hide": 3,
    "spoil": 2,
    "mend": 2,
}
TO_THE_WATCH = {"tick": 12, "pause": 6, "rush": 2, "trouble": 1, "restart": 1, "lose sessions": 1}
ACTIONS = [what for what, weight in (TO_THE_SHOP | TO_AN_ORDER | TO_THE_WATCH).items() for _ in range(weight)]
MOMENTS: tuple[Moment, ...] = ("asked", "selected")


@dataclass(frozen=True)
class Step:
    """Something happens.

    Attributes:
        what: what.
        who: to which of the orders, counted round; or how many.
        how: whereto, or how; counted round.
        within: 0 if now; else in the answers of the next tick, one after the other at both of their moments.
    """

    what: str
    who: int
    how: int
    within: int


STEPS = st.builds(
    Step,
    st.sampled_from(ACTIONS),
    st.sampled_from([*[0] * 8, *[1] * 4, *range(2, 12)]),
    st.integers(0, 39),
    st.sampled_from([*[0] * 8, *range(1, 9)]),
)
STOCKS = st.tuples(st.sampled_from(STATUSES), st.sampled_from(AGES))


def lists(each: st.SearchStrategy[T], most: int) -> st.SearchStrategy[list[T]]:
    """Of any length: left to itself Hypothesis makes most lists so short that nothing happens in them."""
    return st.integers(0, most).flatmap(lambda n: st.lists(each, min_size=n, max_size=n))


@dataclass
class Life:
    """Plays a history."""

    history: History
    meddling: list[Step] = field(default_factory=list)
    answers: int = 0
    troubled: bool = False

    async def take(self, step: Step) -> None:
        bench = self.history.bench
        match step.what:
            case "tick":
                await self.tick()
            case "pause":
                await anyio.sleep(PAUSES_S[step.how % len(PAUSES_S)])
            case "rush":  # many pages of changes, each of another second, that no overlap shows again
                for _ in range(6 + step.who):
                    self.history.create(STATUSES[step.how % len(STATUSES)])
                    await anyio.sleep(1)
                await anyio.sleep(180)
            case "trouble":
                trouble = TROUBLES[step.how % len(TROUBLES)]()
                bench.endpoint.faults.add(trouble, times=1 + step.who % 6)
                self.troubled = True
            case "restart":
                await bench.start()
            case "lose sessions":
                bench.endpoint.sessions.lose_all()
            case _ if step.within:
                self.meddling.append(step)
            case _:
                self.do(step)

    async def tick(self) -> None:
        self.answers = 0
        good = await self.history.tick(may_fail=self.troubled)
        self.meddling.clear()
        if good and not self.history.bench.endpoint.faults.active:
            self.troubled = False

    def meddle(self, moment: Moment, page: Sequence[int]) -> None:
        self.answers += moment == "asked"
        place = 2 * self.answers - (moment == "asked")
        now = [step for step in self.meddling if step.within == place]
        # Of the orders of a page one may vanish while they are loaded.
        for step in now if moment == "asked" else now[:1]:
            self.do(step, page)

    def do(self, step: Step, page: Sequence[int] = ()) -> None:
        """Do it to the shop; or to one of all orders, the newest first; or of those that are being loaded."""
        orders = [*reversed(page or [order.id for order in self.history.orders])]
        if step.what in TO_THE_SHOP:
            self._do_to_the_shop(step)
        elif orders:
            self._do_to(orders[step.who % len(orders)], step)

    def _do_to_the_shop(self, step: Step) -> None:
        history, now = self.history, self.history.bench.shop.clock()
        status, at = STATUSES[step.how % len(STATUSES)], now + OFFSETS[step.who % len(OFFSETS)]
        everything = [order.id for order in history.orders]
        match step.what:
            case "create":
                history.create(status)
            case "crowd":
                for _ in range(4 + step.who):
                    history.create(status)
            case "half-made":
                history.create_half_made()
            case "dated":
                history.create_dated(status, at)
            case "import":
                history.create_dated(status, at, modified=at)
            case "bulk":
                for order_id in everything:
                    history.set_status(order_id, status)
            case "touch all":
                history.touch(*everything)

    def _do_to(self, order_id: int, step: Step) -> None:
        history, shop = self.history, self.history.bench.shop
        status = STATUSES[step.how % len(STATUSES)]
        actions: dict[str, Callable[[], object]] = {
            "status": lambda: history.set_status(order_id, status),
            "refund": lambda: history.refund(order_id, part=step.how % 4 != 0),
            "fill": lambda: history.fill(order_id, status),
            "touch": lambda: history.touch(order_id),
            "note": lambda: shop.note(order_id),
            "refund undone": lambda: history.undo_refund(order_id),
            "refund redone": lambda: history.redo_refund(order_id),
            "trash": lambda: history.trash(order_id),
            "restore": lambda: history.restore(order_id),
            "delete": lambda: shop.delete(order_id),
            "hide": lambda: history.set_secretly(order_id, status),
            "spoil": lambda: history.spoil(order_id, step.how, touched=step.who % 2 == 0),
            "mend": history.mend_all,
        }
        actions[step.what]()


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
        await history.record_outcomes()
    return history


@pytest.mark.parametrize("dialect", list(Dialect))
def test_nothing_is_missed_and_nothing_is_told_twice(dialect: Dialect) -> None:
    @settings(max_examples=25)  # and thousands in the long run below
    @given(lists(STOCKS, 8), lists(STEPS, 30))
    def check(stock: list[tuple[str, timedelta]], steps: list[Step]) -> None:
        at_once(live(dialect, stock, steps))

    check()


@pytest.mark.soak
@pytest.mark.parametrize("dialect", list(Dialect))
def test_nothing_is_missed_in_many_more_histories(dialect: Dialect) -> None:
    @settings(max_examples=4_000, derandomize=False)
    @given(lists(STOCKS, 8), lists(STEPS, 40))
    def check(stock: list[tuple[str, timedelta]], steps: list[Step]) -> None:
        at_once(live(dialect, stock, steps))

    check()


# --- What the histories found -------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [1, 12])
def test_the_newest_orders_may_all_be_bad(bad: int) -> None:
    """No good order is near enough to tell where their ids are."""

    async def story() -> None:
        async with bench_for(Dialect.ABILITIES) as bench:
            history = History(bench)
            await history.tick()
            spoiled = [bench.shop.create_order("processing", order_id=3_010 + n) for n in range(bad)]
            for order_id in spoiled:
                bench.shop.distort(order_id, BAD_CURRENCY)
            for _ in range(3):
                await bench.tick()
                await anyio.sleep(60)
            assert set(await bench.store.set_aside(SHOP_ID)) == set(spoiled)
            await bench.start()
            await anyio.sleep(60)
            bench.shop.touch(spoiled[0])
            good = bench.shop.create_order("processing", order_id=3_009)
            for _ in range(3):
                await bench.tick()
            assert [told.source_id for told in bench.told] == [str(good)]
            assert set(await bench.store.set_aside(SHOP_ID)) == set(spoiled)

    at_once(story())
