"""The raised alerts."""

from collections.abc import Sequence
from datetime import UTC, datetime

from shop_poller.clock import to_milliseconds
from shop_poller.ports import Alert, NewDelivery
from shop_poller.stores import stored
from shop_poller.stores.damage import Original
from shop_poller.stores.redis import codec
from shop_poller.stores.redis.port import RedisPort


class RedisAlertState(RedisPort):
    """Alerts. For the methods see ports.AlertState."""

    async def alerts(self, shop_id: str) -> dict[str, Alert]:
        """Read the alerts. A damaged one is set aside."""
        found = {}
        for service, text in (await self._connection.hash(self._keys.shop(shop_id).alerts)).items():
            alert, problems = codec.alert(service, text)
            name = stored.name_of(service)
            one = Original(shop_id, "alerts", name, problems, {"service": service, "alert": text})
            await self._aside.note(one, to_milliseconds(datetime.now(UTC)))
            if alert is not None:
                found[service] = alert
        return found

    async def raise_alert(
        self, shop_id: str, alert: Alert, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Write the alert by a commit. If the commit is sent twice, the second one changes nothing."""
        change = {"alerts": [[alert.service, codec.alert_text(alert)]]}
        await self._commits.commit(shop_id, new_deliveries, now, change)

    async def clear_alert(
        self, shop_id: str, service: str, new_deliveries: Sequence[NewDelivery], now: datetime
    ) -> None:
        """Delete the alert by a commit, likewise."""
        await self._commits.commit(shop_id, new_deliveries, now, {"alerts": [[service, ""]]})
