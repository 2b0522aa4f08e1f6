"""What is known about our clock: when it was set, how far it is from the shop's, and what may rely on it.

Three clocks are compared:

- ours, of this machine or of Redis: anybody may set it
- the shop's, from the Date header of its responses
- the monotonic clock: nobody sets it, but it does not cover the time before the start

Irreversible actions use the earlier of the first two clocks, and wait after one of them jumped. These are
pruning, and moving a delivery to dead letters because of its age. See docs/decisions/0016.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from shop_poller.core.translatable import Text

STEP = timedelta(seconds=10)
"""A larger jump means that the clock was set. Slewing moves a clock by only half a millisecond per second.
The delay of a slow Redis that returns its time is smaller, too."""
REREAD_S = 60.0
"""Readings within this many seconds need not be kept one by one: slewing moves a clock by 30 ms at most in
that time."""
AGREE = timedelta(days=1)
"""Clocks that differ by this much or less are exact enough to count days: retention periods are days."""
USUAL_GAP = timedelta(days=8)
"""A gap of up to this length between polls is usual. After a longer one, at a start, our clock may be wrong
instead."""
STEADY_S = 86_400.0
"""For this long, nothing is pruned after a clock jumped by more than AGREE, or after a start with an unusual
gap."""
NOTABLE = timedelta(seconds=60)
"""A difference between clocks up to this is not reported."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is known so far; every method returns the next state. `at` is in monotonic seconds.

    Attributes:
        ours: the last reading of our clock.
        at: when it was read.
        shop: the last reading of the shop's clock, and when; None before its first response.
        earliest: if our clock is before this, it is wrong: polling of the shop began then, by its clock.
        read_to: when the shop was last read, by its clock, according to the state at the start.
        stepped: by how much our clock was set in total.
        set_back: how often our clock was set back; a setback before the start counts, too.
        unconfirmed_at: since when, after a start, the shop has not reported its time.
        ages_unsure_at: ages that reach back before this instant are not trusted.
        days_unsure_at: when the count of days became uncertain; it is not trusted for STEADY_S.
    """

    ours: datetime
    at: float
    shop: tuple[datetime, float] | None = None
    earliest: datetime | None = None
    read_to: datetime | None = None
    stepped: timedelta = timedelta(0)
    set_back: int = 0
    unconfirmed_at: float = -math.inf
    ages_unsure_at: float = -math.inf
    days_unsure_at: float = -math.inf

    def read(self, ours: datetime, at: float) -> tuple["Clocks", timedelta]:
        """Read our clock.

        Returns:
            The next state, and by how much the clock was set since the last reading; zero if it was not set.
        """
        step = ours - self.ours - timedelta(seconds=at - self.at)
        known = replace(self, ours=ours, at=at)
        if abs(step) <= STEP:
            return known, timedelta(0)
        return replace(
            known,
            stepped=self.stepped + step,
            set_back=self.set_back + (step < timedelta(0)),
            ages_unsure_at=at,
            days_unsure_at=at if abs(step) > AGREE else self.days_unsure_at,
        ), step

    def is_news(self, ours: datetime, at: float) -> bool:
        """Return whether to keep a reading of our clock: it was set, or the last reading was long ago."""
        passed_s = at - self.at
        return passed_s > REREAD_S or abs(ours - self.ours - timedelta(seconds=passed_s)) > STEP

    def with_shop_time(self, shop_time: datetime, at: float) -> "Clocks":
        """Return what is known once the shop has reported its time."""
        known = replace(self, shop=(shop_time, at), unconfirmed_at=-math.inf)
        if self.shop is not None and abs(shop_time - self._shop_at(at)) > AGREE:
            known = replace(known, days_unsure_at=at)  # both may be the clock of one machine
        return known

    def begun(
        self, *, polled_at: datetime | None, earliest: datetime | None, read_to: datetime | None = None
    ) -> "Clocks":
        """Take over the times in a store that was just opened.

        Args:
            polled_at: the last successful poll, by our clock.
            earliest: see the class.
            read_to: see the class.
        """
        known = replace(self, earliest=earliest, read_to=read_to)
        if polled_at is None:
            return known
        if polled_at > self.ours + STEP:
            known = replace(known, set_back=self.set_back + 1)
        if not is_usual(self.ours - polled_at):
            known = replace(known, ages_unsure_at=self.at, days_unsure_at=self.at)
        elif self.shop is None:
            known = replace(known, unconfirmed_at=self.at)
        return known

    @property
    def behind_shop_s(self) -> float | None:
        """Seconds that our clock is behind the shop's; negative if it is ahead, None if unknown."""
        return None if self.shop is None else (self._shop_at(self.at) - self.ours).total_seconds()

    def age(self, since: datetime) -> timedelta:
        """Return how long ago an instant was, as far as that is certain; never negative."""
        sure_s = self._sure_s
        age = max(self._earlier() - since, timedelta(0))
        return min(age, timedelta(seconds=sure_s)) if math.isfinite(sure_s) else age

    def ages_before(self, age: timedelta) -> datetime | None:
        """Return the instant at or before which everything is certainly this old; None if nothing is."""
        if self._sure_s < age.total_seconds():
            return None
        return self._earlier() - age

    @property
    def days_at(self) -> datetime | None:
        """The current time for retention periods that are days; None while it is uncertain."""
        if self.shop is None or abs(self.ours - self._shop_at(self.at)) > AGREE:
            return None
        if self.at - self.days_unsure_at < STEADY_S:
            return None
        if self.earliest is not None and self.ours < self.earliest - AGREE:
            return None
        return self._earlier()

    @property
    def stamp(self) -> datetime:
        """The date of what is stored for days; not our time if that is behind by more than AGREE."""
        shop_at = None if self.shop is None else self._shop_at(self.at)
        latest = max(
            (at for at in (shop_at, self.earliest, self.read_to) if at is not None), default=self.ours
        )
        return latest if latest - self.ours > AGREE else self.ours

    @property
    def _sure_s(self) -> float:
        return self.at - max(self.ages_unsure_at, self.unconfirmed_at)

    def _earlier(self) -> datetime:
        return self.ours if self.shop is None else min(self.ours, self._shop_at(self.at))

    def _shop_at(self, at: float) -> datetime:
        assert self.shop is not None  # noqa: S101 - the callers have checked
        shop_time, read_at = self.shop
        return shop_time + timedelta(seconds=at - read_at)


def is_usual(gap: timedelta) -> bool:
    """Return whether our clock can be trusted after such a gap between the last poll and the start."""
    return -STEP <= gap <= USUAL_GAP


def described(seconds: float) -> Text:
    """Format a difference of clocks for people: the number and its unit."""
    seconds = abs(seconds)
    if seconds >= 2 * 86_400:
        return Text("{count} days", count=round(seconds / 86_400))
    if seconds >= 2 * 3600:
        return Text("{count} hours", count=round(seconds / 3600))
    if seconds >= 2 * 60:
        return Text("{count} minutes", count=round(seconds / 60))
    return Text("{count} seconds", count=round(seconds))


class Whose(StrEnum):
    """The clock that due times and dates follow."""

    OURS = "our clock"
    OF_REDIS = "the clock of Redis"

    @property
    def shown(self) -> Text:
        """The clock, for people."""
        return Text("our clock") if self is Whose.OURS else Text("the clock of Redis")


class ClockFault(StrEnum):
    """What is wrong with a clock."""

    AHEAD = "ahead"  # of the shop's
    BEHIND = "behind"  # the shop's
    SET_BACK = "set back"  # or behind: stored dates are in the future


@dataclass(frozen=True, slots=True)
class ClockTrouble:
    """A clock that is wrong.

    Attributes:
        seconds: by how many it is wrong; above zero.
    """

    whose: Whose
    fault: ClockFault
    seconds: float

    @property
    def is_grave(self) -> bool:
        """Whether nothing old is deleted until the clock is right; times in messages are of another day."""
        return self.seconds > AGREE.total_seconds()

    def __str__(self) -> str:
        return str(self.text())

    def text(self) -> Text:
        """Return what is wrong and how to fix it, in one line."""
        by, whose = described(self.seconds), self.whose.shown
        if self.fault is ClockFault.SET_BACK:
            return Text(
                "the state holds times {by} in the future: {whose} was set back, or is behind; set both by"
                " NTP",
                by=by,
                whose=whose,
            )
        if self.fault is ClockFault.AHEAD:
            return Text("{whose} is {by} ahead of the shop's; set both by NTP", whose=whose, by=by)
        return Text("{whose} is {by} behind the shop's; set both by NTP", whose=whose, by=by)


def trouble(
    whose: Whose, *, now: datetime, behind_shop_s: float | None, stored: Iterable[datetime | None] = ()
) -> ClockTrouble | None:
    """Return what is wrong with a clock; None if nothing is.

    Args:
        whose: the clock.
        now: its current time.
        behind_shop_s: seconds that it is behind the shop's; None if unknown.
        stored: times written by this clock; a right clock is not before them.
    """
    if behind_shop_s is not None and abs(behind_shop_s) > NOTABLE.total_seconds():
        return ClockTrouble(
            whose, ClockFault.BEHIND if behind_shop_s > 0 else ClockFault.AHEAD, abs(behind_shop_s)
        )
    latest = max((at for at in stored if at is not None), default=now)
    if latest > now + NOTABLE:
        return ClockTrouble(whose, ClockFault.SET_BACK, (latest - now).total_seconds())
    return None
