"""The commands `shops list` and `shops check`."""

import json
from contextlib import suppress
from typing import Any

from shop_poller.alerts import stored_failure
from shop_poller.cli.chosen_shops import ShopTags, load_chosen
from shop_poller.cli.console import (
    AsDocument,
    AsJson,
    Config,
    EnoughError,
    make_app,
    say,
    store_of,
)
from shop_poller.cli.each_shop import run_each
from shop_poller.cli.language import as_text
from shop_poller.config.addresses import secrets_in
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.core.model import iso
from shop_poller.core.plain_text import plain
from shop_poller.core.translatable import Text, joined
from shop_poller.stores import leader_of, peek_store

app = make_app(name="shops", no_args_is_help=True, help="List or check the shops in the settings.")


@app.command(
    "list",
    epilog="""\b
Examples:
  shop-poller shops list --config shops.toml
  shop-poller shops list --config shops.toml --json
Exit codes: 2 settings, 4 cannot print.""",
)
def list_shops(*, config: Config = None, tag: ShopTags = None, as_json: AsJson = False) -> None:
    """List the shops, which replica watches each, and its last poll; the daemon may be running."""
    chosen = load_chosen(config, None, tag, all_shops=not tag)
    outcomes = run_each(chosen.shops, _described)
    with suppress(EnoughError):
        for about in (outcome.result for outcome in outcomes if outcome.result is not None):
            if as_json:
                trouble = None if about["trouble"] is None else plain(about["trouble"])
                say(json.dumps(about | {"trouble": trouble}, ensure_ascii=False))
            else:
                say(_line(about))


@app.command(
    epilog="""\b
Examples:
  shop-poller shops check --config shops.toml
  shop-poller shops check --config shops.toml --json
Exit codes: 2 settings, 3 a shop, 4 a sink, 5 state; the lowest of several."""
)
def check(*, config: Config = None, tag: ShopTags = None, as_json: AsDocument = False) -> None:
    """Check every shop, its keys, state and sinks, one line per shop; change nothing."""
    from shop_poller.cli import check_command  # noqa: PLC0415 - it is large

    chosen = load_chosen(config, None, tag, all_shops=not tag, needs_shop_keys=True)
    check_command.check_briefly(chosen, as_json=as_json)


async def _described(shop: Settings) -> dict[str, Any]:
    """Return the shop's settings and stored state, or why the state cannot be read."""
    about: dict[str, Any] = {
        "shop": shop.shop,
        "url": Masker(secrets_in(shop.woocommerce_mcp_url)).mask(shop.woocommerce_mcp_url),
        "interval_s": shop.shop_polling_interval,
        "sinks": [sink.name for sink in shop.sinks],
        "leader": None,
        "last_poll_at": None,
        "trouble": None,
        **({"tags": shop.tags} if shop.tags else {}),
    }
    try:
        async with store_of(shop, peek_store) as store:
            state = await store.load(shop.shop)
            about["leader"] = await leader_of(store, shop.state) or None
            failure = stored_failure(await store.alerts(shop.shop))
            if failure is not None:
                about["trouble"] = Text(
                    "polls fail since {since}: {error}", since=iso(failure.since), error=as_text(failure.text)
                )
            if state is not None and state.last_poll_at is not None:
                about["last_poll_at"] = iso(state.last_poll_at)
    except ShopPollerError as error:
        about["trouble"] = error.text
    return about


def _line(about: dict[str, Any]) -> str:
    last = about["trouble"] or about["last_poll_at"] or Text("never polled")
    if about["leader"]:
        last = Text("{at}, by {leader}", at=last, leader=about["leader"])
    every = Text("every {interval:g} s", interval=about["interval_s"])
    return joined("  ", [about["shop"], about["url"], every, ", ".join(about["sinks"]), last])
