"""When the next tick is, and when polling counts as stopped."""

import math
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind
from shop_poller.core.schedule import (
    TRIGGER_GAP_S,
    PollTrigger,
    alert_due,
    ends_pause,
    next_tick,
    pause_s,
    stale,
    triggered_tick,
    unhealthy_reason,
)

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)

origins = st.floats(0.0, 1e9)
intervals = st.floats(1.0, 86_400.0)
elapsed = st.floats(0.0, 1e8)


# --- The grid ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (100.0, 160.0),
        (100.1, 160.0),
        (159.9, 160.0),
        # A tick that falls due right now is this one, not the next.
        (160.0, 220.0),
        # Slow: missed ticks are skipped, not made up for.
        (161.0, 220.0),
        (399.0, 400.0),
        (401.0, 460.0),
        (100.0 + 60 * 1440 + 1, 100.0 + 60 * 1441),
    ],
)
def test_the_next_tick_is_the_first_one_of_the_grid_after_now(now: float, expected: float) -> None:
    assert next_tick(100.0, 60.0, now) == expected


@pytest.mark.parametrize("interval", [1.0, 1.1, 7.3, 60.0, 0.1 + 0.2 + 1])
def test_a_day_of_ticks_does_not_drift(interval: float) -> None:
    origin, tick, ticks = 12_345.678, 12_345.678, 0
    while tick < origin + 86_400:
        tick = next_tick(origin, interval, tick)
        ticks += 1
        assert tick == pytest.approx(origin + ticks * interval, abs=1e-6)


@given(origins, intervals, elapsed)
def test_the_next_tick_is_always_ahead_on_the_grid_and_no_further_than_an_interval(
    origin: float, interval: float, since: float
) -> None:
    now = origin + since
    tick = next_tick(origin, interval, now)
    steps = (tick - origin) / interval

    assert tick > now
    assert tick - now <= interval * (1 + 1e-6)
    assert steps == pytest.approx(round(steps), abs=1e-6)


@given(origins, intervals, st.integers(0, 10**6))
def test_from_tick_to_tick_none_is_skipped_and_none_comes_twice(
    origin: float, interval: float, number: int
) -> None:
    tick = origin + number * interval

    assert next_tick(origin, interval, tick) == pytest.approx(origin + (number + 1) * interval, abs=1e-4)


# --- Staleness ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("interval_s", "age_s", "expected"),
    [
        # Five minutes, as long as three intervals are less.
        (60.0, 0, False),
        (60.0, 300, False),
        (60.0, 301, True),
        (1.0, 300, False),
        (1.0, 301, True),
        (100.0, 301, True),
        # Else three intervals.
        (101.0, 302, False),
        (101.0, 304, True),
        (3600.0, 10_800, False),
        (3600.0, 10_801, True),
        # Our clock was set back.
        (60.0, -9999, False),
    ],
)
def test_polling_is_stale_after_five_minutes_or_three_intervals(
    interval_s: float,
    age_s: int,
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert stale(NOW - timedelta(seconds=age_s), NOW, interval_s=interval_s) is expected


# --- Pauses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "requested_s", "expected"),
    [
        (ErrorKind.RATE_LIMIT, 20.0, 20.0),
        (ErrorKind.RATE_LIMIT, 600.0, 600.0),
        (ErrorKind.RATE_LIMIT, 1e9, 900.0),
        (ErrorKind.RATE_LIMIT, None, 60.0),
        (ErrorKind.RATE_LIMIT, 0.0, 0.0),
        # What WordPress says during every update.
        (ErrorKind.UNAVAILABLE, 600.0, 60.0),
        (ErrorKind.UNAVAILABLE, 5.0, 5.0),
        (ErrorKind.UNAVAILABLE, None, 0.0),
        # A 500 or 408 with Retry-After.
        (ErrorKind.SERVER, 3600.0, 60.0),
        (ErrorKind.TIMEOUT, 120.0, 60.0),
    ],
)
def test_only_too_many_requests_is_left_alone_for_longer_than_a_minute(
    kind: ErrorKind, requested_s: float | None, expected: float
) -> None:
    assert pause_s(kind, requested_s) == expected


@pytest.mark.parametrize("kind", ErrorKind)
def test_the_owner_ends_every_pause_and_a_webhook_only_that_of_a_shop_that_was_down(kind: ErrorKind) -> None:
    assert ends_pause(PollTrigger.OWNER, kind)
    assert ends_pause(PollTrigger.WEBHOOK, kind) is (kind is ErrorKind.UNAVAILABLE)


@pytest.mark.parametrize(
    ("kind", "attempt_s", "expected"),
    [
        (ErrorKind.UNAVAILABLE, 0, False),
        (ErrorKind.UNAVAILABLE, 300, False),  # asked before polling was stale, however long ago that is now
        (ErrorKind.UNAVAILABLE, 300.001, True),
        (ErrorKind.CONNECTION, 299, False),
        (ErrorKind.STORE, 301, True),
        (ErrorKind.INTERNAL, 301, True),
        (ErrorKind.RATE_LIMIT, 301, True),
        (ErrorKind.AUTHENTICATION, 0, True),
        (ErrorKind.UNAVAILABLE, -9999, False),  # our clock was set back
    ],
)
def test_an_alert_needs_a_request_that_was_sent_when_polling_was_stale(
    kind: ErrorKind,
    attempt_s: float,
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    attempted_at = NOW + timedelta(seconds=attempt_s)

    assert alert_due(kind, attempted_at=attempted_at, last_good=NOW, interval_s=60) is expected


@given(st.sampled_from(ErrorKind), st.floats(0, 86_400), st.floats(1, 7200))
def test_no_alert_but_of_keys_comes_before_healthz_turns_bad(
    kind: ErrorKind, attempt_s: float, interval_s: float
) -> None:
    attempted_at = NOW + timedelta(seconds=attempt_s)
    if alert_due(kind, attempted_at=attempted_at, last_good=NOW, interval_s=interval_s):
        is_stale = stale(NOW, attempted_at, interval_s=interval_s)
        assert is_stale or kind is ErrorKind.AUTHENTICATION


# --- Health, which is judged by it --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("polling", "age_s", "senders", "expected"),
    [
        (True, 0, 8, None),
        (True, 300, 1, None),
        (True, 301, 8, "Polling not running"),
        (True, 301, 0, "Polling not running"),
        (True, 0, 0, "No active workers"),
        (False, 0, 8, None),
        (False, 10**6, 8, None),
        (False, 10**6, 0, "No active workers"),
    ],
)
def test_health_in_the_words_of_the_celery_design(
    polling: bool,  # noqa: FBT001 - a column of the table
    age_s: int,
    senders: int,
    expected: str | None,
) -> None:
    reason = unhealthy_reason(
        polling=polling,
        heartbeat_at=NOW - timedelta(seconds=age_s),
        now=NOW,
        interval_s=60.0,
        senders_alive=senders,
    )

    assert reason == expected


# --- Hints -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("last", "ready", "expected"),
    [
        (0.0, 30.0, 30.0),  # at once
        (0.0, 0.0, 1.0),  # as soon as a second is over
        (0.0, 0.4, 1.0),
        (-math.inf, 30.0, 30.0),
        (0.0, 59.0, 59.0),
        (0.0, 59.1, 60.0),  # the grid's own comes within a second
        (58.5, 58.6, 60.0),
        (0.0, 75.0, 60.0),  # the shop is left alone for longer: the grid's tick deals with that
    ],
)
def test_a_trigger_is_a_tick_at_once_unless_it_comes_too_close_to_another(
    last: float, ready: float, expected: float
) -> None:
    assert triggered_tick(last, 60.0, ready) == expected


@given(st.floats(0, 1e6), st.floats(1, 86_400), st.floats(0, 86_400))
def test_a_trigger_makes_no_two_ticks_within_a_second_and_puts_none_off(
    last: float, until_grid: float, waited: float
) -> None:
    grid, ready = last + until_grid, last + min(waited, until_grid)
    tick = triggered_tick(last, grid, ready)

    assert tick >= last + TRIGGER_GAP_S or tick == grid
    assert tick <= grid - TRIGGER_GAP_S or tick == grid
    assert ready <= tick <= grid
    assert tick <= max(ready, last + TRIGGER_GAP_S) + TRIGGER_GAP_S or tick == ready
