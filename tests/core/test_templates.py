"""Messages by templates: which one is used, which values it gets, and what no field of a shop can do."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.core.messages import Locale, order_notification
from shop_poller.core.model import BuyerField, EventType, Notification, OrderEvent, OrderItem
from shop_poller.core.rich_format import MAX_VALUE
from shop_poller.core.rich_message import RichMessage
from shop_poller.core.template_errors import BadTemplateError
from shop_poller.core.template_filters import MAX_OUTPUT
from shop_poller.core.template_sandbox import TemplateSet
from shop_poller.core.templates import DATA_FIELDS, TEXTS, VALUES, MessageTemplates, candidates, values
from support.notifications import NOW, examples, message_format, order, rich_format

LOCALES: tuple[Locale, ...] = ("ru", "en")
NO_TEXTS = {"items", "buyer", "shop", "orders", "failed", "cancelled", "refunds", "previous"}
EVERY_TEXT = "\n".join(f"{name}={{{{ {name} }}}}" for name in TEXTS)
EVERYTHING = (
    EVERY_TEXT
    + """
{% for item in items %}
{{ item.name }} {{ item.quantity }} {{ item.total }} {{ item.line }}
{% endfor %}
{{ more_items }} {{ 'paid' if paid }} {{ 'refunded' if fully_refunded }}
"""
    + "\n".join(f"{{{{ data.buyer.{name} }}}}" for name in BuyerField)
    + "{{ data.shop.id }}{{ data.shop.name }}{{ data.shop.address }}"
    + "".join(f"{{{{ data.{fact} }}}}" for fact in DATA_FIELDS if fact not in NO_TEXTS)
)


def templates(**sources: str) -> MessageTemplates:
    found = TemplateSet(sources, values=VALUES, data_fields=DATA_FIELDS)
    assert found.problems == []
    return MessageTemplates(frozenset(sources), found)


def by(source: str, wire: dict[str, Any], locale: Locale = "ru", **options: bool) -> RichMessage:
    return templates(t=source).message("t", rich_format(locale), wire, **options)


def example(name: str, locale: Locale = "ru") -> dict[str, Any]:
    return dict(examples(locale))[name].wire()


def test_the_most_specific_template_is_used() -> None:
    order_of_choice = [
        "shop.order.new.tg.ru",
        "shop.order.new.tg",
        "shop.order.new.ru",
        "shop.order.new",
        "default.tg.ru",
        "default.tg",
        "default.ru",
        "default",
    ]
    assert list(candidates("shop.order.new", "tg", "ru")) == order_of_choice
    for n, name in enumerate(order_of_choice):
        found = MessageTemplates(frozenset(order_of_choice[n:]), TemplateSet({}, values=(), data_fields=()))
        assert found.name("shop.order.new", "tg", "ru") == name
    assert (
        MessageTemplates(frozenset(), TemplateSet({}, values=(), data_fields=())).name("e", "s", "ru") is None
    )


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("name", [name for name, _ in examples("ru")])
def test_every_value_is_there_for_every_event(name: str, locale: Locale) -> None:
    wire = dict(examples(locale))[name].wire()
    assert by(EVERYTHING, wire, locale).title == f"number={wire['data'].get('number') or wire['source_id']}"
    assert set(wire["data"]) <= set(DATA_FIELDS)
    found = values(rich_format(locale), wire)
    assert set(found) == set(VALUES)
    assert all(isinstance(found[text], str) for text in TEXTS)


@pytest.mark.parametrize("name", [name for name, _ in examples("ru")])
def test_a_notification_of_an_earlier_version_lacks_values_only(name: str) -> None:
    wire = example(name)
    for fact in wire["data"]:
        data = {key: value for key, value in wire["data"].items() if key != fact}
        assert by(EVERYTHING, wire | {"data": data}).title
    assert by(EVERYTHING, wire | {"data": {}}).title


def test_the_values_read_as_people_write_them() -> None:
    rich = by(
        "{{ total }} {{ items_line }}\n{{ created_at }}\n{{ data.date_modified|date('dd.MM.yy') }}\n"
        "{{ items[0].total }} {{ items[0].quantity }} {{ data['items'][0].total|money }}",
        example("new"),
    )
    assert rich.title.replace("\u00a0", " ") == "5 990 ₽ Мёд липовый ×2, Прополис ×1"
    assert [line.replace("\u00a0", " ") for line in rich.facts] == [
        "25 ноября, 15:00",
        "25.11.26",
        "4 990 ₽ 2 4 990 ₽",
    ]
    refund = by(
        "{{ amount }} {{ refunded_total }} {{ data.amount }}", example("partially refunded again", "en"), "en"
    )
    assert refund.title == "$100 $200 100.00"


def test_the_first_line_is_the_title_and_the_link_stays() -> None:
    wire = example("new")
    rich = by("\n\n{% if paid %}\n  Paid {{ number }}  \n{% endif %}\n\n  one\n\n\ntwo\n", wire)
    assert rich == RichMessage(
        title="Paid 1002", facts=("one", "two"), url=wire["data"]["admin_url"], url_text="Открыть заказ"
    )


def test_the_text_of_a_template_has_no_control_characters_either() -> None:
    rich = by("\u2028title\x1b[31m\u202e\none\x85two\x0bthree", example("new"))
    assert (rich.title, rich.facts) == ("title [31m", ("one two three",))


def test_what_renders_nothing_is_an_error() -> None:
    with pytest.raises(BadTemplateError, match="renders nothing"):
        by(" \n{% if false %}x{% endif %}\n", example("new"))


def test_a_long_message_is_cut_and_as_an_example_refused() -> None:
    source = "title\n{% for n in range(60) %}\n" + "x" * 99 + "\n{% endfor %}\n"
    rich = by(source, example("new"))
    assert len(rich.title) + sum(map(len, rich.facts)) <= MAX_OUTPUT
    assert len(rich.facts) == (MAX_OUTPUT - len("title")) // 99
    with pytest.raises(BadTemplateError, match="renders more than 4,000 characters"):
        by(source, example("new"), is_example=True)
    one_line = by("x" * 9000, example("new"))
    assert (len(one_line.title), one_line.facts) == (MAX_VALUE, ())


def test_what_may_reach_a_log_has_no_personal_data() -> None:
    source = "{{ customer }} {{ phone }}{% for _, v in data.buyer|items %}{{ v }}{% endfor %}"
    wire = example("new, with personal data")
    assert "+7 900" in by(source, wire).title
    assert by(source, wire, hides_buyer=True).title == "Анна"
    assert "buyer" in wire["data"], "the JSON is unchanged"


ANY_TEXT = st.text(st.characters(), max_size=300)
TRICKY = st.sampled_from(
    [
        "{{ 7*7 }}",
        "{% raw %}",
        "{#",
        "\u2028forged",
        "\r\nforged",
        "\x85x",
        "</b><a href='x'>",
        "[a](http://b)",
        "\\",
        "`",
    ]
)


@given(name=ANY_TEXT | TRICKY, customer=ANY_TEXT | TRICKY, note=ANY_TEXT | TRICKY)
def test_no_field_of_the_shop_adds_a_line_or_is_a_template(name: str, customer: str, note: str) -> None:
    changed = order(
        "ru",
        items=(OrderItem(name, "1", "5.00"),),
        customer=f"{{{{ number }}}}{customer}",
        buyer={BuyerField.NOTE: note},
    )
    wire = order_notification(
        OrderEvent(EventType.NEW, changed, occurrence=1, paid=True), message_format("ru"), now=NOW
    ).wire()
    rich = by(
        "title {{ customer }}\n1 {{ items_line }}\n2 {{ items[0].name }}{{ data['items'][0].name }}\n"
        "3 {{ note }}{{ data.buyer.note }}\n4 {{ data.customer|upper ~ note }}",
        wire,
    )
    assert rich.title.startswith("title {{ number }}")
    assert [fact[0] for fact in rich.facts] == ["1", "2", "3", "4"]
    for line in (rich.title, *rich.facts):
        assert len(line.splitlines()) == 1


def test_a_notification_is_read_back_from_its_json() -> None:
    for _, notification in examples("en"):
        wire = json.loads(notification.body())
        read = Notification.of_wire(wire, key=notification.key)
        assert read.wire() == notification.wire()
        assert read.key == notification.key
    with pytest.raises(KeyError):
        Notification.of_wire({}, key="1")
