"""Alerts about sinks that are dead for long, dead letters, and a store that cannot record; virtual time."""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery
from shop_poller.ports import MoveToDeadLetters, Outcome
from support.shop_harness import SHOP, FakeSink, down, put, refused, shop_harness
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

MINUTE = 60.0
HOUR = 3600.0


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def told(sink: FakeSink) -> list[str]:
    """The alerts that a sink got."""
    return [str(d.event_type) for _, d in sink.got if d.key.startswith("alert:")]


def bodies(sink: FakeSink) -> list[dict[str, Any]]:
    return [json.loads(d.body) for _, d in sink.got if d.key.startswith("alert:")]


def pair(behave: Any) -> tuple[FakeSink, FakeSink]:
    return FakeSink("ill", behave=behave), FakeSink("well")


# --- A sink that is dead for long ---


async def test_a_sink_that_is_down_for_long_is_told_to_the_others_once_and_so_is_its_end(path: Path) -> None:
    ill, well = pair(lambda _: down())
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        await anyio.sleep(9 * MINUTE)
        assert told(well) == []
        await anyio.sleep(3 * MINUTE)
        assert told(well) == ["service.unhealthy"]
        await anyio.sleep(2 * HOUR)
        assert told(well) == ["service.unhealthy"]
        ill.behave = lambda _: None
        await anyio.sleep(3 * MINUTE)
    assert told(well) == ["service.unhealthy", "service.recovered"]
    assert told(ill) == []
    first, second = (body["data"] for body in bodies(well))
    assert (first["service_name"], first["error_type"]) == ("ill", "ConnectionError")
    assert first["since"] == second["since"]


async def test_a_sink_that_takes_nothing_is_dead_even_if_each_failure_is_a_deliverys_own(path: Path) -> None:
    ill, well = pair(lambda _: down(ErrorKind.SERVER))
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")  # one row alone never opens the circuit
        await anyio.sleep(30 * MINUTE)
        assert told(well) == ["service.unhealthy"]


async def test_a_sink_that_chokes_on_one_row_and_takes_others_is_not_dead(path: Path) -> None:
    ill, well = pair(lambda d: down(ErrorKind.SERVER) if d.key == "1" else None)
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        for n in range(30):
            await put(it, f"9{n}", sink="ill")
            await anyio.sleep(MINUTE)
    assert told(well) == []


async def test_a_short_outage_is_not_told(path: Path) -> None:
    ill, well = pair(lambda _: down())
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        await anyio.sleep(8 * MINUTE)
        ill.behave = lambda _: None
        await anyio.sleep(HOUR)
    assert told(well) == []
    assert len(ill.got) == 1


async def test_a_restart_repeats_no_alert_and_still_tells_the_end(path: Path) -> None:
    ill, well = pair(lambda _: down())
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        await anyio.sleep(HOUR)
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await anyio.sleep(HOUR)
        assert told(well) == ["service.unhealthy"]
        ill.behave = lambda _: None
        await anyio.sleep(3 * MINUTE)
    assert told(well) == ["service.unhealthy", "service.recovered"]


# --- Dead letters ---


def no_orders(delivery: Delivery) -> Any:
    return None if delivery.key.startswith("alert:") else refused()


async def test_the_first_dead_letter_is_told_at_once_and_the_rest_in_one_summary(path: Path) -> None:
    ill, well = pair(no_orders)
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        await anyio.sleep(1)
        assert told(well) == ["service.dead_letters"]
        for n in range(2, 12):
            await put(it, str(n), sink="ill")
            await anyio.sleep(MINUTE)
        assert told(well) == ["service.dead_letters"]
        await anyio.sleep(HOUR)
        assert [body["data"]["count"] for body in bodies(well)] == [1, 10]
        await anyio.sleep(2 * HOUR)
        assert len(told(well)) == 2, "nothing new is no news"
        await put(it, "99", sink="ill")
        await anyio.sleep(1)
    assert [body["data"]["count"] for body in bodies(well)] == [1, 10, 1]
    assert "made up: RejectedError" in bodies(well)[0]["message"]
    assert bodies(well)[0]["level"] == "error"
    assert len({body["event_id"] for body in bodies(well)}) == 3


async def test_an_alert_that_is_dead_lettered_itself_raises_none(path: Path) -> None:
    ill, well = FakeSink("ill", behave=lambda _: refused()), FakeSink("well", behave=lambda _: refused())
    async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
        await put(it, "1", sink="ill")
        await anyio.sleep(2.1 * HOUR)
        assert [d.event_type for _, d in well.tried] == ["service.dead_letters"]
    assert [d.key for _, d in ill.tried] == ["1"]


async def test_a_sink_that_is_the_only_one_is_alerted_about_its_own_dead_letters(path: Path) -> None:
    only = FakeSink("only", behave=no_orders)
    async with shop_harness(path, sinks=[only]) as it, it.delivering():
        await put(it, "1", sink="only")
        await anyio.sleep(1)
    assert told(only) == ["service.dead_letters"]


async def test_a_restart_repeats_no_dead_letters_and_tells_those_that_were_not(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill, well = pair(no_orders)
    async with shop_harness(path, sinks=[ill, well]) as it:

        async def full_disk(*_: Any) -> None:
            raise TemporaryError(ErrorKind.STORE, "disk full")

        monkeypatch.setattr(it.store, "raise_alert", full_disk)
        async with it.delivering():
            await put(it, "1", sink="ill")
            await anyio.sleep(10)
    assert told(well) == []
    for _ in range(3):
        async with shop_harness(path, sinks=[ill, well]) as it, it.delivering():
            await anyio.sleep(1.1 * HOUR)
    assert told(well) == ["service.dead_letters"]


async def test_deliveries_go_on_while_alerts_cannot_be_stored(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill, well = pair(lambda d: refused() if d.key == "1" else None)
    async with shop_harness(path, sinks=[ill, well]) as it:

        async def full_disk(*_: Any) -> None:
            raise TemporaryError(ErrorKind.STORE, "disk full")

        monkeypatch.setattr(it.store, "raise_alert", full_disk)
        async with it.delivering():
            await put(it, "1", sink="ill")
            await anyio.sleep(10)
            await put(it, "2", sink="ill")
            await anyio.sleep(10)
            assert [d.key for _, d in ill.got] == ["2"]
            monkeypatch.undo()
            await anyio.sleep(20)
    assert told(well) == ["service.dead_letters"]


async def test_an_alert_that_was_stored_although_the_store_says_that_it_failed_is_told_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ill, well = pair(no_orders)
    async with shop_harness(path, sinks=[ill, well]) as it:
        store_alert, is_lost = it.store.raise_alert, True

        async def answer_lost(*args: Any) -> None:
            nonlocal is_lost
            await store_alert(*args)
            if is_lost:
                is_lost = False
                await anyio.sleep(1)
                await put(it, "2", sink="ill")  # a second dead letter comes before it is tried again
                (second,) = await it.store.claim("ill", now=virtual_now(), limit=9)
                await it.store.record_outcomes([MoveToDeadLetters(second, "made up")], virtual_now())
                raise TemporaryError(ErrorKind.STORE, "disk error, after all was written")

        monkeypatch.setattr(it.store, "raise_alert", answer_lost)
        async with it.delivering():
            await put(it, "1", sink="ill")
            await anyio.sleep(50 * MINUTE)
            assert not is_lost
            assert [body["data"]["count"] for body in bodies(well)] == [1]
            await anyio.sleep(HOUR)
    assert [body["data"]["count"] for body in bodies(well)] == [1, 1]
    assert len({body["event_id"] for body in bodies(well)}) == 2


# --- The store ---


async def test_an_alert_that_could_not_be_stored_keeps_its_beginning(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the same outage, though it may have another cause by now."""
    async with shop_harness(path) as it:
        raise_alert, fails, began = it.store.raise_alert, [down(ErrorKind.STORE)], virtual_now()

        async def full(*args: Any) -> None:
            if fails:
                raise fails.pop()
            await raise_alert(*args)

        monkeypatch.setattr(it.store, "raise_alert", full)
        with pytest.raises(TemporaryError):
            await it.alert_manager.raise_for("crm", cause=ErrorKind.CONNECTION, since=began)
        await anyio.sleep(MINUTE)
        await it.alert_manager.raise_for("crm", cause=ErrorKind.TIMEOUT, since=virtual_now())
        alert = (await it.store.alerts(SHOP))["crm"]
    assert (alert.cause, alert.since) == (ErrorKind.TIMEOUT, began)


async def test_a_stored_alert_has_the_cause_of_today_and_is_not_sent_again(path: Path) -> None:
    """`status` reads it: a shop that was unreachable may refuse its keys by now."""
    async with shop_harness(path) as it:
        began = virtual_now()
        causes = [ErrorKind.CONNECTION, ErrorKind.AUTHENTICATION, ErrorKind.AUTHENTICATION, ErrorKind.STORE]
        for cause in causes:
            await it.alert_manager.raise_for("crm", cause=cause, since=virtual_now())
            await anyio.sleep(MINUTE)
        alert = (await it.store.alerts(SHOP))["crm"]
        assert (alert.cause, alert.since) == (ErrorKind.AUTHENTICATION, began)
        waiting = await it.store.claim("sink", now=virtual_now(), limit=9)
        assert [row.event_type for row in waiting] == ["service.unhealthy"]


async def test_the_shops_alert_may_be_over_before_the_record_is_known_to_work(path: Path) -> None:
    async with shop_harness(path) as it:
        it.alert_manager.cannot_record()
        began = virtual_now()
        await anyio.sleep(10 * MINUTE)
        it.alert_manager.remember_unstored(SHOP, cause=ErrorKind.STORE, since=began)
        await it.alert_manager.clear(SHOP)
        await it.alert_manager.can_record()
        await it.deliver()
    assert {body["data"]["service_name"] for body in bodies(it.sinks[0])} == {SHOP}


@pytest.mark.parametrize(("minutes", "alerts"), [(4, []), (6, ["service.unhealthy", "service.recovered"])])
async def test_a_store_that_could_not_record_for_long_is_told_when_it_can(
    path: Path, monkeypatch: pytest.MonkeyPatch, minutes: int, alerts: list[str]
) -> None:
    sinks = [FakeSink("a"), FakeSink("b")]
    async with shop_harness(path, sinks=sinks) as it, it.delivering():
        record_outcomes, fails = it.store.record_outcomes, [True]

        async def full(outcomes: list[Outcome], now: datetime) -> None:
            if fails:
                raise TemporaryError(ErrorKind.STORE, "disk full")
            await record_outcomes(outcomes, now)

        monkeypatch.setattr(it.store, "record_outcomes", full)
        await anyio.sleep(HOUR)  # how long we run does not count
        await put(it, "1", sink="a")
        await put(it, "1", sink="b")
        await anyio.sleep(minutes * MINUTE)
        fails.clear()
        await anyio.sleep(HOUR)
    assert [told(sink) for sink in sinks] == [alerts, alerts]
    for body in bodies(sinks[0]):
        assert body["data"]["error_type"] == "StoreError"
        assert body["data"]["service_name"] == "shop-poller:state"


async def test_one_outage_of_the_store_is_one_alert_while_the_shop_is_polled(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with shop_harness(path) as it, it.running():
        record_outcomes, commit, fails = it.store.record_outcomes, it.store.commit, list[bool]()

        async def guarded(real: Any, *args: Any) -> None:
            if fails:
                raise TemporaryError(ErrorKind.STORE, "disk full")
            await real(*args)

        raise_alert = it.store.raise_alert
        monkeypatch.setattr(it.store, "record_outcomes", lambda *args: guarded(record_outcomes, *args))
        monkeypatch.setattr(it.store, "commit", lambda *args: guarded(commit, *args))
        monkeypatch.setattr(it.store, "raise_alert", lambda *args: guarded(raise_alert, *args))
        await anyio.sleep(2 * MINUTE)
        await put(it, "1", sink="sink")
        fails.append(True)
        await anyio.sleep(15 * MINUTE)
        fails.clear()
        await anyio.sleep(10 * MINUTE)
    assert told(it.sinks[0]) == ["service.unhealthy", "service.recovered"]
    assert {body["data"]["service_name"] for body in bodies(it.sinks[0])} == {SHOP}
