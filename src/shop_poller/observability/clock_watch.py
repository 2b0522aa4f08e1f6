"""Watches our clock while a process runs: core/clocks.py says what follows from what it sees."""

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta

import anyio
import structlog

from shop_poller.core.clocks import Clocks, ClockTrouble, Whose, described, is_usual, trouble
from shop_poller.observability.logging import ChangeLogger, Log
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import ShopState


class ClockWatch:
    """Compares our clock with the monotonic one, and with the shop's.

    Args:
        now: our clock, aware UTC.
        whose: that clock is: that of Redis where the state is there.
        metrics: of the shop; None where nobody counts.
    """

    def __init__(
        self, now: Callable[[], datetime], *, whose: Whose = Whose.OURS, metrics: Metrics | None = None
    ) -> None:
        self._now = now
        self._whose = whose
        self._metrics = metrics
        self._clocks: Clocks | None = None  # it may be made before the event loop runs
        self._marked: tuple[datetime, timedelta] | None = None
        self._changes = ChangeLogger()
        self._log: Log = structlog.get_logger()

    def look(self) -> Clocks:
        """What is known at this moment; that the clock was set is logged and counted."""
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
        """What our clock says."""
        return self._read()[0]

    def _read(self) -> tuple[datetime, float, Clocks]:
        """What our clock shows, the monotonic time, and what is known.

        A tick reads the clock several times, and most readings add nothing to what is known.
        """
        ours, at = self._now(), anyio.current_time()
        if self._clocks is None or self._clocks.is_news(ours, at):
            known = self.look()
            return known.ours, at, known
        return ours, at, self._clocks

    def stamp(self) -> datetime:
        """The date of what is kept for days from now on."""
        return self.look().stamp

    def mark(self, instant: datetime, *, at: float | None = None, doubtful: bool = False) -> None:
        """Remember an instant that our clock showed, now or when a state was written; see `elapsed`.

        Args:
            instant: what the clock showed.
            at: the monotonic time of that; None if this process did not see it. The clock may have been set
                since then.
            doubtful: what it showed then and what it shows now do not fit; the time counts from now.
        """
        ours, now_s, known = self._read()
        gap = ours - instant
        if at is not None:
            passed = timedelta(seconds=now_s - at)
        else:
            passed = timedelta(0) if doubtful or gap < timedelta(0) else gap
        self._marked = instant, known.stepped - (gap - passed)

    def elapsed(self, since: datetime) -> timedelta:
        """How long ago something was that was marked, or else asked for first, though our clock was set.

        One instant is remembered: the last good poll.
        """
        if self._marked is None or self._marked[0] != since:
            self.mark(since)
        assert self._marked is not None  # noqa: S101 - just marked
        ours, _, known = self._read()
        return max(ours - since - (known.stepped - self._marked[1]), timedelta(0))

    def begun(self, state: ShopState) -> None:
        """The store was opened: what was written to it before tells something of the clock."""
        known = self.look()
        self._clocks = known.begun(
            polled_at=state.last_poll_at, earliest=state.baseline_at, read_to=state.cursor_at
        )
        if state.last_poll_at is not None and self._marked is None:
            self.mark(state.last_poll_at, doubtful=not is_usual(known.ours - state.last_poll_at))
        if self._clocks.set_back > known.set_back:
            self._log.warning(f"{self._whose} was ahead when this state was written, or is behind now")

    def heard(self, shop_time: datetime) -> None:
        """The shop told the time."""
        known = self.look()
        self._clocks = known = known.heard(shop_time, known.at)
        found = self._trouble(known, ())
        if self._changes.changed("shop", found.fault if found else ""):
            (self._log.warning if found else self._log.info)(
                str(found or f"{self._whose} and the shop's agree")
            )

    def trouble(self, stored: Iterable[datetime | None] = ()) -> ClockTrouble | None:
        """What is wrong with our clock; None if nothing is.

        Args:
            stored: times that were written by it.
        """
        return self._trouble(self.look(), stored)

    def _trouble(self, known: Clocks, stored: Iterable[datetime | None]) -> ClockTrouble | None:
        if self._metrics is not None and known.behind_shop_s is not None:
            self._metrics.clock_ahead.set(-known.behind_shop_s)
        return trouble(self._whose, now=known.ours, behind_shop_s=known.behind_shop_s, stored=stored)
