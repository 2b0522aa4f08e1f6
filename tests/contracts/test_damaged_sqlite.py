"""Any one value of a state file may be anything: it stops nothing, and costs nothing but itself."""

import asyncio
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shop_poller.stores.sqlite import SqliteStore
from support.damaged import KNOWN, SINKS, WAITING, Use, fill, loose, values
from support.deliveries import SHOP, T0, at

pytestmark = pytest.mark.anyio

TABLES = {
    "shops": "shop_id",
    "known_orders": "order_id",
    "set_aside": "order_id",
    "alerts": "service",
    "tallies": "day",
    "backfills": "shop_id",
    "outbox": "seq",
    "dead_letters": "seq",
    "delivered": "seq",
    "sqlite_sequence": "name",
}


@cache
def folder() -> Path:
    made = TemporaryDirectory(prefix="damaged-")
    folder._kept = made  # type: ignore[attr-defined] # as long as the process
    path = Path(made.name)

    async def make() -> None:
        store = await SqliteStore.open(path / "whole.db")
        await fill(store)
        await store.aclose()

    asyncio.run(make())
    return path


def whole() -> Path:
    return folder() / "whole.db"


@cache
def places() -> list[tuple[str, str, object]]:
    """Every value that the file has: table, column, and the rowid or the key of its row."""
    with closing(sqlite3.connect(whole())) as db:
        return [
            (table, column, key)
            for table, name in TABLES.items()
            for column in [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            or (["name", "seq"] if table == "sqlite_sequence" else [])
            for (key,) in db.execute(f"SELECT {name} FROM {table}").fetchall()  # noqa: S608 - of this module
        ]


def spoil(path: Path, place: tuple[str, str, object], value: Any) -> bool:
    """Write a value; False if SQLite itself does not take it there."""
    table, column, key = place
    as_text = isinstance(value, bytes) and len(value) % 2 == 0
    given_value = "CAST(? AS TEXT)" if as_text else "?"
    with loose(path) as db:
        try:
            db.execute(
                f"UPDATE OR IGNORE {table} SET {column} = {given_value} WHERE {TABLES[table]} = ?",  # noqa: S608 - likewise
                (value, key),
            )
        except (sqlite3.IntegrityError, OverflowError):  # NULL in a key, or text in a rowid
            return False
        except sqlite3.DatabaseError:
            return False
    return True


@contextmanager
def copied() -> Iterator[Path]:
    with TemporaryDirectory(prefix="damaged-") as name:
        path = Path(name) / "state.db"
        shutil.copy(whole(), path)
        yield path


async def use(path: Path, place: tuple[str, str, object]) -> None:
    table, column, key = place
    peek = await SqliteStore.peek(path)
    await Use(peek).look()
    await peek.aclose()
    store = await SqliteStore.open(path)
    try:
        using = Use(store)
        await using.tried("take", store.take)
        state = await using.tried("register", lambda: store.register(SHOP, T0))
        assert state is not None
        assert state.cursor_at is None or state.cursor_at <= max(
            at(-60), state.cursor_at if column == "cursor_at" else at(-60)
        )
        known = await using.look()
        for order in KNOWN:
            if (table, key) != ("known_orders", order.id) and column != "shop_id":
                assert known[order.id] == order
        await using.work()
        assert not using.refused, using.refused
        stats = await store.stats(SHOP)
        kept = [one for one in await store.rows_set_aside(SHOP) if one.place == "outbox"]
        left = WAITING - using.delivered
        if left:
            assert table == "outbox"
            assert len(left) == 1
            moved = column in {"sink", "shop_id"}
            assert kept or moved or column == "event_id" or set(stats.sinks) - set(SINKS)
        await using.look()
    finally:
        await store.aclose()


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.data())
def test_any_value_may_be_anything(data: st.DataObject) -> None:
    place = data.draw(st.sampled_from(places()))
    value = data.draw(values)
    with copied() as path:
        if spoil(path, place, value):
            asyncio.run(use(path, place))
