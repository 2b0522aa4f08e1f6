"""The walk through what changed, and where the cursor may move.

A shop is never paged through: when an earlier order is touched in mid-walk, `page=2` skips one. Instead
the first page is asked for again and again, each time from just before the first order of the last one,
leaving out the orders seen since (a keyset walk). A page shorter than asked ends it (but see `is_last`).

The cursor follows the shop's own clock, S: the `Date` of the walk's first answer. Our clock plays no part.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query

SECOND = timedelta(seconds=1)
MAX_PER_PAGE = 100
NEARLY_FULL = 0.9
MAX_PAGES = 1000
"""Pages of one walk: a shop that changes faster than it can be read is read on at the next tick."""
MAX_EXCLUDE = 50_000
"""Most orders left out of one question: more in one second is not a shop but a mistake."""


Rows = Sequence[tuple[int, datetime | None]]
"""Id and instant of each order of a page, in its order; no instant if that could not be read."""


@dataclass(frozen=True, slots=True)
class Keyset:
    """A position in a list sorted by an instant of one-second resolution.

    Attributes:
        bound: ask for what lies beyond this second, which itself is left out.
        seen: the orders beyond the bound that were seen already, and where; they are left out too.
        descending: the list runs from new to old.
    """

    bound: datetime
    seen: Mapping[int, datetime | None] = field(default_factory=dict)
    descending: bool = False

    @property
    def exclude(self) -> frozenset[int]:
        """The ids to leave out."""
        return frozenset(self.seen)

    def advance(self, rows: Rows) -> "Keyset":
        """The position after a page that is not the last: just before its first order.

        Not after its last: an order that is touched while the shop makes the page is shown with its new
        date in its old place, and the walk would jump over all that lies between. Of the first that can
        only be said if all of the page was touched, or the page is not in order any more.

        Raises:
            TemporaryError: PROTOCOL, the page shows that the shop ignores what it was asked, so that
                walking on would never end.
        """
        ids = [order_id for order_id, _ in rows]
        if len(set(ids) - self.seen.keys()) < len(ids):
            raise TemporaryError(
                ErrorKind.PROTOCOL,
                "the shop sends orders again that it was asked to leave out; a cache or plugin in front of"
                " it may be repeating an old answer",
            )
        dated = [at for _, at in rows if at is not None]
        if dated and self.leaves_out(dated[-1]):
            raise TemporaryError(
                ErrorKind.PROTOCOL, "the shop sends orders from outside of the time that it was asked for"
            )
        in_order = dated == sorted(dated, reverse=self.descending)
        # Of a page that is not in order nothing can be concluded: stay, and leave out what was seen.
        bound = self._behind(dated[0]) if dated and in_order else self.bound
        position = replace(self, bound=bound)
        seen = {
            order_id: at
            for order_id, at in {**self.seen, **_placed(rows)}.items()
            if at is None or not position.leaves_out(at)
        }
        position = replace(position, seen=seen)
        if len(position.seen) > MAX_EXCLUDE:
            raise TemporaryError(
                ErrorKind.PROTOCOL,
                f"the shop changed more than {MAX_EXCLUDE:,} orders at once ({bound:%F %T})",
            )
        return position

    def leaves_out(self, at: datetime) -> bool:
        """Whether an instant lies not beyond the bound."""
        return at >= self.bound if self.descending else at <= self.bound

    def _behind(self, at: datetime) -> datetime:
        return at + SECOND if self.descending else at - SECOND


def _placed(rows: Rows) -> dict[int, datetime | None]:
    """Where each order stands; one without a date stands where the one before it does."""
    placed: dict[int, datetime | None] = {}
    at: datetime | None = None
    for order_id, own in rows:
        at = own or at
        placed[order_id] = at
    return placed


def is_last(count: int, per_page: int) -> bool:
    """Whether a page ends the list.

    A shop leaves out of a page what it cannot load, so one that is nearly full may have been full.
    """
    return count < NEARLY_FULL * per_page


@dataclass(frozen=True, slots=True)
class Walk:
    """One walk through what changed since the cursor.

    Attributes:
        cursor: where it began.
        shop_time: S, None before the first answer.
        newest: the newest modification seen that does not lie in the shop's future.
        pages: taken so far.
    """

    cursor: datetime
    keyset: Keyset
    pages: int = 0
    per_page: int = MAX_PER_PAGE
    shop_time: datetime | None = None
    newest: datetime | None = None

    def query(self) -> Query:
        """What to ask next."""
        return Query(
            per_page=self.per_page,
            modified_after=self.keyset.bound,
            exclude=self.keyset.exclude,
        )

    def sized(self, per_page: int) -> "Walk":
        """The same in steps of that size."""
        return replace(self, per_page=per_page)

    def halved(self) -> "Walk":
        """The same walk in smaller steps, after an answer above the size bound.

        Raises:
            TemporaryError: TOO_LARGE, a single order is above the bound.
        """
        return replace(self, per_page=halve(self.per_page))


@dataclass(frozen=True, slots=True)
class Step:
    """What a page means for the walk.

    Attributes:
        cursor: where the page's commit moves the cursor to.
        walk: how to go on; None when this was the last page.
    """

    cursor: datetime
    walk: Walk | None


def start(cursor: datetime, *, overlap: timedelta) -> Walk:
    """Begin a walk: two changes in one second share one timestamp, so what lies just behind is re-read."""
    return Walk(cursor, Keyset(cursor - overlap))


def step(walk: Walk, page: Page, *, clock_skew: timedelta) -> Step:
    """Take one page.

    Args:
        walk: the walk that asked.
        page: the answer to its query.
        clock_skew: how far the shop's stamps may lag behind its Date header.

    Raises:
        TemporaryError: PROTOCOL, see Keyset.advance, or there is no end to it.
    """
    shop_time = walk.shop_time or page.shop_time
    rows = [(item.id, item.modified_at) for item in page.items]
    # An order dated ahead says nothing of how far the stamps of the others have come.
    dated = (at for at in (walk.newest, *(at for _, at in rows)) if at and at <= shop_time)
    newest = max(dated, default=None)
    if is_last(len(rows), walk.per_page):
        floor = shop_time - clock_skew
        return Step(cursor=max(newest, floor) if newest else floor, walk=None)
    if walk.pages >= MAX_PAGES:
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"no end after {MAX_PAGES:,} pages of changes; going on at the next tick"
        )
    keyset = walk.keyset.advance(rows)
    # The second that this page began with; never behind where the walk began, or walks that are cut
    # short would lead backwards.
    reached = max(walk.cursor, min(keyset.bound + SECOND, shop_time))
    return Step(
        cursor=reached,
        walk=replace(walk, keyset=keyset, pages=walk.pages + 1, shop_time=shop_time, newest=newest),
    )


@dataclass(frozen=True, slots=True)
class Past:
    """A walk through the orders made after an instant, whatever their dates of modification, new to old.

    Attributes:
        since: exclusive.
        keyset: its bound is how far the walk has come: what was made from there on is done.
    """

    since: datetime
    keyset: Keyset
    per_page: int = MAX_PER_PAGE

    def query(self) -> Query:
        """What to ask next."""
        return Query(
            per_page=self.per_page,
            newest_first=True,
            created_after=self.since,
            created_before=self.keyset.bound,
            exclude=self.keyset.exclude,
        )

    def sized(self, per_page: int) -> "Past":
        """The same in steps of that size."""
        return replace(self, per_page=per_page)

    def halved(self) -> "Past":
        """The same in smaller steps; raises what `halve` raises."""
        return replace(self, per_page=halve(self.per_page))

    def advance(self, page: Page) -> "Past | None":
        """Take one page; None when it was the last.

        Raises:
            TemporaryError: PROTOCOL, see Keyset.advance.
        """
        if is_last(len(page.items), self.per_page):
            return None
        return replace(self, keyset=self.keyset.advance([(item.id, item.created_at) for item in page.items]))


def past(*, since: datetime, before: datetime) -> Past:
    """Begin a walk through the orders made between two instants, both exclusive."""
    return Past(since, Keyset(before, descending=True))


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
