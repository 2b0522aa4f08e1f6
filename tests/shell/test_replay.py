"""What a replay chooses, in which commits it goes, and how it goes on when it was cut off."""

from datetime import timedelta

import pytest

from shop_poller.cli import replay
from shop_poller.cli.dead_letter_moves import AT_ONCE
from shop_poller.cli.replay import ReplayFilter
from shop_poller.clock import now
from shop_poller.config.settings import Settings
from shop_poller.ports import Ack, FinishedDelivery
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import T0, batch, claim, ids, new_delivery, notification

pytestmark = pytest.mark.anyio

SHOP = "shop.example"
LONG_AGO = T0 - timedelta(days=900)


async def deliver(store: SqliteStore, *places: str) -> None:
    """Deliver one event to each: "A1" is of order 1 to the sink A, "A1/0" the first of several."""
    for place in places:
        await store.commit(
            SHOP, batch(new_delivery(place[0], notification(place[1:].partition("/")[0], place)))
        )
        await deliver_waiting(store, place[0])


async def deliver_waiting(store: SqliteStore, *sinks: str) -> list[str]:
    order = []
    for sink in sinks:
        while some := await claim(store, sink, now=now() + timedelta(seconds=1)):
            await store.record_outcomes([Ack(one) for one in some], now() - timedelta(milliseconds=1))
            order += ids(some)
    return order


def names(again: list[FinishedDelivery]) -> list[str]:
    return [one.event_id for one in again]


async def find(settings: Settings, **choice: str) -> replay.FoundDeliveries:
    return await replay.find(settings, ReplayFilter(LONG_AGO, **choice))  # type: ignore[arg-type] # sink and event


async def test_all_that_fits_is_chosen_and_only_for_sinks_that_there_are(
    settings: Settings, store: SqliteStore
) -> None:
    await deliver(store, "A1", "B1", "C1", "A2")
    found = await find(settings)
    assert (names([*found.again]), found.bare, found.orphans) == (["A1", "B1", "A2"], 0, ["C"])
    found = await find(settings, sink="B")
    assert (names([*found.again]), found.orphans) == (["B1"], [])
    found = await find(settings, sink="D")
    assert (found.again, found.orphans) == ([], ["D"])
    assert names([*(await find(settings, event="new")).again]) == ["A1", "B1", "A2"]
    assert (await find(settings, event="shop.order.cancelled")).again == []
    assert (await find(settings, event="service.*")).again == []
    with pytest.raises(
        replay.UnknownEventError, match=r"there is no event .news.; there are .*shop\.order\.new"
    ):
        await find(settings, event="news")


async def test_an_event_that_settings_name_no_longer_can_be_chosen(
    settings: Settings, store: SqliteStore
) -> None:
    await deliver(store, "A1")
    await store._connection.run(
        lambda db: db.execute("UPDATE delivered SET event_type = 'shop.order.packed'")
    )
    assert names([*(await find(settings, event="packed")).again]) == ["A1"]


async def test_what_has_no_text_is_counted_of_sinks_that_there_are(
    settings: Settings, store: SqliteStore
) -> None:
    await deliver(store, "A1", "B1", "C1")
    await store._connection.run(lambda db: db.execute("UPDATE delivered SET body = NULL"))
    await deliver(store, "A2")
    found = await find(settings)
    assert (names([*found.again]), found.bare) == (["A2"], 2)
    assert (await find(settings, sink="A")).bare == 1


async def test_the_future_is_not_chosen(settings: Settings, store: SqliteStore) -> None:
    await deliver(store, "A1")
    early = (await store.finished(SHOP, dead=False, limit=1))[0].at
    later = early + timedelta(days=1)
    found = await replay.find(settings, ReplayFilter(early, later))
    assert names([*found.again]) == ["A1"]
    assert found.before < later, "who goes on with it chooses nothing that was sent meanwhile"
    assert (await replay.find(settings, ReplayFilter(LONG_AGO, early))).again == []


def finished(*places: str) -> list[FinishedDelivery]:
    return [
        FinishedDelivery(n, place[0], place[1:], f"event {n}", "shop.order.new", 0, T0)
        for n, place in enumerate(places)
    ]


def test_what_belongs_to_an_order_is_in_one_batch_and_in_order() -> None:
    again = finished("A1", "A2", "B1", "A1", "A3", "A2", "B1")
    assert [*replay.batches(again, most=3)] == [[0, 3], [1, 5], [2, 6, 4]]
    assert [*replay.batches(again, most=100)] == [[0, 3, 1, 5, 2, 6, 4]]
    assert [*replay.batches([])] == []


def test_a_batch_is_bounded_even_for_a_key_with_very_many() -> None:
    again = finished(*("A1",) * 5, "A2")
    assert [*replay.batches(again, most=2)] == [[0, 1], [2, 3], [4, 5]]


async def test_who_was_cut_off_goes_on_and_nothing_is_lost_or_doubled_or_out_of_order(
    settings: Settings, store: SqliteStore
) -> None:
    everything = [f"A{order}/{n}" for n in range(3) for order in range(150)]
    await deliver(store, *everything)
    commits = 0

    def cut(_meant: int, _put: int) -> None:
        nonlocal commits
        commits += 1
        if commits == 2:
            raise KeyboardInterrupt

    first = await find(settings)
    with pytest.raises(KeyboardInterrupt):
        await replay.put_back(settings, first.again, cut)
    sent = await deliver_waiting(store, "A")
    assert 0 < len(sent) < len(everything)

    second = await replay.find(settings, ReplayFilter(LONG_AGO, first.before))
    counts: list[tuple[int, int]] = []
    await replay.put_back(settings, second.again, lambda meant, put: counts.append((meant, put)))
    assert all(meant == put <= AT_ONCE for meant, put in counts)
    sent += await deliver_waiting(store, "A")
    assert sorted(sent) == sorted(everything)
    for order in range(150):
        assert [one for one in sent if one.startswith(f"A{order}/")] == [f"A{order}/{n}" for n in range(3)]
    assert len(await store.finished(SHOP, dead=False, limit=1000)) == len(everything)
