"""This machine's clock, and instants as stores keep them: whole milliseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
HOUR_MS = 3_600_000


def now() -> datetime:
    """Aware UTC, to the millisecond: finer than that the stores do not keep."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(instant: datetime) -> datetime:
    """What the stores would keep of an instant."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def ms(instant: datetime) -> int:
    """To store an instant."""
    return round((instant - EPOCH) / MS)


def instant(stored: int | str) -> datetime:
    """To read a stored instant."""
    return EPOCH + int(stored) * MS
