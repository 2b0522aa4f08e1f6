"""Hints in virtual time: a poll at once, no two within a second, none while the shop is to be left alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from shop_poller.core.errors import ErrorKind, ShopPollerError
from shop_poller.core.model import EventType, Page, Query
from shop_poller.polling.plan import PollPlan
from shop_poller.sources.woocommerce.statuses import MEANINGS
from shop_poller.web.hooks import PATH, Hooks
from shop_poller.web.routes import make_app
from support import wire
from support.hooks import headers
from support.shop_harness import SHOP, FakeShop, ShopHarness, down, refused, shop_harness
from support.virtual_time import EPOCH

pytestmark = pytest.mark.anyio

NEW = str(EventType.NEW)
BODY = wire.request("webhook/webhook-05").body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


def ticks(shop: FakeShop) -> list[float]:
    """When a walk began."""
    return sorted(
        {round(at, 6) for at, query in shop.requested if query.modified_after and not query.statuses}
    )


@asynccontextmanager
async def hooked(it: ShopHarness) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the route, with no socket between: those know nothing of virtual time."""
    hooks = Hooks("a secret of the shop", trigger=it.poller.trigger, counter=it.metrics)
    app = make_app(None, hooks)  # type: ignore[arg-type] # nobody asks for health here
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://here") as client:
        yield client


# --- When a hint makes a tick ---


async def test_a_trigger_is_a_tick_at_once_and_the_grid_stays_where_it_is(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(25.5)
        it.poller.trigger()
        await anyio.sleep(100)
    assert ticks(it.shop) == [0, 25.5, 60, 120]


async def test_an_event_is_delivered_within_a_second_of_its_trigger(path: Path) -> None:
    async with (
        shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=3600)) as it,
        it.running(),
        hooked(it) as client,
    ):
        for number in range(1, 21):
            await anyio.sleep(7.3 + number / 10)
            it.shop.put(number, "processing")
            triggered_at = anyio.current_time()
            answer = await client.post(PATH, content=BODY, headers=headers(BODY))
            assert (answer.status_code, anyio.current_time()) == (200, triggered_at), "it waits for no poll"
            await anyio.sleep(1.1)
            assert it.sinks[0].events()[-1] == (str(number), NEW)
            assert it.sinks[0].got[-1][0] - triggered_at <= 1


async def test_triggers_within_a_second_of_a_tick_are_one_tick_when_it_is_over(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(30)
        for _ in range(9):
            it.poller.trigger()
            await anyio.sleep(0.1)
        await anyio.sleep(20)
    assert ticks(it.shop) == [0, 30, 31]


async def test_triggers_while_a_tick_runs_are_one_tick_after_it(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.troubles.append(5.0)
        it.poller.trigger()
        for _ in range(4):
            await anyio.sleep(1)
            it.poller.trigger()
        await anyio.sleep(30)
    assert ticks(it.shop) == [0, 10, 15]


async def test_what_changes_after_the_request_was_sent_is_found_by_the_next_tick(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        fetch = it.shop.fetch

        async def slow_to_tell(query: Query) -> Page:
            page = await fetch(query)  # as of when it was asked
            await anyio.sleep(4)
            return page

        it.shop.fetch = slow_to_tell  # type: ignore[method-assign] # for this test
        it.poller.trigger()
        await anyio.sleep(2)
        it.shop.put(1, "processing")
        it.poller.trigger()
        await anyio.sleep(6.5)
        assert it.sinks[0].events() == [("1", NEW)]


async def test_a_trigger_just_before_the_grids_tick_waits_for_it(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(59.5)
        it.poller.trigger()
        await anyio.sleep(30)
    assert ticks(it.shop) == [0, 60]


async def test_a_shop_that_is_polled_every_second_is_not_polled_more_often(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=1)) as it, it.running():
        for _ in range(40):
            it.poller.trigger()
            await anyio.sleep(0.25)
    assert ticks(it.shop) == list(range(11))


async def test_a_trigger_before_the_first_tick_is_that_tick(path: Path) -> None:
    async with shop_harness(path) as it:
        it.poller.trigger()
        async with it.running():
            await anyio.sleep(30)
    assert ticks(it.shop) == [0]


async def test_a_triggered_tick_that_hangs_takes_no_more_than_the_grids_own_would(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(58)
        it.shop.troubles.append(30.0)
        it.poller.trigger()
        await anyio.sleep(130)
    assert ticks(it.shop) == [0, 58, 120, 180]


# --- Stopping ---


async def test_a_trigger_is_no_reason_to_begin_a_tick_while_stopping(path: Path) -> None:
    async with shop_harness(path) as it:
        async with it.running():
            await anyio.sleep(10)
            it.poller.stop()
            it.poller.trigger()
        assert anyio.current_time() == 10
    assert ticks(it.shop) == [0]


async def test_it_stops_at_once_while_a_trigger_waits_for_its_second(path: Path) -> None:
    async with shop_harness(path) as it:
        async with it.running():
            await anyio.sleep(0.2)
            it.poller.trigger()
            await anyio.sleep(0.2)
        assert anyio.current_time() == pytest.approx(0.4)
    assert ticks(it.shop) == [0]


async def test_it_stops_at_once_though_it_was_told_to_while_it_left_the_shop_alone(path: Path) -> None:
    async with shop_harness(path) as it:
        async with it.running():
            await anyio.sleep(1)
            it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=70))
            await anyio.sleep(120)  # the tick at 120 waits for 130
        assert anyio.current_time() == pytest.approx(121)


# --- A shop that is to be left alone ---


@pytest.mark.parametrize("every_s", [0.1, 1.0, 7.0])
async def test_no_flood_shortens_a_pause_that_a_shop_requested(path: Path, every_s: float) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=200))
        while anyio.current_time() < 290:
            it.poller.trigger()
            await anyio.sleep(every_s)
    first, second, *_ = ticks(it.shop)
    assert first == 1
    assert second >= 201


async def test_a_pause_requested_at_the_last_retry_stands_too(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=600)) as it, it.running():
        await anyio.sleep(10)
        it.shop.requested.clear()
        it.shop.troubles.extend([down(ErrorKind.RATE_LIMIT, retry_after_s=20)] * 4)
        it.poller.trigger()
        while anyio.current_time() < 100:
            await anyio.sleep(1)
            it.poller.trigger()
    assert ticks(it.shop)[:5] == [10, 30, 50, 70, 90]


async def test_a_trigger_during_a_pause_is_kept_until_its_end(path: Path) -> None:
    async with shop_harness(path, plan=PollPlan(SHOP, MEANINGS, interval_s=600)) as it, it.running():
        await anyio.sleep(10)
        it.shop.down = down()
        it.poller.trigger()
        await anyio.sleep(5)  # four failures
        it.poller.trigger()
        await anyio.sleep(5)  # the fifth, which opens the breaker
        assert it.value("shop_breaker_open", peer=SHOP) == 1
        opened_at = it.shop.requested[-1][0]
        it.shop.down = None
        it.shop.requested.clear()
        it.poller.trigger()
        await anyio.sleep(120)
    assert ticks(it.shop) == [pytest.approx(opened_at + 60)]


@pytest.mark.parametrize("trouble", [down(), refused(ErrorKind.AUTHENTICATION), down(ErrorKind.SERVER)])
async def test_a_flood_does_not_shorten_the_breakers_wait(path: Path, trouble: ShopPollerError) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.down = trouble
        while anyio.current_time() < 400:
            it.poller.trigger()
            await anyio.sleep(0.3)
    times = [at for at, _ in it.shop.requested]
    assert len(times) <= 5 + 7
    assert all(later - earlier >= 59.999 for earlier, later in pairwise(times[4:]))
    assert it.value("shop_breaker_open", peer=SHOP) == 1


async def test_the_grids_tick_comes_though_a_trigger_came_while_the_shop_was_left_alone(path: Path) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(1)
        it.shop.requested.clear()
        it.shop.troubles.append(down(ErrorKind.RATE_LIMIT, retry_after_s=100))
        await anyio.sleep(60)  # asked at 60; to be left alone until 160
        for _ in range(10):
            it.poller.trigger()
            await anyio.sleep(5)
        await anyio.sleep(200)
    assert ticks(it.shop) == [60, 160, 180, 240, 300]


async def test_a_trigger_makes_no_two_polls_of_a_pause_that_ends_just_before_the_grids_tick(
    path: Path,
) -> None:
    async with shop_harness(path) as it, it.running():
        await anyio.sleep(10)
        it.shop.requested.clear()
        it.shop.troubles.extend(
            down(ErrorKind.RATE_LIMIT, retry_after_s=wait_s) for wait_s in (10, 10, 10, 19.5)
        )
        it.poller.trigger()
        await anyio.sleep(35)  # asked at 40 for the last time; to be left alone until 59.5
        it.poller.trigger()
        await anyio.sleep(30)
    assert ticks(it.shop) == [10, 20, 30, 40, 60]


# --- Initial import ---


async def test_importing_makes_room_for_a_trigger_at_the_next_page(path: Path) -> None:
    async with shop_harness(path, in_memory=True) as it:
        for order_id in range(1, 4_001):
            it.shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
        await it.tick()

        async def slow(query: Query) -> None:
            if query.statuses:
                await anyio.sleep(2)

        it.shop.before = slow  # a page of the import takes its time
        began, imported = anyio.current_time(), it.value("shop_orders_learned_total")
        async with it.running():
            await anyio.sleep(5)
            it.shop.put(9_999, "processing")
            it.poller.trigger()
            await anyio.sleep(2)
            assert it.sinks[0].events() == [("9999", NEW)]
            assert it.sinks[0].got[0][0] - began <= 7
            await anyio.sleep(50)
            assert it.state_writer.state.import_position is None, "and it goes on after it"
    assert it.value("shop_orders_learned_total") - imported >= 2000 - 100


async def test_a_flood_does_not_keep_it_from_importing(path: Path) -> None:
    async with shop_harness(path, in_memory=True) as it:
        for order_id in range(1, 3_001):
            it.shop.put(order_id, "processing", created_at=EPOCH - timedelta(days=2, seconds=order_id))
        async with it.running():
            for _ in range(300):
                it.poller.trigger()
                await anyio.sleep(0.1)
        assert it.state_writer.state.import_position is None


# --- Whoever sends what ---

senders = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.01, 0.2, 0.9, 1.0, 5.0, 40.0]),  # seconds since the one before
        st.sampled_from(["genuine", "forged", "unsigned", "ping", "product", "tampered"]),
    ),
    max_size=60,
)


@given(senders)
@hypothesis_settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_hooks_are_at_most_a_poll_a_second_and_nothing_else(
    path: Path, sent: list[tuple[float, str]]
) -> None:
    request = {
        "genuine": (BODY, headers(BODY)),
        "forged": (BODY, headers(BODY, secret="guessed it")),
        "unsigned": (BODY, {"X-WC-Webhook-Topic": "order.updated"}),
        "ping": (b"webhook_id=1", {}),
        "product": (BODY, headers(BODY, topic="product.updated")),
        "tampered": (BODY.replace(b"on-hold", b"refunded"), headers(BODY)),
    }
    async with shop_harness(path, in_memory=True) as it, hooked(it) as client:
        origin = anyio.current_time()
        it.shop.put(320, "pending")
        triggers = 0
        async with it.running():
            await anyio.sleep(0.5)
            for wait_s, kind in sent:
                await anyio.sleep(wait_s)
                body, head = request[kind]
                await client.post(PATH, content=body, headers=head)
                triggers += kind == "genuine"
            await anyio.sleep(5)
            took_s = anyio.current_time() - origin
        times = [at - origin for at in ticks(it.shop)]
        grid = [60.0 * n for n in range(int(took_s // 60) + 1)]
        assert [at for at in times if at in grid] == grid, "the grid stays where it is"
        assert len(times) - len(grid) <= triggers
        assert all(later - earlier >= 0.999 for earlier, later in pairwise(times))
        assert it.new_deliveries == [], "what a hook says is not believed"
        assert it.value("shop_hints_total", outcome="accepted") == triggers
