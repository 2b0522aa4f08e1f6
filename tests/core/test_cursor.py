"""The walk through what changed, and where the cursor may move: nothing is skipped, nothing loops."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shop_poller.core import cursor
from shop_poller.core.cursor import (
    LOST_CURSOR_REWIND,
    ModifiedWalk,
    ReadBefore,
    cursor_after_loss,
    may_hide_more,
)
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query, UnreadableOrder
from support.model_shop import DAY, ModelShop, Row, State, at, pages_of, state_of

OVERLAP = timedelta(seconds=120)
NO_OVERLAP = timedelta(0)
SKEW = timedelta(seconds=900)
WHOLE_PAGES = ReadBefore(largest_page=100)
"""Of a shop that was seen to send pages of a hundred."""
LONG_AFTER = 10**6
"""A second by which everything stamped here is older than the overlap."""
MAX_STEPS = 2000
"""More pages than any walk here may need: a walk that goes on is a walk that loops."""


def listed(*seconds: int | None, first_id: int = 1) -> tuple[UnreadableOrder, ...]:
    """Items of a page, by the seconds that they were modified in; ids count up."""
    return tuple(
        UnreadableOrder(order_id, "", modified_at=None if second is None else at(second))
        for order_id, second in enumerate(seconds, first_id)
    )


def page(*seconds: int | None, clock: int = LONG_AFTER, first_id: int = 1) -> Page:
    return Page(listed(*seconds, first_id=first_id), shop_time=at(clock))


def last_page(*seconds: int | None, clock: int = LONG_AFTER) -> Page:
    """Of a shop that says that this is all."""
    return replace(page(*seconds, clock=clock), total=len(seconds), total_pages=1)


def begin(second: int, *, per_page: int) -> cursor.ModifiedWalk:
    """A walk that asks for what was modified after a second."""
    return replace(cursor.start(at(second), overlap=NO_OVERLAP, read=WHOLE_PAGES), per_page=per_page)


def step(walk: cursor.ModifiedWalk, answer: Page) -> cursor.Step:
    return cursor.step(walk, answer, clock_skew=SKEW)


@dataclass
class Watcher:
    """Walks through a shop as the daemon does, and remembers every state that it was shown."""

    shop: ModelShop
    cursor: datetime
    per_page: int = 100
    overlap: timedelta = OVERLAP
    seen: set[State] = field(default_factory=set)
    requested: list[Query] = field(default_factory=list)
    commits: list[datetime] = field(default_factory=list)
    """Where each page's commit moved the cursor to."""
    read: ReadBefore = field(default_factory=ReadBefore)
    """Of the process: dies with it."""

    def pages(self) -> Iterator[int]:
        """One walk, page by page: what the caller does between two pages happens in mid-walk."""
        read, self.read = self.read, cursor.ReadBefore()
        walk: cursor.ModifiedWalk | None = self._begin(read)
        for number in range(1, MAX_STEPS):
            if walk is None:
                self.read = read
                return
            self.requested.append(walk.query())
            answer = self.shop.answer(walk.query())
            if not read.holds_at(answer.shop_time):
                read = cursor.ReadBefore()
                walk = self._begin(read)
                continue
            after = step(walk, answer)
            self.seen |= {state_of(item) for item in answer.items}
            self.cursor = after.cursor
            self.commits.append(after.cursor)
            requested, walk = walk, after.walk
            if walk is not None:
                yield number
            else:
                read = read.after(requested, answer, overlap=self.overlap)
        raise AssertionError("the walk does not end")

    def _begin(self, read: ReadBefore) -> ModifiedWalk:
        walk = cursor.start(self.cursor, overlap=self.overlap, read=read)
        return replace(walk, per_page=self.per_page)

    def walk(self) -> int:
        """One walk through a shop that stands still; the number of pages."""
        return sum(1 for _ in self.pages()) + 1

    def missed(self) -> set[State]:
        """What stands in the shop and was never seen."""
        return self.shop.states() - self.seen

    def out_of_reach(self) -> set[State]:
        """What was never seen, and would not be asked for if we died now and walked again: it is lost."""
        requested_from = self.cursor - self.overlap
        return {state for state in self.missed() if at(self.shop.rows[state[0]].modified) <= requested_from}


# --- The first question ------------------------------------------------------------------------------------


def test_a_walk_asks_from_the_cursor_less_the_overlap() -> None:
    assert cursor.start(at(1000), overlap=OVERLAP).query() == Query(
        per_page=100,
        newest_first=False,
        modified_after=at(880),
        created_before=None,
        statuses=(),
        exclude=frozenset(),
        with_items=True,
    )


def test_a_burst_is_read_again_until_the_overlap_has_passed_and_not_later() -> None:
    shop = ModelShop(now=10_000)
    watcher = Watcher(shop, at(9_000))
    shop.pass_time(60)
    for _ in range(400):
        shop.create()
    shop.pass_time(1)
    shown = []
    for _ in range(15):
        watcher.requested.clear()
        watcher.walk()
        shown.append(len(watcher.requested))
        shop.pass_time(60)

    assert shown == [5, 5, 5, *[1] * 12]


def test_the_clock_being_set_back_makes_all_of_the_overlap_be_read_again() -> None:
    shop = ModelShop(now=10_000)
    watcher = Watcher(shop, at(9_000))
    shop.create()
    for _ in range(5):
        shop.pass_time(60)
        watcher.walk()
    assert watcher.read.complete_to == at(10_000)
    shop.clock_off_s = -400
    shop.create()

    watcher.walk()

    assert watcher.missed() == set()


# --- The keyset: what to ask next, and what a page's commit does to the cursor ------------------------------


@dataclass(frozen=True)
class KeysetCase:
    title: str
    stamps: Sequence[int | None]
    """Of full pages of three, one after the other; None of an order that cannot be read."""
    bound: int
    exclude: Iterable[int]
    """Ids, which count from 1."""
    reached: int
    clocks: Sequence[int] = (LONG_AFTER,)
    """The shop's, at each page; the last one goes for those that follow."""


CASES = [
    KeysetCase("each in its own second", [1, 2, 3], 0, [1, 2, 3], 1),
    KeysetCase("all in one second", [3, 3, 3], 2, [1, 2, 3], 3),
    KeysetCase("the first second after the bound", [1, 1, 1], 0, [1, 2, 3], 1),
    KeysetCase("a second longer than a page", [3] * 6, 2, range(1, 7), 3),
    KeysetCase("and longer than two", [3] * 9, 2, range(1, 10), 3),
    KeysetCase("begun on the page before", [1, 3, 3, 3, 3, 3], 2, range(2, 7), 3),
    KeysetCase("ended by the second page", [3, 3, 3, 3, 4, 4], 2, range(1, 7), 3),
    KeysetCase("left behind at once", [3, 3, 3, 4, 5, 6], 3, [4, 5, 6], 4),
    KeysetCase("next second, all of it", [3, 3, 3, 4, 4, 4], 3, [4, 5, 6], 4),
    KeysetCase("seconds far apart", [1, 50, 99, 200, 300, 400], 199, [4, 5, 6], 200),
    KeysetCase("without a date, it stands where the one before does", [1, 3, None, 4, 5, 6], 3, [4, 5, 6], 4),
    KeysetCase("without a date, first of all: it may stand anywhere", [None, 2, 3], 1, [1, 2, 3], 2),
    KeysetCase("and is left out to the end", [None, 2, 3, 4, 5, 6], 3, [1, 4, 5, 6], 4),
    KeysetCase("without any date, nothing can be concluded", [None, None, None], 0, [1, 2, 3], 1),
    KeysetCase("nor from dates in the wrong order", [1, 3, 2], 0, [1, 2, 3], 1),
    KeysetCase("nor on the second page", [1, 2, 3, 9, 5, 7], 0, range(1, 7), 1),
    KeysetCase("until a page is in order again", [1, 3, 2, 4, 5, 6], 3, [4, 5, 6], 4),
    KeysetCase("but then leaves out what lies beyond", [1, 9, 2, 4, 5, 6], 3, [2, 4, 5, 6], 4),
    KeysetCase("the last one was touched meanwhile", [1, 2, 99], 0, [1, 2, 3], 1),
    KeysetCase("and what follows its old place is met", [1, 2, 99, 3, 4, 5], 2, [3, 4, 5, 6], 3),
    KeysetCase("the first one was: not in order", [99, 2, 3], 0, [1, 2, 3], 1),
    KeysetCase("all but the first were", [1, 99, 99], 0, [1, 2, 3], 1),
    KeysetCase("beyond the clock", [150, 160, 170], 149, [1, 2, 3], 100, [100]),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.title)
def test_after_a_full_page_the_walk_asks_from_its_first_second_without_those_seen(case: KeysetCase) -> None:
    walk = begin(0, per_page=3)
    clocks = iter(case.clocks)
    clock = 0
    for start in range(0, len(case.stamps), 3):
        clock = next(clocks, clock)
        after = step(walk, page(*case.stamps[start : start + 3], clock=clock, first_id=start + 1))
        assert after.walk is not None
        walk = after.walk

    assert walk.query() == Query(
        per_page=3, modified_after=at(case.bound), exclude=frozenset(case.exclude), with_items=True
    )
    assert after.cursor == at(case.reached)


def test_the_clock_that_bounds_the_cursor_is_the_first_answers() -> None:
    first = step(begin(0, per_page=2), page(90, 110, clock=100))
    assert first.walk is not None
    second = step(first.walk, page(120, 190, clock=185, first_id=3))
    assert second.walk is not None
    assert [first.cursor, second.cursor] == [at(90), at(100)]


@pytest.mark.parametrize(
    ("title", "stamps", "clock"),
    [
        ("a full page of what was re-read", [7_881, 7_882, 7_883], LONG_AFTER),
        ("just before where it began", [7_881, 7_882, 7_999], LONG_AFTER),
        ("not in order", [7_990, 7_999, 7_998], LONG_AFTER),
        ("the shop's clock was set back", [8_001, 8_002, 8_003], 4_000),
    ],
)
def test_no_page_moves_the_cursor_behind_where_the_walk_began(
    title: str, stamps: list[int], clock: int
) -> None:
    walk = replace(cursor.start(at(8_000), overlap=OVERLAP), per_page=3)

    after = step(walk, page(*stamps, clock=clock))

    assert (title, after.cursor) == (title, at(8_000))
    assert after.walk is not None
    # But its end may.
    assert (step(after.walk, page(clock=clock)).cursor < at(8_000)) == (clock < 8_000)


# --- The end: where the cursor stands after the walk --------------------------------------------------------


@pytest.mark.parametrize(
    ("title", "newest", "clock", "expected"),
    [
        ("a quiet shop: the clock less the skew", None, 10_000, 9_100),
        ("what was seen is older than the skew", 8_000, 10_000, 9_100),
        ("just as old as the skew", 9_100, 10_000, 9_100),
        ("a second younger", 9_101, 10_000, 9_101),
        ("a busy shop: the newest", 9_999, 10_000, 9_999),
        ("just now", 10_000, 10_000, 10_000),
        ("the shop's stamps run ahead of its clock: it says nothing of the others", 10_300, 10_000, 9_100),
        ("a date in the far future likewise", 99_999, 10_000, 9_100),
    ],
)
def test_the_end_of_a_walk_moves_the_cursor(
    title: str, newest: int | None, clock: int, expected: int
) -> None:
    seconds = [] if newest is None else [7_950, newest]

    end = step(begin(7_900, per_page=100), last_page(*seconds, clock=clock))

    assert (title, end.cursor, end.walk) == (title, at(expected), None)


@pytest.mark.parametrize(
    ("title", "newest", "clock", "expected"),
    [
        ("nothing there", None, 6_000, 5_100),
        ("dates that are now in the future", 7_999, 6_000, 5_100),
    ],
)
def test_the_cursor_goes_back_when_the_shops_clock_was_set_back(
    title: str, newest: int | None, clock: int, expected: int
) -> None:
    walk = cursor.start(at(8_000), overlap=OVERLAP, read=WHOLE_PAGES)

    end = step(walk, last_page(*([] if newest is None else [newest]), clock=clock))

    assert (title, end.cursor) == (title, at(expected))


def test_the_newest_of_all_pages_counts_at_the_end() -> None:
    first = step(begin(0, per_page=2), page(9_400, 9_500, clock=10_000))
    assert first.walk is not None

    end = step(first.walk, page(clock=10_050))

    assert end.cursor == at(9_500)


@pytest.mark.parametrize("per_page", [1, 3, 20, 100])
@pytest.mark.parametrize("count", [1, 2, 9, 10, 19, 20, 99, 100])
def test_no_page_with_something_new_ends_a_walk_by_its_size(per_page: int, count: int) -> None:
    assert step(begin(0, per_page=per_page), page(*range(1, count + 1))).walk is not None


def test_an_empty_first_page_ends_a_walk_so_that_an_idle_tick_is_one_request() -> None:
    assert step(begin(0, per_page=100), page()).walk is None


@pytest.mark.parametrize(
    ("count", "total", "total_pages", "ends"),
    [
        (3, 3, 1, True),
        (3, 3, None, True),
        (3, None, 1, True),
        (9, 9, 1, True),
        # More than a usual cap on pages: the count may be of what the cap left over.
        (10, 10, 1, False),
        (20, 20, 1, False),
        (100, 100, 1, False),
        # It says itself that there is more.
        (3, 4, 1, False),
        (3, 200, 2, False),
        (3, 3, 2, False),
        (3, None, 2, False),
        # A count that cannot be: turned off by a plugin, or kept by a cache.
        (3, 0, 0, False),
        (3, 2, 1, False),
        (3, None, 0, False),
        (3, None, None, False),
    ],
)
def test_a_shop_that_says_of_a_few_that_they_are_all_is_believed(
    count: int,
    total: int | None,
    total_pages: int | None,
    ends: bool,  # noqa: FBT001 - a column of the table
) -> None:
    answer = replace(page(*range(1, count + 1)), total=total, total_pages=total_pages)

    assert (step(begin(0, per_page=100), answer).walk is None) == ends


@pytest.mark.parametrize(
    ("largest", "count", "ends"),
    [(0, 1, False), (5, 5, False), (5, 4, True), (9, 10, False), (100, 10, False)],
)
def test_but_only_of_fewer_than_it_has_sent_before(
    largest: int,
    count: int,
    ends: bool,  # noqa: FBT001 - a column of the table
) -> None:
    walk = cursor.start(at(0), overlap=NO_OVERLAP, read=ReadBefore(largest_page=largest))

    assert (step(walk, last_page(*range(1, count + 1))).walk is None) == ends


@pytest.mark.parametrize("cap", [1, 2, 5, 9, 10, 20])
def test_a_cap_that_spoils_the_count_too_hides_nothing(cap: int) -> None:
    shop = ModelShop(now=1000, cap=cap, counts=True)
    answer = shop.answer

    def of_one_page(query: Query) -> Page:
        page = answer(query)
        return replace(page, total=len(page.items), total_pages=1)

    for n in range(60):
        shop.create(modified=n)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP)
    with patch.object(ModelShop, "answer", lambda _, query: of_one_page(query)):
        watcher.walk()
        shop.pass_time(60)
        for _ in range(30):
            shop.create()
        watcher.walk()

    assert watcher.missed() == set()


def test_pages_that_were_all_empty_are_searched_again_only_when_the_count_changes() -> None:
    shop = ModelShop(now=10_000, counts=True, miscounts=1_000_000)
    watcher = Watcher(shop, at(9_000))
    shown = []
    for tick in range(5):
        if tick == 3:
            shop.miscounts = 1_000_001
        watcher.requested.clear()
        watcher.walk()
        shown.append(len(watcher.requested))
        shop.pass_time(60)

    assert shown == [100, 1, 1, 100, 1]


def test_a_clock_that_is_set_back_several_times_makes_all_be_read_again() -> None:
    shop = ModelShop(now=10_000)
    watcher = Watcher(shop, at(9_000))
    shop.create()
    for _ in range(4):
        watcher.walk()
        shop.pass_time(60)
    assert watcher.read.complete_to == at(10_000)
    for _ in range(5):  # each time by less than the overlap
        shop.clock_off_s -= 115
        watcher.walk()
        shop.pass_time(1)
    shop.create()
    watcher.walk()

    assert watcher.missed() == set()


@pytest.mark.parametrize(("total_pages", "following"), [(None, None), (0, None), (1, None), (2, 2), (9, 2)])
def test_an_empty_page_is_the_end_unless_the_shop_says_that_there_are_more_pages(
    total_pages: int | None, following: int | None
) -> None:
    walk = step(begin(0, per_page=100), replace(page(), total_pages=total_pages)).walk

    assert (walk.query().page if walk else None) == following


@pytest.mark.parametrize(("stamps", "following"), [((5, 6, 7), 1), ((5, 7, 6), 2)])
def test_a_page_number_counts_from_the_bound_and_begins_anew_with_it(
    stamps: tuple[int, ...], following: int
) -> None:
    hidden = step(begin(0, per_page=3), replace(page(), total=9, total_pages=3)).walk
    assert hidden is not None

    after = step(hidden, page(*stamps)).walk

    assert after is not None
    assert after.query().page == following, "or the first page beyond the new bound is passed over"


@pytest.mark.parametrize(
    ("query", "answer", "may"),
    [
        pytest.param(Query(per_page=50), page(), True, id="it tells no count"),
        pytest.param(Query(per_page=50), replace(page(), total=0), False, id="it counts none"),
        pytest.param(Query(per_page=50), replace(page(), total_pages=0), False, id="it counts no pages"),
        pytest.param(Query(per_page=50), page(1), False, id="it shows one"),
        pytest.param(Query(per_page=100), page(), False, id="no more could be asked for"),
        pytest.param(Query(per_page=50, ids=frozenset({1})), page(), False, id="asked by id"),
    ],
)
def test_an_empty_page_may_hide_more_only_where_nothing_is_counted(
    query: Query,
    answer: Page,
    may: bool,  # noqa: FBT001 - a column of the table
) -> None:
    assert cursor.may_hide_more(query, answer, largest=100) is may


def test_a_walk_does_not_chase_what_changes_while_it_walks() -> None:
    first = step(begin(0, per_page=3), page(1, 2, 3, clock=100))
    assert first.walk is not None

    chased = step(first.walk, page(101, 103, clock=103, first_id=4))

    assert (chased.walk, chased.cursor) == (None, at(3))


def test_but_it_reads_on_what_is_dated_ahead_of_the_shops_clock() -> None:
    first = step(begin(0, per_page=3), page(1, 2, 3, clock=100))
    assert first.walk is not None

    assert step(first.walk, page(101, 104, clock=103, first_id=4)).walk is not None


# --- A shop that stands still ------------------------------------------------------------------------------


@pytest.mark.parametrize("orders", [0, 1, 89, 90, 99, 100, 101, 190, 350, 1000])
@pytest.mark.parametrize("seconds", [1, 2, 7, 5000])
def test_a_shop_that_stands_still_is_read_once_and_in_full(orders: int, seconds: int) -> None:
    shop = ModelShop(now=5000)
    for n in range(orders):
        shop.create(modified=1000 + n % seconds)
    watcher = Watcher(shop, at(900))

    assert watcher.walk() == pages_of(orders, 100)
    assert watcher.missed() == set()


@given(
    stamps=st.lists(st.integers(0, 12) | st.integers(0, 200), max_size=40),
    per_page=st.integers(1, 12),
    clock=st.integers(0, 200),
)
def test_a_still_shop_is_read_in_as_many_pages_as_it_fills(
    stamps: list[int], per_page: int, clock: int
) -> None:
    shop = ModelShop(now=clock)
    for stamp in stamps:
        shop.create(modified=stamp)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP, per_page=per_page)

    assert watcher.walk() == pages_of(len(stamps), per_page)
    assert watcher.missed() == set()
    assert all(moved <= at(clock) for moved in watcher.commits)


def test_no_commit_moves_the_cursor_past_what_was_not_read() -> None:
    shop = ModelShop(now=100_000)
    for n in range(350):
        shop.create(modified=1000 + n // 40)
    watcher = Watcher(shop, at(900))

    for _ in watcher.pages():
        assert all(at(shop.rows[order_id].modified) >= watcher.cursor for order_id, _ in watcher.missed())


# --- A shop that changes while it is walked: one story each -------------------------------------------------


def watched_shop(orders: int, *, per_page: int = 100, every_s: int = 1) -> tuple[ModelShop, Watcher]:
    """A shop with so many orders, and somebody who begins to watch it only now."""
    shop = ModelShop(now=10_000)
    for n in range(orders):
        shop.create(modified=10_000 - every_s * (orders - n))
    return shop, Watcher(shop, at(10_000 - every_s * (orders + 1)), per_page=per_page)


def test_an_edit_of_an_order_that_was_passed_skips_none_of_the_others() -> None:
    # The trap of `page=2`: touching order 1 moves all others one place forward.
    shop, watcher = watched_shop(250)
    for number in watcher.pages():
        shop.pass_time(1)
        shop.edit(101 + number)
    watcher.walk()

    assert watcher.missed() == set()


def test_deleting_an_order_that_was_passed_skips_none_of_the_others() -> None:
    shop, watcher = watched_shop(250)
    for number in watcher.pages():
        shop.delete(101 + number)

    assert watcher.missed() == set()


def test_an_order_made_in_mid_walk_is_seen_in_the_same_walk() -> None:
    shop, watcher = watched_shop(150)
    for _ in watcher.pages():
        shop.pass_time(1)
        if shop.answers < 3:
            shop.create()

    assert watcher.missed() == set()


def test_an_order_edited_while_it_is_left_out_is_seen_by_the_next_walk() -> None:
    shop, watcher = watched_shop(100)
    for _ in watcher.pages():
        shop.edit(200)  # the last of the page: the next question excludes it
    assert watcher.missed() == {(200, 2)}

    watcher.walk()

    assert watcher.missed() == set()


def test_two_changes_in_one_second_are_both_seen() -> None:
    shop = ModelShop(now=10_000)
    order = shop.create()
    watcher = Watcher(shop, at(9_000))
    watcher.walk()
    shop.edit(order)  # in the second that was just read
    shop.create()

    shop.pass_time(60)
    watcher.walk()

    assert watcher.missed() == set()


def test_without_the_overlap_such_a_second_would_be_lost() -> None:
    shop = ModelShop(now=10_000)
    order = shop.create()
    watcher = Watcher(shop, at(9_000), overlap=NO_OVERLAP)
    watcher.walk()
    shop.edit(order)

    shop.pass_time(60)
    shop.create()
    watcher.walk()

    assert watcher.missed() == watcher.out_of_reach() == {(order, 2)}


@given(
    seed=st.integers(0, 2**32),
    lag_s=st.integers(0, 900),
    touched=st.sampled_from([0.0, 0.02, 0.2]),
    ahead=st.booleans(),
)
def test_orders_touched_while_the_page_is_made_hide_nobody(
    seed: int,
    lag_s: int,
    touched: float,
    ahead: bool,  # noqa: FBT001 - a test's parameter
) -> None:
    """They are shown with their new date in their old place; and stamps may lag as far as the skew allows."""
    random = Random(seed)
    shop = ModelShop(now=1_000_000, lag_s=lag_s, answer_s=random.randint(0, 2))
    for number in range(random.randint(20, 80)):
        shop.create(modified=995_000 + number * random.randint(0, 3))
    if ahead:
        shop.create(modified=1_090_000)
    watcher = Watcher(shop, at(994_990), per_page=10)

    def touch(ids: Sequence[int], _: int) -> None:
        if len(ids) > 1 and random.random() < touched:
            shop.edit(random.choice(ids))

    shop.meanwhile = touch
    watcher.walk()
    shop.meanwhile = lambda *_: None
    for _ in range(4):
        shop.pass_time(60)
        shop.create()
        watcher.walk()
    shop.pass_time(lag_s)
    watcher.walk()

    assert watcher.missed() == set()


def test_more_than_three_hundred_orders_in_one_second_while_they_still_come() -> None:
    shop = ModelShop(now=10_000)
    for _ in range(310):
        shop.create()
    watcher = Watcher(shop, at(9_000))
    for number in watcher.pages():
        shop.create()
        shop.edit(100 + number)
        shop.pass_time(number // 4)

    watcher.walk()

    assert watcher.missed() == set()


def test_a_bulk_edit_on_a_quiet_shop_is_seen_whole() -> None:
    shop = ModelShop(now=1_000_000)
    for n in range(300):
        shop.create(modified=n)
    watcher = Watcher(shop, at(900_000))
    for _ in range(3):  # nothing happens for a while
        watcher.walk()
        shop.pass_time(60)
    for order_id in list(shop.rows):
        shop.edit(order_id)
        if order_id % 100 == 50:
            shop.pass_time(1)
            watcher.walk()  # the walk comes in the middle of it
    shop.pass_time(60)
    watcher.walk()

    assert watcher.missed() == set()


def test_a_walk_that_waits_for_minutes_between_pages_skips_nothing() -> None:
    shop, watcher = watched_shop(1000)
    for number in watcher.pages():
        shop.pass_time(45)
        for n in range(20):
            shop.edit(101 + (number * 50 + n * 37) % 1000)
        shop.pass_time(1)
    watcher.walk()

    assert watcher.missed() == set()


@pytest.mark.parametrize("ahead_s", [1, 600, 86_400, 365 * 86_400])
def test_orders_dated_in_the_future_hide_nothing_that_comes_before_them(ahead_s: int) -> None:
    shop = ModelShop(now=10_000)
    for _ in range(120):
        shop.create(modified=10_000 + ahead_s)
    watcher = Watcher(shop, at(9_000))
    for _ in range(5):
        watcher.walk()
        assert watcher.cursor <= at(shop.clock())
        shop.pass_time(60)
        shop.create()
        shop.edit(101)
    watcher.walk()

    assert watcher.missed() == set()


@pytest.mark.parametrize("off_s", [-86_400, -3600, -300, -1, 1, 300, 3600, 86_400])
@pytest.mark.parametrize("busy", [True, False], ids=["busy", "quiet"])
def test_a_clock_that_jumps_costs_one_tick_at_most(
    off_s: int,
    busy: bool,  # noqa: FBT001 - a column of the table
) -> None:
    shop = ModelShop(now=1_000_000)
    order = shop.create()
    watcher = Watcher(shop, at(999_000))
    for tick in range(30):
        if tick == 10:
            shop.clock_off_s += off_s
        if busy or tick in {9, 10, 11, 12, 20}:
            shop.pass_time(5)
            shop.edit(order)
            shop.create()
        before = shop.states()
        shop.pass_time(55)
        watcher.walk()
        if tick != 10:
            assert before <= watcher.seen, f"tick {tick}"

    assert watcher.missed() == set()


@pytest.mark.parametrize("lag_s", [-900, -300, 0, 1, 119, 121, 300, 899, 900])
@pytest.mark.parametrize("pause", [1, 7, 100], ids=["busy", "slower", "quiet"])
def test_stamps_may_lag_behind_the_clock_by_the_skew_or_run_ahead_of_it(lag_s: int, pause: int) -> None:
    shop = ModelShop(now=1_000_000, lag_s=lag_s)
    watcher = Watcher(shop, at(999_000))
    for tick in range(200):
        if tick % pause == 0:
            shop.create()
        shop.pass_time(60)
        watcher.walk()

        assert watcher.missed() == set()


def test_a_day_without_the_daemon_is_made_up_for() -> None:
    shop, watcher = watched_shop(10)
    watcher.walk()
    for _ in range(24 * 12):
        shop.pass_time(300)
        shop.create()
    watcher.walk()

    assert watcher.missed() == set()


# --- Unreadable orders -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dated", [True, False], ids=["with a date", "without one"])
@pytest.mark.parametrize(
    "broken",
    [{101}, {105}, {110}, {101, 102, 103, 104, 105}, {104, 105, 106}, set(range(101, 151))],
    ids=["the first", "the last of a page", "the last of two", "a whole page", "across pages", "all"],
)
@pytest.mark.parametrize("every_s", [0, 1], ids=["in one second", "one a second"])
def test_orders_that_cannot_be_read_are_named_and_passed(
    dated: bool,  # noqa: FBT001 - a column of the table
    broken: set[int],
    every_s: int,
) -> None:
    shop, watcher = watched_shop(50, per_page=5, every_s=every_s)
    shop.unreadable = dict.fromkeys(broken, dated)

    pages = watcher.walk()

    assert watcher.missed() == set()
    assert pages <= 50 + 1, "every full page brings something that was not seen"


@given(
    stamps=st.lists(st.integers(0, 6), max_size=25),
    broken=st.dictionaries(st.integers(101, 125), st.booleans()),
    per_page=st.integers(1, 5),
)
def test_whatever_cannot_be_read_the_rest_is_and_the_walk_ends(
    stamps: list[int], broken: dict[int, bool], per_page: int
) -> None:
    shop = ModelShop(now=1000, unreadable=broken)
    for stamp in stamps:
        shop.create(modified=stamp)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP, per_page=per_page)

    for _ in watcher.pages():
        # Whatever the page was like, the cursor is not past anything unread.
        assert all(at(shop.rows[order_id].modified) >= watcher.cursor for order_id, _ in watcher.missed())

    assert watcher.missed() == set()
    # Nothing can be concluded from an order without a date: it may be shown once more.
    assert shop.answers <= len(stamps) + sum(not dated for dated in broken.values()) + 1


# --- Shops that do not do what they are asked ---------------------------------------------------------------


def upside_down(rows: list[Row]) -> list[Row]:
    return rows[::-1]


def first_to_the_end(rows: list[Row]) -> list[Row]:
    return rows[1:] + rows[:1]


@pytest.mark.parametrize("garble", [upside_down, first_to_the_end])
@pytest.mark.parametrize("per_page", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("seconds", [1, 2, 9, 50])
def test_a_page_in_the_wrong_order_skips_nothing(
    garble: Callable[[list[Row]], list[Row]], per_page: int, seconds: int
) -> None:
    shop = ModelShop(now=1000, garble=garble)
    for n in range(50):
        shop.create(modified=n % seconds)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP, per_page=per_page)

    for _ in watcher.pages():
        assert all(at(shop.rows[order_id].modified) >= watcher.cursor for order_id, _ in watcher.missed())

    assert watcher.missed() == set()
    assert shop.answers <= 50 + 1


def test_a_shop_that_does_not_sort_is_read_in_full() -> None:
    shop = ModelShop(now=1000, ignores=frozenset({"orderby"}))
    for n in range(350):
        shop.create(created=n, modified=n * 37 % 350)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP)

    for _ in watcher.pages():
        assert all(at(shop.rows[order_id].modified) >= watcher.cursor for order_id, _ in watcher.missed())

    assert watcher.missed() == set()


@pytest.mark.parametrize(
    "answer",
    [
        page(1, 2, 3, clock=9),
        page(3, 3, 3, clock=9),
        page(3, 2, 1, clock=9),
        page(None, None, None, clock=9),
        page(1, None, 3, clock=9),
        page(1, 2, None, clock=9),
        page(-5, 2, 3, clock=9),
        page(20, 30, 40, clock=9),
    ],
    ids=["sorted", "one second", "unsorted", "undated", "half dated", "undated end", "from before", "future"],
)
def test_a_page_that_repeats_for_ever_is_an_error(answer: Page) -> None:
    walk = begin(0, per_page=3)
    with pytest.raises(TemporaryError) as caught:  # noqa: PT012 - the error may come at any of the first steps
        for _ in range(4):
            following = step(walk, answer).walk
            assert following is not None
            walk = following

    assert caught.value.kind is ErrorKind.PROTOCOL


def test_two_pages_that_take_turns_for_ever_are_an_error() -> None:
    walk = begin(0, per_page=3)
    answers = [page(1, 2, 3, clock=9), page(3, 4, 5, clock=9, first_id=4)]
    with pytest.raises(TemporaryError) as caught:  # noqa: PT012 - the error may come at any of the first steps
        for number in range(10):
            following = step(walk, answers[number % 2]).walk
            assert following is not None
            walk = following

    assert caught.value.kind is ErrorKind.PROTOCOL


def test_the_same_order_twice_on_a_page_is_taken_once() -> None:
    twice = Page((*listed(1, 2), *listed(1, 2)), at(9))

    walk = step(begin(0, per_page=4), twice).walk

    assert walk is not None
    assert walk.query().exclude == {1, 2}


def test_a_page_of_orders_seen_before_ends_the_walk_of_a_shop_that_ignores_what_to_leave_out() -> None:
    first = step(begin(0, per_page=100), page(5, 7))
    assert first.walk is not None
    again = step(first.walk, page(5, 7))
    assert again.walk is not None
    # What stands where it stood is behind us; the last second may hold more.
    assert again.walk.query() == Query(
        per_page=100, modified_after=at(6), exclude=frozenset({2}), with_items=True
    )

    assert step(again.walk, page(7, first_id=2)).walk is None


def test_a_full_page_from_before_the_requested_time_is_an_error() -> None:
    with pytest.raises(TemporaryError) as caught:
        step(begin(50, per_page=3), page(1, 2, 3, clock=99))

    assert caught.value.kind is ErrorKind.PROTOCOL


def test_a_shop_that_counts_the_bound_in_is_read_on() -> None:
    first = step(begin(50, per_page=100), page(*[50] * 20, clock=99)).walk
    assert first is not None
    assert (first.query().page, first.query().modified_after) == (2, at(50))

    assert step(first, page(clock=99)).walk is None


def test_a_few_orders_that_come_for_any_query_are_all_that_there_is() -> None:
    answer = page(20, 60, clock=99)  # the first from before the time asked for
    walk = step(begin(50, per_page=100), answer).walk
    assert walk is not None

    assert step(walk, answer).walk is None
    assert step(begin(70, per_page=100), answer).walk is None


DISOBEDIENT = [
    frozenset({"exclude"}),
    frozenset({"modified_after"}),
    frozenset({"exclude", "modified_after"}),
]


@given(
    ignores=st.sampled_from(DISOBEDIENT),
    stamps=st.lists(st.integers(-10, 10), max_size=30),
    per_page=st.integers(1, 6),
)
def test_a_shop_that_does_not_listen_ends_in_an_error_or_is_read_in_full(
    ignores: frozenset[str], stamps: list[int], per_page: int
) -> None:
    shop = ModelShop(now=1000, ignores=ignores)
    for stamp in stamps:
        shop.create(modified=stamp)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP, per_page=per_page)

    try:
        watcher.walk()
    except TemporaryError as error:
        assert error.kind is ErrorKind.PROTOCOL  # noqa: PT017 - either end is a good one
    else:
        assert {state for state in watcher.missed() if shop.rows[state[0]].modified >= 0} == set()
    assert shop.answers <= 2 * len(stamps) + 3


@given(
    stamps=st.lists(st.integers(0, 12), max_size=40),
    cap=st.integers(0, 6),
    hidden=st.sets(st.integers(101, 140)),
    doubled=st.integers(1, 3),
    counts=st.booleans(),
    cap_counts=st.booleans(),
    miscounts=st.none() | st.integers(0, 50),
    per_page=st.integers(1, 12),
)
@settings(max_examples=settings().max_examples * 3)
def test_a_shop_whose_pages_are_capped_filtered_doubled_and_miscounted_is_read_in_full(  # noqa: PLR0917
    stamps: list[int],
    cap: int,
    hidden: set[int],
    doubled: int,
    counts: bool,  # noqa: FBT001 - drawn
    cap_counts: bool,  # noqa: FBT001 - drawn
    miscounts: int | None,
    per_page: int,
) -> None:
    shop = ModelShop(
        now=1000,
        cap=cap,
        hidden=hidden,
        doubled=doubled,
        counts=counts,
        cap_counts=cap_counts,
        miscounts=miscounts,
    )
    for stamp in stamps:
        shop.create(modified=stamp)
    watcher = Watcher(shop, at(-1), overlap=NO_OVERLAP, per_page=per_page)
    visible = {state for state in shop.states() if state[0] not in hidden}
    # A page that is hidden as a whole says nothing, unless the shop counts truly.
    size = min(per_page, cap or per_page)
    is_told = counts and miscounts is None and cap_counts
    # A few that are said to be all are believed, so a count must not be accidentally lower than the truth.
    is_misled = counts and miscounts is not None and miscounts < 10

    for _ in watcher.pages():
        if not hidden and not is_misled:
            assert all(at(shop.rows[order_id].modified) >= watcher.cursor for order_id, _ in watcher.missed())

    if not is_misled and (is_told or len(hidden) * doubled < size):
        assert visible <= watcher.seen
    assert shop.answers <= 2 * (len(stamps) * doubled + 1) + cursor.MAX_PAGE_NUMBER


def test_a_walk_takes_a_bounded_number_of_pages_and_the_next_one_resumes_where_it_ended() -> None:
    walk, reached = begin(0, per_page=1), at(0)
    for second in range(1, cursor.MAX_PAGES + 1):
        after = step(walk, page(second, first_id=second))
        assert after.walk is not None
        walk, reached = after.walk, after.cursor
    assert reached == at(cursor.MAX_PAGES), "what was read is not read again by the next walk"
    with pytest.raises(TemporaryError, match="no end after 1,000 pages") as caught:
        step(walk, page(cursor.MAX_PAGES + 1, first_id=cursor.MAX_PAGES + 1))
    assert caught.value.kind is ErrorKind.PROTOCOL


def test_an_absurd_number_of_orders_in_one_second_is_an_error() -> None:
    stamped_alike = cursor.KeysetPosition(
        at(0), already_read=dict.fromkeys(range(1, cursor.MAX_EXCLUDE), at(1))
    )

    stamped_alike.advance(page(1, first_id=100_001), 100)
    with pytest.raises(TemporaryError) as caught:
        stamped_alike.advance(page(1, 1, first_id=100_001), 100)

    assert caught.value.kind is ErrorKind.PROTOCOL


# --- Answers that are too large ----------------------------------------------------------------------------


def test_pages_are_halved_down_to_a_single_order() -> None:
    walk = cursor.start(at(1000), overlap=OVERLAP)
    sizes = [walk.query().per_page]
    while walk.query().per_page > 1:
        walk = walk.halved()
        sizes.append(walk.query().per_page)

    assert sizes == [100, 50, 25, 12, 6, 3, 1]
    with pytest.raises(TemporaryError) as caught:
        walk.halved()
    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_a_halved_walk_stands_where_it_stood() -> None:
    first = step(begin(0, per_page=4), page(1, 2, 3, 3, clock=9)).walk
    assert first is not None

    halved = first.halved()

    assert halved.query() == replace(first.query(), per_page=2)
    # The clock is still the first answer's.
    following = step(halved, page(12, 20, clock=19, first_id=9))
    assert following.walk is not None
    assert following.cursor == at(9)


@given(
    stamps=st.lists(st.integers(0, 9), min_size=1, max_size=40),
    too_large=st.sets(st.integers(1, 40)),
)
def test_halving_in_mid_walk_skips_nothing(stamps: list[int], too_large: set[int]) -> None:
    shop = ModelShop(now=100)
    for stamp in stamps:
        shop.create(modified=stamp)
    walk: cursor.ModifiedWalk | None = begin(-1, per_page=16)
    seen: set[State] = set()
    while walk is not None:
        if shop.answers in too_large and walk.per_page > 1:
            too_large.remove(shop.answers)
            walk = walk.halved()
        answer = shop.answer(walk.query())
        seen |= {state_of(item) for item in answer.items}
        walk = step(walk, answer).walk
        assert shop.answers <= len(stamps) + 1

    assert seen == shop.states()


def test_a_walk_by_creation_is_halved_and_stands_where_it_stood() -> None:
    walk = cursor.created_walk(since=at(0), before=at(1000))
    hidden = walk.advance(replace(page(), total=300, total_pages=3))
    assert hidden is not None
    assert (hidden.query().page, hidden.query().per_page) == (2, 100)

    assert hidden.halved().query() == replace(hidden.query(), per_page=50, page=3), "nothing is passed over"
    with pytest.raises(TemporaryError) as caught:
        walk.sized(1).halved()
    assert caught.value.kind is ErrorKind.TOO_LARGE


def test_a_walk_by_creation_ends_with_an_answer_that_brings_nothing_new() -> None:
    shown = Page(tuple(UnreadableOrder(n, "", at(n), at(1000 - n)) for n in (1, 2)), at(LONG_AFTER))
    first = cursor.created_walk(since=at(0), before=at(1000)).advance(shown)
    assert first is not None
    assert first.query().exclude == {1, 2}

    assert first.advance(replace(shown, items=shown.items[1:])) is not None, "its last second may hold more"
    assert first.advance(page()) is None


# --- Anything that may happen ------------------------------------------------------------------------------


@dataclass(frozen=True)
class ShopChange:
    """Something that happens in the shop."""

    what: str
    which: int = 0
    amount: int = 0

    def to(self, shop: ModelShop) -> None:
        ids = sorted(shop.rows)
        match self.what:
            case "wait":
                shop.pass_time(self.amount)
            case "jump":
                shop.clock_off_s += self.amount
            case "create" if len(ids) < MAX_ORDERS:
                for _ in range(self.amount):
                    shop.create()
            case "bulk edit":
                for order_id in ids[: self.amount]:
                    shop.edit(order_id)
            case _ if ids:
                self._to_order(shop, ids[self.which % len(ids)])

    def _to_order(self, shop: ModelShop, order_id: int) -> None:
        match self.what:
            case "edit":
                shop.edit(order_id)
            case "slow edit":
                shop.edit_slowly(order_id, self.amount)
            case "delete":
                shop.delete(order_id)
            case "date ahead":
                shop.edit(order_id, modified=shop.stamp() + self.amount)


MAX_ORDERS = 30
which = st.integers(0, MAX_ORDERS)
slow_edit = st.builds(ShopChange, st.just("slow edit"), which, st.integers(1, 40))
edits = [
    slow_edit,
    st.builds(ShopChange, st.just("edit"), which),
    st.builds(ShopChange, st.just("bulk edit"), amount=st.integers(2, 15)),
    st.builds(ShopChange, st.just("create"), amount=st.integers(1, 6)),
    st.builds(ShopChange, st.just("delete"), which),
]
ahead = st.builds(ShopChange, st.just("date ahead"), which, st.sampled_from([1, 30, 130, 1000, 100_000]))
pauses = st.builds(ShopChange, st.just("wait"), amount=st.integers(0, 3))
waits = st.builds(ShopChange, st.just("wait"), amount=st.integers(1, 90) | st.sampled_from([500, 1100, 5000]))


@dataclass(frozen=True)
class Tick:
    """What happens before a walk, between its pages, and after which page it dies, if it does."""

    before: list[ShopChange]
    between: list[list[ShopChange]]
    dies_after: int | None


def ticks(
    *changes: st.SearchStrategy[ShopChange], wait: st.SearchStrategy[ShopChange]
) -> st.SearchStrategy[list[Tick]]:
    """A handful of ticks in a shop where these things happen."""
    return st.lists(
        st.builds(
            Tick,
            before=st.lists(st.one_of(*changes, wait), max_size=4),
            between=st.lists(st.lists(st.one_of(*changes, pauses), max_size=3), max_size=6),
            dies_after=st.none() | st.none() | st.integers(1, 4),
        ),
        min_size=1,
        max_size=6,
    )


def run_ticks(shop: ModelShop, watcher: Watcher, script: list[Tick], *, within: int) -> None:
    """Live through it: each state that stays through so many whole walks must have been seen."""
    standing: list[set[State]] = []  # at the beginning of each whole walk
    for tick in script:
        for change in tick.before:
            change.to(shop)
        standing.append(shop.states())
        for number, _ in enumerate(watcher.pages()):
            if tick.dies_after == number + 1:
                standing.pop()
                break
            for change in tick.between[number] if number < len(tick.between) else ():
                change.to(shop)
        if len(standing) >= within:
            stayed = standing[-within] & shop.states()
            assert stayed <= watcher.seen, f"skipped: {stayed - watcher.seen}"


def shop_of(orders: int, *, lag_s: int = 0, answer_s: int = 0) -> ModelShop:
    """A shop whose orders were all made before anybody watched."""
    shop = ModelShop(now=100_000, lag_s=lag_s, answer_s=answer_s)
    for n in range(orders):
        shop.create(modified=100 * n)
    return shop


def watcher_of(shop: ModelShop, per_page: int) -> Watcher:
    """Somebody who begins to watch now; what was there before is none of their business."""
    return Watcher(shop, at(shop.stamp()), per_page=per_page, seen=shop.states())


@given(
    script=ticks(*edits, ahead, wait=waits),
    orders=st.integers(0, 12),
    per_page=st.integers(1, 5),
    lag_s=st.integers(-900, 40),
    answer_s=st.integers(0, 2),
)
@settings(max_examples=settings().max_examples * 3)
def test_nothing_that_stays_is_ever_skipped(
    script: list[Tick], orders: int, per_page: int, lag_s: int, answer_s: int
) -> None:
    shop = shop_of(orders, lag_s=lag_s, answer_s=answer_s)

    run_ticks(shop, watcher_of(shop, per_page), script, within=1)


@given(
    script=ticks(*edits, wait=waits),
    orders=st.integers(0, 12),
    per_page=st.integers(1, 5),
    lag_s=st.integers(0, 900),
)
@settings(max_examples=settings().max_examples * 2)
def test_not_even_when_stamps_lag_behind_by_the_skew(
    script: list[Tick], orders: int, per_page: int, lag_s: int
) -> None:
    shop = shop_of(orders, lag_s=lag_s)

    run_ticks(shop, watcher_of(shop, per_page), script, within=1)


jumps = st.builds(
    ShopChange, st.just("jump"), amount=st.integers(-2000, 2000) | st.integers(-100_000, 100_000)
)
short_waits = st.builds(ShopChange, st.just("wait"), amount=st.integers(1, 12))


# But for a transaction under way while the clock jumps: its stamp is of the old clock.
finished = [edit for edit in edits if edit is not slow_edit]


@given(
    script=ticks(*finished, ahead, wait=short_waits),
    clock=st.lists(st.none() | jumps, min_size=6, max_size=6),
    orders=st.integers(0, 12),
    per_page=st.integers(2, 5),
)
@settings(max_examples=settings().max_examples * 2)
def test_a_clock_that_jumps_between_walks_delays_by_a_walk_and_skips_nothing(
    script: list[Tick], clock: list[ShopChange | None], orders: int, per_page: int
) -> None:
    shop = shop_of(orders)
    jumping = [
        replace(tick, before=[*tick.before[:2], *([jump] if jump else []), *tick.before[2:]])
        for tick, jump in zip(script, clock, strict=False)
    ]

    run_ticks(shop, watcher_of(shop, per_page), jumping, within=2)


@given(script=ticks(*edits, ahead, wait=waits), per_page=st.integers(1, 5))
def test_the_cursor_is_never_ahead_of_the_shops_clock_and_a_whole_second(
    script: list[Tick], per_page: int
) -> None:
    shop = shop_of(5)
    watcher = watcher_of(shop, per_page)
    for tick in script:
        for change in tick.before:
            change.to(shop)
        began = at(shop.clock())
        watcher.commits.clear()
        watcher.walk()

        assert all(moved <= began and moved.microsecond == 0 for moved in watcher.commits)
        assert watcher.cursor >= began - SKEW
        assert watcher.requested[-1].modified_after is not None
        assert watcher.requested[-1].modified_after >= DAY - timedelta(days=1)


def test_a_lost_cursor_goes_back_before_the_last_poll_but_not_before_the_watch_began() -> None:
    assert cursor_after_loss(DAY, None) == DAY
    assert cursor_after_loss(DAY, at(3600)) == DAY
    late = DAY + timedelta(days=9)
    assert cursor_after_loss(DAY, late) == late - LOST_CURSOR_REWIND


@pytest.mark.parametrize(
    ("answer", "per_page", "ids", "expected"),
    [
        (page(), 10, (), True),
        (page(1), 10, (), False),
        (replace(page(), total=0), 10, (), False),
        (page(), 100, (), False),
        (page(), 10, (7,), False),
    ],
    ids=["empty", "an order", "a count", "the largest page", "by ids"],
)
def test_an_empty_page_may_hide_orders_if_the_shop_tells_no_count(
    answer: Page,
    per_page: int,
    ids: tuple[int, ...],
    expected: bool,  # noqa: FBT001 - a column of the table
) -> None:
    query = Query(per_page=per_page, ids=frozenset(ids))
    assert may_hide_more(query, answer, largest=100) is expected


def test_what_is_stamped_from_an_instant_on_is_read_again() -> None:
    read = ReadBefore(complete_to=at(100), complete_at=at(300), largest_page=7)
    assert read.rewound_to(None) == read
    assert read.rewound_to(at(101)) == read
    assert read.rewound_to(at(100)) == replace(read, complete_to=at(99))
    assert read.rewound_to(at(50)) == replace(read, complete_to=at(49))
    assert WHOLE_PAGES.rewound_to(at(50)) == WHOLE_PAGES
