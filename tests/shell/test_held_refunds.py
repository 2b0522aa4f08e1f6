"""A refund that may be half written: one act is told once, and nothing that is held is forgotten."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import Order, Query, Refund
from shop_poller.polling.held_refunds import HOLD_S
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, ShopHarness, down, shop_harness

pytestmark = pytest.mark.anyio

NEW, PARTIAL, REFUNDED = (f"shop.order.{name}" for name in ("new", "partially_refunded", "refunded"))
ALL = [(7, "930.00"), (8, "1000.00")]
SWEEPS = PollPlan(SHOP, MEANINGS, sweep_every=timedelta(hours=1))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def told(it: ShopHarness) -> list[str]:
    return [event for sink in it.sinks for _, event in sink.events() if event.startswith("shop.order.")]


def flags(it: ShopHarness) -> list[int]:
    """Of each partial refund: 1 if it says that all of the money was given back."""
    bodies = [
        delivery.body for sink in it.sinks for _, delivery in sink.got if delivery.event_type == PARTIAL
    ]
    return [body.count('"fully_refunded": true') for body in bodies]


def by_id(shop: FakeShop) -> list[float]:
    """When orders were asked for by their ids."""
    return [at for at, query in shop.requested if query.ids]


def write_refund(shop: FakeShop, order_id: int = 1, *, touches: bool = False) -> None:
    """As WooCommerce does: first the refund, without touching the order."""
    order = shop.orders[order_id]
    assert isinstance(order, Order)
    refunds = tuple(Refund(*refund) for refund in ALL)
    modified_at = shop.clock() if touches else order.modified_at
    shop.orders[order_id] = replace(order, refunds=refunds, modified_at=modified_at)


@pytest.mark.parametrize("after_s", [1, 5, 14])
async def test_a_refund_of_the_remainder_seen_half_written_is_told_as_refunded_and_only_so(
    path: Path, after_s: float
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "processing", refunds=ALL[:1])
        await anyio.sleep(100)  # new, and the first part of the money
        write_refund(it.shop)
        await anyio.sleep(10 + after_s)  # the tick at 120 s sees it
        it.shop.put(1, "refunded", refunds=ALL)
        await anyio.sleep(200)
    assert told(it) == [NEW, PARTIAL, REFUNDED]
    assert flags(it) == [0]


async def test_a_status_that_stays_is_told_soon(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "processing", refunds=ALL[:1])
        await anyio.sleep(100)
        write_refund(it.shop, touches=True)
        await anyio.sleep(10 + HOLD_S + 1)
        soon = told(it)
        await anyio.sleep(600)
    assert soon == told(it) == [NEW, PARTIAL, PARTIAL]
    assert flags(it) == [0, 1]
    assert by_id(it.shop) == [120 + HOLD_S]


async def test_an_order_that_nothing_modifies_is_looked_at_again(path: Path) -> None:
    """As after a plugin that makes refunds without touching the order; the sweep finds it, long after."""
    async with shop_harness(path, plan=SWEEPS) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "completed", refunds=ALL[:1])
        await anyio.sleep(3600 * 5)
        write_refund(it.shop)
        await anyio.sleep(3600 + 61 + HOLD_S)
        soon = told(it)
        await anyio.sleep(3 * 3600)
    assert soon == told(it) == [NEW, PARTIAL, PARTIAL]
    assert flags(it) == [0, 1]


async def test_one_of_an_order_whose_date_went_back_is_told_too(path: Path) -> None:
    """As by an ERP that writes its own dates. The sweep finds it, and another question confirms it."""
    async with shop_harness(path, plan=SWEEPS) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "completed", refunds=ALL[:1])
        await anyio.sleep(3600 * 5)
        write_refund(it.shop)
        order = it.shop.orders[1]
        assert isinstance(order, Order)
        it.shop.orders[1] = replace(order, modified_at=order.modified_at - timedelta(hours=1))
        await anyio.sleep(3600 + 61 + HOLD_S)
        soon = told(it)
        await anyio.sleep(3 * 3600)
    assert soon == told(it) == [NEW, PARTIAL, PARTIAL]
    assert flags(it) == [0, 1]


async def test_where_no_order_can_be_requested_by_its_id_the_walk_shows_it_again(path: Path) -> None:
    """However short the overlap is: the cursor has not passed it, so it is not taken for read."""
    plan = PollPlan(SHOP, MEANINGS, interval_s=5, overlap=timedelta(seconds=5))
    async with shop_harness(path, plan=plan) as it, it.running():
        await anyio.sleep(1)
        it.shop.put(1, "processing")
        await anyio.sleep(60)

        async def by_date(query: Query) -> None:
            if query.ids:
                raise down(ErrorKind.REJECTED)

        it.shop.before = by_date
        write_refund(it.shop, touches=True)
        await anyio.sleep(60)
    assert told(it) == [NEW, PARTIAL, PARTIAL]
    assert flags(it) == [0, 1]


async def test_ticks_more_frequent_than_that_tell_it_too(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=2)) as it, it.running():
        await anyio.sleep(1)
        it.shop.put(1, "processing")
        await anyio.sleep(10)
        write_refund(it.shop, touches=True)
        await anyio.sleep(HOLD_S - 2)
        before = told(it)
        await anyio.sleep(5)
    assert before == [NEW, PARTIAL]
    assert told(it) == [NEW, PARTIAL, PARTIAL]
    assert flags(it) == [0, 1]


async def test_a_kill_while_it_is_held_loses_nothing(path: Path) -> None:
    """The cursor has not passed it, so the next start sees it again, though nothing is modified."""
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.put(1, "completed")
        made_at = it.shop.clock()
        await it.tick()
        await anyio.sleep(300)
        write_refund(it.shop)
        it.shop.put(2, "processing")  # which leads the cursor far beyond the first
        await it.tick()
        orders = dict(it.shop.orders)
        assert it.state_writer.state.cursor_at is not None
        assert it.state_writer.state.cursor_at <= made_at
        await it.deliver()
        assert PARTIAL in told(it)  # the first of the two refunds
    await anyio.sleep(3600)  # the machine is repaired
    async with shop_harness(path) as it:
        it.shop.orders.update(orders)
        async with it.running():
            await anyio.sleep(HOLD_S + 10)
        assert it.state_writer.state.cursor_at is not None
    assert told(it) == [PARTIAL]
    assert flags(it) == [1]


async def test_an_outage_meanwhile_is_waited_out(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "processing", refunds=ALL[:1])
        await anyio.sleep(100)
        write_refund(it.shop, touches=True)
        await anyio.sleep(15)
        it.shop.down = down(ErrorKind.UNAVAILABLE)
        await anyio.sleep(600)
        it.shop.down = None
        await anyio.sleep(400)
    assert told(it) == [NEW, PARTIAL, PARTIAL]


@pytest.mark.parametrize("becomes", ["gone", "unreadable"])
async def test_what_the_shop_does_not_show_any_more_is_let_go(path: Path, becomes: str) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "processing")
        await anyio.sleep(100)
        write_refund(it.shop, touches=True)
        await anyio.sleep(15)
        if becomes == "gone":
            del it.shop.orders[1]
        else:
            it.shop.spoil(1)
        await anyio.sleep(3000)
    assert told(it) == [NEW, PARTIAL]
    assert by_id(it.shop) == [120 + HOLD_S]
    assert it.poller.next_in_s <= 60


async def test_a_trigger_is_not_kept_waiting(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.put(1, "processing")
        await anyio.sleep(100)
        write_refund(it.shop, touches=True)
        await anyio.sleep(15)
        it.shop.requested.clear()
        it.shop.put(2, "processing")
        it.poller.trigger()
        await anyio.sleep(3)
        assert it.shop.requested
        await anyio.sleep(60)
    assert sorted(told(it)) == sorted([NEW, NEW, PARTIAL, PARTIAL])


async def test_many_are_requested_in_pages(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=120)) as it, it.running():
        await anyio.sleep(10)
        for n in range(1, 251):
            it.shop.put(n, "processing")
        await anyio.sleep(120)
        for n in range(1, 251):
            write_refund(it.shop, n, touches=True)
        await anyio.sleep(300)
    assert told(it).count(PARTIAL) == 500
    assert sum(flags(it)) == 250


async def test_a_look_does_not_wait_beyond_the_next_tick(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.put(1, "processing", refunds=[(7, "1930.00")])
        await it.tick()
        began = anyio.current_time()
        await it.poller.read_held_refunds(TickReport(), began + HOLD_S - 1)
        assert anyio.current_time() == began
        report = TickReport()
        await it.poller.read_held_refunds(report, began + HOLD_S + 1)
        assert anyio.current_time() == began + HOLD_S
        assert report.events == 1
