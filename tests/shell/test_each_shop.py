"""A command that works on several shops: so many at once, in the order of the file, whatever fails."""

import sys

import anyio
import pytest

from shop_poller.cli.console import CommandError, Exit, OutputError
from shop_poller.cli.each_shop import ShopOutcome, for_each, summary
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.sinks.registry import parse_sink

pytestmark = pytest.mark.anyio


def shop(name: str) -> Settings:
    values = {
        "woocommerce_mcp_url": f"https://{name}.example/wp-json/woocommerce/mcp",
        "woocommerce_consumer_key": "ck_x",
        "woocommerce_consumer_secret": "cs_x",
        "shop_id": name,
    }
    return Settings.of(values, parse_sink=parse_sink)


SHOPS = [shop(f"s{number}") for number in range(50)]


async def test_so_many_at_once_and_in_the_order_of_the_file() -> None:
    at_work, most = 0, 0
    shown: list[str] = []

    async def work(one: Settings) -> int:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        number = int(one.shop[1:])
        await anyio.sleep(60 - number)  # the later ones are done first
        at_work -= 1
        return number

    outcomes = await for_each(SHOPS, work, lambda outcome: shown.append(outcome.shop), at_once=7)
    assert (most, at_work) == (7, 0)
    assert [outcome.result for outcome in outcomes] == list(range(50))
    assert shown == [one.shop for one in SHOPS]


async def test_what_fails_holds_up_no_other_shop() -> None:
    errors = {
        "s0": PermanentError(ErrorKind.STORE, "no state"),
        "s1": PermanentError(ErrorKind.AUTHENTICATION, "wrong keys"),
        "s2": CommandError("no such sink"),
        "s3": SettingsError(["SHOP_X: is wrong", "SHOP_Y: is wrong"]),
    }

    async def work(one: Settings) -> str:
        if one.shop in errors:
            raise errors[one.shop]
        return one.shop

    outcomes = await for_each(SHOPS[:5], work, code_of=lambda _: Exit.MISSED)
    assert [(outcome.problem, outcome.code) for outcome in outcomes] == [
        ("no state", Exit.STATE),
        ("wrong keys", Exit.SHOP),
        ("no such sink", Exit.SETTINGS),
        ("SHOP_X: is wrong; SHOP_Y: is wrong", Exit.SETTINGS),
        ("", Exit.MISSED),
    ]
    assert summary(outcomes, "2 orders") == "5 shops, 5 failed; 2 orders"
    assert summary(outcomes[:1]) == "1 shop, 1 failed"
    assert outcomes[0].error() == {"shop": "s0", "error": "no state"}


async def test_standard_output_that_is_closed_ends_it() -> None:
    begun: list[str] = []

    async def work(one: Settings) -> None:
        begun.append(one.shop)
        await anyio.sleep(1)

    def show(_: ShopOutcome[None]) -> None:
        raise OutputError("closed")

    with pytest.raises(OutputError, match="closed"):
        await for_each(SHOPS, work, show, at_once=2)
    assert len(begun) <= 4


@pytest.mark.parametrize("is_terminal", [True, False])
async def test_progress_is_shown_on_a_terminal_only(
    *, is_terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: is_terminal)

    async def work(_: Settings) -> None:
        pass

    await for_each(SHOPS[:3], work)
    shown = capsys.readouterr().err
    assert ("3 of 3 shops" in shown) == is_terminal
    assert shown.endswith("\r\x1b[K") == is_terminal
    assert bool(shown) == is_terminal
