"""More connections than there may be files: the watch goes on, others get in, and the log stays short."""

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from shop_poller.web.server import MAX_CONNECTIONS
from support.commands import FAST, PATIENCE_S, PLAIN, wait_until
from support.site import Site

MANY = 1_100
BESIDES = 60
"""Files that the daemon has open beside connections to its listener."""


@pytest.fixture(autouse=True)
def _room_for_so_many() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def files_of(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))  # noqa: PTH208 - their number is all that is wanted


def soft_limit_of(pid: int) -> int:
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:  # noqa: PTH123 - no file, and not ours
        (line,) = [line for line in limits if line.startswith("Max open files")]
    return int(line.split()[3])


@pytest.mark.parametrize("extra", [PLAIN, FAST], ids=["plain", "fast"])
@pytest.mark.parametrize("limit", ["-Sn 1024", "-n 200"])
def test_idle_connections_by_the_thousand_harm_nobody(site: Site, extra: dict[str, str], limit: str) -> None:
    before = ("/bin/sh", "-c", f'ulimit {limit}; exec "$@"', "sh")
    with site.daemon(before=before, **extra) as daemon, ExitStack() as stack:
        assert soft_limit_of(daemon.pid) >= (4096 if "S" in limit else 200)
        port = int(daemon.http.rpartition(":")[2])
        most = 0
        for number in range(MANY):
            idle = stack.enter_context(socket.socket())
            idle.settimeout(PATIENCE_S)
            idle.connect(("127.0.0.1", port))
            if number % 100 == 0:
                most = max(most, files_of(daemon.pid))
        wait_until(lambda: files_of(daemon.pid) <= MAX_CONNECTIONS + BESIDES, "the bound")
        assert most <= MAX_CONNECTIONS + BESIDES
        assert daemon.get("/livez").status_code == 200
        order = site.shop.create_order("processing")
        wait_until(lambda: site.receiver.story(order) == ["new"], "the notification")
        site.polled(2)
        assert daemon.logged("polling failed") == []
        assert len(daemon.log) < 50
