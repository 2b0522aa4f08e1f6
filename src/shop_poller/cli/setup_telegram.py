"""The calls of Telegram's Bot API that `setup` needs: who the bot is, and which chats wrote to it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Literal

import anyio

from shop_poller.core.errors import ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.core.plain_text import one_line
from shop_poller.http.body import read_bounded
from shop_poller.http.client import HttpClient, transport_errors

API = "https://api.telegram.org"
PEER = "api.telegram.org"
TIMEOUT_S = 10.0
MAX_BODY = 4 * 2**20
MOST_UPDATES = 100
"""The most updates in one answer; more are behind them."""
MAX_PAGES = 10
MAX_DETAIL = 200
MAX_TITLE, MAX_NAME = 60, 40
MOST_CHATS = 50

Kind = Literal["private", "group", "supergroup", "channel"]
KINDS: frozenset[str] = frozenset({"private", "group", "supergroup", "channel"})


class BotTrouble(Enum):
    """Why a call failed, for the text to show."""

    UNREACHABLE = auto()
    TOKEN = auto()  # no bot has this token
    WEBHOOK = auto()  # updates go to another program's webhook
    OTHER_READER = auto()  # another program reads the updates
    BUSY = auto()  # too many requests
    ODD = auto()  # any other answer


class BotError(Exception):
    """A call failed.

    Attributes:
        trouble: why.
        detail: one line from Telegram or the network, without the token.
    """

    def __init__(self, trouble: BotTrouble, detail: str) -> None:
        super().__init__(detail)
        self.trouble = trouble
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Bot:
    """A bot, by the name that starts with @ in Telegram."""

    username: str


@dataclass(frozen=True, slots=True)
class Chat:
    """A chat that the bot can write to.

    Attributes:
        id: Telegram's; negative for groups and channels.
        kind: Telegram's.
        title: for people; written by others.
    """

    id: int
    kind: Kind
    title: str


class BotApi:
    """Calls the Bot API as one bot.

    Args:
        token: of the bot, in the form that setup_answers.bot_token returns.
        api: the server; only tests name another one.
        timeout_s: for one call, besides the time that Telegram is asked to wait.
    """

    def __init__(self, token: str, *, api: str = API, timeout_s: float = TIMEOUT_S) -> None:
        self._base = f"{api}/bot{token}"
        self._timeout_s = timeout_s
        self._masker = Masker([token, token.partition(":")[2]])

    async def me(self) -> Bot:
        """Return the bot; this shows that its token is right.

        Raises:
            BotError: it is not, or Telegram cannot be asked.
        """
        result = await self._call("getMe", {})
        name = result.get("username") if isinstance(result, dict) else None
        if not isinstance(name, str):
            raise BotError(BotTrouble.ODD, "getMe: no name")
        return Bot(one_line(name, MAX_NAME))

    async def updates(self, *, wait_s: int) -> list[Any]:
        """Return what was written to the bot within the last 24 hours; Telegram keeps it.

        Args:
            wait_s: how long Telegram waits for the first message, if there is none.

        Raises:
            BotError: see `me`.
        """
        found: list[Any] = []
        parameters: dict[str, int] = {"timeout": wait_s, "limit": MOST_UPDATES}
        for _ in range(MAX_PAGES):
            page = await self._call("getUpdates", parameters, wait_s=wait_s)
            if not isinstance(page, list):
                raise BotError(BotTrouble.ODD, "getUpdates: no list")
            found += page
            last = page[-1].get("update_id") if page and isinstance(page[-1], dict) else None
            # The offset makes Telegram forget what is before it, so it is set only to see what is behind.
            if len(page) < MOST_UPDATES or not isinstance(last, int):
                break
            parameters = {"timeout": 0, "limit": MOST_UPDATES, "offset": last + 1}
        return found

    async def _call(self, method: str, parameters: Mapping[str, object], *, wait_s: int = 0) -> Any:
        timeout_s = self._timeout_s + wait_s
        client = HttpClient(self._base, timeout_s=timeout_s)
        try:
            with transport_errors(PEER, self._masker.mask), anyio.fail_after(timeout_s):
                async with client.stream(
                    "POST",
                    url=f"{self._base}/{method}",
                    headers={"Content-Type": "application/json"},
                    content=json.dumps(parameters),
                ) as response:
                    status = response.status_code
                    body = await read_bounded(response, limit=MAX_BODY, peer=PEER)
        except ShopPollerError as error:
            raise BotError(BotTrouble.UNREACHABLE, str(error)) from None
        finally:
            await client.aclose()
        return self._result(method, status, body)

    def _result(self, method: str, status: int, body: bytes) -> Any:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            answer = None
        if isinstance(answer, dict) and answer.get("ok") is True:
            return answer.get("result")
        said = answer.get("description") if isinstance(answer, dict) else None
        text = said if isinstance(said, str) else ""
        detail = one_line(self._masker.mask(f"{method}: HTTP {status} {text}"), MAX_DETAIL)
        raise BotError(_trouble(status, text, is_telegram=said is not None), detail)


def _trouble(status: int, text: str, *, is_telegram: bool) -> BotTrouble:
    if not is_telegram:
        return BotTrouble.ODD
    if status in {401, 404}:  # 404: the form is wrong, or the token was revoked
        return BotTrouble.TOKEN
    if status == 409:
        return BotTrouble.WEBHOOK if "webhook" in text.lower() else BotTrouble.OTHER_READER
    return BotTrouble.BUSY if status == 429 else BotTrouble.ODD


def chats_in(updates: Iterable[Any]) -> list[Chat]:
    """Return the chats in answers of getUpdates that the bot is still in, the latest first.

    What is not an update as documented is skipped.
    """
    found: dict[int, Chat] = {}
    for update in updates:
        for name, about in update.items() if isinstance(update, dict) else ():
            chat = _chat(about)
            if chat is None:
                continue
            found.pop(chat.id, None)
            if "migrate_to_chat_id" not in about and not (name == "my_chat_member" and _has_left(about)):
                found[chat.id] = chat
    return list(reversed(found.values()))[:MOST_CHATS]


def _chat(about: Any) -> Chat | None:
    chat = about.get("chat") if isinstance(about, dict) else None
    if not isinstance(chat, dict):
        return None
    number, kind = chat.get("id"), chat.get("type")
    if not isinstance(number, int) or isinstance(number, bool) or kind not in KINDS:
        return None
    names = [chat.get(name) for name in ("title", "first_name", "last_name")]
    title = " ".join(name for name in names if isinstance(name, str))
    user = chat.get("username")
    handle = f"@{user}" if isinstance(user, str) and user else ""
    title = one_line(title, MAX_TITLE)
    return Chat(number, kind, " ".join(filter(None, (title, handle and f"({one_line(handle, 40)})"))))


def _has_left(about: Mapping[str, Any]) -> bool:
    member = about.get("new_chat_member")
    return isinstance(member, dict) and member.get("status") in {"left", "kicked"}
