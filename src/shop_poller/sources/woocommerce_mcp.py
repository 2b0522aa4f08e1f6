"""The dialect `woocommerce-mcp`: WooCommerce's own MCP endpoint, from 10.3 on: …/wp-json/woocommerce/mcp."""

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import Page, Query
from shop_poller.sources.answers import COMMON_ADVICE
from shop_poller.sources.credentials import api_key
from shop_poller.sources.listing import arguments, read_items
from shop_poller.sources.session import McpSession

TOOL = "woocommerce-orders-list"

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: "check the consumer key and secret, and that their user may view orders",
    ErrorKind.NOT_FOUND: "check WOOCOMMERCE_MCP_URL, and that WooCommerce (10.3 or later) has MCP turned on",
}


class WooCommerceMcp:
    """Lists orders by the tool `woocommerce-orders-list`. For the methods see ports.Source.

    Args:
        url: the endpoint.
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
    """

    most_ids = MAX_PER_PAGE

    def __init__(self, url: str, *, consumer_key: str, consumer_secret: str) -> None:
        self._session = McpSession(url, api_key(consumer_key, consumer_secret), ADVICE)

    async def fetch(self, query: Query) -> Page:
        """Ask once."""
        answer = await self._session.call_tool(TOOL, arguments(query))
        data = answer.content if "code" in answer.content else answer.content.get("data")
        return Page(read_items(data, query, ADVICE), answer.shop_time, answer.noise)

    async def offered(self) -> bool:
        """Whether the endpoint has the tool; raises what `fetch` raises."""
        return TOOL in await self._session.list_tools()

    async def aclose(self) -> None:
        """End the session."""
        await self._session.aclose()
