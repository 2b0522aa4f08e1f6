"""Converts between texts in Redis and the objects of core. Instants are milliseconds since 1970, UTC."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

from shop_poller.clock import EPOCH, instant, ms
from shop_poller.core.attempts import Attempt, AttemptLog
from shop_poller.core.model import Delivery, KnownOrder
from shop_poller.core.transition import LOST_STATUS
from shop_poller.ports import (
    Alert,
    DeadLetter,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    NewDelivery,
    PastDelivery,
    ShopState,
)
from shop_poller.stores import stored
from shop_poller.stores.redis.keys import LANE
from shop_poller.stores.statuses import ANNOUNCED_BEFORE, CLOSED, UNPAID

PARTS_OF_A_NAME = 6
"""Shop, sink, key, number, creation time, event id: see `name_in_line`."""
ID_DIGITS = 19
TALLY = "tally:"
"""Fields of `state` that begin with this hold the tallies of days."""


def naive_iso(value: datetime) -> str:
    """Return an instant as the earlier design wrote it."""
    return value.astimezone(UTC).replace(tzinfo=None).isoformat()


def from_naive_iso(text: str) -> datetime | None:
    """Return an instant that the earlier design wrote; None if it is not a valid time."""
    try:
        value = datetime.fromisoformat(text)
        aware = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    if not stored.EARLIEST <= aware < stored.LATEST:
        return None
    return aware.replace(microsecond=aware.microsecond // 1000 * 1000)


def state_fields(state: ShopState) -> dict[str, str]:
    """Return the fields of `state`; "" for a missing value."""
    import_position = state.import_position
    return {
        "started_at": str(ms(state.started_at)),
        "baseline_at": _maybe(state.baseline_at),
        "cursor_at": _maybe(state.cursor_at),
        "last_poll_at": _maybe(state.last_poll_at),
        "learning_phase": str(import_position.phase) if import_position else "",
        "learning_before_at": _maybe(import_position.created_before if import_position else None),
        "learning_count": str(import_position.count) if import_position else "",
        "sweep_after_id": str(state.sweep_after_id),
        "swept_at": _maybe(state.swept_at),
        "newest_order_at": _maybe(state.newest_order_at),
        "silence_told_at": _maybe(state.silence_told_at),
        "refunds_at": _maybe(state.refunds_at),
        "tallied_since": _maybe(state.tallied_since),
    }


def shop_state(fields: Mapping[str, str]) -> tuple[ShopState | None, list[str]]:
    """Return the state from the fields of `state`, or None if it was never written, and the problems."""
    if not fields.keys() & STATE_FIELDS:
        return None, []
    if fields.get("tally_rev") != fields.get("rev"):  # an earlier version led meanwhile, and counted nothing
        fields = {name: text for name, text in fields.items() if name != "tallied_since"}
    return stored.shop_state(fields)


def tally_field(day: date) -> str:
    """Return the field of `state` that holds the tally of a day."""
    return f"{TALLY}{day}"


def is_id(text: str) -> bool:
    """Return whether a text is the id of an order."""
    return text.isascii() and text.isdigit() and len(text) <= ID_DIGITS and int(text) <= stored.MOST


def open_name(order_id: int | str) -> str:
    """Return the name of an order in `known_open`. Names sort as ids do."""
    return f"{int(order_id):0{ID_DIGITS}d}"


def known_row(order: KnownOrder) -> list[str | bool]:
    """Return what a script needs to record an order.

    It is the id, the status, the details, its name in `known_open`, and whether it belongs there.
    """
    return [
        str(order.id),
        order.status,
        known_details(order),
        open_name(order.id),
        order.status not in CLOSED,
    ]


def known_details(order: KnownOrder) -> str:
    """Return what is known of an order besides its status, stamped with that status."""
    details = {
        "status": order.status,
        "modified_at": ms(order.modified_at),
        "announced_new": order.announced_new,
        "decided": {str(type_): n for type_, n in order.decided.items()},
        "refund_ids": None if order.refund_ids is None else sorted(order.refund_ids),
        "awaiting_since": None if order.awaiting_since is None else ms(order.awaiting_since),
    }
    if order.silent_refund_ids:  # rare: omitted to save memory
        details["silent_refund_ids"] = sorted(order.silent_refund_ids)
    return json.dumps(details)


def known_order(
    order_id: int, status: str | None, details: str | None
) -> tuple[KnownOrder | None, list[str]]:
    """Return the record of an order from both hashes, and the problems.

    Where the hashes disagree, `known_orders` wins.
    """
    reading = stored.Reading()
    if status is not None and status != LOST_STATUS:
        status = reading.text(status, "status", LOST_STATUS)
    if details is None:
        if status is None:
            return None, []
        announced = status in ANNOUNCED_BEFORE
        return KnownOrder(order_id, status, EPOCH, announced_new=announced), reading.problems
    kept = reading.json(details, "details")
    if not isinstance(kept, dict):
        if kept is not None:
            reading.problems.append("details are not a record")
        known = LOST_STATUS if status is None else status
        return KnownOrder(order_id, known, EPOCH, announced_new=known not in UNPAID), reading.problems
    # If they differ, the earlier design wrote the status meanwhile, and announced what it means.
    is_lost = status in {None, LOST_STATUS}
    overruled = not is_lost and status != kept.get("status")
    found, problems = stored.known_order(
        order_id, kept | {"status": kept.get("status") if is_lost else status}
    )
    if overruled and status in ANNOUNCED_BEFORE:
        found = replace(found, announced_new=True)
    return found, [*reading.problems, *problems]


def alert_text(alert: Alert) -> str:
    """Return the text of a field of `alerts`."""
    return json.dumps({"cause": str(alert.cause), "since": ms(alert.since)})


def alert(service: str, text: str) -> tuple[Alert | None, list[str]]:
    """Return an alert from a field of `alerts`, or None if it cannot be identified, and the problems."""
    return stored.alert(service, record(text))


def record(text: object) -> dict[str, Any]:
    """Return the JSON object in a field; {} if it does not hold one."""
    found = stored.Reading().json(text, "", most=stored.MOST_BODY)
    return found if isinstance(found, dict) else {}


def lane(shop_id: str, sink: str) -> str:
    """Return the lane of a shop's deliveries to a sink."""
    return f"{shop_id}{LANE}{sink}"


def line(delivery: Delivery) -> str:
    """Return the common prefix of the names of all deliveries in the line of this one."""
    return f"{lane(delivery.shop_id, delivery.sink)}{LANE}{delivery.key}{LANE}"


def name_in_line(delivery: Delivery) -> str:
    """Return the rest of its name after the prefix, as scripts/append.lua makes it."""
    return f"{delivery.seq:016d}{LANE}{ms(delivery.created_at)}{LANE}{delivery.event_id}"


def row(shop_id: str, new_deliveries: NewDelivery, created_at: datetime) -> str:
    """Return the text of a field of `outbox`."""
    return json.dumps(
        {
            "shop": shop_id,
            "sink": new_deliveries.sink,
            "key": new_deliveries.notification.key,
            "event_id": new_deliveries.notification.event_id,
            "event_type": str(new_deliveries.notification.event_type),
            "body": new_deliveries.body,
            "created_at": ms(created_at),
        },
        ensure_ascii=False,
    )


def row_again(shop_id: str, over: FinishedDelivery, body: str, created_at: datetime) -> str:
    """Return the text of a field of `outbox` for a finished delivery that is sent again.

    Its new number does not show the order of its event, so `first_seq` is stored too.
    """
    kept = {
        "shop": shop_id,
        "sink": over.sink,
        "key": over.key,
        "event_id": over.event_id,
        "event_type": over.event_type,
        "body": body,
        "created_at": ms(created_at),
        "first_seq": over.first_seq or over.seq,
    }
    return json.dumps(kept | _log(over.attempt_log), ensure_ascii=False)


def delivery(seq: str, row_text: str, head: str, now: datetime) -> tuple[Delivery | None, list[str]]:
    """Return a delivery from a field of `outbox` and one of `heads`, and the problems.

    The delivery is None if it cannot be delivered.
    """
    kept = record(row_text)
    since, _, attempts = head.partition(" ")
    raw = kept | {"shop_id": kept.get("shop"), "head_since": since, "attempts": attempts}
    return stored.delivery(seq, raw, now)


def is_meant_as_row(field: str) -> bool:
    """Return whether a field of `outbox` is a row, even a damaged one. Other fields have words as names."""
    return field == "" or field[0] in "0123456789"


def row_of(delivery: Delivery, new_attempts: Sequence[Attempt] = ()) -> str:
    """Return the text of a field of `outbox` for a delivery that already waits there.

    Args:
        delivery: with the attempts that are stored.
        new_attempts: further attempts.
    """
    kept = {
        "shop": delivery.shop_id,
        "sink": delivery.sink,
        "key": delivery.key,
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "body": delivery.body,
        "created_at": ms(delivery.created_at),
    } | ({"first_seq": delivery.first_seq} if delivery.first_seq else {})
    return json.dumps(kept | _log(delivery.attempt_log.plus(new_attempts)), ensure_ascii=False)


def from_line(name: str) -> dict[str, str]:
    """Return the parts of a delivery's name in `outbox:lines`; {} if it is not such a name."""
    parts = name.split(LANE)
    if len(parts) != PARTS_OF_A_NAME:
        return {}
    return dict(zip(("shop_id", "sink", "key", "seq", "created_at", "event_id"), parts, strict=True))


def finished_text(
    over: Delivery, now: datetime, *, new_attempts: Sequence[Attempt] = (), reason: str = ""
) -> str:
    """Return the text of a field of `delivered` or `dead_letters`.

    Only a field of `dead_letters` contains the body; the bodies of `delivered` are in another key.

    Args:
        over: with the attempts that are stored.
        now: the date.
        new_attempts: further attempts.
        reason: why it is a dead letter; "" if it was delivered.
    """
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
    kept |= _log(over.attempt_log.plus(new_attempts))
    return json.dumps(kept | ({"reason": reason, "body": over.body} if reason else {}), ensure_ascii=False)


def _log(attempt_log: AttemptLog) -> dict[str, Any]:
    """Return the part of a delivery's record that holds its attempts."""
    return {"attempt_log": stored.attempts_list(attempt_log)} if attempt_log.count else {}


def with_readable_log(text: str) -> str:
    """Return a field of `delivered` or `dead_letters`, without its log of attempts if that is damaged."""
    kept = record(text)
    log = stored.Reading().attempts(kept.pop("attempt_log", None))
    return json.dumps(kept | _log(log), ensure_ascii=False)


def redated(text: str, at: datetime) -> str:
    """Return a field of `delivered` or `dead_letters` with another date; unchanged if it cannot be read."""
    kept = record(text)
    return json.dumps(kept | {"at": ms(at)}, ensure_ascii=False) if kept else text


def finished(seq: str, text: str, *, dead: bool) -> tuple[FinishedDelivery | None, list[str]]:
    """Return a finished delivery from a field of `delivered` or `dead_letters`, and the problems.

    The delivery is None if it cannot be identified.
    """
    return stored.finished(seq, record(text), dead=dead)


def dead_letter(seq: str, text: str) -> DeadLetter | None:
    """Return a dead letter from a field of `dead_letters`; None if it cannot be identified."""
    kept, (over, _) = record(text), finished(seq, text, dead=True)
    reading = stored.Reading()
    body = reading.text(kept.get("body"), "body", "(cannot be read)", most=stored.MOST_BODY)
    return DeadLetter(over, body, reading.moment(kept.get("created_at"), "", over.at)) if over else None


def delivery_record(seq: str, text: str, status: DeliveryStatus) -> DeliveryRecord | None:
    """Return the record of a delivery from a field of `outbox`, `delivered` or `dead_letters`.

    It is None if the delivery cannot be identified.
    """
    kept = record(text)
    raw = kept | {"at": kept.get("created_at" if status is DeliveryStatus.WAITING else "at")}
    return stored.delivery_record(seq, raw, status)


def past_delivery(
    seq: str, text: str, status: DeliveryStatus, body: str | None = None
) -> PastDelivery | None:
    """Return a delivery with its text; None if one of them is damaged.

    Args:
        seq: its number.
        text: a field of `outbox`, `delivered` or `dead_letters`.
        status: which of these.
        body: of a delivered one, whose text is in another key.
    """
    return stored.past_delivery(delivery_record(seq, text, status), body or record(text).get("body"))


def instant_of(score: str) -> datetime:
    """Return the instant of a score of a sorted set, moved into the valid bounds."""
    number = float(score)
    return instant(int(min(max(number, 0.0), ms(stored.LATEST)))) if number == number else EPOCH  # noqa: PLR0124 - NaN


def _maybe(value: datetime | None) -> str:
    return "" if value is None else str(ms(value))


STATE_FIELDS = frozenset(state_fields(ShopState(started_at=EPOCH)))
