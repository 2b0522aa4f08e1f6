"""The sinks in Redis or Valkey: `redis://…?channel=…` publishes, `redis+stream://…?stream=…` adds.

Publishing to nobody is not delivering: the count of subscribers that PUBLISH answers has to be one at least.
That count is true on a standalone server only; on a Cluster, or with subscribers on replicas, it is not, and
`check` says so. A stream needs nobody to be there: who reads it later finds what was added meanwhile.

A server may become a replica while we are connected to it, although the address leads to another one by now.
A stream is then refused (READONLY); PUBLISH is not, so the server's role is asked for from time to time.
Either way the connections are dropped, and the sink is probed soon.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import anyio
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

from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery
from shop_poller.core.plain_text import one_line
from shop_poller.core.redis_answers import says_no_writes
from shop_poller.peer_errors import ignored, reason, translated
from shop_poller.sinks.redis.config import RedisConfig, ServerConfig, StreamConfig

REFUSED = (
    "Redis refuses our user or password; check both in SHOP_NOTIFY_URLS, and the user's ACL (docs/redis.md)"
)
NO_WRITES_ADVICE = (
    "if it lasts, let the address in SHOP_NOTIFY_URLS lead to the primary, and look into its log"
)
TIMEOUT_S = 5.0
MAX_SAID = 300
"""Characters of what a server says."""
PROBE_AFTER_S = 5.0
"""How soon to look whether the address leads to a server that takes writes."""
ROLE_EVERY_S = 30.0
"""How often a server that is published to is asked whether it is a replica."""
ROLE_TIMEOUT_S = 1.0
ENTRY_ID = re.compile(rb"[0-9]+-[0-9]+")


class Server:
    """The server that an address names, and what its errors mean.

    Args:
        config: which one.
        connections: the most commands at once.

    Attributes:
        client: speaks to it, within `errors`.
    """

    def __init__(self, config: ServerConfig, *, connections: int) -> None:
        self._name = config.name
        self._role_requested_at: float | None = None  # None until something was published
        self._masker = Masker(config.secrets)
        self.client = aioredis.Redis.from_url(
            config.url,
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
            with translated(self._name, _unexpected, passing=(RedisError, OSError)):
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
        if any(isinstance(one, Exception) and takes_no_writes(one) for one in answers):
            await self.drop()
        return [self._named(one) if isinstance(one, Exception) else one for one in answers]

    async def drop(self) -> None:
        """Close the connections that nobody uses just now: the address may lead to another server by now."""
        with ignored(self._name, expected=(RedisError, OSError)):
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def look_at_role(self, *, at_once: bool = False) -> bool:
        """Drop the connections if they lead to a replica, which PUBLISH does not tell.

        Args:
            at_once: ask now; else only if that was long ago.

        Returns:
            Whether it was asked, and is a replica.
        """
        now = anyio.current_time()
        if self._role_requested_at is None:
            self._role_requested_at = now
        if not at_once and now - self._role_requested_at < ROLE_EVERY_S:
            return False
        self._role_requested_at = now
        # INFO may be forbidden to us, or unknown to a proxy; nothing depends on it.
        with (
            anyio.move_on_after(ROLE_TIMEOUT_S),
            ignored(self._name, expected=(RedisError, OSError)),
        ):
            if (await self.client.info("replication")).get("role") == "slave":
                await self.drop()
                return True
        return False

    async def aclose(self) -> None:
        """Close the connections."""
        with ignored(self._name, expected=(RedisError, OSError)):
            await self.client.aclose()

    def _named(self, error: Exception) -> TemporaryError:
        if not isinstance(error, RedisError | OSError):
            return _unexpected(reason(self._name, error))
        if isinstance(error, AuthenticationError | AuthorizationError | NoPermissionError):
            return TemporaryError(ErrorKind.UNAVAILABLE, REFUSED, has_advice=True)
        if isinstance(error, MovedError):
            where = f"{error.host}:{error.port}"
            return TemporaryError(
                ErrorKind.UNAVAILABLE,
                f"the key is on another node of this Cluster; name that one: {self._said(where)}",
                has_advice=True,
            )
        if isinstance(error, RedisTimeoutError):
            return TemporaryError(ErrorKind.TIMEOUT, "Redis did not answer in time")
        said = self._said(str(error)) or type(error).__name__
        text = f"Redis: {said}"
        if refuses := takes_no_writes(error):
            text = f"Redis takes no writes now: {said.rstrip('.')}; {NO_WRITES_ADVICE}"
        return TemporaryError(
            ErrorKind.CONNECTION,
            text,
            probe_after_s=PROBE_AFTER_S if refuses else None,
            has_advice=refuses,
        )

    def _said(self, text: str) -> str:
        # A server says a command back that it does not know, AUTH too.
        return one_line(self._masker.mask(text), MAX_SAID)

    async def uncounted(self) -> str:
        """Why the number that PUBLISH answers is not true here; "" where it is, or where we may not ask."""
        with suppress(ResponseError):  # INFO may be forbidden to us, or unknown to a proxy
            if (await self.client.info("cluster")).get("cluster_enabled"):
                return "this is a Cluster, where that number is not true"
            if (await self.client.info("replication")).get("connected_slaves"):
                return "the server has replicas, whose subscribers are not counted"
        return ""


def _unexpected(why: str) -> TemporaryError:
    return TemporaryError(ErrorKind.CONNECTION, f"Redis: {why}")


def takes_no_writes(error: Exception) -> bool:
    """Whether a server says that it takes no writes now, and another one perhaps does."""
    return isinstance(error, RedisError) and says_no_writes(error)


def _raise_any(errors: Sequence[TemporaryError | None]) -> None:
    """Raise the first error."""
    for error in filter(None, errors):
        raise error


class RedisSink:
    """Publishes to one channel. For the methods see ports.Sink.

    Args:
        config: which channel.
        connections: the most deliveries at once.
    """

    def __init__(self, config: RedisConfig, *, connections: int) -> None:
        self.name = config.name
        self._channel = config.channel
        self._server = Server(config, connections=connections)

    async def send(self, delivery: Delivery) -> None:
        """Publish one notification to at least one subscriber."""
        _raise_any(await self.send_all([delivery]))

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[TemporaryError | None]:
        """Publish notifications in one round trip."""
        answers = await self._server.together([("PUBLISH", self._channel, one.body) for one in deliveries])
        is_replica = await self._server.look_at_role(at_once=0 in answers)
        if 0 in answers:  # perhaps they are at the server that the address leads to by now
            await self._server.drop()
        nobody = TemporaryError(
            ErrorKind.NO_SUBSCRIBER,
            f"nobody is subscribed to {self._channel}{', and the server is a replica' * is_replica}",
            probe_after_s=PROBE_AFTER_S if is_replica else None,
        )
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
        await self._server.aclose()


class StreamSink:
    """Adds to one stream. For the methods see ports.Sink.

    Args:
        config: which stream.
        connections: the most deliveries at once.
    """

    def __init__(self, config: StreamConfig, *, connections: int) -> None:
        self.name = config.name
        self._stream = config.stream
        self._maxlen = config.maxlen
        self._server = Server(config, connections=connections)

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
            kind = one_line(found.decode(errors="replace") if isinstance(found, bytes) else found, MAX_SAID)
            if kind == "none":
                return f"answers; {self._stream} will be made"
            if kind == "stream":
                return f"answers; entries of {self._stream}: {await client.xlen(self._stream)}"
        raise TemporaryError(
            ErrorKind.PROTOCOL, f"answers, but {self._stream} is a {kind}, not a stream; name another key"
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


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
