"""`setup`: the whole dialogue on a terminal, with a made-up shop and a made-up Telegram."""

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shop_poller.config.loader import load
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.sinks.registry import parse_sink
from support.bot_api import GROUP, HAS_WEBHOOK, PRIVATE, TOKEN, FakeBotApi, bot_api, member, message
from support.commands import COMMAND, environment, run_command
from support.simulated import RunningShop, shop_in_thread
from support.terminal import Terminal, terminal

KEY, SECRET = DEMO_KEY.consumer_key, DEMO_KEY.consumer_secret
CHILD = """
import functools, sys
from apprise.plugins.telegram import NotifyTelegram
from shop_poller.cli import main, setup
api = sys.argv.pop(1)
NotifyTelegram.notify_url = api + "/bot"
setup.set_up = functools.partial(setup.set_up, telegram_api=api)
sys.argv[0] = "shop-poller"
main.main()
"""
"""The command, with another server of the Bot API: only code can name one."""


@dataclass
class Desk:
    """An owner's desk: an empty directory, a shop and a Telegram."""

    home: Path
    served: RunningShop
    telegram: FakeBotApi

    @property
    def dotenv(self) -> Path:
        return self.home / ".env"

    @property
    def address(self) -> str:
        """The shop's, as in a browser."""
        return self.served.shop.url

    def terminal(self, *args: str, **env: str) -> AbstractContextManager[Terminal]:
        whole = {**environment(self.home, {}), "TERM": "dumb", "LANG": "ru_RU.UTF-8", "PYTHONUTF8": "1", **env}
        command: Sequence[str] = [sys.executable, "-c", CHILD, self.telegram.url, "setup", *args]
        return terminal(command, home=self.home, env=whole)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.home.iterdir() if path.is_file()}


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with shop_in_thread() as served, bot_api() as telegram:
        yield Desk(tmp_path, served, telegram)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def to_the_shop(desk: Desk, seen: Terminal) -> None:
    """Answer everything about the shop."""
    seen.answer("Адрес магазина", desk.address)
    seen.answer("Открыт ли этот компьютер", "")
    seen.answer("Ключ (ck_…):", KEY)
    seen.answer("Секрет (cs_…):", SECRET)
    seen.expect("Магазин принял ключи")


def test_from_an_empty_directory_to_a_message_in_the_chat(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE)]
    desk.telegram.empty = 2
    with desk.terminal() as seen:
        seen.expect("Настройка shop-poller")
        to_the_shop(desk, seen)
        seen.answer("Присылать уведомления в Telegram? [Д/н]", "да")
        seen.expect("@BotFather")
        seen.answer("Токен бота:", TOKEN)
        seen.expect("Бот найден: @honey_orders_bot")
        seen.expect("https://t.me/honey_orders_bot")
        seen.expect("Жду сообщение..")
        seen.answer("Найден личный чат: Анна Иванова (@anna). Отправлять уведомления туда? [Д/н]", "")
        seen.expect("Отправлено. Посмотрите в Telegram.")
        seen.expect(f"Настройки записаны: {desk.dotenv}")
        assert seen.end() == 0
    (sent,) = desk.telegram.sent
    assert sent["chat_id"] == 777
    assert sent["parse_mode"] == "HTML"
    assert sent["text"].startswith("<b>Проверка связи</b>")
    assert "Ничего делать не нужно" in sent["text"]

    assert {path.name for path in desk.home.iterdir()} == {".env", "tmp"}
    assert mode(desk.dotenv) == 0o600
    settings = load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink)
    assert [sink.name for sink in settings.sinks] == ["telegram"]
    assert settings.shop_locale == "ru"
    for secret in (KEY, SECRET, TOKEN, TOKEN.partition(":")[2], KEY[3:20], SECRET[3:20]):
        assert secret not in seen.shown
    assert "{" not in seen.shown, "no log"
    checked = run_command(["check"], home=desk.home, env={})
    assert (checked.code, checked.complaints) == (0, [])
