"""What the suites that hold for every store stand on."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shop_poller.ports import Store
from support.deliveries import SHOP, T0, batch
from support.stores import STORE_NAMES, STORES, Place


@pytest.fixture(params=STORES, ids=STORE_NAMES)
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    """Where a store's state lies, for each kind of store."""
    place = Place(request.param, tmp_path)
    yield place
    await place.leave()


@pytest.fixture
async def store(place: Place) -> Store:
    """A store that a daemon has begun to write to."""
    store = await place.open()
    await store.register(SHOP, T0)
    await store.commit(SHOP, batch())
    return store
