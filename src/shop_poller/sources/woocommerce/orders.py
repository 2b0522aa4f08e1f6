"""Converts WooCommerce's JSON of an order to an Order, or to the reason why that is not possible.

Only the fields that we use are read, each within limits; the buyer's other data is not read. A field that
cannot be read falls back: to the currency's code for its sign, to "not paid", to an unknown amount. Only an
order without an id, a status or a date is set aside.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from shop_poller.config.statuses import bare
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Refund, UnreadableOrder
from shop_poller.core.plain_text import USUAL, plain
from shop_poller.sources.woocommerce.values import (
    MAX_NAME,
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
MAX_OFFSET = timedelta(hours=15)
LATEST_OFFSET = timedelta(hours=12)
"""The maximum that UTC can be ahead of a shop's own time."""


def read_order(payload: object) -> Order | UnreadableOrder:
    """Read one item of a list.

    Raises:
        TemporaryError: PROTOCOL; the item has no id, so it cannot be set aside.
    """
    number = order_id(payload)
    if number is None or not isinstance(payload, dict):
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's list of orders has an item without an order id")
    return read_named(number, payload)


def read_named(number: int, payload: Mapping[str, Any]) -> Order | UnreadableOrder:
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


def _first_name(billing: object) -> str:
    """Return the buyer's first name, the only data about the buyer that we keep.

    A long name is cut, not refused: it must not prevent the notification. PHP writes an empty object as [].
    """
    name = billing.get("first_name") if isinstance(billing, dict) else None
    if type(name) is not str:
        return ""
    name = name[:MAX_NAME]
    return name if USUAL.fullmatch(name) else plain(name).strip()


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
    if listed == []:
        return ()
    if isinstance(listed, dict):
        listed = [listed] if "id" in listed else list(listed.values())
    if listed is False or listed == "":
        return ()
    if not isinstance(listed, list):
        return None
    found: dict[int, Refund] = {}
    for row in listed:
        number = order_id(row) if isinstance(row, dict) else whole_number(row)
        if number is not None:
            found[number] = Refund(number, _given_back(row))
    newest = sorted(found)[-MAX_REFUNDS:]
    return tuple(found[number] for number in found if number >= newest[0])


def _given_back(row: object) -> str:
    """Return the refunded amount, a positive number; "" if it cannot be read."""
    if not isinstance(row, dict):
        return ""
    given = amount(row.get("total")) or amount(row.get("amount"))
    return given.removeprefix("-")
