"""What is known of our clock: when it was set, whether it agrees with the shop's, and what may go by it.

Three clocks are compared: ours (of this machine, or of Redis), which anybody may set; the shop's, from the
Date header of its answers; and the monotonic one, which nobody sets and which knows nothing of before the
start. What cannot be taken back (pruning, giving up a delivery by its age) goes by the one of the first two
that is behind, and waits after one of them jumped. See docs/decisions/0016.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

STEP = timedelta(seconds=10)
"""More than that in one step is a clock that was set: slewing moves it by half a millisecond a second, and
the time that a slow Redis takes to tell its own is less."""
REREAD_S = 60.0
"""Looks within so long need not be remembered one by one: slewing moves a clock by 30 ms meanwhile."""
AGREE = timedelta(days=1)
"""Clocks that differ by no more are good enough to count days: what is kept is kept for days."""
USUAL_GAP = timedelta(days=8)
"""Nobody polled for so long: that is usual. After longer, at a start, the clock may as well be wrong."""
STEADY_S = 86_400.0
"""So long nothing is pruned after a clock jumped by more than AGREE, or after a start after no usual gap."""
NOTABLE = timedelta(seconds=60)
"""What clocks differ by is no trouble up to this."""


@dataclass(frozen=True, slots=True)
class Clocks:
    """What is known so far; every method gives the next. `at` is in monotonic seconds.

    Attributes:
        ours: what our clock said last.
        at: and when that was.
        shop: likewise the shop's; None before it answered.
        earliest: our clock cannot be right before this: the watch of the shop began then, by the shop's.
        read_to: when the shop was read last, by its clock, as far as the state knew at the start.
        stepped: by how much ours was set in all.
        set_back: how often ours was set back, or was found to have been before the start.
        unconfirmed_at: since when the shop did not tell the time; it began with the start.
        ages_unsure_at: since when ages that are longer than that are not believed.
        days_unsure_at: since when days are not.
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
        """Look at our clock.

        Returns:
            What is known now, and by how much the clock was set since it was read last; zero if it was not.
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
        """Whether a look at our clock is to be remembered: it was set, or the last look was long ago."""
        passed_s = at - self.at
        return passed_s > REREAD_S or abs(ours - self.ours - timedelta(seconds=passed_s)) > STEP

    def heard(self, shop_time: datetime, at: float) -> "Clocks":
        """The shop told the time."""
        known = replace(self, shop=(shop_time, at), unconfirmed_at=-math.inf)
        if self.shop is not None and abs(shop_time - self._shop_at(at)) > AGREE:
            known = replace(known, days_unsure_at=at)  # both may be the clock of one machine
        return known

    def begun(
        self, *, polled_at: datetime | None, earliest: datetime | None, read_to: datetime | None = None
    ) -> "Clocks":
        """A store was opened: what our clock said when it was written to.

        Args:
            polled_at: the last good poll.
            earliest: see the class.
            read_to: likewise.
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
        """Seconds that our clock is behind the shop's; negative if it is ahead, None if that is not known."""
        return None if self.shop is None else (self._shop_at(self.at) - self.ours).total_seconds()

    def age(self, since: datetime) -> timedelta:
        """How long ago something was, as far as that is sure; never negative."""
        sure_s = self._sure_s
        age = max(self._earlier() - since, timedelta(0))
        return min(age, timedelta(seconds=sure_s)) if math.isfinite(sure_s) else age

    def ages_before(self, age: timedelta) -> datetime | None:
        """What dates from then or before is surely so old; None if nothing surely is."""
        if self._sure_s < age.total_seconds():
            return None
        return self._earlier() - age

    @property
    def days_at(self) -> datetime | None:
        """The present, to count days from for what is dropped for good; None while that is not sure."""
        if self.shop is None or abs(self.ours - self._shop_at(self.at)) > AGREE:
            return None
        if self.at - self.days_unsure_at < STEADY_S:
            return None
        if self.earliest is not None and self.ours < self.earliest - AGREE:
            return None
        return self._earlier()

    @property
    def stamp(self) -> datetime:
        """The date of what is kept for days from now on; not ours if that is behind by so much."""
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
        assert self.shop is not None  # noqa: S101 - who asks has looked
        shop_time, heard_at = self.shop
        return shop_time + timedelta(seconds=at - heard_at)


def is_usual(gap: timedelta) -> bool:
    """Whether a time without a poll, before a start, is one that our clock may be believed."""
    return -STEP <= gap <= USUAL_GAP


def described(seconds: float) -> str:
    """A difference of clocks for people: the number and its unit."""
    for size, unit in ((86_400, "days"), (3600, "hours"), (60, "minutes")):
        if abs(seconds) >= 2 * size:
            return f"{abs(seconds) / size:.0f} {unit}"
    return f"{abs(seconds):.0f} seconds"


class Whose(StrEnum):
    """Whose clock due times and dates follow."""

    OURS = "our clock"
    OF_REDIS = "the clock of Redis"


class Fault(StrEnum):
    """What is wrong with it."""

    AHEAD = "ahead"  # of the shop's
    BEHIND = "behind"  # the shop's
    SET_BACK = "set back"  # or it is behind: what it dated is still to come


@dataclass(frozen=True, slots=True)
class ClockTrouble:
    """A clock that is wrong.

    Attributes:
        seconds: by how many, above zero.
    """

    whose: Whose
    fault: Fault
    seconds: float

    @property
    def is_grave(self) -> bool:
        """Nothing old is dropped until it is right; times in messages are of another day."""
        return self.seconds > AGREE.total_seconds()

    def __str__(self) -> str:
        """What is wrong and what to do, in one line."""
        by = described(self.seconds)
        if self.fault is Fault.SET_BACK:
            text = f"the state holds times {by} in the future: {self.whose} was set back, or is behind"
        else:
            text = f"{self.whose} is {by} {self.fault}{' of' if self.fault is Fault.AHEAD else ''} the shop's"
        return f"{text}; set both by NTP"


def trouble(
    whose: Whose, *, now: datetime, behind_shop_s: float | None, stored: Iterable[datetime | None] = ()
) -> ClockTrouble | None:
    """What is wrong with a clock; None if nothing is.

    Args:
        whose: the clock.
        now: what it says.
        behind_shop_s: how far it is behind the shop's; None if that is not known.
        stored: times that were written by it, and cannot be later.
    """
    if behind_shop_s is not None and abs(behind_shop_s) > NOTABLE.total_seconds():
        return ClockTrouble(whose, Fault.BEHIND if behind_shop_s > 0 else Fault.AHEAD, abs(behind_shop_s))
    latest = max((at for at in stored if at is not None), default=now)
    if latest > now + NOTABLE:
        return ClockTrouble(whose, Fault.SET_BACK, (latest - now).total_seconds())
    return None
