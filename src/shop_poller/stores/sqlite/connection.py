"""The one connection to a state file. All work on it runs in a thread, sequentially."""

import asyncio
import os
import sqlite3
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from functools import partial, wraps
from pathlib import Path
from threading import Lock
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from anyio import CancelScope

from shop_poller.core.errors import ErrorKind, PermanentError, TemporaryError, text_of
from shop_poller.core.translatable import Text
from shop_poller.peer_errors import translated
from shop_poller.stores.sqlite.file import (
    StateConnection,
    explain,
    is_beyond_use,
    open_copy,
    open_empty,
)
from shop_poller.stores.sqlite.guard import FileGuard

P = ParamSpec("P")
T = TypeVar("T")
PortT = TypeVar("PortT", bound="SqlitePort")
Opener = Callable[[Path], tuple[StateConnection, int | None]]
Opened = tuple[StateConnection, int | None, FileGuard | None]
IN_MEMORY: tuple[Opener, ...] = (open_copy, open_empty)
"""These open a state in memory. There is no file that could be deleted."""


class FileGoneError(Exception):
    """The files of the state are no longer those that were opened."""


class _Opening:
    """Opens a file in a thread. If the caller is cancelled meanwhile, the thread closes the file again.

    Args:
        opener: opens the file.
        path: the path of the file.
    """

    def __init__(self, opener: Opener, path: Path) -> None:
        self._opener = opener
        self._path = path
        self._mutex = Lock()
        self._is_abandoned = False
        self._opened: Opened | None = None

    def __call__(self) -> Opened:
        """Open the file. Raises what the opener raises."""
        db, lock = self._opener(self._path)
        try:
            guard = None if self._opener in IN_MEMORY else FileGuard(self._path, lock)
        except BaseException:
            _close(db, lock)
            raise
        opened = db, lock, guard
        with self._mutex:
            self._opened = opened
            if self._is_abandoned:
                self._close()
        return opened

    def abandon(self) -> None:
        """Close the file if it is open, or as soon as it is opened."""
        with self._mutex:
            self._is_abandoned = True
            self._close()

    def _close(self) -> None:
        if self._opened is None:
            return
        db, lock, _ = self._opened
        self._opened = None
        _close(db, lock)


def _close(db: StateConnection, lock: int | None) -> None:
    try:
        with suppress(sqlite3.Error):
            db.close()
    finally:
        if lock is not None:
            os.close(lock)


class SqliteConnection:
    """An open state file, or a state in memory. Use `open` to create one.

    A slow disk never blocks the event loop: the work runs in the connection's own thread, or in threads that
    the connections of several shops share.
    """

    def __init__(
        self,
        db: StateConnection,
        *,
        path: Path,
        threads: ThreadPoolExecutor,
        shared: bool,
        lock: int | None,
        guard: FileGuard | None,
    ) -> None:
        self._db = db
        self._path = path
        self._threads = threads
        self._shared = shared
        # A thread of its own works sequentially anyway.
        self._call_lock = asyncio.Lock() if shared else nullcontext()
        self._lock = lock
        self._guard = guard
        self._closed = False

    @classmethod
    async def open(cls, path: Path, opener: Opener, shared: ThreadPoolExecutor | None = None) -> Self:
        """Open a state.

        Args:
            path: the path of the file.
            opener: a function of sqlite.file.
            shared: the threads that the connections of several shops share; None for a thread of its own.

        Raises:
            PermanentError: STORE, the state cannot be opened.
        """
        threads = shared or ThreadPoolExecutor(1, thread_name_prefix="store")
        opening = _Opening(opener, path)
        try:
            with translated(str(path), partial(_unusable, path), passing=(sqlite3.Error, OSError)):
                running = asyncio.get_running_loop().run_in_executor(threads, opening)
            db, lock, guard = await running
        except BaseException as error:
            opening.abandon()
            if shared is None:
                threads.shutdown()
            if isinstance(error, sqlite3.Error | OSError):
                raise PermanentError(ErrorKind.STORE, explain(error, path)) from error
            raise
        return cls(db, path=path, threads=threads, shared=shared is not None, lock=lock, guard=guard)

    async def run(self, work: Callable[[StateConnection], T]) -> T:
        """Run work on the database in the thread. It runs to its end even if the caller is cancelled.

        Raises:
            TemporaryError, PermanentError: STORE.
        """

        def call() -> T:
            if self._guard is None:
                return work(self._db)
            problem = self._guard.problem()
            if problem is not None:
                raise FileGoneError(problem)
            self._guard.note_change()  # another process may have written
            try:
                return work(self._db)
            finally:
                self._guard.note_change()

        if self._closed:
            raise TemporaryError(
                ErrorKind.STORE, Text("state file {path}: is closed already", path=self._path)
            )
        loop = asyncio.get_running_loop()
        try:
            with CancelScope(shield=True):  # always wait for the end of a commit, which takes milliseconds
                async with self._call_lock:
                    with translated(str(self._path), partial(_unusable, self._path)):
                        running = loop.run_in_executor(self._threads, call)
                    result = await running
        except sqlite3.Error as error:
            if is_beyond_use(error):
                raise PermanentError(ErrorKind.STORE, explain(error, self._path)) from error
            raise TemporaryError(ErrorKind.STORE, explain(error, self._path)) from error
        except FileGoneError as error:
            raise TemporaryError(ErrorKind.STORE, text_of(error)) from error
        return result

    async def aclose(self) -> None:
        """Close the file and release its lock. Never raises."""
        if self._closed:
            return
        self._closed = True
        try:
            # RuntimeError: the threads have ended already, so nothing uses the connection any more.
            with suppress(sqlite3.Error, RuntimeError), CancelScope(shield=True):
                async with self._call_lock:
                    await asyncio.get_running_loop().run_in_executor(self._threads, self._db.close)
        finally:
            if not self._shared:
                self._threads.shutdown()
            if self._lock is not None:
                os.close(self._lock)


class SqlitePort:
    """One port of a state file.

    Args:
        connection: the connection to the file. All ports of a store share it.
    """

    def __init__(self, connection: SqliteConnection) -> None:
        self._connection = connection


def in_thread(
    work: Callable[Concatenate[PortT, StateConnection, P], T],
) -> Callable[Concatenate[PortT, P], Coroutine[Any, Any, T]]:
    """Turn work on the database into a method of a port. The work runs in the connection's thread."""

    @wraps(work)
    async def method(port: PortT, /, *args: P.args, **kwargs: P.kwargs) -> T:
        connection = port._connection  # noqa: SLF001 - this becomes a method of the port
        return await connection.run(lambda db: work(port, db, *args, **kwargs))

    return method


def _unusable(path: Path, why: str) -> TemporaryError:
    """Return the error for an unexpected failure, for example if no thread can be started."""
    return TemporaryError(
        ErrorKind.STORE,
        Text("state file {path}: {why}; check the limits on threads and memory", path=path, why=why),
    )
