"""The dialect `execute`: the bridge of the design before this one, {url}/execute; no plain shop has it."""

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import Page, Query
from shop_poller.sources.answers import COMMON_ADVICE, read_json
from shop_poller.sources.connection import Connection, shop_time
from shop_poller.sources.credentials import api_key
from shop_poller.sources.listing import arguments, read_items

ABILITY = "woocommerce/orders-list"
ACCEPT = {"Accept": "application/json"}
STARTS = (b'{"data"', b'{"code"')

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: "check the consumer key and secret, and that their user may view orders",
    ErrorKind.NOT_FOUND: "check that the shop has the bridge at WOOCOMMERCE_MCP_URL/execute, or set"
    " SHOP_DIALECT=auto",
}


class Execute:
    """Lists orders by the ability `woocommerce/orders-list`. For the methods see ports.Source.

    Args:
        url: the endpoint, which ends in /execute.
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
    """

    most_ids = MAX_PER_PAGE

    def __init__(self, url: str, *, consumer_key: str, consumer_secret: str) -> None:
        self._connection = Connection(url, api_key(consumer_key, consumer_secret))

    async def fetch(self, query: Query) -> Page:
        """Ask once."""
        message = {"ability": ABILITY, "params": arguments(query)}
        response, body = await self._connection.ask("POST", headers=ACCEPT, message=message)
        content, noise = read_json(
            dict, response.status_code, response.headers, body, starts=STARTS, advice=ADVICE
        )
        return Page(read_items(content.get("data"), query, ADVICE), shop_time(response.headers), noise)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()
