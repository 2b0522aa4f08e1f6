"""This machine's clock."""

from datetime import UTC, datetime


def now() -> datetime:
    """Aware UTC, to the millisecond: finer than that the stores do not keep."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(instant: datetime) -> datetime:
    """What the stores would keep of an instant."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)
