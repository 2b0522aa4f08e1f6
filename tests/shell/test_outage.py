"""An alert names the cause of the outage that it is about, whatever failed before, or failed beside it."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.alerts import stored_failure
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.model import Query
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.ports import PollFailure
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.shop_harness import SHOP, FakeShop, FakeSink, ShopHarness, down, refused, shop_harness
from support.virtual_time import EPOCH

pytestmark = pytest.mark.anyio

HOUR = 3600.0
PLAN = PollPlan(SHOP, MEANINGS, sweep_every=timedelta(hours=1))
UNHEALTHY, RECOVERED = "service.unhealthy", "service.recovered"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def told(sink: FakeSink) -> list[tuple[str, str, str]]:
    """The alerts about the shop: event, cause, since when."""
    bodies = [json.loads(delivery.body) for _, delivery in sink.got if delivery.key == f"alert:{SHOP}"]
    return [(one["event_type"], one["data"]["error_type"], one["data"]["since"][11:19]) for one in bodies]


async def keys_refused_once(it: ShopHarness) -> None:
    """An outage of its own, at two minutes; it is over at three."""
    await anyio.sleep(61)
    it.shop.troubles.append(refused(ErrorKind.AUTHENTICATION))
    await anyio.sleep(120)
    assert told(it.sinks[0]) == [
        (UNHEALTHY, "AuthenticationError", "09:01:00"),
        (RECOVERED, "AuthenticationError", "09:01:00"),
    ]
    it.sinks[0].got.clear()


def for_sweeps(it: ShopHarness, trouble: ShopPollerError) -> None:
    """Questions of sweeps fail like that; all others are answered."""
    fetch = it.shop.fetch

    async def choosy(query: Query) -> object:
        page = await fetch(query)
        if query.ids or query.created_after:
            raise trouble
        return page

    it.shop.fetch = choosy  # type: ignore[method-assign, assignment]


@pytest.mark.parametrize(
    "trouble",
    [
        down(ErrorKind.UNAVAILABLE, retry_after_s=600),
        down(ErrorKind.RATE_LIMIT, retry_after_s=900),
        down(ErrorKind.RATE_LIMIT),
        down(ErrorKind.CONNECTION),
        down(ErrorKind.TIMEOUT, retry_after_s=900),
        refused(ErrorKind.AUTHENTICATION),
    ],
    ids=str,
)
async def test_a_sweep_that_fails_alerts_of_nothing_and_of_no_older_cause(
    path: Path, trouble: ShopPollerError
) -> None:
    async with shop_harness(path, plan=PLAN) as it, it.running():
        await keys_refused_once(it)
        for_sweeps(it, trouble)
        await anyio.sleep(3 * HOUR)
        assert told(it.sinks[0]) == []
        assert it.poller.failure is None


async def test_what_fails_after_the_pause_of_a_sweep_is_the_cause(path: Path) -> None:
    async with shop_harness(path, plan=PLAN) as it, it.running():
        await keys_refused_once(it)
        for_sweeps(it, down(ErrorKind.RATE_LIMIT, retry_after_s=900))
        await anyio.sleep(HOUR - 181 + 60)  # the sweep at one hour; not asked until 900 s later
        it.shop.down = down(ErrorKind.CONNECTION)
        await anyio.sleep(780)
        assert told(it.sinks[0]) == []
        await anyio.sleep(180)
        assert told(it.sinks[0]) == [(UNHEALTHY, "ConnectionError", "10:00:00")]


async def test_an_import_that_fails_between_polls_alerts_of_nothing(path: Path) -> None:
    async with shop_harness(path) as it:
        for order_id in range(1, 2501):
            it.shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
        await it.tick()
        assert it.state_writer.state.import_position is not None

        async def choosy(query: Query) -> None:
            if query.statuses:
                raise down(ErrorKind.UNAVAILABLE, retry_after_s=900)

        it.shop.before = choosy
        async with it.running():
            await keys_refused_once(it)
            await anyio.sleep(HOUR)
            assert told(it.sinks[0]) == []


@pytest.mark.parametrize("kind", [ErrorKind.UNAVAILABLE, ErrorKind.CONNECTION, ErrorKind.PROTOCOL])
async def test_a_later_outage_has_its_own_cause_and_its_own_beginning(path: Path, kind: ErrorKind) -> None:
    async with shop_harness(path) as it, it.running():
        await keys_refused_once(it)
        await anyio.sleep(HOUR - 181 + 1)
        it.shop.down = down(kind)
        await anyio.sleep(600)
        it.shop.down = None
        await anyio.sleep(120)
        assert told(it.sinks[0]) == [(UNHEALTHY, kind, "10:00:00"), (RECOVERED, kind, "10:00:00")]


async def test_an_outage_that_changes_is_named_as_it_is_when_it_is_told(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        it.shop.down = down(ErrorKind.CONNECTION)
        await anyio.sleep(180)
        it.shop.down = down(ErrorKind.UNAVAILABLE, retry_after_s=600)
        await anyio.sleep(240)
        assert told(it.sinks[0]) == [(UNHEALTHY, "UnavailableError", "09:01:00")]


async def test_the_circuit_is_never_the_cause(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=5)) as it, it.running():
        await anyio.sleep(6)
        it.shop.down = down(ErrorKind.SERVER)
        await anyio.sleep(400)
        assert it.value("shop_breaker_open", peer=SHOP) == 1
        assert told(it.sinks[0]) == [(UNHEALTHY, "ServerError", "09:00:05")]


async def test_a_bug_is_the_cause_of_its_own_outage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with shop_harness(path) as it, it.running():
        await keys_refused_once(it)

        async def bug(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(it.shop, "fetch", bug)
        await anyio.sleep(400)
        assert told(it.sinks[0]) == [(UNHEALTHY, "InternalError", "09:03:00")]


async def test_a_start_in_the_middle_of_an_outage_names_what_fails_then(path: Path) -> None:
    shop, sink = FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(61)
        shop.down = down(ErrorKind.CONNECTION)
        await anyio.sleep(120)
    await anyio.sleep(HOUR)
    shop.down = down(ErrorKind.UNAVAILABLE, retry_after_s=600)
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(1)
        assert told(sink) == [(UNHEALTHY, "UnavailableError", "09:01:00")], "since the last good poll"
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(HOUR)
        assert len(told(sink)) == 1


async def test_a_shop_that_never_answered_is_down_since_the_start(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        it.shop.down = down(ErrorKind.UNAVAILABLE, retry_after_s=600)
        await anyio.sleep(420)
        assert told(it.sinks[0]) == [(UNHEALTHY, "UnavailableError", "09:00:00")]


def break_store(it: ShopHarness, monkeypatch: pytest.MonkeyPatch, *names: str) -> list[bool]:
    """A store that fails in these while the list is not empty."""
    fails: list[bool] = []

    def guarded(real: Any) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            if fails:
                raise TemporaryError(ErrorKind.STORE, "disk full")
            return await real(*args, **kwargs)

        return call

    for name in names:
        monkeypatch.setattr(it.store, name, guarded(getattr(it.store, name)))
    return fails


async def test_an_alert_that_could_not_be_stored_names_what_fails_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        fails = break_store(it, monkeypatch, "raise_alert")
        fails.append(True)
        it.shop.troubles.append(refused(ErrorKind.AUTHENTICATION))
        it.shop.down = down(ErrorKind.CONNECTION)
        await anyio.sleep(540)
        assert told(it.sinks[0]) == []
        fails.clear()
        await anyio.sleep(60)
        assert told(it.sinks[0]) == [(UNHEALTHY, "ConnectionError", "09:01:00")]


async def test_an_alert_that_could_not_be_stored_is_stored_while_the_shop_asks_for_time(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        fails = break_store(it, monkeypatch, "raise_alert")
        fails.append(True)
        it.shop.down = down(ErrorKind.RATE_LIMIT, retry_after_s=900)
        with capture_logs() as log:
            await anyio.sleep(990)  # asked at 120 and at 1020, when it was stale
        assert it.shop.requested[-1][0] == 1020
        assert it.value("shop_store_errors_total", use="alert") == 1
        assert [line["event"] for line in log].count("an alert could not be stored") == 1
        fails.clear()
        await anyio.sleep(90)
        assert it.shop.requested[-1][0] == 1020
        assert told(it.sinks[0]) == [(UNHEALTHY, "RateLimitError", "09:01:00")]


async def test_each_outage_of_the_store_in_which_an_alert_could_not_be_stored_is_logged(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        fails = break_store(it, monkeypatch, "raise_alert")
        for logged in (1, 2):
            with capture_logs() as log:
                it.shop.down = down(ErrorKind.CONNECTION)
                fails.append(True)
                await anyio.sleep(600)
                fails.clear()
                await anyio.sleep(120)  # the alert is stored
                it.shop.down = None
                await anyio.sleep(120)
            assert [line["event"] for line in log].count("an alert could not be stored") == 1, logged


async def test_a_full_disk_is_told_as_one_when_it_is_over(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        await keys_refused_once(it)
        fails = break_store(it, monkeypatch, "commit", "raise_alert")
        fails.append(True)
        await anyio.sleep(600)
        fails.clear()
        await anyio.sleep(60)
        assert told(it.sinks[0]) == [
            (UNHEALTHY, "StoreError", "09:03:00"),
            (RECOVERED, "StoreError", "09:03:00"),
        ]


async def test_a_tick_after_which_the_sweep_fails_counts_as_good(path: Path) -> None:
    async with shop_harness(path, plan=PLAN) as it:
        await it.tick()
        for_sweeps(it, down(ErrorKind.UNAVAILABLE, retry_after_s=600))
        await it.poller.between_ticks(TickReport(), anyio.current_time() + 60)
        assert it.poller.failure is None


async def _failure(it: ShopHarness) -> PollFailure | None:
    return stored_failure(await it.store.alerts(SHOP))


async def test_why_polls_fail_is_stored_until_one_succeeds(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        assert await _failure(it) is None
        it.shop.down = down(ErrorKind.UNAVAILABLE)
        await anyio.sleep(120)
        first = await _failure(it)
        assert first is not None
        assert (first.kind, first.text) == (ErrorKind.UNAVAILABLE, it.shop.down.text)
        it.shop.down = down(ErrorKind.TIMEOUT)
        await anyio.sleep(120)
        assert await _failure(it) == PollFailure(ErrorKind.TIMEOUT, it.shop.down.text, first.since)
        assert told(it.sinks[0]) == [], "it is no alert"
        it.shop.down = None
        await anyio.sleep(120)
        assert await it.store.alerts(SHOP) == {}


async def test_why_polls_fail_outlasts_a_restart(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        it.shop.down = down(ErrorKind.UNAVAILABLE)
        await anyio.sleep(120)
        before = await _failure(it)
    assert before is not None
    async with shop_harness(path) as it, it.running():
        it.shop.down = down(ErrorKind.UNAVAILABLE)
        await anyio.sleep(120)
        assert await _failure(it) == before
        it.shop.down = None
        await anyio.sleep(120)
        assert await _failure(it) is None


async def test_why_polls_fail_is_stored_later_if_the_store_fails_meanwhile(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(61)
        fails = break_store(it, monkeypatch, "raise_alert")
        fails.append(True)
        it.shop.down = down(ErrorKind.UNAVAILABLE)
        await anyio.sleep(180)
        assert await _failure(it) is None
        fails.clear()
        await anyio.sleep(60)
        failure = await _failure(it)
        assert failure is not None
        assert failure.kind is ErrorKind.UNAVAILABLE
