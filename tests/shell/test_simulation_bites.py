"""The judge of the simulation finds what it should: one deliberate bug after the other."""

import subprocess
import sys

import pytest

from simulation.bugs import BUGS
from support.simulated_worlds import TESTS, simulate

MADE_BADLY = """
from simulation.__main__ import _hunt
from simulation.bugs import BUGS, Bug
BUGS["made badly"] = Bug("delivery.dispatcher.Dispatcher", "_claim", lambda _: lambda *_: None, 3)
raise SystemExit(_hunt("made badly", 0))
"""


@pytest.mark.parametrize("bug", BUGS)
def test_a_deliberate_bug_is_found(bug: str) -> None:
    done = simulate("--bug", bug)
    assert (done.code, "found by seed" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_bug_that_only_makes_the_daemon_crash_is_not_found() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MADE_BADLY],
        cwd=TESTS,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "not found within 3 seeds\n")
