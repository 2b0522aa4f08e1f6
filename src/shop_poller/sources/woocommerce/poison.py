"""Finds the order that makes every page with it fail. Pure, except for the requests, which the caller sends.

The shop validates the ability's answer as a whole. So one order that breaks the schema, for example with a
currency that the shop no longer knows, makes a page of 100 orders fail. The error contains its position in
the page, but not its id. The order can be found nevertheless, because orders can be excluded by their ids.
"""

import re
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from shop_poller.core.cursor import SECOND
from shop_poller.core.model import Query, UnreadableOrder
from shop_poller.sources.woocommerce.answers import quote
from shop_poller.sources.woocommerce.jsonrpc import InvalidOutputError

AHEAD = 5_000
"""Ids that may have been assigned since the highest id that we saw."""
WINDOW = 10_000
"""Ids excluded from one request: 80 KB of them. Firewalls refuse bodies from 128 KB on."""
NEAR, WINDOWS = 3, 50
"""Windows to try where the order probably is; then windows to try from the newest order down."""
TOGETHER = 5
"""Windows excluded at once if no single window is enough: 400 KB of ids."""
FARTHEST = WINDOW * WINDOWS - AHEAD
"""The id to start from if no id is known: from there, all windows together reach down to the first id."""
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
STEPS_BACK = (timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=30), timedelta(days=365))
MAX_REMEMBERED = 1_000
MAX_REASON = 120

PATH = re.compile(r"\boutput((?:\[\w{1,50}\])+)")
POSITION = re.compile(r"\[orders\]\[(\d{1,6})\]")

Ask = Callable[[Query], Awaitable[Sequence[int]]]
"""Sends a query and returns the ids of the page, or raises InvalidOutputError."""


def concerns_an_order(said: str) -> bool:
    """Return whether one order may cause an error: the error names a position among the orders, or none."""
    path = PATH.search(said)
    return path is None or POSITION.match(path[1]) is not None


def names_an_exception(said: str) -> bool:
    """Return whether an error reports a PHP exception: the shop failed on an order, so the order exists."""
    return "threw an exception" in said


def position_in_page(said: str) -> int | None:
    """Return the position of the first bad order in its page, from 0; None if the error does not say."""
    path = PATH.search(said)
    found = POSITION.match(path[1]) if path else None
    return int(found[1]) if found else None


def reason(said: str) -> str:
    """Return briefly why an order breaks the schema, without the long list of valid values."""
    path = PATH.search(said)
    if path is None:
        return quote(said)[:MAX_REASON]
    field = ".".join(re.findall(r"\w+", POSITION.sub("", path[1]))) or "the order"
    words, comma, _ = said[path.end() :].partition(",")
    if comma:
        words = f"{words.rpartition(' ')[0]} …"
    return quote(f"{field}{words}"[: 2 * MAX_REASON])[:MAX_REASON]


async def narrow(ask: Ask, query: Query, failure: InvalidOutputError) -> Query:
    """Narrow a query to the bad order alone: one order per page, without the good orders before it.

    Args:
        ask: sends a query.
        query: the query that failed.
        failure: its error.

    Returns:
        A query that fails, unless the shop changed meanwhile.
    """
    guess = position_in_page(failure.said)
    while query.per_page > 1:
        length = query.per_page // 2 if guess is None else guess or 1
        first = replace(query, per_page=min(length, query.per_page - 1))
        try:
            healthy = await ask(first)
        except InvalidOutputError as error:
            query, guess = first, position_in_page(error.said)
        else:  # if the reported position is right, the next order is the bad one
            rest = query.per_page - first.per_page
            query = replace(query, per_page=rest, exclude=query.exclude | frozenset(healthy))
            guess = 0 if guess else None
    return query


async def made_at(ask: Ask, query: Query) -> datetime:
    """Return the second in which an order that makes a query fail was created. It takes about 30 requests."""
    early, late = EARLIEST, query.created_before or LATEST  # no order that was created before `early` is bad
    while late - early > SECOND:
        middle = early + timedelta(seconds=(late - early) // SECOND // 2)
        if await fails(ask, replace(query, created_before=middle)):
            late = middle
        else:
            early = middle
    return early


async def id_about(ask: Ask, at: datetime, exclude: frozenset[int]) -> int | None:
    """Return the id of a good order from about that time, or None. Ids grow with time."""
    for back in STEPS_BACK:
        before = Query(per_page=1, newest_first=True, created_before=at - back, exclude=exclude)
        try:
            for order_id in await ask(before):
                return order_id
        except InvalidOutputError:
            continue
    return None


async def fails(ask: Ask, query: Query, without: Collection[int] = ()) -> bool:
    """Return whether a query still fails if these ids are excluded too."""
    try:
        await ask(replace(query, exclude=query.exclude.union(without)) if without else query)
    except InvalidOutputError:
        return True
    return False


async def find_bad_order(
    still_fails: Callable[[Collection[int]], Awaitable[bool]],
    highest: int,
    *,
    windows: int = WINDOWS,
    together: int = TOGETHER,
) -> int | None:
    """Return the id of an order that makes a query fail.

    Exclude one window of ids after another, from the newest down. If the query then works, the window
    contains the bad order. A bisection then raises the lower end of the window as far as the query still
    works: the lowest id left in it is a bad order. The number of orders does not matter, because only a bad
    order's id makes a difference. If bad orders are in several adjacent windows, no single window is enough,
    and a few are excluded together.

    Args:
        still_fails: returns whether the query fails if these ids are excluded; it fails if none are.
        highest: an id that is above the bad order's, or not far below it.
        windows: how many windows to try.
        together: how many windows to exclude at once in the end.

    Returns:
        The id; None if no window contains it.
    """
    top = highest + AHEAD
    for _ in range(windows):
        if top <= 0:
            break
        bottom = max(top - WINDOW, 0)
        if not await still_fails(range(bottom + 1, top + 1)):
            return await _within(still_fails, bottom, top)
        top = bottom
    top = highest + AHEAD
    for several in range(2, together + 1):
        bottom = max(top - several * WINDOW, 0)
        if not await still_fails(range(bottom + 1, top + 1)):
            return await _within(still_fails, bottom, top)
        if bottom == 0:
            break
    return None


async def _within(still_fails: Callable[[Collection[int]], Awaitable[bool]], bottom: int, top: int) -> int:
    good, bad = bottom, top  # works if ids above `good` are excluded; fails with those above `bad`
    while bad - good > 1:
        middle = (good + bad) // 2
        if await still_fails(range(middle + 1, top + 1)):
            bad = middle
        else:
            good = middle
    return bad


class Poisoned:
    """The bad orders found so far. They are excluded from every query, and reported until requested by id.

    Reporting an order once is not enough: the page may be discarded because of a later error or a failed
    commit. A caller that requests the order by its id has stored it.
    """

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}
        self._unreported: set[int] = set()

    @property
    def ids(self) -> frozenset[int]:
        """The ids to exclude."""
        return frozenset(self._reasons)

    def add(self, order_id: int, why: str) -> None:
        """Remember a bad order. Beyond MAX_REMEMBERED, forget the oldest; it will be found again."""
        self._reasons[order_id] = why
        self._unreported.add(order_id)
        if len(self._reasons) > MAX_REMEMBERED:
            self.forget(next(iter(self._reasons)))

    def requested_ids(self, order_id: int, why: str) -> UnreadableOrder:
        """Remember a bad order that was requested by its id."""
        self.add(order_id, why)
        self._unreported.discard(order_id)
        return UnreadableOrder(order_id, why)

    def forget(self, order_id: int) -> None:
        """Forget an order that is no longer bad."""
        self._reasons.pop(order_id, None)
        self._unreported.discard(order_id)

    def unreported(self, already_reported: Collection[int]) -> list[UnreadableOrder]:
        """Return the bad orders that were not requested by id yet, except those that this caller has seen."""
        return [
            UnreadableOrder(i, self._reasons[i])
            for i in sorted(self._unreported.difference(already_reported))
        ]
