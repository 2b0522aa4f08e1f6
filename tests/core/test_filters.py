"""`events=` and `levels=` of a sink: what is for it, what is left of its address, what is refused."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.filters import EVERYTHING, MOST_WORDS, Filter, problems, take_filter, takers
from shop_poller.core.messages import LEVELS
from shop_poller.core.model import EventType
from support.deliveries import notification

EVENTS = {*map(str, EventType), "shop.order.packing"}
ALL_LEVELS = set(LEVELS.values())
words = st.text(
    st.characters(exclude_categories=["Cs", "Z", "Cc"], exclude_characters=","), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), EVENTS),
        (("*",), EVENTS),
        (("shop.order.new",), {"shop.order.new"}),
        (("new",), {"shop.order.new"}),
        (("new", "packing"), {"shop.order.new", "shop.order.packing"}),
        (("refunded",), {"shop.order.refunded"}),  # and no partial refund
        (("service.*",), {f"service.{name}" for name in ("unhealthy", "recovered", "dead_letters", "test")}),
        (("shop.order.pay*", "shop.s*"), {"shop.order.payment_overdue", "shop.silence"}),
        (("order.new",), set()),
        (("ne",), set()),
        (("*.new",), set()),
        (("NEW",), set()),
    ],
)  # fmt: skip
def test_an_event_is_named_in_full_or_by_its_end_or_by_its_beginning(
    named: tuple[str, ...], expected: set[str]
) -> None:
    assert {event for event in EVENTS if Filter(named).wants(event, "info")} == expected


def test_both_have_to_fit() -> None:
    wanted = Filter(("shop.order.*",), ("warning", "error"))

    assert wanted.wants("shop.order.failed", "error")
    assert not wanted.wants("shop.order.failed", "critical")
    assert not wanted.wants("service.unhealthy", "error")
    assert Filter(levels=("critical",)).wants("service.unhealthy", "critical")


def test_those_take_it_that_want_it_in_their_order() -> None:
    sinks = {"b": EVERYTHING, "a": Filter(("new",)), "c": Filter(("failed",)), "d": Filter((), ("warning",))}

    assert takers(sinks, notification()) == ["b", "a"]
    assert takers(sinks, replace(notification(), event_type="shop.order.failed", level="warning")) == [
        "b", "c", "d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "wanted", "rest"),
    [
        ("", EVERYTHING, ""),
        ("token=a%2Cb&x", EVERYTHING, "token=a%2Cb&x"),
        ("events=new", Filter(("new",)), ""),
        ("a=1&events=new,failed&b=%20&levels=info&&c", Filter(("new", "failed"), ("info",)), "a=1&b=%20&&c"),
        ("events=service.%2A%2Cnew", Filter(("service.*", "new")), ""),
        ("events=new&events=failed", Filter(("new", "failed")), ""),
        ("events=new,,failed,", Filter(("new", "failed")), ""),
        ("event%73=new&Event%73=new&event=new", EVERYTHING, "event%73=new&Event%73=new&event=new"),
    ],
)
def test_the_filter_is_taken_out_of_the_query_and_the_rest_stays(
    query: str, wanted: Filter, rest: str
) -> None:
    assert take_filter(query) == (wanted, rest)


@pytest.mark.parametrize("name", ["events", "levels"])
def test_a_filter_that_names_nothing_or_too_much_is_refused(name: str) -> None:
    for empty in (name, f"{name}=", f"a=b&{name}=,%20,"):
        with pytest.raises(
            ValueError, match=f"^{name}= in an address names none; name some, or leave it out$"
        ):
            take_filter(empty)
    most = ",".join(["new"] * MOST_WORDS)
    assert take_filter(f"{name}={most}")
    with pytest.raises(ValueError, match="have more than 100 words"):
        take_filter(f"{name}={most},new")


@given(st.lists(words, max_size=5), st.lists(words, max_size=5), st.lists(words.map(quote), max_size=3))
def test_what_is_written_is_read(events: list[str], levels: list[str], others: list[str]) -> None:
    mine = [
        f"{name}={quote(','.join(named))}"
        for name, named in (("events", events), ("levels", levels))
        if named
    ]
    theirs = [f"k{number}={other}" for number, other in enumerate(others)]

    assert take_filter("&".join([*mine, *theirs])) == (Filter(tuple(events), tuple(levels)), "&".join(theirs))


@given(st.sets(st.sampled_from(sorted(EVENTS)), min_size=1))
def test_full_names_want_just_these(named: set[str]) -> None:
    wanted = Filter(tuple(named))

    assert {event for event in EVENTS if wanted.wants(event, "info")} == named
    assert problems(wanted, events=EVENTS, levels=ALL_LEVELS) == []


def test_a_word_that_names_nothing_is_a_problem() -> None:
    wanted = Filter(("new", "nwe", "service.*", "shop.orders.*"), ("info", "warn"))  # codespell:ignore nwe

    assert problems(wanted, events=["shop.order.new", "service.test"], levels=["warning", "info"]) == [
        "there is no event 'nwe'; there are service.test, shop.order.new",
        "there is no event 'shop.orders.*'; there are service.test, shop.order.new",
        "there is no level 'warn'; there are info, warning",
    ]


def test_a_word_that_may_be_a_secret_is_not_shown() -> None:
    wanted = Filter(("new;token=hunter2",), ("info?hunter2",))

    assert problems(wanted, events=["shop.order.new"], levels=["info"]) == [
        "there is no event with the given name; there are shop.order.new",
        "there is no level with the given name; there are info",
    ]


@pytest.mark.parametrize(
    ("events", "is_for_people", "expected"),
    [
        ((), False, False),
        (("shop.*",), False, False),
        (("new", "placed"), False, True),
        (("shop.order.placed",), False, True),
        ((), True, True),
        (("new",), True, False),
        (("shop.*",), True, True),
    ],
)
def test_only_people_are_told_of_a_placed_order_unless_a_program_names_it(
    events: tuple[str, ...],
    is_for_people: bool,  # noqa: FBT001 - a column of the table
    expected: bool,  # noqa: FBT001 - likewise
) -> None:
    wanted = Filter(events, is_for_people=is_for_people)
    assert wanted.wants("shop.order.placed", "info") is expected


@pytest.mark.parametrize("is_for_people", [True, False])
def test_people_are_not_told_that_an_order_was_cancelled_that_they_were_never_told_of(
    is_for_people: bool,  # noqa: FBT001 - a parameter
) -> None:
    wanted = Filter(is_for_people=is_for_people)
    cancelled = dict(examples("ru"))["cancelled"]
    assert wanted.takes(replace(cancelled, data={**cancelled.data, "was_announced": True}))
    assert wanted.takes(cancelled) is not is_for_people
    new = dict(examples("ru"))["new"]
    assert wanted.takes(new), "every other event stands for itself"
