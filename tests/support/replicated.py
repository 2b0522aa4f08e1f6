"""Two real servers, one of which copies the other, behind one address."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from support.commands import wait_until
from support.forwarder import Forwarder, forwarder
from support.redis_server import RedisServer, redis_server
from support.sink_peers import LOOPBACK

PAUSE_MS = 60_000
AT_ONCE = ("--repl-diskless-sync-delay", "0")


@dataclass
class Pair:
    """A primary, its replica, and an address that leads to the primary."""

    old: RedisServer
    new: RedisServer
    address: Forwarder

    def demote(self) -> None:
        """The replica becomes the primary, and the other way round; the address stays.

        Planned: writes wait meanwhile. One that the old primary took after the new one led would be lost,
        and the daemon would give up its lease for that instead.
        """
        with self.old.client as old, self.new.client as new:
            old.client_pause(PAUSE_MS, all=False)
            wait_until(lambda: _offset(old) == _offset(new), "the replica to have everything")
            new.replicaof("NO", "ONE")
            _follow(self.old, self.new)
            old.client_unpause()

    def lead_on(self) -> None:
        """New connections lead to the new primary."""
        self.address.target = self.new.port

    @property
    def place(self) -> str:
        return f"{LOOPBACK}:{self.address.port}/0"


@contextmanager
def replicated(folder: Path) -> Iterator[Pair]:
    """A pair, until the block ends."""
    with ExitStack() as stack:
        old, new = (stack.enter_context(redis_server(folder / name, *AT_ONCE)) for name in ("old", "new"))
        _follow(new, old)
        yield Pair(old, new, stack.enter_context(forwarder(old.port)))


def _offset(client: redis.Redis) -> int:
    """How much of the primary's writes a server has."""
    replication = client.info("replication")
    return int(replication.get("slave_repl_offset", replication["master_repl_offset"]))


def _follow(replica: RedisServer, primary: RedisServer) -> None:
    with replica.client as client:
        client.replicaof(LOOPBACK, primary.port)
        wait_until(lambda: client.info("replication")["master_link_status"] == "up", "a replica")
