"""Since when an audit may call a delivery lost that it finds no trace of."""

from contextlib import aclosing
from datetime import timedelta
from pathlib import Path

import pytest

from shop_poller import audit
from shop_poller.clock import now
from shop_poller.loading import load
from shop_poller.ports import Ack, ShopState
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, batch, claim, outgoing


@pytest.mark.anyio
async def test_history_is_complete_until_one_sink_has_as_much_as_is_kept_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_SETTLED", 3)
    environ = {
        "WOOCOMMERCE_MCP_URL": f"https://{SHOP}/wp-json/woocommerce/mcp",
        "SHOP_NOTIFY_URLS": "https://crm.example/#A https://log.example/#B",
    }
    settings = load(environ=environ, dotenv=tmp_path / ".env", asks_shop=False)
    began = now()
    polled = ShopState(started_at=began, baseline_at=began)

    async def deliver(store: SqliteStore, sink: str, days_ago: int) -> None:
        await store.commit(SHOP, batch(outgoing(sink, f"{days_ago}"), state=polled))
        (one,) = await claim(store, sink)
        await store.settle([Ack(one)], began - timedelta(days=days_ago))

    async with aclosing(await SqliteStore.open(tmp_path / "state.db")) as store:
        for sink, days_ago in (("A", 9), ("A", 8), ("B", 7), ("B", 6)):
            await deliver(store, sink, days_ago)
        since = await audit._complete_since(settings, store)
        assert began - timedelta(days=30) <= since <= now() - timedelta(days=30)
        await deliver(store, "B", 5)
        assert await audit._complete_since(settings, store) == began - timedelta(days=7)
