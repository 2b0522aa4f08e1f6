"""The outcome recorder alone: it records each outcome once, with others where there are many."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream

from shop_poller.alerts import AlertManager
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.delivery.outcome_recorder import GATHER_S, MANY, STORE_WAIT_S, OutcomeRecorder, at_hand
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Ack, Outbox, Outcome
from support.deliveries import delivery
from support.shop_harness import SHOP
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

FULL = TemporaryError(ErrorKind.STORE, "disk full")


@dataclass
class FakeOutbox:
    """Counts recorded outcomes, commit by commit; the next commits fail, or take seconds.

    Attributes:
        told: the calls to the dispatcher: the number of outcomes, and whether recording works again.
        failed: how often the alert manager was notified of a failure.
    """

    troubles: list[TemporaryError | float] = field(default_factory=list)
    commits: list[tuple[float, int]] = field(default_factory=list)
    told: list[tuple[int, bool]] = field(default_factory=list)
    failed: int = 0

    async def record_outcomes(self, outcomes: Sequence[Outcome], _: datetime) -> None:
        if self.troubles:
            trouble = self.troubles.pop(0)
            if isinstance(trouble, TemporaryError):
                raise trouble
            await anyio.sleep(trouble)
        self.commits.append((anyio.current_time(), len(outcomes)))

    def cannot_record(self) -> None:
        self.failed += 1


OutcomeSendStream = MemoryObjectSendStream[Sequence[Outcome]]


@asynccontextmanager
async def recording(
    outbox: FakeOutbox,
) -> AsyncIterator[tuple[OutcomeRecorder, OutcomeSendStream, Callable[[], None]]]:
    """An outcome recorder at work, where its outcomes come from, and how it is cut short."""
    outcome_recorder = OutcomeRecorder(
        "sink",
        outbox=cast("Outbox", outbox),
        alert_manager=cast("AlertManager", outbox),
        metrics=Metrics(SHOP, ["sink"]),
        now=virtual_now,
        on_recorded=lambda outcomes, again: outbox.told.append((len(outcomes), again)),
    )
    made, to_record = anyio.create_memory_object_stream[Sequence[Outcome]](1000)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(outcome_recorder.run, to_record)
        async with made:
            yield outcome_recorder, made, tasks.cancel_scope.cancel


def acks(count: int) -> list[Outcome]:
    return [Ack(delivery()) for _ in range(count)]


async def test_few_are_recorded_at_once_and_let_go() -> None:
    outbox = FakeOutbox()
    async with recording(outbox) as (outcome_recorder, made, _):
        outcome_recorder.in_flight, began = MANY - 1, anyio.current_time()
        made.send_nowait(acks(2))
        made.send_nowait(acks(3))
        await anyio.sleep(1)
        assert outbox.commits == [(began, 5)]
        assert outbox.told == [(5, False)]
        assert outcome_recorder.in_flight == MANY - 6


@pytest.mark.parametrize("in_haste", [True, False])
async def test_while_many_are_held_it_waits_for_more_unless_in_haste(*, in_haste: bool) -> None:
    outbox, began = FakeOutbox(), anyio.current_time()
    async with recording(outbox) as (outcome_recorder, made, _):
        outcome_recorder.in_flight = MANY
        if in_haste:  # which it is not from the start
            outcome_recorder.in_haste = True
        await made.send(acks(2))
        await anyio.sleep(GATHER_S / 2)
        await made.send(acks(3))
        await anyio.sleep(1)
    commits = [(round(at - began, 6), count) for at, count in outbox.commits]
    assert commits == ([(0, 2), (GATHER_S / 2, 3)] if in_haste else [(GATHER_S, 5)])


async def test_it_tries_again_until_the_store_takes_it_and_says_so_once() -> None:
    outbox, began = FakeOutbox([FULL, FULL]), anyio.current_time()
    async with recording(outbox) as (_, made, _):
        await made.send(acks(2))
        await anyio.sleep(10)
        await made.send(acks(1))
    assert outbox.commits == [(began + 2 * STORE_WAIT_S, 2), (began + 10, 1)]
    assert outbox.told == [(2, True), (1, False)]
    assert outbox.failed == 2


async def test_cut_short_it_records_what_was_not_and_nothing_twice() -> None:
    """What it repeated then would be written after the lease is lost, over what another replica wrote."""
    outbox = FakeOutbox()
    async with recording(outbox) as (_, made, cut_short):
        await made.send(acks(2))
        await anyio.sleep(1)
        cut_short()
    assert [count for _, count in outbox.commits] == [2]


@pytest.mark.parametrize("more", [0, 3])
async def test_cut_short_while_the_store_fails_it_tries_once_more(more: int) -> None:
    outbox: FakeOutbox = FakeOutbox([FULL, 0.5])
    async with recording(outbox) as (_, made, cut_short):
        await made.send(acks(2))
        await anyio.sleep(STORE_WAIT_S / 2)
        if more:
            await made.send(acks(more))
        cut_short()
    assert [count for _, count in outbox.commits] == [2 + more], "though it takes time"


async def test_cut_short_while_the_store_stays_away_it_ends() -> None:
    outbox = FakeOutbox([FULL] * 9)
    async with recording(outbox) as (_, made, cut_short):
        await made.send(acks(2))
        await anyio.sleep(STORE_WAIT_S / 2)
        cut_short()
    assert (outbox.commits, len(outbox.troubles)) == ([], 7)


async def test_at_hand_takes_what_is_there_and_no_more_than_requested() -> None:
    send, receive = anyio.create_memory_object_stream[Any](10)
    for n in range(5):
        send.send_nowait(n)
    take = partial(at_hand, receive)
    assert [take(2), take(0), take(), take(), take(3)] == [[0, 1], [], [2, 3, 4], [], []]
    send.close()
    receive.close()
