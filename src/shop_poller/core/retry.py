"""When to retry and when to stop, given the attempt, the error, the time and a random number."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from shop_poller.core.errors import PermanentError, ShopPollerError, TemporaryError

MAX_RETRY_AFTER_S = 24 * 3600.0
"""The longest wait that a peer may request."""


LONGEST_DELAY = timedelta(seconds=MAX_RETRY_AFTER_S)
"""No row is parked for longer: if one is due later than that, it was parked by a clock that was ahead."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How a failed delivery is retried.

    Attributes:
        base_s: the wait after the first failed claim.
        cap_s: the longest wait.
        max_age: at this age, the delivery is moved to dead letters.
    """

    max_age: timedelta
    base_s: float = 30.0
    cap_s: float = 2 * 3600.0


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Park the delivery until this instant."""

    at: datetime


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Move the delivery to dead letters; the reason is shown to people."""

    reason: str


def full_jitter(attempt: int, *, base_s: float, cap_s: float, random: float) -> float:
    """Return the seconds to wait within one claim: clamp first, then spread over the whole range.

    Args:
        attempt: attempts so far, from 1.
        base_s: the ceiling after the first attempt; it doubles with each further one.
        cap_s: the largest ceiling.
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
    """Decide what happens to a delivery after a failed claim that counts for it.

    Args:
        policy: the owner's limits.
        attempts: failed claims, including this one.
        head_since: when it became the oldest of its order; its age counts from then.
        error: the last error.
        now: the current time.
        random: 0 to 1.
    """
    if isinstance(error, PermanentError):
        return GiveUp(str(error))
    if now - head_since >= policy.max_age:
        return GiveUp(f"failed after {attempts} claims: {error}")
    # At least half of the wait is kept, so that it grows, and the peer does not get requests too often.
    wait_s = full_jitter(attempts, base_s=policy.base_s, cap_s=policy.cap_s, random=(1 + random) / 2)
    requested_s = error.retry_after_s if isinstance(error, TemporaryError) else None
    return RetryAt(now + timedelta(seconds=max(wait_s, min(requested_s or 0.0, MAX_RETRY_AFTER_S))))
