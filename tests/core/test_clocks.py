"""Three clocks compared: what is believed of ours after it, or the shop's, was set."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.clocks import (
    AGREE,
    REREAD_S,
    STEADY_S,
    STEP,
    ClockFault,
    Clocks,
    ClockTrouble,
    Whose,
    described,
    trouble,
)

T0 = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEARS = timedelta(days=3650)
jumps = pytest.mark.parametrize(
    "jump", [sign * by for by in (timedelta(minutes=2), HOUR, 2 * DAY, YEARS) for sign in (1, -1)], ids=str
)


def after(clocks: Clocks, seconds: float, *, step: timedelta = timedelta(0)) -> Clocks:
    """A look at our clock so much later, having been set by a step meanwhile."""
    ours = clocks.ours + timedelta(seconds=seconds) + step
    known, measured = clocks.read(ours, clocks.at + seconds)
    assert measured == (step if abs(step) > STEP else timedelta(0))
    return known


@given(st.lists(st.floats(0.001, 3600), min_size=1, max_size=20))
def test_a_clock_that_runs_is_never_set(waits: list[float]) -> None:
    known = Clocks(T0, 0.0)
    for wait_s in waits:
        known = after(known, wait_s, step=timedelta(seconds=min(wait_s / 2000, 1)))  # it is slewed
    assert (known.set_back, known.stepped) == (0, timedelta(0))


@jumps
def test_a_step_ages_nothing_until_the_age_has_passed_since(jump: timedelta) -> None:
    known = after(after(Clocks(T0, 0.0), 60), 60, step=jump)
    assert known.set_back == (jump < timedelta(0))
    assert timedelta(0) <= known.age(T0 - HOUR) <= timedelta(0)
    assert known.ages_before(72 * HOUR) is None
    later = after(known, 72 * 3600)
    head_before = later.ages_before(72 * HOUR)
    assert head_before == known.ours, "what was there before the step is surely so old by now"


def test_all_steps_are_summed_up() -> None:
    """By that much times from before them are corrected."""
    known = after(after(after(Clocks(T0, 0.0), 8, step=HOUR), 8, step=HOUR), 8, step=-DAY)
    assert known.stepped == 2 * HOUR - DAY


@jumps
def test_a_step_that_is_taken_back_changes_no_age_for_good(jump: timedelta) -> None:
    known = after(after(Clocks(T0, 0.0), 8, step=jump), 8, step=-jump)
    later = after(known, 72 * 3600)
    assert later.stepped == timedelta(0)
    assert later.age(T0) == timedelta(hours=72)


def test_an_age_is_never_negative() -> None:
    assert Clocks(T0, 0.0).age(T0 + YEARS) == timedelta(0)


@pytest.mark.parametrize("ahead", [2 * DAY, YEARS], ids=str)
def test_of_two_clocks_the_one_that_is_behind_counts(ahead: timedelta) -> None:
    ours_ahead = Clocks(T0 + ahead, 0.0).with_shop_time(T0, 0.0)
    shops_ahead = Clocks(T0, 0.0).with_shop_time(T0 + ahead, 0.0)
    for known in (ours_ahead, shops_ahead):
        assert known.age(T0 - HOUR) == HOUR
        assert known.ages_before(72 * HOUR) == T0 - 72 * HOUR
        assert known.days_at is None


def test_days_are_counted_by_clocks_that_agree() -> None:
    assert Clocks(T0, 0.0).days_at is None, "the shop did not tell the time"
    known = Clocks(T0, 0.0).with_shop_time(T0 - HOUR, 0.0)
    assert known.days_at == T0 - HOUR
    assert after(known, 7200).days_at == T0 + HOUR


@pytest.mark.parametrize("gap", [9 * DAY, 400 * DAY, YEARS, -HOUR, -400 * DAY], ids=str)
def test_after_a_start_at_an_unusual_time_days_are_counted_only_after_a_steady_one(gap: timedelta) -> None:
    """Both clocks may be of one machine, so that the shop's agrees with ours."""
    known = Clocks(T0, 0.0).begun(polled_at=T0 - gap, earliest=None).with_shop_time(T0, 0.0)
    assert known.days_at is None
    assert after(known, STEADY_S - 1).days_at is None
    assert after(known, STEADY_S).days_at == T0 + timedelta(seconds=STEADY_S)


@pytest.mark.parametrize("step", [2 * DAY, -2 * DAY, 400 * DAY], ids=str)
def test_after_a_step_of_days_they_are_counted_only_after_a_steady_one(step: timedelta) -> None:
    known = after(Clocks(T0, 0.0).with_shop_time(T0, 0.0), 60, step=step)
    both = known.with_shop_time(known.ours, known.at)  # it is one machine's
    assert both.days_at is None
    assert after(both, STEADY_S).days_at is not None


@pytest.mark.parametrize("step", [2 * DAY, -2 * DAY], ids=str)
def test_a_step_of_days_counts_although_the_shop_had_not_told_the_time_before(step: timedelta) -> None:
    known = after(Clocks(T0, 0.0), 60, step=step)
    both = known.with_shop_time(known.ours, known.at)
    assert both.days_at is None
    assert after(both, STEADY_S).days_at is not None


@pytest.mark.parametrize("step", [timedelta(minutes=2), -HOUR], ids=str)
def test_a_small_step_does_not_stop_the_counting_of_days(step: timedelta) -> None:
    known = after(Clocks(T0, 0.0).with_shop_time(T0, 0.0), 60, step=step)
    assert known.days_at == T0 + timedelta(seconds=60) + min(step, timedelta(0))


def test_when_the_shops_clock_jumped_days_are_counted_only_after_a_steady_one() -> None:
    known = after(Clocks(T0, 0.0).with_shop_time(T0 - 2 * DAY, 0.0), 60)
    right = known.with_shop_time(known.ours, known.at)
    assert right.behind_shop_s == 0
    assert right.days_at is None
    assert after(right, STEADY_S).days_at is not None


def test_the_shops_clock_runs_on_from_its_last_response() -> None:
    known = after(Clocks(T0, 0.0), 3600).with_shop_time(T0 + HOUR, 3600.0)
    later = after(known, 7200)
    assert (known.behind_shop_s, later.behind_shop_s) == (0, 0)
    assert later.days_at == T0 + 3 * HOUR


def test_days_are_not_counted_before_the_watch_began() -> None:
    known = Clocks(T0 - 400 * DAY, 0.0).begun(polled_at=None, earliest=T0).with_shop_time(T0 - 400 * DAY, 0.0)
    assert after(known, 2 * STEADY_S).days_at is None


def test_a_start_believes_no_age_until_the_shop_told_the_time() -> None:
    known = Clocks(T0, 0.0).begun(polled_at=T0 - 2 * DAY, earliest=None)
    assert known.ages_before(HOUR) is None
    assert known.with_shop_time(T0 - 2 * DAY, 0.0).age(T0 - 3 * DAY) == DAY
    assert after(known, 3600).ages_before(HOUR) == T0, "or for as long as the age"


def test_a_start_at_an_unusual_time_believes_no_age_though_the_shop_agrees() -> None:
    known = Clocks(T0, 0.0).begun(polled_at=T0 - 9 * DAY, earliest=None).with_shop_time(T0, 0.0)
    assert known.age(T0 - HOUR) == timedelta(0)
    assert known.ages_before(72 * HOUR) is None
    assert after(known, 72 * 3600).ages_before(72 * HOUR) == T0


@pytest.mark.parametrize("gap_s", [5, 0, -5])
def test_a_quick_restart_is_nothing_unusual(gap_s: float) -> None:
    """Else each restart would make due at once what is parked, and put off all pruning by a day."""
    started = Clocks(T0, 0.0).begun(polled_at=T0 - timedelta(seconds=gap_s), earliest=None)
    assert started.set_back == 0
    assert started.with_shop_time(T0, 0.0).days_at == T0


def test_a_state_of_the_future_shows_that_the_clock_was_set_back() -> None:
    assert Clocks(T0, 0.0).begun(polled_at=T0 + HOUR, earliest=None).set_back == 1
    assert Clocks(T0, 0.0).begun(polled_at=T0 - HOUR, earliest=None).set_back == 0


def test_what_is_kept_is_not_dated_by_a_clock_that_is_days_behind() -> None:
    behind = Clocks(T0 - 400 * DAY, 0.0)
    assert behind.with_shop_time(T0, 0.0).stamp == T0
    assert behind.begun(polled_at=None, earliest=T0 - DAY, read_to=T0).stamp == T0
    assert Clocks(T0, 0.0).with_shop_time(T0 + AGREE, 0.0).stamp == T0
    assert Clocks(T0 + YEARS, 0.0).with_shop_time(T0, 0.0).stamp == T0 + YEARS, (
        "that is dated back when it is right"
    )


@pytest.mark.parametrize(
    ("behind_s", "fault"),
    [
        (60, None),
        (-60, None),
        (61, ClockFault.BEHIND),
        (-61, ClockFault.AHEAD),
        (1e8, ClockFault.BEHIND),
        (None, None),
    ],
)
def test_what_is_wrong_with_a_clock(behind_s: float | None, fault: ClockFault | None) -> None:
    found = trouble(Whose.OURS, now=T0, behind_shop_s=behind_s, stored=[None, T0, T0 - DAY])
    assert (found and found.fault) == fault


@pytest.mark.parametrize("stored", [[], [None]], ids=["no state", "an empty state"])
def test_without_a_time_to_compare_with_nothing_is_wrong(stored: list[datetime | None]) -> None:
    assert trouble(Whose.OURS, now=T0, behind_shop_s=None, stored=stored) is None


def test_it_is_told_in_words_with_what_to_do() -> None:
    ahead = trouble(Whose.OURS, now=T0, behind_shop_s=-172_800)
    assert str(ahead) == "our clock is 2 days ahead of the shop's; set both by NTP"
    back = trouble(Whose.OF_REDIS, now=T0, behind_shop_s=0.0, stored=[T0 + 3 * HOUR])
    assert str(back) == (
        "the state holds times 3 hours in the future: the clock of Redis was set back, or is behind;"
        " set both by NTP"
    )


def test_a_look_at_our_clock_is_news_after_a_step_or_a_while() -> None:
    known = Clocks(T0, 0.0)
    assert not known.is_news(T0 + timedelta(seconds=1), 1.0)
    assert not known.is_news(T0 + timedelta(seconds=1) + STEP, 1.0)
    assert known.is_news(T0 + timedelta(seconds=2) + STEP, 1.0)
    assert known.is_news(T0 + timedelta(seconds=1) - 2 * STEP, 1.0)
    assert not known.is_news(T0 + timedelta(seconds=REREAD_S), REREAD_S)
    assert known.is_news(T0 + timedelta(seconds=REREAD_S + 1), REREAD_S + 1)


def test_a_start_is_unconfirmed_until_the_shop_told_the_time() -> None:
    silent = Clocks(T0, 0.0).begun(polled_at=T0 - HOUR, earliest=None)
    told = Clocks(T0, 0.0).with_shop_time(T0, 0.0).begun(polled_at=T0 - HOUR, earliest=None)
    assert silent.unconfirmed_at == 0.0
    assert told.unconfirmed_at == Clocks(T0, 0.0).unconfirmed_at
    assert silent.with_shop_time(T0, 1.0).unconfirmed_at == told.unconfirmed_at


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(61, "61 seconds"), (-119, "119 seconds"), (120, "2 minutes"), (7200, "2 hours"), (-172_800, "2 days")],
)
def test_a_difference_has_the_unit_that_people_would_use(seconds: float, words: str) -> None:
    assert described(seconds) == words


def test_trouble_is_grave_when_it_may_be_of_another_day() -> None:
    limit = AGREE.total_seconds()
    assert not ClockTrouble(Whose.OURS, ClockFault.AHEAD, limit).is_grave
    assert ClockTrouble(Whose.OURS, ClockFault.BEHIND, limit + 1).is_grave
