"""Refunds that do not move the date of their order are found in the shop's list of refunds, at each sweep.

The real poller, sources and store, wired to the simulated shop; time is virtual.
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from urllib.parse import parse_qs

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.model import Notification
from shop_poller.polling.refund_list_reader import LATER_S, MAX_PAGES, MAX_TRIES
from shop_poller.polling.sweeper import MAX_FAILURES
from shop_poller.simulator import faults
from shop_poller.simulator.answers import Answer, Request
from shop_poller.simulator.refunds import SimulatedRefundRow
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.sources.woocommerce.refunds import RestRefunds
from support.wired import INTERVAL_S, PLAN, Bench, bench_for

pytestmark = pytest.mark.anyio

HOUR = 3600.0
DAY = 24 * HOUR
PARTLY = "shop.order.partially_refunded"
REFUNDED = "shop.order.refunded"
BY_KEY = [Dialect.REST, Dialect.WOOCOMMERCE_MCP, Dialect.EXECUTE]


@asynccontextmanager
async def watched(
    dialect: Dialect = Dialect.REST, *, per_page: int = 100, **options: Any
) -> AsyncIterator[Bench]:
    """A shop with one order of 200 days ago, of which nothing is known; it was polled and swept once."""
    async with bench_for(dialect, refunds=True, per_page=per_page, **options) as bench:
        old_order(bench, order_id=1)
        await sweep(bench)
        await anyio.sleep(HOUR)
        yield bench


def old_order(bench: Bench, *, days: float = 200, status: str = "completed", **options: Any) -> int:
    created = bench.shop.clock() - timedelta(days=days)
    return bench.shop.create_order(status, total="1930.00", created=created, **options)


async def sweep(bench: Bench) -> None:
    """A tick, and what is done until the next one."""
    report = await bench.tick()
    assert report.error is None
    report = await bench.between_ticks()
    assert report.error is None


async def an_hour_later(bench: Bench) -> None:
    await anyio.sleep(HOUR)
    await sweep(bench)


def told(bench: Bench) -> list[tuple[str, str]]:
    return [(notification.source_id, str(notification.event_type)) for notification in bench.told]


def refund_ids(told: Sequence[Notification]) -> set[str]:
    """By their event ids, one a refund."""
    return {notification.event_id for notification in told if notification.event_type == PARTLY}


def requested(bench: Bench) -> int:
    """How often the list was asked for, and empty the list of questions."""
    count = len(bench.endpoint.refunds.requested)
    bench.endpoint.refunds.requested.clear()
    return count


def instead(bench: Bench, answer: Callable[[Request], Answer]) -> list[Request]:
    """Answer like that where the list of refunds is; who asked is returned."""
    questions: list[Request] = []

    def act(request: Request, onward: Callable[[Request], Answer]) -> Answer:
        if not bench.endpoint.refunds.concerns(request):
            return onward(request)
        questions.append(request)
        return answer(request)

    bench.endpoint.faults.add(faults.Fault("no refunds", act))
    return questions


def page_of(
    content: object, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Callable[[Request], Answer]:
    """JSON, or bytes as they are."""
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return lambda _: Answer(status, body, {"Content-Type": "application/json", **(headers or {})})


# --- what it finds ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dialect", BY_KEY)
async def test_a_refund_that_moves_no_date_is_told_for_an_order_of_any_age(dialect: Dialect) -> None:
    async with watched(dialect) as bench:
        bench.shop.refund(1, "100.00", touch=False)
        await bench.tick()
        assert told(bench) == []
        await bench.between_ticks()
        assert told(bench) == [("1", PARTLY)]
        assert bench.told[0].message == "По заказу #1 возвращено 100.00 ₽"
        await an_hour_later(bench)
        assert told(bench) == [("1", PARTLY)]


@pytest.mark.parametrize("dialect", BY_KEY)
async def test_so_is_the_refund_of_the_whole_order(dialect: Dialect) -> None:
    async with watched(dialect) as bench:
        bench.shop.refund(1, touch=False)
        await sweep(bench)
        await an_hour_later(bench)
        assert told(bench) == [("1", REFUNDED)]


@pytest.mark.parametrize("days", [20, 200])
@pytest.mark.parametrize("status", ["completed", "processing"])
async def test_it_is_told_once_whether_the_order_is_known_or_not(days: float, status: str) -> None:
    """Open orders and those completed in the last 30 days are known from the import."""
    async with bench_for(Dialect.REST, refunds=True, per_page=100) as bench:
        order_id = old_order(bench, days=days, status=status)
        await sweep(bench)
        await anyio.sleep(HOUR)
        bench.shop.refund(order_id, "100.00", touch=False)
        await sweep(bench)
        await an_hour_later(bench)
        bench.shop.refund(order_id, touch=False)  # the rest
        await an_hour_later(bench)
        await an_hour_later(bench)
        assert told(bench) == [(str(order_id), PARTLY), (str(order_id), REFUNDED)]


async def test_two_in_one_second_are_both_told() -> None:
    async with watched() as bench:
        other = old_order(bench, days=300)
        now = bench.shop.clock()
        for order_id in (1, other):
            bench.shop.refund(order_id, "10.00", at=now, touch=False)
        bench.shop.refund(1, "20.00", at=now, touch=False)
        await sweep(bench)
        assert sorted(told(bench)) == [("1", PARTLY), ("1", PARTLY), (str(other), PARTLY)]
        assert len(refund_ids(bench.told)) == 3


@pytest.mark.parametrize(
    ("cap", "copies", "apart_s"), [(20, 1, 1), (20, 1, 0), (None, 2, 1), (None, 2, 0), (7, 2, 1), (1, 1, 1)]
)
async def test_however_the_pages_come_none_of_many_is_lost(
    cap: int | None, copies: int, apart_s: int
) -> None:
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(100)]
        bench.endpoint.refunds.cap = cap
        bench.endpoint.refunds.select = lambda rows: [row for row in rows for _ in range(copies)]
        many = MAX_PAGES - 10 if cap == 1 else 300
        for n in range(many):
            at = bench.shop.clock() + timedelta(seconds=n * apart_s)
            bench.shop.refund(orders[n % 100], "1.00", at=at, touch=False)
        await anyio.sleep(many)
        await sweep(bench)
        assert len(bench.told) == len(refund_ids(bench.told)) == many
        await an_hour_later(bench)
        assert len(bench.told) == many


async def test_a_backlog_beyond_one_sweep_is_read_on_in_the_next() -> None:
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(50)]
        bench.endpoint.refunds.cap = 1
        for n in range(MAX_PAGES + 50):
            at = bench.shop.clock() + timedelta(seconds=n)
            bench.shop.refund(orders[n % 50], "1.00", at=at, touch=False)
        await anyio.sleep(HOUR)
        await sweep(bench)
        assert len(bench.told) == MAX_PAGES
        await an_hour_later(bench)
        assert len(refund_ids(bench.told)) == len(bench.told) == MAX_PAGES + 50


async def test_rows_that_are_left_out_of_an_answer_do_not_end_the_walk() -> None:
    """Rights and plugins take rows out after the query: the shop counts more than it shows."""
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(30)]
        hidden = set(orders[:10])

        def shown(rows: list[SimulatedRefundRow]) -> Sequence[SimulatedRefundRow]:
            return [row for row in rows if row.order.id not in hidden]

        bench.endpoint.refunds.select = shown
        bench.endpoint.refunds.cap = 5
        for n, order_id in enumerate(orders):
            at = bench.shop.clock() + timedelta(seconds=n)
            bench.shop.refund(order_id, "1.00", at=at, touch=False)
        await anyio.sleep(60)
        await sweep(bench)
        assert len(bench.told) == 20
        hidden.clear()
        await an_hour_later(bench)
        assert len(refund_ids(bench.told)) == len(bench.told) == 30


@pytest.mark.parametrize("later", [timedelta(minutes=20), timedelta(days=30)])
async def test_one_that_is_dated_ahead_is_told_and_hides_no_other(later: timedelta) -> None:
    async with watched() as bench:
        other = old_order(bench, days=300)
        bench.shop.refund(1, "10.00", at=bench.shop.clock() + later, touch=False)
        await sweep(bench)
        assert told(bench) == [("1", PARTLY)]
        for _ in range(3):
            bench.shop.refund(other, "1.00", touch=False)
            await an_hour_later(bench)
        assert told(bench) == [("1", PARTLY), *[(str(other), PARTLY)] * 3]


async def test_one_that_is_dated_back_is_found_within_the_window() -> None:
    async with watched() as bench:
        other = old_order(bench, days=300)
        await anyio.sleep(40 * HOUR)
        bench.shop.refund(other, "1.00", touch=False)
        await sweep(bench)
        bench.shop.refund(1, "10.00", at=bench.shop.clock() - timedelta(hours=39), touch=False)
        await an_hour_later(bench)
        assert told(bench) == [(str(other), PARTLY), ("1", PARTLY)]


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
async def test_the_shops_time_zone_does_not_matter(zone: str) -> None:
    async with watched(zone=zone) as bench:
        bench.shop.refund(1, "100.00", touch=False)
        await sweep(bench)
        assert told(bench) == [("1", PARTLY)]


async def test_what_was_refunded_before_our_watch_stays_untold() -> None:
    async with bench_for(Dialect.REST, refunds=True, per_page=100) as bench:
        for n, days in enumerate((200, 20, 1)):
            order_id = old_order(bench, days=days)
            at = bench.shop.clock() - timedelta(hours=2 + n)
            bench.shop.refund(order_id, "100.00", at=at, touch=False)
        gone = old_order(bench, days=100)
        bench.shop.refund(gone, at=bench.shop.clock() - timedelta(hours=2), touch=False)
        await sweep(bench)
        await an_hour_later(bench)
        assert told(bench) == []


async def test_an_old_order_whose_date_moves_with_its_refund_is_told_too() -> None:
    """A tick shows it first, and cannot tell of when the refund is: it is recorded, and told by the sweep."""
    async with watched() as bench:
        other = old_order(bench, days=300)
        bench.shop.refund(1, "100.00")
        bench.shop.refund(other)
        await bench.tick()
        assert told(bench) == []
        await bench.between_ticks()
        assert told(bench) == [("1", PARTLY), (str(other), REFUNDED)]
        await an_hour_later(bench)
        assert len(bench.told) == 2


async def test_an_old_refund_of_an_order_that_a_plugin_touches_stays_untold() -> None:
    async with bench_for(Dialect.REST, refunds=True, per_page=100) as bench:
        order_id = old_order(bench)
        bench.shop.refund(order_id, "100.00", at=bench.shop.clock() - timedelta(days=100))
        await sweep(bench)
        bench.shop.touch(order_id)
        await an_hour_later(bench)
        await an_hour_later(bench)
        assert told(bench) == []
        bench.shop.refund(order_id, "1.00", touch=False)
        await an_hour_later(bench)
        assert told(bench) == [("1", PARTLY)]


@pytest.mark.parametrize("slow_s", [7, 12, 16, 25])
async def test_a_restart_in_the_middle_goes_on_and_tells_nothing_twice(slow_s: int) -> None:
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(60)]
        bench.endpoint.refunds.cap = 10
        for n, order_id in enumerate(orders):
            at = bench.shop.clock() + timedelta(seconds=n)
            bench.shop.refund(order_id, "1.00", at=at, touch=False)
        await anyio.sleep(HOUR)
        await bench.tick()
        bench.endpoint.faults.add(faults.slow(slow_s))
        await bench.between_ticks()  # there is time for some questions
        first = len(bench.told)
        assert 0 < first < 60
        reached = bench.state_writer.state.refunds_at
        await bench.start()
        assert bench.state_writer.state.refunds_at == reached
        bench.endpoint.faults.clear()
        for _ in range(3):
            await an_hour_later(bench)
        assert len(refund_ids(bench.told)) == len(bench.told) == 60


async def test_what_happens_while_we_are_away_is_found_afterwards() -> None:
    """Far beyond the window that is read again each time: from where the list was read to."""
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(20)]
        await bench.end()
        for order_id in orders:
            bench.shop.refund(order_id, "1.00", touch=False)
            await anyio.sleep(DAY)
        await bench.start()
        await sweep(bench)
        assert len(refund_ids(bench.told)) == len(bench.told) == 20


async def test_an_order_that_is_not_shown_is_requested_a_few_times_only() -> None:
    async with watched() as bench:
        bench.shop.refund(1, "100.00", touch=False)
        row = SimulatedRefundRow(bench.shop.order(1).refunds[0], replace(bench.shop.order(1), id=77))
        bench.shop.delete(1)
        bench.endpoint.refunds.select = lambda rows: [*rows, row]
        for _ in range(MAX_TRIES + 3):
            await an_hour_later(bench)
        by_id = [sight for sight in bench.sights if sight.query.ids]
        assert len(by_id) == MAX_TRIES
        assert told(bench) == []


async def test_an_order_that_cannot_be_read_harms_no_other() -> None:
    async with watched() as bench:
        other = old_order(bench, days=300)
        bench.shop.distort(1, lambda order: {**order, "status": None})
        for order_id in (1, other):
            bench.shop.refund(order_id, "1.00", touch=False)
        await sweep(bench)
        assert told(bench) == [(str(other), PARTLY)]
        assert bench.state_writer.set_aside.keys() == {1}


async def test_orders_that_break_the_shop_keep_neither_others_nor_the_sweep_back() -> None:
    async with watched() as bench:
        broken = [old_order(bench, days=300 + n) for n in range(4 * MAX_FAILURES)]
        good = old_order(bench, days=100)
        recent = bench.shop.create_order("processing", total="1930.00")

        def act(request: Request, onward: Callable[[Request], Answer]) -> Answer:
            ids = parse_qs(request.query).get("include", [""])[0].split(",")
            return Answer(500, b"", {}) if {*map(str, broken)} & {*ids} else onward(request)

        bench.endpoint.faults.add(faults.Fault("breaks over some orders", act))
        for order_id in (*broken, good):
            bench.shop.refund(order_id, "1.00", touch=False)
        await bench.tick()
        bench.shop.hidden_status(recent, "cancelled")
        for _ in range(60):
            await bench.between_ticks()
            await anyio.sleep(INTERVAL_S)
            await bench.tick()
        assert (str(recent), "shop.order.cancelled") in told(bench)
        for _ in range(2 * MAX_TRIES):
            await an_hour_later(bench)
        assert (str(good), PARTLY) in told(bench)
        bench.endpoint.faults.clear()
        await bench.start()
        await an_hour_later(bench)
        assert len(refund_ids(bench.told)) == len(broken) + 1


# --- what it costs ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("refunds", [0, 1, 100])
async def test_with_nothing_new_it_is_one_question_a_sweep(refunds: int) -> None:
    async with watched() as bench:
        orders = [old_order(bench, days=100 + n) for n in range(refunds)]
        for order_id in orders:
            bench.shop.refund(order_id, "1.00", touch=False)
        await sweep(bench)
        assert len(bench.told) == refunds
        requested(bench)
        for _ in range(3):
            bench.sights.clear()
            await an_hour_later(bench)
            assert requested(bench) == 1
            assert not [sight for sight in bench.sights if sight.query.ids and sight.readable]


async def test_ticks_do_not_ask_for_it() -> None:
    async with watched() as bench:
        await sweep(bench)
        requested(bench)
        for _ in range(58):
            await anyio.sleep(INTERVAL_S)
            await sweep(bench)
        assert requested(bench) == 0


async def test_without_sweeps_there_is_none() -> None:
    async with watched(plan=replace(PLAN, sweep_every=timedelta(0))) as bench:
        bench.shop.refund(1, "1.00", touch=False)
        await an_hour_later(bench)
        assert requested(bench) == 0


# --- where it is not, or not as it should be ----------------------------------------------------------------

NO_LIST: dict[str, Callable[[Request], Answer]] = {
    "no such route": page_of({"code": "rest_no_route", "message": "", "data": {"status": 404}}, 404),
    "a page for people": page_of(b"<html><h1>Not Found</h1></html>", 404),
    "keys that do not open it": page_of({"code": "woocommerce_rest_cannot_view", "message": ""}, 401),
    "forbidden": page_of({"code": "woocommerce_rest_cannot_view", "data": {"status": 403}}, 403),
    "a firewall": page_of(b"<html>Sorry, you have been blocked</html>", 403),
    "a parameter that it does not know": page_of({"code": "rest_invalid_param", "message": ""}, 400),
    "elsewhere": page_of(b"", 301, headers={"Location": "https://www.shop.example/"}),
    "gone": page_of(b"", 410),
}
BAD_ANSWERS: dict[str, Callable[[Request], Answer]] = {
    "nothing": page_of(b""),
    "a captcha": page_of(b"<html>Are you human?</html>"),
    "null": page_of(None),
    "a number": page_of(5),
    "text": page_of("refunds"),
    "numbers": page_of([1, 2, 3]),
    "lists": page_of([[], [[]]]),
    "rows without ids": page_of([{"amount": "1.00"}, {"id": None, "parent_id": {}}]),
    "an object": page_of({"a": 1}),
    "half a list": page_of(b'[{"id": 5, "parent_id": 1, "date_cre'),
    "an error as success": page_of({"code": "internal_error", "message": "", "data": {"status": 500}}),
    "a PHP fatal": page_of(b"<b>Fatal error</b>: Allowed memory size", 500),
    "maintenance": page_of(b"Briefly unavailable", 503, headers={"Retry-After": "600"}),
    "too many requests": page_of(b"", 429, headers={"Retry-After": "60"}),
    "a gateway": page_of(b"<html>502</html>", 502),
    "a broken connection": lambda _: Answer(200, b"[", {}, cut_after=1),
    "the beginning of the list": page_of(
        [{"id": n, "parent_id": 1, "date_created_gmt": "2019-01-01T00:00:00"} for n in range(1, 21)],
        headers={"X-WP-Total": "900", "X-WP-TotalPages": "45"},
    ),
}


@pytest.mark.parametrize("answer", [*NO_LIST.values(), *BAD_ANSWERS.values()], ids=[*NO_LIST, *BAD_ANSWERS])
async def test_whatever_is_answered_there_polling_and_the_sweep_go_on(
    answer: Callable[[Request], Answer],
) -> None:
    async with watched() as bench:
        questions = instead(bench, answer)
        order_id = bench.shop.create_order("processing", total="1930.00")
        await sweep(bench)
        assert told(bench) == [(str(order_id), "shop.order.new")]
        bench.shop.hidden_status(order_id, "cancelled")
        for _ in range(20):
            await anyio.sleep(INTERVAL_S)
            await sweep(bench)
        await an_hour_later(bench)
        assert told(bench)[1:] == [(str(order_id), "shop.order.cancelled")]
        assert questions
        assert bench.poller.failure is None
        assert await bench.store.alerts("shop.example") == {}


@pytest.mark.parametrize("answer", NO_LIST.values(), ids=NO_LIST)
async def test_a_missing_list_is_requested_once_a_day(answer: Callable[[Request], Answer]) -> None:
    async with bench_for(Dialect.REST, refunds=True, per_page=100) as bench:
        old_order(bench)
        questions = instead(bench, answer)
        with capture_logs() as logs:
            for _ in range(24):
                await sweep(bench)
                await anyio.sleep(HOUR - 30)
        assert len(questions) == 1
        lines = [log for log in logs if "list of refunds" in log["event"]]
        assert [line["log_level"] for line in lines] == ["info"]
        assert lines[0]["error_type"] in {
            "NotFoundError",
            "AuthenticationError",
            "RejectedError",
            "ProtocolError",
        }
        bench.shop.refund(1, "100.00", touch=False)
        bench.endpoint.faults.clear()  # WooCommerce is updated
        await anyio.sleep(LATER_S)
        await sweep(bench)
        assert told(bench) == [("1", PARTLY)]


@pytest.mark.parametrize("answer", [*NO_LIST.values(), *BAD_ANSWERS.values()], ids=[*NO_LIST, *BAD_ANSWERS])
async def test_a_list_that_was_there_is_requested_again_soon_and_nothing_is_lost(
    answer: Callable[[Request], Answer],
) -> None:
    async with watched() as bench:
        await sweep(bench)
        instead(bench, answer)
        bench.shop.refund(1, "100.00", touch=False)
        await an_hour_later(bench)
        assert told(bench) == []
        bench.endpoint.faults.clear()
        await an_hour_later(bench)
        await an_hour_later(bench)
        assert told(bench) == [("1", PARTLY)]


async def test_too_many_requests_there_are_a_reason_to_ask_the_shop_for_nothing() -> None:
    async with watched() as bench:
        instead(bench, page_of(b"", 429, headers={"Retry-After": "300"}))
        order_id = bench.shop.create_order("processing")
        await sweep(bench)
        assert told(bench) == [(str(order_id), "shop.order.new")]
        bench.shop.set_status(order_id, "cancelled")
        await anyio.sleep(200)
        report = await bench.tick()
        assert 0 < report.paused_s <= 100
        assert len(told(bench)) == 1
        await anyio.sleep(101)
        await bench.tick()
        assert told(bench)[1:] == [(str(order_id), "shop.order.cancelled")]


async def test_one_that_answers_too_slowly_does_not_keep_the_sweep_from_going_on() -> None:
    async with watched() as bench:
        questions = instead(bench, lambda _: Answer(200, b"[]", {}, delay_s=500.0))
        order_id = bench.shop.create_order("processing", total="1930.00")
        await sweep(bench)
        bench.shop.hidden_status(order_id, "cancelled")
        await an_hour_later(bench)
        for _ in range(25):
            await anyio.sleep(INTERVAL_S)
            await sweep(bench)
        assert told(bench) == [(str(order_id), "shop.order.new"), (str(order_id), "shop.order.cancelled")]
        assert len(questions) <= 6


async def test_its_connection_is_closed_where_the_sweep_ends_in_the_middle_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would lie idle for an hour."""
    closed: list[RestRefunds] = []
    aclose = RestRefunds.aclose

    async def noted(refunds: RestRefunds) -> None:
        closed.append(refunds)
        await aclose(refunds)

    def by_id(request: Request, onward: Callable[[Request], Answer]) -> Answer:
        return Answer(503, b"", {}) if "include" in parse_qs(request.query) else onward(request)

    async with watched() as bench:
        bench.shop.refund(1, "1.00", touch=False)
        await bench.tick()
        bench.endpoint.faults.add(faults.Fault("shows no order by its id", by_id))
        monkeypatch.setattr(RestRefunds, "aclose", noted)
        await bench.between_ticks()
        assert len(closed) == 1


async def test_a_bug_of_ours_in_it_does_not_end_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    def bug(*_: object) -> object:
        raise ZeroDivisionError

    async with watched() as bench:
        monkeypatch.setattr("shop_poller.sources.woocommerce.refunds._row", bug)
        bench.shop.refund(1, "100.00", touch=False)
        order_id = bench.shop.create_order("processing", total="1930.00")
        with capture_logs() as log:
            await sweep(bench)
            bench.shop.hidden_status(order_id, "cancelled")
            await an_hour_later(bench)
        assert (str(order_id), "shop.order.cancelled") in told(bench)
    said = [line["event"] for line in log if line["event"] != "order event"]
    text = "the shop's list of refunds cannot be read; refunds that do not change a date are missed"
    assert said == [text] * 2
    assert all("ZeroDivisionError" in repr(line["exc_info"]) for line in log if "exc_info" in line)


# --- shapes that are good all the same ----------------------------------------------------------------------


def rows_of(bench: Bench) -> list[dict[str, object]]:
    """The list as it would be."""
    return [
        {
            "id": refund.id,
            "parent_id": order.id,
            "date_created_gmt": refund.created.strftime("%Y-%m-%dT%H:%M:%S"),
        }
        for order in bench.shop.orders
        for refund in order.refunds
    ]


SHAPES: dict[str, Callable[[list[dict[str, Any]]], object]] = {
    "as text": lambda rows: [
        {**row, "id": str(row["id"]), "parent_id": str(row["parent_id"])} for row in rows
    ],
    "a PHP list with gaps": lambda rows: {str(3 * n): row for n, row in enumerate(rows)},
    "wrapped": lambda rows: {"data": rows},
    "with rows that are none": lambda rows: [None, {"id": 3}, *rows, "x"],
    "with a zone": lambda rows: [{**row, "date_created_gmt": f"{row['date_created_gmt']}Z"} for row in rows],
    "with fractions": lambda rows: [
        {**row, "date_created_gmt": f"{row['date_created_gmt']}.000000"} for row in rows
    ],
    "with all fields": lambda rows: [
        {**row, "amount": {}, "reason": [1], "meta_data": [[[[]]]], "line_items": {"1": 2}} for row in rows
    ],
    "newest first": lambda rows: rows[::-1],
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@pytest.mark.parametrize("headers", [{}, {"X-WP-Total": "x"}, {"X-WP-TotalPages": "1"}], ids=str)
async def test_a_list_is_read_in_whatever_shape_it_comes(
    shape: Callable[[list[dict[str, Any]]], object], headers: dict[str, str]
) -> None:
    async with watched() as bench:
        other = old_order(bench, days=300)
        for order_id in (1, other):
            bench.shop.refund(order_id, "10.00", touch=False)
            await anyio.sleep(5)
        instead(bench, page_of(shape(rows_of(bench)), headers=headers))
        await sweep(bench)
        await an_hour_later(bench)
        assert sorted(told(bench)) == [("1", PARTLY), (str(other), PARTLY)]


async def test_text_around_the_list_does_no_harm() -> None:
    async with watched() as bench:
        bench.shop.refund(1, "10.00", touch=False)
        instead(bench, page_of(b"<br />Notice: x in y\n" + json.dumps(rows_of(bench)).encode()))
        await sweep(bench)
        assert told(bench) == [("1", PARTLY)]


@pytest.mark.parametrize("date", [None, "", "0000-00-00 00:00:00", "-0001-11-30T00:00:00", 5, False])
async def test_a_row_without_a_date_still_points_at_a_known_order(date: object) -> None:
    """Of an unknown one it does not say that the refund is news."""
    async with bench_for(Dialect.REST, refunds=True, per_page=100) as bench:
        unknown, known = old_order(bench, days=200), old_order(bench, days=20)
        await sweep(bench)
        await anyio.sleep(HOUR)
        for order_id in (unknown, known):
            bench.shop.refund(order_id, Decimal(10), touch=False)
        instead(bench, page_of([{**row, "date_created_gmt": date} for row in rows_of(bench)]))
        await sweep(bench)
        await an_hour_later(bench)
        assert told(bench) == [(str(known), PARTLY)]


async def test_plain_permalinks_and_a_read_key_do() -> None:
    async with watched() as bench:
        bench.shop.plain_permalinks = True
        bench.shop.refund(1, "10.00", touch=False)
        await sweep(bench)
        assert told(bench) == [("1", PARTLY)]
