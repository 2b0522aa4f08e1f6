"""One message for several notifications: counts with plural forms, sums, lines, and its id."""

import json
from dataclasses import replace
from typing import Any

import pytest

from shop_poller.core.grouping import GROUP, MOST_LINES, GroupFormat
from shop_poller.core.messages import Locale
from shop_poller.core.model import Delivery, EventType, Notification
from shop_poller.core.money import plural_form
from shop_poller.core.rich_message import RICH, RichMessage, rich_body
from shop_poller.locales import texts
from support.deliveries import T0
from support.notifications import SHOP, examples, rich_format

LOCALES: tuple[Locale, ...] = ("ru", "en")
NBSP = "\u00a0"


def group_format(locale: Locale = "ru", **changes: Any) -> GroupFormat:
    return replace(GroupFormat(locale, texts(locale)), **changes)


def row(told: Notification, seq: int = 1, *, locale: Locale = "ru", plain: bool = False) -> Delivery:
    return Delivery(
        seq=seq,
        shop_id=SHOP,
        sink="boss",
        key=str(seq),
        event_id=f"{told.event_id[:-4]}{seq:04}",
        event_type=told.event_type,
        body=told.body() if plain else rich_body(told.wire(), rich_format(locale).message(told.wire())),
        attempts=seq % 3,
        created_at=T0,
        head_since=T0,
    )


def new(seq: int, total: str = "5990.00", currency: str = "RUB", sign: str = "₽") -> Delivery:
    told = dict(examples("ru"))["new"]
    data = {**told.data, "total": total, "currency": currency, "currency_sign": sign, "number": str(seq)}
    return row(replace(told, data=data), seq)


def event(name: str, seq: int, locale: Locale = "ru") -> Delivery:
    return row(dict(examples(locale))[name], seq, locale=locale)


def rich(of: Delivery) -> RichMessage:
    return RichMessage.of_json(json.loads(of.body)[RICH])


def test_a_burst_of_orders() -> None:
    group = group_format().compose([new(seq) for seq in range(1, 13)])
    message = rich(group)
    assert message.title == f"12 новых заказов · 71{NBSP}880{NBSP}₽"
    assert message.lines[0] == f"Новый заказ №1 · 5{NBSP}990{NBSP}₽ · Анна"
    assert len(message.lines) == 12


def test_each_type_is_counted_and_the_rest_together() -> None:
    names = [
        "silence",
        "cancelled",
        "new",
        "partially refunded",
        "refunded",
        "failed",
        "payment overdue",
        "test",
    ]
    expected_titles: dict[Locale, str] = {
        "ru": "1 новый заказ · 5 990 ₽ · 1 отмена · 1 полный возврат · 5 990 ₽"
        " · 1 частичный возврат · 1 000 ₽ · 1 неудачная оплата · 1 заказ давно ждёт оплаты · 2 уведомления",
        "en": "1 new order · $1,234.50 · 1 cancellation · 1 full refund · $1,234.50 · 1 partial refund · $100"
        " · 1 failed payment · 1 overdue payment · 2 notifications",
    }
    for locale, expected in expected_titles.items():
        rows = [event(name, seq, locale) for seq, name in enumerate(names, 1)]
        title = rich(group_format(locale).compose(rows)).title
        assert title.replace(NBSP, " ") == expected


def test_sums_are_one_per_currency_and_none_if_an_amount_is_unknown() -> None:
    two = [new(1, "10.50", "EUR", "€"), new(2, "1.00"), new(3, "0.50", "EUR", "€")]
    assert rich(group_format().compose(two)).title == f"3 новых заказа · 11{NBSP}€ + 1{NBSP}₽"
    assert rich(group_format().compose([*two, new(4, "")])).title == "4 новых заказа"


def test_more_lines_than_people_read_are_counted() -> None:
    exactly = rich(group_format().compose([new(seq) for seq in range(MOST_LINES)]))
    assert len(exactly.lines) == MOST_LINES
    assert exactly.lines[-1].startswith("Новый заказ")
    many = rich(group_format().compose([new(seq) for seq in range(100)]))
    assert (len(many.lines), many.lines[-1]) == (MOST_LINES + 1, "и ещё 80")
    assert many.with_items(3).lines[2:] == [many.lines[2], "и ещё 97"], "where there is little room"
    assert many.with_items(0).lines == ["и ещё 100"]
    assert rich(group_format("en").compose([new(seq) for seq in range(100)])).lines[-1] == "and 80 more"


def test_the_shop_is_named_if_there_are_several() -> None:
    title = rich(group_format(shop="Пасека").compose([event("cancelled", 1), event("failed", 2)])).title
    assert title == "1 отмена · 1 неудачная оплата · Пасека"


def test_the_body_is_that_of_a_notification_and_names_its_events() -> None:
    rows = [new(1), new(2), event("failed", 3)]
    group = group_format().compose(rows)
    body = json.loads(group.body)
    assert body.keys() == {*json.loads(rows[0].body), "grouped"}
    assert body["grouped"] == [one.event_id for one in rows]
    assert (body["event_type"], body["level"], body["source_id"]) == (GROUP, "error", SHOP)
    assert (group.rows, group.seq, group.attempts, group.sink) == (tuple(rows), 1, 2, "boss")
    assert body["event_id"] == group.event_id
    assert group_format().compose(rows).event_id == group.event_id, "a repeat is recognised"
    assert group_format().compose(rows[:2]).event_id != group.event_id


def test_levels_that_the_owner_renamed() -> None:
    told = replace(dict(examples("ru"))["failed"], level="bad")
    group = group_format(levels={"error": "bad"}).compose([new(1), row(told, 2)])
    assert json.loads(group.body)["level"] == "bad"
    own = group_format().compose([row(replace(told, level="of an earlier map"), 2)])
    assert json.loads(own.body)["level"] == "of an earlier map"


@pytest.mark.parametrize(
    "body",
    ["", "[]", "{}", '{"data": []}', '{"data": {"total": "NaN?"}, "rich": 7, "title": null}', "null"],
)
def test_a_body_that_cannot_be_read_is_still_a_line(body: str) -> None:
    group = group_format().compose([replace(new(1), body=body), new(2)])
    assert rich(group).title == "2 новых заказа"
    assert rich(group).items[0] == "shop.order.new 1"


def test_a_body_of_an_earlier_version_has_no_rich_message() -> None:
    told = dict(examples("ru"))["new"]
    assert rich(group_format().compose([row(told, plain=True)])).items == (f"{told.title}: {told.message}",)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_count_has_a_text(locale: Locale) -> None:
    forms = {plural_form(count, locale=locale) for count in range(1, 200)}
    assert texts(locale).counts.keys() == texts("en" if locale == "ru" else "ru").counts.keys()
    for name, found in texts(locale).counts.items():
        assert name in {"other", "digest_orders", *EventType}
        assert found.keys() == forms
        assert all("{count}" in text for text in found.values())


def test_russian_plurals() -> None:
    titles = [rich(group_format().compose([new(1, "")] * count)).title for count in (1, 2, 5, 11, 21, 22)]
    assert titles == [
        "1 новый заказ", "2 новых заказа", "5 новых заказов",
        "11 новых заказов", "21 новый заказ", "22 новых заказа",
    ]  # fmt: skip
