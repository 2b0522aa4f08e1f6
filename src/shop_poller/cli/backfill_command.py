"""The command `backfill`, for one shop or several."""

from contextlib import suppress
from functools import partial
from typing import Any

from shop_poller.cli.backfill import BackfillProgress, progress_bar
from shop_poller.cli.backfill import backfill as import_orders
from shop_poller.cli.chosen_shops import EveryShop, ShopIds, ShopTags, load_chosen
from shop_poller.cli.console import AsDocument, Config, EnoughError, Since, make_app, say, utc
from shop_poller.cli.each_shop import as_document, column, exit_with_worst, finish, run_each, say_document
from shop_poller.config.settings import Settings
from shop_poller.core.translatable import Text
from shop_poller.runtime.signals import run_until_signal

app = make_app()


@app.command(
    epilog="""\b
Examples:
  shop-poller backfill --since 2026-01-01
  shop-poller backfill --since 2026-01-01 --all
Exit codes: 2 settings, 3 the shop could not be read (run it again to resume), 5 state; the
lowest of several shops."""
)
def backfill(
    *,
    since: Since,
    config: Config = None,
    shop: ShopIds = None,
    tag: ShopTags = None,
    all_shops: EveryShop = False,
    as_json: AsDocument = False,
) -> None:
    """Import orders created from DATE up to the first poll, silently; the daemon may be running."""
    chosen = load_chosen(config, shop, tag, all_shops=all_shops, needs_shop_keys=True)
    start = utc(since)
    if not chosen.is_list:
        with progress_bar() as show:
            done = run_until_signal(partial(import_orders, chosen.only, start, show))
        if as_json:
            say_document({"shop": chosen.only.shop, **_as_dict(done)})
        else:
            say(_result(done.orders, done.imported))
        return

    async def work(settings: Settings) -> BackfillProgress:
        return await import_orders(settings, start, lambda _: None)

    outcomes = run_each(chosen.shops, work)
    if as_json:
        with suppress(EnoughError):
            say_document(as_document(outcomes, _as_dict))
        exit_with_worst([outcome.code for outcome in outcomes])
        return
    with_shop = column([outcome.shop for outcome in outcomes])
    results = [(outcome.shop, outcome.result) for outcome in outcomes if outcome.result is not None]
    for shop_id, one in results:
        say(with_shop(shop_id, _result(one.orders, one.imported)))
    total = _result(sum(one.orders for _, one in results), sum(one.imported for _, one in results))
    finish(outcomes, total)


def _result(orders: int, imported: int) -> str:
    return Text("read {orders:,} orders, imported {imported:,} new ones", orders=orders, imported=imported)


def _as_dict(done: BackfillProgress) -> dict[str, Any]:
    return {"orders": done.orders, "imported": done.imported}
