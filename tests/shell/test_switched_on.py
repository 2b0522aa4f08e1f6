"""What is told only if it is switched on: statuses that the owner named, overdue payments, silence."""

import json
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.filters import Filter
from shop_poller.core.model import StatusEvent
from shop_poller.delivery import dispatcher
from shop_poller.polling.plan import PollPlan
from shop_poller.ports import Batch
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, FakeSink, ShopHarness, down, shop_harness
from support.virtual_time import EPOCH, virtual_now

pytestmark = pytest.mark.anyio

HOUR = 3600
OFF = PollPlan(SHOP, MEANINGS, interval_s=600)
NEW = "shop.order.new"
PACKING = "shop.order.packing"
OVERDUE = "shop.order.payment_overdue"
SILENCE = "shop.silence"

OWN = PollPlan(
    SHOP,
    MEANINGS,
    interval_s=600,
    status_events={"sborka": StatusEvent(PACKING, "info", "Собирается", "Заказ #{id} передан на сборку")},
)
PATIENT = PollPlan(SHOP, MEANINGS, interval_s=600, overdue_after=timedelta(hours=24))
LISTENING = PollPlan(SHOP, MEANINGS, interval_s=600, silence_after=timedelta(hours=12))


@pytest.fixture(autouse=True)
def looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or of days most of the time goes into looking for what is replayed."""
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def bodies(sink: FakeSink, event_type: str) -> list[dict[str, Any]]:
    """What was delivered of a type."""
    return [json.loads(delivery.body) for _, delivery in sink.got if delivery.event_type == event_type]


# --- Filters ---


async def test_what_a_sink_does_not_want_makes_no_row_for_it(path: Path) -> None:
    sinks = [FakeSink("all"), FakeSink("failures"), FakeSink("news")]
    filters = {"failures": Filter(levels=("error",)), "news": Filter(("new",))}
    async with shop_harness(path, sinks=sinks, filters=filters, plan=OFF) as it, it.running():
        await anyio.sleep(1)
        it.shop.put(1, "processing")
        await anyio.sleep(600)
        it.shop.put(1, "failed")
        await anyio.sleep(600)
    assert [sink.events() for sink in sinks] == [
        [("1", NEW), ("1", "shop.order.failed")], [("1", "shop.order.failed")], [("1", NEW)],
    ]  # fmt: skip
    rows = sorted((row.sink, str(row.notification.event_type)) for row in it.new_deliveries)
    assert rows == [
        ("all", "shop.order.failed"), ("all", NEW), ("failures", "shop.order.failed"), ("news", NEW),
    ]  # fmt: skip


async def test_alerts_and_silence_are_filtered_too(path: Path) -> None:
    sinks = [FakeSink("urgent"), FakeSink("orders"), FakeSink("shop"), FakeSink("service")]
    filters = {
        "urgent": Filter(levels=("critical",)),
        "orders": Filter(("shop.order.*",)),
        "shop": Filter(("silence",)),
        "service": Filter(("service.*",)),
    }
    async with shop_harness(path, sinks=sinks, filters=filters, plan=LISTENING) as it, it.running():
        await anyio.sleep(13 * 3600)
        since = virtual_now()
        await it.alert_manager.raise_for("another", cause=ErrorKind.TIMEOUT, since=since)
        await it.alert_manager.clear("another")
        await anyio.sleep(60)
    assert [[str(delivery.event_type) for _, delivery in sink.got] for sink in sinks] == [
        ["service.unhealthy"],
        [],
        ["shop.silence"],
        ["service.unhealthy", "service.recovered"],
    ]


# --- Events of the owner's own ---


async def test_a_status_that_the_owner_named_is_told_once_over_restarts(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=OWN) as it, it.running():
        assert it.value("shop_notifications_sent_total", event_type=PACKING, sink="sink") == 0
        await anyio.sleep(1)
        shop.put(1, "processing")
        await anyio.sleep(600)
        shop.put(1, "sborka")
        shop.put(2, "sborka")
        await anyio.sleep(600)
    shop.put(1, "sborka")  # touched
    async with shop_harness(path, shop=shop, sinks=[sink], plan=OWN) as it, it.running():
        await anyio.sleep(1200)
    assert sorted(sink.events()) == [("1", NEW), ("1", PACKING), ("2", NEW), ("2", PACKING)]
    assert sink.events().index(("2", NEW)) < sink.events().index(("2", PACKING))
    assert [body["message"] for body in bodies(sink, PACKING)] == [
        "Заказ #1 передан на сборку",
        "Заказ #2 передан на сборку",
    ]


async def test_a_status_that_nobody_named_is_not_told(path: Path) -> None:
    async with shop_harness(path, plan=OFF) as it, it.running():
        it.shop.put(1, "processing")
        await anyio.sleep(1)
        it.shop.put(1, "sborka")
        await anyio.sleep(1200)
    assert it.sinks[0].events() == [("1", NEW)]


async def test_what_waits_is_delivered_though_its_event_is_not_named_any_more(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=OWN) as it:
        shop.put(1, "sborka")
        await it.tick()
    assert sink.got == []
    async with shop_harness(path, shop=shop, sinks=[sink], plan=OFF) as it, it.running():
        shop.put(1, "cancelled")
        await anyio.sleep(601)
        assert it.value("shop_notifications_sent_total", event_type=PACKING, sink="sink") == 1
        over = await it.store.finished(SHOP, dead=False, limit=9)
    assert sink.events() == [("1", NEW), ("1", PACKING), ("1", "shop.order.cancelled")]
    assert {one.event_type for one in over} == {NEW, PACKING, "shop.order.cancelled"}


# --- Payments that are overdue ---


async def touched(it: ShopHarness, *order_ids: int, hours: int) -> None:
    """These orders are seen again once an hour, as they are."""
    for _ in range(hours):
        for order_id in order_ids:
            it.shop.put(order_id, it.shop.orders[order_id].status)  # type: ignore[union-attr] # they can be read
        await anyio.sleep(HOUR)


async def test_a_payment_is_overdue_once_over_restarts_and_the_order_new_when_it_is_paid(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=PATIENT) as it, it.running():
        await anyio.sleep(1)
        shop.put(1, "pending")
        shop.put(2, "pending")
        shop.put(3, "pending", created_at=EPOCH - timedelta(days=9))
        await touched(it, 1, 2, 3, hours=12)
        shop.put(1, "on-hold")
    assert sink.events() == []
    async with shop_harness(path, shop=shop, sinks=[sink], plan=PATIENT) as it, it.running():
        shop.put(2, "processing")
        await touched(it, 1, 2, 3, hours=30)
    assert sink.events() == [("2", NEW), ("1", OVERDUE)]
    (overdue,) = bodies(sink, OVERDUE)
    assert overdue["message"] == "Заказ #1 на сумму 1930.00 ₽ ждёт оплаты уже 24 ч"
    assert overdue["level"] == "warning"
    assert overdue["data"]["awaiting_since"] == "2026-11-23T09:00:01.000Z"  # it is an object
    async with shop_harness(path, shop=shop, sinks=[sink], plan=PATIENT) as it, it.running():
        await touched(it, 1, 2, 3, hours=30)
        shop.put(1, "processing")
        await anyio.sleep(HOUR)
    assert sink.events() == [("2", NEW), ("1", OVERDUE), ("1", NEW)]


async def test_a_payment_may_be_late_for_ever_if_nobody_asks(path: Path) -> None:
    async with shop_harness(path, plan=OFF) as it, it.running():
        it.shop.put(1, "pending")
        await touched(it, 1, hours=50)
    assert it.sinks[0].events() == []


async def test_switched_on_later_it_tells_what_has_been_waiting_since_before(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=OFF) as it, it.running():
        shop.put(1, "failed")
        await anyio.sleep(HOUR)
        shop.put(1, "pending")
        await touched(it, 1, hours=40)
    async with shop_harness(path, shop=shop, sinks=[sink], plan=PATIENT) as it, it.running():
        await touched(it, 1, hours=1)
    (overdue,) = bodies(sink, OVERDUE)
    assert overdue["message"] == "Заказ #1 на сумму 1930.00 ₽ ждёт оплаты уже 40 ч"


# --- Silence ---


async def test_a_silence_is_told_once_over_restarts_until_the_next_order(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=LISTENING) as it, it.running():
        await anyio.sleep(1)
        shop.put(1, "processing")
        await anyio.sleep(12 * HOUR - 602)
        assert sink.events() == [("1", NEW)]
        await anyio.sleep(1202)
        assert sink.events() == [("1", NEW), ("silence", SILENCE)]
        shop.put(2, "pending")  # somebody tries, and cannot pay
        await anyio.sleep(24 * HOUR)
    async with shop_harness(path, shop=shop, sinks=[sink], plan=LISTENING) as it, it.running():
        await anyio.sleep(24 * HOUR)
        assert sink.events() == [("1", NEW), ("silence", SILENCE)]
        shop.put(3, "processing")
        await anyio.sleep(11 * HOUR)
        assert sink.events()[2:] == [("3", NEW)]
        await anyio.sleep(13 * HOUR)
    assert sink.events()[2:] == [("3", NEW), ("silence", SILENCE)]
    first, second = bodies(sink, SILENCE)
    assert (first["source_id"], first["level"]) == (SHOP, "warning")
    assert first["data"]["since"] == "2026-11-23T09:00:01.000Z"
    assert first["event_id"] != second["event_id"]
    assert it.value("shop_notifications_sent_total", event_type=SILENCE, sink="sink") == 1


async def test_nobody_is_told_of_a_silence_who_did_not_ask(path: Path) -> None:
    async with shop_harness(path, plan=OFF, in_memory=True) as it, it.running():
        await anyio.sleep(72 * HOUR)
    assert it.sinks[0].events() == []


async def test_without_any_order_the_silence_begins_with_our_watch(path: Path) -> None:
    async with shop_harness(path, plan=LISTENING) as it, it.running():
        # There were orders before, and they are touched: that is no sign of life.
        it.shop.put(1, "processing", created_at=EPOCH - timedelta(days=3))
        await anyio.sleep(HOUR)
        it.shop.put(1, "completed")
        await anyio.sleep(10 * HOUR - 600)
        assert it.sinks[0].events() == []
        await anyio.sleep(1200)
    (told,) = bodies(it.sinks[0], SILENCE)
    assert told["data"]["since"] == "2026-11-23T08:00:00.000Z", "the baseline: the start less the look-back"


async def test_the_same_silence_has_the_same_id_after_a_crash(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink], plan=LISTENING) as it:
        await it.tick()
    shutil.copy(path, path.with_name("backup.db"))
    await anyio.sleep(12 * HOUR)
    for name in ("state.db", "backup.db"):
        place = path.with_name(name)
        async with shop_harness(place, shop=shop, sinks=[sink], plan=LISTENING) as it, it.running():
            await anyio.sleep(HOUR)
    first, second = bodies(sink, SILENCE)
    assert first["event_id"] == second["event_id"]


async def test_a_silence_is_stored_with_the_poll_that_saw_it_or_not_at_all(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path, plan=LISTENING) as it:
        await it.tick()
        await anyio.sleep(12 * HOUR)
        commit = it.store.commit

        async def full(_: str, __: Batch) -> None:
            raise TemporaryError(ErrorKind.STORE, "disk full")

        monkeypatch.setattr(it.store, "commit", full)
        await it.tick()
        assert it.state_writer.state.silence_told_at is None
        monkeypatch.setattr(it.store, "commit", commit)
        with capture_logs() as logs:
            await it.tick()
            await it.tick()
        await it.deliver()
    assert [event for event in it.sinks[0].events() if event[1] == SILENCE] == [("silence", SILENCE)]
    assert [entry["event"] for entry in logs].count("no order for too long") == 1


async def test_a_shop_that_is_away_is_not_silent_and_what_it_sold_meanwhile_counts(path: Path) -> None:
    async with shop_harness(path, plan=LISTENING) as it, it.running():
        await anyio.sleep(1)
        it.shop.down = down()
        await anyio.sleep(30 * HOUR)
        it.shop.put(1, "processing")
        for order_id in range(2, 202):  # more than a page: the newest is on the last
            it.shop.put(order_id, "pending")
        it.shop.down = None
        await anyio.sleep(2 * HOUR)
    assert SILENCE not in {event_type for _, event_type in it.sinks[0].events()}


async def test_while_importing_no_silence_is_told(path: Path) -> None:
    plan = PollPlan(SHOP, MEANINGS, silence_after=timedelta(minutes=30))  # the look-back is an hour
    async with shop_harness(path, plan=plan) as it:
        for order_id in range(1, 2_501):
            it.shop.put(order_id, "pending", created_at=EPOCH - timedelta(days=2, seconds=order_id))
        await it.tick()
        assert it.state_writer.state.import_position is not None
        assert it.new_deliveries == []
        async with it.running():
            await anyio.sleep(61)
    assert it.sinks[0].events() == [("silence", SILENCE)], "when all are imported"
