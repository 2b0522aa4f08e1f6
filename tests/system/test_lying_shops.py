"""The commands on shops whose pages and counts are legal and not what was asked for: docs/decisions/0014."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import ExitStack, aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from shop_poller.ports import Batch, ShopState
from shop_poller.sources.woocommerce.dialects import Dialect, endpoint
from shop_poller.stores.sqlite import SqliteStore
from support.commands import Finished, run_command
from support.lying_shop import LyingShop, says, serving, truthful, untold
from support.receivers import Receiver, receiving

SHOP_ID = "shop.example"
MISSED = 6
SINCE = (datetime.now(UTC) - timedelta(hours=3)).strftime("%Y-%m-%dT%H:%M:%S")
ALL = {str(1001 + n) for n in range(60)}


def now() -> datetime:
    return datetime.now(UTC)


class Shop:
    """A lying shop on a socket, a receiver, and the commands."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.home = home
        self._stack = stack
        self.receiver: Receiver = stack.enter_context(receiving())

    def open(self, dialect: Dialect = Dialect.REST, *, begun_ago_s: float = 7200, **lies: Any) -> LyingShop:
        """Sixty orders, one every 100 s, and a state whose cursor is two hours old."""
        shop = LyingShop(now, **lies)
        for n in range(60):
            shop.put(1001 + n, ago_s=(60 - n) * 100)
        self.settings = {
            "WOOCOMMERCE_MCP_URL": endpoint(self._stack.enter_context(serving(shop)), dialect),
            "SHOP_DIALECT": dialect.value,
            "WOOCOMMERCE_CONSUMER_KEY": "ck_1",
            "WOOCOMMERCE_CONSUMER_SECRET": "cs_1",
            "SHOP_ID": SHOP_ID,
            "SHOP_STATE_URL": f"sqlite:///{self.home}/state.db",
            "SHOP_NOTIFY_URLS": self.receiver.url,
            "SHOP_SWEEP_INTERVAL": "0",
            "SHOP_HTTP_LISTEN": "",
        }
        asyncio.run(self._begin(now().replace(microsecond=0) - timedelta(seconds=begun_ago_s)))
        return shop

    async def _begin(self, began: datetime) -> None:
        state = ShopState(started_at=began, baseline_at=began, cursor_at=began, last_poll_at=began)
        async with aclosing(await SqliteStore.open(self.home / "state.db")) as store:
            await store.register(SHOP_ID, began)
            await store.commit(SHOP_ID, Batch(state=state, now=now(), seen_at=began))

    def run(self, *args: str) -> Finished:
        """Run a command to its end."""
        return run_command(args, home=self.home, env=self.settings)

    def announced(self) -> list[str]:
        """The orders of all notifications, in order of their ids."""
        return sorted(post.source_id for post in self.receiver.posts)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Shop]:
    with ExitStack() as stack:
        yield Shop(tmp_path, stack)


HONEST = {
    "capped": {"cap": 20},
    "capped, no count": {"cap": 20, "count": untold},
    "capped, counts turned off": {"cap": 20, "count": says("0", "0")},
    "capped, counts of one page": {"cap": 5, "count": says("5", "1")},
    "doubled": {"doubled": 2},
    "doubled and capped": {"doubled": 3, "cap": 10},
}


@pytest.mark.parametrize("lies", HONEST.values(), ids=HONEST)
def test_every_order_is_announced_and_accounted_for(opened: Shop, lies: dict[str, Any]) -> None:
    opened.open(**lies)
    assert opened.run("run", "--once").code == 0
    assert opened.announced() == sorted(ALL)

    audited = opened.run("audit", "--since", SINCE)

    assert (audited.code, audited.last) == (0, "everything accounted for: 60 orders")


@pytest.mark.parametrize("dialect", [Dialect.REST, Dialect.WOOCOMMERCE_MCP])
@pytest.mark.parametrize("doubled", [1, 2])
def test_orders_that_cannot_be_read_are_6(opened: Shop, dialect: Dialect, doubled: int) -> None:
    shop = opened.open(dialect, cap=20, doubled=doubled)
    if dialect is Dialect.REST:
        shop.hidden = {1007, 1030}
    else:  # it tells no count: they are hidden from the list by modification only
        shop.hides = lambda requested, rows: [
            row for row in rows if requested["orderby"] == "date" or row["id"] not in {1007, 1030}
        ]
    assert opened.run("run", "--once").code == 0
    assert opened.announced() == sorted(ALL - {"1007", "1030"})

    audited = opened.run("audit", "--since", SINCE)
    told = opened.run("audit", "--since", SINCE, "--json")

    rows = 2 * doubled if dialect is Dialect.REST else 2
    verdict = (
        f"not everything is accounted for: the shop counts {58 + rows} orders, 58 could be read;"
        " a plugin, or the rights of the key's user, may hide the others"
    )
    assert (audited.code, audited.last) == (MISSED, verdict)
    last = json.loads(told.last)
    assert (told.code, last["counted_by_shop"], last["verdict"]) == (MISSED, [58 + rows] * 2, verdict)


@pytest.mark.parametrize("count", [truthful, untold], ids=["told", "not told"])
def test_the_audit_judges_a_change_that_is_dated_back(opened: Shop, count: Any) -> None:
    shop = opened.open(cap=20, count=count)
    assert opened.run("run", "--once").code == 0
    shop.put(1030, "cancelled", ago_s=6500)

    audited = opened.run("audit", "--since", SINCE)

    assert audited.code == MISSED
    assert audited.last == "not everything is accounted for: of 60 orders 1 missed"


@pytest.mark.parametrize(
    "lies",
    [{"cap": 20}, {"cap": 5, "count": untold}, {"doubled": 2}],
    ids=["capped", "no count", "doubled"],
)
def test_backfill_reads_all_of_the_past(opened: Shop, lies: dict[str, Any]) -> None:
    opened.open(begun_ago_s=0, **lies)

    done = opened.run("backfill", "--since", SINCE)

    assert (done.code, done.last) == (0, "read 60 orders, imported 60 new ones")
