"""The sweep on the bench, in virtual time: when, how much, what it finds, and that it is in nobody's way."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core import sweep as rules
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import EventType, Order, Page, Query
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.sweeper import MAX_FAILURES, MAX_OPEN
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, ShopHarness, down, refused, shop_harness
from support.virtual_time import THREADLESS, Backend, virtual_now

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return THREADLESS


HOUR = 3600.0
PLAN = PollPlan(SHOP, MEANINGS, sweep_every=timedelta(hours=1))
NEW, CANCELLED, FAILED = EventType.NEW, EventType.CANCELLED, EventType.FAILED


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@asynccontextmanager
async def swept(
    path: Path, *, shop: FakeShop | None = None, plan: PollPlan = PLAN
) -> AsyncIterator[ShopHarness]:
    """A shop harness that has polled and swept an empty shop once."""
    async with shop_harness(path, shop=shop, plan=plan, in_memory=True) as it:
        await it.tick()
        await sweep(it)
        it.shop.requested.clear()
        yield it


async def grow_old(it: ShopHarness) -> None:
    """The orders that there are become known, and then too old to be recent."""
    await it.tick()
    await anyio.sleep(72 * HOUR)
    await it.tick()


async def sweep(it: ShopHarness) -> None:
    """What is done between two ticks."""
    await it.poller.between_ticks(TickReport(), anyio.current_time() + 60)


def hide(it: ShopHarness, order_id: int, status: str) -> None:
    """A status changes past WooCommerce, as by a plugin's SQL: no date moves."""
    order = it.shop.orders[order_id]
    assert isinstance(order, Order)
    it.shop.orders[order_id] = replace(order, status=status)


def redate(it: ShopHarness, order_id: int, status: str, by: timedelta) -> None:
    """A status changes, and the date of modification moves by so much."""
    order = it.shop.orders[order_id]
    assert isinstance(order, Order)
    it.shop.orders[order_id] = replace(order, status=status, modified_at=order.modified_at + by)


def sweeps(it: ShopHarness) -> list[Query]:
    """The queries of sweeps: no walk or import sends such queries."""
    return [query for _, query in it.shop.requested if query.ids or query.created_after]


# --- what it finds ------------------------------------------------------------------------------------------


async def test_a_status_that_moves_no_date_is_found_within_the_hour(path: Path) -> None:
    async with swept(path) as it, it.running():
        it.shop.put(1, "processing")
        await anyio.sleep(1200)  # beyond what every tick reads again: SHOP_CLOCK_SKEW and the overlap
        hide(it, 1, "cancelled")
        await anyio.sleep(1200)
        assert it.sinks[0].events() == [("1", NEW)]
        await anyio.sleep(HOUR)
        assert it.sinks[0].events() == [("1", NEW), ("1", CANCELLED)]
    assert it.value("shop_sweep_found_total") == 1


async def test_what_it_finds_is_logged_as_found(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        await it.tick()
        await anyio.sleep(HOUR)
        await it.tick()
        hide(it, 1, "failed")
        await it.tick()
        with capture_logs() as logs:
            await sweep(it)
    found = [log for log in logs if "sweep found" in log["event"]]
    assert [(log["order"], log["status"], log["log_level"]) for log in found] == [(1, "failed", "warning")]


async def test_an_order_that_polling_was_never_shown_is_found(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        it.shop.put(
            1, "processing", created_at=virtual_now() - timedelta(minutes=40)
        )  # dated back by a plugin
        await it.tick()
        await sweep(it)
        await it.deliver()
    assert it.sinks[0].events() == [("1", NEW)]
    assert it.value("shop_sweep_found_total") == 1


async def test_an_order_that_is_never_confirmed_costs_a_bounded_number_of_questions(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "MAX_CONFIRMING", 4)
    async with swept(path) as it:
        made_at = virtual_now()
        it.shop.put(1, "processing")
        await it.tick()
        await anyio.sleep(HOUR)
        order = it.shop.orders[1]
        assert isinstance(order, Order)
        it.shop.orders[1] = replace(order, status="cancelled", modified_at=made_at - timedelta(minutes=5))
        fetch, requested = it.shop.fetch, list[Query]()

        async def endless(query: Query) -> Page:
            """Other orders, each time new ones, where one is to be confirmed."""
            page = await fetch(query)
            if query.created_after != made_at - timedelta(seconds=1):
                return page
            requested.append(query)
            if len(requested) > 20:
                raise AssertionError("there is no end")
            other = replace(order, id=1000 + len(requested))
            return replace(page, items=(other,), total=10_000, total_pages=100)

        monkeypatch.setattr(it.shop, "fetch", endless)
        await it.tick()
        await sweep(it)
    assert len(requested) == 4


async def test_of_older_orders_only_those_that_may_still_change_are_looked_at_again(path: Path) -> None:
    async with swept(path) as it:
        for order_id, status in ((1, "processing"), (2, "completed"), (3, "on-hold"), (4, "cancelled")):
            it.shop.put(order_id, status)
        await grow_old(it)
        it.shop.requested.clear()
        await sweep(it)
    assert [sorted(query.ids) for query in sweeps(it) if query.ids] == [[1, 3]]


async def test_an_old_order_that_is_open_is_found_too(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        await it.tick()
        await anyio.sleep(72 * HOUR)
        hide(it, 1, "cancelled")
        await it.tick()
        await sweep(it)
        await it.deliver()
    assert it.sinks[0].events() == [("1", NEW), ("1", CANCELLED)]


async def test_an_order_set_aside_is_tried_again_and_told_when_it_can_be_read(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        good = it.shop.orders[1]
        it.shop.spoil(1)
        it.shop.put(2, "processing")
        await it.tick()
        assert it.value("shop_orders_set_aside") == 1
        await anyio.sleep(72 * HOUR)
        await it.tick()
        await sweep(it)
        assert it.value("shop_orders_set_aside") == 1
        it.shop.orders[1] = good  # mended, and no date moved
        await anyio.sleep(HOUR)
        await it.tick()
        await sweep(it)
        await it.deliver()
    assert it.sinks[0].events() == [("2", NEW), ("1", NEW)]
    assert it.value("shop_orders_set_aside") == 0


async def test_an_order_that_the_shop_does_not_show_any_more_stays_as_it_was(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        await it.tick()
        gone = it.shop.orders.pop(1)
        await anyio.sleep(HOUR)
        await it.tick()
        await sweep(it)
        assert (await it.store.known(SHOP, [1]))[1].status == "processing"
        it.shop.orders[1] = gone
        hide(it, 1, "cancelled")
        await anyio.sleep(HOUR)
        await it.tick()
        await sweep(it)
        await it.deliver()
    assert it.sinks[0].events() == [("1", NEW), ("1", CANCELLED)]


async def test_what_the_next_tick_would_show_is_told_and_not_counted_as_missed(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        it.shop.put(1, "processing")  # between the tick and the sweep
        await sweep(it)
        await it.tick()
        await it.deliver()
    assert it.sinks[0].events() == [("1", NEW)]
    assert it.value("shop_sweep_found_total") == 0


# --- when, and how much -------------------------------------------------------------------------------------


async def test_it_comes_after_a_tick_once_an_interval(path: Path) -> None:
    async with shop_harness(path, plan=PLAN, in_memory=True) as it, it.running():
        await anyio.sleep(5 * HOUR + 30)
    times = [at for at, query in it.shop.requested if query.created_after]
    assert times == [0, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR, 5 * HOUR]


async def test_it_can_be_turned_off(path: Path) -> None:
    plan = replace(PLAN, sweep_every=timedelta(0))
    async with shop_harness(path, plan=plan, in_memory=True) as it, it.running():
        await anyio.sleep(3 * HOUR)
    assert sweeps(it) == []


async def test_a_restart_does_not_sweep_before_its_time(path: Path) -> None:
    async with shop_harness(path, plan=PLAN) as it:
        await it.tick()
        await sweep(it)
    async with shop_harness(path, plan=PLAN, shop=it.shop) as it:
        it.shop.requested.clear()
        await it.tick()
        await sweep(it)
        assert sweeps(it) == []
        await anyio.sleep(HOUR)
        await sweep(it)
        assert sweeps(it) != []


async def test_a_sweep_that_was_cut_short_goes_on_with_the_open_orders_where_it_was(path: Path) -> None:
    async with shop_harness(path, plan=PLAN) as it:
        await it.tick()
        await sweep(it)
        for order_id in range(1, 251):
            it.shop.put(order_id, "processing")
        await grow_old(it)
        it.shop.requested.clear()

        async def failing(query: Query) -> None:
            if query.ids and min(query.ids) > 100:
                raise down(ErrorKind.CONNECTION)

        it.shop.before = failing
        await sweep(it)
        assert it.state_writer.state.sweep_after_id == 100
        it.shop.before = None
    async with shop_harness(path, plan=PLAN, shop=it.shop) as it:
        it.shop.requested.clear()
        await it.tick()
        await sweep(it)
        assert [min(query.ids) for query in sweeps(it) if query.ids] == [101, 201]
        assert it.state_writer.state.sweep_after_id == 0


async def test_pages_have_a_budget_and_the_rest_follows_the_next_time(path: Path) -> None:
    async with swept(path) as it:
        it.shop.most_ids = 1
        for order_id in range(1, MAX_OPEN + 51):
            it.shop.put(order_id, "processing")
        await grow_old(it)
        for expected in (list(range(1, MAX_OPEN + 1)), list(range(MAX_OPEN + 1, MAX_OPEN + 51)), [1, 2, 3]):
            it.shop.requested.clear()
            await sweep(it)
            await it.tick()
            await sweep(it)
            requested = [order_id for query in sweeps(it) for order_id in query.ids]
            assert requested[: len(expected)] == expected
            assert len(requested) <= MAX_OPEN
            assert len([query for query in sweeps(it) if not query.ids]) == 1, "what is recent, each time"
            await anyio.sleep(HOUR)
            await it.tick()


async def test_recent_orders_that_cannot_be_listed_are_passed_by_and_the_open_ones_looked_at(
    path: Path,
) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        await grow_old(it)

        async def choosy(query: Query) -> None:
            if query.created_after:
                raise down(ErrorKind.SERVER)

        it.shop.before = choosy
        for round_ in range(3):
            hide(it, 1, ("cancelled", "failed", "cancelled")[round_])
            with capture_logs() as logs:
                await sweep(it)
            assert any("skips the recent" in log["event"] for log in logs)
            await anyio.sleep(HOUR)
            await it.tick()
        await it.deliver()
    assert it.sinks[0].events() == [("1", NEW), ("1", CANCELLED)]  # closed then, and no more looked at


async def test_a_clock_set_back_does_not_put_it_off(path: Path) -> None:
    async with shop_harness(path, plan=PLAN) as it:
        await it.tick()
        ahead = replace(it.state_writer.state, swept_at=virtual_now() + timedelta(days=300))
        await it.state_writer.commit(ahead, Page((), virtual_now()))
    async with shop_harness(path, plan=PLAN, shop=it.shop) as it:
        await it.tick()
        await sweep(it)
        assert sweeps(it) != []


async def test_while_there_is_something_to_import_nothing_is_swept(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, plan=PLAN, in_memory=True) as it:
        for order_id in range(1, 2301):
            shop.put(order_id, "processing", created_at=virtual_now() - timedelta(days=1))
        await it.tick()
        await it.poller.between_ticks(TickReport(), anyio.current_time())  # no time for more than a page
        assert (it.state_writer.state.import_position is None, sweeps(it)) == (False, [])
        await sweep(it)
        assert it.state_writer.state.import_position is None
        assert sweeps(it) != []


# --- in nobody's way ----------------------------------------------------------------------------------------


async def test_it_never_delays_a_tick(path: Path) -> None:
    async with swept(path) as it:
        for order_id in range(1, 301):
            it.shop.put(order_id, "processing")

        async def slow(query: Query) -> None:
            if query.ids or query.created_after:
                await anyio.sleep(25)

        it.shop.before = slow
        async with it.running():
            await anyio.sleep(3 * HOUR - 1)
        ticks = sorted({at for at, query in it.shop.requested if query.modified_after})
    assert ticks == [60 * n for n in range(180)]
    assert it.state_writer.state.swept_at is not None


async def test_pages_too_slow_for_a_tick_are_awaited_and_become_smaller_until_they_fit(path: Path) -> None:
    async with swept(path) as it:
        for order_id in range(1, 81):
            it.shop.put(order_id, "processing")
        await it.tick()
        await anyio.sleep(HOUR)
        await it.tick()
        hide(it, 1, "cancelled")

        async def slow(query: Query) -> None:
            if query.ids or query.created_after:
                await anyio.sleep(1.5 * query.per_page)

        it.shop.before = slow
        it.shop.requested.clear()
        async with it.running():
            await anyio.sleep(1200)
        answered = [
            (at, query.per_page) for at, query in it.shop.requested if query.ids or query.created_after
        ]
        sizes = [size for _, size in answered]
        ticks = [at for at, query in it.shop.requested if query.modified_after]
    assert sizes[0] == 100, "how slow the shop is shows the first answer"
    assert sizes[:3] == [100, 50, 25]
    assert all(later <= earlier for earlier, later in pairwise(sizes))
    assert not [at for at in ticks for end, size in answered if end - 1.5 * size < at < end]
    # A tick waits for the answer, the next one is on the grid again, and five more come before the next page.
    assert [at - HOUR for at in ticks if at % 60] == [150, 495]
    assert [end - HOUR - 1.5 * size for end, size in answered][:3] == [0, 420, 780]
    assert it.sinks[0].events()[-1] == ("1", CANCELLED)
    assert it.value("shop_sweep_found_total") == 1


async def test_it_stops_politely_when_the_shop_has_had_enough(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=20))
        it.shop.requested.clear()
        async with it.running():
            await anyio.sleep(HOUR - 1)
        # The tick at 0 met the trouble by waiting; a sweep does not wait, and comes back in an hour.
        assert it.value("shop_poll_errors_total", error_type="RateLimitError") == 1


async def test_a_sweep_that_is_told_to_wait_leaves_the_shop_alone_until_then(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=150))
        await sweep(it)
        assert len(it.shop.requested) == 1
        report = await it.poller.tick(anyio.current_time() + 60)
        assert report.paused_s == pytest.approx(150)
        await sweep(it)
        assert len(it.shop.requested) == 1


async def test_a_sweep_that_fails_without_a_word_delays_no_tick(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        for kind in (ErrorKind.RATE_LIMIT, ErrorKind.CONNECTION, ErrorKind.PROTOCOL):
            it.shop.troubles.append(down(kind))
            await sweep(it)
            report = await it.poller.tick(anyio.current_time() + 60)
            assert (report.paused_s, report.error) == (0, None)
            await anyio.sleep(HOUR)


async def test_an_order_too_large_to_be_swept_does_not_stop_the_others(path: Path) -> None:
    async with swept(path) as it:
        for order_id in (1, 2, 3):
            it.shop.put(order_id, "processing")
        await grow_old(it)
        hide(it, 3, "cancelled")

        async def bounded(query: Query) -> None:
            if 1 in query.ids:
                raise down(ErrorKind.TOO_LARGE)

        it.shop.before = bounded
        with capture_logs() as logs:
            await sweep(it)
        await it.deliver()
    assert [log["which"] for log in logs if log["event"] == "an order cannot be swept"] == ["1"]
    assert it.sinks[0].events()[-1] == ("3", CANCELLED)


@pytest.mark.parametrize("kind", [ErrorKind.SERVER, ErrorKind.REJECTED])
@pytest.mark.parametrize("most_ids", [1, 100])
async def test_orders_that_the_shop_cannot_answer_for_do_not_stop_the_others(
    path: Path, kind: ErrorKind, most_ids: int
) -> None:
    async with swept(path) as it:
        it.shop.most_ids = most_ids
        for order_id in range(1, 41):
            it.shop.put(order_id, "processing")
        await grow_old(it)
        hide(it, 40, "cancelled")
        broken, fetch = {3, 4, 15, 30}, it.shop.fetch

        async def choosy(query: Query) -> object:
            if broken & query.ids:
                raise (down if kind is ErrorKind.SERVER else refused)(kind)
            return await fetch(query)

        it.shop.fetch = choosy  # type: ignore[method-assign, assignment]
        with capture_logs() as logs:
            await sweep(it)
        assert it.state_writer.state.sweep_after_id == 0
        report = await it.poller.tick(anyio.current_time() + 60)
        assert (report.error, report.paused_s) == (None, 0)  # and the breaker is closed
        await it.deliver()
    assert {log["which"] for log in logs if log["event"] == "an order cannot be swept"} == set(
        map(str, broken)
    )
    assert it.sinks[0].events()[-1] == ("40", CANCELLED)


async def test_what_breaks_over_one_order_of_a_sweep_does_not_make_walks_smaller(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "processing")
        await grow_old(it)

        async def choosy(query: Query) -> None:
            if query.ids:
                raise down(ErrorKind.SERVER)

        it.shop.before = choosy
        await sweep(it)
        it.shop.requested.clear()
        await it.tick()
        assert [query.per_page for _, query in it.shop.requested] == [100]


async def test_a_shop_that_answers_for_no_order_at_all_is_left_alone(path: Path) -> None:
    async with swept(path) as it:
        for order_id in range(1, 101):
            it.shop.put(order_id, "processing")
        await grow_old(it)
        it.shop.requested.clear()
        fetch, requested = it.shop.fetch, 0

        async def broken(query: Query) -> object:
            nonlocal requested
            if query.ids:
                requested += 1
                raise down(ErrorKind.SERVER)
            return await fetch(query)

        it.shop.fetch = broken  # type: ignore[method-assign, assignment]
        await sweep(it)
        once = requested
        assert once <= 7 + MAX_FAILURES  # halves, and then one by one
        await it.tick()
        await sweep(it)
        assert requested == once


async def test_keys_refused_to_a_sweep_are_no_alert_while_polling_works(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        await it.tick()
        it.shop.troubles.append(refused(ErrorKind.AUTHENTICATION))
        await sweep(it)
        await it.tick()
        await it.deliver()
    assert it.sinks[0].events() == []


async def test_a_bug_in_a_sweep_does_not_make_it_ask_all_the_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        calls = 0

        async def bug(*_: object, **__: object) -> None:
            nonlocal calls
            calls += 1
            raise ZeroDivisionError

        monkeypatch.setattr("shop_poller.polling.sweeper.Sweeper._ask", bug)
        async with it.running():
            await anyio.sleep(HOUR - 10)
    assert calls == 1
    assert ticks_of(it) >= 59


def ticks_of(it: ShopHarness) -> int:
    return len({at for at, query in it.shop.requested if query.modified_after})


async def test_an_old_answer_that_a_cache_kept_is_not_believed(path: Path) -> None:
    async with swept(path) as it:
        it.shop.put(1, "on-hold")
        await it.tick()
        stale = it.shop.orders[1]
        await anyio.sleep(72 * HOUR)
        it.shop.put(1, "failed", created_at=stale.created_at)
        order = it.shop.orders[1]
        assert isinstance(order, Order)
        it.shop.orders[1] = replace(order, modified_at=it.shop.clock())
        await it.tick()
        fetch = it.shop.fetch

        async def cached(query: Query) -> Page:
            return Page((stale,), it.shop.clock()) if query.ids else await fetch(query)

        it.shop.fetch = cached  # type: ignore[method-assign]
        await sweep(it)
        await it.tick()
        await it.deliver()
    assert it.sinks[0].events() == [("1", FAILED)]


async def test_a_change_with_an_older_date_is_announced_by_the_next_sweep(path: Path) -> None:
    async with swept(path) as it:
        for order_id in (1, 2, 3):
            it.shop.put(order_id, "processing")
        await it.tick()
        await anyio.sleep(72 * HOUR)  # beyond the window of the sweep: asked for by its id
        it.shop.put(4, "processing")  # within it
        await it.tick()
        for order_id in (1, 4):  # an ERP writes its own dates
            redate(it, order_id, "cancelled", timedelta(hours=-2))
        redate(it, 2, "processing", timedelta(hours=-2))  # nothing but the date
        await anyio.sleep(HOUR)
        await it.tick()
        await it.deliver()
        told = len(it.sinks[0].events())
        with capture_logs() as logs:
            await sweep(it)
        await it.tick()
        await sweep(it)
        await it.deliver()
    assert sorted(it.sinks[0].events()[told:]) == [("1", CANCELLED), ("4", CANCELLED)]
    found = [log for log in logs if "sweep found" in log["event"]]
    assert sorted(log["order"] for log in found) == [1, 4]


async def test_triggers_do_not_starve_it(path: Path) -> None:
    """Anybody who has recorded one webhook can send it again and again."""
    async with swept(path) as it:
        for order_id in range(1, 251):
            it.shop.put(order_id, "processing")
        await it.tick()
        await anyio.sleep(72 * HOUR)

        async def slow(query: Query) -> None:
            if query.ids or query.created_after:
                await anyio.sleep(3)

        it.shop.before = slow
        async with it.running():
            for _ in range(600):
                await anyio.sleep(1)
                it.poller.trigger()
        swept_at = it.state_writer.state.swept_at
    assert swept_at is not None
    assert virtual_now() - swept_at < timedelta(minutes=10)


async def test_a_trigger_waits_for_the_answer_to_a_sweep_and_for_no_more(path: Path) -> None:
    """PHP computes an answer whether or not anybody waits for it."""
    async with swept(path) as it:
        await anyio.sleep(HOUR)

        async def slow(query: Query) -> None:
            if query.created_after:
                await anyio.sleep(50)

        it.shop.before = slow
        async with it.running():
            await anyio.sleep(10)
            it.shop.put(1, "processing")
            it.poller.trigger()
            await anyio.sleep(39)
            assert (ticks_of(it), len(sweeps(it))) == (1, 0), "it is still being answered"
            await anyio.sleep(2)
            assert it.sinks[0].events() == [("1", NEW)]
            assert (ticks_of(it), len(sweeps(it))) == (2, 1)


async def test_stopping_does_not_wait_for_a_sweep(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        it.shop.troubles.extend([0.0, 50.0])
        with anyio.fail_after(5):
            async with it.running():
                await anyio.sleep(1)


# --- short intervals ----------------------------------------------------------------------------------------


class Counted:
    """A shop whose answers to sweeps take their time; counts those that nobody waited for.

    Args:
        it: whose shop it is.
        takes_s: of how many orders were asked for.
    """

    def __init__(self, it: ShopHarness, takes_s: Callable[[int], float]) -> None:
        self.begun: list[float] = []
        self.abandoned = 0
        self._fetch = it.shop.fetch
        self._takes_s = takes_s
        it.shop.fetch = self.fetch  # type: ignore[method-assign]

    async def fetch(self, query: Query) -> Page:
        page = await self._fetch(query)
        if query.ids or query.created_after:
            self.begun.append(anyio.current_time())
            try:
                await anyio.sleep(self._takes_s(query.per_page))
            except BaseException:
                self.abandoned += 1
                raise
        return page


@pytest.mark.parametrize("interval_s", [1, 5, 15, 60])
@pytest.mark.parametrize(
    "takes_s",
    [lambda _: 0.2, lambda _: 8.0, lambda size: 0.05 * size, lambda size: 0.3 * size, lambda _: 29.0],
    ids=["quick", "8 s", "5 s a hundred", "30 s a hundred", "29 s"],
)
async def test_a_sweep_makes_progress_abandons_nothing_and_lets_ticks_go_on(
    path: Path, interval_s: float, takes_s: Callable[[int], float]
) -> None:
    plan = PollPlan(SHOP, MEANINGS, interval_s=interval_s, sweep_every=timedelta(hours=1))
    async with swept(path, plan=plan) as it:
        for order_id in range(1, 251):
            it.shop.put(order_id, "processing")
        await it.tick()
        await anyio.sleep(72 * HOUR)
        hide(it, 1, "cancelled")
        await it.tick()
        shop = Counted(it, takes_s)
        it.shop.requested.clear()
        async with it.running():
            await anyio.sleep(HOUR - 60)
            ticks = [at for at, query in it.shop.requested if query.modified_after]
            assert shop.abandoned == 0
            assert it.sinks[0].events()[-1] == ("1", CANCELLED)
        assert it.state_writer.state.swept_at is not None
        assert virtual_now() - it.state_writer.state.swept_at < timedelta(hours=1)
    gaps = [later - earlier for earlier, later in pairwise(ticks)]
    late = [gap for gap in gaps if gap > interval_s + 0.001]
    assert all(gap <= 30 + interval_s for gap in late), "no tick waits for more than one answer"
    assert len(ticks) * interval_s >= (HOUR - 60) * (0.45 if interval_s < 5 else 0.8)
    assert len(shop.begun) <= 400


async def test_a_question_that_times_out_is_half_as_large_the_next_time(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        fetch, sizes = it.shop.fetch, []

        async def slow(query: Query) -> Page:
            if query.created_after:
                sizes.append(query.per_page)
                if query.per_page > 30:
                    await anyio.sleep(30)
                    raise down(ErrorKind.TIMEOUT)
            return await fetch(query)

        it.shop.fetch = slow  # type: ignore[method-assign]
        async with it.running():
            await anyio.sleep(HOUR - 60)
        assert sizes == [100, 50, 25]
        assert it.state_writer.state.swept_at is not None
        assert virtual_now() - it.state_writer.state.swept_at < timedelta(hours=1)


@pytest.mark.parametrize("interval_s", [1, 5, 60])
async def test_triggers_at_any_interval_leave_a_sweep_its_answers(path: Path, interval_s: float) -> None:
    plan = PollPlan(SHOP, MEANINGS, interval_s=interval_s, sweep_every=timedelta(hours=1))
    async with swept(path, plan=plan) as it:
        for order_id in range(1, 251):
            it.shop.put(order_id, "processing")
        await it.tick()
        await anyio.sleep(72 * HOUR)
        shop = Counted(it, lambda _: 3.0)
        async with it.running():
            for _ in range(600):
                await anyio.sleep(1)
                it.poller.trigger()
            assert shop.abandoned == 0
        assert it.state_writer.state.swept_at is not None
        assert virtual_now() - it.state_writer.state.swept_at < timedelta(minutes=10)


async def test_only_stopping_abandons_an_answer(path: Path) -> None:
    async with swept(path) as it:
        await anyio.sleep(HOUR)
        shop = Counted(it, lambda _: 25.0)
        async with it.running():
            await anyio.sleep(5)
        assert shop.abandoned == 1
        assert len(shop.begun) == 1


async def test_a_sweep_that_is_cut_short_is_closed(path: Path) -> None:
    """Else the garbage collector would end its generators in any order, and log what that leads to."""
    async with shop_harness(path, plan=PLAN, in_memory=True) as it:
        await it.tick()
        await it.poller._sweeper.page(TickReport())
        pages = it.poller._sweeper._pages
        assert pages is not None
        it.poller.stop()
        await it.poller.run()
        with pytest.raises(StopAsyncIteration):  # it has ended
            await anext(pages)
