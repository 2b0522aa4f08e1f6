"""A shop in maintenance, in virtual time: how often it is asked, what alerts, and what ends a pause."""

from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import EventType
from shop_poller.core.schedule import PollTrigger
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, FakeSink, ShopHarness, down, refused, shop_harness

pytestmark = pytest.mark.anyio

NEW, UNHEALTHY, RECOVERED = str(EventType.NEW), "service.unhealthy", "service.recovered"
UPDATE = down(ErrorKind.UNAVAILABLE, retry_after_s=600)
"""What WordPress says during every update."""
BUSY = down(ErrorKind.RATE_LIMIT, retry_after_s=600)
HOUR = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def times(it: ShopHarness) -> list[float]:
    """When the shop was asked."""
    return [at for at, _ in it.shop.requested]


def alerts(it: ShopHarness) -> list[str]:
    return [type_ for _, type_ in it.sinks[0].events() if type_ != NEW]


# --- How often it is asked ---


@pytest.mark.parametrize("interval_s", [5, 15, 60, 90, 600, 3600])
@pytest.mark.parametrize("retry_after_s", [None, 5, 600, 1e9])
async def test_a_shop_that_is_unavailable_is_probed_once_a_minute_at_least(
    path: Path, interval_s: float, retry_after_s: float | None
) -> None:
    async with (
        shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=interval_s), in_memory=True) as it,
        it.running(),
    ):
        await anyio.sleep(1)
        it.shop.down = down(ErrorKind.UNAVAILABLE, retry_after_s=retry_after_s)
        it.shop.requested.clear()
        await anyio.sleep(interval_s + 1800)
        first = times(it)[0]
        gaps = [later - earlier for earlier, later in pairwise(times(it))]
        assert first <= interval_s
        assert len(gaps) >= 29
        assert (
            max(gaps) <= 60.001 if retry_after_s else max(gaps) <= 64.001
        )  # the breaker counts from an answer
        assert len(gaps) <= 30 + 6, "and hardly more often"


async def test_an_update_of_a_few_seconds_costs_one_minute(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(55)
        it.shop.down = UPDATE
        await anyio.sleep(14)
        it.shop.down = None
        it.shop.put(1, "processing")
        await anyio.sleep(55)
        assert it.sinks[0].events() == [("1", NEW)]
        assert it.sinks[0].got[0][0] == 120


@pytest.mark.parametrize("interval_s", [15, 60, 600])
async def test_too_many_requests_is_still_left_alone_for_as_long_as_it_asks(
    path: Path, interval_s: float
) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=interval_s)) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(BUSY)
        await anyio.sleep(1300)
    first, second, *_ = times(it)
    assert 600 <= second - first <= 600 + interval_s


async def test_a_sweep_that_meets_an_update_delays_polls_by_a_minute_at_most(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, sweep_every=timedelta(hours=1))) as it:
        await it.tick()
        it.shop.troubles.append(UPDATE)
        await it.poller.between_ticks(TickReport(), anyio.current_time() + 60)
        assert it.poller.pause_s == 60


async def test_a_slow_gateway_is_probed_a_minute_after_the_last_request(path: Path) -> None:
    """A 504 may take half a minute to come."""
    async with shop_harness(path) as it:
        await it.tick()
        fetch = it.shop.fetch

        async def slow(query: object) -> object:
            await fetch(query)  # type: ignore[arg-type]
            await anyio.sleep(29)
            raise UPDATE

        it.shop.fetch = slow  # type: ignore[method-assign, assignment]
        it.shop.requested.clear()
        async with it.running():
            await anyio.sleep(240)
    assert times(it) == [0, 60, 120, 180, 240][: len(times(it))]
    assert len(times(it)) >= 4


# --- What alerts ---


async def test_a_pause_alone_is_no_outage(path: Path) -> None:
    """Ten minutes that the shop asked for: the poll after them is good, so nobody has to get up."""
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.troubles.append(BUSY)
        await anyio.sleep(HOUR)
        assert alerts(it) == []


async def test_an_alert_comes_with_the_first_probe_that_fails_after_five_minutes(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.troubles.extend([BUSY, BUSY])  # at 60 and at 660
        await anyio.sleep(658)
        assert alerts(it) == []
        await anyio.sleep(2)
        assert alerts(it) == [UNHEALTHY]
        assert it.sinks[0].got[0][0] == 660
        await anyio.sleep(HOUR)
        assert alerts(it) == [UNHEALTHY, RECOVERED]


async def test_a_request_that_was_sent_before_five_minutes_does_not_count(path: Path) -> None:
    """It fails when polling is stale, but the shop may be back since it was asked."""
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)  # polled at 0
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=230))  # at 60
        await anyio.sleep(279)
        it.shop.down = down(ErrorKind.TIMEOUT)
        it.shop.troubles.extend([30.0, 30.0])
        it.shop.requested.clear()
        await anyio.sleep(69)
        assert times(it) == [290, 320]
        assert it.poller.failure is not None
        assert alerts(it) == [], "the second question is not answered yet"
        await anyio.sleep(2)
        assert alerts(it) == [UNHEALTHY]


async def test_an_hour_of_maintenance_is_one_alert_with_its_own_cause(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        it.shop.down = UPDATE
        await anyio.sleep(299)
        assert alerts(it) == []
        await anyio.sleep(61)
        assert alerts(it) == [UNHEALTHY]
        await anyio.sleep(HOUR)
        it.shop.down = None
        await anyio.sleep(61)
        assert alerts(it) == [UNHEALTHY, RECOVERED]
        assert '"error_type": "UnavailableError"' in it.sinks[0].got[0][1].body


async def test_a_start_in_the_middle_of_an_outage_alerts_once_the_shop_failed(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(61)
    await anyio.sleep(HOUR)
    shop.troubles.append(UPDATE)
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(1)
        assert alerts(it) == [UNHEALTHY]
        await anyio.sleep(60)
        assert alerts(it) == [UNHEALTHY, RECOVERED]


async def test_at_a_long_interval_an_outage_is_alerted_after_three_of_them(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=600)) as it, it.running():
        await anyio.sleep(601)
        it.shop.down = UPDATE
        await anyio.sleep(1799)
        assert alerts(it) == []
        await anyio.sleep(61)
        assert alerts(it) == [UNHEALTHY]


# --- What ends a pause ---

PAUSES = {
    "maintenance": UPDATE,
    "429": BUSY,
    "429 without a time": down(ErrorKind.RATE_LIMIT),
    "breaker": down(),
    "breaker of keys": refused(ErrorKind.AUTHENTICATION),
    "breaker of errors": down(ErrorKind.SERVER),
}


async def pause(it: ShopHarness, trouble: ShopPollerError) -> None:
    """Fail like that until the shop is not asked any more; then it is well again."""
    it.shop.down = trouble
    for _ in range(4000):
        await anyio.sleep(1)
        if it.poller.pause_s > 40:
            break
    it.shop.down = None
    it.shop.requested.clear()
    await anyio.sleep(2)
    assert it.shop.requested == []


@pytest.mark.parametrize("interval_s", [5, 60, 600])
@pytest.mark.parametrize("trouble", PAUSES.values(), ids=PAUSES)
async def test_poll_now_overrides_every_pause(
    path: Path, trouble: ShopPollerError, interval_s: float
) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=interval_s)) as it, it.running():
        await anyio.sleep(1)
        await pause(it, trouble)
        it.shop.put(1, "processing")
        it.poller.trigger(PollTrigger.OWNER)
        assert it.poller.pause_s == 0
        await anyio.sleep(1.1)
        assert ("1", NEW) in it.sinks[0].events()
        assert it.value("shop_breaker_open", peer=SHOP) == 0


@pytest.mark.parametrize("trouble", PAUSES.values(), ids=PAUSES)
async def test_poll_now_at_a_shop_that_is_still_down_is_one_question_and_the_pause_goes_on(
    path: Path, trouble: ShopPollerError
) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=5)) as it, it.running():
        await anyio.sleep(1)
        await pause(it, trouble)
        it.shop.down = trouble
        it.poller.trigger(PollTrigger.OWNER)
        await anyio.sleep(30)
        assert len(it.shop.requested) == 1
        assert it.poller.pause_s > 0


async def test_poll_now_during_a_question_that_fails_asks_again(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.troubles.append(10.0)
        it.shop.down = BUSY
        await anyio.sleep(64)  # the question of 60 is being answered
        it.poller.trigger(PollTrigger.OWNER)
        await anyio.sleep(4)
        it.shop.requested.clear()
        await anyio.sleep(3)
        assert times(it) == [70]


async def test_poll_now_ends_a_wait_between_two_attempts_of_a_tick(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=3600)) as it, it.running():
        await anyio.sleep(1)
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=800))
        it.poller.trigger()  # asked at 1, and would be asked again at 801
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.put(1, "processing")
        it.poller.trigger(PollTrigger.OWNER)
        await anyio.sleep(0.1)
        assert it.sinks[0].events() == [("1", NEW)]


async def test_poll_now_after_a_webhook_counts_as_poll_now(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        await pause(it, BUSY)
        it.poller.trigger(PollTrigger.WEBHOOK)
        await anyio.sleep(5)
        assert it.shop.requested == []
        it.poller.trigger(PollTrigger.OWNER)
        it.poller.trigger(PollTrigger.WEBHOOK)
        await anyio.sleep(1)
        assert len(it.shop.requested) == 1


@pytest.mark.parametrize("name", PAUSES)
async def test_a_webhook_ends_the_pause_of_maintenance_and_no_other(path: Path, name: str) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        await pause(it, PAUSES[name])
        it.poller.trigger(PollTrigger.WEBHOOK)
        await anyio.sleep(5)
        assert bool(it.shop.requested) is (name == "maintenance")


async def test_a_webhook_ends_the_pause_of_maintenance_after_the_breaker_opened_too(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.down = UPDATE
        await anyio.sleep(330)
        assert it.value("shop_breaker_open", peer=SHOP) == 1
        it.shop.down = None
        it.shop.put(1, "processing")
        it.poller.trigger(PollTrigger.WEBHOOK)
        await anyio.sleep(1.1)
        assert ("1", NEW) in it.sinks[0].events()


async def test_a_flood_of_webhooks_makes_no_more_than_one_more_question_a_minute(path: Path) -> None:
    """Somebody who has recorded one may send it again and again while the shop is down."""
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.down = UPDATE
        it.shop.requested.clear()
        for _ in range(1200):
            it.poller.trigger(PollTrigger.WEBHOOK)
            await anyio.sleep(0.5)
    assert len(it.shop.requested) <= 2 * 10 + 3
