"""A question that fails is followed by a smaller or shorter one before it is an outage; virtual time."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from urllib.parse import parse_qs

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import EventType, Page, Query
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.simulator.answers import Answer, Request, page
from shop_poller.simulator.faults import Fault, Handler
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, ShopHarness, down, refused, shop_harness
from support.wired import bench_for

pytestmark = pytest.mark.anyio

NEW = str(EventType.NEW)
HEAVY = [ErrorKind.SERVER, ErrorKind.TIMEOUT, ErrorKind.UNAVAILABLE, ErrorKind.CONNECTION]
REFUSED = [ErrorKind.REJECTED, ErrorKind.PROTOCOL]
OF_LONG_ONES = [ErrorKind.AUTHENTICATION, ErrorKind.NOT_FOUND]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def trouble(kind: ErrorKind) -> ShopPollerError:
    return (refused if kind in {ErrorKind.REJECTED, *OF_LONG_ONES} else down)(kind)


def breaks_if(it: ShopHarness, kind: ErrorKind, too_much: Callable[[Query], bool]) -> None:
    """Questions that are too much fail; with the others the shop says how many pages match."""
    fetch = it.shop.fetch

    async def weak(query: Query) -> Page:
        answer = await fetch(query)
        if too_much(query):
            raise trouble(kind)
        matching = len((await fetch(replace(query, per_page=10**6))).items)
        it.shop.requested.pop()
        return replace(answer, total=matching, total_pages=-(-matching // query.per_page))

    it.shop.fetch = weak  # type: ignore[method-assign] # for this test


def announced(it: ShopHarness) -> list[int]:
    return sorted(
        int(one.notification.key) for one in it.new_deliveries if one.notification.event_type == NEW
    )


# --- Pages that are too large ---


@pytest.mark.parametrize("kind", [*HEAVY, *REFUSED])
@pytest.mark.parametrize("limit", [60, 30, 5, 1])
async def test_a_page_that_is_too_much_is_followed_by_a_smaller_one_within_the_tick(
    path: Path, kind: ErrorKind, limit: int
) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, 121):
            it.shop.put(order_id, "processing")
        await anyio.sleep(60)
        breaks_if(it, kind, lambda query: query.per_page > limit)
        report = await it.poller.tick(anyio.current_time() + 60)
        assert report.error is None
        assert announced(it) == list(range(1, 121))
        assert it.value("shop_breaker_open", peer=SHOP) == 0


@pytest.mark.parametrize("kind", [*HEAVY, *REFUSED])
async def test_at_a_short_interval_a_slow_failure_is_followed_by_a_smaller_page_all_the_same(
    path: Path, kind: ErrorKind
) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=5)) as it:
        await it.tick()
        it.shop.put(1, "processing")
        breaks_if(it, kind, lambda query: query.per_page == 100)
        it.shop.troubles.append(30.0)
        report = await it.poller.tick(anyio.current_time() + 5)
        assert (report.error, announced(it)) == (None, [1])


@pytest.mark.parametrize("kind", [*HEAVY, *REFUSED, *OF_LONG_ONES])
async def test_an_outage_costs_no_more_questions_for_that(path: Path, kind: ErrorKind) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.down = trouble(kind)
        await anyio.sleep(3600)
        sizes = [query.per_page for _, query in it.shop.requested]
    first_tick = {ErrorKind.AUTHENTICATION: [100], ErrorKind.NOT_FOUND: [100]}
    first_tick |= {key: [100, 1] for key in REFUSED} | {key: [100, 25, 6, 1] for key in HEAVY}
    assert sizes[: len(first_tick[kind])] == first_tick[kind]
    assert set(sizes[len(first_tick[kind]) :]) == {first_tick[kind][-1]}, "the smallest is what probes ask"
    assert len(sizes) <= 60 + 3


async def test_a_shop_that_requests_a_pause_gets_no_other_request_before_its_end(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.UNAVAILABLE, retry_after_s=20))
        await anyio.sleep(90)
    assert [(at, query.per_page) for at, query in it.shop.requested] == [(60, 100), (80, 25), (80, 100)]


async def test_too_many_requests_says_nothing_about_sizes(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=20))
        await anyio.sleep(90)
    assert [(at, query.per_page) for at, query in it.shop.requested] == [(60, 100), (80, 100)]


async def test_the_circuit_ends_the_search_for_a_size(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.down = down(ErrorKind.CONNECTION)
        await it.tick()
        it.shop.requested.clear()
        await it.tick()
        assert len(it.shop.requested) == 1, "the fifth failure in a row"


async def test_one_bad_order_that_breaks_every_page_lets_those_before_it_through(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, 11):
            it.shop.put(order_id, "processing")
        fetch = it.shop.fetch

        async def choosy(query: Query) -> Page:
            answer = await fetch(query)
            if any(item.id == 8 for item in answer.items):
                raise down(ErrorKind.PROTOCOL)
            return answer

        it.shop.fetch = choosy  # type: ignore[method-assign] # for this test
        await it.tick()
        assert announced(it) == list(range(1, 8))


# --- Questions that leave out many orders ---


@pytest.mark.parametrize("kind", [*HEAVY, *REFUSED, *OF_LONG_ONES])
@pytest.mark.parametrize("count", [101, 120, 139])
async def test_a_second_with_many_orders_is_read_where_long_questions_are_refused(
    path: Path, kind: ErrorKind, count: int
) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, count + 1):
            it.shop.put(order_id, "processing")
        breaks_if(it, kind, lambda query: len(query.exclude) > 49)
        report = await it.poller.tick(anyio.current_time() + 60)
        assert (report.error, announced(it)) == (None, list(range(1, count + 1)))
        assert it.sinks[0].got == []
        assert it.value("shop_breaker_open", peer=SHOP) == 0


async def test_what_was_refused_once_is_not_requested_again_for_an_hour(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, 131):
            it.shop.put(order_id, "processing")
        breaks_if(it, ErrorKind.UNAVAILABLE, lambda query: len(query.exclude) > 49)
        for _ in range(3):
            await it.tick()
        assert it.value("shop_poll_errors_total", error_type="UnavailableError") == 1
        await anyio.sleep(3600)
        for order_id in range(1, 131):
            it.shop.put(order_id, "completed")
        await it.tick()
        assert it.value("shop_poll_errors_total", error_type="UnavailableError") == 2


@pytest.mark.parametrize("kind", [*HEAVY, *REFUSED])
async def test_more_in_one_second_than_can_be_requested_is_an_outage_and_nothing_is_skipped(
    path: Path, kind: ErrorKind
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        for order_id in range(1, 151):
            it.shop.put(order_id, "processing")
        breaks_if(it, kind, lambda query: len(query.exclude) > 49)
        await anyio.sleep(600)
        assert it.poller.failure is not None
        assert "service.unhealthy" in [type_ for _, type_ in it.sinks[0].events()]
        del it.shop.fetch  # the host is set up right
        await anyio.sleep(240)
        assert announced(it) == list(range(1, 151))


async def test_a_shop_that_does_not_count_its_pages_is_not_taken_to_be_at_its_end(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, 121):
            it.shop.put(order_id, "processing")
        fetch = it.shop.fetch

        async def choosy(query: Query) -> Page:
            if len(query.exclude) > 49:
                raise down(ErrorKind.UNAVAILABLE)
            return replace(await fetch(query), total=None, total_pages=None)

        it.shop.fetch = choosy  # type: ignore[method-assign] # for this test
        cursor = it.state_writer.state.cursor_at
        assert cursor is not None
        report = await it.poller.tick(anyio.current_time() + 60)
        assert announced(it) == list(range(1, 121)), "what it showed is told"
        assert report.error is not None
        assert it.state_writer.state.cursor_at is not None
        assert it.state_writer.state.cursor_at <= it.shop.clock(), "but the second is read again"


async def test_a_sweep_through_an_import_of_one_second_is_read_too(path: Path) -> None:
    plan = PollPlan(SHOP, MEANINGS, sweep_every=timedelta(hours=1))
    async with shop_harness(path, plan=plan) as it:
        await it.tick()
        for order_id in range(1, 131):
            it.shop.put(order_id, "processing")
        breaks_if(it, ErrorKind.UNAVAILABLE, lambda query: len(query.exclude) > 49)
        report = TickReport()
        await it.poller.between_ticks(report, anyio.current_time() + 60)
        assert announced(it) == list(range(1, 131))


# --- The same over HTTP ---


def excluded(request: Request) -> int:
    """How many orders a question over REST leaves out, whether in its address or in its body."""
    text = parse_qs(request.query).get("exclude", [""])[0] or str((request.rpc or {}).get("exclude", ""))
    return text.count(",") + 1 if text.strip("[]") else 0


def stock_nginx() -> Fault:
    """WooCommerce's `Link` header is more than 4 KB: 502."""

    def act(request: Request, onward: Handler) -> Answer:
        long = excluded(request) > 145
        return page(502, "Bad Gateway", "<h1>502 Bad Gateway</h1>") if long else onward(request)

    return Fault("stock nginx", act)


def only_get(most: int, status: int) -> Fault:
    """A host that refuses every POST, and addresses that are long."""

    def act(request: Request, onward: Handler) -> Answer:
        if request.method != "GET":
            return page(405, "Not Allowed", "<h1>405 Not Allowed</h1>")
        if excluded(request) > most:
            return page(status, "No", f"<h1>{status}</h1>")
        return onward(request)

    return Fault("only GET", act)


@pytest.mark.parametrize(
    ("fault", "count"),
    [
        (stock_nginx(), 140),
        (only_get(49, 414), 139),
        (only_get(49, 403), 139),
        (only_get(49, 400), 139),
        (only_get(49, 413), 139),
        (only_get(49, 404), 139),
        (only_get(99, 502), 139),
    ],
    ids=["nginx", "414", "403", "400", "413", "404", "502"],
)
async def test_over_rest_a_second_with_many_orders_is_read_on_hosts_that_refuse_long_questions(
    fault: Fault, count: int
) -> None:
    async with bench_for(Dialect.REST, per_page=100) as bench:
        await bench.tick()
        at = bench.shop.clock()
        for _ in range(count):
            bench.shop.create_order("processing", created=at, modified=at)
        bench.endpoint.faults.add(fault)
        await anyio.sleep(5)
        report = await bench.tick()
        assert report.error is None
        assert len({told.key for told in bench.told}) == count
