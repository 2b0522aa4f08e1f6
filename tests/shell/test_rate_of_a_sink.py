"""A sink with a rate: deliveries wait for it, in virtual time. None is dropped, and order stays."""

from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from shop_poller.core.errors import TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.rates import Rate
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery.dispatcher import DeliveryPlan
from support.shop_harness import SHOP, FakeBulkSink, FakeSink, ShopHarness, down, put, shop_harness

pytestmark = pytest.mark.anyio

RETRY = RetryPolicy(max_age=timedelta(hours=72))
TWO_A_MINUTE = DeliveryPlan(retry=RETRY, rate=Rate(2, 60.0))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def times(sink: FakeSink) -> list[float]:
    """When there was an attempt, in whole seconds."""
    return [round(at) for at, _ in sink.tried]


async def waiting(it: ShopHarness) -> int:
    stats = (await it.store.stats(SHOP)).sinks.get("sink")
    return stats.waiting if stats else 0


async def test_what_is_more_waits_and_nothing_is_dropped(path: Path) -> None:
    async with shop_harness(path, delivery=TWO_A_MINUTE) as it, it.delivering():
        await put(it, *"1234567")
        await anyio.sleep(200)
        assert times(it.sinks[0]) == [0, 0, 60, 60, 120, 120, 180]
        assert sorted(delivery.key for _, delivery in it.sinks[0].got) == list("1234567")
        assert await waiting(it) == 0


async def test_the_order_of_a_key_is_kept(path: Path) -> None:
    async with shop_harness(path, delivery=TWO_A_MINUTE) as it, it.delivering():
        await put(it, "1", "2", "1", "3", "1", "2")
        await anyio.sleep(400)
        for key in "123":
            seqs = [delivery.seq for _, delivery in it.sinks[0].got if delivery.key == key]
            assert seqs == sorted(seqs)
        assert len(it.sinks[0].got) == 6


async def test_a_retry_counts(path: Path) -> None:
    failures = iter([down(), down()])
    sink = FakeSink(behave=lambda _: next(failures, None))
    one_a_minute = DeliveryPlan(retry=RETRY, senders=1, rate=Rate(1, 60.0))
    async with shop_harness(path, sinks=[sink], delivery=one_a_minute) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(300)
        assert times(sink) == [0, 60, 120]
        assert len(sink.got) == 1


async def test_a_sink_that_takes_many_at_once_gets_one_at_a_time(path: Path) -> None:
    sink = FakeBulkSink()
    async with shop_harness(path, sinks=[sink], delivery=TWO_A_MINUTE) as it, it.delivering():
        await put(it, *"12345")
        await anyio.sleep(130)
        assert (times(sink), sink.bulks) == ([0, 0, 60, 60, 120], [])


async def test_a_stop_does_not_wait_for_the_rate(path: Path) -> None:
    hourly = DeliveryPlan(retry=RETRY, rate=Rate(1, 3600.0))
    async with shop_harness(path, delivery=hourly) as it:
        await put(it, *"12345")
        async with it.delivering():
            await anyio.sleep(10)
            began = anyio.current_time()
        assert anyio.current_time() - began < 1
        assert len(it.sinks[0].got) == 1
        assert await waiting(it) == 4, "the rest stays in the outbox"
    async with shop_harness(path, delivery=hourly) as it, it.delivering():
        await anyio.sleep(3 * 3600 + 10)
        assert len(it.sinks[0].got) == 4


async def test_those_that_wait_do_not_try_a_sink_that_went_down(path: Path) -> None:
    def behave(_: Delivery) -> TemporaryError | None:
        return down() if anyio.current_time() < 600 else None

    sink = FakeSink(behave=behave)
    plan = DeliveryPlan(retry=RETRY, rate=Rate(5, 60.0))
    async with shop_harness(path, sinks=[sink], delivery=plan) as it, it.delivering():
        await put(it, *"12345678")
        await anyio.sleep(500)
        # Each of the first has three tries, then a single delivery probes each minute.
        assert [at for at in times(sink) if at > 120] == [180, 240, 300, 360, 420, 480]
        await anyio.sleep(600)
        assert sorted(delivery.key for _, delivery in sink.got if len(delivery.key) == 1) == list("12345678")
        assert all(sum(at <= one < at + 60 for one, _ in sink.tried) <= 5 for at, _ in sink.tried)


async def test_a_slow_rate_of_one_sink_delays_no_other(path: Path) -> None:
    sinks = [FakeSink("sink"), FakeSink("other")]
    async with shop_harness(path, sinks=sinks, delivery=TWO_A_MINUTE) as it, it.delivering():
        await put(it, *"1234")
        await put(it, *"12", sink="other")
        await anyio.sleep(1)
        assert (len(sinks[0].got), len(sinks[1].got)) == (2, 2)
