"""The data of the overview of several shops, from real stores: of this replica, and of others."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import anyio
import pytest

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.tallies import Amounts, OrderTally
from shop_poller.observability.metrics import MetricsRegistry
from shop_poller.polling.limiter import PollLimiter
from shop_poller.ports import Ack, Alert, MoveToDeadLetters, ShopState
from shop_poller.runtime import fleet_overview
from shop_poller.runtime.fleet_overview import FRESH_S
from shop_poller.runtime.fleet_status import FleetStatus
from shop_poller.runtime.shop_summary import read_summary, today
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.web.fleet_rows import JudgedRow, ShopVerdict, judged
from shop_poller.web.snapshot import ActionResult
from support.deliveries import batch, claim_one, new_deliveries, put
from support.fleet_harness import FleetHarness, Replica, in_virtual_time, shops
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

SETTLED_S = 30.0
SHOP = "shop.example"


@pytest.fixture
def fleet_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetHarness:
    made = FleetHarness(tmp_path, shops(4))
    in_virtual_time(monkeypatch, made)
    return made


async def seen_by(replica: Replica) -> dict[str, JudgedRow]:
    return {row.shop: judged(row) for row in await replica.overview.rows()}


async def test_every_replica_shows_every_shop_and_who_watches_it(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("host-a/1/x")), launch(fleet_harness.replica("host-b/2/y"))
        await anyio.sleep(SETTLED_S)
        for replica in (one, two):
            rows = await seen_by(replica)
            assert {row.verdict for row in rows.values()} == {ShopVerdict.GOOD}
            assert len(rows) == 4
            for other in (one, two):
                for shop in other.leads:
                    snapshot = rows[shop].row.snapshot
                    assert snapshot is not None
                    assert snapshot.leads == (other is replica)
                    assert bool(rows[shop].row.replica) is True
                    assert (rows[shop].row.orders, rows[shop].row.delivered) == (0, 0)
        here = {row.row.replica for shop, row in (await seen_by(one)).items() if shop in one.leads}
        assert here == {"host-a/1"}  # without the secret part of the name


async def test_a_shop_that_nobody_watches_is_the_worst(fleet_harness: FleetHarness) -> None:
    lonely = fleet_harness.shops[0].shop
    fleet_harness.broken[lonely] = PermanentError(ErrorKind.STORE, "made up: a secret of the log")
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        rows = await seen_by(replica)
        found = rows[lonely]
        assert (found.verdict, found.trouble and found.trouble.kind) == (ShopVerdict.BAD, "store")
        assert [row.verdict for shop, row in rows.items() if shop != lonely] == [ShopVerdict.GOOD] * 3


async def test_with_files_a_shop_that_cannot_be_opened_is_shown_without_waiting(
    fleet_harness: FleetHarness,
) -> None:
    fleet_harness.in_redis = False
    lonely = fleet_harness.shops[0].shop
    fleet_harness.broken[lonely] = RuntimeError("made up: with a buyer's name")
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        await replica.overview.rows()
        before = anyio.current_time()
        found = (await seen_by(replica))[lonely]
        assert anyio.current_time() == before
        assert found.verdict is ShopVerdict.BAD
        assert found.row.snapshot is not None
        assert found.row.snapshot.trouble == "this process cannot watch the shop; its log says why"
        page = await replica.overview.backend(lonely)
        assert (await page.snapshot()).trouble == "this process cannot watch the shop; its log says why"
        results = [await page.poll_now(), await page.mute("A", 9), await page.replay(1), await page.drop(1)]
        assert {*results} == {ActionResult.NOT_HERE}


async def test_a_store_is_read_once_in_a_while_however_many_look_and_never_if_nobody_does(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: Counter[str] = Counter()
    at_once = most = 0
    monkeypatch.setattr(fleet_overview, "AT_ONCE", 2)

    async def counted(store: Any, history: Any, shop: str, zone: Any) -> Any:
        nonlocal at_once, most
        reads[shop] += 1
        at_once += 1
        most = max(most, at_once)
        await anyio.sleep(0.05)
        try:
            return await read_summary(store, history, shop, zone)
        finally:
            at_once -= 1

    monkeypatch.setattr("shop_poller.runtime.status_page_data.read_summary", counted)
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        assert not reads
        for _ in range(50):
            async with anyio.create_task_group() as readers:
                for _ in range(5):
                    readers.start_soon(replica.overview.rows)
            await anyio.sleep(0.5)
        assert {*reads.values()} <= {2, 3}  # in 25 s; FRESH_S is 10 s
        assert len(reads) == 4
        assert most == 2
        before = reads.total()
        await anyio.sleep(5 * FRESH_S)
        assert reads.total() <= before + 2 * 4  # within LOOKING_S, and then no more


async def test_what_this_process_knows_is_of_the_moment(fleet_harness: FleetHarness) -> None:
    shop = fleet_harness.shops[3].shop
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        assert (await seen_by(replica))[shop].verdict is ShopVerdict.GOOD
        fleet_harness.troubles[shop] = PermanentError(ErrorKind.AUTHENTICATION, "wrong keys")
        await anyio.sleep(21)  # the next poll
        found = (await seen_by(replica))[shop]
        assert (found.verdict, found.trouble and found.trouble.kind) == (ShopVerdict.BAD, "poll failing")


async def test_rows_that_are_too_old_are_not_shown_as_new(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(SETTLED_S)
        first = await seen_by(one)
        assert {row.verdict for row in first.values()} == {ShopVerdict.GOOD}
        await anyio.sleep(20 * FRESH_S)
        again = await seen_by(one)
        for shop in two.leads:
            snapshot = again[shop].row.snapshot
            assert snapshot is not None
            assert snapshot.state is not None
            assert snapshot.state.last_poll_at is not None
            assert virtual_now() - snapshot.state.last_poll_at < timedelta(seconds=25)


async def test_while_redis_is_away_that_is_said_and_the_rows_come_at_once(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(*_: Any) -> Any:
        raise TemporaryError(ErrorKind.STORE, "state in redis://x: no connection")

    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        monkeypatch.setattr(RedisStore, "stats", away)
        rows = await seen_by(replica)
        assert {row.trouble and row.trouble.kind for row in rows.values()} == {"store"}
        assert {row.row.orders for row in rows.values()} == {None}
        monkeypatch.undo()


async def test_a_bug_in_one_store_is_logged_once_and_hides_no_other_shop(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    assert caplog is not None
    ill = fleet_harness.shops[0].shop

    async def buggy(store: Any, history: Any, shop: str, zone: Any) -> Any:
        if shop == ill:
            raise RuntimeError("made up: with a buyer's name")
        return await read_summary(store, history, shop, zone)

    monkeypatch.setattr("shop_poller.runtime.status_page_data.read_summary", buggy)
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        rows = await seen_by(replica)
        assert rows[ill].verdict is ShopVerdict.BAD
        found = rows[ill].row.snapshot
        assert found is not None
        assert "buyer" not in found.trouble
        assert sum(row.verdict is ShopVerdict.GOOD for row in rows.values()) == 3


async def test_a_page_of_a_shop_of_another_replica_comes_from_its_store(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("host-a/1/x")), launch(fleet_harness.replica("host-b/2/y"))
        await anyio.sleep(SETTLED_S)
        shop = min(two.leads)
        assert not one.overview.is_here(shop)
        page = await one.overview.backend(shop)
        snapshot = await page.snapshot()
        assert (snapshot.shop, snapshot.leads, snapshot.trouble) == (shop, False, "")
        assert snapshot.leader
        assert snapshot.state is not None
        assert await page.poll_now() is ActionResult.NOT_LEADER
        assert await page.mute("console:", 9) is ActionResult.NOT_LEADER
        assert await one.overview.backend(shop) is page
        two.kill()
        await anyio.sleep(SETTLED_S)
        assert shop in one.leads
        assert await one.overview.backend(shop) is not page
        await one.overview.rows()
        await anyio.sleep(2)
        assert not one.overview._elsewhere  # the stores for the shops of the other replica are closed


# --- What is read of one store ---


async def test_todays_orders_and_notifications_are_those_of_the_shops_day(tmp_path: Path) -> None:
    store = await SqliteStore.open(tmp_path / "state.db")
    await store.take()
    zone = ZoneInfo("Asia/Almaty")
    since, before = today(store.now(), zone)
    for number, at in enumerate(
        (since - timedelta(milliseconds=1), since, before - timedelta(milliseconds=1))
    ):
        await put(store, new_deliveries("crm", f"{number}", f"event {number}"))
        await store.record_outcomes([Ack(await claim_one(store, "crm"))], at)
    await put(store, new_deliveries("crm", "9", "event 9"))
    await store.record_outcomes([MoveToDeadLetters(await claim_one(store, "crm"), "422")], since)
    uncounted = await read_summary(store, store, SHOP, zone)
    assert (uncounted.orders, uncounted.delivered) == (None, 2)
    day = since.astimezone(zone).date()
    tallies = {day: OrderTally(orders=Amounts(7)), day - timedelta(days=1): OrderTally(orders=Amounts(5))}
    state = ShopState(since, last_poll_at=since, tallied_since=since)
    await store.commit(SHOP, replace(batch(state=state), tallies=tallies))
    await store.raise_alert(SHOP, Alert("crm", ErrorKind.TIMEOUT, since), (), since)
    found = await read_summary(store, store, SHOP, zone)
    assert (found.orders, found.delivered, found.trouble) == (7, 2, "")
    assert found.stats.sinks["crm"].dead == 1
    assert [*found.alerts] == ["crm"]
    assert found.leader == await store.holder()
    await store.aclose()
    closed = await read_summary(store, store, SHOP, zone)
    assert closed.trouble
    assert closed.state is None


@pytest.mark.parametrize(
    ("now", "ends"),
    [
        ("2026-03-29T12:00", ["2026-03-28T23:00", "2026-03-29T22:00"]),  # 23 hours
        ("2026-10-25T12:00", ["2026-10-24T22:00", "2026-10-25T23:00"]),  # 25 hours
        ("2026-07-01T22:30", ["2026-07-01T22:00", "2026-07-02T22:00"]),
    ],
)
def test_a_day_is_the_shops_own_also_when_its_clocks_change(now: str, ends: Sequence[str]) -> None:
    found = today(datetime.fromisoformat(now).replace(tzinfo=UTC), ZoneInfo("Europe/Berlin"))
    assert [f"{at:%Y-%m-%dT%H:%M}" for at in found] == [*ends]


def test_the_more_shops_the_more_rarely_each_is_read() -> None:
    assert fleet_overview.READ_EVERY_S * 1000 == 50


async def test_where_tenants_have_tokens_health_counts_shops_and_names_none(
    fleet_harness: FleetHarness,
) -> None:
    lonely = fleet_harness.shops[0].shop
    fleet_harness.broken[lonely] = PermanentError(ErrorKind.STORE, "made up")
    async with fleet_harness.afloat() as launch:
        replica = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        assert (await replica.health_reporter.health())["not_watched"] == lonely
        unnamed = FleetStatus(
            replica.fleet,
            replica.balancer,
            MetricsRegistry(),
            PollLimiter(9, lambda _: None),
            names_shops=False,
        )
        assert (await unnamed.health())["not_watched"] == "1"


async def test_a_shop_that_went_to_another_replica_is_soon_shown_again(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(SETTLED_S)
        assert len(one.leads) == 4
        two = launch(fleet_harness.replica("two"))
        while not two.leads:
            await one.overview.rows()  # keeps what is known of all shops new
            await anyio.sleep(0.1)
        for _ in range(3):
            await one.overview.rows()
            await anyio.sleep(1)
        rows = await seen_by(one)
        assert {row.verdict for row in rows.values()} == {ShopVerdict.GOOD}
