"""The counts and the damaged rows that people see."""

from shop_poller.clock import EPOCH, instant, ms
from shop_poller.ports import RowSetAside, SinkStats, Stats
from shop_poller.stores import stored
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection

MOST_SHOWN = 100


class SqliteStatistics(SqlitePort):
    """The part of ports.StateView that no other port has."""

    @in_thread
    def stats(self, db: StateConnection, shop_id: str) -> Stats:
        """Count by SQL."""
        dead = db.execute(
            "SELECT sink, count(*) FROM dead_letters WHERE shop_id = ? GROUP BY sink", (shop_id,)
        )
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

    @in_thread
    def rows_set_aside(self, db: StateConnection, shop_id: str) -> list[RowSetAside]:
        """Read the copies of damaged rows."""
        rows = db.execute(
            "SELECT place, name, reason, at FROM rows_set_aside WHERE shop_id IN (?, '')"
            " ORDER BY id DESC LIMIT ?",
            (shop_id, MOST_SHOWN),
        )
        found = []
        for place, name, reason, at in rows:
            reading = stored.Reading()
            found.append(
                RowSetAside(
                    place=stored.name_of(place),
                    name=stored.name_of(name),
                    reason=reading.text(reason, "reason", "(cannot be read)"),
                    at=reading.moment(at, "at", EPOCH),
                )
            )
        return found


def _is_name(sink: object) -> bool:
    return isinstance(sink, str) and stored.is_clean(sink)
