"""What follows from damage of a stored state that somebody met, or may well meet; of both stores."""

import json
import os
import sqlite3
import stat
from collections.abc import Awaitable, Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog

from shop_poller.config.redis_address import RedisAddress, parse_redis
from shop_poller.core.cursor import LOST_CURSOR_REWIND
from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.core.transition import LOST_STATUS
from shop_poller.ports import Ack
from shop_poller.stores import inspect_store, repair_store, set_aside_in_store
from shop_poller.stores.redis import RedisStore
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite.file import MIGRATIONS
from support.damaged import KNOWN, NOW, STATE, fill, loose
from support.deliveries import SHOP, T0, batch, claim, ids, known_order, new_deliveries, put
from support.stores import shared_valkey

pytestmark = pytest.mark.anyio

ABSURD = ["text", "nan", "1e300", "-5", "253402300799999", "99999999999999999999999", "", "0"]


@dataclass
class Kept:
    """A state of either kind, and how its values are changed from outside."""

    where: Path | RedisAddress
    prefix: str
    open_store: Callable[[], Awaitable[SqliteStore | RedisStore]]

    def server(self) -> Any:
        return redis.Redis(host="127.0.0.1", port=shared_valkey().port, db=2)

    def write(self, field: str, value: str | bytes) -> None:
        """A field of where polling stands."""
        if isinstance(self.where, Path):
            column = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
            self.run(f"UPDATE shops SET {field} = {column}", value)  # noqa: S608 - of this module
        else:
            self.set("state", field, value)

    def run(self, sql: str, *values: Any) -> None:
        assert isinstance(self.where, Path)
        with loose(self.where) as db:
            db.execute(sql, values)

    def set(self, key: str, field: str, value: str | bytes) -> None:
        with self.server() as server:
            server.hset(self.prefix + key, field, value)


@pytest.fixture(params=["sqlite", "valkey"])
async def kept(request: pytest.FixtureRequest, tmp_path: Path) -> Kept:
    path, prefix = tmp_path / "state.db", f"{tmp_path.name}:"
    address = parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/2")

    async def open_sqlite() -> SqliteStore:
        store = await SqliteStore.open(path)
        await store.take()
        return store

    async def open_redis() -> RedisStore:
        store = RedisStore(address, prefix=prefix, first_shop=SHOP)
        assert await store.take()
        return store

    is_file = request.param == "sqlite"
    kept = Kept(path if is_file else address, prefix, open_sqlite if is_file else open_redis)
    store = await kept.open_store()
    await fill(store)
    await store.aclose()
    return kept


@pytest.mark.parametrize("value", ABSURD)
async def test_an_absurd_cursor_goes_back_and_never_forward(kept: Kept, value: str) -> None:
    kept.write("cursor_at", value)
    store = await kept.open_store()
    with structlog.testing.capture_logs() as logs:
        state = await store.register(SHOP, NOW)
    assert STATE.last_poll_at is not None
    assert STATE.baseline_at is not None
    assert state.cursor_at == max(STATE.baseline_at, STATE.last_poll_at - LOST_CURSOR_REWIND)
    assert state.last_poll_at == STATE.last_poll_at
    told = [log for log in logs if "damaged" in log["event"]]
    assert len(told) <= 1  # at the opening already
    assert [one.place for one in await store.rows_set_aside(SHOP)] in (["shops"], ["state"])
    await store.commit(SHOP, batch(state=state, known=KNOWN))
    assert await store.load(SHOP) == state
    await store.aclose()


@pytest.mark.parametrize("value", ABSURD)
async def test_an_absurd_baseline_becomes_the_first_start(kept: Kept, value: str) -> None:
    kept.write("baseline_at", value)
    store = await kept.open_store()
    state = await store.register(SHOP, NOW)
    assert state.baseline_at == STATE.started_at
    assert state.cursor_at == STATE.cursor_at
    await store.aclose()


@pytest.mark.parametrize("value", ABSURD)
async def test_an_absurd_last_poll_costs_nothing_but_itself(kept: Kept, value: str) -> None:
    kept.write("last_poll_at", value)
    store = await kept.open_store()
    state = await store.register(SHOP, NOW)
    assert (state.last_poll_at, state.cursor_at) == (None, STATE.cursor_at)
    await store.aclose()


async def test_a_status_that_is_not_utf_8_is_no_reason_to_announce_anything(kept: Kept) -> None:
    if isinstance(kept.where, Path):
        kept.run("UPDATE known_orders SET status = CAST(? AS TEXT) WHERE order_id = 3", b"\xff\xfe")
    else:
        kept.set("known_orders", "3", b"\xff\xfe")
        kept.set("known_details", "3", json.dumps({"status": 5, "modified_at": 1, "announced_new": True}))
    store = await kept.open_store()
    known = await store.known(SHOP, [1, 2, 3, 4])
    assert [known[order.id] for order in KNOWN if order.id != 3] == [one for one in KNOWN if one.id != 3]
    assert known[3].status == LOST_STATUS
    assert known[3].announced_new
    assert [(one.place, one.name) for one in await store.rows_set_aside(SHOP)] == [("known_orders", "3")]
    assert (await store.stats(SHOP)).rows_set_aside == 1
    await store.aclose()


@pytest.mark.parametrize("details", ["{", "[]", "[" * 5_000, "x" * 2_000_000, '{"decided": NaN}', "7"])
async def test_details_that_are_no_record_cost_that_record_only(kept: Kept, details: str) -> None:
    if isinstance(kept.where, Path):
        kept.run("UPDATE known_orders SET decided = ? WHERE order_id = 3", details)
    else:
        kept.set("known_details", "3", details)
    store = await kept.open_store()
    known = await store.known(SHOP, [1, 2, 3, 4])
    assert known[3].status == "refunded"
    assert known[3].announced_new
    assert known[3].decided == {}
    assert known[1] == KNOWN[0]
    await store.aclose()


@pytest.mark.parametrize("body", ["{", "[]", "\x00", "", "null", '"text"'])
async def test_a_delivery_that_cannot_be_sent_does_not_hold_up_its_sink(kept: Kept, body: str) -> None:
    """It is the first of its order and of its sink; a copy of it is kept."""
    store = await kept.open_store()
    (first, *_) = await claim(store, limit=1)
    await store.aclose()
    if isinstance(kept.where, Path):
        kept.run("UPDATE outbox SET body = ? WHERE seq = ?", body, first.seq)
    else:
        with kept.server() as server:
            row = json.loads(server.hget(f"{kept.prefix}outbox", first.seq))
        kept.set("outbox", str(first.seq), json.dumps(row | {"body": body}))
    store = await kept.open_store()
    await store.register(SHOP, NOW)
    got: list[str] = []
    while some := await claim(store, now=NOW):
        got += ids(some)
        await store.record_outcomes([Ack(one) for one in some], NOW)
    assert set(got) == {"a1", "a2", "b1", "b2"} - {first.event_id}
    (aside,) = [one for one in await store.rows_set_aside(SHOP) if one.place == "outbox"]
    assert aside.name == str(first.seq)
    assert "body" in aside.reason
    await store.aclose()
    kept_rows = await set_aside_in_store(kept.where, shop=SHOP, prefix=kept.prefix, forget=True)
    assert [one.name for one in kept_rows] == [aside.name]
    assert not await set_aside_in_store(kept.where, shop=SHOP, prefix=kept.prefix, forget=False)


async def test_a_repair_does_what_the_check_reported_and_keeps_a_copy(kept: Kept) -> None:
    kept.write("cursor_at", "text")
    if isinstance(kept.where, Path):
        kept.run("UPDATE outbox SET due_at = 'never', attempts = -5 WHERE event_id = 'a1'")
        kept.run("UPDATE alerts SET cause = 'none' WHERE service = 'A'")
    else:
        kept.set("alerts", "A", '{"cause": "none"}')
    found = await inspect_store(kept.where, shop=SHOP, prefix=kept.prefix)
    assert {one.name for one in found} >= {SHOP, "A"}
    assert all(one.fix for one in found)
    assert all("text" not in one.line().split(": ", 1)[1].split(";")[0] for one in found)
    assert await repair_store(kept.where, shop=SHOP, prefix=kept.prefix) == found
    assert await inspect_store(kept.where, shop=SHOP, prefix=kept.prefix) == []
    copies = await set_aside_in_store(kept.where, shop=SHOP, prefix=kept.prefix, forget=False)
    assert {one.name for one in copies} == {one.name for one in found}


async def test_a_repair_is_refused_while_a_process_writes_and_a_check_is_not(kept: Kept) -> None:
    store = await kept.open_store()
    assert await inspect_store(kept.where, shop=SHOP, prefix=kept.prefix) == []
    with pytest.raises(PermanentError) as caught:
        await repair_store(kept.where, shop=SHOP, prefix=kept.prefix)
    assert caught.value.kind is ErrorKind.STORE
    assert "stop" in str(caught.value)
    await store.aclose()
    assert await repair_store(kept.where, shop=SHOP, prefix=kept.prefix) == []


async def test_nothing_is_made_where_there_is_nothing_to_check(tmp_path: Path) -> None:
    for look in (inspect_store, repair_store):
        with pytest.raises(PermanentError, match="no state yet"):
            await look(tmp_path / "none.db", shop=SHOP, prefix="")
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - nothing blocks here


# --- a file as a whole ------------------------------------------------------------------------------------


async def test_a_missing_table_is_beyond_use_and_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP TABLE shops")
    (finding,) = await inspect_store(path, shop=SHOP, prefix="")
    assert (finding.place, finding.fix) == ("shops", "")
    assert "start over" in finding.line()
    store = await SqliteStore.open(path)
    with pytest.raises(PermanentError, match="state check"):
        await store.register(SHOP, T0)
    await store.aclose()


async def test_a_missing_index_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    await fill(store)
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DROP INDEX known_orders_open")
    (finding,) = await repair_store(path, shop=SHOP, prefix="")
    assert finding.name == "known_orders_open"
    assert await inspect_store(path, shop=SHOP, prefix="") == []
    store = await SqliteStore.open(path)
    assert await store.open_orders(SHOP, after_id=0, limit=9) == [1, 2, 4, 6]
    await store.aclose()


async def test_a_damaged_page_is_named_and_is_no_traceback(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    await fill(store)
    await store.commit(SHOP, batch(state=STATE, known=[known_order(n) for n in range(1, 3_000)]))
    await store.aclose()
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 : len(raw) // 2 + 8192] = b"\xff" * 8192
    path.write_bytes(raw)
    found = await inspect_store(path, shop=SHOP, prefix="")
    assert found
    assert any(one.place == "file" for one in found)
    assert all("\n" not in one.line() for one in found)


async def test_a_state_of_the_version_before_is_checked_without_being_changed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path)) as db:
        for script in MIGRATIONS[:7]:
            db.executescript(script.read_text(encoding="utf-8"))
        db.execute(f"PRAGMA application_id = {0x53504F4C}")
        db.execute("PRAGMA user_version = 7")
        db.execute("INSERT INTO shops (shop_id, started_at, cursor_at) VALUES (?, 1, -1)", (SHOP,))
        db.commit()
    before = path.read_bytes()
    (finding,) = await inspect_store(path, shop=SHOP, prefix="")
    assert finding.place == "shops"
    assert path.read_bytes() == before
    await repair_store(path, shop=SHOP, prefix="")
    assert await inspect_store(path, shop=SHOP, prefix="") == []
    assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0


async def test_a_shop_whose_row_is_gone_goes_on_before_its_last_change(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    await fill(store)
    await store.commit(SHOP, batch(state=STATE, known=KNOWN, seen_at=T0))
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("DELETE FROM shops")
        db.commit()
    store = await SqliteStore.open(path)
    state = await store.register(SHOP, NOW)
    assert state.cursor_at == state.baseline_at == T0 - LOST_CURSOR_REWIND
    await store.aclose()


async def test_numbers_of_deliveries_are_not_given_again_after_the_counter_was_damaged(
    tmp_path: Path,
) -> None:
    path = tmp_path / "state.db"
    store = await SqliteStore.open(path)
    await fill(store)
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("UPDATE sqlite_sequence SET seq = 1 WHERE name = 'outbox'")
        db.execute("UPDATE outbox SET seq = 9000000000000000000 WHERE event_id = 'parked'")
        db.commit()
    store = await SqliteStore.open(path)
    await store.take()
    await put(store, new_deliveries("A", "77", "young"))
    (young,) = [one for one in await claim(store, now=NOW) if one.event_id == "young"]
    assert young.seq == 8
    assert [one.place for one in await store.rows_set_aside(SHOP)] == ["outbox"]
    await store.aclose()


# --- Redis ------------------------------------------------------------------------------------------------


@pytest.fixture
async def prefix(tmp_path: Path) -> str:
    return f"{tmp_path.name}:"


def redis_store(prefix: str) -> RedisStore:
    return RedisStore(
        parse_redis(f"redis://127.0.0.1:{shared_valkey().port}/2"), prefix=prefix, first_shop=SHOP
    )


@pytest.mark.parametrize("junk", ["9999-12-31T23:59:59", "0001-01-01T00:00:00+14:00", "x", "", "NaN"])
async def test_an_old_last_poll_time_that_cannot_be_right_has_the_last_days_read(
    prefix: str, junk: str
) -> None:
    with redis.Redis(host="127.0.0.1", port=shared_valkey().port, db=2) as server:
        server.set(f"{prefix}last_poll_time", junk)
        server.hset(f"{prefix}known_orders", mapping={"1": "processing", "2": "pending"})
    store = redis_store(prefix)
    assert await store.take()
    state = await store.register(SHOP, NOW)
    expected = NOW - LOST_CURSOR_REWIND if junk else None
    assert (state.baseline_at, state.cursor_at) == (expected, expected)
    known = await store.known(SHOP, [1, 2])
    assert [order.announced_new for order in known.values()] == [True, False]
    await store.aclose()


async def test_a_lease_that_never_ends_keeps_nobody_out(prefix: str) -> None:
    with redis.Redis(host="127.0.0.1", port=shared_valkey().port, db=2) as server:
        server.set(f"{prefix}lease", "somebody")
    store = redis_store(prefix)
    assert await store.take()
    await store.aclose()


async def test_a_counter_that_is_no_number_ends_no_commit_in_its_middle(prefix: str) -> None:
    store = redis_store(prefix)
    assert await store.take()
    await fill(store)
    with redis.Redis(host="127.0.0.1", port=shared_valkey().port, db=2) as server:
        server.hset(f"{prefix}outbox", "seq", "9" * 30)
        before = server.hgetall(f"{prefix}known_orders")
        with pytest.raises(Exception, match="not what this process wrote"):
            await store.commit(SHOP, batch(new_deliveries("A", "77", "young"), known=[known_order(77)]))
        assert server.hgetall(f"{prefix}known_orders") == before
    assert not await store.renew()
    await store.release()
    assert await store.take()
    await store.register(SHOP, NOW)
    await store.commit(SHOP, batch(new_deliveries("A", "77", "young"), state=STATE, known=[known_order(77)]))
    assert "young" in ids(await claim(store, now=NOW))
    await store.aclose()
