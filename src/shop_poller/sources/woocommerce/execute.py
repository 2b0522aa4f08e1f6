"""The dialect `execute`: the bridge of the old design at {url}/execute. A standard shop does not have it."""

from collections.abc import Sequence

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, read_json
from shop_poller.sources.woocommerce.connection import ShopConnection, shop_time
from shop_poller.sources.woocommerce.credentials import api_key
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY, OrderFields
from shop_poller.sources.woocommerce.listing import arguments, read_items, unnamed

ABILITY = "woocommerce/orders-list"
ACCEPT = {"Accept": "application/json"}

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: Text("check the consumer key and secret, and that their user may view orders"),
    ErrorKind.NOT_FOUND: Text(
        "check that the shop has the bridge at WOOCOMMERCE_MCP_URL/execute, or set SHOP_DIALECT=auto"
    ),
}


class Execute:
    """Lists orders by the ability `woocommerce/orders-list`. For the methods, see ports.Source.

    Args:
        url: the endpoint; ends in /execute.
        consumer_key: the key for WooCommerce's REST API, e.g. ck_….
        consumer_secret: its secret, e.g. cs_….
        other_secrets: other secrets that the shop knows and must not show.
        fields: what to request of an order.
    """

    most_ids = MAX_PER_PAGE

    def __init__(
        self,
        url: str,
        *,
        consumer_key: str,
        consumer_secret: str,
        other_secrets: Sequence[str] = (),
        fields: OrderFields = FIRST_NAME_ONLY,
    ) -> None:
        self._fields = fields
        self._connection = ShopConnection(url, api_key(consumer_key, consumer_secret, other_secrets))

    async def fetch(self, query: Query) -> Page:
        """Ask once."""
        message = {"ability": ABILITY, "params": arguments(query)}
        response, body = await self._connection.ask("POST", headers=ACCEPT, message=message)
        content, preamble = read_json(dict, response.status_code, response.headers, body, advice=ADVICE)
        items = read_items(content, query, ADVICE, self._fields)
        return Page(items, shop_time(response.headers), preamble or unnamed(content, items))

    async def aclose(self) -> None:
        """Close the connection."""
        await self._connection.aclose()
