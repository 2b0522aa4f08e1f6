"""The walk through the shop's own list of refunds, which WooCommerce has from 9.0 on (`/wc/v3/refunds`).

Some refunds do not change the modification date of their order (PayPal's plugin; woocommerce#28969), so
polling does not see them. The list has them by their own dates. A row of the list only points to an order.
The order is read again by its id. The usual rules decide on it (core.transition), now with the refund's date.

Dates of refunds do not change, and new refunds come at the end. So the list is read in ascending order. Each
request asks for the first page beyond the last second that was read, without the ids seen there. The list
ends when the shop reports the end (X-WP-Total, X-WP-TotalPages), or with a response without anything new. The
size of a page says nothing about the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shop_poller.core.model import KnownOrder, Order, Page, Refund

SECOND = timedelta(seconds=1)
PER_PAGE = 100
"""The largest page that a shop returns."""
MAX_EXCLUDE = 50_000
"""The most ids to exclude from one request: refunds of one second, or all of a list that is not sorted."""


@dataclass(frozen=True, slots=True)
class RefundRow:
    """A row of the list.

    Attributes:
        order_id: the order that was refunded.
        created_at: when the refund was made; None if that could not be read.
    """

    id: int
    order_id: int
    created_at: datetime | None


@dataclass(frozen=True, slots=True)
class RefundQuery:
    """One request to the list: the first page of matching refunds, by date and id, ascending.

    Attributes:
        after: exclusive, with a resolution of one second.
        exclude: ids of refunds to exclude.
    """

    after: datetime
    exclude: frozenset[int] = frozenset()
    per_page: int = PER_PAGE


@dataclass(frozen=True, slots=True)
class RefundPage:
    """The response to a RefundQuery.

    Attributes:
        total: how many refunds match the query, by the shop's own count (X-WP-Total); None if not reported.
        total_pages: how many pages they fill, by the shop's own count (X-WP-TotalPages); None if not
            reported.
    """

    rows: Sequence[RefundRow]
    total: int | None = None
    total_pages: int | None = None


@dataclass(frozen=True, slots=True)
class RefundWalk:
    """A walk through the list of refunds: its position, and what it read beyond it.

    Attributes:
        since: exclusive, where the walk began; earlier rows were not requested.
        bound: everything up to here was read; the next request excludes it.
        already_read: ids and dates of the rows beyond the bound that were read already.
    """

    since: datetime
    bound: datetime
    already_read: Mapping[int, datetime | None] = field(default_factory=dict)

    def query(self) -> RefundQuery:
        """Return the next request."""
        return RefundQuery(after=self.bound, exclude=frozenset(self.already_read))

    def fresh(self, page: RefundPage) -> list[RefundRow]:
        """Return the rows of a response that the walk has not read before, each once."""
        rows = {row.id: row for row in page.rows if row.id not in self.already_read}
        return [row for row in rows.values() if row.created_at is None or row.created_at > self.since]

    def is_ignored_by(self, page: RefundPage) -> bool:
        """Return whether the shop returns the beginning of its list, wherever the walk began."""
        return bool(page.rows) and not self.already_read and not self.fresh(page) and not _is_all(page)

    def advance(self, page: RefundPage) -> "RefundWalk | None":
        """Return the position after a response; None after the last one."""
        fresh = self.fresh(page)
        if not fresh or _is_all(page):
            return None
        dates = [row.created_at for row in page.rows if row.created_at is not None]
        # Rows before the last one may be missing if a response is unsorted, or all of one second (it may be
        # sorted the other way round). Then stay, and exclude what was read.
        is_ascending = bool(dates) and dates[0] < dates[-1] and dates == sorted(dates)
        bound = max(self.bound, dates[-1] - SECOND) if is_ascending else self.bound
        read = {**self.already_read, **{row.id: row.created_at for row in fresh}}
        already_read = {id_: at for id_, at in read.items() if at is None or at > bound}
        # A row that was read and is before the bound is returned again only if the shop ignores the bound.
        if bound == self.bound:
            already_read = read
        return (
            None if len(already_read) > MAX_EXCLUDE else replace(self, bound=bound, already_read=already_read)
        )


def _is_all(page: RefundPage) -> bool:
    """Return whether the shop reports that a response has all that match."""
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
        window: the period that is read again each time: a refund may become visible late, or be backdated.
        baseline: earlier refunds are not announced (transition.Policy).
    """
    recent = shop_time - window
    since = max(baseline, min(reached or baseline, recent)).replace(microsecond=0) - SECOND
    return RefundWalk(since=since, bound=since)


def reached(walk: RefundWalk, page: RefundPage, *, so_far: datetime | None, shop_time: datetime) -> datetime:
    """Return how far the list was read after a response, at most up to the shop's clock.

    Args:
        walk: the position that sent the request.
        page: the response.
        so_far: how far the list was read before; None if it was not read.
        shop_time: the shop's clock.
    """
    following = walk.advance(page)
    newest = walk.bound if following is None else following.bound
    if _is_all(page):
        dates = (*walk.already_read.values(), *(row.created_at for row in walk.fresh(page)))
        newest = max((at for at in dates if at is not None and at <= shop_time), default=newest)
    return max(so_far or walk.since, min(newest, shop_time))


def to_look_at(
    rows: Iterable[RefundRow], known: Mapping[int, KnownOrder], *, baseline: datetime
) -> list[RefundRow]:
    """Return the rows whose orders must be read again.

    Args:
        rows: of the list.
        known: the known state of their orders; unknown orders are missing.
        baseline: earlier refunds are not announced.
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
    """Return a page of orders with the dates of their refunds, as far as rows of the list show them."""
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
