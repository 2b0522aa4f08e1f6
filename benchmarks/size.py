"""What known orders take up: in Redis, on its disk, and in SQLite; see docs/scaling.md.

.venv/bin/python -m benchmarks.size --shops 1000 --orders 1000000
"""

import argparse
import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import redis

from benchmarks.theirs import redis_server
from shop_poller.clock import now
from shop_poller.config.redis_address import RedisAddress, parse_redis
from shop_poller.config.shops import keys_apart
from shop_poller.core.model import KnownOrder
from shop_poller.ports import Batch
from shop_poller.stores import StorePool

AT_ONCE = 10_000
PREFIX = "shop:polling:"
ONE_OPEN_IN = 20
"""Most orders that a shop has are completed."""
MB = 1e6


def known(count: int) -> Iterator[KnownOrder]:
    """Orders as polling leaves them."""
    at = now()
    for order_id in range(100_000, 100_000 + count):
        status = "completed" if order_id % ONE_OPEN_IN else "processing"
        yield KnownOrder(
            order_id, status, at, announced_new=True, decided={"shop.order.new": 1}, refund_ids=frozenset()
        )


async def fill(where: Path | RedisAddress, shops: int, orders: int) -> None:
    """Let each shop know its share of the orders; with SQLite each in a file of its own."""
    store_pool = StorePool(where)
    for shop_id in (f"shop-{number}" for number in range(shops)):
        place = where / f"{shop_id}.db" if isinstance(where, Path) else where
        store = await store_pool.open(place, shop=shop_id, prefix=keys_apart(PREFIX, shop_id))
        await store.take()
        state, records = await store.register(shop_id, now()), [*known(orders // shops)]
        for start in range(0, len(records), AT_ONCE):
            await store.renew()
            some = records[start : start + AT_ONCE]
            await store.commit(
                shop_id, Batch(state=state, now=now(), seen_at=now(), known=some, new_deliveries=[])
            )
        await store.release()
        await store.aclose()
    await store_pool.aclose()


def in_redis(home: Path, shops: int, orders: int) -> dict[str, float]:
    """MB of memory and of the file, rewritten, of a Valkey."""
    with redis_server(home, keeps=True) as server, redis.Redis(port=server.port) as client:
        before, began = client.info("memory")["used_memory"], time.monotonic()
        asyncio.run(fill(parse_redis(server.url), shops, orders))
        took_s, memory = time.monotonic() - began, client.info("memory")["used_memory"] - before
        client.bgrewriteaof()
        while any(
            client.info("persistence")[f"aof_rewrite_{state}"] for state in ("in_progress", "scheduled")
        ):
            time.sleep(0.2)
        return {
            "memory_mb": round(memory / MB, 1),
            "process_mb": round(server.process.memory_mb()[0], 1),
            "file_mb": round(_size(home / "appendonlydir") / MB, 1),
            "seconds": round(took_s, 1),
        }


def in_sqlite(home: Path, shops: int, orders: int) -> dict[str, float]:
    """MB of all files."""
    began = time.monotonic()
    asyncio.run(fill(home, shops, orders))
    return {"files_mb": round(_size(home) / MB, 1), "seconds": round(time.monotonic() - began, 1)}


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shops", type=int, default=1000)
    parser.add_argument("--orders", type=int, default=1_000_000, help="of all shops together")
    args = parser.parse_args()
    with TemporaryDirectory(prefix="size-") as one, TemporaryDirectory(prefix="size-") as other:
        found = {
            "run": vars(args),
            "redis": in_redis(Path(one), args.shops, args.orders),
            "sqlite": in_sqlite(Path(other), args.shops, args.orders),
        }
        print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
