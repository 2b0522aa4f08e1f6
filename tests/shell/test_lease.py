"""The lease in virtual time: who has it works, who loses it stops, and nobody sends after its end."""

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import pytest
from structlog.testing import capture_logs

from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.observability.metrics import Metrics
from shop_poller.runtime.lease import MARGIN_S, RENEWALS, TRY_EVERY_S, LeaseKeeper

pytestmark = pytest.mark.anyio

SHOP = "shop.example"
TERM_S = 10.0
AWAY = TemporaryError(ErrorKind.STORE, "made up: away")


@dataclass
class FakeRight:
    """A right that answers as it is told; the last answer goes for all that follow.

    Attributes:
        said: what it was asked, and when.
    """

    takes: deque[bool | ShopPollerError] = field(default_factory=lambda: deque([True]))
    renewals: deque[bool | ShopPollerError] = field(default_factory=lambda: deque([True]))
    term_s: float = TERM_S
    answer_s: float = 0.0
    said: list[tuple[float, str]] = field(default_factory=list)

    async def take(self) -> bool:
        return await self._answer("take", self.takes)

    async def renew(self) -> bool:
        return await self._answer("renew", self.renewals)

    async def release(self) -> None:
        self.said.append((anyio.current_time(), "release"))

    async def holder(self) -> str:
        return "elsewhere/7"

    async def _answer(self, what: str, answers: deque[bool | ShopPollerError]) -> bool:
        self.said.append((anyio.current_time(), what))
        await anyio.sleep(self.answer_s)
        answer = answers.popleft() if len(answers) > 1 else answers[0]
        if isinstance(answer, ShopPollerError):
            raise answer
        return answer

    def times(self, what: str) -> list[float]:
        return [at for at, one in self.said if one == what]


@dataclass
class Desk:
    """A lease over a right, and work that notes when it began and ended."""

    right: FakeRight
    metrics: Metrics = field(default_factory=lambda: Metrics(SHOP, ["console:"]))
    worked: list[tuple[float, float]] = field(default_factory=list)
    lease: LeaseKeeper = field(init=False)
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.lease = LeaseKeeper(self.right, self.metrics)
        self.began = anyio.current_time()

    @property
    def gauge(self) -> float | None:
        return self.metrics.registry.get_sample_value("shop_lease_held", {"shop": SHOP})

    async def work(self) -> None:
        began = anyio.current_time()
        try:
            await anyio.sleep_forever()
        finally:
            self.worked.append((began - self.began, anyio.current_time() - self.began))

    async def hold_for(self, seconds: float, work: Callable[[], Awaitable[None]] | None = None) -> None:
        stop = anyio.Event()

        async def stopping() -> None:
            await stop.wait()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.lease.hold, work or self.work, stop)
            await anyio.sleep(seconds)
            stop.set()
            tasks.cancel_scope.cancel()


async def test_who_takes_it_works_and_renews_it() -> None:
    desk = Desk(FakeRight())
    results = []

    async def work() -> None:
        for _ in range(60):
            results.append(desk.lease.is_held())
            await anyio.sleep(1)

    await desk.hold_for(59.5, work)

    assert all(results)
    assert len(desk.right.times("take")) == 1
    assert len(desk.right.times("renew")) == pytest.approx(59 / (TERM_S / 4), abs=1)
    assert desk.right.said[-1][1] == "release"
    assert not desk.lease.is_held()
    assert desk.gauge == 0


async def test_before_it_is_taken_nothing_is_held() -> None:
    desk = Desk(FakeRight(takes=deque([False])))
    assert not desk.lease.is_held()
    await desk.hold_for(5 * TERM_S)
    assert not desk.lease.is_held()
    assert desk.worked == []


async def test_whether_another_has_it_is_known() -> None:
    desk = Desk(FakeRight(takes=deque([False] * 10 + [True])))
    known = [desk.lease.was_refused]
    for seconds in (5 * TRY_EVERY_S, 10 * TRY_EVERY_S):
        await desk.hold_for(seconds)
        known.append(desk.lease.was_refused)
    assert desk.worked
    assert known == [False, True, False]


async def test_following_is_logged_once_and_so_is_each_change() -> None:
    desk = Desk(FakeRight(takes=deque([False] * 5 + [True]), renewals=deque([True, AWAY, AWAY, True, False])))
    with capture_logs() as log:
        await desk.hold_for(5 * TERM_S)
    assert [line["event"] for line in log][:5] == [
        "following: another replica has the lease",
        "leading: the lease is ours",
        "the lease cannot be renewed; retrying",
        "the lease was lost; stopping the work that it covers",
        "leading: the lease is ours",
    ]


async def test_a_release_that_takes_time_is_awaited_although_we_are_cancelled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk, released = Desk(FakeRight()), []

    async def slow() -> None:
        await anyio.sleep(2)
        released.append(anyio.current_time())

    monkeypatch.setattr(desk.right, "release", slow)
    await desk.hold_for(5)
    assert released, "or another replica would wait for the end of the term"


async def test_who_does_not_get_it_asks_again_and_works_when_it_is_free() -> None:
    desk = Desk(FakeRight(takes=deque([False, False, AWAY, True])))
    await desk.hold_for(20)
    assert [at - desk.began for at in desk.right.times("take")] == pytest.approx([0, 1, 2, 3])
    ((began, _),) = desk.worked
    assert began == pytest.approx(3 * TRY_EVERY_S)


async def test_losing_it_stops_the_work_and_it_is_taken_anew() -> None:
    desk = Desk(FakeRight(renewals=deque([True, False, True])))
    await desk.hold_for(30)
    (first, second) = desk.worked
    assert first == pytest.approx((0, 5))  # two renewals
    assert second[0] == pytest.approx(5 + TRY_EVERY_S)
    # What was held in the name of before is released, or it would keep us out for a term.
    assert [what for _, what in desk.right.said[:5]] == ["take", "renew", "renew", "release", "take"]


async def test_a_store_that_is_away_for_a_while_costs_nothing() -> None:
    desk = Desk(FakeRight(renewals=deque([AWAY, AWAY, True])))
    await desk.hold_for(60)
    ((_, ended),) = desk.worked
    assert ended == pytest.approx(60)
    labels = {"shop": SHOP, "use": "lease"}
    assert desk.metrics.registry.get_sample_value("shop_store_errors_total", labels) == 2


async def test_a_store_that_stays_away_ends_it_before_the_term_does() -> None:
    desk = Desk(FakeRight(renewals=deque([AWAY])))
    results: list[tuple[float, bool]] = []

    async def work() -> None:
        for _ in range(1000):
            results.append((anyio.current_time() - desk.began, desk.lease.is_held()))
            await anyio.sleep(0.1)

    await desk.hold_for(TERM_S - MARGIN_S + TRY_EVERY_S / 2, work)

    assert max(at for at, _ in results) <= TERM_S - MARGIN_S
    assert all(ours for at, ours in results if at < TERM_S - MARGIN_S)


async def test_a_store_that_does_not_even_say_no_does_not_put_off_the_end() -> None:
    desk = Desk(FakeRight(renewals=deque([True])))

    async def deaf() -> bool:
        await anyio.sleep_forever()
        raise AssertionError

    desk.right.renew = deaf  # type: ignore[method-assign] # half-open
    await desk.hold_for(TERM_S - MARGIN_S + TRY_EVERY_S / 2)
    assert desk.worked == [pytest.approx((0, TERM_S - MARGIN_S))]


async def test_the_term_counts_from_the_question_not_from_the_answer() -> None:
    desk = Desk(FakeRight(answer_s=3, renewals=deque([AWAY])))
    await desk.hold_for(TERM_S - MARGIN_S + TRY_EVERY_S / 2)
    assert desk.worked == [pytest.approx((3, TERM_S - MARGIN_S))]


async def test_a_yes_that_comes_too_late_is_a_no() -> None:
    desk = Desk(FakeRight(renewals=deque([True])))
    calls = 0

    async def late() -> bool:
        nonlocal calls
        calls += 1
        await anyio.sleep(TERM_S)
        return True

    desk.right.renew = late  # type: ignore[method-assign] # an answer from long ago
    await desk.hold_for(TERM_S - MARGIN_S + TRY_EVERY_S / 2)
    assert calls == 1
    assert desk.worked == [pytest.approx((0, TERM_S - MARGIN_S))]


async def test_frozen_longer_than_the_term_nothing_is_held_at_the_moment_of_waking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(FakeRight())
    results: list[bool] = []

    async def work() -> None:
        results.append(desk.lease.is_held())
        now = anyio.current_time()
        monkeypatch.setattr(anyio, "current_time", lambda: now + TERM_S)  # nothing ran meanwhile
        results.append(desk.lease.is_held())
        monkeypatch.undo()
        await anyio.sleep_forever()

    await desk.hold_for(1, work)
    assert results == [True, False]


async def test_how_long_the_store_was_silent_is_remembered() -> None:
    desk = Desk(FakeRight(takes=deque([AWAY] * 400 + [True])))
    silences: list[float] = []

    async def work() -> None:
        silences.append(desk.lease.silence_s)
        await anyio.sleep(10)
        silences.append(desk.lease.silence_s)

    await desk.hold_for(420, work)
    assert silences[:2] == pytest.approx([400, 0])


async def test_a_store_that_hangs_until_the_lease_ends_was_silent_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(FakeRight(takes=deque([True, *[AWAY] * 30, True])))
    silences: list[float] = []

    async def hang() -> bool:
        await anyio.sleep_forever()
        raise AssertionError

    async def work() -> None:
        silences.append(desk.lease.silence_s)
        await anyio.sleep_forever()

    monkeypatch.setattr(desk.right, "renew", hang)
    await desk.hold_for(TERM_S - MARGIN_S + 32 * TRY_EVERY_S, work)
    assert silences == pytest.approx([0, 31 * TRY_EVERY_S])


async def test_a_store_that_answers_again_right_after_the_lease_ended_was_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    desk = Desk(FakeRight())
    silences: list[float] = []

    async def work() -> None:
        silences.append(desk.lease.silence_s)
        await anyio.sleep_forever()

    async def hang() -> bool:
        await anyio.sleep_forever()
        raise AssertionError

    monkeypatch.setattr(desk.right, "renew", hang)
    await desk.hold_for(TERM_S - MARGIN_S + 2 * TRY_EVERY_S, work)
    assert silences == pytest.approx([0, TRY_EVERY_S])


async def test_a_store_that_failed_until_the_lease_ended_was_silent_from_the_first_failure_on() -> None:
    desk = Desk(FakeRight(renewals=deque([AWAY])))
    silences: list[float] = []

    async def work() -> None:
        silences.append(desk.lease.silence_s)
        await anyio.sleep_forever()

    await desk.hold_for(TERM_S - MARGIN_S + 2 * TRY_EVERY_S, work)
    first_failure = TERM_S / RENEWALS
    assert silences == pytest.approx([0, TERM_S - MARGIN_S + TRY_EVERY_S - first_failure])


async def test_once_is_now_or_never() -> None:
    desk = Desk(FakeRight(takes=deque([False])))
    with pytest.raises(PermanentError, match="elsewhere/7 has the lease") as caught:
        await desk.lease.once(desk.work)
    assert caught.value.kind is ErrorKind.STORE, "the exit code follows from it"

    desk = Desk(FakeRight())
    done = []

    async def work() -> None:
        done.append(desk.lease.is_held())

    await desk.lease.once(work)
    assert done == [True]
    assert [what for _, what in desk.right.said] == ["take", "release"]


async def test_work_that_breaks_lets_go_of_it_and_is_not_hidden() -> None:
    desk = Desk(FakeRight())

    async def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ExceptionGroup) as caught:
        await desk.lease.hold(work, anyio.Event())
    assert caught.group_contains(ZeroDivisionError)
    assert desk.right.said[-1][1] == "release"


REPLACED = PermanentError(ErrorKind.STORE, "made up: the state file was replaced")


@pytest.mark.parametrize("once", [True, False])
async def test_a_state_that_was_replaced_ends_the_work_and_is_not_hidden(*, once: bool) -> None:
    desk = Desk(FakeRight(renewals=deque([True, REPLACED])))
    with pytest.raises(PermanentError) as caught:
        await (desk.lease.once(desk.work) if once else desk.lease.hold(desk.work, anyio.Event()))
    assert caught.value is REPLACED
    assert desk.worked == [pytest.approx((0, 2 * TERM_S / RENEWALS))]
    assert [what for _, what in desk.right.said] == ["take", "renew", "renew", "release"]


@pytest.mark.parametrize("once", [True, False])
@pytest.mark.parametrize("error", [AWAY, REPLACED], ids=["for a while", "for good"])
async def test_an_error_of_the_work_comes_out_as_it_is(error: ShopPollerError, *, once: bool) -> None:
    """The exit code and the one line for the owner are made from it."""
    desk = Desk(FakeRight())

    async def work() -> None:
        raise error

    with pytest.raises(ShopPollerError) as caught:
        await (desk.lease.once(work) if once else desk.lease.hold(work, anyio.Event()))
    assert caught.value is error
    assert [what for _, what in desk.right.said] == ["take", "release"]
    assert not desk.lease.is_held()
