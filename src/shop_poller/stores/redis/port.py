"""The base class of all ports of a store in Redis."""

from datetime import datetime

from shop_poller.stores.redis.aside import Aside
from shop_poller.stores.redis.clock import ServerClock
from shop_poller.stores.redis.commits import Commits
from shop_poller.stores.redis.connection import RedisConnection
from shop_poller.stores.redis.keys import Keys
from shop_poller.stores.redis.outbox_order import OutboxOrder
from shop_poller.stores.redis.outbox_rows import OutboxRows


class Claims:
    """The part of the outbox's state that is in memory. It is void once another process may have written.

    Attributes:
        seqs: claimed deliveries, by sink.
        scan_positions: where the scan for parked deliveries continues, by sink.
        looked_at: how many of the oldest rows are not expired, by lane.
    """

    def __init__(self) -> None:
        self.seqs: dict[str, set[int]] = {}
        self.scan_positions: dict[str, int] = {}
        self.looked_at: dict[str, int] = {}

    def forget(self) -> None:
        """Drop all claims."""
        self.seqs.clear()
        self.scan_positions.clear()
        self.looked_at.clear()


class RedisPort:
    """One port of the keys under a prefix.

    Args:
        connection: the connection to the server. All ports of a store share it, and the objects made here.
        keys: the names of the keys.
    """

    def __init__(self, connection: RedisConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._clock = ServerClock()
        self._aside = Aside(connection, keys)
        self._commits = Commits(connection, keys, self._aside)
        self._rows = OutboxRows(connection, keys, self._aside)
        self._order = OutboxOrder(connection, keys, self._aside, self._rows)
        self._claims = Claims()

    def now(self) -> datetime:
        """Return the server's time, so that replicas with different clocks agree on what is due."""
        return self._clock.now()
