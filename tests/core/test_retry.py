"""When to try again, and when to give up."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.retry import (
    MAX_RETRY_AFTER_S,
    GiveUp,
    RetryAt,
    RetryPolicy,
    after_failure,
    full_jitter,
)

NOW = datetime(2026, 11, 23, 10, 0, tzinfo=UTC)
POLICY = RetryPolicy(max_age=timedelta(hours=72), base_s=30.0, cap_s=7200.0)
DOWN = TemporaryError(ErrorKind.CONNECTION, "nobody there")

randoms = st.floats(0.0, 1.0)
attempts = st.integers(1, 60) | st.integers(1, 10**9)
lengths = st.floats(0.001, 86_400.0)


def requested(seconds: float) -> TemporaryError:
    """The receiver says when to come again."""
    return TemporaryError(ErrorKind.RATE_LIMIT, "slow down", retry_after_s=seconds)


def outcome(
    error: ShopPollerError = DOWN,
    *,
    attempts: int = 1,
    age: timedelta = timedelta(0),
    random: float = 1.0,
    policy: RetryPolicy = POLICY,
) -> RetryAt | GiveUp:
    return after_failure(policy, attempts=attempts, head_since=NOW - age, error=error, now=NOW, random=random)


def wait_s(
    error: ShopPollerError = DOWN, *, attempts: int = 1, random: float = 1.0, policy: RetryPolicy = POLICY
) -> float:
    result = outcome(error, attempts=attempts, random=random, policy=policy)
    assert isinstance(result, RetryAt)
    return (result.at - NOW).total_seconds()


# --- Within one claim: full jitter --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempt", "random", "expected"),
    [
        (1, 1.0, 1.0),
        (2, 1.0, 2.0),
        (3, 1.0, 4.0),
        (5, 1.0, 16.0),
        (6, 1.0, 30.0),
        (7, 1.0, 30.0),
        (1000, 1.0, 30.0),
        (3, 0.5, 2.0),
        (3, 0.0, 0.0),
        # The clamp comes first: the spread is over the clamped wait, not over one that is clamped after.
        (7, 0.5, 15.0),
        (1000, 0.5, 15.0),
        (1000, 0.01, 0.3),
        (1000, 0.0, 0.0),
    ],
)
def test_the_wait_doubles_up_to_the_cap_and_is_spread_over_all_of_it(
    attempt: int, random: float, expected: float
) -> None:
    assert full_jitter(attempt, base_s=1.0, cap_s=30.0, random=random) == pytest.approx(expected)


@given(attempts, lengths, lengths, randoms)
def test_no_throw_of_dice_waits_longer_than_the_cap(
    attempt: int, base_s: float, cap_s: float, random: float
) -> None:
    assert 0.0 <= full_jitter(attempt, base_s=base_s, cap_s=cap_s, random=random) <= cap_s


@given(attempts, lengths, lengths, randoms)
def test_the_dice_decide_the_same_part_of_every_wait(
    attempt: int, base_s: float, cap_s: float, random: float
) -> None:
    whole = full_jitter(attempt, base_s=base_s, cap_s=cap_s, random=1.0)

    assert full_jitter(attempt, base_s=base_s, cap_s=cap_s, random=random) == pytest.approx(whole * random)


# --- Between claims: a row is parked ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("attempts", "least", "most"),
    [
        (1, 15, 30),
        (2, 30, 60),
        (3, 60, 120),
        (8, 1920, 3840),
        (9, 3600, 7200),
        (10, 3600, 7200),
        (999, 3600, 7200),
    ],
)
def test_a_parked_row_waits_longer_each_time_up_to_hours(attempts: int, least: float, most: float) -> None:
    assert wait_s(attempts=attempts, random=0.0) == pytest.approx(least)
    assert wait_s(attempts=attempts, random=0.5) == pytest.approx((least + most) / 2)
    assert wait_s(attempts=attempts, random=1.0) == pytest.approx(most)


@given(attempts, randoms, lengths, lengths)
def test_a_parked_row_never_waits_longer_than_the_cap(
    attempts: int, random: float, base_s: float, cap_s: float
) -> None:
    policy = RetryPolicy(max_age=timedelta(hours=72), base_s=base_s, cap_s=cap_s)

    assert 0.0 <= wait_s(attempts=attempts, random=random, policy=policy) <= cap_s + 1e-6


@given(st.integers(1, 100), randoms)
def test_a_later_attempt_never_waits_less(attempts: int, random: float) -> None:
    assert wait_s(attempts=attempts, random=random) <= wait_s(attempts=attempts + 1, random=random)


# --- Retry-After -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("requested_s", "expected"),
    [
        (600.0, 600.0),
        (31.0, 31.0),
        (86_400.0, 86_400.0),
        # Less than we would wait anyhow.
        (29.0, 30.0),
        (0.0, 30.0),
        (-5.0, 30.0),
        # More than anybody may ask for.
        (86_401.0, 86_400.0),
        (1e12, 86_400.0),
        (float("inf"), 86_400.0),
    ],
)
def test_what_the_receiver_asks_for_is_honoured_and_bounded(requested_s: float, expected: float) -> None:
    assert MAX_RETRY_AFTER_S == 86_400.0
    assert wait_s(requested(requested_s)) == pytest.approx(expected)


@given(attempts, randoms, st.floats(-1e6, 1e15))
def test_never_sooner_than_requested_and_never_later_than_the_bounds(
    attempts: int, random: float, requested_s: float
) -> None:
    waits = wait_s(requested(requested_s), attempts=attempts, random=random)

    assert waits >= min(requested_s, MAX_RETRY_AFTER_S) - 1e-6
    assert 0 < waits <= max(POLICY.cap_s, min(requested_s, MAX_RETRY_AFTER_S)) + 1e-6


# --- Giving up ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attempts", [1, 2, 50])
@pytest.mark.parametrize("kind", [ErrorKind.REJECTED, ErrorKind.GONE, ErrorKind.AUTHENTICATION])
def test_a_permanent_error_is_a_dead_letter_at_once(attempts: int, kind: ErrorKind) -> None:
    result = outcome(PermanentError(kind, "the receiver answered 422"), attempts=attempts)

    assert result == GiveUp("the receiver answered 422")


@pytest.mark.parametrize(
    ("age", "dead"),
    [
        (timedelta(0), False),
        (timedelta(hours=71, minutes=59, seconds=59), False),
        (timedelta(hours=72) - timedelta(microseconds=1), False),
        (timedelta(hours=72), True),
        (timedelta(hours=72, seconds=1), True),
        (timedelta(days=30), True),
        (timedelta(hours=-1), False),  # our clock was set back
    ],
)
@pytest.mark.parametrize("attempts", [1, 5000])
def test_age_since_it_became_the_oldest_decides_and_not_the_number_of_attempts(
    age: timedelta,
    dead: bool,  # noqa: FBT001 - a column of the table
    attempts: int,
) -> None:
    assert isinstance(outcome(age=age, attempts=attempts), GiveUp) is dead


def test_a_dead_letter_says_why() -> None:
    result = outcome(age=timedelta(hours=80), attempts=41)

    assert isinstance(result, GiveUp)
    assert "41" in result.reason
    assert "nobody there" in result.reason


def test_what_the_receiver_asks_for_does_not_keep_an_old_row_alive() -> None:
    assert isinstance(outcome(requested(60.0), age=timedelta(hours=80)), GiveUp)


@given(attempts, randoms, st.timedeltas(timedelta(0), timedelta(hours=200)))
def test_after_a_temporary_error_a_row_is_tried_again_or_dead_lettered_by_its_age_alone(
    attempts: int, random: float, age: timedelta
) -> None:
    result = outcome(attempts=attempts, random=random, age=age)

    assert isinstance(result, RetryAt) == (age < POLICY.max_age)
