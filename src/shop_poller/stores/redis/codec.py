"""Between what stands in Redis and the house's own things. Instants are milliseconds since 1970, UTC."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from shop_poller.clock import EPOCH, instant, ms
from shop_poller.core.errors import ErrorKind
from shop_poller.core.learning import Learning, Phase
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.core.sweep import CLOSED
from shop_poller.ports import Alert, DeadLetter, Fate, Outgoing, Settled, ShopState, Trace
from shop_poller.stores.redis.keys import LANE

ANNOUNCED_BEFORE = frozenset({"processing", "completed", "cancelled", "refunded"})
"""Of an order of which only the status is known (the design before this one kept no more): it was told."""


def naive_iso(value: datetime) -> str:
    """An instant as the design before this one wrote it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat()


def from_naive_iso(text: str) -> datetime | None:
    """An instant as the design before this one wrote it; None if it is none."""
    try:
        value = datetime.fromisoformat(text)
    except ValueError:
        return None
    aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def state_fields(state: ShopState) -> dict[str, str]:
    """To the fields of `state`; "" for what is missing."""
    learning = state.learning
    return {
        "started_at": str(ms(state.started_at)),
        "baseline_at": _maybe(state.baseline_at),
        "cursor_at": _maybe(state.cursor_at),
        "last_poll_at": _maybe(state.last_poll_at),
        "learning_phase": str(learning.phase) if learning else "",
        "learning_before_at": _maybe(learning.created_before if learning else None),
        "learning_count": str(learning.count) if learning else "",
        "sweep_after_id": str(state.sweep_after_id),
        "swept_at": _maybe(state.swept_at),
        "newest_order_at": _maybe(state.newest_order_at),
        "silence_told_at": _maybe(state.silence_told_at),
    }


def shop_state(fields: Mapping[str, str]) -> ShopState | None:
    """From the fields of `state`; None if it was never written."""
    if "started_at" not in fields:
        return None

    def at(name: str) -> datetime | None:
        return instant(fields[name]) if name in fields else None

    phase, before_at = fields.get("learning_phase"), at("learning_before_at")
    return ShopState(
        started_at=instant(fields["started_at"]),
        baseline_at=at("baseline_at"),
        cursor_at=at("cursor_at"),
        last_poll_at=at("last_poll_at"),
        learning=Learning(Phase(phase), before_at, int(fields["learning_count"]))
        if phase and before_at
        else None,
        sweep_after_id=int(fields.get("sweep_after_id", 0)),
        swept_at=at("swept_at"),
        newest_order_at=at("newest_order_at"),
        silence_told_at=at("silence_told_at"),
    )


def open_name(order_id: int | str) -> str:
    """An order's name in `known_open`: the order of names is that of ids."""
    return f"{int(order_id):019d}"


def known_row(order: KnownOrder) -> list[str | bool]:
    """To record an order by a script: id, status, the rest, its name in `known_open`, whether it is there."""
    return [
        str(order.id),
        order.status,
        known_details(order),
        open_name(order.id),
        order.status not in CLOSED,
    ]


def known_details(order: KnownOrder) -> str:
    """What is known of an order besides its status, stamped with that status."""
    return json.dumps(
        {
            "status": order.status,
            "modified_at": ms(order.modified_at),
            "announced_new": order.announced_new,
            "decided": {str(type_): n for type_, n in order.decided.items()},
            "refund_ids": None if order.refund_ids is None else sorted(order.refund_ids),
            "awaiting_since": None if order.awaiting_since is None else ms(order.awaiting_since),
        }
    )


def known_order(order_id: int, status: str | None, details: str | None) -> KnownOrder | None:
    """An order's record from both hashes; where they disagree, the plain one wins."""
    if details is None:
        if status is None:
            return None
        return KnownOrder(order_id, status, EPOCH, announced_new=status in ANNOUNCED_BEFORE)
    kept = json.loads(details)
    refund_ids, awaiting_since = kept["refund_ids"], kept.get("awaiting_since")
    # Written by somebody else meanwhile, who announced what the status says.
    overruled = status is not None and status != kept["status"]
    return KnownOrder(
        id=order_id,
        status=status or kept["status"],
        modified_at=instant(kept["modified_at"]),
        announced_new=kept["announced_new"] or (overruled and status in ANNOUNCED_BEFORE),
        decided=kept["decided"],
        refund_ids=None if refund_ids is None else frozenset(refund_ids),
        awaiting_since=None if awaiting_since is None else instant(awaiting_since),
    )


def alert_text(alert: Alert) -> str:
    """To a field of `alerts`."""
    return json.dumps({"cause": str(alert.cause), "since": ms(alert.since)})


def alert(service: str, text: str) -> Alert:
    """From a field of `alerts`."""
    kept = json.loads(text)
    return Alert(service, ErrorKind(kept["cause"]), instant(kept["since"]))


def lane(shop_id: str, sink: str) -> str:
    """Where a shop's deliveries to a sink go."""
    return f"{shop_id}{LANE}{sink}"


def line(delivery: Delivery) -> str:
    """How the names of all deliveries begin that have to keep their order with this one."""
    return f"{lane(delivery.shop_id, delivery.sink)}{LANE}{delivery.key}{LANE}"


def name_in_line(delivery: Delivery) -> str:
    """How its name goes on; scripts/commit.lua makes it."""
    return f"{delivery.seq:016d}{LANE}{ms(delivery.created_at)}{LANE}{delivery.event_id}"


def row(shop_id: str, outgoing: Outgoing, created_at: datetime) -> str:
    """To a field of `outbox`."""
    return json.dumps(
        {
            "shop": shop_id,
            "sink": outgoing.sink,
            "key": outgoing.notification.key,
            "event_id": outgoing.notification.event_id,
            "event_type": str(outgoing.notification.event_type),
            "body": outgoing.notification.body(),
            "created_at": ms(created_at),
        },
        ensure_ascii=False,
    )


def row_again(shop_id: str, over: Settled, body: str, created_at: datetime) -> str:
    """To a field of `outbox`, of a delivery that was over; its new number does not tell its order."""
    return json.dumps(
        {
            "shop": shop_id,
            "sink": over.sink,
            "key": over.key,
            "event_id": over.event_id,
            "event_type": over.event_type,
            "body": body,
            "created_at": ms(created_at),
            "first_seq": over.first_seq or over.seq,
        },
        ensure_ascii=False,
    )


def delivery(seq: str, row_text: str, head: str) -> Delivery:
    """From a field of `outbox` and one of `heads`."""
    kept: dict[str, Any] = json.loads(row_text)
    since, _, attempts = head.partition(" ")
    return Delivery(
        seq=int(seq),
        shop_id=kept["shop"],
        sink=kept["sink"],
        key=kept["key"],
        event_id=kept["event_id"],
        event_type=kept["event_type"],
        body=kept["body"],
        attempts=int(attempts),
        created_at=instant(kept["created_at"]),
        head_since=instant(since),
        first_seq=kept.get("first_seq", 0),
    )


def settled_text(over: Delivery, now: datetime, *, reason: str = "") -> str:
    """To a field of `delivered`, whose texts lie apart, or of `dead_letters`, where the text is in it."""
    kept = {
        "shop": over.shop_id,
        "sink": over.sink,
        "key": over.key,
        "event_id": over.event_id,
        "event_type": str(over.event_type),
        "created_at": ms(over.created_at),
        "attempts": over.attempts,
        "at": ms(now),
    } | ({"first_seq": over.first_seq} if over.first_seq else {})
    return json.dumps(kept | ({"reason": reason, "body": over.body} if reason else {}), ensure_ascii=False)


def settled(seq: str, text: str) -> Settled:
    """From a field of `delivered` or `dead_letters`."""
    kept = json.loads(text)
    return Settled(
        seq=int(seq),
        sink=kept["sink"],
        key=kept["key"],
        event_id=kept["event_id"],
        event_type=kept["event_type"],
        attempts=kept["attempts"],
        at=instant(kept["at"]),
        reason=kept.get("reason", ""),
        first_seq=kept.get("first_seq", 0),
    )


def dead_letter(seq: str, text: str) -> DeadLetter:
    """From a field of `dead_letters`."""
    kept = json.loads(text)
    return DeadLetter(settled(seq, text), kept["body"], instant(kept["created_at"]))


def trace(text: str, fate: Fate) -> Trace:
    """From a field of `outbox`, `delivered` or `dead_letters`."""
    kept = json.loads(text)
    return Trace(
        sink=kept["sink"],
        key=kept["key"],
        event_id=kept["event_id"],
        event_type=kept["event_type"],
        fate=fate,
        at=instant(kept["created_at"] if fate is Fate.WAITING else kept["at"]),
    )


def _maybe(value: datetime | None) -> str:
    return "" if value is None else str(ms(value))
