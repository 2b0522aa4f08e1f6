"""The calls of the Bot API that `setup` makes, against a made-up Telegram on a real socket."""

import json
from collections.abc import Iterator

import pytest

from shop_poller.cli.setup_telegram import MOST_UPDATES, Bot, BotApi, BotError, BotTrouble
from support.bot_api import (
    BOT,
    HAS_WEBHOOK,
    OTHER_READER,
    PRIVATE,
    TOKEN,
    TOO_MANY,
    FakeBotApi,
    bot_api,
    message,
)
from support.receivers import reserved_port

pytestmark = pytest.mark.anyio

OTHER = TOKEN[:-4] + "0000"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def telegram() -> Iterator[FakeBotApi]:
    with bot_api() as fake:
        yield fake


async def failure(bot: BotApi, *, of_updates: bool = False) -> BotError:
    with pytest.raises(BotError) as caught:
        await (bot.updates(wait_s=0) if of_updates else bot.me())
    assert TOKEN.partition(":")[2] not in str(caught.value)
    return caught.value


async def test_a_right_token_names_its_bot(telegram: FakeBotApi) -> None:
    assert await BotApi(TOKEN, api=telegram.url).me() == Bot(BOT)


async def test_a_wrong_token_is_one(telegram: FakeBotApi) -> None:
    error = await failure(BotApi(OTHER, api=telegram.url))
    assert (error.trouble, error.detail) == (BotTrouble.TOKEN, "getMe: HTTP 401 Unauthorized")


@pytest.mark.parametrize(
    ("refusal", "trouble"),
    [
        (HAS_WEBHOOK, BotTrouble.WEBHOOK),
        (OTHER_READER, BotTrouble.OTHER_READER),
        (TOO_MANY, BotTrouble.BUSY),
        ((404, "Not Found"), BotTrouble.TOKEN),
        ((500, "Internal Server Error"), BotTrouble.ODD),
        ((400, f"Bad Request: {TOKEN}"), BotTrouble.ODD),
        (b"<html>Access denied</html>", BotTrouble.ODD),
        (b"[" * 100_000, BotTrouble.ODD),
        (b'{"ok": true}', BotTrouble.ODD),
        (b'{"ok": false, "description": 7}', BotTrouble.ODD),
    ],
)  # fmt: skip
async def test_a_refusal_has_a_reason(
    telegram: FakeBotApi, refusal: tuple[int, str] | bytes, trouble: BotTrouble
) -> None:
    telegram.refuse("getUpdates", refusal)
    error = await failure(BotApi(TOKEN, api=telegram.url), of_updates=True)
    assert error.trouble is trouble
    assert len(error.detail) <= 200


async def test_a_page_of_a_provider_with_status_404_is_no_verdict_on_the_token(telegram: FakeBotApi) -> None:
    error = await failure(BotApi(TOKEN, api=telegram.url + "/blocked/by"))
    assert (error.trouble, error.detail) == (BotTrouble.ODD, "getMe: HTTP 404")


async def test_nobody_there() -> None:
    with reserved_port() as port:
        error = await failure(BotApi(TOKEN, api=f"http://127.0.0.1:{port}"))
    assert error.trouble is BotTrouble.UNREACHABLE
    assert error.detail.startswith("no connection to api.telegram.org")


async def test_a_slow_answer_is_not_waited_for(telegram: FakeBotApi) -> None:
    telegram.slow = True
    error = await failure(BotApi(TOKEN, api=telegram.url, timeout_s=0.2))
    assert (error.trouble, error.detail) == (
        BotTrouble.UNREACHABLE,
        "api.telegram.org did not answer in time",
    )


async def test_messages_are_read_and_stay_there(telegram: FakeBotApi) -> None:
    telegram.updates = [message(PRIVATE, 5)]
    bot = BotApi(TOKEN, api=telegram.url)
    assert await bot.updates(wait_s=3) == await bot.updates(wait_s=3) == telegram.updates
    assert telegram.calls == [("getUpdates", {"timeout": 3, "limit": MOST_UPDATES})] * 2


async def test_what_is_behind_a_hundred_messages_is_read_too(telegram: FakeBotApi) -> None:
    telegram.updates = [message(PRIVATE, number) for number in range(1, 251)]
    found = await BotApi(TOKEN, api=telegram.url).updates(wait_s=0)
    assert [one["update_id"] for one in found] == [*range(1, 251)]
    assert telegram.count("getUpdates") == 3


async def test_no_more_than_some_pages_are_read(telegram: FakeBotApi) -> None:
    telegram.updates = [message(PRIVATE, number) for number in range(1, 2001)]
    assert len(await BotApi(TOKEN, api=telegram.url).updates(wait_s=0)) == 1000


async def test_an_answer_without_end_is_not_read_to_it(telegram: FakeBotApi) -> None:
    telegram.refuse("getMe", json.dumps({"ok": True, "result": "x" * 5_000_000}).encode())
    assert (await failure(BotApi(TOKEN, api=telegram.url))).trouble is BotTrouble.UNREACHABLE
