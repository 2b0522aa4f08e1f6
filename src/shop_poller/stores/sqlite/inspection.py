"""Inspects a whole state file and repairs what can be repaired."""

import sqlite3
from contextlib import closing
from datetime import datetime
from functools import cache

from shop_poller.clock import now
from shop_poller.core.known_lines import known
from shop_poller.core.translatable import Text, joined
from shop_poller.stores.damage import StateFinding
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import MIGRATIONS, StateConnection, transaction
from shop_poller.stores.sqlite.rows import (
    TABLES,
    counter_problem,
    damaged,
    mark_heads,
    raise_counter,
    repair_row,
    unmarked_heads,
)

MOST_OF_FILE = 20
"""Most faults of the file itself that are listed."""
RESTORE = Text("restore a backup, or move the file away to start over")
INDEX_FAULTS = ("missing from index", "wrong # of entries in index", "non-unique entry in index")
OF_ROWS = (" value in ",)
"""Faults that the check of each row also finds."""


class SqliteInspection(SqlitePort):
    """Inspects the whole file and repairs it, for `shop-poller state`."""

    @in_thread
    def inspect(self, db: StateConnection, shop_id: str) -> list[StateFinding]:  # noqa: ARG002 - a file has one shop
        """Return everything that is wrong with the state. Changes nothing."""
        return _findings(db, now())

    @in_thread
    def repair(self, db: StateConnection, shop_id: str) -> list[StateFinding]:  # noqa: ARG002 - likewise
        """Repair what can be repaired. The table rows_set_aside keeps copies of the rows.

        Returns:
            What was wrong.
        """
        at = now()
        found = _findings(db, at)
        with transaction(db):
            for name, sql in _indexes().items():
                if any(one.place == "index" and one.name == name for one in found):
                    db.execute(sql)
            if any(one.place == "file" and one.fix for one in found):
                db.execute("REINDEX")
            if any(one.place in {table.name for table in TABLES} for one in found):
                for one in list(damaged(db, TABLES, at, quick=False)):
                    repair_row(db, one, at)
            mark_heads(db, at)
            raise_counter(db)
        return found

    @in_thread
    def forget_set_aside(self, db: StateConnection, shop_id: str) -> int:
        """Delete the copies of damaged rows."""
        return db.execute("DELETE FROM rows_set_aside WHERE shop_id IN (?, '')", (shop_id,)).rowcount


def _findings(db: sqlite3.Connection, at: datetime) -> list[StateFinding]:
    """Return everything that is wrong with the file."""
    found = _of_schema(db)
    try:
        found += _of_file(db)
        if not any("is missing" in one.problem and not one.fix for one in found):
            found += [one.finding() for one in damaged(db, TABLES, at, quick=False)]
            found += _of_outbox(db)
    except sqlite3.Error as error:
        found.append(
            StateFinding(
                "file",
                "-",
                Text("cannot be read: {error}; {advice}", error=known(str(error)), advice=RESTORE),
            )
        )
    return found


def _of_file(db: sqlite3.Connection) -> list[StateFinding]:
    found = []
    for (text,) in db.execute(f"PRAGMA integrity_check({MOST_OF_FILE})").fetchall():
        if text == "ok" or any(part in text for part in OF_ROWS):
            continue
        is_index = any(part in text for part in INDEX_FAULTS)
        fix = Text("a repair rebuilds the indexes") if is_index else ""
        line = " ".join(str(text).split())[:200]
        found.append(StateFinding("file", "-", line if fix else joined("; ", [line, RESTORE]), fix))
    return found


def _of_schema(db: sqlite3.Connection) -> list[StateFinding]:
    found = []
    for table, columns in _columns().items():
        there = {row[1] for row in db.execute(f"PRAGMA table_info({table})")}
        missing = [Text("the column {name} is missing", name=name) for name in sorted(columns - there)]
        if not there:
            missing = [Text("the table is missing")]
        found += [StateFinding(table, "-", joined("; ", [what, RESTORE])) for what in missing]
    indexes = {row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'index'")}
    found += [
        StateFinding("index", name, Text("it is missing"), Text("a repair makes it"))
        for name in _indexes()
        if name not in indexes
    ]
    return found


def _of_outbox(db: sqlite3.Connection) -> list[StateFinding]:
    found = []
    if problem := counter_problem(db):
        found.append(StateFinding("outbox", "counter", problem, Text("a repair resets it")))
    if count := unmarked_heads(db):
        problem = Text(
            "{number} deliveries are marked wrongly as first of their key, or not marked", number=count
        )
        found.append(StateFinding("outbox", "order", problem, Text("a repair marks them again")))
    return found


@cache
def _columns() -> dict[str, frozenset[str]]:
    """Return the columns of each table of this version."""
    with closing(_fresh()) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        return {
            table: frozenset(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
            for table in tables
            if not table.startswith("sqlite_")
        }


@cache
def _indexes() -> dict[str, str]:
    """Return the SQL that creates each index of this version."""
    with closing(_fresh()) as db:
        made = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
        return dict(made.fetchall())


def _fresh() -> sqlite3.Connection:
    db = sqlite3.connect(":memory:")
    for script in MIGRATIONS:
        db.executescript(script.read_text(encoding="utf-8"))
    return db
