"""Settings: where they come from, what they mean, and how wrong ones are named."""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shop_poller.config.loader import load
from shop_poller.config.settings import SECRETS, Settings, SettingsError
from shop_poller.config.sinks import NO_OPTIONS
from shop_poller.core.digests import DigestSchedule
from shop_poller.core.filters import Filter
from shop_poller.core.model import StatusEvent
from shop_poller.runtime.factory import poll_plan, shop_credentials
from shop_poller.sinks.http.config import HttpConfig
from shop_poller.sinks.redis.config import RedisConfig
from shop_poller.sinks.registry import parse_sink
from support.marked_language import assert_translatable

CYRILLIC = "xn--80apaahi7a3c.xn--p1ai"
SHOP = "https://shop.example"
CASES = Path(__file__).parents[1] / "data" / "cases"
URL = "https://shop.example/wp-json/woocommerce/mcp"
KEYS = {
    "WOOCOMMERCE_MCP_URL": URL,
    "WOOCOMMERCE_CONSUMER_KEY": "ck_key",
    "WOOCOMMERCE_CONSUMER_SECRET": "cs_secret",
}
SIGNING = "whsec_" + base64.b64encode(b"a key to sign webhooks with").decode()
NEW_SIGNING = "whsec_" + base64.b64encode(b"a newer key to sign webhooks").decode()
SQLITE = "sqlite:////var/lib/shop-poller/state.db"


QUOTED = ("two words", "one day", 'Expected "\'" (at end of document)')
"""Values of wrong settings that errors show, and texts of libraries."""


@dataclass
class Desk:
    """A directory with files of settings, and an environment."""

    directory: Path
    environ: dict[str, str] = field(default_factory=lambda: dict(KEYS))
    config: Path | None = None

    @property
    def dotenv(self) -> Path:
        return self.directory / ".env"

    def write_config(self, text: str | bytes) -> None:
        self.config = self.directory / "shop.toml"
        self.config.write_bytes(text.encode() if isinstance(text, str) else text)

    def write_secret(self, name: str, content: str | bytes) -> Path:
        path = self.directory / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def load(self, changes: Mapping[str, str | None] | None = None, **more: str | None) -> Settings:
        """Read the settings; None takes a variable out."""
        changed = {**self.environ, **(changes or {}), **more}
        environ = {name: value for name, value in changed.items() if value is not None}
        return load(self.config, environ=environ, dotenv=self.dotenv, parse_sink=parse_sink)

    def problems(self, changes: Mapping[str, str | None] | None = None, **more: str | None) -> list[str]:
        with pytest.raises(SettingsError) as caught:
            self.load(changes, **more)
        assert_translatable(caught.value.problems, values=QUOTED)
        return caught.value.problems


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


# --- Defaults -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "default"),
    [
        ("shop_polling_enabled", True),
        ("shop_polling_interval", 60),
        ("redis_url", None),
        ("shop_http_listen", ("127.0.0.1", 9108)),
        ("shop_senders", 8),
        ("shop_queue_size", 1000),
        ("shop_initial_lookback", 3600),
        ("shop_cursor_overlap", 120),
        ("shop_clock_skew", 900),
        ("shop_state_retention_days", 90),
        ("shop_history_days", 30),
        ("shop_delivery_max_age_hours", 72),
        ("shop_locale", "ru"),
        ("shop_level_map", {}),
        ("shop_dialect", "auto"),
        ("shop_allow_insecure", False),
        ("shop_cancelled_unpaid", True),
        ("shop_status_events", {}),
        ("shop_sink_options", {}),
        ("shop_pending_payment_threshold", 0),
        ("shop_silence_alert_hours", 0),
        ("shop_log_format", None),
        ("shop_log_level", "info"),
        ("shop_notify_secret", None),
        ("shop_webhook_secret", None),
        ("shop_admin_token", None),
        ("shop_http_hosts", ()),
        ("shop_read_token", None),
        ("shop_brand_id", None),
        ("shop_target_roles", None),
        ("shop_target_users", None),
    ],
)
def test_three_variables_are_enough_the_rest_has_defaults(desk: Desk, name: str, default: object) -> None:
    assert getattr(desk.load(), name) == default


def test_unpaid_by_default_are_the_statuses_of_an_order_not_paid_or_given_back(desk: Desk) -> None:
    assert set(desk.load().shop_unpaid_statuses) == {
        "pending", "on-hold", "failed", "cancelled", "refunded", "checkout-draft", "auto-draft", "draft",
        "trash",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("url", "shop"),
    [
        (URL, "shop.example"),
        ("https://Shop.Example:8443/wp-json/woocommerce/mcp", "shop.example"),
        ("http://127.0.0.1:8080/wp-json/woocommerce/mcp", "127.0.0.1"),
        ("https://shop.example/?rest_route=/woocommerce/mcp", "shop.example"),
    ],
)
def test_a_shop_is_called_by_its_host_unless_it_has_an_id(desk: Desk, url: str, shop: str) -> None:
    assert desk.load(WOOCOMMERCE_MCP_URL=url).shop == shop
    assert desk.load(WOOCOMMERCE_MCP_URL=url, SHOP_ID="honey").shop == "honey"


@pytest.mark.parametrize("empty", ["", " ", "\n", "\t \n"])
def test_an_empty_value_means_the_default(desk: Desk, empty: str) -> None:
    optional = {name.upper(): empty for name in Settings.model_fields if name.upper() not in KEYS}
    del optional["SHOP_HTTP_LISTEN"]

    assert desk.load(optional) == desk.load()


@pytest.mark.parametrize("empty", ["", " ", "\n"])
def test_an_empty_listener_turns_it_off(desk: Desk, empty: str) -> None:
    assert desk.load(SHOP_HTTP_LISTEN=empty).shop_http_listen is None


def test_what_is_not_ours_in_the_environment_is_none_of_our_business(desk: Desk) -> None:
    assert desk.load(PATH="/bin", SHOP_FLOOR="marble", SHOP_POLLER="x") == desk.load()


# --- Where they come from -----------------------------------------------------------------------------------


def test_defaults_give_way_to_the_file_to_dotenv_to_the_environment_to_secret_files(desk: Desk) -> None:
    desk.write_config("woocommerce_consumer_key = 'ck_file'\nshop_senders = 1\nshop_queue_size = 1")
    desk.dotenv.write_text("WOOCOMMERCE_CONSUMER_KEY=ck_dotenv\nSHOP_SENDERS=2\nSHOP_HISTORY_DAYS=2")
    secret = str(desk.write_secret("key", "ck_secret_file"))
    environment = {"WOOCOMMERCE_CONSUMER_KEY": "ck_environment", "SHOP_SENDERS": "3"}

    def key(**changes: str | None) -> str:
        return shop_credentials(desk.load({**environment, **changes})).consumer_key

    assert key(WOOCOMMERCE_CONSUMER_KEY_FILE=secret) == "ck_secret_file"
    assert key() == "ck_environment"
    assert key(WOOCOMMERCE_CONSUMER_KEY=None) == "ck_dotenv"
    desk.dotenv.write_text("SHOP_SENDERS=2\nSHOP_HISTORY_DAYS=2")
    assert key(WOOCOMMERCE_CONSUMER_KEY=None) == "ck_file"
    settings = desk.load(environment)
    assert (settings.shop_senders, settings.shop_history_days, settings.shop_queue_size) == (3, 2, 1)
    assert settings.shop_state_retention_days == 90


def test_a_toml_file_may_write_values_as_what_they_are(desk: Desk) -> None:
    desk.write_config(
        """
        shop_polling_enabled = false
        shop_polling_interval = 2.5
        shop_senders = 3
        shop_level_map = { error = "critical" }
        shop_unpaid_statuses = ["pending", "draft"]
        shop_target_roles = ["manager"]
        shop_http_listen = ""
        """
    )
    settings = desk.load()

    assert settings.shop_polling_enabled is False
    assert settings.shop_polling_interval == 2.5
    assert settings.shop_senders == 3
    assert settings.shop_level_map == {"error": "critical"}
    assert settings.shop_unpaid_statuses == ("pending", "draft")
    assert settings.shop_target_roles == ("manager",)
    assert settings.shop_http_listen is None


def test_dotenv_is_read_as_it_stands(desk: Desk) -> None:
    desk.dotenv.write_text(
        "# a comment\nexport SHOP_ID=honey\nSHOP_BRAND_ID='two words'\nSHOP_SENDERS\nOTHER=1\n"
        "WOOCOMMERCE_CONSUMER_SECRET=cs_$HOME_${HOME}\n"
    )
    settings = desk.load(WOOCOMMERCE_CONSUMER_SECRET=None)

    assert (settings.shop_id, settings.shop_brand_id, settings.shop_senders) == ("honey", "two words", 8)
    assert shop_credentials(settings).consumer_secret == "cs_$HOME_${HOME}"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("WOOCOMMERCE_CONSUMER_KEY", "ck_other"),
        ("WOOCOMMERCE_CONSUMER_SECRET", "cs_other"),
        ("SHOP_NOTIFY_SECRET", SIGNING),
        ("SHOP_WEBHOOK_SECRET", "a secret of the shop"),
        ("SHOP_STATE_URL", SQLITE),
        ("SHOP_NOTIFY_URLS", "https://user:pw@h.example/hook\nconsole:"),
        ("REDIS_URL", "redis://:pw@h/0"),
    ],
)
def test_every_secret_may_come_from_a_file_or_a_systemd_credential(
    desk: Desk, name: str, content: str
) -> None:
    state = {} if name == "SHOP_STATE_URL" else {"SHOP_STATE_URL": SQLITE}  # Redis cannot hold it yet
    expected = desk.load({**state, name: content})
    path = desk.write_secret(name, f"{content}\n")

    assert desk.load({**state, f"{name}_FILE": str(path)}) == expected
    assert desk.load({**state, "CREDENTIALS_DIRECTORY": str(desk.directory)}) == expected
    desk.dotenv.write_text(f"{name}_FILE={path}\n")
    assert desk.load(state) == expected


def test_a_file_that_is_named_goes_before_a_credential(desk: Desk) -> None:
    desk.write_secret("WOOCOMMERCE_CONSUMER_KEY", "ck_credential")
    named = desk.write_secret("named", "ck_named")
    settings = desk.load(CREDENTIALS_DIRECTORY=str(desk.directory), WOOCOMMERCE_CONSUMER_KEY_FILE=str(named))

    assert shop_credentials(settings).consumer_key == "ck_named"
    assert shop_credentials(settings).consumer_secret == "cs_secret"  # has no credential


# --- What they mean -----------------------------------------------------------------------------------------


def _names(settings: Settings) -> list[str]:
    return [sink.name for sink in settings.sinks]


def test_without_redis_notifications_go_to_the_console(desk: Desk) -> None:
    assert _names(desk.load()) == ["console:"]


def test_with_redis_they_go_to_its_channel(desk: Desk) -> None:
    (sink,) = desk.load(REDIS_URL="redis://:pw@h:6379/2", SHOP_STATE_URL=SQLITE).sinks

    assert isinstance(sink, RedisConfig)
    assert sink.name == "redis://h:6379/2"
    assert sink.url == "redis://:pw@h:6379/2"
    assert sink.channel == "notification:events"


def test_a_sink_cannot_be_named_like_the_shop(desk: Desk) -> None:
    assert desk.problems(SHOP_NOTIFY_URLS="https://h.example/hook#kiosk console:", SHOP_ID="kiosk") == [
        "SHOP_NOTIFY_URLS: a sink is named like the shop; give it another #name"
    ]


def test_a_filter_names_events_and_levels_that_there_are(desk: Desk) -> None:
    own = '{"sborka": {"event": "shop.order.packing", "title": "t", "message": "m"}}'
    named = "https://h.example/a?events=new,packing,service.*&levels=info,fatal#crm console:?levels=error"

    (crm, _) = desk.load(
        SHOP_NOTIFY_URLS=named, SHOP_STATUS_EVENTS=own, SHOP_LEVEL_MAP='{"critical": "fatal"}'
    ).sinks
    said = desk.problems(SHOP_NOTIFY_URLS=named)

    assert crm.options.filter == Filter(("new", "packing", "service.*"), ("info", "fatal"))
    assert [problem.partition(";")[0] for problem in said] == [
        "SHOP_NOTIFY_URLS: crm: there is no event 'packing'",
        "SHOP_NOTIFY_URLS: crm: there is no level 'fatal'",
    ]
    assert said[1].endswith("; there are critical, error, info, warning")


def test_sinks_have_options_in_a_table_too(desk: Desk) -> None:
    desk.write_config(
        """
        shop_notify_urls = "https://h.example/a?events=new#crm apprise+json://h.example/b#chat console:"
        [shop_sink_options.crm]
        levels = ["info", "error"]
        where = 'total >= 5000 and not payment ~ "on & off #1%"'
        rate = "20/min"
        [shop_sink_options.chat]
        locale = "en"
        style = "classic"
        """
    )
    crm, chat, console = desk.load().sinks
    in_address = (
        "https://h.example/a?events=new&levels=info,error&rate=20/min&where=total>=5000+and+not+payment"
    )
    (same,) = desk.load(
        SHOP_NOTIFY_URLS=f'{in_address}~"on+%26+off+%231%25"#crm', SHOP_SINK_OPTIONS="{}"
    ).sinks

    assert crm == same
    assert (chat.options.locale, chat.options.style) == ("en", "classic")
    assert console.options == NO_OPTIONS
    text = '{"crm": {"where": "paid"}}'
    one = desk.load(SHOP_SINK_OPTIONS=text, SHOP_NOTIFY_URLS="https://h.example/a#crm").sinks[0]
    assert str(one.options.filter.where) == "paid = true"


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("crm", "should be JSON such as"),
        ('{"crm": "paid"}', "should be JSON such as"),
        ('{"crm": {"where": 5}}', "'crm': 'where': should be text"),
        ('{"crm": {"events": [5]}}', "'crm': 'events': should be text or a list of texts"),
        ('{"crm": {"rate": ["1/s"]}}', "'crm': 'rate': should be text"),
        ('{"cmr": {"where": "paid"}}', "there is no sink 'cmr'; there are crm"),  # codespell:ignore cmr
        ('{"crm": {"when": "paid"}}', "crm: there is no option 'when' of this kind of sink"),
        ('{"crm": {"locale": "en"}}', "crm: there is no option 'locale' of this kind of sink"),
        ('{"crm": {"WHERE": "paid"}}', "crm: WHERE= in an address should be written where="),
        ('{"crm": {"where": "total >"}}', 'crm: where=: after "total >" a number is expected'),
        ('{"crm": {"rate": "20"}}', "crm: rate=: should be a number of 1 to 9999"),
        ('{"crm": {"events": "failed"}}', "crm: events is in its address, too; keep one"),
        ('{"crm": {"where": "event = nwe"}}', "crm: there is no event 'nwe'"),  # codespell:ignore nwe
        ('{"crm": {"a token5hunter2SECRET9zz": "x"}}', "crm: there is no option a text of"),
    ],
)  # fmt: skip
def test_wrong_options_of_a_sink_are_named(desk: Desk, options: str, problem: str) -> None:
    (said,) = desk.problems(SHOP_NOTIFY_URLS="https://h.example/a?events=new#crm", SHOP_SINK_OPTIONS=options)
    assert said.startswith(f"SHOP_SINK_OPTIONS: {problem}")
    assert "hunter2" not in said


def test_a_digest_is_an_option_of_sinks_for_people_and_of_programs_that_name_it(desk: Desk) -> None:
    people, program, other = desk.load(
        SHOP_NOTIFY_URLS="console:?digest=daily@09:00#a https://h.example/a?digest=weekly:sun%4018:30&events=digest#b"
        " https://h.example/a?digest=sha256&events=*#c"
    ).sinks
    assert people.options.digest == DigestSchedule(None, time(9))
    assert program.options.digest == DigestSchedule(6, time(18, 30))
    assert other.options.digest is None
    assert isinstance(other, HttpConfig)
    assert other.url == "https://h.example/a?digest=sha256"
    (named,) = desk.load(
        SHOP_NOTIFY_URLS="https://h.example/a#crm",
        SHOP_SINK_OPTIONS='{"crm": {"events": ["shop.digest"], "digest": "daily@09:00"}}',
    ).sinks
    assert named.options.digest == people.options.digest


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("console:?digest=hourly", "console: digest=: should be daily@HH:MM or weekly:DAY@HH:MM"),
        ("console:?digest=daily@9:00&digest=daily@9:00", "console: digest= is there more than once"),
        (
            "console:?events=shop.digest",
            "console: events= names shop.digest; say when: add digest=daily@09:00",
        ),
        ("https://h.example/a?events=new,shop.digest#crm", "crm: events= names shop.digest; say when"),
    ],
)
def test_a_digest_that_would_never_come_is_named(desk: Desk, address: str, problem: str) -> None:
    (said,) = desk.problems(SHOP_NOTIFY_URLS=address)
    assert said.startswith(f"SHOP_NOTIFY_URLS: {problem}")


def test_urgent_levels_are_those_that_there_are(desk: Desk) -> None:
    named = "https://h.example/a?quiet=sat&urgent=error,fatal#crm"
    (crm,) = desk.load(SHOP_NOTIFY_URLS=named, SHOP_LEVEL_MAP='{"critical": "fatal"}').sinks
    assert crm.options.urgent == ("error", "fatal")
    assert [problem.partition(";")[0] for problem in desk.problems(SHOP_NOTIFY_URLS=named)] == [
        "SHOP_NOTIFY_URLS: crm: there is no level 'fatal'"
    ]


@pytest.mark.parametrize("between", [",", ", "])
def test_a_comma_between_sinks_is_named(desk: Desk, between: str) -> None:
    assert desk.problems(SHOP_NOTIFY_URLS=f"https://h.example/hook{between}console:") == [
        "SHOP_NOTIFY_URLS: has a comma between two addresses; put spaces between them"
    ]


def test_sinks_that_are_named_go_before_redis(desk: Desk) -> None:
    named = "console:\n  https://h.example/hook#crm\t redis://h/0?channel=c \n"

    settings = desk.load(REDIS_URL="redis://h/0", SHOP_STATE_URL=SQLITE, SHOP_NOTIFY_URLS=named)

    assert _names(settings) == ["console:", "crm", "redis://h/0"]


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({}, "/home/me/.local/state/shop-poller/shop-poller.db"),
        ({"XDG_STATE_HOME": ""}, "/home/me/.local/state/shop-poller/shop-poller.db"),
        ({"XDG_STATE_HOME": "/xdg"}, "/xdg/shop-poller/shop-poller.db"),
        ({"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/var/lib/a"}, "/var/lib/a/shop-poller.db"),
        ({"STATE_DIRECTORY": "/var/lib/a:/var/lib/b"}, "/var/lib/a/shop-poller.db"),
    ],
)
def test_state_lives_in_the_state_directory(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], path: str
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_STATE_HOME", "STATE_DIRECTORY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)

    assert desk.load().state == Path(path)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:////var/lib/shop-poller/state.db", "/var/lib/shop-poller/state.db"),
        ("sqlite:///state.db", "state.db"),
        ("sqlite:///../other/state.db", "../other/state.db"),
        ("SQLite:/state.db", "state.db"),
        ("sqlite:////srv/my%20shop/state.db\n", "/srv/my%20shop/state.db"),
    ],
)
def test_a_state_url_names_the_file_with_four_slashes_from_the_root(desk: Desk, url: str, path: str) -> None:
    assert desk.load(SHOP_STATE_URL=url).state == Path(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("pending", ("pending",)),
        ("pending,draft", ("pending", "draft")),
        ("pending draft", ("pending", "draft")),
        (" pending ,\n\tdraft, ", ("pending", "draft")),
    ],
)
@pytest.mark.parametrize("name", ["shop_unpaid_statuses", "shop_target_roles", "shop_target_users"])
def test_lists_are_written_with_spaces_or_commas(
    desk: Desk, name: str, text: str, words: tuple[str, ...]
) -> None:
    assert getattr(desk.load({name.upper(): text}), name) == words


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        ('{"error":"critical"}', {"error": "critical"}),
        ('{"info": "debug", "warning": "warn"}', {"info": "debug", "warning": "warn"}),
        ("{}", {}),
    ],
)
def test_levels_are_renamed_in_json(desk: Desk, text: str, levels: dict[str, str]) -> None:
    assert desk.load(SHOP_LEVEL_MAP=text).shop_level_map == levels


PACKING = StatusEvent("shop.order.packing", "info", "Собирается", "Заказ #{id} передан на сборку")


def test_events_of_ones_own_are_json_in_the_environment_and_a_table_in_the_file(desk: Desk) -> None:
    text = (
        '{"sborka": {"event": "shop.order.packing", "title": "Собирается",'
        ' "message": "Заказ #{id} передан на сборку"}}'
    )
    assert desk.load(SHOP_STATUS_EVENTS=text).shop_status_events == {"sborka": PACKING}
    desk.dotenv.write_text(f"SHOP_STATUS_EVENTS='{text}'")
    assert desk.load().shop_status_events == {"sborka": PACKING}
    desk.dotenv.unlink()

    desk.write_config(
        """
        shop_pending_payment_threshold = 0.5
        [shop_status_events.sborka]
        event = "shop.order.packing"
        title = "Собирается"
        message = "Заказ #{id} передан на сборку"
        """
    )
    assert desk.load().shop_status_events == {"sborka": PACKING}
    assert desk.load().shop_pending_payment_threshold == 0.5
    assert desk.load(SHOP_STATUS_EVENTS="{}").shop_status_events == {}


def test_what_may_be_switched_on_is_planned_only_then(desk: Desk) -> None:
    off = poll_plan(desk.load())
    on = poll_plan(
        desk.load(
            SHOP_STATUS_EVENTS='{"sborka": {"title": "t", "message": "m"}}',
            SHOP_PENDING_PAYMENT_THRESHOLD="1.5",
            SHOP_SILENCE_ALERT_HOURS="8784",
        )
    )

    assert (off.status_events, off.overdue_after, off.silence_after) == ({}, timedelta(0), timedelta(0))
    assert on.status_events == {"sborka": StatusEvent("shop.order.sborka", "info", "t", "m")}
    assert (on.overdue_after, on.silence_after) == (timedelta(hours=1.5), timedelta(days=366))


def test_an_order_is_not_forgotten_before_it_is_overdue(desk: Desk) -> None:
    week = {"SHOP_STATE_RETENTION_DAYS": "7"}

    assert desk.load(week, SHOP_PENDING_PAYMENT_THRESHOLD="167.9").shop_pending_payment_threshold == 167.9
    assert desk.problems(week, SHOP_PENDING_PAYMENT_THRESHOLD="168") == [
        "SHOP_PENDING_PAYMENT_THRESHOLD: should be less than SHOP_STATE_RETENTION_DAYS, after which an order"
        " is forgotten"
    ]


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("1.5", 1.5), ("60", 60), ("86400", 86400)])
def test_the_interval_may_have_fractions(desk: Desk, text: str, seconds: float) -> None:
    assert desk.load(SHOP_POLLING_INTERVAL=text).shop_polling_interval == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("TRUE", True),
        ("1", True),
        ("yes", True),
        ("false", False),
        ("0", False),
        ("no", False),
    ],
)
def test_yes_and_no_are_written_as_people_do(desk: Desk, text: str, value: bool) -> None:  # noqa: FBT001 - a table
    assert desk.load(SHOP_POLLING_ENABLED=text).shop_polling_enabled is value


def test_what_must_never_be_seen_is_listed(desk: Desk) -> None:
    settings = desk.load(
        REDIS_URL="redis://:redis-pw@h/0",
        SHOP_STATE_URL=SQLITE,
        SHOP_NOTIFY_SECRET=f"{NEW_SIGNING} {SIGNING}",
        SHOP_WEBHOOK_SECRET="a secret of the shop",
        SHOP_NOTIFY_URLS="https://user:p%40ss@h.example/a https://h.example/b console:",
    )

    # A password as it is written and as it is meant: an error may show either.
    assert set(settings.secrets) == {
        "ck_key", "cs_secret", NEW_SIGNING, SIGNING, "a secret of the shop", "redis-pw", "p%40ss", "p@ss",
    }  # fmt: skip
    for secret in settings.secrets:
        assert secret not in repr(settings)
        assert secret not in str(settings)


# --- What is refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "least", "most"),
    [
        ("SHOP_POLLING_INTERVAL", 1, 86_400),
        ("SHOP_SENDERS", 1, 100),
        ("SHOP_QUEUE_SIZE", 1, 100_000),
        ("SHOP_INITIAL_LOOKBACK", 0, 30 * 86_400),
        ("SHOP_CURSOR_OVERLAP", 1, 86_400),
        ("SHOP_CLOCK_SKEW", 0, 86_400),
        ("SHOP_STATE_RETENTION_DAYS", 7, 3660),
        ("SHOP_HISTORY_DAYS", 1, 3660),
    ],
)
def test_numbers_have_bounds(desk: Desk, name: str, least: int, most: int) -> None:
    for good in (least, most):
        assert getattr(desk.load({name: str(good)}), name.lower()) == good
    for bad, message in (
        (least - 1, f"input should be greater than or equal to {least}"),
        (most + 1, f"input should be less than or equal to {most}"),
    ):
        assert desk.problems({name: str(bad)}) == [f"{name}: {message} (now: '{bad}')"]


PASSWORD = {"WORDPRESS_USERNAME": "poller", "WORDPRESS_APPLICATION_PASSWORD": "abcd EFGH 1234 ijkl MNOP 5678"}
NO_KEYS: dict[str, str | None] = {"WOOCOMMERCE_CONSUMER_KEY": None, "WOOCOMMERCE_CONSUMER_SECRET": None}
NO_PASSWORD: dict[str, str | None] = dict.fromkeys(PASSWORD)


@pytest.mark.parametrize(
    ("changes", "missing"),
    [
        ({"SHOP_DIALECT": "auto"}, []),
        ({"SHOP_DIALECT": "auto", **PASSWORD}, []),
        ({"SHOP_DIALECT": "auto", **NO_KEYS, **PASSWORD}, []),
        ({"SHOP_DIALECT": "auto", **NO_KEYS}, list(NO_KEYS)),
        ({"SHOP_DIALECT": "auto", "WORDPRESS_USERNAME": "poller"}, ["WORDPRESS_APPLICATION_PASSWORD"]),
        ({"SHOP_DIALECT": "abilities", **NO_KEYS, **PASSWORD}, []),
        ({"SHOP_DIALECT": "abilities"}, list(PASSWORD)),
        ({"SHOP_DIALECT": "abilities", **PASSWORD, "WORDPRESS_USERNAME": None}, ["WORDPRESS_USERNAME"]),
        ({"SHOP_DIALECT": "rest", **NO_KEYS, **PASSWORD}, list(NO_KEYS)),
        ({"SHOP_DIALECT": "woocommerce-mcp", **NO_KEYS, **PASSWORD}, list(NO_KEYS)),
        ({"SHOP_DIALECT": "execute", **NO_KEYS}, list(NO_KEYS)),
    ],
)
def test_each_dialect_needs_its_own_credentials(
    desk: Desk, changes: dict[str, str | None], missing: list[str]
) -> None:
    if not missing:
        desk.load(changes)
    else:
        assert [problem.partition(":")[0] for problem in desk.problems(changes)] == missing


def test_abilities_need_the_sweep(desk: Desk) -> None:
    off: dict[str, str | None] = {"SHOP_SWEEP_INTERVAL": "0"}
    desk.load(off)
    desk.load({**PASSWORD, **off})  # `auto` leaves them out
    for changes in ({**PASSWORD, "SHOP_DIALECT": "abilities"}, {**PASSWORD, **NO_KEYS}):
        desk.load(changes)
        (problem,) = desk.problems({**changes, **off})
        assert problem.startswith("SHOP_SWEEP_INTERVAL: the dialect abilities needs the sweep")


def test_an_overdue_payment_needs_the_sweep(desk: Desk) -> None:
    desk.load(SHOP_PENDING_PAYMENT_THRESHOLD="24")
    (problem,) = desk.problems(SHOP_PENDING_PAYMENT_THRESHOLD="24", SHOP_SWEEP_INTERVAL="0")
    assert problem.startswith("SHOP_PENDING_PAYMENT_THRESHOLD: needs the sweep")


@pytest.mark.parametrize(
    ("url", "character"),
    [
        ("https://shop.example/wp-json#x", "#"),
        ("https://shop.example/wp-json#", "#"),
        ("https://shop.example/wp json", "U+0020"),
        ("https://shop.example/wp\u00a0json", "U+00A0"),
        ("https://shop\u200b.example/", "U+200B"),
        ("https://магазин\u00ad.example/", "U+00AD"),
    ],
)
def test_an_address_is_one_that_can_be_requested(desk: Desk, url: str, character: str) -> None:
    (problem,) = desk.problems(WOOCOMMERCE_MCP_URL=url)
    assert problem.startswith("WOOCOMMERCE_MCP_URL: has a character that this address may not have")
    assert f"({character})" in problem
    assert problem.isprintable()


@pytest.mark.parametrize(
    "url",
    [
        "https://i\N{HEAVY BLACK HEART}.example/",
        "https://магазин-.example/",
        "https://мага_зин.example/",
        f"https://{'ы' * 70}.example/",
    ],
)
def test_a_host_that_no_domain_can_have_is_to_be_written_otherwise(desk: Desk, url: str) -> None:
    (problem,) = desk.problems(WOOCOMMERCE_MCP_URL=url)
    assert problem.startswith("WOOCOMMERCE_MCP_URL: has a host name with letters that no domain may have")
    assert "xn--" in problem


@pytest.mark.parametrize(
    "host", ["shop..example", ".shop.example", "shop,example", "<shop>", "магазин,example"]
)
def test_a_host_that_cannot_be_is_an_error_that_shows_a_good_one(desk: Desk, host: str) -> None:
    (problem,) = desk.problems(WOOCOMMERCE_MCP_URL=f"https://{host}/wp-json")
    assert problem.startswith(
        ("WOOCOMMERCE_MCP_URL: has an invalid host name", "WOOCOMMERCE_MCP_URL: has a host name with letters")
    )
    assert host not in problem


def test_the_case_idn_address_is_taken(desk: Desk) -> None:
    name, _, value = (CASES / "idn-address" / "settings.env").read_text().strip().partition("=")
    settings = desk.load({name: value})
    assert settings.woocommerce_mcp_url == "https://xn--80aairftm.example"
    assert settings.shop == "xn--80aairftm.example"


@pytest.mark.parametrize(
    ("url", "sent", "shop"),
    [
        ("https://кирилица.рф/wp-json", f"https://{CYRILLIC}/wp-json", CYRILLIC),
        ("https://КИРИЛИЦА.РФ.:8443/", f"https://{CYRILLIC}:8443/", CYRILLIC),
        ("https://München.example", "https://xn--mnchen-3ya.example", "xn--mnchen-3ya.example"),
        ("https://straße.example/", "https://xn--strae-oqa.example/", "xn--strae-oqa.example"),
        ("https://xn--strae-oqa.example/", "https://xn--strae-oqa.example/", "xn--strae-oqa.example"),
        ("https://XN--STRAE-oqa.example/", "https://XN--STRAE-oqa.example/", "xn--strae-oqa.example"),
        ("https://xn--i-7iq.example/", "https://xn--i-7iq.example/", "xn--i-7iq.example"),
        ("https://shop。example/", "https://shop.example/", "shop.example"),
        ("https://ｓｈｏｐ.example/", "https://shop.example/", "shop.example"),
        ("https://Shop.example./", "https://Shop.example./", "shop.example."),
        ("https://under_score.example/", "https://under_score.example/", "under_score.example"),
        ("https://[2001:db8::1]:8443/", "https://[2001:db8::1]:8443/", "2001:db8::1"),
        (f"{SHOP}/шоп/wp-json", f"{SHOP}/%D1%88%D0%BE%D0%BF/wp-json", "shop.example"),
        (f"{SHOP}/%20/ы?q=ы&a=%20", f"{SHOP}/%20/%D1%8B?q=%D1%8B&a=%20", "shop.example"),
    ],
)  # fmt: skip
def test_an_address_in_letters_of_any_language_is_kept_as_it_is_sent(
    desk: Desk, url: str, sent: str, shop: str
) -> None:
    settings = desk.load(WOOCOMMERCE_MCP_URL=url)
    assert settings.woocommerce_mcp_url == sent
    assert settings.shop == shop


def test_a_dialect_is_a_word(desk: Desk) -> None:
    desk.write_config('shop_dialect = ["rest"]')
    (problem,) = desk.problems(SHOP_DIALECT=None)
    assert problem.startswith("SHOP_DIALECT (from ")


def test_blanks_around_the_secret_of_webhooks_are_told(desk: Desk) -> None:
    (problem,) = desk.problems(SHOP_WEBHOOK_SECRET=" at least eight ")
    assert problem == "SHOP_WEBHOOK_SECRET: has blanks around it; WooCommerce would sign with another one"


def test_an_application_password_is_what_wordpress_makes(desk: Desk) -> None:
    assert desk.problems({**PASSWORD, "WORDPRESS_USERNAME": "poller:abcd"}) == [
        "WORDPRESS_USERNAME: should be the name that the user signs in with, without a colon"
        " (now: 'poller:abcd')"
    ]
    (problem,) = desk.problems({**PASSWORD, "WORDPRESS_APPLICATION_PASSWORD": "abcd\nefgh"})
    name, _, what = problem.partition(": ")
    assert name == "WORDPRESS_APPLICATION_PASSWORD"
    assert what == "should be 24 letters and digits, in groups of four; copy it once more"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("WOOCOMMERCE_MCP_URL", None, "is missing; set it to https://your-shop/wp-json/woocommerce/mcp"),
        ("WOOCOMMERCE_MCP_URL", "", "is missing; set it to https://your-shop/wp-json/woocommerce/mcp"),
        ("WOOCOMMERCE_CONSUMER_KEY", None,
         "is missing; make one under WooCommerce → Settings → Advanced → REST API"),
        ("WOOCOMMERCE_CONSUMER_SECRET", None, "is missing; it was shown once when the key was made"),
        ("WOOCOMMERCE_CONSUMER_KEY", "ck_key\n",
         "should be letters, digits and underscores only; was a space or line copied with it?"),
        ("WOOCOMMERCE_CONSUMER_KEY", "ck:cs",  # which would move the border between the two
         "should be letters, digits and underscores only; was a space or line copied with it?"),
        ("WOOCOMMERCE_CONSUMER_SECRET", "cs_ключ",
         "should be letters, digits and underscores only; was a space or line copied with it?"),
        ("WOOCOMMERCE_CONSUMER_SECRET", "c" * 201,
         "should be letters, digits and underscores only; was a space or line copied with it?"),
        ("WOOCOMMERCE_MCP_URL", "shop.example", "should be https://your-shop/wp-json/woocommerce/mcp"),
        ("WOOCOMMERCE_MCP_URL", "ftp://shop.example", "should be https://your-shop/wp-json/woocommerce/mcp"),
        ("WOOCOMMERCE_MCP_URL", "https:///mcp", "should be https://your-shop/wp-json/woocommerce/mcp"),
        ("WOOCOMMERCE_MCP_URL", "https://shop.example:https/", "is no valid address (host or port)"),
        ("SHOP_ID", "two words",
         "should be up to 100 letters, digits, dots, colons, dashes or underscores (now: 'two words')"),
        ("SHOP_ID", "-x",
         "should be up to 100 letters, digits, dots, colons, dashes or underscores (now: '-x')"),
        ("SHOP_DIALECT", "soap",
         "input should be 'auto', 'woocommerce-mcp', 'abilities', 'rest' or 'execute' (now: 'soap')"),
        ("SHOP_LOCALE", "de", "input should be 'ru' or 'en' (now: 'de')"),
        ("SHOP_LOG_FORMAT", "xml", "input should be 'json' or 'console' (now: 'xml')"),
        ("SHOP_LOG_LEVEL", "loud", "input should be 'debug', 'info', 'warning' or 'error' (now: 'loud')"),
        ("SHOP_POLLING_ENABLED", "maybe",
         "input should be a valid boolean, unable to interpret input (now: 'maybe')"),
        ("SHOP_POLLING_INTERVAL", "nan", "input should be a finite number (now: 'nan')"),
        ("SHOP_POLLING_INTERVAL", "inf", "input should be a finite number (now: 'inf')"),
        ("SHOP_POLLING_INTERVAL", "-inf", "input should be a finite number (now: '-inf')"),
        ("SHOP_POLLING_INTERVAL", "0.999", "input should be greater than or equal to 1 (now: '0.999')"),
        ("SHOP_POLLING_INTERVAL", "1 min",
         "input should be a valid number, unable to parse string as a number (now: '1 min')"),
        ("SHOP_SENDERS", "2.5",
         "input should be a valid integer, unable to parse string as an integer (now: '2.5')"),
        ("SHOP_DELIVERY_MAX_AGE_HOURS", "0", "input should be greater than 0 (now: '0')"),
        ("SHOP_DELIVERY_MAX_AGE_HOURS", "8785", "should be a year at most (now: '8785')"),
        ("SHOP_DELIVERY_MAX_AGE_HOURS", "nan", "input should be a finite number (now: 'nan')"),
        ("SHOP_DELIVERY_MAX_AGE_HOURS", "inf", "input should be a finite number (now: 'inf')"),
        ("SHOP_PENDING_PAYMENT_THRESHOLD", "-1", "input should be greater than or equal to 0 (now: '-1')"),
        ("SHOP_PENDING_PAYMENT_THRESHOLD", "8785", "should be a year at most (now: '8785')"),
        ("SHOP_PENDING_PAYMENT_THRESHOLD", "inf", "input should be a finite number (now: 'inf')"),
        ("SHOP_SILENCE_ALERT_HOURS", "-0.1", "input should be greater than or equal to 0 (now: '-0.1')"),
        ("SHOP_SILENCE_ALERT_HOURS", "8785", "should be a year at most (now: '8785')"),
        ("SHOP_SILENCE_ALERT_HOURS", "one day",
         "input should be a valid number, unable to parse string as a number (now: 'one day')"),
        ("SHOP_STATUS_EVENTS", "sborka",
         'should be JSON such as {"packing": {"title": "Packing", "message": "Order #{id} is being packed"}}'
         " (now: 'sborka')"),
        ("SHOP_STATUS_EVENTS", '{"sborka": {"title": "t"}}',
         """sborka: message is missing; it is what people will read (now: '{"sborka": {"title": "t"}}')"""),
        ("SHOP_STATUS_EVENTS", '{"failed": {"title": "t", "message": "m"}}',
         "failed has an event of its own, shop.order.failed; leave it out"
         """ (now: '{"failed": {"title": "t", "message": "m"}}')"""),
        ("SHOP_STATUS_EVENTS", '{"x": {"title": "{name}", "message": "m"}}',
         "x: title has {name} in it; braces are for {id} {number} {total} {customer} {status}"
         """ (now: '{"x": {"title": "{name}", "message": "m"}}')"""),
        ("SHOP_HTTP_LISTEN", "9108",
         "should be host:port, e.g. 127.0.0.1:9108, or empty to turn it off (now: '9108')"),
        ("SHOP_HTTP_LISTEN", "[]:9108",  # would be open to the world
         "should be host:port, e.g. 127.0.0.1:9108, or empty to turn it off (now: '[]:9108')"),
        ("SHOP_LEVEL_MAP", "error=critical",
         """should be JSON such as {"error": "critical"} (now: 'error=critical')"""),
        ("SHOP_LEVEL_MAP", '["error"]',
         """should be JSON such as {"error": "critical"} (now: '["error"]')"""),
        ("SHOP_LEVEL_MAP", '{"error":1}',
         """should be JSON such as {"error": "critical"} (now: '{"error":1}')"""),
        ("SHOP_LEVEL_MAP", '{"error":""}',
         """should be JSON such as {"error": "critical"} (now: '{"error":""}')"""),
        ("SHOP_LEVEL_MAP", '{"bad":"x"}',
         """there is no level 'bad'; there are critical, error, info, warning (now: '{"bad":"x"}')"""),
        ("SHOP_LEVEL_MAP", "[" * 100_000,
         f"""should be JSON such as {{"error": "critical"}} (now: '{'[' * 80}')"""),
        ("SHOP_NOTIFY_SECRET", "whsec_short", "should be whsec_ and base64"),
        ("SHOP_NOTIFY_SECRET", "whsec_c2hvcnQ=", "should hold 24 to 64 bytes, has 5"),
        ("SHOP_NOTIFY_URLS", "smtp://h.example",
         "smtp:// is not a kind of sink. Use http(s)://host/path,"
         " redis(s)://host:port/0?channel=name, redis(s)+stream://host:port/0?stream=name,"
         " apprise+ and an Apprise URL, or console:"),
        ("SHOP_NOTIFY_URLS", "redis://:pw@h/0",
         "redis://h/0 names no channel; add ?channel=notification:events"),
        ("SHOP_NOTIFY_URLS", "console: console:",
         "two sinks have the name console:; give each its own by adding #name"),
        ("SHOP_NOTIFY_URLS", "redis://a:b@h/0?channel=c redis://c:d@h/0?channel=d",
         "two sinks have the name redis://h/0; give each its own by adding #name"),
        ("SHOP_NOTIFY_URLS", "https://h.example/a#x https://h.example/b#x",
         "two sinks have the name x; give each its own by adding #name"),
        ("SHOP_STATE_URL", "postgres://h/db", "should be sqlite:////path/to/shop-poller.db or redis://host:6379/0"),
        ("SHOP_STATE_URL", "/var/lib/state.db", "should be sqlite:////path/to/shop-poller.db or redis://host:6379/0"),
        ("SHOP_STATE_URL", "sqlite://var/lib/state.db", "should be sqlite:////path/to/shop-poller.db or redis://host:6379/0"),
        ("SHOP_STATE_URL", "sqlite:///", "should be sqlite:////path/to/shop-poller.db or redis://host:6379/0"),
        ("SHOP_STATE_URL", "sqlite:////srv/shop#1/state.db",
         "has a # or ? in it: there are no options, and the path has to do without"),
        ("SHOP_STATE_URL", "sqlite:////srv/state.db?mode=ro",
         "has a # or ? in it: there are no options, and the path has to do without"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_what_to_do(desk: Desk, name: str, value: str | None, problem: str) -> None:
    assert desk.problems({name: value}) == [f"{name}: {problem}"]


@pytest.mark.parametrize(
    "url", ["https://h.example", "console:", "redis://h/0?ssl_cert_reqs=none", "redis://h/0#x", "h:6379"]
)
def test_redis_url_is_a_redis_address(desk: Desk, url: str) -> None:
    # Not any sink's: https:// would quietly become an HTTP sink.
    problems = desk.problems(REDIS_URL=url, SHOP_STATE_URL=SQLITE)

    assert problems == ["REDIS_URL: should be redis(s)://host:port/0"]


@pytest.mark.parametrize(
    ("environ", "place"),
    [
        ({"SHOP_STATE_URL": "redis://:pw@h/0"}, "redis://h:6379/0"),
        ({"SHOP_STATE_URL": "rediss://h:6380/3?ca_certs=/ca.pem"}, "rediss://h:6380/3"),
        ({"SHOP_STATE_URL": "redis://h/1", "REDIS_URL": "redis://other/0"}, "redis://h:6379/1"),
        ({"REDIS_URL": "redis://:pw@h/0"}, "redis://h:6379/0"),
        (
            {"SHOP_STATE_URL": "redis+sentinel://u:pw@a:1,b/mymaster/2?sentinel_password=spw"},
            "redis+sentinel://a:1,b:26379/mymaster/2",
        ),
        (
            {"SHOP_STATE_URL": "rediss+cluster://u:pw@a,b:1", "SHOP_REDIS_PREFIX": "{shop}:polling:"},
            "rediss+cluster://a:6379,b:1",
        ),
    ],
)
def test_state_may_live_in_redis(desk: Desk, environ: dict[str, str | None], place: str) -> None:
    settings = desk.load(environ)

    assert settings.state_place == place
    assert "pw" not in repr(settings.state)
    assert {"pw", "spw"} & set(re.findall(r"\w+", str(environ))) <= {*settings.secrets}


@pytest.mark.parametrize(
    "options", ["ca_certs=", "ca_certs=/a&ca_certs=/b", "ca_certs=/a&sentinel_password="]
)
def test_an_option_of_a_state_in_redis_is_there_once_and_says_something(desk: Desk, options: str) -> None:
    (problem,) = desk.problems({"SHOP_STATE_URL": f"rediss://h/0?{options}"})
    assert problem.endswith("more than once, or with nothing in it")


def test_a_cluster_needs_a_hash_tag(desk: Desk) -> None:
    (problem,) = desk.problems({"SHOP_STATE_URL": "redis+cluster://h"})
    assert "SHOP_REDIS_PREFIX" in problem
    assert "{hash tag}" in problem


PLAIN = (
    "WOOCOMMERCE_MCP_URL: is plain http, which would show the keys to everyone on the way;"
    " use https:// (or set SHOP_ALLOW_INSECURE=true if you know why)"
)


@pytest.mark.parametrize(
    ("url", "refused"),
    [
        ("https://shop.example/mcp", False),
        ("http://127.0.0.1:8080/mcp", False),
        ("http://127.8.9.1/mcp", False),
        ("http://localhost/mcp", False),
        ("http://LOCALHOST:80/mcp", False),
        ("http://[::1]:8080/mcp", False),
        ("http://shop.example/mcp", True),
        ("HTTP://shop.example/mcp", True),
        ("http://192.168.0.5/mcp", True),
        ("http://0.0.0.0/mcp", True),
        ("http://localhost.shop.example/mcp", True),
        ("http://127.0.0.1.shop.example/mcp", True),
        (r"http://shop.example\.localhost/mcp", True),
    ],
)
def test_keys_go_over_plain_http_only_to_this_machine_unless_told_to(
    desk: Desk, url: str, refused: bool  # noqa: FBT001 - a table
) -> None:  # fmt: skip
    if refused:
        assert desk.problems(WOOCOMMERCE_MCP_URL=url) == [PLAIN]
    assert desk.load(WOOCOMMERCE_MCP_URL=url, SHOP_ALLOW_INSECURE="true").woocommerce_mcp_url == url
    if not refused:
        assert desk.load(WOOCOMMERCE_MCP_URL=url).woocommerce_mcp_url == url


@pytest.mark.parametrize(
    "url",
    ["https://ck:cs@shop.example/mcp", "https://ck@shop.example/mcp", "https://@shop.example/mcp",
     "http://localhost:80@shop.example/mcp", "http://127.0.0.1@shop.example/mcp"],
)  # fmt: skip
def test_keys_do_not_belong_into_the_url(desk: Desk, url: str) -> None:
    problem = "has a user or password in it; set WOOCOMMERCE_CONSUMER_KEY and _SECRET instead"

    for insecure in ("false", "true"):
        problems = desk.problems(WOOCOMMERCE_MCP_URL=url, SHOP_ALLOW_INSECURE=insecure)
        assert problems == [f"WOOCOMMERCE_MCP_URL: {problem}"]


# --- Files that cannot be used ------------------------------------------------------------------------------


def test_an_unknown_key_of_the_file_is_named(desk: Desk) -> None:
    desk.write_config("shop_interval = 5\n[floor]\nid = 1")

    assert desk.problems() == [
        f"{desk.config}: there is no setting {name!r}; the names are those of the variables, in lower case"
        for name in ("floor", "shop_interval")
    ]


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"shop_id = ", "Invalid value"),
        (b"woocommerce_consumer_secret = 'cs_secret", "Illegal character|Unterminated|Expected"),
        (b"shop_id = '\xff'", "utf-8"),
    ],
)
def test_a_file_that_is_no_toml_is_named(desk: Desk, content: bytes, detail: str) -> None:
    desk.write_config(content)

    (problem,) = desk.problems()

    assert problem.startswith(f"{desk.config}: cannot be read as TOML: ")
    assert any(part in problem for part in detail.split("|")), problem
    assert "cs_secret" not in problem


def test_a_file_that_is_not_there_is_named_with_all_else_that_is_wrong(desk: Desk) -> None:
    desk.config = desk.directory / "nowhere.toml"

    assert desk.problems(SHOP_SENDERS="0") == [
        f"{desk.config}: cannot be read as TOML: No such file or directory",
        "SHOP_SENDERS: input should be greater than or equal to 1 (now: '0')",
    ]


def test_a_dotenv_that_is_not_text_is_named(desk: Desk) -> None:
    desk.dotenv.write_bytes(b"SHOP_ID=\xff\xfe")

    (problem,) = desk.problems()

    assert problem.startswith(f"{desk.dotenv}: cannot be read: ")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("shop_http_listen = 9108", "should be text, e.g. 127.0.0.1:9108 (now: '9108')"),
        ("shop_http_listen = false", "should be text, e.g. 127.0.0.1:9108 (now: 'False')"),
        ("shop_notify_urls = ['console:']", "should be addresses with spaces between"),
        ("shop_unpaid_statuses = 5", "input should be a valid tuple (now: '5')"),
        ("shop_level_map = 'x'", """should be JSON such as {"error": "critical"} (now: 'x')"""),
        (
            "shop_status_events = { sborka = { title = 5, message = 'm' } }",
            "sborka: title should be a line of 1 to 100 characters"
            " (now: \"{'sborka': {'title': 5, 'message': 'm'}}\")",
        ),
        (
            "shop_silence_alert_hours = 'x'",
            "input should be a valid number, unable to parse string as a number (now: 'x')",
        ),
        ("shop_polling_interval = nan", "input should be a finite number (now: 'nan')"),
        ("shop_id = 5", "input should be a valid string (now: '5')"),
        ("redis_url = 5", "input should be a valid string"),
        ("shop_state_url = []", "input should be a valid string"),
        ("shop_notify_secret = 1979-05-27", "input should be a valid string"),
    ],
)
def test_a_value_of_the_wrong_type_is_named_with_the_file_it_is_in(
    desk: Desk, value: str, problem: str
) -> None:
    desk.write_config(value)
    name = value.partition(" ")[0].upper()

    assert desk.problems() == [f"{name} (from {desk.config}): {problem}"]


def test_a_wrong_value_is_looked_for_where_it_came_from(desk: Desk) -> None:
    desk.write_config("shop_senders = 0")
    desk.dotenv.write_text("SHOP_QUEUE_SIZE=0\nSHOP_SENDERS=0")
    path = desk.write_secret("secret", "whsec_short")

    assert desk.problems(SHOP_NOTIFY_SECRET_FILE=str(path), SHOP_HISTORY_DAYS="0") == [
        "SHOP_NOTIFY_SECRET (from its file): should be whsec_ and base64",
        f"SHOP_SENDERS (from {desk.dotenv}): input should be greater than or equal to 1 (now: '0')",
        f"SHOP_QUEUE_SIZE (from {desk.dotenv}): input should be greater than or equal to 1 (now: '0')",
        "SHOP_HISTORY_DAYS: input should be greater than or equal to 1 (now: '0')",
    ]


@pytest.mark.parametrize("listen", ["", " "])
def test_webhooks_need_the_listener(desk: Desk, listen: str) -> None:
    assert desk.problems(SHOP_WEBHOOK_SECRET="a secret of the shop", SHOP_HTTP_LISTEN=listen) == [
        "SHOP_WEBHOOK_SECRET: needs the listener, which an empty SHOP_HTTP_LISTEN turns off;"
        " unset one of them"
    ]


def test_a_listener_that_is_named_wrong_is_one_problem_and_not_two(desk: Desk) -> None:
    (problem,) = desk.problems(SHOP_WEBHOOK_SECRET="a secret of the shop", SHOP_HTTP_LISTEN="everywhere")

    assert problem.startswith("SHOP_HTTP_LISTEN: ")


def test_the_secret_of_webhooks_is_not_one_that_is_guessed_at_once(desk: Desk) -> None:
    assert desk.load(SHOP_WEBHOOK_SECRET="12345678").shop_webhook_secret is not None
    assert desk.problems(SHOP_WEBHOOK_SECRET="1234567") == [
        "SHOP_WEBHOOK_SECRET: should have at least 8 characters, or anybody might guess it"
    ]


def test_the_token_of_the_status_page_is_not_one_that_is_guessed_and_is_hidden(desk: Desk) -> None:
    token = "0123456789abcdef"
    assert token in desk.load(SHOP_ADMIN_TOKEN=token).secrets
    for wrong in (token[1:], f"{token[:8]} {token[8:]}", f"{token}é", "x" * 201):
        (problem,) = desk.problems(SHOP_ADMIN_TOKEN=wrong)
        assert problem == (
            "SHOP_ADMIN_TOKEN: should be 16 to 200 letters, digits and signs without blanks; make one with:"
            " openssl rand -hex 24"
        )
    file = desk.write_secret("token", token.encode())
    from_file = desk.load(SHOP_ADMIN_TOKEN_FILE=str(file)).shop_admin_token
    assert from_file is not None
    assert from_file.get_secret_value() == token


def test_a_token_without_a_listener_is_of_no_use(desk: Desk) -> None:
    (problem,) = desk.problems(SHOP_ADMIN_TOKEN="0123456789abcdef", SHOP_HTTP_LISTEN="")
    assert problem.startswith("SHOP_ADMIN_TOKEN: needs the listener")


def test_hosts_are_names_and_nothing_more(desk: Desk) -> None:
    assert desk.load(SHOP_HTTP_HOSTS="poller.example, ops").shop_http_hosts == ("poller.example", "ops")
    for wrong in ("https://poller.example", "poller.example:80", "*", "a/b"):
        (problem,) = desk.problems(SHOP_HTTP_HOSTS=wrong)
        assert "should be names such as poller.example" in problem


def test_who_does_not_ask_the_shop_needs_no_keys(desk: Desk) -> None:
    environ = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
        "SHOP_SWEEP_INTERVAL": "0",
    }
    settings = load(environ=environ, dotenv=desk.dotenv, needs_shop_keys=False, parse_sink=parse_sink)
    assert settings.shop == "shop.example"
    with pytest.raises(SettingsError):
        load(environ=environ, dotenv=desk.dotenv, parse_sink=parse_sink)


def test_a_secret_file_that_cannot_be_read_is_named(desk: Desk) -> None:
    binary = desk.write_secret("binary", b"\xff\xfe\x00")
    missing = desk.directory / "missing"

    assert desk.problems(
        WOOCOMMERCE_CONSUMER_KEY_FILE=str(missing),
        WOOCOMMERCE_CONSUMER_SECRET_FILE=str(binary),
        REDIS_URL_FILE=str(desk.directory),
    ) == [
        f"WOOCOMMERCE_CONSUMER_KEY_FILE: cannot read {missing}: No such file or directory",
        f"WOOCOMMERCE_CONSUMER_SECRET_FILE: cannot read {binary}: it is not text",
        f"REDIS_URL_FILE: cannot read {desk.directory}: Is a directory",
    ]


@pytest.mark.parametrize("empty", ["", "\n"])
@pytest.mark.parametrize("name", SECRETS)
def test_an_empty_secret_file_is_named_unless_it_is_a_credential(desk: Desk, name: str, empty: str) -> None:
    path = desk.write_secret(name.upper(), empty)
    assert desk.problems({f"{name.upper()}_FILE": str(path)})[0] == (
        f"{name.upper()}_FILE: there is nothing in {path}; put the secret into it, or do not name it"
    )
    if name.upper() not in KEYS:  # the unit makes blank ones of those that are not there
        assert desk.load(CREDENTIALS_DIRECTORY=str(desk.directory)) == desk.load()


def test_a_secret_where_its_file_should_be_named_is_not_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(desk.directory)
    assert desk.problems(WOOCOMMERCE_CONSUMER_KEY_FILE="ck_4f5a6b") == [
        f"WOOCOMMERCE_CONSUMER_KEY_FILE: cannot read a file of that name in {desk.directory}:"
        " No such file or directory"
    ]


def test_a_credential_that_cannot_be_read_is_named_and_one_that_is_not_there_is_none(desk: Desk) -> None:
    credential = desk.directory / "SHOP_NOTIFY_SECRET"
    credential.mkdir()

    problems = desk.problems(CREDENTIALS_DIRECTORY=str(desk.directory))

    assert problems == [f"CREDENTIALS_DIRECTORY: cannot read {credential}: Is a directory"]


def test_credentials_that_are_no_directory_are_not_as_good_as_none(desk: Desk) -> None:
    file = desk.write_secret("file", b"x")
    problems = desk.problems(CREDENTIALS_DIRECTORY=str(file))
    assert f"CREDENTIALS_DIRECTORY: cannot read {file}/SHOP_NOTIFY_SECRET: Not a directory" in problems
    assert desk.load(CREDENTIALS_DIRECTORY=str(desk.directory / "nowhere")) == desk.load()


def test_of_a_secret_file_without_end_only_so_much_is_read(desk: Desk) -> None:
    problems = desk.problems(WOOCOMMERCE_CONSUMER_KEY_FILE="/dev/zero")

    assert problems == [
        "WOOCOMMERCE_CONSUMER_KEY (from its file): should be letters, digits and underscores only;"
        " was a space or line copied with it?"
    ]


# --- All at once, and no secret in it -----------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once_in_the_order_of_the_documentation(desk: Desk) -> None:
    desk.write_config("shop_floor = 'marble'")
    problems = desk.problems(
        WOOCOMMERCE_MCP_URL="http://shop.example/mcp",
        WOOCOMMERCE_CONSUMER_KEY=None,
        SHOP_POLLING_INTERVAL="often",
        REDIS_URL="https://h.example",
        SHOP_STATE_URL="redis://h/zero",
        SHOP_NOTIFY_URLS="pigeon://post",
        SHOP_HTTP_LISTEN="everywhere",
        SHOP_LOCALE="eo",
    )

    assert [problem.partition(":")[0] for problem in problems] == [
        str(desk.config),
        "WOOCOMMERCE_MCP_URL",
        "WOOCOMMERCE_CONSUMER_KEY",
        "SHOP_POLLING_INTERVAL",
        "REDIS_URL",
        "SHOP_STATE_URL",
        "SHOP_NOTIFY_URLS",
        "SHOP_HTTP_LISTEN",
        "SHOP_LOCALE",
    ]


def test_the_error_as_text_has_all_problems(desk: Desk) -> None:
    with pytest.raises(SettingsError) as caught:
        desk.load(SHOP_SENDERS="0", SHOP_LOCALE="de")

    assert str(caught.value) == "; ".join(caught.value.problems)
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize(
    "name", ["SHOP_ID", "SHOP_LOCALE", "SHOP_LOG_LEVEL", "SHOP_HTTP_LISTEN", "SHOP_POLLING_INTERVAL"]
)
def test_a_secret_pasted_into_the_wrong_variable_is_not_shown(desk: Desk, name: str) -> None:
    (problem,) = desk.problems({name: f" {KEYS['WOOCOMMERCE_CONSUMER_SECRET']}!"})

    assert problem.startswith(f"{name}: ")
    assert "cs_secret" not in problem


MARKER = "s3cr3tM4rk3r"
SHAPES = [
    "{}",
    " {}",
    "{}\n",
    "{} {}",
    "{}:{}",
    "{}@h.example",
    "://u:{}@h.example",
    "u:{}@h.example",
    "redis://:{}@h/0",
    "redis://u:{}@h/0?channel=c",
    "redis://u:{}@h/0?channel=c redis://v:{}@h/0?channel=c",
    "redis://u:{}@h:port/0?channel=c",
    "redis://:{}",
    "redis://:12/{}@h/0?channel=c",
    "rediss://u:{}@h/0?channel=c&x=y",
    "http://u:{}@h.example/mcp",
    "https://u:{}@h.example/mcp",
    "https://u:{}@h.example:99999/mcp",
    "https://u:{}@h.example/mcp https://v:{}@h.example/mcp",
    "http://h.example/mcp?consumer_secret={}",
    "ftp://u:{}@h.example/",
    "sqlite://u:{}@h/state.db",
    "sqlite:////srv/state.db",
    "whsec_{}",
    "whsec_{}!",
    base64.b64encode(MARKER.encode() * 3).decode() + "{}",
]
HOLDERS = [
    "WOOCOMMERCE_MCP_URL",
    "WOOCOMMERCE_CONSUMER_KEY",
    "WOOCOMMERCE_CONSUMER_SECRET",
    "REDIS_URL",
    "SHOP_STATE_URL",
    "SHOP_NOTIFY_URLS",
    "SHOP_NOTIFY_SECRET",
    "SHOP_WEBHOOK_SECRET",
]
BROKEN = {
    "SHOP_POLLING_INTERVAL": "often",
    "SHOP_HTTP_LISTEN": f"u:{MARKER}@h:80",
    "SHOP_LEVEL_MAP": "[",
    "SHOP_SENDERS": "-1",
    "SHOP_ID": f"https://u:{MARKER}@h.example/",
    "SHOP_ALLOW_INSECURE": "perhaps",
}
places = st.sampled_from(["environment", "dotenv", "file", "secret file", "credential"])
holdings = st.fixed_dictionaries(
    {}, optional={name: st.tuples(st.sampled_from(SHAPES), places) for name in HOLDERS}
)


@given(holdings, st.sets(st.sampled_from(sorted(BROKEN))))
@hypothesis_settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_secret_is_ever_shown_whatever_is_wrong(
    tmp_path_factory: pytest.TempPathFactory, held: dict[str, tuple[str, str]], broken: set[str]
) -> None:
    desk = Desk(tmp_path_factory.mktemp("desk"), environ={**KEYS, **{name: BROKEN[name] for name in broken}})
    config, dotenv = "", ""
    for name, (shape, place) in held.items():
        value = shape.replace("{}", MARKER)
        match place:
            case "environment":
                desk.environ[name] = value
            case "dotenv":
                dotenv += f"{name}='{value}'\n"
            case "file":
                config += f"{name.lower()} = '''{value}'''\n"
            case "secret file":
                desk.environ[f"{name}_FILE"] = str(desk.write_secret(f"{name}.secret", value))
            case _:
                desk.environ["CREDENTIALS_DIRECTORY"] = str(desk.directory)
                desk.write_secret(name, value)
    desk.dotenv.write_text(dotenv)
    desk.write_config(config)

    shown: list[Any]
    try:
        settings = desk.load()
        shown = [settings, str(settings), settings.sinks, [sink.name for sink in settings.sinks]]
    except SettingsError as error:
        shown = [error, str(error), error.problems, error.__cause__, error.__context__]

    assert MARKER not in repr(shown)


def test_settings_do_not_change_once_they_are_read(desk: Desk) -> None:
    settings = desk.load()

    with pytest.raises(ValueError, match="frozen"):
        settings.shop_senders = 1  # type: ignore[misc] # that is what must not work
