"""Dead letters, looked at and moved beside whoever polls. Runs in the store's thread."""

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime

from shop_poller.clock import instant, ms
from shop_poller.ports import DeadLetter
from shop_poller.stores.sqlite import codec, outbox
from shop_poller.stores.sqlite.codec import maybe_ms
from shop_poller.stores.sqlite.file import transaction

THESE = "FROM dead_letters WHERE shop_id = ? AND seq IN (SELECT value FROM json_each(?))"


def dead_ids(
    db: sqlite3.Connection,
    shop_id: str,
    *,
    sink: str | None,
    since: datetime | None,
    before: datetime | None,
) -> list[int]:
    """The dead letters' seqs, ascending."""
    rows = db.execute(
        "SELECT seq FROM dead_letters WHERE shop_id = :shop AND (:sink IS NULL OR sink = :sink)"
        " AND (:since IS NULL OR buried_at >= :since) AND (:before IS NULL OR buried_at < :before)"
        " ORDER BY seq",
        {"shop": shop_id, "sink": sink, "since": maybe_ms(since), "before": maybe_ms(before)},
    )
    return [seq for (seq,) in rows]


def dead_letter(db: sqlite3.Connection, shop_id: str, seq: int) -> DeadLetter | None:
    """One dead letter."""
    row = db.execute(
        "SELECT body, created_at, seq, sink, key, event_id, event_type, attempts, buried_at, reason"
        " FROM dead_letters WHERE shop_id = ? AND seq = ?",
        (shop_id, seq),
    ).fetchone()
    return DeadLetter(codec.settled(row[2:]), row[0], instant(row[1])) if row else None


def replay(db: sqlite3.Connection, shop_id: str, seqs: Collection[int], now: datetime) -> int:
    """Put dead letters back behind what waits."""
    these = (shop_id, json.dumps(list(seqs)))
    with transaction(db):
        rows = db.execute(
            f"SELECT sink, shop_id, key, event_id, event_type, body {THESE} ORDER BY seq", these
        ).fetchall()
        for row in rows:
            outbox.append(db, row[:3], row[3:], ms(now))
        db.execute(f"DELETE {THESE}", these)
    return len(rows)


def drop(db: sqlite3.Connection, shop_id: str, seqs: Collection[int]) -> int:
    """Forget dead letters."""
    with transaction(db):
        return db.execute(f"DELETE {THESE}", (shop_id, json.dumps(list(seqs)))).rowcount
