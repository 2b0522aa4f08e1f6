"""What the status page is told of a real house on a real store: by who leads, and by who follows."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from shop_poller.clock import now
from shop_poller.core.breaker import State
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.fetcher import Fetcher
from shop_poller.house import House
from shop_poller.overview import HAPPENINGS, LETTERS, Overview
from shop_poller.ports import Ack, Alert, Bury, PollFailure, ShopState
from shop_poller.settings import Settings
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.web.glance import Asked
from support.deliveries import batch, claim_one, outgoing, put
from support.house import SHOP, FakeShop, FakeSink

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "state.db")
    await store.take()
    yield store
    await store.aclose()


@pytest.fixture
def house(store: SqliteStore) -> House:
    settings = Settings.model_validate(
        {"woocommerce_mcp_url": f"https://{SHOP}/wp-json/woocommerce/mcp", "shop_polling_interval": 60}
    )
    return House(settings, store, FakeShop(), [FakeSink("console:")], None)


def overview(house: House, store: SqliteStore, *, polling: bool = True) -> Overview:
    return Overview(
        shop=SHOP,
        sinks=["console:"],
        titles={},
        polling=polling,
        in_redis=False,
        store=store,
        monitor=house.monitor,
        on_outgoing=lambda: None,
    )


async def over(store: SqliteStore, n: int, sink: str, *, dies: bool) -> None:
    await put(store, outgoing(sink, f"{n}", f"event {n}"))
    one = await claim_one(store, sink)
    await store.settle([Bury(one, "422") if dies else Ack(one)], now() - timedelta(seconds=100 - n))


async def test_who_leads_tells_of_its_parts(house: House, store: SqliteStore) -> None:
    await house.begin()
    await over(store, 1, "console:", dies=False)
    await put(store, outgoing("old", "7", "event 7"))
    await store.commit(SHOP, batch(state=ShopState(now(), last_poll_at=now())))
    await store.raise_alert(SHOP, Alert("console:", ErrorKind.TIMEOUT, now()), (), now())
    await store.raise_alert(SHOP, Alert("dead-letters:console:", ErrorKind.REJECTED, now()), (), now())
    seen = await overview(house, store).glance()
    assert (seen.leads, seen.leader, seen.trouble, seen.illness) == (True, "", "", "No active workers")
    assert seen.state is not None
    assert seen.state.last_poll_at is not None
    assert [alert.service for alert in seen.alerts] == ["console:"]
    console, old = seen.sinks
    assert (console.held, console.breaker, console.gone, console.failing_since) == (
        0,
        State.CLOSED,
        False,
        None,
    )
    assert (old.name, old.named, old.breaker, old.stored.waiting) == ("old", False, None, 1)
    assert (sum(seen.made), sum(seen.buried), len(seen.made)) == (1, 0, 24)


async def test_why_polls_fail_is_told_by_who_polls(house: House, store: SqliteStore) -> None:
    tenure = await house.begin()
    page = overview(house, store)
    assert (await page.glance()).failure is None
    tenure.poller.failure = PollFailure(ErrorKind.TIMEOUT, "no answer", now())
    assert (await page.glance()).failure == tenure.poller.failure


async def test_who_follows_tells_what_the_store_knows_and_does_not_poll(
    house: House, store: SqliteStore
) -> None:
    await over(store, 1, "console:", dies=True)
    await store.commit(SHOP, batch(state=ShopState(now(), last_poll_at=now())))
    page = overview(house, store)
    seen = await page.glance()
    assert (seen.leads, seen.next_in_s, seen.leader) == (False, None, await store.holder())
    assert [(sink.name, sink.held, sink.breaker, sink.stored.dead) for sink in seen.sinks] == [
        ("console:", None, None, 1)
    ]
    assert seen.state is not None
    assert seen.state.last_poll_at is not None
    assert await page.poll_now() == (Asked.FOLLOWS, 0)
    assert await overview(house, store, polling=False).poll_now() == (Asked.OFF, 0)


async def test_where_no_leader_is_known_none_is_made_up(
    house: House, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody() -> str:
        return ""

    async def gone() -> str:
        raise TemporaryError(ErrorKind.STORE, "state in redis://x: no connection")

    page = overview(house, store)
    monkeypatch.setattr(store, "holder", nobody)
    assert await page.poll_now() == (Asked.NOBODY, 0)
    monkeypatch.setattr(store, "holder", gone)
    with pytest.raises(TemporaryError, match="no connection"):
        await page.poll_now()


async def test_who_is_asked_to_poll_says_how_long_the_shop_is_left_alone(
    house: House, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.begin()
    page = overview(house, store)
    assert await page.poll_now() == (Asked.DONE, 0)
    monkeypatch.setattr(Fetcher, "pause_s", lambda _: 300.0)
    assert await page.poll_now() == (Asked.DONE, 300)
    assert (await page.glance()).next_in_s == 300


async def test_deliveries_of_an_event_are_shown_together_and_no_more_than_fit(
    house: House, store: SqliteStore
) -> None:
    for n in range(HAPPENINGS + 3):
        await over(store, n, "a", dies=False)
        await over(store, n, "b", dies=True)
    seen = await overview(house, store).glance()
    assert len(seen.happenings) == HAPPENINGS
    assert len(seen.dead) == LETTERS
    first = seen.happenings[0]
    assert first.key == f"{HAPPENINGS + 2}"
    assert {(one.sink, bool(one.reason)) for one in first.deliveries} == {("a", False), ("b", True)}


async def test_dead_letters_are_replayed_and_dropped_once(house: House, store: SqliteStore) -> None:
    for n in range(2):
        await over(store, n, "console:", dies=True)
    page = overview(house, store)
    newest, oldest = (one.seq for one in (await page.glance()).dead)
    assert [await page.replay(oldest), await page.replay(oldest)] == [Asked.DONE, Asked.MISSING]
    assert [await page.drop(newest), await page.drop(newest)] == [Asked.DONE, Asked.MISSING]
    seen = await page.glance()
    assert (seen.dead, seen.sinks[0].stored.waiting, sum(seen.buried)) == ([], 1, 0)


async def test_the_days_counts_follow_the_dead_letters_at_once(house: House, store: SqliteStore) -> None:
    page = overview(house, store)
    assert sum((await page.glance()).buried) == 0
    await over(store, 1, "console:", dies=True)
    seen = await page.glance()
    assert (len(seen.dead), sum(seen.buried)) == (1, 1)


async def test_a_store_that_cannot_be_read_is_a_trouble_and_no_error(
    house: House, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> None:
        raise TemporaryError(ErrorKind.STORE, "state in x: disk I/O error")

    monkeypatch.setattr(store, "stats", broken)
    seen = await overview(house, store).glance()
    assert (seen.trouble, seen.state, list(seen.made)) == ("state in x: disk I/O error", None, [])
    assert [sink.name for sink in seen.sinks] == ["console:"]
