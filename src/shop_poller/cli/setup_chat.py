"""The step of `setup` about Telegram: a bot, a chat, and a test message."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec

import anyio

from shop_poller.cli.check import notify_test
from shop_poller.cli.check_result import CheckResult
from shop_poller.cli.setup_answers import bot_token
from shop_poller.cli.setup_dialogue import Dialogue
from shop_poller.cli.setup_telegram import Bot, BotApi, BotError, BotTrouble, Chat, chats_in
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.translatable import joined
from shop_poller.sinks.registry import INSTALL_APPRISE, parse_sink

NAME = "telegram"
"""The name of the sink: it stays the same with another token or chat."""
ROUNDS, ROUND_S = 12, 5
"""How often, and for how many seconds each, it waits for a message before it asks whether to continue."""
TEXTS = {
    BotTrouble.UNREACHABLE: "bot_unreachable",
    BotTrouble.TOKEN: "bot_token",
    BotTrouble.WEBHOOK: "bot_webhook",
    BotTrouble.OTHER_READER: "bot_reader",
    BotTrouble.BUSY: "bot_busy",
    BotTrouble.ODD: "bot_odd",
}
CHOOSE_AGAIN = 0


class ChatStep:
    """Asks for a bot and a chat until a message arrives there, or the owner declines.

    Args:
        dialogue: asks.
        values: of the shop and the language, by the names of the settings; for the test message.
        api: the server of the Bot API.
    """

    def __init__(self, dialogue: Dialogue, values: Mapping[str, str], *, api: str) -> None:
        self._dialogue = dialogue
        self._values = values
        self._api = api

    def run(self) -> str | None:
        """Return the address of the sink; None if the owner declines, or Apprise is not installed."""
        ask = self._dialogue
        ask.section("step_chat")
        while ask.agrees("ask_telegram"):
            if find_spec("apprise") is None:
                ask.say("no_apprise", command=INSTALL_APPRISE)
                return None
            for text in ("bot_1", "bot_2", "bot_3", "hidden"):
                ask.say(text)
            address = self._set_up(ask.ask("ask_token", bot_token, hidden=True))
            if address is not None:
                return address
        return None

    def _set_up(self, token: str) -> str | None:
        """Return the address of a sink that works with this bot; None if there is none."""
        ask, bot_api = self._dialogue, BotApi(token, api=self._api)
        bot = self._ask_bot(bot_api)
        if bot is None:
            return None
        ask.say("bot_found", name=bot.username)
        ask.say("write_private", name=bot.username)
        ask.say("write_group", name=bot.username)
        while True:
            chat = self._ask_chat(bot_api)
            if chat is None:
                return None
            address = f"apprise+tgram://{token}/{chat.id}#{NAME}"
            ask.say("test_trying")
            sent = anyio.run(self._send_test, address)
            if sent.ok:
                ask.say("test_ok")
                return address
            ask.say("test_failed", detail=sent.text)
            if not ask.agrees("ask_again"):
                return None

    def _ask_chat(self, bot_api: BotApi) -> Chat | None:
        """Wait for messages, and let the owner choose among the chats they came from."""
        ask = self._dialogue
        while True:
            chats = self._wait_for_chats(bot_api)
            if chats is None:
                return None
            lines = [self._described(chat) for chat in chats]
            if len(chats) == 1:
                number = int(ask.agrees("chat_one", chat=lines[0]))
            else:
                ask.say("chat_many")
                number = ask.choose(lines)
            if number != CHOOSE_AGAIN:
                return chats[number - 1]
            ask.pause("chat_write")

    def _wait_for_chats(self, bot_api: BotApi) -> list[Chat] | None:
        """Return at least one chat; None if the owner no longer waits."""
        ask = self._dialogue
        while True:
            with ask.progress("chat_wait") as show:
                found = anyio.run(_wait, bot_api, show)
            if isinstance(found, BotError):
                self._explain(found)
                if found.trouble in {BotTrouble.TOKEN, BotTrouble.WEBHOOK}:  # it will not pass
                    return None
            elif found:
                return found
            else:
                ask.say("chat_none")
            if not ask.agrees("ask_again"):
                return None

    def _ask_bot(self, bot_api: BotApi) -> Bot | None:
        """Return the bot; None if its token is wrong, or Telegram cannot be asked."""
        ask = self._dialogue
        while True:
            ask.say("token_trying")
            try:
                return anyio.run(bot_api.me)
            except BotError as error:
                self._explain(error)
                if error.trouble is BotTrouble.TOKEN or not ask.agrees("ask_again"):
                    return None

    def _explain(self, error: BotError) -> None:
        self._dialogue.say(TEXTS[error.trouble], detail=error.detail)

    def _described(self, chat: Chat) -> str:
        kind = "group" if chat.kind == "supergroup" else chat.kind
        return self._dialogue.text(kind, title=chat.title or str(chat.id))

    async def _send_test(self, address: str) -> CheckResult:
        try:
            settings = Settings.of({**self._values, "shop_notify_urls": address}, parse_sink=parse_sink)
            (result,) = [result async for result in notify_test(settings)]
        except SettingsError as error:
            return CheckResult("sink", NAME, joined("; ", [*error.problems]), ok=False)
        return result


async def _wait(bot_api: BotApi, show_progress: Callable[[], None]) -> list[Chat] | BotError:
    """Ask for messages until there is one, for a minute at most."""
    for _ in range(ROUNDS):
        try:
            chats = chats_in(await bot_api.updates(wait_s=ROUND_S))
        except BotError as error:
            return error
        if chats:
            return chats
        show_progress()
    return []
