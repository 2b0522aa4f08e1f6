"""Digests: which sink gets one when, about which days, and the notification. Pure.

A digest is about whole days in the owner's time zone. One that could not be made in time is made late; of
several that are late, only the last one is made.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from typing import Any

from shop_poller.core.digest_texts import digest_texts
from shop_poller.core.messages import MessageFormat, shop_notification
from shop_poller.core.model import EventType, Notification, iso
from shop_poller.core.quiet import DAYS
from shop_poller.core.tallies import Amounts, OrderTally, total
from shop_poller.core.translatable import Text

SCHEDULE = re.compile(r"(?:daily|weekly:(mon|tue|wed|thu|fri|sat|sun))@([01]?\d|2[0-3]):([0-5]\d)")
DAYS_A_WEEK = 7


@dataclass(frozen=True, slots=True)
class Period:
    """The days that a digest is about.

    Attributes:
        first: the first day.
        end: the day after the last one; the digest is due on it.
    """

    first: date
    end: date

    @property
    def last(self) -> date:
        """The last day."""
        return self.end - timedelta(days=1)

    @property
    def previous(self) -> "Period":
        """The period of the same length before this one."""
        return Period(self.first - (self.end - self.first), self.first)

    def starts_at(self, zone: tzinfo | None) -> datetime:
        """Return the instant when it begins, at midnight."""
        return _instant(self.first, time(0), zone)

    def ends_at(self, zone: tzinfo | None) -> datetime:
        """Return the instant when it is over."""
        return _instant(self.end, time(0), zone)

    def tally(self, tallies: Mapping[date, OrderTally]) -> OrderTally:
        """Return what happened in it, from the tallies of days."""
        return total(tally for day, tally in tallies.items() if self.first <= day < self.end)


@dataclass(frozen=True, slots=True)
class DigestSchedule:
    """When a sink gets a digest.

    Attributes:
        weekday: 0 for Monday: each week, about the seven days before. None: each day, about the day before.
        at: the time of the day.
    """

    weekday: int | None
    at: time

    def latest(self, now: datetime, zone: tzinfo | None) -> Period:
        """Return the period of the latest digest that is due.

        Args:
            now: aware.
            zone: the owner's time zone; None for that of this machine.
        """
        day = now.astimezone(zone).date()
        while not (self.weekday in {None, day.weekday()} and _instant(day, self.at, zone) <= now):
            day -= timedelta(days=1)
        return Period(day - timedelta(days=1 if self.weekday is None else DAYS_A_WEEK), day)


@dataclass(frozen=True, slots=True)
class Digest:
    """What a digest says.

    Attributes:
        period: its days.
        tally: what happened in them.
        previous: what happened in the period before; None if that was not counted from its beginning.
        counted_since: since when events were counted, if not from the beginning of the period.
    """

    period: Period
    tally: OrderTally
    previous: OrderTally | None
    counted_since: datetime | None = None

    @classmethod
    def of(
        cls,
        period: Period,
        tallies: Mapping[date, OrderTally],
        *,
        tallied_since: datetime,
        zone: tzinfo | None,
    ) -> "Digest":
        """Return the digest of a period.

        Args:
            period: its days.
            tallies: by day.
            tallied_since: since when events are counted.
            zone: the owner's time zone; None for that of this machine.
        """
        previous = period.previous
        return cls(
            period,
            period.tally(tallies),
            previous.tally(tallies) if tallied_since <= previous.starts_at(zone) else None,
            None if tallied_since <= period.starts_at(zone) else tallied_since,
        )


def parse_digest(text: str) -> DigestSchedule:
    """Parse a schedule such as "daily@09:00" or "weekly:mon@09:00".

    Raises:
        ValueError: it is none; one line without the text.
    """
    found = SCHEDULE.fullmatch(text)
    if found is None:
        raise ValueError(
            Text("should be daily@HH:MM or weekly:DAY@HH:MM, e.g. daily@09:00, weekly:mon@09:00")
        )
    weekday = None if found[1] is None else DAYS.index(found[1])
    return DigestSchedule(weekday, time(int(found[2]), int(found[3])))


def digest_notification(
    sink: str, digest: Digest, message_format: MessageFormat, *, now: datetime
) -> Notification:
    """Write the notification of a digest.

    Args:
        sink: who receives it. It is part of the event's id.
        digest: what it says.
        message_format: how notifications are written.
        now: when this is written.
    """
    period = digest.period
    data: dict[str, Any] = {
        "period": "day" if period.first == period.last else "week",
        "first_day": str(period.first),
        "last_day": str(period.last),
        **_numbers(digest.tally),
        "previous": None if digest.previous is None else _numbers(digest.previous),
        "counted_since": None if digest.counted_since is None else iso(digest.counted_since),
    }
    return shop_notification(
        EventType.DIGEST,
        message_format,
        key="digest",
        occurrence=f"{period.first}/{period.last}",
        texts=digest_texts(data, message_format.locale),
        data=data,
        now=now,
        receiver=sink,
    )


def _numbers(tally: OrderTally) -> dict[str, Any]:
    return {name: _number(getattr(tally, name)) for name in OrderTally.__slots__}


def _number(amounts: Amounts) -> dict[str, Any]:
    return {
        "count": amounts.count,
        "unknown_amounts": amounts.unknown,
        "sums": [
            {
                "currency": currency,
                "currency_sign": one.sign,
                "sum": f"{one.amount:f}",
                "average": f"{one.average:f}",
                "count": one.count,
            }
            for currency, one in amounts.sums.items()
        ],
    }


def _instant(day: date, wall: time, zone: tzinfo | None) -> datetime:
    """Return when a wall clock shows a time; the first of two such instants.

    If the clocks are set ahead over this time, it is as long after the change as it would have been.
    """
    return datetime.combine(day, wall, zone).astimezone(UTC)
