"""The pages about Telegram and other chats: what the screen shows, and addresses that Apprise accepts."""

import re
from pathlib import Path

import pytest

from shop_poller.core.messages import Locale
from shop_poller.locales import setup_texts
from shop_poller.sinks.apprise.schemes import SCHEMES
from shop_poller.sinks.registry import parse_sink
from support.apprise_services import load_services

load_services()

DOCS = Path(__file__).parents[2] / "docs"
PAGES: dict[Locale, Path] = {"en": DOCS / "telegram.md", "ru": DOCS / "ru/telegram.md"}
ADDRESS = re.compile(r"^\|[^|]+\| `([a-z]+://[^`]+)` \|", re.MULTILINE)
FILLED = {
    "T…/B…/TOKEN": "T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ",
    "mmosts://HOST/TOKEN": "mmosts://chat.example.org/3ccdd113474722377935511fc85d3dd4",
    "WEBHOOK_ID/WEBHOOK_TOKEN": "4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js",
    "HOST/WORKFLOW_ID/SIGNATURE": "prod-01.westus.logic.azure.com/643e69f83c8944/iXvpXRlTgW_SVkOKd",
}


@pytest.mark.parametrize("locale", PAGES)
def test_the_screen_shows_what_the_page_says(locale: Locale) -> None:
    page = PAGES[locale].read_text(encoding="utf-8")
    shown = re.findall(r"^\| (`[^|]+`) \| (?!`)", page, re.MULTILINE)
    texts = "\n".join(setup_texts(locale).values())
    named = [words for cell in shown for words in re.findall(r"`([^`]+)`", cell)]
    assert len(named) > 10
    assert [words for words in named if words not in texts] == []


def test_both_languages_name_the_same_addresses_and_commands() -> None:
    english, russian = (page.read_text(encoding="utf-8") for page in PAGES.values())
    assert ADDRESS.findall(english) == ADDRESS.findall(russian)
    commands = [re.findall(r"^    (\S.+)$", page, re.MULTILINE) for page in (english, russian)]
    assert commands[0] == commands[1]
    assert [re.findall("^#+", page, re.MULTILINE) for page in (english, russian)] == [
        re.findall("^#+", english, re.MULTILINE)
    ] * 2


@pytest.mark.parametrize("written", ADDRESS.findall(PAGES["en"].read_text(encoding="utf-8")))
def test_apprise_accepts_each_address(written: str) -> None:
    address = written
    for placeholder, value in FILLED.items():
        address = address.replace(placeholder, value)
    sink = parse_sink(address)
    assert sink.name == written.rpartition("#")[2]
    assert sink == parse_sink(f"apprise+{address}")
    assert sink.open(signing_keys=[], connections=1).name == sink.name


def test_there_is_no_service_of_which_the_page_says_so() -> None:
    """When Apprise has one, the page should name it."""
    assert not {"vk", "vkontakte", "max", "oneme"} & SCHEMES
