"""The dialect `rest`: WooCommerce's REST API, any version: …/wp-json/wc/v3/orders."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from time import monotonic
from typing import Any

import httpx
import structlog

from shop_poller.core.cursor import MAX_PER_PAGE
from shop_poller.core.errors import ErrorKind, ShopPollerError, TemporaryError
from shop_poller.core.model import Page, Query
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, count, read_json
from shop_poller.sources.woocommerce.connection import shop_time
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY, UNUSED, OrderFields
from shop_poller.sources.woocommerce.listing import arguments, read_items, unnamed
from shop_poller.sources.woocommerce.rest_endpoint import MAX_IDS_IN_ADDRESS, RestEndpoint

POST_AGAIN_S = 3600.0
"""How long to use only GET after a server refused POST."""
MAX_PAGES = 50
"""Pages that are searched for orders that are not excluded, if they cannot be excluded by id."""
POST_REFUSED = frozenset(
    {
        *(ErrorKind.NOT_FOUND, ErrorKind.AUTHENTICATION, ErrorKind.REJECTED),
        *(ErrorKind.PROTOCOL, ErrorKind.SERVER, ErrorKind.CONNECTION),
    }
)
"""Errors that may mean that a server refuses POST. Any other error concerns the whole shop."""
TIMES_DOWN = 2
"""POST requests to a shop that seems to be down, before a GET checks whether it is."""
MADE_AN_ORDER = 201

ADVICE = COMMON_ADVICE | {
    ErrorKind.AUTHENTICATION: Text(
        "check the consumer key and secret, that the key may read, that its user may view "
        "orders, and that the address begins with https (the shop ignores keys over http)"
    ),
    ErrorKind.NOT_FOUND: Text(
        "check WOOCOMMERCE_MCP_URL, that WooCommerce is active, and that wp-json is not "
        "renamed (or set the full address of /wc/v3/orders); with plain permalinks the "
        "address ends in /?rest_route=/"
    ),
}


class Rest:
    """Lists orders by GET requests. For the methods, see ports.Source.

    Args:
        url: the endpoint; may contain a query (plain permalinks).
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
        self._endpoint = RestEndpoint(
            url, consumer_key=consumer_key, consumer_secret=consumer_secret, other_secrets=other_secrets
        )
        self._down = 0  # consecutive POSTs that were answered as if the shop were down
        self._post_from = -math.inf  # no POST before this time of the monotonic clock

    async def fetch(self, query: Query) -> Page:
        """Ask once. If the server refuses POST, send smaller requests by GET."""
        requested = {**arguments(query), "_fields": self._fields.names(query)}
        if self._endpoint.fits_in_address(requested, ids=len(query.exclude) + len(query.ids)):
            return (await self._get(query, requested))[0]
        if monotonic() >= self._post_from:
            try:
                page, is_answer = await self._post(query, requested)
            except ShopPollerError as error:
                # Firewalls answer POST with 502 or 503 too. Only GET shows whether the shop is down.
                self._down += error.kind is ErrorKind.UNAVAILABLE
                if error.kind not in POST_REFUSED and not (
                    error.kind is ErrorKind.UNAVAILABLE and self._down >= TIMES_DOWN
                ):
                    raise
                why = str(error)
            else:
                self._down = 0
                if is_answer:
                    return page
                why = "it answered another question"
            page = await self._get_in_parts(query)
            self._down = 0
            self._post_from = max(self._post_from, monotonic() + POST_AGAIN_S)
            structlog.get_logger().warning("the shop's server refuses POST; using GET instead", error=why)
            return page
        return await self._get_in_parts(query)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._endpoint.aclose()

    async def _get(self, query: Query, requested: Mapping[str, Any]) -> tuple[Page, bool]:
        return _read(*await self._endpoint.get(requested), query, self._fields)

    async def _post(self, query: Query, requested: Mapping[str, Any]) -> tuple[Page, bool]:
        response, body = await self._endpoint.post(requested)
        if response.status_code == MADE_AN_ORDER:
            self._post_from = math.inf
            structlog.get_logger().error(
                Text(
                    "the shop treated a read request as a new order: something in between removes "
                    "_method=GET from the address. Look for an empty order in the shop, and give the key "
                    "the permission Read"
                )
            )
        return _read(response, body, query, self._fields)

    async def _get_in_parts(self, query: Query) -> Page:
        """Request ids in small groups. Excluded orders that do not fit in the address are removed here.

        Only in this mode, pages after the first one are requested. If an order changes meanwhile, the orders
        after it move up by one, and one of them may be skipped. The next query returns it.
        """
        if query.ids:
            pages = [await self._get_all(replace(query, ids=part)) for part in _parts(query.ids)]
            return replace(pages[-1], items=tuple(item for page in pages for item in page.items))
        return await self._get_all(query)

    async def _get_all(self, query: Query) -> Page:
        some = frozenset(sorted(query.exclude)[: MAX_IDS_IN_ADDRESS - len(query.ids)])
        requested = {**arguments(replace(query, exclude=some)), "_fields": self._fields.names(query)}
        first = int(requested.get("page", 1))
        last: tuple[int, ...] = ()
        for number in range(first, first + MAX_PAGES):
            page, _ = await self._get(query, requested | ({"page": number} if number > 1 else {}))
            shown = tuple(item.id for item in page.items)
            wanted = tuple(item for item in page.items if item.id not in query.exclude)
            if shown == last or query.exclude <= some:  # the shop ignores page numbers, or all exclusions fit
                return replace(page, total=None, total_pages=None)
            if wanted or not page.items:
                return replace(page, items=wanted, total=None, total_pages=None)
            last = shown
        raise TemporaryError(
            ErrorKind.REJECTED,
            Text(
                "the shop's server refuses POST, and GET cannot exclude so many orders; allow POST "
                "to the shop's API"
            ),
        )


def _read(response: httpx.Response, body: bytes, query: Query, fields: OrderFields) -> tuple[Page, bool]:
    """Return a page, and whether it can be the answer to the query. The request body may be lost on the way.

    Excluded orders in the page are not a sign of that: some shops ignore `exclude`, and the walk works
    without it.
    """
    listed, preamble = read_json(list, response.status_code, response.headers, body, advice=ADVICE)
    items = read_items(listed, query, ADVICE, fields)
    is_answer = not query.ids or {item.id for item in items} <= query.ids
    has_all_fields = any(isinstance(row, Mapping) and UNUSED in row for row in listed)
    page = Page(
        items,
        shop_time(response.headers),
        preamble or unnamed(listed, items),
        total=count(response.headers.get("x-wp-total")),
        total_pages=count(response.headers.get("x-wp-totalpages")),
    )
    return page, is_answer and not has_all_fields


def _parts(ids: frozenset[int]) -> Iterator[frozenset[int]]:
    listed = sorted(ids)
    for at in range(0, len(listed), MAX_IDS_IN_ADDRESS):
        yield frozenset(listed[at : at + MAX_IDS_IN_ADDRESS])
