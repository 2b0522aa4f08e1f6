"""Makes clients for Redis and Valkey: one server, Sentinel or Cluster. It sets every limit explicitly.

The client does not retry a command that fails: it does not know whether the command was executed, and the
store has its own way to determine that. There is one retry authority, and it is not the client.
"""

import socket
from collections.abc import Mapping
from typing import Any

import redis.asyncio as aioredis
from redis.asyncio.cluster import ClusterNode, RedisCluster
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool
from redis.backoff import NoBackoff

from shop_poller.config.redis_address import RedisAddress, Topology

Client = aioredis.Redis | RedisCluster

CONNECT_TIMEOUT_S = 2.0
"""A host that is gone does not answer at all. The next tick or claim connects again."""
ANSWER_TIMEOUT_S = 3.0
"""Our largest script takes milliseconds. The timeout is well below the term of the lease, so that a server
that hangs, or a half-open connection, does not cost the lease."""
LARGE_TIMEOUT_S = 60.0
"""The timeout for the values of a backup, which may have hundreds of megabytes."""
SENTINEL_TIMEOUT_S = 1.0
"""Sentinels are asked one after the other. If two of them hang, there must be time for the third."""
IDLE_CHECK_S = 20
"""A connection that was idle for this long is pinged before use, because it may be dead."""
MAX_CONNECTIONS = 16
"""Most connections of one store. ConnectionPool divides them among the kinds of requests."""


def make_client(address: RedisAddress, connections: int = MAX_CONNECTIONS, *, binary: bool = False) -> Client:
    """Return a client for an address. It does not connect yet.

    Args:
        address: the address of one server, or of several.
        connections: the most connections that it may open.
        binary: whether answers are bytes. They may be large, so the timeout is longer.
    """
    options = _options(address)
    if binary:
        options |= {"decode_responses": False, "socket_timeout": LARGE_TIMEOUT_S}
    if address.topology is Topology.CLUSTER:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            retry=Retry(NoBackoff(), 1),  # follows moved slots and a failover once; see above
            **options,
        )
    options |= {"db": address.database, "retry": Retry(NoBackoff(), 0), "max_connections": connections}
    if address.topology is Topology.SENTINEL:
        sentinels = Sentinel(  # type: ignore[no-untyped-call] # the library has no types for it
            address.hosts,
            sentinel_kwargs=_options(address)
            | {
                "username": address.sentinel_username or None,
                "password": address.sentinel_password or None,
                "socket_timeout": SENTINEL_TIMEOUT_S,
                "socket_connect_timeout": SENTINEL_TIMEOUT_S,
            },
            **options,
        )
        master: aioredis.Redis = sentinels.master_for(address.master)
        return master
    ((host, port),) = address.hosts
    return aioredis.Redis(host=host, port=port, **options)


async def drop_connections(client: Client) -> None:
    """Close the idle connections, because the address may lead to another server by now.

    A connection in use is closed when it gets the same answer. The nodes of a Cluster are looked up again.
    """
    if isinstance(client, RedisCluster):
        await client.aclose()  # the next command opens it again
    else:
        await client.connection_pool.disconnect(inuse_connections=False)


async def close_client(client: Client) -> None:
    """Close the connections of a client, including those to Sentinels, which the library does not close."""
    await client.aclose()
    if isinstance(client, aioredis.Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _options(address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "decode_responses": True,
        # Invalid UTF-8 is one bad value, see stores.stored. If reading an answer raised an error, the next
        # command would get the rest of the answer.
        "encoding_errors": "surrogateescape",
        "protocol": 2,  # every server supports it; old ones refuse HELLO, which protocol 3 needs
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
        "health_check_interval": IDLE_CHECK_S,
    }
    if address.tls:
        options |= {"ssl": True, "ssl_ca_certs": address.ca_certs or None}
    return options


def _keepalive() -> Mapping[int, int]:
    """Return options that detect a lost peer after 30 s of silence, not after the system's two hours."""
    return {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
