"""The walk through changed orders, and where the cursor may move.

Every request asks for page 1 of a later period (a keyset walk). The period begins one second before the first
order of the previous page. The orders already seen in it are excluded by their ids. Page numbers are
not reliable: if an earlier order is changed during the walk, `page=2` skips an order.

A walk ends when the shop reports the end, or when a response has no new order. The size of a page says
nothing about the end: sites cap it, plugins and permissions remove orders from it, and joins double its rows.

The cursor follows the shop's own clock: the `Date` of the walk's first response. Our clock is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text

SECOND = timedelta(seconds=1)
MAX_PER_PAGE = 100
SMALLEST_PAGE_CAP = 10
"""The smallest usual cap on a page: WordPress's own default, in orders.

A shop may report that a page has all orders that match. This is trusted if the page has fewer orders than
this cap, and the shop has sent larger pages. Otherwise one more request is sent, since a cap may also make
the shop's count wrong."""
MAX_PAGES = 1000
"""Pages of one walk. If a shop changes faster than it can be read, the next tick continues."""
MAX_PAGE_NUMBER = 100
"""The highest page number that is requested while pages show nothing new. If all of them were empty, they are
searched again only after the shop's count has changed."""
MAX_EXCLUDE = 50_000
"""The most orders to exclude from one request: more than this within one second is an error of the shop."""


LOST_CURSOR_REWIND = timedelta(days=2)
"""A lost cursor is set to this long before the last successful poll. Records are kept for a week at least, so
no order that is read again counts as unknown."""


def cursor_after_loss(baseline_at: datetime, last_poll_at: datetime | None) -> datetime:
    """Return where to resume after the cursor was lost: some time before it, but not before the baseline."""
    return max(baseline_at, last_poll_at - LOST_CURSOR_REWIND) if last_poll_at else baseline_at


@dataclass(frozen=True, slots=True)
class KeysetPosition:
    """A position in a list sorted by an instant of one-second resolution.

    Attributes:
        bound: only orders after this second in the list are requested; the second itself is excluded.
        already_read: orders after the bound that were read already, and their instants; excluded by id.
        descending: True: the list is sorted by creation, newest first. False: by modification, oldest first.
        page_number: the page to request. It is above 1 only if page 1 showed nothing new although the list
            continues. Then the shop hides that page, or it ignores the excluded ids.
        repeated_ids: the ids of the last response if it contained nothing new; else empty.
        largest_page: the most orders seen on one page of this shop.
        counts_when_empty: the shop's counts when a search through all its pages found nothing; None if there
            was no such search.
    """

    bound: datetime
    already_read: Mapping[int, datetime | None] = field(default_factory=dict)
    descending: bool = False
    page_number: int = 1
    repeated_ids: frozenset[int] = frozenset()
    largest_page: int = 0
    counts_when_empty: "Counts | None" = None

    @property
    def exclude(self) -> frozenset[int]:
        """The ids to exclude."""
        return frozenset(self.already_read)

    def advance(self, page: Page, per_page: int) -> "KeysetPosition | None":
        """Return the position after a page; None at the end of the list.

        The next request starts just before the *first* order of the page. The last order may have been
        changed while the shop built the page; a walk that starts after its new date would skip orders.

        Args:
            page: the response.
            per_page: how many orders were requested.

        Raises:
            TemporaryError: PROTOCOL, the shop ignores the requested period, or sends the same orders for
                every request.
        """
        rows = [(item.id, item.created_at if self.descending else item.modified_at) for item in page.items]
        dated = [at for _, at in rows if at is not None]
        in_order = dated == sorted(dated, reverse=self.descending)
        requested = [(order_id, at) for order_id, at in rows if at is None or not self.bound_excludes(at)]
        if all(order_id in self.already_read for order_id, _ in requested):
            return self._after_nothing_new(page, rows, per_page, in_order=in_order)
        if self._is_reported_as_last(page):
            return None
        # A page that is not in order does not show where to resume. Keep the bound; exclude what was seen.
        first = next((at for _, at in requested if at is not None), None)
        bound = self._just_before(first) if first and in_order else self.bound
        moved = self._moved_to(bound, _with_places(requested))
        return replace(moved, largest_page=max(self.largest_page, len(page.items)))

    def resized(self, old_size: int, new_size: int) -> "KeysetPosition":
        """Return the same position in pages of another size. No unread page is skipped."""
        return replace(self, page_number=(self.page_number - 1) * old_size // new_size + 1)

    def bound_excludes(self, at: datetime) -> bool:
        """Return whether the bound excludes an order of this instant."""
        return at >= self.bound if self.descending else at <= self.bound

    def _precedes_bound(self, at: datetime) -> bool:
        """Return whether an instant comes before the bound in the list.

        A shop that applies the bound sends no such order. Some shops send orders of the bound itself.
        """
        return at > self.bound if self.descending else at < self.bound

    def _is_reported_as_last(self, page: Page) -> bool:
        """Return whether the shop reports that a page with something new is the last, and can be trusted."""
        orders = len(page.items)
        if (
            orders >= min(SMALLEST_PAGE_CAP, self.largest_page)
            or self.page_number > 1
            or (page.total_pages or 0) > 1
        ):
            return False
        # A total below the number of orders sent is wrong: some plugins turn counting off.
        return page.total_pages == 1 if page.total is None else page.total == orders

    def _after_nothing_new(
        self, page: Page, rows: "Rows", per_page: int, *, in_order: bool
    ) -> "KeysetPosition | None":
        """Return the next position after a page without new orders; None at the end of the list."""
        ids = frozenset(order_id for order_id, _ in rows)
        is_continued = (
            self.page_number < min(page.total_pages or 1, MAX_PAGE_NUMBER)
            and reported_counts(page) != self.counts_when_empty
        )
        if not ids:  # the user's permissions, or a plugin, hide the whole page
            return replace(self, page_number=self.page_number + 1, repeated_ids=ids) if is_continued else None
        is_many = len(ids) >= min(SMALLEST_PAGE_CAP, per_page)
        if any(at is not None and self._precedes_bound(at) for _, at in rows):
            if is_many:
                raise _repeating() if ids & self.already_read.keys() else _ignoring_time()
            return None  # the shop sends a few orders with every response; the list has no others
        # The shop ignores the excluded ids. An order that it sent twice with the same instant has not moved,
        # so it is safe to resume there.
        confirmed = [at for order_id, at in rows if at is not None and self.already_read.get(order_id) == at]
        if in_order and confirmed and not self.bound_excludes(resume_at := self._just_before(confirmed[-1])):
            return self._moved_to(resume_at, {})
        if not is_many and not is_continued:
            return None
        if self.page_number >= MAX_PAGE_NUMBER or (self.page_number > 1 and ids == self.repeated_ids):
            raise _repeating()
        return replace(self, page_number=self.page_number + 1, repeated_ids=ids)

    def _moved_to(self, bound: datetime, placed: Mapping[int, datetime | None]) -> "KeysetPosition":
        position = replace(self, bound=bound, page_number=self.page_number if bound == self.bound else 1)
        already_read = {
            order_id: at
            for order_id, at in {**self.already_read, **placed}.items()
            if at is None or not position.bound_excludes(at)
        }
        if len(already_read) > MAX_EXCLUDE:
            raise TemporaryError(
                ErrorKind.PROTOCOL,
                Text(
                    "the shop changed more than {most:,} orders at once ({bound:%F %T})",
                    most=MAX_EXCLUDE,
                    bound=bound,
                ),
            )
        return replace(position, already_read=already_read, repeated_ids=frozenset())

    def _just_before(self, at: datetime) -> datetime:
        return at + SECOND if self.descending else at - SECOND


def may_hide_more(query: Query, page: Page, *, largest: int) -> bool:
    """Return whether orders may remain although the response is empty: the shop sent no counts.

    Args:
        query: the request.
        page: the response.
        largest: the largest page size that may be requested; it may show orders that were hidden.
    """
    return (
        not page.items
        and reported_counts(page) == (None, None)
        and query.per_page < largest
        and not query.ids
    )


Counts = tuple[int | None, int | None]
"""How many orders and pages match, as the shop reports it."""


def reported_counts(page: Page) -> Counts:
    """Return the counts that the shop reports with a page."""
    return page.total, page.total_pages


Rows = Sequence[tuple[int, datetime | None]]
"""The id and instant of each order of a page, in its order; the instant is None if it could not be read."""


def _with_places(rows: Rows) -> dict[int, datetime | None]:
    """Return the instant of each order. An order without one gets that of the order before it."""
    placed: dict[int, datetime | None] = {}
    at: datetime | None = None
    for order_id, own in rows:
        at = own or at
        placed[order_id] = at
    return placed


def _ignoring_time() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        Text(
            "the shop sends orders from outside the requested period; look for a plugin that "
            "changes how orders are listed"
        ),
    )


def _repeating() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        Text(
            "the shop sends the same orders for every request; a cache or plugin in front of it "
            "may be repeating an old response"
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysetWalk:
    """A walk through orders, page by page. The page size may change during the walk."""

    keyset_position: KeysetPosition
    per_page: int = MAX_PER_PAGE

    def sized(self, per_page: int) -> Self:
        """Return the same walk with pages of that size."""
        position = self.keyset_position.resized(self.per_page, per_page)
        return replace(self, per_page=per_page, keyset_position=position)

    def halved(self) -> Self:
        """Return the same walk with pages of half the size, after a response above the size limit.

        Raises:
            TemporaryError: TOO_LARGE, a single order is above the limit.
        """
        return self.sized(halve(self.per_page))


@dataclass(frozen=True, slots=True)
class ModifiedWalk(KeysetWalk):
    """A walk through what changed since the cursor.

    Attributes:
        cursor: where it began.
        pages: how many were read so far.
        shop_time: the shop's clock at the first response; None before it.
        newest: the newest modification seen so far; instants in the shop's future are ignored.
    """

    cursor: datetime
    pages: int = 0
    shop_time: datetime | None = None
    newest: datetime | None = None

    def query(self) -> Query:
        """Return the next request."""
        return Query(
            per_page=self.per_page,
            modified_after=self.keyset_position.bound,
            exclude=self.keyset_position.exclude,
            page=self.keyset_position.page_number,
            with_items=True,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """The result of processing one page.

    Attributes:
        cursor: where the commit of the page moves the cursor.
        walk: the rest of the walk; None after the last page.
    """

    cursor: datetime
    walk: ModifiedWalk | None


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """What was read by the walks since the process started, so that later ticks do not request it again.

    A change becomes visible at most one overlap (SHOP_CURSOR_OVERLAP) after its timestamp. So once a whole
    walk begins at least one overlap after an earlier walk began, nothing up to the newest change of that
    earlier walk is missing. This way, a burst of changes is not read again at every tick.

    Attributes:
        walks: recent whole walks that saw something, for which the overlap has not passed yet. Each has the
            shop's time at its beginning, and the newest change that it saw.
        complete_to: everything with a timestamp up to here was read; None if unknown.
        complete_at: the shop's time at the beginning of the walk that first saw `complete_to`.
        largest_page: see KeysetPosition.
        counts_when_empty: see KeysetPosition.
    """

    walks: tuple[tuple[datetime, datetime], ...] = ()
    complete_to: datetime | None = None
    complete_at: datetime | None = None
    largest_page: int = 0
    counts_when_empty: Counts | None = None

    def after(self, walk: ModifiedWalk, page: Page, *, overlap: timedelta) -> "ReadBefore":
        """Return the state after a whole walk, which ended with that page."""
        began = walk.shop_time or page.shop_time
        newest = _newest(walk, page, began)
        is_known = (
            newest is None
            or newest == self.complete_to
            or newest in {newest_change for _, newest_change in self.walks}
        )
        waiting = self.walks if is_known or newest is None else (*self.walks, (began, newest))
        done = [(newest_change, at) for at, newest_change in waiting if at + overlap <= began]
        if self.complete_to is not None and self.complete_at is not None:
            done.append((self.complete_to, self.complete_at))
        complete_to, complete_at = max(done, default=(None, None))
        is_searched = not page.items and walk.keyset_position.page_number > 1
        return ReadBefore(
            walks=tuple((at, newest_change) for at, newest_change in waiting if at + overlap > began),
            complete_to=complete_to,
            complete_at=complete_at,
            largest_page=max(walk.keyset_position.largest_page, len(page.items)),
            counts_when_empty=reported_counts(page) if is_searched else self.counts_when_empty,
        )

    def rewound_to(self, instant: datetime | None) -> "ReadBefore":
        """Return a state in which everything from an instant on is requested again; None changes nothing."""
        if instant is None or self.complete_to is None or self.complete_to < instant:
            return self
        return replace(self, complete_to=instant - SECOND)

    def holds_at(self, shop_time: datetime) -> bool:
        """Return whether `complete_to` is still valid.

        It is not if the shop's clock was set back: then new changes may have earlier timestamps.
        """
        return self.complete_at is None or shop_time > self.complete_at


def start(cursor: datetime, *, overlap: timedelta, read: ReadBefore = ReadBefore()) -> ModifiedWalk:
    """Begin a walk. A change may become visible late, so some time before the cursor is read again.

    Args:
        cursor: where the last walk ended.
        overlap: SHOP_CURSOR_OVERLAP, how much before the cursor is read again.
        read: what need not be read again.
    """
    bound, newest = cursor - overlap, None
    if read.complete_to is not None and read.complete_to > bound:
        bound = newest = read.complete_to
    position = KeysetPosition(bound, largest_page=read.largest_page, counts_when_empty=read.counts_when_empty)
    return ModifiedWalk(cursor, keyset_position=position, newest=newest)


def step(walk: ModifiedWalk, page: Page, *, clock_skew: timedelta) -> Step:
    """Process one page.

    Args:
        walk: the walk that sent the request.
        page: the response to its query.
        clock_skew: how far the shop's timestamps may lag behind its Date header.

    Raises:
        TemporaryError: PROTOCOL, see KeysetPosition.advance; or no end after MAX_PAGES.
    """
    shop_time = walk.shop_time or page.shop_time
    newest = _newest(walk, page, shop_time)
    keyset_position = walk.keyset_position.advance(page, walk.per_page)
    if keyset_position is None or (len(page.items) < walk.per_page and _changed_during_walk(page, shop_time)):
        floor = shop_time - clock_skew
        return Step(cursor=max(newest, floor) if newest else floor, walk=None)
    if walk.pages >= MAX_PAGES:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text("no end after {most:,} pages of changes; resuming at the next tick", most=MAX_PAGES),
        )
    # The cursor moves to the second with which this page began, but never behind the start of the walk.
    # Otherwise interrupted walks would move it backwards.
    reached = max(walk.cursor, min(keyset_position.bound + SECOND, shop_time))
    return Step(
        cursor=reached,
        walk=replace(
            walk, keyset_position=keyset_position, pages=walk.pages + 1, shop_time=shop_time, newest=newest
        ),
    )


def _newest(walk: ModifiedWalk, page: Page, shop_time: datetime) -> datetime | None:
    """Return the newest change seen. Orders dated in the shop's future are ignored: their dates are wrong."""
    stamps = (walk.newest, *(item.modified_at for item in page.items))
    return max((at for at in stamps if at and at <= shop_time), default=None)


def _changed_during_walk(page: Page, began: datetime) -> bool:
    """Return whether every order of a page changed after the walk began.

    If so, the walk ends, so that constant changes cannot keep it running; the next walk reads the page. An
    order that is dated after the shop's clock does not count as changed.
    """
    stamps = [item.modified_at for item in page.items]
    return bool(stamps) and all(at is not None and began < at <= page.shop_time for at in stamps)


@dataclass(frozen=True, slots=True)
class CreatedWalk(KeysetWalk):
    """A walk through orders by creation, newest first. Only orders created before the bound are requested.

    Attributes:
        since: only orders created after this instant; None for all.
        modified_after: only orders modified after this instant; None for all.
    """

    since: datetime | None
    modified_after: datetime | None = None

    def query(self) -> Query:
        """Return the next request."""
        return Query(
            per_page=self.per_page,
            newest_first=True,
            modified_after=self.modified_after,
            created_after=self.since,
            created_before=self.keyset_position.bound,
            exclude=self.keyset_position.exclude,
            page=self.keyset_position.page_number,
        )

    def advance(self, page: Page) -> "CreatedWalk | None":
        """Process one page; return None after the last one.

        Raises:
            TemporaryError: PROTOCOL, see KeysetPosition.advance.
        """
        keyset_position = self.keyset_position.advance(page, self.per_page)
        return replace(self, keyset_position=keyset_position) if keyset_position else None


def created_walk(
    *, since: datetime | None, before: datetime, modified_after: datetime | None = None
) -> CreatedWalk:
    """Begin a walk through the orders created between two instants, both exclusive."""
    position = KeysetPosition(before, descending=True)
    return CreatedWalk(since, keyset_position=position, modified_after=modified_after)


def halve(per_page: int) -> int:
    """Return half the page size.

    Raises:
        TemporaryError: TOO_LARGE, the size is one order already.
    """
    if per_page == 1:
        raise TemporaryError(
            ErrorKind.TOO_LARGE,
            Text(
                "one single order exceeds the size limit of a response; look for a recently changed "
                "order with a huge note or meta field"
            ),
        )
    return per_page // 2
