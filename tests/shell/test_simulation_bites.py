"""The judge of the simulation finds what it should: one deliberate bug after the other."""

import pytest

from simulation.bugs import BUGS
from support.simulated_worlds import simulate


@pytest.mark.parametrize("bug", BUGS)
def test_a_deliberate_bug_is_found(bug: str) -> None:
    done = simulate("--bug", bug)
    assert (done.returncode, "found by seed" in done.stdout) == (0, True), done.stdout
