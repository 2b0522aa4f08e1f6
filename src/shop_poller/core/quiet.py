"""Quiet hours: when a sink receives only what is urgent: `quiet=`, `urgent=`, `group=` in its address. Pure.

The hours are those of a wall clock, in the owner's time zone. On the day when the clocks are set ahead or
back, they begin and end when such a clock shows it. So they may be an hour shorter or longer that day.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from urllib.parse import unquote

from shop_poller.core.translatable import Text

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SPAN = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-4]):([0-5]\d)")
GROUP = re.compile(r"([0-9]{1,4})(s|m)")
A_TIME = re.compile(r"[0-9]+ ?[a-z]*", re.IGNORECASE)
"""What somebody may have meant as a time; other values of `group=` are the receiver's."""
LONGEST_GROUP_S = 300.0
"""Much less than the age at which a waiting delivery counts as late."""
MOST_WORDS = 20
LOOK_AHEAD = timedelta(days=9)
"""Hours repeat every week, so they end within it; the rest is for a change of the clocks."""
LONGEST_LOOK_BACK = timedelta(days=400)


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part of every day. It ends the next day if it does not end after its beginning."""

    start: time
    end: time

    def contains(self, wall: time) -> bool:
        """Return whether a wall clock shows a time of this part. The end does not belong to it."""
        if self.start < self.end:
            return self.start <= wall < self.end
        return wall >= self.start or wall < self.end


@dataclass(frozen=True, slots=True)
class QuietHours:
    """When a sink is quiet.

    Attributes:
        spans: parts of every day.
        days: whole days, 0 for Monday.
    """

    spans: tuple[Span, ...] = ()
    days: frozenset[int] = frozenset()

    def is_quiet(self, now: datetime, zone: tzinfo | None) -> bool:
        """Return whether it is quiet at an instant.

        Args:
            now: aware.
            zone: the owner's time zone; None for that of this machine.
        """
        there = now.astimezone(zone)
        return there.weekday() in self.days or any(span.contains(there.time()) for span in self.spans)

    def next_open(self, now: datetime, zone: tzinfo | None) -> datetime:
        """Return the first instant from `now` on at which it is not quiet: aware UTC."""
        if not self.is_quiet(now, zone):
            return now
        ends = (at for at in self._boundaries(now, zone) if not self.is_quiet(at, zone))
        return next(ends, now + LOOK_AHEAD)

    def opened_at(self, now: datetime, zone: tzinfo | None) -> datetime | None:
        """Return the end of the latest quiet time before `now`; None if there was none within days."""
        found, was_quiet = None, self.is_quiet(now - LOOK_AHEAD, zone)
        for at in (boundary for boundary in self._boundaries(now - LOOK_AHEAD, zone) if boundary <= now):
            quiet = self.is_quiet(at, zone)
            if was_quiet and not quiet:
                found = at
            was_quiet = quiet
        return found

    def open_time(self, since: datetime, until: datetime, zone: tzinfo | None) -> timedelta:
        """Return how much of a period is not quiet. Of a period over 400 days, only the last 400 count."""
        since = max(since, until - LONGEST_LOOK_BACK)
        return sum((end - start for start, end in self._open_periods(since, until, zone)), timedelta(0))

    def before(self, now: datetime, open_time: timedelta, zone: tzinfo | None) -> datetime:
        """Return the latest instant from which there was so much open time until now; see `open_time`."""
        missing, until = open_time, now
        while now - until < LONGEST_LOOK_BACK:
            since = until - LOOK_AHEAD
            for start, end in reversed(self._open_periods(since, until, zone)):
                if end - start >= missing:
                    return end - missing
                missing -= end - start
            until = since
        return until

    def _open_periods(
        self, since: datetime, until: datetime, zone: tzinfo | None
    ) -> list[tuple[datetime, datetime]]:
        """Return the parts of a period that are not quiet, ascending."""
        found, at = list[tuple[datetime, datetime]](), since
        while at < until:
            for boundary in self._boundaries(at, zone):
                end = min(boundary, until)
                if not self.is_quiet(at, zone):
                    found.append((at, end))
                at = end
                if at >= until:
                    break
        return found

    def _boundaries(self, after: datetime, zone: tzinfo | None) -> list[datetime]:
        """Return the instants at which quiet time may begin or end, ascending, for at least LOOK_AHEAD."""
        first = after.astimezone(zone).date()
        walls = {time(0), *(span.start for span in self.spans), *(span.end for span in self.spans)}
        found: set[datetime] = set()
        for day in range(LOOK_AHEAD.days + 2):
            today = first + timedelta(days=day)
            # A wall clock that is set back shows some times twice: fold.
            found |= {_instant(today, wall, zone, fold) for wall in walls for fold in (0, 1)}
            found |= _transition(today, zone)
        return sorted(at for at in found if at > after)


@dataclass(frozen=True, slots=True)
class Times:
    """What the address of a sink says about the times of its deliveries; see config.sinks.SinkOptions."""

    quiet: QuietHours | None = None
    urgent: tuple[str, ...] = ()
    group_s: float = 0.0


def take_times(query: str, *, takes_groups: bool) -> tuple[Times, str]:
    """Take `quiet`, `urgent` and `group` out of the query of an address.

    Args:
        query: of the address.
        takes_groups: whether `group` is ours if it is a time; some services have a parameter of this name.
            `urgent` is ours only beside one of the others.

    Returns:
        The times, and the rest of the query exactly as written.

    Raises:
        ValueError: one of them is wrong; one line without its value, which may be a secret.
    """
    rest: list[tuple[str, str]] = []
    found: dict[str, str] = {}
    for part in query.split("&"):
        name, _, text = part.partition("=")
        value = unquote(text)
        if name != "quiet" and name.lower() == "quiet":
            raise ValueError(Text("{name}= in an address should be written quiet=", name=name))
        if name == "quiet" or (takes_groups and name == "group" and A_TIME.fullmatch(value)):
            if name in found:
                raise ValueError(
                    Text("{name}= is in an address twice; separate several values by commas", name=name)
                )
            found[name] = value
        else:
            rest.append((name, part))
    urgent: list[str] = []
    if found:  # else `urgent` is the receiver's
        for name, part in rest:
            if name == "urgent":
                words = unquote(part.partition("=")[2]).split(",")
                urgent += [word.strip() for word in words if word.strip()] or [""]
        rest = [(name, part) for name, part in rest if name != "urgent"]
    if "" in urgent or len(urgent) > MOST_WORDS:
        raise ValueError(Text("urgent= in an address needs levels, such as error,critical"))
    times = Times(
        parse_quiet(found["quiet"]) if "quiet" in found else None,
        tuple(urgent),
        _group_s(found["group"]) if "group" in found else 0.0,
    )
    return times, "&".join(part for _, part in rest)


def _group_s(text: str) -> float:
    matched = GROUP.fullmatch(text)
    seconds = float(matched[1]) * (60 if matched[2] == "m" else 1) if matched else 0.0
    if not 0 < seconds <= LONGEST_GROUP_S:
        raise ValueError(Text("group= in an address is a time from 1s to 5m, such as 30s"))
    return seconds


def parse_quiet(words: str) -> QuietHours:
    """Parse quiet hours such as "22:00-08:00,sat,sun".

    Raises:
        ValueError: what is wrong; one line without the text itself, which may be a secret.
    """
    spans, days = set[Span](), set[int]()
    found = [word for word in (text.strip().lower() for text in words.split(",")) if word]
    if not found or len(found) > MOST_WORDS:
        raise ValueError(
            Text("quiet= in an address needs hours such as 22:00-08:00, or days such as sat,sun")
        )
    for word in found:
        if word in DAYS:
            days.add(DAYS.index(word))
            continue
        matched = SPAN.fullmatch(word)
        if matched is None or (matched[3] == "24" and matched[4] != "00"):
            raise ValueError(
                Text(
                    "quiet= in an address is made of hours such as 22:00-08:00, and of days: {days}",
                    days=", ".join(DAYS),
                )
            )
        start = time(int(matched[1]), int(matched[2]))
        spans.add(Span(start, time(int(matched[3]) % 24, int(matched[4]))))
    hours = QuietHours(tuple(sorted(spans)), frozenset(days))
    if not _is_open_at_times(hours):
        raise ValueError(Text("quiet= in an address is the whole week; leave at least a minute"))
    return hours


def _is_open_at_times(hours: QuietHours) -> bool:
    monday = datetime(2026, 11, 23, tzinfo=UTC)
    return any(
        not hours.is_quiet(monday + timedelta(days=day, minutes=minute), UTC)
        for day in range(7)
        for minute in range(24 * 60)
    )


def _instant(day: date, wall: time, zone: tzinfo | None, fold: int) -> datetime:
    return datetime.combine(day, wall.replace(fold=fold), zone).astimezone(UTC)


def _transition(day: date, zone: tzinfo | None) -> set[datetime]:
    """Return when the clocks are set ahead or back on a day, to the second; nothing on most days."""
    low, high = (_instant(date_, time(0), zone, 0) for date_ in (day, day + timedelta(days=1)))
    before, after = (at.astimezone(zone).utcoffset() for at in (low, high))
    if before == after:
        return set()
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=int((high - low).total_seconds()) // 2)
        low, high = (middle, high) if middle.astimezone(zone).utcoffset() == before else (low, middle)
    return {high}
