"""The history of deliveries."""

import json
from collections.abc import Collection, Sequence
from datetime import datetime

from shop_poller.clock import HOUR_MS, ms
from shop_poller.ports import (
    DeliveredEntry,
    DeliveryRecord,
    DeliveryStatus,
    FinishedDelivery,
    PastDelivery,
    StoredDelivery,
)
from shop_poller.stores import stored
from shop_poller.stores.sqlite import codec
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection

BEFORE_ALL_MS = -(2**62)
"""Before any instant."""
BY_FIRST_SEQ = "coalesce(first_seq, seq), seq"
"""Sorts deliveries as the events happened, even if some were put back into the outbox and finished again."""
TABLES = (
    ("outbox", DeliveryStatus.WAITING, "created_at"),
    ("delivered", DeliveryStatus.DELIVERED, "delivered_at"),
    ("dead_letters", DeliveryStatus.DEAD, "buried_at"),
)
"""Where deliveries are, their status there, and the column with its time."""


class SqliteDeliveryHistory(SqlitePort):
    """Finished deliveries. For the methods see ports.DeliveryHistory."""

    @in_thread
    def finished(
        self,
        db: StateConnection,
        shop_id: str,
        *,
        dead: bool,
        limit: int,
        sink: str | None = None,
        after: datetime | None = None,
    ) -> list[FinishedDelivery]:
        """Read the deliveries by time, the latest first."""
        table, at, reason = (
            ("dead_letters", "buried_at", "reason") if dead else ("delivered", "delivered_at", "''")
        )
        rows = db.execute(
            f"SELECT seq, sink, key, event_id, event_type, attempts, {at}, {reason}, first_seq,"
            f" attempt_log FROM {table}"
            f" WHERE shop_id = :shop AND {at} > :after AND (:sink IS NULL OR sink = :sink)"
            f" ORDER BY {at} DESC, seq DESC LIMIT :limit",
            {
                "shop": shop_id,
                "sink": sink,
                "limit": limit,
                "after": BEFORE_ALL_MS if after is None else ms(after),
            },
        )
        return [over for row in rows if (over := codec.finished(row, dead=dead)[0]) is not None]

    @in_thread
    def by_the_hour(
        self, db: StateConnection, shop_id: str, *, dead: bool, before: datetime, hours: int
    ) -> list[int]:
        """Count the deliveries, using only the index."""
        table, at = ("dead_letters", "buried_at") if dead else ("delivered", "delivered_at")
        start = ms(before) - hours * HOUR_MS
        rows = db.execute(
            f"SELECT ({at} - :start) / {HOUR_MS} AS hour, count(*) FROM {table}"
            f" WHERE shop_id = :shop AND {at} >= :start AND {at} < :before GROUP BY hour",
            {"shop": shop_id, "start": start, "before": ms(before)},
        )
        counts = dict(rows.fetchall())
        return [counts.get(hour, 0) for hour in range(hours)]

    @in_thread
    def count_delivered(self, db: StateConnection, shop_id: str, *, since: datetime, before: datetime) -> int:
        """Count the deliveries, using only the index."""
        (count,) = db.execute(
            "SELECT count(*) FROM delivered WHERE shop_id = ? AND delivered_at >= ? AND delivered_at < ?",
            (shop_id, ms(since), ms(before)),
        ).fetchone()
        return int(count)

    @in_thread
    def delivered(
        self, db: StateConnection, shop_id: str, *, since: datetime, before: datetime
    ) -> list[DeliveredEntry]:
        """Read the deliveries by time, sorted by their events."""
        rows = db.execute(
            "SELECT body IS NOT NULL, seq, sink, key, event_id, event_type, attempts, delivered_at, '',"
            " first_seq, attempt_log FROM delivered"
            f" WHERE shop_id = ? AND delivered_at >= ? AND delivered_at < ? ORDER BY {BY_FIRST_SEQ}",
            (shop_id, ms(since), ms(before)),
        )
        read = [(codec.finished(row[1:], dead=False)[0], bool(row[0])) for row in rows]
        return [DeliveredEntry(over, has_body) for over, has_body in read if over is not None]

    @in_thread
    def delivery(self, db: StateConnection, shop_id: str, seq: int) -> StoredDelivery | None:
        """Read the delivery from the table that contains it."""
        for status, table, at, reason in (
            (DeliveryStatus.WAITING, "outbox", "created_at", "''"),
            (DeliveryStatus.DELIVERED, "delivered", "delivered_at", "''"),
            (DeliveryStatus.DEAD, "dead_letters", "buried_at", "reason"),
        ):
            row = db.execute(
                f"SELECT body, created_at, seq, sink, key, event_id, event_type, attempts, {at}, {reason},"
                f" first_seq, attempt_log FROM {table} WHERE shop_id = ? AND seq = ?",
                (shop_id, seq),
            ).fetchone()
            over = None if row is None else codec.finished(row[2:], dead=status is DeliveryStatus.DEAD)[0]
            if over is not None:
                return stored.with_text(status, over, body=row[0], created_at=row[1])
        return None

    @in_thread
    def delivery_records(
        self, db: StateConnection, shop_id: str, keys: Collection[str]
    ) -> list[DeliveryRecord]:
        """Read the deliveries from the outbox, the history and the dead letters."""
        rows = db.execute(
            " UNION ALL ".join(
                f"SELECT seq, sink, key, event_id, event_type, '{status}', {at} FROM {table}"
                " WHERE shop_id = :shop AND key IN (SELECT value FROM json_each(:keys))"
                for table, status, at in TABLES
            )
            + " ORDER BY 1",
            {"shop": shop_id, "keys": json.dumps(list(keys))},
        )
        read = (stored.delivery_record(seq, _raw(texts, at), status) for seq, *texts, status, at in rows)
        return [record for record in read if record is not None]

    @in_thread
    def past_deliveries(
        self, db: StateConnection, shop_id: str, *, since: datetime, limit: int
    ) -> list[PastDelivery]:
        """Read the latest deliveries of each table."""
        found: list[tuple[datetime, int, PastDelivery]] = []
        for table, status, at in TABLES:
            rows = db.execute(
                f"SELECT seq, sink, key, event_id, event_type, {at}, body FROM {table}"
                f" WHERE shop_id = ? AND {at} >= ? AND body IS NOT NULL ORDER BY {at} DESC, seq DESC LIMIT ?",
                (shop_id, ms(since), limit),
            )
            for seq, *texts, moment, body in rows:
                record = stored.delivery_record(seq, _raw(texts, moment), status)
                past = stored.past_delivery(record, body)
                if past is not None:
                    found.append((past.record.at, seq, past))
        found.sort(key=lambda one: one[:2], reverse=True)
        return [past for _, _, past in found[:limit]]


def _raw(texts: Sequence[object], at: object) -> dict[str, object]:
    """Return the values of a row, by the names in stored.py."""
    return {**dict(zip(("sink", "key", "event_id", "event_type"), texts, strict=True)), "at": at}
