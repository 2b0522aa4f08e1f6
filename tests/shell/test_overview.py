"""The data of the status page, from a real shop runtime on a real store: as leader and as follower."""

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import pytest

from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.ports import Ack, Alert, MoveToDeadLetters, PollFailure, ShopState
from shop_poller.runtime.shop_runtime import ShopRuntime
from shop_poller.runtime.status_page_data import DEAD_LETTERS, RECENT_EVENTS, Overview
from shop_poller.sinks.registry import parse_sink
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.web.snapshot import ActionResult
from support.deliveries import batch, claim_one, new_deliveries, put
from support.shop_harness import SHOP, FakeShop, FakeSink, down

pytestmark = pytest.mark.anyio


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(tmp_path / "state.db")
    await store.take()
    yield store
    await store.aclose()


@pytest.fixture
async def shop_runtime(store: SqliteStore) -> ShopRuntime:
    settings = Settings.of(
        {"woocommerce_mcp_url": f"https://{SHOP}/wp-json/woocommerce/mcp", "shop_polling_interval": 60},
        parse_sink=parse_sink,
    )
    return ShopRuntime(settings, store, FakeShop(), [FakeSink("console:")], None)


def overview(shop_runtime: ShopRuntime, store: SqliteStore, *, polling: bool = True) -> Overview:
    return Overview(
        shop=SHOP,
        sinks=["console:"],
        events=frozenset({"shop.order.new"}),
        titles={},
        polling=polling,
        in_redis=False,
        store=store,
        history=store,
        dead_letters=store,
        health_reporter=shop_runtime.health_reporter,
        session=lambda: shop_runtime.session.snapshot() if shop_runtime.session is not None else None,
        poll_now=shop_runtime._poll_now,
        mute=shop_runtime._mute,
        on_new_deliveries=lambda: None,
    )


async def over(store: SqliteStore, n: int, sink: str, *, dies: bool) -> None:
    await put(store, new_deliveries(sink, f"{n}", f"event {n}"))
    one = await claim_one(store, sink)
    await store.record_outcomes(
        [MoveToDeadLetters(one, "422") if dies else Ack(one)], now() - timedelta(seconds=100 - n)
    )


async def test_who_leads_tells_of_its_parts(shop_runtime: ShopRuntime, store: SqliteStore) -> None:
    await shop_runtime.begin()
    await over(store, 1, "console:", dies=False)
    await put(store, new_deliveries("old", "7", "event 7"))
    await store.commit(SHOP, batch(state=ShopState(now(), last_poll_at=now())))
    await store.raise_alert(SHOP, Alert("console:", ErrorKind.TIMEOUT, now()), (), now())
    await store.raise_alert(SHOP, Alert("dead-letters:console:", ErrorKind.REJECTED, now()), (), now())
    snapshot = await overview(shop_runtime, store).snapshot()
    assert (snapshot.leads, snapshot.leader, snapshot.trouble, snapshot.unhealthy_reason) == (
        True,
        "",
        "",
        "No active workers",
    )
    assert snapshot.state is not None
    assert snapshot.state.last_poll_at is not None
    assert [alert.service for alert in snapshot.alerts] == ["console:"]
    console, old = snapshot.sinks
    assert (console.in_flight, console.breaker, console.gone, console.failing_since) == (
        0,
        BreakerState.CLOSED,
        False,
        None,
    )
    assert (old.name, old.named, old.breaker, old.stored.waiting) == ("old", False, None, 1)
    assert (sum(snapshot.delivered), sum(snapshot.dead_lettered), len(snapshot.delivered)) == (1, 0, 24)


async def test_why_polls_fail_is_told_by_who_polls(shop_runtime: ShopRuntime, store: SqliteStore) -> None:
    leader_session = await shop_runtime.begin()
    page = overview(shop_runtime, store)
    assert (await page.snapshot()).failure is None
    leader_session.poller.outage.failure = PollFailure(ErrorKind.TIMEOUT, "no answer", now())
    assert (await page.snapshot()).failure == leader_session.poller.failure


async def test_who_follows_tells_what_the_store_knows_and_does_not_poll(
    shop_runtime: ShopRuntime, store: SqliteStore
) -> None:
    await over(store, 1, "console:", dies=True)
    await store.commit(SHOP, batch(state=ShopState(now(), last_poll_at=now())))
    page = overview(shop_runtime, store)
    snapshot = await page.snapshot()
    assert (snapshot.leads, snapshot.next_in_s, snapshot.leader) == (False, None, await store.holder())
    assert [(sink.name, sink.in_flight, sink.breaker, sink.stored.dead) for sink in snapshot.sinks] == [
        ("console:", None, None, 1)
    ]
    assert snapshot.state is not None
    assert snapshot.state.last_poll_at is not None
    assert await page.poll_now() == ActionResult.NOT_LEADER
    assert await overview(shop_runtime, store, polling=False).poll_now() == ActionResult.POLLING_OFF


async def test_where_no_leader_is_known_none_is_made_up(
    shop_runtime: ShopRuntime, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def nobody() -> str:
        return ""

    async def gone() -> str:
        raise TemporaryError(ErrorKind.STORE, "state in redis://x: no connection")

    page = overview(shop_runtime, store)
    monkeypatch.setattr(store, "holder", nobody)
    assert await page.poll_now() == ActionResult.NO_LEADER
    monkeypatch.setattr(store, "holder", gone)
    with pytest.raises(TemporaryError, match="no connection"):
        await page.poll_now()


async def test_poll_now_polls_despite_any_pause(shop_runtime: ShopRuntime, store: SqliteStore) -> None:
    leader_session = await shop_runtime.begin()
    shop = shop_runtime._source
    assert isinstance(shop, FakeShop)
    shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=300))
    page = overview(shop_runtime, store)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(leader_session.poller.run)
        await anyio.sleep(1)
        assert (await page.snapshot()).next_in_s == pytest.approx(299)
        shop.requested.clear()
        assert await page.poll_now() is ActionResult.DONE
        await anyio.sleep(1)
        assert shop.requested
        leader_session.stop()


async def test_deliveries_of_an_event_are_shown_together_and_no_more_than_fit(
    shop_runtime: ShopRuntime, store: SqliteStore
) -> None:
    for n in range(RECENT_EVENTS + 3):
        await over(store, n, "a", dies=False)
        await over(store, n, "b", dies=True)
    snapshot = await overview(shop_runtime, store).snapshot()
    assert len(snapshot.recent_events) == RECENT_EVENTS
    assert len(snapshot.dead) == DEAD_LETTERS
    first = snapshot.recent_events[0]
    assert first.key == f"{RECENT_EVENTS + 2}"
    assert {(one.sink, bool(one.reason)) for one in first.deliveries} == {("a", False), ("b", True)}


async def test_dead_letters_are_replayed_and_dropped_once(
    shop_runtime: ShopRuntime, store: SqliteStore
) -> None:
    for n in range(2):
        await over(store, n, "console:", dies=True)
    page = overview(shop_runtime, store)
    newest, oldest = (one.seq for one in (await page.snapshot()).dead)
    assert [await page.replay(oldest), await page.replay(oldest)] == [ActionResult.DONE, ActionResult.MISSING]
    assert [await page.drop(newest), await page.drop(newest)] == [ActionResult.DONE, ActionResult.MISSING]
    snapshot = await page.snapshot()
    assert (snapshot.dead, snapshot.sinks[0].stored.waiting, sum(snapshot.dead_lettered)) == ([], 1, 0)


async def test_a_sink_is_muted_by_the_leader_and_by_nobody_else(
    shop_runtime: ShopRuntime, store: SqliteStore
) -> None:
    page = overview(shop_runtime, store)
    assert await page.mute("console:", 60) is ActionResult.NOT_LEADER
    session = await shop_runtime.begin()
    assert session.dispatchers[0]._muted_s() == 0
    assert await page.mute("other", 60) is ActionResult.NO_SINK
    assert await page.mute("console:", 60, ["shop.order.nothing"]) is ActionResult.NO_EVENT
    assert await page.mute("console:", 3600, ["shop.order.new"]) is ActionResult.DONE
    assert session.dispatchers[0]._muted_s("shop.order.new") > session.dispatchers[0]._muted_s() == 0
    assert (await page.snapshot()).sinks[0].muted_events.keys() == {"shop.order.new"}
    assert await page.mute("console:", 0, ["shop.order.new"]) is ActionResult.DONE
    assert (await page.snapshot()).sinks[0].muted_events == {}
    assert await page.mute("console:", 3600) is ActionResult.DONE
    assert 3590 < session.dispatchers[0]._muted_s() <= 3600

    snapshot = await page.snapshot()
    assert (3590 < snapshot.sinks[0].muted_s <= 3600, snapshot.alerts) == (True, [])
    shop_runtime.end()
    assert (await page.snapshot()).sinks[0].muted_s > 0, "who follows shows it too"

    session = await shop_runtime.begin()
    assert session.dispatchers[0]._muted_s() > 0, "a new session knows it"
    assert await page.mute("console:", 0) is ActionResult.DONE
    assert session.dispatchers[0]._muted_s() == 0
    assert (await page.snapshot()).sinks[0].muted_s == 0


async def test_the_days_counts_follow_the_dead_letters_at_once(
    shop_runtime: ShopRuntime, store: SqliteStore
) -> None:
    page = overview(shop_runtime, store)
    assert sum((await page.snapshot()).dead_lettered) == 0
    await over(store, 1, "console:", dies=True)
    snapshot = await page.snapshot()
    assert (len(snapshot.dead), sum(snapshot.dead_lettered)) == (1, 1)


async def test_a_store_that_cannot_be_read_is_a_trouble_and_no_error(
    shop_runtime: ShopRuntime, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_: str) -> None:
        raise TemporaryError(ErrorKind.STORE, "state in x: disk I/O error")

    monkeypatch.setattr(store, "stats", broken)
    snapshot = await overview(shop_runtime, store).snapshot()
    assert (snapshot.trouble, snapshot.state, list(snapshot.delivered)) == (
        "state in x: disk I/O error",
        None,
        [],
    )
    assert [sink.name for sink in snapshot.sinks] == ["console:"]
