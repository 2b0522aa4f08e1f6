"""Finds the order that spoils every page that it is on. Pure but for the questions, which the caller asks.

The ability's answer is checked as a whole: one order that breaks its rules (a currency that the shop does not
know any more) fails all hundred, and the error says where in the page it stood, but not its id. It can be
found all the same, because orders can be left out by their ids.
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
"""Ids that may have been given since the highest that was seen."""
WINDOW = 10_000
"""Ids left out of one question at once: 80 KB of them; firewalls refuse bodies from 128 KB on."""
NEAR, WINDOWS = 3, 50
"""Windows from where it probably is, and from the newest order down, if it is not there."""
TOGETHER = 5
"""Windows left out at once, if no single one will do: 400 KB of ids."""
FARTHEST = WINDOW * WINDOWS - AHEAD
"""Where to begin if no id is known: from there all windows together reach down to the first id of all."""
EARLIEST, LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
STEPS_BACK = (timedelta(0), timedelta(hours=1), timedelta(days=1), timedelta(days=30), timedelta(days=365))
MAX_REMEMBERED = 1_000
MAX_REASON = 120

PATH = re.compile(r"\boutput((?:\[\w{1,50}\])+)")
PLACE = re.compile(r"\[orders\]\[(\d{1,6})\]")

Ask = Callable[[Query], Awaitable[Sequence[int]]]
"""Asks; gives the ids of the page, or raises InvalidOutputError."""


def concerns_an_order(said: str) -> bool:
    """Whether an error may be a single order's: it names a place among them, or none at all."""
    path = PATH.search(said)
    return path is None or PLACE.match(path[1]) is not None


def names_an_exception(said: str) -> bool:
    """Whether an error tells of PHP's own: the shop broke over an order, so that there is one."""
    return "threw an exception" in said


def place(said: str) -> int | None:
    """Where in its page the first bad order stands, from 0, if the error tells."""
    path = PATH.search(said)
    found = PLACE.match(path[1]) if path else None
    return int(found[1]) if found else None


def reason(said: str) -> str:
    """A few words on why an order breaks the rules, without the long list of what would be right."""
    path = PATH.search(said)
    if path is None:
        return quote(said)[:MAX_REASON]
    field = ".".join(re.findall(r"\w+", PLACE.sub("", path[1]))) or "the order"
    words, comma, _ = said[path.end() :].partition(",")
    if comma:
        words = f"{words.rpartition(' ')[0]} …"
    return quote(f"{field}{words}"[: 2 * MAX_REASON])[:MAX_REASON]


async def narrow(ask: Ask, query: Query, failure: InvalidOutputError) -> Query:
    """The question that the bad order alone answers: the same, one a page, without the good ones before it.

    Args:
        ask: asks.
        query: what failed.
        failure: how.

    Returns:
        A question that fails, unless the shop changed meanwhile.
    """
    guess = place(failure.said)
    while query.per_page > 1:
        length = query.per_page // 2 if guess is None else guess or 1
        first = replace(query, per_page=min(length, query.per_page - 1))
        try:
            healthy = await ask(first)
        except InvalidOutputError as error:
            query, guess = first, place(error.said)
        else:  # a hint that was right says, too, that the next one is it
            rest = query.per_page - first.per_page
            query = replace(query, per_page=rest, exclude=query.exclude | frozenset(healthy))
            guess = 0 if guess else None
    return query


async def made_at(ask: Ask, query: Query) -> datetime:
    """The second in which an order was made that makes a question fail. It takes some 30 questions."""
    early, late = EARLIEST, query.created_before or LATEST  # of those made before `early` none is bad
    while late - early > SECOND:
        middle = early + timedelta(seconds=(late - early) // SECOND // 2)
        if await fails(ask, replace(query, created_before=middle)):
            late = middle
        else:
            early = middle
    return early


async def id_about(ask: Ask, at: datetime, exclude: frozenset[int]) -> int | None:
    """The id of a good order that was made about then: ids grow with time. None if there is none."""
    for back in STEPS_BACK:
        before = Query(per_page=1, newest_first=True, created_before=at - back, exclude=exclude)
        try:
            for order_id in await ask(before):
                return order_id
        except InvalidOutputError:
            continue
    return None


async def fails(ask: Ask, query: Query, without: Collection[int] = ()) -> bool:
    """Whether a question fails when these are left out, too."""
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
    """The id of an order that makes a question fail.

    Windows of ids are left out, from the newest down; the first one without which all is well has it. Then
    the window is cut at the top as far as that stays so: the last id that had to stay in it is the order.
    For that it does not matter how many there are: only a bad order's id makes the difference. Where several
    that follow one another lie in several windows, no single one will do, and a few are left out together.

    Args:
        still_fails: whether the question fails when these ids are left out; it does when none are.
        highest: an id below which it is to be found, or not far above.
        windows: how many to try.
        together: how many to leave out at once, in the end.

    Returns:
        None if no window has it.
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
    good, bad = bottom, top  # without what is above `good` all is well, without what is above `bad` it is not
    while bad - good > 1:
        middle = (good + bad) // 2
        if await still_fails(range(middle + 1, top + 1)):
            bad = middle
        else:
            good = middle
    return bad


class Poisoned:
    """The bad orders found so far: left out of every question, and told until somebody asks for them.

    One that was told once may be lost: an answer that is thrown away (an error after it, a commit that fails)
    takes it along. Whoever asks for it by its id remembers it.
    """

    def __init__(self) -> None:
        self._reasons: dict[int, str] = {}
        self._untold: set[int] = set()

    @property
    def ids(self) -> frozenset[int]:
        """What to leave out."""
        return frozenset(self._reasons)

    def found(self, order_id: int, why: str) -> None:
        """Remember one; of too many the oldest is forgotten, to be found again."""
        self._reasons[order_id] = why
        self._untold.add(order_id)
        if len(self._reasons) > MAX_REMEMBERED:
            self.healed(next(iter(self._reasons)))

    def requested_ids(self, order_id: int, why: str) -> UnreadableOrder:
        """Remember one that was asked for by its id."""
        self.found(order_id, why)
        self._untold.discard(order_id)
        return UnreadableOrder(order_id, why)

    def healed(self, order_id: int) -> None:
        """Forget one."""
        self._reasons.pop(order_id, None)
        self._untold.discard(order_id)

    def untold(self, seen: Collection[int]) -> list[UnreadableOrder]:
        """Those that nobody has asked for yet, but for those that this asker has seen."""
        return [UnreadableOrder(i, self._reasons[i]) for i in sorted(self._untold.difference(seen))]
