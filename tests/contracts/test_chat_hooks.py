"""`check` of an address that belongs to a chat service, and the warning at the start."""

from pathlib import Path

import httpx
import pytest
import respx
from structlog.testing import capture_logs

from shop_poller.cli import check as checks
from shop_poller.config.loader import load
from shop_poller.config.settings import Settings
from shop_poller.core.errors import PermanentError
from shop_poller.runtime.shop_runtime import open_shop_runtime
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from support.sinks import http_sink

pytestmark = pytest.mark.anyio

CASE = Path(__file__).parents[1] / "data/cases/chat-hook-address/answer.http"
SLACK = "https://hooks.slack.com/services/T000/B000/s3same"
MATTERMOST = "https://chat.example/hooks/abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def settings_of(*urls: str) -> Settings:
    return load(
        None,
        environ={
            "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
            "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
            "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
            "SHOP_NOTIFY_URLS": " ".join(urls),
        },
        parse_sink=parse_sink,
    )


def answer() -> httpx.Response:
    """What Slack said to OPTIONS."""
    head, _, body = CASE.read_text("utf-8").partition("\n\n")
    return httpx.Response(int(head.split()[1]), text=body)


async def test_check_says_what_to_write_and_does_not_ask(respx_mock: respx.MockRouter) -> None:
    route = respx_mock.options(SLACK).mock(answer())
    async with http_sink(SLACK) as sink:
        found = await checks._attempt(sink, sink.check)
    assert not found.ok
    assert "apprise+slack://" in found.text
    assert "s3same" not in found.about + found.text
    assert not route.called


@pytest.mark.parametrize("status", [400, 403, 404, 405])
async def test_an_answer_that_shows_nothing_is_not_called_ok_for_what_looks_like_one(
    respx_mock: respx.MockRouter, status: int
) -> None:
    respx_mock.options(MATTERMOST).respond(status)
    async with http_sink(f"{MATTERMOST}#team") as sink:
        with pytest.raises(PermanentError, match=r"apprise\+mmosts://"):
            await sink.check()


async def test_one_that_answers_well_and_looks_like_one_is_told_so(respx_mock: respx.MockRouter) -> None:
    respx_mock.options(MATTERMOST).respond(204)
    async with http_sink(f"{MATTERMOST}#team") as sink:
        assert "looks like an address of Mattermost" in await sink.check()


async def test_it_starts_all_the_same_and_warns_without_the_secret(tmp_path: Path) -> None:
    settings = settings_of(SLACK, "console:")
    with capture_logs() as log:
        async with open_shop_runtime(settings, await SqliteStore.open(tmp_path / "state.db")):
            pass
    (warning,) = [entry for entry in log if entry["log_level"] == "warning"]
    assert "apprise+slack://" in warning["advice"]
    assert "s3same" not in str(log)
