"""Ticks in virtual time: regular ticks, the initial import, walking, committing, and what goes wrong."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.import_walk import Phase
from shop_poller.core.model import EventType, Order, Page, Query
from shop_poller.polling.initial_import import InitialImport
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.ports import Batch, PollFailure
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, FakeSink, ShopHarness, down, refused, shop_harness
from support.virtual_time import EPOCH, virtual_now

pytestmark = pytest.mark.anyio

NEW = str(EventType.NEW)
HOUR = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def ticks(shop: FakeShop) -> list[float]:
    """When a walk began."""
    return sorted({at for at, query in shop.requested if query.modified_after and not query.statuses})


# --- The grid ---


async def test_the_first_tick_starts_at_once_and_the_others_on_a_grid(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(185)
    assert ticks(it.shop) == [0, 60, 120, 180]


async def test_a_day_of_ticks_does_not_drift(path: Path) -> None:
    async with shop_harness(path, in_memory=True) as it, it.running():
        await anyio.sleep(24 * 3600 - 1)
    assert ticks(it.shop) == [60 * n for n in range(24 * 60)]
    assert it.value("shop_poll_duration_seconds_count") == 24 * 60


async def test_a_fraction_of_a_second_is_an_interval_too(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=1.5)) as it, it.running():
        await anyio.sleep(6.1)
    assert ticks(it.shop) == [0, 1.5, 3, 4.5, 6]


async def test_a_slow_tick_is_not_overlapped_and_missed_ticks_are_skipped(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.requested.clear()
        it.shop.troubles.append(130.0)
        async with it.running():
            await anyio.sleep(250)
    assert ticks(it.shop) == [0, 180, 240]


async def test_a_bug_in_a_tick_does_not_end_polling(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        calls = iter([ZeroDivisionError("a bug"), None, None])

        async def prune(*_: object, **__: object) -> int:
            if (error := next(calls, None)) is not None:
                raise error
            return 0

        monkeypatch.setattr(it.store, "prune", prune)
        it.shop.requested.clear()
        monkeypatch.setattr(it.poller, "_prune_at", 0.0)
        async with it.running():
            await anyio.sleep(61)
    assert ticks(it.shop) == [0, 60]
    assert it.value("shop_poll_errors_total", error_type="InternalError") == 1


async def test_a_backlog_is_pruned_step_by_step_after_one_tick(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        steps: list[float] = []

        async def prune(*_: object, **__: object) -> int:
            steps.append(anyio.current_time())
            return 1_000 if len(steps) < 40 else 0

        monkeypatch.setattr(it.store, "prune", prune)
        monkeypatch.setattr(it.poller, "_prune_at", 0.0)
        async with it.running():
            await anyio.sleep(1)
            assert len(steps) == 40
            await anyio.sleep(3_500)
            assert len(steps) == 40, "nothing was left: it is looked again after an hour"
            await anyio.sleep(200)
            assert len(steps) == 41


async def test_a_long_backlog_holds_up_no_tick(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.requested.clear()
        steps: list[float] = []

        async def prune(*_: object, **__: object) -> int:
            await anyio.sleep(7)
            steps.append(anyio.current_time())
            return 1_000

        monkeypatch.setattr(it.store, "prune", prune)
        monkeypatch.setattr(it.poller, "_prune_at", 0.0)
        async with it.running():
            await anyio.sleep(299)
    assert ticks(it.shop) == [0, 60, 120, 180, 240]
    assert len(steps) == 5 * 5, "it goes on from tick to tick"


async def test_a_paused_shop_is_polled_at_the_reported_time(
    path: Path,
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(30)
        it.shop.down = down(ErrorKind.RATE_LIMIT, retry_after_s=200)
        with capture_logs() as log:
            await anyio.sleep(40)
        it.shop.down = None
        said, next_at = it.poller.pause_s, anyio.current_time() + it.poller.next_in_s
        it.shop.requested.clear()
        await anyio.sleep(300)
    assert [line["pause_s"] for line in log if line["event"] == "polling failed"] == [200]
    assert said == pytest.approx(190)
    assert ticks(it.shop)[0] == pytest.approx(next_at) == pytest.approx(260)


async def test_keys_that_are_refused_open_the_breaker_and_the_way_back_begins_with_it(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(30)
        it.shop.down = refused(ErrorKind.AUTHENTICATION)
        with capture_logs() as log:
            await anyio.sleep(5 * 60 + 40)
            it.shop.down = None
            await anyio.sleep(70)
    assert [line["event"] for line in log if line["log_level"] != "debug" and "sink" not in line] == [
        "polling failed",
        "alert raised",
        "circuit open after failures; probing periodically",
        "works again",
        "the shop answers again",
        "alert cleared",
    ]


async def test_a_first_order_that_is_too_large_alone_is_the_cause(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.down = down(ErrorKind.TOO_LARGE)
        await it.tick()
        assert it.poller.failure is not None
        assert it.poller.failure.kind is ErrorKind.TOO_LARGE


async def test_each_failed_request_counts_until_one_is_answered(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.down = down(ErrorKind.CONNECTION)
        await it.tick()
        polls = it.poller.polls
        assert (polls.failures, polls.kind) == (len(it.shop.requested), ErrorKind.CONNECTION)
        assert not polls.has_answered
        it.shop.down = None
        await anyio.sleep(HOUR)
        await it.tick()
        assert (it.poller.polls.failures, it.poller.polls.has_answered) == (0, True)


async def test_a_tick_counts_the_orders_of_all_its_pages(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        await anyio.sleep(HOUR)
        for order_id in range(1, 251):
            it.shop.put(order_id, "processing", created_at=virtual_now() - timedelta(seconds=order_id))
        report = await it.poller.tick(anyio.current_time() + HOUR)
    assert report.orders >= 250
    assert report.events == 250


async def test_why_polls_fail_is_known_until_one_is_good(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.down = refused(ErrorKind.AUTHENTICATION)
        began = virtual_now()
        await it.tick()
        first = it.poller.failure
        await anyio.sleep(60)
        it.shop.down = refused(ErrorKind.NOT_FOUND)
        await it.tick()
        second = it.poller.failure
        it.shop.down = None
        await it.tick()
        third = it.poller.failure
    assert first == PollFailure(ErrorKind.AUTHENTICATION, "made up: AuthenticationError", began)
    assert second == PollFailure(ErrorKind.NOT_FOUND, "made up: NotFoundError", began)
    assert third is None


async def test_a_full_disk_is_known_although_nothing_can_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: object) -> None:
        raise TemporaryError(ErrorKind.STORE, "disk full")

    async with shop_harness(path) as it:
        await it.tick()
        monkeypatch.setattr(it.store, "commit", full)
        monkeypatch.setattr(it.store, "raise_alert", full)
        await it.tick()
        assert it.poller.failure is not None
        assert (it.poller.failure.kind, it.poller.failure.text) == (ErrorKind.STORE, "disk full")


async def test_what_a_bug_says_is_for_the_log_alone(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def bug(*_: object) -> None:
        raise KeyError("Zinaida")

    async with shop_harness(path) as it:
        monkeypatch.setattr(it.shop, "fetch", bug)
        await it.tick()
        assert it.poller.failure is not None
        assert (
            it.poller.failure.text
            == "internal error (bug): please report it at https://shop-poller.example/issues: KeyError"
        )


# --- What a tick does ---


async def test_what_happens_between_ticks_is_announced_once(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.put(1, "pending")
        await anyio.sleep(60)
        it.shop.put(1, "processing")
        await anyio.sleep(60)
        it.shop.put(1, "completed")
        await anyio.sleep(60)
        it.shop.put(1, "refunded")
        await anyio.sleep(600)
    assert it.sinks[0].events() == [("1", NEW), ("1", "shop.order.refunded")]


async def test_every_sink_gets_every_event(path: Path) -> None:
    sinks = [FakeSink("a"), FakeSink("b")]
    async with shop_harness(path, sinks=sinks) as it, it.running():
        it.shop.put(1, "processing")
        await anyio.sleep(61)
    assert [sink.events() for sink in sinks] == [[("1", NEW)], [("1", NEW)]]


async def test_a_restart_repeats_nothing_and_misses_nothing(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        shop.put(1, "processing")
        await anyio.sleep(61)
    await anyio.sleep(3600)
    shop.put(2, "processing")
    shop.put(1, "cancelled")
    await anyio.sleep(3600)
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(61)
    assert sink.events() == [("1", NEW), ("1", "shop.order.cancelled"), ("2", NEW)]


async def test_a_page_is_committed_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.put(1, "processing")
        commit = it.store.commit

        async def full(_: str, __: Batch) -> None:
            raise TemporaryError(ErrorKind.STORE, "disk full")

        cursor = it.state_writer.state.cursor_at
        await anyio.sleep(60)
        monkeypatch.setattr(it.store, "commit", full)
        await it.tick()
        assert it.state_writer.state.cursor_at == cursor, "memory must not run ahead of the store"
        assert it.new_deliveries == []
        monkeypatch.setattr(it.store, "commit", commit)
        await it.tick()
        assert [str(one.notification.event_type) for one in it.new_deliveries] == [NEW]
        assert it.value("shop_poll_errors_total", error_type="StoreError") == 1
        assert it.value("shop_polling_failures_total", stage="poll", error_type="StoreError") == 1
        assert it.value("shop_store_errors_total", use="poll") == 1


async def test_an_order_that_cannot_be_read_is_set_aside_and_the_others_go_on(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.spoil(7)
        it.shop.put(8, "processing")
        await anyio.sleep(60)
        assert await it.store.set_aside(SHOP) == {7: "total: missing"}
        assert it.state_writer.set_aside == {7: "total: missing"}
        assert it.value("shop_orders_set_aside") == 1
        it.shop.put(7, "processing")
        await anyio.sleep(60)
        assert await it.store.set_aside(SHOP) == {}
        assert it.value("shop_orders_set_aside") == 0
    assert it.sinks[0].events() == [("8", NEW), ("7", NEW)]


async def test_orders_are_counted_by_status(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.put(1, "processing")
        it.shop.put(2, "sborka")
        await it.tick()
    assert it.value("shop_poll_orders_count_total", status="processing") == 1
    assert it.value("shop_poll_orders_count_total", status="other") == 1


# --- Initial import ---


async def test_what_was_there_before_is_imported_and_not_announced(path: Path) -> None:
    long_ago = EPOCH - timedelta(days=3)
    async with shop_harness(path) as it, it.running():
        for order_id, status in enumerate(("pending", "on-hold", "processing", "completed"), 1):
            it.shop.put(order_id, status, created_at=long_ago)
        await anyio.sleep(61)
        assert it.sinks[0].events() == []
        assert it.value("shop_orders_learned_total") == 4
        for order_id, status in enumerate(("processing", "processing", "cancelled", "refunded"), 1):
            it.shop.put(order_id, status)
        await anyio.sleep(60)
    assert it.sinks[0].events() == [
        ("1", NEW),
        ("2", NEW),
        ("3", "shop.order.cancelled"),
        ("4", "shop.order.refunded"),
    ]


async def test_a_plugin_that_touches_ten_thousand_old_orders_announces_nothing(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        for order_id in range(1, 10_001):
            it.shop.put(order_id, "completed", created_at=EPOCH - timedelta(days=400))
        await it.tick()
        for order_id in range(1, 10_001):
            it.shop.put(order_id, "completed")
        await anyio.sleep(120)
    assert it.new_deliveries == []
    assert it.value("shop_orders_learned_total") == 10_000


async def test_two_thousand_are_imported_before_the_first_decision_and_the_rest_between_ticks(
    path: Path,
) -> None:
    async with shop_harness(path) as it:
        for order_id in range(1, 2_501):
            it.shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
        await it.tick()
        position = it.state_writer.state.import_position
        assert position is not None
        assert position.count == 2000
        assert it.state_writer.state.last_poll_at is not None, "deciding has begun"
        async with it.running():
            await anyio.sleep(1)
        after = await it.store.load(SHOP)
        assert after is not None
        assert after.import_position is None
        assert it.value("shop_orders_learned_total") == 2500


async def test_importing_goes_on_after_a_restart_where_it_stood(path: Path) -> None:
    shop = FakeShop()
    for order_id in range(1, 1001):
        shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
    async with shop_harness(path, shop=shop) as it:
        shop.troubles.extend([0.0] * 5 + [refused()] * 3)  # others are asked before it ends
        await it.tick()
        assert it.state_writer.state.import_position is not None
        assert it.state_writer.state.import_position.phase is Phase.OPEN
        imported = it.value("shop_orders_learned_total")
        assert 0 < imported < 1000
        assert it.state_writer.state.last_poll_at is None, "nothing may be decided before all are imported"
    shop.requested.clear()
    async with shop_harness(path, shop=shop) as it:
        await it.tick()
        assert it.value("shop_orders_learned_total") == 1000 - imported
        assert it.new_deliveries == []


async def test_a_shop_that_is_down_at_the_first_start_has_its_orders_of_that_time_announced(
    path: Path,
) -> None:
    async with shop_harness(path) as it, it.running():
        it.shop.down = down()
        await anyio.sleep(3 * 3600)
        it.shop.put(1, "processing", created_at=EPOCH + timedelta(minutes=1))
        it.shop.put(2, "processing", created_at=EPOCH - timedelta(minutes=59))
        it.shop.put(3, "processing", created_at=EPOCH - timedelta(minutes=61))
        it.shop.down = None
        await anyio.sleep(180)
    assert [key for key, type_ in it.sinks[0].events() if type_ == NEW] == ["2", "1"]


# --- Trouble ---


async def test_how_far_our_clock_is_ahead_of_the_shops_is_shown(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.clock_off = timedelta(minutes=-7)
        await it.tick()
        assert it.value("shop_clock_ahead_seconds") == pytest.approx(7 * 60, abs=1)


async def test_a_request_with_a_brief_failure_is_repeated_within_the_tick(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.troubles.extend([down(), down(ErrorKind.TIMEOUT), down(ErrorKind.SERVER)])
        it.shop.put(1, "processing")
        await it.tick()
        assert len(it.new_deliveries) == 1
        assert it.value("shop_poll_errors_total", error_type="TimeoutError") == 1


async def test_three_retries_and_then_the_tick_ends(path: Path) -> None:
    async with shop_harness(path) as it:
        it.shop.down = down()
        await it.tick()
        waits = [b - a for (a, _), (b, _) in zip(it.shop.requested, it.shop.requested[1:], strict=False)]
        assert waits == [0.5, 1.0, 2.0], "random() is one half: of 1, 2 and 4 seconds"


async def test_wrong_keys_are_not_tried_again_and_alerted_at_once_and_once(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        it.shop.down = refused(ErrorKind.AUTHENTICATION)
        requested = len(it.shop.requested)
        await anyio.sleep(60)
        assert len(it.shop.requested) == requested + 1
        assert [type_ for _, type_ in it.sinks[0].events()] == ["service.unhealthy"]
        await anyio.sleep(3600)
        it.shop.down = None
        await anyio.sleep(120)
    assert [type_ for _, type_ in it.sinks[0].events()] == ["service.unhealthy", "service.recovered"]


async def test_an_unreachable_shop_is_alerted_when_health_turns_bad_and_the_alert_survives_a_restart(
    path: Path,
) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(61)
        shop.down = down()
        await anyio.sleep(299)
        assert sink.events() == []
        await anyio.sleep(121)
        assert [type_ for _, type_ in sink.events()] == ["service.unhealthy"]
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(3600)
        assert len(sink.got) == 1, "it is known already"
        shop.down = None
        await anyio.sleep(120)
    unhealthy, recovered = (delivery for _, delivery in sink.got)
    assert recovered.event_type == EventType.RECOVERED
    assert '"since": "2026-11-23T09:01:00.000Z"' in unhealthy.body, "the last good poll"
    assert '"error_type": "ConnectionError"' in unhealthy.body, "not what the breaker calls it"
    assert '"since": "2026-11-23T09:01:00.000Z"' in recovered.body


async def test_restarts_do_not_put_off_the_alert(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(61)
    shop.down = down()
    for _ in range(3):
        async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
            await anyio.sleep(240)
    assert [type_ for _, type_ in sink.events()] == ["service.unhealthy"]


async def test_a_walk_that_never_ends_is_an_outage_however_much_of_it_is_committed(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        for order_id in range(1, 151):
            it.shop.put(order_id, "processing")

        async def poisoned(query: Query) -> None:
            if query.exclude:
                raise down(ErrorKind.SERVER)

        it.shop.before = poisoned  # the second page is not to be had
        await anyio.sleep(420)
        assert it.sinks[0].events()[-1][1] == "service.unhealthy"


async def test_a_breaker_is_probed_every_minute_though_it_opens_within_a_tick(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        it.shop.down = down()
        it.shop.requested.clear()
        await anyio.sleep(600)
        times = [at for at, _ in it.shop.requested]
        assert len(times) >= 5 + 7
        assert max(later - earlier for earlier, later in pairwise(times[5:])) <= 61


async def test_a_clock_that_is_wrong_once_makes_nothing_old(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        it.shop.put(1, "processing")
        await anyio.sleep(7200)
        it.shop.clock_off = timedelta(days=200)
        it.shop.put(2, "processing", created_at=virtual_now())
        await anyio.sleep(3660)  # it is pruned meanwhile
        it.shop.clock_off = timedelta(0)
        await anyio.sleep(60)
        it.shop.put(1, "completed")
        await anyio.sleep(7200)
    assert it.sinks[0].events() == [("1", NEW), ("2", NEW)]


@pytest.mark.parametrize("off", [timedelta(days=200), timedelta(days=-200)])
async def test_our_clock_that_is_wrong_once_makes_nothing_old(
    path: Path, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    ours = [timedelta(0)]
    monkeypatch.setattr("support.shop_harness.virtual_now", lambda: virtual_now() + ours[0])
    shop = FakeShop()
    monkeypatch.setattr(shop, "clock", lambda: virtual_now().replace(microsecond=0))
    async with shop_harness(path, shop=shop) as it, it.running():
        await anyio.sleep(61)
        it.shop.put(1, "processing")
        await anyio.sleep(7200)
        ours[0] = off
        it.shop.put(2, "processing")
        await anyio.sleep(3660)  # it is pruned meanwhile
        ours[0] = timedelta(0)
        await anyio.sleep(7200)
        assert set(await it.store.known(SHOP, [1, 2])) == {1, 2}


async def test_an_order_set_aside_that_is_pruned_is_not_counted_any_more(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "shop_poller.delivery.dispatcher.CHECK_EVERY_S", 600.0
    )  # no delivery is what it is about
    plan = PollPlan(SHOP, MEANINGS, retention=timedelta(days=2), interval_s=600)
    async with shop_harness(path, plan=plan, in_memory=True) as it, it.running():
        await anyio.sleep(1)
        it.shop.spoil(7)
        await anyio.sleep(601)
        assert set(it.state_writer.set_aside) == {7}
        del it.shop.orders[7]
        await anyio.sleep(3 * 24 * HOUR)
        assert await it.store.set_aside(SHOP) == {}
        assert it.state_writer.set_aside == {}
        assert it.value("shop_orders_set_aside") == 0


async def many_to_import(it: ShopHarness) -> None:
    """More than are imported at once; the first tick is over."""
    for order_id in range(1, 2_501):
        it.shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
    await it.tick()


async def test_a_bug_while_importing_does_not_end_polling(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it:
        await many_to_import(it)

        async def bug(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(InitialImport, "page", bug)
        it.shop.put(9_999, "processing")
        async with it.running():
            await anyio.sleep(130)
        assert it.sinks[0].events() == [("9999", NEW)]
        assert it.value("shop_poll_errors_total", error_type="InternalError") == 3


@pytest.mark.parametrize("kind", [ErrorKind.SERVER, ErrorKind.TIMEOUT])
@pytest.mark.parametrize(("limit", "size"), [(30, 25), (10, 6), (1, 1)])
async def test_smaller_pages_are_requested_from_a_shop_that_breaks_over_a_large_one(
    path: Path, kind: ErrorKind, limit: int, size: int
) -> None:
    """A hundred whole orders may be too much for PHP's memory, or its time."""
    async with shop_harness(path) as it:
        await it.tick()
        fetch, sizes = it.shop.fetch, list[int]()

        async def weak(query: Query) -> Page:
            sizes.append(query.per_page)
            if query.per_page > limit:
                raise down(kind)
            return await fetch(query)

        it.shop.fetch = weak  # type: ignore[method-assign]
        it.shop.put(1, "processing")
        async with it.running():
            await anyio.sleep(1200)
            assert [event for event in it.sinks[0].events() if event[1] == NEW] == [("1", NEW)]
            sizes.clear()
            await anyio.sleep(600)
            assert set(sizes) == {size}
            await anyio.sleep(HOUR)
        assert 2 * size in sizes  # it may have been the shop's bad hour


async def test_after_an_outage_a_backlog_is_read_in_pages_that_are_not_tiny(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        for order_id in range(1, 201):
            it.shop.put(order_id, "processing")
        it.shop.down = down(ErrorKind.SERVER)
        async with it.running():
            await anyio.sleep(HOUR)
            it.shop.down = None
            it.shop.requested.clear()
            await anyio.sleep(130)
        assert [query.per_page for _, query in it.shop.requested][:7] == [1, 2, 4, 8, 16, 32, 64]
        assert [event for _, event in it.sinks[0].events()].count(NEW) == 200
        assert len(it.sinks[0].events()) >= 200


async def test_an_old_order_that_is_paid_on_our_watch_is_told_whoever_sees_it_first(path: Path) -> None:
    """The initial import may read it before the walk does."""
    async with shop_harness(path) as it:
        await many_to_import(it)
        old = max(it.shop.orders)  # imported last
        order = it.shop.orders[old]
        assert isinstance(order, Order)
        assert not await it.store.known(SHOP, [old])
        await anyio.sleep(10)
        it.shop.orders[old] = replace(
            order, status="processing", paid_at=it.shop.clock(), modified_at=it.shop.clock()
        )
        while it.state_writer.state.import_position is not None:
            await it.poller.between_ticks(TickReport(), anyio.current_time() + 60)
        await it.tick()
        await it.deliver()
        assert it.sinks[0].events() == [(str(old), NEW)]


async def test_after_a_tick_that_failed_nothing_is_imported(path: Path) -> None:
    async with shop_harness(path) as it:
        await many_to_import(it)
        it.shop.down = refused(ErrorKind.AUTHENTICATION)
        it.shop.requested.clear()
        async with it.running():
            await anyio.sleep(1)
        assert len(it.shop.requested) == 1


async def test_importing_that_fails_while_walks_work_is_said_once(path: Path) -> None:
    async with shop_harness(path) as it:
        await many_to_import(it)

        async def refusing(query: Query) -> None:
            if query.statuses:
                raise refused()

        it.shop.before = refusing  # a shop that does not know the filter
        with capture_logs() as logs:
            async with it.running():
                await anyio.sleep(1800)
        said = [entry["event"] for entry in logs if entry["log_level"] in {"warning", "error"}]
        assert said == ["initial import failed"]


async def test_importing_that_fails_again_after_it_worked_is_said_again(path: Path) -> None:
    async with shop_harness(path) as it:
        await many_to_import(it)
        began, pages = anyio.current_time(), 0

        async def failing_now_and_then(query: Query) -> None:
            nonlocal pages
            if query.statuses:
                passed_s = anyio.current_time() - began
                if passed_s < 90 or (pages and passed_s < 300):
                    raise refused()
                pages += 1

        it.shop.before = failing_now_and_then
        with capture_logs() as logs:
            async with it.running():
                await anyio.sleep(1800)
        said = [entry["event"] for entry in logs if entry["log_level"] in {"warning", "error"}]
        assert said == ["initial import failed"] * 2


async def test_a_long_walk_is_no_outage(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        for order_id in range(1, 1001):
            it.shop.put(order_id, "processing")
            if order_id % 50 == 0:
                await anyio.sleep(1)
        it.shop.troubles.extend([100.0] * 11)
        await anyio.sleep(1500)
    assert not [type_ for _, type_ in it.sinks[0].events() if type_ != NEW]
    assert len(it.sinks[0].got) == 1000


async def test_too_many_requests_pauses_polling_for_as_long_as_the_shop_requested(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=200))
        await anyio.sleep(400)
    assert ticks(it.shop) == [60, 260, 300, 360], "the tick at 240 waits for 60 + 200"


async def test_too_many_requests_without_a_time_means_a_minute(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=10)) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT))
        await anyio.sleep(80)
    assert ticks(it.shop) == [10, 70, 80]


async def test_a_shop_cannot_send_us_away_for_more_than_a_quarter_of_an_hour(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=1e9))
        await anyio.sleep(1000)
    assert ticks(it.shop) == [60, 960]


async def test_five_failures_in_a_row_open_the_circuit_for_a_minute_then_one_probe(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=10)) as it:
        await it.tick()
        it.shop.requested.clear()
        it.shop.down = down()
        async with it.running():
            await anyio.sleep(130)
            assert it.value("shop_breaker_open", peer=SHOP) == 1
            times = [at for at, _ in it.shop.requested]
            assert times == [0, 0.5, 1.5, 3.5, 10, 70]
            it.shop.down = None
            await anyio.sleep(20)
            assert it.value("shop_breaker_open", peer=SHOP) == 0


async def test_an_open_circuit_does_not_hide_why_polls_fail(path: Path) -> None:
    plan = PollPlan(SHOP, MEANINGS, interval_s=10)
    async with shop_harness(path, plan=plan) as it, it.running():
        await anyio.sleep(11)
        it.shop.down = down(ErrorKind.TIMEOUT)
        await anyio.sleep(50)
        assert it.value("shop_breaker_open", peer=SHOP) == 1
        requested = len(it.shop.requested)
        await it.poller.tick(anyio.current_time() + 1)
        assert len(it.shop.requested) == requested, "nothing is asked while the circuit is open"
        assert it.poller.failure is not None
        assert it.poller.failure.kind is ErrorKind.TIMEOUT
        assert it.poller.failure.text == "made up: TimeoutError"


async def test_an_answer_too_large_is_requested_in_halves(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.requested.clear()
        it.shop.troubles.extend([down(ErrorKind.TOO_LARGE), down(ErrorKind.TOO_LARGE)])
        it.shop.put(1, "processing")
        await it.tick()
        assert [query.per_page for _, query in it.shop.requested] == [
            100,
            50,
            25,
            50,
            100,
        ]  # and on to the end
        assert len(it.new_deliveries) == 1
        assert it.value("shop_breaker_open", peer=SHOP) == 0


async def test_stopping_waits_for_the_tick_under_way(path: Path) -> None:
    async with shop_harness(path) as it:
        await it.tick()
        it.shop.put(1, "processing")
        it.shop.troubles.append(5.0)
        async with it.running():
            await anyio.sleep(1)
        assert anyio.current_time() == pytest.approx(5.0, abs=0.01)
        assert len(it.new_deliveries) == 1


# --- Old records ---


async def test_an_order_whose_record_was_dropped_is_not_announced_again(path: Path) -> None:
    plan = PollPlan(SHOP, MEANINGS, retention=timedelta(days=7))
    async with shop_harness(path, plan=plan) as it:
        await it.tick()
        it.shop.put(1, "processing")
        await it.tick()
        assert len(it.new_deliveries) == 1
        await anyio.sleep(8 * 86_400)
        await it.tick()
        assert await it.store.known(SHOP, [1]) == {}
        it.shop.put(1, "completed")
        await anyio.sleep(1)
        await it.tick()
        assert len(it.new_deliveries) == 1
        assert virtual_now() > EPOCH + timedelta(days=8)


async def test_text_around_the_answers_is_logged_once_though_it_counts(path: Path) -> None:
    """As the comment of a cache, which tells how long it took."""
    async with shop_harness(path) as it:
        with capture_logs() as log:
            for took in ("0.412", "0.398", "12", "3.5"):
                it.shop.preamble = f"Dynamic page generated in {took} seconds. Key: 9f8{took[-1]}c"
                await it.tick()
            it.shop.preamble = "Warning: x in y.php"
            await it.tick()
    said = [line["text"] for line in log if "around its responses" in line["event"]]
    assert [text[:7] for text in said] == ["Dynamic", "Warning"]
