"""Names of settings that do not exist: which are errors where, and which name is suggested."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from apprise.plugins import N_MGR

from shop_poller.config.settings import SECRETS, Settings, SettingsError
from shop_poller.config.shops import ShopsConfig, load_shops
from shop_poller.config.sink_spelling import option_names
from shop_poller.core.spelling import closest
from shop_poller.sinks.apprise.schemes import OWN_PARAMETERS
from shop_poller.sinks.registry import parse_sink
from support.marked_language import assert_translatable

ENVIRONMENT = {
    "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
    "WOOCOMMERCE_CONSUMER_KEY": "ck_key",
    "WOOCOMMERCE_CONSUMER_SECRET": "cs_secret",
}
TABLE = """
[[shops]]
shop_id = "honey"
woocommerce_mcp_url = "https://honey.example/wp-json/woocommerce/mcp"
woocommerce_consumer_key = "ck_honey"
woocommerce_consumer_secret = "cs_honey"
"""


def loaded(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: str | bytes = "",
    config: str | None = None,
    one: bool = True,
) -> ShopsConfig:
    (folder / ".env").write_bytes(dotenv if isinstance(dotenv, bytes) else dotenv.encode())
    if config is not None:
        (folder / "shops.toml").write_text(config, encoding="utf-8")
    return load_shops(
        None if config is None else folder / "shops.toml",
        environ={**(ENVIRONMENT if one else {}), **(environ or {})},
        dotenv=folder / ".env",
        parse_sink=parse_sink,
    )


def problems(
    folder: Path,
    environ: Mapping[str, str] | None = None,
    *,
    dotenv: str | bytes = "",
    config: str | None = None,
    one: bool = True,
) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        loaded(folder, environ, dotenv=dotenv, config=config, one=one)
    assert_translatable(caught.value.problems)
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


# --- The environment ---


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("SHOP_NOTIFY_URL", "SHOP_NOTIFY_URLS"),
        ("SHOP_POLING_INTERVAL", "SHOP_POLLING_INTERVAL"),
        ("SHOP_POLL_INTERVAL", "SHOP_POLLING_INTERVAL"),
        ("shop_notify_url", "SHOP_NOTIFY_URLS"),
        ("SHPO_LOCALE", "SHOP_LOCALE"),
        ("WOOCOMERCE_CONSUMER_KEY", "WOOCOMMERCE_CONSUMER_KEY"),
        ("WORDPRES_USERNAME", "WORDPRESS_USERNAME"),
        ("SHOP_NOTIFY_URL_FILE", "SHOP_NOTIFY_URLS_FILE"),
    ],
)
def test_a_misspelled_variable_is_named_with_the_right_one(tmp_path: Path, name: str, right: str) -> None:
    assert problems(tmp_path, {name: "x"}) == [f"{name}: is no setting; did you mean {right}?"]


@pytest.mark.parametrize("name", [*map(str.upper, Settings.model_fields)])
def test_no_setting_is_a_misspelling_of_another(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path, {name: "", "SHOP_SENDERS": "0"} if name != "SHOP_SENDERS" else {name: "0"})
    assert not [problem for problem in found if "did you mean" in problem]


@pytest.mark.parametrize("service", ["SHOP", "SHOP_POLLER", "SHOP_NOTIFY", "SHOP_HTTP", "SHOP_STATE"])
def test_what_kubernetes_says_of_a_service_stops_nothing(tmp_path: Path, service: str) -> None:
    port = f"{service}_PORT_8080_TCP"
    names = [f"{service}_SERVICE_HOST", f"{service}_SERVICE_PORT", f"{service}_SERVICE_PORT_HTTP"]
    names += [f"{service}_PORT", port, f"{port}_PROTO", f"{port}_PORT", f"{port}_ADDR"]
    found = loaded(tmp_path, dict.fromkeys(names, "tcp://10.0.0.1:8080"))
    assert found.shops == loaded(tmp_path).shops
    assert found.ignored == ()


def test_what_may_be_another_programs_is_only_named_by_check(tmp_path: Path) -> None:
    others = ["SHOP_FLOOR", "SHOP_ID_OF_ANOTHER", "WOOCOMMERCE_CONSUMER_KEY_TEA", "WORDPRESS_DB_HOST"]
    others += ["REDIS_URI", "SHELL", "PATH", "WORK"]
    found = loaded(tmp_path, dict.fromkeys(others, "x"))
    assert found.ignored == ("SHOP_FLOOR", "SHOP_ID_OF_ANOTHER", "WOOCOMMERCE_CONSUMER_KEY_TEA")


def test_only_secrets_come_from_files(tmp_path: Path) -> None:
    assert problems(tmp_path, {"SHOP_LOCALE_FILE": "/run/x"}) == [
        "SHOP_LOCALE_FILE: only secrets are read from files; set SHOP_LOCALE"
    ]


def test_a_variable_that_a_table_names_may_be_called_anything(tmp_path: Path) -> None:
    table = TABLE.replace('consumer_key = "ck_honey"', 'consumer_key_env = "SHOP_NOTIFY_URL"')
    dotenv = "SHOP_NOTIFY_URL=unused\n"
    (shop,) = loaded(tmp_path, {"SHOP_NOTIFY_URL": "ck_x"}, config=table, dotenv=dotenv, one=False).shops
    assert shop.woocommerce_consumer_key is not None


def test_credentials_that_are_not_read_are_named(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    folder.mkdir()
    names = ["SHOP_NOTIFY_URL", "SHOP_LOCALE", "SHOP_NOTIFY_SECRET", "shops.toml", "honey.key", "SHOP_FLOOR"]
    for name in names:
        (folder / name).write_text("", encoding="utf-8")
    assert problems(tmp_path, {"CREDENTIALS_DIRECTORY": str(folder)}) == [
        "CREDENTIALS_DIRECTORY/SHOP_LOCALE: only secrets are read from files; set SHOP_LOCALE",
        "CREDENTIALS_DIRECTORY/SHOP_NOTIFY_URL: is no setting; did you mean SHOP_NOTIFY_URLS?",
    ]
    assert loaded(tmp_path, {"CREDENTIALS_DIRECTORY": str(tmp_path / "nowhere")}).shops


# --- .env ---


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("SHOP_NOTIFY_URL=console:", "there is no setting 'SHOP_NOTIFY_URL'; did you mean SHOP_NOTIFY_URLS?"),
        ("SHOP-LOCALE=en", "there is no setting 'SHOP-LOCALE'; did you mean SHOP_LOCALE?"),
        ("WORDPRES_USERNAME=x", "there is no setting 'WORDPRES_USERNAME'; did you mean WORDPRESS_USERNAME?"),
        ("SHOP_FLOOR=marble", "there is no setting 'SHOP_FLOOR'; docs/configuration.md lists them"),
        ("WOOCOMMERCE_KEY=x", "there is no setting 'WOOCOMMERCE_KEY'; docs/configuration.md lists them"),
        ("SHOP_PORT=80", "there is no setting 'SHOP_PORT'; docs/configuration.md lists them"),
        ("SHOP_NOTIFY_URL", "there is no setting 'SHOP_NOTIFY_URL'; did you mean SHOP_NOTIFY_URLS?"),
    ],
)
def test_in_dotenv_every_unknown_name_is_named(tmp_path: Path, line: str, problem: str) -> None:
    assert problems(tmp_path, dotenv=f"# ours\n{line}\n") == [f".env: {problem}"]


@pytest.mark.parametrize("line", ["SHOP_ID honey", "SHOP_ID: honey", "SHOP_NOTIFY_URLS='https://h.example"])
def test_a_line_that_is_no_setting_is_named(tmp_path: Path, line: str) -> None:
    """It was left out before, and the default taken."""
    assert problems(tmp_path, dotenv=f"SHOP_LOCALE=en\n{line}\n") == [
        ".env, line 2: should be NAME=value; perhaps a quote or = is missing"
    ]


def test_what_is_not_ours_in_dotenv_stops_nothing(tmp_path: Path) -> None:
    others = "COMPOSE_PROJECT_NAME=x\nWORDPRESS_DB_HOST=db\nREDIS_URI=x\nan odd line\n"
    dotenv = f"{others}SHOP_SENDERS\nSHOP_LOCALE=en\n"
    (shop,) = loaded(tmp_path, dotenv=dotenv).shops
    assert (shop.shop_locale, shop.shop_senders) == ("en", 8)


def test_the_mark_that_windows_puts_before_the_first_name_is_no_part_of_it(tmp_path: Path) -> None:
    (shop,) = loaded(tmp_path, dotenv=b"\xef\xbb\xbfSHOP_LOCALE=en\r\n").shops
    assert shop.shop_locale == "en"


# --- The TOML file ---


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ("shop_notify_url = 'x'", "there is no setting 'shop_notify_url'; did you mean shop_notify_urls?"),
        (
            "polling_interval = 5",
            "there is no setting 'polling_interval'; did you mean shop_polling_interval?",
        ),
        ("SHOP_ID = 'x'", "there is no setting 'SHOP_ID'; did you mean shop_id?"),
        ("[[shop]]\nshop_id = 'x'", "there is no setting 'shop'; did you mean shops?"),
        (
            "[defaults]\nshop_locale = 'en'",
            "there is no table 'defaults'; write settings for all shops at the top, in no table",
        ),
        ("[shop_sink_option.crm]", "there is no setting 'shop_sink_option'; did you mean shop_sink_options?"),
        (
            "shop_admin_token_file = 'x'",
            "shop_admin_token_file is only for the tables of [[shops]]; set the variable"
            " SHOP_ADMIN_TOKEN_FILE",
        ),
    ],
)
def test_a_key_for_all_shops(tmp_path: Path, config: str, problem: str) -> None:
    assert problems(tmp_path, config=config) == [f"shops.toml: {problem}"]


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        (
            "shop_poling_interval",
            "there is no setting 'shop_poling_interval' of a shop; did you mean shop_polling_",
        ),
        ("name", "there is no setting 'name' of a shop; did you mean shop_name?"),
        (
            "consumer_secret",
            "there is no setting 'consumer_secret' of a shop; did you mean woocommerce_consumer_",
        ),
        ("shop_notify_url_file", "did you mean shop_notify_urls_file?"),
        ("was_alonee", "did you mean was_alone?"),
        ("floor", "there is no setting 'floor' of a shop; docs/fleets.md lists them"),
    ],
)
def test_a_key_of_one_shop(tmp_path: Path, key: str, problem: str) -> None:
    (found,) = problems(tmp_path, config=f'{TABLE}{key} = "1"\n', one=False)
    assert found.startswith("shop honey: ")
    assert problem in found


def test_the_options_of_a_sink(tmp_path: Path) -> None:
    config = "shop_notify_urls = 'console:'\n[shop_sink_options.'console:']\n"
    assert problems(tmp_path, config=f"{config}level = 'error'") == [
        "SHOP_SINK_OPTIONS (from shops.toml): console: there is no option 'level' of this kind of sink;"
        " did you mean levels?"
    ]
    assert problems(tmp_path, config=f"{config}shop_senders = 3") == [
        "SHOP_SINK_OPTIONS (from shops.toml): 'console:': 'shop_senders': is a setting; write it above the"
        " first table"
    ]


# --- Keys ---


def test_swapped_keys_are_named(tmp_path: Path) -> None:
    found = problems(tmp_path, {"WOOCOMMERCE_CONSUMER_KEY": "cs_1", "WOOCOMMERCE_CONSUMER_SECRET": "ck_1"})
    assert found == [
        "WOOCOMMERCE_CONSUMER_KEY: begins with cs_, like a WOOCOMMERCE_CONSUMER_SECRET; are key and secret"
        " swapped?",
        "WOOCOMMERCE_CONSUMER_SECRET: begins with ck_, like a WOOCOMMERCE_CONSUMER_KEY; are key and secret"
        " swapped?",
    ]
    table = TABLE.replace("ck_", "xx_").replace("cs_", "ck_").replace("xx_", "cs_")
    assert [line.partition(": begins")[0] for line in problems(tmp_path, config=table, one=False)] == [
        "shop honey: WOOCOMMERCE_CONSUMER_KEY",
        "shop honey: WOOCOMMERCE_CONSUMER_SECRET",
    ]


# --- Addresses of sinks ---


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        (
            "https://h.example/x?level=critical#crm",
            "crm: there is no option level=; did you mean levels=? If it is the receiver's own, write"
            " %6Cevel=",
        ),
        ("https://h.example/x?token=1&event=new", "event=; did you mean events=?"),
        ("https://h.example/x?quite=22:00-08:00", "quite=; did you mean quiet=?"),
        ("https://h.example/x?quiet=22:00-08:00&urgnt=error", "urgnt=; did you mean urgent=?"),
        ("https://h.example/x?digests=daily@09:00", "digests=; did you mean digest=?"),
        ("https://h.example/x?redirect=delivered", "redirect=; did you mean redirects=?"),
        (
            "redis://h/0?chan_nel=c",
            "an option that is not known: chan_nel; did you mean channel?",
        ),
        ("redis://h/0?channel=c&level=error", "an option that is not known: level; did you mean levels?"),
        ("redis+stream://h/0?stream=s&max_len=5", "option that is not known: max_len; did you mean maxlen?"),
        ("apprise+tgram://1:a/7?level=critical", "level=; did you mean levels=?"),
        ("tgram://1:a/7?event=new", "event=; did you mean events=?"),
        ("apprise+tgram://1:a/7?locales=en", "locales=; did you mean locale=?"),
        (
            "console:?level=error",
            "there are events, levels, where, rate, quiet, urgent, digest, group, locale",
        ),
    ],
)
def test_a_misspelled_parameter_is_named_with_the_right_one(address: str, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_sink(address)


@pytest.mark.parametrize(
    "address",
    [
        "https://h.example/x?%6Cevel=critical",
        "https://h.example/x?date=1&key=2&source=a&levels%5B%5D=1&group=a&style=b&locales=c",
        "https://h.example/x?urgen=1&digests=2&redirect=no&redirects=all",
        "apprise+bark://h.example/key?level=critical&group=a",
        "apprise+notifiarr://key/1?event=2",
        "apprise+json://h.example/?+levels=1&-event=2&:rates=3",
        "apprise+mailto://u:p@h.example?format=html&overflow=split&verify=no&to=a@b.example&mode=ssl",
    ],
)
def test_parameters_of_the_receiver_are_not_ours(address: str) -> None:
    parse_sink(address)


@pytest.mark.filterwarnings("ignore:.* is deprecated and slated for removal:DeprecationWarning")
def test_no_parameter_of_a_service_of_apprise_is_taken_for_a_misspelling() -> None:
    ours = option_names(is_for_people=True)
    found: dict[str, set[str]] = {}
    schemas: Callable[[], list[str]] = N_MGR.schemas
    for scheme in schemas():
        names = {name.lower() for name in (*N_MGR[scheme].template_args, *N_MGR[scheme].template_tokens)}
        if near := {name for name in names - {*ours} if closest(name, ours)}:
            found[scheme] = near
    assert found == OWN_PARAMETERS


def test_every_secret_may_come_from_a_file_by_its_own_name() -> None:
    assert {f"{name.upper()}_FILE" for name in SECRETS}.isdisjoint(map(str.upper, Settings.model_fields))
