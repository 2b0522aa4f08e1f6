"""Our clock jumps, before a start and while it runs: nothing is lost, parked, aged or dropped by that."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.model import EventType
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import DeliveryPlan
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.ports import Batch, ShopState
from shop_poller.runtime.leader_session import LeaderSession
from shop_poller.runtime.status import HealthReporter
from support.deliveries import new_delivery, notification
from support.shop_harness import SHOP, FakeSink, ShopHarness, down, shop_harness
from support.virtual_time import THREADLESS, Backend, virtual_now

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> Backend:
    return THREADLESS


MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
DAYS = timedelta(days=1)
NEW = EventType.NEW
both_ways = pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "back"])
days_or_more = pytest.mark.parametrize("size", [2 * DAYS, 400 * DAYS, 3650 * DAYS], ids=str)
every_size = pytest.mark.parametrize(
    "size",
    [timedelta(minutes=15), timedelta(hours=5), 2 * DAYS, 400 * DAYS, 3650 * DAYS],
    ids=["minutes", "hours", "days", "a year", "years"],
)


@dataclass
class Host:
    """A machine whose clock can be set."""

    off: timedelta = timedelta(0)

    def now(self) -> datetime:
        return virtual_now() + self.off


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
def host() -> Host:
    return Host()


async def put(it: ShopHarness, host: Host, *keys: str) -> None:
    """One new delivery a key."""
    rows = [new_delivery("sink", notification(key)) for key in keys]
    await it.store.commit(SHOP, Batch(it.state_writer.state, host.now(), host.now(), new_deliveries=rows))
    for each in it.dispatchers:
        each.check_soon()


def refuse(key: str) -> FakeSink:
    """A sink that has trouble with one order: that is parked, longer each time."""
    trouble = TemporaryError(ErrorKind.SERVER, "made up: 500")
    return FakeSink(behave=lambda one: trouble if one.key == key else None)


async def over(it: ShopHarness, *, dead: bool) -> int:
    return len(await it.store.finished(SHOP, dead=dead, limit=99))


# --- Due times ----------------------------------------------------------------------------------------------


@every_size
async def test_what_was_parked_by_a_clock_that_was_ahead_is_sent_when_it_is_right(
    path: Path, host: Host, size: timedelta
) -> None:
    sink = refuse("7")
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.delivering():
        await put(it, host, "1")
        await anyio.sleep(1)
        host.off = size
        await put(it, host, "7")
        await anyio.sleep(8)
        host.off = timedelta(0)
        sink.behave = lambda _: None
        await anyio.sleep(90)
        assert [one.key for _, one in sink.got] == ["1", "7"]


@every_size
async def test_so_it_is_though_the_clock_was_set_while_nothing_ran(
    path: Path, host: Host, size: timedelta
) -> None:
    sink = refuse("7")
    host.off = size
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.running():
        await anyio.sleep(1)
        await put(it, host, "7")
        await anyio.sleep(8)
    host.off = timedelta(0)
    sink.behave = lambda _: None
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.delivering():
        await anyio.sleep(11)
        assert [one.key for _, one in sink.got] == ["7"]


@every_size
async def test_what_was_made_by_a_clock_that_was_ahead_need_not_wait_for_it(
    path: Path, host: Host, size: timedelta
) -> None:
    host.off = size
    async with shop_harness(path, now=host.now) as it:
        await put(it, host, "1", "1")
        async with it.delivering():
            host.off = timedelta(0)
            await anyio.sleep(30)
            assert [one.key for _, one in it.sinks[0].got] == ["1", "1"]


async def test_what_is_recorded_only_after_the_clock_was_set_back_is_due_within_minutes(
    path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = refuse("7")
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.delivering():
        await put(it, host, "1")
        await anyio.sleep(1)
        host.off = timedelta(hours=5)
        record_outcomes = it.store.record_outcomes

        async def broken(*_: object) -> None:
            raise TemporaryError(ErrorKind.STORE, "made up: disk I/O error")

        monkeypatch.setattr(it.store, "record_outcomes", broken)
        await put(it, host, "7")
        await anyio.sleep(8)
        host.off = timedelta(0)
        await anyio.sleep(20)
        monkeypatch.setattr(it.store, "record_outcomes", record_outcomes)
        sink.behave = lambda _: None
        await anyio.sleep(120)
        assert "7" in [one.key for _, one in sink.got]


async def test_a_step_back_is_told_and_counted_once(path: Path, host: Host) -> None:
    async with shop_harness(path, now=host.now) as it, it.running():
        await anyio.sleep(61)
        with capture_logs() as log:
            host.off = timedelta(minutes=-3)
            await anyio.sleep(600)
    said = [line["event"] for line in log if "clock" in line["event"]]
    assert said == [
        "our clock was set back; make NTP slew it instead of stepping it",
        "our clock is 3 minutes behind the shop's; set both by NTP",
    ]
    assert it.value("shop_clock_steps_total") == 1
    assert it.value("shop_clock_ahead_seconds") == pytest.approx(-180, abs=1)


# --- Ages ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["the sink is down", "the delivery is refused"])
@pytest.mark.parametrize("size", [timedelta(hours=73), 400 * DAYS, 3650 * DAYS], ids=str)
async def test_a_jump_ahead_makes_no_delivery_too_old(
    path: Path, host: Host, size: timedelta, kind: str
) -> None:
    sink = refuse("7")
    if kind == "the sink is down":
        sink.behave = lambda _: down()
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.delivering():
        await put(it, host, "7", "8")
        await anyio.sleep(HOUR)
        host.off = size
        await anyio.sleep(2 * HOUR)
        host.off = timedelta(0)
        await anyio.sleep(3 * HOUR)
        assert await over(it, dead=True) == 0
        sink.behave = lambda _: None
        await anyio.sleep(3 * HOUR)
        assert {"7", "8"} <= {one.key for _, one in sink.got}


async def test_a_start_with_a_clock_that_is_ahead_gives_nothing_up(path: Path, host: Host) -> None:
    sink = refuse("7")
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.running():
        await anyio.sleep(61)
        await put(it, host, "7")
        await anyio.sleep(600)
    host.off = 400 * DAYS
    async with shop_harness(path, sinks=[sink], now=host.now) as it, it.running():
        await anyio.sleep(8 * MINUTE)
        assert await over(it, dead=True) == 0


@both_ways
async def test_what_is_too_old_is_given_up_all_the_same_in_the_end(path: Path, host: Host, sign: int) -> None:
    """It begins anew with the step, and once."""
    sink = refuse("7")
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=4)))
    async with shop_harness(path, sinks=[sink], now=host.now, delivery=plan) as it, it.delivering():
        await put(it, host, "7")
        await anyio.sleep(HOUR)
        host.off = sign * 400 * DAYS
        await anyio.sleep(4 * HOUR - 1)
        assert await over(it, dead=True) == 0
        await anyio.sleep(5 * HOUR)
        assert await over(it, dead=True) >= 1


# --- Pruning ------------------------------------------------------------------------------------------------


async def lived(it: ShopHarness) -> None:
    """A delivery that was made, and one that was given up."""
    it.sinks[0].behave = lambda one: PermanentError(ErrorKind.REJECTED, "400") if one.key == "2" else None
    it.shop.put(1, "processing")
    it.shop.put(2, "processing")
    await anyio.sleep(2 * MINUTE)
    assert await over(it, dead=False) >= 1
    assert await over(it, dead=True) == 1


@both_ways
@days_or_more
async def test_a_jump_while_it_runs_drops_nothing(path: Path, host: Host, size: timedelta, sign: int) -> None:
    async with shop_harness(path, now=host.now) as it, it.running():
        await lived(it)
        made = await over(it, dead=False)
        host.off = sign * size
        await anyio.sleep(HOUR + 2 * MINUTE)
        host.off = timedelta(0)
        await anyio.sleep(HOUR)
        assert await over(it, dead=False) >= made
        assert await over(it, dead=True) >= 1
        assert (await it.store.stats(SHOP)).known == 2


@both_ways
@days_or_more
@pytest.mark.parametrize("one_machine", [False, True], ids=["apart", "one machine"])
async def test_a_start_with_a_wrong_clock_drops_nothing(
    path: Path, host: Host, size: timedelta, sign: int, *, one_machine: bool
) -> None:
    """As before NTP; the shop may be on the same machine, and have the same clock."""
    async with shop_harness(path, now=host.now) as it, it.running():
        await lived(it)
    host.off = sign * size
    async with shop_harness(path, shop=it.shop, now=host.now) as it, it.running():
        it.shop.clock_off = host.off if one_machine else timedelta(0)
        it.shop.put(3, "processing")
        await anyio.sleep(3 * MINUTE)
        host.off = it.shop.clock_off = timedelta(0)
        await anyio.sleep(3 * MINUTE)
    async with shop_harness(path, shop=it.shop, now=host.now) as it, it.running():
        await anyio.sleep(3 * MINUTE)
        assert await over(it, dead=True) >= 1
        # What the shop itself dates before our watch began is not news.
        expected = {"1"} if one_machine and sign < 0 else {"1", "3"}
        assert {one.key for one in await it.store.finished(SHOP, dead=False, limit=99)} >= expected


async def test_what_a_wrong_clock_dated_is_kept_as_long_as_all_and_no_longer(path: Path, host: Host) -> None:
    host.off = 400 * DAYS
    async with shop_harness(path, now=host.now) as it, it.running():
        await lived(it)
    host.off = timedelta(0)
    async with shop_harness(path, shop=it.shop, now=host.now) as it:
        await it.tick()
        await anyio.sleep(DAY + 1)  # the state was of the future: first the clocks have to be steady
        await it.tick()
        dates = [
            one.at for dead in (True, False) for one in await it.store.finished(SHOP, dead=dead, limit=9)
        ]
        assert dates == [host.now()] * len(dates)
        for _ in range(31):
            await anyio.sleep(DAY)
            await it.tick()
        assert (await over(it, dead=True), await over(it, dead=False)) == (0, 0)


async def test_what_is_old_is_dropped_while_the_clocks_agree(path: Path, host: Host) -> None:
    async with shop_harness(path, now=host.now) as it:
        async with it.running():
            await lived(it)
        await anyio.sleep(29 * DAY)
        await it.tick()
        assert await over(it, dead=False) >= 1
        await anyio.sleep(2 * DAY)
        await it.tick()
        assert {one.key for one in await it.store.finished(SHOP, dead=False, limit=9)}.isdisjoint({"1", "2"})


async def test_that_nothing_is_dropped_is_told_once(path: Path, host: Host) -> None:
    async with shop_harness(path, now=host.now) as it:
        it.shop.clock_off = 3 * DAYS
        with capture_logs() as log:
            for _ in range(5):
                await it.tick()
                await anyio.sleep(HOUR)
    said = [line["event"] for line in log if "dropped" in line["event"]]
    assert said == ["nothing old is dropped until the clocks agree and are steady for a day"]


# --- Health and alerts --------------------------------------------------------------------------------------


def health_reporter_of(it: ShopHarness, host: Host, clock: ClockWatch) -> HealthReporter:
    health_reporter = HealthReporter(
        shop=SHOP,
        polling=True,
        sinks=("sink",),
        store=it.store,
        metrics=it.metrics,
        interval_s=60,
        session=LeaderSession(it.poller, it.state_writer, it.dispatchers).health,
        clock=clock,
    )
    it.store.now = host.now  # type: ignore[method-assign] # the test's to set
    return health_reporter


@both_ways
@days_or_more
async def test_a_follower_that_cannot_read_the_store_counts_from_its_start_whatever_redis_tells_the_time_is(
    path: Path, host: Host, size: timedelta, sign: int
) -> None:
    async with shop_harness(path, now=host.now) as it:
        it.store.now = host.now  # type: ignore[method-assign] # the test's to set
        health_reporter = HealthReporter(
            shop=SHOP,
            polling=True,
            sinks=("sink",),
            store=it.store,
            metrics=it.metrics,
            interval_s=60,
            session=lambda: None,
            clock=ClockWatch(it.store.now, metrics=it.metrics),
        )

        async def cannot_be_read(_: str) -> ShopState | None:
            raise down(ErrorKind.STORE)

        it.store.load = cannot_be_read  # type: ignore[method-assign, assignment] # likewise
        host.off = sign * size  # what Redis tells; before it answered, there was only the host's clock
        await anyio.sleep(4 * MINUTE)
        assert (await health_reporter.health())["status"] == "healthy"
        await anyio.sleep(3 * MINUTE)
        assert (await health_reporter.health())["reason"] == "Polling not running"


@both_ways
@days_or_more
async def test_nor_because_it_jumped_while_a_poll_was_committed(
    path: Path, host: Host, size: timedelta, sign: int
) -> None:
    async with shop_harness(path, now=host.now) as it, it.running():
        health_reporter = health_reporter_of(it, host, it.clock)
        await anyio.sleep(1)
        commit = it.store.commit

        async def commit_while_it_jumps(shop_id: str, batch: Batch) -> None:
            await commit(shop_id, batch)
            host.off = sign * size

        it.store.commit = commit_while_it_jumps  # type: ignore[method-assign] # the test's to set
        await anyio.sleep(61)
        assert host.off
        assert (await health_reporter.health())["status"] == "healthy"
        it.shop.down = down()
        await anyio.sleep(3 * MINUTE)
        assert (await health_reporter.health())["status"] == "healthy"
        await anyio.sleep(4 * MINUTE)
        assert (await health_reporter.health())["reason"] == "Polling not running"


@both_ways
@days_or_more
async def test_polling_has_not_stopped_because_the_clock_jumped_nor_goes_on_by_that(
    path: Path, host: Host, size: timedelta, sign: int
) -> None:
    async with shop_harness(path, now=host.now) as it, it.running():
        health_reporter = health_reporter_of(it, host, it.clock)
        await anyio.sleep(61)
        host.off = sign * size
        assert (await health_reporter.health())["status"] == "healthy"
        it.shop.down = down()
        await anyio.sleep(4 * MINUTE)
        assert (await health_reporter.health())["status"] == "healthy"
        await anyio.sleep(3 * MINUTE)
        health = await health_reporter.health()
        assert health["reason"] == "Polling not running"
        side = "ahead of" if sign > 0 else "behind"
        assert "our clock is" in health["clock"]
        assert side in health["clock"]


@both_ways
async def test_a_failed_poll_is_no_outage_because_the_clock_jumped(path: Path, host: Host, sign: int) -> None:
    async with shop_harness(path, now=host.now) as it, it.running():
        await anyio.sleep(61)
        host.off = sign * 2 * DAYS
        it.shop.down = down()
        await anyio.sleep(3 * MINUTE)
        assert it.sinks[0].events() == []
        await anyio.sleep(5 * MINUTE)
        assert [event for _, event in it.sinks[0].events()] == [EventType.UNHEALTHY]


@both_ways
async def test_a_sink_that_failed_once_is_not_away_for_long_because_the_clock_jumped(
    path: Path, host: Host, sign: int
) -> None:
    bad, good = FakeSink("bad", behave=lambda _: down()), FakeSink("good")
    async with shop_harness(path, sinks=[bad, good], now=host.now) as it, it.delivering():
        rows = [new_delivery("bad", notification("1"))]
        await it.store.commit(SHOP, Batch(it.state_writer.state, host.now(), host.now(), new_deliveries=rows))
        await anyio.sleep(30)
        host.off = sign * 2 * DAYS
        await anyio.sleep(5 * MINUTE)
        assert good.got == []
        await anyio.sleep(7 * MINUTE)
        assert [event for _, event in good.events()] == [EventType.UNHEALTHY]


async def test_dead_letters_are_told_again_after_a_clock_that_was_ahead(path: Path, host: Host) -> None:
    host.off = 400 * DAYS
    async with shop_harness(path, now=host.now) as it, it.running():
        await lived(it)
    host.off = timedelta(0)
    sink = FakeSink(behave=lambda one: PermanentError(ErrorKind.REJECTED, "400") if one.key == "3" else None)
    async with shop_harness(path, shop=it.shop, sinks=[sink], now=host.now) as it, it.running():
        it.shop.put(3, "processing")
        await anyio.sleep(5 * MINUTE)
    assert EventType.DEAD_LETTERS in [event for _, event in sink.events()]


async def test_ages_are_never_negative_in_metrics(path: Path, host: Host) -> None:
    host.off = 2 * DAYS
    async with shop_harness(path, now=host.now) as it:
        await put(it, host, "1")
        host.off = timedelta(0)
        await health_reporter_of(it, host, it.clock).update_metrics()
        assert it.value("shop_outbox_oldest_age_seconds", sink="sink") == 0


@pytest.mark.parametrize("off", [-400 * DAYS, -2 * DAYS, 2 * DAYS, 3650 * DAYS], ids=str)
async def test_a_receiver_is_told_the_shops_date_if_ours_is_of_another_day(
    path: Path, host: Host, off: timedelta
) -> None:
    host.off = off
    async with shop_harness(path, now=host.now) as it:
        it.shop.put(1, "processing")
        await it.tick()
        (told,) = it.new_deliveries
        assert abs(told.notification.created_at - virtual_now()) < timedelta(minutes=1)
