"""Several shops in one file: what each gets, where its state lies, and how wrong tables are named."""

from pathlib import Path
from typing import Any

import pytest

from shop_poller.config.redis_address import RedisAddress
from shop_poller.config.settings import Settings, SettingsError
from shop_poller.config.shops import MAX_SHOPS, ShopsConfig, choose, load_shops, shared_addresses
from shop_poller.runtime.factory import shop_credentials
from shop_poller.sinks.registry import parse_sink
from support.marked_language import assert_translatable

TWO = """
shop_state_url = "sqlite:////var/lib/shop-poller/state.db"
shop_polling_interval = 30
shop_locale = "en"

[[shops]]
shop_id = "honey"
woocommerce_mcp_url = "https://honey.example/wp-json/woocommerce/mcp"
woocommerce_consumer_key_file = "honey.key"
woocommerce_consumer_secret_env = "HONEY_SECRET"
shop_notify_urls = "https://crm.example/hooks#crm"

[[shops]]
shop_id = "tea"
woocommerce_mcp_url = "https://tea.example/wp-json/woocommerce/mcp"
woocommerce_consumer_key = "ck_tea"
woocommerce_consumer_secret = "cs_tea"
shop_polling_interval = 120
"""
ENVIRONMENT = {"HONEY_SECRET": "cs_honey", "BLANK_ONE": " ", "SHOP_NOTIFY_URLS": "console:"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "honey.key").write_text("ck_honey\n", encoding="utf-8")
    return tmp_path


def shops_config(
    folder: Path, text: str, *, needs_shop_keys: bool = True, **changes: Any
) -> tuple[Settings, ...]:
    config = folder / "shops.toml"
    config.write_text(text, encoding="utf-8")
    return load_shops(
        config,
        environ={**ENVIRONMENT, **changes},
        dotenv=folder / ".env",
        needs_shop_keys=needs_shop_keys,
        parse_sink=parse_sink,
    ).shops


def problems(folder: Path, text: str, **changes: Any) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        shops_config(folder, text, **changes)
    assert_translatable(caught.value.problems)
    return caught.value.problems


def test_each_shop_has_what_its_table_says_and_else_what_is_said_for_all(folder: Path) -> None:
    honey, tea = shops_config(folder, TWO)
    assert (honey.shop, tea.shop) == ("honey", "tea")
    assert (honey.shop_polling_interval, tea.shop_polling_interval) == (30, 120)
    assert honey.shop_locale == tea.shop_locale == "en"
    assert ([sink.name for sink in honey.sinks], [sink.name for sink in tea.sinks]) == (["crm"], ["console:"])
    assert (shop_credentials(honey).consumer_key, shop_credentials(honey).consumer_secret) == (
        "ck_honey",
        "cs_honey",
    )
    assert (shop_credentials(tea).consumer_key, shop_credentials(tea).consumer_secret) == ("ck_tea", "cs_tea")
    assert {"ck_honey", "cs_honey"} <= {*honey.secrets}


def test_a_shop_has_the_tags_of_its_table_each_once(folder: Path) -> None:
    tagged = TWO.replace("= 120", '= 120\ntags = ["premium", "чай", "premium", "2026-q4"]')
    honey, tea = shops_config(folder, tagged)
    assert (honey.tags, tea.tags) == ((), ("premium", "чай", "2026-q4"))
    alone = tagged.replace("= 120", "= 120\nwas_alone = true")
    assert shops_config(folder, alone)[1].tags == tea.tags


def test_each_shop_has_a_place_of_its_own(folder: Path) -> None:
    honey, tea = shops_config(folder, TWO)
    assert honey.state == Path("/var/lib/shop-poller/state.db.shops/honey.db")
    assert tea.state == Path("/var/lib/shop-poller/state.db.shops/tea.db")
    in_redis = TWO.replace("sqlite:////var/lib/shop-poller/state.db", "redis://h:6379/3")
    honey, tea = shops_config(folder, in_redis)
    assert honey.state == tea.state
    assert isinstance(honey.state, RedisAddress)
    assert (honey.shop_redis_prefix, tea.shop_redis_prefix) == (
        "shop:polling:shops:honey:",
        "shop:polling:shops:tea:",
    )


def test_each_shop_has_a_place_of_its_own_also_where_the_state_directory_has_an_odd_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", "/srv/no#1/what?")
    honey, tea = shops_config(folder, TWO.replace("shop_state_url", "# shop_state_url"))
    assert honey.state == Path("/srv/no#1/what?/shop-poller.db.shops/honey.db")
    assert tea.state == Path("/srv/no#1/what?/shop-poller.db.shops/tea.db")


@pytest.mark.parametrize("state", ["sqlite:////var/lib/shop-poller/state.db", "redis://h:6379/3"])
def test_a_shop_that_was_alone_keeps_its_place_wherever_it_stands(folder: Path, state: str) -> None:
    text = (
        TWO.replace("sqlite:////var/lib/shop-poller/state.db", state) + "was_alone = true\n"  # the second one
    )
    _, tea = shops_config(folder, text)
    assert tea.shop_redis_prefix == "shop:polling:"
    if state.startswith("sqlite"):
        assert tea.state == Path("/var/lib/shop-poller/state.db")


def test_without_tables_there_is_the_one_shop_of_the_variables(folder: Path) -> None:
    config = folder / "shop.toml"
    config.write_text("shop_polling_interval = 45\n", encoding="utf-8")
    environ = {
        "WOOCOMMERCE_MCP_URL": "https://shop.example/wp-json/woocommerce/mcp",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_x",
        "WOOCOMMERCE_CONSUMER_SECRET": "cs_x",
        "SHOP_STATE_URL": "sqlite:////tmp/x.db",
    }
    (shop,) = load_shops(config, environ=environ, dotenv=folder / ".env", parse_sink=parse_sink).shops
    assert (shop.shop, shop.shop_polling_interval, shop.state) == ("shop.example", 45, Path("/tmp/x.db"))  # noqa: S108 - nothing is written there


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (('"tea"', '"honey"'), "shop honey: two have this id"),
        (('"tea"', '"Honey"'), "shop honey: two have this id"),
        (('"tea"', '"te/a"'), "shop te/a: SHOP_ID: should be up to 100 letters"),  # codespell:ignore te
        (('"tea"', '".."'), "shop ..: SHOP_ID: should be up to 100 letters"),
        (('"tea"', '"a:b"'), "shop a:b: SHOP_ID: should be up to 100 letters"),
        (
            ("HONEY_SECRET", "NOBODY_S_2"),
            "shop honey: woocommerce_consumer_secret_env: should be the name of a variable of the environment"
            " that is set (now: 'NOBODY_S_2')",
        ),
        (("honey.key", "none.key"), "shop honey: woocommerce_consumer_key_file: cannot read "),
        (("= 120", "= 0"), "shop tea: SHOP_POLLING_INTERVAL: input should be greater than or equal to 1"),
        (('woocommerce_consumer_secret = "cs_tea"', ""), "shop tea: WOOCOMMERCE_CONSUMER_SECRET: is missing"),
        (('_url = "https://tea', '_url = "http://tea'), "shop tea: WOOCOMMERCE_MCP_URL: is plain http"),
        (("= 120", '= 120\nfloor = "marble"'), "shop tea: there is no setting 'floor' of a shop"),
        (("= 120", '= 120\nredis_url_env = "X"'), "shop tea: there is no setting 'redis_url_env' of a shop"),
        (("= 120", "= 120\nwoocommerce_consumer_secret_env = 7"), "woocommerce_consumer_secret_env: should"),
        (
            ("= 120", '= 120\nwoocommerce_consumer_secret_env = "HONEY_SECRET"'),
            "shop tea: woocommerce_consumer_secret: is given 2 times, as woocommerce_consumer_secret and"
            " woocommerce_consumer_secret_env; keep one",
        ),
        (
            ("= 120", '= 120\nshop_notify_secret_file = "a"\nshop_notify_secret_env = "HONEY_SECRET"'),
            "shop tea: shop_notify_secret: is given 2 times, as shop_notify_secret_file and shop_notify_s",
        ),
        (("HONEY_SECRET", "BLANK_ONE"), "shop honey: woocommerce_consumer_secret_env: should be the name of"),
        (("= 120", '= 120\nwas_alone = "yes"'), "shop tea: was_alone: should be true or false"),
        (("= 120", '= 120\ntags = "premium"'), 'tea: tags: should be a list such as ["premium", "berlin"]'),
        (("= 120", "= 120\ntags = [1]"), "shop tea: tags: should be a list"),
        (("= 120", f"= 120\ntags = {['one', *map(str, range(10))]}"), "tea: tags: has 11 tags; 10 at most"),
        (("= 120", '= 120\ntags = ["words/apart"]'), "shop tea: tags: a tag should be up to 30 letters"),
        (("= 120", f'= 120\ntags = ["{"a" * 31}"]'), "shop tea: tags: a tag should be up to 30 letters"),
        (("= 120", '= 120\ntags = ["ck_tea ck_tea"]'), "shop tea: tags: a tag should be up to 30 letters"),
        (("= 120", '= 120\nshop_log_level = "info"'), "shop tea: shop_log_level: is for all shops"),
        (("= 120", '= 120\nshop_http_hosts = "a.example"'), "shop tea: shop_http_hosts: is for all shops"),
        (
            ("= 120", '= 120\nshop_webhook_secret = "1234567"'),
            "shop tea: SHOP_WEBHOOK_SECRET: should have at least 8 characters",
        ),
        (("[[shops]]", "[shops]", 1), "cannot be read as TOML"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_shop(folder: Path, change: Any, problem: str) -> None:
    found = problems(folder, TWO.replace(*change))
    assert any(problem in line for line in found), found
    assert not any("cs_tea" in line or "cs_honey" in line or "ck_" in line for line in found)


@pytest.mark.parametrize(
    "secret",
    [
        "ck_4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6",
        "CS_SECRET",
        "WHSEC_AAAA",
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "JBSWY3DPEHPK3PXP",
        "AF_30C1_99",
        "SESAME",
        "abcd EFGH ijkl MNOP",
        "redis://:sesame@h:6379/0",
        "A_" * 40 + "B",
        "NAME_OF\\nTWO_LINES",
    ],
)
@pytest.mark.parametrize("how", ["env", "file"])
def test_a_secret_where_its_variable_or_file_should_be_named_is_not_shown(
    folder: Path, how: str, secret: str
) -> None:
    requested = f'woocommerce_consumer_secret_{how} = "{secret}"'
    found = problems(folder, TWO.replace('woocommerce_consumer_secret_env = "HONEY_SECRET"', requested))
    assert found[0].startswith(f"shop honey: woocommerce_consumer_secret_{how}: ")
    assert not any(shown in line for line in found for shown in (secret, "sesame", "TWO_LINES"))


def test_an_empty_file_is_no_secret_and_not_the_default(folder: Path) -> None:
    (folder / "honey.whsec").write_text(" \n", encoding="utf-8")
    text = TWO.replace('"honey.key"', '"honey.key"\nshop_notify_secret_file = "honey.whsec"')
    assert problems(folder, text) == [
        "shop honey: shop_notify_secret_file: there is nothing in honey.whsec; put the secret into it,"
        " or do not name it"
    ]


def test_a_service_has_its_file_as_a_credential_unless_one_is_named(folder: Path) -> None:
    credentials = folder / "credentials"
    credentials.mkdir()
    environ = {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(credentials)}

    def shops(config: Path | None) -> list[str]:
        try:
            return [
                one.shop
                for one in load_shops(
                    config, environ=environ, dotenv=folder / ".env", parse_sink=parse_sink
                ).shops
            ]
        except SettingsError as error:
            return error.problems[:1]

    nothing = shops(None)
    assert nothing[0].startswith("WOOCOMMERCE_MCP_URL: is missing")
    (credentials / "shops.toml").write_text("\n", encoding="utf-8")  # as the unit has it
    assert shops(None) == nothing
    (credentials / "shops.toml").write_text(TWO, encoding="utf-8")
    (credentials / "honey.key").write_text("ck_honey", encoding="utf-8")
    assert shops(None) == ["honey", "tea"]
    named = folder / "named.toml"
    named.write_text(TWO.replace('"tea"', '"coffee"'), encoding="utf-8")
    assert shops(named) == ["honey", "coffee"]


def test_one_bracket_is_a_bracket_too_few(folder: Path) -> None:
    (problem,) = problems(folder, '[shops]\nshop_id = "tea"\n', WOOCOMMERCE_MCP_URL="")[:1]
    assert problem.endswith("write [[shops]], with two brackets, before each shop")


@pytest.mark.parametrize("name", ["WOOCOMMERCE_MCP_URL", "WOOCOMMERCE_CONSUMER_SECRET", "SHOP_ID"])
def test_no_shop_s_keys_are_said_for_all(folder: Path, name: str) -> None:
    """They would be shown to another shop."""
    found = problems(folder, TWO, **{name: "https://one.example/"})
    assert f"{name}: is one shop's own; put it into its [[shops]] table" in found


def test_an_address_that_was_copied_is_named(folder: Path) -> None:
    honey, tea = shops_config(folder, TWO)
    assert shared_addresses([honey, tea]) == []
    copied = tea.model_copy(update={"woocommerce_mcp_url": f"{honey.woocommerce_mcp_url.upper()}/"})
    assert shared_addresses([honey, copied]) == [
        "honey, tea have the same WOOCOMMERCE_MCP_URL, so each order is announced for each of them"
    ]


def test_a_variable_that_a_table_names_may_be_set_in_dotenv(folder: Path) -> None:
    """As every other one."""
    (folder / ".env").write_text("TEA_KEY=ck_of_tea\n", encoding="utf-8")
    text = TWO.replace('woocommerce_consumer_key = "ck_tea"', 'woocommerce_consumer_key_env = "TEA_KEY"')
    _, tea = shops_config(folder, text)
    assert shop_credentials(tea).consumer_key == "ck_of_tea"
    _, tea = shops_config(folder, text, TEA_KEY="ck_of_environment")
    assert shop_credentials(tea).consumer_key == "ck_of_environment"


def test_a_file_that_is_not_there_is_all_that_is_wrong(folder: Path) -> None:
    """What it would have said is not missing."""
    with pytest.raises(SettingsError) as caught:
        load_shops(folder / "shop.toml", environ={}, dotenv=folder / ".env", parse_sink=parse_sink)
    assert caught.value.problems == [
        f"{folder / 'shop.toml'}: cannot be read as TOML: No such file or directory"
    ]


def test_a_problem_of_many_shops_is_one_line(folder: Path) -> None:
    """Of a thousand shops nobody wants to read a thousand."""
    tables = "".join(
        f'[[shops]]\nshop_id = "s{number}"\nwoocommerce_mcp_url = "https://s{number}.example/mcp"\n'
        'woocommerce_consumer_key = "ck_x"\nwoocommerce_consumer_secret = "cs_x"\n'
        for number in range(1, 13)
    )
    (problem,) = problems(folder, f"shop_polling_interval = 0\n{tables}")
    assert problem.startswith("every shop: SHOP_POLLING_INTERVAL (from ")
    assert problem.endswith("input should be greater than or equal to 1 (now: '0')")
    own = tables.replace('"cs_x"\n', '"cs_x"\nshop_senders = 0\n', 11)
    wrong = "SHOP_SENDERS: input should be greater than or equal to 1 (now: '0')"
    assert problems(folder, own) == [f"shops s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, …: {wrong}"]
    own = tables.replace('"cs_x"\n', '"cs_x"\nshop_senders = 0\n', 2)
    assert problems(folder, own) == [f"shops s1, s2: {wrong}"]


def test_a_secret_that_cannot_be_read_is_not_missing_too(folder: Path) -> None:
    text = TWO.replace('"honey.key"', '"hony.key"').replace('"HONEY_SECRET"', '"HONY_SECRET"')
    found = problems(folder, text)
    assert [line.partition(": ")[2].partition(":")[0] for line in found] == [
        "woocommerce_consumer_key_file",
        "woocommerce_consumer_secret_env",
    ]


def test_a_table_without_an_id_is_named_by_its_number(folder: Path) -> None:
    found = problems(folder, TWO.replace('shop_id = "tea"', ""))
    assert found == ["shop 2: SHOP_ID: is missing; each table of [[shops]] needs its own shop_id"]


def test_each_shop_has_a_webhook_secret_or_that_of_all(folder: Path) -> None:
    (folder / "tea.hook").write_text("secret of tea\n", encoding="utf-8")
    text = TWO.replace("= 120", '= 120\nshop_webhook_secret_file = "tea.hook"')
    honey, tea = shops_config(folder, text)
    assert honey.shop_webhook_secret is None
    honey, tea = shops_config(folder, text, SHOP_WEBHOOK_SECRET="secret of all")
    found = [shop.shop_webhook_secret for shop in (honey, tea)]
    assert [secret and secret.get_secret_value() for secret in found] == ["secret of all", "secret of tea"]
    assert "secret of tea" in tea.secrets


ON_A_CLUSTER = TWO.replace(
    'shop_state_url = "sqlite:////var/lib/shop-poller/state.db"',
    'shop_state_url = "redis+cluster://a:6379,b:6379"\nshop_redis_prefix = "{shop}:polling:"',
)


@pytest.mark.parametrize(
    ("text", "changes", "name"),
    [
        (ON_A_CLUSTER, {}, "SHOP_STATE_URL (from "),
        (ON_A_CLUSTER.replace("redis+cluster", "rediss+cluster"), {}, "SHOP_STATE_URL (from "),
        (TWO, {"SHOP_STATE_URL": "redis+cluster://a", "SHOP_REDIS_PREFIX": "{s}:"}, "SHOP_STATE_URL: "),
        (
            TWO.replace("shop_state_url", "redis_url").replace("sqlite:///", "redis+cluster://u:pw-of-it@h")
            .replace("h/var/lib/shop-poller/state.db", "h:6379"),
            {"SHOP_REDIS_PREFIX": "{s}:"},
            "REDIS_URL (from ",
        ),
        (ON_A_CLUSTER.replace('shop_redis_prefix = "{shop}:polling:"', ""), {}, "SHOP_STATE_URL (from "),
        (ON_A_CLUSTER.replace('"tea"\n', '"tea"\nwas_alone = true\n'), {}, "SHOP_STATE_URL (from "),
    ],
)  # fmt: skip
def test_several_shops_are_refused_on_a_cluster(
    folder: Path, text: str, changes: dict[str, str], name: str
) -> None:
    found = problems(folder, text, **changes)
    (problem,) = [problem for problem in found if "for one shop only" in problem]
    assert problem.startswith(name)
    assert "redis+sentinel://" in problem
    assert "\n" not in problem
    assert "pw-of-it" not in "".join(found)


def test_one_shop_is_welcome_on_a_cluster(folder: Path) -> None:
    (only,) = shops_config(folder, ON_A_CLUSTER[: ON_A_CLUSTER.rindex("[[shops]]")])
    assert isinstance(only.state, RedisAddress)
    alone: dict[str, Any] = {
        "SHOP_STATE_URL": "redis+cluster://a", "SHOP_REDIS_PREFIX": "{s}:",
        "WOOCOMMERCE_CONSUMER_KEY": "ck_1", "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
        "WOOCOMMERCE_MCP_URL": "https://a.example/wp-json/woocommerce/mcp",
    }  # fmt: skip
    (only,) = shops_config(folder, "", **alone)
    assert isinstance(only.state, RedisAddress)


def test_two_cannot_both_have_been_the_only_one(folder: Path) -> None:
    text = TWO.replace("shop_id", "was_alone = true\nshop_id")
    assert "was_alone: only one shop can have been the only one" in problems(folder, text)


def test_there_is_a_bound_of_shops(folder: Path) -> None:
    (problem,) = problems(folder, "[[shops]]\n" * (MAX_SHOPS + 1))
    assert "has more than 10,000 shops" in problem


def test_a_command_has_to_be_told_which_shop(folder: Path) -> None:
    shops = shops_config(folder, TWO)
    assert choose(shops, "tea").shop == "tea"
    assert choose(shops[:1], None) is choose(shops[:1], "honey") is shops[0]
    with pytest.raises(SettingsError, match="--shop: is missing, and there are 2 shops: honey, tea"):
        choose(shops, None)
    with pytest.raises(SettingsError, match="there is no shop 'hony'; did you mean honey"):
        choose(shops_config(folder, TWO), "hony")
    with pytest.raises(SettingsError, match="--shop: there is no shop 'coffee'; there are: honey, tea"):
        choose(shops, "coffee")


def test_many_shops_are_not_all_named(folder: Path) -> None:
    with pytest.raises(SettingsError, match=r"there are 22 shops: (\w+, ){10}…; `shop-poller shops list`"):
        choose(shops_config(folder, TWO) * 11, None)


def test_without_asking_the_shops_no_keys_are_needed(folder: Path) -> None:
    text = TWO.replace('woocommerce_consumer_secret = "cs_tea"', "")
    assert [shop.shop for shop in shops_config(folder, text, needs_shop_keys=False)] == ["honey", "tea"]


# --- Who may read, and tags ---


def shops_and_tokens(folder: Path, text: str, **changes: Any) -> ShopsConfig:
    config = folder / "shops.toml"
    config.write_text(text, encoding="utf-8")
    return load_shops(
        config, environ={**ENVIRONMENT, **changes}, dotenv=folder / ".env", parse_sink=parse_sink
    )


READERS = 'shop_admin_token = "the-token-of-the-admin"\nshop_read_token = "a-token-that-only-reads"\n' + TWO


def test_a_table_may_have_a_token_that_shows_its_shop_only(folder: Path) -> None:
    (folder / "tea.token").write_text("the-token-of-the-tea-shop\n", encoding="utf-8")
    for line, changes in (
        ('read_token = "the-token-of-the-tea-shop"', {}),
        ('read_token_file = "tea.token"', {}),
        ('read_token_env = "TEA_TOKEN"', {"TEA_TOKEN": "the-token-of-the-tea-shop"}),
    ):
        found = shops_and_tokens(folder, f"{READERS}{line}\n", **changes)
        assert found.tenants == {"the-token-of-the-tea-shop": frozenset({"tea"})}
        assert found.read_token == "a-token-that-only-reads"
        for token in ("the-token-of-the-tea-shop", "the-token-of-the-admin"):
            assert token in found.shops[1].secrets
    assert folder / "tea.token" in shops_and_tokens(folder, f'{READERS}read_token_file = "tea.token"\n').files


def test_shops_with_the_same_token_have_one_tenant(folder: Path) -> None:
    own = 'read_token = "the-token-of-both-shops"\n'
    found = shops_and_tokens(folder, TWO.replace('shop_id = "honey"', f'shop_id = "honey"\n{own}') + own)
    assert found.tenants == {"the-token-of-both-shops": frozenset({"honey", "tea"})}
    assert found.read_token is None


def test_without_such_a_token_there_are_no_tenants(folder: Path) -> None:
    assert shops_and_tokens(folder, READERS).tenants == {}
    assert shops_and_tokens(folder, TWO).tenants == {}
    (folder / "shops.toml").unlink()
    one = load_shops(
        environ={
            "WOOCOMMERCE_MCP_URL": "https://tea.example/",
            "WOOCOMMERCE_CONSUMER_KEY": "ck",
            "WOOCOMMERCE_CONSUMER_SECRET": "cs",
            "SHOP_READ_TOKEN": "a-token-that-only-reads",
        },
        dotenv=folder / ".env",
        parse_sink=parse_sink,
    )
    assert (one.tenants, one.read_token) == ({}, "a-token-that-only-reads")


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            'read_token = "a-token-that-only-reads"',
            "shop tea: read_token: is the same as SHOP_READ_TOKEN, which shows all shops",
        ),
        (
            'read_token = "the-token-of-the-admin"',
            "shop tea: SHOP_READ_TOKEN: is the same as SHOP_ADMIN_TOKEN, so readers could act;"
            " make another one",
        ),
        (
            'read_token = "short"',
            "shop tea: SHOP_READ_TOKEN: should be 16 to 200 letters, digits and signs without blanks;"
            " make one with: openssl rand -hex 24",
        ),
        (
            'read_token = "x"\nread_token_env = "Y"',
            "shop tea: read_token: is given 2 times, as read_token and read_token_env; keep one",
        ),
        (
            'shop_read_token = "the-token-of-the-tea-shop"',
            "shop tea: shop_read_token: is for all shops; write it above the first [[shops]]",
        ),
    ],
)
def test_wrong_tokens_are_refused(folder: Path, line: str, problem: str) -> None:
    assert problem in problems(folder, f"{READERS}{line}\n")
    assert not any("the-token" in one or "a-token" in one for one in problems(folder, f"{READERS}{line}\n"))


def test_tags_are_read_once_each(folder: Path) -> None:
    found = shops_and_tokens(folder, f'{TWO}tags = ["eu", "опт", "eu"]\n')
    assert {shop.shop: shop.tags for shop in found.shops if shop.tags} == {"tea": ("eu", "опт")}


def test_the_names_of_the_listener_are_for_all_shops(folder: Path) -> None:
    found = shops_and_tokens(folder, f'shop_http_hosts = "poller.example"\n{TWO}')
    assert [shop.shop_http_hosts for shop in found.shops] == [("poller.example",)] * 2
