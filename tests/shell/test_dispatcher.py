"""Deliveries in virtual time: order, retries, breakers, burials, and stopping."""

import math
from collections import Counter
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.model import Delivery, EventType
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery import dispatcher
from shop_poller.delivery.dispatcher import DeliveryPlan
from shop_poller.ports import STORE, Outcome
from shop_poller.stores.sqlite import SqliteStore
from support.shop_harness import SHOP, FakeBulkSink, FakeSink, ShopHarness, down, put, refused, shop_harness
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

HOUR = 3600.0
PLAN = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=72)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


async def waiting(it: ShopHarness, sink: str = "sink") -> int:
    stats = (await it.store.stats(SHOP)).sinks.get(sink)
    return stats.waiting if stats else 0


async def dead(it: ShopHarness, sink: str = "sink") -> int:
    stats = (await it.store.stats(SHOP)).sinks.get(sink)
    return stats.dead if stats else 0


def times(attempts: list[tuple[float, Delivery]]) -> list[float]:
    return [round(at, 3) for at, _ in attempts]


def orders(attempts: list[tuple[float, Delivery]]) -> list[Delivery]:
    """Without the alerts: of dead letters tests/shell/test_alerts.py knows all."""
    return [delivery for _, delivery in attempts if not delivery.key.startswith("alert:")]


def keys(attempts: list[tuple[float, Delivery]]) -> list[str]:
    return [delivery.key for delivery in orders(attempts)]


# --- All is well ---


async def test_what_waits_is_delivered_at_once_and_leaves_the_outbox(path: Path) -> None:
    async with shop_harness(path) as it, it.delivering():
        await anyio.sleep(10)
        await put(it, "1", "2", "3")
        await anyio.sleep(0.1)
        assert sorted(keys(it.sinks[0].got)) == ["1", "2", "3"]
        assert times(it.sinks[0].got) == [10, 10, 10]
        await anyio.sleep(0.1)
        assert await waiting(it) == 0
    assert it.value("shop_notifications_sent_total", sink="sink", event_type="shop.order.new") == 3


async def test_what_another_process_replays_is_delivered_within_ten_seconds(path: Path) -> None:
    async with shop_harness(path) as it:
        it.sinks[0].behave = lambda _: refused()
        await put(it, "1", "2")
        async with it.delivering():
            await anyio.sleep(1)
            first = [delivery.event_id for delivery in orders(it.sinks[0].tried)]
            it.sinks[0].behave = lambda _: None
            await anyio.sleep(600)
            concurrent = await SqliteStore.concurrent(path)
            assert (
                await concurrent.replay_concurrently(SHOP, await concurrent.dead_ids(SHOP), virtual_now())
                == 3
            ), "with the alert of the two"
            await concurrent.aclose()
            assert orders(it.sinks[0].got) == []
            await anyio.sleep(10.1)
            assert [delivery.event_id for delivery in orders(it.sinks[0].got)] == first
        assert (await waiting(it), await dead(it)) == (0, 0)


async def test_an_idle_outbox_is_not_looked_at_more_often_than_that(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it:
        looks, claim = 0, it.store.claim

        async def counted(sink: str, *, now: datetime, limit: int) -> list[Delivery]:
            nonlocal looks
            looks += 1
            return await claim(sink, now=now, limit=limit)

        monkeypatch.setattr(it.store, "claim", counted)
        async with it.delivering():
            await anyio.sleep(600)
        assert 60 <= looks <= 62


async def test_an_orders_events_arrive_in_order_and_others_overtake(path: Path) -> None:
    slow_first = iter([5.0])
    sink = FakeSink(behave=lambda d: next(slow_first, 0.0) if d.key == "1" else 0.0)
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, "1", "1", "1", "2", "2")
        async with it.delivering():
            await anyio.sleep(60)
        assert keys(sink.got) == ["2", "2", "1", "1", "1"]
        seqs = [d.seq for _, d in sink.got if d.key == "1"]
        assert seqs == sorted(seqs)


async def test_as_many_at_once_as_there_are_senders(path: Path) -> None:
    sink = FakeSink(behave=lambda _: 1.0)
    plan = DeliveryPlan(retry=PLAN.retry, senders=5)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(50)))
        await it.deliver()
    assert sink.most_at_once == 5
    assert anyio.current_time() == pytest.approx(10.0)


async def test_the_senders_that_are_alive_are_counted(path: Path) -> None:
    async with shop_harness(path) as it:
        async with it.delivering():
            await anyio.sleep(1)
            assert it.dispatchers[0].senders_alive == PLAN.senders
        assert it.dispatchers[0].senders_alive == 0


async def test_a_sink_that_takes_many_gets_them_together(path: Path) -> None:
    sink = FakeBulkSink()
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(250)))
        await it.deliver()
        assert await waiting(it) == 0
    assert len(keys(sink.got)) == 250
    assert max(sink.bulks) == 100
    assert len(sink.bulks) <= 5


async def test_what_is_refused_among_many_is_tried_again_by_itself(path: Path) -> None:
    refusals = iter([down(), down()])
    sink = FakeBulkSink(behave=lambda d: next(refusals, None) if d.key == "7" else None)
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(20)))
        await it.deliver()
        assert await waiting(it) == 0
    assert keys(sink.tried).count("7") == 3
    assert Counter(keys(sink.tried))["8"] == 1
    assert len([at for at, _ in sink.got if at == 0]) == 19, "the others wait for nothing"


async def test_a_success_sent_before_a_requested_pause_does_not_end_it(path: Path) -> None:
    requested = iter([down(ErrorKind.UNAVAILABLE, retry_after_s=90)])
    sink = FakeSink(behave=lambda d: 0.5 if d.key == "slow" else next(requested, None))
    plan = DeliveryPlan(retry=PLAN.retry, senders=2)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, "slow", "early")
        async with it.delivering():
            await anyio.sleep(300)
    assert keys(sink.got) == ["slow", "early"]
    assert [at for at, delivery in sink.tried if delivery.key == "early"][1] >= 90


async def test_a_connection_that_broke_once_is_no_reason_to_go_one_by_one(path: Path) -> None:
    broken = iter([down()] * 100)
    sink = FakeBulkSink(behave=lambda _: next(broken, None))
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(100)))
        await it.deliver()
    assert sink.bulks[:2] == [100, 100]
    assert len(sink.got) == 100
    assert anyio.current_time() < 1


async def test_many_that_failed_are_not_sent_again_without_the_lease(path: Path) -> None:
    """It ends in the pause before they are tried once more, perhaps since we were frozen in it."""
    ends_at = math.inf

    def behave(_: Delivery) -> ShopPollerError:
        nonlocal ends_at
        ends_at = anyio.current_time() + 0.001
        return down()

    sink = FakeBulkSink(behave=behave)
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(
        path, sinks=[sink], delivery=plan, may_send=lambda: anyio.current_time() < ends_at
    ) as it:
        await put(it, *map(str, range(10)))
        async with it.delivering():
            await anyio.sleep(10)
    assert sink.bulks == [10]
    assert len(sink.tried) == 10


async def test_a_sink_that_goes_down_among_many_is_not_charged_to_them(path: Path) -> None:
    taken = iter(range(50))
    sink = FakeBulkSink(behave=lambda _: down() if next(taken, None) is None else None)
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(100)))
        async with it.delivering():
            await anyio.sleep(50)
            assert len(sink.got) == 50
            sink.behave = lambda _: None
            await anyio.sleep(120)
    assert len(sink.got) == 100
    assert all(delivery.attempts == 0 for _, delivery in sink.got)


async def test_one_that_got_through_alone_does_not_speak_for_those_that_failed_with_it(path: Path) -> None:
    answers = iter([*[down()] * 40, None])  # a connection that broke twice, among twenty; then one is taken
    sink = FakeBulkSink(behave=lambda _: next(answers, down()))
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(20)))
        async with it.delivering():
            await anyio.sleep(50)
            assert len(sink.tried) == 2 * 20 + 1 + 2, (
                "one is taken, the next one tried on; then it was left alone"
            )
            sink.behave = lambda _: None
            await anyio.sleep(120)
    assert len(sink.got) == 20
    assert all(delivery.attempts == 0 for _, delivery in sink.got)


async def test_cut_short_during_a_claim_it_ends_without_a_word(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it:
        await put(it, "1")
        claim, claiming = it.store.claim, anyio.Event()

        async def slow_claim(sink: str, *, now: datetime, limit: int) -> list[Delivery]:
            claiming.set()
            with anyio.CancelScope(shield=True):  # as the store's own
                await anyio.sleep(5)
            return await claim(sink, now=now, limit=limit)

        monkeypatch.setattr(it.store, "claim", slow_claim)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(it.dispatchers[0].run)
            await claiming.wait()
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
    assert it.sinks[0].got == []


async def test_a_permanent_refusal_among_many_dead_letters_just_that_one(path: Path) -> None:
    sink = FakeBulkSink(behave=lambda d: refused() if d.key == "7" else None)
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, *map(str, range(20)))
        await it.deliver()
        assert (await waiting(it), await dead(it)) == (0, 1)
    assert keys(sink.tried).count("7") == 1


async def test_many_that_find_the_sink_down_are_put_back_uncharged(path: Path) -> None:
    sink = FakeBulkSink(behave=lambda _: down())
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(50)))
        async with it.delivering():
            await anyio.sleep(50)
            assert len(sink.tried) == 2 * 50 + 2, "all twice, one of them on; then the sink was left alone"
            sink.behave = lambda _: None
            await anyio.sleep(120)
        assert await waiting(it) == 0
    assert all(delivery.attempts == 0 for _, delivery in sink.got)


async def test_no_more_is_claimed_than_the_queue_holds(path: Path) -> None:
    sink = FakeSink(behave=lambda _: 100.0)
    plan = DeliveryPlan(retry=PLAN.retry, senders=2, queue_size=10)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it:
        await put(it, *map(str, range(500)))
        async with it.delivering():
            await anyio.sleep(5)
            unclaimed = await it.store.claim("sink", now=virtual_now(), limit=1000)
            assert len(unclaimed) >= 500 - 2 - 10 - 10
            assert it.value("shop_queue_depth", sink="sink") <= 10


# --- A row fails ---


async def test_a_row_that_fails_is_tried_three_times_and_then_parked_for_longer_each_time(path: Path) -> None:
    sink = FakeSink(behave=lambda d: down(ErrorKind.SERVER) if d.key == "bad" else None)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad", "good")
        await anyio.sleep(0.1)
        await put(it, "another")
        await anyio.sleep(4 * HOUR)
    bad = [round(at, 2) for at, d in sink.tried if d.key == "bad"]
    claims = bad[::3]
    assert bad[:3] == [0, 0.25, 0.75], "half of 0.5 and 1 second"
    gaps = [b - a for a, b in pairwise(claims)]
    assert gaps == sorted(gaps)
    assert gaps[0] == pytest.approx(30 * 0.75 + 0.75, abs=0.1)
    assert gaps[-1] > HOUR / 2
    assert sorted(keys(sink.got)) == ["another", "good"], "the others are not held up"


async def test_the_first_delay_comes_up_within_the_claim_if_the_sink_asks_for_little(path: Path) -> None:
    answers = iter([down(ErrorKind.SERVER, retry_after_s=7)])
    sink = FakeSink(behave=lambda _: next(answers, None))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(HOUR)
    assert times(sink.tried) == [0, 7]


@pytest.mark.parametrize(("requested_s", "attempts"), [(9.5, 0), (10.0, 0), (10.001, 1), (11.0, 1)])
async def test_a_wait_of_up_to_ten_seconds_is_part_of_the_claim_and_a_longer_one_is_charged(
    path: Path, requested_s: float, attempts: int
) -> None:
    answers = iter([down(ErrorKind.SERVER, retry_after_s=requested_s)])
    sink = FakeSink(behave=lambda _: next(answers, None))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(HOUR)
    assert [delivery.attempts for delivery in orders(sink.got)] == [attempts]


async def test_a_row_waits_as_long_as_the_sink_asks(path: Path) -> None:
    answers = iter([down(ErrorKind.SERVER, retry_after_s=600)])
    sink = FakeSink(behave=lambda _: next(answers, None))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(HOUR)
    assert times(sink.tried) == [0, 600]


async def test_a_parked_row_survives_a_restart(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down(ErrorKind.SERVER))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(2)
    sink.behave = lambda _: None
    before = len(sink.tried)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await anyio.sleep(5)
        assert len(sink.tried) == before, "it is not due yet"
        await anyio.sleep(60)
        assert keys(sink.got) == ["1"]
        assert sink.tried[-1][1].attempts == 1


async def test_what_is_refused_for_good_is_dead_lettered_at_once_and_the_next_of_its_key_goes_on(
    path: Path,
) -> None:
    answers = iter([refused()])
    sink = FakeSink(behave=lambda _: next(answers, None))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1", "1")
        await anyio.sleep(1)
        assert await dead(it) == 1
        assert await waiting(it) == 0
    assert keys(sink.got) == ["1"]
    assert it.value("shop_deliveries_buried_total", sink="sink") == 1


async def test_one_row_that_keeps_failing_does_not_open_the_circuit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)  # or most of the time goes into looking
    sink = FakeSink(behave=lambda d: down(ErrorKind.SERVER) if d.key == "bad" else None)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad")
        await anyio.sleep(24 * HOUR)
        assert it.value("shop_breaker_open", peer="sink") == 0
        await put(it, "good")
        await anyio.sleep(0.1)
        assert keys(sink.got) == ["good"]


async def test_a_row_that_fails_for_three_days_is_dead_lettered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)  # or most of the time goes into looking
    sink = FakeSink(behave=lambda d: down(ErrorKind.SERVER) if d.key == "bad" else None)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad")
        for hour in range(80):
            await put(it, f"good {hour}")  # the sink is well: the row is what it chokes on
            await anyio.sleep(HOUR)
            if hour < 71:
                assert await dead(it) == 0
        assert await dead(it) == 1


async def test_a_bug_in_a_sink_parks_the_row_and_kills_nobody(path: Path) -> None:
    def behave(delivery: Delivery) -> ShopPollerError | None:
        if delivery.key == "bad":
            raise ZeroDivisionError("a bug")
        return None

    sink = FakeSink(behave=behave)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad", "good")
        await anyio.sleep(5)
        assert keys(sink.got) == ["good"]
        assert await waiting(it) == 1
        assert it.value("shop_senders_alive", sink="sink") == PLAN.senders
    assert it.value("shop_delivery_retries_total", sink="sink", error_type="InternalError") == 1


# --- The sink fails ---


async def test_a_sink_that_is_down_is_probed_once_a_minute_and_no_row_is_charged(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1", "2", "3", "4")
        await anyio.sleep(10)
        assert it.value("shop_breaker_open", peer="sink") == 1
        early = len(sink.tried)
        assert early <= 4 * 3
        await anyio.sleep(HOUR)
        assert len(sink.tried) - early == 60
        probes = [
            b - a for a, b in zip(times(sink.tried)[early:], times(sink.tried)[early + 1 :], strict=False)
        ]
        assert min(probes) >= 60
        assert Counter(keys(sink.tried[early:])).most_common()[0][1] <= 16, "each probe is another row"
        sink.behave = lambda _: None
        back = anyio.current_time()
        await anyio.sleep(61)
        assert {d.attempts for _, d in sink.got} == {0}
        assert max(times(sink.got)) - back <= 60
        assert it.value("shop_breaker_open", peer="sink") == 0


async def test_when_a_sink_is_back_what_waited_goes_out_at_once_oldest_first(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down())
    plan = DeliveryPlan(retry=PLAN.retry, senders=1)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it, it.delivering():
        for n in range(20):
            await put(it, str(n))
            await anyio.sleep(10)
        await anyio.sleep(HOUR)
        sink.behave = lambda _: None
        await anyio.sleep(61)
    probe, *others = keys(sink.got)
    assert others == [str(n) for n in range(20) if str(n) != probe]
    at_once = times(sink.got)
    assert at_once[-1] == at_once[0]


async def test_rows_parked_for_their_own_failure_go_out_too_when_the_sink_is_back(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down(ErrorKind.SERVER))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, *map(str, range(10)))
        await anyio.sleep(2 * HOUR)
        assert it.value("shop_breaker_open", peer="sink") == 1, "five rows in a row failed"
        sink.behave = lambda _: None
        await anyio.sleep(61)
        assert len(sink.got) == 10


async def test_many_that_wait_are_made_due_some_at_a_time_and_all_go_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shop_poller.stores.sqlite.outbox.RELEASE_LIMIT", 3)
    async with shop_harness(path) as it, it.delivering():
        it.sinks[0].behave = lambda _: down()
        await put(it, *(f"{n}" for n in range(20)))
        await anyio.sleep(HOUR)
        assert it.value("shop_breaker_open", peer="sink") == 1
        it.sinks[0].behave = lambda _: None
        await anyio.sleep(61)
        assert sorted(set(keys(it.sinks[0].got)), key=int) == [f"{n}" for n in range(20)]


async def test_a_dead_sink_holds_up_nobody(path: Path) -> None:
    dead_one, good = FakeSink("dead", behave=lambda _: 1e9), FakeSink("good")
    async with shop_harness(path, sinks=[dead_one, good]) as it, it.delivering():
        for n in range(20):
            await put(it, str(n), sink="dead")
            await put(it, str(n), sink="good")
        await anyio.sleep(1)
        assert len(good.got) == 20
        assert dead_one.got == []


async def test_a_row_that_hangs_a_living_sink_is_charged_and_does_not_stop_it(path: Path) -> None:
    sink = FakeSink(behave=lambda d: 1e9 if d.key == "bad" else 0.1)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad")
        for n in range(600):
            await put(it, str(n))
            await anyio.sleep(1)
        assert it.value("shop_delivery_retries_total", sink="sink", error_type="TimeoutError") >= 3
        assert len(sink.got) == 600
        waits = [at - n for n, (at, d) in enumerate(sink.got) if d.key != "bad"]
        assert max(waits) < 5, "the circuit stays closed"


async def test_a_row_that_hangs_a_quiet_sink_is_one_probe_among_others(path: Path) -> None:
    sink = FakeSink(behave=lambda d: 1e9 if d.key == "bad" else 0.1)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "bad")
        await anyio.sleep(120)
        assert it.value("shop_breaker_open", peer="sink") == 1
        await put(it, "good")
        await anyio.sleep(200)
        assert keys(sink.got) == ["good"]


async def test_a_sink_that_asks_to_be_left_alone_is(path: Path) -> None:
    answers = iter([down(ErrorKind.UNAVAILABLE, retry_after_s=1000)])
    sink = FakeSink(behave=lambda _: next(answers, None))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(0.1)
        tried = len(sink.tried)
        await anyio.sleep(990)
        assert len(sink.tried) == tried
        await anyio.sleep(20)
        assert sorted(keys(sink.got)) == ["1", "2"]


async def test_a_waiting_retry_is_not_made_once_the_sink_requested_a_pause(path: Path) -> None:
    def behave(delivery: Delivery) -> ShopPollerError | None:
        if delivery.key == "asks":
            return down(ErrorKind.RATE_LIMIT, retry_after_s=1000)
        return down(ErrorKind.SERVER, retry_after_s=5)

    sink = FakeSink(behave=behave)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, *map(str, range(7)))
        await anyio.sleep(0.3)
        await put(it, "asks")
        await anyio.sleep(900)
        assert len(sink.tried) == 8
        assert max(times(sink.tried)) < 1


async def test_a_plain_failure_does_not_shorten_a_requested_pause(path: Path) -> None:
    slow_failures = iter([0.5, 1.0])

    def behave(delivery: Delivery) -> ShopPollerError | float | None:
        if delivery.key == "asks":
            return down(ErrorKind.RATE_LIMIT, retry_after_s=3600)
        return next(slow_failures, None) or down()

    sink = FakeSink(behave=behave)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "asks", "1")
        await anyio.sleep(3500)
        assert it.value("shop_breaker_open", peer="sink") == 1
        assert max(times(sink.tried)) < 2


# --- The lease ---


async def test_without_the_lease_nothing_is_claimed_sent_or_charged_and_nobody_spins(path: Path) -> None:
    is_leader = False
    sink = FakeSink()
    async with shop_harness(path, sinks=[sink], may_send=lambda: is_leader) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(HOUR)
        assert sink.tried == []
        is_leader = True
        await anyio.sleep(2)
        assert sorted(keys(sink.got)) == ["1", "2"]
        assert [delivery.attempts for _, delivery in sink.got] == [0, 0]


async def test_a_probe_that_the_lease_held_back_is_made_again(path: Path) -> None:
    claimed: list[bool] = []
    sink = FakeSink(behave=lambda _: down())

    def may_send() -> bool:
        # As when the lease ends between the claim of a probe and its sending, once.
        return not (sink.tried and len(claimed) == 1)

    async with shop_harness(path, sinks=[sink], may_send=may_send) as it, it.delivering():
        claim = it.store.claim

        async def watched(*args: Any, **kwargs: Any) -> list[Delivery]:
            found = await claim(*args, **kwargs)
            if sink.tried and found:
                claimed.append(True)
            return found

        it.store.claim = watched  # type: ignore[method-assign] # to know the moment
        await put(it, "1")
        await anyio.sleep(70)
        assert len(claimed) == 1
        assert len(sink.tried) == 3  # all of the first claim
        claimed.append(True)
        sink.behave = lambda _: None
        await anyio.sleep(130)
        assert keys(sink.got) == ["1"]


async def test_nobody_subscribed_means_not_delivered(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)  # or most of the time goes into looking
    sink = FakeSink(behave=lambda _: down(ErrorKind.NO_SUBSCRIBER))
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(24 * HOUR)
        assert await waiting(it) == 1
        assert await dead(it) == 0
        sink.behave = lambda _: None
        await anyio.sleep(61)
        assert await waiting(it) == 0


async def test_a_sink_away_for_three_days_has_its_old_rows_dead_lettered(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)  # or most of the time goes into looking
    sink = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[sink], in_memory=True) as it, it.delivering():
        await put(it, *map(str, range(700)))
        await anyio.sleep(71 * HOUR)
        await put(it, "young")
        assert await dead(it) == 0
        await anyio.sleep(2 * HOUR)
        assert await dead(it) == 700
        assert await waiting(it) == 2, "with the alert, for whom there is nobody else to tell"
        assert it.value("shop_deliveries_buried_total", sink="sink") == 700
        assert it.dispatchers[0].dead_lettered == 700, "`run --once` reports them and exits accordingly"


# --- 410 ---


def services(sink: FakeSink) -> list[str]:
    """The alerts that a sink received about other sinks, without those about dead letters."""
    return [str(d.event_type) for _, d in sink.got if d.event_type != EventType.DEAD_LETTERS]


async def test_a_sink_that_is_gone_gets_nothing_more_and_the_others_are_alerted(path: Path) -> None:
    gone, other = FakeSink("gone", behave=lambda _: refused(ErrorKind.GONE)), FakeSink("other")
    async with shop_harness(path, sinks=[gone, other]) as it, it.delivering():
        await put(it, "1", sink="gone")
        await anyio.sleep(1)
        await put(it, "2", sink="gone")
        await anyio.sleep(HOUR)
        assert len(gone.tried) == 1
        assert services(other) == ["service.unhealthy"]
        assert await waiting(it, "gone") == 1
        assert await dead(it, "gone") == 1
    gone.behave = lambda _: None
    async with shop_harness(path, sinks=[gone, other]) as it, it.delivering():
        await anyio.sleep(1)
        assert keys(gone.got)[0] == "2", "after a restart it is tried again"
        await anyio.sleep(61)
    assert services(other) == ["service.unhealthy", "service.recovered"]


async def test_a_sink_that_is_gone_says_so_to_many_at_once_and_is_told_of_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def behave(_: Delivery) -> float | ShopPollerError:
        return refused(ErrorKind.GONE)

    gone, other = FakeSink("gone", behave=behave), FakeSink("other")
    async with shop_harness(path, sinks=[gone, other]) as it:
        store_it, failures = it.store.raise_alert, iter([down(ErrorKind.STORE)] * 2)

        async def full_disk(*args: Any) -> None:
            for failure in failures:
                raise failure
            await store_it(*args)

        monkeypatch.setattr(it.store, "raise_alert", full_disk)
        async with it.delivering():
            await put(it, *map(str, range(6)), sink="gone")
            await anyio.sleep(120)
    assert services(other) == ["service.unhealthy"]


# --- The store fails ---


async def test_deliveries_are_recorded_when_the_store_works_again_and_not_repeated(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.delivering():
        record_outcomes, fails = it.store.record_outcomes, [True]

        async def full(outcomes: list[Outcome], now: datetime) -> None:
            if fails:
                raise TemporaryError(ErrorKind.STORE, "disk full")
            await record_outcomes(outcomes, now)

        monkeypatch.setattr(it.store, "record_outcomes", full)
        await put(it, "1", "2")
        await anyio.sleep(600)
        assert await waiting(it) == 2
        assert it.value("shop_store_errors_total", use="record") > 500
        fails.clear()
        await anyio.sleep(2)
        assert await waiting(it) == 0
        assert keys(it.sinks[0].tried) == ["1", "2"]


async def test_when_the_alert_about_a_store_fails_too_it_is_sent_by_a_later_look(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.delivering():
        record_outcomes, raise_alert = it.store.record_outcomes, it.store.raise_alert
        fails, alerts_fail = [True], [down(ErrorKind.STORE)] * 2

        async def full(outcomes: list[Outcome], now: datetime) -> None:
            if fails:
                raise down(ErrorKind.STORE)
            await record_outcomes(outcomes, now)

        async def full_for_alerts(*args: Any) -> None:
            if args[1].service == STORE and alerts_fail:
                raise alerts_fail.pop()
            await raise_alert(*args)

        monkeypatch.setattr(it.store, "record_outcomes", full)
        monkeypatch.setattr(it.store, "raise_alert", full_for_alerts)
        await put(it, "1")
        await anyio.sleep(600)
        fails.clear()
        await anyio.sleep(60)
    assert alerts_fail == []
    assert services(it.sinks[0])[1:] == ["service.unhealthy", "service.recovered"]


@pytest.mark.parametrize(
    ("method", "logged"),
    [
        ("claim", "the outbox cannot be read; retrying"),
        ("raise_alert", "an alert could not be stored; retrying"),
        ("record_outcomes", "deliveries cannot be recorded; retrying"),
    ],
)
async def test_a_store_that_fails_again_is_logged_again(
    path: Path, monkeypatch: pytest.MonkeyPatch, method: str, logged: str
) -> None:
    async with shop_harness(path) as it:
        works, fails = getattr(it.store, method), [True]

        async def full(*args: Any, **kwargs: Any) -> Any:
            if fails:
                raise down(ErrorKind.STORE)
            return await works(*args, **kwargs)

        monkeypatch.setattr(it.store, method, full)
        with capture_logs() as log:
            async with it.delivering():
                await put(it, "1")
                await anyio.sleep(60)
                fails.clear()
                await anyio.sleep(60)
                fails.append(True)
                it.sinks[0].behave = lambda _: refused()  # administrators are alerted to the dead letter
                await put(it, "2")
                await anyio.sleep(60)
                fails.clear()
    assert [line["event"] for line in log if line["log_level"] == "error"].count(logged) == 2


async def test_outcomes_are_recorded_when_it_is_cut_short_while_the_store_fails(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it:
        record_outcomes, failures = it.store.record_outcomes, [down(ErrorKind.STORE)]

        async def fails_once(outcomes: list[Outcome], now: datetime) -> None:
            if failures:
                raise failures.pop()
            await record_outcomes(outcomes, now)

        monkeypatch.setattr(it.store, "record_outcomes", fails_once)
        async with anyio.create_task_group() as tasks:
            for each in it.dispatchers:
                tasks.start_soon(each.run)
            await put(it, "1", "2")
            await anyio.sleep(0.5)
            assert failures == []
            assert await waiting(it) == 2
            tasks.cancel_scope.cancel()
        assert keys(it.sinks[0].tried) == ["1", "2"]
        assert await waiting(it) == 0, "or they would be sent again"


async def test_what_cannot_be_recorded_is_bounded_by_the_queue_however_many_go_at_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, senders = 60, 2
    plan = DeliveryPlan(retry=PLAN.retry, queue_size=size, senders=senders)
    async with shop_harness(path, sinks=[FakeBulkSink()], delivery=plan) as it, it.delivering():
        record_outcomes = it.store.record_outcomes

        async def full(*_: object) -> None:
            raise TemporaryError(ErrorKind.STORE, "disk full")

        monkeypatch.setattr(it.store, "record_outcomes", full)
        await put(it, *(str(n) for n in range(25 * size)))
        await anyio.sleep(3600)
        in_flight = it.dispatchers[0].in_flight
        monkeypatch.setattr(it.store, "record_outcomes", record_outcomes)
        # In the queue and on the way into it; with each sender, on the way to be recorded, and about to be.
        assert size < in_flight <= 2 * size + (size + 1) * (senders + 4)


async def test_the_outbox_is_read_again_when_the_store_works_again(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.delivering():
        claim, fails = it.store.claim, [True]

        async def broken(*args: object, **kwargs: object) -> list[Delivery]:
            if fails:
                raise TemporaryError(ErrorKind.STORE, "disk I/O error")
            return await claim(*args, **kwargs)  # type: ignore[arg-type] # passed on as they come

        monkeypatch.setattr(it.store, "claim", broken)
        await put(it, "1")
        await anyio.sleep(60)
        assert it.value("shop_store_errors_total", use="outbox") > 50
        fails.clear()
        await anyio.sleep(2)
        assert keys(it.sinks[0].got) == ["1"]


# --- Stopping ---


async def test_stopping_finishes_the_attempts_under_way_and_leaves_the_rest(path: Path) -> None:
    sink = FakeSink(behave=lambda _: 5.0)
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, *map(str, range(100)))
        async with it.delivering():
            await anyio.sleep(1)
        assert anyio.current_time() == pytest.approx(5.0, abs=0.01)
        assert len(sink.got) == PLAN.senders
        assert await waiting(it) == 100 - PLAN.senders
    sink.behave = lambda _: None
    async with shop_harness(path, sinks=[sink]) as it:
        await it.deliver()
    assert sorted(keys(sink.got), key=int) == [str(n) for n in range(100)]


async def test_stopping_does_not_wait_for_retries(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down(ErrorKind.SERVER, retry_after_s=9))
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, "1")
        async with it.delivering():
            await anyio.sleep(0.1)
        assert anyio.current_time() == pytest.approx(0.1, abs=0.01)
        assert len(sink.tried) == 1
        assert await waiting(it) == 1


async def test_a_run_until_idle_ends_when_nothing_due_is_left(path: Path) -> None:
    sink = FakeSink(behave=lambda d: down(ErrorKind.SERVER) if d.key == "bad" else None)
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, "bad", *map(str, range(250)))
        await it.deliver()
        assert len(sink.got) == 250
        assert await waiting(it) == 1
        assert anyio.current_time() < 5


async def test_a_run_until_idle_delivers_all_of_one_order(path: Path) -> None:
    sink = FakeSink()
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, *["1"] * 5)
        await it.deliver()
        assert await waiting(it) == 0


async def test_a_run_until_idle_delivers_what_became_free_during_its_last_claim(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = FakeSink(behave=lambda _: 1.0)
    async with shop_harness(path, sinks=[sink]) as it:
        claim = it.store.claim

        async def slow(name: str, *, now: datetime, limit: int) -> list[Delivery]:
            claimed = await claim(name, now=now, limit=limit)
            await anyio.sleep(0 if claimed else 5)  # meanwhile the first of the key is delivered and recorded
            return claimed

        monkeypatch.setattr(it.store, "claim", slow)
        await put(it, "1", "1")
        await it.deliver()
        assert len(sink.got) == 2
        assert await waiting(it) == 0


async def test_a_run_until_idle_ends_when_the_sink_is_down(path: Path) -> None:
    sink = FakeSink(behave=lambda _: down())
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, *map(str, range(250)))
        await it.deliver()
        assert await waiting(it) == 250
        assert anyio.current_time() < 30
