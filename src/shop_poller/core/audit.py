"""Checks whether an order is accounted for: its state in the shop, what is known, announced and delivered."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from shop_poller.core.messages import event_id
from shop_poller.core.model import EventType, KnownOrder, Order, UnreadableOrder
from shop_poller.core.sweep import contradicts, missed
from shop_poller.core.transition import Policy, decide, was_announced
from shop_poller.core.translatable import Text


class Standing(StrEnum):
    """The state of an order in the audit; the worst one that applies."""

    FINE = "fine"  # known as the shop shows it, and all its notifications were delivered
    CHANGING = "changing"  # changed since the last poll; the next poll will show it
    OLD = "old"  # unknown, and created before the baseline: it is not announced
    WAITING = "waiting"  # a delivery is pending
    DEAD = "dead"  # a delivery became a dead letter
    LOST = "lost"  # an event was decided, but no delivery of it is stored
    UNREADABLE = "unreadable"  # could not be read; set aside
    MISSED = "missed"  # the shop shows what is not known here


FAULTS = (Standing.MISSED, Standing.LOST, Standing.UNREADABLE)
UNDELIVERED = (Standing.WAITING, Standing.DEAD)


@dataclass(frozen=True, slots=True)
class Sent:
    """One delivery of an event.

    Attributes:
        status: waiting, delivered or dead.
        at: since when it has this status.
    """

    sink: str
    status: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Entry:
    """One order of an audit.

    Attributes:
        shop_says: its status in the shop; "" if it could not be read.
        known_as: its status as known here; "" if it is unknown.
        announced: the events decided for it, and the deliveries of each.
        detail: one more line about what is wrong.
    """

    order_id: int
    standing: Standing
    shop_says: str
    known_as: str
    announced: Mapping[str, Sequence[Sent]]
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Evidence:
    """The stored deliveries by event id, and since when they are complete."""

    sent: Mapping[str, Sequence[Sent]]
    complete_since: datetime


@dataclass(frozen=True, slots=True)
class Count:
    """How many orders the shop counts, and how many could be read.

    Attributes:
        lowest: the lower of the shop's counts before and after the audit's walk.
        highest: the higher of the two.
        read: orders that the walk returned.
    """

    lowest: int
    highest: int
    read: int

    @property
    def differs(self) -> bool:
        """Whether the two disagree, even if orders were added or removed during the walk."""
        return not self.lowest <= self.read <= self.highest

    def text(self) -> str:
        """Return one line for people."""
        text = Text(
            "the shop counts {orders:,} orders, {read:,} could be read", orders=self.lowest, read=self.read
        )
        if self.lowest != self.highest:
            text = Text(
                "the shop counts {lowest:,} to {highest:,} orders, {read:,} could be read",
                lowest=self.lowest,
                highest=self.highest,
                read=self.read,
            )
        if self.read >= self.lowest:
            return text
        return Text("{text}; a plugin, or the rights of the key's user, may hide the others", text=text)


@dataclass(frozen=True, slots=True)
class Auditor:
    """Judges orders, one by one.

    Attributes:
        polled_to: the next poll will show orders that were modified later.
        is_wanted: whether a sink surely accepts an event of an order, by name; of others no delivery may be
            stored.
        only_for_people: all sinks are for people, who receive no cancellation of an order that was never
            announced (see Filter).
    """

    shop_id: str
    policy: Policy
    polled_to: datetime
    is_wanted: Callable[[str, Order | UnreadableOrder], bool] = lambda _name, _item: True
    only_for_people: bool = False

    def contradicts(self, item: Order | UnreadableOrder, known: KnownOrder | None) -> bool:
        """Return whether an order is dated before its known state and differs from it.

        Either it was polled again after the shop sent this response, or its date went back. Another request
        shows which.
        """
        if isinstance(item, UnreadableOrder):
            return False
        return contradicts(known, item, decide(known, item, self.policy))

    def entry_of(self, item: Order | UnreadableOrder, known: KnownOrder | None, evidence: Evidence) -> Entry:
        """Return the entry of an order."""
        announced = self._announced(item, known, evidence)
        known_as = known.status if known else ""
        if isinstance(item, UnreadableOrder):
            return Entry(item.id, Standing.UNREADABLE, "", known_as, announced, item.reason)
        standing, detail = self._standing(item, known)
        if standing is Standing.FINE:
            standing, detail = self._delivered(item, announced, evidence)
        return Entry(item.id, standing, item.status, known_as, announced, detail)

    def _standing(self, order: Order, known: KnownOrder | None) -> tuple[Standing, str]:
        decision = decide(known, order, self.policy)
        is_older = known is not None and known.modified_at > order.modified_at
        if is_older and not contradicts(known, order, decision):
            return Standing.FINE, ""
        # A payment becomes overdue with time, not with a change: the sweep announces it later.
        events = [event.type for event in decision.events if event.type != EventType.PAYMENT_OVERDUE]
        if order.modified_at > self.polled_to and not is_older:
            return (Standing.FINE if decision.known == known else Standing.CHANGING), ""
        if is_older or events or missed(known, order, decision, polled_to=self.polled_to):
            due = ", ".join(str(event) for event in events) or Text("nothing to announce")
            return Standing.MISSED, Text("to be announced: {events}", events=due)
        return (Standing.OLD if decision.imported else Standing.FINE), ""

    def _delivered(
        self, order: Order, announced: Mapping[str, Sequence[Sent]], evidence: Evidence
    ) -> tuple[Standing, str]:
        statuses = {sent.status for several in announced.values() for sent in several}
        if "dead" in statuses:
            return Standing.DEAD, ""
        if "waiting" in statuses:
            return Standing.WAITING, ""
        gone = [event for event, several in announced.items() if not several]
        if gone and order.created_at > evidence.complete_since:
            return Standing.LOST, Text("no trace of {events}", events=", ".join(gone))
        return Standing.FINE, ""

    def _announced(
        self, item: Order | UnreadableOrder, known: KnownOrder | None, evidence: Evidence
    ) -> dict[str, Sequence[Sent]]:
        """Return each decided event that a sink accepts, by its name for people, with its deliveries."""
        if known is None:
            return {}
        found: dict[str, Sequence[Sent]] = {}
        hides_cancelled = self.only_for_people and not was_announced(known)
        for name, times in sorted(known.decided.items()):
            is_hidden = hides_cancelled and name == EventType.CANCELLED
            is_unwanted = is_hidden or not self.is_wanted(name, item)
            for occurrence in range(1, times + 1):
                key = event_id(self.shop_id, str(item.id), name, occurrence)
                if key not in evidence.sent and is_unwanted:
                    continue
                found[str(name) if times == 1 else f"{name} ({occurrence})"] = evidence.sent.get(key, ())
        for refund in sorted(known.refund_ids or ()):
            kind = EventType.PARTIALLY_REFUNDED
            key = event_id(self.shop_id, str(item.id), kind, refund)
            if key in evidence.sent:  # most refunds were part of a full refund, or imported silently
                found[f"{kind} ({refund})"] = evidence.sent[key]
        return found
