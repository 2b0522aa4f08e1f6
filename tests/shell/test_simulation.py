"""Worlds that are out to break the whole daemon; `make simulate` has them by the thousand."""

import subprocess
import sys

import pytest

from support.simulated_worlds import TESTS, simulate, simulate_from_the_start


@pytest.mark.parametrize("start", ["0", "20", "40", "60"])
def test_all_is_well_in_many_worlds(start: str) -> None:
    done = simulate("--seeds", "20", "--start", start, "--jobs", "1")
    assert (done.code, "20 seeds, 0 of them not well" in done.stdout) == (0, True), done.stdout + done.stderr


@pytest.mark.parametrize("seed", ["705446", "714938", "743601"])
def test_a_world_that_was_not_well_once_is_well(seed: str) -> None:
    """A clock jumps during a commit; a shop asks a probe to pause; a session ends as the store is lost."""
    done = simulate("--seed", seed)
    assert (done.code, done.last) == (0, "all is well"), done.stderr


@pytest.mark.parametrize("seed", ["11", "26"], ids=["one by one", "in bulk"])
def test_a_seed_is_the_same_world_every_time(seed: str) -> None:
    first, second = simulate_from_the_start("--seed", seed), simulate("--seed", seed)
    assert (first.code, second.code) == (0, 0), second.stderr
    assert len(first.lines) > 20
    assert first.stdout.replace(folder(first.stdout), "") == second.stdout.replace(folder(second.stdout), "")


def folder(text: str) -> str:
    """The state's, which has a random name."""
    return text.partition("state=")[2].partition("/state.db")[0]


def test_a_seed_that_is_not_well_says_how_to_look_into_it() -> None:
    code = "from simulation.bugs import BUGS\nfrom simulation.__main__ import _many\n"
    code += "with BUGS['ack before send'].in_place(): raise SystemExit(_many(range(1), jobs=1))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=TESTS, capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 1
    assert 'make simulate ARGS="--seed 0"' in done.stdout
