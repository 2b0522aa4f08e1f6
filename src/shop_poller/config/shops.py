"""Reads which shops one process watches: the one of the variables, or those of [[shops]] in the TOML file.

Each of several shops has the same settings as a single one: its table overrides the common values.
Each shop stores its state in a place of its own, so shops cannot affect one another's state.
"""

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from shop_poller.config.loader import (
    READ_TOKEN,
    GatheredSettings,
    config_credential,
    gather,
    read_secret,
    validate,
)
from shop_poller.config.settings import SECRETS, Settings, SettingsError
from shop_poller.config.sinks import SinkParser
from shop_poller.config.tags import TAGS, problems_of_tags, tags_of
from shop_poller.core.errors import text_of
from shop_poller.core.showing import is_harmless, shown
from shop_poller.core.translatable import Text, joined

MAX_SHOPS = 10_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
"""An id that may be part of a file name and, since it has no colon, of a key."""
VARIABLE = re.compile(r"(?!C[KS]_|WHSEC_)(?=.{1,64}$)[A-Z]+(_[A-Z]+)+(_?[0-9]{1,2})?")
"""A readable name; keys and passwords do not look like this."""
CLUSTER = re.compile(r"\s*rediss?\+cluster:", re.IGNORECASE)
HASH_TAG = re.compile(r"\{([^{}]+)\}")
WAS_ALONE = "was_alone"
KEYS = (
    "woocommerce_consumer_key",
    "woocommerce_consumer_secret",
    "wordpress_username",
    "wordpress_application_password",
)
OF_ONE = ("shop_id", "woocommerce_mcp_url", *KEYS)
"""Settings of one shop: as common values, they would send one shop's keys to another."""
OF_ALL = (
    "redis_url",
    "shop_redis_prefix",
    "shop_state_url",
    "shop_http_listen",
    "shop_http_hosts",
    "shop_admin_token",
    "shop_read_token",
    "shop_concurrent_polls",
    "shop_labelled_shops",
    "shop_log_format",
    "shop_log_level",
)
NOT_YET = ("shop_webhook_secret",)
"""Settings that only exist without [[shops]]."""
FIELDS = {READ_TOKEN: "shop_read_token"}
"""The settings that keys of a table set, where the names differ."""
TABLE_SECRETS = (*SECRETS, READ_TOKEN)
MOST_NAMED = 10


@dataclass(frozen=True, slots=True)
class ShopsConfig:
    """The shops that one process watches.

    Attributes:
        shops: at least one, in the order of the file.
        prefix: prefix of the keys in Redis that no shop owns.
        from_tables: they are from [[shops]]; else there is one shop, from the variables.
        files: files that secrets, or all settings, were read from.
        tags: of the shops that have any, by the shop's id.
        read_token: the common SHOP_READ_TOKEN, which shows all shops; None if there is none.
    """

    shops: tuple[Settings, ...]
    prefix: str
    from_tables: bool
    files: tuple[Path, ...] = ()
    tags: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
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
    tags: dict[str, tuple[str, ...]] = {}
    if not found.shops:
        settings, wrong = validate(
            found.values, found.origins, needs_shop_keys=needs_shop_keys, parse_sink=parse_sink
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
        problems += _not_for_all(found)
        home = config.parent if config else Path()
        for number, table in enumerate(found.shops, 1):
            shop, wrong = _shop(
                table,
                found,
                environ=environ,
                home=home,
                needs_shop_keys=needs_shop_keys,
                parse_sink=parse_sink,
            )
            name = _may_be_named(table.get("shop_id")) if isinstance(table, dict) else ""
            problems += [
                Text("shop {shop}: {problem}", shop=name or number, problem=problem) for problem in wrong
            ]
            if shop:
                shops.append(shop)
                tags[shop.shop] = tags_of(table)
        problems += _twice(found.shops)
        problems += _reads_everything(shops, found)
        problems += _on_a_cluster(found)
    if problems:
        raise SettingsError(problems, found.locale)
    prefix = found.values.get("shop_redis_prefix") or Settings.model_fields["shop_redis_prefix"].default
    files = (*found.files, *_named_files(found.shops, config.parent if config else Path()))
    return ShopsConfig(
        tuple(shops),
        str(prefix),
        bool(found.shops),
        files,
        tags={shop_id: its for shop_id, its in tags.items() if its},
        read_token=str(found.values["shop_read_token"]) if found.values.get("shop_read_token") else None,
    )


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
    raise SettingsError(
        [
            Text(
                "--shop: there is no shop {shop_id}; there are: {there}",
                shop_id=shown(shop_id, is_name=True),
                there=there,
            )
        ]
    )


def _named_files(tables: Sequence[Any], home: Path) -> list[Path]:
    """Return the files that tables name for secrets."""
    names = [f"{name}_file" for name in TABLE_SECRETS]
    return [home / table[name] for table in tables for name in names if name in table]


def _not_for_all(found: GatheredSettings) -> list[str]:
    """Return the problems of common values that only one shop may have."""
    problems: list[str] = [
        Text(
            "{name}{origin}: is one shop's own; put it into its [[shops]] table",
            name=name.upper(),
            origin=found.origins[name],
        )
        for name in OF_ONE
        if found.values.get(name)
    ]
    return problems + [
        Text(
            "{name}{origin}: there is no such thing with [[shops]] yet; unset it",
            name=name.upper(),
            origin=found.origins[name],
        )
        for name in NOT_YET
        if found.values.get(name)
    ]


def _shop(
    table: Any,
    found: GatheredSettings,
    *,
    environ: Mapping[str, str],
    home: Path,
    needs_shop_keys: bool,
    parse_sink: SinkParser,
) -> tuple[Settings | None, list[str]]:
    if not isinstance(table, dict):
        return None, [Text("should be a table that begins with [[shops]]")]
    own, problems = _read_table(table, environ=environ, home=home)
    shop_id = own.get("shop_id")
    if not isinstance(shop_id, str) or not NAME.fullmatch(shop_id):
        problems.append(Text("SHOP_ID: should be up to 100 letters, digits, dots, dashes or underscores"))
        return None, problems
    origins = {name: origin for name, origin in found.origins.items() if name not in own}
    settings, wrong = validate(
        {**found.values, **own}, origins, needs_shop_keys=needs_shop_keys, parse_sink=parse_sink
    )
    if settings is not None and not table.get(WAS_ALONE):
        settings = settings.model_copy(update=_state_setting(settings))
    return settings, problems + wrong


def _may_be_named(shop_id: object) -> str:
    """Return the id of a shop, unless it may be one of its keys."""
    return shop_id if isinstance(shop_id, str) and is_harmless(shop_id, is_name=True) else ""


def _read_table(
    table: Mapping[str, Any], *, environ: Mapping[str, str], home: Path
) -> tuple[dict[str, Any], list[str]]:
    """Return the content of a table, with the secrets that it refers to."""
    own: dict[str, Any] = {}
    problems = _given_twice(table) + problems_of_tags(table.get(TAGS, []))
    for name, value in table.items():
        of, _, how = name.rpartition("_")
        if name in NOT_YET:
            problems.append(Text("{name}: there is no such thing with [[shops]] yet; take it out", name=name))
        elif name in OF_ALL:
            problems.append(Text("{name}: is for all shops; write it above the first [[shops]]", name=name))
        elif name in Settings.model_fields or name == READ_TOKEN:
            own[FIELDS.get(name, name)] = value
        elif name in {WAS_ALONE, TAGS}:
            if name == WAS_ALONE and not isinstance(value, bool):
                problems.append(Text("{name}: should be true or false", name=name))
        elif of in TABLE_SECRETS and of not in {*OF_ALL, *NOT_YET} and how in {"file", "env"}:
            if not isinstance(value, str):
                problems.append(Text("{name}: should be text", name=name))
                continue
            try:
                secret = read_secret(Path(value), home) if how == "file" else _variable(value, environ)
                own[FIELDS.get(of, of)] = secret
            except ValueError as error:
                problems.append(Text("{name}: {problem}", name=name, problem=text_of(error)))
        else:
            problems.append(
                Text(
                    "there is no setting {name} of a shop; docs/fleets.md lists them",
                    name=shown(name, is_name=True),
                )
            )
    return own, problems


def _given_twice(table: Mapping[str, Any]) -> list[str]:
    """Return the problems of secrets that a table contains in more than one way."""
    ways = {
        name: [way for way in (name, f"{name}_file", f"{name}_env") if way in table] for name in TABLE_SECRETS
    }
    return [
        Text(
            "{name}: is given {number} times, as {ways}; keep one",
            name=name,
            number=len(given),
            ways=joined(Text(" and "), given),
        )
        for name, given in ways.items()
        if len(given) > 1 and name not in {*OF_ALL, *NOT_YET}
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


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of a variable. Its name is shown only if it cannot be the secret itself."""
    if not environ.get(name, "").strip():
        now = Text(" (now: {value})", value=repr(name)) if VARIABLE.fullmatch(name) else ""
        raise ValueError(
            Text("should be the name of a variable of the environment that is set{now}", now=now)
        )
    return environ[name]


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
