"""Replicas that reach Redis but not their shops, in virtual time: others that reach the shops take them."""

from itertools import pairwise
from pathlib import Path

import anyio
import pytest
import structlog

from shop_poller.config.settings import Settings
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.reach import PROBE_EVERY_S, Polls, Probe
from shop_poller.runtime.egress import Egress
from support.fleet_harness import FleetHarness, Replica, in_virtual_time, shops

pytestmark = pytest.mark.anyio

INTERVAL_S = 20.0
MOVED_S = 45.0
"""After refused connections another replica polls the shop so long after its interval."""

NO_NAME = TemporaryError(ErrorKind.CONNECTION, "made up: Name or service not known")
PROXY_DOWN = TemporaryError(ErrorKind.CONNECTION, "made up: the proxy does not answer")
INTERCEPTED = TemporaryError(ErrorKind.CONNECTION, "made up: CERTIFICATE_VERIFY_FAILED")
DROPPED = TemporaryError(ErrorKind.TIMEOUT, "made up: no answer in time")
TOO_MANY = TemporaryError(ErrorKind.RATE_LIMIT, "made up: 429")
WALL = TemporaryError(ErrorKind.PROTOCOL, "made up: Sucuri blocks us")


@pytest.fixture
def fleet_harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FleetHarness:
    made = FleetHarness(tmp_path, shops(4))
    in_virtual_time(monkeypatch, made)
    return made


def shares(*replicas: Replica) -> list[int]:
    return [len(replica.leads) for replica in replicas]


@pytest.mark.parametrize(
    ("error", "longest_s"),
    [
        (NO_NAME, INTERVAL_S + MOVED_S),
        pytest.param(PROXY_DOWN, INTERVAL_S + MOVED_S, marks=pytest.mark.soak),
        pytest.param(INTERCEPTED, INTERVAL_S + MOVED_S, marks=pytest.mark.soak),
        (DROPPED, INTERVAL_S + 75),
        (TOO_MANY, INTERVAL_S + 190),
        pytest.param(WALL, INTERVAL_S + 75, marks=pytest.mark.soak),
    ],
    ids=["no name", "proxy", "interception", "dropped", "429", "wall"],
)
async def test_shops_go_to_the_replica_that_reaches_them_and_come_back(
    fleet_harness: FleetHarness, error: ShopPollerError, longest_s: float
) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        assert shares(one, two) == [2, 2]
        since = anyio.current_time()
        fleet_harness.egress["one", "*"] = error
        await anyio.sleep(longest_s)
        assert shares(one, two) == [0, 4]
        assert await one.health_reporter.readiness() == {
            "status": "not ready",
            "reason": "no shop can be reached from here; the log says why",
        }
        assert (await two.health_reporter.readiness())["status"] == "ready"
        await anyio.sleep(300)
        assert shares(one, two) == [0, 4]
        assert fleet_harness.moves(since) == 2
        await one.health_reporter.exposition()
        read = one.metrics_registry.registry.get_sample_value
        assert read("shop_fleet_unreached_shops") == 2
        assert read("shop_fleet_released_shops_total") == 2

        fleet_harness.egress.clear()
        await anyio.sleep(6 * PROBE_EVERY_S)
        assert shares(one, two) == [2, 2]
        assert (await one.health_reporter.readiness())["status"] == "ready"
        assert fleet_harness.moves(since) == 4
        ended = anyio.current_time()
    assert max(fleet_harness.unreached(ended, since).values()) < longest_s
    assert fleet_harness.doubles() == []


async def test_only_the_shop_that_one_replica_does_not_reach_moves(fleet_harness: FleetHarness) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        shop = min(one.leads)
        since = anyio.current_time()
        fleet_harness.egress["one", shop] = NO_NAME
        with structlog.testing.capture_logs() as logs:
            await anyio.sleep(300)
        assert shop in two.leads
        assert shares(one, two) == [1, 3]
        assert await one.health_reporter.readiness() == {
            "status": "ready",
            "shops": "1 of 4",
            "unreached": "1",
        }
        assert fleet_harness.moves(since) == 1
        fleet_harness.egress.clear()
        await anyio.sleep(6 * PROBE_EVERY_S)
        assert shares(one, two) == [2, 2]
        ended = anyio.current_time()
    told = [log for log in logs if log["event"].startswith("the shop cannot be reached from here")]
    assert [(log["shop"], log["error_type"]) for log in told] == [(shop, ErrorKind.CONNECTION)]
    assert max(fleet_harness.unreached(ended, since).values()) < INTERVAL_S + MOVED_S
    assert fleet_harness.doubles() == []


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NO_NAME, marks=pytest.mark.soak),
        DROPPED,
        pytest.param(WALL, marks=pytest.mark.soak),
    ],
    ids=["no name", "dropped", "wall"],
)
async def test_shops_that_no_replica_reaches_do_not_go_to_and_fro(
    fleet_harness: FleetHarness, error: ShopPollerError
) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        fleet_harness.egress = {("one", "*"): error, ("two", "*"): error}
        await anyio.sleep(200)
        since = anyio.current_time()
        await anyio.sleep(700)
        assert fleet_harness.moves(since) == 0
        assert sum(shares(one, two)) == 4
        fleet_harness.egress.clear()
        back = anyio.current_time()
        await anyio.sleep(400)
        assert shares(one, two) == [2, 2]
        ended = anyio.current_time()
    assert max(fleet_harness.unreached(ended, back).values()) < 65  # a breaker's wait
    assert fleet_harness.doubles() == []


async def test_a_shop_that_is_down_for_all_is_tried_by_each_once_and_stays(
    fleet_harness: FleetHarness,
) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        since = anyio.current_time()
        shop = min(one.leads)
        fleet_harness.troubles[shop] = NO_NAME
        await anyio.sleep(700)
        assert fleet_harness.moves(since) == 1
        assert (await one.health_reporter.readiness())["status"] == "ready"
        assert (await two.health_reporter.readiness())["status"] == "ready"
        fleet_harness.troubles.clear()
        await anyio.sleep(400)
        assert shares(one, two) == [2, 2]
        ended = anyio.current_time()
    assert (
        max(gap for name, gap in fleet_harness.unreached(ended, since).items() if name != shop)
        < INTERVAL_S + 15
    )


async def test_a_replica_whose_only_shop_is_down_still_takes_others(fleet_harness: FleetHarness) -> None:
    fleet_harness.shops = shops(2)
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        assert shares(one, two) == [1, 1]
        fleet_harness.troubles[min(one.leads)] = NO_NAME
        await anyio.sleep(300)
        assert (await one.health_reporter.readiness())["status"] == "ready"  # it reached the other one
        two.kill()
        await anyio.sleep(60)
        assert shares(one) == [2]


@pytest.mark.parametrize(
    "error",
    [
        PermanentError(ErrorKind.AUTHENTICATION, "made up: wrong keys"),
        pytest.param(TemporaryError(ErrorKind.UNAVAILABLE, "made up: maintenance"), marks=pytest.mark.soak),
        pytest.param(TemporaryError(ErrorKind.SERVER, "made up: a PHP fatal"), marks=pytest.mark.soak),
        pytest.param(PermanentError(ErrorKind.NOT_FOUND, "made up: 404"), marks=pytest.mark.soak),
    ],
    ids=["keys", "maintenance", "fatal", "404"],
)
async def test_what_every_replica_would_be_told_moves_no_shop(
    fleet_harness: FleetHarness, error: ShopPollerError
) -> None:
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        since = anyio.current_time()
        fleet_harness.egress["one", "*"] = error
        await anyio.sleep(600)
        assert shares(one, two) == [2, 2]
        assert fleet_harness.moves(since) == 0
        assert (await one.health_reporter.readiness())["status"] == "ready"


@pytest.mark.parametrize("in_redis", [True, False])
async def test_an_only_replica_keeps_its_shops_and_says_so(
    fleet_harness: FleetHarness, *, in_redis: bool
) -> None:
    fleet_harness.in_redis = in_redis
    async with fleet_harness.afloat() as launch:
        one = launch(fleet_harness.replica("one"))
        await anyio.sleep(3 * INTERVAL_S)
        fleet_harness.egress["one", "*"] = NO_NAME
        await anyio.sleep(200)
        assert shares(one) == [4]
        assert (await one.health_reporter.readiness())["status"] == "not ready"
        assert fleet_harness.probes == []
        fleet_harness.egress.clear()
        await anyio.sleep(100)
        assert (await one.health_reporter.readiness())["status"] == "ready"
        assert shares(one) == [4]


async def test_a_connection_that_comes_and_goes_moves_shops_ever_more_rarely(
    fleet_harness: FleetHarness,
) -> None:
    """Up for as long as it takes to be given shops again, then down: each time it is trusted later."""
    async with fleet_harness.afloat() as launch:
        one, _ = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        since = anyio.current_time()
        while anyio.current_time() < since + 1800:
            if one.leads:
                fleet_harness.egress["one", "*"] = NO_NAME
            else:
                fleet_harness.egress.clear()
            await anyio.sleep(5)
        assert fleet_harness.moves(since) <= 5 * 4
    assert fleet_harness.doubles() == []


async def test_of_three_replicas_the_two_that_reach_the_shops_share_them(fleet_harness: FleetHarness) -> None:
    fleet_harness.shops = shops(6)
    async with fleet_harness.afloat() as launch:
        one, two, three = (launch(fleet_harness.replica(name)) for name in ("one", "two", "three"))
        await anyio.sleep(3 * INTERVAL_S)
        assert shares(one, two, three) == [2, 2, 2]
        fleet_harness.egress["one", "*"] = NO_NAME
        await anyio.sleep(120)
        assert shares(one, two, three) == [0, 3, 3]
        two.kill()
        await anyio.sleep(60)
        assert shares(one, three) == [0, 6]
        ended = anyio.current_time()
    assert fleet_harness.doubles() == []
    assert max(fleet_harness.unreached(ended).values()) < INTERVAL_S + MOVED_S


async def test_a_replica_whose_report_has_expired_is_trusted_again(
    fleet_harness: FleetHarness,
) -> None:
    """Who made the report was killed; the shops that it did not reach are taken by whoever comes."""
    async with fleet_harness.afloat() as launch:
        one, two = launch(fleet_harness.replica("one")), launch(fleet_harness.replica("two"))
        await anyio.sleep(3 * INTERVAL_S)
        fleet_harness.egress["one", "*"] = NO_NAME
        await anyio.sleep(120)
        one.kill()
        again = launch(fleet_harness.replica("one again"))
        await anyio.sleep(60)
        assert shares(again, two) == [2, 2]


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.RATE_LIMIT])
async def test_a_released_shop_that_requested_a_pause_is_not_polled_before_its_end(kind: ErrorKind) -> None:
    """It may ask so after it was found to be unreachable, while it is still polled from here."""
    one, other = shops(2)
    requested: list[tuple[float, str]] = []

    async def ask(shop: Settings) -> Probe:
        requested.append((anyio.current_time(), shop.shop))
        return Probe(is_reached=False)

    egress = Egress({one.shop: one, other.shop: other}, ask)
    lost = Polls(failures=3, kind=kind)
    egress.update({one.shop: lost, other.shop: lost})
    assert egress.is_cut_off
    until = anyio.current_time() + 400
    egress.update(
        {one.shop: Polls(failures=4, kind=ErrorKind.RATE_LIMIT, not_before=until), other.shop: lost}
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(egress.probe, tuple, lambda: {one.shop, other.shop})
        await anyio.sleep(1000)
        tasks.cancel_scope.cancel()
    assert {shop for _, shop in requested} == {one.shop, other.shop}
    assert min(at for at, shop in requested if shop == one.shop) >= until
    assert min(at for at, shop in requested if shop == other.shop) < until


@pytest.mark.parametrize("kind", [ErrorKind.CONNECTION, ErrorKind.RATE_LIMIT])
async def test_a_shop_that_answers_a_probe_with_a_pause_is_not_probed_before_its_end(kind: ErrorKind) -> None:
    (shop,) = shops(1)
    requested: list[float] = []

    async def ask(_: Settings) -> Probe:
        requested.append(anyio.current_time())
        return Probe(is_reached=False, pause_s=700.0)

    egress = Egress({shop.shop: shop}, ask)
    egress.update({shop.shop: Polls(failures=3, kind=kind)})
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(egress.probe, tuple, lambda: {shop.shop})
        await anyio.sleep(3000)
        tasks.cancel_scope.cancel()
    assert len(requested) >= 3
    assert min(later - earlier for earlier, later in pairwise(requested)) >= 700
