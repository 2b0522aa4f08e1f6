"""Deliveries that are over, looked at and moved beside whoever polls. Runs in the store's thread."""

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime

from shop_poller.clock import HOUR_MS, ms
from shop_poller.ports import DeadLetter, DeliveredEntry
from shop_poller.stores.sqlite import codec, outbox
from shop_poller.stores.sqlite.codec import maybe_ms
from shop_poller.stores.sqlite.file import transaction
from shop_poller.stores.stored import MOST_BODY, Reading, delivery

PLACE = "coalesce(first_seq, seq), seq"
"""Of one that was replayed: where it was at first."""
THESE = "shop_id = ? AND seq IN (SELECT value FROM json_each(?))"


def by_the_hour(
    db: sqlite3.Connection, shop_id: str, *, dead: bool, before: datetime, hours: int
) -> list[int]:
    """How many were delivered or given up in each hour; only the index is read."""
    table, at = ("dead_letters", "buried_at") if dead else ("delivered", "delivered_at")
    start = ms(before) - hours * HOUR_MS
    rows = db.execute(
        f"SELECT ({at} - :start) / {HOUR_MS} AS hour, count(*) FROM {table}"
        f" WHERE shop_id = :shop AND {at} >= :start AND {at} < :before GROUP BY hour",
        {"shop": shop_id, "start": start, "before": ms(before)},
    )
    counts = dict(rows.fetchall())
    return [counts.get(hour, 0) for hour in range(hours)]


def dead_ids(
    db: sqlite3.Connection,
    shop_id: str,
    *,
    sink: str | None,
    since: datetime | None,
    before: datetime | None,
) -> list[int]:
    """The dead letters' seqs, in the order of their events."""
    rows = db.execute(
        "SELECT seq FROM dead_letters WHERE shop_id = :shop AND (:sink IS NULL OR sink = :sink)"
        " AND (:since IS NULL OR buried_at >= :since) AND (:before IS NULL OR buried_at < :before)"
        f" ORDER BY {PLACE}",
        {"shop": shop_id, "sink": sink, "since": maybe_ms(since), "before": maybe_ms(before)},
    )
    return [seq for (seq,) in rows]  # the key of the table: numbers, whatever was written


def dead_letter(db: sqlite3.Connection, shop_id: str, seq: int) -> DeadLetter | None:
    """One dead letter."""
    row = db.execute(
        "SELECT body, created_at, seq, sink, key, event_id, event_type, attempts, buried_at, reason,"
        " first_seq FROM dead_letters WHERE shop_id = ? AND seq = ?",
        (shop_id, seq),
    ).fetchone()
    if row is None:
        return None
    over, _ = codec.finished(row[2:], dead=True)
    reading = Reading()
    body = reading.text(row[0], "body", "(cannot be read)", most=MOST_BODY)
    return DeadLetter(over, body, reading.moment(row[1], "created_at", over.at)) if over else None


def delivered(
    db: sqlite3.Connection, shop_id: str, since: datetime, before: datetime
) -> list[DeliveredEntry]:
    """What was delivered within a time, in the order of its events."""
    rows = db.execute(
        "SELECT body IS NOT NULL, seq, sink, key, event_id, event_type, attempts, delivered_at, '', first_seq"
        f" FROM delivered WHERE shop_id = ? AND delivered_at >= ? AND delivered_at < ? ORDER BY {PLACE}",
        (shop_id, ms(since), ms(before)),
    )
    read = [(codec.finished(row[1:], dead=False)[0], bool(row[0])) for row in rows]
    return [DeliveredEntry(over, has_body) for over, has_body in read if over is not None]


def replay(db: sqlite3.Connection, shop_id: str, seqs: Collection[int], now: datetime) -> int:
    """Put dead letters back behind what waits."""
    return _put_back(db, "dead_letters", shop_id, seqs, now)


def resend(db: sqlite3.Connection, shop_id: str, seqs: Collection[int], now: datetime) -> int:
    """Put deliveries that were made back behind what waits."""
    return _put_back(db, "delivered", shop_id, seqs, now)


def drop(db: sqlite3.Connection, shop_id: str, seqs: Collection[int]) -> int:
    """Forget dead letters."""
    with transaction(db):
        return db.execute(
            f"DELETE FROM dead_letters WHERE {THESE}", (shop_id, json.dumps(list(seqs)))
        ).rowcount


def _put_back(db: sqlite3.Connection, table: str, shop_id: str, seqs: Collection[int], now: datetime) -> int:
    moved = 0
    with transaction(db):
        rows = db.execute(
            f"SELECT sink, shop_id, key, event_id, event_type, body, seq, first_seq FROM {table}"
            f" WHERE {THESE} AND body IS NOT NULL ORDER BY {PLACE}",
            (shop_id, json.dumps(list(seqs))),
        ).fetchall()
        for row in rows:
            *_, seq, first_seq = row
            if not _can_be_sent(row) or outbox.waits(db, row[:3], row[3]):
                continue
            outbox.append(db, row[:3], row[3:6], ms(now), first_seq=first_seq or seq)
            db.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
            moved += 1
    return moved


def _can_be_sent(row: codec.Row) -> bool:
    """Whether a row that was over, as `_put_back` reads it, is what it was when it was sent."""
    sink, shop_id, key, event_id, event_type, body, seq, first_seq = row
    raw = {"sink": sink, "shop_id": shop_id, "key": key, "event_id": event_id, "event_type": event_type}
    times = {"created_at": 0, "head_since": None, "attempts": 0, "first_seq": first_seq}
    return not delivery(seq, {**raw, **times, "body": body})[1]
