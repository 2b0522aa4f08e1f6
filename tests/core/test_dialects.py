"""Where each dialect answers, by whichever address one has."""

import pytest

from shop_poller.sources.woocommerce.dialects import (
    BLIND_TO,
    NEEDS,
    Dialect,
    KnownKeys,
    candidates,
    endpoint,
    of_url,
    with_keys_read,
)

MCP, ABILITIES, REST, EXECUTE = Dialect
S = "https://shop.example"

ADDRESSES = {
    # the address: the dialect that it names, and where MCP, abilities, REST and the bridge are
    f"{S}": (None, "{S}/wp-json/woocommerce/mcp", "{S}/wp-json/mcp/mcp-adapter-default-server",
             "{S}/wp-json/wc/v3/orders", "{S}/execute"),
    f"{S}/wp-json/": (None, "{S}/wp-json/woocommerce/mcp", "{S}/wp-json/mcp/mcp-adapter-default-server",
                      "{S}/wp-json/wc/v3/orders", "{S}/wp-json/execute"),
    f"{S}/wp-json/woocommerce/mcp": (
        MCP, "", "{S}/wp-json/mcp/mcp-adapter-default-server", "{S}/wp-json/wc/v3/orders",
        "{S}/wp-json/woocommerce/mcp/execute"),
    f"{S}/blog/wp-json/wc/v3/orders": (
        REST, "{S}/blog/wp-json/woocommerce/mcp", "{S}/blog/wp-json/mcp/mcp-adapter-default-server", "",
        "{S}/blog/wp-json/wc/v3/orders/execute"),
    f"{S}/index.php/wp-json/woocommerce/mcp": (  # what WordPress itself says where nothing can be rewritten
        MCP, "", "{S}/index.php/wp-json/mcp/mcp-adapter-default-server", "{S}/index.php/wp-json/wc/v3/orders",
        "{S}/index.php/wp-json/woocommerce/mcp/execute"),
    f"{S}/wp-json/woocommerce/mcp?waf=abc": (
        MCP, "", "{S}/wp-json/mcp/mcp-adapter-default-server?waf=abc", "{S}/wp-json/wc/v3/orders?waf=abc",
        "{S}/wp-json/woocommerce/mcp/execute?waf=abc"),
    f"{S}/?rest_route=/woocommerce/mcp&lang=ru": (
        MCP, "", "{S}/?rest_route=/mcp/mcp-adapter-default-server&lang=ru",
        "{S}/?rest_route=/wc/v3/orders&lang=ru",
        "{S}/execute?rest_route=/woocommerce/mcp&lang=ru"),
    f"{S}/index.php?rest_route=/wc/v3/orders": (
        REST, "{S}/index.php?rest_route=/woocommerce/mcp",
        "{S}/index.php?rest_route=/mcp/mcp-adapter-default-server", "",
        "{S}/index.php/execute?rest_route=/wc/v3/orders"),
    f"{S}/wp-json/my/mcp": (None, "{S}/wp-json/my/mcp", "{S}/wp-json/my/mcp", "{S}/wp-json/wc/v3/orders",
                            "{S}/wp-json/my/mcp/execute"),
    "http://127.0.0.1:8000/mcp": (None, "http://127.0.0.1:8000/mcp", "http://127.0.0.1:8000/mcp",
                                  "http://127.0.0.1:8000/mcp/wp-json/wc/v3/orders",
                                  "http://127.0.0.1:8000/mcp/execute"),
    f"{S}/bridge/execute": (EXECUTE, "{S}/bridge/wp-json/woocommerce/mcp",
                            "{S}/bridge/wp-json/mcp/mcp-adapter-default-server",
                            "{S}/bridge/wp-json/wc/v3/orders", ""),
}  # fmt: skip


@pytest.mark.parametrize("url", ADDRESSES)
def test_every_dialect_is_found_from_any_address(url: str) -> None:
    named, *places = ADDRESSES[url]
    assert of_url(url) is named
    for dialect, place in zip(Dialect, places, strict=True):
        assert endpoint(url, dialect) == (place or url).replace("{S}", S), dialect


@pytest.mark.parametrize("dialect", [MCP, ABILITIES, REST])
def test_an_endpoint_names_its_dialect_and_is_its_own(dialect: Dialect) -> None:
    for url in (S, f"{S}/?rest_route=/woocommerce/mcp", f"{S}/index.php/wp-json"):
        found = endpoint(url, dialect)
        assert of_url(found) is dialect
        assert endpoint(found, dialect) == found


def test_what_the_address_names_comes_first_then_what_sees_most() -> None:
    assert candidates(S) == [MCP, REST, ABILITIES, EXECUTE]
    for dialect in (MCP, ABILITIES, REST):
        first, *others = candidates(endpoint(S, dialect))
        assert first is dialect
        assert others == [d for d in candidates(S) if d is not dialect]
    assert candidates(f"{S}/execute")[0] is EXECUTE


def test_each_needs_credentials_of_its_own_kind() -> None:
    keys, password = KnownKeys("ck", "cs"), KnownKeys(username="u", password="p")
    for dialect in Dialect:
        assert keys.fit(dialect) is (dialect is not ABILITIES)
        assert password.fit(dialect) is (dialect is ABILITIES)
        assert not KnownKeys("ck", "", "u", "").fit(dialect)
        assert ("WORDPRESS" in NEEDS[dialect]) is password.fit(dialect)
    assert "ck" not in repr(KnownKeys("ck_1", "cs_1", "anna", "pw"))
    assert "pw" not in repr(KnownKeys("ck_1", "cs_1", "anna", "pw"))


def test_only_abilities_are_half_blind() -> None:
    assert [dialect for dialect in Dialect if BLIND_TO[dialect]] == [ABILITIES]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        (f"{S}/wp-json/wc/v3/orders?page=1", f"{S}/wp-json/wc/v3/orders?page=1"),
        (f"{S}/?rest_route=/wc/v3/orders", f"{S}/?rest_route=/wc/v3/orders&via=wp-json/wc/"),
        (f"{S}/?rest_route=/wc/v3/orders&via=wp-json/wc/", f"{S}/?rest_route=/wc/v3/orders&via=wp-json/wc/"),
    ],
)
def test_with_plain_permalinks_a_parameter_makes_woocommerce_look_at_the_keys(
    url: str, expected: str
) -> None:
    assert with_keys_read(url) == expected


@pytest.mark.parametrize("path", ["/wc-api/v3/orders", "/wc-auth/v1/authorize", "/wc-api"])
@pytest.mark.parametrize("folder", ["", "/blog"])
def test_the_api_is_next_to_the_one_of_old_woocommerce(folder: str, path: str) -> None:
    assert endpoint(S + folder + path, REST) == f"{S}{folder}/wp-json/wc/v3/orders"
