"""A copy that is put over the state file by hand while the log of the file before still lies beside it."""

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from shop_poller.core.errors import PermanentError
from shop_poller.stores.sqlite import SqliteStore
from support.deliveries import SHOP, batch, known_order

DAY_NS = 86_400_000_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


def work_on(path: Path, *orders: int, kill: bool, after: Callable[[], object] = lambda: None) -> None:
    """Have a process record these orders; it ends normally, or is killed."""
    pid = os.fork()
    if not pid:

        async def work() -> None:
            store = await SqliteStore.open(path)
            for order in orders:
                await store.commit(SHOP, batch(known=[known_order(order)]))
            after()
            if kill:
                os._exit(9)
            await store.aclose()

        try:
            anyio.run(work)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)


def known(path: Path, opener: Callable[[Path], object] = SqliteStore.peek) -> int:
    async def look() -> int:
        store = await opener(path)  # type: ignore[misc] # it is one of the ways to open a store
        try:
            return int((await store.stats(SHOP)).known)
        finally:
            await store.aclose()

    return anyio.run(look)


def in_place(saved: Path, path: Path) -> None:
    """As `cp` does."""
    shutil.copyfile(saved, path)
    os.utime(path, ns=(path.stat().st_mtime_ns + DAY_NS,) * 2)  # the kill was yesterday


def in_place_as_it_was(saved: Path, path: Path) -> None:
    """As `cp -p` does, of a copy that was made a day before the kill."""
    shutil.copyfile(saved, path)
    os.utime(path, ns=(path.stat().st_mtime_ns - DAY_NS,) * 2)


def yesterday(path: Path) -> None:
    os.utime(path, ns=(path.stat().st_mtime_ns - DAY_NS,) * 2)


def moved(saved: Path, path: Path) -> None:
    saved.replace(path)


def unlinked_first(saved: Path, path: Path) -> None:
    """As `tar x` and `rsync` do."""
    shutil.copyfile(saved, path.with_name("other"))
    path.with_name("other").replace(path)


@pytest.fixture
def saved(tmp_path: Path, path: Path) -> Path:
    """A copy with one order; the state has three by now, two of them in the log, after a kill."""
    work_on(path, 1, kill=False)
    with closing(sqlite3.connect(path)) as db, closing(sqlite3.connect(tmp_path / "saved.db")) as copy:
        db.backup(copy)
    work_on(path, 2, 3, kill=True)
    assert Path(f"{path}-wal").stat().st_size
    return tmp_path / "saved.db"


@pytest.mark.parametrize(
    "put", [in_place, in_place_as_it_was, moved, unlinked_first], ids=lambda one: one.__name__
)
@pytest.mark.parametrize(
    "opener", [SqliteStore.open, SqliteStore.peek, SqliteStore.concurrent, SqliteStore.copy]
)
def test_a_copy_over_a_log_of_before_is_refused_and_not_touched(
    path: Path, saved: Path, put: Callable[[Path, Path], None], opener: Callable[[Path], object]
) -> None:
    put(saved, path)
    before = path.read_bytes()
    with pytest.raises(PermanentError) as caught:
        known(path, opener)
    assert f"state file {path}: was replaced by hand, and {path}-wal belongs to the former file" in str(
        caught.value
    )
    assert "`shop-poller restore FILE`" in str(caught.value)
    assert path.read_bytes() == before
    for end in ("-wal", "-shm"):  # as it says
        Path(f"{path}{end}").unlink()
    assert known(path, SqliteStore.open) == 1


def test_after_a_kill_the_log_is_used_however_long_ago(path: Path, saved: Path) -> None:
    assert saved.exists()
    assert known(path) == 3
    assert known(path, SqliteStore.open) == 3


@pytest.mark.parametrize("days", [-400, -1, 1, 400])
def test_a_clock_that_jumped_makes_no_log_a_stale_one(path: Path, days: int) -> None:
    """The file was changed last by one clock, the log by another."""

    def jump() -> None:
        os.utime(path, ns=(path.stat().st_mtime_ns + days * DAY_NS,) * 2)

    async def open_and_jump() -> None:
        store = await SqliteStore.open(path)
        jump()
        await store.commit(SHOP, batch(known=[known_order(2)]))
        os._exit(9)

    work_on(path, 1, kill=True)
    pid = os.fork()
    if not pid:
        anyio.run(open_and_jump)
    os.waitpid(pid, 0)
    assert known(path, SqliteStore.open) == 2


def test_a_state_that_was_copied_or_moved_as_a_whole_is_used(path: Path, saved: Path, tmp_path: Path) -> None:
    assert saved.exists()
    shutil.copytree(path.parent, tmp_path / "copied")
    for entry in (tmp_path / "copied").iterdir():
        os.utime(entry, ns=(entry.stat().st_mtime_ns + hash(entry.name) % DAY_NS,) * 2)
    assert known(tmp_path / "copied" / path.name, SqliteStore.open) == 3
    path.parent.rename(tmp_path / "moved")
    assert known(tmp_path / "moved" / path.name, SqliteStore.open) == 3


def test_a_kill_right_after_a_part_of_the_log_was_carried_over_is_no_copy(path: Path) -> None:
    """And before that was noted."""

    def carry_over() -> None:
        with closing(sqlite3.connect(path)) as db:
            db.execute("PRAGMA wal_checkpoint")

    work_on(path, 1, 2, kill=True, after=carry_over)
    assert Path(f"{path}-wal").stat().st_size
    assert known(path, SqliteStore.open) == 2


def test_a_concurrent_command_that_is_killed_long_after_its_checkpoint_leaves_no_stale_log(
    path: Path,
) -> None:
    """A backfill takes minutes, and the daemon need not run."""
    work_on(path, 1, kill=False)

    async def backfill() -> None:
        store = await SqliteStore.concurrent(path)
        await store.commit(SHOP, batch(known=[known_order(2)]))
        with closing(sqlite3.connect(path)) as db:  # as SQLite does it, every thousand pages
            db.execute("PRAGMA wal_checkpoint")
        yesterday(path)
        await store.commit(SHOP, batch(known=[known_order(3)]))
        os._exit(9)

    pid = os.fork()
    if not pid:
        anyio.run(backfill)
    os.waitpid(pid, 0)
    assert known(path, SqliteStore.open) == 3


@pytest.mark.parametrize("text", [b"", b"12", b"12\n", b"12\nx", b"12\na b c d\n", b"\xff\n\xff", b"x" * 200])
def test_a_note_that_cannot_be_read_is_none(path: Path, saved: Path, text: bytes) -> None:
    assert saved.exists()
    Path(f"{path}.lock").write_bytes(text)
    assert known(path, SqliteStore.open) == 3


def test_a_note_of_before_a_restart_of_the_machine_is_none(path: Path, saved: Path) -> None:
    """After a power cut a file's time may be older than what was noted."""
    lock = Path(f"{path}.lock")
    process, _, rest = lock.read_text().partition("\n")
    lock.write_text(f"{process}\n{'0' * 36}{rest[36:]}")
    in_place(saved, path)
    assert known(path, SqliteStore.open) in {1, 3}
