"""The contract of ports.AlertState: what every store must do."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from shop_poller.core.errors import ErrorKind
from shop_poller.mutes import Mutes, stored_mutes
from shop_poller.ports import Ack, Alert, NewDelivery, Store
from support.deliveries import SHOP, T0, at, claim, claim_one, new_deliveries
from support.store_suite import OTHER_SHOP, THE_CAUSE, unwritable
from support.stores import Place

pytestmark = pytest.mark.anyio


ALERT = Alert("woocommerce", ErrorKind.AUTHENTICATION, at(-60))


async def test_an_alert_is_remembered_together_with_its_notifications(place: Place) -> None:
    store = await place.open()
    assert await store.alerts(SHOP) == {}
    rows = [new_deliveries("A", event_id="down"), new_deliveries("B", event_id="down")]
    await store.raise_alert(SHOP, ALERT, rows, at(1))
    store = await place.open()
    assert await store.alerts(SHOP) == {"woocommerce": ALERT}
    assert await store.alerts(OTHER_SHOP) == {}
    for sink in ("A", "B"):
        delivery = await claim_one(store, sink, now=at(1))
        assert (delivery.event_id, delivery.created_at) == ("down", at(1))


async def test_an_alert_is_forgotten_together_with_its_end(place: Place) -> None:
    store = await place.open()
    await store.raise_alert(SHOP, ALERT, [new_deliveries(event_id="down")], at(1))
    await store.raise_alert(SHOP, replace(ALERT, service="A"), [], at(1))
    await store.clear_alert(SHOP, "woocommerce", [new_deliveries(event_id="up")], at(2))
    store = await place.open()
    assert set(await store.alerts(SHOP)) == {"A"}
    await store.record_outcomes([Ack(await claim_one(store, now=at(9)))], at(9))
    assert (await claim_one(store, now=at(9))).event_id == "up"


async def test_an_alert_raised_again_is_one_alert(store: Store) -> None:
    await store.raise_alert(SHOP, ALERT, [], T0)
    await store.raise_alert(SHOP, replace(ALERT, cause=ErrorKind.TIMEOUT), [], T0)
    assert await store.alerts(SHOP) == {"woocommerce": replace(ALERT, cause=ErrorKind.TIMEOUT)}


async def test_an_alert_that_is_raised_again_is_sent_once(store: Store) -> None:
    """Its answer was lost: the daemon cannot know that it was stored."""
    for _ in range(2):
        await store.raise_alert(SHOP, ALERT, [new_deliveries(event_id="down")], at(1))
    for _ in range(2):
        await store.clear_alert(SHOP, "woocommerce", [new_deliveries(event_id="up")], at(2))
    told = []
    for second in range(3, 9):
        for delivery in await store.claim("A", now=at(second), limit=9):
            told.append(delivery.event_id)
            await store.record_outcomes([Ack(delivery)], at(second))
    assert told == ["down", "up"]


async def test_an_alert_that_was_not_raised_can_be_cleared(store: Store) -> None:
    await store.clear_alert(SHOP, "woocommerce", [], T0)
    assert await store.alerts(SHOP) == {}


async def test_two_shops_have_each_their_own_alerts(store: Store) -> None:
    await store.raise_alert(SHOP, ALERT, [], T0)
    await store.raise_alert(OTHER_SHOP, ALERT, [], T0)
    await store.clear_alert(SHOP, "woocommerce", [], T0)
    assert await store.alerts(SHOP) == {}
    assert await store.alerts(OTHER_SHOP) == {"woocommerce": ALERT}


async def test_an_alert_and_its_notifications_are_written_both_or_neither(store: Store) -> None:
    rows: Sequence[NewDelivery] = [new_deliveries(event_id="good"), unwritable()]
    with pytest.raises(THE_CAUSE):
        await store.raise_alert(SHOP, ALERT, rows, T0)
    assert await store.alerts(SHOP) == {}
    assert await claim(store) == []
    await store.raise_alert(SHOP, ALERT, [], T0)
    with pytest.raises(THE_CAUSE):
        await store.clear_alert(SHOP, "woocommerce", rows, T0)
    assert await store.alerts(SHOP) == {"woocommerce": ALERT}
    assert await claim(store) == []


async def test_a_mute_is_stored_as_no_alert_and_can_be_changed_and_ended(place: Place) -> None:
    mutes = Mutes(await place.open(), shop=SHOP)
    await mutes.mute("https://crm.example/a b?#1", now=at(1), until=at(60))
    await mutes.mute("https://crm.example/a b?#1", now=at(2), until=at(7200))
    await mutes.mute("chat", now=at(2), until=at(3))
    store = await place.open()
    again = Mutes(store, shop=SHOP)
    await again.load(at(4))
    assert again.left_s("https://crm.example/a b?#1", lambda: at(4)) == 7196
    assert again.left_s("chat", lambda: at(4)) == 0
    assert stored_mutes(await store.alerts(SHOP), at(4)) == {"https://crm.example/a b?#1": at(7200)}
    await again.unmute("https://crm.example/a b?#1", now=at(5))
    assert await store.alerts(SHOP) == {}
