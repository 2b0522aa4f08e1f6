"""The dialect `rest`: WooCommerce's REST API, any version: …/wp-json/wc/v3/orders."""

from typing import Any
from urllib.parse import urlencode

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import Page, Query
from shop_poller.sources.answers import COMMON_ADVICE, EMPTY_LIST, read_json
from shop_poller.sources.connection import Connection, shop_time
from shop_poller.sources.credentials import basic_key
from shop_poller.sources.listing import arguments, read_items

MAX_URL = 4000
"""Bytes; servers refuse longer ones from 4 or 8 KB on, by their own settings."""

FIELDS = ",".join(
    (
        *("id", "status", "number", "total", "currency", "currency_symbol", "billing.first_name"),
        *("date_created_gmt", "date_modified_gmt", "date_paid_gmt", "refunds"),
    )
)
"""What read_order reads: a tenth of an order, and nothing of the buyer but the name."""

ACCEPT = {"Accept": "application/json"}
STARTS = (b'[{"', EMPTY_LIST, b'{"code"')

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: "check the consumer key and secret, that the key may read and its user may view"
    " orders, and that the address begins with https (over plain http the shop ignores keys)",
    ErrorKind.NOT_FOUND: "check WOOCOMMERCE_MCP_URL, that WooCommerce is active, and that permalinks are not"
    " plain (or end the address in /?rest_route=/wc/v3/orders)",
}


class Rest:
    """Lists orders by a plain GET. For the methods see ports.Source.

    Args:
        url: the endpoint; may have a query (plain permalinks).
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
    """

    most_ids = MAX_PER_PAGE

    def __init__(self, url: str, *, consumer_key: str, consumer_secret: str) -> None:
        self._url = url
        self._connection = Connection(url, basic_key(consumer_key, consumer_secret))

    async def fetch(self, query: Query) -> Page:
        """Ask once."""
        asked = {**arguments(query), "_fields": FIELDS}
        url = f"{self._url}{'&' if '?' in self._url else '?'}{_in_url(asked)}"
        if len(url) <= MAX_URL:
            response, body = await self._connection.ask("GET", headers=ACCEPT, url=url)
        else:
            # A GET all the same, says WordPress, and reads a JSON body whatever the method is. It is said in
            # the address: a header may get lost on the way, and a POST that is one would make an order.
            url = f"{self._url}{'&' if '?' in self._url else '?'}_method=GET"
            response, body = await self._connection.ask("POST", headers=ACCEPT, url=url, message=asked)
        listed, noise = read_json(
            list, response.status_code, response.headers, body, starts=STARTS, advice=ADVICE
        )
        return Page(read_items(listed, query, ADVICE), shop_time(response.headers), noise)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()


def _in_url(asked: dict[str, Any]) -> str:
    return urlencode({name: _text(value) for name, value in asked.items()}, safe=",:")


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)
