"""Tests of the shell run in virtual time."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from shop_poller.config.loader import load
from shop_poller.config.settings import Settings
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from support.virtual_time import VirtualTimeLoop


@pytest.fixture(scope="package")
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualTimeLoop}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """The settings of a command that works on the state of the shop `shop.example`."""
    environ = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
        "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
        "SHOP_STATE_URL": f"sqlite:///{tmp_path / 'state.db'}",
        "SHOP_NOTIFY_URLS": "https://a.example/#A https://b.example/#B",
        "SHOP_ID": "shop.example",
    }
    return load(environ=environ, dotenv=tmp_path / ".env", parse_sink=parse_sink)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[SqliteStore]:
    """The state of that shop."""
    assert isinstance(settings.state, Path)
    async with aclosing(await SqliteStore.open(settings.state)) as store:
        yield store
