"""Questions that leave out many orders, asked with fewer ids."""

from datetime import UTC, datetime

import pytest

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.long_questions import FEW_IDS, can_shorten, is_long, only_new, shortened
from shop_poller.core.model import Order, Page, Query

AT = datetime(2026, 11, 23, 9, tzinfo=UTC)


def question(ids: int, per_page: int = 100) -> Query:
    return Query(per_page=per_page, modified_after=AT, exclude=frozenset(range(1, ids + 1)))


def page(*ids: int, total_pages: int | None = None) -> Page:
    return Page(
        tuple(Order(i, str(i), "processing", "1.00", "RUB", "₽", "", AT, AT) for i in ids),
        AT,
        total=None if total_pages is None else 500,
        total_pages=total_pages,
    )


@pytest.mark.parametrize(
    ("ids", "long", "can"),
    [(0, False, False), (40, False, False), (41, True, True), (139, True, True), (140, True, False)],
)
def test_which_questions_are_long(ids: int, long: bool, can: bool) -> None:  # noqa: FBT001 - of the table
    assert (is_long(question(ids)), can_shorten(question(ids))) == (long, can)


@pytest.mark.parametrize(("ids", "per_page", "requested_ids"), [(41, 100, 100), (60, 25, 45), (139, 1, 100)])
def test_a_shortened_question_has_room_for_what_it_does_not_leave_out(
    ids: int, per_page: int, requested_ids: int
) -> None:
    short = shortened(question(ids, per_page))

    assert len(short.exclude) == FEW_IDS
    assert short.exclude < question(ids).exclude
    assert (short.per_page, short.modified_after) == (requested_ids, AT)


def test_what_was_seen_is_taken_out_and_the_walk_goes_on() -> None:
    read, is_whole = only_new(page(41, 42, 60, 61, total_pages=3), question(59))

    assert [item.id for item in read.items] == [60, 61]
    assert (is_whole, read.total, read.total_pages) == (False, None, None), "it counted what was seen"


@pytest.mark.parametrize(
    ("answer", "left"),
    [
        (page(41, 60, total_pages=1), [60]),
        (page(60, 61, total_pages=1), [60, 61]),
        (page(41, total_pages=1), []),
        (page(), []),
    ],
)
def test_a_page_that_is_all_there_is_ends_the_walk(answer: Page, left: list[int]) -> None:
    read, is_whole = only_new(answer, question(59))

    assert ([item.id for item in read.items], is_whole) == (left, True)
    assert (read.total, read.total_pages) == (len(left), min(1, len(left)))


@pytest.mark.parametrize("total_pages", [None, 2])
def test_a_page_of_nothing_new_is_no_end_unless_the_shop_says_so(total_pages: int | None) -> None:
    with pytest.raises(TemporaryError, match="excludes 59 orders") as caught:
        only_new(page(41, 42, total_pages=total_pages), question(59))

    assert caught.value.kind is ErrorKind.PROTOCOL
