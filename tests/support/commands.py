"""Starts the real command line in subprocesses, and watches it from outside."""

import atexit
import json
import os
import select
import signal
import socket
import ssl
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile
from threading import Lock
from typing import Any, TypeVar

import httpx
from prometheus_client.parser import text_string_to_metric_families

COMMAND = Path(sysconfig.get_path("scripts"), "shop-poller")
PATIENCE_S = 30.0
"""What takes milliseconds may take this long on a machine that is busy with something else."""

PLAIN = {"PYTHONPATH": str(Path(__file__).with_name("plain"))}
"""The command as the default install has it."""
FAST = {"PYTHONPATH": ""}
"""With the extra `fast`, which is installed where the tests run."""
NO_FORK = ("env",)
"""For `before`: the installed command itself."""
AT_START = {
    "LANG": "C.UTF-8",
    # What a process leaves open at its end is told on stderr, where the tests look.
    "PYTHONWARNINGS": "default::ResourceWarning",
    **PLAIN,
}
"""What Python itself reads, once."""

NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For `verify` of requests to our own listeners: else httpx reads all certificates of the world for each one,
which takes more CPU than most answers."""

T = TypeVar("T")


def wait_until(condition: Callable[[], T], what: str, *, within_s: float = PATIENCE_S) -> T:
    """Look again and again until the condition is true (not empty, not None), and return it."""
    deadline = time.monotonic() + within_s
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {within_s:g} s: {what}")
        time.sleep(0.01)
    return found


def environment(home: Path, settings: Mapping[str, str]) -> dict[str, str]:
    """An environment with nothing in it that the tests' own was started with."""
    temporary = home / "tmp"
    temporary.mkdir(exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(temporary),
        **AT_START,
        **settings,
    }


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str

    @property
    def complaints(self) -> list[str]:
        """What it said on stderr to people, without the log."""
        return [line for line in self.stderr.splitlines() if not line.startswith("{")]

    @property
    def lines(self) -> list[str]:
        """What it printed."""
        return self.stdout.splitlines()

    @property
    def last(self) -> str:
        """The last line that it printed."""
        return self.lines[-1] if self.lines else ""


def run_command(
    args: Sequence[str],
    *,
    home: Path,
    env: Mapping[str, str],
    within_s: float = 60.0,
    stdout: int | None = None,
) -> Finished:
    """Run a command to its end, as a fork where that comes to the same: see support.fork_server.

    Args:
        args: the command's.
        home: the directory that it runs in, and its user's.
        env: besides what every command has.
        within_s: it is killed after that.
        stdout: a descriptor that it prints to; a file of ours if there is none.
    """
    whole = environment(home, env)
    run = forked if begins_alike(whole) else executed
    return run(args, home=home, whole=whole, within_s=within_s, stdout=stdout)


def begins_alike(whole: Mapping[str, str]) -> bool:
    """Whether a process with this environment begins as the forks do."""
    is_usual = all(whole[name] == value for name, value in AT_START.items() if name not in PLAIN)
    return is_usual and {name: whole[name] for name in PLAIN} in (PLAIN, FAST)


def executed(
    args: Sequence[str],
    *,
    home: Path,
    whole: Mapping[str, str],
    within_s: float,
    stdout: int | None = None,
) -> Finished:
    """Run the installed command to its end, in an environment that is whole."""
    done = subprocess.run(
        [COMMAND, *args],
        cwd=home,
        env=whole,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
        timeout=within_s,
        check=False,
    )
    return Finished(done.returncode, (done.stdout or b"").decode(), done.stderr.decode())


def forked(
    args: Sequence[str],
    *,
    home: Path,
    whole: Mapping[str, str],
    within_s: float,
    stdout: int | None = None,
) -> Finished:
    """The same, but for the imports, which were done once."""
    server = fork_server("fork_server.py", str(COMMAND), PYTHONPATH=whole["PYTHONPATH"])
    return fork_of(server, [str(COMMAND), *args], home=home, whole=whole, within_s=within_s, stdout=stdout)


def fork_of(
    server: socket.socket,
    argv: Sequence[str],
    *,
    home: Path,
    whole: Mapping[str, str],
    within_s: float,
    stdout: int | None = None,
) -> Finished:
    """Have a server fork, and wait for the end of that process; see support.fork_server."""
    with TemporaryFile() as out, TemporaryFile() as err:
        printed_to = out.fileno() if stdout is None else stdout
        process = Fork(server, argv, home=home, whole=whole, outputs=(printed_to, err.fileno()))
        try:
            code = process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise
        texts = [os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode() for file in (out, err)]
    return Finished(code, *texts)


class Fork:
    """A process that a server has forked, with the part of subprocess.Popen that tests use.

    Args:
        server: see fork_server.
        argv: of the process.
        home: its directory.
        whole: its environment.
        outputs: descriptors: its standard output and error.
    """

    def __init__(
        self,
        server: socket.socket,
        argv: Sequence[str],
        *,
        home: Path,
        whole: Mapping[str, str],
        outputs: tuple[int, int],
    ) -> None:
        self.returncode: int | None = None
        self._argv = argv
        self._lock = Lock()  # several threads may ask how it ended
        request = json.dumps({"args": argv, "home": str(home), "env": whole}).encode()
        self._told, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(server, [request], [*outputs, theirs.fileno()])
        self.pid = int(self._told.recv(20))
        self._told.settimeout(0)

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        with self._lock:
            if self.returncode is None:
                with suppress(BlockingIOError):
                    self.returncode = int(self._told.recv(20))
                    self._told.close()
            return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for that; subprocess.TimeoutExpired if it still runs after so many seconds."""
        if self.poll() is None:
            with suppress(ValueError):  # another thread was told meanwhile, and closed it
                select.select([self._told], [], [], timeout)
        if (code := self.poll()) is None:
            raise subprocess.TimeoutExpired(self._argv, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        """Signal it if it runs."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@cache
def fork_server(script: str, *args: str, **env: str) -> socket.socket:
    """Takes requests; one for all tests of this process that need the same.

    Args:
        script: its file, beside this one.
        args: of the script, after the descriptor that requests come from.
        env: what its environment has besides.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        server = subprocess.Popen(
            [sys.executable, Path(__file__).with_name(script), str(theirs.fileno()), *args],
            env={"PATH": os.environ.get("PATH", os.defpath), **AT_START, **env},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
        )
    atexit.register(server.wait)
    atexit.register(ours.close)  # before that: it ends then
    return ours


class Running:
    """A command that runs. Its output goes into files, so that it never waits for us to read."""

    def __init__(self, process: subprocess.Popen[bytes] | Fork, stdout: Path, stderr: Path) -> None:
        self.process = process
        self._stdout = stdout
        self._stderr = stderr
        self._read = 0
        self._entries: list[dict[str, Any]] = []
        self._reading = Lock()  # a made-up peer looks into the log from a thread of its own

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    @property
    def stdout(self) -> str:
        return self._stdout.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self._stderr.read_text(encoding="utf-8")

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged so far; fails if there is anything but whole JSON lines on stderr."""
        with self._reading:
            with self._stderr.open("rb") as file:
                file.seek(self._read)  # what was read before is not read again, however often one looks
                *whole, rest = file.read().split(b"\n")
            assert not rest or self.alive, f"half a line: {rest!r}"
            for line in whole:
                try:
                    self._entries.append(json.loads(line))
                except ValueError:
                    raise AssertionError(f"no JSON in the log: {line.decode()}") from None
                self._read += len(line) + 1
            return [*self._entries]

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The log's entries with this text."""
        return [entry for entry in self.log if entry["event"] == event]

    def wait_for(self, event: str, *, within_s: float = PATIENCE_S) -> dict[str, Any]:
        """Wait until something is logged, and return its first entry."""

        def found() -> list[dict[str, Any]]:
            entries = self.logged(event)
            assert entries or self.alive, f"it ended ({self.process.returncode}) before it logged {event!r}"
            return entries

        return wait_until(found, f"logging {event!r}", within_s=within_s)[0]

    @property
    def http(self) -> str:
        """The address of its listener, as it logged it."""
        return str(self.wait_for("started")["http"])

    def get(self, path: str, *, token: str | None = None) -> httpx.Response:
        """Ask its listener, with a token if one is needed."""
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        return httpx.get(
            self.http + path, headers=headers, timeout=PATIENCE_S, trust_env=False, verify=NO_TLS
        )

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        """Send something to its listener."""
        address = self.http + path
        return httpx.post(
            address, content=body, headers=headers, timeout=PATIENCE_S, trust_env=False, verify=NO_TLS
        )

    def metric(self, name: str, **labels: str) -> float:
        """The value of one of its metrics."""
        values = [
            sample.value
            for family in text_string_to_metric_families(self.get("/metrics").text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        ]
        assert len(values) == 1, f"{len(values)} samples of {name} {labels}"
        return values[0]

    def memory_mb(self) -> float:
        """Resident memory, as the kernel counts it."""
        for line in Path(f"/proc/{self.pid}/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) / 1024
        raise AssertionError("it has no memory")

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, *, within_s: float = PATIENCE_S) -> int:
        """Wait for its end and return its exit code, or minus the signal that ended it."""
        return self.process.wait(within_s)

    def stop(self, number: signal.Signals = signal.SIGTERM, *, within_s: float = PATIENCE_S) -> int:
        """Signal it, and wait for its end."""
        self.send(number)
        return self.wait(within_s=within_s)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(PATIENCE_S)


@contextmanager
def started(
    args: Sequence[str],
    *,
    home: Path,
    env: Mapping[str, str],
    before: Sequence[str] = (),
    stdout: int | None = None,
    as_fork: bool = False,
) -> Iterator[Running]:
    """Run a command beside the test; what is left of it is killed at the end of the block.

    Args:
        args: of the command.
        home: its directory.
        env: its settings.
        before: a command that executes it, e.g. ["nice"].
        stdout: a descriptor, else it is a file.
        as_fork: save half a second of imports, where that comes to the same: see support.fork_server.
    """
    whole = environment(home, env)
    number = len(list(home.glob("*.stderr")))
    printed, stderr = home / f"{number}.stdout", home / f"{number}.stderr"
    with printed.open("wb") as out, stderr.open("wb") as err:
        printed_to = out.fileno() if stdout is None else stdout
        process: subprocess.Popen[bytes] | Fork
        if as_fork and not before and begins_alike(whole):
            server = fork_server("fork_server.py", str(COMMAND), PYTHONPATH=whole["PYTHONPATH"])
            argv = [str(COMMAND), *args]
            process = Fork(server, argv, home=home, whole=whole, outputs=(printed_to, err.fileno()))
        else:
            process = subprocess.Popen(
                [*before, COMMAND, *args],
                cwd=home,
                env=whole,
                stdin=subprocess.DEVNULL,
                stdout=printed_to,
                stderr=err,
            )
    running = Running(process, printed, stderr)
    try:
        yield running
    except BaseException as error:
        error.add_note(f"--- {' '.join(args)} (process {process.pid}) logged:\n{running.stderr[-4000:]}")
        raise
    finally:
        if running.alive:
            process.kill()
        process.wait(PATIENCE_S)
