"""The contract of ports.Lease and ports.Clock, and of closing: what every store must do."""

from datetime import timedelta

import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.ports import Store
from support.deliveries import claim, claim_one, ids, new_deliveries, put
from support.stores import Place

pytestmark = pytest.mark.anyio


async def test_the_lease_that_a_store_has_is_renewed_and_its_holder_named(store: Store) -> None:
    assert await store.renew()
    assert store.term_s > 0
    assert await store.holder()


async def test_the_clock_is_aware_and_to_the_millisecond(store: Store) -> None:
    await store.ask_clock()
    before, now = store.now(), store.now()
    assert now.utcoffset() == timedelta(0)
    assert now.microsecond % 1000 == 0
    assert timedelta(0) <= now - before < timedelta(minutes=1)


async def test_taking_the_lease_anew_ends_the_claims_made_before(store: Store) -> None:
    await put(store, new_deliveries(event_id="first"), new_deliveries(key="another", event_id="second"))
    claimed = await claim(store)
    assert await claim(store) == []
    await store.release()
    assert await store.take()
    assert sorted(ids(await claim(store))) == sorted(ids(claimed)) == ["first", "second"]


async def test_a_claim_ends_with_the_process_that_made_it(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(event_id="first"), new_deliveries(event_id="second"))
    await put(store, new_deliveries(key="2", event_id="other"))
    assert ids(await claim(store)) == ["first", "other"]
    store = await place.open()
    assert ids(await claim(store)) == ["first", "other"]


async def test_a_store_may_be_closed_twice_and_is_of_no_use_then(place: Place) -> None:
    store = await place.open()
    await put(store, new_deliveries(event_id="kept"))
    await store.aclose()
    await store.aclose()
    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await claim(store)
    assert caught.value.kind is ErrorKind.STORE
    store = await place.open()
    await store.aclose()
    store = await place.open()
    assert (await claim_one(store)).event_id == "kept"
