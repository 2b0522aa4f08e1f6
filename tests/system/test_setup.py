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


def to_the_shop(desk: Desk, screen: Terminal) -> None:
    """Answer everything about the shop."""
    screen.answer("Адрес магазина", desk.address)
    screen.answer("Открыт ли этот компьютер", "")
    screen.answer("Ключ (ck_…):", KEY)
    screen.answer("Секрет (cs_…):", SECRET)
    screen.expect("Магазин принял ключи")


def test_from_an_empty_directory_to_a_message_in_the_chat(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE)]
    desk.telegram.empty = 2
    with desk.terminal(apprise="sends") as screen:
        screen.expect("Настройка shop-poller")
        to_the_shop(desk, screen)
        screen.answer("Присылать уведомления в Telegram? [Д/н]", "да")
        screen.expect("@BotFather")
        screen.answer("Токен бота:", TOKEN)
        screen.expect("Бот найден: @honey_orders_bot")
        screen.expect("https://t.me/honey_orders_bot")
        screen.expect("Жду сообщение..")
        screen.answer("Найден личный чат: Анна Иванова (@anna). Отправлять уведомления туда? [Д/н]", "")
        screen.expect("Отправлено. Посмотрите в Telegram.")
        screen.expect(f"Настройки записаны: {desk.dotenv}")
        assert screen.end() == 0
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
        assert secret not in screen.shown
    assert "{" not in screen.shown, "no log"
    checked = run_command(["check"], home=desk.home, env={})
    assert (checked.code, checked.complaints) == (0, [])


def test_every_wrong_answer_is_explained_and_asked_for_again(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE)]
    desk.telegram.refuse("getMe", TOO_MANY)
    wrong_secret = "cs_" + "0bad" * 10
    with desk.terminal(apprise="sends") as screen, reserved_port() as port:
        for wrong, complaint in (
            ("", "Пустой ответ"),
            ("honey.example", "Адрес должен начинаться с https://. Введите, например, https://honey.example"),
            ("http://honey.example", "По http ключи увидит любой"),
            (KEY, "Это ключ или токен, а не адрес"),
            (f"http://127.0.0.1:{port}", "Сайт не отвечает: нет соединения"),
        ):
            screen.answer("Адрес магазина", wrong)
            screen.expect(complaint)
        screen.answer("Адрес магазина", f"{desk.address}/shop/?utm_source=mail")
        screen.answer("[д/Н]: ", "что?")
        screen.expect("Ответьте «д» (да) или «н» (нет).")
        screen.answer("[д/Н]: ", "н")
        screen.answer("Ключ (ck_…):", SECRET)
        screen.expect("Значение начинается с cs_, а здесь нужно то, что начинается с ck_")
        screen.answer("Ключ (ck_…):", KEY)
        screen.answer("Секрет (cs_…):", SECRET * 2)
        screen.expect("Значение вставлено дважды")
        screen.answer("Секрет (cs_…):", wrong_secret)
        screen.expect("Магазин не принял ключи")
        screen.answer("Ключ (ck_…):", KEY)
        screen.answer("Секрет (cs_…):", SECRET)
        screen.expect("Магазин принял ключи")
        screen.answer("Присылать уведомления", "")
        screen.answer("Токен бота:", f"token {TOKEN}")
        screen.expect("В токене пробел")
        screen.answer("Токен бота:", TOKEN[:-4] + "0000")
        screen.expect("Telegram не знает такого токена")
        screen.answer("Присылать уведомления", "")
        screen.answer("Токен бота:", TOKEN)
        screen.expect("Telegram просит подождать")
        screen.answer("Проверить ещё раз? [Д/н]", "")
        screen.answer("Отправлять уведомления туда?", "")
        assert screen.end() == 0
    settings = load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink)
    assert settings.woocommerce_mcp_url == desk.address, "/shop is a page, not a folder"
    assert wrong_secret not in screen.shown


def test_several_chats_are_listed_and_one_is_chosen(desk: Desk) -> None:
    desk.telegram.updates = [message(PRIVATE, 1), message(SUPERGROUP, 2)]
    desk.telegram.refuse("getUpdates", OTHER_READER)
    with desk.terminal(apprise="sends") as screen:
        to_the_shop(desk, screen)
        screen.answer("Присылать уведомления", "")
        screen.answer("Токен бота:", TOKEN)
        screen.expect("Сообщения этого бота уже читает другая программа")
        screen.answer("Проверить ещё раз? [Д/н]", "")
        screen.expect("1. группа «Склад»\n  2. личный чат: Анна Иванова (@anna)\n  0. другой чат")
        screen.answer("Номер:", "3")
        screen.expect("Введите номер из списка, от 0 до 2.")
        screen.answer("Номер:", "0")
        screen.expect("Напишите боту из нужного чата и нажмите Enter")
        desk.telegram.updates.append({"update_id": 3, "channel_post": {"chat": CHANNEL}})
        desk.telegram.refuse("sendMessage", (403, "Forbidden: bot is not a member of the channel chat"))
        screen.type("")
        screen.expect("1. канал «Новости»")
        screen.answer("Номер:", "1")
        screen.expect("Сообщение не ушло")
        screen.expect("Forbidden")
        screen.answer("Проверить ещё раз?", "")
        screen.answer("Номер:", "2")
        screen.expect("Отправлено")
        assert screen.end() == 0
    assert [sent["chat_id"] for sent in desk.telegram.sent] == [SUPERGROUP["id"]]
    assert TOKEN.partition(":")[2] not in screen.shown
    assert f"/{SUPERGROUP['id']}#telegram" in desk.dotenv.read_text()


def test_a_bot_with_a_webhook_is_explained_and_telegram_may_be_left_out(desk: Desk) -> None:
    desk.telegram.refuse("getUpdates", HAS_WEBHOOK)
    with desk.terminal("--locale", "en") as screen:
        screen.answer("Address of the shop", desk.address)
        screen.answer("[y/N]: ", "")
        screen.answer("Consumer key (ck_…):", KEY)
        screen.answer("Consumer secret (cs_…):", SECRET)
        screen.answer("Send notifications to Telegram? [Y/n]", "y")
        screen.answer("Token of the bot:", TOKEN)
        screen.expect("This bot has a webhook: another program receives its messages. Make a new bot")
        screen.answer("Send notifications to Telegram? [Y/n]", "n")
        screen.expect("No receiver is set: notifications go to the terminal.")
        assert screen.end() == 0
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
    with desk.terminal(apprise="sends", LANG="C") as screen:
        screen.answer("Address of the shop", "")
        screen.answer("Consumer key (ck_…):", "")
        screen.answer("Consumer secret (cs_…):", "")
        screen.expect("The shop accepts the keys")
        screen.answer("Send notifications to Telegram?", "")
        screen.answer("Token of the bot:", TOKEN)
        screen.answer("Found the private chat", "y")
        screen.expect(f"The old file is kept as {desk.dotenv}.bak")
        assert screen.end() == 0
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
    with desk.terminal() as screen:
        if at == "address":
            screen.expect("Адрес магазина")
        elif at == "secret":
            screen.answer("Адрес магазина", desk.address)
            screen.answer("[д/Н]: ", "")
            screen.answer("Ключ (ck_…):", KEY)
            screen.expect("Секрет (cs_…):")
        else:
            to_the_shop(desk, screen)
            screen.answer("Присылать уведомления", "")
            screen.answer("Токен бота:", TOKEN)
            screen.expect("Жду сообщение" if at == "waiting" else "Отправлять уведомления туда?")
            if at == "waiting":
                wait_until(lambda: desk.telegram.count("getUpdates"), "a call")
        screen.press(end)
        screen.expect("Настройка прервана. Ничего не изменено.")
        assert screen.end() == (130 if end == CTRL_C else 2)
        assert "Traceback" not in screen.shown
        assert termios.tcgetattr(screen.descriptor)[3] & termios.ECHO
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
    with desk.terminal() as screen:
        screen.expect(".env: прочитать нельзя: UTF-8. Исправьте или переименуйте этот файл.")
        assert screen.end() == 2
    assert desk.dotenv.read_bytes() == b"A=\xff"


def test_a_value_that_the_environment_overrides_and_what_is_wrong_in_the_file_are_named(desk: Desk) -> None:
    desk.dotenv.write_text("SHOP_LOCALE=de\nSHOP_ID=a b\n")
    with desk.terminal(SHOP_POLLING_INTERVAL="never", WOOCOMMERCE_CONSUMER_SECRET="cs_of_another") as screen:
        to_the_shop(desk, screen)
        screen.answer("Присылать уведомления", "н")
        screen.expect("WOOCOMMERCE_CONSUMER_SECRET: действует другое значение")
        screen.expect("Осталось исправить: SHOP_ID")
        screen.expect("Осталось исправить: SHOP_POLLING_INTERVAL")
        assert screen.end() == 0
    assert "cs_of_another" not in screen.shown


def test_the_shop_may_send_its_key(desk: Desk) -> None:
    with reserved_port() as port, desk.terminal(SHOP_HTTP_LISTEN=f"127.0.0.1:{port}") as screen:
        screen.answer("Адрес магазина", desk.address)
        screen.answer("[д/Н]: ", "д")
        screen.answer(f"прокси передаёт на http://127.0.0.1:{port}:", "http://poller.example")
        screen.expect("магазин передаёт ключи только по https")
        screen.answer("Внешний адрес https", "https://poller.example/")
        screen.expect("нажмите «Одобрить»:\n")
        link = urlsplit(screen.expect("\n"))
        assert link.path == "/wc-auth/v1/authorize"
        query = dict(parse_qsl(link.query))
        screen.expect("Жду ключи от магазина, до 10 мин")
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
        screen.expect("Магазин передал ключи.")
        screen.expect("Магазин принял ключи")
        screen.answer("Присылать уведомления", "нет")
        assert screen.end() == 0
    assert SECRET not in screen.shown
    assert load(environ={}, dotenv=desk.dotenv, parse_sink=parse_sink).has_consumer_key


def test_without_keys_from_the_shop_and_without_apprise_it_says_how_to_continue(desk: Desk) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with desk.terminal(apprise="missing", SHOP_HTTP_LISTEN=f"127.0.0.1:{port}") as screen:
            screen.answer("Адрес магазина", desk.address)
            screen.answer("[д/Н]: ", "д")
            screen.answer("Внешний адрес https", "https://poller.example")
            screen.expect(f"Порт 127.0.0.1:{port} занят или закрыт")
            screen.answer("Ключ (ck_…):", KEY)
            screen.answer("Секрет (cs_…):", SECRET)
            screen.answer("Присылать уведомления", "")
            screen.expect(
                f"нужна библиотека Apprise. Установите её и запустите настройку ещё раз: {sys.executable}"
            )
            screen.expect(" -m pip install 'apprise>=1.9'")
            screen.expect("Настройки записаны")
            assert screen.end() == 0


def _posted(callback: str, body: dict[str, object]) -> bool:
    try:
        return httpx.post(callback, json=body, trust_env=False).status_code == 200
    except httpx.ConnectError:
        return False


def test_nothing_secret_is_in_the_list_of_processes(desk: Desk) -> None:
    with desk.terminal() as screen:
        to_the_shop(desk, screen)
        screen.answer("Присылать уведомления", "")
        screen.answer("Токен бота:", TOKEN)
        screen.expect("Бот найден")
        for name in ("cmdline", "environ", "comm"):
            listed = Path(f"/proc/{screen.pid}/{name}").read_bytes().decode("utf-8", "replace")
            assert not any(secret in listed for secret in (KEY, SECRET, TOKEN))
        screen.press(CTRL_C)
        screen.end()
