"""Shops, known orders and alerts. Runs in the store's thread."""

import json
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime

from shop_poller.clock import instant, ms
from shop_poller.clock import now as present
from shop_poller.core.cursor import READ_AGAIN
from shop_poller.core.model import KnownOrder
from shop_poller.ports import (
    Alert,
    Backfill,
    Batch,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    NewDelivery,
    ShopState,
    SinkStats,
    Stats,
)
from shop_poller.stores import stored
from shop_poller.stores.bounds import PRUNE_LIMIT
from shop_poller.stores.damage import Original
from shop_poller.stores.sqlite import codec, history, outbox
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.sqlite.rows import keep
from shop_poller.stores.statuses import CLOSED

EARLIEST = -(2**62)
"""Before any instant (ms)."""
DATED = (
    ("known_orders", "order_id", "seen_at"),
    ("set_aside", "order_id", "since"),
    *((table, "seq", at) for table, at in history.KINDS.items()),
)
"""What is kept for a time: table, key, and since when."""
CLOSED_SQL = "({})".format(", ".join(f"'{status}'" for status in CLOSED))
"""Written out, not bound: or SQLite could not see that the index is for just these, and would refuse."""


def load(db: StateConnection, shop_id: str) -> ShopState | None:
    """A shop's state, if it was ever heard of."""
    row = db.execute(f"SELECT {codec.SHOP} FROM shops WHERE shop_id = ?", (shop_id,)).fetchone()
    if row is None:
        return None
    state, problems = codec.shop_state(row)
    _note(db, Original(shop_id, "shops", shop_id, problems, _raw(codec.SHOP, row)))
    return state


def register(db: StateConnection, shop_id: str, now: datetime) -> ShopState:
    """A shop's state; its life begins now if it has none.

    If only its row is gone, and its orders are known, polling goes back to before the last change of any.
    """
    with transaction(db):
        begun = db.execute(
            "INSERT OR IGNORE INTO shops (shop_id, started_at) VALUES (?, ?)", (shop_id, ms(now))
        )
        (last,) = (
            db.execute(
                "SELECT max(seen_at) FROM known_orders WHERE shop_id = ? AND typeof(seen_at) = 'integer'"
                " AND seen_at <= ?",
                (shop_id, ms(now)),
            ).fetchone()
            if begun.rowcount
            else (None,)
        )
        if last is not None:
            db.damage.tell(shop_id, "shops", shop_id, ["it is missing, and orders of the shop are known"])
            again = max(instant(last) - READ_AGAIN, stored.EARLIEST)
            db.execute(
                "UPDATE shops SET baseline_at = ?1, cursor_at = ?1 WHERE shop_id = ?2", (ms(again), shop_id)
            )
    state = load(db, shop_id)
    assert state is not None  # noqa: S101 - just made
    return state


def known(db: StateConnection, shop_id: str, ids: list[int]) -> dict[int, KnownOrder]:
    """What is known of these orders."""
    rows = db.execute(
        f"SELECT {codec.KNOWN} FROM known_orders WHERE shop_id = ?"
        " AND order_id IN (SELECT value FROM json_each(?))",
        (shop_id, json.dumps(ids)),
    )
    found = {}
    for row in rows.fetchall():
        order, problems = codec.known_order(row)
        if problems:
            name = stored.name_of(row[0])
            _note(db, Original(shop_id, "known_orders", name, problems, _raw(codec.KNOWN, row)))
        if order.id >= 0:
            found[order.id] = order
    return found


def open_orders(db: sqlite3.Connection, shop_id: str, after_id: int, limit: int) -> list[int]:
    """Ids of known orders in no last status."""
    rows = db.execute(
        "SELECT order_id FROM known_orders INDEXED BY known_orders_open WHERE shop_id = ? AND order_id > ?"
        f" AND status NOT IN {CLOSED_SQL} ORDER BY order_id LIMIT ?",
        (shop_id, after_id, limit),
    )
    return [order_id for (order_id,) in rows if type(order_id) is int]


def backfill(db: StateConnection, shop_id: str) -> Backfill | None:
    """How far the last backfill has come."""
    columns = "since, created_before, learned"
    row = db.execute(f"SELECT {columns} FROM backfills WHERE shop_id = ?", (shop_id,)).fetchone()
    if row is None:
        return None
    found, problems = stored.backfill(_raw(columns, row))
    _note(db, Original(shop_id, "backfills", shop_id, problems, _raw(columns, row)))
    return found


def import_concurrently(
    db: sqlite3.Connection, shop_id: str, records: Sequence[KnownOrder], position: Backfill, now: datetime
) -> int:
    """Record orders of which nothing is known; the daemon may be writing, too."""
    with transaction(db):
        fresh = [
            db.execute(
                f"INSERT OR IGNORE INTO known_orders (shop_id, seen_at, {codec.KNOWN})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (shop_id, ms(now), *codec.known_row(order)),
            ).rowcount
            for order in records
        ]
        imported = position.imported + sum(fresh)
        db.execute(
            "INSERT OR REPLACE INTO backfills VALUES (?, ?, ?, ?)",
            (shop_id, ms(position.since), ms(position.created_before), imported),
        )
    return sum(fresh)


def delivery_records(db: sqlite3.Connection, shop_id: str, keys: list[str]) -> list[DeliveryRecord]:
    """What is remembered of the deliveries of these keys."""
    rows = db.execute(
        " UNION ALL ".join(
            f"SELECT seq, sink, key, event_id, event_type, '{status}', {at} FROM {table}"
            " WHERE shop_id = :shop AND key IN (SELECT value FROM json_each(:keys))"
            for table, status, at in (
                ("outbox", DeliveryStatus.WAITING, "created_at"),
                ("delivered", DeliveryStatus.DELIVERED, "delivered_at"),
                ("dead_letters", DeliveryStatus.DEAD, "buried_at"),
            )
        )
        + " ORDER BY 1",
        {"shop": shop_id, "keys": json.dumps(keys)},
    )
    found = []
    for seq, *texts, status, at in rows:
        raw = dict(zip(("sink", "key", "event_id", "event_type"), texts, strict=True))
        over, _ = stored.finished(seq, {**raw, "at": at, "attempts": 0}, dead=False)
        if over is not None:
            found.append(
                DeliveryRecord(
                    over.sink, over.key, over.event_id, over.event_type, DeliveryStatus(status), over.at
                )
            )
    return found


def set_aside(db: sqlite3.Connection, shop_id: str) -> dict[int, str]:
    """The orders that could not be read, with the reason."""
    rows = db.execute("SELECT order_id, reason FROM set_aside WHERE shop_id = ?", (shop_id,))
    return {
        order_id: reason if isinstance(reason, str) and stored.is_clean(reason) else "(cannot be read)"
        for order_id, reason in rows
        if type(order_id) is int
    }


def commit(db: sqlite3.Connection, shop_id: str, batch: Batch) -> None:
    """Known orders, outbox and state, at once."""
    seen_at = ms(batch.seen_at)
    with transaction(db):
        db.execute(
            f"INSERT OR REPLACE INTO shops (shop_id, {codec.SHOP})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (shop_id, *codec.shop_row(batch.state)),
        )
        db.executemany(
            f"INSERT OR REPLACE INTO known_orders (shop_id, seen_at, {codec.KNOWN})"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            ((shop_id, seen_at, *codec.known_row(order)) for order in batch.known),
        )
        db.executemany(
            "INSERT OR REPLACE INTO set_aside VALUES (?, ?, ?, ?)",
            ((shop_id, order.id, order.reason, max(seen_at, ms(batch.now))) for order in batch.set_aside),
        )
        db.executemany(
            "DELETE FROM set_aside WHERE shop_id = ? AND order_id = ?",
            ((shop_id, order_id) for order_id in batch.mended),
        )
        outbox.insert(db, shop_id, batch.new_deliveries, batch.now)


def alerts(db: StateConnection, shop_id: str) -> dict[str, Alert]:
    """The alerts raised and not cleared, by service."""
    columns, found = "service, cause, since", {}
    for row in db.execute(f"SELECT {columns} FROM alerts WHERE shop_id = ?", (shop_id,)).fetchall():
        alert, problems = stored.alert(row[0], _raw(columns, row))
        _note(db, Original(shop_id, "alerts", stored.name_of(row[0]), problems, _raw(columns, row)))
        if alert is not None:
            found[alert.service] = alert
    return found


def raise_alert(
    db: sqlite3.Connection, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
) -> None:
    """Remember an alert and send it; not once more, if that was done and only not heard."""
    with transaction(db):
        row = (shop_id, alert.service, str(alert.cause), ms(alert.since))
        same = "shop_id = ? AND service = ? AND cause = ? AND since = ?"
        if db.execute(f"SELECT 1 FROM alerts WHERE {same}", row).fetchone() is None:
            db.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?)", row)
            outbox.insert(db, shop_id, new_deliveries, now)


def clear_alert(
    db: sqlite3.Connection, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
) -> None:
    """Forget an alert and send its end; likewise."""
    with transaction(db):
        gone = db.execute("DELETE FROM alerts WHERE shop_id = ? AND service = ?", (shop_id, service))
        if gone.rowcount:
            outbox.insert(db, shop_id, new_deliveries, now)


def stats(db: sqlite3.Connection, shop_id: str) -> Stats:
    """Count what lies in the file."""
    dead = db.execute("SELECT sink, count(*) FROM dead_letters WHERE shop_id = ? GROUP BY sink", (shop_id,))
    sinks = {sink: SinkStats(dead=n) for sink, n in dead if _is_name(sink)}
    waiting = db.execute(
        "SELECT sink, count(*), min(iif(typeof(created_at) = 'integer' AND created_at BETWEEN 0 AND ?,"
        " created_at, NULL)) FROM outbox WHERE shop_id = ? GROUP BY sink",
        (ms(stored.LATEST), shop_id),
    )
    for sink, n, oldest_at in waiting:
        if _is_name(sink):
            oldest = None if oldest_at is None else instant(oldest_at)
            sinks[sink] = SinkStats(n, oldest, sinks.get(sink, SinkStats()).dead)

    def count(table: str, shops: str = "(?)") -> int:
        return int(
            db.execute(f"SELECT count(*) FROM {table} WHERE shop_id IN {shops}", (shop_id,)).fetchone()[0]
        )

    return Stats(
        known=count("known_orders"),
        set_aside=count("set_aside"),
        sinks=sinks,
        rows_set_aside=count("rows_set_aside", "(?, '')"),
    )


def finished(
    db: sqlite3.Connection,
    shop_id: str,
    *,
    dead: bool,
    limit: int,
    sink: str | None,
    after: datetime | None,
) -> list[FinishedDelivery]:
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
    return [over for row in rows if (over := codec.finished(row, dead=dead)[0]) is not None]


def prune(db: StateConnection, shop_id: str, seen_before: datetime, finished_before: datetime) -> int:
    """Drop old records, and old or too many deliveries that are over; each in short transactions."""
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
    return dropped + history.prune(db, shop_id, finished_before)


def redate(db: sqlite3.Connection, shop_id: str, after: datetime, to: datetime) -> int:
    """Date back what is dated in the future, of each kind a bounded number."""
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
                f"UPDATE {table} SET {at} = :to WHERE shop_id = :shop AND {key} IN (SELECT {key} FROM {table}"
                f" WHERE shop_id = :shop AND {at} > :after LIMIT :limit)",
                values,
            ).rowcount
            for table, key, at in found
        )


def _note(db: StateConnection, one: Original) -> None:
    """Log a damaged row and keep a copy, once, where this connection may write; writing it corrects it."""
    if one.problems and db.is_writer and (one.place, one.name) not in db.damage.told:
        with suppress(sqlite3.Error), transaction(db):  # a full disk must not keep it from being read
            keep(db, one, present())


def _raw(columns: str, row: codec.Row) -> dict[str, object]:
    return dict(zip(columns.split(", "), row, strict=True))


def _is_name(sink: object) -> bool:
    return isinstance(sink, str) and stored.is_clean(sink)
