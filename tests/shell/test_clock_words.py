"""A clock that is wrong is said: on the page, in `status`, and in `/healthz`; and no age is negative."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shop_poller.cli.status import Status, render
from shop_poller.core.clocks import ClockFault, ClockTrouble, Whose
from shop_poller.core.messages import Locale
from shop_poller.ports import FinishedDelivery, ShopState, SinkStats, Stats
from shop_poller.web.page import status_page
from shop_poller.web.snapshot import SinkSnapshot, StatusSnapshot
from shop_poller.web.troubles import troubles
from shop_poller.web.view_context import ViewContext

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAYS = timedelta(days=1)
FINE = ShopState(started_at=NOW - DAYS, last_poll_at=NOW, baseline_at=NOW - DAYS)
SNAPSHOT = StatusSnapshot("shop.example", "1", NOW, polling=True, leads=True, state=FINE)
OVER = FinishedDelivery(1, "crm", "7", "id", "shop.order.new", 0, NOW + 2 * DAYS)
OF_THE_FUTURE = [
    replace(SNAPSHOT, state=replace(FINE, last_poll_at=NOW + 2 * DAYS)),
    replace(SNAPSHOT, sinks=[SinkSnapshot("crm", SinkStats(1, NOW + 2 * DAYS))]),
    replace(SNAPSHOT, dead=[OVER]),
]


@pytest.mark.parametrize("snapshot", OF_THE_FUTURE, ids=["poll", "outbox", "dead letter"])
@pytest.mark.parametrize("in_redis", [False, True])
def test_what_is_of_the_future_is_trouble_with_the_clock(snapshot: StatusSnapshot, *, in_redis: bool) -> None:
    found = troubles(replace(snapshot, in_redis=in_redis))
    whose = "the clock of Redis" if in_redis else "our clock"
    clock = next(one for one in found if one.about == "clock")
    assert (clock.kind, clock.grave) == (f"{whose}: set back", True)
    assert clock.section.endswith("#shoppollerclock")


def test_a_few_seconds_are_no_trouble() -> None:
    assert troubles(replace(SNAPSHOT, state=replace(FINE, last_poll_at=NOW + timedelta(seconds=30)))) == []


@pytest.mark.parametrize("locale", ["en", "ru"])
@pytest.mark.parametrize("whose", list(Whose))
@pytest.mark.parametrize("fault", list(ClockFault))
def test_each_has_its_words(locale: Locale, whose: Whose, fault: ClockFault) -> None:
    snapshot = replace(SNAPSHOT, clock=ClockTrouble(whose, fault, 172_800.0))
    page = status_page(snapshot, ViewContext(locale))
    assert ("2 d" if locale == "en" else "2 дн.") in page
    assert "NTP" in page
    assert ("All is well" if locale == "en" else "Всё в порядке") not in page


@pytest.mark.parametrize("locale", ["en", "ru"])
def test_a_time_to_come_is_not_so_long_ago(locale: Locale) -> None:
    page = status_page(OF_THE_FUTURE[0], ViewContext(locale))
    assert ("2 d in the future" if locale == "en" else "в будущем, через 2 дн.") in page
    assert "-" + "172" not in page


def status_of(state: ShopState, **what: SinkStats) -> Status:
    return Status("shop.example", state, Stats(sinks=what), {}, {}, [], [], [], now=NOW)


@pytest.mark.parametrize(
    "found",
    [
        status_of(replace(FINE, last_poll_at=NOW + 2 * DAYS)),
        status_of(FINE, crm=SinkStats(1, NOW + 2 * DAYS)),
        replace(status_of(FINE), delivered=[OVER]),
        replace(status_of(FINE), dead=[OVER]),
    ],
    ids=["poll", "outbox", "delivered", "dead letter"],
)
def test_status_says_so(found: Status) -> None:
    words = (
        "the state holds times 2 days in the future: our clock was set back, or is behind; set both by NTP"
    )
    assert f"clock       {words}" in render(found, NOW)
    assert found.as_dict()["clock"] == words
    assert any("(2 days in the future)" in line for line in render(found, NOW))
    assert not any("(-" in line for line in render(found, NOW))


def test_status_shows_until_when_it_is_quiet() -> None:
    until = datetime(2026, 11, 24, 8, 0, tzinfo=ZoneInfo("Europe/Moscow"))
    found = replace(status_of(FINE), quiet_until={"boss": until})
    assert "quiet       boss: until 2026-11-24 08:00" in render(found, NOW)
    assert found.as_dict()["quiet_until"] == {"boss": "2026-11-24T05:00:00.000Z"}
    assert not any(line.startswith("quiet") for line in render(status_of(FINE), NOW))


def test_status_says_nothing_of_a_clock_that_is_right() -> None:
    found = status_of(FINE)
    assert "clock" not in found.as_dict()
    assert not any(line.startswith("clock") for line in render(found, NOW))
