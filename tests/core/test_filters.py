"""`events=` and `levels=` of a sink: what is for it, what is left of its address, what is refused."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.expression_parser import parse_expression
from shop_poller.core.filters import (
    EVERYTHING,
    MOST_WORDS,
    Filter,
    facts,
    lasting_facts,
    problems,
    take_filter,
    takers,
)
from shop_poller.core.messages import LEVELS, order_notification
from shop_poller.core.model import EventType, Notification, OrderEvent
from support.deliveries import notification
from support.notifications import NOW, examples, message_format, order

EVENTS = {*map(str, EventType), "shop.order.packing"}
ALL_LEVELS = set(LEVELS.values())
words = st.text(
    st.characters(exclude_categories=["Cs", "Z", "Cc"], exclude_characters=","), min_size=1, max_size=20
)


@pytest.mark.parametrize(
    ("named", "expected"),
    [
        ((), EVENTS - {"shop.digest"}),
        (("*",), EVENTS - {"shop.digest"}),  # digests have to be named
        (("digest",), {"shop.digest"}),
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
    assert {event for event in EVENTS if Filter(named, is_for_people=True).wants(event, "info")} == expected


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
    assert wanted.takes(cancelled)
    unannounced = replace(cancelled, data={**cancelled.data, "was_announced": False})
    assert wanted.takes(unannounced) is not is_for_people
    new = dict(examples("ru"))["new"]
    assert wanted.takes(new), "every other event stands for itself"


# --- where= -------------------------------------------------------------------------------------------------

EXAMPLES = {
    name: one for name, one in examples("en") if name != "placed" and "digest" not in name
}  # programs do not receive these
ALERTS = {"silence", "service.unhealthy", "service.recovered", "dead letters", "test"}


def where(text: str) -> Filter:
    return Filter(where=parse_expression(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("total > 1000", EXAMPLES.keys() - {"new, little is known"}),
        ("not total > 1000", {"new, little is known", *ALERTS}),
        ("total > 5000", ALERTS),
        ("amount >= 100", {name for name in EXAMPLES if name.startswith("partially")} | ALERTS),
        ("paid = false", {"cancelled, unpaid", "failed", "payment overdue", *ALERTS}),
        ("event in (new, service.test)", {name for name in EXAMPLES if name.startswith("new")} | {"test"}),
        (
            "event = new and total > 0",
            {"new", "new, long", "new, with personal data", "new, announced as placed before"},
        ),
        ("level = error", {"failed", "dead letters"}),
        ("level = error or total > 1000", EXAMPLES.keys() - {"new, little is known"}),
        ("product ~ HONEY and payment = paypal", EXAMPLES.keys() - {"new, little is known"}),
        ("product ~ tea", ALERTS),
        ("shop = apiary and shop = shop.example", EXAMPLES.keys()),
        ("shop = other", set()),
        ("payment = sbp", EXAMPLES.keys()),
    ],
)  # fmt: skip
def test_where_is_about_the_facts_and_does_not_hide_alerts(text: str, expected: set[str]) -> None:
    assert {name for name, one in EXAMPLES.items() if where(text).takes(one)} == expected


def test_where_joins_the_other_two() -> None:
    wanted = Filter(("new",), ("info",), where=parse_expression("total > 1000"))

    assert wanted.takes(EXAMPLES["new"])
    assert not wanted.takes(EXAMPLES["new, little is known"])
    assert not wanted.takes(EXAMPLES["refunded"])
    assert not wanted.takes(EXAMPLES["test"])
    assert takers({"a": wanted, "b": EVERYTHING, "c": where("total < 1000")}, EXAMPLES["new"]) == ["a", "b"]


def test_a_notification_of_little_data_has_no_facts_but_harms_nothing() -> None:
    bare = replace(EXAMPLES["new"], data={"total": ""})
    assert facts(bare)["product"] == facts(bare)["paid"] == []
    assert not where("product ~ honey or paid or status = new").takes(bare)
    assert where("product ~ honey").takes(replace(bare, data={}))


@pytest.mark.parametrize("little", [False, True])
def test_the_facts_that_last_are_those_that_were_told(little: bool) -> None:  # noqa: FBT001 - a case
    changes = {"total": "", "items": None, "payment_method": "", "payment_code": ""} if little else {}
    of = order("en", **changes)
    told = facts(
        order_notification(
            OrderEvent(EventType.NEW, of, occurrence=1, paid=True), message_format("en"), now=NOW
        )
    )
    lasting = lasting_facts(of, event_type=EventType.NEW, level="info", shop=("shop.example", "Apiary"))

    assert lasting == {name: told[name] for name in lasting}
    assert told.keys() - lasting.keys() == {"status", "previous_status", "paid", "amount"}
    unread = lasting_facts(None, event_type=EventType.NEW, level="info", shop=("shop.example", "Apiary"))
    assert unread == {name: told[name] for name in ("event", "level", "shop")}


@pytest.mark.parametrize(
    ("query", "text", "rest"),
    [
        ("where=total>5000", "total > 5000", ""),
        ("where=total%3E%3D5000&a=b+c", "total >= 5000", "a=b+c"),
        ("a&where=paid+and+total>5000&b", "paid = true and total > 5000", "a&b"),
        ("where=paid%20and%20total>5000", "paid = true and total > 5000", ""),
        ("where=product~A%2BB", "product ~ A+B", ""),
        ("where=product~%22a+%26+b+%23+%25%22", 'product ~ "a & b # %"', ""),
        ("where=product~%D0%BC%D1%91%D0%B4", "product ~ мёд", ""),
        ("where=product~мёд", "product ~ мёд", ""),
        ("where=status=new", "status = new", ""),
        ("%77here=total>5000", None, "%77here=total>5000"),
    ],
)
def test_where_is_taken_out_and_decoded(query: str, text: str | None, rest: str) -> None:
    wanted, left = take_filter(query)
    assert (str(wanted.where) if wanted.where is not None else None, left) == (text, rest)


def test_the_events_and_levels_of_where_are_those_that_there_are() -> None:
    known = {"events": ["shop.order.new", "service.test"], "levels": ["warning", "FATAL"]}

    assert not problems(where("event = New or event = service.* or level = fatal or event ~ x"), **known)
    assert not problems(where("level ~ x and total > 1 and status = nothing"), **known)
    assert problems(where("event in (nwe, new) and level != info"), **known) == [  # codespell:ignore nwe
        "there is no event 'nwe'; there are service.test, shop.order.new",
        "there is no level 'info'; there are FATAL, warning",
    ]
    assert problems(where("event = 'token=hunter2'"), **known) == [
        "there is no event with the given name; there are service.test, shop.order.new"
    ]


@given(st.sampled_from(sorted(EXAMPLES)), st.sampled_from(["total", "amount", "paid", "product", "status"]))
def test_what_is_about_orders_alone_never_hides_an_alert(name: str, field: str) -> None:
    text = {"total": "total > 5", "amount": "amount < 5", "paid": "not paid"}.get(field, f"{field} ~ x")
    told: Notification = EXAMPLES[name]
    assert name not in ALERTS or where(text).takes(told)
