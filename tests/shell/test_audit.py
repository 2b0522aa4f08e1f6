"""What an audit counts, and since when it may call a delivery lost that it finds no trace of."""

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from shop_poller.cli import audit, audit_report
from shop_poller.clock import now
from shop_poller.config.loader import load
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import KnownOrder, Page, Query
from shop_poller.core.sweep import made_at
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.page_fetcher import Fetcher
from shop_poller.ports import Ack, ShopState
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, batch, claim, new_deliveries
from support.model_shop import ModelShop, at


class ModelSource:
    """Lists what a model of a shop shows. For the methods see ports.Source."""

    most_ids = 100

    def __init__(self, shop: ModelShop) -> None:
        self.shop = shop
        self.requested: list[Query] = []

    async def fetch(self, query: Query) -> Page:
        self.requested.append(query)
        return self.shop.answer(query)

    async def aclose(self) -> None:
        """There is nothing to close."""


async def audited(
    shop: ModelShop,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    known: Callable[[KnownOrder], KnownOrder] = lambda known: known,
) -> tuple[audit_report.Tally, ModelSource]:
    """Audit a shop of which all is known that it has, but for what `known` makes of it."""
    source = ModelSource(shop)

    @asynccontextmanager
    async def asking(_: object) -> AsyncIterator[Fetcher]:
        yield Fetcher(source, shop=SHOP, metrics=Metrics(SHOP, ()), random=lambda: 0.5)

    monkeypatch.setattr(audit, "asking", asking)
    environ = {
        "WOOCOMMERCE_MCP_URL": f"https://{SHOP}/wp-json/woocommerce/mcp",
        "SHOP_NOTIFY_URLS": "https://crm.example/#A",
        "SHOP_STATE_URL": f"sqlite:///{folder}/state.db",
    }
    settings = load(environ=environ, dotenv=folder / ".env", needs_shop_keys=False, parse_sink=parse_sink)
    polled = ShopState(started_at=at(0), baseline_at=at(-100), cursor_at=at(shop.now))
    records = [
        known(KnownOrder(row.id, row.status, at(row.modified), announced_new=True, refund_ids=frozenset()))
        for row in shop.rows.values()
    ]
    async with aclosing(await SqliteStore.open(folder / "state.db")) as store:
        await store.commit(SHOP, replace(batch(state=polled), known=records))
    tally = audit_report.Tally()
    async with aclosing(audit.audit(settings, at(-1), tally)) as entries:
        async for _ in entries:
            pass
    return tally, source


def shop_of(orders: int) -> ModelShop:
    """A shop with one order a minute."""
    shop = ModelShop(now=60 * orders + 10_000)
    for n in range(orders):
        shop.create(modified=60 * n)
    return shop


@pytest.mark.anyio
@pytest.mark.parametrize("counts", [True, False], ids=["told", "not told"])
async def test_orders_that_cannot_be_read_are_noticed_by_the_shops_own_count_or_another_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, counts: bool
) -> None:
    shop = shop_of(200)
    shop.counts, shop.cap = counts, 20
    tally, _ = await audited(shop, tmp_path, monkeypatch)
    assert tally.verdict() == "everything accounted for: 200 orders"
    assert not tally.is_incomplete

    if counts:
        shop.hidden = {101, 150, 300}
    else:  # in the list by modification only
        answer = shop.answer
        monkeypatch.setattr(
            ModelShop,
            "answer",
            lambda _, query: answer(
                query if query.newest_first else replace(query, exclude=query.exclude | {101, 150, 300})
            ),
        )
    tally, _ = await audited(shop, tmp_path, monkeypatch)
    assert tally.verdict() == (
        "not everything is accounted for: the shop counts 200 orders, 197 could be read;"
        " a plugin, or the rights of the key's user, may hide the others"
    )
    assert tally.is_incomplete
    assert tally.as_dict()["counted_by_shop"] == [200, 200]


@pytest.mark.anyio
async def test_so_they_are_where_no_question_may_leave_out_many_orders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a server that refuses long addresses: the count of what else there is cannot be had there."""
    shop = shop_of(80)
    shop.counts, shop.cap = True, 20
    answer = shop.answer

    def refusing(_: ModelShop, query: Query) -> Page:
        if len(query.exclude) > 49:
            raise TemporaryError(ErrorKind.REJECTED, "the shop answered 414: URI too long")
        if not query.newest_first:  # by modification, some are not shown, but counted
            page = answer(query)
            return replace(page, items=tuple(item for item in page.items if item.id not in {101, 150}))
        return answer(query)

    monkeypatch.setattr(ModelShop, "answer", refusing)
    tally, _ = await audited(shop, tmp_path, monkeypatch)
    assert tally.verdict() == (
        "not everything is accounted for: the shop counts 80 orders, 78 could be read;"
        " a plugin, or the rights of the key's user, may hide the others"
    )


@pytest.mark.anyio
async def test_an_order_that_is_dated_before_what_is_known_is_requested_in_another_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_known(known: KnownOrder) -> KnownOrder:
        if known.id != 103:
            return known
        return replace(known, status="on-hold", modified_at=known.modified_at + timedelta(hours=1))

    tally, source = await audited(shop_of(5), tmp_path, monkeypatch, known=as_known)

    assert tally.verdict() == "not everything is accounted for: of 5 orders 1 missed"
    assert made_at(at(120)).query() in source.requested


@pytest.mark.anyio
async def test_history_is_complete_until_one_sink_has_as_much_as_is_kept_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "MAX_FINISHED", 3)
    environ = {
        "WOOCOMMERCE_MCP_URL": f"https://{SHOP}/wp-json/woocommerce/mcp",
        "SHOP_NOTIFY_URLS": "https://crm.example/#A https://log.example/#B",
    }
    settings = load(environ=environ, dotenv=tmp_path / ".env", needs_shop_keys=False, parse_sink=parse_sink)
    began = now()
    polled = ShopState(started_at=began, baseline_at=began)

    async def deliver(store: SqliteStore, sink: str, days_ago: int) -> None:
        await store.commit(SHOP, batch(new_deliveries(sink, f"{days_ago}"), state=polled))
        (one,) = await claim(store, sink)
        await store.record_outcomes([Ack(one)], began - timedelta(days=days_ago))

    async with aclosing(await SqliteStore.open(tmp_path / "state.db")) as store:
        for sink, days_ago in (("A", 9), ("A", 8), ("B", 7), ("B", 6)):
            await deliver(store, sink, days_ago)
        since = await audit._complete_since(settings, store, store.now())
        assert began - timedelta(days=30) <= since <= now() - timedelta(days=30)
        await deliver(store, "B", 5)
        assert await audit._complete_since(settings, store, store.now()) == began - timedelta(days=7)
