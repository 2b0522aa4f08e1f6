"""Quiet hours and groups of one sink, in virtual time: what waits, what does not; nothing is lost."""

import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.cli.status import read_status
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.grouping import GROUP, GroupFormat
from shop_poller.core.model import Delivery, GroupDelivery
from shop_poller.core.quiet import parse_quiet
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import DeliveryPlan
from shop_poller.delivery.gathering import MOST_FAILED_GROUPS, Gathering, SinkTiming
from shop_poller.locales import texts
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.ports import Outcome
from shop_poller.runtime.factory import sink_timings
from shop_poller.runtime.status import HealthReporter
from shop_poller.runtime.status_page_data import Overview
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import delivery
from support.shop_harness import SHOP, FakeSink, ShopHarness, down, put, refused, shop_harness
from support.virtual_time import EPOCH, THREADLESS, Backend, virtual_now

pytestmark = pytest.mark.anyio

HOUR, MINUTE = 3600.0, 60.0
COMPOSE = GroupFormat("ru", texts("ru")).compose
URGENT = frozenset({"critical"})
NIGHT = SinkTiming(parse_quiet("10:00-18:00"), UTC, URGENT, compose=COMPOSE)
"""It begins one hour after the beginning of a test, and ends nine hours after it."""
GROUPS = SinkTiming(urgent=URGENT, group_s=30.0, compose=COMPOSE)
BEGIN, END = HOUR, 9 * HOUR
assert EPOCH.hour == 9
SELDOM = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)), check_every_s=600.0)
"""For tests of many hours: each look at the outbox costs real time."""


@pytest.fixture
def anyio_backend() -> Backend:
    return THREADLESS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def messages(attempts: list[tuple[float, Delivery]]) -> list[tuple[float, list[str]]]:
    """When which orders were in one message, to the second; alerts are left out."""
    return [
        (round(at), [row.key for row in (one.rows if isinstance(one, GroupDelivery) else [one])])
        for at, one in attempts
        if not one.key.startswith("alert:")
    ]


async def stats(it: ShopHarness) -> tuple[int, int]:
    """How many wait, and how many are dead letters."""
    found = (await it.store.stats(SHOP)).sinks.get("sink")
    return (found.waiting, found.dead) if found else (0, 0)


def settings_with(sinks: str, *, timezone: str, state: str | None = None) -> Settings:
    return Settings.of(
        {
            "woocommerce_mcp_url": f"https://{SHOP}/wp-json/wc/v3/orders",
            "woocommerce_consumer_key": "ck_x",
            "woocommerce_consumer_secret": "cs_x",
            "shop_notify_urls": sinks,
            "shop_timezone": timezone,
            **({"shop_state_url": state} if state else {}),
        },
        parse_sink=parse_sink,
    )


def count_calls(it: ShopHarness, name: str, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """When a method of the store is called from now on."""
    calls, method = list[float](), getattr(it.store, name)

    async def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(anyio.current_time())
        return await method(*args, **kwargs)

    monkeypatch.setattr(it.store, name, counted)
    return calls


# --- quiet hours ---


async def test_what_is_not_urgent_waits_for_the_end_and_comes_one_by_one(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(BEGIN + MINUTE)
        assert messages(it.sinks[0].got) == [(0, ["1"])]
        await put(it, "2", "3")
        await put(it, "4", level="error")
        await anyio.sleep(7 * HOUR)
        assert len(it.sinks[0].got) == 1
        assert await stats(it) == (3, 0)
        await put(it, "5", level="critical")
        await anyio.sleep(1)
        assert messages(it.sinks[0].got)[1:] == [(round(BEGIN + 7 * HOUR + MINUTE), ["5"])]
        await anyio.sleep(HOUR)
        assert sorted(messages(it.sinks[0].got)[2:]) == [(END, ["2"]), (END, ["3"]), (END, ["4"])]
        assert await stats(it) == (0, 0)


async def test_more_than_a_few_come_as_one_message(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN + 1)
        await put(it, "1", "2", "3", "4")
        await anyio.sleep(8 * HOUR + 10)
        assert messages(it.sinks[0].got) == [(END, ["1", "2", "3", "4"])]
        (_, group) = it.sinks[0].got[0]
        assert json.loads(group.body)["grouped"] == [row.event_id for row in group.rows]  # type: ignore[attr-defined]
        assert await stats(it) == (0, 0)
        await put(it, "5", "6", "7", "8")
        await anyio.sleep(1)
        assert len(it.sinks[0].got) == 5, "what was not held is sent at once"
    assert it.value("shop_notifications_sent_total", sink="sink", event_type="shop.order.new") == 8
    assert it.dispatchers[0].delivered == 8


async def test_the_order_of_an_orders_events_is_kept(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN + 1)
        await put(it, "1", "2", "3", "4")
        await put(it, "1", level="critical")
        await put(it, "2")
        await anyio.sleep(8 * HOUR + 10)
        assert messages(it.sinks[0].got)[0] == (END, ["1", "2", "3", "4"])
        assert sorted(messages(it.sinks[0].got)[1:]) == [(END, ["1"]), (END, ["2"])]


async def test_a_restart_loses_nothing_and_still_makes_one_message(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN + 1)
        await put(it, *"1234")
        await anyio.sleep(HOUR)
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(HOUR)
        assert it.sinks[0].tried == []
    await anyio.sleep(7 * HOUR)
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(1)
        assert [rows for _, rows in messages(it.sinks[0].got)] == [[*"1234"]]


async def test_a_weekend_is_longer_than_a_row_may_be_parked(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is Monday: three quiet days follow."""
    timing = SinkTiming(parse_quiet("mon,tue,wed"), UTC, URGENT, compose=COMPOSE)
    async with shop_harness(path, timing=timing, delivery=SELDOM) as it, it.delivering():
        recorded = count_calls(it, "record_outcomes", monkeypatch)
        await put(it, *"1234")
        await anyio.sleep(62 * HOUR)
        assert it.sinks[0].tried == []
        assert len(recorded) <= 8, "every twelve hours"
        await anyio.sleep(2 * HOUR)
        assert messages(it.sinks[0].got) == [(63 * HOUR, [*"1234"])]


@pytest.mark.parametrize(
    ("hours", "first_at", "then_after"),
    [
        ("19:00-18:00", 9 * HOUR, 24 * HOUR),
        ("tue,wed,thu,fri,sat,sun,10:00-09:00", 7 * 24 * HOUR, 7 * 24 * HOUR),
    ],
)
async def test_a_digest_is_a_sink_that_is_almost_always_quiet(
    path: Path, hours: str, first_at: float, then_after: float
) -> None:
    """A test begins on Monday at 09:00; the digest of the week begins one hour later."""
    timing = SinkTiming(parse_quiet(hours), UTC, URGENT, compose=COMPOSE)
    plan = replace(SELDOM, check_every_s=HOUR)
    async with shop_harness(path, timing=timing, delivery=plan) as it, it.delivering():
        await anyio.sleep(HOUR + 1)
        await put(it, *"1234")
        await anyio.sleep(first_at - 2)
        await anyio.sleep(2 * HOUR)
        await put(it, *"56789")
        await anyio.sleep(then_after)
        assert messages(it.sinks[0].got) == [(first_at, [*"1234"]), (first_at + then_after, [*"56789"])]


async def test_what_is_in_the_queue_when_quiet_hours_begin_waits_too(path: Path) -> None:
    slow = FakeSink(behave=lambda _: 5.0)
    plan = replace(SELDOM, senders=1)
    async with shop_harness(path, sinks=[slow], timing=NIGHT, delivery=plan) as it, it.delivering():
        await anyio.sleep(BEGIN - 12)
        await put(it, *"123456")
        await anyio.sleep(12 + MINUTE)
        assert len(slow.tried) == 3
        await anyio.sleep(8 * HOUR)
        assert Counter(key for _, keys in messages(slow.got) for key in keys) == Counter("123456")


async def test_a_sink_that_is_down_is_probed_only_with_what_is_urgent(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[broken], timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN - 1)
        await put(it, "1", "2")
        await anyio.sleep(10)
        before = len(broken.tried)
        recorded = count_calls(it, "record_outcomes", monkeypatch)
        await anyio.sleep(HOUR)
        assert len(broken.tried) == before
        assert len(recorded) <= 2, "what waits is put back once"
        await put(it, "3", "4", level="critical")
        await anyio.sleep(5 * MINUTE)
        assert {keys[0] for _, keys in messages(broken.tried[before:])} == {"3", "4"}
        broken.behave = lambda _: None
        await anyio.sleep(5 * MINUTE)
        assert sorted(keys[0] for _, keys in messages(broken.got)) == ["3", "4"]
        await anyio.sleep(8 * HOUR)
        assert sorted(keys[0] for _, keys in messages(broken.got)) == ["1", "2", "3", "4"]


async def test_quiet_hours_are_no_outage_of_the_sink(path: Path) -> None:
    """A failure just before them does not count as one that lasts all night."""
    sinks = [FakeSink(behave=lambda d: down() if d.key == "1" else None), FakeSink("other")]
    async with shop_harness(path, sinks=sinks, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN - 2)
        await put(it, "1")
        await anyio.sleep(8 * HOUR)
        sinks[0].behave = lambda _: None
        await anyio.sleep(2 * HOUR)
        assert [one for _, one in sinks[1].got if one.key.startswith("alert:")] == []
        ((at, keys),) = messages(sinks[0].got)
        assert keys == ["1"]
        assert END <= at <= END + 61


async def test_a_sink_that_fails_in_quiet_hours_is_reported(path: Path) -> None:
    sinks = [FakeSink(behave=lambda _: down()), FakeSink("other")]
    async with shop_harness(path, sinks=sinks, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN + 1)
        await put(it, "1", level="critical")
        await anyio.sleep(15 * MINUTE)
        assert [one.event_type for _, one in sinks[1].got] == ["service.unhealthy"]


async def test_quiet_hours_do_not_count_as_age(path: Path) -> None:
    """The notification is dated 09:50. With eight quiet hours, it is 12 hours old at 05:50."""
    plan = replace(SELDOM, retry=RetryPolicy(max_age=timedelta(hours=12)))
    broken = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[broken], timing=NIGHT, delivery=plan) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(20 * HOUR + 40 * MINUTE)
        assert await stats(it) == (1, 0)
        await anyio.sleep(20 * MINUTE)
        assert (await stats(it))[1] == 1


async def test_quiet_hours_do_not_count_as_age_of_a_row_that_fails(path: Path) -> None:
    plan = replace(SELDOM, retry=RetryPolicy(max_age=timedelta(hours=3)))
    picky = FakeSink(behave=lambda d: down(ErrorKind.SERVER) if d.key == "1" else None)
    async with shop_harness(path, sinks=[picky], timing=NIGHT, delivery=plan) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(END + 1.9 * HOUR)
        assert (await stats(it))[1] == 0
        await anyio.sleep(6 * HOUR)
        assert (await stats(it))[1] == 1


async def test_how_long_it_stays_quiet_is_shown(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        assert it.dispatchers[0].quiet_until is None
        await anyio.sleep(BEGIN)
        assert it.dispatchers[0].quiet_until == EPOCH + timedelta(hours=9)


# --- groups ---


async def test_a_burst_becomes_one_message(path: Path) -> None:
    async with shop_harness(path, timing=GROUPS) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(20)
        await put(it, "2", "3")
        await put(it, "4", level="critical")
        await anyio.sleep(9)
        assert messages(it.sinks[0].got) == [(20, ["4"])], "what is urgent does not wait"
        await anyio.sleep(2)
        assert messages(it.sinks[0].got)[1:] == [(30, ["1", "2", "3"])]
        assert await stats(it) == (0, 0)
        await anyio.sleep(29)
        await put(it, "5")
        await anyio.sleep(31)
        assert messages(it.sinks[0].got)[2:] == [(90, ["5"])], "one alone is sent as it is"
        assert not isinstance(it.sinks[0].got[-1][1], GroupDelivery)


async def test_the_next_event_of_an_order_comes_in_the_next_message(path: Path) -> None:
    async with shop_harness(path, timing=GROUPS) as it, it.delivering():
        await put(it, "1", "2", "1", "2")
        await anyio.sleep(100)
        assert messages(it.sinks[0].got) == [(30, ["1", "2"]), (60, ["1", "2"])]
        seqs = [row.seq for _, group in it.sinks[0].got for row in getattr(group, "rows", ())]
        assert sorted(seqs) == [1, 2, 3, 4]


async def test_a_full_queue_ends_the_wait(path: Path) -> None:
    plan = replace(SELDOM, queue_size=3)
    async with shop_harness(path, timing=GROUPS, delivery=plan) as it, it.delivering():
        await put(it, *"1234567")
        await anyio.sleep(1)
        assert messages(it.sinks[0].got) == [(0, [*"123"]), (0, [*"456"])]
        await anyio.sleep(30)
        assert messages(it.sinks[0].got)[2:] == [(30, ["7"])]


async def test_a_group_that_failed_is_sent_again_as_the_same_group(path: Path) -> None:
    broken = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[broken], timing=GROUPS) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(60)
        await put(it, "3")
        await anyio.sleep(5 * MINUTE)
        broken.behave = lambda _: None
        await anyio.sleep(5 * MINUTE)
        assert sorted(keys for _, keys in messages(broken.got)) == [["1", "2"], ["3"]]
        ids = {one.event_id for _, one in broken.tried if isinstance(one, GroupDelivery)}
        assert len(ids) == 1
        assert await stats(it) == (0, 0)


async def test_a_group_that_is_sent_again_takes_no_new_rows(path: Path) -> None:
    verdicts: list[ShopPollerError | None] = [down(ErrorKind.SERVER)] * 3
    sink = FakeSink(behave=lambda _: verdicts.pop() if verdicts else None)
    async with shop_harness(path, sinks=[sink], timing=GROUPS) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(45)
        while len(sink.got) < 1:  # the retry is due in half a minute or less: it joins no group that waits
            await put(it, str(100 + round(anyio.current_time())))
            await anyio.sleep(1)
        assert messages(sink.got)[0][1] == ["1", "2"]
        assert sink.got[0][1].event_id == sink.tried[0][1].event_id


async def test_a_full_queue_is_not_looked_at_again_and_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = FakeSink(behave=lambda _: 5.0)
    plan = replace(SELDOM, queue_size=4, senders=1)
    async with shop_harness(path, sinks=[slow], timing=GROUPS, delivery=plan) as it, it.delivering():
        claimed = count_calls(it, "next_due", monkeypatch)
        await put(it, *map(str, range(40)))
        await anyio.sleep(49)
        assert len(slow.got) == 9
        assert len(claimed) < 40


async def test_a_row_failure_parks_all_rows_together(path: Path) -> None:
    verdicts: list[ShopPollerError | None] = [down(ErrorKind.SERVER)] * 3
    sink = FakeSink(behave=lambda _: verdicts.pop() if verdicts else None)
    async with shop_harness(path, sinks=[sink], timing=GROUPS) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(5 * MINUTE)
        (first, *_, last) = [one for _, one in sink.tried]
        assert len(sink.tried) == 4
        assert first.event_id == last.event_id
        assert [row.attempts for row in getattr(last, "rows", ())] == [1, 1]
        assert await stats(it) == (0, 0)


async def test_a_group_that_is_refused_is_taken_apart(path: Path) -> None:
    """One notification that the receiver does not take must not destroy the others."""

    def behave(delivery: Delivery) -> ShopPollerError | None:
        rows = delivery.rows if isinstance(delivery, GroupDelivery) else [delivery]
        return refused() if any(row.key == "2" for row in rows) else None

    sink = FakeSink(behave=behave)
    async with shop_harness(path, sinks=[sink], timing=GROUPS) as it, it.delivering():
        await put(it, "1", "2", "3")
        await anyio.sleep(60)
        assert messages(sink.got) == [(30, ["1"]), (30, ["3"])]
        assert (await stats(it))[1] == 1
    assert it.value("shop_deliveries_buried_total", sink="sink") == 1
    assert it.dispatchers[0].dead_lettered == 1


async def test_a_kill_during_the_wait_or_the_sending_loses_nothing(path: Path) -> None:
    hangs = FakeSink(behave=lambda _: 5.0)
    for seconds in (10.0, 32.0):
        async with shop_harness(path, sinks=[hangs], timing=GROUPS) as it:
            if seconds == 10.0:
                await put(it, "1", "2", "3")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(it.dispatchers[0].run)
                await anyio.sleep(seconds)
                tasks.cancel_scope.cancel()
            assert await stats(it) == (3, 0)
    first = hangs.tried[0][1]
    async with shop_harness(path, timing=GROUPS) as it, it.delivering():
        await anyio.sleep(40)
        assert [one.event_id for _, one in it.sinks[0].got] == [first.event_id]
        assert await stats(it) == (0, 0)


async def test_a_stop_sends_nothing_that_waits(path: Path) -> None:
    async with shop_harness(path, timing=GROUPS) as it:
        async with it.delivering():
            await put(it, "1", "2")
            await anyio.sleep(10)
        assert it.sinks[0].tried == []
        assert await stats(it) == (2, 0)


async def test_one_run_does_not_wait_for_a_group(path: Path) -> None:
    async with shop_harness(path, timing=GROUPS) as it:
        await put(it, "1", "2")
        await it.deliver()
        assert messages(it.sinks[0].got) == [(0, ["1", "2"])]


async def test_one_run_in_quiet_hours_ends(path: Path) -> None:
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it:
        await anyio.sleep(BEGIN)
        await put(it, "1")
        await put(it, "2", level="critical")
        await it.deliver()
        assert messages(it.sinks[0].got) == [(BEGIN, ["2"])]
        assert virtual_now() - EPOCH < timedelta(hours=1, minutes=1)


async def test_groups_and_quiet_hours_together(path: Path) -> None:
    timing = SinkTiming(NIGHT.quiet, UTC, URGENT, 30.0, COMPOSE)
    async with shop_harness(path, timing=timing) as it, it.delivering():
        await anyio.sleep(BEGIN - 10)
        await put(it, "1")
        await anyio.sleep(20)
        await put(it, "2")
        await anyio.sleep(8 * HOUR)
        await put(it, "3")
        await anyio.sleep(60)
        assert messages(it.sinks[0].got) == [(END + 30, ["1", "2", "3"])]


async def test_a_sink_without_groups_gets_all_that_was_held_one_by_one(path: Path) -> None:
    timing = SinkTiming(NIGHT.quiet, UTC, URGENT)
    async with shop_harness(path, timing=timing) as it, it.delivering():
        await anyio.sleep(BEGIN + 1)
        await put(it, *"12345")
        await anyio.sleep(8 * HOUR)
        assert sorted(messages(it.sinks[0].got)) == [(END, [key]) for key in "12345"]


async def test_a_message_that_cannot_be_written_does_not_stop_the_deliveries(path: Path) -> None:
    def fail(_: Any) -> GroupDelivery:
        raise RuntimeError("made up")

    timing = SinkTiming(urgent=URGENT, group_s=30.0, compose=fail)
    async with shop_harness(path, timing=timing) as it, it.delivering():
        await put(it, "1", "2")
        with capture_logs() as logs:
            await anyio.sleep(31)
        assert sorted(messages(it.sinks[0].got)) == [(30, ["1"]), (30, ["2"])]
        assert any("bug" in str(entry["event"]) for entry in logs)


async def test_a_store_that_does_not_answer_loses_no_claim(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is put back into the outbox is put back later."""
    async with shop_harness(path, timing=NIGHT, delivery=SELDOM) as it, it.delivering():
        await anyio.sleep(BEGIN)
        record, fails = it.store.record_outcomes, [True] * 5

        async def sometimes(outcomes: list[Outcome], now: Any) -> None:
            if fails:
                fails.pop()
                raise down(ErrorKind.STORE)
            await record(outcomes, now)

        monkeypatch.setattr(it.store, "record_outcomes", sometimes)
        await put(it, *"1234")
        await anyio.sleep(60)
        assert not fails
        assert it.dispatchers[0].in_flight == 0
        await anyio.sleep(8 * HOUR)
        assert messages(it.sinks[0].got) == [(END, [*"1234"])]
        assert it.dispatchers[0].in_flight == 0


def rows(*seqs: int, body: str = '{"level": "info"}') -> list[Delivery]:
    return [
        replace(delivery(), seq=seq, key=str(seq), event_id=f"event {seq}", body=body, created_at=EPOCH)
        for seq in seqs
    ]


def test_only_so_many_failed_groups_are_remembered() -> None:
    gathering = Gathering(GROUPS)
    for number in range(MOST_FAILED_GROUPS + 1):
        gathering.failed(COMPOSE(rows(2 * number, 2 * number + 1)))
    gathering.add(rows(0, 1, 2, 3), EPOCH, 0.0)
    (again,) = gathering.ready(EPOCH, 0.0, is_last=False)
    assert again.seq == 2, "the oldest one was forgotten"


def test_a_level_that_cannot_be_read_is_not_urgent() -> None:
    for body in ("", "[]", "{}", "null"):
        assert not GROUPS.is_urgent(*rows(1, body=body))
    assert GROUPS.is_urgent(*rows(1, body='{"level": "critical"}'))


def test_a_probe_whose_message_cannot_be_written_keeps_no_claim() -> None:
    written: list[Any] = []

    def once(some: Any) -> GroupDelivery:
        if written:
            raise RuntimeError("made up")
        written.append(some)
        return COMPOSE(some)

    gathering = Gathering(replace(GROUPS, compose=once))
    gathering.add(rows(1, 2, 3), EPOCH, 0.0)
    (group,) = gathering.ready(EPOCH, 30.0, is_last=False)
    assert isinstance(group, GroupDelivery)
    gathering.failed(group)
    probe = gathering.probe(rows(1, 2, 3, 4), EPOCH)
    assert probe is not None
    assert probe.seq == 1
    assert {outcome.delivery.seq for outcome in gathering.put_back} == {2, 3, 4}


def test_the_timing_of_each_sink_is_that_of_its_address() -> None:
    settings = settings_with(
        "apprise+json://boss.example?quiet=22:00-08:00&urgent=error#boss"
        " apprise+json://team.example?group=30s#team https://h.example/?quiet=sat#crm console:",
        timezone="Europe/Moscow",
    )
    timings = sink_timings(settings)
    assert timings.keys() == {"boss", "team", "crm"}
    boss, team, crm = timings["boss"], timings["team"], timings["crm"]
    assert (boss.quiet, boss.urgent, boss.group_s) == (parse_quiet("22:00-08:00"), frozenset({"error"}), 0)
    assert (str(boss.zone), team.urgent, team.group_s) == ("Europe/Moscow", URGENT, 30)
    assert (boss.compose is None, crm.compose is None) == (False, True), "programs get no groups"
    assert GROUP not in {str(event) for event, _ in settings.events}


async def test_the_page_and_the_metrics_do_not_count_quiet_hours(path: Path) -> None:
    settings = settings_with("apprise+json://boss.example?quiet=10:00-18:00#boss", timezone="UTC")
    timings = sink_timings(settings)
    async with shop_harness(path, sinks=[FakeSink("boss")]) as it:
        it.store.now = virtual_now  # type: ignore[method-assign]
        await put(it, "1", sink="boss")
        reporter = HealthReporter(
            shop=SHOP,
            polling=True,
            sinks=("boss",),
            store=it.store,
            metrics=it.metrics,
            interval_s=60,
            session=lambda: None,
            clock=ClockWatch(it.store.now, metrics=it.metrics),
            timings=timings,
        )
        overview = Overview(
            shop=SHOP,
            sinks=["boss"],
            mute=AsyncMock(),
            events=frozenset(),
            titles={},
            polling=True,
            in_redis=False,
            store=it.store,
            history=it.store,
            dead_letters=it.store,
            health_reporter=reporter,
            session=lambda: None,
            poll_now=lambda: False,
            on_new_deliveries=lambda: None,
            timings=timings,
        )
        for hours, open_hours, until in (
            (0.5, 0.5, None),
            (4.5, 1, EPOCH + timedelta(hours=9)),
            (5, 2, None),
        ):
            await anyio.sleep(hours * HOUR)
            await reporter.update_metrics()
            assert it.value("shop_outbox_oldest_age_seconds", sink="boss") == open_hours * HOUR
            (sink,) = (await overview.snapshot()).sinks
            assert sink.quiet_until == until
            assert sink.stored.oldest_at is not None
            age = virtual_now() - sink.stored.oldest_at
            assert age - sink.quiet_time == timedelta(hours=open_hours)


async def test_status_reads_the_quiet_hours_from_the_settings(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path):
        pass
    monkeypatch.setattr(SqliteStore, "now", lambda _: EPOCH + timedelta(hours=2))
    sinks = "apprise+json://boss.example?quiet=12:00-15:00#boss https://h.example?quiet=sat#crm"
    settings = settings_with(sinks, timezone="Europe/Moscow", state=f"sqlite:///{path}")
    found = await read_status(settings)
    assert {name: f"{until:%H:%M %z}" for name, until in found.quiet_until.items()} == {"boss": "15:00 +0300"}
