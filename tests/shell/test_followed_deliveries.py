"""Following deliveries, in virtual time: each is told once, however many there are at once."""

from collections.abc import Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import anyio
import pytest

from shop_poller.cli import deliveries
from shop_poller.cli.dead_letter_moves import DeadLetterFilter
from shop_poller.config.settings import Settings
from shop_poller.core.errors import PermanentError
from shop_poller.ports import Ack, FinishedDelivery
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import at, batch, new_delivery, notification

pytestmark = pytest.mark.anyio

SHOP = "shop.example"


async def deliver(store: SqliteStore, first: int, count: int, *, seconds: float, sink: str = "A") -> None:
    """Deliver so many, all recorded as made at one instant."""
    rows = [new_delivery(sink, notification(str(n), f"event {n}")) for n in range(first, first + count)]
    await store.commit(SHOP, batch(*rows))
    claimed = await store.claim(sink, now=at(seconds + 9999), limit=count)
    await store.record_outcomes([Ack(one) for one in claimed], at(seconds))


async def test_it_begins_with_the_last_ten_and_tells_each_later_one_once(
    settings: Settings, store: SqliteStore
) -> None:
    told: list[str] = []

    def tell(one: FinishedDelivery) -> None:
        told.append(one.event_id)

    async def follow() -> None:
        async with aclosing(deliveries.tail(settings, None)) as made:
            async for one in made:
                tell(one)

    await deliver(store, 0, 250, seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(follow)
        await anyio.sleep(5)
        assert told == [f"event {n}" for n in range(240, 250)]
        await deliver(store, 250, 1, seconds=1)
        await anyio.sleep(5)
        await deliver(store, 251, 500, seconds=2)
        await anyio.sleep(5)
        await deliver(store, 751, 1, seconds=1.5, sink="B")  # recorded later than it was made
        await anyio.sleep(5)
        await deliver(store, 752, 3, seconds=500)
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    assert told == [f"event {n}" for n in range(240, 755)]


async def following(settings: Settings, tell: Callable[[str], None]) -> None:
    async with aclosing(deliveries.tail(settings, None)) as made:
        async for one in made:
            tell(one.event_id)


async def test_it_reads_again_no_more_than_may_have_come_late(
    settings: Settings, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    read: list[int] = []
    finished = SqliteStore.finished

    async def counted(*args: Any, **kwargs: Any) -> list[FinishedDelivery]:
        found = await finished(*args, **kwargs)
        read.append(len(found))
        return found

    monkeypatch.setattr(SqliteStore, "finished", counted)
    monkeypatch.setattr(SqliteStore, "now", lambda _: at(60))
    await deliver(store, 0, 2000, seconds=0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following, settings, told.append)
        await anyio.sleep(5)
        await deliver(store, 2000, 5, seconds=30)
        await anyio.sleep(5)
        read.clear()
        await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    assert told[10:] == [f"event {n}" for n in range(2000, 2005)]
    assert read == [5] * len(read) != []


async def test_a_clock_that_is_set_back_neither_silences_it_nor_makes_it_repeat_itself(
    settings: Settings, store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    clock = [3600.0]
    monkeypatch.setattr(SqliteStore, "now", lambda _: at(clock[0]))
    await deliver(store, 0, 300, seconds=1800)
    await deliver(store, 300, 200, seconds=3600)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(following, settings, told.append)
        await anyio.sleep(5)
        clock[0] = 10
        await anyio.sleep(5)
        for n in range(5):
            clock[0] += 600
            await deliver(store, 500 + n, 1, seconds=clock[0])
            await anyio.sleep(5)
        tasks.cancel_scope.cancel()
    assert told == [f"event {n}" for n in range(490, 505)]


async def test_a_file_that_is_yet_to_be_migrated_cannot_be_followed(
    settings: Settings, store: SqliteStore
) -> None:
    await store._connection.run(lambda db: db.execute("PRAGMA user_version = 4"))
    with pytest.raises(
        PermanentError, match="was written by an older shop-poller; start `shop-poller run` once"
    ):
        await anext(deliveries.tail(settings, None))


async def test_of_an_empty_store_it_tells_the_first(settings: Settings, store: SqliteStore) -> None:
    async with aclosing(deliveries.tail(settings, "B")) as made, anyio.create_task_group() as tasks:

        async def later() -> None:
            await anyio.sleep(30)
            await deliver(store, 1, 1, seconds=1)
            await deliver(store, 2, 1, seconds=1, sink="B")

        tasks.start_soon(later)
        assert (await anext(made)).event_id == "event 2"


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    "choice",
    [
        DeadLetterFilter(frozenset({1, 2})),
        DeadLetterFilter(sink="A"),
        DeadLetterFilter(older_than=DAY),
        DeadLetterFilter(newer_than=timedelta(0)),
        DeadLetterFilter(sink="", older_than=DAY, newer_than=3 * DAY),
        DeadLetterFilter(everything=True),
    ],
)
def test_a_choice_in_one_way_is_one(choice: DeadLetterFilter) -> None:
    assert choice.problem == ""


@pytest.mark.parametrize(
    "choice",
    [
        DeadLetterFilter(),
        DeadLetterFilter(frozenset({1}), sink="A"),
        DeadLetterFilter(frozenset({1}), everything=True),
        DeadLetterFilter(older_than=timedelta(0), everything=True),
    ],
)
def test_none_or_several_are_told(choice: DeadLetterFilter) -> None:
    assert choice.problem
