"""Clients of Redis and Valkey: one server, Sentinel or Cluster; what can go wrong is decided here on purpose.

A command that fails is not tried again by the client: whether it was carried out is not known, and the store
has its own way to find out. There is one retry authority, and it is not this one.
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
"""A host that is gone does not answer at all; the next try comes with the next tick or claim."""
ANSWER_TIMEOUT_S = 3.0
"""Our largest script takes milliseconds. Well below the lease's term, so that a server that hangs, or a
connection that is half-open, is given up before the lease is lost for it."""
LARGE_TIMEOUT_S = 60.0
"""For the values of a backup, which may have hundreds of megabytes."""
SENTINEL_TIMEOUT_S = 1.0
"""Sentinels are asked one after the other: two that hang must leave time for the third."""
IDLE_CHECK_S = 20
"""A connection that was silent for so long is pinged before it is used: it may have died since."""
MAX_CONNECTIONS = 16
"""Of a store; see Connection for who waits for whom."""


def make_client(address: RedisAddress, connections: int = MAX_CONNECTIONS, *, binary: bool = False) -> Client:
    """A client for an address; it does not connect yet.

    Args:
        address: of one server, or several.
        connections: that it may have at most.
        binary: answers are bytes, and may be large: they get more time.
    """
    options = _options(address)
    if binary:
        options |= {"decode_responses": False, "socket_timeout": LARGE_TIMEOUT_S}
    if address.topology is Topology.CLUSTER:
        return RedisCluster(
            startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
            retry=Retry(NoBackoff(), 1),  # moved slots and a fail-over are followed once; see above
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
    """Close the connections that nobody uses just now: the address may lead to another server by now.

    Those in use are closed when they meet the same answer. A Cluster's nodes are looked for anew.
    """
    if isinstance(client, RedisCluster):
        await client.aclose()  # it opens itself again when it is used
    else:
        await client.connection_pool.disconnect(inuse_connections=False)


async def close_client(client: Client) -> None:
    """Close a client's connections, those to Sentinels too, which the library forgets."""
    await client.aclose()
    if isinstance(client, aioredis.Redis) and isinstance(client.connection_pool, SentinelConnectionPool):
        for sentinel in client.connection_pool.sentinel_manager.sentinels:
            await sentinel.aclose()


def _options(address: RedisAddress) -> dict[str, Any]:
    options: dict[str, Any] = {
        "username": address.username or None,
        "password": address.password or None,
        "decode_responses": True,
        # What is not UTF-8 is one bad value, see stores.stored; an error while an answer is read would leave
        # the rest of it to the next command.
        "encoding_errors": "surrogateescape",
        "protocol": 2,  # any server knows it; HELLO, the other one's greeting, is refused by old ones
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
    """A peer that vanished is noticed after 30 s of silence, not after the system's two hours."""
    return {socket.TCP_KEEPIDLE: 15, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
