"""What each channel is sent for every message, written down; and what no text of a buyer can do there."""

import re
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import anyio
import pytest

from shop_poller.core.messages import Locale
from shop_poller.core.model import Delivery
from shop_poller.sinks.console import render
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services
from support.channels import CHANNELS, MORE_CHANNELS, as_text, deliveries, recorded, visible
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
@pytest.mark.parametrize("channel", ["discord", "pushover", "teams", "rocket.chat", "webex"])
async def test_items_are_left_out_before_the_number_the_sum_and_the_link(channel: str) -> None:
    url = (CHANNELS | MORE_CHANNELS)[channel]
    (post,) = await posts(url, dict(deliveries("ru"))["new, 60 items"])
    text = "\n".join(all_texts(post))
    assert "Новый заказ №1002 · 5\u00a0990\u00a0₽ · Анна" in text
    assert re.search(r"×\d+, и ещё \d+\s*\n", text), "the list ends with a whole item"
    assert "СБП · доставка: СДЭК" in text
    assert "wp-admin/post.php?post=1002&action=edit" in text
