"""`setup`: the whole dialogue on a terminal, with a made-up shop and a made-up Telegram."""

import socket
import stat
import sys
import termios
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest

from shop_poller.config.loader import load
from shop_poller.simulator.keys import DEMO_KEY
from shop_poller.sinks.registry import parse_sink
from support.bot_api import (
    CHANNEL,
    HAS_WEBHOOK,
    OTHER_READER,
    PRIVATE,
    SUPERGROUP,
    TOKEN,
    TOO_MANY,
    FakeBotApi,
    bot_api,
    message,
)
from support.commands import environment, run_command, wait_until
from support.receivers import reserved_port
from support.simulated import RunningShop, shop_in_thread
from support.terminal import Terminal, terminal

KEY, SECRET = DEMO_KEY.consumer_key, DEMO_KEY.consumer_secret
CHILD = """
import functools, sys
from shop_poller.cli import main, setup
api = sys.argv.pop(1)
telegram = sys.argv.pop(1)
if telegram == "missing":
    sys.modules["apprise"] = None
if telegram == "sends":
    from apprise.plugins.telegram import NotifyTelegram
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

    def terminal(self, *args: str, apprise: str = "unused", **env: str) -> AbstractContextManager[Terminal]:
        """Start `setup`; where Apprise sends a message, it is told where before, which takes its time."""
        whole = {
            **environment(self.home, {}),
            "TERM": "dumb",
            "LANG": "ru_RU.UTF-8",
            "PYTHONUTF8": "1",
            **env,
        }
        command: Sequence[str] = [
            sys.executable,
            "-c",
            CHILD,
            self.telegram.url,
            apprise,
            "setup",
            *args,
        ]
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
    with desk.terminal(apprise="sends") as seen:
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


def test_every_wrong_answer_is_explained_and_asked_for_again(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE)]
    desk.telegram.refuse("getMe", TOO_MANY)
    wrong_secret = "cs_" + "0bad" * 10
    with desk.terminal(apprise="sends") as seen, reserved_port() as port:
        for wrong, complaint in (
            ("", "Пустой ответ"),
            ("honey.example", "Адрес должен начинаться с https://. Введите, например, https://honey.example"),
            ("http://honey.example", "По http ключи увидит любой"),
            (KEY, "Это ключ или токен, а не адрес"),
            (f"http://127.0.0.1:{port}", "Сайт не отвечает: нет соединения"),
        ):
            seen.answer("Адрес магазина", wrong)
            seen.expect(complaint)
        seen.answer("Адрес магазина", f"{desk.address}/shop/?utm_source=mail")
        seen.answer("[д/Н]: ", "что?")
        seen.expect("Ответьте «д» (да) или «н» (нет).")
        seen.answer("[д/Н]: ", "н")
        seen.answer("Ключ (ck_…):", SECRET)
        seen.expect("Значение начинается с cs_, а здесь нужно то, что начинается с ck_")
        seen.answer("Ключ (ck_…):", KEY)
        seen.answer("Секрет (cs_…):", SECRET * 2)
        seen.expect("Значение вставлено дважды")
        seen.answer("Секрет (cs_…):", wrong_secret)
        seen.expect("Магазин не принял ключи")
        seen.answer("Ключ (ck_…):", KEY)
        seen.answer("Секрет (cs_…):", SECRET)
        seen.expect("Магазин принял ключи")
        seen.answer("Присылать уведомления", "")
        seen.answer("Токен бота:", f"token {TOKEN}")
        seen.expect("В токене пробел")
        seen.answer("Токен бота:", TOKEN[:-4] + "0000")
        seen.expect("Telegram не знает такого токена")
        seen.answer("Присылать уведомления", "")
        seen.answer("Токен бота:", TOKEN)
        seen.expect("Telegram просит подождать")
        seen.answer("Проверить ещё раз? [Д/н]", "")
        seen.answer("Отправлять уведомления туда?", "")
        assert seen.end() == 0
    settings = load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink)
    assert settings.woocommerce_mcp_url == desk.address, "/shop is a page, not a folder"
    assert wrong_secret not in seen.shown


def test_several_chats_are_listed_and_one_is_chosen(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE, 1), message(SUPERGROUP, 2)]
    desk.telegram.refuse("getUpdates", OTHER_READER)
    with desk.terminal(apprise="sends") as seen:
        to_the_shop(desk, seen)
        seen.answer("Присылать уведомления", "")
        seen.answer("Токен бота:", TOKEN)
        seen.expect("Сообщения этого бота уже читает другая программа")
        seen.answer("Проверить ещё раз? [Д/н]", "")
        seen.expect("1. группа «Склад»\n  2. личный чат: Анна Иванова (@anna)\n  0. другой чат")
        seen.answer("Номер:", "3")
        seen.expect("Введите номер из списка, от 0 до 2.")
        seen.answer("Номер:", "0")
        seen.expect("Напишите боту из нужного чата и нажмите Enter")
        desk.telegram.updates.append({"update_id": 3, "channel_post": {"chat": CHANNEL}})
        desk.telegram.refuse("sendMessage", (403, "Forbidden: bot is not a member of the channel chat"))
        seen.type("")
        seen.expect("1. канал «Новости»")
        seen.answer("Номер:", "1")
        seen.expect("Сообщение не ушло")
        seen.expect("Forbidden")
        seen.answer("Проверить ещё раз?", "")
        seen.answer("Номер:", "2")
        seen.expect("Отправлено")
        assert seen.end() == 0
    assert [sent["chat_id"] for sent in desk.telegram.sent] == [SUPERGROUP["id"]]
    assert TOKEN.partition(":")[2] not in seen.shown
    assert f"/{SUPERGROUP['id']}#telegram" in desk.dotenv.read_text()


def test_a_bot_with_a_webhook_is_explained_and_telegram_may_be_left_out(desk: Desk) -> None:
    desk.telegram.refuse("getUpdates", HAS_WEBHOOK)
    with desk.terminal("--locale", "en") as seen:
        seen.answer("Address of the shop", desk.address)
        seen.answer("[y/N]: ", "")
        seen.answer("Consumer key (ck_…):", KEY)
        seen.answer("Consumer secret (cs_…):", SECRET)
        seen.answer("Send notifications to Telegram? [Y/n]", "y")
        seen.answer("Token of the bot:", TOKEN)
        seen.expect("This bot has a webhook: another program receives its messages. Make a new bot")
        seen.answer("Send notifications to Telegram? [Y/n]", "n")
        seen.expect("No receiver is set: notifications go to the terminal.")
        assert seen.end() == 0
    settings = load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink)
    assert (settings.shop_locale, [sink.name for sink in settings.sinks]) == ("en", ["console:"])


def test_what_is_in_the_file_is_kept(desk: Desk) -> None:
    before = (
        f"# mine\nSHOP_ID=honey\nWOOCOMMERCE_MCP_URL={desk.served.url}\nWOOCOMMERCE_CONSUMER_KEY={KEY}\n"
        f"WOOCOMMERCE_CONSUMER_SECRET={SECRET}\nSHOP_LOCALE=en\n"
        f'SHOP_NOTIFY_URLS="https://crm.example/a#crm apprise+tgram://1:{"x" * 35}/5?events=new#telegram"\n'
    )
    desk.dotenv.write_text(before)
    desk.dotenv.chmod(0o644)
    desk.telegram.updates = [message(PRIVATE)]
    with desk.terminal(apprise="sends", LANG="C") as seen:
        seen.answer("Address of the shop", "")
        seen.answer("Consumer key (ck_…):", "")
        seen.answer("Consumer secret (cs_…):", "")
        seen.expect("The shop accepts the keys")
        seen.answer("Send notifications to Telegram?", "")
        seen.answer("Token of the bot:", TOKEN)
        seen.answer("Found the private chat", "y")
        seen.expect(f"The old file is kept as {desk.dotenv}.bak")
        assert seen.end() == 0
    assert (Path(f"{desk.dotenv}.bak").read_text(), mode(Path(f"{desk.dotenv}.bak"))) == (before, 0o600)
    assert mode(desk.dotenv) == 0o600
    after = desk.dotenv.read_text().splitlines()
    assert after[:6] == before.splitlines()[:6]
    assert after[6:] == [
        f"SHOP_NOTIFY_URLS='https://crm.example/a#crm apprise+tgram://{TOKEN}/777?events=new#telegram'"
    ]
    assert "<b>Test</b>" in desk.telegram.sent[0]["text"]


CTRL_C, CTRL_D = b"\x03", b"\x04"


@pytest.mark.parametrize(
    ("at", "end"),
    [(at, CTRL_C) for at in ("address", "secret", "waiting", "chat")]
    + [("address", CTRL_D), ("secret", CTRL_D)],
)
def test_it_ends_politely_and_leaves_everything_as_it_was(desk: Desk, at: str, end: bytes) -> None:
    desk.dotenv.write_text("SHOP_ID=honey\n")
    before = desk.files()
    desk.telegram.updates = [message(PRIVATE)] if at == "chat" else []
    desk.telegram.hold = at == "waiting"
    with desk.terminal() as seen:
        if at == "address":
            seen.expect("Адрес магазина")
        elif at == "secret":
            seen.answer("Адрес магазина", desk.address)
            seen.answer("[д/Н]: ", "")
            seen.answer("Ключ (ck_…):", KEY)
            seen.expect("Секрет (cs_…):")
        else:
            to_the_shop(desk, seen)
            seen.answer("Присылать уведомления", "")
            seen.answer("Токен бота:", TOKEN)
            seen.expect("Жду сообщение" if at == "waiting" else "Отправлять уведомления туда?")
            if at == "waiting":
                wait_until(lambda: desk.telegram.count("getUpdates"), "a call")
        seen.press(end)
        seen.expect("Настройка прервана. Ничего не изменено.")
        assert seen.end() == (130 if end == CTRL_C else 2)
        assert "Traceback" not in seen.shown
        assert termios.tcgetattr(seen.descriptor)[3] & termios.ECHO
    assert desk.files() == before


def test_without_a_terminal_one_line_says_what_to_do(tmp_path: Path) -> None:
    done = run_command(["setup"], home=tmp_path, env={"SHOP_LOCALE": "en"})
    assert (done.code, done.stdout) == (2, "")
    assert done.stderr == (
        "shop-poller: setup: needs a terminal to ask questions; run it in one, or write .env by hand"
        " (README.md)\n"
    )
    russian = run_command(["setup", "--locale", "ru"], home=tmp_path, env={})
    assert russian.code == 2
    assert "нужен терминал" in russian.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"tmp"}


def test_a_file_that_cannot_be_read_is_said_before_any_question(desk: Desk) -> None:
    desk.dotenv.write_bytes(b"A=\xff")
    with desk.terminal() as seen:
        seen.expect(".env: прочитать нельзя: UTF-8. Исправьте или переименуйте этот файл.")
        assert seen.end() == 2
    assert desk.dotenv.read_bytes() == b"A=\xff"


def test_a_value_that_the_environment_overrides_and_what_is_wrong_in_the_file_are_named(desk: Desk) -> None:
    desk.dotenv.write_text("SHOP_LOCALE=de\nSHOP_ID=a b\n")
    with desk.terminal(SHOP_POLLING_INTERVAL="never", WOOCOMMERCE_CONSUMER_SECRET="cs_of_another") as seen:
        to_the_shop(desk, seen)
        seen.answer("Присылать уведомления", "н")
        seen.expect("WOOCOMMERCE_CONSUMER_SECRET: действует другое значение")
        seen.expect("Осталось исправить: SHOP_ID")
        seen.expect("Осталось исправить: SHOP_POLLING_INTERVAL")
        assert seen.end() == 0
    assert "cs_of_another" not in seen.shown


def test_the_shop_may_send_its_key(desk: Desk) -> None:
    with reserved_port() as port, desk.terminal(SHOP_HTTP_LISTEN=f"127.0.0.1:{port}") as seen:
        seen.answer("Адрес магазина", desk.address)
        seen.answer("[д/Н]: ", "д")
        seen.answer(f"прокси передаёт на http://127.0.0.1:{port}:", "http://poller.example")
        seen.expect("магазин передаёт ключи только по https")
        seen.answer("Внешний адрес https", "https://poller.example/")
        seen.expect("нажмите «Одобрить»:\n")
        link = urlsplit(seen.expect("\n"))
        assert link.path == "/wc-auth/v1/authorize"
        query = dict(parse_qsl(link.query))
        seen.expect("Жду ключи от магазина, до 10 мин")
        callback = query["callback_url"].replace("https://poller.example", f"http://127.0.0.1:{port}")
        body = {
            "key_id": 1,
            "user_id": query["user_id"],
            "consumer_key": KEY,
            "consumer_secret": SECRET,
            "key_permissions": "read",
        }
        wait_until(lambda: _posted(callback, body), "the listener")
        assert "Вернитесь в терминал" in httpx.get(callback, trust_env=False).text
        seen.expect("Магазин передал ключи.")
        seen.expect("Магазин принял ключи")
        seen.answer("Присылать уведомления", "нет")
        assert seen.end() == 0
    assert SECRET not in seen.shown
    assert load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink).has_consumer_key


def test_without_keys_from_the_shop_and_without_apprise_it_says_how_to_continue(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with desk.terminal(apprise="missing", SHOP_HTTP_LISTEN=f"127.0.0.1:{port}") as seen:
            seen.answer("Адрес магазина", desk.address)
            seen.answer("[д/Н]: ", "д")
            seen.answer("Внешний адрес https", "https://poller.example")
            seen.expect(f"Порт 127.0.0.1:{port} занят или закрыт")
            seen.answer("Ключ (ck_…):", KEY)
            seen.answer("Секрет (cs_…):", SECRET)
            seen.answer("Присылать уведомления", "")
            seen.expect(
                f"нужна библиотека Apprise. Установите её и запустите настройку ещё раз: {sys.executable}"
            )
            seen.expect(" -m pip install 'apprise>=1.9'")
            seen.expect("Настройки записаны")
            assert seen.end() == 0


def _posted(callback: str, body: dict[str, object]) -> bool:
    try:
        return httpx.post(callback, json=body, trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def test_nothing_secret_is_in_the_list_of_processes(desk: Desk) -> None:
    with desk.terminal() as seen:
        to_the_shop(desk, seen)
        seen.answer("Присылать уведомления", "")
        seen.answer("Токен бота:", TOKEN)
        seen.expect("Бот найден")
        for name in ("cmdline", "environ", "comm"):
            listed = Path(f"/proc/{seen.pid}/{name}").read_bytes().decode("utf-8", "replace")
            assert not any(secret in listed for secret in (KEY, SECRET, TOKEN))
        seen.press(CTRL_C)
        seen.end()
