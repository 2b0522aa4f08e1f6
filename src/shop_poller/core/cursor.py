"""The walk through what changed, and where the cursor may move.

The first page is asked for again and again, each time from just before the first order of the last one,
leaving out the orders seen since (a keyset walk). The next page would not do: when an earlier order is
touched during the walk, `page=2` skips one.

A walk ends when the shop says so, or with an answer that brings no order that was not seen. The size of a
page says nothing: sites cap it, plugins and rights take orders out of it, joins double its rows.

The cursor follows the shop's own clock, S: the `Date` of the walk's first answer. Our clock plays no part.
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
"""The smallest usual cap on a page, WordPress's own default. If a shop says of fewer orders that they are
all, and it has shown larger pages, it is believed. If it says so of more, it is asked once again, since a cap
may spoil the count too."""
MAX_PAGES = 1000
"""Pages of one walk: a shop that changes faster than it can be read is read on at the next tick."""
MAX_NUMBER = 100
"""The highest page number that is asked for, where a shop shows nothing new on the first page. It is searched
once: if all of them are empty, what the shop counts is no sign of hidden orders until the count changes."""
MAX_EXCLUDE = 50_000
"""Most orders left out of one question: more in one second is not a shop but a mistake."""


READ_AGAIN = timedelta(days=2)
"""A cursor that was lost goes back so far before the last good poll. Records are kept for a week at least, so
no order that is read again counts as never seen."""


def read_again_from(baseline_at: datetime, last_poll_at: datetime | None) -> datetime:
    """Where to go on when the cursor was lost: surely not after it, and not before our watch began."""
    return max(baseline_at, last_poll_at - READ_AGAIN) if last_poll_at else baseline_at


@dataclass(frozen=True, slots=True)
class KeysetPosition:
    """A position in a list sorted by an instant of one-second resolution.

    Attributes:
        bound: ask for what lies beyond this second, which itself is left out.
        seen: the orders beyond the bound that were seen already, and where; they are left out too.
        descending: the list runs from new to old, by creation; else from old to new, by modification.
        number: of the page to ask for. It is 1 unless the first page brought nothing new although the list
            goes on: hidden from us as a whole, or of a shop that ignores what it is to leave out.
        last: the orders of the last answer, if it brought nothing new.
        largest: the most orders that a page of this shop was seen to have.
        nothing_in: what the shop counted when all the pages that it told of were empty.
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
        """The ids to leave out."""
        return frozenset(self.seen)

    def advance(self, page: Page, per_page: int) -> "KeysetPosition | None":
        """The position after a page; None when the list is at its end.

        The next question starts just before the first order of this page, not after its last: an order that
        is touched while the shop makes the page is shown with its new date in its old place, and the walk
        would jump over all that lies between. Of the first that can only be said if all of the page was
        touched, or the page is not in order any more.

        Args:
            page: the answer.
            per_page: how many orders were asked for.

        Raises:
            TemporaryError: PROTOCOL, the shop ignores the time that it was asked for, or sends the same
                orders whatever it is asked.
        """
        rows = [(item.id, item.created_at if self.descending else item.modified_at) for item in page.items]
        dated = [at for _, at in rows if at is not None]
        in_order = dated == sorted(dated, reverse=self.descending)
        within = [(order_id, at) for order_id, at in rows if at is None or not self.leaves_out(at)]
        if all(order_id in self.seen for order_id, _ in within):
            return self._after_nothing_new(page, rows, per_page, in_order=in_order)
        if self._is_told_to_be_last(page):
            return None
        # Of a page that is not in order nothing can be concluded: stay, and leave out what was seen.
        first = next((at for _, at in within if at is not None), None)
        bound = self._behind(first) if first and in_order else self.bound
        moved = self._moved(bound, _placed(within))
        return replace(moved, largest=max(self.largest, len(page.items)))

    def resized(self, was: int, per_page: int) -> "KeysetPosition":
        """The same in pages of another size, of which none is passed over that was not looked at yet."""
        return replace(self, number=(self.number - 1) * was // per_page + 1)

    def leaves_out(self, at: datetime) -> bool:
        """Whether an instant lies not beyond the bound."""
        return at >= self.bound if self.descending else at <= self.bound

    def _is_outside(self, at: datetime) -> bool:
        """Whether the bound should have kept this away. Some shops count the bound itself in."""
        return at > self.bound if self.descending else at < self.bound

    def _is_told_to_be_last(self, page: Page) -> bool:
        """Whether the shop says that a page with something new is all there is, and may be believed."""
        orders = len(page.items)
        if orders >= min(FEW, self.largest) or self.number > 1 or (page.total_pages or 0) > 1:
            return False
        # A count that is lower than what was sent is none: some plugins turn counting off.
        return page.total_pages == 1 if page.total is None else page.total == orders

    def _after_nothing_new(
        self, page: Page, rows: "Rows", per_page: int, *, in_order: bool
    ) -> "KeysetPosition | None":
        ids = frozenset(order_id for order_id, _ in rows)
        is_told_to_go_on = (
            self.number < min(page.total_pages or 1, MAX_NUMBER) and counted(page) != self.nothing_in
        )
        if not ids:  # hidden as a whole: a user's rights, or a plugin
            return replace(self, number=self.number + 1, last=ids) if is_told_to_go_on else None
        is_many = len(ids) >= min(FEW, per_page)
        if any(at is not None and self._is_outside(at) for _, at in rows):
            if is_many:
                raise _repeating() if ids & self.seen.keys() else _ignoring_time()
            return None  # a few that come whatever is asked for are all that there is
        # The shop ignores what it is to leave out. What it shows twice in the same place does stand there, so
        # the walk may go on from behind it.
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
    """Whether an empty answer says little of the end: a shop that tells no count may hide that many orders.

    Args:
        query: the question.
        page: the answer.
        largest: how many orders could be asked for.
    """
    return not page.items and counted(page) == (None, None) and query.per_page < largest and not query.ids


Counted = tuple[int | None, int | None]
"""How many orders and pages a shop says that match."""


def counted(page: Page) -> Counted:
    """What a shop says with a page."""
    return page.total, page.total_pages


Rows = Sequence[tuple[int, datetime | None]]
"""Id and instant of each order of a page, in its order; no instant if that could not be read."""


def _placed(rows: Rows) -> dict[int, datetime | None]:
    """Where each order stands; one without a date stands where the one before it does."""
    placed: dict[int, datetime | None] = {}
    at: datetime | None = None
    for order_id, own in rows:
        at = own or at
        placed[order_id] = at
    return placed


def _ignoring_time() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        "the shop sends orders from outside of the time that it was asked for; look for a plugin that changes"
        " how orders are listed",
    )


def _repeating() -> TemporaryError:
    return TemporaryError(
        ErrorKind.PROTOCOL,
        "the shop sends the same orders whatever it is asked; a cache or plugin in front of it may be"
        " repeating an old answer",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysetWalk:
    """A walk through orders, page by page. The size of its pages may change on the way."""

    keyset_position: KeysetPosition
    per_page: int = MAX_PER_PAGE

    def sized(self, per_page: int) -> Self:
        """The same walk with pages of that size."""
        position = self.keyset_position.resized(self.per_page, per_page)
        return replace(self, per_page=per_page, keyset_position=position)

    def halved(self) -> Self:
        """The same walk with pages of half the size, after an answer above the size bound.

        Raises:
            TemporaryError: TOO_LARGE, a single order is above the bound.
        """
        return self.sized(halve(self.per_page))


@dataclass(frozen=True, slots=True)
class Walk(KeysetWalk):
    """A walk through what changed since the cursor.

    Attributes:
        cursor: where it began.
        shop_time: S, None before the first answer.
        newest: the newest modification seen that does not lie in the shop's future.
        pages: taken so far.
    """

    cursor: datetime
    pages: int = 0
    shop_time: datetime | None = None
    newest: datetime | None = None

    def query(self) -> Query:
        """What to ask next."""
        return Query(
            per_page=self.per_page,
            modified_after=self.keyset_position.bound,
            exclude=self.keyset_position.exclude,
            page=self.keyset_position.number,
        )


@dataclass(frozen=True, slots=True)
class Step:
    """What a page means for the walk.

    Attributes:
        cursor: where the page's commit moves the cursor to.
        walk: how to go on; None when this was the last page.
    """

    cursor: datetime
    walk: Walk | None


@dataclass(frozen=True, slots=True)
class ReadBefore:
    """What the walks since the start have shown, so that no later tick asks for it again.

    A change may become visible up to the overlap after it is stamped. So what is stamped up to the newest
    change that a walk saw is complete once another whole walk has begun the overlap later: a burst is not
    read again at every tick.

    Attributes:
        walks: the shop's clock at the beginning of each whole walk that saw something, and the newest that it
            saw; only those that still wait for the overlap to pass.
        complete_to: all that is stamped up to here was read; None if nothing is known of that.
        complete_at: the shop's clock at the beginning of the walk that first saw that.
        largest: see KeysetPosition.
        nothing_in: see KeysetPosition.
    """

    walks: tuple[tuple[datetime, datetime], ...] = ()
    complete_to: datetime | None = None
    complete_at: datetime | None = None
    largest: int = 0
    nothing_in: Counted | None = None

    def after(self, walk: Walk, page: Page, *, overlap: timedelta) -> "ReadBefore":
        """The same after a whole walk, which ended with that page."""
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
        """The same, but what is stamped from an instant on is to be read again; None leaves it as it is."""
        if instant is None or self.complete_to is None or self.complete_to < instant:
            return self
        return replace(self, complete_to=instant - SECOND)

    def holds_at(self, shop_time: datetime) -> bool:
        """Whether no change can be stamped with what is complete: not if the shop's clock was set back."""
        return self.complete_at is None or shop_time > self.complete_at


def start(cursor: datetime, *, overlap: timedelta, read: ReadBefore = ReadBefore()) -> Walk:
    """Begin a walk: two changes in one second share one timestamp, so what lies just behind is re-read.

    Args:
        cursor: where the last one ended.
        overlap: SHOP_CURSOR_OVERLAP.
        read: what need not be read again.
    """
    bound, newest = cursor - overlap, None
    if read.complete_to is not None and read.complete_to > bound:
        bound = newest = read.complete_to
    position = KeysetPosition(bound, largest=read.largest, nothing_in=read.nothing_in)
    return Walk(cursor, keyset_position=position, newest=newest)


def step(walk: Walk, page: Page, *, clock_skew: timedelta) -> Step:
    """Take one page.

    Args:
        walk: the walk that asked.
        page: the answer to its query.
        clock_skew: how far the shop's stamps may lag behind its Date header.

    Raises:
        TemporaryError: PROTOCOL, see KeysetPosition.advance, or there is no end to it.
    """
    shop_time = walk.shop_time or page.shop_time
    newest = _newest(walk, page, shop_time)
    keyset_position = walk.keyset_position.advance(page, walk.per_page)
    if keyset_position is None or (len(page.items) < walk.per_page and _is_of_this_walk(page, shop_time)):
        floor = shop_time - clock_skew
        return Step(cursor=max(newest, floor) if newest else floor, walk=None)
    if walk.pages >= MAX_PAGES:
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"no end after {MAX_PAGES:,} pages of changes; going on at the next tick"
        )
    # The second that this page began with; never behind where the walk began, or walks that are cut
    # short would lead backwards.
    reached = max(walk.cursor, min(keyset_position.bound + SECOND, shop_time))
    return Step(
        cursor=reached,
        walk=replace(
            walk, keyset_position=keyset_position, pages=walk.pages + 1, shop_time=shop_time, newest=newest
        ),
    )


def _newest(walk: Walk, page: Page, shop_time: datetime) -> datetime | None:
    """The newest change seen. An order dated ahead says nothing of how far the stamps of the others are."""
    stamps = (walk.newest, *(item.modified_at for item in page.items))
    return max((at for at in stamps if at and at <= shop_time), default=None)


def _is_of_this_walk(page: Page, began: datetime) -> bool:
    """Whether all of a page changed after the walk began: the next walk shows it, this one would never end.

    Orders that are dated further ahead than the shop's clock are read like all others.
    """
    stamps = [item.modified_at for item in page.items]
    return bool(stamps) and all(at is not None and began < at <= page.shop_time for at in stamps)


@dataclass(frozen=True, slots=True)
class CreatedWalk(KeysetWalk):
    """A walk through orders by creation, from new to old: those at the position's bound or later are done.

    Attributes:
        since: only orders created after this instant; None for all.
        modified_after: only orders modified after this instant; None for all.
    """

    since: datetime | None
    modified_after: datetime | None = None

    def query(self) -> Query:
        """What to ask next."""
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
        """Take one page; None when it was the last.

        Raises:
            TemporaryError: PROTOCOL, see KeysetPosition.advance.
        """
        keyset_position = self.keyset_position.advance(page, self.per_page)
        return replace(self, keyset_position=keyset_position) if keyset_position else None


def created_walk(
    *, since: datetime | None, before: datetime, modified_after: datetime | None = None
) -> CreatedWalk:
    """Begin a walk through the orders made between two instants, both exclusive."""
    position = KeysetPosition(before, descending=True)
    return CreatedWalk(since, keyset_position=position, modified_after=modified_after)


def halve(per_page: int) -> int:
    """Half a page.

    Raises:
        TemporaryError: TOO_LARGE, it was one order already.
    """
    if per_page == 1:
        raise TemporaryError(
            ErrorKind.TOO_LARGE,
            "one single order of the shop is larger than the bound of an answer; look for an order with a"
            " huge note or meta field, changed last",
        )
    return per_page // 2
