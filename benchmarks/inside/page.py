"""What a page of 100 full orders costs from its bytes to the commit: `page.py STATE ROUNDS [KNOWN]`.

The real source reads the bytes, the real clerk decides, the real store commits to a file; only the network is
left out. Each round's orders are new to the store, so that each makes a notification. With KNOWN, they lie
scattered among so many known ones, and have changed without news.

Prints the milliseconds of each round: {bytes, page_ms, read_ms, cpu_ms}; the CPU is that of the log, too.
"""

import asyncio
import json
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx

from benchmarks.ours import KEY, SECRET, SHOP, SINK
from benchmarks.shop import SESSION, listing, orders, tool_result
from shop_poller.clock import now
from shop_poller.core.filters import EVERYTHING
from shop_poller.core.messages import MessageFormat
from shop_poller.core.model import Query
from shop_poller.observability.logging import set_up_logging
from shop_poller.observability.metrics import Metrics
from shop_poller.polling.order_processor import OrderProcessor
from shop_poller.polling.plan import PollPlan, TickReport
from shop_poller.polling.state_writer import StateWriter
from shop_poller.sources.woocommerce.connection import ShopConnection
from shop_poller.sources.woocommerce.statuses import MEANINGS
from shop_poller.sources.woocommerce.woocommerce_mcp import WooCommerceMcp
from shop_poller.stores.sqlite import SqliteStore

QUERY = Query(per_page=100)
PER_PAGE = 100


class Replay:
    """Answers instead of the network.

    Attributes:
        content: what the shop's tool returns.
    """

    def __init__(self) -> None:
        self._rest = b""

    def prepare(self, content: str) -> int:
        """Answer with that from now on; returns how many bytes that is."""
        self._rest = tool_result(0, content).removeprefix(b'{"jsonrpc":"2.0","id":0,')
        return len(self._rest)

    def answer(self, message: dict[str, Any] | None) -> tuple[httpx.Response, bytes]:
        """What Connection.ask returns."""
        headers = {
            "date": format_datetime(datetime.now(UTC), usegmt=True),
            "content-type": "application/json",
        }
        if message is None or "id" not in message:
            return httpx.Response(200, headers=headers), b""
        rest = self._rest
        if message["method"] == "initialize":
            rest = b'"result":%s}' % json.dumps(SESSION).encode()
        return httpx.Response(200, headers=headers), b'{"jsonrpc":"2.0","id":%d,' % message["id"] + rest


async def measure(state: Path, rounds: int, n_known: int) -> dict[str, Any]:
    """Measure it."""
    replay = Replay()

    async def ask(self: ShopConnection, method: str, **rest: Any) -> tuple[httpx.Response, bytes]:
        del self, method
        return replay.answer(rest.get("message"))

    ShopConnection.ask = ask  # type: ignore[method-assign] # the network is left out
    store = await SqliteStore.open(state)
    source = WooCommerceMcp("http://127.0.0.1/", consumer_key=KEY, consumer_secret=SECRET)
    metrics = Metrics(SHOP, [SINK])
    committed_at = 0.0

    def note(_: object) -> None:
        nonlocal committed_at
        committed_at = time.perf_counter()

    state_writer = StateWriter(
        await store.register(SHOP, now()),
        orders=store,
        message_format=MessageFormat(SHOP),
        sinks={SINK: EVERYTHING},
        metrics=metrics,
        now=now,
        on_new_deliveries=note,  # called as soon as the store has said yes; what is logged comes afterwards
    )
    order_processor = OrderProcessor(
        PollPlan(shop=SHOP, meanings=MEANINGS), state_writer=state_writer, metrics=metrics, now=now
    )
    baseline = now() - timedelta(hours=1)
    size, page_ms, read_ms, cpu_ms = 0, [], [], []
    first_id = time.time_ns() // 1000  # new, in a file that knows orders too
    for number in range(rounds):
        shown = orders(PER_PAGE, first_id=first_id + PER_PAGE * number, at=datetime.now(UTC))
        if n_known:
            at = datetime.now(UTC) + timedelta(seconds=number + 1)
            step = n_known // PER_PAGE
            shown = orders(PER_PAGE, first_id=number % step + 1, at=at, step=step)
        size = replay.prepare(listing(shown))
        began, cpu_s = time.perf_counter(), time.process_time()
        page = await source.fetch(QUERY)
        read = time.perf_counter()
        report = TickReport()
        polled = replace(state_writer.state, baseline_at=baseline, cursor_at=baseline, last_poll_at=now())
        await order_processor.decide(page, polled, report, walked=True)
        done, spent_s = time.perf_counter(), time.process_time() - cpu_s
        if report.events:
            done = committed_at
        if report.events != (0 if n_known else PER_PAGE) or len(page.orders) != PER_PAGE:
            raise RuntimeError(f"{report.events} events of {len(page.orders)} orders")
        page_ms.append((done - began) * 1000)
        read_ms.append((read - began) * 1000)
        cpu_ms.append(spent_s * 1000)
    await store.aclose()
    return {"bytes": size, "page_ms": page_ms, "read_ms": read_ms, "cpu_ms": cpu_ms}


def main() -> None:
    """Measure and print."""
    set_up_logging(level="info", style="json", secrets=())
    n_known = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    print(json.dumps(asyncio.run(measure(Path(sys.argv[1]), int(sys.argv[2]), n_known))))


if __name__ == "__main__":
    main()
