"""Fleets in virtual time: who watches which shop, as replicas come, go and are killed."""

import errno
import os
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog
from fakeredis import FakeAsyncRedis
from redis.asyncio.cluster import RedisCluster
from redis.exceptions import ConnectionError as RedisConnectionError

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError
from shop_poller.core.sharing import to_give
from shop_poller.polling.limiter import PATIENCE_S, PollLimiter
from shop_poller.ports import Stats
from shop_poller.runtime.fleet_status import SURVEY_S
from shop_poller.stores import CONNECTIONS
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.redis.connection import ConnectionPool
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.membership import STAY_S, RedisMembership
from support.fleet_harness import ABOARD, FleetHarness, Replica, in_virtual_time, shops
from support.stores import ADDRESS

pytestmark = pytest.mark.anyio

INTERVAL_S = 20.0
PROMISE_S = 15.0
"""A shop is not left unpolled for longer than that, beyond its interval, whatever befalls a replica."""


@pytest.fixture
def fleet_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetHarness:
    made = FleetHarness(tmp_path, shops(12))
    in_virtual_time(monkeypatch, made)
    return made


def shares(*replicas: Replica) -> list[int]:
    return [len(replica.leads) for replica in replicas]


async def test_one_process_polls_every_shop_once_an_interval_and_not_all_at_once(
    fleet_harness: FleetHarness,
) -> None:
    fleet_harness.in_redis = False
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(10 * INTERVAL_S)
        assert len(one.leads) == 12
        assert await one.health_reporter.health() == {"status": "healthy", "shops": "12 of 12"}
        assert (await one.health_reporter.readiness())["status"] == "ready"
    began = {
        shop.shop: min(p.began for p in fleet_harness.polls if p.shop == shop.shop)
        for shop in fleet_harness.shops
    }
    assert max(began.values()) < INTERVAL_S + 1
    by_second = [sum(int(at) == second for at in began.values()) for second in range(21)]
    assert max(by_second) <= 4  # no stampede
    assert max(fleet_harness.gaps(10 * INTERVAL_S).values()) < INTERVAL_S + 1


async def test_an_order_of_any_shop_is_told_to_that_shop_s_sink(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        fleet_harness.fakes["shop-3"].put(7, "processing")
        await anyio.sleep(2 * INTERVAL_S)
    assert fleet_harness.sinks["shop-3"].events() == [("7", "shop.order.new")]
    assert not any(sink.got for shop, sink in fleet_harness.sinks.items() if shop != "shop-3")


async def test_replicas_that_come_and_go_share_evenly_and_leave_no_shop_alone(
    fleet_harness: FleetHarness,
) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one) == [12]
        two, three = launch(fleet_harness.replica("two")), launch(fleet_harness.replica("three"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one, two, three) == [4, 4, 4]
        assert one.leads | two.leads | three.leads == {shop.shop for shop in fleet_harness.shops}

        two.kill()
        await anyio.sleep(PROMISE_S)
        assert shares(one, three) == [6, 6]

        three.stop.set()
        await anyio.sleep(8)
        assert shares(one) == [12]
        two = launch(fleet_harness.replica("two again"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one, two) == [6, 6]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + PROMISE_S


@pytest.mark.parametrize("interval", [1, 5, 60])
async def test_a_kill_leaves_no_shop_alone_for_long_at_any_interval(
    fleet_harness: FleetHarness, interval: int
) -> None:
    fleet_harness.shops = shops(6, shop_polling_interval=interval)
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * interval + 5)
        assert sorted(shares(one, two)) == [3, 3]
        one.kill()
        await anyio.sleep(2 * interval + PROMISE_S)
        assert shares(two) == [6]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.gaps(ended).values()) < interval + PROMISE_S


async def test_a_kill_leaves_no_shop_of_very_many_alone_for_long(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a thousand would be, on a smaller scale."""
    monkeypatch.setattr("shop_poller.core.sharing.MOST_AT_ONCE", 3)
    fleet_harness.shops = shops(72, shop_polling_interval=60)
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(150)
        assert shares(one, two) == [36, 36]
        one.kill()
        await anyio.sleep(60 + PROMISE_S)
        assert shares(two) == [72]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.gaps(ended).values()) < 60 + PROMISE_S


async def test_a_move_waits_for_the_tick_that_is_under_way(fleet_harness: FleetHarness) -> None:
    fleet_harness.troubles = {shop.shop: 3.0 for shop in fleet_harness.shops}
    async with fleet_harness.afloat() as launch:
        launch(fleet_harness.replica("one"))
        await anyio.sleep(4 * INTERVAL_S)
        launch(fleet_harness.replica("two"))
        await anyio.sleep(4 * INTERVAL_S)
    assert {poll.replica for poll in fleet_harness.polls} == {"one", "two"}
    assert fleet_harness.doubles() == []
    # What was begun was ended, not cut off.
    assert all(poll.ended - poll.began == pytest.approx(3.0) for poll in fleet_harness.polls[:-12])


async def test_what_a_replica_that_stops_lets_go_of_is_taken_though_one_of_its_shops_still_hangs(
    fleet_harness: FleetHarness,
) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one, two) == [6, 6]
        hangs = min(two.leads)
        fleet_harness.troubles[hangs] = 60.0
        await anyio.sleep(INTERVAL_S + 5)  # it is being asked
        two.stop.set()
        await anyio.sleep(3)
        assert two.leads == {hangs}
        assert shares(one) == [11]
        await anyio.sleep(5)
        assert shares(one, two) == [12, 0]
        fleet_harness.troubles.clear()
    assert fleet_harness.doubles() == []


async def test_redis_that_is_away_costs_no_more_than_its_time(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * INTERVAL_S)
        one.dead = two.dead = True  # it answers nobody
        await anyio.sleep(INTERVAL_S)
        assert shares(one, two) == [0, 0]  # nobody may write, for all they know
        one.dead = two.dead = False
        await anyio.sleep(PROMISE_S)
        assert shares(one, two) == [6, 6]
    assert fleet_harness.doubles() == []


async def test_a_replica_is_not_stuck_before_its_first_look(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat():
        one = fleet_harness.replica("one")
        assert (await one.health_reporter.health())["status"] == "healthy"
        assert (await one.health_reporter.readiness())["status"] == "not ready"


async def test_a_replica_that_has_not_seen_the_others_yet_is_not_ready(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one = fleet_harness.replica("one")
        one.dead = True  # Redis is away from the start
        launch(one)
        await anyio.sleep(INTERVAL_S)
        reason = "the state cannot be reached; the log says why"
        assert await one.health_reporter.readiness() == {"status": "not ready", "reason": reason}
        one.dead = False
        await anyio.sleep(INTERVAL_S)
        assert await one.health_reporter.readiness() == {"status": "ready", "shops": "12 of 12"}


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(slice(4), slice(12)), (slice(6), slice(6, 12)), (slice(8), slice(4, 12))],
    ids=["some are new", "two fleets with the same prefix", "each knows some that are new"],
)
async def test_a_shop_that_only_some_know_is_watched_by_one_of_those(
    fleet_harness: FleetHarness, ours: slice, theirs: slice
) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one", fleet_harness.shops[ours]))
        two = launch(fleet_harness.replica("two", fleet_harness.shops[theirs]))
        await anyio.sleep(2 * INTERVAL_S)
        assert one.leads | two.leads == {shop.shop for shop in fleet_harness.shops}
        before = set(one.leads)
        await anyio.sleep(2 * INTERVAL_S)
        assert one.leads == before  # nothing goes to and fro

        three = launch(fleet_harness.replica("three"))
        await anyio.sleep(2 * INTERVAL_S)
        one.stop.set()
        two.stop.set()
        four = launch(fleet_harness.replica("four"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(three, four) == [6, 6]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + PROMISE_S


async def test_what_was_taken_beyond_the_share_is_shared_out_anew_when_another_comes(
    fleet_harness: FleetHarness,
) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        two = launch(fleet_harness.replica("two", fleet_harness.shops[:1]))  # its file is an old one
        await anyio.sleep(2 * INTERVAL_S)
        assert len(one.leads) >= 11
        two.stop.set()
        two = launch(fleet_harness.replica("two, with the new file"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one, two) == [6, 6]


async def test_replicas_that_all_end_at_once_and_begin_anew_share_evenly(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        before = [launch(fleet_harness.replica(f"before {number}")) for number in range(4)]
        await anyio.sleep(2 * INTERVAL_S)
        for replica in before:
            replica.kill()
        after = [launch(fleet_harness.replica(f"after {number}")) for number in range(4)]
        await anyio.sleep(PROMISE_S)
        assert shares(*after) == [3, 3, 3, 3]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + PROMISE_S


async def test_redis_that_comes_back_empty_costs_no_shop_its_watch(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * INTERVAL_S)
        await FakeAsyncRedis(server=fleet_harness.server).flushall()
        await anyio.sleep(PROMISE_S)
        assert shares(one, two) == [6, 6]
        fleet_harness.fakes["shop-3"].put(7, "processing")
        await anyio.sleep(2 * INTERVAL_S)
        ended = anyio.current_time()
    assert fleet_harness.sinks["shop-3"].events() == [("7", "shop.order.new")]
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + PROMISE_S


@pytest.mark.parametrize("in_redis", [True, False])
async def test_bad_shops_harm_no_other(fleet_harness: FleetHarness, *, in_redis: bool) -> None:
    fleet_harness.in_redis = in_redis
    fleet_harness.troubles = {
        "shop-0": TemporaryError(ErrorKind.CONNECTION, "made up: gone"),
        "shop-1": PermanentError(ErrorKind.AUTHENTICATION, "made up: wrong keys"),
    }
    fleet_harness.broken = {
        "shop-2": PermanentError(ErrorKind.STORE, "made up: damaged"),
        "shop-3": RuntimeError("made up: a bug"),
    }
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(20 * INTERVAL_S)
        gaps = fleet_harness.gaps(20 * INTERVAL_S)
        assert len(one.leads) == 10
        assert (await one.health_reporter.health())["status"] == "healthy"
        shown = (await one.health_reporter.exposition()).decode()
        fleet_harness.broken.clear()
        await anyio.sleep(60)
        assert len(one.leads) == 12  # it was tried again
    assert max(gap for shop, gap in gaps.items() if shop > "shop-3" or len(shop) > 6) < INTERVAL_S + 1
    assert "shop_fleet_unwell_shops 4.0" in shown  # those that cannot be begun, too
    assert [type_ for _, type_ in fleet_harness.sinks["shop-1"].events()] == ["service.unhealthy"]


async def test_a_store_that_cannot_be_counted_ends_no_watch_and_is_told_once(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RedisStore.stats

    async def odd(self: RedisStore, shop: str) -> Stats:
        if shop == "shop-3":
            raise ValueError("made up: a row that nobody wrote")
        return await real(self, shop)

    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        with structlog.testing.capture_logs() as logs:
            monkeypatch.setattr(RedisStore, "stats", odd)
            await anyio.sleep(3 * SURVEY_S)
            monkeypatch.setattr(RedisStore, "stats", real)
            await anyio.sleep(SURVEY_S)
        assert len(one.leads) == 12
        ended = anyio.current_time()
    assert [log["shop"] for log in logs if log["log_level"] == "error"] == ["shop-3"]
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + 1


async def test_a_bug_in_looking_about_costs_no_shop_its_watch_and_is_told_once(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = RedisMembership.leased

    async def odd(*_: object) -> list[bool]:
        raise ValueError("made up")

    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        with structlog.testing.capture_logs() as logs:
            monkeypatch.setattr(RedisMembership, "leased", odd)
            await anyio.sleep(3 * INTERVAL_S)
            monkeypatch.setattr(RedisMembership, "leased", real)
        two = launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * INTERVAL_S)
        assert shares(one, two) == [6, 6]
        ended = anyio.current_time()
    assert [log["error"] for log in logs if log["log_level"] == "error"] == ["made up"]
    assert max(fleet_harness.gaps(ended).values()) < INTERVAL_S + PROMISE_S


async def test_a_full_disk_at_the_first_opening_is_told_and_the_shop_is_watched_once_there_is_room(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet_harness.in_redis, real, is_full = False, os.pwrite, True

    def write(descriptor: int, data: bytes, offset: int) -> int:
        if is_full and str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith("/shop-3.db.lock"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", write)
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        with structlog.testing.capture_logs() as logs:
            await anyio.sleep(100)
        assert len(one.leads) == 11
        expected = {"status": "healthy", "shops": "11 of 12", "not_watched": "shop-3"}
        assert await one.health_reporter.health() == expected
        await one.health_reporter.exposition()
        assert one.metrics_registry.registry.get_sample_value("shop_fleet_unwell_shops") == 1
        errors = [str(log["error"]) for log in logs if log["log_level"] == "error"]
        assert len(errors) == 1
        assert "No space left" in errors[0]
        is_full = False
        await anyio.sleep(60)
        assert len(one.leads) == 12
        assert await one.health_reporter.health() == {"status": "healthy", "shops": "12 of 12"}


async def test_when_no_shop_at_all_is_polled_the_fleet_is_unhealthy(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        fleet_harness.troubles = {
            s.shop: TemporaryError(ErrorKind.CONNECTION, "made up") for s in fleet_harness.shops
        }
        await anyio.sleep(400)
        assert await one.health_reporter.health() == {"status": "unhealthy", "reason": "no shop is polled"}


async def test_shops_that_cannot_be_begun_are_unwell_as_soon_as_they_could_have_been(
    fleet_harness: FleetHarness,
) -> None:
    async def unwell() -> tuple[str, float | None]:
        await one.health_reporter.exposition()
        counted = one.metrics_registry.registry.get_sample_value("shop_fleet_unwell_shops")
        return (await one.health_reporter.health())["status"], counted

    fleet_harness.broken = {
        shop.shop: PermanentError(ErrorKind.STORE, "made up: damaged") for shop in fleet_harness.shops
    }
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(60)
        assert await unwell() == ("healthy", 0)
        await anyio.sleep(60)
        assert await unwell() == ("unhealthy", 12)
        del fleet_harness.broken["shop-3"]
        await anyio.sleep(60)
        assert await unwell() == ("healthy", 11)
        fleet_harness.broken.clear()
        await anyio.sleep(60)
        assert await unwell() == ("healthy", 0)


async def test_after_a_long_outage_shops_of_a_long_interval_are_polled_soon_and_nobody_is_unwell(
    fleet_harness: FleetHarness,
) -> None:
    fleet_harness.shops = shops(12, shop_polling_interval=3600)
    async with fleet_harness.afloat() as launch:
        before = launch(fleet_harness.replica("before"))
        await anyio.sleep(70)
        assert {poll.shop for poll in fleet_harness.polls} == {shop.shop for shop in fleet_harness.shops}
        before.kill()
        await anyio.sleep(4 * 3600)
        since = anyio.current_time()
        after = launch(fleet_harness.replica("after"))
        for _ in range(90):
            await anyio.sleep(1)
            assert (await after.health_reporter.health())["status"] == "healthy"
            await after.health_reporter.exposition()
            assert after.metrics_registry.registry.get_sample_value("shop_fleet_unwell_shops") == 0
    began = [
        min(
            poll.began - since
            for poll in fleet_harness.polls
            if poll.shop == shop.shop and poll.began > since
        )
        for shop in fleet_harness.shops
    ]
    assert max(began) < 62
    assert max(sum(int(at / 6) == tenth for at in began) for tenth in range(11)) <= 4  # no stampede


async def test_slow_shops_wait_for_one_another_and_nobody_waits_for_them(fleet_harness: FleetHarness) -> None:
    """Four turns, one of them for those that are slow; six that hang would fill all of them."""
    fleet_harness.in_redis, fleet_harness.most = False, 4
    slow = [f"shop-{number}" for number in range(6)]

    async with fleet_harness.afloat() as launch:
        launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        fleet_harness.troubles = {shop: TemporaryError(ErrorKind.TIMEOUT, "made up") for shop in slow}
        since = anyio.current_time()
        await anyio.sleep(20 * INTERVAL_S)
        gaps = fleet_harness.gaps(anyio.current_time(), since)
    assert all(any(p.shop == shop and p.began > since + 100 for p in fleet_harness.polls) for shop in slow)
    well = [shop.shop for shop in fleet_harness.shops if shop.shop not in slow]
    assert max(gaps[shop] for shop in well) < INTERVAL_S + 5


async def test_a_host_of_many_shops_that_begins_to_hang_holds_up_none_of_the_others(
    fleet_harness: FleetHarness,
) -> None:
    """Thirty of eighty; eight turns, two of them for those that are known to be slow."""
    fleet_harness.shops = shops(80, shop_polling_interval=60)
    fleet_harness.in_redis, fleet_harness.most = False, 8
    async with fleet_harness.afloat() as launch:
        launch(fleet_harness.replica("one"))
        await anyio.sleep(120)
        hang = {f"shop-{number}" for number in range(30)}
        fleet_harness.troubles = {shop: TemporaryError(ErrorKind.TIMEOUT, "made up") for shop in hang}
        since = anyio.current_time()
        await anyio.sleep(600)
        gaps = fleet_harness.gaps(anyio.current_time(), since)
    assert max(gap for shop, gap in gaps.items() if shop not in hang) < 60 + 5


@pytest.mark.parametrize(
    ("most", "expected"), [(1, [0, 5, 10, 15]), (3, [0, 0, 0, 5]), (4, [0, 0, 0, PATIENCE_S])]
)
async def test_a_shop_that_hangs_keeps_its_slot_only_where_there_are_none_for_slow_shops(
    most: int, expected: list[float]
) -> None:
    limiter, began = PollLimiter(most, lambda _: None), list[float]()
    since = anyio.current_time()

    async def ask(seconds: float) -> None:
        async with limiter.slot(slow=False):
            began.append(anyio.current_time() - since)
            await anyio.sleep(seconds)

    for _ in range(2):  # each turn was given back once
        since = anyio.current_time()
        began.clear()
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(ask, 5.0)
        assert began == expected


async def test_no_more_shops_are_polled_at_once_than_there_are_slots(fleet_harness: FleetHarness) -> None:
    fleet_harness.in_redis, fleet_harness.most = False, 1
    fleet_harness.troubles = {shop.shop: 4.0 for shop in fleet_harness.shops}  # more than there is time for
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(10 * INTERVAL_S)
        late = one.metrics_registry.registry.get_sample_value("shop_fleet_poll_lateness_seconds_sum")
    polls = sorted(fleet_harness.polls, key=lambda poll: poll.began)
    assert all(one.ended <= other.began for one, other in pairwise(polls))
    assert late is not None
    assert late > 10 * INTERVAL_S  # waiting counts


async def test_a_shop_that_went_to_another_replica_is_shown_by_that_one_only(
    fleet_harness: FleetHarness,
) -> None:
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(2 * INTERVAL_S)
        two = launch(fleet_harness.replica("two"))
        await anyio.sleep(2 * INTERVAL_S)
        for replica in (one, two):
            shown = (await replica.health_reporter.exposition()).decode()
            named = {
                shop.shop for shop in fleet_harness.shops if f'shop_lease_held{{shop="{shop.shop}"}}' in shown
            }
            assert named == replica.leads
            assert "shop_fleet_replicas 2.0" in shown
            assert f"shop_fleet_watched_shops {len(named)}.0" in shown


async def test_a_shop_that_goes_while_it_is_counted_is_not_shown_again(
    fleet_harness: FleetHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, answered = RedisStore.stats, anyio.Event()
    goes = to_give("one", ["one", "two"], shops=12, mine=[shop.shop for shop in fleet_harness.shops])[0]

    async def slow(self: RedisStore, shop: str) -> Stats:
        stats = await real(self, shop)
        if shop == goes and ABOARD.get().name == "one":
            await answered.wait()
        return stats

    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(INTERVAL_S)
        monkeypatch.setattr(RedisStore, "stats", slow)
        await anyio.sleep(2 * SURVEY_S)
        two = launch(fleet_harness.replica("two"))
        await anyio.sleep(INTERVAL_S)
        assert goes in two.leads
        answered.set()
        await anyio.sleep(1)
        assert f'shop="{goes}"' not in (await one.health_reporter.exposition()).decode()
        assert f'shop="{goes}"' in (await two.health_reporter.exposition()).decode()


async def test_the_series_of_a_crowd_are_bounded(fleet_harness: FleetHarness) -> None:
    fleet_harness.crowded, fleet_harness.in_redis = True, False
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(3 * INTERVAL_S)
        fleet_harness.fakes["shop-3"].put(7, "processing")
        await anyio.sleep(3 * INTERVAL_S)
        shown = (await one.health_reporter.exposition()).decode()
    of_one = [line for line in shown.splitlines() if 'shop="shop-3"' in line]
    assert len(of_one) == 5
    assert 'shop_notifications_sent_total{event_type="shop.order.new",shop="*",sink="*"} 1.0' in shown


class SlowCluster(RedisCluster):
    """Answers each command after 10 ms, or refuses."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.refuses = ""

    async def execute_command(self, *args: Any, **_: Any) -> Any:
        _, key = args
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await anyio.sleep(0.01)
        finally:
            self.under_way -= 1
        if key == self.refuses:
            raise RedisConnectionError("made up: gone")
        return "somebody" if "-7:" in key else None


async def test_on_a_cluster_leases_are_read_some_at_a_time() -> None:
    slow, prefixes = SlowCluster(), [f"{{shop-{number}:}}polling:" for number in range(1000)]
    membership = RedisMembership(
        ADDRESS, ConnectionPool(slow, CONNECTIONS), prefix="{shop:}polling:", name="a/1"
    )
    with anyio.fail_after(STAY_S / 4):  # one after the other it would be ten seconds, and the replica gone
        assert await membership.leased(prefixes) == [number == 7 for number in range(1000)]
    assert slow.most < CONNECTIONS // 2
    slow.refuses = Keys(prefixes[500], "").lease
    with pytest.raises(TemporaryError, match="made up: gone"):
        await membership.leased(prefixes)
    assert slow.under_way == 0
