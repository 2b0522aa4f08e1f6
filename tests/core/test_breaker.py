"""The circuit breaker as a state machine: which moves there are, and that there are no others."""

from collections.abc import Callable
from typing import ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from shop_poller.core.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState.CLOSED, BreakerState.OPEN, BreakerState.HALF_OPEN

FRESH = Breaker()
SHAKEN = Breaker(failures=4)
"""One failure more opens it."""
TRIPPED = Breaker().trip(100.0)
PROBING = TRIPPED.probe()

NOW = 130.0


@pytest.mark.parametrize(
    ("title", "breaker", "move", "state", "failures"),
    [
        ("it works", FRESH, "success", CLOSED, 0),
        ("a first failure", FRESH, "failure", CLOSED, 1),
        ("a fourth failure", Breaker(failures=3), "failure", CLOSED, 4),
        ("a fifth failure in a row opens it", SHAKEN, "failure", OPEN, 5),
        ("a success forgets the failures", SHAKEN, "success", CLOSED, 0),
        ("the peer is down as a whole", FRESH, "trip", OPEN, 5),
        ("nothing to probe", FRESH, "probe", CLOSED, 0),
        ("nor here", SHAKEN, "probe", CLOSED, 4),
        ("one probe", TRIPPED, "probe", HALF_OPEN, 5),
        ("the probe fails", PROBING, "failure", OPEN, 5),
        ("the probe finds the peer down", PROBING, "trip", OPEN, 5),
        ("the probe works", PROBING, "success", CLOSED, 0),
        ("no second probe", PROBING, "probe", HALF_OPEN, 5),
        ("a straggler fails", TRIPPED, "failure", OPEN, 5),
        ("the cooldown ends early", TRIPPED, "end_cooldown", OPEN, 5),
        ("nothing to end", SHAKEN, "end_cooldown", CLOSED, 4),
        ("nor while a probe is under way", PROBING, "end_cooldown", HALF_OPEN, 5),
    ],
)
def test_the_moves(title: str, breaker: Breaker, move: str, state: BreakerState, failures: int) -> None:
    moves: dict[str, Callable[[], Breaker]] = {
        "success": breaker.success,
        "failure": lambda: breaker.failure(NOW),
        "trip": lambda: breaker.trip(NOW),
        "probe": breaker.probe,
        "end_cooldown": lambda: breaker.end_cooldown(NOW),
    }

    after = moves[move]()

    assert (title, after.state, after.failures) == (title, state, failures)


def test_five_failures_in_a_row_open_it_for_a_minute() -> None:
    breaker = Breaker()
    for second in range(5):
        assert breaker.state is CLOSED
        assert breaker.wait_s(second) == 0.0
        breaker = breaker.failure(float(second))

    assert breaker.state is OPEN
    assert [breaker.wait_s(now) for now in (4.0, 34.0, 63.0, 64.0, 65.0)] == [60.0, 30.0, 1.0, 0.0, 0.0]


def test_failures_that_are_not_in_a_row_do_not_open_it() -> None:
    breaker = Breaker()
    for second in range(100):
        breaker = breaker.failure(float(second))
        if second % 4 == 3:
            breaker = breaker.success()

    assert breaker.state is CLOSED


def test_a_failed_probe_opens_it_for_another_minute_from_then_on() -> None:
    again = PROBING.failure(170.0)

    assert again.state is OPEN
    assert again.wait_s(170.0) == 60.0


def test_a_cooldown_that_is_ended_allows_one_probe_and_no_more() -> None:
    ended = TRIPPED.end_cooldown(110.0)

    assert ended.wait_s(110.0) == 0.0
    assert ended.probe().failure(111.0).wait_s(111.0) == 60.0
    assert ended.probe().success().state is CLOSED
    assert TRIPPED.end_cooldown(200.0) == TRIPPED, "one that is over does not begin again"


def test_after_a_probe_that_worked_it_takes_five_failures_again() -> None:
    breaker = PROBING.success()
    for _ in range(4):
        breaker = breaker.failure(200.0)
        assert breaker.state is CLOSED

    assert breaker.failure(200.0).state is OPEN


@pytest.mark.parametrize(("at_least_s", "wait_s"), [(0.0, 60.0), (59.0, 60.0), (600.0, 600.0)])
def test_a_peer_may_ask_to_be_left_alone_for_longer(at_least_s: float, wait_s: float) -> None:
    assert FRESH.trip(100.0, at_least_s=at_least_s).wait_s(100.0) == wait_s


@pytest.mark.parametrize(
    ("within_s", "at_least_s", "wait_s"),
    [(15.0, 0.0, 15.0), (0.0, 0.0, 0.0), (600.0, 0.0, 60.0), (15.0, 30.0, 30.0), (15.0, 600.0, 600.0)],
)
def test_a_peer_that_may_be_back_sooner_is_probed_sooner_but_not_against_its_wish(
    within_s: float, at_least_s: float, wait_s: float
) -> None:
    assert FRESH.trip(100.0, at_least_s=at_least_s, within_s=within_s).wait_s(100.0) == wait_s


def test_the_cooldown_and_the_threshold_can_be_chosen() -> None:
    breaker = Breaker(threshold=2, cooldown_s=5.0).failure(0.0).failure(1.0)

    assert breaker.state is OPEN
    assert (breaker.wait_s(1.0), breaker.wait_s(6.0)) == (5.0, 0.0)


class Machine(RuleBasedStateMachine):
    """A caller that keeps to the rules, with tries under way side by side.

    It tries while closed; once open it waits, then probes; while a probe is under way it does not try.
    What was under way when the breaker opened may still end, either way, at any time.
    """

    LEGAL: ClassVar = {
        (CLOSED, "success", CLOSED),
        (CLOSED, "failure", CLOSED),
        (CLOSED, "failure", OPEN),
        (CLOSED, "trip", OPEN),
        (OPEN, "probe", HALF_OPEN),
        (OPEN, "failure", OPEN),
        (OPEN, "trip", OPEN),
        (OPEN, "success", CLOSED),  # a straggler: the peer works after all
        (HALF_OPEN, "success", CLOSED),
        (HALF_OPEN, "failure", OPEN),
        (HALF_OPEN, "trip", OPEN),
    }

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.breaker = Breaker()
        self.under_way = 0
        self.in_a_row = 0
        self.opened_at: float | None = None

    def move(self, name: str, after: Breaker) -> None:
        before, self.breaker = self.breaker, after
        assert (before.state, name, after.state) in self.LEGAL
        assert (after.threshold, after.cooldown_s) == (before.threshold, before.cooldown_s)
        if after.state is OPEN:
            self.opened_at = self.now

    @rule(seconds=st.floats(0.0, 100.0))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.breaker.state is CLOSED and self.under_way < 8)
    @rule()
    def somebody_tries(self) -> None:
        assert self.breaker.wait_s(self.now) == 0.0
        assert self.breaker.probe() == self.breaker
        self.under_way += 1

    @precondition(lambda self: self.breaker.state is OPEN and not self.breaker.wait_s(self.now))
    @rule()
    def somebody_probes(self) -> None:
        assert self.opened_at is not None
        assert self.now >= self.opened_at + 60.0 - 1e-6
        self.move("probe", self.breaker.probe())
        self.under_way += 1

    @precondition(lambda self: self.under_way)
    @rule()
    def a_try_works(self) -> None:
        self.under_way -= 1
        self.in_a_row = 0
        self.move("success", self.breaker.success())

    @precondition(lambda self: self.under_way)
    @rule()
    def a_try_fails(self) -> None:
        self.under_way -= 1
        self.in_a_row += 1
        probing = self.breaker.state is HALF_OPEN
        self.move("failure", self.breaker.failure(self.now))
        if self.in_a_row >= 5 or probing:
            assert self.breaker.state is OPEN

    @precondition(lambda self: self.under_way)
    @rule()
    def a_try_finds_the_peer_down(self) -> None:
        self.under_way -= 1
        self.in_a_row += 1
        self.move("trip", self.breaker.trip(self.now))

    @invariant()
    def a_probe_is_alone(self) -> None:
        if self.breaker.state is HALF_OPEN:
            assert self.breaker.probe() is self.breaker

    @invariant()
    def it_is_open_for_a_minute_at_most(self) -> None:
        wait_s = self.breaker.wait_s(self.now)
        if self.breaker.state is OPEN:
            assert self.opened_at is not None
            assert wait_s == pytest.approx(max(0.0, self.opened_at + 60.0 - self.now))
        else:
            assert wait_s == 0.0

    @invariant()
    def failures_are_counted_up_to_the_threshold(self) -> None:
        assert 0 <= self.breaker.failures <= self.breaker.threshold
        if self.breaker.state is CLOSED:
            assert self.breaker.failures == self.in_a_row < self.breaker.threshold
        else:
            assert self.breaker.failures == self.breaker.threshold


TestAnyCaller = Machine.TestCase
TestAnyCaller.settings = settings(max_examples=settings().max_examples // 3, stateful_step_count=40)


@given(
    requested=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5000)), min_size=1, max_size=6),
    plain=st.lists(st.floats(0, 100), max_size=6),
)
def test_once_open_nothing_shortens_the_wait(
    requested: list[tuple[float, float]], plain: list[float]
) -> None:
    actions = sorted(
        [*((at, longest) for at, longest in requested), *((at, None) for at in plain)], key=lambda d: d[0]
    )
    breaker = Breaker()
    for at, longest in actions:
        before = breaker.wait_s(at)
        breaker = breaker.failure(at) if longest is None else breaker.trip(at, at_least_s=longest)
        assert breaker.wait_s(at) >= before
        if longest is not None:
            assert breaker.wait_s(at) >= longest - 1e-6
