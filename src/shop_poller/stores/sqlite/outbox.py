"""The outbox's rows, from the commit that makes them to the ack or the burial. Runs in the store's thread.

A row is its key's head when it is the oldest undelivered one of its shop, sink and key; only heads are
claimed, which is what keeps an order's events in order.
"""

import json
import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime

from shop_poller.clock import instant, ms
from shop_poller.core.model import Delivery
from shop_poller.ports import Ack, Bury, Outcome, Outgoing, Retry
from shop_poller.stores.bounds import BURY_LIMIT, WAITED_TOO_LONG
from shop_poller.stores.sqlite import codec
from shop_poller.stores.sqlite.file import transaction

APPEND = (
    "INSERT INTO outbox"
    " (sink, shop_id, key, event_id, event_type, body, created_at, due_at, head_since, first_seq)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?7,"
    " iif(EXISTS (SELECT 1 FROM outbox WHERE sink = ?1 AND shop_id = ?2 AND key = ?3), NULL, ?7), ?8)"
)
"""A row behind those of its key; or the key's head, if there are none."""
AMONG = "seq IN (SELECT value FROM json_each(?))"
"""Many rows by one statement: each step of one gives up Python's lock, and must wait to have it again."""
NEXT_HEADS = (
    "UPDATE outbox SET head_since = ? WHERE head_since IS NULL AND seq IN ("
    " SELECT (SELECT min(seq) FROM outbox WHERE sink = json_extract(place.value, '$[0]')"
    " AND shop_id = json_extract(place.value, '$[1]') AND key = json_extract(place.value, '$[2]'))"
    " FROM json_each(?) AS place)"
)


def insert(db: sqlite3.Connection, shop_id: str, outgoing: Iterable[Outgoing], now: datetime) -> None:
    """Add rows, within the caller's transaction."""
    at = ms(now)
    db.executemany(
        APPEND,
        (
            (row.sink, shop_id, told.key, told.event_id, str(told.event_type), told.body(), at, None)
            for row in outgoing
            for told in (row.notification,)
        ),
    )


def append(
    db: sqlite3.Connection,
    place: tuple[str, str, str],
    told: tuple[str, str, str],
    at: int,
    *,
    first_seq: int | None = None,
) -> None:
    """Add a row behind those of its key, within the caller's transaction.

    Args:
        db: the store.
        place: sink, shop and key.
        told: event id, event type and body.
        at: since when it waits, and is due (ms).
        first_seq: of a row that was there before.
    """
    db.execute(APPEND, (*place, *told, at, first_seq))


def waits(db: sqlite3.Connection, place: tuple[str, str, str], event_id: str) -> bool:
    """Whether an event waits already in a place: sink, shop and key."""
    found = db.execute(
        "SELECT 1 FROM outbox WHERE sink = ? AND shop_id = ? AND key = ? AND event_id = ? LIMIT 1",
        (*place, event_id),
    )
    return found.fetchone() is not None


def forget_claims(db: sqlite3.Connection) -> None:
    """All claims are void."""
    db.execute("DELETE FROM temp.claimed")


def claim(db: sqlite3.Connection, sink: str, now: datetime, limit: int) -> list[Delivery]:
    """Take due heads that nobody has."""
    rows = db.execute(
        f"SELECT {codec.DELIVERY} FROM outbox"
        " WHERE sink = ? AND head_since IS NOT NULL AND due_at <= ?"
        " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY due_at, seq LIMIT ?",
        (sink, ms(now), limit),
    ).fetchall()
    db.execute(
        "INSERT INTO temp.claimed SELECT value FROM json_each(?)", (json.dumps([row[0] for row in rows]),)
    )
    return [codec.delivery(row) for row in rows]


def settle(db: sqlite3.Connection, outcomes: Sequence[Outcome], now: datetime) -> None:
    """Record what became of claimed rows."""
    acked = [outcome.delivery for outcome in outcomes if isinstance(outcome, Ack)]
    with transaction(db):
        db.execute(
            "INSERT INTO delivered SELECT seq, shop_id, sink, key, event_id, event_type,"
            f" created_at, attempts, ?, body, first_seq FROM outbox WHERE {AMONG}",
            (ms(now), _seqs(acked)),
        )
        _remove(db, acked, now)
        for outcome in outcomes:
            match outcome:
                case Bury():
                    _bury(db, outcome.delivery, outcome.reason, now)
                case Retry():
                    db.execute(
                        "UPDATE outbox SET due_at = ?, attempts = attempts + ?, last_error = ? WHERE seq = ?",
                        (ms(outcome.at), outcome.charged, outcome.error, outcome.delivery.seq),
                    )
                case _:  # acked above; or released: nothing happened to it
                    pass
        db.execute(
            f"DELETE FROM temp.claimed WHERE {AMONG}", (_seqs(outcome.delivery for outcome in outcomes),)
        )


def wake(db: sqlite3.Connection, sink: str) -> None:
    """Make parked rows due, in the order in which they were made."""
    with transaction(db):
        db.execute("UPDATE outbox SET due_at = created_at WHERE sink = ? AND due_at > created_at", (sink,))


def next_due(db: sqlite3.Connection, sink: str) -> datetime | None:
    """When the next head that nobody has is due."""
    row = db.execute(
        "SELECT due_at FROM outbox WHERE sink = ? AND head_since IS NOT NULL"
        " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY due_at LIMIT 1",
        (sink,),
    ).fetchone()
    return instant(row[0]) if row else None


def bury_expired(db: sqlite3.Connection, sink: str, head_before: datetime, now: datetime) -> int:
    """Bury heads that nobody has and that became such before an instant."""
    rows = db.execute(
        f"SELECT {codec.DELIVERY} FROM outbox WHERE sink = ? AND head_since <= ?"
        " AND seq NOT IN (SELECT seq FROM temp.claimed) ORDER BY seq LIMIT ?",
        (sink, ms(head_before), BURY_LIMIT),
    ).fetchall()
    if rows:
        with transaction(db):
            for row in rows:
                _bury(db, codec.delivery(row), WAITED_TOO_LONG, now)
    return len(rows)


def _remove(db: sqlite3.Connection, deliveries: Sequence[Delivery], now: datetime) -> None:
    """Take rows out; the next of each one's key becomes the head, and its age counts from now."""
    db.execute(f"DELETE FROM outbox WHERE {AMONG}", (_seqs(deliveries),))
    places = [(delivery.sink, delivery.shop_id, delivery.key) for delivery in deliveries]
    db.execute(NEXT_HEADS, (ms(now), json.dumps(places)))


def _seqs(deliveries: Iterable[Delivery]) -> str:
    """For AMONG."""
    return json.dumps([delivery.seq for delivery in deliveries])


def _bury(db: sqlite3.Connection, delivery: Delivery, reason: str, now: datetime) -> None:
    db.execute(
        "INSERT INTO dead_letters SELECT seq, shop_id, sink, key, event_id, event_type, body, created_at,"
        " attempts, ?, ?, first_seq FROM outbox WHERE seq = ?",
        (ms(now), reason, delivery.seq),
    )
    _remove(db, [delivery], now)
