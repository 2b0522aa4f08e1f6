"""Every setting: its name, default, bounds and meaning. docs/configuration.md is made from this file."""

import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from shop_poller.config.addresses import (
    HTTP,
    NO_CHARACTER,
    ascii_address,
    parse_listen,
    secrets_in,
    split,
)
from shop_poller.config.redis_address import RedisAddress, Topology, parse_redis
from shop_poller.config.sink_options import parse as parse_sink_options
from shop_poller.config.sink_options import with_options
from shop_poller.config.sinks import SinkConfig, SinkParser, parse_sinks
from shop_poller.config.status_events import parse as parse_status_events
from shop_poller.config.statuses import UNPAID
from shop_poller.config.templates import TemplateSource
from shop_poller.config.templates import parse as parse_templates
from shop_poller.core.hosts import is_loopback
from shop_poller.core.messages import LEVELS, Locale
from shop_poller.core.model import BuyerField, StatusEvent
from shop_poller.core.plain_text import plain
from shop_poller.core.showing import shown
from shop_poller.core.signature import signing_keys
from shop_poller.core.translatable import Text

HASH_TAG = re.compile(r"\{[^{}]+\}")
MIN_WEBHOOK_SECRET = 8
MIN_ADMIN_TOKEN = 16
HEADER_TOKEN = re.compile(rf"[!-~]{{{MIN_ADMIN_TOKEN},200}}")
HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?")
REDIS = frozenset({"redis", "rediss"})
REDIS_SINK = "{}?channel=notification:events"
"""The sink where REDIS_URL is set and no other is named."""
CONSOLE_SINK = "console:"
"""The sink where nothing is named."""
SINK_PARSER = "parse_sink"
SHOP_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,99}")
SQLITE = re.compile(r"sqlite:(//)?/", re.IGNORECASE)
OTHER_KEY = {
    "woocommerce_consumer_key": ("cs_", "WOOCOMMERCE_CONSUMER_SECRET"),
    "woocommerce_consumer_secret": ("ck_", "WOOCOMMERCE_CONSUMER_KEY"),
}
"""How WooCommerce begins the other one of the two."""
HEADER_SAFE = re.compile(r"[\x21-\x39\x3b-\x7e]{1,200}")  # visible ASCII, no colon: it separates the two keys


class SettingsError(Exception):
    """Some settings are wrong.

    Attributes:
        problems: one line per problem: the variable, what is wrong, what to do; no secrets.
        locale: the language that the settings name; None if it is not known.
    """

    def __init__(self, problems: Sequence[str], locale: Locale | None = None) -> None:
        super().__init__("; ".join(problems))
        self.problems = list(problems)
        self.locale = locale


def _words(value: object) -> object:
    """Split a list at spaces or commas."""
    return tuple(re.findall(r"[^\s,]+", value)) if isinstance(value, str) else value


def _sinks(value: object, info: ValidationInfo) -> object:
    if value is None:
        redis = info.data.get("redis_url")
        value = CONSOLE_SINK if redis is None else REDIS_SINK.format(redis.get_secret_value())
    if not isinstance(value, str):
        raise ValueError(Text("should be addresses with spaces between"))  # noqa: TRY004 - pydantic collects ValueErrors
    return parse_sinks(value, _sink_parser(info))


def _sink_parser(info: ValidationInfo) -> SinkParser:
    parser: SinkParser = (info.context or {})[SINK_PARSER]
    return parser


def _listen(value: object) -> object:
    if not isinstance(value, str):
        raise ValueError(Text("should be text, e.g. 127.0.0.1:9108"))  # noqa: TRY004 - as above
    return parse_listen(value)


def _levels(value: object) -> object:
    try:
        levels = json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        levels = None
    if not isinstance(levels, dict) or not all(isinstance(to, str) and to for to in levels.values()):
        raise ValueError(Text('should be JSON such as {{"error": "critical"}}'))
    unknown = sorted(set(levels) - set(LEVELS.values()))
    if unknown:
        name = shown(unknown[0], is_name=True)
        raise ValueError(
            Text(
                "there is no level {name}; there are {levels}",
                name=name,
                levels=", ".join(sorted(set(LEVELS.values()))),
            )
        )
    return levels


def _key(value: SecretStr, info: ValidationInfo) -> SecretStr:
    wrong, other = OTHER_KEY[str(info.field_name)]
    if value.get_secret_value().startswith(wrong):
        raise ValueError(
            Text("begins with {wrong}, like a {other}; are key and secret swapped?", wrong=wrong, other=other)
        )
    if not HEADER_SAFE.fullmatch(value.get_secret_value()):
        raise ValueError(
            Text("should be letters, digits and underscores only; was a space or line copied with it?")
        )
    return value


def _username(value: str) -> str:
    if ":" in value or not value.isprintable() or not value.isascii() or len(value) > 100:
        raise ValueError(Text("should be the name that the user signs in with, without a colon"))
    return value


def _password(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if not text.isprintable() or not text.isascii():
        raise ValueError(Text("should be 24 letters and digits, in groups of four; copy it once more"))
    return value


def _signing_key(value: SecretStr) -> SecretStr:
    signing_keys(value.get_secret_value())
    return value


def _webhook_secret(value: SecretStr, info: ValidationInfo) -> SecretStr:
    if value.get_secret_value() != value.get_secret_value().strip():
        raise ValueError(Text("has blanks around it; WooCommerce would sign with another one"))
    if len(value.get_secret_value()) < MIN_WEBHOOK_SECRET:
        raise ValueError(
            Text(
                "should have at least {least} characters, or anybody might guess it",
                least=MIN_WEBHOOK_SECRET,
            )
        )
    if info.data.get("shop_http_listen", "wrong") is None:
        raise ValueError(
            Text("needs the listener, which an empty SHOP_HTTP_LISTEN turns off; unset one of them")
        )
    return value


def _admin_token(value: SecretStr, info: ValidationInfo) -> SecretStr:
    text = value.get_secret_value()
    if not HEADER_TOKEN.fullmatch(text):
        raise ValueError(
            Text(
                "should be {least} to 200 letters, digits and signs without blanks; make "
                "one with: openssl rand -hex 24",
                least=MIN_ADMIN_TOKEN,
            )
        )
    if info.data.get("shop_http_listen", "wrong") is None:
        raise ValueError(
            Text("needs the listener, which an empty SHOP_HTTP_LISTEN turns off; unset one of them")
        )
    return value


def _read_token(value: SecretStr, info: ValidationInfo) -> SecretStr:
    _admin_token(value, info)  # the same rules
    admin_token = info.data.get("shop_admin_token")
    if admin_token is not None and admin_token.get_secret_value() == value.get_secret_value():
        raise ValueError(Text("is the same as SHOP_ADMIN_TOKEN, so readers could act; make another one"))
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value or "UTC")
    except (ValueError, OSError, LookupError):
        raise ValueError(Text("is no time zone; write it as Europe/Moscow or Asia/Almaty")) from None
    return value


def _buyer_fields(value: tuple[str, ...]) -> tuple[str, ...]:
    unknown = [word for word in value if word not in list(BuyerField)]
    if unknown:
        # Several words may be a secret in parts, so they are judged together.
        raise ValueError(
            Text(
                "has {unknown}; there are {fields}",
                unknown=shown(" ".join(unknown), is_name=True),
                fields=", ".join(BuyerField),
            )
        )
    return value


def _hosts(value: tuple[str, ...]) -> tuple[str, ...]:
    for host in value:
        if not HOST_NAME.fullmatch(host):
            raise ValueError(Text("should be names such as poller.example, without port and https://"))
    return value


def _no_more_than_a_year(value: float) -> float:
    if value > 366 * 24:
        raise ValueError(Text("should be a year at most"))
    return value


Hours = Annotated[float, AfterValidator(_no_more_than_a_year)]
Words = Annotated[tuple[str, ...], BeforeValidator(_words)]
Key = Annotated[SecretStr, AfterValidator(_key)]


class Settings(BaseModel):
    """All settings, by their variables' names in lower case."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)

    shop_allow_insecure: bool = Field(
        default=False, description="allow plain http, with the keys, to a host other than this machine"
    )
    woocommerce_mcp_url: str = Field(
        description="the shop's MCP address, e.g. https://shop.example/wp-json/woocommerce/mcp, or its own;"
        " [other forms](dialects.md#what-to-write-into-woocommerce_mcp_url)"
    )
    woocommerce_consumer_key: Key | None = Field(
        None, description="created under WooCommerce → Settings → Advanced → REST API; *Read* is enough"
    )
    woocommerce_consumer_secret: Key | None = Field(None, description="shown once when the key is made")
    wordpress_username: Annotated[str, AfterValidator(_username)] | None = Field(
        None, description="the user of the application password; both are only for the dialect `abilities`"
    )
    wordpress_application_password: Annotated[SecretStr, AfterValidator(_password)] | None = Field(
        None, description="created under Users → Profile → Application Passwords"
    )
    shop_id: str = Field(
        "",
        description="part of every key, label and event id; default: the host of the shop's URL (non-ASCII"
        " hosts as xn--…)",
    )
    shop_dialect: Literal["auto", "woocommerce-mcp", "abilities", "rest", "execute"] = Field(
        "auto", description="how the shop is polled: docs/dialects.md"
    )
    shop_polling_enabled: bool = Field(
        default=True, description="false: do not poll, only deliver what is in the outbox"
    )
    shop_polling_interval: float = Field(60, ge=1, le=86_400, description="seconds between ticks")
    redis_url: SecretStr | None = Field(
        None, description="Redis of the Celery design; if set, the default of the next two"
    )
    shop_redis_prefix: str = Field(
        "shop:polling:",
        min_length=1,
        max_length=100,
        pattern=r"^[!-~]+$",
        description="prefix of every key in Redis; on a Cluster it must contain a {hash tag}",
    )
    shop_state_url: SecretStr | None = Field(
        None,
        validate_default=True,
        description="where state is stored: sqlite:////path, redis(s)://host:6379/0, redis+sentinel://host:26379/master/0,"
        " redis+cluster://host:6379; default: REDIS_URL if set, else shop-poller.db in the state directory",
    )
    shop_notify_urls: Annotated[tuple[InstanceOf[SinkConfig], ...], BeforeValidator(_sinks)] = Field(
        None, validate_default=True, description="sinks, separated by spaces; default: console:"
    )
    shop_sink_options: Annotated[dict[str, dict[str, str]], BeforeValidator(parse_sink_options)] = Field(
        {},
        description="JSON: options of sinks by their names, instead of in their addresses; see"
        " [who gets which](notifications.md#who-gets-which)",
    )
    shop_notify_secret: Annotated[SecretStr, AfterValidator(_signing_key)] | None = Field(
        None,
        description="key for Standard Webhooks signatures to http(s) sinks, whsec_…; two keys, separated by a"
        " space, while you [change it](notifications.md#changing-the-secret)",
    )
    shop_http_listen: Annotated[tuple[str, int] | None, BeforeValidator(_listen)] = Field(
        "127.0.0.1:9108",
        validate_default=True,
        description="address of the [status page](operations.md#the-status-page), /metrics, /healthz, /livez,"
        " /readyz; empty turns them off",
    )
    shop_http_hosts: Annotated[Words, AfterValidator(_hosts)] = Field(
        (),
        description="host names, besides localhost and addresses, under which the status page answers",
    )
    shop_admin_token: Annotated[SecretStr, AfterValidator(_admin_token)] | None = Field(
        None,
        description="token for the actions of the status page and for `shop-poller poll now`; enables the"
        " [actions](operations.md#actions)",
    )
    shop_read_token: Annotated[SecretStr, AfterValidator(_read_token)] | None = Field(
        None,
        description="token without which the status page shows nothing; see"
        " [who may read](operations.md#who-may-read)",
    )
    shop_webhook_secret: Annotated[SecretStr, AfterValidator(_webhook_secret)] | None = Field(
        None,
        description="Secret of the shop's [webhooks](hints.md); enables /hooks/woocommerce and"
        " /hooks/woocommerce/SHOP_ID, which trigger a poll at once; with several shops one secret each",
    )
    shop_concurrent_polls: int = Field(
        100, ge=1, le=10_000, description="how many of [several shops](fleets.md) are polled at the same time"
    )
    shop_labelled_shops: int = Field(
        50,
        ge=0,
        le=10_000,
        description="with more shops than this, [metrics are summed](fleets.md#metrics) over all shops",
    )
    shop_senders: int = Field(8, ge=1, le=100, description="concurrent senders of each sink")
    shop_queue_size: int = Field(1000, ge=1, le=100_000, description="bound of each sink's in-process queue")
    shop_initial_lookback: int = Field(
        3600,
        ge=0,
        le=30 * 86_400,
        description="seconds before the first start from which orders are announced",
    )
    shop_cursor_overlap: int = Field(
        120,
        ge=1,
        le=86_400,
        description="seconds before the newest change that each poll reads again",
    )
    shop_clock_skew: int = Field(
        900, ge=0, le=86_400, description="seconds that the shop's timestamps may lag behind its Date header"
    )
    shop_sweep_interval: float = Field(
        3600,
        ge=0,
        le=30 * 86_400,
        description="seconds between sweeps, which find what polling cannot see; 0: off",
    )
    shop_sweep_window: float = Field(
        48, gt=0, le=30 * 24, description="hours: a sweep reads all orders created within this time"
    )
    shop_state_retention_days: int = Field(
        90, ge=7, le=3660, description="days that an order is stored after its last change"
    )
    shop_history_days: int = Field(
        30,
        ge=1,
        le=3660,
        description="days that finished deliveries are stored, at most 10,000 per sink",
    )
    shop_delivery_max_age_hours: Hours = Field(
        72, gt=0, description="hours after which an undelivered notification becomes a dead letter"
    )
    shop_locale: Locale = Field("ru", description="language of notifications, and of what commands print")
    shop_name: str = Field(
        "", max_length=100, description="the shop's name for people, if there are several; default: SHOP_ID"
    )
    shop_timezone: Annotated[str, AfterValidator(_timezone)] = Field(
        "",
        description="time zone of the times in messages, and of"
        " [quiet hours](notifications.md#quiet-hours-and-groups) and [digests](notifications.md#digests),"
        " e.g. Europe/Moscow; default: that of this"
        " machine",
    )
    shop_buyer_fields: Annotated[Words, AfterValidator(_buyer_fields)] = Field(
        (),
        description="what notifications say about the buyer besides the first name: last_name, phone, email,"
        " address, note; see [personal data](notifications.md#personal-data)",
    )
    shop_templates: Annotated[TemplateSource, BeforeValidator(parse_templates)] = Field(
        None,
        description="directory of your own [templates](templates.md) of messages for people, as an absolute"
        " path; in TOML also a table of them",
    )
    shop_unpaid_statuses: Words = Field(
        UNPAID,
        description="statuses that do not count as paid; all others do",
    )
    shop_waiting_payments: Words = Field(
        ("bacs", "cheque", "cod"),
        description="payment methods, by WooCommerce's ids, whose unpaid orders are announced as"
        " `shop.order.placed`; empty: none",
    )
    shop_cancelled_unpaid: bool = Field(
        default=True, description="false: do not announce that an unpaid order was cancelled"
    )
    shop_status_events: Annotated[dict[str, StatusEvent], BeforeValidator(parse_status_events)] = Field(
        {},
        description="JSON: more statuses to announce, each with `title` and `message`;"
        " see [events of your own](notifications.md#events-of-your-own)",
    )
    shop_pending_payment_threshold: Hours = Field(
        0, ge=0, description="hours after which an unpaid order is announced as overdue; 0: never"
    )
    shop_silence_alert_hours: Hours = Field(
        0, ge=0, description="hours without a paid order after which silence is announced; 0: never"
    )
    shop_level_map: Annotated[dict[str, str], BeforeValidator(_levels)] = Field(
        {}, description='other names for levels, e.g. {"error":"critical"}'
    )
    shop_brand_id: str | None = Field(None, max_length=100, description="brand_id of the notifications")
    shop_target_roles: Words | None = Field(None, description="target_roles of the notifications")
    shop_target_users: Words | None = Field(None, description="target_users of the notifications")
    shop_log_format: Literal["json", "console"] | None = Field(
        None, description="default: console on a terminal, else json"
    )
    shop_log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="minimum level of log events"
    )

    _tags: tuple[str, ...] = ()  # private, since each field is a variable too

    @classmethod
    def of(cls, values: Mapping[str, Any], *, parse_sink: SinkParser) -> Self:
        """Validate settings. This is the way to make them: without `parse_sink` no address can be parsed.

        Args:
            values: by the names of the fields.
            parse_sink: parses an address of SHOP_NOTIFY_URLS.

        Raises:
            ValidationError: with every problem found.
        """
        return cls.model_validate(values, context={SINK_PARSER: parse_sink})

    @field_validator("woocommerce_mcp_url")
    @classmethod
    def _check_url(cls, value: str, info: ValidationInfo) -> str:
        parts = split(value)
        if parts.scheme not in HTTP or not parts.hostname:
            raise ValueError(Text("should be https://your-shop/wp-json/woocommerce/mcp"))
        if parts.fragment or "#" in value:
            raise ValueError(Text("{problem} (#); leave out what follows it", problem=NO_CHARACTER))
        if parts.username is not None:
            raise ValueError(
                Text("has a user or password in it; set WOOCOMMERCE_CONSUMER_KEY and _SECRET instead")
            )
        insecure = parts.scheme == "http" and not is_loopback(parts.hostname)
        if insecure and not info.data.get("shop_allow_insecure"):
            raise ValueError(
                Text(
                    "is plain http, which would show the keys to everyone on the way; use https:// (or "
                    "set SHOP_ALLOW_INSECURE=true if you know why)"
                )
            )
        return ascii_address(value)

    @field_validator("redis_url")
    @classmethod
    def _check_redis(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        if value is not None:
            parts = split(value.get_secret_value())
            if parts.scheme not in REDIS or parts.query or parts.fragment:
                raise ValueError(Text("should be redis(s)://host:port/0"))
            _sink_parser(info)(REDIS_SINK.format(value.get_secret_value()))
        return value

    @field_validator("shop_sink_options")
    @classmethod
    def _check_sink_options(
        cls, value: dict[str, dict[str, str]], info: ValidationInfo
    ) -> dict[str, dict[str, str]]:
        if "shop_notify_urls" in info.data:
            with_options(info.data["shop_notify_urls"], value)
        return value

    @field_validator("shop_id")
    @classmethod
    def _check_shop_id(cls, value: str) -> str:
        if value and not SHOP_ID.fullmatch(value):
            raise ValueError(Text("should be up to 100 letters, digits, dots, colons, dashes or underscores"))
        return value

    @field_validator("shop_state_url")
    @classmethod
    def _check_state(cls, value: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        address = value or info.data.get("redis_url")
        if address is None:
            return None
        if address.get_secret_value().startswith("redis"):
            redis = parse_redis(address.get_secret_value())
            prefix = info.data.get("shop_redis_prefix", "")
            if redis.topology is Topology.CLUSTER and not HASH_TAG.search(prefix):
                raise ValueError(
                    Text(
                        "is a Cluster, where all our keys have to be in one slot; set SHOP_REDIS_PREFIX to "
                        "something with a {{hash tag}}, e.g. {{shop}}:polling:"
                    )
                )
            return address
        parts = split(address.get_secret_value())
        if parts.scheme != "sqlite" or parts.netloc or len(parts.path) < 2:
            raise ValueError(Text("should be sqlite:////path/to/shop-poller.db or redis://host:6379/0"))
        if {"#", "?"} & {*address.get_secret_value()}:
            raise ValueError(Text("has a # or ? in it: there are no options, and the path has to do without"))
        return address

    @property
    def shop(self) -> str:
        """The shop's id: SHOP_ID, or the host of its address."""
        return self.shop_id or str(split(self.woocommerce_mcp_url).hostname)

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the shop's table in [[shops]]; see config/tags.py."""
        return self._tags

    def with_tags(self, tags: tuple[str, ...]) -> Self:
        """Return the same settings with these tags."""
        copy = self.model_copy()
        copy._tags = tags  # noqa: SLF001 - of this very class
        return copy

    @property
    def display_name(self) -> str:
        """The shop's name for people: SHOP_NAME, or its id."""
        return plain(self.shop_name).strip() or self.shop

    @property
    def has_consumer_key(self) -> bool:
        """Whether there is a consumer key with its secret, which all dialects but `abilities` need."""
        return self.woocommerce_consumer_key is not None and self.woocommerce_consumer_secret is not None

    @property
    def time_zone(self) -> ZoneInfo | None:
        """The owner's time zone; None for that of this machine."""
        return ZoneInfo(self.shop_timezone) if self.shop_timezone else None

    @property
    def state(self) -> Path | RedisAddress:
        """Where state is stored: a file, or Redis."""
        if self.shop_state_url is not None:
            address = self.shop_state_url.get_secret_value()
            if address.startswith("redis"):
                return parse_redis(address)
            # All that follows is the path: a directory that the system chose may contain a # or ?.
            return Path(SQLITE.sub("", address.strip()))
        home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state"
        directory = os.environ.get("STATE_DIRECTORY", "").split(":")[0] or Path(home) / "shop-poller"
        return Path(directory) / "shop-poller.db"

    @property
    def state_place(self) -> str:
        """Where state is stored, for messages."""
        return self.state.shown if isinstance(self.state, RedisAddress) else str(self.state)

    @property
    def secrets(self) -> list[str]:
        """Texts that must never be shown; the log masks them."""
        hidden = (
            self.woocommerce_consumer_key,
            self.woocommerce_consumer_secret,
            self.wordpress_application_password,
            self.shop_webhook_secret,
            self.shop_admin_token,
            self.shop_read_token,
        )
        found = [secret.get_secret_value() for secret in hidden if secret is not None]
        if self.shop_notify_secret is not None:
            found += self.shop_notify_secret.get_secret_value().split()
        found += secrets_in(self.woocommerce_mcp_url)
        if self.redis_url is not None:
            found += parse_redis(self.redis_url.get_secret_value()).secrets
        for sink in self.sinks:
            found += sink.secrets
        if isinstance(self.state, RedisAddress):
            found += self.state.secrets
        return found

    @property
    def events(self) -> frozenset[tuple[str, str]]:
        """Every possible event, with its level as it is sent."""
        own = [(named.event, named.level) for named in self.shop_status_events.values()]
        return frozenset(
            (str(event), self.shop_level_map.get(level, level)) for event, level in (*LEVELS.items(), *own)
        )

    @property
    def sinks(self) -> tuple[SinkConfig, ...]:
        """The config models of the sinks, with all their options."""
        return with_options(self.shop_notify_urls, self.shop_sink_options)


SECRETS = (
    "woocommerce_consumer_key",
    "woocommerce_consumer_secret",
    "wordpress_application_password",
    "redis_url",
    "shop_state_url",
    "shop_notify_urls",
    "shop_notify_secret",
    "shop_webhook_secret",
    "shop_admin_token",
    "shop_read_token",
)
"""Settings that may be read from files, and are never shown."""
