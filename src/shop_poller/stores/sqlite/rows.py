"""Finds damaged rows and sets them aside: corrected where that is safe, otherwise removed. A copy is kept.

Functions that write run within the caller's transaction, except `note` and `mend`.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from shop_poller.clock import EPOCH, ms
from shop_poller.clock import now as present
from shop_poller.core.translatable import Text, joined
from shop_poller.stores import stored
from shop_poller.stores.damage import MOST_KEPT, Original, StateFinding, content
from shop_poller.stores.sqlite import codec
from shop_poller.stores.sqlite.file import StateConnection, transaction

FINISHED_COLUMNS = "sink, key, event_id, event_type, attempts"

RowCheck = Callable[[Mapping[str, object], datetime], tuple[list[str], dict[str, object] | None]]
"""Returns the problems of a row, and its corrected columns, or None if the row must be removed."""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of the state.

    Attributes:
        name: the name of the table.
        key: the columns that identify a row.
        columns: all columns to check, including those of the key.
        check: checks a row.
        suspect: SQL that is true for every row with an invalid number or time.
    """

    name: str
    key: tuple[str, ...]
    columns: str
    check: RowCheck
    suspect: str = "true"

    @property
    def names(self) -> list[str]:
        """The columns."""
        return self.columns.split(", ")


@dataclass(frozen=True, slots=True)
class Damaged:
    """A row with problems."""

    table: Table
    row: Mapping[str, object]
    problems: Sequence[str]
    fixed: dict[str, object] | None

    @property
    def shop(self) -> str:
        """The id of its shop; "" if that cannot be read."""
        shop = self.row["shop_id"]
        return shop if isinstance(shop, str) and stored.is_clean(shop) else ""

    @property
    def name(self) -> str:
        """Its name for people."""
        return stored.name_of(self.row[self.table.key[-1]])

    def finding(self) -> StateFinding:
        """Return the finding for a report."""
        if self.fixed is None:
            fix = Text("a repair takes it out and keeps a copy")
        else:
            fix = Text("a repair corrects it and keeps a copy")
        return StateFinding(self.table.name, self.name, joined("; ", self.problems), fix)


def damaged(
    db: sqlite3.Connection, tables: Sequence[Table], now: datetime, *, quick: bool
) -> Iterator[Damaged]:
    """Yield all rows with problems; with `quick`, only those whose numbers and times show the problem."""
    for table in tables:
        where = table.suspect if quick else "true"
        for row in db.execute(f"SELECT {table.columns} FROM {table.name} WHERE {where}"):
            values = dict(zip(table.names, row, strict=True))
            problems, fixed = table.check(values, now)
            shop = values["shop_id"]
            if not isinstance(shop, str) or not shop or not stored.is_clean(shop):
                problems, fixed = [Text("shop_id is not a valid text"), *problems], None
            if problems:
                yield Damaged(table, values, problems, fixed)


def repair_row(db: StateConnection, one: Damaged, now: datetime) -> None:
    """Keep a copy of a row, then correct or remove the row."""
    keep(db, Original(one.shop, one.table.name, one.name, one.problems, one.row), now)
    where, key = _matching(one)
    if one.fixed is None:
        db.execute(f"DELETE FROM {one.table.name} WHERE {where}", key)
        if one.table.name == "outbox":
            mark_heads(db, now)
    else:
        columns = [name for name in one.fixed if name not in one.table.key]
        setting = ", ".join(f"{name} = ?" for name in columns)
        values = [one.fixed[name] for name in columns]
        db.execute(f"UPDATE {one.table.name} SET {setting} WHERE {where}", [*values, *key])


def keep(db: StateConnection, one: Original, now: datetime) -> None:
    """Keep a copy of a damaged row, and log the row."""
    db.damage.report(one.shop, one.place, one.name, one.problems)
    db.execute(
        "INSERT INTO rows_set_aside (shop_id, place, name, reason, at, content) VALUES (?, ?, ?, ?, ?, ?)",
        (one.shop, one.place, one.name, "; ".join(one.problems)[:300], ms(now), content(one.row)),
    )
    db.execute(
        "DELETE FROM rows_set_aside WHERE place <> 'outbox' AND id <="
        " (SELECT id FROM rows_set_aside WHERE place <> 'outbox' ORDER BY id DESC LIMIT 1 OFFSET ?)",
        (MOST_KEPT,),
    )


def note(db: StateConnection, one: Original) -> None:
    """Log a damaged row and keep a copy, once, if this connection may write. A later write corrects it."""
    if one.problems and db.is_writer and (one.place, one.name) not in db.damage.reported:
        with suppress(sqlite3.Error), transaction(db):  # even on a full disk the row must be read
            keep(db, one, present())


def raw(columns: str, row: codec.Row) -> dict[str, object]:
    """Return a row as a dict by column."""
    return dict(zip(columns.split(", "), row, strict=True))


def mend(db: StateConnection, now: datetime) -> None:
    """Repair the tables CHECKED_AT_START."""
    found = list(damaged(db, CHECKED_AT_START, now, quick=True))
    with transaction(db):
        for one in found:
            repair_row(db, one, now)
        mark_heads(db, now)
        raise_counter(db)


def counter_problem(db: sqlite3.Connection) -> str:
    """Return what is wrong with the counter of the outbox; "" if nothing is."""
    counter, least = _counter(db)
    if counter is None:
        return Text("the counter of deliveries is missing") if least else ""
    if type(counter) is not int or not 0 <= counter <= stored.BIGGEST_SEQ:
        return Text("the counter of deliveries is not a valid number")
    return Text("the counter of deliveries is behind the rows") if counter < least else ""


def unmarked_heads(db: sqlite3.Connection) -> int:
    """Count the rows of the outbox that are wrongly marked as the first of their key, or not marked."""
    ahead = (
        "EXISTS (SELECT 1 FROM outbox AS p WHERE p.sink = o.sink AND p.shop_id = o.shop_id"
        " AND p.key = o.key AND p.seq < o.seq)"
    )
    counted = db.execute(f"SELECT count(*) FROM outbox AS o WHERE (head_since IS NULL) <> {ahead}")
    return int(counted.fetchone()[0])


def mark_heads(db: sqlite3.Connection, now: datetime) -> None:
    """Mark the first row of each key as the head, and no other row."""
    ahead = (
        "EXISTS (SELECT 1 FROM outbox AS p WHERE p.sink = outbox.sink AND p.shop_id = outbox.shop_id"
        " AND p.key = outbox.key AND p.seq < outbox.seq)"
    )
    db.execute(f"UPDATE outbox SET head_since = ? WHERE head_since IS NULL AND NOT {ahead}", (ms(now),))
    db.execute(f"UPDATE outbox SET head_since = NULL WHERE head_since IS NOT NULL AND {ahead}")


def raise_counter(db: sqlite3.Connection) -> None:
    """Reset the counter of the outbox if it is wrong."""
    if counter_problem(db):
        _, least = _counter(db)
        db.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
        db.execute("INSERT INTO sqlite_sequence (name, seq) VALUES ('outbox', ?)", (least,))


def _counter(db: sqlite3.Connection) -> tuple[object, int]:
    """Return the stored counter, and the least valid value."""
    row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    (least,) = db.execute(
        "SELECT max(coalesce((SELECT max(seq) FROM outbox WHERE seq <= :most), 0),"
        " coalesce((SELECT max(seq) FROM delivered WHERE seq <= :most), 0),"
        " coalesce((SELECT max(seq) FROM dead_letters WHERE seq <= :most), 0))",
        {"most": stored.BIGGEST_SEQ},
    ).fetchone()
    return (row[0] if row else None), int(least)


def _matching(one: Damaged) -> tuple[str, list[object]]:
    """Return SQL that finds the row by its key, whatever values the key has."""
    parts: list[str] = []
    values: list[object] = []
    for name in one.table.key:
        value = one.row[name]
        if isinstance(value, str) and not stored.is_clean(value):  # cannot be bound as a text
            parts.append(f"{name} IS CAST(? AS TEXT)")
            values.append(value.encode("utf-8", "surrogateescape"))
        else:
            parts.append(f"{name} IS ?")
            values.append(value)
    return " AND ".join(parts), values


def _shop(row: Mapping[str, object], _: datetime) -> tuple[list[str], dict[str, object] | None]:
    state, problems = codec.shop_state(tuple(row[name] for name in codec.SHOP_COLUMNS.split(", ")))
    return problems, dict(zip(codec.SHOP_COLUMNS.split(", "), codec.shop_row(state), strict=True))


def _known(row: Mapping[str, object], now: datetime) -> tuple[list[str], dict[str, object] | None]:
    names = codec.KNOWN_COLUMNS.split(", ")
    order, problems = codec.known_order(tuple(row[name] for name in names))
    fixed = dict(zip(names, codec.known_row(order), strict=True)) | {"seen_at": row["seen_at"]}
    reading = stored.Reading()
    fixed["seen_at"] = ms(reading.moment(row["seen_at"], "seen_at", now, last=stored.LATEST_OF_ORDERS))
    return [*problems, *reading.problems], fixed if order.id >= 0 else None


def _delivery(row: Mapping[str, object], now: datetime) -> tuple[list[str], dict[str, object] | None]:
    names = codec.DELIVERY_COLUMNS.split(", ")
    delivery, problems = codec.delivery(tuple(row[name] for name in names), now)
    if delivery is None:
        return problems, None
    reading = stored.Reading()
    fixed: dict[str, object] = {
        "event_id": delivery.event_id,
        "event_type": delivery.event_type,
        "attempts": delivery.attempts,
        "created_at": ms(delivery.created_at),
        "head_since": None if row["head_since"] is None else ms(delivery.head_since),
        "first_seq": delivery.first_seq or None,
        "attempt_log": codec.attempts_text(delivery.attempt_log),
        "due_at": ms(reading.moment(row["due_at"], "due_at", now)),
    }
    return [*problems, *reading.problems], fixed


def _finished(at: str, *, dead: bool) -> RowCheck:
    def check(row: Mapping[str, object], now: datetime) -> tuple[list[str], dict[str, object] | None]:
        over, problems = stored.finished(row["seq"], {**row, "at": row[at]}, dead=dead)
        reading = stored.Reading()
        body = row["body"]
        if dead or body is not None:
            reading.json(body, "body", most=stored.MOST_BODY)
        created_at = reading.moment(row["created_at"], "created_at", over.at if over else now)
        if over is None or (dead and reading.json(body, "body", most=stored.MOST_BODY) is None):
            return [*problems, *reading.problems[: 2 if dead else None]], None
        fixed: dict[str, object] = {
            "attempts": over.attempts,
            "first_seq": over.first_seq or None,
            "attempt_log": codec.attempts_text(over.attempt_log),
            "created_at": ms(created_at),
        }
        if dead:
            fixed["reason"] = over.reason
        elif reading.problems:
            fixed["body"] = body if stored.Reading().json(body, "", most=stored.MOST_BODY) else None
        return [*problems, *reading.problems], fixed

    return check


def _set_aside(row: Mapping[str, object], _: datetime) -> tuple[list[str], dict[str, object] | None]:
    reading = stored.Reading()
    reading.whole(row["order_id"], "order_id", high=stored.MOST)
    reading.text(row["reason"], "reason", most=stored.MOST_DETAILS)
    reading.moment(row["since"], "since", EPOCH)
    return reading.problems, None


def _alert(row: Mapping[str, object], _: datetime) -> tuple[list[str], dict[str, object] | None]:
    return stored.alert(row["service"], row)[1], None


def _backfill(row: Mapping[str, object], _: datetime) -> tuple[list[str], dict[str, object] | None]:
    return stored.backfill(row)[1], None


def _tally(row: Mapping[str, object], _: datetime) -> tuple[list[str], dict[str, object] | None]:
    return stored.tally(row["day"], row["tally"])[1], None


SUSPECT_DELIVERY = (
    f"NOT (typeof(attempts) = 'integer' AND attempts BETWEEN 0 AND {stored.MOST_COUNT}"
    f" AND typeof(created_at) = 'integer' AND created_at BETWEEN 0 AND {stored.LATEST_MS}"
    f" AND typeof(due_at) = 'integer' AND due_at BETWEEN 0 AND {stored.LATEST_MS}"
    " AND (head_since IS NULL OR typeof(head_since) = 'integer'"
    f" AND head_since BETWEEN 0 AND {stored.LATEST_MS})"
    " AND typeof(sink) = 'text' AND typeof(shop_id) = 'text' AND typeof(key) = 'text'"
    f" AND seq BETWEEN 1 AND {stored.BIGGEST_SEQ})"
)
OUTBOX_TABLE = Table("outbox", ("seq",), f"{codec.DELIVERY_COLUMNS}, due_at", _delivery, SUSPECT_DELIVERY)
CHECKED_AT_START = (
    Table("shops", ("shop_id",), f"shop_id, {codec.SHOP_COLUMNS}", _shop),
    Table("alerts", ("shop_id", "service"), "shop_id, service, cause, since", _alert),
    Table("backfills", ("shop_id",), "shop_id, since, created_before, learned", _backfill),
    Table("set_aside", ("shop_id", "order_id"), "shop_id, order_id, reason, since", _set_aside),
    Table("tallies", ("shop_id", "day"), "shop_id, day, tally", _tally),
    OUTBOX_TABLE,
)
"""Repaired before work begins. The other tables have many rows, which are checked when they are read."""
TABLES = (
    *CHECKED_AT_START,
    Table("known_orders", ("shop_id", "order_id"), f"shop_id, seen_at, {codec.KNOWN_COLUMNS}", _known),
    Table(
        "dead_letters",
        ("seq",),
        f"seq, shop_id, {FINISHED_COLUMNS}, body, created_at, buried_at, reason, first_seq, attempt_log",
        _finished("buried_at", dead=True),
    ),
    Table(
        "delivered",
        ("seq",),
        f"seq, shop_id, {FINISHED_COLUMNS}, body, created_at, delivered_at, first_seq, attempt_log",
        _finished("delivered_at", dead=False),
    ),
)
