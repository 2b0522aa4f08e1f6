"""Runs seeds of the simulation, in a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

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
