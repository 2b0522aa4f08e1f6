"""The rows of the outbox, from the commit that adds them to the ack, or to the move to the dead letters.

A row is the head of its key when it is the oldest undelivered one of its shop, sink and key. Only heads are
claimed, which keeps the events of an order in order.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from shop_poller.clock import MS, instant, ms
from shop_poller.clock import now as present
from shop_poller.core.model import Delivery
from shop_poller.core.retry import LONGEST_DELAY
from shop_poller.ports import Ack, MoveToDeadLetters, NewDelivery, Outcome, Release, Retry
from shop_poller.stores import stored
from shop_poller.stores.bounds import CLAMP_LIMIT, EXPIRE_LIMIT, RELEASE_LIMIT, WAITED_TOO_LONG
from shop_poller.stores.sqlite import codec, retention
from shop_poller.stores.sqlite.codec import Row
from shop_poller.stores.sqlite.connection import SqliteConnection, SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.sqlite.rows import OUTBOX_TABLE, Damaged, repair_row
from shop_poller.stores.stored import LATEST

APPEND_ROW = (
    "INSERT INTO outbox"
    " (sink, shop_id, key, event_id, event_type, body, created_at, due_at, head_since, first_seq,"
    " attempt_log)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7,"
    " iif(EXISTS (SELECT 1 FROM outbox WHERE sink = ?1 AND shop_id = ?2 AND key = ?3), NULL, ?7), ?8, ?9)"
)
"""Appends a row behind those of its key. If there are none, the row becomes the head."""
MAX_ROUNDS = 100
"""How often one claim reads rows again because some were damaged."""
SEQ_IN = "seq IN (SELECT value FROM json_each(?))"
"""Selects many rows by one parameter, see `_seqs`. One statement for many rows is much faster than many
statements, since Python releases the GIL for each step, and must wait for it again."""
MOVE_TO_DELIVERED = (
    "INSERT OR REPLACE INTO delivered SELECT seq, shop_id, sink, o.key, event_id, event_type,"
    " created_at, attempts, ?1, body, first_seq, json_extract(log.value, '$[1]')"
    " FROM json_each(?2) AS log CROSS JOIN outbox AS o ON seq = json_extract(log.value, '$[0]')"
)
"""Moves accepted rows into the history, each with its log of attempts."""
MARK_NEXT_HEADS = (
    "UPDATE outbox SET head_since = ?1, due_at = min(due_at, ?1) WHERE head_since IS NULL AND seq IN ("
    " SELECT (SELECT min(seq) FROM outbox WHERE sink = json_extract(removed.value, '$[0]')"
    " AND shop_id = json_extract(removed.value, '$[1]') AND key = json_extract(removed.value, '$[2]'))"
    " FROM json_each(?2) AS removed)"
)
"""Makes the oldest row of each key a head. The second parameter is the JSON list of [sink, shop_id, key]."""


class SqliteOutbox(SqlitePort):
    """The outbox. For the methods see ports.Outbox."""

    def __init__(self, connection: SqliteConnection) -> None:
        super().__init__(connection)
        self._scan_positions: dict[str, int] = {}  # by sink: where `release_parked` continues

    @in_thread
    def claim(self, db: StateConnection, sink: str, *, now: datetime, limit: int) -> list[Delivery]:
        """Claim due heads that are not claimed yet. Those that cannot be delivered are set aside."""
        at, claimed = ms(now), list[Delivery]()
        for _ in range(MAX_ROUNDS):
            missing = limit - len(claimed)
            heads = _heads(db, "due_at <= ?", sink, at, missing)
            if len(heads) < missing:
                # Rows due later than any delay: our clock was ahead when they were parked. It is another
                # query, so that each query can use the index.
                heads += _heads(db, "due_at > ?", sink, at + LONGEST_DELAY // MS, missing - len(heads))
            deliveries = _deliverable(db, heads, now)
            seqs = _seqs(deliveries)
            if any(delivery.head_since > now for delivery in deliveries):
                db.execute(f"UPDATE outbox SET head_since = min(head_since, ?) WHERE {SEQ_IN}", (at, seqs))
                deliveries = [replace(one, head_since=min(one.head_since, now)) for one in deliveries]
            db.execute("INSERT OR IGNORE INTO temp.claimed SELECT value FROM json_each(?)", (seqs,))
            claimed += deliveries
            if len(deliveries) == len(heads):
                break
        return claimed

    @in_thread
    def record_outcomes(self, db: StateConnection, outcomes: Sequence[Outcome], now: datetime) -> None:
        """Record the outcomes of claimed rows."""
        accepted = [outcome for outcome in outcomes if isinstance(outcome, Ack)]
        acked = [outcome.delivery for outcome in accepted]
        dead_lettered: list[Delivery] = []
        with transaction(db):
            logs = [(outcome.delivery.seq, _list(outcome)) for outcome in accepted]
            db.execute(MOVE_TO_DELIVERED, (ms(now), json.dumps(logs, ensure_ascii=False)))
            _remove(db, acked, now)
            for outcome in outcomes:
                seq = outcome.delivery.seq
                match outcome:
                    case MoveToDeadLetters():
                        dead_lettered.append(outcome.delivery)
                        _move_to_dead_letters(db, outcome, now)
                    case Retry():
                        db.execute(
                            "UPDATE outbox SET due_at = ?, attempts = attempts + ?, last_error = ?,"
                            " attempt_log = ? WHERE seq = ?",
                            (ms(outcome.at), outcome.charged, outcome.error, _attempts_text(outcome), seq),
                        )
                    case Release() if outcome.new_attempts:
                        db.execute(
                            "UPDATE outbox SET attempt_log = ? WHERE seq = ?", (_attempts_text(outcome), seq)
                        )
                    case _:  # acked above, or not attempted: the row does not change
                        pass
            retention.trim(db, "delivered", acked)
            retention.trim(db, "dead_letters", dead_lettered)
            db.execute(
                f"DELETE FROM temp.claimed WHERE {SEQ_IN}", (_seqs(outcome.delivery for outcome in outcomes),)
            )

    @in_thread
    def release_parked(self, db: StateConnection, sink: str) -> bool:
        """Make some parked rows due now, the oldest first. Return whether there may be more."""
        after = self._scan_positions.pop(sink, 0)
        with transaction(db):
            seqs = [
                seq
                for (seq,) in db.execute(
                    "SELECT seq FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?", (after, RELEASE_LIMIT)
                )
            ]
            if not seqs:
                return False
            db.execute(
                "UPDATE outbox SET due_at = created_at"
                " WHERE seq BETWEEN ? AND ? AND sink = ? AND due_at > created_at",
                (seqs[0], seqs[-1], sink),
            )
        if len(seqs) < RELEASE_LIMIT:
            return False
        self._scan_positions[sink] = seqs[-1]
        return True

    @in_thread
    def clamp_due(self, db: StateConnection, sink: str, *, latest: datetime) -> int:
        """Make heads that are due after `latest` due then, a bounded number at a time."""
        return db.execute(
            "UPDATE outbox SET due_at = :latest WHERE seq IN (SELECT seq FROM outbox WHERE sink = :sink"
            " AND head_since IS NOT NULL AND due_at > :latest ORDER BY due_at DESC LIMIT :limit)",
            {"sink": sink, "latest": ms(latest), "limit": CLAMP_LIMIT},
        ).rowcount

    @in_thread
    def next_due(self, db: StateConnection, sink: str) -> datetime | None:
        """Return when the next unclaimed head is due."""
        row = db.execute(
            "SELECT due_at FROM outbox WHERE sink = ? AND head_since IS NOT NULL"
            " AND due_at BETWEEN 0 AND ? AND seq NOT IN (SELECT seq FROM temp.claimed)"
            " ORDER BY due_at LIMIT 1",
            (sink, ms(LATEST)),
        ).fetchone()
        return instant(int(row[0])) if row else None

    @in_thread
    def dead_letter_expired(
        self, db: StateConnection, sink: str, *, head_before: datetime, now: datetime
    ) -> int:
        """Move unclaimed heads that became heads before an instant to the dead letters."""
        rows = db.execute(
            f"SELECT {OUTBOX_TABLE.columns} FROM outbox WHERE sink = ? AND head_since <= ?"
            " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY seq LIMIT ?",
            (sink, ms(head_before), EXPIRE_LIMIT),
        ).fetchall()
        expired = [one for one in _deliverable(db, rows, now) if one.waits_since(now) <= head_before]
        if expired:
            with transaction(db):
                for delivery in expired:
                    _move_to_dead_letters(db, MoveToDeadLetters(delivery, WAITED_TOO_LONG), now)
                retention.trim(db, "dead_letters", expired)
        return len(expired)


def insert(
    db: sqlite3.Connection, shop_id: str, new_deliveries: Iterable[NewDelivery], now: datetime
) -> None:
    """Add rows in the caller's transaction."""
    at = ms(now)
    db.executemany(
        APPEND_ROW,
        (
            (row.sink, shop_id, event.key, event.event_id, str(event.event_type), row.body, at, None, None)
            for row in new_deliveries
            for event in (row.notification,)
        ),
    )


def append(
    db: sqlite3.Connection,
    sink_shop_key: tuple[str, str, str],
    id_type_body: tuple[str, str, str],
    at: int,
    *,
    first_seq: int | None = None,
    attempt_log: str | None = None,
) -> None:
    """Add a row behind those of its key, in the caller's transaction.

    Args:
        db: the connection.
        sink_shop_key: the columns sink, shop_id and key.
        id_type_body: the columns event_id, event_type and body.
        at: when the row was created and is due (ms).
        first_seq: the first seq of this delivery, if it was in the outbox before.
        attempt_log: its attempts until then.
    """
    db.execute(APPEND_ROW, (*sink_shop_key, *id_type_body, at, first_seq, attempt_log))


def waits(db: sqlite3.Connection, sink_shop_key: tuple[str, str, str], event_id: str) -> bool:
    """Return whether a delivery of an event is already in the outbox."""
    found = db.execute(
        "SELECT 1 FROM outbox WHERE sink = ? AND shop_id = ? AND key = ? AND event_id = ? LIMIT 1",
        (*sink_shop_key, event_id),
    )
    return found.fetchone() is not None


def _heads(db: sqlite3.Connection, condition: str, sink: str, at: int, limit: int) -> list[tuple[Any, ...]]:
    """Return unclaimed heads, the longest due first."""
    return db.execute(
        f"SELECT {OUTBOX_TABLE.columns} FROM outbox WHERE sink = ? AND head_since IS NOT NULL AND {condition}"
        " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY due_at, seq LIMIT ?",
        (sink, at, limit),
    ).fetchall()


def _deliverable(db: StateConnection, rows: Sequence[Row], now: datetime) -> list[Delivery]:
    """Return rows of OUTBOX_TABLE as deliveries. A damaged row is corrected, or set aside."""
    now = min(now, present())
    decoded = [(row, *codec.delivery(row[:-1], now)) for row in rows]
    damaged = [dict(zip(OUTBOX_TABLE.names, row, strict=True)) for row, _, problems in decoded if problems]
    if damaged:
        with transaction(db):
            for row in damaged:
                repair_row(db, Damaged(OUTBOX_TABLE, row, *OUTBOX_TABLE.check(row, present())), present())
    return [delivery for _, delivery, _ in decoded if delivery is not None]


def _remove(db: sqlite3.Connection, deliveries: Sequence[Delivery], now: datetime) -> None:
    """Remove rows. The next row of each key becomes the head, and its age as a head counts from now."""
    db.execute(f"DELETE FROM outbox WHERE {SEQ_IN}", (_seqs(deliveries),))
    keys = [(delivery.sink, delivery.shop_id, delivery.key) for delivery in deliveries]
    db.execute(MARK_NEXT_HEADS, (ms(now), json.dumps(keys)))


def _seqs(deliveries: Iterable[Delivery]) -> str:
    """Return the parameter for SEQ_IN."""
    return json.dumps([delivery.seq for delivery in deliveries])


def _move_to_dead_letters(db: sqlite3.Connection, outcome: MoveToDeadLetters, now: datetime) -> None:
    db.execute(
        "INSERT OR REPLACE INTO dead_letters SELECT seq, shop_id, sink, key, event_id, event_type, body,"
        " created_at, attempts, ?, ?, first_seq, ? FROM outbox WHERE seq = ?",
        (ms(now), outcome.reason, _attempts_text(outcome), outcome.delivery.seq),
    )
    _remove(db, [outcome.delivery], now)


def _list(outcome: Outcome) -> list[object] | None:
    """Return the log of all attempts of a delivery; SQLite writes it as JSON."""
    log = outcome.delivery.attempt_log.plus(outcome.new_attempts)
    return stored.attempts_list(log) if log.count else None


def _attempts_text(outcome: Outcome) -> str | None:
    """Return the log of all attempts of a delivery, as it is stored."""
    return codec.attempts_text(outcome.delivery.attempt_log.plus(outcome.new_attempts))
