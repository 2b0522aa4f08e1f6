"""Shops, known orders and alerts. Runs in the store's thread."""

import json
import sqlite3
from collections.abc import Sequence
from datetime import datetime

from shop_poller.clock import instant, ms
from shop_poller.core.errors import ErrorKind
from shop_poller.core.model import KnownOrder
from shop_poller.core.sweep import CLOSED
from shop_poller.ports import (
    Alert,
    Backfill,
    Batch,
    Fate,
    Outgoing,
    Settled,
    ShopState,
    SinkStats,
    Stats,
    Trace,
)
from shop_poller.stores.bounds import MAX_SETTLED, PRUNE_LIMIT
from shop_poller.stores.sqlite import codec, outbox
from shop_poller.stores.sqlite.file import transaction

EARLIEST = -(2**62)
"""Before any instant (ms)."""
CLOSED_SQL = "({})".format(", ".join(f"'{status}'" for status in CLOSED))
"""Written out, not bound: or SQLite could not see that the index is for just these, and would refuse."""


def load(db: sqlite3.Connection, shop_id: str) -> ShopState | None:
    """A shop's state, if it was ever heard of."""
    row = db.execute(f"SELECT {codec.SHOP} FROM shops WHERE shop_id = ?", (shop_id,)).fetchone()
    return codec.shop_state(row) if row else None


def register(db: sqlite3.Connection, shop_id: str, now: datetime) -> ShopState:
    """A shop's state; its life begins now if it has none."""
    with transaction(db):
        db.execute("INSERT OR IGNORE INTO shops (shop_id, started_at) VALUES (?, ?)", (shop_id, ms(now)))
    state = load(db, shop_id)
    assert state is not None  # noqa: S101 - just made
    return state


def known(db: sqlite3.Connection, shop_id: str, ids: list[int]) -> dict[int, KnownOrder]:
    """What is known of these orders."""
    rows = db.execute(
        f"SELECT {codec.KNOWN} FROM known_orders WHERE shop_id = ?"
        " AND order_id IN (SELECT value FROM json_each(?))",
        (shop_id, json.dumps(ids)),
    )
    return {row[0]: codec.known_order(row) for row in rows}


def open_orders(db: sqlite3.Connection, shop_id: str, after_id: int, limit: int) -> list[int]:
    """Ids of known orders in no last status."""
    rows = db.execute(
        "SELECT order_id FROM known_orders INDEXED BY known_orders_open WHERE shop_id = ? AND order_id > ?"
        f" AND status NOT IN {CLOSED_SQL} ORDER BY order_id LIMIT ?",
        (shop_id, after_id, limit),
    )
    return [order_id for (order_id,) in rows]


def backfill(db: sqlite3.Connection, shop_id: str) -> Backfill | None:
    """How far the last backfill has come."""
    row = db.execute(
        "SELECT since, created_before, learned FROM backfills WHERE shop_id = ?", (shop_id,)
    ).fetchone()
    return Backfill(instant(row[0]), instant(row[1]), row[2]) if row else None


def learn_beside(
    db: sqlite3.Connection, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
) -> int:
    """Record orders of which nothing is known; the daemon may be writing, too."""
    with transaction(db):
        fresh = [
            db.execute(
                f"INSERT OR IGNORE INTO known_orders (shop_id, seen_at, {codec.KNOWN})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (shop_id, ms(now), *codec.known_row(order)),
            ).rowcount
            for order in records
        ]
        learned = position.learned + sum(fresh)
        db.execute(
            "INSERT OR REPLACE INTO backfills VALUES (?, ?, ?, ?)",
            (shop_id, ms(position.since), ms(position.created_before), learned),
        )
    return sum(fresh)


def traces(db: sqlite3.Connection, shop_id: str, keys: list[str]) -> list[Trace]:
    """What is remembered of the deliveries of these keys."""
    rows = db.execute(
        " UNION ALL ".join(
            f"SELECT seq, sink, key, event_id, event_type, '{fate}', {at} FROM {table}"
            " WHERE shop_id = :shop AND key IN (SELECT value FROM json_each(:keys))"
            for table, fate, at in (
                ("outbox", Fate.WAITING, "created_at"),
                ("delivered", Fate.DELIVERED, "delivered_at"),
                ("dead_letters", Fate.DEAD, "buried_at"),
            )
        )
        + " ORDER BY 1",
        {"shop": shop_id, "keys": json.dumps(keys)},
    )
    return [
        Trace(sink, key, event_id, event_type, Fate(fate), instant(at))
        for _, sink, key, event_id, event_type, fate, at in rows
    ]


def set_aside(db: sqlite3.Connection, shop_id: str) -> dict[int, str]:
    """The orders that could not be read, with the reason."""
    return dict(db.execute("SELECT order_id, reason FROM set_aside WHERE shop_id = ?", (shop_id,)))


def commit(db: sqlite3.Connection, shop_id: str, batch: Batch) -> None:
    """Known orders, outbox and state, at once."""
    seen_at = ms(batch.seen_at)
    with transaction(db):
        db.execute(
            f"INSERT OR REPLACE INTO shops (shop_id, {codec.SHOP})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (shop_id, *codec.shop_row(batch.state)),
        )
        db.executemany(
            f"INSERT OR REPLACE INTO known_orders (shop_id, seen_at, {codec.KNOWN})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((shop_id, seen_at, *codec.known_row(order)) for order in batch.known),
        )
        db.executemany(
            "INSERT OR REPLACE INTO set_aside VALUES (?, ?, ?, ?)",
            ((shop_id, order.id, order.reason, ms(batch.now)) for order in batch.set_aside),
        )
        db.executemany(
            "DELETE FROM set_aside WHERE shop_id = ? AND order_id = ?",
            ((shop_id, order_id) for order_id in batch.mended),
        )
        outbox.insert(db, shop_id, batch.outgoing, batch.now)


def alerts(db: sqlite3.Connection, shop_id: str) -> dict[str, Alert]:
    """The alerts raised and not cleared, by service."""
    rows = db.execute("SELECT service, cause, since FROM alerts WHERE shop_id = ?", (shop_id,))
    return {service: Alert(service, ErrorKind(cause), instant(since)) for service, cause, since in rows}


def raise_alert(
    db: sqlite3.Connection, shop_id: str, alert: Alert, outgoing: Sequence[Outgoing], now: datetime
) -> None:
    """Remember an alert and send it; not once more, if that was done and only not heard."""
    with transaction(db):
        row = (shop_id, alert.service, str(alert.cause), ms(alert.since))
        same = "shop_id = ? AND service = ? AND cause = ? AND since = ?"
        if db.execute(f"SELECT 1 FROM alerts WHERE {same}", row).fetchone() is None:
            db.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?)", row)
            outbox.insert(db, shop_id, outgoing, now)


def clear_alert(
    db: sqlite3.Connection, shop_id: str, service: str, outgoing: Sequence[Outgoing], now: datetime
) -> None:
    """Forget an alert and send its end; likewise."""
    with transaction(db):
        gone = db.execute("DELETE FROM alerts WHERE shop_id = ? AND service = ?", (shop_id, service))
        if gone.rowcount:
            outbox.insert(db, shop_id, outgoing, now)


def stats(db: sqlite3.Connection, shop_id: str) -> Stats:
    """Count what lies in the file."""
    dead = db.execute("SELECT sink, count(*) FROM dead_letters WHERE shop_id = ? GROUP BY sink", (shop_id,))
    sinks = {sink: SinkStats(dead=n) for sink, n in dead}
    waiting = db.execute(
        "SELECT sink, count(*), min(created_at) FROM outbox WHERE shop_id = ? GROUP BY sink", (shop_id,)
    )
    for sink, n, oldest_at in waiting:
        sinks[sink] = SinkStats(n, instant(oldest_at), sinks.get(sink, SinkStats()).dead)
    (n_known,) = db.execute("SELECT count(*) FROM known_orders WHERE shop_id = ?", (shop_id,)).fetchone()
    (n_aside,) = db.execute("SELECT count(*) FROM set_aside WHERE shop_id = ?", (shop_id,)).fetchone()
    return Stats(known=n_known, set_aside=n_aside, sinks=sinks)


def settled(
    db: sqlite3.Connection,
    shop_id: str,
    *,
    dead: bool,
    limit: int,
    sink: str | None,
    after: datetime | None,
) -> list[Settled]:
    """What was delivered or given up, the latest first."""
    table, at, reason = (
        ("dead_letters", "buried_at", "reason") if dead else ("delivered", "delivered_at", "''")
    )
    rows = db.execute(
        f"SELECT seq, sink, key, event_id, event_type, attempts, {at}, {reason}, first_seq FROM {table}"
        f" WHERE shop_id = :shop AND {at} > :after AND (:sink IS NULL OR sink = :sink)"
        f" ORDER BY {at} DESC, seq DESC LIMIT :limit",
        {"shop": shop_id, "sink": sink, "limit": limit, "after": EARLIEST if after is None else ms(after)},
    )
    return [codec.settled(row) for row in rows]


def prune(db: sqlite3.Connection, shop_id: str, seen_before: datetime, settled_before: datetime) -> int:
    """Drop old records, and old or too many deliveries that are over."""
    with transaction(db):
        records = db.execute(
            "DELETE FROM known_orders WHERE shop_id = :shop AND order_id IN (SELECT order_id"
            " FROM known_orders WHERE shop_id = :shop AND seen_at < :before ORDER BY seen_at LIMIT :limit)",
            {"shop": shop_id, "before": ms(seen_before), "limit": PRUNE_LIMIT},
        )
        aside = db.execute(
            "DELETE FROM set_aside WHERE shop_id = ? AND since < ?", (shop_id, ms(seen_before))
        )
        over = [
            _prune_settled(db, shop_id, table, f"{at} < :before", before=ms(settled_before))
            + sum(
                _prune_settled(db, shop_id, table, "sink = :sink AND seq <= :last", sink=sink, last=last)
                for sink, last in _beyond_bound(db, shop_id, table)
            )
            for table, at in (("dead_letters", "buried_at"), ("delivered", "delivered_at"))
        ]
    return records.rowcount + aside.rowcount + sum(over)


def _beyond_bound(db: sqlite3.Connection, shop_id: str, table: str) -> list[tuple[str, int]]:
    """The sinks that have more deliveries that are over than are kept, and the last seq to be dropped."""
    return db.execute(
        f"SELECT sink, (SELECT seq FROM {table} WHERE shop_id = :shop AND sink = sinks.sink"
        " ORDER BY seq DESC LIMIT 1 OFFSET :most) AS last"
        f" FROM (SELECT DISTINCT sink FROM {table} WHERE shop_id = :shop) AS sinks WHERE last IS NOT NULL",
        {"shop": shop_id, "most": MAX_SETTLED},
    ).fetchall()


def _prune_settled(db: sqlite3.Connection, shop_id: str, table: str, which: str, **values: str | int) -> int:
    """Drop the oldest deliveries that are over, a bounded number."""
    return db.execute(
        f"DELETE FROM {table} WHERE seq IN"
        f" (SELECT seq FROM {table} WHERE shop_id = :shop AND {which} ORDER BY seq LIMIT :limit)",
        {"shop": shop_id, "limit": PRUNE_LIMIT, **values},
    ).rowcount
