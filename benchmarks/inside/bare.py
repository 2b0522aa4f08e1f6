"""Loops with nothing around them, to compare with.

bare.py start URL MODULES     imports what the daemon imports, opens a file and a client, asks once
bare.py post URL COUNT SENDERS
bare.py publish PORT COUNT
bare.py outbox PORT COUNT FILE    the same from an outbox in SQLite: read, publish, keep as delivered, commit
"""

import asyncio
import importlib
import json
import resource
import sqlite3
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

BODY = json.dumps(
    {"event_type": "shop.order.new", "title": "Новый заказ", "data": {"total": "1930.00"}, "pad": "x" * 500}
)
PIPELINE = 100


def runner() -> Callable[[Coroutine[Any, Any, float]], float]:
    """The event loop that the daemon would use here."""
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:
        return asyncio.run
    run: Callable[[Coroutine[Any, Any, float]], float] = uvloop.run
    return run


def client() -> Any:
    """The client that the daemon would use here: one connection."""
    httpx = importlib.import_module("httpx")
    # A context that trusts nobody costs nothing: without TLS none is needed.
    options = {"limits": httpx.Limits(max_connections=1), "verify": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}
    try:
        transport = importlib.import_module("httpx_aiohttp").AiohttpTransport(**options)
    except ImportError:
        return httpx.AsyncClient(**options)
    return httpx.AsyncClient(transport=transport, verify=options["verify"])


async def post(url: str, count: int, senders: int) -> float:
    """Post so many, with a client a sender; returns CPU seconds without the start."""
    began = time.process_time()
    left = iter(range(count))

    async def send() -> None:
        async with client() as one:
            for _ in left:
                await one.post(url, content=BODY, headers={"Content-Type": "application/json"})

    await asyncio.gather(*(send() for _ in range(senders)))
    return time.process_time() - began


async def publish(port: int, batches: Iterable[Sequence[str]]) -> float:
    """Publish bodies, a batch at once; returns CPU seconds without the start."""
    aioredis = importlib.import_module("redis.asyncio")
    receiver = importlib.import_module("benchmarks.receiver")
    began = time.process_time()
    async with aioredis.Redis(port=port) as redis:
        for bodies in batches:
            async with redis.pipeline(transaction=False) as pipe:
                for body in bodies:
                    pipe.publish(receiver.CHANNEL, body)
                await pipe.execute()
    return time.process_time() - began


def outbox(file: str, count: int) -> Iterator[Sequence[str]]:
    """Batches from a new outbox, each recorded as delivered when the next one is asked for."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("CREATE TABLE outbox (seq INTEGER PRIMARY KEY, body TEXT)")
    db.execute("CREATE TABLE delivered (seq INTEGER PRIMARY KEY, body TEXT)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO outbox (body) VALUES (?)", ((BODY,) for _ in range(count)))
    db.execute("COMMIT")
    while rows := db.execute("SELECT seq, body FROM outbox ORDER BY seq LIMIT ?", (PIPELINE,)).fetchall():
        yield [body for _, body in rows]
        last = rows[-1][0]
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO delivered SELECT seq, body FROM outbox WHERE seq <= ?", (last,))
        db.execute("DELETE FROM outbox WHERE seq <= ?", (last,))
        db.execute("COMMIT")


def start(url: str, modules: str) -> float:
    """What any daemon with these libraries has to do before its first request."""
    for name in json.loads(Path(modules).read_text(encoding="utf-8")):
        try:
            importlib.import_module(name)
        except ImportError:  # names that only their own package can make
            continue
    db = sqlite3.connect(f"{modules}.db")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("CREATE TABLE IF NOT EXISTS t (x)")

    async def ask() -> float:
        async with client() as one:
            await one.post(url, content=b'{"method":"initialize","id":1}')
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    return runner()(ask())


def main() -> None:
    """Do one of them."""
    what, *args = sys.argv[1:]
    if what == "start":
        figure = start(args[0], args[1])
    elif what == "post":
        figure = runner()(post(args[0], int(args[1]), int(args[2])))
    elif what == "publish":
        figure = runner()(publish(int(args[0]), [[BODY] * PIPELINE] * (int(args[1]) // PIPELINE)))
    else:
        figure = runner()(publish(int(args[0]), outbox(args[2], int(args[1]))))
    print(json.dumps(figure))


if __name__ == "__main__":
    main()
