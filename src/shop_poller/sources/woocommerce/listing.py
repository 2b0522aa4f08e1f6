"""WooCommerce's own list of orders, which three dialects share: what to ask, and what a page is."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Query, UnreadableOrder
from shop_poller.sources.woocommerce.answers import COMMON_ADVICE, Advice, rest_error
from shop_poller.sources.woocommerce.orders import read_named
from shop_poller.sources.woocommerce.rows import MAX_WRAPPINGS, OWN_KEYS, describe, find_error, find_rows
from shop_poller.sources.woocommerce.values import order_id

MAX_ROWS = 20_000
"""Orders that are read of one answer, however few were asked for."""


def arguments(query: Query) -> dict[str, Any]:
    """A query in the words of WooCommerce's REST API, which are the tool's and the bridge's, too."""
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
    if query.statuses:  # without, any status that is listed
        requested["status"] = list(query.statuses)
    if query.exclude:
        requested["exclude"] = sorted(query.exclude)
    if query.ids:
        requested["include"] = sorted(query.ids)
    if query.page > 1:
        requested["page"] = query.page
    return requested


def read_items(
    data: object, query: Query, advice: Advice = COMMON_ADVICE
) -> tuple[Order | UnreadableOrder, ...]:
    """Read the list that answers a query, or the list that is found in what answers it.

    An item without an order id is passed over (see unnamed): it could never be found again. More items than
    were asked for are read too: some shops do not listen.

    Raises:
        TemporaryError, PermanentError: it is none, or a REST error dressed as success; PROTOCOL, no item of
            it has an id, or there are more than MAX_ROWS.
    """
    rows = find_rows(data)
    if rows is None:
        error = find_error(data)
        if error is not None:
            raise rest_error(error, status=500, advice=advice)
        raise TemporaryError(ErrorKind.PROTOCOL, f"the shop sent {_sent(data)} instead of a list of orders")
    if len(rows) > MAX_ROWS:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            f"the shop sent {len(rows):,} orders when asked for {query.per_page}; {MAX_ROWS:,} at most are"
            " read at once",
        )
    named = [(number, row) for row in rows if (number := order_id(row)) is not None]
    if rows and not named:
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            f"the shop's list of orders has {unnamed(rows, ())}, and no item with one; look for a plugin or"
            " cache that changes the answers of the shop's API",
        )
    return tuple([read_named(number, row) for number, row in named])


def unnamed(data: object, items: Sequence[object]) -> str:
    """What is to be told of items that cannot be named, for a log; "" if there are none.

    Args:
        data: what read_items was given.
        items: what it made of it.
    """
    lost = len(find_rows(data) or ()) - len(items)
    return f"{lost:,} item{'s' if lost > 1 else ''} without an order id" if lost else ""


def _sent(data: object) -> str:
    """What stands in the place of the list, as far as a wrapping leads to it."""
    for _ in range(MAX_WRAPPINGS):
        own = [key for key in OWN_KEYS if key in data] if isinstance(data, Mapping) else []
        if not own or not isinstance(data, Mapping):
            break
        data = data[own[0]]
    return describe(data)


def naive_utc(instant: datetime) -> str:
    """UTC without a zone: to a `Z` the shop would add its own offset, and hours of orders would vanish."""
    return instant.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S")
