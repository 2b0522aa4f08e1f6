"""How soon a sink is probed in the middle of a switch, and for how long."""

import pytest

from shop_poller.core.breaker import SWITCHING_S, Switching
from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError

SOON = TemporaryError(ErrorKind.CONNECTION, "READONLY", probe_after_s=5.0)
DOWN = TemporaryError(ErrorKind.CONNECTION, "no connection")


@pytest.mark.parametrize("now", [0.0, 1e6], ids=["after a start of the machine", "later"])
def test_it_is_probed_soon_for_ten_minutes_whatever_fails_next(now: float) -> None:
    switching = Switching()
    assert switching.within_s(DOWN, now) is None
    assert switching.within_s(SOON, now) == 5.0
    assert [switching.within_s(DOWN, now + s) for s in (1, SWITCHING_S - 1, SWITCHING_S)] == [5.0, 5.0, None]


def test_one_that_is_never_over_is_not_begun_anew_by_its_repetition() -> None:
    switching = Switching()
    found = [switching.within_s(SOON, 1e6 + 60 * minute) for minute in range(20)]
    assert found == [5.0] * 10 + [None] * 10


def test_a_success_ends_it_and_the_next_one_has_its_own_time() -> None:
    switching = Switching()
    switching.within_s(SOON, 100.0)
    switching.ended()
    assert switching.within_s(DOWN, 101.0) is None
    assert switching.within_s(SOON, 5000.0) == 5.0
    assert switching.within_s(PermanentError(ErrorKind.REJECTED, "no"), 5001.0) == 5.0
