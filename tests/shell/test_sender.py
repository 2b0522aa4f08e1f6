"""The sender alone: each delivery gets an outcome. Which one, if it is moved to dead letters."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.circuit_breaker import Circuit
from shop_poller.core.attempts import DELIVERED
from shop_poller.core.breaker import BreakerState
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery, EventType
from shop_poller.core.refusals import KEPT_CAP_S, REFUSED_CAP_S
from shop_poller.core.retry import MAX_RETRY_AFTER_S, RetryPolicy
from shop_poller.delivery.sender import Sender
from shop_poller.observability.clock_watch import ClockWatch
from shop_poller.observability.metrics import Metrics
from shop_poller.ports import Ack, MoveToDeadLetters, Outcome, Release, Retry
from support.deliveries import delivery
from support.shop_harness import SHOP, FakeBulkSink, FakeSink, down, refused
from support.virtual_time import virtual_now

pytestmark = pytest.mark.anyio

MAX_AGE = timedelta(hours=5)
MS = timedelta(milliseconds=1)


def sender(
    sink: FakeSink,
    *,
    may_send: Callable[[], bool] = lambda: True,
    mask: Callable[[str], str] = lambda text: text,
) -> Sender:
    metrics = Metrics(SHOP, [sink.name])
    return Sender(
        sink,
        Circuit(sink.name, metrics),
        policy=RetryPolicy(max_age=MAX_AGE),
        may_send=may_send,
        mask=mask,
        metrics=metrics,
        clock=ClockWatch(virtual_now, metrics=metrics),
        random=lambda: 0.5,
    )


def claimed(seq: int = 1, *, age: timedelta = timedelta(0), **changes: Any) -> Delivery:
    """As it comes from the outbox, so long after it became its order's oldest."""
    return replace(delivery(f"event-{seq}"), seq=seq, sink="sink", head_since=virtual_now() - age, **changes)


def alert(**changes: Any) -> Delivery:
    return claimed(event_type=EventType.DEAD_LETTERS, **changes)


def not_found(*, may_be_done: bool = False) -> PermanentError:
    return PermanentError(ErrorKind.REJECTED, "answered 404", may_pass=True, may_be_done=may_be_done)


async def all_of(to: Sender, deliveries: Sequence[Delivery]) -> list[Outcome]:
    return [outcome async for some in to.deliver_all(deliveries) for outcome in some]


# --- Many at once: what has no outcome would be held for ever, and its order with it ---


@pytest.mark.parametrize(
    ("error", "kind"),
    [(None, Ack), (refused(), MoveToDeadLetters), (down(), Retry), (down(ErrorKind.SERVER), Retry)],
)
async def test_each_of_many_gets_one_outcome(error: Any, kind: type[Outcome]) -> None:
    sink = FakeBulkSink(behave=lambda _: error)
    outcomes = await all_of(sender(sink), [claimed(seq) for seq in range(5)])
    assert [outcome.delivery.seq for outcome in outcomes] == list(range(5))
    assert isinstance(outcomes[0], kind)


async def test_each_of_many_gets_one_outcome_when_only_some_are_refused() -> None:
    sink = FakeBulkSink(behave=lambda d: refused() if d.seq % 2 else None)
    outcomes = await all_of(sender(sink), [claimed(seq) for seq in range(6)])
    assert {outcome.delivery.seq: type(outcome) for outcome in outcomes} == {
        seq: MoveToDeadLetters if seq % 2 else Ack for seq in range(6)
    }
    assert len(sink.tried) == 6, "what is refused for good is not sent again"


async def test_each_of_many_is_released_when_we_must_not_send() -> None:
    sink = FakeBulkSink()
    outcomes = await all_of(sender(sink, may_send=lambda: False), [claimed(seq) for seq in range(5)])
    assert [(outcome.delivery.seq, type(outcome)) for outcome in outcomes] == [(n, Release) for n in range(5)]
    assert sink.tried == []


async def test_each_of_many_is_released_when_it_stops_after_they_failed() -> None:
    sink = FakeBulkSink(behave=lambda _: down())
    stopping = sender(sink)
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            await anyio.sleep(0.01)
            stopping.stopping = True
            stopping.interrupt()

        tasks.start_soon(stop)
        outcomes = await all_of(stopping, [claimed(seq) for seq in range(5)])
    assert [(outcome.delivery.seq, type(outcome)) for outcome in outcomes] == [(n, Release) for n in range(5)]
    assert sink.bulks == [5]


async def test_many_that_failed_are_sent_together_once_more_and_then_one_by_one() -> None:
    sink = FakeBulkSink(behave=lambda _: down(ErrorKind.SERVER))
    await all_of(sender(sink), [claimed(seq) for seq in range(5)])
    assert sink.bulks == [5, 5]


async def test_one_that_failed_among_many_is_sent_again_and_the_others_are_not() -> None:
    failures = iter([down()])
    sink = FakeBulkSink(behave=lambda d: next(failures, None) if d.seq == 3 else None)
    outcomes = await all_of(sender(sink), [claimed(seq) for seq in range(5)])
    assert [outcome.delivery.seq for outcome in outcomes if isinstance(outcome, Ack)] == [0, 1, 2, 4, 3]
    assert sink.bulks == [5, 1]


class BrokenBulkSink(FakeBulkSink):
    """One whose connection breaks before it says anything of any of them."""

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[ShopPollerError | None]:
        self.bulks.append(len(deliveries))
        raise down()


async def test_each_of_many_gets_one_outcome_when_all_of_them_failed_together() -> None:
    sink = BrokenBulkSink(behave=lambda _: down())
    outcomes = await all_of(sender(sink), [claimed(seq) for seq in range(5)])
    assert [outcome.delivery.seq for outcome in outcomes] == list(range(5))
    assert isinstance(outcomes[0], Retry)
    assert not outcomes[0].charged, "it is the sink's failure"
    assert outcomes[0].error == str(down())
    assert {type(outcome) for outcome in outcomes[1:]} == {Release}
    assert sink.bulks == [5, 5]


class ForgetfulBulkSink(FakeBulkSink):
    async def send_all(self, deliveries: Sequence[Delivery]) -> list[ShopPollerError | None]:
        return (await super().send_all(deliveries))[:-1]


async def test_a_delivery_of_which_the_sink_says_nothing_is_never_taken_for_delivered() -> None:
    with pytest.raises(ValueError, match="zip"):
        await all_of(sender(ForgetfulBulkSink()), [claimed(seq) for seq in range(5)])


# --- What is noted of each attempt ---


def shown(outcome: Outcome) -> list[tuple[str, int | None, str]]:
    return [(one.kind, one.status, one.words) for one in outcome.new_attempts]


async def test_each_attempt_of_a_claim_is_noted_with_its_time_and_its_duration() -> None:
    answers: Iterator[ShopPollerError | float] = iter([down(ErrorKind.SERVER), 3.0])
    sink, began = FakeSink(behave=lambda _: next(answers)), virtual_now()
    outcome = await sender(sink).deliver(claimed())
    assert isinstance(outcome, Ack)
    assert shown(outcome) == [
        ("ServerError", None, "made up: ServerError"),
        (DELIVERED, None, ""),
    ]
    first, second = outcome.new_attempts
    assert (first.at, first.took_ms) == (began, 0)
    assert second.at > began
    assert second.took_ms == 3000


@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [(down(), Retry, 3), (refused(), MoveToDeadLetters, 1), (not_found(), MoveToDeadLetters, 1)],
)
async def test_attempts_are_noted_whatever_comes_of_them(
    error: ShopPollerError, kind: type[Outcome], attempts: int
) -> None:
    sink = FakeSink(behave=lambda _: error)
    outcome = await sender(sink).deliver(claimed())
    assert isinstance(outcome, kind)
    assert shown(outcome) == [(error.kind, None, str(error))] * attempts
    assert len(sink.tried) == attempts


async def test_an_attempt_before_a_stop_is_noted_though_it_decided_nothing() -> None:
    stopping = sender(FakeSink(behave=lambda _: down(ErrorKind.SERVER)))
    async with anyio.create_task_group() as tasks:

        async def stop() -> None:
            await anyio.sleep(0.01)
            stopping.stopping = True
            stopping.interrupt()

        tasks.start_soon(stop)
        outcome = await stopping.deliver(claimed())
    assert isinstance(outcome, Release)
    assert [one.kind for one in outcome.new_attempts] == [ErrorKind.SERVER]


async def test_what_was_not_attempted_has_no_attempt() -> None:
    outcome = await sender(FakeSink(), may_send=lambda: False).deliver(claimed())
    assert (type(outcome), list(outcome.new_attempts)) == (Release, [])


async def test_attempts_together_and_alone_are_noted_in_their_order() -> None:
    sink = FakeBulkSink(behave=lambda d: down(ErrorKind.SERVER) if d.seq == 3 else None)
    outcomes = await all_of(sender(sink), [claimed(seq) for seq in range(5)])
    noted = {outcome.delivery.seq: [one.kind for one in outcome.new_attempts] for outcome in outcomes}
    assert noted == {seq: [DELIVERED] for seq in (0, 1, 2, 4)} | {3: [ErrorKind.SERVER] * 4}
    assert len([one for _, one in sink.tried if one.seq == 3]) == 4


async def test_words_are_masked_with_all_secrets_of_the_shop() -> None:
    key = "ck_4f5a6b7c8d9e0f1a2b3c4d5e6f708192a3b4c5d6"
    error = refused().answered(422, f"you sent {key} / {key.encode().hex()}, again")
    outcome = await sender(FakeSink(behave=lambda _: error), mask=Masker([key]).mask).deliver(claimed())
    assert shown(outcome) == [(ErrorKind.REJECTED, 422, "you sent *** / ***, again")]


async def test_words_are_in_the_history_and_in_no_log() -> None:
    with capture_logs() as logs:
        outcome = await sender(
            FakeSink(behave=lambda _: refused().answered(422, "no such buyer: Ольга"))
        ).deliver(claimed())
    assert isinstance(outcome, MoveToDeadLetters)
    assert "Ольга" in outcome.new_attempts[0].words
    assert "Ольга" not in repr(logs) + outcome.reason


# --- Whose failure a refusal is ---


async def test_a_refusal_right_after_a_success_begins_a_failure() -> None:
    sink = FakeSink()
    to = sender(sink)
    assert isinstance(await to.deliver(claimed(1)), Ack)
    sink.behave = lambda _: not_found()
    outcome = await to.deliver(claimed(2))
    assert isinstance(outcome, Retry)
    assert outcome.error == str(not_found())
    assert to.failing_since == virtual_now()


@pytest.mark.parametrize(("attempts", "wait_s"), [(0, 22.5), (1, 45.0), (9, 0.75 * REFUSED_CAP_S)])
async def test_a_delivery_that_was_refused_waits_longer_up_to_a_minute(attempts: int, wait_s: float) -> None:
    sink = FakeSink()
    to = sender(sink)
    assert isinstance(await to.deliver(claimed(1)), Ack)
    sink.behave = lambda _: not_found()
    outcome = await to.deliver(claimed(2, attempts=attempts))
    assert isinstance(outcome, Retry)
    assert outcome.at - virtual_now() == pytest.approx(timedelta(seconds=wait_s), abs=MS)


async def test_a_failure_is_a_warning_once_until_a_delivery_succeeds() -> None:
    failures = iter([refused(), refused(), None, refused()])
    to = sender(FakeSink(behave=lambda _: next(failures)))
    with capture_logs() as log:
        for seq in range(4):
            await to.deliver(claimed(seq))
    levels = [line["log_level"] for line in log if line["event"] == "delivery failed"]
    assert levels == ["warning", "debug", "warning"]


@pytest.mark.parametrize("another_fails", [True, False])
async def test_a_sink_that_refused_one_delivery_alone_is_not_failing_when_that_is_given_up(
    *, another_fails: bool
) -> None:
    """Otherwise administrators would be alerted about a dead sink that had nothing else to accept."""
    sink = FakeSink()
    to = sender(sink)
    await anyio.sleep(1000)
    await to.deliver(claimed(1))
    sink.behave = lambda d: down(ErrorKind.SERVER) if d.seq == 3 else not_found()
    if another_fails:
        await to.deliver(claimed(3))
    bad, outcomes = claimed(2), list[Outcome]()
    for wait_s in (100, 2900, 0):
        outcomes.append(await to.deliver(bad))
        await anyio.sleep(wait_s)
    assert [type(outcome) for outcome in outcomes] == [Retry, Retry, MoveToDeadLetters]
    assert isinstance(outcomes[-1], MoveToDeadLetters)
    assert outcomes[-1].reason == "refused for 50 min: answered 404"
    assert (to.failing_since is not None) == another_fails


class SlowToRefuse(FakeSink):
    async def send(self, delivery: Delivery) -> None:
        await anyio.sleep(2.0 if delivery.key == "bad" else 1.0)
        await super().send(delivery)


async def test_a_refusal_while_another_was_taken_is_no_failure_of_the_sink() -> None:
    sink = SlowToRefuse(behave=lambda d: not_found() if d.key == "bad" else None)
    to = sender(sink)
    await to.deliver(claimed(0))
    async with anyio.create_task_group() as tasks:
        for seq in (1, 2, 3, 4):
            tasks.start_soon(to.deliver, claimed(seq, key="bad"))
        tasks.start_soon(to.deliver, claimed(9, key="good"))
    assert len(sink.got) == 2
    assert to.failing_since is None
    assert isinstance(await to.deliver(claimed(10, key="good")), Ack), "it is not left alone"


@pytest.mark.parametrize(("requested_s", "wait_s"), [(90.0, 90.0), (1e9, MAX_RETRY_AFTER_S)])
async def test_a_sink_may_ask_to_be_left_alone_for_a_day_at_most(requested_s: float, wait_s: float) -> None:
    to = sender(FakeSink(behave=lambda _: down(ErrorKind.UNAVAILABLE, retry_after_s=requested_s)))
    await to.deliver(claimed())
    assert to._circuit.wait_s() == pytest.approx(wait_s)


async def test_a_success_of_what_was_on_its_way_ends_the_pause_of_a_sink() -> None:
    to = sender(FakeSink(behave=lambda d: 5.0 if d.seq == 1 else down()))
    async with anyio.create_task_group() as tasks:
        for seq in (1, 2):
            tasks.start_soon(to.deliver, claimed(seq))
        await anyio.sleep(3)
        assert to._circuit.state is BreakerState.OPEN
    assert to._circuit.state is BreakerState.CLOSED


# --- Given up ---


async def test_what_is_given_up_is_counted() -> None:
    """`run --once` reports the number and exits accordingly."""
    to = sender(FakeSink(behave=lambda _: refused()))
    for seq in range(3):
        assert isinstance(await to.deliver(claimed(seq)), MoveToDeadLetters)
    assert to.dead_lettered == 3


@pytest.mark.parametrize(
    ("age", "kept"), [(timedelta(0), True), (MAX_AGE - MS, True), (MAX_AGE, False), (MAX_AGE + MS, False)]
)
async def test_an_alert_that_was_refused_is_kept_up_to_its_age(age: timedelta, *, kept: bool) -> None:
    to = sender(FakeSink(behave=lambda _: not_found()))
    outcome = await to.deliver(alert(age=age))
    assert isinstance(outcome, Retry if kept else MoveToDeadLetters)
    assert to.dead_lettered == (not kept)


@pytest.mark.parametrize(
    ("attempts", "wait_s"),
    [(0, 22.5), (1, 45.0), (3, 180.0), (5, 0.75 * KEPT_CAP_S), (90, 0.75 * KEPT_CAP_S)],
)
async def test_an_alert_that_is_kept_waits_longer_each_time_up_to_ten_minutes(
    attempts: int, wait_s: float
) -> None:
    to = sender(FakeSink(behave=lambda _: not_found()))
    outcome = await to.deliver(alert(attempts=attempts))
    assert isinstance(outcome, Retry)
    assert outcome.at - virtual_now() == pytest.approx(timedelta(seconds=wait_s), abs=MS)
    assert outcome.charged
    assert outcome.error == str(not_found())


@pytest.mark.parametrize(
    "error", [refused(), not_found(may_be_done=True)], ids=["for good", "it arrived, probably"]
)
async def test_an_alert_that_is_not_worth_keeping_is_given_up_at_once(error: PermanentError) -> None:
    assert isinstance(await sender(FakeSink(behave=lambda _: error)).deliver(alert()), MoveToDeadLetters)


async def test_only_alerts_are_kept_when_refused() -> None:
    assert isinstance(
        await sender(FakeSink(behave=lambda _: not_found())).deliver(claimed()), MoveToDeadLetters
    )
