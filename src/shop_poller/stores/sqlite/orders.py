"""Known orders and the position of polling."""

import json
from collections.abc import Collection, Sequence
from datetime import date, datetime

from shop_poller.clock import instant, ms
from shop_poller.core.cursor import LOST_CURSOR_REWIND
from shop_poller.core.model import KnownOrder
from shop_poller.core.tallies import OrderTally
from shop_poller.core.translatable import Text
from shop_poller.ports import Backfill, Batch, ShopState
from shop_poller.stores import stored
from shop_poller.stores.damage import Original
from shop_poller.stores.sqlite import codec, outbox
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.sqlite.rows import note, raw
from shop_poller.stores.statuses import CLOSED

CLOSED_SQL = "({})".format(", ".join(f"'{status}'" for status in CLOSED))
"""The statuses as literals: with bound values, SQLite could not see that the index covers the query, and
would refuse it."""


class SqliteOrderState(SqlitePort):
    """Known orders and the position of polling. For the methods see ports.OrderState."""

    @in_thread
    def load(self, db: StateConnection, shop_id: str) -> ShopState | None:
        """Read the row of the shop."""
        return _load(db, shop_id)

    @in_thread
    def register(self, db: StateConnection, shop_id: str, now: datetime) -> ShopState:
        """Return the state. First insert the row of the shop if there is none.

        If the row is missing although orders of the shop are known, polling restarts before the last change
        of any order.
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
                db.damage.report(
                    shop_id, "shops", shop_id, [Text("it is missing, and orders of the shop are known")]
                )
                again = max(instant(last) - LOST_CURSOR_REWIND, stored.EARLIEST)
                db.execute(
                    "UPDATE shops SET baseline_at = ?1, cursor_at = ?1 WHERE shop_id = ?2",
                    (ms(again), shop_id),
                )
        state = _load(db, shop_id)
        assert state is not None  # noqa: S101 - just inserted
        return state

    @in_thread
    def known(self, db: StateConnection, shop_id: str, ids: Collection[int]) -> dict[int, KnownOrder]:
        """Read the records of these orders."""
        rows = db.execute(
            f"SELECT {codec.KNOWN_COLUMNS} FROM known_orders WHERE shop_id = ?"
            " AND order_id IN (SELECT value FROM json_each(?))",
            (shop_id, json.dumps(list(ids))),
        )
        found = {}
        for row in rows.fetchall():
            order, problems = codec.known_order(row)
            if problems:
                name = stored.name_of(row[0])
                note(db, Original(shop_id, "known_orders", name, problems, raw(codec.KNOWN_COLUMNS, row)))
            if order.id >= 0:
                found[order.id] = order
        return found

    @in_thread
    def open_orders(self, db: StateConnection, shop_id: str, *, after_id: int, limit: int) -> list[int]:
        """Read the open orders from their index."""
        rows = db.execute(
            "SELECT order_id FROM known_orders INDEXED BY known_orders_open"
            " WHERE shop_id = ? AND order_id > ?"
            f" AND status NOT IN {CLOSED_SQL} ORDER BY order_id LIMIT ?",
            (shop_id, after_id, limit),
        )
        return [order_id for (order_id,) in rows if type(order_id) is int]

    @in_thread
    def set_aside(self, db: StateConnection, shop_id: str) -> dict[int, str]:
        """Read the orders set aside as unreadable."""
        rows = db.execute("SELECT order_id, reason FROM set_aside WHERE shop_id = ?", (shop_id,))
        return {
            order_id: reason if isinstance(reason, str) and stored.is_clean(reason) else "(cannot be read)"
            for order_id, reason in rows
            if type(order_id) is int
        }

    @in_thread
    def commit(self, db: StateConnection, shop_id: str, batch: Batch) -> None:
        """Write known orders, outbox and state in one transaction."""
        seen_at = ms(batch.seen_at)
        with transaction(db):
            db.execute(
                f"INSERT OR REPLACE INTO shops (shop_id, {codec.SHOP_COLUMNS})"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (shop_id, *codec.shop_row(batch.state)),
            )
            db.executemany(
                f"INSERT OR REPLACE INTO known_orders (shop_id, seen_at, {codec.KNOWN_COLUMNS})"
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
            db.executemany(
                "INSERT OR REPLACE INTO tallies VALUES (?, ?, ?)",
                ((shop_id, str(day), stored.tally_text(tally)) for day, tally in batch.tallies.items()),
            )
            db.executemany(
                "DELETE FROM tallies WHERE shop_id = ? AND day = ?",
                ((shop_id, str(day)) for day in batch.dropped_days),
            )
            outbox.insert(db, shop_id, batch.new_deliveries, batch.now)

    @in_thread
    def tallies(
        self, db: StateConnection, shop_id: str, days: Collection[date] | None = None
    ) -> dict[date, OrderTally]:
        """Read the rows of these days, or of all. A damaged one is set aside."""
        columns, found = "day, tally", {}
        query, values = f"SELECT {columns} FROM tallies WHERE shop_id = ?", [shop_id]
        if days is not None:
            query += f" AND day IN ({', '.join('?' * len(days))})"
            values += map(str, sorted(days))
        for row in db.execute(query, values).fetchall():
            tally, problems = stored.tally(*row)
            note(db, Original(shop_id, "tallies", stored.name_of(row[0]), problems, raw(columns, row)))
            if tally is not None:
                found[tally[0]] = tally[1]
        return found

    @in_thread
    def backfill(self, db: StateConnection, shop_id: str) -> Backfill | None:
        """Read the row of the backfill."""
        columns = "since, created_before, learned"
        row = db.execute(f"SELECT {columns} FROM backfills WHERE shop_id = ?", (shop_id,)).fetchone()
        if row is None:
            return None
        found, problems = stored.backfill(raw(columns, row))
        note(db, Original(shop_id, "backfills", shop_id, problems, raw(columns, row)))
        return found

    @in_thread
    def import_concurrently(
        self,
        db: StateConnection,
        shop_id: str,
        records: Sequence[KnownOrder],
        position: Backfill,
        now: datetime,
    ) -> int:
        """Insert missing records. The daemon may write meanwhile."""
        with transaction(db):
            fresh = [
                db.execute(
                    f"INSERT OR IGNORE INTO known_orders (shop_id, seen_at, {codec.KNOWN_COLUMNS})"
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


def _load(db: StateConnection, shop_id: str) -> ShopState | None:
    """Return the state of a shop; None if there is none."""
    row = db.execute(f"SELECT {codec.SHOP_COLUMNS} FROM shops WHERE shop_id = ?", (shop_id,)).fetchone()
    if row is None:
        return None
    state, problems = codec.shop_state(row)
    note(db, Original(shop_id, "shops", shop_id, problems, raw(codec.SHOP_COLUMNS, row)))
    return state
