"""The dialects for asking a shop, their addresses, and what each cannot see: docs/dialects.md."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from shop_poller.core.translatable import Text


class Dialect(StrEnum):
    """A way to ask a shop for its orders."""

    WOOCOMMERCE_MCP = "woocommerce-mcp"  # WooCommerce's own MCP endpoint, 10.3 and later
    ABILITIES = "abilities"  # the WordPress MCP adapter's default server
    REST = "rest"  # WooCommerce's REST API, any version
    EXECUTE = "execute"  # the bridge of the old design


ROUTES: Mapping[Dialect, str] = {
    Dialect.WOOCOMMERCE_MCP: "/woocommerce/mcp",
    Dialect.ABILITIES: "/mcp/mcp-adapter-default-server",
    Dialect.REST: "/wc/v3/orders",
}
"""The routes of the dialects in WordPress's REST server."""

BLIND_TO: Mapping[Dialect, tuple[str, ...]] = {
    Dialect.WOOCOMMERCE_MCP: (),
    Dialect.ABILITIES: (
        Text("partial refunds"),
        Text("the buyer's first name"),
        Text("order numbers of a plugin's"),
        Text("the date of payment"),
        Text("drafts, and statuses of a plugin that was removed"),
    ),
    Dialect.REST: (),
    Dialect.EXECUTE: (),
}
"""What a dialect cannot see in an order, for people."""


KEYS_NEEDED = Text("WOOCOMMERCE_CONSUMER_KEY and WOOCOMMERCE_CONSUMER_SECRET")

NEEDS: Mapping[Dialect, str] = {
    Dialect.WOOCOMMERCE_MCP: KEYS_NEEDED,
    Dialect.ABILITIES: Text("WORDPRESS_USERNAME and WORDPRESS_APPLICATION_PASSWORD"),
    Dialect.REST: KEYS_NEEDED,
    Dialect.EXECUTE: KEYS_NEEDED,
}
"""The credentials that a dialect needs, by the names of the settings."""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """Credentials: one pair or both. A missing value is "". No value is ever shown."""

    consumer_key: str = field(default="", repr=False)
    consumer_secret: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    other_secrets: tuple[str, ...] = field(default=(), repr=False)
    """Other secrets that the shop knows and must not show, such as the secret of its webhooks."""

    def fit(self, dialect: Dialect) -> bool:
        """Return whether the pair that a dialect needs is complete."""
        if dialect is Dialect.ABILITIES:
            return bool(self.username and self.password)
        return bool(self.consumer_key and self.consumer_secret)


API = "/wp-json"
EXECUTE = "/execute"
INDEX = "/index.php"
PLAIN = "rest_route"
"""With plain permalinks, this parameter of the query contains the route."""

KNOWN = re.compile(
    r"(?P<prefix>.*?)"
    r"(?P<route>/woocommerce/mcp|/mcp/mcp-adapter-default-server|/wc/v[0-9]+(?:/[^?#]*)?)/*",
    re.IGNORECASE,
)
"""Everything before one of our routes is the address of the REST API, even if `wp-json` is renamed."""
LEGACY = re.compile(r"(?P<root>.*?)/wc-(?:api|auth)(?:/.*)?", re.IGNORECASE)
"""The address of WooCommerce's API before 2.6: next to WordPress's own API, never within it."""


def endpoint(url: str, dialect: Dialect) -> str:
    """Return the address of a dialect.

    Args:
        url: WOOCOMMERCE_MCP_URL: the address of any dialect, or of the shop. It may have pretty or plain
            permalinks, and `wp-json` may be renamed.
        dialect: the dialect.
    """
    if of_url(url) is dialect:
        return url
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if dialect is Dialect.EXECUTE:
        return urlunsplit(parts._replace(path=path + EXECUTE))
    route, queries = ROUTES[dialect], parse_qsl(parts.query, keep_blank_values=True)
    if any(name == PLAIN for name, _ in queries):
        requested = [(name, route if name == PLAIN else value) for name, value in queries]
        return urlunsplit(parts._replace(query=urlencode(requested, safe="/")))
    known = KNOWN.fullmatch(path)
    bare = path in {"", INDEX} or path.lower().endswith(API) or LEGACY.fullmatch(path)
    if known is None and not bare and dialect is not Dialect.REST and of_url(url) is None:
        return url  # a custom MCP server, with any tools
    if known is None:
        return urlunsplit(parts._replace(path=_root(path) + API + route))
    prefix = known["prefix"]
    return urlunsplit(parts._replace(path=(prefix + API if prefix in {"", INDEX} else prefix) + route))


def site_address(url: str) -> str:
    """Return the address of the shop's WordPress, without a slash at its end; "" if it is not known.

    Args:
        url: WOOCOMMERCE_MCP_URL. Behind the bridge of the old design, or a custom MCP server, the shop may be
            anywhere.
    """
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    is_plain = PLAIN in dict(parse_qsl(parts.query, keep_blank_values=True))
    known = KNOWN.fullmatch(path)
    is_site = path in {"", INDEX} or API in path.lower() or LEGACY.fullmatch(path) or is_plain
    if path.endswith(EXECUTE) or not (is_site or known):
        return ""
    prefix = known["prefix"] if known and not is_site else path
    root = _root(prefix) if is_site else prefix.rpartition("/")[0]  # before the renamed wp-json
    return urlunsplit(parts._replace(path=root.removesuffix(INDEX), query=""))


def of_url(url: str) -> Dialect | None:
    """Return the dialect of an address; None if it is the shop's own address or not known."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    plain = dict(parse_qsl(parts.query)).get(PLAIN)
    if path.endswith(EXECUTE):
        return Dialect.EXECUTE
    known = KNOWN.fullmatch(path)
    route = plain if plain is not None else known["route"] if known else ""
    route = route.rstrip("/").lower()
    return next((dialect for dialect, its in ROUTES.items() if route == its), None)


def candidates(url: str) -> list[Dialect]:
    """Return all dialects in the order to try: the address's own one, then those that see the most."""
    own = of_url(url)
    return sorted(
        (Dialect.WOOCOMMERCE_MCP, Dialect.REST, Dialect.ABILITIES, Dialect.EXECUTE),
        key=lambda dialect: dialect is not own,
    )


def with_keys_read(url: str) -> str:
    """Return an address of the REST API at which WooCommerce reads consumer keys.

    WooCommerce reads them only if the address contains `wp-json/wc/`. The address of a shop with plain
    permalinks does not, so a parameter is added that contains it. Any parameter works.
    """
    parts = urlsplit(url)
    if PLAIN not in dict(parse_qsl(parts.query, keep_blank_values=True)) or KEYS_READ in url:
        return url
    return urlunsplit(parts._replace(query=f"{parts.query}&via={KEYS_READ}"))


KEYS_READ = "wp-json/wc/"
ORDERS_ROUTE = re.compile(r"(/|%2F)wc\1v3\1orders(?=/?(?:[?&#]|$))", re.IGNORECASE)


def refunds_url(orders_url: str) -> str | None:
    """Return the address of the shop's list of refunds.

    Args:
        orders_url: the address of orders in the REST API, with pretty or plain permalinks.

    Returns:
        The address; None if `orders_url` is not the address of WooCommerce's list of orders.
    """
    url, found = ORDERS_ROUTE.subn(r"\1wc\1v3\1refunds", orders_url, count=1)
    return url if found else None


def _root(path: str) -> str:
    """Return the path of WordPress: "" unless it is in a folder.

    It ends in /index.php if the shop cannot rewrite addresses.
    """
    path = path.removesuffix(EXECUTE)
    if legacy := LEGACY.fullmatch(path):
        path = legacy["root"]
    at = path.lower().find(API)
    return path[:at] if at >= 0 else path.removesuffix(INDEX)
