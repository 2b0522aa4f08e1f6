"""Converts WooCommerce's JSON of an order to an Order, or to the reason why that is not possible.

Only the fields that we use are read, each within limits; the buyer's other data is not read. A field that
cannot be read falls back: to the currency's code for its sign, to "not paid", to an unknown amount. Only an
order without an id, a status or a date is set aside.
"""

import html
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from shop_poller.config.statuses import bare
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import BuyerField, Order, OrderItem, Refund, UnreadableOrder
from shop_poller.core.plain_text import USUAL, one_line, plain
from shop_poller.core.translatable import Text
from shop_poller.sources.woocommerce.fields import ADDRESS, FIRST_NAME_ONLY, OrderFields
from shop_poller.sources.woocommerce.values import (
    MAX_NAME,
    TAG,
    amount,
    instant,
    local_time,
    order_id,
    sign,
    text,
    whole_number,
)

MAX_STATUS = 60
MAX_NUMBER = 60
MAX_CURRENCY = 10
MAX_REFUNDS = 1000
MAX_ITEMS = 50
MAX_ITEM_NAME = 120
MAX_LABEL = 80
MAX_MARKUP = 1000
MAX_NOTE = 500
MAX_OFFSET = timedelta(hours=15)
LATEST_OFFSET = timedelta(hours=12)
"""The maximum that UTC can be ahead of a shop's own time."""


def read_order(payload: object, fields: OrderFields = FIRST_NAME_ONLY) -> Order | UnreadableOrder:
    """Read one item of a list.

    Raises:
        TemporaryError: PROTOCOL; the item has no id, so it cannot be set aside.
    """
    number = order_id(payload)
    if number is None or not isinstance(payload, dict):
        raise TemporaryError(
            ErrorKind.PROTOCOL, Text("the shop's list of orders has an item without an order id")
        )
    return read_named(number, payload, fields)


def read_named(
    number: int, payload: Mapping[str, Any], fields: OrderFields = FIRST_NAME_ONLY
) -> Order | UnreadableOrder:
    """Read an item whose id is known."""
    status, currency = _status(payload.get("status")), _currency(payload.get("currency"))
    created_at, modified_at = _dates(payload)
    if not status or created_at is None or modified_at is None:
        needed = {"status": status, "date_created_gmt": created_at, "date_modified_gmt": modified_at}
        problems = (
            f"{name}: {'is missing' if payload.get(name) is None else 'cannot be read'}"
            for name, found in needed.items()
            if not found
        )
        return UnreadableOrder(number, "; ".join(problems), modified_at, created_at)
    items, more = _items(payload.get("line_items"))
    return Order(
        id=number,
        number=text(payload.get("number"), MAX_NUMBER) or str(number),
        status=status,
        total=amount(payload.get("total")),
        currency=currency,
        currency_sign=sign(payload.get("currency_symbol")) or currency,
        customer=_first_name(payload.get("billing")),
        created_at=created_at,
        modified_at=modified_at,
        paid_at=instant(payload.get("date_paid_gmt")),
        refunds=_refunds(payload.get("refunds")),
        items=items,
        more_items=more,
        payment_code=_code(payload.get("payment_method")),
        payment_method=_label(payload.get("payment_method_title")),
        shipping_method=_shipping(payload.get("shipping_lines")),
        buyer=_buyer(payload, fields) if fields.buyer else {},
    )


def _status(value: object) -> str:
    if type(value) is str and len(value) <= MAX_STATUS:
        return _known_status(value)
    return bare(text(value, MAX_STATUS))


def _currency(value: object) -> str:
    return _known_currency(value) if type(value) is str and len(value) <= MAX_CURRENCY else ""


@lru_cache(maxsize=100)  # few values exist, and every order has one
def _known_status(value: str) -> str:
    return bare(text(value, MAX_STATUS))


@lru_cache(maxsize=100)
def _known_currency(value: str) -> str:
    return text(value, MAX_CURRENCY)


@lru_cache(maxsize=100)  # few values exist
def _known_label(value: str) -> str:
    return one_line(html.unescape(TAG.sub("", value)), MAX_LABEL)


def _code(value: object) -> str:
    """Return the shop's own name of a way to pay; "" if there is none."""
    return _known_label(value) if type(value) is str and len(value) <= MAX_LABEL else ""


def _label(value: object) -> str:
    """Return a name for people, in one line. A plugin may put markup (an icon) into it."""
    return _known_label(value[:MAX_MARKUP]) if type(value) is str else ""


def _first_name(billing: object) -> str:
    """Return the buyer's first name, the only data about the buyer that we keep unless the owner names more.

    A long name is cut, not refused: it must not prevent the notification. PHP writes an empty object as [].
    """
    name = billing.get("first_name") if isinstance(billing, dict) else None
    if type(name) is not str:
        return ""
    name = name[:MAX_NAME]
    return name if USUAL.fullmatch(name) else plain(name).strip()


def _buyer(payload: Mapping[str, Any], fields: OrderFields) -> dict[BuyerField, str]:
    """Return what the owner asked for about the buyer; an empty field is left out."""
    billing, shipping = _object(payload.get("billing")), _object(payload.get("shipping"))
    found = {
        BuyerField.LAST_NAME: _said(billing.get("last_name")),
        BuyerField.PHONE: _said(billing.get("phone")),
        BuyerField.EMAIL: _said(billing.get("email")),
        BuyerField.ADDRESS: _address(shipping) or _address(billing),
        BuyerField.NOTE: _said(payload.get("customer_note"), MAX_NOTE),
    }
    return {field: found[field] for field in BuyerField if field in fields.buyer and found[field]}


def _object(value: object) -> Mapping[str, Any]:
    """Return an object of JSON; PHP writes an empty one as []."""
    return value if isinstance(value, dict) else {}


def _address(side: Mapping[str, Any]) -> str:
    """Return an address in one line; "" if only the country is known, which shops fill in by themselves."""
    parts = [_said(side.get(part)) for part in ADDRESS]
    return ", ".join(filter(None, parts)) if any(parts[:-1]) else ""


def _said(value: object, longest: int = MAX_NAME) -> str:
    """Return a text of the shop's in one line; a long one is cut."""
    return one_line(value[: 4 * longest], longest) if type(value) is str else ""


def _product(name: str) -> str:
    """Return the name of a product, without the markup that plugins put into it."""
    if len(name) <= MAX_ITEM_NAME and "<" not in name and "&" not in name and USUAL.fullmatch(name):
        return name.strip()  # the usual case
    return one_line(html.unescape(TAG.sub("", name[: 4 * MAX_ITEM_NAME])), MAX_ITEM_NAME)


def _quantity(value: object) -> str:
    return str(value) if type(value) is int and 0 <= value < 10**9 else amount(value)


def _items(listed: object) -> tuple[tuple[OrderItem, ...] | None, int]:
    """Return the first lines of an order, and how many follow; None if the shop does not show them."""
    rows = rows_of(listed)
    if rows is None:
        return None, 0
    found = [
        OrderItem(_product(row["name"]), _quantity(row.get("quantity")), amount(row.get("total")))
        for row in rows[:MAX_ITEMS]
        if isinstance(row, dict) and isinstance(row.get("name"), str)
    ]
    return tuple(found), max(0, len(rows) - MAX_ITEMS)


def _shipping(listed: object) -> str:
    """Return the name of the way of delivery; the first one, if an order has several."""
    for row in (rows_of(listed) or [])[:1]:
        return _label(row.get("method_title")) if isinstance(row, dict) else ""
    return ""


def _dates(payload: Mapping[str, Any]) -> tuple[datetime | None, datetime | None]:
    """Return when an order was created and modified.

    If the UTC time of creation is missing, it is computed from the shop's own time, which has no zone. The
    difference between the order's two times of modification shows the offset. If that is not known either,
    the latest possible time is used: otherwise the order might count as older than the start of our watch. A
    time of modification is never guessed, because the walk depends on it.
    """
    created, modified = instant(payload.get("date_created_gmt")), instant(payload.get("date_modified_gmt"))
    if created is not None or modified is None:
        return created, modified
    own = local_time(payload.get("date_created"))
    if own is not None:
        offset = _offset(local_time(payload.get("date_modified")), modified)
        made_at = own.replace(tzinfo=UTC) + (LATEST_OFFSET if offset is None else -offset)
        created = min(made_at, modified)
    return created, modified


def _offset(own: datetime | None, utc: datetime) -> timedelta | None:
    """Return how far the shop's own time is ahead of UTC; None if not known."""
    offset = None if own is None else own.replace(tzinfo=UTC) - utc
    return offset if offset is not None and abs(offset) <= MAX_OFFSET else None


def _refunds(listed: object) -> tuple[Refund, ...] | None:
    """Return the refunds of an order; None if the shop does not show them, which differs from an empty list.

    PHP writes a list with gaps as an object, and may write false or "" for no refunds.
    """
    if listed == []:  # the usual case
        return ()
    rows = rows_of(listed)
    if rows is None:
        return None
    found: dict[int, Refund] = {}
    for row in rows:
        number = order_id(row) if isinstance(row, dict) else whole_number(row)
        if number is not None:
            found[number] = Refund(number, _given_back(row))
    newest = sorted(found)[-MAX_REFUNDS:]
    return tuple(found[number] for number in found if number >= newest[0])


def rows_of(listed: object) -> list[Any] | None:
    """Return the rows of a list that PHP may write as an object, or as false or "" if empty; None if none."""
    if isinstance(listed, dict):
        return [listed] if "id" in listed else list(listed.values())
    if listed is False or listed == "":
        return []
    return listed if isinstance(listed, list) else None


def _given_back(row: object) -> str:
    """Return the refunded amount, a positive number; "" if it cannot be read."""
    if not isinstance(row, dict):
        return ""
    given = amount(row.get("total")) or amount(row.get("amount"))
    return given.removeprefix("-")
