"""Muted sinks, in virtual time: deliveries wait in the outbox, none is lost, and a restart keeps the mute."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from shop_poller.cli.mutes import DurationError, ListedMute, duration, read_mutes
from shop_poller.cli.status import read_status, render
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.grouping import GroupFormat
from shop_poller.core.model import GroupDelivery, iso
from shop_poller.core.rates import Rate
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import CLAIM_BATCH, DeliveryPlan
from shop_poller.delivery.gathering import SinkTiming
from shop_poller.locales import texts
from shop_poller.mutes import ANY, LONGEST, MUTED, Mutes, stored_mutes
from shop_poller.ports import Alert, Batch
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import new_deliveries, new_delivery, notification
from support.deliveries import put as put_row
from support.shop_harness import SHOP, FakeSink, ShopHarness, down, put, shop_harness
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

HOUR = 3600.0


class Mute:
    """Mutes a sink until some time of the loop."""

    def __init__(self, until: float = 0.0, sink: str = "sink") -> None:
        self.until, self.sink = until, sink

    def __call__(self, sink: str, event_type: str = "") -> float:  # noqa: ARG002 - all events
        return max(0.0, self.until - anyio.current_time()) if sink == self.sink else 0.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def waiting(it: ShopHarness) -> int:
    stats = (await it.store.stats(SHOP)).sinks.get("sink")
    return stats.waiting if stats else 0


async def test_what_is_for_a_muted_sink_waits_and_goes_out_when_that_ends(path: Path) -> None:
    sinks = [FakeSink("sink"), FakeSink("other")]
    async with shop_harness(path, sinks=sinks, muted_s=Mute(HOUR)) as it, it.delivering():
        await put(it, "1", "2", "1")
        await put(it, "1", sink="other")
        await anyio.sleep(HOUR - 1)
        assert (sinks[0].tried, len(sinks[1].got), await waiting(it)) == ([], 1, 3)
        await anyio.sleep(2)
        assert {round(at) for at, _ in sinks[0].got} == {HOUR}
        assert sorted(delivery.key for _, delivery in sinks[0].got) == ["1", "1", "2"]
        assert await waiting(it) == 0


async def test_what_is_claimed_already_is_released(path: Path) -> None:
    mute = Mute()
    sink = FakeSink(behave=lambda _: 5.0)
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)), senders=2)
    async with shop_harness(path, sinks=[sink], delivery=plan, muted_s=mute) as it, it.delivering():
        await put(it, *"12345678")
        await anyio.sleep(1)
        mute.until = HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(100)
        assert len(sink.got) == len(sink.tried) == 2, "attempts that have begun are finished"
        assert await waiting(it) == 6
        mute.until = 0.0
        it.dispatchers[0].mute_changed()
        await anyio.sleep(30)
        assert sorted(delivery.key for _, delivery in sink.got) == list("12345678")


async def test_a_mute_ends_the_wait_before_a_retry(path: Path) -> None:
    mute = Mute()
    sink = FakeSink(behave=lambda _: down(ErrorKind.SERVER, retry_after_s=8.0))
    async with shop_harness(path, sinks=[sink], muted_s=mute) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(1)
        assert len(sink.tried) == 1
        mute.until = HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(HOUR - 10)
        assert (len(sink.tried), await waiting(it)) == (1, 1)


async def test_a_muted_sink_that_is_down_is_not_probed_and_loses_nothing(path: Path) -> None:
    mute = Mute()
    sink = FakeSink(behave=lambda _: down())
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=1)))
    async with shop_harness(path, sinks=[sink], delivery=plan, muted_s=mute) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(30)
        before = len(sink.tried)
        mute.until = 5 * HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(4 * HOUR)
        assert (len(sink.tried), await waiting(it)) == (before, 2)
        sink.behave = lambda _: None
        await anyio.sleep(HOUR + 60)
        assert sorted(delivery.key for _, delivery in sink.got if len(delivery.key) == 1) == ["1", "2"]


async def test_a_run_until_idle_does_not_wait_for_a_muted_sink(path: Path) -> None:
    async with shop_harness(path, muted_s=Mute(HOUR)) as it:
        await put(it, "1")
        await it.deliver()
        assert (anyio.current_time(), await waiting(it)) == (0, 1)


async def test_a_stop_does_not_wait_for_the_end_of_a_mute(path: Path) -> None:
    async with shop_harness(path, muted_s=Mute(HOUR)) as it:
        async with it.delivering():
            await put(it, "1")
            await anyio.sleep(10)
        assert anyio.current_time() < 11


# --- Single events ---


class MuteEvents:
    """Mutes event types until some time of the loop."""

    def __init__(self, *event_types: str, until: float) -> None:
        self.event_types, self.until = event_types, until

    def __call__(self, sink: str, event_type: str = "") -> float:
        left_s = max(0.0, self.until - anyio.current_time())
        return left_s if sink == "sink" and event_type in {*self.event_types, ANY} else 0.0


async def put_events(it: ShopHarness, **event_types: str) -> None:
    """Commit a new delivery per key, of an event type."""
    rows = [
        new_delivery("sink", replace(notification(key), event_type=event_type))
        for key, event_type in event_types.items()
    ]
    now = virtual_now()
    state = it.state_writer.state
    await it.store.commit(SHOP, Batch(state=state, now=now, seen_at=now, new_deliveries=rows))
    for each in it.dispatchers:
        each.check_soon()


@pytest.mark.parametrize("timing", [None, SinkTiming(group_s=1.0)])
async def test_a_muted_event_waits_and_the_others_do_not(path: Path, timing: SinkTiming | None) -> None:
    mute = MuteEvents("new", "failed", until=20 * HOUR)
    async with shop_harness(path, muted_s=mute, timing=timing) as it, it.delivering():
        await put_events(it, a="new", b="cancelled", c="failed")
        await anyio.sleep(HOUR)
        assert ([one.key for _, one in it.sinks[0].got], await waiting(it)) == (["b"], 2)
        await anyio.sleep(19 * HOUR - 1)
        assert await waiting(it) == 2
        await anyio.sleep(10)
        assert sorted(one.key for _, one in it.sinks[0].got) == ["a", "b", "c"]
        assert all(not one.attempts for _, one in it.sinks[0].got), "nothing was charged"


async def test_many_muted_events_hide_nothing_behind_them(path: Path) -> None:
    async with shop_harness(path, muted_s=MuteEvents("new", until=HOUR)) as it:
        await put_events(it, **{f"k{number}": "new" for number in range(CLAIM_BATCH + 10)}, z="failed")
        await it.deliver()
        assert [one.key for _, one in it.sinks[0].got] == ["z"]
        assert await waiting(it) == CLAIM_BATCH + 10


async def test_when_the_mute_of_an_event_is_ended_it_goes_out_at_once(path: Path) -> None:
    mute = MuteEvents("new", until=20 * HOUR)
    async with shop_harness(path, muted_s=mute) as it, it.delivering():
        await put_events(it, a="new")
        await anyio.sleep(HOUR)
        mute.until = 0.0
        it.dispatchers[0].mute_changed(unmuted=True)
        await anyio.sleep(1)
        assert [one.key for _, one in it.sinks[0].got] == ["a"]


async def test_an_event_that_is_muted_in_the_queue_is_not_sent(path: Path) -> None:
    mute = MuteEvents("new", until=0.0)
    sink = FakeSink(behave=lambda _: 5.0)
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)), senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan, muted_s=mute) as it, it.delivering():
        await put_events(it, a="new", b="new", c="failed")
        await anyio.sleep(1)
        mute.until = HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(100)
        assert [one.key for _, one in sink.got] == ["a", "c"]


async def test_an_event_that_is_muted_while_it_waits_for_the_rate_is_not_sent(path: Path) -> None:
    mute = MuteEvents("new", until=0.0)
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)), rate=Rate(1, 60.0))
    async with shop_harness(path, delivery=plan, muted_s=mute) as it, it.delivering():
        await put_events(it, a="new", b="new", c="new", d="failed")
        await anyio.sleep(1)
        mute.until = HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(600)
        sent = [one.key for _, one in it.sinks[0].got]
        assert (len(sent), sent[1:], await waiting(it)) == (2, ["d"], 2)


async def test_an_event_that_is_muted_between_two_attempts_is_not_tried_again(path: Path) -> None:
    mute = MuteEvents("new", until=0.0)

    def behave(_: object) -> ShopPollerError:
        mute.until = HOUR
        return down(ErrorKind.SERVER)

    sink = FakeSink(behave=behave)
    async with shop_harness(path, sinks=[sink], muted_s=mute) as it, it.delivering():
        await put_events(it, a="new")
        await anyio.sleep(600)
        assert len(sink.tried) == 1


async def test_an_event_that_is_muted_while_its_group_is_collected_is_not_sent(path: Path) -> None:
    mute = MuteEvents("new", until=0.0)
    timing = SinkTiming(group_s=30.0, compose=GroupFormat("ru", texts("ru")).compose)
    async with shop_harness(path, muted_s=mute, timing=timing) as it, it.delivering():
        await put_events(it, a="new", b="failed", c="failed", d="failed")
        await anyio.sleep(5)
        mute.until = HOUR
        it.dispatchers[0].mute_changed()
        await anyio.sleep(300)
        rows = [
            row.key
            for _, one in it.sinks[0].got
            for row in (one.rows if isinstance(one, GroupDelivery) else [one])
        ]
        assert (sorted(rows), await waiting(it)) == (["b", "c", "d"], 1)


async def test_what_is_muted_does_not_become_too_old_while_its_sink_is_down(path: Path) -> None:
    mute = MuteEvents("new", until=12 * HOUR)
    sink = FakeSink()
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=6)))
    async with shop_harness(path, sinks=[sink], delivery=plan, muted_s=mute) as it, it.delivering():
        await put_events(it, a="new")
        await anyio.sleep(7 * HOUR)
        sink.behave = lambda _: down()
        await put_events(it, b="failed")
        await anyio.sleep(HOUR)
        sink.behave = lambda _: None
        await anyio.sleep(5 * HOUR)
        assert sorted(one.key for _, one in sink.got) == ["a", "b"]


async def test_a_sink_that_was_down_is_probed_with_an_event_that_is_not_muted(path: Path) -> None:
    mute = MuteEvents("new", until=20 * HOUR)
    sink = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[sink], muted_s=mute) as it, it.delivering():
        await put_events(it, b="failed", c="failed")
        await anyio.sleep(30)
        await put_events(it, a="new")
        await anyio.sleep(HOUR)
        assert {one.key for _, one in sink.tried} == {"b", "c"}
        sink.behave = lambda _: None
        await anyio.sleep(120)
        assert (sorted(one.key for _, one in sink.got), await waiting(it)) == (["b", "c"], 1)


async def test_a_muted_event_is_put_back_when_the_store_works_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mute = MuteEvents("new", until=HOUR)
    async with shop_harness(path, muted_s=mute) as it, it.delivering():
        record, failures = it.store.record_outcomes, iter([True])

        async def failing(*args: Any) -> None:
            if next(failures, False):
                raise TemporaryError(ErrorKind.STORE, "made up")
            await record(*args)

        monkeypatch.setattr(it.store, "record_outcomes", failing)
        await put_events(it, a="new")
        await anyio.sleep(HOUR + 60)
        assert [one.key for _, one in it.sinks[0].got] == ["a"]


async def test_mutes_of_events_are_stored(settings: Settings, store: SqliteStore) -> None:
    now, end = store.now(), store.now() + timedelta(hours=2)
    await store.register(SHOP, now)
    mutes = Mutes(store, shop=SHOP)
    await mutes.mute("A", now=now, until=end, events=["shop.order.new", "shop.order.failed"])
    await mutes.mute("https://b:1/", now=now, until=end, events=["shop.order.new"])
    await mutes.mute("A", now=now, until=now, events=["service.test"])
    again = Mutes(store, shop=SHOP)
    await again.load(now)
    assert 7190 < again.left_s("A", store.now, "shop.order.new") <= 7200
    assert again.left_s("A", store.now) == again.left_s("A", store.now, "service.test") == 0
    assert await read_mutes(settings) == [
        ListedMute("A", end, 0, "shop.order.failed"),
        ListedMute("A", end, 0, "shop.order.new"),
        ListedMute("https://b:1/", end, 0, "shop.order.new"),
    ]
    status = await read_status(settings)
    assert (status.alerts, status.mutes) == ({}, {})
    assert status.as_dict()["muted_events"]["https://b:1/"] == {"shop.order.new": iso(end)}
    assert f"muted       A: shop.order.failed until {iso(end)}" in render(status, now)
    await again.unmute("A", now=now, events=["shop.order.new"])
    assert [one.event_type for one in await read_mutes(settings) if one.sink == "A"] == ["shop.order.failed"]
    await again.mute("A", now=now, until=end)
    await again.unmute("A", now=now)
    assert [one.sink for one in await read_mutes(settings)] == ["https://b:1/"], "all that was muted of it"


# --- What is stored ---


async def test_a_mute_is_stored_until_it_is_over(path: Path) -> None:
    store = await SqliteStore.open(path)
    now = virtual_now()
    mutes = Mutes(store, shop=SHOP)
    await mutes.mute("crm", now=now, until=now + timedelta(hours=2))
    await mutes.mute("chat", now=now, until=now + timedelta(hours=1))
    await mutes.mute("chat", now=now, until=now + timedelta(hours=3))
    await mutes.mute("old", now=now, until=now + timedelta(minutes=1))
    await store.raise_alert(SHOP, Alert("crm", ErrorKind.TIMEOUT, now), (), now)

    again, later = Mutes(store, shop=SHOP), now + timedelta(hours=1)
    await again.load(later)
    assert {sink: again.left_s(sink, lambda: later) for sink in ("crm", "chat", "old", "x")} == {
        "crm": HOUR, "chat": 2 * HOUR, "old": 0, "x": 0,
    }  # fmt: skip
    assert (await store.alerts(SHOP)).keys() == {f"{MUTED}crm", f"{MUTED}chat", "crm"}
    assert again.left_s("crm", lambda: now + timedelta(hours=3)) == 0
    at_most = now + timedelta(hours=2) - LONGEST
    assert again.left_s("crm", lambda: at_most) == LONGEST.total_seconds()
    assert again.left_s("crm", lambda: at_most - timedelta(seconds=1)) == 0, "a clock set back"
    assert again.left_s("crm", lambda: at_most - timedelta(days=3650)) == 0, "a clock set back"

    await again.unmute("crm", now=later)
    await again.unmute("crm", now=later)
    assert again.left_s("crm", lambda: later) == 0
    alerts = await store.alerts(SHOP)
    assert stored_mutes(alerts, later) == {"chat": now + timedelta(hours=3)}
    assert (
        stored_mutes(alerts, now + timedelta(hours=4)) == stored_mutes(alerts, now - timedelta(days=9)) == {}
    )
    await store.aclose()


async def test_the_list_has_those_that_are_not_over(settings: Settings, store: SqliteStore) -> None:
    now = store.now()
    await put_row(store, new_deliveries("A", "1"))
    mutes = Mutes(store, shop=SHOP)
    await mutes.mute("A", now=now, until=now + timedelta(hours=2))
    await mutes.mute("B", now=now, until=now - timedelta(hours=2))
    assert await read_mutes(settings) == [ListedMute("A", now + timedelta(hours=2), 1)]

    await store.register(SHOP, now)
    status = await read_status(settings)
    assert (status.mutes, status.alerts) == ({"A": now + timedelta(hours=2)}, {})
    assert [line for line in render(status, now) if "muted" in line] == [
        f"muted       A: until {iso(now + timedelta(hours=2))}"
    ]
    assert status.as_dict()["muted"] == {"A": iso(now + timedelta(hours=2))}
    await mutes.unmute("A", now=now)
    assert "muted" not in (await read_status(settings)).as_dict()


# --- How long ---

NOON = datetime(2026, 11, 23, 9, 0, 0, tzinfo=UTC)
MOSCOW = ZoneInfo("Europe/Moscow")
BERLIN = ZoneInfo("Europe/Berlin")


@pytest.mark.parametrize(
    ("for_", "until", "expected"),
    [
        (None, None, timedelta(hours=1)),
        ("90s", None, timedelta(seconds=90)),
        ("30min", None, timedelta(minutes=30)),
        ("24h", None, timedelta(hours=24)),
        (None, "18:00", timedelta(hours=6)),
        (None, "12:00", timedelta(hours=24)),
        (None, "9:30", timedelta(hours=21, minutes=30)),
        (None, "12:01", timedelta(minutes=1)),
    ],
)
def test_a_mute_lasts(for_: str | None, until: str | None, expected: timedelta) -> None:
    assert duration(for_, until, now=NOON, zone=MOSCOW) == expected


def test_the_night_of_a_change_of_the_clocks_has_another_length() -> None:
    evening = datetime(2026, 10, 24, 20, 0, tzinfo=UTC)  # 22:00, and the clocks go back at 3:00
    assert duration(None, "8:00", now=evening, zone=BERLIN) == timedelta(hours=11)
    spring = datetime(2026, 3, 28, 21, 0, tzinfo=UTC)  # 22:00
    assert duration(None, "8:00", now=spring, zone=BERLIN) == timedelta(hours=9)


@pytest.mark.parametrize(
    ("for_", "until", "problem"),
    [
        ("2h", "18:00", "give --for or --until, not both"),
        ("2", None, "--for: should be a number and s, min or h, e.g. 30min"),
        ("0h", None, "--for: should be a number"),
        ("-1h", None, "--for: should be a number"),
        ("1d", None, "--for: should be a number"),
        ("25h", None, "--for: 24h at most"),
        ("99999h", None, "--for: 24h at most"),
        (None, "24:00", "--until: should be a time of the day, e.g. 18:00"),
        (None, "18", "--until: should be"),
        (None, "18:60", "--until: should be"),
    ],
)
def test_what_is_no_time_is_refused(for_: str | None, until: str | None, problem: str) -> None:
    with pytest.raises(DurationError, match=r"^--|^give") as caught:
        duration(for_, until, now=NOON, zone=MOSCOW)
    assert str(caught.value).startswith(problem)
