"""Limits how much is kept, and for how long."""

import sqlite3
from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from shop_poller.clock import ms
from shop_poller.core.model import Delivery
from shop_poller.stores.bounds import MAX_FINISHED, PRUNE_LIMIT, TRIM
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.stored import is_clean

KINDS = {"delivered": "delivered_at", "dead_letters": "buried_at"}
"""Each table of finished deliveries, and the column with the time when a row got there."""
DATED = (
    ("known_orders", "order_id", "seen_at"),
    ("set_aside", "order_id", "since"),
    *((table, "seq", at) for table, at in KINDS.items()),
)
"""The tables with a retention: table, key, and the column with the time that retention counts from."""


class SqliteRetention(SqlitePort):
    """Deletes what is old. For the methods see ports.Retention."""

    @in_thread
    def prune(
        self, db: StateConnection, shop_id: str, *, seen_before: datetime, finished_before: datetime
    ) -> int:
        """Delete old records, and finished deliveries that are old or too many, in short transactions."""
        dropped = 0
        for table, at in (("known_orders", "seen_at"), ("set_aside", "since")):
            with transaction(db):
                dropped += db.execute(
                    f"DELETE FROM {table} WHERE shop_id = :shop AND order_id IN (SELECT order_id"
                    f" FROM {table} WHERE shop_id = :shop AND {at} < :before ORDER BY {at} LIMIT :limit)",
                    {"shop": shop_id, "before": ms(seen_before), "limit": PRUNE_LIMIT},
                ).rowcount
        with transaction(db):
            db.execute(
                "DELETE FROM rows_set_aside WHERE id IN (SELECT id FROM rows_set_aside"
                " WHERE shop_id IN (?, '') AND at < ? ORDER BY id LIMIT ?)",
                (shop_id, ms(seen_before), PRUNE_LIMIT),
            )
        return dropped + _prune_finished(db, shop_id, finished_before)

    @in_thread
    def redate(self, db: StateConnection, shop_id: str, *, after: datetime, to: datetime) -> int:
        """Date back what is dated in the future, a bounded number of each kind at a time."""
        values = {"shop": shop_id, "after": ms(after), "to": ms(to), "limit": PRUNE_LIMIT}
        found = [
            (table, key, at)
            for table, key, at in DATED
            if db.execute(
                f"SELECT 1 FROM {table} WHERE shop_id = :shop AND {at} > :after LIMIT 1", values
            ).fetchone()
        ]
        if not found:
            return 0
        with transaction(db):
            return sum(
                db.execute(
                    f"UPDATE {table} SET {at} = :to WHERE shop_id = :shop AND {key} IN"
                    f" (SELECT {key} FROM {table} WHERE shop_id = :shop AND {at} > :after LIMIT :limit)",
                    values,
                ).rowcount
                for table, key, at in found
            )


def trim(db: sqlite3.Connection, table: str, added: Sequence[Delivery]) -> None:
    """Delete the oldest rows beyond the bound of each sink that got new rows, in the caller's transaction.

    Args:
        db: the store.
        table: one of KINDS.
        added: the deliveries just added. At most TRIM rows are deleted for each of them.
    """
    for (shop_id, sink), count in Counter((one.shop_id, one.sink) for one in added).items():
        last = _last_beyond_bound(db, table, shop_id, sink)
        if last is not None:
            _drop(db, table, (shop_id, sink), last, TRIM * count)


def _prune_finished(db: sqlite3.Connection, shop_id: str, finished_before: datetime) -> int:
    """Delete old rows, and rows beyond the bound of a sink. Each transaction deletes a bounded number."""
    dropped = 0
    for table, at in KINDS.items():
        with transaction(db):
            dropped += db.execute(
                f"DELETE FROM {table} WHERE seq IN (SELECT seq FROM {table}"
                f" WHERE shop_id = ? AND {at} < ? ORDER BY {at} LIMIT ?)",
                (shop_id, ms(finished_before), PRUNE_LIMIT),
            ).rowcount
        sinks = db.execute(f"SELECT DISTINCT sink FROM {table} WHERE shop_id = ?", (shop_id,)).fetchall()
        for (sink,) in sinks:
            if not isinstance(sink, str) or not is_clean(sink):  # damaged: it is deleted by its age
                continue
            last = _last_beyond_bound(db, table, shop_id, sink)
            if last is not None:
                with transaction(db):
                    dropped += _drop(db, table, (shop_id, sink), last, PRUNE_LIMIT)
    return dropped


def _last_beyond_bound(db: sqlite3.Connection, table: str, shop_id: str, sink: str) -> int | None:
    """Return the youngest row of a sink beyond the bound; None if the sink has no more rows than are kept."""
    row = db.execute(
        f"SELECT seq FROM {table} WHERE shop_id = ? AND sink = ? ORDER BY seq DESC LIMIT 1 OFFSET ?",
        (shop_id, sink, MAX_FINISHED),
    ).fetchone()
    return row[0] if row else None


def _drop(db: sqlite3.Connection, table: str, lane: tuple[str, str], last: int, most: int) -> int:
    """Delete the oldest rows of a shop and sink up to a seq."""
    return db.execute(
        f"DELETE FROM {table} WHERE seq IN"
        f" (SELECT seq FROM {table} WHERE shop_id = ? AND sink = ? AND seq <= ? ORDER BY seq LIMIT ?)",
        (*lane, last, most),
    ).rowcount
