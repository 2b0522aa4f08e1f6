"""The times of the ability `woocommerce/orders-query`: every order is read in any time zone."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shop_poller.core.cursor import CreatedWalk, created_walk
from shop_poller.core.model import Query
from shop_poller.sources.woocommerce.abilities import Abilities
from shop_poller.sources.woocommerce.ability_query import parameters
from shop_poller.sources.woocommerce.dialects import Dialect
from support import wire
from support.ability_shop import AbilityShop, raw
from support.mcp_peer import ADDRESSES
from support.scripted_shop import ScriptedShop, scripted_shop

pytestmark = pytest.mark.anyio

ZONES = ["UTC", "America/New_York", "Europe/Moscow", "Asia/Kathmandu", "Pacific/Kiritimati", "Etc/GMT+12"]
RECORDED = [
    "abilities-date_after-Z-utc+3",
    "abilities-date_before-Z-utc+3",
    "abilities-date_before-naive-utc+3",
]


@pytest.fixture
def peer() -> Iterator[ScriptedShop]:
    with scripted_shop(ADDRESSES[Dialect.ABILITIES]) as peer:
        yield peer


@pytest.fixture
async def source(peer: ScriptedShop) -> AsyncIterator[Abilities]:
    source = Abilities(peer.url, username="watchman", password="abcd EFGH 1234 ijkl MNOP 5678")
    yield source
    await source.aclose()


def text(instant: datetime) -> str:
    return f"{instant:%FT%T}"


def stock(peer: ScriptedShop, zone: str, instants: list[datetime]) -> AbilityShop:
    """A shop in a zone with an order made at each instant, and modified a day later."""
    shop = AbilityShop.of(
        raw(n, text(at + timedelta(days=1)), created=text(at)) for n, at in enumerate(instants, 1)
    )
    shop.zone = ZoneInfo(zone)
    peer.on_call(shop.reply)
    return shop


async def ids(source: Abilities, query: Query) -> list[int]:
    return [item.id for item in (await source.fetch(query)).items]


@pytest.mark.parametrize("name", RECORDED)
def test_the_shop_of_these_tests_reads_times_as_the_recorded_one(name: str) -> None:
    """The oldest and the newest order that it shows lie where the recording shows them."""
    exchange = wire.load(f"2026-11/{name}")
    requested = exchange.request.json()["params"]["arguments"]["parameters"]
    listed = exchange.response.json()["result"]["structuredContent"]["data"]["orders"]
    stamps = [wire_order["date_created_gmt"] for wire_order in listed]
    # Orders of the recorded shop, and one an hour after the bound.
    known = ["2026-11-30T09:09:12", "2026-11-30T09:55:48", "2026-11-30T10:09:13"]
    shop = AbilityShop.of(
        raw(n, stamp, created=stamp, status="completed") for n, stamp in enumerate(known, 1)
    )
    shop.zone = ZoneInfo("Europe/Moscow")
    shown = {order["date_created_gmt"] for order in shop.matching(requested)}
    if stamps:
        newest = max(stamp for stamp in shown if stamp in known[:2])
        assert newest == stamps[0]
    else:
        assert shown == set()


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize("per_page", [3, 20, 100])
async def test_a_walk_through_the_past_reads_every_order_of_its_time(
    peer: ScriptedShop, source: Abilities, zone: str, per_page: int
) -> None:
    """As the sweep, the backfill and the audit walk: both bounds are given, and orders lie on them."""
    since, before = datetime(2026, 3, 7, tzinfo=UTC), datetime(2026, 3, 10, tzinfo=UTC)
    instants = [since + timedelta(minutes=20 * n) for n in range(-60, 280)]
    shop = stock(peer, zone, instants)
    wanted = {n for n, at in enumerate(instants, 1) if since < at < before}
    read: list[int] = []
    walk: CreatedWalk | None = replace(created_walk(since=since, before=before), per_page=per_page)
    while walk is not None:
        page = await source.fetch(walk.query())
        read += [item.id for item in page.items]
        walk = walk.advance(page)
    assert set(read) == wanted
    assert len(shop.requested) < 2 + 2 * len(wanted) / per_page + 10


@pytest.mark.parametrize("zone", ZONES)
async def test_the_import_reads_every_open_order_before_its_bound(
    peer: ScriptedShop, source: Abilities, zone: str
) -> None:
    before = datetime(2026, 11, 1, 6, tzinfo=UTC)  # amid the night in which New York turns its clocks back
    instants = [before + timedelta(minutes=10 * n) for n in range(-90, 90)]
    stock(peer, zone, instants)
    query = Query(per_page=100, newest_first=True, created_before=before, statuses=("processing",))
    assert await ids(source, query) == [n for n, at in reversed(list(enumerate(instants, 1))) if at < before]


CHANGES = [
    ("America/New_York", datetime(2026, 3, 8, 7, tzinfo=UTC)),
    ("America/New_York", datetime(2026, 11, 1, 6, tzinfo=UTC)),
    ("Europe/Berlin", datetime(2026, 10, 25, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2026, 4, 4, 15, tzinfo=UTC)),
]


@pytest.mark.parametrize(("zone", "change"), CHANGES)
@pytest.mark.parametrize("minutes", range(-90, 91, 30))
async def test_a_bound_around_a_change_of_the_clocks_is_exact(
    peer: ScriptedShop, source: Abilities, zone: str, change: datetime, minutes: int
) -> None:
    bound = change + timedelta(minutes=minutes)
    instants = [change + timedelta(minutes=5 * n) for n in range(-40, 41)]
    stock(peer, zone, instants)
    earlier = await ids(source, Query(per_page=100, newest_first=True, created_before=bound))
    later = await ids(source, Query(per_page=100, newest_first=True, created_after=bound))
    assert sorted(earlier) == [n for n, at in enumerate(instants, 1) if at < bound]
    assert sorted(later) == [n for n, at in enumerate(instants, 1) if at > bound]
    modified = await ids(source, Query(per_page=100, modified_after=bound + timedelta(days=1)))
    assert modified == [n for n, at in enumerate(instants, 1) if at > bound]


@pytest.mark.parametrize("zone", ZONES)
async def test_the_second_of_the_upper_bound_is_left_out_although_the_shop_includes_it(
    peer: ScriptedShop, source: Abilities, zone: str
) -> None:
    start = datetime(2026, 11, 30, 12, tzinfo=UTC)
    shop = stock(peer, zone, [start + timedelta(seconds=n) for n in range(10)])
    query = Query(
        per_page=2,
        newest_first=True,
        created_after=start,
        created_before=start + timedelta(seconds=5),
    )
    for _ in range(3):
        page = await source.fetch(query)
        assert [item.id for item in page.items] == [5, 4]
        assert page.total_pages == 2  # of the four between the bounds
    assert len(shop.requested) == 4  # it is found out once


async def test_a_shop_that_leaves_it_out_is_queried_as_it_is(peer: ScriptedShop, source: Abilities) -> None:
    """Should another version mean the bound as it says."""
    start = datetime(2026, 11, 30, 12, tzinfo=UTC)
    shop = stock(peer, "UTC", [start + timedelta(seconds=n) for n in range(10)])
    usual = shop.matching
    before = start + timedelta(seconds=5)
    shop.matching = lambda requested: [  # type: ignore[method-assign]
        order for order in usual(requested) if order["date_created_gmt"] < text(before)
    ]
    query = Query(per_page=9, newest_first=True, created_after=start, created_before=before)
    assert await ids(source, query) == [5, 4, 3, 2]
    assert len(shop.requested) == 1


def test_each_time_is_written_in_its_own_way() -> None:
    instant = datetime.fromisoformat("2026-11-30T12:09:13.900+03:00")
    requested = parameters(
        Query(per_page=1, modified_after=instant, created_after=instant, created_before=instant)
    )
    assert requested["modified_after"] == "2026-11-30T09:09:13Z"
    assert requested["date_after"] == requested["date_before"] == "2026-11-30T09:09:13"
