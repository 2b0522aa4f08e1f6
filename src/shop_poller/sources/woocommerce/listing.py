"""WooCommerce's own list of orders, which three dialects share: its parameters, and how to read a page."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, Advice, rest_error
from shop_poller.sources.woocommerce.fields import FIRST_NAME_ONLY, OrderFields
from shop_poller.sources.woocommerce.orders import read_named
from shop_poller.sources.woocommerce.rows import MAX_WRAPPINGS, OWN_KEYS, describe, find_error, find_rows
from shop_poller.sources.woocommerce.values import order_id

MAX_ROWS = 20_000
"""Maximum number of orders in one answer, even if fewer were requested."""


def arguments(query: Query) -> dict[str, Any]:
    """Return a query as parameters of WooCommerce's REST API. The tool and the bridge use the same ones."""
    requested: dict[str, Any] = {
        "per_page": query.per_page,
        "orderby": "date" if query.newest_first else "modified",
        "order": "desc" if query.newest_first else "asc",
        "dates_are_gmt": True,
    }
    if query.modified_after is not None:
        requested["modified_after"] = naive_utc(query.modified_after)
    if query.created_after is not None:
        requested["after"] = naive_utc(query.created_after)
    if query.created_before is not None:
        requested["before"] = naive_utc(query.created_before)
    if query.statuses:  # without it, the shop lists any status
        requested["status"] = list(query.statuses)
    if query.exclude:
        requested["exclude"] = sorted(query.exclude)
    if query.ids:
        requested["include"] = sorted(query.ids)
    if query.page > 1:
        requested["page"] = query.page
    return requested


def read_items(
    data: object, query: Query, advice: Advice = COMMON_ADVICE, fields: OrderFields = FIRST_NAME_ONLY
) -> tuple[Order | UnreadableOrder, ...]:
    """Read the list in an answer to a query. It may be inside a wrapper.

    An item without an order id is skipped (see `unnamed`), because it could never be found again. If a shop
    sends more items than requested, all are read.

    Raises:
        TemporaryError, PermanentError: the answer is not a list, or is a REST error that arrived as success.
            PROTOCOL if no item has an id, or if there are more than MAX_ROWS.
    """
    rows = find_rows(data)
    if rows is None:
        error = find_error(data)
        if error is not None:
            raise rest_error(error, status=500, advice=advice)
        raise TemporaryError(
            ErrorKind.PROTOCOL, Text("the shop sent {sent} instead of a list of orders", sent=_sent(data))
        )
    if len(rows) > MAX_ROWS:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "the shop sent {rows:,} orders when asked for {per_page}; {most:,} at most are read at once",
                rows=len(rows),
                per_page=query.per_page,
                most=MAX_ROWS,
            ),
        )
    named = [(number, row) for row in rows if (number := order_id(row)) is not None]
    if rows and not named:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "the shop's list of orders has {unnamed}, and no item with one; look for a plugin or "
                "cache that changes the answers of the shop's API",
                unnamed=unnamed(rows, ()),
            ),
        )
    return tuple([read_named(number, row, fields) for number, row in named])


def unnamed(data: object, items: Sequence[object]) -> str:
    """Return one line for the log about items without an id; "" if there are none.

    Args:
        data: the argument of `read_items`.
        items: its result.
    """
    lost = len(find_rows(data) or ()) - len(items)
    if lost == 1:
        return Text("1 item without an order id")
    return Text("{lost:,} items without an order id", lost=lost) if lost else ""


def _sent(data: object) -> str:
    """Describe what the shop sent instead of the list, inside any wrappers."""
    for _ in range(MAX_WRAPPINGS):
        own = [key for key in OWN_KEYS if key in data] if isinstance(data, Mapping) else []
        if not own or not isinstance(data, Mapping):
            break
        data = data[own[0]]
    return describe(data)


def naive_utc(instant: datetime) -> str:
    """Format an instant as UTC without a zone.

    If there were a `Z`, the shop would add its own offset, and hours of orders would be missing.
    """
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
