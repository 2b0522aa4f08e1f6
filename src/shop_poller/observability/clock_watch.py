"""Watches this machine's clock while a process runs. core/clocks.py decides what the readings mean."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import anyio
import structlog

from shop_poller.core.clocks import AGREE, Clocks, ClockTrouble, Whose, described, is_usual, trouble
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import ShopState


class ClockWatch:
    """Compares our clock with the monotonic clock, and with the shop's clock.

    Args:
        now: our clock, aware UTC.
        whose: whose clock that is: the clock of Redis if the state is in Redis.
        metrics: the shop's metrics; None if nothing is counted.
    """

    def __init__(
        self, now: Callable[[], datetime], *, whose: Whose = Whose.OURS, metrics: Metrics | None = None
    ) -> None:
        self._now = now
        self._whose = whose
        self._metrics = metrics
        self._clocks: Clocks | None = None  # read at first use: the event loop may not run yet
        self._marked: tuple[datetime, timedelta] | None = None
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    def check(self) -> Clocks:
        """Return what is known now; log and count a step of the clock."""
        ours, at = self._now(), anyio.current_time()
        self._clocks, step = (self._clocks or Clocks(ours, at)).read(ours, at)
        if step:
            set_to = "ahead" if step > timedelta(0) else "back"
            self._log.warning(
                f"{self._whose} was set {set_to}; make NTP slew it instead of stepping it",
                by=described(step.total_seconds()),
            )
            if self._metrics is not None:
                self._metrics.clock_steps.inc()
        return self._clocks

    def now(self) -> datetime:
        """Return the time that our clock shows."""
        return self._read()[0]

    def reading(self) -> tuple[datetime, float]:
        """Return the time that our clock shows, and the monotonic time."""
        return self._read()[:2]

    def _read(self) -> tuple[datetime, float, Clocks]:
        """Return the time of our clock, the monotonic time, and what is known.

        A tick reads the clock several times, and most readings add nothing to what is known.
        """
        ours, at = self._now(), anyio.current_time()
        if self._clocks is None or self._clocks.is_news(ours, at):
            known = self.check()
            return known.ours, at, known
        return ours, at, self._clocks

    def stamp(self) -> datetime:
        """Return the date to store with data that is kept for days."""
        return self.check().stamp

    def mark(self, instant: datetime, *, at: float | None = None, doubtful: bool = False) -> None:
        """Remember an instant that our clock showed, now or when a state was written; see `elapsed`.

        Args:
            instant: what the clock showed.
            at: the monotonic time of that instant; None if this process did not see it. Then the clock may
                have been set since.
            doubtful: the stored instant and the present time contradict each other; count from now.
        """
        ours, now_s, known = self._read()
        gap = ours - instant
        if at is not None:
            passed = timedelta(seconds=now_s - at)
        else:
            passed = timedelta(0) if doubtful or gap < timedelta(0) else gap
        self._marked = instant, known.stepped - (gap - passed)

    def elapsed(self, since: datetime) -> timedelta:
        """Return the time since a marked instant, corrected for steps of the clock.

        An unmarked instant is marked at the first call. Only one is remembered: the last good poll.
        """
        if self._marked is None or self._marked[0] != since:
            self.mark(since)
        assert self._marked is not None  # noqa: S101 - just marked
        ours, _, known = self._read()
        return max(ours - since - (known.stepped - self._marked[1]), timedelta(0))

    def begun(self, state: ShopState) -> None:
        """The store was opened. Earlier times in it show whether the clock was set back."""
        known = self.check()
        self._clocks = known.begun(
            polled_at=state.last_poll_at, earliest=state.baseline_at, read_to=state.cursor_at
        )
        if state.last_poll_at is not None and self._marked is None:
            self.mark(state.last_poll_at, doubtful=not is_usual(known.ours - state.last_poll_at))
        if self._clocks.set_back > known.set_back:
            self._log.warning(f"{self._whose} was ahead when this state was written, or is behind now")

    def note_shop_time(self, shop_time: datetime) -> None:
        """Compare our clock with the time in a response of the shop."""
        known = self.check()
        self._clocks = known = known.with_shop_time(shop_time, known.at)
        found = self._trouble(known, ())
        if self._changes.changed("shop", found.fault if found else ""):
            (self._log.warning if found else self._log.info)(
                str(found or f"{self._whose} and the shop's agree")
            )

    def shop_date(self) -> datetime | None:
        """Return the present time by our clock if it agrees with the shop's, else by the shop's.

        It is None before the shop's first response.
        """
        known = self.check()
        if known.behind_shop_s is None:
            return None
        behind = timedelta(seconds=known.behind_shop_s)
        return known.ours if abs(behind) <= AGREE else known.ours + behind

    def trouble(self, stored: Iterable[datetime | None] = ()) -> ClockTrouble | None:
        """Return what is wrong with our clock; None if it is right.

        Args:
            stored: times that were written by this clock.
        """
        return self._trouble(self.check(), stored)

    def _trouble(self, known: Clocks, stored: Iterable[datetime | None]) -> ClockTrouble | None:
        if self._metrics is not None and known.behind_shop_s is not None:
            self._metrics.clock_ahead.set(-known.behind_shop_s)
        return trouble(self._whose, now=known.ours, behind_shop_s=known.behind_shop_s, stored=stored)
