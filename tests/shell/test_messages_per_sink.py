"""`locale=` and `style=` of a sink for people: what each sink is sent."""

import json
from pathlib import Path

import pytest

from shop_poller.config.loader import load
from shop_poller.config.settings import Settings
from shop_poller.core.messages import Locale, in_language
from shop_poller.core.model import EventType
from shop_poller.core.rich_message import RICH
from shop_poller.runtime.factory import make_message_format
from shop_poller.sinks.registry import parse_sink
from support.notifications import examples

ADDRESSES = """console:#plain console:?style=classic#classic console:?locale=en#en
    apprise+tgram://123456789:token/1?locale=en&style=classic&format=text#both
    https://crm.example/hook?locale=en&style=classic#crm"""


def settings(folder: Path, **more: str) -> Settings:
    environ = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
        "SHOP_NOTIFY_URLS": ADDRESSES,
        **more,
    }
    return load(environ=environ, dotenv=folder / ".env", needs_shop_keys=False, parse_sink=parse_sink)


def test_each_sink_for_people_has_its_language_and_style(tmp_path: Path) -> None:
    message_format = make_message_format(settings(tmp_path))
    new = dict(examples("ru"))["new"]
    bodies = {name: json.loads(message_format.render(name, new)) for name in message_format.renderers}
    titles = {name: (body["title"], body.get(RICH, {}).get("title")) for name, body in bodies.items()}

    assert titles == {
        "plain": ("Новый заказ", "Новый заказ №1002 · 5\xa0990\xa0₽ · Анна"),
        "classic": ("Новый заказ", None),
        "en": ("New order", "New order #1002 · ₽5,990 · Анна"),
        "both": ("New order", None),
        "crm": ("Новый заказ", None),
    }
    assert bodies["both"]["message"] == "Order #1002 for 5990.00 ₽"
    assert bodies["plain"]["data"] == bodies["both"]["data"]


def test_a_sink_for_programs_gets_the_json_and_keeps_its_parameters(tmp_path: Path) -> None:
    read = settings(tmp_path)
    new = dict(examples("ru"))["new"]

    assert make_message_format(read).render("crm", new) == new.body()
    (crm,) = [sink for sink in read.sinks if sink.name == "crm"]
    assert getattr(crm, "url", "") == "https://crm.example/hook?locale=en&style=classic"
    (chat,) = [sink for sink in read.sinks if sink.name == "both"]
    assert getattr(chat, "url", "") == "tgram://123456789:token/1?format=text"


def test_the_shops_own_language_is_no_change(tmp_path: Path) -> None:
    message_format = make_message_format(settings(tmp_path, SHOP_LOCALE="en"))
    new = dict(examples("en"))["new"]

    assert message_format.render("en", new) == message_format.render("plain", new)
    assert message_format.render("both", new) == new.body()


@pytest.mark.parametrize("name", [name for name, _ in examples("ru")])
@pytest.mark.parametrize(("here", "there"), [("ru", "en"), ("en", "ru")])
def test_every_event_can_be_told_in_the_other_language(name: str, here: Locale, there: Locale) -> None:
    told = dict(examples(here))[name]
    other = in_language(told, there)

    assert in_language(other, here) == told, "nothing is lost"
    assert other.data == told.data
    if name == "an event of the owner's":
        assert other == told
    else:
        assert (other.title, other.message) != (told.title, told.message)


def test_the_texts_are_those_of_a_shop_in_that_language() -> None:
    from_alerts = [
        name for name, one in examples("en") if one.event_type.startswith(("service.", "shop.sil"))
    ]
    for name in from_alerts:
        assert in_language(dict(examples("ru"))[name], "en").message == dict(examples("en"))[name].message


def test_an_order_event_keeps_its_money() -> None:
    refund = in_language(dict(examples("ru"))["partially refunded"], "en")
    assert refund.message == "1000.00 ₽ of order #1002 was refunded"
    unknown = in_language(dict(examples("ru"))["new, little is known"], "en")
    assert unknown.message == "Order #1002 for ? ₽"
    overdue = in_language(dict(examples("ru"))["payment overdue"], "en")
    assert overdue.event_type == EventType.PAYMENT_OVERDUE
    assert overdue.message == "Order #1002 for 5990.00 ₽ has been waiting for payment for 26 h"
