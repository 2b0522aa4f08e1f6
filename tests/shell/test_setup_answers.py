"""Answers to the questions of `setup`: what is accepted, and what is said of the rest."""

import re
import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shop_poller.cli import setup_chat
from shop_poller.cli.setup_answers import (
    WrongAnswerError,
    api_addresses,
    bot_token,
    callback_address,
    consumer_key,
    consumer_secret,
    is_yes,
    number_in,
    shop_address,
    site_of,
    with_sink,
)
from shop_poller.cli.setup_telegram import BotTrouble, Chat, chats_in
from shop_poller.locales import setup_texts
from support.bot_api import CHANNEL, GROUP, PRIVATE, SUPERGROUP, TOKEN, member, message

RU, EN = setup_texts("ru"), setup_texts("en")
KEY, SECRET = "ck_" + "5eed" * 10, "cs_" + "ca11" * 10


def said(check: Any, text: str, **more: Any) -> str:
    """The complaint about an answer, in English."""
    with pytest.raises(WrongAnswerError) as caught:
        check(text, **more)
    return EN[caught.value.text].format(**caught.value.values)


def test_both_languages_have_the_same_texts_and_placeholders() -> None:
    assert list(RU) == list(EN)
    for key in RU:
        fields = [
            sorted(name for _, name, _, _ in string.Formatter().parse(texts[key]) if name)
            for texts in (RU, EN)
        ]
        assert fields[0] == fields[1], key
        assert "\n" not in RU[key] + EN[key], key


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("https://shop.example", "https://shop.example"),
        (" https://shop.example/ ", "https://shop.example"),
        ("HTTPS://Shop.example/wp-admin/admin.php?page=wc", "https://Shop.example"),
        ("https://shop.example/wp-login.php?redirect_to=x", "https://shop.example"),
        ("https://shop.example/shop/?utm_source=mail#top", "https://shop.example/shop"),
        ("https://shop.example/wp-json/woocommerce/mcp", "https://shop.example/wp-json/woocommerce/mcp"),
        (
            "https://shop.example/?rest_route=/wc/v3/orders&a=b",
            "https://shop.example/?rest_route=/wc/v3/orders",
        ),
        ("https://магазин.рф", "https://xn--80aairftm.xn--p1ai"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
    ],
)
def test_an_address_is_taken_as_a_browser_shows_it(text: str, address: str) -> None:
    assert shop_address(text) == address


@pytest.mark.parametrize(
    ("text", "begins"),
    [
        ("", "The answer is empty."),
        ("shop.example", "The address must begin with https://. Enter for example https://shop.example"),
        ("ftp://shop.example/x", "The address must begin with https://. Enter for example https://shop.example"),
        ("http://honey.example/a", "Over http, everyone on the way can read the keys."),
        ("https://me:hunter2@shop.example", "The address contains a user or a password."),
        ("https://shop example", "The address contains a blank"),
        ("https://shop.example/\u200b", "The address contains a blank"),
        ("https://", "This does not look like"),
        ("https://[::1", "This does not look like"),
        ("https://a..b", "This does not look like"),
        (f"https://shop.example/{'a' * 600}", "This does not look like"),
        (KEY, "This is a key or a token"),
        (TOKEN, "This is a key or a token"),
    ],
)  # fmt: skip
def test_a_wrong_address(text: str, begins: str) -> None:
    assert said(shop_address, text).startswith(begins)


def test_the_same_address_with_https_is_proposed() -> None:
    assert said(shop_address, "http://honey.example/a").endswith("for example https://honey.example")


@pytest.mark.parametrize(
    "secret", ["hunter2Xy9!kkWq01", KEY[3:], "me:hunter2@shop.example", "x.aB3dE5fG7hI9kL1m"]
)
def test_what_may_be_a_secret_is_not_repeated(secret: str) -> None:
    for text in (secret, f"http://{secret}", f"http://me:{secret}@shop.example"):
        complaint = said(shop_address, text)
        assert secret not in complaint
        assert "hunter2" not in complaint


def test_where_the_api_may_be() -> None:
    root = ["https://shop.example", "https://shop.example/?rest_route=/"]
    assert api_addresses("https://shop.example") == root
    assert api_addresses("https://shop.example/blog") == ["https://shop.example/blog/wp-json", *root]
    for whole in (
        "https://shop.example/?rest_route=/",
        "https://a.b/wp-json",
        "https://a.b/api/wc/v3/orders",
    ):
        assert api_addresses(whole) == [whole]
    assert site_of("https://shop.example/blog/wp-json/wc/v3") == "https://shop.example/blog"
    assert site_of("https://shop.example/?rest_route=/") == "https://shop.example"


@pytest.mark.parametrize(
    ("check", "text", "begins"),
    [
        (consumer_key, "", "The answer is empty."),
        (consumer_key, SECRET, "The value begins with cs_, but this one has to begin with ck_."),
        (consumer_secret, KEY, "The value begins with ck_, but this one has to begin with cs_."),
        (consumer_secret, SECRET * 2, "The value was pasted twice."),
        (consumer_key, KEY + SECRET, "Key and secret were pasted together."),
        (consumer_key, f"{KEY} {SECRET}", "It contains a blank"),
        (consumer_key, f"{KEY[:20]} {KEY[20:]}", "It contains a blank"),
        (consumer_key, "ck_12", "The value has to begin with ck_; received 5 characters."),
        (consumer_key, "hunter2hunter3", "The value has to begin with ck_; received 14 characters."),
        (consumer_secret, "cs_" + "й" * 20, "The value has to begin with cs_"),
        (bot_token, "", "The answer is empty."),
        (bot_token, f"token: {TOKEN}", "The token contains a blank"),
        (bot_token, TOKEN * 2, "The value was pasted twice."),
        (bot_token, TOKEN.partition(":")[2], "This is no token."),
        (bot_token, "@honey_orders_bot", "This is no token."),
        (bot_token, KEY, "This is no token."),
        (callback_address, "http://poller.example", "Enter an address like https://"),
        (callback_address, "https://localhost", "Enter an address like https://"),
        (callback_address, "https://127.0.0.1/", "Enter an address like https://"),
        (callback_address, "https://poller.example:9108", "WordPress sends requests only to the ports"),
        (callback_address, "poller.example", "The address must begin with https://"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_wrong_value(check: Any, text: str, begins: str) -> None:
    assert said(check, text).startswith(begins)
    assert check is callback_address or not text or text not in said(check, text)


def test_right_values() -> None:
    assert consumer_key(f"  {KEY}\t") == KEY
    assert consumer_secret(SECRET) == SECRET
    assert bot_token(f" {TOKEN} ") == TOKEN
    assert callback_address("https://poller.example:8080/hooks/") == "https://poller.example:8080/hooks"


def test_yes_and_no_in_both_languages() -> None:
    assert all(is_yes(word, default=False) for word in ("y", "YES", "д", "Да ", " да"))
    assert not any(is_yes(word, default=True) for word in ("n", "No", "н", "НЕТ"))
    assert (is_yes("", default=True), is_yes(" ", default=False)) == (True, False)
    assert said(is_yes, "hm", default=True).startswith("Answer y (yes)")


def test_a_number_of_a_list() -> None:
    assert [number_in(text, 3) for text in ("0", " 3 ")] == [0, 3]
    for text in ("4", "-1", "", "one", "1.0", "٣", "9999999"):
        assert said(number_in, text, most=3).startswith("Enter a number from the list, 0 to 3.")


SINK = f"apprise+tgram://{TOKEN}/777#telegram"
OLD = "apprise+tgram://1:a/5"


@pytest.mark.parametrize(
    ("present", "made"),
    [
        ({}, SINK),
        ({"shop_notify_urls": "console:  https://h/x#crm"}, f"console: https://h/x#crm {SINK}"),
        ({"shop_notify_urls": f"{OLD}#telegram console:"}, f"console: {SINK}"),
        (
            {"shop_notify_urls": f"{OLD}?events=new&silent=yes#telegram"},
            SINK.replace("#", "?events=new&silent=yes#"),
        ),
        ({"shop_notify_urls": f"{SINK.partition('#')[0]} {OLD}#boss"}, f"{OLD}#boss {SINK}"),
        ({"redis_url": "redis://h:6379/0"}, f"redis://h:6379/0?channel=notification:events {SINK}"),
        ({"redis_url": "redis://h:6379/0", "shop_notify_urls": "console:"}, f"console: {SINK}"),
    ],
)
def test_a_sink_is_added_to_those_that_are_there(present: dict[str, str], made: str) -> None:
    assert with_sink(present, SINK) == made
    assert with_sink({"shop_notify_urls": made}, SINK) == made


def test_every_trouble_with_telegram_has_a_text() -> None:
    assert set(setup_chat.TEXTS) == set(BotTrouble)
    assert set(setup_chat.TEXTS.values()) <= set(EN)


def test_chats_of_every_kind_the_latest_first() -> None:
    updates = [
        message(PRIVATE, 1),
        member(GROUP, "member", 2),
        {"update_id": 3, "channel_post": {"chat": CHANNEL, "text": "hi"}},
        message(PRIVATE, 4),
    ]
    assert chats_in(updates) == [
        Chat(777, "private", "Анна Иванова (@anna)"),
        Chat(CHANNEL["id"], "channel", "Новости"),
        Chat(-4001, "group", "Заказы"),
    ]


def test_a_chat_that_the_bot_has_left_is_none() -> None:
    assert chats_in([message(GROUP), member(GROUP, "kicked", 2)]) == []
    assert chats_in([member(GROUP, "left", 1), member(GROUP, "member", 2)]) == [
        Chat(-4001, "group", "Заказы")
    ]


def test_a_group_that_became_a_supergroup_has_the_new_id() -> None:
    moved = [
        message(GROUP, 1, migrate_to_chat_id=SUPERGROUP["id"]),
        message(SUPERGROUP, 2, migrate_from_chat_id=-4001),
    ]
    assert [chat.id for chat in chats_in([message(GROUP, 0), *moved])] == [SUPERGROUP["id"]]


def test_a_title_is_one_short_harmless_line() -> None:
    (chat,) = chats_in([message({"id": 1, "type": "group", "title": "a\n\x1b[2J\u202e" + "б" * 500})])
    assert re.fullmatch(r"a \[2J б{40,60}", chat.title)
    assert len(chats_in([message({"id": n, "type": "private"}, n) for n in range(1, 500)])) == 50


NAMES = st.sampled_from(["chat", "id", "type", "title", "message"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["group", "private", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
    max_leaves=8,
)


@given(st.lists(JSON, max_size=3))
def test_what_is_no_update_is_skipped(updates: list[Any]) -> None:
    assert all(isinstance(chat, Chat) for chat in chats_in(updates))
