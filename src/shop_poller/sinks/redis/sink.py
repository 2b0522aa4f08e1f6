"""The sinks in Redis or Valkey: `redis://…?channel=…` publishes, `redis+stream://…?stream=…` adds.

A message without a subscriber is not delivered: PUBLISH must return a count of at least one subscriber.
The count is correct on a standalone server only. It is not correct on a Cluster, or with subscribers on
replicas; `check` reports that. A stream needs no subscriber: a client that reads it later finds the entries
that were added meanwhile.

A server may become a replica while we are connected to it, and the address may lead to another server by
then. A replica refuses to add to a stream (READONLY), but accepts PUBLISH. So the sink asks for the server's
role at intervals. In both cases it closes the connections, and is probed soon.
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
from shop_poller.core.known_lines import known
from shop_poller.core.masking import Masker
from shop_poller.core.model import Delivery
from shop_poller.core.plain_text import one_line
from shop_poller.core.redis_answers import says_no_writes
from shop_poller.core.translatable import Text
from shop_poller.peer_errors import ignored, reason, translated
from shop_poller.sinks.redis.config import RedisConfig, ServerConfig, StreamConfig

REFUSED = Text(
    "Redis refuses our user or password; check both in SHOP_NOTIFY_URLS, and the user's ACL (docs/redis.md)"
)

TIMEOUT_S = 5.0
MAX_SAID = 300
"""Characters of a server's message that are shown."""
PROBE_AFTER_S = 5.0
"""How soon to check whether the address leads to a server that accepts writes."""
ROLE_EVERY_S = 30.0
"""How often to ask a server that we publish to whether it is a replica."""
ROLE_TIMEOUT_S = 1.0
ENTRY_ID = re.compile(rb"[0-9]+-[0-9]+")


class Server:
    """The server of an address, and what its errors mean.

    Args:
        config: contains the address.
        connections: the maximum number of concurrent commands.

    Attributes:
        client: sends commands; use it within `errors`.
    """

    def __init__(self, config: ServerConfig, *, connections: int) -> None:
        self._name = config.name
        self._role_requested_at: float | None = None  # None until a notification is published
        self._masker = Masker(config.secrets)
        self.client = aioredis.Redis.from_url(
            config.url,
            protocol=2,  # every server supports it; protocol 3 needs HELLO, which old servers refuse
            max_connections=connections,
            socket_timeout=TIMEOUT_S,  # detects a half-open connection
            socket_connect_timeout=TIMEOUT_S,
            socket_keepalive=True,
            health_check_interval=30,
            retry=Retry(NoBackoff(), 0),  # only the sender retries
        )

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn every error into a TemporaryError: it can be corrected, and the row waits until then."""
        try:
            with translated(self._name, _unexpected, passing=(RedisError, OSError)):
                yield
        except (RedisError, OSError) as error:
            raise self._named(error) from error

    async def together(self, commands: Sequence[Sequence[str | int]]) -> list[object]:
        """Send commands in one round trip, without a transaction.

        Returns:
            One answer per command; a TemporaryError for a command that the server refused.

        Raises:
            TemporaryError: not all commands were sent, or not all answers were received.
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
        """Close the connections that are not in use: the address may lead to another server by now."""
        with ignored(self._name, expected=(RedisError, OSError)):
            await self.client.connection_pool.disconnect(inuse_connections=False)

    async def look_at_role(self, *, at_once: bool = False) -> bool:
        """Drop the connections if they lead to a replica, which PUBLISH does not report.

        Args:
            at_once: ask now. If false, ask only if the last time was at least ROLE_EVERY_S ago.

        Returns:
            Whether the server was asked and is a replica.
        """
        now = anyio.current_time()
        if self._role_requested_at is None:
            self._role_requested_at = now
        if not at_once and now - self._role_requested_at < ROLE_EVERY_S:
            return False
        self._role_requested_at = now
        # INFO may be forbidden for our user, or unknown to a proxy. Nothing depends on it.
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
                Text(
                    "the key is on another node of this Cluster; name that one: {said}",
                    said=self._said(where),
                ),
                has_advice=True,
            )
        if isinstance(error, RedisTimeoutError):
            return TemporaryError(ErrorKind.TIMEOUT, Text("Redis did not answer in time"))
        said = self._said(str(error)) or type(error).__name__
        text = Text("Redis: {said}", said=known(said))
        if refuses := takes_no_writes(error):
            text = Text(
                "Redis takes no writes now: {said}; if it lasts, let the address in SHOP_NOTIFY_URLS lead to"
                " the primary, and look into its log",
                said=said.rstrip("."),
            )
        return TemporaryError(
            ErrorKind.CONNECTION,
            text,
            probe_after_s=PROBE_AFTER_S if refuses else None,
            has_advice=refuses,
        )

    def _said(self, text: str) -> str:
        # A server repeats a command that it does not know, even AUTH.
        return one_line(self._masker.mask(text), MAX_SAID)

    async def uncounted(self) -> str:
        """Return why the count that PUBLISH returns is not correct; "" if it is, or if INFO is refused."""
        with suppress(ResponseError):  # INFO may be forbidden for our user, or unknown to a proxy
            if (await self.client.info("cluster")).get("cluster_enabled"):
                return Text("this is a Cluster, where that number is not true")
            if (await self.client.info("replication")).get("connected_slaves"):
                return Text("the server has replicas, whose subscribers are not counted")
        return ""


def _unexpected(why: str) -> TemporaryError:
    return TemporaryError(ErrorKind.CONNECTION, Text("Redis: {why}", why=why))


def takes_no_writes(error: Exception) -> bool:
    """Return whether an error says that the server accepts no writes now, while another one may."""
    return isinstance(error, RedisError) and says_no_writes(error)


def _raise_any(errors: Sequence[TemporaryError | None]) -> None:
    """Raise the first error."""
    for error in filter(None, errors):
        raise error


class RedisSink:
    """Publishes to one channel. For the methods, see ports.Sink.

    Args:
        config: contains the channel.
        connections: the maximum number of concurrent deliveries.
    """

    def __init__(self, config: RedisConfig, *, connections: int) -> None:
        self.name = config.name
        self._channel = config.channel
        self._server = Server(config, connections=connections)

    async def send(self, delivery: Delivery) -> None:
        """Publish one notification. It is delivered if at least one subscriber receives it."""
        _raise_any(await self.send_all([delivery]))

    async def send_all(self, deliveries: Sequence[Delivery]) -> list[TemporaryError | None]:
        """Publish notifications in one round trip."""
        answers = await self._server.together([("PUBLISH", self._channel, one.body) for one in deliveries])
        is_replica = await self._server.look_at_role(at_once=0 in answers)
        if 0 in answers:  # the subscribers may use the server that the address leads to by now
            await self._server.drop()
        nobody = TemporaryError(
            ErrorKind.NO_SUBSCRIBER,
            Text("nobody is subscribed to {channel}, and the server is a replica", channel=self._channel)
            if is_replica
            else Text("nobody is subscribed to {channel}", channel=self._channel),
            probe_after_s=PROBE_AFTER_S if is_replica else None,
        )
        return [one if isinstance(one, TemporaryError) else None if one else nobody for one in answers]

    async def check(self) -> str:
        """Check that the server answers and has subscribers. Nothing is published."""
        with self._server.errors():
            ((_, listeners),) = await self._server.client.pubsub_numsub(self._channel)
            uncounted = await self._server.uncounted()
        better = (
            Text("; {why}: a stream would be safe, redis+stream://…?stream=name", why=uncounted)
            if uncounted
            else ""
        )
        if not listeners:
            raise TemporaryError(
                ErrorKind.NO_SUBSCRIBER,
                Text(
                    "answers, but nobody is subscribed to {channel}; deliveries wait until somebody "
                    "is{better}",
                    channel=self._channel,
                    better=better,
                ),
            )
        return Text(
            "answers; subscribers of {channel}: {listeners}{better}",
            channel=self._channel,
            listeners=listeners,
            better=better,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._server.aclose()


class StreamSink:
    """Adds to one stream. For the methods, see ports.Sink.

    Args:
        config: contains the stream.
        connections: the maximum number of concurrent deliveries.
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
        """Add entries in one round trip. The server confirms each one with its id."""
        # With "~" the server removes whole blocks of old entries, which takes almost no time.
        adding = ("XADD", self._stream, "MAXLEN", "~", self._maxlen, "*")
        answers = await self._server.together([(*adding, *_fields(one)) for one in deliveries])
        return [_refusal(one) for one in answers]

    async def check(self) -> str:
        """Check that the server answers, and that the key is a stream or unused. Nothing is added."""
        client = self._server.client
        with self._server.errors():
            found = await client.type(self._stream)
            kind = one_line(found.decode(errors="replace") if isinstance(found, bytes) else found, MAX_SAID)
            if kind == "none":
                return Text("answers; {stream} will be made", stream=self._stream)
            if kind == "stream":
                return Text(
                    "answers; entries of {stream}: {xlen}",
                    stream=self._stream,
                    xlen=await client.xlen(self._stream),
                )
        raise TemporaryError(
            ErrorKind.PROTOCOL,
            Text(
                "answers, but {stream} is a {kind}, not a stream; name another key",
                stream=self._stream,
                kind=kind,
            ),
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
    return TemporaryError(ErrorKind.UNAVAILABLE, Text("the server answered XADD with no id; is it Redis?"))
