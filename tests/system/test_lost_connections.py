"""Connections to Redis are reset, killed, and lost with the server, again and again: the daemon goes on."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import pytest

from support.commands import FAST, PLAIN, Running, wait_until
from support.forwarder import Forwarder, forwarder
from support.redis_server import RedisServer, redis_server
from support.simulated import shop_in_thread
from support.sink_peers import LOOPBACK
from support.site import Site

STREAM = "shop:events"
PROBED_S = 90.0
"""A sink that is left alone is probed within a minute."""
NAMES = ("honey", "tea", "bread", "wax")
ONE, FLEET, CLUSTER = "one shop", "a fleet", "one shop on a Cluster"
INSTALLS = [
    pytest.param(shape, extra, id=f"{shape}, {name}")
    for shape in (ONE, FLEET, CLUSTER)
    for name, extra in (("plain", PLAIN), ("fast", FAST))
]


@dataclass
class LineItem:
    """A daemon, and what lies between it and its server."""

    daemon: Running
    server: RedisServer
    between: Forwarder

    def reset(self) -> None:
        self.between.reset()

    def kill_clients(self) -> None:
        with self.server.client as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    def restart(self) -> None:
        self.server.end()
        self.server.start()

    def lose(self, how: Callable[[], None], times: int) -> None:
        """Lose all connections so often, each time after a new one was used."""
        for _ in range(times):
            before = self.between.accepted
            how()
            wait_until(
                lambda before=before: self.between.accepted > before or not self.daemon.alive,  # type: ignore[misc]
                "a new connection",
            )
            assert self.daemon.alive, f"it ended with {self.daemon.process.returncode}"


@contextmanager
def line(site: Site, shape: str) -> Iterator[LineItem]:
    """A daemon with its state, and one of its sinks, behind a forwarder."""
    with ExitStack() as stack:
        between = stack.enter_context(forwarder(0))
        announced = ("--cluster-enabled", "yes", "--cluster-announce-port", str(between.port))
        options = announced if shape == CLUSTER else ()
        server = stack.enter_context(redis_server(site.home, *options, keeps=True))
        between.target = server.port
        place = f"{LOOPBACK}:{between.port}"
        site.settings["SHOP_STATE_URL"] = f"redis://{place}"
        site.settings["SHOP_NOTIFY_URLS"] = f"{site.receiver.url} redis+stream://{place}?stream={STREAM}#s"
        command = ["run"]
        if shape == CLUSTER:
            with server.client as client:
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
                wait_until(lambda: "state:ok" in str(client.execute_command("CLUSTER", "INFO")), "a cluster")
            site.settings["SHOP_STATE_URL"] = f"redis+cluster://{place}"
            site.settings["SHOP_REDIS_PREFIX"] = "{shop}:polling:"
        if shape == FLEET:
            others = {name: stack.enter_context(shop_in_thread()).url for name in NAMES[1:]}
            site.name_shops({NAMES[0]: site.served.url, **others})
            command += ["--config", "shops.toml"]
        daemon = stack.enter_context(site.start(*command))
        daemon.wait_for("started")
        wait_until(lambda: daemon.get("/readyz").status_code == 200, "readiness")
        yield LineItem(daemon, server, between)


def lose_all(site: Site, shape: str, times: int) -> None:
    """Lose all connections in each of the ways so often; then nothing is missing."""
    with line(site, shape) as one:
        daemon = one.daemon
        for how in (one.reset, one.kill_clients, one.restart):
            order = site.shop.create_order("processing")
            one.lose(how, times)
            wait_until(
                lambda order=order: site.receiver.story(order) == ["new"],  # type: ignore[misc]
                "the order",
                within_s=PROBED_S,
            )
        wait_until(lambda: daemon.get("/healthz").status_code == 200, "health")
        with one.server.client as client:
            wait_until(
                lambda: len({entry["event_id"] for _, entry in client.xrange(STREAM)}) == 3,
                "the stream",
                within_s=PROBED_S,
            )
        assert daemon.stop() == 0
    assert "bug" not in daemon.stderr
    assert [str(entry) for entry in daemon.log if "exception" in entry] == []
    assert daemon.log[-1]["event"] == "stopped"


@pytest.mark.parametrize(("shape", "extra"), INSTALLS)
def test_lost_connections_never_end_it(site: Site, shape: str, extra: dict[str, str]) -> None:
    site.settings |= extra
    lose_all(site, shape, int(os.environ.get("LOST_CONNECTIONS") or 8))


@pytest.mark.soak
@pytest.mark.parametrize(("shape", "extra"), INSTALLS)
def test_lost_connections_never_end_it_for_long(site: Site, shape: str, extra: dict[str, str]) -> None:
    site.settings |= extra
    lose_all(site, shape, 40)
