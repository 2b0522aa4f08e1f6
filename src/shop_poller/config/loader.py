"""Reads settings: defaults < file (--config, or a credential) < .env < environment < secret files.

All problems are reported together.
"""

import os
import tomllib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from pydantic import ValidationError

from shop_poller.config.pydantic_errors import problem_of
from shop_poller.config.settings import SECRETS, Settings, SettingsError
from shop_poller.config.sinks import SinkConfig, SinkParser
from shop_poller.config.unknown_names import (
    credential_problems,
    judge_environment,
    read_dotenv,
    referred_variables,
    toml_problems,
)
from shop_poller.core.errors import text_of
from shop_poller.core.filters import Filter
from shop_poller.core.filters import problems as filter_problems
from shop_poller.core.known_lines import known
from shop_poller.core.messages import Locale
from shop_poller.core.model import EventType
from shop_poller.core.showing import before_colon, is_harmless, shown, shown_place
from shop_poller.core.translatable import Text

MAX_FILE_BYTES = 64 * 1024
CONFIG_CREDENTIAL = "shops.toml"
"""The name of the systemd credential with the TOML file, which is read without --config."""
READ_TOKEN = "read_token"  # noqa: S105 - the name of a key
"""The key of a shop's table with the token that shows this shop only, in place of SHOP_READ_TOKEN."""

MISSING = {
    "woocommerce_mcp_url": Text("is missing; set it to https://your-shop/wp-json/woocommerce/mcp"),
    "woocommerce_consumer_key": Text(
        "is missing; make one under WooCommerce → Settings → Advanced → REST API"
    ),
    "woocommerce_consumer_secret": Text("is missing; it was shown once when the key was made"),
    "wordpress_username": Text("is missing; set it to the user whose application password it is"),
    "wordpress_application_password": Text(
        "is missing; make one under Users → Profile → Application Passwords"
    ),
}


@dataclass(frozen=True, slots=True)
class GatheredSettings:
    """Settings as found, not yet validated.

    Attributes:
        values: by the name of the setting.
        origins: the origin of each value, for messages.
        shops: the tables [[shops]] of the file.
        problems: one line for each thing that could not be read.
        files: files that secrets, or all settings, were read from.
        ignored: variables that begin as ours do, and may be another program's.
        variables: those of .env and the environment.
        may_be_missing: all settings, if the file that was named could not be read.
    """

    values: dict[str, Any]
    origins: dict[str, str]
    shops: list[Any]
    problems: list[str]
    files: list[Path] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    variables: Mapping[str, str] = field(default_factory=dict)
    may_be_missing: Collection[str] = ()

    @property
    def locale(self) -> Locale | None:
        """The language that they name, if it is one: their errors are shown in it."""
        return next((known for known in get_args(Locale) if known == self.values.get("shop_locale")), None)


def load(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
    dotenv: Path = Path(".env"),
    needs_shop_keys: bool = True,
    parse_sink: SinkParser,
) -> Settings:
    """Read the settings of one shop. For several shops see shops.load_shops.

    Args:
        config: a TOML file whose keys are the variables' names in lower case.
        environ: the environment.
        dotenv: a file of NAME=value lines, if it exists.
        needs_shop_keys: the shop's keys are required.
        parse_sink: parses an address of SHOP_NOTIFY_URLS.

    Raises:
        SettingsError: with every problem found.
    """
    found = gather(config, environ=environ, dotenv=dotenv)
    settings, problems = validate(
        found.values,
        found.origins,
        needs_shop_keys=needs_shop_keys,
        parse_sink=parse_sink,
        may_be_missing=found.may_be_missing,
    )
    if settings is None or found.problems or problems:
        raise SettingsError([*found.problems, *problems], found.locale)
    return settings


def config_credential(environ: Mapping[str, str]) -> Path | None:
    """Return the TOML file that systemd passes to the service; None if there is none.

    The installed unit passes an empty file by default.
    """
    directory = environ.get("CREDENTIALS_DIRECTORY")
    path = Path(directory, CONFIG_CREDENTIAL) if directory else None
    return path if path and path.is_file() else None


def gather(config: Path | None, *, environ: Mapping[str, str], dotenv: Path) -> GatheredSettings:
    """Read all sources of settings; for the arguments see `load`."""
    problems: list[str] = []
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    shops: list[Any] = []
    files: list[Path] = []

    def take(found: Mapping[str, Any], origin: str) -> None:
        for name, value in found.items():
            if name.lower() in Settings.model_fields and value is not None:
                values[name.lower()] = value
                origins[name.lower()] = origin

    may_be_missing: Collection[str] = ()
    if config is not None:
        written = _toml(config, problems)
        may_be_missing = Settings.model_fields if problems else ()
        tables = written.pop("shops", [])
        if isinstance(tables, list):
            shops = tables
        else:
            problems.append(
                Text("{config}: write [[shops]], with two brackets, before each shop", config=config)
            )
        problems += toml_problems(written, config)
        take(written, Text(" (from {config})", config=config))
        if _has_secrets([written, *shops]):
            files.append(config)
    referred, local = referred_variables(shops), dict[str, str | None]()
    try:
        if dotenv.is_file():
            local, wrong = read_dotenv(dotenv, referred)
            problems += wrong
        files += [dotenv] if local else []
    except (OSError, ValueError) as error:
        problems.append(Text("{dotenv}: cannot be read: {error}", dotenv=dotenv, error=known(str(error))))
    misspelled, ignored = judge_environment(environ, referred)
    problems += misspelled
    problems += credential_problems(environ.get("CREDENTIALS_DIRECTORY", ""))
    take(local, Text(" (from {dotenv})", dotenv=dotenv))
    take(environ, "")
    take(_secret_files({**local, **environ}, problems, files), Text(" (from its file)"))
    variables = {name: value for name, value in {**local, **environ}.items() if value is not None}
    return GatheredSettings(
        values, origins, shops, problems, files, ignored, variables=variables, may_be_missing=may_be_missing
    )


def validate(
    values: Mapping[str, Any],
    origins: Mapping[str, str],
    *,
    needs_shop_keys: bool,
    parse_sink: SinkParser,
    may_be_missing: Collection[str] = (),
) -> tuple[Settings | None, list[str]]:
    """Validate values, and make settings of them.

    Args:
        values: as found.
        origins: the origin of each.
        needs_shop_keys: the shop's keys are required.
        parse_sink: parses an address of SHOP_NOTIFY_URLS.
        may_be_missing: settings that are in a place that could not be read; they are not reported.
    """
    problems: list[str] = []
    settings: Settings | None = None
    # An empty value means the default, as in compose files and units, except for SHOP_HTTP_LISTEN: off.
    values = {name: "" if str(value).isspace() else value for name, value in values.items()}
    values = {name: v for name, v in values.items() if v != "" or name == "shop_http_listen"}
    missing = _missing_credentials(values) if needs_shop_keys else []
    found: list[tuple[str, str]] = [(name, _missing(name)) for name in missing if name not in may_be_missing]
    try:
        settings = Settings.of(values, parse_sink=parse_sink)
    except ValidationError as error:
        secrets = [str(values[name]) for name in SECRETS if name in values]
        details = error.errors(include_url=False)
        found += [
            (str(detail["loc"][0]), _problem(detail, origins, secrets))
            for detail in details
            if detail["type"] != "missing" or detail["loc"][0] not in may_be_missing
        ]
    else:
        problems += _contradictions(settings, needs_shop_keys=needs_shop_keys)
    order = list(Settings.model_fields)
    problems += [problem for _, problem in sorted(found, key=lambda one: order.index(one[0]))]
    return settings, problems


def _missing_credentials(values: Mapping[str, Any]) -> list[str]:
    """Return the credentials that the chosen dialect needs and that are missing."""
    keys = ("woocommerce_consumer_key", "woocommerce_consumer_secret")
    password = ("wordpress_username", "wordpress_application_password")
    needed = {"abilities": [password], "auto": [keys, password]}.get(
        str(values.get("shop_dialect", "auto")), [keys]
    )
    missing = [[name for name in pair if name not in values] for pair in needed]
    halves = [names for names, pair in zip(missing, needed, strict=True) if 0 < len(names) < len(pair)]
    if halves or [] in missing:  # `auto` accepts either pair of keys, but not half a pair
        return [name for names in halves for name in names]
    return missing[0]


def _contradictions(settings: Settings, *, needs_shop_keys: bool) -> list[str]:
    """Return the problems of settings that are valid one by one."""
    found: list[str] = []
    if any(sink.name == settings.shop for sink in settings.sinks):  # their alerts could not be distinguished
        found.append(Text("SHOP_NOTIFY_URLS: a sink is named like the shop; give it another #name"))
    events, levels = (set(names) for names in zip(*settings.events, strict=True))
    for sink, with_all in zip(settings.shop_notify_urls, settings.sinks, strict=True):
        name = before_colon(shown_place(sink.name))
        in_address = [
            problem
            for wanted in (sink.options.filter, Filter(levels=sink.options.urgent))
            for problem in filter_problems(wanted, events=events, levels=levels)
        ]
        found += [
            Text("SHOP_NOTIFY_URLS: {name}: {problem}", name=name, problem=problem) for problem in in_address
        ]
        found += [
            Text("SHOP_SINK_OPTIONS: {name}: {problem}", name=name, problem=problem)
            for problem in filter_problems(with_all.options.filter, events=events, levels=levels)
            if problem not in in_address
        ]
        found += _digest_problem(with_all)
    if settings.shop_pending_payment_threshold >= 24 * settings.shop_state_retention_days:
        found.append(
            Text(
                "SHOP_PENDING_PAYMENT_THRESHOLD: should be less than SHOP_STATE_RETENTION_DAYS, "
                "after which an order is forgotten"
            )
        )
    if settings.shop_pending_payment_threshold and not settings.shop_sweep_interval:
        found.append(
            Text(
                "SHOP_PENDING_PAYMENT_THRESHOLD: needs the sweep, which looks at open orders again; "
                "set SHOP_SWEEP_INTERVAL"
            )
        )
    blind = settings.shop_dialect == "abilities" or not settings.has_consumer_key
    if needs_shop_keys and blind and not settings.shop_sweep_interval:
        found.append(
            Text(
                "SHOP_SWEEP_INTERVAL: the dialect abilities needs the sweep, which alone looks "
                "whether an order that was set aside can be shown again; unset it, or use another "
                "dialect"
            )
        )
    return found


def _digest_problem(sink: SinkConfig) -> list[str]:
    """Return a line if a sink names the digest, and would never receive one."""
    if sink.options.digest is not None or EventType.DIGEST not in sink.options.filter.events:
        return []
    return [
        Text(
            "SHOP_NOTIFY_URLS: {sink}: events= names shop.digest; say when: add digest=daily@09:00 or"
            " digest=weekly:mon@09:00",
            sink=before_colon(shown_place(sink.name)),
        )
    ]


def _toml(path: Path, problems: list[str]) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        detail = known(error.strerror or "") if isinstance(error, OSError) else known(str(error))
        is_path = path.suffix == ".toml" or path.exists()
        may_be_path = is_path or all(is_harmless(part, is_name=True) for part in path.parts)
        where = path if may_be_path else Text("the file of --config")
        problems.append(Text("{where}: cannot be read as TOML: {detail}", where=where, detail=detail))
        return {}
    return values


def _has_secrets(tables: Iterable[Any]) -> bool:
    """Return whether one of these tables contains a secret itself, not a reference to one."""
    return any(
        isinstance(table, dict) and not table.keys().isdisjoint({*SECRETS, READ_TOKEN}) for table in tables
    )


def _secret_files(
    environ: Mapping[str, str | None], problems: list[str], files: list[Path]
) -> dict[str, str]:
    found: dict[str, str] = {}
    credentials = environ.get("CREDENTIALS_DIRECTORY")
    for name in SECRETS:
        variable = f"{name.upper()}_FILE"
        path = Path(environ.get(variable) or "")
        if not environ.get(variable):
            if not credentials:
                continue
            variable, path = "CREDENTIALS_DIRECTORY", Path(credentials, name.upper())
        is_credential = variable == "CREDENTIALS_DIRECTORY"
        try:
            found[name] = read_secret(path, may_be_blank=is_credential)  # blank is the unit's default
            files.append(path)
        except ValueError as error:
            if is_credential and isinstance(error.__cause__, FileNotFoundError):
                continue  # a secret need not be a credential
            problems.append(Text("{name}: {problem}", name=variable, problem=text_of(error)))
    return found


def read_secret(path: Path, home: Path = Path(), *, may_be_blank: bool = False) -> str:
    """Return the content of a file with one secret.

    Args:
        path: the file.
        home: the directory for relative paths.
        may_be_blank: the file may be empty.

    Raises:
        ValueError: with the problem in one line; without the path if it may be the secret itself.
    """
    where = (
        path if path.is_absolute() else Text("a file of that name in {directory}", directory=home.absolute())
    )
    try:
        with (home / path).open("rb") as file:
            secret = file.read(MAX_FILE_BYTES).decode().strip()
    except (OSError, ValueError) as error:
        detail = known(error.strerror or "") if isinstance(error, OSError) else Text("it is not text")
        raise ValueError(Text("cannot read {where}: {detail}", where=where, detail=detail)) from error
    if not secret and not may_be_blank:
        raise ValueError(
            Text("there is nothing in {path}; put the secret into it, or do not name it", path=path)
        )
    return secret


def _problem(detail: Any, origins: Mapping[str, str], secrets: Iterable[str]) -> str:
    name = str(detail["loc"][0])
    if detail["type"] == "missing":
        return _missing(name)
    value = str(detail["input"])
    # An address may contain a password or keys, and a secret may be in the wrong variable.
    hidden = name in {*SECRETS, "woocommerce_mcp_url"} or "@" in value or any(s in value for s in secrets)
    now = "" if hidden else Text(" (now: {value})", value=shown(detail["input"]))
    return Text(
        "{name}{origin}: {problem}{now}",
        name=name.upper(),
        origin=origins.get(name, ""),
        problem=problem_of(detail),
        now=now,
    )


def _missing(name: str) -> str:
    return Text("{name}: {problem}", name=name.upper(), problem=MISSING[name])
