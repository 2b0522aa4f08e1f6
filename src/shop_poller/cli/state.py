"""The commands `state check` and `state aside`: damage in the stored state."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, Any

import anyio
import typer

from shop_poller.cli.console import (
    AsJson,
    Config,
    EnoughError,
    Exit,
    ShopId,
    load_chosen_shops,
    make_app,
    say,
)
from shop_poller.cli.language import as_text
from shop_poller.config.settings import Settings
from shop_poller.core.errors import ShopPollerError
from shop_poller.core.model import iso
from shop_poller.core.translatable import Text
from shop_poller.ports import RowSetAside
from shop_poller.stores import inspect_store, repair_store, set_aside_in_store
from shop_poller.stores.damage import StateFinding

app = make_app(name="state", no_args_is_help=True, help="Check and repair the stored state.")

Repair = Annotated[
    bool,
    typer.Option("--repair", help="Correct or remove damaged rows; keep copies. Stop the daemon first."),
]
Forget = Annotated[bool, typer.Option("--forget", help="Then delete these copies.")]


@app.command(
    epilog="""\b
Examples:
  shop-poller state check
  shop-poller state check --json
  shop-poller state check --repair
Exit codes: 2 settings; 5 damage is left, the state cannot be read, or the daemon uses it (--repair)."""
)
def check(
    *, config: Config = None, shop: ShopId = None, repair: Repair = False, as_json: AsJson = False
) -> None:
    """Report damaged rows and keys, one per line; without --repair the daemon may be running."""
    shops = load_chosen_shops(config, shop)
    if not anyio.run(_check_all, shops, repair, as_json):
        raise typer.Exit(Exit.STATE)


@app.command(
    epilog="""\b
Examples:
  shop-poller state aside
  shop-poller state aside --forget
Exit codes: 2 settings, 5 state."""
)
def aside(
    *, config: Config = None, shop: ShopId = None, as_json: AsJson = False, forget: Forget = False
) -> None:
    """List the damaged rows that were set aside; the daemon may be running."""
    with suppress(EnoughError):
        anyio.run(_list_all, load_chosen_shops(config, shop), as_json, forget)


async def _check_all(shops: Sequence[Settings], repair: bool, as_json: bool) -> bool:  # noqa: FBT001 - of a command
    """Check every shop. Return whether no damage is left."""
    is_well = True
    for shop in shops:
        try:
            found = await _find(shop, repair=repair)
            kept = await _rows_set_aside(shop)
        except ShopPollerError as error:
            is_well = False
            if as_json:
                say(json.dumps({"shop": shop.shop, "error": str(error)}))
            else:
                say(Text("FAIL  {finding}", finding=_about(shop, error.text)))
            continue
        is_well = is_well and all(repair and one.fix for one in found)
        if as_json:
            about = {"shop": shop.shop, "repaired": repair, "rows_set_aside": [_row(one) for one in kept]}
            say(json.dumps(about | {"findings": [one.as_dict() for one in found]}, ensure_ascii=False))
            continue
        for one in found:
            if repair and one.fix:
                say(Text("done  {finding}", finding=_about(shop, one.line())))
            else:
                say(Text("FAIL  {finding}", finding=_about(shop, one.line())))
        if not found:
            say(Text("ok    {finding}", finding=_about(shop, Text("nothing is damaged"))))
        if not repair and any(one.fix for one in found):
            advice = Text("stop the daemon and run `shop-poller state check --repair`")
            say(Text("note  {advice}", advice=_about(shop, advice)))
        if kept:
            advice = Text("rows are set aside, `shop-poller state aside` lists them")
            say(Text("note  {advice}", advice=_about(shop, advice)))
    return is_well


def _about(shop: Settings, text: str) -> str:
    return Text("{shop}: {text}", shop=shop.shop, text=text)


async def _find(shop: Settings, *, repair: bool) -> list[StateFinding]:
    find = repair_store if repair else inspect_store
    return await find(shop.state, shop=shop.shop, prefix=shop.shop_redis_prefix)


async def _rows_set_aside(shop: Settings, *, forget: bool = False) -> list[RowSetAside]:
    return await set_aside_in_store(shop.state, shop=shop.shop, prefix=shop.shop_redis_prefix, forget=forget)


async def _list_all(shops: Sequence[Settings], as_json: bool, forget: bool) -> None:  # noqa: FBT001 - of a command
    for shop in shops:
        kept = await _rows_set_aside(shop, forget=forget)
        if as_json:
            say(
                json.dumps(
                    {"shop": shop.shop, "rows_set_aside": [_row(one) for one in kept]}, ensure_ascii=False
                )
            )
            continue
        for one in kept:
            row = _row(one)
            text = Text(
                "{place} {name}: {reason}", place=one.place, name=one.name, reason=as_text(one.reason)
            )
            say(Text("{at}  {row}", at=row["at"], row=_about(shop, text)))
        if not kept:
            say(_about(shop, Text("no row is set aside")))


def _row(one: RowSetAside) -> dict[str, Any]:
    return {"place": one.place, "name": one.name, "reason": one.reason, "at": iso(one.at)}
