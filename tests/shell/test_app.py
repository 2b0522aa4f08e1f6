"""The composition root: what a process remembers from one tenure to the next."""

import signal
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from shop_poller.app import run
from shop_poller.clock import now
from shop_poller.core.dialects import Dialect
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.house import House
from shop_poller.ports import ShopState
from shop_poller.settings import Settings
from shop_poller.sources.auto import Choice
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.web.hooks import PATH
from shop_poller.web.routes import make_app
from support.deliveries import batch
from support.hooks import SECRET, headers
from support.house import FakeShop, FakeSink

pytestmark = pytest.mark.anyio

SHOP = "shop.example"


def settings(**more: Any) -> Settings:
    return Settings.model_validate(
        {
            "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
            "woocommerce_consumer_key": "ck_x",
            "woocommerce_consumer_secret": "cs_x",
            **more,
        }
    )


async def told(*, silence_s: float, last_poll_ago_s: float | None, recalled: bool = False) -> list[str]:
    """What the administrators hear at the first good poll of a tenure."""
    store = await SqliteStore.empty()
    try:
        house = House(settings(), store, FakeShop(), [FakeSink("console:")], None)
        if last_poll_ago_s is not None:
            last_poll_at = now() - timedelta(seconds=last_poll_ago_s)
            state = ShopState(
                last_poll_at, baseline_at=last_poll_at, cursor_at=last_poll_at, last_poll_at=last_poll_at
            )
            await store.commit(SHOP, batch(state=state))
        if recalled:  # an earlier tenure, before the store was emptied
            await house.begin()
            house.end()
            await store.commit(SHOP, batch(state=ShopState(now())))
        house.lease.silence_s = silence_s
        tenure = await house.begin()
        await tenure.poller.tick(1e9)
        return [delivery.event_type for delivery in await store.claim("console:", now=now(), limit=9)] + [
            f"{sink.waiting} waiting" for sink in (await store.stats(SHOP)).sinks.values()
        ]
    finally:
        await store.aclose()


BOTH = ["service.unhealthy", "2 waiting"]  # the second one waits behind the first


async def test_an_outage_of_the_store_is_told_when_it_is_over() -> None:
    assert await told(silence_s=400, last_poll_ago_s=420) == BOTH
    assert await told(silence_s=400, last_poll_ago_s=420, recalled=True) == BOTH


async def test_what_was_short_or_covered_by_another_replica_is_not_told() -> None:
    assert await told(silence_s=299, last_poll_ago_s=420) == []
    assert await told(silence_s=400, last_poll_ago_s=60) == []
    assert await told(silence_s=0, last_poll_ago_s=86_400) == []  # we were not running: nothing was promised
    assert await told(silence_s=400, last_poll_ago_s=None) == []  # the first start


async def test_a_hint_is_for_whoever_leads_and_a_follower_does_nothing() -> None:
    store, shop = await SqliteStore.empty(), FakeShop()
    try:
        house = House(settings(shop_webhook_secret=SECRET), store, shop, [FakeSink()], None)
        transport = httpx.ASGITransport(make_app(house.monitor, house.hooks()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

            async def asked_for_a_hint() -> int:
                before = len(shop.asked)
                answer = await client.post(PATH, content=b"{}", headers=headers(b"{}"))
                assert answer.status_code == 200
                await anyio.sleep(2)
                return len(shop.asked) - before

            assert await asked_for_a_hint() == 0
            tenure = await house.begin()
            async with anyio.create_task_group() as work:
                work.start_soon(tenure.poller.run)
                await anyio.sleep(10)
                assert await asked_for_a_hint() == 1
                house.end()
                assert await asked_for_a_hint() == 0
                tenure.stop()
    finally:
        await store.aclose()


async def test_webhooks_are_not_wanted_without_a_secret() -> None:
    store = await SqliteStore.empty()
    try:
        assert House(settings(), store, FakeShop(), [FakeSink()], None).hooks() is None
    finally:
        await store.aclose()


async def test_the_metrics_know_the_events_that_the_owner_named() -> None:
    packing = {"sborka": {"title": "Собирается", "message": "Заказ #{id} собирается"}}
    store = await SqliteStore.empty()
    try:
        house = House(settings(shop_status_events=packing), store, FakeShop(), [FakeSink()], None)
        shown = (await house.monitor.exposition()).decode()
    finally:
        await store.aclose()
    labels = '{event_type="shop.order.sborka",shop="shop.example",sink="sink"}'
    assert f"shop_notifications_sent_total{labels} 0.0" in shown.splitlines()


async def test_the_metrics_know_what_was_set_and_when_it_began() -> None:
    store = await SqliteStore.empty()
    try:
        before = time.time()
        chosen = settings(shop_polling_interval=45, shop_dialect="rest")
        house = House(chosen, store, FakeShop(), [FakeSink()], None)
        house.complain(TemporaryError(ErrorKind.STORE, "disk full"))
        lines = (await house.monitor.exposition()).decode().splitlines()
        shown = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        house.chose(Choice(Dialect.EXECUTE, "the others do not answer", {}))
        chosen_later = (await house.monitor.exposition()).decode().splitlines()
    finally:
        await store.aclose()
    shop = 'shop="shop.example"'
    assert float(shown[f"shop_poll_interval_seconds{{{shop}}}"]) == 45
    assert before - 1 <= float(shown[f"shop_started_timestamp_seconds{{{shop}}}"]) <= time.time() + 1
    assert float(shown[f'shop_dialect_info{{dialect="rest",{shop}}}']) == 1
    assert float(shown[f'shop_store_errors_total{{{shop},use="begin"}}']) == 1
    assert f'shop_dialect_info{{dialect="execute",{shop}}} 1.0' in chosen_later
    assert f'shop_dialect_info{{dialect="rest",{shop}}} 0.0' in chosen_later


async def test_a_signal_that_comes_before_anything_is_said_stops_in_good_order(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with anyio.fail_after(30):
            await run(
                settings(
                    shop_state_url=f"sqlite:///{tmp_path}/state.db",
                    shop_http_listen="127.0.0.1:0",
                    shop_polling_enabled=False,
                ),
                on_listen=lambda _: signal.raise_signal(signal.SIGTERM),
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == []  # it came to the daemon, which stopped


@pytest.mark.parametrize("where", ["open_store", "close"])
async def test_a_second_signal_ends_it_at_once_while_it_opens_or_closes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Either may hang, on a disk or a network that does."""
    ended = anyio.Event()

    class AtOnceError(Exception):
        pass

    async def hang(*_args: object, **_more: object) -> None:
        if where == "open_store":
            signal.raise_signal(signal.SIGTERM)
            await anyio.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)
        for _ in range(100):  # a signal comes in real time, however little of it
            await anyio.sleep(0.01)
            if ended.is_set():
                raise AtOnceError

    monkeypatch.setattr("shop_poller.app.os.kill", lambda *_: ended.set())
    if where == "close":
        monkeypatch.setattr(SqliteStore, "aclose", hang)
    else:
        monkeypatch.setattr("shop_poller.app.open_store", hang)
    with pytest.raises(ExceptionGroup) as caught:
        await run(
            settings(
                shop_state_url=f"sqlite:///{tmp_path}/state.db",
                shop_http_listen="",
                shop_polling_enabled=False,
            ),
            stop=stopped() if where == "close" else None,
        )
    assert caught.group_contains(AtOnceError)


def stopped() -> anyio.Event:
    event = anyio.Event()
    event.set()
    return event
