"""Digests in virtual time: each is made once, at the first opportunity, with the right numbers."""

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest

from shop_poller.core.digests import parse_digest
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import EventType
from shop_poller.delivery.gathering import SinkTiming
from shop_poller.polling.plan import PollPlan
from shop_poller.ports import Alert
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, ShopHarness, down, shop_harness
from support.virtual_time import EPOCH, THREADLESS, Backend, virtual_now

pytestmark = pytest.mark.anyio

HOUR, DAY = 3600.0, 86_400.0
DAILY = {"sink": parse_digest("daily@10:00")}
WEEKLY = {"sink": parse_digest("weekly:mon@10:00")}
SELDOM = PollPlan(shop=SHOP, meanings=MEANINGS, interval_s=1800)
assert datetime(2026, 11, 23, 9, tzinfo=UTC) == EPOCH, "a Monday"


@pytest.fixture
def anyio_backend() -> Backend:
    return THREADLESS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def digests(it: ShopHarness) -> list[Mapping[str, Any]]:
    """The digests that were put into the outbox."""
    return [
        json.loads(one.body) for one in it.new_deliveries if one.notification.event_type == EventType.DIGEST
    ]


def days(found: Mapping[str, Any]) -> tuple[str, str]:
    return found["data"]["first_day"], found["data"]["last_day"]


def orders(found: Mapping[str, Any] | None) -> int | None:
    return None if found is None else found["orders"]["count"]


async def next_day(it: ShopHarness, hours: float = 24, *, orders: int = 0) -> None:
    """Time goes by, some orders come, and the shop is polled."""
    await anyio.sleep(hours * HOUR)
    for _ in range(orders):
        it.shop.put(len(it.shop.orders) + 1, "processing")
    await it.tick()


async def test_a_digest_comes_at_the_first_tick_after_its_time_and_once(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, plan=SELDOM, digests=DAILY) as it, it.running():
        await anyio.sleep(5 * HOUR)
        shop.put(1, "processing")
        await anyio.sleep(DAY - 5 * HOUR)
        assert digests(it) == [], "the first one is the next one"
        await anyio.sleep(HOUR + 1)
        (found,) = digests(it)
        assert (days(found), orders(found["data"])) == (("2026-11-23", "2026-11-23"), 1)
        assert found["data"]["orders"]["sums"][0]["sum"] == "1930.00"
        assert found["data"]["previous"] is None
        assert found["data"]["counted_since"] is not None, "the first day was not whole"
        assert found["created_at"] == "2026-11-24T10:00:00.000Z"
        await anyio.sleep(DAY)
        first, second = digests(it)
        assert (days(second), orders(second["data"])) == (("2026-11-24", "2026-11-24"), 0)
        assert second["data"]["counted_since"] is None
        await anyio.sleep(DAY)
        third = digests(it)[2]
        assert orders(third["data"]["previous"]) == 0
        assert first["event_id"] != second["event_id"] != third["event_id"]
        kinds = [delivery.event_type for _, delivery in it.sinks[0].got]
        assert kinds == ["shop.order.new", *["shop.digest"] * 3], "usual events come too"


async def test_a_digest_costs_the_shop_nothing(tmp_path: Path) -> None:
    counts = []
    for number, schedules in enumerate((None, DAILY)):
        shop = FakeShop()
        where = tmp_path / f"{number}.db"
        async with shop_harness(where, shop=shop, plan=SELDOM, digests=schedules) as it, it.running():
            await anyio.sleep(2 * DAY)
        counts.append(len(shop.requested))
    assert counts[0] == counts[1]


async def test_a_week_is_compared_with_the_week_before(path: Path) -> None:
    async with shop_harness(path, digests=WEEKLY) as it:
        await it.tick()
        for day in range(21):
            await next_day(it, orders=1 + (day >= 13))
        await next_day(it, 1)
        found = digests(it)
        assert [days(one) for one in found] == [
            ("2026-11-23", "2026-11-29"), ("2026-11-30", "2026-12-06"), ("2026-12-07", "2026-12-13"),
        ]  # fmt: skip
        assert [orders(one["data"]) for one in found] == [6, 7, 14]
        assert [orders(one["data"]["previous"]) for one in found] == [None, None, 7]


async def test_after_a_week_without_the_daemon_one_digest_comes_with_all_that_was_missed(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, digests=DAILY) as it:
        await it.tick()
        await next_day(it)
        await next_day(it, 1)
        assert len(digests(it)) == 1
    await anyio.sleep(5 * DAY)
    shop.put(1, "processing")  # at 10:00 of the 29th
    await anyio.sleep(2 * DAY)
    async with shop_harness(path, shop=shop, digests=DAILY) as it:
        shop.down = down()
        await it.tick()
        shop.down = None
        assert digests(it) == [], "what happened meanwhile is not read yet"
        await it.tick()
        (found,) = digests(it)
        assert days(found) == ("2026-11-30", "2026-11-30")
        assert (orders(found["data"]), orders(found["data"]["previous"])) == (0, 1)


async def test_the_shop_need_not_answer_when_it_is_due(path: Path) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        await it.tick()
        await next_day(it, 15.5)
        it.shop.down = down()
        await next_day(it, 9.5)
        assert len(digests(it)) == 1, "it was polled after midnight"
        await next_day(it, 24)
        assert len(digests(it)) == 1
        it.shop.down = None
        await next_day(it, 2)
        assert [days(one)[0] for one in digests(it)] == ["2026-11-23", "2026-11-24"]


async def test_a_kill_between_the_commit_and_the_delivery_makes_no_second_one(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, digests=DAILY) as it:
        await it.tick()
        await next_day(it, 25)
        (found,) = digests(it)
    got = list[str]()
    for _ in range(2):
        async with shop_harness(path, shop=shop, digests=DAILY) as it:
            await it.tick()
            assert digests(it) == []
            await it.deliver()
            got += [delivery.event_id for _, delivery in it.sinks[0].got]
    assert got == [found["event_id"]]


async def test_a_digest_that_cannot_be_stored_is_made_at_the_next_tick(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        await it.tick()
        raise_alert = it.store.raise_alert
        applies = iter([False, True])

        async def failing(*args: Any) -> None:
            """Once nothing is stored, once only the answer is lost."""
            if next(applies):
                await raise_alert(*args)
            raise TemporaryError(ErrorKind.STORE, "made up")

        monkeypatch.setattr(it.store, "raise_alert", failing)
        await next_day(it, 25)
        assert it.value("shop_polling_failures_total", stage="digest", error_type=ErrorKind.STORE) == 1
        await it.tick()
        monkeypatch.undo()
        await it.tick()
        assert digests(it) == [], "it was stored by the second attempt"
        await it.deliver()
        assert [one.event_type for _, one in it.sinks[0].got] == ["shop.digest"]


async def test_a_commit_whose_answer_is_lost_counts_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        await it.tick()
        commit = it.store.commit

        async def lost(*args: Any) -> None:
            await commit(*args)
            raise TemporaryError(ErrorKind.STORE, "made up")

        it.shop.put(1, "processing")
        monkeypatch.setattr(it.store, "commit", lost)
        await it.tick()
        monkeypatch.undo()
        it.shop.put(2, "processing")
        await it.tick()
        (tally,) = (await it.store.tallies(SHOP)).values()
        assert tally.orders.count == 2


async def test_a_state_of_an_earlier_version_counts_from_now_on(path: Path) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        await it.tick()
        assert it.state_writer.state.tallied_since == it.state_writer.state.baseline_at
        it.state_writer.state = replace(it.state_writer.state, tallied_since=None)
        await next_day(it, 12)
        assert it.state_writer.state.tallied_since == virtual_now()
        await next_day(it, 13)
        (found,) = digests(it)
        assert found["data"]["counted_since"] == "2026-11-23T21:00:00.000Z"


async def test_days_before_the_count_have_no_digest(path: Path) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        await it.tick()
        it.state_writer.state = replace(it.state_writer.state, tallied_since=None)
        await next_day(it, 25)
        assert digests(it) == []
        await next_day(it, 24)
        assert [days(one)[0] for one in digests(it)] == ["2026-11-24"]


async def test_an_entry_of_the_future_does_not_silence_digests(path: Path) -> None:
    async with shop_harness(path, digests=DAILY) as it:
        future = Alert("digest:sink", ErrorKind.REJECTED, EPOCH + timedelta(days=400))
        await it.store.raise_alert(SHOP, future, (), EPOCH)
        await it.tick()
        await next_day(it, 25)
        assert len(digests(it)) == 1


async def test_an_old_date_of_the_shop_makes_no_digest_a_second_time(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, plan=SELDOM, digests=DAILY) as it, it.running():
        await anyio.sleep(DAY + 2 * HOUR)
        made = digests(it)
        assert len(made) == 1
        shop.clock_off = timedelta(days=-2)
        await anyio.sleep(2 * HOUR)
        shop.clock_off = timedelta(0)
        await anyio.sleep(2 * HOUR)
        assert digests(it) == made


async def test_a_clock_that_is_wrong_makes_no_digest_of_other_days(path: Path) -> None:
    """The shop's clock counts: events have its dates."""

    def ahead() -> datetime:
        return virtual_now() + timedelta(days=30)

    async with shop_harness(path, digests=DAILY, now=ahead) as it:
        await it.tick()
        await next_day(it, 25)
        assert [days(one)[0] for one in digests(it)] == ["2026-11-23"]


async def test_a_changed_time_of_the_day_repeats_nothing(path: Path) -> None:
    shop = FakeShop()
    async with shop_harness(path, shop=shop, digests=DAILY) as it:
        await it.tick()
        await next_day(it, 25)
        assert len(digests(it)) == 1
    async with shop_harness(path, shop=shop, digests={"sink": parse_digest("daily@12:00")}) as it:
        await it.tick()
        await next_day(it, 3)
        assert digests(it) == []
        await next_day(it, 24)
        assert [days(one)[0] for one in digests(it)] == ["2026-11-24"]


async def test_a_digest_joins_no_group(path: Path) -> None:
    def compose(_: object) -> Any:
        raise AssertionError("it would be one line of a group")

    timing = SinkTiming(group_s=60.0, compose=compose)
    async with shop_harness(path, digests=DAILY, timing=timing) as it:
        await it.tick()
        await next_day(it, 25)
        await it.deliver()
        assert [one.event_type for _, one in it.sinks[0].got] == ["shop.digest"]
