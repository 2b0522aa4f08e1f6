"""Many shops: how late their ticks are, what a shop costs, what kills of replicas do; see docs/scaling.md.

.venv/bin/python -m benchmarks.fleet --shops 1000 --seconds 180
.venv/bin/python -m benchmarks.fleet --shops 1000 --seconds 240 --replicas 3 --kills 3
"""

import argparse
import json
import signal
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from benchmarks.processes import Process, running
from benchmarks.theirs import RedisServer, redis_server

FIRST_PORT = 9300
PLACE_EVERY_S = 1.0
LOOKS, LOOK_EVERY_S = 12, 3.0
"""How often the overview is read, and when: later than its data are shared."""
LATE = "shop_fleet_poll_lateness_seconds"


def fetch(url: str, *, post: bool = False) -> bytes:
    """Ask something on this machine."""
    request = urllib.request.Request(url, data=b"" if post else None)  # noqa: S310 - a port of loopback
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 - as above
        found: bytes = answer.read()
    return found


def wait_for_line(process: Process) -> str:
    """The first line that a process prints."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        process.check()
        if lines := process.log.read_text(encoding="utf-8").splitlines():
            return lines[0]
        time.sleep(0.05)
    raise TimeoutError(process.name)


def write_shops(path: Path, count: int, *, world: str, state: str, interval: int, connections: int) -> None:
    """The file of all shops."""
    head = f"""
shop_state_url = "{state}"
shop_polling_interval = {interval}
shop_notify_urls = "{world}/told#crm"
shop_concurrent_polls = {connections}
shop_dialect = "rest"
shop_senders = 2
shop_log_level = "warning"
"""
    table = """
[[shops]]
shop_id = "shop-{n}"
woocommerce_mcp_url = "{world}/shop-{n}/wp-json/wc/v3/orders"
woocommerce_consumer_key = "ck_{n}"
woocommerce_consumer_secret = "cs_{n}"
"""
    path.write_text(head + "".join(table.format(n=n, world=world) for n in range(count)), encoding="utf-8")


def late_p99(port: int) -> tuple[float, float, int]:
    """Of a replica's ticks: the bounds between which the 99th percentile lies, and how many there were."""
    text = fetch(f"http://127.0.0.1:{port}/metrics").decode()
    buckets = [
        (float(sample.labels["le"]), sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"{LATE}_bucket"
    ]
    count = buckets[-1][1]
    at = next(i for i, (_, value) in enumerate(buckets) if value >= 0.99 * count)
    return (buckets[at - 1][0] if at else 0.0), buckets[at][0], int(count)


def overview(port: int) -> dict[str, Any]:
    """What the overview of all shops costs a reader: at first, when no store was read, and later."""
    taken_ms, page = [], b""
    for _ in range(LOOKS):
        began = time.monotonic()
        page = fetch(f"http://127.0.0.1:{port}/?lang=en")
        taken_ms.append(round(1000 * (time.monotonic() - began), 1))
        time.sleep(LOOK_EVERY_S)
    return {
        "first_ms": taken_ms[0],
        "median_ms": median(taken_ms[2:]),
        "worst_ms": max(taken_ms[2:]),
        "bytes": len(page),
        "rows": page.count(b"<tr>") - 1,
        "rows_not_read": page.count(b"being read"),
    }


def measure(args: argparse.Namespace, home: Path) -> dict[str, Any]:
    """Run it, and say what came of it."""
    with ExitStack() as stack:
        python = sys.executable
        world_process = stack.enter_context(
            running("world", [python, "-m", "benchmarks.fleet_world"], home=home)
        )
        world = f"http://127.0.0.1:{wait_for_line(world_process)}"
        server: RedisServer | None = None
        state = f"sqlite:///{home}/state.db"
        if args.state == "redis":
            server = stack.enter_context(redis_server(home, keeps=True))
            state = server.url
        config = home / "shops.toml"
        write_shops(
            config, args.shops, world=world, state=state, interval=args.interval, connections=args.polls
        )
        command: list[str | Path] = [Path(python).with_name("shop-poller"), "run", "--config", str(config)]

        def start(number: int) -> Process:
            env = {"SHOP_HTTP_LISTEN": f"127.0.0.1:{FIRST_PORT + number}"}
            return stack.enter_context(running(f"replica-{number}", command, home=home, env=env))

        replicas = {number: start(number) for number in range(args.replicas)}
        time.sleep(args.interval + 15)
        for process in replicas.values():
            process.check()

        def costly() -> list[Process]:
            return [*replicas.values(), *([server.process] if server else [])]

        before = [process.cpu_s() for process in costly()]
        kill_at = [args.seconds * (n + 1) / (args.kills + 1) for n in range(args.kills)]
        began = time.monotonic()
        while (passed := time.monotonic() - began) < args.seconds:
            if kill_at and passed >= kill_at[0]:
                number = len(kill_at) % args.replicas
                kill_at.pop(0)
                replicas[number].end(signal.SIGKILL)
                replicas[number] = start(number)
            fetch(f"{world}/orders?n={args.orders}", post=True)
            time.sleep(PLACE_EVERY_S)
        found: dict[str, Any] = {"run": vars(args)}
        if not args.kills:
            spent = [process.cpu_s() - was for process, was in zip(costly(), before, strict=True)]
            found["cpu_percent"] = [round(100 * s / passed, 1) for s in spent]
        time.sleep(args.interval + 20)
        found["overview"] = overview(FIRST_PORT)
        found["memory_mb"] = [round(process.memory_mb()[0], 1) for process in costly()]
        found["lateness_p99_s"] = {number: late_p99(FIRST_PORT + number) for number in replicas}
        found["shares"] = [
            json.loads(fetch(f"http://127.0.0.1:{FIRST_PORT + n}/healthz"))["shops"] for n in replicas
        ]
        found |= json.loads(fetch(f"{world}/report?interval={args.interval}"))
        return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, default in {"shops": 1000, "replicas": 1, "interval": 60, "seconds": 180, "kills": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--orders", type=int, default=5, help="placed each second")
    parser.add_argument("--polls", type=int, default=100, help="SHOP_CONCURRENT_POLLS")
    parser.add_argument("--state", choices=["redis", "sqlite"], default="redis")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="fleet-") as home:
        print(json.dumps(measure(args, Path(home)), indent=2))


if __name__ == "__main__":
    main()
