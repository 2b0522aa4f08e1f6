"""The dialect `woocommerce-mcp`: WooCommerce's own MCP endpoint, from 10.3 on: …/wp-json/woocommerce/mcp."""

from datetime import UTC, datetime
from typing import Any

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.sources.answers import rest_error
from shop_poller.sources.orders import read_order
from shop_poller.sources.session import McpSession

TOOL = "woocommerce-orders-list"


class WooCommerceMcp:
    """Lists orders by the tool `woocommerce-orders-list`. For the methods see ports.Source.

    Args:
        url: the endpoint.
        consumer_key: of WooCommerce's REST API, e.g. ck_….
        consumer_secret: likewise, cs_….
    """

    most_ids = MAX_PER_PAGE

    def __init__(self, url: str, *, consumer_key: str, consumer_secret: str) -> None:
        self._session = McpSession(url, {"X-MCP-API-Key": f"{consumer_key}:{consumer_secret}"})

    async def fetch(self, query: Query) -> Page:
        """Ask once."""
        answer = await self._session.call_tool(TOOL, arguments(query))
        data = answer.content.get("data")
        failure = answer.content if "code" in answer.content else data
        if isinstance(failure, dict):  # a REST error dressed as success
            raise rest_error(failure, status=500)
        if not isinstance(data, list):
            raise TemporaryError(ErrorKind.PROTOCOL, "the shop's answer has no list of orders in it")
        if len(data) > query.per_page:
            raise TemporaryError(
                ErrorKind.PROTOCOL, f"the shop sent {len(data):,} orders when asked for {query.per_page}"
            )
        return Page(tuple(read_order(item) for item in data), answer.shop_time, answer.noise)

    async def aclose(self) -> None:
        """End the session."""
        await self._session.aclose()


def arguments(query: Query) -> dict[str, Any]:
    """A query in the tool's own words."""
    asked: dict[str, Any] = {
        "per_page": query.per_page,
        "orderby": "date" if query.newest_first else "modified",
        "order": "desc" if query.newest_first else "asc",
        "dates_are_gmt": True,
    }
    if query.modified_after is not None:
        asked["modified_after"] = _naive(query.modified_after)
    if query.created_after is not None:
        asked["after"] = _naive(query.created_after)
    if query.created_before is not None:
        asked["before"] = _naive(query.created_before)
    if query.statuses:
        asked["status"] = list(query.statuses)
    if query.exclude:
        asked["exclude"] = sorted(query.exclude)
    if query.ids:
        asked["include"] = sorted(query.ids)
    return asked


def _naive(instant: datetime) -> str:
    """UTC without a zone: to a `Z` the shop would add its own offset, and hours of orders would vanish."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
