"""Zones, and clocks that are wrong or are set: nothing is skipped, and nothing is repeated."""

from datetime import UTC, datetime, timedelta
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import anyio
import pytest

from shop_poller.simulator.faults import clock_skew
from shop_poller.sources.woocommerce.dialects import Dialect
from support.history import History
from support.pairs import each_with_each_of
from support.virtual_time import at_once
from support.wired import Bench, bench_for

FAR_EAST, FAR_WEST = "Pacific/Kiritimati", "Etc/GMT+12"  # 14 hours ahead of UTC, 12 behind
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)

every_dialect = pytest.mark.parametrize("dialect", list(Dialect))
needs_zones = pytest.mark.skipif(
    FAR_EAST not in available_timezones(), reason="this machine has no time zones (no tzdata)"
)
in_two_dialects = pytest.mark.parametrize("dialect", [Dialect.REST, Dialect.ABILITIES])
both_ways = pytest.mark.parametrize("sign", [1, -1], ids=["ahead", "behind"])


class Business:
    """A shop that is busy: orders come, several in one second too, and something becomes of them."""

    def __init__(self, bench: Bench, *, date_ahead: timedelta = timedelta(0)) -> None:
        self.history = History(bench, date_ahead=date_ahead)
        self._random = Random(14)
        for status in ("pending", "processing", "completed", "cancelled", "failed"):
            for hours in (0.5, 3, 30, 300):
                self.history.stock(status, timedelta(hours=hours))

    async def go_on(self, *, minutes: int, every: int = 1, late: bool = False) -> None:
        """Two actions in each period of so many minutes, and a tick after them."""
        for _ in range(0, minutes, every):
            await anyio.sleep(60 * every - 25)
            self._action()
            await anyio.sleep(24)
            self._action()
            await anyio.sleep(1)
            await self.history.tick(late=late)

    def _action(self) -> None:
        history, random = self.history, self._random
        order_id = random.choice(history.orders).id
        match random.choice(("one", "one", "one", "many", "status", "status", "refund", "touch")):
            case "one":
                history.create(random.choice(("processing", "pending", "on-hold", "completed")))
            case "many":
                for _ in range(7):
                    history.create("processing")
            case "status":
                history.set_status(order_id, random.choice(("processing", "cancelled", "failed", "refunded")))
            case "refund":
                history.refund(order_id, part=True)
            case "touch":
                history.touch(order_id)

    async def close(self) -> None:
        """Nothing is missing at the end, and there was something to miss."""
        await self.history.record_outcomes()
        assert len({due.kind for due in self.history.due}) >= 4
        assert len(self.history.due) > 10


# --- Zones --------------------------------------------------------------------------------------------------


@needs_zones
@every_dialect
@pytest.mark.parametrize("zone", [FAR_EAST, FAR_WEST])
def test_a_shop_at_the_edge_of_the_world(dialect: Dialect, zone: str) -> None:
    async def story() -> None:
        async with bench_for(dialect, zone=zone) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=16)
            await business.close()

    at_once(story())


@needs_zones
@every_dialect
@pytest.mark.parametrize(
    "change",
    [
        pytest.param(datetime(2026, 10, 25, 1, tzinfo=UTC), id="an hour comes twice"),
        pytest.param(datetime(2027, 3, 28, 1, tzinfo=UTC), id="an hour is missing"),
    ],
)
def test_summer_time_begins_or_ends(dialect: Dialect, change: datetime) -> None:
    berlin = ZoneInfo("Europe/Berlin")
    before, after = ((change + side).astimezone(berlin).utcoffset() for side in (-HOUR, HOUR))
    assert before != after

    async def story() -> None:
        async with bench_for(dialect, zone="Europe/Berlin", epoch=change - 90 * MINUTE) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=180, every=6)
            await business.close()

    at_once(story())


@needs_zones
@every_dialect
def test_the_shop_moves_to_another_zone(dialect: Dialect) -> None:
    async def story() -> None:
        async with bench_for(dialect, zone=FAR_EAST) as bench:
            business = Business(bench)
            await business.history.tick()
            for zone in (FAR_WEST, "Europe/Moscow", FAR_EAST):
                await business.go_on(minutes=5)
                bench.shop.zone = ZoneInfo(zone)
            await business.go_on(minutes=5)
            await business.close()

    at_once(story())


# --- Clocks that are wrong ----------------------------------------------------------------------------------


@each_with_each_of(
    "dialect",
    [Dialect.REST, Dialect.ABILITIES],
    off={"minutes": 7 * MINUTE, "hours": 5 * HOUR},
    sign={"ahead": 1, "behind": -1},
)
def test_the_shops_clock_is_wrong(dialect: Dialect, off: timedelta, sign: int) -> None:
    async def story() -> None:
        async with bench_for(dialect, shop_ahead=sign * off) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=16)
            await business.close()

    at_once(story())


@both_ways
@every_dialect
def test_the_date_header_alone_is_wrong(dialect: Dialect, sign: int) -> None:
    """A proxy with a clock of its own: as far as SHOP_CLOCK_SKEW says."""

    async def story() -> None:
        async with bench_for(dialect) as bench:
            off = sign * bench.plan.clock_skew
            bench.endpoint.faults.add(clock_skew(off.total_seconds()))
            business = Business(bench, date_ahead=off)
            await business.history.tick()
            await business.go_on(minutes=16)
            await anyio.sleep(3 * 3600)
            await business.go_on(minutes=5)
            await business.close()

    at_once(story())


@both_ways
@in_two_dialects
def test_our_own_clock_is_an_hour_wrong(dialect: Dialect, sign: int) -> None:
    async def story() -> None:
        async with bench_for(dialect, host_ahead=sign * HOUR) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=16)
            await bench.start()
            await business.go_on(minutes=5)
            await business.close()

    at_once(story())


# --- Clocks that are set ------------------------------------------------------------------------------------


@every_dialect
def test_the_shops_clock_is_set_forward_and_back(dialect: Dialect) -> None:
    """Set back, what changes next lies before the cursor: the tick after the next one shows it."""

    async def story() -> None:
        async with bench_for(dialect) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=5)
            bench.shop_ahead = HOUR
            await business.go_on(minutes=10)
            bench.shop_ahead = -HOUR
            await business.go_on(minutes=2, late=True)
            await business.go_on(minutes=10)
            bench.shop_ahead = timedelta(0)
            await business.go_on(minutes=5)
            bench.shop_ahead = -5 * MINUTE
            await business.go_on(minutes=2, late=True)
            await business.go_on(minutes=5)
            await business.close()

    at_once(story())


@both_ways
@in_two_dialects
def test_our_own_clock_is_set(dialect: Dialect, sign: int) -> None:
    async def story() -> None:
        async with bench_for(dialect) as bench:
            business = Business(bench)
            await business.history.tick()
            await business.go_on(minutes=5)
            bench.host_ahead = sign * HOUR
            await business.go_on(minutes=5)
            await bench.start()
            bench.host_ahead = sign * timedelta(days=2)
            await business.go_on(minutes=5)
            await bench.start()
            await business.go_on(minutes=5)
            bench.host_ahead = timedelta(0)
            await business.go_on(minutes=5)
            await business.close()

    at_once(story())
