"""A shop is watched after its stored state was damaged: nothing is missed, nothing old is told again."""

from pathlib import Path
from typing import Any

import anyio
import pytest
import structlog

from shop_poller.core.model import EventType
from support.damaged import loose
from support.shop_harness import FakeShop, FakeSink, shop_harness

pytestmark = pytest.mark.anyio

NEW, FAILED = str(EventType.NEW), str(EventType.FAILED)
HOUR = 3600.0
DAMAGE = {
    "cursor is text": "UPDATE shops SET cursor_at = 'text'",
    "cursor is 1e300": "UPDATE shops SET cursor_at = 1e300",
    "cursor is in the year 9999": "UPDATE shops SET cursor_at = 253402300799999",
    "cursor is negative": "UPDATE shops SET cursor_at = -5",
    "cursor is gone": "UPDATE shops SET cursor_at = NULL",
    "baseline is text": "UPDATE shops SET baseline_at = 'text'",
    "baseline is gone": "UPDATE shops SET baseline_at = NULL",
    "start is gone": "UPDATE shops SET started_at = NULL",
    "all but the last poll is gone": "UPDATE shops SET cursor_at = 'x', baseline_at = 'x', started_at = 'x'",
    "the shop's row is gone": "DELETE FROM shops",
    "a status is not UTF-8": "UPDATE known_orders SET status = CAST(x'fffe' AS TEXT)",
    "what was decided is no JSON": "UPDATE known_orders SET decided = '{', modified_at = 'x'",
    "whether it was announced is text": "UPDATE known_orders SET announced_new = 'x'",
    "refunds are no list": "UPDATE known_orders SET refund_ids = '{\"a\": 1}'",
}


def spoil(path: Path, sql: str) -> None:
    with loose(path) as db:
        db.execute(sql)


async def live(path: Path, shop: FakeShop, sink: FakeSink, seconds: float, *does: Any) -> None:
    """One process; what is to be done is done after a minute."""
    async with shop_harness(path, shop=shop, sinks=[sink]) as it, it.running():
        await anyio.sleep(60)
        for one in does:
            one()
        await anyio.sleep(seconds)


@pytest.mark.parametrize("sql", DAMAGE.values(), ids=DAMAGE.keys())
async def test_nothing_is_missed_and_nothing_told_again(tmp_path: Path, sql: str) -> None:
    path, shop, sink = tmp_path / "state.db", FakeShop(), FakeSink()
    await live(path, shop, sink, HOUR, lambda: shop.put(1, "processing"), lambda: shop.put(2, "failed"))
    told = [("1", NEW), ("2", FAILED)]
    assert sorted(sink.events()) == told
    spoil(path, sql)
    shop.put(3, "processing")
    await live(path, shop, sink, 600, lambda: shop.put(4, "processing"), lambda: shop.put(1, "refunded"))
    later = [("1", "shop.order.refunded"), ("3", NEW), ("4", NEW)]
    assert sorted(sink.events()) == sorted(told + later)


async def test_a_delivery_that_cannot_be_sent_is_told_once_and_the_others_arrive(tmp_path: Path) -> None:
    path, shop, sink = tmp_path / "state.db", FakeShop(), FakeSink()
    async with shop_harness(path, shop=shop, sinks=[sink]) as it:
        await it.tick()
        shop.put(1, "processing")
        shop.put(2, "processing")
        await it.tick()
        shop.put(1, "refunded")
        await it.tick()
    spoil(path, "UPDATE outbox SET body = '{' WHERE seq = 1")
    with structlog.testing.capture_logs() as logs:
        await live(path, shop, sink, 600)
    assert sorted(sink.events()) == [("1", "shop.order.refunded"), ("2", NEW)]
    assert [log["row"] for log in logs if "damaged" in log["event"]] == ["1"]
