"""The walk through changed orders, and where the cursor may move.

Every request asks for the first page again. It starts just before the first order of the last page, and
excludes the orders seen since (a keyset walk). Page numbers are not reliable: if an earlier order is changed
during the walk, `page=2` skips an order.

A walk ends when the shop reports the end, or when a response has no new order. The size of a page says
nothing about the end: sites cap it, plugins and permissions remove orders from it, and joins double its rows.

The cursor follows the shop's own clock, S: the `Date` of the walk's first response. Our clock is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Self

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query

SECOND = timedelta(seconds=1)
MAX_PER_PAGE = 100
FEW = 10
"""The smallest usual cap on a page, WordPress's own default. If the shop reports that fewer orders than this
are all, and it has shown larger pages, that is accepted. If it reports so for more orders, one more request
is sent, since a cap may also make the count wrong."""
MAX_PAGES = 1000
"""Pages of one walk. If a shop changes faster than it can be read, the next tick continues."""
MAX_NUMBER = 100
"""The highest page number to request if the first page of a shop has nothing new. The pages are searched
once. If all of them are empty, the shop's count is no sign of hidden orders until the count changes."""
MAX_EXCLUDE = 50_000
"""The most orders to exclude from one request: more than this within one second is an error of the shop."""


READ_AGAIN = timedelta(days=2)
"""How far before the last successful poll a lost cursor is reset. Records are kept for a week at least, so no
order that is read again counts as unknown."""


def read_again_from(baseline_at: datetime, last_poll_at: datetime | None) -> datetime:
    """Return where to resume after the cursor was lost: at or before it, but not before the baseline."""
    return max(baseline_at, last_poll_at - READ_AGAIN) if last_poll_at else baseline_at


@dataclass(frozen=True, slots=True)
class KeysetPosition:
    """A position in a list sorted by an instant of one-second resolution.

    Attributes:
        bound: request orders beyond this second; the second itself is excluded.
        seen: the orders beyond the bound that were seen already, and their instants; they are excluded too.
        descending: whether the list runs from new to old, by creation; else from old to new, by modification.
        number: the page to request. It is 1 unless the first page has nothing new although the list
            continues: all of that page is hidden from us, or the shop ignores the excluded ids.
        last: the orders of the last response, if it contained nothing new.
        largest: the most orders seen on one page of this shop.
        nothing_in: the shop's count when all the pages that it reported were empty.
    """

    bound: datetime
    seen: Mapping[int, datetime | None] = field(default_factory=dict)
    descending: bool = False
    number: int = 1
    last: frozenset[int] = frozenset()
    largest: int = 0
    nothing_in: "Counted | None" = None

    @property
    def exclude(self) -> frozenset[int]:
        """The ids to exclude."""
        return frozenset(self.seen)

    def advance(self, page: Page, per_page: int) -> "KeysetPosition | None":
        """Return the position after a page; None at the end of the list.

        The next request starts just before the first order of this page, not after its last one. If an order
        is changed while the shop builds the page, it has its new date in its old place. Then the walk would
        skip everything in between. The first order is affected only if the whole page was changed, or if the
        page is no longer in order.

        Args:
            page: the response.
            per_page: how many orders were requested.

        Raises:
            TemporaryError: PROTOCOL, the shop ignores the requested time, or sends the same orders for every
                request.
        """
        rows = [(item.id, item.created_at if self.descending else item.modified_at) for item in page.items]
        dated = [at for _, at in rows if at is not None]
        in_order = dated == sorted(dated, reverse=self.descending)
        within = [(order_id, at) for order_id, at in rows if at is None or not self.leaves_out(at)]
        if all(order_id in self.seen for order_id, _ in within):
            return self._after_nothing_new(page, rows, per_page, in_order=in_order)
        if self._is_told_to_be_last(page):
            return None
        # A page that is not in order proves nothing: stay, and exclude what was seen.
        first = next((at for _, at in within if at is not None), None)
        bound = self._behind(first) if first and in_order else self.bound
        moved = self._moved(bound, _placed(within))
        return replace(moved, largest=max(self.largest, len(page.items)))

    def resized(self, was: int, per_page: int) -> "KeysetPosition":
        """Return the position in pages of another size. It skips no page that was not read yet."""
        return replace(self, number=(self.number - 1) * was // per_page + 1)

    def leaves_out(self, at: datetime) -> bool:
        """Return whether an instant is not beyond the bound."""
        return at >= self.bound if self.descending else at <= self.bound

    def _is_outside(self, at: datetime) -> bool:
        """Return whether the bound should have excluded this. Some shops include the bound itself."""
        return at > self.bound if self.descending else at < self.bound

    def _is_told_to_be_last(self, page: Page) -> bool:
        """Return whether the shop credibly reports that a page with something new is the last one."""
        orders = len(page.items)
        if orders >= min(FEW, self.largest) or self.number > 1 or (page.total_pages or 0) > 1:
            return False
        # A count below the number of orders sent is not a count: some plugins turn counting off.
        return page.total_pages == 1 if page.total is None else page.total == orders

    def _after_nothing_new(
        self, page: Page, rows: "Rows", per_page: int, *, in_order: bool
    ) -> "KeysetPosition | None":
        ids = frozenset(order_id for order_id, _ in rows)
        is_told_to_go_on = (
            self.number < min(page.total_pages or 1, MAX_NUMBER) and counted(page) != self.nothing_in
        )
        if not ids:  # a user's permissions, or a plugin, hide the whole page
            return replace(self, number=self.number + 1, last=ids) if is_told_to_go_on else None
        is_many = len(ids) >= min(FEW, per_page)
        if any(at is not None and self._is_outside(at) for _, at in rows):
            if is_many:
                raise _repeating() if ids & self.seen.keys() else _ignoring_time()
            return None  # a few orders that come with every response are all that there are
        # The shop ignores the excluded ids. An order that it shows twice in the same place is really there,
        # so the walk may continue after it.
        standing = [at for order_id, at in rows if at is not None and self.seen.get(order_id) == at]
        if in_order and standing and not self.leaves_out(behind := self._behind(standing[-1])):
            return self._moved(behind, {})
        if not is_many and not is_told_to_go_on:
            return None
        if self.number >= MAX_NUMBER or (self.number > 1 and ids == self.last):
            raise _repeating()
        return replace(self, number=self.number + 1, last=ids)

    def _moved(self, bound: datetime, placed: Mapping[int, datetime | None]) -> "KeysetPosition":
        position = replace(self, bound=bound, number=self.number if bound == self.bound else 1)
        seen = {
            order_id: at
            for order_id, at in {**self.seen, **placed}.items()
            if at is None or not position.leaves_out(at)
        }
        if len(seen) > MAX_EXCLUDE:
            raise TemporaryError(
                ErrorKind.PROTOCOL,
                f"the shop changed more than {MAX_EXCLUDE:,} orders at once ({bound:%F %T})",
            )
        return replace(position, seen=seen, last=frozenset())

    def _behind(self, at: datetime) -> datetime:
        return at + SECOND if self.descending else at - SECOND


def may_hide_more(query: Query, page: Page, *, largest: int) -> bool:
    """Return whether an empty response does not prove the end: without a count, a shop may hide many orders.

    Args:
        query: the request.
        page: the response.
        largest: the largest page size that may be requested; the shop may hide this many orders.
    """
    return not page.items and counted(page) == (None, None) and query.per_page < largest and not query.ids


Counted = tuple[int | None, int | None]
"""How many orders and pages match, as the shop reports it."""


def counted(page: Page) -> Counted:
    """Return the counts that the shop reports with a page."""
    return page.total, page.total_pages


Rows = Sequence[tuple[int, datetime | None]]
"""The id and instant of each order of a page, in its order; the instant is None if it could not be read."""


def _placed(rows: Rows) -> dict[int, datetime | None]:
    """Return where each order is in the list; one without a date is where the one before it is."""
    placed: dict[int, datetime | None] = {}
    at: datetime | None = None
    for order_id, own in rows:
        at = own or at
        placed[order_id] = at
    return placed


def _ignoring_time() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        "the shop sends orders from outside the requested period; look for a plugin that changes"
        " how orders are listed",
    )


def _repeating() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        "the shop sends the same orders for every request; a cache or plugin in front of it may be"
        " repeating an old response",
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
class Walk(KeysetWalk):
    """A walk through what changed since the cursor.

    Attributes:
        cursor: where it began.
        shop_time: S, None before the first answer.
        newest: the newest modification seen that does not lie in the shop's future.
        pages: how many were read so far.
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
            page=self.keyset_position.number,
            with_items=True,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What a page means for the walk.

    Attributes:
        cursor: where the commit of the page moves the cursor.
        walk: the rest of the walk; None after the last page.
    """

    cursor: datetime
    walk: Walk | None


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """What the walks since the start have read, so that later ticks do not request it again.

    A change may become visible up to the overlap after its timestamp. So everything up to the newest change
    of a walk is complete once another whole walk has begun at least the overlap later. This way, a burst of
    changes is not read again at every tick.

    Attributes:
        walks: the shop's time at the beginning of each whole walk that saw something, and the newest change
            that it saw; only walks for which the overlap has not passed yet.
        complete_to: everything with a timestamp up to here was read; None if unknown.
        complete_at: the shop's time at the beginning of the walk that first saw that.
        largest: see KeysetPosition.
        nothing_in: see KeysetPosition.
    """

    walks: tuple[tuple[datetime, datetime], ...] = ()
    complete_to: datetime | None = None
    complete_at: datetime | None = None
    largest: int = 0
    nothing_in: Counted | None = None

    def after(self, walk: Walk, page: Page, *, overlap: timedelta) -> "ReadBefore":
        """Return the state after a whole walk, which ended with that page."""
        began = walk.shop_time or page.shop_time
        newest = _newest(walk, page, began)
        is_known = newest is None or newest == self.complete_to or newest in {seen for _, seen in self.walks}
        waiting = self.walks if is_known or newest is None else (*self.walks, (began, newest))
        done = [(seen, at) for at, seen in waiting if at + overlap <= began]
        if self.complete_to is not None and self.complete_at is not None:
            done.append((self.complete_to, self.complete_at))
        complete_to, complete_at = max(done, default=(None, None))
        is_searched = not page.items and walk.keyset_position.number > 1
        return ReadBefore(
            walks=tuple((at, seen) for at, seen in waiting if at + overlap > began),
            complete_to=complete_to,
            complete_at=complete_at,
            largest=max(walk.keyset_position.largest, len(page.items)),
            nothing_in=counted(page) if is_searched else self.nothing_in,
        )

    def up_to(self, instant: datetime | None) -> "ReadBefore":
        """Return the state in which everything from an instant on is read again; None changes nothing."""
        if instant is None or self.complete_to is None or self.complete_to < instant:
            return self
        return replace(self, complete_to=instant - SECOND)

    def holds_at(self, shop_time: datetime) -> bool:
        """Return whether no new change can have a timestamp up to complete_to.

        One can have it if the shop's clock was set back.
        """
        return self.complete_at is None or shop_time > self.complete_at


def start(cursor: datetime, *, overlap: timedelta, read: ReadBefore = ReadBefore()) -> Walk:
    """Begin a walk. Changes in one second share a timestamp, so the time before the cursor is read again.

    Args:
        cursor: where the last walk ended.
        overlap: SHOP_CURSOR_OVERLAP.
        read: what need not be read again.
    """
    bound, newest = cursor - overlap, None
    if read.complete_to is not None and read.complete_to > bound:
        bound = newest = read.complete_to
    position = KeysetPosition(bound, largest=read.largest, nothing_in=read.nothing_in)
    return Walk(cursor, keyset_position=position, newest=newest)


def step(walk: Walk, page: Page, *, clock_skew: timedelta) -> Step:
    """Process one page.

    Args:
        walk: the walk that sent the request.
        page: the response to its query.
        clock_skew: how far the shop's timestamps may lag behind its Date header.

    Raises:
        TemporaryError: PROTOCOL, see KeysetPosition.advance, or the list has no end.
    """
    shop_time = walk.shop_time or page.shop_time
    newest = _newest(walk, page, shop_time)
    keyset_position = walk.keyset_position.advance(page, walk.per_page)
    if keyset_position is None or (len(page.items) < walk.per_page and _is_of_this_walk(page, shop_time)):
        floor = shop_time - clock_skew
        return Step(cursor=max(newest, floor) if newest else floor, walk=None)
    if walk.pages >= MAX_PAGES:
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"no end after {MAX_PAGES:,} pages of changes; resuming at the next tick"
        )
    # The second that this page began with. It is never before the start of the walk, or interrupted walks
    # would move the cursor backwards.
    reached = max(walk.cursor, min(keyset_position.bound + SECOND, shop_time))
    return Step(
        cursor=reached,
        walk=replace(
            walk, keyset_position=keyset_position, pages=walk.pages + 1, shop_time=shop_time, newest=newest
        ),
    )


def _newest(walk: Walk, page: Page, shop_time: datetime) -> datetime | None:
    """Return the newest change seen. An order dated in the future shows nothing about other dates."""
    stamps = (walk.newest, *(item.modified_at for item in page.items))
    return max((at for at in stamps if at and at <= shop_time), default=None)


def _is_of_this_walk(page: Page, began: datetime) -> bool:
    """Return whether a whole page changed after the walk began.

    The next walk reads such a page; this walk would never end. Orders dated after the shop's clock are read
    like all others.
    """
    stamps = [item.modified_at for item in page.items]
    return bool(stamps) and all(at is not None and began < at <= page.shop_time for at in stamps)


@dataclass(frozen=True, slots=True)
class CreatedWalk(KeysetWalk):
    """A walk through orders by creation, from new to old; orders at or after the position's bound are done.

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
            page=self.keyset_position.number,
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
            "one single order exceeds the size limit of a response; look for a recently changed order with a"
            " huge note or meta field",
        )
    return per_page // 2
