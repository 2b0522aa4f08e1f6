"""Receivers that start behind a proxy, that redirect, or that refuse one order; in virtual time."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from shop_poller.alerts import WORKED
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.core.refusals import PROBE_AFTER_S
from shop_poller.core.retry import RetryPolicy
from shop_poller.delivery import dispatcher
from shop_poller.delivery.dispatcher import DeliveryPlan
from support.shop_harness import SHOP, FakeSink, ShopHarness, down, put, refused, shop_harness
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

MINUTE, HOUR = 60.0, 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def not_found() -> PermanentError:
    return PermanentError(ErrorKind.REJECTED, "the receiver answered 404", may_pass=True)


def see_other() -> PermanentError:
    return PermanentError(ErrorKind.PROTOCOL, "the receiver answered 302", may_pass=True, may_be_done=True)


def soon() -> TemporaryError:
    return TemporaryError(ErrorKind.CONNECTION, "READONLY", probe_after_s=5.0)


async def record_outcomes(it: ShopHarness, *, sink: str = "sink") -> tuple[int, int]:
    """Waiting and dead."""
    stats = (await it.store.stats(SHOP)).sinks.get(sink)
    return (stats.waiting, stats.dead) if stats else (0, 0)


def keys(attempts: list[tuple[float, Delivery]]) -> list[str]:
    return [delivery.key for _, delivery in attempts if not delivery.key.startswith("alert:")]


def alerts(attempts: list[tuple[float, Delivery]]) -> list[str]:
    return [str(delivery.event_type) for _, delivery in attempts if delivery.key.startswith("alert:")]


@pytest.fixture
def sink() -> FakeSink:
    return FakeSink()


# --- A receiver that starts ---


@pytest.mark.parametrize("count", [1, 2, 4, 40])
@pytest.mark.parametrize("lasts_s", [5.0, 100.0, 280.0])
async def test_a_sink_that_worked_may_refuse_all_for_minutes(
    path: Path, sink: FakeSink, count: int, lasts_s: float
) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: not_found()
        await put(it, *map(str, range(count)))
        await anyio.sleep(lasts_s)
        sink.behave = lambda _: None
        await anyio.sleep(61)
        assert await record_outcomes(it) == (0, 0)
    assert sorted(keys(sink.got)) == sorted(["before", *map(str, range(count))])
    assert len(sink.tried) <= count + 3 * (2 + lasts_s / 15) + 10 + count


async def test_several_in_a_row_are_not_charged_and_the_rest_waits(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: not_found()
        await put(it, *map(str, range(50)))
        await anyio.sleep(PROBE_AFTER_S - 1)
        assert it.value("shop_breaker_open", peer="sink") == 1
        assert len(sink.tried) <= 1 + 8, "as many as there are senders"
        sink.behave = lambda _: None
        await anyio.sleep(2)
        assert sum(delivery.attempts for _, delivery in sink.got) <= 2, (
            "the first two may have been their own"
        )
        assert await record_outcomes(it) == (0, 0)


async def test_a_refusal_that_lasts_is_final_for_all_and_is_told(path: Path, sink: FakeSink) -> None:
    well = FakeSink("well")
    async with shop_harness(path, sinks=[sink, well]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: not_found()
        await put(it, *map(str, range(30)))
        await anyio.sleep(4.9 * MINUTE)
        assert await record_outcomes(it) == (30, 0)
        await anyio.sleep(3 * MINUTE)
        assert await record_outcomes(it) == (0, 30)
        dead_letters = await it.store.finished(SHOP, dead=True, limit=100)
        assert {letter.reason for letter in dead_letters} <= {
            f"refused for {minutes} min: the receiver answered 404" for minutes in (5, 6, 7, 8)
        }
        late = anyio.current_time()
        await put(it, "late")
        await anyio.sleep(4.5 * MINUTE)
        assert await record_outcomes(it) == (1, 30), "one that comes later gets its minutes too"
        await anyio.sleep(2 * MINUTE)
        assert await record_outcomes(it) == (0, 31)
    assert len([at for at, _ in sink.tried if at >= late]) <= 30
    assert alerts(well.got) == ["service.dead_letters", "service.unhealthy"]


async def test_one_order_that_is_refused_alone_holds_up_no_other(path: Path, sink: FakeSink) -> None:
    sink.behave = lambda d: not_found() if d.key == "bad" else None
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        await put(it, "bad")
        for n in range(30):
            begun = anyio.current_time()
            await put(it, f"good {n}")
            await anyio.sleep(20)
            assert sink.got[-1][1].key.startswith(("good", "alert"))
            assert min(at for at, d in sink.got if d.key == f"good {n}") - begun < 1
        assert await record_outcomes(it) == (0, 1)
    assert 3 <= keys(sink.tried).count("bad") <= 12
    assert alerts(sink.got) == ["service.dead_letters"]


async def test_many_orders_that_are_refused_hold_up_others_for_a_few_probes(
    path: Path, sink: FakeSink
) -> None:
    sink.behave = lambda d: not_found() if d.key.startswith("bad") else None
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        await put(it, *(f"bad {n}" for n in range(10)))
        await anyio.sleep(1)
        begun = anyio.current_time()
        await put(it, "good")
        await anyio.sleep(30 * MINUTE)
        assert await record_outcomes(it) == (0, 10)
    assert min(at for at, d in sink.got if d.key == "good") - begun <= 10 * PROBE_AFTER_S


async def test_an_outage_before_it_does_not_count(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: down(ErrorKind.UNAVAILABLE)
        await put(it, "1", "2", "3", "4")
        await anyio.sleep(20 * MINUTE)
        sink.behave = lambda _: not_found()
        await anyio.sleep(4 * MINUTE)
        assert await record_outcomes(it) == (4, 0)
        sink.behave = lambda _: None
        await anyio.sleep(MINUTE + 1)
        assert await record_outcomes(it) == (0, 0)


async def test_a_clock_that_is_set_ends_nothing_early(
    path: Path, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: not_found()
        await put(it, "1")
        await anyio.sleep(100)
        for dispatching in it.dispatchers:
            monkeypatch.setattr(dispatching._sender, "_now", lambda: virtual_now() + timedelta(hours=3))
        await anyio.sleep(100)
        assert await record_outcomes(it) == (1, 0)


# --- A sink that has never worked ---


async def test_a_sink_that_never_worked_is_told_at_once(path: Path, sink: FakeSink) -> None:
    sink.behave = lambda _: not_found()
    async with shop_harness(path, sinks=[sink, FakeSink("well")]) as it, it.delivering():
        await put(it, "1", "2")
        await anyio.sleep(1)
        assert await record_outcomes(it) == (0, 2)
    assert sorted(keys(sink.tried)) == ["1", "2"]


async def test_that_it_worked_is_known_after_a_restart(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it:
        await put(it, "before")
        await it.deliver()
    sink.behave = lambda _: not_found()
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(2 * MINUTE)
        assert await record_outcomes(it) == (1, 0)


async def test_that_it_worked_is_known_when_the_history_is_pruned(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(20)
        later = virtual_now() + timedelta(days=90)
        assert await it.store.prune(SHOP, seen_before=later, finished_before=later)
        assert not await it.store.finished(SHOP, dead=False, limit=1)
        assert f"{WORKED}sink" in await it.store.alerts(SHOP)
    sink.behave = lambda _: not_found()
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(2 * MINUTE)
        assert await record_outcomes(it) == (1, 0)


async def test_another_sink_that_worked_says_nothing_of_this_one(path: Path, sink: FakeSink) -> None:
    sink.behave = lambda _: not_found()
    well = FakeSink("well")
    async with shop_harness(path, sinks=[sink, well]) as it, it.delivering():
        await put(it, "1", sink="well")
        await anyio.sleep(1)
        await put(it, "2")
        await anyio.sleep(1)
        assert await record_outcomes(it) == (0, 1)


# --- Alerts ---


async def test_an_alert_is_not_lost_to_the_fault_that_it_tells_of(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: not_found()
        await put(it, "1", "2", "3", "4")
        await anyio.sleep(HOUR)
        assert await record_outcomes(it) == (1, 4), "the alert of the four"
        sink.behave = lambda _: None
        await anyio.sleep(11 * MINUTE)
        assert await record_outcomes(it) == (0, 4)
    assert set(alerts(sink.got)) == {"service.dead_letters"}
    assert len(alerts(sink.tried)) <= 80, "it is what the sink is probed with: every 15 s, then every minute"


async def test_an_alert_to_a_sink_that_never_worked_waits_until_it_does(path: Path, sink: FakeSink) -> None:
    sink.behave = lambda _: not_found()
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(HOUR)
        assert await record_outcomes(it) == (1, 1)
        sink.behave = lambda _: None
        await anyio.sleep(11 * MINUTE)
    assert alerts(sink.got) == ["service.dead_letters"]


async def test_an_alert_survives_a_restart_too_and_is_given_up_with_its_age(
    path: Path, sink: FakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "CHECK_EVERY_S", 600.0)  # or most of the time goes into looking
    sink.behave = lambda _: not_found()
    plan = DeliveryPlan(retry=RetryPolicy(max_age=timedelta(hours=5)))
    async with shop_harness(path, sinks=[sink], delivery=plan) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(2 * HOUR)
    async with shop_harness(path, sinks=[sink], delivery=plan) as it, it.delivering():
        await anyio.sleep(2.9 * HOUR)
        assert await record_outcomes(it) == (1, 1)
        await anyio.sleep(HOUR)
        assert await record_outcomes(it) == (0, 2)


@pytest.mark.parametrize("error", [refused(), refused(ErrorKind.GONE)])
async def test_an_alert_that_is_refused_for_good_is_not_kept(
    path: Path, sink: FakeSink, error: PermanentError
) -> None:
    sink.behave = lambda d: error if d.key.startswith("alert:") else not_found()
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1")
        await anyio.sleep(MINUTE)
    assert len(alerts(sink.tried)) == 1


# --- A receiver that does its work and redirects ---


async def test_a_redirect_ends_with_one_post_each(path: Path, sink: FakeSink) -> None:
    sink.behave = lambda _: see_other()
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "1", "2", "2")
        await anyio.sleep(HOUR)
        assert await record_outcomes(it) == (0, 4), "with the alert, which probably arrived"
    assert sorted(keys(sink.tried)) == ["1", "2", "2"]
    assert alerts(sink.tried) == ["service.dead_letters"]


@pytest.mark.parametrize("count", [1, 10])
async def test_a_redirect_of_a_sink_that_worked_ends_within_minutes(
    path: Path, sink: FakeSink, count: int
) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        await put(it, "before")
        await anyio.sleep(1)
        sink.behave = lambda _: see_other()
        await put(it, *map(str, range(count)))
        await anyio.sleep(10 * MINUTE)
        assert await record_outcomes(it) == (0, count + 1)
        posts = len(sink.tried)
        assert posts <= 14 + 2 * count
        await put(it, "late")
        await anyio.sleep(10 * MINUTE)
        assert keys(sink.tried[posts:]) == ["late"], "it is known by now what it does"


# --- A sink whose address leads to another server soon ---


async def test_a_sink_that_says_so_is_probed_soon_and_for_a_bounded_time(path: Path, sink: FakeSink) -> None:
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        sink.behave = lambda _: soon()
        await put(it, "1")
        await anyio.sleep(5 * MINUTE)
        assert 50 <= len(sink.tried) <= 65
        await anyio.sleep(5 * MINUTE + 10)
        many = len(sink.tried)
        await anyio.sleep(10 * MINUTE)
        assert len(sink.tried) - many <= 11, "once a minute again"
        sink.behave = lambda _: None
        await anyio.sleep(61)
        assert len(sink.got) == 1


async def test_other_failures_in_the_middle_of_a_switch_are_probed_soon_too(
    path: Path, sink: FakeSink
) -> None:
    failures: Iterator[ShopPollerError] = iter([soon()] * 3 + [down()] * 5)
    async with shop_harness(path, sinks=[sink]) as it, it.delivering():
        sink.behave = lambda _: next(failures, None)
        await put(it, "1")
        await anyio.sleep(40)
        assert len(sink.got) == 1
        sink.behave = lambda _: down()
        await put(it, "2")
        await anyio.sleep(10)
        tried = len(sink.tried)
        await anyio.sleep(45)
        assert len(sink.tried) == tried, "the switch is over"
