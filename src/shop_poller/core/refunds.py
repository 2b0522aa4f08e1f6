"""The walk through the shop's own list of refunds, as WooCommerce has it from 9.0 on (`/wc/v3/refunds`).

Some refunds do not move the modification date of their order (PayPal's plugin; woocommerce#28969), so polling
does not see them. The list has them by their own dates. A row of it only points at an order: the order is
read again by its id, and decided by the same table as always (core.transition), now with the refund's date.

Dates of refunds do not change, and new ones come at the end. So the list is read in ascending order, always
the first page of what lies beyond the last second that was read, without the ids seen in that second. The
end is what the shop says (X-WP-Total, X-WP-TotalPages), or an answer that contains nothing new; the size of
a page says nothing.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shop_poller.core.model import KnownOrder, Order, Page, Refund

SECOND = timedelta(seconds=1)
PER_PAGE = 100
"""The most that a shop gives at once."""
MAX_EXCLUDE = 50_000
"""Most ids left out of one question: refunds in one second, or all of a list that is not sorted."""


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A row of the list.

    Attributes:
        order_id: whose money was given back.
        created_at: when; None if that could not be read.
    """

    id: int
    order_id: int
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefundQuery:
    """One question to the list: the first page of what matches, by date and id, ascending.

    Attributes:
        after: exclusive, one second of resolution.
        exclude: ids of refunds to leave out.
    """

    after: datetime
    exclude: frozenset[int] = frozenset()
    per_page: int = PER_PAGE


@dataclass(frozen=True, slots=True)
class RefundPage:
    """The answer to a RefundQuery.

    Attributes:
        total: how many refunds match the query, by the shop's own count (X-WP-Total); None if not told.
        total_pages: how many pages they fill, by the shop's own count (X-WP-TotalPages); None if not told.
    """

    rows: Sequence[RefundRow]
    total: int | None = None
    total_pages: int | None = None


@dataclass(frozen=True, slots=True)
class RefundWalk:
    """A position in the list.

    Attributes:
        since: exclusive, where the walk began: rows from before that are not what was asked for.
        bound: exclusive, all up to here was read.
        seen: ids of the rows beyond the bound that were read already, with their dates.
    """

    since: datetime
    bound: datetime
    seen: Mapping[int, datetime | None] = field(default_factory=dict)

    def query(self) -> RefundQuery:
        """What to ask next."""
        return RefundQuery(after=self.bound, exclude=frozenset(self.seen))

    def fresh(self, page: RefundPage) -> list[RefundRow]:
        """The rows of an answer that the walk has not read before, each once."""
        rows = {row.id: row for row in page.rows if row.id not in self.seen}
        return [row for row in rows.values() if row.created_at is None or row.created_at > self.since]

    def is_ignored_by(self, page: RefundPage) -> bool:
        """Whether the shop gives the beginning of its list, wherever it was asked to begin."""
        return bool(page.rows) and not self.seen and not self.fresh(page) and not _is_all(page)

    def advance(self, page: RefundPage) -> "RefundWalk | None":
        """The position after an answer; None when that was the last."""
        fresh = self.fresh(page)
        if not fresh or _is_all(page):
            return None
        dates = [row.created_at for row in page.rows if row.created_at is not None]
        # An answer that is not sorted, or all of one second (it may be sorted the other way round), does not
        # say that all before its last row was shown: stay, and leave out what was read.
        is_ascending = bool(dates) and dates[0] < dates[-1] and dates == sorted(dates)
        bound = max(self.bound, dates[-1] - SECOND) if is_ascending else self.bound
        read = {**self.seen, **{row.id: row.created_at for row in fresh}}
        seen = {id_: at for id_, at in read.items() if at is None or at > bound}
        # A row that was read and lies before the bound comes again only if the shop ignores the bound.
        if bound == self.bound:
            seen = read
        return None if len(seen) > MAX_EXCLUDE else replace(self, bound=bound, seen=seen)


def _is_all(page: RefundPage) -> bool:
    """Whether the shop says that an answer holds all that matches."""
    if page.total is not None:
        return page.total <= len({row.id for row in page.rows})
    return page.total_pages is not None and page.total_pages <= 1


def begin(
    *, reached: datetime | None, shop_time: datetime, window: timedelta, baseline: datetime
) -> RefundWalk:
    """Begin a walk.

    Args:
        reached: how far earlier walks came; None if there was none.
        shop_time: the shop's clock.
        window: what is read again each time: a refund may become visible late, or be dated back.
        baseline: refunds from before that are no news (transition.Policy).
    """
    recent = shop_time - window
    since = max(baseline, min(reached or baseline, recent)).replace(microsecond=0) - SECOND
    return RefundWalk(since=since, bound=since)


def reached(walk: RefundWalk, page: RefundPage, *, so_far: datetime | None, shop_time: datetime) -> datetime:
    """How far the list was read, after an answer: never beyond what was read, nor beyond the shop's clock.

    Args:
        walk: the position that asked.
        page: the answer.
        so_far: how far it was read before.
        shop_time: the shop's clock.
    """
    following = walk.advance(page)
    newest = walk.bound if following is None else following.bound
    if _is_all(page):
        dates = (*walk.seen.values(), *(row.created_at for row in walk.fresh(page)))
        newest = max((at for at in dates if at is not None and at <= shop_time), default=newest)
    return max(so_far or walk.since, min(newest, shop_time))


def to_look_at(
    rows: Iterable[RefundRow], known: Mapping[int, KnownOrder], *, baseline: datetime
) -> list[RefundRow]:
    """The rows whose orders are to be read again.

    Args:
        rows: of the list.
        known: what is known of their orders; unknown ones are missing.
        baseline: refunds from before that are no news.
    """

    def is_open(row: RefundRow) -> bool:
        if row.created_at is not None and row.created_at < baseline:
            return False
        order = known.get(row.order_id)
        if order is None or order.refund_ids is None or row.id not in order.refund_ids:
            return True
        return row.created_at is not None and row.id in order.silent_refund_ids

    return [row for row in rows if is_open(row)]


def with_dates(page: Page, rows: Iterable[RefundRow]) -> Page:
    """A page of orders with the dates of their refunds, as far as rows of the list tell them."""
    dates = {row.id: row.created_at for row in rows}

    def dated(refund: Refund) -> Refund:
        return replace(refund, created_at=dates.get(refund.id))

    items = tuple(
        replace(item, refunds=tuple(map(dated, item.refunds)))
        if isinstance(item, Order) and item.refunds
        else item
        for item in page.items
    )
    return replace(page, items=items)
