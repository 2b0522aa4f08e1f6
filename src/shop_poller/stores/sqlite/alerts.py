"""The raised alerts."""

from collections.abc import Sequence
from datetime import datetime

from shop_poller.clock import ms
from shop_poller.ports import Alert, NewDelivery
from shop_poller.stores import stored
from shop_poller.stores.damage import Original
from shop_poller.stores.sqlite import outbox
from shop_poller.stores.sqlite.connection import SqlitePort, in_thread
from shop_poller.stores.sqlite.file import StateConnection, transaction
from shop_poller.stores.sqlite.rows import note, raw


class SqliteAlertState(SqlitePort):
    """Alerts. For the methods see ports.AlertState."""

    @in_thread
    def alerts(self, db: StateConnection, shop_id: str) -> dict[str, Alert]:
        """Read the alerts. A damaged one is set aside."""
        columns, found = "service, cause, since", {}
        for row in db.execute(f"SELECT {columns} FROM alerts WHERE shop_id = ?", (shop_id,)).fetchall():
            alert, problems = stored.alert(row[0], raw(columns, row))
            note(db, Original(shop_id, "alerts", stored.name_of(row[0]), problems, raw(columns, row)))
            if alert is not None:
                found[alert.service] = alert
        return found

    @in_thread
    def raise_alert(
        self,
        db: StateConnection,
        shop_id: str,
        alert: Alert,
        new_deliveries: Sequence[NewDelivery],
        now: datetime,
    ) -> None:
        """Insert an alert and its rows, unless the same alert is stored already."""
        with transaction(db):
            row = (shop_id, alert.service, str(alert.cause), ms(alert.since))
            same = "shop_id = ? AND service = ? AND cause = ? AND since = ?"
            if db.execute(f"SELECT 1 FROM alerts WHERE {same}", row).fetchone() is None:
                db.execute("INSERT OR REPLACE INTO alerts VALUES (?, ?, ?, ?)", row)
                outbox.insert(db, shop_id, new_deliveries, now)

    @in_thread
    def clear_alert(
        self,
        db: StateConnection,
        shop_id: str,
        service: str,
        new_deliveries: Sequence[NewDelivery],
        now: datetime,
    ) -> None:
        """Delete an alert and insert its rows, unless it is gone already."""
        with transaction(db):
            gone = db.execute("DELETE FROM alerts WHERE shop_id = ? AND service = ?", (shop_id, service))
            if gone.rowcount:
                outbox.insert(db, shop_id, new_deliveries, now)
