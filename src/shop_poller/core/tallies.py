"""Counts what happened to orders, by day: for digests. Pure.

An event counts on the day when it happened, by the shop's clock and in the owner's time zone:

- an order that is announced as new: when it was paid
- a refund: when it was made, if the shop shows that
- everything else: when the order was last modified

Each event counts once, in the commit that announces it. Money is summed by currency.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Any

from shop_poller.core.model import EventType, OrderEvent, amount_of

KEPT_DAYS = 35
"""A weekly digest needs the last 21 days."""
MAX_DAYS = 2 * KEPT_DAYS
"""The most days that are kept while a clock is wrong."""
MOST_CURRENCIES = 20
"""Of one day. A shop has a few; more would only let a stored day grow."""
MOST_DIGITS = 24
"""Before the point of a sum. A total has 20 at most."""
NO_TALLY = "is not a tally"
KINDS: Mapping[str, str] = {
    EventType.NEW: "orders",
    EventType.FAILED: "failed",
    EventType.CANCELLED: "cancelled",
    EventType.REFUNDED: "refunds",
    EventType.PARTIALLY_REFUNDED: "refunds",
}
"""What an event counts as: the name of a field of OrderTally. Other events do not count."""


@dataclass(frozen=True, slots=True)
class CurrencySum:
    """The sum of amounts of one currency.

    Attributes:
        sign: what people write for the currency.
        amount: the sum.
        count: of how many amounts.
    """

    sign: str
    amount: Decimal
    count: int

    @property
    def average(self) -> Decimal:
        """The average amount, with two decimals."""
        return (self.amount / self.count).quantize(Decimal("0.01"))


@dataclass(frozen=True, slots=True)
class Amounts:
    """How many events of one kind there were, and their money.

    Attributes:
        count: of the events.
        unknown: how many of their amounts are not in `sums`.
        sums: by the currency's code.
    """

    count: int = 0
    unknown: int = 0
    sums: Mapping[str, CurrencySum] = field(default_factory=dict)

    def plus(self, other: "Amounts") -> "Amounts":
        """Return both together."""
        sums = dict(self.sums)
        for currency, added in other.sums.items():
            before = sums.get(currency, CurrencySum("", Decimal(0), 0))
            sums[currency] = CurrencySum(added.sign, before.amount + added.amount, before.count + added.count)
        return Amounts(self.count + other.count, self.unknown + other.unknown, sums)


@dataclass(frozen=True, slots=True)
class OrderTally:
    """What happened on a day, or in several days.

    Attributes:
        orders: paid, so announced as new; with their totals.
        failed: failed payments, with the orders' totals.
        cancelled: cancelled orders, with their totals.
        refunds: full and partial ones, with the money given back.
    """

    orders: Amounts = field(default_factory=Amounts)
    failed: Amounts = field(default_factory=Amounts)
    cancelled: Amounts = field(default_factory=Amounts)
    refunds: Amounts = field(default_factory=Amounts)

    def plus(self, other: "OrderTally") -> "OrderTally":
        """Return both together."""
        return OrderTally(**{name: getattr(self, name).plus(getattr(other, name)) for name in self.__slots__})

    def as_json(self) -> dict[str, Any]:
        """Return the tally as a store keeps it: by kind, the counts, and one list per currency."""
        kinds = {name: getattr(self, name) for name in self.__slots__}
        return {name: _as_list(amounts) for name, amounts in kinds.items() if amounts.count}

    @classmethod
    def of_json(cls, found: object) -> "OrderTally":
        """Return the tally that `as_json` wrote.

        Raises:
            ValueError: it did not write this.
        """
        if not isinstance(found, dict) or not found.keys() <= set(cls.__slots__):
            raise ValueError(NO_TALLY)
        return cls(**{name: _amounts(value) for name, value in found.items()})


EMPTY = OrderTally()


@dataclass(frozen=True, slots=True)
class TallyChange:
    """What a commit writes.

    Attributes:
        changed: by day.
        dropped: days that are no longer needed.
    """

    changed: Mapping[date, OrderTally]
    dropped: Sequence[date] = ()


def total(tallies: Iterable[OrderTally]) -> OrderTally:
    """Return all tallies together."""
    found = OrderTally()
    for one in tallies:
        found = found.plus(one)
    return found


@dataclass(frozen=True, slots=True)
class TallyClock:
    """How events are assigned to days.

    Attributes:
        shop_time: the shop's clock.
        is_right: it agrees with ours. Then no event is later, and what is older than KEPT_DAYS is dropped. A
            wrong clock drops nothing.
        zone: the owner's time zone; None for that of this machine.
    """

    shop_time: datetime
    is_right: bool
    zone: tzinfo | None

    def day(self, event: OrderEvent) -> date:
        """Return the day on which an event happened."""
        at = happened_at(event)
        return (min(at, self.shop_time) if self.is_right else at).astimezone(self.zone).date()

    @property
    def first(self) -> date:
        """The earliest day that is kept, if the clock is right."""
        return self.today - timedelta(days=KEPT_DAYS)

    @property
    def today(self) -> date:
        """The present day by the shop's clock."""
        return self.shop_time.astimezone(self.zone).date()


def by_day(events: Iterable[OrderEvent], clock: TallyClock) -> dict[date, list[OrderEvent]]:
    """Return the events that count, by the days whose tallies they change."""
    first = clock.first if clock.is_right else date.min
    found: dict[date, list[OrderEvent]] = {}
    for event in events:
        if event.type in KINDS and (day := clock.day(event)) >= first:
            found.setdefault(day, []).append(event)
    return found


def counted(
    stored: Mapping[date, OrderTally], events: Mapping[date, Iterable[OrderEvent]], clock: TallyClock
) -> TallyChange:
    """Count events.

    Args:
        stored: the tallies of their days so far. Only if all days are given, those that are too old, or too
            many, are dropped.
        events: those of one commit, as `by_day` returns them.
        clock: the clock that `by_day` was called with.
    """
    changed: dict[date, OrderTally] = {}
    for day, of_day in events.items():
        before = stored.get(day, EMPTY)
        kinds: dict[str, Amounts] = {}
        for event in of_day:
            kind = KINDS[event.type]
            added = _amounts_of(event, kind)
            if added is not None:
                kinds[kind] = _bounded((kinds.get(kind) or getattr(before, kind)).plus(added))
        if kinds:
            changed[day] = replace(before, **kinds)
    kept = sorted(stored.keys() - changed.keys())
    if clock.is_right:
        dropped = [day for day in kept if changed and not clock.first <= day <= clock.today]
    else:
        dropped = kept[: max(0, len(kept) + len(changed) - MAX_DAYS)]
    return TallyChange(changed, dropped)


def happened_at(event: OrderEvent) -> datetime:
    """Return when an event happened, by the shop's clock."""
    order = event.order
    if event.type == EventType.NEW:
        return order.paid_at or order.modified_at
    if event.refund is not None:
        return event.refund.created_at or order.modified_at
    if event.type == EventType.REFUNDED:
        made = [
            one.created_at
            for one in order.refunds or ()
            if one.created_at is not None and one.id not in event.earlier_refund_ids
        ]
        return max(made, default=order.modified_at)
    return order.modified_at


def given_back(event: OrderEvent) -> str:
    """Return the money that a full or a partial refund gives back; "" if it is not known.

    A full refund gives back what earlier refunds have left. The shop may write its amount a moment after the
    status, so it is the order's total without the earlier refunds.
    """
    if event.refund is not None:
        return event.refund.amount
    order = event.order
    earlier = [one.amount for one in order.refunds or () if one.id in event.earlier_refund_ids]
    if not order.total or "" in earlier:
        return ""
    return str(max(amount_of(order.total) - sum(map(amount_of, earlier), Decimal(0)), Decimal(0)))


def _amounts_of(event: OrderEvent, kind: str) -> Amounts | None:
    """Return what a single event of a kind adds; None if it does not count."""
    amount = given_back(event) if kind == "refunds" else event.order.total
    if not amount:
        return Amounts(1, unknown=1)
    if kind == "refunds" and not amount_of(amount):
        return None  # all of the money was given back, and counted, before
    return Amounts(
        1, sums={event.order.currency: CurrencySum(event.order.currency_sign, amount_of(amount), 1)}
    )


def _bounded(amounts: Amounts) -> Amounts:
    """Count an amount in one more currency than MOST_CURRENCIES as not known."""
    if len(amounts.sums) <= MOST_CURRENCIES:
        return amounts
    sums = list(amounts.sums.items())
    unknown = amounts.unknown + sum(one.count for _, one in sums[MOST_CURRENCIES:])
    return Amounts(amounts.count, unknown, dict(sums[:MOST_CURRENCIES]))


def _as_list(amounts: Amounts) -> list[Any]:
    sums = [[currency, one.sign, f"{one.amount:f}", one.count] for currency, one in amounts.sums.items()]
    return [amounts.count, amounts.unknown, *sums]


def _amounts(value: object) -> Amounts:
    match value:
        case [int(count), int(unknown), *rest] if 0 <= unknown <= count and len(rest) <= MOST_CURRENCIES:
            return Amounts(count, unknown, dict(map(_sum, rest)))
    raise ValueError(NO_TALLY)


def _sum(value: object) -> tuple[str, CurrencySum]:
    match value:
        case [str(currency), str(sign), str(amount), int(count)] if count > 0:
            return currency, CurrencySum(sign, _decimal(amount), count)
    raise ValueError(NO_TALLY)


def _decimal(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        raise ValueError(NO_TALLY) from None
    if not found.is_finite() or abs(found.adjusted()) > MOST_DIGITS:
        raise ValueError(NO_TALLY)
    return found
