"""Which shops a command is about: --shop, --tag, --all. Shared by all commands that work on several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from shop_poller.cli.console import load_shops_config, refused
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import MOST_NAMED, ShopsConfig, choose
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text

ShopIds = Annotated[
    list[str] | None,
    typer.Option("--shop", metavar="ID", help="Which shop, if the file has [[shops]]; may be repeated."),
]
ShopTags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TAG", help="The shops with this tag; may be repeated."),
]
EveryShop = Annotated[
    bool, typer.Option("--all", "--all-shops", help="Every shop, if the file has [[shops]].")
]
AllShops = Annotated[bool, typer.Option("--all-shops", help="Every shop, if the file has [[shops]].")]
"""For commands where --all means something else."""


@dataclass(frozen=True, slots=True)
class ChosenShops:
    """The shops that a command is about.

    Attributes:
        shops: at least one, in the order of the file.
        is_list: several may be meant, so the output is a list, even if there is only one now.
        shops_config: all shops of the file.
    """

    shops: Sequence[Settings]
    is_list: bool
    shops_config: ShopsConfig

    @property
    def only(self) -> Settings:
        """The shop, if it is the only one that is meant."""
        return self.shops[0]


def load_chosen(
    config: Path | None,
    shop: Sequence[str] | None,
    tag: Sequence[str] | None,
    *,
    all_shops: bool,
    needs_shop_keys: bool = False,
) -> ChosenShops:
    """Load the settings, and choose the shops that a command is about.

    Args:
        config: the file of `--config`.
        shop: the values of `--shop`.
        tag: the values of `--tag`.
        all_shops: whether `--all` was given.
        needs_shop_keys: whether the command sends requests to the shops; else their keys may be missing.

    Raises:
        SettingsError: a setting is wrong, or there is no such shop or tag, or none of several is named.
        typer.Exit: two of the options were given.
    """
    if sum(map(bool, (shop, tag, all_shops))) > 1:
        raise refused(Text("give only one of --shop, --tag and --all"))
    shops_config = load_shops_config(config, needs_shop_keys=needs_shop_keys)
    shops = shops_config.shops
    if all_shops:
        return ChosenShops(shops, is_list=True, shops_config=shops_config)
    if tag:
        return ChosenShops(_with_tags(shops, tag), is_list=True, shops_config=shops_config)
    if shop:
        named = {choose(shops, one).shop for one in shop}
        chosen = [one for one in shops if one.shop in named]
        return ChosenShops(chosen, is_list=len(shop) > 1, shops_config=shops_config)
    if len(shops) > 1:
        raise SettingsError([_none_named(shops)])
    return ChosenShops(shops, is_list=False, shops_config=shops_config)


def _with_tags(shops: Sequence[Settings], tags: Sequence[str]) -> list[Settings]:
    known = dict.fromkeys(tag for one in shops for tag in one.tags)
    for tag in tags:
        if tag not in known:
            raise SettingsError(
                [
                    Text(
                        "--tag: no shop has the tag {tag}; there are: {known}",
                        tag=shown(tag, is_name=True),
                        known=", ".join(known) or Text("none"),
                    )
                ]
            )
    return [one for one in shops if not set(tags).isdisjoint(one.tags)]


def _none_named(shops: Sequence[Settings]) -> str:
    names = ", ".join(one.shop for one in shops[:MOST_NAMED])
    return Text(
        "there are {shops:,} shops ({names}); choose some by --shop or --tag, or all by --all",
        shops=len(shops),
        names=names if len(shops) <= MOST_NAMED else f"{names}, …",
    )
