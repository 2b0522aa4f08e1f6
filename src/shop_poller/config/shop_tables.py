"""Reads one table of [[shops]]: its settings, and the secrets that it refers to."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from shop_poller.config.loader import READ_TOKEN, read_secret
from shop_poller.config.settings import SECRETS, Settings
from shop_poller.config.tags import parse as parse_tags
from shop_poller.config.unknown_names import meant
from shop_poller.core.errors import text_of
from shop_poller.core.showing import shown
from shop_poller.core.translatable import Text, joined

VARIABLE = re.compile(r"(?!C[KS]_|WHSEC_)(?=.{1,64}$)[A-Z]+(_[A-Z]+)+(_?[0-9]{1,2})?")
"""A readable name; keys and passwords do not look like this."""
WAS_ALONE, TAGS = "was_alone", "tags"
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
FIELDS = {READ_TOKEN: "shop_read_token"}
"""The settings that keys of a table set, where the names differ."""
TABLE_SECRETS = (*SECRETS, READ_TOKEN)
OF_TABLES = (
    WAS_ALONE,
    TAGS,
    READ_TOKEN,
    *(f"{name}_{how}" for name in TABLE_SECRETS if name not in OF_ALL for how in ("file", "env")),
)
"""Keys of a table besides the settings."""


class ShopTable(NamedTuple):
    """The content of a table.

    Attributes:
        own: its settings, by name.
        tags: its tags; none if they have a problem.
        problems: one line per problem.
        unread: the secrets that it names and that cannot be read.
    """

    own: dict[str, Any]
    tags: tuple[str, ...]
    problems: list[str]
    unread: set[str]


def read_table(table: Mapping[str, Any], *, environ: Mapping[str, str], home: Path) -> ShopTable:
    """Read a table.

    Args:
        table: as TOML has it.
        environ: the variables that it may refer to.
        home: the directory for relative paths.
    """
    own: dict[str, Any] = {}
    unread: set[str] = set()
    tags, wrong_marks = _marks(table)
    problems = _given_twice(table) + wrong_marks
    for name, value in table.items():
        of, _, how = name.rpartition("_")
        if name in OF_ALL:
            problems.append(Text("{name}: is for all shops; write it above the first [[shops]]", name=name))
        elif name in Settings.model_fields or name == READ_TOKEN:
            own[FIELDS.get(name, name)] = value
        elif name in {WAS_ALONE, TAGS}:
            continue
        elif of in TABLE_SECRETS and of not in OF_ALL and how in {"file", "env"}:
            if not isinstance(value, str):
                problems.append(Text("{name}: should be text", name=name))
                continue
            try:
                secret = read_secret(Path(value), home) if how == "file" else _variable(value, environ)
                own[FIELDS.get(of, of)] = secret
            except ValueError as error:
                unread.add(FIELDS.get(of, of))
                problems.append(Text("{name}: {problem}", name=name, problem=text_of(error)))
        else:
            problems.append(_no_such_setting(name))
    return ShopTable(own, tags, problems, unread)


def _marks(table: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """Return the tags of a table, and the problems of what is no setting."""
    problems: list[str] = []
    if not isinstance(table.get(WAS_ALONE, False), bool):
        problems.append(Text("{name}: should be true or false", name=WAS_ALONE))
    try:
        return parse_tags(table.get(TAGS, [])), problems
    except ValueError as error:
        return (), [*problems, Text("{name}: {problem}", name=TAGS, problem=text_of(error))]


def _no_such_setting(name: str) -> str:
    named = shown(name, is_name=True)
    if right := meant(name, OF_TABLES):
        return Text("there is no setting {name} of a shop; did you mean {right}?", name=named, right=right)
    return Text("there is no setting {name} of a shop; docs/fleets.md lists them", name=named)


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
        if len(given) > 1 and name not in OF_ALL
    ]


def _variable(name: str, environ: Mapping[str, str]) -> str:
    """Return the value of a variable. Its name is shown only if it cannot be the secret itself."""
    if not environ.get(name, "").strip():
        now = Text(" (now: {value})", value=repr(name)) if VARIABLE.fullmatch(name) else ""
        raise ValueError(
            Text("should be the name of a variable of the environment that is set{now}", now=now)
        )
    return environ[name]
