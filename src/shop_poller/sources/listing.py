"""WooCommerce's own list of orders, which three dialects share: what to ask, and what a page is."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.sources.answers import COMMON_ADVICE, Advice, rest_error
from shop_poller.sources.orders import read_order


def arguments(query: Query) -> dict[str, Any]:
    """A query in the words of WooCommerce's REST API, which are the tool's and the bridge's, too."""
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
    if query.statuses:  # without, any status that is listed
        asked["status"] = list(query.statuses)
    if query.exclude:
        asked["exclude"] = sorted(query.exclude)
    if query.ids:
        asked["include"] = sorted(query.ids)
    return asked


def read_items(
    data: object, query: Query, advice: Advice = COMMON_ADVICE
) -> tuple[Order | UnreadableOrder, ...]:
    """Read the list that answers a query.

    Raises:
        TemporaryError, PermanentError: it is none, or a REST error dressed as success; PROTOCOL, it has more
            items than asked for, or one without an id.
    """
    if isinstance(data, Mapping):
        raise rest_error(data, status=500, advice=advice)
    if not isinstance(data, list):
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's answer has no list of orders in it")
    if len(data) > query.per_page:
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"the shop sent {len(data):,} orders when asked for {query.per_page}"
        )
    return tuple(read_order(item) for item in data)


def _naive(instant: datetime) -> str:
    """UTC without a zone: to a `Z` the shop would add its own offset, and hours of orders would vanish."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
