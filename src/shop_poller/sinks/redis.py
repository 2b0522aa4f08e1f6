"""The sinks in Redis or Valkey: `redis://…?channel=…` publishes, `redis+stream://…?stream=…` adds.

Publishing to nobody is not delivering: the count of subscribers that PUBLISH answers has to be one at least.
That count is true on a standalone server only; on a Cluster, or with subscribers on replicas, it is not, and
`check` says so. A stream needs nobody to be there: who reads it later finds what was added meanwhile.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import unquote

import redis.asyncio as aioredis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from shop_poller.core.addresses import SinkAddress
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.model import Delivery

TIMEOUT_S = 5.0
ENTRY_ID = re.compile(rb"[0-9]+-[0-9]+")


class Server:
    """The server that an address names, and what its errors mean.

    Args:
        address: where.
        connections: the most commands at once.

    Attributes:
        client: speaks to it, within `errors`.
    """

    def __init__(self, address: SinkAddress, *, connections: int) -> None:
        self._secrets = {unquote(address.password), address.password} - {""}
        self.client = aioredis.Redis.from_url(
            address.url,
            protocol=2,  # any server knows it; HELLO, the other one's greeting, is refused by old ones
            max_connections=connections,
            socket_timeout=TIMEOUT_S,  # a half-open connection is noticed
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),  # there is one retry authority, and it is not this one
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Whatever goes wrong is a TemporaryError: somebody will mend it, and the row waits for that."""
        try:
            yield
        except (RedisError, OSError) as error:
            raise self._named(error) from error

    async def together(self, commands: Sequence[Sequence[str | int]]) -> list[object]:
        """Carry out commands in one round trip, each by itself.

        Returns:
            The answers; of what the server refused the TemporaryError.

        Raises:
            TemporaryError: they did not all get there, or their answers did not come back.
        """
        with self.errors():
            async with self.client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                answers = await pipeline.execute(raise_on_error=False)
        return [self._named(one) if isinstance(one, RedisError | OSError) else one for one in answers]

    def _named(self, error: Exception) -> TemporaryError:
        if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return TemporaryError(ErrorKind.UNAVAILABLE, "Redis refuses our user or password")
        if isinstance(error, MovedError):
            return TemporaryError(
                ErrorKind.UNAVAILABLE,
                f"the key is on another node of this Cluster; name that one: {error.host}:{error.port}",
            )
        if isinstance(error, RedisTimeoutError):
            return TemporaryError(ErrorKind.TIMEOUT, "Redis did not answer in time")
        text = f"Redis: {type(error).__name__}: {error}"
        for secret in self._secrets:  # a server says a command back that it does not know, AUTH too
            text = text.replace(secret, "***")
        return TemporaryError(ErrorKind.CONNECTION, text)

    async def uncounted(self) -> str:
        """Why the number that PUBLISH answers is not true here; "" where it is, or where we may not ask."""
        with suppress(ResponseError):  # INFO may be forbidden to us, or unknown to a proxy
            if (await self.client.info("cluster")).get("cluster_enabled"):
                return "this is a Cluster, where that number is not true"
            if (await self.client.info("replication")).get("connected_slaves"):
                return "the server has replicas, whose subscribers are not counted"
        return ""


def _raise_any(errors: Sequence[TemporaryError | None]) -> None:
    """Raise the first error."""
    for error in filter(None, errors):
        raise error


class RedisSink:
    """Publishes to one channel. For the methods see ports.Sink.

    Args:
        address: where to.
        connections: the most deliveries at once.
    """

    def __init__(self, address: SinkAddress, *, connections: int) -> None:
        self.name = address.name
        self._channel = address.channel
        self._server = Server(address, connections=connections)

    async def send(self, delivery: Delivery) -> None:
        """Publish one notification to at least one subscriber."""
        _raise_any(await self.send_all([delivery]))

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[TemporaryError | None]:
        """Publish notifications in one round trip."""
        answers = await self._server.together([("PUBLISH", self._channel, one.body) for one in deliveries])
        nobody = TemporaryError(ErrorKind.NO_SUBSCRIBER, f"nobody is subscribed to {self._channel}")
        return [one if isinstance(one, TemporaryError) else None if one else nobody for one in answers]

    async def check(self) -> str:
        """See whether the server answers and how many listen; nothing is published."""
        with self._server.errors():
            ((_, listeners),) = await self._server.client.pubsub_numsub(self._channel)
            uncounted = await self._server.uncounted()
        better = f"; {uncounted}: a stream would be safe, redis+stream://…?stream=name" if uncounted else ""
        if not listeners:
            raise TemporaryError(
                ErrorKind.NO_SUBSCRIBER,
                f"answers, but nobody is subscribed to {self._channel}; deliveries wait until somebody is"
                f"{better}",
            )
        return f"answers; subscribers of {self._channel}: {listeners}{better}"

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.client.aclose()


class StreamSink:
    """Adds to one stream. For the methods see ports.Sink.

    Args:
        address: where to.
        connections: the most deliveries at once.
    """

    def __init__(self, address: SinkAddress, *, connections: int) -> None:
        self.name = address.name
        self._stream = address.stream
        self._maxlen = address.maxlen
        self._server = Server(address, connections=connections)

    async def send(self, delivery: Delivery) -> None:
        """Add one entry."""
        _raise_any(await self.send_all([delivery]))

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[TemporaryError | None]:
        """Add entries in one round trip; the server says yes with each one's id."""
        # Of what is too many the server drops whole blocks, which costs it nothing.
        adding = ("XADD", self._stream, "MAXLEN", "~", self._maxlen, "*")
        answers = await self._server.together([(*adding, *_fields(one)) for one in deliveries])
        return [_refusal(one) for one in answers]

    async def check(self) -> str:
        """See whether the server answers and the key is a stream, or free; nothing is added."""
        client = self._server.client
        with self._server.errors():
            found = await client.type(self._stream)
            kind = found.decode(errors="replace") if isinstance(found, bytes) else found
            if kind == "none":
                return f"answers; {self._stream} will be made"
            if kind == "stream":
                return f"answers; entries of {self._stream}: {await client.xlen(self._stream)}"
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"answers, but {self._stream} is a {kind}, not a stream; name another key"
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.client.aclose()


def _fields(delivery: Delivery) -> Iterator[str]:
    yield from ("event_id", delivery.event_id)
    yield from ("event_type", str(delivery.event_type))
    yield from ("key", delivery.key)
    yield from ("body", delivery.body)


def _refusal(entry_id: object) -> TemporaryError | None:
    if isinstance(entry_id, TemporaryError):
        return entry_id
    if isinstance(entry_id, bytes) and ENTRY_ID.fullmatch(entry_id):
        return None
    return TemporaryError(ErrorKind.UNAVAILABLE, "the server answered XADD with no id; is it Redis?")
