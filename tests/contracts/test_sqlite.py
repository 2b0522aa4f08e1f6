"""What is SQLite's own: one file, one writer, and every way in which a file can fail."""

import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from shop_poller.clock import ms
from shop_poller.core.errors import ErrorKind, PermanentError, ShopPollerError, TemporaryError
from shop_poller.core.model import KnownOrder
from shop_poller.ports import Ack, Backfill, MoveToDeadLetters, Retry, ShopState, Stats
from shop_poller.stores.sqlite import SqliteStore, file
from support.deliveries import SHOP, T0, at, batch, claim, claim_one, ids, known_order, new_deliveries, put

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state.db"


@pytest.fixture
async def store(path: Path) -> AsyncIterator[SqliteStore]:
    store = await SqliteStore.open(path)
    yield store
    await store.aclose()


async def filled(path: Path, *, rows: int = 3) -> None:
    """Leave a file with some rows in it, closed."""
    store = await SqliteStore.open(path)
    await put(store, *(new_deliveries(key=f"{n}", event_id=f"{n}") for n in range(rows)))
    await store.aclose()


async def pragma(store: SqliteStore, text: str) -> object:
    """Run a PRAGMA on the store's own connection."""
    row = await store._connection.run(lambda db: db.execute(f"PRAGMA {text}").fetchone())
    return row and row[0]


def one_line(error: ShopPollerError, *words: str) -> str:
    """The error's text, having checked that it is a line about the store with these words in it."""
    text = str(error)
    assert error.kind is ErrorKind.STORE
    assert "\n" not in text
    for word in words:
        assert word in text
    return text


def read(path: Path) -> bytes:
    return path.read_bytes()


def write(path: Path, data: bytes | bytearray) -> None:
    path.write_bytes(data)


def remove(path: Path) -> None:
    path.unlink()


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def contents(path: Path) -> dict[str, bytes]:
    """All files in a folder."""
    return {entry.name: entry.read_bytes() for entry in path.iterdir()}


# --- the file ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o022, 0o000, 0o077])
async def test_the_file_is_made_on_first_use_for_our_eyes_only(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "new" / "state.db"
    before = os.umask(umask)
    try:
        store = await SqliteStore.open(path)
        await put(store, new_deliveries())
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    await store.aclose()
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert modes["state.db"] == 0o600
    assert set(modes.values()) == {0o600}  # its journal and lock too


async def test_a_path_with_signs_that_mean_something_elsewhere_is_just_a_path(tmp_path: Path) -> None:
    path = tmp_path / "магазин №1?mode=memory&x=%20#y" / "состояние;.db"
    await filled(path)
    for opener in (SqliteStore.open, SqliteStore.peek, SqliteStore.copy):
        store = await opener(path)
        assert (await store.stats(SHOP)).sinks["A"].waiting == 3
        await store.aclose()


async def test_commits_are_on_the_disk_before_anything_is_sent(store: SqliteStore) -> None:
    assert await pragma(store, "journal_mode") == "wal"
    assert await pragma(store, "synchronous") == 2  # FULL


async def test_an_empty_file_is_taken_over(path: Path) -> None:
    write(path, b"")
    await filled(path)
    store = await SqliteStore.open(path)
    assert (await store.stats(SHOP)).sinks["A"].waiting == 3
    await store.aclose()


async def test_opening_again_migrates_nothing_again(path: Path) -> None:
    await filled(path)
    with sqlite(path) as db:
        version = db.execute("PRAGMA user_version").fetchone()
    await filled(path)
    with sqlite(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == version == (len(file.MIGRATIONS),)


async def test_a_file_of_the_first_version_is_read_unchanged_and_migrated_when_it_is_opened(
    path: Path,
) -> None:
    first = file.MIGRATIONS[0].read_text(encoding="utf-8")
    with sqlite(path) as db:
        db.executescript(f"{first}; PRAGMA application_id = {file.APPLICATION_ID}; PRAGMA user_version = 1")
        db.execute(
            "INSERT INTO shops (shop_id, started_at, baseline_at, cursor_at, last_poll_at)"
            " VALUES (?, ?, ?, ?, ?)",
            (SHOP, *(ms(at(n)) for n in range(4))),
        )
        db.executemany(
            "INSERT INTO known_orders VALUES (?, ?, ?, ?, ?, ?, '{}', NULL)",
            [
                (SHOP, 1, "processing", ms(at(10)), ms(at(99)), 1),
                (SHOP, 2, "completed", ms(at(20)), ms(at(99)), 1),
                (SHOP, 3, "pending", ms(at(30)), ms(at(99)), 0),
            ],
        )
    before = read(path)
    state = ShopState(at(0), at(1), at(2), at(3), newest_order_at=at(20))
    for opener in (SqliteStore.peek, SqliteStore.copy, SqliteStore.open, SqliteStore.peek):
        if opener == SqliteStore.open:
            assert read(path) == before, "looking changes nothing"
        store = await opener(path)
        assert await store.load(SHOP) == state
        assert (await store.known(SHOP, [3]))[3] == KnownOrder(3, "pending", at(30))
        await store.aclose()
    with sqlite(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(file.MIGRATIONS),)


@contextmanager
def sqlite(path: Path) -> Iterator[sqlite3.Connection]:
    """The file as anybody may open it."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        yield db
    finally:
        db.close()


async def test_a_dead_letter_is_kept_with_its_reason_for_a_person(path: Path, store: SqliteStore) -> None:
    await put(store, new_deliveries(key="316", event_id="first"))
    await store.record_outcomes([Retry(await claim_one(store), at(1), "500: сломалось", charged=True)], T0)
    with sqlite(path) as db:
        assert db.execute("SELECT last_error FROM outbox").fetchall() == [("500: сломалось",)]
    first = await claim_one(store, now=at(1))
    await store.record_outcomes([MoveToDeadLetters(first, "400: нет такого адреса")], at(2))
    with sqlite(path) as db:
        row = db.execute(
            "SELECT shop_id, sink, key, event_id, body, attempts, reason FROM dead_letters"
        ).fetchone()
    assert row == (SHOP, "A", "316", "first", first.body, 1, "400: нет такого адреса")
    assert json.loads(row[4])["title"] == "Новый заказ"


async def test_the_number_of_a_delivery_is_never_used_again(path: Path) -> None:
    store = await SqliteStore.open(path)
    await put(store, new_deliveries())
    first = await claim_one(store)
    await store.record_outcomes([Ack(first)], T0)
    await store.aclose()
    store = await SqliteStore.open(path)
    await put(store, new_deliveries())
    assert (await claim_one(store)).seq > first.seq
    await store.aclose()


# --- one writer -------------------------------------------------------------------------------------------


async def test_a_second_writer_is_refused_by_the_name_of_the_first(path: Path, store: SqliteStore) -> None:
    await put(store, new_deliveries(event_id="kept"))
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.open(path)
    one_line(caught.value, str(path), f"process {os.getpid()}", "SHOP_STATE_URL")
    assert (await claim_one(store)).event_id == "kept"


async def test_the_same_file_by_another_name_is_the_same_file(path: Path, store: SqliteStore) -> None:
    await put(store, new_deliveries())
    (path.parent / "elsewhere").mkdir()
    link = path.parent / "elsewhere" / "link.db"
    link.symlink_to(path)
    for name in (link, path.parent / "elsewhere" / ".." / path.name):
        with pytest.raises(PermanentError) as caught:
            await SqliteStore.open(name)
        one_line(caught.value, f"process {os.getpid()}")


HOLDER = """
import asyncio, sys
from pathlib import Path
from shop_poller.stores.sqlite import SqliteStore

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    print("open", flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


@contextmanager
def python(code: str, *args: object) -> Iterator[subprocess.Popen[str]]:
    """Another process, killed at the end if it has not gone by itself."""
    command = [sys.executable, "-c", code, *map(str, args)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def next_line(process: subprocess.Popen[str]) -> str:
    """What the process says next."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


async def test_the_lock_is_free_as_soon_as_its_holder_is_killed(path: Path) -> None:
    with python(HOLDER, path) as holder:
        assert next_line(holder) == "open"
        with pytest.raises(PermanentError) as caught:
            await SqliteStore.open(path)
        one_line(caught.value, f"process {holder.pid}")
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        store = await SqliteStore.open(path)
        await put(store, new_deliveries())
        with pytest.raises(PermanentError) as caught:
            await SqliteStore.open(path)
        one_line(caught.value, f"process {os.getpid()}")  # not the number of the dead
        await store.aclose()


async def test_a_store_that_was_refused_leaves_the_file_to_the_next(path: Path) -> None:
    with sqlite(path) as db:
        db.execute("CREATE TABLE notes (text)")
    for _ in range(2):
        with pytest.raises(PermanentError, match="another program"):
            await SqliteStore.open(path)
    remove(path)
    await filled(path)


# --- files that are not ours ------------------------------------------------------------------------------


async def test_a_database_of_another_program_is_refused_and_not_changed_in_a_byte(path: Path) -> None:
    with sqlite(path) as db:
        db.execute("CREATE TABLE notes (text)")
    before = read(path)
    for opener in (SqliteStore.open, SqliteStore.peek, SqliteStore.copy):
        with pytest.raises(PermanentError) as caught:
            await opener(path)
        one_line(caught.value, str(path), "another program", "SHOP_STATE_URL")
    assert read(path) == before
    assert {entry.name for entry in path.parent.iterdir()} <= {"state.db", "state.db.lock"}


async def test_a_file_of_a_newer_version_is_refused_and_not_changed(path: Path) -> None:
    await filled(path)
    with sqlite(path) as db:
        db.execute(f"PRAGMA user_version = {len(file.MIGRATIONS) + 1}")
    before = read(path)
    for opener in (SqliteStore.open, SqliteStore.peek, SqliteStore.copy):
        with pytest.raises(PermanentError) as caught:
            await opener(path)
        one_line(caught.value, str(path), "newer")
    assert read(path) == before


@pytest.mark.parametrize("text", [b"just a text\n" * 400, b"SQLite format 3\0" + b"\xff" * 4080])
async def test_a_file_that_is_no_database_is_refused_and_not_changed(path: Path, text: bytes) -> None:
    write(path, text)
    for opener in (SqliteStore.open, SqliteStore.peek, SqliteStore.copy):
        with pytest.raises(PermanentError) as caught:
            await opener(path)
        one_line(caught.value, str(path), ";")  # what is wrong; what to do
    assert read(path) == text


async def test_a_damaged_file_is_named_as_such_when_its_damage_is_met(path: Path) -> None:
    await filled(path, rows=2_000)
    raw = bytearray(read(path))
    raw[8192:-8192] = os.urandom(len(raw) - 16384)  # the schema is whole, the rest is not
    write(path, raw)

    async def work() -> None:
        store = await SqliteStore.open(path)
        try:
            for _ in range(100):
                await claim(store)
                await put(store, *(new_deliveries(key=f"{n}") for n in range(100)))
        finally:
            await store.aclose()

    with pytest.raises((TemporaryError, PermanentError)) as caught:
        await work()
    one_line(caught.value, str(path), "damaged")


def directory(path: Path) -> None:
    path.mkdir()


def under_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("a file where a directory should be")


def link_to_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "no" / "such" / "directory" / "state.db")


def link_to_itself(path: Path) -> None:
    path.symlink_to(path)


PLACES = [directory, under_a_file, link_to_nowhere, link_to_itself]


@pytest.mark.parametrize("spoil", PLACES, ids=[spoil.__name__ for spoil in PLACES])
async def test_a_place_where_no_file_can_be_is_named_with_what_to_do(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    path = tmp_path / "inner" / "state.db"
    path.parent.mkdir()
    spoil(path)
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.open(path)
    one_line(caught.value, str(path), ";")


async def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.open(tmp_path / ("x" * 300))
    one_line(caught.value, "too long")


async def test_a_store_that_cannot_be_opened_leaves_nothing_open(path: Path) -> None:
    write(path, b"just a text\n" * 400)
    newer = path.with_name("newer.db")
    await filled(newer)
    with sqlite(newer) as db:
        db.execute("PRAGMA user_version = 99")
    before = open_files()
    for _ in range(10):
        for bad in (path, newer):
            for opener in (SqliteStore.open, SqliteStore.peek, SqliteStore.copy):
                with pytest.raises(PermanentError):
                    await opener(bad)
    assert open_files() == before


# --- trouble while at work --------------------------------------------------------------------------------


async def test_a_full_disk_is_survived(store: SqliteStore) -> None:
    await put(store, new_deliveries(key="kept", event_id="kept"))
    pages = await pragma(store, "page_count")
    await pragma(store, f"max_page_count = {pages}")
    rows = [new_deliveries(key=f"{n}") for n in range(1, 501)]
    much = batch(*rows, known=[known_order(n) for n in range(1, 501)])
    for _ in range(2):
        with pytest.raises(TemporaryError) as caught:
            await store.commit(SHOP, much)
        one_line(caught.value, "full", "free some space")
    assert (await store.stats(SHOP)).known == 0
    assert ids(await claim(store)) == ["kept"]
    await pragma(store, "max_page_count = 1000000")
    await store.commit(SHOP, much)
    assert len(await claim(store, limit=1_000)) == 500


FILE_SIZE_LIMIT = """
import asyncio, resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from shop_poller.core.errors import TemporaryError
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, batch, known_order, new_deliveries

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    for limit in (384 * 1024, resource.RLIM_INFINITY):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        done = 0
        try:
            for round in range(20):
                first = 1 + 200 * round
                rows = [new_deliveries(key=str(n)) for n in range(first, first + 200)]
                known = [known_order(n) for n in range(first, first + 200)]
                await store.commit(SHOP, batch(*rows, known=known))
                done += 1
        except TemporaryError as error:
            print(type(error).__name__, error.kind, error)
        stats = await store.stats(SHOP)
        print(done, stats.known % 200, stats.sinks["A"].waiting % 200, flush=True)
    await store.aclose()

asyncio.run(main())
"""


async def test_a_write_that_the_system_refuses_is_survived(path: Path) -> None:
    tests = Path(__file__).parent.parent
    with python(FILE_SIZE_LIMIT, path, tests) as process:
        error = next_line(process)
        assert error.startswith("TemporaryError StoreError")
        assert str(path) in error
        done, half_known, half_rows = next_line(process).split()
        assert int(done) > 0
        assert (half_known, half_rows) == ("0", "0")
        assert next_line(process) == "20 0 0"  # all of it, once there is room
        assert process.wait() == 0


async def test_a_file_that_became_read_only_is_named_and_is_used_again_when_it_can_be(
    store: SqliteStore,
) -> None:
    await put(store, new_deliveries(key="1", event_id="first"))
    delivery = await claim_one(store)
    await pragma(store, "query_only = ON")
    for attempt in (
        put(store, new_deliveries(key="2")),
        store.record_outcomes([Ack(delivery)], T0),
        store.release_parked("A"),
        store.register("another.example", T0),
        store.prune(SHOP, seen_before=T0, finished_before=T0),
    ):
        with pytest.raises(TemporaryError) as caught:
            await attempt
        one_line(caught.value, "readonly", "read-only")
    assert (await store.stats(SHOP)).sinks["A"].waiting == 1
    await pragma(store, "query_only = OFF")
    await store.record_outcomes([Ack(delivery)], T0)
    assert await store.stats(SHOP) == Stats()


async def test_a_lock_of_another_program_is_waited_for_and_then_named(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "BUSY_TIMEOUT_S", 0.02)
    store = await SqliteStore.open(path)
    with sqlite(path) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TemporaryError) as caught:
            await put(store, new_deliveries())
        one_line(caught.value, str(path), "locked;")
        assert await claim(store) == []  # reading goes on meanwhile
        other.execute("ROLLBACK")
    await put(store, new_deliveries(event_id="then"))
    assert (await claim_one(store)).event_id == "then"
    await store.aclose()


# --- beside a writer, and copies --------------------------------------------------------------------------


async def test_a_reader_sees_what_a_concurrent_writer_committed_and_disturbs_nobody(
    path: Path, store: SqliteStore
) -> None:
    await put(store, new_deliveries(key="1"))
    peek = await SqliteStore.peek(path)
    assert (await peek.stats(SHOP)).sinks["A"].waiting == 1
    await put(store, new_deliveries(key="2"))
    assert (await peek.stats(SHOP)).sinks["A"].waiting == 2
    with pytest.raises(TemporaryError) as caught:
        await put(peek, new_deliveries())
    one_line(caught.value, "readonly")
    assert len(await claim(store)) == 2
    await peek.aclose()
    await put(store, new_deliveries(key="3"))


async def test_peeking_takes_no_lock(path: Path) -> None:
    await filled(path)
    peek = await SqliteStore.peek(path)
    store = await SqliteStore.open(path)
    await put(store, new_deliveries())
    assert (await peek.stats(SHOP)).sinks["A"].waiting == 4
    await store.aclose()
    await peek.aclose()


async def test_there_is_nothing_to_peek_at_before_the_first_run(path: Path) -> None:
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.peek(path)
    one_line(caught.value, str(path), "shop-poller run")
    write(path, b"")  # killed between making the file and filling it
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.peek(path)
    one_line(caught.value, str(path), "shop-poller run")


@pytest.mark.parametrize("busy", [False, True], ids=["of a closed file", "beside a writer"])
async def test_what_is_written_to_a_copy_changes_nothing_in_the_file(path: Path, busy: bool) -> None:  # noqa: FBT001 - a test's parameter
    await filled(path)
    store = await SqliteStore.open(path) if busy else None
    before = contents(path.parent)
    copy = await SqliteStore.copy(path)
    assert (await copy.stats(SHOP)).sinks["A"].waiting == 3
    await copy.record_outcomes([Ack(delivery) for delivery in await claim(copy)], T0)
    await copy.commit(SHOP, batch(new_deliveries(), known=[known_order(1)]))
    assert (await copy.stats(SHOP)).known == 1
    await copy.aclose()
    if store is not None:
        assert len(await claim(store)) == 3
        await store.aclose()
    else:
        after = contents(path.parent)
        assert {name: after[name] for name in before} == before
        assert all(not data for name, data in after.items() if name.endswith("-wal"))
    peek = await SqliteStore.peek(path)
    assert (await peek.stats(SHOP)).sinks["A"].waiting == 3
    await peek.aclose()


async def test_a_copy_of_what_is_not_there_is_empty_and_makes_no_file(path: Path) -> None:
    for _ in range(2):
        copy = await SqliteStore.copy(path)
        assert await copy.stats(SHOP) == Stats()
        await put(copy, new_deliveries())
        await copy.aclose()
        assert list(path.parent.iterdir()) == []


# --- kill -9 ----------------------------------------------------------------------------------------------

WRITER = """
import asyncio, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from shop_poller.ports import Ack
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, T0, batch, known_order, new_deliveries

async def main():
    store = await SqliteStore.open(Path(sys.argv[1]))
    n = (await store.stats(SHOP)).known // 20
    while True:
        orders = range(1 + 20 * n, 21 + 20 * n)
        rows = [new_deliveries(key=str(order), event_id=str(order)) for order in orders]
        await store.commit(SHOP, batch(*rows, known=[known_order(order) for order in orders]))
        n += 1
        print(n, flush=True)
        taken = await store.claim("A", now=T0, limit=7)
        await store.record_outcomes([Ack(delivery) for delivery in taken], T0)
        print("ack", *(delivery.event_id for delivery in taken), flush=True)

asyncio.run(main())
"""


async def test_kill_9_loses_nothing_that_was_committed_and_keeps_no_half(path: Path) -> None:
    tests = Path(__file__).parent.parent
    committed, acked = 0, set[str]()
    for round_ in range(4):
        with python(WRITER, path, tests) as writer:
            said = [next_line(writer) for _ in range(30 + 17 * round_)]
            writer.kill()
            assert writer.stdout is not None
            said += writer.stdout.read().splitlines()
        for words in map(str.split, said):
            if words[0] == "ack":
                acked.update(words[1:])
            else:
                committed = int(words[0])
        with sqlite(path) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            known = [row[0] for row in db.execute("SELECT order_id FROM known_orders ORDER BY order_id")]
            waiting = {row[0] for row in db.execute("SELECT event_id FROM outbox")}
        assert len(known) >= 20 * committed
        assert len(known) % 20 == 0
        assert known == list(range(1, len(known) + 1))
        assert not waiting & acked  # what was acknowledged is not sent again
        gone = {str(order) for order in known} - waiting
        assert acked <= gone
        assert len(gone - acked) <= 7  # acknowledged, and killed before it could say so
        acked = gone


# --- two processes ------------------------------------------------------------------------------------------


async def test_two_may_write_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    polling = await SqliteStore.open(path)
    await polling.register(SHOP, T0)
    concurrent = await SqliteStore.concurrent(path)
    await polling.commit(SHOP, batch(known=[known_order(1)]))
    assert (
        await concurrent.import_concurrently(
            SHOP, [known_order(1), known_order(2)], Backfill(at(-1000), at(-500)), T0
        )
        == 1
    )
    await polling.commit(SHOP, batch(known=[known_order(3)]))
    assert set(await polling.known(SHOP, [1, 2, 3])) == {1, 2, 3}
    await concurrent.aclose()
    await polling.aclose()


async def test_a_file_that_is_missing_or_too_old_cannot_be_opened_concurrently(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with pytest.raises(PermanentError, match="no state yet; `shop-poller run` makes it"):
        await SqliteStore.concurrent(path)
    assert not path.exists()
    store = await SqliteStore.open(path)
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        db.execute("PRAGMA user_version = 1")
    with pytest.raises(PermanentError, match="written by an older shop-poller; start `shop-poller run` once"):
        await SqliteStore.concurrent(path)
