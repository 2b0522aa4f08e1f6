"""This machine's clock, and instants as the stores keep them: whole milliseconds since 1970, UTC."""

from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MS = timedelta(milliseconds=1)
HOUR_MS = 3_600_000


def now() -> datetime:
    """Return the time in UTC, rounded to the milliseconds that the stores keep."""
    return to_milliseconds(datetime.now(UTC))


def to_milliseconds(instant: datetime) -> datetime:
    """Round an instant to what the stores keep."""
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000)


def ms(instant: datetime) -> int:
    """Convert an instant for a store."""
    return round((instant - EPOCH) / MS)


def instant(stored: int | str) -> datetime:
    """Convert a stored instant back."""
    return EPOCH + int(stored) * MS
