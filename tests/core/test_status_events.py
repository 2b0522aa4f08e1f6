"""SHOP_STATUS_EVENTS: what may be named, and what is said of the rest."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.config import status_events
from shop_poller.config.status_events import parse
from shop_poller.core.messages import LEVELS
from shop_poller.core.model import EventType, StatusEvent

WORDS = {"title": "Собирается", "message": "Заказ #{id} передан на сборку"}
EXAMPLE = 'should be JSON such as {"packing": {"title": "Packing", "message": "Order #{id} is being packed"}}'
HOLDERS = "{id} {number} {total} {customer} {status}"


def problem(value: object) -> str:
    with pytest.raises(ValueError, match=r"\A[^\n\r]+\Z") as caught:
        parse(value)
    return str(caught.value)


def wrong(of: str = "sborka", **entry: Any) -> str:
    """What is wrong with one status; None takes a word out."""
    status, words = of, {key: value for key, value in {**WORDS, **entry}.items() if value is not None}
    said = problem({status: words})
    assert said == problem(json.dumps({status: words})), "the same in the environment and in a file"
    return said


def test_everything_can_be_named() -> None:
    entry = {"event": "shop.order.packing", "level": "warning", **WORDS}

    assert parse({"sborka": entry}) == {"sborka": StatusEvent(**entry)}
    assert parse(json.dumps({"sborka": entry})) == {"sborka": StatusEvent(**entry)}


@pytest.mark.parametrize(
    ("status", "event"),
    [
        ("sborka", "shop.order.sborka"),
        ("ready-for-pickup", "shop.order.ready_for_pickup"),
        ("completed", "shop.order.completed"),
        ("on-hold", "shop.order.on_hold"),
    ],
)
def test_title_and_message_are_enough(status: str, event: str) -> None:
    assert parse({status: WORDS}) == {status: StatusEvent(event, "info", **WORDS)}


def test_a_status_in_any_letters_can_be_named_if_its_event_is() -> None:
    assert parse({"сборка": {"event": "shop.order.packing", **WORDS}})["сборка"].event == "shop.order.packing"
    assert wrong("сборка") == (
        "сборка: 'shop.order.сборка' is no name for an event; set its event to shop. and up to 60 of a-z,"
        " 0-9, _ and dot"
    )


@pytest.mark.parametrize("placeholder", HOLDERS.split())
def test_these_may_stand_in_braces(placeholder: str) -> None:
    words = {"title": f"a{placeholder}{placeholder}", "message": f"{placeholder} b"}

    assert parse({"sborka": words})["sborka"] == StatusEvent("shop.order.sborka", "info", **words)


@pytest.mark.parametrize("key", ["title", "message"])
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{name}", "{name}"),
        ("{}", "{}"),
        ("{0}", "{0}"),
        ("{ id }", "{ id }"),
        ("{id!r}", "{id!r}"),
        ("{id:>9}", "{id:>9}"),
        ("{id.__class__}", "{id.__class__}"),
        ("{{id}}", "a brace by itself"),
        ("{id", "a brace by itself"),
        ("id}", "a brace by itself"),
        ("{" + "x" * 90 + "}", "{" + "x" * 39),
    ],
)
def test_nothing_else_may(key: str, text: str, said: str) -> None:
    assert wrong(**{key: text}) == f"sborka: {key} has {said} in it; braces are for {HOLDERS}"


@pytest.mark.parametrize(
    "value",
    ["sborka", "[", "[" * 100_000, "1" * 5000, "[]", '"x"', '{"sborka": "x"}', '{"sborka": null}', 5,
     ["sborka"], {"sborka": 5}],
    ids=lambda value: repr(value)[:20],
)  # fmt: skip
def test_it_is_json_or_a_table(value: object) -> None:
    assert problem(value) == EXAMPLE


@pytest.mark.parametrize("status", ["cancelled", "refunded", "failed"])
def test_a_status_that_has_an_event_cannot_be_named(status: str) -> None:
    assert wrong(status) == f"{status} has an event of its own, shop.order.{status}; leave it out"


@pytest.mark.parametrize("event", [str(type_) for type_ in EventType if type_.startswith("shop.")])
def test_an_event_that_is_there_cannot_be_named(event: str) -> None:
    assert wrong(event=event) == f"sborka: {event} is an event already; set its event to another name"


@pytest.mark.parametrize("status", ["new", "payment-overdue"])
def test_nor_can_a_status_that_would_be_called_like_one(status: str) -> None:
    event = f"shop.order.{status.replace('-', '_')}"

    assert wrong(status) == f"{status}: {event} is an event already; set its event to another name"


@pytest.mark.parametrize(
    "event",
    ["", "shop.", "order.packing", "service.test", "shop.Order", "shop.order packing", "shop.order-packing",
     "shop.x\n", "shop." + "x" * 61, "shop.заказ", 5, ["shop.x"]],
    ids=repr,
)  # fmt: skip
def test_an_event_has_a_name_of_a_certain_form(event: object) -> None:
    assert "is no name for an event; set its event to shop. and" in wrong(event=event)


def test_the_longest_name() -> None:
    name = "shop." + "x" * 60

    assert parse({"sborka": {"event": name, **WORDS}})["sborka"].event == name


@pytest.mark.parametrize("level", sorted(set(LEVELS.values())))
def test_a_level_is_one_of_the_known_ones(level: str) -> None:
    assert parse({"sborka": {"level": level, **WORDS}})["sborka"].level == level


@pytest.mark.parametrize("level", ["", "debug", "Info", 5, ["info"]])
def test_another_level_is_named(level: object) -> None:
    assert wrong(level=level) == (
        f"sborka: there is no level {str(level)!a}; there are critical, error, info, warning"
    )


@pytest.mark.parametrize(("key", "longest"), [("title", 100), ("message", 500)])
def test_a_text_is_a_line_that_can_be_read_and_sent(key: str, longest: int) -> None:
    missing: dict[str, Any] = {key: None}
    assert wrong(**missing) == f"sborka: {key} is missing; it is what people will read"
    for text in ("", " ", "a\nb", "a\x1b[2J", "a\u2028b", "a\ud800", "я" * (longest + 1), 5, ["a"]):
        bad: dict[str, Any] = {key: text}
        assert wrong(**bad) == f"sborka: {key} should be a line of 1 to {longest} characters"
    assert parse({"sborka": {**WORDS, key: "я" * longest}})
    assert parse({"sborka": {**WORDS, key: "№\u00a05 «👍🏽»"}})


def test_what_there_is_not_is_named() -> None:
    misspelt = "mesage"  # codespell:ignore mesage
    said = f"sborka: there is no '{misspelt}'; there are event, level, title, message"
    assert wrong(**{misspelt: "x"}) == said


@pytest.mark.parametrize("status", ["", " ", "a\nb", "x" * 101, "\ud800"])
def test_a_status_is_a_line_too(status: str) -> None:
    said = f"has a status that is no text of 1 to 100 characters: {status[:40]!a}"
    assert wrong(status) == said


def test_their_number_is_bounded() -> None:
    def table(count: int) -> dict[str, Any]:
        return {f"s{n}": WORDS for n in range(count)}

    assert len(parse(table(50))) == 50
    assert problem(table(51)) == "names 51 statuses; 50 at most"


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {},
    optional={
        "event": st.just("shop.order.x") | junk,
        "level": st.just("error") | junk,
        "title": st.just("Title {id}") | st.text() | junk,
        "message": st.just("Message {total}") | st.text() | junk,
    },
)


@given(junk | st.text() | st.dictionaries(st.text(max_size=9) | st.just("completed"), entries, max_size=3))
def test_whatever_is_written_it_is_read_or_refused_in_one_line(value: object) -> None:
    try:
        events = parse(value)
    except ValueError as error:
        said, events = str(error), {}
    else:
        said = ""
    assert "\n" not in said
    said.encode()  # raises if it cannot be printed
    for event in events.values():
        assert status_events.NAME.fullmatch(event.event)
        assert event.event not in set(EventType)
        assert event.level in LEVELS.values()
        assert f"{event.title}{event.message}".encode()


@pytest.mark.parametrize("status", ["wc-packing", " Packing ", "WC-PACKING"])
def test_a_status_may_be_written_as_the_database_has_it(status: str) -> None:
    (found,) = parse(json.dumps({status: {"title": "x", "message": "y"}})).items()
    assert found[0] == "packing"
    assert found[1].event == "shop.order.packing"


def test_a_status_with_an_event_of_its_own_has_one_however_it_is_written() -> None:
    with pytest.raises(ValueError, match=r"cancelled has an event of its own"):
        parse({"wc-Cancelled": {"title": "x", "message": "y"}})
