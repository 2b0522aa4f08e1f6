"""The sink `redis://…?channel=…`: PUBLISH to a channel of Redis or Valkey.

Publishing to nobody is not delivering: the count of subscribers that PUBLISH answers has to be one at least.
That count is true on a standalone server only; on a Cluster, or with subscribers on replicas, it is not.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import unquote

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    NoPermissionError,
    RedisError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from shop_poller.core.addresses import SinkAddress
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery

TIMEOUT_S = 5.0


class RedisSink:
    """Publishes to one channel. For the methods see ports.Sink.

    Args:
        address: where to.
        connections: the most deliveries at once.
    """

    def __init__(self, address: SinkAddress, *, connections: int) -> None:
        self.name = address.name
        self._channel = address.channel
        self._secrets = {unquote(address.password), address.password} - {""}
        self._redis = aioredis.Redis.from_url(
            address.url,
            protocol=2,  # any server knows it; HELLO, the other one's greeting, is refused by old ones
            max_connections=connections,
            socket_timeout=TIMEOUT_S,  # a half-open connection is noticed
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),  # there is one retry authority, and it is not this one
        )

    async def send(self, delivery: Delivery) -> None:
        """Publish one notification to at least one subscriber."""
        with self._errors():
            listeners = await self._redis.publish(self._channel, delivery.body)
        if not listeners:
            raise TemporaryError(ErrorKind.NO_SUBSCRIBER, f"nobody is subscribed to {self._channel}")

    async def check(self) -> str:
        """See whether the server answers and how many listen; nothing is published."""
        with self._errors():
            ((_, listeners),) = await self._redis.pubsub_numsub(self._channel)
        if not listeners:
            raise TemporaryError(
                ErrorKind.NO_SUBSCRIBER,
                f"answers, but nobody is subscribed to {self._channel}; deliveries wait until somebody is",
            )
        return f"answers; subscribers of {self._channel}: {listeners}"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (AuthenticationError, AuthorizationError, NoPermissionError) as error:
            # Not for good: somebody will mend the user's password or rights, and the row waits for that.
            raise TemporaryError(ErrorKind.UNAVAILABLE, "Redis refuses our user or password") from error
        except RedisTimeoutError as error:
            raise TemporaryError(ErrorKind.TIMEOUT, "Redis did not answer in time") from error
        except (RedisError, OSError) as error:
            text = f"Redis: {type(error).__name__}: {error}"
            for secret in self._secrets:  # a server says a command back that it does not know, AUTH too
                text = text.replace(secret, "***")
            raise TemporaryError(ErrorKind.CONNECTION, text) from error
