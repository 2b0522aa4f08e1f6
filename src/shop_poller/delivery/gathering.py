"""Decides which claimed deliveries of one sink are sent now, and which wait: for quiet hours, or for a group.

- During quiet hours, deliveries that are not urgent are put back into the outbox. They are due again when the
  quiet hours end.
- A group waits in memory, claimed. If the process is killed, its claims are void, and nothing is lost.
- A group that failed is sent again as the same group if all of its rows are claimed again. So a receiver can
  recognise the repeat.
"""

import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from types import MappingProxyType

import structlog

from shop_poller.core.model import Delivery, EventType, GroupDelivery
from shop_poller.core.quiet import QuietHours
from shop_poller.observability.logging import Log
from shop_poller.ports import Release, Retry

FEW = 3
"""After quiet hours, so many deliveries are sent one by one; more become one message."""
MOST_IN_GROUP = 500
LONGEST_HOLD = timedelta(hours=12)
"""The longest that a delivery is put back at once, well below core.retry.LONGEST_DELAY. In longer quiet hours
it is put back again."""
MOST_FAILED_GROUPS = 100
QUIET = "quiet hours"

Compose = Callable[[Sequence[Delivery]], GroupDelivery]
"""Writes one message for several deliveries; see core.grouping."""


@dataclass(frozen=True, slots=True)
class SinkTiming:
    """When a sink receives deliveries, if the owner gave its address such options.

    Attributes:
        quiet: the quiet hours; None for none.
        zone: of the quiet hours; None for the time zone of this machine.
        urgent: the levels that are sent at once.
        group_s: seconds that a delivery waits for others to join it; 0 to form groups only after quiet hours.
        compose: None if the sink takes no groups.
    """

    quiet: QuietHours | None = None
    zone: tzinfo | None = None
    urgent: frozenset[str] = frozenset()
    group_s: float = 0.0
    compose: Compose | None = None

    def is_quiet(self, now: datetime) -> bool:
        """Return whether only urgent deliveries are sent now."""
        return self.quiet is not None and self.quiet.is_quiet(now, self.zone)

    def quiet_until(self, now: datetime) -> datetime | None:
        """Return when the present quiet hours end; None if it is not quiet."""
        if self.quiet is None or not self.is_quiet(now):
            return None
        return self.quiet.next_open(now, self.zone)

    def holds(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether a delivery has to wait for the end of quiet hours."""
        return self.is_quiet(now) and not self.is_urgent(delivery)

    def is_urgent(self, delivery: Delivery) -> bool:
        """Return whether a delivery never waits."""
        return _level(delivery) in self.urgent

    def open_time(self, age: timedelta, now: datetime) -> timedelta:
        """Return how much of an age was outside quiet hours."""
        return age if self.quiet is None else self.quiet.open_time(now - age, now, self.zone)

    def age_with(self, open_time: timedelta, now: datetime) -> timedelta:
        """Return the age at which a delivery has waited `open_time` outside quiet hours."""
        return open_time if self.quiet is None else now - self.quiet.before(now, open_time, self.zone)


NO_TIMINGS: Mapping[str, SinkTiming] = MappingProxyType({})


class Gathering:
    """Keeps the claimed deliveries of one sink that wait for a group.

    Args:
        timing: of the sink.

    Attributes:
        put_back: outcomes to record: these deliveries return to the outbox.
    """

    def __init__(self, timing: SinkTiming) -> None:
        self.put_back: list[Retry | Release] = []
        self._timing = timing
        self._to_send: list[Delivery] = []
        self._waiting: dict[int, Delivery] = {}
        self._since_s = 0.0  # when the first of them began to wait
        self._failed: dict[int, tuple[int, ...]] = {}  # the rows of groups to send again, by the first row
        self._opened: tuple[datetime, datetime | None] | None = None
        self._log: Log = structlog.get_logger()

    def most_for_probe(self, now: datetime, *, room: int) -> int:
        """Return how many deliveries to claim to choose one for a probe; see `probe`.

        Args:
            now: our clock.
            room: the most that may be claimed.
        """
        return room if self._failed or self._timing.is_quiet(now) else min(room, 1)

    def wait_s(self, at_s: float) -> float:
        """Return the seconds until the group is complete; infinite if none is being gathered.

        Args:
            at_s: the present on the monotonic clock.
        """
        if not self._waiting:
            return math.inf
        return max(self._since_s + self._timing.group_s - at_s, 0.0)

    def add(self, deliveries: Sequence[Delivery], now: datetime, at_s: float) -> None:
        """Add claimed deliveries.

        Args:
            deliveries: claimed.
            now: our clock.
            at_s: the same on the monotonic clock.
        """
        quiet_until = self._timing.quiet_until(now)
        for delivery in deliveries:
            if self._timing.is_urgent(delivery):
                self._to_send.append(delivery)
            elif quiet_until is not None:
                self._hold(delivery, quiet_until, now)
            elif delivery.event_type == EventType.DIGEST:  # a line of a group would not show its numbers
                self._to_send.append(delivery)
            elif self._timing.compose is not None and (
                self._timing.group_s or self._waited_for_quiet_end(delivery, now)
            ):
                if not self._waiting:
                    self._since_s = at_s
                self._waiting[delivery.seq] = delivery
            else:
                self._to_send.append(delivery)

    def ready(self, now: datetime, at_s: float, *, is_last: bool) -> list[Delivery]:
        """Take what can be sent now: single deliveries, and groups.

        Args:
            now: our clock.
            at_s: the same on the monotonic clock.
            is_last: whether nothing more can join the group.
        """
        found, self._to_send = self._to_send, []
        if self._waiting and (quiet_until := self._timing.quiet_until(now)) is not None:
            for delivery in self._waiting.values():
                self._hold(delivery, quiet_until, now)
            self._waiting = {}
        for rows in [*self._failed.values()]:
            if self._waiting.keys() >= set(rows):
                found += self._messages([self._waiting.pop(seq) for seq in rows], few=1)
        if self._waiting and (is_last or not self.wait_s(at_s)):
            rest = sorted(self._waiting.values(), key=lambda delivery: delivery.seq)
            self._waiting = {}
            for begin in range(0, len(rest), MOST_IN_GROUP):
                some = rest[begin : begin + MOST_IN_GROUP]
                found += self._messages(some, few=1 if self._timing.group_s else FEW)
        return found

    def probe(self, deliveries: Sequence[Delivery], now: datetime) -> Delivery | None:
        """Choose what to send to a sink that was down, and put everything else back.

        Args:
            deliveries: claimed, the longest due first.
            now: our clock.

        Returns:
            The longest due delivery, or the failed group that contains it; None if all have to wait.
        """
        claimed = {one.seq: one for one in (*self._to_send, *self._waiting.values(), *deliveries)}
        self._to_send, self._waiting = [], {}
        quiet_until = self._timing.quiet_until(now)
        chosen: Delivery | None = None
        for seq, delivery in [*claimed.items()]:
            if seq not in claimed:
                continue  # it belongs to the chosen group
            if quiet_until is not None and not self._timing.is_urgent(delivery):
                self._hold(delivery, quiet_until, now)
            elif chosen is None:
                group = next((rows for rows in self._failed.values() if seq in rows), ())
                rows = [claimed.pop(one) for one in group] if group and claimed.keys() >= set(group) else []
                chosen, *others = self._messages(rows or [delivery], few=1)
                self.put_back += map(Release, others)  # if the message could not be written
            else:
                self.put_back.append(Release(delivery))
        return chosen

    def failed(self, group: GroupDelivery) -> None:
        """Remember a group that was not delivered, to send the same one again."""
        while len(self._failed) >= MOST_FAILED_GROUPS:
            del self._failed[next(iter(self._failed))]
        self._failed[group.seq] = tuple(row.seq for row in group.rows)

    def _messages(self, rows: Sequence[Delivery], *, few: int) -> Sequence[Delivery]:
        """Return one message for all rows, or the rows if they are few."""
        self._forget({row.seq for row in rows})
        if len(rows) <= few or self._timing.compose is None:
            return rows
        try:
            return [self._timing.compose(rows)]
        except Exception:  # noqa: BLE001 - whatever is in a stored text, it must not stop the deliveries
            self._log.exception("internal error (bug) in a group: please report it", deliveries=len(rows))
            return rows

    def _forget(self, seqs: Collection[int]) -> None:
        """Forget the failed groups that contain any of these rows: these are sent now, perhaps regrouped."""
        self._failed = {
            first: rows for first, rows in self._failed.items() if not any(seq in seqs for seq in rows)
        }

    def _hold(self, delivery: Delivery, until: datetime, now: datetime) -> None:
        self.put_back.append(Retry(delivery, at=min(until, now + LONGEST_HOLD), error=QUIET, charged=False))

    def _waited_for_quiet_end(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether a delivery is older than the end of the last quiet hours."""
        if self._timing.quiet is None:
            return False
        minute = now.replace(second=0, microsecond=0)
        if self._opened is None or self._opened[0] != minute:  # quiet hours end at the beginning of a minute
            self._opened = minute, self._timing.quiet.opened_at(now, self._timing.zone)
        opened_at = self._opened[1]
        return opened_at is not None and delivery.created_at < opened_at


def _level(delivery: Delivery) -> str:
    """Return the level in a stored body, as SHOP_LEVEL_MAP names it; "" if it cannot be read."""
    try:
        return str(json.loads(delivery.body)["level"])
    except (KeyError, TypeError, ValueError):
        return ""
