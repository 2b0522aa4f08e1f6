"""Puts finished deliveries back into the outbox, or deletes them, while the daemon runs."""

import json
import sqlite3
from collections.abc import Collection
from datetime import datetime

from shop_poller.clock import ms
from shop_poller.ports import DeadLetter
from shop_poller.stores.sqlite import codec, outbox
from shop_poller.stores.sqlite.codec import maybe_ms
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.sqlite.history import BY_FIRST_SEQ
from shop_poller.stores.stored import MOST_BODY, Reading, delivery

SHOP_AND_SEQ_IN = "shop_id = ? AND seq IN (SELECT value FROM json_each(?))"


class SqliteDeadLetters(SqlitePort):
    """Dead letters. For the methods see ports.DeadLetters."""

    @in_thread
    def dead_ids(
        self,
        db: StateConnection,
        shop_id: str,
        *,
        sink: str | None = None,
        since: datetime | None = None,
        before: datetime | None = None,
    ) -> list[int]:
        """Return the seqs of the dead letters, in the order of their events."""
        rows = db.execute(
            "SELECT seq FROM dead_letters WHERE shop_id = :shop AND (:sink IS NULL OR sink = :sink)"
            " AND (:since IS NULL OR buried_at >= :since) AND (:before IS NULL OR buried_at < :before)"
            f" ORDER BY {BY_FIRST_SEQ}",
            {"shop": shop_id, "sink": sink, "since": maybe_ms(since), "before": maybe_ms(before)},
        )
        return [seq for (seq,) in rows]  # the key of the table: always numbers

    @in_thread
    def dead_letter(self, db: StateConnection, shop_id: str, seq: int) -> DeadLetter | None:
        """Return one dead letter."""
        row = db.execute(
            "SELECT body, created_at, seq, sink, key, event_id, event_type, attempts, buried_at, reason,"
            " first_seq, attempt_log FROM dead_letters WHERE shop_id = ? AND seq = ?",
            (shop_id, seq),
        ).fetchone()
        if row is None:
            return None
        over, _ = codec.finished(row[2:], dead=True)
        reading = Reading()
        body = reading.text(row[0], "body", "(cannot be read)", most=MOST_BODY)
        return DeadLetter(over, body, reading.moment(row[1], "created_at", over.at)) if over else None

    @in_thread
    def replay_concurrently(
        self, db: StateConnection, shop_id: str, seqs: Collection[int], now: datetime
    ) -> int:
        """Add a row for each dead letter behind the waiting rows of its key, and delete the dead letter."""
        return _put_back(db, "dead_letters", shop_id, seqs, now)

    @in_thread
    def drop_concurrently(self, db: StateConnection, shop_id: str, seqs: Collection[int]) -> int:
        """Delete dead letters."""
        with transaction(db):
            return db.execute(
                f"DELETE FROM dead_letters WHERE {SHOP_AND_SEQ_IN}", (shop_id, json.dumps(list(seqs)))
            ).rowcount

    @in_thread
    def resend_concurrently(
        self, db: StateConnection, shop_id: str, seqs: Collection[int], now: datetime
    ) -> int:
        """Add a row for each delivery behind the waiting rows of its key, and delete it from the history."""
        return _put_back(db, "delivered", shop_id, seqs, now)


def _put_back(db: sqlite3.Connection, table: str, shop_id: str, seqs: Collection[int], now: datetime) -> int:
    moved = 0
    with transaction(db):
        rows = db.execute(
            f"SELECT sink, shop_id, key, event_id, event_type, body, seq, first_seq, attempt_log FROM {table}"
            f" WHERE {SHOP_AND_SEQ_IN} AND body IS NOT NULL ORDER BY {BY_FIRST_SEQ}",
            (shop_id, json.dumps(list(seqs))),
        ).fetchall()
        for row in rows:
            *_, seq, first_seq, attempt_log = row
            if not _can_be_sent(row) or outbox.waits(db, row[:3], row[3]):
                continue
            log = codec.attempts_text(Reading().attempts(attempt_log))  # without one that is damaged
            outbox.append(db, row[:3], row[3:6], ms(now), first_seq=first_seq or seq, attempt_log=log)
            db.execute(f"DELETE FROM {table} WHERE seq = ?", (seq,))
            moved += 1
    return moved


def _can_be_sent(row: codec.Row) -> bool:
    """Return whether a row, as `_put_back` reads it, is undamaged."""
    sink, shop_id, key, event_id, event_type, body, seq, first_seq, _ = row
    raw = {"sink": sink, "shop_id": shop_id, "key": key, "event_id": event_id, "event_type": event_type}
    times = {"created_at": 0, "head_since": None, "attempts": 0, "first_seq": first_seq}
    return not delivery(seq, {**raw, **times, "body": body})[1]
