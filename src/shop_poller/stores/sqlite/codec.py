"""Between rows and the house's own things. Instants are stored as whole milliseconds since 1970, UTC."""

import json
from datetime import datetime
from typing import Any

from shop_poller.clock import instant, ms
from shop_poller.core.learning import Learning, Phase
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.ports import Settled, ShopState

Row = tuple[Any, ...]


def maybe_ms(value: datetime | None) -> int | None:
    """To store an instant that may be missing."""
    return None if value is None else ms(value)


def maybe_instant(stored: int | None) -> datetime | None:
    """To read an instant that may be missing."""
    return None if stored is None else instant(stored)


SHOP = (
    "started_at, baseline_at, cursor_at, last_poll_at, learning_phase, learning_before_at, learning_count,"
    " sweep_after_id, swept_at, newest_order_at, silence_told_at"
)


def shop_state(row: Row) -> ShopState:
    """From the columns SHOP."""
    started_at, baseline_at, cursor_at, last_poll_at, phase, before_at, count, *others = row
    sweep_after_id, swept_at, newest_at, told_at = others
    return ShopState(
        started_at=instant(started_at),
        baseline_at=maybe_instant(baseline_at),
        cursor_at=maybe_instant(cursor_at),
        last_poll_at=maybe_instant(last_poll_at),
        learning=Learning(Phase(phase), instant(before_at), count) if phase else None,
        sweep_after_id=sweep_after_id,
        swept_at=maybe_instant(swept_at),
        newest_order_at=maybe_instant(newest_at),
        silence_told_at=maybe_instant(told_at),
    )


def shop_row(state: ShopState) -> Row:
    """To the columns SHOP."""
    learning = state.learning
    return (
        ms(state.started_at),
        maybe_ms(state.baseline_at),
        maybe_ms(state.cursor_at),
        maybe_ms(state.last_poll_at),
        str(learning.phase) if learning else None,
        ms(learning.created_before) if learning else None,
        learning.count if learning else None,
        state.sweep_after_id,
        maybe_ms(state.swept_at),
        maybe_ms(state.newest_order_at),
        maybe_ms(state.silence_told_at),
    )


KNOWN = "order_id, status, modified_at, announced_new, decided, refund_ids, awaiting_since"


def known_order(row: Row) -> KnownOrder:
    """From the columns KNOWN."""
    order_id, status, modified_at, announced_new, decided, refund_ids, awaiting_since = row
    return KnownOrder(
        id=order_id,
        status=status,
        modified_at=instant(modified_at),
        announced_new=bool(announced_new),
        decided=json.loads(decided),
        refund_ids=None if refund_ids is None else frozenset(json.loads(refund_ids)),
        awaiting_since=maybe_instant(awaiting_since),
    )


def known_row(order: KnownOrder) -> Row:
    """To the columns KNOWN."""
    return (
        order.id,
        order.status,
        ms(order.modified_at),
        order.announced_new,
        json.dumps(dict(order.decided)),
        None if order.refund_ids is None else json.dumps(sorted(order.refund_ids)),
        maybe_ms(order.awaiting_since),
    )


DELIVERY = "seq, shop_id, sink, key, event_id, event_type, body, attempts, created_at, head_since, first_seq"


def delivery(row: Row) -> Delivery:
    """From the columns DELIVERY."""
    seq, shop_id, sink, key, event_id, event_type, body, attempts, created_at, head_since, first_seq = row
    return Delivery(
        seq=seq,
        shop_id=shop_id,
        sink=sink,
        key=key,
        event_id=event_id,
        event_type=event_type,
        body=body,
        attempts=attempts,
        created_at=instant(created_at),
        head_since=instant(head_since),
        first_seq=first_seq or 0,
    )


def settled(row: Row) -> Settled:
    """From seq, sink, key, event_id, event_type, attempts, when, reason, first_seq."""
    seq, sink, key, event_id, event_type, attempts, at, reason, first_seq = row
    return Settled(seq, sink, key, event_id, event_type, attempts, instant(at), reason, first_seq or 0)
