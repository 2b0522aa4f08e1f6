"""Shops whose pages and counts are legal and not what was asked for: every order is announced, once.

The real poller asks through the real source of each dialect; only the socket is missing, and time is virtual.
"""

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest.mock import patch

import anyio
import httpx
import pytest
from structlog.testing import capture_logs

from shop_poller.core.model import EventType, Page
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.ports import ShopState
from shop_poller.sources.woocommerce import open_source
from shop_poller.sources.woocommerce.dialects import Dialect, KnownKeys, endpoint
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.lying_shop import (
    LyingShop,
    Row,
    Wire,
    by_requested_size,
    of_one_page,
    says,
    untold,
)
from support.pairs import each_with_each_of
from support.shop_harness import SHOP, FakeShop, ShopHarness, shop_harness
from support.virtual_time import THREADLESS, Backend, virtual_now

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return THREADLESS


CREDENTIALS = KnownKeys("ck_1", "cs_1", "user", "pass word")
NEW, CANCELLED = EventType.NEW, EventType.CANCELLED
HOUR = 3600.0
DIALECTS = (Dialect.REST, Dialect.WOOCOMMERCE_MCP, Dialect.ABILITIES)
COUNTING = (Dialect.REST, Dialect.ABILITIES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@dataclass
class Watched:
    """A lying shop, and the poller that watches it."""

    shop: LyingShop
    shop_harness: ShopHarness

    async def tick(self) -> int:
        """One tick and its deliveries; how many questions it took."""
        before = len(self.shop.questions)
        await self.shop_harness.tick()
        requested = len(self.shop.questions) - before
        await self.shop_harness.deliver()
        return requested

    async def sweep(self) -> None:
        """Whatever is done between two ticks."""
        await self.shop_harness.poller.between_ticks(TickReport(), anyio.current_time() + 600)
        await self.shop_harness.deliver()

    def told(self, event: str = NEW) -> Counter[int]:
        """How often an event of each order was announced."""
        return Counter(int(key) for key, kind in self.shop_harness.sinks[0].events() if kind == event)

    @property
    def failure(self) -> str:
        failure = self.shop_harness.poller.failure
        return str(failure) if failure else ""


@asynccontextmanager
async def watched(
    path: Path, shop: LyingShop, dialect: Dialect, *, sweep_every_s: float = 0, begun_ago_s: float = 7200
) -> AsyncIterator[Watched]:
    """A state whose cursor is so old, in seconds; 0 for none at all."""
    url = endpoint(f"https://{SHOP}", dialect)
    plan = PollPlan(SHOP, MEANINGS, sweep_every=timedelta(seconds=sweep_every_s))
    with capture_logs(), patch("shop_poller.http.client.http_transport", lambda _: Wire(shop)):
        source = open_source(dialect, url, CREDENTIALS)
        async with shop_harness(path, shop=cast("FakeShop", source), plan=plan, in_memory=True) as it:
            if begun_ago_s:
                began = shop.clock().replace(microsecond=0) - timedelta(seconds=begun_ago_s)
                state = ShopState(started_at=began, baseline_at=began, cursor_at=began, last_poll_at=began)
                await it.state_writer.commit(state, Page((), began))
            yield Watched(shop, it)
            await source.aclose()


def selling(orders: int = 200, *, every_s: float = 30, **lies: Any) -> LyingShop:
    """A shop with so many orders, from 1001 on; the last one came `every_s` ago."""
    shop = LyingShop(virtual_now, **lies)
    for n in range(orders):
        shop.put(1001 + n, ago_s=(orders - n) * every_s)
    return shop


def once(ids: Iterable[int]) -> Counter[int]:
    return Counter(dict.fromkeys(ids, 1))


ALL = once(range(1001, 1201))


# --- The case short-pages, and its kind ---------------------------------------------------------------------


async def test_case_short_pages(path: Path) -> None:
    shop = selling(cap=20, count=says("200", "10"))
    async with watched(path, shop, Dialect.REST) as it:
        await it.tick()
        assert it.told() == ALL


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cap", [1, 5, 10, 20, 50])
async def test_a_cap_on_pages_hides_nothing(path: Path, dialect: Dialect, cap: int) -> None:
    async with watched(path, selling(cap=cap), dialect) as it:
        await it.tick()
        assert it.told() == ALL
        await anyio.sleep(1200)
        await it.tick()  # finds that the overlap holds nothing new
        assert [await it.tick() for _ in range(3)] == [1, 1, 1]


@each_with_each_of(
    "dialect",
    COUNTING,
    count={
        "by the size asked for": by_requested_size,
        "of one page": of_one_page,
        "not told": untold,
        "turned off": says("0", "0"),
        "none": says("0", "1"),
        "the cap": says("20", "1"),
        "text": says("many", "some"),
        "huge": says("9" * 40, "9" * 40),
        "of the whole shop": says("1000000", "10000"),
        "negative": says("-1", "-1"),
        "empty": says("", ""),
    },
    cap=[5, 10, 20],
)
async def test_nor_does_any_count_that_the_shop_tells(
    path: Path, dialect: Dialect, cap: int, count: Callable[..., Any]
) -> None:
    async with watched(path, selling(cap=cap, count=count), dialect) as it:
        await it.tick()
        assert it.told() == ALL
        await anyio.sleep(1200)
        await it.tick()
        await it.tick()
        assert [await it.tick() for _ in range(3)] == [1, 1, 1], "an idle tick is one request"


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cap", [0, 20])
async def test_orders_taken_out_of_each_page_hide_no_others(path: Path, dialect: Dialect, cap: int) -> None:
    hidden = set(range(1001, 1201, 7))
    async with watched(path, selling(cap=cap, hidden=hidden), dialect) as it:
        await it.tick()
        assert it.told() == once(set(ALL) - hidden)


@pytest.mark.parametrize("dialect", COUNTING)
@pytest.mark.parametrize("cap", [0, 20])
async def test_pages_taken_out_as_a_whole_hide_no_others(path: Path, dialect: Dialect, cap: int) -> None:
    hidden = set(range(1001, 1111))
    async with watched(path, selling(cap=cap, hidden=hidden), dialect) as it:
        await it.tick()
        assert it.told() == once(set(ALL) - hidden)


@each_with_each_of("dialect", DIALECTS, failures=[1, 2, 3], hides=[1, 2, 30])
async def test_nor_do_pages_that_are_small_because_a_question_failed(
    path: Path, dialect: Dialect, failures: int, hides: int
) -> None:
    """A hidden order is all of a page of one; and pages that become larger are numbered otherwise."""
    hidden = set(range(1001, 1001 + hides))
    shop = selling(hidden=hidden)
    failing = iter([True] * failures)

    def fail() -> None:
        if next(failing, False):
            raise httpx.ConnectError("made up")

    shop.before = fail
    async with watched(path, shop, dialect) as it:
        await it.tick()
        assert it.told() == once(set(ALL) - hidden)


async def test_pages_taken_out_as_a_whole_delay_others_where_the_shop_tells_no_count(path: Path) -> None:
    shop = selling(cap=20, hidden=set(range(1001, 1111)))
    async with watched(path, shop, Dialect.WOOCOMMERCE_MCP, sweep_every_s=HOUR) as it:
        await it.tick()
        await it.sweep()
        assert it.told() == once(range(1111, 1201))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_three_hundred_orders_of_one_second_on_a_capped_shop(path: Path, dialect: Dialect) -> None:
    shop = selling(0, cap=20)
    for n in range(300):
        shop.put(1001 + n, ago_s=600)
    async with watched(path, shop, dialect) as it:
        await it.tick()
        assert it.told() == once(range(1001, 1301))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("ahead_s", [60, 86_400])
async def test_orders_dated_ahead_hide_nothing_on_a_capped_shop(
    path: Path, dialect: Dialect, ahead_s: float
) -> None:
    shop = selling(100, cap=20)
    for n in range(60):
        shop.put(2001 + n, ago_s=-ahead_s)
    async with watched(path, shop, dialect) as it:
        await it.tick()
        await anyio.sleep(60)
        shop.put(3001)
        await it.tick()
        assert it.told() == once([*range(1001, 1101), *range(2001, 2061), 3001])


# --- The case doubled-rows, and its kind --------------------------------------------------------------------


async def test_case_doubled_rows(path: Path) -> None:
    async with watched(path, selling(60, doubled=2), Dialect.WOOCOMMERCE_MCP) as it:
        await it.tick()
        assert it.told() == once(range(1001, 1061))


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("cap", "doubled", "orders"),
    # Where an order fills a page and more, a few orders are many pages.
    [(0, 2, 200), (1, 3, 40), (20, 3, 200), (20, 40, 40), (0, 150, 40)],
)
async def test_rows_that_come_several_times_hide_nothing(
    path: Path, dialect: Dialect, cap: int, doubled: int, orders: int
) -> None:
    async with watched(path, selling(orders, cap=cap, doubled=doubled), dialect) as it:
        await it.tick()
        assert it.told() == once(range(1001, 1001 + orders))
        await anyio.sleep(1200)
        await it.tick()
        assert await it.tick() == 1


# --- Shops that ignore a part of the question ---------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cap", [0, 20])
@pytest.mark.parametrize(
    "ignores",
    [{"exclude"}, {"page"}, {"exclude", "page"}, {"orderby", "order"}],
    ids=lambda it: "+".join(sorted(it)),
)
async def test_what_a_shop_ignores_hides_nothing(
    path: Path, dialect: Dialect, cap: int, ignores: set[str]
) -> None:
    async with watched(path, selling(cap=cap, ignores=ignores), dialect) as it:
        await it.tick()
        assert it.told() == ALL
        await anyio.sleep(1200)
        await it.tick()
        assert [await it.tick() for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_full_second_of_a_shop_that_ignores_exclude_is_read_by_page_numbers(
    path: Path, dialect: Dialect
) -> None:
    shop = selling(0, cap=20, ignores={"exclude"})
    for n in range(110):
        shop.put(1001 + n, ago_s=600)
    async with watched(path, shop, dialect) as it:
        await it.tick()
        assert it.told() == once(range(1001, 1111))


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_and_is_an_error_if_it_ignores_page_numbers_too(path: Path, dialect: Dialect) -> None:
    shop = selling(0, cap=20, ignores={"exclude", "page"})
    for n in range(110):
        shop.put(1001 + n, ago_s=600)
    async with watched(path, shop, dialect) as it:
        cursor_at = it.shop_harness.state_writer.state.cursor_at
        await it.tick()
        assert "the shop sends the same orders for every request" in it.failure
        assert it.shop_harness.state_writer.state.cursor_at is not None
        assert cursor_at is not None
        assert it.shop_harness.state_writer.state.cursor_at <= virtual_now() - timedelta(seconds=600)


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_shop_that_ignores_the_date_is_an_error(path: Path, dialect: Dialect) -> None:
    async with watched(
        path, selling(ignores={"modified_after"}, every_s=3600), dialect, begun_ago_s=HOUR
    ) as it:
        await it.tick()
        assert "from outside the requested period" in it.failure


# --- Import and sweep ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("lies", [{"cap": 20}, {"doubled": 2}, {"cap": 20, "doubled": 3}], ids=str)
async def test_the_import_reads_all_open_orders(path: Path, dialect: Dialect, lies: dict[str, Any]) -> None:
    shop = selling(330, every_s=HOUR + 60, **lies)
    async with watched(path, shop, dialect, begun_ago_s=0) as it:
        await it.tick()
        assert it.told() == Counter()
        known = await it.shop_harness.store.known(SHOP, list(shop.rows))
        assert set(known) == set(shop.rows)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    "lies", [{"cap": 20}, {"cap": 1}, {"doubled": 2}, {"cap": 20, "doubled": 3}], ids=str
)
async def test_the_sweep_looks_at_every_open_order(
    path: Path, dialect: Dialect, lies: dict[str, Any]
) -> None:
    # Old ones, which only a question for their ids shows; one of a hundred was deleted.
    shop = selling(0, **lies)
    for n in range(130):
        shop.put(1001 + n, ago_s=30 * 86_400)
    async with watched(path, shop, dialect, sweep_every_s=HOUR, begun_ago_s=0) as it:
        await it.tick()
        await it.sweep()
        for n in range(130):
            shop.rows[1001 + n]["status"] = "cancelled"  # past WooCommerce: no date moves
        del shop.rows[1050]
        await anyio.sleep(HOUR)
        await it.tick()
        for _ in range(3):
            await it.sweep()
        assert it.told(CANCELLED) == once(set(range(1001, 1131)) - {1050})


@each_with_each_of(
    "dialect",
    DIALECTS,
    lies=[{}, {"cap": 20}, {"doubled": 2}],
    age_s={"recent": HOUR, "old and open": 40 * 86_400},
)
async def test_changes_that_are_dated_back_are_found(
    path: Path, dialect: Dialect, age_s: float, lies: dict[str, Any]
) -> None:
    shop = selling(0, **lies)
    for n in range(60):  # of one second, so that a capped page does not show all of them
        shop.put(1001 + n, ago_s=age_s)
    async with watched(path, shop, dialect, sweep_every_s=HOUR, begun_ago_s=age_s + 60) as it:
        await it.tick()
        await it.sweep()
        assert it.told() == once(range(1001, 1061))
        for n in range(60):
            shop.put(1001 + n, "cancelled", ago_s=age_s + 900)
        await anyio.sleep(HOUR)
        await it.tick()
        for _ in range(3):
            await it.sweep()
        assert it.told(CANCELLED) == once(range(1001, 1061))
        shop.put(1001, "processing")  # and forward again
        await it.tick()
        shop.put(1001, "cancelled", ago_s=age_s + 800)  # and back
        await anyio.sleep(HOUR)
        await it.tick()
        await it.sweep()
        assert it.told(CANCELLED)[1001] == 2


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_a_change_that_only_one_question_shows_is_an_old_answer(path: Path, dialect: Dialect) -> None:
    shop = selling(1, every_s=60)
    async with watched(path, shop, dialect, sweep_every_s=HOUR) as it:
        await it.tick()
        await it.sweep()
        shop.put(1001, "completed")
        await it.tick()
        stale: Row = {**shop.rows[1001], "status": "cancelled", "date_modified_gmt": "2026-11-23T08:00:00"}

        def cached(requested: Any, rows: list[Row]) -> list[Row]:
            is_confirming = requested.get("after", "") > "2026-11-23T08:30:00"
            return rows if is_confirming or requested.get("orderby") != "date" else [stale for _ in rows]

        shop.hides = cached
        await anyio.sleep(HOUR)
        await it.tick()
        await it.sweep()
        assert it.told(CANCELLED) == Counter()


# --- Shops that change while they are read ------------------------------------------------------------------


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_orders_deleted_in_mid_walk_hide_no_others(path: Path, dialect: Dialect) -> None:
    shop = selling(cap=20)
    deleted: set[int] = set()

    def delete(ids: Sequence[int]) -> None:
        for order_id in ids[3:6]:  # selected, and gone when it is loaded
            shop.rows.pop(order_id, None)
            deleted.add(order_id)

    shop.meanwhile = delete
    async with watched(path, shop, dialect) as it:
        await it.tick()
        assert it.told() == once(set(ALL) - deleted)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("cap", [0, 20])
async def test_a_walk_through_a_shop_that_never_stands_still_ends(
    path: Path, dialect: Dialect, cap: int
) -> None:
    shop = selling(cap=cap)
    requested = 0

    def change() -> None:
        nonlocal requested
        requested += 1
        for n in range(30):
            shop.put(1001 + (requested * 30 + n) % 200)

    async with watched(path, shop, dialect) as it:
        shop.answer_s, shop.before = 1.0, change
        assert await it.tick() < 60
        shop.before = lambda: None
        for _ in range(3):
            await anyio.sleep(60)
            await it.tick()
        assert it.told() == ALL


async def test_an_order_of_several_rows_counts_once(path: Path) -> None:
    shop = selling(60, every_s=2 * HOUR, doubled=3)
    async with watched(path, shop, Dialect.REST, begun_ago_s=0) as it:
        report = await it.shop_harness.poller.tick(anyio.current_time() + 60)
    assert (report.orders, report.imported) == (60, 60)
