"""The contract of ports.OrderState about the tallies of days: what every store must do."""

from dataclasses import replace
from datetime import date
from decimal import Decimal

import pytest

from shop_poller.core.tallies import Amounts, CurrencySum, OrderTally
from shop_poller.ports import Store
from support.deliveries import SHOP, T0, batch
from support.store_suite import OTHER_SHOP, THE_CAUSE, unwritable
from support.stores import Place

pytestmark = pytest.mark.anyio

DAY, NEXT_DAY = date(2026, 11, 23), date(2026, 11, 24)
RUB = {"RUB": CurrencySum("₽", Decimal("1930.00"), 1), "EUR": CurrencySum("€", Decimal("0.00000001"), 1)}
TALLY = OrderTally(Amounts(3, 1, RUB), failed=Amounts(1, 1), refunds=Amounts(2, sums=RUB))
OTHER_TALLY = OrderTally(cancelled=Amounts(7, sums=RUB))


async def test_tallies_are_read_as_they_were_committed(place: Place) -> None:
    store = await place.open()
    await store.register(SHOP, T0)
    assert await store.tallies(SHOP) == {}
    await store.commit(SHOP, replace(batch(), tallies={DAY: TALLY, NEXT_DAY: OTHER_TALLY}))
    store = await place.open()
    await store.register(SHOP, T0)
    assert await store.tallies(SHOP) == {DAY: TALLY, NEXT_DAY: OTHER_TALLY}
    assert await store.tallies(OTHER_SHOP) == {}


async def test_a_commit_replaces_and_drops_days_and_leaves_the_others(store: Store) -> None:
    days = {DAY: TALLY, NEXT_DAY: TALLY, date(2026, 10, 1): TALLY}
    await store.commit(SHOP, replace(batch(), tallies=days))
    dropped = [date(2026, 10, 1), date(2026, 10, 2)]
    await store.commit(SHOP, replace(batch(), tallies={NEXT_DAY: OTHER_TALLY}, dropped_days=dropped))
    assert await store.tallies(SHOP) == {DAY: TALLY, NEXT_DAY: OTHER_TALLY}
    await store.commit(SHOP, batch())
    assert await store.tallies(SHOP) == {DAY: TALLY, NEXT_DAY: OTHER_TALLY}


async def test_a_commit_that_fails_counts_nothing(store: Store) -> None:
    with pytest.raises(THE_CAUSE):
        await store.commit(SHOP, replace(batch(unwritable()), tallies={DAY: TALLY}))
    assert await store.tallies(SHOP) == {}
