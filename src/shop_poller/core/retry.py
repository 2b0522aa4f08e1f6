"""When to try again and when to give up, given the attempt, the error, the time and a throw of dice."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shop_poller.core.errors import PermanentError, ShopPollerError, TemporaryError

MAX_RETRY_AFTER_S = 24 * 3600.0
"""What a peer may ask us to wait at most."""


LONGEST_DELAY = timedelta(seconds=MAX_RETRY_AFTER_S)
"""Nothing is parked for longer: what is due later than that was parked by a clock that was ahead."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a delivery that failed is retried.

    Attributes:
        base_s: the wait after the first failed claim.
        cap_s: the longest wait.
        max_age: then the delivery is given up.
    """

    max_age: timedelta
    base_s: float = 30.0
    cap_s: float = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Park the delivery until then."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Give the delivery up; a person can see why."""

    reason: str


def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: float) -> float:
    """Seconds to wait within one claim: clamp first, then spread over all of it.

    Args:
        attempt: tries so far, from 1.
        base_s: the ceiling after the first.
        cap_s: the ceiling of ceilings.
        random: 0 to 1.
    """
    return min(cap_s, base_s * 2.0 ** min(attempt - 1, 30)) * random


def after_failure(
    policy: RetryPolicy,
    *,
    attempts: int,
    head_since: datetime,
    error: ShopPollerError,
    now: datetime,
    random: float,
) -> RetryAt | GiveUp:
    """What becomes of a delivery after a claim failed that is charged to it.

    Args:
        policy: the owner's bounds.
        attempts: claims that failed, this one included.
        head_since: when it became its order's oldest; its age counts from there.
        error: the last one.
        now: the present.
        random: 0 to 1.
    """
    if isinstance(error, PermanentError):
        return GiveUp(str(error))
    if now - head_since >= policy.max_age:
        return GiveUp(f"gave up after {attempts} claims: {error}")
    # At least half of the wait is kept, so that it grows and does not hammer.
    wait_s = full_jitter(attempts, base_s=policy.base_s, cap_s=policy.cap_s, random=(1 + random) / 2)
    requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
    return RetryAt(now + timedelta(seconds=max(wait_s, min(requested_s or 0.0, MAX_RETRY_AFTER_S))))
