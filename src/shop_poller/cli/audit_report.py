"""What `audit` prints: a line per order, and the result."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from shop_poller.cli.deliveries import STATUSES
from shop_poller.core.audit import FAULTS, UNDELIVERED, Count, Entry, Sent, Standing
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text, joined
from shop_poller.ports import DeliveryStatus

STANDINGS = {
    Standing.MISSED: Text("missed"),
    Standing.LOST: Text("lost"),
    Standing.UNREADABLE: Text("unreadable"),
    Standing.WAITING: Text("waiting"),
    Standing.DEAD: Text("dead"),
    Standing.CHANGING: Text("changing"),
}
"""In the result."""
MARKS = {
    Standing.MISSED: Text("MISSED"),
    Standing.LOST: Text("LOST"),
    Standing.UNREADABLE: Text("UNREADABLE"),
    Standing.WAITING: Text("WAITING"),
    Standing.DEAD: Text("DEAD"),
    Standing.CHANGING: Text("CHANGING"),
    Standing.OLD: Text("OLD"),
}
"""In the line of an order."""


@dataclass(slots=True)
class Tally:
    """The standing of each order, and how many orders the shop counts."""

    standings: dict[int, Standing] = field(default_factory=dict)
    count: Count | None = None

    def counts(self) -> Counter[Standing]:
        """The number of orders with each standing."""
        return Counter(self.standings.values())

    @property
    def is_incomplete(self) -> bool:
        """Return whether orders were missed or unreadable, an event was lost, or the count differs."""
        return self.unaccounted > 0 or (self.count is not None and self.count.differs)

    @property
    def unaccounted(self) -> int:
        """Orders that were missed or unreadable, or with a lost event."""
        return sum(self.counts()[standing] for standing in FAULTS)

    @property
    def undelivered(self) -> int:
        """Orders with a notification that waits or is a dead letter."""
        return sum(self.counts()[standing] for standing in UNDELIVERED)

    def as_dict(self) -> dict[str, Any]:
        """Return the last line of `--json`."""
        return {
            "orders": len(self.standings),
            "counted_by_shop": [self.count.lowest, self.count.highest] if self.count else None,
            "standings": self.counts(),
            "verdict": self.verdict(),
        }

    def verdict(self) -> str:
        """Return the result in one line."""
        counts, orders = self.counts(), len(self.standings)
        notable: list[str] = [
            Text("{count:,} {standing}", count=counts[one], standing=STANDINGS[one])
            for one in (*FAULTS, *UNDELIVERED, Standing.CHANGING)
            if counts[one]
        ]
        if self.is_incomplete or self.undelivered:
            problems: list[str] = [self.count.text()] if self.count and self.count.differs else []
            if notable:
                faults = joined(", ", notable)
                problems.append(Text("of {orders:,} orders {faults}", orders=orders, faults=faults))
            return Text("not everything is accounted for: {problems}", problems=joined("; ", problems))
        well = Text("everything accounted for: {orders:,} orders", orders=orders)
        if not counts[Standing.CHANGING]:
            return well
        later = Text(
            "{count:,} changed a moment ago, the next poll will show them", count=counts[Standing.CHANGING]
        )
        return joined("; ", [well, later])


def lines(entry: Entry) -> list[str]:
    """Return the lines of an order, for people."""
    found: str = Text(
        "{order:>8}  {shop_says:<12} {known}",
        order=entry.order_id,
        shop_says=entry.shop_says or "?",
        known=Text("known {status}", status=entry.known_as) if entry.known_as else Text("unknown"),
    )
    if entry.standing is not Standing.FINE:
        found = joined("  ", [found, MARKS[entry.standing]])
    if entry.detail:
        found = joined(": ", [found, entry.detail])
    return [
        found,
        *(
            Text("          {event}  {deliveries}", event=name, deliveries=_sent(several))
            for name, several in entry.announced.items()
        ),
    ]


def as_dict(entry: Entry) -> dict[str, Any]:
    """Return an order, for programs."""
    return {
        "order": entry.order_id,
        "standing": entry.standing,
        "shop_says": entry.shop_says or None,
        "known_as": entry.known_as or None,
        "announced": _announced(entry.announced),
        "detail": entry.detail,
    }


def _announced(announced: Mapping[str, Iterable[Sent]]) -> dict[str, list[dict[str, str | None]]]:
    return {
        name: [{"sink": sent.sink, "fate": sent.status, "at": iso(sent.at)} for sent in several]
        for name, several in announced.items()
    }


def _sent(several: Iterable[Sent]) -> str:
    deliveries: list[str] = [
        Text(
            "{sink} {status} {at}",
            sink=sent.sink,
            status=STATUSES[DeliveryStatus(sent.status)],
            at=iso(sent.at),
        )
        for sent in several
    ]
    return joined(", ", deliveries) if deliveries else Text("no record left")
