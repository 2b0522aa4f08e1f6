"""Hundreds of worlds that are out to break the whole daemon; and the judge finds what it should."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.bugs import BUGS

TESTS = Path(__file__).parent.parent


def simulate(*args: str) -> subprocess.CompletedProcess[str]:
    """In a process of its own, where a seed is the same world every time."""
    return subprocess.run(
        [sys.executable, "-m", "simulation", *args],
        cwd=TESTS,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


def test_all_is_well_in_hundreds_of_worlds() -> None:
    done = simulate("--seeds", "200", "--jobs", "1")
    assert (done.returncode, "200 seeds, 0 of them not well" in done.stdout) == (0, True), done.stdout


def test_a_seed_is_the_same_world_every_time() -> None:
    first, second = simulate("--seed", "11"), simulate("--seed", "11")
    assert first.returncode == 0
    assert len(first.stdout.splitlines()) > 20
    assert first.stdout.replace(folder(first.stdout), "") == second.stdout.replace(folder(second.stdout), "")


def folder(text: str) -> str:
    """The state's, which has a name of chance."""
    return text.partition("state=")[2].partition("/state.db")[0]


@pytest.mark.parametrize("bug", BUGS)
def test_a_deliberate_bug_is_found(bug: str) -> None:
    done = simulate("--bug", bug)
    assert (done.returncode, "found by seed" in done.stdout) == (0, True), done.stdout


def test_a_seed_that_is_not_well_says_how_to_look_into_it() -> None:
    code = "from simulation.bugs import BUGS\nfrom simulation.__main__ import _many\n"
    code += "with BUGS['ack before send'].in_place(): raise SystemExit(_many(range(1), jobs=1))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert 'make simulate ARGS="--seed 0"' in done.stdout
