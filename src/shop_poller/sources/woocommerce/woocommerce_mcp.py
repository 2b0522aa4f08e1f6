"""The dialect `woocommerce-mcp`: WooCommerce's MCP endpoint, 10.3 and later: …/wp-json/woocommerce/mcp."""

from collections.abc import Sequence

import structlog

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE
from shop_poller.sources.woocommerce.credentials import api_key
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY, OrderFields
from shop_poller.sources.woocommerce.jsonrpc import UnexplainedError
from shop_poller.sources.woocommerce.listing import arguments, read_items, unnamed
from shop_poller.sources.woocommerce.rpc_errors import (
    UNKNOWN_ARGUMENT,
    ParametersRefusedError,
    RpcRefusedError,
)
from shop_poller.sources.woocommerce.session import McpSession

TOOL = "woocommerce-orders-list"

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: Text("check the consumer key and secret, and that their user may view orders"),
    ErrorKind.NOT_FOUND: Text(
        "check WOOCOMMERCE_MCP_URL, and that WooCommerce (10.3 or later) has MCP turned on"
    ),
}


class WooCommerceMcp:
    """Lists orders by the tool `woocommerce-orders-list`. For the methods, see ports.Source.

    Args:
        url: the endpoint.
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
        self._session = McpSession(url, api_key(consumer_key, consumer_secret, other_secrets), ADVICE)
        self._takes_fields: bool | None = None  # None if not known yet

    @property
    def is_refused(self) -> bool:
        """Whether the last response shows that there is no MCP endpoint for us here."""
        return self._session.is_refused

    async def fetch(self, query: Query) -> Page:
        """Ask once. If the tool may not support `_fields`, ask again without it."""
        if self._takes_fields is False:
            return await self._ask(query)
        try:
            page = await self._ask(query, _fields=self._fields.names(query))
        except ShopPollerError as error:
            if not self._may_be_the_fields(error):
                raise
            try:
                page = await self._ask(query)
            except ShopPollerError as again:
                if again.kind is ErrorKind.RATE_LIMIT:  # its pause must be kept
                    raise
                raise error from None
            self._takes_fields = False
            structlog.get_logger().info("the shop's tool does not support _fields", error=str(error))
            return page
        self._takes_fields = True
        return page

    async def offered(self) -> bool:
        """Return whether the endpoint has the tool. Raises what `fetch` raises."""
        return TOOL in await self._session.list_tools()

    async def aclose(self) -> None:
        """End the session."""
        await self._session.aclose()

    async def _ask(self, query: Query, **more: str) -> Page:
        answer = await self._session.call_tool(TOOL, {**arguments(query), **more})
        items = read_items(answer.content, query, ADVICE, self._fields)
        return Page(items, answer.shop_time, answer.preamble or unnamed(answer.content, items))

    def _may_be_the_fields(self, error: ShopPollerError) -> bool:
        """Return whether an error may be about an argument that the tool does not know.

        WordPress names the argument. Other servers report it in many ways, so any failure of the tool itself
        counts on the first request.
        """
        if UNKNOWN_ARGUMENT.search(str(error)):
            return True
        if self._takes_fields:
            return False
        if isinstance(error, UnexplainedError):
            return not error.said.startswith('Ability "')
        refused = isinstance(error, RpcRefusedError) and not self._session.is_refused
        return refused or isinstance(error, ParametersRefusedError)
