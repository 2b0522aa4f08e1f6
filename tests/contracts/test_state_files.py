"""The files of a state: what is refused in their place, and what is noticed while they are open."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from shop_poller.core.errors import PermanentError, TemporaryError
from shop_poller.stores.sqlite import SqliteStore
from shop_poller.stores.sqlite.file import lock_for, lock_owner
from support.deliveries import SHOP, batch, known_order, new_deliveries, put

pytestmark = pytest.mark.anyio


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "state.db"


async def filled(path: Path) -> None:
    store = await SqliteStore.open(path)
    await put(store, new_deliveries())
    await store.aclose()


def names(folder: Path) -> set[str]:
    """Of all files in a folder."""
    return {entry.name for entry in folder.iterdir()}


def size(path: Path) -> int:
    return path.stat().st_size


def text_of(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def make_folder(path: Path) -> None:
    path.mkdir()


def make_link(path: Path, target: Path) -> None:
    """With its directory."""
    path.parent.mkdir()
    path.symlink_to(target)


def remove(*paths: Path) -> None:
    for path in paths:
        path.unlink()


def number(path: Path) -> int:
    """Its inode."""
    return path.stat().st_ino


def set_mode(path: Path, mode: int) -> None:
    path.chmod(mode)


# --- in their place -----------------------------------------------------------------------------------------


def link(lock: Path) -> None:
    lock.with_name("precious").write_text("keep me")
    lock.symlink_to("precious")


def dangling_link(lock: Path) -> None:
    lock.symlink_to("nowhere")


def hard_link(lock: Path) -> None:
    lock.with_name("precious").write_text("keep me")
    lock.hardlink_to(lock.with_name("precious"))


def directory(lock: Path) -> None:
    lock.mkdir()


def pipe(lock: Path) -> None:
    os.mkfifo(lock)


def device(lock: Path) -> None:
    try:
        os.mknod(lock, 0o600 | 0o020000, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("nobody may make devices here")


def somebodys_file(lock: Path) -> None:
    lock.write_text("keep me " * 100)


@pytest.mark.parametrize(
    "spoil",
    [link, dangling_link, hard_link, directory, pipe, device, somebodys_file],
    ids=lambda one: one.__name__,
)
async def test_what_is_no_lock_of_ours_is_refused_and_not_written_to(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    make_folder(path.parent)
    lock = Path(f"{path}.lock")
    spoil(lock)
    with pytest.raises(PermanentError) as caught:
        await SqliteStore.open(path)
    text = str(caught.value)
    assert text.startswith(f"{lock} is ")
    assert text.endswith(", not a lock file of shop-poller; move it away and start again")
    assert names(path.parent) <= {lock.name, "precious"}
    assert text_of(path.with_name("precious")) in {None, "keep me"}


async def test_a_lock_that_is_deleted_between_opening_and_locking_is_made_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next one locks another file of that name, and there are two writers."""
    make_folder(path.parent)
    lock, real, opened = Path(f"{path}.lock"), fcntl.flock, list[int]()

    def flock(file: int, how: int) -> None:
        if not opened:
            lock.unlink()
        opened.append(file)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    file = lock_for(path)
    try:
        assert len(opened) == 2
        assert os.fstat(file).st_ino == number(lock)
        with pytest.raises(PermanentError, match="is in use"):
            lock_for(path)
    finally:
        os.close(file)


async def test_a_state_that_is_a_link_of_ours_is_followed(path: Path, tmp_path: Path) -> None:
    """So that it may lie on another disk; log and lock lie beside the file itself."""
    make_link(path, tmp_path / "elsewhere.db")
    await filled(path)
    assert size(tmp_path / "elsewhere.db")
    assert names(path.parent) == {"state.db"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's link")
@pytest.mark.parametrize(
    "opener", [SqliteStore.open, SqliteStore.peek, SqliteStore.concurrent, SqliteStore.copy]
)
async def test_a_state_that_is_a_link_of_another_user_is_refused(
    path: Path, tmp_path: Path, opener: Callable[[Path], object]
) -> None:
    await filled(tmp_path / "precious.db")
    make_link(path, tmp_path / "precious.db")
    os.lchown(path, 1234, 1234)
    with pytest.raises(PermanentError, match="a symbolic link that another user made"):
        await opener(path)  # type: ignore[misc] # each is one of the four


@pytest.mark.parametrize(
    "opener",
    [SqliteStore.open, SqliteStore.peek, SqliteStore.concurrent, SqliteStore.copy, SqliteStore.follow],
)
@pytest.mark.parametrize("spoil", [pipe, device, directory], ids=lambda one: one.__name__)
async def test_a_state_that_is_no_file_hangs_nobody(
    path: Path, opener: Callable[[Path], object], spoil: Callable[[Path], None]
) -> None:
    make_folder(path.parent)
    spoil(path)
    with pytest.raises(PermanentError, match=r"regular file|Is a directory"):
        await opener(path)  # type: ignore[misc] # each is one of the five


# --- while they are open ------------------------------------------------------------------------------------


def deleted(path: Path) -> None:
    path.unlink()


def replaced(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


def truncated(path: Path) -> None:
    os.truncate(path, 4096)


def directory_renamed(path: Path) -> None:
    path.parent.rename(path.parent.with_name("gone"))


def directory_replaced(path: Path) -> None:
    directory_renamed(path)
    shutil.copytree(path.parent.with_name("gone"), path.parent)


def log_deleted(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def index_deleted(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def lock_deleted(path: Path) -> None:
    """The next one could lock another file of that name."""
    Path(f"{path}.lock").unlink()


SPOILT = [
    deleted, replaced, truncated, directory_renamed, directory_replaced, log_deleted, index_deleted,
    lock_deleted,
]  # fmt: skip


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda one: one.__name__)
async def test_nothing_is_written_to_files_that_are_not_the_state_any_more(
    path: Path, spoil: Callable[[Path], None]
) -> None:
    await filled(path)
    store = await SqliteStore.open(path)
    await store.commit(SHOP, batch(known=[known_order(1)]))
    assert await store.renew()
    spoil(path)
    with pytest.raises(TemporaryError, match="while it was open; nothing is written to it any more"):
        await store.commit(SHOP, batch(known=[known_order(2)]))
    with pytest.raises(TemporaryError, match="while it was open"):
        await store.claim("A", now=batch().now, limit=1)
    with pytest.raises(PermanentError, match="Restart shop-poller"):
        await store.renew()
    await store.aclose()


async def test_what_the_log_held_is_kept_if_only_its_name_is_gone(path: Path) -> None:
    store = await SqliteStore.open(path)
    await store.commit(SHOP, batch(known=[known_order(1)]))
    log_deleted(path)
    with pytest.raises(PermanentError, match="-wal was deleted"):
        await store.renew()
    await store.aclose()
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM known_orders").fetchone() == (1,)


async def test_a_file_that_was_put_in_place_of_the_open_one_keeps_its_log(path: Path) -> None:
    """Closing the old one must not take the new one's log for its own."""
    await filled(path)
    store = await SqliteStore.open(path)
    remove(path, Path(f"{path}-wal"), Path(f"{path}-shm"))
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = WAL")
        other.execute("CREATE TABLE mine (x)")
        with pytest.raises(PermanentError):
            await store.renew()
        await store.aclose()
        assert size(Path(f"{path}-wal"))
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT count(*) FROM mine").fetchone() == (0,)


@pytest.mark.parametrize("opener", [SqliteStore.concurrent, SqliteStore.follow])
async def test_commands_notice_too_while_the_daemon_runs(
    path: Path, opener: Callable[[Path], object]
) -> None:
    await filled(path)
    store = await opener(path)  # type: ignore[misc] # it is one of the two
    assert await store.load(SHOP)
    replaced(path)
    with pytest.raises(TemporaryError, match="was replaced by another file"):
        await store.load(SHOP)
    await store.aclose()


async def test_a_permission_that_is_gone_is_no_file_that_is_gone(path: Path) -> None:
    await filled(path)
    store = await SqliteStore.open(path)
    for mode in (0o400, 0o644, 0o600):
        set_mode(path, mode)
        assert await store.renew()
    await store.aclose()


async def test_who_has_the_lock_is_shown_and_the_lock_stays_free(path: Path) -> None:
    assert lock_owner(path) == "", "there is no state yet"
    store = await SqliteStore.open(path)
    assert lock_owner(path) == str(os.getpid())
    await store.aclose()
    assert lock_owner(path) == ""
    os.close(lock_for(path))


def test_a_process_that_starts_while_somebody_looks_gets_the_lock(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    os.close(lock_for(path))
    viewer = os.open(f"{path}.lock", os.O_RDONLY)
    fcntl.flock(viewer, fcntl.LOCK_SH)
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            os.close(viewer)

    monkeypatch.setattr("shop_poller.stores.sqlite.file.time.sleep", wait)
    os.close(lock_for(path))
    assert len(waits) == 2
