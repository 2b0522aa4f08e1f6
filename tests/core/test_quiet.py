"""Quiet hours: over midnight, whole days, and the days on which the clocks are set ahead or back."""

from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_poller.core.quiet import DAYS, QuietHours, Span, Times, parse_quiet, take_times

MOSCOW, BERLIN = ZoneInfo("Europe/Moscow"), ZoneInfo("Europe/Berlin")
NIGHT = parse_quiet("22:00-08:00")
WEEKEND = parse_quiet("22:00-08:00,sat,sun")
MINUTE = timedelta(minutes=1)


def there(text: str, zone: ZoneInfo = MOSCOW, *, fold: int = 0) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone, fold=fold).astimezone(UTC)


@pytest.mark.parametrize(
    ("hours", "at", "quiet"),
    [
        ("22:00-08:00", "2026-11-25 21:59:59.999", False),
        ("22:00-08:00", "2026-11-25 22:00", True),
        ("22:00-08:00", "2026-11-26 00:00", True),
        ("22:00-08:00", "2026-11-26 07:59:59.999", True),
        ("22:00-08:00", "2026-11-26 08:00", False),
        ("13:00-14:00, 22:00-8:00", "2026-11-25 13:30", True),
        ("13:00-14:00,22:00-08:00", "2026-11-25 14:00", False),
        ("13:00-24:00", "2026-11-25 23:59", True),
        ("13:00-24:00", "2026-11-26 00:00", False),
        ("sat,SUN", "2026-11-28 00:00", True),
        ("sat,sun", "2026-11-29 23:59", True),
        ("sat,sun", "2026-11-30 00:00", False),
        ("00:00-00:00", "2026-11-30 00:00", None),
        ("9:00-9:00", "2026-11-30 12:00", None),
    ],
)
def test_when_it_is_quiet(hours: str, at: str, *, quiet: bool | None) -> None:
    if quiet is None:  # the whole day, every day
        with pytest.raises(ValueError, match="whole week"):
            parse_quiet(hours)
        return
    assert parse_quiet(hours).is_quiet(there(at), MOSCOW) is quiet


@pytest.mark.parametrize(
    "wrong",
    [
        "", ",", "night", "22:00", "22:00-", "25:00-08:00", "22:00-24:01", "22:60-08:00", "22-08", "sat-sun",
        "saturday", "mon,tue,wed,thu,fri,sat,sun", "00:00-12:00,12:00-24:00", ",".join(["sat"] * 21),
        "22:00-08:00;sat",
    ],
)  # fmt: skip
def test_what_are_no_quiet_hours(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"^quiet= in an address"):
        parse_quiet(wrong)


def test_an_error_does_not_show_what_may_be_a_secret() -> None:
    with pytest.raises(ValueError, match=r"^quiet= in an address") as caught:
        parse_quiet("22:00-08:00,hunter2")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("hours", "now", "opens"),
    [
        (NIGHT, "2026-11-25 12:00", "2026-11-25 12:00"),
        (NIGHT, "2026-11-25 22:00", "2026-11-26 08:00"),
        (NIGHT, "2026-11-26 03:00", "2026-11-26 08:00"),
        (WEEKEND, "2026-11-27 22:00", "2026-11-30 08:00"),
        (WEEKEND, "2026-11-29 12:00", "2026-11-30 08:00"),
        (parse_quiet("mon,tue,wed,thu,fri,sat"), "2026-11-23 00:00", "2026-11-29 00:00"),
    ],
)
def test_when_it_ends(hours: QuietHours, now: str, opens: str) -> None:
    assert hours.next_open(there(now), MOSCOW) == there(opens)


@pytest.mark.parametrize(
    ("hours", "now", "opened"),
    [
        (NIGHT, "2026-11-25 12:00", "2026-11-25 08:00"),
        (NIGHT, "2026-11-25 08:00", "2026-11-25 08:00"),
        (NIGHT, "2026-11-25 23:00", "2026-11-25 08:00"),
        (WEEKEND, "2026-11-30 09:00", "2026-11-30 08:00"),
        (parse_quiet("mon"), "2026-11-30 12:00", "2026-11-24 00:00"),
    ],
)
def test_when_it_ended_last(hours: QuietHours, now: str, opened: str) -> None:
    assert hours.opened_at(there(now), MOSCOW) == there(opened)


def test_it_never_ended_if_there_is_none() -> None:
    assert QuietHours().opened_at(there("2026-11-25 12:00"), MOSCOW) is None


def test_clocks_that_are_set_ahead_end_it_early() -> None:
    """At 02:00 in Berlin it is 03:00 at once."""
    hours = parse_quiet("22:00-02:30")
    assert hours.next_open(there("2027-03-27 23:00", BERLIN), BERLIN) == there("2027-03-28 03:00", BERLIN)
    assert not hours.is_quiet(there("2027-03-28 03:00", BERLIN), BERLIN)
    night = parse_quiet("22:00-08:00")
    began = there("2027-03-27 22:00", BERLIN)
    assert night.next_open(began, BERLIN) - began == timedelta(hours=9)


def test_clocks_that_are_set_back_end_it_twice() -> None:
    """At 03:00 in Berlin it is 02:00 again."""
    hours = parse_quiet("22:00-02:30")
    first, again = there("2026-10-25 02:30", BERLIN), there("2026-10-25 02:00", BERLIN, fold=1)
    assert again - first == timedelta(minutes=30)
    assert hours.next_open(there("2026-10-24 23:00", BERLIN), BERLIN) == first
    assert hours.next_open(again, BERLIN) == there("2026-10-25 02:30", BERLIN, fold=1)
    began = there("2026-10-24 22:00", BERLIN)
    assert NIGHT.next_open(began, BERLIN) - began == timedelta(hours=11)


def test_open_time() -> None:
    since, until = there("2026-11-25 12:00"), there("2026-11-27 12:00")
    assert NIGHT.open_time(since, until, MOSCOW) == timedelta(hours=28)
    assert NIGHT.open_time(until, since, MOSCOW) == timedelta(0)
    assert QuietHours().open_time(since, until, MOSCOW) == timedelta(hours=48)
    assert NIGHT.before(until, timedelta(hours=28), MOSCOW) == since
    assert NIGHT.before(until, timedelta(hours=72), MOSCOW) == there("2026-11-22 10:00")
    assert QuietHours().before(until, timedelta(hours=72), MOSCOW) == until - timedelta(hours=72)
    almost_always = parse_quiet("mon,tue,wed,thu,fri,sat,00:00-23:59")
    assert timedelta(days=400) <= until - almost_always.before(until, timedelta(hours=72), MOSCOW)
    assert almost_always.open_time(until - timedelta(days=5000), until, MOSCOW) <= timedelta(minutes=60)


walls = st.times().map(lambda at: time(at.hour, at.minute))
hours_of_day = st.builds(
    lambda spans, days: QuietHours(tuple(Span(*span) for span in spans), frozenset(days)),
    st.lists(st.tuples(walls, walls), max_size=3),
    st.sets(st.integers(0, len(DAYS) - 1), max_size=3),
).filter(lambda hours: all(span.start != span.end for span in hours.spans))
BEGIN = datetime(2026, 10, 20, tzinfo=UTC)
instants = st.integers(0, 10 * 24 * 60).map(lambda minutes: BEGIN + MINUTE * minutes)


@given(hours_of_day, instants, st.sampled_from([MOSCOW, BERLIN, None]))
@settings(max_examples=60, deadline=None)
def test_minute_by_minute_it_is_the_same(hours: QuietHours, now: datetime, zone: ZoneInfo | None) -> None:
    minutes = [now + MINUTE * n for n in range(24 * 60)]
    quiet = [hours.is_quiet(at, zone) for at in minutes]
    opens = next((at for at, is_quiet in zip(minutes, quiet, strict=True) if not is_quiet), None)
    if opens is not None:
        assert hours.next_open(now, zone) == opens
    counted = MINUTE * quiet.count(False)
    assert hours.open_time(now, minutes[-1] + MINUTE, zone) == counted
    if counted:
        began = hours.before(minutes[-1] + MINUTE, counted, zone)
        assert hours.open_time(began, minutes[-1] + MINUTE, zone) == counted


@pytest.mark.parametrize(
    ("query", "times", "rest"),
    [
        ("", Times(), ""),
        ("quiet=22:00-08:00", Times(NIGHT), ""),
        ("a=1&quiet=22:00-08:00%2Csat,sun&b=%20", Times(WEEKEND), "a=1&b=%20"),
        ("quiet=22:00-08:00&urgent=error,%20critical", Times(NIGHT, ("error", "critical")), ""),
        ("group=30s", Times(group_s=30), ""),
        ("group=5m&urgent=error", Times(None, ("error",), 300), ""),
        ("urgent=yes", Times(), "urgent=yes"),
        ("group=shop&urgent=1", Times(), "group=shop&urgent=1"),
    ],
)
def test_what_an_address_says(query: str, times: Times, rest: str) -> None:
    assert take_times(query, takes_groups=True) == (times, rest)


def test_a_group_is_the_receivers_where_nobody_reads() -> None:
    assert take_times("group=30s&quiet=sat", takes_groups=False) == (Times(parse_quiet("sat")), "group=30s")


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("QUIET=sat", "should be written quiet="),
        ("quiet=sat&quiet=sun", "twice"),
        ("quiet=sat&urgent=", "needs levels"),
        ("quiet=sat&urgent=" + ",".join("a" * 21), "needs levels"),
        ("group=0s", "from 1s to 5m"),
        ("group=6m", "from 1s to 5m"),
        ("group=30", "from 1s to 5m"),
        ("group=1h", "from 1s to 5m"),
    ],
)
def test_what_an_address_cannot_say(query: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        take_times(query, takes_groups=True)
