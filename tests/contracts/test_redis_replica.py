"""A server that becomes a replica under living connections, as in a planned switch behind one address."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
import redis.exceptions as library
from redis import RedisError
from redis.asyncio.cluster import RedisCluster

from shop_poller.config.redis_address import parse_redis
from shop_poller.core.errors import ErrorKind, TemporaryError
from shop_poller.core.redis_answers import says_no_writes
from shop_poller.ports import Ack
from shop_poller.sinks.redis import sink as redis_sinks
from shop_poller.sinks.redis.config import RedisConfig, StreamConfig
from shop_poller.sinks.redis.sink import RedisSink, StreamSink
from shop_poller.stores.redis import RedisStore, connection
from shop_poller.stores.redis.client import drop_connections
from support.commands import wait_until
from support.deliveries import SHOP, at, claim, claim_one, delivery, ids, new_deliveries, put
from support.replicated import Pair, replicated
from support.sink_peers import LOOPBACK, peer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with replicated(tmp_path) as pair:
        yield pair


@asynccontextmanager
async def stream_at(place: str) -> AsyncIterator[StreamSink]:
    sink = StreamSink(StreamConfig.parse(f"redis+stream://{place}?stream=shop:events#s"), connections=4)
    try:
        yield sink
    finally:
        await sink.aclose()


@asynccontextmanager
async def channel_at(place: str) -> AsyncIterator[RedisSink]:
    sink = RedisSink(RedisConfig.parse(f"redis://{place}?channel=shop:events#c"), connections=4)
    try:
        yield sink
    finally:
        await sink.aclose()


async def no(sending: Awaitable[object]) -> TemporaryError:
    with pytest.raises(TemporaryError) as caught:
        await sending
    return caught.value


# --- Sinks ---


async def test_a_stream_that_is_refused_finds_the_new_primary_at_the_next_attempt(pair: Pair) -> None:
    async with stream_at(pair.place) as sink:
        await sink.send(delivery("1"))
        pair.demote()
        pair.lead_on()
        error = await no(sink.send(delivery("2")))
        assert error.kind is ErrorKind.CONNECTION
        assert error.probe_after_s == redis_sinks.PROBE_AFTER_S
        await sink.send(delivery("2"))
    with pair.new.client as client:
        assert client.xlen("shop:events") == 2
    assert pair.address.accepted == 2


async def test_many_connections_that_lead_to_the_old_one_are_all_dropped(pair: Pair) -> None:
    async with stream_at(pair.place) as sink:
        async with anyio.create_task_group() as tasks:
            for n in range(4):
                tasks.start_soon(sink.send, delivery(str(n)))
        pair.demote()
        pair.lead_on()
        await no(sink.send(delivery("4")))
        async with anyio.create_task_group() as tasks:
            for n in range(4, 8):
                tasks.start_soon(sink.send, delivery(str(n)))


async def test_until_the_address_leads_elsewhere_it_is_tried_there_on_new_connections(pair: Pair) -> None:
    async with stream_at(pair.place) as sink:
        await sink.send(delivery("1"))
        pair.demote()
        for _ in range(3):
            assert (await no(sink.send(delivery("2")))).probe_after_s is not None
        pair.lead_on()
        await sink.send(delivery("2"))
    assert pair.address.accepted == 4


async def test_published_to_nobody_at_an_old_primary_it_is_published_at_the_new_one(pair: Pair) -> None:
    async with channel_at(pair.place) as sink:
        with pair.old.client as client, client.pubsub() as listening:
            listening.subscribe("shop:events")
            wait_until(lambda: client.pubsub_numsub("shop:events")[0][1], "a subscriber")
            await sink.send(delivery("1"))
        pair.demote()
        pair.lead_on()
        with pair.new.client as client, client.pubsub() as listening:
            listening.subscribe("shop:events")
            wait_until(lambda: client.pubsub_numsub("shop:events")[0][1], "a subscriber")
            error = await no(sink.send(delivery("2")))
            assert (error.kind, error.probe_after_s) == (ErrorKind.NO_SUBSCRIBER, redis_sinks.PROBE_AFTER_S)
            assert "is a replica" in str(error)
            await sink.send(delivery("2"))


async def test_a_subscriber_who_stayed_at_the_old_primary_does_not_hide_the_new_one(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_sinks, "ROLE_EVERY_S", 0.0)
    with pair.old.client as client, client.pubsub() as stayed:
        stayed.subscribe("shop:events")
        wait_until(lambda: client.pubsub_numsub("shop:events")[0][1], "a subscriber")
        async with channel_at(pair.place) as sink:
            await sink.send(delivery("1"))
            pair.demote()
            pair.lead_on()
            await sink.send(delivery("2"))  # he got it
            assert (
                await no(sink.send(delivery("3")))
            ).kind is ErrorKind.NO_SUBSCRIBER  # asked at the new one
    assert pair.address.accepted == 2


async def test_a_user_who_may_not_ask_for_the_role_publishes_all_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis_sinks, "ROLE_EVERY_S", 0.0)
    with pair.old.client as client, client.pubsub() as listening:
        client.acl_setuser(
            "poller", enabled=True, passwords=["+sesame"], channels=["*"], commands=["+publish", "+ping"]
        )
        listening.subscribe("shop:events")
        wait_until(lambda: client.pubsub_numsub("shop:events")[0][1], "a subscriber")
        async with channel_at(f"poller:sesame@{pair.place}") as sink:
            await sink.send(delivery("1"))
            await sink.send(delivery("2"))


ANSWERS = [
    b"-READONLY You can't write against a read only replica.\r\n",
    b"-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write\r\n",
    b"-LOADING Redis is loading the dataset in memory\r\n",
    b"-MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.\r\n",
    b"-CLUSTERDOWN The cluster is down\r\n",
    b"-MISCONF Redis is configured to save RDB snapshots, but it is unable to persist to disk.\r\n",
    b"-NOREPLICAS Not enough good replicas to write.\r\n",
    b"-UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)\r\n",
]


@asynccontextmanager
async def answering(first: bytes, then: bytes) -> AsyncIterator[int]:
    """A server that answers so on its first connection, however often it is asked, and so on later ones."""
    served = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal served
        served += 1
        answer = first if served == 1 else then
        while data := await reader.read(65536):
            for command in re.findall(rb"CLIENT|PING|XADD", data):
                writer.write({b"CLIENT": b"+OK\r\n", b"PING": b"+PONG\r\n"}.get(command, answer))
            await writer.drain()

    async with peer(talk) as one:
        yield one.port


@pytest.mark.parametrize(
    "answer", ANSWERS, ids=[answer.split()[0].decode() + str(n) for n, answer in enumerate(ANSWERS)]
)
async def test_every_answer_that_means_no_writes_is_followed_by_a_new_connection(answer: bytes) -> None:
    async with answering(answer, b"$3\r\n1-1\r\n") as port, stream_at(f"{LOOPBACK}:{port}/0") as sink:
        error = await no(sink.send(delivery("1")))
        assert error.probe_after_s is not None
        assert str(error).startswith("Redis takes no writes now: ")
        assert str(error).endswith("lead to the primary, and look into its log")
        assert error.has_advice, "check adds nothing on an address that is wrong"
        assert "Error:" not in str(error)
        await sink.send(delivery("1"))


@pytest.mark.parametrize(
    "answer", [b"-ERR unknown command\r\n", b"-WRONGTYPE READ only\r\n", b"-OOM command not allowed\r\n"]
)
async def test_any_other_answer_is_no_reason_to_connect_anew(answer: bytes) -> None:
    async with answering(answer, b"$3\r\n1-1\r\n") as port, stream_at(f"{LOOPBACK}:{port}/0") as sink:
        for _ in range(2):
            assert (await no(sink.send(delivery("1")))).probe_after_s is None


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (library.ReadOnlyError("You can't write against a read only replica."), True),
        (library.BusyLoadingError("Redis is loading"), True),
        (library.MasterDownError("Link with MASTER is down"), True),
        (library.ClusterDownError("The cluster is down"), True),
        (library.ResponseError("MISCONF Errors writing to the AOF file"), True),
        (library.ConnectionError("The previous master is now a slave"), True),
        (library.ExecAbortError("Transaction discarded because of: READONLY You can't write"), True),
        (library.ConnectionError("Connection refused"), False),
        (library.ResponseError("BUSY Redis is busy running a script"), False),
        (library.ResponseError("ERR unknown command 'UNREADONLYX'"), False),
    ],
)
def test_what_the_library_makes_of_such_an_answer_is_known(*, error: RedisError, expected: bool) -> None:
    assert says_no_writes(error) is expected


# --- State ---


async def test_state_goes_on_at_the_new_primary(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "DROP_EVERY_S", 0.0)
    store = RedisStore(parse_redis(f"redis://{pair.place}"), prefix="shop:polling:", first_shop=SHOP)
    try:
        assert await store.take()
        await put(store, new_deliveries(event_id="1"))
        one = await claim_one(store)
        pair.demote()
        for _ in range(2):  # the address leads there still
            await no(store.record_outcomes([Ack(one)], at(1)))
        pair.lead_on()
        await store.record_outcomes([Ack(one)], at(1))
        assert await store.renew()
        await put(store, new_deliveries(event_id="2"))
        assert ids(await claim(store)) == ["2"]
    finally:
        await store.aclose()


async def test_however_many_are_refused_connections_are_made_anew_twice_a_second(pair: Pair) -> None:
    store = RedisStore(parse_redis(f"redis://{pair.place}"), prefix="shop:polling:", first_shop=SHOP)
    try:
        assert await store.take()
        pair.demote()
        before = pair.address.accepted
        for _ in range(50):
            await no(store.renew())
        assert pair.address.accepted - before <= 3
    finally:
        await store.aclose()


async def test_a_cluster_looks_for_its_nodes_anew() -> None:
    client = RedisCluster(host=LOOPBACK, port=1)
    client._initialize = False  # as if it had found them
    await drop_connections(client)
    assert client._initialize
