"""The initial import, before the first decision: each old order that may still change, newest first."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core import import_walk
from shop_poller.core.cursor import KeysetPosition
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.import_walk import MAX_WAIT, ImportPosition, ImportQuery, Phase
from shop_poller.core.model import Query
from shop_poller.sources.woocommerce.statuses import MEANINGS
from support.model_shop import ModelShop, at, pages_of, state_of

DAY_S = 86_400
BASELINE = 100 * DAY_S
OPEN = ("pending", "on-hold", "processing")
MAX_STEPS = 500


@dataclass
class Student:
    """Imports as the daemon does; only `persisted` and `imported` survive a restart.

    Attributes:
        imported: ids in the order in which they were imported; each only once.
    """

    shop: ModelShop
    per_page: int = 100
    persisted: ImportPosition | None = field(default_factory=lambda: import_walk.begin(at(BASELINE)))
    imported: list[int] = field(default_factory=list)
    requested: list[Query] = field(default_factory=list)

    def pages(self) -> Iterator[ImportPosition | None]:
        """Import page by page from the persisted position; an interruption is a restart."""
        if self.persisted is None:
            return
        import_query: import_walk.ImportQuery | None = import_walk.import_query(
            self.persisted, at(BASELINE), MEANINGS
        )
        for _ in range(MAX_STEPS):
            if import_query is None:
                return
            import_query = replace(import_query, per_page=self.per_page)
            self.requested.append(import_query.query())
            page = self.shop.answer(import_query.query())
            fresh = [item.id for item in page.items if item.id not in self.imported]
            import_query = import_walk.advance(import_query, page, imported=len(fresh))
            self.imported += fresh
            self.persisted = import_query.import_position if import_query else None
            yield self.persisted
        raise AssertionError("the import does not end")

    def study(self) -> int:
        """To the end, of a shop that stands still; the number of pages."""
        return sum(1 for _ in self.pages())


def shop_with(*orders: tuple[str, int, int]) -> ModelShop:
    """A shop whose orders (status, created, modified) are dated in days before the baseline."""
    shop = ModelShop(now=BASELINE + 3600)
    for status, created, modified in orders:
        shop.create(created=BASELINE - created * DAY_S, modified=BASELINE - modified * DAY_S, status=status)
    return shop


# --- Which orders ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "created", "modified", "imported"),
    [
        # Still open: however old.
        ("pending", 1, 1, True),
        ("on-hold", 1, 1, True),
        ("processing", 1, 1, True),
        ("processing", 90, 90, True),
        ("pending", 3000, 3000, True),
        # Completed within the last 30 days: whenever it was made.
        ("completed", 1, 1, True),
        ("completed", 29, 29, True),
        ("completed", 90, 29, True),
        ("completed", 90, 31, False),
        # Over.
        ("cancelled", 1, 1, False),
        ("refunded", 1, 1, False),
        ("failed", 1, 1, False),
        ("checkout-draft", 1, 1, False),
        # Made since the baseline: news, not imported.
        ("pending", -1, -1, False),
        ("processing", 0, 0, False),
        ("completed", 0, 0, False),
    ],
)
def test_open_orders_and_those_completed_of_late_are_imported(
    status: str,
    created: int,
    modified: int,
    imported: bool,  # noqa: FBT001 - a column of the table
) -> None:
    student = Student(shop_with((status, created, modified)))

    student.study()

    assert student.imported == ([101] if imported else [])


def test_the_first_question_is_for_the_newest_open_orders_before_the_baseline() -> None:
    import_query = import_walk.import_query(import_walk.begin(at(BASELINE)), at(BASELINE), MEANINGS)

    assert import_query.query() == Query(
        per_page=100,
        newest_first=True,
        created_before=at(BASELINE),
        modified_after=None,
        statuses=OPEN,
        exclude=frozenset(),
    )


def test_when_all_open_ones_are_imported_it_asks_for_those_completed_in_30_days() -> None:
    student = Student(shop_with(("pending", 2, 2)))

    student.study()

    assert student.requested[2] == Query(
        per_page=100,
        newest_first=True,
        created_before=at(BASELINE),
        modified_after=at(BASELINE - 30 * DAY_S),
        statuses=("completed",),
        exclude=frozenset(),
    )
    assert student.persisted is None


def test_an_empty_shop_is_imported_in_two_questions() -> None:
    student = Student(ModelShop(now=BASELINE))

    assert student.study() == 2
    assert student.imported == []


# --- In which order, and how far ---------------------------------------------------------------------------


def test_the_newest_are_imported_first() -> None:
    student = Student(shop_with(*[("processing", age, age) for age in (5, 3, 9, 1, 7)]), per_page=2)

    student.study()

    assert [student.shop.rows[order_id].created for order_id in student.imported] == [
        BASELINE - age * DAY_S for age in (1, 3, 5, 7, 9)
    ]


def test_progress_is_counted_and_persisted() -> None:
    student = Student(
        shop_with(*[("pending", age, age) for age in range(1, 6)], ("completed", 1, 1)), per_page=2
    )

    # After a full page it stands just before the first of it: see Keyset.advance.
    assert list(student.pages()) == [
        ImportPosition(Phase.OPEN, at(BASELINE - 1 * DAY_S + 1), 2),
        ImportPosition(Phase.OPEN, at(BASELINE - 3 * DAY_S + 1), 4),
        ImportPosition(Phase.OPEN, at(BASELINE - 5 * DAY_S + 1), 5),
        ImportPosition(Phase.COMPLETED, at(BASELINE), 5),
        ImportPosition(Phase.COMPLETED, at(BASELINE - 1 * DAY_S + 1), 6),
        None,
    ]


def test_orders_known_already_are_not_counted_again() -> None:
    import_query = import_walk.import_query(
        ImportPosition(Phase.OPEN, at(BASELINE), 7), at(BASELINE), MEANINGS
    )
    page = shop_with(("pending", 1, 1), ("pending", 2, 2)).answer(import_query.query())

    following = import_walk.advance(import_query, page, imported=1)

    assert following is not None
    assert following.import_position.count == 8


@pytest.mark.parametrize("per_page", [1, 3, 100])
def test_hundreds_of_orders_made_in_one_second_are_all_imported(per_page: int) -> None:
    student = Student(shop_with(*[("processing", 5, 5)] * 320), per_page=per_page)

    assert student.study() == pages_of(320, per_page) + pages_of(0, per_page)
    assert len(student.imported) == 320


def test_a_page_that_repeats_for_ever_is_an_error() -> None:
    import_query = replace(
        import_walk.import_query(import_walk.begin(at(BASELINE)), at(BASELINE), MEANINGS), per_page=2
    )
    page = shop_with(("pending", 1, 1), ("pending", 2, 2)).answer(import_query.query())

    with pytest.raises(TemporaryError) as caught:  # noqa: PT012 - the error may come at any of the first steps
        for _ in range(4):
            following = import_walk.advance(import_query, page, imported=0)
            assert following is not None
            import_query = following

    assert caught.value.kind is ErrorKind.PROTOCOL


def test_a_shop_that_ignores_the_bound_is_an_error() -> None:
    import_query = replace(
        import_walk.import_query(import_walk.begin(at(BASELINE)), at(BASELINE), MEANINGS), per_page=2
    )
    page = shop_with(("pending", -2, -2), ("pending", -1, -1)).answer(Query(per_page=2, newest_first=True))

    with pytest.raises(TemporaryError) as caught:
        import_walk.advance(import_query, page, imported=2)

    assert caught.value.kind is ErrorKind.PROTOCOL


def test_a_halved_import_walk_stands_where_it_stood() -> None:
    import_query = import_walk.import_query(
        ImportPosition(Phase.COMPLETED, at(BASELINE - 99), 7), at(BASELINE), MEANINGS
    )

    halved = import_query.halved()

    assert halved.query() == replace(import_query.query(), per_page=50)
    assert halved.import_position == import_query.import_position


def test_a_import_walk_on_a_later_page_asks_for_that_page_and_smaller_ones_pass_over_nothing() -> None:
    keyset_position = KeysetPosition(at(BASELINE), descending=True, page_number=3)
    import_query = ImportQuery(
        import_walk.begin(at(BASELINE)), at(BASELINE), MEANINGS, keyset_position=keyset_position
    )

    assert [each.query().page for each in (import_query, import_query.halved(), import_query.sized(30))] == [
        3,
        5,
        7,
    ]


@pytest.mark.parametrize("dated", [True, False], ids=["with dates", "without dates"])
@pytest.mark.parametrize("broken", [{101}, {106}, {110}, {101, 102, 103, 104, 105}, set(range(101, 121))])
def test_orders_that_cannot_be_read_do_not_stop_the_import_walk(
    dated: bool,  # noqa: FBT001 - a column of the table
    broken: set[int],
) -> None:
    shop = shop_with(*[("pending", age, age) for age in range(1, 21)])
    shop.unreadable = dict.fromkeys(broken, dated)
    student = Student(shop, per_page=5)

    student.study()

    assert sorted(student.imported) == sorted(shop.rows)


# --- Restarts, ties and edits, all at once -----------------------------------------------------------------

statuses = st.sampled_from([*OPEN, "completed", "cancelled"])
# Days before the baseline, few of them, so that many orders share a second.
orders = st.tuples(statuses, st.integers(-1, 4), st.integers(0, 40))


@dataclass(frozen=True)
class Change:
    """What happens to an order of the shop between two pages."""

    which: int
    status: str | None

    def to(self, shop: ModelShop) -> None:
        shop.pass_time(1)
        if not shop.rows or self.status == "made":
            shop.create(status="processing")
            return
        order_id = sorted(shop.rows)[self.which % len(shop.rows)]
        # An order goes on; that it goes back, the walk will see.
        old = STEPS.index(shop.rows[order_id].status)
        new = old if self.status is None else max(old, STEPS.index(self.status))
        shop.edit(order_id, status=STEPS[new])


STEPS = ["pending", "on-hold", "processing", "completed", "cancelled"]
changes = st.builds(Change, st.integers(0, 30), st.none() | st.just("made") | st.sampled_from(STEPS))


def to_be_imported(shop: ModelShop) -> set[int]:
    """The orders that are to be imported, in their present state."""
    return {
        row.id
        for row in shop.rows.values()
        if row.created < BASELINE
        and (row.status in OPEN or (row.status == "completed" and row.modified > BASELINE - 30 * DAY_S))
    }


@given(
    rows=st.lists(orders, max_size=30),
    per_page=st.integers(1, 5),
    between=st.lists(st.tuples(st.booleans(), st.lists(changes, max_size=2)), max_size=25),
)
def test_every_order_is_imported_once_whatever_happens_meanwhile(
    rows: list[tuple[str, int, int]],
    per_page: int,
    between: list[tuple[bool, list[Change]]],
) -> None:
    shop = shop_with(*rows)
    student = Student(shop, per_page=per_page)
    always = to_be_imported(shop)
    script = iter(between)
    while student.persisted is not None:
        assert shop.answers < MAX_STEPS
        for _ in student.pages():
            restart, happens = next(script, (False, []))
            for change in happens:
                change.to(shop)
                always &= to_be_imported(shop)
            if restart:
                break

    assert always <= set(student.imported)
    assert len(student.imported) == len(set(student.imported))
    assert all(shop.rows[order_id].created < BASELINE for order_id in student.imported)


@given(rows=st.lists(orders, max_size=30), per_page=st.integers(1, 5), restart_every=st.integers(1, 9))
def test_a_still_shop_is_imported_in_full_newest_first_through_any_restarts(
    rows: list[tuple[str, int, int]], per_page: int, restart_every: int
) -> None:
    shop = shop_with(*rows)
    student = Student(shop, per_page=per_page)
    counted = 0
    while student.persisted is not None:
        done = len(student.imported), student.persisted
        for number, position in enumerate(student.pages(), 1):
            if position is not None:
                assert position.count == len(student.imported)
                counted = position.count
            # A daemon that is killed again and again gets on if it reads through one second in between.
            if number >= restart_every and student.persisted != done[1]:
                break

    created = [
        shop.rows[order_id].created for order_id in student.imported if shop.rows[order_id].status in OPEN
    ]
    assert set(student.imported) == to_be_imported(shop)
    assert created == sorted(created, reverse=True)
    assert counted <= len(student.imported)
    assert shop.answers <= MAX_STEPS


@given(rows=st.lists(orders, max_size=30), per_page=st.integers(1, 5))
def test_a_still_shop_is_imported_in_as_many_pages_as_it_fills(
    rows: list[tuple[str, int, int]], per_page: int
) -> None:
    shop = shop_with(*rows)
    pages = Student(shop, per_page=per_page).study()

    n_open = sum(shop.rows[order_id].status in OPEN for order_id in to_be_imported(shop))
    n_completed = len(to_be_imported(shop)) - n_open
    assert pages == pages_of(n_open, per_page) + pages_of(n_completed, per_page)


def test_a_import_walk_shows_each_order_as_it_stands() -> None:
    shop = shop_with(("pending", 1, 1))
    shop.edit(101, status="processing")

    (item,) = shop.answer(
        import_walk.import_query(import_walk.begin(at(BASELINE)), at(BASELINE), MEANINGS).query()
    ).items

    assert state_of(item) == (101, 2)


# --- The baseline ------------------------------------------------------------------------------------------

HOUR = timedelta(hours=1)


def clock(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{text}+00:00")


@pytest.mark.parametrize(
    ("title", "shop_time", "started_at", "now", "expected"),
    [
        ("answered at once", clock("10:00"), clock("10:00"), clock("10:00"), clock("09:00")),
        ("down for half an hour", clock("10:30"), clock("10:00"), clock("10:30"), clock("09:00")),
        ("down for nine hours", clock("19:00"), clock("10:00"), clock("19:00"), clock("09:00")),
        ("our clock is slow", clock("10:30"), clock("04:00"), clock("04:30"), clock("09:00")),
        ("our clock is fast", clock("10:30"), clock("17:00"), clock("17:30"), clock("09:00")),
        ("the shop's clock is fast", clock("12:30"), clock("10:00"), clock("10:30"), clock("11:00")),
        ("our clock was set back meanwhile", clock("10:30"), clock("10:00"), clock("07:00"), clock("09:30")),
        (
            "the shop was away as long as is believed",
            clock("10:30"),
            clock("10:00") - MAX_WAIT,
            clock("10:00"),
            clock("09:30") - MAX_WAIT,
        ),
        (
            "our clock was set ahead meanwhile",
            clock("10:30"),
            clock("10:00") - MAX_WAIT,
            clock("10:00:01"),
            clock("09:30"),
        ),
        (
            "fractions of a second",
            clock("10:00:09.9"),
            clock("10:00"),
            clock("10:00:00.2"),
            clock("09:00:09"),
        ),
    ],
)
def test_the_baseline_is_the_first_start_less_the_look_back_by_the_shops_clock(
    title: str, shop_time: datetime, started_at: datetime, now: datetime, expected: datetime
) -> None:
    found = import_walk.baseline(shop_time=shop_time, started_at=started_at, now=now, lookback=HOUR)

    assert (title, found) == (title, expected)


@pytest.mark.parametrize("lookback_s", [0, 1, 3600, 7 * DAY_S])
def test_the_owner_says_how_far_to_look_back(lookback_s: int) -> None:
    found = import_walk.baseline(
        shop_time=clock("10:00"),
        started_at=clock("10:00"),
        now=clock("10:00"),
        lookback=timedelta(seconds=lookback_s),
    )

    assert clock("10:00") - found == timedelta(seconds=lookback_s)
