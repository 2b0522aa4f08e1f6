"""Notifications for people: golden texts of every event, money, and what no field of a shop can do."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.messages import Locale, order_notification
from shop_poller.core.model import EventType, OrderEvent, OrderItem
from shop_poller.core.money import money, quantity
from shop_poller.core.rich_format import MAX_VALUE
from shop_poller.core.rich_message import RICH, RichMessage, rich_body
from shop_poller.locales import texts
from support.golden import check_golden
from support.notifications import NOW, examples, message_format, order, rich_format

GOLDEN = Path(__file__).parent.parent / "data" / "golden"
LOCALES: tuple[Locale, ...] = ("ru", "en")


def shown(rich: RichMessage) -> str:
    link = [f"[{rich.url_text}] {rich.url}"] if rich.url else []
    return "\n".join([rich.title, *(f"    {line}" for line in [*rich.lines, *link])])


@pytest.mark.parametrize("locale", LOCALES)
def test_every_event_reads_as_written_down(locale: Locale) -> None:
    written = rich_format(locale)
    text = "".join(f"# {name}\n{shown(written.message(n.wire()))}\n\n" for name, n in examples(locale))
    check_golden(GOLDEN / f"rich-{locale}.txt", text)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_event_has_a_title_and_every_text_is_used_in_both_languages(locale: Locale) -> None:
    ours, others = texts(locale), texts("en" if locale == "ru" else "ru")
    built_in = {str(event) for event in EventType}
    assert ours.titles.keys() == built_in
    assert (ours.facts.keys(), ours.words.keys()) == (others.facts.keys(), others.words.keys())


def test_with_several_shops_the_title_says_which() -> None:
    (_, new), *_ = examples("ru")
    assert rich_format("ru", names_shop=True).message(new.wire()).title.endswith(" · Анна · Пасека")


@pytest.mark.parametrize("name", [name for name, _ in examples("ru")])
def test_a_stored_message_is_read_back(name: str) -> None:
    written, notification = rich_format("ru"), dict(examples("ru"))[name]
    body = json.loads(rich_body(notification.wire(), written.message(notification.wire())))
    assert RichMessage.of_json(body.pop(RICH)) == written.message(notification.wire())
    assert body == json.loads(notification.body()), "the JSON is that of every sink"


def test_a_notification_of_an_earlier_version_lacks_facts_only() -> None:
    (_, new), *_ = examples("ru")
    old = {"total", "customer", "status", "number", "currency", "paid", "date_modified"}
    wire = new.wire() | {"data": {name: value for name, value in new.data.items() if name in old}}
    assert shown(rich_format("ru").message(wire)) == "Новый заказ №1002 · 5\u00a0990\u00a0RUB · Анна"


def test_items_that_are_left_out_are_counted() -> None:
    rich = RichMessage("t", items=("a", "b", "c"), more_items=4, more_text="and {count} more")
    assert rich.items_line == "a, b, c, and 4 more"
    assert rich.with_items(1).items_line == "a, and 6 more"
    assert rich.with_items(3) == rich.with_items(9) == rich
    assert rich.with_items(0).items_line == ""


@pytest.mark.parametrize(
    ("amount", "currency", "sign", "locale", "expected"),
    [
        ("5990.00", "RUB", "₽", "ru", "5 990 ₽"),
        ("1234.50", "USD", "$", "en", "$1,234.50"),
        ("1200", "JPY", "¥", "en", "¥1,200"),
        ("1200.00", "JPY", "￥", "ru", "1 200 ￥"),
        ("0.00", "RUB", "₽", "ru", "0 ₽"),
        ("0.5", "RUB", "₽", "ru", "0,50 ₽"),
        ("12.345", "KWD", "د.ك", "en", "د.ك 12.345"),
        ("1.5", "KWD", "KWD", "en", "KWD 1.500"),
        ("0.00012345", "BTC", "₿", "en", "₿0.00012345"),
        ("1234567.89", "EUR", "€", "ru", "1 234 567,89 €"),
        ("99", "POINTS", "points", "en", "points 99"),
        ("99", "", "", "en", "99"),
        ("", "RUB", "₽", "ru", "? ₽"),
        ("-10.00", "RUB", "₽", "ru", "-10 ₽"),
    ],
)
def test_money_is_written_as_people_write_it(
    amount: str, currency: str, sign: str, locale: str, expected: str
) -> None:
    assert money(amount, currency=currency, sign=sign, locale=locale).replace("\u00a0", " ") == expected


def test_a_quantity_may_be_a_part_or_unknown() -> None:
    assert [quantity(n, locale="ru") for n in ("2", "0.5", "1000.00", "")] == ["2", "0,5", "1\u00a0000", "?"]


ANY_TEXT = st.text(st.characters(), max_size=400)


@given(name=ANY_TEXT, customer=ANY_TEXT, way=ANY_TEXT)
def test_no_field_of_the_shop_adds_a_line_or_fills_a_placeholder(name: str, customer: str, way: str) -> None:
    changed = order(
        "ru",
        items=(OrderItem(f"{{total}}{name}", "1", ""),),
        customer=f"{{number}}{customer}",
        payment_method=f"{{customer}}{way}",
    )
    event = OrderEvent(EventType.NEW, changed, occurrence=1, paid=True)
    rich = rich_format("ru").message(order_notification(event, message_format("ru"), now=NOW).wire())
    assert rich.title.startswith("Новый заказ №1002 · ")
    assert "{number}" in rich.title, "what a buyer typed is no template"
    assert len(rich.lines) == 2
    for line in (rich.title, *rich.facts, *rich.items):
        assert len(line.splitlines()) == 1
        assert len(line) < 3 * MAX_VALUE


@pytest.mark.parametrize(
    "spoiled", [{"items": None}, {"buyer": None}, {"shop": None}, {"awaiting_hours": None}]
)
def test_a_missing_fact_is_left_out(spoiled: dict[str, Any]) -> None:
    (_, new), *_ = examples("ru")
    rich = rich_format("ru").message(replace(new, data={**new.data, **spoiled}).wire())
    assert rich.title == "Новый заказ №1002 · 5\u00a0990\u00a0₽ · Анна"
