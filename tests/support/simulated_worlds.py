"""Runs seeds of the simulation, in a process of its own each time: a seed is always the same world."""

import os
import subprocess
import sys
from pathlib import Path

from support.commands import Finished, fork_of, fork_server

TESTS = Path(__file__).parent.parent
SAME_HASHES = {"PYTHONHASHSEED": "0"}
WITHIN_S = 500.0


def simulate(*args: str) -> Finished:
    """Run `python -m simulation` as a fork, without half a second of imports: see support.fork_server."""
    server = fork_server("simulation_server.py", PYTHONPATH="", **SAME_HASHES)
    whole = {**os.environ, **SAME_HASHES}
    return fork_of(server, ["simulation", *args], home=TESTS, whole=whole, within_s=WITHIN_S)


def simulate_from_the_start(*args: str) -> Finished:
    """Run `python -m simulation` itself."""
    done = subprocess.run(
        [sys.executable, "-m", "simulation", *args],
        cwd=TESTS,
        env={**os.environ, **SAME_HASHES},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    return Finished(done.returncode, done.stdout, done.stderr)
