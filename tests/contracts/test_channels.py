"""What each channel is sent for every message, written down; and what no text of a buyer can do there."""

import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from shop_poller.core.messages import Locale
from shop_poller.core.model import Delivery, OrderItem
from shop_poller.core.plain_text import one_line
from shop_poller.sinks.apprise import literal
from shop_poller.sinks.apprise.literal import INVISIBLE, LOOKALIKES, without_mentions
from shop_poller.sinks.console import render
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services
from support.channels import (
    CHANNELS,
    MORE_CHANNELS,
    as_text,
    deliveries,
    new_order,
    only_title,
    recorded,
    visible,
)
from support.golden import check_golden
from support.smtp_server import smtp_server

load_services()

GOLDEN = Path(__file__).parent.parent / "data/golden/channels"
LOCALES: tuple[Locale, ...] = ("ru", "en")
LIMITS = {"telegram": 4096, "discord": 2000, "mattermost": 4000, "pushover": 1024, "teams": 1000}
IN_TIME_S = 20.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def send(url: str, delivery: Delivery) -> None:
    sink = parse_sink(f"apprise+{url}").open(signing_keys=(), connections=1)
    with anyio.fail_after(IN_TIME_S):
        await sink.send(delivery)


async def posts(url: str, delivery: Delivery) -> list[dict[str, Any]]:
    with recorded() as posted:
        await send(url, delivery)
    return posted


def all_texts(value: Any) -> list[str]:
    match value:
        case dict():
            return [text for one in value.values() for text in all_texts(one)]
        case list():
            return [text for one in value for text in all_texts(one)]
    return [value] if isinstance(value, str) else []


@pytest.mark.anyio
@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("channel", CHANNELS)
async def test_every_message_is_sent_as_written_down(channel: str, locale: Locale) -> None:
    written = ""
    for name, delivery in deliveries(locale):
        (post,) = await posts(CHANNELS[channel], delivery)
        written += f"# {name}\n{as_text(post)}\n"
        longest = max(map(len, all_texts(post)))
        assert longest <= LIMITS.get(channel, longest), name
    check_golden(GOLDEN / f"{channel}-{locale}.txt", written)


@pytest.mark.parametrize("locale", LOCALES)
def test_every_line_of_the_console_is_as_written_down(locale: Locale) -> None:
    written = "".join(f"# {name}\n{render(delivery)[9:]}\n\n" for name, delivery in deliveries(locale))
    check_golden(GOLDEN / f"console-{locale}.txt", written)


@pytest.mark.anyio
@pytest.mark.parametrize("locale", LOCALES)
async def test_every_mail_is_sent_as_written_down(locale: Locale) -> None:
    written = ""
    async with smtp_server() as server:
        url = f"mailto://shop:secret@127.0.0.1:{server.port}?from=shop@shop.example&to=boss@shop.example"
        for name, delivery in deliveries(locale):
            await send(url, delivery)
            written += f"# {name}\n{mail_text(server.mails.pop().message)}\n"
    check_golden(GOLDEN / f"mail-{locale}.txt", written)


def mail_text(message: EmailMessage) -> str:
    found = [f"{name}: {message[name]}" for name in ("Subject", "From", "To")]
    for part in message.walk():
        if not part.is_multipart():
            text = visible(part.get_content().replace("\r\n", "\n"))
            found += [f"{part.get_content_type()}:", *(f"    {line}" for line in text.splitlines())]
    return "\n".join(found) + "\n"


@pytest.mark.anyio
@pytest.mark.parametrize("channel", CHANNELS)
async def test_no_line_breaks_within_a_sum(channel: str) -> None:
    (post,) = await posts(CHANNELS[channel], dict(deliveries("ru"))["new"])
    assert any(re.search("5[\u00a0\u202f]990[\u00a0\u202f]₽", text) for text in all_texts(post))


@pytest.mark.anyio
@pytest.mark.parametrize("channel", ["discord", "pushover", "teams", "rocket.chat", "webex"])
async def test_items_are_left_out_before_the_number_the_sum_and_the_link(channel: str) -> None:
    url = (CHANNELS | MORE_CHANNELS)[channel]
    (post,) = await posts(url, dict(deliveries("ru"))["new, 60 items"])
    text = "\n".join(all_texts(post))
    assert "Новый заказ №1002 · 5\u00a0990\u00a0₽ · Анна" in text
    assert re.search(r"×\d+, и ещё \d+\s*\n", text), "the list ends with a whole item"
    assert "СБП · доставка: СДЭК" in text
    assert "wp-admin/post.php?post=1002&action=edit" in text


NAMES = [
    "@everyone",
    "@here",
    "x@everyone",
    "<!channel>",
    "<!everyone|all>",
    "<@U123>",
    "<@&123>",
    "<users/all>",
    "@**all**",
    "@durov",
    "@room",
    "[x](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "[x]: http://evil.example",
    "<http://evil.example|pay>",
    "||spoiler||",
    "~~gone~~ __u__ **b** _i_ ***x***",
    "`code` ```code```",
    "# heading",
    "1. list",
    "> quote",
    "</b><a href='http://evil.example'>",
    "&lt;b&gt; &#64;everyone",
    ":tada:",
    "{{DATE(2026-11-25T00:00:00Z)}}",
    "a\\*b\\",
]
MENTION = r"(?<![\w.+-])@\w|@(?:everyone|here|all|channel|room)\b|@\*\*"
TOKEN = r"(?<!\\)<(?:[!#]\w|@&?\w|users/)"
PINGS = re.compile(f"{MENTION}|{TOKEN}", re.IGNORECASE)
ADDRESS = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
ALL_CHATS = {
    name: url
    for name, url in (CHANNELS | MORE_CHANNELS).items()
    if name not in {"ntfy", "pushover", "markdown"}
}


@pytest.mark.anyio
@pytest.mark.parametrize("channel", ALL_CHATS)
async def test_no_name_notifies_anybody(channel: str) -> None:
    for name in NAMES:
        (post,) = await posts(ALL_CHATS[channel], named(name))
        post.pop("topic", None)  # of Zulip, where it is the title of a conversation
        for text in all_texts(post):
            assert not PINGS.search(ADDRESS.sub("", text)), (name, text)


def named(name: str) -> Delivery:
    """A new order in which every text of the shop is this one."""
    return new_order(
        "en", items=(OrderItem(name, "1", "1"),), customer=name, payment_method=name, shipping_method=""
    )


MARKDOWN: dict[str, literal.Markdown] = {
    "common": literal.COMMON,
    "discord": literal.DISCORD,
    "discord, embed": literal.DISCORD_EMBED,
    "mattermost": literal.MATTERMOST,
    "rocket.chat": literal.ROCKET_CHAT,
    "teams": literal.TEAMS,
    "zulip": literal.ZULIP,
}
READER = MarkdownIt("commonmark", {"html": True}).enable("strikethrough")
ORIGINALS = str.maketrans({sign[0]: mark for mark, sign in LOOKALIKES.items()})
PARTS = st.sampled_from(
    [*NAMES, "*", "_", "`", "~", "\\", "[", "]", "(", ")", "<", "&", "|", " ", "Anna", "7"]
)


@pytest.mark.parametrize("name", MARKDOWN)
@given(parts=st.lists(PARTS | st.text(max_size=5), max_size=8))
def test_a_reader_of_markdown_sees_what_was_typed(name: str, parts: list[str]) -> None:
    markdown, typed = MARKDOWN[name], one_line("".join(parts), 500)
    written = markdown.literal(typed)
    assert not re.search(r"(?<![\w.+-])@(?!\u200b)", written)
    for token in READER.parse(f"{written}\n"):
        assert token.type in {"paragraph_open", "inline", "paragraph_close"}, written
        if token.type == "inline":
            children = token.children or []
            assert {child.type for child in children} <= {"text", "text_special"}, written
            shown_text = "".join(child.content for child in children).replace(INVISIBLE, "")
            if markdown.marks is LOOKALIKES:
                shown_text, typed = (text.translate(ORIGINALS) for text in (shown_text, typed))
            assert shown_text == typed.replace(INVISIBLE, "").strip(), written


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("anna@example.org", "anna@example.org"),
        ("a.b+c_d@mail.example.org, @anna", "a.b+c_d@mail.example.org, @\u200banna"),
        ("a@b", "a@\u200bb"),
        ("x@everyone@mail.example", "x@\u200beveryone@mail.example"),
        ("@@all", "@\u200b@\u200ball"),
    ],
)
def test_an_address_stays_as_it_is(text: str, expected: str) -> None:
    assert without_mentions(text) == expected


@pytest.mark.anyio
@pytest.mark.parametrize(("channel", "limit"), [("ntfy", 200), ("slack", 250), ("zulip", 60), ("teams", 250)])
async def test_a_title_that_is_too_long_ends_with_dots_and_is_whole_above_the_items(
    channel: str, limit: int
) -> None:
    (post,) = await posts((CHANNELS | MORE_CHANNELS)[channel], new_order("ru", customer="Анна " * 60))
    titles = [text for text in all_texts(post) if text.startswith("Новый заказ №1002 · 5\u00a0990\u00a0₽")]
    cut, whole = titles
    assert len(cut) <= limit
    assert cut.endswith("…")
    assert whole.splitlines()[0].rstrip().endswith("Анна")


@pytest.mark.anyio
@pytest.mark.parametrize("channel", CHANNELS)
async def test_a_message_that_has_only_a_title_is_sent(channel: str) -> None:
    """Apprise refuses a message without a body."""
    (post,) = await posts(CHANNELS[channel], only_title("Работает <снова>"))
    texts = [text for text in all_texts(post) if "Работает" in text]
    assert texts
    assert all("снова" in text for text in texts)
