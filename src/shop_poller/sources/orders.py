"""From WooCommerce's JSON of an order to an Order, or to a reason why not.

Only what we use is looked at and bounded; the buyer's other data are not even read.
"""

import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Order, Refund, UnreadableOrder

MAX_REASON = 300
MAX_NAME = 200
MAX_ID = 2**63 - 1
"""What a database can hold."""


def _utc(value: object) -> datetime:
    """WooCommerce's `…_gmt` times have no zone and a resolution of one second: "2026-11-23T02:03:07"."""
    if not isinstance(value, str) or len(value) > 40:
        raise ValueError("is no date")
    try:
        instant = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError("is no date") from None  # Python's own words would quote it
    if not 1970 <= instant.year <= 9000:
        raise ValueError("is a date out of all bounds")
    aware = instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    return aware.replace(microsecond=0)


def _first_name(billing: object) -> object:
    """The one thing about the buyer that is kept. PHP writes an empty object as [].

    It is cut rather than refused: a buyer who types a long one must not keep an order from being announced.
    """
    name = (billing.get("first_name") or "") if isinstance(billing, Mapping) else ""
    return _tame(name[:MAX_NAME]) if isinstance(name, str) else name


def _tame(text: object) -> object:
    """Text that moves no cursor, breaks no line and turns no direction, wherever it is shown."""
    if not isinstance(text, str) or len(text) > MAX_NAME or text.isprintable():
        return text  # what is too long is refused for that: looking at megabytes takes seconds
    return "".join(" " if _is_control(c) else c for c in text).strip()


def _is_control(c: str) -> bool:
    # Not all that is unprintable: emoji and Persian names have joiners in them.
    return unicodedata.category(c) in CONTROLS or unicodedata.bidirectional(c) in TURNS


CONTROLS = frozenset({"Cc", "Cs", "Zl", "Zp"})
TURNS = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})
Tame = BeforeValidator(_tame)
Instant = Annotated[datetime, BeforeValidator(_utc)]
Amount = Annotated[str, StringConstraints(pattern=r"^-?[0-9]{1,20}(\.[0-9]{1,10})?$")]


class _Refund(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: Annotated[int, Field(gt=0, le=MAX_ID)]
    total: Amount


class _Order(BaseModel):
    model_config = ConfigDict(coerce_numbers_to_str=True)

    id: int
    status: Annotated[str, StringConstraints(min_length=1, max_length=60)]
    number: Annotated[str, StringConstraints(max_length=60), Tame] = ""
    total: Amount
    currency: Annotated[str, StringConstraints(max_length=10), Tame] = ""
    currency_symbol: Annotated[str, StringConstraints(max_length=20), Tame] = ""
    billing: Annotated[str, StringConstraints(max_length=MAX_NAME), BeforeValidator(_first_name)] = ""
    date_created_gmt: Instant
    date_modified_gmt: Instant
    date_paid_gmt: Instant | None = None
    refunds: Annotated[list[_Refund], Field(max_length=1000)] | None = None


def read_order(payload: object) -> Order | UnreadableOrder:
    """Read one item of a list.

    Raises:
        TemporaryError: PROTOCOL, it does not even have an id, so it is no order that could be set aside.
    """
    order_id = payload.get("id") if isinstance(payload, Mapping) else None
    if not isinstance(order_id, int) or isinstance(order_id, bool) or not 0 < order_id <= MAX_ID:
        raise TemporaryError(ErrorKind.PROTOCOL, "the shop's list of orders has an item without an order id")
    try:
        order = _Order.model_validate(payload)
    except ValidationError as error:
        return _unreadable(order_id, payload, error)
    return Order(
        id=order.id,
        number=order.number or str(order.id),
        status=order.status,
        total=order.total,
        currency=order.currency,
        currency_sign=order.currency_symbol or order.currency,
        customer=order.billing,
        created_at=order.date_created_gmt,
        modified_at=order.date_modified_gmt,
        paid_at=order.date_paid_gmt,
        refunds=None
        if order.refunds is None
        else tuple(Refund(refund.id, refund.total.removeprefix("-")) for refund in order.refunds),
    )


def _unreadable(order_id: int, payload: Any, error: ValidationError) -> UnreadableOrder:
    # Fields and rules only: the values may be personal.
    problems = (
        f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in error.errors(include_input=False, include_url=False, include_context=False)
    )
    return UnreadableOrder(
        id=order_id,
        reason="; ".join(problems)[:MAX_REASON],
        modified_at=_maybe_utc(payload.get("date_modified_gmt")),
        created_at=_maybe_utc(payload.get("date_created_gmt")),
    )


def _maybe_utc(value: object) -> datetime | None:
    try:
        return _utc(value)
    except ValueError:
        return None
