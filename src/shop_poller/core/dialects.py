"""The ways that a shop can be asked, where each answers, and what each cannot see: docs/dialects.md."""

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
class Proofs:
    """What proves who we are: a pair, or both of them. "" for what is missing; none of it is ever shown."""

    consumer_key: str = field(default="", repr=False)
    consumer_secret: str = field(default="", repr=False)
    username: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def fit(self, dialect: Dialect) -> bool:
        """Whether they are of the kind that a dialect needs."""
        if dialect is Dialect.ABILITIES:
            return bool(self.username and self.password)
        return bool(self.consumer_key and self.consumer_secret)


API = "/wp-json"
EXECUTE = "/execute"
INDEX = "/index.php"


def endpoint(url: str, dialect: Dialect) -> str:
    """Where a dialect answers.

    Args:
        url: WOOCOMMERCE_MCP_URL: the address of any dialect, or of the shop; pretty or plain permalinks.
        dialect: which one.
    """
    if of_url(url) is dialect:
        return url
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if dialect is Dialect.EXECUTE:
        return urlunsplit(parts._replace(path=path + EXECUTE))
    route, queries = ROUTES[dialect], parse_qsl(parts.query, keep_blank_values=True)
    if any(name == "rest_route" for name, _ in queries):
        asked = [(name, route if name == "rest_route" else value) for name, value in queries]
        return urlunsplit(parts._replace(query=urlencode(asked, safe="/")))
    bare = path in {"", INDEX} or path.endswith(API)
    if of_url(url) is None and not bare and dialect is not Dialect.REST:
        return url  # an MCP server of somebody's own: whichever tools it has
    return urlunsplit(parts._replace(path=_root(path) + API + route))


def of_url(url: str) -> Dialect | None:
    """The dialect that an address names; None if it is the shop's own, or nobody knows."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    route = dict(parse_qsl(parts.query)).get("rest_route", path.partition(API)[2]).rstrip("/")
    if path.endswith(EXECUTE):
        return Dialect.EXECUTE
    return next((dialect for dialect, known in ROUTES.items() if route == known), None)


def candidates(url: str) -> list[Dialect]:
    """All dialects, in the order in which they are worth a try: the address's own, then what sees most."""
    own = of_url(url)
    return sorted(
        (Dialect.WOOCOMMERCE_MCP, Dialect.REST, Dialect.ABILITIES, Dialect.EXECUTE),
        key=lambda dialect: dialect is not own,
    )


def _root(path: str) -> str:
    """Where WordPress is: "" but for one in a folder; with /index.php where the shop cannot rewrite."""
    root, api, _ = path.removesuffix(EXECUTE).partition(API)
    return root if api else root.removesuffix(INDEX)
