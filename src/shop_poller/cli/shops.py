"""The commands `shops list` and `shops check`."""

import json
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import anyio
import typer

from shop_poller.cli.console import (
    AsJson,
    Config,
    EnoughError,
    Exit,
    OutputError,
    load_shops_config,
    make_app,
    say,
    store_of,
)
from shop_poller.config.addresses import secrets_in
from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings
from shop_poller.config.shops import shared_addresses
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.core.model import iso
from shop_poller.core.plain_text import plain
from shop_poller.core.translatable import Text, joined
from shop_poller.runtime.exposure import exposed, summary
from shop_poller.stores import peek_store

if TYPE_CHECKING:
    from shop_poller.cli.check_result import CheckResult

AT_ONCE = 16
"""How many shops are checked at the same time."""

app = make_app(name="shops", no_args_is_help=True, help="List or check the shops in the settings.")


@app.command(
    "list",
    epilog="""\b
Examples:
  shop-poller shops list --config shops.toml
  shop-poller shops list --config shops.toml --json
Exit codes: 2 settings, 4 cannot print.""",
)
def list_shops(*, config: Config = None, as_json: AsJson = False) -> None:
    """List the shops, which replica watches each, and its last poll; the daemon may be running."""
    shops_config = load_shops_config(config, needs_shop_keys=False)
    found: dict[str, dict[str, Any]] = {}

    async def action(shop: Settings) -> None:
        found[shop.shop] = await _described(shop)

    anyio.run(_each, shops_config.shops, action)
    with suppress(EnoughError):
        for shop in shops_config.shops:
            about = found[shop.shop]
            if as_json:
                trouble = None if about["trouble"] is None else plain(about["trouble"])
                say(json.dumps(about | {"trouble": trouble}, ensure_ascii=False))
            else:
                say(_line(about))


@app.command(
    epilog="""\b
Example:
  shop-poller shops check --config shops.toml
Exit codes: 2 settings, 3 a shop, 4 a sink, 5 state; the lowest of several."""
)
def check(config: Config = None) -> None:
    """Check every shop, its keys, state and sinks, one line per shop; change nothing."""
    from shop_poller.cli import check as checks  # noqa: PLC0415 - it is large
    from shop_poller.runtime.message_templates import check_templates  # noqa: PLC0415 - as above

    shops_config = load_shops_config(config)
    check_templates(shops_config.shops)
    codes = {"shop": Exit.SHOP, "state": Exit.STATE, "sink": Exit.UNDELIVERED}
    failed: list[Exit] = []
    unprinted: list[OutputError] = []

    if shops_config.ignored:
        text = checks.ignored_variables(shops_config.ignored)
        say(Text("ok    {finding}", finding=Text("{about}: {text}", about=Text("settings"), text=text)))
    for line in shared_addresses(shops_config.shops):
        warning = Text("warning: {problem}", problem=line)
        say(Text("ok    {finding}", finding=Text("{about}: {text}", about=Text("settings"), text=warning)))
    for line in summary(exposed(shops_config.shops, shops_config.files)):
        warning = Text("warning: {problem}", problem=line)
        say(Text("ok    {finding}", finding=Text("{about}: {text}", about=Text("permissions"), text=warning)))

    async def action(shop: Settings) -> None:
        wrong: list[CheckResult] = [finding async for finding in checks.check(shop) if not finding.ok]
        failed.extend(codes[finding.part] for finding in wrong)
        text = Text(
            "{shop}: {problems}", shop=shop.shop, problems=joined("; ", [finding.line() for finding in wrong])
        )
        try:
            say(
                Text("FAIL  {finding}", finding=text) if wrong else Text("ok    {finding}", finding=shop.shop)
            )
        except OutputError as error:  # raised later: the task group would wrap it
            unprinted.append(error)

    anyio.run(_each, shops_config.shops, action)
    if unprinted:
        raise unprinted[0]
    if failed:
        raise typer.Exit(min(failed))


async def _each(shops_config: Sequence[Settings], action: Callable[[Settings], Awaitable[None]]) -> None:
    """Call `action` for every shop, for AT_ONCE of them concurrently."""
    room = anyio.CapacityLimiter(AT_ONCE)

    async def act_when_free(shop: Settings) -> None:
        async with room:
            await action(shop)

    async with anyio.create_task_group() as tasks:
        for shop in shops_config:
            tasks.start_soon(act_when_free, shop)


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
    }
    try:
        async with store_of(shop, peek_store) as store:
            state = await store.load(shop.shop)
            if isinstance(shop.state, RedisAddress):  # a file does not show which process has it open
                about["leader"] = await store.holder() or None
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
