"""Starts what is measured, and asks the kernel what it costs."""

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[1]
ENVIRONMENTS = ROOT / ".venv-bench"
PATIENCE_S = 120.0
END_S = 20.0

T = TypeVar("T")


class BenchmarkError(Exception):
    """It cannot be measured; the text says why."""


@dataclass
class Process:
    """Something that runs, with its children.

    Attributes:
        started: by the machine's monotonic clock.
        log: where it writes what it says on stderr.
    """

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path
    started: float = field(default_factory=time.monotonic)

    def pids(self) -> list[int]:
        """Itself and its descendants."""
        found = [self.popen.pid]
        for pid in found:
            for task in Path(f"/proc/{pid}/task").glob("*/children"):
                found += map(int, task.read_text(encoding="ascii").split())
        return found

    def cpu_s(self) -> float:
        """Seconds on a CPU so far, of all of them, to the microsecond."""
        return sum(
            int(path.read_text(encoding="ascii").split()[0])
            for pid in self.pids()
            for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
        ) / 1e9  # fmt: skip

    def memory_mb(self) -> tuple[float, float]:
        """Resident and proportional memory of all of them."""
        resident, proportional = 0, 0
        for pid in self.pids():
            for line in Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines():
                name, _, value = line.partition(":")
                if name == "Rss":
                    resident += int(value.split()[0])
                elif name == "Pss":
                    proportional += int(value.split()[0])
        return resident / 1024, proportional / 1024

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it and what it started."""
        if self.popen.poll() is None:
            pids = self.pids()
            self.popen.send_signal(number)
            try:
                self.popen.wait(END_S)
            except subprocess.TimeoutExpired:
                for pid in pids:
                    if Path(f"/proc/{pid}").exists():
                        os.kill(pid, signal.SIGKILL)
                self.popen.wait(END_S)

    def check(self) -> None:
        """Raise BenchmarkError if it has ended."""
        if self.popen.poll() is not None:
            said = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise BenchmarkError(f"{self.name} ended ({self.popen.returncode}):\n{said}")


@contextmanager
def running(
    name: str, command: Sequence[str | Path], *, home: Path, env: Mapping[str, str] | None = None
) -> Iterator[Process]:
    """Run a command until the block ends; its output goes to a file."""
    log = home / f"{name}-{time.monotonic_ns()}.log"
    with log.open("wb") as said:
        popen = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(env),
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
        )
    process = Process(name, popen, log)
    try:
        yield process
    finally:
        process.end()


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Nothing of what the benchmark itself was started with, but where to find programs."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **(more or {})}


@dataclass
class Served:
    """A server of ours that runs in a process of its own."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        """Its address, without a path."""
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, *, post: bool = False) -> Any:
        """Ask it something; None if it answers nothing."""
        request = urllib.request.Request(self.url + path, method="POST" if post else "GET")  # noqa: S310 - ours
        with urllib.request.urlopen(request, timeout=PATIENCE_S) as answer:  # noqa: S310 - ours
            body = answer.read()
        return json.loads(body) if body else None

    @property
    def listings(self) -> int:
        """How often a shop has been asked for orders."""
        return int(self.ask("/stats")["listings"])

    def wait_count(self, n: int, by: Process, *, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until a receiver has counted so many."""

        def arrived() -> dict[str, Any] | None:
            by.check()
            stats: dict[str, Any] = self.ask("/stats")
            return stats if stats["count"] >= n else None

        return wait_until(arrived, f"{n} deliveries by {by.name}", within_s=within_s)

    def wait_listings(self, more: int) -> None:
        """Wait until a shop has been asked for orders so many times more."""
        self.wait_requested(self.listings + more)

    def wait_requested(self, times: int) -> None:
        """Wait until a shop has been asked for orders so many times."""
        wait_until(lambda: self.listings >= times or None, f"{times} listings")


@contextmanager
def serving(module: str, *args: str, home: Path) -> Iterator[Served]:
    """Run one of our servers until the block ends."""
    with running(module, [python("bench"), "-m", f"benchmarks.{module}", *args], home=home) as process:

        def port() -> int:
            process.check()
            return int(process.log.read_text(encoding="ascii") or 0)

        yield Served(process, wait_until(port, f"the port of {module}"))


def python(of: str) -> Path:
    """The Python of an environment: plain, fast or bench."""
    return ENVIRONMENTS / of / "bin" / "python"


def inside(of: str, module: str, *args: object) -> Any:
    """Run a module of benchmarks.inside in an environment, and return what it printed."""
    command = [str(python(of)), "-m", f"benchmarks.inside.{module}", *map(str, args)]
    done = subprocess.run(command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError(f"{module} in {of}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def wait_until(condition: Callable[[], T | None], what: str, *, within_s: float = PATIENCE_S) -> T:
    """Look again and again until the condition is true, and return it.

    Raises:
        BenchmarkError: it does not become so.
    """
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise BenchmarkError(f"not within {within_s:g} s: {what}")
        time.sleep(0.02)
    return found
