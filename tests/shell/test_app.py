"""The composition root: what a process remembers from one leader session to the next."""

import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.config.shops import ShopsConfig
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.ports import ShopState
from shop_poller.runtime.app import run
from shop_poller.runtime.shop_runtime import ShopRuntime
from shop_poller.runtime.signals import STOPPING, on_signal
from shop_poller.sinks.registry import parse_sink
from shop_poller.sources.woocommerce.auto import ChosenDialect
from shop_poller.sources.woocommerce.dialects import Dialect
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.web.hooks import PATH
from shop_poller.web.routes import make_app
from support.deliveries import batch
from support.hooks import SECRET, headers
from support.shop_harness import FakeShop, FakeSink

pytestmark = pytest.mark.anyio

SHOP = "shop.example"


def settings(**more: Any) -> Settings:
    return Settings.of(
        {
            "woocommerce_mcp_url": "https://shop.example/wp-json/woocommerce/mcp",
            "woocommerce_consumer_key": "ck_x",
            "woocommerce_consumer_secret": "cs_x",
            **more,
        },
        parse_sink=parse_sink,
    )


def only(**more: Any) -> ShopsConfig:
    return ShopsConfig.of_one(settings(**more))


async def told(*, silence_s: float, last_poll_ago_s: float | None, recalled: bool = False) -> list[str]:
    """The alerts that administrators receive at the first good poll of a leader session."""
    store = await SqliteStore.empty()
    try:
        shop_runtime = ShopRuntime(settings(), store, FakeShop(), [FakeSink("console:")], None)
        if last_poll_ago_s is not None:
            last_poll_at = now() - timedelta(seconds=last_poll_ago_s)
            state = ShopState(
                last_poll_at, baseline_at=last_poll_at, cursor_at=last_poll_at, last_poll_at=last_poll_at
            )
            await store.commit(SHOP, batch(state=state))
        if recalled:  # an earlier leader session, before the store was emptied
            await shop_runtime.begin()
            shop_runtime.end()
            await store.commit(SHOP, batch(state=ShopState(now())))
        shop_runtime.lease.silence_s = silence_s
        leader_session = await shop_runtime.begin()
        await leader_session.poller.tick(1e9)
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


async def test_a_trigger_is_for_whoever_leads_and_a_follower_does_nothing() -> None:
    store, shop = await SqliteStore.empty(), FakeShop()
    try:
        shop_runtime = ShopRuntime(settings(shop_webhook_secret=SECRET), store, shop, [FakeSink()], None)
        transport = httpx.ASGITransport(make_app(shop_runtime.health_reporter, shop_runtime.hooks()))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:

            async def requested_a_trigger() -> int:
                before = len(shop.requested)
                answer = await client.post(PATH, content=b"{}", headers=headers(b"{}"))
                assert answer.status_code == 200
                await anyio.sleep(2)
                return len(shop.requested) - before

            assert await requested_a_trigger() == 0
            leader_session = await shop_runtime.begin()
            async with anyio.create_task_group() as work:
                work.start_soon(leader_session.poller.run)
                await anyio.sleep(10)
                assert await requested_a_trigger() == 1
                shop_runtime.end()
                assert await requested_a_trigger() == 0
                leader_session.stop()
    finally:
        await store.aclose()


async def test_webhooks_are_not_wanted_without_a_secret() -> None:
    store = await SqliteStore.empty()
    try:
        assert ShopRuntime(settings(), store, FakeShop(), [FakeSink()], None).hooks() is None
    finally:
        await store.aclose()


async def test_the_metrics_know_the_events_that_the_owner_named() -> None:
    packing = {"sborka": {"title": "Собирается", "message": "Заказ #{id} собирается"}}
    store = await SqliteStore.empty()
    try:
        shop_runtime = ShopRuntime(
            settings(shop_status_events=packing), store, FakeShop(), [FakeSink()], None
        )
        shown = (await shop_runtime.health_reporter.exposition()).decode()
    finally:
        await store.aclose()
    labels = '{event_type="shop.order.sborka",shop="shop.example",sink="sink"}'
    assert f"shop_notifications_sent_total{labels} 0.0" in shown.splitlines()


async def test_the_metrics_know_what_was_set_and_when_it_began() -> None:
    store = await SqliteStore.empty()
    try:
        before = time.time()
        chosen = settings(shop_polling_interval=45, shop_dialect="rest")
        shop_runtime = ShopRuntime(chosen, store, FakeShop(), [FakeSink()], None)
        shop_runtime.complain(TemporaryError(ErrorKind.STORE, "disk full"))
        lines = (await shop_runtime.health_reporter.exposition()).decode().splitlines()
        shown = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
        shop_runtime.chose(ChosenDialect(Dialect.EXECUTE, "the others do not answer", {}))
        chosen_later = (await shop_runtime.health_reporter.exposition()).decode().splitlines()
    finally:
        await store.aclose()
    shop = 'shop="shop.example"'
    assert float(shown[f"shop_poll_interval_seconds{{{shop}}}"]) == 45
    assert before - 1 <= float(shown[f"shop_started_timestamp_seconds{{{shop}}}"]) <= time.time() + 1
    assert float(shown[f'shop_dialect_info{{dialect="rest",{shop}}}']) == 1
    assert float(shown[f'shop_store_errors_total{{{shop},use="begin"}}']) == 1
    assert f'shop_dialect_info{{dialect="execute",{shop}}} 1.0' in chosen_later
    assert f'shop_dialect_info{{dialect="rest",{shop}}} 0.0' in chosen_later


@pytest.mark.usefixtures("signals_as_they_were")
async def test_a_signal_that_comes_before_anything_is_said_stops_in_good_order(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with anyio.fail_after(30):
            await run(
                only(
                    shop_state_url=f"sqlite:///{tmp_path}/state.db",
                    shop_http_listen="127.0.0.1:0",
                    shop_polling_enabled=False,
                ),
                on_listen=lambda _: signal.raise_signal(signal.SIGTERM),
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == []  # it came to the daemon, which stopped


@pytest.fixture
def signals_as_they_were() -> Iterator[None]:
    """After a signal the kernel's own actions stay in force, since the process is about to end."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


class AtOnceError(Exception):
    """The process would have ended here."""


@pytest.mark.usefixtures("signals_as_they_were")
@pytest.mark.parametrize("first", STOPPING)
async def test_a_second_signal_is_the_kernels_while_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: signal.Signals
) -> None:
    """The state may hang, on a disk or a network that does."""
    stop = anyio.Event()

    async def hang(*_args: object, **_more: object) -> None:
        assert not any(signal.getsignal(number) is signal.SIG_DFL for number in STOPPING)
        signal.raise_signal(first)
        assert all(signal.getsignal(number) is signal.SIG_DFL for number in STOPPING)
        with anyio.fail_after(1):
            await stop.wait()
        raise AtOnceError

    monkeypatch.setattr("shop_poller.stores.StorePool.open", hang)
    with pytest.raises(AtOnceError):
        await run(only(shop_state_url=f"sqlite:///{tmp_path}/state.db", shop_http_listen=""), stop=stop)


@pytest.mark.usefixtures("signals_as_they_were")
async def test_a_signal_ends_it_at_once_if_it_stops_already_and_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[int] = []

    async def hang(*_args: object, **_more: object) -> None:
        signal.raise_signal(signal.SIGTERM)
        for _ in range(100):  # a signal comes in real time, however little of it
            await anyio.sleep(0.01)
            if killed:
                raise AtOnceError

    monkeypatch.setattr("shop_poller.runtime.app.os.kill", lambda _, number: killed.append(number))
    monkeypatch.setattr(SqliteStore, "aclose", hang)
    with pytest.raises(AtOnceError):
        await run(
            only(
                shop_state_url=f"sqlite:///{tmp_path}/state.db",
                shop_http_listen="",
                shop_polling_enabled=False,
            ),
            stop=stopped(),
        )
    assert killed == [signal.SIGTERM]


@pytest.mark.usefixtures("signals_as_they_were")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGUSR2, signal.SIGTTOU])
async def test_signals_that_mean_nothing_to_it_do_not_end_it(tmp_path: Path, number: signal.Signals) -> None:
    stop = anyio.Event()

    def signalled(_: str) -> None:
        signal.raise_signal(number)
        assert not stop.is_set()
        stop.set()

    before = signal.getsignal(number)
    await run(
        only(
            shop_state_url=f"sqlite:///{tmp_path}/state.db",
            shop_http_listen="127.0.0.1:0",
            shop_polling_enabled=False,
        ),
        stop=stop,
        on_listen=signalled,
    )
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("was_ignored", [True, False])
async def test_a_hang_up_that_was_ignored_from_the_start_stays_ignored(*, was_ignored: bool) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if was_ignored else signal.SIG_DFL)
    try:
        with on_signal(STOPPING, lambda _: None):
            assert (signal.getsignal(signal.SIGHUP) is signal.SIG_IGN) == was_ignored
            assert callable(signal.getsignal(signal.SIGTERM))
    finally:
        signal.signal(signal.SIGHUP, before)


def stopped() -> anyio.Event:
    event = anyio.Event()
    event.set()
    return event
