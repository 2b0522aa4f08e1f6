"""Converts between rows and the objects of core. Instants are stored as milliseconds since 1970, UTC."""

import json
from datetime import datetime
from typing import Any

from shop_poller.clock import instant, ms
from shop_poller.core.attempts import AttemptLog
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.core.translatable import Text
from shop_poller.ports import FinishedDelivery, ShopState
from shop_poller.stores import stored

Row = tuple[Any, ...]


def maybe_ms(value: datetime | None) -> int | None:
    """Return an instant in milliseconds, or None if it is missing."""
    return None if value is None else ms(value)


SHOP_COLUMNS = (
    "started_at, baseline_at, cursor_at, last_poll_at, learning_phase, learning_before_at, learning_count,"
    " sweep_after_id, swept_at, newest_order_at, silence_told_at, refunds_at, tallied_since"
)


def shop_state(row: Row) -> tuple[ShopState, list[str]]:
    """Return the state from SHOP_COLUMNS, and the problems."""
    return stored.shop_state(dict(zip(SHOP_COLUMNS.split(", "), row, strict=True)))


def shop_row(state: ShopState) -> Row:
    """Return the values of SHOP_COLUMNS."""
    import_position = state.import_position
    return (
        ms(state.started_at),
        maybe_ms(state.baseline_at),
        maybe_ms(state.cursor_at),
        maybe_ms(state.last_poll_at),
        str(import_position.phase) if import_position else None,
        ms(import_position.created_before) if import_position else None,
        import_position.count if import_position else None,
        state.sweep_after_id,
        maybe_ms(state.swept_at),
        maybe_ms(state.newest_order_at),
        maybe_ms(state.silence_told_at),
        maybe_ms(state.refunds_at),
        maybe_ms(state.tallied_since),
    )


KNOWN_COLUMNS = (
    "order_id, status, modified_at, announced_new, decided, refund_ids, awaiting_since, silent_refund_ids"
)


def known_order(row: Row) -> tuple[KnownOrder, list[str]]:
    """Return the record from KNOWN_COLUMNS, and the problems."""
    raw = dict(zip(KNOWN_COLUMNS.split(", "), row, strict=True))
    for name in ("decided", "refund_ids", "silent_refund_ids"):
        text = raw[name]
        if text:  # invalid JSON stays a text, which is reported under the name of its column
            raw[name] = stored.Reading().json(text, name) if isinstance(text, str) else text
            raw[name] = text if raw[name] is None else raw[name]
    raw["silent_refund_ids"] = raw["silent_refund_ids"] or None
    order_id = raw["order_id"]
    found, problems = stored.known_order(order_id if type(order_id) is int else -1, raw)
    return found, problems if found.id >= 0 else [Text("order_id is not an id"), *problems]


def known_row(order: KnownOrder) -> Row:
    """Return the values of KNOWN_COLUMNS."""
    return (
        order.id,
        order.status,
        ms(order.modified_at),
        order.announced_new,
        json.dumps(dict(order.decided)),
        None if order.refund_ids is None else json.dumps(sorted(order.refund_ids)),
        maybe_ms(order.awaiting_since),
        json.dumps(sorted(order.silent_refund_ids)) if order.silent_refund_ids else None,
    )


DELIVERY_COLUMNS = (
    "seq, shop_id, sink, key, event_id, event_type, body, attempts, created_at, head_since, first_seq,"
    " attempt_log"
)


USUAL_TYPES = (int, str, str, str, str, str, str, int, int, int, type(None), type(None))
"""The usual types of the columns of a delivery. A row with these types is read on a fast path."""


def delivery(row: Row, now: datetime) -> tuple[Delivery | None, list[str]]:
    """Return a delivery from DELIVERY_COLUMNS, or None if it cannot be delivered, and the problems."""
    if tuple(map(type, row)) == USUAL_TYPES:
        seq, shop_id, sink, key, event_id, event_type, body, attempts, created_at, head_since, *_ = row
        names = f"{shop_id}{sink}{key}{event_id}{event_type}"
        if (
            0 < seq <= stored.BIGGEST_SEQ
            and 0 <= attempts <= stored.MOST_COUNT
            and 0 <= created_at <= stored.LATEST_MS
            and 0 <= head_since <= stored.LATEST_MS
            and shop_id and sink and key and event_id and event_type
            and stored.is_notification(body, names)
        ):  # fmt: skip
            return Delivery(
                seq, shop_id, sink, key, event_id, event_type, body, attempts,
                instant(created_at), instant(head_since),
            ), []  # fmt: skip
    raw = dict(zip(DELIVERY_COLUMNS.split(", "), row, strict=True))
    return stored.delivery(raw["seq"], raw, now)


def finished(row: Row, *, dead: bool) -> tuple[FinishedDelivery | None, list[str]]:
    """Return a finished delivery, or None if it cannot be identified, and the problems.

    The columns are seq, sink, key, event_id, event_type, attempts, when, reason, first_seq, attempt_log.
    """
    names = (
        "seq", "sink", "key", "event_id", "event_type", "attempts", "at", "reason", "first_seq",
        "attempt_log",
    )  # fmt: skip
    raw = dict(zip(names, row, strict=True))
    return stored.finished(raw["seq"], raw, dead=dead)


def attempts_text(log: AttemptLog) -> str | None:
    """Return the value of the column attempt_log."""
    if not log.count:
        return None
    return json.dumps(stored.attempts_list(log), ensure_ascii=False, separators=(",", ":"))
