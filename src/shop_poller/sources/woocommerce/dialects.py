"""The ways that a shop can be asked, where each answers, and what each cannot see: docs/dialects.md."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit


class Dialect(StrEnum):
    """A way to ask."""

    WOOCOMMERCE_MCP = "woocommerce-mcp"  # WooCommerce's own MCP endpoint, 10.3 and later
    ABILITIES = "abilities"  # the WordPress MCP adapter's default server
    REST = "rest"  # WooCommerce's REST API, any version
    EXECUTE = "execute"  # the bridge of the design before this one


ROUTES: Mapping[Dialect, str] = {
    Dialect.WOOCOMMERCE_MCP: "/woocommerce/mcp",
    Dialect.ABILITIES: "/mcp/mcp-adapter-default-server",
    Dialect.REST: "/wc/v3/orders",
}
"""Where WordPress's REST server has them."""

BLIND_TO: Mapping[Dialect, tuple[str, ...]] = {
    Dialect.WOOCOMMERCE_MCP: (),
    Dialect.ABILITIES: (
        "partial refunds",
        "the buyer's first name",
        "order numbers of a plugin's",
        "the date of payment",
        "drafts, and statuses of a plugin that was removed",
    ),
    Dialect.REST: (),
    Dialect.EXECUTE: (),
}
"""What a dialect cannot see of an order, for people."""


KEYS_NEEDED = "WOOCOMMERCE_CONSUMER_KEY and WOOCOMMERCE_CONSUMER_SECRET"

NEEDS: Mapping[Dialect, str] = {
    Dialect.WOOCOMMERCE_MCP: KEYS_NEEDED,
    Dialect.ABILITIES: "WORDPRESS_USERNAME and WORDPRESS_APPLICATION_PASSWORD",
    Dialect.REST: KEYS_NEEDED,
    Dialect.EXECUTE: KEYS_NEEDED,
}
"""What proves who we are, by the names of the settings."""


@dataclass(frozen=True, slots=True)
class KnownKeys:
    """What proves who we are: a pair, or both of them. "" for what is missing; none of it is ever shown."""

    consumer_key: str = field(default="", repr=False)
    consumer_secret: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    also: tuple[str, ...] = field(default=(), repr=False)
    """Secrets that the shop knows besides, such as that of its webhooks: it must not show them either."""

    def fit(self, dialect: Dialect) -> bool:
        """Whether they are of the kind that a dialect needs."""
        if dialect is Dialect.ABILITIES:
            return bool(self.username and self.password)
        return bool(self.consumer_key and self.consumer_secret)


API = "/wp-json"
EXECUTE = "/execute"
INDEX = "/index.php"
PLAIN = "rest_route"
"""With plain permalinks the route stands in this parameter of the query."""

KNOWN = re.compile(
    r"(?P<prefix>.*?)"
    r"(?P<route>/woocommerce/mcp|/mcp/mcp-adapter-default-server|/wc/v[0-9]+(?:/[^?#]*)?)/*",
    re.IGNORECASE,
)
"""Everything before one of our routes is where the shop's REST API is, whatever a site calls `wp-json`."""
LEGACY = re.compile(r"(?P<root>.*?)/wc-(?:api|auth)(?:/.*)?", re.IGNORECASE)
"""WooCommerce's API before 2.6 stood beside WordPress's own, never in it."""


def endpoint(url: str, dialect: Dialect) -> str:
    """Where a dialect answers.

    Args:
        url: WOOCOMMERCE_MCP_URL: the address of any dialect, or of the shop; pretty or plain permalinks, and
            whatever the site calls `wp-json`.
        dialect: which one.
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
        return url  # an MCP server of somebody's own: whichever tools it has
    if known is None:
        return urlunsplit(parts._replace(path=_root(path) + API + route))
    prefix = known["prefix"]
    return urlunsplit(parts._replace(path=(prefix + API if prefix in {"", INDEX} else prefix) + route))


def of_url(url: str) -> Dialect | None:
    """The dialect that an address names; None if it is the shop's own, or nobody knows."""
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
    """All dialects, in the order in which they are worth a try: the address's own, then what sees most."""
    own = of_url(url)
    return sorted(
        (Dialect.WOOCOMMERCE_MCP, Dialect.REST, Dialect.ABILITIES, Dialect.EXECUTE),
        key=lambda dialect: dialect is not own,
    )


def with_keys_read(url: str) -> str:
    """An address of the REST API at which WooCommerce looks at consumer keys.

    It does so only where the address has `wp-json/wc/` in it, which that of a shop with plain permalinks has
    not; any parameter may have it.
    """
    parts = urlsplit(url)
    if PLAIN not in dict(parse_qsl(parts.query, keep_blank_values=True)) or KEYS_READ in url:
        return url
    return urlunsplit(parts._replace(query=f"{parts.query}&via={KEYS_READ}"))


KEYS_READ = "wp-json/wc/"
ORDERS_ROUTE = re.compile(r"(/|%2F)wc\1v3\1orders(?=/?(?:[?&#]|$))", re.IGNORECASE)


def refunds_url(orders_url: str) -> str | None:
    """Where the shop's list of refunds is.

    Args:
        orders_url: where its REST API lists orders, with pretty or plain permalinks.

    Returns:
        None if the address is not that of WooCommerce's list of orders.
    """
    url, found = ORDERS_ROUTE.subn(r"\1wc\1v3\1refunds", orders_url, count=1)
    return url if found else None


def _root(path: str) -> str:
    """Where WordPress is: "" but for one in a folder; with /index.php where the shop cannot rewrite."""
    path = path.removesuffix(EXECUTE)
    if legacy := LEGACY.fullmatch(path):
        path = legacy["root"]
    at = path.lower().find(API)
    return path[:at] if at >= 0 else path.removesuffix(INDEX)
