"""Whatever fails while a state file is opened or closed, no descriptor stays open and the next try works."""

import asyncio
import errno
import fcntl
import os
import sqlite3
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from shop_poller.core.errors import ErrorKind, PermanentError
from shop_poller.stores.sqlite import SqliteStore, file
from support.deliveries import SHOP, T0, new_deliveries, put

pytestmark = pytest.mark.anyio

Fault = Callable[[pytest.MonkeyPatch, int], None]


def open_files() -> int:
    """How many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


def is_lock(descriptor: int) -> bool:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink()).endswith(".lock")


def failing_os(name: str, module: Any = os) -> Fault:
    """A call on the lock file that the system refuses."""
    real = getattr(module, name)

    def spoil(patch: pytest.MonkeyPatch, code: int) -> None:
        def refuse(descriptor: int, *args: Any) -> Any:
            if is_lock(descriptor):
                raise OSError(code, os.strerror(code))
            return real(descriptor, *args)

        patch.setattr(module, name, refuse)

    return spoil


def state_file_cannot_be_made(patch: pytest.MonkeyPatch, code: int) -> None:
    real = os.open

    def refuse(path: Any, flags: int, *args: Any, **more: Any) -> int:
        if str(path).endswith(".db"):
            raise OSError(code, os.strerror(code))
        return real(path, flags, *args, **more)

    patch.setattr(os, "open", refuse)


def failing_step(name: str) -> Fault:
    """A step on the open database that fails."""

    def spoil(patch: pytest.MonkeyPatch, code: int) -> None:
        def refuse(*_: Any) -> None:
            raise sqlite3.OperationalError(f"made up: {os.strerror(code)}")

        patch.setattr(file, name, refuse)

    return spoil


FAULTS: dict[str, Fault] = {
    "flock": failing_os("flock", fcntl),
    "ftruncate": failing_os("ftruncate"),
    "write": failing_os("pwrite"),
    "state file": state_file_cannot_be_made,
    "owner": failing_step("_check_owner"),
    "migration": failing_step("_migrate"),
}
CODES = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.ENOLCK]


@pytest.mark.parametrize("code", CODES, ids=[errno.errorcode[code] for code in CODES])
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_opening_that_fails_leaves_nothing_open_and_the_next_one_works(
    tmp_path: Path, fault: str, code: int
) -> None:
    path = tmp_path / "state.db"
    before = open_files()
    with pytest.MonkeyPatch.context() as patch:
        FAULTS[fault](patch, code)
        for _ in range(3):
            with pytest.raises(PermanentError) as caught:
                await SqliteStore.open(path)
            assert caught.value.kind is ErrorKind.STORE
            assert "in use" not in str(caught.value)
            assert str(path) in str(caught.value)
    assert open_files() == before
    store = await SqliteStore.open(path)
    await store.register(SHOP, T0)
    await put(store, new_deliveries())
    await store.aclose()
    assert open_files() == before


async def test_a_lock_whose_holder_cannot_be_read_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "state.db"
    holder = await SqliteStore.open(path)
    before = open_files()
    failing_os("read")(monkeypatch, errno.EIO)
    with pytest.raises(PermanentError):
        await SqliteStore.open(path)
    assert open_files() == before
    await holder.aclose()


async def test_an_opening_that_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    begun, go_on, real = threading.Event(), threading.Event(), file._migrate

    def slow(*args: Any) -> None:
        begun.set()
        assert go_on.wait(10)
        real(*args)

    before = open_files()
    threads = ThreadPoolExecutor(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(file, "_migrate", slow)
        opening = asyncio.create_task(SqliteStore.open(path, threads))
        await asyncio.to_thread(begun.wait)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening
        go_on.set()
        threads.shutdown()  # the thread has come to its end
    assert open_files() == before
    store = await SqliteStore.open(path)  # nobody has the lock
    await store.aclose()


async def test_a_store_whose_threads_have_ended_gives_its_lock_back(tmp_path: Path) -> None:
    path, threads = tmp_path / "state.db", ThreadPoolExecutor(1)
    store = await SqliteStore.open(path, threads)
    threads.shutdown()
    await store.aclose()
    again = await SqliteStore.open(path)
    await again.aclose()
