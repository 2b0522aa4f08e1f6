"""A shop to be walked through: dated orders that change while they are read. Pure: time passes when told to.

It lists as WooCommerce does: by (modified, id) or newest created first, at one-second resolution, both
bounds exclusive, the first page of what matches. And in two steps: first it selects the ids, then it loads
the orders one by one. What is touched in between is shown as it is now in the place where it was; what cannot
be loaded is left out, so that the page is shorter. Seconds are counted from DAY. The shop's clock (its Date
header) may be off, its stamps may lag behind that clock, an edit may become visible later than it is stamped.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from math import ceil

from shop_poller.core.model import Order, Page, Query, UnreadableOrder

DAY = datetime(2026, 11, 23, tzinfo=UTC)


def at(second: float) -> datetime:
    """An instant of the shop's day."""
    return DAY + timedelta(seconds=second)


def second_of(instant: datetime) -> int:
    """The other way round."""
    return round((instant - DAY).total_seconds())


def pages_of(orders: int, per_page: int) -> int:
    """How many questions it takes to read so many orders of a shop that stands still and tells no count.

    Those that bring something new, and one that brings nothing.
    """
    return ceil(orders / per_page) + 1  # of no orders the first answer says it


@dataclass(frozen=True, slots=True)
class Row:
    """An order in the shop's database; its version grows with every change."""

    id: int
    created: int
    modified: int
    status: str = "processing"
    version: int = 1


State = tuple[int, int]
"""An order in one of its versions."""


def state_of(item: Order | UnreadableOrder) -> State:
    """Which version of which order a page showed."""
    return item.id, int(item.number if isinstance(item, Order) else item.reason)


def _nothing(ids: Sequence[int], place: int) -> None:
    """Happens within most answers."""


@dataclass(slots=True)
class ModelShop:
    """The shop, its clock and its quirks.

    Attributes:
        now: true time; only `pass_time` moves it.
        clock_off_s: how far the shop's clock is ahead of true time.
        lag_s: how far its stamps lag behind its clock.
        answer_s: how long it takes from reading its database to the end of its answer.
        dated_on_arrival: its Date header tells when the question came (Apache), not when it was answered.
        answers: how often it was asked.
        ignores: what it does not listen to of a query: modified_after, exclude, orderby, page.
        cap: the most rows of a page, whatever is asked for; 0 for none.
        cap_counts: the pages that it counts are of the capped size.
        counts: it tells how many orders and pages match.
        miscounts: it tells this number of orders instead.
        hidden: orders that it selects, counts and then takes out of the page.
        doubled: each row comes so many times, and is counted so many times (a join).
        unloadable: orders that it selects and then cannot load: left out, never seen.
        unreadable: orders that cannot be read by us; True if their dates can.
        meanwhile: what happens within an answer, before each order of a page is loaded; takes the ids of the
            page and the place of the one that is loaded next.
        garble: what happens to a page's rows between database and answer.
        rows: the orders by id.
        late: changes under way: when they become visible, and as what.
    """

    now: int = 0
    clock_off_s: int = 0
    lag_s: int = 0
    answer_s: int = 0
    dated_on_arrival: bool = False
    answers: int = 0
    ignores: frozenset[str] = frozenset()
    cap: int = 0
    cap_counts: bool = True
    counts: bool = False
    miscounts: int | None = None
    hidden: Collection[int] = frozenset()
    doubled: int = 1
    unloadable: Collection[int] = frozenset()
    unreadable: Mapping[int, bool] = field(default_factory=dict)
    meanwhile: Callable[[Sequence[int], int], None] = _nothing
    garble: Callable[[list[Row]], list[Row]] = list
    rows: dict[int, Row] = field(default_factory=dict)
    late: list[tuple[int, Row]] = field(default_factory=list)
    next_id: int = 101

    # --- What people do to it ---

    def create(
        self, *, created: int | None = None, modified: int | None = None, status: str = "processing"
    ) -> int:
        """A new order, dated now if not told otherwise."""
        stamp = self.stamp() if modified is None else modified
        row = Row(self.next_id, stamp if created is None else created, stamp, status)
        self.rows[row.id] = row
        self.next_id += 1  # never used again, even if this one is deleted
        return row.id

    def edit(self, order_id: int, *, modified: int | None = None, status: str | None = None) -> None:
        """Change an order; its date moves to now if not told otherwise."""
        self.rows[order_id] = self._changed(order_id, modified, status)

    def edit_slowly(self, order_id: int, takes_s: int) -> None:
        """Change an order in a transaction that ends later; a change made meanwhile undoes it."""
        changed = self._changed(order_id, None, None)
        self.late.append((self.now + takes_s, changed))

    def delete(self, order_id: int) -> None:
        """For good, or into the trash, where a list does not look."""
        del self.rows[order_id]

    def pass_time(self, seconds: int) -> None:
        """Wait."""
        self.now += seconds
        for due, row in self.late:
            current = self.rows.get(row.id)
            if due <= self.now and current is not None and current.version == row.version - 1:
                self.rows[row.id] = row
        self.late = [(due, row) for due, row in self.late if due > self.now]

    # --- What it shows ---

    def states(self) -> set[State]:
        """Every order that can be loaded, as it is now."""
        return {(row.id, row.version) for row in self.rows.values() if row.id not in self.unloadable}

    def clock(self) -> int:
        """The second that its Date header tells."""
        return self.now + self.clock_off_s

    def stamp(self) -> int:
        """The second that a change is dated to."""
        return self.clock() - self.lag_s

    def answer(self, query: Query) -> Page:
        """The page of what matches that is asked for."""
        self.answers += 1
        arrived = self.clock()
        matching = self._select(query)
        size = min(query.per_page, self.cap or query.per_page)
        begin = 0 if "page" in self.ignores else (query.page - 1) * size
        loaded = self._load(matching[begin : begin + size])
        items = tuple(self._item(row) for row in self.garble(loaded))
        self.pass_time(self.answer_s)
        total = len(matching) if self.miscounts is None else self.miscounts
        return Page(
            items,
            at(arrived if self.dated_on_arrival else self.clock()),
            total=total if self.counts else None,
            total_pages=ceil(total / (size if self.cap_counts else query.per_page)) if self.counts else None,
        )

    def _select(self, query: Query) -> list[int]:
        newest_first = query.newest_first or "orderby" in self.ignores
        matching = [row for row in self.rows.values() if self._matches(row, query)]
        matching.sort(key=_KEYS[newest_first])
        return [row.id for row in matching for _ in range(self.doubled)]

    def _load(self, ids: Sequence[int]) -> list[Row]:
        loaded = []
        for place, order_id in enumerate(ids):
            self.meanwhile(ids, place)
            row = self.rows.get(order_id)
            if row is not None and order_id not in self.unloadable and order_id not in self.hidden:
                loaded.append(row)
        return loaded

    def _matches(self, row: Row, query: Query) -> bool:
        after = None if "modified_after" in self.ignores else query.modified_after
        before, since = query.created_before, query.created_after
        return (
            (after is None or at(row.modified) > after.replace(microsecond=0))
            and (before is None or at(row.created) < before.replace(microsecond=0))
            and (since is None or at(row.created) > since.replace(microsecond=0))
            and (not query.ids or row.id in query.ids)
            and (not query.statuses or row.status in query.statuses)
            and (row.id not in query.exclude or "exclude" in self.ignores)
        )

    def _item(self, row: Row) -> Order | UnreadableOrder:
        created, modified = at(row.created), at(row.modified)
        if row.id in self.unreadable:
            dates = (modified, created) if self.unreadable[row.id] else (None, None)
            return UnreadableOrder(row.id, str(row.version), *dates)
        return Order(
            id=row.id,
            number=str(row.version),
            status=row.status,
            total="1930.00",
            currency="RUB",
            currency_sign="₽",
            customer="Мария",
            created_at=created,
            modified_at=modified,
        )

    def _changed(self, order_id: int, modified: int | None, status: str | None) -> Row:
        row = self.rows[order_id]
        return replace(
            row,
            modified=self.stamp() if modified is None else modified,
            status=status or row.status,
            version=row.version + 1,
        )


def _oldest_change_first(row: Row) -> tuple[int, int]:
    return row.modified, row.id


def _newest_first(row: Row) -> tuple[int, int]:
    return -row.created, -row.id


_KEYS = {False: _oldest_change_first, True: _newest_first}
