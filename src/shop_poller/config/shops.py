"""Reads which shops one process watches: the one of the variables, or those of [[shops]] in the TOML file.

Each of several shops has the same settings as a single one: its table overrides the common values.
Each shop stores its state in a place of its own, so shops cannot affect one another's state.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from shop_poller.config.loader import READ_TOKEN, GatheredSettings, config_credential, gather, validate
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shop_tables import OF_ONE, TABLE_SECRETS, WAS_ALONE, read_table
from shop_poller.config.sinks import SinkParser
from shop_poller.core.showing import is_harmless, shown
from shop_poller.core.spelling import closest
from shop_poller.core.translatable import Text

MAX_SHOPS = 10_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""An id that may be part of a file name and, since it has no colon, of a key."""
CLUSTER = re.compile(r"\s*rediss?\+cluster:", re.IGNORECASE)
HASH_TAG = re.compile(r"\{([^{}]+)\}")
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class ShopsConfig:
    """The shops that one process watches.

    Attributes:
        shops: at least one, in the order of the file.
        prefix: prefix of the keys in Redis that no shop owns.
        from_tables: they are from [[shops]]; else there is one shop, from the variables.
        files: files that secrets, or all settings, were read from.
        ignored: variables that begin as ours do, and may be another program's.
        read_token: the common SHOP_READ_TOKEN, which shows all shops; None if there is none.
    """

    shops: tuple[Settings, ...]
    prefix: str
    from_tables: bool
    files: tuple[Path, ...] = ()
    ignored: tuple[str, ...] = ()
    read_token: str | None = None

    @classmethod
    def of_one(cls, settings: Settings) -> "ShopsConfig":
        """A shop that is the only one."""
        token = settings.shop_read_token
        return cls(
            (settings,),
            settings.shop_redis_prefix,
            from_tables=False,
            read_token=None if token is None else token.get_secret_value(),
        )

    @property
    def tenants(self) -> dict[str, frozenset[str]]:
        """The ids of the shops that each tenant's token shows, by the token."""
        found: dict[str, frozenset[str]] = {}
        for shop in self.shops:
            token = shop.shop_read_token and shop.shop_read_token.get_secret_value()
            if self.from_tables and token and token != self.read_token:
                found[token] = found.get(token, frozenset()) | {shop.shop}
        return found


def load_shops(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    dotenv: Path = Path(".env"),
    needs_shop_keys: bool = True,
    parse_sink: SinkParser,
) -> ShopsConfig:
    """Read the settings of every shop; for the arguments see `load`.

    Without a named file, the service's credential is read, if there is one.

    Raises:
        SettingsError: with every problem found.
    """
    config = config or config_credential(environ)
    found = gather(config, environ=environ, dotenv=dotenv)
    problems = list(found.problems)
    shops: list[Settings] = []
    if not found.shops:
        settings, wrong = validate(
            found.values,
            found.origins,
            needs_shop_keys=needs_shop_keys,
            parse_sink=parse_sink,
            may_be_missing=found.may_be_missing,
        )
        problems += wrong
        shops += [settings] if settings else []
    elif len(found.shops) > MAX_SHOPS:
        problems.append(
            Text(
                "{config}: has more than {most:,} shops; give some to another process",
                config=config,
                most=MAX_SHOPS,
            )
        )
    else:
        home = config.parent if config else Path()
        shops, wrong = _shops(found, home, needs_shop_keys=needs_shop_keys, parse_sink=parse_sink)
        problems += wrong
    if problems:
        raise SettingsError(problems, found.locale)
    prefix = found.values.get("shop_redis_prefix") or Settings.model_fields["shop_redis_prefix"].default
    files = (*found.files, *_named_files(found.shops, config.parent if config else Path()))
    return ShopsConfig(
        tuple(shops),
        str(prefix),
        bool(found.shops),
        files,
        tuple(found.ignored),
        read_token=str(found.values["shop_read_token"]) if found.values.get("shop_read_token") else None,
    )


def _shops(
    found: GatheredSettings, home: Path, *, needs_shop_keys: bool, parse_sink: SinkParser
) -> tuple[list[Settings], list[str]]:
    """Return the shops of the tables, and all problems that they have."""
    shops: list[Settings] = []
    problems = _not_for_all(found)
    by_problem: dict[str, list[str]] = {}
    for number, table in enumerate(found.shops, 1):
        shop, wrong = _shop(table, found, home=home, needs_shop_keys=needs_shop_keys, parse_sink=parse_sink)
        name = _may_be_named(table.get("shop_id")) if isinstance(table, dict) else ""
        for problem in wrong:
            by_problem.setdefault(problem, []).append(name or str(number))
        shops += [shop] if shop else []
    most = len(found.shops)
    problems += [_of_shops(problem, names, most) for problem, names in by_problem.items()]
    problems += _twice(found.shops) + _reads_everything(shops, found)
    return shops, problems + _on_a_cluster(found)


def choose(shops: Sequence[Settings], shop_id: str | None) -> Settings:
    """Return one of the shops.

    Args:
        shops: all shops.
        shop_id: the shop's id; None if there is only one shop.

    Raises:
        SettingsError: there are several shops, or none with that id.
    """
    if shop_id is None and len(shops) == 1:
        return shops[0]
    for one in shops:
        if one.shop == shop_id:
            return one
    names = ", ".join(one.shop for one in shops[:MOST_NAMED])
    there = (
        Text("{names}, …; `shop-poller shops list` names all", names=names)
        if len(shops) > MOST_NAMED
        else names
    )
    if shop_id is None:
        raise SettingsError(
            [
                Text(
                    "--shop: is missing, and there are {shops:,} shops: {there}",
                    shops=len(shops),
                    there=there,
                )
            ]
        )
    if near := closest(shop_id, [one.shop for one in shops]):
        raise SettingsError(
            [
                Text(
                    "--shop: there is no shop {shop_id}; did you mean {near}?",
                    shop_id=shown(shop_id, is_name=True),
                    near=near,
                )
            ]
        )
    raise SettingsError(
        [
            Text(
                "--shop: there is no shop {shop_id}; there are: {there}",
                shop_id=shown(shop_id, is_name=True),
                there=there,
            )
        ]
    )


def shared_addresses(shops: Sequence[Settings]) -> list[str]:
    """Return one line per address that several shops have: perhaps a table was copied, and not changed."""
    by_address: dict[str, list[str]] = {}
    for shop in shops:
        by_address.setdefault(shop.woocommerce_mcp_url.lower().rstrip("/"), []).append(shop.shop)
    return [
        Text(
            "{shops} have the same WOOCOMMERCE_MCP_URL, so each order is announced for each of them",
            shops=", ".join(names[:MOST_NAMED]) + (", …" if len(names) > MOST_NAMED else ""),
        )
        for names in by_address.values()
        if len(names) > 1
    ]


def _reads_everything(shops: Sequence[Settings], found: GatheredSettings) -> list[str]:
    """Return the problems of tenants' tokens that are also the token of all shops."""
    of_all = str(found.values.get("shop_read_token") or "")
    names = {READ_TOKEN, f"{READ_TOKEN}_file", f"{READ_TOKEN}_env"}
    tenants = {
        table.get("shop_id") for table in found.shops if isinstance(table, dict) and names & table.keys()
    }
    return [
        Text("shop {shop}: read_token: is the same as SHOP_READ_TOKEN, which shows all shops", shop=shop.shop)
        for shop in shops
        if shop.shop in tenants and shop.shop_read_token and shop.shop_read_token.get_secret_value() == of_all
    ]


def _named_files(tables: Sequence[Any], home: Path) -> list[Path]:
    """Return the files that tables name for secrets."""
    names = [f"{name}_file" for name in TABLE_SECRETS]
    return [home / table[name] for table in tables for name in names if name in table]


def _not_for_all(found: GatheredSettings) -> list[str]:
    """Return the problems of common values that only one shop may have."""
    return [
        Text(
            "{name}{origin}: is one shop's own; put it into its [[shops]] table",
            name=name.upper(),
            origin=found.origins[name],
        )
        for name in OF_ONE
        if found.values.get(name)
    ]


def _shop(
    table: Any,
    found: GatheredSettings,
    *,
    home: Path,
    needs_shop_keys: bool,
    parse_sink: SinkParser,
) -> tuple[Settings | None, list[str]]:
    if not isinstance(table, dict):
        return None, [Text("should be a table that begins with [[shops]]")]
    own, tags, problems, unread = read_table(table, environ=found.variables, home=home)
    shop_id = own.get("shop_id")
    if shop_id is None:
        problems.append(Text("SHOP_ID: is missing; each table of [[shops]] needs its own shop_id"))
        return None, problems
    if not isinstance(shop_id, str) or not NAME.fullmatch(shop_id):
        problems.append(Text("SHOP_ID: should be up to 100 letters, digits, dots, dashes or underscores"))
        return None, problems
    origins = {name: origin for name, origin in found.origins.items() if name not in own}
    settings, wrong = validate(
        {**found.values, **own},
        origins,
        needs_shop_keys=needs_shop_keys,
        parse_sink=parse_sink,
        may_be_missing=unread,
    )
    if settings is not None and not table.get(WAS_ALONE):
        settings = settings.model_copy(update=_state_setting(settings))
    return settings.with_tags(tags) if settings else None, problems + wrong


def _of_shops(problem: str, names: Sequence[str], most: int) -> str:
    """Return the line of a problem that one, some or all of the shops have."""
    if len(names) == 1:
        return Text("shop {shop}: {problem}", shop=names[0], problem=problem)
    if len(names) == most:
        return Text("every shop: {problem}", problem=problem)
    more = ", …" if len(names) > MOST_NAMED else ""
    return Text("shops {shops}: {problem}", shops=", ".join(names[:MOST_NAMED]) + more, problem=problem)


def _may_be_named(shop_id: object) -> str:
    """Return the id of a shop, unless it may be one of its keys."""
    return shop_id if isinstance(shop_id, str) and is_harmless(shop_id, is_name=True) else ""


def _state_setting(settings: Settings) -> dict[str, Any]:
    """Return where the state of one of several shops is stored."""
    if isinstance(settings.state, Path):
        return {"shop_state_url": SecretStr(f"sqlite:///{file_apart(settings.state, settings.shop)}")}
    return {"shop_redis_prefix": keys_apart(settings.shop_redis_prefix, settings.shop)}


def _twice(tables: Sequence[Any]) -> list[str]:
    """Return the problems of values that two shops share but may not."""
    tables = [table for table in tables if isinstance(table, dict)]
    # On some systems, file names that differ only in case are the same.
    ids = Counter(str(table.get("shop_id", "")).lower() for table in tables)
    twice = [name for name in sorted(ids) if name and ids[name] > 1]
    problems: list[str] = [
        Text("shop {shop}: two have this id", shop=named)
        if (named := _may_be_named(name))
        else Text("shop ids: two have this id")
        for name in twice
    ]
    if sum(table.get(WAS_ALONE) is True for table in tables) > 1:
        problems.append(Text("{was_alone}: only one shop can have been the only one", was_alone=WAS_ALONE))
    return problems


def _on_a_cluster(found: GatheredSettings) -> list[str]:
    """Refuse several shops with their state in a Redis Cluster; docs/decisions/0017 explains it."""
    given = [name for name in ("shop_state_url", "redis_url") if str(found.values.get(name) or "").strip()]
    if len(found.shops) == 1 or not given or not CLUSTER.match(str(found.values[given[0]])):
        return []
    origin = found.origins[given[0]]
    return [
        Text(
            "{given}{origin}: a Redis Cluster is for one shop only, since one node that hangs "
            "would stop all shops; use one server (redis://) or Sentinel (redis+sentinel://)",
            given=given[0].upper(),
            origin=origin,
        )
    ]


def keys_apart(prefix: str, shop_id: str) -> str:
    """The prefix of the Redis keys of one of several shops. No shop's prefix begins with that of another.

    On a Cluster each shop has a hash tag of its own, and so a slot: shops spread over the nodes.

    Args:
        prefix: of all keys.
        shop_id: has neither colon nor braces in it.
    """
    if HASH_TAG.search(prefix):
        return HASH_TAG.sub(rf"{{\1:{shop_id}}}", prefix, count=1)
    return f"{prefix}shops:{shop_id}:"


def file_apart(path: Path, shop_id: str) -> Path:
    """Return the state file of one shop, in a directory beside the file of a single shop.

    Args:
        path: the file of a single shop, e.g. state/shop-poller.db.
        shop_id: valid as a part of a file name.
    """
    return path.with_name(f"{path.name}.shops") / f"{shop_id}.db"
